/*
 * Guest memory from C: by linear address, through segments, and the "prepare, do, commit" accesses of
 * translated code.
 *
 * Every access may cross one page boundary; both pages are translated and checked before a byte is touched.
 * Memory that is not plain (MMIO, ROM being written, pages with translated code) is reached by its physical
 * address. Source: Intel SDM vol. 3, 5.3-5.5 (limits and types), 6.15 (#AC), 17.2 (data breakpoints).
 */
#include "system.h"

/* The one or two pages of an access. host NULL: by physical address. */
typedef struct {
    u8 *host[2];
    u64 phys[2];
    u32 len[2];
} Span;

static u64 load_n(const u8 *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return load16(p);
    case 4: return load32(p);
    default: return load64(p);
    }
}

static void store_n(u8 *p, u64 value, unsigned size)
{
    switch (size) {
    case 1: *p = (u8)value; break;
    case 2: store16(p, (u16)value); break;
    case 4: store32(p, (u32)value); break;
    default: store64(p, value); break;
    }
}

static void span_open(Cpu *cpu, unsigned user, u32 linear, u32 size, int access, Span *sp)
{
    u32 room = PAGE_SIZE - (linear & PAGE_MASK);

    sp->len[0] = size < room ? size : room;
    sp->len[1] = size - sp->len[0];
    sp->host[0] = tlb_walk(cpu, user, linear, access, &sp->phys[0]);
    if (sp->len[1])
        sp->host[1] = tlb_walk(cpu, user, linear + sp->len[0], access, &sp->phys[1]);
}

/* Largest power of two that is at most len and 8. */
static unsigned chunk(u32 len)
{
    return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static void part_read(Cpu *cpu, u64 phys, u8 *out, u32 len)
{
    MemPage p = mem_page(cpu->mem, phys);

    if (p.direct_read) {
        __builtin_memcpy(out, cpu->arena + ((u64)p.page << PAGE_SHIFT) + (phys & PAGE_MASK), len);
        return;
    }
    machine_lock(cpu->m);
    for (u32 i = 0, n; i < len; i += n) {
        u64 value;

        n = chunk(len - i);
        value = mem_bus_read(cpu->mem, phys + i, n);
        __builtin_memcpy(out + i, &value, n);
    }
    machine_unlock(cpu->m);
}

static bool part_write(Cpu *cpu, u64 phys, const u8 *in, u32 len)
{
    MemPage p = mem_page(cpu->mem, phys);

    if (p.direct_write) {
        __builtin_memcpy(cpu->arena + ((u64)p.page << PAGE_SHIFT) + (phys & PAGE_MASK), in, len);
        return page_written(cpu, p.page, phys & PAGE_MASK, len);
    }
    machine_lock(cpu->m);
    for (u32 i = 0, n; i < len; i += n) {
        n = chunk(len - i);
        mem_bus_write(cpu->mem, phys + i, load_n(in + i, n), n);
    }
    machine_unlock(cpu->m);
    return false;
}

static void span_read(Cpu *cpu, const Span *sp, u8 *out)
{
    for (unsigned i = 0; i < 2 && sp->len[i]; i++, out += sp->len[0]) {
        if (sp->host[i])
            __builtin_memcpy(out, sp->host[i], sp->len[i]);
        else
            part_read(cpu, sp->phys[i], out, sp->len[i]);
    }
}

static bool span_write(Cpu *cpu, const Span *sp, const u8 *in)
{
    bool died = false;

    for (unsigned i = 0; i < 2 && sp->len[i]; i++, in += sp->len[0]) {
        if (sp->host[i])
            __builtin_memcpy(sp->host[i], in, sp->len[i]);
        else
            died |= part_write(cpu, sp->phys[i], in, sp->len[i]);
    }
    return died;
}

/* ---- by linear address ---- */

u64 mem_get(Cpu *cpu, unsigned user, u32 linear, unsigned size)
{
    const u8 *host = tlb_hit(cpu->tlb_set[user]->read, linear, size);
    u8 bytes[8] = { 0 };
    Span sp;

    if (host)
        return load_n(host, size);
    span_open(cpu, user, linear, size, ACC_READ, &sp);
    span_read(cpu, &sp, bytes);
    return load64(bytes);
}

bool mem_put(Cpu *cpu, unsigned user, u32 linear, u64 value, unsigned size)
{
    u8 *host = (u8 *)(uintptr_t)tlb_hit(cpu->tlb_set[user]->write, linear, size);
    u8 bytes[8];
    Span sp;

    if (!host)
        host = tlb_beside_code(cpu, user, linear, size);
    if (host) {
        store_n(host, value, size);
        return false;
    }
    store64(bytes, value);
    span_open(cpu, user, linear, size, ACC_WRITE, &sp);
    return span_write(cpu, &sp, bytes);
}

static inline unsigned current_user(const Cpu *cpu) { return cpu->tlb == cpu->tlb_set[1]; }

u64 lin_read(Cpu *cpu, u32 linear, unsigned size)
{
    u64 value;

    if ((cpu->mode & MODE_AC) && (linear & (size - 1)))
        x86_raise_error(cpu, VEC_AC, 0);
    value = mem_get(cpu, current_user(cpu), linear, size);
    if (cpu->mode & MODE_WATCH)
        watch_access(cpu, linear, size, ACC_READ);
    return value;
}

bool lin_write(Cpu *cpu, u32 linear, u64 value, unsigned size)
{
    bool died;

    if ((cpu->mode & MODE_AC) && (linear & (size - 1)))
        x86_raise_error(cpu, VEC_AC, 0);
    died = mem_put(cpu, current_user(cpu), linear, value, size);
    if (cpu->mode & MODE_WATCH)
        watch_access(cpu, linear, size, ACC_WRITE);
    return died;
}

u64 sys_read(Cpu *cpu, u32 linear, unsigned size) { return mem_get(cpu, 0, linear, size); }

bool sys_write(Cpu *cpu, u32 linear, u64 value, unsigned size)
{
    return mem_put(cpu, 0, linear, value, size);
}

void lin_probe(Cpu *cpu, u32 linear, unsigned size, int access)
{
    const TlbSet *set = cpu->tlb;
    Span sp;

    if (!tlb_hit(access == ACC_WRITE ? set->write : set->read, linear, size))
        span_open(cpu, current_user(cpu), linear, size, access, &sp);
}

/* ---- through segments ---- */

bool seg_ok(const Cpu *cpu, const Seg *seg, u32 offset, u32 size, int access)
{
    u32 last = seg->limit;

    if (in_protected(cpu)) {
        if (!(seg->attr & SEG_P) || !(seg->attr & SEG_S))
            return false;
        if (seg->attr & SEG_CODE ? access == ACC_WRITE || (access == ACC_READ && !(seg->attr & SEG_RW))
                                 : access == ACC_WRITE && !(seg->attr & SEG_RW))
            return false;
    }
    if (!(seg->attr & SEG_CODE) && (seg->attr & SEG_EC)) {
        if (offset <= seg->limit)
            return false;
        last = seg->attr & SEG_DB ? 0xffffffffu : 0xffffu;
    }
    /* An access that wraps at 4 GiB is left to wrap, as most processors do. */
    return last == 0xffffffffu || (offset <= last && size - 1 <= last - offset);
}

u32 seg_linear(Cpu *cpu, int seg, u32 offset, unsigned size, int access)
{
    const Seg *s = &cpu->s.seg[seg];

    if (mode_seg_class(cpu->mode, seg) == SEG_FLAT && seg != CS)
        return offset;
    if (!seg_ok(cpu, s, offset, size, access))
        x86_raise_error(cpu, seg == SS ? VEC_SS : VEC_GP, 0);
    return s->base + offset;
}

u64 seg_read(Cpu *cpu, int seg, u32 offset, unsigned size)
{
    return lin_read(cpu, seg_linear(cpu, seg, offset, size, ACC_READ), size);
}

bool seg_write(Cpu *cpu, int seg, u32 offset, u64 value, unsigned size)
{
    return lin_write(cpu, seg_linear(cpu, seg, offset, size, ACC_WRITE), value, size);
}

/* ---- translated code's slow path ---- */

u8 *access_prepare(Cpu *cpu, int seg, u32 ea, unsigned size, unsigned kind)
{
    int access = kind & 2 ? ACC_WRITE : ACC_READ;
    u32 linear = seg < 0 ? ea : seg_linear(cpu, seg, ea, size, access);
    Span sp;

    cpu->access.pending = false;
    if (access == ACC_WRITE && !(cpu->mode & (MODE_AC | MODE_WATCH))) {
        u8 *host = tlb_beside_code(cpu, current_user(cpu), linear, size);

        if (host)
            return host;
    }
    if ((cpu->mode & MODE_AC) && size <= 8 && (linear & (size - 1)))
        x86_raise_error(cpu, VEC_AC, 0);
    span_open(cpu, current_user(cpu), linear, size, access, &sp);
    if (cpu->mode & MODE_WATCH)
        watch_access(cpu, linear, size, access);
    if (!sp.len[1] && sp.host[0])
        return sp.host[0];
    if (kind & 1)
        span_read(cpu, &sp, cpu->bounce);
    cpu->access.linear = linear;
    cpu->access.size = size;
    cpu->access.phys[0] = sp.phys[0];
    cpu->access.phys[1] = sp.phys[1];
    cpu->access.pending = (kind & 2) != 0;
    return cpu->bounce;
}

bool access_commit(Cpu *cpu)
{
    bool died = false;

    if (cpu->access.pending) {
        u32 size = cpu->access.size, room = PAGE_SIZE - (cpu->access.linear & PAGE_MASK);
        u32 first = size < room ? size : room;

        cpu->access.pending = false;
        died = part_write(cpu, cpu->access.phys[0], cpu->bounce, first);
        if (size > first)
            died |= part_write(cpu, cpu->access.phys[1], cpu->bounce + first, size - first);
    }
    return died || (attention(cpu) & (CPU_ATT_FLUSH | CPU_ATT_CODE));
}

/* ---- breakpoints on data and ports ---- */

/* DR7: L/G enables in bits 0-7, then R/W (2 bits) and LEN (2 bits) for each from bit 16. */
static void watch(Cpu *cpu, u32 address, u32 size, unsigned kinds)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned rw = cpu->s.dr[7] >> (16 + 4 * i) & 3, len = cpu->s.dr[7] >> (18 + 4 * i) & 3;
        u32 first = cpu->s.dr[i] & ~len;

        if (!(cpu->s.dr[7] >> (2 * i) & 3) || !(kinds >> rw & 1))
            continue;
        if (address <= first + len && first <= address + size - 1)
            cpu->debug_pending |= 1u << i;
    }
}

void watch_access(Cpu *cpu, u32 linear, unsigned size, int access)
{
    watch(cpu, linear, size, access == ACC_WRITE ? 1 << 1 | 1 << 3 : 1 << 3);
    if (cpu->debug.datas)
        debug_data(cpu, linear, size, access == ACC_WRITE);
}

void watch_io(Cpu *cpu, u32 port, unsigned size)
{
    if ((cpu->s.dr[7] & 0xff) && (cpu->s.cr4 & CR4_DE))
        watch(cpu, port, size, 1 << 2);
}
