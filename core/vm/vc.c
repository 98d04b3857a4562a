/*
 * Text consoles ("vc"): a terminal screen in the window for the monitor and the serial and parallel ports.
 * Ctrl-PgUp and Ctrl-PgDn look back through 10,000 lines. Only cells that differ from what was drawn are
 * drawn.
 */
#include "vc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chardev.h"
#include "machine.h"
#include "ui.h"

enum { CELL_W = 8, CELL_H = 16, TYPED = 1024 };

#define NOT_DRAWN 0xffffffffu

typedef struct {
    Chardev chr;
    UiConsole *con;
    VcScreen s;
    int back;                       /* lines the view is scrolled back */
    u32 *drawn;                     /* cell as drawn: ch, attr << 8, cursor << 24; NOT_DRAWN: not yet */
    u8 typed[TYPED];                /* keys the frontend has no room for yet */
    size_t typed_len;
    Timer answer;        /* replies are delivered from the main loop, not from inside the guest's write */
} Vc;

static const u32 colours[16] = {
    0x000000, 0x0000aa, 0x00aa00, 0x00aaaa, 0xaa0000, 0xaa00aa, 0xaa5500, 0xaaaaaa,
    0x555555, 0x5555ff, 0x55ff55, 0x55ffff, 0xff5555, 0xff55ff, 0xffff55, 0xffffff,
};

/* ---- drawing ---- */

static void draw_cell(Surface *sf, int x, int y, VcCell c, bool cursor)
{
    const u8 *glyph = ui_font() + c.ch * CELL_H;
    u32 fg = colours[c.attr & 15], bg = colours[c.attr >> 4];
    if (cursor) {
        u32 t = fg;
        fg = bg;
        bg = t;
    }
    u32 *p = sf->pixels + (size_t)(y * CELL_H) * (size_t)sf->stride + x * CELL_W;
    for (int r = 0; r < CELL_H; r++, p += sf->stride) {
        for (int b = 0; b < CELL_W; b++)
            p[b] = glyph[r] & (0x80 >> b) ? fg : bg;
    }
}

static void vc_refresh(void *opaque, bool full)
{
    Vc *vc = opaque;
    VcScreen *s = &vc->s;
    Surface *sf = console_surface(vc->con);
    if (sf->width != s->cols * CELL_W || sf->height != s->rows * CELL_H)
        return;                     /* there was no memory for the picture */
    for (int y = 0; y < s->rows; y++) {
        const VcCell *l = vc_screen_line(s, y - vc->back);
        u32 *drawn = vc->drawn + y * s->cols;
        int first = -1, last = 0;
        for (int x = 0; x < s->cols; x++) {
            int cx = s->x < s->cols ? s->x : s->cols - 1;
            bool cursor = !vc->back && !s->no_cursor && y == s->y && x == cx;
            u32 want = l[x].ch | (u32)l[x].attr << 8 | (u32)cursor << 24;
            if (drawn[x] == want && !full)
                continue;
            drawn[x] = want;
            draw_cell(sf, x, y, l[x], cursor);
            first = first < 0 ? x : first;
            last = x;
        }
        if (first >= 0)
            console_dirty(vc->con, first * CELL_W, y * CELL_H, (last - first + 1) * CELL_W, CELL_H);
    }
}

/* ---- keys ---- */

static void drain_typed(Vc *vc)
{
    while (vc->typed_len) {
        size_t n = chardev_room(&vc->chr);
        n = n < vc->typed_len ? n : vc->typed_len;
        if (!n)
            break;
        u8 part[TYPED];
        memcpy(part, vc->typed, n);
        vc->typed_len -= n;
        memmove(vc->typed, vc->typed + n, vc->typed_len);
        chardev_deliver(&vc->chr, part, n);
    }
}

/* A key that finds the buffer full is lost whole: half an escape sequence would be worse. */
static void type(Vc *vc, const char *text)
{
    size_t n = strlen(text);
    if (vc->back) {
        vc->back = 0;
        console_kick(vc->con);
    }
    if (n <= TYPED - vc->typed_len) {
        memcpy(vc->typed + vc->typed_len, text, n);
        vc->typed_len += n;
    }
    drain_typed(vc);
}

static void vc_key_char(void *opaque, const char *utf8)
{
    type(opaque, utf8);
}

static void vc_key_special(void *opaque, int key)
{
    static const char *const sequence[] = {
        [UI_KEY_UP] = "\033[A", [UI_KEY_DOWN] = "\033[B", [UI_KEY_RIGHT] = "\033[C", [UI_KEY_LEFT] = "\033[D",
        [UI_KEY_HOME] = "\033[1~", [UI_KEY_END] = "\033[4~", [UI_KEY_PGUP] = "\033[5~",
        [UI_KEY_PGDN] = "\033[6~",
        [UI_KEY_DELETE] = "\033[3~", [UI_KEY_ENTER] = "\r", [UI_KEY_BACKSPACE] = "\177", [UI_KEY_TAB] = "\t",
        [UI_KEY_ESC] = "\033",
    };
    Vc *vc = opaque;
    if (key == UI_KEY_SCROLL_UP || key == UI_KEY_SCROLL_DOWN) {
        vc->back += key == UI_KEY_SCROLL_UP ? vc->s.rows / 2 : -(vc->s.rows / 2);
        if (vc->back > vc->s.history)
            vc->back = vc->s.history;
        if (vc->back < 0)
            vc->back = 0;
        console_kick(vc->con);
    } else if (key > 0 && key < (int)ARRAY_LEN(sequence) && sequence[key]) {
        type(vc, sequence[key]);
    }
}

static const ConsoleOps vc_console = { vc_refresh, vc_key_char, vc_key_special };

/* ---- the character device ---- */

static size_t vc_write(Chardev *chr, const u8 *buf, size_t n)
{
    Vc *vc = CONTAINER_OF(chr, Vc, chr);
    for (size_t i = 0; i < n; i++)
        vc_screen_put(&vc->s, buf[i]);
    if (vc->back > vc->s.history)
        vc->back = vc->s.history;
    console_kick(vc->con);
    return n;
}

static void vc_accept(Chardev *chr)
{
    drain_typed(CONTAINER_OF(chr, Vc, chr));
}

static void vc_free(Vc *vc)
{
    free(vc->drawn);
    free(vc->s.cells);
    free(vc);
}

/* The UI may be gone already: it takes its consoles with it and says so in the machine. */
static void vc_close(Chardev *chr)
{
    Vc *vc = CONTAINER_OF(chr, Vc, chr);
    timer_cancel(&vc->answer);
    if (chr->m->ui)
        console_remove(vc->con);
    vc_free(vc);
}

static const ChrBackend vc_backend = {
    .name = "vc", .write = vc_write, .accept = vc_accept, .close = vc_close,
};

static void vc_answer(void *opaque, const char *text)
{
    Vc *vc = opaque;
    size_t n = strlen(text);
    if (n > TYPED - vc->typed_len)
        return;
    memcpy(vc->typed + vc->typed_len, text, n);
    vc->typed_len += n;
    timer_arm(&vc->answer, clock_ns(vc->chr.m, CLOCK_HOST));
}

static void answer_fire(void *opaque)
{
    drain_typed(opaque);
}

/* "80Cx25C" counts characters, "640x400" pixels. */
static bool parse_size(const char *text, int *cols, int *rows)
{
    char *end;
    long w = strtol(text, &end, 10);
    bool chars = *end == 'C' || *end == 'c';
    end += chars;
    if (*end != 'x' && *end != 'X')
        return false;
    long h = strtol(end + 1, &end, 10);
    bool row_chars = *end == 'C' || *end == 'c';
    end += row_chars;
    if (*end || w < 1 || w > 8192 || h < 1 || h > 8192)
        return false;
    *cols = (int)(chars ? w : w / CELL_W);
    *rows = (int)(row_chars ? h : h / CELL_H);
    return *cols >= 20 && *cols <= 400 && *rows >= 4 && *rows <= 200;
}

Chardev *vc_open(Machine *m, const char *label, const char *spec, Error *err)
{
    int cols = 80, rows = 25;
    if (!strncmp(spec, "vc:", 3) && spec[3] && !parse_size(spec + 3, &cols, &rows)) {
        error_set(err, "'%s': the size is written 80Cx25C or 640x400, from 20x4 to 400x200 characters", spec);
        return NULL;
    }
    Vc *vc = calloc(1, sizeof *vc);
    if (!vc || !vc_screen_init(&vc->s, cols, rows)
            || !(vc->drawn = malloc((size_t)cols * (size_t)rows * sizeof *vc->drawn))) {
        if (vc)
            vc_free(vc);
        error_set(err, "out of memory");
        return NULL;
    }
    for (int i = 0; i < cols * rows; i++)
        vc->drawn[i] = NOT_DRAWN;
    chardev_init(&vc->chr, &vc_backend, m, label);
    timer_init(&vc->answer, m, CLOCK_HOST, answer_fire, vc);
    vc->s.answer = vc_answer;
    vc->s.answer_opaque = vc;
    vc->con = console_create(m->ui, label, false, &vc_console, vc);
    if (vc->con)
        console_resize(vc->con, cols * CELL_W, rows * CELL_H);
    return &vc->chr;
}
