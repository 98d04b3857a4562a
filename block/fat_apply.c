/*
 * fat:rw: what the guest has changed goes to the folder.
 *
 * The guest's file system is read as a whole first: boot sector, table, all directories. It must be sound: no
 * cluster in two files, each chain as long as its file, names that a folder can hold. If it is not (a guest
 * may be in the middle of something) nothing at all is done, and the next time it is tried again.
 *
 * Then, in this order: new folders; new and changed files, each written under another name and put into its
 * place in one step; at last what is gone from the guest's disk is deleted. So a file of the folder is always
 * either as it was or as the guest made it. Only what was in the folder when the disk was made, or was put
 * there by the guest, is ever replaced or deleted.
 */
#include "fat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { COPY_BYTES = 65536, END = 0x0ffffff8 };

typedef struct FatKnown {           /* a file or folder, on the guest's disk or in the host's folder */
    char *path;                     /* from the folder on, with '/' */
    bool folder, kept;
    u32 bytes, first;
    u64 hash;                       /* of the content, 0: it is that of the folder's file */
    FatNode *node;                  /* the folder's own, as it was at the start */
} Known;

typedef struct { Known *item; u32 count, room; } List;

typedef struct {
    FatVolume *v;
    BlkImage *disk;
    u8 *table, *used;               /* of all clusters */
    List list;
    Error *err;
} Walk;

/* ---- lists ---- */

static Known *add(List *list)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 64;
        list->item = realloc(list->item, list->room * sizeof(Known));
        if (!list->item)
            abort();
    }
    list->item[list->count] = (Known){ 0 };
    return &list->item[list->count++];
}

static void drop(List *list)
{
    for (u32 i = 0; i < list->count; i++)
        free(list->item[i].path);
    free(list->item);
    *list = (List){ 0 };
}

static int fold(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

/* As FAT compares names: without regard to case. '/' comes first, so that a folder's files follow it. */
static int compare_paths(const char *a, const char *b)
{
    while (*a && fold((u8)*a) == fold((u8)*b)) {
        a++;
        b++;
    }
    return (*a == '/' ? 1 : fold((u8)*a)) - (*b == '/' ? 1 : fold((u8)*b));
}

static int compare_known(const void *a, const void *b)
{
    return compare_paths(((const Known *)a)->path, ((const Known *)b)->path);
}

static Known *find(const List *list, const char *path)
{
    u32 lo = 0, hi = list->count;

    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        int c = compare_paths(list->item[mid].path, path);

        if (!c)
            return &list->item[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static char *join(const char *above, const char *name)
{
    size_t n = strlen(above) + strlen(name) + 2;
    char *path = block_alloc(n);

    snprintf(path, n, "%s%s%s", above, *above ? "/" : "", name);
    return path;
}

/* What was in the folder at the start. */
static void list_tree(List *list, const FatNode *folder, const char *path)
{
    for (FatNode *node = folder->child; node; node = node->next) {
        Known *k = add(list);

        k->path = join(path, node->name);
        k->folder = node->folder;
        k->bytes = node->bytes;
        k->first = node->first;
        k->node = node;
        if (node->folder) {
            char *below = join(path, node->name);

            list_tree(list, node, below);
            free(below);
        }
    }
}

/* ---- reading the guest's file system ---- */

static bool read_at(Walk *w, u64 sector, void *buf, u32 bytes)
{
    return image_do(w->disk, BLK_READ, (w->v->start + sector) * SECTOR, buf, bytes) == BLK_OK ||
           error_set(w->err, "the guest's disk can't be read");
}

static u64 cluster_sector(const FatVolume *v, u32 cluster)
{
    return v->data + (u64)(cluster - 2) * v->per_cluster;
}

/* The next of a chain: END or more at its end, 0: not a cluster that may be in one. */
static u32 next_of(const Walk *w, u32 cluster)
{
    const FatVolume *v = w->v;
    u32 e;

    if (v->type == 12) {
        e = load16(w->table + cluster * 3 / 2);
        e = cluster % 2 ? e >> 4 : e & 0xfff;
        return e >= 0xff8 ? END : e;
    }
    if (v->type == 16) {
        e = load16(w->table + cluster * 2);
        return e >= 0xfff8 ? END : e;
    }
    return load32(w->table + cluster * 4) & 0x0fffffff;
}

/* Goes through a chain and marks it; its length, or -1. */
static s64 take_chain(Walk *w, u32 first)
{
    s64 n = 0;

    for (u32 c = first; c < END; c = next_of(w, c), n++) {
        if (c < 2 || c - 2 >= w->v->clusters || (w->used[c / 8] >> (c % 8) & 1))
            return -1;
        w->used[c / 8] |= (u8)(1 << (c % 8));
    }
    return n;
}

typedef struct { u16 unit[260]; u32 parts; u8 checksum; bool ok; } LongName;

static void take_long(LongName *name, const u8 *e)
{
    static const u8 place[13] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
    u32 part = e[0] & 0x3f;

    if (e[0] & 0x40)
        *name = (LongName){ .parts = part + 1, .checksum = e[13], .ok = part >= 1 && part <= 20 };
    if (!name->ok || part + 1 != name->parts || e[13] != name->checksum || !part) {
        name->ok = false;
        return;
    }
    name->parts = part;
    for (int k = 0; k < 13; k++)
        name->unit[(part - 1) * 13 + (u32)k] = load16(e + place[k]);
}

static void put_utf8(char **to, u32 c)
{
    if (c < 0x80) {
        *(*to)++ = (char)c;
    } else if (c < 0x800) {
        *(*to)++ = (char)(0xc0 | c >> 6);
        *(*to)++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *(*to)++ = (char)(0xe0 | c >> 12);
        *(*to)++ = (char)(0x80 | (c >> 6 & 0x3f));
        *(*to)++ = (char)(0x80 | (c & 0x3f));
    } else {
        *(*to)++ = (char)(0xf0 | c >> 18);
        *(*to)++ = (char)(0x80 | (c >> 12 & 0x3f));
        *(*to)++ = (char)(0x80 | (c >> 6 & 0x3f));
        *(*to)++ = (char)(0x80 | (c & 0x3f));
    }
}

/* The entry's name; out has room for 4 * 261 bytes. */
static void entry_name(const LongName *name, const u8 *e, char *out)
{
    if (name->ok && name->parts == 1 && name->checksum == fat_checksum(e)) {
        for (int i = 0; i < 255 && name->unit[i] && name->unit[i] != 0xffff; i++) {
            u32 c = name->unit[i], low = name->unit[i + 1];

            if ((c & 0xfc00) == 0xd800 && (low & 0xfc00) == 0xdc00) {
                c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
                i++;
            }
            put_utf8(&out, (c & 0xf800) == 0xd800 ? '_' : c);
        }
        *out = 0;
        return;
    }
    for (int i = 0; i < 11; i++) {
        u8 c = e[i] == 0x05 && !i ? 0xe5 : e[i];
        bool lower = e[12] & (i < 8 ? 0x08 : 0x10);

        if (i == 8 && e[8] != ' ')
            *out++ = '.';
        if (c != ' ')
            *out++ = c >= 0x80 ? '_' : lower ? (char)fold(c) : (char)c;
    }
    *out = 0;
}

/* What a folder of the host can hold, of Windows too. */
static bool name_possible(const char *name)
{
    static const char *const devices[] = { "con", "prn", "aux", "nul", "com", "lpt" };
    size_t n = strlen(name), stem = strcspn(name, ".");
    u16 units[FAT_LFN_MAX + 2];

    if (!n || name[n - 1] == '.' || name[n - 1] == ' ' || fat_to_utf16(name, units, FAT_LFN_MAX + 1) <= 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        bool same = stem == (i < 4 ? 3u : 4u);

        for (int k = 0; k < 3 && same; k++)
            same = fold((u8)name[k]) == devices[i][k];
        if (same && (i < 4 || (name[3] >= '0' && name[3] <= '9')))
            return false;
    }
    return true;
}

static bool walk_folder(Walk *w, u32 first, const char *path, int depth);

static bool take_entry(Walk *w, const u8 *e, const LongName *name, const char *path, int depth)
{
    const FatVolume *v = w->v;
    u32 first = load16(e + 26) | (v->type == 32 ? (u32)load16(e + 20) << 16 : 0), bytes = load32(e + 28);
    u32 size = v->per_cluster * SECTOR;
    bool folder = e[11] & 0x10, ok;
    char text[4 * 261];
    s64 chain;
    Known *k;

    entry_name(name, e, text);
    if (!name_possible(text))
        return error_set(w->err, "the guest has a file '%.100s' that a folder can't hold", text);
    chain = first ? take_chain(w, first) : 0;
    if (chain < 0 || (folder ? !chain : chain != bytes / size + (bytes % size != 0)))
        return error_set(w->err, "the guest's file system is not whole at '%.200s'", text);
    if (w->list.count >= FAT_NODES_MAX || depth > FAT_DEPTH_MAX)
        return error_set(w->err, "the guest has too many files or folders");
    k = add(&w->list);
    k->path = join(path, text);
    k->folder = folder;
    k->bytes = folder ? 0 : bytes;
    k->first = first;
    if (!folder)
        return true;
    char *below = join(path, text);

    ok = strlen(below) < FAT_PATH_MAX / 2 || error_set(w->err, "the guest's paths are too long");
    ok = ok && walk_folder(w, first, below, depth + 1);
    free(below);
    return ok;
}

/* first 0: the root directory of FAT12 and FAT16 */
static bool walk_folder(Walk *w, u32 first, const char *path, int depth)
{
    const FatVolume *v = w->v;
    u32 bytes = first ? v->per_cluster * SECTOR : v->root_sectors * SECTOR;
    u8 *buf = block_alloc(bytes);
    LongName name = { .ok = false };
    bool ok = true, more = true;

    for (u32 c = first; ok && more && c < END; c = first ? next_of(w, c) : END) {
        ok = read_at(w, first ? cluster_sector(v, c) : v->data - v->root_sectors, buf, bytes);
        for (u32 at = 0; ok && more && at < bytes; at += FAT_ENTRY) {
            const u8 *e = buf + at;

            if (!e[0])
                more = false;
            else if (e[0] != 0xe5 && (e[11] & 0x3f) == 0x0f)
                take_long(&name, e);
            else if (e[0] != 0xe5 && e[0] != '.' && !(e[11] & 0x08))
                ok = take_entry(w, e, &name, path, depth);
            if (e[0] == 0xe5 || (e[11] & 0x3f) != 0x0f)
                name.ok = false;
        }
    }
    free(buf);
    return ok;
}

static bool same_volume(Walk *w)
{
    u8 now[SECTOR], was[SECTOR];
    FatNode *node;
    u64 offset;

    fat_sector(w->v, w->v->start, was, &node, &offset);
    return read_at(w, 0, now, SECTOR) &&
           (!memcmp(now + 11, was + 11, w->v->type == 32 ? 25 + 12 : 25) ||
            error_set(w->err, "the guest has made another file system on the disk"));
}

static bool walk(Walk *w)
{
    const FatVolume *v = w->v;
    bool ok = same_volume(w);

    w->table = block_alloc((size_t)v->fat_sectors * SECTOR + 4);
    w->used = block_alloc((v->clusters + 2) / 8 + 1);
    for (u32 at = 0; ok && at < v->fat_sectors; at += 128) {
        u32 n = v->fat_sectors - at < 128 ? v->fat_sectors - at : 128;

        ok = read_at(w, v->reserved + at, w->table + (size_t)at * SECTOR, n * SECTOR);
    }
    if (ok && v->type == 32)
        ok = take_chain(w, v->root->first) > 0 || error_set(w->err, "the guest's root directory is not whole");
    ok = ok && walk_folder(w, v->type == 32 ? v->root->first : 0, "", 0);
    if (ok && w->list.count)
        qsort(w->list.item, w->list.count, sizeof(Known), compare_known);
    for (u32 i = 1; ok && i < w->list.count; i++) {
        if (!compare_paths(w->list.item[i - 1].path, w->list.item[i].path))
            ok = error_set(w->err, "the guest has two files '%.200s'", w->list.item[i].path);
    }
    return ok;
}

/* ---- contents ---- */

/* Reads the file piece by piece, for its hash and, with to, into a file. */
static bool read_content(Walk *w, const Known *k, u64 *hash, HostFile *to)
{
    const FatVolume *v = w->v;
    u32 size = v->per_cluster * SECTOR;
    u8 *buf = block_alloc(size);
    bool ok = true;
    u64 h = 0xcbf29ce484222325ull;

    for (u32 c = k->first, at = 0; ok && at < k->bytes; c = next_of(w, c)) {
        u32 n = k->bytes - at < size ? k->bytes - at : size;

        ok = read_at(w, cluster_sector(v, c), buf, size) && (!to || host_file_write(to, at, buf, n, w->err));
        for (u32 i = 0; i < n; i++)
            h = (h ^ buf[i]) * 0x100000001b3ull;
        at += n;
        if (at >= k->bytes)
            break;
    }
    free(buf);
    *hash = h | 1;
    return ok;
}

/* The disk still reads the folder's file at its clusters: before that goes its bytes are written there. The
 * guest may have given them to another file, or only another name. */
static bool keep_content(Walk *w, FatNode *node)
{
    u64 at, end;
    u8 *buf;
    bool ok = true;

    if (!node || node->folder || node->kept || !node->first)
        return true;
    buf = block_alloc(COPY_BYTES);
    at = (w->v->start + cluster_sector(w->v, node->first)) * SECTOR;
    for (end = at + (u64)node->clusters * w->v->per_cluster * SECTOR; ok && at < end; at += COPY_BYTES) {
        u32 n = end - at < COPY_BYTES ? (u32)(end - at) : COPY_BYTES;

        ok = image_do(w->disk, BLK_READ, at, buf, n) == BLK_OK && image_do(w->disk, BLK_WRITE, at, buf, n) == BLK_OK;
    }
    free(buf);
    node->kept = ok;
    return ok || error_set(w->err, "%.200s can't be kept", node->name);
}

/* Its clusters are where the folder's file was put, and nobody has written there. */
static bool untouched(Walk *w, const Known *k, const FatNode *node)
{
    const FatVolume *v = w->v;
    u32 c = k->first, n = node->clusters;

    if (!node->first)
        return !k->bytes;
    if (k->bytes != node->bytes || k->first != node->first ||
        overlay_has(w->disk, (v->start + cluster_sector(v, c)) * SECTOR, (u64)n * v->per_cluster * SECTOR))
        return false;
    for (u32 i = 1; i < n; i++) {
        if (next_of(w, c + i - 1) != c + i)
            return false;
    }
    return true;
}

static bool write_file(Walk *w, Known *k, const char *path)
{
    size_t n = strlen(path) + 16;
    char *temporary = block_alloc(n);
    HostFile *f;
    bool ok;
    Error ignored;

    snprintf(temporary, n, "%s.qemu-win~", path);
    f = host_file_open(temporary, HOST_READ | HOST_WRITE | HOST_CREATE, w->err);
    ok = f && read_content(w, k, &k->hash, f);
    if (f)
        host_file_close(f);
    w->v->close_files(w->v->opaque);
    ok = ok && host_file_rename(temporary, path, w->err);
    if (f && !ok)
        host_file_delete(temporary, &ignored);
    free(temporary);
    return ok || error_prefix(w->err, "%.200s", path);
}

/* Whether the folder has this content already. */
static bool same_content(Walk *w, Known *k, const Known *was, bool *same)
{
    if (!was->hash) {
        *same = was->node && untouched(w, k, was->node);
        return true;
    }
    if (was->bytes != k->bytes)
        return true;
    if (!read_content(w, k, &k->hash, NULL))
        return false;
    *same = k->hash == was->hash;
    return true;
}

/* One of the guest's files or folders, and what is known by its name, if anything. */
static bool bring(Walk *w, Known *k, Known *was)
{
    char *path = join(w->v->path, was ? was->path : k->path);
    bool ok = true, same = false;

    if (was && was->folder == k->folder) {
        k->node = was->node;
        free(k->path);
        k->path = strcpy(block_alloc(strlen(was->path) + 1), was->path);
        ok = k->folder || same_content(w, k, was, &same);
        ok = ok && (k->folder || same || (keep_content(w, was->node) && write_file(w, k, path)));
    } else if (!was && host_file_exists(path)) {
        ok = error_set(w->err, "%.300s is in the folder already, and not on the guest's disk", path);
    } else {
        if (was) {                  /* a file became a folder, or the reverse */
            ok = keep_content(w, was->node);
            w->v->close_files(w->v->opaque);
            ok = ok && (was->folder ? host_dir_delete(path, w->err) : host_file_delete(path, w->err));
        }
        ok = ok && (k->folder ? host_dir_make(path, w->err) : write_file(w, k, path));
    }
    if (ok && was)
        was->kept = true;
    free(path);
    return ok;
}

static void delete_gone(Walk *w, List *known)
{
    FatVolume *v = w->v;
    Error err;

    w->err = &err;
    for (u32 i = known->count; i--; ) {         /* a folder's files come after it */
        Known *k = &known->item[i];
        char *path;

        if (k->kept)
            continue;
        path = join(v->path, k->path);
        if (!keep_content(w, k->node)) {
            log_line("fat: %s", err.text);
            free(path);
            continue;
        }
        v->close_files(v->opaque);
        if (!(k->folder ? host_dir_delete(path, &err) : host_file_delete(path, &err)))
            log_line("fat: %s", err.text);
        free(path);
    }
}

/* After an error: what has been brought is known by what the guest has, the rest is as it was. */
static void keep_known(List *known, List *brought, u32 count)
{
    List now = { 0 };

    for (u32 i = 0; i < count; i++) {
        *add(&now) = brought->item[i];
        brought->item[i].path = NULL;
    }
    for (u32 i = 0; i < known->count; i++) {
        if (!known->item[i].kept) {
            *add(&now) = known->item[i];
            known->item[i].path = NULL;
        }
    }
    drop(known);
    drop(brought);
    if (now.count)
        qsort(now.item, now.count, sizeof(Known), compare_known);
    *known = now;
}

bool fat_apply(FatVolume *v, BlkImage *disk, Error *err)
{
    Walk w = { .v = v, .disk = disk, .err = err };
    List known = { .item = v->known, .count = v->known_count, .room = v->known_count };
    u32 brought = 0;
    bool ok;

    if (!known.item) {
        list_tree(&known, v->root, "");
        if (known.count)
            qsort(known.item, known.count, sizeof(Known), compare_known);
    }
    ok = walk(&w);
    for (u32 i = 0; i < known.count; i++)
        known.item[i].kept = false;
    while (ok && brought < w.list.count) {
        Known *k = &w.list.item[brought];

        ok = bring(&w, k, find(&known, k->path));
        brought += ok;
    }
    if (ok) {
        delete_gone(&w, &known);
        drop(&known);
        known = w.list;
    } else {
        keep_known(&known, &w.list, brought);
    }
    v->known = known.item;
    v->known_count = known.count;
    free(w.table);
    free(w.used);
    return ok;
}

void fat_known_free(FatVolume *v)
{
    List known = { .item = v->known, .count = v->known_count };

    drop(&known);
}
