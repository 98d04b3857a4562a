/*
 * Clocks and timers. All functions: machine lock held, unless said otherwise.
 *
 * Two clocks, both in nanoseconds from 0 at the machine's creation:
 *   CLOCK_VIRTUAL  stands still while the machine is stopped (monitor `stop`, snapshots). Devices use this
 *                  one.
 *   CLOCK_HOST     always runs (screen refresh, things that concern the person and not the guest).
 * Both follow the host's monotonic counter: a guest's second is a real second.
 */
#ifndef VM_TIMER_H
#define VM_TIMER_H

#include "types.h"

typedef struct Machine Machine;
typedef enum { CLOCK_VIRTUAL, CLOCK_HOST, CLOCK_COUNT } Clock;

#define NS_PER_SEC 1000000000ull
#define TIMER_NEVER (~0ull)

typedef struct Timer {
    /* Machine lock held, timer already disarmed. Main thread; CLOCK_VIRTUAL: or vCPU thread, outside
     * cpu_run(). */
    void (*fire)(void *opaque);
    void *opaque;
    Machine *m;
    u64 when;                       /* TIMER_NEVER: not armed */
    struct Timer *next;             /* sorted list of its clock */
    Clock clock;
} Timer;

void timer_init(Timer *t, Machine *m, Clock clock, void (*fire)(void *opaque), void *opaque);
/* absolute; a time that has passed fires at the main loop's next turn */
void timer_arm(Timer *t, u64 when_ns);
void timer_cancel(Timer *t);
static inline bool timer_armed(const Timer *t) { return t->when != TIMER_NEVER; }

u64 clock_ns(Machine *m, Clock clock);      /* any thread, no lock needed */

/* The guest's time stamp counter and its rate in Hz. Stands still with CLOCK_VIRTUAL. vCPU thread, no lock
 * needed. */
u64 clock_tsc(Machine *m);
u64 clock_tsc_hz(Machine *m);
void clock_set_tsc(Machine *m, u64 value);  /* WRMSR to the TSC, and loading a snapshot */

/* Main loop: runs what is due; returns the host nanoseconds (host_now_ns) of the next deadline or
 * TIMER_NEVER. */
u64 timers_run(Machine *m);

/* a * b / c without overflow in between: ticks to nanoseconds and back. */
static inline u64 muldiv64(u64 a, u64 b, u64 c) { return (u64)((unsigned __int128)a * b / c); }

#endif
