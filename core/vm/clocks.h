/* The clocks' life and the division of their timers between threads, for machine.c. Machine lock held. */
#ifndef VM_CLOCKS_H
#define VM_CLOCKS_H

#include "timer.h"

/* These three: main thread, vCPU parked. */
bool clocks_create(Machine *m);             /* CLOCK_VIRTUAL stands at 0 */
void clocks_destroy(Machine *m);
void clocks_run(Machine *m, bool run);      /* CLOCK_VIRTUAL and the TSC go on, or stand still */

/* CLOCK_VIRTUAL, while it stands, shows another time; what is armed stays as far away as it was. */
void clocks_set(Machine *m, u64 ns);

/* The timers of CLOCK_VIRTUAL are the vCPU's to run, or (at first) the main loop's: timers_run() leaves them
 * alone while they are kept, and arming one asks for no deadline. */
void clock_keep(Machine *m, bool kept);
void clock_run_due(Machine *m, Clock clock);
u64 clock_next(Machine *m, Clock clock);    /* host time of its first timer, or TIMER_NEVER */

#endif
