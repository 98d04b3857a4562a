/* qemu-img commit and rebase: what lies between an image and its backing file. */
#include "img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- commit: the image's own data goes down into its base ---- */

static bool commit_data(const ImgArgs *a, BlkImage *top, BlkImage *base, Error *err)
{
    u8 *buf = block_alloc(IMG_BUF);
    bool ok = true;

    for (u64 at = 0; ok && at < top->bytes; ) {
        u64 n = top->bytes - at < IMG_BUF ? top->bytes - at : IMG_BUF;
        ImgStatus st;

        ok = !img_interrupted(err) && img_status(top, at, n, &st, err);
        if (ok && st.depth == 0 && st.present)
            ok = img_read(top, at, buf, st.bytes, err) && img_write(base, at, buf, st.bytes, err);
        at += ok ? st.bytes : 0;
        img_progress(a, at, top->bytes);
    }
    free(buf);
    if (ok && image_do(base, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
        ok = error_set(err, "the base can't be written out");
    return ok;
}

static bool grow_base(BlkImage *base, const char *path, u64 bytes, Error *err)
{
    if (base->bytes >= bytes)
        return true;
    if (!base->drv->resize)
        return error_set(err, "%.300s: images of format %s can't grow to the size of the upper one", path,
                         base->drv->name);
    return base->drv->resize(base, bytes, err);
}

int img_commit(const ImgArgs *a)
{
    BlkImage *img, *base = NULL;
    Qcow2 *q;
    char *path = NULL;
    bool ok = true;
    Error err;

    if (a->files != 1)
        return img_fail("commit needs one file name");
    if (a->opt['b'])
        return img_fail(
            "commit -b is not supported by this build: an image is committed to its own backing file");
    img_catch_interrupts();
    img = img_open(a->file[0], a->opt['f'], true, &err);
    if (!img)
        return img_fail("%s", err.text);
    q = img_qcow2(img);
    if (!q || !q->backing) {
        img_close(img);
        return img_fail("%s: Image does not have a backing file", a->file[0]);
    }
    path = qcow2_backing_path(q->name, q->backing_name);
    base = img_open(path, q->backing->drv->name, true, &err);
    ok = base && grow_base(base, path, img->bytes, &err) &&
         commit_data(a, img, base, &err);
    if (ok && !a->opt['d'])
        ok = qcow2_empty(q, &err);
    img_close(img);
    img_close(base);
    free(path);
    if (!ok)
        return img_fail("%s", err.text);
    img_say(a, "Image committed.\n");
    return 0;
}

/* ---- rebase: another backing file, the same disk ---- */

/* What the image takes from its old base and reads otherwise from the new one becomes its own. */
static bool keep_differences(const ImgArgs *a, Qcow2 *q, BlkImage *base, Error *err)
{
    u8 *old = block_alloc(IMG_BUF), *new = block_alloc(IMG_BUF);
    u64 total = q->img.bytes;
    bool ok = true;

    for (u64 at = 0; ok && at < total; ) {
        u64 n = total - at < IMG_BUF ? total - at : IMG_BUF;
        ImgStatus st;

        ok = !img_interrupted(err) && img_status(&q->img, at, n, &st, err);
        if (ok && (st.depth > 0 || !st.present))
            ok = img_read(&q->img, at, old, st.bytes, err) && img_read(base, at, new, st.bytes, err);
        else if (ok)
            memcpy(old, new, st.bytes);
        for (u64 k = 0; ok && k < st.bytes; ) {
            u64 left = q->cluster - ((at + k) & (q->cluster - 1));
            u64 part = st.bytes - k < left ? st.bytes - k : left;

            if (memcmp(old + k, new + k, part))
                ok = img_write(&q->img, at + k, old + k, part, err);
            k += part;
        }
        at += ok ? st.bytes : 0;
        img_progress(a, at, total);
    }
    free(old);
    free(new);
    return ok;
}

/* Without the old base: only the name is changed. */
static bool rename_base(const ImgArgs *a, const char *base, Error *err)
{
    const BlkDriver *drv = image_driver(a->file[0], a->opt['f'], err);
    Qcow2 *q = drv == &qcow2_driver ? qcow2_load(a->file[0], false, err) : NULL;
    bool ok = q && qcow2_set_backing(q, base, a->opt['F'], err);

    if (drv && drv != &qcow2_driver)
        error_set(err, "%.300s: format %s has no backing file", a->file[0], drv->name);
    if (q)
        qcow2_free(q);
    return ok;
}

int img_rebase(const ImgArgs *a)
{
    const char *base_name = a->opt['b'], *format = a->opt['F'];
    BlkImage *img, *base = NULL;
    bool ok;
    Error err;

    if (a->files != 1 || !base_name)
        return img_fail("rebase needs one file name and -b base (-b \"\" for none)");
    if (!base_name[0])
        base_name = NULL;
    if (a->opt['u'])
        return rename_base(a, base_name, &err) ? 0 : img_fail("%s", err.text);
    img_catch_interrupts();
    img = img_open(a->file[0], a->opt['f'], true, &err);
    if (!img)
        return img_fail("%s", err.text);
    ok = img_qcow2(img) ||
         error_set(&err, "%.300s: format %s has no backing file", a->file[0], img->drv->name);
    if (ok && base_name) {
        char *path = qcow2_backing_path(a->file[0], base_name);

        base = img_open_read(path, format, &err);
        free(path);
        ok = base != NULL;
        if (base && !format)
            format = base->drv->name;
    }
    ok = ok && keep_differences(a, img_qcow2(img), base, &err) && qcow2_commit_now(img_qcow2(img), &err) &&
         qcow2_set_backing(img_qcow2(img), base_name, format, &err);
    img_close(img);
    img_close(base);
    return ok ? 0 : img_fail("%s", err.text);
}
