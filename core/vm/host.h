/*
 * What the machine needs from the computer it runs on. Implemented by win32/ (and, for tests on the build
 * machine only, by tests/host_posix.c). Nothing else calls the operating system. Names of files are UTF-8
 * throughout.
 */
#ifndef VM_HOST_H
#define VM_HOST_H

#include "error.h"
#include "types.h"

typedef struct Machine Machine;

/* ---- time: any thread ---- */
u64 host_now_ns(void);                      /* monotonic */
s64 host_wall_us(void);                     /* microseconds since 1970-01-01 UTC */
s64 host_utc_offset_s(s64 unix_s);          /* local time minus UTC at that moment */

/* ---- memory: any thread ---- */
/* zeroed, read-write, page-aligned, backed on first touch; NULL: no memory */
void *host_pages_alloc(u64 bytes);
/* page-aligned range reads as zero again; gives the memory back if it can */
void host_pages_zero(void *p, u64 bytes);
void host_pages_free(void *p, u64 bytes);
void *host_code_alloc(u64 bytes);           /* read-write-execute; NULL: policy or memory forbids */
void host_code_free(void *p, u64 bytes);

/* ---- threads and locks: any thread ---- */
typedef struct HostThread HostThread;
typedef struct HostLock HostLock;
typedef struct HostCond HostCond;
HostThread *host_thread_start(const char *name, void (*run)(void *), void *opaque);
void host_thread_join(HostThread *t);       /* waits for its end and frees it */
HostLock *host_lock_new(void);              /* not recursive */
void host_lock_free(HostLock *l);
void host_lock(HostLock *l);
void host_unlock(HostLock *l);
HostCond *host_cond_new(void);
void host_cond_free(HostCond *c);
void host_cond_wait(HostCond *c, HostLock *l);
/* As host_cond_wait(), but ends at this host time at the latest (up to 2 ms after it). It may end before. */
void host_cond_wait_until(HostCond *c, HostLock *l, u64 when_ns);
void host_cond_signal(HostCond *c);         /* wakes all waiters */

int host_cpus(void);                        /* how many threads can compute at the same time */

/* ---- the person ---- */
/* Ctrl-C and its like call this from now on, on any thread, instead of ending the program. The second one
 * ends it. */
void host_on_interrupt(void (*fn)(void));

/* ---- main loop ---- */
void host_wake(void);                       /* any thread: the main loop looks at timers and requests again */
/* Any thread: the main loop looks at timers at this host time at the latest. Cheaper than host_wake():
 * nobody is woken before. */
void host_deadline(u64 when_ns);

/* ---- processor faults inside translated code: vCPU thread ----
 * The handler gets the faulting host address and the guest-visible vector that the host's exception stands
 * for (0 #DE, 16 #MF, 17 #AC, 19 #XM, 6 #UD, 13 #GP, 14 #PF), and returns the host address to go on at with
 * all registers unchanged, or NULL if the fault is not its own (then it is a bug of ours: reported and
 * fatal). */
typedef void *HostFaultFn(void *opaque, void *host_pc, int vector);
void host_fault_handler(HostFaultFn *fn, void *opaque);

/* ---- files ---- */
typedef struct HostFile HostFile;
enum {
    HOST_READ   = 1 << 0,
    HOST_WRITE  = 1 << 1,                   /* nobody else may write while we have it open */
    HOST_CREATE = 1 << 2,                   /* make it, or truncate what is there */
    HOST_TEMP   = 1 << 3,                   /* path is ignored: an anonymous file that is gone when closed */
    /* with HOST_WRITE: what is never written, or given back by host_file_zero(), takes no room, if the file
     * system can do that */
    HOST_SPARSE = 1 << 4,
};
HostFile *host_file_open(const char *path, unsigned flags, Error *err);
void host_file_close(HostFile *f);
u64 host_file_size(HostFile *f);
u64 host_file_allocated(HostFile *f);       /* the room it takes on the disk */
bool host_file_resize(HostFile *f, u64 bytes, Error *err);
/* Where from an offset on the file may hold anything but zeros: *from to *to. Both are the file's size when
 * nothing follows. */
void host_file_next_data(HostFile *f, u64 offset, u64 *from, u64 *to);
/* Reads as zeros afterwards; the room is given back where that is possible. Blocking. */
bool host_file_zero(HostFile *f, u64 offset, u64 bytes, Error *err);
bool host_file_delete(const char *path, Error *err);
/* Blocking, whole or failed; for start-up and tools, not for a running guest. Reading past the end fails. */
bool host_file_read(HostFile *f, u64 offset, void *buf, size_t bytes, Error *err);
bool host_file_write(HostFile *f, u64 offset, const void *buf, size_t bytes, Error *err);

/* Asynchronous. Completes exactly once, on the main thread with the machine lock held, never inside
 * submit. */
typedef enum { HOST_IO_READ, HOST_IO_WRITE, HOST_IO_FLUSH } HostIoKind;
typedef struct HostIo {
    HostIoKind kind;
    HostFile *file;
    u64 offset;
    void *buf;
    u32 bytes;
    void (*done)(struct HostIo *io);
    void *opaque;
    bool ok;                                /* result */
    bool no_space;                          /* result, if !ok: the disk is full */
    u32 transferred;                        /* result; short at end of file */
    Error err;                              /* result, if !ok */
    struct HostIo *next;                    /* the host's own */
    void *priv[8];                          /* the host's own */
} HostIo;
void host_io_submit(HostIo *io);            /* main or vCPU thread, machine lock held */
/* Waits until a request in flight has completed and runs done() of those that have; false at once: none is
 * in flight. Main thread, machine lock held; for draining (blk_drain), not for a running guest. */
bool host_io_wait(void);

/* Reads a whole file into malloc'ed memory (one NUL is added behind it); NULL and err if it can't or if it
 * is larger than max. In core/vm/slurp.c, for all hosts. */
u8 *host_file_slurp(const char *path, size_t max, size_t *size, Error *err);
bool host_file_exists(const char *path);
/* The files of a folder ("" is the current one), in no order; those that begin with a dot are left out. */
void host_list_folder(const char *folder, void (*each)(void *opaque, const char *name, bool is_folder), void *opaque);

/* Firmware and other files that are part of the program. Name as in pc-bios ("bios-256k.bin"); false: not
 * there. */
bool host_resource(const char *name, const void **data, size_t *size);

#endif
