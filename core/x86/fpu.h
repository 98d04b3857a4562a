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

X86Helper helper_fldenv, helper_fnstenv, helper_frstor, helper_fnsave, helper_fxsave, helper_fxrstor,
    helper_maskmov;

#endif
