/*
 * What the C side of the CPU (exception.c segment.c transfer.c task.c smm.c system.c string.c misc.c tlb.c
 * paging.c access.c) shares among its files: descriptors, stacks by segment, register operands, physical
 * accesses.
 */
#ifndef X86_SYSTEM_H
#define X86_SYSTEM_H

#include "helpers.h"
#include "x86.h"

/* cpu->delivering beside an exception's vector. */
enum { DELIVER_NONE = -1, DELIVER_EXTERNAL = 256, DELIVER_SOFT = 257 };

/* System segment types. */
enum {
    SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5, SYS_INT16 = 6,
    SYS_TRAP16 = 7, SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL32 = 12, SYS_INT32 = 14, SYS_TRAP32 = 15,
};

static inline bool in_v86(const Cpu *cpu) { return (cpu->s.eflags & FLAG_VM) != 0; }
static inline bool in_protected(const Cpu *cpu) { return (cpu->s.cr0 & CR0_PE) && !in_v86(cpu); }
static inline unsigned iopl(const Cpu *cpu) { return cpu->s.eflags >> 12 & 3; }
/* IOPL keeps the program from IF, and CR4.VME or PVI gives it VIF instead. */
static inline bool virtual_if(const Cpu *cpu)
{
    return (cpu->s.cr0 & CR0_PE) && cpu->s.cpl == 3 && iopl(cpu) < 3 &&
           (cpu->s.cr4 & (in_v86(cpu) ? CR4_VME : CR4_PVI));
}
static inline bool stack32(const Cpu *cpu) { return (cpu->s.seg[SS].attr & SEG_DB) != 0; }
static inline u32 stack_mask(const Seg *ss) { return ss->attr & SEG_DB ? 0xffffffffu : 0xffffu; }
static inline u32 attention(const Cpu *cpu) { return __atomic_load_n(&cpu->attention, __ATOMIC_RELAXED); }

/* ---- how a helper ends ---- */
static inline u32 leave_next(Cpu *cpu, u32 desc)        /* to the dispatcher, at the next instruction */
{
    cpu->s.eip = x86_next_eip(cpu, desc);
    return X86_EXIT;
}
static inline u32 go_on(Cpu *cpu, u32 desc, bool died)  /* the same only if there is a reason */
{
    return died || attention(cpu) ? leave_next(cpu, desc) : X86_NEXT;
}

/* An operand of two parts wraps between them with 16-bit addresses. */
static inline u32 addr_mask(u32 desc) { return desc_addr32(desc) ? 0xffffffffu : 0xffffu; }

/* ---- register and memory operands (misc.c) ---- */
u32 gpr_read(const Cpu *cpu, unsigned reg, unsigned size);
void gpr_write(Cpu *cpu, unsigned reg, u32 value, unsigned size);
u32 rm_read(Cpu *cpu, u32 ea, u32 desc, unsigned size);
bool rm_write(Cpu *cpu, u32 ea, u32 desc, u32 value, unsigned size);    /* true: blocks died */
/*
 * The current stack: read or write relative to ESP with the stack's width; ESP itself moves by stack_add().
 */
u32 stack_read(Cpu *cpu, u32 offset, unsigned size);
void stack_add(Cpu *cpu, s32 bytes);
bool push(Cpu *cpu, u32 value, unsigned size);
/* Sets s.eflags' masked bits; sees to TF, AC, VM (mode) and IF (attention). */
void x86_write_eflags(Cpu *cpu, u32 value, u32 mask);
void x86_hold(Cpu *cpu, unsigned shadow);   /* s.shadow for the next instruction (segment.c) */
/* In V86 mode with VME: POPF and IRET of 16 bits, and FLAGS as PUSHF and INT n push them (vme.c). */
void vme_write_flags(Cpu *cpu, u32 value);
u32 vme_flags_image(const Cpu *cpu);
/* INT n in V86 mode. True: it went to the program's own handler. Raises #GP if IOPL forbids it. */
bool vme_interrupt(Cpu *cpu, unsigned vector, u32 return_eip);
void x86_check_irq(Cpu *cpu);               /* attention, if an event waits that may be taken */

/* ---- descriptors (segment.c) ---- */
typedef struct { u32 lo, hi; u32 addr; } Desc;          /* addr: linear, of the descriptor */
static inline unsigned desc_type(const Desc *d) { return d->hi >> 8 & 15; }
static inline bool desc_s(const Desc *d) { return d->hi >> 12 & 1; }
static inline unsigned desc_dpl(const Desc *d) { return d->hi >> 13 & 3; }
static inline bool desc_p(const Desc *d) { return d->hi >> 15 & 1; }
static inline bool desc_is_code(const Desc *d) { return desc_s(d) && (desc_type(d) & SEG_CODE); }
static inline bool desc_conforming(const Desc *d) { return (desc_type(d) & SEG_EC) != 0; }
static inline bool desc_is_writable_data(const Desc *d)
{
    return desc_s(d) && !(desc_type(d) & SEG_CODE) && (desc_type(d) & SEG_RW);
}
static inline u32 desc_base(const Desc *d)
{
    return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000u);
}
u32 desc_limit(const Desc *d);
bool desc_fetch(Cpu *cpu, u16 sel, Desc *d);            /* false: outside its table. May raise #PF */
void desc_load(Cpu *cpu, u16 sel, Desc *d, int vector); /* raises vector(sel) when null or outside */
Seg seg_from(u16 sel, const Desc *d);
void desc_set_accessed(Cpu *cpu, Desc *d);
Seg seg_real(const Cpu *cpu, int seg, u16 sel);         /* what real or V86 mode loads */
void seg_refresh(Cpu *cpu, int seg);                    /* mode bits and seg_max of one changed register */
/* Loads CS in protected mode: the descriptor has been checked. */
void seg_load_cs(Cpu *cpu, u16 sel, Desc *d, unsigned cpl);
/* The checks of a stack segment for privilege cpl; vector for selector faults is #TS or #GP. */
void seg_check_stack(Cpu *cpu, u16 sel, Desc *d, unsigned cpl, int vector);
/* Data segments that an outer level may not keep become null. */
void seg_drop_inner(Cpu *cpu);

/* ---- accesses by a given privilege and segment (access.c) ---- */
u64 mem_get(Cpu *cpu, unsigned user, u32 linear, unsigned size);
bool mem_put(Cpu *cpu, unsigned user, u32 linear, u64 value, unsigned size);
bool seg_ok(const Cpu *cpu, const Seg *seg, u32 offset, u32 size, int access);     /* type and limit */
void watch_access(Cpu *cpu, u32 linear, unsigned size, int access);
void watch_io(Cpu *cpu, u32 port, unsigned size);

/* A stack that is being built: pushes through any segment at a given privilege; raises #SS(error). */
typedef struct { Seg ss; u32 esp; unsigned user; u32 error; bool died; } Stack;
Stack stack_current(const Cpu *cpu);
void stack_need(Cpu *cpu, const Stack *st, u32 bytes);  /* raises unless so much can be pushed: limits */
void stack_push(Cpu *cpu, Stack *st, u32 value, unsigned size);
void stack_commit(Cpu *cpu, const Stack *st);           /* ESP of the current stack */

/* ---- physical memory as the system sees it (paging.c) ---- */
u64 phys_read(Cpu *cpu, u64 phys, unsigned size);
bool phys_write(Cpu *cpu, u64 phys, u64 value, unsigned size);
static inline u64 a20_mask(const Cpu *cpu) { return cpu->s.a20 ? ~0ull : ~(1ull << 20); }
/* Stores that went to an arena page past the TLB. True: blocks died. */
bool page_written(Cpu *cpu, u32 page, u32 offset, u32 bytes);

/* ---- tlb.c ---- */
/* Host address for an access that a table of cpu->tlb_set[] allows and that stays in its page, else NULL. */
static inline const u8 *tlb_hit(const u64 *table, u32 linear, unsigned size)
{
    u64 addend = table[linear >> PAGE_SHIFT];

    if (!addend || (linear & PAGE_MASK) + size > PAGE_SIZE)
        return NULL;
    return (const u8 *)(uintptr_t)(addend + linear);
}
/* tlb_fill() for a given privilege. */
u8 *tlb_walk(Cpu *cpu, unsigned user, u32 linear, int access, u64 *phys);

/*
 * For a store to a page with translated code, whose write entry is 0: its host address if the page was
 * looked up lately and no code lies in these bytes, else NULL.
 */
u8 *tlb_beside_code(Cpu *cpu, unsigned user, u32 linear, unsigned size);

/* ---- transfer.c, task.c, exception.c ---- */
void x86_tss_stack(Cpu *cpu, unsigned dpl, u16 *ss, u32 *esp);      /* inner stack from the TSS; raises #TS */
bool x86_load_pdptes(Cpu *cpu, u32 cr3);     /* false: reserved bits are set, nothing is loaded (system.c) */
bool x86_io_allowed(Cpu *cpu, u32 port, unsigned size);

/* ---- gate.c: the common shapes of these, without raising; false: nothing is done, take the long way ---- */
/*
 * The flags that an interrupt pushes. RF is set at a fault: its instruction shall not hit its breakpoint again
 * when it is restarted.
 */
u32 x86_flags_image(const Cpu *cpu, int vector);
bool gate_deliver(Cpu *cpu, int vector, u32 return_eip, bool software, bool has_error, u32 error);
bool gate_iret(Cpu *cpu);                       /* a frame of 32 bits at s.gpr[ESP] */
bool gate_load(Cpu *cpu, int seg, u16 sel);     /* MOV or POP to ES, DS, FS, GS */
bool gate_fast_call(Cpu *cpu, unsigned cpl);    /* CS and SS as SYSENTER (0) and SYSEXIT (3) set them */

/* ---- cpuid.c ---- */
/* CPUID leaf 4: type, level, kilobytes, ways, bytes a line; 0: no more. */
typedef struct { u8 type, level; u16 kbytes; u8 ways, line; } CacheLevel;

typedef struct CpuModel CpuModel;
struct CpuModel {
    const char *name;
    u8 family, model, stepping;
    u8 brand_id;                        /* leaf 1, EBX */
    u32 max_leaf;
    u32 features[FEAT_WORDS];           /* as Cpu.features */
    const char *brand;                  /* NULL: no brand string */
    u32 cache[3];                       /* leaf 2: EAX, ECX, EDX */
    const CacheLevel *levels;           /* leaf 4, where max_leaf goes so far */
};
/* What translated code copies to the host and the host may lack: the bits of Cpu.features that it has. */
void x86_host_features(u32 have[FEAT_WORDS]);
u32 x86_signature(const Cpu *cpu);      /* family, model, stepping: leaf 1's EAX, a reset's EDX */
enum {
    FEAT_FPU = 1u << 0, FEAT_VME = 1u << 1, FEAT_DE = 1u << 2, FEAT_PSE = 1u << 3, FEAT_TSC = 1u << 4,
    FEAT_MSR = 1u << 5, FEAT_PAE = 1u << 6, FEAT_MCE = 1u << 7, FEAT_CX8 = 1u << 8, FEAT_APIC = 1u << 9,
    FEAT_SEP = 1u << 11, FEAT_MTRR = 1u << 12, FEAT_PGE = 1u << 13, FEAT_MCA = 1u << 14,
    FEAT_CMOV = 1u << 15, FEAT_PAT = 1u << 16, FEAT_PSE36 = 1u << 17, FEAT_CLFLUSH = 1u << 19,
    FEAT_MMX = 1u << 23, FEAT_FXSR = 1u << 24, FEAT_SSE = 1u << 25, FEAT_SSE2 = 1u << 26,
    FEAT_SS = 1u << 27,
};
enum {
    FEAT2_SSE3 = 1u << 0, FEAT2_PCLMUL = 1u << 1, FEAT2_SSSE3 = 1u << 9, FEAT2_SSE41 = 1u << 19,
    FEAT2_SSE42 = 1u << 20, FEAT2_MOVBE = 1u << 22, FEAT2_POPCNT = 1u << 23, FEAT2_AES = 1u << 25,
    FEAT2_RDRAND = 1u << 30, FEAT2_HYPERVISOR = 1u << 31,
};
enum { FEAT3_NX = 1u << 20 };
enum {                                  /* leaf 7 */
    FEAT7_ERMS = 1u << 9, FEAT7_RDSEED = 1u << 18, FEAT7_ADX = 1u << 19, FEAT7_CLFLUSHOPT = 1u << 23,
    FEAT7_SHA = 1u << 29,
};
enum { EFER_NXE = 1 << 11 };
static inline bool has(const Cpu *cpu, u32 edx) { return (cpu->features[0] & edx) == edx; }

#endif
