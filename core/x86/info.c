/*
 * The CPU for the monitor: registers by name, `info registers`, `info mem`, `info tlb`, addresses.
 * Called with the CPU parked or on the vCPU thread; nothing here changes the guest.
 */
#include "system.h"

#include <stdio.h>
#include <string.h>

static const char *const gpr_names[] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
static const char *const seg_names[] = { "es", "cs", "ss", "ds", "fs", "gs" };

u64 cpu_eip(Cpu *cpu) { return (u32)(cpu->s.seg[CS].base + cpu->s.eip); }

unsigned cpu_code_bits(Cpu *cpu) { return cpu->s.seg[CS].attr & SEG_DB ? 32 : 16; }

bool cpu_virt_to_phys(Cpu *cpu, u64 linear, u64 *phys)
{
    PageInfo info;
    u32 error;

    if (linear > 0xffffffffu || !x86_walk(cpu, (u32)linear, ACC_READ, false, false, &info, &error))
        return false;
    *phys = info.phys;
    return true;
}

bool cpu_get_register(Cpu *cpu, const char *name, u64 *value)
{
    const X86State *s = &cpu->s;
    const struct { const char *name; u64 value; } others[] = {
        { "eip", s->eip }, { "pc", s->eip }, { "eflags", x86_get_eflags(cpu) }, { "cr0", s->cr0 },
        { "cr2", s->cr2 }, { "cr3", s->cr3 }, { "cr4", s->cr4 }, { "dr0", s->dr[0] }, { "dr1", s->dr[1] },
        { "dr2", s->dr[2] }, { "dr3", s->dr[3] }, { "dr6", s->dr[6] }, { "dr7", s->dr[7] },
        { "tr", s->tr.sel }, { "ldtr", s->ldtr.sel },
};

    for (unsigned i = 0; i < 8; i++) {
        if (!strcmp(name, gpr_names[i]) || !strcmp(name, gpr_names[i] + 1)) {
            *value = name[0] == 'e' ? s->gpr[i] : s->gpr[i] & 0xffff;
            return true;
        }
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        if (!strcmp(name, seg_names[i])) {
            *value = s->seg[i].sel;
            return true;
        }
        if (!strncmp(name, seg_names[i], 2) && !strcmp(name + 2, ".base")) {
            *value = s->seg[i].base;
            return true;
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        if (!strcmp(name, others[i].name)) {
            *value = others[i].value;
            return true;
        }
    }
    return false;
}

static void flag_letters(u32 flags, char *out)
{
    static const struct { u32 bit; char letter; } letters[] = {
        { FLAG_OF, 'O' }, { FLAG_DF, 'D' }, { FLAG_IF, 'I' }, { FLAG_TF, 'T' }, { FLAG_SF, 'S' },
        { FLAG_ZF, 'Z' }, { FLAG_AF, 'A' }, { FLAG_PF, 'P' }, { FLAG_CF, 'C' },
};

    for (unsigned i = 0; i < ARRAY_LEN(letters); i++)
        *out++ = flags & letters[i].bit ? letters[i].letter : '-';
    *out = 0;
}

static void print_seg(const char *name, const Seg *seg, PrintFn *print, void *opaque)
{
    char line[128];

    snprintf(line, sizeof(line), "%-3s=%04x %08x %08x %04x DPL=%u%s", name, seg->sel, seg->base, seg->limit,
             seg->attr, SEG_DPL(seg->attr), seg->attr & SEG_P ? "" : " not present");
    print(opaque, line);
}

void cpu_info_registers(Cpu *cpu, PrintFn *print, void *opaque)
{
    static const char *const upper[] = { "ES", "CS", "SS", "DS", "FS", "GS" };
    const X86State *s = &cpu->s;
    char line[256], flags[16];

    snprintf(line, sizeof(line), "EAX=%08x EBX=%08x ECX=%08x EDX=%08x", s->gpr[EAX], s->gpr[EBX], s->gpr[ECX],
             s->gpr[EDX]);
    print(opaque, line);
    snprintf(line, sizeof(line), "ESI=%08x EDI=%08x EBP=%08x ESP=%08x", s->gpr[ESI], s->gpr[EDI], s->gpr[EBP],
             s->gpr[ESP]);
    print(opaque, line);
    flag_letters(s->eflags, flags);
    snprintf(line, sizeof(line), "EIP=%08x EFL=%08x [%s] CPL=%u II=%u A20=%u SMM=%u HLT=%u%s", s->eip,
             x86_get_eflags(cpu), flags, s->cpl, s->shadow ? 1 : 0, s->a20, s->smm, s->halted,
             in_v86(cpu) ? " V86" : "");
    print(opaque, line);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        print_seg(upper[i], &s->seg[i], print, opaque);
    print_seg("LDT", &s->ldtr, print, opaque);
    print_seg("TR", &s->tr, print, opaque);
    snprintf(line, sizeof(line), "GDT=     %08x %08x", s->gdt_base, s->gdt_limit);
    print(opaque, line);
    snprintf(line, sizeof(line), "IDT=     %08x %08x", s->idt_base, s->idt_limit);
    print(opaque, line);
    snprintf(line, sizeof(line), "CR0=%08x CR2=%08x CR3=%08x CR4=%08x", s->cr0, s->cr2, s->cr3, s->cr4);
    print(opaque, line);
    snprintf(line, sizeof(line), "DR0=%08x DR1=%08x DR2=%08x DR3=%08x DR6=%08x DR7=%08x EFER=%08x", s->dr[0],
             s->dr[1], s->dr[2], s->dr[3], s->dr[6], s->dr[7], (u32)s->efer);
    print(opaque, line);
    snprintf(line, sizeof(line), "FCW=%04x FSW=%04x FTW=%02x MXCSR=%08x (when the CPU last stopped)",
             load16(s->fx), load16(s->fx + 2), s->fx[4], load32(s->fx + 24));
    print(opaque, line);
}

/* ---- the address space ---- */

typedef void PageFn(void *opaque, u32 linear, const PageInfo *info, bool end);

/* Calls visit for every mapped page, and once at the end. */
static void each_page(Cpu *cpu, PageFn *visit, void *opaque)
{
    u64 linear = 0;

    while (linear < 1ull << 32) {
        PageInfo info;
        u32 error;

        if (x86_walk(cpu, (u32)linear, ACC_READ, false, false, &info, &error)) {
            visit(opaque, (u32)linear, &info, false);
            linear += info.page_bytes;
        } else {
            linear += PAGE_SIZE;
        }
    }
    visit(opaque, 0, NULL, true);
}

typedef struct {
    PrintFn *print;
    void *opaque;
    u64 start, next;            /* of the range that grows; equal: none */
    char rights[4];
} Ranges;

static void add_range(void *opaque, u32 linear, const PageInfo *info, bool end)
{
    Ranges *r = opaque;
    char rights[4] = { '-', 'r', '-', 0 };

    if (!end) {
        rights[0] = info->user ? 'u' : '-';
        rights[2] = info->writable ? 'w' : '-';
    }
    if (r->start != r->next && (end || linear != r->next || memcmp(rights, r->rights, 3) != 0)) {
        char line[64];

        snprintf(line, sizeof(line), "%08x-%08x %08x %s", (u32)r->start, (u32)r->next,
                 (u32)(r->next - r->start), r->rights);
        r->print(r->opaque, line);
        r->start = r->next = 0;
    }
    if (end)
        return;
    if (r->start == r->next)
        r->start = linear;
    r->next = (u64)linear + info->page_bytes;
    memcpy(r->rights, rights, 4);
}

static bool paging_on(Cpu *cpu, PrintFn *print, void *opaque)
{
    if (cpu->s.cr0 & CR0_PG)
        return true;
    print(opaque, "paging is off");
    return false;
}

void cpu_info_mem(Cpu *cpu, PrintFn *print, void *opaque)
{
    Ranges r = { .print = print, .opaque = opaque };

    if (paging_on(cpu, print, opaque))
        each_page(cpu, add_range, &r);
}

static void print_page(void *opaque, u32 linear, const PageInfo *info, bool end)
{
    const Ranges *r = opaque;
    const char *size;
    char line[96];

    if (end)
        return;
    size = info->page_bytes == PAGE_SIZE ? "4K" : info->page_bytes == 1u << 21 ? "2M" : "4M";
    snprintf(line, sizeof(line), "%08x: %09llx %c%c%c%c%c %s", linear, (unsigned long long)info->phys,
             info->global ? 'G' : '-', info->dirty ? 'D' : '-', info->user ? 'U' : '-',
             info->writable ? 'W' : '-', info->nx ? 'X' : '-', size);
    r->print(r->opaque, line);
}

void cpu_info_tlb(Cpu *cpu, PrintFn *print, void *opaque)
{
    Ranges r = { .print = print, .opaque = opaque };

    if (paging_on(cpu, print, opaque))
        each_page(cpu, print_page, &r);
}
