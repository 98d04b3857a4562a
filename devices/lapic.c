/*
 * Local APIC of a Pentium III class CPU (version 14h, six local vectors): interrupt priority, in-service
 * and request registers, local vector table, one-shot and periodic timer, interrupt commands, logical
 * destinations, spurious vector. Source: Intel SDM volume 3, chapter "Advanced Programmable Interrupt
 * Controller (APIC)"; chapter "Model-specific registers", IA32_APIC_BASE.
 *
 *   I/O APIC ──message──┐                     ┌── TPR, ISR ──> processor priority
 *   timer, ICR ─────────┴─> IRR (256 bits) ───┴──> INTR ──────────┐
 *   8259 pair ──> LINT0 (ExtINT, or a vector, or NMI) ──> INTR ───┴──> CPU
 *
 * The timer counts a bus clock of 100 MHz. Periodic ticks that come while the guest has not taken the last
 * one would merge with it in the chip; guests count them, so they are given later, half a period apart and
 * never more than MISSED_SECONDS' worth. After power-on LINT0 passes the 8259 pair through, as firmware
 * leaves it.
 *
 * One CPU: INIT and STARTUP messages have nobody to start and are swallowed. Not modelled: x2APIC, TSC-
 * deadline mode, the EOI broadcast suppression, LINT1 (no board of ours drives it), arbitration priority.
 */
#include "lapic.h"

#include "pci.h"

#include "../core/vm/cpu.h"
#include "../core/vm/device.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/monitor.h"

#include <stdio.h>
#include <string.h>

enum {                              /* register numbers: offset / 16 */
    R_ID = 0x02, R_VERSION = 0x03, R_TPR = 0x08, R_APR = 0x09, R_PPR = 0x0a, R_EOI = 0x0b, R_LDR = 0x0d,
    R_DFR = 0x0e, R_SVR = 0x0f, R_ISR = 0x10, R_TMR = 0x18, R_IRR = 0x20, R_ESR = 0x28, R_ICR_LOW = 0x30,
    R_ICR_HIGH = 0x31,
    R_LVT = 0x32, R_TIMER_INIT = 0x38, R_TIMER_NOW = 0x39, R_TIMER_DIVIDE = 0x3e,
};
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
enum { LVT_MASKED = 1 << 16, LVT_PERIODIC = 1 << 17, LVT_LEVEL = 1 << 15 };
enum { SVR_ON = 1 << 8, BASE_BSP = 1 << 8, BASE_ON = 1 << 11 };
enum { ESR_SEND_VECTOR = 1 << 5, ESR_TAKE_VECTOR = 1 << 6, ESR_REGISTER = 1 << 7 };
enum {
    VERSION = 0x00050014, NS_PER_CLOCK = 10,
    SOONEST_NS = 200000,            /* between two wakes of the host */
    MIN_TICK_NS = 20000,            /* nobody counts ticks that come faster */
    MISSED_SECONDS = 5,
};
#define BASE_ADDR 0xffffff000ull

typedef struct {
    u64 base;                       /* IA32_APIC_BASE */
    u64 timer_start;                /* virtual ns at which the count, or the period that is going on, began */
    u64 given_ns, missed;           /* periodic ticks: the last one; those that the guest was too busy for */
    u32 irr[8], isr[8], tmr[8];     /* a bit a vector */
    u32 lvt[LVT_COUNT];
    u32 id, ldr, dfr, svr, tpr;     /* id in bits 31-24, as in the register */
    u32 icr[2];
    u32 esr, errors;                /* errors: gathered, shown in esr after the next write to it */
    u32 timer_init, timer_divide;
    u32 lint0;                      /* level */
    u32 timer_expired;              /* the one-shot count has run out and was served */
    u8 pad[4];
} LapicState;

struct Lapic {
    Device dev;
    LapicState s;
    Timer timer;
    Pic *pic;
    Cpu *cpu;
    Irq intr;
    MemRegion *region;
    int mapping;                    /* handle; 0: hidden */
    u64 mapped_at;
    void (*eoi)(void *opaque, u8 vector, bool level);
    void *eoi_opaque;
    u64 taken, timer_fired;         /* for info lapic */
    bool said_init, said_mode;
};

static const SaveField lapic_fields[] = {
    SAVE(LapicState, base), SAVE(LapicState, timer_start), SAVE(LapicState, given_ns),
    SAVE(LapicState, missed), SAVE(LapicState, irr), SAVE(LapicState, isr),
    SAVE(LapicState, tmr), SAVE(LapicState, lvt), SAVE(LapicState, id), SAVE(LapicState, ldr),
    SAVE(LapicState, dfr), SAVE(LapicState, svr), SAVE(LapicState, tpr), SAVE(LapicState, icr),
    SAVE(LapicState, esr), SAVE(LapicState, errors), SAVE(LapicState, timer_init),
    SAVE(LapicState, timer_divide), SAVE(LapicState, lint0), SAVE(LapicState, timer_expired),
    SAVE(LapicState, pad), SAVE_END
};

/* ---- priorities ---- */

static void set_bit(u32 bits[8], u8 v) { bits[v >> 5] |= 1u << (v & 31); }
static void clear_bit(u32 bits[8], u8 v) { bits[v >> 5] &= ~(1u << (v & 31)); }
static bool get_bit(const u32 bits[8], u8 v) { return bits[v >> 5] >> (v & 31) & 1; }

/* The highest vector that is set, or -1. */
static int highest(const u32 bits[8])
{
    for (int i = 7; i >= 0; i--) {
        if (bits[i])
            return i * 32 + 31 - __builtin_clz(bits[i]);
    }
    return -1;
}

static bool is_on(const LapicState *s) { return (s->base & BASE_ON) && (s->svr & SVR_ON); }

static u32 priority(const LapicState *s)
{
    int service = highest(s->isr);
    u32 tpr = s->tpr & 0xff, in_service = service < 0 ? 0 : (u32)service & 0xf0;

    return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

/* The vector that may interrupt the CPU, or -1. */
static int deliverable(const LapicState *s)
{
    int v = is_on(s) ? highest(s->irr) : -1;

    return v >= 0 && ((u32)v & 0xf0) > (priority(s) & 0xf0) ? v : -1;
}

/* The 8259 pair has something and may tell the CPU. */
static bool extint(const LapicState *s)
{
    u32 lint0 = s->lvt[LVT_LINT0];

    if (!s->lint0)
        return false;
    return !(s->base & BASE_ON) || (!(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == APIC_EXTINT);
}

static void update(Lapic *a)
{
    irq_set(a->intr, deliverable(&a->s) >= 0 || extint(&a->s));
}

static void request(Lapic *a, u8 vector, bool level)
{
    LapicState *s = &a->s;

    if (vector < 16) {
        s->errors |= ESR_TAKE_VECTOR;
        return;
    }
    set_bit(s->irr, vector);
    if (level)
        set_bit(s->tmr, vector);
    else
        clear_bit(s->tmr, vector);
    update(a);
}

bool lapic_requested(const Lapic *a, u8 vector) { return get_bit(a->s.irr, vector); }

static int intack(void *opaque)
{
    Lapic *a = opaque;
    int v = deliverable(&a->s);

    if (v >= 0) {
        clear_bit(a->s.irr, (u8)v);
        set_bit(a->s.isr, (u8)v);
        a->taken++;
        update(a);
        return v;
    }
    if (!extint(&a->s))
        return -1;
    v = pic_ack(a->pic);
    update(a);
    return v;
}

static void timer_due(void *opaque);

static void end_of_interrupt(Lapic *a)
{
    LapicState *s = &a->s;
    int v = highest(s->isr);

    if (v < 0)
        return;
    clear_bit(s->isr, (u8)v);
    update(a);
    if (s->missed && (u8)v == (u8)s->lvt[LVT_TIMER])
        timer_due(a);
    if (a->eoi)
        a->eoi(a->eoi_opaque, (u8)v, get_bit(s->tmr, (u8)v));
}

void lapic_on_eoi(Lapic *a, void (*eoi)(void *opaque, u8 vector, bool level), void *opaque)
{
    a->eoi = eoi;
    a->eoi_opaque = opaque;
}

/* ---- messages ---- */

static bool is_meant(const LapicState *s, u8 dest, bool logical)
{
    u8 mine = (u8)(s->ldr >> 24);

    if (!logical)
        return dest == 0xff || dest == (u8)(s->id >> 24);
    if (dest == 0xff)
        return true;
    if (s->dfr >> 28 == 0xf)        /* flat */
        return dest & mine;
    return dest >> 4 == mine >> 4 && (dest & mine & 15);
}

static bool take_message(Lapic *a, u8 mode, u8 vector, bool level)
{
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!is_on(&a->s))
            return false;
        request(a, vector, level);
        return true;
    case APIC_SMI:
        irq_pulse(cpu_smi_line(a->cpu));
        return true;
    case APIC_NMI:
        irq_pulse(cpu_nmi_line(a->cpu));
        return true;
    case APIC_INIT:
    case APIC_STARTUP:
        log_once(&a->said_init, "lapic: INIT or STARTUP for the only CPU, ignored");
        return true;
    default:
        log_once(&a->said_mode, "lapic: message with delivery mode %u is not supported", mode);
        return false;
    }
}

bool lapic_message(Lapic *a, u8 dest, bool logical, u8 mode, u8 vector, bool level)
{
    if (!(a->s.base & BASE_ON) || !is_meant(&a->s, dest, logical))
        return false;
    return take_message(a, mode, vector, level);
}

static void send_command(Lapic *a)
{
    LapicState *s = &a->s;
    u32 low = s->icr[0], mode = low >> 8 & 7;
    bool fixed = mode == APIC_FIXED || mode == APIC_LOWEST, deassert = mode == APIC_INIT && !(low & 1 << 14);

    if (fixed && (low & 0xff) < 16)
        s->errors |= ESR_SEND_VECTOR;
    if (deassert)                   /* only sets arbitration ids */
        return;
    switch (low >> 18 & 3) {
    case 0:
        lapic_message(a, (u8)(s->icr[1] >> 24), low >> 11 & 1, (u8)mode, (u8)low, false);
        break;
    case 1:
    case 2:
        take_message(a, (u8)mode, (u8)low, false);
        break;
    case 3:                         /* all but this one: there is no other */
        break;
    }
}

/* ---- LINT0 ---- */

static void lint0_set(void *opaque, int n, bool level)
{
    Lapic *a = opaque;
    LapicState *s = &a->s;
    u32 lvt = s->lvt[LVT_LINT0];
    bool rising = level && !s->lint0;

    (void)n;
    s->lint0 = level;
    if (rising && (s->base & BASE_ON) && !(lvt & LVT_MASKED)) {
        if ((lvt >> 8 & 7) == APIC_FIXED && is_on(s))
            request(a, (u8)lvt, lvt & LVT_LEVEL);
        else if ((lvt >> 8 & 7) == APIC_NMI)
            irq_pulse(cpu_nmi_line(a->cpu));
    }
    update(a);
}

/* ---- timer ---- */

static u64 clock_now(const Lapic *a) { return clock_ns(a->dev.m, CLOCK_VIRTUAL); }

/* Nanoseconds a count. Divide configuration: bits 3, 1, 0; 7 means 1. */
static u64 count_ns(const LapicState *s)
{
    unsigned v = (s->timer_divide & 3) | (s->timer_divide >> 1 & 4);

    return (u64)NS_PER_CLOCK << ((v + 1) & 7);
}

static u64 timer_period(const LapicState *s) { return s->timer_init * count_ns(s); }

static bool is_periodic(const LapicState *s) { return s->lvt[LVT_TIMER] & LVT_PERIODIC; }

static u32 timer_count(const Lapic *a)
{
    const LapicState *s = &a->s;
    u64 done = (clock_now(a) - s->timer_start) / count_ns(s);

    if (!s->timer_init)
        return 0;
    if (is_periodic(s))
        return s->timer_init - (u32)(done % s->timer_init);
    return done >= s->timer_init ? 0 : s->timer_init - (u32)done;
}

static bool timer_masked(const LapicState *s) { return (s->lvt[LVT_TIMER] & LVT_MASKED) || !is_on(s); }
static u8 timer_vector(const LapicState *s) { return (u8)s->lvt[LVT_TIMER]; }

/* Between ticks that are made up for; 0: at once, the host could not wake in time. */
static u64 catch_up_gap(const LapicState *s)
{
    u64 gap = timer_period(s) / 2;

    return gap < SOONEST_NS ? 0 : gap;
}

/* Lets the periods that have passed pass, and gives the tick that is due. */
static void serve_periodic(Lapic *a, u64 now)
{
    LapicState *s = &a->s;
    u64 period = timer_period(s), edges = (now - s->timer_start) / period;
    u64 limit = period < MIN_TICK_NS ? 1 : MISSED_SECONDS * NS_PER_SEC / period + 1;

    s->timer_start += edges * period;
    s->missed = timer_masked(s) ? 0 : s->missed + edges;
    if (s->missed > limit)
        s->missed = limit;
    if (!s->missed || get_bit(s->irr, timer_vector(s)) || (!edges && now < s->given_ns + catch_up_gap(s)))
        return;
    s->missed--;
    s->given_ns = now;
    a->timer_fired++;
    request(a, timer_vector(s), false);
}

/* What is due happens: by the main loop, or before the guest looks at the timer or changes it. */
static void timer_serve(Lapic *a)
{
    LapicState *s = &a->s;
    u64 now = clock_now(a);

    if (!s->timer_init)
        return;
    if (is_periodic(s)) {
        serve_periodic(a, now);
    } else if (!s->timer_expired && now - s->timer_start >= timer_period(s)) {
        s->timer_expired = 1;
        if (timer_masked(s))
            return;
        a->timer_fired++;
        request(a, timer_vector(s), false);
    }
}

/* Masked, the timer only has to be read: nobody is woken for it. */
static void timer_update(Lapic *a)
{
    const LapicState *s = &a->s;
    u64 now = clock_now(a), at = s->timer_start + timer_period(s), soonest = now + SOONEST_NS;

    timer_cancel(&a->timer);
    if (!s->timer_init || timer_masked(s) || (s->timer_expired && !is_periodic(s)))
        return;
    if (is_periodic(s)) {
        if (s->missed && !get_bit(s->irr, timer_vector(s)) && s->given_ns + catch_up_gap(s) < at)
            at = s->given_ns + catch_up_gap(s);
        if (at < soonest && (timer_period(s) < SOONEST_NS || s->missed))
            at = soonest;
    }
    timer_arm(&a->timer, at);
}

static void timer_due(void *opaque)
{
    timer_serve(opaque);
    timer_update(opaque);
}

static void write_divide(Lapic *a, u32 value)
{
    LapicState *s = &a->s;
    u64 left;

    timer_serve(a);
    left = timer_count(a);
    s->timer_divide = value & 0x0b;
    if (!s->timer_init)
        return;
    /* What is left goes on at the new rate. */
    s->timer_start = clock_now(a);
    if ((s->timer_init - left) * count_ns(s) <= s->timer_start)
        s->timer_start -= (s->timer_init - left) * count_ns(s);
    timer_update(a);
}

/* ---- registers ---- */

static void write_lvt(Lapic *a, unsigned i, u32 value)
{
    static const u32 writable[LVT_COUNT] = { 0x300ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff };
    LapicState *s = &a->s;

    timer_serve(a);
    s->lvt[i] = value & writable[i];
    if (!(s->svr & SVR_ON))
        s->lvt[i] |= LVT_MASKED;
    if (i == LVT_TIMER) {
        /* A one-shot count that has run out does not start again by becoming periodic. */
        if (is_periodic(s) && s->timer_expired)
            s->timer_init = 0;
        s->missed = 0;
        timer_update(a);
    }
    update(a);
}

static void write_svr(Lapic *a, u32 value)
{
    LapicState *s = &a->s;

    timer_serve(a);
    s->svr = value & 0x3ff;
    for (int i = 0; i < LVT_COUNT && !(s->svr & SVR_ON); i++)
        s->lvt[i] |= LVT_MASKED;
    timer_update(a);
    update(a);
}

static void lapic_write(void *opaque, u64 offset, u64 wide, unsigned size)
{
    Lapic *a = opaque;
    LapicState *s = &a->s;
    u32 value = (u32)wide;
    unsigned reg = (unsigned)(offset >> 4);

    (void)size;
    if (offset & 15)
        return;
    switch (reg) {
    case R_ID:
        s->id = value & 0x0f000000;
        break;
    case R_TPR:
        s->tpr = value & 0xff;
        update(a);
        break;
    case R_EOI:
        end_of_interrupt(a);
        break;
    case R_LDR:
        s->ldr = value & 0xff000000;
        break;
    case R_DFR:
        s->dfr = value | 0x0fffffff;
        break;
    case R_SVR:
        write_svr(a, value);
        break;
    case R_ESR:
        s->esr = s->errors;
        s->errors = 0;
        break;
    case R_ICR_LOW:
        s->icr[0] = value & 0xccfff;
        send_command(a);
        break;
    case R_ICR_HIGH:
        s->icr[1] = value & 0xff000000;
        break;
    case R_TIMER_INIT:
        timer_serve(a);
        s->timer_init = value;
        s->timer_start = clock_now(a);
        s->timer_expired = 0;
        s->missed = 0;
        timer_update(a);
        break;
    case R_TIMER_DIVIDE:
        write_divide(a, value);
        break;
    default:
        if (reg >= R_LVT && reg < R_LVT + LVT_COUNT)
            write_lvt(a, reg - R_LVT, value);
        else
            s->errors |= ESR_REGISTER;
    }
}

static u32 read_reg(Lapic *a, unsigned reg)
{
    const LapicState *s = &a->s;

    switch (reg) {
    case R_ID:
        return s->id;
    case R_VERSION:
        return VERSION;
    case R_TPR:
        return s->tpr;
    case R_APR:
        return 0;
    case R_PPR:
        return priority(s);
    case R_LDR:
        return s->ldr;
    case R_DFR:
        return s->dfr;
    case R_SVR:
        return s->svr;
    case R_ESR:
        return s->esr;
    case R_ICR_LOW:
    case R_ICR_HIGH:
        return s->icr[reg - R_ICR_LOW];
    case R_TIMER_INIT:
        return s->timer_init;
    case R_TIMER_NOW:
        timer_serve(a);
        return timer_count(a);
    case R_TIMER_DIVIDE:
        return s->timer_divide;
    }
    if (reg >= R_ISR && reg < R_ISR + 8)
        return s->isr[reg - R_ISR];
    if (reg >= R_TMR && reg < R_TMR + 8)
        return s->tmr[reg - R_TMR];
    if (reg >= R_IRR && reg < R_IRR + 8)
        return s->irr[reg - R_IRR];
    if (reg >= R_LVT && reg < R_LVT + LVT_COUNT)
        return s->lvt[reg - R_LVT] | (reg == R_LVT + LVT_LINT0 && extint(s) ? 1u << 12 : 0);
    a->s.errors |= ESR_REGISTER;
    return 0;
}

static u64 lapic_read(void *opaque, u64 offset, unsigned size)
{
    (void)size;
    return offset & 15 ? 0 : read_reg(opaque, (unsigned)(offset >> 4));
}

static const MmioOps lapic_ops = { lapic_read, lapic_write, 4, 4 };

/* ---- IA32_APIC_BASE ---- */

static void show(Lapic *a)
{
    Memory *mem = a->dev.m->mem;
    u64 at = a->s.base & BASE_ADDR;
    bool on = a->s.base & BASE_ON;

    if (on == (a->mapping != 0) && (!on || at == a->mapped_at))
        return;
    mem_unmap(mem, a->mapping);
    a->mapping = on ? mem_map(mem, a->region, at, 0, PAGE_SIZE, MAP_PRIO_CHIP, MEM_RW) : 0;
    a->mapped_at = at;
}

/* Registers as after power-on; base is kept. */
static void clear_registers(Lapic *a)
{
    LapicState *s = &a->s;
    u64 base = s->base;
    u32 lint0 = s->lint0;

    memset(s, 0, sizeof(*s));
    s->base = base;
    s->lint0 = lint0;
    s->dfr = 0xffffffff;
    s->svr = 0xff;
    for (int i = 0; i < LVT_COUNT; i++)
        s->lvt[i] = LVT_MASKED;
    s->lvt[LVT_LINT0] = APIC_EXTINT << 8;
    timer_cancel(&a->timer);
}

static u64 get_base(void *opaque) { return ((Lapic *)opaque)->s.base; }

static void set_base(void *opaque, u64 value)
{
    Lapic *a = opaque;
    bool was_on = a->s.base & BASE_ON;

    a->s.base = (value & (BASE_ADDR | BASE_ON)) | BASE_BSP;
    if (was_on && !(value & BASE_ON))
        clear_registers(a);
    show(a);
    update(a);
}

/* ---- monitor ---- */

static void print_vectors(const char *name, const u32 bits[8], PrintFn *print, void *opaque)
{
    char line[128];
    size_t len = (size_t)snprintf(line, sizeof(line), "  %s:", name);

    for (unsigned v = 0; v < 256 && len < sizeof(line) - 8; v++) {
        if (get_bit(bits, (u8)v))
            len += (size_t)snprintf(line + len, sizeof(line) - len, " %02x", v);
    }
    print(opaque, line);
}

static void info_lapic(void *opaque, PrintFn *print, void *print_opaque)
{
    static const char *const names[LVT_COUNT] = { "timer", "thermal", "perf", "lint0", "lint1", "error" };
    const Lapic *a = opaque;
    const LapicState *s = &a->s;
    char line[128];

    snprintf(line, sizeof(line), "lapic: base %llx %s, svr %03x, tpr %02x, ppr %02x, %llu interrupts",
             (unsigned long long)(s->base & BASE_ADDR), is_on(s) ? "on" : "off", s->svr, s->tpr, priority(s),
             (unsigned long long)a->taken);
    print(print_opaque, line);
    for (int i = 0; i < LVT_COUNT; i++) {
        snprintf(line, sizeof(line), "  %-7s vector %02x mode %u%s%s", names[i], s->lvt[i] & 0xff,
                 s->lvt[i] >> 8 & 7, s->lvt[i] & LVT_MASKED ? " masked" : "",
                 i == LVT_TIMER && is_periodic(s) ? " periodic" : "");
        print(print_opaque, line);
    }
    snprintf(line, sizeof(line), "  timer: %u of %u counts of %u ns, fired %llu times", timer_count(a),
             s->timer_init, (unsigned)count_ns(s), (unsigned long long)a->timer_fired);
    print(print_opaque, line);
    print_vectors("requested", s->irr, print, print_opaque);
    print_vectors("in service", s->isr, print, print_opaque);
}

/* ---- device ---- */

static void lapic_reset(Device *dev)
{
    Lapic *a = (Lapic *)dev;

    a->s.base = 0xfee00000 | BASE_BSP | BASE_ON;
    clear_registers(a);
    a->s.lint0 = pic_output(a->pic);
    show(a);
    update(a);
}

static bool lapic_loaded(Device *dev, Error *err)
{
    Lapic *a = (Lapic *)dev;

    if (a->s.base & ~(BASE_ADDR | BASE_BSP | BASE_ON) || a->s.timer_start > clock_now(a) ||
        a->s.given_ns > clock_now(a))
        return error_set(err, "lapic: impossible state");
    show(a);
    timer_update(a);
    update(a);
    return true;
}

static const DeviceClass lapic_class = {
    .name = "lapic", .size = sizeof(Lapic), .state = offsetof(Lapic, s), .state_size = sizeof(LapicState),
    .fields = lapic_fields, .reset = lapic_reset, .loaded = lapic_loaded,
};

Lapic *lapic_create(Machine *m, Cpu *cpu, Pic *pic)
{
    Lapic *a = device_create(m, &lapic_class);

    a->cpu = cpu;
    a->pic = pic;
    a->intr = cpu_intr_line(cpu);
    a->region = mem_mmio(m->mem, "lapic", PAGE_SIZE, &lapic_ops, a);
    timer_init(&a->timer, m, CLOCK_VIRTUAL, timer_due, a);
    cpu_connect_intack(cpu, intack, a);
    cpu_connect_apic(cpu, get_base, set_base, a);
    pic_connect_output(pic, (Irq){ lint0_set, a, 0 });
    monitor_add_info(m, "lapic", "state of the local APIC", info_lapic, a);
    return a;
}
