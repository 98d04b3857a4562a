/*
 * MC146818A real-time clock and 128 bytes of CMOS memory: time in BCD or binary, 12 or 24 hours, alarm,
 * periodic and update-ended interrupts, update-in-progress, divider reset, century in register 32h. Source:
 * Motorola MC146818A data sheet; IBM PS/2 technical reference, "RT/CMOS RAM".
 *
 * The time is not counted up: it is epoch_s plus the virtual clock since epoch_ns. Only while SET (register
 * B bit 7) is on or the divider is off do the registers stand still. Timers run only while an interrupt is
 * enabled; the flags of register C are otherwise brought up to date when it is read.
 *
 * Periodic interrupts that come while the guest has not read register C for the last one are counted and
 * given after it did, half a period apart, at most MISSED_SECONDS' worth.
 *
 * Not modelled: square-wave output, daylight saving, the NMI mask (bit 7 of port 70h is ignored: no board
 * of ours has a source of NMIs there), times that no calendar has (they are brought into range).
 */
#include "rtc.h"

#include "../core/vm/device.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

#include <string.h>

enum { SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR,
       REG_A, REG_B, REG_C, REG_D, CENTURY = 0x32 };
enum { A_UIP = 0x80, A_DIVIDER = 0x70, A_DIVIDER_ON = 0x20, A_RATE = 0x0f };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_SQWE = 0x08, B_BINARY = 0x04, B_24H = 0x02 };
enum { C_IRQ = 0x80, C_PERIODIC = 0x40, C_ALARM = 0x20, C_UPDATE = 0x10 };
/* Of the years 0 and 9999. */
#define FIRST_SECOND (-62167219200)
#define LAST_SECOND 253402300799
enum {
    HZ = 32768,
    UPDATE_NS = 2228000,            /* UIP before the time changes: 244 us warning, 1984 us update */
    SOON_NS = 250000,               /* a timer is not armed for less */
    MISSED_SECONDS = 5,
    DAY_SECONDS = 86400,
};

typedef struct {
    s64 epoch_ns;                   /* virtual time at which the second epoch_s began */
    s64 epoch_s;                    /* since 1970, in the clock's own zone */
    s64 stopped_ns;                 /* SET or divider off: nanoseconds into the second */
    s64 seen_s;                     /* update and alarm flags are right up to this second */
    u64 seen_tick;                  /* periodic flag: up to this tick of 32768 Hz */
    u64 given_tick;                 /* last periodic interrupt */
    u64 missed;
    u8 cmos[128];                   /* times are kept here only while the clock stands */
    u8 index;
    u8 weekday_shift;               /* what the guest called the day, minus what the calendar calls it */
    u8 stopped;
    u8 pad[5];
} RtcState;

struct Rtc {
    Device dev;
    RtcState s, kept;               /* kept: for the battery, which a reset does not reach */
    Timer timer;
    Irq irq;
};

static const SaveField rtc_fields[] = {
    SAVE(RtcState, epoch_ns), SAVE(RtcState, epoch_s), SAVE(RtcState, stopped_ns), SAVE(RtcState, seen_s),
    SAVE(RtcState, seen_tick), SAVE(RtcState, given_tick), SAVE(RtcState, missed), SAVE(RtcState, cmos),
    SAVE(RtcState, index), SAVE(RtcState, weekday_shift), SAVE(RtcState, stopped), SAVE(RtcState, pad),
    SAVE_END
};

static s64 now_ns(const Rtc *r) { return (s64)clock_ns(r->dev.m, CLOCK_VIRTUAL); }

/* ---- calendar ---- */

typedef struct { s64 year; int month, day, hour, minute, second, weekday; } Time;   /* weekday: 1 = Sunday */

static s64 floor_div(s64 a, s64 b) { return a / b - (a % b < 0); }

/* Days since 1970-01-01 of a Gregorian date. Years are counted from March, so that the leap day ends them. */
static s64 days_of(s64 year, int month, int day)
{
    s64 y = month > 2 ? year : year - 1, era = floor_div(y, 400), in_era = y - era * 400;
    s64 in_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static int month_days(s64 year, int month)
{
    return (int)(days_of(month == 12 ? year + 1 : year, month % 12 + 1, 1) - days_of(year, month, 1));
}

static Time time_of(s64 seconds)
{
    s64 days = floor_div(seconds, DAY_SECONDS), in_day = seconds - days * DAY_SECONDS;
    Time t = { .year = 1970 + floor_div(days * 400, 146097), .month = 1 };

    while (days < days_of(t.year, 1, 1))
        t.year--;
    while (days >= days_of(t.year + 1, 1, 1))
        t.year++;
    while (t.month < 12 && days >= days_of(t.year, t.month + 1, 1))
        t.month++;
    t.day = (int)(days - days_of(t.year, t.month, 1)) + 1;
    t.hour = (int)(in_day / 3600);
    t.minute = (int)(in_day / 60 % 60);
    t.second = (int)(in_day % 60);
    t.weekday = (int)((days % 7 + 11) % 7) + 1;     /* day 0 was a Thursday */
    return t;
}

static s64 seconds_of(const Time *t)
{
    return days_of(t->year, t->month, t->day) * DAY_SECONDS + t->hour * 3600 + t->minute * 60 + t->second;
}

/* ---- registers and time ---- */

static u8 encode(const RtcState *s, int v)
{
    return (u8)(s->cmos[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const RtcState *s, u8 v)
{
    return s->cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static u8 encode_hour(const RtcState *s, int hour)
{
    if (s->cmos[REG_B] & B_24H)
        return encode(s, hour);
    return encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static int decode_hour(const RtcState *s, u8 v)
{
    if (s->cmos[REG_B] & B_24H)
        return decode(s, v);
    return decode(s, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* The second that it is, and the nanoseconds gone of it. */
static s64 time_now(const Rtc *r, s64 *part_ns)
{
    s64 passed = r->s.stopped ? r->s.stopped_ns : now_ns(r) - r->s.epoch_ns;
    s64 s = floor_div(passed, (s64)NS_PER_SEC);

    if (part_ns)
        *part_ns = passed - s * (s64)NS_PER_SEC;
    return r->s.epoch_s + s;
}

static void put_time(RtcState *s, s64 seconds)
{
    Time t = time_of(seconds);

    s->cmos[SECONDS] = encode(s, t.second);
    s->cmos[MINUTES] = encode(s, t.minute);
    s->cmos[HOURS] = encode_hour(s, t.hour);
    s->cmos[WEEKDAY] = encode(s, (t.weekday - 1 + s->weekday_shift) % 7 + 1);
    s->cmos[DAY] = encode(s, t.day);
    s->cmos[MONTH] = encode(s, t.month);
    s->cmos[YEAR] = encode(s, (int)(t.year % 100));
    s->cmos[CENTURY] = encode(s, (int)(t.year / 100 % 100));
}

static s64 get_time(RtcState *s)
{
    Time t = {
        .year = clamp(decode(s, s->cmos[CENTURY]), 0, 99) * 100 + clamp(decode(s, s->cmos[YEAR]), 0, 99),
        .month = clamp(decode(s, s->cmos[MONTH]), 1, 12),
        .hour = clamp(decode_hour(s, s->cmos[HOURS]), 0, 23),
        .minute = clamp(decode(s, s->cmos[MINUTES]), 0, 59),
        .second = clamp(decode(s, s->cmos[SECONDS]), 0, 59),
    };
    s64 seconds;

    t.day = clamp(decode(s, s->cmos[DAY]), 1, month_days(t.year, t.month));
    seconds = seconds_of(&t);
    s->weekday_shift = (u8)((clamp(decode(s, s->cmos[WEEKDAY]), 1, 7) + 7 - time_of(seconds).weekday) % 7);
    return seconds;
}

static bool shall_stand(const RtcState *s)
{
    return (s->cmos[REG_B] & B_SET) || (s->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_ON;
}

/* ---- interrupts ---- */

static u64 tick_now(const Rtc *r) { return muldiv64(clock_ns(r->dev.m, CLOCK_VIRTUAL), HZ, NS_PER_SEC); }

/* Ticks of 32768 Hz in a periodic interrupt's period; 0: none. */
static u32 period(const RtcState *s)
{
    unsigned rate = s->cmos[REG_A] & A_RATE;

    if (!rate || (s->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_ON)
        return 0;
    return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static void set_flags(Rtc *r, u8 flags)
{
    RtcState *s = &r->s;

    s->cmos[REG_C] |= flags;
    if (s->cmos[REG_C] & s->cmos[REG_B] & (C_PERIODIC | C_ALARM | C_UPDATE))
        s->cmos[REG_C] |= C_IRQ;
    irq_set(r->irq, s->cmos[REG_C] & C_IRQ);
}

/* An alarm register from C0h on means "every". */
static bool alarm_matches(const RtcState *s, s64 in_day)
{
    int second = (int)(in_day % 60), minute = (int)(in_day / 60 % 60), hour = (int)(in_day / 3600);
    const u8 *c = s->cmos;

    return (c[SECONDS_ALARM] >= 0xc0 || decode(s, c[SECONDS_ALARM]) == second) &&
           (c[MINUTES_ALARM] >= 0xc0 || decode(s, c[MINUTES_ALARM]) == minute) &&
           (c[HOURS_ALARM] >= 0xc0 || decode_hour(s, c[HOURS_ALARM]) == hour);
}

static u8 second_flags(Rtc *r)
{
    RtcState *s = &r->s;
    s64 now = time_now(r, NULL), from = s->seen_s;
    u8 flags = 0;

    if (s->stopped || now <= from) {
        s->seen_s = now;
        return 0;
    }
    s->seen_s = now;
    if (now - from > DAY_SECONDS)
        from = now - DAY_SECONDS;   /* every time of day was seen */
    for (s64 t = from + 1; t <= now && !(flags & C_ALARM); t++) {
        if (alarm_matches(s, t - floor_div(t, DAY_SECONDS) * DAY_SECONDS))
            flags |= C_ALARM;
    }
    return flags | C_UPDATE;
}

/* Gap between interrupts that are made up for; 0: at once, the host could not wake in time. */
static u64 catch_up_gap(const RtcState *s)
{
    u64 gap = period(s) / 2;

    return gap * NS_PER_SEC < (u64)SOON_NS * HZ ? 0 : gap;
}

static u8 periodic_flag(Rtc *r)
{
    RtcState *s = &r->s;
    u64 now = tick_now(r), n = period(s), edges = n ? now / n - s->seen_tick / n : 0;
    bool counts = s->cmos[REG_B] & B_PIE, waits = s->cmos[REG_C] & C_PERIODIC;

    s->seen_tick = now;
    if (!counts) {
        s->missed = 0;
        return edges ? C_PERIODIC : 0;
    }
    s->missed += edges;
    if (n && s->missed > (u64)MISSED_SECONDS * HZ / n + 1)
        s->missed = (u64)MISSED_SECONDS * HZ / n + 1;
    if (!s->missed || waits || (!edges && now < s->given_tick + catch_up_gap(s)))
        return 0;
    s->missed--;
    s->given_tick = now;
    return C_PERIODIC;
}

static void arm(Rtc *r)
{
    const RtcState *s = &r->s;
    s64 now = now_ns(r), at = INT64_MAX, part;
    u64 n = period(s);

    /* While an interrupt waits for the guest, those behind it are counted when it reads register C. */
    if (n && (s->cmos[REG_B] & B_PIE) && !(s->cmos[REG_C] & C_PERIODIC)) {
        u64 tick = (s->seen_tick / n + 1) * n;

        if (s->missed && s->given_tick + catch_up_gap(s) < tick)
            tick = s->given_tick + catch_up_gap(s);
        at = (s64)muldiv64(tick, NS_PER_SEC, HZ) + 1;
    }
    if (!s->stopped && (s->cmos[REG_B] & (B_UIE | B_AIE))) {
        time_now(r, &part);
        if (now + (s64)NS_PER_SEC - part < at)
            at = now + (s64)NS_PER_SEC - part;
    }
    if (at == INT64_MAX)
        timer_cancel(&r->timer);
    else
        timer_arm(&r->timer, (u64)(at < now + SOON_NS ? now + SOON_NS : at));
}

/* Brings the flags up to date. */
static void catch_up(Rtc *r)
{
    u8 flags = second_flags(r);

    set_flags(r, flags | periodic_flag(r));
}

static void timer_fired(void *opaque)
{
    catch_up(opaque);
    arm(opaque);
}

/* ---- ports 70h, 71h ---- */

/* The clock stops or goes on as registers A and B say now. */
static void stop_or_go(Rtc *r, bool divider_was_off)
{
    RtcState *s = &r->s;
    bool divider_off = (s->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_ON;
    s64 part, seconds;

    if (divider_was_off && !divider_off)
        s->stopped_ns = NS_PER_SEC / 2;     /* the first update comes half a second after the release */
    if (shall_stand(s) == s->stopped)
        return;
    if (!s->stopped) {
        seconds = time_now(r, &part);
        put_time(s, seconds);
        s->stopped_ns = part;
        s->epoch_s = seconds;
        s->stopped = 1;
        return;
    }
    s->epoch_s = get_time(s);
    s->epoch_ns = now_ns(r) - s->stopped_ns;
    s->stopped = 0;
    s->seen_s = s->epoch_s;
}

static bool is_time(u8 index)
{
    return index == SECONDS || index == MINUTES || index == HOURS || (index >= WEEKDAY && index <= YEAR) ||
           index == CENTURY;
}

static void write_time(Rtc *r, u8 index, u8 value)
{
    RtcState *s = &r->s;
    s64 part, seconds;

    if (s->stopped) {
        s->cmos[index] = value;
        return;
    }
    seconds = time_now(r, &part);
    put_time(s, seconds);
    s->cmos[index] = value;
    s->epoch_s = get_time(s);
    s->epoch_ns = now_ns(r) - part;
    s->seen_s = s->epoch_s;
}

static void write_b(Rtc *r, u8 value)
{
    RtcState *s = &r->s;

    if (value & B_SET)
        value &= (u8)~B_UIE;
    if ((value ^ s->cmos[REG_B]) & B_PIE) {
        s->missed = 0;
        s->given_tick = s->seen_tick;
    }
    s->cmos[REG_B] = value;
    s->cmos[REG_C] &= (u8)~C_IRQ;
    set_flags(r, 0);
}

static void rtc_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Rtc *r = opaque;
    RtcState *s = &r->s;
    bool divider_was_off = (s->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_ON;

    (void)size;
    if (!(port & 1)) {
        s->index = value & 0x7f;
        return;
    }
    catch_up(r);
    if (s->index == REG_A) {
        if ((value ^ s->cmos[REG_A]) & 0x7f)
            s->missed = 0;
        s->cmos[REG_A] = value & 0x7f;
        stop_or_go(r, divider_was_off);
    } else if (s->index == REG_B) {
        write_b(r, (u8)value);
        stop_or_go(r, divider_was_off);
    } else if (is_time(s->index)) {
        write_time(r, s->index, (u8)value);
    } else if (s->index != REG_C && s->index != REG_D) {
        s->cmos[s->index] = (u8)value;
    }
    arm(r);
    r->kept = *s;
}

static u8 read_c(Rtc *r)
{
    RtcState *s = &r->s;
    u8 value;

    catch_up(r);
    value = s->cmos[REG_C];
    s->cmos[REG_C] = 0;
    set_flags(r, 0);
    if (s->missed)
        catch_up(r);                /* at once if the next is due */
    arm(r);
    return value;
}

static u32 rtc_read(void *opaque, u32 port, unsigned size)
{
    Rtc *r = opaque;
    RtcState *s = &r->s;
    s64 part, seconds = time_now(r, &part);

    (void)size;
    if (!(port & 1))
        return 0xff;                /* write-only on a PC/AT */
    switch (s->index) {
    case REG_A:
        return s->cmos[REG_A] | (!s->stopped && part >= (s64)NS_PER_SEC - UPDATE_NS ? A_UIP : 0);
    case REG_C:
        return read_c(r);
    case REG_D:
        return 0x80;                /* the battery is good */
    }
    if (is_time(s->index) && !s->stopped)
        put_time(s, seconds);
    return s->cmos[s->index];
}

static const PortOps rtc_ops = { rtc_read, rtc_write, 1 };

/* ---- device ---- */

void rtc_set_cmos(Rtc *r, u8 index, u8 value)
{
    if (index <= REG_D || index > 0x7f || index == CENTURY)
        return;
    r->s.cmos[index] = r->kept.cmos[index] = value;
}

u8 rtc_get_cmos(const Rtc *r, u8 index) { return r->s.cmos[index & 0x7f]; }

static void rtc_reset(Device *dev)
{
    Rtc *r = (Rtc *)dev;
    RtcState *s = &r->s;

    *s = r->kept;
    s->cmos[REG_B] &= (u8)~(B_PIE | B_AIE | B_UIE | B_SQWE);
    s->cmos[REG_C] = 0;
    s->missed = 0;
    s->index = 0;
    s->seen_tick = s->given_tick = tick_now(r);
    s->seen_s = time_now(r, NULL);
    irq_set(r->irq, false);
    timer_cancel(&r->timer);
}

static bool rtc_loaded(Device *dev, Error *err)
{
    Rtc *r = (Rtc *)dev;
    RtcState *s = &r->s;
    s64 now = now_ns(r);

    if (s->index > 0x7f || s->weekday_shift > 6 || s->stopped != shall_stand(s) || s->epoch_ns > now ||
        s->epoch_ns < -(s64)NS_PER_SEC * 2 || s->stopped_ns < 0 || s->epoch_s < FIRST_SECOND ||
        s->epoch_s > LAST_SECOND || s->stopped_ns >= (s64)NS_PER_SEC || s->seen_tick > tick_now(r) ||
        s->given_tick > tick_now(r))
        return error_set(err, "rtc: impossible state");
    r->kept = *s;
    set_flags(r, 0);
    arm(r);
    return true;
}

static const DeviceClass rtc_class = {
    .name = "rtc", .size = sizeof(Rtc), .state = offsetof(Rtc, s), .state_size = sizeof(RtcState),
    .fields = rtc_fields, .reset = rtc_reset, .loaded = rtc_loaded,
};

static void set_from_host(Rtc *r)
{
    const Config *cfg = &r->dev.m->cfg;
    s64 us = host_wall_us(), part_us = us - floor_div(us, 1000000) * 1000000;

    r->s.epoch_s = floor_div(us, 1000000);
    r->s.epoch_ns = now_ns(r) - part_us * 1000;
    if (cfg->rtc_base >= 0) {
        r->s.epoch_s = cfg->rtc_base < LAST_SECOND ? cfg->rtc_base : LAST_SECOND;
        r->s.epoch_ns = now_ns(r);
    } else if (cfg->rtc_local) {
        r->s.epoch_s += host_utc_offset_s(r->s.epoch_s);
    }
}

/* The battery kept the clock going while the machine stood still. Ticks and alarms of that time are not
 * made up for. */
static void go_ahead(void *opaque, u64 ns)
{
    Rtc *r = opaque;
    RtcState *s = &r->s;

    if (s->stopped || s->epoch_s > LAST_SECOND - (s64)(ns / NS_PER_SEC) - 1)
        return;
    second_flags(r);
    s->epoch_s += (s64)(ns / NS_PER_SEC);
    s->epoch_ns -= (s64)(ns % NS_PER_SEC);
    if (s->epoch_ns < -(s64)NS_PER_SEC) {
        s->epoch_ns += (s64)NS_PER_SEC;
        s->epoch_s++;
    }
    s->seen_s = time_now(r, NULL);
    r->kept = *s;
    arm(r);
}

Rtc *rtc_create(Machine *m, Irq irq8)
{
    Rtc *r = device_create(m, &rtc_class);

    r->irq = irq8;
    timer_init(&r->timer, m, CLOCK_VIRTUAL, timer_fired, r);
    r->s.cmos[REG_A] = A_DIVIDER_ON | 6;    /* as a board's firmware left it: 1024 Hz, 24 hours, BCD */
    r->s.cmos[REG_B] = B_24H;
    set_from_host(r);
    put_time(&r->s, r->s.epoch_s);
    r->kept = r->s;
    port_map(m, "rtc", 0x70, 2, &rtc_ops, r);
    if (!m->cfg.rtc_stands) {
        m->stood = go_ahead;
        m->stood_opaque = r;
    }
    return r;
}
