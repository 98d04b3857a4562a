/*
 * Immediates that the guest changes again and again, in code that it goes on calling.
 *
 * Each time a store kills blocks, the place is counted. From the third time on the translator reads an
 * immediate that lies exactly there from guest memory (emit_patched() in translate_op.c), and the block lists
 * the place as one whose change does not concern it. When no living block holds the old bytes, stores to the
 * place are let through as if there were no code (tlb_beside_code()).
 *
 * Both tables are direct-mapped and may forget at any time: that costs time only.
 */
#include "block.h"

enum { HOT = 2 };

static u32 hash(u32 page, u32 offset) { return (page * 0x9e3779b1u ^ offset * 0x85ebca6bu) >> 16; }

static PatchedPlace *place(PatchedPlace *table, u32 size, u32 page, u32 offset)
{
    return &table[hash(page, offset) & (size - 1)];
}

static bool is_at(const PatchedPlace *p, u32 page, u32 offset, u32 bytes)
{
    return p->count && p->page == page && p->offset == offset && p->bytes == bytes;
}

void patch_count(BlockCache *bc, u32 page, u32 offset, u32 bytes)
{
    PatchedPlace *p = place(bc->patched, PATCHED_PLACES, page, offset);
    if (!is_at(p, page, offset, bytes))
        *p = (PatchedPlace){ page, (u16)offset, (u8)bytes, 0 };
    if (p->count < 255)
        p->count++;
}

bool patch_is_hot(BlockCache *bc, u32 page, u32 offset, u32 bytes)
{
    const PatchedPlace *p = place(bc->patched, PATCHED_PLACES, page, offset);
    return is_at(p, page, offset, bytes) && p->count >= HOT;
}

void patch_set_free(BlockCache *bc, u32 page, u32 offset, u32 bytes)
{
    *place(bc->free_places, FREE_PLACES, page, offset) = (PatchedPlace){ page, (u16)offset, (u8)bytes, 1 };
}

bool patch_is_free(BlockCache *bc, u32 page, u32 offset, u32 bytes)
{
    return is_at(place(bc->free_places, FREE_PLACES, page, offset), page, offset, bytes);
}

bool patch_concerns(const Block *b, u32 page, u32 offset, u32 bytes)
{
    for (unsigned i = 0; i < b->patch_count; i++)
        if (page == b->page && offset >= b->patch[i].offset &&
            offset + bytes <= b->patch[i].offset + b->patch[i].bytes)
            return false;
    return true;
}

void patch_block_added(BlockCache *bc, const Block *b, u32 page, u32 offset, u32 bytes)
{
    for (unsigned i = 0; i < FREE_PLACES; i++) {
        PatchedPlace *p = &bc->free_places[i];
        if (p->count && p->page == page && p->offset < offset + bytes && offset < (u32)p->offset + p->bytes &&
            patch_concerns(b, page, p->offset, p->bytes))
            p->count = 0;
    }
}
