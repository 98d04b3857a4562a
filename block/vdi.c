/*
 * VDI, the disk image of VirtualBox, version 1.1: dynamic and static images, little-endian.
 *
 *      0x00 text  0x40 signature  0x44 version  0x48 header size  0x4c type  0x50 flags  0x154 block map at
 *      0x158 data at  0x168 sector size  0x170 disk size  0x178 block size  0x17c extra bytes a block
 *      0x180 blocks  0x184 blocks in the file  0x188 UUIDs: image, last snapshot, link, parent
 *
 * The block map has a 32-bit number for each block: its place in the data area, ~0 not there, ~1 zeros.
 *
 * Not here: differencing and undo images, whose parents are found by a registry of UUIDs only.
 */
#include "sparse.h"

#include <stdlib.h>
#include <string.h>

#include "img_options.h"

#define SIGNATURE 0xbeda107fu
#define NO_BLOCK 0xffffffffu
#define ZERO_BLOCK 0xfffffffeu

enum {
    HEADER = 512, VERSION = 0x10001, DYNAMIC = 1, STATIC = 2, BLOCK = 1 << 20,
    BLOCK_MIN = 4096, BLOCK_MAX = 64 << 20, MAP_MAX = 256 << 20, SCAN = 65536,
};

typedef struct {
    Sparse s;
    u32 type, map_at, data_at, block, blocks, used;
} Vdi;

static Step find_entry(Vdi *v, u64 guest, u32 *number)
{
    u64 i = guest / v->block;
    u8 *p;
    Step step;

    if (i >= v->blocks)
        return sparse_damaged(&v->s, "the disk is larger than its block map");
    step = table_get(&v->s, 0, v->map_at + i * 4, &p);
    if (step == STEP_OK)
        *number = load32(p);
    return step;
}

static Step vdi_find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Vdi *v = (Vdi *)s;
    u64 in = guest % v->block, left = v->block - in;
    u32 number = 0;
    Step step = find_entry(v, guest, &number);

    if (step != STEP_OK)
        return step;
    *run = (Run){ .kind = PART_ZERO, .bytes = bytes < left ? bytes : left };
    if (number >= ZERO_BLOCK)
        return STEP_OK;
    if (number >= v->used)
        return sparse_damaged(s, "block %llu lies outside the file", (unsigned long long)(guest / v->block));
    run->kind = PART_DATA;
    run->in_place = true;
    run->at = v->data_at + (u64)number * v->block + in;
    return STEP_OK;
}

static Step vdi_place(Sparse *s, u64 guest, Run *to)
{
    Vdi *v = (Vdi *)s;

    if (v->used >= ZERO_BLOCK - 1)
        return STEP_FAIL;
    *to = (Run){ .at = s->file[0].end, .unit = guest / v->block * v->block, .unit_bytes = v->block };
    return STEP_OK;
}

/* The count in the header goes to the disk before the map that needs it. */
static Step vdi_mapped(Sparse *s, u64 guest, u64 bytes, const Run *run)
{
    Vdi *v = (Vdi *)s;
    u64 at = v->map_at + guest / v->block * 4;
    u32 number = (u32)((run->at - v->data_at) / v->block);
    u8 *entry, *count;
    Step step = table_get(s, 0, at, &entry);

    (void)bytes;
    if (step == STEP_OK)
        step = table_get(s, 0, 0x184, &count);
    if (step == STEP_OK)
        step = table_get(s, 0, at, &entry);
    if (step != STEP_OK)
        return step;
    store32(entry, number);
    table_changed(s, 0, at, 4, 1);
    if (number >= v->used)
        v->used = number + 1;
    step = table_get(s, 0, 0x184, &count);
    if (step == STEP_OK) {
        store32(count, v->used);
        table_changed(s, 0, 0x184, 4, 0);
    }
    return step;
}

static bool read_header(Vdi *v, Error *err)
{
    const char *name = v->s.name;
    u8 h[HEADER];
    u64 size;
    u32 i;

    if (!sparse_read(&v->s, 0, 0, h, HEADER, "VDI header", err))
        return false;
    if (load32(h + 0x40) != SIGNATURE)
        return error_set(err, "%.300s: this is no VDI image", name);
    if (load32(h + 0x44) != VERSION)
        return error_set(err, "%.300s: VDI version %u.%u is not supported by this build", name,
                         load32(h + 0x44) >> 16, load32(h + 0x44) & 0xffff);
    v->type = load32(h + 0x4c);
    for (i = 0x1a8; i < 0x1c8 && !h[i]; i++)
        ;
    if (v->type != DYNAMIC && v->type != STATIC)
        return error_set(err, "%.300s: VDI images of type %u (undo, differencing) are not supported by this "
                         "build", name, v->type);
    if (i < 0x1c8)
        return error_set(err, "%.300s: the image has a parent; differencing VDI images are not supported by "
                         "this build", name);
    v->map_at = load32(h + 0x154);
    v->data_at = load32(h + 0x158);
    size = load64(h + 0x170);
    v->block = load32(h + 0x178);
    v->blocks = load32(h + 0x180);
    v->used = load32(h + 0x184);
    if (load32(h + 0x168) != SECTOR)
        return error_set(err, "%.300s: sectors of %u bytes are not supported", name, load32(h + 0x168));
    if (v->block < BLOCK_MIN || v->block > BLOCK_MAX || (v->block & (v->block - 1)) || load32(h + 0x17c))
        return error_set(err, "%.300s: blocks of %u bytes and %u extra ones are not supported", name,
                         v->block, load32(h + 0x17c));
    if (v->map_at % SECTOR || v->map_at < HEADER || v->data_at % SECTOR ||
        v->data_at < v->map_at + (u64)v->blocks * 4)
        return error_set(err, "%.300s: block map at %u and data at %u can't be right", name, v->map_at,
                         v->data_at);
    if ((u64)v->blocks * 4 > MAP_MAX || size > (u64)v->blocks * v->block)
        return error_set(err, "%.300s: %u blocks don't make a disk of %llu bytes", name, v->blocks,
                         (unsigned long long)size);
    if (!sparse_inside(&v->s, 0, v->map_at, (u64)v->blocks * 4))
        return error_set(err, "%.300s: the block map lies outside the file", name);
    v->s.img.bytes = round_up(size, SECTOR);
    return true;
}

/* What the map says is in use counts, not the header. */
static bool scan_map(Vdi *v, Error *err)
{
    u64 room = v->s.file[0].size > v->data_at ? v->s.file[0].size - v->data_at : 0;
    u64 bytes = (u64)v->blocks * 4, most = (room + v->block - 1) / v->block;
    u8 *buf = block_alloc(SCAN);
    bool ok = true;

    v->used = 0;
    for (u64 at = 0; at < bytes && ok; at += SCAN) {
        u64 n = bytes - at < SCAN ? bytes - at : SCAN;

        ok = sparse_read(&v->s, 0, v->map_at + at, buf, n, "block map", err);
        for (u64 i = 0; i < n && ok; i += 4) {
            u32 number = load32(buf + i);

            if (number >= ZERO_BLOCK)
                continue;
            if (number >= most)
                ok = error_set(err, "%.300s: block %llu lies outside the file", v->s.name,
                               (unsigned long long)((at + i) / 4));
            else if (number >= v->used)
                v->used = number + 1;
        }
    }
    v->s.file[0].end = v->data_at + (u64)v->used * v->block;
    free(buf);
    return ok;
}

static const SparseOps vdi_ops = { .find = vdi_find, .place = vdi_place, .mapped = vdi_mapped };

static BlkImage *vdi_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Vdi *v = sparse_new(sizeof(*v), &vdi_driver, &vdi_ops, file, readonly, err);

    if (!v)
        return NULL;
    if (!read_header(v, err) || !scan_map(v, err)) {
        sparse_free(&v->s);
        return NULL;
    }
    return sparse_ready(&v->s, m, err);
}

static void vdi_facts(BlkImage *img, ImageFacts *out)
{
    const Vdi *v = (const Vdi *)img;

    sparse_facts(img, out);
    out->unit = v->block;
    strcpy(out->more, v->type == STATIC ? "type: static\n" : "type: dynamic\n");
}

/* ---- making ---- */

static bool write_map(HostFile *f, u64 blocks, bool is_static, Error *err)
{
    u8 *buf = block_alloc(SCAN);
    bool ok = true;

    for (u64 at = 0; at < round_up(blocks * 4, SECTOR) && ok; at += SCAN) {
        u64 left = round_up(blocks * 4, SECTOR) - at, n = left < SCAN ? left : SCAN;

        for (u64 i = 0; i < n; i += 4)
            store32(buf + i, is_static && (at + i) / 4 < blocks ? (u32)((at + i) / 4) : NO_BLOCK);
        ok = host_file_write(f, HEADER + at, buf, n, err);
    }
    free(buf);
    return ok;
}

static bool vdi_create(const char *file, const ImageCreate *how, Error *err)
{
    u64 blocks = (how->bytes + BLOCK - 1) / BLOCK, data_at = round_up(HEADER + blocks * 4, BLOCK_MIN);
    bool is_static = false;
    u8 h[HEADER] = "<<< QEMU-WIN virtual disk image >>>\n";
    HostFile *f;
    bool ok;

    if (how->base)
        return error_set(err, "a VDI image has no backing file");
    if (!img_switch(how->options, "static", &is_static, err))
        return false;
    if (blocks * 4 > MAP_MAX)
        return error_set(err, "%.300s: a disk of %llu bytes is too large for VDI", file,
                         (unsigned long long)how->bytes);
    store32(h + 0x40, SIGNATURE);
    store32(h + 0x44, VERSION);
    store32(h + 0x48, 0x180);
    store32(h + 0x4c, is_static ? STATIC : DYNAMIC);
    store32(h + 0x154, HEADER);
    store32(h + 0x158, (u32)data_at);
    store32(h + 0x168, SECTOR);
    store64(h + 0x170, how->bytes);
    store32(h + 0x178, BLOCK);
    store32(h + 0x180, (u32)blocks);
    store32(h + 0x184, is_static ? (u32)blocks : 0);
    img_uuid(h + 0x188);
    img_uuid(h + 0x198);
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    if (!f)
        return false;
    ok = host_file_write(f, 0, h, HEADER, err) && write_map(f, blocks, is_static, err) &&
         host_file_resize(f, data_at + (is_static ? blocks * BLOCK : 0), err);
    host_file_close(f);
    return ok || error_prefix(err, "%.300s", file);
}

static const char *const vdi_options[] = { "size", "static", NULL };

const BlkDriver vdi_driver = {
    .name = "vdi", .can = CAN_FLUSH, .open = vdi_open, .submit = sparse_submit, .close = sparse_close,
    .part = sparse_part, .facts = vdi_facts, .create = vdi_create, .create_options = vdi_options,
};
