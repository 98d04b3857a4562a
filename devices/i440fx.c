/*
 * 82441FX "PMC", the host bridge of the i440FX chip set. Source: Intel data sheet, order 290549, chapter 3.
 *
 *   CF8h  CONFADD  bit 31 enable, 23-16 bus, 15-11 device, 10-8 function, 7-2 register    CFCh-CFFh  CONFDATA
 *   PAM0 (59h) bits 5-4: F0000-FFFFF      PAM1..6 (5Ah-5Fh): two 16 KiB segments each, C0000-EFFFF
 *        segment nibble: bit 0 read enable (reads from DRAM), bit 1 write enable (writes to DRAM)
 *   SMRAM (72h):  7 0 | 6 DOPEN | 5 DCLS | 4 DLCK | 3 G_SMRAME | 2-0 C_BASE_SEG (010: A0000-BFFFF)
 *   TRC (93h):    2 reset CPU (rising edge) | 1 hard reset
 *
 * Port CF9h, the reset control register of the PIIX3 (order 290550, section 2.3), lies between the
 * configuration ports and is served here: 2 RCPU (rising edge) | 1 SRST (1: hard).
 *
 * Not modelled: DRAM timing and error registers (they keep what is written), the fixed DRAM hole (68h),
 * ECC, DCLS (in SMM with G_SMRAME all accesses to A0000-BFFFF go to SMRAM, data too), the Deturbo counter.
 */
#include "i440fx.h"

#include <string.h>

#include "../core/vm/cpu.h"
#include "../core/vm/machine.h"

enum {
    REG_DRAMC = 0x57, REG_PAM0 = 0x59, REG_DRB0 = 0x60, REG_SMRAM = 0x72, REG_TRC = 0x93,
    SMRAM_DOPEN = 0x40, SMRAM_DCLS = 0x20, SMRAM_DLCK = 0x10, SMRAM_G_ENABLE = 0x08, SMRAM_BASE = 0x02,
    RESET_CPU = 0x04, RESET_HARD = 0x02,
    PAM_SEGMENTS = 13,
};

typedef struct {
    PciState pci;
    u32 address;                    /* CONFADD */
    u8 reset_control;               /* CF9h */
    u8 in_smm;                      /* the CPU's SMIACT# */
    u8 smram_locked;
    u8 pad;
} I440fxState;

typedef struct {
    PciDevice pci;
    I440fxState s;
    I440fxWiring wiring;
    int pam_map[PAM_SEGMENTS];
    u8 pam_now[PAM_SEGMENTS];
    int smram_map;
} I440fx;

static const SaveField i440fx_fields[] = {
    PCI_SAVE(I440fxState, pci), SAVE(I440fxState, address), SAVE(I440fxState, reset_control),
    SAVE(I440fxState, in_smm), SAVE(I440fxState, smram_locked), SAVE(I440fxState, pad), SAVE_END
};

/* Segment 0 is the 64 KiB at F0000, segments 1..12 are the 16 KiB ones from C0000. */
static void pam_apply(I440fx *b, int segment)
{
    static const unsigned flags[4] = { 0, MEM_R, MEM_W, MEM_RW };
    Machine *m = b->pci.dev.m;
    unsigned pam = b->s.pci.config[REG_PAM0 + (segment + 1) / 2];
    unsigned mode = (segment & 1 ? pam : pam >> 4) & 3;
    u64 addr = segment ? 0xc0000 + 0x4000 * (u64)(segment - 1) : 0xf0000;
    u64 bytes = segment ? 0x4000 : 0x10000;

    if (mode == b->pam_now[segment])
        return;
    mem_unmap(m->mem, b->pam_map[segment]);
    b->pam_map[segment] = 0;
    if (mode)
        b->pam_map[segment] = mem_map(m->mem, b->wiring.ram, addr, addr, bytes, MAP_PRIO_PAM, flags[mode]);
    b->pam_now[segment] = (u8)mode;
}

static void smram_apply(I440fx *b)
{
    Machine *m = b->pci.dev.m;
    u8 reg = b->s.pci.config[REG_SMRAM];
    bool show = (reg & SMRAM_G_ENABLE) && ((reg & SMRAM_DOPEN) || b->s.in_smm);

    if (show == (b->smram_map != 0))
        return;
    mem_unmap(m->mem, b->smram_map);
    b->smram_map = show ? mem_map(m->mem, b->wiring.ram, 0xa0000, 0xa0000, 0x20000, MAP_PRIO_SMRAM,
                                  MEM_RW) : 0;
}

static void apply(I440fx *b)
{
    for (int i = 0; i < PAM_SEGMENTS; i++)
        pam_apply(b, i);
    smram_apply(b);
}

static void smm_changed(void *opaque, bool active)
{
    I440fx *b = opaque;

    b->s.in_smm = active;
    smram_apply(b);
}

/* DLCK can only be set, and freezes all but DCLS until the next hard reset. */
static void smram_written(I440fx *b)
{
    u8 *reg = &b->s.pci.config[REG_SMRAM];

    if (b->s.smram_locked)
        *reg = (u8)((*reg & SMRAM_DCLS) | SMRAM_DLCK | (b->s.smram_locked & SMRAM_G_ENABLE) | SMRAM_BASE);
    else if (*reg & SMRAM_DLCK) {
        *reg &= (u8)~SMRAM_DOPEN;
        b->s.smram_locked = (u8)(SMRAM_DLCK | (*reg & SMRAM_G_ENABLE));
    }
    smram_apply(b);
}

/* Both reset registers: bit 2 rising resets, bit 1 says how. */
static void reset_written(I440fx *b, u8 old, u8 value)
{
    if (value & ~old & RESET_CPU)
        irq_pulse(value & RESET_HARD ? b->wiring.hard_reset : b->wiring.init);
}

static void config_written(PciDevice *dev, unsigned reg, unsigned size)
{
    I440fx *b = CONTAINER_OF(dev, I440fx, pci);
    u8 *c = b->s.pci.config;

    for (unsigned r = reg; r < reg + size && r < 256; r++) {
        if (r >= REG_PAM0 && r <= REG_PAM0 + 6) {
            int i = (int)(r - REG_PAM0);
            if (i)
                pam_apply(b, 2 * i - 1);
            pam_apply(b, 2 * i);
        } else if (r == REG_SMRAM) {
            smram_written(b);
        } else if (r == REG_TRC) {
            u8 value = c[REG_TRC];
            c[REG_TRC] &= (u8)~RESET_CPU;       /* rises again with the next write of 1 */
            reset_written(b, 0, value);
        }
    }
}

/* ---- ports CF8h-CFFh ---- */

static u32 ports_read(void *opaque, u32 port, unsigned size)
{
    I440fx *b = opaque;

    if (port >= 0xcfc) {
        if (!(b->s.address >> 31) || (b->s.address >> 16 & 0xff))
            return 0xffffffff;
        return pci_config_read(b->pci.bus, (u8)(b->s.address >> 8), (u8)((b->s.address & 0xfc) | (port & 3)),
                               size);
    }
    if (port == 0xcf8 && size == 4)
        return b->s.address;
    if (port == 0xcf9 && size == 1)
        return b->s.reset_control;
    return 0xffffffff;
}

static void ports_write(void *opaque, u32 port, u32 value, unsigned size)
{
    I440fx *b = opaque;

    if (port >= 0xcfc) {
        if (b->s.address >> 31 && !(b->s.address >> 16 & 0xff))
            pci_config_write(b->pci.bus, (u8)(b->s.address >> 8), (u8)((b->s.address & 0xfc) | (port & 3)),
                             value, size);
    } else if (port == 0xcf8 && size == 4) {
        b->s.address = value & 0x80fffffc;
    } else if (port == 0xcf9 && size == 1) {
        u8 old = b->s.reset_control;
        b->s.reset_control = value & (RESET_CPU | RESET_HARD);
        reset_written(b, old, (u8)value);
    }
}

static const PortOps config_ports = { .read = ports_read, .write = ports_write, .sizes = 1 | 2 | 4 };

/* ---- life ---- */

static void i440fx_reset(Device *dev)
{
    I440fx *b = CONTAINER_OF(dev, I440fx, pci.dev);

    pci_device_reset(&b->pci);
    apply(b);
}

static bool i440fx_loaded(Device *dev, Error *err)
{
    I440fx *b = CONTAINER_OF(dev, I440fx, pci.dev);

    if (!pci_device_loaded(&b->pci, err))
        return false;
    b->s.address &= 0x80fffffc;
    apply(b);
    return true;
}

static void i440fx_destroy(Device *dev)
{
    pci_bus_destroy(CONTAINER_OF(dev, I440fx, pci.dev)->pci.bus);
}

const DeviceClass i440fx_class = {
    .name = "i440fx", .size = sizeof(I440fx),
    .state = offsetof(I440fx, s), .state_size = sizeof(I440fxState), .fields = i440fx_fields,
    .reset = i440fx_reset, .loaded = i440fx_loaded, .destroy = i440fx_destroy,
};

static void init_config(I440fx *b, u64 ram_bytes)
{
    u8 *init = b->pci.init, *wmask = b->pci.wmask;
    u64 rows = ram_bytes >> 23;                 /* a row boundary counts 8 MiB */

    store16(init + 0x04, 0x0006);               /* memory and bus master, hard-wired */
    store16(wmask + 0x04, 0x0140);
    store16(init + 0x06, 0x0280);               /* medium DEVSEL#, fast back-to-back */
    init[0x53] = 0x80;
    init[REG_DRAMC] = 0x01;
    memset(init + REG_DRB0, rows > 0xff ? 0xff : (int)rows, 8);
    init[REG_SMRAM] = SMRAM_BASE;
    memset(wmask + 0x50, 0xff, 0x20);
    memset(wmask + 0x70, 0xff, 2);
    wmask[REG_SMRAM] = SMRAM_DOPEN | SMRAM_DCLS | SMRAM_DLCK | SMRAM_G_ENABLE;
    wmask[0x90] = 0xff;
    wmask[REG_TRC] = 0x07;
}

PciBus *i440fx_create(Machine *m, const I440fxWiring *wiring)
{
    /* Firmware recognises the machine it runs on by this subsystem id. */
    static const PciId id = { .vendor = 0x8086, .device = 0x1237, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                              .revision = 2, .base_class = 6 };
    I440fx *b = device_create(m, &i440fx_class);
    PciBus *bus = pci_bus_create(m, wiring->route, wiring->pirq, wiring->opaque);

    b->wiring = *wiring;
    pci_register(bus, &b->pci, &b->s.pci, 0, &id);
    b->pci.config_written = config_written;
    init_config(b, mem_region_size(wiring->ram));
    port_map(m, "pci config", 0xcf8, 8, &config_ports, b);
    cpu_connect_smm(wiring->cpu, smm_changed, b);
    return bus;
}
