/*
 * PCI bus 0: configuration space, base address registers, interrupt pins, bus mastering.
 * Source: PCI Local Bus Specification 2.1, chapter 6 (configuration space) and 3.2.2.3 (configuration
 * cycles).
 *
 * A register's writable bits stand in a mask per device; everything else follows from the stored bytes. A
 * BAR is decoded while its enable bit is set and its range lies whole in the space above 0. The topmost
 * address is what sizing (all ones) leaves in a BAR: such a range is not decoded, so that sizing with
 * decoding on does not cover the firmware.
 *
 * Not modelled: other buses, VGA palette snooping, parity, target and master aborts in the status register,
 * 64-bit BARs.
 */
#include "pci.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/machine.h"

enum {
    REG_VENDOR = 0x00, REG_DEVICE = 0x02, REG_COMMAND = 0x04, REG_STATUS = 0x06, REG_REVISION = 0x08,
    REG_PROG_IF = 0x09, REG_SUBCLASS = 0x0a, REG_CLASS = 0x0b, REG_CACHE_LINE = 0x0c, REG_LATENCY = 0x0d,
    REG_HEADER = 0x0e, REG_BAR0 = 0x10, REG_SUBSYS_VENDOR = 0x2c, REG_SUBSYS = 0x2e, REG_ROM = 0x30,
    REG_INT_LINE = 0x3c, REG_INT_PIN = 0x3d,
};
enum { CMD_IO = 1, CMD_MEM = 2, CMD_MASTER = 4, CMD_PERR = 0x40, CMD_SERR = 0x100 };
enum { BAR_COUNT = 7, BAR_EXPANSION = 6, ROM_ENABLE = 1 };

struct PciBus {
    Machine *m;
    PciDevice *dev[256];
    int last;                       /* the highest devfn in use */
    int (*route)(void *opaque, int slot, int pin);
    void (*irq)(void *opaque, int pirq, bool level);
    void *opaque;
};

PciBus *pci_bus_create(Machine *m, int (*route)(void *opaque, int slot, int pin),
                       void (*irq)(void *opaque, int pirq, bool level), void *opaque)
{
    PciBus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        abort();
    bus->m = m;
    bus->route = route;
    bus->irq = irq;
    bus->opaque = opaque;
    return bus;
}

void pci_bus_destroy(PciBus *bus)
{
    free(bus);
}

/* ---- base address registers ---- */

static unsigned bar_reg(int bar)
{
    return bar == BAR_EXPANSION ? REG_ROM : REG_BAR0 + 4 * (unsigned)bar;
}

static u32 bar_flags(BarKind kind)
{
    return kind == BAR_IO ? 1 : kind == BAR_MEM_PREFETCH ? 8 : 0;
}

/* The address the guest has set, and whether the chip answers there. */
static bool bar_decoded(const PciDevice *dev, int i, u32 *addr)
{
    const PciBar *bar = &dev->bar[i];
    u32 value = load32(dev->s->config + bar_reg(i));
    u16 command = load16(dev->s->config + REG_COMMAND);

    *addr = value & ~(bar->size - 1);
    if (*addr == 0)
        return false;
    u64 end = (u64)*addr + bar->size;
    if (bar->kind == BAR_IO)
        return (command & CMD_IO) && end <= 0x10000;
    if (bar->kind == BAR_ROM && !(value & ROM_ENABLE))
        return false;
    return (command & CMD_MEM) && end < 0x100000000ull;
}

static void bar_hide(PciDevice *dev, int i)
{
    if (dev->bar[i].kind == BAR_IO)
        port_unmap(dev->dev.m, dev->map_handle[i]);
    else
        mem_unmap(dev->dev.m->mem, dev->map_handle[i]);
    dev->map_handle[i] = 0;
    dev->map_active[i] = false;
}

static void bar_show(PciDevice *dev, int i, u32 addr)
{
    const PciBar *bar = &dev->bar[i];
    Machine *m = dev->dev.m;

    if (bar->kind == BAR_IO && bar->ports)
        dev->map_handle[i] = port_map(m, dev->dev.id, addr, bar->size, bar->ports, bar->opaque);
    else if (bar->kind != BAR_IO && bar->region)
        dev->map_handle[i] = mem_map(m->mem, bar->region, addr, 0, bar->size, MAP_PRIO_PCI,
                                     bar->kind == BAR_ROM ? MEM_ROM : MEM_RW);
    dev->map_active[i] = true;
    dev->map_addr[i] = addr;
}

static void bars_update(PciDevice *dev)
{
    for (int i = 0; i < BAR_COUNT; i++) {
        u32 addr;
        if (dev->bar[i].kind == BAR_NONE)
            continue;
        bool on = bar_decoded(dev, i, &addr);
        if (on == dev->map_active[i] && (!on || addr == dev->map_addr[i]))
            continue;
        if (dev->map_active[i])
            bar_hide(dev, i);
        if (on)
            bar_show(dev, i, addr);
        if (dev->bar[i].moved)
            dev->bar[i].moved(dev, i, on, on ? addr : 0);
    }
}

u32 pci_bar_base(const PciDevice *dev, int bar)
{
    return dev->map_active[bar] ? dev->map_addr[bar] : 0;
}

/* ---- devices ---- */

static void init_header(PciDevice *dev, const PciId *id)
{
    u8 *c = dev->init, *w = dev->wmask;

    store16(c + REG_VENDOR, id->vendor);
    store16(c + REG_DEVICE, id->device);
    store16(c + REG_SUBSYS_VENDOR, id->subsys_vendor);
    store16(c + REG_SUBSYS, id->subsys);
    c[REG_REVISION] = id->revision;
    c[REG_PROG_IF] = id->prog_if;
    c[REG_SUBCLASS] = id->subclass;
    c[REG_CLASS] = id->base_class;
    c[REG_HEADER] = id->header_type;
    c[REG_INT_PIN] = id->int_pin;

    store16(w + REG_COMMAND, CMD_IO | CMD_MEM | CMD_MASTER | CMD_PERR | CMD_SERR);
    w[REG_CACHE_LINE] = 0xff;
    w[REG_LATENCY] = 0xff;
    w[REG_INT_LINE] = 0xff;
    for (int i = 0; i < BAR_COUNT; i++) {
        const PciBar *bar = &dev->bar[i];
        if (bar->kind == BAR_NONE)
            continue;
        store32(c + bar_reg(i), bar_flags(bar->kind));
        store32(w + bar_reg(i), ~(bar->size - 1) | (bar->kind == BAR_ROM ? ROM_ENABLE : 0));
    }
}

void pci_register(PciBus *bus, PciDevice *dev, PciState *s, int devfn, const PciId *id)
{
    if (devfn < 0) {
        devfn = 0;
        while (devfn < 0xf8 && bus->dev[devfn])
            devfn += 8;
    }
    dev->bus = bus;
    dev->s = s;
    dev->devfn = (u8)devfn;
    init_header(dev, id);
    memcpy(s->config, dev->init, sizeof(s->config));
    bus->dev[devfn] = dev;
    if (devfn > bus->last)
        bus->last = devfn;
}

static void pirq_update(PciBus *bus, int pirq)
{
    bool level = false;

    for (int devfn = 0; devfn <= bus->last && !level; devfn++) {
        const PciDevice *dev = bus->dev[devfn];
        for (int pin = 0; dev && pin < 4; pin++)
            level |= dev->s->irq_level[pin] && bus->route(bus->opaque, devfn >> 3, pin) == pirq;
    }
    bus->irq(bus->opaque, pirq, level);
}

void pci_set_irq(PciDevice *dev, int pin, bool level)
{
    if (dev->s->irq_level[pin] == level)
        return;
    dev->s->irq_level[pin] = level;
    pirq_update(dev->bus, dev->bus->route(dev->bus->opaque, dev->devfn >> 3, pin));
}

static void pins_update(PciDevice *dev)
{
    for (int pin = 0; pin < 4; pin++)
        pirq_update(dev->bus, dev->bus->route(dev->bus->opaque, dev->devfn >> 3, pin));
}

void pci_device_reset(PciDevice *dev)
{
    memcpy(dev->s->config, dev->init, sizeof(dev->s->config));
    memset(dev->s->irq_level, 0, sizeof(dev->s->irq_level));
    bars_update(dev);
    pins_update(dev);
}

bool pci_device_loaded(PciDevice *dev, Error *err)
{
    u8 *c = dev->s->config;

    if (memcmp(c, dev->init, 4) != 0 || memcmp(c + REG_REVISION, dev->init + REG_REVISION, 4) != 0)
        return error_set(err, "%s: the state is that of another PCI device (%04x:%04x)", dev->dev.id,
                         load16(c + REG_VENDOR), load16(c + REG_DEVICE));
    for (int i = 0; i < BAR_COUNT; i++) {
        unsigned reg = bar_reg(i);
        u32 mask = load32(dev->wmask + reg);
        store32(c + reg, (load32(c + reg) & mask) | (load32(dev->init + reg) & ~mask));
    }
    for (int pin = 0; pin < 4; pin++)
        dev->s->irq_level[pin] = dev->s->irq_level[pin] != 0;
    bars_update(dev);
    pins_update(dev);
    return true;
}

/* ---- configuration cycles ---- */

u32 pci_config_read(PciBus *bus, u8 devfn, u8 reg, unsigned size)
{
    const PciDevice *dev = bus->dev[devfn];
    u32 value = 0;

    for (unsigned i = 0; i < size; i++) {
        u8 byte = dev && reg + i < 256 ? dev->s->config[reg + i] : 0xff;
        value |= (u32)byte << 8 * i;
    }
    return value;
}

static bool touches(unsigned reg, unsigned size, unsigned first, unsigned count)
{
    return reg < first + count && first < reg + size;
}

void pci_config_write(PciBus *bus, u8 devfn, u8 reg, u32 value, unsigned size)
{
    PciDevice *dev = bus->dev[devfn];

    if (!dev)
        return;
    for (unsigned i = 0; i < size && reg + i < 256; i++) {
        u8 mask = dev->wmask[reg + i];
        u8 *byte = &dev->s->config[reg + i];
        *byte = (u8)((*byte & ~mask) | (value >> 8 * i & mask));
    }
    if (touches(reg, size, REG_COMMAND, 2) || touches(reg, size, REG_BAR0, 24) ||
        touches(reg, size, REG_ROM, 4))
        bars_update(dev);
    if (dev->config_written)
        dev->config_written(dev, reg, size);
}

/* ---- bus mastering ---- */

static bool may_master(const PciDevice *dev)
{
    return load16(dev->s->config + REG_COMMAND) & CMD_MASTER;
}

void pci_dma_read(PciDevice *dev, u32 addr, void *buf, u32 bytes)
{
    if (may_master(dev))
        mem_dma_read(dev->dev.m->mem, addr, buf, bytes);
    else
        memset(buf, 0xff, bytes);
}

void pci_dma_write(PciDevice *dev, u32 addr, const void *buf, u32 bytes)
{
    if (may_master(dev))
        mem_dma_write(dev->dev.m->mem, addr, buf, bytes);
}

/* ---- info pci ---- */

static const char *class_name(u16 class_code)
{
    switch (class_code) {
    case 0x0100: return "SCSI controller";
    case 0x0101: return "IDE controller";
    case 0x0106: return "SATA controller";
    case 0x0200: return "Ethernet controller";
    case 0x0300: return "VGA controller";
    case 0x0401: return "Audio controller";
    case 0x0600: return "Host bridge";
    case 0x0601: return "ISA bridge";
    case 0x0680: return "Bridge";
    case 0x0c03: return "USB controller";
    default:     return "Device";
    }
}

static void info_bar(const PciDevice *dev, int i, void (*print)(void *, const char *), void *opaque)
{
    static const char *const kinds[] = { "", "I/O ports", "32-bit memory", "32-bit prefetchable memory",
                                         "ROM" };
    const PciBar *bar = &dev->bar[i];
    u32 addr = load32(dev->s->config + bar_reg(i)) & ~(bar->size - 1);
    char line[120];

    snprintf(line, sizeof(line), "      BAR%d: %s at 0x%0*x [0x%x]%s", i, kinds[bar->kind],
             bar->kind == BAR_IO ? 4 : 8,
             addr, addr + (bar->size - 1), dev->map_active[i] ? "" : " (not decoded)");
    print(opaque, line);
}

void pci_info(PciBus *bus, void (*print)(void *opaque, const char *line), void *opaque)
{
    char line[120];

    for (int devfn = 0; devfn <= bus->last; devfn++) {
        const PciDevice *dev = bus->dev[devfn];
        if (!dev)
            continue;
        const u8 *c = dev->s->config;
        snprintf(line, sizeof(line), "  Bus  0, device %3d, function %d:", devfn >> 3, devfn & 7);
        print(opaque, line);
        snprintf(line, sizeof(line), "    %s: PCI device %04x:%04x (%s)",
                 class_name(load16(c + REG_SUBCLASS)),
                 load16(c + REG_VENDOR), load16(c + REG_DEVICE), dev->dev.id);
        print(opaque, line);
        if (c[REG_INT_PIN]) {
            snprintf(line, sizeof(line), "      IRQ %d, pin %c", c[REG_INT_LINE], 'A' + c[REG_INT_PIN] - 1);
            print(opaque, line);
        }
        for (int i = 0; i < BAR_COUNT; i++)
            if (dev->bar[i].kind != BAR_NONE)
                info_bar(dev, i, print, opaque);
    }
}
