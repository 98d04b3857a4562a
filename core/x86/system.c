/*
 * System instructions: control and debug registers, descriptor table registers, I/O ports, interrupt flag,
 * HLT, INVLPG.
 *
 * Source: Intel SDM vol. 3, 2.5 (control registers), 4.4.1 (PDPTEs), 17.2 (debug registers), vol. 1, 18.5
 * (I/O protection).
 */
#include "system.h"

static void need_cpl0(Cpu *cpu)
{
    if (cpu->s.cpl)
        x86_raise_error(cpu, VEC_GP, 0);
}

/* ---- EFLAGS ---- */

u32 x86_get_eflags(const Cpu *cpu) { return cpu->s.eflags | FLAG_1; }

void x86_write_eflags(Cpu *cpu, u32 value, u32 mask)
{
    u32 old = cpu->s.eflags, changed;

    cpu->s.eflags = (old & ~mask) | (value & mask) | FLAG_1;
    changed = old ^ cpu->s.eflags;
    if (changed & (FLAG_TF | FLAG_AC | FLAG_VM | FLAG_DF))
        x86_update_mode(cpu);
    if (changed & cpu->s.eflags & FLAG_IF)
        x86_check_irq(cpu);
}

/* ---- control registers ---- */

bool x86_load_pdptes(Cpu *cpu, u32 cr3)
{
    u64 entry[4];

    for (unsigned i = 0; i < 4; i++) {
        entry[i] = phys_read(cpu, (cr3 & ~31u) + 8 * i, 8);
        if ((entry[i] & 1) && (entry[i] & 0xfffffff0000001e6ull))
            return false;
    }
    for (unsigned i = 0; i < 4; i++)
        cpu->s.pdpte[i] = entry[i];
    return true;
}

void x86_set_cr0(Cpu *cpu, u32 value)
{
    u32 old = cpu->s.cr0, flush = CR0_PG | CR0_WP | CR0_PE;

    value &= CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    value |= CR0_ET;
    if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
        x86_raise_error(cpu, VEC_GP, 0);
    if ((value & CR0_PG) && !(old & CR0_PG) && (cpu->s.cr4 & CR4_PAE) && !x86_load_pdptes(cpu, cpu->s.cr3))
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.cr0 = value;
    if ((old ^ value) & flush)
        tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

void x86_set_cr3(Cpu *cpu, u32 value)
{
    bool pae = (cpu->s.cr0 & CR0_PG) && (cpu->s.cr4 & CR4_PAE);

    if (pae && !x86_load_pdptes(cpu, value))
        x86_raise_error(cpu, VEC_GP, 0);
    tlb_load_cr3(cpu, value);
    cpu->s.cr3 = value;
}

static u32 cr4_known(const Cpu *cpu)
{
    return (has(cpu, FEAT_VME) ? CR4_VME | CR4_PVI : 0) | (has(cpu, FEAT_TSC) ? CR4_TSD : 0) |
           (has(cpu, FEAT_DE) ? CR4_DE : 0) | (has(cpu, FEAT_PSE) ? CR4_PSE : 0) |
           (has(cpu, FEAT_PAE) ? CR4_PAE : 0) | (has(cpu, FEAT_MCE) ? CR4_MCE : 0) |
           (has(cpu, FEAT_PGE) ? CR4_PGE : 0) | (has(cpu, FEAT_MMX) ? CR4_PCE : 0) |
           (has(cpu, FEAT_FXSR) ? CR4_OSFXSR : 0) | (has(cpu, FEAT_SSE) ? CR4_OSXMMEXCPT : 0);
}

void x86_set_cr4(Cpu *cpu, u32 value)
{
    u32 old = cpu->s.cr4;

    if (value & ~cr4_known(cpu))
        x86_raise_error(cpu, VEC_GP, 0);
    if ((value & ~old & CR4_PAE) && (cpu->s.cr0 & CR0_PG) && !x86_load_pdptes(cpu, cpu->s.cr3))
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.cr4 = value;
    if ((old ^ value) & (CR4_PSE | CR4_PAE | CR4_PGE))
        tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

u32 HELPER helper_mov_cr(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned cr = desc_reg(desc);
    u32 value = cpu->s.gpr[desc_rm(desc)];
    (void)ea;
    (void)imm;

    if (cr == 1 || cr > 4)
        x86_raise(cpu, VEC_UD);
    need_cpl0(cpu);
    if (desc_opcode(desc) == 0x20) {
        const X86State *s = &cpu->s;

        cpu->s.gpr[desc_rm(desc)] = cr == 0 ? s->cr0 : cr == 2 ? s->cr2 : cr == 3 ? s->cr3 : s->cr4;
        return X86_NEXT;
    }
    switch (cr) {
    case 0: x86_set_cr0(cpu, value); break;
    case 2: cpu->s.cr2 = value; break;
    case 3: x86_set_cr3(cpu, value); break;
    default: x86_set_cr4(cpu, value); break;
    }
    return leave_next(cpu, desc);
}

u32 HELPER helper_mov_dr(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned dr = desc_reg(desc);
    u32 value = cpu->s.gpr[desc_rm(desc)];
    (void)ea;
    (void)imm;

    if (dr == 4 || dr == 5) {
        if (cpu->s.cr4 & CR4_DE)
            x86_raise(cpu, VEC_UD);
        dr += 2;
    }
    need_cpl0(cpu);
    if (cpu->s.dr[7] & 1 << 13) {
        cpu->s.dr[6] |= 1 << 13;
        x86_raise(cpu, VEC_DB);
    }
    if (desc_opcode(desc) == 0x21) {
        cpu->s.gpr[desc_rm(desc)] = cpu->s.dr[dr];
        return X86_NEXT;
    }
    if (dr == 6)
        value = (value & 0xffffefffu) | 0xffff0ff0u;
    else if (dr == 7)
        value = (value & 0xffff2fffu) | 0x400;
    cpu->s.dr[dr] = value;
    x86_update_mode(cpu);
    return leave_next(cpu, desc);
}

u32 HELPER helper_clts(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    need_cpl0(cpu);
    if (!(cpu->s.cr0 & CR0_TS))
        return X86_NEXT;
    cpu->s.cr0 &= ~CR0_TS;
    cpu->mode &= ~MODE_TS;
    return leave_next(cpu, desc);
}

/* ---- descriptor table registers, machine status word, INVLPG ---- */

static u32 store_table(Cpu *cpu, u32 ea, u32 desc, u32 base, u32 limit)
{
    int seg = (int)desc_seg(desc);
    u32 second = (ea + 2) & addr_mask(desc);
    bool died;

    lin_probe(cpu, seg_linear(cpu, seg, second, 4, ACC_WRITE), 4, ACC_WRITE);
    died = seg_write(cpu, seg, ea, limit & 0xffff, 2);
    died |= seg_write(cpu, seg, second, base, 4);
    return go_on(cpu, desc, died);
}

static u32 load_table(Cpu *cpu, u32 ea, u32 desc, u32 *base, u32 *limit)
{
    int seg = (int)desc_seg(desc);
    u32 new_limit, new_base;

    need_cpl0(cpu);
    new_limit = (u32)seg_read(cpu, seg, ea, 2);
    new_base = (u32)seg_read(cpu, seg, (ea + 2) & addr_mask(desc), 4);
    *limit = new_limit;
    *base = desc_size(desc) == 2 ? new_base & 0xffffff : new_base;
    return go_on(cpu, desc, false);
}

static u32 load_msw(Cpu *cpu, u32 ea, u32 desc)
{
    u32 value;

    need_cpl0(cpu);
    value = rm_read(cpu, ea, desc, 2) & 15;
    x86_set_cr0(cpu, (cpu->s.cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | value); /* PE can be set, not cleared */
    return leave_next(cpu, desc);
}

u32 HELPER helper_grp_0f01(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned op = desc_reg(desc);
    (void)imm;

    if (op == 5 || (desc_isreg(desc) && op != 4 && op != 6))
        x86_raise(cpu, VEC_UD);
    switch (op) {
    case 0:
        return store_table(cpu, ea, desc, cpu->s.gdt_base, cpu->s.gdt_limit);
    case 1:
        return store_table(cpu, ea, desc, cpu->s.idt_base, cpu->s.idt_limit);
    case 2:
        return load_table(cpu, ea, desc, &cpu->s.gdt_base, &cpu->s.gdt_limit);
    case 3:
        return load_table(cpu, ea, desc, &cpu->s.idt_base, &cpu->s.idt_limit);
    case 4:
        return go_on(cpu, desc, rm_write(cpu, ea, desc, cpu->s.cr0, desc_isreg(desc) ? desc_size(desc) : 2));
    case 6:
        return load_msw(cpu, ea, desc);
    default:
        need_cpl0(cpu);
        tlb_flush_page(cpu, cpu->s.seg[desc_seg(desc)].base + ea);
        return leave_next(cpu, desc);
    }
}

u32 HELPER helper_invd_wbinvd(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    need_cpl0(cpu);
    return X86_NEXT;            /* there is no cache to see */
}

/* ---- flags ---- */

u32 HELPER helper_cld(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    if (!(cpu->s.eflags & FLAG_DF))
        return X86_NEXT;
    cpu->s.eflags &= ~FLAG_DF;
    cpu->mode &= ~MODE_DF;
    return leave_next(cpu, desc);
}

u32 HELPER helper_std(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    if (cpu->s.eflags & FLAG_DF)
        return X86_NEXT;
    cpu->s.eflags |= FLAG_DF;
    cpu->mode |= MODE_DF;
    return leave_next(cpu, desc);
}

static void need_iopl(Cpu *cpu)
{
    if ((cpu->s.cr0 & CR0_PE) && cpu->s.cpl > iopl(cpu))
        x86_raise_error(cpu, VEC_GP, 0);
}

u32 HELPER helper_cli(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)desc;
    (void)imm;
    if (virtual_if(cpu)) {
        cpu->s.eflags &= ~(u32)FLAG_VIF;
        return X86_NEXT;
    }
    need_iopl(cpu);
    cpu->s.eflags &= ~FLAG_IF;
    return X86_NEXT;
}

/*
 * The one-instruction delay matters only if something waits to be taken now: what comes later is seen later
 * anyway.
 */
u32 HELPER helper_sti(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    bool was = (cpu->s.eflags & FLAG_IF) != 0;
    (void)ea;
    (void)imm;

    if (virtual_if(cpu)) {
        if (cpu->s.eflags & FLAG_VIP)
            x86_raise_error(cpu, VEC_GP, 0);
        cpu->s.eflags |= FLAG_VIF;
        return X86_NEXT;
    }
    need_iopl(cpu);
    cpu->s.eflags |= FLAG_IF;
    if (was || !__atomic_load_n(&cpu->s.intr, __ATOMIC_SEQ_CST))
        return X86_NEXT;
    x86_hold(cpu, 1);
    return leave_next(cpu, desc);
}

u32 HELPER helper_hlt(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    need_cpl0(cpu);
    cpu->s.halted = 1;
    cpu_attention(cpu, CPU_ATT_IRQ);
    return leave_next(cpu, desc);
}

/* ---- I/O ports ---- */

bool x86_io_allowed(Cpu *cpu, u32 port, unsigned size)
{
    const Seg *tr = &cpu->s.tr;
    u32 map, bits;

    if (!(cpu->s.cr0 & CR0_PE) || (!in_v86(cpu) && cpu->s.cpl <= iopl(cpu)))
        return true;
    if (!(tr->attr & SEG_P) || !(tr->attr & 8) || tr->limit < 103)
        return false;
    map = (u32)sys_read(cpu, tr->base + 102, 2) + (port >> 3);
    if (map + 1 > tr->limit)
        return false;
    bits = (u32)sys_read(cpu, tr->base + map, 2) >> (port & 7);
    return !(bits & ((1u << size) - 1));
}

static u32 io_port(Cpu *cpu, u32 desc, u64 imm, unsigned size)
{
    u32 port = desc_opcode(desc) & 8 ? cpu->s.gpr[EDX] & 0xffff : (u32)imm & 0xff;

    if (!x86_io_allowed(cpu, port, size))
        x86_raise_error(cpu, VEC_GP, 0);
    return port;
}

static unsigned io_size(u32 desc) { return desc_opcode(desc) & 1 ? desc_size(desc) : 1; }

u32 HELPER helper_in(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = io_size(desc);
    u32 port = io_port(cpu, desc, imm, size), value;
    (void)ea;

    machine_lock(cpu->m);
    value = port_read(cpu->m, port, size);
    machine_unlock(cpu->m);
    gpr_write(cpu, EAX, value, size);
    if (cpu->s.dr[7] & 0xff)
        watch_io(cpu, port, size);
    return go_on(cpu, desc, false);
}

u32 HELPER helper_out(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = io_size(desc);
    u32 port = io_port(cpu, desc, imm, size);
    (void)ea;

    machine_lock(cpu->m);
    port_write(cpu->m, port, gpr_read(cpu, EAX, size), size);
    machine_unlock(cpu->m);
    if (cpu->s.dr[7] & 0xff)
        watch_io(cpu, port, size);
    return go_on(cpu, desc, false);
}
