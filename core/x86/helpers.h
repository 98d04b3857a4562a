/*
 * Instructions that translated code does by calling C: one function each, X86Helper of x86.h. insn.def names
 * them.
 *
 * A helper that serves several opcodes looks at desc_opcode(), desc_reg() (the /reg of a group) and
 * desc_isreg(). Unless noted, the helper does the whole instruction, memory operands and register results
 * included, and the translator's part is the call. X86_EXIT comes back with s.eip at the next instruction to
 * run.
 */
#ifndef X86_HELPERS_H
#define X86_HELPERS_H

#include "x86.h"

/* ---- misc.c ---- */
X86Helper helper_ud;                /* invalid encodings, UD2, and MOV to/from test registers */
X86Helper helper_gp;                /* #GP(0): an instruction of more than 15 bytes */
X86Helper helper_nm;                /* #NM */
X86Helper helper_aaa, helper_aas, helper_aam, helper_aad, helper_daa, helper_das, helper_salc;
X86Helper helper_pusha, helper_popa, helper_pushf, helper_popf;
X86Helper helper_bound, helper_arpl, helper_enter;
X86Helper helper_pop_mem;           /* 8F: ea is computed with ESP already popped */
X86Helper helper_bt_mem;            /* 0F A3 AB B3 BB to memory; ea without the register's bit offset */
X86Helper helper_rdtsc, helper_rdpmc;
X86Helper helper_cpuid, helper_rdmsr, helper_wrmsr;         /* cpuid.c, msr.c */

/* ---- segment.c ---- */
X86Helper helper_mov_from_seg, helper_mov_to_seg;           /* 8C 8E */
X86Helper helper_push_seg, helper_pop_seg;                  /* 06 0E 16 1E 0FA0 0FA8, 07 17 1F 0FA1 0FA9 */
X86Helper helper_lxs;                                       /* C4 C5 0FB2 0FB4 0FB5 */
X86Helper helper_lar, helper_lsl;                           /* 0F02 0F03 */
X86Helper helper_grp_0f00;                                  /* sldt str lldt ltr verr verw */

/* ---- transfer.c ---- */
X86Helper helper_jmp_far, helper_call_far;                  /* EA 9A (imm: far pointer), FF /5 /3 (ea) */
X86Helper helper_ret_far;                                   /* CB, CA (imm: bytes to release) */
X86Helper helper_iret;
X86Helper helper_int, helper_int3, helper_int1, helper_into;        /* CD (imm: vector) CC F1 CE */
X86Helper helper_sysenter, helper_sysexit;
X86Helper helper_rsm;                                       /* smm.c */

/* ---- system.c ---- */
X86Helper helper_grp_0f01;                                  /* sgdt sidt lgdt lidt smsw lmsw invlpg */
X86Helper helper_mov_cr, helper_mov_dr;                     /* 0F20 0F22 (reg: CR, rm: register), 0F21 0F23 */
X86Helper helper_clts, helper_hlt, helper_cli, helper_sti, helper_cld, helper_std;
X86Helper helper_invd_wbinvd;
X86Helper helper_in, helper_out;                            /* E4 E5 E6 E7 (imm: port) EC ED EE EF */

/* ---- string.c: A4-AF, 6C-6F, REP from desc ---- */
X86Helper helper_movs, helper_cmps, helper_stos, helper_lods, helper_scas, helper_ins, helper_outs;

/* ---- debug.c ---- */
X86Helper helper_debug_stop;        /* in front of an instruction that has an execution stop */

#endif
