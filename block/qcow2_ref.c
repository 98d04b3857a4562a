/*
 * Reference counts: how often each cluster of the file is referred to. The refcount table in memory may have
 * grown past its place on disk: the next commit moves it (ref_grow_table). New refcount blocks lie at the
 * first cluster that they count, or behind the row that needs them.
 */
#include "qcow2.h"

#include <stdlib.h>
#include <string.h>

u64 ref_max(const Qcow2 *q)
{
    return q->ref_order == 6 ? ~0ull : (1ull << (1u << q->ref_order)) - 1;
}

u64 ref_read(const Qcow2 *q, const u8 *block, u64 i)
{
    u32 bits = 1u << q->ref_order;

    switch (q->ref_order) {
    case 3: return block[i];
    case 4: return (u64)block[i * 2] << 8 | block[i * 2 + 1];
    case 5: return be32(block + i * 4);
    case 6: return be64(block + i * 8);
    default: return block[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
    }
}

void ref_write(const Qcow2 *q, u8 *block, u64 i, u64 n)
{
    u32 bits = 1u << q->ref_order, shift = (u32)(i * bits % 8);
    u8 *p = block + i * bits / 8;

    switch (q->ref_order) {
    case 3: *p = (u8)n; break;
    case 4: p[0] = (u8)(n >> 8); p[1] = (u8)n; break;
    case 5: put32(p, (u32)n); break;
    case 6: put64(p, n); break;
    default: *p = (u8)((*p & ~(((1u << bits) - 1) << shift)) | n << shift);
    }
}

/* NULL in *block: there is none, all of its counts are 0. */
static Step block_of(Qcow2 *q, u64 cluster, Meta **block)
{
    u64 n = cluster / ref_per_block(q);

    *block = NULL;
    if (n >= q->reft_used || !q->reft[n])
        return STEP_OK;
    return meta_get(q, q->reft[n], false, block);
}

Step ref_get(Qcow2 *q, u64 cluster, u64 *count)
{
    Meta *block;
    Step step = block_of(q, cluster, &block);

    if (step == STEP_OK)
        *count = block ? ref_read(q, block->data, cluster % ref_per_block(q)) : 0;
    return step;
}

static bool table_room(Qcow2 *q, u64 n)
{
    if (n < q->reft_size)
        return true;
    if (n >= REFT_MAX / 8)
        return false;
    u32 size = (u32)(n * 3 / 2 + 64);
    u64 *bigger = block_alloc(sizeof(u64) * size);

    memcpy(bigger, q->reft, sizeof(u64) * q->reft_used);
    free(q->reft);
    q->reft = bigger;
    q->reft_size = size;
    return true;
}

/* Makes the refcount block for a cluster that has none, at a place that is free. */
static bool make_block(Qcow2 *q, u64 cluster, u64 at_cluster)
{
    u64 n = cluster / ref_per_block(q);

    if (!table_room(q, n))
        return false;
    if (n >= q->reft_used)
        q->reft_used = (u32)n + 1;
    q->reft[n] = at_cluster << q->cluster_bits;
    q->reft_dirty = true;
    meta_new(q, q->reft[n], false);
    if ((at_cluster + 1) << q->cluster_bits > q->file_end)
        q->file_end = (at_cluster + 1) << q->cluster_bits;
    return true;
}

Step ref_add(Qcow2 *q, u64 cluster, int by)
{
    Meta *block;
    Step step = block_of(q, cluster, &block);
    u64 i = cluster % ref_per_block(q), count;

    if (step != STEP_OK)
        return step;
    if (!block)
        return qcow2_damaged(q, "cluster %llu is in use, but not counted", (unsigned long long)cluster);
    count = ref_read(q, block->data, i);
    if (by < 0 && !count)
        return qcow2_damaged(q, "cluster %llu is in use, but its reference count is 0",
                             (unsigned long long)cluster);
    if (by > 0 && count == ref_max(q))
        return STEP_FAIL;
    ref_write(q, block->data, i, by < 0 ? count - 1 : count + 1);
    meta_dirty(block);
    if (by < 0 && count == 1 && cluster < q->free_hint)
        q->free_hint = cluster;
    return STEP_OK;
}

/* From the first free cluster on, as many as are free in a row within one refcount block. */
static Step first_free(Qcow2 *q, Meta **block)
{
    u64 per = ref_per_block(q);

    for (;;) {
        u64 i = q->free_hint % per;
        Step step = block_of(q, q->free_hint, block);

        if (step != STEP_OK)
            return step;
        if (!*block) {
            u64 first = q->free_hint - i;

            if (meta_set_has(q, first)) {
                q->corrupt = true;
                return qcow2_damaged(q, "a table lies where the reference counts say that nothing is");
            }
            if (first >= (1ull << 55 >> q->cluster_bits) || !make_block(q, first, first))
                return STEP_FAIL;
            ref_write(q, q->newest->data, 0, 1);
            continue;
        }
        while (i < per && ref_read(q, (*block)->data, i))
            i++;
        q->free_hint = q->free_hint / per * per + i;
        if (i < per)
            return STEP_OK;
    }
}

Step ref_alloc(Qcow2 *q, u64 want, u64 *first, u64 *got)
{
    u64 per = ref_per_block(q), i;
    Meta *block;
    Step step;

    if (q->corrupt)
        return STEP_FAIL;
    step = first_free(q, &block);
    if (step != STEP_OK)
        return step;
    *first = q->free_hint;
    for (*got = 0, i = *first % per; *got < want && i < per && !ref_read(q, block->data, i); i++, ++*got) {
        if (meta_set_has(q, *first + *got)) {
            q->corrupt = true;
            return qcow2_damaged(q, "a table lies where the reference counts say that nothing is");
        }
    }
    for (u64 k = 0; k < *got; k++)
        ref_write(q, block->data, *first % per + k, 1);
    meta_dirty(block);
    q->free_hint = *first + *got;
    if (q->free_hint << q->cluster_bits > q->file_end)
        q->file_end = q->free_hint << q->cluster_bits;
    return STEP_OK;
}

/* How many of the row's refcount blocks are missing; false: some of it is in use. */
static Step row_is_free(Qcow2 *q, u64 first, u64 count, u64 *missing, bool *is_free)
{
    *missing = 0;
    *is_free = true;
    for (u64 c = first; c < first + count && *is_free;) {
        u64 per = ref_per_block(q), end = (c / per + 1) * per;
        Meta *block;
        Step step = block_of(q, c, &block);

        if (step != STEP_OK)
            return step;
        *missing += !block;
        for (; c < end && c < first + count; c++) {
            if ((block && ref_read(q, block->data, c % per)) || meta_set_has(q, c))
                *is_free = false;
        }
    }
    return STEP_OK;
}

Step ref_alloc_row(Qcow2 *q, u64 count, u64 *row)
{
    u64 first = q->file_end >> q->cluster_bits, blocks = 0, missing, made = 0, per = ref_per_block(q);
    bool is_free;

    for (;;) {
        Step step = row_is_free(q, first, count + blocks, &missing, &is_free);

        if (step != STEP_OK)
            return step;
        if (is_free && missing <= blocks)
            break;
        if (!is_free)
            first++;
        blocks = missing;
    }
    if (!table_room(q, (first + count + blocks) / per) || (first + count + blocks) >> (55 - q->cluster_bits))
        return STEP_FAIL;
    for (u64 c = first; c < first + count + blocks; c = (c / per + 1) * per) {
        if (c / per >= q->reft_used || !q->reft[c / per])
            make_block(q, c, first + count + made++);
    }
    for (u64 c = first; c < first + count + made; c++) {
        Meta *block;
        Step step = block_of(q, c, &block);

        if (step != STEP_OK)        /* all of them were there a moment ago, or are dirty */
            return step;
        ref_write(q, block->data, c % per, 1);
        meta_dirty(block);
    }
    q->file_end = (first + count + made) << q->cluster_bits;
    *row = first;
    return STEP_OK;
}

Step ref_grow_table(Qcow2 *q)
{
    u64 entries = (u64)q->reft_clusters * q->cluster / 8, clusters, first, per = ref_per_block(q);
    Step step;

    /* entries behind the last one in use need no place */
    if (q->reft_used <= entries)
        return STEP_OK;
    clusters = ((u64)q->reft_used * 3 / 2 + 16) * 8 / q->cluster + 1;
    clusters += clusters / per * 8 / q->cluster + 1;
    if (clusters * q->cluster > REFT_MAX)
        clusters = REFT_MAX / q->cluster;
    if (clusters * q->cluster / 8 < q->reft_used)
        return STEP_FAIL;
    step = ref_alloc_row(q, clusters, &first);
    if (step != STEP_OK)
        return step;
    for (u64 c = 0; q->reft_moved && c < q->reft_clusters; c++)     /* a place that was never published */
        ref_free_later(q, (q->reft_at >> q->cluster_bits) + c);
    if (!q->reft_moved) {
        q->reft_old_at = q->reft_at;
        q->reft_old_clusters = q->reft_clusters;
    }
    q->reft_at = first << q->cluster_bits;
    q->reft_clusters = (u32)clusters;
    q->reft_dirty = q->reft_moved = true;
    for (u64 c = first; c < first + clusters; c++)
        meta_set_add(q, c);
    return STEP_OK;
}

void ref_free_later(Qcow2 *q, u64 cluster)
{
    if (q->freed_count == q->freed_room) {
        u32 room = q->freed_room ? q->freed_room * 2 : 256;
        u64 *bigger = block_alloc(sizeof(u64) * room);

        if (q->freed_count)
            memcpy(bigger, q->freed, sizeof(u64) * q->freed_count);
        free(q->freed);
        q->freed = bigger;
        q->freed_room = room;
    }
    q->freed[q->freed_count++] = cluster;
}

void ref_free_entry(Qcow2 *q, u64 entry)
{
    u64 at = entry & OFF_MASK;

    if (entry & COMPRESSED) {
        u32 bytes;

        map_compressed_place(q, entry, &at, &bytes);
        for (u64 c = at >> q->cluster_bits; c <= (at + bytes - 1) >> q->cluster_bits; c++)
            ref_free_later(q, c);
    } else if (at) {
        ref_free_later(q, at >> q->cluster_bits);
    }
}

/* A count that is wrong already is said and passed over. */
Step ref_apply_freed(Qcow2 *q)
{
    while (q->freed_count) {
        if (ref_add(q, q->freed[q->freed_count - 1], -1) == STEP_WAIT)
            return STEP_WAIT;
        q->freed_count--;
    }
    return STEP_OK;
}
