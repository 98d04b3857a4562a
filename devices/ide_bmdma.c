/*
 * PIIX3 function 1: the PCI side of the two IDE channels, with bus master. Sources: Intel 82371SB data sheet
 * (290550), chapter 2.4; "Programming Interface for Bus Master IDE Controller" 1.0.
 *
 *      config 40h/42h IDETIM, 44h SIDETIM: timings, kept; bit 15 of IDETIM: the channel's ports are decoded
 *      BAR4 + 8*channel: +0 command (start, read)   +2 status (active, error, interrupt, drive can DMA)
 *                        +4 table
 *      table entry: address, even; bytes, even, 0 = 64 KiB, bit 31 of the second word: last
 *
 * A table that nobody ends goes round in its 64 KiB, as the chip's counter does; each entry moves something,
 * so the drive's count ends it. Not modelled: the error bit (no bus error ever happens here), and a direction
 * that contradicts the command (the command wins).
 */
#include "ide_int.h"

#include <stdio.h>

#include "../core/vm/machine.h"

enum { BM_START = 0x01, BM_READ = 0x08, BM_ACTIVE = 0x01, BM_ERROR = 0x02, BM_INTERRUPT = 0x04,
       BM_CAPABLE = 0x60 };
enum { IDETIM = 0x40, SIDETIM = 0x44, COMMAND_IO = 1 };

typedef struct {
    PciState pci;
    u32 table[2];                   /* where it starts */
    u32 next[2];                    /* the entry after the one under way */
    u32 addr[2], left[2];           /* of the entry under way */
    u8 command[2], status[2], last[2];
    u8 pad[2];
} PiixIdeState;

typedef struct PiixIde PiixIde;

struct IdeBm {
    PiixIde *piix;
    unsigned n;
};

struct PiixIde {
    PciDevice pci;
    PiixIdeState s;
    IdeBm bm[2];
    IdeChannel *channel[2];
};

bool ide_bm_ready(const IdeBm *bm)
{
    const PiixIdeState *s = &bm->piix->s;

    return (s->command[bm->n] & BM_START) && (s->status[bm->n] & BM_ACTIVE);
}

static void next_entry(IdeBm *bm)
{
    PiixIdeState *s = &bm->piix->s;
    unsigned n = bm->n;
    u8 entry[8];

    pci_dma_read(&bm->piix->pci, s->next[n], entry, sizeof(entry));
    s->next[n] = (s->next[n] & 0xffff0000) | ((s->next[n] + 8) & 0xffff);
    s->addr[n] = load32(entry) & ~1u;
    s->left[n] = load16(entry + 4) & ~1u;
    if (!s->left[n])
        s->left[n] = 65536;
    s->last[n] = entry[7] >> 7;
}

u32 ide_bm_move(IdeBm *bm, u8 *buf, u32 bytes, bool to_memory)
{
    PiixIdeState *s = &bm->piix->s;
    unsigned n = bm->n;
    u32 moved = 0;

    while (moved < bytes && (s->left[n] || !s->last[n])) {
        u32 part;

        if (!s->left[n])
            next_entry(bm);
        part = bytes - moved < s->left[n] ? bytes - moved : s->left[n];
        if (to_memory)
            pci_dma_write(&bm->piix->pci, s->addr[n], buf + moved, part);
        else
            pci_dma_read(&bm->piix->pci, s->addr[n], buf + moved, part);
        moved += part;
        s->addr[n] += part;
        s->left[n] -= part;
    }
    if (!s->left[n] && s->last[n])
        s->status[n] &= (u8)~BM_ACTIVE;
    return moved;
}

void ide_bm_interrupt(IdeBm *bm)
{
    bm->piix->s.status[bm->n] |= BM_INTERRUPT;
}

/* ---- registers ---- */

static u8 bm_read_byte(PiixIde *p, unsigned reg)
{
    unsigned n = reg >> 3 & 1;

    switch (reg & 7) {
    case 0: return p->s.command[n];
    case 2: return p->s.status[n];
    case 4: case 5: case 6: case 7: return (u8)(p->s.table[n] >> (8 * (reg & 3)));
    default: return 0;
    }
}

static void write_command(PiixIde *p, unsigned n, u8 value)
{
    PiixIdeState *s = &p->s;
    bool start = (value & BM_START) && !(s->command[n] & BM_START);

    s->command[n] = value & (BM_START | BM_READ);
    if (!(value & BM_START)) {
        s->status[n] &= (u8)~BM_ACTIVE;
        return;
    }
    if (!start)
        return;
    s->next[n] = s->table[n];
    s->left[n] = 0;
    s->last[n] = 0;
    s->status[n] |= BM_ACTIVE;
    ide_go_on(p->channel[n]);
}

static void bm_write_byte(PiixIde *p, unsigned reg, u8 value)
{
    PiixIdeState *s = &p->s;
    unsigned n = reg >> 3 & 1, shift = 8 * (reg & 3);

    switch (reg & 7) {
    case 0:
        write_command(p, n, value);
        break;
    case 2:
        s->status[n] &= (u8)~(BM_CAPABLE | (value & (BM_ERROR | BM_INTERRUPT)));
        s->status[n] |= value & BM_CAPABLE;
        break;
    case 4: case 5: case 6: case 7:
        s->table[n] = ((s->table[n] & ~(0xffu << shift)) | (u32)value << shift) & ~3u;
        break;
    default:
        break;
    }
}

static u32 bm_read(void *opaque, u32 port, unsigned size)
{
    PiixIde *p = opaque;
    u32 value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (u32)bm_read_byte(p, (port + i) & 15) << (8 * i);
    return value;
}

static void bm_write(void *opaque, u32 port, u32 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        bm_write_byte(opaque, (port + i) & 15, (u8)(value >> (8 * i)));
}

static const PortOps bm_ports = { .read = bm_read, .write = bm_write, .sizes = 1 | 2 | 4 };

/* ---- the device ---- */

static void decode(PiixIde *p)
{
    for (unsigned n = 0; n < 2; n++) {
        bool on = load16(p->s.pci.config + IDETIM + 2 * n) & 0x8000;

        ide_channel_decode(p->channel[n], on && (p->s.pci.config[4] & COMMAND_IO));
    }
}

static void config_written(PciDevice *dev, unsigned reg, unsigned size)
{
    (void)reg;
    (void)size;
    decode((PiixIde *)dev);
}

static void piix_reset(Device *dev)
{
    pci_device_reset((PciDevice *)dev);
    decode((PiixIde *)dev);
}

static bool piix_loaded(Device *dev, Error *err)
{
    PiixIde *p = (PiixIde *)dev;

    if (!pci_device_loaded(&p->pci, err))
        return false;
    if (p->s.left[0] > 65536 || p->s.left[1] > 65536)
        return error_set(err, "%s: table entry out of range", dev->id);
    decode(p);
    return true;
}

static void piix_info(Device *dev, void (*print)(void *opaque, const char *line), void *opaque)
{
    PiixIdeState *s = &((PiixIde *)dev)->s;
    char line[120];

    for (unsigned n = 0; n < 2; n++) {
        snprintf(line, sizeof(line), "bus master %u: command %02x, status %02x, table %08x, next %08x", n,
                 s->command[n], s->status[n], (unsigned)s->table[n], (unsigned)s->next[n]);
        print(opaque, line);
    }
}

static const SaveField piix_fields[] = {
    PCI_SAVE(PiixIdeState, pci), SAVE(PiixIdeState, table), SAVE(PiixIdeState, next),
    SAVE(PiixIdeState, addr), SAVE(PiixIdeState, left), SAVE(PiixIdeState, command),
    SAVE(PiixIdeState, status), SAVE(PiixIdeState, last), SAVE(PiixIdeState, pad), SAVE_END
};

const DeviceClass piix3_ide_class = {
    .name = "piix3-ide", .size = sizeof(PiixIde),
    .state = offsetof(PiixIde, s), .state_size = sizeof(PiixIdeState), .fields = piix_fields,
    .reset = piix_reset, .loaded = piix_loaded, .info = piix_info,
};

PciDevice *ide_pci_create(Machine *m, PciBus *bus, int devfn, Irq irq14, Irq irq15, Blk *const drives[4])
{
    static const PciId id = { .vendor = 0x8086, .device = 0x7010, .prog_if = 0x80, .subclass = 1,
                              .base_class = 1 };
    PiixIde *p = device_create(m, &piix3_ide_class);

    for (unsigned n = 0; n < 2; n++) {
        p->bm[n] = (IdeBm){ p, n };
        p->channel[n] = ide_channel_create(m, n ? 0x170 : 0x1f0, n ? 0x376 : 0x3f6, n ? irq15 : irq14,
                                           drives[2 * n], drives[2 * n + 1], &p->bm[n]);
    }
    p->pci.bar[4] = (PciBar){ .kind = BAR_IO, .size = 16, .ports = &bm_ports, .opaque = p };
    p->pci.config_written = config_written;
    pci_register(bus, &p->pci, &p->s.pci, devfn, &id);
    for (unsigned reg = IDETIM; reg <= SIDETIM; reg++)
        p->pci.wmask[reg] = 0xff;
    device_reset(&p->pci.dev);
    return &p->pci;
}
