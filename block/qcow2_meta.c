/*
 * The cache of L2 tables and refcount blocks, and the set of clusters that hold metadata of a writable image.
 * Dirty tables stay until a commit has written them; the clean one that was used longest ago goes first.
 */
#include "qcow2.h"

#include <stdlib.h>
#include <string.h>

static Meta **slot(Qcow2 *q, u64 at)
{
    u64 n = at >> q->cluster_bits;

    return &q->hash[(n ^ n >> 12 ^ n >> 24) % HASH_SIZE];
}

static void unlink_age(Qcow2 *q, Meta *meta)
{
    *(meta->newer ? &meta->newer->older : &q->newest) = meta->older;
    *(meta->older ? &meta->older->newer : &q->oldest) = meta->newer;
    meta->newer = meta->older = NULL;
}

static void link_newest(Qcow2 *q, Meta *meta)
{
    meta->older = q->newest;
    meta->newer = NULL;
    *(q->newest ? &q->newest->newer : &q->oldest) = meta;
    q->newest = meta;
}

static Meta *find(Qcow2 *q, u64 at)
{
    Meta *meta = *slot(q, at);

    while (meta && meta->at != at)
        meta = meta->hash_next;
    return meta;
}

static void discard(Qcow2 *q, Meta *meta)
{
    Meta **p = slot(q, meta->at);

    while (*p != meta)
        p = &(*p)->hash_next;
    *p = meta->hash_next;
    unlink_age(q, meta);
    q->cached_bytes -= q->cluster;
    if (meta->dirty)
        q->dirty_metas--;
    free(meta->data);
    free(meta);
}

static Meta *add(Qcow2 *q, u64 at, bool l2)
{
    Meta *meta = block_alloc(sizeof(*meta)), **p = slot(q, at);

    for (Meta *old = q->oldest; old && q->cached_bytes + q->cluster > CACHE_BYTES;) {
        Meta *newer = old->newer;

        if (!old->dirty && !old->loading && !old->pins)
            discard(q, old);
        old = newer;
    }
    meta->at = at;
    meta->l2 = l2;
    meta->q = q;
    meta->data = block_alloc(q->cluster);
    meta->hash_next = *p;
    *p = meta;
    link_newest(q, meta);
    q->cached_bytes += q->cluster;
    return meta;
}

static void loaded(HostIo *io)
{
    Meta *meta = io->opaque;
    Qcow2 *q = meta->q;

    meta->loading = false;
    if (!io->ok || io->transferred < io->bytes) {
        qcow2_damaged(q, "a table at %llu can't be read: %s", (unsigned long long)meta->at,
                      io->ok ? "the file ends before" : io->err.text);
        q->load_failed_at = meta->at;
        discard(q, meta);
    }
    qcow2_pump(q);
}

Step meta_get(Qcow2 *q, u64 at, bool l2, Meta **out)
{
    Meta *meta = find(q, at);

    if (meta && meta->loading)
        return STEP_WAIT;
    if (meta && meta->l2 != l2)
        return qcow2_damaged(q, "the table at %llu is used for two purposes", (unsigned long long)at);
    if (meta) {
        unlink_age(q, meta);
        link_newest(q, meta);
        *out = meta;
        return STEP_OK;
    }
    if (q->load_failed_at == at) {
        q->load_failed_at = 0;
        return STEP_FAIL;
    }
    if (!at || at % q->cluster || at >= q->file_end)
        return qcow2_damaged(q, "a table at %llu is outside the file", (unsigned long long)at);
    meta = add(q, at, l2);
    meta->loading = true;
    meta->io = (HostIo){ .kind = HOST_IO_READ, .file = q->f, .offset = at, .buf = meta->data,
                         .bytes = (u32)q->cluster, .done = loaded, .opaque = meta };
    host_io_submit(&meta->io);
    return STEP_WAIT;
}

void meta_dirty(Meta *meta)
{
    if (!meta->dirty) {
        meta->dirty = true;
        meta->q->dirty_metas++;
    }
}

Meta *meta_new(Qcow2 *q, u64 at, bool l2)
{
    Meta *meta;

    meta_drop(q, at);
    meta = add(q, at, l2);
    meta_dirty(meta);
    meta_set_add(q, at >> q->cluster_bits);
    return meta;
}

/* ---- which clusters are metadata ---- */

static u32 set_at(const Qcow2 *q, u64 cluster)
{
    u32 i = (u32)((cluster * 0x9e3779b97f4a7c15ull) >> 32) & (q->meta_set_size - 1);

    while (q->meta_set[i] && q->meta_set[i] != cluster + 1)
        i = (i + 1) & (q->meta_set_size - 1);
    return i;
}

bool meta_set_has(const Qcow2 *q, u64 cluster)
{
    return q->meta_set && q->meta_set[set_at(q, cluster)] != 0;
}

static void set_grow(Qcow2 *q)
{
    u64 *old = q->meta_set;
    u32 old_size = q->meta_set_size;

    q->meta_set_size = old_size ? old_size * 2 : 1024;
    q->meta_set = block_alloc(sizeof(u64) * q->meta_set_size);
    for (u32 i = 0; i < old_size; i++) {
        if (old[i])
            q->meta_set[set_at(q, old[i] - 1)] = old[i];
    }
    free(old);
}

bool meta_set_add(Qcow2 *q, u64 cluster)
{
    u32 i;

    if (q->meta_set_used * 2 >= q->meta_set_size)
        set_grow(q);
    i = set_at(q, cluster);
    if (q->meta_set[i])
        return false;
    q->meta_set[i] = cluster + 1;
    q->meta_set_used++;
    return true;
}

static void set_remove(Qcow2 *q, u64 cluster)
{
    u32 i = q->meta_set ? set_at(q, cluster) : 0;

    if (!q->meta_set || !q->meta_set[i])
        return;
    q->meta_set[i] = 0;
    q->meta_set_used--;
    /* what follows in the same chain finds its place again */
    for (u32 k = (i + 1) & (q->meta_set_size - 1); q->meta_set[k]; k = (k + 1) & (q->meta_set_size - 1)) {
        u64 v = q->meta_set[k];

        q->meta_set[k] = 0;
        q->meta_set[set_at(q, v - 1)] = v;
    }
}

void meta_drop(Qcow2 *q, u64 at)
{
    Meta *meta = find(q, at);

    if (meta)
        discard(q, meta);
    set_remove(q, at >> q->cluster_bits);
}

void meta_drop_all(Qcow2 *q)
{
    while (q->oldest)
        discard(q, q->oldest);
}

static bool add_area(Qcow2 *q, u64 at, u64 bytes)
{
    bool ok = true;

    for (u64 c = at >> q->cluster_bits; c < (at + bytes + q->cluster - 1) >> q->cluster_bits; c++)
        ok &= meta_set_add(q, c);
    return ok;
}

static bool entries_ok(Qcow2 *q, Error *err)
{
    for (u32 i = 0; i < q->l1_size; i++) {
        u64 at = q->l1[i] & OFF_MASK;

        if (at && (at % q->cluster || at < q->cluster || at >= q->file_end))
            return error_set(err, "%.300s: L1 entry %u is wrong", q->name, i);
    }
    for (u32 i = 0; i < q->reft_used; i++) {
        u64 at = q->reft[i];

        if (at % q->cluster || at >= q->file_end)
            return error_set(err, "%.300s: refcount table entry %u is wrong", q->name, i);
    }
    return true;
}

bool meta_set_build(Qcow2 *q, Error *err)
{
    bool ok;

    if (!entries_ok(q, err))
        return false;
    free(q->meta_set);
    q->meta_set = NULL;
    q->meta_set_size = q->meta_set_used = 0;
    ok = add_area(q, 0, q->cluster) && add_area(q, q->l1_at, (u64)q->l1_size * 8) &&
         add_area(q, q->reft_at, (u64)q->reft_clusters * q->cluster) &&
         add_area(q, q->snap_at, q->snap_bytes);
    for (u32 i = 0; ok && i < q->reft_used; i++)
        ok = !q->reft[i] || meta_set_add(q, q->reft[i] >> q->cluster_bits);
    for (u32 i = 0; ok && i < q->l1_size; i++)
        ok = !(q->l1[i] & OFF_MASK) || meta_set_add(q, (q->l1[i] & OFF_MASK) >> q->cluster_bits);
    return ok || error_set(err, "%.300s: tables of the image overlap; it is opened read-only at most "
                           "(qemu-img check tells more)", q->name);
}

bool data_place_ok(const Qcow2 *q, u64 at, u64 bytes)
{
    if (at % SECTOR || at < q->cluster || at >= q->file_end || bytes > q->file_end - at)
        return false;
    for (u64 c = at >> q->cluster_bits; c <= (at + bytes - 1) >> q->cluster_bits; c++) {
        if (meta_set_has(q, c))
            return false;
    }
    return true;
}
