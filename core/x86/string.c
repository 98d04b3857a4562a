/*
 * String instructions: MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, with and without REP.
 *
 * Elements are done in runs that stay within a page of plain memory on each side; whatever else comes (MMIO,
 * code pages, an element across pages, segment limits) goes one element at a time through the checked
 * accesses. ESI, EDI and ECX are true after every run, so a fault restarts where it happened and an
 * interrupt can come in between (X86_EXIT with s.eip at the instruction). Source: Intel SDM vol. 2 (each
 * instruction, REP).
 */
#include "system.h"

typedef struct {
    Cpu *cpu;
    u32 desc;
    unsigned size, shift;       /* of an element: bytes, and their logarithm */
    u32 mask;                   /* of index registers and count */
    int seg;                    /* of ESI */
    bool rep, down;
    bool single;                /* each access must be looked at: breakpoints, alignment, single steps */
    u32 left;                   /* elements still to do */
    bool died;
} Str;

enum { LOCKED_RUN = 1024 };     /* port elements done under one hold of the machine lock */

static Str begin(Cpu *cpu, u32 desc)
{
    Str s = { .cpu = cpu, .desc = desc, .seg = (int)desc_seg(desc), .rep = desc_rep(desc) != 0 };

    s.shift = desc_opcode(desc) & 1 ? desc >> DESC_OPSIZE & 3 : 0;
    s.size = 1u << s.shift;
    s.single = (cpu->mode & (MODE_WATCH | MODE_AC | MODE_STEP)) != 0;
    s.mask = desc_addr32(desc) ? 0xffffffffu : 0xffffu;
    s.down = (cpu->s.eflags & FLAG_DF) != 0;
    s.left = s.rep ? cpu->s.gpr[ECX] & s.mask : 1;
    return s;
}

static void add_masked(u32 *reg, u32 mask, u32 delta)
{
    *reg = (*reg & ~mask) | ((*reg + delta) & mask);
}

static void advance(Str *s, int reg, u32 n)
{
    add_masked(&s->cpu->s.gpr[reg], s->mask, s->down ? 0u - (n << s->shift) : n << s->shift);
}

static void count(Str *s, u32 n)
{
    s->left -= n;
    if (s->rep)
        add_masked(&s->cpu->s.gpr[ECX], s->mask, 0u - n);
}

/* Shall the helper return although elements are left? */
static bool interrupted(const Str *s)
{
    return s->died || (s->cpu->mode & MODE_STEP) || attention(s->cpu);
}

static u32 finish(const Str *s)
{
    if (s->left)
        return X86_EXIT;        /* s.eip is still this instruction's */
    return go_on(s->cpu, s->desc, s->died);
}

/* Are the bytes first..first+bytes-1 within the segment, for this access? */
static bool in_segment(const Cpu *cpu, int seg, u32 first, u32 bytes, int access)
{
    SegClass class = mode_seg_class(cpu->mode, seg);

    if (class == SEG_FLAT && seg != CS)
        return true;
    if (class == SEG_BASED && seg != CS)
        return first <= cpu->s.seg[seg].limit && bytes - 1 <= cpu->s.seg[seg].limit - first;
    return seg_ok(cpu, &cpu->s.seg[seg], first, bytes, access);
}

/*
 * Host address of the element at the index register, and *n reduced to what may be done from there; NULL:
 * one by one.
 */
static u8 *run_at(const Str *s, int seg, int reg, int access, u32 *n)
{
    const Cpu *cpu = s->cpu;
    u32 offset = cpu->s.gpr[reg] & s->mask, linear = cpu->s.seg[seg].base + offset;
    u32 in_page = linear & PAGE_MASK, room, wrap;
    const u64 *table = access == ACC_WRITE ? cpu->tlb->write : cpu->tlb->read;
    u64 addend = table[linear >> PAGE_SHIFT];

    if (!addend || s->single || in_page + s->size > PAGE_SIZE)
        return NULL;
    if (s->down) {
        room = (in_page >> s->shift) + 1;
        wrap = (offset >> s->shift) + 1;
    } else {
        room = (PAGE_SIZE - in_page) >> s->shift;
        wrap = (s->mask - offset) >> s->shift;      /* an element less than could be */
    }
    room = room < wrap ? room : wrap;
    *n = *n < room ? *n : room;
    if (!*n ||
        !in_segment(cpu, seg, s->down ? offset - ((*n - 1) << s->shift) : offset, *n << s->shift, access))
        return NULL;
    return (u8 *)(uintptr_t)(addend + linear);
}

static u32 load_elem(const u8 *p, unsigned size)
{
    return size == 1 ? *p : size == 2 ? load16(p) : load32(p);
}

static void store_elem(u8 *p, u32 v, unsigned size)
{
    if (size == 1)
        *p = (u8)v;
    else if (size == 2)
        store16(p, (u16)v);
    else
        store32(p, v);
}

static u32 read_index(const Str *s, int seg, int reg)
{
    return (u32)seg_read(s->cpu, seg, s->cpu->s.gpr[reg] & s->mask, s->size);
}

static void write_index(Str *s, u32 value)
{
    s->died |= seg_write(s->cpu, ES, s->cpu->s.gpr[EDI] & s->mask, value, s->size);
}

/* ---- MOVS, STOS, LODS ---- */

enum { SHORT_BYTES = 96 };      /* up to here moves of eight bytes beat the start-up of a host REP */

/* Ascending, element by element as the guest's instruction does it: overlaps replicate exactly. */
static void copy_up(u8 *to, const u8 *from, u32 n, unsigned size)
{
    u64 c = n, bytes = c * size;

    if (bytes >= 8 && bytes <= SHORT_BYTES && (u64)(to - from) >= bytes && (u64)(from - to) >= bytes) {
        for (u64 i = 0; i < bytes - 8; i += 8)
            store64(to + i, load64(from + i));
        store64(to + bytes - 8, load64(from + bytes - 8));
    } else if (bytes < 8) {
        for (u32 i = 0; i < n; i++)
            store_elem(to + i * size, load_elem(from + i * size, size), size);
    } else if (size == 4) {
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(c) : : "memory");
    } else if (size == 2) {
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(c) : : "memory");
    } else {
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(c) : : "memory");
    }
}

static void fill_up(u8 *to, u32 value, u32 n, unsigned size)
{
    u64 c = n, bytes = c * size, eight;

    if (bytes >= 8 && bytes <= SHORT_BYTES) {
        eight = size == 1 ? (value & 0xff) * 0x0101010101010101ull
              : size == 2 ? (value & 0xffff) * 0x0001000100010001ull : value * 0x0000000100000001ull;
        for (u64 i = 0; i < bytes - 8; i += 8)
            store64(to + i, eight);
        store64(to + bytes - 8, eight);
    } else if (bytes < 8) {
        for (u32 i = 0; i < n; i++)
            store_elem(to + i * size, value, size);
    } else if (size == 4) {
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(c) : "a"(value) : "memory");
    } else if (size == 2) {
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(c) : "a"(value) : "memory");
    } else {
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(c) : "a"(value) : "memory");
    }
}

u32 HELPER helper_movs(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Str s = begin(cpu, desc);
    (void)ea;
    (void)imm;

    while (s.left) {
        u32 n = s.left;
        const u8 *from = run_at(&s, s.seg, ESI, ACC_READ, &n);
        u8 *to = from ? run_at(&s, ES, EDI, ACC_WRITE, &n) : NULL;

        if (!to) {
            n = 1;
            write_index(&s, read_index(&s, s.seg, ESI));
        } else if (s.down) {
            for (u32 i = 0; i < n; i++, from -= s.size, to -= s.size)
                store_elem(to, load_elem(from, s.size), s.size);
        } else {
            copy_up(to, from, n, s.size);
        }
        advance(&s, ESI, n);
        advance(&s, EDI, n);
        count(&s, n);
        if (interrupted(&s))
            break;
    }
    return finish(&s);
}

u32 HELPER helper_stos(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Str s = begin(cpu, desc);
    u32 value = cpu->s.gpr[EAX];
    (void)ea;
    (void)imm;

    while (s.left) {
        u32 n = s.left;
        u8 *to = run_at(&s, ES, EDI, ACC_WRITE, &n);

        if (!to) {
            n = 1;
            write_index(&s, value);
        } else {
            fill_up(s.down ? to - (n - 1) * s.size : to, value, n, s.size);
        }
        advance(&s, EDI, n);
        count(&s, n);
        if (interrupted(&s))
            break;
    }
    return finish(&s);
}

u32 HELPER helper_lods(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Str s = begin(cpu, desc);
    (void)ea;
    (void)imm;

    while (s.left) {
        u32 n = s.left, value;
        const u8 *from = run_at(&s, s.seg, ESI, ACC_READ, &n);

        if (!from) {
            n = 1;
            value = read_index(&s, s.seg, ESI);
        } else {
            value = load_elem(s.down ? from - (n - 1) * s.size : from + (n - 1) * s.size, s.size);
        }
        gpr_write(cpu, EAX, value, s.size);
        advance(&s, ESI, n);
        count(&s, n);
        if (interrupted(&s))
            break;
    }
    return finish(&s);
}

/* ---- CMPS, SCAS ---- */

static void compare_flags(Cpu *cpu, u32 a, u32 b, unsigned size)
{
    u32 top = 8 * size - 1, mask = size == 4 ? 0xffffffffu : (1u << 8 * size) - 1, r, flags;

    a &= mask;
    b &= mask;
    r = (a - b) & mask;
    flags = (a < b ? FLAG_CF : 0) | (r ? 0 : FLAG_ZF) | (r >> top & 1 ? FLAG_SF : 0) |
            (__builtin_parity(r & 0xff) ? 0 : FLAG_PF) | ((a ^ b ^ r) & 0x10 ? FLAG_AF : 0) |
            (((a ^ b) & (a ^ r)) >> top & 1 ? FLAG_OF : 0);
    cpu->s.eflags = (cpu->s.eflags & ~FLAGS_ARITH) | flags;
}

/* REPE (F3) goes on while equal, REPNE (F2) while different. */
static bool goes_on(const Str *s, bool equal)
{
    return desc_rep(s->desc) == 2 ? equal : !equal;
}

enum { SHORT_COMPARE = 16 };    /* elements from which the host's own REP is worth its start-up */

/* What REPE or REPNE CMPS leaves in its count. */
static u64 host_cmps(const u8 *pa, const u8 *pb, u64 n, unsigned size, bool equal)
{
    if (size == 1 && equal)
        __asm__ volatile("repe cmpsb" : "+S"(pa), "+D"(pb), "+c"(n) : : "memory", "cc");
    else if (size == 1)
        __asm__ volatile("repne cmpsb" : "+S"(pa), "+D"(pb), "+c"(n) : : "memory", "cc");
    else if (size == 2 && equal)
        __asm__ volatile("repe cmpsw" : "+S"(pa), "+D"(pb), "+c"(n) : : "memory", "cc");
    else if (size == 2)
        __asm__ volatile("repne cmpsw" : "+S"(pa), "+D"(pb), "+c"(n) : : "memory", "cc");
    else if (equal)
        __asm__ volatile("repe cmpsl" : "+S"(pa), "+D"(pb), "+c"(n) : : "memory", "cc");
    else
        __asm__ volatile("repne cmpsl" : "+S"(pa), "+D"(pb), "+c"(n) : : "memory", "cc");
    return n;
}

static u64 host_scas(u32 value, const u8 *p, u64 n, unsigned size, bool equal)
{
    if (size == 1 && equal)
        __asm__ volatile("repe scasb" : "+D"(p), "+c"(n) : "a"(value) : "memory", "cc");
    else if (size == 1)
        __asm__ volatile("repne scasb" : "+D"(p), "+c"(n) : "a"(value) : "memory", "cc");
    else if (size == 2 && equal)
        __asm__ volatile("repe scasw" : "+D"(p), "+c"(n) : "a"(value) : "memory", "cc");
    else if (size == 2)
        __asm__ volatile("repne scasw" : "+D"(p), "+c"(n) : "a"(value) : "memory", "cc");
    else if (equal)
        __asm__ volatile("repe scasl" : "+D"(p), "+c"(n) : "a"(value) : "memory", "cc");
    else
        __asm__ volatile("repne scasl" : "+D"(p), "+c"(n) : "a"(value) : "memory", "cc");
    return n;
}

/* Compares up to n elements until REP's condition ends it: returns how many were looked at; a and b are the
 * last pair. The accumulator takes the place of the first operand where pa is NULL. */
static u32 compare_run(const Str *s, const u8 *pa, const u8 *pb, u32 n, u32 *a, u32 *b)
{
    u32 done = 0;
    ptrdiff_t step = s->down ? -(ptrdiff_t)s->size : (ptrdiff_t)s->size;

    if (n >= SHORT_COMPARE && !s->down) {
        bool equal = desc_rep(s->desc) == 2;

        done = n - (u32)(pa ? host_cmps(pa, pb, n, s->size, equal) : host_scas(*a, pb, n, s->size, equal));
        if (pa)
            *a = load_elem(pa + (done - 1) * s->size, s->size);
        *b = load_elem(pb + (done - 1) * s->size, s->size);
        return done;
    }
    do {
        if (pa) {
            *a = load_elem(pa, s->size);
            pa += step;
        }
        *b = load_elem(pb, s->size);
        pb += step;
        done++;
    } while (done < n && goes_on(s, *a == *b));
    return done;
}

static u32 compare(Cpu *cpu, u32 desc, bool scan)
{
    Str s = begin(cpu, desc);
    u32 a = gpr_read(cpu, EAX, s.size), b = 0;

    while (s.left) {
        u32 n = s.left;
        const u8 *pa = scan ? NULL : run_at(&s, s.seg, ESI, ACC_READ, &n);
        const u8 *pb = scan || pa ? run_at(&s, ES, EDI, ACC_READ, &n) : NULL;

        if (!pb) {
            n = 1;
            if (!scan)
                a = read_index(&s, s.seg, ESI);
            b = read_index(&s, ES, EDI);
        } else {
            n = compare_run(&s, pa, pb, n, &a, &b);
        }
        if (!scan)
            advance(&s, ESI, n);
        advance(&s, EDI, n);
        count(&s, n);
        compare_flags(cpu, a, b, s.size);
        if (s.rep && !goes_on(&s, a == b))
            s.left = 0;
        if (interrupted(&s))
            break;
    }
    return finish(&s);
}

u32 HELPER helper_cmps(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    return compare(cpu, desc, false);
}

u32 HELPER helper_scas(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    (void)ea;
    (void)imm;
    return compare(cpu, desc, true);
}

/* ---- INS, OUTS ---- */

static u32 string_port(const Str *s)
{
    Cpu *cpu = s->cpu;
    u32 port = cpu->s.gpr[EDX] & 0xffff;

    if (!x86_io_allowed(cpu, port, s->size))
        x86_raise_error(cpu, VEC_GP, 0);
    if (cpu->s.dr[7] & 0xff)
        watch_io(cpu, port, s->size);
    return port;
}

/* One element to memory that must be checked before the port is read: reading may have effects. */
static void ins_one(Str *s, u32 port)
{
    Cpu *cpu = s->cpu;
    u32 offset = cpu->s.gpr[EDI] & s->mask, value;

    lin_probe(cpu, seg_linear(cpu, ES, offset, s->size, ACC_WRITE), s->size, ACC_WRITE);
    machine_lock(cpu->m);
    value = port_read(cpu->m, port, s->size);
    machine_unlock(cpu->m);
    write_index(s, value);
}

u32 HELPER helper_ins(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Str s = begin(cpu, desc);
    u32 port = s.left ? string_port(&s) : 0;
    (void)ea;
    (void)imm;

    while (s.left) {
        u32 n = s.left < LOCKED_RUN ? s.left : LOCKED_RUN;
        u8 *to = run_at(&s, ES, EDI, ACC_WRITE, &n);

        if (!to) {
            n = 1;
            ins_one(&s, port);
        } else {
            machine_lock(cpu->m);
            for (u32 i = 0; i < n; i++, to += s.down ? -(ptrdiff_t)s.size : (ptrdiff_t)s.size)
                store_elem(to, port_read(cpu->m, port, s.size), s.size);
            machine_unlock(cpu->m);
        }
        advance(&s, EDI, n);
        count(&s, n);
        if (interrupted(&s))
            break;
    }
    return finish(&s);
}

u32 HELPER helper_outs(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Str s = begin(cpu, desc);
    u32 port = s.left ? string_port(&s) : 0;
    (void)ea;
    (void)imm;

    while (s.left) {
        u32 n = s.left < LOCKED_RUN ? s.left : LOCKED_RUN, value = 0;
        const u8 *from = run_at(&s, s.seg, ESI, ACC_READ, &n);

        if (!from) {
            n = 1;
            value = read_index(&s, s.seg, ESI);
        }
        machine_lock(cpu->m);
        for (u32 i = 0; i < n; i++) {
            port_write(cpu->m, port, from ? load_elem(from, s.size) : value, s.size);
            if (from)
                from += s.down ? -(ptrdiff_t)s.size : (ptrdiff_t)s.size;
        }
        machine_unlock(cpu->m);
        advance(&s, ESI, n);
        count(&s, n);
        if (interrupted(&s))
            break;
    }
    return finish(&s);
}
