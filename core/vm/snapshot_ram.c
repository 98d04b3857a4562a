/*
 * Memory of a snapshot.
 *
 * Saving. With the vCPU parked, each page is looked at once. What has not been written since the snapshot
 * before (PAGE_DIRTY) is in one of its blocks, and is shared; a block of which little is still wanted is not
 * shared but written anew. The rest is to be saved: it gets PAGE_HELD, and whoever is about to look at such a
 * page, to write to it perhaps, copies it first (settle). A thread goes through the list, takes each page
 * from its copy or from its place, and fills blocks. Memory that devices write behind our back (video memory)
 * has no such bits and is copied at once.
 *
 * Loading. All pages that differ get PAGE_ABSENT, and come when they are looked at; a thread brings in the
 * rest. The compressed blocks are in memory by then, and checked.
 */
#include "snapshot_int.h"

#include "host.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { READY_MAX = 8, SHARE_PERCENT = 25 };

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "qemu: out of memory\n");
        abort();
    }
    return p;
}

void table_free(PageTable *t)
{
    free(t->page);
    free(t->crc);
    free(t->used);
    *t = (PageTable){ 0 };
}

void table_room(PageTable *t, u32 blocks)
{
    u32 room = t->room ? t->room : 256;

    if (blocks <= t->room)
        return;
    while (room < blocks)
        room *= 2;
    t->crc = must(realloc(t->crc, room * sizeof(u32)));
    t->used = must(realloc(t->used, room * sizeof(u32)));
    memset(t->crc + t->room, 0, (room - t->room) * sizeof(u32));
    memset(t->used + t->room, 0, (room - t->room) * sizeof(u32));
    t->room = room;
}

bool ram_is_lazy(const MemRegion *r) { return !strcmp(mem_region_name(r), "ram"); }

static bool is_zero(const u8 *p)
{
    const u64 *w = (const u64 *)p;

    for (unsigned i = 0; i < PAGE_SIZE / 8; i += 4) {
        if (w[i] | w[i + 1] | w[i + 2] | w[i + 3])
            return false;
    }
    return true;
}

static u64 hash_page(const u8 *p)
{
    const u64 *w = (const u64 *)p;
    u64 a = 0x9e3779b97f4a7c15ull, b = 0xc2b2ae3d27d4eb4full;

    for (unsigned i = 0; i < PAGE_SIZE / 8; i += 2) {
        a = (a ^ w[i]) * 0xff51afd7ed558ccdull;
        b = (b ^ w[i + 1]) * 0xc4ceb9fe1a85ec53ull;
        a ^= a >> 29;
        b ^= b >> 31;
    }
    return (a ^ b >> 17 ^ b << 11) | 1;
}

/* ---- what the last snapshot held ---- */

void ram_quick_hashes(Machine *m, RamBase *base)
{
    u8 *arena = mem_arena(m->mem);

    free(base->quick);
    base->quick = must(calloc(mem_arena_pages(m->mem), sizeof(u64)));
    for (unsigned n = 0; mem_ram_region(m->mem, n); n++) {
        MemRegion *r = mem_ram_region(m->mem, n);
        u32 first = mem_region_page(r), count = (u32)(mem_region_size(r) >> PAGE_SHIFT);

        for (u32 p = first; !ram_is_lazy(r) && p < first + count; p++) {
            if (base->table.page && base->table.page[p])
                base->quick[p] = hash_page(arena + ((u64)p << PAGE_SHIFT));
        }
    }
}

void ram_base_lost(Machine *m, RamBase *base)
{
    u8 *flags = mem_page_flags(m->mem);

    for (u32 p = 0; base->table.page && p < base->table.pages; p++) {
        if (base->table.page[p])
            __atomic_fetch_or(&flags[p], PAGE_DIRTY, __ATOMIC_RELAXED);
    }
    table_free(&base->table);
    base->uid = 0;
}

/* ---- saving ---- */

typedef struct { u8 *data; u32 n; } Ready;

struct RamSave {
    Machine *m;
    u8 *arena, *flags;
    u32 block_bytes;
    PageTable table;
    u32 *todo, todo_count;
    u64 *quick;                     /* hashes of what has no DIRTY bits */
    bool kept;                      /* the table has become the base */
    u8 **copy;                      /* by arena page, under the lock; NULL: still in its place */
    HostLock *lock;
    HostCond *cond;                 /* room for a block, a block, the end */
    HostThread *thread;
    Ready ready[READY_MAX];
    u32 ready_count, out;           /* blocks waiting; taken and not released */
    bool ended, quit;
};

static RamSave *held_by;            /* there is one machine, and one save at a time */
static RamLoad *absent_of;

static void take_copy(RamSave *s, u32 page)
{
    s->copy[page] = must(malloc(PAGE_SIZE));
    memcpy(s->copy[page], s->arena + ((u64)page << PAGE_SHIFT), PAGE_SIZE);
}

static void let_go(RamSave *s, u32 page)
{
    host_lock(s->lock);
    if (s->flags[page] & PAGE_HELD) {
        take_copy(s, page);
        __atomic_fetch_and(&s->flags[page], (u8)~PAGE_HELD, __ATOMIC_RELEASE);
    }
    host_unlock(s->lock);
}

static void bring_in(RamLoad *l, u32 page);

/* The contract of memory.h: on any thread. What is held is what was there before the load. */
static void settle(void *opaque, u32 page)
{
    const u8 *flags = opaque;

    if (__atomic_load_n(&flags[page], __ATOMIC_ACQUIRE) & PAGE_HELD)
        let_go(held_by, page);
    if (__atomic_load_n(&flags[page], __ATOMIC_ACQUIRE) & PAGE_ABSENT)
        bring_in(absent_of, page);
}

static u8 *page_bytes(RamSave *s, u32 page, u8 *buf)
{
    u8 *copy;

    host_lock(s->lock);
    copy = s->copy[page];
    s->copy[page] = NULL;
    if (!copy) {
        memcpy(buf, s->arena + ((u64)page << PAGE_SHIFT), PAGE_SIZE);
        __atomic_fetch_and(&s->flags[page], (u8)~PAGE_HELD, __ATOMIC_RELEASE);
    }
    host_unlock(s->lock);
    if (copy) {
        memcpy(buf, copy, PAGE_SIZE);
        free(copy);
    }
    return buf;
}

/* Hands a filled block over; waits while many wait. False: the save was given up. */
static bool hand_over(RamSave *s, u8 *block)
{
    u32 n = s->table.blocks;
    bool quit;

    table_room(&s->table, n + 1);
    s->table.crc[n] = (u32)crc32(0, block, s->block_bytes);
    host_lock(s->lock);
    while (s->ready_count + s->out >= READY_MAX && !s->quit)
        host_cond_wait(s->cond, s->lock);
    quit = s->quit;
    if (!quit) {
        s->ready[s->ready_count++] = (Ready){ block, n };
        s->table.blocks++;
        host_cond_signal(s->cond);
    }
    host_unlock(s->lock);
    if (quit)
        free(block);
    host_wake();
    return !quit;
}

static u32 pack(z_stream *z, const u8 *page, u8 *out)
{
    deflateReset(z);
    z->next_in = (u8 *)page;
    z->avail_in = PAGE_SIZE;
    z->next_out = out;
    z->avail_out = PAGE_SIZE - 1;
    if (deflate(z, Z_FINISH) == Z_STREAM_END)
        return (u32)z->total_out;
    memcpy(out, page, PAGE_SIZE);
    return PAGE_SIZE;
}

static void save_thread(void *opaque)
{
    RamSave *s = opaque;
    z_stream z = { 0 };
    u8 page[PAGE_SIZE] __attribute__((aligned(8))), packed[PAGE_SIZE], *block = NULL;
    u32 at = 0;
    bool ok = deflateInit2(&z, 1, Z_DEFLATED, -12, 6, Z_DEFAULT_STRATEGY) == Z_OK;

    must(ok ? s : NULL);
    for (u32 i = 0; ok && i < s->todo_count; i++) {
        u32 bytes;

        if (is_zero(page_bytes(s, s->todo[i], page)))
            continue;               /* its reference stays 0 */
        bytes = pack(&z, page, packed);
        if (block && at + bytes > s->block_bytes) {
            ok = hand_over(s, block);
            block = NULL;
        }
        if (!ok)
            break;
        if (!block) {
            block = must(calloc(1, s->block_bytes));
            at = 0;
        }
        table_room(&s->table, s->table.blocks + 1);
        memcpy(block + at, packed, bytes);
        s->table.page[s->todo[i]] = page_ref(s->table.blocks, at, bytes);
        s->table.used[s->table.blocks] += bytes;
        at += (bytes + 7) & ~7u;
    }
    if (block && ok)
        hand_over(s, block);
    deflateEnd(&z);
    host_lock(s->lock);
    s->ended = true;
    host_cond_signal(s->cond);
    host_unlock(s->lock);
    host_wake();
}

static bool unchanged(const RamSave *s, const RamBase *base, bool lazy, u32 page)
{
    if (lazy)
        return !(s->flags[page] & PAGE_DIRTY);
    return base->table.page && base->table.page[page] && base->quick &&
           base->quick[page] == hash_page(s->arena + ((u64)page << PAGE_SHIFT));
}

static PageRef base_ref(const RamBase *base, u32 page)
{
    return base->table.page && page < base->table.pages ? base->table.page[page] : 0;
}

/* Which blocks of the base are worth sharing, and their new numbers: to[] by old number, 0: not. */
static u32 *choose_blocks(RamSave *s, const RamBase *base, const u8 *same, u32 **share, u32 *shares)
{
    u32 count = base->table.blocks, *live = must(calloc(count + 1, 4)), *to = must(calloc(count + 1, 4));

    *share = must(calloc(count + 1, 4));
    *shares = 0;
    for (u32 p = 0; p < s->table.pages; p++) {
        if (same[p] && base_ref(base, p))
            live[ref_block(base_ref(base, p))] += ref_bytes(base_ref(base, p));
    }
    for (u32 b = 1; b < count; b++) {
        if ((u64)live[b] * 100 < (u64)base->table.used[b] * SHARE_PERCENT || !live[b])
            continue;
        (*share)[(*shares)++] = b;
        to[b] = *shares;
        table_room(&s->table, *shares + 1);
        s->table.crc[*shares] = base->table.crc[b];
        s->table.used[*shares] = base->table.used[b];
    }
    s->table.blocks = 1 + *shares;
    free(live);
    return to;
}

static void hold_page(RamSave *s, bool lazy, u32 page)
{
    if (!lazy) {
        if (is_zero(s->arena + ((u64)page << PAGE_SHIFT)))
            return;
        take_copy(s, page);
        s->quick[page] = hash_page(s->copy[page]);
    } else {
        s->flags[page] = (u8)((s->flags[page] & ~PAGE_DIRTY) | PAGE_HELD);
    }
    s->todo[s->todo_count++] = page;
}

/* One page: shared, or on the list. */
static void sort_page(RamSave *s, const RamBase *base, const u32 *to, const u8 *same, bool lazy, u32 page)
{
    PageRef r = base_ref(base, page);

    if (same[page] && !r)
        return;
    if (same[page] && to[ref_block(r)]) {
        s->table.page[page] = (r & 0xffffffffu) | (u64)to[ref_block(r)] << 32;
        s->quick[page] = lazy ? 0 : base->quick[page];
    } else {
        hold_page(s, lazy, page);
    }
}

RamSave *ram_save_begin(Machine *m, RamBase *base, u32 block_bytes, u32 **share, u32 *shares)
{
    RamSave *s = must(calloc(1, sizeof(*s)));
    u32 pages = mem_arena_pages(m->mem), *to = NULL;
    u8 *same = must(calloc(pages, 1));

    *s = (RamSave){ .m = m, .arena = mem_arena(m->mem), .flags = mem_page_flags(m->mem),
                    .block_bytes = block_bytes };
    s->table.pages = pages;
    s->table.page = must(calloc(pages, sizeof(PageRef)));
    s->todo = must(malloc(pages * sizeof(u32)));
    s->copy = must(calloc(pages, sizeof(u8 *)));
    s->quick = must(calloc(pages, sizeof(u64)));
    s->lock = host_lock_new();
    s->cond = host_cond_new();
    cpu_watch_stores(m->cpu);
    for (int pass = 0; pass < 2; pass++) {
        if (pass)
            to = choose_blocks(s, base, same, share, shares);
        for (unsigned n = 0; mem_ram_region(m->mem, n); n++) {
            MemRegion *r = mem_ram_region(m->mem, n);
            u32 first = mem_region_page(r), end = first + (u32)(mem_region_size(r) >> PAGE_SHIFT);
            bool lazy = ram_is_lazy(r);

            for (u32 p = first; p < end; p++) {
                if (!pass)
                    same[p] = unchanged(s, base, lazy, p);
                else
                    sort_page(s, base, to, same, lazy, p);
            }
        }
    }
    free(same);
    free(to);
    held_by = s;
    mem_on_settle(m->mem, settle, s->flags);
    return s;
}

void ram_save_run(RamSave *s) { s->thread = host_thread_start("snapshot", save_thread, s); }

u8 *ram_save_take(RamSave *s, u32 *n)
{
    u8 *block = NULL;

    host_lock(s->lock);
    if (s->ready_count) {
        block = s->ready[0].data;
        *n = s->ready[0].n;
        memmove(s->ready, s->ready + 1, --s->ready_count * sizeof(s->ready[0]));
        s->out++;
    }
    host_unlock(s->lock);
    return block;
}

void ram_save_release(RamSave *s, u8 *block)
{
    free(block);
    host_lock(s->lock);
    s->out--;
    host_cond_signal(s->cond);
    host_unlock(s->lock);
}

bool ram_save_done(RamSave *s)
{
    bool done;

    host_lock(s->lock);
    done = s->ended && !s->ready_count && !s->out;
    host_unlock(s->lock);
    return done;
}

void ram_save_wait(RamSave *s)
{
    host_lock(s->lock);
    while (!s->ready_count && !s->ended)
        host_cond_wait(s->cond, s->lock);
    host_unlock(s->lock);
}

PageTable *ram_save_table(RamSave *s) { return &s->table; }

void ram_save_keep(RamSave *s, RamBase *base, u64 uid)
{
    table_free(&base->table);
    free(base->quick);
    *base = (RamBase){ uid, s->table, s->quick };
    s->kept = true;
}

/* A page that was held and is not saved counts as written: what was taken for it is gone. */
static void forget_todo(RamSave *s)
{
    for (u32 i = 0; i < s->todo_count; i++)
        __atomic_fetch_or(&s->flags[s->todo[i]], PAGE_DIRTY, __ATOMIC_RELAXED);
}

void ram_save_free(RamSave *s, bool forget)
{
    host_lock(s->lock);
    s->quit = true;
    host_cond_signal(s->cond);
    host_unlock(s->lock);
    if (s->thread)
        host_thread_join(s->thread);
    for (u32 i = 0; i < s->todo_count; i++) {
        __atomic_fetch_and(&s->flags[s->todo[i]], (u8)~PAGE_HELD, __ATOMIC_RELEASE);
        free(s->copy[s->todo[i]]);
    }
    for (u32 i = 0; i < s->ready_count; i++)
        free(s->ready[i].data);
    held_by = NULL;
    if (!s->kept) {
        if (forget)
            forget_todo(s);
        table_free(&s->table);
        free(s->quick);
    }
    free(s->todo);
    free(s->copy);
    host_cond_free(s->cond);
    host_lock_free(s->lock);
    free(s);
}

/* ---- loading ---- */

struct RamLoad {
    u8 *arena, *flags, *area;
    u32 block_bytes, pages;
    PageRef *page;
    z_stream z;
    HostLock *lock;
    HostThread *thread;
    bool said, done;
};

/* The block was checked: what can't be inflated was made by somebody who computes checksums. */
static void fill_page(RamLoad *l, u32 page)
{
    PageRef r = l->page[page];
    u8 *to = l->arena + ((u64)page << PAGE_SHIFT);
    const u8 *from = l->area + (u64)ref_block(r) * l->block_bytes + ref_offset(r);

    if (!r) {
        memset(to, 0, PAGE_SIZE);
        return;
    }
    if (ref_bytes(r) == PAGE_SIZE) {
        memcpy(to, from, PAGE_SIZE);
        return;
    }
    inflateReset(&l->z);
    l->z.next_in = (u8 *)from;
    l->z.avail_in = ref_bytes(r);
    l->z.next_out = to;
    l->z.avail_out = PAGE_SIZE;
    if (inflate(&l->z, Z_FINISH) != Z_STREAM_END || l->z.avail_out) {
        memset(to, 0, PAGE_SIZE);
        log_once(&l->said, "loadvm: a page of memory can't be unpacked: it is empty");
    }
}

static void bring_in(RamLoad *l, u32 page)
{
    host_lock(l->lock);
    if (l->flags[page] & PAGE_ABSENT) {
        fill_page(l, page);
        __atomic_fetch_and(&l->flags[page], (u8)~PAGE_ABSENT, __ATOMIC_RELEASE);
    }
    host_unlock(l->lock);
}

static void load_thread(void *opaque)
{
    RamLoad *l = opaque;

    for (u32 p = 0; p < l->pages; p++) {
        if (__atomic_load_n(&l->flags[p], __ATOMIC_ACQUIRE) & PAGE_ABSENT)
            settle(l->flags, p);
    }
    __atomic_store_n(&l->done, true, __ATOMIC_RELEASE);
    host_wake();
}

/* It is zero and shall be, or it is what the snapshot had. */
static bool nothing_to_do(const RamLoad *l, const RamBase *base, bool same, u32 page)
{
    return !(l->flags[page] & (PAGE_DIRTY | PAGE_HELD)) && (same || (!l->page[page] && !base_ref(base, page)));
}

RamLoad *ram_load_begin(Machine *m, const RamBase *base, u64 uid, const PageTable *table, u8 *area,
                        u32 block_bytes)
{
    RamLoad *l = must(calloc(1, sizeof(*l)));

    *l = (RamLoad){ .arena = mem_arena(m->mem), .flags = mem_page_flags(m->mem), .area = area,
                    .block_bytes = block_bytes, .pages = table->pages };
    l->page = must(malloc(table->pages * sizeof(PageRef)));
    memcpy(l->page, table->page, table->pages * sizeof(PageRef));
    l->lock = host_lock_new();
    cpu_memory_replaced(m->cpu);
    must(inflateInit2(&l->z, -12) == Z_OK ? l : NULL);
    for (unsigned n = 0; mem_ram_region(m->mem, n); n++) {
        MemRegion *r = mem_ram_region(m->mem, n);
        u32 first = mem_region_page(r), end = first + (u32)(mem_region_size(r) >> PAGE_SHIFT);

        for (u32 p = first; p < end; p++) {
            if (!ram_is_lazy(r))
                fill_page(l, p);
            else if (!nothing_to_do(l, base, uid == base->uid, p))
                l->flags[p] = (u8)((l->flags[p] & ~PAGE_DIRTY) | PAGE_ABSENT);
        }
    }
    absent_of = l;
    mem_on_settle(m->mem, settle, l->flags);
    l->thread = host_thread_start("snapshot", load_thread, l);
    return l;
}

bool ram_load_done(RamLoad *l) { return __atomic_load_n(&l->done, __ATOMIC_ACQUIRE); }

void ram_load_free(RamLoad *l)
{
    host_thread_join(l->thread);
    absent_of = NULL;
    inflateEnd(&l->z);
    host_lock_free(l->lock);
    free(l->page);
    free(l->area);
    free(l);
}
