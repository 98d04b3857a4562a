/*
 * The flat translation tables: what translated code looks up, filled by page walks, emptied by flushes.
 *
 * Each privilege of an address space has its TlbSet. A list of the pages filled makes a flush cost what was
 * used and not what could be. A write entry is made only for a page of plain memory that is dirty in the page
 * tables (or paging is off), holds no translated code and has its PAGE_DIRTY flag set; the flag is set again
 * when the entry goes, for a device that cleared it in between.
 *
 * A few address spaces are kept by their CR3. Loading CR3 flushes, as far as the guest can see: each entry of
 * the space it names is kept only if the directory and table entries it was made from lie where they lay and
 * hold what they held. So nobody has to watch the guest's page tables, and neither an alias nor DMA to them is
 * missed. Only 32-bit paging is done so; with PAE all but global pages go.
 */
#include "../vm/host.h"
#include "../vm/log.h"

#include "block.h"
#include "system.h"

#include <stdlib.h>

enum { LIST_MAX = 16384, SPACES = 8, REVIEWS_MAX = 64, PTE_DIRTY = 0x40 };

/* One fill. An entry that was filled more than once is on the list as often, and stays only if all agree. */
typedef struct {
    u32 vpn;                    /* bit 31: global */
    u32 page;                   /* arena page */
    const u8 *at[2];            /* host addresses of directory and table entry; NULL: can't be compared */
    u32 entry[2];
} Filled;
#define FILLED_GLOBAL 0x80000000u

typedef struct {
    TlbSet *set[2];
    u32 cr3;
    bool known;                 /* cr3 says whose it is; else it is empty, or the current one */
    u64 used;                   /* when it was left, to find the one that nobody needs */
    u32 reviews;                /* since it was empty */
    u32 count[2];
    Filled *list[2];
    u32 large[2][32];           /* a bit for each 4 MiB that a large page was used in */
} Space;

struct TlbFill {
    Space space[SPACES];
    Space *now;
    u64 clock;
};

static void space_free(Space *s)
{
    for (int i = 0; i < 2; i++) {
        if (s->set[i])
            host_pages_free(s->set[i], sizeof(TlbSet));
        if (s->list[i])
            host_pages_free(s->list[i], LIST_MAX * sizeof(Filled));
        s->set[i] = NULL;
        s->list[i] = NULL;
    }
}

static bool space_make(Space *s)
{
    for (int i = 0; i < 2; i++) {
        s->set[i] = host_pages_alloc(sizeof(TlbSet));
        s->list[i] = host_pages_alloc(LIST_MAX * sizeof(Filled));
    }
    if (s->set[0] && s->set[1] && s->list[0] && s->list[1])
        return true;
    space_free(s);
    return false;
}

/* tlb: of the same privilege as before. */
static void space_use(Cpu *cpu, Space *s)
{
    bool user = cpu->tlb && cpu->tlb == cpu->tlb_set[1];

    cpu->tlb_fill->now = s;
    cpu->tlb_set[0] = s->set[0];
    cpu->tlb_set[1] = s->set[1];
    cpu->tlb = s->set[user];
}

bool tlb_create(Cpu *cpu, Error *err)
{
    cpu->tlb_fill = calloc(1, sizeof(*cpu->tlb_fill));
    if (!cpu->tlb_fill || !space_make(&cpu->tlb_fill->space[0])) {
        tlb_destroy(cpu);
        return error_set(err, "not enough memory for the CPU's translation tables");
    }
    space_use(cpu, &cpu->tlb_fill->space[0]);
    return true;
}

void tlb_destroy(Cpu *cpu)
{
    for (int i = 0; cpu->tlb_fill && i < SPACES; i++)
        space_free(&cpu->tlb_fill->space[i]);
    free(cpu->tlb_fill);
    cpu->tlb_fill = NULL;
    cpu->tlb_set[0] = cpu->tlb_set[1] = cpu->tlb = NULL;
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

static void space_clear(Cpu *cpu, Space *s)
{
    for (unsigned u = 0; u < 2; u++) {
        for (u32 i = 0; i < s->count[u]; i++)
            clear_entry(cpu, s->set[u], s->list[u][i].vpn & ~FILLED_GLOBAL);
        s->count[u] = 0;
        __builtin_memset(s->large[u], 0, sizeof(s->large[u]));
    }
}

/* Would a walk find the same as when this was filled? */
static bool still_so(const Filled *f)
{
    return f->at[0] && load32(f->at[0]) == f->entry[0] &&
           !((load32(f->at[1]) ^ f->entry[1]) & ~(u32)PTE_DIRTY);
}

/*
 * What a load of CR3 leaves of the current space. Now and then it is nothing: who still uses a page fills it
 * again, and the others, each of which costs a look at every load, are gone.
 */
static void space_review(Cpu *cpu, Space *s)
{
    if (++s->reviews == REVIEWS_MAX) {
        s->reviews = 0;
        space_clear(cpu, s);
    }
    for (unsigned u = 0; u < 2; u++) {
        u32 kept = 0;

        for (u32 i = 0; i < s->count[u]; i++) {
            const Filled *f = &s->list[u][i];
            u32 vpn = f->vpn & ~FILLED_GLOBAL;

            if (!still_so(f) && (f->at[0] || !(f->vpn & FILLED_GLOBAL))) {
                clear_entry(cpu, s->set[u], vpn);
                continue;
            }
            if (f->at[0] && !(load32(f->at[1]) & PTE_DIRTY))
                clear_write(cpu, s->set[u], vpn);
            if (kept != i)
                s->list[u][kept] = *f;
            kept++;
        }
        s->count[u] = kept;
        if (!kept)
            __builtin_memset(s->large[u], 0, sizeof(s->large[u]));
    }
    forget_code_pages(cpu);
}

void tlb_flush(Cpu *cpu, bool global_too)
{
    TlbFill *fill = cpu->tlb_fill;

    if (!global_too) {
        space_review(cpu, fill->now);
        return;
    }
    for (int i = 0; i < SPACES; i++) {
        space_clear(cpu, &fill->space[i]);
        fill->space[i].known = false;
    }
    forget_code_pages(cpu);
}

/* The space of this CR3, or one that may be given to it: the longest unused. */
static Space *space_for(Cpu *cpu, u32 cr3)
{
    TlbFill *fill = cpu->tlb_fill;
    Space *oldest = NULL;

    for (int i = 0; i < SPACES; i++) {
        Space *s = &fill->space[i];

        if (s->known && s->cr3 == cr3)
            return s;
        if (s != fill->now && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    if (!oldest->set[0] && !space_make(oldest))
        oldest = fill->now;             /* the host has no more memory: as if there were one space */
    space_clear(cpu, oldest);
    oldest->known = false;
    return oldest;
}

/* Where a page table entry lies on the host; NULL: not in plain memory. */
static const u8 *entry_host(Cpu *cpu, u32 at)
{
    u64 phys = at & a20_mask(cpu);
    MemPage p = mem_page(cpu->mem, phys);

    return p.direct_read ? cpu->arena + ((u64)p.page << PAGE_SHIFT) + (phys & PAGE_MASK) : NULL;
}

/* A space that begins takes along what is global, as its own directory has it: system software has most of its
 * pages so. */
static void take_global(Cpu *cpu, Space *to, const Space *from, u32 cr3)
{
    const u8 *directory = entry_host(cpu, cr3 & ~PAGE_MASK);

    for (unsigned u = 0; u < 2 && directory; u++) {
        for (u32 i = 0; i < from->count[u]; i++) {
            Filled f = from->list[u][i];
            u32 vpn = f.vpn & ~FILLED_GLOBAL;

            if (!(f.vpn & FILLED_GLOBAL) || !f.at[0])
                continue;
            f.at[1] = f.at[1] == f.at[0] ? directory + (vpn >> 10) * 4 : f.at[1];
            f.at[0] = directory + (vpn >> 10) * 4;
            to->list[u][to->count[u]++] = f;
            to->set[u]->read[vpn] = from->set[u]->read[vpn];
            to->set[u]->write[vpn] = from->set[u]->write[vpn];
            to->set[u]->exec[vpn] = from->set[u]->exec[vpn];
        }
        __builtin_memcpy(to->large[u], from->large[u], sizeof(to->large[u]));
    }
}

void tlb_load_cr3(Cpu *cpu, u32 value)
{
    TlbFill *fill = cpu->tlb_fill;
    Space *was = fill->now, *next;

    if ((cpu->s.cr0 & CR0_PG) && !(cpu->s.cr4 & CR4_PAE)) {
        was->cr3 = cpu->s.cr3;
        was->known = true;
        was->used = ++fill->clock;
        next = space_for(cpu, value);
        if (!next->known && next != was)
            take_global(cpu, next, was, value);
        next->cr3 = value;
        next->known = true;
        space_use(cpu, next);
    }
    space_review(cpu, fill->now);
}

void tlb_flush_page(Cpu *cpu, u32 linear)
{
    Space *s = cpu->tlb_fill->now;
    u32 first = linear >> PAGE_SHIFT, count = 1, big = linear >> 22;

    if ((s->large[0][big >> 5] | s->large[1][big >> 5]) >> (big & 31) & 1) {
        first = big << 10;
        count = 1024;
        s->large[0][big >> 5] &= ~(1u << (big & 31));
        s->large[1][big >> 5] &= ~(1u << (big & 31));
    }
    for (u32 vpn = first; vpn < first + count; vpn++) {
        clear_entry(cpu, s->set[0], vpn);
        clear_entry(cpu, s->set[1], vpn);
    }
    forget_code_pages(cpu);
}

/* Takes the write entries that lead to this page, or all of them, in every space. */
static void clear_writes(Cpu *cpu, u32 page)
{
    for (int k = 0; k < SPACES; k++) {
        Space *s = &cpu->tlb_fill->space[k];

        for (unsigned u = 0; u < 2; u++) {
            for (u32 i = 0; i < s->count[u]; i++) {
                if (page == MEM_NO_PAGE || s->list[u][i].page == page)
                    clear_write(cpu, s->set[u], s->list[u][i].vpn & ~FILLED_GLOBAL);
            }
        }
    }
}

void tlb_protect_code(Cpu *cpu, u32 arena_page) { clear_writes(cpu, arena_page); }

void cpu_watch_stores(Cpu *cpu)
{
    clear_writes(cpu, MEM_NO_PAGE);
    forget_code_pages(cpu);
}

/* Puts the fill on the list. A full list means a full flush of the space: it can't happen often. */
static void remember(Cpu *cpu, unsigned user, u32 vpn, const PageInfo *info, u32 page)
{
    Space *s = cpu->tlb_fill->now;
    Filled f = { vpn | (info->global ? FILLED_GLOBAL : 0), page, { NULL, NULL }, { 0, 0 } };

    if (info->at[0]) {
        for (unsigned i = 0; i < 2; i++) {
            f.at[i] = entry_host(cpu, info->at[i]);
            f.entry[i] = info->entry[i];
        }
        if (!f.at[1])
            f.at[0] = NULL;
    } else if (s->set[user]->read[vpn] || s->set[user]->exec[vpn]) {
        return;                         /* on the list already, and nothing more is known of it */
    }
    if (s->count[user] && !__builtin_memcmp(&s->list[user][s->count[user] - 1], &f, sizeof(f)))
        return;
    if (s->count[user] == LIST_MAX) {
        space_clear(cpu, s);
        forget_code_pages(cpu);
    }
    if (info->page_bytes != PAGE_SIZE)
        s->large[user][vpn >> 15] |= 1u << (vpn >> 10 & 31);
    s->list[user][s->count[user]++] = f;
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
    if (access == ACC_WRITE && !p.direct_write)
        return NULL;
    if (access == ACC_WRITE && cpu->page_flags[p.page] & PAGE_CODE) {
        remember_code_page(cpu, user, vpn, p.page, set->read[vpn]);
        return NULL;
    }
    /* A load makes the write entry, too, if that changes no flag that somebody looks at. */
    if (p.direct_write && info->writable && info->dirty && !(cpu->page_flags[p.page] & PAGE_CODE) &&
        (access == ACC_WRITE || cpu->page_flags[p.page] & PAGE_DIRTY)) {
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
    if (log_on(LOG_MMU))
        log_line("mmu: %08x -> %09llx %s%s%s%s", linear, (unsigned long long)info.phys,
                 access == ACC_EXEC ? "exec" : access == ACC_WRITE ? "write" : "read", user ? " user" : "",
                 info.writable ? "" : " read-only", info.page_bytes == PAGE_SIZE ? "" : " large");
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
