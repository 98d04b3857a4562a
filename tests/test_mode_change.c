/*
 * Translated code whose mode changes under it: a function sets or clears CR0.TS and returns to a caller that
 * was translated for the other mode. Every x87 instruction behind it must see the mode that holds: #NM while TS
 * is on, and never else. The source of the program is in the comments of its bytes.
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <string.h>

enum { RAM_BYTES = 1 << 20, CODE = 0x1000, NM = 0x1080, IDT = 0x2000, GDT = 0x3000, STACK = 0x9000 };

static const u8 program[] = {
    0xbe, 0xa0, 0x0f, 0x00, 0x00,       /* mov esi, 4000 */
    0x31, 0xdb, 0x31, 0xff,             /* xor ebx, ebx; xor edi, edi */
    0xe8, 0x32, 0x00, 0x00, 0x00,       /* again: call change */
    0xd9, 0xe8, 0xdd, 0xd8,             /* fld1; fstp st0 */
    0x4e, 0x75, 0xf4, 0xf4,             /* dec esi; jnz again; hlt */
    [0x40] = 0x69, 0xed, 0x6d, 0x4e, 0xc6, 0x41,        /* change: imul ebp, ebp, 1103515245 */
    0x81, 0xc5, 0x39, 0x30, 0x00, 0x00,                 /* add ebp, 12345 */
    0xf7, 0xc5, 0x00, 0x00, 0x03, 0x00, 0x74, 0x0a,     /* test ebp, 30000h; jz clear */
    0x0f, 0x20, 0xc0, 0x0c, 0x08, 0x0f, 0x22, 0xc0,     /* mov eax, cr0; or al, 8; mov cr0, eax */
    0x47, 0xc3,                                         /* inc edi; ret */
    0x0f, 0x06, 0x90, 0xc3,                             /* clear: clts; nop; ret */
    [0x80] = 0x43, 0x83, 0x04, 0x24, 0x04, 0xcf,        /* NM: inc ebx; add dword [esp], 4; iret */
};

static void flat(X86State *s, int seg, u16 sel, u16 access)
{
    s->seg[seg] = (Seg){ 0, 0xffffffff, sel, access };
}

int main(void)
{
    Error err = { "" };
    Config cfg;
    Machine *m;
    MemRegion *region;
    u8 *ram;

    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES, &err);
    region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    Cpu *cpu = m->cpu = cpu_create(m, NULL, &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    if (!cpu)
        return test_end();
    memcpy(ram + CODE, program, sizeof program);
    store32(ram + GDT + 8, 0xffff);                     /* flat code, as IRET will load it */
    store32(ram + GDT + 12, 0xcf9b00);
    store32(ram + IDT + 7 * 8, 8 << 16 | NM);           /* 32-bit interrupt gate */
    store32(ram + IDT + 7 * 8 + 4, 0x8e00);

    X86State *s = &cpu->s;
    flat(s, CS, 8, 0xc09b);
    for (int seg = 0; seg < 6; seg++)
        if (seg != CS)
            flat(s, seg, 16, 0xc093);
    s->gdt_base = GDT;
    s->gdt_limit = 0x17;
    s->idt_base = IDT;
    s->idt_limit = 0x7ff;
    s->cr0 = CR0_PE | CR0_NE;
    s->eip = CODE;
    s->eflags = 2;
    s->gpr[ESP] = STACK;
    store32(s->fx, 0x37f);                              /* as after FNINIT: masked, ... */
    s->fx[4] = 0;                                       /* ... and every register empty */
    cpu->attention = 0;
    x86_set_cpl(cpu, 0);
    tlb_flush(cpu, true);
    x86_update_mode(cpu);
    CpuExit why = cpu_run(cpu);
    CHECK_MSG(why == CPU_EXIT_HALT, "the program comes to its end: %d at %x", why, s->eip);
    CHECK_MSG(s->gpr[EDI] > 1000 && s->gpr[EDI] < 3500, "TS was on for a good part: %u", s->gpr[EDI]);
    CHECK_MSG(s->gpr[EBX] == s->gpr[EDI], "#NM came %u times, of %u with TS on", s->gpr[EBX], s->gpr[EDI]);
    return test_end();
}
