/*
 * The guest CPU's inside: state, the conventions of translated code, and what its files offer each other.
 * Source for all behaviour: Intel 64 and IA-32 Software Developer's Manual, volumes 1-3 (order
 * 253665-253669).
 *
 *   insn.def, decode.c, disasm.c   one row an encoding; decoder and disassembler from it
 *   emit.h, translate*.c           guest code -> host code
 *   block.c                        translation blocks: look-up, chaining, invalidation
 *   run.c                          cpu_run(): dispatcher, thunks between translated code and C, host faults
 *   tlb.c, paging.c                linear -> host; page walks
 *   segment.c transfer.c task.c exception.c smm.c system.c string.c misc.c    instructions that call C
 *                                                                             ("helpers")
 *
 * Threads: all of it runs on the vCPU thread inside cpu_run(), except the functions of cpu.h that say
 * otherwise.
 *
 * Registers in translated code:
 *   EAX ECX EDX EBX EBP ESI EDI   host registers of the same name; ESP   r12; all zero-extended
 *   XMM0-7   host xmm8-15         x87/MMX   the host's own, same TOP and tags, guest's control words loaded
 *   EFLAGS.OSZAPC   host EFLAGS (host DF is always 0; every other guest flag is in s.eflags)
 *   r15   the Cpu (offset by CPU_BIAS)    r14   the current TlbSet     r13   a group's host address
 *   r8-r11   scratch
 *   rsp   the host's stack, on which nested guest calls are host calls, so that the host predicts returns
 * Before any C function is called, a thunk writes the guest registers and OSZAPC to the state; afterwards it
 * reads them back. C code in this folder is compiled without SSE and x87 (-mgeneral-regs-only): the guest's
 * live there.
 */
#ifndef X86_X86_H
#define X86_X86_H

#include "../vm/cpu.h"
#include "../vm/device.h"
#include "../vm/machine.h"
#include "../vm/memory.h"
#include "../vm/types.h"

#define HELPER __attribute__((ms_abi))      /* what translated code calls: Win64 convention on every build */

enum { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI };
enum { ES, CS, SS, DS, FS, GS, SEG_COUNT };

enum {
    FLAG_CF = 1 << 0, FLAG_1 = 1 << 1, FLAG_PF = 1 << 2, FLAG_AF = 1 << 4, FLAG_ZF = 1 << 6, FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8, FLAG_IF = 1 << 9, FLAG_DF = 1 << 10, FLAG_OF = 1 << 11, FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14, FLAG_RF = 1 << 16, FLAG_VM = 1 << 17, FLAG_AC = 1 << 18, FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20, FLAG_ID = 1 << 21,
    FLAGS_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
};
enum {
    CR0_PE = 1 << 0, CR0_MP = 1 << 1, CR0_EM = 1 << 2, CR0_TS = 1 << 3, CR0_ET = 1 << 4, CR0_NE = 1 << 5,
    CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR0_NW = 1 << 29, CR0_CD = 1 << 30,
};
#define CR0_PG 0x80000000u
enum {
    CR4_VME = 1 << 0, CR4_PVI = 1 << 1, CR4_TSD = 1 << 2, CR4_DE = 1 << 3, CR4_PSE = 1 << 4, CR4_PAE = 1 << 5,
    CR4_MCE = 1 << 6, CR4_PGE = 1 << 7, CR4_PCE = 1 << 8, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10,
};
enum {
    VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7,
    VEC_DF = 8, VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17,
    VEC_MC = 18, VEC_XM = 19,
};

/* A segment register with its hidden part. attr: descriptor bits 40-55 (type 0-3, S 4, DPL 5-6, P 7, AVL
 * 12, D/B 14, G 15). */
typedef struct {
    u32 base, limit;            /* limit in bytes, the last valid offset (expand-up) */
    u16 sel, attr;
} Seg;
enum {
    SEG_A = 1, SEG_RW = 2, SEG_EC = 4, SEG_CODE = 8, SEG_S = 16, SEG_P = 0x80, SEG_DB = 1 << 14,
    SEG_G = 1 << 15
};
#define SEG_DPL(attr) ((attr) >> 5 & 3)

/* All that the guest can observe. Outside translated code this is the whole truth (x87/XMM: see fx). */
typedef struct {
    u32 gpr[8];
    u32 eip, eflags;            /* eip: of the instruction at work, while one is */
    u32 cr0, cr2, cr3, cr4;
    u32 dr[8];
    Seg seg[SEG_COUNT], ldtr, tr;
    u32 gdt_base, gdt_limit, idt_base, idt_limit;
    u32 sysenter_cs, sysenter_esp, sysenter_eip;
    u32 smbase;
    u64 pdpte[4];               /* PAE: loaded with CR3 */
    u64 efer, pat, mtrr_def, mtrr_fixed[11], mtrr_var[16];
    u64 misc_enable, mcg_status, mcg_ctl, mc_bank[20], bios_sign;
    u64 tsc_at_save;            /* written by save, applied by load */
    u8 fx[512];                 /* FXSAVE image, XMM0-7 in their own places; current only outside cpu_run() */
    u8 cpl;
    /* 1: no interrupt before the next instruction (STI); 2: also no debug trap (MOV SS) */
    u8 shadow;
    u8 halted, shutdown, smm;
    u8 nmi_masked, nmi_pending, smi_pending, init_pending;
    u8 intr;                    /* level of the INTR pin */
    u8 a20;                     /* 1: address bit 20 passes */
    u8 ferr, ignne;
    u8 pad[3];
} X86State;

/* The mode bits that translated code depends on: part of a block's key. */
enum {
    MODE_CS32   = 1 << 0,       /* CS.D */
    MODE_SS32   = 1 << 1,       /* SS.B */
    MODE_PROT   = 1 << 2,       /* CR0.PE and not V86 */
    MODE_V86    = 1 << 3,
    MODE_STEP   = 1 << 4,       /* one instruction a block: TF, shadow, debugger, execution breakpoints */
    MODE_EM     = 1 << 5,
    MODE_TS     = 1 << 6,
    MODE_MP     = 1 << 7,
    MODE_OSFXSR = 1 << 8,
    MODE_AC     = 1 << 9,       /* alignment is checked: CR0.AM, EFLAGS.AC, CPL 3 */
    MODE_WATCH  = 1 << 10,      /* data breakpoints are set: every access takes the slow path */
    MODE_DF     = 1 << 11,      /* EFLAGS.DF: translated string instructions go upwards */
    MODE_SEG_SHIFT = 16,        /* 2 bits a segment register: SegClass */
};
typedef enum {
    /* base 0, limit 4 GiB, readable and writable (CS: readable): no check, no add */
    SEG_FLAT,
    /* expand-up, readable and writable (CS: readable): offset <= limit - (size-1), add base */
    SEG_BASED,
    SEG_SLOW,                   /* anything else (null, read-only, expand-down ...): C checks each access */
} SegClass;
static inline SegClass mode_seg_class(u32 mode, int seg)
{
    return (SegClass)(mode >> (MODE_SEG_SHIFT + 2 * seg) & 3);
}

/*
 * TLB of one privilege: flat tables over the 32-bit linear space, reserved whole, touched by use. read/write:
 * host address minus linear address of the page, or 0: slow (not present, MMIO, code page, not yet dirty,
 * watched). exec: arena page + 1 if the page may be executed and lies in the arena, else 0.
 */
typedef struct {
    u64 read[1 << 20];
    u64 write[1 << 20];
    u32 exec[1 << 20];
} TlbSet;

enum { FEAT_WORDS = 5 };
enum { TRACE_BLOCKS = 256, TRACE_COUNT_SHIFT = 8 };

typedef struct Block Block;
typedef struct BlockCache BlockCache;
typedef struct TlbFill TlbFill;         /* tlb.c's list of filled entries, so that a flush is cheap */

struct Cpu {
    Device dev;
    /* ---- host side, what translated code touches most: within a byte's displacement from r15 ---- */
    /* Translated code goes back to the dispatcher when its stack pointer is not above this: stack_limit, or all
     * ones to make it look at `attention`. Written atomically by any thread. */
    u64 poll_limit;
    u64 stack_limit;            /* how deep the guest's calls may nest on the host's stack */
    TlbSet *tlb;                /* of the current privilege: what r14 holds */
    u64 host_rsp;               /* of cpu_run()'s call into translated code */
    u32 attention;              /* CPU_ATT_*; written atomically by any thread, before poll_limit */
    u32 mode;                   /* MODE_*; x86_update_mode() after any change of what it derives from */
    u64 group[4];               /* host addresses that checked groups of accesses start from */
    X86State s;
    /* ---- host side ---- */
    u32 seg_max[SEG_COUNT][5];  /* SEG_BASED: highest valid offset for an access of 1, 2, 4, 8, 16 bytes */
    u8 bounce[512] __attribute__((aligned(64)));    /* one access that can't be done in place */
    u64 scratch[16];            /* spill space of translated code */
    /* The last x87 instruction's pointers came to s.fx without opcode and selectors: X87_* of fpu.h */
    u32 x87_what, x87_seg;
    /* ---- C only ---- */
    void *leave[5];             /* __builtin_setjmp buffer of the dispatcher: x86_raise() ends there */
    TlbSet *tlb_set[2];         /* 0 supervisor, 1 user */
    TlbFill *tlb_fill;
    BlockCache *blocks;
    int fault_vector;           /* being delivered, or -1 */
    u32 fault_error;
    bool fault_has_error;
    int delivering;             /* vector whose delivery is at work, -1: none. For double faults */
    Machine *m;
    Memory *mem;
    u8 *arena;
    u8 *page_flags;
    const struct CpuModel *model;
    u32 features[FEAT_WORDS];   /* CPUID: 1.EDX, 1.ECX, 80000001.EDX, 80000001.ECX, 7.EBX */
    int (*intack)(void *opaque);
    void *intack_opaque;
    u64 (*apic_get)(void *opaque);
    void (*apic_set)(void *opaque, u64 value);
    void *apic_opaque;
    void (*smm_changed)(void *opaque, bool active);
    void *smm_opaque;
    Irq irq13;
    /* DMA into translated code: arena page, offset<<16|bytes; more than 64: all is dropped */
    u32 code_writes[64][2];
    u32 code_write_count;
    /* access_prepare() .. access_commit() */
    struct { u32 linear, size; u64 phys[2]; bool pending; } access;
    /* tlb.c: writable pages that hold translated code */
    struct { u32 key, page; u64 addend; } code_page[16];
    u32 debug_pending;          /* DR6 bits of a debug trap that comes after this instruction */
    /* the stepped instruction entered a handler: its single-step trap does not come */
    bool step_lost;
    /* the stepped instruction itself made s.shadow, loaded RF: they hold for the next one */
    bool shadow_new, rf_new;
    bool has_apic;
    /* debug.c: a debugger's stops */
    struct {
        struct { u32 linear, bytes; CpuStop kind; } at[CPU_STOPS_MAX];
        u32 count, execs, datas;    /* of all, of each kind */
        bool step, stop;            /* stop: cpu_run() shall end */
        bool resumes;               /* the execution stop at resume_at does not count, once */
        u32 resume_at;
        CpuStop why;
        u32 why_at;
    } debug;
    /* -d cpu_reset: the blocks entered last. what: MODE_CS32, number of instructions << 8 */
    struct { u32 linear, what; } trace[TRACE_BLOCKS];
    u32 trace_next;             /* its low byte counts; written by translated code */
    u8 pin_levels;              /* of the edge-triggered pins */
    u64 stat[16];               /* for info jit, see STAT_* of block.h */
};
#define CPU_BIAS 128
_Static_assert(TRACE_BLOCKS == 256, "translated code lets a byte wrap");

/* ================= debug.c ================= */
bool debug_exec_stop(const Cpu *cpu, u32 linear);
void debug_data(Cpu *cpu, u32 linear, u32 size, bool write);    /* an access, while there are data stops */
void debug_stepped(Cpu *cpu);               /* an instruction has been stepped */
void debug_reset_story(Cpu *cpu);           /* -d cpu_reset: what led to a triple fault */
void debug_fault_story(Cpu *cpu, int first, int vector, bool has_error, u32 error);  /* notes one for it */

/* ================= helpers: instructions that call C =================
 *
 * One signature for all. ea: offset in its segment of the memory operand (0 if the operand is a register).
 * desc: below. imm: immediate, or far pointer (selector << 32 | offset), or ENTER's level << 16 | size. On
 * entry s.gpr, s.eflags are exact and s.eip is this instruction's. A helper that faults calls x86_raise*()
 * before it has changed anything, or after restoring it. X86_NEXT: go on behind the instruction. X86_EXIT:
 * state is complete, s.eip says where to go on; also for everything that changed s.mode-like state, the
 * TLB's validity, or raised attention. */
typedef u32 HELPER X86Helper(Cpu *cpu, u32 ea, u32 desc, u64 imm);
enum { X86_NEXT = 0, X86_EXIT = 1 };
enum {
    DESC_REG = 0,       /* 3 bits: modrm.reg, or the register of the opcode's low bits */
    DESC_RM = 3,        /* 3 bits: modrm.rm */
    DESC_ISREG = 6,     /* 1: modrm.mod == 3 */
    DESC_OPSIZE = 7,    /* 2 bits: log2 of the operand size in bytes: 0, 1, 2 */
    DESC_ADDR32 = 9,    /* 1 */
    DESC_SEG = 10,      /* 3 bits: segment of the memory operand (override applied) */
    DESC_REP = 13,      /* 2 bits: 0 none, 1 F2, 2 F3 */
    DESC_LOCK = 15,
    DESC_OPCODE = 16,   /* 8 bits: last opcode byte */
    DESC_LEN = 24,      /* 4 bits: length of the instruction */
    DESC_0F = 28,       /* 1: opcode was in map 0F */
};
static inline unsigned desc_reg(u32 d) { return d & 7; }
static inline unsigned desc_rm(u32 d) { return d >> DESC_RM & 7; }
static inline bool desc_isreg(u32 d) { return d >> DESC_ISREG & 1; }
static inline unsigned desc_size(u32 d) { return 1u << (d >> DESC_OPSIZE & 3); }
static inline bool desc_addr32(u32 d) { return d >> DESC_ADDR32 & 1; }
static inline unsigned desc_seg(u32 d) { return d >> DESC_SEG & 7; }
static inline unsigned desc_rep(u32 d) { return d >> DESC_REP & 3; }
static inline bool desc_lock(u32 d) { return d >> DESC_LOCK & 1; }
static inline unsigned desc_opcode(u32 d) { return d >> DESC_OPCODE & 255; }
static inline unsigned desc_len(u32 d) { return d >> DESC_LEN & 15; }
/* EIP behind the instruction; with a 16-bit code segment it is not wrapped here (a fetch beyond the limit
 * faults). */
static inline u32 x86_next_eip(const Cpu *cpu, u32 d) { return cpu->s.eip + desc_len(d); }

/* ================= exception.c ================= */
_Noreturn void x86_raise(Cpu *cpu, int vector);                     /* fault without error code, at s.eip */
_Noreturn void x86_raise_error(Cpu *cpu, int vector, u32 error);
_Noreturn void x86_page_fault(Cpu *cpu, u32 linear, u32 error);     /* sets CR2 */
/* The dispatcher's: delivers cpu->fault_vector (may raise again: then double fault, then shutdown). */
void x86_deliver_fault(Cpu *cpu);
/* INT n / INT3 / INTO: trap with return to next_eip. External: hardware interrupt, return to s.eip. */
void x86_interrupt(Cpu *cpu, int vector, u32 return_eip, bool software, bool has_error, u32 error);
/*
 * The dispatcher calls this when cpu->attention is set or s.shadow/TF demand it, between instructions:
 * pending flushes, DMA into code, SMI, INIT, NMI, INTR. Takes at most one event (s.eip is then the
 * handler's). Clears what it served. Returns false if cpu_run() shall return (*why says how).
 */
bool x86_service(Cpu *cpu, CpuExit *why);
/* After a single-stepped instruction: raises #DB if TF was set before it; ends the shadow. */
void x86_stepped(Cpu *cpu, bool tf_before);
bool x86_can_take_irq(const Cpu *cpu);

/*
 * A waiting x87 instruction at s.eip found an unmasked exception pending. CR0.NE: raises #MF. Else
 * FERR#/IRQ13: the CPU freezes before the instruction until an interrupt comes (returns true: to the
 * dispatcher), or IGNNE# lets it pass (false: run it with exceptions masked).
 */
bool x86_fpu_error(Cpu *cpu);

/* ================= cpuid.c, pins.c: for cpu_create() and cpu_reset() ================= */
extern const DeviceClass cpu_class;     /* the state's field table; .reset is cpu_reset's, see pins.c */
bool x86_model_select(Cpu *cpu, const char *model, Error *err);     /* cpu->model, cpu->features */
void x86_reset_state(Cpu *cpu);         /* power-on values; mode and TLB follow */
void x86_init_state(Cpu *cpu);          /* INIT#: as reset, but FPU, MSRs and SMBASE stay */

/* ================= segment.c, transfer.c, task.c, smm.c, system.c =================  */
void x86_update_mode(Cpu *cpu);         /* cpu->mode, seg_max, cpu->tlb from the state */
void x86_load_seg(Cpu *cpu, int seg, u16 sel);      /* MOV/POP/Lxs to a data segment or SS; raises */
void x86_set_cpl(Cpu *cpu, unsigned cpl);
void x86_set_cr0(Cpu *cpu, u32 value);
void x86_set_cr3(Cpu *cpu, u32 value);
void x86_set_cr4(Cpu *cpu, u32 value);
u32 x86_get_eflags(const Cpu *cpu);
void x86_enter_smm(Cpu *cpu);
/* reason: 0 jmp, 1 call or int, 2 iret */
void x86_task_switch(Cpu *cpu, u16 sel, int reason, u32 next_eip, bool has_error, u32 error);

/* ================= tlb.c, paging.c ================= */
enum { ACC_READ = 0, ACC_WRITE = 1, ACC_EXEC = 2 };
bool tlb_create(Cpu *cpu, Error *err);
void tlb_destroy(Cpu *cpu);
void tlb_flush(Cpu *cpu, bool global_too);
void tlb_flush_page(Cpu *cpu, u32 linear);
void tlb_load_cr3(Cpu *cpu, u32 value);        /* before s.cr3 takes it; flushes, or finds what was known */
/* The page became home of translated code: stores to it must be seen. All write entries that lead to it
 * go. */
void tlb_protect_code(Cpu *cpu, u32 arena_page);
/*
 * Makes linear's page usable: walks, sets A/D, checks rights of the current privilege, fills the table.
 * Raises #PF. Returns the host address for linear, or NULL if the access must go over the bus or be watched
 * (*phys is then valid).
 */
u8 *tlb_fill(Cpu *cpu, u32 linear, int access, u64 *phys);
/* Same without raising: for fetching code ahead; returns arena page + 1, or 0 (fault, or not in the
 * arena). */
u32 tlb_exec_page(Cpu *cpu, u32 linear);

/* Page walk. Returns true and the physical address and effective rights, or false and the #PF error code.
 * set_ad: update accessed and dirty bits as the access demands. user: CPL 3 rights apply. */
typedef struct {
    u64 phys;
    bool writable, user, dirty, global, nx;
    u32 page_bytes;
    /* 32-bit paging: where directory and table entry lie (the same for a large page), and what they hold after
     * the walk. at[0] 0: not known. */
    u32 at[2], entry[2];
} PageInfo;
bool x86_walk(Cpu *cpu, u32 linear, int access, bool user, bool set_ad, PageInfo *info, u32 *error);

/* Accesses by linear address with the current privilege (lin_*), as the system does (sys_*: descriptor
 * tables, TSS, supervisor rights), and through a segment with its checks (seg_*). size 1, 2, 4, 8. All
 * raise; a crossing access touches nothing before both pages are known good. Stores take care of
 * translated code: true means blocks of ours died, so a helper returns X86_EXIT. */
u64 lin_read(Cpu *cpu, u32 linear, unsigned size);
bool lin_write(Cpu *cpu, u32 linear, u64 value, unsigned size);
u64 sys_read(Cpu *cpu, u32 linear, unsigned size);
bool sys_write(Cpu *cpu, u32 linear, u64 value, unsigned size);
/* checks; raises #GP or #SS; returns linear */
u32 seg_linear(Cpu *cpu, int seg, u32 offset, unsigned size, int access);
u64 seg_read(Cpu *cpu, int seg, u32 offset, unsigned size);
bool seg_write(Cpu *cpu, int seg, u32 offset, u64 value, unsigned size);
void lin_probe(Cpu *cpu, u32 linear, unsigned size, int access);            /* raises if the access would */

/*
 * For the slow path of translated accesses ("prepare, do, commit"): checks segment and pages and returns a
 * host address at which `size` bytes (up to 512) may be read and/or written in place: guest memory itself, or
 * cpu->bounce, filled with the data if it will be read. After the instruction, access_commit() stores a
 * bounced result and returns true if translated code died. kind: 1 read, 2 write, 3 both. seg -1: ea is
 * linear already.
 */
u8 *access_prepare(Cpu *cpu, int seg, u32 ea, unsigned size, unsigned kind);
bool access_commit(Cpu *cpu);

/* ================= block.c (used by tlb.c and exception.c) ================= */
/* Blocks that overlap these bytes die. True: any did. */
bool blocks_written(Cpu *cpu, u32 arena_page, u32 offset, u32 bytes);
void blocks_drop_all(Cpu *cpu);
#endif
