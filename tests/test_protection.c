/*
 * Protection, debugging and system instructions as a program meets them: code bytes through the translator, and
 * the exception that ends them. Expected: Intel SDM vol. 2 (each instruction) and vol. 3, chapters 2.5, 3.4, 4.4,
 * 5, 6, 7.6, 17.
 */
#include "cpu_guest.h"

/* ---- descriptors seen by LAR, LSL, VERR, VERW, ARPL ---- */

static bool zf_of(unsigned privilege, const char *code, unsigned len, u32 access, u32 flags)
{
    protected_mode(privilege);
    set_desc(SEL_FREE, 0x12000, 0x345, access, flags);
    cpu->s.gpr[EAX] = SEL_FREE | privilege;
    cpu->s.gpr[EBX] = 0xcccccccc;
    CHECK(run(code, len) == VEC_BP);
    return frame(2) & FLAG_ZF;
}
#define ZF(privilege, code, access, flags) zf_of(privilege, code, sizeof(code) - 1, access, flags)
#define LAR  "\x0f\x02\xd8"                     /* lar ebx, eax */
#define LSL  "\x0f\x03\xd8"
#define VERR "\x0f\x00\xe0"
#define VERW "\x0f\x00\xe8"

static void selectors_are_examined(void)
{
    for (u32 type = 0; type < 16; type++) {
        u32 access = 0xe0 | type;                               /* system, DPL 3, present */
        bool lar = 1u << type & 0x1a3e, lsl = 1u << type & 0x0a0e;
        CHECK_MSG(ZF(3, LAR, access, 0) == lar, "LAR of system type %u", type);
        if (lar)
            CHECK_MSG(cpu->s.gpr[EBX] == access << 8, "its rights: %08x", cpu->s.gpr[EBX]);
        CHECK_MSG(ZF(3, LSL, access, 0) == lsl, "LSL of system type %u", type);
        CHECK_MSG(!ZF(3, VERR, access, 0) && !ZF(3, VERW, access, 0), "VERR, VERW of system type %u", type);
    }
    for (u32 type = 0; type < 16; type++) {
        bool code = type & 8, conforming = code && type & 4;
        CHECK_MSG(ZF(3, VERR, 0xf0 | type, 0) == (!code || type & 2), "VERR of type %u", type);
        CHECK_MSG(ZF(3, VERW, 0xf0 | type, 0) == (!code && type & 2), "VERW of type %u", type);
        CHECK_MSG(ZF(3, LAR, 0x90 | type, 0) == conforming, "LAR of type %u, DPL 0, from 3", type);
        CHECK_MSG(ZF(0, LAR, 0x90 | type, 0), "and from 0");
    }
    CHECK(ZF(3, LSL, 0xf2, 8) && cpu->s.gpr[EBX] == 0x345fff);
    CHECK(ZF(3, LSL, 0xf2, 0) && cpu->s.gpr[EBX] == 0x345);
    CHECK_MSG(ZF(3, LAR, 0x72, 0), "a segment that is not present can be looked at");
    CHECK(ZF(0, "\xb8\x00\x00\x00\x00" LAR, 0xf2, 0) == false);
    CHECK_MSG(ZF(0, "\xb8\x00\x10\x00\x00" LAR, 0xf2, 0) == false, "beyond the table");
    real_mode();
    CHECK(RUN(LAR) == VEC_UD);
    real_mode();
    CHECK(RUN(VERR) == VEC_UD);
    real_mode();
    CHECK(RUN("\x63\xc8") == VEC_UD);
}

static void arpl_raises_the_rpl(void)
{
    protected_mode(3);
    cpu->s.gpr[EAX] = 0xabcd0008;
    cpu->s.gpr[ECX] = 3;
    CHECK(RUN("\x63\xc8") == VEC_BP && cpu->s.gpr[EAX] == 0xabcd000b && (frame(2) & FLAG_ZF));
    protected_mode(3);
    cpu->s.gpr[EAX] = 3;
    cpu->s.gpr[ECX] = 2;
    CHECK(RUN("\x63\xc8") == VEC_BP && cpu->s.gpr[EAX] == 3 && !(frame(2) & FLAG_ZF));
}

/* ---- limits ---- */

static int access_through(u32 offset, u32 limit, unsigned access, unsigned flags, bool store)
{
    protected_mode(0);
    set_desc(SEL_FREE, DATA, limit, access, flags);
    cpu->s.gpr[EBX] = offset;
    cpu->s.gpr[EAX] = SEL_FREE;
    return store ? RUN("\x8e\xe0\x64\x89\x0b") : RUN("\x8e\xe0\x64\x8b\x0b");      /* mov fs, ax; mov fs:[ebx] */
}

static void limits_of_every_kind(void)
{
    CHECK(access_through(0x1ffc, 0x1fff, 0x93, 4, false) == VEC_BP);
    CHECK(access_through(0x1ffd, 0x1fff, 0x93, 4, false) == VEC_GP && frame(0) == 0);
    CHECK_MSG(access_through(0x1ffc, 1, 0x93, 0xc, true) == VEC_BP, "granularity 4 KiB: up to 1FFF");
    CHECK(access_through(0x1ffd, 1, 0x93, 0xc, true) == VEC_GP);
    CHECK_MSG(access_through(0x1fff, 0x1fff, 0x97, 4, true) == VEC_GP, "expand-down: above the limit only");
    CHECK(access_through(0x2000, 0x1fff, 0x97, 4, true) == VEC_BP);
    CHECK_MSG(access_through(0x1fff, 1, 0x97, 0xc, false) == VEC_GP, "its limit has granularity, too");
    CHECK(access_through(0x2000, 1, 0x97, 0xc, false) == VEC_BP);
    CHECK_MSG(access_through(0xfffc, 0xfff, 0x97, 0, false) == VEC_BP, "a small expand-down one ends at FFFF");
    CHECK(access_through(0xfffd, 0xfff, 0x97, 0, false) == VEC_GP);
    CHECK_MSG(access_through(0, 0x1fff, 0x91, 4, true) == VEC_GP, "read-only data");
    CHECK(access_through(0, 0x1fff, 0x91, 4, false) == VEC_BP);
    CHECK_MSG(access_through(0, 0x1fff, 0x9b, 4, true) == VEC_GP, "code is not written");
    CHECK_MSG(access_through(0, 0x1fff, 0x99, 4, false) == VEC_GP, "nor execute-only code loaded");
    CHECK_MSG(access_through(0, 0x1fff, 0x13, 4, false) == VEC_NP && frame(0) == SEL_FREE, "not present");
    CHECK_MSG(access_through(0, 5, 0x93, 4, false) == VEC_BP && access_through(3, 5, 0x93, 4, false) == VEC_GP,
              "limits smaller than an operand");
}

/* Code in a segment of 0x100 bytes at CODE: jumps out of it fault where they stand. */
static int in_small_code(const char *code, unsigned len)
{
    protected_mode(0);
    set_desc(SEL_FREE, CODE, 0xff, 0x9b, 4);
    load_from_table(CS, SEL_FREE);
    return run(code, len);
}
#define SMALL(code) in_small_code(code, sizeof(code) - 1)

static void jumps_out_of_the_segment(void)
{
    CHECK_MSG(SMALL("\x90\xe9\x00\x02\x00\x00") == VEC_GP && frame(1) == 1, "JMP: EIP %x", frame(1));
    CHECK_MSG(SMALL("\x90\xe8\x00\x02\x00\x00") == VEC_GP && frame(1) == 1, "CALL: EIP %x", frame(1));
    CHECK(cpu->s.gpr[ESP] == STACK0 - 16);
    CHECK_MSG(SMALL("\x31\xc0\x0f\x84\x00\x02\x00\x00") == VEC_GP && frame(1) == 2, "JZ: EIP %x", frame(1));
    CHECK(SMALL("\x31\xc0\x0f\x85\x00\x02\x00\x00") == VEC_BP);
    CHECK_MSG(SMALL("\xb8\x00\x02\x00\x00\xff\xe0") == VEC_GP && frame(1) == 5, "JMP EAX: EIP %x", frame(1));
    CHECK_MSG(SMALL("\xb8\x00\x02\x00\x00\xff\xd0") == VEC_GP && frame(1) == 5, "CALL EAX: EIP %x", frame(1));
    CHECK_MSG(cpu->s.gpr[ESP] == STACK0 - 16, "and nothing is pushed");
    CHECK_MSG(SMALL("\x68\x00\x02\x00\x00\xc3") == VEC_GP && frame(1) == 5, "RET: EIP %x", frame(1));
    CHECK_MSG(cpu->s.gpr[ESP] == STACK0 - 4 - 16, "and nothing is popped");
    CHECK_MSG(SMALL("\x68\x00\x02\x00\x00\xc2\x08\x00") == VEC_GP && frame(1) == 5, "RET 8: EIP %x", frame(1));
    CHECK(SMALL("\x68\x08\x00\x00\x00\xc3\xf4\xf4") == VEC_BP);     /* ret to the INT3 */
    CHECK_MSG(SMALL("\x31\xc9\x66\xe3\x80") == VEC_GP && frame(1) == 2, "JECXZ: EIP %x", frame(1));
}

/* ---- encodings ---- */

static void long_and_forbidden_encodings(void)
{
    static const struct { const char *code; u8 len; const char *what; } invalid[] = {
        { "\x0f\x0b", 2, "UD2" }, { "\x0f\xb9\xc0", 3, "UD1" }, { "\x0f\xff\xc0", 3, "UD0" },
        { "\x0f\x04", 2, "0F 04" }, { "\x0f\x05", 2, "SYSCALL" }, { "\x0f\x07", 2, "SYSRET" },
        { "\x0f\x0a", 2, "0F 0A" }, { "\x0f\x24\xc0", 3, "MOV from TR" }, { "\x0f\x26\xc0", 3, "MOV to TR" },
        { "\x0f\x20\xc8", 3, "CR1" }, { "\x0f\x20\xe8", 3, "CR5" }, { "\x8c\xf0", 2, "segment register 6" },
        { "\x8e\xc8", 2, "MOV to CS" }, { "\x8d\xc0", 2, "LEA of a register" }, { "\xc4\xc0", 2, "LES of one" },
        { "\x62\xc0", 2, "BOUND of one" }, { "\xfe\xd0", 2, "FE /2" }, { "\xff\xf8", 2, "FF /7" },
        { "\x8f\xc8", 2, "8F /1" }, { "\xc6\xc8", 2, "C6 /1" }, { "\x0f\xba\xc0\x01", 4, "0FBA /0" },
        { "\x0f\xc7\xc8", 3, "CMPXCHG8B of a register" }, { "\x0f\x00\xf0", 3, "0F00 /6" },
        { "\x0f\x01\xe8", 3, "0F01 /5" }, { "\x0f\x01\xc0", 3, "VMCALL's place" }, { "\x0f\x01\xf8", 3, "SWAPGS" },
        { "\xf0\x90", 2, "LOCK NOP" }, { "\xf0\x8b\x03", 3, "LOCK MOV" }, { "\xf0\x83\x3b\x00", 4, "LOCK CMP" },
        { "\xf0\xf7\x03\x00\x00\x00\x00", 7, "LOCK TEST" }, { "\xf0\xd1\x23", 3, "LOCK SHL" },
        { "\xf0\x0f\xba\x23\x00", 5, "LOCK BT" }, { "\xf0\x0f\xa4\x03\x01", 5, "LOCK SHLD" },
        { "\xd9\xd1", 2, "D9 D1" }, { "\xd9\x0b", 2, "D9 /1 of memory" }, { "\xd9\xe2", 2, "D9 E2" },
        { "\xda\xe8", 2, "DA E8" }, { "\xdb\xe5", 2, "DB E5" }, { "\xdd\xf0", 2, "DD F0" },
        { "\xdf\xe1", 2, "DF E1" }, { "\x0f\x71\x13\x01", 4, "PSRLW of memory" }, { "\x0f\xaa", 2, "RSM outside" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(invalid); i++) {
        protected_mode(0);
        cpu->s.gpr[EBX] = DATA;
        CHECK_MSG(run(invalid[i].code, invalid[i].len) == VEC_UD && frame(0) == CODE, "%s", invalid[i].what);
    }
    protected_mode(0);
    CHECK(RUN("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90") == VEC_BP);
    protected_mode(0);
    CHECK_MSG(RUN("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90") == VEC_GP, "16 bytes");
    protected_mode(0);
    store32(ram + 0x1234, 0x77);
    cpu->s.gpr[EBX] = 0xffff1234;
    CHECK_MSG(RUN("\x67\x8b\x07") == VEC_BP && cpu->s.gpr[EAX] == 0x77, "[bx] in 32-bit code");
    real_mode();
    cpu->s.gpr[EBX] = 0x10000;
    CHECK_MSG(RUN("\x67\x8b\x03") == VEC_GP, "[ebx] beyond 64 KiB in real mode");
}

/* ---- debugging ---- */

static void single_step_and_its_shadow(void)
{
    protected_mode(0);
    cpu->s.eflags |= FLAG_TF;
    CHECK(RUN("\x90\x90") == VEC_DB && frame(0) == CODE + 1 && (cpu->s.dr[6] & 0x400f) == 0x4000);
    CHECK_MSG((frame(2) & FLAG_TF) && !(cpu->s.eflags & FLAG_TF), "the handler itself is not stepped");
    protected_mode(0);
    cpu->s.gpr[EAX] = SEL_DATA0;
    cpu->s.eflags |= FLAG_TF;
    CHECK_MSG(RUN("\x8e\xd0\x90\x90") == VEC_DB && frame(0) == CODE + 3, "MOV SS: one instruction later");
    protected_mode(0);
    cpu->s.eflags |= FLAG_TF;
    CHECK_MSG(RUN("\xfb\x90") == VEC_DB && frame(0) == CODE + 1, "STI holds off interrupts only");
    protected_mode(0);
    CHECK_MSG(RUN("\x68\x02\x01\x00\x00\x9d\x90\x90") == VEC_DB && frame(0) == CODE + 7,
              "POPF: the instruction behind it is the first");
    protected_mode(3);
    cpu->s.eflags |= FLAG_TF;
    CHECK_MSG(RUN("\xcd\x80\x90") == 0x80, "INT n clears TF for its handler");
    CHECK(frame(2) & FLAG_TF);
    protected_mode(0);
    cpu->s.gpr[ECX] = 3;
    cpu->s.gpr[EDI] = DATA;
    cpu->s.eflags |= FLAG_TF;
    CHECK_MSG(RUN("\xf3\xaa\x90") == VEC_DB && frame(0) == CODE && cpu->s.gpr[ECX] == 2, "REP: each time");
    protected_mode(0);
    CHECK_MSG(RUN("\xf1") == VEC_DB && frame(0) == CODE + 1, "INT1 is a trap");
}

static void breakpoints(void)
{
    protected_mode(0);
    cpu->s.dr[0] = DATA + 4;
    cpu->s.dr[7] = 0x401 | 1u << 16 | 3u << 18;                 /* write, 4 bytes */
    cpu->s.gpr[EBX] = DATA;
    CHECK(RUN("\x8b\x43\x04\x89\x43\x03\x90") == VEC_DB && frame(0) == CODE + 6 && (cpu->s.dr[6] & 15) == 1);
    protected_mode(0);
    cpu->s.dr[1] = DATA + 4;
    cpu->s.dr[7] = 0x404 | 3u << 20;                            /* read or write, 1 byte */
    cpu->s.gpr[EBX] = DATA;
    CHECK(RUN("\x8b\x43\x05\x8a\x43\x04\x90") == VEC_DB && frame(0) == CODE + 6 && (cpu->s.dr[6] & 15) == 2);
    protected_mode(0);
    cpu->s.dr[2] = CODE + 1;
    cpu->s.dr[7] = 0x410;
    CHECK_MSG(RUN("\x90\x40\x90") == VEC_DB && frame(0) == CODE + 1 && !(frame(2) & FLAG_RF) &&
                  (cpu->s.dr[6] & 15) == 4, "execution: before the instruction; RF is the handler's to set");
    memcpy(ram + HANDLERS + 16 * VEC_DB, "\x80\x4c\x24\x0a\x01\xcf", 6);     /* or byte [esp+10], 1; iret */
    blocks_drop_all(cpu);
    cpu->s.gpr[EAX] = 0;
    CHECK_MSG(go(CODE) == VEC_BP && cpu->s.gpr[EAX] == 1, "IRET with RF goes past it");
    protected_mode(0);
    cpu->s.cr4 |= CR4_DE;
    cpu->s.dr[3] = 0x80;
    cpu->s.dr[7] = 0x440 | 2u << 28;
    CHECK(RUN("\xe6\x81\xe6\x80\x90") == VEC_DB && frame(0) == CODE + 4 && (cpu->s.dr[6] & 15) == 8);
    protected_mode(0);
    cpu->s.dr[3] = 0x80;
    cpu->s.dr[7] = 0x440 | 2u << 28;
    CHECK_MSG(RUN("\xe6\x80\x90") == VEC_BP, "without CR4.DE there are no breakpoints on ports");
    protected_mode(0);
    cpu->s.dr[7] = 0x2400;
    CHECK_MSG(RUN("\x0f\x21\xf0") == VEC_DB && frame(0) == CODE && (cpu->s.dr[6] & 1 << 13) &&
                  !(cpu->s.dr[7] & 0x2000), "GD: a fault, and GD is cleared");
    protected_mode(0);
    CHECK_MSG(RUN("\x0f\x21\xe0") == VEC_BP && cpu->s.gpr[EAX] == cpu->s.dr[6], "DR4 is DR6");
    protected_mode(0);
    cpu->s.cr4 |= CR4_DE;
    CHECK_MSG(RUN("\x0f\x21\xe0") == VEC_UD, "but not with CR4.DE");
}

static void alignment(void)
{
    protected_mode(3);
    cpu->s.cr0 |= CR0_AM;
    cpu->s.eflags |= FLAG_AC;
    cpu->s.gpr[EBX] = DATA + 1;
    CHECK(RUN("\x8a\x03\x8b\x03") == VEC_AC && frame(0) == 0 && frame(1) == CODE + 2);
    protected_mode(3);
    cpu->s.cr0 |= CR0_AM;
    cpu->s.eflags |= FLAG_AC;
    cpu->s.gpr[EBX] = DATA + 4;
    CHECK_MSG(RUN("\x66\x8b\x43\x02\xdd\x43\x08") == VEC_AC, "a double float of 8 bytes at 4");
    protected_mode(0);
    cpu->s.cr0 |= CR0_AM;
    cpu->s.eflags |= FLAG_AC;
    cpu->s.gpr[EBX] = DATA + 1;
    CHECK_MSG(RUN("\x8b\x03") == VEC_BP, "at privilege 0 never");
}

/* ---- stacks of inner levels ---- */

static void sixteen_bit_tss_and_gates(void)
{
    protected_mode(3);
    cpu->s.tr.attr = 0x83;
    store16(ram + TSS + 2, 0x7f00);
    store16(ram + TSS + 4, SEL_DATA0);
    CHECK_MSG(RUN("\xcd\x80") == 0x80 && cpu->s.gpr[ESP] == 0x7f00 - 20, "ESP0 of 16 bits: %x", cpu->s.gpr[ESP]);
    protected_mode(3);
    set_gate(GDT + SEL_FREE, SEL_CODE0, HANDLERS + 16 * 0x90, 0xe4, 2);         /* 286 call gate, 2 words */
    store32(ram + STACK3, 0x22221111);
    CHECK(RUN("\x9a\x00\x00\x00\x00\x33\x00") == 0x90 && cpu->s.gpr[ESP] == STACK0 - 12);
    CHECK_MSG(frame(0) == ((u32)SEL_CODE3 << 16 | ((CODE + 7) & 0xffff)), "return address: %08x", frame(0));
    CHECK_MSG(frame(1) == 0x22221111 && frame(2) == ((u32)SEL_DATA3 << 16 | (STACK3 & 0xffff)),
              "parameters, then the old stack: %08x %08x", frame(1), frame(2));
    protected_mode(3);
    store16(ram + TSS + 8, SEL_DATA3);
    CHECK_MSG(RUN("\xcd\x80") == -2, "a stack of the wrong level for every handler: shutdown");
}

/* ---- control registers, tables, privileges ---- */

static void privileged_instructions(void)
{
    static const struct { const char *code; u8 len; const char *what; } rows[] = {
        { "\x0f\x20\xc0", 3, "MOV from CR0" }, { "\x0f\x22\xd8", 3, "MOV to CR3" }, { "\x0f\x21\xc0", 3, "MOV from DR" },
        { "\x0f\x06", 2, "CLTS" }, { "\x0f\x08", 2, "INVD" }, { "\x0f\x09", 2, "WBINVD" }, { "\xf4", 1, "HLT" },
        { "\x0f\x01\x13", 3, "LGDT" }, { "\x0f\x01\x1b", 3, "LIDT" }, { "\x0f\x01\xf0", 3, "LMSW" },
        { "\x0f\x01\x3b", 3, "INVLPG" }, { "\x0f\x30", 2, "WRMSR" }, { "\x0f\x32", 2, "RDMSR" },
        { "\x0f\x33", 2, "RDPMC" }, { "\x0f\x00\xd0", 3, "LLDT" }, { "\x0f\x00\xd8", 3, "LTR" },
        { "\xe4\x60", 2, "IN" }, { "\xee", 1, "OUT" }, { "\xfa", 1, "CLI" }, { "\xfb", 1, "STI" },
        { "\x0f\x35", 2, "SYSEXIT" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        protected_mode(3);
        cpu->s.gpr[EBX] = DATA;
        cpu->s.gpr[EDX] = 0x60;
        memset(ram + TSS + 0x88, 0xff, 0x100);
        CHECK_MSG(run(rows[i].code, rows[i].len) == VEC_GP && frame(0) == 0, "%s at privilege 3", rows[i].what);
    }
    protected_mode(3);
    CHECK(RUN("\x0f\x31") == VEC_BP);
    protected_mode(3);
    cpu->s.cr4 |= CR4_TSD;
    CHECK_MSG(RUN("\x0f\x31") == VEC_GP, "RDTSC with CR4.TSD");
    protected_mode(3);
    CHECK_MSG(RUN("\x0f\x01\xe0") == VEC_BP && (cpu->s.gpr[EAX] & 0xffff) == (cpu->s.cr0 & 0xffff), "SMSW is free");
}

static void tables_and_switches(void)
{
    protected_mode(0);
    cpu->s.gpr[EBX] = DATA;
    CHECK(RUN("\x0f\x01\x03\x0f\x01\x4b\x08") == VEC_BP);       /* sgdt [ebx]; sidt [ebx+8] */
    CHECK(load16(ram + DATA) == 0x47 && load32(ram + DATA + 2) == GDT && load32(ram + DATA + 10) == IDT);
    protected_mode(0);
    cpu->s.gpr[EBX] = DATA;
    store16(ram + DATA, 0x47);
    store32(ram + DATA + 2, 0xab000000 | GDT);
    CHECK_MSG(RUN("\x66\x0f\x01\x13") == VEC_BP && cpu->s.gdt_base == GDT, "LGDT of 16 bits takes 24 of the base");
    protected_mode(0);
    cpu->s.cr0 |= CR0_TS;
    CHECK(RUN("\xd9\xe8") == VEC_NM);
    protected_mode(0);
    cpu->s.cr0 |= CR0_TS;
    CHECK(RUN("\x0f\x06\xd9\xe8") == VEC_BP);
    protected_mode(0);
    cpu->s.cr0 |= CR0_TS;
    CHECK_MSG(RUN("\x0f\x58\xc1") == VEC_NM, "SSE with TS");
    protected_mode(0);
    cpu->s.cr0 |= CR0_EM;
    CHECK_MSG(RUN("\x0f\x58\xc1") == VEC_UD, "SSE with EM");
    protected_mode(0);
    cpu->s.cr4 &= ~(u32)CR4_OSFXSR;
    CHECK_MSG(RUN("\x0f\x58\xc1") == VEC_UD, "SSE without OSFXSR");
    protected_mode(0);
    cpu->s.cr0 |= CR0_TS;
    CHECK_MSG(RUN("\x9b") == VEC_BP, "WAIT with TS alone");
    protected_mode(0);
    cpu->s.cr0 |= CR0_TS | CR0_MP;
    CHECK_MSG(RUN("\x9b") == VEC_NM, "WAIT with MP and TS");
    protected_mode(0);
    cpu->s.gpr[EAX] = 0x80000001;
    CHECK_MSG(RUN("\x25\xfe\xff\xff\xff\x0f\x22\xc0") == VEC_GP, "PG without PE");
    protected_mode(0);
    cpu->s.gpr[EAX] = 0x4000;
    CHECK_MSG(RUN("\x0f\x22\xe0") == VEC_GP, "a reserved bit of CR4");
    protected_mode(0);
    CHECK_MSG(RUN("\x31\xc0\x0f\x01\xf0") == VEC_BP && (cpu->s.cr0 & CR0_PE), "LMSW can't leave protected mode");
    protected_mode(0);
    cpu->s.gpr[ECX] = 2;
    CHECK_MSG(RUN("\x0f\x33") == VEC_GP, "there are two performance counters");
}

static void pointers_are_loaded(void)
{
    protected_mode(0);
    cpu->s.gpr[EBX] = DATA;
    store32(ram + DATA, 0x11223344);
    store16(ram + DATA + 4, SEL_DATA3);
    CHECK(RUN("\x0f\xb4\x0b") == VEC_BP && cpu->s.gpr[ECX] == 0x11223344 && cpu->s.seg[FS].sel == SEL_DATA3);
    protected_mode(0);
    cpu->s.gpr[EBX] = DATA;
    cpu->s.gpr[ECX] = 5;
    store16(ram + DATA + 4, 0x1000);
    CHECK_MSG(RUN("\x0f\xb5\x0b") == VEC_GP && frame(0) == 0x1000 && cpu->s.gpr[ECX] == 5,
              "a bad selector: the register stays");
    protected_mode(0);
    cpu->s.gpr[EBX] = DATA;
    store16(ram + DATA + 4, 0);
    CHECK_MSG(RUN("\x0f\xb2\x23") == VEC_GP && frame(0) == 0, "SS can't be null");
}

static void bytes_under_a_mask(void)
{
    protected_mode(0);
    cpu->s.gpr[EDI] = DATA;
    memset(ram + DATA, 0xee, 16);
    for (unsigned i = 0; i < 16; i++) {
        cpu->s.fx[160 + i] = (u8)i;
        cpu->s.fx[176 + i] = i % 3 ? 0 : 0x80;
    }
    CHECK(RUN("\x66\x0f\xf7\xc1") == VEC_BP);                   /* maskmovdqu xmm0, xmm1 */
    for (unsigned i = 0; i < 16; i++)
        CHECK_MSG(ram[DATA + i] == (i % 3 ? 0xee : i), "byte %u", i);
}

/* ---- paging ---- */

static void pse_36(void)
{
    protected_mode(0);
    for (u32 i = 0; i < 1024; i++)
        store32(ram + PAGE_TABLE + 4 * i, i << 12 | 7);
    store32(ram + PAGE_DIR, PAGE_TABLE | 7);
    store32(ram + PAGE_DIR + 4, 0x2087);                        /* bit 13 is bit 32 of the address */
    store32(ram + PAGE_DIR + 8, 0x200087);                      /* bit 21 is reserved */
    cpu->s.cr3 = PAGE_DIR;
    cpu->s.cr4 |= CR4_PSE;
    cpu->s.cr0 |= CR0_PG;
    CHECK_MSG(RUN("\xa1\x00\x00\x40\x00") == VEC_BP && cpu->s.gpr[EAX] == 0xffffffffu, "above 4 GiB is nothing");
    CHECK_MSG(RUN("\xa1\x00\x00\x80\x00") == VEC_PF && frame(0) == 9, "a reserved bit: error %x", frame(0));
}

int main(void)
{
    if (!guest_create("pentium4"))
        return test_end();
    selectors_are_examined();
    arpl_raises_the_rpl();
    limits_of_every_kind();
    jumps_out_of_the_segment();
    long_and_forbidden_encodings();
    single_step_and_its_shadow();
    breakpoints();
    alignment();
    sixteen_bit_tss_and_gates();
    privileged_instructions();
    tables_and_switches();
    pointers_are_loaded();
    bytes_under_a_mask();
    pse_36();
    return test_end();
}
