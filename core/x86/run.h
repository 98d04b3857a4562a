/* What thunks call in run.c. */
#ifndef X86_RUN_H
#define X86_RUN_H

#include "x86.h"

/* The access word: what the slow path of a memory operand tells C. */
enum {
    ACCESS_SIZE = 0 /* 10 bits */,
    ACCESS_KIND = 16 /* 2 bits */,
    ACCESS_SEG = 20 /* 3 bits */,
    ACCESS_ALIGNED = 24
};

u8 *HELPER run_prepare(Cpu *cpu, u32 ea, u32 access);
u32 HELPER run_commit(Cpu *cpu);
void HELPER run_host_fault(Cpu *cpu);
/* After a helper that ended its block: the code to go on with, or NULL: the dispatcher knows. */
const u8 *HELPER run_next(Cpu *cpu, u64 rsp);  /* rsp: scratch[SCRATCH_RSP] is this, or without calls */
void *run_fault_handler(void *opaque, void *host_pc, int vector);     /* HostFaultFn; opaque: the Cpu */

#endif
