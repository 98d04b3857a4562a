/*
 * Translation blocks: look-up, chaining, invalidation, and the memory they live in. See block.h.
 *
 * A block may die while it runs (it stores into itself, a helper drops everything): its code stays in place
 * until the next translation, which only the dispatcher starts; links into it are taken away at once, and the
 * store returns to the dispatcher.
 */
#include "block.h"
#include "emit.h"

#include "../vm/host.h"
#include "../vm/log.h"

#include <stdlib.h>
#include <string.h>

enum { GRANULE_SHIFT = 6 };
_Static_assert(sizeof(JumpCacheEntry) == 1 << JUMP_CACHE_ENTRY_SHIFT, "translated code scales by it");

static void *zeroed(u64 count, size_t size, Error *err, bool *ok)
{
    void *p = calloc(count, size);
    if (!p)
        *ok = error_set(err, "not enough memory for the code cache");
    return p;
}

bool blocks_create(Cpu *cpu, Error *err)
{
    bool ok = true;
    BlockCache *bc = cpu->blocks = zeroed(1, sizeof *bc, err, &ok);
    if (!bc)
        return false;
    u32 pages = mem_arena_pages(cpu->mem);
    bc->hash = zeroed(BLOCK_HASH, sizeof *bc->hash, err, &ok);
    bc->page_blocks = zeroed(pages, sizeof *bc->page_blocks, err, &ok);
    bc->granules = zeroed(pages, sizeof *bc->granules, err, &ok);
    bc->jump_cache = zeroed(JUMP_CACHE_SIZE, sizeof *bc->jump_cache, err, &ok);
    bc->arena = host_pages_alloc(BLOCK_ARENA_BYTES);
    bc->code = host_code_alloc(CODE_CACHE_BYTES);
    if (!ok || !bc->arena || !bc->code)
        return error_set(err, "the host gives no executable memory for translated code");
    bc->arena_next = bc->arena;
    bc->code_end = bc->code + CODE_CACHE_BYTES;
    bc->code_next = bc->code;
    thunks_make(cpu);
    bc->code_first = bc->code_next;
    cpu->scratch[SCRATCH_JUMP_CACHE] = (u64)(uintptr_t)bc->jump_cache;
    return true;
}

void blocks_destroy(Cpu *cpu)
{
    BlockCache *bc = cpu->blocks;
    if (!bc)
        return;
    if (bc->code)
        host_code_free(bc->code, CODE_CACHE_BYTES);
    if (bc->arena)
        host_pages_free(bc->arena, BLOCK_ARENA_BYTES);
    free(bc->hash);
    free(bc->page_blocks);
    free(bc->granules);
    free(bc->jump_cache);
    free(bc->by_address);
    free(bc);
    cpu->blocks = NULL;
}

/* ---- contexts ---- */

u32 blocks_context(Cpu *cpu)
{
    BlockCache *bc = cpu->blocks;
    const Seg *cs = &cpu->s.seg[CS];
    const Context *now = &bc->context[bc->context_now];
    if (bc->context_now && now->mode == cpu->mode && now->cs_base == cs->base && now->cs_limit == cs->limit)
        return bc->context_now;
    u32 h = (cpu->mode * 0x9e3779b1u ^ (cs->base >> 4) * 0x85ebca6bu ^ cs->limit) >> 8 & (CONTEXT_HASH - 1);
    u32 i = bc->context_hash[h];
    for (; i; i = bc->context[i].next)
        if (bc->context[i].mode == cpu->mode && bc->context[i].cs_base == cs->base &&
            bc->context[i].cs_limit == cs->limit)
            break;
    if (!i) {
        if (bc->context_count + 1 >= MAX_CONTEXTS) {
            blocks_drop_all(cpu);
            bc->context_count = 0;
            memset(bc->context_hash, 0, sizeof bc->context_hash);
        }
        i = ++bc->context_count;
        bc->context[i] = (Context){ cpu->mode, cs->base, cs->limit, bc->context_hash[h] };
        bc->context_hash[h] = i;
    }
    bc->context_now = i;
    cpu->scratch[SCRATCH_CONTEXT] = (u64)i << 32;
    return i;
}

/* ---- look-up ---- */

static Block **hash_slot(BlockCache *bc, u32 page, u32 eip, u32 context)
{
    u32 h = eip * 0x9e3779b1u ^ page * 0x85ebca6bu ^ context * 0xc2b2ae35u;
    return &bc->hash[h >> 16 & (BLOCK_HASH - 1)];
}

Block *blocks_find(BlockCache *bc, u32 page, u32 offset, u32 eip, u32 context)
{
    for (Block *b = *hash_slot(bc, page, eip, context); b; b = b->hash_next)
        if (b->eip == eip && b->page == page && b->context == context && b->offset == offset)
            return b;
    return NULL;
}

Block *blocks_at(BlockCache *bc, const u8 *host_pc)
{
    u32 low = 0, high = bc->block_count;
    while (low < high) {
        u32 mid = (low + high) / 2;
        if (bc->by_address[mid]->code + bc->by_address[mid]->code_bytes <= host_pc)
            low = mid + 1;
        else
            high = mid;
    }
    return low < bc->block_count && bc->by_address[low]->code <= host_pc ? bc->by_address[low] : NULL;
}

/* ---- memory ---- */

void blocks_drop_all(Cpu *cpu)
{
    BlockCache *bc = cpu->blocks;
    for (u32 i = 0; i < bc->block_count; i++) {
        Block *b = bc->by_address[i];
        if (!b->once && !b->dead)
            for (int k = 0; k < 2; k++) {
                u32 page = k ? b->page2 : b->page;
                if (page == MEM_NO_PAGE)
                    continue;
                bc->page_blocks[page] = NULL;
                bc->granules[page] = 0;
                __atomic_and_fetch(&cpu->page_flags[page], (u8)~PAGE_CODE, __ATOMIC_RELAXED);
            }
        b->dead = true;
    }
    memset(bc->hash, 0, BLOCK_HASH * sizeof *bc->hash);
    memset(bc->jump_cache, 0, JUMP_CACHE_SIZE * sizeof *bc->jump_cache);
    memset(bc->free_places, 0, sizeof bc->free_places);
    bc->drop_pending = true;
    cpu->stat[STAT_DROPS]++;
}

void blocks_begin(Cpu *cpu)
{
    BlockCache *bc = cpu->blocks;
    if (bc->code_end - bc->code_next < 2 * BLOCK_MAX_CODE ||
        bc->arena + BLOCK_ARENA_BYTES - bc->arena_next < 2 * BLOCK_MAX_CODE)
        blocks_drop_all(cpu);
    if (bc->drop_pending) {
        bc->drop_pending = false;
        bc->block_count = 0;
        bc->code_next = bc->code_first;
        bc->arena_next = bc->arena;
    }
    while (bc->block_count && bc->by_address[bc->block_count - 1]->once) {
        Block *last = bc->by_address[--bc->block_count];
        bc->code_next = last->code;
        bc->arena_next = (u8 *)last;
    }
    if (bc->block_count == bc->block_capacity) {
        u32 capacity = bc->block_capacity ? bc->block_capacity * 2 : 4096;
        Block **grown = realloc(bc->by_address, capacity * sizeof *grown);
        if (!grown) {
            log_line("out of memory");
            exit(1);
        }
        bc->by_address = grown;
        bc->block_capacity = capacity;
    }
}

void *blocks_alloc(BlockCache *bc, size_t bytes)
{
    void *p = bc->arena_next;
    bc->arena_next += (bytes + 15) & ~(size_t)15;
    memset(p, 0, bytes);
    return p;
}

static u64 granule_mask(u32 offset, u32 bytes)
{
    u32 first = offset >> GRANULE_SHIFT, last = (offset + bytes - 1) >> GRANULE_SHIFT;
    if (last > 63)
        last = 63;
    return (~0ull << first) & (~0ull >> (63 - last));
}

/* The part of a block's guest code in `page`: first offset and number of bytes. */
static u32 part_in_page(const Block *b, u32 page, u32 *bytes)
{
    u32 in_first = PAGE_SIZE - b->offset < b->bytes ? PAGE_SIZE - b->offset : b->bytes;
    if (b->page == page) {
        *bytes = in_first;
        return b->offset;
    }
    *bytes = b->bytes - in_first;
    return 0;
}

static void add_to_page(Cpu *cpu, Block *b, u32 page)
{
    BlockCache *bc = cpu->blocks;
    u32 bytes, offset = part_in_page(b, page, &bytes);
    Block **next = page == b->page ? &b->page_next : &b->page2_next;
    *next = bc->page_blocks[page];
    bc->page_blocks[page] = b;
    bc->granules[page] |= granule_mask(offset, bytes);
    patch_block_added(bc, b, page, offset, bytes);
    if (!(cpu->page_flags[page] & PAGE_CODE)) {
        __atomic_or_fetch(&cpu->page_flags[page], PAGE_CODE, __ATOMIC_RELAXED);
        tlb_protect_code(cpu, page);
    }
}

void blocks_add(Cpu *cpu, Block *b)
{
    BlockCache *bc = cpu->blocks;
    bc->by_address[bc->block_count++] = b;
    cpu->stat[STAT_BLOCKS]++;
    cpu->stat[STAT_INSNS] += b->insn_count;
    cpu->stat[STAT_GUEST_BYTES] += b->bytes;
    cpu->stat[STAT_HOST_BYTES] += b->code_bytes;
    if (b->once)
        return;
    Block **slot = hash_slot(bc, b->page, b->eip, b->context);
    b->hash_next = *slot;
    *slot = b;
    add_to_page(cpu, b, b->page);
    if (b->page2 != MEM_NO_PAGE && b->page2 != b->page)
        add_to_page(cpu, b, b->page2);
}

/* ---- chaining ---- */

static void unlink_exit(Exit *e)
{
    patch32(e->patch, e->stub);
    e->to = NULL;
}

static void remove_incoming(Exit *e)
{
    for (Exit **p = &e->to->incoming; *p; p = &(*p)->next_incoming)
        if (*p == e) {
            *p = e->next_incoming;
            break;
        }
}

void blocks_link(Cpu *cpu, Exit *e, Block *to)
{
    if (e->from->dead || e->from->unlinked || to->unlinked || to->dead)
        return;
    if (e->to) {
        if (e->to == to)
            return;
        remove_incoming(e);
    }
    e->to = to;
    e->next_incoming = to->incoming;
    to->incoming = e;
    patch32(e->patch, to->entry[e->entry]);
    cpu->stat[STAT_LINKS]++;
}

/* ---- invalidation ---- */

static Block **next_in_page(Block *b, u32 page) { return page == b->page ? &b->page_next : &b->page2_next; }

static void remove_from_page(Cpu *cpu, Block *b, u32 page)
{
    BlockCache *bc = cpu->blocks;
    u64 granules = 0;
    for (Block **p = &bc->page_blocks[page]; *p; ) {
        if (*p == b) {
            *p = *next_in_page(b, page);
            continue;
        }
        u32 bytes, offset = part_in_page(*p, page, &bytes);
        granules |= granule_mask(offset, bytes);
        p = next_in_page(*p, page);
    }
    bc->granules[page] = granules;
    if (!bc->page_blocks[page])
        __atomic_and_fetch(&cpu->page_flags[page], (u8)~PAGE_CODE, __ATOMIC_RELAXED);
}

static void kill_block(Cpu *cpu, Block *b)
{
    BlockCache *bc = cpu->blocks;
    b->dead = true;
    for (Block **p = hash_slot(bc, b->page, b->eip, b->context); *p; p = &(*p)->hash_next)
        if (*p == b) {
            *p = b->hash_next;
            break;
        }
    for (Exit *e = b->incoming, *next; e; e = next) {
        next = e->next_incoming;
        unlink_exit(e);
    }
    b->incoming = NULL;
    for (unsigned i = 0; i < b->exit_count; i++)
        if (b->exits[i].to) {
            remove_incoming(&b->exits[i]);
            unlink_exit(&b->exits[i]);
        }
    JumpCacheEntry *j = &bc->jump_cache[b->eip & (JUMP_CACHE_SIZE - 1)];
    if (j->block == b)
        *j = (JumpCacheEntry){ 0 };
    remove_from_page(cpu, b, b->page);
    if (b->page2 != MEM_NO_PAGE && b->page2 != b->page)
        remove_from_page(cpu, b, b->page2);
    cpu->stat[STAT_KILLED]++;
}

bool blocks_written(Cpu *cpu, u32 page, u32 offset, u32 bytes)
{
    BlockCache *bc = cpu->blocks;
    cpu->stat[STAT_STORES_TO_CODE]++;
    if (!bytes || !(bc->granules[page] & granule_mask(offset, bytes)))
        return false;
    bool any = false, read_from_memory = false;
    for (Block *b = bc->page_blocks[page], *next; b; b = next) {
        next = *next_in_page(b, page);
        u32 size, start = part_in_page(b, page, &size);
        if (start >= offset + bytes || offset >= start + size)
            continue;
        if (patch_concerns(b, page, offset, bytes)) {
            kill_block(cpu, b);
            any = true;
        } else {
            read_from_memory = true;
        }
    }
    if (any)
        patch_count(bc, page, offset, bytes);
    if (read_from_memory)
        patch_set_free(bc, page, offset, bytes);
    return any;
}
