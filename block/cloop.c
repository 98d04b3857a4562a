/*
 * cloop, the compressed loop image of Knoppix, version 2, read-only, big-endian.
 *
 *      0 a shell script of 128 bytes  128 block size  132 blocks  136 their places, one more than blocks: u64
 *
 * Each block is a zlib stream.
 */
#include <string.h>
#include <zlib.h>

#include "sparse.h"

enum { TABLE_AT = 136, BLOCK_MAX = UNPACKED_MAX, TABLE_MAX = 512 << 20 };

typedef struct {
    Sparse s;
    u64 block, blocks;
} Cloop;

static Step find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Cloop *c = (Cloop *)s;
    u64 n = guest / c->block, left = c->block - guest % c->block, from, end;
    u8 *p;
    Step step = table_get(s, 0, TABLE_AT + n * 8, &p);

    if (step != STEP_OK)
        return step;
    from = be64(p);
    step = table_get(s, 0, TABLE_AT + n * 8 + 8, &p);
    if (step != STEP_OK)
        return step;
    end = be64(p);
    if (end <= from || end > s->file[0].size || end - from > c->block + c->block / 100 + 1024)
        return sparse_damaged(s, "block %llu lies outside the file or is too long", (unsigned long long)n);
    *run = (Run){ .kind = PART_PACKED, .at = from, .packed = (u32)(end - from), .unit = n * c->block,
                  .unit_bytes = c->block, .bytes = bytes < left ? bytes : left };
    return STEP_OK;
}

static bool unpack(Sparse *s, const Run *run, const u8 *in, u8 *out)
{
    uLongf n = (uLongf)run->unit_bytes;

    (void)s;
    return uncompress(out, &n, in, run->packed) == Z_OK && n == run->unit_bytes;
}

static const SparseOps ops = { .find = find, .unpack = unpack };

static bool read_header(Cloop *c, Error *err)
{
    const char *name = c->s.name;
    u8 h[TABLE_AT];

    if (!sparse_read(&c->s, 0, 0, h, TABLE_AT, "cloop header", err))
        return false;
    if (memcmp(h, "#!/bin/sh\n#V2.0 Format\n", 23))
        return error_set(err, "%.300s: this is no cloop image of version 2", name);
    c->block = be32(h + 128);
    c->blocks = be32(h + 132);
    if (c->block % SECTOR || !c->block || c->block > BLOCK_MAX)
        return error_set(err, "%.300s: a block size of %llu is not supported", name,
                         (unsigned long long)c->block);
    if ((c->blocks + 1) * 8 > TABLE_MAX || !sparse_inside(&c->s, 0, TABLE_AT, (c->blocks + 1) * 8))
        return error_set(err, "%.300s: a table of %llu blocks does not fit the file", name,
                         (unsigned long long)c->blocks);
    c->s.img.bytes = c->block * c->blocks;
    return true;
}

static BlkImage *cloop_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Cloop *c;

    if (!sparse_only_read(&cloop_driver, file, readonly, err))
        return NULL;
    c = sparse_new(sizeof(*c), &cloop_driver, &ops, file, true, err);
    if (c && !read_header(c, err)) {
        sparse_free(&c->s);
        return NULL;
    }
    return c ? sparse_ready(&c->s, m, err) : NULL;
}

static void facts(BlkImage *img, ImageFacts *out)
{
    sparse_facts(img, out);
    out->unit = (u32)((Cloop *)img)->block;
}

const BlkDriver cloop_driver = {
    .name = "cloop", .open = cloop_open, .submit = sparse_submit, .close = sparse_close, .part = sparse_part,
    .facts = facts,
};
