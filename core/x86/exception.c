/*
 * Exceptions, interrupts and what waits between instructions.
 *
 * A fault leaves its instruction by __builtin_longjmp to the dispatcher, which then delivers it here.
 * Delivery through real-mode vectors, interrupt, trap and task gates; contributory faults and the double
 * fault; SMI, INIT, NMI, INTR. Source: Intel SDM vol. 3, chapter 6 (interrupt and exception handling), 17.3
 * (debug exceptions), 20.1.4 (real mode), 20.3.3 (V86). Not modelled: machine checks.
 */
#include "../vm/log.h"

#include "fpu.h"
#include "system.h"

enum { ERROR_EXT = 1, ERROR_IDT = 2 };
enum { DR6_BS = 1 << 14, DR6_FIXED = 0x0ff0 };

/* ---- raising ---- */

static _Noreturn void leave_with(Cpu *cpu, int vector, bool has_error, u32 error)
{
    cpu->fault_vector = vector;
    cpu->fault_has_error = has_error;
    cpu->fault_error = error;
    cpu->access.pending = false;
    if (!cpu->leave[1])
        __builtin_trap();       /* our own bug: no dispatcher is at work */
    __builtin_longjmp(cpu->leave, 1);
}

_Noreturn void x86_raise(Cpu *cpu, int vector)
{
    leave_with(cpu, vector, false, 0);
}

_Noreturn void x86_raise_error(Cpu *cpu, int vector, u32 error)
{
    bool selector = vector >= VEC_TS && vector <= VEC_GP;

    if (selector && cpu->delivering >= 0 && cpu->delivering != DELIVER_SOFT)
        error |= ERROR_EXT;
    leave_with(cpu, vector, true, error);
}

_Noreturn void x86_page_fault(Cpu *cpu, u32 linear, u32 error)
{
    cpu->s.cr2 = linear;
    if (log_on(LOG_MMU))
        log_line("mmu: %08x page fault, error %x, at %04x:%08x", linear, error, cpu->s.seg[CS].sel, cpu->s.eip);
    leave_with(cpu, VEC_PF, true, error);
}

bool x86_fpu_error(Cpu *cpu)
{
    if (cpu->s.cr0 & CR0_NE)
        x86_raise(cpu, VEC_MF);
    if (cpu->s.ignne) {
        cpu->s.ignne = 0;
        return false;
    }
    cpu->s.ferr = 1;
    machine_lock(cpu->m);
    irq_set(cpu->irq13, true);
    machine_unlock(cpu->m);
    cpu->s.halted = 1;          /* the processor freezes in front of the instruction */
    cpu_attention(cpu, CPU_ATT_IRQ);
    return true;
}

/* ---- delivery ---- */

static void deliver_real(Cpu *cpu, int vector, u32 return_eip)
{
    u32 at = (u32)vector * 4, target;
    Stack st = stack_current(cpu);

    if (at + 3 > cpu->s.idt_limit)
        x86_raise_error(cpu, VEC_GP, at * 2 + ERROR_IDT);
    target = (u32)sys_read(cpu, cpu->s.idt_base + at, 4);
    stack_need(cpu, &st, 6);
    stack_push(cpu, &st, x86_get_eflags(cpu), 2);
    stack_push(cpu, &st, cpu->s.seg[CS].sel, 2);
    stack_push(cpu, &st, return_eip, 2);
    stack_commit(cpu, &st);
    cpu->s.seg[CS] = seg_real(cpu, CS, (u16)(target >> 16));
    cpu->s.eip = target & 0xffff;
    cpu->s.eflags &= ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
    x86_update_mode(cpu);
}

u32 x86_flags_image(const Cpu *cpu, int vector)
{
    u32 flags = x86_get_eflags(cpu);
    bool exception = cpu->delivering >= 0 && cpu->delivering < DELIVER_EXTERNAL;
    bool fault =
        vector != VEC_DB && vector != VEC_BP && vector != VEC_OF && vector != VEC_DF && vector != VEC_MC;

    return exception && fault ? flags | FLAG_RF : flags;
}

/* Everything about the code segment that a gate names, and its new privilege. */
static unsigned gate_target(Cpu *cpu, u16 sel, Desc *code)
{
    desc_load(cpu, sel, code, VEC_GP);
    if (!desc_is_code(code) || desc_dpl(code) > cpu->s.cpl)
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(code))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    if (!desc_conforming(code) && desc_dpl(code) < cpu->s.cpl) {
        if (in_v86(cpu) && desc_dpl(code) != 0)
            x86_raise_error(cpu, VEC_GP, sel & ~3);
        return desc_dpl(code);
    }
    if (in_v86(cpu))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    return cpu->s.cpl;
}

/* The stack of the more privileged level; its descriptor stays in *ss for the accessed bit. */
static Stack inner_stack(Cpu *cpu, unsigned cpl, Desc *ss)
{
    Stack st = { .user = cpl == 3 };
    u16 sel;

    x86_tss_stack(cpu, cpl, &sel, &st.esp);
    seg_check_stack(cpu, sel, ss, cpl, VEC_TS);
    st.ss = seg_from(sel, ss);
    st.error = sel & ~3;
    return st;
}

static void deliver_gate(Cpu *cpu, int vector, const Desc *gate, u32 return_eip, bool has_error, u32 error)
{
    unsigned type = desc_type(gate), size = type & 8 ? 4 : 2, cpl;
    u32 eip = gate->lo & 0xffff, flags = x86_flags_image(cpu, vector);
    bool v86 = in_v86(cpu), inner;
    u16 sel = (u16)(gate->lo >> 16);
    Stack st;
    Desc code, ss;

    if (size == 4)
        eip |= gate->hi & 0xffff0000u;
    cpl = gate_target(cpu, sel, &code);
    inner = cpl != cpu->s.cpl;
    st = inner ? inner_stack(cpu, cpl, &ss) : stack_current(cpu);
    stack_need(cpu, &st, size * (3 + (has_error ? 1 : 0) + (inner ? 2 : 0) + (v86 ? 4 : 0)));
    if (eip > desc_limit(&code))
        x86_raise_error(cpu, VEC_GP, 0);
    if (v86) {
        stack_push(cpu, &st, cpu->s.seg[GS].sel, size);
        stack_push(cpu, &st, cpu->s.seg[FS].sel, size);
        stack_push(cpu, &st, cpu->s.seg[DS].sel, size);
        stack_push(cpu, &st, cpu->s.seg[ES].sel, size);
    }
    if (inner) {
        stack_push(cpu, &st, cpu->s.seg[SS].sel, size);
        stack_push(cpu, &st, cpu->s.gpr[ESP], size);
    }
    stack_push(cpu, &st, flags, size);
    stack_push(cpu, &st, cpu->s.seg[CS].sel, size);
    stack_push(cpu, &st, return_eip, size);
    if (has_error)
        stack_push(cpu, &st, error, size);
    if (inner)
        desc_set_accessed(cpu, &ss);
    desc_set_accessed(cpu, &code);
    if (v86) {
        cpu->s.seg[ES] = cpu->s.seg[DS] = cpu->s.seg[FS] = cpu->s.seg[GS] = (Seg){ 0 };
    }
    if (inner)
        cpu->s.seg[SS] = st.ss;
    stack_commit(cpu, &st);
    cpu->s.eflags &= ~(FLAG_TF | FLAG_VM | FLAG_RF | FLAG_NT | (type & 1 ? 0 : FLAG_IF));
    seg_load_cs(cpu, sel, &code, cpl);
    cpu->s.eip = eip;
    x86_update_mode(cpu);
}

static void deliver_task(Cpu *cpu, const Desc *gate, u32 return_eip, bool has_error, u32 error)
{
    u16 sel = (u16)(gate->lo >> 16);
    Desc tss;

    if ((sel & 4) || !(sel & ~3) || !desc_fetch(cpu, sel, &tss) || desc_s(&tss) ||
        (desc_type(&tss) != SYS_TSS16 && desc_type(&tss) != SYS_TSS32))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(&tss))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    x86_task_switch(cpu, sel, 1, return_eip, has_error, error);
}

static void deliver_protected(Cpu *cpu, int vector, u32 return_eip, bool software, bool has_error, u32 error)
{
    u32 at = (u32)vector * 8, bad = at + ERROR_IDT;
    Desc gate;
    u64 both;

    if (at + 7 > cpu->s.idt_limit)
        x86_raise_error(cpu, VEC_GP, bad);
    gate.addr = cpu->s.idt_base + at;
    both = sys_read(cpu, gate.addr, 8);
    gate.lo = (u32)both;
    gate.hi = (u32)(both >> 32);
    if (desc_s(&gate) || !(1u << desc_type(&gate) & (1u << SYS_TASK_GATE | 1u << SYS_INT16 |
                                                     1u << SYS_TRAP16 | 1u << SYS_INT32 | 1u << SYS_TRAP32)))
        x86_raise_error(cpu, VEC_GP, bad);
    if (software && desc_dpl(&gate) < cpu->s.cpl)
        x86_raise_error(cpu, VEC_GP, bad);
    if (!desc_p(&gate))
        x86_raise_error(cpu, VEC_NP, bad);
    if (desc_type(&gate) == SYS_TASK_GATE)
        deliver_task(cpu, &gate, return_eip, has_error, error);
    else
        deliver_gate(cpu, vector, &gate, return_eip, has_error, error);
}

void x86_interrupt(Cpu *cpu, int vector, u32 return_eip, bool software, bool has_error, u32 error)
{
    x87_settle(cpu);
    if (cpu->delivering < 0)
        cpu->delivering = software ? DELIVER_SOFT : DELIVER_EXTERNAL;
    if (log_on(LOG_INT))
        log_line("interrupt %02x error %x cs:eip %04x:%08x cpl %u ss:esp %04x:%08x eax %08x cr2 %08x%s",
                 vector, error, cpu->s.seg[CS].sel, return_eip, cpu->s.cpl, cpu->s.seg[SS].sel,
                 cpu->s.gpr[ESP], cpu->s.gpr[EAX], cpu->s.cr2, software ? " software" : "");
    if (!(cpu->s.cr0 & CR0_PE))
        deliver_real(cpu, vector, return_eip);
    else if (!gate_deliver(cpu, vector, return_eip, software, has_error, error))
        deliver_protected(cpu, vector, return_eip, software, has_error, error);
    cpu->delivering = DELIVER_NONE;
    cpu->s.halted = 0;
    if (cpu->s.shadow) {
        cpu->s.shadow = 0;
        cpu->shadow_new = false;
        x86_update_mode(cpu);
    }
}

/* ---- faults ---- */

static bool contributory(int vector)
{
    return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* Does `second`, raised while `first` was being delivered, make a double fault? */
static bool makes_double(int first, int second)
{
    if (first == VEC_PF)
        return second == VEC_PF || contributory(second);
    return contributory(first) && contributory(second);
}

static void shut_down(Cpu *cpu)
{
    if (log_on(LOG_INT | LOG_CPU_RESET))
        log_line("the guest's CPU shut down: a fault while it delivered a double fault (cs:eip %04x:%08x)",
                 cpu->s.seg[CS].sel, cpu->s.eip);
    if (log_on(LOG_CPU_RESET))
        debug_reset_story(cpu);
    cpu->delivering = DELIVER_NONE;
    cpu->s.shutdown = 1;
    cpu_attention(cpu, CPU_ATT_IRQ);
}

void x86_deliver_fault(Cpu *cpu)
{
    int first = cpu->delivering, vector = cpu->fault_vector;
    bool has_error = cpu->fault_has_error;
    u32 error = cpu->fault_error;

    cpu->fault_vector = -1;
    if (log_on(LOG_CPU_RESET))
        debug_fault_story(cpu, first, vector, has_error, error);
    if (first == VEC_DF && (contributory(vector) || vector == VEC_PF)) {
        shut_down(cpu);
        return;
    }
    if (first >= 0 && first < DELIVER_EXTERNAL && makes_double(first, vector)) {
        vector = VEC_DF;
        has_error = true;
        error = 0;
    }
    cpu->delivering = vector;
    if (vector == VEC_DB)
        cpu->s.dr[7] &= ~(1u << 13);    /* GD */
    x86_interrupt(cpu, vector, cpu->s.eip, false, has_error, error);
}

/* ---- between instructions ---- */

bool x86_can_take_irq(const Cpu *cpu)
{
    return (cpu->s.eflags & FLAG_IF) && !cpu->s.shadow;
}

bool cpu_has_work(Cpu *cpu)
{
    const X86State *s = &cpu->s;

    return (s->intr && (s->eflags & FLAG_IF)) || (s->nmi_pending && !s->nmi_masked) ||
           ((s->smi_pending || s->init_pending) && !s->smm);
}

void x86_check_irq(Cpu *cpu)
{
    if (cpu_has_work(cpu))
        cpu_attention(cpu, CPU_ATT_IRQ);
}

/* DMA hit translated code: the queue is the main thread's, so under its lock. */
static void drain_code_writes(Cpu *cpu)
{
    machine_lock(cpu->m);
    if (cpu->code_write_count > ARRAY_LEN(cpu->code_writes)) {
        blocks_drop_all(cpu);
    } else {
        for (u32 i = 0; i < cpu->code_write_count; i++)
            blocks_written(cpu, cpu->code_writes[i][0], cpu->code_writes[i][1] >> 16,
                           cpu->code_writes[i][1] & 0xffff);
    }
    cpu->code_write_count = 0;
    machine_unlock(cpu->m);
}

/* INTR: asks the interrupt controller for the vector. False: it had none. */
static bool take_intr(Cpu *cpu)
{
    int vector;

    machine_lock(cpu->m);
    vector = cpu->intack ? cpu->intack(cpu->intack_opaque) : -1;
    machine_unlock(cpu->m);
    if (vector < 0)
        return false;
    x86_interrupt(cpu, vector, cpu->s.eip, false, false, 0);
    return true;
}

/* The highest event that may be taken; true: one was. */
static bool take_event(Cpu *cpu)
{
    X86State *s = &cpu->s;

    if (s->smi_pending && !s->smm) {
        s->smi_pending = 0;
        s->halted = 0;
        x86_enter_smm(cpu);
        return true;
    }
    if (s->init_pending && !s->smm) {
        x86_init_state(cpu);
        return true;
    }
    if (s->nmi_pending && !s->nmi_masked) {
        s->nmi_pending = 0;
        s->nmi_masked = 1;
        x86_interrupt(cpu, VEC_NMI, s->eip, false, false, 0);
        return true;
    }
    return s->intr && (s->eflags & FLAG_IF) && take_intr(cpu);
}

bool x86_service(Cpu *cpu, CpuExit *why)
{
    u32 bits = __atomic_exchange_n(&cpu->attention, 0, __ATOMIC_SEQ_CST);

    if (bits & CPU_ATT_CODE)
        drain_code_writes(cpu);
    if (bits & CPU_ATT_FLUSH)
        tlb_flush(cpu, true);
    if (bits & CPU_ATT_STOP) {
        cpu->s.tsc_at_save = clock_tsc(cpu->m);
        if (cpu->s.halted || cpu->s.shutdown || (bits & CPU_ATT_IRQ))
            cpu_attention(cpu, CPU_ATT_IRQ);
        *why = CPU_EXIT_STOP;
        return false;
    }
    if (cpu->s.shutdown) {
        cpu_attention(cpu, CPU_ATT_IRQ);
        *why = CPU_EXIT_SHUTDOWN;
        return false;
    }
    if (cpu->s.shadow && !cpu->s.halted)
        return true;            /* x86_stepped() looks again */
    if ((!cpu->debug.step || cpu->s.halted) && take_event(cpu))
        return true;
    if (cpu->s.halted) {
        cpu_attention(cpu, CPU_ATT_IRQ);
        *why = CPU_EXIT_HALT;
        return false;
    }
    return true;
}

/* Execution breakpoints are faults in front of the instruction, unless RF says it is being restarted. */
static void check_breakpoints(Cpu *cpu)
{
    u32 linear = cpu->s.seg[CS].base + cpu->s.eip, dr7 = cpu->s.dr[7];

    if (!(dr7 & 0xff) || (cpu->s.eflags & FLAG_RF))
        return;
    for (unsigned i = 0; i < 4; i++) {
        if ((dr7 >> (2 * i) & 3) && !(dr7 >> (16 + 4 * i) & 3) && cpu->s.dr[i] == linear) {
            cpu->s.dr[6] = (cpu->s.dr[6] & ~0xfu) | DR6_FIXED | 1u << i;
            x86_raise(cpu, VEC_DB);
        }
    }
}

void x86_stepped(Cpu *cpu, bool tf_before)
{
    u32 pending = cpu->debug_pending | (tf_before && !cpu->step_lost ? DR6_BS : 0);
    bool held = cpu->s.shadow == 2 && cpu->shadow_new;

    if (!cpu->shadow_new)
        cpu->s.shadow = 0;
    if (!cpu->rf_new)
        cpu->s.eflags &= ~FLAG_RF;
    cpu->shadow_new = cpu->rf_new = cpu->step_lost = false;
    x86_update_mode(cpu);
    x86_check_irq(cpu);
    if (held)
        return;
    cpu->debug_pending = 0;
    if (pending) {
        cpu->s.dr[6] |= pending | DR6_FIXED;
        x86_raise(cpu, VEC_DB);
    }
    check_breakpoints(cpu);
}
