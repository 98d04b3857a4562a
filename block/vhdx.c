/*
 * VHDX, the disk image of Hyper-V ("VHDX Format Specification" 1.00), read-only, little-endian.
 *
 *      0 "vhdxfile"   64 K, 128 K headers: "head", CRC, sequence; 48 log's GUID   192 K, 256 K region tables:
 *      "regi", CRC, count, entries { GUID, place, length }: the metadata, and the block table (BAT)
 *
 * The BAT has a 64-bit entry a block: state in bits 0-2, place in units of 1 MiB in bits 20-63. After as many
 * entries as make 2^23 sectors one of a sector bitmap follows, which only differencing images use.
 *
 * Not here: differencing images; images whose log must be replayed, not closed by their last writer.
 */
#include <stdlib.h>
#include <string.h>

#include "sparse.h"

enum {
    HEADER_1 = 64 << 10, HEADER_2 = 128 << 10, HEADER = 4096, REGIONS_1 = 192 << 10, REGIONS = 64 << 10,
    REGION_ENTRIES_MAX = 2047, METADATA_ENTRIES_MAX = 2047, ENTRY = 32,
    HAS_PARENT = 2, BLOCK_MIN = 1 << 20, BLOCK_MAX = 256 << 20, BAT_MAX = 512 << 20,
};
enum { NOT_PRESENT, UNDEFINED, ZEROS, UNMAPPED, FULLY_PRESENT = 6 };

/* GUIDs as they lie in the file */
static const u8 bat_region[] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
static const u8 metadata_region[] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                      0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
static const u8 file_parameters[] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                      0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
static const u8 disk_size[] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 };
static const u8 sector_size[] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                  0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f };

typedef struct {
    Sparse s;
    u64 bat_at, bat_bytes, block, per_chunk;        /* per_chunk: blocks before a bitmap's entry */
    u64 metadata_at, metadata_bytes;
} Vhdx;

/* CRC-32C, the field itself taken as zero. */
static u32 checksum(const u8 *p, u32 bytes, u32 field)
{
    u32 crc = ~0u;

    for (u32 i = 0; i < bytes; i++) {
        crc ^= i >= field && i < field + 4 ? 0 : p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static Step find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Vhdx *v = (Vhdx *)s;
    u64 n = guest / v->block, in = guest % v->block, left = v->block - in, entry, at;
    u8 *p;
    Step step = table_get(s, 0, v->bat_at + (n + n / v->per_chunk) * 8, &p);

    if (step != STEP_OK)
        return step;
    entry = load64(p);
    *run = (Run){ .kind = PART_ZERO, .bytes = bytes < left ? bytes : left };
    if ((entry & 7) <= UNMAPPED)
        return STEP_OK;
    at = entry >> 20 << 20;
    if ((entry & 7) != FULLY_PRESENT || at < BLOCK_MIN || at >= s->file[0].size)
        return sparse_damaged(s, "the table entry of block %llu is wrong", (unsigned long long)n);
    run->kind = PART_DATA;
    run->at = at + in;
    return STEP_OK;
}

static const SparseOps ops = { .find = find };

/* The valid header with the higher sequence number. */
static bool read_headers(Vhdx *v, Error *err)
{
    static const u32 places[] = { HEADER_1, HEADER_2 };
    u8 h[HEADER];
    u64 newest = 0;
    bool log = false, found = false;

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (!sparse_read(&v->s, 0, places[i], h, HEADER, "VHDX header", err))
            return false;
        if (memcmp(h, "head", 4) || load32(h + 4) != checksum(h, HEADER, 4) ||
            (found && load64(h + 8) <= newest))
            continue;
        found = true;
        newest = load64(h + 8);
        if (load16(h + 66) != 1)
            return error_set(err, "%.300s: VHDX version %u is not supported by this build", v->s.name,
                             load16(h + 66));
        log = load64(h + 48) || load64(h + 56);
    }
    if (!found)
        return error_set(err, "%.300s: both VHDX headers are damaged", v->s.name);
    return !log || error_set(err, "%.300s: the image was not closed by its last writer, and its log must be "
                             "replayed: open it once with the program that made it", v->s.name);
}

static bool read_regions(Vhdx *v, Error *err)
{
    u8 *t = block_alloc(REGIONS);
    bool ok = false;
    u32 count;

    for (u32 copy = 0; copy < 2 && !ok; copy++) {
        if (!sparse_read(&v->s, 0, REGIONS_1 + copy * REGIONS, t, REGIONS, "region table", err))
            break;
        ok = !memcmp(t, "regi", 4) && load32(t + 4) == checksum(t, REGIONS, 4) &&
             load32(t + 8) <= REGION_ENTRIES_MAX;
        if (!ok)
            error_set(err, "%.300s: both region tables are damaged", v->s.name);
    }
    count = ok ? load32(t + 8) : 0;
    for (u32 i = 0; i < count && ok; i++) {
        const u8 *e = t + 16 + i * ENTRY;
        u64 at = load64(e + 16), bytes = load32(e + 24);

        if (!sparse_inside(&v->s, 0, at, bytes) || at < BLOCK_MIN) {
            ok = error_set(err, "%.300s: a region at %llu lies outside the file", v->s.name,
                           (unsigned long long)at);
        } else if (!memcmp(e, bat_region, 16)) {
            v->bat_at = at;
            v->bat_bytes = bytes;
        } else if (!memcmp(e, metadata_region, 16)) {
            v->metadata_at = at;
            v->metadata_bytes = bytes;
        } else if (load32(e + 28) & 1) {
            ok = error_set(err, "%.300s: the image needs a region that this build does not know", v->s.name);
        }
    }
    free(t);
    return ok && ((v->bat_at && v->metadata_at) ||
                  error_set(err, "%.300s: the block table or the metadata is missing", v->s.name));
}

/* An item of the metadata, whole; false: it is not there, or too short. */
static bool item(Vhdx *v, const u8 *guid, u8 *out, u32 bytes, Error *err)
{
    u8 head[ENTRY], e[ENTRY];

    if (!sparse_read(&v->s, 0, v->metadata_at, head, ENTRY, "metadata table", err))
        return false;
    if (memcmp(head, "metadata", 8) || load16(head + 10) > METADATA_ENTRIES_MAX)
        return error_set(err, "%.300s: the metadata table is damaged", v->s.name);
    for (u32 i = 0; i < load16(head + 10); i++) {
        u64 at;

        if (!sparse_read(&v->s, 0, v->metadata_at + ENTRY + i * ENTRY, e, ENTRY, "metadata table", err))
            return false;
        at = load32(e + 16);
        if (memcmp(e, guid, 16))
            continue;
        if (load32(e + 20) < bytes || at > v->metadata_bytes || bytes > v->metadata_bytes - at)
            return error_set(err, "%.300s: an item of the metadata is too short", v->s.name);
        return sparse_read(&v->s, 0, v->metadata_at + at, out, bytes, "metadata", err);
    }
    return error_set(err, "%.300s: an item of the metadata is missing", v->s.name);
}

static bool read_shape(Vhdx *v, Error *err)
{
    const char *name = v->s.name;
    u8 parameters[8], size[8], sector[4];
    u64 bytes, blocks;

    if (!item(v, file_parameters, parameters, 8, err) || !item(v, disk_size, size, 8, err) ||
        !item(v, sector_size, sector, 4, err))
        return false;
    if (load32(parameters + 4) & HAS_PARENT)
        return error_set(err, "%.300s: differencing VHDX images are not supported by this build", name);
    v->block = load32(parameters);
    if (v->block < BLOCK_MIN || v->block > BLOCK_MAX || (v->block & (v->block - 1)))
        return error_set(err, "%.300s: a block size of %llu is not supported", name,
                         (unsigned long long)v->block);
    if (load32(sector) != 512 && load32(sector) != 4096)
        return error_set(err, "%.300s: sectors of %u bytes are not supported", name, load32(sector));
    v->per_chunk = ((u64)load32(sector) << 23) / v->block;
    bytes = load64(size);
    blocks = bytes / v->block + (bytes % v->block != 0);
    if (bytes > 1ull << 56 || bytes % SECTOR || v->bat_bytes > BAT_MAX ||
        (blocks + (blocks ? (blocks - 1) / v->per_chunk : 0)) * 8 > v->bat_bytes)
        return error_set(err, "%.300s: the block table does not fit a disk of %llu bytes", name,
                         (unsigned long long)bytes);
    v->s.img.bytes = bytes;
    return true;
}

static bool read_file(Vhdx *v, Error *err)
{
    u8 id[8];

    if (!sparse_read(&v->s, 0, 0, id, 8, "VHDX identifier", err))
        return false;
    if (memcmp(id, "vhdxfile", 8))
        return error_set(err, "%.300s: this is no VHDX image", v->s.name);
    return read_headers(v, err) && read_regions(v, err) && read_shape(v, err);
}

static BlkImage *vhdx_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Vhdx *v;

    if (!sparse_only_read(&vhdx_driver, file, readonly, err))
        return NULL;
    v = sparse_new(sizeof(*v), &vhdx_driver, &ops, file, true, err);
    if (v && !read_file(v, err)) {
        sparse_free(&v->s);
        return NULL;
    }
    return v ? sparse_ready(&v->s, m, err) : NULL;
}

static void facts(BlkImage *img, ImageFacts *out)
{
    sparse_facts(img, out);
    out->unit = (u32)((Vhdx *)img)->block;
}

const BlkDriver vhdx_driver = {
    .name = "vhdx", .open = vhdx_open, .submit = sparse_submit, .close = sparse_close, .part = sparse_part,
    .facts = facts,
};
