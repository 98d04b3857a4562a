/*
 * Hardware task switches: through a TSS or task gate by JMP, CALL, interrupts, and back by IRET with NT.
 *
 * Source: Intel SDM vol. 3, chapter 7. Order as there: the old state is saved, TR, CR3 and the registers are
 * loaded; what fails after that is the new task's fault. The new TSS is read whole before anything changes,
 * so a page fault on it finds the old task.
 */
#include "system.h"

enum { TASK_JMP = 0, TASK_CALL = 1, TASK_IRET = 2 };

/* Offsets in a TSS. The 16-bit one has 16-bit fields in the same order, without CR3, FS, GS. */
typedef struct {
    u8 eip, flags, gpr, seg, segs, ldt;
    u8 width, seg_step;
    u16 min_limit;
} Layout;
static const Layout layout16 = { 14, 16, 18, 34, 4, 42, 2, 2, 0x2b };
static const Layout layout32 = { 32, 36, 40, 72, 6, 96, 4, 4, 0x67 };
enum { TSS32_CR3 = 28, TSS32_TRAP = 100 };

typedef struct {
    u32 cr3, eip, flags, gpr[8];
    u16 seg[SEG_COUNT], ldt;
    bool trap;
} TaskState;

static const Layout *layout_of(unsigned type) { return type & 8 ? &layout32 : &layout16; }

static void save_old(Cpu *cpu, u32 next_eip, u32 flags)
{
    const Layout *l = layout_of(cpu->s.tr.attr & 15);
    u32 base = cpu->s.tr.base;

    sys_write(cpu, base + l->eip, next_eip, l->width);
    sys_write(cpu, base + l->flags, flags, l->width);
    for (unsigned i = 0; i < 8; i++)
        sys_write(cpu, base + l->gpr + i * l->width, cpu->s.gpr[i], l->width);
    for (unsigned i = 0; i < l->segs; i++)
        sys_write(cpu, base + l->seg + i * l->seg_step, cpu->s.seg[i].sel, 2);
}

static void read_new(Cpu *cpu, u32 base, const Layout *l, TaskState *t)
{
    *t = (TaskState){ .cr3 = cpu->s.cr3 };
    t->eip = (u32)sys_read(cpu, base + l->eip, l->width);
    t->flags = (u32)sys_read(cpu, base + l->flags, l->width);
    for (unsigned i = 0; i < 8; i++) {
        t->gpr[i] = (u32)sys_read(cpu, base + l->gpr + i * l->width, l->width);
        if (l->width == 2)
            t->gpr[i] |= 0xffff0000u;
    }
    for (unsigned i = 0; i < l->segs; i++)
        t->seg[i] = (u16)sys_read(cpu, base + l->seg + i * l->seg_step, 2);
    t->ldt = (u16)sys_read(cpu, base + l->ldt, 2);
    if (l->width == 4) {
        t->cr3 = (u32)sys_read(cpu, base + TSS32_CR3, 4);
        t->trap = sys_read(cpu, base + TSS32_TRAP, 2) & 1;
    }
}

static void set_busy(Cpu *cpu, u16 sel, bool busy)
{
    Desc d;

    if (!desc_fetch(cpu, sel, &d))
        return;
    d.hi = busy ? d.hi | 2 << 8 : d.hi & ~(2u << 8);
    sys_write(cpu, d.addr + 5, d.hi >> 8 & 0xff, 1);
}

/*
 * Of the new task: LDT, then SS, CS and the data segments; all faults here are #TS (or #NP, #SS) in the new
 * task.
 */
static void load_ldt(Cpu *cpu, u16 sel)
{
    Desc d;

    cpu->s.ldtr = (Seg){ .sel = sel };
    if (!(sel & ~3))
        return;
    if ((sel & 4) || !desc_fetch(cpu, sel, &d) || desc_s(&d) || desc_type(&d) != SYS_LDT || !desc_p(&d))
        x86_raise_error(cpu, VEC_TS, sel & ~3);
    cpu->s.ldtr = seg_from(sel, &d);
}

static void load_code(Cpu *cpu, u16 sel)
{
    Desc d;

    desc_load(cpu, sel, &d, VEC_TS);
    if (!desc_is_code(&d) || (desc_conforming(&d) ? desc_dpl(&d) > (sel & 3u) : desc_dpl(&d) != (sel & 3u)))
        x86_raise_error(cpu, VEC_TS, sel & ~3);
    if (!desc_p(&d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    desc_set_accessed(cpu, &d);
    cpu->s.seg[CS] = seg_from(sel, &d);
}

static void load_data(Cpu *cpu, int seg, u16 sel)
{
    Desc d;

    if (!(sel & ~3))
        return;
    desc_load(cpu, sel, &d, VEC_TS);
    if (!desc_s(&d) || (desc_is_code(&d) && !(desc_type(&d) & SEG_RW)))
        x86_raise_error(cpu, VEC_TS, sel & ~3);
    if (!(desc_is_code(&d) && desc_conforming(&d)) &&
        (desc_dpl(&d) < (sel & 3u) || desc_dpl(&d) < cpu->s.cpl))
        x86_raise_error(cpu, VEC_TS, sel & ~3);
    if (!desc_p(&d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    desc_set_accessed(cpu, &d);
    cpu->s.seg[seg] = seg_from(sel, &d);
}

static void load_segments(Cpu *cpu, const TaskState *t)
{
    static const u8 data[] = { ES, DS, FS, GS };
    Desc ss;

    if (in_v86(cpu)) {
        for (int i = 0; i < SEG_COUNT; i++)
            cpu->s.seg[i] = seg_real(cpu, i, t->seg[i]);
        return;
    }
    load_code(cpu, t->seg[CS]);
    seg_check_stack(cpu, t->seg[SS], &ss, cpu->s.cpl, VEC_TS);
    desc_set_accessed(cpu, &ss);
    cpu->s.seg[SS] = seg_from(t->seg[SS], &ss);
    for (unsigned i = 0; i < 4; i++)
        load_data(cpu, data[i], t->seg[data[i]]);
}

/* The registers of the new task; segments hold only their selectors until their descriptors are checked. */
static void load_registers(Cpu *cpu, const TaskState *t, int reason)
{
    if ((cpu->s.cr0 & CR0_PG) && t->cr3 != cpu->s.cr3)
        x86_set_cr3(cpu, t->cr3);
    for (int i = 0; i < 8; i++)
        cpu->s.gpr[i] = t->gpr[i];
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->s.seg[i] = (Seg){ .sel = t->seg[i] };
    cpu->s.eip = t->eip;
    x86_write_eflags(cpu, t->flags | (reason == TASK_CALL ? FLAG_NT : 0),
                     FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM |
                         FLAG_AC | FLAG_ID | FLAG_VIF | FLAG_VIP);
    x86_set_cpl(cpu, in_v86(cpu) ? 3 : t->seg[CS] & 3);
    cpu->s.cr0 |= CR0_TS;
    cpu->s.dr[7] &= ~0x155u;        /* local breakpoints are the old task's */
}

void x86_task_switch(Cpu *cpu, u16 sel, int reason, u32 next_eip, bool has_error, u32 error)
{
    u32 flags = x86_get_eflags(cpu);
    u16 old = cpu->s.tr.sel;
    const Layout *l, *old_l = layout_of(cpu->s.tr.attr & 15);
    TaskState t;
    Desc d;

    if (!desc_fetch(cpu, sel, &d))
        x86_raise_error(cpu, VEC_TS, sel & ~3);
    l = layout_of(desc_type(&d));
    if (desc_limit(&d) < l->min_limit)
        x86_raise_error(cpu, VEC_TS, sel & ~3);
    if (!(cpu->s.tr.attr & SEG_P) || cpu->s.tr.limit < old_l->min_limit)
        x86_raise_error(cpu, VEC_TS, old & ~3);
    read_new(cpu, desc_base(&d), l, &t);
    mem_get(cpu, 0, d.addr + 5, 1);
    if (reason == TASK_IRET)
        flags &= ~FLAG_NT;
    save_old(cpu, next_eip, flags);
    if (reason == TASK_CALL)
        sys_write(cpu, desc_base(&d), old, 2);
    if (reason != TASK_CALL)
        set_busy(cpu, old, false);
    if (reason != TASK_IRET)
        set_busy(cpu, sel, true);
    d.hi |= 2 << 8;
    cpu->s.tr = seg_from(sel, &d);
    load_registers(cpu, &t, reason);
    x86_update_mode(cpu);
    load_ldt(cpu, t.ldt);
    load_segments(cpu, &t);
    x86_update_mode(cpu);
    if (has_error) {
        Stack st = stack_current(cpu);

        stack_push(cpu, &st, error, l->width);
        stack_commit(cpu, &st);
    }
    if (cpu->s.eip > cpu->s.seg[CS].limit)
        x86_raise_error(cpu, VEC_GP, 0);
    if (t.trap) {
        cpu->s.dr[6] |= 1u << 15 | 0x0ff0;
        x86_raise(cpu, VEC_DB);
    }
    x86_check_irq(cpu);
}
