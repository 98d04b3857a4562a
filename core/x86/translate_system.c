/*
 * Instructions on system flags in line: PUSHF, POPF, CLI, STI, CLD, STD.
 *
 * Privilege is looked at when they run (a block's key does not hold it): level 0, real mode or nothing. What
 * changes the mode (TF, DF, AC) or lets a waiting interrupt in goes to the helper, which ends the block. DF is
 * part of the mode, so CLD and STD are nothing or the helper.
 * Source: Intel SDM vol. 2 (each instruction).
 */
#include "helpers.h"
#include "translate.h"

#include <assert.h>

enum { EFLAGS_IF_BYTE = 1, IF_IN_BYTE = FLAG_IF >> 8 };

static ColdHelper *cold_helper(Tr *t, const Insn *n)
{
    assert(t->cold_helper_count < ARRAY_LEN(t->cold_helper));
    ColdHelper *h = &t->cold_helper[t->cold_helper_count++];
    *h = (ColdHelper){ .n = n };
    return h;
}

static void slow_if(Tr *t, ColdHelper *h, unsigned cc) { h->to_slow[h->slow_count++] = emit_jcc(&t->c, cc); }

static void byte_op(Tr *t, unsigned op, Mem m, u32 imm)
{
    emit_mem(&t->c, 0, 0, 0x80, op, m);
    emit8(&t->c, imm);
}
enum { OR = 1, AND = 4, CMP = 7 };

static void check_cpl0(Tr *t, ColdHelper *h)
{
    if (!(t->mode & MODE_PROT))
        return;
    byte_op(t, CMP, CPU_FIELD(s.cpl), 0);
    slow_if(t, h, CC_NE);
}

static void alu(Tr *t, unsigned op, unsigned reg, u32 imm)
{
    emit_reg(&t->c, 0, 0, 0x81, op, reg);
    emit32(&t->c, imm);
}

static void if_flag(Tr *t, const Insn *n, bool set, bool flags_live)
{
    ColdHelper *h = cold_helper(t, n);
    Mem flags = mem_cpu(offsetof(Cpu, s.eflags) + EFLAGS_IF_BYTE);
    h->unpark = flags_live;
    if (flags_live)
        emit_park(t);
    check_cpl0(t, h);
    if (set) {
        byte_op(t, CMP, CPU_FIELD(s.intr), 0);
        slow_if(t, h, CC_NE);
        byte_op(t, OR, flags, IF_IN_BYTE);
    } else {
        byte_op(t, AND, flags, (u8)~IF_IN_BYTE);
    }
    if (flags_live)
        emit_unpark(t);
    h->resume = t->c.p;
}

/* The image to r10, from the parked arithmetic flags (AH as LAHF makes it, OF in AL). */
static void pushf(Tr *t, const Insn *n, bool flags_live)
{
    Code *c = &t->c;
    emit_park(t);
    emit_mem(c, 0, 0, 0x0fb6, R10, CPU_FIELD(scratch[SCRATCH_FLAGS]));      /* movzx r10d, byte */
    emit_reg(c, 0, 0, 0xc1, 4, R10);                    /* shl r10d, 11 */
    emit8(c, 11);
    emit_load32(c, R8, CPU_FIELD(scratch[SCRATCH_FLAGS]));
    emit_reg(c, 0, 0, 0xc1, 5, R8);                     /* shr r8d, 8 */
    emit8(c, 8);
    alu(t, AND, R8, FLAGS_ARITH & 0xff);
    emit_reg(c, 0, 0, 0x09, R8, R10);
    emit_load32(c, R8, CPU_FIELD(s.eflags));
    alu(t, AND, R8, ~(u32)(FLAGS_ARITH | FLAG_VM | FLAG_RF));
    emit_reg(c, 0, 0, 0x09, R8, R10);
    alu(t, OR, R10, FLAG_1);
    t->parked = flags_live;
    Access a = stack_access(t, n, R12, -n->opsize, 2, false);
    a.body = push_r10_body;
    emit_access(t, a);
    if (flags_live)
        emit_unpark(t);
    t->parked = false;
}

static void popf(Tr *t, const Insn *n)
{
    Code *c = &t->c;
    ColdHelper *h = cold_helper(t, n);
    u32 mask = FLAGS_ARITH | FLAG_NT | FLAG_IOPL | FLAG_IF | (n->opsize == 4 ? FLAG_ID : 0);
    u32 same = FLAG_TF | FLAG_DF | (n->opsize == 4 ? FLAG_AC : 0);
    check_cpl0(t, h);
    byte_op(t, CMP, CPU_FIELD(s.intr), 0);
    slow_if(t, h, CC_NE);
    Access a = stack_access(t, n, R12, 0, 1, false);
    a.body = load_r10_body;
    emit_access(t, a);
    emit_load32(c, R8, CPU_FIELD(s.eflags));
    emit_mov32(c, R9, R8);
    emit_reg(c, 0, 0, 0x33, R9, R10);                   /* xor */
    emit_reg(c, 0, 0, 0xf7, 0, R9);                     /* test */
    emit32(c, same);
    slow_if(t, h, CC_NE);
    alu(t, AND, R9, mask);
    emit_reg(c, 0, 0, 0x33, R8, R9);
    alu(t, OR, R8, FLAG_1);
    emit_store32(c, CPU_FIELD(s.eflags), R8);
    move_esp(t, n->opsize);
    emit_mov64(c, R11, RAX);
    emit_mov32(c, RAX, R10);
    emit_reg(c, 0, 0, 0xc1, 4, RAX);                    /* shl eax, 8: AH */
    emit8(c, 8);
    emit_reg(c, 0, 0, 0x0fba, 4, R10);                  /* bt r10d, 11: OF */
    emit8(c, 11);
    emit_reg(c, 0, 0, 0x0f92, 0, RAX);                  /* setc al */
    emit8(c, 0x04);                                     /* add al, 0x7f */
    emit8(c, 0x7f);
    emit8(c, 0x9e);                                     /* sahf */
    emit_mov64(c, RAX, R11);
    h->resume = c->p;
}

bool flag_insn_in_line(const Tr *t, const Insn *n)
{
    if (n->opcode == 0xfc || n->opcode == 0xfd)
        return !(t->mode & MODE_DF) == (n->opcode == 0xfc);
    return !(t->mode & MODE_V86);
}

void emit_flag_insn(Tr *t, const Insn *n, bool flags_live)
{
    if (!flag_insn_in_line(t, n)) {
        emit_helper(t, n, insn_helper(n->row));
        return;
    }
    switch (n->opcode) {
    case 0xfc: case 0xfd: break;
    case 0x9c: pushf(t, n, flags_live); break;
    case 0x9d: popf(t, n); break;
    default: if_flag(t, n, n->opcode == 0xfb, flags_live); break;
    }
}

void emit_cold_helpers(Tr *t)
{
    for (unsigned i = 0; i < t->cold_helper_count; i++) {
        const ColdHelper *h = &t->cold_helper[i];
        for (unsigned k = 0; k < h->slow_count; k++)
            emit_here32(&t->c, h->to_slow[k]);
        if (h->unpark)
            emit_unpark(t);
        emit_helper(t, h->n, insn_helper(h->n->row));
        emit_jmp_to(&t->c, h->resume);
    }
}
