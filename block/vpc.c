/*
 * VHD images: fixed, dynamic and differencing ones. The layout is in vpc.h.
 *
 * Each block begins with a bitmap, a bit a sector. In a differencing image a clear bit means the parent; in a
 * dynamic one all of a block that is there counts, as writers set or ignore these bits as they like.
 *
 * The footer's copy at the beginning is what counts: the one at the end moves whenever the image grows.
 */
#include "vpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sparse.h"

#define NO_BLOCK 0xffffffffu

enum { BLOCK_MIN = 4096, BLOCK_MAX = 64 << 20, TABLE_MAX = 64 << 20, SCAN = 65536 };

typedef struct {
    Sparse s;
    u8 footer[VPC_FOOTER];
    u32 type, block, blocks, bitmap;        /* bitmap: bytes, whole sectors */
    u64 table_at, metadata_end;
    u8 parent[16];
} Vpc;

u32 vpc_checksum(const u8 *p, u32 bytes, u32 at)
{
    u32 sum = 0;

    for (u32 i = 0; i < bytes; i++)
        sum += i >= at && i < at + 4 ? 0 : p[i];
    return ~sum;
}

VpcGeometry vpc_geometry(u64 sectors)
{
    VpcGeometry g = { .heads = 16, .sectors = 255 };
    u64 tracks;

    if (sectors > VPC_CHS_MAX)
        sectors = VPC_CHS_MAX;
    tracks = sectors / g.sectors;
    if (sectors < 65535ull * 16 * 63) {
        g.sectors = 17;
        tracks = sectors / 17;
        g.heads = (u32)(tracks + 1023) / 1024;
        if (g.heads < 4)
            g.heads = 4;
        if (tracks >= g.heads * 1024 || g.heads > 16) {
            g.sectors = 31;
            g.heads = 16;
            tracks = sectors / 31;
        }
        if (tracks >= g.heads * 1024) {
            g.sectors = 63;
            tracks = sectors / 63;
        }
    }
    g.cylinders = (u32)(tracks / g.heads);
    return g;
}

/* ---- from the disk to the file ---- */

static Step block_at(Vpc *v, u64 guest, u64 *at)
{
    u64 i = guest / v->block;
    u32 sector;
    u8 *p;
    Step step;

    *at = 0;
    if (i >= v->blocks)
        return sparse_damaged(&v->s, "the disk is larger than its block table");
    step = table_get(&v->s, 0, v->table_at + i * 4, &p);
    if (step != STEP_OK)
        return step;
    sector = be32(p);
    if (sector == NO_BLOCK)
        return STEP_OK;
    *at = (u64)sector * SECTOR;
    if (*at < v->metadata_end || *at + v->bitmap >= v->s.file[0].end)
        return sparse_damaged(&v->s, "block %llu lies outside the file or on a table", (unsigned long long)i);
    return STEP_OK;
}

static Step bit_of(Vpc *v, u64 block, u64 in, bool *set)
{
    u8 *p;
    Step step = table_get(&v->s, 0, block + in / SECTOR / 8, &p);

    if (step == STEP_OK)
        *set = *p >> (7 - in / SECTOR % 8) & 1;
    return step;
}

static Step vpc_find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Vpc *v = (Vpc *)s;
    u64 in = guest % v->block, left = v->block - in, at, n = SECTOR;
    bool set = true, next;
    Step step = block_at(v, guest, &at);

    if (step != STEP_OK)
        return step;
    *run = (Run){ .kind = v->type == VPC_DIFF_TYPE ? PART_BASE : PART_ZERO,
                  .bytes = bytes < left ? bytes : left };
    if (!at)
        return STEP_OK;
    run->in_place = true;
    run->at = at + v->bitmap + in;
    if (v->type != VPC_DIFF_TYPE) {
        run->kind = PART_DATA;
        return STEP_OK;
    }
    step = bit_of(v, at, in, &set);
    while (step == STEP_OK && n < run->bytes) {
        step = bit_of(v, at, in + n, &next);
        if (step != STEP_OK || next != set)
            break;
        n += SECTOR;
    }
    run->bytes = n < run->bytes ? n : run->bytes;
    run->kind = set ? PART_DATA : PART_BASE;
    run->note = !set;
    return step;
}

static Step vpc_place(Sparse *s, u64 guest, Run *to)
{
    Vpc *v = (Vpc *)s;
    u64 at = round_up(s->file[0].end, SECTOR);

    if ((at + v->bitmap + v->block) / SECTOR >= NO_BLOCK)
        return STEP_FAIL;
    *to = (Run){ .at = at + v->bitmap, .unit = guest / v->block * v->block, .unit_bytes = v->block,
                 .partial = v->type == VPC_DIFF_TYPE };
    return STEP_OK;
}

static Step set_bits(Vpc *v, u64 block, u64 in, u64 bytes)
{
    for (u64 k = in; k < in + bytes; k += SECTOR) {
        u8 *p;
        Step step = table_get(&v->s, 0, block + k / SECTOR / 8, &p);

        if (step != STEP_OK)
            return step;
        *p |= (u8)(0x80 >> k / SECTOR % 8);
        table_changed(&v->s, 0, block + k / SECTOR / 8, 1, 0);
    }
    return STEP_OK;
}

/* The footer of the longer file is there before the table leads to the block. */
static Step put_footer(Vpc *v)
{
    u64 at = v->s.file[0].end;
    u8 *p;
    Step step;

    table_new(&v->s, 0, at, VPC_FOOTER, 0, 0);
    step = table_get(&v->s, 0, at, &p);
    if (step == STEP_OK)
        memcpy(p, v->footer, VPC_FOOTER);
    return step;
}

static Step vpc_mapped(Sparse *s, u64 guest, u64 bytes, const Run *run)
{
    Vpc *v = (Vpc *)s;
    bool is_new = run->unit_bytes != 0;
    u64 in = guest % v->block, block = is_new ? run->at - v->bitmap : run->at - in - v->bitmap;
    u64 entry = v->table_at + guest / v->block * 4;
    Step step = STEP_OK;
    u8 *p;

    if (is_new) {
        step = table_get(s, 0, entry, &p);
        if (step != STEP_OK)
            return step;
        table_new(s, 0, block, v->bitmap, v->type == VPC_DIFF_TYPE ? 0 : 0xff, 0);
    }
    if (v->type == VPC_DIFF_TYPE)
        step = set_bits(v, block, in, bytes);
    if (!is_new || step != STEP_OK)
        return step;
    step = put_footer(v);
    if (step == STEP_OK)
        step = table_get(s, 0, entry, &p);
    if (step == STEP_OK) {
        put32(p, (u32)(block / SECTOR));
        table_changed(s, 0, entry, 4, 1);
    }
    return step;
}

static const SparseOps vpc_ops = { .find = vpc_find, .place = vpc_place, .mapped = vpc_mapped };

/* A fixed image is its data, and the footer behind it. */
static Step fixed_find(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    (void)s;
    *run = (Run){ .kind = PART_DATA, .in_place = true, .at = guest, .bytes = bytes };
    return STEP_OK;
}

static const SparseOps fixed_ops = { .find = fixed_find };

/* ---- opening ---- */

static bool is_footer(const u8 *p) { return !memcmp(p, "conectix", 8); }

/* Writers that mean the size they say; Virtual PC means the geometry. */
static bool size_counts(const u8 *footer)
{
    static const char *const creators[] = { "win ", "qem2", "d2v ", "tap", "vs  ", "CTXS", "vbox", "wa  " };
    u64 chs = (u64)be16(footer + 56) * footer[58] * footer[59];

    for (size_t i = 0; i < ARRAY_LEN(creators); i++) {
        if (!memcmp(footer + 28, creators[i], 4))
            return true;
    }
    return chs >= VPC_CHS_MAX || !chs;
}

static bool read_footer(Vpc *v, Error *err)
{
    u64 file = v->s.file[0].size, chs, sectors;
    u8 *h = v->footer;

    if (file < VPC_FOOTER || !sparse_read(&v->s, 0, 0, h, VPC_FOOTER, "VHD footer", err))
        return error_set(err, "%.300s: the file is too short for VHD", v->s.name);
    /* old writers left its last byte out */
    if (!is_footer(h) && !sparse_read(&v->s, 0, file - file % SECTOR - (file % SECTOR ? 0 : SECTOR), h,
                                      file % SECTOR ? 511 : SECTOR, "VHD footer", err))
        return error_set(err, "%.300s: this is no VHD image", v->s.name);
    if (!is_footer(h))
        return error_set(err, "%.300s: this is no VHD image", v->s.name);
    if (file % SECTOR)
        h[511] = 0;
    if (be32(h + 64) != vpc_checksum(h, VPC_FOOTER, 64))
        return error_set(err, "%.300s: the footer's checksum is wrong", v->s.name);
    if (be32(h + 12) >> 16 != 1)
        return error_set(err, "%.300s: VHD version %u is not supported by this build", v->s.name,
                         be32(h + 12) >> 16);
    v->type = be32(h + 60);
    chs = (u64)be16(h + 56) * h[58] * h[59];
    sectors = size_counts(h) ? be64(h + 48) / SECTOR : chs;
    if (sectors > VPC_SECTORS_MAX)
        return error_set(err, "%.300s: a disk of %llu sectors is too large", v->s.name,
                         (unsigned long long)sectors);
    v->s.img.bytes = sectors * SECTOR;
    return true;
}

static bool scan_table(Vpc *v, Error *err)
{
    u64 bytes = (u64)v->blocks * 4, size = v->s.file[0].size, end = v->metadata_end;
    u8 *buf = block_alloc(SCAN);
    bool ok = true;

    for (u64 at = 0; at < bytes && ok; at += SCAN) {
        u64 n = bytes - at < SCAN ? bytes - at : SCAN;

        ok = sparse_read(&v->s, 0, v->table_at + at, buf, n, "block table", err);
        for (u64 i = 0; i < n && ok; i += 4) {
            u64 block = (u64)be32(buf + i) * SECTOR;

            if (be32(buf + i) == NO_BLOCK)
                continue;
            if (block < v->metadata_end || block + v->bitmap > size)
                ok = error_set(err, "%.300s: block %llu at %llu lies outside the file or on a table",
                               v->s.name, (unsigned long long)((at + i) / 4), (unsigned long long)block);
            else if (block + v->bitmap + v->block > end)
                end = block + v->bitmap + v->block;
        }
    }
    /* behind what is used, and behind what a power cut may have left; the footer's place is used again */
    if (end < round_up(size, SECTOR) - VPC_FOOTER)
        end = round_up(size, SECTOR) - VPC_FOOTER;
    v->s.file[0].end = end;
    free(buf);
    return ok;
}

static bool read_dynamic(Vpc *v, u8 *d, Error *err)
{
    const char *name = v->s.name;
    u64 at = be64(v->footer + 16), table_end;

    if (at % SECTOR || at < VPC_FOOTER || !sparse_read(&v->s, 0, at, d, VPC_DYNAMIC, "dynamic header", err))
        return error_set(err, "%.300s: the dynamic header at %llu lies outside the file", name,
                         (unsigned long long)at);
    if (memcmp(d, "cxsparse", 8))
        return error_set(err, "%.300s: the dynamic header is missing", name);
    if (be32(d + 36) != vpc_checksum(d, VPC_DYNAMIC, 36))
        return error_set(err, "%.300s: the dynamic header's checksum is wrong", name);
    v->table_at = be64(d + 16);
    v->blocks = be32(d + 28);
    v->block = be32(d + 32);
    if (v->block < BLOCK_MIN || v->block > BLOCK_MAX || (v->block & (v->block - 1)))
        return error_set(err, "%.300s: a block size of %u is not supported", name, v->block);
    v->bitmap = (u32)round_up(v->block / SECTOR / 8, SECTOR);
    if ((u64)v->blocks * 4 > TABLE_MAX || (u64)v->blocks * v->block < v->s.img.bytes)
        return error_set(err, "%.300s: %u blocks don't make a disk of %llu bytes", name, v->blocks,
                         (unsigned long long)v->s.img.bytes);
    table_end = v->table_at + round_up((u64)v->blocks * 4, SECTOR);
    if (v->table_at % SECTOR || v->table_at < VPC_FOOTER || v->table_at > v->s.file[0].size ||
        (v->table_at < at + VPC_DYNAMIC && at < table_end))
        return error_set(err, "%.300s: the block table at %llu can't be right", name,
                         (unsigned long long)v->table_at);
    v->metadata_end = table_end > at + VPC_DYNAMIC ? table_end : at + VPC_DYNAMIC;
    memcpy(v->parent, d + 40, 16);
    return scan_table(v, err);
}

static void put_utf8(char *out, size_t *n, u32 c)
{
    if (c < 0x80) {
        out[(*n)++] = (char)c;
    } else if (c < 0x800) {
        out[(*n)++] = (char)(0xc0 | c >> 6);
        out[(*n)++] = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        out[(*n)++] = (char)(0xe0 | c >> 12);
        out[(*n)++] = (char)(0x80 | (c >> 6 & 63));
        out[(*n)++] = (char)(0x80 | (c & 63));
    } else {
        out[(*n)++] = (char)(0xf0 | c >> 18);
        out[(*n)++] = (char)(0x80 | (c >> 12 & 63));
        out[(*n)++] = (char)(0x80 | (c >> 6 & 63));
        out[(*n)++] = (char)(0x80 | (c & 63));
    }
}

/* UTF-16 to UTF-8, up to a zero; backslashes become slashes, which all hosts take. */
static char *name_of_utf16(const u8 *p, u32 units, bool big)
{
    char *out = block_alloc(units * 4ull + 1);
    size_t n = 0;

    for (u32 i = 0; i < units; i++) {
        u32 c = big ? be16(p + i * 2) : load16(p + i * 2), low;

        if (!c)
            break;
        if (c >= 0xd800 && c < 0xdc00 && i + 1 < units) {
            low = big ? be16(p + i * 2 + 2) : load16(p + i * 2 + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i++;
            }
        }
        put_utf8(out, &n, c == '\\' ? '/' : c);
    }
    return out;
}

/* The locator of a relative name, else the name in the header: the parent lies beside the image. */
static bool read_parent(Vpc *v, const u8 *d, Error *err)
{
    char *name = NULL;

    for (int i = 0; i < VPC_LOCATORS && !name; i++) {
        const u8 *l = d + 576 + i * VPC_LOCATOR;
        u32 bytes = be32(l + 8);
        u8 buf[VPC_NAME * 2];

        if (be32(l) != VPC_W2RU || bytes < 2 || bytes > sizeof(buf))
            continue;
        if (!sparse_read(&v->s, 0, be64(l + 16), buf, bytes, "parent's name", err))
            return false;
        name = name_of_utf16(buf, bytes / 2, false);
    }
    if (!name) {
        char *full = name_of_utf16(d + 64, VPC_NAME, true);
        const char *last = strrchr(full, '/') ? strrchr(full, '/') + 1 : full;

        name = sparse_text(last, strlen(last));
        free(full);
    }
    if (!strncmp(name, "./", 2))
        memmove(name, name + 2, strlen(name + 2) + 1);
    v->s.backing_name = name;
    return name[0] || error_set(err, "%.300s: the parent's name is missing", v->s.name);
}

/* Its UUID, where it has one: a parent that was changed or replaced would show as a damaged disk. */
static bool right_parent(Vpc *v, Error *err)
{
    const Vpc *parent = (const Vpc *)v->s.backing;

    if (v->s.backing->drv != &vpc_driver || !memcmp(parent->footer + 68, v->parent, 16))
        return true;
    return error_set(err, "%.300s: %.100s is not the parent that the image was made for", v->s.name,
                     v->s.backing_name);
}

static BlkImage *vpc_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Vpc *v = sparse_new(sizeof(*v), &vpc_driver, &vpc_ops, file, readonly, err);
    u8 d[VPC_DYNAMIC];
    bool ok;

    if (!v)
        return NULL;
    ok = read_footer(v, err);
    if (ok && v->type == VPC_FIXED_TYPE) {
        v->s.ops = &fixed_ops;
        if (v->s.img.bytes + VPC_FOOTER - 1 > v->s.file[0].size)
            ok = error_set(err, "%.300s: the file is shorter than its disk", v->s.name);
    } else if (ok && (v->type == VPC_DYNAMIC_TYPE || v->type == VPC_DIFF_TYPE)) {
        ok = read_dynamic(v, d, err) && (v->type == VPC_DYNAMIC_TYPE || read_parent(v, d, err));
    } else if (ok) {
        ok = error_set(err, "%.300s: VHD images of type %u are not supported", v->s.name, v->type);
    }
    if (!ok) {
        sparse_free(&v->s);
        return NULL;
    }
    if (!sparse_ready(&v->s, m, err))
        return NULL;
    if (v->s.backing && !right_parent(v, err)) {
        sparse_close(&v->s.img);
        return NULL;
    }
    return &v->s.img;
}

static void vpc_facts(BlkImage *img, ImageFacts *out)
{
    static const char *const types[] = { "fixed", "dynamic", "differencing" };
    const Vpc *v = (const Vpc *)img;

    sparse_facts(img, out);
    out->unit = v->type == VPC_FIXED_TYPE ? 0 : v->block;
    snprintf(out->more, sizeof(out->more), "subformat: %s\n", types[v->type - VPC_FIXED_TYPE]);
}

static BlkImage *open_alone(const char *file, Error *err)
{
    return sparse_open_alone(&vpc_driver, file, err);
}

const BlkDriver vpc_driver = {
    .name = "vpc", .can = CAN_FLUSH, .open = vpc_open, .submit = sparse_submit, .close = sparse_close,
    .part = sparse_part, .facts = vpc_facts, .create = vpc_create, .create_options = vpc_options,
    .open_alone = open_alone,
};
