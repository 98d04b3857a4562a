/* What the tests of ATA and ATAPI share: two channels on a PCI bus, and a driver for their registers. */
#ifndef TESTS_IDE_BENCH_H
#define TESTS_IDE_BENCH_H

#include "disk_bench.h"

#include "../devices/ide.h"
#include "../devices/pci.h"

enum { BM = 0xc000, IDE_DEVFN = 0x09, PRDT = 0x8000 };
enum { BSY = 0x80, DRDY = 0x40, DRQ = 0x08, ERR = 0x01 };

static PciBus *bus;
static Blk *drives[4];
static bool irq_level[2];
static unsigned irq_edges[2];
static u32 base = 0x1f0;                /* of the channel that is driven */

static void set_irq(void *opaque, int n, bool level)
{
    (void)opaque;
    irq_edges[n] += level && !irq_level[n];
    irq_level[n] = level;
}

static int no_route(void *opaque, int slot, int pin) { (void)opaque; (void)slot; return pin; }
static void no_pirq(void *opaque, int pirq, bool level) { (void)opaque; (void)pirq; (void)level; }

/* What firmware does: ports, BAR4, bus mastering. */
static void ide_bench_enable(void)
{
    pci_config_write(bus, IDE_DEVFN, 0x20, BM | 1, 4);
    pci_config_write(bus, IDE_DEVFN, 0x04, 0x0005, 2);
    pci_config_write(bus, IDE_DEVFN, 0x40, 0x80008000, 4);
}

static void ide_bench_create(void)
{
    bus = pci_bus_create(m, no_route, no_pirq, NULL);
    m->pci = bus;
    ide_pci_create(m, bus, IDE_DEVFN, (Irq){ set_irq, NULL, 0 }, (Irq){ set_irq, NULL, 1 }, drives);
    devices_reset(m);
}

static bool not_busy(void) { return WAIT_FOR(!(in8(base + 0x206) & BSY)); }

/* Writes the task file; lba goes into the registers as LBA28, or LBA48 with both halves. */
__attribute__((unused)) static void task(u8 device, u64 lba, u32 count, bool ext, u8 command)
{
    out8(base + 6, ext ? (u8)(device | 0x40) : (u8)(device | 0x40 | (lba >> 24 & 15)));
    if (ext) {
        out8(base + 2, (u8)(count >> 8));
        out8(base + 3, (u8)(lba >> 24));
        out8(base + 4, (u8)(lba >> 32));
        out8(base + 5, (u8)(lba >> 40));
    }
    out8(base + 2, (u8)count);
    out8(base + 3, (u8)lba);
    out8(base + 4, (u8)(lba >> 8));
    out8(base + 5, (u8)(lba >> 16));
    out8(base + 7, command);
}

/* Reads DRQs until there are none; bytes got, or -1: error. */
__attribute__((unused)) static int pio_in(u8 *to, u32 max, u32 drq)
{
    u32 n = 0;

    for (;;) {
        u8 st;

        if (!not_busy())
            return -2;
        st = in8(base + 7);
        if (st & ERR)
            return -1;
        if (!(st & DRQ))
            return (int)n;
        for (u32 i = 0; i < drq; i += 2, n += 2) {
            u16 v = (u16)port_read(m, base, 2);

            if (n + 2 <= max)
                store16(to + n, v);
        }
    }
}

/* Writes DRQs as long as they are wanted; false: error. */
__attribute__((unused)) static bool pio_out(const u8 *from, u32 drq)
{
    for (;;) {
        u8 st;

        if (!not_busy())
            return false;
        st = in8(base + 7);
        if (st & ERR)
            return false;
        if (!(st & DRQ))
            return true;
        for (u32 i = 0; i < drq; i += 2, from += 2)
            port_write(m, base, load16(from), 2);
    }
}

/* A table of n entries of the same size over memory that lies together. */
__attribute__((unused)) static void prd(u32 addr, u32 bytes, unsigned n, bool last)
{
    for (unsigned i = 0; i < n; i++) {
        store32(ram + PRDT + 8 * i, addr + i * bytes);
        store32(ram + PRDT + 8 * i + 4, (bytes & 0xffff) | (last && i == n - 1 ? 0x80000000u : 0));
    }
}

static u32 bm_base(void) { return base == 0x1f0 ? BM : BM + 8; }

__attribute__((unused)) static void bm_start(bool read)
{
    port_write(m, bm_base() + 4, PRDT, 4);
    out8(bm_base() + 2, 0x06);
    out8(bm_base(), read ? 8 : 0);
    out8(bm_base(), read ? 9 : 1);
}

/* Waits for the interrupt and stops; the status register, or BSY. */
__attribute__((unused)) static u8 bm_end(void)
{
    bool done = WAIT_FOR(in8(bm_base() + 2) & 4);

    out8(bm_base(), 0);
    return done ? in8(base + 7) : BSY;
}

__attribute__((unused)) static bool is_pattern(const u8 *p, u64 offset, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        if (p[i] != pattern(offset + i))
            return false;
    }
    return true;
}

__attribute__((unused)) static void soft_reset(void)
{
    out8(base + 0x206, 4);
    out8(base + 0x206, 0);
    not_busy();
}

__attribute__((unused)) static Device *device_named(const char *id)
{
    for (Device *d = m->devices; d; d = d->next) {
        if (!strcmp(d->id, id))
            return d;
    }
    abort();
}

__attribute__((unused)) static void ide_bench_end(void)
{
    devices_destroy(m);
    for (unsigned i = 0; i < 4; i++)
        blk_destroy(drives[i]);
    pci_bus_destroy(bus);
    m->pci = NULL;
    machine_unlock(m);
    machine_destroy(m);
    bench_remove_files();
}

#endif
