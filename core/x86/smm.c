/*
 * System management mode: entry, RSM, and the state save map.
 *
 * Source: Intel SDM vol. 3, chapter 34 (table 34-1: the 32-bit map, revision with SMBASE relocation). The
 * map's reserved bytes hold what the SDM leaves to the processor: descriptor caches, CR4, table limits;
 * firmware may copy the whole map and restore it later. Not modelled: I/O instruction restart, dual-monitor
 * treatment. Auto-HALT restart is.
 */
#include "fpu.h"
#include "system.h"

/* Offsets from SMBASE + 0x8000. */
enum {
    MAP_AUTO_HALT = 0x7f02, MAP_REVISION = 0x7efc, MAP_SMBASE = 0x7ef8,
    MAP_ES = 0x7fa8,            /* selectors ES CS SS DS FS GS LDTR TR, four bytes each */
    MAP_GPR = 0x7fd0,           /* EAX ECX EDX EBX ESP EBP ESI EDI */
    MAP_HIDDEN = 0x7f30,        /* ours: base, limit, attributes of eight segments, 12 bytes each, to 7F90 */
    MAP_CPL = 0x7f08,           /* ours, as are some of words[] */
    REVISION = 0x00020000,
};
static const struct { u16 at; u16 field; } words[] = {
    { 0x7ffc, offsetof(X86State, cr0) },        { 0x7ff8, offsetof(X86State, cr3) },
    { 0x7ff4, offsetof(X86State, eflags) },     { 0x7ff0, offsetof(X86State, eip) },
    { 0x7fcc, offsetof(X86State, dr[6]) },      { 0x7fc8, offsetof(X86State, dr[7]) },
    { 0x7f94, offsetof(X86State, idt_base) },   { 0x7f90, offsetof(X86State, idt_limit) },
    { 0x7f14, offsetof(X86State, cr4) },        { 0x7f10, offsetof(X86State, gdt_base) },
    { 0x7f0c, offsetof(X86State, gdt_limit) },
};

static u32 *word_of(Cpu *cpu, unsigned i) { return (u32 *)(void *)((u8 *)&cpu->s + words[i].field); }

static Seg *seg_of(Cpu *cpu, unsigned i)
{
    return i < SEG_COUNT ? &cpu->s.seg[i] : i == SEG_COUNT ? &cpu->s.ldtr : &cpu->s.tr;
}

static void put(Cpu *cpu, u32 at, u32 value) { phys_write(cpu, cpu->s.smbase + 0x8000 + at, value, 4); }

static u32 get(Cpu *cpu, u32 at) { return (u32)phys_read(cpu, cpu->s.smbase + 0x8000 + at, 4); }

static void tell_board(Cpu *cpu, bool active)
{
    machine_lock(cpu->m);
    if (cpu->smm_changed)
        cpu->smm_changed(cpu->smm_opaque, active);
    machine_unlock(cpu->m);
    tlb_flush(cpu, true);
}

static void save_state(Cpu *cpu)
{
    for (unsigned i = 0; i < 8; i++) {
        put(cpu, MAP_GPR + 4 * i, cpu->s.gpr[i]);
        put(cpu, MAP_ES + 4 * i, seg_of(cpu, i)->sel);
        put(cpu, MAP_HIDDEN + 12 * i, seg_of(cpu, i)->base);
        put(cpu, MAP_HIDDEN + 12 * i + 4, seg_of(cpu, i)->limit);
        put(cpu, MAP_HIDDEN + 12 * i + 8, seg_of(cpu, i)->attr);
    }
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        put(cpu, words[i].at, *word_of(cpu, i));
    put(cpu, MAP_CPL, cpu->s.cpl);
    put(cpu, MAP_REVISION, REVISION);
    put(cpu, MAP_SMBASE, cpu->s.smbase);
}

void x86_enter_smm(Cpu *cpu)
{
    X86State *s = &cpu->s;
    u32 halted = s->halted;

    x87_settle(cpu);
    s->smm = 1;
    s->halted = 0;
    s->nmi_masked = 1;
    s->eflags |= FLAG_1;
    tell_board(cpu, true);
    save_state(cpu);
    put(cpu, MAP_AUTO_HALT & ~3u, halted << 16);
    s->eflags = FLAG_1;
    s->eip = 0x8000;
    s->cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
    s->cr4 = 0;
    s->dr[7] = 0x400;
    for (int i = 0; i < SEG_COUNT; i++)
        s->seg[i] = (Seg){ 0, 0xffffffffu, 0, SEG_P | SEG_S | SEG_RW | SEG_A | SEG_G };
    s->seg[CS].sel = (u16)(s->smbase >> 4);
    s->seg[CS].base = s->smbase;
    s->shadow = 0;
    x86_set_cpl(cpu, 0);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
}

u32 HELPER helper_rsm(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    X86State *s = &cpu->s;
    u32 halted, smbase;
    (void)ea;
    (void)desc;
    (void)imm;

    if (!s->smm)
        x86_raise(cpu, VEC_UD);
    for (unsigned i = 0; i < 8; i++) {
        Seg *seg = seg_of(cpu, i);

        s->gpr[i] = get(cpu, MAP_GPR + 4 * i);
        seg->sel = (u16)get(cpu, MAP_ES + 4 * i);
        seg->base = get(cpu, MAP_HIDDEN + 12 * i);
        seg->limit = get(cpu, MAP_HIDDEN + 12 * i + 4);
        seg->attr = (u16)get(cpu, MAP_HIDDEN + 12 * i + 8);
    }
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        *word_of(cpu, i) = get(cpu, words[i].at);
    s->cpl = (u8)(get(cpu, MAP_CPL) & 3);
    s->eflags = (s->eflags & 0x3f7fd7u) | FLAG_1;
    halted = get(cpu, MAP_AUTO_HALT & ~3u) >> 16 & 1;
    smbase = get(cpu, MAP_SMBASE);
    s->smbase = smbase;
    s->smm = 0;
    s->nmi_masked = 0;
    s->shadow = 0;
    tell_board(cpu, false);
    x86_set_cpl(cpu, s->cpl);
    if ((s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE))
        x86_load_pdptes(cpu, s->cr3);
    x86_update_mode(cpu);
    s->halted = (u8)halted;
    if (halted)
        cpu_attention(cpu, CPU_ATT_IRQ);
    x86_check_irq(cpu);
    return X86_EXIT;
}
