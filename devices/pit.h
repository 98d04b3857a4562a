/*
 * 8254 interval timer at 40h-43h and system control port B (61h: speaker gate and data, OUT2, refresh
 * toggle). Source: Intel 8254 data sheet; IBM PS/2 technical reference, "System control port B". Machine
 * lock held for every call.
 *
 * The board also calls pit_connect_return() once for each controller that IRQ 0 is wired to
 * (pic_return(pic, 0), ioapic_return(ioapic, 2)): ticks that a busy guest could not take in time are then
 * counted and given later.
 */
#ifndef DEVICES_PIT_H
#define DEVICES_PIT_H

#include "pic.h"

typedef struct Pit Pit;

enum { PIT_HZ = 1193182 };

Pit *pit_create(Machine *m, Irq irq0);
void pit_connect_return(Pit *pit, IrqReturn way);       /* at most two */

#endif
