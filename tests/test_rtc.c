/* MC146818: time in every format, setting it, the calendar's corners, the three interrupts, memory, reset. */
#include "chip_bench.h"

#include "../devices/rtc.h"

static Rtc *rtc;
static bool irq8;
static int edges;

static void irq_changed(void *opaque, int n, bool level)
{
    (void)opaque;
    (void)n;
    edges += level && !irq8;
    irq8 = level;
}

static u8 rd(u8 reg)
{
    out8(0x70, reg);
    return in8(0x71);
}

static void wr(u8 reg, u8 v)
{
    out8(0x70, reg);
    out8(0x71, v);
}

/* Century, year, month, day, weekday, hour, minute, second as the registers have them. */
static const char *shown(void)
{
    static char text[40];

    snprintf(text, sizeof(text), "%02x%02x-%02x-%02x %x %02x:%02x:%02x", rd(0x32), rd(9), rd(8), rd(7), rd(6),
             rd(4), rd(2), rd(0));
    return text;
}

static bool shows(const char *want)
{
    if (!strcmp(shown(), want))
        return true;
    printf("clock shows %s, not %s\n", shown(), want);
    return false;
}

static void set_clock(u8 century, u8 year, u8 month, u8 day, u8 hour, u8 minute, u8 second)
{
    wr(11, rd(11) | 0x80);
    wr(0x32, century);
    wr(9, year);
    wr(8, month);
    wr(7, day);
    wr(4, hour);
    wr(2, minute);
    wr(0, second);
    wr(11, rd(11) & 0x7f);
}

static void test_time(void)
{
    CHECK_MSG(shows("2006-06-17 7 12:34:56"), "starts at the base it was given, a Saturday");
    CHECK(rd(13) == 0x80 && rd(10) == 0x26 && rd(11) == 0x02);
    pass(3 * SEC + 999 * MS);
    CHECK(shows("2006-06-17 7 12:34:59"));
    pass(MS);
    CHECK_MSG(shows("2006-06-17 7 12:35:00"), "goes with the virtual clock");
    wr(11, 0x06);
    CHECK_MSG(shows("1406-06-11 7 0c:23:00"), "binary");
    wr(11, 0x00);
    CHECK_MSG(rd(4) == 0x92, "12 PM");
    pass(3600 * SEC);
    CHECK_MSG(rd(4) == 0x81, "1 PM");
    wr(11, 0x04);
    pass(11 * 3600 * SEC);
    CHECK_MSG(rd(4) == 12 && rd(7) == 18, "12 AM of the next day");
    wr(11, 0x02);
    CHECK(shows("2006-06-18 1 00:35:00"));

    set_clock(0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59);
    pass(SEC);
    CHECK_MSG(!strncmp(shown(), "2000-02-29", 10), "2000 was a leap year: %s", shown());
    set_clock(0x21, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59);
    pass(SEC);
    CHECK_MSG(!strncmp(shown(), "2100-03-01", 10), "2100 will be none: %s", shown());
    set_clock(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59);
    pass(SEC);
    CHECK_MSG(!strncmp(shown(), "2000-01-01", 10), "%s", shown());
    wr(6, 3);
    CHECK_MSG(rd(6) == 3, "the weekday is what the guest says");
    pass(86400 * SEC);
    CHECK(rd(6) == 4);
    wr(6, rd(6) == 4 ? 2 : 1);
    wr(2, 0x45);
    CHECK_MSG(rd(2) == 0x45 && rd(6) == 2, "a single register can be set while the clock runs");

    set_clock(0x20, 0x06, 0x06, 0x17, 0x12, 0x00, 0x00);
    pass(10 * SEC + 500 * MS);
    wr(11, 0x82);
    pass(100 * SEC);
    CHECK_MSG(rd(0) == 0x10 && rd(2) == 0, "SET stops the clock");
    wr(0, 0x30);
    wr(11, 0x02);
    CHECK(rd(0) == 0x30);
    pass(600 * MS);
    CHECK(rd(0) == 0x31);
    wr(10, 0x76);
    wr(0, 0x40);
    wr(10, 0x26);
    pass(490 * MS);
    CHECK(rd(0) == 0x40);
    pass(20 * MS);
    CHECK_MSG(rd(0) == 0x41, "half a second after the divider was reset comes the next");
    for (u32 v = 0; v < 256; v++) {
        set_clock((u8)v, (u8)v, (u8)v, (u8)v, (u8)v, (u8)v, (u8)v);
        pass(SEC);
        CHECK_MSG((rd(8) & 0x0f) <= 9 && rd(8) >= 1 && rd(8) <= 0x12 && rd(7) >= 1 && rd(7) <= 0x31 &&
                  rd(4) <= 0x23 && rd(2) <= 0x59 && rd(0) <= 0x59, "%02x everywhere gives %s", v, shown());
    }
}

static void test_uip(void)
{
    u32 seen = 0;

    set_clock(0x20, 0x06, 0x06, 0x17, 0x12, 0x00, 0x00);
    for (int i = 0; i < 10000; i++, pass(100 * US))
        seen += rd(10) >> 7;
    CHECK_MSG(seen >= 20 && seen <= 25, "update in progress for 2.2 ms a second: %u", seen);
    while (!(rd(10) & 0x80))
        pass(100 * US);
    seen = rd(0);
    pass(2300 * US);
    CHECK_MSG(rd(0) != seen && !(rd(10) & 0x80), "and then the second changes");
}

static void test_interrupts(void)
{
    rd(12);
    edges = 0;
    wr(11, 0x12);
    for (int i = 0; i < 50; i++) {
        pass(100 * MS);
        if (irq8) {
            u8 c = rd(12);

            CHECK_MSG((c & 0x90) == 0x90, "update-ended: %02x", c);
        }
    }
    CHECK_MSG(edges == 5 && !irq8, "once a second: %d", edges);
    wr(11, 0x02);
    pass(3 * SEC);
    CHECK_MSG(edges == 5 && timers_run(m) == TIMER_NEVER, "with no interrupt enabled nobody is woken");
    CHECK_MSG((rd(12) & 0xf0) == 0x50, "but the flags are there for who asks");
    CHECK_MSG((rd(12) & 0xf0) == 0, "reading clears them");

    set_clock(0x20, 0x06, 0x06, 0x17, 0x12, 0x00, 0x00);
    wr(1, 0x30);
    wr(3, 0x02);
    wr(5, 0xff);
    wr(11, 0x22);
    rd(12);
    edges = 0;
    pass(149 * SEC + 900 * MS);
    CHECK(!edges);
    pass(200 * MS);
    CHECK_MSG(edges == 1 && (rd(12) & 0xa0) == 0xa0, "alarm at any hour's 02:30");
    pass(3600 * SEC);
    CHECK_MSG(edges == 2, "and an hour later");
    rd(12);
    wr(11, 0x02);
    wr(5, 0x11);
    set_clock(0x20, 0x06, 0x06, 0x17, 0x12, 0x00, 0x00);
    rd(12);
    pass(5 * 3600 * SEC);
    CHECK(!(rd(12) & 0x20));
    pass(20 * 3600 * SEC);
    CHECK_MSG(rd(12) & 0x20, "an alarm that passed unseen is in register C");
}

static void read_c(u64 *count)
{
    if (irq8 && rd(12) & 0x40)
        ++*count;
}

static void test_periodic(void)
{
    u64 count = 0, most = 0, before;

    wr(10, 0x26);
    rd(12);
    wr(11, 0x42);
    for (int i = 0; i < 20000; i++, pass(50 * US))
        read_c(&count);
    CHECK_MSG(count >= 1023 && count <= 1025, "1024 Hz: %llu", (unsigned long long)count);
    oversleep(500 * MS);
    for (int i = 0; i < 30000; i++, pass(50 * US)) {
        before = count;
        for (int k = 0; k < 3; k++)
            read_c(&count);
        most = count - before > most ? count - before : most;
    }
    CHECK_MSG(count >= 3070 && count <= 3074, "missed ones are made up for: %llu", (unsigned long long)count);
    CHECK_MSG(most == 1, "one by one");
    pass(100 * SEC);
    count = 0;
    for (int i = 0; i < 300000; i++, pass(50 * US))
        read_c(&count);
    CHECK_MSG(count > 15 * 1024 + 4000 && count <= 20 * 1024 + 2, "up to a limit: %llu",
              (unsigned long long)count);
    wr(11, 0x02);
    wr(10, 0x2f);
    rd(12);
    wr(11, 0x42);
    count = 0;
    for (int i = 0; i < 100; i++, pass(50 * MS))
        read_c(&count);
    CHECK_MSG(count >= 9 && count <= 10, "2 Hz: %llu", (unsigned long long)count);
    wr(11, 0x02);
    wr(10, 0x23);
    rd(12);
    wr(11, 0x42);
    count = 0;
    for (int i = 0; i < 20000; i++, pass(50 * US))
        read_c(&count);
    CHECK_MSG(count > 8000 && count < 8400, "8192 Hz: %llu", (unsigned long long)count);
    wr(10, 0x20);
    rd(12);
    pass(SEC);
    CHECK_MSG(!(rd(12) & 0x40), "rate 0: none");
    wr(11, 0x02);
}

static void test_cmos(void)
{
    rtc_set_cmos(rtc, 0x10, 0x44);
    rtc_set_cmos(rtc, 0x0b, 0xff);
    CHECK(rd(0x10) == 0x44 && rd(0x0b) == 0x02);
    wr(0x7f, 0x5a);
    wr(0x0d, 0);
    CHECK_MSG(rd(0x7f) == 0x5a && rtc_get_cmos(rtc, 0x7f) == 0x5a && rd(0x0d) == 0x80, "CMOS memory");
    CHECK_MSG((wr(0x8f, 0x05), rd(0x0f)) == 0x05, "the NMI bit is not part of the address");
    set_clock(0x20, 0x06, 0x06, 0x17, 0x12, 0x00, 0x00);
    wr(11, 0x72);
    pass(10 * SEC);
    devices_reset(m);
    pass(10 * SEC);
    CHECK_MSG(rd(11) == 0x02 && rd(0x7f) == 0x5a && rd(0x10) == 0x44, "memory survives a reset");
    CHECK_MSG(!irq8, "interrupts do not");
    CHECK_MSG(rd(0) == 0x20 && rd(4) == 0x12, "and the time goes on");
}

/* The machine was paused, or the computer slept: the virtual clock stood, the battery's did not. */
static void test_stood(void)
{
    wr(11, 0x02);
    set_clock(0x20, 0x06, 0x06, 0x17, 0x23, 0x59, 0x50);
    wr(6, 7);
    m->stood(m->stood_opaque, 3661 * SEC + 600 * MS);
    CHECK_MSG(shows("2006-06-18 1 01:00:51") || shows("2006-06-18 1 01:00:52"), "the date went on meanwhile");
    for (int i = 0; i < 10; i++)
        m->stood(m->stood_opaque, 900 * MS);
    CHECK_MSG(shows("2006-06-18 1 01:01:00") || shows("2006-06-18 1 01:01:01"), "parts of a second add up");
    rd(12);
    wr(11, 0x12);
    edges = 0;
    pass(3 * SEC);
    CHECK_MSG(edges == 1, "interrupts go on");
    wr(11, 0x82);
    wr(0, 0x30);
    m->stood(m->stood_opaque, 100 * SEC);
    CHECK_MSG(rd(0) == 0x30, "a clock that is being set stands");
    wr(11, 0x02);
    rd(12);
}

int main(void)
{
    static const Range ports[] = { { 0x70, 2 } };
    Config cfg;

    config_default(&cfg);
    cfg.rtc_base = 1150547696;
    bench_machine(&cfg);
    rtc = rtc_create(m, (Irq){ irq_changed, NULL, 8 });
    devices_reset(m);
    test_time();
    test_uip();
    test_interrupts();
    test_periodic();
    test_cmos();
    test_stood();
    port_storm(ports, ARRAY_LEN(ports), 300000, NULL);
    check_saves("rtc");
    devices_reset(m);
    wr(10, 0x26);
    wr(11, 0x02);
    set_clock(0x20, 0x06, 0x06, 0x17, 0x12, 0x00, 0x00);
    test_uip();
    bench_end();
    return test_end();
}
