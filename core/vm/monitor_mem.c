/*
 * Monitor commands that look at memory and numbers: x (virtual addresses), xp (physical), print.
 * A format is [count][x d u o c i][b h w g], as in gdb.
 */
#include "monitor_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned count;
    char format;
    unsigned size;
} Format;

enum { MAX_COUNT = 65536 };

static bool parse_format(Monitor *mon, const char *text, Format *f, Error *err)
{
    const char *whole = text;
    char *end;
    unsigned long count = 1;
    *f = (Format){ 1, mon->mem_format, mon->mem_size };
    if (*text >= '0' && *text <= '9') {
        count = strtoul(text, &end, 10);
        text = end;
    }
    if (count > MAX_COUNT)
        return error_set(err, "at most %d units at a time", MAX_COUNT);
    f->count = (unsigned)count;
    for (; *text; text++) {
        if (strchr("xduoci", *text))
            f->format = *text;
        else if (*text == 'b' || *text == 'h' || *text == 'w' || *text == 'g')
            f->size = *text == 'b' ? 1 : *text == 'h' ? 2 : *text == 'w' ? 4 : 8;
        else
            return error_set(err, "the format /%.20s isn't [count][x|d|u|o|c|i][b|h|w|g]", whole);
    }
    if (f->format == 'c' && !strpbrk(whole, "bhwg"))
        f->size = 1;
    return true;
}

static void format_value(char *out, size_t n, char format, unsigned size, u64 v)
{
    if (size < 8)
        v &= (1ull << size * 8) - 1;
    s64 sv = (s64)(v << (64 - size * 8)) >> (64 - size * 8);
    switch (format) {
    case 'd': snprintf(out, n, "%lld", (long long)sv); break;
    case 'u': snprintf(out, n, "%llu", (unsigned long long)v); break;
    case 'o': snprintf(out, n, "0%llo", (unsigned long long)v); break;
    case 'c':
        v &= 0xff;
        if (v >= 0x20 && v < 0x7f)
            snprintf(out, n, "'%s%c'", v == '\'' || v == '\\' ? "\\" : "", (char)v);
        else
            snprintf(out, n, "'\\x%02x'", (unsigned)v);
        break;
    default: snprintf(out, n, "0x%0*llx", (int)size * 2, (unsigned long long)v); break;
    }
}

/* Reads up to n bytes; returns how many could be read. */
static unsigned read_memory(Monitor *mon, bool physical, u64 addr, u8 *buf, unsigned n)
{
    for (unsigned i = 0; i < n;) {
        u64 at = addr + i, phys = at;
        unsigned part = PAGE_SIZE - (unsigned)(at & PAGE_MASK);
        if (part > n - i)
            part = n - i;
        if (!physical && !cpu_virt_to_phys(mon->m->cpu, at, &phys))
            return i;
        if (phys >> 40 || !mem_page(mon->m->mem, phys).region)
            return i;
        mem_dma_read(mon->m->mem, phys, buf + i, part);
        i += part;
    }
    return n;
}

static void cannot_access(Monitor *mon, u64 addr)
{
    monitor_printf(mon, "Cannot access memory at address 0x%llx\n", (unsigned long long)addr);
}

static void disassemble(Monitor *mon, bool physical, u64 addr, unsigned count)
{
    unsigned bits = cpu_code_bits(mon->m->cpu);
    for (; count--;) {
        u8 code[15];
        char text[128], bytes[48] = "";
        unsigned n = read_memory(mon, physical, addr, code, sizeof code);
        if (!n) {
            cannot_access(mon, addr);
            return;
        }
        unsigned len = cpu_disassemble(code, n, addr, bits, text, sizeof text);
        if (len < 1 || len > n)
            len = 1;
        for (unsigned i = 0; i < len; i++)
            snprintf(bytes + i * 3, sizeof bytes - i * 3, "%02x ", code[i]);
        monitor_printf(mon, "0x%08llx:  %-24s %s\n", (unsigned long long)addr, bytes, text);
        addr += len;
    }
}

static void dump(Monitor *mon, bool physical, u64 addr, Format f)
{
    unsigned per_line = f.size == 1 ? 8 : 16 / f.size;
    for (unsigned i = 0; i < f.count; i++, addr += f.size) {
        u8 raw[8] = { 0 };
        char text[40];
        if (i % per_line == 0) {
            if (!physical)
                addr = (u32)addr;
            monitor_printf(mon, "%s%0*llx:", i ? "\n" : "", physical ? 16 : 8, (unsigned long long)addr);
        }
        if (read_memory(mon, physical, addr, raw, f.size) < f.size) {
            monitor_puts(mon, "\n");
            cannot_access(mon, addr);
            return;
        }
        format_value(text, sizeof text, f.format, f.size, load64(raw));
        monitor_printf(mon, " %s", text);
    }
    monitor_puts(mon, "\n");
}

static void examine(Monitor *mon, const Args *a, bool physical)
{
    Format f;
    Error err;
    u64 addr;
    const char *p = a->rest;
    if (!mon->m->cpu && !physical) {
        monitor_puts(mon, "this machine has no CPU\n");
        return;
    }
    machine_park(mon->m);
    if (!parse_format(mon, a->format, &f, &err) || !monitor_expr(mon, &p, &addr, &err)) {
        monitor_printf(mon, "%s: %s\n", physical ? "xp" : "x", err.text);
    } else if (*p) {
        monitor_printf(mon, "%s: '%.20s' behind the address isn't understood\n", physical ? "xp" : "x", p);
    } else {
        if (f.format == 'i' && mon->m->cpu)
            disassemble(mon, physical, addr, f.count);
        else if (f.format != 'i')
            dump(mon, physical, addr, f);
        mon->mem_format = f.format;
        mon->mem_size = (u8)f.size;
    }
    machine_unpark(mon->m);
}

void monitor_x(Monitor *mon, const Args *a) { examine(mon, a, false); }
void monitor_xp(Monitor *mon, const Args *a) { examine(mon, a, true); }

void monitor_p(Monitor *mon, const Args *a)
{
    Error err;
    u64 value;
    const char *p = a->rest;
    char format = *a->format ? *a->format : 'x', text[40];
    if (*a->format && (!strchr("xduoc", format) || a->format[1])) {
        monitor_printf(mon, "print: the format is one of /x /d /u /o /c\n");
        return;
    }
    machine_park(mon->m);
    if (!monitor_expr(mon, &p, &value, &err)) {
        monitor_printf(mon, "print: %s\n", err.text);
    } else if (*p) {
        monitor_printf(mon, "print: '%.20s' isn't understood\n", p);
    } else if (format == 'x') {
        monitor_printf(mon, "0x%llx\n", (unsigned long long)value);
    } else {
        format_value(text, sizeof text, format, 8, value);
        monitor_printf(mon, "%s\n", text);
    }
    machine_unpark(mon->m);
}
