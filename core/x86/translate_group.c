/*
 * Group checks: memory operands whose addresses differ by constants share one look-up.
 *
 * A pass over the block follows which registers hold a known distance from a value that another register held
 * before ("symbols": ESP through pushes, pops and ADD ESP, EBP behind MOV EBP,ESP, a pointer with constant
 * increments; absolute addresses have a symbol of their own, and so has each sum of a base and a scaled
 * index). Accesses off one symbol that lie within a page form a group. Its check stands at the last place in
 * front of the first access where the guest's flags are dead, and leaves the host address of the symbol in r13
 * or, for all but one of the groups that overlap, in
 * memory. The accesses themselves are then bare.
 *
 * A check that fails (page not present, not yet written to, MMIO, translated code, a range across two pages)
 * leaves the block for a second translation of the code behind it, where each operand is checked singly: so
 * faults stay exact. Between the check and the last access nothing may take the page away: helpers end all
 * groups; a slow path that changes the memory map leaves the block (access_commit()), and one that only empties
 * the tables does no harm, since no other mapping is made before the block ends.
 */
#include "translate.h"

enum { SPAN_MAX = 2048, FAR = 1 << 20, SYM_ABSOLUTE = 8, MIN_IN_MEMORY = 3, SUMS_MAX = 16 };

typedef struct { u16 id; s32 offset; } Sym;

typedef struct {
    Tr *t;
    Sym reg[9];                         /* one more for "no register": absolute addresses */
    Sym at[BLOCK_MAX_INSNS][9];         /* before each instruction */
    struct { u16 base, index, id; u8 scale; } sum[SUMS_MAX];
    unsigned sum_count;
    u16 next_id;
    unsigned epoch;                     /* first instruction behind the last helper */
    Group open[GROUP_MAX];
    u16 open_id[GROUP_MAX];
    unsigned open_count;
} Pass;

/* ---- what instructions do to registers ---- */

static void forget(Pass *p, unsigned reg) { p->reg[reg & 7] = (Sym){ p->next_id++, 0 }; }

static void forget_all(Pass *p)
{
    for (unsigned i = 0; i < 8; i++)
        forget(p, i);
}

static void move(Pass *p, unsigned to, unsigned from, s32 by)
{
    Sym s = p->reg[from];
    if (by >= FAR || by <= -FAR || s.offset >= FAR || s.offset <= -FAR) {
        forget(p, to);
        return;
    }
    p->reg[to] = (Sym){ s.id, s.offset + by };
}

static void written_rm(Pass *p, const Insn *n, bool byte)
{
    if (n->mod == 3)
        forget(p, byte ? n->rm & 3 : n->rm);
}

/* The general groups: add, sub, inc, dec of a whole register keep its symbol. */
static void changed_rm(Pass *p, const Insn *n, bool known, s32 by)
{
    if (n->mod == 3 && known && n->opsize == 4)
        move(p, n->rm, n->rm, by);
    else
        written_rm(p, n, !(n->opcode & 1));
}

static void after_alu(Pass *p, const Insn *n)
{
    if (n->opcode >= 0x38)                              /* cmp */
        return;
    switch (n->opcode & 7) {
    case 0: case 1: written_rm(p, n, !(n->opcode & 1)); break;
    case 2: forget(p, n->reg & 3); break;
    case 3: forget(p, n->reg); break;
    default: forget(p, EAX); break;
    }
}

static void after_mov(Pass *p, const Insn *n)
{
    bool load = n->opcode & 2, byte = !(n->opcode & 1);
    unsigned to = load ? n->reg : n->rm, from = load ? n->rm : n->reg;
    if (!load && n->mod != 3)
        return;
    if (n->mod == 3 && !byte && n->opsize == 4)
        move(p, to, from, 0);
    else
        forget(p, byte ? to & 3 : to);
}

static void after_f6_f7(Pass *p, const Insn *n)
{
    if (n->reg >= 4) {
        forget(p, EAX);
        forget(p, EDX);
    } else if (n->reg >= 2) {
        written_rm(p, n, n->opcode == 0xf6);
    }
}

static void after_copy_1(Pass *p, const Insn *n)
{
    u8 op = n->opcode;
    if (op < 0x40) {
        after_alu(p, n);
        return;
    }
    switch (op) {
    case 0x69: case 0x6b: forget(p, n->reg); break;
    case 0x80: case 0x82:
        if (n->reg != 7)
            written_rm(p, n, true);
        break;
    case 0x81: case 0x83:
        if (n->reg != 7)
            changed_rm(p, n, n->reg == 0 || n->reg == 5, n->reg == 0 ? (s32)n->imm : (s32)-n->imm);
        break;
    case 0x84: case 0x85: case 0x9b: case 0x9e: case 0xa8: case 0xa9: case 0xf5: case 0xf8: case 0xf9: break;
    case 0x86: forget(p, n->reg & 3); written_rm(p, n, true); break;
    case 0x87: forget(p, n->reg); written_rm(p, n, false); break;
    case 0x88: case 0x89: case 0x8a: case 0x8b: after_mov(p, n); break;
    case 0x91: case 0x92: case 0x93: case 0x94: case 0x95: case 0x96: case 0x97:
        forget(p, EAX);
        forget(p, op);
        break;
    case 0x98: case 0x9f: forget(p, EAX); break;
    case 0x99: forget(p, EDX); break;
    case 0xb0: case 0xb1: case 0xb2: case 0xb3: case 0xb4: case 0xb5: case 0xb6: case 0xb7:
        forget(p, op & 3);
        break;
    case 0xb8: case 0xb9: case 0xba: case 0xbb: case 0xbc: case 0xbd: case 0xbe: case 0xbf:
        forget(p, op);
        break;
    case 0xc0: case 0xc6: case 0xd0: case 0xd2: written_rm(p, n, true); break;
    case 0xc1: case 0xc7: case 0xd1: case 0xd3: written_rm(p, n, false); break;
    case 0xd8: case 0xd9: case 0xda: case 0xdb: case 0xdc: case 0xdd: case 0xde: break;
    case 0xdf:
        if (n->mod == 3)
            forget(p, EAX);                             /* fnstsw ax */
        break;
    case 0xf6: case 0xf7: after_f6_f7(p, n); break;
    case 0xfe: written_rm(p, n, true); break;
    case 0xff: changed_rm(p, n, true, n->reg ? -1 : 1); break;
    default: forget_all(p); break;
    }
}

static bool is_general(Operand o)
{
    switch (o) {
    case Eb: case Ew: case Ed: case Ev: case Edb: case Edw: case Rd: case Gb: case Gw: case Gd: case Gv:
        return true;
    default: return false;
    }
}

static void after_copy_0f(Pass *p, const Insn *n)
{
    u8 op = n->opcode;
    if (n->row->props & (P_SSE | P_MMX)) {
        if (is_general(insn_reg_operand(n->row)))
            forget(p, n->reg);
        if (is_general(insn_rm_operand(n->row)))
            written_rm(p, n, false);
        return;
    }
    if ((op >= 0x40 && op < 0x50) || op == 0xaf || op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf ||
        op == 0xbc || op == 0xbd)
        forget(p, n->reg);
    else if (op >= 0x90 && op < 0xa0)
        written_rm(p, n, true);
    else if (op == 0xa4 || op == 0xa5 || op == 0xac || op == 0xad)
        written_rm(p, n, false);
    else
        forget_all(p);
}

static void after_lea(Pass *p, const Insn *n)
{
    if (n->opsize == 4 && n->addr32 && n->base != NO_REG && n->index == NO_REG)
        move(p, n->reg, n->base, (s32)n->disp);
    else
        forget(p, n->reg);
}

static void after_pop(Pass *p, const Insn *n)
{
    move(p, ESP, ESP, n->opsize);
    forget(p, n->has_modrm ? n->rm : n->opcode);
}

/* MOVS, STOS, LODS without REP. */
static void after_string(Pass *p, const Insn *n)
{
    unsigned kind = n->opcode & 0xfe;
    s32 size = n->opcode & 1 ? n->opsize : 1;
    if (!n->addr32) {
        forget(p, ESI);
        forget(p, EDI);
    }
    if (kind != 0xaa)
        move(p, ESI, ESI, size);
    if (kind != 0xac)
        move(p, EDI, EDI, size);
    else
        forget(p, EAX);
}

/* False: C runs, groups end. */
static bool follow(Pass *p, const Insn *n)
{
    switch ((Action)n->row->action) {
    case A_NOP: case A_JCC: return true;
    case A_COPY:
        if (n->map == MAP_1)
            after_copy_1(p, n);
        else if (n->map == MAP_0F)
            after_copy_0f(p, n);
        else
            forget_all(p);
        return true;
    case A_LEA: after_lea(p, n); return true;
    case A_INCDEC:
        if (n->opsize == 4)
            move(p, n->opcode & 7, n->opcode & 7, n->opcode & 8 ? -1 : 1);
        else
            forget(p, n->opcode);
        return true;
    case A_MOFFS:
    case A_XLAT: forget(p, EAX); return true;
    case A_BT:
        if (insn_is_mem(n))
            break;
        forget(p, n->rm);
        return true;
    case A_PUSH: move(p, ESP, ESP, -n->opsize); return true;
    case A_POP:
        if (insn_is_mem(n))
            break;
        after_pop(p, n);
        return true;
    case A_LEAVE:
        move(p, ESP, EBP, n->opsize);
        forget(p, EBP);
        return true;
    case A_STRING:
        if (n->rep || !string_in_line(p->t, n))
            break;
        after_string(p, n);
        return true;
    default: break;
    }
    forget_all(p);
    return false;
}

/* ---- finding groups ---- */

static void close_all(Pass *p)
{
    for (unsigned i = 0; i < p->open_count; i++) {
        Tr *t = p->t;
        if (p->open[i].count >= 2 && t->group_count < GROUP_MAX) {
            p->open[i].epoch = p->epoch;
            t->group[t->group_count++] = p->open[i];
        }
    }
    p->open_count = 0;
}

/* The symbol of base + index * 2^scale; id NO_SYMBOL: too many of them. */
static Sym sum_of(Pass *p, Sym base, Sym index, unsigned scale)
{
    s32 offset = (s32)((u32)base.offset + ((u32)index.offset << scale));
    for (unsigned i = 0; i < p->sum_count; i++)
        if (p->sum[i].base == base.id && p->sum[i].index == index.id && p->sum[i].scale == scale)
            return (Sym){ p->sum[i].id, offset };
    if (p->sum_count == SUMS_MAX)
        return (Sym){ NO_SYMBOL, 0 };
    p->sum[p->sum_count].base = base.id;
    p->sum[p->sum_count].index = index.id;
    p->sum[p->sum_count].scale = (u8)scale;
    p->sum[p->sum_count].id = p->next_id;
    p->sum_count++;
    return (Sym){ p->next_id++, offset };
}

static void set_parts(const Pass *p, Group *g)
{
    g->base_id = g->id;
    g->index_id = NO_SYMBOL;
    for (unsigned i = 0; i < p->sum_count; i++)
        if (p->sum[i].id == g->id) {
            g->base_id = p->sum[i].base;
            g->index_id = p->sum[i].index;
            g->scale = p->sum[i].scale;
        }
}

static Group *group_for(Pass *p, unsigned insn, u16 id, s32 low, s32 high)
{
    for (unsigned i = 0; i < p->open_count; i++) {
        Group *g = &p->open[i];
        s32 min = low < g->low ? low : g->low, max = high > g->high ? high : g->high;
        if (p->open_id[i] == id && (s64)max - min <= SPAN_MAX) {
            g->low = min;
            g->high = max;
            return g;
        }
    }
    if (p->open_count == GROUP_MAX)
        return NULL;
    p->open_id[p->open_count] = id;
    p->open[p->open_count] = (Group){ .id = id, .first = insn, .low = low, .high = high };
    return &p->open[p->open_count++];
}

static void access(Pass *p, unsigned insn, bool stack, Sym s, s32 disp, unsigned size, unsigned kind)
{
    s32 low = (s32)((u32)s.offset + (u32)disp);
    if (s.id == NO_SYMBOL || low > 0x7fffffff - (s32)SPAN_MAX || low < -0x7fffffff + (s32)SPAN_MAX)
        return;
    Group *g = group_for(p, insn, s.id, low, low + (s32)size);
    if (!g)
        return;
    g->count++;
    g->last = insn;
    g->write |= (kind & 2) != 0;
    p->t->member[insn][stack] = (Member){ (u16)(s.id + 1), (u8)size, (kind & 2) != 0, low };
}

static void operand(Pass *p, unsigned i, const Insn *n)
{
    unsigned kind = n->row->props & P_MRW, size = n->mem_size;
    Action a = n->row->action;
    if (a == A_MOFFS) {
        if (n->addr32 && mode_seg_class(p->t->mode, n->seg) == SEG_FLAT && size <= 4)
            access(p, i, false, p->reg[SYM_ABSOLUTE], (s32)n->disp, size, kind);
        return;
    }
    if (a != A_COPY && a != A_PUSH && a != A_CALLI && a != A_JMPI)
        return;
    if (a != A_COPY)
        kind = 1;
    if (!insn_is_mem(n) || !n->addr32 || n->seg == CS ||
        mode_seg_class(p->t->mode, n->seg) != SEG_FLAT)
        return;
    if ((size != 1 && size != 2 && size != 4 && size != 8 && size != 10 && size != 16) ||
        (size == 16 && !(n->row->props & P_UNAL)))
        return;
    Sym s = p->reg[n->base == NO_REG ? SYM_ABSOLUTE : n->base];
    if (n->index != NO_REG)
        s = sum_of(p, s, p->reg[n->index], n->scale);
    access(p, i, false, s, (s32)n->disp, size, kind);
}

static void stack(Pass *p, unsigned i, const Insn *n)
{
    if (!(p->t->mode & MODE_SS32) || mode_seg_class(p->t->mode, SS) != SEG_FLAT)
        return;
    switch ((Action)n->row->action) {
    case A_PUSH: case A_CALL: case A_CALLI: access(p, i, true, p->reg[ESP], -n->opsize, n->opsize, 2); break;
    case A_POP:
        if (insn_is_mem(n))
            break;
        /* fallthrough */
    case A_RET: access(p, i, true, p->reg[ESP], 0, n->opsize, 1); break;
    case A_LEAVE: access(p, i, true, p->reg[EBP], 0, n->opsize, 1); break;
    default: break;
    }
}

/* ---- where the checks stand, and where their results are kept ---- */

/* The register that holds the symbol, or its distance from it, before the instruction; 9: none. */
static unsigned holder(const Pass *p, unsigned insn, u16 id)
{
    unsigned r = 0;
    while (r <= SYM_ABSOLUTE && p->at[insn][r].id != id)
        r++;
    return r;
}

static bool symbol_known(const Pass *p, unsigned insn, Group *g)
{
    unsigned base = holder(p, insn, g->base_id), index = SYM_ABSOLUTE;
    if (g->index_id != NO_SYMBOL)
        index = holder(p, insn, g->index_id);
    if (base > SYM_ABSOLUTE || index > SYM_ABSOLUTE)
        return false;
    g->reg = (u8)base;
    g->index = (u8)index;
    g->reg_offset = p->at[insn][base].offset;
    if (index != SYM_ABSOLUTE)
        g->reg_offset = (s32)((u32)g->reg_offset + ((u32)p->at[insn][index].offset << g->scale));
    return true;
}

static void place(const Pass *p, Group *g)
{
    set_parts(p, g);
    for (unsigned i = g->first + 1; i-- > g->epoch; )
        if (!p->t->before[i] && symbol_known(p, i, g)) {
            g->check = i;
            return;
        }
    g->flags_live = true;
    g->check = g->first;
    if (!symbol_known(p, g->first, g))
        g->count = 0;
}

static bool overlap(const Group *a, const Group *b) { return a->check <= b->last && b->check <= a->last; }

/* The most used groups live in r13, the others in memory if that pays. */
static void settle(Tr *t)
{
    unsigned in_memory = 0;
    for (unsigned round = 0; round < t->group_count; round++) {
        Group *g = NULL;
        bool taken = false;
        for (unsigned i = 0; i < t->group_count; i++)
            if (!t->group[i].settled && (!g || t->group[i].count > g->count))
                g = &t->group[i];
        for (unsigned i = 0; i < t->group_count; i++)
            taken |= t->group[i].settled && t->group[i].count && !t->group[i].place &&
                     overlap(g, &t->group[i]);
        g->settled = true;
        if (!taken)
            continue;
        if (g->count >= MIN_IN_MEMORY && !g->flags_live && in_memory < ARRAY_LEN(((Cpu *)0)->group))
            g->place = (u8)++in_memory;
        else
            g->count = 0;
    }
}

void find_groups(Tr *t)
{
    Pass p = { .t = t, .next_id = 9 };
    t->group_count = 0;
    __builtin_memset(t->member, 0, sizeof t->member[0] * t->count);
    if (t->single || t->b->unlinked || t->mode & (MODE_AC | MODE_WATCH))
        return;
    for (unsigned i = 0; i < 9; i++)
        p.reg[i] = (Sym){ (u16)i, 0 };
    for (unsigned i = 0; i < t->count && t->insn[i].row; i++) {
        __builtin_memcpy(p.at[i], p.reg, sizeof p.reg);
        operand(&p, i, &t->insn[i]);
        stack(&p, i, &t->insn[i]);
        if (!follow(&p, &t->insn[i])) {
            close_all(&p);
            p.epoch = i + 1;
        }
    }
    close_all(&p);
    for (unsigned i = 0; i < t->group_count; i++)
        place(&p, &t->group[i]);
    settle(t);
}

const Group *group_of(const Tr *t, const Insn *n, bool stack)
{
    unsigned i = (unsigned)(n - t->insn);
    const Member *m = &t->member[i][stack];
    for (unsigned k = 0; m->id && k < t->group_count; k++) {
        const Group *g = &t->group[k];
        if (g->count && g->id + 1 == m->id && g->first <= i && i <= g->last && g->low <= m->disp &&
            m->disp + m->size <= g->high && (g->write || !m->write))
            return g;
    }
    return NULL;
}

Mem group_operand(Tr *t, const Group *g, const Insn *n, bool stack)
{
    s32 disp = t->member[n - t->insn][stack].disp - g->low;
    if (!g->place)
        return mem_base(R13, disp);
    emit_load64(&t->c, R9, CPU_FIELD(group[g->place - 1]));
    return mem_base(R9, disp);
}

/* ---- the check ---- */

static void emit_check(Tr *t, Group *g)
{
    Code *c = &t->c;
    bool live = g->flags_live && !t->parked;
    unsigned scratch = g->place ? R11 : R13;
    if (g->reg == SYM_ABSOLUTE && g->index == SYM_ABSOLUTE)
        emit_mov_imm32(c, R8, (u32)g->low);
    else
        emit_lea32(c, R8, (Mem){ g->reg == SYM_ABSOLUTE ? (u8)NO_REG : (u8)host_reg(g->reg),
                                 g->index == SYM_ABSOLUTE ? (u8)NO_REG : (u8)host_reg(g->index), g->scale,
                                 (s32)((u32)g->low - (u32)g->reg_offset) });
    if (live)
        park_flags(c);
    emit_lea32(c, scratch, mem_base(R8, g->high - g->low - 1));
    emit_mov32(c, R9, R8);
    emit_reg(c, 0, 0, 0xc1, 5, R9);                     /* shr r9d, 12 */
    emit8(c, PAGE_SHIFT);
    emit_reg(c, 0, 0, 0x33, scratch, R8);               /* xor, shr: other page? */
    emit_load64(c, R9, (Mem){ R14, R9, 3, g->write ? offsetof(TlbSet, write) : offsetof(TlbSet, read) });
    emit_reg(c, 0, 0, 0xc1, 5, scratch);
    emit8(c, PAGE_SHIFT);
    g->failed[0] = emit_jcc(c, CC_NE);
    emit_reg(c, 0, REX_W, 0x85, R9, R9);
    g->failed[1] = emit_jcc(c, CC_E);
    emit_lea64(c, g->place ? R9 : R13, (Mem){ R9, R8, 0, 0 });
    if (g->place)
        emit_store64(c, CPU_FIELD(group[g->place - 1]), R9);
    if (live)
        unpark_flags(c);
    g->checked_parked = t->parked;
    g->x87_eip = t->x87_eip;
    g->x87_what = t->x87_what;
    g->checked = true;
}

void emit_group_checks(Tr *t, unsigned insn)
{
    for (unsigned i = 0; i < t->group_count; i++)
        if (t->group[i].count && t->group[i].check == insn)
            emit_check(t, &t->group[i]);
}

void emit_group_exits(Tr *t)
{
    for (unsigned i = 0; i < t->group_count; i++) {
        Group *g = &t->group[i];
        if (!g->checked)
            continue;
        emit_here32(&t->c, g->failed[0]);
        emit_here32(&t->c, g->failed[1]);
        if (g->checked_parked)
            emit_unpark(t);
        else if (g->flags_live)
            unpark_flags(&t->c);
        emit_x87_values(&t->c, g->x87_eip, g->x87_what);
        emit_single_exit(t, &t->insn[g->check]);
    }
}
