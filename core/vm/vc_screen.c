/*
 * A terminal's screen: UTF-8 comes in, cells of code page 437 come out. Understands the control sequences of
 * ECMA-48 (5th edition) that the Linux console, BIOSes and this program's monitor use: cursor, colour, erase,
 * insert, delete, scrolling region, status report. Not modelled: character sets other than the first, tabs
 * other than every 8 columns, mouse reports.
 */
#include "vc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The upper half of code page 437, and what stands for the control characters. */
static const u16 cp437_high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7,
    0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5,
    0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
    0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192,
    0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba,
    0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556,
    0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510,
    0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
    0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567,
    0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b,
    0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4,
    0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229,
    0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
    0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};
static const u16 cp437_low[32] = {
    0x0000, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022,
    0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a, 0x266b, 0x263c,
    0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8,
    0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};

static u8 to_cp437(u32 c)
{
    if (c < 0x7f)
        return (u8)c;
    for (int i = 0; i < 128; i++) {
        if (cp437_high[i] == c)
            return (u8)(0x80 + i);
    }
    for (int i = 1; i < 32; i++) {
        if (cp437_low[i] == c)
            return (u8)i;
    }
    switch (c) {                    /* what programs of today write for plain ASCII */
    case 0x2018: case 0x2019: return '\'';
    case 0x201c: case 0x201d: return '"';
    case 0x2010: case 0x2011: case 0x2012: case 0x2013: case 0x2014: return '-';
    case 0x2026: return '.';
    default: return '?';
    }
}

static int ring_lines(const VcScreen *s) { return s->rows + VC_HISTORY; }

static VcCell *line(const VcScreen *s, int y)
{
    int n = ring_lines(s);
    return s->cells + (size_t)((s->top + y + n) % n) * (size_t)s->cols;
}

const VcCell *vc_screen_line(const VcScreen *s, int y) { return line(s, y); }

static u8 attr(const VcScreen *s)
{
    u8 fg = (u8)(s->fg | (s->bold ? 8 : 0)), bg = s->bg;
    return s->inverse ? (u8)(bg | (fg & 7) << 4) : (u8)(fg | bg << 4);
}

/* Cells x0 .. x1 - 1 of line y become blank, in the background colour. */
static void blank(VcScreen *s, int y, int x0, int x1)
{
    VcCell *l = line(s, y);
    for (int x = x0; x < x1; x++)
        l[x] = (VcCell){ ' ', (u8)(7 | s->bg << 4) };
}

static void scroll_up(VcScreen *s, int top, int n)
{
    int bottom = s->region_bottom;
    if (n > bottom - top)
        n = bottom - top;
    /* the whole screen: lines go into the scroll-back */
    if (top == 0 && bottom == s->rows && s->region_top == 0) {
        for (int i = 0; i < n; i++) {
            s->top = (s->top + 1) % ring_lines(s);
            if (s->history < VC_HISTORY)
                s->history++;
            blank(s, s->rows - 1, 0, s->cols);
        }
        return;
    }
    for (int y = top; y < bottom - n; y++)
        memcpy(line(s, y), line(s, y + n), (size_t)s->cols * sizeof(VcCell));
    for (int y = bottom - n; y < bottom; y++)
        blank(s, y, 0, s->cols);
}

static void scroll_down(VcScreen *s, int top, int n)
{
    int bottom = s->region_bottom;
    if (n > bottom - top)
        n = bottom - top;
    for (int y = bottom - 1; y >= top + n; y--)
        memcpy(line(s, y), line(s, y - n), (size_t)s->cols * sizeof(VcCell));
    for (int y = top; y < top + n; y++)
        blank(s, y, 0, s->cols);
}

static void line_feed(VcScreen *s)
{
    if (s->y == s->region_bottom - 1)
        scroll_up(s, s->region_top, 1);
    else if (s->y < s->rows - 1)
        s->y++;
}

static void reset(VcScreen *s)
{
    s->fg = 7;
    s->bg = 0;
    s->bold = s->inverse = s->no_wrap = s->no_cursor = false;
    s->region_top = 0;
    s->region_bottom = s->rows;
    s->x = s->y = s->saved_x = s->saved_y = 0;
    s->parse = VC_GROUND;
}

static void put_char(VcScreen *s, u8 ch)
{
    if (s->x >= s->cols) {
        if (s->no_wrap) {
            s->x = s->cols - 1;
        } else {
            s->x = 0;
            line_feed(s);
        }
    }
    line(s, s->y)[s->x++] = (VcCell){ ch, attr(s) };
}

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static void go(VcScreen *s, int x, int y)
{
    s->x = clamp(x, 0, s->cols - 1);
    s->y = clamp(y, 0, s->rows - 1);
}

/* ---- control sequences ---- */

static void erase_display(VcScreen *s, int how)
{
    int x = s->x < s->cols ? s->x : s->cols - 1;
    if (how == 0) {
        blank(s, s->y, x, s->cols);
        for (int y = s->y + 1; y < s->rows; y++)
            blank(s, y, 0, s->cols);
    } else if (how == 1) {
        for (int y = 0; y < s->y; y++)
            blank(s, y, 0, s->cols);
        blank(s, s->y, 0, x + 1);
    } else if (how <= 3) {
        for (int y = 0; y < s->rows; y++)
            blank(s, y, 0, s->cols);
        if (how == 3)
            s->history = 0;
    }
}

static void erase_line(VcScreen *s, int how)
{
    int x = s->x < s->cols ? s->x : s->cols - 1;
    if (how <= 2)
        blank(s, s->y, how == 0 ? x : 0, how == 1 ? x + 1 : s->cols);
}

/* Characters from the cursor on move right (n > 0) or left. */
static void shift_line(VcScreen *s, int n)
{
    VcCell *l = line(s, s->y);
    int x = s->x < s->cols ? s->x : s->cols - 1, room = s->cols - x;
    if (n >= 0) {
        n = n > room ? room : n;
        memmove(l + x + n, l + x, (size_t)(room - n) * sizeof *l);
        blank(s, s->y, x, x + n);
    } else {
        n = -n > room ? room : -n;
        memmove(l + x, l + x + n, (size_t)(room - n) * sizeof *l);
        blank(s, s->y, s->cols - n, s->cols);
    }
}

static void select_graphics(VcScreen *s)
{
    static const u8 ansi[8] = { 0, 4, 2, 6, 1, 5, 3, 7 };   /* red and blue change places in the PC's order */
    for (int i = 0; i < s->params || i == 0; i++) {
        int p = s->param[i];
        if (p == 0) {
            s->fg = 7;
            s->bg = 0;
            s->bold = s->inverse = false;
        } else if (p == 1) {
            s->bold = true;
        } else if (p == 2 || p == 22) {
            s->bold = false;
        } else if (p == 7 || p == 27) {
            s->inverse = p == 7;
        } else if (p >= 30 && p <= 37) {
            s->fg = ansi[p - 30];
        } else if (p == 39) {
            s->fg = 7;
        } else if (p >= 40 && p <= 47) {
            s->bg = ansi[p - 40];
        } else if (p == 49) {
            s->bg = 0;
        } else if (p >= 90 && p <= 97) {
            s->fg = ansi[p - 90] | 8;
        } else if (p >= 100 && p <= 107) {
            s->bg = ansi[p - 100] | 8;
        } else if (p == 38 || p == 48) {
            break;        /* 256 colours and true colour: not here; their parameters mean nothing else */
        }
    }
}

static void status_report(VcScreen *s, int what)
{
    char text[32];
    if (what == 5)
        snprintf(text, sizeof text, "\033[0n");
    else if (what == 6)
        snprintf(text, sizeof text, "\033[%d;%dR", s->y + 1, (s->x < s->cols ? s->x : s->cols - 1) + 1);
    else
        return;
    if (s->answer)
        s->answer(s->answer_opaque, text);
}

static void private_mode(VcScreen *s, bool set)
{
    for (int i = 0; i < s->params; i++) {
        if (s->param[i] == 7)
            s->no_wrap = !set;
        else if (s->param[i] == 25)
            s->no_cursor = !set;
    }
}

static void set_region(VcScreen *s)
{
    int top = s->param[0] ? s->param[0] - 1 : 0;
    int bottom = s->params > 1 && s->param[1] ? s->param[1] : s->rows;
    if (bottom > s->rows)
        bottom = s->rows;
    if (top < bottom - 1) {
        s->region_top = top;
        s->region_bottom = bottom;
        go(s, 0, 0);
    }
}

static void control_sequence(VcScreen *s, u8 final)
{
    int p0 = s->param[0], n = p0 ? p0 : 1, p1 = s->params > 1 && s->param[1] ? s->param[1] : 1;
    int x = s->x < s->cols ? s->x : s->cols - 1;
    bool in_region = s->y >= s->region_top && s->y < s->region_bottom;

    if (s->question) {
        if (final == 'h' || final == 'l')
            private_mode(s, final == 'h');
        return;
    }
    switch (final) {
    case 'A': go(s, x, s->y - n); break;
    case 'B': case 'e': go(s, x, s->y + n); break;
    case 'C': case 'a': go(s, x + n, s->y); break;
    case 'D': go(s, x - n, s->y); break;
    case 'E': go(s, 0, s->y + n); break;
    case 'F': go(s, 0, s->y - n); break;
    case 'G': case '`': go(s, n - 1, s->y); break;
    case 'H': case 'f': go(s, p1 - 1, n - 1); break;
    case 'd': go(s, x, n - 1); break;
    case 'J': erase_display(s, p0); break;
    case 'K': erase_line(s, p0); break;
    case 'L': if (in_region) scroll_down(s, s->y, n); break;
    case 'M': if (in_region) scroll_up(s, s->y, n); break;
    case 'P': shift_line(s, -n); break;
    case '@': shift_line(s, n); break;
    case 'X': blank(s, s->y, x, clamp(x + n, 0, s->cols)); break;
    case 'S': scroll_up(s, s->region_top, n); break;
    case 'T': scroll_down(s, s->region_top, n); break;
    case 'm': select_graphics(s); break;
    case 'n': status_report(s, p0); break;
    case 'r': set_region(s); break;
    case 's': s->saved_x = x; s->saved_y = s->y; break;
    case 'u': go(s, s->saved_x, s->saved_y); break;
    default: break;
    }
}

static void escape(VcScreen *s, u8 c)
{
    s->parse = VC_GROUND;
    switch (c) {
    case '[':
        s->parse = VC_CSI;
        s->params = 0;
        s->question = false;
        memset(s->param, 0, sizeof s->param);
        break;
    case ']': case 'P': case '^': case '_': s->parse = VC_STRING; break;
    case '(': case ')': case '#': case '%': s->parse = VC_CHARSET; break;
    case '7': s->saved_x = s->x; s->saved_y = s->y; break;
    case '8': go(s, s->saved_x, s->saved_y); break;
    case 'D': line_feed(s); break;
    case 'E': s->x = 0; line_feed(s); break;
    case 'M':
        if (s->y == s->region_top)
            scroll_down(s, s->region_top, 1);
        else if (s->y)
            s->y--;
        break;
    case 'c':
        reset(s);
        erase_display(s, 2);
        break;
    default: break;
    }
}

static void csi_byte(VcScreen *s, u8 c)
{
    if (c >= '0' && c <= '9') {
        int i = s->params ? s->params - 1 : 0;
        s->params = i + 1;
        if (s->param[i] < 10000)
            s->param[i] = s->param[i] * 10 + (c - '0');
    } else if (c == ';' || c == ':') {
        if (!s->params)
            s->params = 1;
        if (s->params < VC_PARAMS)
            s->params++;
    } else if (c == '?' || c == '>' || c == '<' || c == '=') {
        s->question = true;
    } else if (c >= 0x40) {
        s->parse = VC_GROUND;
        control_sequence(s, c);
    }
}

static void control_char(VcScreen *s, u8 c)
{
    switch (c) {
    case '\b':
        if (s->x > s->cols - 1)
            s->x = s->cols - 1;
        if (s->x)
            s->x--;
        break;
    case '\t': s->x = clamp((s->x | 7) + 1, 0, s->cols - 1); break;
    case '\n': case 0x0b: case 0x0c: line_feed(s); break;
    case '\r': s->x = 0; break;
    case 0x1b: s->parse = VC_ESC; break;
    case 0x18: case 0x1a: s->parse = VC_GROUND; break;
    default: break;
    }
}

/* A byte that does not continue the character being collected shows a '?' in its place and is then looked
 * at afresh. */
static void ground_byte(VcScreen *s, u8 c)
{
    if (s->utf8_left) {
        if ((c & 0xc0) == 0x80) {
            s->utf8 = s->utf8 << 6 | (c & 0x3f);
            if (!--s->utf8_left)
                put_char(s, to_cp437(s->utf8));
            return;
        }
        s->utf8_left = 0;
        put_char(s, '?');
    }
    if (c < 0x20 || c == 0x7f) {
        control_char(s, c);
    } else if (c < 0x80) {
        put_char(s, c);
    } else if (c >= 0xc2 && c < 0xf5) {
        s->utf8_left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        s->utf8 = c & (0x3f >> s->utf8_left);
    } else {
        put_char(s, '?');
    }
}

void vc_screen_put(VcScreen *s, u8 byte)
{
    if (s->parse == VC_GROUND) {
        ground_byte(s, byte);
        return;
    }
    if (s->parse == VC_STRING || s->parse == VC_STRING_ESC) {
        if (byte == 0x07 || (s->parse == VC_STRING_ESC && byte == '\\'))
            s->parse = VC_GROUND;
        else
            s->parse = byte == 0x1b ? VC_STRING_ESC : VC_STRING;
        return;
    }
    if (byte < 0x20) {              /* control characters work in the middle of a sequence too */
        control_char(s, byte);
        return;
    }
    switch (s->parse) {
    case VC_ESC: escape(s, byte); break;
    case VC_CSI: csi_byte(s, byte); break;
    default: s->parse = VC_GROUND; break;
    }
}

bool vc_screen_init(VcScreen *s, int cols, int rows)
{
    memset(s, 0, sizeof *s);
    s->cols = cols;
    s->rows = rows;
    s->cells = calloc((size_t)ring_lines(s) * (size_t)cols, sizeof(VcCell));
    if (!s->cells)
        return false;
    reset(s);
    erase_display(s, 2);
    return true;
}
