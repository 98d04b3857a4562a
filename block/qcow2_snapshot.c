/*
 * Internal snapshots and the disk's size. A snapshot is an L1 table of its own, and one more reference to all
 * that it leads to. Every operation goes by steps that a power cut may fall between: references are counted
 * up before the header's one sector tells of them, and counted down after it no longer does. COPIED is taken
 * away before counts rise and given back after they have fallen.
 *
 * Blocking; nothing is in flight.
 */
#include "qcow2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW = 40, EXTRA_MAX = 1024 };

static char *text_of(const u8 *p, u32 n)
{
    char *s = block_alloc(n + 1);

    memcpy(s, p, n);
    return s;
}

void snapshots_free(Snapshot *list, u32 count)
{
    for (u32 i = 0; list && i < count; i++) {
        free(list[i].id);
        free(list[i].name);
        free(list[i].extra);
    }
    free(list);
}

static bool read_row(Qcow2 *q, u64 *at, Snapshot *s, Error *err)
{
    u8 row[ROW];
    u32 id_bytes, name_bytes, total;
    u8 *rest;

    if (!host_file_read(q->f, *at, row, ROW, err))
        return error_set(err, "%.300s: the snapshot table can't be read", q->name);
    s->l1_at = be64(row);
    s->l1_size = be32(row + 8);
    id_bytes = (u32)row[12] << 8 | row[13];
    name_bytes = (u32)row[14] << 8 | row[15];
    s->date_s = be32(row + 16);
    s->date_ns = be32(row + 20);
    s->clock_ns = be64(row + 24);
    s->vm_bytes = be32(row + 32);
    s->extra_bytes = be32(row + 36);
    if (s->extra_bytes > EXTRA_MAX)
        return error_set(err, "%.300s: a snapshot's extra data is too long", q->name);
    if (s->l1_size > L1_MAX / 8 || s->l1_at % q->cluster || s->l1_at > q->file_end ||
        (u64)s->l1_size * 8 > q->file_end - s->l1_at || (s->l1_size && s->l1_at < q->cluster))
        return error_set(err, "%.300s: a snapshot's L1 table lies outside the file", q->name);
    total = s->extra_bytes + id_bytes + name_bytes;
    rest = block_alloc(total + 1);
    if (total && !host_file_read(q->f, *at + ROW, rest, total, err)) {
        free(rest);
        return error_set(err, "%.300s: the snapshot table can't be read", q->name);
    }
    s->extra = (u8 *)text_of(rest, s->extra_bytes);
    if (s->extra_bytes >= 8)
        s->vm_bytes = be64(rest);
    s->disk_bytes = s->extra_bytes >= 16 ? be64(rest + 8) : q->size;
    s->id = text_of(rest + s->extra_bytes, id_bytes);
    s->name = text_of(rest + s->extra_bytes + id_bytes, name_bytes);
    free(rest);
    *at = round_up(*at + ROW + total, 8);
    return true;
}

bool snapshots_read(Qcow2 *q, Snapshot **list, Error *err)
{
    u64 at = q->snap_at;

    *list = block_alloc(sizeof(**list) * (q->snapshots + 1ull));
    for (u32 i = 0; i < q->snapshots; i++) {
        if (read_row(q, &at, &(*list)[i], err) &&
            (at - q->snap_at <= SNAP_TABLE_MAX ||
             error_set(err, "%.300s: the snapshot table is too long", q->name)))
            continue;
        snapshots_free(*list, q->snapshots);
        *list = NULL;
        return false;
    }
    q->snap_bytes = at - q->snap_at;
    return true;
}

/* ---- going through what an L1 table leads to ---- */

static bool commit_often(Qcow2 *q, Error *err)
{
    return q->dirty_metas << q->cluster_bits < CACHE_BYTES / 2 || qcow2_commit_now(q, err);
}

static bool count_entry(Qcow2 *q, u64 entry, int by, Error *err)
{
    u64 at = entry & OFF_MASK;
    u32 bytes = 1;

    if (entry & COMPRESSED)
        map_compressed_place(q, entry, &at, &bytes);
    if (!at)
        return true;
    for (u64 c = at >> q->cluster_bits; c <= (at + bytes - 1) >> q->cluster_bits; c++) {
        if (!NOW(q, ref_add(q, c, by), err))
            return false;
    }
    return true;
}

bool snapshot_count_tree(Qcow2 *q, const u64 *l1, u32 l1_size, int by, Error *err)
{
    for (u32 i = 0; i < l1_size; i++) {
        u64 at = l1[i] & OFF_MASK;
        bool ok = true;
        Meta *l2;

        if (!at)
            continue;
        if (!NOW(q, meta_get(q, at, true, &l2), err))
            return false;
        l2->pins++;
        for (u64 k = 0; ok && k < q->cluster / 8; k++)
            ok = count_entry(q, be64(l2->data + k * 8), by, err);
        l2->pins--;
        if (!ok || !NOW(q, ref_add(q, at >> q->cluster_bits, by), err) || !commit_often(q, err))
            return false;
    }
    return true;
}

/* COPIED in the active tables: taken away everywhere, or set to what the counts say. */
bool snapshot_set_copied(Qcow2 *q, bool by_counts, Error *err)
{
    for (u32 i = 0; i < q->l1_size; i++) {
        u64 at = q->l1[i] & OFF_MASK, count = 0, entry;
        bool ok = true;
        Meta *l2;

        if (!at)
            continue;
        if (by_counts && !NOW(q, ref_get(q, at >> q->cluster_bits, &count), err))
            return false;
        entry = at | (count == 1 ? COPIED : 0);
        if (entry != q->l1[i]) {
            q->l1[i] = entry;
            q->l1_dirty_from = 0;
            q->l1_dirty_to = q->l1_size;
        }
        if (!NOW(q, meta_get(q, at, true, &l2), err))
            return false;
        l2->pins++;
        for (u64 k = 0; ok && k < q->cluster / 8; k++) {
            u64 old = be64(l2->data + k * 8);

            count = 0;
            if ((old & COMPRESSED) || !(old & OFF_MASK))
                continue;
            if (by_counts)
                ok = NOW(q, ref_get(q, (old & OFF_MASK) >> q->cluster_bits, &count), err);
            entry = (old & ~COPIED) | (count == 1 ? COPIED : 0);
            if (ok && entry != old) {
                put64(l2->data + k * 8, entry);
                meta_dirty(l2);
            }
        }
        l2->pins--;
        if (!ok || !commit_often(q, err))
            return false;
    }
    return qcow2_commit_now(q, err);
}

/* ---- writing ---- */

static bool alloc_area(Qcow2 *q, u64 bytes, u64 *at, Error *err)
{
    u64 first;

    if (!NOW(q, ref_alloc_row(q, bytes ? (bytes + q->cluster - 1) >> q->cluster_bits : 1, &first), err))
        return false;
    *at = first << q->cluster_bits;
    return true;
}

static void free_area(Qcow2 *q, u64 at, u64 bytes)
{
    for (u64 c = at >> q->cluster_bits; bytes && c <= (at + bytes - 1) >> q->cluster_bits; c++)
        ref_free_later(q, c);
}

static bool write_l1(Qcow2 *q, const u64 *l1, u32 used, u32 size, u64 at, Error *err)
{
    u64 bytes = round_up((u64)size * 8 + 1, q->cluster);
    u8 *buf = block_alloc(bytes);
    bool ok;

    for (u32 i = 0; i < used; i++)
        put64(buf + i * 8ull, l1[i] & ~COPIED);
    ok = host_file_write(q->f, at, buf, round_up((u64)size * 8, SECTOR), err) ||
         error_prefix(err, "%.300s", q->name);
    free(buf);
    return ok;
}

/* The header's first sector, after everything it tells of is on the disk. */
static bool write_header(Qcow2 *q, Error *err)
{
    u8 h[SECTOR];

    if (!qcow2_commit_now(q, err) || !host_file_read(q->f, 0, h, 72, err))
        return false;
    put64(h + 24, q->size);
    put32(h + 36, q->l1_size);
    put64(h + 40, q->l1_at);
    put32(h + 60, q->snapshots);
    put64(h + 64, q->snap_at);
    return (host_file_write(q->f, 24, h + 24, 48, err) || error_prefix(err, "%.300s", q->name)) &&
           qcow2_sync_file(q, err);
}

static u32 row_bytes(const Snapshot *s)
{
    return (u32)round_up(ROW + s->extra_bytes + strlen(s->id) + strlen(s->name), 8);
}

static void put_row(u8 *p, const Snapshot *s)
{
    u32 id = (u32)strlen(s->id), name = (u32)strlen(s->name);

    put64(p, s->l1_at);
    put32(p + 8, s->l1_size);
    p[12] = (u8)(id >> 8), p[13] = (u8)id;
    p[14] = (u8)(name >> 8), p[15] = (u8)name;
    put32(p + 16, s->date_s);
    put32(p + 20, s->date_ns);
    put64(p + 24, s->clock_ns);
    put32(p + 32, s->vm_bytes > 0xffffffffu ? 0 : (u32)s->vm_bytes);
    put32(p + 36, s->extra_bytes);
    memcpy(p + ROW, s->extra, s->extra_bytes);
    memcpy(p + ROW + s->extra_bytes, s->id, id);
    memcpy(p + ROW + s->extra_bytes + id, s->name, name);
}

/* A new table beside the old one, then the header. */
bool snapshot_write_table(Qcow2 *q, const Snapshot *list, u32 count, Error *err)
{
    u64 bytes = 0, at = 0, old_at = q->snap_at, old_bytes = q->snapshots ? q->snap_bytes : 0;
    u8 *buf;
    bool ok = true;

    for (u32 i = 0; i < count; i++)
        bytes += row_bytes(&list[i]);
    if (count && !alloc_area(q, bytes, &at, err))
        return false;
    buf = block_alloc(round_up(bytes + 1, SECTOR));
    for (u32 i = 0, k = 0; i < count; k += row_bytes(&list[i++]))
        put_row(buf + k, &list[i]);
    if (count)
        ok = host_file_write(q->f, at, buf, round_up(bytes, SECTOR), err) ||
             error_prefix(err, "%.300s", q->name);
    free(buf);
    q->snap_at = at;
    q->snap_bytes = bytes;
    q->snapshots = count;
    if (!ok || !write_header(q, err))
        return false;
    free_area(q, old_at, old_bytes);
    return true;
}

bool snapshot_write_l1(Qcow2 *q, const u64 *l1, u32 size, u64 *at, Error *err)
{
    return alloc_area(q, (u64)size * 8, at, err) && write_l1(q, l1, size, size, *at, err);
}

void snapshot_free_l1(Qcow2 *q, u64 at, u32 size) { free_area(q, at, (u64)size * 8); }

/* ---- the operations ---- */

/* Room for every count to rise is looked for first, so that nothing fails half-way. */
bool snapshot_can_count(Qcow2 *q, Error *err)
{
    u64 most = q->snapshots + 2ull;

    return ref_max(q) >= most ||
           error_set(err, "%.300s: reference counts of %u bits are too narrow for %u snapshots", q->name,
                     1u << q->ref_order, q->snapshots + 1);
}

/* After any change: the set of metadata is made anew. */
bool snapshot_settle(Qcow2 *q, Error *err)
{
    return qcow2_commit_now(q, err) && qcow2_commit_now(q, err) && meta_set_build(q, err);
}

void snapshot_free_id(const Snapshot *list, u32 count, char id[24])
{
    unsigned long most = 0;

    for (u32 i = 0; i < count; i++) {
        unsigned long n = strtoul(list[i].id, NULL, 10);

        if (n > most)
            most = n;
    }
    snprintf(id, 24, "%lu", most + 1);
}

bool snapshot_create(Qcow2 *q, const char *name, u32 date_s, u32 date_ns, Error *err)
{
    char id[24];
    u8 extra[24] = { 0 };
    Snapshot *list, *all;
    Snapshot s = { .id = id, .name = (char *)name, .extra = extra, .extra_bytes = 24, .date_s = date_s,
                   .date_ns = date_ns, .disk_bytes = q->size, .l1_size = q->l1_size };
    bool ok;

    if (q->snapshots >= SNAPSHOTS_MAX || strlen(name) > 1023)
        return error_set(err, "%.300s: too many snapshots, or too long a name", q->name);
    if (!snapshot_can_count(q, err) || !qcow2_commit_now(q, err) || !snapshots_read(q, &list, err))
        return false;
    snapshot_free_id(list, q->snapshots, id);
    put64(extra + 8, q->size);
    put64(extra + 16, ~0ull);       /* no instruction count is recorded */
    all = block_alloc(sizeof(*all) * (q->snapshots + 1ull));
    memcpy(all, list, sizeof(*all) * q->snapshots);
    ok = snapshot_set_copied(q, false, err) && snapshot_count_tree(q, q->l1, q->l1_size, 1, err) &&
         snapshot_write_l1(q, q->l1, q->l1_size, &s.l1_at, err);
    all[q->snapshots] = s;
    u32 count = q->snapshots;
    ok = ok && snapshot_write_table(q, all, count + 1, err) && snapshot_settle(q, err);
    free(all);
    snapshots_free(list, count);
    return ok;
}

bool snapshot_index(Qcow2 *q, const char *id, const Snapshot *list, u32 *index, Error *err)
{
    for (*index = 0; *index < q->snapshots; ++*index) {
        if (!strcmp(list[*index].id, id))
            return true;
    }
    return error_set(err, "%.300s: there is no snapshot with the number %.20s", q->name, id);
}

static bool find_snapshot(Qcow2 *q, const char *id_or_name, Snapshot **list, u32 *index, Error *err)
{
    if (!qcow2_commit_now(q, err) || !snapshots_read(q, list, err))
        return false;
    for (int by_name = 0; by_name < 2; by_name++) {
        for (*index = 0; *index < q->snapshots; ++*index) {
            if (!strcmp(by_name ? (*list)[*index].name : (*list)[*index].id, id_or_name))
                return true;
        }
    }
    snapshots_free(*list, q->snapshots);
    return error_set(err, "%.300s: there is no snapshot '%.100s'", q->name, id_or_name);
}

u64 *snapshot_l1(Qcow2 *q, const Snapshot *s, Error *err)
{
    u64 *l1 = block_alloc(sizeof(u64) * (s->l1_size + 1ull));

    if (s->l1_size && !host_file_read(q->f, s->l1_at, l1, (size_t)s->l1_size * 8, err)) {
        error_prefix(err, "%.300s", q->name);
        free(l1);
        return NULL;
    }
    for (u32 i = 0; i < s->l1_size; i++)
        l1[i] = __builtin_bswap64(l1[i]);
    return l1;
}

/* The active L1 table becomes a copy of another one; header and memory with it. Takes l1 over. */
static bool switch_l1(Qcow2 *q, u64 *l1, u32 used, u32 size, u64 disk_bytes, Error *err)
{
    u64 at;

    if (!alloc_area(q, (u64)size * 8, &at, err) || !write_l1(q, l1, used, size, at, err)) {
        free(l1);
        return false;
    }
    for (u32 i = 0; i < used; i++)
        l1[i] &= ~COPIED;           /* as written: the caller sets it by the counts */
    free(q->l1);
    q->l1 = l1;
    q->l1_at = at;
    q->l1_size = size;
    q->l1_dirty_from = q->l1_dirty_to = 0;
    q->size = disk_bytes;
    q->img.bytes = round_up(disk_bytes, SECTOR);
    return write_header(q, err);
}

bool snapshot_apply(Qcow2 *q, const char *id_or_name, Error *err)
{
    Snapshot *list, *s;
    u32 i, size, used, old_size = q->l1_size, count = q->snapshots;
    u64 *l1, *bigger, *old, old_at = q->l1_at;
    bool ok;

    if (!snapshot_can_count(q, err) || !find_snapshot(q, id_or_name, &list, &i, err))
        return false;
    s = &list[i];
    l1 = snapshot_l1(q, s, err);
    size = l1_entries_for(q, s->disk_bytes);
    used = s->l1_size < size ? s->l1_size : size;       /* a machine's state lies behind */
    if (s->disk_bytes > 1ull << 56 || size > L1_MAX / 8)
        ok = error_set(err, "%.300s: the snapshot's disk size is wrong", q->name);
    else
        ok = l1 && snapshot_set_copied(q, false, err) && snapshot_count_tree(q, l1, used, 1, err);
    bigger = ok ? block_alloc(sizeof(u64) * (size + 1ull)) : NULL;
    old = ok ? block_alloc(sizeof(u64) * (old_size + 1ull)) : NULL;
    if (ok) {
        for (u32 k = 0; k < used; k++)
            bigger[k] = l1[k] & OFF_MASK;
        memcpy(old, q->l1, sizeof(u64) * old_size);
        ok = switch_l1(q, bigger, used, size, s->disk_bytes, err) &&
             snapshot_count_tree(q, old, old_size, -1, err);
        if (ok)
            free_area(q, old_at, (u64)old_size * 8);
        ok = ok && qcow2_commit_now(q, err) && snapshot_set_copied(q, true, err) && snapshot_settle(q, err);
    }
    q->inflated_entry = 0;
    free(l1);
    free(old);
    snapshots_free(list, count);
    return ok;
}

bool snapshot_delete(Qcow2 *q, const char *id_or_name, Error *err)
{
    Snapshot *list, *rest;
    u32 i, count = q->snapshots;
    u64 *l1;
    bool ok;

    if (!find_snapshot(q, id_or_name, &list, &i, err))
        return false;
    l1 = snapshot_l1(q, &list[i], err);
    rest = block_alloc(sizeof(*rest) * count);
    memcpy(rest, list, sizeof(*rest) * i);
    memcpy(rest + i, list + i + 1, sizeof(*rest) * (count - i - 1));
    ok = l1 && snapshot_write_table(q, rest, count - 1, err) && snapshot_count_tree(q, l1, list[i].l1_size, -1, err);
    if (ok)
        free_area(q, list[i].l1_at, (u64)list[i].l1_size * 8);
    ok = ok && qcow2_commit_now(q, err) && snapshot_set_copied(q, true, err) && snapshot_settle(q, err);
    free(l1);
    free(rest);
    snapshots_free(list, count);
    return ok;
}

/* Shrinking gives up what lies behind the new end first. */
bool qcow2_resize(Qcow2 *q, u64 bytes, Error *err)
{
    u32 size = l1_entries_for(q, bytes), old_size = q->l1_size;
    u64 old_at = q->l1_at, *l1;

    if (bytes > 1ull << 56 || size > L1_MAX / 8)
        return error_set(err, "%.300s: a disk of %llu bytes is too large", q->name,
                         (unsigned long long)bytes);
    for (u64 at = round_up(bytes, q->cluster); at < q->img.bytes; ) {
        u64 n = q->img.bytes - at < 1 << 30 ? q->img.bytes - at : 1 << 30;

        if (image_do(&q->img, BLK_DISCARD, at, NULL, (u32)n) != BLK_OK)
            return error_set(err, "%.300s: what lies behind the new end can't be given up", q->name);
        at += n;
    }
    if (!qcow2_commit_now(q, err))
        return false;
    if (size <= old_size) {
        q->size = bytes;
        q->img.bytes = round_up(bytes, SECTOR);
        return write_header(q, err) && snapshot_settle(q, err);
    }
    l1 = block_alloc(sizeof(u64) * (size + 1ull));
    memcpy(l1, q->l1, sizeof(u64) * old_size);
    if (!switch_l1(q, l1, old_size, size, bytes, err))
        return false;
    free_area(q, old_at, (u64)old_size * 8);
    return snapshot_set_copied(q, true, err) && snapshot_settle(q, err);
}

bool qcow2_empty(Qcow2 *q, Error *err)
{
    u64 old_at = q->l1_at, *old, *l1;
    u32 size = q->l1_size;
    bool ok;

    if (!qcow2_commit_now(q, err))
        return false;
    old = q->l1;
    q->l1 = block_alloc(sizeof(u64) * (size + 1ull));   /* switch_l1() frees it */
    l1 = block_alloc(sizeof(u64) * (size + 1ull));
    ok = switch_l1(q, l1, size, size, q->size, err) && snapshot_count_tree(q, old, size, -1, err);
    if (ok)
        free_area(q, old_at, (u64)size * 8);
    q->inflated_entry = 0;
    free(old);
    return ok && snapshot_settle(q, err);
}

bool qcow2_use_snapshot(Qcow2 *q, const char *which, Error *err)
{
    Snapshot *list;
    u64 *l1;
    u32 i;
    bool ok;

    if (!strncmp(which, "snapshot.id=", 12))
        which += 12;
    else if (!strncmp(which, "snapshot.name=", 14))
        which += 14;
    if (!find_snapshot(q, which, &list, &i, err))
        return false;
    l1 = snapshot_l1(q, &list[i], err);
    ok = l1 && (l1_entries_for(q, list[i].disk_bytes) <= list[i].l1_size ||
                error_set(err, "%.300s: the snapshot's disk size is wrong", q->name));
    if (ok) {
        free(q->l1);
        q->l1 = l1;
        q->l1_size = list[i].l1_size;
        q->size = list[i].disk_bytes;
        q->img.bytes = round_up(q->size, SECTOR);
    } else {
        free(l1);
    }
    snapshots_free(list, q->snapshots);
    return ok;
}
