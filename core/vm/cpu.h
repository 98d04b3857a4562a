/*
 * The contract between the machine and its CPU (core/x86 implements it). One CPU, run by one vCPU thread.
 *
 * Threads: cpu_run() on the vCPU thread without the machine lock; lines may be driven from any thread that
 * holds the lock; cpu_attention() from any thread; everything else with the lock held and the CPU parked (not
 * inside cpu_run()), or on the vCPU thread from inside a device handler where it says so.
 */
#ifndef VM_CPU_H
#define VM_CPU_H

#include "error.h"
#include "irq.h"
#include "types.h"

typedef struct Machine Machine;
typedef struct Cpu Cpu;

typedef enum {
    CPU_EXIT_STOP,          /* somebody asked by CPU_ATT_STOP */
    CPU_EXIT_HALT,          /* HLT: nothing to do until cpu_has_work() */
    CPU_EXIT_SHUTDOWN,      /* triple fault */
    CPU_EXIT_DEBUG,         /* breakpoint or single step wanted by a debugger */
} CpuExit;

/* model: NULL (a Pentium M), 486 pentium pentium2 pentium3 pentium4 coreduo qemu32 max ..., optional
 * ",+feature,-feature". */
Cpu *cpu_create(Machine *m, const char *model, Error *err);
const char *cpu_model_names(void);      /* what -cpu knows, with blanks between; the first is the default */
void cpu_destroy(Cpu *cpu);
void cpu_reset(Cpu *cpu);                   /* power-on or reset line */
CpuExit cpu_run(Cpu *cpu);
/* an interrupt it would take, NMI, SMI, INIT: wakes HLT. Any holder of the lock */
bool cpu_has_work(Cpu *cpu);

/* Asks the CPU to look up from its work: bits below. Any thread, no lock needed, cheap. */
enum { CPU_ATT_STOP = 1, CPU_ATT_IRQ = 2, CPU_ATT_FLUSH = 4, CPU_ATT_CODE = 8 };
void cpu_attention(Cpu *cpu, u32 bits);

/* ---- pins ---- */
Irq cpu_intr_line(Cpu *cpu);                /* level */
Irq cpu_nmi_line(Cpu *cpu);                 /* edge */
Irq cpu_smi_line(Cpu *cpu);                 /* edge */
/* edge: INIT, as the keyboard controller's and port 92h's reset */
Irq cpu_init_line(Cpu *cpu);
/* where FERR# goes (IRQ 13 with CR0.NE = 0); returns IGNNE# line (port F0h) */
Irq cpu_ferr_line_to(Cpu *cpu, Irq irq13);
void cpu_set_a20(Cpu *cpu, bool on);        /* also from handlers on the vCPU thread */
bool cpu_get_a20(Cpu *cpu);

/* Interrupt acknowledge: called on the vCPU thread with the lock held; returns the vector, or -1:
 * spurious, nothing there. */
void cpu_connect_intack(Cpu *cpu, int (*ack)(void *opaque), void *opaque);
/* The local APIC's MSR: called on the vCPU thread with the lock held. May stay unconnected (no APIC: CPUID
 * says so). */
void cpu_connect_apic(Cpu *cpu, u64 (*get_base)(void *opaque),
                      void (*set_base)(void *opaque, u64 value), void *opaque);
/* Told when the CPU enters and leaves SMM, vCPU thread, lock held: the board shows or hides SMRAM. */
void cpu_connect_smm(Cpu *cpu, void (*smm)(void *opaque, bool active), void *opaque);

/* ---- memory's calls ---- */
/* a mapping changed: drop the TLB before the next instruction. Lock held */
void cpu_memory_changed(Cpu *cpu);
/* The next store to any page looks it up anew and marks it dirty. Parked */
void cpu_watch_stores(Cpu *cpu);
/* All of memory may be another: translated code and TLB go. Parked */
void cpu_memory_replaced(Cpu *cpu);
/* DMA hit a PAGE_CODE page. Lock held */
void cpu_code_written(Cpu *cpu, u32 arena_page, u32 offset, u32 bytes);

/* ---- for the monitor and loaders; CPU parked, or vCPU thread ---- */
u64 cpu_eip(Cpu *cpu);                      /* linear address of the next instruction */
bool cpu_virt_to_phys(Cpu *cpu, u64 linear, u64 *phys);     /* without side effects; false: not mapped */
bool cpu_get_register(Cpu *cpu, const char *name, u64 *value);  /* "eax" ... "cs" "cr0" "eip" "eflags" */
typedef void PrintFn(void *opaque, const char *line);
void cpu_info_registers(Cpu *cpu, PrintFn *print, void *opaque);
void cpu_info_mem(Cpu *cpu, PrintFn *print, void *opaque);
void cpu_info_tlb(Cpu *cpu, PrintFn *print, void *opaque);
void cpu_info_jit(Cpu *cpu, PrintFn *print, void *opaque);
/* Disassembles one instruction of at most 15 bytes; bits 16 or 32; returns its length (1 for what is no
 * instruction). */
unsigned cpu_disassemble(const u8 *code, unsigned len, u64 address, unsigned bits, char *out,
                         size_t out_size);
unsigned cpu_code_bits(Cpu *cpu);           /* 16 or 32, of the current CS */
void cpu_info_idt(Cpu *cpu, PrintFn *print, void *opaque);
void cpu_info_gdt(Cpu *cpu, PrintFn *print, void *opaque);

/* ---- for a debugger; CPU parked ----
 * A stop ends cpu_run() with CPU_EXIT_DEBUG. Execution stops come before the instruction, data stops behind
 * it. Addresses are linear. Neither memory nor the guest's debug registers are touched. */
typedef enum { CPU_STOP_NONE, CPU_STOP_STEP, CPU_STOP_EXEC, CPU_STOP_WRITE, CPU_STOP_READ, CPU_STOP_ACCESS } CpuStop;
enum { CPU_STOPS_MAX = 64 };
bool cpu_stop_add(Cpu *cpu, CpuStop kind, u64 linear, u32 bytes);       /* false: more than CPU_STOPS_MAX */
bool cpu_stop_remove(Cpu *cpu, CpuStop kind, u64 linear, u32 bytes);    /* false: there is no such */
void cpu_stop_clear(Cpu *cpu);
void cpu_step(Cpu *cpu, bool on);           /* stops after each instruction; no interrupts are taken */
/* Goes on from where it stands: the execution stop there does not count once more. machine_cont() calls it. */
void cpu_resume(Cpu *cpu);
CpuStop cpu_stopped_by(Cpu *cpu, u64 *linear);      /* and forgets it. linear: of the data, of the instruction */
/* eax ... edi, eip (offset in CS), eflags; others are refused. */
bool cpu_set_register(Cpu *cpu, const char *name, u64 value);
u8 *cpu_fx_image(Cpu *cpu);                 /* FXSAVE's 512 bytes: may be written */
void cpu_log_changed(Cpu *cpu);             /* what is logged is part of translated code: it is made anew */

#endif
