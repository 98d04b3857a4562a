/*
 * The guest's x87, MMX and SSE state, which lives in the host's registers while the guest runs: coming and
 * going, and the instructions that store and load it whole. See fpu.c.
 */
#ifndef X86_FPU_H
#define X86_FPU_H

#include "x86.h"

typedef struct { u8 bytes[512]; } __attribute__((aligned(16))) FxImage;

/* cpu_run()'s frame: what the host's C code had. */
void fpu_load(Cpu *cpu, FxImage *host);         /* keeps the host's state, then s.fx -> registers */
void fpu_store(Cpu *cpu, const FxImage *host);  /* registers -> s.fx, then the host's state again */

/*
 * Pointers to the last x87 instruction (FIP, FDP and the rest) lie in s.fx, at their FXSAVE places. Translated
 * code stores the operand's offset with each access, the instruction's EIP and x87_what where a run of x87
 * instructions ends; the opcode and the selectors follow before a segment register changes or the state is
 * looked at.
 */
enum { FX_FOP = 6, FX_FIP = 8, FX_FCS = 12, FX_FDP = 16, FX_FDS = 20 };
enum {
    X87_FOP = 0x7ff,            /* opcode: low 3 bits of the first byte, modrm */
    X87_SEG_SHIFT = 16,         /* segment of the memory operand + 1, 0: none */
    X87_RAN = 1 << 30,
    X87_INIT = 1u << 31,        /* FNINIT: all zero */
};
void fpu_settle(Cpu *cpu);
static inline void x87_settle(Cpu *cpu)
{
    if (cpu->x87_what)
        fpu_settle(cpu);
}

X86Helper helper_fldenv, helper_fnstenv, helper_frstor, helper_fnsave, helper_fxsave, helper_fxrstor,
    helper_maskmov;

#endif
