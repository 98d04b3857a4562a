/*
 * Translated code against the host processor: each instruction that is valid in 64-bit mode runs natively and
 * through the translator, with the same random registers, flags, memory, x87 and XMM state; everything the
 * guest can see afterwards must be the same.
 *
 * The guest's data lies at the same 32-bit addresses in both worlds: in the guest by the memory map, natively
 * by mmap. Variants: register and memory forms, aligned and not, across a page, cold and warm TLB, flags dead
 * and alive. Seeded; argument: a seed. What 64-bit mode doesn't have (stack operations of 4 bytes, INC/DEC
 * 40-4F, segments) is listed in is_exception(); other tests cover it.
 */
#define _GNU_SOURCE
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/emit.h"
#include "../core/x86/fpu.h"
#include "../core/x86/system.h"
#include "../core/x86/translate.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CODE = 0x10000, CODE_END = 0xf0000, DATA = 0x20000000, DATA_BYTES = 4 * 4096, RAM_BYTES = 1 << 20 };
enum { CASES = 1000000 };          /* QEMU_WIN_CASES: another number */

typedef struct {
    u32 gpr[8];
    u32 flags;
    u8 fx[512] __attribute__((aligned(16)));
    u8 data[DATA_BYTES];
} World;

/* Where the native snippet finds its state, below 2 GiB. */
typedef struct {
    u64 rsp, flags_in, flags_out;
    u32 in[8], out[8];
    u8 fx_in[512] __attribute__((aligned(16))), fx_out[512] __attribute__((aligned(16)));
} Native;

static Machine *m;
static Cpu *cpu;
static u8 *ram, *guest_data, *native_data, *native_code;
static Native *native;
static u32 code_at = CODE;
static u64 compared;            /* cases */
static u64 seed = 0x9e3779b97f4a7c15ull;

static u32 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (u32)(seed >> 16);
}

static u32 below(u32 n) { return rnd() % n; }

/* ---- what is not compared here ---- */

static const char *is_exception(const InsnRow *r)
{
    switch (r->action) {
    case A_HELPER: return "done in C: test_system, test_vectors";
    case A_STRING: case A_FLAG: return "implicit operands, system flags: test_inline, test_run";
    case A_PUSH: case A_POP: case A_LEAVE: case A_RET: case A_CALL: case A_CALLI: case A_JMPI:
        return "stack and transfers of 32 bits: test_vectors, guests";
    case A_JCC: case A_JMP: case A_LOOP: return "transfers: checked below";
    case A_INCDEC: return "REX prefixes in 64-bit mode: checked below";
    default: break;
    }
    if (r->feature == F_RDRAND || r->feature == F_RDSEED)
        return "random numbers: checked below";
    if (r->map == MAP_1 && r->opcode == 0x82)
        return "invalid in 64-bit mode, same as 80";
    return NULL;
}

/* ---- making an instruction ---- */

typedef struct {
    u8 guest[16], host[16];
    unsigned guest_len, host_len;
    bool mem;
    u32 target;                 /* address of the memory operand */
} Case;

static void both(Case *c, u32 byte)
{
    c->guest[c->guest_len++] = (u8)byte;
    c->host[c->host_len++] = (u8)byte;
}

static void both_n(Case *c, u32 value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        both(c, value >> 8 * i);
}

static bool has_operand(const InsnRow *r, Operand o) { return r->a == o || r->b == o || r->c == o; }

static bool sized(const InsnRow *r)
{
    return has_operand(r, Ev) || has_operand(r, Gv) || has_operand(r, Zv) || has_operand(r, Iv) ||
           has_operand(r, Ov) || (has_operand(r, AX) && !(r->map == MAP_1 && r->opcode >= 0xd8)) ||
           (r->map == MAP_1 && (r->opcode & 0xfe) == 0x98);
}

static unsigned operand_bytes(const InsnRow *r, unsigned opsize)
{
    Operand o = r->action == A_MOFFS ? (has_operand(r, Ob) ? Eb : Ev) : insn_rm_operand(r);
    switch (o) {
    case Eb: case Edb: case Mb: return 1;
    case Ew: case Edw: case Mw: case Ww: return 2;
    case Ev: return opsize;
    case Mq: case Qq: case Wq: return 8;
    case Mt: return 10;
    case Mx: case Wx: return 16;
    default: return 4;
    }
}

static u32 forced_target;       /* 0: anywhere */

static u32 choose_target(const InsnRow *r, unsigned bytes)
{
    if (forced_target)
        return forced_target;
    if (bytes == 16 && !(r->props & P_UNAL))
        return DATA + 64 + 16 * below((DATA_BYTES - 256) / 16);
    switch (below(4)) {
    case 0: return DATA + 64 + bytes * below((DATA_BYTES - 256) / bytes);          /* aligned */
    case 1: return DATA + 4096 * (1 + below(2)) - below(bytes + 1);                 /* at or across a page */
    default: return DATA + 64 + below(DATA_BYTES - 256);
    }
}

/* A memory operand whose address comes out as c->target; sets the registers it uses. */
static void memory_form(Case *c, World *w, unsigned reg)
{
    static const u8 bases[] = { EBX, ESI, EDI, EBP, ESP };
    unsigned base = bases[below(5)], index = bases[below(4)], kind = below(6), scale = below(4);
    u32 disp = below(2) ? (u32)(s8)rnd() : rnd();
    bool short_disp = disp == (u32)(s8)disp;
    if (kind == 0) {                    /* absolute; natively that needs the SIB form */
        c->guest[c->guest_len++] = (u8)(reg << 3 | 5);
        c->host[c->host_len++] = (u8)(reg << 3 | 4);
        c->host[c->host_len++] = 0x25;
        both_n(c, c->target, 4);
        return;
    }
    if (kind < 3 && base != ESP) {
        both(c, (short_disp ? 0x40u : 0x80u) | reg << 3 | base);
        w->gpr[base] = c->target - disp;
    } else {
        if (base == index)
            index = index == EBX ? ESI : EBX;
        both(c, (short_disp ? 0x40u : 0x80u) | reg << 3 | 4);
        both(c, scale << 6 | index << 3 | base);
        w->gpr[base] = c->target - disp - (w->gpr[index] << scale);
    }
    both_n(c, disp, short_disp ? 1 : 4);
}

static void limit_operands(const InsnRow *r, World *w, Case *c, unsigned reg)
{
    u32 at = c->target - DATA;
    if (!strcmp(r->name, "div") || !strcmp(r->name, "idiv")) {
        w->gpr[EAX] &= 0x7f;
        w->gpr[EDX] = 0;
        if (c->mem)
            w->data[at] = 0x11, w->data[at + 1] = 0x22, w->data[at + 3] &= 0x7f;
    }
    if (r->action == A_BT && c->mem)
        w->gpr[reg] &= 0x1ff;
    if (!strcmp(r->name, "ldmxcsr"))
        store32(w->data + at, 0x1f80 | (load32(w->data + at) & 0x603f));
    if (!strcmp(r->name, "fldcw"))
        store16(w->data + at, 0x007f | (load16(w->data + at) & 0x0f00));
    if (r->action == A_XLAT)
        w->gpr[EBX] = c->target - (w->gpr[EAX] & 0xff);
}

static bool divides_by_zero(const InsnRow *r, const World *w, unsigned rm)
{
    if (strcmp(r->name, "div") && strcmp(r->name, "idiv"))
        return false;
    if (r->opcode == 0xf6)
        return (rm < 4 ? w->gpr[rm] & 0xff : w->gpr[rm - 4] >> 8 & 0xff) == 0;
    return (w->gpr[rm] & 0x7fff) == 0 || rm == EDX || rm == EAX;
}

static bool make_case(const InsnRow *r, World *w, Case *c)
{
    *c = (Case){ .mem = false };
    static const u8 mandatory[] = { [P66] = 0x66, [PF3] = 0xf3, [PF2] = 0xf2 };
    bool modrm = r->sel != ANY || insn_rm_operand(r) != NONE || insn_reg_operand(r) != NONE;
    bool may_mem = modrm && (r->sel & 0xf0) != 0x40 && (r->sel & 0xf0) != 0x50 && r->sel < 0x80 &&
                   insn_rm_operand(r) != Ux && insn_rm_operand(r) != Nq;
    bool must_mem = (r->sel & 0xf0) == 0x20 || (r->sel & 0xf0) == 0x30;
    bool small = sized(r) && r->prefix != PNO && below(3) == 0;
    unsigned opsize = small ? 2 : 4, bytes = operand_bytes(r, opsize);
    c->mem = must_mem || (may_mem && below(3));
    c->target = choose_target(r, bytes);
    bool addressed = c->mem || r->action == A_MOFFS || r->action == A_XLAT;
    if (addressed)
        c->host[c->host_len++] = 0x67;
    if (small)
        both(c, 0x66);
    if (r->prefix > PNO)
        both(c, mandatory[r->prefix]);
    if (r->map != MAP_1)
        both(c, 0x0f);
    if (r->map >= MAP_0F38)
        both(c, r->map == MAP_0F38 ? 0x38 : 0x3a);
    both(c, r->opcode);
    unsigned reg =
        r->sel & 0x70 && (r->sel & 0xf0) != 0x30 && (r->sel & 0xf0) != 0x50 ? r->sel & 7 : below(8);
    if (r->sel >= 0x80)
        reg = r->sel >> 3 & 7;
    unsigned rm = r->sel >= 0x80 ? r->sel & 7u : below(8);
    if (r->action == A_BT && c->mem)
        reg = EDX;
    if (modrm && c->mem)
        memory_form(c, w, reg);
    else if (modrm)
        both(c, 0xc0 | reg << 3 | rm);
    if (r->action == A_MOFFS)
        both_n(c, c->target, 4);
    Operand ops[3] = { r->a, r->b, r->c };
    for (int i = 0; i < 3; i++)
        if (ops[i] == Ib || ops[i] == Is)
            both_n(c, rnd(), 1);
        else if (ops[i] == Iv)
            both_n(c, rnd(), opsize);
    limit_operands(r, w, c, reg);
    if (!c->mem && divides_by_zero(r, w, rm))
        return false;
    return true;
}

/* ---- states ---- */

static void random_st(u8 *st)
{
    u64 mantissa = (u64)rnd() << 32 | rnd();
    u16 exponent = (u16)(16383 - 40 + below(80));
    switch (below(12)) {
    case 0: mantissa = 0; exponent = 0; break;
    case 1: mantissa = 1ull << 63; exponent = 0x7fff; break;
    case 2: mantissa |= 3ull << 62; exponent = 0x7fff; break;
    case 3: exponent = 0; mantissa &= ~(1ull << 63); break;
    case 4: mantissa = (u64)rnd() << 40 | 1ull << 63; exponent = 16383 + 10; break;
    default: mantissa |= 1ull << 63; break;
    }
    store64(st, mantissa);
    store16(st + 8, exponent | (u16)(rnd() & 0x8000));
}

static void random_xmm(u8 *x)
{
    static const u32 singles[] = {0,          0x3f800000, 0xc0490fdb, 0x7f800000,
                                  0x7fc00001, 0x00000001, 0x42f60000, 0xff7fffff};
    for (int i = 0; i < 4; i++)
        store32(x + 4 * i, below(2) ? singles[below(8)] : rnd());
    if (below(3) == 0)
        for (int i = 0; i < 2; i++)
            store64(x + 8 * i, 0x3ff0000000000000ull + ((u64)below(64) << 48) + rnd());
}

static void random_world(World *w)
{
    for (int i = 0; i < 8; i++)
        w->gpr[i] = below(4) ? rnd() : below(3) ? below(64) : 0x80000000u + below(3) - 1;
    w->flags = 2 | (rnd() & FLAGS_ARITH);
    memset(w->fx, 0, sizeof w->fx);
    store16(w->fx, 0x037f);
    store16(w->fx + 2, (u16)(below(8) << 11 | (rnd() & 0x4700)));
    w->fx[4] = below(2) ? 0xff : (u8)rnd();
    store32(w->fx + 24, 0x1f80);
    store32(w->fx + 28, 0xffff);
    for (int i = 0; i < 8; i++) {
        random_st(w->fx + 32 + 16 * i);
        random_xmm(w->fx + 160 + 16 * i);
    }
    static u8 pool[2 * DATA_BYTES];
    if (!pool[0])
        for (unsigned i = 0; i < sizeof pool; i += 4)
            store32(pool + i, rnd() | 1);
    memcpy(w->data, pool + 4 * below(DATA_BYTES / 4), DATA_BYTES);
}

/* ---- running ---- */

static Mem at_native(size_t offset) { return mem_base(NO_REG, (s32)((uintptr_t)native + offset)); }

static void run_native(const World *in, const Case *k, World *out)
{
    static const u8 saved[] = { RBX, RBP, R12, R13, R14, R15 };
    Code c = { native_code };
    native->flags_in = in->flags;
    memcpy(native->in, in->gpr, sizeof in->gpr);
    memcpy(native->fx_in, in->fx, 512);
    memcpy(native_data, in->data, DATA_BYTES);
    for (unsigned i = 0; i < sizeof saved; i++) {
        if (saved[i] & 8)
            emit8(&c, REX_B);
        emit8(&c, 0x50 | (saved[i] & 7));
    }
    emit_store64(&c, at_native(offsetof(Native, rsp)), RSP);
    emit_mem(&c, 0, REX_W, 0x0fae, 1, at_native(offsetof(Native, fx_in)));
    emit_mem(&c, 0, 0, 0xff, 6, at_native(offsetof(Native, flags_in)));
    emit8(&c, 0x9d);
    for (unsigned i = 0; i < 8; i++)
        emit_load32(&c, i, at_native(offsetof(Native, in) + 4 * i));
    memcpy(c.p, k->host, k->host_len);
    c.p += k->host_len;
    for (unsigned i = 0; i < 8; i++)
        emit_store32(&c, at_native(offsetof(Native, out) + 4 * i), i);
    emit_load64(&c, RSP, at_native(offsetof(Native, rsp)));
    emit8(&c, 0x9c);
    emit_mem(&c, 0, 0, 0x8f, 0, at_native(offsetof(Native, flags_out)));
    emit_mem(&c, 0, REX_W, 0x0fae, 0, at_native(offsetof(Native, fx_out)));
    emit8(&c, 0xdb);                                    /* fninit */
    emit8(&c, 0xe3);
    for (unsigned i = sizeof saved; i-- > 0; ) {
        if (saved[i] & 8)
            emit8(&c, REX_B);
        emit8(&c, 0x58 | (saved[i] & 7));
    }
    emit8(&c, 0xc3);
    ((void (*)(void))(uintptr_t)native_code)();
    u32 mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    memcpy(out->gpr, native->out, sizeof out->gpr);
    out->flags = (u32)native->flags_out;
    memcpy(out->fx, native->fx_out, 512);
    memcpy(out->data, native_data, DATA_BYTES);
}

static void flat(Seg *s, unsigned attr) { *s = (Seg){ 0, 0xffffffff, 8, (u16)attr }; }

/* Runs guest code that ends with HLT. */
static CpuExit run_guest(const World *in, const u8 *code, unsigned len, World *out)
{
    if (code_at + 64 > CODE_END) {
        code_at = CODE;
        blocks_drop_all(cpu);
    }
    memcpy(ram + code_at, code, len);
    ram[code_at + len] = 0xf4;
    memcpy(cpu->s.gpr, in->gpr, sizeof in->gpr);
    cpu->s.eflags = in->flags;
    cpu->s.eip = code_at;
    memcpy(cpu->s.fx, in->fx, 512);
    memcpy(guest_data, in->data, DATA_BYTES);
    code_at += len + 1 + below(3);
    CpuExit why = cpu_run(cpu);
    cpu->s.halted = 0;
    cpu->attention = 0;
    memcpy(out->gpr, cpu->s.gpr, sizeof out->gpr);
    out->flags = cpu->s.eflags;
    memcpy(out->fx, cpu->s.fx, 512);
    memcpy(out->data, guest_data, DATA_BYTES);
    return why;
}

static const char *difference(const World *a, const World *b, u32 flags)
{
    static char text[160];
    for (int i = 0; i < 8; i++)
        if (a->gpr[i] != b->gpr[i]) {
            snprintf(text, sizeof text, "register %d: native %08x, translated %08x", i, a->gpr[i], b->gpr[i]);
            return text;
        }
    if ((a->flags ^ b->flags) & flags) {
        snprintf(text, sizeof text, "flags: native %03x, translated %03x", a->flags & FLAGS_ARITH,
                 b->flags & FLAGS_ARITH);
        return text;
    }
    for (int i = 0; i < 288; i++) {
        if ((i >= 6 && i < 24) || (i >= 28 && i < 32) || (i >= 32 && i < 160 && i % 16 >= 10))
            continue;                   /* pointers, mask, reserved */
        if (a->fx[i] != b->fx[i]) {
            snprintf(text, sizeof text, "FXSAVE byte %d: native %02x, translated %02x", i, a->fx[i],
                     b->fx[i]);
            return text;
        }
    }
    if (!memcmp(a->data, b->data, DATA_BYTES))
        return NULL;
    for (int i = 0; i < DATA_BYTES; i++)
        if (a->data[i] != b->data[i]) {
            snprintf(text, sizeof text, "memory %08x: native %02x, translated %02x", DATA + i, a->data[i],
                     b->data[i]);
            return text;
        }
    return NULL;
}

/* Undefined flags come from the host as well, but the check of a memory operand may have changed what the
 * host would have kept. */
static u32 flags_to_compare(const InsnRow *r, const Case *c)
{
    u32 undefined = r->b == I1 ? r->undefined & fA : r->undefined;
    return c->mem ? FLAGS_ARITH & ~undefined : FLAGS_ARITH;
}

static void row_against_native(const InsnRow *r, unsigned cases)
{
    static World in, want, got;
    char text[96];
    unsigned wrong = 0;
    for (unsigned i = 0; i < cases && !wrong; i++) {
        Case c;
        random_world(&in);
        if (!make_case(r, &in, &c))
            continue;
        compared++;
        run_native(&in, &c, &want);
        bool live = below(2);
        u8 code[24];
        memcpy(code, c.guest, c.guest_len);
        unsigned len = c.guest_len;
        if (!live) {                    /* an instruction that overwrites all flags */
            code[len++] = 0xa8;
            code[len++] = 0;
        }
        if (below(3) == 0)
            tlb_flush(cpu, true);
        CpuExit why = run_guest(&in, code, len, &got);
        const char *diff = why != CPU_EXIT_HALT ? "it did not halt" :
                           difference(&want, &got, live ? flags_to_compare(r, &c) : 0);
        if (!diff)
            continue;
        cpu_disassemble(c.guest, c.guest_len, 0, 32, text, sizeof text);
        CHECK_MSG(!diff, "%s (row %u, case %u): %s", text, r->number, i, diff);
        wrong++;
    }
    CHECK_MSG(!wrong, "%s (row %u) is as on the host", r->name, r->number);
}

/* Who looks after a row that is not compared here; NULL: nobody. */
static const char *covered_by(const InsnRow *r)
{
    static const struct { X86Helper *helper; const char *test; } helpers[] = {
        { helper_aaa, "test_vectors" }, { helper_aas, "test_vectors" }, { helper_aam, "test_vectors" },
        { helper_aad, "test_vectors" }, { helper_daa, "test_vectors" }, { helper_das, "test_vectors" },
        { helper_salc, "test_vectors" }, { helper_pusha, "test_vectors" }, { helper_popa, "test_vectors" },
        { helper_bound, "test_vectors" }, { helper_enter, "test_vectors" }, { helper_arpl, "test_protection" },
        { helper_rdtsc, "test_protection" }, { helper_rdpmc, "test_protection" },
        { helper_cpuid, "test_cpuid" }, { helper_rdmsr, "test_system" }, { helper_wrmsr, "test_system" },
        { helper_mov_from_seg, "test_vectors" }, { helper_mov_to_seg, "test_vectors, test_system" },
        { helper_push_seg, "test_vectors" }, { helper_pop_seg, "test_vectors" },
        { helper_lxs, "test_vectors, test_protection" }, { helper_lar, "test_system, test_protection" },
        { helper_lsl, "test_system, test_protection" }, { helper_grp_0f00, "test_system, test_protection" },
        { helper_jmp_far, "test_vectors, test_system" }, { helper_call_far, "test_vectors, test_system" },
        { helper_ret_far, "test_vectors, test_system" }, { helper_iret, "test_vectors, test_system" },
        { helper_int, "test_vectors, test_system" }, { helper_int3, "test_vectors" },
        { helper_int1, "test_protection" }, { helper_into, "test_vectors" },
        { helper_sysenter, "test_system, test_gate" }, { helper_sysexit, "test_system, test_gate" },
        { helper_rsm, "test_system" }, { helper_grp_0f01, "test_protection" },
        { helper_mov_cr, "test_protection" }, { helper_mov_dr, "test_system, test_protection" },
        { helper_clts, "test_protection" }, { helper_hlt, "test_system" },
        { helper_invd_wbinvd, "test_protection" }, { helper_in, "test_vectors, test_system" },
        { helper_out, "test_vectors" }, { helper_cmps, "test_vectors, test_string" },
        { helper_scas, "test_vectors, test_string" }, { helper_ins, "test_vectors" },
        { helper_outs, "test_vectors" }, { helper_fldenv, "test_x87" }, { helper_fnstenv, "test_x87" },
        { helper_frstor, "test_x87" }, { helper_fnsave, "test_x87" }, { helper_fxsave, "test_x87" },
        { helper_fxrstor, "test_x87" }, { helper_maskmov, "test_protection" }, { helper_ud, "faults_are_exact" },
    };
    switch (r->action) {
    case A_HELPER: break;
    case A_PUSH: case A_POP: case A_LEAVE: case A_RET: case A_CALL: case A_CALLI: case A_JMPI: case A_JMP:
    case A_LOOP: return "test_vectors, test_run";
    case A_JCC: return "jumps_follow_their_conditions, test_vectors";
    case A_INCDEC: return "inc_and_dec_keep_carry, test_vectors";
    case A_STRING: case A_FLAG: return "test_vectors, test_inline";
    default: return is_exception(r);
    }
    for (unsigned i = 0; i < ARRAY_LEN(helpers); i++)
        if (helpers[i].helper == insn_helper(r))
            return helpers[i].test;
    return NULL;
}

/* QEMU_WIN_COVERAGE=1 prints the list: each row and what tests it. */
static void all_rows(void)
{
    const char *cases = getenv("QEMU_WIN_CASES"), *list = getenv("QEMU_WIN_COVERAGE");
    u64 wanted = cases ? strtoull(cases, NULL, 0) : CASES, each;
    unsigned tested = 0, elsewhere = 0, lacking = 0;
    for (unsigned i = 0; i < insn_row_count; i++)
        tested += !is_exception(&insn_rows[i]) && insn_has_feature(cpu, insn_rows[i].feature);
    CHECK(tested > 700);
    each = wanted / (tested ? tested : 1) + 1;
    for (unsigned i = 0; i < insn_row_count; i++) {
        const InsnRow *r = &insn_rows[i];
        const char *by = "host";
        u64 before = compared;
        if (is_exception(r)) {
            by = covered_by(r);
            elsewhere++;
        } else if (!insn_has_feature(cpu, r->feature)) {
            by = "nothing: this host lacks it";
            lacking++;
        } else {
            row_against_native(r, (unsigned)each);
            CHECK_MSG(compared > before + each / 8, "%s (row %u): enough cases can be made", r->name, i);
        }
        CHECK_MSG(by != NULL, "%s (row %u) has a test", r->name, i);
        if (list)
            printf("%3u  %02x /%02x  %-12s %s\n", i, r->opcode, r->sel, r->name, by ? by : "nothing");
    }
    printf("rows: %u compared with the host in %llu cases, %u by other tests, %u unknown to this host\n", tested,
           (unsigned long long)compared, elsewhere, lacking);
}

/*
 * With paging: an operand whose second page is missing. Nothing may have changed, and CR2 and the error code name
 * the second page. Programs run at privilege 3, so that the handler's stack is another.
 */
static void set_paging(bool on)
{
    enum { DIR = 0x5000, LOW = 0x6000, HIGH = 0x7000, TSS = 0xa000 };
    for (u32 i = 0; i < 1024; i++) {
        store32(ram + DIR + 4 * i, 0);
        store32(ram + LOW + 4 * i, i << 12 | 7);
        store32(ram + HIGH + 4 * i, i < 3 ? (DATA + (i << 12)) | 7 : 0);
    }
    store32(ram + DIR, LOW | 7);
    store32(ram + DIR + 4 * (DATA >> 22), HIGH | 7);
    store32(ram + TSS + 4, 0xb800);
    store32(ram + TSS + 8, 0x10);
    store64(ram + 0x3018, 0x00cffb000000ffffull);
    store64(ram + 0x3020, 0x00cff3000000ffffull);
    cpu->s.gdt_limit = 0x27;
    cpu->s.tr = (Seg){ TSS, 0x67, 0x28, 0x8b };
    cpu->s.cr3 = DIR;
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_NE | (on ? CR0_PG : 0);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

static void user_segments(bool user)
{
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ 0, 0xffffffff, (u16)(user ? i == CS ? 0x1b : 0x23 : i == CS ? 8 : 16),
                               (u16)((i == CS ? 0xc09b : 0xc093) | (user ? 0x60 : 0)) };
    x86_set_cpl(cpu, user ? 3 : 0);
    x86_update_mode(cpu);
}

static void faults_in_the_second_page_change_nothing(void)
{
    static World in, got;
    unsigned rows = 0;
    set_paging(true);
    for (unsigned i = 0; i < insn_row_count; i++) {
        const InsnRow *r = &insn_rows[i];
        unsigned bytes = operand_bytes(r, 4);
        bool aligned = bytes == 16 && !(r->props & P_UNAL), write = r->props & P_MW;
        Case c;
        Insn n;
        if (is_exception(r) || !insn_has_feature(cpu, r->feature) || bytes < 2 || r->action == A_LEA ||
            r->action == A_BT)              /* its index moves the address */
            continue;
        forced_target = DATA + 3 * 4096 - 1;
        for (int k = 0; k < 20; k++) {
            random_world(&in);
            if (make_case(r, &in, &c) && (c.mem || r->action == A_MOFFS))
                break;
            c.mem = false;
        }
        forced_target = 0;
        insn_decode(&n, c.guest, c.guest_len, 0, true);
        if (!(c.mem || r->action == A_MOFFS) || n.mem_size < 2)
            continue;
        u32 at = code_at + 64 > CODE_END ? CODE : code_at;
        user_segments(true);
        run_guest(&in, c.guest, c.guest_len, &got);
        u32 esp = cpu->s.gpr[ESP];
        got.gpr[ESP] = load32(ram + 0xb800 - 8);
        const char *diff = difference(&in, &got, 0);
        CHECK_MSG(cpu->s.eip == 0x4001u + 16 * (aligned ? VEC_GP : VEC_PF), "%s: a fault", r->name);
        CHECK_MSG(!diff, "%s: nothing changed (%s)", r->name, diff);
        CHECK_MSG(load32(ram + esp + 4) == at, "%s: its own EIP", r->name);
        if (!aligned)
            CHECK_MSG(cpu->s.cr2 == DATA + 3 * 4096 && load32(ram + esp) == (write ? 6u : 4u),
                      "%s: CR2 %08x, error %x", r->name, cpu->s.cr2, load32(ram + esp));
        rows++;
    }
    user_segments(false);
    set_paging(false);
    CHECK_MSG(rows > 200, "%u rows with operands across a page", rows);
}

/* ---- what has no native counterpart ---- */

static World start, end;

static CpuExit snippet(const char *code, unsigned len)
{
    return run_guest(&start, (const u8 *)code, len, &end);
}

static void inc_and_dec_keep_carry(void)
{
    for (unsigned reg = 0; reg < 8; reg++) {
        char code[2] = { (char)(0x40 | reg), (char)(0x48 | reg) };
        random_world(&start);
        start.flags = 3;
        start.gpr[reg] = 0x7fffffff;
        snippet(code, 1);
        CHECK_MSG(end.gpr[reg] == 0x80000000u && (end.flags & (FLAG_CF | FLAG_OF)) == (FLAG_CF | FLAG_OF),
                  "inc of register %u", reg);
        snippet(code + 1, 1);
        CHECK_MSG(end.gpr[reg] == 0x7ffffffe && end.flags & FLAG_CF, "dec of register %u", reg);
    }
}

static void jumps_follow_their_conditions(void)
{
    for (unsigned cc = 0; cc < 16; cc++)
        for (int i = 0; i < 32; i++) {
            World flags_in, flags_out;
            Case c = { .guest_len = 0 };
            char code[] = { (char)(0x70 | cc), 2, (char)0xb3, 0, (char)0x90 };     /* jcc over mov bl, 0 */
            random_world(&flags_in);
            flags_in.gpr[EBX] = 1;
            both(&c, 0x0f);                                     /* setcc bl */
            both(&c, 0x90 | cc);
            both(&c, 0xc3);
            run_native(&flags_in, &c, &flags_out);
            start = flags_in;
            snippet(code, sizeof code);
            CHECK_MSG((end.gpr[EBX] & 1) == (flags_out.gpr[EBX] & 1), "jump condition %x", cc);
            CHECK_MSG(((end.flags ^ start.flags) & FLAGS_ARITH) == 0, "jump condition %x keeps the flags",
                      cc);
        }
}

static void loops_count(void)
{
    random_world(&start);
    start.gpr[ECX] = 1000;
    start.gpr[EAX] = 0;
    start.flags = 0x8d7;
    snippet("\x8d\x40\x03\xe2\xfb", 5);                         /* lea eax, [eax+3]; loop */
    CHECK(end.gpr[EAX] == 3000 && end.gpr[ECX] == 0);
    CHECK((end.flags & FLAGS_ARITH) == (start.flags & FLAGS_ARITH));
    start.gpr[ECX] = 0xabcd0003;
    start.gpr[EAX] = 0;
    snippet("\x8d\x40\x03\x67\xe2\xfa", 6);                     /* 16-bit address size: CX counts */
    CHECK(end.gpr[EAX] == 9 && end.gpr[ECX] == 0xabcd0000u);
    start.gpr[ECX] = 5;
    snippet("\xf8\x3c\x00\xb0\x00\x74\x00\xe1\xf9", 9);
    CHECK(end.gpr[ECX] == 0 || end.gpr[ECX] < 5);
    start.gpr[ECX] = 0;
    start.gpr[EBX] = 7;
    snippet("\xe3\x02\xb3\x01", 4);                             /* jecxz over mov bl, 1 */
    CHECK((end.gpr[EBX] & 0xff) == 7);
}

static void the_stack_works(void)
{
    random_world(&start);
    start.gpr[ESP] = DATA + 4096 + 2;                           /* pushes cross a page */
    start.gpr[EAX] = 0x12345678;
    snippet("\x50\x68\x0d\xf0\xad\x0b\x6a\xff\x59\x5a\x5b",
            11); /* push eax; push imm; push -1; pop ecx; pop edx; pop ebx */
    CHECK(end.gpr[ECX] == 0xffffffff && end.gpr[EDX] == 0x0badf00d && end.gpr[EBX] == 0x12345678);
    CHECK(end.gpr[ESP] == start.gpr[ESP]);
    snippet("\x54\x5c\x66\x50\x66\x5b", 6);                     /* push esp; pop esp; push ax; pop bx */
    CHECK(end.gpr[ESP] == start.gpr[ESP] && (end.gpr[EBX] & 0xffff) == 0x5678);
    snippet("\xe8\x01\x00\x00\x00\xf4\xb0\x01\xc3", 9);         /* call over hlt; mov al, 1; ret to the hlt */
    CHECK((end.gpr[EAX] & 0xff) == 1 && end.gpr[ESP] == start.gpr[ESP]);
    start.gpr[EBP] = DATA + 256;
    store32(start.data + 256, 0xcafe1234);
    snippet("\xc9", 1);                                         /* leave */
    CHECK(end.gpr[EBP] == 0xcafe1234 && end.gpr[ESP] == DATA + 260);
    start.gpr[ESP] = DATA + 512;
    start.gpr[ESI] = DATA + 1024;
    store32(start.data + 1024, 0x55aa1234);
    snippet("\xff\x36\x58", 3);                                 /* push [esi]; pop eax */
    CHECK(end.gpr[EAX] == 0x55aa1234);
}

static void code_that_changes_itself_is_seen(void)
{
    random_world(&start);
    start.gpr[ECX] = 4;
    start.gpr[EAX] = 0;
    u32 at = code_at + 64 > CODE_END ? CODE : code_at;
    char code[] = "\x83\xc0\x01\xfe\x05????\x49\x75\xf4"; /* l: add eax, 1; inc byte [l+2]; dec ecx; jnz l */
    store32(code + 5, at + 2);
    snippet(code, sizeof code - 1);
    CHECK_MSG(end.gpr[EAX] == 1 + 2 + 3 + 4, "a store into the running block takes effect at once: %u",
              end.gpr[EAX]);
}

static void instructions_may_cross_pages(void)
{
    u32 kept = code_at;
    for (u32 before = 1; before < 5; before++) {
        u32 at = 0x9000 - before;
        random_world(&start);
        code_at = at;
        snippet("\xb8\x01\x02\x03\x04", 5);                    /* mov eax, imm32 */
        CHECK_MSG(end.gpr[EAX] == 0x04030201, "%u bytes in the first page", before);
        ram[at + 4] = 0x55;                                     /* as DMA would, in the second page */
        cpu_code_written(cpu, (u32)((ram + at + 4 - mem_arena(m->mem)) >> 12), (at + 4) & 4095, 1);
        code_at = at;
        start.gpr[ECX] = 3;
        snippet("\xb8\x01\x02\x03\x66", 5);
        CHECK_MSG(end.gpr[EAX] == 0x66030201, "a change in the second page is seen, %u in the first",
                  before);
    }
    code_at = kept;
}

static void code_outside_memory_runs_as_the_bus_reads_it(void)
{
    u32 kept = code_at;
    random_world(&start);
    start.gpr[ESP] = 0x8000;
    code_at = 0xffff0;                          /* the last bytes of RAM: behind it all ones */
    snippet("\xb3\x11", 2);                                     /* mov bl, 11h; hlt */
    CHECK((end.gpr[EBX] & 0xff) == 0x11);
    memcpy(ram + RAM_BYTES - 2, "\xb3\x22", 2);                 /* mov bl, 22h; then FF FF: no instruction */
    blocks_drop_all(cpu);
    cpu->s.eip = RAM_BYTES - 2;
    cpu_run(cpu);
    CHECK((cpu->s.gpr[EBX] & 0xff) == 0x22);
    CHECK(cpu->s.eip == 0x4001 + VEC_UD * 16);
    CHECK(load32(ram + cpu->s.gpr[ESP]) == RAM_BYTES);
    ram[RAM_BYTES - 1] = 0xb7;                  /* mov bh, imm: the immediate comes from behind RAM */
    blocks_drop_all(cpu);
    cpu->s.halted = 0;
    cpu->attention = 0;
    cpu->s.eip = RAM_BYTES - 1;
    cpu_run(cpu);
    CHECK((cpu->s.gpr[EBX] >> 8 & 0xff) == 0xff);
    cpu->s.halted = 0;
    cpu->attention = 0;
    code_at = kept;
}

static void flags_survive_runs(void)
{
    random_world(&start);
    start.flags = 2 | FLAG_CF | FLAG_PF | FLAG_OF;
    start.gpr[ESP] = DATA + 4096 + 6;           /* across a page: slow and fast paths take turns */
    snippet("\x50\x53\x51\x59\x5b\x58\x8b\x04\x24\x89\x44\x24\x04", 13);
    CHECK((end.flags & FLAGS_ARITH) == (FLAG_CF | FLAG_PF | FLAG_OF));
    CHECK(end.gpr[ESP] == start.gpr[ESP] && end.gpr[ECX] == start.gpr[ECX]);
    snippet("\xe8\x01\x00\x00\x00\xf4\x53\x5b\xc3", 9);        /* call over hlt; push; pop; ret to the hlt */
    CHECK((end.flags & FLAGS_ARITH) == (FLAG_CF | FLAG_PF | FLAG_OF));
}

static void faults_are_exact(void)
{
    static const struct { const char *code; u8 len; int vector; const char *what; } rows[] = {
        { "\x31\xc9\xf7\xf1", 4, VEC_DE, "division by zero" },
        { "\x0f\x0b", 2, VEC_UD, "ud2" },
        { "\xf0\x40", 2, VEC_UD, "lock inc eax" },
        { "\xf0\x01\xc8", 3, VEC_UD, "lock add of registers" },
        { "\x0f\x28\x05\x08\x00\x00\x20", 7, VEC_GP, "movaps off its alignment" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        random_world(&start);
        start.gpr[ESP] = 0x8000;
        u32 at = code_at + 64 > CODE_END ? CODE : code_at;
        snippet(rows[i].code, rows[i].len); /* the IDT's handlers are HLTs at 0x4000 + vector * 16 */
        CHECK_MSG(cpu->s.eip == 0x4001u + (u32)rows[i].vector * 16, "%s raises vector %d", rows[i].what,
                  rows[i].vector);
        bool error_code = rows[i].vector == VEC_GP;
        u32 pushed = load32(ram + cpu->s.gpr[ESP] + (error_code ? 4 : 0));
        CHECK_MSG(pushed == at + (rows[i].vector == VEC_DE ? 2u : 0u), "%s: the pushed EIP is its own",
                  rows[i].what);
    }
}

/* Every row that needs a feature is #UD on a CPU that has all but this one. */
static void rows_without_their_feature_are_invalid(void)
{
    unsigned rows = 0;
    for (unsigned i = 0; i < insn_row_count; i++) {
        const InsnRow *r = &insn_rows[i];
        u32 kept[FEAT_WORDS];
        Case c;
        if (r->feature == F_NONE || r->action != A_COPY || !insn_has_feature(cpu, r->feature))
            continue;
        random_world(&start);
        if (!make_case(r, &start, &c))
            continue;
        memcpy(kept, cpu->features, sizeof kept);
        for (unsigned bit = 0; bit < 32 * FEAT_WORDS && insn_has_feature(cpu, r->feature); bit++) {
            memcpy(cpu->features, kept, sizeof kept);
            cpu->features[bit / 32] &= ~(1u << bit % 32);
        }
        blocks_drop_all(cpu);
        start.gpr[ESP] = 0x8000;
        run_guest(&start, c.guest, c.guest_len, &end);
        CHECK_MSG(cpu->s.eip == 0x4001 + VEC_UD * 16, "%s without its feature", r->name);
        memcpy(cpu->features, kept, sizeof kept);
        rows++;
    }
    blocks_drop_all(cpu);
    CHECK_MSG(rows > 400, "%u rows need a feature", rows);
}

static void random_numbers_come_with_carry(void)
{
    if (!insn_has_feature(cpu, F_RDRAND))
        return;
    random_world(&start);
    start.gpr[EBX] = 0;
    snippet("\x0f\xc7\xf0\x0f\x92\xc3\x0f\xc7\xf1", 9);     /* rdrand eax; setc bl; rdrand ecx */
    CHECK((end.gpr[EBX] & 255) != 1 || end.gpr[EAX] != end.gpr[ECX]);
    CHECK(!(end.flags & (FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF)));
}

static void invalid_floating_point_raises(void)
{
    random_world(&start);
    start.gpr[ESP] = 0x8000;
    store16(start.fx, 0x037b);                                  /* zero divide unmasked */
    store16(start.fx + 2, 0);
    start.fx[4] = 0;
    snippet("\xd9\xe8\xd9\xee\xde\xf9\xd9\xe8", 8);             /* fld1; fldz; fdivp; fld1 */
    CHECK(cpu->s.eip == 0x4001 + VEC_MF * 16);
}

/* ---- set-up ---- */

static void protected_mode(void)
{
    for (int v = 0; v < 32; v++) {
        store32(ram + 0x2000 + 8 * v, (u32)(8 << 16 | (0x4000 + 16 * v)));
        store32(ram + 0x2004 + 8 * v, 0x8e00);
        ram[0x4000 + 16 * v] = 0xf4;
    }
    store64(ram + 0x3008, 0x00cf9b000000ffffull);
    store64(ram + 0x3010, 0x00cf93000000ffffull);
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu->s.idt_base = 0x2000;
    cpu->s.idt_limit = 0xff;
    cpu->s.gdt_base = 0x3000;
    cpu->s.gdt_limit = 0x17;
    for (int i = 0; i < SEG_COUNT; i++)
        flat(&cpu->s.seg[i], i == CS ? 0xc09b : 0xc093);
    x86_host_features(cpu->features);
    x86_update_mode(cpu);
}

static bool set_up(void)
{
    Config cfg;
    Error err;
    config_default(&cfg);
    m = machine_create(&cfg, 16 << 20, &err);
    if (!m)
        return false;
    MemRegion *low = mem_ram(m->mem, "ram", RAM_BYTES), *data = mem_ram(m->mem, "data", DATA_BYTES);
    mem_map(m->mem, low, 0, 0, RAM_BYTES, 0, MEM_RW);
    mem_map(m->mem, data, DATA, 0, DATA_BYTES, 0, MEM_RW);
    cpu = m->cpu = cpu_create(m, "max", &err);
    if (!cpu)
        return false;
    ram = mem_ram_ptr(low);
    guest_data = mem_ram_ptr(data);
    native_data = mmap((void *)(uintptr_t)DATA, DATA_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    native = mmap((void *)0x10000000, 8192, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    native_code = mmap((void *)0x10010000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    protected_mode();
    return native_data != MAP_FAILED && native != MAP_FAILED && native_code != MAP_FAILED;
}

int main(int argc, char **argv)
{
    host_posix_init();
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0) | 1;
    CHECK(set_up());
    if (!test_failed) {
        all_rows();
        faults_in_the_second_page_change_nothing();
        inc_and_dec_keep_carry();
        jumps_follow_their_conditions();
        loops_count();
        the_stack_works();
        code_that_changes_itself_is_seen();
        instructions_may_cross_pages();
        code_outside_memory_runs_as_the_bus_reads_it();
        flags_survive_runs();
        faults_are_exact();
        rows_without_their_feature_are_invalid();
        random_numbers_come_with_carry();
        invalid_floating_point_raises();
    }
    return test_end();
}
