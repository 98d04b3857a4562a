/*
 * qcow2, versions 2 and 3: what its files share. The format is described in the published specification
 * ("qcow2 image format"); docs/qcow2.md explains layout, cache and write order.
 *
 * All metadata in memory is the newest; what of it has not been written is dirty and is written by a commit
 * only (qcow2_commit.c), in an order that survives a power cut. Functions that need a table which may have to
 * be read return a Step: STEP_WAIT means that the reading has begun and that the same call is to be made
 * again later. They change nothing before all they need is there, or can be repeated in any case.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include "../core/vm/timer.h"
#include "driver.h"

#define QCOW2_MAGIC 0x514649fbu
#define OFF_MASK 0x00fffffffffffe00ull      /* host offset in L1, L2 and refcount table entries */
#define COPIED (1ull << 63)                 /* refcount is exactly one: may be written in place */
#define COMPRESSED (1ull << 62)
#define ZERO 1ull                           /* version 3: reads as zeros, whatever the offset */

enum { INCOMPAT_DIRTY = 1, INCOMPAT_CORRUPT = 2 };
enum {
    L1_MAX = 32 << 20,
    REFT_MAX = 8 << 20,
    SNAPSHOTS_MAX = 65536,
    SNAP_TABLE_MAX = 64 << 20, /* bytes, count */
    BACKING_NAME_MAX = 1023,
    BACKING_DEPTH_MAX = 100,
    CACHE_BYTES = 16 << 20,
    HASH_SIZE = 4096,
};

typedef struct Qcow2 Qcow2;
typedef struct Job Job;
typedef struct Part Part;
typedef struct BlkSave BlkSave;

typedef struct Meta {               /* a cached L2 table or refcount block, one cluster, as on disk */
    u64 at;
    u8 *data;
    bool l2, dirty, loading;
    u32 pins;
    Qcow2 *q;
    struct Meta *hash_next, *newer, *older;
    HostIo io;
} Meta;

typedef struct {                    /* one row of the snapshot table */
    u64 l1_at;
    u32 l1_size;
    char *id, *name;
    u32 date_s, date_ns;
    u64 clock_ns, vm_bytes, disk_bytes;
    u8 *extra;                      /* as in the file */
    u32 extra_bytes;
} Snapshot;

struct Qcow2 {
    BlkImage img;
    HostFile *f;
    Machine *m;                     /* NULL in tools */
    char *name;
    bool said;                      /* one line about the first error */
    bool no_space;                  /* why the last commit failed */
    bool corrupt;                   /* found while running: nothing is allocated any more */

    u32 version, cluster_bits, ref_order, header_length;
    u64 cluster, size;              /* bytes */
    u64 incompatible, compatible, autoclear;
    u64 file_end;                   /* clusters from here on have never been used */

    u64 *l1, l1_at;                 /* host byte order */
    u32 l1_size, l1_dirty_from, l1_dirty_to;
    u64 *reft, reft_at;             /* refcount table; in memory it may have more entries than on disk */
    u32 reft_size, reft_clusters, reft_used;
    bool reft_dirty, reft_moved;
    u64 reft_old_at;
    u32 reft_old_clusters;

    u32 snapshots;
    u64 snap_at, snap_bytes;
    char *backing_name, *backing_format;    /* "" without */
    BlkImage *backing;

    Meta *hash[HASH_SIZE], *newest, *oldest;
    u64 cached_bytes, dirty_metas;
    u64 load_failed_at;
    u64 *meta_set;                  /* clusters that hold metadata: open addressing, number + 1 */
    u32 meta_set_size, meta_set_used;
    u64 free_hint;                  /* no free cluster lies before it */
    u64 *freed;                     /* clusters given up; counted down after the map is on the disk */
    u32 freed_count, freed_room;

    Job *queue, **queue_end, *finished, **finished_end;
    Part *allocating;               /* writes that change the map when they are done */
    u32 writes;                     /* in flight */
    bool pumping, again, delivering, ticking;
    HostIo tick, commit_io;
    u8 tick_buf[SECTOR], *commit_buf;
    int phase;
    u32 commit_pending;
    bool commit_failed;
    Timer timer;
    BlkSave *saving;                /* a snapshot that is being written */
    u64 pack_at;                    /* tools: where the next compressed cluster may go; 0: nowhere yet */
    u8 *inflated;                   /* the last compressed cluster that was read */
    u64 inflated_entry;
};

/* ---- qcow2_header.c ---- */
Qcow2 *qcow2_load(const char *file, bool readonly, Error *err);      /* without its backing file */
void qcow2_free(Qcow2 *q);
u32 l1_entries_for(const Qcow2 *q, u64 bytes);
/* Says once what is wrong with the image. Always STEP_FAIL. */
Step qcow2_damaged(Qcow2 *q, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The file name of the backing file, as seen from the image's folder. malloc'ed */
char *qcow2_backing_path(const char *image, const char *backing);
bool qcow2_backing_allowed(const Qcow2 *q, Error *err);

typedef struct {
    u64 size;
    u32 version, cluster_bits, ref_order;
    bool lazy_refcounts;
    const char *backing, *backing_format;   /* NULL: none */
} Qcow2Create;
bool qcow2_create(const char *file, const Qcow2Create *how, Error *err);
/* Blocking; the header's first cluster with another backing file. NULL: none. */
bool qcow2_set_backing(Qcow2 *q, const char *name, const char *format, Error *err);

/* ---- qcow2_meta.c: the cache, and which clusters are metadata ---- */
Step meta_get(Qcow2 *q, u64 at, bool l2, Meta **out);
Meta *meta_new(Qcow2 *q, u64 at, bool l2);          /* zeroed, dirty */
void meta_dirty(Meta *meta);
void meta_drop(Qcow2 *q, u64 at);                   /* the cluster is no metadata any more */
void meta_drop_all(Qcow2 *q);
bool meta_set_add(Qcow2 *q, u64 cluster);           /* false: it was there */
bool meta_set_has(const Qcow2 *q, u64 cluster);
bool meta_set_build(Qcow2 *q, Error *err);
/* False where a data cluster may not lie: outside the file, or on metadata. */
bool data_place_ok(const Qcow2 *q, u64 at, u64 bytes);

/* ---- qcow2_ref.c ---- */
u64 ref_read(const Qcow2 *q, const u8 *block, u64 index);
void ref_write(const Qcow2 *q, u8 *block, u64 index, u64 count);
u64 ref_max(const Qcow2 *q);
static inline u64 ref_per_block(const Qcow2 *q) { return q->cluster * 8 >> q->ref_order; }
Step ref_get(Qcow2 *q, u64 cluster, u64 *count);
Step ref_add(Qcow2 *q, u64 cluster, int by);        /* the block must exist if by is -1 */
Step ref_alloc(Qcow2 *q, u64 want, u64 *first, u64 *got);       /* from 1 to want clusters in a row */
Step ref_alloc_row(Qcow2 *q, u64 count, u64 *first);            /* all in a row, at the end */
Step ref_grow_table(Qcow2 *q);
void ref_free_later(Qcow2 *q, u64 cluster);
void ref_free_entry(Qcow2 *q, u64 entry);           /* what an L2 entry refers to */
Step ref_apply_freed(Qcow2 *q);

/* ---- qcow2_map.c ---- */
typedef enum { MAP_BACKING, MAP_ZERO, MAP_DATA, MAP_COMPRESSED } MapKind;
typedef struct {
    MapKind kind;
    bool copied;                    /* DATA: may be written in place; ZERO: has a cluster that may */
    u64 at;                         /* host offset of the first byte; COMPRESSED: of the cluster's stream */
    u64 bytes;                      /* of the guest's disk, from the offset asked for */
    u64 entry;                      /* the L2 entry of the first cluster */
} Map;
Step map_lookup(Qcow2 *q, u64 guest, u64 bytes, Map *map);
Step map_table_for_write(Qcow2 *q, u64 guest, Meta **l2);
void map_compressed_place(const Qcow2 *q, u64 entry, u64 *at, u32 *bytes);
/* One cluster's entry is replaced, and what it referred to is given up unless `keep` lies there. */
void map_set(Qcow2 *q, Meta *l2, u64 guest, u64 entry);
bool qcow2_inflate(Qcow2 *q, const u8 *in, u32 in_bytes, u8 *out);

/* ---- qcow2_commit.c ---- */
Step commit_step(Qcow2 *q);
bool commit_needed(const Qcow2 *q);

/* ---- qcow2.c ---- */
void qcow2_pump(Qcow2 *q);
bool qcow2_commit_now(Qcow2 *q, Error *err);        /* blocking */
bool qcow2_wait(Qcow2 *q, Step step, Error *err);   /* blocking: true: call again */
bool qcow2_sync_file(Qcow2 *q, Error *err);
/* Compresses one whole cluster into the image, which must not have it yet. Blocking. */
bool qcow2_write_compressed(Qcow2 *q, u64 guest, const u8 *packed, u32 bytes, Error *err);

/* Makes the call until it need not wait any more; true: it went well. Blocking. */
#define NOW(q, call, err) ({ \
        Step step_; \
        do { \
            step_ = (call); \
        } while (qcow2_wait(q, step_, err)); \
        step_ == STEP_OK; \
    })

/* ---- qcow2_snapshot.c: blocking, nothing in flight ---- */
bool snapshots_read(Qcow2 *q, Snapshot **list, Error *err);
void snapshots_free(Snapshot *list, u32 count);
bool snapshot_create(Qcow2 *q, const char *name, u32 date_s, u32 date_ns, Error *err);
bool snapshot_apply(Qcow2 *q, const char *id_or_name, Error *err);
bool snapshot_delete(Qcow2 *q, const char *id_or_name, Error *err);
bool qcow2_resize(Qcow2 *q, u64 bytes, Error *err);
/* ... and what they are made of */
bool snapshot_index(Qcow2 *q, const char *id, const Snapshot *list, u32 *index, Error *err);
u64 *snapshot_l1(Qcow2 *q, const Snapshot *s, Error *err);
bool snapshot_can_count(Qcow2 *q, Error *err);
bool snapshot_count_tree(Qcow2 *q, const u64 *l1, u32 l1_size, int by, Error *err);
bool snapshot_set_copied(Qcow2 *q, bool by_counts, Error *err);
bool snapshot_write_l1(Qcow2 *q, const u64 *l1, u32 size, u64 *at, Error *err);
bool snapshot_write_table(Qcow2 *q, const Snapshot *list, u32 count, Error *err);
void snapshot_free_id(const Snapshot *list, u32 count, char id[24]);
void snapshot_free_l1(Qcow2 *q, u64 at, u32 size);
bool snapshot_settle(Qcow2 *q, Error *err);
bool qcow2_empty(Qcow2 *q, Error *err);             /* everything reads as the base again */
/* A read-only image shows one of its snapshots: its id, its name, or snapshot.id=..., snapshot.name=... */
bool qcow2_use_snapshot(Qcow2 *q, const char *which, Error *err);

/* ---- qcow2_tools.c: what qemu-img asks of any format ---- */
extern const char *const qcow2_options[];
BlkImage *qcow2_open_alone(const char *file, Error *err);
bool qcow2_create_image(const char *file, const ImageCreate *how, Error *err);
bool qcow2_part(BlkImage *img, u64 at, u64 bytes, ImagePart *out, Error *err);
bool qcow2_resize_image(BlkImage *img, u64 bytes, Error *err);
bool qcow2_pack_image(BlkImage *img, u64 at, const u8 *packed, u32 bytes, Error *err);
void qcow2_facts(BlkImage *img, ImageFacts *out);

/* ---- qcow2_vmstate.c: a machine's state beside its disk; see blk.h ---- */
enum { BLK_VM_WRITE = 16 };         /* a BlkReq's op: offset is within the VM state */
extern const BlkSnapshotOps qcow2_snapshot_ops;
void vmstate_set_place(Qcow2 *q, u64 offset, u64 place);

/* ---- qcow2_check.c: blocking, nothing in flight ---- */
typedef struct {
    u64 corruptions, leaks, fixed_corruptions, fixed_leaks, errors;
    u64 copied_missing;             /* of the corruptions: those that cost no more than a needless copy */
    u64 allocated, compressed, total, image_end;
} Qcow2Check;
enum { FIX_LEAKS = 1, FIX_ERRORS = 2 };
bool qcow2_check(Qcow2 *q, int fix, void (*say)(const char *line), Qcow2Check *out, Error *err);

#endif
