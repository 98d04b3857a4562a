/*
 * Disks as the guest's controllers see them: an array of bytes with asynchronous requests. Implemented by
 * block/. Machine lock held for every call.
 *
 * A request completes exactly once, on the main thread with the lock held, never inside blk_submit(). The
 * caller owns the request and its buffer until done() is called. Requests may complete in any order;
 * overlapping ones are the caller's care.
 */
#ifndef VM_BLK_H
#define VM_BLK_H

#include "config.h"
#include "error.h"
#include "types.h"

typedef struct Machine Machine;
typedef struct Blk Blk;

typedef enum { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD } BlkOp;
typedef enum {
    BLK_OK, BLK_ERR_IO, BLK_ERR_RANGE, BLK_ERR_READONLY, BLK_ERR_NOSPACE, BLK_ERR_NOMEDIUM
} BlkResult;

typedef struct BlkReq {
    BlkOp op;
    u64 offset;                     /* bytes, multiple of 512 */
    u32 bytes;                      /* multiple of 512; 0 for FLUSH */
    void *buf;
    void (*done)(struct BlkReq *req);
    void *opaque;
    BlkResult result;
    struct BlkReq *next;            /* the block layer's own from here */
    Blk *blk;
    void *priv[4];
} BlkReq;

/* A drive and its medium, as the command line describes it. The name ("ide0-hd0", "floppy0", "ide1-cd0")
 * is what the monitor shows. */
Blk *blk_create(Machine *m, const DriveConfig *cfg, const char *name, Error *err);
void blk_destroy(Blk *blk);                                     /* waits for what is in flight, flushes */

bool blk_has_medium(const Blk *blk);
/* of the medium, 0 without; raw files are rounded up to 512 */
u64 blk_bytes(const Blk *blk);
bool blk_readonly(const Blk *blk);
bool blk_is_cdrom(const Blk *blk);
const char *blk_name(const Blk *blk);
const char *blk_file(const Blk *blk);                           /* "" without a medium */
const char *blk_format(const Blk *blk);                         /* the same */

void blk_submit(Blk *blk, BlkReq *req);
/* Returns when nothing is in flight; runs done() callbacks. Requests that wait for `cont` after an error of
 * the host go on waiting. */
void blk_drain(Blk *blk);
/* A drive has such requests: its state can't be saved. */
bool blk_waits(const Blk *blk);
/* Of a failed request: "report", "stop" or "ignore". */
const char *blk_error_action(const BlkReq *req);
/* machine.c: the waiting requests of all drives are made again; or, at a reset, end with their error. */
void blk_retry_all(Machine *m);
void blk_give_up_all(Machine *m);
/* Blocking, for loaders and geometry guesses at start-up, before the machine runs. */
bool blk_read_now(Blk *blk, u64 offset, void *buf, u32 bytes);

/* The medium is taken out or put in (file NULL: eject). The controller is told through on_change, lock held.
 * A hard disk (IF_IDE and no CD-ROM) refuses. */
void blk_on_change(Blk *blk, void (*changed)(void *opaque), void *opaque);
bool blk_change(Blk *blk, const char *file, const char *format, Error *err);
bool blk_locked(const Blk *blk);
void blk_set_locked(Blk *blk, bool locked);                     /* the guest's prevent-removal */

/*
 * ---- snapshots of the machine ----
 * A format that keeps snapshots holds, with each, the disk as it was and room for the state of the machine: a
 * row of blocks of blk_vm_block() bytes, number 0 first. A block that the snapshot before had already is
 * shared with it. Blocking, on the main thread, the vCPU parked and nothing in flight, unless said otherwise.
 */
typedef struct {
    char id[24], name[256];             /* the image's own number, and the name that a person gave */
    u32 date_s, date_ns;                /* since 1970, UTC */
    u64 clock_ns, vm_bytes;             /* of the machine: its virtual clock, its state */
} BlkSnapshot;
typedef struct BlkSave BlkSave;

bool blk_removable(const Blk *blk);
bool blk_can_snapshot(const Blk *blk);
bool blk_keeps_changes(const Blk *blk);                         /* false: writes are thrown away (-snapshot) */
u32 blk_vm_block(const Blk *blk);
bool blk_snapshots(Blk *blk, BlkSnapshot **list, u32 *count, Error *err);      /* malloc'ed */
/* The disk as it is at this moment. The blocks share[0..count-1] of the snapshot `from` become blocks 1 to
 * count. Nobody sees the snapshot before blk_save_end(); it or blk_save_abort() frees the handle. */
BlkSave *blk_save_begin(Blk *blk, const char *from, const u32 *share, u32 count, Error *err);
/* Asynchronous, while the guest runs: req's offset and bytes are whole blocks of the state. */
void blk_save_write(BlkSave *save, BlkReq *req);
/* row: name, date, clock, vm_bytes. A snapshot of that name is replaced in the same instant. On error the
 * save is aborted. */
bool blk_save_end(BlkSave *save, const BlkSnapshot *row, Error *err);
void blk_save_abort(BlkSave *save);
bool blk_snapshot_read(Blk *blk, const char *id, u64 offset, void *buf, u64 bytes, Error *err);
bool blk_snapshot_apply(Blk *blk, const char *id, Error *err);
bool blk_snapshot_delete(Blk *blk, const char *id, Error *err);

bool blk_keeps_changes_apart(const Blk *blk);   /* -snapshot, and there is a medium */
/* -snapshot: what was written goes down into the file. Blocking. */
bool blk_commit(Blk *blk, Error *err);

/* For `info block` and the closing of the program. */
Blk *blk_first(Machine *m);
Blk *blk_next(Blk *blk);
void blk_describe(Blk *blk, char *out, size_t size);
/* blocking: everything acknowledged is on the disk */
void blk_flush_all(Machine *m);

#endif
