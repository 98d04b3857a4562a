/*
 * The common shapes of interrupts and returns, straight: protected mode, 32-bit interrupt and trap gates,
 * flat segments, a stack frame within one page that the TLB knows. transfer.c and exception.c come here
 * first and take the long way for everything else, faults included: nothing here raises, and nothing is
 * changed before the last check.
 *
 * Gate, descriptors and TSS are read where they lie each time and compared with what a flat segment looks
 * like. That is as quick as a copy would be, and whoever writes to them by whatever address is seen.
 * Source: Intel SDM vol. 3, 6.12 (delivery), 6.14.
 */
#include "system.h"

/* The high word of a descriptor without DPL (bits 13, 14) and AVL (20); the low word of a limit of 4 GiB. */
enum { FLAT_LOW = 0xffff, FLAT_CODE = 0x00cf9b00, FLAT_DATA = 0x00cf9300, ANY_DPL_AVL = 0x00106000 };

static u64 flat_descriptor(u32 high) { return (u64)high << 32 | FLAT_LOW; }

static unsigned dpl_of(u64 descriptor) { return (unsigned)(descriptor >> 45) & 3; }

/* The GDT's descriptor if it is this flat one, accessed, present; else 0. */
static u64 flat_in_gdt(const Cpu *cpu, u16 sel, u32 high)
{
    const u8 *at;
    u64 d;

    if ((sel & 4) || sel < 8 || (sel | 7u) > cpu->s.gdt_limit)
        return 0;
    at = tlb_hit(cpu->tlb_set[0]->read, cpu->s.gdt_base + (sel & ~7u), 8);
    if (!at)
        return 0;
    d = load64(at);
    return (d & ~((u64)ANY_DPL_AVL << 32)) == flat_descriptor(high) ? d : 0;
}

static Seg flat_from(u16 sel, u64 d) { return (Seg){ 0, 0xffffffffu, sel, (u16)(d >> 40 & 0xf0ff) }; }

/* Single steps, breakpoints and alignment checks are not for here. */
static bool plain_mode(const Cpu *cpu)
{
    return (cpu->mode & (MODE_PROT | MODE_STEP | MODE_WATCH | MODE_AC)) == MODE_PROT;
}

static bool flat_stack(const Cpu *cpu)
{
    return mode_seg_class(cpu->mode, SS) == SEG_FLAT && (cpu->mode & MODE_SS32);
}

/* CS and SS are flat and of 32 bits: that is all of the mode that they decide. */
static void flat_mode(Cpu *cpu, unsigned cpl)
{
    cpu->mode = (cpu->mode & ~(3u << (MODE_SEG_SHIFT + 2 * CS) | 3u << (MODE_SEG_SHIFT + 2 * SS))) |
                MODE_CS32 | MODE_SS32;
    x86_set_cpl(cpu, cpl);
}

/* The inner stack that a 32-bit TSS names. */
static bool inner_stack(const Cpu *cpu, unsigned cpl, Seg *ss, u32 *esp)
{
    const Seg *tr = &cpu->s.tr;
    u32 at = 4 + 8 * cpl;
    const u8 *host;
    u16 sel;
    u64 d;

    if ((tr->attr & (SEG_P | 8)) != (SEG_P | 8) || at + 7 > tr->limit)
        return false;
    host = tlb_hit(cpu->tlb_set[0]->read, tr->base + at, 8);
    if (!host)
        return false;
    *esp = load32(host);
    sel = load16(host + 4);
    d = (sel & 3) == cpl ? flat_in_gdt(cpu, sel, FLAT_DATA) : 0;
    *ss = flat_from(sel, d);
    return d && dpl_of(d) == cpl;
}

bool gate_deliver(Cpu *cpu, int vector, u32 return_eip, bool software, bool has_error, u32 error)
{
    u32 at = (u32)vector * 8, lo, hi, esp = cpu->s.gpr[ESP], bytes;
    unsigned cpl = cpu->s.cpl;
    const u8 *gate;
    u8 *frame;
    Seg ss;
    u64 code;

    if (!plain_mode(cpu) || at + 7 > cpu->s.idt_limit)
        return false;
    gate = tlb_hit(cpu->tlb_set[0]->read, cpu->s.idt_base + at, 8);
    if (!gate)
        return false;
    lo = load32(gate);
    hi = load32(gate + 4);
    if ((hi & 0x9e00) != 0x8e00 || (software && (hi >> 13 & 3) < cpl))
        return false;           /* not present, not a 32-bit interrupt or trap gate, not for this program */
    code = flat_in_gdt(cpu, (u16)(lo >> 16), FLAT_CODE);
    if (!code || dpl_of(code) > cpl)
        return false;
    cpl = dpl_of(code);
    bytes = 12 + (has_error ? 4 : 0);
    if (cpl != cpu->s.cpl) {
        bytes += 8;
        if (!inner_stack(cpu, cpl, &ss, &esp))
            return false;
    } else if (flat_stack(cpu)) {
        ss = cpu->s.seg[SS];
    } else {
        return false;
    }
    frame = (u8 *)(uintptr_t)tlb_hit(cpu->tlb_set[cpl == 3]->write, esp - bytes, bytes);
    if (!frame)
        return false;
    if (has_error) {
        store32(frame, error);
        frame += 4;
    }
    store32(frame, return_eip);
    store32(frame + 4, cpu->s.seg[CS].sel);
    store32(frame + 8, x86_flags_image(cpu, vector));
    if (cpl != cpu->s.cpl) {
        store32(frame + 12, cpu->s.gpr[ESP]);
        store32(frame + 16, cpu->s.seg[SS].sel);
    }
    cpu->s.eflags &= ~(FLAG_TF | FLAG_VM | FLAG_RF | FLAG_NT | (hi & 0x100 ? 0 : FLAG_IF));
    cpu->s.seg[CS] = flat_from((u16)((lo >> 16 & ~3u) | cpl), code);
    cpu->s.seg[SS] = ss;
    cpu->s.gpr[ESP] = esp - bytes;
    cpu->s.eip = (lo & 0xffff) | (hi & 0xffff0000u);
    flat_mode(cpu, cpl);
    return true;
}

/* Would the outer level lose none of its data segments? */
static bool data_stays(const Cpu *cpu, unsigned cpl)
{
    static const u8 data[] = { ES, DS, FS, GS };

    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        u16 attr = cpu->s.seg[data[i]].attr;

        if ((attr & SEG_P) && SEG_DPL(attr) < cpl)
            return false;
    }
    return true;
}

bool gate_iret(Cpu *cpu)
{
    unsigned old = cpu->s.cpl, cpl;
    u32 esp = cpu->s.gpr[ESP], flags, mask = FLAGS_ARITH | FLAG_DF | FLAG_NT | FLAG_ID | FLAG_AC | FLAG_RF;
    const u8 *frame;
    Seg ss;
    u16 sel;
    u64 code;

    if (!plain_mode(cpu) || !flat_stack(cpu) || (cpu->s.eflags & FLAG_NT))
        return false;
    frame = tlb_hit(cpu->tlb->read, esp, 12);
    if (!frame)
        return false;
    sel = load16(frame + 4);
    flags = load32(frame + 8);
    cpl = sel & 3;
    code = flat_in_gdt(cpu, sel, FLAT_CODE);
    if (!code || dpl_of(code) != cpl || cpl < old || (flags & (FLAG_VM | FLAG_TF | FLAG_AC)) ||
        ((flags ^ cpu->s.eflags) & (FLAG_VIF | FLAG_VIP)))
        return false;
    ss = cpu->s.seg[SS];
    if (cpl == old) {
        esp += 12;
    } else {
        u64 d;

        frame = tlb_hit(cpu->tlb->read, esp, 20);
        if (!frame || !data_stays(cpu, cpl))
            return false;
        ss.sel = load16(frame + 16);
        d = (ss.sel & 3u) == cpl ? flat_in_gdt(cpu, ss.sel, FLAT_DATA) : 0;
        if (!d || dpl_of(d) != cpl)
            return false;
        ss = flat_from(ss.sel, d);
        esp = load32(frame + 12);
    }
    if (old <= (cpu->s.eflags >> 12 & 3))
        mask |= FLAG_IF;
    if (old == 0)
        mask |= FLAG_IOPL;
    cpu->s.eip = load32(frame);
    cpu->s.eflags = (cpu->s.eflags & ~mask) | (flags & mask & ~(u32)FLAG_RF);
    cpu->s.seg[CS] = flat_from(sel, code);
    cpu->s.seg[SS] = ss;
    cpu->s.gpr[ESP] = esp;
    cpu->mode = (cpu->mode & ~MODE_DF) | (cpu->s.eflags & FLAG_DF ? MODE_DF : 0);
    flat_mode(cpu, cpl);
    return true;
}

bool gate_load(Cpu *cpu, int seg, u16 sel)
{
    u64 d = flat_in_gdt(cpu, sel, FLAT_DATA);

    if (!d || dpl_of(d) < cpu->s.cpl || dpl_of(d) < (sel & 3u))
        return false;
    cpu->s.seg[seg] = flat_from(sel, d);
    cpu->mode &= ~(3u << (MODE_SEG_SHIFT + 2 * seg));
    return true;
}

bool gate_fast_call(Cpu *cpu, unsigned cpl)
{
    u32 sel = cpu->s.sysenter_cs & 0xfffc;

    if (!plain_mode(cpu) || (cpu->s.eflags & FLAG_AC))
        return false;
    sel += cpl ? 16 + 3 : 0;
    cpu->s.seg[CS] = flat_from((u16)sel, flat_descriptor(FLAT_CODE | cpl << 13));
    cpu->s.seg[SS] = flat_from((u16)(sel + 8), flat_descriptor(FLAT_DATA | cpl << 13));
    flat_mode(cpu, cpl);
    return true;
}
