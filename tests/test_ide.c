/*
 * IDE channels and ATA disks through their ports: detection, IDENTIFY, PIO and DMA in every addressing mode,
 * ends of the disk, broken PRD tables, resets in mid-transfer, save and load, and random accesses.
 */
#include "ide_bench.h"

enum { SECTORS = 40960 };               /* 20 MiB: 40 cylinders of 16 x 63 and a rest */

static u8 buf[1 << 20];

static u16 word(unsigned n) { return load16(buf + 2 * n); }

static void test_detection(void)
{
    CHECK_MSG(in8(0x1f7) == 0xff, "before firmware enables them the ports are not decoded");
    ide_bench_enable();
    CHECK(pci_config_read(bus, IDE_DEVFN, 0, 4) == 0x70108086 && pci_config_read(bus, IDE_DEVFN, 8, 4) >> 8 ==
          0x010180);
    CHECK(in8(0x1f7) == 0x50 && in8(0x3f6) == 0x50 && in8(0x1f2) == 1 && in8(0x1f3) == 1 && in8(0x1f4) == 0 &&
          in8(0x1f1) == 1);
    out8(0x1f6, 0xb0);
    CHECK(in8(0x1f6) == 0xb0 && in8(0x1f7) == 0x50);
    out8(0x176, 0xb0);
    CHECK_MSG(in8(0x177) == 0 && in8(0x176) == 0, "a drive that isn't there reads as zeros");
    out8(0x176, 0xa0);
    CHECK_MSG(in8(0x174) == 0x14 && in8(0x175) == 0xeb, "a CD-ROM's signature");
    out8(0x1f6, 0xa0);
    pci_config_write(bus, IDE_DEVFN, 0x04, 0, 2);
    CHECK(in8(0x1f7) == 0xff);
    ide_bench_enable();
    pci_config_write(bus, IDE_DEVFN, 0x42, 0x1234, 2);
    CHECK(pci_config_read(bus, IDE_DEVFN, 0x42, 2) == 0x1234 && in8(0x177) == 0xff && in8(0x1f7) == 0x50);
    ide_bench_enable();
}

static void test_identify(void)
{
    u8 sum = 0;

    irq_edges[0] = 0;
    task(0xa0, 0, 0, false, 0xec);
    CHECK(irq_level[0] && in8(0x3f6) == 0x58 && irq_level[0]);
    CHECK(in8(0x1f7) == 0x58 && !irq_level[0]);
    CHECK(pio_in(buf, sizeof(buf), 512) == 512 && irq_edges[0] == 1);
    CHECK(word(0) == 0x40 && word(1) == 40 && word(3) == 16 && word(6) == 63);
    CHECK(load32(buf + 120) == SECTORS && load64(buf + 200) == SECTORS && load32(buf + 114) == 40 * 16 * 63);
    CHECK(!memcmp(buf + 54, "EQUMW-NIH RADDSI K", 18));
    CHECK((word(49) & 0xb00) == 0xb00 && (word(53) & 7) == 7 && (word(63) & 7) == 7 && word(88) & 0x3f &&
          word(83) & 0x400);
    for (unsigned i = 0; i < 512; i++)
        sum = (u8)(sum + buf[i]);
    CHECK(!sum && buf[510] == 0xa5);
    out8(0x1f1, 3);
    task(0xa0, 0, 0x42, false, 0xef);
    CHECK(in8(0x1f7) == 0x50);
    task(0xa0, 0, 0, false, 0xec);
    CHECK(pio_in(buf, 512, 512) == 512 && word(88) == 0x043f && word(63) == 7);
    out8(0x1f1, 3);
    task(0xa0, 0, 0x47, false, 0xef);
    CHECK(in8(0x1f7) == 0x51 && in8(0x1f1) == 4);
    task(0xa0, 0, 0, false, 0x91 - 1 + 0x51);               /* E1h: IDLE IMMEDIATE */
    CHECK(in8(0x1f7) == 0x50);
    task(0xa0, 0, 0, false, 0xe5);
    CHECK(in8(0x1f2) == 0xff);
    task(0xa0, 0, 0, false, 0xb0);
    CHECK(in8(0x1f7) == 0x51 && in8(0x1f1) == 4);
}

static void test_pio(void)
{
    task(0xa0, 5, 3, false, 0x20);
    irq_edges[0] = 0;
    CHECK(pio_in(buf, sizeof(buf), 512) == 3 * 512 && is_pattern(buf, 5 * 512, 3 * 512));
    CHECK_MSG(irq_edges[0] == 3, "one interrupt a sector");
    task(0xa0, 0, 0, false, 0x20);
    CHECK(pio_in(buf, sizeof(buf), 512) == 256 * 512 && is_pattern(buf, 0, 256 * 512));
    task(0xa0, 100, 300, true, 0x24);
    CHECK(pio_in(buf, sizeof(buf), 512) == 300 * 512 && is_pattern(buf, 100 * 512, 300 * 512));
    task(0xa0, 0, 8, false, 0xc6);
    task(0xa0, 1000, 20, false, 0xc4);
    irq_edges[0] = 0;
    CHECK(not_busy() && irq_edges[0] == 1);
    for (unsigned i = 0; i < 20 * 512; i += 4)
        store32(buf + i, port_read(m, 0x1f0, 4));
    CHECK_MSG(is_pattern(buf, 1000 * 512, 20 * 512) && in8(0x1f7) == 0x50,
              "READ MULTIPLE, 32 bits at a time");
    task(0xa0, 0, 5, false, 0xc6);
    CHECK(in8(0x1f7) == 0x51);
    memset(buf, 0x3c, 200 * 512);
    task(0xa0, 2000, 200, false, 0x30);
    CHECK_MSG(!irq_level[0] && pio_out(buf, 512), "a write's first DRQ comes without an interrupt");
    for (unsigned i = 0; i < 20 * 512; i++)
        buf[i] = (u8)(i * 3);
    task(0xa0, 2300, 16, true, 0x39);
    CHECK(pio_out(buf, 8 * 512));
    memset(buf, 0, sizeof(buf));
    task(0xa0, 2300, 16, false, 0x20);
    CHECK(pio_in(buf, sizeof(buf), 512) == 16 * 512 && buf[1000] == (u8)3000 && buf[8191] == (u8)(8191 * 3));
    task(0xa0, 2199, 2, false, 0x20);
    CHECK(pio_in(buf, sizeof(buf), 512) == 1024 && buf[511] == 0x3c && is_pattern(buf + 512, 2200 * 512,
            512));
    task(0xa0, 0, 0, false, 0xe7);
    CHECK(not_busy() && in8(0x1f7) == 0x50);
    task(0xa0, 0, 0, false, 0xe8);
    CHECK(pio_out(buf, 512));
    task(0xb0, 7, 1, false, 0x20);
    CHECK_MSG(pio_in(buf, sizeof(buf), 512) == 512 && is_pattern(buf, 7 * 512, 512), "the slave");
    out8(0x3f6, 2);
    irq_edges[0] = 0;
    task(0xa0, 7, 1, false, 0x20);
    CHECK_MSG(pio_in(buf, sizeof(buf), 512) == 512 && !irq_edges[0], "nIEN: no interrupts");
    out8(0x3f6, 0);
}

static void test_chs(void)
{
    out8(0x1f6, 0xa0 | 3);
    out8(0x1f2, 1);
    out8(0x1f3, 9);
    out8(0x1f4, 2);
    out8(0x1f5, 0);
    out8(0x1f7, 0x20);
    CHECK(pio_in(buf, 512, 512) == 512 && is_pattern(buf, ((2 * 16 + 3) * 63 + 8) * 512, 512));
    out8(0x1f3, 64);
    out8(0x1f7, 0x20);
    CHECK(not_busy() && in8(0x1f7) == 0x51 && in8(0x1f1) == 0x10);
    out8(0x1f3, 0);
    out8(0x1f7, 0x20);
    CHECK(not_busy() && in8(0x1f7) == 0x51);
    out8(0x1f6, 0xa0 | 7);
    out8(0x1f2, 17);
    out8(0x1f7, 0x91);
    out8(0x1f6, 0xa0 | 7);
    out8(0x1f2, 1);
    out8(0x1f3, 17);
    out8(0x1f4, 1);
    out8(0x1f7, 0x20);
    CHECK_MSG(pio_in(buf, 512, 512) == 512 && is_pattern(buf, ((1 * 8 + 7) * 17 + 16) * 512, 512),
              "INITIALIZE DEVICE PARAMETERS");
    task(0xa0, 0, 0, false, 0xec);
    CHECK(pio_in(buf, 512, 512) == 512 && word(55) == 8 && word(56) == 17 && word(54) == SECTORS / 8 / 17 &&
          word(3) == 16);
}

static void test_ends(void)
{
    task(0xa0, SECTORS - 1, 1, false, 0x20);
    CHECK(pio_in(buf, 512, 512) == 512 && is_pattern(buf, (SECTORS - 1) * 512ull, 512));
    task(0xa0, SECTORS - 1, 2, false, 0x20);
    CHECK(not_busy() && in8(0x1f7) == 0x51 && in8(0x1f1) == 0x10);
    task(0xa0, SECTORS, 1, false, 0xc8);
    CHECK(not_busy() && in8(0x1f7) == 0x51 && in8(0x1f1) == 0x10);
    task(0xa0, 0xffffffffffff, 0, true, 0x24);
    CHECK(not_busy() && in8(0x1f7) == 0x51);
    task(0xa0, 0xffffffffffff, 0, true, 0x35);
    CHECK(not_busy() && in8(0x1f7) == 0x51);
    task(0xa0, SECTORS - 65535, 0, true, 0x42);
    CHECK(not_busy() && in8(0x1f7) == 0x51);
    task(0xa0, 0, SECTORS, true, 0x42);
    CHECK_MSG(not_busy() && in8(0x1f7) == 0x50, "VERIFY of the whole disk");
    task(0xa0, 0, 0, true, 0x27);
    CHECK(in8(0x1f3) == ((SECTORS - 1) & 0xff) && in8(0x1f4) == (SECTORS - 1) >> 8);
}

static void test_dma(void)
{
    bool same;

    prd(0x100000, 65536, 4, true);
    task(0xa0, 64, 0, false, 0xc8);
    irq_edges[0] = 0;
    CHECK_MSG(in8(0x1f7) == BSY, "busy until the bus master starts");
    bm_start(true);
    CHECK(bm_end() == 0x50);
    CHECK(is_pattern(ram + 0x100000, 64 * 512, 128 * 1024) && irq_edges[0] == 1 && in8(BM + 2) == 4);
    prd(0x100000, 6, 3000, true);
    bm_start(true);
    task(0xa0, 200, 35, false, 0xc8);
    CHECK_MSG(bm_end() == 0x50 && is_pattern(ram + 0x100000, 200 * 512, 35 * 512),
              "started first, entries of 6 bytes");
    prd(0x200000, 32768, 96, true);
    task(0xa0, 1000, 6000, true, 0x25);
    bm_start(true);
    CHECK(bm_end() == 0x50 && is_pattern(ram + 0x200000, 1000 * 512, 1000 * 512));
    CHECK(is_pattern(ram + 0x200000 + 1320 * 512, 2320 * 512, 4680 * 512));
    for (u32 i = 0; i < 3000 * 512; i++)
        ram[0x600000 + i] = (u8)(i * 11 + i / 700);
    prd(0x600000, 1536, 1000, true);
    task(0xa0, 10000, 3000, true, 0x35);
    bm_start(false);
    CHECK(bm_end() == 0x50);
    memset(ram + 0x800000, 0, 3000 * 512);
    prd(0x800000, 65024, 24, true);
    task(0xa0, 10000, 3000, true, 0x25);
    bm_start(true);
    same = bm_end() == 0x50 && !memcmp(ram + 0x600000, ram + 0x800000, 3000 * 512);
    CHECK_MSG(same, "DMA writes come back by DMA");
    task(0xa0, 13000, 1, false, 0x20);
    CHECK(pio_in(buf, 512, 512) == 512 && is_pattern(buf, 13000 * 512, 512));
}

static void test_bad_tables(void)
{
    u64 start = host_now_ns();

    memset(ram + 0x100000, 0, 0x10000);
    prd(0x100000, 100, 1, true);
    task(0xa0, 50, 2, false, 0xc8);
    bm_start(true);
    WAIT_FOR(!(in8(BM + 2) & 1));
    CHECK_MSG(in8(BM + 2) == 0 && in8(0x3f6) & BSY,
              "a table shorter than the command: not active, no interrupt, the drive waits");
    CHECK(bench_save_load(device_named("ide")) && bench_save_load(device_named("piix3-ide")));
    out8(BM, 0);
    prd(0x100000 + 100, 924, 1, true);
    bm_start(true);
    CHECK_MSG(bm_end() == 0x50 && is_pattern(ram + 0x100000, 50 * 512, 1024),
              "and goes on with the next table");
    for (u32 i = 0; i < 2048; i++)
        ram[0x100000 + i] = (u8)(i * 5);
    prd(0x100000, 700, 1, true);
    task(0xa0, 60, 4, false, 0xca);
    bm_start(false);
    WAIT_FOR(!(in8(BM + 2) & 1));
    blk_drain(drives[0]);
    CHECK(bench_save_load(device_named("ide")));
    out8(BM, 0);
    prd(0x100000 + 700, 1348, 1, true);
    bm_start(false);
    CHECK(bm_end() == 0x50);
    task(0xa0, 60, 4, false, 0x20);
    CHECK_MSG(pio_in(buf, 2048, 512) == 2048 && !memcmp(buf, ram + 0x100000, 2048), "a write in two tables");
    prd(0x100000, 0x8000, 4, true);
    task(0xa0, 50, 1, false, 0xc8);
    bm_start(true);
    CHECK_MSG(WAIT_FOR(in8(BM + 2) & 4) && in8(BM + 2) == 5, "a table longer than the command stays active");
    CHECK(bm_end() == 0x50);
    for (unsigned i = 0; i < 65536; i += 8) {
        store32(ram + i, 0x20000);
        store32(ram + i + 4, 2);
    }
    task(0xa0, 0, 4096, true, 0x25);
    bm_start(true);
    CHECK_MSG(bm_end() == 0x50, "a table that never ends goes round");
    prd(0xfff00000, 65536, 1, true);
    task(0xa0, 50, 8, false, 0xc8);
    bm_start(true);
    CHECK_MSG(bm_end() == 0x50, "reading into nothing");
    task(0xa0, 50, 8, false, 0xca);
    port_write(m, BM + 4, 0xfffffff0, 4);
    out8(BM, 1);
    not_busy();
    soft_reset();
    out8(BM, 0);
    CHECK(in8(0x1f7) == 0x50 && host_now_ns() - start < 4 * NS_PER_SEC);
}

static void test_resets(void)
{
    unsigned interrupts;

    memset(ram + 0x100000, 0xee, 0x20000);
    prd(0x100000, 65536, 2, true);
    for (unsigned i = 0; i < 200; i++) {
        task(0xa0, 20000, 200, false, 0xca);
        if (i & 1)
            bm_start(false);
        if (i & 2)
            turn();
        out8(0x3f6, 4);
        CHECK(in8(0x1f7) == BSY);
        out8(0x3f6, 0);
        out8(BM, 0);
        interrupts = irq_edges[0];
        CHECK(not_busy() && in8(0x1f7) == 0x50 && in8(0x1f1) == 1);
        turn();
        CHECK_MSG(irq_edges[0] == interrupts, "an aborted command interrupts no more");
    }
    task(0xa0, 0, 4, false, 0x20);
    CHECK_MSG(pio_in(buf, 2048, 512) == 2048 && is_pattern(buf, 0, 2048),
              "the first sectors are as they were");
    task(0xa0, 30, 10, false, 0x20);
    CHECK(not_busy());
    port_read(m, 0x1f0, 2);
    soft_reset();
    CHECK_MSG(in8(0x1f7) == 0x50 && port_read(m, 0x1f0, 2) == 0, "reset in the middle of PIO");
    task(0xa0, 40, 4, false, 0x30);
    for (unsigned i = 0; i < 300; i++)
        port_write(m, 0x1f0, 0xdead, 2);
    soft_reset();
    task(0xa0, 40, 2, false, 0x20);
    CHECK_MSG(pio_in(buf, 1024, 512) == 1024 && is_pattern(buf, 40 * 512, 1024),
              "a write cut off by a reset has written nothing");
    task(0xa0, 30, 2, false, 0x20);
    devices_reset(m);
    ide_bench_enable();
    CHECK(not_busy() && in8(0x1f7) == 0x50);
    task(0xa0, 30, 2, false, 0x20);
    CHECK(pio_in(buf, 1024, 512) == 1024 && is_pattern(buf, 30 * 512, 1024));
}

static void test_save(void)
{
    task(0xa0, 77, 5, false, 0x20);
    CHECK(not_busy());
    for (unsigned i = 0; i < 700; i += 2)
        store16(buf + i, (u16)port_read(m, 0x1f0, 2));
    CHECK(bench_save_load(device_named("ide")));
    for (unsigned i = 700; i < 5 * 512; i += 2)
        store16(buf + i, (u16)port_read(m, 0x1f0, 2));
    CHECK_MSG(is_pattern(buf, 77 * 512, 5 * 512) && in8(0x1f7) == 0x50,
              "saved and loaded in the middle of PIO");
}

static void test_readonly(void)
{
    memset(buf, 1, 512);
    task(0xb0, 3, 1, false, 0x30);
    CHECK_MSG(!pio_out(buf, 512) && in8(0x1f1) == 4, "writing a read-only disk aborts");
    task(0xb0, 0, 0, false, 0xe7);
    CHECK(not_busy() && in8(0x1f7) == 0x50);
}

static void test_geometry(void)
{
    const char *file = bench_file(200 * 512 * 17 * 4);
    Error err;
    HostFile *f = host_file_open(file, HOST_READ | HOST_WRITE, &err);
    Blk *blk;
    IdeGeometry g;

    host_file_write(f, 446, "\x80\0\1\0\6\3\x51\xc7\x11\0\0\0\x8f\x35\0\0", 16, &err);
    host_file_write(f, 510, "\x55\xaa", 2, &err);
    host_file_close(f);
    blk = bench_drive(file, false, true, false);
    g = ide_geometry(blk);
    CHECK_MSG(g.cylinders == 200 && g.heads == 4 && g.sectors == 17 && !g.translation,
              "geometry of the partition table");
    blk_destroy(blk);
    g = ide_geometry(drives[0]);
    CHECK(g.cylinders == 40 && g.heads == 16 && g.sectors == 63 && !g.translation);
}

static void test_slow_writes(void)
{
    u64 start = host_now_ns();

    m->cfg.win2k_hack = true;
    memset(buf, 0x91, 4 * 512);
    task(0xa0, 500, 4, false, 0x30);
    CHECK(pio_out(buf, 512) && host_now_ns() - start > 4 * 250000);
    task(0xa0, 500, 4, false, 0x30);
    for (unsigned i = 0; i < 512; i += 2)
        port_write(m, 0x1f0, 0x9292, 2);
    CHECK_MSG(in8(0x3f6) == BSY && bench_save_load(device_named("ide")), "saved while a write is delayed");
    CHECK(pio_out(buf, 512));
    m->cfg.win2k_hack = false;
    task(0xa0, 500, 5, false, 0x20);
    CHECK(pio_in(buf, sizeof(buf), 512) == 5 * 512 && buf[0] == 0x92 && buf[512] == 0x91 &&
          buf[2047] == 0x91);
    CHECK(is_pattern(buf + 2048, 504 * 512, 512));
}

/* The host's file fails under the guest: it gets errors, for reads at the sector. */
static void test_host_errors(void)
{
    const char *file = bench_file(1 << 20);
    Error err;

    CHECK(blk_change(drives[1], file, NULL, &err) && !truncate(file, 65536));
    task(0xb0, 120, 20, false, 0x20);
    CHECK(pio_in(buf, sizeof(buf), 512) == -1 && in8(0x1f1) == 0x40 && in8(0x1f3) == 120);
    prd(0x100000, 32768, 1, true);
    task(0xb0, 200, 20, true, 0x25);
    bm_start(true);
    CHECK(bm_end() == 0x51 && in8(0x1f1) == 0x40);
    task(0xb0, 0, 1, false, 0x20);
    CHECK_MSG(pio_in(buf, sizeof(buf), 512) == 512 && is_pattern(buf, 0, 512), "what is still there is read");
    CHECK(blk_change(drives[1], NULL, NULL, &err));
    task(0xb0, 0, 1, false, 0x20);
    CHECK_MSG(pio_in(buf, sizeof(buf), 512) == -1, "a disk that was taken out");
    CHECK(blk_change(drives[1], bench_file(1 << 20), NULL, &err));
}

/* R2: anything on any port; the drive works after a reset. */
static void test_junk(void)
{
    u64 start = host_now_ns();
    bool ok = true;

    for (unsigned i = 0; i < 120000; i++) {
        static const u16 ports[] = { 0x1f0, 0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5, 0x1f6, 0x1f7, 0x3f6, BM,
                                     BM + 2, BM + 4, 0x177, 0x176, 0x170 };
        static const u8 likely[] = { 0x20, 0x30, 0xc4, 0xc5, 0xc8, 0xca, 0x25, 0x35, 0x24, 0x34, 0xec, 0xa0,
                                     0xa1, 0x08, 0xe7, 0x90 };
        u32 r = bench_random(), port = ports[r % ARRAY_LEN(ports)];
        unsigned size = port == 0x1f0 || port == 0x170 || port >= BM ? 1u << (r >> 8 & 1) << (r >> 9 & 1) : 1;
        u32 value = bench_random();

        if ((port & 0x3f7) == 0x177)
            value = likely[value % ARRAY_LEN(likely)];
        if (port == 0x3f6)
            value &= r & 0x30000 ? 2 : 6;
        if ((port & ~8u) == BM && size == 4)
            value &= BENCH_RAM - 1;
        if (r & 0x1000)
            port_read(m, port, size);
        else
            port_write(m, port, value, size);
        if (!(r & 0x3e000))
            turn();
        if (i % 5000 == 0) {
            blk_drain(drives[0]);
            blk_drain(drives[1]);
            blk_drain(drives[2]);
            ok = ok && bench_save_load(device_named("ide")) && bench_save_load(device_named("ide.1")) &&
                 bench_save_load(device_named("piix3-ide"));
        }
    }
    CHECK(ok);
    CHECK(host_now_ns() - start < 30 * NS_PER_SEC);
    devices_reset(m);
    ide_bench_enable();
    out8(0x3f6, 0);
    CHECK(not_busy());
    task(0xa0, 0, 0, false, 0xec);
    CHECK_MSG(pio_in(buf, 512, 512) == 512 && load32(buf + 120) == SECTORS,
              "after junk on every port and a reset");
}

static void test_isa(void)
{
    ide_isa_create(m, 0x1e8, 0x3ee, (Irq){ 0 }, NULL, NULL);
    CHECK_MSG(in8(0x1ef) == 0, "a channel without drives reads as zeros");
    out8(0x1ef, 0xec);
    CHECK(in8(0x1ef) == 0);
}

int main(void)
{
    Error err = { "" };

    bench_machine();
    drives[0] = bench_drive(bench_file(SECTORS * 512ull), false, false, false);
    drives[1] = bench_drive(bench_file(1 << 20), false, true, false);
    drives[2] = bench_drive(NULL, true, false, false);
    ide_bench_create();
    CHECK_MSG(device_class_tiles(&ide_class, &err) && device_class_tiles(&piix3_ide_class, &err), "%s",
              err.text);
    test_detection();
    test_identify();
    test_pio();
    test_chs();
    test_ends();
    test_dma();
    test_bad_tables();
    test_resets();
    test_save();
    test_readonly();
    test_geometry();
    test_isa();
    test_slow_writes();
    test_host_errors();
    test_junk();
    ide_bench_end();
    return test_end();
}
