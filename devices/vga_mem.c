/*
 * The VGA's memory window at A0000h-BFFFFh: map select, odd/even, chain-4, planes, latches, write modes 0-3,
 * read modes 0-1. Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", sequencer and
 * graphics controller.
 *
 * Two settings need no handler, and the guest then reads and writes memory directly:
 *   linear   chain-4 (or a VBE bank) with nothing that alters the data: the window shows video memory itself
 *   text     odd/even, planes 0 and 1, nothing altered: the window shows a 32 KiB copy of the two planes,
     which
 *            is the truth until the setting ends and is written back then
 * Direct reads leave the latches alone; nothing uses them before a handled read sets them anew.
 * Not modelled: the odd/even page bit of the miscellaneous output register.
 */
#include "vga_int.h"

#include <string.h>

/* Four equal bytes, and bit p of a nibble as byte p. */
static u32 all(u32 byte) { return (byte & 0xff) * 0x01010101u; }

static u32 spread(u32 nibble)
{
    return ((nibble & 1) | (nibble & 2) << 7 | (nibble & 4) << 14 | (nibble & 8) << 21) * 0xffu;
}

/* ---- which part of the 128 KiB answers ---- */

static bool decode(const Vga *v, u32 offset, u32 *a)
{
    static const struct { u32 start, bytes; } map[4] = {
        { 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 },
    };
    unsigned select = v->s.gc[GC_MISC] >> 2 & 3;
    if (!(v->s.misc & 2))
        return false;
    *a = offset - map[select].start;
    return offset >= map[select].start && *a < map[select].bytes;
}

static bool vbe_window(const Vga *v, u32 offset)
{
    return vbe_on(v) && v->s.vbe[VBE_BPP] >= 8 && offset < 0x10000;
}

static u32 bank_offset(const Vga *v)
{
    return vbe_on(v) ? (u32)v->s.vbe[VBE_BANK] << 16 : 0;
}

/* Byte index of plane 0 at offset a of every plane. A bank in a 4-bit VBE mode counts offsets within a
 * plane. */
static u32 plane_index(const Vga *v, u32 a)
{
    a = vbe_on(v) ? a + bank_offset(v) : a & 0xffff;
    return (a * 4) & (VGA_VRAM_BYTES - 4);
}

/* ---- one byte ---- */

static u32 combine(const Vga *v, u32 data, u32 bit_mask)
{
    u32 latch = v->s.latch, mask = all(bit_mask);
    switch (v->s.gc[GC_ROTATE] >> 3 & 3) {
    case 1: data &= latch; break;
    case 2: data |= latch; break;
    case 3: data ^= latch; break;
    default: break;
    }
    return (data & mask) | (latch & ~mask);
}

static u32 written_data(const Vga *v, u32 value)
{
    const u8 *gc = v->s.gc;
    unsigned turn = gc[GC_ROTATE] & 7;
    u32 turned = (value >> turn | value << (8 - turn)) & 0xff;

    switch (gc[GC_MODE] & 3) {
    case 0: {
        u32 enable = spread(gc[GC_ENABLE_SR]);
        return combine(v, (all(turned) & ~enable) | (spread(gc[GC_SET_RESET]) & enable), gc[GC_BIT_MASK]);
    }
    case 1:
        return v->s.latch;
    case 2:
        return combine(v, spread(value), gc[GC_BIT_MASK]);
    default:
        return combine(v, spread(gc[GC_SET_RESET]), gc[GC_BIT_MASK] & turned);
    }
}

static void write_byte(Vga *v, u32 offset, u32 value)
{
    u32 a, planes = v->s.seq[SEQ_MAP_MASK];
    if (vbe_window(v, offset)) {
        v->vram[(bank_offset(v) + offset) & (VGA_VRAM_BYTES - 1)] = (u8)value;
        return;
    }
    if (!decode(v, offset, &a))
        return;
    if (v->s.seq[SEQ_MEMORY] & 8) {             /* chain-4 */
        planes &= 1u << (a & 3);
        a >>= 2;
    } else if (!(v->s.seq[SEQ_MEMORY] & 4)) {   /* odd/even */
        planes &= a & 1 ? 0xa : 0x5;
        a &= ~1u;
    }
    u32 i = plane_index(v, a), mask = spread(planes);
    store32(v->vram + i, (load32(v->vram + i) & ~mask) | (written_data(v, value) & mask));
    if (planes & 4)
        v->font_changed = true;
}

static u32 read_byte(Vga *v, u32 offset)
{
    u32 a;
    unsigned plane = v->s.gc[GC_READ_MAP] & 3;
    if (vbe_window(v, offset))
        return v->vram[(bank_offset(v) + offset) & (VGA_VRAM_BYTES - 1)];
    if (!decode(v, offset, &a))
        return 0xff;
    if (v->s.seq[SEQ_MEMORY] & 8) {
        plane = a & 3;
        a >>= 2;
    } else if (v->s.gc[GC_MODE] & 0x10) {
        plane = (plane & 2) | (a & 1);
        a &= ~1u;
    }
    v->s.latch = load32(v->vram + plane_index(v, a));
    if (!(v->s.gc[GC_MODE] & 8))
        return v->s.latch >> (8 * plane) & 0xff;
    u32 differs = (v->s.latch ^ spread(v->s.gc[GC_COMPARE])) & spread(v->s.gc[GC_DONT_CARE]);
    return ~(differs | differs >> 8 | differs >> 16 | differs >> 24) & 0xff;
}

static u64 window_read(void *opaque, u64 offset, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)read_byte(opaque, (u32)offset + i) << (8 * i);
    return value;
}

static void window_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        write_byte(opaque, (u32)offset + i, (u32)(value >> (8 * i)) & 0xff);
    vga_changed(opaque);
}

static const MmioOps window_ops = { window_read, window_write, 1, 8 };

/* ---- what is mapped directly ---- */

static void text_to_planes(Vga *v)
{
    for (u32 a = 0; a < VGA_TEXT_BYTES; a += 2) {
        v->vram[a * 4] = v->text[a];
        v->vram[a * 4 + 1] = v->text[a + 1];
    }
}

static void planes_to_text(Vga *v)
{
    for (u32 a = 0; a < VGA_TEXT_BYTES; a += 2) {
        v->text[a] = v->vram[a * 4];
        v->text[a + 1] = v->vram[a * 4 + 1];
    }
}

/* Nothing between the CPU's byte and the planes: write mode 0, read mode 0, no set/reset, rotation,
 * function or bit mask. */
static bool data_unaltered(const Vga *v)
{
    const u8 *gc = v->s.gc;
    return !(gc[GC_MODE] & 0x0b) && !gc[GC_ENABLE_SR] && !gc[GC_ROTATE] && gc[GC_BIT_MASK] == 0xff;
}

static VgaWindow choose(const Vga *v, u32 *addr, u32 *offset, u32 *bytes)
{
    unsigned select = v->s.gc[GC_MISC] >> 2 & 3;
    unsigned memory = v->s.seq[SEQ_MEMORY], planes = v->s.seq[SEQ_MAP_MASK];
    *addr = 0xa0000;
    *offset = 0;
    *bytes = 0x10000;
    if (vbe_on(v) && v->s.vbe[VBE_BPP] >= 8) {
        *offset = bank_offset(v);
        return WINDOW_LINEAR;
    }
    if (vbe_on(v) || !(v->s.misc & 2) || !data_unaltered(v))
        return WINDOW_HANDLER;
    if (memory & 8) {
        *bytes = select ? 0x10000 : 0x20000;
        return select < 2 && planes == 0xf ? WINDOW_LINEAR : WINDOW_HANDLER;
    }
    *addr = select == 2 ? 0xb0000 : 0xb8000;
    *bytes = VGA_TEXT_BYTES;
    bool text = !(memory & 4) && planes == 3 && select >= 2 && !(v->s.gc[GC_MISC] & 1)
        && v->s.gc[GC_MODE] == 0x10 && !(v->s.gc[GC_READ_MAP] & 2);
    return text ? WINDOW_TEXT : WINDOW_HANDLER;
}

void vga_window_update(Vga *v)
{
    u32 addr, offset, bytes;
    VgaWindow want = choose(v, &addr, &offset, &bytes);
    bool same = want == v->window && addr == v->window_addr && offset == v->window_offset
        && bytes == v->window_bytes;
    if (same || (want == WINDOW_HANDLER && v->window == WINDOW_HANDLER))
        return;
    Memory *mem = vga_machine(v)->mem;
    if (v->window == WINDOW_TEXT)
        text_to_planes(v);
    if (want == WINDOW_TEXT)
        planes_to_text(v);
    mem_unmap(mem, v->window_handle);
    v->window_handle = 0;
    v->window = want;
    v->window_addr = addr;
    v->window_offset = offset;
    v->window_bytes = bytes;
    if (want == WINDOW_LINEAR)
        v->window_handle = mem_map(mem, v->vram_region, addr, offset, bytes, MAP_PRIO_CHIP, MEM_RW);
    else if (want == WINDOW_TEXT)
        v->window_handle = mem_map(mem, v->text_region, addr, 0, bytes, MAP_PRIO_CHIP, MEM_RW);
}

void vga_window_sync(Vga *v)
{
    if (v->window == WINDOW_TEXT)
        text_to_planes(v);
}

void vga_window_forget(Vga *v)
{
    if (v->window == WINDOW_TEXT)
        planes_to_text(v);
    v->font_changed = true;
}

void vga_window_create(Vga *v)
{
    Memory *mem = vga_machine(v)->mem;
    v->vram_region = mem_ram(mem, "vga.vram", VGA_VRAM_BYTES);
    v->text_region = mem_ram(mem, "vga.text", VGA_TEXT_BYTES);
    v->window_region = mem_mmio(mem, "vga.window", 0x20000, &window_ops, v);
    v->vram = mem_ram_ptr(v->vram_region);
    v->text = mem_ram_ptr(v->text_region);
    mem_map(mem, v->window_region, 0xa0000, 0, 0x20000, MAP_PRIO_CHIP, MEM_RW);
}
