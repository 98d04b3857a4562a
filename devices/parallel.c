/*
 * Parallel port, standard mode: a byte goes out when STROBE is asserted; the printer's ACK can interrupt.
 * Source: IBM PC/AT technical reference, "Printer adapter".
 *
 *      port + 0  data
 *           + 1  status:  !BUSY ACK# PE SELECT ERROR# 1 1 1
 *           + 2  control: . . input irq SELECTIN INIT# AUTOFEED STROBE
 *
 * The printer takes a byte at once if the character device does, and is busy as long as that has no room.
 * Not modelled: input from the data lines (they read as ones), EPP, ECP.
 */
#include "parallel.h"

#include "../core/vm/device.h"
#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum {
    STATUS_READY = 0x80, STATUS_ACK = 0x40, STATUS_SELECT = 0x10, STATUS_NO_ERROR = 0x08, STATUS_ONES = 0x07,
    STATUS_NO_PRINTER = 0x7f,
};
enum { CONTROL_STROBE = 0x01, CONTROL_INIT = 0x04, CONTROL_IRQ = 0x10, CONTROL_INPUT = 0x20 };

typedef struct {
    u8 data, control;
    u8 waiting, busy;               /* busy: waiting is a byte the character device did not take */
} ParallelState;

struct Parallel {
    Device dev;
    ParallelState s;
    Irq irq;
    Chardev *chr;
};

static const SaveField parallel_fields[] = {
    SAVE(ParallelState, data), SAVE(ParallelState, control), SAVE(ParallelState, waiting),
    SAVE(ParallelState, busy), SAVE_END
};

/* Tries to print the waiting byte; its acknowledge interrupts. */
static void print(Parallel *p)
{
    ParallelState *s = &p->s;

    if (!s->busy || !chardev_write(p->chr, &s->waiting, 1))
        return;
    s->busy = 0;
    if (s->control & CONTROL_IRQ)
        irq_pulse(p->irq);
}

static void writable(void *opaque) { print(opaque); }

static size_t can_receive(void *opaque)
{
    (void)opaque;
    return 0;
}

static void receive(void *opaque, const u8 *buf, size_t n)
{
    (void)opaque;
    (void)buf;
    (void)n;
}

static const ChrFrontend parallel_frontend = { can_receive, receive, writable, NULL };

static void parallel_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Parallel *p = opaque;
    ParallelState *s = &p->s;
    u8 before = s->control;

    (void)size;
    switch (port & 3) {
    case 0:
        s->data = (u8)value;
        break;
    case 2:
        s->control = value & 0x3f;
        if ((s->control & CONTROL_STROBE) && !(before & CONTROL_STROBE) && p->chr && !s->busy) {
            s->waiting = s->data;
            s->busy = 1;
            print(p);
        }
        break;
    }
}

static u32 parallel_read(void *opaque, u32 port, unsigned size)
{
    const Parallel *p = opaque;
    const ParallelState *s = &p->s;

    (void)size;
    switch (port & 3) {
    case 0:
        return s->control & CONTROL_INPUT ? 0xff : s->data;
    case 1:
        if (!p->chr)
            return STATUS_NO_PRINTER;
        return (s->busy ? 0 : STATUS_READY) | STATUS_ACK | STATUS_SELECT | STATUS_NO_ERROR | STATUS_ONES;
    default:
        return 0xc0u | s->control;
    }
}

static const PortOps parallel_ops = { parallel_read, parallel_write, 1 };

static void parallel_reset(Device *dev)
{
    ((Parallel *)dev)->s.control = CONTROL_INIT | 0x08;
}

static bool parallel_loaded(Device *dev, Error *err)
{
    (void)err;
    print((Parallel *)dev);
    return true;
}

static const DeviceClass parallel_class = {
    .name = "parallel", .size = sizeof(Parallel), .state = offsetof(Parallel, s),
    .state_size = sizeof(ParallelState), .fields = parallel_fields, .reset = parallel_reset,
    .loaded = parallel_loaded,
};

Parallel *parallel_create(Machine *m, u16 base, Irq irq, Chardev *chr)
{
    Parallel *p = device_create(m, &parallel_class);

    p->irq = irq;
    p->chr = chr;
    port_map(m, "parallel", base, 3, &parallel_ops, p);
    chardev_attach(chr, &parallel_frontend, p);
    return p;
}
