/*
 * Where everything lies on the disk. All is computed from the tree: files and folders lie one behind the
 * other, each in one piece, so that the tables need no memory.
 *
 *      disk:    [partition table, 62 sectors unused]  volume        (a floppy is only the volume)
 *      volume:  boot sector [and FAT32's others], table, table, [root directory], clusters 2, 3, ...
 */
#include "fat.h"

#include <stdlib.h>
#include <string.h>

enum { SERIAL = 0x51574641, MEDIA_DISK = 0xf8, MEDIA_FLOPPY = 0xf0 };

/* ---- places ---- */

static u32 clusters_for(const FatVolume *v, u32 bytes)
{
    u32 size = v->per_cluster * SECTOR;

    return bytes / size + (bytes % size != 0);
}

static u32 folder_bytes(const FatNode *folder)
{
    u32 n = folder->parent ? 2 : 1;             /* . and .., or the label */

    for (const FatNode *node = folder->child; node; node = node->next)
        n += 1 + fat_long_entries(node);
    return n * FAT_ENTRY;
}

/* How many clusters the tree needs; with give, they are given out. */
static u64 place(FatVolume *v, FatNode *folder, u32 *next, bool give)
{
    u64 total = 0;

    for (FatNode *node = folder; node; node = node == folder ? folder->child : node->next) {
        u32 n;

        if (node != folder && node->folder) {
            total += place(v, node, next, give);
            continue;
        }
        n = clusters_for(v, node->folder ? folder_bytes(node) : node->bytes);
        if (!node->parent && v->type != 32)
            n = 0;                              /* the root has a place of its own */
        total += n;
        if (give && n) {
            node->first = *next;
            node->clusters = n;
            *next += n;
            v->at[v->at_count++] = node;
        }
    }
    return total;
}

/* ---- geometry ---- */

static bool floppy_layout(FatVolume *v, u64 bytes)
{
    static const struct { u32 sectors, track, per_cluster, root, fat; } media[] = {
        { 2880, 18, 1, 224, 9 }, { 5760, 36, 2, 240, 9 },
    };

    for (size_t i = 0; i < ARRAY_LEN(media); i++) {
        v->type = 12;
        v->heads = 2;
        v->track = media[i].track;
        v->sectors = media[i].sectors;
        v->disk_sectors = v->sectors;
        v->per_cluster = media[i].per_cluster;
        v->reserved = 1;
        v->fat_sectors = media[i].fat;
        v->root_entries = media[i].root;
        v->root_sectors = v->root_entries * FAT_ENTRY / SECTOR;
        v->data = v->reserved + 2 * v->fat_sectors + v->root_sectors;
        v->clusters = (v->sectors - v->data) / v->per_cluster;
        if (place(v, v->root, NULL, false) <= v->clusters)
            return true;
    }
    (void)bytes;
    return false;
}

static void disk_layout(FatVolume *v, u32 cylinders, u32 per_cluster)
{
    u32 fat_bits = (u32)v->type, rest;

    v->heads = v->type == 32 ? 255 : 16;
    v->track = 63;
    v->start = 63;
    v->disk_sectors = (u64)cylinders * v->heads * v->track;
    v->sectors = (u32)(v->disk_sectors - v->start);
    v->per_cluster = per_cluster;
    v->reserved = v->type == 32 ? 32 : 1;
    v->root_entries = v->type == 32 ? 0 : 512;
    v->root_sectors = v->root_entries * FAT_ENTRY / SECTOR;
    /* a table for all clusters that there would be without tables */
    rest = (v->sectors - v->reserved - v->root_sectors) / per_cluster + 2;
    v->fat_sectors = (u32)(((u64)rest * fat_bits / 8 + SECTOR) / SECTOR);
    v->data = v->reserved + 2 * v->fat_sectors + v->root_sectors;
    v->clusters = (v->sectors - v->data) / per_cluster;
}

/* FAT32 as large as what is there and half of it again, and not below 512 MiB. */
static bool disk_layout_32(FatVolume *v, Error *err)
{
    static const u32 sizes[] = { 8, 16, 32, 64 };
    const u64 cylinder = 255 * 63, least = 1 << 20, most = 0xfffff000ull;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        u64 need, sectors;

        v->per_cluster = sizes[i];
        need = place(v, v->root, NULL, false) * sizes[i];
        sectors = need + need / 2 < least ? least : need + need / 2;
        if (sectors > most || sectors / sizes[i] > 0x0ffffff0 / 4)
            continue;
        disk_layout(v, (u32)((sectors + cylinder - 1) / cylinder) + 1, sizes[i]);
        if (place(v, v->root, NULL, false) <= v->clusters)
            return true;
    }
    return error_set(err, "fat: the folder is too large for FAT32");
}

static bool make_layout(FatVolume *v, int type, Error *err)
{
    if (v->floppy)
        return floppy_layout(v, 0) || error_set(err, "fat: the folder does not fit on a floppy of 2.88 MB");
    v->type = type ? type : 16;
    if (v->type == 12)
        disk_layout(v, 64, 16);
    else if (v->type == 16)
        disk_layout(v, 1024, 16);
    if (v->type != 32 && place(v, v->root, NULL, false) > v->clusters) {
        if (type)
            return error_set(err, "fat: the folder does not fit on a FAT%d disk of %u MB (fat:32: takes more)",
                             type, (unsigned)(v->disk_sectors >> 11));
        v->type = 32;
    }
    return v->type != 32 || disk_layout_32(v, err);
}

/* ---- directories ---- */

static u8 *put_entry(u8 *e, const u8 *name, u8 attributes, u16 time, u16 date, u32 first, u32 bytes)
{
    memcpy(e, name, 11);
    e[11] = attributes;
    store16(e + 14, time);
    store16(e + 16, date);
    store16(e + 18, date);
    store16(e + 20, (u16)(first >> 16));
    store16(e + 22, time);
    store16(e + 24, date);
    store16(e + 26, (u16)first);
    store32(e + 28, bytes);
    return e + FAT_ENTRY;
}

static void fill_folder(FatVolume *v, FatNode *folder)
{
    enum { LABEL = 0x08, FOLDER = 0x10, ARCHIVE = 0x20 };
    const FatNode *above = folder->parent;
    u32 bytes = folder->parent || v->type == 32 ? folder->clusters * v->per_cluster * SECTOR
                                                 : v->root_entries * FAT_ENTRY;
    u8 *e = block_alloc(bytes);

    folder->data = e;
    folder->data_bytes = bytes;
    if (above) {
        e = put_entry(e, (const u8 *)".          ", FOLDER, folder->time, folder->date, folder->first, 0);
        e = put_entry(e, (const u8 *)"..         ", FOLDER, folder->time, folder->date,
                      above->parent ? above->first : 0, 0);
    } else {
        e = put_entry(e, (const u8 *)"QEMU-WIN   ", LABEL, 0, 0x21, 0, 0);
    }
    for (FatNode *node = folder->child; node; node = node->next) {
        fat_put_long_name(node, e);
        e += fat_long_entries(node) * FAT_ENTRY;
        e = put_entry(e, node->short_name, node->folder ? FOLDER : ARCHIVE, node->time, node->date, node->first,
                      node->bytes);
        if (node->folder)
            fill_folder(v, node);
    }
}

FatVolume *fat_volume_create(const char *path, int type, bool floppy, Error *err)
{
    FatVolume *v = block_alloc(sizeof(*v));
    u32 next = 2;

    v->floppy = floppy;
    v->path = strcpy(block_alloc(strlen(path) + 1), path);
    v->root = fat_tree_read(path, &v->nodes, err);
    if (!v->root || !make_layout(v, type, err)) {
        fat_volume_free(v);
        return NULL;
    }
    if (v->type != 32 && folder_bytes(v->root) > v->root_entries * FAT_ENTRY) {
        error_set(err, "fat: %.300s has more files than a root directory of FAT%d can hold (fat:32: has room)",
                  path, v->type);
        fat_volume_free(v);
        return NULL;
    }
    v->at = block_alloc(sizeof(*v->at) * (v->nodes + 1));
    place(v, v->root, &next, true);
    fill_folder(v, v->root);
    return v;
}

void fat_volume_free(FatVolume *v)
{
    fat_known_free(v);
    fat_tree_free(v->root);
    free(v->at);
    free(v->path);
    free(v);
}

/* ---- sectors ---- */

static void put_chs(const FatVolume *v, u8 *out, u64 sector)
{
    u64 track = sector / v->track, cylinder = track / v->heads;

    if (cylinder > 1023) {
        memcpy(out, "\xfe\xff\xff", 3);
        return;
    }
    out[0] = (u8)(track % v->heads);
    out[1] = (u8)((sector % v->track + 1) | (cylinder >> 8 << 6));
    out[2] = (u8)cylinder;
}

static const u8 not_bootable[] = { 0xcd, 0x18, 0xf4, 0xeb, 0xfd };  /* int 18h: the firmware tries the next */

static void partition_table(const FatVolume *v, u8 *out)
{
    u8 *p = out + 0x1be;
    u8 kind = v->type == 32 ? 0x0c : v->type == 12 ? 0x01 : 0x06;

    memcpy(out, not_bootable, sizeof(not_bootable));
    store32(out + 0x1b8, SERIAL);
    put_chs(v, p + 1, v->start);
    p[4] = kind;
    put_chs(v, p + 5, v->start + v->sectors - 1ull);
    store32(p + 8, v->start);
    store32(p + 12, v->sectors);
    store16(out + 510, 0xaa55);
}

static void boot_sector(const FatVolume *v, u8 *out)
{
    u8 *more = out + (v->type == 32 ? 64 : 36);

    memcpy(out, "\xeb\x58\x90QEMU-WIN", 11);
    memcpy(out + 0x5a, not_bootable, sizeof(not_bootable));
    store16(out + 11, SECTOR);
    out[13] = (u8)v->per_cluster;
    store16(out + 14, (u16)v->reserved);
    out[16] = 2;
    store16(out + 17, (u16)v->root_entries);
    if (v->type != 32 && v->sectors < 65536)
        store16(out + 19, (u16)v->sectors);
    else
        store32(out + 32, v->sectors);
    out[21] = v->floppy ? MEDIA_FLOPPY : MEDIA_DISK;
    if (v->type != 32)
        store16(out + 22, (u16)v->fat_sectors);
    store16(out + 24, (u16)v->track);
    store16(out + 26, (u16)v->heads);
    store32(out + 28, v->start);
    if (v->type == 32) {
        store32(out + 36, v->fat_sectors);
        store32(out + 44, v->root->first);
        store16(out + 48, 1);                   /* FSInfo */
        store16(out + 50, 6);                   /* copy of this sector */
    }
    more[0] = v->floppy ? 0 : 0x80;
    more[2] = 0x29;
    store32(more + 3, SERIAL);
    memcpy(more + 7, "QEMU-WIN   ", 11);
    memcpy(more + 18, v->type == 32 ? "FAT32   " : v->type == 16 ? "FAT16   " : "FAT12   ", 8);
    store16(out + 510, 0xaa55);
}

static void fs_info(u8 *out)
{
    store32(out, 0x41615252);
    store32(out + 484, 0x61417272);
    store32(out + 488, 0xffffffff);             /* free clusters: not known */
    store32(out + 492, 0xffffffff);
    store16(out + 510, 0xaa55);
}

/* The node that has a cluster, or NULL. */
static FatNode *node_at(const FatVolume *v, u32 cluster)
{
    u32 lo = 0, hi = v->at_count;

    while (lo < hi) {
        u32 mid = (lo + hi) / 2;

        if (v->at[mid]->first + v->at[mid]->clusters <= cluster)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < v->at_count && v->at[lo]->first <= cluster ? v->at[lo] : NULL;
}

static u32 table_entry(const FatVolume *v, u32 cluster)
{
    const FatNode *node;

    if (cluster < 2)
        return cluster ? 0x0fffffff : 0x0fffff00 | (v->floppy ? MEDIA_FLOPPY : MEDIA_DISK);
    node = node_at(v, cluster);
    return !node ? 0 : cluster + 1 == node->first + node->clusters ? 0x0fffffff : cluster + 1;
}

static void table_sector(const FatVolume *v, u32 n, u8 *out)
{
    u32 first, last;

    if (v->type != 12) {
        u32 size = (u32)v->type / 8, per = SECTOR / size;

        for (u32 i = 0; i < per; i++) {
            u32 entry = table_entry(v, n * per + i);

            if (size == 2)
                store16(out + i * 2, (u16)entry);
            else
                store32(out + i * 4, entry & 0x0fffffff);
        }
        return;
    }
    /* entries of one and a half bytes lie across sectors */
    first = n * SECTOR * 2 / 3;
    last = ((n + 1) * SECTOR * 2 + 2) / 3;
    for (u32 c = first ? first - 1 : 0; c <= last; c++) {
        u32 entry = (table_entry(v, c) & 0xfff) << (c % 2 ? 4 : 0);

        for (int k = 0; k < 2; k++) {
            u32 at = c * 3 / 2 + (u32)k;

            if (at / SECTOR == n)
                out[at % SECTOR] |= (u8)(entry >> (8 * k));
        }
    }
}

static void volume_head(const FatVolume *v, u32 n, u8 *out)
{
    u32 after = n - v->reserved;

    if (n < v->reserved) {
        if (n == 0 || (v->type == 32 && n == 6))
            boot_sector(v, out);
        else if (v->type == 32 && (n == 1 || n == 7))
            fs_info(out);
    } else if (after < 2 * v->fat_sectors) {
        table_sector(v, after % v->fat_sectors, out);
    } else {
        memcpy(out, v->root->data + (after - 2 * v->fat_sectors) * SECTOR, SECTOR);
    }
}

bool fat_sector(const FatVolume *v, u64 sector, u8 *out, FatNode **node, u64 *offset)
{
    u64 n = sector - v->start;
    u32 cluster;

    memset(out, 0, SECTOR);
    if (sector < v->start) {
        if (!sector)
            partition_table(v, out);
        return true;
    }
    if (n < v->data) {
        volume_head(v, (u32)n, out);
        return true;
    }
    cluster = (u32)((n - v->data) / v->per_cluster) + 2;
    *node = node_at(v, cluster);
    if (!*node)
        return true;
    *offset = ((u64)(cluster - (*node)->first) * v->per_cluster + (n - v->data) % v->per_cluster) * SECTOR;
    if (!(*node)->folder)
        return *offset >= (*node)->bytes;
    memcpy(out, (*node)->data + *offset, SECTOR);
    return true;
}
