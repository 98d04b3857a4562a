/*
 * PCI bus 0 behind the i440FX. Machine lock held. A chip fills a PciClass-like description and gets its
 * config space; the bus does BAR sizing, mapping and command-register gating, and checks every size and
 * range.
 * Source: PCI Local Bus Specification 2.1, chapter 6.
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "../core/vm/device.h"
#include "../core/vm/irq.h"
#include "../core/vm/memory.h"

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

/* Who hides whom in the address space: RAM claims its addresses before the PCI bus sees them. */
enum {
    MAP_PRIO_PCI   = -1,            /* memory BARs */
    MAP_PRIO_RAM   = 0,
    MAP_PRIO_CHIP  = 1,             /* ROM, VGA window, local and I/O APIC */
    MAP_PRIO_PAM   = 2,             /* shadow RAM over ROM */
    MAP_PRIO_SMRAM = 100,           /* over the VGA window */
};

typedef enum { BAR_NONE, BAR_IO, BAR_MEM, BAR_MEM_PREFETCH, BAR_ROM } BarKind;

typedef struct {
    BarKind kind;
    u32 size;                       /* power of two; IO >= 4, memory >= 4096 */
    /* What the bus shows at the BAR's address, if one of these is set; and who hears of it when the guest's
     * settings move, show or hide the BAR (mapped: decoded at addr). */
    const PortOps *ports;           /* BAR_IO: handlers get absolute ports; use pci_bar_base() */
    MemRegion *region;              /* BAR_MEM: shown at the BAR's address */
    void (*moved)(PciDevice *dev, int bar, bool mapped, u32 addr);  /* may be NULL */
    void *opaque;                   /* for ports */
} PciBar;

/* The saved part of every PCI chip; its chip puts PCI_SAVE(State, pci) rows into its field table. */
typedef struct {
    u8 config[256];
    u8 irq_level[4];
    u8 pad[4];
} PciState;
#define PCI_SAVE(Type, member) \
    SAVE(Type, member.config), SAVE(Type, member.irq_level), SAVE(Type, member.pad)

struct PciDevice {
    Device dev;                     /* chips put PciDevice first, then their PciState-holding state struct */
    PciBus *bus;
    PciState *s;                    /* points into the chip's state struct */
    u8 devfn;
    PciBar bar[7];                  /* 6 = expansion ROM */
    u8 wmask[256];                  /* writable bits of config space; pci_register()'s and the chip's */
    u8 init[256];                   /* config space after reset; the same */
    int map_handle[7];
    u32 map_addr[7];
    bool map_active[7];
    /* After a config write of `size` bytes at `reg` (already stored through wmask). May be NULL. */
    void (*config_written)(PciDevice *dev, unsigned reg, unsigned size);
};

typedef struct {
    u16 vendor, device, subsys_vendor, subsys;
    u8 revision;
    u8 prog_if, subclass, base_class;
    u8 header_type;                 /* bit 7: multifunction */
    u8 int_pin;                     /* 0 none, 1 INTA# .. */
} PciId;

/* devfn: slot << 3 | function, or -1 for the first free slot. The caller has filled in dev->bar. */
void pci_register(PciBus *bus, PciDevice *dev, PciState *s, int devfn, const PciId *id);

/* The chip's reset and loaded callbacks call these first. */
void pci_device_reset(PciDevice *dev);
bool pci_device_loaded(PciDevice *dev, Error *err);

void pci_set_irq(PciDevice *dev, int pin /* 0 = INTA# */, bool level);
u32 pci_bar_base(const PciDevice *dev, int bar);

/* Bus-master DMA; nothing happens unless the chip's command register allows it: reads give ones. */
void pci_dma_read(PciDevice *dev, u32 addr, void *buf, u32 bytes);
void pci_dma_write(PciDevice *dev, u32 addr, const void *buf, u32 bytes);

/* ---- the host bridge's side ---- */
/* route(opaque, slot, pin) says which PIRQ (0..3) a pin is wired to; irq(opaque, pirq, level) drives it. */
PciBus *pci_bus_create(Machine *m, int (*route)(void *opaque, int slot, int pin),
                       void (*irq)(void *opaque, int pirq, bool level), void *opaque);
void pci_bus_destroy(PciBus *bus);
u32 pci_config_read(PciBus *bus, u8 devfn, u8 reg, unsigned size);      /* ones where no device is */
void pci_config_write(PciBus *bus, u8 devfn, u8 reg, u32 value, unsigned size);
/* monitor: info pci */
void pci_info(PciBus *bus, void (*print)(void *opaque, const char *line), void *opaque);

#endif
