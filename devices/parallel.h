/*
 * Parallel port of a PC/AT (data, status, control at base..base+2), output only: each strobed byte goes to
 * a character device. Source: IBM PC/AT technical reference, "Printer adapter". Machine lock held for every
 * call.
 */
#ifndef DEVICES_PARALLEL_H
#define DEVICES_PARALLEL_H

#include "../core/vm/chardev.h"
#include "../core/vm/irq.h"
#include "../core/vm/types.h"

typedef struct Parallel Parallel;

/* chr NULL: no printer, the port is there. */
Parallel *parallel_create(Machine *m, u16 base, Irq irq, Chardev *chr);

#endif
