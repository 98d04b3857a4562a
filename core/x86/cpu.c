/*
 * Making and unmaking the CPU, and its listing for `info jit`. Contract: vm/cpu.h.
 */
#include "block.h"
#include "run.h"

#include "../vm/host.h"

#include <stdio.h>

Cpu *cpu_create(Machine *m, const char *model, Error *err)
{
    Cpu *cpu = device_create(m, &cpu_class);
    cpu->m = m;
    cpu->mem = m->mem;
    cpu->arena = mem_arena(m->mem);
    cpu->page_flags = mem_page_flags(m->mem);
    cpu->fault_vector = cpu->delivering = -1;
    if (!x86_model_select(cpu, model, err) || !tlb_create(cpu, err) || !blocks_create(cpu, err))
        return NULL;                    /* devices_destroy() frees what was made */
    host_fault_handler(run_fault_handler, cpu);
    x86_reset_state(cpu);
    return cpu;
}

void cpu_destroy(Cpu *cpu)
{
    host_fault_handler(NULL, NULL);
    blocks_destroy(cpu);
    tlb_destroy(cpu);
}

void cpu_reset(Cpu *cpu)
{
    blocks_drop_all(cpu);               /* the board may have put firmware into memory past everyone's eyes */
    cpu->fault_vector = cpu->delivering = -1;
    x86_reset_state(cpu);
}

void cpu_memory_replaced(Cpu *cpu)
{
    tlb_flush(cpu, true);
    blocks_drop_all(cpu);
    cpu->code_write_count = 0;
}

void cpu_info_jit(Cpu *cpu, PrintFn *print, void *opaque)
{
    const BlockCache *bc = cpu->blocks;
    const u64 *n = cpu->stat;
    const struct { const char *what; u64 value; } rows[] = {
        { "blocks translated", n[STAT_BLOCKS] },
        { "guest instructions translated", n[STAT_INSNS] },
        { "guest bytes", n[STAT_GUEST_BYTES] },
        { "host bytes", n[STAT_HOST_BYTES] },
        { "blocks invalidated", n[STAT_KILLED] },
        { "cache drops", n[STAT_DROPS] },
        { "cache bytes in use", (u64)(bc->code_next - bc->code) },
        { "block look-ups", n[STAT_LOOKUPS] },
        { "jumps linked", n[STAT_LINKS] },
        { "exits to be linked", n[STAT_EXIT_LINK] },
        { "other exits", n[STAT_EXIT_OTHER] },
        { "events served", n[STAT_SERVICES] },
        { "guest faults", n[STAT_FAULTS] },
        { "host faults", n[STAT_HOST_FAULTS] },
        { "stores to pages with code", n[STAT_STORES_TO_CODE] },
    };
    char line[80];
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(line, sizeof line, "%-30s %llu", rows[i].what, (unsigned long long)rows[i].value);
        print(opaque, line);
    }
}
