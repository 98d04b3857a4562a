/*
 * qcow, version 1: the format before qcow2. All numbers are big-endian.
 *
 *      0 magic  4 version  8 backing name at, length  20 time  24 size  32 cluster bits  33 L2 bits
 *      36 encryption  40 L1 at;  the L1 table has an entry for each L2 table, that one for each cluster
 *
 *      L2 entry:  0  the backing file, or zeros      offset  a cluster
 *                 bit 63  a raw deflate stream: its length above bit 63 - cluster bits, its offset below
 *
 * Encrypted images are opened for reading only. Not here: changing the size.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "areas.h"
#include "img_options.h"
#include "sparse.h"

#define MAGIC 0x514649fbu
#define PACKED (1ull << 63)

enum { HEADER = 48, VERSION = 1, L1_MAX = 16 << 20, NAME_MAX_BYTES = 1023, SCAN = 65536 };

typedef struct {
    Sparse s;
    u32 cluster_bits, l2_bits;
    u64 cluster, l1_at, l1_entries;
    Areas l2;
} Qcow;

static u64 l2_bytes(const Qcow *q) { return 8ull << q->l2_bits; }

/* The place of the L2 entry; 0: there is no L2 table. */
static Step entry_at(Qcow *q, u64 guest, u64 *at)
{
    u64 i = guest >> (q->cluster_bits + q->l2_bits), table;
    u8 *p;
    Step step;

    *at = 0;
    if (i >= q->l1_entries)
        return sparse_damaged(&q->s, "the disk is larger than its L1 table");
    step = table_get(&q->s, 0, q->l1_at + i * 8, &p);
    if (step != STEP_OK)
        return step;
    table = be64(p);
    if (!table)
        return STEP_OK;
    if (table % 8 || table < HEADER || table >= q->s.file[0].end)
        return sparse_damaged(&q->s, "L1 entry %llu is wrong", (unsigned long long)i);
    *at = table + (guest >> q->cluster_bits & ((1ull << q->l2_bits) - 1)) * 8;
    return STEP_OK;
}

static bool place_ok(const Qcow *q, u64 at)
{
    return at % SECTOR == 0 && at >= HEADER && at < q->s.file[0].end &&
           !areas_hit(&q->l2, at, q->cluster) &&
           (at >= q->l1_at + q->l1_entries * 8 || at + q->cluster <= q->l1_at);
}

static Step qcow_find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Qcow *q = (Qcow *)s;
    u64 in = guest & (q->cluster - 1), left = q->cluster - in, at, entry;
    Step step = entry_at(q, guest, &at);
    u8 *p;

    if (step == STEP_OK && at)
        step = table_get(s, 0, at, &p);
    if (step != STEP_OK)
        return step;
    if (!at) {
        u64 span = q->cluster << q->l2_bits;

        left = span - (guest & (span - 1));
    }
    entry = at ? be64(p) : 0;
    *run = (Run){ .kind = s->backing_name ? PART_BASE : PART_ZERO, .bytes = bytes < left ? bytes : left };
    if (!entry)
        return STEP_OK;
    if (entry & PACKED) {
        u32 shift = 63 - q->cluster_bits;

        run->kind = PART_PACKED;
        run->at = entry & ((1ull << shift) - 1);
        run->packed = (u32)(entry >> shift & (q->cluster - 1));
        run->unit = guest - in;
        run->unit_bytes = q->cluster;
        return run->packed && run->at < s->file[0].end
                   ? STEP_OK
                   : sparse_damaged(s, "a compressed cluster lies outside the file");
    }
    if (!place_ok(q, entry))
        return sparse_damaged(s, "the data of disk offset %llu lies outside the file or on a table",
                              (unsigned long long)guest);
    run->kind = PART_DATA;
    run->in_place = true;
    run->at = entry + in;
    return STEP_OK;
}

/* Makes the L2 table where there is none. */
static Step make_l2(Qcow *q, u64 guest)
{
    SparseFile *f = &q->s.file[0];
    u64 l1 = q->l1_at + (guest >> (q->cluster_bits + q->l2_bits)) * 8, at, table;
    Step step = entry_at(q, guest, &at);
    u8 *p;

    if (step != STEP_OK || at)
        return step;
    table = round_up(f->end, q->cluster < SECTOR ? SECTOR : q->cluster);
    f->end = table + round_up(l2_bytes(q), SECTOR);
    table_new(&q->s, 0, table, (u32)round_up(l2_bytes(q), SECTOR), 0, 0);
    areas_add(&q->l2, table);
    step = table_get(&q->s, 0, l1, &p);
    if (step == STEP_OK) {
        put64(p, table);
        table_changed(&q->s, 0, l1, 8, 1);
    }
    return step;
}

static Step qcow_place(Sparse *s, u64 guest, Run *to)
{
    Qcow *q = (Qcow *)s;
    Step step = make_l2(q, guest);

    if (step != STEP_OK)
        return step;
    *to = (Run){ .at = round_up(s->file[0].end, q->cluster), .unit = guest & ~(q->cluster - 1),
                 .unit_bytes = q->cluster };
    return STEP_OK;
}

static Step qcow_mapped(Sparse *s, u64 guest, u64 bytes, const Run *run)
{
    Qcow *q = (Qcow *)s;
    u64 at, entry = run->at;
    Step step = entry_at(q, guest, &at);
    u8 *p;

    (void)bytes;
    if (step == STEP_OK && at)
        step = table_get(s, 0, at, &p);
    if (step != STEP_OK || !at)
        return step == STEP_OK ? STEP_FAIL : step;
    if (run->kind == PART_PACKED)
        entry |= PACKED | (u64)run->packed << (63 - q->cluster_bits);
    put64(p, entry);
    table_changed(s, 0, at, 8, 0);
    return STEP_OK;
}

/* Raw deflate with a window of 4 KiB; a whole cluster or nothing. */
static bool qcow_unpack(Sparse *s, const Run *run, const u8 *in, u8 *out)
{
    z_stream z = { .next_in = (u8 *)in, .avail_in = run->packed, .next_out = out,
                   .avail_out = (u32)run->unit_bytes };
    int end;

    (void)s;
    if (inflateInit2(&z, -12) != Z_OK)
        return false;
    end = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (end == Z_STREAM_END || end == Z_BUF_ERROR) && !z.avail_out;
}

static void qcow_freed(Sparse *s) { areas_free(&((Qcow *)s)->l2); }

static const SparseOps qcow_ops = {
    .find = qcow_find, .place = qcow_place, .mapped = qcow_mapped, .unpack = qcow_unpack, .freed = qcow_freed,
};

static bool read_header(Qcow *q, Error *err)
{
    const char *name = q->s.name;
    u8 h[HEADER];
    u64 size, at, per;
    u32 n;

    if (!sparse_read(&q->s, 0, 0, h, HEADER, "qcow header", err))
        return false;
    if (be32(h) != MAGIC || be32(h + 4) != VERSION)
        return error_set(err, "%.300s: this is no qcow image of version 1", name);
    at = be64(h + 8);
    n = be32(h + 16);
    size = be64(h + 24);
    q->cluster_bits = h[32];
    q->l2_bits = h[33];
    q->l1_at = be64(h + 40);
    if (q->cluster_bits < 9 || q->cluster_bits > 16)
        return error_set(err, "%.300s: cluster_bits %u is outside 9..16", name, q->cluster_bits);
    if (q->l2_bits < 6 || q->l2_bits > 13)
        return error_set(err, "%.300s: l2_bits %u is outside 6..13", name, q->l2_bits);
    if (be32(h + 36))
        return error_set(err, "%.300s: the image is encrypted; this build does not support that", name);
    q->cluster = 1ull << q->cluster_bits;
    per = q->cluster << q->l2_bits;
    if (size > 1ull << 56 || (size + per - 1) / per * 8 > L1_MAX)
        return error_set(err, "%.300s: a disk of %llu bytes is too large", name, (unsigned long long)size);
    q->l1_entries = (size + per - 1) / per;
    if (q->l1_at < HEADER || q->l1_at % 8 || !sparse_inside(&q->s, 0, q->l1_at, q->l1_entries * 8))
        return error_set(err, "%.300s: the L1 table at %llu lies outside the file", name,
                         (unsigned long long)q->l1_at);
    q->s.img.bytes = round_up(size, SECTOR);
    if (!at || !n)
        return true;
    if (n > NAME_MAX_BYTES)
        return error_set(err, "%.300s: the backing file's name is too long", name);
    q->s.backing_name = block_alloc(n + 1);
    if (!sparse_read(&q->s, 0, at, q->s.backing_name, n, "backing file's name", err))
        return false;
    return strlen(q->s.backing_name) == n ||
           error_set(err, "%.300s: the backing file's name has a zero byte", name);
}

/* Where the L2 tables lie. Two that overlap make the image unfit for writing. */
static bool scan_l1(Qcow *q, Error *err)
{
    u64 bytes = q->l1_entries * 8;
    u8 *buf = block_alloc(SCAN);
    bool ok = true;

    q->l2.bytes = l2_bytes(q);
    for (u64 at = 0; at < bytes && ok; at += SCAN) {
        u64 n = bytes - at < SCAN ? bytes - at : SCAN;

        ok = sparse_read(&q->s, 0, q->l1_at + at, buf, n, "L1 table", err);
        for (u64 i = 0; i < n && ok; i += 8) {
            u64 table = be64(buf + i);

            if (!table)
                continue;
            if (table % 8 || table < HEADER || !sparse_inside(&q->s, 0, table, 8))
                ok = error_set(err, "%.300s: L1 entry %llu is wrong", q->s.name,
                               (unsigned long long)((at + i) / 8));
            areas_add(&q->l2, table);
        }
    }
    free(buf);
    if (ok && !areas_sort(&q->l2) && !q->s.img.readonly)
        ok = error_set(err, "%.300s: tables of the image overlap; it can be opened for reading only",
                       q->s.name);
    if (ok && areas_hit(&q->l2, q->l1_at, bytes) && !q->s.img.readonly)
        ok = error_set(err, "%.300s: an L2 table lies on the L1 table; it can be opened for reading only",
                       q->s.name);
    return ok;
}

static BlkImage *qcow_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Qcow *q = sparse_new(sizeof(*q), &qcow_driver, &qcow_ops, file, readonly, err);

    if (!q)
        return NULL;
    if (!read_header(q, err) || !scan_l1(q, err)) {
        sparse_free(&q->s);
        return NULL;
    }
    return sparse_ready(&q->s, m, err);
}

static void qcow_facts(BlkImage *img, ImageFacts *out)
{
    const Qcow *q = (const Qcow *)img;

    sparse_facts(img, out);
    out->unit = (u32)q->cluster;
    out->packs = true;
    out->pack_window = -12;
}

static bool qcow_write_packed(BlkImage *img, u64 at, const u8 *packed, u32 bytes, Error *err)
{
    Qcow *q = (Qcow *)img;
    Run run = { .kind = PART_PACKED, .unit = at, .unit_bytes = q->cluster };
    Step step;

    if (bytes >= q->cluster || q->s.file[0].end >> (62 - q->cluster_bits))
        return error_set(err, "%.300s: too large for a compressed cluster", q->s.name);
    do {
        step = make_l2(q, at);
    } while (sparse_wait(&q->s, step, err));
    return step == STEP_OK && sparse_write_packed(&q->s, at, packed, bytes, 1, &run, err);
}

static bool qcow_create(const char *file, const ImageCreate *how, Error *err)
{
    u32 n = how->base ? (u32)strlen(how->base) : 0;
    u32 cluster_bits = n ? 9 : 12, l2_bits = n ? 12 : 9;
    u64 per = 1ull << (cluster_bits + l2_bits), l1_at = round_up(HEADER + n, 8);
    u64 entries = (how->bytes + per - 1) / per;
    u8 h[HEADER] = { 0 };
    HostFile *f;
    bool ok;

    if (n > NAME_MAX_BYTES)
        return error_set(err, "the backing file's name is too long");
    if (entries * 8 > L1_MAX)
        return error_set(err, "%.300s: a disk of %llu bytes is too large for qcow", file,
                         (unsigned long long)how->bytes);
    put32(h, MAGIC);
    put32(h + 4, VERSION);
    put64(h + 8, n ? HEADER : 0);
    put32(h + 16, n);
    put64(h + 24, how->bytes);
    h[32] = (u8)cluster_bits;
    h[33] = (u8)l2_bits;
    put64(h + 40, l1_at);
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    if (!f)
        return false;
    ok = host_file_write(f, 0, h, HEADER, err) && (!n || host_file_write(f, HEADER, how->base, n, err)) &&
         host_file_resize(f, round_up(l1_at + entries * 8, SECTOR), err);
    host_file_close(f);
    return ok || error_prefix(err, "%.300s", file);
}

static const char *const qcow_options[] = { "size", "backing_file", "backing_fmt", NULL };

static BlkImage *open_alone(const char *file, Error *err)
{
    return sparse_open_alone(&qcow_driver, file, err);
}

const BlkDriver qcow_driver = {
    .name = "qcow", .can = CAN_FLUSH, .open = qcow_open, .submit = sparse_submit, .close = sparse_close,
    .part = sparse_part, .facts = qcow_facts, .write_packed = qcow_write_packed, .create = qcow_create,
    .create_options = qcow_options, .open_alone = open_alone,
};
