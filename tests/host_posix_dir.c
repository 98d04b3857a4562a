/* hostdir.h for the build machine. Not shipped. */
#define _GNU_SOURCE
#include "../core/vm/hostdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct HostDir { DIR *dir; };

static bool fail(Error *err, const char *path)
{
    return error_set(err, "%.300s: %s", path, strerror(errno));
}

HostDir *host_dir_open(const char *path, Error *err)
{
    DIR *dir = opendir(path);
    HostDir *d;

    if (!dir) {
        fail(err, path);
        return NULL;
    }
    d = calloc(1, sizeof(*d));
    d->dir = dir;
    return d;
}

bool host_dir_next(HostDir *d, HostDirEntry *out)
{
    struct dirent *entry;
    struct stat st;

    while ((entry = readdir(d->dir))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            fstatat(dirfd(d->dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
            !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
            continue;
        snprintf(out->name, sizeof(out->name), "%s", entry->d_name);
        out->folder = S_ISDIR(st.st_mode);
        out->bytes = out->folder ? 0 : (u64)st.st_size;
        out->modified_s = st.st_mtime;
        return true;
    }
    return false;
}

void host_dir_close(HostDir *d)
{
    closedir(d->dir);
    free(d);
}

bool host_dir_make(const char *path, Error *err) { return !mkdir(path, 0777) || fail(err, path); }
bool host_dir_delete(const char *path, Error *err) { return !rmdir(path) || fail(err, path); }
bool host_file_rename(const char *from, const char *to, Error *err)
{
    return !rename(from, to) || fail(err, to);
}
