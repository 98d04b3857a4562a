/* qemu-img create and resize. */
#include "img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const qcow2_options[] = {
    "size", "compat", "backing_file", "backing_fmt", "cluster_size", "refcount_bits", "lazy_refcounts",
    "preallocation", "compression_type", "encryption", "extended_l2",
};
static const char *const raw_options[] = { "size", "preallocation" };

static bool known_options(const char *list, const char *const *names, size_t count, const char *format,
                          Error *err)
{
    for (const char *p = list; p && *p; ) {
        size_t len = strcspn(p, ","), name = strcspn(p, "=,"), i = 0;

        while (i < count && (strlen(names[i]) != name || strncmp(names[i], p, name)))
            i++;
        if (i == count || p[name] != '=')
            return error_set(err, "invalid option '%.*s' for format '%s'", (int)len, p, format);
        p += len + (p[len] == ',');
    }
    return true;
}

/* Options whose other values this build does not have. */
static bool only_default(const char *list, const char *name, const char *usual, Error *err)
{
    char v[64];

    return !img_option(list, name, v, sizeof(v)) || !strcmp(v, usual) ||
           error_set(err, "%s=%s is not supported by this build", name, v);
}

static bool make_raw(const char *file, u64 bytes, const char *options, Error *err)
{
    HostFile *f;
    bool ok;

    if (!known_options(options, raw_options, ARRAY_LEN(raw_options), "raw", err) ||
        !only_default(options, "preallocation", "off", err))
        return false;
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    if (!f)
        return false;
    ok = host_file_resize(f, bytes, err) || error_prefix(err, "%.300s", file);
    host_file_close(f);
    return ok;
}

static bool power_of_two(const char *list, const char *name, u64 least, u64 most, u32 *log2, Error *err)
{
    char v[64];
    u64 n;

    if (!img_option(list, name, v, sizeof(v)))
        return true;
    if (!img_size(v, &n, err))
        return false;
    if (n < least || n > most || (n & (n - 1)))
        return error_set(err, "%s must be a power of two between %llu and %llu", name,
                         (unsigned long long)least, (unsigned long long)most);
    *log2 = (u32)__builtin_ctzll(n);
    return true;
}

static bool make_qcow2(const char *file, u64 bytes, const char *options, const char *base,
                       const char *base_format, Error *err)
{
    Qcow2Create how = { .size = bytes, .version = 3, .cluster_bits = 16, .ref_order = 4, .backing = base,
                        .backing_format = base_format };
    char v[64];

    if (!known_options(options, qcow2_options, ARRAY_LEN(qcow2_options), "qcow2", err) ||
        !only_default(options, "preallocation", "off", err) ||
        !only_default(options, "compression_type", "zlib", err) ||
        !only_default(options, "encryption", "off", err) ||
        !only_default(options, "extended_l2", "off", err) ||
        !power_of_two(options, "cluster_size", 512, 2 << 20, &how.cluster_bits, err) ||
        !power_of_two(options, "refcount_bits", 1, 64, &how.ref_order, err))
        return false;
    if (img_option(options, "compat", v, sizeof(v))) {
        bool old = !strcmp(v, "0.10") || !strcmp(v, "v2");

        if (!old && strcmp(v, "1.1") && strcmp(v, "v3"))
            return error_set(err, "compat=%s is not known: 0.10 or 1.1", v);
        how.version = old ? 2 : 3;
    }
    how.lazy_refcounts = img_option(options, "lazy_refcounts", v, sizeof(v)) && !strcmp(v, "on");
    if (how.version == 2 && (how.ref_order != 4 || how.lazy_refcounts))
        return error_set(err, "refcount_bits and lazy_refcounts need compat=1.1");
    return qcow2_create(file, &how, err);
}

bool img_make(const char *file, const char *format, u64 bytes, const char *options, const char *base,
              const char *base_format, Error *err)
{
    bytes = round_up(bytes, SECTOR);
    if (!strcmp(format, "qcow2"))
        return make_qcow2(file, bytes, options, base, base_format, err);
    if (strcmp(format, "raw"))
        return error_set(err, "format '%.40s' can't be written by this build: it writes raw and qcow2",
                         format);
    if (base)
        return error_set(err, "a raw image has no backing file");
    return make_raw(file, bytes, options, err);
}

static int options_help(const char *format)
{
    bool raw = !strcmp(format, "raw");
    const char *const *names = raw ? raw_options : qcow2_options;

    printf("Supported options:\n");
    for (size_t i = 0; i < (raw ? ARRAY_LEN(raw_options) : ARRAY_LEN(qcow2_options)); i++)
        printf("  %s\n", names[i]);
    return 0;
}

/* The base's size and format, found by looking where they are not given. */
static bool look_at_base(const char *file, const char *base, const char **format, u64 *bytes, bool need_bytes,
                         Error *err)
{
    char *path = qcow2_backing_path(file, base);
    BlkImage *img = img_open_read(path, *format, err);

    free(path);
    if (!img)
        return error_prefix(err, "backing file");
    if (!*format)
        *format = img->drv->name;
    if (need_bytes)
        *bytes = img->bytes;
    img_close(img);
    return true;
}

int img_create(const ImgArgs *a)
{
    const char *format = a->opt['f'] ? a->opt['f'] : "raw", *base = a->opt['b'], *base_format = a->opt['F'];
    char size[64], base_name[1100], base_fmt[32];
    bool has_size = a->files > 1 || img_option(a->opt['o'], "size", size, sizeof(size));
    u64 bytes = 0;
    Error err;

    if (a->opt['o'] && (!strcmp(a->opt['o'], "help") || !strcmp(a->opt['o'], "?")))
        return options_help(format);
    if (a->files < 1 || a->files > 2)
        return img_fail("create needs a file name and a size");
    if (!base && img_option(a->opt['o'], "backing_file", base_name, sizeof(base_name)))
        base = base_name;
    if (!base_format && img_option(a->opt['o'], "backing_fmt", base_fmt, sizeof(base_fmt)))
        base_format = base_fmt;
    if (has_size && !img_size(a->files > 1 ? a->file[1] : size, &bytes, &err))
        return img_fail("%s", err.text);
    if (base && !(a->opt['u'] && has_size) &&
        !look_at_base(a->file[0], base, &base_format, &bytes, !has_size, &err))
        return img_fail("%s: %s", a->file[0], err.text);
    if (!base && !has_size)
        return img_fail("create needs the size of the disk");
    if (!img_make(a->file[0], format, bytes, a->opt['o'], base, base_format, &err))
        return img_fail("%s", err.text);
    img_say(a, "Formatting '%s', fmt=%s size=%llu%s%s%s%s%s%s\n", a->file[0], format,
            (unsigned long long)bytes, base ? " backing_file=" : "", base ? base : "",
            base && base_format ? " backing_fmt=" : "", base && base_format ? base_format : "",
            a->opt['o'] ? " " : "", a->opt['o'] ? a->opt['o'] : "");
    return 0;
}

static bool resize_raw(const char *file, u64 bytes, Error *err)
{
    HostFile *f = host_file_open(file, HOST_READ | HOST_WRITE, err);
    bool ok = f && host_file_resize(f, bytes, err);

    if (f)
        host_file_close(f);
    return ok;
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
    if (!img_size(text + (*text == '+' || *text == '-'), &bytes, &err))
        return img_fail("%s", err.text);
    img = img_open(a->file[0], a->opt['f'], true, &err);
    if (!img)
        return img_fail("%s", err.text);
    now = img_qcow2(img) ? img_qcow2(img)->size : img->bytes;
    bytes = *text == '+' ? now + bytes : *text == '-' ? (bytes < now ? now - bytes : 0) : bytes;
    bytes = round_up(bytes, SECTOR);
    ok = bytes > 0 || error_set(&err, "the new size must be larger than zero");
    if (ok && bytes < now && !a->shrink)
        ok = error_set(&err, "shrinking needs --shrink: what lies behind the new end is lost");
    if (ok && img_qcow2(img)) {
        ok = qcow2_resize(img_qcow2(img), bytes, &err);
        img_close(img);
    } else {
        img_close(img);
        ok = ok && resize_raw(a->file[0], bytes, &err);
    }
    if (!ok)
        return img_fail("%s", err.text);
    img_say(a, "Image resized.\n");
    return 0;
}
