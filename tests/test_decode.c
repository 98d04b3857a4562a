/*
 * The decoder and the disassembler: known encodings, every row of the table reachable, truncation, the
 * 15-byte limit, LOCK, and random bytes (nothing is read past what is given).
 */
#include "test.h"

#include "../core/x86/insn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void known_encodings(void)
{
    static const struct { const char *hex; unsigned bits; const char *text; } rows[] = {
        { "90", 32, "nop" },
        { "00d8", 32, "add al, bl" },
        { "01c8", 32, "add eax, ecx" },
        { "6601c8", 32, "add ax, cx" },
        { "01c8", 16, "add ax, cx" },
        { "8b4424fc", 32, "mov eax, dword [esp-0x4]" },
        { "8b04b5785634 12", 32, "mov eax, dword [esi*4+0x12345678]" },
        { "8b0578563412", 32, "mov eax, dword [0x12345678]" },
        { "8b4d08", 32, "mov ecx, dword [ebp+0x8]" },
        { "658b0d04000000", 32, "mov ecx, dword [gs:0x4]" },
        { "368b07", 16, "mov ax, word [ss:bx]" },
        { "8b4202", 16, "mov ax, word [bp+si+0x2]" },
        { "8b0e3412", 16, "mov cx, word [0x1234]" },
        { "678b0c24", 16, "mov cx, word [esp]" },
        { "678b4602", 32, "mov eax, dword [bp+0x2]" },
        { "81c3efbeadde", 32, "add ebx, 0xdeadbeef" },
        { "83c3ff", 32, "add ebx, -0x1" },
        { "c1e005", 32, "shl eax, 0x5" },
        { "d3f8", 32, "sar eax, cl" },
        { "f7f1", 32, "div ecx" },
        { "f00fb10b", 32, "lock cmpxchg dword [ebx], ecx" },
        { "f30faf5a10", 32, "imul ebx, dword [edx+0x10]" },
        { "f3a4", 32, "rep movs byte [es:edi], byte [ds:esi]" },
        { "f2ae", 16, "repne scas al, byte [es:di]" },
        { "f3a6", 32, "repe cmps byte [ds:esi], byte [es:edi]" },
        { "eb fe", 32, "jmp 0x0" },
        { "0f84fa000000", 32, "je 0x100" },
        { "e8fdff", 16, "call 0x0" },
        { "9a785634120800", 32, "call far 0x8:0x12345678" },
        { "ea5be000f0", 16, "jmp far 0xf000:0xe05b" },
        { "ff1d00100000", 32, "call far [0x1000]" },
        { "c8100001", 32, "enter 0x10, 0x1" },
        { "66e3fd", 32, "jecxz 0x0" },
        { "67e3fd", 32, "jcxz 0x0" },
        { "98", 32, "cwde" },
        { "98", 16, "cbw" },
        { "669c", 32, "pushf" },
        { "0f20c0", 32, "mov eax, cr0" },
        { "0f2203", 32, "mov cr0, ebx" },
        { "8ed8", 32, "mov ds, ax" },
        { "0fb6c4", 32, "movzx eax, ah" },
        { "d9e8", 32, "fld1" },
        { "dc4510", 32, "fadd qword [ebp+0x10]" },
        { "dbad00010000", 32, "fld tbyte [ebp+0x100]" },
        { "dec1", 32, "faddp st1, st0" },
        { "dfe0", 32, "fnstsw ax" },
        { "0f6fc1", 32, "movq mm0, mm1" },
        { "660f6f01", 32, "movdqa xmm0, oword [ecx]" },
        { "f30f6f01", 32, "movdqu xmm0, oword [ecx]" },
        { "f30f58d9", 32, "addss xmm3, xmm1" },
        { "f20f2ac8", 32, "cvtsi2sd xmm1, eax" },
        { "0fc70e", 32, "cmpxchg8b qword [esi]" },
        { "0fc9", 32, "bswap ecx" },
        { "0fa5d0", 32, "shld eax, edx, cl" },
        { "a178563412", 32, "mov eax, dword [0x12345678]" },
        { "0f1f440000", 32, "nop [eax+eax]" },
        { "cd80", 32, "int 0x80" },
        { "d50a", 16, "aad 0xa" },
        { "0fff", 32, "db 0x0f" },
        { "f040", 32, "db 0xf0" },
        { "c6c8", 32, "db 0xc6" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        u8 code[16] = { 0 };
        unsigned len = 0;
        char text[96];
        for (const char *p = rows[i].hex; *p; ) {
            if (*p == ' ') {
                p++;
                continue;
            }
            char byte[3] = { p[0], p[1], 0 };
            code[len++] = (u8)strtoul(byte, NULL, 16);
            p += 2;
        }
        unsigned got = cpu_disassemble(code, len, 0, rows[i].bits, text, sizeof text);
        bool none = !strncmp(rows[i].text, "db", 2);
        CHECK_MSG(!strcmp(text, rows[i].text), "%s: '%s', wanted '%s'", rows[i].hex, text, rows[i].text);
        CHECK_MSG(got == (none ? 1 : len), "%s: length %u", rows[i].hex, got);
    }
}

/* Bytes that this row, and no other, stands for. */
static void bytes_of(const InsnRow *r, u8 *code)
{
    static const u8 mandatory[] = { [P66] = 0x66, [PF3] = 0xf3, [PF2] = 0xf2 };
    unsigned n = 0, modrm = 0xc0;
    if (r->prefix > PNO)
        code[n++] = mandatory[r->prefix];
    if (r->map != MAP_1)
        code[n++] = 0x0f;
    if (r->map >= MAP_0F38)
        code[n++] = r->map == MAP_0F38 ? 0x38 : 0x3a;
    code[n++] = r->opcode;
    switch (r->sel & 0xf0) {
    case 0x10: modrm = 0xc3 | (r->sel & 7u) << 3; break;
    case 0x20: modrm = 0x03 | (r->sel & 7u) << 3; break;
    case 0x30: modrm = 0x03; break;
    case 0x40: modrm = 0xc3 | (r->sel & 7u) << 3; break;
    case 0x00: case 0x50: break;
    default: modrm = 0xc0 | (r->sel & 0x3f); break;
    }
    code[n] = (u8)modrm;
}

static void every_row_is_reachable(void)
{
    for (unsigned i = 0; i < insn_row_count; i++) {
        u8 code[16] = { 0 };
        Insn n;
        bytes_of(&insn_rows[i], code);
        insn_decode(&n, code, 15, 0, true);
        CHECK_MSG(n.row == &insn_rows[i], "row %u (%s, opcode %02x) is found", i, insn_rows[i].name,
                  insn_rows[i].opcode);
        CHECK_MSG(insn_rows[i].number == i, "row %u knows its number", i);
    }
}

static void a_cut_instruction_wants_more(void)
{
    static const u8 code[] = {0x66, 0x67, 0x2e, 0x81, 0x84, 0x8b,
                              1,    2,    3,    4,    5,    6}; /* add word [cs:...], imm16 */
    Insn n;
    CHECK(insn_decode(&n, code, sizeof code, 0, true) != DECODE_SHORT);
    unsigned len = n.len;
    for (unsigned i = 0; i < len; i++)
        CHECK_MSG(insn_decode(&n, code, i, 0, true) == DECODE_SHORT, "cut at %u", i);
    CHECK(insn_decode(&n, code, len, 0, true) == DECODE_OK && n.len == len);
}

static void fifteen_bytes_are_the_limit(void)
{
    u8 code[20];
    Insn n;
    memset(code, 0x66, sizeof code);
    code[14] = 0x90;
    CHECK(insn_decode(&n, code, sizeof code, 0, true) == DECODE_OK && n.len == 15);
    code[14] = 0x66;
    code[15] = 0x90;
    CHECK(insn_decode(&n, code, sizeof code, 0, true) == DECODE_LONG);
    code[12] = 0x81;                    /* the opcode fits, its immediate does not */
    code[13] = 0xc0;
    CHECK(insn_decode(&n, code, sizeof code, 0, true) == DECODE_LONG);
}

static void lock_needs_memory_that_is_written(void)
{
    static const struct { u8 code[4]; bool ok;
    } rows[] = {
        {{0xf0, 0x01, 0x03}, true},       {{0xf0, 0x01, 0xc3}, false},       {{0xf0, 0x03, 0x03}, false},
        {{0xf0, 0x89, 0x03}, false},      {{0xf0, 0x87, 0x03}, true},        {{0xf0, 0xff, 0x03}, true},
        {{0xf0, 0x0f, 0xab, 0x03}, true}, {{0xf0, 0x0f, 0xa3, 0x03}, false}, {{0xf0, 0x39, 0x03}, false},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        Insn n;
        DecodeResult r = insn_decode(&n, rows[i].code, 4, 0, true);
        CHECK_MSG((r == DECODE_OK) == rows[i].ok, "lock row %u", i);
    }
}

static void random_bytes_stay_within_bounds(void)
{
    u64 seed = 88172645463325252ull;
    unsigned decoded = 0;
    for (unsigned i = 0; i < 200000; i++) {
        unsigned avail = 1 + i % 15;
        u8 *code = malloc(avail);       /* exact, so that the address sanitizer sees a byte too far */
        char text[64];
        for (unsigned k = 0; k < avail; k++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            code[k] = (u8)(seed >> 24);
        }
        unsigned len = cpu_disassemble(code, avail, 0, i & 1 ? 16 : 32, text, sizeof text);
        decoded += len >= 1 && len <= avail && strlen(text) < sizeof text;
        free(code);
    }
    CHECK(decoded == 200000);
}

/* docs/cpu.md publishes which flags are undefined after which instruction. */
static void documentation_has_the_undefined_flags(void)
{
    static const struct { u16 bit; const char *name; } flags[] = {
        { fC, "CF" }, { fP, "PF" }, { fA, "AF" }, { fZ, "ZF" }, { fS, "SF" }, { fO, "OF" },
    };
    static char text[32768];
    FILE *f = fopen("docs/cpu.md", "rb");
    size_t length = f ? fread(text, 1, sizeof text - 1, f) : 0;
    CHECK_MSG(length > 1000, "docs/cpu.md is read from the project's directory");
    if (f)
        fclose(f);
    for (unsigned i = 0; i < insn_row_count; i++) {
        char wanted[64] = "\n|", name[32], *line;
        if (!insn_rows[i].undefined)
            continue;
        for (unsigned k = 0; k < ARRAY_LEN(flags); k++)
            if (insn_rows[i].undefined & flags[k].bit)
                snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), " %s", flags[k].name);
        snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), " |");
        snprintf(name, sizeof name, " %s ", insn_rows[i].name);
        line = strstr(text, wanted);
        CHECK_MSG(line && strstr(line, name) && strstr(line, name) < strchr(line + 1, '\n'),
                  "docs/cpu.md has%s with%s", name, wanted + 1);
    }
}

int main(void)
{
    documentation_has_the_undefined_flags();
    known_encodings();
    every_row_is_reachable();
    a_cut_instruction_wants_more();
    fifteen_bytes_are_the_limit();
    lock_needs_memory_that_is_written();
    random_bytes_stay_within_bounds();
    return test_end();
}
