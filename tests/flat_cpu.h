/*
 * A CPU with a megabyte of memory in flat 32-bit mode, paging on, for tests of translated code: linear 0-1 MiB is
 * mapped to itself, and again from ALIAS. Vectors 0-31 halt at HANDLERS + 16 * n + 1.
 */
#ifndef TESTS_FLAT_CPU_H
#define TESTS_FLAT_CPU_H

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <string.h>

enum {
    RAM_BYTES = 1 << 20, IDT = 0x2000, GDT = 0x3000, HANDLERS = 0x4000, PAGE_DIR = 0x5000, PAGE_TABLE = 0x6000,
    ALIAS = 0x400000, CODE = 0x10000, STACK = 0x80000, DATA = 0x90000,
};

static Machine *m;
static Cpu *cpu;
static u8 *ram;

static inline void map_page(u32 linear, u32 entry)
{
    store32(ram + PAGE_TABLE + (linear >> 12 & 0x3ff) * 4, entry);
    tlb_flush_page(cpu, linear);
    tlb_flush_page(cpu, linear + ALIAS);
}

static void flat_cpu_reset(void)
{
    machine_lock(m);
    cpu_reset(cpu);
    machine_unlock(m);
    memset(ram, 0, RAM_BYTES);
    for (u32 v = 0; v < 32; v++) {
        store32(ram + IDT + 8 * v, 8 << 16 | (HANDLERS + 16 * v));
        store32(ram + IDT + 8 * v + 4, 0x8e00);
        ram[HANDLERS + 16 * v] = 0xf4;
    }
    store64(ram + GDT + 8, 0x00cf9b000000ffffull);
    store64(ram + GDT + 16, 0x00cf93000000ffffull);
    store32(ram + PAGE_DIR, PAGE_TABLE | 7);
    store32(ram + PAGE_DIR + 4, PAGE_TABLE | 7);
    for (u32 i = 0; i < RAM_BYTES >> 12; i++)
        store32(ram + PAGE_TABLE + 4 * i, i << 12 | 7);
    cpu->s.cr3 = PAGE_DIR;
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    cpu->s.idt_base = IDT;
    cpu->s.idt_limit = 0xff;
    cpu->s.gdt_base = GDT;
    cpu->s.gdt_limit = 0x17;
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ 0, 0xffffffff, i == CS ? 8 : 16, i == CS ? 0xc09b : 0xc093 };
    cpu->s.gpr[ESP] = STACK;
    cpu->s.eflags = FLAG_1;
    cpu->attention = 0;
    x86_update_mode(cpu);
    tlb_flush(cpu, true);
}

static inline void put_code(u32 at, const char *code, unsigned len)
{
    memcpy(ram + at, code, len);
    blocks_written(cpu, (u32)(ram + at - mem_arena(m->mem)) >> 12, at & 4095, len);
}

static CpuExit run_at(u32 eip)
{
    cpu->s.eip = eip;
    CpuExit why = cpu_run(cpu);
    cpu->s.halted = 0;
    return why;
}

static bool flat_cpu_create(void)
{
    Config cfg;
    Error err;
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, 2 << 20, &err);
    MemRegion *region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    m->cpu = cpu = cpu_create(m, NULL, &err);
    if (cpu)
        flat_cpu_reset();
    return cpu != NULL;
}

#endif
