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
    enum { EVERY_NS = 100000000 };
    static u64 shown_ns, shown = ~0ull;
    u64 hundredths = of ? (u64)((double)done / (double)of * 10000) : 10000, now;

    if (!a->opt['p'] || a->opt['q'] || hundredths == shown)
        return;
    now = host_now_ns();
    if (done < of && now - shown_ns < EVERY_NS)
        return;
    shown = hundredths;
    shown_ns = now;
    printf("    (%llu.%02llu/100%%)%s", (unsigned long long)hundredths / 100,
           (unsigned long long)hundredths % 100, done >= of ? "\n" : "\r");
    fflush(stdout);
}

static volatile bool interrupted;

static void on_interrupt(void) { interrupted = true; }
void img_catch_interrupts(void) { host_on_interrupt(on_interrupt); }

bool img_interrupted(Error *err)
{
    return interrupted && !error_set(err, "interrupted");
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

BlkImage *img_backing(BlkImage *img)
{
    ImageFacts facts = { 0 };

    if (img->drv->facts)
        img->drv->facts(img, &facts);
    return facts.backing;
}

bool img_status(BlkImage *img, u64 at, u64 bytes, ImgStatus *out, Error *err)
{
    u64 n = bytes;

    for (int depth = 0; ; depth++) {
        ImagePart part = { .kind = PART_DATA, .bytes = n };

        *out = (ImgStatus){ .bytes = n, .depth = depth, .owner = img, .zero = true };
        if (!img || at >= img->bytes)
            return true;
        if (n > img->bytes - at)
            n = out->bytes = part.bytes = img->bytes - at;
        if (img->drv->part && !img->drv->part(img, at, n, &part, err))
            return false;
        n = out->bytes = part.bytes;
        if (part.kind != PART_BASE) {
            out->present = true;
            out->zero = part.kind == PART_ZERO;
            out->data = !out->zero;
            out->compressed = part.kind == PART_PACKED;
            out->has_offset = part.at_known;
            out->at = part.at;
            return true;
        }
        img = img_backing(img);
        if (!img)
            return true;
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
