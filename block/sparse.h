/*
 * What the formats share that keep a disk in units, found through tables in the file: VDI, VPC, VMDK, qcow
 * and the ones that are only read. A format says where the guest's bytes are, where new ones may go, and
 * changes its tables; the engine does the input and output, keeps requests in order, and commits the tables.
 *
 *      sparse.c        requests, their parts, the queue
 *      sparse_table.c  the tables' cache, the commit
 *
 * Machine lock held for all calls. Steps that return STEP_WAIT have begun to read a table and are made again
 * when it is there: they change nothing before they have all they need.
 *
 * Write order of a commit: data, sync; tables of level 0 (what must not be missed: leaves, counts), sync;
 * tables of level 1 (what leads to them), sync. A unit is never used again for other data, so a power cut
 * leaves, at worst, space in the file that nothing refers to.
 */
#ifndef BLOCK_SPARSE_H
#define BLOCK_SPARSE_H

#include "../core/vm/timer.h"
#include "driver.h"

enum {
    TABLE_PAGE = 4096,
    TABLE_PAGES_MAX = 1024,         /* 4 MiB of tables in memory */
    TABLE_DIRTY_MAX = 512,
    TABLE_HASH = 1024,
    TABLE_LEVELS = 2,
    UNPACKED_MAX = 64 << 20,        /* a compressed unit */
    SPARSE_DEPTH_MAX = 100,         /* backing files */
};

typedef struct Sparse Sparse;
typedef struct SparseJob SparseJob;
typedef struct SparsePart SparsePart;
typedef struct TablePage TablePage;

typedef struct {
    ImagePartKind kind;             /* what a read finds */
    bool in_place;                  /* a write goes to file and at, too */
    bool note;                      /* ... and mapped() is told of it */
    bool partial;                   /* of place(): what is not written of the unit is not seen */
    u32 file;                       /* DATA, PACKED, in_place: where it lies */
    u64 at;
    u64 bytes;                      /* DATA...: from the offset asked for; PACKED: to the end of the unit */
    u64 unit, unit_bytes;           /* PACKED, of place(): the disk offset and size of the whole unit */
    u32 packed, how;                /* PACKED: bytes of the stream; what the format wants to remember */
} Run;

typedef struct {
    /* The first run of the guest's bytes at an offset. */
    Step (*find)(Sparse *s, u64 guest, u64 bytes, Run *run);
    /* A place for a unit that has none; the tables do not change yet. */
    Step (*place)(Sparse *s, u64 guest, Run *run);
    /* The guest's bytes are in that place: the tables change, in memory. */
    Step (*mapped)(Sparse *s, u64 guest, u64 bytes, const Run *run);
    /* A compressed unit; out has run->unit_bytes. */
    bool (*unpack)(Sparse *s, const Run *run, const u8 *in, u8 *out);
    void (*freed)(Sparse *s);       /* what the format itself has allocated; may be NULL */
} SparseOps;

typedef struct {
    HostFile *f;
    char *name;
    u64 size;                       /* of the file when it was opened: behind it everything is zero */
    u64 end;                        /* the next place for a unit; the file is made this long */
    bool unsynced;
} SparseFile;

struct Sparse {
    BlkImage img;
    const SparseOps *ops;
    Machine *m;                     /* NULL in tools */
    char *name;
    bool written;                   /* since it was opened */
    bool said;                      /* one line about the first error */
    SparseFile *file;
    u32 files;
    BlkImage *backing;
    char *backing_name, *backing_format;    /* NULL: none */

    TablePage *hash[TABLE_HASH], *newest, *oldest;
    u32 pages, dirty_pages;
    u64 failed_at;                  /* a table that could not be read, + 1 */
    u32 failed_file;

    SparseJob *queue, **queue_end, *finished, **finished_end;
    SparsePart *allocating, *mapping;
    u32 writes;                     /* in flight */
    bool pumping, again, delivering, ticking;
    HostIo tick;
    u8 tick_buf[SECTOR];
    int phase;
    u32 commit_pending;
    bool commit_failed;
    Timer timer;
    u8 *unpacked;                   /* the last compressed unit that was read */
    u64 unpacked_at, unpacked_bytes;
    u32 unpacked_file;
};

/* ---- sparse.c ---- */
/* size: of the format's own structure, which begins with a Sparse. The first file is open; NULL and err if
 * it can't be. */
void *sparse_new(size_t size, const BlkDriver *drv, const SparseOps *ops, const char *file, bool readonly,
                 Error *err);
/* False where a format that is only read is asked for writing; the message says what can be done. */
bool sparse_only_read(const BlkDriver *drv, const char *file, bool readonly, Error *err);
/* Another file of the image; its number or -1. */
int sparse_add_file(Sparse *s, const char *path, bool readonly, Error *err);
/* The last step of opening: the disk's size is set, backing_name too where there is one. On error the image
 * is closed and NULL returned. */
BlkImage *sparse_ready(Sparse *s, Machine *m, Error *err);
void sparse_free(Sparse *s);
/* Read-only, without its backing file. */
BlkImage *sparse_open_alone(const BlkDriver *drv, const char *file, Error *err);
/* Says once what is wrong with the image. Always STEP_FAIL. */
Step sparse_damaged(Sparse *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Blocking, whole or failed, inside the file; `what` is for the message. */
bool sparse_read(Sparse *s, u32 file, u64 at, void *buf, u64 bytes, const char *what, Error *err);
/* True if the area lies in the file. */
bool sparse_inside(const Sparse *s, u32 file, u64 at, u64 bytes);
void sparse_submit(BlkImage *img, BlkReq *req);
void sparse_close(BlkImage *img);
bool sparse_part(BlkImage *img, u64 at, u64 bytes, ImagePart *out, Error *err);
void sparse_facts(BlkImage *img, ImageFacts *out);      /* backing file only */
bool sparse_wait(Sparse *s, Step step, Error *err);     /* blocking: true: call again */
/* Blocking: appends a compressed unit to file 0 at a place that is a multiple of `align`. */
bool sparse_write_packed(Sparse *s, u64 guest, const u8 *packed, u32 bytes, u32 align, Run *run, Error *err);
char *sparse_text(const void *from, size_t n);          /* a copy, with a NUL behind it */
/* The file name of one that the image names, as seen from the image's folder. malloc'ed */
char *sparse_beside(const char *image, const char *name);

/* ---- sparse_table.c ---- */
/* Entries lie at multiples of their size. The pointer holds until the next call. */
Step table_get(Sparse *s, u32 file, u64 at, u8 **entry);
/* The bytes at the pointer just got have changed. */
void table_changed(Sparse *s, u32 file, u64 at, u32 bytes, int level);
/* A table of whole sectors that is not on the disk yet, filled with one byte. */
void table_new(Sparse *s, u32 file, u64 at, u32 bytes, u8 fill, int level);
/* What the cache has of these sectors is read again. */
void table_forget(Sparse *s, u32 file, u64 at, u32 bytes);
bool table_must_commit(const Sparse *s);
bool table_commit_needed(const Sparse *s);
Step table_commit(Sparse *s);
void table_drop_all(Sparse *s);

void sparse_pump(Sparse *s);
void sparse_commit_timer(void *opaque);

#endif
