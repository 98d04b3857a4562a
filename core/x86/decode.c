/*
 * The decoder: guest bytes -> Insn, by the rows of insn.def.
 * Source: Intel SDM volume 2, chapter 2 (instruction format) and appendix A. 64-bit forms (REX, VEX) are not
 * decoded.
 */
#include "insn.h"

enum { MAX_LEN = 15 };

const InsnRow insn_rows[] = {
#define X(map, op, sel, pfx, name, a, b, c, act, helper, props, feat, rd, wr, un) \
    { map, op, sel, pfx, a, b, c, act, props, feat, 0, rd, wr, un, __COUNTER__, name },
#include "insn.def"
#undef X
};
const unsigned insn_row_count = ARRAY_LEN(insn_rows);

/* First row of each opcode plus one, 0: none; made at the first use. */
static u16 first_row[MAP_COUNT][256];
static u8 index_made;

static void make_index(void)
{
    for (unsigned i = insn_row_count; i-- > 0; )
        first_row[insn_rows[i].map][insn_rows[i].opcode] = (u16)(i + 1);
    __atomic_store_n(&index_made, 1, __ATOMIC_RELEASE);
}

static bool is_rm_operand(Operand o) { return o >= Eb && o <= STi; }
static bool is_reg_operand(Operand o) { return o >= Gb && o <= Dd; }

Operand insn_rm_operand(const InsnRow *row)
{
    if (is_rm_operand(row->a))
        return row->a;
    return is_rm_operand(row->b) ? row->b : is_rm_operand(row->c) ? row->c : NONE;
}

Operand insn_reg_operand(const InsnRow *row)
{
    if (is_reg_operand(row->a))
        return row->a;
    return is_reg_operand(row->b) ? row->b : is_reg_operand(row->c) ? row->c : NONE;
}

static bool wants_modrm(const InsnRow *row)
{
    return row->sel != ANY || insn_rm_operand(row) != NONE || insn_reg_operand(row) != NONE;
}

bool insn_has_feature(const Cpu *cpu, unsigned feature)
{
    static const struct { u8 word, bit; } where[] = {
        [F_NONE] = { 0, 0 }, [F_FPU] = { 0, 0 }, [F_TSC] = { 0, 4 }, [F_MSR] = { 0, 5 }, [F_CX8] = { 0, 8 },
        [F_SEP] = { 0, 11 }, [F_CMOV] = { 0, 15 }, [F_MMX] = { 0, 23 }, [F_FXSR] = { 0, 24 },
        [F_SSE] = { 0, 25 }, [F_SSE2] = { 0, 26 }, [F_SSE3] = { 1, 0 }, [F_SSSE3] = { 1, 9 },
        [F_SSE41] = { 1, 19 }, [F_SSE42] = { 1, 20 }, [F_POPCNT] = { 1, 23 },
        [F_MOVBE] = { 1, 22 }, [F_CLFSH] = { 0, 19 }, [F_PCLMUL] = { 1, 1 }, [F_AES] = { 1, 25 },
        [F_RDRAND] = { 1, 30 }, [F_RDSEED] = { 4, 18 }, [F_ADX] = { 4, 19 }, [F_SHA] = { 4, 29 },
        [F_CLFLUSHOPT] = { 4, 23 },
    };
    return feature == F_NONE || (cpu->features[where[feature].word] >> where[feature].bit & 1);
}

typedef struct {
    const u8 *code;
    unsigned pos, avail;
    bool short_of;
} Reader;

static u32 take(Reader *r, unsigned bytes)
{
    if (r->pos + bytes > r->avail) {
        r->short_of = true;
        r->pos += bytes;
        return 0;
    }
    u32 v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (u32)r->code[r->pos++] << 8 * i;
    return v;
}

static void decode_ea16(Insn *n, Reader *r)
{
    static const u8 bases[8] = { EBX, EBX, EBP, EBP, ESI, EDI, EBP, EBX };
    static const u8 indexes[8] = { ESI, EDI, ESI, EDI, NO_REG, NO_REG, NO_REG, NO_REG };
    n->base = bases[n->rm];
    n->index = indexes[n->rm];
    if (n->mod == 0 && n->rm == 6) {
        n->base = NO_REG;
        n->disp = take(r, 2);
    } else if (n->mod == 1) {
        n->disp = (u32)(s8)take(r, 1);
    } else if (n->mod == 2) {
        n->disp = (u32)(s16)take(r, 2);
    }
}

static void decode_ea32(Insn *n, Reader *r)
{
    n->base = n->rm;
    if (n->rm == 4) {
        u32 sib = take(r, 1);
        n->base = sib & 7;
        n->index = (sib >> 3 & 7) == 4 ? NO_REG : sib >> 3 & 7;
        n->scale = sib >> 6;
    }
    if (n->mod == 0 && n->base == 5) {
        n->base = NO_REG;
        n->disp = take(r, 4);
    } else if (n->mod == 1) {
        n->disp = (u32)(s8)take(r, 1);
    } else if (n->mod == 2) {
        n->disp = take(r, 4);
    }
}

static void decode_modrm(Insn *n, Reader *r, int seg_override)
{
    u32 modrm = take(r, 1);
    n->has_modrm = 1;
    n->mod = modrm >> 6;
    n->reg = modrm >> 3 & 7;
    n->rm = modrm & 7;
    if (n->map == MAP_0F && n->opcode >= 0x20 && n->opcode <= 0x23)
        n->mod = 3;                     /* MOV to and from control and debug registers: mod is ignored */
    if (n->mod == 3)
        return;
    if (n->addr32)
        decode_ea32(n, r);
    else
        decode_ea16(n, r);
    n->seg = n->base == ESP || n->base == EBP ? SS : DS;
    if (seg_override >= 0)
        n->seg = (u8)seg_override;
}

static bool row_fits(const InsnRow *row, const Insn *n, unsigned prefix)
{
    if (row->prefix != PANY && row->prefix != prefix)
        return false;
    bool mem = n->mod != 3;
    switch (row->sel & 0xf0) {
    case 0x00: return true;
    case 0x10: return (row->sel & 7) == n->reg;
    case 0x20: return mem && (row->sel & 7) == n->reg;
    case 0x30: return mem;
    case 0x40: return !mem && (row->sel & 7) == n->reg;
    case 0x50: return !mem;
    default: return !mem && (row->sel & 0x3f) == (n->reg << 3 | n->rm);
    }
}

static void take_immediate(Insn *n, Reader *r, Operand o)
{
    switch (o) {
    case Ib: n->imm = take(r, 1); break;
    case Is: case Jb: n->imm = (u32)(s8)take(r, 1); break;
    case Iw: n->imm = take(r, 2); break;
    case Iv: n->imm = take(r, n->opsize); break;
    case Jv:
        n->imm = take(r, n->opsize);
        if (n->opsize == 2)
            n->imm = (u32)(s16)n->imm;
        break;
    case Ap: n->imm = take(r, n->opsize); n->imm2 = take(r, 2); break;
    case Ob: case Ov: n->disp = take(r, n->addr32 ? 4 : 2); break;
    default: break;
    }
}

static u8 memory_size(const Insn *n)
{
    const InsnRow *row = n->row;
    if (row->action == A_NOP || row->action == A_LEA)
        return 0;
    Operand o = row->action == A_MOFFS ? (row->a == Ob || row->b == Ob ? Eb : Ev) : insn_rm_operand(row);
    switch (o) {
    case Eb: case Edb: return 1;
    case Ew: case Edw: case Mw: case Ww: return 2;
    case Ed: case Md: case Qd: case Wd: return 4;
    case Ev: return n->opsize;
    case Mq: case Qq: case Wq: return 8;
    case Mt: return 10;
    case Mx: case Wx: return 16;
    default: return 0;
    }
}

/* Prefixes up to the opcode; the last segment override and the last of F2/F3 count. */
static u32 take_prefixes(Insn *n, Reader *r, bool cs32, int *seg_override, bool *p66)
{
    bool p67 = false;
    u32 op;
    for (;;) {
        op = take(r, 1);
        if (r->short_of)
            break;
        if (op == 0x66)
            *p66 = true;
        else if (op == 0x67)
            p67 = true;
        else if (op == 0xf0)
            n->lock = 1;
        else if (op == 0xf2 || op == 0xf3)
            n->rep = (u8)(op - 0xf1);
        else if ((op & 0xe7) == 0x26)
            *seg_override = (int)(op >> 3 & 3);
        else if (op == 0x64 || op == 0x65)
            *seg_override = op == 0x64 ? FS : GS;
        else
            break;
    }
    n->opsize = cs32 != *p66 ? 4 : 2;
    n->addr32 = cs32 != p67;
    return op;
}

DecodeResult insn_decode(Insn *n, const u8 *code, unsigned avail, u32 eip, bool cs32)
{
    if (!__atomic_load_n(&index_made, __ATOMIC_ACQUIRE))
        make_index();
    Reader r = { code, 0, avail < MAX_LEN ? avail : MAX_LEN, false };
    int seg_override = -1;
    bool p66 = false;
    *n = (Insn){ .eip = eip, .base = NO_REG, .index = NO_REG, .seg = DS };
    u32 op = take_prefixes(n, &r, cs32, &seg_override, &p66);
    if (seg_override >= 0)
        n->seg = (u8)seg_override;
    if (op == 0x0f && !r.short_of) {
        n->map = MAP_0F;
        op = take(&r, 1);
        if (op == 0x38 || op == 0x3a) {
            n->map = op == 0x38 ? MAP_0F38 : MAP_0F3A;
            op = take(&r, 1);
        }
    }
    n->opcode = (u8)op;
    unsigned first = r.short_of ? 0 : first_row[n->map][op];
    if (first) {
        const InsnRow *row = &insn_rows[first - 1], *end = insn_rows + insn_row_count;
        if (wants_modrm(row))
            decode_modrm(n, &r, seg_override);
        unsigned prefix = n->rep ? (n->rep == 1 ? PF2 : PF3) : p66 ? P66 : PNO;
        for (; row < end && row->map == n->map && row->opcode == n->opcode; row++)
            if (row_fits(row, n, prefix)) {
                n->row = row;
                break;
            }
    }
    if (n->row) {
        take_immediate(n, &r, n->row->a);
        take_immediate(n, &r, n->row->b);
        take_immediate(n, &r, n->row->c);
        if (n->map == MAP_1 && n->opcode == 0xc8) {     /* ENTER: two immediates; the level is the second */
            n->imm2 = n->imm;
            n->imm = (u32)code[r.short_of ? 0 : r.pos - 3] | (u32)code[r.short_of ? 0 : r.pos - 2] << 8;
        }
        n->mem_size = insn_is_mem(n) || n->row->action == A_MOFFS ? memory_size(n) : 0;
    }
    n->len = (u8)r.pos;
    if (r.short_of)
        return avail < MAX_LEN ? DECODE_SHORT : DECODE_LONG;
    if (!n->row)
        return DECODE_UD;
    if (n->lock && !((n->row->props & P_LOCK) && insn_is_mem(n)))
        return DECODE_UD;
    return DECODE_OK;
}

u32 insn_desc(const Insn *n)
{
    unsigned reg = n->has_modrm ? n->reg : n->opcode & 7;
    unsigned log_size = n->opsize == 4 ? 2 : 1;
    const InsnRow *row = n->row;
    if (row) {
        Operand ops[3] = { row->a, row->b, row->c };
        for (int i = 0; i < 3; i++)
            if (ops[i] == Eb || ops[i] == Gb || ops[i] == AL || ops[i] == Xb || ops[i] == Yb)
                log_size = 0;
    }
    return reg << DESC_REG | (u32)n->rm << DESC_RM | (u32)(n->has_modrm && n->mod == 3) << DESC_ISREG |
           log_size << DESC_OPSIZE | (u32)n->addr32 << DESC_ADDR32 | (u32)n->seg << DESC_SEG |
           (u32)n->rep << DESC_REP | (u32)n->lock << DESC_LOCK |
           (u32)n->opcode << DESC_OPCODE | (u32)n->len << DESC_LEN | (u32)(n->map != MAP_1) << DESC_0F;
}
