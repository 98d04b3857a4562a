/*
 * The disassembler: Intel syntax, from the same rows as the decoder. Contract: cpu_disassemble() in vm/cpu.h.
 */
#include "insn.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    char *p;
    size_t room;                    /* with the terminating NUL */
} Out;

static PRINTF_LIKE(2, 3) void put(Out *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(o->p, o->room, fmt, ap);
    va_end(ap);
    if (n > 0) {
        size_t used = (size_t)n < o->room ? (size_t)n : o->room - 1;
        o->p += used;
        o->room -= used;
    }
}

static const char *const reg8[] = { "al", "cl", "dl", "bl", "ah", "ch", "dh", "bh" };
static const char *const reg16[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
static const char *const reg32[] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
static const char *const seg_name[] = { "es", "cs", "ss", "ds", "fs", "gs", "?", "?" };

static const char *reg_name(unsigned reg, unsigned size)
{
    return size == 1 ? reg8[reg] : size == 2 ? reg16[reg] : reg32[reg];
}

static void put_address(Out *o, const Insn *n)
{
    bool first = true;
    const char *const *names = n->addr32 ? reg32 : reg16;
    bool stack = n->base == ESP || n->base == EBP;
    put(o, "[");
    if (n->seg != (stack ? SS : DS))
        put(o, "%s:", seg_name[n->seg]);
    if (n->base != NO_REG) {
        put(o, "%s", names[n->base]);
        first = false;
    }
    if (n->index != NO_REG) {
        put(o, "%s%s", first ? "" : "+", names[n->index]);
        if (n->scale)
            put(o, "*%d", 1 << n->scale);
        first = false;
    }
    if (first)
        put(o, "0x%x", n->addr32 ? n->disp : n->disp & 0xffff);
    else if (n->disp)
        put(o, "%c0x%x", (s32)n->disp < 0 ? '-' : '+', (s32)n->disp < 0 ? -n->disp : n->disp);
    put(o, "]");
}

static void put_memory(Out *o, const Insn *n)
{
    static const struct { u8 size; const char *name; } sizes[] = {
        { 1, "byte" }, { 2, "word" }, { 4, "dword" }, { 8, "qword" }, { 10, "tbyte" }, { 16, "oword" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
        if (sizes[i].size == n->mem_size)
            put(o, "%s ", sizes[i].name);
    put_address(o, n);
}

static unsigned gpr_size(Operand k, const Insn *n)
{
    switch (k) {
    case Eb: case Gb: case Zb: return 1;
    case Ew: case Gw: return 2;
    case Ev: case Gv: case Zv: return n->opsize;
    default: return 4;
    }
}

static void put_rm(Out *o, const Insn *n, Operand k)
{
    if (n->mod != 3) {
        put_memory(o, n);
        return;
    }
    switch (k) {
    case Qd: case Qq: case Nq: put(o, "mm%u", n->rm); break;
    case Ww: case Wd: case Wq: case Wx: case Ux: put(o, "xmm%u", n->rm); break;
    case STi: put(o, "st%u", n->rm); break;
    default: put(o, "%s", reg_name(n->rm, gpr_size(k, n))); break;
    }
}

static void put_operand(Out *o, const Insn *n, Operand k)
{
    unsigned wide = k == Xv || k == Yv ? n->opsize : 1;
    switch (k) {
    case Gb: case Gw: case Gd: case Gv: put(o, "%s", reg_name(n->reg, gpr_size(k, n))); break;
    case Zb: case Zv: put(o, "%s", reg_name(n->opcode & 7, gpr_size(k, n))); break;
    case Pq: put(o, "mm%u", n->reg); break;
    case Vx: put(o, "xmm%u", n->reg); break;
    case Sw: put(o, "%s", seg_name[n->reg]); break;
    case Cd: put(o, "cr%u", n->reg); break;
    case Dd: put(o, "dr%u", n->reg); break;
    case Ib: case Iw: case Iv: put(o, "0x%x", n->imm); break;
    case Is: put(o, "%s0x%x", (s32)n->imm < 0 ? "-" : "", (s32)n->imm < 0 ? -n->imm : n->imm); break;
    case Jb:
    case Jv:
        put(o, "0x%x", (n->eip + n->len + n->imm) & (n->opsize == 2 ? 0xffffu : 0xffffffffu));
        break;
    case Ap: put(o, "0x%x:0x%x", n->imm2, n->imm); break;
    case Ob: case Ov: put_memory(o, n); break;
    case AL: put(o, "al"); break;
    case AX: put(o, "%s", n->map == MAP_1 && n->opcode == 0xdf ? "ax" : reg_name(EAX, n->opsize)); break;
    case CL: put(o, "cl"); break;
    case DX: put(o, "dx"); break;
    case I1: put(o, "1"); break;
    case ST0: put(o, "st0"); break;
    case rES: case rCS: case rSS: case rDS: case rFS: case rGS: put(o, "%s", seg_name[k - rES]); break;
    case Xb: case Xv:
        put(o, "%s [%s:%s]",
            wide == 1   ? "byte"
            : wide == 2 ? "word"
                        : "dword",
            seg_name[n->seg], n->addr32 ? "esi" : "si");
        break;
    case Yb: case Yv:
        put(o, "%s [es:%s]", wide == 1 ? "byte" : wide == 2 ? "word" : "dword", n->addr32 ? "edi" : "di");
        break;
    default: put_rm(o, n, k); break;
    }
}

/* Names that depend on a size stand in the row as "16-bit/32-bit"; JCXZ goes by the address size. */
static void put_name(Out *o, const Insn *n)
{
    const char *name = n->row->name, *slash = strchr(name, '/');
    bool wide = n->row->action == A_LOOP ? n->addr32 : n->opsize == 4;
    if (!slash)
        put(o, "%s", name);
    else if (wide)
        put(o, "%s", slash + 1);
    else
        put(o, "%.*s", (int)(slash - name), name);
}

static bool is_string(const Insn *n)
{
    return n->map == MAP_1 &&
           ((n->opcode >= 0xa4 && n->opcode <= 0xa7) || (n->opcode >= 0xaa && n->opcode <= 0xaf) ||
            (n->opcode >= 0x6c && n->opcode <= 0x6f));
}

unsigned cpu_disassemble(const u8 *code, unsigned len, u64 address, unsigned bits, char *text,
                         size_t text_size)
{
    Insn n;
    Out o = { text, text_size };
    if (!text_size)
        return 1;
    if (insn_decode(&n, code, len, (u32)address, bits == 32) != DECODE_OK) {
        put(&o, "db 0x%02x", len ? code[0] : 0);
        return 1;
    }
    if (n.lock)
        put(&o, "lock ");
    if (n.rep && is_string(&n)) {
        bool compares = (n.opcode & 0xf6) == 0xa6;
        put(&o, n.rep == 1 ? "repne " : compares ? "repe " : "rep ");
    }
    put_name(&o, &n);
    Operand ops[3] = { n.row->a, n.row->b, n.row->c };
    if (n.map == MAP_1 && n.opcode == 0xc8) {
        put(&o, " 0x%x, 0x%x", n.imm, n.imm2);
        return n.len;
    }
    for (int i = 0; i < 3 && ops[i] != NONE; i++) {
        put(&o, i ? ", " : " ");
        put_operand(&o, &n, ops[i]);
    }
    return n.len;
}
