/* VGA: registers, planes, and the pictures of the standard modes against expectations made by hand. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "../core/vm/ui.h"
#include "../devices/vga.h"
#include "host_posix.h"

static Machine *m;

static void out(u32 port, u32 v) { port_write(m, port, v, 1); }
static u32 in(u32 port) { return port_read(m, port, 1); }
static void out2(u32 port, u32 index, u32 v) { port_write(m, port, index | v << 8, 2); }
static void vbe(u32 index, u32 v)
{
    port_write(m, 0x1ce, index, 2);
    port_write(m, 0x1cf, v, 2);
}
static u32 vbe_get(u32 index)
{
    port_write(m, 0x1ce, index, 2);
    return port_read(m, 0x1cf, 2);
}
static void poke(u32 addr, u32 v) { mem_bus_write(m->mem, addr, v, 1); }
static u32 peek(u32 addr) { return (u32)mem_bus_read(m->mem, addr, 1); }

/* ---- modes as the VGA BIOS sets them (IBM's parameter tables) ---- */

typedef struct { u8 misc, seq[5], crtc[25], gc[9], attr[21]; } Params;

#define EGA_PALETTE 0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f
#define CGA_PALETTE 0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17

static const Params mode3 = {
    0x67, { 3, 0, 3, 0, 2 },
    { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28,
      0x1f, 0x96, 0xb9, 0xa3, 0xff },
    { 0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff }, { EGA_PALETTE, 0x0c, 0, 0x0f, 8, 0 }
};
static const Params mode1 = {
    0x67, { 3, 8, 3, 0, 2 },
    { 0x2d, 0x27, 0x28, 0x90, 0x2b, 0xa0, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14,
      0x1f, 0x96, 0xb9, 0xa3, 0xff },
    { 0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff }, { EGA_PALETTE, 0x0c, 0, 0x0f, 8, 0 }
};
static const Params mode4 = {
    0x63, { 3, 9, 3, 0, 2 },
    { 0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0,
      0x96, 0xb9, 0xa2, 0xff },
    { 0, 0, 0, 0, 0, 0x30, 0x0f, 0x0f, 0xff }, { CGA_PALETTE, 1, 0, 3, 0, 0 }
};
static const Params mode6 = {
    0x63, { 3, 1, 1, 0, 6 },
    { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0,
      0x96, 0xb9, 0xc2, 0xff },
    { 0, 0, 0, 0, 0, 0, 0x0d, 0x0f, 0xff },
    { 0, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 1, 0, 1,
      0, 0 }
};
static const Params mode_d = {
    0x63, { 3, 9, 0x0f, 0, 6 },
    { 0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0,
      0x96, 0xb9, 0xe3, 0xff },
    { 0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff }, { EGA_PALETTE, 1, 0, 0x0f, 0, 0 }
};
static const Params mode12 = {
    0xe3, { 3, 1, 0x0f, 0, 6 },
    { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0,
      0xe7, 4, 0xe3, 0xff },
    { 0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff }, { EGA_PALETTE, 1, 0, 0x0f, 0, 0 }
};
static const Params mode13 = {
    0x63, { 3, 1, 0x0f, 0, 0x0e },
    { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40,
      0x96, 0xb9, 0xa3, 0xff },
    { 0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff },
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0, 0x0f, 0, 0 }
};

static void set_mode(const Params *p)
{
    vbe(4, 0);
    out(0x3c2, p->misc);
    for (u32 i = 0; i < 5; i++)
        out2(0x3c4, i, p->seq[i]);
    out2(0x3d4, 0x11, 0);
    for (u32 i = 0; i < 25; i++)
        out2(0x3d4, i, p->crtc[i]);
    for (u32 i = 0; i < 9; i++)
        out2(0x3ce, i, p->gc[i]);
    in(0x3da);
    for (u32 i = 0; i < 21; i++) {
        out(0x3c0, i);
        out(0x3c0, p->attr[i]);
    }
    out(0x3c0, 0x20);
    out(0x3c6, 0xff);
}

static u8 dac6(u32 i, int colour) { return (u8)((i * (7 + 4 * (u32)colour) + (u32)colour) & 0x3f); }

/* A palette that shows every index: colour i is unlike all others. */
static u32 rgb(u32 i)
{
    u32 c = 0;
    for (int k = 0; k < 3; k++)
        c = c << 8 | (((u32)dac6(i, k) << 2 | dac6(i, k) >> 4) & 0xff);
    return c;
}

static void load_palette(void)
{
    out(0x3c8, 0);
    for (u32 i = 0; i < 256; i++) {
        for (int k = 0; k < 3; k++)
            out(0x3c9, dac6(i, k));
    }
}

/* Plane 2 gets a font in which row r of character c is c ^ (r * 17). */
static u8 glyph(u32 c, u32 r) { return (u8)(c ^ (r * 17)); }

static void load_font(u32 block)
{
    out2(0x3c4, 2, 4);
    out2(0x3c4, 4, 6);
    out2(0x3ce, 5, 0);
    out2(0x3ce, 6, 4);
    for (u32 c = 0; c < 256; c++) {
        for (u32 r = 0; r < 32; r++)
            poke(0xa0000 + block + c * 32 + r, (u8)(glyph(c, r) + (block ? 1 : 0)));
    }
    out2(0x3c4, 2, 3);
    out2(0x3c4, 4, 2);
    out2(0x3ce, 5, 0x10);
    out2(0x3ce, 6, 0x0e);
}

static const Surface *draw(void)
{
    console_update(ui_console(m->ui, 0));
    return console_surface(ui_console(m->ui, 0));
}

static u32 px(const Surface *s, int x, int y) { return s->pixels[y * s->stride + x]; }
static bool size_is(const Surface *s, int w, int h) { return s->width == w && s->height == h; }

/* ---- text ---- */

static u32 text_pixel(u32 ch, u32 attr, u32 r, int x, int dots, u32 font)
{
    u32 bits = (u8)(glyph(ch, r) + font);
    bool on = x < 8 ? bits >> (7 - x) & 1 : dots == 9 && (ch & 0xe0) == 0xc0 && (bits & 1);
    return rgb(mode3.attr[on ? attr & 15 : attr >> 4 & 7]);
}

/* The picture in the guest's pixels, where each is wide dots by high scan lines. */
static int wide = 1, high = 1;
static u32 pixel(const Surface *s, int x, int y)
{
    u32 p = px(s, x * wide, y * high);
    return px(s, x * wide + wide - 1, y * high + high - 1) == p ? p : ~p;
}

static int wrong_text(const Surface *s, int cols, int rows, int dots, int row_height)
{
    int wrong = 0;
    for (int y = 0; y < rows * row_height; y++) {
        for (int x = 0; x < cols * dots; x++) {
            u32 cell = (u32)(y / row_height * cols + x / dots), ch = cell & 0xff, attr = cell * 7 & 0x7f;
            wrong += pixel(s, x, y) != text_pixel(ch, attr, (u32)(y % row_height), x % dots, dots, 0);
        }
    }
    return wrong;
}

static void fill_text(int cells)
{
    for (int i = 0; i < cells; i++) {
        poke(0xb8000 + (u32)i * 2, (u32)i & 0xff);
        poke(0xb8001 + (u32)i * 2, (u32)i * 7 & 0x7f);
    }
}

static void test_text(void)
{
    set_mode(&mode3);
    load_palette();
    load_font(0);
    out2(0x3d4, 0x0a, 0x20);
    fill_text(2000);
    const Surface *s = draw();
    CHECK_MSG(size_is(s, 720, 400), "mode 3 is 720x400");
    CHECK_MSG(size_is(s, 720, 400) && wrong_text(s, 80, 25, 9, 16) == 0,
              "mode 3: every pixel, ninth dots too");

    MemPage p = mem_page(m->mem, 0xb8000);
    CHECK_MSG(p.direct_read && p.direct_write, "the text window is memory");
    CHECK(peek(0xb8000) == 0 && peek(0xb8002) == 1 && peek(0xb8003) == 7);
    out2(0x3ce, 4, 0);
    out2(0x3c4, 4, 6);
    out2(0x3ce, 5, 0);
    CHECK_MSG(peek(0xb8002) == 1 && peek(0xb8004) == 2, "characters are at even offsets of plane 0");
    out2(0x3ce, 4, 1);
    CHECK_MSG(peek(0xb8002) == 7 && peek(0xb8004) == 14, "attributes at even offsets of plane 1");
    out2(0x3ce, 4, 0);
    out2(0x3c4, 4, 2);
    out2(0x3ce, 5, 0x10);
    CHECK(wrong_text(draw(), 80, 25, 9, 16) == 0);

    out2(0x3c4, 1, 1);
    s = draw();
    CHECK_MSG(size_is(s, 640, 400) && wrong_text(s, 80, 25, 8, 16) == 0, "8-dot characters");
    set_mode(&mode1);
    out2(0x3d4, 0x0a, 0x20);
    s = draw();
    wide = 2;
    CHECK_MSG(size_is(s, 720, 400) && wrong_text(s, 40, 25, 9, 16) == 0,
              "mode 1: 40 columns, dots twice as wide");
    out2(0x3d4, 9, 0xcf);
    wide = high = 2;
    CHECK_MSG(wrong_text(draw(), 40, 12, 9, 16) == 0, "scan lines twice");
    wide = high = 1;
}

static void test_text_details(void)
{
    set_mode(&mode3);
    fill_text(2000);
    load_font(0x4000);
    out2(0x3c4, 3, 4);                          /* attribute bit 3 selects the font at 4000h */
    out2(0x3d4, 0x0a, 0x20);
    poke(0xb8000, 'x');
    poke(0xb8001, 0x1a);
    const Surface *s = draw();
    int wrong = 0;
    for (int y = 0; y < 16; y++) {
        for (int x = 0; x < 9; x++)
            wrong += px(s, x, y) != text_pixel('x', 0x1a, (u32)y, x, 9, 1);
    }
    CHECK_MSG(wrong == 0, "bit 3 of the attribute selects the second font");
    out2(0x3c4, 3, 0);

    /* smooth scrolling: 5 lines up, 3 pixels left, start at cell 80 */
    out2(0x3d4, 8, 5);
    out2(0x3d4, 0x0d, 80);
    in(0x3da);
    out(0x3c0, 0x33);
    out(0x3c0, 2);
    s = draw();
    wrong = 0;
    for (int y = 0; y < 300; y++) {
        for (int x = 0; x < 700; x++) {
            u32 cell = (u32)(80 + (y + 5) / 16 * 80 + (x + 3) / 9);
            wrong += px(s, x, y) != text_pixel(cell & 0xff, cell * 7 & 0x7f, (u32)(y + 5) % 16, (x + 3) % 9,
                                               9, 0);
        }
    }
    CHECK_MSG(wrong == 0, "preset row scan, start address and pixel panning");

    /* split screen: from line 100 on memory address 0, not panned */
    out2(0x3d4, 0x18, 99);
    out2(0x3d4, 7, 0x0f);
    out2(0x3d4, 9, 0x0f);
    in(0x3da);
    out(0x3c0, 0x30);
    out(0x3c0, 0x2c);
    s = draw();
    wrong = 0;
    for (int y = 116; y < 300; y++) {
        for (int x = 0; x < 720; x++) {
            u32 cell = (u32)((y - 100) / 16 * 80 + x / 9);
            wrong += px(s, x, y) != text_pixel(cell & 0xff, cell * 7 & 0x7f, (u32)(y - 100) % 16, x % 9, 9,
                                               0);
        }
    }
    CHECK_MSG(wrong == 0, "line compare splits the screen");
    set_mode(&mode3);
}

static void test_cursor(void)
{
    set_mode(&mode3);
    fill_text(2000);
    out2(0x3d4, 0x0e, 0);
    out2(0x3d4, 0x0f, 81);
    const Surface *s = draw();                  /* the clock stands at 0: the cursor is on */
    u32 fg = rgb(mode3.attr[81 * 7 & 15]);
    int wrong = 0;
    for (int x = 9; x < 18; x++)
        wrong += px(s, x, 16 + 13) != fg || px(s, x, 16 + 14) != fg;
    CHECK_MSG(wrong == 0, "the cursor covers nine dots of lines 13 and 14");
    CHECK(px(s, 9, 16 + 12) == text_pixel(81, 81 * 7 & 0x7f, 12, 0, 9, 0));
    out2(0x3d4, 0x0a, 0x2d);
    CHECK_MSG(wrong_text(draw(), 80, 25, 9, 16) == 0, "the cursor is switched off by its bit 5");
    out2(0x3d4, 0x0a, 0x0f);
    CHECK_MSG(wrong_text(draw(), 80, 25, 9, 16) == 0, "a cursor that starts below its end is none");
}

/* ---- graphics ---- */

static void test_mode13(void)
{
    set_mode(&mode13);
    wide = high = 2;
    CHECK_MSG(mem_page(m->mem, 0xa0000).direct_write, "chain-4 video memory is mapped directly");
    for (u32 i = 0; i < 64000; i++)
        poke(0xa0000 + i, i * 31 >> 3 & 0xff);
    const Surface *s = draw();
    int wrong = 0;
    for (u32 i = 0; size_is(s, 640, 400) && i < 64000; i++)
        wrong += pixel(s, (int)(i % 320), (int)(i / 320)) != rgb(i * 31 >> 3 & 0xff);
    CHECK_MSG(size_is(s, 640, 400) && wrong == 0, "mode 13h");
    out(0x3c6, 0x0f);
    CHECK_MSG(pixel(draw(), 100, 0) == rgb((100 * 31 >> 3) & 15), "the PEL mask");
    out(0x3c6, 0xff);

    /* mode X: 320x240, unchained; pixel x is in plane x & 3 */
    out2(0x3c4, 4, 6);
    out2(0x3d4, 0x11, 0);
    static const u8 x240[][2] = { { 0x14, 0 }, { 0x17, 0xe3 }, { 0x06, 0x0d }, { 0x07, 0x3e },
                                  { 0x10, 0xea }, { 0x12, 0xdf },
                                  { 0x15, 0xe7 }, { 0x16, 0x06 } };
    for (size_t i = 0; i < ARRAY_LEN(x240); i++)
        out2(0x3d4, x240[i][0], x240[i][1]);
    for (u32 plane = 0; plane < 4; plane++) {
        out2(0x3c4, 2, 1u << plane);
        for (u32 a = 0; a < 80 * 480; a++)
            poke(0xa0000 + a, (a * 4 + plane) * 13 >> 2 & 0xff);
    }
    s = draw();
    wrong = 0;
    for (u32 i = 0; size_is(s, 640, 480) && i < 320 * 240; i++)
        wrong += pixel(s, (int)(i % 320), (int)(i / 320)) != rgb(i * 13 >> 2 & 0xff);
    CHECK_MSG(size_is(s, 640, 480) && wrong == 0, "mode X");
    out2(0x3d4, 0x0c, (80 * 240) >> 8);
    out2(0x3d4, 0x0d, (80 * 240) & 0xff);
    CHECK_MSG(pixel(draw(), 5, 1) == rgb((320 * 241 + 5) * 13 >> 2 & 0xff), "the second page of mode X");
    out2(0x3ce, 4, 2);
    CHECK(peek(0xa0001) == (6 * 13 >> 2 & 0xff));
    out2(0x3c4, 2, 0x0f);
    peek(0xa0005);
    out2(0x3ce, 5, 0x41);
    poke(0xa1000, 0);
    out2(0x3ce, 5, 0x40);
    CHECK_MSG(peek(0xa1000) == (22 * 13 >> 2 & 0xff), "write mode 1 copies four pixels through the latches");
    wide = high = 1;
}

static void plot16(u32 x, u32 y, u32 colour)
{
    out2(0x3ce, 8, 0x80u >> (x & 7));
    peek(0xa0000 + y * 80 + x / 8);
    poke(0xa0000 + y * 80 + x / 8, colour);
}

static void test_mode12(void)
{
    set_mode(&mode12);
    out2(0x3ce, 5, 2);
    for (u32 y = 0; y < 480; y += 7) {
        for (u32 x = 0; x < 640; x++)
            plot16(x, y, (x + y) & 15);
    }
    const Surface *s = draw();
    int wrong = 0;
    for (u32 y = 0; size_is(s, 640, 480) && y < 480; y += 7) {
        for (u32 x = 0; x < 640; x++)
            wrong += px(s, (int)x, (int)y) != rgb(mode12.attr[(x + y) & 15]);
    }
    CHECK_MSG(size_is(s, 640, 480) && wrong == 0, "mode 12h by write mode 2 and bit mask");

    /* write mode 0 with set/reset, functions, rotation; read mode 1 */
    out2(0x3ce, 8, 0xff);
    out2(0x3ce, 5, 0);
    out2(0x3ce, 0, 0x0a);
    out2(0x3ce, 1, 0x0f);
    poke(0xa0000, 0);
    CHECK(px(draw(), 0, 0) == rgb(mode12.attr[10]));
    out2(0x3ce, 1, 0);
    out2(0x3ce, 3, 0x18);                       /* XOR with the latches */
    peek(0xa0000);
    poke(0xa0000, 0xf0);
    s = draw();
    CHECK_MSG(px(s, 0, 0) == rgb(mode12.attr[5]) && px(s, 4, 0) == rgb(mode12.attr[10]), "XOR");
    out2(0x3ce, 3, 4);                          /* turned right by four */
    poke(0xa0001, 0xf0);
    s = draw();
    CHECK_MSG(px(s, 8, 0) == rgb(mode12.attr[0]) && px(s, 12, 0) == rgb(mode12.attr[15]), "rotation");
    out2(0x3ce, 3, 0);
    out2(0x3ce, 5, 3);
    out2(0x3ce, 0, 6);
    out2(0x3ce, 8, 0x3c);
    peek(0xa0002);
    poke(0xa0002, 0x0f);
    s = draw();
    CHECK_MSG(px(s, 20, 0) == rgb(mode12.attr[6]) && px(s, 22, 0) == rgb(mode12.attr[22 & 15]),
              "write mode 3");
    out2(0x3ce, 5, 8);
    out2(0x3ce, 2, 6);
    out2(0x3ce, 7, 0x0f);
    CHECK_MSG((peek(0xa0002) & 0x0c) == 0x0c && (peek(0xa0002) & 0xf0) == 0, "read mode 1 compares colours");
    out2(0x3ce, 7, 0);
    CHECK(peek(0xa0002) == 0xff);
    out2(0x3ce, 5, 0);
    out2(0x3ce, 8, 0xff);
    in(0x3da);
    out(0x3c0, 0x32);
    out(0x3c0, 0x01);
    CHECK_MSG(px(draw(), 12, 0) == rgb(mode12.attr[1]), "the plane mask of the attribute controller");
}

static void test_old_graphics(void)
{
    wide = high = 2;
    set_mode(&mode_d);
    poke(0xa0000 + 40 * 199 + 39, 0);
    out2(0x3c4, 2, 2);
    poke(0xa0000 + 40 * 199 + 39, 0x01);
    out2(0x3c4, 2, 0x0f);
    const Surface *s = draw();
    CHECK_MSG(size_is(s, 640, 400) && pixel(s, 319, 199) == rgb(2), "mode 0Dh");

    set_mode(&mode4);
    for (u32 i = 0; i < 0x4000; i++)
        poke(0xb8000 + i, 0);
    poke(0xb8000, 0x1b);
    poke(0xb8001, 0xe4);
    poke(0xba000 + 99 * 80 + 79, 0x03);
    s = draw();
    static const u8 want[8] = { 0, 1, 2, 3, 3, 2, 1, 0 };
    int wrong = 0;
    for (int x = 0; x < 8; x++)
        wrong += pixel(s, x, 0) != rgb(mode4.attr[want[x]]);
    CHECK_MSG(size_is(s, 640, 400) && wrong == 0 && pixel(s, 319, 199) == rgb(mode4.attr[3]),
              "mode 4: two bits a pixel, odd "
              "lines 8 KiB higher");

    set_mode(&mode6);
    wide = 1;
    for (u32 i = 0; i < 0x4000; i++)
        poke(0xb8000 + i, 0);
    poke(0xba000 + 1, 0x40);
    s = draw();
    CHECK_MSG(size_is(s, 640, 400) && pixel(s, 9, 1) == rgb(0x17) && pixel(s, 8, 1) == rgb(0)
              && pixel(s, 9, 0) == rgb(0), "mode 6");
    high = 1;
}

/* ---- VBE ---- */

static void set_vbe(u32 w, u32 h, u32 bpp)
{
    vbe(4, 0);
    vbe(1, w);
    vbe(2, h);
    vbe(3, bpp);
    vbe(4, 0x41);
}

static void test_vbe(void)
{
    const u32 lfb = 0xe0000000;
    CHECK(vbe_get(0) == 0xb0c5 && vbe_get(10) == 256);
    vbe(0, 0xb0c2);
    CHECK(vbe_get(0) == 0xb0c2);
    vbe(0, 0x1234);
    CHECK(vbe_get(0) == 0xb0c2);
    set_mode(&mode3);
    set_vbe(800, 600, 32);
    CHECK(peek(lfb) == 0);
    mem_bus_write(m->mem, lfb + (599 * 800 + 799) * 4, 0x12345678, 4);
    const Surface *s = draw();
    CHECK(size_is(s, 800, 600) && px(s, 799, 599) == 0x345678);
    CHECK_MSG(mem_page(m->mem, 0xa0000).page == mem_page(m->mem, lfb).page,
              "bank 0 is the start of the frame buffer");
    vbe(5, 3);
    CHECK(mem_page(m->mem, 0xa0000).page == mem_page(m->mem, lfb + 0x30000).page);
    vbe(6, 1000);
    vbe(8, 100);
    vbe(9, 50);
    mem_bus_write(m->mem, lfb + (50 * 1000 + 100) * 4, 0xabcdef, 4);
    CHECK_MSG(px(draw(), 0, 0) == 0xabcdef, "virtual width and offsets");
    set_vbe(640, 480, 16);
    mem_bus_write(m->mem, lfb + 2, 0xf81f, 2);
    CHECK(px(draw(), 1, 0) == 0xff00ff);
    set_vbe(640, 480, 15);
    mem_bus_write(m->mem, lfb + 2, 0x7c1f, 2);
    CHECK(px(draw(), 1, 0) == 0xff00ff);
    set_vbe(640, 480, 24);
    mem_bus_write(m->mem, lfb + 3, 0x00112233, 4);
    CHECK(px(draw(), 1, 0) == 0x112233);
    set_vbe(640, 480, 8);
    poke(0xa0000 + 5, 77);
    CHECK(px(draw(), 5, 0) == rgb(77));
    vbe(4, 0x61);
    out(0x3c8, 77);
    out(0x3c9, 0x81);
    out(0x3c9, 0xfe);
    out(0x3c9, 0x03);
    CHECK_MSG(px(draw(), 5, 0) == 0x81fe03, "an 8-bit DAC");
    set_vbe(800, 600, 4);
    out2(0x3c4, 4, 6);
    out2(0x3c4, 2, 4);
    out2(0x3ce, 5, 0);
    out2(0x3ce, 6, 5);
    out2(0x3ce, 8, 0xff);
    poke(0xa0000 + 100 * 599 + 99, 1);
    s = draw();
    CHECK(size_is(s, 800, 600) && px(s, 799, 599) == rgb(mode3.attr[4]));
    load_palette();
}

/* ---- limits ---- */

static void test_limits(void)
{
    set_vbe(65535, 65535, 32);
    CHECK(vbe_get(1) <= 2560 && vbe_get(2) <= 1600);
    vbe(6, 65535);
    vbe(8, 65535);
    vbe(9, 65535);
    CHECK_MSG((u64)vbe_get(6) * 4 * (vbe_get(9) + vbe_get(2)) <= VGA_VRAM_BYTES,
              "the picture lies within video memory");
    const Surface *s = draw();
    CHECK(size_is(s, (int)vbe_get(1), (int)vbe_get(2)));
    vbe(5, 0xffff);
    CHECK(vbe_get(5) == 255);
    poke(0xaffff, 0x5a);
    CHECK(peek(0xe0000000u + VGA_VRAM_BYTES - 1) == 0x5a);
    vbe(3, 7);
    CHECK(vbe_get(3) == 32);
    vbe(4, 2);
    CHECK(vbe_get(1) == 2560 && vbe_get(2) == 1600 && vbe_get(3) == 32);
    vbe(4, 0);
    set_mode(&mode13);
    out2(0x3d4, 0x0c, 0xff);
    out2(0x3d4, 0x0d, 0xff);
    draw();
    set_mode(&mode3);
    CHECK(size_is(draw(), 720, 400));
    in(0x3da);
    out(0x3c0, 0);
    s = draw();
    CHECK_MSG(size_is(s, 720, 400) && px(s, 5, 5) == 0, "no palette access, no picture");
}

static void test_ports(void)
{
    set_mode(&mode3);
    CHECK(in(0x3b5) == 0xff && in(0x3cc) == 0x67);
    out(0x3c2, 0x66);
    CHECK(in(0x3d5) == 0xff);
    out(0x3c2, 0x67);
    out(0x3d4, 0x11);
    out(0x3d5, 0x8e);
    out2(0x3d4, 0, 0x11);
    out(0x3d4, 0);
    CHECK_MSG(in(0x3d5) == 0x5f, "CRTC registers 0-7 are protected by bit 7 of register 11h");
    out(0x3c7, 5);
    CHECK(in(0x3c9) == dac6(5, 0) && in(0x3c9) == dac6(5, 1) && in(0x3c9) == dac6(5, 2)
          && in(0x3c9) == dac6(6, 0));
    CHECK(in(0x3c7) == 3);
    machine_cont(m);
    u32 seen = 0;
    u64 end = host_now_ns() + 100000000;
    while (host_now_ns() < end)
        seen |= 1u << (in(0x3da) & 9);
    CHECK_MSG((seen & 0x203) == 0x203, "the retrace bits come and go");
    machine_stop(m);
}

static void test_save(void)
{
    SaveBuf a = { 0 }, b = { 0 };
    Error err = { "" };
    Device *dev = m->devices;
    while (dev && strcmp(dev->id, "isa-vga"))
        dev = dev->next;
    CHECK(dev && device_class_tiles(dev->cls, &err));
    if (!dev)
        return;
    set_mode(&mode3);
    out2(0x3d4, 0x0a, 0x20);
    load_font(0);
    fill_text(2000);
    device_save(dev, &a);           /* who saves the chip saves its memory beside it */
    MemRegion *vram = mem_ram_region(m->mem, 0);
    for (unsigned n = 1; strcmp(mem_region_name(vram), "vga.vram"); n++)
        vram = mem_ram_region(m->mem, n);
    u8 *kept = malloc(mem_region_size(vram));
    memcpy(kept, mem_ram_ptr(vram), mem_region_size(vram));
    for (u32 i = 0; i < 4000; i++)
        poke(0xb8000 + i, 0xdb);
    set_mode(&mode13);
    CHECK_MSG(device_load(dev, a.data, a.len, &err), "a saved VGA is loaded: %s", err.text);
    memcpy(mem_ram_ptr(vram), kept, mem_region_size(vram));
    free(kept);
    dev->cls->memory_loaded(dev);
    CHECK_MSG(peek(0xb8002) == 1 && wrong_text(draw(), 80, 25, 9, 16) == 0, "and shows what it showed");
    device_save(dev, &b);
    CHECK(a.len == b.len && !memcmp(a.data, b.data, a.len));
    free(a.data);
    free(b.data);
}

/* ---- what is told to the window ---- */

static struct { int updates, x, y, w, h; } seen;

static void fe_resized(void *opaque, int w, int h)
{
    (void)opaque;
    (void)w;
    (void)h;
}

static void fe_update(void *opaque, const Surface *s, int x, int y, int w, int h)
{
    (void)opaque;
    (void)s;
    seen.updates++;
    seen.x = x;
    seen.y = y;
    seen.w = w;
    seen.h = h;
}

static const FrontEndOps fe_ops = { .resized = fe_resized, .update = fe_update };

/* Runs the main loop's part until a picture is published, for at most half a second. */
static bool published(void)
{
    u64 end = host_now_ns() + NS_PER_SEC / 2, deadline;
    seen.updates = 0;
    while (!seen.updates && host_now_ns() < end)
        machine_service(m, &deadline);
    return seen.updates > 0;
}

static bool rect_is(int x, int y, int w, int h)
{
    return seen.x == x && seen.y == y && seen.w == w && seen.h == h;
}

static void test_changes(void)
{
    set_mode(&mode3);
    fill_text(2000);
    out2(0x3d4, 0x0a, 0x20);
    ui_set_front_end(m->ui, &fe_ops, NULL);
    published();
    CHECK_MSG(!published(), "nothing changes, nothing is drawn");
    poke(0xb8000 + 2 * (80 * 3 + 5), 0xff);
    CHECK_MSG(published() && rect_is(45, 48, 9, 16), "one character is one cell");
    set_mode(&mode13);
    published();
    published();
    poke(0xa0000 + 320 * 10 + 101, peek(0xa0000 + 320 * 10 + 101) ^ 1);
    CHECK_MSG(published() && rect_is(200, 20, 8, 2), "one pixel is four pixels of two lines");
    set_vbe(640, 480, 32);
    published();
    published();
    mem_bus_write(m->mem, 0xe0000000 + (640 * 10 + 7) * 4, 0xffffff, 4);
    CHECK_MSG(published() && rect_is(7, 10, 1, 1), "one pixel of a linear mode is one pixel");
    ui_set_front_end(m->ui, NULL, NULL);
}

/* ---- the PCI card ---- */

static int no_route(void *opaque, int slot, int pin)
{
    (void)opaque;
    return (slot + pin) & 3;
}

static void no_irq(void *opaque, int pirq, bool level)
{
    (void)opaque;
    (void)pirq;
    (void)level;
}

static void test_pci(void)
{
    Config cfg;
    Error err;
    Machine *isa = m;
    config_default(&cfg);
    m = machine_create(&cfg, VGA_ARENA_BYTES + (1 << 20), &err);
    PciBus *bus = pci_bus_create(m, no_route, no_irq, NULL);
    vga_pci_create(m, bus, 0x10);
    CHECK(pci_config_read(bus, 0x10, 0, 4) == 0x11111234 && pci_config_read(bus, 0x10, 8, 4) >> 16 == 0x0300);
    pci_config_write(bus, 0x10, 0x10, 0xffffffff, 4);
    CHECK(pci_config_read(bus, 0x10, 0x10, 4) == 0xff000008);
    pci_config_write(bus, 0x10, 0x10, 0xd0000000, 4);
    pci_config_write(bus, 0x10, 0x18, 0xd1000000, 4);
    pci_config_write(bus, 0x10, 0x30, 0xd2000001, 4);
    pci_config_write(bus, 0x10, 4, 2, 2);
    CHECK_MSG(mem_bus_read(m->mem, 0xd2000000, 2) == 0xaa55, "the VGA BIOS is in the ROM");
    CHECK(mem_bus_read(m->mem, 0xd1000500, 2) == 0xb0c5);
    mem_bus_write(m->mem, 0xd1000502, 640, 2);
    mem_bus_write(m->mem, 0xd1000504, 400, 2);
    mem_bus_write(m->mem, 0xd1000506, 32, 2);
    mem_bus_write(m->mem, 0xd1000508, 0x41, 2);
    mem_bus_write(m->mem, 0xd1000400, 0x20, 1);
    mem_bus_write(m->mem, 0xd0000004, 0x123456, 4);
    const Surface *s = draw();
    CHECK_MSG(size_is(s, 640, 400) && px(s, 1, 0) == 0x123456, "registers and memory through the BARs");
    mem_bus_write(m->mem, 0xd10004c4 - 0xc0, 2, 1);
    CHECK(mem_bus_read(m->mem, 0xd1000404, 1) == 2 && in(0x3c4) == 2);
    CHECK(mem_bus_read(m->mem, 0xd1000000, 4) == 0);
    device_reset(m->devices);
    CHECK_MSG(mem_bus_read(m->mem, 0xd0000004, 4) == 0xffffffff, "a reset hides the BARs");
    machine_destroy(m);
    config_free(&cfg);
    pci_bus_destroy(bus);
    m = isa;
}

/* R2, R5: any sequence of accesses, with pictures in between. */
static void test_random(void)
{
    static const u16 ports[] = { 0x3b4, 0x3b5, 0x3ba, 0x3c0, 0x3c1, 0x3c2, 0x3c3, 0x3c4, 0x3c5, 0x3c6, 0x3c7,
                                 0x3c8, 0x3c9,
                                 0x3ca, 0x3cc, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x1ce, 0x1cf, 0x1d0 };
    u64 seed = 20061122, end = host_now_ns() + 3 * NS_PER_SEC;
    int pictures = 0;
    for (u32 n = 0; host_now_ns() < end; n++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        u32 r = (u32)(seed >> 33), size = 1u << (r & 3) >> (r & 3 ? 1 : 0),
            port = ports[(r >> 2) % ARRAY_LEN(ports)];
        switch (r >> 28 & 7) {
        case 0: port_read(m, port, size); break;
        case 1: mem_bus_write(m->mem, 0xa0000 + (r & 0x1ffff), seed >> 7, size); break;
        case 2: mem_bus_read(m->mem, 0xa0000 + (r & 0x1ffff), size); break;
        case 3:
            if (n % 64 == 0)
                vbe(r >> 8 & 15, (u32)(seed >> 40) & (r & 1 ? 0xffff : 0x7ff));
            break;
        default: port_write(m, port, (u32)(seed >> 20) & 0xffff, size); break;
        }
        if (n % 4000 == 0) {
            if (n % 8000)
                out(0x3c0, 0x20);
            draw();
            pictures++;
        }
    }
    CHECK_MSG(pictures > 10, "random accesses do no harm");
    device_reset(m->devices);
    set_mode(&mode3);
    CHECK(size_is(draw(), 720, 400));
}

int main(void)
{
    Config cfg;
    Error err;
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, VGA_ARENA_BYTES + (1 << 20), &err);
    vga_isa_create(m);
    test_text();
    test_text_details();
    test_cursor();
    test_mode13();
    test_mode12();
    test_old_graphics();
    test_vbe();
    test_limits();
    test_ports();
    test_save();
    test_changes();
    test_pci();
    test_random();
    machine_destroy(m);
    config_free(&cfg);
    return test_end();
}
