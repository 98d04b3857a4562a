/*
 * Snapshots of the whole machine: every chip, memory, and all writable disks of one instant, kept in the qcow2
 * images. Main thread, machine lock held.
 *
 * The first writable disk in a format with snapshots holds the machine's state; the others hold theirs under
 * the same name. A name of digits is a number. Going back keeps the present first, as "before-loadvm".
 */
#ifndef VM_SNAPSHOT_H
#define VM_SNAPSHOT_H

#include "cpu.h"
#include "error.h"
#include "types.h"

typedef struct Machine Machine;

#define SNAPSHOT_AUTO "before-loadvm"

/* error: NULL when it went well. May be called before the function that was given it returns. */
typedef void SnapshotDone(void *opaque, const char *error);

/*
 * Takes a snapshot. The guest stands still for an instant; then it goes on, and done() is called when all is
 * on the disk. name NULL or "": one is made from the date. A name that exists is replaced. note (of 512
 * bytes): what is to be said to the person, "" for nothing. False and err: it can't begin; done is not called.
 */
bool snapshot_save(Machine *m, const char *name, char note[512], SnapshotDone *done, void *opaque, Error *err);

/* Goes back, by number or name. Whole or not at all. note as above. */
bool snapshot_load(Machine *m, const char *which, char note[512], Error *err);
bool snapshot_remove(Machine *m, const char *which, Error *err);

void snapshot_list(Machine *m, PrintFn *print, void *opaque);
void snapshot_tree(Machine *m, PrintFn *print, void *opaque);
/* The n-th snapshot's name, for completion; NULL past the last. */
const char *snapshot_name(Machine *m, int n);
/* The picture of the screen that is kept with it, as a PNG file. */
bool snapshot_picture(Machine *m, const char *which, const char *file, Error *err);

/* machine.c and the end of the program: a turn of what goes on in the background; all of it, to its end. */
void snapshot_service(Machine *m);
void snapshot_finish(Machine *m);
void snapshot_destroy(Machine *m);

/* For measurements: how long the guest stood still, and how much was written, last time. */
typedef struct { u64 stood_ns, total_ns, bytes; } SnapshotFigures;
SnapshotFigures snapshot_figures(Machine *m);

#endif
