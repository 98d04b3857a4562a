/*
 * GDB's registers of an i386: general, x87, SSE, and a group of its own for what an operating system sets.
 * The names of the first three groups are those of the features org.gnu.gdb.i386.core and .sse.
 *
 * eip is the linear address of the instruction (CS base added): GDB knows no segments, and only so do its
 * breakpoints, disassembly and steps meet the same place in 16-bit code too. cs_base is in the last group.
 */
#include "gdb_regs.h"

#include <stdio.h>
#include <string.h>

enum { CORE = 16, ST = 16, FPU = 24, XMM = 32, MXCSR = 40, SYSTEM = 41 };

static const char *const core_names[CORE] = {
    "eax", "ecx",    "edx", "ebx", "esp", "ebp", "esi", "edi",
    "eip", "eflags", "cs",  "ss",  "ds",  "es",  "fs",  "gs",
};
static const char *const fpu_names[8] = {"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"};
static const struct { const char *shown, *name;
} system_names[GDB_REGS - SYSTEM] = {
    {"cs_base", "cs.base"}, {"ss_base", "ss.base"}, {"ds_base", "ds.base"}, {"es_base", "es.base"},
    {"fs_base", "fs.base"}, {"gs_base", "gs.base"}, {"cr0", "cr0"},         {"cr2", "cr2"},
    {"cr3", "cr3"},         {"cr4", "cr4"},         {"dr0", "dr0"},         {"dr1", "dr1"},
    {"dr2", "dr2"},         {"dr3", "dr3"},         {"dr6", "dr6"},         {"dr7", "dr7"},
    {"tr", "tr"},           {"ldtr", "ldtr"},
};

const char *gdb_target_xml(unsigned bits)
{
    static char xml[8192];          /* about 6 KiB are used */
    size_t n = 0;
#define PUT(...) n += (size_t)snprintf(xml + n, sizeof xml - n, __VA_ARGS__)
    PUT("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
        "<architecture>%s</architecture><feature name=\"org.gnu.gdb.i386.core\"><flags id=\"eflags\" "
        "size=\"4\">",
        bits == 16 ? "i8086" : "i386");
    static const struct { const char *name; int bit;
    } flags[] = {
        {"CF", 0},  {"PF", 2},  {"AF", 4},  {"ZF", 6},  {"SF", 7},  {"TF", 8},  {"IF", 9},
        {"DF", 10}, {"OF", 11}, {"NT", 14}, {"RF", 16}, {"VM", 17}, {"AC", 18}, {"ID", 21},
    };
    for (unsigned i = 0; i < ARRAY_LEN(flags); i++)
        PUT("<field name=\"%s\" start=\"%d\" end=\"%d\"/>", flags[i].name, flags[i].bit, flags[i].bit);
    PUT("</flags>");
    for (unsigned i = 0; i < CORE; i++)
        PUT("<reg name=\"%s\" bitsize=\"32\" type=\"%s\"/>", core_names[i],
            i == 8 ? "code_ptr" : i == 4 || i == 5 ? "data_ptr" : i == 9 ? "eflags" : "int32");
    for (unsigned i = 0; i < 8; i++)
        PUT("<reg name=\"st%u\" bitsize=\"80\" type=\"i387_ext\"/>", i);
    for (unsigned i = 0; i < 8; i++)
        PUT("<reg name=\"%s\" bitsize=\"32\" type=\"int\" group=\"float\"/>", fpu_names[i]);
    PUT("</feature><feature name=\"org.gnu.gdb.i386.sse\"><vector id=\"v4f\" type=\"ieee_single\" "
        "count=\"4\"/>"
        "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/><vector id=\"v16b\" type=\"int8\" "
        "count=\"16\"/>"
        "<vector id=\"v4i\" type=\"int32\" count=\"4\"/><vector id=\"v2q\" type=\"int64\" count=\"2\"/>"
        "<union id=\"vec\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
        "<field name=\"v16_int8\" type=\"v16b\"/><field name=\"v4_int32\" type=\"v4i\"/>"
        "<field name=\"v2_int64\" type=\"v2q\"/><field name=\"uint128\" type=\"uint128\"/></union>");
    for (unsigned i = 0; i < 8; i++)
        PUT("<reg name=\"xmm%u\" bitsize=\"128\" type=\"vec\"/>", i);
    PUT("<reg name=\"mxcsr\" bitsize=\"32\" type=\"int\" group=\"vector\"/></feature>"
        "<feature name=\"org.qemu-win.system\">");
    for (unsigned i = 0; i < ARRAY_LEN(system_names); i++)
        PUT("<reg name=\"%s\" bitsize=\"32\" type=\"int\" group=\"system\"/>", system_names[i].shown);
    PUT("</feature></target>");
#undef PUT
    return xml;
}

unsigned gdb_reg_size(unsigned reg)
{
    return reg >= GDB_REGS ? 0 : reg >= ST && reg < FPU ? 10 : reg >= XMM && reg < MXCSR ? 16 : 4;
}

/* FXSAVE keeps one bit a register; the tag word has two: 0 valid, 1 zero, 2 special, 3 empty. */
static u16 full_tags(const u8 *fx)
{
    u16 tags = 0;
    unsigned top = load16(fx + 2) >> 11 & 7;
    for (unsigned i = 0; i < 8; i++) {
        const u8 *st = fx + 32 + 16 * ((i - top) & 7);
        u64 mantissa = load64(st);
        unsigned exponent = load16(st + 8) & 0x7fff, tag = 0;
        if (!(fx[4] >> i & 1))
            tag = 3;
        else if (!exponent && !mantissa)
            tag = 1;
        else if (!exponent || exponent == 0x7fff || !(mantissa >> 63))
            tag = 2;
        tags |= (u16)(tag << (2 * i));
    }
    return tags;
}

static u32 fpu_read(const u8 *fx, unsigned which)
{
    switch (which) {
    case 0: return load16(fx);
    case 1: return load16(fx + 2);
    case 2: return full_tags(fx);
    case 3: return load16(fx + 12);
    case 4: return load32(fx + 8);
    case 5: return load16(fx + 20);
    case 6: return load32(fx + 16);
    default: return load16(fx + 6) & 0x7ff;
    }
}

void gdb_reg_read(Cpu *cpu, unsigned reg, u8 *value)
{
    const u8 *fx = cpu_fx_image(cpu);
    u64 v = 0;
    if (reg < CORE && reg != 8)
        cpu_get_register(cpu, core_names[reg], &v);
    else if (reg == 8)
        v = cpu_eip(cpu);
    else if (reg >= FPU && reg < XMM)
        v = fpu_read(fx, reg - FPU);
    else if (reg == MXCSR)
        v = load32(fx + 24);
    else if (reg >= SYSTEM)
        cpu_get_register(cpu, system_names[reg - SYSTEM].name, &v);
    store32(value, (u32)v);
    if (reg >= ST && reg < FPU)
        memcpy(value, fx + 32 + 16 * (reg - ST), 10);
    if (reg >= XMM && reg < MXCSR)
        memcpy(value, fx + 160 + 16 * (reg - XMM), 16);
}

static bool fpu_write(u8 *fx, unsigned which, u32 v)
{
    u8 tags = 0;
    switch (which) {
    case 0: store16(fx, (u16)v); break;
    case 1: store16(fx + 2, (u16)v); break;
    case 2:
        for (unsigned i = 0; i < 8; i++)
            tags |= (u8)(((v >> (2 * i) & 3) != 3) << i);
        fx[4] = tags;
        break;
    case 3: store16(fx + 12, (u16)v); break;
    case 4: store32(fx + 8, v); break;
    case 5: store16(fx + 20, (u16)v); break;
    case 6: store32(fx + 16, v); break;
    default: store16(fx + 6, v & 0x7ff); break;
    }
    return true;
}

/* Segment registers, control registers and the like stay: loading them has effects that only the guest's own
 * instructions have. Writing back what is there is allowed, as GDB does for all registers at once. */
bool gdb_reg_write(Cpu *cpu, unsigned reg, const u8 *value)
{
    u8 *fx = cpu_fx_image(cpu), now[GDB_REG_MAX];
    u32 v = load32(value);
    u64 base = 0;
    gdb_reg_read(cpu, reg, now);
    if (!memcmp(now, value, gdb_reg_size(reg)))
        return true;
    if (reg == 8)
        cpu_get_register(cpu, "cs.base", &base);
    if (reg < 10)
        return cpu_set_register(cpu, core_names[reg], (u32)(v - base));
    if (reg >= ST && reg < FPU)
        memcpy(fx + 32 + 16 * (reg - ST), value, 10);
    else if (reg >= FPU && reg < XMM)
        return fpu_write(fx, reg - FPU, v);
    else if (reg >= XMM && reg < MXCSR)
        memcpy(fx + 160 + 16 * (reg - XMM), value, 16);
    else if (reg == MXCSR)
        store32(fx + 24, v & 0xffbf);           /* reserved bits would fault when it is loaded */
    else
        return false;
    return true;
}
