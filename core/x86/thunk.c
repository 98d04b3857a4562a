/*
 * Thunks: host code between translated code and C, made once at the start of the code cache.
 *
 *   enter       C -> translated code: ms_abi (cpu, code)
 *   helper      r8d ea, r9 imm, r10d desc, r11 function; s.eip is set
 *   prepare     r8d ea, r9d access word of run.c -> r9 host address; keeps r10
 *   commit      s.eip is where to go on if code died; else returns
 *   link        r10 Exit: a direct jump that isn't linked
 *   exit        s.eip is set
 *   jump        r10 EIP: an indirect jump by the jump cache; got here by a return that was predicted wrong
 *   host_fault  the host's fault handler goes on here; s.eip is set, block cache knows the vector
 *
 * Where the host's C convention doesn't keep xmm8-15 (everywhere but on Windows) they travel through s.fx,
 * where they are XMM0-7.
 */
#include "run.h"
#include "translate.h"

static const u8 saved[] = { RBX, RBP, RSI, RDI, R12, R13, R14, R15 };
enum { FRAME = 40 }; /* shadow space, and at cpu_run()'s call alignment */

static void xmm_through_memory(Code *c, bool store)
{
#ifdef _WIN32
    (void)c;
    (void)store;
#else
    for (unsigned i = 0; i < 8; i++)    /* movups */
        emit_mem(c, 0, 0, store ? 0x0f11 : 0x0f10, 8 + i, mem_cpu(offsetof(Cpu, s.fx) + 160 + 16 * i));
#endif
}

/* Guest registers and OSZAPC to the state. Clobbers rax and rcx. */
static void spill(Code *c)
{
    for (unsigned i = 0; i < 8; i++)
        emit_store32(c, mem_cpu(offsetof(Cpu, s.gpr) + 4 * i), host_reg(i));
    emit8(c, 0x9f);                                     /* lahf */
    emit_reg(c, 0, 0, 0x0f90, 0, RAX);                  /* seto al */
    emit_reg(c, 0, 0, 0x0fb6, RCX, 4);                  /* movzx ecx, ah */
    emit_reg(c, 0, 0, 0x0fb6, RAX, RAX);                /* movzx eax, al */
    emit_reg(c, 0, 0, 0xc1, 4, RAX);                    /* shl eax, 11 */
    emit8(c, 11);
    emit_reg(c, 0, 0, 0x09, RCX, RAX);                  /* or eax, ecx */
    emit8(c, 0x25);                                     /* and eax, OSZAPC */
    emit32(c, FLAGS_ARITH);
    emit_load32(c, RCX, CPU_FIELD(s.eflags));
    emit_reg(c, 0, 0, 0x81, 4, RCX);                    /* and ecx, ~OSZAPC */
    emit32(c, ~(u32)FLAGS_ARITH);
    emit_reg(c, 0, 0, 0x09, RCX, RAX);
    emit_store32(c, CPU_FIELD(s.eflags), RAX);
}

static void reload(Code *c)
{
    emit_load32(c, RCX, CPU_FIELD(s.eflags));
    emit_mov32(c, RAX, RCX);
    emit_reg(c, 0, 0, 0xc1, 5, RCX);                    /* shr ecx, 11 */
    emit8(c, 11);
    emit_reg(c, 0, 0, 0x83, 4, RCX);                    /* and ecx, 1 */
    emit8(c, 1);
    emit_reg(c, 0, 0, 0x8a, 4, RAX);                    /* mov ah, al */
    emit_reg(c, 0, 0, 0x8a, RAX, RCX);                  /* mov al, cl */
    emit8(c, 0x04);                                     /* add al, 0x7f: OF */
    emit8(c, 0x7f);
    emit8(c, 0x9e);                                     /* sahf */
    for (unsigned i = 0; i < 8; i++)
        emit_load32(c, host_reg(i), mem_cpu(offsetof(Cpu, s.gpr) + 4 * i));
}

static void adjust_rsp(Code *c, int by)
{
    emit_reg(c, 0, REX_W, 0x83, by < 0 ? 5 : 0, RSP);
    emit8(c, (u32)(by < 0 ? -by : by));
}

/* Calls the function in r11 with the Cpu and what rdx and r8 hold. The guest's calls are on the stack, so its
 * alignment varies. */
static void call_c(Code *c)
{
    emit_mov64(c, RBX, RSP);
    emit_reg(c, 0, REX_W, 0x83, 4, RSP);                /* and rsp, -16 */
    emit8(c, 0xf0);
    adjust_rsp(c, -32);
    emit_lea64(c, RCX, mem_base(R15, -CPU_BIAS));
    emit_reg(c, 0, 0, 0xff, 2, R11);
    emit_mov64(c, RSP, RBX);
}

/* The state is complete: back to C. */
static u8 *make_leave(Code *c)
{
    u8 *at = c->p;
    emit_load64(c, RSP, CPU_FIELD(host_rsp));
    adjust_rsp(c, FRAME);
    for (unsigned i = ARRAY_LEN(saved); i-- > 0; ) {
        if (saved[i] & 8)
            emit8(c, REX_B);
        emit8(c, 0x58 | (saved[i] & 7));
    }
    emit8(c, 0xc3);
    return at;
}

/* Jump cache entry of r10 to r9, keeping the flags; on a miss they are still parked. */
static u8 *look_up(Code *c)
{
    park_flags(c);
    emit_look_up(c);
    u8 *miss = emit_jcc(c, CC_NE);
    unpark_flags(c);
    return miss;
}

static void leave_to_r10(Code *c, const u8 *leave)
{
    unpark_flags(c);
    emit_store32(c, CPU_FIELD(s.eip), R10);
    spill(c);
    xmm_through_memory(c, true);
    emit_jmp_to(c, leave);
}

static void make_enter(Code *c, BlockCache *bc, const u8 *leave)
{
    bc->thunk.enter = (void (HELPER *)(Cpu *, const u8 *))(uintptr_t)c->p;
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++) {
        if (saved[i] & 8)
            emit8(c, REX_B);
        emit8(c, 0x50 | (saved[i] & 7));
    }
    adjust_rsp(c, -FRAME);              /* 8 pushes and the return address: now aligned to 16 */
    emit_lea64(c, R15, mem_base(RCX, CPU_BIAS));
    emit_store64(c, CPU_FIELD(host_rsp), RSP);
    emit_load64(c, R14, CPU_FIELD(tlb));
    emit_mov64(c, R11, RDX);
    xmm_through_memory(c, false);
    reload(c);
    emit_reg(c, 0, 0, 0xff, 2, R11);                    /* call r11 */
    /* Here the guest returns from what it called before it was entered; the bottom stays on the stack. */
    const u8 *bottom = c->p;
    u8 *miss = look_up(c);
    emit_mem(c, 0, 0, 0xff, 2, mem_base(R9, offsetof(JumpCacheEntry, code)));
    emit_jmp_to(c, bottom);
    emit_here32(c, miss);
    leave_to_r10(c, leave);
    bc->thunk.jump = c->p;
    miss = look_up(c);
    emit_mem(c, 0, 0, 0xff, 4, mem_base(R9, offsetof(JumpCacheEntry, code)));
    emit_here32(c, miss);
    leave_to_r10(c, leave);
}

static void make_helper(Code *c, BlockCache *bc, const u8 *leave)
{
    bc->thunk.helper = c->p;
    spill(c);
    xmm_through_memory(c, true);
    emit_mov32(c, RDX, R8);
    emit_mov32(c, R8, R10);
    call_c(c);
    emit_reg(c, 0, 0, 0x85, RAX, RAX);
    u8 *left = emit_jcc(c, CC_NE);
    xmm_through_memory(c, false);
    reload(c);
    emit8(c, 0xc3);

    emit_here32(c, left);               /* on to another block, if that is soon found */
    emit_lea64(c, RDX, mem_base(RSP, 8));       /* the block that called is left */
    emit_mov_imm64(c, R11, (u64)(uintptr_t)run_next);
    call_c(c);
    emit_reg(c, 0, REX_W, 0x85, RAX, RAX);
    emit_jcc_to(c, CC_E, leave);
    emit_load64(c, RSP, CPU_FIELD(scratch[SCRATCH_RSP]));
    emit_mov64(c, R11, RAX);
    emit_load64(c, R14, CPU_FIELD(tlb));
    xmm_through_memory(c, false);
    reload(c);
    emit_reg(c, 0, 0, 0xff, 4, R11);
}

static void make_access(Code *c, BlockCache *bc, const u8 *leave)
{
    bc->thunk.prepare = c->p;
    emit_store64(c, CPU_FIELD(scratch[SCRATCH_R10]), R10);
    spill(c);
    xmm_through_memory(c, true);
    emit_mov32(c, RDX, R8);
    emit_mov32(c, R8, R9);
    emit_mov_imm64(c, R11, (u64)(uintptr_t)run_prepare);
    call_c(c);
    emit_mov64(c, R9, RAX);
    xmm_through_memory(c, false);
    reload(c);
    emit_load64(c, R10, CPU_FIELD(scratch[SCRATCH_R10]));
    emit8(c, 0xc3);

    bc->thunk.commit = c->p;
    emit_store64(c, CPU_FIELD(scratch[SCRATCH_R10]), R10);
    spill(c);
    xmm_through_memory(c, true);
    emit_mov_imm64(c, R11, (u64)(uintptr_t)run_commit);
    call_c(c);
    emit_reg(c, 0, 0, 0x85, RAX, RAX);
    emit_jcc_to(c, CC_NE, leave);
    xmm_through_memory(c, false);
    reload(c);
    emit_load64(c, R10, CPU_FIELD(scratch[SCRATCH_R10]));
    emit8(c, 0xc3);
}

static void make_exits(Code *c, BlockCache *bc, const u8 *leave)
{
    bc->thunk.link = c->p;
    emit_store64(c, CPU_FIELD(scratch[SCRATCH_LINK]), R10);
    spill(c);
    emit_load32(c, RAX, mem_base(R10, offsetof(Exit, eip)));
    emit_store32(c, CPU_FIELD(s.eip), RAX);
    xmm_through_memory(c, true);
    emit_jmp_to(c, leave);

    bc->thunk.exit = c->p;
    spill(c);
    xmm_through_memory(c, true);
    emit_jmp_to(c, leave);

    bc->thunk.host_fault = c->p;
    spill(c);
    xmm_through_memory(c, true);
    emit_mov_imm64(c, R11, (u64)(uintptr_t)run_host_fault);
    call_c(c);
    emit_jmp_to(c, leave);
}

void thunks_make(Cpu *cpu)
{
    BlockCache *bc = cpu->blocks;
    Code c = { bc->code_next };
    const u8 *leave = make_leave(&c);
    make_enter(&c, bc, leave);
    make_helper(&c, bc, leave);
    make_access(&c, bc, leave);
    make_exits(&c, bc, leave);
    string_thunks(&c, &bc->thunk);
    bc->code_next = c.p;
}
