/*
 * A folder of the host as a disk with a FAT file system: what its files share. Microsoft's "FAT: General
 * Overview of On-Disk Format" 1.03, "Long Filename Specification" 0.5.
 *
 *      fat_tree.c     the folder as a tree, with short and long names
 *      fat_layout.c   where everything lies on the disk; boot sectors, tables and directories
 *      fat.c          the driver: reading, fat: and fat:rw:
 *      fat_apply.c    fat:rw: what the guest has changed goes to the folder
 */
#ifndef BLOCK_FAT_H
#define BLOCK_FAT_H

#include "../core/vm/hostdir.h"
#include "driver.h"

enum { FAT_ENTRY = 32, FAT_NODES_MAX = 100000, FAT_DEPTH_MAX = 24, FAT_PATH_MAX = 2048, FAT_LFN_MAX = 255 };

typedef struct FatNode {
    struct FatNode *parent, *child, *next;      /* children sorted by name */
    char *name;                                 /* as the host has it */
    u8 short_name[11];
    bool folder, needs_long;
    bool kept;                                  /* its bytes are in the overlay: the host's file may go */
    u32 bytes;
    u16 date, time;
    u32 first, clusters;                        /* contiguous; first 0: none */
    u8 *data;                                   /* folders: entries, whole clusters */
    u32 data_bytes;
} FatNode;

typedef struct {
    int type;                       /* 12, 16, 32 */
    bool floppy;
    u32 heads, track, start;        /* geometry; sectors before the volume */
    u32 sectors;                    /* of the volume */
    u32 per_cluster, reserved, fat_sectors, root_entries, root_sectors, data;      /* data: its first sector */
    u32 clusters;                   /* number 2 ff. */
    u64 disk_sectors;
    FatNode *root;
    FatNode **at;                   /* nodes that have clusters, in their order */
    u32 at_count, nodes;
    char *path;                     /* the folder */
    struct FatKnown *known;         /* fat:rw: what is in the folder, as the guest has last left it */
    u32 known_count;
    void (*close_files)(void *opaque);          /* of the folder, before one is replaced or deleted */
    void *opaque;
} FatVolume;

/* ---- fat_tree.c ---- */
FatNode *fat_tree_read(const char *path, u32 *count, Error *err);
void fat_tree_free(FatNode *root);
/* The host's path of a node, malloc'ed. */
char *fat_node_path(const FatVolume *v, const FatNode *node);
int fat_to_utf16(const char *s, u16 *out, int max);             /* units, or -1: no name for FAT */
u32 fat_long_entries(const FatNode *node);                      /* entries of the long name, 0: none */
void fat_put_long_name(const FatNode *node, u8 *entries);
u8 fat_checksum(const u8 *short_name);

/* ---- fat_layout.c ---- */
FatVolume *fat_volume_create(const char *path, int type, bool floppy, Error *err);
void fat_volume_free(FatVolume *v);
/* A sector that is in no file: boot sectors, tables, directories, free space. False: it is data of *node. */
bool fat_sector(const FatVolume *v, u64 sector, u8 *out, FatNode **node, u64 *offset);

/* ---- fat_apply.c: blocking, main thread ---- */
/* What the disk (an overlay) holds goes to the folder, if its file system is whole. */
bool fat_apply(FatVolume *v, BlkImage *disk, Error *err);
void fat_known_free(FatVolume *v);

#endif
