/*
 * Growing images of Bochs, read-only, little-endian.
 *
 *      0 "Bochs Virtual HD Image"  32 "Redolog"  48 "Growing"  64 version  68 header size  72 catalog entries
 *      76 bitmap bytes  80 extent bytes  84 or 88 disk size;  then the catalog: numbers of extents, ~0 none
 *
 * Each extent in the file is a bitmap, a bit a sector, and the data, both in whole sectors. Not here:
 * undoable and volatile logs, which lie on another image that they don't name.
 */
#include <string.h>

#include "sparse.h"

#define NO_EXTENT 0xffffffffu

enum { HEADER = 512, VERSION_1 = 0x10000, VERSION_2 = 0x20000, CATALOG_MAX = 64 << 20 };

typedef struct {
    Sparse s;
    u32 entries;
    u64 catalog_at, data_at, bitmap, extent;        /* bitmap: in the file */
} Bochs;

static Step bit_of(Bochs *b, u64 at, u64 in, bool *set)
{
    u8 *p;
    Step step = table_get(&b->s, 0, at + in / SECTOR / 8, &p);

    if (step == STEP_OK)
        *set = *p >> in / SECTOR % 8 & 1;
    return step;
}

static Step find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Bochs *b = (Bochs *)s;
    u64 in = guest % b->extent, left = b->extent - in, at, n = SECTOR;
    bool set = false, next;
    Step step;
    u8 *p;

    *run = (Run){ .kind = PART_ZERO, .bytes = bytes < left ? bytes : left };
    step = table_get(s, 0, b->catalog_at + guest / b->extent * 4, &p);
    if (step != STEP_OK || load32(p) == NO_EXTENT)
        return step;
    at = b->data_at + load32(p) * (b->bitmap + b->extent);
    if (at >= s->file[0].size)
        return sparse_damaged(s, "the extent of disk offset %llu lies outside the file",
                              (unsigned long long)guest);
    step = bit_of(b, at, in, &set);
    while (step == STEP_OK && n < run->bytes) {
        step = bit_of(b, at, in + n, &next);
        if (step != STEP_OK || next != set)
            break;
        n += SECTOR;
    }
    run->bytes = n;
    run->kind = set ? PART_DATA : PART_ZERO;
    run->at = at + b->bitmap + in;
    return step;
}

static const SparseOps ops = { .find = find };

static bool read_header(Bochs *b, Error *err)
{
    const char *name = b->s.name;
    u8 h[HEADER];
    u32 version, bitmap, extent;
    u64 size;

    if (!sparse_read(&b->s, 0, 0, h, HEADER, "Bochs header", err))
        return false;
    if (memcmp(h, "Bochs Virtual HD Image", 22))
        return error_set(err, "%.300s: this is no Bochs image", name);
    if (strncmp((char *)h + 32, "Redolog", 16) || strncmp((char *)h + 48, "Growing", 16))
        return error_set(err, "%.300s: images of type %.16s, %.16s are not supported by this build", name,
                         h + 32, h + 48);
    version = load32(h + 64);
    if (version != VERSION_1 && version != VERSION_2)
        return error_set(err, "%.300s: version %x is not supported by this build", name, version);
    b->catalog_at = load32(h + 68);
    b->entries = load32(h + 72);
    bitmap = load32(h + 76);
    extent = load32(h + 80);
    size = load64(h + (version == VERSION_1 ? 84 : 88));
    if (extent < SECTOR || extent > 1 << 30 || (extent & (extent - 1)) || bitmap < extent / SECTOR / 8 ||
        !bitmap || bitmap > 1 << 20)
        return error_set(err, "%.300s: extents of %u bytes with bitmaps of %u are not supported", name,
                         extent, bitmap);
    b->extent = extent;
    b->bitmap = round_up(bitmap, SECTOR);
    b->data_at = b->catalog_at + b->entries * 4ull;
    if (b->catalog_at < 96 || b->catalog_at % 4 || b->entries > CATALOG_MAX / 4 ||
        !sparse_inside(&b->s, 0, b->catalog_at, b->entries * 4ull))
        return error_set(err, "%.300s: a catalog of %u entries does not fit the file", name, b->entries);
    if (size > 1ull << 56 || (size + extent - 1) / extent > b->entries)
        return error_set(err, "%.300s: %u extents don't make a disk of %llu bytes", name, b->entries,
                         (unsigned long long)size);
    b->s.img.bytes = round_up(size, SECTOR);
    return true;
}

static BlkImage *bochs_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Bochs *b;

    if (!sparse_only_read(&bochs_driver, file, readonly, err))
        return NULL;
    b = sparse_new(sizeof(*b), &bochs_driver, &ops, file, true, err);
    if (b && !read_header(b, err)) {
        sparse_free(&b->s);
        return NULL;
    }
    return b ? sparse_ready(&b->s, m, err) : NULL;
}

static void facts(BlkImage *img, ImageFacts *out)
{
    sparse_facts(img, out);
    out->unit = (u32)((Bochs *)img)->extent;
}

const BlkDriver bochs_driver = {
    .name = "bochs", .open = bochs_open, .submit = sparse_submit, .close = sparse_close,
    .part = sparse_part, .facts = facts,
};
