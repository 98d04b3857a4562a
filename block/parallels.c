/*
 * Parallels expanding images, read-only, little-endian.
 *
 *      0 magic  16 version (2)  20 heads  24 cylinders  28 sectors a cluster  32 table entries  36 sectors
 *      44 in use  48 data at  52 flags  56 extension at;  64 the table: 32-bit places of clusters, 0 none
 *
 * "WithoutFreeSpace" counts places in sectors, "WithouFreSpacExt" in clusters.
 */
#include <string.h>

#include "sparse.h"

enum { HEADER = 64, VERSION = 2, TABLE_MAX = 256 << 20 };

typedef struct {
    Sparse s;
    u32 entries;
    u64 cluster, unit;              /* unit: what places are counted in */
} Parallels;

static Step find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Parallels *p = (Parallels *)s;
    u64 in = guest % p->cluster, left = p->cluster - in, at;
    u8 *entry;
    Step step = table_get(s, 0, HEADER + guest / p->cluster * 4, &entry);

    if (step != STEP_OK)
        return step;
    at = load32(entry) * p->unit;
    *run = (Run){ .kind = at ? PART_DATA : PART_ZERO, .at = at + in, .bytes = bytes < left ? bytes : left };
    if (at && (at < HEADER + p->entries * 4ull || at >= s->file[0].size))
        return sparse_damaged(s, "the cluster of disk offset %llu lies outside the file",
                              (unsigned long long)guest);
    return STEP_OK;
}

static const SparseOps ops = { .find = find };

static bool read_header(Parallels *p, Error *err)
{
    const char *name = p->s.name;
    u64 sectors;
    u8 h[HEADER];
    bool ext;

    if (!sparse_read(&p->s, 0, 0, h, HEADER, "Parallels header", err))
        return false;
    ext = !memcmp(h, "WithouFreSpacExt", 16);
    if (!ext && memcmp(h, "WithoutFreeSpace", 16))
        return error_set(err, "%.300s: this is no Parallels image", name);
    if (load32(h + 16) != VERSION)
        return error_set(err, "%.300s: version %u is not supported by this build", name, load32(h + 16));
    p->cluster = load32(h + 28) * (u64)SECTOR;
    p->entries = load32(h + 32);
    sectors = ext ? load64(h + 36) : load32(h + 36);
    p->unit = ext ? p->cluster : SECTOR;
    if (!p->cluster || p->cluster > 1 << 30)
        return error_set(err, "%.300s: clusters of %u sectors are not supported", name, load32(h + 28));
    if (p->entries > TABLE_MAX / 4 || !sparse_inside(&p->s, 0, HEADER, p->entries * 4ull))
        return error_set(err, "%.300s: a table of %u entries does not fit the file", name, p->entries);
    if (sectors > 1ull << 47 || sectors * SECTOR > p->entries * p->cluster)
        return error_set(err, "%.300s: %u clusters don't make a disk of %llu sectors", name, p->entries,
                         (unsigned long long)sectors);
    p->s.img.bytes = sectors * SECTOR;
    return true;
}

static BlkImage *parallels_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Parallels *p;

    if (!sparse_only_read(&parallels_driver, file, readonly, err))
        return NULL;
    p = sparse_new(sizeof(*p), &parallels_driver, &ops, file, true, err);
    if (p && !read_header(p, err)) {
        sparse_free(&p->s);
        return NULL;
    }
    return p ? sparse_ready(&p->s, m, err) : NULL;
}

static void facts(BlkImage *img, ImageFacts *out)
{
    sparse_facts(img, out);
    out->unit = (u32)((Parallels *)img)->cluster;
}

const BlkDriver parallels_driver = {
    .name = "parallels", .open = parallels_open, .submit = sparse_submit, .close = sparse_close,
    .part = sparse_part, .facts = facts,
};
