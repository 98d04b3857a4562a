/* Making VHD images. The layout is in vpc.h. */
#include <stdlib.h>
#include <string.h>

#include "img_options.h"
#include "vpc.h"

enum { EPOCH_S = 946684800, SCAN = 65536, LOCATOR_AT = VPC_FOOTER + VPC_DYNAMIC };     /* 2000-01-01 */

const char *const vpc_options[] = { "size", "subformat", "force_size", "backing_file", "backing_fmt", NULL };

/* The smallest geometry that holds the disk, as the writers that go by geometry do it. */
static u64 whole_cylinders(u64 sectors, VpcGeometry *g)
{
    u64 n = sectors;

    do {
        *g = vpc_geometry(n++);
    } while ((u64)g->cylinders * g->heads * g->sectors < sectors && n < sectors + 65536 && n <= VPC_CHS_MAX);
    return (u64)g->cylinders * g->heads * g->sectors;
}

static void make_footer(u8 *h, u32 type, u64 bytes, const VpcGeometry *g, bool exact)
{
    memcpy(h, "conectix", 8);
    put32(h + 8, 2);
    put32(h + 12, 0x10000);
    put64(h + 16, type == VPC_FIXED_TYPE ? ~0ull : VPC_FOOTER);
    put32(h + 24, (u32)(host_wall_us() / 1000000 - EPOCH_S));
    memcpy(h + 28, exact ? "qem2" : "qemu", 4);
    put32(h + 32, 0x50003);
    memcpy(h + 36, "Wi2k", 4);
    put64(h + 40, bytes);
    put64(h + 48, bytes);
    put16(h + 56, (u16)g->cylinders);
    h[58] = (u8)g->heads;
    h[59] = (u8)g->sectors;
    put32(h + 60, type);
    img_uuid(h + 68);
    put32(h + 64, vpc_checksum(h, VPC_FOOTER, 64));
}

/* UTF-8 to UTF-16; false: not UTF-8, or too long. */
static bool to_utf16(const char *name, u16 *out, u32 room, u32 *units)
{
    const u8 *p = (const u8 *)name;

    for (*units = 0; *p && *units + 2 < room; ) {
        u32 more = *p < 0x80 ? 0 : *p < 0xc0 ? 9 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
        u32 c = *p++ & (more == 0 ? 0x7f : more == 1 ? 0x1f : more == 2 ? 0x0f : 0x07);

        for (; more && more < 9; more--) {
            if ((*p & 0xc0) != 0x80)
                return false;
            c = c << 6 | (*p++ & 0x3f);
        }
        if (more)
            return false;
        if (c >= 0x10000)
            out[(*units)++] = (u16)(0xd800 + ((c - 0x10000) >> 10));
        out[(*units)++] = (u16)(c >= 0x10000 ? 0xdc00 + ((c - 0x10000) & 0x3ff) : c);
    }
    return !*p;
}

/* The parent's UUID and its name: in the header, and as a locator in the sector behind it. */
static bool put_parent(u8 *d, u8 *locator, const char *file, const char *base, Error *err)
{
    u8 footer[VPC_FOOTER] = { 0 };
    const char *slash = NULL;
    size_t dir = 0;
    u16 name[VPC_NAME];
    u32 units;
    HostFile *f;
    char *path;

    for (size_t i = 0; file[i]; i++) {
        if (file[i] == '/' || file[i] == '\\')
            slash = file + i + 1;
    }
    dir = slash && base[0] != '/' && base[0] != '\\' && base[1] != ':' ? (size_t)(slash - file) : 0;
    path = block_alloc(dir + strlen(base) + 1);
    memcpy(path, file, dir);
    strcpy(path + dir, base);
    f = host_file_open(path, HOST_READ, err);
    free(path);
    if (!f)
        return false;
    if (host_file_size(f) < VPC_FOOTER ||
        !host_file_read(f, host_file_size(f) - VPC_FOOTER, footer, VPC_FOOTER, err) ||
        memcmp(footer, "conectix", 8)) {
        host_file_close(f);
        return error_set(err, "%.200s: the backing file of a VHD image must be one too", base);
    }
    host_file_close(f);
    if (!to_utf16(base, name, VPC_NAME, &units))
        return error_set(err, "the backing file's name is too long for VHD, or no UTF-8");
    memcpy(d + 40, footer + 68, 16);
    memcpy(d + 56, footer + 24, 4);
    for (u32 i = 0; i < units; i++) {
        put16(d + 64 + i * 2, name[i]);
        store16(locator + i * 2, name[i] == '/' ? '\\' : name[i]);
    }
    put32(d + 576, VPC_W2RU);
    put32(d + 580, SECTOR);
    put32(d + 584, units * 2);
    put64(d + 592, LOCATOR_AT);
    return true;
}

static bool write_dynamic(HostFile *f, const char *file, const u8 *footer, u64 bytes, const char *base,
                          Error *err)
{
    u64 blocks = (bytes + VPC_BLOCK - 1) / VPC_BLOCK, table = round_up(blocks * 4, SECTOR);
    u64 table_at = LOCATOR_AT + (base ? SECTOR : 0);
    u8 d[VPC_DYNAMIC] = "cxsparse", locator[SECTOR] = { 0 }, *buf;
    bool ok = true;

    put64(d + 8, ~0ull);
    put64(d + 16, table_at);
    put32(d + 24, 0x10000);
    put32(d + 28, (u32)blocks);
    put32(d + 32, VPC_BLOCK);
    if (base && !put_parent(d, locator, file, base, err))
        return false;
    put32(d + 36, vpc_checksum(d, VPC_DYNAMIC, 36));
    buf = block_alloc(SCAN);
    memset(buf, 0xff, SCAN);
    for (u64 at = 0; at < table && ok; at += SCAN)
        ok = host_file_write(f, table_at + at, buf, table - at < SCAN ? table - at : SCAN, err);
    free(buf);
    return ok && (!base || host_file_write(f, LOCATOR_AT, locator, SECTOR, err)) &&
           host_file_write(f, VPC_FOOTER, d, VPC_DYNAMIC, err) &&
           host_file_write(f, table_at + table, footer, VPC_FOOTER, err) &&
           host_file_write(f, 0, footer, VPC_FOOTER, err);
}

bool vpc_create(const char *file, const ImageCreate *how, Error *err)
{
    static const char *const subformats[] = { "dynamic", "fixed", NULL };
    bool exact = false;
    int fixed = 0;
    u64 sectors = how->bytes / SECTOR, chs;
    u8 footer[VPC_FOOTER] = { 0 };
    VpcGeometry g;
    HostFile *f;
    bool ok;

    if (!img_switch(how->options, "force_size", &exact, err) ||
        !img_choice(how->options, "subformat", subformats, &fixed, err))
        return false;
    if (how->base && fixed)
        return error_set(err, "a fixed VHD image has no backing file");
    if (sectors > VPC_SECTORS_MAX)
        return error_set(err, "%.300s: a disk of %llu bytes is too large for VHD (2040 GiB at most)", file,
                         (unsigned long long)how->bytes);
    chs = whole_cylinders(sectors, &g);
    exact |= how->base || chs < sectors;    /* a child has its parent's size; or it is beyond all geometry */
    if (!exact)
        sectors = chs;
    make_footer(footer, fixed ? VPC_FIXED_TYPE : how->base ? VPC_DIFF_TYPE : VPC_DYNAMIC_TYPE,
                sectors * SECTOR, &g, exact);
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    if (!f)
        return false;
    ok = fixed ? host_file_write(f, sectors * SECTOR, footer, VPC_FOOTER, err)
               : write_dynamic(f, file, footer, sectors * SECTOR, how->base, err);
    host_file_close(f);
    return ok || error_prefix(err, "%.300s", file);
}
