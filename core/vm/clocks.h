/* The clocks' life, for machine.c. Main thread, machine lock held, vCPU parked. */
#ifndef VM_CLOCKS_H
#define VM_CLOCKS_H

#include "types.h"

typedef struct Machine Machine;

bool clocks_create(Machine *m);             /* CLOCK_VIRTUAL stands at 0 */
void clocks_destroy(Machine *m);
void clocks_run(Machine *m, bool run);      /* CLOCK_VIRTUAL and the TSC go on, or stand still */

#endif
