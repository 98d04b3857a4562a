/* qemu-img convert and compare: whole disks, holes and zeros skipped. */
#include "img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { STEP_BYTES = 4096 };

typedef struct {
    const ImgArgs *a;
    BlkImage *from, *to;
    bool compress, has_base;
    u64 sparse;                     /* runs of zeros this long are not written; 0: all is written */
    u8 *buf, *other, *packed;
    ImageFacts facts;               /* of the target */
} Convert;

/* Deflate with the window that the format prescribes; 0: it needs more room. */
static u32 pack(const u8 *in, u32 bytes, u8 *out, u32 room, int window)
{
    z_stream z = { .next_in = (u8 *)in, .avail_in = bytes, .next_out = out, .avail_out = room };
    int end;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    end = deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return end == Z_STREAM_END ? room - z.avail_out : 0;
}

static bool write_packed(Convert *c, u64 at, u64 bytes, Error *err)
{
    u32 unit = c->facts.unit, room = c->facts.packs_only ? 2 * unit + 1024 : unit - 1;

    for (u64 k = 0; k < bytes; k += unit) {
        u64 n = bytes - k < unit ? bytes - k : unit;
        u32 packed;

        memset(c->buf + k + n, 0, unit - n);
        if (img_is_zero(c->buf + k, n))
            continue;
        packed = pack(c->buf + k, unit, c->packed, room, c->facts.pack_window);
        if (packed ? !c->to->drv->write_packed(c->to, at + k, c->packed, packed, err)
                   : !img_write(c->to, at + k, c->buf + k, n, err))
            return false;
    }
    return true;
}

/* Writes what differs from what the target reads as already: zeros, or its base. */
static bool write_changes(Convert *c, u64 at, u64 bytes, Error *err)
{
    u64 unit = c->sparse > STEP_BYTES ? c->sparse : STEP_BYTES, from = 0, end = 0;

    if (c->has_base && !img_read(c->to, at, c->other, bytes, err))
        return false;
    for (u64 k = 0; k < bytes; k += unit) {
        u64 n = bytes - k < unit ? bytes - k : unit;
        bool same = c->has_base ? !memcmp(c->buf + k, c->other + k, n)
                                : c->sparse && img_is_zero(c->buf + k, n);

        if (same) {
            if (end > from && !img_write(c->to, at + from, c->buf + from, end - from, err))
                return false;
            from = k + n;
        }
        end = k + n;
        if (same)
            from = end;
    }
    return end <= from || img_write(c->to, at + from, c->buf + from, end - from, err);
}

static bool copy_all(Convert *c, Error *err)
{
    u64 total = c->from->bytes < c->to->bytes ? c->from->bytes : c->to->bytes;

    for (u64 at = 0; at < total; ) {
        u64 n = total - at < IMG_BUF ? total - at : IMG_BUF;
        ImgStatus st;

        if (!img_status(c->from, at, c->compress ? n : total - at, &st, err))
            return false;
        if (st.zero && st.bytes >= n && !c->has_base && c->sparse && !c->compress) {
            at += st.bytes;
        } else {
            /* many short runs are read at once */
            if (!img_read(c->from, at, c->buf, n, err) ||
                !(c->compress ? write_packed(c, at, n, err) : write_changes(c, at, n, err)))
                return false;
            at += n;
        }
        img_progress(c->a, at < total ? at : total, total);
    }
    return image_do(c->to, BLK_FLUSH, 0, NULL, 0) == BLK_OK ||
           error_set(err, "the target can't be written out");
}

static bool open_target(Convert *c, const char *format, Error *err)
{
    const ImgArgs *a = c->a;
    const char *file = a->file[a->files - 1];
    ImageCreate how = { .bytes = c->from->bytes, .options = a->opt['o'], .base = a->opt['B'],
                        .base_format = a->opt['F'] };
    char name[1100], fmt[32];

    if (!how.base && image_option(a->opt['o'], "backing_file", name, sizeof(name)))
        how.base = name;
    if (!how.base_format && image_option(a->opt['o'], "backing_fmt", fmt, sizeof(fmt)))
        how.base_format = fmt;
    c->has_base = how.base != NULL;
    if (!a->opt['n'] && !img_make(file, format, &how, err))
        return false;
    if (!c->from->bytes && !strcmp(format, "raw") && !a->opt['n'])
        return true;
    c->to = img_open(file, format, true, err);
    if (!c->to)
        return false;
    if (a->opt['n'])
        c->sparse = 0;              /* what is there already must be overwritten */
    if (c->to->bytes < c->from->bytes)
        return error_set(err, "%.200s is smaller than the source", file);
    if (c->to->drv->facts)
        c->to->drv->facts(c->to, &c->facts);
    c->compress = a->opt['c'] || c->facts.packs_only;
    return !c->compress || (c->facts.packs && c->facts.unit <= IMG_BUF && !a->opt['n']) ||
           error_set(err, "compression is for images of formats that have it, which convert makes itself");
}

static bool same_file_named(const ImgArgs *a)
{
    return !strcmp(a->file[0], a->file[a->files - 1]);
}

int img_convert(const ImgArgs *a)
{
    Convert c = { .a = a, .sparse = STEP_BYTES };
    const char *format = a->opt['O'] ? a->opt['O'] : "raw";
    Error err = { "" };
    bool ok = true;

    if (img_wants_help(a))
        return img_options_help(format);
    if (a->files != 2)
        return img_fail(a->files < 2 ? "convert needs a source and a target"
                                     : "convert takes one source only in this build");
    if (same_file_named(a))
        return img_fail("source and target are the same file");
    if (a->opt['S'] && !image_size(a->opt['S'], &c.sparse, &err))
        return img_fail("%s", err.text);
    if (c.sparse % SECTOR || c.sparse > IMG_BUF)
        return img_fail("-S must be a multiple of 512 up to 2M");
    c.from = img_open_read(a->file[0], a->opt['f'], &err);
    if (!c.from)
        return img_fail("Could not open '%s': %s", a->file[0], err.text);
    if (a->opt['l'])
        ok = img_qcow2(c.from) ? qcow2_use_snapshot(img_qcow2(c.from), a->opt['l'], &err)
                               : error_set(&err, "%.300s has no snapshots", a->file[0]);
    c.buf = block_alloc(IMG_BUF + (2 << 20));
    c.other = block_alloc(IMG_BUF);
    c.packed = block_alloc(IMG_BUF * 2 + 1024);
    ok = ok && open_target(&c, format, &err) && (!c.to || copy_all(&c, &err));
    img_close(c.from);
    img_close(c.to);
    free(c.buf);
    free(c.other);
    free(c.packed);
    return ok ? 0 : img_fail("%s", err.text);
}

/* ---- compare ---- */

enum { SAME = 0, DIFFERENT = 1, FAILED = 2 };

static int compare(const ImgArgs *a, BlkImage *x, BlkImage *y, Error *err)
{
    u64 total = x->bytes > y->bytes ? x->bytes : y->bytes;
    u8 *bx = block_alloc(IMG_BUF), *by = block_alloc(IMG_BUF);
    int result = SAME;

    for (u64 at = 0; at < total && result == SAME; ) {
        u64 n = total - at < IMG_BUF ? total - at : IMG_BUF;
        ImgStatus sx, sy;

        if (!img_status(x, at, total - at, &sx, err) || !img_status(y, at, total - at, &sy, err)) {
            result = FAILED;
            break;
        }
        if (sx.zero && sy.zero) {
            at += sx.bytes < sy.bytes ? sx.bytes : sy.bytes;
            continue;
        }
        if (!img_read(x, at, bx, n, err) || !img_read(y, at, by, n, err))
            result = FAILED;
        for (u64 k = 0; k < n && result == SAME; k += SECTOR) {
            if (memcmp(bx + k, by + k, SECTOR)) {
                img_say(a, "Content mismatch at offset %llu!\n", (unsigned long long)(at + k));
                result = DIFFERENT;
            }
        }
        at += n;
        img_progress(a, at, total);
    }
    free(bx);
    free(by);
    return result;
}

int img_compare(const ImgArgs *a)
{
    BlkImage *x, *y = NULL;
    Error err;
    int result = FAILED;

    if (a->files != 2) {
        img_fail("compare needs two files");
        return FAILED;
    }
    x = img_open_read(a->file[0], a->opt['f'], &err);
    if (x)
        y = img_open_read(a->file[1], a->opt['F'], &err);
    if (y && x->bytes != y->bytes && a->opt['s']) {
        img_say(a, "Strict mode: Image size mismatch!\n");
        result = DIFFERENT;
    } else if (y) {
        if (x->bytes != y->bytes)
            img_say(a, "Warning: Image size mismatch!\n");
        result = compare(a, x, y, &err);
    }
    img_close(x);
    img_close(y);
    if (result == FAILED)
        img_fail("%s", err.text);
    if (result == SAME)
        img_say(a, "Images are identical.\n");
    return result;
}
