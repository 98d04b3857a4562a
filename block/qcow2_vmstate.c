/*
 * A machine's state beside the disk of an internal snapshot. It lies where the published specification has it:
 * like disk data, from the first L1 entry behind the disk on, in the snapshot's own L1 table only.
 *
 *      begin    everything the disk refers to is counted up, COPIED is taken away: the guest's next writes go
 *               elsewhere. So are the clusters of the state that are shared with an earlier snapshot
 *      write    new clusters for the state, while the guest runs and writes to its disk
 *      end      L2 tables for the state, an L1 table, the snapshot table, then the header's one sector
 *
 * Before the header tells of it, a snapshot that a power cut leaves is nothing but clusters that are counted
 * and not used. Blocking, nothing in flight, except for the writing.
 */
#include "qcow2.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { VM_BLOCK_MIN = 65536, PLACES_MAX = 1 << 26 };

typedef struct {
    BlkSave save;
    Qcow2 *q;
    u64 *l1;                        /* the disk's part, as it was */
    u32 l1_size;
    u64 disk_bytes;
    u64 *place;                     /* of each cluster of the state; 0: not written */
    u64 places, room;
} Save;

static u32 block_bytes(BlkImage *img)
{
    u64 cluster = ((Qcow2 *)img)->cluster;

    return cluster > VM_BLOCK_MIN ? (u32)cluster : VM_BLOCK_MIN;
}

static void copy_text(char *to, size_t size, const char *from)
{
    size_t n = strlen(from);

    n = n < size ? n : size - 1;
    memcpy(to, from, n);
    to[n] = 0;
}

static bool list_snapshots(BlkImage *img, BlkSnapshot **out, u32 *count, Error *err)
{
    Qcow2 *q = (Qcow2 *)img;
    Snapshot *list;

    if (!snapshots_read(q, &list, err))
        return false;
    *count = q->snapshots;
    *out = block_alloc(sizeof(**out) * (q->snapshots + 1ull));
    for (u32 i = 0; i < q->snapshots; i++) {
        BlkSnapshot *s = &(*out)[i];

        copy_text(s->id, sizeof(s->id), list[i].id);
        copy_text(s->name, sizeof(s->name), list[i].name);
        s->date_s = list[i].date_s;
        s->date_ns = list[i].date_ns;
        s->clock_ns = list[i].clock_ns;
        s->vm_bytes = list[i].vm_bytes;
    }
    snapshots_free(list, q->snapshots);
    return true;
}

/* ---- where the state of a snapshot lies ---- */

static bool place_of(Qcow2 *q, const u64 *l1, u32 l1_size, u64 n, u64 *at, Error *err)
{
    u64 per = q->cluster / 8, i1 = n / per, entry;
    Meta *l2;

    if (i1 >= l1_size || !(l1[i1] & OFF_MASK))
        return error_set(err, "%.300s: the machine's state is cut short", q->name);
    if (!NOW(q, meta_get(q, l1[i1] & OFF_MASK, true, &l2), err))
        return false;
    entry = be64(l2->data + n % per * 8);
    *at = entry & OFF_MASK;
    if ((entry & (COMPRESSED | ZERO)) || *at % q->cluster || *at < q->cluster || *at >= q->file_end)
        return error_set(err, "%.300s: the machine's state is not where its tables say", q->name);
    return true;
}

/* The host offsets of clusters [first, first + count) of a snapshot's state. malloc'ed; NULL and err. */
static u64 *state_places(Qcow2 *q, const Snapshot *s, u64 first, u64 count, Error *err)
{
    u64 *l1, *place = NULL, start = (u64)l1_entries_for(q, s->disk_bytes) * (q->cluster / 8);
    bool ok = true;

    if (count > PLACES_MAX || first > PLACES_MAX || count << q->cluster_bits > q->file_end) {
        error_set(err, "%.300s: the machine's state is larger than the file", q->name);
        return NULL;
    }
    l1 = snapshot_l1(q, s, err);
    if (!l1)
        return NULL;
    place = block_alloc(sizeof(u64) * (count + 1));
    for (u64 i = 0; ok && i < count; i++)
        ok = place_of(q, l1, s->l1_size, start + first + i, &place[i], err);
    free(l1);
    if (!ok) {
        free(place);
        return NULL;
    }
    return place;
}

static bool read_places(Qcow2 *q, const u64 *place, u64 skip, u8 *buf, u64 bytes, Error *err)
{
    for (u64 i = 0, done = 0; done < bytes;) {
        u64 n = q->cluster, from = place[i] + skip;

        while (n < 1u << 24 && n < bytes - done + skip && place[i + 1] == place[i] + q->cluster) {
            n += q->cluster;
            i++;
        }
        n -= skip;
        if (n > bytes - done)
            n = bytes - done;
        if (!host_file_read(q->f, from, buf + done, n, err))
            return error_prefix(err, "%.300s: the machine's state", q->name);
        done += n;
        skip = 0;
        i++;
    }
    return true;
}

static bool read_state(BlkImage *img, const char *id, u64 offset, void *buf, u64 bytes, Error *err)
{
    Qcow2 *q = (Qcow2 *)img;
    u64 first = offset >> q->cluster_bits, end = (offset + bytes + q->cluster - 1) >> q->cluster_bits, *place;
    Snapshot *list;
    u32 i;
    bool ok;

    if (!snapshots_read(q, &list, err))
        return false;
    ok = snapshot_index(q, id, list, &i, err) &&
         ((offset <= list[i].vm_bytes && bytes <= list[i].vm_bytes - offset) ||
          error_set(err, "%.300s: the machine's state is cut short", q->name));
    place = ok ? state_places(q, &list[i], first, end - first, err) : NULL;
    ok = place && read_places(q, place, offset & (q->cluster - 1), buf, bytes, err);
    free(place);
    snapshots_free(list, q->snapshots);
    return ok;
}

/* ---- saving ---- */

static void places_room(Save *s, u64 clusters)
{
    u64 room = s->room ? s->room : 1024;
    u64 *bigger;

    if (clusters <= s->room)
        return;
    while (room < clusters)
        room *= 2;
    bigger = block_alloc(sizeof(u64) * room);
    if (s->places)
        memcpy(bigger, s->place, sizeof(u64) * s->places);
    free(s->place);
    s->place = bigger;
    s->room = room;
}

void vmstate_set_place(Qcow2 *q, u64 offset, u64 place)
{
    Save *s = (Save *)q->saving;
    u64 n = offset >> q->cluster_bits;

    places_room(s, n + 1);
    s->place[n] = place;
    if (n >= s->places)
        s->places = n + 1;
}

static void save_free(Save *s)
{
    s->q->saving = NULL;
    free(s->l1);
    free(s->place);
    free(s);
}

static bool share_blocks(Save *s, const char *from, const u32 *share, u32 count, Error *err)
{
    Qcow2 *q = s->q;
    u64 per = block_bytes(&q->img) >> q->cluster_bits, most = 0, *place;
    Snapshot *list;
    u32 at;
    bool ok;

    if (!count)
        return true;
    for (u32 i = 0; i < count; i++)
        most = share[i] > most ? share[i] : most;
    if (!snapshots_read(q, &list, err))
        return false;
    ok = snapshot_index(q, from, list, &at, err);
    place = ok ? state_places(q, &list[at], 0, (most + 1) * per, err) : NULL;
    snapshots_free(list, q->snapshots);
    for (u32 i = 0; place && ok && i < count; i++) {
        for (u64 k = 0; ok && k < per; k++) {
            u64 from_at = place[share[i] * per + k];

            ok = NOW(q, ref_add(q, from_at >> q->cluster_bits, 1), err);
            if (ok)
                vmstate_set_place(q, ((i + 1) * per + k) << q->cluster_bits, from_at);
        }
    }
    free(place);
    return ok && place;
}

static BlkSave *save_begin(BlkImage *img, const char *from, const u32 *share, u32 count, Error *err)
{
    Qcow2 *q = (Qcow2 *)img;
    u32 entries = l1_entries_for(q, q->size);
    Save *s;

    if (q->saving) {
        error_set(err, "%.300s: another snapshot is being saved", q->name);
        return NULL;
    }
    if (!snapshot_can_count(q, err) || !qcow2_commit_now(q, err) || !snapshot_set_copied(q, false, err))
        return NULL;
    s = block_alloc(sizeof(*s));
    s->q = q;
    s->l1_size = entries;
    s->disk_bytes = q->size;
    s->l1 = block_alloc(sizeof(u64) * (entries + 1ull));
    memcpy(s->l1, q->l1, sizeof(u64) * entries);
    if (!snapshot_count_tree(q, s->l1, entries, 1, err)) {
        free(s->l1);
        free(s);
        return NULL;                    /* what was counted stays a leak */
    }
    q->saving = &s->save;
    if (share_blocks(s, from, share, count, err) && qcow2_commit_now(q, err))
        return &s->save;
    qcow2_snapshot_ops.abort(&s->save);
    return NULL;
}

static void save_write(BlkSave *save, BlkReq *req)
{
    req->op = (BlkOp)BLK_VM_WRITE;
    image_submit(&((Save *)save)->q->img, req);
}

/* The state is given up; what can't be counted down is a leak. */
static void save_abort(BlkSave *save)
{
    Save *s = (Save *)save;
    Qcow2 *q = s->q;
    Error err;

    for (u64 i = 0; i < s->places; i++) {
        if (s->place[i])
            ref_free_later(q, s->place[i] >> q->cluster_bits);
    }
    if (!snapshot_count_tree(q, s->l1, s->l1_size, -1, &err) || !qcow2_commit_now(q, &err) ||
        !snapshot_set_copied(q, true, &err) || !snapshot_settle(q, &err))
        log_line("%s: %s", q->name, err.text);
    save_free(s);
}

/* L2 tables for the state; their places go to l1[entries..]. */
static bool write_tables(Save *s, u64 *l1, Error *err)
{
    Qcow2 *q = s->q;
    u64 per = q->cluster / 8;
    u8 *table = block_alloc(q->cluster);
    bool ok = true;

    for (u64 first = 0; ok && first < s->places; first += per) {
        u64 n = s->places - first < per ? s->places - first : per, cluster, got;

        memset(table, 0, q->cluster);
        for (u64 i = 0; i < n; i++)
            put64(table + i * 8, s->place[first + i]);
        ok = NOW(q, ref_alloc(q, 1, &cluster, &got), err);
        if (ok)
            meta_drop(q, cluster << q->cluster_bits);   /* what an earlier table there left in the cache */
        ok = ok && (host_file_write(q->f, cluster << q->cluster_bits, table, q->cluster, err) ||
                    error_prefix(err, "%.300s", q->name));
        if (ok)
            l1[s->l1_size + first / per] = cluster << q->cluster_bits;
    }
    free(table);
    return ok;
}

static void set_times(Snapshot *to, u8 extra[24], const Save *s, const BlkSnapshot *row)
{
    to->date_s = row->date_s;
    to->date_ns = row->date_ns;
    to->clock_ns = row->clock_ns;
    to->vm_bytes = row->vm_bytes;
    to->disk_bytes = s->disk_bytes;
    put64(extra, row->vm_bytes);
    put64(extra + 8, s->disk_bytes);
    put64(extra + 16, ~0ull);           /* no instruction count is recorded */
    to->extra = extra;
    to->extra_bytes = 24;
}

/* The table with the new row at its end, or in the place of one with the same name. *old: that one. */
static Snapshot *new_list(Qcow2 *q, const Snapshot *list, Snapshot *row, char id[24], u32 *count, Snapshot *old)
{
    Snapshot *all = block_alloc(sizeof(*all) * (q->snapshots + 1ull));
    u32 i = 0;

    memcpy(all, list, sizeof(*all) * q->snapshots);
    while (i < q->snapshots && strcmp(all[i].name, row->name))
        i++;
    *old = (Snapshot){ 0 };
    *count = q->snapshots + (i == q->snapshots);
    if (i < q->snapshots) {
        *old = all[i];
        row->id = all[i].id;
    } else {
        snapshot_free_id(list, q->snapshots, id);
        row->id = id;
    }
    all[i] = *row;
    return all;
}

static bool give_up_row(Qcow2 *q, const Snapshot *old, Error *err)
{
    u64 *l1 = old->name ? snapshot_l1(q, old, err) : NULL;
    bool ok;

    if (!old->name)
        return true;
    ok = l1 && snapshot_count_tree(q, l1, old->l1_size, -1, err);
    if (ok)
        snapshot_free_l1(q, old->l1_at, old->l1_size);
    free(l1);
    return ok && qcow2_commit_now(q, err) && snapshot_set_copied(q, true, err) && snapshot_settle(q, err);
}

static bool save_end(BlkSave *save, const BlkSnapshot *row, Error *err)
{
    Save *s = (Save *)save;
    Qcow2 *q = s->q;
    u64 per = q->cluster / 8, tables = (s->places + per - 1) / per, *l1;
    u32 before = q->snapshots, count = 0;
    u8 extra[24];
    char id[24];
    Snapshot *list = NULL, *all = NULL, old = { 0 }, mine = { .name = (char *)row->name };
    bool ok;

    set_times(&mine, extra, s, row);
    mine.l1_size = s->l1_size + (u32)tables;
    l1 = block_alloc(sizeof(u64) * (mine.l1_size + 1ull));
    memcpy(l1, s->l1, sizeof(u64) * s->l1_size);
    ok = q->snapshots < SNAPSHOTS_MAX || error_set(err, "%.300s: too many snapshots", q->name);
    ok = ok && (mine.l1_size <= L1_MAX / 8 || error_set(err, "%.300s: the clusters are too small", q->name));
    ok = ok && write_tables(s, l1, err) && snapshot_write_l1(q, l1, mine.l1_size, &mine.l1_at, err) &&
         qcow2_commit_now(q, err) && qcow2_sync_file(q, err) && snapshots_read(q, &list, err);
    if (ok) {
        all = new_list(q, list, &mine, id, &count, &old);
        ok = snapshot_write_table(q, all, count, err);
    }
    if (ok) {
        save_free(s);
        ok = give_up_row(q, &old, err) && snapshot_settle(q, err);
    } else {
        for (u32 i = s->l1_size; i < mine.l1_size && i < L1_MAX / 8; i++) {
            if (l1[i])
                ref_free_later(q, l1[i] >> q->cluster_bits);
        }
        if (mine.l1_at)
            snapshot_free_l1(q, mine.l1_at, mine.l1_size);
        save_abort(save);
    }
    free(all);
    free(l1);
    snapshots_free(list, before);
    return ok;
}

static bool apply(BlkImage *img, const char *id, Error *err) { return snapshot_apply((Qcow2 *)img, id, err); }

static bool remove_one(BlkImage *img, const char *id, Error *err)
{
    return snapshot_delete((Qcow2 *)img, id, err);
}

const BlkSnapshotOps qcow2_snapshot_ops = {
    .list = list_snapshots, .begin = save_begin, .end = save_end, .abort = save_abort, .write = save_write,
    .read = read_state, .apply = apply, .remove = remove_one, .block_bytes = block_bytes,
};
