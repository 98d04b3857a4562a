/*
 * 82093AA I/O APIC: 24 inputs, a redirection entry each, edge and level triggering with remote IRR.
 * Source: Intel 82093AA data sheet (order 290566), chapter 3.
 *
 * Lines here are asserted or not: the polarity bits of the entries are kept and mean nothing. An edge on a
 * masked pin is lost, as in the chip. Not modelled: arbitration ids, ExtINT entries (the 8259 pair comes in
 * by LINT0 of the local APIC).
 *
 *   63      56 55        17 16     15     14      13       12       11       10  8 7      0
 *   [ dest    |  0        | mask | level | rIRR | polarity | status | logical | mode | vector ]
 */
#include "ioapic.h"

#include "pci.h"

#include "../core/vm/device.h"
#include "../core/vm/machine.h"
#include "../core/vm/monitor.h"

#include <stdio.h>

enum { PINS = 24, R_ID = 0, R_VERSION = 1, R_ARBITRATION = 2, R_TABLE = 0x10, VERSION = 0x11 };
enum { E_LOGICAL = 1 << 11, E_REMOTE_IRR = 1 << 14, E_LEVEL = 1 << 15, E_MASKED = 1 << 16 };
enum { E_WRITABLE_LOW = 0x1afff };
#define IOAPIC_ADDR 0xfec00000u

typedef struct {
    u64 entry[PINS];
    u32 line;                       /* levels of the inputs */
    u32 id;
    u32 select;
    u8 pad[4];
} IoapicState;

/* An ISA interrupt: one line that drives two controllers. */
typedef struct { Irq pic, pin; } IsaLine;

struct Ioapic {
    Device dev;
    IoapicState s;
    Lapic *apic;
    IsaLine isa[16];
    struct { void (*ended)(void *source); void *source; } watch[PINS];
    u64 taken[PINS];                /* for info ioapic */
};

static const SaveField ioapic_fields[] = {
    SAVE(IoapicState, entry), SAVE(IoapicState, line), SAVE(IoapicState, id), SAVE(IoapicState, select),
    SAVE(IoapicState, pad), SAVE_END
};

static bool deliver(Ioapic *io, int pin)
{
    u64 e = io->s.entry[pin];

    if (!lapic_message(io->apic, (u8)(e >> 56), e & E_LOGICAL, e >> 8 & 7, (u8)e, e & E_LEVEL))
        return false;
    io->taken[pin]++;
    return true;
}

/* A level-triggered input that is asserted, not masked and not in service is sent. */
static void service_level(Ioapic *io, int pin)
{
    u64 *e = &io->s.entry[pin];

    if (!(*e & E_LEVEL) || (*e & (E_MASKED | E_REMOTE_IRR)) || !(io->s.line >> pin & 1))
        return;
    if (deliver(io, pin))
        *e |= E_REMOTE_IRR;
}

static void line_set(void *opaque, int pin, bool level)
{
    Ioapic *io = opaque;
    u32 bit = 1u << pin;
    bool rising = level && !(io->s.line & bit);

    io->s.line = level ? io->s.line | bit : io->s.line & ~bit;
    if (io->s.entry[pin] & E_LEVEL)
        service_level(io, pin);
    else if (rising && !(io->s.entry[pin] & E_MASKED))
        deliver(io, pin);
}

Irq ioapic_line(Ioapic *io, int pin)
{
    return pin >= 0 && pin < PINS ? (Irq){ line_set, io, pin } : (Irq){ 0 };
}

/* The CPU has ended an interrupt; level: the message that clears remote IRR comes over the bus. */
static void ended(void *opaque, u8 vector, bool level)
{
    Ioapic *io = opaque;

    for (int pin = 0; pin < PINS; pin++) {
        if ((u8)io->s.entry[pin] != vector)
            continue;
        if (level && (io->s.entry[pin] & E_REMOTE_IRR)) {
            io->s.entry[pin] &= ~(u64)E_REMOTE_IRR;
            service_level(io, pin);
        }
        if (io->watch[pin].ended)
            io->watch[pin].ended(io->watch[pin].source);
    }
}

/* ---- registers ---- */

static void write_entry(Ioapic *io, unsigned reg, u32 value)
{
    int pin = (int)(reg / 2);
    u64 *e = &io->s.entry[pin];

    if (reg & 1) {
        *e = (*e & 0xffffffff) | (u64)(value & 0xff000000) << 32;
        return;
    }
    *e = (*e & ~(u64)E_WRITABLE_LOW) | (value & E_WRITABLE_LOW);
    if (!(*e & E_LEVEL))
        *e &= ~(u64)E_REMOTE_IRR;   /* how software clears a stuck one: to edge and back */
    service_level(io, pin);
}

static u32 read_window(const Ioapic *io)
{
    const IoapicState *s = &io->s;
    unsigned reg = s->select;

    switch (reg) {
    case R_ID:
    case R_ARBITRATION:
        return s->id;
    case R_VERSION:
        return VERSION | (PINS - 1) << 16;
    }
    if (reg < R_TABLE || reg >= R_TABLE + 2 * PINS)
        return 0;
    reg -= R_TABLE;
    return (u32)(reg & 1 ? s->entry[reg / 2] >> 32 : s->entry[reg / 2]);
}

static u64 ioapic_read(void *opaque, u64 offset, unsigned size)
{
    Ioapic *io = opaque;

    (void)size;
    switch (offset & 0xff) {
    case 0x00:
        return io->s.select;
    case 0x10:
        return read_window(io);
    }
    return 0;
}

static void ioapic_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    Ioapic *io = opaque;
    IoapicState *s = &io->s;

    (void)size;
    switch (offset & 0xff) {
    case 0x00:
        s->select = value & 0xff;
        break;
    case 0x10:
        if (s->select == R_ID)
            s->id = value & 0x0f000000;
        else if (s->select >= R_TABLE && s->select < R_TABLE + 2 * PINS)
            write_entry(io, s->select - R_TABLE, (u32)value);
        break;
    }
}

static const MmioOps ioapic_ops = { ioapic_read, ioapic_write, 4, 4 };

/* ---- for the other chips ---- */

static void isa_set(void *opaque, int n, bool level)
{
    const IsaLine *line = opaque;

    (void)n;
    irq_set(line->pic, level);
    irq_set(line->pin, level);
}

Irq ioapic_isa_line(Ioapic *io, Pic *pic, int irq)
{
    if (irq < 0 || irq > 15)
        return (Irq){ 0 };
    io->isa[irq].pic = pic_line(pic, irq);
    io->isa[irq].pin = ioapic_line(io, irq == 0 ? 2 : irq);
    return (Irq){ isa_set, &io->isa[irq], irq };
}

static void watch(void *opaque, int pin, void (*fn)(void *source), void *source)
{
    Ioapic *io = opaque;

    io->watch[pin].ended = fn;
    io->watch[pin].source = source;
}

static bool is_open(void *opaque, int pin)
{
    return !(((Ioapic *)opaque)->s.entry[pin] & E_MASKED);
}

static bool is_pending(void *opaque, int pin)
{
    const Ioapic *io = opaque;

    return is_open(opaque, pin) && lapic_requested(io->apic, (u8)io->s.entry[pin]);
}

IrqReturn ioapic_return(Ioapic *io, int pin)
{
    if (pin < 0 || pin >= PINS)
        return (IrqReturn){ 0 };
    return (IrqReturn){ watch, is_open, is_pending, io, pin };
}

/* ---- monitor ---- */

static void info_ioapic(void *opaque, PrintFn *print, void *print_opaque)
{
    const Ioapic *io = opaque;
    char line[128];

    for (int pin = 0; pin < PINS; pin++) {
        u64 e = io->s.entry[pin];

        if ((e & E_MASKED) && !io->taken[pin])
            continue;
        snprintf(line, sizeof(line), "ioapic pin %2d: vector %02x mode %u %s dest %s%02x%s%s%s, %llu sent",
                 pin, (unsigned)(e & 0xff), (unsigned)(e >> 8 & 7), e & E_LEVEL ? "level" : "edge",
                 e & E_LOGICAL ? "logical " : "", (unsigned)(e >> 56), e & E_MASKED ? " masked" : "",
                 e & E_REMOTE_IRR ? " in service" : "", io->s.line >> pin & 1 ? " asserted" : "",
                 (unsigned long long)io->taken[pin]);
        print(print_opaque, line);
    }
}

/* ---- device ---- */

static void ioapic_reset(Device *dev)
{
    Ioapic *io = (Ioapic *)dev;

    for (int pin = 0; pin < PINS; pin++)
        io->s.entry[pin] = E_MASKED;
}

static bool ioapic_loaded(Device *dev, Error *err)
{
    Ioapic *io = (Ioapic *)dev;

    if (io->s.select > 0xff || io->s.line >> PINS)
        return error_set(err, "ioapic: impossible state");
    return true;
}

static const DeviceClass ioapic_class = {
    .name = "ioapic", .size = sizeof(Ioapic), .state = offsetof(Ioapic, s), .state_size = sizeof(IoapicState),
    .fields = ioapic_fields, .reset = ioapic_reset, .loaded = ioapic_loaded,
};

Ioapic *ioapic_create(Machine *m, Lapic *apic)
{
    Ioapic *io = device_create(m, &ioapic_class);
    MemRegion *region = mem_mmio(m->mem, "ioapic", PAGE_SIZE, &ioapic_ops, io);

    io->apic = apic;
    mem_map(m->mem, region, IOAPIC_ADDR, 0, PAGE_SIZE, MAP_PRIO_CHIP, MEM_RW);
    lapic_on_eoi(apic, ended, io);
    monitor_add_info(m, "ioapic", "state of the I/O APIC", info_ioapic, io);
    return io;
}
