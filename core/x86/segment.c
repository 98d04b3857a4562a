/*
 * Segment registers and descriptors: loading with all checks, LAR/LSL/VERR/VERW, SLDT/STR/LLDT/LTR, and the
 * mode bits that translated code depends on.
 *
 * Source: Intel SDM vol. 3, chapter 5 (protection), vol. 2 (MOV, POP, LDS, LAR, LSL, VERR, LLDT, LTR).
 */
#include "fpu.h"
#include "system.h"

/* ---- what translated code knows of segments ---- */

static SegClass classify(const Cpu *cpu, int seg)
{
    const Seg *s = &cpu->s.seg[seg];
    bool code = s->attr & SEG_CODE;

    if (!code && (s->attr & SEG_EC))
        return SEG_SLOW;
    if (in_protected(cpu) &&
        ((s->attr & (SEG_P | SEG_S | SEG_RW)) != (SEG_P | SEG_S | SEG_RW) || (code && seg != CS)))
        return SEG_SLOW;
    if (s->limit < 15)
        return SEG_SLOW;
    return s->base == 0 && s->limit == 0xffffffffu ? SEG_FLAT : SEG_BASED;
}

static u32 segment_mode(Cpu *cpu, int seg)
{
    for (unsigned i = 0; i < 5; i++)
        cpu->seg_max[seg][i] = cpu->s.seg[seg].limit - ((1u << i) - 1);
    return (u32)classify(cpu, seg) << (MODE_SEG_SHIFT + 2 * seg);
}

/* MODE_CS32 and MODE_SS32 hang on the registers, too. */
static u32 width_mode(const Cpu *cpu)
{
    return (cpu->s.seg[CS].attr & SEG_DB ? MODE_CS32 : 0) | (cpu->s.seg[SS].attr & SEG_DB ? MODE_SS32 : 0);
}

void seg_refresh(Cpu *cpu, int seg)
{
    u32 mask = 3u << (MODE_SEG_SHIFT + 2 * seg) | MODE_CS32 | MODE_SS32;

    cpu->mode = (cpu->mode & ~mask) | segment_mode(cpu, seg) | width_mode(cpu);
}

void x86_update_mode(Cpu *cpu)
{
    const X86State *s = &cpu->s;
    u32 mode = width_mode(cpu), dr7 = s->dr[7];

    for (int seg = 0; seg < SEG_COUNT; seg++)
        mode |= segment_mode(cpu, seg);
    mode |= in_protected(cpu) ? MODE_PROT : 0;
    mode |= in_v86(cpu) ? MODE_V86 : 0;
    mode |= (s->eflags & FLAG_TF) || s->shadow || (dr7 & 0xff) || cpu->debug.step ? MODE_STEP : 0;
    mode |= cpu->debug.datas ? MODE_STEP | MODE_WATCH : 0;
    mode |= s->eflags & FLAG_DF ? MODE_DF : 0;
    mode |= s->cr0 & CR0_EM ? MODE_EM : 0;
    mode |= s->cr0 & CR0_TS ? MODE_TS : 0;
    mode |= s->cr0 & CR0_MP ? MODE_MP : 0;
    mode |= s->cr4 & CR4_OSFXSR ? MODE_OSFXSR : 0;
    mode |= (s->cr0 & CR0_AM) && (s->eflags & FLAG_AC) && s->cpl == 3 ? MODE_AC : 0;
    for (unsigned i = 0; i < 4; i++) {
        if ((dr7 >> (2 * i) & 3) && (dr7 >> (16 + 4 * i) & 1))      /* R/W 01 and 11: data */
            mode |= MODE_WATCH;
    }
    cpu->mode = mode;
    cpu->tlb = cpu->tlb_set[s->cpl == 3];
}

void x86_set_cpl(Cpu *cpu, unsigned cpl)
{
    cpu->s.cpl = (u8)cpl;
    cpu->tlb = cpu->tlb_set[cpl == 3];
}

/* ---- descriptors ---- */

u32 desc_limit(const Desc *d)
{
    u32 limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

    return d->hi & 0x800000 ? limit << 12 | 0xfff : limit;
}

bool desc_fetch(Cpu *cpu, u16 sel, Desc *d)
{
    u32 base = cpu->s.gdt_base, limit = cpu->s.gdt_limit, offset = sel & 0xfff8u;
    u64 both;

    if (sel & 4) {
        if (!(cpu->s.ldtr.attr & SEG_P))
            return false;
        base = cpu->s.ldtr.base;
        limit = cpu->s.ldtr.limit;
    }
    if (offset + 7 > limit)
        return false;
    d->addr = base + offset;
    both = sys_read(cpu, d->addr, 8);
    d->lo = (u32)both;
    d->hi = (u32)(both >> 32);
    return true;
}

void desc_load(Cpu *cpu, u16 sel, Desc *d, int vector)
{
    if (!(sel & ~3))
        x86_raise_error(cpu, vector, 0);
    if (!desc_fetch(cpu, sel, d))
        x86_raise_error(cpu, vector, sel & ~3);
}

Seg seg_from(u16 sel, const Desc *d)
{
    return (Seg){ desc_base(d), desc_limit(d), sel, d->hi >> 8 & 0xf0ff };
}

void desc_set_accessed(Cpu *cpu, Desc *d)
{
    if (d->hi & SEG_A << 8)
        return;
    d->hi |= SEG_A << 8;
    sys_write(cpu, d->addr + 5, d->hi >> 8 & 0xff, 1);
}

Seg seg_real(const Cpu *cpu, int seg, u16 sel)
{
    Seg s = cpu->s.seg[seg];

    s.sel = sel;
    s.base = (u32)sel << 4;
    if (in_v86(cpu)) {
        s.limit = 0xffff;
        s.attr = 0x00f3;
    } else if (seg == CS) {
        s.attr = 0x0093;        /* a jump in real mode makes code segments writable and 16-bit */
    }
    return s;
}

void seg_load_cs(Cpu *cpu, u16 sel, Desc *d, unsigned cpl)
{
    desc_set_accessed(cpu, d);
    cpu->s.seg[CS] = seg_from((u16)((sel & ~3u) | cpl), d);
    x86_set_cpl(cpu, cpl);
}

void seg_check_stack(Cpu *cpu, u16 sel, Desc *d, unsigned cpl, int vector)
{
    u32 error = sel & ~3;

    desc_load(cpu, sel, d, vector);
    if ((sel & 3) != cpl || !desc_is_writable_data(d) || desc_dpl(d) != cpl)
        x86_raise_error(cpu, vector, error);
    if (!desc_p(d))
        x86_raise_error(cpu, VEC_SS, error);
}

static void load_data(Cpu *cpu, int seg, u16 sel)
{
    Desc d;

    if (!(sel & ~3)) {
        cpu->s.seg[seg] = (Seg){ 0, 0, sel, 0 };
        return;
    }
    desc_load(cpu, sel, &d, VEC_GP);
    if (!desc_s(&d) || (desc_is_code(&d) && !(desc_type(&d) & SEG_RW)))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!(desc_is_code(&d) && desc_conforming(&d)) &&
        (desc_dpl(&d) < (sel & 3u) || desc_dpl(&d) < cpu->s.cpl))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(&d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    desc_set_accessed(cpu, &d);
    cpu->s.seg[seg] = seg_from(sel, &d);
}

void x86_load_seg(Cpu *cpu, int seg, u16 sel)
{
    x87_settle(cpu);
    if (!in_protected(cpu)) {
        cpu->s.seg[seg] = seg_real(cpu, seg, sel);
    } else if (seg == SS) {
        Desc d;

        seg_check_stack(cpu, sel, &d, cpu->s.cpl, VEC_GP);
        desc_set_accessed(cpu, &d);
        cpu->s.seg[SS] = seg_from(sel, &d);
    } else if (gate_load(cpu, seg, sel)) {
        return;
    } else {
        load_data(cpu, seg, sel);
    }
    seg_refresh(cpu, seg);
}

void seg_drop_inner(Cpu *cpu)
{
    static const u8 data[] = { ES, DS, FS, GS };

    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        Seg *s = &cpu->s.seg[data[i]];
        bool conforming = (s->attr & (SEG_CODE | SEG_EC)) == (SEG_CODE | SEG_EC);

        if ((s->attr & SEG_P) && !conforming && SEG_DPL(s->attr) < cpu->s.cpl)
            *s = (Seg){ 0 };
    }
}

/* ---- instructions ---- */

void x86_hold(Cpu *cpu, unsigned shadow)
{
    cpu->s.shadow = (u8)shadow;
    cpu->shadow_new = (cpu->mode & MODE_STEP) != 0;
    cpu->mode |= MODE_STEP;
}

/* A load to SS holds off interrupts and debug traps until after the next instruction. */
static u32 after_load(Cpu *cpu, u32 desc, int seg, u32 old_mode, bool died)
{
    if (seg == SS) {
        x86_hold(cpu, 2);
    }
    return died || cpu->mode != old_mode ? leave_next(cpu, desc) : go_on(cpu, desc, false);
}

u32 HELPER helper_mov_from_seg(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned seg = desc_reg(desc);
    (void)imm;

    if (seg >= SEG_COUNT)
        x86_raise(cpu, VEC_UD);
    if (desc_isreg(desc)) {
        gpr_write(cpu, desc_rm(desc), cpu->s.seg[seg].sel, desc_size(desc));
        return X86_NEXT;
    }
    return go_on(cpu, desc, seg_write(cpu, (int)desc_seg(desc), ea, cpu->s.seg[seg].sel, 2));
}

u32 HELPER helper_mov_to_seg(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    int seg = (int)desc_reg(desc);
    u32 mode = cpu->mode;
    (void)imm;

    if (seg >= SEG_COUNT || seg == CS)
        x86_raise(cpu, VEC_UD);
    x86_load_seg(cpu, seg, (u16)rm_read(cpu, ea, desc, 2));
    return after_load(cpu, desc, seg, mode, false);
}

static int stack_op_seg(u32 desc)
{
    switch (desc_opcode(desc)) {
    case 0x06: case 0x07: return ES;
    case 0x0e: return CS;
    case 0x16: case 0x17: return SS;
    case 0x1e: case 0x1f: return DS;
    case 0xa0: case 0xa1: return FS;
    default: return GS;
    }
}

u32 HELPER helper_push_seg(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    return go_on(cpu, desc, push(cpu, cpu->s.seg[stack_op_seg(desc)].sel, desc_size(desc)));
}

u32 HELPER helper_pop_seg(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    int seg = stack_op_seg(desc);
    u32 mode = cpu->mode, mask = stack_mask(&cpu->s.seg[SS]);
    u16 sel = (u16)stack_read(cpu, 0, desc_size(desc));
    u32 esp = cpu->s.gpr[ESP];
    (void)ea;
    (void)imm;

    x86_load_seg(cpu, seg, sel);
    cpu->s.gpr[ESP] = (esp & ~mask) | ((esp + desc_size(desc)) & mask);     /* the old stack's width counts */
    return after_load(cpu, desc, seg, mode, false);
}

u32 HELPER helper_lxs(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned size = desc_size(desc);
    u32 mode = cpu->mode, offset;
    int seg;
    u16 sel;
    (void)imm;

    if (desc_isreg(desc))
        x86_raise(cpu, VEC_UD);
    switch (desc_opcode(desc)) {
    case 0xc4: seg = ES; break;
    case 0xc5: seg = DS; break;
    case 0xb2: seg = SS; break;
    case 0xb4: seg = FS; break;
    default: seg = GS; break;
    }
    offset = (u32)seg_read(cpu, (int)desc_seg(desc), ea, size);
    sel = (u16)seg_read(cpu, (int)desc_seg(desc), (ea + size) & addr_mask(desc), 2);
    x86_load_seg(cpu, seg, sel);
    gpr_write(cpu, desc_reg(desc), offset, size);
    return after_load(cpu, desc, seg, mode, false);
}

/* The descriptor if LAR/LSL/VERR/VERW may see it at all; types: a bit for each system type allowed. */
static bool visible(Cpu *cpu, u16 sel, Desc *d, u32 types)
{
    if (!(sel & ~3) || !desc_fetch(cpu, sel, d))
        return false;
    if (!desc_s(d) && !(types >> desc_type(d) & 1))
        return false;
    if (desc_is_code(d) && desc_conforming(d))
        return true;
    return desc_dpl(d) >= cpu->s.cpl && desc_dpl(d) >= (sel & 3u);
}

static void set_zf(Cpu *cpu, bool zf)
{
    cpu->s.eflags = (cpu->s.eflags & ~FLAG_ZF) | (zf ? FLAG_ZF : 0);
}

/* What LAR and LSL share: the selector's descriptor, if the program may see it and its type is one of these;
 * ZF says so. */
static bool look_at(Cpu *cpu, u32 ea, u32 desc, u32 types, Desc *d)
{
    bool ok;

    if (!in_protected(cpu))
        x86_raise(cpu, VEC_UD);
    ok = visible(cpu, (u16)rm_read(cpu, ea, desc, 2), d, types);
    set_zf(cpu, ok);
    return ok;
}

u32 HELPER helper_lar(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 types = 1 << SYS_TSS16 | 1 << SYS_LDT | 1 << SYS_TSS16_BUSY | 1 << SYS_CALL16 | 1 << SYS_TASK_GATE |
                1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY | 1 << SYS_CALL32;
    Desc d;
    (void)imm;

    if (look_at(cpu, ea, desc, types, &d))
        gpr_write(cpu, desc_reg(desc), d.hi & 0x00f0ff00, desc_size(desc));
    return X86_NEXT;
}

u32 HELPER helper_lsl(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 types = 1 << SYS_TSS16 | 1 << SYS_LDT | 1 << SYS_TSS16_BUSY | 1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY;
    Desc d;
    (void)imm;

    if (look_at(cpu, ea, desc, types, &d))
        gpr_write(cpu, desc_reg(desc), desc_limit(&d), desc_size(desc));
    return X86_NEXT;
}

static void load_ldt(Cpu *cpu, u16 sel)
{
    Desc d;

    if (!(sel & ~3)) {
        cpu->s.ldtr = (Seg){ .sel = sel };
        return;
    }
    if ((sel & 4) || !desc_fetch(cpu, sel, &d) || desc_s(&d) || desc_type(&d) != SYS_LDT)
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(&d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    cpu->s.ldtr = seg_from(sel, &d);
}

static void load_tr(Cpu *cpu, u16 sel)
{
    Desc d;

    if (!(sel & ~3))
        x86_raise_error(cpu, VEC_GP, 0);
    if ((sel & 4) || !desc_fetch(cpu, sel, &d) || desc_s(&d) ||
        (desc_type(&d) != SYS_TSS16 && desc_type(&d) != SYS_TSS32))
        x86_raise_error(cpu, VEC_GP, sel & ~3);
    if (!desc_p(&d))
        x86_raise_error(cpu, VEC_NP, sel & ~3);
    d.hi |= 2 << 8;             /* busy */
    sys_write(cpu, d.addr + 5, d.hi >> 8 & 0xff, 1);
    cpu->s.tr = seg_from(sel, &d);
}

u32 HELPER helper_grp_0f00(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    unsigned op = desc_reg(desc);
    u16 sel;
    Desc d;
    (void)imm;

    if (!in_protected(cpu) || op > 5)
        x86_raise(cpu, VEC_UD);
    if (op < 2) {
        sel = op == 0 ? cpu->s.ldtr.sel : cpu->s.tr.sel;
        return go_on(cpu, desc, rm_write(cpu, ea, desc, sel, desc_isreg(desc) ? desc_size(desc) : 2));
    }
    if (op < 4 && cpu->s.cpl)
        x86_raise_error(cpu, VEC_GP, 0);
    sel = (u16)rm_read(cpu, ea, desc, 2);
    switch (op) {
    case 2:
        load_ldt(cpu, sel);
        break;
    case 3:
        load_tr(cpu, sel);
        break;
    case 4:
        set_zf(cpu, visible(cpu, sel, &d, 0) && (!desc_is_code(&d) || (desc_type(&d) & SEG_RW)));
        break;
    default:
        set_zf(cpu, visible(cpu, sel, &d, 0) && desc_is_writable_data(&d));
        break;
    }
    return go_on(cpu, desc, false);
}
