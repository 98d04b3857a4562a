/* I/O APIC: edges, levels with remote IRR, masks, destinations, registers, the ISA fan-out, ticks. */
#include "chip_bench.h"

#include "../devices/ioapic.h"
#include "../devices/pit.h"

static Pic *pic;
static Lapic *apic;
static Ioapic *io;

static u32 rd(u32 reg)
{
    mem_bus_write(m->mem, 0xfec00000, reg, 4);
    return (u32)mem_bus_read(m->mem, 0xfec00010, 4);
}

static void wr(u32 reg, u32 v)
{
    mem_bus_write(m->mem, 0xfec00000, reg, 4);
    mem_bus_write(m->mem, 0xfec00010, v, 4);
}

static void entry(int pin, u32 low) { wr(0x10 + 2 * (u32)pin, low); }
static void line(int pin, bool level) { irq_set(ioapic_line(io, pin), level); }
static void eoi(void) { mem_bus_write(m->mem, 0xfee000b0, 0, 4); }
static void apic_on(void) { mem_bus_write(m->mem, 0xfee000f0, 0x1ff, 4); }

static void test_registers(void)
{
    CHECK(rd(1) == 0x00170011 && rd(0x10) == 0x10000 && rd(0x3e) == 0x10000 && rd(0x40) == 0);
    wr(0, 0xffffffff);
    CHECK_MSG(rd(0) == 0x0f000000 && rd(2) == 0x0f000000, "id");
    wr(0, 0);
    wr(0x13, 0xffffffff);
    CHECK_MSG(rd(0x13) == 0xff000000, "destination");
    wr(0x13, 0);
    wr(0x12, 0xffffffff);
    CHECK_MSG(rd(0x12) == 0x1afff, "status and remote IRR are read-only: %x", rd(0x12));
    wr(0x12, 0x10000);
}

static void test_edge(void)
{
    entry(4, 0x10044);
    line(4, true);
    CHECK_MSG(take_interrupt() == -1, "masked");
    entry(4, 0x00044);
    CHECK_MSG(take_interrupt() == -1, "an edge on a masked pin is lost");
    line(4, false);
    line(4, true);
    CHECK(take_interrupt() == 0x44);
    line(4, false);
    line(4, true);
    line(4, false);
    eoi();
    CHECK_MSG(take_interrupt() == 0x44, "an edge while in service waits in the local APIC");
    eoi();
    entry(4, 0x10000);
}

static void test_level(void)
{
    entry(11, 0x0a055);             /* level, active low: lines here are asserted or not */
    line(11, true);
    CHECK(take_interrupt() == 0x55);
    CHECK_MSG(rd(0x26) & 0x4000, "remote IRR");
    line(11, false);
    line(11, true);
    CHECK(take_interrupt() == -1);
    eoi();
    CHECK_MSG(take_interrupt() == 0x55, "still asserted at the EOI: again");
    line(11, false);
    eoi();
    CHECK(take_interrupt() == -1 && !(rd(0x26) & 0x4000));
    entry(11, 0x1a055);
    line(11, true);
    CHECK(take_interrupt() == -1);
    entry(11, 0x0a055);
    CHECK_MSG(take_interrupt() == 0x55, "a level is seen when it is unmasked");
    entry(11, 0x12055);
    CHECK_MSG(!(rd(0x26) & 0x4000), "switching to edge clears a stuck remote IRR");
    line(11, false);
    eoi();
    wr(0x27, 0x05000000);
    entry(11, 0x0a055);
    line(11, true);
    CHECK_MSG(take_interrupt() == -1 && !(rd(0x26) & 0x4000), "for another CPU: not taken");
    line(11, false);
    wr(0x27, 0);
    entry(11, 0x10000);
}

static void test_isa(void)
{
    Irq isa1 = ioapic_isa_line(io, pic, 1), isa0 = ioapic_isa_line(io, pic, 0);

    entry(1, 0x61);
    entry(2, 0x62);
    out8(0x21, 0xff);
    irq_pulse(isa1);
    CHECK(take_interrupt() == 0x61);
    eoi();
    irq_pulse(isa0);
    CHECK_MSG(take_interrupt() == 0x62, "IRQ 0 is on pin 2");
    eoi();
    out8(0x20, 0x0a);
    CHECK_MSG((in8(0x20) & 3) == 3, "and the 8259 pair sees both too");
    CHECK(!ioapic_isa_line(io, pic, 16).set && !ioapic_line(io, 24).set);
    entry(1, 0x10000);
    entry(2, 0x10000);
}

/* Ticks through the I/O APIC are made up for as those through the 8259 pair are. */
static void test_ticks(void)
{
    u64 ticks = 0;

    entry(2, 0x62);
    out8(0x43, 0x34);
    out8(0x40, 1193 & 0xff);
    out8(0x40, 1193 >> 8);
    for (int i = 0; i < 20000; i++) {
        pass(100 * US);
        if (i == 5000)
            oversleep(300 * MS);
        while (take_interrupt() == 0x62) {
            ticks++;
            eoi();
        }
    }
    CHECK_MSG(ticks >= 2298 && ticks <= 2302, "%llu ticks in 2.3 s", (unsigned long long)ticks);
    entry(2, 0x10000);
    pass(SEC);
    CHECK(take_interrupt() == -1);
}

static void storm(void)
{
    for (int i = 0; i < 400000; i++) {
        switch (rnd() % 6) {
        case 0: case 1:
            wr(rnd() % 0x50, rnd() & (rnd() & 1 ? 0x1ffff : ~0u));
            break;
        case 2:
            mem_bus_read(m->mem, 0xfec00000 + rnd() % 0x1000, 1u << rnd() % 4);
            mem_bus_write(m->mem, 0xfec00000 + rnd() % 0x20, rnd(), 1u << rnd() % 4);
            break;
        case 3:
            line((int)(rnd() % 26) - 1, rnd() & 1);
            break;
        case 4:
            if (take_interrupt() >= 0 && rnd() & 1)
                eoi();
            break;
        case 5:
            oversleep(rnd() % (100 * US));
            timers_run(m);
            break;
        }
    }
}

int main(void)
{
    Pit *pit;

    bench_machine(NULL);
    pic = pic_create(m, (Irq){ 0 });
    apic = lapic_create(m, &the_cpu, pic);
    io = ioapic_create(m, apic);
    pit = pit_create(m, ioapic_isa_line(io, pic, 0));
    pit_connect_return(pit, pic_return(pic, 0));
    pit_connect_return(pit, ioapic_return(io, 2));
    devices_reset(m);
    apic_on();
    test_registers();
    test_edge();
    test_level();
    test_isa();
    test_ticks();
    storm();
    check_saves("ioapic");
    devices_reset(m);
    apic_on();
    for (int n = 0; n < 24; n++)
        line(n, false);
    test_edge();
    bench_end();
    return test_end();
}
