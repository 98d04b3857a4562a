/* NE2000: station PROM, remote DMA, ring, filter, sending, hostile ring pointers and frame sizes, saving. */
#include "chip_bench.h"

#include "../core/vm/nic.h"
#include "../devices/ne2000.h"

enum { BASE = 0x300, CR = BASE, DATA = BASE + 0x10, RESET = BASE + 0x1f };

static NetPeer *other;
static u8 last[70000];
static u32 last_len;
static int heard;
static bool irq9;

static bool other_receive(void *opaque, const u8 *frame, u32 len)
{
    (void)opaque;
    memcpy(last, frame, len);
    last_len = len;
    heard++;
    return true;
}

static void irq_to(void *opaque, int n, bool level)
{
    (void)opaque;
    (void)n;
    irq9 = level;
}

static void set_dma(u16 addr, u16 count, u8 command)
{
    out8(CR, 0x22);
    out8(BASE + 8, (u8)addr);
    out8(BASE + 9, (u8)(addr >> 8));
    out8(BASE + 10, (u8)count);
    out8(BASE + 11, (u8)(count >> 8));
    out8(CR, command);
}

static void start(u8 pstart, u8 pstop, u8 bnry, u8 curr)
{
    out8(CR, 0x21);
    out8(BASE + 1, pstart);
    out8(BASE + 2, pstop);
    out8(BASE + 3, bnry);
    out8(BASE + 12, 0x04);
    out8(BASE + 13, 0);
    out8(BASE + 14, 0x49);
    out8(CR, 0x61);
    out8(BASE + 7, curr);
    out8(CR, 0x22);
    out8(BASE + 7, 0xff);
    out8(BASE + 15, 0x7f);
}

static u8 curr(void)
{
    out8(CR, 0x62);
    u8 v = in8(BASE + 7);
    out8(CR, 0x22);
    return v;
}

static void make_frame(u8 *f, u32 len)
{
    static const u8 to[12] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1 };

    for (u32 i = 0; i < len; i++)
        f[i] = i < 12 ? to[i] : (u8)(i * 7);
}

static void test_prom_and_dma(void)
{
    set_dma(0, 32, 0x0a);
    u8 prom[32];
    for (int i = 0; i < 32; i += 2)
        store16(prom + i, (u16)port_read(m, DATA, 2));
    CHECK_MSG(prom[0] == 0x52 && prom[1] == 0x52 && prom[10] == 0x56,
              "the PROM shows each byte of the address twice");
    CHECK_MSG(prom[28] == 0x57 && prom[30] == 0x57, "it ends with 57h");
    CHECK_MSG(in8(BASE + 7) & 0x40, "the remote DMA's end is told");
    out8(BASE + 14, 0x49);
    set_dma(0, 32, 0x0a);
    for (int i = 0; i < 16; i++)
        prom[i] = in8(DATA);
    CHECK_MSG(prom[0] == 0x52 && prom[1] == 0x54 && prom[5] == 0x56 && prom[14] == 0x57,
              "a byte read of a word DMA takes the whole word");
    set_dma(0x4100, 6, 0x12);
    port_write(m, DATA, 0x44332211, 4);
    port_write(m, DATA, 0x6655, 2);
    port_write(m, DATA, 0x9999, 2);
    set_dma(0x4100, 8, 0x0a);
    CHECK_MSG(port_read(m, DATA, 4) == 0x44332211 && (port_read(m, DATA, 4) & 0xffff) == 0x6655,
              "what is written comes back, and only the count of bytes is taken");
    set_dma(0xfff0, 0xffff, 0x12);
    for (int i = 0; i < 0x8010; i++)
        port_write(m, DATA, 0xffff, 2);
    CHECK_MSG(in8(BASE + 7) & 0x40, "a DMA of FFFFh bytes round the end of memory ends");
}

static void test_receive(void)
{
    u8 f[70000];
    u8 header[4];

    make_frame(f, sizeof(f));
    start(0x46, 0x80, 0x46, 0x47);
    net_send(other, f, 100);
    CHECK_MSG(irq9 && (in8(BASE + 7) & 1), "a frame raises the interrupt");
    CHECK_MSG(curr() == 0x48, "a frame of 100 bytes takes one page");
    set_dma(0x4700, 4, 0x0a);
    store32(header, port_read(m, DATA, 4));
    CHECK_MSG(header[0] == 1 && header[1] == 0x48 && load16(header + 2) == 104,
              "the header: good, next page, bytes");
    out8(BASE + 7, 0xff);
    CHECK_MSG(irq9, "what still lies in the ring interrupts again");
    out8(BASE + 3, 0x47);
    out8(BASE + 7, 0xff);
    CHECK_MSG(!irq9, "acknowledging with an empty ring takes the interrupt back");
    out8(BASE + 3, 0x46);
    f[0] = 0x02;
    net_send(other, f, 100);
    CHECK_MSG(curr() == 0x48, "another card's frame is passed over");
    memset(f, 0xff, 6);
    net_send(other, f, 1);
    net_send(other, f, 14);
    CHECK_MSG(curr() == 0x49, "a short broadcast is taken and padded; a frame of one byte is not");
    out8(CR, 0x20);
    net_send(other, f, 60);
    CHECK_MSG(curr() == 0x4a, "a command without start and stop bits does not stop the card");
    for (int i = 0; i < 100; i++)
        net_send(other, f, 1514);
    CHECK_MSG(curr() < 0x80 && curr() != 0x46, "a full ring stops before the boundary");
    u8 full = curr();
    out8(BASE + 3, (u8)(full - 1 < 0x46 ? 0x7f : full - 1));
    CHECK_MSG(curr() != full, "when the guest has read, the frames that waited come");
    out8(CR, 0x21);
    timers_run(m);
    start(0x46, 0x80, 0x45, 0x46);
    for (int i = 0; i < 20; i++)
        net_send(other, f, 1514);
    CHECK_MSG(curr() == 0x46 + 9 * 6, "a boundary just before the ring stands for its last page");
    out8(CR, 0x21);
}

static void test_send(void)
{
    heard = 0;
    start(0x46, 0x80, 0x46, 0x47);
    set_dma(0x4000, 64, 0x12);
    for (int i = 0; i < 64; i += 2)
        port_write(m, DATA, (u32)(i | (i + 1) << 8), 2);
    out8(BASE + 4, 0x40);
    out8(BASE + 5, 64);
    out8(BASE + 6, 0);
    out8(CR, 0x26);
    CHECK_MSG(heard == 1 && last_len == 64 && last[0] == 0 && last[63] == 63,
              "a frame is sent as it lies in memory");
    CHECK_MSG((in8(BASE + 7) & 2) && !(in8(CR) & 4), "its end is told");
    static const struct { u8 page; u16 len; } bad[] = {
        { 0x40, 0 }, { 0x40, 1519 }, { 0x40, 0xffff }, { 0xbf, 1514 }, { 0x00, 60 }, { 0xff, 0xffff },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        out8(BASE + 7, 0xff);
        out8(BASE + 4, bad[i].page);
        out8(BASE + 5, (u8)bad[i].len);
        out8(BASE + 6, (u8)(bad[i].len >> 8));
        out8(CR, 0x26);
        CHECK_MSG(heard == 1 && (in8(BASE + 7) & 8), "%u bytes at page %02x are refused", bad[i].len, bad[i].page);
    }
}

/* RELIABILITY R3. */
static void test_hostile(void)
{
    static const u8 rings[][4] = { { 0x50, 0x50, 0x50, 0x50 }, { 0x80, 0x40, 0x40, 0x40 }, { 0, 0xff, 0xff, 0xff },
                                   { 0x46, 0x80, 0xff, 0x46 }, { 0x46, 0x80, 0x46, 0xff }, { 0x46, 0x80, 0, 0x7f },
                                   { 0x46, 0xff, 0x50, 0xfe }, { 0x46, 0x47, 0x46, 0x46 }, { 0x46, 0xc0, 0x46, 0xbf } };
    static const u32 sizes[] = { 0, 1, 5, 6, 59, 60, 1514, 1515, 1518, 1519, 9000, 65535 };
    u8 *f = malloc(70000);

    memset(f, 0xff, 70000);
    for (size_t r = 0; r < ARRAY_LEN(rings); r++) {
        start(rings[r][0], rings[r][1], rings[r][2], rings[r][3]);
        out8(BASE + 12, 0x1f);
        for (int times = 0; times < 40; times++)
            for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
                net_send(other, f, sizes[i]);
        in8(RESET);
    }
    CHECK_MSG(true, "rings of all kinds take frames of all sizes");
    free(f);
    for (u32 i = 0; i < 300000; i++) {
        u32 port = BASE + rnd() % 32;
        if (rnd() & 3)
            port_write(m, port, rnd(), 1u << rnd() % 3);
        else
            port_read(m, port, 1u << rnd() % 3);
        if (rnd() % 8 == 0)
            net_send(other, last, 1 + rnd() % 1600);
        if (rnd() % 64 == 0)
            timers_run(m);
    }
    CHECK_MSG(true, "a random guest and random frames do no harm");
}

int main(void)
{
    static const NetPeerOps ops = { .receive = other_receive };
    static const NicConfig cfg = { .mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 }, .name = "nic",
                                   .model = "ne2k_isa",
                                   .iobase = BASE, .irq = 9 };

    bench_machine(NULL);
    other = net_join(m, 0, "other", &ops, NULL);
    ne2k_isa_create(m, &cfg, (Irq){ irq_to, NULL, 9 });
    devices_reset(m);
    test_prom_and_dma();
    test_receive();
    test_send();
    test_hostile();
    check_saves("ne2k_isa");
    net_leave(other);
    clocks_run(m, false);
    return test_end();
}
