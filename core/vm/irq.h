/*
 * An interrupt line is a value: whoever gets one can drive it and needs not know what hangs on the other end.
 * Machine lock held. Setting a line to the level it has is allowed and cheap.
 */
#ifndef VM_IRQ_H
#define VM_IRQ_H

#include "types.h"

typedef struct {
    void (*set)(void *opaque, int n, bool level);   /* NULL: not connected */
    void *opaque;
    int n;
} Irq;

static inline void irq_set(Irq irq, bool level)
{
    if (irq.set)
        irq.set(irq.opaque, irq.n, level);
}

static inline void irq_pulse(Irq irq)
{
    irq_set(irq, true);
    irq_set(irq, false);
}

#endif
