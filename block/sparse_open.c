/*
 * Opening and closing images that keep a disk in units, their backing files, and what tools ask.
 */
#include "sparse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

Step sparse_damaged(Sparse *s, const char *fmt, ...)
{
    char text[300];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_once(&s->said, "%s: %s", s->name, text);
    return STEP_FAIL;
}

char *sparse_text(const void *from, size_t n)
{
    char *s = block_alloc(n + 1);

    memcpy(s, from, n);
    return s;
}

char *sparse_beside(const char *image, const char *name)
{
    size_t dir = 0;
    bool absolute = name[0] == '/' || name[0] == '\\' || (name[0] && name[1] == ':');
    char *path;

    for (size_t i = 0; image[i] && !absolute; i++) {
        if (image[i] == '/' || image[i] == '\\')
            dir = i + 1;
    }
    path = block_alloc(dir + strlen(name) + 1);
    memcpy(path, image, dir);
    strcpy(path + dir, name);
    return path;
}

static bool add_file(Sparse *s, HostFile *f, const char *path)
{
    SparseFile *bigger = block_alloc(sizeof(*bigger) * (s->files + 1));

    if (s->files)
        memcpy(bigger, s->file, sizeof(*bigger) * s->files);
    free(s->file);
    s->file = bigger;
    s->file[s->files++] = (SparseFile){ .f = f, .name = sparse_text(path, strlen(path)),
                                        .size = host_file_size(f), .end = host_file_size(f) };
    return true;
}

int sparse_add_file(Sparse *s, const char *path, bool readonly, Error *err)
{
    HostFile *f = host_file_open(path, readonly ? HOST_READ : HOST_READ | HOST_WRITE, err);

    if (!f)
        return -1;
    add_file(s, f, path);
    return (int)s->files - 1;
}

bool sparse_only_read(const BlkDriver *drv, const char *file, bool readonly, Error *err)
{
    return readonly || error_set(err, "%.300s: images of format %s are only read by this build (-snapshot or "
                                 "readonly=on takes it; qemu-img convert makes another of it)", file,
                                 drv->name);
}

void *sparse_new(size_t size, const BlkDriver *drv, const SparseOps *ops, const char *file, bool readonly,
                 Error *err)
{
    HostFile *f = host_file_open(file, readonly ? HOST_READ : HOST_READ | HOST_WRITE, err);
    Sparse *s;

    if (!f)
        return NULL;
    s = block_alloc(size);
    s->img.drv = drv;
    s->img.readonly = readonly;
    s->ops = ops;
    s->name = sparse_text(file, strlen(file));
    s->queue_end = &s->queue;
    s->finished_end = &s->finished;
    add_file(s, f, file);
    return s;
}

void sparse_free(Sparse *s)
{
    if (s->ops->freed)
        s->ops->freed(s);
    if (s->backing)
        s->backing->drv->close(s->backing);
    table_drop_all(s);
    for (u32 i = 0; i < s->files; i++) {
        host_file_close(s->file[i].f);
        free(s->file[i].name);
    }
    free(s->file);
    free(s->name);
    free(s->backing_name);
    free(s->backing_format);
    free(s->unpacked);
    free(s);
}

bool sparse_inside(const Sparse *s, u32 file, u64 at, u64 bytes)
{
    u64 size = s->file[file].size;

    return at <= size && bytes <= size - at;
}

bool sparse_read(Sparse *s, u32 file, u64 at, void *buf, u64 bytes, const char *what, Error *err)
{
    Error why;

    if (!sparse_inside(s, file, at, bytes))
        return error_set(err, "%.300s: the %s at %llu lies outside the file", s->file[file].name, what,
                         (unsigned long long)at);
    return !bytes || host_file_read(s->file[file].f, at, buf, (size_t)bytes, &why) ||
           error_set(err, "%.300s: the %s can't be read: %.100s", s->file[file].name, what, why.text);
}

static bool alone;                  /* the image that is being opened is wanted without its base */

BlkImage *sparse_open_alone(const BlkDriver *drv, const char *file, Error *err)
{
    BlkImage *img;

    alone = true;
    img = drv->open(NULL, file, true, err);
    alone = false;
    return img;
}

static BlkImage *open_backing(Sparse *s, Machine *m, Error *err)
{
    static int depth;
    char *path = sparse_beside(s->name, s->backing_name);
    const BlkDriver *drv = NULL;
    BlkImage *img = NULL;

    depth++;
    if (depth > SPARSE_DEPTH_MAX)
        error_set(err, "%.300s: more than %d backing files; does one of them refer to itself?", s->name,
                  SPARSE_DEPTH_MAX);
    else if (image_name_allowed(s->name, s->backing_name, err))
        drv = image_driver(path, s->backing_format, err);
    if (drv)
        img = drv->open(m, path, true, err);
    if (!img && depth == 1)
        error_prefix(err, "backing file of %.100s", s->name);
    depth--;
    free(path);
    return img;
}

BlkImage *sparse_ready(Sparse *s, Machine *m, Error *err)
{
    if (s->backing_name && !alone && !(s->backing = open_backing(s, m, err))) {
        sparse_free(s);
        return NULL;
    }
    s->m = m;
    if (m)
        timer_init(&s->timer, m, CLOCK_HOST, sparse_commit_timer, s);
    return &s->img;
}

bool sparse_wait(Sparse *s, Step step, Error *err)
{
    if (step == STEP_WAIT) {
        host_io_wait();
        return true;
    }
    if (step == STEP_FAIL)
        error_set(err, "%.300s: the image is damaged, or there is no space left", s->name);
    return false;
}

static bool commit_now(Sparse *s, Error *err)
{
    Step step;

    do {
        step = table_commit(s);
    } while (sparse_wait(s, step, err));
    return step == STEP_OK;
}

void sparse_close(BlkImage *img)
{
    Sparse *s = (Sparse *)img;
    Error err;

    if (s->m)
        timer_cancel(&s->timer);
    while (s->ticking || s->queue)
        host_io_wait();
    if (!s->img.readonly && table_commit_needed(s) && !commit_now(s, &err))
        log_line("%s", err.text);
    sparse_free(s);
}

bool sparse_part(BlkImage *img, u64 at, u64 bytes, ImagePart *out, Error *err)
{
    Sparse *s = (Sparse *)img;
    Step step;
    Run run;

    do {
        step = s->ops->find(s, at, bytes, &run);
    } while (sparse_wait(s, step, err));
    if (step != STEP_OK)
        return false;
    *out = (ImagePart){ .kind = run.kind, .bytes = run.bytes < bytes ? run.bytes : bytes, .at = run.at,
                        .at_known = run.kind == PART_DATA && !run.file };
    return true;
}

void sparse_facts(BlkImage *img, ImageFacts *out)
{
    Sparse *s = (Sparse *)img;

    *out = (ImageFacts){ .backing = s->backing, .backing_name = s->backing_name,
                         .backing_format = s->backing_format };
}

bool sparse_write_packed(Sparse *s, u64 guest, const u8 *packed, u32 bytes, u32 align, Run *run, Error *err)
{
    SparseFile *f = &s->file[0];
    Step step;

    if (table_must_commit(s) && !commit_now(s, err))
        return false;
    run->file = 0;
    run->at = round_up(f->end, align);
    run->packed = bytes;
    if (!host_file_write(f->f, run->at, packed, bytes, err))
        return error_prefix(err, "%.300s", f->name);
    f->end = run->at + bytes;
    f->unsynced = true;
    do {
        step = s->ops->mapped(s, guest, run->unit_bytes, run);
    } while (sparse_wait(s, step, err));
    return step == STEP_OK;
}
