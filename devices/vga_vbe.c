/*
 * The DISPI interface of the Bochs VBE extensions: an index register at 1CEh, a data register at 1CFh.
 * Source: "VBE Display API", revision of ID B0C5h.
 *
 * Whatever a guest writes, the registers read back as values that fit each other and the video memory: the
 * picture never reaches beyond it.
 */
#include "vga_int.h"

#include <string.h>

enum { ID_FIRST = 0xb0c0, ID_LAST = 0xb0c5, MAX_X = 2560, MAX_Y = 1600, MAX_BPP = 32 };

static u32 bytes_for(u32 pixels, u32 bpp)
{
    return bpp == 4 ? pixels / 8 : pixels * ((bpp + 7) / 8);
}

/* In 4-bit modes a line lies in all four planes at once: a quarter of the memory is there for it. */
static u32 memory_for(u32 bpp)
{
    return bpp == 4 ? VGA_VRAM_BYTES / 4 : VGA_VRAM_BYTES;
}

u32 vbe_stride(const Vga *v)
{
    return bytes_for(v->s.vbe[VBE_VIRT_WIDTH], v->s.vbe[VBE_BPP]);
}

static bool valid_bpp(u32 bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Brings every register into the range that the others leave it. */
static void fit(u16 *r)
{
    u32 bpp = r[VBE_BPP], memory = memory_for(bpp);
    r[VBE_XRES] &= 0xfff8;
    if (r[VBE_XRES] < 8)
        r[VBE_XRES] = 8;
    if (r[VBE_XRES] > MAX_X)
        r[VBE_XRES] = MAX_X;
    if (r[VBE_YRES] < 1)
        r[VBE_YRES] = 1;
    if (r[VBE_YRES] > MAX_Y)
        r[VBE_YRES] = MAX_Y;
    u32 widest = memory / r[VBE_YRES] / bytes_for(8, bpp) * 8;
    if (r[VBE_VIRT_WIDTH] < r[VBE_XRES])
        r[VBE_VIRT_WIDTH] = r[VBE_XRES];
    if (r[VBE_VIRT_WIDTH] > widest)
        r[VBE_VIRT_WIDTH] = (u16)widest;
    r[VBE_VIRT_WIDTH] &= 0xfff8;
    u32 height = memory / bytes_for(r[VBE_VIRT_WIDTH], bpp);
    r[VBE_VIRT_HEIGHT] = (u16)(height > 0xffff ? 0xffff : height);
    if (r[VBE_Y_OFFSET] > r[VBE_VIRT_HEIGHT] - r[VBE_YRES])
        r[VBE_Y_OFFSET] = (u16)(r[VBE_VIRT_HEIGHT] - r[VBE_YRES]);
    /* The offsets make a start address: a line may go on at the beginning of the next, as long as there is
     * memory. */
    u32 stride = bytes_for(r[VBE_VIRT_WIDTH], bpp), end = (r[VBE_Y_OFFSET] + (u32)r[VBE_YRES]) * stride;
    if (bytes_for(r[VBE_X_OFFSET], bpp) + 1 > memory - end
        && r[VBE_X_OFFSET] > r[VBE_VIRT_WIDTH] - r[VBE_XRES])
        r[VBE_X_OFFSET] = (u16)(r[VBE_VIRT_WIDTH] - r[VBE_XRES]);
}

bool vbe_sane(const Vga *v)
{
    u16 copy[VBE_COUNT];
    if (!valid_bpp(v->s.vbe[VBE_BPP]) || v->s.vbe[VBE_BANK] >= VGA_VRAM_BYTES >> 16)
        return false;
    memcpy(copy, v->s.vbe, sizeof copy);
    fit(copy);
    return !memcmp(copy, v->s.vbe, sizeof copy);
}

void vbe_reset(Vga *v)
{
    u16 *r = v->s.vbe;
    memset(r, 0, sizeof v->s.vbe);
    r[VBE_ID] = ID_LAST;
    r[VBE_XRES] = 640;
    r[VBE_YRES] = 480;
    r[VBE_BPP] = 8;
    r[VBE_MEMORY_64K] = VGA_VRAM_BYTES >> 16;
    fit(r);
}

static void enable(Vga *v, u16 value)
{
    u16 *r = v->s.vbe;
    bool was = vbe_on(v);
    r[VBE_ENABLE] = value & (VBE_ENABLED | VBE_GETCAPS | VBE_DAC8 | VBE_LFB | VBE_NOCLEAR);
    bool starts = vbe_on(v) && !was;
    if (starts) {
        r[VBE_VIRT_WIDTH] = r[VBE_XRES];
        r[VBE_X_OFFSET] = r[VBE_Y_OFFSET] = 0;
        fit(r);
    }
    if (starts || !vbe_on(v))
        r[VBE_BANK] = 0;
    v->timing_valid = false;
    vga_window_update(v);           /* may write the text window back: before video memory is cleared */
    if (starts && !(value & VBE_NOCLEAR))
        memset(v->vram, 0, (size_t)vbe_stride(v) * r[VBE_YRES] * (r[VBE_BPP] == 4 ? 4 : 1));
}

u16 vbe_read(Vga *v, unsigned index)
{
    if (index >= VBE_COUNT)
        return 0;
    if (v->s.vbe[VBE_ENABLE] & VBE_GETCAPS) {
        switch (index) {
        case VBE_XRES: return MAX_X;
        case VBE_YRES: return MAX_Y;
        case VBE_BPP:  return MAX_BPP;
        default: break;
        }
    }
    return v->s.vbe[index];
}

void vbe_write(Vga *v, unsigned index, u16 value)
{
    u16 *r = v->s.vbe;
    switch (index) {
    case VBE_ID:
        if (value >= ID_FIRST && value <= ID_LAST)
            r[VBE_ID] = value;
        return;
    case VBE_BPP:
        value = value ? value : 8;
        if (!valid_bpp(value))
            return;
        /* fall through */
    case VBE_XRES:
    case VBE_YRES:
        if (vbe_on(v))              /* a mode is set up first and switched on then */
            return;
        r[index] = value;
        r[VBE_VIRT_WIDTH] = r[VBE_XRES];
        break;
    case VBE_ENABLE:
        enable(v, value);
        break;
    case VBE_BANK:
        r[index] = value & ((VGA_VRAM_BYTES >> 16) - 1);
        vga_window_update(v);
        return;
    case VBE_VIRT_WIDTH:
    case VBE_X_OFFSET:
    case VBE_Y_OFFSET:
        r[index] = value;
        break;
    default:
        return;
    }
    fit(r);
    v->writes++;
    vga_changed(v);
}
