/*
 * The instruction table's columns, and what the decoder makes of guest bytes.
 * Source: Intel SDM volume 2, opcode maps of appendix A; volume 1 appendix A for the flags.
 *
 * insn.def has one row an encoding: X(map, opcode, sel, prefix, name, op1, op2, op3, action, helper, props,
 * feature, read, written, undefined)
 *   sel      what selects among rows of the same opcode: the modrm byte's fields
 *   prefix   mandatory prefix of the row: PNO none, P66, PF3, PF2; PANY: they mean nothing
 *            special here
 *   action   what the translator does with it
 *   helper   the C function behind A_HELPER and behind the forms that other actions don't do inline
 */
#ifndef X86_INSN_H
#define X86_INSN_H

#include "x86.h"

enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A, MAP_COUNT };
enum { PANY, PNO, P66, PF3, PF2 };

/* sel */
enum { ANY = 0, MEMX = 0x30, REGX = 0x50 };
#define GRP(r) (0x10 | (r))                 /* modrm.reg is r */
#define MEM(r) (0x20 | (r))                 /* memory operand and modrm.reg is r */
#define REG(r) (0x40 | (r))                 /* register operand and modrm.reg is r */
#define RM(r, m) (0x80 | (r) << 3 | (m))    /* register form with exactly these fields */

/* Operand kinds. E: modrm.rm, a general register or memory; G: modrm.reg; Z: the opcode's low three bits.
 * b w d q: 1 2 4 8 bytes; v: operand size. M: memory only. P Q N: MMX in reg, rm or
 * memory, rm. V W U: the same for XMM. */
typedef enum {
    NONE,
    Eb, Ew, Ed, Ev, Edb, Edw,   /* Edb, Edw: 32-bit register or 1, 2 bytes of memory */
    Mb, Mw, Md, Mq, Mt, Mx, Mp, Ma, Ms, Menv, Msav, Mfx,    /* Mt 10 bytes, Mx 16, Mp far pointer, Ms 6 */
    M0,                         /* address only */
    Qd, Qq, Ww, Wd, Wq, Wx, Ux, Nq, Rd, STi,
    Gb, Gw, Gd, Gv, Pq, Vx, Sw, Cd, Dd,
    Zb, Zv,
    Ib, Is, Iw, Iv, Jb, Jv, Ap, Ob, Ov,     /* Is: a byte, sign-extended */
    AL, AX, CL, DX, I1, ST0,                /* AX: the accumulator in operand size */
    rES, rCS, rSS, rDS, rFS, rGS,
    Xb, Xv, Yb, Yv,
    OPND_COUNT
} Operand;

typedef enum {
    A_COPY,         /* the same instruction on the host, registers renamed, memory operand translated */
    A_HELPER,       /* C */
    A_NOP,          /* nothing to do, memory operand is not accessed */
    A_LEA, A_INCDEC, A_MOFFS, A_XLAT, A_BT, A_PUSH, A_POP, A_LEAVE,
    A_JCC, A_JMP, A_JMPI, A_CALL, A_CALLI, A_RET, A_LOOP,
    A_STRING, A_FLAG,   /* translate_string.c, translate_system.c; the helper where they don't do it inline */
} Action;

enum {
    P_MR = 1, P_MW = 2, P_MRW = 3,      /* the memory operand is read, written, both */
    P_LOCK = 1 << 2,                    /* LOCK is allowed with a memory operand */
    P_END = 1 << 3,                     /* ends the block */
    P_FPU = 1 << 4,                     /* x87: #NM if CR0.EM or TS */
    P_MMX = 1 << 5,                     /* #UD if EM, #NM if TS */
    P_SSE = 1 << 6,                     /* #UD if EM or not CR4.OSFXSR, #NM if TS */
    P_WAIT = 1 << 7,                    /* WAIT: #NM if MP and TS */
    P_UNAL = 1 << 8,                    /* 16-byte operand needs no alignment */
    P_HF = 1 << 9,                      /* may fault on the host: wants an entry in the side table */
    P_COUNT = 1 << 10,                  /* shift or rotate by a count: leaves the flags alone if it is 0 */
    P_X0R = 1 << 11, P_X0W = 1 << 12,   /* XMM0 is an operand that is not named: read, written */
};

/* CPUID features a row needs; feature_bit() in decode.c maps them to Cpu.features. */
enum { F_NONE, F_FPU, F_TSC, F_MSR, F_CX8, F_SEP, F_CMOV, F_MMX, F_FXSR, F_SSE, F_SSE2, F_SSE3, F_SSSE3,
       F_SSE41, F_SSE42, F_POPCNT, F_MOVBE, F_CLFSH, F_PCLMUL, F_AES, F_RDRAND, F_RDSEED, F_ADX, F_SHA,
       F_CLFLUSHOPT };

/* Flag columns. */
enum {
    fC = FLAG_CF, fP = FLAG_PF, fA = FLAG_AF, fZ = FLAG_ZF, fS = FLAG_SF, fO = FLAG_OF,
    ALLF = FLAGS_ARITH, NOTC = FLAGS_ARITH & ~FLAG_CF,
    SZAP = fS | fZ | fA | fP, NOTCZ = ALLF & ~(fC | fZ),
};

typedef struct {
    u8 map, opcode, sel, prefix;
    u8 a, b, c, action;
    u16 props;
    u8 feature;
    u8 pad;
    u16 read, written, undefined;
    u16 number;                         /* of the row, for the helper table and coverage */
    const char *name;
} InsnRow;

enum { NO_REG = 0xff };

typedef struct {
    const InsnRow *row;                 /* NULL: no instruction (#UD) */
    u32 eip;
    u8 len;
    u8 opcode, map;
    u8 opsize;                          /* 2 or 4 */
    u8 addr32;
    u8 seg;                             /* of the memory operand */
    u8 rep;                             /* 0 none, 1 F2, 2 F3 */
    u8 lock;
    u8 has_modrm, mod, reg, rm;
    u8 base, index, scale;              /* of the effective address; NO_REG: none */
    u8 mem_size;                        /* bytes of the memory operand; 0: not accessed or none */
    u32 disp;
    u32 imm;                            /* sign-extended to the operand's size */
    u32 imm2;                           /* selector of a far pointer, ENTER's level */
} Insn;

typedef enum { DECODE_OK, DECODE_UD, DECODE_SHORT, DECODE_LONG } DecodeResult;

/*
 * Decodes the instruction at code. avail: bytes that may be read. DECODE_SHORT: more bytes are needed;
 * DECODE_LONG: more than 15 bytes (#GP); DECODE_UD: insn->len is set, row may be NULL.
 */
DecodeResult insn_decode(Insn *insn, const u8 *code, unsigned avail, u32 eip, bool cs32);
extern const InsnRow insn_rows[];
extern const unsigned insn_row_count;
static inline bool insn_is_mem(const Insn *i) { return i->has_modrm && i->mod != 3; }
/* Operand a, b or c that modrm.rm (or a moffs) encodes; NONE if there is none. */
Operand insn_rm_operand(const InsnRow *row);
Operand insn_reg_operand(const InsnRow *row);
bool insn_has_feature(const Cpu *cpu, unsigned feature);
u32 insn_desc(const Insn *i);           /* DESC_* word for helpers */

#endif
