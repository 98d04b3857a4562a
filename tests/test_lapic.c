/* Local APIC: virtual wire, priorities, end of interrupt, timer, commands, destinations, base register. */
#include "chip_bench.h"

#include "../devices/lapic.h"
#include "../devices/pic.h"

enum {
    VERSION = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100,
    IRR = 0x200, ESR = 0x280, ICR = 0x300, ICR_HIGH = 0x310, LVT_TIMER = 0x320, LVT_LINT0 = 0x350,
    TIMER_INIT = 0x380, TIMER_NOW = 0x390, TIMER_DIVIDE = 0x3e0,
};

static Pic *pic;
static Lapic *apic;
static u64 at = 0xfee00000;
static int eois, last_vector, last_level;

static u32 rd(u32 reg) { return (u32)mem_bus_read(m->mem, at + reg, 4); }
static void wr(u32 reg, u32 v) { mem_bus_write(m->mem, at + reg, v, 4); }
static void eoi(void) { wr(EOI, 0); }

static void heard(void *opaque, u8 vector, bool level)
{
    (void)opaque;
    eois++;
    last_vector = vector;
    last_level = level;
}

static bool send(u8 vector, bool level) { return lapic_message(apic, 0, false, APIC_FIXED, vector, level); }

static void init_pic(void)
{
    static const u8 words[4] = { 0x11, 8, 4, 1 };

    for (int i = 0; i < 4; i++)
        out8(0x20 + (i != 0), words[i]);
    out8(0x21, 0);
}

static void test_virtual_wire(void)
{
    CHECK(rd(VERSION) == 0x00050014 && rd(SVR) == 0xff && rd(DFR) == 0xffffffff);
    irq_pulse(pic_line(pic, 1));
    CHECK_MSG(take_interrupt() == 9, "after reset the 8259 pair passes through");
    out8(0x20, 0x20);
    CHECK(!the_cpu.intr);
    wr(LVT_LINT0, 0x10700);
    irq_pulse(pic_line(pic, 1));
    CHECK_MSG(!the_cpu.intr, "LINT0 masked holds it");
    wr(SVR, 0x1ff);
    wr(LVT_LINT0, 0x08700);
    CHECK_MSG(rd(LVT_LINT0) == 0x9700 && take_interrupt() == 9, "open, as firmware sets it");
    out8(0x20, 0x20);
    CHECK(!send(0x31, false) || take_interrupt() == 0x31);
    eoi();
    irq_pulse(pic_line(pic, 2 + 1));
    CHECK(send(0x31, false));
    CHECK_MSG(take_interrupt() == 0x31 && take_interrupt() == 11, "the APIC's own come before the pair's");
    eoi();
    out8(0x20, 0x20);
    wr(LVT_LINT0, 0x00033);
    irq_pulse(pic_line(pic, 4));
    CHECK_MSG(take_interrupt() == 0x33, "LINT0 as a vector");
    eoi();
    pic_ack(pic);
    out8(0x20, 0x20);
    wr(LVT_LINT0, 0x00400);
    the_cpu.nmis = 0;
    irq_pulse(pic_line(pic, 4));
    CHECK_MSG(the_cpu.nmis == 1 && !the_cpu.intr, "LINT0 as NMI: a watchdog");
    pic_ack(pic);
    out8(0x20, 0x20);
    wr(SVR, 0x0ff);
    CHECK_MSG(rd(LVT_LINT0) & 0x10000, "switching off masks the local vectors");
    CHECK_MSG(!send(0x31, false) && !the_cpu.intr, "and takes no messages");
    wr(SVR, 0x1ff);
}

static void test_priorities(void)
{
    send(0x41, false);
    send(0x62, false);
    CHECK(rd(IRR + 0x20) == 2 && rd(IRR + 0x30) == 4 && lapic_requested(apic, 0x62));
    CHECK_MSG(take_interrupt() == 0x62 && rd(PPR) == 0x60, "the higher vector first");
    CHECK(rd(ISR + 0x30) == 4 && !rd(IRR + 0x30) && !the_cpu.intr);
    send(0x6f, false);
    CHECK_MSG(!the_cpu.intr, "the same class waits");
    send(0x71, false);
    CHECK_MSG(take_interrupt() == 0x71, "a higher class nests");
    eois = 0;
    eoi();
    CHECK_MSG(eois == 1 && last_vector == 0x71 && !last_level, "EOI ends the highest");
    CHECK(!the_cpu.intr);
    eoi();
    CHECK(take_interrupt() == 0x6f);
    eoi();
    CHECK(take_interrupt() == 0x41);
    eoi();
    eoi();
    CHECK_MSG(eois == 4, "an EOI of nothing is silent");
    wr(TPR, 0x50);
    send(0x5f, false);
    CHECK_MSG(!the_cpu.intr && rd(PPR) == 0x50, "the task priority holds what is not above its class");
    send(0x60, true);
    CHECK(take_interrupt() == 0x60);
    eoi();
    CHECK_MSG(last_vector == 0x60 && last_level, "a level-triggered one is told as such");
    wr(TPR, 0);
    CHECK(take_interrupt() == 0x5f);
    eoi();
    send(0x41, false);
    wr(TPR, 0xf0);
    CHECK_MSG(!the_cpu.intr && the_cpu.ack(the_cpu.ack_opaque) == -1, "raised before the acknowledge");
    wr(TPR, 0);
    take_interrupt();
    eoi();
    wr(ESR, 0);
    send(0x0f, false);
    wr(ESR, 0);
    CHECK_MSG(rd(ESR) == 0x40 && !the_cpu.intr, "vectors below 16 are errors");
}

static void test_commands(void)
{
    wr(ICR, 0x40055);
    CHECK_MSG(take_interrupt() == 0x55, "to self");
    eoi();
    wr(ICR, 0x80056);
    CHECK_MSG(take_interrupt() == 0x56, "to all");
    eoi();
    wr(ICR, 0xc0057);
    CHECK_MSG(take_interrupt() == -1, "to all others: there are none");
    wr(ICR_HIGH, 0x01000000);
    wr(ICR, 0x00058);
    CHECK(take_interrupt() == -1);
    wr(ICR_HIGH, 0);
    wr(ICR, 0x00058);
    CHECK(take_interrupt() == 0x58);
    eoi();
    wr(ICR_HIGH, 0xff000000);
    wr(ICR, 0x00059);
    CHECK_MSG(take_interrupt() == 0x59, "FFh is everybody");
    eoi();
    wr(LDR, 0x04000000);
    CHECK_MSG(lapic_message(apic, 0x0c, true, APIC_LOWEST, 0x60, false), "flat logical destination");
    CHECK(!lapic_message(apic, 0x03, true, APIC_FIXED, 0x61, false));
    wr(DFR, 0x0fffffff);
    wr(LDR, 0x24000000);
    CHECK_MSG(lapic_message(apic, 0x26, true, APIC_FIXED, 0x61, false) &&
              !lapic_message(apic, 0x16, true, APIC_FIXED, 0x62, false) &&
              !lapic_message(apic, 0x22, true, APIC_FIXED, 0x62, false), "cluster destinations");
    wr(DFR, 0xffffffff);
    CHECK(take_interrupt() == 0x61);
    eoi();
    CHECK(take_interrupt() == 0x60);
    eoi();
    the_cpu.nmis = the_cpu.smis = the_cpu.inits = 0;
    wr(ICR, 0x40400);
    wr(ICR, 0x40200);
    CHECK_MSG(the_cpu.nmis == 1 && the_cpu.smis == 1, "NMI and SMI by command");
    wr(ICR, 0x4c500);
    wr(ICR, 0xc4500);
    wr(ICR, 0xc4608);
    CHECK_MSG(!the_cpu.inits, "INIT and STARTUP do no harm");
}

static void test_timer(void)
{
    int fired = 0;

    wr(TIMER_DIVIDE, 0x3);          /* by 16: 160 ns */
    wr(LVT_TIMER, 0x000e0);
    wr(TIMER_INIT, 10000);          /* 1.6 ms */
    CHECK(rd(TIMER_NOW) > 9990);
    pass(800 * US);
    CHECK_MSG(rd(TIMER_NOW) >= 4999 && rd(TIMER_NOW) <= 5001, "counts down: %u", rd(TIMER_NOW));
    CHECK(take_interrupt() == -1);
    pass(801 * US);
    CHECK_MSG(take_interrupt() == 0xe0 && rd(TIMER_NOW) == 0, "one shot");
    eoi();
    pass(SEC);
    CHECK_MSG(take_interrupt() == -1 && timers_run(m) == TIMER_NEVER, "and no more");
    wr(LVT_TIMER, 0x200e1);
    pass(SEC);
    CHECK_MSG(take_interrupt() == -1, "a count that has run out does not start by itself");
    wr(TIMER_INIT, 62500);          /* 10 ms */
    for (int i = 0; i < 1000; i++) {
        pass(MS);
        if (take_interrupt() == 0xe1) {
            fired++;
            eoi();
        }
    }
    CHECK_MSG(fired == 100, "periodic: %d", fired);
    oversleep(300 * MS);
    for (int i = 0; i < 7000; i++) {
        pass(100 * US);
        if (take_interrupt() == 0xe1) {
            fired++;
            eoi();
        }
    }
    CHECK_MSG(fired == 200, "periods that were missed are made up for: %d", fired);
    pass(5 * MS);
    wr(LVT_TIMER, 0x000e1);
    CHECK_MSG(take_interrupt() == -1, "from periodic to one-shot in the middle of a period");
    pass(6 * MS);
    CHECK_MSG(take_interrupt() == 0xe1 && rd(TIMER_NOW) == 0, "what is left of it is the shot");
    eoi();
    wr(LVT_TIMER, 0x200e1);
    wr(TIMER_INIT, 62500);
    wr(LVT_TIMER, 0x300e1);
    pass(100 * MS);
    CHECK_MSG(take_interrupt() == -1 && timers_run(m) == TIMER_NEVER, "masked, nobody is woken");
    CHECK(rd(TIMER_NOW) > 0 && rd(TIMER_NOW) <= 62500);
    wr(LVT_TIMER, 0x000e2);
    wr(TIMER_INIT, 1000);
    oversleep(MS);
    wr(LVT_TIMER, 0x100e2);
    CHECK_MSG(take_interrupt() == 0xe2, "what was due before the guest masked it is not lost");
    eoi();
    wr(LVT_TIMER, 0x000e2);
    wr(TIMER_DIVIDE, 0xb);          /* by 1 */
    wr(TIMER_INIT, 100000);
    pass(500 * US);
    wr(TIMER_DIVIDE, 0x0);          /* by 2 */
    CHECK_MSG(rd(TIMER_NOW) == 50000, "what is left goes on at the new rate: %u", rd(TIMER_NOW));
    pass(999 * US);
    CHECK(take_interrupt() == -1);
    pass(2 * US);
    CHECK(take_interrupt() == 0xe2);
    eoi();
    wr(LVT_TIMER, 0x200e3);
    wr(TIMER_DIVIDE, 0xb);
    wr(TIMER_INIT, 1);
    fired = 0;
    for (u64 end = bench_now + 100 * MS; bench_now < end; fired++) {
        u64 next = timers_run(m);

        bench_now = next > bench_now ? next : bench_now + 1;
        host_posix_set_time(bench_now);
    }
    CHECK_MSG(fired < 1100, "the shortest period wakes the host %d times in 100 ms", fired);
    wr(TIMER_INIT, 0);
    take_interrupt();
    eoi();
    CHECK(timers_run(m) == TIMER_NEVER && rd(TIMER_NOW) == 0);
}

static void test_base(void)
{
    CHECK(the_cpu.get_base(the_cpu.apic_opaque) == 0xfee00900);
    the_cpu.set_base(the_cpu.apic_opaque, 0xfed40900);
    CHECK_MSG(rd(VERSION) == 0xffffffff, "moved away");
    at = 0xfed40000;
    CHECK_MSG(rd(VERSION) == 0x00050014, "to there");
    irq_pulse(pic_line(pic, 1));
    the_cpu.set_base(the_cpu.apic_opaque, 0xfee00000);
    CHECK_MSG(rd(VERSION) == 0xffffffff && take_interrupt() == 9, "off: the pair goes straight to the CPU");
    out8(0x20, 0x20);
    at = 0xfee00000;
    the_cpu.set_base(the_cpu.apic_opaque, 0xfee00900);
    CHECK(rd(SVR) == 0xff && rd(VERSION) == 0x00050014);
    CHECK(rd(0x24) == 0 && rd(0x3f0) == 0);
}

static void storm(void)
{
    static const u64 bases[] = { 0xfee00900, 0xfee00000, 0xfed00800, 0x100900, ~0ull };

    for (int i = 0; i < 400000; i++) {
        u32 reg = rnd() % 4 ? rnd() % 0x40 * 16 : rnd() % 0x1000;

        switch (rnd() % 8) {
        case 0: case 1: case 2:
            mem_bus_write(m->mem, at + reg, rnd() % 3 ? rnd() : rnd() & 0x7ff, 1u << rnd() % 3);
            break;
        case 3: case 4:
            mem_bus_read(m->mem, at + reg, 1u << rnd() % 4);
            break;
        case 5:
            lapic_message(apic, (u8)rnd(), rnd() & 1, (u8)rnd(), (u8)rnd(), rnd() & 1);
            break;
        case 6:
            irq_set(pic_line(pic, (int)(rnd() % 16)), rnd() & 1);
            take_interrupt();
            break;
        case 7:
            if (rnd() % 100 == 0)
                the_cpu.set_base(the_cpu.apic_opaque, bases[rnd() % ARRAY_LEN(bases)]);
            oversleep(rnd() % (100 * US));
            timers_run(m);
            break;
        }
    }
}

int main(void)
{
    bench_machine(NULL);
    pic = pic_create(m, (Irq){ 0 });
    apic = lapic_create(m, &the_cpu, pic);
    lapic_on_eoi(apic, heard, NULL);
    devices_reset(m);
    init_pic();
    test_virtual_wire();
    test_priorities();
    test_commands();
    test_timer();
    test_base();
    storm();
    check_saves("lapic");
    for (int n = 0; n < 16; n++)
        irq_set(pic_line(pic, n), false);
    devices_reset(m);
    init_pic();
    test_virtual_wire();
    bench_end();
    return test_end();
}
