/*
 * System control port A. Source: IBM PS/2 Hardware Interface Technical Reference, "System Control Port A";
 * Intel 82371SB data sheet, order 290550, section 2.3.
 *
 *   92h:  1 FAST_A20 | 0 FAST_INIT (rising edge resets the CPU)      the other bits keep what is written
 *
 * Bit 1 reads as the A20 gate is, whoever set it last: this port and the keyboard controller drive one gate
 * here, where the chip ORs them. The keyboard controller's side is on after power-on, and an OR would make
 * this port powerless.
 */
#include "port92.h"

#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum { FAST_INIT = 1, FAST_A20 = 2 };

typedef struct {
    u8 value;
    u8 pad[7];
} Port92State;

typedef struct {
    Device dev;
    Port92State s;
    A20Gate a20;
    Irq reset;
} Port92;

static const SaveField port92_fields[] = { SAVE(Port92State, value), SAVE(Port92State, pad), SAVE_END };

static u32 port92_read(void *opaque, u32 port, unsigned size)
{
    Port92 *p = opaque;
    (void)port;
    (void)size;

    return (p->s.value & ~FAST_A20) | (p->a20.get(p->a20.opaque) ? FAST_A20 : 0);
}

static void port92_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Port92 *p = opaque;
    u8 old = p->s.value;
    (void)port;
    (void)size;

    p->s.value = (u8)value;
    p->a20.set(p->a20.opaque, value & FAST_A20);
    if (value & ~old & FAST_INIT)
        irq_pulse(p->reset);
}

static const PortOps port92_ops = { .read = port92_read, .write = port92_write, .sizes = 1 };

const DeviceClass port92_class = {
    .name = "port92", .size = sizeof(Port92),
    .state = offsetof(Port92, s), .state_size = sizeof(Port92State), .fields = port92_fields,
};

void port92_create(Machine *m, A20Gate a20, Irq reset)
{
    Port92 *p = device_create(m, &port92_class);

    p->a20 = a20;
    p->reset = reset;
    port_map(m, "port 92h", 0x92, 1, &port92_ops, p);
}
