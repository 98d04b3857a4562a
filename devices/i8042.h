/*
 * Keyboard controller (8042) at ports 60h/64h with a PS/2 keyboard and a PS/2 wheel mouse on it, fed by
 * ui.h. Source: IBM PS/2 technical reference, "Keyboard and auxiliary device controller". Machine lock held
 * for every call.
 *
 * reset: pulsed by output port bit 0 (command FEh). a20: told at each write of the output port, and at reset.
 */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "../core/vm/irq.h"
#include "../core/vm/types.h"

typedef struct Machine Machine;
typedef struct I8042 I8042;

I8042 *i8042_create(Machine *m, Irq irq1, Irq irq12, Irq reset, void (*a20)(void *opaque, bool on),
                    void *a20_opaque);

#endif
