/*
 * The CPU's C side without translated code: helpers are called as the translator calls them, on a CPU and
 * memory made by hand. Paging walks, segment loads, gates, privilege changes, task switches, double faults,
 * SMM, strings, split accesses.
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

enum { RAM_BYTES = 4 << 20, EXITED = 1, NEXT = 0, FAULT = 100 };

static Machine *m;
static Cpu *cpu;
static u8 *ram;

/* ---- the bench ---- */

static u32 desc(unsigned opcode, unsigned reg, unsigned rm, bool isreg, unsigned size)
{
    return reg | rm << DESC_RM | (u32)isreg << DESC_ISREG |
           (u32)(size == 4   ? 2
                 : size == 2 ? 1
                             : 0)
               << DESC_OPSIZE |
           (u32)DS << DESC_SEG | opcode << DESC_OPCODE | 2u << DESC_LEN;
}

/* Runs one helper: NEXT, EXITED, or FAULT + vector. */
static int run(X86Helper *helper, u32 ea, u32 d, u64 imm)
{
    cpu->fault_vector = -1;
    if (__builtin_setjmp(cpu->leave))
        return FAULT + cpu->fault_vector;
    return (int)helper(cpu, ea, d, imm);
}

/* Delivers what is pending, as the dispatcher does, until nothing is. */
static void deliver(void)
{
    volatile int rounds = 0;

    if (__builtin_setjmp(cpu->leave)) {
        if (++rounds > 5)
            return;
    }
    while (cpu->fault_vector >= 0)
        x86_deliver_fault(cpu);
}

typedef struct { u32 linear, value; unsigned size; int access; } Access;

static int try_access(Access *a)
{
    cpu->fault_vector = -1;
    if (__builtin_setjmp(cpu->leave))
        return FAULT + cpu->fault_vector;
    if (a->access == ACC_WRITE)
        lin_write(cpu, a->linear, a->value, a->size);
    else
        a->value = (u32)lin_read(cpu, a->linear, a->size);
    return NEXT;
}

static int service(CpuExit *why, bool *ran)
{
    cpu->fault_vector = -1;
    if (__builtin_setjmp(cpu->leave))
        return FAULT + cpu->fault_vector;
    *ran = x86_service(cpu, why);
    return NEXT;
}

static void set_desc(u32 at, u32 base, u32 limit, unsigned access, unsigned flags)
{
    store32(ram + at, (limit & 0xffff) | base << 16);
    store32(ram + at + 4,
            (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000u));
}

static void set_gate(u32 at, u16 sel, u32 offset, unsigned access, unsigned params)
{
    store32(ram + at, (offset & 0xffff) | (u32)sel << 16);
    store32(ram + at + 4, (offset & 0xffff0000u) | access << 8 | params);
}

enum {
    GDT = 0x1000,
    IDT = 0x2000,
    TSS = 0x3000,
    TSS2 = 0x3100,
    STACK0 = 0x8000,
    STACK3 = 0x9000,
    PAGE_DIR = 0x10000,
    PAGE_TABLE = 0x11000,
    SEL_CODE0 = 0x08,
    SEL_DATA0 = 0x10,
    SEL_CODE3 = 0x1b,
    SEL_DATA3 = 0x23,
    SEL_TSS = 0x28,
    SEL_TSS2 = 0x30,
    SEL_GATE = 0x38,
    SEL_LDT = 0x40,
    SEL_ABSENT = 0x48,
    SEL_DOWN = 0x50,
    SEL_SMALL = 0x58,
    SEL_CONF = 0x60,
    SEL_TASK_GATE = 0x68,
    SEL_GATE_PARAMS = 0x70,
    SEL_SS16 = 0x78,
    SEL_ROCODE = 0x80,
};

static void load(int seg, u16 sel, unsigned cpl)
{
    const u8 *d = ram + GDT + (sel & ~7);
    u32 lo = load32(d), hi = load32(d + 4), limit = (lo & 0xffff) | (hi & 0xf0000);

    cpu->s.seg[seg] = (Seg){lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000u),
                            hi & 0x800000 ? limit << 12 | 0xfff : limit, sel, hi >> 8 & 0xf0ff};
    if (seg == CS)
        x86_set_cpl(cpu, cpl);
}

/*
 * Flat protected mode at a privilege, with a GDT that has one of everything and an IDT of gates to 0x100000
 * + vector.
 */
static void protected_mode(unsigned cpl)
{
    device_reset(&cpu->dev);
    cpu->attention = 0;
    memset(ram, 0, 0x20000);
    set_desc(GDT + SEL_CODE0, 0, 0xfffff, 0x9a, 0xc);
    set_desc(GDT + SEL_DATA0, 0, 0xfffff, 0x92, 0xc);
    set_desc(GDT + (SEL_CODE3 & ~3), 0, 0xfffff, 0xfa, 0xc);
    set_desc(GDT + (SEL_DATA3 & ~3), 0, 0xfffff, 0xf2, 0xc);
    set_desc(GDT + SEL_TSS, TSS, 0x67, 0x8b, 0);
    set_desc(GDT + SEL_TSS2, TSS2, 0x67, 0x89, 0);
    set_gate(GDT + SEL_GATE, SEL_CODE0, 0x123456, 0xec, 0);
    set_gate(GDT + SEL_GATE_PARAMS, SEL_CODE0, 0x123456, 0xec, 2);
    set_desc(GDT + SEL_LDT, 0x4000, 0xff, 0x82, 0);
    set_desc(GDT + SEL_ABSENT, 0, 0xfffff, 0x72, 0xc);
    set_desc(GDT + SEL_DOWN, 0, 0x0fff, 0x96, 0x4);
    set_desc(GDT + SEL_SMALL, 0x5000, 0xff, 0xf2, 0x4);
    set_desc(GDT + SEL_CONF, 0, 0xfffff, 0x9e, 0xc);
    set_gate(GDT + SEL_TASK_GATE, SEL_TSS2, 0, 0xe5, 0);
    set_desc(GDT + SEL_SS16, 0, 0xffff, 0xf2, 0);
    set_desc(GDT + SEL_ROCODE, 0, 0xfffff, 0x98, 0xc);
    for (u32 i = 0; i < 256; i++)
        set_gate(IDT + 8 * i, SEL_CODE0, 0x100000 + i, i == 3 || i == 0x80 ? 0xee : 0x8e, 0);
    store32(ram + TSS + 4, STACK0);
    store32(ram + TSS + 8, SEL_DATA0);
    store16(ram + TSS + 102, 0x68);
    cpu->s.gdt_base = GDT;
    cpu->s.gdt_limit = 0x87;
    cpu->s.idt_base = IDT;
    cpu->s.idt_limit = 0x7ff;
    cpu->s.cr0 = CR0_PE | CR0_ET;
    cpu->s.tr = (Seg){ TSS, 0x67, SEL_TSS, 0x8b };
    load(CS, cpl ? SEL_CODE3 : SEL_CODE0, cpl);
    for (int i = 0; i < SEG_COUNT; i++) {
        if (i != CS)
            load(i, cpl ? SEL_DATA3 : SEL_DATA0, cpl);
    }
    cpu->s.gpr[ESP] = cpl ? STACK3 : STACK0;
    cpu->s.eip = 0x6000;
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

static void real_mode(void)
{
    device_reset(&cpu->dev);
    cpu->attention = 0;
    memset(ram, 0, 0x20000);
    cpu->s.cr0 = CR0_ET;
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ 0x1000, 0xffff, 0x100, 0x93 };
    cpu->s.idt_limit = 0x3ff;
    cpu->s.gpr[ESP] = 0x8000;
    cpu->s.eip = 0x100;
    x86_update_mode(cpu);
}

static u32 top(unsigned n) { return load32(ram + cpu->s.gpr[ESP] + 4 * n); }

/* ---- paging ---- */

static void paging_on(void)
{
    for (u32 i = 0; i < 1024; i++)
        store32(ram + PAGE_TABLE + 4 * i, i << 12 | 3);
    store32(ram + PAGE_DIR, PAGE_TABLE | 7);
    cpu->s.cr3 = PAGE_DIR;
    cpu->s.cr0 |= CR0_PG;
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

static u32 pte(u32 page) { return load32(ram + PAGE_TABLE + 4 * page); }

static void test_paging_32(void)
{
    Access a = { 0x30000, 0, 4, ACC_READ };

    protected_mode(0);
    paging_on();
    store32(ram + 0x30000, 0xcafe);
    CHECK(try_access(&a) == NEXT && a.value == 0xcafe);
    CHECK_MSG((pte(0x30) & 0x60) == 0x20, "a read sets A, not D");
    CHECK_MSG(cpu->tlb->read[0x30] && !cpu->tlb->write[0x30], "no write entry before the page is dirty");
    a = (Access){ 0x30010, 7, 4, ACC_WRITE };
    CHECK(try_access(&a) == NEXT && (pte(0x30) & 0x60) == 0x60 && cpu->tlb->write[0x30]);
    store32(ram + PAGE_TABLE + 4 * 0x31, 0);
    a = (Access){ 0x31ffc, 0, 4, ACC_READ };
    CHECK(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 0 && cpu->s.cr2 == 0x31ffc);
    a = (Access){ 0x30ffe, 0x11223344, 4, ACC_WRITE };
    store32(ram + 0x30ffc, 0);
    CHECK(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 2 && cpu->s.cr2 == 0x31000);
    CHECK_MSG(load32(ram + 0x30ffc) == 0, "a store across pages writes nothing when the second page faults");
    store32(ram + PAGE_TABLE + 4 * 0x32, 0x32000 | 1);
    a = (Access){ 0x32000, 1, 4, ACC_WRITE };
    CHECK_MSG(try_access(&a) == NEXT, "without WP a supervisor writes to a read-only page");
    x86_set_cr0(cpu, cpu->s.cr0 | CR0_WP);
    CHECK(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 3);
    load(CS, SEL_CODE3, 3);
    x86_update_mode(cpu);
    a = (Access){ 0x30000, 0, 1, ACC_READ };
    CHECK_MSG(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 5,
              "user reads of supervisor pages fault");
    store32(ram + PAGE_TABLE + 4 * 0x30, 0x30000 | 7);
    CHECK(try_access(&a) == NEXT);
}

static void test_large_pages(void)
{
    Access a = { 0x400000 + 0x1234, 0, 4, ACC_READ };

    protected_mode(0);
    paging_on();
    x86_set_cr4(cpu, CR4_PSE | CR4_PGE);
    store32(ram + PAGE_DIR + 4, 0x0 | 0x83 | 0x100);
    store32(ram + 0x1234, 0x77);
    CHECK(try_access(&a) == NEXT && a.value == 0x77);
    x86_set_cr3(cpu, PAGE_DIR);
    CHECK_MSG(cpu->tlb->read[0x401] != 0, "a global page survives a CR3 load");
    tlb_flush_page(cpu, 0x400000);
    CHECK_MSG(cpu->tlb->read[0x401] == 0, "INVLPG drops all of a 4 MiB page");
    store32(ram + PAGE_DIR + 4, 0x83 | 1 << 21);
    CHECK_MSG(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 9, "reserved bits in a PDE");
}

static void test_pae(void)
{
    Access a = { 0x200000, 0, 4, ACC_READ };
    PageInfo info;
    u32 error;

    protected_mode(0);
    cpu->features[2] |= FEAT3_NX;
    store64(ram + PAGE_DIR, 0x12000 | 1);
    store64(ram + 0x12000, 0x83);
    store64(ram + 0x12008, 0x13000 | 3);
    store64(ram + 0x13000, 0x30000ull | 3 | 1ull << 63);
    store32(ram + 0x30000, 99);
    cpu->s.cr3 = PAGE_DIR;
    x86_set_cr4(cpu, CR4_PAE);
    x86_set_cr0(cpu, cpu->s.cr0 | CR0_PG);
    CHECK_MSG(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 9,
              "bit 63 is reserved while NXE is off");
    cpu->s.efer = EFER_NXE;
    CHECK(try_access(&a) == NEXT && a.value == 99);
    CHECK(!x86_walk(cpu, 0x200000, ACC_EXEC, false, false, &info, &error) && error == 0x11);
    CHECK(x86_walk(cpu, 0x1ff123, ACC_READ, false, false, &info, &error) && info.phys == 0x1ff123 &&
          info.page_bytes == 1 << 21);
    a = (Access){ 0x40000000, 0, 4, ACC_READ };
    CHECK(try_access(&a) == FAULT + VEC_PF && cpu->fault_error == 0);
    x86_model_select(cpu, NULL, &(Error){ "" });
}

static void test_a20(void)
{
    Access a = { 0x100010, 0, 4, ACC_READ };

    protected_mode(0);
    store32(ram + 0x10, 1);
    store32(ram + 0x100010, 2);
    CHECK(try_access(&a) == NEXT && a.value == 2);
    cpu_set_a20(cpu, false);
    CHECK(cpu->attention & CPU_ATT_FLUSH);
    tlb_flush(cpu, true);
    CHECK_MSG(try_access(&a) == NEXT && a.value == 1, "A20 off: the second megabyte shows the first");
}

/* ---- segments ---- */

static int load_ds(u16 sel)
{
    cpu->s.gpr[EAX] = sel;
    return run(helper_mov_to_seg, 0, desc(0x8e, DS, EAX, true, 4), 0);
}

static void test_segment_loads(void)
{
    protected_mode(3);
    CHECK(load_ds(SEL_DATA3) == NEXT);
    CHECK(load_ds(SEL_DATA0) == FAULT + VEC_GP && cpu->fault_error == SEL_DATA0);
    CHECK(load_ds(0) == EXITED && run(helper_movs, 0, desc(0xa4, 0, 0, false, 4), 0) == FAULT + VEC_GP);
    CHECK_MSG(load_ds(SEL_SMALL | 3) != FAULT && mode_seg_class(cpu->mode, DS) == SEG_BASED,
              "a small segment is based");
    CHECK(cpu->seg_max[DS][2] == 0xff - 3);
    CHECK(load_ds(0x1000) == FAULT + VEC_GP && cpu->fault_error == 0x1000);
    CHECK(load_ds(SEL_TSS) == FAULT + VEC_GP);
    CHECK_MSG(load_ds(SEL_CONF) == EXITED, "readable conforming code is data for everybody");
    protected_mode(0);
    CHECK(load_ds(SEL_ABSENT) == FAULT + VEC_NP && cpu->fault_error == SEL_ABSENT);
    CHECK(load_ds(SEL_ROCODE) == FAULT + VEC_GP);
    CHECK(load32(ram + GDT + SEL_DOWN + 4) >> 8 & 1 ? 0 : load_ds(SEL_DOWN) == EXITED);
    CHECK_MSG(load32(ram + GDT + SEL_DOWN + 4) >> 8 & 1, "loading sets the accessed bit");
    CHECK(mode_seg_class(cpu->mode, DS) == SEG_SLOW);
    CHECK(!seg_ok(cpu, &cpu->s.seg[DS], 0xfff, 1, ACC_READ) &&
          seg_ok(cpu, &cpu->s.seg[DS], 0x1000, 4, ACC_WRITE));
    cpu->s.gpr[EAX] = SEL_DATA0;
    CHECK(run(helper_mov_to_seg, 0, desc(0x8e, SS, EAX, true, 4), 0) == EXITED && cpu->s.shadow == 2);
    CHECK(cpu->mode & MODE_STEP);
    cpu->s.gpr[EAX] = 0;
    CHECK(run(helper_mov_to_seg, 0, desc(0x8e, SS, EAX, true, 4), 0) == FAULT + VEC_GP);
    CHECK(run(helper_mov_to_seg, 0, desc(0x8e, CS, EAX, true, 4), 0) == FAULT + VEC_UD);
}

static void test_lar_verr(void)
{
    protected_mode(3);
    cpu->s.gpr[EAX] = SEL_DATA3;
    CHECK(run(helper_lsl, 0, desc(0x03, EBX, EAX, true, 4), 0) == NEXT && cpu->s.gpr[EBX] == 0xffffffff);
    CHECK((cpu->s.eflags & FLAG_ZF) && run(helper_lar, 0, desc(0x02, EBX, EAX, true, 4), 0) == NEXT);
    CHECK(cpu->s.gpr[EBX] == 0xc0f200);
    cpu->s.gpr[EAX] = SEL_DATA0;
    CHECK(run(helper_lar, 0, desc(0x02, EBX, EAX, true, 4), 0) == NEXT && !(cpu->s.eflags & FLAG_ZF));
    cpu->s.gpr[EAX] = SEL_CONF;
    CHECK(run(helper_grp_0f00, 0, desc(0x00, 4, EAX, true, 4), 0) == NEXT && (cpu->s.eflags & FLAG_ZF));
    CHECK(run(helper_grp_0f00, 0, desc(0x00, 5, EAX, true, 4), 0) == NEXT && !(cpu->s.eflags & FLAG_ZF));
    CHECK(run(helper_grp_0f00, 0, desc(0x00, 3, EAX, true, 4), 0) == FAULT + VEC_GP);
}

/* ---- interrupts and gates ---- */

static void test_interrupt_inner(void)
{
    protected_mode(3);
    cpu->s.eflags = 0x202 | FLAG_TF;
    CHECK(run(helper_int, 0, desc(0xcd, 0, 0, false, 4), 0x80) == EXITED);
    CHECK(cpu->s.eip == 0x100080 && cpu->s.cpl == 0 && cpu->s.gpr[ESP] == STACK0 - 20);
    CHECK(top(0) == 0x6002 && top(1) == SEL_CODE3 && top(2) == (0x202 | FLAG_TF) && top(3) == STACK3 &&
          top(4) == SEL_DATA3);
    CHECK(!(cpu->s.eflags & (FLAG_IF | FLAG_TF)));
    CHECK(run(helper_iret, 0, desc(0xcf, 0, 0, false, 4), 0) == EXITED);
    CHECK(cpu->s.eip == 0x6002 && cpu->s.cpl == 3 && cpu->s.gpr[ESP] == STACK3 && (cpu->s.eflags & FLAG_IF));
    protected_mode(3);
    CHECK(run(helper_int, 0, desc(0xcd, 0, 0, false, 4), 0x20) == FAULT + VEC_GP &&
          cpu->fault_error == 0x20 * 8 + 2);
    deliver();
    CHECK(cpu->s.eip == 0x10000d && top(0) == 0x20 * 8 + 2 && top(1) == 0x6000 && (top(3) & FLAG_RF));
}

static void test_iret_drops_inner_segments(void)
{
    protected_mode(0);
    cpu->s.gpr[ESP] = STACK0 - 20;
    store32(ram + STACK0 - 20, 0x7000);
    store32(ram + STACK0 - 16, SEL_CODE3);
    store32(ram + STACK0 - 12, 0x3202);
    store32(ram + STACK0 - 8, STACK3);
    store32(ram + STACK0 - 4, SEL_DATA3);
    CHECK(run(helper_iret, 0, desc(0xcf, 0, 0, false, 4), 0) == EXITED);
    CHECK_MSG(cpu->s.seg[DS].attr == 0 && cpu->s.seg[DS].sel == 0, "segments of the inner level become null");
    CHECK(cpu->s.cpl == 3 && cpu->tlb == cpu->tlb_set[1] && (cpu->s.eflags & FLAG_IOPL) == FLAG_IOPL);
}

static void test_call_gate(void)
{
    protected_mode(3);
    store32(ram + STACK3, 0x111);
    store32(ram + STACK3 + 4, 0x222);
    CHECK(run(helper_call_far, 0, desc(0x9a, 0, 0, false, 4), (u64)SEL_GATE_PARAMS << 32) == EXITED);
    CHECK(cpu->s.eip == 0x123456 && cpu->s.cpl == 0 && cpu->s.seg[CS].sel == SEL_CODE0);
    CHECK(top(0) == 0x6002 && top(1) == SEL_CODE3 && top(2) == 0x111 && top(3) == 0x222 && top(4) == STACK3 &&
          top(5) == SEL_DATA3);
    CHECK(run(helper_ret_far, 0, desc(0xca, 0, 0, false, 4), 8) == EXITED);
    CHECK(cpu->s.cpl == 3 && cpu->s.eip == 0x6002 && cpu->s.gpr[ESP] == STACK3 + 8);
    CHECK_MSG(run(helper_jmp_far, 0, desc(0xea, 0, 0, false, 4), (u64)SEL_GATE << 32) == FAULT + VEC_GP,
              "JMP through a gate can't change the privilege");
    CHECK(run(helper_jmp_far, 0, desc(0xea, 0, 0, false, 4), (u64)SEL_CODE0 << 32) == FAULT + VEC_GP);
    CHECK(run(helper_jmp_far, 0, desc(0xea, 0, 0, false, 4), (u64)SEL_CONF << 32 | 0x50) == EXITED);
    CHECK(cpu->s.cpl == 3 && cpu->s.seg[CS].sel == (SEL_CONF | 3) && cpu->s.eip == 0x50);
}

static void test_v86(void)
{
    protected_mode(0);
    cpu->s.gpr[ESP] = STACK0 - 36;
    static const u32 frame[] = {0x1234, 0x2000, FLAG_VM | 0x202, 0x4000, 0x3000, 0x111, 0x222, 0x333, 0x444};
    memcpy(ram + STACK0 - 36, frame, sizeof(frame));
    CHECK(run(helper_iret, 0, desc(0xcf, 0, 0, false, 4), 0) == EXITED);
    CHECK(cpu->s.cpl == 3 && (cpu->mode & MODE_V86) && !(cpu->mode & MODE_PROT) &&
          cpu->s.seg[CS].base == 0x20000);
    CHECK(cpu->s.seg[ES].sel == 0x111 && cpu->s.seg[GS].base == 0x4440 && cpu->s.gpr[ESP] == 0x4000 &&
          cpu->s.eip == 0x1234);
    CHECK_MSG(run(helper_int, 0, desc(0xcd, 0, 0, false, 2), 0x80) == FAULT + VEC_GP && cpu->fault_error == 0,
              "INT with IOPL 0");
    CHECK(run(helper_cli, 0, desc(0xfa, 0, 0, false, 2), 0) == FAULT + VEC_GP);
    CHECK(run(helper_in, 0, desc(0xe4, 0, 0, false, 2), 0x60) == FAULT + VEC_GP);
    deliver();
    CHECK(cpu->s.cpl == 0 && !(cpu->s.eflags & FLAG_VM) && cpu->s.eip == 0x10000d &&
          cpu->s.gpr[ESP] == STACK0 - 40);
    CHECK(top(0) == 0 && top(1) == 0x1234 && top(2) == 0x2000 && (top(3) & FLAG_VM) && top(5) == 0x3000 &&
          top(9) == 0x444);
    CHECK(cpu->s.seg[DS].sel == 0 && !(cpu->s.seg[DS].attr & SEG_P));
}

static void test_double_fault(void)
{
    protected_mode(0);
    store32(ram + IDT + 13 * 8 + 4, 0);            /* #GP not present: #NP on a contributory fault */
    cpu->fault_vector = VEC_GP;
    cpu->fault_has_error = true;
    cpu->fault_error = 0x10;
    deliver();
    CHECK(cpu->s.eip == 0x100008 && top(0) == 0 && top(1) == 0x6000);
    protected_mode(0);
    cpu->s.idt_limit = 0;
    cpu->fault_vector = VEC_UD;
    cpu->fault_has_error = false;
    deliver();
    CHECK_MSG(cpu->s.shutdown == 1, "no IDT at all: triple fault");
    CpuExit why;
    bool ran = true;
    CHECK(service(&why, &ran) == NEXT && !ran && why == CPU_EXIT_SHUTDOWN);
}

static void test_ext_bit(void)
{
    protected_mode(0);
    store32(ram + IDT + 0x30 * 8 + 4, 0);
    cpu->fault_vector = -1;
    if (!__builtin_setjmp(cpu->leave))
        x86_interrupt(cpu, 0x30, cpu->s.eip, false, false, 0);
    CHECK_MSG(cpu->fault_vector == VEC_GP && cpu->fault_error == 0x30 * 8 + 3,
              "an external interrupt's fault has EXT");
    deliver();
    CHECK(cpu->s.eip == 0x10000d && cpu->delivering == DELIVER_NONE);
}

/* ---- tasks ---- */

static void second_task(void)
{
    store32(ram + TSS2 + 28, 0);
    store32(ram + TSS2 + 32, 0x6666);
    store32(ram + TSS2 + 36, 0x202);
    for (u32 i = 0; i < 8; i++)
        store32(ram + TSS2 + 40 + 4 * i, 0x1000 * (i + 1));
    for (u32 i = 0; i < 6; i++)
        store32(ram + TSS2 + 72 + 4 * i, i == CS ? SEL_CODE0 : SEL_DATA0);
    store32(ram + TSS2 + 96, SEL_LDT);
}

static void test_tasks(void)
{
    protected_mode(0);
    second_task();
    cpu->s.gpr[EBX] = 0xb0b;
    CHECK(run(helper_call_far, 0, desc(0x9a, 0, 0, false, 4), (u64)SEL_TSS2 << 32) == EXITED);
    CHECK(cpu->s.eip == 0x6666 && cpu->s.gpr[EBX] == 0x4000 && cpu->s.tr.sel == SEL_TSS2 &&
          (cpu->s.eflags & FLAG_NT));
    CHECK(load16(ram + TSS2) == SEL_TSS && load32(ram + TSS + 32) == 0x6002 &&
          load32(ram + TSS + 52) == 0xb0b);
    CHECK_MSG((ram[GDT + SEL_TSS2 + 5] & 2) && (ram[GDT + SEL_TSS + 5] & 2), "both are busy while nested");
    CHECK((cpu->s.cr0 & CR0_TS) && cpu->s.ldtr.base == 0x4000 && (cpu->mode & MODE_TS));
    CHECK(run(helper_call_far, 0, desc(0x9a, 0, 0, false, 4), (u64)SEL_TSS2 << 32) == FAULT + VEC_GP);
    CHECK(run(helper_iret, 0, desc(0xcf, 0, 0, false, 4), 0) == EXITED);
    CHECK(cpu->s.tr.sel == SEL_TSS && cpu->s.eip == 0x6002 && cpu->s.gpr[EBX] == 0xb0b &&
          !(ram[GDT + SEL_TSS2 + 5] & 2));
    CHECK(!(cpu->s.eflags & FLAG_NT));
    CHECK(run(helper_jmp_far, 0, desc(0xea, 0, 0, false, 4), (u64)SEL_TASK_GATE << 32) == EXITED);
    CHECK(cpu->s.tr.sel == SEL_TSS2 && !(ram[GDT + SEL_TSS + 5] & 2) && !(cpu->s.eflags & FLAG_NT));
    protected_mode(0);
    second_task();
    set_gate(IDT + 8 * 8, SEL_TSS2, 0, 0x85, 0);
    store32(ram + IDT + 13 * 8 + 4, 0);
    cpu->fault_vector = VEC_GP;
    cpu->fault_has_error = true;
    cpu->fault_error = 0;
    deliver();
    CHECK_MSG(cpu->s.tr.sel == SEL_TSS2 && cpu->s.gpr[ESP] == 0x5000 - 4 && top(0) == 0,
              "a double fault by task gate has its code");
    protected_mode(0);
    second_task();
    store32(ram + TSS2 + 72 + 4 * DS, 0x2000);
    CHECK(run(helper_jmp_far, 0, desc(0xea, 0, 0, false, 4), (u64)SEL_TSS2 << 32) == FAULT + VEC_TS);
    CHECK_MSG(cpu->fault_error == 0x2000 && cpu->s.tr.sel == SEL_TSS2,
              "a bad segment is the new task's fault");
}

/* ---- real mode ---- */

static void test_real_mode(void)
{
    real_mode();
    store16(ram + 4 * 0x10, 0x300);
    store16(ram + 4 * 0x10 + 2, 0x1234);
    cpu->s.eflags = 0x202 | FLAG_CF;
    CHECK(run(helper_int, 0, desc(0xcd, 0, 0, false, 2), 0x10) == EXITED);
    CHECK(cpu->s.eip == 0x300 && cpu->s.seg[CS].base == 0x12340 && cpu->s.gpr[ESP] == 0x7ffa &&
          !(cpu->s.eflags & FLAG_IF));
    CHECK(load16(ram + 0x8ffa) == 0x102 && load16(ram + 0x8ffc) == 0x100 && load16(ram + 0x8ffe) == 0x203);
    CHECK(run(helper_iret, 0, desc(0xcf, 0, 0, false, 2), 0) == EXITED && cpu->s.eip == 0x102 &&
          (cpu->s.eflags & FLAG_IF));
    cpu->s.gpr[EAX] = 0x2000;
    CHECK(run(helper_mov_to_seg, 0, desc(0x8e, ES, EAX, true, 2), 0) == NEXT &&
          cpu->s.seg[ES].base == 0x20000);
    cpu->s.gpr[ESI] = 0xffff;
    CHECK_MSG(run(helper_lods, 0, desc(0xad, 0, 0, false, 2), 0) == FAULT + VEC_GP,
              "a word at offset FFFF is beyond the limit");
    cpu->s.gpr[ESP] = 1;
    CHECK_MSG(run(helper_push_seg, 0, desc(0x1e, 0, 0, false, 2), 0) == FAULT + VEC_SS,
              "so is a word pushed at SP = 1");
}

/* ---- accesses of translated code ---- */

static int prepare(int seg, u32 ea, unsigned size, unsigned kind, u8 **at)
{
    cpu->fault_vector = -1;
    if (__builtin_setjmp(cpu->leave))
        return FAULT + cpu->fault_vector;
    *at = access_prepare(cpu, seg, ea, size, kind);
    return NEXT;
}

static u64 chip_value;
static u64 chip_read(void *opaque, u64 offset, unsigned size)
{
    (void)opaque;
    (void)size;
    return chip_value + offset;
}
static void chip_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    (void)opaque;
    (void)size;
    chip_value = value + offset;
}
static const MmioOps chip_ops = { chip_read, chip_write, 1, 4 };

static void test_prepare(void)
{
    u8 *at = NULL;
    Access a;

    protected_mode(0);
    CHECK(prepare(DS, 0x30004, 4, 1, &at) == NEXT && at == ram + 0x30004);
    memset(ram + 0x30ff0, 0x5a, 32);
    CHECK(prepare(DS, 0x30ffe, 4, 3, &at) == NEXT && at == cpu->bounce && load32(at) == 0x5a5a5a5a);
    store32(at, 0x04030201);
    CHECK(!access_commit(cpu) && ram[0x30ffe] == 1 && ram[0x31001] == 4 && ram[0x31002] == 0x5a);
    chip_value = 5;
    CHECK(prepare(DS, 0x800008, 4, 1, &at) == NEXT && at == cpu->bounce && load32(at) == 13);
    CHECK(prepare(DS, 0x800000, 4, 2, &at) == NEXT && at == cpu->bounce);
    store32(at, 77);
    access_commit(cpu);
    CHECK_MSG(chip_value == 77, "a store to MMIO arrives at commit");
    cpu->page_flags[0x40] |= PAGE_CODE;
    CHECK_MSG(prepare(DS, 0x40000, 4, 2, &at) == NEXT && at == cpu->bounce,
              "a store to a page with code is bounced");
    store32(at, 0x99);
    access_commit(cpu);
    CHECK(load32(ram + 0x40000) == 0x99 && !cpu->tlb->write[0x40]);
    cpu->page_flags[0x40] &= (u8)~PAGE_CODE;
    a = (Access){ 0x40000, 1, 4, ACC_WRITE };
    CHECK(try_access(&a) == NEXT && cpu->tlb->write[0x40] && (cpu->page_flags[0x40] & PAGE_DIRTY));
    tlb_protect_code(cpu, 0x40);
    CHECK(!cpu->tlb->write[0x40]);
    load(DS, SEL_SMALL, 0);
    x86_update_mode(cpu);
    CHECK(prepare(DS, 0xfd, 4, 1, &at) == FAULT + VEC_GP && prepare(DS, 0xfc, 4, 1, &at) == NEXT &&
          at == ram + 0x50fc);
    CHECK(prepare(CS, 0x30000, 4, 2, &at) == FAULT + VEC_GP);
}

static void test_alignment_check(void)
{
    u8 *at;

    protected_mode(3);
    cpu->s.cr0 |= CR0_AM;
    x86_write_eflags(cpu, FLAG_AC, FLAG_AC);
    CHECK(cpu->mode & MODE_AC);
    CHECK(prepare(DS, 0x30002, 4, 1, &at) == FAULT + VEC_AC && cpu->fault_error == 0);
    CHECK(prepare(DS, 0x30002, 2, 1, &at) == NEXT);
}

/* ---- strings ---- */

static void test_strings(void)
{
    u32 rep = 2u << DESC_REP | 1u << DESC_ADDR32, d;

    protected_mode(0);
    for (u32 i = 0; i < 0x3000; i++)
        ram[0x30000 + i] = (u8)(i * 7 + i / 256);
    cpu->s.gpr[ESI] = 0x30003;
    cpu->s.gpr[EDI] = 0x50001;
    cpu->s.gpr[ECX] = 0xb00;
    CHECK(run(helper_movs, 0, desc(0xa5, 0, 0, false, 4) | rep, 0) == NEXT);
    CHECK(!memcmp(ram + 0x30003, ram + 0x50001, 0x2c00) && cpu->s.gpr[ESI] == 0x32c03 &&
          cpu->s.gpr[ECX] == 0);
    memset(ram + 0x60000, 0, 100);
    ram[0x60000] = 0xab;
    cpu->s.gpr[ESI] = 0x60000;
    cpu->s.gpr[EDI] = 0x60001;
    cpu->s.gpr[ECX] = 40;
    CHECK(run(helper_movs, 0, desc(0xa4, 0, 0, false, 4) | rep, 0) == NEXT && ram[0x60028] == 0xab &&
          ram[0x60029] == 0);
    cpu->s.eflags |= FLAG_DF;
    cpu->s.gpr[EDI] = 0x71002;
    cpu->s.gpr[EAX] = 0x11223344;
    cpu->s.gpr[ECX] = 4;
    ram[0x70ff9] = 0;
    CHECK(run(helper_stos, 0, desc(0xab, 0, 0, false, 2) | rep, 0) == NEXT && cpu->s.gpr[EDI] == 0x70ffa);
    CHECK(load32(ram + 0x70ffc) == 0x33443344 && load16(ram + 0x71002) == 0x3344 && ram[0x70ffb] == 0);
    cpu->s.eflags &= ~FLAG_DF;
    memcpy(ram + 0x61000, "hello world", 12);
    cpu->s.gpr[EDI] = 0x61000;
    cpu->s.gpr[ECX] = 0xffffffff;
    cpu->s.gpr[EAX] = 0;
    d = desc(0xae, 0, 0, false, 4) | 1u << DESC_REP | 1u << DESC_ADDR32;
    CHECK(run(helper_scas, 0, d, 0) == NEXT && cpu->s.gpr[EDI] == 0x6100c && ~cpu->s.gpr[ECX] == 12 &&
          (cpu->s.eflags & FLAG_ZF));
    memcpy(ram + 0x62000, "hello there", 12);
    cpu->s.gpr[ESI] = 0x61000;
    cpu->s.gpr[EDI] = 0x62000;
    cpu->s.gpr[ECX] = 12;
    CHECK(run(helper_cmps, 0, desc(0xa6, 0, 0, false, 4) | rep, 0) == NEXT && cpu->s.gpr[ECX] == 5);
    CHECK_MSG(!(cpu->s.eflags & (FLAG_ZF | FLAG_CF)), "'w' is above 't'");
}

static void test_string_restart(void)
{
    u32 rep = 2u << DESC_REP | 1u << DESC_ADDR32;

    protected_mode(0);
    paging_on();
    store32(ram + PAGE_TABLE + 4 * 0x51, 0);
    cpu->s.gpr[ESI] = 0x30000;
    cpu->s.gpr[EDI] = 0x50ff0;
    cpu->s.gpr[ECX] = 16;
    CHECK(run(helper_movs, 0, desc(0xa5, 0, 0, false, 4) | rep, 0) == FAULT + VEC_PF);
    CHECK_MSG(cpu->s.gpr[ECX] == 12 && cpu->s.gpr[EDI] == 0x51000 && cpu->s.cr2 == 0x51000,
              "a fault leaves REP half done");
    store32(ram + PAGE_TABLE + 4 * 0x51, 0x51003);
    CHECK(run(helper_movs, 0, desc(0xa5, 0, 0, false, 4) | rep, 0) == NEXT && cpu->s.gpr[ECX] == 0);
    cpu->s.gpr[EDI] = 0x50000;
    cpu->s.gpr[ECX] = 0x800;
    cpu_attention(cpu, CPU_ATT_IRQ);
    CHECK(run(helper_stos, 0, desc(0xab, 0, 0, false, 4) | rep, 0) == EXITED);
    CHECK_MSG(cpu->s.gpr[ECX] && cpu->s.gpr[ECX] < 0x800 && cpu->s.eip == 0x6000, "attention interrupts REP");
    cpu->attention = 0;
    cpu->s.eflags |= FLAG_TF;
    x86_update_mode(cpu);
    u32 before = cpu->s.gpr[ECX];
    CHECK(run(helper_stos, 0, desc(0xab, 0, 0, false, 4) | rep, 0) == EXITED &&
          cpu->s.gpr[ECX] == before - 1);
}

/* ---- SMM, pins, debug ---- */

static int smm_calls;
static void smm_changed(void *opaque, bool active)
{
    (void)opaque;
    smm_calls += active ? 1 : 100;
}

static void test_smm(void)
{
    X86State before;
    CpuExit why;
    bool ran;

    protected_mode(3);
    paging_on();
    cpu_connect_smm(cpu, smm_changed, NULL);
    cpu->s.gpr[EDI] = 0xd1d1;
    before = cpu->s;
    irq_pulse(cpu_smi_line(cpu));
    CHECK(service(&why, &ran) == NEXT && ran && cpu->s.smm && cpu->s.eip == 0x8000 &&
          cpu->s.seg[CS].base == 0x30000);
    CHECK(!(cpu->s.cr0 & (CR0_PE | CR0_PG)) && smm_calls == 1 && cpu->s.cpl == 0);
    CHECK(load32(ram + 0x3fefc) == 0x20000 && load32(ram + 0x3fef8) == 0x30000);
    CHECK(load32(ram + 0x3ffec) == 0xd1d1 && load32(ram + 0x3fff0) == 0x6000 &&
          load32(ram + 0x3fffc) == before.cr0);
    store32(ram + 0x3fef8, 0xa0000);
    CHECK(run(helper_rsm, 0, desc(0xaa, 0, 0, false, 4), 0) == EXITED && smm_calls == 101);
    CHECK_MSG(cpu->s.smbase == 0xa0000, "RSM takes the SMBASE from the map");
    before.smbase = 0xa0000;
    CHECK_MSG(!memcmp(&before, &cpu->s, sizeof(before)), "and everything else as it was");
    CHECK(run(helper_rsm, 0, desc(0xaa, 0, 0, false, 4), 0) == FAULT + VEC_UD);
}

static int ack_vector;
static int ack(void *opaque)
{
    (void)opaque;
    return ack_vector;
}

static void test_pins(void)
{
    CpuExit why = CPU_EXIT_STOP;
    bool ran = true;

    protected_mode(0);
    cpu_connect_intack(cpu, ack, NULL);
    ack_vector = 0x31;
    irq_set(cpu_intr_line(cpu), true);
    CHECK(!cpu_has_work(cpu) && service(&why, &ran) == NEXT && ran && cpu->s.eip == 0x6000);
    CHECK_MSG(run(helper_sti, 0, desc(0xfb, 0, 0, false, 4), 0) == EXITED && cpu->s.shadow == 1,
              "STI holds interrupts off");
    CHECK(service(&why, &ran) == NEXT && ran && cpu->s.eip == 0x6002);
    x86_stepped(cpu, false);
    CHECK(cpu->attention && service(&why, &ran) == NEXT && ran && cpu->s.eip == 0x100031);
    irq_set(cpu_intr_line(cpu), false);
    CHECK(run(helper_hlt, 0, desc(0xf4, 0, 0, false, 4), 0) == EXITED && service(&why, &ran) == NEXT && !ran);
    CHECK(why == CPU_EXIT_HALT && !cpu_has_work(cpu));
    irq_pulse(cpu_nmi_line(cpu));
    CHECK(cpu_has_work(cpu) && service(&why, &ran) == NEXT && ran && cpu->s.eip == 0x100002 &&
          !cpu->s.halted);
    irq_pulse(cpu_nmi_line(cpu));
    CHECK_MSG(!cpu_has_work(cpu), "a second NMI waits for IRET");
    CHECK(run(helper_iret, 0, desc(0xcf, 0, 0, false, 4), 0) == EXITED && cpu_has_work(cpu));
    irq_pulse(cpu_init_line(cpu));
    cpu->s.pat = 5;
    CHECK(service(&why, &ran) == NEXT && cpu->s.seg[CS].base == 0xffff0000 && cpu->s.eip == 0xfff0 &&
          cpu->s.pat == 5);
}

static int stepped(bool tf)
{
    cpu->fault_vector = -1;
    if (__builtin_setjmp(cpu->leave))
        return FAULT + cpu->fault_vector;
    x86_stepped(cpu, tf);
    return NEXT;
}

static void test_debug(void)
{
    Access a = { 0x30000, 0, 4, ACC_WRITE };

    protected_mode(0);
    CHECK(stepped(true) == FAULT + VEC_DB && (cpu->s.dr[6] & 1 << 14));
    cpu->s.gpr[EAX] = 0x30002;
    CHECK(run(helper_mov_dr, 0, desc(0x23, 1, EAX, true, 4), 0) == EXITED);
    cpu->s.gpr[EAX] = 1 << 2 | 1u << 20;
    CHECK(run(helper_mov_dr, 0, desc(0x23, 7, EAX, true, 4), 0) == EXITED && (cpu->mode & MODE_WATCH) &&
          (cpu->mode & MODE_STEP));
    CHECK(stepped(false) == NEXT);
    cpu->s.dr[6] = 0xffff0ff0;
    CHECK(try_access(&a) == NEXT && stepped(false) == FAULT + VEC_DB && (cpu->s.dr[6] & 15) == 2);
    a.access = ACC_READ;
    CHECK_MSG(try_access(&a) == NEXT && stepped(false) == NEXT, "a write breakpoint ignores reads");
    cpu->s.gpr[EAX] = 1 << 2;
    CHECK(run(helper_mov_dr, 0, desc(0x23, 7, EAX, true, 4), 0) == EXITED && !(cpu->mode & MODE_WATCH));
    cpu->s.eip = 0x30002;
    CHECK(stepped(false) == FAULT + VEC_DB);
    cpu->s.eflags |= FLAG_RF;
    cpu->rf_new = true;
    CHECK_MSG(stepped(false) == NEXT, "RF lets the instruction pass");
    CHECK_MSG(stepped(false) == FAULT + VEC_DB, "and only that one");
    cpu->s.gpr[EAX] = 1 << 13;
    CHECK(run(helper_mov_dr, 0, desc(0x23, 7, EAX, true, 4), 0) == EXITED);
    CHECK(run(helper_mov_dr, 0, desc(0x21, 7, EAX, true, 4), 0) == FAULT + VEC_DB &&
          (cpu->s.dr[6] & 1 << 13));
}

static void return_with(u32 flags)
{
    store32(ram + STACK0 - 12, 0x7000);
    store32(ram + STACK0 - 8, SEL_CODE0);
    store32(ram + STACK0 - 4, flags);
    cpu->s.gpr[ESP] = STACK0 - 12;
    run(helper_iret, 0, desc(0xcf, 0, 0, false, 4), 0);
}

static void test_rf_after_iret(void)
{
    protected_mode(0);
    return_with(FLAG_RF | 2);
    CHECK_MSG(!(cpu->s.eflags & FLAG_RF), "without breakpoints RF has done its work at once");
    return_with(FLAG_RF | FLAG_TF | 2);
    CHECK_MSG((cpu->s.eflags & FLAG_RF) && !cpu->rf_new,
              "an IRET that was not stepped itself: the next step ends RF");
    CHECK(stepped(true) == FAULT + VEC_DB && !(cpu->s.eflags & FLAG_RF));
    return_with(FLAG_RF | FLAG_TF | 2);
    CHECK_MSG(cpu->rf_new, "a stepped IRET: RF outlives its own step");
}

static void test_io_permission(void)
{
    protected_mode(3);
    CHECK(!x86_io_allowed(cpu, 0x60, 1));
    cpu->s.tr.limit = 0x68 + 0x20;
    CHECK(x86_io_allowed(cpu, 0x60, 1));
    ram[TSS + 0x68 + 0x60 / 8] = 2;
    CHECK(!x86_io_allowed(cpu, 0x61, 1) && x86_io_allowed(cpu, 0x60, 1) && !x86_io_allowed(cpu, 0x60, 2));
    CHECK_MSG(!x86_io_allowed(cpu, 0x1000, 1), "beyond the map everything is forbidden");
    cpu->s.eflags |= FLAG_IOPL;
    CHECK(x86_io_allowed(cpu, 0x61, 4));
}

static void test_misc(void)
{
    u32 addr32 = 1u << DESC_ADDR32;

    protected_mode(0);
    cpu->s.gpr[EAX] = 0x1234;
    CHECK(run(helper_aam, 0, desc(0xd4, 0, 0, false, 4), 0) == FAULT + VEC_DE);
    CHECK(run(helper_aam, 0, desc(0xd4, 0, 0, false, 4), 10) == NEXT && (cpu->s.gpr[EAX] & 0xffff) == 0x0502);
    cpu->s.gpr[EAX] = 0x9a;
    cpu->s.eflags &= ~FLAGS_ARITH;
    CHECK(run(helper_daa, 0, desc(0x27, 0, 0, false, 4), 0) == NEXT && (cpu->s.gpr[EAX] & 0xff) == 0 &&
          (cpu->s.eflags & FLAG_CF));
    for (u32 i = 0; i < 8; i++)
        cpu->s.gpr[i] = i == ESP ? STACK0 : 0x100 + i;
    CHECK(run(helper_pusha, 0, desc(0x60, 0, 0, false, 4), 0) == NEXT && cpu->s.gpr[ESP] == STACK0 - 32 &&
          top(3) == STACK0);
    cpu->s.gpr[EAX] = 0;
    CHECK(run(helper_popa, 0, desc(0x61, 0, 0, false, 4), 0) == NEXT && cpu->s.gpr[EAX] == 0x100 &&
          cpu->s.gpr[ESP] == STACK0);
    cpu->s.gpr[EBX] = 0xffffffff;      /* bit -1 */
    store32(ram + 0x2fffc, 0);
    CHECK(run(helper_bt_mem, 0x30000, desc(0xab, EBX, 0, false, 4) | addr32, 0) == NEXT &&
          load32(ram + 0x2fffc) == 0x80000000);
    cpu->s.gpr[EBP] = 0x7777;
    CHECK(run(helper_enter, 0, desc(0xc8, 0, 0, false, 4), 0x10) == NEXT && cpu->s.gpr[EBP] == STACK0 - 4);
    CHECK(cpu->s.gpr[ESP] == STACK0 - 20 && load32(ram + STACK0 - 4) == 0x7777);
    CHECK(run(helper_pushf, 0, desc(0x9c, 0, 0, false, 4), 0) == NEXT && top(0) == (cpu->s.eflags | 2));
    store32(ram + cpu->s.gpr[ESP], FLAG_TF | FLAG_IF | FLAG_CF);
    CHECK(run(helper_popf, 0, desc(0x9d, 0, 0, false, 4), 0) == EXITED && (cpu->mode & MODE_STEP) &&
          (cpu->s.eflags & FLAG_IF));
}

static void test_msr(void)
{
    u32 *r = cpu->s.gpr;

    protected_mode(0);
    r[ECX] = 0x174;
    r[EAX] = SEL_CODE0;
    r[EDX] = 0;
    CHECK(run(helper_wrmsr, 0, desc(0x30, 0, 0, false, 4), 0) == EXITED && cpu->s.sysenter_cs == SEL_CODE0);
    r[ECX] = 0x12345;
    CHECK(run(helper_rdmsr, 0, 0, 0) == FAULT + VEC_GP);
    r[ECX] = 0x277;
    r[EAX] = 2;
    CHECK_MSG(run(helper_wrmsr, 0, desc(0x30, 0, 0, false, 4), 0) == FAULT + VEC_GP,
              "PAT takes no reserved type");
    cpu->s.sysenter_eip = 0xabc;
    cpu->s.sysenter_esp = 0xdef0;
    CHECK(run(helper_sysenter, 0, 0, 0) == EXITED && cpu->s.eip == 0xabc && cpu->s.seg[SS].sel == SEL_DATA0);
    r[EDX] = 0x111;
    r[ECX] = 0x222;
    CHECK(run(helper_sysexit, 0, 0, 0) == EXITED && cpu->s.cpl == 3 && cpu->s.seg[CS].sel == SEL_CODE3 &&
          r[ESP] == 0x222);
}

static void test_save(void)
{
    Error err = { "" };
    SaveBuf a = { 0 }, b = { 0 };

    CHECK_MSG(device_class_tiles(&cpu_class, &err), "%s", err.text);
    protected_mode(3);
    cpu->s.gpr[ESI] = 0x51515151;
    device_save(&cpu->dev, &a);
    device_reset(&cpu->dev);
    CHECK(cpu->s.gpr[ESI] == 0 && cpu->s.cpl == 0);
    CHECK_MSG(device_load(&cpu->dev, a.data, a.len, &err), "%s", err.text);
    device_save(&cpu->dev, &b);
    CHECK(a.len == b.len && !memcmp(a.data, b.data, a.len) && cpu->s.cpl == 3 && cpu->tlb == cpu->tlb_set[1]);
    free(a.data);
    free(b.data);
}

int main(void)
{
    Error err = { "" };
    Config cfg;
    MemRegion *region;

    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES + (1 << 20), &err);
    region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    mem_map(m->mem, mem_mmio(m->mem, "chip", 0x1000, &chip_ops, NULL), 0x800000, 0, 0x1000, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    cpu = cpu_create(m, NULL, &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    if (!cpu)
        return test_end();
    m->cpu = cpu;
    test_paging_32();
    test_large_pages();
    test_pae();
    test_a20();
    test_segment_loads();
    test_lar_verr();
    test_interrupt_inner();
    test_iret_drops_inner_segments();
    test_call_gate();
    test_v86();
    test_double_fault();
    test_ext_bit();
    test_tasks();
    test_real_mode();
    test_prepare();
    test_alignment_check();
    test_strings();
    test_string_restart();
    test_smm();
    test_pins();
    test_debug();
    test_rf_after_iret();
    test_io_permission();
    test_misc();
    test_msr();
    test_save();
    return test_end();
}
