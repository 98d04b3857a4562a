/*
 * NE2000. Sources: National Semiconductor DP8390D data sheet (registers, section 10; buffer ring, section 7;
 * remote DMA, section 6), Novell's NE2000 layout (data port, reset port, station PROM), Realtek RTL8029AS
 * data sheet (PCI, page 3 registers).
 *
 *      port + 00..0f   DP8390, four pages of registers chosen by CR bits 7 and 6
 *           + 10..17   data port of the remote DMA          + 18..1f   a read resets
 *
 *      local address 0000..001f  station PROM: each byte twice, 57h 57h at its end
 *                    4000..bfff  packet memory; a page is 256 bytes
 *
 *      receive ring  PSTART [ ... BNRY: the guest reads here ... CURR: the next frame lies here ... ] PSTOP
 *      a frame       status, next page, bytes low, bytes high (with check sequence); frame; check sequence
 *
 * A frame that finds no room waits in the VLAN's queue instead of being lost with an overflow interrupt.
 *
 * Not modelled: loopback (nothing is sent, nothing comes back), collisions, the check sequence's value (zero),
 * the EEPROM behind the RTL8029's page 3, the 8-bit ISA variant.
 */
#include "ne2000.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/device.h"
#include "../core/vm/log.h"
#include "../core/vm/memory.h"
#include "pci.h"

enum { MEM_START = 0x4000, MEM_BYTES = 0x8000, MEM_END = MEM_START + MEM_BYTES, PROM_BYTES = 32, PAGE = 256 };
enum { PORTS = 0x20, DATA_PORT = 0x10, RESET_PORT = 0x18 };
enum { CR_STOP = 1, CR_START = 2, CR_TRANSMIT = 4, CR_READ = 0x08, CR_WRITE = 0x10, CR_SEND = 0x18,
       CR_ABORT = 0x20, CR_DMA = 0x38, DCR_WORD = 1 };
enum { ISR_RX = 1, ISR_TX = 2, ISR_TX_ERROR = 8, ISR_DMA = 0x40, ISR_RESET = 0x80 };
enum { RCR_RUNT = 2, RCR_BROADCAST = 4, RCR_MULTICAST = 8, RCR_ALL = 0x10, RCR_MONITOR = 0x20 };
enum { RSR_OK = 1, RSR_MISSED = 0x10, RSR_GROUP = 0x20, TSR_OK = 1, TSR_ABORTED = 8, TCR_LOOP = 6 };
enum { FRAME_MIN = 60, FRAME_MAX = 1518, RX_HEADER = 4, FCS = 4 };      /* with a VLAN tag */

typedef struct {
    u8 mem[MEM_BYTES];
    u8 prom[PROM_BYTES];
    u8 mar[8];                      /* multicast hash */
    u8 par[MAC_LEN];                /* station address */
    u16 rsar, rbcr, tbcr;
    u8 cr, isr, imr, dcr, rcr, tcr, rsr, tsr;
    u8 pstart, pstop, bnry, curr, tpsr;
    u8 missed;                      /* CNTR2 */
    u8 pad[2];
} Ne2000State;

/* The rows of both cards: `in` is "" or "member." of the state struct. */
#define NE2000_SAVE(T, in) \
    SAVE(T, in mem), SAVE(T, in prom), SAVE(T, in mar), SAVE(T, in par), SAVE(T, in rsar), SAVE(T, in rbcr), \
    SAVE(T, in tbcr), SAVE(T, in cr), SAVE(T, in isr), SAVE(T, in imr), SAVE(T, in dcr), SAVE(T, in rcr), \
    SAVE(T, in tcr), SAVE(T, in rsr), SAVE(T, in tsr), SAVE(T, in pstart), SAVE(T, in pstop), SAVE(T, in bnry), \
    SAVE(T, in curr), SAVE(T, in tpsr), SAVE(T, in missed), SAVE(T, in pad)

typedef struct {
    Ne2000State *s;
    NetPeer *peer;
    void (*set_irq)(void *opaque, bool level);
    void *opaque;
    u8 mac[MAC_LEN];
    bool said_long;
    const char *kind;
} Ne2000;

static void update(Ne2000 *n)
{
    n->set_irq(n->opaque, (n->s->isr & n->s->imr & 0x7f) != 0);
}

/* ---- local memory ---- */

static u8 local_read(const Ne2000State *s, u32 addr)
{
    if (addr < PROM_BYTES)
        return s->prom[addr];
    return addr >= MEM_START && addr < MEM_END ? s->mem[addr - MEM_START] : 0xff;
}

static void local_write(Ne2000State *s, u32 addr, u8 value)
{
    if (addr >= MEM_START && addr < MEM_END)
        s->mem[addr - MEM_START] = value;
}

/* One byte of the remote DMA. It goes round in the ring like the receiver, and ends with its count. */
static void dma_step(Ne2000 *n)
{
    Ne2000State *s = n->s;

    s->rsar++;
    if (s->rsar == s->pstop * PAGE)
        s->rsar = (u16)(s->pstart * PAGE);
    if (s->rbcr && --s->rbcr == 0) {
        s->isr |= ISR_DMA;
        update(n);
    }
}

static u32 data_read(Ne2000 *n, unsigned size)
{
    u32 value = 0;

    for (unsigned i = 0; i < size; i++) {
        u32 byte = 0xff;
        if (n->s->rbcr && (n->s->cr & CR_DMA) != CR_WRITE) {
            byte = local_read(n->s, n->s->rsar);
            dma_step(n);
        }
        value |= byte << 8 * i;
    }
    if (size == 1 && (n->s->dcr & DCR_WORD) && n->s->rbcr)
        dma_step(n);                /* the DMA moves words; the bus took half of one */
    return value;
}

static void data_write(Ne2000 *n, u32 value, unsigned size)
{
    for (unsigned i = 0; i < size && n->s->rbcr && (n->s->cr & CR_DMA) == CR_WRITE; i++) {
        local_write(n->s, n->s->rsar, (u8)(value >> 8 * i));
        dma_step(n);
    }
}

/* ---- receiving ---- */

/* The upper six bits of the check sequence of an address choose one of 64 filter bits. */
static unsigned hash_of(const u8 *mac)
{
    u32 crc = ~0u;

    for (int i = 0; i < MAC_LEN; i++) {
        u8 byte = mac[i];
        for (int bit = 0; bit < 8; bit++, byte >>= 1) {
            u32 carry = (crc >> 31) ^ (byte & 1);
            crc = crc << 1 ^ (carry ? 0x04c11db7 : 0);
        }
    }
    return crc >> 26;
}

static bool wanted(const Ne2000State *s, const u8 *frame)
{
    static const u8 broadcast[MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    if (s->rcr & RCR_ALL)
        return true;
    if (!memcmp(frame, broadcast, MAC_LEN))
        return s->rcr & RCR_BROADCAST;
    if (frame[0] & 1) {
        unsigned hash = hash_of(frame);
        return (s->rcr & RCR_MULTICAST) && (s->mar[hash >> 3] >> (hash & 7) & 1);
    }
    return !memcmp(frame, s->par, MAC_LEN);
}

/* A ring that lies in packet memory, with pointers in it. */
static bool ring_sound(const Ne2000State *s)
{
    return s->pstart >= MEM_START / PAGE && s->pstop <= MEM_END / PAGE && s->pstart < s->pstop &&
           s->curr >= s->pstart && s->curr < s->pstop;
}

static u32 ring_free_pages(const Ne2000State *s)
{
    u32 pages = (u32)(s->pstop - s->pstart), behind = (u32)(s->curr - s->bnry);

    /* Drivers write the page before the next frame: PSTART - 1 when that one lies at PSTART. */
    if (s->bnry + 1 < s->pstart || s->bnry >= s->pstop || s->bnry == s->curr)
        return pages;
    return s->bnry > s->curr ? (u32)(s->bnry - s->curr) : pages - (behind < pages ? behind : pages);
}

/* Stores len bytes of frame and zeros up to total behind a header; the ring is sound and has room. */
static void store_frame(Ne2000State *s, const u8 *frame, u32 len, u32 total)
{
    u32 pages = (RX_HEADER + total + PAGE - 1) / PAGE, next = s->curr + pages;

    if (next >= s->pstop)
        next -= (u32)(s->pstop - s->pstart);
    u8 header[RX_HEADER] = { s->rsr, (u8)next, (u8)total, (u8)(total >> 8) };
    u32 at = s->curr * PAGE - MEM_START, end = s->pstop * PAGE - MEM_START, done = 0;
    memcpy(s->mem + at, header, RX_HEADER);
    at += RX_HEADER;
    while (done < total) {
        u32 part = end - at < total - done ? end - at : total - done;
        u32 data = done >= len ? 0 : len - done < part ? len - done : part;
        memcpy(s->mem + at, frame + done, data);
        memset(s->mem + at + data, 0, part - data);
        done += part;
        at = s->pstart * PAGE - MEM_START;
    }
    s->curr = (u8)next;
}

static bool ne2000_receive(void *opaque, const u8 *frame, u32 len)
{
    Ne2000 *n = opaque;
    Ne2000State *s = n->s;
    u32 total = (len < FRAME_MIN ? FRAME_MIN : len) + FCS;

    if ((s->cr & (CR_STOP | CR_START)) != CR_START || !ring_sound(s))
        return true;                /* not listening */
    if (len < MAC_LEN || len > FRAME_MAX || !wanted(s, frame))
        return true;
    if (s->rcr & RCR_MONITOR) {
        s->missed += s->missed < 192;
        s->rsr = RSR_MISSED;
        return true;
    }
    u32 pages = (RX_HEADER + total + PAGE - 1) / PAGE;
    if (pages >= (u32)(s->pstop - s->pstart))
        return true;                /* it will never have room */
    if (pages >= ring_free_pages(s))
        return false;               /* CURR must not catch up with BNRY: that means empty */
    s->rsr = RSR_OK | (frame[0] & 1 ? RSR_GROUP : 0);
    store_frame(s, frame, len, total);
    s->isr |= ISR_RX;
    update(n);
    return true;
}

/* ---- sending ---- */

static void transmit(Ne2000 *n)
{
    Ne2000State *s = n->s;
    u32 start = s->tpsr * PAGE, len = s->tbcr;

    if (!(s->cr & CR_TRANSMIT))
        return;
    if (!net_can_send(n->peer)) {
        net_wait_to_send(n->peer);
        return;
    }
    s->cr &= (u8)~CR_TRANSMIT;
    bool good = start >= MEM_START && start + len <= MEM_END && len && len <= FRAME_MAX;
    if (!good)
        log_once(&n->said_long, "%s: the guest sends %u bytes from %04x, which is no frame", n->kind, len, start);
    s->tsr = good ? TSR_OK : TSR_ABORTED;
    s->isr |= good ? ISR_TX : ISR_TX_ERROR;
    if (good && !(s->tcr & TCR_LOOP)) {
        u8 frame[FRAME_MAX];        /* the VLAN's answer may come while it is being handed on */
        memcpy(frame, s->mem + (start - MEM_START), len);
        net_send(n->peer, frame, len);
    }
    update(n);
}

static void ne2000_may_send(void *opaque)
{
    transmit(opaque);
}

/* ---- registers ---- */

static void reset_chip(Ne2000 *n)
{
    Ne2000State *s = n->s;

    s->cr = CR_STOP | CR_ABORT;
    s->isr = ISR_RESET;
    s->imr = 0;
    s->rbcr = 0;
    update(n);
    net_ready(n->peer);
}

static void command(Ne2000 *n, u8 value)
{
    Ne2000State *s = n->s;
    u8 sending = s->cr & CR_TRANSMIT;

    if (!(value & (CR_STOP | CR_START)))        /* drivers change pages so: it goes on as it was */
        value |= s->cr & (CR_STOP | CR_START);
    s->cr = value;
    if (value & CR_STOP) {
        s->isr |= ISR_RESET;
        s->cr &= (u8)~CR_TRANSMIT;
        net_ready(n->peer);         /* what waits is dropped, as on a wire */
        return;
    }
    if (value & CR_START)
        s->isr &= (u8)~ISR_RESET;
    if ((value & CR_DMA) == CR_SEND) {          /* "send packet": the frame at BNRY is read */
        s->rsar = (u16)(s->bnry * PAGE);
        s->rbcr = (u16)(local_read(s, s->rsar + 2u) | local_read(s, s->rsar + 3u) << 8);
    }
    if (((value & CR_DMA) == CR_READ || (value & CR_DMA) == CR_WRITE) && s->rbcr == 0)
        s->isr |= ISR_DMA;
    if (value & CR_TRANSMIT) {
        if (!sending)
            transmit(n);
    } else {
        s->cr |= sending;           /* only its end clears it */
    }
    update(n);
}

/*
 * On a wire the next frame would soon interrupt again. Here the sender may wait for an answer to what lies in
 * the ring: drivers read a few frames, acknowledge, and leave the rest for the next interrupt, which must come.
 * So the bit comes back while the ring holds frames (BNRY is the page before the next frame, or that frame's).
 */
static void acknowledge(Ne2000 *n, u8 bits)
{
    Ne2000State *s = n->s;

    s->isr &= (u8)~(bits & 0x7f);
    if (bits & ISR_RX) {
        u8 after = (u8)(s->bnry + 1) >= s->pstop ? s->pstart : (u8)(s->bnry + 1);
        net_ready(n->peer);
        if (ring_sound(s) && s->curr != s->bnry && s->curr != after)
            s->isr |= ISR_RX;
    }
    update(n);
}

static void write_page0(Ne2000 *n, unsigned reg, u8 v)
{
    Ne2000State *s = n->s;

    switch (reg) {
    case 0x1: s->pstart = v; break;
    case 0x2: s->pstop = v; break;
    case 0x3:
        s->bnry = v;
        net_ready(n->peer);
        break;
    case 0x4: s->tpsr = v; break;
    case 0x5: s->tbcr = (u16)((s->tbcr & 0xff00) | v); break;
    case 0x6: s->tbcr = (u16)((s->tbcr & 0x00ff) | v << 8); break;
    case 0x7: acknowledge(n, v); break;
    case 0x8: s->rsar = (u16)((s->rsar & 0xff00) | v); break;
    case 0x9: s->rsar = (u16)((s->rsar & 0x00ff) | v << 8); break;
    case 0xa: s->rbcr = (u16)((s->rbcr & 0xff00) | v); break;
    case 0xb: s->rbcr = (u16)((s->rbcr & 0x00ff) | v << 8); break;
    case 0xc: s->rcr = v; break;
    case 0xd: s->tcr = v; break;
    case 0xe: s->dcr = v; break;
    case 0xf: s->imr = v; update(n); break;
    }
}

static u8 read_page0(Ne2000 *n, unsigned reg)
{
    Ne2000State *s = n->s;
    u8 v;

    switch (reg) {
    case 0x1: return (u8)s->rsar;               /* the local DMA's address is that of the last transfer */
    case 0x2: return (u8)(s->rsar >> 8);
    case 0x3: return s->bnry;
    case 0x4: return s->tsr;
    case 0x7: return s->isr;
    case 0x8: return (u8)s->rsar;
    case 0x9: return (u8)(s->rsar >> 8);
    case 0xa: return 0x50;                      /* 8029ID0, 8029ID1 */
    case 0xb: return 0x43;
    case 0xc: return s->rsr;
    case 0xf:
        v = s->missed;
        s->missed = 0;
        return v;
    default: return 0;
    }
}

static u8 read_page2(const Ne2000State *s, unsigned reg)
{
    switch (reg) {
    case 0x1: return s->pstart;
    case 0x2: return s->pstop;
    case 0x4: return s->tpsr;
    case 0xc: return s->rcr | 0xc0;
    case 0xd: return s->tcr | 0xe0;
    case 0xe: return s->dcr | 0x80;
    case 0xf: return s->imr | 0x80;
    default: return 0;
    }
}

static u8 reg_read(Ne2000 *n, unsigned reg)
{
    Ne2000State *s = n->s;

    if (reg >= RESET_PORT) {
        reset_chip(n);
        return 0;
    }
    if (reg >= DATA_PORT)
        return 0xff;                /* a wide access that begins below the data port */
    if (reg == 0)
        return s->cr;
    switch (s->cr >> 6) {
    case 0: return read_page0(n, reg);
    case 1: return reg <= 6 ? s->par[reg - 1] : reg == 7 ? s->curr : s->mar[reg - 8];
    case 2: return read_page2(s, reg);
    default: return reg == 6 ? 0x40 : 0;        /* CONFIG3: full duplex */
    }
}

static void reg_write(Ne2000 *n, unsigned reg, u8 v)
{
    Ne2000State *s = n->s;

    if (reg >= DATA_PORT)
        return;                     /* a reset's end, or a wide access that begins below the data port */
    if (reg == 0) {
        command(n, v);
    } else if (s->cr >> 6 == 0) {
        write_page0(n, reg, v);
    } else if (s->cr >> 6 == 1) {
        if (reg <= 6)
            s->par[reg - 1] = v;
        else if (reg == 7)
            s->curr = v;
        else
            s->mar[reg - 8] = v;
    }
}

static u32 ne2000_read(Ne2000 *n, unsigned offset, unsigned size)
{
    u32 value = 0;

    if (offset >= DATA_PORT && offset < RESET_PORT)
        return data_read(n, size);
    for (unsigned i = 0; i < size && offset + i < PORTS; i++)
        value |= (u32)reg_read(n, offset + i) << 8 * i;
    return value;
}

static void ne2000_write(Ne2000 *n, unsigned offset, u32 value, unsigned size)
{
    if (offset >= DATA_PORT && offset < RESET_PORT) {
        data_write(n, value, size);
        return;
    }
    for (unsigned i = 0; i < size && offset + i < PORTS; i++)
        reg_write(n, offset + i, (u8)(value >> 8 * i));
}

/* ---- what both cards share ---- */

static void ne2000_reset(Ne2000 *n)
{
    Ne2000State *s = n->s;

    for (int i = 0; i < MAC_LEN; i++)
        s->prom[2 * i] = s->prom[2 * i + 1] = n->mac[i];
    for (int i = 28; i < PROM_BYTES; i++)
        s->prom[i] = 0x57;
    memcpy(s->par, n->mac, MAC_LEN);
    reset_chip(n);
}

static void ne2000_loaded(Ne2000 *n)
{
    if (n->s->cr & CR_TRANSMIT)
        net_wait_to_send(n->peer);
    update(n);
}

static void ne2000_describe(void *opaque, char *text, size_t size)
{
    Ne2000 *n = opaque;
    const u8 *a = n->mac;           /* a driver may have set another, or be about to */

    snprintf(text, size, "%s, %02x:%02x:%02x:%02x:%02x:%02x", n->kind, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static const NetPeerOps ne2000_ops = { .receive = ne2000_receive, .may_send = ne2000_may_send,
                                       .describe = ne2000_describe };

static void ne2000_init(Ne2000 *n, Machine *m, Ne2000State *s, const char *kind, const NicConfig *cfg)
{
    n->s = s;
    n->kind = kind;
    memcpy(n->mac, cfg->mac, MAC_LEN);
    n->peer = net_join(m, cfg->vlan, cfg->name, &ne2000_ops, n);
}

/* ---- ISA ---- */

typedef struct {
    Device dev;
    Ne2000State s;
    Ne2000 chip;
    Irq irq;
    u32 base;
} Ne2kIsa;

static const SaveField isa_fields[] = { NE2000_SAVE(Ne2000State, ), SAVE_END };

static u32 isa_read(void *opaque, u32 port, unsigned size)
{
    Ne2kIsa *c = opaque;
    return ne2000_read(&c->chip, port - c->base, size);
}

static void isa_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Ne2kIsa *c = opaque;
    ne2000_write(&c->chip, port - c->base, value, size);
}

static void isa_irq_set(void *opaque, bool level)
{
    irq_set(((Ne2kIsa *)opaque)->irq, level);
}

static void isa_reset(Device *dev)
{
    ne2000_reset(&CONTAINER_OF(dev, Ne2kIsa, dev)->chip);
}

static bool isa_loaded(Device *dev, Error *err)
{
    (void)err;
    ne2000_loaded(&CONTAINER_OF(dev, Ne2kIsa, dev)->chip);
    return true;
}

static void isa_destroy(Device *dev)
{
    net_leave(CONTAINER_OF(dev, Ne2kIsa, dev)->chip.peer);
}

const DeviceClass ne2k_isa_class = {
    .name = "ne2k_isa", .size = sizeof(Ne2kIsa), .state = offsetof(Ne2kIsa, s), .state_size = sizeof(Ne2000State),
    .fields = isa_fields, .reset = isa_reset, .loaded = isa_loaded, .destroy = isa_destroy,
};

void ne2k_isa_create(Machine *m, const NicConfig *cfg, Irq irq)
{
    static const PortOps ops = { isa_read, isa_write, 1 | 2 | 4 };
    Ne2kIsa *c = device_create(m, &ne2k_isa_class);

    c->irq = irq;
    c->base = cfg->iobase;
    c->chip.set_irq = isa_irq_set;
    c->chip.opaque = c;
    ne2000_init(&c->chip, m, &c->s, "ne2k_isa", cfg);
    port_map(m, c->dev.id, c->base, PORTS, &ops, c);
    ne2000_reset(&c->chip);
}

/* ---- PCI ---- */

typedef struct {
    PciState pci;
    Ne2000State chip;
} Ne2kPciState;

typedef struct {
    PciDevice pci;
    Ne2kPciState s;
    Ne2000 chip;
} Ne2kPci;

static const SaveField pci_fields[] = { PCI_SAVE(Ne2kPciState, pci), NE2000_SAVE(Ne2kPciState, chip.), SAVE_END };

static u32 pci_read(void *opaque, u32 port, unsigned size)
{
    Ne2kPci *c = opaque;
    return ne2000_read(&c->chip, (port - pci_bar_base(&c->pci, 0)) & (PORTS - 1), size);
}

static void pci_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Ne2kPci *c = opaque;
    ne2000_write(&c->chip, (port - pci_bar_base(&c->pci, 0)) & (PORTS - 1), value, size);
}

static void pci_irq_set(void *opaque, bool level)
{
    pci_set_irq(&((Ne2kPci *)opaque)->pci, 0, level);
}

static Ne2kPci *card_of(Device *dev)
{
    return CONTAINER_OF(dev, Ne2kPci, pci.dev);
}

static void pci_reset(Device *dev)
{
    pci_device_reset(&card_of(dev)->pci);
    ne2000_reset(&card_of(dev)->chip);
}

static bool pci_loaded(Device *dev, Error *err)
{
    if (!pci_device_loaded(&card_of(dev)->pci, err))
        return false;
    ne2000_loaded(&card_of(dev)->chip);
    return true;
}

static void pci_destroy(Device *dev)
{
    net_leave(card_of(dev)->chip.peer);
}

const DeviceClass ne2k_pci_class = {
    .name = "ne2k_pci", .size = sizeof(Ne2kPci), .state = offsetof(Ne2kPci, s), .state_size = sizeof(Ne2kPciState),
    .fields = pci_fields, .reset = pci_reset, .loaded = pci_loaded, .destroy = pci_destroy,
};

void ne2k_pci_create(Machine *m, PciBus *bus, const NicConfig *cfg)
{
    static const PortOps ops = { pci_read, pci_write, 1 | 2 | 4 };
    static const PciId id = { .vendor = 0x10ec, .device = 0x8029, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                              .base_class = 0x02, .int_pin = 1 };
    Ne2kPci *c = device_create(m, &ne2k_pci_class);

    c->pci.bar[0] = (PciBar){ .kind = BAR_IO, .size = PORTS, .ports = &ops, .opaque = c };
    pci_register(bus, &c->pci, &c->s.pci, cfg->devfn, &id);
    c->chip.set_irq = pci_irq_set;
    c->chip.opaque = c;
    ne2000_init(&c->chip, m, &c->s.chip, "ne2k_pci", cfg);
    ne2000_reset(&c->chip);
}
