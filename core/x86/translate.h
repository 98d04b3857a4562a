/*
 * The translator: guest code -> host code, one block at a time. See x86.h for the conventions of translated
 * code.
 */
#ifndef X86_TRANSLATE_H
#define X86_TRANSLATE_H

#include "block.h"
#include "emit.h"

typedef struct Tr Tr;

/* Where the guest goes on when a store killed translated code: a constant, or what r10 holds. */
typedef struct { bool in_r10; u32 eip; } NextEip;

/* One access to guest memory: its address, and what to do with it. body() is emitted twice: in line, and out
 * of line for the slow path; `at` is the host address. It may use r10 and must leave r8 and r9 alone until
 * its access is done. */
typedef struct {
    const Insn *n;
    Mem ea;                 /* offset in the segment, in host registers */
    bool wrap16;            /* the offset wraps at 64 KiB */
    bool xlat;              /* ea is EBX + AL */
    u8 seg, size, kind;     /* kind: 1 read, 2 write, 3 both */
    bool stack;             /* the instruction's stack access, not its operand */
    bool aligned;           /* 16-byte operand that must be aligned */
    bool flags_live;        /* guest flags must survive the check */
    bool parked;            /* they are in memory: emit_access() copies Tr.parked */
    u32 x87_eip, x87_what;  /* Tr's, likewise */
    NextEip next;
    void (*body)(Tr *t, const Insn *n, Mem at);
} Access;

/* Accesses off one symbol that share a check: see translate_group.c. */
enum { GROUP_MAX = 8, NO_SYMBOL = 0xffff };
typedef struct {
    u16 id;                 /* of the symbol */
    u16 base_id, index_id;  /* what it is the sum of; NO_SYMBOL: no index */
    u8 scale;
    u8 place;               /* of the host address of `low`: 0 r13, else Cpu.group[place - 1] */
    u8 reg, index;          /* hold the symbol's value plus reg_offset at the check; 8: none, it is 0 */
    s32 reg_offset, low, high;
    unsigned first, last, check, epoch;     /* instructions */
    unsigned count;         /* of accesses; 0: the group was given up */
    bool write, flags_live, settled, checked, checked_parked;
    u32 x87_eip, x87_what;  /* Tr's at the check */
    u8 *failed[2];
} Group;
typedef struct { u16 id; u8 size; bool write; s32 disp; } Member;       /* an access: symbol + 1, distance */

typedef struct {
    Access a;
    u8 *to_slow[4];         /* rel32s */
    u8 *to_unaligned;       /* rel32 or NULL */
    u8 *hot;                /* in-line body: where an unaligned access within a page goes back to */
    u8 *resume;
    u8 slow_count;
} Cold;

/* What an instruction does in line only while the state allows it; else its helper does all of it. */
typedef struct {
    const Insn *n;
    u8 *to_slow[4];         /* rel32s */
    u8 *resume;
    u8 slow_count;
    bool unpark;            /* flags are parked */
} ColdHelper;

struct Tr {
    Code c;
    Cpu *cpu;
    Block *b;
    u32 mode, cs_base, cs_limit;
    u32 linear_page;        /* of the block's first byte */
    X86Helper *raise;       /* the last instruction is one that only raises: by this helper */
    bool parked;            /* guest flags are in memory (and not in the host's flags) for a run of instructions */
    unsigned count;
    Insn insn[BLOCK_MAX_INSNS];
    u16 live[BLOCK_MAX_INSNS];      /* flags wanted after the instruction */
    u16 before[BLOCK_MAX_INSNS];    /* ... before it */
    u16 live_in;                    /* flags wanted by the block */
    Cold cold[BLOCK_MAX_INSNS * 2];
    unsigned cold_count;
    ColdHelper cold_helper[BLOCK_MAX_INSNS];
    unsigned cold_helper_count;
    Exit exit[BLOCK_MAX_EXITS];
    unsigned exit_count;
    bool single;                    /* each operand is checked by itself: a group's check has failed */
    Group group[GROUP_MAX];
    unsigned group_count;
    Member member[BLOCK_MAX_INSNS][2];      /* [1]: the stack access */
    FaultEntry fault[BLOCK_MAX_INSNS * 2];
    unsigned fault_count;
    u32 x87_eip, x87_what;  /* the last x87 instruction, while its pointers are not stored; 0: none */
};

/* Translates what stands at s.eip; page: its arena page. Raises #PF for a second page that isn't there. */
Block *translate(Cpu *cpu, u32 page, u32 context);
/* The same from outside memory (MMIO, holes): one instruction, run once. */
Block *translate_once(Cpu *cpu, u32 context);

/* translate_op.c */
void translate_insn(Tr *t, const Insn *n, u16 live_after);
void emit_access(Tr *t, Access a);
void emit_cold(Tr *t);
void park_flags(Code *c);       /* guest flags to EAX, EAX to r11 ... */
void unpark_flags(Code *c);     /* ... and back */
void emit_park(Tr *t);          /* guest flags to memory ... */
void emit_unpark(Tr *t);        /* ... and back */
bool insn_in_run(const Insn *n);        /* neither uses nor changes flags, and can't fault on the host */
bool insn_ends_run(const Insn *n);      /* the same, and leaves the block */
void emit_look_up(Code *c);
/* translate_x87.c: pointers to the last x87 instruction, see fpu.h */
Mem insn_ea(const Insn *n);          /* the operand's offset, in host registers (translate_op.c) */
void x87_note(Tr *t, const Insn *n);            /* behind a copied x87 instruction */
void emit_x87_pointers(Tr *t);                  /* stores what is waiting: before C or an exit may see it */
void emit_x87_values(Code *c, u32 eip, u32 what);
void emit_x87_done(Tr *t, const Insn *n);        /* stores those of n itself, which has a memory operand */
bool x87_may_wait(const Insn *n);               /* nothing sees the pointers in this instruction's hot path */

void emit_helper(Tr *t, const Insn *n, X86Helper *fn);
X86Helper *insn_helper(const InsnRow *row);
Access stack_access(Tr *t, const Insn *n, unsigned base, int disp, unsigned kind, bool flags_live);
void move_esp(Tr *t, int by);
void load_r10_body(Tr *t, const Insn *n, Mem at);       /* of the operand's size, zero-extended */
void push_r10_body(Tr *t, const Insn *n, Mem at);

/* translate_string.c: MOVS, STOS, LODS */
bool string_in_line(const Tr *t, const Insn *n);
void emit_string(Tr *t, const Insn *n, bool flags_live);
void string_thunks(Code *c, Thunks *thunk);     /* after the helper's thunk */

/* translate_system.c: PUSHF, POPF, CLI, STI, CLD, STD */
bool flag_insn_in_line(const Tr *t, const Insn *n);
void emit_flag_insn(Tr *t, const Insn *n, bool flags_live);
void emit_cold_helpers(Tr *t);

/* translate.c: leaves the block towards a constant EIP, linkable. */
void emit_exit(Tr *t, const Insn *n, u32 eip);
void emit_jcc_exit(Tr *t, const Insn *n, unsigned cc, u32 eip);
void emit_single_exit(Tr *t, const Insn *n);    /* towards n without groups */
void emit_call_exit(Tr *t, const Insn *n, u32 eip);
void emit_return_site(Tr *t, const Insn *n);    /* what stands behind a host call: checks r10 */

/* translate_group.c */
void find_groups(Tr *t);
const Group *group_of(const Tr *t, const Insn *n, bool stack);
Mem group_operand(Tr *t, const Group *g, const Insn *n, bool stack);
void emit_group_checks(Tr *t, unsigned insn);
void emit_group_exits(Tr *t);

static inline unsigned host_reg(unsigned guest) { return guest == ESP ? R12 : guest; }

#endif
