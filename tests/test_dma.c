/* 8237 pair: transfers both ways, terminal count, auto-initialise, decrement, wrap, verify, masks, words. */
#include "chip_bench.h"

#include "../devices/dma.h"

static Dma *dma;
static u8 *ram;
static int told;

static void on_ready(void *opaque) { (void)opaque; told++; }

static void set_up(int c, u8 mode, u32 addr, u32 count)
{
    static const u8 page[8] = { 0x87, 0x83, 0x81, 0x82, 0, 0x8b, 0x89, 0x8a };
    u32 base = c < 4 ? 0 : 0xc0, step = c < 4 ? 1 : 2, i = (u32)(c & 3), word = c < 4 ? addr : addr >> 1;

    out8(base + 10 * step, (u8)(4 | i));
    out8(base + 12 * step, 0);
    out8(base + 2 * i * step, (u8)word);
    out8(base + 2 * i * step, (u8)(word >> 8));
    out8(base + (2 * i + 1) * step, (u8)count);
    out8(base + (2 * i + 1) * step, (u8)(count >> 8));
    out8(page[c], (u8)(addr >> 16));
    out8(base + 11 * step, (u8)(mode | i));
    out8(base + 10 * step, (u8)i);
}

static u32 read_pair(u32 port)
{
    u32 low = in8(port);

    return low | (u32)in8(port) << 8;
}

static void test_bytes(void)
{
    u8 buf[1024];

    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i * 7);
    CHECK_MSG(!dma_transfer(dma, 2, buf, 512, true), "after reset every channel is masked");
    set_up(2, 0x44, 0x12345, 511);
    CHECK(dma_ready(dma, 2) && dma_left(dma, 2) == 512);
    CHECK_MSG(dma_transfer(dma, 2, buf, 100, true) == 100 && !dma_tc(dma, 2), "part of a transfer");
    out8(0x0c, 0);
    CHECK_MSG(read_pair(0x04) == 0x2345 + 100 && read_pair(0x05) == 411, "current address and count move on");
    CHECK_MSG(dma_transfer(dma, 2, buf + 100, 500, true) == 412, "no more than the count");
    CHECK_MSG(dma_tc(dma, 2) && !memcmp(ram + 0x12345, buf, 512), "all arrived");
    CHECK(ram[0x12344] == 0 && ram[0x12345 + 512] == 0);
    CHECK_MSG(!dma_ready(dma, 2) && (in8(0x08) & 0x0f) == 4, "terminal count masks the channel and shows");
    CHECK_MSG((in8(0x08) & 0x0f) == 0, "reading the status clears it");
    CHECK_MSG(!dma_transfer(dma, 2, buf, 1, true) && !dma_tc(dma, 2), "nothing moves any more");

    memset(buf, 0, sizeof(buf));
    set_up(2, 0x48, 0x12345, 511);
    CHECK_MSG(!dma_transfer(dma, 2, buf, 10, true), "the wrong direction waits");
    CHECK_MSG(dma_transfer(dma, 2, buf, 512, false) == 512 && buf[511] == (u8)(511 * 7), "memory to device");

    set_up(1, 0x54, 0x20000, 9);
    CHECK_MSG(dma_transfer(dma, 1, buf, 10, true) == 10 && dma_tc(dma, 1) && dma_left(dma, 1) == 10 &&
              dma_ready(dma, 1), "auto-initialise starts over");
    set_up(1, 0x64, 0x20010, 3);
    memcpy(buf, "abcd", 4);
    CHECK(dma_transfer(dma, 1, buf, 4, true) == 4);
    CHECK_MSG(!memcmp(ram + 0x2000d, "dcba", 4), "decrement");
    set_up(1, 0x44, 0x2fffe, 3);
    CHECK(dma_transfer(dma, 1, buf, 4, true) == 4);
    CHECK_MSG(!memcmp(ram + 0x2fffe, "ab", 2) && !memcmp(ram + 0x20000, "cd", 2) && !ram[0x30000],
              "an address wraps within its page");
    set_up(3, 0x40, 0x40000, 99);
    memset(buf, 0xaa, 8);
    CHECK_MSG(dma_transfer(dma, 3, buf, 100, true) == 100 && dma_tc(dma, 3) && !ram[0x40000],
              "verify counts and writes nothing");
    CHECK(buf[0] == 0xaa);
}

static void test_words(void)
{
    u8 buf[64];

    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i + 1);
    set_up(5, 0x44, 0x5a000, 15);
    CHECK(dma_left(dma, 5) == 32);
    CHECK_MSG(dma_transfer(dma, 5, buf, 33, true) == 32 && dma_tc(dma, 5), "channel 5 counts words");
    CHECK(!memcmp(ram + 0x5a000, buf, 32) && !ram[0x5a020]);
    CHECK_MSG(in8(0xd0) == 2, "the second controller's status");
    CHECK(!dma_transfer(dma, 4, buf, 2, true) && !dma_transfer(dma, 8, buf, 2, true) &&
          !dma_transfer(dma, -1, buf, 2, true));
}

static void test_control(void)
{
    u8 buf[4] = { 0 };

    dma_watch(dma, 2, on_ready, NULL);
    told = 0;
    set_up(2, 0x44, 0x1000, 3);
    CHECK_MSG(told == 1, "the device hears when it is unmasked");
    out8(0x08, 4);
    CHECK_MSG(!dma_ready(dma, 2), "controller off");
    out8(0x08, 0);
    CHECK(told == 2 && dma_ready(dma, 2));
    out8(0x0b, 0x4a);
    CHECK_MSG(told == 3, "or when its direction changed");
    out8(0x0f, 0x0f);
    CHECK(!dma_ready(dma, 2) && (in8(0x0f) & 15) == 15);
    out8(0x0e, 0);
    CHECK(dma_ready(dma, 2));
    out8(0x0d, 0);
    CHECK_MSG(!dma_ready(dma, 2), "master clear masks all");
    dma_set_dreq(dma, 2, true);
    CHECK_MSG(in8(0x08) == 0x40, "requests show in the status");
    dma_set_dreq(dma, 2, false);
    out8(0x09, 0x05);
    CHECK(in8(0x08) == 0x20);
    out8(0x09, 0x01);
    CHECK(in8(0x08) == 0);
    out8(0x80, 0x77);
    CHECK_MSG(in8(0x80) == 0x77 && in8(0x8f) == 0, "page registers keep what is written");
    set_up(2, 0x44, 0xa0000, 3);
    CHECK_MSG(dma_transfer(dma, 2, buf, 4, true) == 4, "addresses without memory do no harm");
}

static void random_device(void)
{
    static u8 buf[70000];
    int c = (int)(rnd() % 10) - 1;
    u32 n = rnd() % (rnd() % 8 ? 600 : sizeof(buf)), moved = dma_transfer(dma, c, buf, n, rnd() & 1);

    if (moved > n)
        CHECK_MSG(false, "more moved than asked");
    dma_set_dreq(dma, (int)(rnd() % 10) - 1, rnd() & 1);
}

int main(void)
{
    static const Range ports[] = { { 0x00, 16 }, { 0xc0, 32 }, { 0x80, 16 } };

    bench_machine(NULL);
    ram = mem_arena(m->mem);
    dma = dma_create(m);
    devices_reset(m);
    test_bytes();
    test_words();
    test_control();
    port_storm(ports, ARRAY_LEN(ports), 200000, random_device);
    check_saves("dma");
    devices_reset(m);
    CHECK(!dma_ready(dma, 0) && !dma_ready(dma, 7));
    bench_end();
    return test_end();
}
