/*
 * Register and stack operands for C, and the instructions of user programs that are done in C: BCD,
 * PUSHA/POPA, PUSHF/POPF, BOUND, ARPL, ENTER, CMPXCHG8B, bit tests with a far-reaching index, RDTSC.
 *
 * Source: Intel SDM vol. 2. Flags that the manual leaves undefined: OF after DAA/DAS and the flags of
 * AAA/AAS are made as Intel's chips make them, where that is known; others stay as they were.
 */
#include "system.h"

/* ---- operands ---- */

u32 gpr_read(const Cpu *cpu, unsigned reg, unsigned size)
{
    switch (size) {
    case 1: return reg < 4 ? cpu->s.gpr[reg] & 0xff : cpu->s.gpr[reg - 4] >> 8 & 0xff;
    case 2: return cpu->s.gpr[reg] & 0xffff;
    default: return cpu->s.gpr[reg];
    }
}

void gpr_write(Cpu *cpu, unsigned reg, u32 value, unsigned size)
{
    u32 *r = &cpu->s.gpr[size == 1 ? reg & 3 : reg];

    if (size == 4)
        *r = value;
    else if (size == 2)
        *r = (*r & 0xffff0000u) | (value & 0xffff);
    else if (reg < 4)
        *r = (*r & 0xffffff00u) | (value & 0xff);
    else
        *r = (*r & 0xffff00ffu) | (value & 0xff) << 8;
}

u32 rm_read(Cpu *cpu, u32 ea, u32 desc, unsigned size)
{
    if (desc_isreg(desc))
        return gpr_read(cpu, desc_rm(desc), size);
    return (u32)seg_read(cpu, (int)desc_seg(desc), ea, size);
}

bool rm_write(Cpu *cpu, u32 ea, u32 desc, u32 value, unsigned size)
{
    if (!desc_isreg(desc))
        return seg_write(cpu, (int)desc_seg(desc), ea, value, size);
    gpr_write(cpu, desc_rm(desc), value, size);
    return false;
}

u32 stack_read(Cpu *cpu, u32 offset, unsigned size)
{
    return (u32)seg_read(cpu, SS, (cpu->s.gpr[ESP] + offset) & stack_mask(&cpu->s.seg[SS]), size);
}

void stack_add(Cpu *cpu, s32 bytes)
{
    u32 mask = stack_mask(&cpu->s.seg[SS]), esp = cpu->s.gpr[ESP];

    cpu->s.gpr[ESP] = (esp & ~mask) | ((esp + (u32)bytes) & mask);
}

bool push(Cpu *cpu, u32 value, unsigned size)
{
    bool died = seg_write(cpu, SS, (cpu->s.gpr[ESP] - size) & stack_mask(&cpu->s.seg[SS]), value, size);

    stack_add(cpu, -(s32)size);
    return died;
}

static void set_flags(Cpu *cpu, u32 mask, u32 value)
{
    cpu->s.eflags = (cpu->s.eflags & ~mask) | value;
}

/* SF, ZF, PF of a byte. */
static u32 szp(u8 v)
{
    return (v & 0x80 ? FLAG_SF : 0) | (v ? 0 : FLAG_ZF) | (__builtin_parity(v) ? 0 : FLAG_PF);
}

/* ---- exceptions as instructions ---- */

u32 HELPER helper_ud(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    x86_raise(cpu, VEC_UD);
}

u32 HELPER helper_gp(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    x86_raise_error(cpu, VEC_GP, 0);
}

u32 HELPER helper_nm(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    x86_raise(cpu, VEC_NM);
}

/* ---- BCD ---- */

static u32 adjust_add(Cpu *cpu, bool subtract)
{
    u8 al = (u8)cpu->s.gpr[EAX], old = al;
    u32 flags = cpu->s.eflags, out = 0;

    if ((al & 15) > 9 || (flags & FLAG_AF)) {
        bool carry = subtract ? al < 6 : al > 0xf9;

        al = subtract ? al - 6 : al + 6;
        out |= FLAG_AF | (carry ? FLAG_CF : 0);
    }
    if (old > 0x99 || (flags & FLAG_CF)) {
        al = subtract ? al - 0x60 : al + 0x60;
        out |= FLAG_CF;
    } else if (!subtract) {
        out &= ~FLAG_CF;
    }
    gpr_write(cpu, EAX, al, 1);
    /* OF: as if the adjustment were one addition or subtraction. */
    if (subtract ? (old & ~al & 0x80) : (~old & al & 0x80))
        out |= FLAG_OF;
    set_flags(cpu, FLAGS_ARITH, out | szp(al));
    return X86_NEXT;
}

u32 HELPER helper_daa(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    return adjust_add(cpu, false);
}

u32 HELPER helper_das(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    return adjust_add(cpu, true);
}

static u32 adjust_ascii(Cpu *cpu, s32 ax_step)
{
    u32 ax = cpu->s.gpr[EAX] & 0xffff, out = 0;
    u8 al;

    if ((ax & 15) > 9 || (cpu->s.eflags & FLAG_AF)) {
        ax = (ax + (u32)ax_step) & 0xffff;
        out = FLAG_AF | FLAG_CF;
    }
    al = (u8)ax;
    gpr_write(cpu, EAX, ax & 0xff0f, 2);
    set_flags(cpu, FLAGS_ARITH, out | szp(al & 15));
    return X86_NEXT;
}

u32 HELPER helper_aaa(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    return adjust_ascii(cpu, 0x106);
}

u32 HELPER helper_aas(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    return adjust_ascii(cpu, -0x106);
}

u32 HELPER helper_aam(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 base = (u32)imm & 0xff, al = cpu->s.gpr[EAX] & 0xff;
    (void)ea;
    (void)desc;

    if (!base)
        x86_raise(cpu, VEC_DE);
    gpr_write(cpu, EAX, al / base << 8 | al % base, 2);
    set_flags(cpu, FLAGS_ARITH, szp((u8)(al % base)));
    return X86_NEXT;
}

u32 HELPER helper_aad(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 ax = cpu->s.gpr[EAX] & 0xffff;
    u8 al = (u8)((ax & 0xff) + (ax >> 8) * ((u32)imm & 0xff));
    (void)ea;
    (void)desc;

    gpr_write(cpu, EAX, al, 2);
    set_flags(cpu, FLAGS_ARITH, szp(al));
    return X86_NEXT;
}

u32 HELPER helper_salc(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    gpr_write(cpu, EAX, cpu->s.eflags & FLAG_CF ? 0xff : 0, 1);
    return X86_NEXT;
}

/* ---- stack ---- */

u32 HELPER helper_pusha(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    u32 mask = stack_mask(&cpu->s.seg[SS]), esp = cpu->s.gpr[ESP];
    bool died = false;
    (void)ea;
    (void)imm;

    /* Both ends first: a fault must find nothing changed but memory below the stack. */
    seg_linear(cpu, SS, (esp - 8 * size) & mask, size, ACC_WRITE);
    for (unsigned i = 0; i < 8; i++)
        died |= seg_write(cpu, SS, (esp - (i + 1) * size) & mask, cpu->s.gpr[i], size);
    stack_add(cpu, -(s32)(8 * size));
    return go_on(cpu, desc, died);
}

u32 HELPER helper_popa(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    u32 value[8];
    (void)ea;
    (void)imm;

    for (unsigned i = 0; i < 8; i++)
        value[i] = stack_read(cpu, i * size, size);
    for (unsigned i = 0; i < 8; i++) {
        if (7 - i != ESP)
            gpr_write(cpu, 7 - i, value[i], size);
    }
    stack_add(cpu, (s32)(8 * size));
    return go_on(cpu, desc, false);
}

u32 HELPER helper_pushf(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    if (in_v86(cpu) && iopl(cpu) < 3) {
        if (!virtual_if(cpu) || desc_size(desc) != 2)
            x86_raise_error(cpu, VEC_GP, 0);
        return go_on(cpu, desc, push(cpu, vme_flags_image(cpu), 2));
    }
    return go_on(cpu, desc, push(cpu, x86_get_eflags(cpu) & ~(FLAG_VM | FLAG_RF), desc_size(desc)));
}

u32 HELPER helper_popf(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    u32 mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT, value, mode = cpu->mode;
    (void)ea;
    (void)imm;

    if (in_v86(cpu) && iopl(cpu) < 3) {
        if (!virtual_if(cpu) || size != 2)
            x86_raise_error(cpu, VEC_GP, 0);
        vme_write_flags(cpu, stack_read(cpu, 0, 2));
        stack_add(cpu, 2);
        return go_on(cpu, desc, cpu->mode != mode);
    }
    value = stack_read(cpu, 0, size);
    if (size == 4)
        mask |= FLAG_AC | FLAG_ID;
    if (cpu->s.cpl == 0)
        mask |= FLAG_IOPL;
    if (!(cpu->s.cr0 & CR0_PE) || cpu->s.cpl <= iopl(cpu))
        mask |= FLAG_IF;
    x86_write_eflags(cpu, value, mask);
    stack_add(cpu, (s32)size);
    return go_on(cpu, desc, cpu->mode != mode);
}

/* POP to memory. ESP in the operand's address already counts as popped. */
u32 HELPER helper_pop_mem(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    u32 value = stack_read(cpu, 0, size);
    bool died = seg_write(cpu, (int)desc_seg(desc), ea, value, size);
    (void)imm;

    stack_add(cpu, (s32)size);
    return go_on(cpu, desc, died);
}

u32 HELPER helper_enter(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc), level = (u32)imm >> 16 & 31;
    u32 bytes = (u32)imm & 0xffff, mask = stack_mask(&cpu->s.seg[SS]);
    u32 esp = cpu->s.gpr[ESP], ebp = cpu->s.gpr[EBP], frame;
    bool died;
    (void)ea;

    esp = (esp & ~mask) | ((esp - size) & mask);
    died = seg_write(cpu, SS, esp & mask, ebp, size);
    frame = esp;
    for (unsigned i = 1; i < level; i++) {
        u32 outer;

        ebp = (ebp & ~mask) | ((ebp - size) & mask);
        outer = (u32)seg_read(cpu, SS, ebp & mask, size);
        esp = (esp & ~mask) | ((esp - size) & mask);
        died |= seg_write(cpu, SS, esp & mask, outer, size);
    }
    if (level) {
        esp = (esp & ~mask) | ((esp - size) & mask);
        died |= seg_write(cpu, SS, esp & mask, frame, size);
    }
    esp = (esp & ~mask) | ((esp - bytes) & mask);
    lin_probe(cpu, seg_linear(cpu, SS, esp & mask, 1, ACC_WRITE), 1, ACC_WRITE);
    gpr_write(cpu, EBP, frame, size);
    cpu->s.gpr[ESP] = esp;
    return go_on(cpu, desc, died);
}

/* ---- the rest ---- */

u32 HELPER helper_bound(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    int seg = (int)desc_seg(desc);
    s32 index, low, high;
    (void)imm;

    if (desc_isreg(desc))
        x86_raise(cpu, VEC_UD);
    index = (s32)gpr_read(cpu, desc_reg(desc), size);
    low = (s32)seg_read(cpu, seg, ea, size);
    high = (s32)seg_read(cpu, seg, (ea + size) & addr_mask(desc), size);
    if (size == 2) {
        index = (s16)index;
        low = (s16)low;
        high = (s16)high;
    }
    if (index < low || index > high)
        x86_raise(cpu, VEC_BR);
    return X86_NEXT;
}

u32 HELPER helper_arpl(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 dest, rpl = gpr_read(cpu, desc_reg(desc), 2) & 3;
    bool died = false;
    (void)imm;

    if (!in_protected(cpu))
        x86_raise(cpu, VEC_UD);
    dest = rm_read(cpu, ea, desc, 2);
    if ((dest & 3) < rpl) {
        died = rm_write(cpu, ea, desc, (dest & ~3u) | rpl, 2);
        cpu->s.eflags |= FLAG_ZF;
    } else {
        cpu->s.eflags &= ~FLAG_ZF;
    }
    return go_on(cpu, desc, died);
}

u32 HELPER helper_bt_mem(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc), op = desc_opcode(desc) >> 3 & 3;     /* A3 AB B3 BB: BT BTS BTR BTC */
    s32 index = (s32)gpr_read(cpu, desc_reg(desc), size);
    int seg = (int)desc_seg(desc);
    u32 value, bit, linear;
    bool died = false;
    (void)imm;

    if (size == 2)
        index = (s16)index;
    ea += (u32)(index >> (size == 2 ? 4 : 5)) * size;
    if (!desc_addr32(desc))
        ea &= 0xffff;
    bit = 1u << (index & (size == 2 ? 15 : 31));
    if (op) {
        linear = seg_linear(cpu, seg, ea, size, ACC_WRITE);
        lin_probe(cpu, linear, size, ACC_WRITE);
    } else {
        linear = seg_linear(cpu, seg, ea, size, ACC_READ);
    }
    value = (u32)lin_read(cpu, linear, size);
    set_flags(cpu, FLAG_CF, value & bit ? FLAG_CF : 0);
    if (op)
        died = lin_write(cpu, linear, op == 1 ? value | bit : op == 2 ? value & ~bit : value ^ bit, size);
    return go_on(cpu, desc, died);
}

u32 HELPER helper_rdtsc(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u64 tsc;
    (void)ea;
    (void)desc;
    (void)imm;

    if ((cpu->s.cr4 & CR4_TSD) && (cpu->s.cr0 & CR0_PE) && cpu->s.cpl)
        x86_raise_error(cpu, VEC_GP, 0);
    tsc = clock_tsc(cpu->m);
    cpu->s.gpr[EAX] = (u32)tsc;
    cpu->s.gpr[EDX] = (u32)(tsc >> 32);
    return X86_NEXT;
}

/* Two counters that count nothing. */
u32 HELPER helper_rdpmc(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    bool user = (cpu->s.cr0 & CR0_PE) && cpu->s.cpl && !(cpu->s.cr4 & CR4_PCE);
    (void)ea;
    (void)desc;
    (void)imm;

    if (user || cpu->s.gpr[ECX] > 1)
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.gpr[EAX] = cpu->s.gpr[EDX] = 0;
    return X86_NEXT;
}
