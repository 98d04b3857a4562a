/*
 * What translated code does in line against the helpers that do the same in C: string instructions with and
 * without REP, PUSHF, POPF, CLI, STI, CLD, STD. Each program runs as blocks and, with an execution breakpoint
 * set where nothing runs, one instruction at a time, where REP and all else go through the helpers. Both must
 * end alike: registers, all flags, memory, and where the program stopped. Operands overlap, cross pages, and
 * run into pages that are absent or read-only; an interrupt waits in every fourth program.
 *
 * QEMU_WIN_SEED starts elsewhere, QEMU_WIN_ROUNDS does more.
 */
#include "test.h"

#include "../core/x86/system.h"

#include <stdlib.h>
#include <string.h>

enum {
    RAM_BYTES = 1 << 20, DIRECTORY = 0x1000, TABLE = 0x2000, GDT = 0x3000, IDT = 0x4000, TSS = 0x5000,
    HALTS = 0x6000, STACK0 = 0x8000, CODE = 0x10000, STACK3 = 0x20000, DATA = 0x40000, DATA_PAGES = 6,
    ABSENT = DATA + 3 * PAGE_SIZE, IRQ_VECTOR = 0x40, ALIAS = 0x200000,
};

#include "bare_cpu.h"
#define NOWHERE 0xff812345u

static u8 *out, start_ram[RAM_BYTES], first_ram[RAM_BYTES];
static X86State start_state;
static u32 seed;

static u32 next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed >> 2;
}

static int acknowledge(void *opaque)
{
    (void)opaque;
    irq_set(cpu_intr_line(cpu), false);
    return IRQ_VECTOR;
}

/* ---- the machine of a program ---- */

static void tables(void)
{
    memset(ram, 0, CODE);
    for (u32 i = 0; i < 1024; i++)
        store32(ram + TABLE + 4 * i, ((i << 12) & (RAM_BYTES - 1)) | 0x67);
    store32(ram + TABLE + 4 * (ABSENT >> 12), next() & 1 ? 0 : ABSENT | 0x25);
    store32(ram + DIRECTORY, TABLE | 7);
    store64(ram + GDT + 0x08, 0x00cf9b000000ffffull);
    store64(ram + GDT + 0x10, 0x00cf93000000ffffull);
    store64(ram + GDT + 0x18, 0x00cffb000000ffffull);
    store64(ram + GDT + 0x20, 0x00cff3000000ffffull);
    store64(ram + GDT + 0x28, 0x0040f3000000ffffull);
    for (u32 i = 0; i < 256; i++)
        store64(ram + IDT + 8 * i, (u64)0x8e00 << 32 | 8 << 16 | (HALTS + i));
    memset(ram + HALTS, 0xf4, 256);
    store32(ram + TSS + 4, STACK0);
    store32(ram + TSS + 8, 0x10);
}

static void start(unsigned cpl)
{
    cpu_reset(cpu);
    tables();
    cpu->s.gdt_base = GDT;
    cpu->s.gdt_limit = 0x2f;
    cpu->s.idt_base = IDT;
    cpu->s.idt_limit = 0x7ff;
    cpu->s.tr = (Seg){ TSS, 0x67, 0x30, 0x8b };
    cpu->s.cr3 = DIRECTORY;
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_PG | CR0_WP;
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ 0, 0xffffffffu, (u16)((i == CS ? 8 : 16) + (cpl ? 19 : 0)),
                               (u16)((i == CS ? 0xc09b : 0xc093) | cpl << 5) };
    if (next() % 8 == 0)
        cpu->s.seg[next() & 1 ? ES : DS] = (Seg){ 0x1000, 0xfffff, 0x28 | 3, 0x40f3 };
    for (int i = 0; i < 8; i++)
        cpu->s.gpr[i] = next();
    cpu->s.gpr[ESP] = cpl ? STACK3 : STACK0 - 0x100;
    cpu->s.eip = CODE;
    cpu->s.eflags = FLAG_1 | (next() & (FLAGS_ARITH | FLAG_IOPL)) | (next() & 1 ? FLAG_IF : 0);
    cpu->s.intr = next() % 4 == 0;
    x86_set_cpl(cpu, cpl);
    out = ram + CODE;
}

/* ---- programs ---- */

static void code(const char *bytes, unsigned n)
{
    memcpy(out, bytes, n);
    out += n;
}
#define PUT(...) code((const char[]){ __VA_ARGS__ }, sizeof((const char[]){ __VA_ARGS__ }))

static void put_imm(u8 opcode, u32 value)
{
    *out++ = opcode;
    store32(out, value);
    out += 4;
}

/* Of the data pages, often close to the end of one. */
static u32 place(void)
{
    u32 page = (next() & 7 ? DATA : DATA + ALIAS) + next() % DATA_PAGES * PAGE_SIZE;

    return page + (next() & 1 ? PAGE_SIZE - next() % 80 : next() & PAGE_MASK);
}

static void string_program(void)
{
    static const u8 opcodes[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf };
    u32 from = place(), to = next() % 3 ? place() : from + next() % 100 - 50;

    for (int i = 0; i < 2; i++) {
        put_imm(0xbe, from + (u32)i);
        put_imm(0xbf, to);
        put_imm(0xb9, next() % 8 ? next() % 90 : next() % 5000);
        if (next() % 8 == 0)
            PUT((char)0xfd);
        PUT(0x39, (char)0xd8);                          /* cmp eax, ebx */
        if (next() % 6 == 0)
            PUT(0x66);
        if (next() % 16 == 0)
            PUT(0x67);
        if (next() % 16 == 0)
            PUT(0x2e);
        if (next() % 3)
            PUT(next() % 4 ? (char)0xf3 : (char)0xf2);
        *out++ = opcodes[next() % sizeof opcodes];
        if (next() & 1)
            PUT(0x01, (char)0xd8);                      /* add eax, ebx: the flags above are dead */
        else
            PUT(0x0f, (char)0x92, (char)0xc2, (char)0x9c);      /* setc dl; pushf */
        PUT((char)0xfc);
    }
}

static void flag_program(void)
{
    static const u8 opcodes[] = { 0x9c, 0x9c, 0x9d, 0xfa, 0xfb, 0xfc, 0xfd, 0x40, 0xf9 };

    for (int i = 0; i < 10; i++) {
        u8 op = opcodes[next() % sizeof opcodes];
        u32 image = (next() & (FLAGS_ARITH | FLAG_IF | FLAG_DF)) | (next() % 4 ? 0 : next() & 0x277fff);

        if (op == 0x9d)
            put_imm(0x68, next() % 8 ? image & ~(u32)FLAG_TF : image);
        if (next() % 8 == 0 && (op == 0x9c || op == 0x9d))
            PUT(0x66);
        *out++ = op;
        if (next() & 1)
            PUT(0x39, (char)0xd8);
    }
    PUT((char)0x9c);
}

/* ---- two ways ---- */

static CpuExit run_way(bool steps, X86State *end)
{
    CpuExit why;

    cpu_reset(cpu);
    memcpy(ram, start_ram, RAM_BYTES);
    cpu->s = start_state;
    if (steps) {
        cpu->s.dr[0] = NOWHERE;
        cpu->s.dr[7] = 0x403;
    }
    cpu->attention = cpu->s.intr ? CPU_ATT_IRQ : 0;
    x86_set_cpl(cpu, cpu->s.cpl);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    machine_unlock(m);
    why = cpu_run(cpu);
    machine_lock(m);
    *end = cpu->s;
    end->dr[0] = end->dr[6] = end->dr[7] = 0;
    end->tsc_at_save = 0;
    end->eflags &= ~FLAG_RF;
    return why;
}

/*
 * At a fault, and where a string instruction is interrupted, arithmetic flags are not compared, there and in
 * the image on the stack: those that are overwritten later may be missing. Nor RF.
 */
static void forget(X86State *s, CpuExit why, bool also_irq)
{
    if (why == CPU_EXIT_SHUTDOWN)
        s->eflags &= ~(u32)FLAGS_ARITH;
    if (s->eip < HALTS || s->eip > HALTS + 256 || (s->eip == HALTS + IRQ_VECTOR + 1 && !also_irq))
        return;
    s->eflags &= ~(u32)FLAGS_ARITH;
    for (u32 k = 8; k <= 12; k += 4)
        store32(ram + s->gpr[ESP] + k, load32(ram + s->gpr[ESP] + k) & ~(u32)(FLAGS_ARITH | FLAG_RF));
}

static bool one_program(void (*program)(void), unsigned cpl)
{
    static X86State a, b;
    CpuExit first;

    for (u32 i = DATA; i < DATA + DATA_PAGES * PAGE_SIZE; i += 4)
        store32(ram + i, next());
    start(cpl);
    program();
    PUT((char)0xf4);
    memcpy(start_ram, ram, RAM_BYTES);
    start_state = cpu->s;
    first = run_way(false, &a);
    forget(&a, first, program == string_program);
    memcpy(first_ram, ram, RAM_BYTES);
    if (run_way(true, &b) != first)
        return false;
    forget(&b, first, program == string_program);
    return !memcmp(&a, &b, sizeof a) && !memcmp(ram, first_ram, RAM_BYTES);
}

static void test_kind(void (*program)(void), const char *what, u32 rounds)
{
    unsigned wrong = 0;

    for (u32 i = 0; i < rounds && wrong < 5; i++) {
        u32 at = seed;

        if (!one_program(program, next() & 1 ? 3 : 0)) {
            printf("program %u, seed %u: eip %x esp %x\n", i, at, cpu->s.eip, cpu->s.gpr[ESP]);
            wrong++;
        }
    }
    CHECK_MSG(!wrong, "%s end alike in line and in C", what);
}

int main(void)
{
    const char *first = getenv("QEMU_WIN_SEED"), *rounds = getenv("QEMU_WIN_ROUNDS");
    u32 n = rounds ? (u32)strtoul(rounds, NULL, 0) : 2000;

    seed = 2463534242u + (first ? (u32)strtoul(first, NULL, 0) * 2654435761u : 0);
    if (!bare_cpu_create())
        return test_end();
    cpu_connect_intack(cpu, acknowledge, NULL);
    machine_lock(m);
    test_kind(string_program, "string instructions", n);
    test_kind(flag_program, "instructions on system flags", n);
    machine_unlock(m);
    return test_end();
}
