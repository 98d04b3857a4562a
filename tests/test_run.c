/*
 * cpu_run() with random code, three ways.
 *
 * Well-formed instructions are run three times from the same state: as blocks, one instruction at a time (an
 * execution breakpoint is set where nothing ever runs), and with every access on the slow path (a data
 * breakpoint likewise). All must end alike: registers, flags, x87 and XMM, memory. An error in flag
 * liveness, block linking, self-modifying code or the TLB shows as a difference. Flags that an instruction
 * leaves undefined are defined again by a CMP behind it; at faults arithmetic flags are not compared, since
 * those that the faulting instruction overwrites are not kept.
 *
 * Loops of well-formed instructions, with calls, stores into their own code and stores by another linear address
 * of the same page, at privilege 0 and 3, are run undisturbed and disturbed: a timer of some microseconds stops
 * the CPU or interrupts it wherever it polls; at each stop its state is saved and loaded, TLB entries are dropped
 * at random, now and then all translated code. Both must end alike.
 *
 * Random bytes as code in every mode must neither crash nor hang: whatever they do, cpu_run() comes back
 * when asked.
 *
 * QEMU_WIN_SEED starts elsewhere, QEMU_WIN_ROUNDS does more.
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    RAM_BYTES = 8 << 20,
    WINDOW = 4 << 20, /* the lower half is the program's, the upper holds the tables */
    GDT = WINDOW,
    IDT = WINDOW + 0x1000,
    HALTS = WINDOW + 0x3000,
    PAGE_DIR = WINDOW + 0x4000,
    PAGE_LOW = WINDOW + 0x5000,
    PAGE_HIGH = WINDOW + 0x6000,
    TSS = WINDOW + 0x7000,
    MAX_REPORTS = 8,
};
#define HIGH 0xffc00000u                        /* where the tables are seen with paging on */
enum {
    SEL_CODE = 0x08,
    SEL_DATA = 0x10,
    SEL_CODE16 = 0x18,
    SEL_DATA16 = 0x20,
    SEL_LIMITED = 0x28,
    SEL_DOWN = 0x30,
    SEL_CODE3 = 0x3b,
    SEL_DATA3 = 0x43,
    SEL_TSS = 0x48
};

static Machine *m;
static Cpu *cpu;
static u8 *ram, *first_ram, *start_ram;
static X86State start_state;
static u64 random_state;
static volatile u64 heartbeat;
static volatile bool over;

static u32 rnd(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (u32)(random_state >> 16);
}

static void seed(u64 n)
{
    random_state = n * 0x9e3779b97f4a7c15ull + 777;
    for (int i = 0; i < 3; i++)
        rnd();
}

/* Asks a CPU that has been at one program for 5 ms or more to stop. */
static void *watchdog(void *opaque)
{
    u64 last = 0;
    int same = 0;

    (void)opaque;
    while (!over) {
        usleep(1000);
        same = heartbeat == last ? same + 1 : 0;
        last = heartbeat;
        if (same >= 5)
            cpu_attention(cpu, CPU_ATT_STOP);
        if (same >= 20000) {
            printf("cpu_run() does not stop in round %llu\n", (unsigned long long)last);
            fflush(stdout);
            abort();
        }
    }
    return NULL;
}

/* ---- the program's machine ---- */

static void set_desc(u32 sel, u32 base, u32 limit, unsigned access, unsigned flags)
{
    u8 *d = ram + GDT + (sel & ~7u);

    store32(d, (limit & 0xffff) | base << 16);
    store32(d + 4,
            (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000u));
}

static void load(int seg, u16 sel)
{
    const u8 *d = ram + GDT + (sel & ~7);
    u32 lo = load32(d), hi = load32(d + 4), limit = (lo & 0xffff) | (hi & 0xf0000);

    cpu->s.seg[seg] = (Seg){ lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000u),
                             hi & 0x800000 ? limit << 12 | 0xfff : limit, sel, hi >> 8 & 0xf0ff };
    if (seg == CS)
        cpu->s.cpl = sel & 3;
}

/* Tables in the upper half; all of the linear space but its top shows the lower half again and again. */
static void make_tables(bool holes)
{
    memset(ram + WINDOW, 0, 0x10000);
    set_desc(SEL_CODE, 0, 0xfffff, 0x9b, 0xc);
    set_desc(SEL_DATA, 0, 0xfffff, 0x93, 0xc);
    set_desc(SEL_CODE16, 0x12340, 0xffff, 0x9b, 0);
    set_desc(SEL_DATA16, 0x20000, 0xffff, 0x93, 0);
    set_desc(SEL_LIMITED, 0x300000, 0x3fff, 0x93, 4);
    set_desc(SEL_DOWN, 0x310000, 0x3fff, 0x97, 4);
    set_desc(SEL_CODE3, 0, 0xfffff, 0xfb, 0xc);
    set_desc(SEL_DATA3, 0, 0xfffff, 0xf3, 0xc);
    set_desc(SEL_TSS, HIGH + 0x7000, 0x67, 0x8b, 0);
    for (u32 i = 0; i < 256; i++) {             /* every vector halts at an address of its own */
        u32 to = HIGH + 0x3000 + i;

        store32(ram + IDT + 8 * i, (to & 0xffff) | SEL_CODE << 16);
        store32(ram + IDT + 8 * i + 4, (to & 0xffff0000u) | 0x8e00);
    }
    memset(ram + HALTS, 0xf4, 0x200);
    for (u32 i = 0; i < 1024; i++) {
        bool hole = holes && (i < 0x10 || i >= 0x30) && rnd() % 64 == 0;

        store32(ram + PAGE_DIR + 4 * i, PAGE_LOW | 7);
        store32(ram + PAGE_LOW + 4 * i, i << 12 | (hole ? rnd() & 7 : 7));
        store32(ram + PAGE_HIGH + 4 * i, (WINDOW + (i << 12)) | 7);
    }
    store32(ram + PAGE_DIR + 4 * 1023, PAGE_HIGH | 7);
    store32(ram + TSS + 4, 0x3f0000);
    store32(ram + TSS + 8, SEL_DATA);
    cpu->s.gdt_base = HIGH;
    cpu->s.gdt_limit = 0xff;
    cpu->s.idt_base = HIGH + 0x1000;
    cpu->s.idt_limit = 0x7ff;
    cpu->s.tr = (Seg){ HIGH + 0x7000, 0x67, SEL_TSS, 0x8b };
    cpu->s.cr3 = PAGE_DIR;
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_PG | CR0_NE | CR0_WP;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
}

/* ---- ways to run ---- */

enum { BLOCKS, STEPS, SLOW, WAYS, DISTURBED = WAYS };
static const char *const way_names[] = { "blocks", "single steps", "slow accesses", "disturbed" };

/* ---- well-formed instructions ---- */

enum { MAX_INSNS = 68 };
static u8 *out, *jumps[MAX_INSNS];      /* displacement bytes, filled in when all targets are known */
static bool code16;

static void byte(u32 v) { *out++ = (u8)v; }

static void bytes(u32 v, unsigned n)
{
    for (; n; n--, v >>= 8)
        byte(v);
}

static void modrm_16(unsigned reg, u32 kind)
{
    u32 rm = rnd() & 7;

    if (kind == 3 || (rm == 6 && kind < 5)) {
        byte(0x06 | reg << 3);
        bytes(rnd(), 2);
    } else if (kind == 4) {
        byte(reg << 3 | rm);
    } else {
        byte((kind < 7 ? 0x40 : 0x80) | reg << 3 | rm);
        bytes(rnd(), kind < 7 ? 1 : 2);
    }
}

static void modrm_32(unsigned reg, u32 kind)
{
    u32 rm = rnd() & 7, mod = kind == 4 && rm != 5 ? 0 : kind < 7 ? 1 : 2;

    if (kind == 3) {
        byte(0x05 | reg << 3);
        bytes(rnd(), 4);
        return;
    }
    byte(mod << 6 | reg << 3 | rm);
    if (rm == 4) {
        u32 sib = rnd();

        byte((sib & 7) == 5 && mod == 0 ? sib ^ 1 : sib);
    }
    bytes(rnd() & 1 ? rnd() : rnd() & 0xffff, mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static void modrm(unsigned reg, bool memory)
{
    u32 kind = memory ? 3 + rnd() % 5 : rnd() % 8;

    if (kind < 3)
        byte(0xc0 | reg << 3 | (rnd() & 7));
    else if (code16)
        modrm_16(reg, kind);
    else
        modrm_32(reg, kind);
}

/*
 * What follows an opcode: M a modrm byte, then an immediate. The reg field is drawn from reg_low to
 * reg_high.
 */
enum { PLAIN, M, M_MEM, M_BYTE, M_IMM, BYTE, IMM, NEAR, ADDRESS };
enum { UNDEFINED = 1, WANTS_0F = 2 };
typedef struct { u8 first, last, form, flags, reg_low, reg_high; } Template;
static const Template templates[] = {
    { 0x00, 0x03, M, 0, 0, 7 }, { 0x08, 0x0b, M, 0, 0, 7 }, { 0x10, 0x13, M, 0, 0, 7 },
    { 0x18, 0x1b, M, 0, 0, 7 }, { 0x20, 0x23, M, 0, 0, 7 }, { 0x28, 0x2b, M, 0, 0, 7 },
    { 0x30, 0x33, M, 0, 0, 7 }, { 0x38, 0x3b, M, 0, 0, 7 }, { 0x04, 0x04, BYTE, 0, 0, 0 },
    { 0x15, 0x15, IMM, 0, 0, 0 }, { 0x2d, 0x2d, IMM, 0, 0, 0 }, { 0x3c, 0x3c, BYTE, 0, 0, 0 },
    { 0x80, 0x80, M_BYTE, 0, 0, 7 }, { 0x81, 0x81, M_IMM, 0, 0, 7 }, { 0x83, 0x83, M_BYTE, 0, 0, 7 },
    { 0x84, 0x87, M, 0, 0, 7 }, { 0x88, 0x8b, M, 0, 0, 7 }, { 0x8d, 0x8d, M_MEM, 0, 0, 7 },
    { 0xc0, 0xc1, M_BYTE, UNDEFINED, 0, 7 }, { 0xd0, 0xd3, M, UNDEFINED, 0, 7 },
    { 0x40, 0x4f, PLAIN, 0, 0, 0 }, { 0x50, 0x5f, PLAIN, 0, 0, 0 }, { 0x91, 0x97, PLAIN, 0, 0, 0 },
    { 0xb0, 0xb7, BYTE, 0, 0, 0 }, { 0xb8, 0xbf, IMM, 0, 0, 0 }, { 0x98, 0x99, PLAIN, 0, 0, 0 },
    { 0x9c, 0x9c, PLAIN, 0, 0, 0 }, { 0x9e, 0x9f, PLAIN, 0, 0, 0 }, { 0xf5, 0xf5, PLAIN, 0, 0, 0 },
    { 0xf8, 0xf9, PLAIN, 0, 0, 0 }, { 0xc9, 0xc9, PLAIN, 0, 0, 0 }, { 0x60, 0x61, PLAIN, 0, 0, 0 },
    { 0x27, 0x27, PLAIN, UNDEFINED, 0, 0 }, { 0x37, 0x37, PLAIN, UNDEFINED, 0, 0 },
    { 0x69, 0x69, M_IMM, UNDEFINED, 0, 7 }, { 0x6b, 0x6b, M_BYTE, UNDEFINED, 0, 7 },
    { 0xf6, 0xf7, M, UNDEFINED, 2, 7 }, { 0xfe, 0xff, M, 0, 0, 1 }, { 0xc6, 0xc6, M_BYTE, 0, 0, 0 },
    { 0xc7, 0xc7, M_IMM, 0, 0, 0 }, { 0xa0, 0xa3, ADDRESS, 0, 0, 0 }, { 0xa4, 0xa7, PLAIN, 0, 0, 0 },
    { 0xaa, 0xaf, PLAIN, 0, 0, 0 }, { 0x70, 0x7f, NEAR, 0, 0, 0 }, { 0x70, 0x7f, NEAR, 0, 0, 0 },
    { 0xe2, 0xe3, NEAR, 0, 0, 0 }, { 0xeb, 0xeb, NEAR, 0, 0, 0 }, { 0xd8, 0xdf, M, 0, 0, 5 },
    { 0xd8, 0xdf, M, 0, 0, 5 }, { 0xfc, 0xfd, PLAIN, 0, 0, 0 }, { 0x40, 0x4f, M, WANTS_0F, 0, 7 },
    { 0x90, 0x9f, M, WANTS_0F, 0, 0 }, { 0xb6, 0xb7, M, WANTS_0F, 0, 7 },
    { 0xbe, 0xbf, M, WANTS_0F, 0, 7 }, { 0xaf, 0xaf, M, WANTS_0F | UNDEFINED, 0, 7 },
    { 0xb0, 0xb1, M, WANTS_0F, 0, 7 }, { 0xc0, 0xc1, M, WANTS_0F, 0, 7 },
    { 0xa3, 0xa3, M, WANTS_0F | UNDEFINED, 0, 7 }, { 0xab, 0xab, M, WANTS_0F | UNDEFINED, 0, 7 },
    { 0xb3, 0xb3, M, WANTS_0F | UNDEFINED, 0, 7 }, { 0xba, 0xba, M_BYTE, WANTS_0F | UNDEFINED, 4, 7 },
    { 0xa4, 0xa4, M_BYTE, WANTS_0F | UNDEFINED, 0, 7 }, { 0xad, 0xad, M, WANTS_0F | UNDEFINED, 0, 7 },
    { 0xc8, 0xcf, PLAIN, WANTS_0F, 0, 0 }, { 0x6e, 0x6f, M, WANTS_0F, 0, 7 },
    { 0x7e, 0x7f, M, WANTS_0F, 0, 7 }, { 0xfc, 0xfe, M, WANTS_0F, 0, 7 },
    { 0xd5, 0xd5, M, WANTS_0F, 0, 7 }, { 0x10, 0x11, M, WANTS_0F, 0, 7 },
    { 0x58, 0x59, M, WANTS_0F, 0, 7 }, { 0x5c, 0x5d, M, WANTS_0F, 0, 7 },
    { 0x54, 0x57, M, WANTS_0F, 0, 7 }, { 0x2e, 0x2e, M, WANTS_0F, 0, 7 },
};

static void operands(const Template *t, bool op16)
{
    unsigned reg = t->reg_low + rnd() % (t->reg_high - t->reg_low + 1u), size = op16 ? 2 : 4;

    switch (t->form) {
    case M: modrm(reg, false); break;
    case M_MEM: modrm(reg, true); break;
    case M_BYTE: modrm(reg, false); byte(rnd()); break;
    case M_IMM: modrm(reg, false); bytes(rnd(), size); break;
    case BYTE: byte(rnd()); break;
    case IMM: bytes(rnd(), size); break;
    case NEAR: byte(0); break;
    case ADDRESS: bytes(rnd(), code16 ? 2 : 4); break;
    default: break;
    }
}

/* True: it is a jump whose displacement is to be filled in. */
static bool random_insn(void)
{
    static const u8 overrides[] = { 0x26, 0x36, 0x3e, 0x64, 0x65, 0x2e };
    const Template *t = &templates[rnd() % ARRAY_LEN(templates)];
    u8 opcode = (u8)(t->first + rnd() % (t->last - t->first + 1u));
    bool op16 = code16, string = (opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf);

    if (rnd() % 12 == 0 && t->form != NEAR) {   /* a 16-bit jump would cut EIP to 16 bits */
        byte(0x66);
        op16 = !op16;
    }
    if (rnd() % 20 == 0)
        byte(overrides[rnd() % ARRAY_LEN(overrides)]);
    if (t->flags & WANTS_0F) {
        if (opcode >= 0x58 && opcode < 0x60 && (rnd() & 1))
            byte(rnd() & 1 ? 0xf3 : 0xf2);
        byte(0x0f);
    } else if (string && (rnd() & 1)) {
        byte(rnd() & 1 ? 0xf3 : 0xf2);
    }
    byte(opcode);
    operands(t, op16);
    if (t->flags & UNDEFINED)
        bytes(0xd839, 2);           /* cmp eax,ebx */
    return t->form == NEAR;
}

static void start_registers(void)
{
    for (int i = 0; i < SEG_COUNT; i++)
        load(i, i == CS ? SEL_CODE : SEL_DATA);
    if (code16) {
        bool wide_stack = rnd() & 1;

        for (int i = 0; i < SEG_COUNT; i++)
            load(i, i == CS ? SEL_CODE16 : i == SS && wide_stack ? SEL_DATA : SEL_DATA16);
    }
    if (rnd() % 4 == 0)
        load(DS, SEL_LIMITED);
    if (rnd() % 8 == 0)
        load(FS, SEL_DOWN);
    for (int i = 0; i < 8; i++)
        cpu->s.gpr[i] = rnd() & 3 ? 0x100000 + (rnd() & 0x2fffff) : rnd();
    cpu->s.gpr[ECX] = rnd() & 0x3f;
    cpu->s.gpr[ESP] = 0x380000 + (rnd() & 0xff0);
    cpu->s.eflags = FLAG_1 | (rnd() & FLAGS_ARITH);
    store16(cpu->s.fx, 0x37f);
    cpu->s.fx[4] = 0;
    for (unsigned i = 160; i < 288; i += 4)
        store32(cpu->s.fx + i, rnd() & 1 ? rnd() : 0x3f800000 + (rnd() & 0xffff));
}

static void make_program(u64 n)
{
    u32 count, at;
    u8 *starts[MAX_INSNS + 1];

    seed(n);
    cpu_reset(cpu);
    for (u32 i = 0; i < WINDOW; i += 4)
        store32(ram + i, i * 2654435761u ^ (u32)n);
    code16 = n % 4 == 3;
    make_tables(n % 3 == 0);
    start_registers();
    cpu->s.eip = code16 ? 0x100 + (rnd() & 0xff) : 0x10000 + (rnd() & 0x1fff);
    at = cpu->s.seg[CS].base + cpu->s.eip;
    out = ram + at;
    count = 8 + rnd() % (MAX_INSNS - 8);
    for (u32 i = 0; i < count; i++) {
        starts[i] = out;
        jumps[i] = random_insn() ? out - 1 : NULL;
    }
    starts[count] = out;
    for (u32 i = 0; i < count; i++) {           /* forward, to the beginning of another instruction */
        u32 to = i + 1 + rnd() % 4;

        if (jumps[i])
            *jumps[i] = (u8)(starts[to < count ? to : count] - (jumps[i] + 1));
    }
    byte(0xf4);
    memcpy(start_ram, ram, RAM_BYTES);
    start_state = cpu->s;
}

/* ---- running a program three ways ---- */

#define NOWHERE 0xff812345u

/*
 * What is not compared: what the way of running put there itself, and flags at a fault (in the state and in
 * the pushed image).
 */
static void forget(X86State *s, CpuExit why)
{
    u32 mask = s->seg[SS].attr & SEG_DB ? 0xffffffffu : 0xffffu;

    s->dr[0] = s->dr[7] = 0;
    s->tsc_at_save = 0;
    s->eflags &= ~FLAG_RF;
    if (why == CPU_EXIT_SHUTDOWN)
        s->eflags &= ~(u32)FLAGS_ARITH;
    if (s->eip < HIGH + 0x3000)
        return;
    s->eflags &= ~(u32)FLAGS_ARITH;
    for (u32 k = 8; k < 16; k++) {              /* with and without an error code; it may cross any page */
        u64 at;

        if (cpu_virt_to_phys(cpu, (u32)(s->seg[SS].base + ((s->gpr[ESP] + k) & mask)), &at) && at < RAM_BYTES)
            ram[at] &= (u8)~((u32)FLAGS_ARITH >> 8 * (k & 3));
    }
}

static CpuExit run_way(int way, X86State *result)
{
    CpuExit why;

    machine_lock(m);
    cpu_reset(cpu);
    memcpy(ram, start_ram, RAM_BYTES);
    cpu->s = start_state;
    if (way != BLOCKS) {
        cpu->s.dr[0] = NOWHERE;
        cpu->s.dr[7] = way == STEPS ? 0x403 : 0x30403;
    }
    cpu->attention = 0;
    x86_set_cpl(cpu, 0);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    machine_unlock(m);
    heartbeat++;
    why = cpu_run(cpu);
    *result = cpu->s;
    forget(result, why);
    return why;
}

static void report(u64 n, int way, const X86State *a, const X86State *b)
{
    printf("program %llu, %s:", (unsigned long long)n, way_names[way]);
    for (int i = 0; i < 8; i++) {
        if (a->gpr[i] != b->gpr[i])
            printf(" r%d %08x/%08x", i, a->gpr[i], b->gpr[i]);
    }
    if (a->eip != b->eip || a->eflags != b->eflags || a->cr2 != b->cr2)
        printf(" eip %x/%x eflags %x/%x cr2 %x/%x", a->eip, b->eip, a->eflags, b->eflags, a->cr2, b->cr2);
    if (memcmp(a->fx, b->fx, 512))
        printf(" x87/xmm");
    for (u32 i = 0; i < RAM_BYTES; i += 4) {
        if (load32(ram + i) != load32(first_ram + i)) {
            printf(" [%x] %08x/%08x", i, load32(first_ram + i), load32(ram + i));
            break;
        }
    }
    printf("\n");
}

static void compare_ways(u64 first, u64 count)
{
    unsigned differ = 0, stopped = 0, faulted = 0;

    for (u64 n = first; n < first + count; n++) {
        X86State a, b;
        CpuExit why;

        machine_lock(m);
        make_program(n);
        machine_unlock(m);
        why = run_way(BLOCKS, &a);
        memcpy(first_ram, ram, RAM_BYTES);
        stopped += why == CPU_EXIT_STOP;
        faulted += a.eip >= HIGH;
        for (int way = STEPS; way < WAYS && why != CPU_EXIT_STOP; way++) {
            CpuExit again = run_way(way, &b);

            if (again == CPU_EXIT_STOP)
                break;
            /* A triple fault leaves parts of frames behind, flags among them. */
            if (again != why || memcmp(&a, &b, sizeof(a)) ||
                (why != CPU_EXIT_SHUTDOWN && memcmp(ram, first_ram, RAM_BYTES))) {
                if (differ++ < MAX_REPORTS)
                    report(n, way, &a, &b);
                break;
            }
        }
    }
    printf("%llu programs: %u ended by a fault, %u were stopped, %u differ\n", (unsigned long long)count,
           faulted, stopped, differ);
    CHECK_MSG(differ == 0, "blocks, single steps and slow accesses end alike");
    CHECK_MSG(stopped < count / 10, "most programs end by themselves");
}

/* ---- loops, disturbed and not ---- */

enum { IRQ_VECTOR = 0x50, ROUNDS = WINDOW - 0x1000, RING0_STACK = 0x9000, LOOP_INSNS = 40, LOOP_TIMES = 60 };

static volatile unsigned ticks;
static volatile bool interrupts;    /* privilege 3 only: elsewhere their frames stay behind below ESP */

/* On the thread that runs the guest, in the middle of it. */
static void tick(int signal)
{
    (void)signal;
    if (++ticks & 1 || !interrupts) {
        cpu_attention(cpu, CPU_ATT_STOP);
    } else {
        __atomic_store_n(&cpu->s.intr, 1, __ATOMIC_SEQ_CST);
        cpu_attention(cpu, CPU_ATT_IRQ);
    }
}

static void set_timer(unsigned microseconds)
{
    struct itimerval t = { { 0, (suseconds_t)microseconds }, { 0, (suseconds_t)microseconds } };

    setitimer(ITIMER_REAL, &t, NULL);
}

static int acknowledge(void *opaque)
{
    (void)opaque;
    cpu->s.intr = 0;
    return IRQ_VECTOR;
}

/* An instruction that neither divides nor loads the x87's control word. */
static void calm_insn(void)
{
    u8 *start = out;

    do {
        out = start;
        while (random_insn())
            out = start;
    } while ((start[0] & 0xfe) == 0xf6 || start[0] == 0xd9 || start[0] == 0xc9 || start[0] == 0x61 ||
             (start[0] & 0xf8) == 0x58 || start[0] == 0x66 || (start[0] & 0xfc) == 0x64 || start[0] == 0xff);
}

/*
 * A loop with a subroutine in front of it. Every store with a random address may hit it; some do by intent.
 */
static void make_loop(u64 n)
{
    u8 *loop, *imm[LOOP_INSNS];
    u32 imms = 0, sub, at;
    bool user = n & 1;

    interrupts = user;
    code16 = false;
    seed(n + 5000000);
    cpu_reset(cpu);
    for (u32 i = 0; i < WINDOW; i += 4)
        store32(ram + i, i * 2654435761u ^ (u32)n);
    make_tables(false);
    start_registers();
    for (int i = 0; i < SEG_COUNT; i++)
        load(i, i == CS ? (user ? SEL_CODE3 : SEL_CODE) : user ? SEL_DATA3 : SEL_DATA);
    store32(ram + TSS + 4, HIGH + RING0_STACK);
    store32(ram + IDT + 8 * IRQ_VECTOR, ((HIGH + 0x3200) & 0xffff) | SEL_CODE << 16);
    ram[HALTS + 0x200] = 0xcf;
    store32(ram + ROUNDS, LOOP_TIMES);
    at = 0x10000 + (rnd() & 0x1fff);
    out = ram + at;
    sub = at;
    bytes(0x04408d, 3);                                         /* lea eax, [eax+4] */
    bytes(0xd131, 2);                                           /* xor ecx, edx */
    byte(0xc3);
    cpu->s.eip = (u32)(out - ram);
    loop = out;
    for (u32 i = 0; i < LOOP_INSNS; i++) {
        switch (rnd() % 8) {
        case 0:                                                 /* mov edx, imm32 */
            byte(0xba);
            imm[imms++] = out;
            bytes(rnd(), 4);
            break;
        case 1:                                                 /* inc byte [one of these, by some alias] */
            if (imms) {
                byte(0xfe);
                byte(0x05);
                bytes((u32)(imm[rnd() % imms] - ram) + WINDOW * (rnd() % 900), 4);
            }
            break;
        case 2:
            byte(0xe8);
            bytes(sub - (u32)(out - ram) - 4, 4);
            break;
        case 3:                                                 /* mov esi, sub; call esi */
            byte(0xbe);
            bytes(sub, 4);
            bytes(0xd6ff, 2);
            break;
        default: calm_insn(); break;
        }
    }
    byte(0xff);                                                 /* dec dword [ROUNDS] */
    byte(0x0d);
    bytes(ROUNDS, 4);
    byte(0x0f);                                                 /* jnz loop */
    byte(0x85);
    bytes((u32)(loop - out) - 4, 4);
    byte(0xf4);
    cpu->s.gpr[ESP] = 0x3f0000;
    cpu->s.eflags |= user ? FLAG_IF : 0;
    memcpy(start_ram, ram, RAM_BYTES);
    start_state = cpu->s;
}

static bool save_and_load(void)
{
    SaveBuf a = { 0 };
    Error err = { "" };
    bool ok;

    device_save(&cpu->dev, &a);
    memset(&cpu->s, 0x5a, sizeof(cpu->s));
    ok = device_load(&cpu->dev, a.data, a.len, &err);
    free(a.data);
    return ok;
}

static void disturb(void)
{
    for (unsigned i = rnd() % 4; i; i--)
        tlb_flush_page(cpu, rnd() & 1 ? 0x10000 + (rnd() & 0x3000) : rnd());
    switch (rnd() % 8) {
    case 0: tlb_flush(cpu, true); break;
    case 1: blocks_drop_all(cpu); break;
    case 2: CHECK_MSG(save_and_load(), "the state is loaded again"); break;
    default: break;
    }
}

static CpuExit run_loop(bool disturbed, X86State *result, unsigned *stops)
{
    CpuExit why;

    machine_lock(m);
    cpu_reset(cpu);
    memcpy(ram, start_ram, RAM_BYTES);
    cpu->s = start_state;
    cpu->attention = 0;
    x86_set_cpl(cpu, cpu->s.cpl);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    machine_unlock(m);
    heartbeat++;
    for (unsigned wait = 20;; wait += wait / 128 + 1) {         /* longer and longer, so that it ends */
        if (disturbed)
            set_timer(wait + (rnd() & 31));
        why = cpu_run(cpu);
        if (why != CPU_EXIT_STOP || !disturbed || wait > 50000)
            break;
        ++*stops;
        heartbeat++;
        machine_lock(m);
        disturb();
        machine_unlock(m);
    }
    set_timer(0);
    cpu->s.intr = 0;
    *result = cpu->s;
    forget(result, why);
    return why;
}

static void compare_loops(u64 first, u64 count)
{
    unsigned differ = 0, whole = 0, stops = 0;

    cpu_connect_intack(cpu, acknowledge, NULL);
    signal(SIGALRM, tick);
    for (u64 n = first; n < first + count; n++) {
        X86State a, b;
        CpuExit why;

        machine_lock(m);
        make_loop(n);
        machine_unlock(m);
        why = run_loop(false, &a, &stops);
        if (why == CPU_EXIT_STOP)
            continue;
        whole += load32(ram + ROUNDS) == 0;
        memcpy(first_ram, ram, RAM_BYTES);
        if (run_loop(true, &b, &stops) != why || memcmp(&a, &b, sizeof(a)) ||
            (why != CPU_EXIT_SHUTDOWN && memcmp(ram, first_ram, RAM_BYTES))) {
            if (differ++ < MAX_REPORTS)
                report(n, DISTURBED, &a, &b);
        }
    }
    printf("%llu loops: %u ran to their end, %u stops, %u differ\n", (unsigned long long)count, whole, stops,
           differ);
    CHECK_MSG(differ == 0, "loops end alike when they are disturbed");
    CHECK_MSG(whole > count / 4, "many loops run to their end");
    cpu_connect_intack(cpu, NULL, NULL);
}

/* ---- random bytes ---- */

enum { REAL, FLAT, USER, SMALL, V86_MODE, MODES };

static void random_mode(int mode, u32 code)
{
    static const u16 code_sel[] = { 0, SEL_CODE, SEL_CODE3, SEL_CODE16, 0 };

    make_tables(mode == USER);
    cpu->s.eip = code;
    for (int i = 0; i < SEG_COUNT; i++)
        load(i, i == CS        ? (mode == REAL || mode == V86_MODE ? SEL_CODE : code_sel[mode])
                : mode == USER ? SEL_DATA3
                               : SEL_DATA);
    if (mode == SMALL)
        cpu->s.eip = code - cpu->s.seg[CS].base;
    if (mode == REAL || mode == V86_MODE) {
        for (int i = 0; i < SEG_COUNT; i++) {
            u16 sel = i == CS ? (u16)(code >> 4 & 0xf000) : (u16)rnd();

            cpu->s.seg[i] = (Seg){ (u32)sel << 4, 0xffff, sel, mode == REAL ? 0x93 : 0xf3 };
        }
        cpu->s.eip = code & 0xffff;
    }
    if (mode == REAL) {
        cpu->s.cr0 = CR0_ET;
        cpu->s.idt_base = 0;
        cpu->s.idt_limit = 0x3ff;
    } else if (mode == V86_MODE) {
        cpu->s.eflags |= FLAG_VM | (rnd() & 1 ? FLAG_IOPL : 0);
        cpu->s.cpl = 3;
    }
}

static void random_bytes(u64 n)
{
    static const u8 likely[] = { 0x66, 0x67, 0x0f, 0xf2, 0xf3, 0x26, 0x2e, 0xd8,
                                0xd9, 0xdb, 0xdd, 0xdf, 0xff, 0xf7, 0x90, 0xeb};
    u32 code = 0x10000 + (rnd() & 0xffff), bytes_of_code = 64 + (rnd() & 0x3ff);
    int mode = (int)(n % MODES);

    cpu_reset(cpu);
    for (u32 i = 0; i < WINDOW; i += 4)
        store32(ram + i, i * 2654435761u ^ (u32)n);
    for (u32 i = 0; i < bytes_of_code; i++)
        ram[code + i] = rnd() % 4 ? (u8)rnd() : likely[rnd() % sizeof(likely)];
    for (int i = 0; i < 8; i++)
        cpu->s.gpr[i] = rnd() & 1 ? rnd() : rnd() & 0xffff;
    random_mode(mode, code);
    if (mode != REAL && mode != V86_MODE)
        cpu->s.gpr[ESP] = 0x60000 + (rnd() & 0xffff);
    for (u32 i = 0; i < 256; i++)               /* handlers in the middle of the random code */
        store16(ram + IDT + 8 * i, (u16)(0x3000 + (rnd() & 0xff)));
    memcpy(ram + HALTS, ram + code, 0x200);
    cpu->s.eflags |= FLAG_1 | (rnd() & (FLAGS_ARITH | FLAG_DF | FLAG_IF)) | (rnd() % 16 ? 0 : FLAG_TF);
    if (rnd() % 32 == 0) {
        cpu->s.dr[0] = code + (rnd() & 31);
        cpu->s.dr[7] = 0x403 | (rnd() << 16);
    }
    cpu->attention = 0;
    x86_set_cpl(cpu, cpu->s.cpl);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

static void survive(u64 first, u64 count)
{
    unsigned ends[4] = { 0 };

    for (u64 n = first; n < first + count; n++) {
        machine_lock(m);
        seed(n + 1000000);
        random_bytes(n);
        machine_unlock(m);
        heartbeat++;
        ends[cpu_run(cpu)]++;
    }
    printf("%llu rounds of random bytes: %u stopped, %u halted, %u shut down\n", (unsigned long long)count,
           ends[CPU_EXIT_STOP], ends[CPU_EXIT_HALT], ends[CPU_EXIT_SHUTDOWN]);
    CHECK_MSG(ends[CPU_EXIT_STOP] + ends[CPU_EXIT_HALT] + ends[CPU_EXIT_SHUTDOWN] == count,
              "cpu_run() always comes back");
}

static u64 from_environment(const char *name, u64 otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

int main(void)
{
    u64 first = from_environment("QEMU_WIN_SEED", 1), rounds = from_environment("QEMU_WIN_ROUNDS", 400);
    Error err = { "" };
    Config cfg;
    MemRegion *region;
    pthread_t dog;

    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES, &err);
    region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    first_ram = malloc(RAM_BYTES);
    start_ram = malloc(RAM_BYTES);
    m->cpu = cpu = cpu_create(m, NULL, &err);
    CHECK_MSG(cpu && first_ram && start_ram, "%s", err.text);
    if (!cpu || !first_ram || !start_ram)
        return test_end();
    pthread_create(&dog, NULL, watchdog, NULL);
    compare_ways(first, rounds);
    compare_loops(first, rounds / 2);
    survive(first, rounds);
    over = true;
    pthread_join(dog, NULL);
    free(first_ram);
    free(start_ram);
    return test_end();
}
