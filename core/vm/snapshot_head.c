/*
 * The first block of a snapshot's state: who it is, whom it comes from, where its parts are, and a picture of
 * the screen. All numbers little-endian.
 *
 *      0 "QWSTATE\n"   8 format   12 CRC-32 of the block from byte 16 on   16 uid   24 ancestors (16)
 *      152 bytes a block   156 blocks   160 sections: block, bytes, inflated bytes, CRC-32   176 picture bytes
 *      180 program that saved it (32, NUL)   4096 picture (PNG)
 */
#include "snapshot_int.h"

#include "host.h"
#include "ui.h"
#include "version.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { FORMAT = 1, PICTURE_WIDTH = 160, BLOCKS_MAX = 1 << 24, SECTIONS_MAX = 256 << 20 };

static const char magic[8] = { 'Q', 'W', 'S', 'T', 'A', 'T', 'E', '\n' };

/* Different for any two snapshots that a person makes. */
u64 head_new_uid(void)
{
    static u64 count;
    u64 x = (u64)host_wall_us() * 0x9e3779b97f4a7c15ull ^ host_now_ns() ^ ++count << 48;

    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 29;
    return x ? x : 1;
}

static u32 checksum(const u8 *block, u32 bytes) { return (u32)crc32(0, block + 16, bytes - 16); }

void head_put(u8 *block, const Head *h, const u8 *picture)
{
    const u32 numbers[] = { h->block_bytes, h->blocks, h->sections_at, h->sections_bytes, h->sections_raw,
                            h->sections_crc, h->picture_bytes };

    memset(block, 0, h->block_bytes);
    memcpy(block, magic, 8);
    store32(block + 8, FORMAT);
    store64(block + 16, h->uid);
    for (unsigned i = 0; i < ANCESTORS; i++)
        store64(block + 24 + 8 * i, h->ancestor[i]);
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++)
        store32(block + 152 + 4 * i, numbers[i]);
    memcpy(block + 180, h->program, sizeof(h->program) - 1);
    memcpy(block + HEAD_BYTES, picture, h->picture_bytes);
    store32(block + 12, checksum(block, h->block_bytes));
}

static bool places_ok(const Head *h)
{
    u64 sections = ((u64)h->sections_bytes + h->block_bytes - 1) / (h->block_bytes ? h->block_bytes : 1);

    return h->block_bytes >= 65536 && h->block_bytes <= 2 << 20 && !(h->block_bytes & (h->block_bytes - 1)) &&
           h->blocks && h->blocks <= BLOCKS_MAX && h->sections_at && h->sections_at < h->blocks &&
           sections <= h->blocks - h->sections_at && h->sections_raw <= SECTIONS_MAX;
}

bool head_get(Head *h, const u8 *block, u32 bytes, Error *err)
{
    u32 *numbers[] = { &h->block_bytes, &h->blocks, &h->sections_at, &h->sections_bytes, &h->sections_raw,
                       &h->sections_crc, &h->picture_bytes };

    if (memcmp(block, magic, 8))
        return error_set(err, "its machine state is not of this program");
    if (load32(block + 8) > FORMAT)
        return error_set(err, "it was saved by a later version of this program");
    h->uid = load64(block + 16);
    for (unsigned i = 0; i < ANCESTORS; i++)
        h->ancestor[i] = load64(block + 24 + 8 * i);
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++)
        *numbers[i] = load32(block + 152 + 4 * i);
    memcpy(h->program, block + 180, sizeof(h->program));
    h->program[sizeof(h->program) - 1] = 0;
    if (h->picture_bytes > bytes - HEAD_BYTES || load32(block + 12) != checksum(block, bytes) ||
        !places_ok(h) || !h->uid)
        return error_set(err, "its machine state is damaged: the head");
    return true;
}

bool head_read(Head *h, Blk *blk, const BlkSnapshot *s, Error *err)
{
    u32 bytes = blk_vm_block(blk);
    u8 *block;
    bool ok;

    if (s->vm_bytes < bytes)
        return error_set(err, "it holds a disk and no machine");
    block = malloc(bytes);
    ok = block && blk_snapshot_read(blk, s->id, 0, block, bytes, err) && head_get(h, block, bytes, err);
    free(block);
    return ok;
}

/* Averages boxes of pixels; a wide screen becomes PICTURE_WIDTH pixels wide. */
static void shrink(const Surface *from, Surface *to)
{
    for (int y = 0; y < to->height; y++) {
        for (int x = 0; x < to->width; x++) {
            int x0 = x * from->width / to->width, x1 = (x + 1) * from->width / to->width;
            int y0 = y * from->height / to->height, y1 = (y + 1) * from->height / to->height;
            u32 r = 0, g = 0, b = 0, n = (u32)((x1 - x0) * (y1 - y0));

            for (int v = y0; v < y1; v++) {
                for (int u = x0; u < x1; u++) {
                    u32 p = from->pixels[(size_t)v * (size_t)from->stride + (size_t)u];

                    r += p >> 16 & 255;
                    g += p >> 8 & 255;
                    b += p & 255;
                }
            }
            n = n ? n : 1;
            to->pixels[(size_t)y * (size_t)to->stride + (size_t)x] = r / n << 16 | g / n << 8 | b / n;
        }
    }
}

u32 head_picture(Machine *m, u8 *out, u32 max)
{
    UiConsole *c = m->ui ? ui_console(m->ui, 0) : NULL;
    const Surface *s;
    Surface small;
    size_t size = 0;
    u8 *png;

    if (!c || !console_is_graphic(c))
        return 0;
    console_update(c);
    s = console_surface(c);
    if (!s || s->width < PICTURE_WIDTH || s->height < 1)
        return 0;
    small.width = small.stride = PICTURE_WIDTH;
    small.height = s->height * PICTURE_WIDTH / s->width;
    small.height = small.height < 1 ? 1 : small.height > 120 ? 120 : small.height;
    small.pixels = malloc((size_t)small.width * (size_t)small.height * 4);
    if (!small.pixels)
        return 0;
    shrink(s, &small);
    png = ui_png(&small, &size);
    free(small.pixels);
    if (!png || size > max)
        size = 0;
    if (size)
        memcpy(out, png, size);
    free(png);
    return (u32)size;
}
