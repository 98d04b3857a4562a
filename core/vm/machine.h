/*
 * The machine: what is shared by its parts, the machine lock, and its run state.
 *
 *   main thread   main loop: timers, completions, input, monitor. Holds the lock while it works, never while
 *                 it waits.
 *   vCPU thread   cpu_run() without the lock; takes it for port I/O, MMIO and interrupt acknowledge.
 */
#ifndef VM_MACHINE_H
#define VM_MACHINE_H

#include "config.h"
#include "cpu.h"
#include "error.h"
#include "memory.h"
#include "timer.h"
#include "types.h"

typedef struct Device Device;
typedef struct IoBus IoBus;
typedef struct Clocks Clocks;
typedef struct MachineThread MachineThread;
typedef struct PciBus PciBus;
typedef struct Ui Ui;
typedef struct Blk Blk;

enum { DRIVE_COUNT = 32, SERIAL_COUNT = 4, PARALLEL_COUNT = 3 };

struct Machine {
    Config cfg;
    Memory *mem;
    IoBus *io;
    Clocks *clocks;
    Cpu *cpu;
    Ui *ui;                         /* display and input hub, see ui.h */
    PciBus *pci;                    /* NULL on isapc */
    struct Net *net;                /* VLANs, see nic.h */
    struct Snapshots *snapshots;    /* snapshot.c's own; NULL before the first one */
    Device *devices;                /* in order of creation */
    MachineThread *thread;          /* machine.c's own: lock, vCPU thread, run state */
    void (*powerdown)(void *opaque);/* the board's power button; NULL: none */
    void *powerdown_opaque;
    /* machine_cont() tells how long the machine had stood still. NULL: nobody asks */
    void (*stood)(void *opaque, u64 ns);
    void *stood_opaque;
    void (*board_reset)(void *opaque);
    void *board_opaque;
    bool (*boot_set)(void *board_opaque, const char *letters);      /* order from the next reset on */
    struct InfoNode *info_topics;   /* monitor.c's list of what devices show by `info` */
    struct MachineListener *listeners;
};

/* Makes an empty machine (memory, clocks, UI hub; no chips). The board (devices/pc.h) fills it. Config is
 * copied. */
Machine *machine_create(const Config *cfg, u64 arena_bytes, Error *err);
void machine_destroy(Machine *m);

void machine_lock(Machine *m);
void machine_unlock(Machine *m);

/* Resets the machine or goes to the snapshot of -loadvm, and starts the vCPU thread. With cfg.start_stopped
 * the machine is paused until machine_cont(). False and err: no such snapshot. Main thread, lock held. */
bool machine_start(Machine *m, Error *err);
/* Ends the vCPU thread. Main thread, lock held (it is let go while waiting). */
void machine_join(Machine *m);

/* Main thread, lock held; the lock is let go while waiting for the vCPU to park. */
void machine_stop(Machine *m);
void machine_cont(Machine *m);
bool machine_running(Machine *m);
bool machine_started(Machine *m);           /* its vCPU thread is there */

/* Keeps the vCPU out of guest code while somebody looks at its state; time goes on. Nests. Main thread, lock
 * held; it is let go while waiting. */
void machine_park(Machine *m);
void machine_unpark(Machine *m);

/* For snapshots: the vCPU is parked and virtual time stands still, whatever the run state. other_state: chips,
 * CPU and memory are not what they were. */
void machine_freeze(Machine *m);
void machine_thaw(Machine *m, bool other_state);

/*
 * Requests: any thread that holds the lock (device handlers on the vCPU thread among them). They are served
 * by the main loop in machine_service(), with the vCPU parked.
 */
typedef enum {
    REQ_RESET    = 1 << 0,          /* with -no-reboot: REQ_SHUTDOWN */
    REQ_SHUTDOWN = 1 << 1,          /* power off: the program ends with machine_exit_code() */
    REQ_STOP     = 1 << 2,
    REQ_POWERDOWN = 1 << 3,         /* press the power button */
    REQ_QUIT     = 1 << 4,          /* monitor `quit`, window closed: ends with 0 */
    REQ_BY_HOST  = 1 << 5,          /* beside REQ_RESET: by a person or a program, not by the guest */
    REQ_IO_ERROR = 1 << 6,          /* as REQ_STOP, because the host could not do what a drive wanted */
} MachineRequest;
void machine_request(Machine *m, MachineRequest r);
void machine_set_exit_code(Machine *m, int code);       /* isa-debug-exit */
int machine_exit_code(Machine *m);

/*
 * What happens to the machine, for QMP and the debugger. Main thread, lock held; a listener may not stop or
 * start the machine from inside.
 */
typedef enum {
    MACHINE_STOPPED, MACHINE_RESUMED,
    MACHINE_RESET,                  /* detail: who did it, as QMP says it: "guest-reset" ... */
    MACHINE_SHUTDOWN,               /* the same */
    MACHINE_POWERDOWN,
    MACHINE_IO_ERROR,               /* a disk request failed. detail: drive's name; subject: the BlkReq */
} MachineEvent;
typedef struct MachineListener {
    void (*event)(void *opaque, MachineEvent e, const char *detail, void *subject);
    void *opaque;
    struct MachineListener *next;
} MachineListener;
void machine_listen(Machine *m, MachineListener *l);
void machine_unlisten(Machine *m, MachineListener *l);
void machine_tell(Machine *m, MachineEvent e, const char *detail, void *subject);

/*
 * One turn of the machine's part of the main loop: serves requests, runs due timers. Main thread, lock held.
 * Returns false when the program shall end. *deadline_ns: host time of the next timer, or TIMER_NEVER.
 */
bool machine_service(Machine *m, u64 *deadline_ns);

bool machine_io_error(Machine *m);              /* paused because of one */
/* "running", "paused", "paused (io-error)", "shutdown", ... for titles and the monitor. */
const char *machine_state_name(Machine *m);

#endif
