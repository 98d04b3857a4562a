/*
 * What is on the screen: from registers and video memory to pixels. Main thread, machine lock held.
 *
 * A copy of the memory that was drawn from is kept; a line of the picture is drawn again only where its
 * memory differs from the copy. A change of mode, colours or panning draws all.
 *
 * The picture is the one that the monitor gets, dot by dot and scan line by scan line: a mode of 320x200
 * makes 640x400. Line compare (split screen), preset row scan, byte and pixel panning are taken line by line;
 * all registers are read once a picture, so effects that change them while the beam is on its way are not
 * shown.
 */
#include "vga_int.h"

#include <stdlib.h>
#include <string.h>

enum { PATIENCE = 6 };              /* refreshes to wait for a mode to be set up completely */

/* ---- the mode ---- */

static void analyse_vga(const Vga *v, VgaMode *m)
{
    const VgaState *s = &v->s;
    const u8 *cr = s->crtc;
    m->chars = cr[CR_HDISP_END] + 1;
    m->pixels = 8;
    m->wide = s->seq[SEQ_CLOCKING] & 8 ? 2 : 1;
    if (!(s->gc[GC_MISC] & 1)) {
        m->kind = VGA_TEXT;
        m->pixels = s->seq[SEQ_CLOCKING] & 1 ? 8 : 9;
    } else if (s->gc[GC_MODE] & 0x40) {
        m->kind = VGA_256;
        m->pixels = 4;
        m->wide *= 2;
    } else {
        m->kind = s->gc[GC_MODE] & 0x20 ? VGA_CGA : VGA_PLANAR;
    }
    m->width = m->chars * m->pixels * m->wide;
    m->height = (cr[CR_VDISP_END] | (cr[CR_OVERFLOW] & 0x02) << 7 | (cr[CR_OVERFLOW] & 0x40) << 3) + 1;
}

static void analyse(const Vga *v, VgaMode *m)
{
    memset(m, 0, sizeof *m);
    if (!(v->s.attr_index & ATTR_VIDEO_ON) || v->s.seq[SEQ_CLOCKING] & 0x20) {
        const Surface *sf = console_surface(v->con);
        m->kind = VGA_BLANK;
        m->width = sf->width;
        m->height = sf->height;
    } else if (vbe_on(v)) {
        m->bpp = v->s.vbe[VBE_BPP];
        m->kind = m->bpp == 4 ? VGA_PLANAR : VGA_LINEAR;
        m->width = v->s.vbe[VBE_XRES];
        m->height = v->s.vbe[VBE_YRES];
        m->pixels = 8;
        m->wide = 1;
        m->chars = m->width / 8;
    } else {
        analyse_vga(v, m);
    }
}

/* ---- colours ---- */

static u32 dac_colour(const Vga *v, unsigned index)
{
    const u8 *p = &v->s.palette[(index & v->s.pel_mask) * 3];
    if (v->s.vbe[VBE_ENABLE] & VBE_DAC8)
        return (u32)p[0] << 16 | (u32)p[1] << 8 | p[2];
    u32 rgb = 0;
    for (int i = 0; i < 3; i++)
        rgb = rgb << 8 | (u32)((p[i] << 2 | p[i] >> 4) & 0xff);
    return rgb;
}

static void make_look(const Vga *v, VgaLook *l)
{
    const u8 *attr = v->s.attr;
    u8 font = v->s.seq[SEQ_FONT];
    memset(l, 0, sizeof *l);
    for (unsigned i = 0; i < 256; i++)
        l->pal256[i] = dac_colour(v, i);
    for (unsigned i = 0; i < 16; i++) {
        unsigned index = attr[i & attr[ATTR_PLANES] & 15];
        if (attr[ATTR_MODE] & 0x80)
            index = (index & 0x0f) | (attr[ATTR_COLOR_SELECT] & 3u) << 4;
        l->pal16[i] = dac_colour(v, (index & 0x3f) | (attr[ATTR_COLOR_SELECT] & 0x0cu) << 4);
    }
    unsigned b = (font & 3) | (font & 0x10) >> 2, a = (font >> 2 & 3) | (font & 0x20) >> 3;
    l->font[0] = (u16)((b & 3) << 14 | (b & 4) << 11);
    l->font[1] = (u16)((a & 3) << 14 | (a & 4) << 11);
    l->underline = v->s.crtc[CR_UNDERLINE] & 0x1f;
    l->attr_mode = attr[ATTR_MODE];
}

/* ---- scan lines ---- */

static u8 panning(const Vga *v, const VgaMode *m)
{
    u8 pan = v->s.attr[ATTR_PANNING];
    int pixels = pan & 7;
    if (m->kind == VGA_256)
        pixels >>= 1;
    else if (m->pixels == 9)
        pixels = pan < 8 ? pan + 1 : 0;
    return (u8)(pixels * m->wide);
}

/* Lets the CRTC's counters run through a picture and notes where they stand at each line of it. */
static void run_counters(Vga *v, const VgaMode *m)
{
    const u8 *cr = v->s.crtc;
    u32 compare = cr[CR_LINE_COMPARE];
    compare |= (u32)(cr[CR_OVERFLOW] & 0x10) << 4 | (u32)(cr[CR_MAX_SCAN] & 0x40) << 3;
    u32 ma = (u32)cr[CR_START_HI] << 8 | cr[CR_START_LO];
    u32 last_row = cr[CR_MAX_SCAN] & 0x1f, row = cr[CR_PRESET_ROW] & 0x1f, pitch = cr[CR_OFFSET] * 2u;
    bool twice = cr[CR_MAX_SCAN] & 0x80, second = false;
    u8 pan = panning(v, m);

    ma += cr[CR_PRESET_ROW] >> 5 & 3;
    for (u32 y = 0; y < (u32)m->height && y < VGA_MAX_LINES; y++) {
        v->draw.line[y] = (VgaLine){ (u16)ma, (u8)row, pan };
        if (y == compare) {
            ma = row = 0;
            second = false;
            if (v->s.attr[ATTR_MODE] & 0x20)    /* the lower part is not panned */
                pan = 0;
            continue;
        }
        second = twice && !second;
        if (second)
            continue;
        if (row == last_row) {
            row = 0;
            ma += pitch;
        } else {
            row = (row + 1) & 0x1f;
        }
    }
}

u32 vga_address(const Vga *v, u32 ma, u32 ra)
{
    u8 mode = v->s.crtc[CR_MODE];
    u32 a = ma & 0xffff;
    if (!(v->s.crtc[CR_UNDERLINE] & 0x40) && !(mode & 0x40))    /* word mode */
        a = (a << 1 | (a >> (mode & 0x20 ? 15 : 13) & 1)) & 0xffff;
    if (!(mode & 1))
        a = (a & ~0x2000u) | (ra & 1) << 13;
    if (!(mode & 2))
        a = (a & ~0x4000u) | (ra & 2) << 13;
    return a;
}

/* ---- planar and packed pixels ---- */

/* Each of the four bytes that a character clock brings is a plane; n pixels of it go to px. */
static void pixels_planar(const VgaLook *l, u32 planes, u32 *px)
{
    for (int b = 7; b >= 0; b--) {
        u32 p = planes >> b;
        *px++ = l->pal16[(p & 1) | (p >> 7 & 2) | (p >> 14 & 4) | (p >> 21 & 8)];
    }
}

/* Two bits a pixel: planes 0 and 2 hold the first four pixels, 1 and 3 the others; 2 and 3 are the upper
 * two bits. */
static void pixels_cga(const VgaLook *l, u32 planes, u32 *px)
{
    for (int half = 0; half < 2; half++, planes >>= 8) {
        for (int b = 6; b >= 0; b -= 2) {
            u32 p = planes >> b;
            *px++ = l->pal16[(p & 3) | (p >> 14 & 0x0c)];
        }
    }
}

static void pixels_256(const VgaLook *l, u32 bytes, u32 *px)
{
    for (int i = 0; i < 4; i++, bytes >>= 8)
        *px++ = l->pal256[bytes & 0xff];
}

/* Draws character clocks first..last of a line, pan dots to the left of where they would be. */
static void draw_clocks(const Vga *v, Surface *sf, int y, const u32 *words, int first, int last, int pan)
{
    const VgaMode *m = &v->draw.mode;
    u32 *row = sf->pixels + (size_t)y * (size_t)sf->stride;
    for (int c = first; c <= last; c++) {
        u32 px[8];
        if (m->kind == VGA_256)
            pixels_256(&v->draw.look, words[c], px);
        else if (m->kind == VGA_CGA)
            pixels_cga(&v->draw.look, words[c], px);
        else
            pixels_planar(&v->draw.look, words[c], px);
        int dots = m->pixels * m->wide, x = c * dots - pan;
        for (int i = 0; i < dots; i++) {
            if (x + i >= 0 && x + i < m->width)
                row[x + i] = px[m->wide == 1 ? i : i / m->wide];
        }
    }
}

static void fetch(const Vga *v, const VgaLine *at, u32 *words, int n)
{
    for (int c = 0; c < n; c++)
        words[c] = load32(v->vram + vga_address(v, at->ma + (u32)c, at->ra) * 4);
}

static void fetch_vbe(const Vga *v, int y, u32 *words, int n)
{
    u32 a = (u32)(v->s.vbe[VBE_Y_OFFSET] + y) * vbe_stride(v) + v->s.vbe[VBE_X_OFFSET] / 8;
    for (int c = 0; c < n; c++)
        words[c] = load32(v->vram + ((a + (u32)c) * 4 & (VGA_VRAM_BYTES - 4)));
}

static void draw_planar(Vga *v, Surface *sf, bool full)
{
    VgaDraw *d = &v->draw;
    const VgaMode *m = &d->mode;
    bool vbe = m->bpp == 4;
    int n = m->chars + 1;           /* one more is seen when the line is panned */
    u32 words[2560 / 8 + 1];
    for (int y = 0; y < m->height; y++) {
        int pan = vbe ? v->s.vbe[VBE_X_OFFSET] & 7 : d->line[y].pan;
        u32 *shadow = d->shadow + (size_t)y * d->shadow_words;
        if (vbe)
            fetch_vbe(v, y, words, n);
        else
            fetch(v, &d->line[y], words, n);
        bool all = full || shadow[n] != (u32)pan;
        if (!all && !memcmp(words, shadow, (size_t)n * 4))
            continue;
        int first = 0, last = n - 1;
        while (!all && words[first] == shadow[first])
            first++;
        while (!all && words[last] == shadow[last])
            last--;
        memcpy(shadow, words, (size_t)n * 4);
        shadow[n] = (u32)pan;
        draw_clocks(v, sf, y, words, first, last, pan);
        int dots = m->pixels * m->wide;
        console_dirty(v->con, first * dots - pan, y, (last - first + 1) * dots, 1);
    }
}

/* ---- linear modes ---- */

static u32 from555(u32 p)
{
    u32 r = p >> 10 & 31, g = p >> 5 & 31, b = p & 31;
    return (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
}

static u32 from565(u32 p)
{
    u32 r = p >> 11, g = p >> 5 & 63, b = p & 31;
    return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

static void draw_pixels(const Vga *v, u32 *to, const u8 *from, int n)
{
    switch (v->draw.mode.bpp) {
    case 8:
        for (int i = 0; i < n; i++)
            to[i] = v->draw.look.pal256[from[i]];
        break;
    case 15:
        for (int i = 0; i < n; i++)
            to[i] = from555(load16(from + 2 * i));
        break;
    case 16:
        for (int i = 0; i < n; i++)
            to[i] = from565(load16(from + 2 * i));
        break;
    case 24:
        for (int i = 0; i < n; i++)
            to[i] = from[3 * i] | (u32)from[3 * i + 1] << 8 | (u32)from[3 * i + 2] << 16;
        break;
    default:
        for (int i = 0; i < n; i++)
            to[i] = load32(from + 4 * i) & 0xffffff;
    }
}

static void draw_linear(Vga *v, Surface *sf, bool full)
{
    VgaDraw *d = &v->draw;
    const VgaMode *m = &d->mode;
    size_t bytes = (size_t)(m->bpp + 7) / 8, row = (size_t)m->width * bytes, stride = vbe_stride(v);
    const u8 *from = v->vram + v->s.vbe[VBE_Y_OFFSET] * stride + v->s.vbe[VBE_X_OFFSET] * bytes;
    for (int y = 0; y < m->height; y++, from += stride) {
        u8 *shadow = (u8 *)(d->shadow + (size_t)y * d->shadow_words);
        if (!full && !memcmp(from, shadow, row))
            continue;
        size_t first = 0, last = row - 1;
        while (!full && first < last && from[first] == shadow[first])
            first++;
        while (!full && last > first && from[last] == shadow[last])
            last--;
        int x = (int)(first / bytes), n = (int)(last / bytes) - x + 1;
        memcpy(shadow + (size_t)x * bytes, from + (size_t)x * bytes, (size_t)n * bytes);
        draw_pixels(v, sf->pixels + (size_t)y * (size_t)sf->stride + x, shadow + (size_t)x * bytes, n);
        console_dirty(v->con, x, y, n, 1);
    }
}

static void draw_blank(Vga *v, Surface *sf, bool full)
{
    if (!full)
        return;
    for (int y = 0; y < sf->height; y++)
        memset(sf->pixels + (size_t)y * (size_t)sf->stride, 0, (size_t)sf->width * 4);
    console_dirty(v->con, 0, 0, sf->width, sf->height);
}

/* ---- a refresh ---- */

/* Room for the copy of what is drawn from; false: no memory. */
static bool make_shadow(VgaDraw *d, const VgaMode *m)
{
    size_t words = (size_t)m->chars + 2;
    if (m->kind == VGA_LINEAR)
        words = ((size_t)m->width * (size_t)((m->bpp + 7) / 8) + 3) / 4;
    size_t size = words * (size_t)m->height;
    d->shadow_words = words;
    if (size <= d->shadow_size)
        return true;
    u32 *p = malloc(size * 4);
    if (!p)
        return false;
    free(d->shadow);
    d->shadow = p;
    d->shadow_size = size;
    return true;
}

/* The guest sets a mode register by register: a picture of another size is shown only when the registers
 * rest. */
static bool wait_for_guest(Vga *v, const VgaMode *m)
{
    VgaDraw *d = &v->draw;
    bool other = m->width != d->mode.width || m->height != d->mode.height;
    bool moving = d->seen_writes != v->writes;
    d->seen_writes = v->writes;
    if (other && moving && d->waited < PATIENCE) {
        d->waited++;
        return true;
    }
    d->waited = 0;
    return false;
}

static void vga_refresh(void *opaque, bool full)
{
    Vga *v = opaque;
    VgaDraw *d = &v->draw;
    VgaMode m;
    VgaLook look;

    v->kicked = false;
    analyse(v, &m);
    if (!full && wait_for_guest(v, &m))
        return;
    Surface *sf = console_surface(v->con);
    if (sf->width != m.width || sf->height != m.height) {
        console_resize(v->con, m.width, m.height);
        full = true;
    }
    if (sf->width != m.width || sf->height != m.height || !make_shadow(d, &m))
        return;
    make_look(v, &look);
    full |= memcmp(&m, &d->mode, sizeof m) || memcmp(&look, &d->look, sizeof look);
    d->mode = m;
    d->look = look;
    if (m.kind != VGA_BLANK && m.kind != VGA_LINEAR && m.bpp == 0)
        run_counters(v, &m);
    switch (m.kind) {
    case VGA_BLANK:  draw_blank(v, sf, full); break;
    case VGA_TEXT:   vga_draw_text(v, sf, full); break;
    case VGA_LINEAR: draw_linear(v, sf, full); break;
    default:         draw_planar(v, sf, full); break;
    }
}

void vga_draw_create(Vga *v)
{
    static const ConsoleOps ops = { .refresh = vga_refresh };
    v->con = console_create(vga_machine(v)->ui, "screen", true, &ops, v);
    if (v->con)
        console_resize(v->con, 720, 400);
}

void vga_draw_destroy(Vga *v)
{
    if (v->con)
        console_remove(v->con);
    free(v->draw.shadow);
}
