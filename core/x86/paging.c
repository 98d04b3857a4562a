/*
 * Page walks: linear to physical, with rights, accessed and dirty bits.
 *
 * Source: Intel SDM vol. 3, chapter 4 (32-bit paging with PSE and PSE-36, PAE paging with execute-disable),
 * section 4.7 (error code). Not modelled: caches of upper-level entries; every walk reads all levels. Memory
 * types (PCD, PWT, PAT) have no effect.
 */
#include "system.h"

enum { PTE_P = 1, PTE_RW = 2, PTE_US = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_ID = 16 };
#define PTE_NX (1ull << 63)
#define PAE_ADDRESS 0x0000000ffffff000ull       /* 36 physical address bits */
#define PAE_RESERVED 0x7ffffff000000000ull

u64 phys_read(Cpu *cpu, u64 phys, unsigned size)
{
    MemPage p;
    u64 value;

    phys &= a20_mask(cpu);
    p = mem_page(cpu->mem, phys);
    if (p.direct_read && (phys & PAGE_MASK) + size <= PAGE_SIZE) {
        const u8 *host = cpu->arena + ((u64)p.page << PAGE_SHIFT) + (phys & PAGE_MASK);

        switch (size) {
        case 1: return *host;
        case 2: return load16(host);
        case 4: return load32(host);
        default: return load64(host);
        }
    }
    machine_lock(cpu->m);
    value = mem_bus_read(cpu->mem, phys, size);
    machine_unlock(cpu->m);
    return value;
}

bool page_written(Cpu *cpu, u32 page, u32 offset, u32 bytes)
{
    u8 flags = cpu->page_flags[page];

    if (!(flags & PAGE_DIRTY))
        __atomic_fetch_or(&cpu->page_flags[page], PAGE_DIRTY, __ATOMIC_RELAXED);
    return (flags & PAGE_CODE) && blocks_written(cpu, page, offset, bytes);
}

bool phys_write(Cpu *cpu, u64 phys, u64 value, unsigned size)
{
    MemPage p;

    phys &= a20_mask(cpu);
    p = mem_page(cpu->mem, phys);
    if (p.direct_write && (phys & PAGE_MASK) + size <= PAGE_SIZE) {
        __builtin_memcpy(cpu->arena + ((u64)p.page << PAGE_SHIFT) + (phys & PAGE_MASK), &value, size);
        return page_written(cpu, p.page, phys & PAGE_MASK, size);
    }
    machine_lock(cpu->m);
    mem_bus_write(cpu->mem, phys, value, size);
    machine_unlock(cpu->m);
    return false;
}

/* What one walk has found so far; the last level's entry stays here for its accessed and dirty bits. */
typedef struct {
    u64 entry[2], at[2];        /* directory, table; at: physical */
    unsigned levels;
    bool large;
} Walk;

/*
 * A page table entry. Those who only look (the monitor holds the machine lock) see nothing but plain
 * memory.
 */
static u64 entry_read(Cpu *cpu, u64 phys, unsigned size, bool looking)
{
    return looking && !mem_page(cpu->mem, phys & a20_mask(cpu)).direct_read ? 0 : phys_read(cpu, phys, size);
}

static u32 fault_code(const Cpu *cpu, int access, bool user, bool present, bool reserved)
{
    bool pae_nx = (cpu->s.cr4 & CR4_PAE) && (cpu->s.efer & EFER_NXE);

    return (present ? PF_P : 0) | (access == ACC_WRITE ? PF_W : 0) | (user ? PF_U : 0) |
           (reserved ? PF_RSVD : 0) | (access == ACC_EXEC && pae_nx ? PF_ID : 0);
}

/* Writes back A of the levels used and, for a write, D of the last one. */
static void update_bits(Cpu *cpu, Walk *w, int access)
{
    for (unsigned i = 0; i < w->levels; i++) {
        u32 old = (u32)w->entry[i];
        u32 now = old | PTE_A;

        if (i == w->levels - 1 && access == ACC_WRITE)
            now |= PTE_D;
        if (now != old)
            phys_write(cpu, w->at[i], now, 4);
        w->entry[i] = (w->entry[i] & ~0xffffffffull) | now;
    }
}

/* Rights of the walked entries against the access; fills info except for phys and page_bytes. */
static bool judge(Cpu *cpu, Walk *w, int access, bool user, bool set_ad, PageInfo *info, u32 *error)
{
    u64 both = w->entry[0] & (w->levels == 2 ? w->entry[1] : ~0ull);
    u64 last = w->entry[w->levels - 1];
    bool nx = ((w->entry[0] | (w->levels == 2 ? w->entry[1] : 0)) & PTE_NX) != 0;

    info->user = (both & PTE_US) != 0;
    info->writable = (both & PTE_RW) || (!user && !(cpu->s.cr0 & CR0_WP));
    info->nx = nx;
    info->global = (last & PTE_G) && (cpu->s.cr4 & CR4_PGE);
    if ((user && !info->user) || (access == ACC_WRITE && !info->writable) || (access == ACC_EXEC && nx)) {
        *error = fault_code(cpu, access, user, true, false);
        return false;
    }
    if (set_ad)
        update_bits(cpu, w, access);
    info->dirty = (last & PTE_D) || (set_ad && access == ACC_WRITE);
    return true;
}

static bool walk_32(Cpu *cpu, u32 linear, int access, bool user, bool set_ad, PageInfo *info, u32 *error)
{
    Walk w = { .levels = 1 };

    w.at[0] = (cpu->s.cr3 & ~PAGE_MASK) | (linear >> 22 << 2);
    w.entry[0] = (u32)entry_read(cpu, w.at[0], 4, !set_ad);
    if (!(w.entry[0] & PTE_P)) {
        *error = fault_code(cpu, access, user, false, false);
        return false;
    }
    if ((w.entry[0] & PTE_PS) && (cpu->s.cr4 & CR4_PSE)) {
        u32 reserved = has(cpu, FEAT_PSE36) ? 0x003e0000u : 0x003fe000u;

        if (w.entry[0] & reserved) {
            *error = fault_code(cpu, access, user, true, true);
            return false;
        }
        info->page_bytes = 1u << 22;
        info->phys = (w.entry[0] & 0xffc00000u) | (w.entry[0] & 0x1e000) << (32 - 13) | (linear & 0x3fffff);
    } else {
        w.levels = 2;
        w.at[1] = (w.entry[0] & ~(u64)PAGE_MASK) | (linear >> 12 & 0x3ff) << 2;
        w.entry[1] = (u32)entry_read(cpu, w.at[1], 4, !set_ad);
        if (!(w.entry[1] & PTE_P)) {
            *error = fault_code(cpu, access, user, false, false);
            return false;
        }
        info->page_bytes = PAGE_SIZE;
        info->phys = (w.entry[1] & ~(u64)PAGE_MASK) | (linear & PAGE_MASK);
    }
    if (!judge(cpu, &w, access, user, set_ad, info, error))
        return false;
    for (unsigned i = 0; i < 2; i++) {
        unsigned level = i < w.levels ? i : 0;

        info->at[i] = (u32)w.at[level];
        info->entry[i] = (u32)w.entry[level];
    }
    return true;
}

static bool walk_pae(Cpu *cpu, u32 linear, int access, bool user, bool set_ad, PageInfo *info, u32 *error)
{
    u64 pdpte = cpu->s.pdpte[linear >> 30];
    u64 reserved = PAE_RESERVED | (cpu->s.efer & EFER_NXE ? 0 : PTE_NX);
    Walk w = { .levels = 1 };

    if (!(pdpte & PTE_P)) {
        *error = fault_code(cpu, access, user, false, false);
        return false;
    }
    w.at[0] = (pdpte & PAE_ADDRESS) | (linear >> 21 & 0x1ff) << 3;
    w.entry[0] = entry_read(cpu, w.at[0], 8, !set_ad);
    if (!(w.entry[0] & PTE_P)) {
        *error = fault_code(cpu, access, user, false, false);
        return false;
    }
    if (w.entry[0] & PTE_PS) {
        info->page_bytes = 1u << 21;
        info->phys = (w.entry[0] & PAE_ADDRESS & ~0x1fffffull) | (linear & 0x1fffff);
        reserved |= 0x1fe000;
    } else if (!(w.entry[0] & reserved)) {
        w.levels = 2;
        w.at[1] = (w.entry[0] & PAE_ADDRESS) | (linear >> 12 & 0x1ff) << 3;
        w.entry[1] = entry_read(cpu, w.at[1], 8, !set_ad);
        if (!(w.entry[1] & PTE_P)) {
            *error = fault_code(cpu, access, user, false, false);
            return false;
        }
        info->page_bytes = PAGE_SIZE;
        info->phys = (w.entry[1] & PAE_ADDRESS) | (linear & PAGE_MASK);
    }
    if (w.entry[w.levels - 1] & reserved) {
        *error = fault_code(cpu, access, user, true, true);
        return false;
    }
    return judge(cpu, &w, access, user, set_ad, info, error);
}

bool x86_walk(Cpu *cpu, u32 linear, int access, bool user, bool set_ad, PageInfo *info, u32 *error)
{
    bool ok = true;

    *info = (PageInfo){
        .phys = linear, .writable = true, .user = true, .dirty = true, .page_bytes = PAGE_SIZE
    };
    if (cpu->s.cr0 & CR0_PG) {
        if (cpu->s.cr4 & CR4_PAE)
            ok = walk_pae(cpu, linear, access, user, set_ad, info, error);
        else
            ok = walk_32(cpu, linear, access, user, set_ad, info, error);
    }
    info->phys &= a20_mask(cpu);
    return ok;
}
