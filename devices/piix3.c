/*
 * 82371SB (PIIX3), function 0: PCI to ISA bridge. Source: Intel data sheet, order 290550, section 2.2.
 *
 *   PIRQRC[A:D] 60h-63h:  7 disable | 3-0 ISA interrupt (3-7, 9-12, 14, 15; others are reserved)
 *
 * What lies on the ISA bus behind it (interrupt controllers with ELCR, timers, DMA, NMI, port 92h, reset
 * control CF9h) are chips of their own; the IDE function is ide.c, power management piix4_pm.c.
 * Not modelled: the registers for timing, chip selects, motherboard DMA and SMI of this function keep what
 * is written.
 */
#include "piix3.h"

#include "../core/vm/machine.h"

enum { REG_PIRQ = 0x60, PIRQ_DISABLE = 0x80, ROUTABLE = 0xdef8 /* ISA interrupts that a PIRQ may drive */ };

typedef struct {
    PciState pci;
    u8 pirq_level[4];
    u8 pad[4];
} Piix3State;

struct Piix3 {
    PciDevice pci;
    Piix3State s;
    Irq isa[16];
    u16 driven;                     /* ISA lines that are up because of us */
};

static const SaveField piix3_fields[] = {
    PCI_SAVE(Piix3State, pci), SAVE(Piix3State, pirq_level), SAVE(Piix3State, pad), SAVE_END
};

static void route(Piix3 *p)
{
    u16 up = 0;

    for (int i = 0; i < 4; i++) {
        u8 reg = p->s.pci.config[REG_PIRQ + i];
        if (p->s.pirq_level[i] && !(reg & PIRQ_DISABLE))
            up |= (u16)(1u << (reg & 15) & ROUTABLE);
    }
    u16 changed = up ^ p->driven;
    p->driven = up;
    for (int n = 0; n < 16; n++)
        if (changed >> n & 1)
            irq_set(p->isa[n], up >> n & 1);
}

void piix3_set_pirq(Piix3 *p, int pirq, bool level)
{
    p->s.pirq_level[pirq] = level;
    route(p);
}

static void config_written(PciDevice *dev, unsigned reg, unsigned size)
{
    if (reg < REG_PIRQ + 4 && reg + size > REG_PIRQ)
        route(CONTAINER_OF(dev, Piix3, pci));
}

static void piix3_reset(Device *dev)
{
    Piix3 *p = CONTAINER_OF(dev, Piix3, pci.dev);

    pci_device_reset(&p->pci);
    route(p);
}

static bool piix3_loaded(Device *dev, Error *err)
{
    Piix3 *p = CONTAINER_OF(dev, Piix3, pci.dev);

    if (!pci_device_loaded(&p->pci, err))
        return false;
    route(p);
    return true;
}

const DeviceClass piix3_class = {
    .name = "piix3", .size = sizeof(Piix3),
    .state = offsetof(Piix3, s), .state_size = sizeof(Piix3State), .fields = piix3_fields,
    .reset = piix3_reset, .loaded = piix3_loaded,
};

Piix3 *piix3_create(Machine *m, PciBus *bus, int devfn, const Irq isa[16])
{
    static const PciId id = { .vendor = 0x8086, .device = 0x7000, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                              .subclass = 1, .base_class = 6, .header_type = 0x80 };
    Piix3 *p = device_create(m, &piix3_class);
    u8 *init = p->pci.init, *wmask = p->pci.wmask;

    for (int i = 0; i < 16; i++)
        p->isa[i] = isa[i];
    pci_register(bus, &p->pci, &p->s.pci, devfn, &id);
    p->pci.config_written = config_written;

    store16(init + 0x04, 0x0007);               /* I/O, memory, bus master: always */
    store16(wmask + 0x04, 0x0108);
    store16(init + 0x06, 0x0200);
    init[0x4c] = 0x4d;                          /* ISA recovery */
    init[0x4e] = 0x03;                          /* X-bus chip selects */
    for (int i = 0; i < 4; i++) {
        init[REG_PIRQ + i] = PIRQ_DISABLE;
        wmask[REG_PIRQ + i] = PIRQ_DISABLE | 15;
    }
    init[0x69] = 0x02;                          /* top of memory */
    init[0x70] = init[0x71] = 0x80;             /* motherboard interrupts: off */
    init[0x76] = init[0x77] = 0x0c;             /* motherboard DMA: off */
    init[0x78] = 0x02;
    init[0xa0] = 0x08;                          /* SMI control */
    init[0xa8] = 0x0f;
    static const u8 plain[] = { 0x4c, 0x4e, 0x4f, 0x69, 0x6a, 0x70, 0x71, 0x76, 0x77, 0x78, 0x79, 0x80, 0x82,
                                0xa0, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xaa, 0xab, 0xac, 0xae };
    for (unsigned i = 0; i < sizeof(plain); i++)
        wmask[plain[i]] = 0xff;
    return p;
}
