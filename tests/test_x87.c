/*
 * The pointers to the last x87 instruction (FIP, FCS, FDP, FDS, FOP) in every form of image, through translated
 * code; and unmasked x87 exceptions by #MF and by IRQ 13.
 * Expected values: Intel SDM volume 1, 8.1.8 to 8.1.10 (figures 8-9 to 8-12), 10.5.1.
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/fpu.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <string.h>

enum { RAM_BYTES = 1 << 20, CODE = 0x10000, DATA = 0x20000, STACK = 0x8000, GDT = 0x1000, IDT = 0x2000 };
enum { HANDLERS = 0x4000, SEL_CODE = 8, SEL_DATA = 16, SEL_CODE16 = 24, SEL_OTHER = 32 };

static Machine *m;
static Cpu *cpu;
static u8 *ram;
static bool irq13;

static void take_irq13(void *opaque, int n, bool level)
{
    (void)opaque;
    (void)n;
    irq13 = level;
}

static void set_mode(bool prot, bool wide)
{
    cpu_reset(cpu);
    memset(ram, 0, RAM_BYTES);
    store64(ram + GDT + SEL_CODE, 0x00cf9b000000ffffull);
    store64(ram + GDT + SEL_DATA, 0x00cf93000000ffffull);
    store64(ram + GDT + SEL_CODE16, 0x000f9b000000ffffull);
    store64(ram + GDT + SEL_OTHER, 0x00cf93010000ffffull);
    for (u32 v = 0; v < 32; v++) {
        store32(ram + IDT + 8 * v, (u32)SEL_CODE << 16 | (HANDLERS + 16 * v));
        store32(ram + IDT + 8 * v + 4, 0x8e00);
        ram[HANDLERS + 16 * v] = 0xf4;
    }
    cpu->s.gdt_base = GDT;
    cpu->s.gdt_limit = 0x2f;
    cpu->s.idt_base = IDT;
    cpu->s.idt_limit = 0xff;
    cpu->s.cr0 = prot ? CR0_PE | CR0_ET | CR0_NE : CR0_ET;
    cpu->s.cr4 = CR4_OSFXSR;
    for (int i = 0; i < SEG_COUNT; i++) {
        u16 attr = i == CS ? 0x9b : 0x93;
        if (prot)
            cpu->s.seg[i] = (Seg){ 0, 0xffffffffu, i != CS ? SEL_DATA : wide ? SEL_CODE : SEL_CODE16,
                                   (u16)(attr | SEG_G | (wide ? SEG_DB : 0)) };
        else
            cpu->s.seg[i] = (Seg){ i == CS ? CODE : DATA, 0xffff, i == CS ? CODE >> 4 : DATA >> 4, attr };
    }
    cpu->s.gpr[ESP] = STACK;
    cpu->s.gpr[EBX] = prot ? DATA : 0;
    cpu->s.gpr[ESI] = 0x40;
    store16(cpu->s.fx, 0x37f);
    cpu->s.fx[4] = 0;
    x86_update_mode(cpu);
}

static CpuExit run(const char *code, unsigned len)
{
    memcpy(ram + CODE, code, len);
    ram[CODE + len] = 0xf4;
    blocks_drop_all(cpu);
    cpu->s.eip = cpu->s.cr0 & CR0_PE ? CODE : 0;
    cpu->s.halted = 0;
    cpu->attention = 0;
    return cpu_run(cpu);
}

#define RUN(code) run(code, sizeof(code) - 1)

static void protected_32(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, true);
    /* fld dword [ebx+esi]; fld1; fnstcw [ebx]; add esi, 4; fnstenv [ebx+0x100] */
    RUN("\xd9\x04\x33\xd9\xe8\xd9\x3b\x83\xc6\x04\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 12) == CODE + 3, "FIP is FLD1's, FNSTCW doesn't count: %x", load32(at + 12));
    CHECK_MSG(load32(at + 16) == (0x1e8u << 16 | SEL_CODE), "opcode and CS: %08x", load32(at + 16));
    CHECK_MSG(load32(at + 20) == DATA + 0x40, "FDP is that of the load before: %x", load32(at + 20));
    CHECK_MSG(load32(at + 24) == (0xffff0000u | SEL_DATA), "DS: %x", load32(at + 24));
    CHECK((load32(at) >> 16) == 0xffff && (load32(at + 4) >> 16) == 0xffff && (load32(at + 8) >> 16) == 0xffff);
}

static void protected_16(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, false);
    RUN("\x67\xd9\x04\x33\x67\xd9\xb3\x00\x01\x00\x00");       /* fld [ebx+esi]; fnstenv [ebx+0x100] */
    CHECK_MSG(load16(at + 6) == (u16)CODE && load16(at + 8) == SEL_CODE16, "16-bit FIP and CS");
    CHECK(load16(at + 10) == ((DATA + 0x40) & 0xffff) && load16(at + 12) == SEL_DATA);
    CHECK(!load16(at + 14));
}

static void real_mode(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(false, false);
    RUN("\x90\xd9\x00\xd9\x36\x00\x01");                       /* nop; fld [bx+si]; fnstenv [0x100] */
    CHECK_MSG(load16(at + 6) == ((CODE + 1) & 0xffff), "the linear address: %x", load16(at + 6));
    CHECK_MSG(load16(at + 8) == ((CODE >> 16) << 12 | 0x100), "its upper bits and the opcode: %x", load16(at + 8));
    CHECK(load16(at + 10) == ((DATA + 0x40) & 0xffff) && load16(at + 12) == (DATA >> 16) << 12);
    set_mode(false, false);
    RUN("\x90\xd9\x00\x66\xd9\x36\x00\x01");                   /* the same with 32-bit operands */
    CHECK_MSG(load32(at + 12) == (0xffff0000u | ((CODE + 1) & 0xffff)), "%x", load32(at + 12));
    CHECK_MSG(load32(at + 16) == ((CODE >> 16) << 12 | 0x100), "%x", load32(at + 16));
    CHECK_MSG(load32(at + 20) == (0xffff0000u | ((DATA + 0x40) & 0xffff)), "%x", load32(at + 20));
    CHECK_MSG(load32(at + 24) == (DATA >> 16) << 12, "%x", load32(at + 24));
}

static void selectors_are_those_of_the_instruction(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, true);
    /* mov eax, SEL_OTHER; mov es, ax; fld dword [es:ebx]; mov eax, SEL_DATA; mov es, ax; fnstenv */
    RUN("\xb8\x20\x00\x00\x00\x8e\xc0\x26\xd9\x03\xb8\x10\x00\x00\x00\x8e\xc0\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 24) == (0xffff0000u | SEL_OTHER), "ES when it was used: %x", load32(at + 24));
    CHECK_MSG(load32(at + 12) == CODE + 7, "FIP is the prefix's: %x", load32(at + 12));
    CHECK_MSG(load32(at + 16) >> 16 == 0x103, "the opcode has no prefix: %x", load32(at + 16));
}

static void each_block_leaves_the_others_segment(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, true);
    /* mov es, SEL_OTHER; fld [es:ebx]; jmp +0; fld1; jmp +0; fnstenv */
    RUN("\xb8\x20\x00\x00\x00\x8e\xc0\x26\xd9\x03\xeb\x00\xd9\xe8\xeb\x00\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 24) == (0xffff0000u | SEL_OTHER), "%x", load32(at + 24));
    CHECK(load32(at + 12) == CODE + 12);
}

static void images_carry_them_on(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, true);
    /* fld [ebx]; fnsave [ebx+0x200]; fld1; frstor [ebx+0x200]; fnstenv [ebx+0x100] */
    RUN("\xd9\x03\xdd\xb3\x00\x02\x00\x00\xd9\xe8\xdd\xa3\x00\x02\x00\x00\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 12) == CODE && load32(at + 20) == DATA, "FRSTOR brings FNSAVE's pointers back");
    CHECK(load32(at + 16) == (0x103u << 16 | SEL_CODE));
    set_mode(true, true);
    RUN("\xd9\x03\x0f\xae\x83\x00\x02\x00\x00\xd9\xe8\x0f\xae\x8b\x00\x02\x00\x00\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 12) == CODE && load32(at + 20) == DATA, "and FXRSTOR FXSAVE's");
    CHECK(load16(ram + DATA + 0x200 + FX_FOP) == 0x103 && load16(ram + DATA + 0x200 + FX_FCS) == SEL_CODE);
    CHECK(load32(ram + DATA + 0x200 + FX_FIP) == CODE && load16(ram + DATA + 0x200 + FX_FDS) == SEL_DATA);
    set_mode(true, true);
    RUN("\xd9\x03\xdb\xe3\xd9\xb3\x00\x01\x00\x00");           /* fninit; fnstenv */
    CHECK_MSG(!load32(at + 12) && !load32(at + 16) && !load32(at + 20), "FNINIT clears them");
    set_mode(true, true);
    RUN("\xd9\x03\xdd\xb3\x00\x02\x00\x00\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(!load32(at + 12) && !load32(at + 16) && !load32(at + 20), "FNSAVE clears them, too");
}

static void they_survive_exits(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, true);
    RUN("\xd9\x03");
    CHECK_MSG(load32(cpu->s.fx + FX_FIP) == CODE && load16(cpu->s.fx + FX_FOP) == 0x103, "in the saved state");
    RUN("\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 12) == CODE && load32(at + 20) == DATA, "after the CPU had stopped");
    set_mode(true, true);
    /* fld [ebx]; mov eax, [0xff000000 + ...]: nothing there is memory; fst to it: the slow path */
    RUN("\xd9\x03\xd9\xe8\xd9\x1d\x00\x00\x00\x40\xa1\x00\x00\x00\x40\xd9\xb3\x00\x01\x00\x00");
    CHECK_MSG(load32(at + 12) == CODE + 4 && load32(at + 20) == 0x40000000, "through the slow path: %x %x",
              load32(at + 12), load32(at + 20));
}

static void an_unmasked_exception_names_its_instruction(void)
{
    const u8 *at = ram + DATA + 0x100;
    set_mode(true, true);
    store16(cpu->s.fx, 0x37b);                                  /* zero divide unmasked */
    memcpy(ram + HANDLERS + 16 * VEC_MF, "\xd9\xb3\x00\x01\x00\x00\xf4", 7);
    RUN("\xd9\xe8\xd8\x33\x90\xd9\xe8");                       /* fld1; fdiv [ebx]: zero; nop; fld1 */
    CHECK_MSG(cpu->s.eip == HANDLERS + 16 * VEC_MF + 7, "#MF at the next instruction: %x", cpu->s.eip);
    CHECK_MSG(load32(ram + cpu->s.gpr[ESP]) == CODE + 5, "which is where it returns to");
    CHECK_MSG(load32(at + 12) == CODE + 2 && load32(at + 20) == DATA, "FIP %x FDP %x", load32(at + 12),
              load32(at + 20));
    CHECK((load32(at + 4) & 0x84) == 0x84);
}

static void irq_13_and_ignne(void)
{
    CpuExit why;
    Irq f0;
    set_mode(true, true);
    cpu->s.cr0 &= ~(u32)CR0_NE;
    x86_update_mode(cpu);
    f0 = cpu_ferr_line_to(cpu, (Irq){ take_irq13, NULL, 0 });
    store16(cpu->s.fx, 0x37b);
    irq13 = false;
    why = RUN("\xd9\xe8\xd8\x33\xd9\xe8\xb0\x01");             /* fld1; fdiv [ebx]; fld1; mov al, 1 */
    CHECK_MSG(irq13 && why == CPU_EXIT_HALT && cpu->s.eip == CODE + 4, "FERR# freezes the CPU before FLD1");
    CHECK(cpu->s.ferr);
    irq_pulse(f0);
    CHECK_MSG(!irq13 && cpu->s.ignne, "port F0h takes the interrupt back and asserts IGNNE#");
    cpu->s.halted = 0;
    cpu->attention = 0;
    why = cpu_run(cpu);
    CHECK_MSG(why == CPU_EXIT_HALT && (cpu->s.gpr[EAX] & 255) == 1, "then the instruction passes");
    cpu_ferr_line_to(cpu, (Irq){ 0 });
}

int main(void)
{
    Error err = { "" };
    Config cfg;
    MemRegion *region;
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES, &err);
    region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    m->cpu = cpu = cpu_create(m, "pentium4", &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    if (!cpu)
        return test_end();
    protected_32();
    protected_16();
    real_mode();
    selectors_are_those_of_the_instruction();
    each_block_leaves_the_others_segment();
    images_carry_them_on();
    they_survive_exits();
    an_unmasked_exception_names_its_instruction();
    irq_13_and_ignne();
    return test_end();
}
