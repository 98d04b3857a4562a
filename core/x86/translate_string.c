/*
 * String instructions in line: MOVS, STOS and LODS without REP as ordinary memory operands, REP MOVS and REP
 * STOS by a thunk that does what lies within one page on each side. All of it is for DF = 0, which is part of a
 * block's mode; everything else is string.c's.
 *
 * The thunk moves up to 64 bytes with scratch XMM registers, all loads before the first store, unless the
 * destination begins within the source behind it (then the bytes repeat, and the host's own REP does it).
 * It preserves the guest's flags if asked to, and goes on to the C helper when a page is not in the TLB or
 * the operand crosses one.
 * Source: Intel SDM vol. 2 (MOVS, STOS, LODS, REP).
 */
#include "helpers.h"
#include "translate.h"

enum { SHORT_BYTES = 64 };

static unsigned size_of(const Insn *n) { return n->opcode & 1 ? n->opsize : 1; }

bool string_in_line(const Tr *t, const Insn *n)
{
    if (t->mode & MODE_DF)
        return false;
    if (!n->rep)
        return true;
    bool load = (n->opcode & 0xfe) == 0xac, move = (n->opcode & 0xfe) == 0xa4;
    return !load && n->addr32 && !(t->mode & (MODE_STEP | MODE_WATCH | MODE_AC)) &&
           mode_seg_class(t->mode, ES) == SEG_FLAT &&
           (!move || (n->seg != CS && mode_seg_class(t->mode, n->seg) == SEG_FLAT));
}

/* ---- without REP ---- */

static void advance(Tr *t, const Insn *n, unsigned reg)
{
    emit_mem(&t->c, n->addr32 ? 0 : 0x66, 0, 0x8d, reg, mem_base(reg, (s32)size_of(n)));
}

static void move(Tr *t, const Insn *n, bool store, unsigned reg, Mem at)
{
    unsigned size = size_of(n);
    if (!store && size < 4 && reg == R10)
        emit_mem(&t->c, 0, 0, size == 1 ? 0x0fb6 : 0x0fb7, reg, at);
    else
        emit_mem(&t->c, size == 2 ? 0x66 : 0, 0, (store ? 0x88u : 0x8au) | (size != 1), reg, at);
}

static void movs_load_body(Tr *t, const Insn *n, Mem at) { move(t, n, false, R10, at); }

static void movs_store_body(Tr *t, const Insn *n, Mem at)
{
    move(t, n, true, R10, at);
    advance(t, n, RSI);
    advance(t, n, RDI);
}

static void stos_body(Tr *t, const Insn *n, Mem at)
{
    move(t, n, true, RAX, at);
    advance(t, n, RDI);
}

static void lods_body(Tr *t, const Insn *n, Mem at)
{
    move(t, n, false, RAX, at);
    advance(t, n, RSI);
}

static void element(Tr *t, const Insn *n, unsigned reg, bool flags_live,
                    void (*body)(Tr *, const Insn *, Mem))
{
    emit_access(t, (Access){
        .n = n, .ea = mem_base(reg, 0), .wrap16 = !n->addr32, .seg = reg == RDI ? ES : n->seg,
        .size = (u8)size_of(n), .kind = reg == RDI ? 2 : 1, .flags_live = flags_live,
        .next = { false, n->eip + n->len }, .body = body,
    });
}

static void single(Tr *t, const Insn *n, bool flags_live)
{
    switch (n->opcode & 0xfe) {
    case 0xa4:
        element(t, n, RSI, flags_live, movs_load_body);
        element(t, n, RDI, flags_live, movs_store_body);
        break;
    case 0xaa: element(t, n, RDI, flags_live, stos_body); break;
    default: element(t, n, RSI, flags_live, lods_body); break;
    }
}

/* ---- with REP ---- */

void emit_string(Tr *t, const Insn *n, bool flags_live)
{
    Code *c = &t->c;
    bool parked = t->parked;
    if (string_in_line(t, n) && !n->rep) {
        single(t, n, flags_live);
        return;
    }
    if (parked)
        emit_unpark(t);
    if (string_in_line(t, n)) {
        bool fill = (n->opcode & 0xfe) == 0xaa;
        emit_store_imm32(c, CPU_FIELD(s.eip), n->eip);
        emit_mov_imm32(c, R11, insn_desc(n));
        emit_call_to(c, t->cpu->blocks->thunk.rep[fill][size_of(n) >> 1][flags_live || parked]);
    } else {
        emit_helper(t, n, insn_helper(n->row));
    }
    if (parked)
        emit_park(t);
}

/* ---- the thunks: ECX, ESI, EDI; r11d desc; s.eip is set ---- */

typedef struct {
    Code *c;
    bool fill, keep_flags;
    unsigned shift;
    u8 *slow[8];
    unsigned slow_count;
} Rep;

static void if_slow(Rep *r, unsigned cc) { r->slow[r->slow_count++] = emit_jcc(r->c, cc); }

static void alu_imm(Code *c, unsigned rex, unsigned op, unsigned reg, u32 imm)
{
    emit_reg(c, 0, rex, 0x81, op, reg);
    emit32(c, imm);
}
enum { AND = 4, CMP = 7 };

static void shift_imm(Code *c, unsigned op, unsigned reg, unsigned by)
{
    emit_reg(c, 0, 0, 0xc1, op, reg);
    emit8(c, by);
}
enum { SHR = 5 };

/* Flags to r13 and back; r8 is free, and groups end here. */
static void park(Code *c)
{
    emit_mov64(c, R8, RAX);
    emit8(c, 0x9f);                                     /* lahf */
    emit_reg(c, 0, 0, 0x0f90, 0, RAX);                  /* seto al */
    emit_mov64(c, R13, RAX);
    emit_mov64(c, RAX, R8);
}

static void unpark(Code *c)
{
    emit_mov64(c, R8, RAX);
    emit_mov64(c, RAX, R13);
    emit8(c, 0x04);                                     /* add al, 0x7f: OF */
    emit8(c, 0x7f);
    emit8(c, 0x9e);                                     /* sahf */
    emit_mov64(c, RAX, R8);
}

/* to: host address of what the index register points at; r10 bytes from there are in its page. */
static void host_address(Rep *r, unsigned to, unsigned index, bool write)
{
    Code *c = r->c;
    emit_mov32(c, to, index);
    alu_imm(c, 0, AND, to, PAGE_MASK);
    emit_reg(c, 0, REX_W, 0x03, to, R10);
    alu_imm(c, REX_W, CMP, to, PAGE_SIZE);
    if_slow(r, CC_A);
    emit_mov32(c, to, index);
    shift_imm(c, SHR, to, PAGE_SHIFT);
    emit_load64(c, to, (Mem){ R14, (u8)to, 3, write ? offsetof(TlbSet, write) : offsetof(TlbSet, read) });
    emit_reg(c, 0, REX_W, 0x85, to, to);
    if_slow(r, CC_E);
    emit_reg(c, 0, REX_W, 0x03, to, index);
}

static Mem from_end(unsigned base, s32 back) { return (Mem){ (u8)base, R10, 0, -back }; }

/* movdqu xmm, m or the other way */
static void wide_load(Code *c, unsigned xmm, Mem m) { emit_mem(c, 0xf3, 0, 0x0f6f, xmm, m); }
static void wide_store(Code *c, unsigned xmm, Mem m) { emit_mem(c, 0xf3, 0, 0x0f7f, xmm, m); }

/* 8 to 16, to 32, to 64 bytes at r8 to r9: what is at both ends, meeting or overlapping in the middle. */
static void short_move(Rep *r, u8 *done[2])
{
    Code *c = r->c;
    alu_imm(c, 0, CMP, R10, 16);
    u8 *more = emit_short(c, OP_JCC8 | CC_A);
    emit_load64(c, RCX, mem_base(R8, 0));
    emit_load64(c, R8, from_end(R8, 8));
    emit_store64(c, mem_base(R9, 0), RCX);
    emit_store64(c, from_end(R9, 8), R8);
    done[0] = emit_jmp(c);
    emit_here8(c, more);
    alu_imm(c, 0, CMP, R10, 32);
    more = emit_short(c, OP_JCC8 | CC_A);
    wide_load(c, 0, mem_base(R8, 0));
    wide_load(c, 1, from_end(R8, 16));
    wide_store(c, 0, mem_base(R9, 0));
    wide_store(c, 1, from_end(R9, 16));
    done[1] = emit_jmp(c);
    emit_here8(c, more);
    for (unsigned i = 0; i < 4; i++)
        wide_load(c, i, i < 2 ? mem_base(R8, 16 * (s32)i) : from_end(R8, i == 2 ? 32 : 16));
    for (unsigned i = 0; i < 4; i++)
        wide_store(c, i, i < 2 ? mem_base(R9, 16 * (s32)i) : from_end(R9, i == 2 ? 32 : 16));
}

static void short_fill(Rep *r, u8 *done[2])
{
    Code *c = r->c;
    if (r->shift == 0) {
        emit_reg(c, 0, 0, 0x0fb6, R8, RAX);                     /* movzx r8d, al */
        emit_reg(c, 0, 0, 0x69, R8, R8);                        /* imul */
        emit32(c, 0x01010101);
    } else if (r->shift == 1) {
        emit_reg(c, 0, 0, 0x0fb7, R8, RAX);
        emit_reg(c, 0, 0, 0x69, R8, R8);
        emit32(c, 0x00010001);
    } else {
        emit_mov32(c, R8, RAX);
    }
    emit_reg(c, 0x66, 0, 0x0f6e, 0, R8);                        /* movd xmm0, r8d */
    emit_reg(c, 0x66, 0, 0x0f70, 0, 0);                         /* pshufd xmm0, xmm0, 0 */
    emit8(c, 0);
    alu_imm(c, 0, CMP, R10, 16);
    u8 *more = emit_short(c, OP_JCC8 | CC_A);
    emit_mem(c, 0x66, 0, 0x0fd6, 0, mem_base(R9, 0));           /* movq */
    emit_mem(c, 0x66, 0, 0x0fd6, 0, from_end(R9, 8));
    done[0] = emit_jmp(c);
    emit_here8(c, more);
    wide_store(c, 0, mem_base(R9, 0));
    wide_store(c, 0, from_end(R9, 16));
    alu_imm(c, 0, CMP, R10, 32);
    done[1] = emit_jcc(c, CC_BE);
    wide_store(c, 0, mem_base(R9, 16));
    wide_store(c, 0, from_end(R9, 32));
}

static void host_rep(Rep *r)
{
    Code *c = r->c;
    if (!r->fill)
        emit_reg(c, 0, REX_W, 0x87, R8, RSI);                   /* xchg */
    emit_reg(c, 0, REX_W, 0x87, R9, RDI);
    if (r->shift == 1)
        emit8(c, 0x66);
    emit8(c, 0xf3);
    emit8(c, (r->fill ? 0xaau : 0xa4u) | (r->shift != 0));
    if (!r->fill)
        emit_lea32(c, RSI, (Mem){ R8, R10, 0, 0 });
    emit_lea32(c, RDI, (Mem){ R9, R10, 0, 0 });
}

static void end(Rep *r)
{
    if (r->keep_flags)
        unpark(r->c);
    emit8(r->c, 0xc3);
}

static u8 *make_rep(Rep *r, X86Helper *fn, const u8 *helper)
{
    Code *c = r->c;
    u8 *none = c->p, *entry, *by_rep[2] = { NULL }, *done[2];
    emit8(c, 0xc3);
    entry = c->p;
    emit8(c, OP_JRCXZ);                         /* back to the RET */
    emit8(c, (u32)(none - (c->p + 1)));
    if (r->keep_flags)
        park(c);
    emit_lea64(c, R10, (Mem){ NO_REG, RCX, (u8)r->shift, 0 });
    if (!r->fill)
        host_address(r, R8, RSI, false);
    host_address(r, R9, RDI, true);
    emit_lea32(c, RCX, mem_base(R10, -8));
    alu_imm(c, 0, CMP, RCX, SHORT_BYTES - 8);
    by_rep[0] = emit_jcc(c, CC_A);
    if (!r->fill) {
        emit_mov64(c, RCX, R9);
        emit_reg(c, 0, REX_W, 0x2b, RCX, R8);
        emit_reg(c, 0, REX_W, 0x3b, RCX, R10);
        by_rep[1] = emit_jcc(c, CC_B);
        emit_reg(c, 0, 0, 0x03, RSI, R10);
    }
    emit_reg(c, 0, 0, 0x03, RDI, R10);
    if (r->fill)
        short_fill(r, done);
    else
        short_move(r, done);
    for (unsigned i = 0; i < 2; i++)
        emit_here32(c, done[i]);
    emit_mov_imm32(c, RCX, 0);
    end(r);
    for (unsigned i = 0; i < 2; i++)
        if (by_rep[i])
            emit_here32(c, by_rep[i]);
    emit_mov32(c, RCX, R10);
    shift_imm(c, SHR, RCX, r->shift);
    host_rep(r);
    end(r);
    for (unsigned i = 0; i < r->slow_count; i++)
        emit_here32(c, r->slow[i]);
    if (r->keep_flags)
        unpark(c);
    emit_mov_imm32(c, R8, 0);
    emit_mov_imm32(c, R9, 0);
    emit_mov32(c, R10, R11);
    emit_mov_imm64(c, R11, (u64)(uintptr_t)fn);
    emit_jmp_to(c, helper);
    return entry;
}

void string_thunks(Code *c, Thunks *thunk)
{
    for (unsigned i = 0; i < 12; i++) {
        Rep r = { .c = c, .fill = i & 1, .keep_flags = i >> 1 & 1, .shift = i >> 2 };
        thunk->rep[r.fill][r.shift][r.keep_flags] =
            make_rep(&r, r.fill ? helper_stos : helper_movs, thunk->helper);
    }
}
