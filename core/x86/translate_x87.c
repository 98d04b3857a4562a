/*
 * Pointers to the last x87 instruction: what FNSTENV, FNSAVE and FXSAVE show as FIP, FDP and FOP.
 *
 * The host's own can't be used: they point into translated code, and many processors keep the data pointer, or
 * all three, only for unmasked exceptions. Of a run of x87 instructions only the last one's EIP is stored, where
 * the run ends; the slow path of an access and the table of host faults know what is waiting before them. The
 * operand's offset is stored with each access, since its registers may change.
 * Source: Intel SDM volume 1, 8.1.8 and 8.1.9: control instructions leave the pointers alone, those without
 * memory operand leave FDP alone.
 */
#include "fpu.h"
#include "translate.h"

static bool is_control(const Insn *n)
{
    if (n->row->action != A_COPY)
        return true;
    switch (n->opcode) {
    case 0xd9: return n->mod != 3 && n->reg >= 4;                               /* FLDCW, FNSTCW */
    case 0xdb: return n->mod == 3 && n->reg == 4;                               /* FNCLEX, FNINIT */
    case 0xdd: return n->mod != 3 && n->reg >= 4;                               /* FNSTSW */
    case 0xdf: return n->mod == 3 && n->reg == 4;                               /* FNSTSW AX */
    default: return false;
    }
}

static Mem fx_word(unsigned offset) { return mem_cpu(offsetof(Cpu, s.fx) + offset); }

static void store_data_offset(Tr *t, const Insn *n)
{
    Code *c = &t->c;
    if (n->base == NO_REG && n->index == NO_REG) {
        emit_store_imm32(c, fx_word(FX_FDP), n->addr32 ? n->disp : n->disp & 0xffff);
        return;
    }
    emit_lea32(c, R8, insn_ea(n));
    if (!n->addr32)
        emit_reg(c, 0, 0, 0x0fb7, R8, R8);
    emit_store32(c, fx_word(FX_FDP), R8);
}

static void start_anew(Tr *t)
{
    for (unsigned at = FX_FIP; at < FX_FIP + 16; at += 4)
        emit_store_imm32(&t->c, fx_word(at), 0);
    emit_store_imm32(&t->c, CPU_FIELD(x87_what), X87_INIT);
    emit_store_imm32(&t->c, CPU_FIELD(x87_seg), 0);
    t->x87_what = 0;
}

/* before: what waited so far, which may hold the last memory operand's segment. */
static u32 what_of(const Insn *n, u32 before)
{
    u32 seg = insn_is_mem(n) ? (n->seg + 1u) << X87_SEG_SHIFT : before & 7u << X87_SEG_SHIFT;
    return X87_RAN | seg | (n->opcode & 7u) << 8 | (u32)n->mod << 6 | (u32)n->reg << 3 | n->rm;
}

void x87_note(Tr *t, const Insn *n)
{
    if (!(n->row->props & P_FPU))
        return;
    if (n->opcode == 0xdb && n->mod == 3 && n->reg == 4 && n->rm == 3)
        start_anew(t);
    if (is_control(n))
        return;
    t->x87_eip = n->eip;
    t->x87_what = what_of(n, t->x87_what);
    if (insn_is_mem(n))
        store_data_offset(t, n);
}

void emit_x87_done(Tr *t, const Insn *n)
{
    if (!(n->row->props & P_FPU) || is_control(n))
        return;
    store_data_offset(t, n);
    emit_x87_values(&t->c, n->eip, what_of(n, 0));
}

void emit_x87_values(Code *c, u32 eip, u32 what)
{
    if (!what)
        return;
    emit_store_imm32(c, fx_word(FX_FIP), eip);
    emit_store_imm32(c, CPU_FIELD(x87_what), what);
    if (what >> X87_SEG_SHIFT & 7)      /* else the segment of an earlier operand still counts */
        emit_store_imm32(c, CPU_FIELD(x87_seg), what >> X87_SEG_SHIFT & 7);
}

void emit_x87_pointers(Tr *t)
{
    emit_x87_values(&t->c, t->x87_eip, t->x87_what);
    t->x87_what = 0;
}

bool x87_may_wait(const Insn *n)
{
    if (!n->row)
        return false;
    switch (n->row->action) {
    case A_COPY: case A_NOP: case A_LEA: case A_INCDEC: case A_MOFFS: case A_XLAT: case A_PUSH: case A_LEAVE:
        return true;
    case A_BT: case A_POP: return !insn_is_mem(n);
    default: return false;
    }
}
