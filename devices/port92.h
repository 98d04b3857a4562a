/* System control port A (92h): fast A20 and fast reset. Machine lock held for every call. */
#ifndef DEVICES_PORT92_H
#define DEVICES_PORT92_H

#include "../core/vm/device.h"
#include "../core/vm/irq.h"

extern const DeviceClass port92_class;

/* a20 tells and sets the board's A20 gate; reset is pulsed. */
typedef struct {
    void (*set)(void *opaque, bool on);
    bool (*get)(void *opaque);
    void *opaque;
} A20Gate;
void port92_create(Machine *m, A20Gate a20, Irq reset);

#endif
