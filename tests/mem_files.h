/*
 * Files in memory in place of the host's, for tests that cut the power or hand in damaged images. Requests of
 * host_io_submit() are done in random order. What has not been synced is remembered write by write.
 */
#ifndef TESTS_MEM_FILES_H
#define TESTS_MEM_FILES_H

#include "test.h"

#include "../block/qcow2.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

enum { MEM_FILES = 4, MEM_FILE_MAX = 24 << 20 };

typedef struct MemWrite {
    u64 at;
    u32 bytes;
    struct MemWrite *next;
    u8 data[];
} MemWrite;

typedef struct {
    const char *name;               /* NULL: free */
    u8 *now, *synced;               /* synced NULL: is not kept */
    u64 bytes, synced_bytes;
    MemWrite *writes, **writes_end;
    u64 written;                    /* how many writes there were */
} MemFile;

struct HostFile { MemFile *mem; bool writable; };

static MemFile mem_files[MEM_FILES];
static HostIo *mem_queue[4096];
static unsigned mem_queued;
static void (*mem_before_write)(MemFile *f);    /* the power may be cut here */
static u64 mem_limit;                           /* no file grows beyond it; 0: MEM_FILE_MAX */

static u32 mem_random(void)
{
    static u64 x;

    if (!x)
        x = 0x2545f4914f6cdd1dull +
            (getenv("QEMU_WIN_SEED") ? strtoull(getenv("QEMU_WIN_SEED"), NULL, 0) : 0);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (u32)(x >> 16);
}

static MemFile *mem_file(const char *name)
{
    for (int i = 0; i < MEM_FILES; i++) {
        if (mem_files[i].name && !strcmp(mem_files[i].name, name))
            return &mem_files[i];
    }
    return NULL;
}

static void mem_set_synced(MemFile *f)
{
    while (f->writes) {
        MemWrite *w = f->writes;

        f->writes = w->next;
        free(w);
    }
    f->writes_end = &f->writes;
    if (f->synced)
        memcpy(f->synced, f->now, f->bytes > f->synced_bytes ? f->bytes : f->synced_bytes);
    f->synced_bytes = f->bytes;
}

static MemFile *mem_make(const char *name, bool keeps_synced)
{
    MemFile *f = mem_file(name);

    for (int i = 0; !f && i < MEM_FILES; i++)
        f = mem_files[i].name ? NULL : &mem_files[i];
    f->name = name;
    if (!f->now)
        f->now = calloc(1, MEM_FILE_MAX);
    if (!f->synced && keeps_synced)
        f->synced = calloc(1, MEM_FILE_MAX);
    memset(f->now, 0, f->bytes);
    if (f->synced)
        memset(f->synced, 0, f->synced_bytes);
    f->bytes = f->synced_bytes = 0;
    mem_set_synced(f);
    return f;
}

HostFile *host_file_open(const char *path, unsigned flags, Error *err)
{
    MemFile *f = flags & HOST_CREATE ? mem_make(path, true) : mem_file(path);
    HostFile *h;

    if (!f) {
        error_set(err, "%.200s: no such file", path);
        return NULL;
    }
    h = calloc(1, sizeof(*h));
    h->mem = f;
    h->writable = flags & HOST_WRITE;
    return h;
}

void host_file_close(HostFile *h) { free(h); }
u64 host_file_size(HostFile *h) { return h->mem->bytes; }

bool host_file_resize(HostFile *h, u64 bytes, Error *err)
{
    if (bytes > MEM_FILE_MAX)
        return error_set(err, "no space left");
    if (bytes < h->mem->bytes)
        memset(h->mem->now + bytes, 0, h->mem->bytes - bytes);
    h->mem->bytes = bytes;
    return true;
}

bool host_file_read(HostFile *h, u64 offset, void *buf, size_t bytes, Error *err)
{
    if (offset > h->mem->bytes || bytes > h->mem->bytes - offset)
        return error_set(err, "read past the end of the file");
    memcpy(buf, h->mem->now + offset, bytes);
    return true;
}

bool host_file_write(HostFile *h, u64 offset, const void *buf, size_t bytes, Error *err)
{
    MemFile *f = h->mem;
    MemWrite *w;

    if (!h->writable)
        abort();                    /* a file that was opened for reading is never written */
    if (offset > MEM_FILE_MAX || bytes > MEM_FILE_MAX - offset || (mem_limit && offset + bytes > mem_limit))
        return error_set(err, "no space left");
    if (f->synced) {
        w = malloc(sizeof(*w) + bytes);
        *w = (MemWrite){ .at = offset, .bytes = (u32)bytes };
        memcpy(w->data, buf, bytes);
        *f->writes_end = w;
        f->writes_end = &w->next;
        f->written++;
        if (mem_before_write)
            mem_before_write(f);
    }
    memcpy(f->now + offset, buf, bytes);
    if (offset + bytes > f->bytes)
        f->bytes = offset + bytes;
    return true;
}

void host_io_submit(HostIo *io)
{
    if (mem_queued == ARRAY_LEN(mem_queue))
        abort();
    mem_queue[mem_queued++] = io;
}

bool host_io_wait(void)
{
    unsigned pick;
    HostIo *io;

    if (!mem_queued)
        return false;
    pick = mem_random() % mem_queued;
    io = mem_queue[pick];
    mem_queue[pick] = mem_queue[--mem_queued];
    io->ok = true;
    io->transferred = io->bytes;
    if (io->kind == HOST_IO_READ) {
        u64 size = io->file->mem->bytes, n = io->offset >= size ? 0 : size - io->offset;

        io->transferred = n < io->bytes ? (u32)n : io->bytes;
        memcpy(io->buf, io->file->mem->now + (n ? io->offset : 0), io->transferred);
    } else if (io->kind == HOST_IO_WRITE) {
        io->ok = host_file_write(io->file, io->offset, io->buf, io->bytes, &io->err);
    } else {
        mem_set_synced(io->file->mem);
    }
    io->done(io);
    return true;
}

#endif
