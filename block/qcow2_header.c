/*
 * The qcow2 header: reading it without believing it, the tables it names, and making a new image.
 *
 *      0 magic  4 version  8 backing name at, length  20 cluster bits  24 size  32 encryption  36 L1 entries
 *      40 L1 at  48 refcount table at, clusters  60 snapshots  64 snapshot table at
 *      version 3: 72 incompatible, 80 compatible, 88 autoclear features  96 refcount order  100 header length
 *      then extensions { type, length, data padded to 8 }, then the backing file's name
 */
#include "qcow2.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { V2_LENGTH = 72, V3_LENGTH = 104, EXT_END = 0, COMPAT_LAZY = 1 };
#define EXT_FORMAT 0xe2792acau
#define EXT_FEATURES 0x6803f857u

Step qcow2_damaged(Qcow2 *q, const char *fmt, ...)
{
    char text[300];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_once(&q->said, "%s: %s", q->name, text);
    return STEP_FAIL;
}

static char *copy_bytes(const void *from, size_t n)
{
    char *s = block_alloc(n + 1);

    memcpy(s, from, n);
    return s;
}

u32 l1_entries_for(const Qcow2 *q, u64 bytes)
{
    u64 per = 1ull << (2 * q->cluster_bits - 3), n = bytes / per + (bytes % per != 0);

    return n > 0xffffffffu ? 0xffffffffu : (u32)n;
}

char *qcow2_backing_path(const char *image, const char *backing)
{
    size_t dir = 0;
    bool absolute = backing[0] == '/' || backing[0] == '\\' || (backing[0] && backing[1] == ':');
    char *path;

    for (size_t i = 0; image[i] && !absolute; i++) {
        if (image[i] == '/' || image[i] == '\\')
            dir = i + 1;
    }
    path = block_alloc(dir + strlen(backing) + 1);
    memcpy(path, image, dir);
    strcpy(path + dir, backing);
    return path;
}

/* An image from somewhere must not make this computer log in to another one. */
bool qcow2_backing_allowed(const Qcow2 *q, Error *err)
{
    return image_name_allowed(q->name, q->backing_name, err);
}

/* An area that the header names: on a cluster, inside the file, of a size that is sane. */
static bool area(const Qcow2 *q, const char *what, u64 at, u64 bytes, u64 max, Error *err)
{
    if (bytes > max)
        return error_set(err, "%.300s: the %s of %llu bytes is too large", q->name, what,
                         (unsigned long long)bytes);
    if (at % q->cluster)
        return error_set(err, "%.300s: the %s is not on a cluster", q->name, what);
    if (bytes && (at < q->cluster || at > q->file_end || bytes > q->file_end - at))
        return error_set(err, "%.300s: the %s at %llu lies outside the file", q->name, what,
                         (unsigned long long)at);
    return true;
}

static void feature_name(const u8 *h, u32 end, u32 at, int bit, char *out, size_t size)
{
    static const char *const known[] = { "dirty", "corrupt", "external data file", "zstd compression",
                                         "extended L2 entries" };

    snprintf(out, size, "bit %d", bit);
    if (bit < (int)ARRAY_LEN(known))
        snprintf(out, size, "%s", known[bit]);
    while (at + 8 <= end && be32(h + at) != EXT_END) {
        u32 n = be32(h + at + 4);

        if (n > end - at - 8)
            return;
        for (u32 k = 0; be32(h + at) == EXT_FEATURES && k + 48 <= n; k += 48) {
            const u8 *f = h + at + 8 + k;

            if (f[0] == 0 && f[1] == bit && f[2])
                snprintf(out, size, "%.46s", (const char *)f + 2);
        }
        at += 8 + (u32)round_up(n, 8);
    }
}

static bool read_features(Qcow2 *q, const u8 *h, u32 end, Error *err)
{
    u64 unknown;

    q->incompatible = be64(h + 72);
    q->compatible = be64(h + 80);
    q->autoclear = be64(h + 88);
    q->ref_order = be32(h + 96);
    q->header_length = be32(h + 100);
    if (q->header_length < V3_LENGTH || q->header_length > end || q->header_length % 8)
        return error_set(err, "%.300s: header length %u is wrong", q->name, q->header_length);
    unknown = q->incompatible & ~(u64)(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
    if (unknown) {
        char name[64];

        feature_name(h, end, q->header_length, __builtin_ctzll(unknown), name, sizeof(name));
        return error_set(err, "%.300s: the image uses a feature that this build does not support: %s",
                         q->name, name);
    }
    if (q->ref_order > 6)
        return error_set(err, "%.300s: refcount order %u is outside 0..6", q->name, q->ref_order);
    return true;
}

static bool read_backing(Qcow2 *q, const u8 *h, u32 room, Error *err)
{
    u64 at = be64(h + 8);
    u32 n = be32(h + 16), ext = q->header_length, end = room;

    if (at && n > BACKING_NAME_MAX)
        return error_set(err, "%.300s: the backing file's name is too long", q->name);
    if (at && (at < q->header_length || at > room || n > room - at))
        return error_set(err, "%.300s: the backing file's name lies outside the header", q->name);
    if (at && n) {
        q->backing_name = copy_bytes(h + at, n);
        if (strlen(q->backing_name) != n)
            return error_set(err, "%.300s: the backing file's name has a zero byte", q->name);
        end = (u32)at;
    }
    while (ext + 8 <= end && be32(h + ext) != EXT_END) {
        u32 len = be32(h + ext + 4);

        if (len > end - ext - 8)
            return error_set(err, "%.300s: a header extension is too long", q->name);
        if (be32(h + ext) == EXT_FORMAT) {
            if (len > 15)
                return error_set(err, "%.300s: the name of the backing file's format is too long", q->name);
            free(q->backing_format);
            q->backing_format = copy_bytes(h + ext + 8, len);
        }
        ext += 8 + (u32)round_up(len, 8);
    }
    return true;
}

static bool read_header(Qcow2 *q, Error *err)
{
    u64 file_bytes = host_file_size(q->f);
    u8 first[SECTOR] = { 0 }, *h;
    u32 room;
    bool ok;

    if (file_bytes < V2_LENGTH ||
        !host_file_read(q->f, 0, first, file_bytes < SECTOR ? file_bytes : SECTOR, err))
        return error_set(err, "%.300s: the file is too short for qcow2", q->name);
    if (be32(first) != QCOW2_MAGIC)
        return error_set(err, "%.300s: this is no qcow2 image", q->name);
    q->version = be32(first + 4);
    if (q->version < 2 || q->version > 3)
        return error_set(err, "%.300s: qcow%s version %u is not supported by this build", q->name,
                         q->version == 1 ? "" : "2", q->version);
    q->cluster_bits = be32(first + 20);
    if (q->cluster_bits < 9 || q->cluster_bits > 21)
        return error_set(err, "%.300s: cluster_bits %u is outside 9..21", q->name, q->cluster_bits);
    q->cluster = 1ull << q->cluster_bits;
    q->file_end = round_up(file_bytes, q->cluster);
    if (be32(first + 32))
        return error_set(err, "%.300s: the image is encrypted; this build does not support that", q->name);
    room = (u32)(file_bytes < q->cluster ? file_bytes : q->cluster);
    h = block_alloc(room < SECTOR ? SECTOR : room);
    q->ref_order = 4;
    q->header_length = V2_LENGTH;
    ok = host_file_read(q->f, 0, h, room, err) && (q->version == 2 || read_features(q, h, room, err)) &&
         read_backing(q, h, room, err);
    q->size = be64(h + 24);
    q->l1_size = be32(h + 36);
    q->l1_at = be64(h + 40);
    q->reft_at = be64(h + 48);
    q->reft_clusters = be32(h + 56);
    q->snapshots = be32(h + 60);
    q->snap_at = be64(h + 64);
    free(h);
    return ok;
}

static bool read_table(Qcow2 *q, const char *what, u64 at, u32 count, u64 **table, Error *err)
{
    *table = block_alloc(sizeof(u64) * (count + 1ull));
    if (count && !host_file_read(q->f, at, *table, (size_t)count * 8, err))
        return error_set(err, "%.300s: the %s can't be read", q->name, what);
    for (u32 i = 0; i < count; i++)
        (*table)[i] = __builtin_bswap64((*table)[i]);
    return true;
}

static bool read_tables(Qcow2 *q, Error *err)
{
    Snapshot *list;
    bool ok;

    if (q->size > 1ull << 56 || l1_entries_for(q, q->size) > L1_MAX / 8)
        return error_set(err, "%.300s: a disk of %llu bytes is too large", q->name,
                         (unsigned long long)q->size);
    if (l1_entries_for(q, q->size) > q->l1_size)
        return error_set(err, "%.300s: the L1 table is too small", q->name);
    if (!q->reft_clusters)
        return error_set(err, "%.300s: the image has no refcount table", q->name);
    if (!area(q, "L1 table", q->l1_at, (u64)q->l1_size * 8, L1_MAX, err) ||
        !area(q, "refcount table", q->reft_at, (u64)q->reft_clusters << q->cluster_bits, REFT_MAX, err))
        return false;
    q->reft_used = q->reft_size = q->reft_clusters << (q->cluster_bits - 3);
    if (!read_table(q, "L1 table", q->l1_at, q->l1_size, &q->l1, err) ||
        !read_table(q, "refcount table", q->reft_at, q->reft_used, &q->reft, err))
        return false;
    while (q->reft_used && !q->reft[q->reft_used - 1])
        q->reft_used--;
    if (q->snapshots > SNAPSHOTS_MAX)
        return error_set(err, "%.300s: %u snapshots are too many", q->name, q->snapshots);
    ok = !q->snapshots || area(q, "snapshot table", q->snap_at, 1, 1, err);
    if (ok && q->snapshots) {
        ok = snapshots_read(q, &list, err);     /* finds out how long the table is */
        if (ok)
            snapshots_free(list, q->snapshots);
    }
    return ok;
}

Qcow2 *qcow2_load(const char *file, bool readonly, Error *err)
{
    HostFile *f = host_file_open(file, readonly ? HOST_READ : HOST_READ | HOST_WRITE, err);
    Qcow2 *q;

    if (!f)
        return NULL;
    q = block_alloc(sizeof(*q));
    q->f = f;
    q->name = copy_bytes(file, strlen(file));
    q->img.drv = &qcow2_driver;
    q->img.readonly = readonly;
    if (!read_header(q, err) || !read_tables(q, err)) {
        qcow2_free(q);
        return NULL;
    }
    if (!q->backing_name)
        q->backing_name = copy_bytes("", 0);
    if (!q->backing_format)
        q->backing_format = copy_bytes("", 0);
    q->img.bytes = round_up(q->size, SECTOR);
    return q;
}

void qcow2_free(Qcow2 *q)
{
    meta_drop_all(q);
    host_file_close(q->f);
    free(q->name);
    free(q->l1);
    free(q->reft);
    free(q->backing_name);
    free(q->backing_format);
    free(q->meta_set);
    free(q->freed);
    free(q->commit_buf);
    free(q->inflated);
    free(q);
}

/* ---- making ---- */

static u32 put_extension(u8 *h, u32 at, u32 type, const void *data, u32 n)
{
    put32(h + at, type);
    put32(h + at + 4, n);
    memcpy(h + at + 8, data, n);
    return at + 8 + (u32)round_up(n, 8);
}

/* Extensions and name, from the end of the header on. */
static bool put_backing(u8 *h, u64 cluster, u32 at, const char *name, const char *format, Error *err)
{
    size_t n = name ? strlen(name) : 0;

    memset(h + at, 0, cluster - at);
    if (n && format && format[0])
        at = put_extension(h, at, EXT_FORMAT, format, (u32)strnlen(format, 15));
    at += 8;
    put64(h + 8, n ? at : 0);
    put32(h + 16, (u32)n);
    if (n > BACKING_NAME_MAX || at + n > cluster)
        return error_set(err, "the backing file's name is too long");
    memcpy(h + at, n ? name : "", n);
    return true;
}

bool qcow2_set_backing(Qcow2 *q, const char *name, const char *format, Error *err)
{
    u8 *h = block_alloc(q->cluster);
    bool ok = host_file_read(q->f, 0, h,
                             host_file_size(q->f) < q->cluster ? host_file_size(q->f) : q->cluster, err) &&
              put_backing(h, q->cluster, q->header_length, name, format, err) &&
              host_file_write(q->f, 0, h, q->cluster, err) && qcow2_sync_file(q, err);

    free(h);
    return ok || error_prefix(err, "%.300s", q->name);
}

/* Header, refcount table, one block, L1 table: in this order, and all of them counted. */
static bool write_new(HostFile *f, const Qcow2 *q, const Qcow2Create *how, Error *err)
{
    u64 l1_clusters = round_up((u64)q->l1_size * 8, q->cluster) >> q->cluster_bits, per = ref_per_block(q);
    u64 blocks = 1, tables = 1, total, at;
    u8 *buf;
    bool ok;

    do {
        total = 1 + tables + blocks + l1_clusters;
        blocks = (total + per - 1) / per;
        tables = round_up(blocks * 8, q->cluster) >> q->cluster_bits;
    } while (total != 1 + tables + blocks + l1_clusters);
    buf = block_alloc(q->cluster);
    put32(buf, QCOW2_MAGIC);
    put32(buf + 4, how->version);
    put32(buf + 20, q->cluster_bits);
    put64(buf + 24, how->size);
    put32(buf + 36, q->l1_size);
    put64(buf + 40, (1 + tables + blocks) << q->cluster_bits);
    put64(buf + 48, q->cluster);
    put32(buf + 56, (u32)tables);
    if (how->version >= 3) {
        put64(buf + 80, how->lazy_refcounts ? COMPAT_LAZY : 0);
        put32(buf + 96, q->ref_order);
        put32(buf + 100, V3_LENGTH);
    }
    ok = put_backing(buf, q->cluster, how->version >= 3 ? V3_LENGTH : V2_LENGTH, how->backing,
                     how->backing_format, err) && host_file_resize(f, total << q->cluster_bits, err);
    for (u64 b = 0; ok && b < blocks; b++) {
        u8 *block = block_alloc(q->cluster), entry[8];

        for (u64 i = 0; i < per && b * per + i < total; i++)
            ref_write(q, block, i, 1);
        at = (1 + tables + b) << q->cluster_bits;
        put64(entry, at);
        ok = host_file_write(f, at, block, q->cluster, err) &&
             host_file_write(f, q->cluster + b * 8, entry, 8, err);
        free(block);
    }
    ok = ok && host_file_write(f, 0, buf, q->cluster, err);
    free(buf);
    return ok;
}

bool qcow2_create(const char *file, const Qcow2Create *how, Error *err)
{
    Qcow2 q = {
        .cluster_bits = how->cluster_bits, .ref_order = how->ref_order, .cluster = 1ull << how->cluster_bits};
    HostFile *f;
    bool ok;

    q.l1_size = l1_entries_for(&q, how->size);
    if (how->size > 1ull << 56 || q.l1_size > L1_MAX / 8)
        return error_set(err, "%.300s: a disk of %llu bytes is too large for clusters of %llu bytes", file,
                         (unsigned long long)how->size, (unsigned long long)q.cluster);
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    if (!f)
        return false;
    ok = write_new(f, &q, how, err) || error_prefix(err, "%.300s", file);
    host_file_close(f);
    return ok;
}
