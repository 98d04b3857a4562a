/*
 * ATAPI CD-ROM: packets by PIO with byte count limits and by DMA, every command, medium changes as drivers
 * see them, errors, and random packets.
 */
#include "ide_bench.h"

enum { BLOCKS = 500 };

static u8 buf[1 << 20];
static u32 got;                         /* bytes of the last reply */
static unsigned drqs, odd_drqs;

/* Sends a packet and takes the reply by PIO; the status register at the end. */
static u8 packet(const u8 *cdb, u16 limit)
{
    got = drqs = odd_drqs = 0;
    out8(0x176, 0xa0);
    out8(0x171, 0);
    out8(0x174, (u8)limit);
    out8(0x175, (u8)(limit >> 8));
    out8(0x177, 0xa0);
    if (!not_busy() || (in8(0x177) & (DRQ | ERR)) != DRQ || in8(0x172) != 1)
        return 0xff;
    for (unsigned i = 0; i < 12; i += 2)
        port_write(m, 0x170, load16(cdb + i), 2);
    for (;;) {
        u8 st;
        u32 n;

        if (!not_busy())
            return 0xfe;
        st = in8(0x177);
        if (!(st & DRQ))
            return in8(0x172) == 3 ? st : 0xfd;
        if (in8(0x172) != 2)
            return 0xfc;
        n = in8(0x174) | (u32)in8(0x175) << 8;
        for (u32 i = 0; i < n; i += 2) {
            u16 v = (u16)port_read(m, 0x170, 2);

            if (got + i + 2 <= sizeof(buf))
                store16(buf + got + i, v);
        }
        odd_drqs += n & 1;
        got += n;
        drqs++;
    }
}
#define PACKET(...) packet((const u8[12]){ __VA_ARGS__ }, 0xfffe)

static u32 sense(void)
{
    u8 cdb[12] = { 0x03, 0, 0, 0, 18 };

    if (packet(cdb, 0xfffe) != 0x50 || got != 18)
        return 0xffffff;
    return (u32)buf[2] << 16 | (u32)buf[12] << 8 | buf[13];
}

static u32 be32(const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }

static void test_identify(void)
{
    task(0xa0, 0, 0, false, 0xec);
    CHECK_MSG(in8(0x177) == 0x51 && in8(0x174) == 0x14 && in8(0x175) == 0xeb,
              "IDENTIFY DEVICE is refused with the signature");
    task(0xa0, 0, 0, false, 0xa1);
    CHECK(pio_in(buf, 512, 512) == 512 && load16(buf) == 0x85c0 && !memcmp(buf + 54, "EQUMW-NIC -DOR M", 16));
    CHECK(PACKET(0) == 0x51 && sense() == 0x062900);
    CHECK_MSG(PACKET(0) == 0x50 && sense() == 0, "the reset is told once");
    CHECK(PACKET(0x12, 0, 0, 0, 36) == 0x50 && got == 36 && buf[0] == 5 && buf[1] == 0x80 &&
          !memcmp(buf + 8, "QEMU-WINCD-ROM  ", 16));
    CHECK(PACKET(0x12, 0, 0, 0, 5) == 0x50 && got == 5);
    CHECK(PACKET(0x12, 1, 0, 0, 36) == 0x51 && sense() == 0x052400);
    CHECK(PACKET(0x77) == 0x51 && in8(0x171) == 0x54 && sense() == 0x052000);
    task(0xa0, 0, 0, false, 0x08);
    CHECK_MSG(in8(0x176 + 0x200) == 0 && in8(0x174) == 0x14, "DEVICE RESET");
}

static void test_read(void)
{
    u8 read10[12] = { 0x28, 0, 0, 0, 0, 7, 0, 0, 100 };

    CHECK(PACKET(0x25) == 0x50 && got == 8 && be32(buf) == BLOCKS - 1 && be32(buf + 4) == 2048);
    CHECK(packet(read10, 0xfffe) == 0x50 && got == 100 * 2048 && is_pattern(buf, 7 * 2048, 100 * 2048));
    CHECK(packet(read10, 2048) == 0x50 && got == 100 * 2048 && drqs == 100 && is_pattern(buf, 7 * 2048,
            100 * 2048));
    CHECK(packet(read10, 3000) == 0x50 && got == 100 * 2048 && is_pattern(buf, 7 * 2048, 100 * 2048));
    CHECK_MSG(packet(read10, 777) == 0x50 && !odd_drqs && got == 100 * 2048 && is_pattern(buf, 7 * 2048,
            100 * 2048),
              "odd limits are rounded");
    CHECK(packet(read10, 0) == 0x50 && got == 100 * 2048);
    read10[8] = 1;
    CHECK(packet(read10, 1) == 0x50 && got == 2048 && drqs == 1024 && is_pattern(buf, 7 * 2048, 2048));
    CHECK(PACKET(0x28, 0, 0, 0, 0, 0, 0, 0, 0) == 0x50 && got == 0);
    CHECK(PACKET(0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 2) == 0x50 && got == 4096 && is_pattern(buf, 3 * 2048, 4096));
    CHECK(PACKET(0x28, 0, 0, 0, BLOCKS >> 8, BLOCKS & 255, 0, 0, 1) == 0x51 && sense() == 0x052100);
    CHECK(PACKET(0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) == 0x51 && sense() == 0x052100);
    CHECK(PACKET(0xbe, 0, 0, 0, 0, 5, 0, 0, 3, 0x10) == 0x50 && got == 3 * 2048 && is_pattern(buf, 5 * 2048,
            3 * 2048));
    CHECK(PACKET(0xbe, 0, 0, 0, 0, 5, 0, 0, 40, 0xf8) == 0x50 && got == 40 * 2352);
    CHECK(is_pattern(buf + 39 * 2352 + 16, 44 * 2048, 2048) && buf[39 * 2352 + 15] == 1 &&
          buf[39 * 2352 + 13] == 0x02 &&
          buf[39 * 2352 + 14] == 0x44);
    CHECK(PACKET(0xb9, 0, 0, 0, 2, 5, 0, 2, 7, 0x10) == 0x50 && got == 2 * 2048 && is_pattern(buf, 5 * 2048,
            4096));
    CHECK(PACKET(0xbe, 0, 0, 0, 0, 5, 0, 0, 3, 0x08) == 0x51 && sense() == 0x052400);
    CHECK(PACKET(0x2b, 0, 0, 0, 0, 5) == 0x50);
    read10[5] = (u8)(BLOCKS - 1);
    read10[4] = (BLOCKS - 1) >> 8;
    CHECK(packet(read10, 0xfffe) == 0x50 && is_pattern(buf, (BLOCKS - 1) * 2048, 1000) && !buf[1536] &&
          !buf[2047]);
}

static void test_dma(void)
{
    static const u8 read10[12] = { 0x28, 0, 0, 0, 0, 11, 0, 1, 0x90 };

    for (unsigned how = 0; how < 2; how++) {
        memset(ram + 0x100000, 0, 1 << 20);
        prd(0x100000, how ? 0x3ffe : 0xc800, how ? 51 : 16, true);
        out8(0x171, 1);
        out8(0x176, 0xa0);
        out8(0x177, 0xa0);
        for (unsigned i = 0; i < 12; i += 2)
            port_write(m, 0x170, load16(read10 + i), 2);
        bm_start(true);
        CHECK(bm_end() == 0x50 && is_pattern(ram + 0x100000, 11 * 2048, 400 * 2048));
    }
    prd(0x100000, 1000, 1, true);
    out8(0x171, 1);
    out8(0x177, 0xa0);
    for (unsigned i = 0; i < 12; i += 2)
        port_write(m, 0x170, load16(read10 + i), 2);
    bm_start(true);
    WAIT_FOR(!(in8(BM + 10) & 1));
    blk_drain(drives[2]);
    CHECK_MSG((in8(0x376) & BSY) && bench_save_load(device_named("ide.1")),
              "a table that is too short: the drive waits");
    soft_reset();
    CHECK(PACKET(0) == 0x51 && sense() == 0x062900);
    prd(0x100000, 2, 9, true);
    out8(0x171, 1);
    out8(0x177, 0xa0);
    for (unsigned i = 0; i < 12; i += 2)
        port_write(m, 0x170, load16((const u8[12]){ 0x12, 0, 0, 0, 18 } + i), 2);
    bm_start(true);
    CHECK(bm_end() == 0x50 && ram[0x100000] == 5 && !memcmp(ram + 0x100008, "QEMU-WIN", 8));
}

static void test_toc(void)
{
    CHECK(PACKET(0x43, 0, 0, 0, 0, 0, 0, 0, 100) == 0x50 && got == 20 && buf[1] == 18 && buf[2] == 1 &&
          buf[3] == 1);
    CHECK(buf[5] == 0x14 && buf[6] == 1 && be32(buf + 8) == 0 && buf[14] == 0xaa && be32(buf + 16) == BLOCKS);
    CHECK(PACKET(0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100) == 0x50 && got == 12 && buf[9] == 0 &&
          buf[10] == (BLOCKS + 150) / 75 && buf[11] == 50);
    CHECK(PACKET(0x43, 0, 1, 0, 0, 0, 0, 0, 12) == 0x50 && got == 12 && buf[1] == 10);
    CHECK(PACKET(0x43, 2, 2, 0, 0, 0, 0, 1, 0) == 0x50 && got == 48 && buf[1] == 46 && buf[7] == 0xa0 &&
          buf[12] == 1);
    CHECK(PACKET(0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40) == 0x50 && got == 12);
    CHECK(PACKET(0x43, 0, 0, 0, 0, 0, 5, 0, 12) == 0x51 && sense() == 0x052400);
    CHECK(PACKET(0x43, 0, 7, 0, 0, 0, 0, 0, 12) == 0x51);
    CHECK(PACKET(0x42, 0, 0x40, 1, 0, 0, 0, 0, 16) == 0x50 && got == 16 && buf[1] == 0x15);
}

static void test_settings(void)
{
    CHECK(PACKET(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128) == 0x50 && got == 28 && buf[1] == 26 && buf[8] == 0x2a &&
          buf[9] == 18);
    CHECK(PACKET(0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 128) == 0x50 && got == 8 + 8 + 16 + 20);
    CHECK(PACKET(0x1a, 0, 0x01, 0, 128) == 0x50 && got == 12 && buf[0] == 11 && buf[4] == 1);
    CHECK(PACKET(0x5a, 0, 0x33, 0, 0, 0, 0, 0, 128) == 0x51 && sense() == 0x052400);
    CHECK(PACKET(0x46, 0, 0, 0, 0, 0, 0, 1, 0) == 0x50 && be32(buf) + 4 == got && buf[7] == 8);
    CHECK(PACKET(0x46, 2, 0, 3, 0, 0, 0, 1, 0) == 0x50 && got == 16 && buf[9] == 3 && buf[11] == 4);
    CHECK(PACKET(0x46, 2, 0, 0x55, 0, 0, 0, 1, 0) == 0x50 && got == 8);
    CHECK(PACKET(0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8) == 0x50 && got == 8);
    CHECK(PACKET(0x51, 0, 0, 0, 0, 0, 0, 0, 34) == 0x50 && got == 34 && buf[2] == 0x0e);
    CHECK(PACKET(0xbb, 0, 0xff, 0xff) == 0x50);
    CHECK(PACKET(0x45) == 0x51 && sense() == 0x056400);
    CHECK(PACKET(0xad) == 0x51);
    out8(0x174, 0xfe);
    out8(0x175, 0xff);
    out8(0x171, 0);
    out8(0x177, 0xa0);
    for (unsigned i = 0; i < 12; i += 2)
        port_write(m, 0x170, load16((const u8[12]){ 0x55, 0x10, 0, 0, 0, 0, 0, 0, 20 } + i), 2);
    CHECK(in8(0x172) == 0 && in8(0x174) == 20 && (in8(0x177) & DRQ));
    for (unsigned i = 0; i < 20; i += 2)
        port_write(m, 0x170, 0, 2);
    CHECK(in8(0x177) == 0x50 && in8(0x172) == 3);
}

static void test_tray(void)
{
    Error err;

    CHECK(PACKET(0x1e, 0, 0, 0, 1) == 0x50 && blk_locked(drives[2]));
    CHECK_MSG(PACKET(0x1b, 0, 0, 0, 2) == 0x51 && sense() == 0x055302, "a locked tray does not open");
    CHECK(PACKET(0x1e, 0, 0, 0, 0) == 0x50 && !blk_locked(drives[2]));
    CHECK(PACKET(0x1b, 0, 0, 0, 2) == 0x50 && PACKET(0) == 0x51 && sense() == 0x023a02);
    CHECK(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == 0x50 && got == 8 && buf[4] == 3 && buf[5] == 1);
    CHECK(PACKET(0x1b, 0, 0, 0, 3) == 0x50 && PACKET(0) == 0x51 && sense() == 0x062800 && PACKET(0) == 0x50);
    CHECK(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == 0x50 && buf[4] == 2 && buf[5] == 2);
    CHECK(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == 0x50 && buf[4] == 0);
    CHECK(PACKET(0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8) == 0x51);
    CHECK(PACKET(0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8) == 0x50 && got == 4 && buf[2] == 0x80);
    CHECK(blk_change(drives[2], NULL, NULL, &err));
    CHECK(PACKET(0) == 0x51 && sense() == 0x023a01 && PACKET(0x28, 0, 0, 0, 0, 0, 0, 0, 1) == 0x51 &&
          sense() == 0x023a01);
    CHECK(PACKET(0x43, 0, 0, 0, 0, 0, 0, 0, 12) == 0x51);
    CHECK(blk_change(drives[2], bench_file(100 * 2048), NULL, &err));
    CHECK_MSG(PACKET(0) == 0x51 && sense() == 0x023a01, "a new disc shows first as none");
    CHECK_MSG(PACKET(0) == 0x51 && sense() == 0x062800 && PACKET(0) == 0x50,
              "then as changed, then as ready");
    CHECK(PACKET(0x25) == 0x50 && be32(buf) == 99);
    CHECK(blk_change(drives[2], bench_file(64 * 2048), NULL, &err));
    CHECK(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == 0x50 && buf[4] == 2);
    CHECK_MSG(PACKET(0) == 0x51 && sense() == 0x062800 && PACKET(0) == 0x50,
              "a guest that polls events is not shown none");
    CHECK(blk_change(drives[2], bench_file(BLOCKS * 2048 - 512), NULL, &err));
    PACKET(0);
    PACKET(0);
}

static void test_junk(void)
{
    u64 start = host_now_ns();

    for (unsigned i = 0; i < 6000; i++) {
        static const u8 codes[] = { 0x28, 0xa8, 0xbe, 0xb9, 0x43, 0x46, 0x5a, 0x1a, 0x12, 0x03, 0x51, 0x42,
                                    0xad, 0x1b, 0x55, 0x15, 0xbd };
        u32 r = bench_random(), n = (r >> 8 & 7) ? 12 : r >> 12 & 15;

        out8(0x176, 0xa0);
        out8(0x171, r & 1);
        out8(0x174, (u8)bench_random());
        out8(0x175, (u8)bench_random());
        out8(0x177, 0xa0);
        port_write(m, 0x170, (bench_random() & 0xff00) | codes[r % ARRAY_LEN(codes)], 2);
        for (u32 k = 2; k < n; k += 2)
            port_write(m, 0x170, bench_random() & (bench_random() & 1 ? 0xffff : 0x0300), 2);
        if (r & 1) {
            prd(0x100000, 2 + bench_random() % 65000, 1 + bench_random() % 4, bench_random() & 3);
            bm_start(bench_random() & 1);
        }
        turn();
        for (u32 k = 0; k < (r >> 16 & 0xff) && (in8(0x376) & DRQ); k++) {
            port_read(m, 0x170, 1u << (r >> 24 & 1));
            port_write(m, 0x170, r, 4);
        }
        if (i % 64 == 0) {
            blk_drain(drives[2]);
            CHECK(bench_save_load(device_named("ide.1")));
        }
        if (r & 0x80)
            soft_reset();
        else
            out8(0x177, 0x08);
        not_busy();
        out8(BM + 8, 0);
    }
    CHECK(host_now_ns() - start < 30 * NS_PER_SEC);
    devices_reset(m);
    ide_bench_enable();
    CHECK(PACKET(0x12, 0, 0, 0, 36) == 0x50 && got == 36);
    PACKET(0x1b, 0, 0, 0, 3);
    PACKET(0);
    PACKET(0);
    CHECK(PACKET(0x28, 0, 0, 0, 0, 1, 0, 0, 1) == 0x50 && is_pattern(buf, 2048, 2048));
}

int main(void)
{
    bench_machine();
    drives[2] = bench_drive(bench_file(BLOCKS * 2048 - 512), true, false, false);
    ide_bench_create();
    ide_bench_enable();
    base = 0x170;
    test_identify();
    test_read();
    test_dma();
    test_toc();
    test_settings();
    test_tray();
    test_junk();
    ide_bench_end();
    return test_end();
}
