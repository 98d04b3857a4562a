/*
 * cow, the copy-on-write format of early QEMU and User-mode Linux version 2, read-only, big-endian.
 *
 *      0 "OOOM"  4 version (2)  8 backing file's name (1024)  1032 its time  size  sector size
 *      then a bitmap, a bit a sector, and from the next whole sector on the disk
 *
 * The 64-bit size lies at 1040, or at 1036 in images made on hosts that don't align it: the sector size
 * behind it, always 512, tells which.
 */
#include <string.h>

#include "sparse.h"

enum { NAME_AT = 8, NAME_BYTES = 1024, HEADER = 1056, PACKED_HEADER = 1048, VERSION = 2 };

typedef struct {
    Sparse s;
    u64 bitmap_at, data_at;
} Cow;

static Step bit_of(Cow *c, u64 guest, bool *set)
{
    u64 n = guest / SECTOR;
    u8 *p;
    Step step = table_get(&c->s, 0, c->bitmap_at + n / 8, &p);

    if (step == STEP_OK)
        *set = *p >> n % 8 & 1;
    return step;
}

static Step find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    enum { LONGEST = 1 << 20 };     /* looked at in one step */
    Cow *c = (Cow *)s;
    u64 n = SECTOR;
    bool set = false, next;
    Step step = bit_of(c, guest, &set);

    while (step == STEP_OK && n < bytes && n < LONGEST) {
        step = bit_of(c, guest + n, &next);
        if (step != STEP_OK || next != set)
            break;
        n += SECTOR;
    }
    *run = (Run){ .kind = set ? PART_DATA : s->backing_name ? PART_BASE : PART_ZERO, .bytes = n,
                  .at = c->data_at + guest };
    return step;
}

static const SparseOps ops = { .find = find };

static bool read_header(Cow *c, Error *err)
{
    const char *name = c->s.name;
    u8 h[HEADER];
    u32 header = HEADER;
    u64 size;

    if (!sparse_read(&c->s, 0, 0, h, HEADER, "cow header", err))
        return false;
    if (memcmp(h, "OOOM", 4))
        return error_set(err, "%.300s: this is no cow image", name);
    if (be32(h + 4) != VERSION)
        return error_set(err, "%.300s: version %u is not supported by this build", name, be32(h + 4));
    if (be32(h + 1048) != SECTOR && be32(h + 1044) == SECTOR)
        header = PACKED_HEADER;
    size = be64(h + (header == HEADER ? 1040 : 1036));
    if (be32(h + (header == HEADER ? 1048 : 1044)) != SECTOR)
        return error_set(err, "%.300s: the sector size is not 512", name);
    if (size > 1ull << 46)
        return error_set(err, "%.300s: a disk of %llu bytes is too large", name, (unsigned long long)size);
    c->s.img.bytes = round_up(size, SECTOR);
    c->bitmap_at = header;
    size = (c->s.img.bytes / SECTOR + 7) / 8;
    c->data_at = round_up(header + size, SECTOR);
    if (!sparse_inside(&c->s, 0, header, size))
        return error_set(err, "%.300s: the bitmap lies outside the file", name);
    h[NAME_AT + NAME_BYTES - 1] = 0;
    if (h[NAME_AT])
        c->s.backing_name = sparse_text(h + NAME_AT, strlen((char *)h + NAME_AT));
    return true;
}

static BlkImage *cow_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Cow *c;

    if (!sparse_only_read(&cow_driver, file, readonly, err))
        return NULL;
    c = sparse_new(sizeof(*c), &cow_driver, &ops, file, true, err);
    if (c && !read_header(c, err)) {
        sparse_free(&c->s);
        return NULL;
    }
    return c ? sparse_ready(&c->s, m, err) : NULL;
}

static BlkImage *open_alone(const char *file, Error *err)
{
    return sparse_open_alone(&cow_driver, file, err);
}

const BlkDriver cow_driver = {
    .name = "cow", .open = cow_open, .submit = sparse_submit, .close = sparse_close, .part = sparse_part,
    .facts = sparse_facts, .open_alone = open_alone,
};
