/* 8254: counts and outputs of all modes, latches, BCD, gate, port 61h; ticks on time, missed ones as well. */
#include "chip_bench.h"

#include "../devices/pic.h"
#include "../devices/pit.h"

static Pic *pic;
static u64 ticks;               /* interrupts taken */
static bool guest_on = true;    /* the guest takes its interrupts at once */

/* Time of so many PIT clocks, in the middle of a clock. */
static u64 clocks(u64 n) { return muldiv64(n, SEC, PIT_HZ); }

static void program(int c, int mode, u32 count)
{
    out8(0x43, (u8)(c << 6 | 0x30 | mode << 1));
    out8(0x40 + (u32)c, (u8)count);
    out8(0x40 + (u32)c, (u8)(count >> 8));
}

static u32 read_count(int c)
{
    u32 low = in8(0x40 + (u32)c);

    return low | (u32)in8(0x40 + (u32)c) << 8;
}

static u32 latched(int c)
{
    out8(0x43, (u8)(c << 6));
    return read_count(c);
}

static u8 status_of(int c)
{
    out8(0x43, (u8)(0xe0 | 2 << c));
    return in8(0x40 + (u32)c);
}

static bool out2(void) { return in8(0x61) >> 5 & 1; }
static bool is_near(u32 a, u32 b) { return a - b + 2 <= 4; }

/* The guest's handler: whatever is offered is taken and ended. */
static void serve(void)
{
    while (guest_on && take_interrupt() >= 0) {
        ticks++;
        out8(0x20, 0x20);
    }
}

/* Time passes in steps with a guest that serves interrupts in between. */
static void live(u64 ns, u64 step)
{
    for (u64 done = 0; done < ns; done += step) {
        pass(step);
        serve();
    }
}

static void init_pic(void)
{
    static const u8 words[8] = { 0x11, 8, 4, 1, 0x11, 0x70, 2, 1 };

    for (int i = 0; i < 8; i++)
        out8((u32)(i < 4 ? 0x20 : 0xa0) + (i % 4 != 0), words[i]);
    out8(0x21, 0xfe);
    out8(0xa1, 0xff);
}

static void test_counting(void)
{
    u32 a;

    out8(0x61, 1);
    program(2, 0, 10000);
    CHECK_MSG(!out2(), "mode 0: OUT falls with the control word");
    CHECK(status_of(2) == (0x40 | 0x30) || status_of(2) == 0x30);
    pass(clocks(4000));
    CHECK_MSG(is_near(latched(2), 6000), "mode 0 counts down by one a clock: %u", latched(2));
    out8(0x61, 0);
    pass(clocks(3000));
    CHECK_MSG(is_near(latched(2), 6000), "a closed gate holds it");
    out8(0x61, 1);
    pass(clocks(5990));
    CHECK(!out2());
    pass(clocks(14));
    CHECK_MSG(out2() && status_of(2) == 0xb0, "OUT rises at the terminal count");
    pass(clocks(100));
    CHECK_MSG(latched(2) > 65400, "and the count goes on from FFFF");
    out8(0x42, 0x00);
    CHECK_MSG(!out2(), "the first half of a new count stops mode 0");
    out8(0x42, 0x10);
    pass(clocks(0x1002));
    CHECK(out2());

    program(2, 1, 1000);
    CHECK_MSG(out2() && status_of(2) & 0x40, "mode 1 waits for the gate");
    pass(clocks(5000));
    CHECK(out2());
    out8(0x61, 0);
    out8(0x61, 1);
    CHECK_MSG(!out2(), "one-shot starts at the gate's edge");
    pass(clocks(990));
    CHECK(!out2());
    out8(0x61, 0);
    out8(0x61, 1);
    pass(clocks(990));
    CHECK_MSG(!out2(), "and again");
    pass(clocks(20));
    CHECK(out2());

    program(2, 2, 1000);
    pass(clocks(2500));
    a = latched(2);
    CHECK_MSG(is_near(a, 500) && out2(), "mode 2 goes round: %u", a);
    out8(0x42, 0xd0);
    out8(0x42, 0x07);
    pass(clocks(400));
    CHECK_MSG(is_near(latched(2), 100), "a new count waits for the end of the period");
    CHECK(status_of(2) & 0x40);
    pass(clocks(200));
    CHECK_MSG(is_near(latched(2), 1900) && !(status_of(2) & 0x40), "%u", latched(2));
    out8(0x61, 0);
    CHECK(out2());
    pass(clocks(777));
    CHECK_MSG(is_near(latched(2), 1900), "gate low stops mode 2");
    out8(0x61, 1);
    CHECK_MSG(latched(2) >= 1998, "and its edge starts it anew: %u", latched(2));

    program(2, 3, 1000);
    pass(clocks(100));
    CHECK_MSG(is_near(latched(2), 800) && out2(), "mode 3 counts by two: %u", latched(2));
    pass(clocks(500));
    CHECK_MSG(is_near(latched(2), 800) && !out2(), "twice a period, low in the second half");
    pass(clocks(500));
    CHECK(out2());
    program(2, 3, 0xffff);
    CHECK(!(latched(2) & 1));

    program(2, 4, 1000);
    pass(clocks(1001));
    a = 0;
    for (int i = -3; i < 6; i++, pass(clocks(1)))
        a += !out2();
    CHECK_MSG(a <= 3, "mode 4 strobes for one clock");
    CHECK(latched(2) > 65000);
    program(2, 5, 1000);
    CHECK(out2());
    out8(0x61, 0);
    out8(0x61, 1);
    pass(clocks(500));
    CHECK_MSG(is_near(latched(2), 500) && out2(), "mode 5 counts from the trigger on");
}

static void test_access(void)
{
    u32 a, b;

    out8(0x61, 1);
    program(2, 2, 0);
    a = latched(2);
    CHECK_MSG(a == 0 || a > 0xfff0, "0 is 65536");
    out8(0x43, 0x80);
    pass(clocks(1000));
    out8(0x43, 0x80);
    a = read_count(2);
    CHECK_MSG(a == 0 || a > 0xfff0, "a second latch command is ignored");
    b = read_count(2);
    CHECK_MSG(is_near(b, 65536 - 1000), "unlatched reads see the counter: %u", b);
    out8(0x43, 0xc8);               /* read-back: count and status */
    a = in8(0x42);
    CHECK_MSG((a & 0x3f) == 0x34, "status comes first: %02x", a);
    CHECK(is_near(read_count(2), 65536 - 1000));
    out8(0x43, 0x94);
    out8(0x42, 200);
    pass(clocks(50));
    CHECK_MSG(is_near(in8(0x42), 150) && is_near(in8(0x42), 150), "low byte only");
    out8(0x43, 0xa4);
    out8(0x42, 0x10);
    pass(clocks(0x300));
    CHECK_MSG(in8(0x42) == 0x0c || in8(0x42) == 0x0d, "high byte only");
    out8(0x43, 0xb5);
    out8(0x42, 0x34);
    out8(0x42, 0x12);
    pass(clocks(234));
    CHECK_MSG(is_near(latched(2), 0x1000) || is_near(latched(2), 0x0999), "BCD: %04x", latched(2));
    out8(0x43, 0xb1);
    out8(0x42, 0);
    out8(0x42, 0);
    pass(clocks(3));
    CHECK_MSG(latched(2) >= 0x9990, "0 is 10000 in BCD");
    CHECK(in8(0x43) == 0xff);
    out8(0x61, 0xff);
    CHECK_MSG((in8(0x61) & 0xcf) == 0x0f, "port 61h keeps bits 0-3");
    a = b = 0;
    for (int i = 0; i < 200; i++, pass(5 * US))
        (in8(0x61) & 0x10 ? ++a : ++b);
    CHECK_MSG(a > 60 && b > 60, "the refresh bit toggles");
    out8(0x61, 0);
}

static void test_ticks(void)
{
    u64 start;

    init_pic();
    ticks = 0;
    program(0, 2, 1193);
    live(SEC, 100 * US);
    CHECK_MSG(ticks >= 999 && ticks <= 1001, "1000 Hz: %llu", (unsigned long long)ticks);
    program(0, 3, 0);
    ticks = 0;
    live(10 * SEC, MS);
    CHECK_MSG(ticks >= 181 && ticks <= 183, "18.2 Hz: %llu", (unsigned long long)ticks);
    program(0, 4, 11932);
    ticks = 0;
    live(9990 * US, 90 * US);
    CHECK(!ticks);
    live(100 * MS, 100 * US);
    CHECK_MSG(ticks == 1, "mode 4 ticks once");
    program(0, 0, 11932);
    live(100 * MS, 100 * US);
    CHECK_MSG(ticks == 2, "so does mode 0");
    start = clock_ns(m, CLOCK_VIRTUAL);
    pass(100 * SEC);
    CHECK_MSG(clock_ns(m, CLOCK_VIRTUAL) - start == 100 * SEC && timers_run(m) == TIMER_NEVER,
              "a counter that has run out wakes nobody");
}

static void test_missed(void)
{
    u64 before;

    init_pic();
    program(0, 2, 1193);
    ticks = 0;
    live(100 * MS, 100 * US);
    oversleep(500 * MS);            /* the host had other things to do */
    before = ticks;
    serve();
    live(10 * MS, 100 * US);
    before = ticks - before;
    CHECK_MSG(before < 40, "missed ticks are spread: %llu in 10 ms", (unsigned long long)before);
    live(1390 * MS, 100 * US);
    CHECK_MSG(ticks >= 1998 && ticks <= 2002, "and none is lost: %llu in 2 s", (unsigned long long)ticks);

    guest_on = false;               /* a guest that keeps interrupts off */
    ticks = 0;
    live(300 * MS, 100 * US);
    guest_on = true;
    live(1700 * MS, 100 * US);
    CHECK_MSG(ticks >= 1998 && ticks <= 2002, "nor while the guest is busy: %llu", (unsigned long long)ticks);
    guest_on = false;
    live(60 * SEC, 10 * MS);
    guest_on = true;
    ticks = 0;
    live(20 * SEC, 100 * US);
    CHECK_MSG(ticks > 20000 && ticks <= 25010, "but not for ever: %llu", (unsigned long long)ticks);

    out8(0x21, 0xff);
    live(5 * SEC, 10 * MS);
    out8(0x21, 0xfe);
    ticks = 0;
    live(SEC, 100 * US);
    CHECK_MSG(ticks <= 1003, "a masked line is not made up for: %llu", (unsigned long long)ticks);

    program(0, 2, 60);              /* 20 kHz: sound by the speaker */
    ticks = 0;
    live(SEC, 20 * US);
    CHECK_MSG(ticks > 19000 && ticks < 20500, "20 kHz: %llu", (unsigned long long)ticks);
}

static void test_storm_of_one(void)
{
    u64 wakes = 0, end = bench_now + SEC;

    init_pic();
    program(0, 2, 1);
    while (bench_now < end) {
        u64 next = timers_run(m);

        wakes++;
        bench_now = next > bench_now ? next : bench_now + 1;
        host_posix_set_time(bench_now);
        serve();
    }
    CHECK_MSG(wakes < 10000, "a count of 1 wakes the host %llu times a second", (unsigned long long)wakes);
    CHECK(wakes > 100);
}

static void random_guest(void)
{
    if (rnd() % 3 == 0)
        serve();
}

int main(void)
{
    static const Range ports[] = { { 0x40, 4 }, { 0x61, 1 }, { 0x40, 1 }, { 0x43, 1 } };
    static const Range pics[] = { { 0x40, 4 }, { 0x61, 1 }, { 0x20, 2 } };
    Pit *pit;

    bench_machine(NULL);
    pic = pic_create(m, cpu_intr_line(&the_cpu));
    cpu_connect_intack(&the_cpu, pic_ack, pic);
    pit = pit_create(m, pic_line(pic, 0));
    pit_connect_return(pit, pic_return(pic, 0));
    devices_reset(m);
    test_counting();
    test_access();
    test_ticks();
    test_missed();
    test_storm_of_one();
    port_storm(ports, ARRAY_LEN(ports), 300000, random_guest);
    init_pic();
    check_saves("pit");
    port_storm(pics, ARRAY_LEN(pics), 300000, random_guest);
    devices_reset(m);
    test_ticks();
    bench_end();
    return test_end();
}
