/* VMDK: from the disk to the extents' files and back. The layout is in vmdk.h. */
#include "vmdk.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { TABLE_LEVEL = 0, DIRECTORY_LEVEL = 1 };

static VmdkExtent *extent_of(Vmdk *v, u64 guest)
{
    u32 low = 0, high = v->extents - 1;

    while (low < high) {
        u32 middle = (low + high) / 2;

        if (guest >= v->extent[middle].start + v->extent[middle].bytes)
            low = middle + 1;
        else
            high = middle;
    }
    return &v->extent[low];
}

static u64 span(const VmdkExtent *e) { return e->grain * e->gtes; }

/* The place of the entry of a grain in a table of the directory at gd_at; 0: there is no table. */
static Step entry_at(Vmdk *v, const VmdkExtent *e, u64 gd_at, u64 in, u64 *at)
{
    u64 i = in / span(e), table;
    Step step;
    u8 *p;

    *at = 0;
    if (i >= e->gds)
        return sparse_damaged(&v->s, "an extent is larger than its grain directory");
    step = table_get(&v->s, e->file, gd_at + i * 4, &p);
    if (step != STEP_OK)
        return step;
    table = (u64)load32(p) * SECTOR;
    if (table && table >= v->s.file[e->file].end)
        return sparse_damaged(&v->s, "grain directory entry %llu is wrong", (unsigned long long)i);
    *at = table ? table + in % span(e) / e->grain * 4 : 0;
    return STEP_OK;
}

static bool place_ok(const Vmdk *v, const VmdkExtent *e, u64 at)
{
    return at >= VMDK_HEADER && at < v->s.file[e->file].end && !areas_hit(&e->tables, at, e->grain);
}

static Step find_packed(Vmdk *v, const VmdkExtent *e, u64 guest, u64 at, Run *run)
{
    Step step;
    u8 *p;

    step = table_get(&v->s, e->file, at + 8, &p);
    if (step != STEP_OK)
        return step;
    run->kind = PART_PACKED;
    run->at = at + VMDK_MARKER;
    run->packed = load32(p);
    run->unit = guest - (guest - e->start) % e->grain;
    run->unit_bytes = e->grain;
    if (!run->packed || run->packed > 2 * e->grain + 1024)
        return sparse_damaged(&v->s, "a compressed grain of %u bytes is too large", run->packed);
    return STEP_OK;
}

static Step find_sparse(Vmdk *v, const VmdkExtent *e, u64 guest, Run *run)
{
    u64 in = guest - e->start, left = e->grain - in % e->grain, at, grain = 0;
    Step step = entry_at(v, e, e->gd_at, in, &at);
    u8 *p;

    if (step == STEP_OK && at) {
        step = table_get(&v->s, e->file, at, &p);
        if (step == STEP_OK)
            grain = load32(p);
    }
    if (step != STEP_OK)
        return step;
    if (!at)
        left = span(e) - in % span(e);
    if (run->bytes > left)
        run->bytes = left;
    run->kind = v->s.backing_name && !(e->zeroed && grain == 1) ? PART_BASE : PART_ZERO;
    if (!grain || (e->zeroed && grain == 1))
        return STEP_OK;
    if (!place_ok(v, e, grain * SECTOR))
        return sparse_damaged(&v->s, "the grain of disk offset %llu lies outside the file or on a table",
                              (unsigned long long)guest);
    if (e->compressed)
        return find_packed(v, e, guest, grain * SECTOR, run);
    run->kind = PART_DATA;
    run->in_place = e->writable;
    run->at = grain * SECTOR + in % e->grain;
    return STEP_OK;
}

static Step vmdk_find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Vmdk *v = (Vmdk *)s;
    const VmdkExtent *e = extent_of(v, guest);
    u64 left = e->start + e->bytes - guest;

    *run = (Run){ .kind = PART_ZERO, .file = e->file, .bytes = bytes < left ? bytes : left };
    switch (e->kind) {
    case VMDK_FLAT:
        run->kind = PART_DATA;
        run->in_place = e->writable;
        run->at = e->at + (guest - e->start);
        return STEP_OK;
    case VMDK_SPARSE:
        return find_sparse(v, e, guest, run);
    default:
        return STEP_OK;
    }
}

/* A table where there is none; *entry is where the directory has to lead to it. */
static Step make_table(Vmdk *v, VmdkExtent *e, u64 gd_at, u64 in)
{
    SparseFile *f = &v->s.file[e->file];
    u32 bytes = (u32)round_up(e->gtes * 4ull, SECTOR);
    u64 entry = gd_at + in / span(e) * 4, at;
    Step step = entry_at(v, e, gd_at, in, &at);
    u8 *p;

    if (step != STEP_OK || at)
        return step;
    at = round_up(f->end, SECTOR);
    if (at / SECTOR > 0xffffffffu)
        return STEP_FAIL;
    f->end = at + bytes;
    table_new(&v->s, e->file, at, bytes, 0, TABLE_LEVEL);
    areas_add(&e->tables, at);
    step = table_get(&v->s, e->file, entry, &p);
    if (step == STEP_OK) {
        store32(p, (u32)(at / SECTOR));
        table_changed(&v->s, e->file, entry, 4, DIRECTORY_LEVEL);
    }
    return step;
}

static Step make_tables(Vmdk *v, VmdkExtent *e, u64 guest)
{
    Step step = make_table(v, e, e->gd_at, guest - e->start);

    if (step == STEP_OK && e->rgd_at)
        step = make_table(v, e, e->rgd_at, guest - e->start);
    return step;
}

static Step vmdk_place(Sparse *s, u64 guest, Run *to)
{
    Vmdk *v = (Vmdk *)s;
    VmdkExtent *e = extent_of(v, guest);
    u64 in = guest - e->start;
    Step step;

    if (e->kind != VMDK_SPARSE || !e->writable || e->compressed)
        return sparse_damaged(s, "this part of the disk can't be written");
    step = make_tables(v, e, guest);
    if (step != STEP_OK)
        return step;
    *to = (Run){ .file = e->file, .at = round_up(s->file[e->file].end, e->grain),
                 .unit = guest - in % e->grain, .unit_bytes = e->grain };
    /* an extent may end inside a grain, and another one follows */
    if (to->unit + to->unit_bytes > e->start + e->bytes)
        to->unit_bytes = e->start + e->bytes - to->unit;
    return (to->at + e->grain) / SECTOR > 0xffffffffu ? STEP_FAIL : STEP_OK;
}

static Step set_entry(Vmdk *v, const VmdkExtent *e, u64 gd_at, u64 in, u32 grain)
{
    u64 at;
    Step step = entry_at(v, e, gd_at, in, &at);
    u8 *p;

    if (step == STEP_OK && !at)
        return sparse_damaged(&v->s, "a grain table is missing");
    if (step == STEP_OK)
        step = table_get(&v->s, e->file, at, &p);
    if (step == STEP_OK) {
        store32(p, grain);
        table_changed(&v->s, e->file, at, 4, TABLE_LEVEL);
    }
    return step;
}

static Step vmdk_mapped(Sparse *s, u64 guest, u64 bytes, const Run *run)
{
    Vmdk *v = (Vmdk *)s;
    const VmdkExtent *e = extent_of(v, guest);
    u32 grain = (u32)(run->at / SECTOR);
    Step step = STEP_OK;

    (void)bytes;
    if (e->rgd_at)
        step = set_entry(v, e, e->rgd_at, guest - e->start, grain);
    return step == STEP_OK ? set_entry(v, e, e->gd_at, guest - e->start, grain) : step;
}

/* A zlib stream; less than a whole grain at the disk's end. */
static bool vmdk_unpack(Sparse *s, const Run *run, const u8 *in, u8 *out)
{
    uLongf n = (uLongf)run->unit_bytes;
    u64 disk = s->img.bytes - run->unit;

    memset(out, 0, run->unit_bytes);
    return uncompress(out, &n, in, run->packed) == Z_OK && n >= (disk < run->unit_bytes ? disk : 1);
}

const SparseOps vmdk_ops = {
    .find = vmdk_find, .place = vmdk_place, .mapped = vmdk_mapped, .unpack = vmdk_unpack, .freed = vmdk_freed,
};

bool vmdk_write_packed(BlkImage *img, u64 at, const u8 *packed, u32 bytes, Error *err)
{
    Vmdk *v = (Vmdk *)img;
    VmdkExtent *e = extent_of(v, at);
    Run run = { .kind = PART_PACKED, .unit = at, .unit_bytes = e->grain };
    u8 *marked;
    Step step;
    bool ok;

    if (e->kind != VMDK_SPARSE || !e->compressed || e->file)
        return error_set(err, "%.300s: this image is not a compressed one", v->s.name);
    do {
        step = make_tables(v, e, at);
    } while (sparse_wait(&v->s, step, err));
    if (step != STEP_OK)
        return false;
    marked = block_alloc(VMDK_MARKER + round_up(bytes, SECTOR));
    store64(marked, (at - e->start) / SECTOR);
    store32(marked + 8, bytes);
    memcpy(marked + VMDK_MARKER, packed, bytes);
    bytes = (u32)round_up(VMDK_MARKER + bytes, SECTOR);
    ok = sparse_write_packed(&v->s, at, marked, bytes, SECTOR, &run, err);
    table_forget(&v->s, 0, run.at, SECTOR);
    free(marked);
    return ok;
}

static BlkImage *open_alone(const char *file, Error *err)
{
    return sparse_open_alone(&vmdk_driver, file, err);
}

const BlkDriver vmdk_driver = {
    .name = "vmdk", .can = CAN_FLUSH, .open = vmdk_open, .submit = sparse_submit, .close = vmdk_close,
    .part = sparse_part, .facts = vmdk_facts, .write_packed = vmdk_write_packed, .create = vmdk_create,
    .create_options = vmdk_options, .open_alone = open_alone,
};
