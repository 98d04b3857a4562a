/*
 * Small images of the formats that are only read, put together from their specifications: what a disk in
 * memory looks like in each. The file is malloc'ed.
 */
#ifndef TESTS_IMAGE_SEEDS_H
#define TESTS_IMAGE_SEEDS_H

#include "../block/driver.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct { u8 *data; size_t bytes, room; } Seed;

/* Room up to an offset, zeroed. */
static void seed_grow(Seed *s, size_t bytes)
{
    if (bytes > s->room) {
        size_t room = bytes * 2;
        u8 *bigger = calloc(1, room);

        if (s->bytes)
            memcpy(bigger, s->data, s->bytes);
        free(s->data);
        s->data = bigger;
        s->room = room;
    }
    if (bytes > s->bytes)
        s->bytes = bytes;
}

static void seed_put(Seed *s, size_t at, const void *from, size_t n)
{
    seed_grow(s, at + n);
    memcpy(s->data + at, from, n);
}

static bool seed_empty(const u8 *p, size_t n)
{
    return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

static Seed seed_parallels(const u8 *disk, u32 bytes, bool ext)
{
    enum { CLUSTER = 4096, TABLE = 64 };
    u32 entries = (bytes + CLUSTER - 1) / CLUSTER, next = (TABLE + entries * 4 + CLUSTER - 1) / CLUSTER;
    Seed s = { 0 };

    seed_grow(&s, (size_t)next * CLUSTER);
    memcpy(s.data, ext ? "WithouFreSpacExt" : "WithoutFreeSpace", 16);
    store32(s.data + 16, 2);
    store32(s.data + 20, 16);
    store32(s.data + 24, 1);
    store32(s.data + 28, CLUSTER / SECTOR);
    store32(s.data + 32, entries);
    store64(s.data + 36, bytes / SECTOR);
    store32(s.data + 48, next * CLUSTER / SECTOR);
    for (u32 i = 0; i < entries; i++) {
        u32 n = bytes - i * CLUSTER < CLUSTER ? bytes - i * CLUSTER : CLUSTER;

        if (seed_empty(disk + i * CLUSTER, n))
            continue;
        store32(s.data + TABLE + i * 4, ext ? next : next * CLUSTER / SECTOR);
        seed_put(&s, (size_t)next++ * CLUSTER, disk + i * CLUSTER, n);
        seed_grow(&s, (size_t)next * CLUSTER);
    }
    return s;
}

static Seed seed_bochs(const u8 *disk, u32 bytes, bool old)
{
    enum { EXTENT = 8192, BITMAP = 512, CATALOG = 512 };
    u32 entries = (bytes + EXTENT - 1) / EXTENT, data = CATALOG + entries * 4, next = 0;
    Seed s = { 0 };

    seed_grow(&s, data);
    strcpy((char *)s.data, "Bochs Virtual HD Image");
    strcpy((char *)s.data + 32, "Redolog");
    strcpy((char *)s.data + 48, "Growing");
    store32(s.data + 64, old ? 0x10000 : 0x20000);
    store32(s.data + 68, CATALOG);
    store32(s.data + 72, entries);
    store32(s.data + 76, BITMAP);
    store32(s.data + 80, EXTENT);
    store64(s.data + (old ? 84 : 88), bytes);
    for (u32 i = 0; i < entries; i++) {
        size_t at = data + (size_t)next * (BITMAP + EXTENT);
        u32 n = bytes - i * EXTENT < EXTENT ? bytes - i * EXTENT : EXTENT;

        store32(s.data + CATALOG + i * 4, 0xffffffff);
        if (seed_empty(disk + i * EXTENT, n))
            continue;
        store32(s.data + CATALOG + i * 4, next++);
        seed_grow(&s, at + BITMAP + EXTENT);
        for (u32 k = 0; k < n; k += SECTOR) {
            bool there = !seed_empty(disk + i * EXTENT + k, SECTOR);

            s.data[at + k / SECTOR / 8] |= (u8)(there << k / SECTOR % 8);
            /* what is not marked as written is rubbish */
            memset(s.data + at + BITMAP + k, 0xee, SECTOR);
            if (there)
                memcpy(s.data + at + BITMAP + k, disk + i * EXTENT + k, SECTOR);
        }
    }
    return s;
}

static Seed seed_cow(const u8 *disk, u32 bytes, bool packed, const char *base)
{
    u32 header = packed ? 1048 : 1056, data = (header + (bytes / SECTOR + 7) / 8 + 511) / SECTOR * SECTOR;
    Seed s = { 0 };

    seed_grow(&s, data + bytes);
    memcpy(s.data, "OOOM", 4);
    put32(s.data + 4, 2);
    strcpy((char *)s.data + 8, base);
    put64(s.data + (packed ? 1036 : 1040), bytes);
    put32(s.data + (packed ? 1044 : 1048), SECTOR);
    for (u32 k = 0; k < bytes; k += SECTOR) {
        if (seed_empty(disk + k, SECTOR))
            continue;
        s.data[header + k / SECTOR / 8] |= (u8)(1 << k / SECTOR % 8);
        memcpy(s.data + data + k, disk + k, SECTOR);
    }
    return s;
}

static Seed seed_cloop(const u8 *disk, u32 bytes)
{
    enum { BLOCK = 16384, TABLE = 136 };
    u32 blocks = (bytes + BLOCK - 1) / BLOCK;
    u8 whole[BLOCK], packed[BLOCK * 2];
    Seed s = { 0 };

    seed_grow(&s, TABLE + (blocks + 1) * 8);
    strcpy((char *)s.data, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 "
                           "/dev/cloop $1\n");
    put32(s.data + 128, BLOCK);
    put32(s.data + 132, blocks);
    for (u32 i = 0; i < blocks; i++) {
        u32 n = bytes - i * BLOCK < BLOCK ? bytes - i * BLOCK : BLOCK;
        uLongf len = sizeof(packed);

        memset(whole, 0, BLOCK);
        memcpy(whole, disk + i * BLOCK, n);
        compress(packed, &len, whole, BLOCK);
        put64(s.data + TABLE + i * 8, s.bytes);
        seed_put(&s, s.bytes, packed, len);
    }
    put64(s.data + TABLE + blocks * 8, s.bytes);
    return s;
}

static void seed_base64(Seed *s, const u8 *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        u32 v = (u32)p[i] << 16 | (i + 1 < n ? p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        char four[5] = { digits[v >> 18], digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63], '\n' };

        if (i + 2 >= n)
            four[3] = '=';
        if (i + 1 >= n)
            four[2] = '=';
        seed_put(s, s->bytes, four, i / 3 % 16 == 15 ? 5 : 4);
    }
}

/* Literals, and long runs of the byte before. */
static size_t seed_adc(const u8 *in, size_t n, u8 *out)
{
    size_t o = 0;

    for (size_t i = 0, run; i < n; i += run) {
        for (run = 0; i && i + run < n && run < 67 && in[i + run] == in[i - 1]; run++)
            ;
        if (run >= 4) {             /* a distance of 1, in the long or the short form */
            bool small = run <= 18;

            out[o++] = (u8)(small ? (run - 3) << 2 : 0x40 | (run - 4));
            if (!small)
                out[o++] = 0;
            out[o++] = 0;
            continue;
        }
        for (run = 1; i + run < n && run < 128 && in[i + run] != in[i + run - 1]; run++)
            ;
        out[o++] = (u8)(0x80 | (run - 1));
        memcpy(out + o, in + i, run);
        o += run;
    }
    return o;
}

/* Pieces of 32 sectors: stored, zlib and perhaps ADC. The table lies in the XML or in the resource fork. */
static Seed seed_dmg(const u8 *disk, u32 bytes, bool xml, bool adc)
{
    enum { PIECE = 16384, MISH = 204, RUN = 40 };
    u32 pieces = (bytes + PIECE - 1) / PIECE;
    u8 packed[PIECE * 2];
    Seed s = { 0 }, m = { 0 };
    size_t at;

    seed_grow(&m, MISH + (pieces + 1) * RUN);
    memcpy(m.data, "mish", 4);
    put32(m.data + 4, 1);
    put64(m.data + 16, bytes / SECTOR);
    put32(m.data + 200, pieces + 1);
    for (u32 i = 0; i < pieces; i++) {
        u32 n = bytes - i * PIECE < PIECE ? bytes - i * PIECE : PIECE, type = 1;
        const u8 *from = disk + i * PIECE;
        uLongf len = n;

        memcpy(packed, from, n);
        if (seed_empty(from, n)) {
            type = 0;
            len = 0;
        } else if (i % 3 == 1) {
            type = 0x80000005;
            len = sizeof(packed);
            compress(packed, &len, from, n);
        } else if (i % 3 == 2 && adc) {
            type = 0x80000004;
            len = seed_adc(from, n, packed);
        }
        put32(m.data + MISH + i * RUN, type);
        put64(m.data + MISH + i * RUN + 8, i * PIECE / SECTOR);
        put64(m.data + MISH + i * RUN + 16, n / SECTOR);
        put64(m.data + MISH + i * RUN + 24, s.bytes);
        put64(m.data + MISH + i * RUN + 32, len);
        seed_put(&s, s.bytes, packed, len);
    }
    put32(m.data + MISH + pieces * RUN, 0xffffffff);
    put64(m.data + MISH + pieces * RUN + 8, bytes / SECTOR);
    at = s.bytes;
    if (xml) {
        static const char head[] = "<?xml version=\"1.0\"?>\n<plist><dict><key>resource-fork</key><dict>"
                                   "<key>blkx</key><array><dict><key>Data</key>\n<data>";
        static const char tail[] = "</data></dict></array></dict></dict></plist>\n";

        seed_put(&s, s.bytes, head, strlen(head));
        seed_base64(&s, m.data, m.bytes);
        seed_put(&s, s.bytes, tail, strlen(tail));
    } else {
        u8 head[256 + 4] = { 0 }, map[50] = { 0 };

        put32(head, 256);
        put32(head + 4, (u32)(260 + m.bytes));
        put32(head + 8, (u32)m.bytes + 4);
        put32(head + 12, sizeof(map));
        put32(head + 256, (u32)m.bytes);
        seed_put(&s, s.bytes, head, sizeof(head));
        seed_put(&s, s.bytes, m.data, m.bytes);
        seed_put(&s, s.bytes, map, sizeof(map));
    }
    seed_grow(&s, s.bytes + 512);
    u8 *t = s.data + s.bytes - 512;
    memcpy(t, "koly", 4);
    put32(t + 4, 4);
    put32(t + 8, 512);
    put64(t + 32, at);
    put64(t + (xml ? 216 : 40), at);
    put64(t + (xml ? 224 : 48), s.bytes - 512 - at);
    put64(t + 492, bytes / SECTOR);
    free(m.data);
    return s;
}

static u32 seed_crc32c(const u8 *p, u32 n)
{
    u32 crc = ~0u;

    while (n--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void seed_guid(u8 *out, const char *text)
{
    static const u8 place[] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

    for (int i = 0; i < 16; i++) {
        char two[3] = { text[0], text[1], 0 };

        out[place[i]] = (u8)strtoul(two, NULL, 16);
        text += 2;
        text += *text == '-';
    }
}

/* Header, region tables, log at 1 MiB, metadata at 2, block table at 3, blocks of 1 MiB from 4 MiB on. */
static Seed seed_vhdx(const u8 *disk, u32 bytes)
{
    enum { MIB = 1 << 20 };
    static const char *const items[] = { "CAA16737-FA36-4D43-B3B6-33F0AA44E76B",
                                         "2FA54224-CD1B-4876-B211-5DBED83BF4B8",
                                         "8141BF1D-A96F-4709-BA47-F233A8FAAB5F",
                                         "CDA348C7-445D-4471-9CC9-E9885251C556",
                                         "BECA12AB-B2E6-4523-93EF-C309E000C746" };
    static const u8 lengths[] = { 8, 8, 4, 4, 16 }, flags[] = { 4, 6, 6, 6, 6 };
    u64 values[] = { MIB, bytes, SECTOR, SECTOR, 0x1234 };
    u32 blocks = (bytes + MIB - 1) / MIB, next = 4;
    Seed s = { 0 };

    seed_grow(&s, 4 * MIB);
    memcpy(s.data, "vhdxfile", 8);
    for (u32 i = 0; i < 2; i++) {
        u8 *h = s.data + (64 << (10 + i)), *r = s.data + ((192 + 64 * i) << 10);

        memcpy(h, "head", 4);
        store64(h + 8, 5 + i);
        store16(h + 66, 1);
        store32(h + 68, MIB);
        store64(h + 72, MIB);
        store32(h + 4, seed_crc32c(h, 4096));
        memcpy(r, "regi", 4);
        store32(r + 8, 2);
        seed_guid(r + 16, "2DC27766-F623-4200-9D64-115E9BFD4A08");
        store64(r + 32, 3 * MIB);
        store32(r + 40, MIB);
        store32(r + 44, 1);
        seed_guid(r + 48, "8B7CA206-4790-4B9A-B8FE-575F050F886E");
        store64(r + 64, 2 * MIB);
        store32(r + 72, MIB);
        store32(r + 76, 1);
        store32(r + 4, seed_crc32c(r, 65536));
    }
    memcpy(s.data + 2 * MIB, "metadata", 8);
    store16(s.data + 2 * MIB + 10, ARRAY_LEN(items));
    for (u32 i = 0; i < ARRAY_LEN(items); i++) {
        u8 *e = s.data + 2 * MIB + 32 + i * 32;

        seed_guid(e, items[i]);
        store32(e + 16, 65536 + i * 16);
        store32(e + 20, lengths[i]);
        store32(e + 24, flags[i]);
        store64(s.data + 2 * MIB + 65536 + i * 16, values[i]);
    }
    for (u32 i = 0; i < blocks; i++) {
        u32 n = bytes - i * MIB < MIB ? bytes - i * MIB : MIB;

        if (seed_empty(disk + (size_t)i * MIB, n))
            continue;
        store64(s.data + 3 * MIB + i * 8, (u64)next << 20 | 6);
        seed_put(&s, (size_t)next++ * MIB, disk + (size_t)i * MIB, n);
        seed_grow(&s, (size_t)next * MIB);
    }
    return s;
}

#endif
