/* The board. Main thread, machine lock held. */
#ifndef DEVICES_PC_H
#define DEVICES_PC_H

#include "../core/vm/machine.h"

/* Room in the memory arena for this configuration: RAM, ROMs, video memory. For machine_create(). */
u64 pc_arena_bytes(const Config *cfg);

/* Builds all that m->cfg asks for: CPU, chips, firmware, drives, serial and parallel ports. The machine is
 * ready for machine_start(). */
bool pc_create(Machine *m, Error *err);

#endif
