/*
 * VGA text modes: character, attribute, blinking, cursor, 8 or 9 dots, two fonts.
 * Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", alphanumeric modes.
 *
 * Lines of the picture that show the same row of characters are a band: usually one text row, cut when the
 * screen is scrolled by lines or split. Cells are compared with what the band showed before and drawn when
 * they differ.
 */
#include "vga_int.h"

#include <string.h>

enum { CELL_CURSOR = 1 << 16, CELL_HIDDEN = 1 << 17 };      /* beside character 0-7 and attribute 8-15 */

typedef struct {
    int y, lines;                   /* of the picture */
    u32 ma, ra;        /* ra of the first line; each further line, or pair of lines, is one more */
    int repeat;                     /* lines that show the same row scan */
    int pan;
} Band;

typedef struct {
    u32 at;                         /* memory address it stands at */
    u32 first, last;                /* row scans; first > last: off */
    bool on;                        /* at this moment of its blinking */
} Cursor;

static u32 read_cell(const Vga *v, u32 offset)
{
    if (v->window == WINDOW_TEXT && offset < VGA_TEXT_BYTES - 1)
        return load16(v->text + offset);
    return load16(v->vram + offset * 4);
}

static u8 font_row(const Vga *v, u32 cell, u32 ra)
{
    u32 a = v->draw.look.font[cell >> 11 & 1] + (cell & 0xff) * 32 + ra;
    return v->vram[(a & 0xffff) * 4 + 2];
}

/* The dots of a cell in one scan line, leftmost in bit 8, and whether the ninth (bit 0) counts. */
static u32 dots_of(const Vga *v, u32 cell, u32 ra, const Cursor *cur)
{
    const VgaLook *l = &v->draw.look;
    u32 dots = (u32)font_row(v, cell, ra) << 1;
    if ((l->attr_mode & 4) && (cell & 0xe0) == 0xc0)        /* line graphics join over the ninth dot */
        dots |= dots >> 1 & 1;
    if ((cell >> 8 & 7) == 1 && ra == l->underline)
        dots = 0x1ff;
    if (cell & CELL_HIDDEN)
        dots = 0;
    if ((cell & CELL_CURSOR) && ra >= cur->first && ra <= cur->last)
        dots = 0x1ff;
    return dots;
}

static void draw_cell(const Vga *v, Surface *sf, const Band *b, int col, u32 cell, const Cursor *cur)
{
    const VgaLook *l = &v->draw.look;
    const VgaMode *m = &v->draw.mode;
    int dots_wide = m->pixels * m->wide, x0 = col * dots_wide - b->pan;
    bool blinks = l->attr_mode & 8;
    u32 fg = l->pal16[cell >> 8 & 15], bg = l->pal16[cell >> 12 & (blinks ? 7 : 15)];
    for (int i = 0; i < b->lines; i++) {
        u32 dots = dots_of(v, cell, (b->ra + (u32)(i / b->repeat)) & 31, cur);
        u32 *row = sf->pixels + (size_t)(b->y + i) * (size_t)sf->stride;
        for (int d = 0; d < dots_wide; d++) {
            if (x0 + d >= 0 && x0 + d < m->width)
                row[x0 + d] = dots & (0x100u >> (m->wide == 1 ? d : d / m->wide)) ? fg : bg;
        }
    }
}

static void draw_band(Vga *v, Surface *sf, const Band *b, u32 *shadow, const Cursor *cur, bool full)
{
    const VgaMode *m = &v->draw.mode;
    int n = m->chars + (b->pan != 0), first = -1, last = 0;
    bool blinks = v->draw.look.attr_mode & 8, only_blink = true;
    for (int col = 0; col < n; col++) {
        u32 ma = (b->ma + (u32)col) & 0xffff;
        u32 cell = read_cell(v, vga_address(v, ma, b->ra));
        if (blinks && cell & 0x8000 && v->draw.blink)
            cell |= CELL_HIDDEN;
        if (ma == cur->at && cur->on)
            cell |= CELL_CURSOR;
        if (!full && cell == shadow[col])
            continue;
        only_blink &= !full && !((cell ^ shadow[col]) & 0xffff);
        shadow[col] = cell;
        draw_cell(v, sf, b, col, cell, cur);
        first = first < 0 ? col : first;
        last = col;
    }
    if (first < 0)
        return;
    int dots = m->pixels * m->wide, x = first * dots - b->pan, w = (last - first + 1) * dots;
    if (only_blink)
        console_blink(v->con, x, b->y, w, b->lines);
    else
        console_dirty(v->con, x, b->y, w, b->lines);
}

/* The band that begins at line y of the picture. */
static Band band_at(const Vga *v, int y)
{
    const VgaLine *l = &v->draw.line[y];
    int repeat = v->s.crtc[CR_MAX_SCAN] & 0x80 ? 2 : 1;
    Band b = { y, 1, l->ma, l->ra, repeat, l->pan };
    while (y + b.lines < v->draw.mode.height) {
        const VgaLine *next = l + b.lines;
        if (next->ma != l->ma || next->pan != l->pan || next->ra != l->ra + b.lines / repeat)
            break;
        b.lines++;
    }
    return b;
}

/* Bands are cut as before, if row scans and panning are as before wherever a band begins or ends. */
static bool cut_alike(const Vga *v)
{
    const VgaLine *a = v->draw.line, *b = v->draw.last;
    for (int y = 0; y < v->draw.mode.height; y++) {
        if (a[y].ra != b[y].ra || a[y].pan != b[y].pan)
            return false;
        if (y && (a[y].ma == a[y - 1].ma) != (b[y].ma == b[y - 1].ma))
            return false;
    }
    return true;
}

static Cursor find_cursor(Vga *v, bool *hide_blinking)
{
    const u8 *cr = v->s.crtc;
    u64 frame = vga_frame(v);
    *hide_blinking = frame >> 5 & 1;
    return (Cursor){
        .at = (u32)cr[CR_CURSOR_HI] << 8 | cr[CR_CURSOR_LO],
        .first = cr[CR_CURSOR_START] & 0x1f,
        .last = cr[CR_CURSOR_END] & 0x1f,
        .on = !(cr[CR_CURSOR_START] & 0x20) && (cr[CR_CURSOR_START] & 0x1f) <= (cr[CR_CURSOR_END] & 0x1f)
            && !(frame >> 4 & 1),
    };
}

void vga_draw_text(Vga *v, Surface *sf, bool full)
{
    VgaDraw *d = &v->draw;
    Cursor cur = find_cursor(v, &d->blink);
    if (v->font_changed || cur.first != d->cursor_first || cur.last != d->cursor_last || !cut_alike(v))
        full = true;
    v->font_changed = false;
    d->cursor_first = (u8)cur.first;
    d->cursor_last = (u8)cur.last;
    memcpy(d->last, d->line, sizeof d->last);
    u32 *shadow = d->shadow;
    for (int y = 0; y < d->mode.height;) {
        Band b = band_at(v, y);
        draw_band(v, sf, &b, shadow, &cur, full);
        shadow += d->shadow_words;
        y += b.lines;
    }
}
