/* The parts of the host encoder that are not worth inlining. See emit.h. */
#include "emit.h"

#include <assert.h>

void emit_modrm_mem(Code *c, unsigned reg, Mem m)
{
    unsigned r = (reg & 7) << 3;
    if (m.base == NO_REG) {             /* disp32 alone would be RIP-relative: the SIB form is absolute */
        emit8(c, r | 4);
        emit8(c, (u32)m.scale << 6 | (m.index == NO_REG ? 4u : m.index & 7u) << 3 | 5);
        emit32(c, (u32)m.disp);
        return;
    }
    unsigned mod = m.disp == 0 && (m.base & 7) != RBP ? 0 : m.disp == (s8)m.disp ? 0x40 : 0x80;
    if (m.index != NO_REG || (m.base & 7) == RSP) {
        emit8(c, mod | r | 4);
        emit8(c, (u32)m.scale << 6 | (m.index == NO_REG ? 4u : m.index & 7u) << 3 | (m.base & 7));
    } else {
        emit8(c, mod | r | (m.base & 7));
    }
    if (mod == 0x40)
        emit8(c, (u32)m.disp);
    else if (mod == 0x80)
        emit32(c, (u32)m.disp);
}

void emit_mov_imm32(Code *c, unsigned reg, u32 imm)
{
    if (reg & 8)
        emit8(c, REX_B);
    emit8(c, 0xb8 | (reg & 7));
    emit32(c, imm);
}

void emit_mov_imm64(Code *c, unsigned reg, u64 imm)
{
    if (imm <= 0xffffffff) {
        emit_mov_imm32(c, reg, (u32)imm);
        return;
    }
    emit8(c, REX_W | (reg & 8 ? REX_B : 0));
    emit8(c, 0xb8 | (reg & 7));
    emit64(c, imm);
}

void emit_here8(Code *c, u8 *at)
{
    s64 distance = c->p - (at + 1);
    assert(distance >= -128 && distance <= 127);
    *at = (u8)distance;
}
