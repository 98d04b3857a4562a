/*
 * The straight ways of gate.c against the long ones: interrupts, IRET, SYSENTER, SYSEXIT and segment loads
 * with random gates, descriptors, stacks, flags and privileges. Where gate.c takes a case, all of the state
 * and the memory must be as the long way leaves them; where it doesn't, nothing may have changed. And what is
 * changed behind its back, by whatever address, must be seen.
 */
#include "test.h"

#include "../core/x86/system.h"

#include <string.h>

enum {
    RAM_BYTES = 1 << 20, ROUNDS = 60000,
    GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, STACK0 = 0x8800, STACK3 = 0x9800, USED = 0x10000,
    SELECTORS = 16,
};

#include "bare_cpu.h"
enum { INTERRUPT, IRET, SYSENTER, SYSEXIT, LOAD, KINDS };

typedef struct { int kind, vector, seg; bool software, has_error; u16 sel; } Case;

static u8 before[USED], after[USED];
static u32 seed = 88172645u, taken[KINDS];

static u32 next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed >> 3;
}

static u32 one_of(const u32 *list, unsigned n) { return list[next() % n]; }
#define ONE_OF(...) one_of((const u32[]){ __VA_ARGS__ }, sizeof((const u32[]){ __VA_ARGS__ }) / sizeof(u32))

/* Mostly flat segments of all privileges, and some of everything else. */
static void random_tables(void)
{
    memset(ram, 0, USED);
    for (unsigned i = 1; i < SELECTORS; i++) {
        u32 dpl = next() % 3 ? (i & 1 ? 3 : 0) : next() & 3;
        u32 hi = (i & 2 ? 0x00cf9b00 : 0x00cf9300) | dpl << 13 | (next() % 4 ? 0 : 1 << 20);

        if (next() % 4 == 0)
            hi ^= 1u << next() % 32;
        store32(ram + GDT + 8 * i, next() % 16 ? 0xffff : next());
        store32(ram + GDT + 8 * i + 4, hi);
    }
    for (unsigned i = 0; i < 16; i++) {
        u32 hi = 0x120000 | ONE_OF(0x8e00, 0x8f00, 0xee00, 0xef00, 0x8e00, 0x8600, 0x0e00, 0x8c00);

        store32(ram + IDT + 8 * i, (next() % SELECTORS << 3 | (next() & 3)) << 16 | 0x1234);
        store32(ram + IDT + 8 * i + 4, hi);
    }
    store32(ram + TSS + 4, STACK0 - (next() % 8 ? 0 : 0x7f8));
    store16(ram + TSS + 8, (u16)(next() % SELECTORS << 3));
}

static Seg loaded(u16 sel)
{
    u32 lo = load32(ram + GDT + (sel & ~7u)), hi = load32(ram + GDT + (sel & ~7u) + 4);
    Desc d = { lo, hi, 0 };

    return seg_from(sel, &d);
}

static void random_state(void)
{
    unsigned cpl = next() & 1 ? 3 : 0;

    device_reset(&cpu->dev);
    cpu->attention = 0;
    random_tables();
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = next() % 8 ? (Seg){ 0, 0xffffffffu, (u16)(8 * i + 8 + cpl),
                                            (u16)((i == CS ? 0xc09b : 0xc093) | cpl << 5) }
                                   : loaded((u16)(next() % SELECTORS << 3 | cpl));
    cpu->s.gdt_base = GDT;
    cpu->s.gdt_limit = 8 * SELECTORS - 1;
    cpu->s.idt_base = IDT;
    cpu->s.idt_limit = next() % 16 ? 8 * 16 - 1 : next() % 128;
    cpu->s.cr0 = CR0_PE | CR0_ET;
    cpu->s.tr = (Seg){ TSS, next() % 16 ? 0x67 : 0x9, 0x28, next() % 16 ? 0x8b : 0x83 };
    cpu->s.eflags = (next() & 0x3cd5) | FLAG_1 | (next() % 16 ? 0 : FLAG_NT) | (next() % 32 ? 0 : FLAG_AC);
    cpu->s.eflags |= next() % 32 ? 0 : FLAG_ID | FLAG_TF;
    for (int i = 0; i < 8; i++)
        cpu->s.gpr[i] = next();
    cpu->s.gpr[ESP] = (cpl ? STACK3 : STACK0) - (next() % 16 ? 0 : 0x7f0);
    cpu->s.eip = 0x6000;
    cpu->s.sysenter_cs = 8 + (next() & 3);
    cpu->s.sysenter_esp = next();
    cpu->s.sysenter_eip = next();
    x86_set_cpl(cpu, cpl);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    for (u32 at = GDT; at < USED; at += PAGE_SIZE)
        for (unsigned user = 0; user < 2; user++)
            mem_put(cpu, user, at + 8, mem_get(cpu, user, at + 8, 4), 4);
}

static void random_frame(void)
{
    u8 *at = ram + cpu->s.gpr[ESP];

    store32(at, next());
    store32(at + 4, next() % SELECTORS << 3 | (next() % 4 ? 3 : cpu->s.cpl));
    store32(at + 8, (next() & 0x7fd5) | (next() % 16 ? 0 : 1u << next() % 22));
    store32(at + 12, next());
    store32(at + 16, next() % SELECTORS << 3 | (next() % 4 ? 3 : next() & 3));
}

/* 0: done; 100 + vector: fault. */
static int long_way(const Case *c)
{
    cpu->fault_vector = -1;
    cpu->delivering = DELIVER_NONE;
    cpu->mode |= MODE_WATCH;                /* keeps gate.c out */
    if (__builtin_setjmp(cpu->leave))
        return 100 + cpu->fault_vector;
    switch (c->kind) {
    case INTERRUPT: x86_interrupt(cpu, c->vector, 0x6002, c->software, c->has_error, 0x5678); break;
    case IRET: helper_iret(cpu, 0, 2u << DESC_OPSIZE, 0); break;
    case SYSENTER: helper_sysenter(cpu, 0, 0, 0); break;
    case SYSEXIT: helper_sysexit(cpu, 0, 0, 0); break;
    default: x86_load_seg(cpu, c->seg, c->sel); break;
    }
    return 0;
}

static bool straight(const Case *c)
{
    switch (c->kind) {
    case INTERRUPT: return gate_deliver(cpu, c->vector, 0x6002, c->software, c->has_error, 0x5678);
    case IRET: return gate_iret(cpu);
    case SYSENTER: return gate_fast_call(cpu, 0);
    case SYSEXIT: return !cpu->s.cpl && gate_fast_call(cpu, 3);
    default: return gate_load(cpu, c->seg, c->sel);
    }
}

/* What the helpers do around gate.c. */
static void around(const Case *c)
{
    if (c->kind == IRET)
        cpu->s.eflags &= ~FLAG_RF;
    if (c->kind == SYSENTER || c->kind == SYSEXIT) {
        cpu->s.eip = c->kind == SYSENTER ? cpu->s.sysenter_eip : cpu->s.gpr[EDX];
        cpu->s.gpr[ESP] = c->kind == SYSENTER ? cpu->s.sysenter_esp : cpu->s.gpr[ECX];
    }
    if (c->kind == SYSENTER)
        cpu->s.eflags &= ~(FLAG_IF | FLAG_RF);
}

static bool one_round(void)
{
    static X86State start, end;
    Case c = { (int)(next() % KINDS), (int)(next() % 17), 0, next() & 1, next() & 1, 0 };
    u32 mode, end_mode;

    random_state();
    c.seg = (int)ONE_OF(ES, DS, FS, GS);
    c.sel = (u16)(next() % SELECTORS << 3 | (next() & 3));
    if (c.kind == IRET)
        random_frame();
    start = cpu->s;
    mode = cpu->mode;
    memcpy(before, ram, USED);
    cpu->delivering = DELIVER_NONE;
    if (!straight(&c))
        return !memcmp(&start, &cpu->s, sizeof start) && mode == cpu->mode && !memcmp(before, ram, USED);
    taken[c.kind]++;
    around(&c);
    end = cpu->s;
    end_mode = cpu->mode;
    memcpy(after, ram, USED);
    cpu->s = start;
    memcpy(ram, before, USED);
    cpu->tlb = cpu->tlb_set[start.cpl == 3];
    x86_update_mode(cpu);
    if (long_way(&c))
        return false;
    if (memcmp(&end, &cpu->s, sizeof end) || memcmp(after, ram, USED))
        return false;
    x86_update_mode(cpu);
    return cpu->mode == end_mode && cpu->tlb == cpu->tlb_set[end.cpl == 3];
}

static void test_same_as_the_long_way(void)
{
    unsigned wrong = 0;

    for (u32 i = 0; i < ROUNDS && wrong < 5; i++) {
        u32 at = seed;

        if (!one_round()) {
            printf("round %u, seed %u\n", i, at);
            wrong++;
        }
    }
    CHECK_MSG(!wrong, "the straight way and the long way end alike");
    for (int k = 0; k < KINDS; k++)
        CHECK_MSG(taken[k] > ROUNDS / KINDS / 50, "each kind goes straight often enough to be tested");
}

/* A program that can count on every case being straight. */
static void simple_state(void)
{
    device_reset(&cpu->dev);
    memset(ram, 0, USED);
    store64(ram + GDT + 0x08, 0x00cf9b000000ffffull);
    store64(ram + GDT + 0x10, 0x00cf93000000ffffull);
    store32(ram + IDT + 8 * 5, 0x00081000);
    store32(ram + IDT + 8 * 5 + 4, 0x8e00);
    cpu->s.gdt_base = GDT;
    cpu->s.idt_base = IDT;
    cpu->s.cr0 = CR0_PE | CR0_ET;
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ 0, 0xffffffffu, i == CS ? 8 : 16, i == CS ? 0xc09b : 0xc093 };
    cpu->s.gpr[ESP] = STACK0;
    x86_set_cpl(cpu, 0);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    for (u32 at = GDT; at < USED; at += PAGE_SIZE)
        mem_put(cpu, 0, at + 0x800, 0, 4);
}

static bool int5(void) { return gate_deliver(cpu, 5, 0x6002, false, false, 0); }

static void test_changes_are_seen(void)
{
    simple_state();
    CHECK(int5() && cpu->s.eip == 0x1000);
    mem_put(cpu, 0, IDT + 8 * 5, 0x2000, 2);
    CHECK_MSG(int5() && cpu->s.eip == 0x2000, "a gate changed between two interrupts");
    store16(ram + IDT + 8 * 5, 0x3000);
    CHECK_MSG(int5() && cpu->s.eip == 0x3000, "a gate changed by another address, or by DMA");
    memcpy(ram + 0x4000, ram + IDT, 256);
    store16(ram + 0x4000 + 8 * 5, 0x4000);
    cpu->s.idt_base = 0x4000;
    CHECK_MSG(int5() && cpu->s.eip == 0x4000, "an IDT that moved");
    store32(ram + GDT + 8 + 4, 0x00cf1b00);
    CHECK_MSG(!int5(), "a code segment that is no longer present");
    store32(ram + GDT + 8 + 4, 0x00cf9a00);
    CHECK_MSG(!int5(), "an accessed bit that must be set first");
    CHECK(gate_load(cpu, ES, 0x10));
    store32(ram + GDT + 0x10 + 4, 0x00cf9100);
    CHECK_MSG(!gate_load(cpu, ES, 0x10), "a data segment that became read-only");
}

static void test_unknown_to_the_tlb(void)
{
    simple_state();
    tlb_flush(cpu, true);
    CHECK_MSG(!int5(), "pages that the TLB does not know may fault: the long way");
    simple_state();
    cpu->s.gpr[ESP] = STACK0 + 0x800 + 8;
    CHECK_MSG(!int5() && cpu->s.gpr[ESP] == STACK0 + 0x808, "a frame across two pages: the long way");
}

int main(void)
{
    if (!bare_cpu_create())
        return test_end();
    test_same_as_the_long_way();
    test_changes_are_seen();
    test_unknown_to_the_tlb();
    return test_end();
}
