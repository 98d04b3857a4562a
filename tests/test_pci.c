/*
 * PCI bus, host bridge, interrupt router, power management: configuration cycles, BARs, shadow RAM, SMRAM,
 * reset registers, PIRQ routing, PM timer, power-off and power button, and a storm of random accesses.
 */
#include "test.h"

#include "../core/vm/cpu.h"
#include "../core/vm/device.h"
#include "../core/vm/machine.h"
#include "../devices/i440fx.h"
#include "../devices/pci.h"
#include "../devices/piix3.h"
#include "../devices/piix4_pm.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

static Machine *m;
static Piix3 *piix3;
static bool isa_level[16], sci_level;
static int smi_pulses, hard_resets, init_pulses;

static void isa_set(void *opaque, int n, bool level) { (void)opaque; isa_level[n] = level; }
static void sci_set(void *opaque, int n, bool level) { (void)opaque; (void)n; sci_level = level; }
static void count(void *opaque, int n, bool level) { (void)n; *(int *)opaque += level; }
static int route(void *opaque, int slot, int pin) { (void)opaque; return (slot + pin + 3) & 3; }
static void pirq(void *opaque, int n, bool level) { (void)opaque; piix3_set_pirq(piix3, n, level); }

/* ---- a card: an I/O BAR, a memory BAR and a ROM ---- */

typedef struct { PciState pci; u32 last; u8 pad[4]; } CardState;
typedef struct { PciDevice pci; CardState s; int moves; bool mapped; u32 addr; } Card;
static const SaveField card_fields[] = { PCI_SAVE(CardState, pci), SAVE(CardState, last), SAVE(CardState,
                                                                                               pad),
                                                                                               SAVE_END };

static void card_reset(Device *dev) { pci_device_reset(CONTAINER_OF(dev, PciDevice, dev)); }
static bool card_loaded(Device *dev, Error *err) { return pci_device_loaded(CONTAINER_OF(dev, PciDevice,
                                                                                         dev), err); }
static const DeviceClass card_class = {
    .name = "card", .size = sizeof(Card), .state = offsetof(Card, s), .state_size = sizeof(CardState),
    .fields = card_fields, .reset = card_reset, .loaded = card_loaded,
};

static u32 card_read(void *opaque, u32 port, unsigned size)
{
    Card *c = opaque;
    return size == 1 ? 0xa0 + (port - pci_bar_base(&c->pci, 0)) : 0xc0ffee;
}
static void card_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)port;
    (void)size;
    ((Card *)opaque)->s.last = value;
}
static const PortOps card_ports = { .read = card_read, .write = card_write, .sizes = 1 | 4 };

static void card_moved(PciDevice *dev, int bar, bool mapped, u32 addr)
{
    Card *c = CONTAINER_OF(dev, Card, pci);
    (void)bar;
    c->moves++;
    c->mapped = mapped;
    c->addr = addr;
}

static Card *card_create(int devfn)
{
    static const PciId id = { .vendor = 0x1234, .device = 0x5678, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                              .revision = 7, .prog_if = 2, .subclass = 0x80, .base_class = 0xff,
                              .int_pin = 1 };
    Card *c = device_create(m, &card_class);

    c->pci.bar[0] = (PciBar){ .kind = BAR_IO, .size = 32, .ports = &card_ports, .opaque = c };
    c->pci.bar[1] = (PciBar){ .kind = BAR_MEM_PREFETCH, .size = 0x10000, .moved = card_moved,
                              .region = mem_ram(m->mem, "card", 0x10000) };
    c->pci.bar[6] = (PciBar){ .kind = BAR_ROM, .size = 0x1000, .region = mem_ram(m->mem, "card rom",
                                                                                 0x1000) };
    memset(mem_ram_ptr(c->pci.bar[6].region), 0x5a, 0x1000);
    pci_register(m->pci, &c->pci, &c->s.pci, devfn, &id);
    device_reset(&c->pci.dev);
    return c;
}

static u32 cfg_read(int devfn, int reg, unsigned size)
{
    port_write(m, 0xcf8, 0x80000000u | (u32)devfn << 8 | (u32)(reg & 0xfc), 4);
    return port_read(m, 0xcfc + (reg & 3), size);
}
static void cfg_write(int devfn, int reg, u32 value, unsigned size)
{
    port_write(m, 0xcf8, 0x80000000u | (u32)devfn << 8 | (u32)(reg & 0xfc), 4);
    port_write(m, 0xcfc + (reg & 3), value, size);
}

static MemRegion *ram;
static Piix4Pm *pm;

static void make_machine(void)
{
    Config cfg;
    Error err;
    Irq isa[16];

    config_default(&cfg);
    cfg.ram_bytes = 4 << 20;
    m = machine_create(&cfg, 64 << 20, &err);
    machine_lock(m);
    m->cpu = cpu_create(m, NULL, &err);
    ram = mem_ram(m->mem, "ram", 4 << 20);
    mem_map(m->mem, ram, 0, 0, 0xa0000, MAP_PRIO_RAM, MEM_RW);
    mem_map(m->mem, ram, 0x100000, 0x100000, 3 << 20, MAP_PRIO_RAM, MEM_RW);
    MemRegion *rom = mem_ram(m->mem, "rom", 0x40000);
    memset(mem_ram_ptr(rom), 0xee, 0x40000);
    mem_map(m->mem, rom, 0xe0000, 0x20000, 0x20000, MAP_PRIO_CHIP, MEM_ROM);
    mem_map(m->mem, rom, 0xfffc0000, 0, 0x40000, MAP_PRIO_CHIP, MEM_ROM);
    I440fxWiring wiring = { .ram = ram, .cpu = m->cpu, .hard_reset = { count, &hard_resets, 0 },
                            .init = { count, &init_pulses, 0 }, .route = route, .pirq = pirq };
    m->pci = i440fx_create(m, &wiring);
    for (int i = 0; i < 16; i++)
        isa[i] = (Irq){ isa_set, NULL, i };
    piix3 = piix3_create(m, m->pci, 0x08, isa);
    pm = piix4_pm_create(m, m->pci, 0x0b, (Irq){ sci_set, NULL, 0 }, (Irq){ count, &smi_pulses, 0 });
    devices_reset(m);
}

/* ---- tests ---- */

static void test_config_cycles(void)
{
    CHECK(cfg_read(0x00, 0, 4) == 0x12378086);
    CHECK(cfg_read(0x08, 0, 4) == 0x70008086 && cfg_read(0x0b, 2, 2) == 0x7113);
    CHECK_MSG(cfg_read(0x08, 0x0e, 1) == 0x80, "the south bridge says that it has more functions");
    CHECK_MSG(cfg_read(0x00, 0x2c, 4) == 0x11001af4, "firmware recognises the machine by the subsystem id");
    CHECK_MSG(cfg_read(0x50, 0, 4) == 0xffffffff, "an empty slot reads as ones");
    CHECK(cfg_read(0x00, 1, 1) == 0x80 && cfg_read(0x00, 2, 1) == 0x37 && cfg_read(0x00, 3, 1) == 0x12);
    port_write(m, 0xcf8, 0x80010000, 4);
    CHECK_MSG(port_read(m, 0xcfc, 4) == 0xffffffff, "there is no bus 1");
    port_write(m, 0xcf8, 0x00000000, 4);
    CHECK_MSG(port_read(m, 0xcfc, 4) == 0xffffffff, "nothing without the enable bit");
    port_write(m, 0xcf8, 0xffffffff, 4);
    CHECK_MSG(port_read(m, 0xcf8, 4) == 0x80fffffc, "reserved bits of CONFADD are 0");
    port_write(m, 0xcf8, 0x80000000, 4);
    port_write(m, 0xcf8, 0x12, 1);
    CHECK_MSG(port_read(m, 0xcf8, 4) == 0x80000000, "CONFADD takes double words only");
    cfg_write(0x00, 0, 0, 4);
    CHECK_MSG(cfg_read(0x00, 0, 4) == 0x12378086, "ids are read-only");
    cfg_write(0x00, 0xff, 0x12345678, 4);
}

static void test_bars(Card *c)
{
    int df = c->pci.devfn;

    CHECK(cfg_read(df, 0x10, 4) == 1 && cfg_read(df, 0x14, 4) == 8 && cfg_read(df, 0x18, 4) == 0);
    cfg_write(df, 0x04, 3, 2);
    cfg_write(df, 0x10, 0xffffffff, 4);
    cfg_write(df, 0x14, 0xffffffff, 4);
    cfg_write(df, 0x30, 0xffffffff, 4);
    CHECK_MSG(cfg_read(df, 0x10, 4) == 0xffffffe1, "sizing an I/O BAR");
    CHECK_MSG(cfg_read(df, 0x14, 4) == 0xffff0008, "sizing a memory BAR");
    CHECK_MSG(cfg_read(df, 0x30, 4) == 0xfffff001, "sizing a ROM BAR");
    CHECK_MSG(mem_bus_read(m->mem, 0xfffffff0, 4) == 0xeeeeeeee && !c->pci.map_active[1],
              "sizing with decoding on leaves the firmware in place");

    cfg_write(df, 0x10, 0xc000, 4);
    cfg_write(df, 0x14, 0xe0000000, 4);
    cfg_write(df, 0x30, 0xe0100000, 4);
    CHECK(port_read(m, 0xc005, 1) == 0xa5 && port_read(m, 0xc020, 1) == 0xff);
    port_write(m, 0xc000, 0x11223344, 4);
    CHECK(c->s.last == 0x11223344);
    mem_bus_write(m->mem, 0xe000fffc, 0xdeadbeef, 4);
    CHECK(mem_bus_read(m->mem, 0xe000fffc, 4) == 0xdeadbeef && c->mapped && c->addr == 0xe0000000);
    CHECK_MSG(mem_bus_read(m->mem, 0xe0100000, 4) == 0xffffffff,
              "a ROM with its enable bit off is not there");
    cfg_write(df, 0x30, 0xe0100001, 4);
    mem_bus_write(m->mem, 0xe0100000, 0, 4);
    CHECK_MSG(mem_bus_read(m->mem, 0xe0100000, 4) == 0x5a5a5a5a, "ROM swallows writes");
    cfg_write(df, 0x04, 2, 2);
    CHECK_MSG(port_read(m, 0xc005, 1) == 0xff, "I/O decoding off");
    cfg_write(df, 0x04, 1, 2);
    CHECK_MSG(mem_bus_read(m->mem, 0xe000fffc, 4) == 0xffffffff && !c->mapped, "memory decoding off");
    cfg_write(df, 0x04, 3, 2);
    cfg_write(df, 0x14, 0x00200000, 4);
    mem_bus_write(m->mem, 0x200000, 0x01020304, 4);
    CHECK_MSG(load32(mem_ram_ptr(ram) + 0x200000) == 0x01020304, "RAM wins over a BAR placed on it");
    cfg_write(df, 0x10, 0xffe0, 4);
    CHECK_MSG(port_read(m, 0xffe1, 1) == 0xa1, "the topmost ports can be decoded");
    cfg_write(df, 0x10, 0x1fff0000, 4);
    CHECK_MSG(!c->pci.map_active[0], "an I/O BAR beyond 64 Ki is not decoded");
    int moves = c->moves;
    cfg_write(df, 0x3c, 0x0b, 1);
    CHECK_MSG(c->moves == moves && cfg_read(df, 0x3c, 2) == 0x010b,
              "the interrupt line register is plain storage");
}

static void test_bus_master(Card *c)
{
    u32 v = 0;

    store32(mem_ram_ptr(ram) + 0x3000, 0x55667788);
    cfg_write(c->pci.devfn, 0x04, 3, 2);
    pci_dma_read(&c->pci, 0x3000, &v, 4);
    CHECK_MSG(v == 0xffffffff, "no bus mastering without the command bit");
    v = 0;
    pci_dma_write(&c->pci, 0x3000, &v, 4);
    CHECK(load32(mem_ram_ptr(ram) + 0x3000) == 0x55667788);
    cfg_write(c->pci.devfn, 0x04, 7, 2);
    pci_dma_read(&c->pci, 0x3000, &v, 4);
    CHECK(v == 0x55667788);
}

static void test_interrupts(Card *c)
{
    pci_set_irq(&c->pci, 0, true);
    CHECK_MSG(!isa_level[10] && !isa_level[11], "a PIRQ goes nowhere after reset");
    cfg_write(0x08, 0x60, 0x0b0b0a0a, 4);
    /* slot 3, INTA#: PIRQC */
    CHECK(isa_level[11] && !isa_level[10]);
    cfg_write(0x08, 0x62, 0x05, 1);
    CHECK_MSG(isa_level[5] && !isa_level[11], "rerouting moves the level");
    cfg_write(0x08, 0x62, 0x8b, 1);
    CHECK_MSG(!isa_level[5] && !isa_level[11], "disabled");
    cfg_write(0x08, 0x62, 0x00, 1);
    CHECK_MSG(!isa_level[0], "the timer's interrupt can't be taken");
    cfg_write(0x08, 0x62, 0x0b, 1);
    Card *other = card_create(0x38);    /* slot 7: the same PIRQ */
    pci_set_irq(&other->pci, 0, true);
    pci_set_irq(&c->pci, 0, false);
    CHECK_MSG(isa_level[11], "a shared line stays up while one card pulls it");
    device_reset(&other->pci.dev);
    CHECK_MSG(!isa_level[11], "reset lets go of the line");
}

static void test_shadow_ram(void)
{
    u8 *p = mem_ram_ptr(ram);

    store32(p + 0xf0000, 0x11111111);
    CHECK(mem_bus_read(m->mem, 0xf0000, 4) == 0xeeeeeeee && mem_bus_read(m->mem, 0xc0000, 4) == 0xffffffff);
    cfg_write(0x00, 0x59, 0x20, 1);
    mem_bus_write(m->mem, 0xf0000, 0x22222222, 4);
    CHECK_MSG(load32(p + 0xf0000) == 0x22222222 && mem_bus_read(m->mem, 0xf0000, 4) == 0xeeeeeeee,
              "write enable alone: writes to RAM, reads from ROM");
    cfg_write(0x00, 0x59, 0x10, 1);
    mem_bus_write(m->mem, 0xf0000, 0x33333333, 4);
    CHECK_MSG(mem_bus_read(m->mem, 0xf0000, 4) == 0x22222222,
              "read enable alone: RAM that is write-protected");
    cfg_write(0x00, 0x59, 0x30, 1);
    mem_bus_write(m->mem, 0xffffc, 0x44444444, 4);
    CHECK(mem_bus_read(m->mem, 0xffffc, 4) == 0x44444444);
    cfg_write(0x00, 0x5a, 0x03, 1);
    mem_bus_write(m->mem, 0xc0000, 0x55, 1);
    mem_bus_write(m->mem, 0xc4000, 0x66, 1);
    CHECK_MSG(mem_bus_read(m->mem, 0xc0000, 1) == 0x55 && mem_bus_read(m->mem, 0xc4000, 1) == 0xff,
              "PAM1's low nibble is C0000-C3FFF");
    cfg_write(0x00, 0x5f, 0x30, 1);
    mem_bus_write(m->mem, 0xec000, 0x77, 1);
    CHECK_MSG(p[0xec000] == 0x77 && p[0xe8000] != 0x77, "PAM6's high nibble is EC000-EFFFF");
    devices_reset(m);
    CHECK_MSG(mem_bus_read(m->mem, 0xf0000, 4) == 0xeeeeeeee, "a reset shows the ROM again");
}

static void test_smram(void)
{
    CHECK(cfg_read(0, 0x72, 1) == 0x02 && mem_bus_read(m->mem, 0xa8000, 1) == 0xff);
    cfg_write(0, 0x72, 0x4a, 1);
    mem_bus_write(m->mem, 0xa8000, 0x12, 1);
    CHECK_MSG(mem_ram_ptr(ram)[0xa8000] == 0x12, "DOPEN shows SMRAM");
    cfg_write(0, 0x72, 0x0a, 1);
    CHECK_MSG(mem_bus_read(m->mem, 0xa8000, 1) == 0xff, "closed again");
    cfg_write(0, 0x72, 0x5a, 1);
    CHECK_MSG(cfg_read(0, 0x72, 1) == 0x1a && mem_bus_read(m->mem, 0xa8000, 1) == 0xff, "DLCK closes SMRAM");
    cfg_write(0, 0x72, 0x42, 1);
    CHECK_MSG(cfg_read(0, 0x72, 1) == 0x1a, "and nothing opens it but a reset");
    devices_reset(m);
    CHECK(cfg_read(0, 0x72, 1) == 0x02);
}

static void test_resets(void)
{
    hard_resets = init_pulses = 0;
    port_write(m, 0xcf9, 0x02, 1);
    CHECK(!hard_resets && !init_pulses && port_read(m, 0xcf9, 1) == 0x02);
    port_write(m, 0xcf9, 0x06, 1);
    CHECK_MSG(hard_resets == 1 && !init_pulses, "CF9h 02, 06: hard reset");
    port_write(m, 0xcf9, 0x06, 1);
    CHECK_MSG(hard_resets == 1, "only the rising edge counts");
    port_write(m, 0xcf9, 0x00, 1);
    port_write(m, 0xcf9, 0x04, 1);
    CHECK_MSG(init_pulses == 1 && hard_resets == 1, "CF9h 00, 04: the CPU alone");
    cfg_write(0, 0x93, 0x06, 1);
    CHECK_MSG(hard_resets == 2, "the turbo reset control register, too");
    devices_reset(m);
}

static void test_power_management(void)
{
    u64 next;

    cfg_write(0x0b, 0x40, 0x601, 4);
    CHECK(cfg_read(0x0b, 0x40, 4) == 0x601 && port_read(m, 0x608, 4) == 0xffffffff);
    cfg_write(0x0b, 0x80, 1, 1);
    machine_cont(m);
    u32 a = port_read(m, 0x608, 4);
    u64 t0 = clock_ns(m, CLOCK_VIRTUAL);
    while (clock_ns(m, CLOCK_VIRTUAL) < t0 + 10000000) {
    }
    u32 ticks = (port_read(m, 0x608, 4) - a) & 0xffffff;
    u64 ns = clock_ns(m, CLOCK_VIRTUAL) - t0;
    CHECK_MSG(ticks > 35000 && ticks < ns * 4 / 1000,
              "the PM timer counts 3.58 ticks a microsecond (%u in %llu ns)",
              ticks, (unsigned long long)ns);
    CHECK(port_read(m, 0x608, 4) < 0x1000000);

    CHECK_MSG(!(port_read(m, 0x604, 2) & 1), "ACPI mode is off after reset");
    port_write(m, 0xb2, 0xf1, 1);
    CHECK(port_read(m, 0x604, 2) & 1);
    port_write(m, 0xb2, 0xf0, 1);
    CHECK_MSG(!(port_read(m, 0x604, 2) & 1) && !smi_pulses, "no SMI while APMC_EN is off");
    cfg_write(0x0b, 0x58, 1u << 25, 4);
    port_write(m, 0xb3, 0x77, 1);
    port_write(m, 0xb2, 0x01, 1);
    CHECK(smi_pulses == 1 && port_read(m, 0xb2, 1) == 0x01 && port_read(m, 0xb3, 1) == 0x77);

    port_write(m, 0xb2, 0xf1, 1);
    port_write(m, 0x602, 0x0100, 2);
    piix4_pm_power_button(pm);
    CHECK_MSG(sci_level && port_read(m, 0x600, 2) & 0x100, "the power button raises the SCI in ACPI mode");
    port_write(m, 0x600, 0x0001, 2);
    CHECK_MSG(sci_level, "clearing another status bit leaves it");
    port_write(m, 0x601, 0x01, 1);
    CHECK_MSG(!sci_level && !(port_read(m, 0x600, 2) & 0x100),
              "writing 1 to PWRBTN_STS ends it, by byte too");
    CHECK_MSG(port_read(m, 0xafe0, 2) == 0, "there are no general-purpose events");

    port_write(m, 0x604, 0x2401, 2);
    CHECK_MSG(machine_service(m, &next), "an unsupported suspend type does nothing");
    CHECK_MSG(!(port_read(m, 0x604, 2) & 0x2000), "SUS_EN reads as 0");
    cfg_write(0x0b, 0x90, 0x701, 4);
    cfg_write(0x0b, 0xd2, 0x09, 1);
    port_write(m, 0x702, 0x48, 1);
    CHECK_MSG((port_read(m, 0x700, 1) & 0x05) == 0x04,
              "an SMBus transfer ends with an error: nobody is there");
    port_write(m, 0x700, 0xff, 1);
    CHECK(port_read(m, 0x700, 1) == 0);
}

static void test_state(Card *c)
{
    Error err;
    SaveBuf a = { 0 }, b = { 0 };

    CHECK(device_class_tiles(&i440fx_class, &err));
    CHECK(device_class_tiles(&piix3_class, &err));
    CHECK(device_class_tiles(&piix4_pm_class, &err));
    cfg_write(c->pci.devfn, 0x04, 3, 2);
    cfg_write(c->pci.devfn, 0x14, 0xe0000000, 4);
    cfg_write(0x00, 0x59, 0x30, 1);
    pci_set_irq(&c->pci, 0, true);
    cfg_write(0x08, 0x62, 0x0a, 1);
    for (Device *d = m->devices; d; d = d->next) {
        if (d->cls != &card_class && d->cls != &i440fx_class && d->cls != &piix3_class &&
            d->cls != &piix4_pm_class)
            continue;
        a.len = b.len = 0;
        device_save(d, &a);
        device_reset(d);
        CHECK_MSG(device_load(d, a.data, a.len, &err), "%s loads what it saved", d->id);
        device_save(d, &b);
        CHECK_MSG(a.len == b.len && !memcmp(a.data, b.data, a.len), "%s: save, load, save is the same",
                  d->id);
    }
    CHECK_MSG(c->pci.map_active[1] && c->pci.map_addr[1] == 0xe0000000, "a loaded BAR is decoded");
    CHECK_MSG(mem_page(m->mem, 0xf0000).direct_write, "loaded shadow RAM is there");
    CHECK_MSG(isa_level[10], "a loaded interrupt line is up");
    free(a.data);
    free(b.data);
}

/* R2 in short: any sequence of accesses is survived, and the machine works after a reset. */
static void test_storm(void)
{
    static const u16 ports[] = { 0xcf8, 0xcfc, 0xcfd, 0xcfe, 0xb2, 0xb3, 0x600, 0x602, 0x604, 0x608, 0x60a,
                                 0x63c, 0x63e,
                                 0x700, 0x702, 0xafe0, 0xafe3, 0xc000, 0xcf9 };
    u32 seed = 12345;

    for (int i = 0; i < 300000; i++) {
        seed = seed * 1664525 + 1013904223;
        u32 r = seed >> 8;
        if (i % 3 == 0)
            port_write(m, 0xcf8, 0x80000000u | (r & 0x3bfc), 4);
        u16 port = ports[r % ARRAY_LEN(ports)];
        unsigned size = 1u << (r >> 8) % 3;
        seed = seed * 1664525 + 1013904223;
        u32 value = seed ^ seed >> 13;
        if (port == 0x604 && size > 1)
            value &= 0xffffdfff;
        if (r & 0x800)
            port_write(m, port, value, size);
        else
            port_read(m, port, size);
        if (i % 5000 == 0)
            devices_reset(m);
        mem_bus_read(m->mem, value, 4);
    }
    devices_reset(m);
    CHECK_MSG(cfg_read(0, 0, 4) == 0x12378086 && mem_bus_read(m->mem, 0xf0000, 4) == 0xeeeeeeee,
              "the chip set works after a storm of random accesses");
}

static void test_power_off(void)
{
    u64 next;

    cfg_write(0x0b, 0x40, 0x601, 4);
    cfg_write(0x0b, 0x80, 1, 1);
    CHECK(machine_service(m, &next));
    port_write(m, 0x604, 0x2000, 2);
    CHECK_MSG(!machine_service(m, &next), "SUS_EN with type 0 turns the machine off");
}

int main(void)
{
    host_posix_init();
    make_machine();
    Card *c = card_create(0x18);

    test_config_cycles();
    test_bars(c);
    test_bus_master(c);
    test_interrupts(c);
    test_shadow_ram();
    test_smram();
    test_resets();
    test_power_management();
    test_state(c);
    test_storm();
    test_power_off();
    cpu_destroy(m->cpu);
    m->cpu = NULL;
    machine_unlock(m);
    machine_destroy(m);
    return test_end();
}
