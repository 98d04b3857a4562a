/*
 * Physical address space and I/O ports: a list of mappings with priorities, compiled to one entry per page.
 *
 * A page may read from one place and write to another (shadow RAM that is being filled: read ROM, write RAM),
 * so an entry holds both sides. Entries live in leaves of 1024 pages, made when something is first mapped
 * there.
 */
#include "memory.h"

#include "cpu.h"
#include "host.h"
#include "log.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAF_SHIFT = 10, LEAF_PAGES = 1 << LEAF_SHIFT, MAX_REGIONS = 256, MAX_PAGE_BITS = 40 - PAGE_SHIFT };

typedef enum { REGION_NONE, REGION_RAM, REGION_MMIO } RegionKind;

struct MemRegion {
    char name[32];
    RegionKind kind;
    u16 index;
    u64 bytes;
    u32 first_page;             /* RAM: its first arena page */
    u8 *ptr;
    const MmioOps *ops;
    void *opaque;
};

typedef struct Mapping {
    struct Mapping *next;       /* highest priority first; of equal ones the newest first */
    MemRegion *region;
    u64 addr, offset, bytes;
    int priority, handle;
    unsigned flags;
} Mapping;

typedef struct {
    u32 rpage, wpage;           /* RAM: arena page; MMIO: page within the region */
    u16 rregion, wregion;       /* index; 0: nothing */
    u16 writable;               /* wregion is RAM and takes stores (not ROM) */
    u16 pad;
} PageEntry;

struct Memory {
    Machine *m;
    u8 *arena;
    u8 *flags;
    u64 arena_bytes, arena_used;
    PageEntry **leaves;         /* by page >> LEAF_SHIFT */
    MemRegion regions[MAX_REGIONS];
    unsigned region_count;
    Mapping *mappings;
    int last_handle;
    void (*settle)(void *opaque, u32 page);
    void *settle_opaque;
    int handlers;               /* device handlers at work: DMA must not enter another one */
};

enum { PORTS = 65536, MAX_RANGES = 512 };

typedef struct {
    char name[24];
    u32 first, count;           /* count 0: free slot */
    const PortOps *ops;
    void *opaque;
    int handle;                 /* grows: of two ranges over a port the newer is the larger */
} PortRange;

struct IoBus {
    u16 at[PORTS];              /* index into range; 0: nothing */
    PortRange range[MAX_RANGES];
    int last_handle;
};

Memory *memory_create(Machine *m, u64 arena_bytes)
{
    Memory *mem = calloc(1, sizeof(*mem));

    if (!mem)
        return NULL;
    mem->m = m;
    mem->arena_bytes = (arena_bytes + PAGE_MASK) & ~(u64)PAGE_MASK;
    mem->arena = host_pages_alloc(mem->arena_bytes);
    mem->flags = host_pages_alloc((mem->arena_bytes >> PAGE_SHIFT) + PAGE_SIZE);
    mem->leaves = calloc((size_t)1 << (MAX_PAGE_BITS - LEAF_SHIFT), sizeof(*mem->leaves));
    mem->region_count = 1;
    m->io = calloc(1, sizeof(*m->io));
    if (!mem->arena || !mem->flags || !mem->leaves || !m->io) {
        memory_destroy(mem);
        return NULL;
    }
    return mem;
}

void memory_destroy(Memory *mem)
{
    if (!mem)
        return;
    while (mem->mappings) {
        Mapping *next = mem->mappings->next;

        free(mem->mappings);
        mem->mappings = next;
    }
    if (mem->leaves) {
        for (size_t i = 0; i < (size_t)1 << (MAX_PAGE_BITS - LEAF_SHIFT); i++)
            free(mem->leaves[i]);
    }
    free(mem->leaves);
    free(mem->m->io);
    mem->m->io = NULL;
    if (mem->arena)
        host_pages_free(mem->arena, mem->arena_bytes);
    if (mem->flags)
        host_pages_free(mem->flags, (mem->arena_bytes >> PAGE_SHIFT) + PAGE_SIZE);
    free(mem);
}

static MemRegion *new_region(Memory *mem, const char *name, RegionKind kind, u64 bytes)
{
    MemRegion *r;

    if (mem->region_count == MAX_REGIONS) {
        fprintf(stderr, "qemu: more than %d memory regions\n", MAX_REGIONS - 1);
        abort();
    }
    r = &mem->regions[mem->region_count];
    snprintf(r->name, sizeof(r->name), "%s", name);
    r->kind = kind;
    r->index = (u16)mem->region_count++;
    r->bytes = (bytes + PAGE_MASK) & ~(u64)PAGE_MASK;
    return r;
}

MemRegion *mem_ram(Memory *mem, const char *name, u64 bytes)
{
    MemRegion *r = new_region(mem, name, REGION_RAM, bytes);

    if (r->bytes > mem->arena_bytes - mem->arena_used) {
        fprintf(stderr, "qemu: the memory arena is too small for %s\n", name);
        abort();
    }
    r->first_page = (u32)(mem->arena_used >> PAGE_SHIFT);
    r->ptr = mem->arena + mem->arena_used;
    mem->arena_used += r->bytes;
    return r;
}

MemRegion *mem_mmio(Memory *mem, const char *name, u64 bytes, const MmioOps *ops, void *opaque)
{
    MemRegion *r = new_region(mem, name, REGION_MMIO, bytes);

    r->ops = ops;
    r->opaque = opaque;
    return r;
}

u8 *mem_ram_ptr(MemRegion *r) { return r->ptr; }
u64 mem_region_size(const MemRegion *r) { return r->bytes; }
const char *mem_region_name(const MemRegion *r) { return r->name; }
u32 mem_region_page(const MemRegion *r) { return r->first_page; }

MemRegion *mem_ram_region(Memory *mem, unsigned n)
{
    for (unsigned i = 1; i < mem->region_count; i++) {
        if (mem->regions[i].kind == REGION_RAM && !n--)
            return &mem->regions[i];
    }
    return NULL;
}

u8 *mem_arena(const Memory *mem) { return mem->arena; }
u32 mem_arena_pages(const Memory *mem) { return (u32)(mem->arena_bytes >> PAGE_SHIFT); }
u8 *mem_page_flags(const Memory *mem) { return mem->flags; }

void mem_on_settle(Memory *mem, void (*settle)(void *opaque, u32 page), void *opaque)
{
    mem->settle_opaque = opaque;
    mem->settle = settle;
}

static inline void settle(const Memory *mem, u32 page)
{
    if (__atomic_load_n(&mem->flags[page], __ATOMIC_ACQUIRE) & (PAGE_HELD | PAGE_ABSENT))
        mem->settle(mem->settle_opaque, page);
}

/* ---- mappings ---- */

static const PageEntry *entry_at(const Memory *mem, u64 page)
{
    static const PageEntry nothing = { 0 };
    const PageEntry *leaf;

    if (page >> MAX_PAGE_BITS)
        return &nothing;
    leaf = mem->leaves[page >> LEAF_SHIFT];
    return leaf ? &leaf[page & (LEAF_PAGES - 1)] : &nothing;
}

static PageEntry *entry_to_write(Memory *mem, u64 page)
{
    PageEntry **leaf = &mem->leaves[page >> LEAF_SHIFT];

    if (!*leaf) {
        *leaf = calloc(LEAF_PAGES, sizeof(**leaf));
        if (!*leaf) {
            fprintf(stderr, "qemu: out of memory\n");
            abort();
        }
    }
    return &(*leaf)[page & (LEAF_PAGES - 1)];
}

static void compile_page(Memory *mem, u64 page)
{
    PageEntry e = { 0 };
    u64 addr = page << PAGE_SHIFT;

    for (Mapping *map = mem->mappings; map && !(e.rregion && e.wregion); map = map->next) {
        u32 at;

        if (addr < map->addr || addr - map->addr >= map->bytes)
            continue;
        at = (u32)((map->offset + (addr - map->addr)) >> PAGE_SHIFT) + map->region->first_page;
        if ((map->flags & (MEM_R | MEM_ROM)) && !e.rregion) {
            e.rregion = map->region->index;
            e.rpage = at;
        }
        if ((map->flags & (MEM_W | MEM_ROM)) && !e.wregion) {
            e.wregion = map->region->index;
            e.wpage = at;
            e.writable = map->region->kind == REGION_RAM && !(map->flags & MEM_ROM);
        }
    }
    *entry_to_write(mem, page) = e;
}

static void compile(Memory *mem, u64 addr, u64 bytes)
{
    for (u64 page = addr >> PAGE_SHIFT; page < (addr + bytes) >> PAGE_SHIFT; page++)
        compile_page(mem, page);
    if (mem->m->cpu)
        cpu_memory_changed(mem->m->cpu);
}

int mem_map(Memory *mem, MemRegion *r, u64 addr, u64 offset, u64 bytes, int priority, unsigned flags)
{
    Mapping *map = calloc(1, sizeof(*map)), **at = &mem->mappings;

    if (!map) {
        fprintf(stderr, "qemu: out of memory\n");
        abort();
    }
    *map = (Mapping){ .region = r, .addr = addr, .offset = offset, .bytes = bytes, .priority = priority,
                      .handle = ++mem->last_handle, .flags = flags };
    while (*at && (*at)->priority > priority)
        at = &(*at)->next;
    map->next = *at;
    *at = map;
    compile(mem, addr, bytes);
    return map->handle;
}

void mem_unmap(Memory *mem, int handle)
{
    for (Mapping **at = &mem->mappings; *at; at = &(*at)->next) {
        Mapping *map = *at;

        if (map->handle != handle)
            continue;
        *at = map->next;
        compile(mem, map->addr, map->bytes);
        free(map);
        return;
    }
}

void mem_list(Memory *mem, void (*print)(void *opaque, const char *line), void *opaque)
{
    char line[160];

    for (Mapping *map = mem->mappings; map; map = map->next) {
        snprintf(line, sizeof(line), "%010llx-%010llx  prio %d  %s%s%s  %s+%llx",
                 (unsigned long long)map->addr,
                 (unsigned long long)(map->addr + map->bytes - 1), map->priority,
                 map->flags & (MEM_R | MEM_ROM) ? "r" : "-", map->flags & MEM_W ? "w" : "-",
                 map->flags & MEM_ROM ? " rom" : "", map->region->name, (unsigned long long)map->offset);
        print(opaque, line);
    }
}

MemPage mem_page(const Memory *mem, u64 addr)
{
    const PageEntry *e = entry_at(mem, addr >> PAGE_SHIFT);
    MemPage p = { MEM_NO_PAGE, 0, 0, e->rregion ? e->rregion : e->wregion };

    if (mem->regions[e->rregion].kind == REGION_RAM) {
        p.page = e->rpage;
        p.direct_read = 1;
        p.direct_write = e->writable && e->wpage == e->rpage;
        settle(mem, p.page);
    }
    return p;
}

/* ---- accesses ---- */

static u64 ones(unsigned size) { return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1; }

/* size is 1, 2, 4 or 8 and naturally aligned. */
static u64 mmio_read(Memory *mem, const MemRegion *r, u64 offset, unsigned size)
{
    const MmioOps *ops = r->ops;
    u64 value = 0;

    if (!ops->read)
        return ones(size);
    mem->handlers++;
    if (size < ops->min) {
        u64 base = offset & ~(u64)(ops->min - 1);

        value = ops->read(r->opaque, base, ops->min) >> (8 * (offset - base));
    } else {
        unsigned step = size > ops->max ? ops->max : size;

        for (unsigned i = 0; i < size; i += step)
            value |= (ops->read(r->opaque, offset + i, step) & ones(step)) << (8 * i);
    }
    mem->handlers--;
    return value & ones(size);
}

static void mmio_write(Memory *mem, const MemRegion *r, u64 offset, u64 value, unsigned size)
{
    const MmioOps *ops = r->ops;

    if (!ops->write)
        return;
    mem->handlers++;
    if (size < ops->min) {
        u64 base = offset & ~(u64)(ops->min - 1);

        ops->write(r->opaque, base, (value & ones(size)) << (8 * (offset - base)), ops->min);
    } else {
        unsigned step = size > ops->max ? ops->max : size;

        for (unsigned i = 0; i < size; i += step)
            ops->write(r->opaque, offset + i, value >> (8 * i) & ones(step), step);
    }
    mem->handlers--;
}

static void ram_written(Memory *mem, u32 page, u32 offset, u32 bytes)
{
    if (!(mem->flags[page] & PAGE_DIRTY))       /* atomic: the vCPU sets PAGE_CODE in the same byte */
        __atomic_fetch_or(&mem->flags[page], PAGE_DIRTY, __ATOMIC_RELAXED);
    if ((mem->flags[page] & PAGE_CODE) && mem->m->cpu)
        cpu_code_written(mem->m->cpu, page, offset, bytes);
}

u64 mem_bus_read(Memory *mem, u64 addr, unsigned size)
{
    const PageEntry *e = entry_at(mem, addr >> PAGE_SHIFT);
    const MemRegion *r = &mem->regions[e->rregion];
    u32 offset = addr & PAGE_MASK;
    u64 value = 0;

    if ((addr & (size - 1)) && (offset + size > PAGE_SIZE || r->kind == REGION_MMIO)) {
        for (unsigned i = 0; i < size; i++)
            value |= mem_bus_read(mem, addr + i, 1) << (8 * i);
        return value;
    }
    switch (r->kind) {
    case REGION_RAM:
        settle(mem, e->rpage);
        memcpy(&value, mem->arena + ((u64)e->rpage << PAGE_SHIFT) + offset, size);
        return value;
    case REGION_MMIO:
        return mmio_read(mem, r, ((u64)e->rpage << PAGE_SHIFT) + offset, size);
    default:
        return ones(size);
    }
}

void mem_bus_write(Memory *mem, u64 addr, u64 value, unsigned size)
{
    const PageEntry *e = entry_at(mem, addr >> PAGE_SHIFT);
    const MemRegion *r = &mem->regions[e->wregion];
    u32 offset = addr & PAGE_MASK;

    if ((addr & (size - 1)) && (offset + size > PAGE_SIZE || r->kind == REGION_MMIO)) {
        for (unsigned i = 0; i < size; i++)
            mem_bus_write(mem, addr + i, value >> (8 * i) & 0xff, 1);
        return;
    }
    if (r->kind == REGION_MMIO) {
        mmio_write(mem, r, ((u64)e->wpage << PAGE_SHIFT) + offset, value, size);
    } else if (e->writable) {
        settle(mem, e->wpage);
        memcpy(mem->arena + ((u64)e->wpage << PAGE_SHIFT) + offset, &value, size);
        ram_written(mem, e->wpage, offset, size);
    }
}

/* ---- DMA ---- */

/* The largest power of two up to 4 that addr is aligned to and that fits in what is left. */
static unsigned dma_step(u64 addr, u64 left)
{
    unsigned step = 4;

    while (step > 1 && ((addr & (step - 1)) || step > left))
        step /= 2;
    return step;
}

static void dma_mmio(Memory *mem, u64 addr, u8 *buf, u32 bytes, bool write)
{
    for (u32 done = 0; done < bytes;) {
        unsigned step = dma_step(addr + done, bytes - done);
        u64 value = ~0ull;

        if (write) {
            value = 0;
            memcpy(&value, buf + done, step);
            if (!mem->handlers)
                mem_bus_write(mem, addr + done, value, step);
        } else {
            if (!mem->handlers)
                value = mem_bus_read(mem, addr + done, step);
            memcpy(buf + done, &value, step);
        }
        done += step;
    }
}

static u32 dma_chunk(u64 addr, u64 bytes)
{
    u64 room = PAGE_SIZE - (addr & PAGE_MASK);

    return (u32)(bytes < room ? bytes : room);
}

void mem_dma_read(Memory *mem, u64 addr, void *buf, u64 bytes)
{
    u8 *to = buf;

    while (bytes) {
        u32 n = dma_chunk(addr, bytes);
        const PageEntry *e = entry_at(mem, addr >> PAGE_SHIFT);

        switch (mem->regions[e->rregion].kind) {
        case REGION_RAM:
            settle(mem, e->rpage);
            memcpy(to, mem->arena + ((u64)e->rpage << PAGE_SHIFT) + (addr & PAGE_MASK), n);
            break;
        case REGION_MMIO:
            dma_mmio(mem, addr, to, n, false);
            break;
        default:
            memset(to, 0xff, n);
        }
        addr += n;
        to += n;
        bytes -= n;
    }
}

void mem_dma_write(Memory *mem, u64 addr, const void *buf, u64 bytes)
{
    const u8 *from = buf;

    while (bytes) {
        u32 n = dma_chunk(addr, bytes), offset = addr & PAGE_MASK;
        const PageEntry *e = entry_at(mem, addr >> PAGE_SHIFT);

        if (e->writable) {
            settle(mem, e->wpage);
            memcpy(mem->arena + ((u64)e->wpage << PAGE_SHIFT) + offset, from, n);
            ram_written(mem, e->wpage, offset, n);
        } else if (mem->regions[e->wregion].kind == REGION_MMIO) {
            dma_mmio(mem, addr, (u8 *)from, n, true);
        }
        addr += n;
        from += n;
        bytes -= n;
    }
}

/* ---- I/O ports ---- */

static void ports_compile(IoBus *io, u32 first, u32 count)
{
    for (u32 p = first; p < first + count; p++) {
        int best = 0;

        for (int i = 1; i < MAX_RANGES; i++) {
            const PortRange *r = &io->range[i];

            if (r->count && p >= r->first && p - r->first < r->count && r->handle > io->range[best].handle)
                best = i;
        }
        io->at[p] = (u16)best;
    }
}

int port_map(Machine *m, const char *name, u32 first, u32 count, const PortOps *ops, void *opaque)
{
    IoBus *io = m->io;
    int slot = 1;

    while (slot < MAX_RANGES && io->range[slot].count)
        slot++;
    if (slot == MAX_RANGES || !count || first >= PORTS || count > PORTS - first)
        return 0;
    io->range[slot] = (PortRange){ .first = first, .count = count, .ops = ops, .opaque = opaque,
                                   .handle = ++io->last_handle };
    snprintf(io->range[slot].name, sizeof(io->range[slot].name), "%s", name);
    ports_compile(io, first, count);
    return io->last_handle;
}

void port_unmap(Machine *m, int handle)
{
    IoBus *io = m->io;

    for (int i = 1; handle > 0 && i < MAX_RANGES; i++) {
        PortRange *r = &io->range[i];

        if (!r->count || r->handle != handle)
            continue;
        u32 first = r->first, count = r->count;

        memset(r, 0, sizeof(*r));
        ports_compile(io, first, count);
        return;
    }
}

/* The largest power of two up to `left` that the handler takes and that stays in its range. */
static unsigned port_step(const PortRange *r, u32 port, unsigned left)
{
    unsigned step = 4;

    while (step > 1 && (step > left || !(r->ops->sizes & step) || port + step > r->first + r->count))
        step /= 2;
    return step;
}

u32 port_read(Machine *m, u32 port, unsigned size)
{
    IoBus *io = m->io;
    u32 value = 0;

    for (unsigned i = 0; i < size;) {
        u32 p = (port + i) & (PORTS - 1);
        const PortRange *r = &io->range[io->at[p]];
        unsigned step = 1;
        u32 part = 0xffffffff;

        if (r->count) {
            step = port_step(r, p, size - i);
            if (r->ops->read) {
                m->mem->handlers++;
                part = r->ops->read(r->opaque, p, step);
                m->mem->handlers--;
            }
        }
        value |= (part & (u32)ones(step)) << (8 * i);
        i += step;
    }
    if (log_on(LOG_IOPORT))
        log_line("in%u %04x -> %x", size * 8, port, value);
    return value;
}

void port_write(Machine *m, u32 port, u32 value, unsigned size)
{
    IoBus *io = m->io;

    if (log_on(LOG_IOPORT))
        log_line("out%u %04x <- %x", size * 8, port, value);
    for (unsigned i = 0; i < size;) {
        u32 p = (port + i) & (PORTS - 1);
        const PortRange *r = &io->range[io->at[p]];
        unsigned step = 1;

        if (r->count) {
            step = port_step(r, p, size - i);
            if (r->ops->write) {
                m->mem->handlers++;
                r->ops->write(r->opaque, p, value >> (8 * i) & (u32)ones(step), step);
                m->mem->handlers--;
            }
        }
        i += step;
    }
}

void port_list(Machine *m, void (*print)(void *opaque, const char *line), void *opaque)
{
    char line[96];

    for (u32 p = 0; p < PORTS; p++) {
        u16 at = m->io->at[p];
        u32 end = p;

        if (!at)
            continue;
        while (end + 1 < PORTS && m->io->at[end + 1] == at)
            end++;
        snprintf(line, sizeof(line), "%04x-%04x  %s", p, end, m->io->range[at].name);
        print(opaque, line);
        p = end;
    }
}
