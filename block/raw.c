/*
 * Raw images: byte n of the file is byte n of the disk. A file that does not end on a sector reads as if
 * zeros followed, and grows to the whole sector when that is written. Files made here are sparse. Not here:
 * discard.
 */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { FILL = 1 << 20 };

typedef struct {
    BlkImage img;
    HostFile *f;
    /* of the file: what lies behind it is zeros, what lies before it must be readable */
    u64 size;
    char *name;
    bool said;                      /* one line about the first host error, not thousands */
} Raw;

typedef struct {
    HostIo io;
    BlkReq *req;
    Raw *raw;
} RawIo;

static void raw_done(HostIo *io)
{
    RawIo *r = io->opaque;
    Raw *raw = r->raw;
    BlkReq *req = r->req;
    BlkResult result = io->ok ? BLK_OK : io->no_space ? BLK_ERR_NOSPACE : BLK_ERR_IO;

    if (!io->ok) {
        log_once(&raw->said, "%s: %s", raw->name, io->err.text);
    } else if (io->kind == HOST_IO_READ && io->transferred < io->bytes) {
        if (io->offset + io->transferred < raw->size) {
            log_once(&raw->said, "%s: the file has become shorter", raw->name);
            result = BLK_ERR_IO;
        } else {
            memset((u8 *)io->buf + io->transferred, 0, io->bytes - io->transferred);
        }
    } else if (io->kind == HOST_IO_WRITE) {
        if (io->transferred < io->bytes)
            result = BLK_ERR_NOSPACE;
        else if (io->offset + io->bytes > raw->size)
            raw->size = io->offset + io->bytes;
    }
    free(r);
    image_complete(req, result);
}

static void raw_submit(BlkImage *img, BlkReq *req)
{
    Raw *raw = (Raw *)img;
    RawIo *r = block_alloc(sizeof(*r));

    r->req = req;
    r->raw = raw;
    r->io.kind = req->op == BLK_READ ? HOST_IO_READ : req->op == BLK_WRITE ? HOST_IO_WRITE : HOST_IO_FLUSH;
    r->io.file = raw->f;
    r->io.offset = req->offset;
    r->io.buf = req->buf;
    r->io.bytes = req->bytes;
    r->io.done = raw_done;
    r->io.opaque = r;
    host_io_submit(&r->io);
}

static void raw_close(BlkImage *img)
{
    Raw *raw = (Raw *)img;

    host_file_close(raw->f);
    free(raw->name);
    free(raw);
}

BlkImage *raw_wrap(HostFile *f, const char *name, bool readonly)
{
    Raw *raw = block_alloc(sizeof(*raw));
    size_t len = strlen(name) + 1;

    raw->img.drv = &raw_driver;
    raw->img.readonly = readonly;
    raw->f = f;
    raw->size = host_file_size(f);
    raw->img.bytes = (raw->size + SECTOR - 1) / SECTOR * SECTOR;
    raw->name = block_alloc(len);
    memcpy(raw->name, name, len);
    return &raw->img;
}

static BlkImage *raw_open(Machine *m, const char *file, bool readonly, Error *err)
{
    HostFile *f = host_file_open(file, readonly ? HOST_READ : HOST_READ | HOST_WRITE, err);
    u8 first;
    Error why;

    (void)m;
    if (!f) {
        HostFile *again = readonly ? NULL : host_file_open(file, HOST_READ, &why);

        if (again) {                /* it can be read: tell how it can be used as it is */
            Error was = *err;

            host_file_close(again);
            error_set(err, "%.300s (it can only be read: -snapshot or readonly=on takes it so)", was.text);
        }
        return NULL;
    }
    if (host_file_size(f) == 0) {
        error_set(err, "%.300s: the file is empty", file);
    } else if (host_file_size(f) > (u64)1 << 56) {
        error_set(err, "%.300s: the file is too large for a disk", file);
    } else if (!host_file_read(f, 0, &first, 1, &why)) {
        error_set(err, "%.300s", why.text);     /* a folder, for one, opens on some hosts and can't be read */
    } else {
        return raw_wrap(f, file, readonly);
    }
    host_file_close(f);
    return NULL;
}

/* ---- for tools ---- */

static const char *const raw_options[] = { "size", "preallocation", NULL };

/* preallocation: off; falloc and full both write zeros, so that the room is there. */
static bool raw_create(const char *file, const ImageCreate *how, Error *err)
{
    char v[32] = "off";
    bool all;
    HostFile *f;
    bool ok;

    image_option(how->options, "preallocation", v, sizeof(v));
    all = !strcmp(v, "falloc") || !strcmp(v, "full");
    if (!all && strcmp(v, "off"))
        return error_set(err, "preallocation=%s is not known: off, falloc or full", v);
    if (how->base)
        return error_set(err, "a raw image has no backing file");
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE | (all ? 0 : HOST_SPARSE), err);
    if (!f)
        return false;
    ok = host_file_resize(f, how->bytes, err);
    if (ok && all) {
        u8 *zeros = block_alloc(FILL);

        for (u64 at = 0; ok && at < how->bytes; at += FILL)
            ok = host_file_write(f, at, zeros, how->bytes - at < FILL ? how->bytes - at : FILL, err);
        free(zeros);
    }
    host_file_close(f);
    return ok || error_prefix(err, "%.300s", file);
}

static bool raw_part(BlkImage *img, u64 at, u64 bytes, ImagePart *out, Error *err)
{
    Raw *raw = (Raw *)img;
    u64 from, to, end = at + bytes;

    (void)err;
    host_file_next_data(raw->f, at, &from, &to);
    from = from / SECTOR * SECTOR;
    to = round_up(to, SECTOR);
    *out = (ImagePart){ .kind = from > at || from >= to ? PART_ZERO : PART_DATA, .at_known = true, .at = at };
    if (out->kind == PART_DATA && to < end)
        end = to;
    else if (out->kind == PART_ZERO && from > at && from < end && from < to)
        end = from;
    out->bytes = end - at;
    return true;
}

static bool raw_resize(BlkImage *img, u64 bytes, Error *err)
{
    Raw *raw = (Raw *)img;

    if (!host_file_resize(raw->f, bytes, err))
        return error_prefix(err, "%.300s", raw->name);
    raw->size = bytes;
    raw->img.bytes = bytes;
    return true;
}

const BlkDriver raw_driver = {
    .name = "raw", .can = CAN_FLUSH, .open = raw_open, .submit = raw_submit, .close = raw_close,
    .part = raw_part, .resize = raw_resize, .create = raw_create, .create_options = raw_options,
};
