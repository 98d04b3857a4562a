/*
 * The instructions, by the action of their row: copied with renamed registers, rewritten, or a call of C. See
 * translate.h.
 */
#include "fpu.h"
#include "helpers.h"
#include "run.h"
#include "translate.h"

#include <assert.h>

static X86Helper *const row_helpers[] = {
#define X(map, op, sel, pfx, name, a, b, c, act, helper, props, feat, rd, wr, un) helper,
#include "insn.def"
#undef X
};

X86Helper *insn_helper(const InsnRow *row) { return row_helpers[row->number]; }

/* ---- copying ---- */

typedef enum { CLASS_NONE, CLASS_BYTE, CLASS_GPR, CLASS_XMM } RegClass;

static RegClass reg_class(Operand o)
{
    switch (o) {
    case Eb: case Gb: case Zb: return CLASS_BYTE;
    case Ew:
    case Ed:
    case Ev:
    case Edb:
    case Edw:
    case Rd:
    case Gw:
    case Gd:
    case Gv:
    case Zv:
        return CLASS_GPR;
    case Ww: case Wd: case Wq: case Wx: case Ux: case Vx: return CLASS_XMM;
    default: return CLASS_NONE;
    }
}

/* Host number of a guest register in its class; bit 3 asks for a REX bit. */
static unsigned host_number(RegClass cls, unsigned reg)
{
    if (cls == CLASS_XMM)
        return reg | 8;
    return cls == CLASS_GPR ? host_reg(reg) : reg;
}

static bool depends_on_size(const InsnRow *row)
{
    Operand ops[3] = { row->a, row->b, row->c };
    for (int i = 0; i < 3; i++)
        switch (ops[i]) {
        case Ev: case Gv: case Zv: case Iv: case Ov: return true;
        case AX: return row->opcode < 0xd8 || row->map != MAP_1;    /* not FNSTSW AX */
        default: break;
        }
    return row->map == MAP_1 && (row->opcode == 0x98 || row->opcode == 0x99);
}

static void emit_immediates(Code *c, const Insn *n)
{
    Operand ops[3] = { n->row->a, n->row->b, n->row->c };
    for (int i = 0; i < 3; i++)
        if (ops[i] == Ib || ops[i] == Is)
            emit8(c, n->imm);
        else if (ops[i] == Iw || (ops[i] == Iv && n->opsize == 2))
            emit16(c, n->imm);
        else if (ops[i] == Iv)
            emit32(c, n->imm);
}

/* The modrm.reg field to emit: groups drop what the chip ignores, so that no newer instruction hides there.
 */
static unsigned opcode_extension(const Insn *n)
{
    if (n->map != MAP_1)
        return n->reg;
    switch (n->opcode) {
    case 0xc6: case 0xc7: return 0;
    case 0xf6: case 0xf7: return n->reg == 1 ? 0 : n->reg;
    case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3: return n->reg == 6 ? 4 : n->reg;
    default: return n->reg;
    }
}

static void emit_prefixes(Code *c, const Insn *n)
{
    static const u8 mandatory[] = { [P66] = 0x66, [PF3] = 0xf3, [PF2] = 0xf2 };
    if (n->opsize == 2 && n->row->prefix != P66 && depends_on_size(n->row))
        emit8(c, 0x66);
    if (n->row->prefix > PNO)
        emit8(c, mandatory[n->row->prefix]);
}

static u32 full_opcode(const Insn *n)
{
    static const u32 escape[MAP_COUNT] = { 0, 0x0f00, 0x0f3800, 0x0f3a00 };
    u32 op = n->opcode == 0x82 && n->map == MAP_1 ? 0x80 : n->opcode;
    return escape[n->map] | op;
}

static void note_fault(Tr *t, const Insn *n)
{
    if (n->row->props & P_HF && t->fault_count < ARRAY_LEN(t->fault))
        t->fault[t->fault_count++] =
            (FaultEntry){ (u32)(t->c.p - t->b->code), n->eip, t->x87_eip, t->x87_what };
}

/* The instruction itself; at: host address of its memory operand, NULL: none. AH..BH can't stand beside a REX
 * prefix, so they change places with AL..BL around the instruction (BL for CMPXCHG, which uses AL). */
static void emit_copy(Tr *t, const Insn *n, const Mem *at)
{
    Code *c = &t->c;
    const InsnRow *row = n->row;
    RegClass reg_cls = reg_class(insn_reg_operand(row)),
             rm_cls = at ? CLASS_NONE : reg_class(insn_rm_operand(row));
    unsigned reg = reg_cls == CLASS_NONE && insn_reg_operand(row) == NONE ? opcode_extension(n) : n->reg;
    unsigned rm = n->rm;
    bool rex = (reg_cls != CLASS_NONE && host_number(reg_cls, reg) & 8) ||
               (rm_cls != CLASS_NONE && host_number(rm_cls, rm) & 8) || at;
    unsigned swapped = 0, partner = 0;
    if (rex && reg_cls == CLASS_BYTE && reg >= 4) {
        swapped = reg;
        partner = n->map == MAP_0F && n->opcode == 0xb0 && reg == 4 ? EBX : reg & 3;
        reg = partner;
    } else if (rex && rm_cls == CLASS_BYTE && rm >= 4) {
        swapped = rm;
        partner = rm & 3;
        rm = partner;
    }
    if (swapped)
        emit_reg(c, 0, 0, 0x86, partner, swapped);
    if (row->props & P_X0R)
        emit_reg(c, 0, 0, 0x0f28, 0, 8);                /* movaps xmm0, xmm8 */
    note_fault(t, n);
    emit_prefixes(c, n);
    if (at)
        emit_mem(c, 0, 0, full_opcode(n), host_number(reg_cls, reg), *at);
    else if (n->has_modrm)
        emit_reg(c, 0, 0, full_opcode(n), host_number(reg_cls, reg), host_number(rm_cls, rm));
    else {
        bool in_opcode = row->a == Zv || row->b == Zv;
        if (in_opcode && (n->opcode & 7) == ESP)
            emit8(c, REX_B);
        emit_opcode(c, full_opcode(n));
    }
    emit_immediates(c, n);
    if (row->props & P_X0W)
        emit_reg(c, 0, 0, 0x0f28, 8, 0);
    if (swapped)
        emit_reg(c, 0, 0, 0x86, partner, swapped);
}

/* ---- immediates that the guest changes often: see patch.c ---- */

enum { OP_ALU_EAX = 5, OP_ALU_IMM = 0x81, OP_MOV_IMM = 0xb8, OP_MOV_RM_IMM = 0xc7 };

/* The arena offset in the page of a four-byte immediate that is to be read from memory; 0: not so. */
static u32 patched_place(const Tr *t, const Insn *n)
{
    u32 at = t->b->offset + (n->eip - t->b->eip) + n->len - 4;
    bool form = n->map == MAP_1 && n->opsize == 4 &&
                ((n->opcode < 0x40 && (n->opcode & 7) == OP_ALU_EAX) || (n->opcode & 0xf8) == OP_MOV_IMM ||
                 ((n->opcode == OP_ALU_IMM || n->opcode == OP_MOV_RM_IMM) && n->mod == 3));
    if (!form || t->b->patch_count == BLOCK_MAX_PATCHES || t->b->page == MEM_NO_PAGE || at + 4 > PAGE_SIZE ||
        !patch_is_hot(t->cpu->blocks, t->b->page, at, 4))
        return 0;
    return at;
}

/* The instruction with its immediate as a memory operand. False: it is not one of those. */
static bool emit_patched(Tr *t, const Insn *n)
{
    Code *c = &t->c;
    u32 at = patched_place(t, n);
    if (!at)
        return false;
    t->b->patch[t->b->patch_count++] = (BlockPatch){ (u16)at, 4 };
    emit_mov_imm64(c, R9, (u64)(uintptr_t)(t->cpu->arena + ((u64)t->b->page << PAGE_SHIFT) + at));
    if ((n->opcode & 0xf8) == OP_MOV_IMM)
        emit_load32(c, host_reg(n->opcode & 7), mem_base(R9, 0));
    else if (n->opcode == OP_MOV_RM_IMM)
        emit_load32(c, host_reg(n->rm), mem_base(R9, 0));
    else if (n->opcode == OP_ALU_IMM)
        emit_mem(c, 0, 0, n->reg << 3 | 3, host_reg(n->rm), mem_base(R9, 0));
    else
        emit_mem(c, 0, 0, (n->opcode & 0x38) | 3, RAX, mem_base(R9, 0));
    return true;
}

/* ---- memory operands ---- */

Mem insn_ea(const Insn *n)
{
    return (Mem){ n->base == NO_REG ? (u8)NO_REG : (u8)host_reg(n->base), n->index, n->scale, (s32)n->disp };
}

static void copy_body(Tr *t, const Insn *n, Mem at) { emit_copy(t, n, &at); }

static Access operand_access(const Insn *n, bool flags_live)
{
    unsigned kind = n->row->props & P_MRW;
    if (n->row->props & P_FPU && kind == P_MW)
        kind = P_MRW;                   /* an unmasked exception keeps the operand as it was */
    return (Access){
        .n = n, .ea = insn_ea(n), .wrap16 = !n->addr32, .seg = n->seg, .size = n->mem_size, .kind = (u8)kind,
        .aligned = n->mem_size == 16 && !(n->row->props & P_UNAL), .flags_live = flags_live,
        .next = { false, n->eip + n->len }, .body = copy_body,
    };
}

void load_r10_body(Tr *t, const Insn *n, Mem at)
{
    if (n->opsize == 2)
        emit_mem(&t->c, 0, 0, 0x0fb7, R10, at);
    else
        emit_load32(&t->c, R10, at);
}

/* The operand's value to r10, zero-extended: from memory or a register. */
static void operand_to_r10(Tr *t, const Insn *n, bool flags_live)
{
    if (insn_is_mem(n)) {
        Access a = operand_access(n, flags_live);
        a.kind = 1;
        a.body = load_r10_body;
        emit_access(t, a);
    } else if (n->opsize == 2) {
        emit_reg(&t->c, 0, 0, 0x0fb7, R10, host_reg(n->rm));
    } else {
        emit_mov32(&t->c, R10, host_reg(n->rm));
    }
}

/* ---- the stack ---- */

void move_esp(Tr *t, int by)
{
    emit_mem(&t->c, t->mode & MODE_SS32 ? 0 : 0x66, 0, 0x8d, R12, mem_base(R12, by));
}

Access stack_access(Tr *t, const Insn *n, unsigned base, int disp, unsigned kind, bool flags_live)
{
    return (Access){
        .n = n,
        .ea = mem_base(base, disp),
        .wrap16 = !(t->mode & MODE_SS32),
        .stack = true,
        .seg = SS,
        .size = n->opsize,
        .kind = (u8)kind,
        .flags_live = flags_live,
        .next = {false, n->eip + n->len},
    };
}

static void store_reg(Tr *t, const Insn *n, unsigned reg, Mem at)
{
    emit_mem(&t->c, n->opsize == 2 ? 0x66 : 0, 0, 0x89, reg, at);
    move_esp(t, -n->opsize);
}

static void store_imm(Tr *t, const Insn *n, u32 imm, Mem at)
{
    emit_mem(&t->c, n->opsize == 2 ? 0x66 : 0, 0, 0xc7, 0, at);
    if (n->opsize == 2)
        emit16(&t->c, imm);
    else
        emit32(&t->c, imm);
    move_esp(t, -n->opsize);
}

static void push_reg_body(Tr *t, const Insn *n, Mem at)
{
    store_reg(t, n, host_reg(n->has_modrm ? n->rm : n->opcode & 7), at);
}
void push_r10_body(Tr *t, const Insn *n, Mem at) { store_reg(t, n, R10, at); }
static void push_imm_body(Tr *t, const Insn *n, Mem at) { store_imm(t, n, n->imm, at); }
static void push_return_body(Tr *t, const Insn *n, Mem at) { store_imm(t, n, n->eip + n->len, at); }

static void push(Tr *t, const Insn *n, bool flags_live)
{
    bool from_memory = insn_is_mem(n);
    if (from_memory)
        operand_to_r10(t, n, flags_live);
    Access a = stack_access(t, n, R12, -n->opsize, 2, flags_live);
    a.body = from_memory ? push_r10_body : n->row->a == Iv || n->row->a == Is ? push_imm_body : push_reg_body;
    emit_access(t, a);
}

static void pop_body(Tr *t, const Insn *n, Mem at)
{
    move_esp(t, n->opsize);          /* first: POP ESP ends with what was loaded */
    emit_mem(&t->c, n->opsize == 2 ? 0x66 : 0, 0, 0x8b, host_reg(n->has_modrm ? n->rm : n->opcode & 7), at);
}

static void pop(Tr *t, const Insn *n, bool flags_live)
{
    if (insn_is_mem(n)) {
        Insn popped = *n;
        if (n->base == ESP)
            popped.disp += n->opsize;   /* the address is computed with ESP already popped */
        emit_helper(t, &popped, insn_helper(n->row));
        return;
    }
    Access a = stack_access(t, n, R12, 0, 1, flags_live);
    a.body = pop_body;
    emit_access(t, a);
}

static void leave_body(Tr *t, const Insn *n, Mem at)
{
    load_r10_body(t, n, at);
    emit_mem(&t->c, t->mode & MODE_SS32 ? 0 : 0x66, 0, 0x8d, R12, mem_base(RBP, n->opsize));
    emit_reg(&t->c, n->opsize == 2 ? 0x66 : 0, 0, 0x8b, RBP, R10);
}

static void leave(Tr *t, const Insn *n, bool flags_live)
{
    Access a = stack_access(t, n, RBP, 0, 1, flags_live);
    a.body = leave_body;
    emit_access(t, a);
}

/* ---- transfers ---- */

static u32 jump_target(const Insn *n)
{
    u32 eip = n->eip + n->len + n->imm;
    return n->opsize == 2 ? eip & 0xffff : eip;
}

static void jump(Tr *t, const Insn *n)
{
    u32 eip = jump_target(n);
    if (eip > t->cs_limit)
        emit_helper(t, n, helper_gp);
    else
        emit_exit(t, n, eip);
}

static void call(Tr *t, const Insn *n, bool flags_live)
{
    u32 eip = jump_target(n);
    if (eip > t->cs_limit) {
        if (t->parked)
            emit_unpark(t);
        t->parked = false;
        emit_helper(t, n, helper_gp);
        return;
    }
    Access a = stack_access(t, n, R12, -n->opsize, 2, flags_live);
    a.body = push_return_body;
    a.next.eip = eip;
    emit_access(t, a);
    if (t->parked)
        emit_unpark(t);
    t->parked = false;
    emit_call_exit(t, n, eip);
}

/* Jumps to or calls the EIP in r10, flags parked, if the jump cache knows it: else goes to the dispatcher. */
static void to_r10(Tr *t, bool call)
{
    Code *c = &t->c;
    u8 *miss;
    assert(t->parked);
    t->parked = false;
    if (!t->b->unlinked) {
        emit_look_up(c);
        miss = emit_jcc(c, CC_NE);
        emit_unpark(t);
        emit_mem(c, 0, 0, 0xff, call ? 2 : 4, mem_base(R9, offsetof(JumpCacheEntry, code)));
        if (call)
            emit_return_site(t, &t->insn[t->count - 1]);
        emit_here32(c, miss);
    }
    emit_unpark(t);
    emit_store32(c, CPU_FIELD(s.eip), R10);
    emit_jmp_to(c, t->cpu->blocks->thunk.exit);
}

/* The target in r10 must lie in the code segment, or the transfer itself faults. popped: what ESP has moved by.
 * Where that is to be looked at, the flags are parked afterwards. */
static void check_target(Tr *t, const Insn *n, int popped)
{
    Code *c = &t->c;
    if (t->cs_limit >= (n->opsize == 2 ? 0xffffu : 0xffffffffu))
        return;
    if (!t->parked)
        emit_park(t);
    t->parked = true;
    emit_reg(c, 0, 0, 0x81, 7, R10);                    /* cmp r10d, limit */
    emit32(c, t->cs_limit);
    u8 *inside = emit_jcc(c, CC_BE);
    emit_unpark(t);
    if (popped)
        move_esp(t, -popped);
    emit_helper(t, n, helper_gp);
    emit_here32(c, inside);
}

static void call_indirect(Tr *t, const Insn *n, bool flags_live)
{
    operand_to_r10(t, n, flags_live);
    check_target(t, n, 0);
    Access a = stack_access(t, n, R12, -n->opsize, 2, flags_live);
    a.body = push_return_body;
    a.next.in_r10 = true;
    emit_access(t, a);
    to_r10(t, n->eip + n->len <= t->cs_limit);
}

static int ret_bytes(const Insn *n) { return n->opsize + (n->row->a == Iw ? (int)n->imm : 0); }

static void ret_body(Tr *t, const Insn *n, Mem at)
{
    load_r10_body(t, n, at);
    move_esp(t, ret_bytes(n));
}

static void ret(Tr *t, const Insn *n, bool flags_live)
{
    Access a = stack_access(t, n, R12, 0, 1, flags_live);
    a.body = ret_body;
    emit_access(t, a);
    check_target(t, n, ret_bytes(n));
    if (t->parked)
        emit_unpark(t);
    t->parked = false;
    if (t->b->unlinked) {
        emit_store32(&t->c, CPU_FIELD(s.eip), R10);
        emit_jmp_to(&t->c, t->cpu->blocks->thunk.exit);
    } else {
        emit8(&t->c, 0xc3);
    }
}

/* LOOPcc and JCXZ: jrcxz keeps the flags. With 16-bit addresses CX counts, and RCX waits in r9 while it is
 * tested. */
static void loop(Tr *t, const Insn *n)
{
    Code *c = &t->c;
    bool jcxz = n->opcode == 0xe3;
    u8 *zero, *other = NULL;
    if (!jcxz)
        emit_mem(c, n->addr32 ? 0 : 0x66, 0, 0x8d, RCX, mem_base(RCX, -1));
    if (!n->addr32) {
        emit_mov64(c, R9, RCX);
        emit_reg(c, 0, 0, 0x0fb7, RCX, RCX);
    }
    zero = emit_short(c, OP_JRCXZ);
    if (!n->addr32)
        emit_mov64(c, RCX, R9);
    if (n->opcode == 0xe0 || n->opcode == 0xe1)
        other = emit_short(c, OP_JCC8 | (n->opcode == 0xe0 ? CC_E : CC_NE));
    emit_exit(t, n, jcxz ? n->eip + n->len : jump_target(n));
    emit_here8(c, zero);
    if (!n->addr32)
        emit_mov64(c, RCX, R9);
    if (other)
        emit_here8(c, other);
    emit_exit(t, n, jcxz ? jump_target(n) : n->eip + n->len);
}

/* ---- the rest ---- */

void emit_helper(Tr *t, const Insn *n, X86Helper *fn)
{
    Code *c = &t->c;
    u64 imm = n->imm;
    if (n->row && insn_is_mem(n)) {
        if (n->base == NO_REG && n->index == NO_REG)
            emit_mov_imm32(c, R8, n->addr32 ? n->disp : n->disp & 0xffff);
        else
            emit_lea32(c, R8, insn_ea(n));
        if (!n->addr32)
            emit_reg(c, 0, 0, 0x0fb7, R8, R8);
    } else {
        emit_mov_imm32(c, R8, 0);
    }
    if (n->row && n->row->a == Ap)
        imm |= (u64)n->imm2 << 32;
    else if (n->row && n->map == MAP_1 && n->opcode == 0xc8)
        imm |= (u64)n->imm2 << 16;
    emit_store_imm32(c, CPU_FIELD(s.eip), n->eip);
    emit_mov_imm64(c, R11, (u64)(uintptr_t)fn);
    emit_mov_imm32(c, R10, insn_desc(n));
    emit_mov_imm64(c, R9, imm);
    emit_call_to(c, t->cpu->blocks->thunk.helper);
}

static void lea(Tr *t, const Insn *n)
{
    Code *c = &t->c;
    unsigned to = host_reg(n->reg), prefix = n->opsize == 2 ? 0x66 : 0;
    if (n->base == NO_REG && n->index == NO_REG) {
        emit_mov_imm32(c, R8, n->addr32 ? n->disp : n->disp & 0xffff);
        emit_reg(c, prefix, 0, 0x8b, to, R8);
    } else if (n->addr32) {
        emit_mem(c, prefix, 0, 0x8d, to, insn_ea(n));
    } else {
        emit_lea32(c, R8, insn_ea(n));
        emit_reg(c, 0, 0, 0x0fb7, R8, R8);
        emit_reg(c, prefix, 0, 0x8b, to, R8);
    }
}

static void moffs_body(Tr *t, const Insn *n, Mem at)
{
    bool wide = n->opcode & 1;
    emit_mem(&t->c, wide && n->opsize == 2 ? 0x66 : 0, 0, (n->opcode & 2 ? 0x88u : 0x8au) | wide, RAX, at);
}

static void moffs(Tr *t, const Insn *n, bool flags_live)
{
    Access a = operand_access(n, flags_live);
    a.ea = mem_base(NO_REG, (s32)n->disp);
    a.body = moffs_body;
    emit_access(t, a);
}

static void xlat_body(Tr *t, const Insn *n, Mem at)
{
    (void)n;
    emit_mem(&t->c, 0, 0, 0x8a, RAX, at);
}

static void xlat(Tr *t, const Insn *n, bool flags_live)
{
    emit_access(t, (Access){ .n = n, .xlat = true, .wrap16 = !n->addr32, .seg = n->seg, .size = 1, .kind = 1,
                             .flags_live = flags_live, .body = xlat_body });
}

/* Rows that neither look at flags nor change them and can't fault on the host: flags may stay parked around
 * them. */
static bool keeps_out_of_flags(const Insn *n)
{
    return n->row && !n->row->read && !n->row->written && !n->row->undefined && !(n->row->props & P_HF);
}

bool insn_in_run(const Insn *n)
{
    if (!keeps_out_of_flags(n))
        return false;
    switch (n->row->action) {
    case A_COPY: case A_NOP: case A_LEA: case A_MOFFS: case A_XLAT: case A_PUSH: case A_LEAVE: return true;
    case A_POP: return !insn_is_mem(n);
    case A_STRING: return !n->rep;
    default: return false;
    }
}

bool insn_ends_run(const Insn *n)
{
    return keeps_out_of_flags(n) && (n->row->action == A_RET || n->row->action == A_CALL ||
                                     n->row->action == A_CALLI || n->row->action == A_JMPI);
}

void translate_insn(Tr *t, const Insn *n, u16 live_after)
{
    if (!n->row) {
        emit_x87_pointers(t);
        emit_helper(t, n, t->raise);
        return;
    }
    if (!x87_may_wait(n))
        emit_x87_pointers(t);
    const InsnRow *row = n->row;
    bool flags_live = row->read || live_after & ~(row->props & P_COUNT ? 0 : row->written | row->undefined);
    switch ((Action)row->action) {
    case A_BT:
        if (insn_is_mem(n)) {
            emit_helper(t, n, insn_helper(row));
            break;
        }
        /* fallthrough */
    case A_COPY:
        if (insn_is_mem(n))
            emit_access(t, operand_access(n, flags_live));
        else if (!emit_patched(t, n))
            emit_copy(t, n, NULL);
        x87_note(t, n);
        break;
    case A_HELPER: emit_helper(t, n, insn_helper(row)); break;
    case A_NOP: break;
    case A_LEA: lea(t, n); break;
    case A_INCDEC:
        emit_reg(&t->c, n->opsize == 2 ? 0x66 : 0, 0, 0xff, n->opcode >> 3 & 1, host_reg(n->opcode & 7));
        break;
    case A_MOFFS: moffs(t, n, flags_live); break;
    case A_XLAT: xlat(t, n, flags_live); break;
    case A_PUSH: push(t, n, flags_live); break;
    case A_POP: pop(t, n, flags_live); break;
    case A_LEAVE: leave(t, n, flags_live); break;
    case A_JCC: emit_jcc_exit(t, n, n->opcode & 15, jump_target(n)); break;
    case A_JMP: jump(t, n); break;
    case A_JMPI:
        operand_to_r10(t, n, flags_live);
        check_target(t, n, 0);
        to_r10(t, false);
        break;
    case A_CALL: call(t, n, flags_live); break;
    case A_CALLI: call_indirect(t, n, flags_live); break;
    case A_RET: ret(t, n, flags_live); break;
    case A_LOOP: loop(t, n); break;
    case A_STRING: emit_string(t, n, flags_live); break;
    case A_FLAG: emit_flag_insn(t, n, live_after != 0 || n->opcode == 0xfb); break;
    }
}
