/*
 * A debugger's stops, and the story of a triple fault for -d cpu_reset.
 *
 * Execution stops: a block that begins at one calls C first, and no block runs across one; setting them drops
 * all blocks, so that code without stops pays nothing. Data stops: while there are any, every instruction is
 * a block of its own and every access goes through C. The guest's debug registers stay the guest's.
 */
#include "helpers.h"
#include "system.h"

#include "../vm/log.h"

#include <stdio.h>
#include <string.h>

/* ---- setting them ---- */

static void changed(Cpu *cpu)
{
    cpu->debug.execs = cpu->debug.datas = 0;
    for (u32 i = 0; i < cpu->debug.count; i++)
        ++*(cpu->debug.at[i].kind == CPU_STOP_EXEC ? &cpu->debug.execs : &cpu->debug.datas);
    blocks_drop_all(cpu);
    x86_update_mode(cpu);
}

bool cpu_stop_add(Cpu *cpu, CpuStop kind, u64 linear, u32 bytes)
{
    if (cpu->debug.count == CPU_STOPS_MAX || linear > 0xffffffffu)
        return false;
    cpu->debug.at[cpu->debug.count].kind = kind;
    cpu->debug.at[cpu->debug.count].linear = (u32)linear;
    cpu->debug.at[cpu->debug.count++].bytes = bytes ? bytes : 1;
    changed(cpu);
    return true;
}

bool cpu_stop_remove(Cpu *cpu, CpuStop kind, u64 linear, u32 bytes)
{
    for (u32 i = 0; i < cpu->debug.count; i++) {
        if (cpu->debug.at[i].kind != kind || cpu->debug.at[i].linear != linear ||
            cpu->debug.at[i].bytes != (bytes ? bytes : 1))
            continue;
        cpu->debug.at[i] = cpu->debug.at[--cpu->debug.count];
        changed(cpu);
        return true;
    }
    return false;
}

void cpu_stop_clear(Cpu *cpu)
{
    if (!cpu->debug.count)
        return;
    cpu->debug.count = 0;
    changed(cpu);
}

void cpu_step(Cpu *cpu, bool on)
{
    cpu->debug.step = on;
    x86_update_mode(cpu);
    if (!on)
        x86_check_irq(cpu);         /* interrupts waited meanwhile */
}

void cpu_resume(Cpu *cpu)
{
    cpu->debug.resume_at = (u32)cpu_eip(cpu);
    cpu->debug.resumes = cpu->debug.execs && debug_exec_stop(cpu, cpu->debug.resume_at);
    cpu->debug.stop = false;
}

CpuStop cpu_stopped_by(Cpu *cpu, u64 *linear)
{
    CpuStop why = cpu->debug.why;

    *linear = cpu->debug.why_at;
    cpu->debug.why = CPU_STOP_NONE;
    return why;
}

void cpu_log_changed(Cpu *cpu) { blocks_drop_all(cpu); }

/* ---- coming to them ---- */

bool debug_exec_stop(const Cpu *cpu, u32 linear)
{
    for (u32 i = 0; i < cpu->debug.count; i++) {
        if (cpu->debug.at[i].kind == CPU_STOP_EXEC && cpu->debug.at[i].linear == linear)
            return true;
    }
    return false;
}

static void stop(Cpu *cpu, CpuStop why, u32 at)
{
    if (cpu->debug.stop)
        return;                     /* the first reason counts */
    cpu->debug.stop = true;
    cpu->debug.why = why;
    cpu->debug.why_at = at;
}

u32 HELPER helper_debug_stop(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u32 linear = (u32)cpu_eip(cpu);

    (void)ea;
    (void)desc;
    (void)imm;
    if (cpu->debug.resumes && cpu->debug.resume_at == linear) {
        cpu->debug.resumes = false;
        return X86_NEXT;
    }
    stop(cpu, CPU_STOP_EXEC, linear);
    return X86_EXIT;
}

void debug_data(Cpu *cpu, u32 linear, u32 size, bool write)
{
    for (u32 i = 0; i < cpu->debug.count; i++) {
        CpuStop kind = cpu->debug.at[i].kind;
        u32 first = cpu->debug.at[i].linear;

        if (kind == CPU_STOP_EXEC || (kind == CPU_STOP_WRITE && !write) || (kind == CPU_STOP_READ && write))
            continue;
        if (linear - first < cpu->debug.at[i].bytes || first - linear < size)
            stop(cpu, kind, first);
    }
}

void debug_stepped(Cpu *cpu) { stop(cpu, CPU_STOP_STEP, (u32)cpu_eip(cpu)); }

/* ---- registers ---- */

bool cpu_set_register(Cpu *cpu, const char *name, u64 value)
{
    static const char *const gpr[] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };

    for (unsigned i = 0; i < 8; i++) {
        if (!strcmp(name, gpr[i])) {
            cpu->s.gpr[i] = (u32)value;
            return true;
        }
    }
    if (!strcmp(name, "eip")) {
        cpu->s.eip = (u32)value;
        cpu->fault_vector = -1;
    } else if (!strcmp(name, "eflags")) {
        u32 keep = FLAG_VM | FLAG_RF | FLAG_VIF | FLAG_VIP;
        cpu->s.eflags = (cpu->s.eflags & keep) | ((u32)value & ~keep & 0x3fffd5u) | FLAG_1;
        x86_update_mode(cpu);
        x86_check_irq(cpu);
    } else {
        return false;
    }
    return true;
}

u8 *cpu_fx_image(Cpu *cpu) { return cpu->s.fx; }

/* ---- the descriptor tables, for `info idt` and `info gdt` ---- */

/* Without side effects; false: not mapped. */
static bool peek(Cpu *cpu, u32 linear, void *out, u32 bytes)
{
    for (u32 i = 0; i < bytes; i++) {
        u64 phys;

        if (!cpu_virt_to_phys(cpu, linear + i, &phys))
            return false;
        mem_dma_read(cpu->mem, phys, (u8 *)out + i, 1);
    }
    return true;
}

void cpu_info_gdt(Cpu *cpu, PrintFn *print, void *opaque)
{
    const X86State *s = &cpu->s;
    char line[160];

    snprintf(line, sizeof line, "GDT at %08x, limit %04x", s->gdt_base, s->gdt_limit);
    print(opaque, line);
    for (u32 at = 0; at + 7 <= s->gdt_limit; at += 8) {
        Desc d = { 0 };
        u8 raw[8];

        if (!peek(cpu, s->gdt_base + at, raw, 8)) {
            print(opaque, "not mapped");
            return;
        }
        d.lo = load32(raw);
        d.hi = load32(raw + 4);
        if (!d.lo && !d.hi)
            continue;
        unsigned type = desc_type(&d);
        static const char *const system[16] = {
            "reserved",     "TSS16",        "LDT",         "TSS16 busy",   "call gate 16", "task gate",
            "int gate 16",  "trap gate 16", "reserved",    "TSS32",        "reserved",     "TSS32 busy",
            "call gate 32", "reserved",     "int gate 32", "trap gate 32",
        };
        const char *kind = !desc_s(&d) ? system[type] : type & SEG_CODE ? "code" : "data";
        snprintf(line, sizeof line, "%04x: base %08x limit %08x dpl %u %s%s%s%s", at, desc_base(&d),
                 desc_limit(&d), desc_dpl(&d), kind,
                 !desc_s(&d)     ? ""
                 : type & SEG_RW ? type & SEG_CODE ? " readable" : " writable"
                                 : "",
                 desc_s(&d) ? d.hi >> 22 & 1 ? " 32" : " 16" : "", desc_p(&d) ? "" : " not present");
        print(opaque, line);
    }
}

void cpu_info_idt(Cpu *cpu, PrintFn *print, void *opaque)
{
    const X86State *s = &cpu->s;
    bool real = !(s->cr0 & CR0_PE);
    u32 size = real ? 4 : 8;
    char line[160];

    snprintf(line, sizeof line, "IDT at %08x, limit %04x%s", s->idt_base, s->idt_limit,
             real ? ", real mode" : "");
    print(opaque, line);
    for (u32 v = 0; v < 256 && (v + 1) * size - 1 <= s->idt_limit; v++) {
        u8 raw[8] = { 0 };

        if (!peek(cpu, s->idt_base + v * size, raw, size)) {
            print(opaque, "not mapped");
            return;
        }
        u32 lo = load32(raw), hi = load32(raw + 4), type = hi >> 8 & 15;
        if (!lo && !hi)
            continue;
        if (real)
            snprintf(line, sizeof line, "%02x: %04x:%04x", v, lo >> 16, lo & 0xffff);
        else
            snprintf(line, sizeof line, "%02x: %04x:%08x dpl %u %s%s", v, lo >> 16,
                     type & 8 ? (hi & 0xffff0000u) | (lo & 0xffff) : lo & 0xffff, hi >> 13 & 3,
                     type == SYS_TASK_GATE ? "task gate" : (type & 7) == SYS_INT16 ? "interrupt gate" :
                     (type & 7) == SYS_TRAP16 ? "trap gate" : "no gate", hi >> 15 & 1 ? "" : " not present");
        print(opaque, line);
    }
}

/* ---- the story of a triple fault ---- */

enum { STORY = 8, SHOWN_BLOCKS = 12 };
static struct { u32 vector, error, cs, eip, linear, cr2; int during; bool has_error; } story[STORY];
static unsigned told;

void debug_fault_story(Cpu *cpu, int first, int vector, bool has_error, u32 error)
{
    unsigned i = told++ % STORY;

    story[i].vector = (u32)vector;
    story[i].has_error = has_error;
    story[i].error = error;
    story[i].cs = cpu->s.seg[CS].sel;
    story[i].eip = cpu->s.eip;
    story[i].linear = (u32)cpu_eip(cpu);
    story[i].cr2 = cpu->s.cr2;
    story[i].during = first >= 0 && first < DELIVER_EXTERNAL ? first : -1;
}

static void print_log(void *opaque, const char *line)
{
    (void)opaque;
    log_line("  %s", line);
}

static void show_block(Cpu *cpu, u32 linear, u32 what)
{
    char text[96];
    u8 code[15];

    log_line("  block at %08x:", linear);
    for (u32 i = 0; i < what >> TRACE_COUNT_SHIFT; i++) {
        unsigned have = 0;

        while (have < sizeof code && peek(cpu, linear + have, code + have, 1))
            have++;
        if (!have)
            return;
        unsigned len = cpu_disassemble(code, have, linear, what & MODE_CS32 ? 32 : 16, text, sizeof text);
        log_line("    %08x  %s", linear, text);
        linear += len;
    }
}

/* vCPU thread, between instructions: the state is whole, FPU and SSE apart. */
void debug_reset_story(Cpu *cpu)
{
    static const char *const names[] = {
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",
        "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM",
    };

    log_line("triple fault: the faults that led to it, oldest first");
    for (unsigned i = told > STORY ? told - STORY : 0; i < told; i++) {
        unsigned k = i % STORY;
        char error[24] = "", during[40] = "";

        if (story[k].has_error)
            snprintf(error, sizeof error, " error %x", story[k].error);
        if (story[k].during >= 0)
            snprintf(during, sizeof during, ", while %s was delivered",
                     story[k].during < (int)ARRAY_LEN(names) ? names[story[k].during] : "an interrupt");
        log_line("  %s%s at %04x:%08x (linear %08x) cr2 %08x%s",
                 story[k].vector < ARRAY_LEN(names) ? names[story[k].vector] : "?", error, story[k].cs,
                 story[k].eip, story[k].linear, story[k].cr2, during);
    }
    log_line("registers");
    cpu_info_registers(cpu, print_log, NULL);
    log_line("descriptors");
    cpu_info_gdt(cpu, print_log, NULL);
    log_line("gates");
    cpu_info_idt(cpu, print_log, NULL);
    log_line("the blocks entered last, oldest first");
    for (u32 i = SHOWN_BLOCKS; i >= 1; i--) {
        u32 k = (cpu->trace_next - i) % TRACE_BLOCKS;

        if (cpu->trace[k].what)
            show_block(cpu, cpu->trace[k].linear, cpu->trace[k].what);
    }
    told = 0;
}
