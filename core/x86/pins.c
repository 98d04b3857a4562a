/*
 * The CPU as a device: reset and INIT, its saved state, and the pins that the board drives.
 *
 * Source: Intel SDM vol. 3, table 9-1 (state after reset and INIT).
 * Threads: pins are driven by whoever holds the machine lock; the vCPU sees them through the attention flag.
 */
#include "system.h"

#define SAVE_SEG(reg) \
    SAVE(X86State, reg.base), SAVE(X86State, reg.limit), SAVE(X86State, reg.sel), SAVE(X86State, reg.attr)

static const SaveField cpu_fields[] = {
    SAVE(X86State, gpr), SAVE(X86State, eip), SAVE(X86State, eflags), SAVE(X86State, cr0),
    SAVE(X86State, cr2), SAVE(X86State, cr3), SAVE(X86State, cr4), SAVE(X86State, dr), SAVE_SEG(seg[ES]),
    SAVE_SEG(seg[CS]), SAVE_SEG(seg[SS]), SAVE_SEG(seg[DS]), SAVE_SEG(seg[FS]), SAVE_SEG(seg[GS]),
    SAVE_SEG(ldtr), SAVE_SEG(tr), SAVE(X86State, gdt_base), SAVE(X86State, gdt_limit),
    SAVE(X86State, idt_base), SAVE(X86State, idt_limit), SAVE(X86State, sysenter_cs),
    SAVE(X86State, sysenter_esp), SAVE(X86State, sysenter_eip), SAVE(X86State, smbase),
    SAVE(X86State, pdpte), SAVE(X86State, efer), SAVE(X86State, pat), SAVE(X86State, mtrr_def),
    SAVE(X86State, mtrr_fixed), SAVE(X86State, mtrr_var), SAVE(X86State, misc_enable),
    SAVE(X86State, mcg_status), SAVE(X86State, mcg_ctl), SAVE(X86State, mc_bank),
    SAVE(X86State, bios_sign), SAVE(X86State, tsc_at_save), SAVE(X86State, fx), SAVE(X86State, cpl),
    SAVE(X86State, shadow), SAVE(X86State, halted), SAVE(X86State, shutdown), SAVE(X86State, smm),
    SAVE(X86State, nmi_masked), SAVE(X86State, nmi_pending), SAVE(X86State, smi_pending),
    SAVE(X86State, init_pending), SAVE(X86State, intr), SAVE(X86State, a20), SAVE(X86State, ferr),
    SAVE(X86State, ignne), SAVE(X86State, pad), SAVE_END,
};

static void host_side_reset(Cpu *cpu)
{
    cpu->fault_vector = -1;
    cpu->delivering = DELIVER_NONE;
    cpu->access.pending = false;
    cpu->debug_pending = 0;
    cpu->x87_what = cpu->x87_seg = 0;
    cpu->step_lost = cpu->shadow_new = cpu->rf_new = false;
}

static void class_reset(Device *dev) { x86_reset_state((Cpu *)dev); }

static void class_destroy(Device *dev) { cpu_destroy((Cpu *)dev); }

static void class_saving(Device *dev)
{
    Cpu *cpu = (Cpu *)dev;

    cpu->s.tsc_at_save = clock_tsc(cpu->m);
}

static bool class_loaded(Device *dev, Error *err)
{
    Cpu *cpu = (Cpu *)dev;

    if (cpu->s.cpl > 3 || cpu->s.shadow > 2 || cpu->s.a20 > 1 || cpu->s.intr > 1)
        return error_set(err, "cpu: a field is out of its range");
    host_side_reset(cpu);
    clock_set_tsc(cpu->m, cpu->s.tsc_at_save);
    x86_set_cpl(cpu, cpu->s.cpl);
    tlb_flush(cpu, true);
    blocks_drop_all(cpu);
    x86_update_mode(cpu);
    cpu_attention(cpu, CPU_ATT_IRQ);
    return true;
}

const DeviceClass cpu_class = {
    .name = "cpu", .size = sizeof(Cpu),
    .state = offsetof(Cpu, s), .state_size = sizeof(X86State), .fields = cpu_fields,
    .reset = class_reset, .saving = class_saving, .loaded = class_loaded, .destroy = class_destroy,
};

/* ---- reset ---- */

/* What reset and INIT have in common. */
static void start_state(Cpu *cpu)
{
    X86State *s = &cpu->s;

    for (int i = 0; i < 8; i++)
        s->gpr[i] = 0;
    s->gpr[EDX] = x86_signature(cpu);
    s->eip = 0xfff0;
    s->eflags = FLAG_1;
    s->cr2 = s->cr3 = s->cr4 = 0;
    for (int i = 0; i < SEG_COUNT; i++)
        s->seg[i] = (Seg){ 0, 0xffff, 0, SEG_P | SEG_S | SEG_RW | SEG_A };
    s->seg[CS] = (Seg){ 0xffff0000u, 0xffff, 0xf000, SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_A };
    s->ldtr = (Seg){ 0, 0xffff, 0, SEG_P | 2 };
    s->tr = (Seg){ 0, 0xffff, 0, SEG_P | 11 };
    s->gdt_base = s->idt_base = 0;
    s->gdt_limit = 0xffff;
    s->idt_limit = 0xffff;
    for (int i = 0; i < 8; i++)
        s->dr[i] = 0;
    s->dr[6] = 0xffff0ff0u;
    s->dr[7] = 0x400;
    s->cpl = s->shadow = s->halted = s->shutdown = s->smm = 0;
    s->nmi_masked = s->nmi_pending = s->smi_pending = s->init_pending = 0;
    s->efer = 0;
    host_side_reset(cpu);
    x86_set_cpl(cpu, 0);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

static void reset_fpu(u8 *fx)
{
    __builtin_memset(fx, 0, 512);
    store16(fx, 0x0040);        /* FCW after reset; FNINIT makes it 037F */
    fx[4] = 0xff;               /* tags: all registers hold zero */
    store32(fx + 24, 0x1f80);   /* MXCSR */
    store32(fx + 28, 0xffff);
}

void x86_reset_state(Cpu *cpu)
{
    X86State *s = &cpu->s;
    u8 intr = s->intr;

    __builtin_memset(s, 0, sizeof(*s));
    s->intr = intr;             /* a level that somebody else drives */
    s->cr0 = CR0_CD | CR0_NW | CR0_ET;
    s->smbase = 0x30000;
    s->pat = 0x0007040600070406ull;
    s->misc_enable = 1;         /* fast strings */
    s->a20 = 1;
    reset_fpu(s->fx);
    start_state(cpu);
}

void x86_init_state(Cpu *cpu)
{
    cpu->s.cr0 = (cpu->s.cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    start_state(cpu);
}

/* ---- pins ---- */

void cpu_attention(Cpu *cpu, u32 bits)
{
    __atomic_fetch_or(&cpu->attention, bits, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->poll_limit, ~0ull, __ATOMIC_SEQ_CST);
}

static void set_intr(void *opaque, int n, bool level)
{
    Cpu *cpu = opaque;
    (void)n;

    __atomic_store_n(&cpu->s.intr, level, __ATOMIC_SEQ_CST);
    if (level)
        cpu_attention(cpu, CPU_ATT_IRQ);
}

/* The edge-triggered pins: n says which. */
enum { PIN_NMI, PIN_SMI, PIN_INIT };

static void set_edge(void *opaque, int n, bool level)
{
    Cpu *cpu = opaque;
    X86State *s = &cpu->s;
    u8 *latch = n == PIN_NMI ? &s->nmi_pending : n == PIN_SMI ? &s->smi_pending : &s->init_pending;
    bool rises = level && !(cpu->pin_levels >> n & 1);

    cpu->pin_levels = (u8)((cpu->pin_levels & ~(1u << n)) | (level ? 1u << n : 0));
    if (!rises)
        return;
    __atomic_store_n(latch, 1, __ATOMIC_SEQ_CST);
    cpu_attention(cpu, CPU_ATT_IRQ);
}

Irq cpu_intr_line(Cpu *cpu) { return (Irq){ set_intr, cpu, 0 }; }

Irq cpu_nmi_line(Cpu *cpu) { return (Irq){ set_edge, cpu, PIN_NMI }; }

Irq cpu_smi_line(Cpu *cpu) { return (Irq){ set_edge, cpu, PIN_SMI }; }

Irq cpu_init_line(Cpu *cpu) { return (Irq){ set_edge, cpu, PIN_INIT }; }

/* Port F0h: takes IRQ 13 back and lets the waiting x87 instruction pass. */
static void set_ignne(void *opaque, int n, bool level)
{
    Cpu *cpu = opaque;
    (void)n;

    if (!level)
        return;
    if (cpu->s.ferr)
        cpu->s.ignne = 1;
    cpu->s.ferr = 0;
    irq_set(cpu->irq13, false);
}

Irq cpu_ferr_line_to(Cpu *cpu, Irq irq13)
{
    cpu->irq13 = irq13;
    return (Irq){ set_ignne, cpu, 0 };
}

void cpu_set_a20(Cpu *cpu, bool on)
{
    if (cpu->s.a20 == on)
        return;
    cpu->s.a20 = on;
    cpu_attention(cpu, CPU_ATT_FLUSH);
}

bool cpu_get_a20(Cpu *cpu) { return cpu->s.a20; }

/* ---- the board's side ---- */

void cpu_connect_intack(Cpu *cpu, int (*ack)(void *opaque), void *opaque)
{
    cpu->intack = ack;
    cpu->intack_opaque = opaque;
}

void cpu_connect_apic(Cpu *cpu, u64 (*get_base)(void *opaque), void (*set_base)(void *opaque, u64 value),
                      void *opaque)
{
    cpu->apic_get = get_base;
    cpu->apic_set = set_base;
    cpu->apic_opaque = opaque;
    cpu->has_apic = get_base && set_base;
}

void cpu_connect_smm(Cpu *cpu, void (*smm)(void *opaque, bool active), void *opaque)
{
    cpu->smm_changed = smm;
    cpu->smm_opaque = opaque;
}

void cpu_memory_changed(Cpu *cpu) { cpu_attention(cpu, CPU_ATT_FLUSH); }

void cpu_code_written(Cpu *cpu, u32 arena_page, u32 offset, u32 bytes)
{
    u32 n = cpu->code_write_count;

    if (n < ARRAY_LEN(cpu->code_writes)) {
        cpu->code_writes[n][0] = arena_page;
        cpu->code_writes[n][1] = offset << 16 | bytes;
    }
    if (n <= ARRAY_LEN(cpu->code_writes))
        cpu->code_write_count = n + 1;          /* one more than fits means: everything */
    cpu_attention(cpu, CPU_ATT_CODE);
}
