/*
 * Host instructions, byte by byte. No checks here: translate.c makes sure that the worst block fits before it
 * begins.
 * Source: Intel SDM volume 2, chapter 2.
 */
#ifndef X86_EMIT_H
#define X86_EMIT_H

#include "insn.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A,
       CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

typedef struct { u8 *p; } Code;

/* Memory operand of a host instruction. NO_REG: without base, without index. */
typedef struct {
    u8 base, index, scale;
    s32 disp;
} Mem;
static inline Mem mem_base(unsigned base, s32 disp) { return (Mem){ (u8)base, NO_REG, 0, disp }; }
static inline Mem mem_cpu(size_t offset) { return mem_base(R15, (s32)offset - CPU_BIAS); }
#define CPU_FIELD(field) mem_cpu(offsetof(Cpu, field))

static inline void emit8(Code *c, u32 v) { *c->p++ = (u8)v; }
static inline void emit16(Code *c, u32 v) { store16(c->p, (u16)v); c->p += 2; }
static inline void emit32(Code *c, u32 v) { store32(c->p, v); c->p += 4; }
static inline void emit64(Code *c, u64 v) { store64(c->p, v); c->p += 8; }

enum { REX_W = 0x48, REX_R = 0x44, REX_X = 0x42, REX_B = 0x41 };

static inline unsigned rex_of_mem(unsigned reg, Mem m)
{
    unsigned rex = reg & 8 ? REX_R : 0;
    if (m.base != NO_REG && m.base & 8)
        rex |= REX_B;
    if (m.index != NO_REG && m.index & 8)
        rex |= REX_X;
    return rex;
}

void emit_modrm_mem(Code *c, unsigned reg, Mem m);

/* Opcode of one to three bytes, most significant first (0x0fb6). */
static inline void emit_opcode(Code *c, u32 op)
{
    if (op > 0xffff)
        emit8(c, op >> 16);
    if (op > 0xff)
        emit8(c, op >> 8);
    emit8(c, op);
}

/* op reg, [m]; rex: REX_W or 0. prefix: 66, F2, F3 or 0. */
static inline void emit_mem(Code *c, unsigned prefix, unsigned rex, u32 op, unsigned reg, Mem m)
{
    if (prefix)
        emit8(c, prefix);
    rex |= rex_of_mem(reg, m);
    if (rex)
        emit8(c, rex);
    emit_opcode(c, op);
    emit_modrm_mem(c, reg, m);
}

static inline void emit_reg(Code *c, unsigned prefix, unsigned rex, u32 op, unsigned reg, unsigned rm)
{
    if (prefix)
        emit8(c, prefix);
    rex |= (reg & 8 ? REX_R : 0) | (rm & 8 ? REX_B : 0);
    if (rex)
        emit8(c, rex);
    emit_opcode(c, op);
    emit8(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void emit_mov32(Code *c, unsigned to, unsigned from) { emit_reg(c, 0, 0, 0x8b, to, from); }
static inline void emit_mov64(Code *c, unsigned to, unsigned from) { emit_reg(c, 0, REX_W, 0x8b, to, from); }
static inline void emit_load32(Code *c, unsigned to, Mem m) { emit_mem(c, 0, 0, 0x8b, to, m); }
static inline void emit_load64(Code *c, unsigned to, Mem m) { emit_mem(c, 0, REX_W, 0x8b, to, m); }
static inline void emit_store32(Code *c, Mem m, unsigned from) { emit_mem(c, 0, 0, 0x89, from, m); }
static inline void emit_store64(Code *c, Mem m, unsigned from) { emit_mem(c, 0, REX_W, 0x89, from, m); }
static inline void emit_lea32(Code *c, unsigned to, Mem m) { emit_mem(c, 0, 0, 0x8d, to, m); }
static inline void emit_lea64(Code *c, unsigned to, Mem m) { emit_mem(c, 0, REX_W, 0x8d, to, m); }
static inline void emit_store_imm32(Code *c, Mem m, u32 imm)
{
    emit_mem(c, 0, 0, 0xc7, 0, m);
    emit32(c, imm);
}
void emit_mov_imm32(Code *c, unsigned reg, u32 imm);
void emit_mov_imm64(Code *c, unsigned reg, u64 imm);

/* Forward references: the place of a rel32 or rel8 that emit_here*() fills in. */
static inline u8 *emit_jcc(Code *c, unsigned cc)
{
    emit8(c, 0x0f);
    emit8(c, 0x80 | cc);
    emit32(c, 0);
    return c->p - 4;
}
static inline u8 *emit_jmp(Code *c)
{
    emit8(c, 0xe9);
    emit32(c, 0);
    return c->p - 4;
}
static inline u8 *emit_short(Code *c, u32 op)
{
    emit8(c, op);
    emit8(c, 0);
    return c->p - 1;
}
enum { OP_JRCXZ = 0xe3, OP_JMP8 = 0xeb, OP_JCC8 = 0x70 };
static inline void patch32(u8 *at, const u8 *to) { store32(at, (u32)(to - (at + 4))); }
static inline void emit_here32(Code *c, u8 *at) { patch32(at, c->p); }
void emit_here8(Code *c, u8 *at);
static inline void emit_jmp_to(Code *c, const u8 *to) { patch32(emit_jmp(c), to); }
static inline void emit_jcc_to(Code *c, unsigned cc, const u8 *to) { patch32(emit_jcc(c, cc), to); }
static inline void emit_jcc8_to(Code *c, unsigned cc, const u8 *to)     /* backwards */
{
    emit8(c, OP_JCC8 | cc);
    emit8(c, (u32)(to - (c->p + 1)));
}
static inline void emit_call_to(Code *c, const u8 *to)
{
    emit8(c, 0xe8);
    emit32(c, (u32)(to - (c->p + 4)));
}

#endif
