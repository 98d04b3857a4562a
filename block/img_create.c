/* qemu-img create and resize. */
#include "img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool known_options(const BlkDriver *drv, const char *list, Error *err)
{
    for (const char *p = list; p && *p; ) {
        size_t len = strcspn(p, ","), name = strcspn(p, "=,");
        const char *const *known = drv->create_options;

        while (known && *known && (strlen(*known) != name || strncmp(*known, p, name)))
            known++;
        if (!known || !*known || p[name] != '=')
            return error_set(err, "invalid option '%.*s' for format '%s'", (int)len, p, drv->name);
        p += len + (p[len] == ',');
    }
    return true;
}

bool img_make(const char *file, const char *format, ImageCreate *how, Error *err)
{
    const BlkDriver *drv = image_driver_named(format);

    how->bytes = round_up(how->bytes, SECTOR);
    if (!drv)
        return error_set(err, "Unknown file format '%.40s'", format);
    if (!drv->create)
        return error_set(err, "format '%.40s' can't be written by this build, only read", format);
    return known_options(drv, how->options, err) && drv->create(file, how, err);
}

int img_options_help(const char *format)
{
    const BlkDriver *drv = image_driver_named(format);

    if (!drv || !drv->create)
        return img_fail("Unknown file format '%s'", format);
    printf("Supported options:\n");
    for (const char *const *name = drv->create_options; name && *name; name++)
        printf("  %s\n", *name);
    return 0;
}

bool img_wants_help(const ImgArgs *a)
{
    return a->opt['o'] && (!strcmp(a->opt['o'], "help") || !strcmp(a->opt['o'], "?"));
}

/* The base's size and format, found by looking where they are not given. */
static bool look_at_base(const char *file, ImageCreate *how, bool need_bytes, Error *err)
{
    char *path = qcow2_backing_path(file, how->base);
    BlkImage *img = img_open_read(path, how->base_format, err);

    free(path);
    if (!img)
        return error_prefix(err, "backing file");
    if (!how->base_format)
        how->base_format = img->drv->name;
    how->base_bytes = img->bytes;
    if (need_bytes)
        how->bytes = img->bytes;
    img_close(img);
    return true;
}

int img_create(const ImgArgs *a)
{
    const char *format = a->opt['f'] ? a->opt['f'] : "raw";
    char size[64], base[1100], base_format[32];
    bool has_size = a->files > 1 || image_option(a->opt['o'], "size", size, sizeof(size));
    ImageCreate how = { .options = a->opt['o'], .base = a->opt['b'], .base_format = a->opt['F'] };
    Error err;

    if (img_wants_help(a))
        return img_options_help(format);
    if (a->files < 1 || a->files > 2)
        return img_fail("create needs a file name and a size");
    if (!how.base && image_option(a->opt['o'], "backing_file", base, sizeof(base)))
        how.base = base;
    if (!how.base_format && image_option(a->opt['o'], "backing_fmt", base_format, sizeof(base_format)))
        how.base_format = base_format;
    if (has_size && !image_size(a->files > 1 ? a->file[1] : size, &how.bytes, &err))
        return img_fail("%s", err.text);
    if (how.base && !(a->opt['u'] && has_size) && !look_at_base(a->file[0], &how, !has_size, &err))
        return img_fail("%s: %s", a->file[0], err.text);
    if (!how.base && !has_size)
        return img_fail("Image creation needs a size parameter");
    if (!img_make(a->file[0], format, &how, &err))
        return img_fail("%s: %s", a->file[0], err.text);
    img_say(a, "Formatting '%s', fmt=%s size=%llu%s%s%s%s%s%s\n", a->file[0], format,
            (unsigned long long)how.bytes, how.base ? " backing_file=" : "", how.base ? how.base : "",
            how.base && how.base_format ? " backing_fmt=" : "",
            how.base && how.base_format ? how.base_format : "", how.options ? " " : "",
            how.options ? how.options : "");
    return 0;
}

int img_resize(const ImgArgs *a)
{
    const char *text = a->files == 2 ? a->file[1] : "";
    u64 bytes, now;
    BlkImage *img;
    Error err;
    bool ok;

    if (a->files != 2)
        return img_fail("resize needs a file name and a size");
    if (!image_size(text + (*text == '+' || *text == '-'), &bytes, &err))
        return img_fail("%s", err.text);
    img = img_open(a->file[0], a->opt['f'], true, &err);
    if (!img)
        return img_fail("Could not open '%s': %s", a->file[0], err.text);
    now = img->bytes;
    bytes = *text == '+' ? now + bytes : *text == '-' ? (bytes < now ? now - bytes : 0) : bytes;
    bytes = round_up(bytes, SECTOR);
    ok = bytes > 0 || error_set(&err, "the new size must be larger than zero");
    if (ok && bytes < now && !a->shrink)
        ok = error_set(&err, "shrinking needs --shrink: what lies behind the new end is lost");
    if (ok && !img->drv->resize)
        ok = error_set(&err, "%.300s: images of format %s can't be resized", a->file[0], img->drv->name);
    ok = ok && img->drv->resize(img, bytes, &err);
    img_close(img);
    if (!ok)
        return img_fail("%s", err.text);
    img_say(a, "Image resized.\n");
    return 0;
}
