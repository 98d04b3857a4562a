/* What the commands of qemu-img share: messages, sizes, opening, and what of a disk is data. */
#include "img.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int img_fail(const char *fmt, ...)
{
    va_list args;

    fflush(stdout);
    fputs("qemu-img: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputs("\n", stderr);
    return 1;
}

void img_say(const ImgArgs *a, const char *fmt, ...)
{
    va_list args;

    if (a->opt['q'])
        return;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    fflush(stdout);
}

void img_progress(const ImgArgs *a, u64 done, u64 of)
{
    static u64 shown = ~0ull;
    u64 hundredths = of ? (u64)((double)done / (double)of * 10000) : 10000;

    if (!a->opt['p'] || a->opt['q'] || (hundredths == shown && done < of))
        return;
    shown = hundredths;
    printf("    (%llu.%02llu/100%%)%s", (unsigned long long)hundredths / 100,
           (unsigned long long)hundredths % 100, done >= of ? "\n" : "\r");
    fflush(stdout);
}

bool img_size(const char *text, u64 *bytes, Error *err)
{
    static const char units[] = "bkmgtpe";
    char *end;
    double v = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end | 0x20) : units;
    u64 times = unit ? 1ull << (10 * (unit - units)) : 0;

    if (end == text || !times || v < 0 || (*end && end[1]) || v * (double)times > 9.0e18)
        return error_set(err, "invalid size '%.60s': a number with k, M, G, T, P or E behind it", text);
    *bytes = strchr(text, '.') ? (u64)(v * (double)times) : strtoull(text, NULL, 10) * times;
    return true;
}

BlkImage *img_open(const char *file, const char *format, bool writable, Error *err)
{
    const BlkDriver *drv = image_driver(file, format, err);

    return drv ? drv->open(NULL, file, !writable, err) : NULL;
}

BlkImage *img_open_read(const char *file, const char *format, Error *err)
{
    Error first;
    BlkImage *img = img_open(file, format, false, &first);
    HostFile *f = img ? NULL : host_file_open(file, HOST_READ, err);

    if (img)
        return img;
    if (f && !host_file_size(f) && (!format || !strcmp(format, "raw")))
        return raw_wrap(f, file, true);
    if (f)
        host_file_close(f);
    *err = first;
    return NULL;
}

Qcow2 *img_qcow2(BlkImage *img) { return img->drv == &qcow2_driver ? (Qcow2 *)img : NULL; }

void img_close(BlkImage *img)
{
    if (img)
        img->drv->close(img);
}

static bool step_now(Qcow2 *q, u64 at, u64 bytes, Map *map, Error *err)
{
    Step step;

    do {
        step = map_lookup(q, at, bytes, map);
    } while (qcow2_wait(q, step, err));
    return step == STEP_OK;
}

bool img_status(BlkImage *img, u64 at, u64 bytes, ImgStatus *out, Error *err)
{
    u64 n = bytes;

    for (int depth = 0; ; depth++) {
        Qcow2 *q = img ? img_qcow2(img) : NULL;
        Map map;

        *out = (ImgStatus){ .bytes = n, .depth = depth, .owner = img, .zero = true };
        if (!img || at >= img->bytes)
            return true;
        if (n > img->bytes - at)
            n = out->bytes = img->bytes - at;
        if (!q) {
            out->data = out->has_offset = out->present = true;
            out->zero = false;
            out->at = at;
            return true;
        }
        if (!step_now(q, at, n, &map, err))
            return false;
        n = out->bytes = map.bytes;
        if (map.kind != MAP_BACKING) {
            out->present = true;
            out->zero = map.kind == MAP_ZERO;
            out->data = !out->zero;
            out->compressed = map.kind == MAP_COMPRESSED;
            out->has_offset = map.kind == MAP_DATA;
            out->at = map.at;
            return true;
        }
        if (!q->backing)
            return true;
        img = q->backing;
    }
}

bool img_read(BlkImage *img, u64 at, void *buf, u64 bytes, Error *err)
{
    u64 n = !img || at >= img->bytes ? 0 : bytes < img->bytes - at ? bytes : img->bytes - at;

    memset((u8 *)buf + n, 0, bytes - n);
    if (!n || image_do(img, BLK_READ, at, buf, (u32)n) == BLK_OK)
        return true;
    return error_set(err, "error while reading at %llu", (unsigned long long)at);
}

bool img_write(BlkImage *img, u64 at, void *buf, u64 bytes, Error *err)
{
    BlkResult r = image_do(img, BLK_WRITE, at, buf, (u32)bytes);

    return r == BLK_OK || error_set(err, "error while writing at %llu%s", (unsigned long long)at,
                                    r == BLK_ERR_NOSPACE ? ": no space left" : "");
}

bool img_is_zero(const u8 *p, u64 bytes)
{
    return !bytes || (!p[0] && !memcmp(p, p + 1, bytes - 1));
}

void img_human(u64 bytes, char *out, size_t size)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes;
    int unit = 0;

    while (v >= 1000 && unit < 6) {
        v /= 1024;
        unit++;
    }
    snprintf(out, size, "%.3g %s", v, units[unit]);
}

void img_json_text(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            printf("\\u%04x", *s);
        else
            putchar(*s);
    }
    putchar('"');
}

bool img_option(const char *list, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);

    for (const char *p = list; p && *p; ) {
        size_t len = strcspn(p, ",");

        if (len > n && !strncmp(p, name, n) && p[n] == '=') {
            snprintf(value, size, "%.*s", (int)(len - n - 1), p + n + 1);
            return true;
        }
        p += len + (p[len] == ',');
    }
    return false;
}
