/*
 * 8237A pair as in a PC/AT: eight channels with page registers, single, block and demand transfers alike,
 * address decrement, auto-initialise, verify, terminal count. Source: Intel 8237A data sheet; IBM PC/AT
 * technical reference, "DMA".
 *
 * Transfers happen when the device asks, as much at once as the device has. Not modelled: memory-to-memory
 * transfers, software requests (they show in the status register only), and that the first controller's
 * requests go through channel 4.
 *
 *      ports           first controller    second (one register every two ports)
 *      address, count  00h-07h             C0h-CEh
 *      control         08h-0Fh             D0h-DEh
 *      page            87 83 81 82         8F 8B 89 8A  (port 80h and what is left over are plain storage)
 */
#include "dma.h"

#include "../core/vm/device.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

#include <string.h>

enum { CHANNELS = 8, PAGE_SIZE_8237 = 0x10000 };
enum { MODE_VERIFY, MODE_WRITE, MODE_READ };        /* bits 3-2 of the mode register */
enum { COMMAND_MEM_TO_MEM = 0x01, COMMAND_OFF = 0x04, MODE_AUTO = 0x10, MODE_DOWN = 0x20 };

typedef struct {                    /* [channel 0-7] or [controller] */
    u16 base_addr[CHANNELS], base_count[CHANNELS];
    u16 addr[CHANNELS], count[CHANNELS];
    u8 mode[CHANNELS];
    u8 page[16];                    /* by port, 80h-8Fh */
    u8 tc[CHANNELS];                /* how the last transfer ended */
    u8 command[2], mask[2], request[2];
    u8 reached[2];                  /* terminal counts since the status was read */
    u8 dreq[2];
    u8 high[2];                     /* flip-flop: the high byte comes next */
    u8 pad[4];
} DmaState;

struct Dma {
    Device dev;
    DmaState s;
    struct { void (*ready)(void *opaque); void *opaque; } watch[CHANNELS];
    bool said;
};

static const SaveField dma_fields[] = {
    SAVE(DmaState, base_addr), SAVE(DmaState, base_count), SAVE(DmaState, addr), SAVE(DmaState, count),
    SAVE(DmaState, mode), SAVE(DmaState, page), SAVE(DmaState, tc), SAVE(DmaState, command),
    SAVE(DmaState, mask), SAVE(DmaState, request), SAVE(DmaState, reached), SAVE(DmaState, dreq),
    SAVE(DmaState, high), SAVE(DmaState, pad), SAVE_END
};

/* Which page register, by port, a channel has. */
static const u8 page_of[CHANNELS] = { 7, 3, 1, 2, 15, 11, 9, 10 };

static bool is_channel(int c) { return c >= 0 && c < CHANNELS && c != 4; }

bool dma_ready(const Dma *d, int c)
{
    return is_channel(c) && !(d->s.command[c >> 2] & COMMAND_OFF) && !(d->s.mask[c >> 2] >> (c & 3) & 1);
}

bool dma_tc(const Dma *d, int c) { return is_channel(c) && d->s.tc[c]; }

u32 dma_left(const Dma *d, int c)
{
    return is_channel(c) ? ((u32)d->s.count[c] + 1) << (c >= 4) : 0;
}

void dma_set_dreq(Dma *d, int c, bool level)
{
    u8 bit = (u8)(1 << (c & 3));

    if (is_channel(c))
        d->s.dreq[c >> 2] = level ? d->s.dreq[c >> 2] | bit : d->s.dreq[c >> 2] & (u8)~bit;
}

void dma_watch(Dma *d, int c, void (*ready)(void *opaque), void *opaque)
{
    if (!is_channel(c))
        return;
    d->watch[c].ready = ready;
    d->watch[c].opaque = opaque;
}

/* ---- transfers ---- */

static void move(Dma *d, u32 addr, u8 *buf, u32 bytes, bool to_memory)
{
    if (to_memory)
        mem_dma_write(d->dev.m->mem, addr, buf, bytes);
    else
        mem_dma_read(d->dev.m->mem, addr, buf, bytes);
}

/* Moves `units` bytes or words from the current address on; the address wraps within its 64 K. */
static void move_units(Dma *d, int c, u8 *buf, u32 units, bool to_memory)
{
    DmaState *s = &d->s;
    unsigned shift = c >= 4;
    u32 page = (u32)(s->page[page_of[c]] & (shift ? 0xfe : 0xff)) << 16;

    while (units) {
        u32 n = 1;

        if (!(s->mode[c] & MODE_DOWN)) {
            n = PAGE_SIZE_8237 - s->addr[c];
            n = n < units ? n : units;
        }
        if ((s->mode[c] >> 2 & 3) != MODE_VERIFY)
            move(d, page | (u32)s->addr[c] << shift, buf, n << shift, to_memory);
        s->addr[c] = (u16)(s->mode[c] & MODE_DOWN ? s->addr[c] - 1u : s->addr[c] + n);
        buf += n << shift;
        units -= n;
    }
}

static void terminal_count(DmaState *s, int c)
{
    int chip = c >> 2, bit = 1 << (c & 3);

    s->tc[c] = 1;
    s->reached[chip] |= (u8)bit;
    s->request[chip] &= (u8)~bit;
    if (s->mode[c] & MODE_AUTO) {
        s->addr[c] = s->base_addr[c];
        s->count[c] = s->base_count[c];
    } else {
        s->mask[chip] |= (u8)bit;
    }
}

u32 dma_transfer(Dma *d, int c, void *buf, u32 bytes, bool to_memory)
{
    DmaState *s = &d->s;
    unsigned kind, shift = c >= 4;
    u32 units = bytes >> shift, left;

    if (!is_channel(c))
        return 0;
    s->tc[c] = 0;
    if (!dma_ready(d, c))
        return 0;
    kind = s->mode[c] >> 2 & 3;
    if (kind != MODE_VERIFY && kind != (to_memory ? MODE_WRITE : MODE_READ))
        return 0;
    left = (u32)s->count[c] + 1;
    if (units > left)
        units = left;
    if (kind == MODE_VERIFY && !to_memory)
        memset(buf, 0, (size_t)units << shift);
    move_units(d, c, buf, units, to_memory);
    s->count[c] = (u16)(s->count[c] - units);
    if (units == left)
        terminal_count(s, c);
    return units << shift;
}

/* After the guest changed masks or commands: devices that wait may try again. */
static void tell_ready(Dma *d, const bool before[CHANNELS])
{
    for (int c = 0; c < CHANNELS; c++) {
        if (!before[c] && dma_ready(d, c) && d->watch[c].ready)
            d->watch[c].ready(d->watch[c].opaque);
    }
}

/* ---- registers ---- */

static void master_clear(DmaState *s, int chip)
{
    s->command[chip] = s->request[chip] = s->reached[chip] = s->high[chip] = 0;
    s->mask[chip] = 0x0f;
}

static void set_bit(u8 *reg, u8 value)
{
    u8 bit = (u8)(1 << (value & 3));

    *reg = value & 4 ? *reg | bit : *reg & (u8)~bit;
}

static void write_control(Dma *d, int chip, unsigned reg, u8 value)
{
    DmaState *s = &d->s;

    switch (reg) {
    case 8:
        s->command[chip] = value;
        if (value & COMMAND_MEM_TO_MEM)
            log_once(&d->said, "dma: memory-to-memory transfers are not supported");
        break;
    case 9:
        set_bit(&s->request[chip], value);
        break;
    case 10:
        set_bit(&s->mask[chip], value);
        break;
    case 11:
        s->mode[chip * 4 + (value & 3)] = value & 0xfc;
        break;
    case 12:
        s->high[chip] = 0;
        break;
    case 13:
        master_clear(s, chip);
        break;
    case 14:
        s->mask[chip] = 0;
        break;
    case 15:
        s->mask[chip] = value & 0x0f;
        break;
    }
}

static u16 with_half(u16 old, u8 value, bool high)
{
    return high ? (u16)((old & 0x00ff) | value << 8) : (u16)((old & 0xff00) | value);
}

static void write_reg(Dma *d, int chip, unsigned reg, u8 value)
{
    DmaState *s = &d->s;
    bool before[CHANNELS], high = s->high[chip];
    int c = chip * 4 + (int)(reg >> 1 & 3);

    if (reg < 8) {
        u16 *base = reg & 1 ? &s->base_count[c] : &s->base_addr[c];
        u16 *at = reg & 1 ? &s->count[c] : &s->addr[c];

        *base = with_half(*base, value, high);
        *at = with_half(*at, value, high);
        s->high[chip] = !high;
        return;
    }
    for (c = 0; c < CHANNELS; c++)
        before[c] = dma_ready(d, c) && reg != 11;   /* a mode may turn the direction to what is waited for */
    write_control(d, chip, reg, value);
    tell_ready(d, before);
}

static u8 read_reg(Dma *d, int chip, unsigned reg)
{
    DmaState *s = &d->s;
    int c = chip * 4 + (int)(reg >> 1 & 3);
    u16 word;
    u8 value = 0;

    switch (reg) {
    case 8:
        value = (u8)((s->dreq[chip] | s->request[chip]) << 4 | s->reached[chip]);
        s->reached[chip] = 0;
        return value;
    case 9: case 10: case 11: case 12: case 14:
        return 0xff;
    case 13:                        /* temporary register */
        return 0;
    case 15:
        return 0xf0 | s->mask[chip];
    }
    word = reg & 1 ? s->count[c] : s->addr[c];
    value = (u8)(s->high[chip] ? word >> 8 : word);
    s->high[chip] ^= 1;
    return value;
}

static u32 dma1_read(void *opaque, u32 port, unsigned size)
{
    (void)size;
    return read_reg(opaque, 0, port & 15);
}

static void dma1_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)size;
    write_reg(opaque, 0, port & 15, (u8)value);
}

static u32 dma2_read(void *opaque, u32 port, unsigned size)
{
    (void)size;
    return read_reg(opaque, 1, port >> 1 & 15);
}

static void dma2_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)size;
    write_reg(opaque, 1, port >> 1 & 15, (u8)value);
}

static u32 page_read(void *opaque, u32 port, unsigned size)
{
    (void)size;
    return ((Dma *)opaque)->s.page[port & 15];
}

static void page_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)size;
    ((Dma *)opaque)->s.page[port & 15] = (u8)value;
}

static const PortOps dma1_ops = { dma1_read, dma1_write, 1 };
static const PortOps dma2_ops = { dma2_read, dma2_write, 1 };
static const PortOps page_ops = { page_read, page_write, 1 };

/* ---- device ---- */

static void dma_reset(Device *dev)
{
    master_clear(&((Dma *)dev)->s, 0);
    master_clear(&((Dma *)dev)->s, 1);
}

static const DeviceClass dma_class = {
    .name = "dma", .size = sizeof(Dma), .state = offsetof(Dma, s), .state_size = sizeof(DmaState),
    .fields = dma_fields, .reset = dma_reset,
};

Dma *dma_create(Machine *m)
{
    Dma *d = device_create(m, &dma_class);

    port_map(m, "dma", 0x00, 16, &dma1_ops, d);
    port_map(m, "dma", 0xc0, 32, &dma2_ops, d);
    port_map(m, "dma-page", 0x80, 16, &page_ops, d);
    return d;
}
