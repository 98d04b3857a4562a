/*
 * A commit writes what is dirty, so that after a power cut between any two writes the image is sound: tables
 * on the disk never refer to anything that is not there and counted.
 *
 *      1  refcount blocks         sync     (this sync also brings the guest's data to the disk)
 *      2  refcount table          sync     only if a block was added
 *      3  header: its new place   sync     only if the table has moved
 *      4  L2 tables               sync
 *      5  L1 entries              sync     only if an L2 table was added or copied
 *      6  what was given up is counted down, in memory: the next commit writes that
 *
 * Counts on the disk are therefore right or too high: the worst that a power cut leaves is a leak. A cluster
 * is used again only after step 6. A step that fails leaves its tables dirty, and the next commit begins
 * anew.
 */
#include "qcow2.h"

#include <stdlib.h>
#include <string.h>

enum {
    IDLE,
    REFS,
    REFS_SYNC,
    REFT_WRITE,
    REFT_SYNC,
    HEAD_WRITE,
    HEAD_SYNC,
    L2_WRITE,
    L2_SYNC,
    L1_WRITE,
    L1_SYNC,
    COUNT_DOWN
};

bool commit_needed(const Qcow2 *q)
{
    return q->dirty_metas || q->reft_dirty || q->freed_count || q->l1_dirty_from < q->l1_dirty_to;
}

static void written(Qcow2 *q, const HostIo *io)
{
    q->commit_pending--;
    if (!io->ok || (io->kind == HOST_IO_WRITE && io->transferred < io->bytes)) {
        qcow2_damaged(q, "tables can't be written: %s", io->ok ? "no space left" : io->err.text);
        q->commit_failed = true;
        q->no_space = io->ok || io->no_space;
    }
    qcow2_pump(q);
}

static void meta_written(HostIo *io) { written(((Meta *)io->opaque)->q, io); }
static void table_written(HostIo *io) { written(io->opaque, io); }

static void write_metas(Qcow2 *q, bool l2)
{
    for (Meta *meta = q->oldest; meta; meta = meta->newer) {
        if (!meta->dirty || meta->l2 != l2)
            continue;
        meta->io = (HostIo){ .kind = HOST_IO_WRITE, .file = q->f, .offset = meta->at, .buf = meta->data,
                             .bytes = (u32)q->cluster, .done = meta_written, .opaque = meta };
        q->commit_pending++;
        host_io_submit(&meta->io);
    }
}

static void mark_clean(Qcow2 *q, bool l2)
{
    for (Meta *meta = q->oldest; meta; meta = meta->newer) {
        if (meta->dirty && meta->l2 == l2) {
            meta->dirty = false;
            q->dirty_metas--;
        }
    }
}

static bool any_dirty(const Qcow2 *q, bool l2)
{
    for (Meta *meta = q->oldest; meta; meta = meta->newer) {
        if (meta->dirty && meta->l2 == l2)
            return true;
    }
    return false;
}

static void submit(Qcow2 *q, HostIoKind kind, u64 at, void *buf, u32 bytes)
{
    q->commit_io = (HostIo){ .kind = kind, .file = q->f, .offset = at, .buf = buf, .bytes = bytes,
                             .done = table_written, .opaque = q };
    q->commit_pending++;
    host_io_submit(&q->commit_io);
}

static void submit_table(Qcow2 *q, u64 at, const u64 *from, u32 count, u32 room)
{
    free(q->commit_buf);
    q->commit_buf = block_alloc(room ? (size_t)room * 8 : 8);
    for (u32 i = 0; i < count; i++)
        put64(q->commit_buf + i * 8, from[i]);
    submit(q, HOST_IO_WRITE, at, q->commit_buf, room * 8);
}

/* The table's place and size lie side by side in the header's first sector. */
static void submit_head(Qcow2 *q)
{
    free(q->commit_buf);
    q->commit_buf = block_alloc(12);
    put64(q->commit_buf, q->reft_at);
    put32(q->commit_buf + 8, q->reft_clusters);
    submit(q, HOST_IO_WRITE, 48, q->commit_buf, 12);
}

static void table_has_moved(Qcow2 *q)
{
    q->reft_moved = false;
    for (u32 i = 0; i < q->reft_old_clusters; i++) {
        u64 at = q->reft_old_at + (u64)i * q->cluster;

        meta_drop(q, at);
        ref_free_later(q, at >> q->cluster_bits);
    }
}

/* Does what the phase asks for and goes to the next one. */
static Step run_phase(Qcow2 *q)
{
    u32 entries = q->reft_clusters << (q->cluster_bits - 3);
    Step step;

    switch (q->phase++) {
    case IDLE:
        q->no_space = false;
        step = ref_grow_table(q);
        if (step != STEP_OK)
            q->phase = IDLE;
        return step;
    case REFS:
        write_metas(q, false);
        break;
    case REFS_SYNC:
    case REFT_SYNC:
    case HEAD_SYNC:
    case L2_SYNC:
    case L1_SYNC:
        submit(q, HOST_IO_FLUSH, 0, NULL, 0);
        break;
    case REFT_WRITE:
        mark_clean(q, false);
        if (q->reft_dirty)
            submit_table(q, q->reft_at, q->reft, q->reft_used, q->reft_moved ? entries : q->reft_used);
        else
            q->phase = L2_WRITE;
        break;
    case HEAD_WRITE:
        q->reft_dirty = false;
        if (q->reft_moved)
            submit_head(q);
        else
            q->phase = L2_WRITE;
        break;
    case L2_WRITE:
        if (q->reft_moved)
            table_has_moved(q);
        write_metas(q, true);
        if (!any_dirty(q, true))
            q->phase = L1_WRITE;
        break;
    case L1_WRITE:
        mark_clean(q, true);
        if (q->l1_dirty_from < q->l1_dirty_to)
            submit_table(q, q->l1_at + q->l1_dirty_from * 8ull, q->l1 + q->l1_dirty_from,
                         q->l1_dirty_to - q->l1_dirty_from, q->l1_dirty_to - q->l1_dirty_from);
        else
            q->phase = COUNT_DOWN;
        break;
    case COUNT_DOWN:
        q->l1_dirty_from = q->l1_dirty_to = 0;
        step = ref_apply_freed(q);
        if (step != STEP_OK)
            q->phase = COUNT_DOWN;
        return step;
    }
    return STEP_OK;
}

/* Nothing else changes the map until it has ended. */
Step commit_step(Qcow2 *q)
{
    if (q->writes)
        return STEP_WAIT;
    do {
        Step step;

        if (q->commit_pending)
            return STEP_WAIT;
        if (q->commit_failed) {
            /* the reft_dirty of a table that could not be synced */
            q->reft_dirty |= q->reft_moved || q->phase == HEAD_WRITE;
            q->commit_failed = false;
            q->phase = IDLE;
            return STEP_FAIL;
        }
        step = run_phase(q);
        if (step != STEP_OK)
            return step;
    } while (q->phase <= COUNT_DOWN);
    q->phase = IDLE;
    return STEP_OK;
}
