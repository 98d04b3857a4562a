/*
 * From the guest's disk to the file: the L1 table in memory, L2 tables from the cache.
 *
 *      guest offset:   | L1 index | L2 index (cluster_bits - 3) | offset in the cluster (cluster_bits) |
 *      L2 entry:       63 COPIED   62 COMPRESSED   55..9 host offset   0 ZERO (version 3)
 *      compressed:     62, then from bit 61 down the number of further 512-byte sectors and the byte offset
 */
#include "qcow2.h"

#include <string.h>
#include <zlib.h>

static u64 l1_index(const Qcow2 *q, u64 guest) { return guest >> (2 * q->cluster_bits - 3); }

static u64 l2_index(const Qcow2 *q, u64 guest)
{
    return guest >> q->cluster_bits & ((q->cluster >> 3) - 1);
}

void map_compressed_place(const Qcow2 *q, u64 entry, u64 *at, u32 *bytes)
{
    u32 shift = 62 - (q->cluster_bits - 8);

    *at = entry & ((1ull << shift) - 1);
    *bytes = (u32)((((entry & (COMPRESSED - 1)) >> shift) + 1) * SECTOR - *at % SECTOR);
}

/* One entry; false: it can't be true. */
static bool decode(const Qcow2 *q, u64 entry, Map *map)
{
    u64 off = entry & OFF_MASK;

    map->entry = entry;
    map->copied = false;
    map->at = off;
    if (entry & COMPRESSED) {
        u32 bytes;

        map->kind = MAP_COMPRESSED;
        map_compressed_place(q, entry, &map->at, &bytes);
        return map->at >= q->cluster && map->at < q->file_end && !(entry & COPIED);
    }
    if (off % q->cluster || (q->version < 3 && (entry & ZERO)))
        return false;
    map->copied = off && (entry & COPIED);
    map->kind = entry & ZERO ? MAP_ZERO : off ? MAP_DATA : MAP_BACKING;
    return !off || off >> 55 == 0;
}

static bool follows(const Qcow2 *q, const Map *first, const Map *next, u64 clusters)
{
    if (next->kind != first->kind || first->kind == MAP_COMPRESSED)
        return false;
    return first->kind != MAP_DATA ||
           (next->copied == first->copied && next->at == first->at + (clusters << q->cluster_bits));
}

Step map_lookup(Qcow2 *q, u64 guest, u64 bytes, Map *map)
{
    u64 i1 = l1_index(q, guest), i = l2_index(q, guest), in = guest & (q->cluster - 1), n = 1;
    u64 per = q->cluster >> 3, l2_at;
    Meta *l2;
    Step step;

    if (i1 >= q->l1_size)
        return qcow2_damaged(q, "the disk is larger than its L1 table");
    l2_at = q->l1[i1] & OFF_MASK;
    if (!l2_at) {
        u64 left = ((per - i) << q->cluster_bits) - in;

        *map = (Map){ .kind = MAP_BACKING, .bytes = bytes < left ? bytes : left };
        return STEP_OK;
    }
    step = meta_get(q, l2_at, true, &l2);
    if (step != STEP_OK)
        return step;
    if (!decode(q, be64(l2->data + i * 8), map))
        return qcow2_damaged(q, "a wrong L2 entry for disk offset %llu: %llx", (unsigned long long)guest,
                             (unsigned long long)be64(l2->data + i * 8));
    while (i + n < per && (n << q->cluster_bits) - in < bytes) {
        Map next;

        if (!decode(q, be64(l2->data + (i + n) * 8), &next) || !follows(q, map, &next, n))
            break;
        n++;
    }
    map->bytes = (n << q->cluster_bits) - in;
    if (map->bytes > bytes)
        map->bytes = bytes;
    if (map->kind == MAP_DATA)
        map->at += in;
    return STEP_OK;
}

static void l1_set(Qcow2 *q, u64 i, u64 entry)
{
    q->l1[i] = entry;
    if (q->l1_dirty_from >= q->l1_dirty_to) {
        q->l1_dirty_from = (u32)i;
        q->l1_dirty_to = (u32)i + 1;
    }
    if (i < q->l1_dirty_from)
        q->l1_dirty_from = (u32)i;
    if (i >= q->l1_dirty_to)
        q->l1_dirty_to = (u32)i + 1;
}

/* The L2 table that may be changed: made where there is none, copied where a snapshot shares it. */
Step map_table_for_write(Qcow2 *q, u64 guest, Meta **l2)
{
    u64 i1 = l1_index(q, guest), old, first, got;
    Meta *from = NULL;
    Step step = STEP_OK;

    if (i1 >= q->l1_size)
        return qcow2_damaged(q, "the disk is larger than its L1 table");
    old = q->l1[i1];
    if (old & OFF_MASK)
        step = meta_get(q, old & OFF_MASK, true, &from);
    if (step != STEP_OK)
        return step;
    if (from && (old & COPIED)) {
        *l2 = from;
        return STEP_OK;
    }
    if (from)
        from->pins++;
    step = ref_alloc(q, 1, &first, &got);
    if (from)
        from->pins--;
    if (step != STEP_OK)
        return step;
    if (from)
        from->pins++;
    *l2 = meta_new(q, first << q->cluster_bits, true);
    if (from) {
        from->pins--;
        memcpy((*l2)->data, from->data, q->cluster);
        ref_free_later(q, (old & OFF_MASK) >> q->cluster_bits);
        meta_drop(q, old & OFF_MASK);
    }
    l1_set(q, i1, first << q->cluster_bits | COPIED);
    return STEP_OK;
}

void map_set(Qcow2 *q, Meta *l2, u64 guest, u64 entry)
{
    u8 *p = l2->data + l2_index(q, guest) * 8;
    u64 old = be64(p);

    put64(p, entry);
    meta_dirty(l2);
    if (!(old & COMPRESSED) && (old & OFF_MASK) == (entry & OFF_MASK) && !(entry & COMPRESSED))
        return;
    ref_free_entry(q, old);
}

/* Raw deflate with a window of 4 KiB, as the specification asks for; a whole cluster or nothing. */
bool qcow2_inflate(Qcow2 *q, const u8 *in, u32 in_bytes, u8 *out)
{
    z_stream z = { .next_in = (u8 *)in, .avail_in = in_bytes, .next_out = out, .avail_out = (u32)q->cluster };
    int end;

    if (inflateInit2(&z, -12) != Z_OK)
        return false;
    end = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (end == Z_STREAM_END || end == Z_BUF_ERROR) && !z.avail_out;
}
