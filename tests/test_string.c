/*
 * String instructions against their definition, one element after the other: every kind, size, prefix and
 * direction at random places, with operands that overlap and cross pages, and with matches near and far.
 */
#include "test.h"

#include "../core/x86/system.h"

#include <string.h>

enum { RAM_BYTES = 4 << 20, WINDOW = 0x30000, WINDOW_BYTES = 0x4000, ROUNDS = 40000 };

#include "bare_cpu.h"
enum { MOVS, CMPS, STOS, LODS, SCAS, KINDS };

static const u8 opcodes[KINDS] = { 0xa4, 0xa6, 0xaa, 0xac, 0xae };
static X86Helper *const helpers[KINDS] = { helper_movs, helper_cmps, helper_stos, helper_lods, helper_scas };
static const char *const names[KINDS] = { "movs", "cmps", "stos", "lods", "scas" };
static u8 expected[WINDOW_BYTES];
static u32 seed = 2463534242u;

static u32 next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

typedef struct { u32 si, di, c, a, flags; } Regs;

static u32 element(u32 at, unsigned size)
{
    u32 value = 0;

    memcpy(&value, expected + at - WINDOW, size);
    return value;
}

static u32 flags_of(u32 a, u32 b, unsigned size)
{
    u32 top = 1u << (8 * size - 1), mask = top | (top - 1), r = (a - b) & mask, bits = 0;

    for (unsigned i = 0; i < 8; i++)
        bits += r >> i & 1;
    return (a < b ? FLAG_CF : 0) | (r ? 0 : FLAG_ZF) | (r & top ? FLAG_SF : 0) | (bits & 1 ? 0 : FLAG_PF) |
           ((a & 15) < (b & 15) ? FLAG_AF : 0) | ((a ^ b) & (a ^ r) & top ? FLAG_OF : 0);
}

/* The definition, on the copy of the window. */
static void define(int kind, unsigned rep, unsigned size, bool down, Regs *r)
{
    u32 step = down ? 0u - size : size, mask = size == 4 ? ~0u : (1u << 8 * size) - 1, a;

    while (!rep || r->c) {
        if (kind == MOVS || kind == STOS) {
            a = kind == MOVS ? element(r->si, size) : r->a;
            memcpy(expected + r->di - WINDOW, &a, size);
        } else if (kind == LODS) {
            r->a = (r->a & ~mask) | element(r->si, size);
        } else {
            a = kind == CMPS ? element(r->si, size) : r->a & mask;
            r->flags = flags_of(a, element(r->di, size), size);
        }
        r->si += kind == MOVS || kind == CMPS || kind == LODS ? step : 0;
        r->di += kind == LODS ? 0 : step;
        if (!rep)
            break;
        r->c--;
        if ((kind == CMPS || kind == SCAS) && !(r->flags & FLAG_ZF) == (rep == 2))
            break;
    }
}

static void one(int kind)
{
    unsigned shift = next() % 3, size = 1u << shift, rep = next() % 3;
    bool down = next() % 4 == 0, far_apart = next() % 2;
    u32 desc = (u32)shift << DESC_OPSIZE | (u32)DS << DESC_SEG | 2u << DESC_LEN | 1u << DESC_ADDR32 |
               rep << DESC_REP | (u32)(opcodes[kind] | (shift ? 1 : 0)) << DESC_OPCODE;
    u32 middle = WINDOW + WINDOW_BYTES / 2 - 400 + next() % 800, failed = 0;
    Regs r = { .si = middle, .c = next() % 300, .a = next() % 4 ? 0x41414141 : next() };

    r.di = far_apart ? middle + 0x1000 - next() % 0x2000 : middle - 40 + next() % 80;
    for (u32 i = 0; i < WINDOW_BYTES; i++)
        expected[i] = 0x41;
    for (u32 i = next() % 30; i; i--)
        expected[next() % WINDOW_BYTES] = (u8)next();
    memcpy(ram + WINDOW, expected, WINDOW_BYTES);
    cpu->s.gpr[ESI] = r.si;
    cpu->s.gpr[EDI] = r.di;
    cpu->s.gpr[ECX] = r.c;
    cpu->s.gpr[EAX] = r.a;
    r.flags = cpu->s.eflags & FLAGS_ARITH;
    cpu->s.eflags = (cpu->s.eflags & ~FLAG_DF) | (down ? FLAG_DF : 0);
    define(kind, rep, size, down, &r);
    if (helpers[kind](cpu, 0, desc, 0) != X86_NEXT)
        failed |= 1;
    failed |= memcmp(expected, ram + WINDOW, WINDOW_BYTES) ? 2 : 0;
    failed |= cpu->s.gpr[ESI] != r.si || cpu->s.gpr[EDI] != r.di || cpu->s.gpr[ECX] != r.c ? 4 : 0;
    failed |= cpu->s.gpr[EAX] != r.a ? 8 : 0;
    failed |= (cpu->s.eflags & FLAGS_ARITH) != r.flags ? 16 : 0;
    if (failed)
        CHECK_MSG(false, "%s, rep %u, size %u, down %d: differs in %x", names[kind], rep, size, down, failed);
}

int main(void)
{
    if (!bare_cpu_create())
        return test_end();
    device_reset(&cpu->dev);
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ 0, 0xffffffffu, 0, 0x93 };
    x86_update_mode(cpu);
    tlb_flush(cpu, true);
    if (__builtin_setjmp(cpu->leave)) {
        CHECK_MSG(false, "a fault that nothing asked for: vector %d", cpu->fault_vector);
        return test_end();
    }
    for (int kind = 0; kind < KINDS; kind++) {
        int before = test_failed;

        for (u32 i = 0; i < ROUNDS / KINDS; i++)
            one(kind);
        CHECK_MSG(test_failed == before, "%s is what its definition says", names[kind]);
    }
    return test_end();
}
