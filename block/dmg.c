/*
 * DMG, the disk image of Mac OS X (UDIF), read-only, big-endian.
 *
 *      trailer, the last 512 bytes: "koly"  24 data fork at  40 resource fork at, length  216 XML at, length
 *      492 sectors
 *
 * Tables ("mish") lie as base64 in the XML's list "blkx", or in the resource fork: 8 first sector  24 data at
 * 200 count, then runs of 40 bytes: type, first sector, sectors, place and length of the stream.
 *
 * Run types: zeros, raw, zlib, ADC. Not here: bzip2, LZFSE and LZMA, refused by name.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "sparse.h"

enum {
    TRAILER = 512, MISH = 204, RUN = 40, RUNS_MAX = 1 << 20, XML_MAX = 64 << 20, STREAM_MAX = UNPACKED_MAX,
};
enum { TYPE_ZERO, TYPE_RAW, TYPE_IGNORE };
#define TYPE_ADC 0x80000004u
#define TYPE_ZLIB 0x80000005u
#define TYPE_COMMENT 0x7ffffffeu
#define TYPE_END 0xffffffffu

typedef struct { u64 start, bytes, at, packed; u32 type; } Piece;       /* start, bytes: of the disk */

typedef struct {
    Sparse s;
    Piece *piece;
    u32 pieces, room;
    u64 fork;                       /* the data fork's place */
} Dmg;

/* Apple Data Compression: literals, and copies of what lies up to 64 KiB back. */
static bool adc_unpack(const u8 *in, u64 in_bytes, u8 *out, u64 out_bytes)
{
    u64 i = 0, o = 0;

    while (o < out_bytes && i < in_bytes) {
        u8 c = in[i];
        u64 n, back;

        if (c & 0x80) {
            n = (c & 0x7fu) + 1;
            if (n > in_bytes - i - 1 || n > out_bytes - o)
                return false;
            memcpy(out + o, in + i + 1, n);
            o += n;
            i += n + 1;
            continue;
        }
        if (c & 0x40) {
            if (in_bytes - i < 3)
                return false;
            n = (c & 0x3fu) + 4;
            back = (u64)in[i + 1] << 8 | in[i + 2];
            i += 3;
        } else {
            if (in_bytes - i < 2)
                return false;
            n = (c >> 2 & 0xfu) + 3;
            back = (c & 3ull) << 8 | in[i + 1];
            i += 2;
        }
        if (back + 1 > o || n > out_bytes - o)
            return false;
        for (; n; n--, o++)         /* may overlap itself */
            out[o] = out[o - back - 1];
    }
    return o == out_bytes;
}

static Step find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Dmg *d = (Dmg *)s;
    u32 low = 0, high = d->pieces;
    const Piece *p;
    u64 left;

    while (low < high) {            /* the first one that ends behind the offset */
        u32 middle = (low + high) / 2;

        if (d->piece[middle].start + d->piece[middle].bytes > guest)
            high = middle;
        else
            low = middle + 1;
    }
    *run = (Run){ .kind = PART_ZERO, .bytes = bytes };
    if (low == d->pieces)
        return STEP_OK;
    p = &d->piece[low];
    left = guest < p->start ? p->start - guest : p->start + p->bytes - guest;
    run->bytes = bytes < left ? bytes : left;
    if (guest < p->start)           /* no run covers it */
        return STEP_OK;
    run->at = p->at;
    if (p->type == TYPE_RAW) {
        run->kind = PART_DATA;
        run->at += guest - p->start;
    } else if (p->type == TYPE_ZLIB || p->type == TYPE_ADC) {
        run->kind = PART_PACKED;
        run->packed = (u32)p->packed;
        run->unit = p->start;
        run->unit_bytes = p->bytes;
        run->how = p->type;
    }
    return STEP_OK;
}

static bool unpack(Sparse *s, const Run *run, const u8 *in, u8 *out)
{
    uLongf n = (uLongf)run->unit_bytes;

    (void)s;
    if (run->how == TYPE_ADC)
        return adc_unpack(in, run->packed, out, run->unit_bytes);
    return uncompress(out, &n, in, run->packed) == Z_OK && n == run->unit_bytes;
}

static void freed(Sparse *s) { free(((Dmg *)s)->piece); }

static const SparseOps ops = { .find = find, .unpack = unpack, .freed = freed };

static const char *type_name(u32 type)
{
    switch (type) {
    case 0x80000006u: return "bzip2";
    case 0x80000007u: return "LZFSE";
    case 0x80000008u: return "LZMA";
    default: return "unknown";
    }
}

static bool add_piece(Dmg *d, const Piece *p, Error *err)
{
    const char *name = d->s.name;
    bool packed = p->type == TYPE_ZLIB || p->type == TYPE_ADC;

    if (p->type == TYPE_ZERO || p->type == TYPE_IGNORE || !p->bytes)
        return true;
    if (p->type != TYPE_RAW && !packed)
        return error_set(err, "%.300s: the image has parts compressed by %s (type %x), which this build does "
                         "not support", name, type_name(p->type), p->type);
    if (!sparse_inside(&d->s, 0, p->at, p->packed) || (!packed && p->packed < p->bytes))
        return error_set(err, "%.300s: the data of disk offset %llu lies outside the file", name,
                         (unsigned long long)p->start);
    if (packed && (p->bytes > UNPACKED_MAX || p->packed > STREAM_MAX))
        return error_set(err, "%.300s: a compressed part of %llu bytes is too large", name,
                         (unsigned long long)p->bytes);
    if (d->pieces == RUNS_MAX)
        return error_set(err, "%.300s: more than %d parts", name, RUNS_MAX);
    if (d->pieces == d->room) {
        u32 room = d->room ? d->room * 2 : 64;
        Piece *bigger = block_alloc(sizeof(*bigger) * room);

        if (d->pieces)
            memcpy(bigger, d->piece, sizeof(*bigger) * d->pieces);
        free(d->piece);
        d->piece = bigger;
        d->room = room;
    }
    d->piece[d->pieces++] = *p;
    return true;
}

/* One table of runs. */
static bool add_mish(Dmg *d, const u8 *m, size_t n, Error *err)
{
    u64 first, data, limit = d->s.img.bytes / SECTOR;
    u32 count;

    if (n < MISH || memcmp(m, "mish", 4))
        return true;                /* a resource of another kind */
    first = be64(m + 8);
    data = be64(m + 24);
    count = be32(m + 200);
    if (count > (n - MISH) / RUN)
        return error_set(err, "%.300s: a table of %u runs is cut off", d->s.name, count);
    for (u32 i = 0; i < count; i++) {
        const u8 *r = m + MISH + (size_t)i * RUN;
        u64 start = be64(r + 8), sectors = be64(r + 16), at = be64(r + 24), size = d->s.file[0].size;
        Piece p = { .type = be32(r), .packed = be64(r + 32) };

        if (p.type == TYPE_COMMENT || p.type == TYPE_END)
            continue;
        if (first > limit || start > limit - first || sectors > limit - first - start || at > size ||
            data > size)
            return error_set(err, "%.300s: run %u of a table lies outside the disk or the file", d->s.name,
                             i);
        p.start = (first + start) * SECTOR;
        p.bytes = sectors * SECTOR;
        p.at = d->fork + data + at;
        if (!add_piece(d, &p, err))
            return false;
    }
    return true;
}

static int value_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* Blanks between the letters are passed over. */
static size_t decode_base64(const char *from, const char *end, u8 *out)
{
    u32 bits = 0, have = 0;
    size_t n = 0;

    for (; from < end; from++) {
        int v = value_of(*from);

        if (v < 0)
            continue;
        bits = bits << 6 | (u32)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (u8)(bits >> have);
        }
    }
    return n;
}

static bool read_xml(Dmg *d, u64 at, u64 bytes, Error *err)
{
    char *xml, *p, *end;
    bool ok;

    if (bytes > XML_MAX)
        return error_set(err, "%.300s: the XML of %llu bytes is too large", d->s.name,
                         (unsigned long long)bytes);
    if (!sparse_inside(&d->s, 0, at, bytes))
        return error_set(err, "%.300s: the XML at %llu lies outside the file", d->s.name,
                         (unsigned long long)at);
    xml = block_alloc(bytes + 1);
    ok = sparse_read(&d->s, 0, at, xml, bytes, "XML", err);
    p = ok ? strstr(xml, "<key>blkx</key>") : NULL;
    if (ok && !p)
        ok = error_set(err, "%.300s: the XML has no list of tables", d->s.name);
    end = p ? strstr(p, "</array>") : NULL;
    while (ok && end && (p = strstr(p, "<data>")) != NULL && p < end) {
        char *stop = strstr(p, "</data>");
        u8 *mish;
        size_t n;

        if (!stop)
            break;
        mish = block_alloc((size_t)(stop - p));
        n = decode_base64(p + 6, stop, mish);
        ok = add_mish(d, mish, n, err);
        free(mish);
        p = stop;
    }
    free(xml);
    return ok;
}

/* The resource fork: 0 data at  4 map at  8 data bytes; the data is { length, bytes } in a row. */
static bool read_resources(Dmg *d, u64 at, u64 bytes, Error *err)
{
    bool ok = true;
    u8 head[16], *data;
    u64 n, from;

    if (bytes > XML_MAX || bytes < 16 || !sparse_inside(&d->s, 0, at, bytes))
        return error_set(err, "%.300s: the resource fork lies outside the file", d->s.name);
    if (!sparse_read(&d->s, 0, at, head, 16, "resource fork", err))
        return false;
    from = be32(head);
    n = be32(head + 8);
    if (from > bytes || n > bytes - from)
        return error_set(err, "%.300s: the resource fork's data lies outside it", d->s.name);
    data = block_alloc(n + 1);
    ok = sparse_read(&d->s, 0, at + from, data, n, "resource fork", err);
    for (u64 i = 0; ok && i + 4 <= n; ) {
        u64 len = be32(data + i);

        if (len > n - i - 4)
            break;
        ok = add_mish(d, data + i + 4, len, err);
        i += 4 + len;
    }
    free(data);
    return ok;
}

static int order(const void *x, const void *y)
{
    const Piece *a = x, *b = y;

    return a->start < b->start ? -1 : a->start > b->start;
}

static bool read_image(Dmg *d, Error *err)
{
    const char *name = d->s.name;
    u64 size = d->s.file[0].size;
    u8 t[TRAILER];
    bool ok;

    if (size < TRAILER || !sparse_read(&d->s, 0, size - TRAILER, t, TRAILER, "DMG trailer", err) ||
        memcmp(t, "koly", 4))
        return error_set(err, "%.300s: this is no DMG image", name);
    d->fork = be64(t + 24);
    if (d->fork > size || be64(t + 492) > 1ull << 46)
        return error_set(err, "%.300s: the trailer is damaged", name);
    d->s.img.bytes = be64(t + 492) * SECTOR;
    ok = be64(t + 224) ? read_xml(d, be64(t + 216), be64(t + 224), err)
                       : read_resources(d, be64(t + 40), be64(t + 48), err);
    if (!ok)
        return false;
    if (d->pieces > 1)
        qsort(d->piece, d->pieces, sizeof(Piece), order);
    for (u32 i = 1; i < d->pieces; i++) {
        if (d->piece[i].start < d->piece[i - 1].start + d->piece[i - 1].bytes)
            return error_set(err, "%.300s: two parts cover disk offset %llu", name,
                             (unsigned long long)d->piece[i].start);
    }
    return true;
}

static BlkImage *dmg_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Dmg *d;

    if (!sparse_only_read(&dmg_driver, file, readonly, err))
        return NULL;
    d = sparse_new(sizeof(*d), &dmg_driver, &ops, file, true, err);
    if (d && !read_image(d, err)) {
        sparse_free(&d->s);
        return NULL;
    }
    return d ? sparse_ready(&d->s, m, err) : NULL;
}

const BlkDriver dmg_driver = {
    .name = "dmg", .open = dmg_open, .submit = sparse_submit, .close = sparse_close, .part = sparse_part,
    .facts = sparse_facts,
};
