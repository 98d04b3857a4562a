/*
 * Virtual-8086 mode extensions: what INT n, PUSHF, POPF and IRET do in V86 mode when CR4.VME is set, and the
 * virtual interrupt flag (VIF, VIP in EFLAGS).
 *
 * Source: Intel SDM vol. 3, 20.3.3 (software interrupt handling, tables 20-2 and 20-3), 20.4 (PVI), vol. 2
 * (INT n, PUSHF, POPF, IRET, CLI, STI). CLI and STI themselves are in system.c.
 */
#include "system.h"

u32 vme_flags_image(const Cpu *cpu)
{
    u32 flags = x86_get_eflags(cpu);

    if (iopl(cpu) == 3)
        return flags;
    return (flags & ~(u32)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
}

void vme_write_flags(Cpu *cpu, u32 value)
{
    if ((value & FLAG_TF) || ((value & FLAG_IF) && (cpu->s.eflags & FLAG_VIP)))
        x86_raise_error(cpu, VEC_GP, 0);
    x86_write_eflags(cpu, (value & 0xffff) | (value & FLAG_IF ? FLAG_VIF : 0),
                     FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_VIF);
}

/* The TSS's bit for this vector, in the 32 bytes below the I/O map: set means by the IDT. */
static bool by_idt(Cpu *cpu, unsigned vector)
{
    const Seg *tr = &cpu->s.tr;
    u32 at;

    if (!(tr->attr & SEG_P) || !(tr->attr & 8) || tr->limit < 103)
        x86_raise_error(cpu, VEC_GP, 0);
    at = (u32)sys_read(cpu, tr->base + 102, 2) - 32 + (vector >> 3);
    if (at > tr->limit)
        x86_raise_error(cpu, VEC_GP, 0);
    return sys_read(cpu, tr->base + at, 1) >> (vector & 7) & 1;
}

bool vme_interrupt(Cpu *cpu, unsigned vector, u32 return_eip)
{
    u32 target;
    Stack st;

    if (!(cpu->s.cr4 & CR4_VME) || by_idt(cpu, vector)) {
        if (iopl(cpu) < 3)
            x86_raise_error(cpu, VEC_GP, 0);
        return false;
    }
    target = (u32)sys_read(cpu, 4 * vector, 4);
    st = stack_current(cpu);
    stack_need(cpu, &st, 6);
    stack_push(cpu, &st, vme_flags_image(cpu), 2);
    stack_push(cpu, &st, cpu->s.seg[CS].sel, 2);
    stack_push(cpu, &st, return_eip, 2);
    stack_commit(cpu, &st);
    cpu->s.seg[CS] = seg_real(cpu, CS, (u16)(target >> 16));
    cpu->s.eip = target & 0xffff;
    cpu->s.eflags &= ~(u32)(FLAG_TF | (iopl(cpu) == 3 ? FLAG_IF : FLAG_VIF));
    x86_update_mode(cpu);
    return true;
}
