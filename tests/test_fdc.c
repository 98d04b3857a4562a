/*
 * Floppy controller, driven through its ports as firmware and drivers do: reset, seek, DMA and non-DMA
 * transfers, format, scan, errors, media change, odd images; and every command byte followed by junk.
 */
#include "disk_bench.h"

#include "../devices/dma.h"
#include "../devices/fdc.h"

enum { DOR = 0x3f2, MSR = 0x3f4, FIFO = 0x3f5, DIR = 0x3f7 };

static Fdc *fdc;
static Dma *dma;
static Blk *drive_a, *drive_b;
static bool irq_level;
static unsigned irq_edges;
static u8 res[16];

static void set_irq(void *opaque, int n, bool level)
{
    (void)opaque;
    (void)n;
    irq_edges += level && !irq_level;
    irq_level = level;
}

/* ---- a driver ---- */

static bool command(const u8 *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!WAIT_FOR((in8(MSR) & 0xc0) == 0x80))
            return false;
        out8(FIFO, bytes[i]);
    }
    return true;
}
#define COMMAND(...) command((const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

static unsigned results(void)
{
    unsigned n = 0;

    while (n < 16 && (in8(MSR) & 0xd0) == 0xd0)
        res[n++] = in8(FIFO);
    return n;
}

static void dma_program(u32 addr, u32 bytes, bool read)
{
    out8(0x0a, 6);
    out8(0x0c, 0);
    out8(0x04, (u8)addr);
    out8(0x04, (u8)(addr >> 8));
    out8(0x05, (u8)(bytes - 1));
    out8(0x05, (u8)((bytes - 1) >> 8));
    out8(0x0b, read ? 0x46 : 0x4a);
    out8(0x81, (u8)(addr >> 16));
    out8(0x0a, 2);
}

static bool reset_controller(void)
{
    bool ok;

    irq_edges = 0;
    out8(DOR, 0);
    out8(DOR, 0x0c);
    ok = WAIT_FOR(irq_level);
    for (unsigned d = 0; d < 4; d++) {
        ok = ok && COMMAND(0x08) && results() == 2 && res[0] == (0xc0 | d);
    }
    return ok && !irq_level && COMMAND(0x03, 0xaf, 0x02);
}

static bool recalibrate(u8 drive)
{
    return COMMAND(0x07, drive) && WAIT_FOR(irq_level) && COMMAND(0x08) && results() == 2 &&
        res[0] == (0x20 | drive) && !res[1];
}

static bool seek(u8 drive, u8 cyl)
{
    return COMMAND(0x0f, drive, cyl) && WAIT_FOR(irq_level) && COMMAND(0x08) && results() == 2 &&
           res[0] == (0x20 | drive) && res[1] == cyl;
}

/* A 9-byte command; true: it came to its result phase. */
static bool transfer(u8 op, u8 drive, u8 c, u8 h, u8 r, u8 eot)
{
    return COMMAND(op, (u8)(h << 2 | drive), c, h, r, 2, eot, 0x1b, 0xff) && WAIT_FOR(irq_level) &&
        results() == 7;
}

static bool ram_is_pattern(u32 addr, u64 offset, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        if (ram[addr + i] != pattern(offset + i))
            return false;
    }
    return true;
}

static void insert(const char *file)
{
    Error err = { "" };

    CHECK_MSG(blk_change(drive_a, file, NULL, &err), "%s", err.text);
}

/* ---- tests ---- */

static void test_reset_and_status(void)
{
    CHECK_MSG(in8(MSR) == 0, "held in reset: not ready");
    CHECK(reset_controller());
    CHECK_MSG(irq_edges == 1, "reset interrupts once");
    CHECK(COMMAND(0x08) && results() == 1 && res[0] == 0x80);
    CHECK(COMMAND(0x10) && results() == 1 && res[0] == 0x90);
    CHECK(COMMAND(0x18) && results() == 1);
    CHECK(COMMAND(0x13, 0, 0x57, 0) && COMMAND(0x0e) && results() == 10 && res[8] == 0x57 && res[4] == 0xaf);
    CHECK(COMMAND(0x94) && results() == 1 && res[0] == 0x10);
    out8(MSR, 0x80);
    CHECK(WAIT_FOR(in8(MSR) == 0x80));
    CHECK_MSG(COMMAND(0x0e) && results() == 10 && res[8] == 0x57,
              "LOCK keeps the FIFO settings over a soft reset");
    CHECK(COMMAND(0x14) && results() == 1 && res[0] == 0);
    CHECK(COMMAND(0xff) && results() == 1 && res[0] == 0x80);
    CHECK(COMMAND(0x04, 0) && results() == 1 && res[0] == 0x38);
    CHECK(reset_controller());
    out8(DOR, 0);
    out8(DOR, 0x0c);
    CHECK(WAIT_FOR(irq_level) && COMMAND(0x08) && results() == 2 && res[0] == 0xc0);
    CHECK_MSG(recalibrate(0), "after one of the four polling interrupts a recalibrate is told as such");
    CHECK(seek(0, 40) && COMMAND(0x04, 0) && results() == 1 && res[0] == 0x28);
    CHECK(COMMAND(0xcf, 0, 2) && WAIT_FOR(irq_level) && COMMAND(0x08) && results() == 2 && res[1] == 42);
    CHECK(COMMAND(0x07, 3) && WAIT_FOR(irq_level) && COMMAND(0x08) && results() == 2 && res[0] == 0x73);
    CHECK(COMMAND(0x2e) && results() == 16 && res[2] == 42);
    CHECK(COMMAND(0x8e, 0x12, 0xc0) && in8(MSR) == 0x80);
}

static void test_read(void)
{
    out8(DIR, 0);
    CHECK(reset_controller() && recalibrate(0));
    CHECK(seek(0, 5));
    dma_program(0x10000, 36 * 512, true);
    CHECK(transfer(0xe6, 0, 5, 0, 1, 18) && res[0] == 4 && !res[1] && !res[2]);
    CHECK_MSG(res[3] == 6 && res[4] == 0 && res[5] == 1 && res[6] == 2,
              "MT: after both sides the ID is the next cylinder's");
    CHECK(ram_is_pattern(0x10000, 5 * 36 * 512, 36 * 512));
    dma_program(0x20000, 3 * 512, true);
    CHECK(transfer(0x46, 0, 5, 1, 4, 18) && res[0] == 4 && res[3] == 5 && res[4] == 1 && res[5] == 7);
    CHECK(ram_is_pattern(0x20000, (5 * 36 + 18 + 3) * 512, 3 * 512) && !ram[0x20000 + 3 * 512]);
    dma_program(0x20000, 10000, true);
    CHECK_MSG(transfer(0x46, 0, 5, 0, 17, 18) && (res[0] & 0xc0) == 0x40 && res[1] == 0x80,
              "past EOT: end of cylinder");
    memset(ram + 0x20000, 0, 4096);
    dma_program(0x20000, 100, true);
    CHECK(transfer(0x46, 0, 5, 0, 1, 18) && !res[1] && ram_is_pattern(0x20000, 5 * 36 * 512, 100) &&
          !ram[0x20064]);
    CHECK_MSG(transfer(0x46, 0, 6, 0, 1, 18) && res[1] == 0x04 && res[2] == 0x10,
              "another cylinder's ID: no data, wrong cylinder");
    CHECK(transfer(0x46, 0, 5, 0, 19, 18) && res[1] == 0x04 && !res[2]);
    CHECK(COMMAND(0x46, 0, 5, 1, 1, 2, 18, 0x1b, 0xff) && WAIT_FOR(irq_level) && results() == 7 &&
          res[1] == 4);
    CHECK(COMMAND(0x46, 0, 5, 0, 1, 3, 18, 0x1b, 0xff) && WAIT_FOR(irq_level) && results() == 7 &&
          res[1] == 4);
    CHECK(COMMAND(0x4a, 4) && WAIT_FOR(irq_level) && results() == 7 && res[0] == 4 && res[3] == 5 &&
          res[4] == 1 && res[5] >= 1 && res[5] <= 18);
    out8(DIR, 2);
    CHECK_MSG(COMMAND(0x4a, 0) && WAIT_FOR(irq_level) && results() == 7 && res[1] == 1,
              "the wrong data rate finds no ID");
    out8(DIR, 0);
    CHECK(COMMAND(0x42, 0, 5, 0, 9, 2, 3, 0x1b, 0xff) && (dma_program(0x30000, 3 * 512, true),
                                                          WAIT_FOR(irq_level)) && results() == 7 && !res[1]);
    CHECK_MSG(ram_is_pattern(0x30000, 5 * 36 * 512, 3 * 512),
              "READ TRACK starts at the index, and waits for its DMA channel");
    dma_program(0x30000, 2 * 512, true);
    CHECK(transfer(0x4c, 0, 5, 0, 1, 18) && res[2] == 0x40 && res[5] == 1);
    CHECK(transfer(0xec, 0, 5, 0, 1, 18) && res[1] == 0x80);
    CHECK(COMMAND(0x56, 0, 5, 0, 1, 2, 18, 0x1b, 0xff) && WAIT_FOR(irq_level) && results() == 7 && !res[1] &&
          res[3] == 6);
    CHECK(COMMAND(0x56, 0x80, 5, 0, 1, 2, 18, 0x1b, 4) && WAIT_FOR(irq_level) && results() == 7 && !res[1] &&
          res[5] == 5);
    CHECK(COMMAND(0x13, 0, 0x40, 0));
    dma_program(0x30000, 512, true);
    CHECK_MSG(transfer(0x46, 0, 33, 0, 2, 18) && !res[1] && ram_is_pattern(0x30000, (33 * 36 + 1) * 512, 512),
              "implied seek");
    CHECK(COMMAND(0x13, 0, 0, 0));
}

static void test_write(const char *file)
{
    u8 *after;
    size_t size;
    bool ok = true;

    CHECK(seek(0, 10));
    memset(ram + 0x40000, 0xa1, 20 * 512);
    dma_program(0x40000, 20 * 512, false);
    CHECK(transfer(0xc5, 0, 10, 0, 1, 18) && !res[1] && res[3] == 10 && res[4] == 1 && res[5] == 3);
    memset(ram + 0x40000, 0xb2, 512);
    dma_program(0x40000, 100, false);
    CHECK(transfer(0x45, 0, 10, 1, 5, 18) && !res[1]);
    dma_program(0x40000, 512, false);
    CHECK(transfer(0x49, 0, 10, 1, 7, 18) && !res[1]);
    for (unsigned i = 0; i < 18; i++)
        memcpy(ram + 0x50000 + 4 * i, (u8[]){ 11, 0, (u8)(i + 1), 2 }, 4);
    CHECK(seek(0, 11));
    dma_program(0x50000, 18 * 4, false);
    CHECK(COMMAND(0x4d, 0, 2, 18, 0x54, 0xf6) && WAIT_FOR(irq_level) && results() == 7 && !res[1] &&
          !(res[0] & 0xc0));
    ram[0x50002] = 19;
    dma_program(0x50000, 18 * 4, false);
    CHECK_MSG(COMMAND(0x4d, 0, 2, 18, 0x54, 0xf7) && WAIT_FOR(irq_level) && results() == 7 && res[1] == 4,
              "formatting what the image can't hold fails");
    blk_flush_all(m);
    after = bench_contents(file, &size);
    for (unsigned i = 0; i < 20 * 512; i++)
        ok = ok && after[10 * 36 * 512 + i] == 0xa1;
    CHECK(ok && after[10 * 36 * 512 + 20 * 512] == pattern(10 * 36 * 512 + 20 * 512));
    CHECK_MSG(after[(10 * 36 + 22) * 512 + 99] == 0xb2 && after[(10 * 36 + 22) * 512 + 100] == 0,
              "a sector that TC cuts short is filled with zeros");
    CHECK(after[(10 * 36 + 24) * 512 + 511] == 0xb2);
    ok = true;
    for (unsigned i = 0; i < 18 * 512; i++)
        ok = ok && after[11 * 36 * 512 + i] == 0xf6;
    CHECK(ok && size == 1474560);
    free(after);
}

static void test_write_stalls(void)
{
    memset(ram + 0x40000, 0xc3, 1024);
    memset(ram + 0x48000, 0xd4, 1024);
    CHECK(seek(0, 12));
    out8(0x0a, 6);
    CHECK(COMMAND(0x45, 0, 12, 0, 1, 2, 18, 0x1b, 0xff));
    turn();
    turn();
    CHECK_MSG(!irq_level && in8(MSR) == 0x10, "a write waits for a masked channel");
    CHECK(bench_save_load((Device *)fdc));
    dma_program(0x40000, 1024, false);
    CHECK(WAIT_FOR(irq_level) && results() == 7 && !res[1] && res[5] == 3);
    dma_program(0x60000, 1024, true);
    CHECK(transfer(0x46, 0, 12, 0, 1, 18) && !memcmp(ram + 0x60000, ram + 0x40000, 1024));
    dma_program(0x40000, 1024, false);
    CHECK(COMMAND(0x51, 0, 12, 0, 1, 2, 18, 0x1b, 1) && WAIT_FOR(irq_level) && results() == 7 && res[2] == 8);
    ram[0x40005] = 0;
    dma_program(0x40000, 1024, false);
    CHECK(COMMAND(0x51, 0, 12, 0, 1, 2, 1, 0x1b, 1) && WAIT_FOR(irq_level) && results() == 7 && res[2] == 4);
    dma_program(0x40000, 1024, false);
    CHECK(COMMAND(0x5d, 0, 12, 0, 1, 2, 18, 0x1b, 1) && WAIT_FOR(irq_level) && results() == 7 && !res[2]);
}

static void test_non_dma(void)
{
    bool ok = true;

    CHECK(COMMAND(0x03, 0xaf, 0x03) && seek(0, 20));
    CHECK(COMMAND(0x46, 0, 20, 0, 17, 2, 18, 0x1b, 0xff));
    for (unsigned i = 0; i < 1024; i++) {
        ok = ok && WAIT_FOR((in8(MSR) & 0xe0) == 0xe0);
        ok = ok && in8(FIFO) == pattern((20 * 36 + 16) * 512 + i);
    }
    CHECK_MSG(ok, "non-DMA read");
    CHECK(WAIT_FOR(irq_level) && results() == 7 && (res[0] & 0xc0) == 0x40 && res[1] == 0x80);
    CHECK(COMMAND(0x45, 0, 20, 0, 18, 2, 18, 0x1b, 0xff));
    for (unsigned i = 0; i < 512; i++) {
        ok = ok && WAIT_FOR((in8(MSR) & 0xe0) == 0xa0);
        out8(FIFO, (u8)(i ^ 0x77));
    }
    CHECK(ok && WAIT_FOR(irq_level) && results() == 7 && res[1] == 0x80);
    CHECK(COMMAND(0x03, 0xaf, 0x02));
    dma_program(0x60000, 512, true);
    CHECK(transfer(0x46, 0, 20, 0, 18, 18));
    for (unsigned i = 0; i < 512; i++)
        ok = ok && ram[0x60000 + i] == (u8)(i ^ 0x77);
    CHECK_MSG(ok, "non-DMA write");
}

static void test_reset_in_transfer(void)
{
    memset(ram + 0x40000, 0xee, 512);
    CHECK(seek(0, 30));
    dma_program(0x40000, 512, false);
    CHECK(COMMAND(0x45, 0, 30, 0, 1, 2, 18, 0x1b, 0xff));
    out8(DOR, 0);
    out8(DOR, 0x0c);
    CHECK_MSG(in8(MSR) == 0, "busy until the request of the aborted command is gone");
    CHECK(WAIT_FOR(irq_level) && COMMAND(0x08) && results() == 2 && res[0] == 0xc0);
    CHECK(recalibrate(0));
    dma_program(0x60000, 512, true);
    CHECK(transfer(0x46, 0, 0, 0, 1, 18) && ram_is_pattern(0x60000, 0, 512));
}

static void test_media(void)
{
    static const struct { u32 size; u8 cyls, heads, spt, rate; } media[] = {
        { 163840, 40, 1, 8, 2 }, { 184320, 40, 1, 9, 2 }, { 327680, 40, 2, 8, 1 }, { 368640, 40, 2, 9, 2 },
        { 737280, 80, 2, 9, 2 }, { 1228800, 80, 2, 15, 0 }, { 1474560, 80, 2, 18, 0 },
            { 1720320, 80, 2, 21, 0 },
        { 2949120, 80, 2, 36, 3 },
    };

    for (size_t i = 0; i < ARRAY_LEN(media); i++) {
        u64 last = (u64)media[i].size - 512;

        insert(bench_file(media[i].size));
        CHECK_MSG(in8(DIR) & 0x80, "a new disk is told by the disk change line");
        CHECK(reset_controller());
        out8(DIR, media[i].rate);
        CHECK(recalibrate(0) && seek(0, media[i].cyls - 1));
        CHECK_MSG(!(in8(DIR) & 0x80), "a seek clears it");
        dma_program(0x10000, 512, true);
        CHECK_MSG(transfer(0x46, 0, media[i].cyls - 1, media[i].heads - 1, media[i].spt, media[i].spt) &&
                  !res[1] &&
                  ram_is_pattern(0x10000, last, 512), "last sector of %u bytes", (unsigned)media[i].size);
        CHECK(transfer(0x46, 0, media[i].cyls - 1, 0, media[i].spt + 1, 99) && res[1] == 4);
    }
    insert(NULL);
    CHECK(in8(DIR) & 0x80);
    CHECK(transfer(0x46, 0, 0, 0, 1, 18) && (res[0] & 0xc0) == 0x40 && res[1] == 1);
    CHECK(recalibrate(0));
    CHECK_MSG(in8(DIR) & 0x80, "without a disk the line stays");
    CHECK(transfer(0x46, 2, 0, 0, 1, 18) && (res[0] & 0xc0) == 0x40);
}

static void test_odd_images(void)
{
    const char *file = bench_file(512);
    u8 *after;
    size_t size;
    bool zero = true;

    insert(file);
    CHECK(reset_controller());
    out8(DIR, 0);
    CHECK(recalibrate(0));
    dma_program(0x10000, 36 * 512, true);
    CHECK(transfer(0xe6, 0, 0, 0, 1, 18) && !res[1] && ram_is_pattern(0x10000, 0, 512));
    for (unsigned i = 512; i < 36 * 512; i++)
        zero = zero && !ram[0x10000 + i];
    CHECK_MSG(zero, "a boot sector alone is a 1.44M disk whose rest reads as zeros");
    CHECK(seek(0, 79));
    dma_program(0x10000, 512, true);
    CHECK(transfer(0x46, 0, 79, 1, 18, 18) && !res[1] && !ram[0x10000]);
    dma_program(0x10000, 512, false);
    CHECK_MSG(transfer(0x45, 0, 79, 1, 18, 18) && res[1] == 4, "writing past the image fails");
    after = bench_contents(file, &size);
    CHECK(size == 512);
    free(after);
    insert(bench_file(1000000));
    CHECK(reset_controller() && recalibrate(0) && seek(0, 54));
    dma_program(0x10000, 1024, true);
    CHECK(transfer(0x46, 0, 54, 0, 1, 18) && !res[1] && ram_is_pattern(0x10000, 54 * 36 * 512, 1024));
}

static void test_readonly(void)
{
    CHECK(reset_controller() && recalibrate(1));
    CHECK(COMMAND(0x04, 1) && results() == 1 && res[0] == 0x79);
    out8(DIR, 2);
    dma_program(0x10000, 512, false);
    CHECK(transfer(0x45, 1, 0, 0, 1, 9) && (res[0] & 0xc0) == 0x40 && res[1] == 2);
    CHECK(fdc_drive_type(fdc, 0) == 4 && fdc_drive_type(fdc, 1) == 1 && fdc_drive_type(fdc, 2) == 0);
}

static void test_host_errors(void)
{
    const char *file = bench_file(1474560);

    insert(file);
    CHECK(reset_controller());
    out8(DIR, 0);
    CHECK(recalibrate(0) && !truncate(file, 9 * 512) && seek(0, 3));
    dma_program(0x10000, 512, true);
    CHECK_MSG(transfer(0x46, 0, 3, 0, 1, 18) && (res[0] & 0xc0) == 0x40 && res[1] == 0x20 && res[2] == 0x20 &&
              res[5] == 1,
              "the host's read error is a data error");
}

/* R1: every command byte and 600 random bytes; the controller must come back after a reset, with its disk as
 * it was. */
static void test_junk(void)
{
    bool ok = true;

    insert(bench_file(1474560));
    out8(DIR, 0);
    for (unsigned first = 0; first < 256; first++) {
        u8 dor = bench_random() & 1 ? 0x1c : 0x0c;

        if (bench_random() & 1)
            dma_program(0x70000, 1 + bench_random() % 30000, bench_random() & 1);
        out8(DOR, dor);
        out8(FIFO, (u8)first);
        for (unsigned i = 0; i < 600; i++) {
            u32 r = bench_random();

            out8(FIFO, r & 0x300 ? (u8)r : (u8)(r & 3));
            if (r % 13 == 0)
                in8(FIFO);
            if (r % 17 == 0)
                turn();
            if (r % 101 == 0)
                out8(0x3f0 + (r >> 8) % 6, (u8)(r >> 16));
        }
        if (first % 16 == 0)
            ok = ok && bench_save_load((Device *)fdc);
        ok = ok && reset_controller();
        COMMAND(0x14);
        results();
    }
    CHECK_MSG(ok, "junk behind every command byte, then a reset: the controller answers");
    CHECK(reset_controller());
    insert(bench_file(1474560));
    out8(DIR, 0);
    recalibrate(0);                 /* past track 79 it takes two */
    CHECK(recalibrate(0) && seek(0, 7));
    dma_program(0x10000, 512, true);
    CHECK(transfer(0x46, 0, 7, 0, 3, 18) && !res[1] && ram_is_pattern(0x10000, (7 * 36 + 2) * 512, 512));
}

int main(void)
{
    const char *file = bench_file(1474560);
    Error err = { "" };

    bench_machine();
    dma = dma_create(m);
    drive_a = bench_drive(file, false, false, false);
    drive_b = bench_drive(bench_file(368640), false, true, false);
    fdc = fdc_create(m, 0x3f0, (Irq){ set_irq, NULL, 6 }, dma, drive_a, drive_b);
    devices_reset(m);
    CHECK_MSG(device_class_tiles(&fdc_class, &err), "%s", err.text);
    test_reset_and_status();
    test_read();
    test_write(file);
    test_write_stalls();
    test_non_dma();
    test_reset_in_transfer();
    CHECK(bench_save_load((Device *)fdc));
    test_media();
    test_odd_images();
    test_readonly();
    test_host_errors();
    test_junk();
    devices_destroy(m);
    blk_destroy(drive_a);
    blk_destroy(drive_b);
    machine_unlock(m);
    machine_destroy(m);
    bench_remove_files();
    return test_end();
}
