/*
 * Snapshots: what their files share.
 *
 *   snapshot.c          savevm, loadvm, delvm: disks and machine at one instant, and back
 *   snapshot_state.c    the machine's state as bytes: chips, clock, media, page table; taking it apart again
 *   snapshot_ram.c      memory: what a save holds back and compresses, what a load brings in later
 *   snapshot_head.c     the first block: identity, ancestors, picture
 *   snapshot_tree.c     listing and drawing
 *
 * The state is a row of blocks in the image (see blk.h and docs/snapshots.md):
 *
 *      0        head (4 KiB) and picture        1..   pages, compressed one by one; shared or new
 *      last     sections, one deflate stream
 */
#ifndef VM_SNAPSHOT_INT_H
#define VM_SNAPSHOT_INT_H

#include "blk.h"
#include "device.h"
#include "machine.h"
#include "snapshot.h"

enum { HEAD_BYTES = 4096, ANCESTORS = 16, MEDIA_MAX = 32 };

/* Where a page is: 0 all zeros; else block << 32 | offset / 8 << 14 | bytes (PAGE_SIZE: as it is). */
typedef u64 PageRef;
static inline PageRef page_ref(u32 block, u32 offset, u32 bytes)
{
    return (u64)block << 32 | offset / 8 << 14 | bytes;
}
static inline u32 ref_block(PageRef r) { return (u32)(r >> 32); }
static inline u32 ref_offset(PageRef r) { return ((u32)r >> 14) * 8; }
static inline u32 ref_bytes(PageRef r) { return (u32)r & 0x3fff; }

/* ---- the pages of a snapshot ---- */
typedef struct {
    PageRef *page;                  /* by arena page */
    u32 pages;
    u32 *crc, *used;                /* by block: of its bytes; bytes that pages refer to */
    u32 blocks, room;               /* with the head; what a table has room for */
} PageTable;
void table_free(PageTable *t);
void table_room(PageTable *t, u32 blocks);

/* ---- head ---- */
typedef struct {
    u64 uid, ancestor[ANCESTORS];   /* the parent first; 0: none */
    u32 block_bytes, blocks;        /* of the whole state */
    u32 sections_at, sections_bytes, sections_raw, sections_crc;   /* block; compressed; inflated */
    u32 picture_bytes;              /* PNG, behind the head */
    char program[32];               /* version that saved it */
} Head;
u64 head_new_uid(void);
void head_put(u8 *block, const Head *h, const u8 *picture);
/* False and err: not ours, or damaged. bytes: of the whole block. */
bool head_get(Head *h, const u8 *block, u32 bytes, Error *err);
/* Reads it from the image. */
bool head_read(Head *h, Blk *blk, const BlkSnapshot *s, Error *err);
/* The guest's screen as a small PNG of at most max bytes; 0: none. */
u32 head_picture(Machine *m, u8 *out, u32 max);

/* ---- memory ---- */
typedef struct RamSave RamSave;
typedef struct RamLoad RamLoad;

typedef struct {                    /* what memory was when the DIRTY bits were last taken away */
    u64 uid;                        /* the snapshot that holds it; 0: none */
    PageTable table;                /* empty: what is not DIRTY is zero */
    u64 *quick;                     /* a hash by page of the memory that has no DIRTY bits */
} RamBase;

/*
 * Takes hold of memory as it is, vCPU parked. Pages that base has are shared: *share lists its blocks, which
 * become blocks 1 to *shares. Then a thread compresses the rest.
 */
RamSave *ram_save_begin(Machine *m, RamBase *base, u32 block_bytes, u32 **share, u32 *shares);
/* Blocks that are done: *n is the next one's number, its bytes are the caller's until ram_save_release().
 * NULL: none yet, or no more (ram_save_done). */
u8 *ram_save_take(RamSave *s, u32 *n);
void ram_save_release(RamSave *s, u8 *block);
bool ram_save_done(RamSave *s);
void ram_save_wait(RamSave *s);     /* until there is a block to take, or it is done */
PageTable *ram_save_table(RamSave *s);
void ram_save_keep(RamSave *s, RamBase *base, u64 uid);     /* it went well: the table is the base */
/* The end, or giving up: the thread ends, nothing is held any more. forget: unless it was kept, what was to
 * be saved counts as written since the base. */
void ram_save_run(RamSave *s);      /* starts the thread */
void ram_save_free(RamSave *s, bool forget);

/* Memory becomes what the table of snapshot uid says, vCPU parked; area: the blocks of the state, taken
 * over. Returns at once: pages come when they are looked at, and by a thread. */
RamLoad *ram_load_begin(Machine *m, const RamBase *base, u64 uid, const PageTable *table, u8 *area,
                        u32 block_bytes);
bool ram_load_done(RamLoad *l);
void ram_load_free(RamLoad *l);     /* brings in what is left */
void ram_quick_hashes(Machine *m, RamBase *base);
/* Nothing is known of memory any more: all of it is to be saved. */
void ram_base_lost(Machine *m, RamBase *base);

/* Memory that devices reach behind memory.h's back: saved and loaded at once. */
bool ram_is_lazy(const MemRegion *r);

/* ---- snapshot.c's, for the tree; snapshot_tree.c's, for snapshot.c ---- */
Blk *snapshot_disk(Machine *m);         /* the one that holds machines, or NULL */
bool snapshot_look_up(Machine *m, const char *which, Blk **blk, BlkSnapshot *row, Error *err);
u64 snapshot_point(Machine *m, u64 ancestor[ANCESTORS]);
void snapshot_name_now(char *out, size_t size);
const char *snapshot_nth_name(Machine *m, int n, char *out, size_t size);

/* ---- the sections ---- */
typedef struct { char drive[32], file[1024]; bool locked; } MediumNote;
typedef struct {
    SaveBuf chips;                  /* { u8 id length, id, u32 bytes, device_save() } ... */
    u64 clock_ns;
    MediumNote medium[MEDIA_MAX];
    u32 media;
} MachineState;
void state_take(Machine *m, MachineState *st);              /* vCPU parked, clock stands */
void state_free(MachineState *st);
void state_put_sections(Machine *m, const MachineState *st, const PageTable *t, SaveBuf *out);
/* Takes the sections apart and tries them on this machine without changing it. */
bool state_parse(Machine *m, const u8 *data, size_t len, u32 block_bytes, MachineState *st, PageTable *t,
                 Error *err);
/* Clock, chips, locks of drives: vCPU parked, clock stands. After an error the machine needs its old state
 * applied. */
bool state_apply(Machine *m, const MachineState *st, Error *err);

#endif
