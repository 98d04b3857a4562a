/*
 * Counts what really refers to each cluster and compares that with the reference counts. A count that is too
 * high is a leak: space that nobody gets. Anything else is a corruption: two owners of a cluster would not
 * know of each other. Repairing writes the counts and the COPIED bits that follow from the tables.
 *
 * Blocking, straight from the file; nothing is in flight or dirty. Not repaired: entries that lead nowhere.
 */
#include "qcow2.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAY_MAX = 200 };
#define CLUSTERS_MAX (1ull << 28)

typedef struct {
    Qcow2 *q;
    Qcow2Check *out;
    void (*say)(const char *line);
    u32 said;
    u32 *refs;                      /* what was found, a cluster each */
    u64 clusters;
    u64 l2_bytes_left;              /* no sound image has more tables than bytes */
    u8 *table;
} Check;

static void say(Check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(Check *c, const char *fmt, ...)
{
    char line[200];
    va_list args;

    if (!c->say || c->said++ > SAY_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    c->say(c->said > SAY_MAX ? "... and more of the kind" : line);
}

static bool count(Check *c, u64 at, u64 bytes, const char *what)
{
    if (!bytes)
        return true;
    if (at + bytes < at || at + bytes > c->clusters << c->q->cluster_bits) {
        c->out->corruptions++;
        say(c, "ERROR: %s at %#llx lies outside the file", what, (unsigned long long)at);
        return false;
    }
    for (u64 k = at >> c->q->cluster_bits; k <= (at + bytes - 1) >> c->q->cluster_bits; k++) {
        if (c->refs[k] != ~0u)
            c->refs[k]++;
    }
    if (at + bytes > c->out->image_end)
        c->out->image_end = round_up(at + bytes, c->q->cluster);
    return true;
}

static bool read_cluster(Check *c, u64 at, u8 *buf)
{
    u64 size = host_file_size(c->q->f), n = at >= size                  ? 0
                                            : size - at < c->q->cluster ? size - at
                                                                        : c->q->cluster;
    Error err;

    memset(buf + n, 0, c->q->cluster - n);
    if (!n || host_file_read(c->q->f, at, buf, n, &err))
        return true;
    c->out->errors++;
    say(c, "ERROR: %s", err.text);
    return false;
}

static void count_l2(Check *c, bool active)
{
    Qcow2 *q = c->q;

    for (u64 k = 0; k < q->cluster / 8; k++) {
        u64 entry = be64(c->table + k * 8), at = entry & OFF_MASK;
        u32 bytes;

        if (entry & COMPRESSED) {
            map_compressed_place(q, entry, &at, &bytes);
            if (entry & COPIED) {
                c->out->corruptions++;
                say(c, "ERROR: a compressed cluster is marked COPIED");
            }
            /* its last sectors may lie behind the file's end, inside its last cluster */
            count(c, at, bytes, "a compressed cluster");
            c->out->compressed += active;
            c->out->allocated += active;
        } else if (at) {
            if (at % q->cluster) {
                c->out->corruptions++;
                say(c, "ERROR: data at %#llx is not on a cluster", (unsigned long long)at);
            } else {
                count(c, at, q->cluster, "data");
            }
            c->out->allocated += active && !(entry & ZERO);
        }
    }
}

static void count_l1(Check *c, const u64 *l1, u32 size, bool active)
{
    for (u32 i = 0; i < size; i++) {
        u64 at = l1[i] & OFF_MASK;

        if (!at)
            continue;
        if (at % c->q->cluster) {
            c->out->corruptions++;
            say(c, "ERROR: the L2 table at %#llx is not on a cluster", (unsigned long long)at);
        } else if (count(c, at, c->q->cluster, "an L2 table")) {
            if (c->l2_bytes_left < c->q->cluster) {
                c->out->corruptions++;
                say(c, "ERROR: L2 tables are used more than once");
                return;
            }
            c->l2_bytes_left -= c->q->cluster;
            if (read_cluster(c, at, c->table))
                count_l2(c, active);
        }
    }
}

static bool count_snapshots(Check *c, Error *err)
{
    Qcow2 *q = c->q;
    Snapshot *list;

    if (!snapshots_read(q, &list, err))
        return false;
    count(c, q->snap_at, q->snapshots ? q->snap_bytes : 0, "the snapshot table");
    for (u32 i = 0; i < q->snapshots; i++) {
        u64 *l1 = block_alloc(sizeof(u64) * (list[i].l1_size + 1ull));

        c->l2_bytes_left = q->file_end;
        count(c, list[i].l1_at, (u64)list[i].l1_size * 8, "a snapshot's L1 table");
        if (list[i].l1_size && !host_file_read(q->f, list[i].l1_at, l1, (size_t)list[i].l1_size * 8, err))
            c->out->errors++;
        for (u32 k = 0; k < list[i].l1_size; k++)
            l1[k] = __builtin_bswap64(l1[k]);
        count_l1(c, l1, list[i].l1_size, false);
        free(l1);
    }
    snapshots_free(list, q->snapshots);
    return true;
}

static bool block_ok(const Check *c, u64 n)
{
    u64 at = n < c->q->reft_used ? c->q->reft[n] : 0;

    return at && at % c->q->cluster == 0 && at >> c->q->cluster_bits < c->clusters;
}

static bool count_all(Check *c, Error *err)
{
    Qcow2 *q = c->q;

    count(c, 0, q->cluster, "the header");
    count(c, q->l1_at, (u64)q->l1_size * 8, "the L1 table");
    c->l2_bytes_left = q->file_end;
    count_l1(c, q->l1, q->l1_size, true);
    if (q->snapshots && !count_snapshots(c, err))
        return false;
    count(c, q->reft_at, (u64)q->reft_clusters << q->cluster_bits, "the refcount table");
    for (u32 n = 0; n < q->reft_used; n++) {
        if (!q->reft[n])
            continue;
        if (!block_ok(c, n)) {
            c->out->corruptions++;
            say(c, "ERROR: refcount block %u lies outside the file", n);
        } else {
            count(c, q->reft[n], q->cluster, "a refcount block");
            if (c->refs[q->reft[n] >> q->cluster_bits] != 1) {
                c->out->corruptions++;
                say(c, "ERROR: refcount block %u is used for something else, too", n);
            }
        }
    }
    return true;
}

/* ---- comparing, and writing what was found ---- */

/* Blocks for counts that have no place yet go to the end of the file. */
static bool make_blocks(Check *c, Error *err)
{
    Qcow2 *q = c->q;
    u64 per = ref_per_block(q), room = (u64)q->reft_clusters << (q->cluster_bits - 3);

    for (u64 k = 0; k < c->clusters; k++) {
        u8 entry[8], *zeros;
        bool ok;

        if (!c->refs[k] || block_ok(c, k / per))
            continue;
        if (k / per >= room)
            return error_set(err, "%.300s: the refcount table is too small to repair", q->name);
        c->refs = realloc(c->refs, sizeof(u32) * (c->clusters + 1));
        if (!c->refs)
            return error_set(err, "out of memory");
        c->refs[c->clusters] = 1;
        if (k / per >= q->reft_used)
            q->reft_used = (u32)(k / per) + 1;
        q->reft[k / per] = c->clusters++ << q->cluster_bits;
        q->file_end = c->clusters << q->cluster_bits;
        put64(entry, q->reft[k / per]);
        zeros = block_alloc(q->cluster);
        ok = host_file_write(q->f, q->reft[k / per], zeros, q->cluster, err) && qcow2_sync_file(q, err) &&
             host_file_write(q->f, q->reft_at + k / per * 8, entry, 8, err);
        free(zeros);
        if (!ok)
            return false;
    }
    return true;
}

static bool compare(Check *c, int fix, Error *err)
{
    Qcow2 *q = c->q;
    u64 per = ref_per_block(q);

    for (u64 from = 0; from < c->clusters || from / per < q->reft_used; from += per) {
        bool changed = false, there = block_ok(c, from / per);

        if (!there && from >= c->clusters)
            continue;
        memset(c->table, 0, q->cluster);
        if (there && !read_cluster(c, q->reft[from / per], c->table))
            continue;
        for (u64 i = 0; i < per; i++) {
            u64 has = ref_read(q, c->table, i), should = from + i < c->clusters ? c->refs[from + i] : 0;
            bool leak = has > should;

            if (has == should)
                continue;
            say(c, "%s cluster %llu refcount=%llu reference=%llu", leak ? "Leaked" : "ERROR",
                (unsigned long long)(from + i), (unsigned long long)has, (unsigned long long)should);
            if (there && should <= ref_max(q) && (fix & (leak ? FIX_LEAKS : FIX_ERRORS))) {
                ref_write(q, c->table, i, should);
                changed = true;
                *(leak ? &c->out->fixed_leaks : &c->out->fixed_corruptions) += 1;
            } else {
                *(leak ? &c->out->leaks : &c->out->corruptions) += 1;
            }
        }
        if (changed && !host_file_write(q->f, q->reft[from / per], c->table, q->cluster, err))
            return false;
    }
    return !fix || qcow2_sync_file(q, err);
}

/* What COPIED should be, after the counts are right. */
static u64 with_copied(const Check *c, u64 entry)
{
    u64 at = entry & OFF_MASK, k = at >> c->q->cluster_bits;

    if ((entry & COMPRESSED) || !at || at % c->q->cluster || k >= c->clusters)
        return entry;
    return (entry & ~COPIED) | (c->refs[k] == 1 ? COPIED : 0);
}

static void note_copied(Check *c, u64 entry, bool fix)
{
    *(fix ? &c->out->fixed_corruptions : &c->out->corruptions) += 1;
    c->out->copied_missing += !fix && !(entry & COPIED);
    say(c, "ERROR: the COPIED bit of %#llx does not fit its reference count", (unsigned long long)entry);
}

static bool check_copied(Check *c, bool fix, Error *err)
{
    Qcow2 *q = c->q;

    for (u32 i = 0; i < q->l1_size; i++) {
        u64 at = q->l1[i] & OFF_MASK, want = with_copied(c, q->l1[i]);
        bool changed = false;
        u8 entry[8];

        if (!at || at % q->cluster || at >> q->cluster_bits >= c->clusters)
            continue;
        if (want != q->l1[i]) {
            note_copied(c, q->l1[i], fix);
            put64(entry, want);
            if (fix) {
                q->l1[i] = want;
                if (!host_file_write(q->f, q->l1_at + i * 8ull, entry, 8, err))
                    return false;
            }
        }
        if (c->refs[at >> q->cluster_bits] > q->snapshots + 1 || !read_cluster(c, at, c->table))
            continue;
        for (u64 k = 0; k < q->cluster / 8; k++) {
            u64 old = be64(c->table + k * 8);

            want = with_copied(c, old);
            if (want == old)
                continue;
            note_copied(c, old, fix);
            put64(c->table + k * 8, want);
            changed = true;
        }
        if (fix && changed && !host_file_write(q->f, at, c->table, q->cluster, err))
            return false;
    }
    return !fix || qcow2_sync_file(q, err);
}

static bool clear_marks(Qcow2 *q, Error *err)
{
    u8 bits[8];

    q->incompatible &= ~(u64)(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
    put64(bits, q->incompatible);
    return q->version < 3 || (host_file_write(q->f, 72, bits, 8, err) && qcow2_sync_file(q, err));
}

bool qcow2_check(Qcow2 *q, int fix, void (*say_line)(const char *line), Qcow2Check *out, Error *err)
{
    Check c = { .q = q, .out = out, .say = say_line, .clusters = q->file_end >> q->cluster_bits };
    bool ok;

    memset(out, 0, sizeof(*out));
    out->total = (q->size + q->cluster - 1) >> q->cluster_bits;
    if (c.clusters > CLUSTERS_MAX)
        return error_set(err, "%.300s: the file is too large to be checked", q->name);
    c.refs = calloc(c.clusters + 1, sizeof(u32));
    if (!c.refs)
        return error_set(err, "out of memory");
    c.table = block_alloc(q->cluster);
    ok = count_all(&c, err);
    /* with tables that lead nowhere or overlap, the counts that follow from them help nobody */
    if (ok && (fix & FIX_ERRORS))
        ok = make_blocks(&c, err);
    ok = ok && compare(&c, fix, err) && check_copied(&c, fix & FIX_ERRORS, err);
    if (ok && (fix & FIX_ERRORS) && !out->corruptions && !out->errors)
        ok = clear_marks(q, err);
    free(c.refs);
    free(c.table);
    meta_drop_all(q);
    return ok;
}
