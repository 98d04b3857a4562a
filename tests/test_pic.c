/* 8259 pair: priorities, rotation, every end of interrupt, modes, levels, cascade, spurious ones, poll. */
#include "chip_bench.h"

#include "../devices/pic.h"

static Pic *pic;
static int ended;

static void line(int n, bool level) { irq_set(pic_line(pic, n), level); }
static void edge(int n) { irq_pulse(pic_line(pic, n)); }
static void on_end(void *source) { ended += *(int *)source; }

static void init_pair(u8 icw4)
{
    out8(0x20, 0x11);
    out8(0x21, 0x08);
    out8(0x21, 0x04);
    out8(0x21, icw4);
    out8(0xa0, 0x11);
    out8(0xa1, 0x70);
    out8(0xa1, 0x02);
    out8(0xa1, icw4);
    out8(0x21, 0);
    out8(0xa1, 0);
}

static void eoi(int n)
{
    if (n >= 8)
        out8(0xa0, 0x20);
    out8(0x20, 0x20);
}

static void test_edges(void)
{
    init_pair(1);
    CHECK_MSG(!the_cpu.intr, "quiet after initialisation");
    line(1, true);
    CHECK_MSG(the_cpu.intr && take_interrupt() == 0x09, "IRQ 1 comes with base + 1");
    CHECK_MSG(!the_cpu.intr, "in service, it does not come again");
    eoi(1);
    CHECK_MSG(!the_cpu.intr, "a line that stays high is one edge");
    line(1, false);
    line(1, true);
    line(1, false);
    CHECK_MSG(take_interrupt() == 0x09, "an edge stays requested when its line drops");
    eoi(1);
    edge(10);
    CHECK_MSG(take_interrupt() == 0x72, "IRQ 10 comes from the slave");
    out8(0x20, 0x0b);
    CHECK_MSG(in8(0x20) == 0x04, "the cascade is in service in the master");
    out8(0x20, 0x0a);
    eoi(10);
    edge(3);
    out8(0x21, 0x08);
    CHECK_MSG(!the_cpu.intr && in8(0x20) == 0x08 && in8(0x21) == 0x08, "masked, it waits in IRR");
    out8(0x21, 0);
    CHECK(take_interrupt() == 0x0b);
    eoi(3);
    edge(9);
    out8(0x21, 0x04);
    CHECK_MSG(!the_cpu.intr, "the master's mask of the cascade holds all of the slave");
    out8(0x21, 0);
    CHECK(take_interrupt() == 0x71);
    eoi(9);
}

static void test_priorities(void)
{
    init_pair(1);
    edge(5);
    edge(3);
    CHECK_MSG(take_interrupt() == 0x0b, "the lower number first");
    CHECK(!the_cpu.intr);
    edge(1);
    CHECK_MSG(take_interrupt() == 0x09, "a higher one interrupts a lower one");
    eoi(1);
    CHECK_MSG(!the_cpu.intr, "IRQ 3 is still in service");
    eoi(3);
    CHECK(take_interrupt() == 0x0d);
    out8(0x20, 0x65);
    CHECK_MSG(!the_cpu.intr && (out8(0x20, 0x0b), in8(0x20)) == 0, "specific EOI ends IRQ 5");
    edge(14);
    edge(4);
    CHECK_MSG(take_interrupt() == 0x76, "the slave's come before IRQ 3-7");
    eoi(14);
    CHECK(take_interrupt() == 0x0c);
    out8(0x20, 0xa0);               /* rotate on non-specific EOI: 4 becomes the lowest */
    edge(4);
    edge(7);
    CHECK_MSG(take_interrupt() == 0x0f, "after rotation 5 6 7 0.. come before 4");
    out8(0x20, 0x20);
    CHECK(take_interrupt() == 0x0c);
    out8(0x20, 0x20);
    out8(0x20, 0xc7);               /* set priority: 7 is the lowest again */
    edge(6);
    edge(0);
    CHECK(take_interrupt() == 0x08);
    out8(0x20, 0xe0);               /* specific with rotation: 0 is the lowest */
    edge(0);
    CHECK(take_interrupt() == 0x0e);
    out8(0x20, 0x20);
    CHECK(take_interrupt() == 0x08);
    out8(0x20, 0x20);
}

static void test_modes(void)
{
    init_pair(3);
    edge(4);
    CHECK_MSG(take_interrupt() == 0x0c, "automatic EOI");
    edge(6);
    CHECK_MSG(the_cpu.intr && take_interrupt() == 0x0e, "leaves nothing in service");
    out8(0x20, 0x80);               /* rotate in automatic EOI */
    edge(2 + 1);
    CHECK(take_interrupt() == 0x0b);
    edge(3);
    edge(4);
    CHECK_MSG(take_interrupt() == 0x0c && take_interrupt() == 0x0b, "and rotates");

    init_pair(1);
    edge(1);
    CHECK(take_interrupt() == 0x09);
    edge(6);
    CHECK(!the_cpu.intr);
    out8(0x21, 0x02);
    out8(0x20, 0x68);               /* special mask mode: what is masked and in service holds nobody up */
    CHECK(take_interrupt() == 0x0e);
    out8(0x20, 0x20);
    out8(0x20, 0x0b);
    CHECK_MSG(in8(0x20) == 0x02, "a non-specific EOI does not end what is masked");
    out8(0x20, 0x48);
    out8(0x20, 0x61);
    CHECK(in8(0x20) == 0);

    init_pair(0x11);                /* special fully nested */
    edge(12);
    CHECK(take_interrupt() == 0x74);
    edge(9);
    CHECK_MSG(take_interrupt() == 0x71, "a higher one of the slave interrupts a lower one of the slave");
    init_pair(1);
    edge(12);
    CHECK(take_interrupt() == 0x74);
    edge(9);
    CHECK_MSG(!the_cpu.intr, "but not in normal mode");
    eoi(12);
    CHECK(take_interrupt() == 0x71);
    eoi(9);

    edge(5);
    out8(0x20, 0x0c);
    CHECK_MSG(in8(0x20) == 0x85 && !the_cpu.intr, "a poll takes the request");
    out8(0x20, 0x0c);
    CHECK_MSG(in8(0x21) == 0x00, "a poll of nothing");
    out8(0x20, 0x20);
}

static void test_levels(void)
{
    init_pair(1);
    out8(0x4d0, 0xff);
    out8(0x4d1, 0xff);
    CHECK_MSG(in8(0x4d0) == 0xf8 && in8(0x4d1) == 0xde, "timer, keyboard, cascade, clock, FERR stay edges");
    line(11, true);
    CHECK(take_interrupt() == 0x73);
    eoi(11);
    CHECK_MSG(the_cpu.intr && take_interrupt() == 0x73, "a level that stays comes again");
    line(11, false);
    eoi(11);
    CHECK(!the_cpu.intr);
    line(5, true);
    line(5, false);
    CHECK_MSG(!the_cpu.intr, "a level that went is not requested");
    line(10, true);
    out8(0x20, 0x11);
    out8(0x21, 0x08);
    out8(0x21, 0x04);
    CHECK_MSG(!the_cpu.intr, "nothing is delivered in the middle of initialisation");
    out8(0x21, 0x01);
    CHECK_MSG(the_cpu.intr, "a level survives initialisation");
    line(10, false);
    out8(0x4d0, 0);
    out8(0x4d1, 0);
}

static void test_spurious(void)
{
    static int one = 1;
    IrqReturn back = pic_return(pic, 0), back9 = pic_return(pic, 9);

    init_pair(1);
    CHECK_MSG(pic_ack(pic) == 0x0f, "an acknowledge of nothing is IRQ 7");
    out8(0x20, 0x0b);
    CHECK_MSG(in8(0x20) == 0, "and is not in service");
    out8(0x20, 0x0a);
    CHECK(!pic_line(pic, 2).set && !pic_line(pic, 16).set && !pic_line(pic, -1).set);

    back.watch(back.opaque, back.n, on_end, &one);
    CHECK(back.open(back.opaque, back.n) && !back.pending(back.opaque, back.n));
    edge(0);
    CHECK(back.pending(back.opaque, back.n));
    CHECK(take_interrupt() == 0x08 && !back.pending(back.opaque, back.n) && !ended);
    eoi(0);
    CHECK_MSG(ended == 1, "the source hears of the end of its interrupt");
    eoi(0);
    CHECK_MSG(ended == 1, "but not of others");
    out8(0x21, 0x04);
    CHECK(back.open(back.opaque, back.n));
    CHECK_MSG(!back9.open(back9.opaque, back9.n), "behind a masked cascade");
    init_pair(3);
    edge(0);
    CHECK_MSG(take_interrupt() == 0x08 && ended == 2, "automatic EOI is an end");
}

static void random_lines(void)
{
    line((int)(rnd() % 18) - 1, rnd() & 1);
    if (rnd() % 4 == 0)
        take_interrupt();
}

int main(void)
{
    static const Range ports[] = { { 0x20, 2 }, { 0xa0, 2 }, { 0x4d0, 2 } };

    bench_machine(NULL);
    pic = pic_create(m, cpu_intr_line(&the_cpu));
    cpu_connect_intack(&the_cpu, pic_ack, pic);
    devices_reset(m);
    test_edges();
    test_priorities();
    test_modes();
    test_levels();
    test_spurious();
    port_storm(ports, ARRAY_LEN(ports), 300000, random_lines);
    check_saves("pic");
    devices_reset(m);
    for (int n = 0; n < 16; n++)
        line(n, false);
    test_edges();
    bench_end();
    return test_end();
}
