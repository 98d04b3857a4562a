/*
 * Far transfers: JMP, CALL, RET, IRET, INT n, SYSENTER and SYSEXIT, with call gates, privilege changes and
 * V86.
 *
 * Every check comes before the first change of a register, so a fault finds the instruction not begun.
 * Source: Intel SDM vol. 2 (each instruction's pseudo code), vol. 3, 5.8 (privilege and transfers), 20.2
 * (V86).
 */
#include "fpu.h"
#include "system.h"

/* ---- stacks ---- */

Stack stack_current(const Cpu *cpu)
{
    return (Stack){ .ss = cpu->s.seg[SS], .esp = cpu->s.gpr[ESP], .user = cpu->s.cpl == 3 };
}

/* A frame may wrap at 64 KiB like its single pushes do, so each of them is looked at. */
void stack_need(Cpu *cpu, const Stack *st, u32 bytes)
{
    u32 mask = stack_mask(&st->ss);

    for (u32 at = 2; at <= bytes; at += 2) {
        if (!seg_ok(cpu, &st->ss, (st->esp - at) & mask, 2, ACC_WRITE))
            x86_raise_error(cpu, VEC_SS, st->error);
    }
}

void stack_push(Cpu *cpu, Stack *st, u32 value, unsigned size)
{
    u32 mask = stack_mask(&st->ss), at = (st->esp - size) & mask;

    if (!seg_ok(cpu, &st->ss, at, size, ACC_WRITE))
        x86_raise_error(cpu, VEC_SS, st->error);
    st->died |= mem_put(cpu, st->user, st->ss.base + at, value, size);
    st->esp = (st->esp & ~mask) | at;
}

void stack_commit(Cpu *cpu, const Stack *st)
{
    cpu->s.gpr[ESP] = st->esp;
}

void x86_tss_stack(Cpu *cpu, unsigned dpl, u16 *ss, u32 *esp)
{
    const Seg *tr = &cpu->s.tr;
    unsigned width = tr->attr & 8 ? 4 : 2;
    u32 at = width == 4 ? 4 + 8 * dpl : 2 + 4 * dpl;

    if (!(tr->attr & SEG_P) || at + 2 * width - 1 > tr->limit)
        x86_raise_error(cpu, VEC_TS, tr->sel & ~3);
    *esp = (u32)sys_read(cpu, tr->base + at, width);
    *ss = (u16)sys_read(cpu, tr->base + at + width, 2);
}

/* ---- far JMP and CALL ---- */

static void far_operand(Cpu *cpu, u32 ea, u32 desc, u64 imm, u16 *sel, u32 *offset)
{
    unsigned size = desc_size(desc);

    if (desc_opcode(desc) != 0xff) {
        *sel = (u16)(imm >> 32);
        *offset = (u32)imm;
        return;
    }
    if (desc_isreg(desc))
        x86_raise(cpu, VEC_UD);
    *offset = (u32)seg_read(cpu, (int)desc_seg(desc), ea, size);
    *sel = (u16)seg_read(cpu, (int)desc_seg(desc), (ea + size) & addr_mask(desc), 2);
}

/* Real and V86 mode: what JMP, CALL and RET load. */
static void load_real_cs(Cpu *cpu, u16 sel, u32 offset)
{
    if (offset > cpu->s.seg[CS].limit)
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.seg[CS] = seg_real(cpu, CS, sel);
    cpu->s.eip = offset;
    seg_refresh(cpu, CS);
}

/* A code segment as the direct target of JMP and CALL. */
static void check_direct(Cpu *cpu, u16 sel, const Desc *d, u32 offset)
{
    bool allowed = desc_conforming(d) ? desc_dpl(d) <= cpu->s.cpl
                                      : (sel & 3u) <= cpu->s.cpl && desc_dpl(d) == cpu->s.cpl;

    if (!allowed)
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    if (offset > desc_limit(d))
        x86_raise_error(cpu, VEC_GP, 0);
}

/* Gates and TSS descriptors: visible to this privilege, and present. */
static void check_system(Cpu *cpu, u16 sel, const Desc *d)
{
    if (desc_dpl(d) < cpu->s.cpl || desc_dpl(d) < (sel & 3u))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
}

/* TSS or task gate, for JMP (0) and CALL (1). */
static void switch_to_task(Cpu *cpu, u16 sel, Desc *d, int reason, u32 next_eip)
{
    check_system(cpu, sel, d);
    if (desc_type(d) == SYS_TASK_GATE) {
        sel = (u16)(d->lo >> 16);
        if ((sel & 4) || !(sel & ~3) || !desc_fetch(cpu, sel, d) || desc_s(d) ||
            (desc_type(d) != SYS_TSS16 && desc_type(d) != SYS_TSS32))
            x86_raise_error(cpu, VEC_GP, sel & ~3);
        if (!desc_p(d))
            x86_raise_error(cpu, VEC_NP, sel & ~3);
    }
    x86_task_switch(cpu, sel, reason, next_eip, false, 0);
}

/* The code segment that a call gate leads to. */
static u16 gate_code(Cpu *cpu, const Desc *gate, Desc *code, u32 *offset, bool jump)
{
    u16 sel = (u16)(gate->lo >> 16);

    desc_load(cpu, sel, code, VEC_GP);
    if (!desc_is_code(code) || desc_dpl(code) > cpu->s.cpl ||
        (jump && !desc_conforming(code) && desc_dpl(code) != cpu->s.cpl))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(code))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    *offset = gate->lo & 0xffff;
    if (desc_type(gate) == SYS_CALL32)
        *offset |= gate->hi & 0xffff0000u;
    return sel;
}

static bool is_task(const Desc *d)
{
    unsigned t = desc_type(d);

    return t == SYS_TSS16 || t == SYS_TSS32 || t == SYS_TASK_GATE;
}

static bool is_call_gate(const Desc *d) { return desc_type(d) == SYS_CALL16 || desc_type(d) == SYS_CALL32; }

static void jmp_protected(Cpu *cpu, u16 sel, u32 offset, u32 next_eip)
{
    Desc d, code;

    desc_load(cpu, sel, &d, VEC_GP);
    if (desc_is_code(&d)) {
        check_direct(cpu, sel, &d, offset);
        seg_load_cs(cpu, sel, &d, cpu->s.cpl);
    } else if (!desc_s(&d) && is_task(&d)) {
        switch_to_task(cpu, sel, &d, 0, next_eip);
        return;
    } else if (!desc_s(&d) && is_call_gate(&d)) {
        check_system(cpu, sel, &d);
        sel = gate_code(cpu, &d, &code, &offset, true);
        if (offset > desc_limit(&code))
            x86_raise_error(cpu, VEC_GP, 0);
        seg_load_cs(cpu, sel, &code, cpu->s.cpl);
    } else {
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    }
    cpu->s.eip = offset;
    seg_refresh(cpu, CS);
}

u32 HELPER helper_jmp_far(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u16 sel;
    u32 offset;

    x87_settle(cpu);
    far_operand(cpu, ea, desc, imm, &sel, &offset);
    if (in_protected(cpu))
        jmp_protected(cpu, sel, offset, x86_next_eip(cpu, desc));
    else
        load_real_cs(cpu, sel, offset);
    return X86_EXIT;
}

/* Call gate to a more privileged level: new stack, old SS:ESP, parameters, return address. */
static void call_inner(Cpu *cpu, const Desc *gate, u16 sel, Desc *code, u32 offset, u32 next_eip)
{
    unsigned size = desc_type(gate) == SYS_CALL32 ? 4 : 2, count = gate->hi & 31, cpl = desc_dpl(code);
    Stack st = { .user = cpl == 3 }, old = stack_current(cpu);
    u32 params[31];
    Desc ss;
    u16 new_ss;

    x86_tss_stack(cpu, cpl, &new_ss, &st.esp);
    seg_check_stack(cpu, new_ss, &ss, cpl, VEC_TS);
    st.ss = seg_from(new_ss, &ss);
    st.error = new_ss & ~3;
    stack_need(cpu, &st, (4 + count) * size);
    if (offset > desc_limit(code))
        x86_raise_error(cpu, VEC_GP, 0);
    for (unsigned i = 0; i < count; i++) {
        u32 at = (old.esp + i * size) & stack_mask(&old.ss);

        params[i] = (u32)seg_read(cpu, SS, at, size);
    }
    stack_push(cpu, &st, old.ss.sel, size);
    stack_push(cpu, &st, old.esp, size);
    for (unsigned i = count; i-- > 0;)
        stack_push(cpu, &st, params[i], size);
    stack_push(cpu, &st, cpu->s.seg[CS].sel, size);
    stack_push(cpu, &st, next_eip, size);
    desc_set_accessed(cpu, &ss);
    desc_set_accessed(cpu, code);
    st.ss.attr |= SEG_A;
    cpu->s.seg[SS] = st.ss;
    stack_commit(cpu, &st);
    seg_load_cs(cpu, sel, code, cpl);
    cpu->s.eip = offset;
    x86_update_mode(cpu);
}

/* A call that stays on its stack. */
static void call_same(Cpu *cpu, u16 sel, Desc *code, u32 offset, u32 next_eip, unsigned size)
{
    Stack st = stack_current(cpu);

    stack_need(cpu, &st, 2 * size);
    if (offset > desc_limit(code))
        x86_raise_error(cpu, VEC_GP, 0);
    stack_push(cpu, &st, cpu->s.seg[CS].sel, size);
    stack_push(cpu, &st, next_eip, size);
    desc_set_accessed(cpu, code);
    stack_commit(cpu, &st);
    seg_load_cs(cpu, sel, code, cpu->s.cpl);
    cpu->s.eip = offset;
    seg_refresh(cpu, CS);
}

static void call_protected(Cpu *cpu, u16 sel, u32 offset, u32 next_eip, unsigned size)
{
    Desc d, code;

    desc_load(cpu, sel, &d, VEC_GP);
    if (desc_is_code(&d)) {
        check_direct(cpu, sel, &d, offset);
        call_same(cpu, sel, &d, offset, next_eip, size);
    } else if (!desc_s(&d) && is_task(&d)) {
        switch_to_task(cpu, sel, &d, 1, next_eip);
    } else if (!desc_s(&d) && is_call_gate(&d)) {
        check_system(cpu, sel, &d);
        sel = gate_code(cpu, &d, &code, &offset, false);
        if (!desc_conforming(&code) && desc_dpl(&code) < cpu->s.cpl)
            call_inner(cpu, &d, sel, &code, offset, next_eip);
        else
            call_same(cpu, sel, &code, offset, next_eip, desc_type(&d) == SYS_CALL32 ? 4 : 2);
    } else {
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    }
}

u32 HELPER helper_call_far(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    Stack st;
    u16 sel;
    u32 offset;

    x87_settle(cpu);
    far_operand(cpu, ea, desc, imm, &sel, &offset);
    if (in_protected(cpu)) {
        call_protected(cpu, sel, offset, x86_next_eip(cpu, desc), size);
        return X86_EXIT;
    }
    st = stack_current(cpu);
    stack_need(cpu, &st, 2 * size);
    if (offset > cpu->s.seg[CS].limit)
        x86_raise_error(cpu, VEC_GP, 0);
    stack_push(cpu, &st, cpu->s.seg[CS].sel, size);
    stack_push(cpu, &st, x86_next_eip(cpu, desc), size);
    load_real_cs(cpu, sel, offset);
    stack_commit(cpu, &st);
    return X86_EXIT;
}

/* ---- far RET and IRET ---- */

/* The checks of a return's code segment; its privilege is the selector's RPL. */
static void check_return(Cpu *cpu, u16 sel, Desc *code, u32 eip)
{
    desc_load(cpu, sel, code, VEC_GP);
    if (!desc_is_code(code) || (sel & 3u) < cpu->s.cpl ||
        (desc_conforming(code) ? desc_dpl(code) > (sel & 3u) : desc_dpl(code) != (sel & 3u)))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(code))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    if (eip > desc_limit(code))
        x86_raise_error(cpu, VEC_GP, 0);
}

/*
 * To an outer level: its stack lies `at` bytes up on this one. release: bytes to drop from the outer stack,
 * too.
 */
static void return_outer(Cpu *cpu, u16 sel, Desc *code, u32 eip, u32 at, unsigned size, u32 release)
{
    u32 esp = stack_read(cpu, at, size), mask;
    u16 new_ss = (u16)stack_read(cpu, at + size, size);
    Desc ss;

    seg_check_stack(cpu, new_ss, &ss, sel & 3, VEC_GP);
    desc_set_accessed(cpu, &ss);
    seg_load_cs(cpu, sel, code, sel & 3);
    cpu->s.eip = eip;
    cpu->s.seg[SS] = seg_from(new_ss, &ss);
    mask = stack_mask(&cpu->s.seg[SS]);         /* a 16-bit stack leaves the inner ESP's high half in place */
    cpu->s.gpr[ESP] = (cpu->s.gpr[ESP] & ~mask) | ((esp + release) & mask);
    seg_drop_inner(cpu);
}

static void ret_protected(Cpu *cpu, unsigned size, u32 release)
{
    u32 eip = stack_read(cpu, 0, size);
    u16 sel = (u16)stack_read(cpu, size, size);
    Desc code;

    check_return(cpu, sel, &code, eip);
    if ((sel & 3u) == cpu->s.cpl) {
        seg_load_cs(cpu, sel, &code, cpu->s.cpl);
        cpu->s.eip = eip;
        stack_add(cpu, (s32)(2 * size + release));
        seg_refresh(cpu, CS);
    } else {
        return_outer(cpu, sel, &code, eip, 2 * size + release, size, release);
        x86_update_mode(cpu);
    }
}

u32 HELPER helper_ret_far(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    u32 release = desc_opcode(desc) == 0xca ? (u32)imm & 0xffff : 0, eip;
    u16 sel;
    (void)ea;

    x87_settle(cpu);
    if (in_protected(cpu)) {
        ret_protected(cpu, size, release);
        return X86_EXIT;
    }
    eip = stack_read(cpu, 0, size);
    sel = (u16)stack_read(cpu, size, size);
    load_real_cs(cpu, sel, eip);
    stack_add(cpu, (s32)(2 * size + release));
    return X86_EXIT;
}

/* RF matters only where single instructions are looked at; there it holds for the instruction after IRET. */
static void settle_rf(Cpu *cpu, bool was_stepping)
{
    if (!(cpu->mode & MODE_STEP))
        cpu->s.eflags &= ~FLAG_RF;
    cpu->rf_new = was_stepping && (cpu->s.eflags & FLAG_RF);
}

/* IF, IOPL and the rest as the privilege allows; RF only with 32-bit operands. */
static void iret_flags(Cpu *cpu, u32 value, unsigned size, unsigned old_cpl)
{
    u32 mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;

    if (size == 4)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (old_cpl <= iopl(cpu))
        mask |= FLAG_IF;
    if (old_cpl == 0)
        mask |= FLAG_IOPL | (size == 4 ? FLAG_VIF | FLAG_VIP : 0);
    x86_write_eflags(cpu, value, mask);
}

static void iret_to_v86(Cpu *cpu, u32 eip, u16 sel, u32 flags)
{
    static const u8 order[] = { SS, ES, DS, FS, GS };
    u32 esp = stack_read(cpu, 12, 4);
    u16 sels[5];

    for (unsigned i = 0; i < 5; i++)
        sels[i] = (u16)stack_read(cpu, 16 + 4 * i, 4);
    x86_set_cpl(cpu, 3);
    x86_write_eflags(cpu, flags,
                     FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM |
                         FLAG_AC | FLAG_ID | FLAG_VIF | FLAG_VIP);
    cpu->s.seg[CS] = seg_real(cpu, CS, sel);
    for (unsigned i = 0; i < 5; i++)
        cpu->s.seg[order[i]] = seg_real(cpu, order[i], sels[i]);
    cpu->s.gpr[ESP] = esp;
    cpu->s.eip = eip & 0xffff;
    x86_update_mode(cpu);
}

static void iret_task(Cpu *cpu, u32 next_eip)
{
    u16 link = (u16)sys_read(cpu, cpu->s.tr.base, 2);
    Desc d;

    if ((link & 4) || !(link & ~3) || !desc_fetch(cpu, link, &d) || desc_s(&d) ||
        (desc_type(&d) != SYS_TSS16_BUSY && desc_type(&d) != SYS_TSS32_BUSY))
        x86_raise_error(cpu, VEC_TS, link & ~3);
    if (!desc_p(&d))
        x86_raise_error(cpu, VEC_NP, link & ~3);
    x86_task_switch(cpu, link, 2, next_eip, false, 0);
}

static void iret_protected(Cpu *cpu, unsigned size)
{
    u32 eip = stack_read(cpu, 0, size), flags;
    u16 sel = (u16)stack_read(cpu, size, size);
    unsigned old_cpl = cpu->s.cpl;
    Desc code;

    flags = stack_read(cpu, 2 * size, size);
    if (size == 4 && (flags & FLAG_VM) && cpu->s.cpl == 0) {
        iret_to_v86(cpu, eip, sel, flags);
        return;
    }
    check_return(cpu, sel, &code, eip);
    if ((sel & 3u) == cpu->s.cpl) {
        seg_load_cs(cpu, sel, &code, cpu->s.cpl);
        cpu->s.eip = eip;
        stack_add(cpu, (s32)(3 * size));
    } else {
        return_outer(cpu, sel, &code, eip, 3 * size, size, 0);
    }
    iret_flags(cpu, flags, size, old_cpl);
    x86_update_mode(cpu);
}

static void iret_real(Cpu *cpu, unsigned size)
{
    u32 eip = stack_read(cpu, 0, size), flags, mask = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT;
    u16 sel = (u16)stack_read(cpu, size, size);

    flags = stack_read(cpu, 2 * size, size);
    if (size == 4)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (!in_v86(cpu))
        mask |= FLAG_IOPL;
    if (virtual_if(cpu)) {
        if (eip > cpu->s.seg[CS].limit)
            x86_raise_error(cpu, VEC_GP, 0);
        vme_write_flags(cpu, flags);
        mask = 0;
    }
    load_real_cs(cpu, sel, eip);
    stack_add(cpu, (s32)(3 * size));
    x86_write_eflags(cpu, flags, mask);
}

u32 HELPER helper_iret(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    bool stepping = (cpu->mode & MODE_STEP) != 0;
    (void)ea;
    (void)imm;

    x87_settle(cpu);
    if (in_v86(cpu) && iopl(cpu) < 3 && (!virtual_if(cpu) || size != 2))
        x86_raise_error(cpu, VEC_GP, 0);
    if (in_protected(cpu)) {
        if (cpu->s.eflags & FLAG_NT)
            iret_task(cpu, x86_next_eip(cpu, desc));
        else if (size != 4 || !gate_iret(cpu))
            iret_protected(cpu, size);
    } else {
        iret_real(cpu, size);
    }
    settle_rf(cpu, stepping);
    cpu->s.nmi_masked = cpu->s.smm ? cpu->s.nmi_masked : 0;
    x86_check_irq(cpu);
    return X86_EXIT;
}

/* ---- software interrupts ---- */

static u32 software(Cpu *cpu, int vector, u32 desc, bool checked)
{
    bool stepping = (cpu->mode & MODE_STEP) != 0;

    x86_interrupt(cpu, vector, x86_next_eip(cpu, desc), checked, false, 0);
    cpu->step_lost = stepping;
    return X86_EXIT;
}

u32 HELPER helper_int(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 mode = cpu->mode;
    (void)ea;
    if (in_v86(cpu) && vme_interrupt(cpu, imm & 0xff, x86_next_eip(cpu, desc))) {
        cpu->step_lost = (mode & MODE_STEP) != 0;
        return X86_EXIT;
    }
    return software(cpu, (int)(imm & 0xff), desc, true);
}

u32 HELPER helper_int3(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    return software(cpu, VEC_BP, desc, true);
}

u32 HELPER helper_int1(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    return software(cpu, VEC_DB, desc, false);
}

u32 HELPER helper_into(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    return cpu->s.eflags & FLAG_OF ? software(cpu, VEC_OF, desc, true) : X86_NEXT;
}

/* ---- fast system calls ---- */

static Seg flat_seg(u16 sel, u16 type, unsigned dpl)
{
    return (Seg){ 0, 0xffffffffu, sel, (u16)(type | SEG_S | SEG_P | SEG_DB | SEG_G | dpl << 5) };
}

u32 HELPER helper_sysenter(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u16 sel = (u16)(cpu->s.sysenter_cs & 0xfffc);
    (void)ea;
    (void)desc;
    (void)imm;

    x87_settle(cpu);
    if (!(cpu->s.cr0 & CR0_PE) || !sel)
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.gpr[ESP] = cpu->s.sysenter_esp;
    cpu->s.eip = cpu->s.sysenter_eip;
    if (!gate_fast_call(cpu, 0)) {
        x86_set_cpl(cpu, 0);
        cpu->s.seg[CS] = flat_seg(sel, SEG_CODE | SEG_RW | SEG_A, 0);
        cpu->s.seg[SS] = flat_seg(sel + 8, SEG_RW | SEG_A, 0);
        cpu->s.eflags &= ~FLAG_VM;
        x86_update_mode(cpu);
    }
    cpu->s.eflags &= ~(FLAG_IF | FLAG_RF);
    return X86_EXIT;
}

u32 HELPER helper_sysexit(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u16 sel = (u16)(cpu->s.sysenter_cs & 0xfffc);
    (void)ea;
    (void)desc;
    (void)imm;

    x87_settle(cpu);
    if (!in_protected(cpu) || cpu->s.cpl || !sel)
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.gpr[ESP] = cpu->s.gpr[ECX];
    cpu->s.eip = cpu->s.gpr[EDX];
    if (!gate_fast_call(cpu, 3)) {
        x86_set_cpl(cpu, 3);
        cpu->s.seg[CS] = flat_seg((u16)(sel + 16) | 3, SEG_CODE | SEG_RW | SEG_A, 3);
        cpu->s.seg[SS] = flat_seg((u16)(sel + 24) | 3, SEG_RW | SEG_A, 3);
        x86_update_mode(cpu);
    }
    return X86_EXIT;
}
