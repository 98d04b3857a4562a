/*
 * 8254 interval timer: three counters in all six modes, binary and BCD, counter latch and read-back, and
 * system control port B (61h). Source: Intel 8254 data sheet, "Operational description" and "Mode
 * definitions"; IBM PS/2 technical reference, "System control port B".
 *
 * A counter is not stepped: what it holds follows from the clock at which it was loaded. Clocks are PIT
 * clocks of the virtual clock, counted from the machine's creation.
 *
 *      load            first count                      d = clock - start counts since
 *   write clock ──> start = write clock + 1 ──> modes 0, 4: count - d;  modes 2, 3: round and round
 *
 * Counter 0's rising edges are the system's ticks. An edge that comes while the controller still holds the
 * last one would be lost; it is counted in `missed` and given later, half a period apart at least and never
 * more than MISSED_SECONDS' worth. Edges closer than the host can wake are given in a row, each after the
 * end of the one before.
 *
 * Not modelled: a new count in mode 3 takes over at the end of the whole period, not of the half; a count
 * of 1 in modes 2 and 3 (forbidden by the data sheet) counts as 2.
 */
#include "pit.h"

#include "../core/vm/device.h"
#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum {
    SPEAKER = 2,                    /* its counter has a gate, bit 0 of port 61h */
    WAKE_GAP = PIT_HZ / 5000,       /* least clocks between two wakes of the host */
    MIN_TICK = PIT_HZ / 50000,      /* nobody counts ticks that come faster */
    MISSED_SECONDS = 5,
    CLOSED = PIT_HZ / 10,           /* masked for so long: nobody counts */
    WAYS = 2,
};

typedef struct {                    /* [counter] */
    u64 start[3];                   /* clock of the first count */
    u64 held[3];                    /* counts done when the gate closed */
    u64 switch_at[3];               /* modes 2, 3: clock at which next takes over; 0: nothing waits */
    u64 edges_to;                   /* counter 0's edges were seen up to this clock */
    u64 given_at, ended_at;         /* clock of the last tick, and of the last end of interrupt */
    u64 missed;
    u32 count[3], next[3];          /* 1..10000h; next: as written last, 0: nothing yet */
    u16 latch[3];
    u8 mode[3], access[3];          /* access: 1 low byte, 2 high byte, 3 both */
    u8 bcd[3];
    u8 gate[3];
    u8 running[3];                  /* loaded (and triggered) */
    u8 latched[3];                  /* bytes of latch still to be read: bit 0 low, bit 1 high */
    u8 status[3], status_latched[3];
    u8 read_high[3], write_high[3]; /* the other half of a two-byte access comes next */
    u8 low[3];                      /* first half of a two-byte write */
    u8 port61;                      /* bits 0-3 as written */
} PitState;

struct Pit {
    Device dev;
    PitState s;
    Timer timer;
    Irq irq0;
    IrqReturn way[WAYS];
};

static const SaveField pit_fields[] = {
    SAVE(PitState, start), SAVE(PitState, held), SAVE(PitState, switch_at), SAVE(PitState, edges_to),
    SAVE(PitState, given_at), SAVE(PitState, ended_at), SAVE(PitState, missed), SAVE(PitState, count),
    SAVE(PitState, next), SAVE(PitState, latch), SAVE(PitState, mode), SAVE(PitState, access),
    SAVE(PitState, bcd), SAVE(PitState, gate), SAVE(PitState, running), SAVE(PitState, latched),
    SAVE(PitState, status), SAVE(PitState, status_latched), SAVE(PitState, read_high),
    SAVE(PitState, write_high), SAVE(PitState, low), SAVE(PitState, port61), SAVE_END
};

static u64 clock_now(Pit *p)
{
    return muldiv64(clock_ns(p->dev.m, CLOCK_VIRTUAL), PIT_HZ, NS_PER_SEC);
}

/* The first nanosecond at which that clock has come. */
static u64 ns_of(u64 clock) { return muldiv64(clock, NS_PER_SEC, PIT_HZ) + 1; }

static bool is_periodic(const PitState *s, int c) { return s->mode[c] == 2 || s->mode[c] == 3; }
static bool is_triggered(const PitState *s, int c) { return s->mode[c] == 1 || s->mode[c] == 5; }

/* ---- what a counter holds ---- */

/* Lets a count that waited take over. */
static void settle(PitState *s, int c, u64 now)
{
    if (!s->switch_at[c] || now < s->switch_at[c])
        return;
    s->start[c] = s->switch_at[c];
    s->count[c] = s->next[c];
    s->switch_at[c] = 0;
}

static u64 counts_done(const PitState *s, int c, u64 now)
{
    if (!s->gate[c] && !is_triggered(s, c))
        return s->held[c];
    return now > s->start[c] ? now - s->start[c] : 0;
}

static bool output(PitState *s, int c, u64 now)
{
    u64 d;

    settle(s, c, now);
    d = counts_done(s, c, now);
    switch (s->mode[c]) {
    case 0:
        return s->running[c] && d >= s->count[c];
    case 1:
        return !s->running[c] || d >= s->count[c];
    case 2:
        return !s->running[c] || !s->gate[c] || d % s->count[c] != s->count[c] - 1;
    case 3:
        return !s->running[c] || !s->gate[c] || d % s->count[c] < (s->count[c] + 1) / 2;
    default:
        return !s->running[c] || d != s->count[c];
    }
}

static u16 to_bcd(u32 v)
{
    return (u16)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

/* The counting element as a read sees it. */
static u16 value(PitState *s, int c, u64 now)
{
    u32 n, v;
    u64 d;

    settle(s, c, now);
    d = counts_done(s, c, now);
    n = s->count[c];
    if (!n)
        return 0;
    if (!s->running[c]) {
        v = n;
    } else if (s->mode[c] == 3) {
        u32 in = (u32)(d % n), half = (n + 1) / 2;

        v = (n & ~1u) - 2 * (in < half ? in : in - half);
    } else if (s->mode[c] == 2) {
        v = n - (u32)(d % n);
    } else {
        u32 round = s->bcd[c] ? 10000 : 0x10000;

        v = (n + round - (u32)(d % round)) % round;
    }
    return s->bcd[c] ? to_bcd(v) : (u16)v;
}

static u8 status(PitState *s, int c, u64 now)
{
    bool out = output(s, c, now);
    bool waits = !s->running[c] || s->switch_at[c] ||
                 (!is_triggered(s, c) && s->gate[c] && now < s->start[c]);

    return (u8)(out << 7 | waits << 6 | s->access[c] << 4 | s->mode[c] << 1 | s->bcd[c]);
}

/* ---- ticks ---- */

static u64 missed_limit(const PitState *s)
{
    if (!is_periodic(s, 0) || s->count[0] < MIN_TICK)
        return 0;
    return MISSED_SECONDS * (u64)PIT_HZ / s->count[0];
}

/* Rising edges of counter 0 after clock `from`, up to `to`; settles on the way. */
static u64 count_edges(PitState *s, u64 from, u64 to)
{
    u64 edges = 0, at;

    if (!s->running[0])
        return 0;
    if (!is_periodic(s, 0)) {
        at = s->start[0] + s->count[0] + (s->mode[0] == 4);
        return !is_triggered(s, 0) && at > from && at <= to;
    }
    for (;;) {
        u64 end = s->switch_at[0] && s->switch_at[0] <= to ? s->switch_at[0] : to;
        u64 start = s->start[0], n = s->count[0];

        if (end > start)
            edges += (end - start) / n - (from > start ? (from - start) / n : 0);
        if (!s->switch_at[0] || s->switch_at[0] > to)
            return edges;
        from = end;
        settle(s, 0, end);
    }
}

static u64 next_edge(const PitState *s, u64 now)
{
    u64 at;

    if (!s->running[0] || is_triggered(s, 0))
        return TIMER_NEVER;
    if (is_periodic(s, 0)) {
        u64 d = now > s->start[0] ? now - s->start[0] : 0;

        at = s->start[0] + (d / s->count[0] + 1) * s->count[0];
        return s->switch_at[0] && s->switch_at[0] < at ? s->switch_at[0] : at;
    }
    at = s->start[0] + s->count[0] + (s->mode[0] == 4);
    return at > now ? at : TIMER_NEVER;
}

static bool any_open(const Pit *p)
{
    for (int i = 0; i < WAYS; i++) {
        if (p->way[i].open && p->way[i].open(p->way[i].opaque, p->way[i].n))
            return true;
    }
    return false;
}

/* The controller that the guest uses still holds the last tick; while all are masked, any of them. */
static bool tick_pending(const Pit *p)
{
    bool some = any_open(p);

    for (int i = 0; i < WAYS; i++) {
        const IrqReturn *w = &p->way[i];

        if (w->pending && (!some || w->open(w->opaque, w->n)) && w->pending(w->opaque, w->n))
            return true;
    }
    return false;
}

/* Ticks are worth counting: the guest takes them, or took one not long ago. */
static bool ticks_wanted(const Pit *p, u64 now)
{
    return any_open(p) || (p->way[0].open && now - p->s.ended_at < CLOSED);
}

static void give(Pit *p, u64 now)
{
    p->s.given_at = now;
    irq_pulse(p->irq0);
}

/* Half a period, or nothing if the host could not wake in time for it anyway. */
static u64 catch_up_gap(const PitState *s)
{
    u64 gap = s->count[0] / 2;

    return gap < WAKE_GAP ? 0 : gap;
}

static void arm(Pit *p, u64 now)
{
    const PitState *s = &p->s;
    u64 at = next_edge(s, now);

    /* Never so soon that the main loop would do nothing else. */
    if (at != TIMER_NEVER && at < now + WAKE_GAP && s->count[0] < WAKE_GAP)
        at = now + WAKE_GAP;
    if (s->missed && !tick_pending(p)) {
        u64 again = s->given_at + catch_up_gap(s);

        if (again < now + WAKE_GAP)
            again = now + WAKE_GAP;
        at = again < at ? again : at;
    }
    if (at == TIMER_NEVER)
        timer_cancel(&p->timer);
    else if (!timer_armed(&p->timer) || p->timer.when != ns_of(at))
        timer_arm(&p->timer, ns_of(at));
}

/* Gives the ticks that are due. */
static void ticks(Pit *p, u64 now)
{
    PitState *s = &p->s;
    u64 edges = count_edges(s, s->edges_to, now), limit = missed_limit(s);

    s->edges_to = now;
    if (edges && !tick_pending(p)) {
        give(p, now);
        edges--;
    }
    s->missed += edges;
    if (s->missed && !ticks_wanted(p, now))
        s->missed = 0;
    if (s->missed > limit)
        s->missed = limit;
    if (s->missed && !tick_pending(p) && now >= s->given_at + catch_up_gap(s)) {
        s->missed--;
        give(p, now);
    }
    arm(p, now);
}

static void timer_fired(void *opaque) { ticks(opaque, clock_now(opaque)); }

/* The guest has ended an interrupt of ours. */
static void tick_ended(void *opaque)
{
    Pit *p = opaque;

    p->s.ended_at = clock_now(p);
    ticks(p, p->s.ended_at);
}

void pit_connect_return(Pit *p, IrqReturn way)
{
    for (int i = 0; i < WAYS; i++) {
        if (p->way[i].watch)
            continue;
        p->way[i] = way;
        if (way.watch)
            way.watch(way.opaque, way.n, tick_ended, p);
        return;
    }
}

/* ---- loading and gates ---- */

static void load(PitState *s, int c, u64 now, u16 written)
{
    u32 n = written;

    if (s->bcd[c])
        n = (written & 15) + (written >> 4 & 15) * 10 + (written >> 8 & 15) * 100 + (written >> 12) * 1000;
    if (!n)
        n = s->bcd[c] ? 10000 : 0x10000;
    if (is_periodic(s, c) && n == 1)
        n = 2;
    settle(s, c, now);
    s->next[c] = n;
    if (is_triggered(s, c))
        return;
    if (is_periodic(s, c) && s->running[c] && s->gate[c] && now >= s->start[c]) {
        s->switch_at[c] = s->start[c] + ((now - s->start[c]) / s->count[c] + 1) * s->count[c];
        return;
    }
    s->count[c] = n;
    s->start[c] = now + 1;
    s->held[c] = 0;
    s->switch_at[c] = 0;
    s->running[c] = 1;
}

static void set_gate(PitState *s, int c, u64 now, bool open)
{
    if (s->gate[c] == open)
        return;
    settle(s, c, now);
    if (!open) {
        s->held[c] = counts_done(s, c, now);
        s->gate[c] = 0;
        return;
    }
    s->gate[c] = 1;
    if (is_triggered(s, c) || is_periodic(s, c)) {
        if (!s->next[c])
            return;
        s->count[c] = s->next[c];
        s->start[c] = now + 1;
        s->switch_at[c] = 0;
        s->running[c] = 1;
    } else {
        s->start[c] = now > s->held[c] ? now - s->held[c] : 0;
    }
}

/* ---- ports 40h-43h ---- */

static void latch_count(PitState *s, int c, u64 now)
{
    if (s->latched[c])
        return;
    s->latch[c] = value(s, c, now);
    s->latched[c] = s->access[c];
}

static void read_back(PitState *s, u64 now, u8 command)
{
    for (int c = 0; c < 3; c++) {
        if (!(command >> (c + 1) & 1))
            continue;
        if (!(command & 0x20))
            latch_count(s, c, now);
        if (!(command & 0x10) && !s->status_latched[c]) {
            s->status[c] = status(s, c, now);
            s->status_latched[c] = 1;
        }
    }
}

static void control_word(PitState *s, int c, u64 now, u8 word)
{
    u8 access = word >> 4 & 3, mode = word >> 1 & 7;

    if (!access) {
        latch_count(s, c, now);
        return;
    }
    s->access[c] = access;
    s->mode[c] = mode > 5 ? mode - 4 : mode;
    s->bcd[c] = word & 1;
    s->running[c] = 0;
    s->next[c] = 0;
    s->switch_at[c] = 0;
    s->held[c] = 0;
    s->latched[c] = s->status_latched[c] = s->read_high[c] = s->write_high[c] = 0;
}

static void write_counter(PitState *s, int c, u64 now, u8 byte)
{
    switch (s->access[c]) {
    case 1:
        load(s, c, now, byte);
        break;
    case 2:
        load(s, c, now, (u16)(byte << 8));
        break;
    case 3:
        if (!s->write_high[c]) {
            s->low[c] = byte;
            s->write_high[c] = 1;
            if (s->mode[c] == 0)
                s->running[c] = 0;      /* the first half stops the count */
        } else {
            s->write_high[c] = 0;
            load(s, c, now, (u16)(byte << 8 | s->low[c]));
        }
        break;
    }
}

static u8 read_counter(PitState *s, int c, u64 now)
{
    u16 v;

    if (s->status_latched[c]) {
        s->status_latched[c] = 0;
        return s->status[c];
    }
    if (s->latched[c]) {
        bool low = s->latched[c] & 1;

        s->latched[c] &= low ? 2 : 0;
        return (u8)(low ? s->latch[c] : s->latch[c] >> 8);
    }
    v = value(s, c, now);
    if (s->access[c] == 3) {
        s->read_high[c] ^= 1;
        return (u8)(s->read_high[c] ? v : v >> 8);
    }
    return (u8)(s->access[c] == 2 ? v >> 8 : v);
}

static void pit_write(void *opaque, u32 port, u32 byte, unsigned size)
{
    Pit *p = opaque;
    PitState *s = &p->s;
    int c = (port & 3) < 3 ? (int)(port & 3) : (int)(byte >> 6 & 3);
    u64 now = clock_now(p);
    bool out;

    (void)size;
    ticks(p, now);                  /* what was due before the change */
    out = output(s, 0, now);
    if ((port & 3) < 3)
        write_counter(s, c, now, (u8)byte);
    else if (c == 3)
        read_back(s, now, (u8)byte);
    else
        control_word(s, c, now, (u8)byte);
    if (c != 0)
        return;
    if ((port & 3) == 3 && byte >> 4 & 3) {
        s->missed = 0;
        if (!out && output(s, 0, now))
            give(p, now);           /* the control word itself raised OUT */
    }
    arm(p, now);
}

static u32 pit_read(void *opaque, u32 port, unsigned size)
{
    Pit *p = opaque;
    u64 now = clock_now(p);

    (void)size;
    if ((port & 3) == 3)
        return 0xff;
    ticks(p, now);                  /* a guest that compares count and ticks sees both of one instant */
    return read_counter(&p->s, port & 3, now);
}

/* ---- port 61h ---- */

static u32 port61_read(void *opaque, u32 port, unsigned size)
{
    Pit *p = opaque;
    u64 now = clock_now(p);

    (void)port;
    (void)size;
    return p->s.port61 | (u32)(now / 18 & 1) << 4 | (u32)output(&p->s, SPEAKER, now) << 5;
}

static void port61_write(void *opaque, u32 port, u32 byte, unsigned size)
{
    Pit *p = opaque;

    (void)port;
    (void)size;
    p->s.port61 = byte & 0x0f;
    set_gate(&p->s, SPEAKER, clock_now(p), byte & 1);
}

static const PortOps pit_ops = { pit_read, pit_write, 1 };
static const PortOps port61_ops = { port61_read, port61_write, 1 };

/* ---- device ---- */

static void pit_reset(Device *dev)
{
    Pit *p = (Pit *)dev;
    PitState *s = &p->s;

    for (int c = 0; c < 3; c++) {
        s->access[c] = 3;
        s->mode[c] = 3;
        s->gate[c] = c != SPEAKER;
    }
    s->edges_to = s->given_at = s->ended_at = clock_now(p);
    timer_cancel(&p->timer);
    irq_set(p->irq0, false);
}

static bool pit_loaded(Device *dev, Error *err)
{
    Pit *p = (Pit *)dev;
    PitState *s = &p->s;
    u64 now = clock_now(p);

    for (int c = 0; c < 3; c++) {
        bool loaded = s->count[c] >= 1 && s->count[c] <= 0x10000;

        if (s->mode[c] > 5 || s->access[c] < 1 || s->access[c] > 3 || s->next[c] > 0x10000 ||
            s->latched[c] > 3 || (s->running[c] && !loaded) || s->count[c] > 0x10000 ||
            (s->switch_at[c] && (!s->next[c] || s->switch_at[c] < s->start[c])) ||
            s->start[c] > now + 0x20000 || s->switch_at[c] > now + 0x20000)
            return error_set(err, "pit: impossible state of counter %d", c);
    }
    if (s->edges_to > now || s->given_at > now || s->ended_at > now ||
        (s->switch_at[0] && s->switch_at[0] <= s->edges_to))
        return error_set(err, "pit: ticks from the future");
    arm(p, now);
    return true;
}

static const DeviceClass pit_class = {
    .name = "pit", .size = sizeof(Pit), .state = offsetof(Pit, s), .state_size = sizeof(PitState),
    .fields = pit_fields, .reset = pit_reset, .loaded = pit_loaded,
};

Pit *pit_create(Machine *m, Irq irq0)
{
    Pit *p = device_create(m, &pit_class);

    p->irq0 = irq0;
    timer_init(&p->timer, m, CLOCK_VIRTUAL, timer_fired, p);
    port_map(m, "pit", 0x40, 4, &pit_ops, p);
    port_map(m, "port61", 0x61, 1, &port61_ops, p);
    return p;
}
