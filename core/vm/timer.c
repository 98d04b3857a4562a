/*
 * Clocks and timers: two sorted lists served by the main loop.
 *
 * A clock is the host's monotonic counter minus an offset; the virtual one stops by remembering where it
 * stood and starts again with a new offset. The TSC is the host's own, offset and stopped in the same way: no
 * division on the way to RDTSC.
 */
#include "timer.h"

#include "clocks.h"
#include "host.h"
#include "machine.h"

#include <stdlib.h>

struct Clocks {
    u64 base_ns;                /* host time of CLOCK_HOST's zero */
    u64 offset_ns;              /* host time of CLOCK_VIRTUAL's zero while it runs */
    u64 frozen_ns;              /* its reading while it stands */
    u64 tsc_offset, tsc_frozen;
    u64 base_tsc;               /* host TSC at base_ns, to tell its rate */
    bool running;               /* CLOCK_VIRTUAL runs */
    bool serving;               /* inside timers_run(): the main loop will look at the lists anyway */
    bool kept;                  /* the vCPU looks at CLOCK_VIRTUAL's list itself */
    u64 deadline;               /* host time the main loop sleeps to */
    Timer *head[CLOCK_COUNT];
};

bool clocks_create(Machine *m)
{
    Clocks *c = calloc(1, sizeof(*c));

    if (!c)
        return false;
    c->base_ns = host_now_ns();
    c->base_tsc = __builtin_ia32_rdtsc();
    c->deadline = TIMER_NEVER;
    m->clocks = c;
    return true;
}

void clocks_destroy(Machine *m)
{
    free(m->clocks);
    m->clocks = NULL;
}

void clocks_run(Machine *m, bool run)
{
    Clocks *c = m->clocks;

    if (run == c->running)
        return;
    if (run) {
        c->offset_ns = host_now_ns() - c->frozen_ns;
        c->tsc_offset = __builtin_ia32_rdtsc() - c->tsc_frozen;
    } else {
        c->frozen_ns = host_now_ns() - c->offset_ns;
        c->tsc_frozen = __builtin_ia32_rdtsc() - c->tsc_offset;
    }
    c->running = run;
}

void clocks_set(Machine *m, u64 ns)
{
    Clocks *c = m->clocks;
    u64 was = c->frozen_ns;

    c->frozen_ns = ns;
    for (Timer *t = c->head[CLOCK_VIRTUAL]; t; t = t->next)
        t->when = t->when > was ? t->when - was + ns : ns;
}

u64 clock_ns(Machine *m, Clock clock)
{
    const Clocks *c = m->clocks;

    if (clock == CLOCK_HOST)
        return host_now_ns() - c->base_ns;
    return c->running ? host_now_ns() - c->offset_ns : c->frozen_ns;
}

u64 clock_tsc(Machine *m)
{
    const Clocks *c = m->clocks;

    return c->running ? __builtin_ia32_rdtsc() - c->tsc_offset : c->tsc_frozen;
}

u64 clock_tsc_hz(Machine *m)
{
    const Clocks *c = m->clocks;
    u64 ns = host_now_ns() - c->base_ns;

    return muldiv64(__builtin_ia32_rdtsc() - c->base_tsc, NS_PER_SEC, ns ? ns : 1);
}

void clock_set_tsc(Machine *m, u64 value)
{
    Clocks *c = m->clocks;

    c->tsc_offset = __builtin_ia32_rdtsc() - value;
    c->tsc_frozen = value;
}

/* ---- timers ---- */

void timer_init(Timer *t, Machine *m, Clock clock, void (*fire)(void *opaque), void *opaque)
{
    *t = (Timer){ .fire = fire, .opaque = opaque, .m = m, .when = TIMER_NEVER, .clock = clock };
}

static u64 host_time_of(const Clocks *c, Clock clock, u64 when)
{
    u64 base = clock == CLOCK_HOST ? c->base_ns : c->offset_ns;

    if (clock == CLOCK_VIRTUAL && !c->running)
        return TIMER_NEVER;
    return when > TIMER_NEVER - 1 - base ? TIMER_NEVER - 1 : base + when;
}

void timer_cancel(Timer *t)
{
    if (!timer_armed(t))
        return;
    for (Timer **at = &t->m->clocks->head[t->clock]; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->when = TIMER_NEVER;
}

void timer_arm(Timer *t, u64 when_ns)
{
    Clocks *c = t->m->clocks;
    Timer **at = &c->head[t->clock];

    timer_cancel(t);
    t->when = when_ns < TIMER_NEVER ? when_ns : TIMER_NEVER - 1;
    while (*at && (*at)->when <= t->when)
        at = &(*at)->next;
    t->next = *at;
    *at = t;
    if (!c->serving && !(c->kept && t->clock == CLOCK_VIRTUAL)) {
        u64 host_when = host_time_of(c, t->clock, t->when);

        if (host_when < c->deadline) {
            c->deadline = host_when;
            host_deadline(host_when);
        }
    }
}

static bool due(const Clocks *c, int clock, u64 now)
{
    return c->head[clock] && c->head[clock]->when <= now && (clock == CLOCK_HOST || c->running);
}

void clock_run_due(Machine *m, Clock clock)
{
    Clocks *c = m->clocks;
    u64 now = clock_ns(m, clock);

    /* Bounded: a timer that re-arms itself into the past must not hold its caller here. */
    for (int left = 1000; left && due(c, clock, now); left--) {
        Timer *t = c->head[clock];

        c->head[clock] = t->next;
        t->when = TIMER_NEVER;
        t->fire(t->opaque);
    }
}

u64 clock_next(Machine *m, Clock clock)
{
    const Clocks *c = m->clocks;

    return c->head[clock] ? host_time_of(c, clock, c->head[clock]->when) : TIMER_NEVER;
}

void clock_keep(Machine *m, bool kept) { m->clocks->kept = kept; }

u64 timers_run(Machine *m)
{
    Clocks *c = m->clocks;
    u64 next;

    c->serving = true;
    if (!c->kept)
        clock_run_due(m, CLOCK_VIRTUAL);
    clock_run_due(m, CLOCK_HOST);
    c->serving = false;
    c->deadline = clock_next(m, CLOCK_HOST);
    next = c->kept ? TIMER_NEVER : clock_next(m, CLOCK_VIRTUAL);
    if (next < c->deadline)
        c->deadline = next;
    return c->deadline;
}
