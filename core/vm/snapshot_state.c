/*
 * A machine's state as bytes, and back. A row of sections, each: u8 length and name, u32 bytes, data. All
 * numbers little-endian.
 *
 *      clock    u64: virtual clock, ns
 *      chips    each: u8 length and id, u32 bytes, version and fields (see device.h)
 *      media    each: u8 length and drive, u16 length and file, u8 locked by the guest
 *      memory   each region: u8 length and name, u32 pages, a bit a page (1: not zero), u64 a page that is not
 *      blocks   u32 count, then the CRC-32 of each, the head's 0
 *
 * An unknown section, chip or field is refused by name. A chip that the file does not know stays as a reset
 * leaves it: a later build may have chips that an earlier one had not.
 */
#include "snapshot_int.h"

#include "clocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

static void put_name(SaveBuf *b, const char *name)
{
    u8 n = (u8)strlen(name);

    savebuf_put(b, &n, 1);
    savebuf_put(b, name, n);
}

static void put_u32(SaveBuf *b, u32 v) { savebuf_put(b, &v, 4); }

/* Begins a section or a chip; end_sized() puts the number of bytes in. */
static size_t begin_sized(SaveBuf *b, const char *name)
{
    put_name(b, name);
    put_u32(b, 0);
    return b->len;
}

static void end_sized(SaveBuf *b, size_t start) { store32(b->data + start - 4, (u32)(b->len - start)); }

void state_take(Machine *m, MachineState *st)
{
    *st = (MachineState){ .clock_ns = clock_ns(m, CLOCK_VIRTUAL) };
    for (Device *dev = m->devices; dev; dev = dev->next) {
        size_t start;

        if (!dev->cls->state_size)
            continue;
        start = begin_sized(&st->chips, dev->id);
        device_save(dev, &st->chips);
        end_sized(&st->chips, start);
    }
    for (Blk *blk = blk_first(m); blk && st->media < MEDIA_MAX; blk = blk_next(blk)) {
        MediumNote *note = &st->medium[st->media];

        if (!blk_removable(blk) && !blk_readonly(blk))
            continue;
        snprintf(note->drive, sizeof(note->drive), "%s", blk_name(blk));
        snprintf(note->file, sizeof(note->file), "%s", blk_file(blk));
        note->locked = blk_locked(blk);
        st->media++;
    }
}

void state_free(MachineState *st)
{
    free(st->chips.data);
    *st = (MachineState){ 0 };
}

static void put_memory(Machine *m, const PageTable *t, SaveBuf *b)
{
    for (unsigned n = 0; mem_ram_region(m->mem, n); n++) {
        MemRegion *r = mem_ram_region(m->mem, n);
        u32 first = mem_region_page(r), count = (u32)(mem_region_size(r) >> PAGE_SHIFT);
        u8 *bits = calloc(1, count / 8 + 1);

        put_name(b, mem_region_name(r));
        put_u32(b, count);
        for (u32 i = 0; bits && i < count; i++)
            bits[i / 8] |= (u8)((t->page[first + i] != 0) << (i & 7));
        savebuf_put(b, bits, (count + 7) / 8);
        for (u32 i = 0; i < count; i++) {
            if (t->page[first + i])
                savebuf_put(b, &t->page[first + i], 8);
        }
        free(bits);
    }
}

void state_put_sections(Machine *m, const MachineState *st, const PageTable *t, SaveBuf *out)
{
    size_t start = begin_sized(out, "clock");
    u8 end = 0;

    savebuf_put(out, &st->clock_ns, 8);
    end_sized(out, start);
    start = begin_sized(out, "chips");
    savebuf_put(out, st->chips.data, st->chips.len);
    end_sized(out, start);
    start = begin_sized(out, "media");
    for (u32 i = 0; i < st->media; i++) {
        u16 n = (u16)strlen(st->medium[i].file);
        u8 locked = st->medium[i].locked;

        put_name(out, st->medium[i].drive);
        savebuf_put(out, &n, 2);
        savebuf_put(out, st->medium[i].file, n);
        savebuf_put(out, &locked, 1);
    }
    end_sized(out, start);
    start = begin_sized(out, "memory");
    put_memory(m, t, out);
    end_sized(out, start);
    start = begin_sized(out, "blocks");
    put_u32(out, t->blocks);
    savebuf_put(out, t->crc, t->blocks * sizeof(u32));
    end_sized(out, start);
    savebuf_put(out, &end, 1);
}

/* ---- reading ---- */

typedef struct { const u8 *p; size_t left; } Reader;

static const u8 *take(Reader *r, size_t n)
{
    const u8 *p = r->p;

    if (n > r->left)
        return NULL;
    r->p += n;
    r->left -= n;
    return p;
}

/* A name of 1 to size-1 characters. */
static bool take_name(Reader *r, char *out, size_t size)
{
    const u8 *n = take(r, 1), *text = n ? take(r, *n) : NULL;

    if (!text || !*n || *n >= size)
        return false;
    memcpy(out, text, *n);
    out[*n] = 0;
    return true;
}

static bool take_sized(Reader *r, Reader *part)
{
    const u8 *n = take(r, 4);

    part->left = n ? load32(n) : 0;
    part->p = n ? take(r, part->left) : NULL;
    return part->p;
}

static bool cut_short(Error *err, const char *what)
{
    return error_set(err, "its machine state is damaged: %s", what);
}

static Device *find_chip(Machine *m, const char *id)
{
    Device *dev = m->devices;

    while (dev && strcmp(dev->id, id))
        dev = dev->next;
    return dev;
}

static bool next_chip(Machine *m, Reader *r, Device **dev, Reader *data, Error *err)
{
    char id[64];

    if (!take_name(r, id, sizeof(id)) || !take_sized(r, data))
        return cut_short(err, "chips");
    *dev = find_chip(m, id);
    return *dev || error_set(err, "it was saved with a chip that this machine has not: %s", id);
}

static bool parse_chips(Machine *m, Reader r, MachineState *st, Error *err)
{
    savebuf_put(&st->chips, r.p, r.left);
    while (r.left) {
        Device *dev;
        Reader data;

        if (!next_chip(m, &r, &dev, &data, err) || !device_load_check(dev, data.p, data.left, err))
            return false;
    }
    return true;
}

static bool parse_media(Reader r, MachineState *st, Error *err)
{
    for (; r.left; st->media++) {
        MediumNote *note = &st->medium[st->media];
        const u8 *n, *file, *locked;

        if (st->media == MEDIA_MAX || !take_name(&r, note->drive, sizeof(note->drive)) ||
            !(n = take(&r, 2)) || load16(n) >= sizeof(note->file) || !(file = take(&r, load16(n))) ||
            !(locked = take(&r, 1)))
            return cut_short(err, "media");
        memcpy(note->file, file, load16(n));
        note->locked = *locked;
    }
    return true;
}

static MemRegion *find_region(Machine *m, const char *name)
{
    for (unsigned n = 0; mem_ram_region(m->mem, n); n++) {
        if (!strcmp(mem_region_name(mem_ram_region(m->mem, n)), name))
            return mem_ram_region(m->mem, n);
    }
    return NULL;
}

static bool wrong_size(const char *name, u32 pages, u32 ours, Error *err)
{
    if (!strcmp(name, "ram"))
        return error_set(err, "it was saved with %u MB of memory, this machine has %u (start it with -m %u)",
                         pages >> 8, ours >> 8, pages >> 8);
    return error_set(err, "memory '%s' had %u KB when it was saved, and has %u", name, pages * 4, ours * 4);
}

static bool parse_region(Machine *m, Reader *r, PageTable *t, Error *err)
{
    char name[64];
    const u8 *n, *bits;
    MemRegion *region;
    u32 first, count, ours;

    if (!take_name(r, name, sizeof(name)) || !(n = take(r, 4)) || !(bits = take(r, (load32(n) + 7ull) / 8)))
        return cut_short(err, "memory");
    count = load32(n);
    region = find_region(m, name);
    if (!region)
        return error_set(err, "it was saved with memory that this machine has not: %s", name);
    first = mem_region_page(region);
    ours = (u32)(mem_region_size(region) >> PAGE_SHIFT);
    if (count != ours)
        return wrong_size(name, count, ours, err);
    for (u32 i = 0; i < count; i++) {
        const u8 *ref;

        if (!(bits[i / 8] >> (i & 7) & 1))
            continue;
        ref = take(r, 8);
        if (!ref || !load64(ref))
            return cut_short(err, "memory");
        t->page[first + i] = load64(ref);
    }
    return true;
}

static bool parse_memory(Machine *m, Reader r, PageTable *t, Error *err)
{
    t->pages = mem_arena_pages(m->mem);
    free(t->page);
    t->page = calloc(t->pages, sizeof(PageRef));
    if (!t->page)
        return error_set(err, "out of memory");
    while (r.left) {
        if (!parse_region(m, &r, t, err))
            return false;
    }
    return true;
}

static bool parse_blocks(Reader r, PageTable *t, Error *err)
{
    const u8 *n = take(&r, 4);

    if (!n || r.left != load32(n) * 4ull || !load32(n))
        return cut_short(err, "blocks");
    table_room(t, load32(n));
    t->blocks = load32(n);
    memcpy(t->crc, r.p, r.left);
    return true;
}

/* Every page lies within a block that has a checksum. */
static bool refs_ok(PageTable *t, u32 block_bytes, Error *err)
{
    for (u32 p = 0; p < t->pages; p++) {
        PageRef r = t->page[p];

        if (!r)
            continue;
        if (!ref_block(r) || ref_block(r) >= t->blocks || !ref_bytes(r) || ref_bytes(r) > PAGE_SIZE ||
            ref_offset(r) > block_bytes - ref_bytes(r))
            return cut_short(err, "memory");
        t->used[ref_block(r)] += ref_bytes(r);
    }
    return true;
}

static bool parse_section(Machine *m, const char *name, Reader part, MachineState *st, PageTable *t, Error *err)
{
    if (!strcmp(name, "chips"))
        return parse_chips(m, part, st, err);
    if (!strcmp(name, "media"))
        return parse_media(part, st, err);
    if (!strcmp(name, "memory"))
        return parse_memory(m, part, t, err);
    if (!strcmp(name, "blocks"))
        return parse_blocks(part, t, err);
    if (strcmp(name, "clock"))
        return error_set(err, "it holds something that this version does not know: '%s'", name);
    if (part.left != 8)
        return cut_short(err, "clock");
    st->clock_ns = load64(part.p);
    return true;
}

bool state_parse(Machine *m, const u8 *data, size_t len, u32 block_bytes, MachineState *st, PageTable *t,
                 Error *err)
{
    Reader r = { data, len };

    while (r.left && *r.p) {
        char name[64];
        Reader part;

        if (!take_name(&r, name, sizeof(name)) || !take_sized(&r, &part))
            return cut_short(err, "sections");
        if (!parse_section(m, name, part, st, t, err))
            return false;
    }
    if (r.left != 1 || !st->chips.len || !t->page || !t->blocks)
        return cut_short(err, "a section is missing");
    return refs_ok(t, block_bytes, err);
}

/* ---- to the machine ---- */

bool state_apply(Machine *m, const MachineState *st, Error *err)
{
    Reader r = { st->chips.data, st->chips.len };

    clocks_set(m, st->clock_ns);
    for (Device *dev = m->devices; dev; dev = dev->next) {
        if (dev->cls->state_size)
            device_reset(dev);
    }
    while (r.left) {
        Device *dev;
        Reader data;

        if (!next_chip(m, &r, &dev, &data, err) || !device_load(dev, data.p, data.left, err))
            return false;
    }
    for (u32 i = 0; i < st->media; i++) {
        for (Blk *blk = blk_first(m); blk; blk = blk_next(blk)) {
            if (!strcmp(blk_name(blk), st->medium[i].drive))
                blk_set_locked(blk, st->medium[i].locked);
        }
    }
    return true;
}
