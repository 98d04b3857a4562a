/*
 * A CPU with a little memory for directed tests: tables with one of everything, code at CODE, and a handler for
 * each vector that halts where run() can tell which it was. Programs end with INT3, which every privilege and
 * V86 mode may use.
 */
#ifndef CPU_GUEST_H
#define CPU_GUEST_H

#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <string.h>

enum {
    RAM_BYTES = 4 << 20, GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, HANDLERS = 0x4000, STACK0 = 0x8000,
    STACK3 = 0x9000, TSS2 = 0xa000, CODE = 0x10000, DATA = 0x20000, PAGE_DIR = 0x40000, PAGE_TABLE = 0x41000,
};
enum {
    SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_CODE3 = 0x1b, SEL_DATA3 = 0x23, SEL_TSS = 0x28, SEL_FREE = 0x30,
    SEL_FREE2 = 0x38, SEL_FREE3 = 0x40,
};

static Machine *m;
static Cpu *cpu;
static u8 *ram;

static void set_desc(u32 sel, u32 base, u32 limit, unsigned access, unsigned flags)
{
    u8 *d = ram + GDT + (sel & ~7u);
    store32(d, (limit & 0xffff) | base << 16);
    store32(d + 4, (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000u));
}

static void set_gate(u32 at, u16 sel, u32 offset, unsigned access, unsigned params)
{
    store32(ram + at, (offset & 0xffff) | (u32)sel << 16);
    store32(ram + at + 4, (offset & 0xffff0000u) | access << 8 | params);
}

static void load_from_table(int seg, u16 sel)
{
    const u8 *d = ram + GDT + (sel & ~7);
    u32 lo = load32(d), hi = load32(d + 4), limit = (lo & 0xffff) | (hi & 0xf0000);
    cpu->s.seg[seg] = (Seg){ lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000u),
                             hi & 0x800000 ? limit << 12 | 0xfff : limit, sel, hi >> 8 & 0xf0ff };
}

/* Flat 32-bit protected mode at a privilege, everything else empty. */
static inline void protected_mode(unsigned cpl)
{
    cpu_reset(cpu);
    memset(ram, 0, 0x50000);
    set_desc(SEL_CODE0, 0, 0xfffff, 0x9b, 0xc);
    set_desc(SEL_DATA0, 0, 0xfffff, 0x93, 0xc);
    set_desc(SEL_CODE3, 0, 0xfffff, 0xfb, 0xc);
    set_desc(SEL_DATA3, 0, 0xfffff, 0xf3, 0xc);
    set_desc(SEL_TSS, TSS, 0xfff, 0x8b, 0);
    for (u32 v = 0; v < 256; v++) {
        set_gate(IDT + 8 * v, SEL_CODE0, HANDLERS + 16 * v, v == 3 || v == 4 || v >= 0x80 ? 0xee : 0x8e, 0);
        ram[HANDLERS + 16 * v] = 0xf4;
    }
    store32(ram + TSS + 4, STACK0);
    store16(ram + TSS + 8, SEL_DATA0);
    store16(ram + TSS + 102, 0x88);             /* behind the interrupt redirection bitmap */
    cpu->s.gdt_base = GDT;
    cpu->s.gdt_limit = 0x47;
    cpu->s.idt_base = IDT;
    cpu->s.idt_limit = 0x7ff;
    cpu->s.tr = (Seg){ TSS, 0xfff, SEL_TSS, 0x8b };
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    load_from_table(CS, cpl ? SEL_CODE3 : SEL_CODE0);
    for (int i = 0; i < SEG_COUNT; i++) {
        if (i != CS)
            load_from_table(i, cpl ? SEL_DATA3 : SEL_DATA0);
    }
    cpu->s.cpl = (u8)cpl;
    cpu->s.gpr[ESP] = cpl ? STACK3 : STACK0;
    store16(cpu->s.fx, 0x37f);
    cpu->s.fx[4] = 0;
}

/* V86 mode under the same tables; CS is CODE, the other segments DATA, each 64 KiB. */
static inline void v86_mode(unsigned with_iopl)
{
    protected_mode(3);
    for (int i = 0; i < SEG_COUNT; i++) {
        u32 base = i == CS ? CODE : DATA;
        cpu->s.seg[i] = (Seg){ base, 0xffff, (u16)(base >> 4), 0xf3 };
    }
    cpu->s.eflags = FLAG_1 | FLAG_VM | with_iopl << 12;
    cpu->s.gpr[ESP] = 0x8000;
}

static inline void real_mode(void)
{
    protected_mode(0);
    for (int i = 0; i < SEG_COUNT; i++) {
        u32 base = i == CS ? CODE : DATA;
        cpu->s.seg[i] = (Seg){ base, 0xffff, (u16)(base >> 4), 0x93 };
    }
    for (u32 v = 0; v < 256; v++)
        store32(ram + 4 * v, HANDLERS + 16 * v);
    cpu->s.idt_base = 0;
    cpu->s.idt_limit = 0x3ff;
    cpu->s.cr0 = CR0_ET;
    cpu->s.gpr[ESP] = 0x8000;
}

/* Goes on at an EIP; the vector that ended it, or -1. */
static int go(u32 eip)
{
    cpu->s.eip = eip;
    cpu->s.halted = 0;
    cpu->attention = 0;
    x86_set_cpl(cpu, cpu->s.cpl);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    CpuExit why = cpu_run(cpu);
    if (why != CPU_EXIT_HALT || cpu->s.eip <= HANDLERS || cpu->s.eip > HANDLERS + 16 * 256)
        return why == CPU_EXIT_SHUTDOWN ? -2 : -1;
    return (int)((cpu->s.eip - HANDLERS) / 16);
}

/* Runs code that stands at CODE (offset 0 in real and V86 mode), INT3 behind it. */
static inline int run(const char *code, unsigned len)
{
    memcpy(ram + CODE, code, len);
    ram[CODE + len] = 0xcc;
    blocks_drop_all(cpu);
    return go(cpu->s.seg[CS].base == CODE ? 0 : CODE);
}
#define RUN(code) run(code, sizeof(code) - 1)

/* The frame that the handler found: on a stack of the handler's segment. */
static inline u32 frame(unsigned n) { return load32(ram + cpu->s.seg[SS].base + cpu->s.gpr[ESP] + 4 * n); }

static inline bool guest_create(const char *model)
{
    Error err = { "" };
    Config cfg;
    MemRegion *region;
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES, &err);
    region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    m->cpu = cpu = cpu_create(m, model, &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    return cpu != NULL;
}

#endif
