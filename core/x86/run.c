/*
 * cpu_run(): the dispatcher between translated code and everything that is done in C; faults of the host
 * processor; what the slow path of memory operands calls.
 *
 *   fault waiting -> deliver it;   attention -> x86_service();   else find or make the block for (EIP, mode)
 * and enter it.
 *
 * x86_raise() comes back here by longjmp from any depth: translated code keeps nothing on the stack that
 * would be missed. What it has there are the return addresses of guest calls that are host calls; going back
 * to the dispatcher forgets them, and the guest's returns then take their way by the jump cache.
 */
#include "run.h"

#include "../vm/host.h"
#include "../vm/log.h"
#include "block.h"
#include "fpu.h"
#include "helpers.h"
#include "translate.h"

u8 *HELPER run_prepare(Cpu *cpu, u32 ea, u32 access)
{
    int seg = access >> ACCESS_SEG & 7;
    if (access >> ACCESS_ALIGNED & 1 && (cpu->s.seg[seg].base + ea) & 15)
        x86_raise_error(cpu, VEC_GP, 0);
    return access_prepare(cpu, seg, ea, access & 0x3ff, access >> ACCESS_KIND & 3);
}

u32 HELPER run_commit(Cpu *cpu) { return access_commit(cpu); }

/* ---- faults of the host processor in translated code ---- */

static const FaultEntry *fault_entry(const Block *b, const u8 *pc)
{
    u32 offset = (u32)(pc - b->code);
    for (unsigned i = 0; i < b->fault_count; i++)
        if (b->faults[i].host_offset == offset)
            return &b->faults[i];
    return NULL;
}

void *run_fault_handler(void *opaque, void *host_pc, int vector)
{
    Cpu *cpu = opaque;
    BlockCache *bc = cpu->blocks;
    const u8 *pc = host_pc;
    if (pc < bc->code_first || pc >= bc->code_end)
        return NULL;
    const Block *b = blocks_at(bc, pc);
    const FaultEntry *f = b ? fault_entry(b, pc) : NULL;
    if (!f)
        return NULL;
    cpu->s.eip = f->eip;
    if (f->x87_what) {
        store32(cpu->s.fx + FX_FIP, f->x87_eip);
        cpu->x87_what = f->x87_what;
        if (f->x87_what >> X87_SEG_SHIFT & 7)
            cpu->x87_seg = f->x87_what >> X87_SEG_SHIFT & 7;
    }
    bc->fault_vector = (u32)vector;
    return bc->thunk.host_fault;
}

void HELPER run_host_fault(Cpu *cpu)
{
    u32 vector = cpu->blocks->fault_vector;
    cpu->stat[STAT_HOST_FAULTS]++;
    switch (vector) {
    case VEC_MF:
        if (!x86_fpu_error(cpu))
            __asm__ volatile("fnclex");     /* IGNNE#: the instruction goes on as if nothing waited */
        return;
    case VEC_XM: x86_raise(cpu, cpu->s.cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
    case VEC_GP: x86_raise_error(cpu, VEC_GP, 0);
    default: x86_raise(cpu, (int)vector);
    }
}

/* ---- the dispatcher ---- */

enum { CALL_STACK_BYTES = 96 << 10 };

static bool cached(const Cpu *cpu, const JumpCacheEntry *j, u32 context, u32 eip)
{
    return j->key == ((u64)context << 32 | eip) && cpu->tlb->exec[j->linear_page] == j->page;
}

/* Where the context changes the host's calls are forgotten: they belong to the old one, and a return compares
 * only EIP. */
const u8 *HELPER run_next(Cpu *cpu, u64 rsp)
{
    u32 left = cpu->blocks->context_now, context = blocks_context(cpu);
    if (__atomic_load_n(&cpu->attention, __ATOMIC_RELAXED) || cpu->mode & MODE_STEP || cpu->debug.stop ||
        log_on(LOG_EXEC | LOG_CPU))
        return NULL;
    cpu->scratch[SCRATCH_RSP] = context == left ? rsp : cpu->host_rsp - 8;
    const JumpCacheEntry *j = &cpu->blocks->jump_cache[cpu->s.eip & (JUMP_CACHE_SIZE - 1)];
    if (!cached(cpu, j, context, cpu->s.eip))
        return NULL;
    cpu->stat[STAT_EXIT_OTHER]++;
    return j->block->entry[ENTRY_PLAIN];
}

/* The block for the CPU as it stands. Raises #GP beyond the limit, #PF. */
static Block *find_block(Cpu *cpu, u32 context)
{
    BlockCache *bc = cpu->blocks;
    u32 eip = cpu->s.eip, linear = cpu->s.seg[CS].base + eip;
    cpu->stat[STAT_LOOKUPS]++;
    if (eip > cpu->s.seg[CS].limit)
        x86_raise_error(cpu, VEC_GP, 0);
    u32 page = cpu->tlb->exec[linear >> PAGE_SHIFT];
    if (!page) {
        u64 phys;
        tlb_fill(cpu, linear, ACC_EXEC, &phys);
        page = cpu->tlb->exec[linear >> PAGE_SHIFT];
        if (!page)
            return translate_once(cpu, context);
        const JumpCacheEntry *j = &bc->jump_cache[eip & (JUMP_CACHE_SIZE - 1)];
        if (cached(cpu, j, context, eip))
            return j->block;
    }
    Block *b = blocks_find(bc, page - 1, linear & PAGE_MASK, eip, context);
    if (b && b->page2 != MEM_NO_PAGE) {
        u32 second = (linear & ~PAGE_MASK) + PAGE_SIZE;
        u64 phys;
        if (!cpu->tlb->exec[second >> PAGE_SHIFT])
            tlb_fill(cpu, second, ACC_EXEC, &phys);
        if (cpu->tlb->exec[second >> PAGE_SHIFT] != b->page2 + 1) {
            blocks_written(cpu, b->page, b->offset, 1);     /* made from another page: make it again */
            b = NULL;
        }
    }
    if (!b)
        b = translate(cpu, page - 1, context);
    if (!b->unlinked && b->page2 == MEM_NO_PAGE && !(context & CONTEXT_SINGLE)) /* a miss in the second page comes back here */
        bc->jump_cache[eip & (JUMP_CACHE_SIZE - 1)] = (JumpCacheEntry){
            (u64)context << 32 | eip, b->entry[ENTRY_PAGE], b, linear >> PAGE_SHIFT, b->page + 1 };
    return b;
}

static void print_log(void *opaque, const char *line)
{
    (void)opaque;
    log_line("%s", line);
}

static void enter(Cpu *cpu, const Block *b)
{
    if (log_on(LOG_CPU))
        cpu_info_registers(cpu, print_log, NULL);
    if (log_on(LOG_EXEC)) {
        const u32 *r = cpu->s.gpr;
        log_line("%04x:%08x  %08x %08x %08x %08x  %08x %08x %08x %08x  %08x", cpu->s.seg[CS].sel, cpu->s.eip,
                 r[EAX], r[ECX], r[EDX], r[EBX], r[ESP], r[EBP], r[ESI], r[EDI], cpu->s.eflags);
    }
    cpu->scratch[SCRATCH_LINK] = 0;
    cpu->blocks->thunk.enter(cpu, b->entry[ENTRY_PLAIN]);
}

/* One turn: false ends cpu_run(). link: the unlinked jump that led here, or NULL. */
static bool turn(Cpu *cpu, CpuExit *why)
{
    BlockCache *bc = cpu->blocks;
    if (cpu->fault_vector >= 0) {
        cpu->stat[STAT_FAULTS]++;
        x86_deliver_fault(cpu);
        if (cpu->debug.step)
            debug_stepped(cpu);
        return true;
    }
    if (cpu->debug.stop) {
        cpu->debug.stop = false;
        cpu->scratch[SCRATCH_LINK] = 0;
        *why = CPU_EXIT_DEBUG;
        return false;
    }
    /* In this order: who raises attention sets its bit before the limit. */
    if (__atomic_load_n(&cpu->poll_limit, __ATOMIC_RELAXED) != cpu->stack_limit)
        __atomic_store_n(&cpu->poll_limit, cpu->stack_limit, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&cpu->attention, __ATOMIC_SEQ_CST)) {
        cpu->stat[STAT_SERVICES]++;
        cpu->scratch[SCRATCH_LINK] = 0;
        if (!x86_service(cpu, why))
            return false;
        if (cpu->fault_vector >= 0)
            return true;
    }
    u64 drops = cpu->stat[STAT_DROPS];
    u32 context = blocks_context(cpu);
    if (cpu->mode & MODE_STEP) {
        bool tf = cpu->s.eflags & FLAG_TF;
        enter(cpu, find_block(cpu, context));
        if (cpu->debug.step)
            debug_stepped(cpu);
        x86_stepped(cpu, tf);
        return true;
    }
    Exit *link = (Exit *)(uintptr_t)cpu->scratch[SCRATCH_LINK];
    const JumpCacheEntry *j = &bc->jump_cache[cpu->s.eip & (JUMP_CACHE_SIZE - 1)];
    if (!link && cached(cpu, j, context, cpu->s.eip)) {
        cpu->stat[STAT_EXIT_OTHER]++;
        enter(cpu, j->block);
        return true;
    }
    Block *b = find_block(cpu, link && link->single ? context | CONTEXT_SINGLE : context);
    if (link && drops == cpu->stat[STAT_DROPS]) {      /* a drop takes the Exit's memory with it */
        cpu->stat[STAT_EXIT_LINK]++;
        blocks_link(cpu, link, b);
    }
    enter(cpu, b);
    return true;
}

CpuExit cpu_run(Cpu *cpu)
{
    FxImage host;
    volatile CpuExit why = CPU_EXIT_STOP;
    fpu_load(cpu, &host);
    cpu->stack_limit = (u64)(uintptr_t)__builtin_frame_address(0) - CALL_STACK_BYTES;
    cpu->scratch[SCRATCH_LINK] = 0;
    if (__builtin_setjmp(cpu->leave))
        cpu->scratch[SCRATCH_LINK] = 0;
    while (turn(cpu, (CpuExit *)&why))
        ;
    fpu_store(cpu, &host);
    return why;
}
