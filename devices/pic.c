/*
 * 8259A pair: edge- and level-triggered inputs, priorities and rotation, all end-of-interrupt commands,
 * automatic EOI, special mask and special fully nested mode, poll, and the PIIX3's edge/level registers
 * (which replace ICW1's LTIM bit). Source: Intel 8259A data sheet, "Programming the 8259A"; Intel 82371SB
 * (PIIX3), section 2.5.
 *
 * An edge that came stays requested when its line drops before the acknowledge (the real chip would answer
 * with a spurious IRQ 7): our sources pulse. The 8080/8085 call mode and buffered mode are not modelled; no
 * PC can use them.
 */
#include "pic.h"

#include "../core/vm/device.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/monitor.h"

#include <stdio.h>

enum { MASTER, SLAVE, CASCADE = 2, SPURIOUS = 7 };

typedef struct {                    /* [0] master, [1] slave */
    u8 irr[2], isr[2], imr[2];
    u8 line[2];                     /* levels of the inputs */
    u8 elcr[2];                     /* 1: level-triggered */
    u8 base[2];                     /* vector of input 0 */
    u8 top[2];                      /* input with the highest priority */
    u8 init[2];                     /* next ICW expected: 2, 3, 4; 0: operating */
    u8 icw4_wanted[2];
    u8 single[2];
    u8 auto_eoi[2], auto_rotate[2];
    u8 nested[2];                   /* special fully nested mode */
    u8 special_mask[2];
    u8 read_isr[2];
    u8 poll[2];                     /* the next read polls */
} PicState;

struct Pic {
    Device dev;
    PicState s;
    Irq out;
    bool level;                     /* of out */
    struct { void (*ended)(void *source); void *source; } watch[16];
    u64 taken[16], spurious;        /* for info irq */
};

static const SaveField pic_fields[] = {
    SAVE(PicState, irr), SAVE(PicState, isr), SAVE(PicState, imr), SAVE(PicState, line), SAVE(PicState, elcr),
    SAVE(PicState, base), SAVE(PicState, top), SAVE(PicState, init), SAVE(PicState, icw4_wanted),
    SAVE(PicState, single), SAVE(PicState, auto_eoi), SAVE(PicState, auto_rotate), SAVE(PicState, nested),
    SAVE(PicState, special_mask), SAVE(PicState, read_isr), SAVE(PicState, poll), SAVE_END
};

/* The timer, keyboard, cascade, clock and FERR# lines are always edges. */
static const u8 elcr_mask[2] = { 0xf8, 0xde };

/* The first set bit in order of priority, and its distance from the top; 8: none. */
static unsigned rank(const PicState *s, int chip, u8 bits)
{
    unsigned i = 0;

    while (i < 8 && !(bits >> ((s->top[chip] + i) & 7) & 1))
        i++;
    return i;
}

/* The input whose request may go to the CPU, or -1. */
static int request(const PicState *s, int chip)
{
    u8 busy = s->isr[chip];
    unsigned want = rank(s, chip, s->irr[chip] & (u8)~s->imr[chip]);

    if (s->init[chip])
        return -1;
    if (s->special_mask[chip])
        busy &= (u8)~s->imr[chip];
    if (chip == MASTER && s->nested[chip])
        busy &= (u8)~(1 << CASCADE);
    return want < rank(s, chip, busy) ? (int)((s->top[chip] + want) & 7) : -1;
}

static void update(Pic *p)
{
    PicState *s = &p->s;
    bool level;

    if (request(s, SLAVE) >= 0)
        s->irr[MASTER] |= 1 << CASCADE;
    else
        s->irr[MASTER] &= (u8)~(1 << CASCADE);
    level = request(s, MASTER) >= 0;
    if (level != p->level) {
        p->level = level;
        irq_set(p->out, level);
    }
}

static void line_set(void *opaque, int n, bool level)
{
    Pic *p = opaque;
    PicState *s = &p->s;
    int chip = n >> 3;
    u8 bit = (u8)(1 << (n & 7)), before = s->line[chip];

    s->line[chip] = level ? before | bit : before & (u8)~bit;
    if (s->line[chip] == before)
        return;
    if (level)
        s->irr[chip] |= bit;
    else if (s->elcr[chip] & bit)
        s->irr[chip] &= (u8)~bit;
    update(p);
}

Irq pic_line(Pic *p, int n)
{
    if (n < 0 || n > 15 || n == CASCADE)
        return (Irq){ 0 };
    return (Irq){ line_set, p, n };
}

/* ---- acknowledge and end of interrupt ---- */

static void ended(Pic *p, int chip, unsigned input)
{
    unsigned n = (unsigned)chip * 8 + input;

    if (p->watch[n].ended)
        p->watch[n].ended(p->watch[n].source);
}

/* The CPU (or a poll) takes an input's request. */
static void take(Pic *p, int chip, unsigned input)
{
    PicState *s = &p->s;
    u8 bit = (u8)(1 << input);

    if (!(s->elcr[chip] & bit))
        s->irr[chip] &= (u8)~bit;
    p->taken[(unsigned)chip * 8 + input]++;
    if (!s->auto_eoi[chip])
        s->isr[chip] |= bit;
    else if (s->auto_rotate[chip])
        s->top[chip] = (u8)((input + 1) & 7);
}

static void after_take(Pic *p, int chip, unsigned input)
{
    update(p);
    if (p->s.auto_eoi[chip])
        ended(p, chip, input);
}

int pic_ack(void *opaque)
{
    Pic *p = opaque;
    PicState *s = &p->s;
    int input = request(s, MASTER), chip = MASTER;

    if (input < 0) {
        p->spurious++;
        return s->base[MASTER] + SPURIOUS;
    }
    if (input == CASCADE) {
        chip = SLAVE;
        input = request(s, SLAVE);
        take(p, MASTER, CASCADE);
        if (input < 0) {
            p->spurious++;
            update(p);
            return s->base[SLAVE] + SPURIOUS;
        }
    }
    take(p, chip, (unsigned)input);
    after_take(p, chip, (unsigned)input);
    return s->base[chip] + input;
}

static void end(Pic *p, int chip, unsigned input)
{
    u8 bit = (u8)(1 << input);
    bool was = p->s.isr[chip] & bit;

    p->s.isr[chip] &= (u8)~bit;
    update(p);
    if (was)
        ended(p, chip, input);
}

/* OCW2: R SL EOI in bits 7-5. */
static void ocw2(Pic *p, int chip, u8 value)
{
    PicState *s = &p->s;
    unsigned input = value & 7, i;
    u8 busy = s->isr[chip];

    switch (value >> 5) {
    case 0:                         /* rotate on automatic EOI: off, on */
    case 4:
        s->auto_rotate[chip] = value >> 7;
        break;
    case 1:                         /* non-specific EOI, without and with rotation */
    case 5:
        if (s->special_mask[chip])
            busy &= (u8)~s->imr[chip];
        i = rank(s, chip, busy);
        if (i == 8)
            break;
        input = (s->top[chip] + i) & 7;
        if (value >> 7)
            s->top[chip] = (u8)((input + 1) & 7);
        end(p, chip, input);
        break;
    case 7:                         /* specific EOI with rotation, and without */
        s->top[chip] = (u8)((input + 1) & 7);
        end(p, chip, input);
        break;
    case 3:
        end(p, chip, input);
        break;
    case 6:                         /* set priority */
        s->top[chip] = (u8)((input + 1) & 7);
        update(p);
        break;
    }
}

/* ---- ports ---- */

static void icw1(Pic *p, int chip, u8 value)
{
    PicState *s = &p->s;

    s->irr[chip] = s->line[chip] & s->elcr[chip];
    s->isr[chip] = s->imr[chip] = 0;
    s->top[chip] = 0;
    s->auto_eoi[chip] = s->auto_rotate[chip] = s->nested[chip] = 0;
    s->special_mask[chip] = s->read_isr[chip] = s->poll[chip] = 0;
    s->single[chip] = value >> 1 & 1;
    s->icw4_wanted[chip] = value & 1;
    s->init[chip] = 2;
    update(p);
}

static void write_command(Pic *p, int chip, u8 value)
{
    PicState *s = &p->s;

    if (value & 0x10) {
        icw1(p, chip, value);
    } else if (value & 0x08) {      /* OCW3 */
        if (value & 0x04)
            s->poll[chip] = 1;
        if (value & 0x02)
            s->read_isr[chip] = value & 1;
        if (value & 0x40)
            s->special_mask[chip] = value >> 5 & 1;
        update(p);
    } else {
        ocw2(p, chip, value);
    }
}

static void write_data(Pic *p, int chip, u8 value)
{
    PicState *s = &p->s;

    switch (s->init[chip]) {
    case 0:
        s->imr[chip] = value;
        break;
    case 2:
        s->base[chip] = value & 0xf8;
        s->init[chip] = s->single[chip] ? (s->icw4_wanted[chip] ? 4 : 0) : 3;
        break;
    case 3:                         /* the wiring of the cascade is the board's, whatever ICW3 says */
        s->init[chip] = s->icw4_wanted[chip] ? 4 : 0;
        break;
    case 4:
        s->auto_eoi[chip] = value >> 1 & 1;
        s->nested[chip] = value >> 4 & 1;
        s->init[chip] = 0;
        break;
    }
    update(p);
}

static u8 poll_read(Pic *p, int chip)
{
    int input = request(&p->s, chip);

    p->s.poll[chip] = 0;
    if (input < 0)
        return 0;
    take(p, chip, (unsigned)input);
    after_take(p, chip, (unsigned)input);
    return (u8)(0x80 | input);
}

static u32 pic_read(void *opaque, u32 port, unsigned size)
{
    Pic *p = opaque;
    PicState *s = &p->s;
    int chip = port >> 7 & 1;

    (void)size;
    if (s->poll[chip])
        return poll_read(p, chip);
    if (port & 1)
        return s->imr[chip];
    return s->read_isr[chip] ? s->isr[chip] : s->irr[chip];
}

static void pic_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)size;
    if (port & 1)
        write_data(opaque, port >> 7 & 1, (u8)value);
    else
        write_command(opaque, port >> 7 & 1, (u8)value);
}

static u32 elcr_read(void *opaque, u32 port, unsigned size)
{
    (void)size;
    return ((Pic *)opaque)->s.elcr[port & 1];
}

static void elcr_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Pic *p = opaque;
    PicState *s = &p->s;
    int chip = port & 1;
    u8 level = (u8)value & elcr_mask[chip];

    (void)size;
    s->elcr[chip] = level;
    s->irr[chip] = (s->irr[chip] & (u8)~level) | (s->line[chip] & level);
    update(p);
}

static const PortOps pic_ops = { pic_read, pic_write, 1 };
static const PortOps elcr_ops = { elcr_read, elcr_write, 1 };

/* ---- for the other chips ---- */

void pic_connect_output(Pic *p, Irq intr)
{
    irq_set(p->out, false);
    p->out = intr;
    irq_set(p->out, p->level);
}

bool pic_output(const Pic *p) { return p->level; }

static void watch(void *opaque, int n, void (*fn)(void *source), void *source)
{
    Pic *p = opaque;

    p->watch[n].ended = fn;
    p->watch[n].source = source;
}

static bool is_open(void *opaque, int n)
{
    const PicState *s = &((Pic *)opaque)->s;

    if (n >= 8 && (s->imr[MASTER] >> CASCADE & 1))
        return false;
    return !(s->imr[n >> 3] >> (n & 7) & 1);
}

static bool is_pending(void *opaque, int n)
{
    return ((Pic *)opaque)->s.irr[n >> 3] >> (n & 7) & 1;
}

IrqReturn pic_return(Pic *p, int n)
{
    if (n < 0 || n > 15)
        return (IrqReturn){ 0 };
    return (IrqReturn){ watch, is_open, is_pending, p, n };
}

/* ---- monitor ---- */

static void info_pic(void *opaque, PrintFn *print, void *print_opaque)
{
    const PicState *s = &((Pic *)opaque)->s;
    char line[128];

    for (int chip = 0; chip < 2; chip++) {
        snprintf(line, sizeof(line),
                 "pic%d: irr=%02x imr=%02x isr=%02x hprio=%u irq_base=%02x rr_sel=%u elcr=%02x fnm=%u",
                 chip, s->irr[chip], s->imr[chip], s->isr[chip], s->top[chip], s->base[chip],
                 s->read_isr[chip], s->elcr[chip], s->nested[chip]);
        print(print_opaque, line);
    }
}

static void info_irq(void *opaque, PrintFn *print, void *print_opaque)
{
    const Pic *p = opaque;
    char line[64];

    for (int n = 0; n < 16; n++) {
        if (!p->taken[n] || n == CASCADE)
            continue;
        snprintf(line, sizeof(line), "%2d: %llu", n, (unsigned long long)p->taken[n]);
        print(print_opaque, line);
    }
    if (p->spurious) {
        snprintf(line, sizeof(line), "spurious: %llu", (unsigned long long)p->spurious);
        print(print_opaque, line);
    }
}

/* ---- device ---- */

static void pic_reset(Device *dev)
{
    Pic *p = (Pic *)dev;

    p->level = false;
    irq_set(p->out, false);
}

static bool pic_loaded(Device *dev, Error *err)
{
    Pic *p = (Pic *)dev;
    PicState *s = &p->s;

    for (int chip = 0; chip < 2; chip++) {
        if (s->top[chip] > 7 || s->init[chip] > 4 || s->init[chip] == 1 || (s->elcr[chip] & ~elcr_mask[chip]))
            return error_set(err, "pic: impossible state of chip %d", chip);
    }
    update(p);
    irq_set(p->out, p->level);
    return true;
}

static const DeviceClass pic_class = {
    .name = "pic", .size = sizeof(Pic), .state = offsetof(Pic, s), .state_size = sizeof(PicState),
    .fields = pic_fields, .reset = pic_reset, .loaded = pic_loaded,
};

Pic *pic_create(Machine *m, Irq cpu_intr)
{
    Pic *p = device_create(m, &pic_class);

    p->out = cpu_intr;
    port_map(m, "pic", 0x20, 2, &pic_ops, p);
    port_map(m, "pic", 0xa0, 2, &pic_ops, p);
    port_map(m, "elcr", 0x4d0, 2, &elcr_ops, p);
    monitor_add_info(m, "pic", "state of the interrupt controllers", info_pic, p);
    monitor_add_info(m, "irq", "interrupts taken, by line", info_irq, p);
    return p;
}
