/*
 * The flat translation tables: what translated code looks up, filled by page walks, emptied by flushes.
 *
 * Each privilege has its TlbSet. A list of the pages filled makes a flush cost what was used and not what
 * could be. A write entry is made only for a page of plain memory that is dirty in the page tables (or
 * paging is off), holds no translated code and has its PAGE_DIRTY flag set; the flag is set again when the
 * entry goes, for a device that cleared it in between.
 */
#include "../vm/host.h"

#include "block.h"
#include "system.h"

#include <stdlib.h>

enum { LIST_MAX = 16384 };

typedef struct {
    u32 vpn;                    /* bit 31: global */
    u32 page;                   /* arena page */
} Filled;
#define FILLED_GLOBAL 0x80000000u

struct TlbFill {
    u32 count[2];
    Filled list[2][LIST_MAX];
    u32 large[2][32];           /* a bit for each 4 MiB that a large page was used in */
};

bool tlb_create(Cpu *cpu, Error *err)
{
    cpu->tlb_fill = calloc(1, sizeof(*cpu->tlb_fill));
    cpu->tlb_set[0] = host_pages_alloc(sizeof(TlbSet));
    cpu->tlb_set[1] = host_pages_alloc(sizeof(TlbSet));
    if (!cpu->tlb_fill || !cpu->tlb_set[0] || !cpu->tlb_set[1]) {
        tlb_destroy(cpu);
        return error_set(err, "not enough memory for the CPU's translation tables");
    }
    cpu->tlb = cpu->tlb_set[0];
    return true;
}

void tlb_destroy(Cpu *cpu)
{
    for (int i = 0; i < 2; i++) {
        if (cpu->tlb_set[i])
            host_pages_free(cpu->tlb_set[i], sizeof(TlbSet));
        cpu->tlb_set[i] = NULL;
    }
    free(cpu->tlb_fill);
    cpu->tlb_fill = NULL;
}

static void mark_dirty(Cpu *cpu, u32 page)
{
    if (!(cpu->page_flags[page] & PAGE_DIRTY))
        __atomic_fetch_or(&cpu->page_flags[page], PAGE_DIRTY, __ATOMIC_RELAXED);
}

static void clear_write(Cpu *cpu, TlbSet *set, u32 vpn)
{
    u64 host = set->write[vpn] + ((u64)vpn << PAGE_SHIFT);

    if (set->write[vpn])
        mark_dirty(cpu, (u32)((host - (u64)(uintptr_t)cpu->arena) >> PAGE_SHIFT));
    set->write[vpn] = 0;
}

static void clear_entry(Cpu *cpu, TlbSet *set, u32 vpn)
{
    clear_write(cpu, set, vpn);
    set->read[vpn] = 0;
    set->exec[vpn] = 0;
}

/* ---- stores beside translated code ---- */

enum { GRANULE_SHIFT = 6 };

static u32 code_key(unsigned user, u32 vpn) { return vpn << 2 | user << 1 | 1; }

static void forget_code_pages(Cpu *cpu)
{
    for (unsigned i = 0; i < ARRAY_LEN(cpu->code_page); i++)
        cpu->code_page[i].key = 0;
}

static void remember_code_page(Cpu *cpu, unsigned user, u32 vpn, u32 page, u64 addend)
{
    unsigned i = vpn % ARRAY_LEN(cpu->code_page);

    cpu->code_page[i].key = code_key(user, vpn);
    cpu->code_page[i].page = page;
    cpu->code_page[i].addend = addend;
}

u8 *tlb_beside_code(Cpu *cpu, unsigned user, u32 linear, unsigned size)
{
    u32 vpn = linear >> PAGE_SHIFT, offset = linear & PAGE_MASK, last = offset + size - 1, page;
    unsigned i = vpn % ARRAY_LEN(cpu->code_page);
    u64 granules;

    if (cpu->code_page[i].key != code_key(user, vpn) || last >= PAGE_SIZE)
        return NULL;
    page = cpu->code_page[i].page;
    granules = cpu->blocks->granules[page] >> (offset >> GRANULE_SHIFT);
    if (!(cpu->page_flags[page] & PAGE_CODE) ||
        ((granules & ((2ull << ((last >> GRANULE_SHIFT) - (offset >> GRANULE_SHIFT))) - 1)) &&
         !patch_is_free(cpu->blocks, page, offset, size)))
        return NULL;            /* without PAGE_CODE the page wants its write entry back */
    mark_dirty(cpu, page);
    return (u8 *)(uintptr_t)(cpu->code_page[i].addend + linear);
}

/* ---- flushes ---- */

void tlb_flush(Cpu *cpu, bool global_too)
{
    TlbFill *fill = cpu->tlb_fill;

    for (unsigned u = 0; u < 2; u++) {
        u32 kept = 0;

        for (u32 i = 0; i < fill->count[u]; i++) {
            Filled f = fill->list[u][i];

            if (!global_too && (f.vpn & FILLED_GLOBAL))
                fill->list[u][kept++] = f;
            else
                clear_entry(cpu, cpu->tlb_set[u], f.vpn & ~FILLED_GLOBAL);
        }
        fill->count[u] = kept;
        if (!kept)
            __builtin_memset(fill->large[u], 0, sizeof(fill->large[u]));
    }
    forget_code_pages(cpu);
}

void tlb_flush_page(Cpu *cpu, u32 linear)
{
    TlbFill *fill = cpu->tlb_fill;
    u32 first = linear >> PAGE_SHIFT, count = 1, big = linear >> 22;

    if ((fill->large[0][big >> 5] | fill->large[1][big >> 5]) >> (big & 31) & 1) {
        first = big << 10;
        count = 1024;
        fill->large[0][big >> 5] &= ~(1u << (big & 31));
        fill->large[1][big >> 5] &= ~(1u << (big & 31));
    }
    for (u32 vpn = first; vpn < first + count; vpn++) {
        clear_entry(cpu, cpu->tlb_set[0], vpn);
        clear_entry(cpu, cpu->tlb_set[1], vpn);
    }
    forget_code_pages(cpu);
}

void tlb_protect_code(Cpu *cpu, u32 arena_page)
{
    const TlbFill *fill = cpu->tlb_fill;

    for (unsigned u = 0; u < 2; u++) {
        for (u32 i = 0; i < fill->count[u]; i++) {
            if (fill->list[u][i].page == arena_page)
                clear_write(cpu, cpu->tlb_set[u], fill->list[u][i].vpn & ~FILLED_GLOBAL);
        }
    }
}

void cpu_watch_stores(Cpu *cpu)
{
    const TlbFill *fill = cpu->tlb_fill;

    for (unsigned u = 0; u < 2; u++) {
        for (u32 i = 0; i < fill->count[u]; i++)
            clear_write(cpu, cpu->tlb_set[u], fill->list[u][i].vpn & ~FILLED_GLOBAL);
    }
    forget_code_pages(cpu);
}

/*
 * Puts the page on the list unless it is there already. A full list means a full flush: it can't happen
 * often.
 */
static void remember(Cpu *cpu, unsigned user, u32 vpn, const PageInfo *info, u32 page)
{
    const TlbSet *set = cpu->tlb_set[user];
    TlbFill *fill = cpu->tlb_fill;

    if (set->read[vpn] || set->write[vpn] || set->exec[vpn])
        return;
    if (fill->count[user] == LIST_MAX)
        tlb_flush(cpu, true);
    if (info->page_bytes != PAGE_SIZE)
        fill->large[user][vpn >> 15] |= 1u << (vpn >> 10 & 31);
    fill->list[user][fill->count[user]++] = (Filled){ vpn | (info->global ? FILLED_GLOBAL : 0), page };
}

/* After a successful walk: fills what the access allows; returns the host address or NULL. */
static u8 *enter(Cpu *cpu, unsigned user, u32 linear, int access, const PageInfo *info)
{
    MemPage p = mem_page(cpu->mem, info->phys);
    TlbSet *set = cpu->tlb_set[user];
    u32 vpn = linear >> PAGE_SHIFT;
    u8 *host;

    if (p.page == MEM_NO_PAGE || !p.direct_read)
        return NULL;
    remember(cpu, user, vpn, info, p.page);
    host = cpu->arena + ((u64)p.page << PAGE_SHIFT);
    set->read[vpn] = (u64)(uintptr_t)host - ((u64)vpn << PAGE_SHIFT);
    if (access == ACC_EXEC)
        set->exec[vpn] = p.page + 1;
    if (access == ACC_WRITE) {
        if (!p.direct_write)
            return NULL;
        if (cpu->page_flags[p.page] & PAGE_CODE) {
            remember_code_page(cpu, user, vpn, p.page, set->read[vpn]);
            return NULL;
        }
        mark_dirty(cpu, p.page);
        set->write[vpn] = set->read[vpn];
    }
    return host + (linear & PAGE_MASK);
}

u8 *tlb_walk(Cpu *cpu, unsigned user, u32 linear, int access, u64 *phys)
{
    PageInfo info;
    u32 error;

    if (!x86_walk(cpu, linear, access, user, true, &info, &error))
        x86_page_fault(cpu, linear, error);
    *phys = info.phys;
    return enter(cpu, user, linear, access, &info);
}

u8 *tlb_fill(Cpu *cpu, u32 linear, int access, u64 *phys)
{
    u8 *host = tlb_walk(cpu, cpu->tlb == cpu->tlb_set[1], linear, access, phys);

    return cpu->mode & MODE_WATCH && access != ACC_EXEC ? NULL : host;
}

u32 tlb_exec_page(Cpu *cpu, u32 linear)
{
    PageInfo info;
    u32 error, page = cpu->tlb->exec[linear >> PAGE_SHIFT];
    unsigned user = cpu->tlb == cpu->tlb_set[1];

    if (page)
        return page;
    if (!x86_walk(cpu, linear, ACC_EXEC, user, true, &info, &error))
        return 0;
    enter(cpu, user, linear, ACC_EXEC, &info);
    return cpu->tlb->exec[linear >> PAGE_SHIFT];
}
