/*
 * Pictures of a console: PPM (netpbm's P6) or PNG (W3C "Portable Network Graphics (PNG) Specification",
 * second edition: 8-bit truecolour, no interlace, filter 0). The pixel data is compressed by zlib; the chunks
 * are written here.
 */
#include "ui.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "host.h"

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    if (n < t)
        return false;
    for (size_t i = 0; i < t; i++) {
        char c = s[n - t + i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != tail[i])
            return false;
    }
    return true;
}

static u8 *put_row(u8 *p, const Surface *s, int y)
{
    const u32 *row = s->pixels + (size_t)y * (size_t)s->stride;
    for (int x = 0; x < s->width; x++) {
        *p++ = (u8)(row[x] >> 16);
        *p++ = (u8)(row[x] >> 8);
        *p++ = (u8)row[x];
    }
    return p;
}

static u8 *make_ppm(const Surface *s, size_t *size)
{
    char head[64];
    int n = snprintf(head, sizeof head, "P6\n%d %d\n255\n", s->width, s->height);
    *size = (size_t)n + (size_t)s->width * (size_t)s->height * 3;
    u8 *out = malloc(*size);
    if (!out)
        return NULL;
    memcpy(out, head, (size_t)n);
    u8 *p = out + n;
    for (int y = 0; y < s->height; y++)
        p = put_row(p, s, y);
    return out;
}

static u8 *put_be32(u8 *p, u32 v)
{
    p[0] = (u8)(v >> 24);
    p[1] = (u8)(v >> 16);
    p[2] = (u8)(v >> 8);
    p[3] = (u8)v;
    return p + 4;
}

/* Length, type, data, CRC of type and data. The data may lie in its place already. */
static u8 *put_chunk(u8 *p, const char *type, const void *data, size_t n)
{
    u8 *start = put_be32(p, (u32)n);
    memcpy(start, type, 4);
    if (n && data != start + 4)
        memcpy(start + 4, data, n);
    return put_be32(start + 4 + n, (u32)crc32(0, start, (uInt)n + 4));
}

u8 *ui_png(const Surface *s, size_t *size)
{
    static const u8 signature[8] = { 0x89, 'P', 'N', 'G', 0x0d, 0x0a, 0x1a, 0x0a };
    size_t raw_size = (size_t)s->height * ((size_t)s->width * 3 + 1);
    uLong packed = compressBound((uLong)raw_size);
    u8 *raw = malloc(raw_size), *out = malloc(packed + 128);
    if (!raw || !out) {
        free(raw);
        free(out);
        return NULL;
    }
    u8 *p = raw;
    for (int y = 0; y < s->height; y++) {
        *p++ = 0;                   /* filter: none */
        p = put_row(p, s, y);
    }
    u8 header[13] = { [8] = 8, [9] = 2 };       /* 8 bits, truecolour */
    put_be32(header, (u32)s->width);
    put_be32(header + 4, (u32)s->height);
    memcpy(out, signature, 8);
    u8 *chunk = put_chunk(out + 8, "IHDR", header, sizeof header);
    bool ok = compress2(chunk + 8, &packed, raw, (uLong)raw_size, 6) == Z_OK;
    free(raw);
    if (!ok) {
        free(out);
        return NULL;
    }
    p = put_chunk(chunk, "IDAT", chunk + 8, packed);
    p = put_chunk(p, "IEND", NULL, 0);
    *size = (size_t)(p - out);
    return out;
}

bool ui_screendump(Ui *ui, UiConsole *c, const char *path, Error *err)
{
    if (!c)
        c = ui_console(ui, 0);
    if (!c)
        return error_set(err, "there is no screen");
    console_update(c);
    const Surface *s = console_surface(c);
    size_t size;
    u8 *data = ends_in(path, ".png") ? ui_png(s, &size) : make_ppm(s, &size);
    if (!data)
        return error_set(err, "%s: out of memory", path);
    HostFile *f = host_file_open(path, HOST_WRITE | HOST_CREATE, err);
    bool ok = f && host_file_write(f, 0, data, size, err);
    if (f)
        host_file_close(f);
    free(data);
    return ok;
}
