/*
 * Folders of the host, for folders as disks. Blocking, any thread. Names are UTF-8. Implemented where host.h
 * is.
 */
#ifndef VM_HOSTDIR_H
#define VM_HOSTDIR_H

#include "error.h"
#include "types.h"

typedef struct HostDir HostDir;

typedef struct {
    char name[1024];
    bool folder;
    u64 bytes;
    s64 modified_s;                 /* since 1970, UTC */
} HostDirEntry;

HostDir *host_dir_open(const char *path, Error *err);
/* Files and folders, in no order; links, devices and what else is no plain file are left out. */
bool host_dir_next(HostDir *d, HostDirEntry *out);
void host_dir_close(HostDir *d);
bool host_dir_make(const char *path, Error *err);
bool host_dir_delete(const char *path, Error *err);             /* must be empty */
/* Another name; a file of that name is replaced in one step. */
bool host_file_rename(const char *from, const char *to, Error *err);

#endif
