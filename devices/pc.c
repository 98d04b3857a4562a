/*
 * The board: an i440FX/PIIX3 PC with the power management of the PIIX4 (-M pc), or the same chips on an ISA
 * bus (-M isapc).
 *
 *   00000000  RAM                  000a0000  video memory, or SMRAM while the CPU is in SMM
 *   000c0000  option ROMs, in the last 128 KiB the firmware; RAM over them as the host bridge says (PAM)
 *   00100000  RAM                  e0000000  PCI memory (the firmware places it)
 *   fec00000  I/O APIC             fee00000  local APIC
 *   ffee0000  the firmware's last 128 KiB once more: what a reset fetches while the A20 gate is closed
 *   ....      the firmware, up to ffffffff
 *   1 00000000  RAM above 3.5 GiB
 *
 * isapc has no host bridge: c0000-fffff is RAM, the firmware is copied there at each reset.
 *
 * Sources: IBM PC/AT and PS/2 technical references; data sheets of the chips. The firmware and what it is
 * told stand in pc_firmware.c.
 */
#include "pc_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "../core/vm/blk.h"
#include "../core/vm/chardev.h"
#include "../core/vm/cpu.h"
#include "../core/vm/monitor.h"
#include "../core/vm/nic.h"
#include "dma.h"
#include "fdc.h"
#include "fw_cfg.h"
#include "i440fx.h"
#include "i8042.h"
#include "ide.h"
#include "ioapic.h"
#include "lapic.h"
#include "parallel.h"
#include "pic.h"
#include "piix3.h"
#include "piix4_pm.h"
#include "pit.h"
#include "port92.h"
#include "rtc.h"
#include "uart.h"
#include "vga.h"

#define LOW_RAM_MAX 0xe0000000ull

/* ---- wires ---- */

static void isa_set(void *opaque, int n, bool level)
{
    Pc *pc = opaque;
    bool up = false;

    if (pc->source[n].level == level)
        return;
    pc->source[n].level = level;
    for (int i = 0; i < pc->sources; i++)
        up |= pc->source[i].irq == pc->source[n].irq && pc->source[i].level;
    irq_set(pc->isa[pc->source[n].irq], up);
}

Irq pc_isa_irq(Pc *pc, int n)
{
    if (pc->sources == ISA_SOURCES)
        abort();
    pc->source[pc->sources].irq = (u8)n;
    return (Irq){ isa_set, pc, pc->sources++ };
}

static void reset_machine(void *opaque, int n, bool level)
{
    Pc *pc = opaque;
    (void)n;

    if (level)
        machine_request(pc->dev.m, REQ_RESET);
}

/*
 * The CPU's reset line, pulsed by the keyboard controller, port 92h and CF9h. Programs for the 286 come
 * back to real mode this way and leave a word for the firmware in CMOS 0Fh: that needs the CPU alone to be
 * reset. Without one, it is somebody who wants the machine restarted; the firmware would find that out and
 * do it, in a detour, so it is done at once.
 */
static void reset_cpu(void *opaque, int n, bool level)
{
    Pc *pc = opaque;
    u8 shutdown_code = rtc_get_cmos(pc->rtc, 0x0f);
    (void)n;

    if (!level)
        return;
    if (shutdown_code == 0x05 || shutdown_code == 0x09 || shutdown_code == 0x0a || shutdown_code == 0x0c)
        irq_pulse(cpu_init_line(pc->cpu));
    else
        machine_request(pc->dev.m, REQ_RESET);
}

static void a20_set(void *opaque, bool on)
{
    cpu_set_a20(((Pc *)opaque)->cpu, on);
}

static bool a20_get(void *opaque)
{
    return cpu_get_a20(((Pc *)opaque)->cpu);
}

/* The four interrupt pins of a slot are wired to the router turned by one from slot to slot; slot 1 is the
 * bridge's. */
static int pirq_of(void *opaque, int slot, int pin)
{
    (void)opaque;
    return (slot + pin + 3) & 3;
}

static void pirq_set(void *opaque, int pirq, bool level)
{
    Pc *pc = opaque;

    if (pc->piix3)
        piix3_set_pirq(pc->piix3, pirq, level);
}

static void ferr_ack_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)port;
    (void)value;
    (void)size;
    irq_set(((Pc *)opaque)->ignne, true);
}

/* ---- memory ---- */

static void create_ram(Pc *pc)
{
    Machine *m = pc->dev.m;
    u64 ram = m->cfg.ram_bytes;

    pc->ram = mem_ram(m->mem, "ram", ram);
    pc->low_ram = ram < LOW_RAM_MAX ? ram : LOW_RAM_MAX;
    mem_map(m->mem, pc->ram, 0, 0, 640 * KIB, MAP_PRIO_RAM, MEM_RW);
    if (m->cfg.isapc)
        mem_map(m->mem, pc->ram, 0xc0000, 0xc0000, 256 * KIB, MAP_PRIO_RAM, MEM_RW);
    if (pc->low_ram > MIB)
        mem_map(m->mem, pc->ram, MIB, MIB, pc->low_ram - MIB, MAP_PRIO_RAM, MEM_RW);
    if (ram > pc->low_ram)
        mem_map(m->mem, pc->ram, FOUR_GIB, pc->low_ram, ram - pc->low_ram, MAP_PRIO_RAM, MEM_RW);
}

/* ---- drives and ports ---- */

static const DriveConfig *drive_config(const Config *cfg, DriveIf iface, int index)
{
    for (int i = 0; i < CFG_DRIVES; i++)
        if (cfg->drive[i].used && cfg->drive[i].iface == iface && cfg->drive[i].index == index)
            return &cfg->drive[i];
    return NULL;
}

/* Drive A and the CD-ROM of the second channel are there without a medium too, so that one can be put in
 * later. */
static bool open_drives(Pc *pc, Error *err)
{
    static const DriveConfig empty_floppy = { .iface = IF_FLOPPY, .index = 0, .used = true };
    static const DriveConfig empty_cdrom = { .iface = IF_IDE, .index = 2, .used = true, .cdrom = true };
    Machine *m = pc->dev.m;
    char name[32];

    for (int i = 0; i < 2; i++) {
        const DriveConfig *d = drive_config(&m->cfg, IF_FLOPPY, i);
        if (!d && i == 0)
            d = &empty_floppy;
        snprintf(name, sizeof(name), "floppy%d", i);
        if (d && !(pc->floppy[i] = blk_create(m, d, name, err)))
            return false;
    }
    for (int i = 0; i < 4; i++) {
        const DriveConfig *d = drive_config(&m->cfg, IF_IDE, i);
        if (!d && i == 2)
            d = &empty_cdrom;
        snprintf(name, sizeof(name), "ide%d-%s%d", i / 2, d && d->cdrom ? "cd" : "hd", i % 2);
        if (d && !(pc->ide[i] = blk_create(m, d, name, err)))
            return false;
    }
    for (int i = 0; i < CFG_DRIVES; i++) {      /* -drive if=none that no -device took: no guest sees it */
        const DriveConfig *d = &m->cfg.drive[i];
        if (!d->used || d->iface != IF_NONE)
            continue;
        snprintf(name, sizeof(name), "none%d", pc->loose_count);
        if (!(pc->loose[pc->loose_count] = blk_create(m, d, d->id ? d->id : name, err)))
            return false;
        pc->loose_count++;
    }
    return true;
}

/* *chr NULL and true: nothing shall be there. */
static bool open_chardev(Pc *pc, const char *kind, int n, const char *spec, Chardev **chr, Error *err)
{
    char label[32];

    *chr = NULL;
    if (!spec)
        return true;
    snprintf(label, sizeof(label), "%s%d", kind, n);
    err->text[0] = 0;
    *chr = chardev_open(pc->dev.m, label, spec, err);
    if (*chr)
        pc->chardev[pc->chardevs++] = *chr;
    return *chr || !err->text[0] || error_prefix(err, "-%s", kind);
}

static bool create_ports(Pc *pc, Error *err)
{
    static const u16 serial_port[CFG_SERIALS] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
    static const u8 serial_irq[CFG_SERIALS] = { 4, 3, 4, 3 };
    static const u16 parallel_port[CFG_PARALLELS] = { 0x378, 0x278, 0x3bc };
    static const u8 parallel_irq[CFG_PARALLELS] = { 7, 5, 7 };
    Machine *m = pc->dev.m;
    Chardev *chr;

    for (int i = 0; i < CFG_SERIALS; i++) {
        if (!open_chardev(pc, "serial", i, m->cfg.serial[i], &chr, err))
            return false;
        if (chr)
            uart_create(m, serial_port[i], pc_isa_irq(pc, serial_irq[i]), chr);
    }
    for (int i = 0; i < CFG_PARALLELS; i++) {
        if (!open_chardev(pc, "parallel", i, m->cfg.parallel[i], &chr, err))
            return false;
        if (chr)
            parallel_create(m, parallel_port[i], pc_isa_irq(pc, parallel_irq[i]), chr);
    }
    return true;
}

/* ---- the board ---- */

static void create_interrupts(Pc *pc, bool apic)
{
    Machine *m = pc->dev.m;

    if (apic) {
        pc->pic = pic_create(m, (Irq){ 0 });
        pc->ioapic = ioapic_create(m, lapic_create(m, pc->cpu, pc->pic));
    } else {
        pc->pic = pic_create(m, cpu_intr_line(pc->cpu));
        cpu_connect_intack(pc->cpu, pic_ack, pc->pic);
    }
    for (int n = 0; n < 16; n++)
        pc->isa[n] = pc->ioapic ? ioapic_isa_line(pc->ioapic, pc->pic, n) : pic_line(pc->pic, n);
}

/* The chips of an AT, at their places. */
static void create_at_chips(Pc *pc)
{
    static const PortOps ferr_ack = { .write = ferr_ack_write, .sizes = 1 };
    Machine *m = pc->dev.m;

    Pit *pit = pit_create(m, pc_isa_irq(pc, 0));
    pit_connect_return(pit, pic_return(pc->pic, 0));
    if (pc->ioapic)
        pit_connect_return(pit, ioapic_return(pc->ioapic, 2));
    pc->rtc = rtc_create(m, pc_isa_irq(pc, 8));
    pc->dma = dma_create(m);
    i8042_create(m, pc_isa_irq(pc, 1), pc_isa_irq(pc, 12), pc->soft_reset, a20_set, pc);
    port92_create(m, (A20Gate){ a20_set, a20_get, pc }, pc->soft_reset);
    pc->fdc = fdc_create(m, 0x3f0, pc_isa_irq(pc, 6), pc->dma, pc->floppy[0], pc->floppy[1]);
    pc->ignne = cpu_ferr_line_to(pc->cpu, pc_isa_irq(pc, 13));
    port_map(m, "ferr ack", 0xf0, 1, &ferr_ack, pc);
    pc->fw = fw_cfg_create(m);
}

static void show_pci(void *opaque, PrintFn *print, void *print_opaque)
{
    pci_info(opaque, print, print_opaque);
}

static void create_pci(Pc *pc)
{
    Machine *m = pc->dev.m;
    I440fxWiring wiring = { .ram = pc->ram, .cpu = pc->cpu, .hard_reset = pc->hard_reset,
                            .init = pc->soft_reset,
                            .route = pirq_of, .pirq = pirq_set, .opaque = pc };
    Irq isa[16];

    for (int n = 0; n < 16; n++)
        isa[n] = pc_isa_irq(pc, n);
    m->pci = i440fx_create(m, &wiring);
    pc->piix3 = piix3_create(m, m->pci, 0x08, isa);
    ide_pci_create(m, m->pci, 0x09, pc_isa_irq(pc, 14), pc_isa_irq(pc, 15), pc->ide);
    if (m->cfg.acpi) {
        Piix4Pm *pm = piix4_pm_create(m, m->pci, 0x0b, pc_isa_irq(pc, 9), cpu_smi_line(pc->cpu));
        m->powerdown = piix4_pm_power_button;
        m->powerdown_opaque = pm;
    }
    if (m->cfg.vga != VGA_NONE)
        vga_pci_create(m, m->pci, 0x10);
    monitor_add_info(m, "pci", "PCI devices and their addresses", show_pci, m->pci);
}

static void create_isa(Pc *pc)
{
    Machine *m = pc->dev.m;

    ide_isa_create(m, 0x1f0, 0x3f6, pc_isa_irq(pc, 14), pc->ide[0], pc->ide[1]);
    ide_isa_create(m, 0x170, 0x376, pc_isa_irq(pc, 15), pc->ide[2], pc->ide[3]);
    if (m->cfg.vga != VGA_NONE)
        vga_isa_create(m);
}

static void pc_reset(Device *dev)
{
    Pc *pc = CONTAINER_OF(dev, Pc, dev);

    if (dev->m->cfg.isapc)
        mem_dma_write(dev->m->mem, MIB - pc->firmware_tail, pc->firmware, pc->firmware_tail);
}

static void pc_destroy(Device *dev)
{
    Pc *pc = CONTAINER_OF(dev, Pc, dev);

    net_close(dev->m);
    for (int i = 0; i < pc->chardevs; i++)
        chardev_close(pc->chardev[i]);
    for (int i = 0; i < 4; i++)
        if (pc->ide[i])
            blk_destroy(pc->ide[i]);
    for (int i = 0; i < 2; i++)
        if (pc->floppy[i])
            blk_destroy(pc->floppy[i]);
    for (int i = 0; i < pc->loose_count; i++)
        blk_destroy(pc->loose[i]);
    free(pc->firmware);
    cpu_destroy(pc->cpu);
    dev->m->cpu = NULL;
}

static const SaveField pc_fields[] = { SAVE_END };

const DeviceClass pc_class = {
    .name = "board", .size = sizeof(Pc), .fields = pc_fields, .reset = pc_reset, .destroy = pc_destroy,
};

u64 pc_arena_bytes(const Config *cfg)
{
    return cfg->ram_bytes + FIRMWARE_MAX + VGA_ARENA_BYTES + 8 * MIB;      /* and room for cards */
}

bool pc_create(Machine *m, Error *err)
{
    Cpu *cpu = cpu_create(m, m->cfg.cpu_model, err);    /* the first device made is the last one to go */

    if (!cpu)
        return false;
    Pc *pc = device_create(m, &pc_class);
    m->cpu = pc->cpu = cpu;
    pc->hard_reset = (Irq){ reset_machine, pc, 0 };
    pc->soft_reset = (Irq){ reset_cpu, pc, 0 };
    create_ram(pc);
    if (!pc_load_firmware(pc, err) || !open_drives(pc, err))
        return false;
    create_interrupts(pc, !m->cfg.isapc);
    create_at_chips(pc);
    if (m->cfg.isapc)
        create_isa(pc);
    else
        create_pci(pc);
    return create_ports(pc, err) && pc_add_cards(pc, err) && pc_add_devices(pc, err) && pc_configure_firmware(pc, err);
}
