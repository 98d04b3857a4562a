/*
 * The hub between window and machine: which console is visible, what of it has changed, where keys and mouse
 * go.
 *
 * Refresh: one timer on the host's clock. 60 times a second while the picture changes; 10 times when it has
 * not for a second (a blinking cursor is no change); never without a front end: then only console_update()
 * brings a surface up to date.
 */
#include "ui.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "ui_keys.h"

enum { MAX_CONSOLES = 16, MAX_RECTS = 32, MAX_SIDE = 8192 };

static const u64 fast_ns = NS_PER_SEC / 60, slow_ns = NS_PER_SEC / 10, patience_ns = NS_PER_SEC;

typedef struct {
    int x0, y0, x1, y1;             /* x1, y1 are outside */
} Rect;

struct UiConsole {
    Ui *ui;
    char name[32];
    bool graphic;
    const ConsoleOps *ops;          /* NULL: its owner is gone */
    void *opaque;
    Surface s;
    Rect rect[MAX_RECTS];           /* changed since it was last published */
    int rects;
};

struct Ui {
    Machine *m;
    UiConsole *console[MAX_CONSOLES];
    int consoles, selected;
    bool chosen;                    /* somebody has selected one: until then it is the first */
    const FrontEndOps *front;
    void *front_opaque;
    Timer refresh;
    u64 active_ns;                  /* when something was last seen to change */
    bool in_refresh;
    const InputSink *keyboard, *mouse;
    void *keyboard_opaque, *mouse_opaque;
    u16 down[UI_MAX_DOWN];          /* keys the guest believes to be pressed by the window */
    int downs;
    KeySender sender;
};

/* ---- publishing ---- */

static bool visible(const UiConsole *c)
{
    return c->ui->front && c->ui->console[c->ui->selected] == c;
}

static void publish(UiConsole *c)
{
    Ui *ui = c->ui;
    if (visible(c)) {
        for (int i = 0; i < c->rects; i++) {
            Rect r = c->rect[i];
            ui->front->update(ui->front_opaque, &c->s, r.x0, r.y0, r.x1 - r.x0, r.y1 - r.y0);
        }
    }
    c->rects = 0;
}

static void refresh_console(UiConsole *c, bool full)
{
    if (c->ops) {
        c->ui->in_refresh = true;
        c->ops->refresh(c->opaque, full);
        c->ui->in_refresh = false;
    }
    publish(c);
}

static void refresh_fire(void *opaque)
{
    Ui *ui = opaque;
    if (!ui->front || !ui->consoles)
        return;
    refresh_console(ui->console[ui->selected], false);
    u64 now = clock_ns(ui->m, CLOCK_HOST);
    timer_arm(&ui->refresh, now + (now - ui->active_ns < patience_ns ? fast_ns : slow_ns));
}

/* Somebody did something: look often again, and soon. */
static void wake_refresh(Ui *ui)
{
    if (!ui->front || ui->in_refresh)
        return;
    u64 now = clock_ns(ui->m, CLOCK_HOST);
    ui->active_ns = now;
    if (!timer_armed(&ui->refresh) || ui->refresh.when > now + fast_ns)
        timer_arm(&ui->refresh, now + fast_ns);
}

static void tell_pointer(Ui *ui)
{
    if (ui->front && ui->front->pointer_mode) {
        bool graphic = ui->consoles && ui->console[ui->selected]->graphic;
        ui->front->pointer_mode(ui->front_opaque, false, ui->mouse && graphic);
    }
}

static void show_selected(Ui *ui)
{
    if (!ui->front || !ui->consoles)
        return;
    UiConsole *c = ui->console[ui->selected];
    ui->front->resized(ui->front_opaque, c->s.width, c->s.height);
    refresh_console(c, true);
    console_dirty(c, 0, 0, c->s.width, c->s.height);
    publish(c);
    tell_pointer(ui);
    wake_refresh(ui);
}

/* ---- making and ending ---- */

Ui *ui_create(Machine *m)
{
    Ui *ui = calloc(1, sizeof *ui);
    if (!ui)
        return NULL;
    ui->m = m;
    timer_init(&ui->refresh, m, CLOCK_HOST, refresh_fire, ui);
    key_sender_init(&ui->sender, m);
    return ui;
}

void ui_destroy(Ui *ui)
{
    if (!ui)
        return;
    timer_cancel(&ui->refresh);
    key_sender_end(&ui->sender);
    for (int i = 0; i < ui->consoles; i++) {
        free(ui->console[i]->s.pixels);
        free(ui->console[i]);
    }
    if (ui->m->ui == ui)
        ui->m->ui = NULL;
    free(ui);
}

/* The guest's screen comes first, then the monitor, the serial ports, the rest: Ctrl-Alt-1, -2, -3 ... */
static int rank(const UiConsole *c)
{
    static const char *const order[] = { "monitor", "serial", "parallel" };
    if (c->graphic)
        return 0;
    for (int i = 0; i < (int)ARRAY_LEN(order); i++) {
        if (!strncmp(c->name, order[i], strlen(order[i])))
            return 1 + i;
    }
    return 1 + (int)ARRAY_LEN(order);
}

static void insert_console(Ui *ui, UiConsole *c)
{
    UiConsole *was = ui->consoles ? ui->console[ui->selected] : NULL;
    int at = ui->consoles++;
    for (; at && rank(ui->console[at - 1]) > rank(c); at--)
        ui->console[at] = ui->console[at - 1];
    ui->console[at] = c;
    if (ui->chosen && was == ui->console[ui->selected])
        return;
    for (ui->selected = 0; ui->chosen && ui->console[ui->selected] != was;)
        ui->selected++;
    show_selected(ui);
}

UiConsole *console_create(Ui *ui, const char *name, bool graphic, const ConsoleOps *ops, void *opaque)
{
    if (!ui || ui->consoles == MAX_CONSOLES)
        return NULL;
    UiConsole *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->ui = ui;
    snprintf(c->name, sizeof c->name, "%s", name);
    c->graphic = graphic;
    c->ops = ops;
    c->opaque = opaque;
    console_resize(c, 640, 400);
    if (!c->s.pixels) {
        free(c);
        return NULL;
    }
    insert_console(ui, c);
    return c;
}

void console_remove(UiConsole *c)
{
    if (c)
        c->ops = NULL;
}

/* ---- a console's surface ---- */

Surface *console_surface(UiConsole *c) { return &c->s; }

const char *console_name(UiConsole *c) { return c->name; }

bool console_is_graphic(UiConsole *c) { return c->graphic; }

void console_resize(UiConsole *c, int width, int height)
{
    width = width < 1 ? 1 : width > MAX_SIDE ? MAX_SIDE : width;
    height = height < 1 ? 1 : height > MAX_SIDE ? MAX_SIDE : height;
    u32 *pixels = calloc((size_t)width * (size_t)height, 4);
    if (!pixels)                    /* no memory: the old size stays, and who draws looks at the size */
        return;
    free(c->s.pixels);
    c->s = (Surface){ pixels, width, height, width };
    c->rects = 0;
    if (visible(c))
        c->ui->front->resized(c->ui->front_opaque, width, height);
    console_dirty(c, 0, 0, width, height);
}

static void add_rect(UiConsole *c, Rect r)
{
    if (c->rects) {                 /* runs of changes side by side or below each other become one */
        Rect *l = &c->rect[c->rects - 1];
        bool touches = r.x0 <= l->x1 && l->x0 <= r.x1 && r.y0 <= l->y1 && l->y0 <= r.y1;
        if (touches || c->rects == MAX_RECTS) {
            l->x0 = r.x0 < l->x0 ? r.x0 : l->x0;
            l->y0 = r.y0 < l->y0 ? r.y0 : l->y0;
            l->x1 = r.x1 > l->x1 ? r.x1 : l->x1;
            l->y1 = r.y1 > l->y1 ? r.y1 : l->y1;
            return;
        }
    }
    c->rect[c->rects++] = r;
}

void console_blink(UiConsole *c, int x, int y, int w, int h)
{
    Rect r = { x < 0 ? 0 : x, y < 0 ? 0 : y, x + w, y + h };
    if (r.x1 > c->s.width)
        r.x1 = c->s.width;
    if (r.y1 > c->s.height)
        r.y1 = c->s.height;
    if (r.x0 < r.x1 && r.y0 < r.y1)
        add_rect(c, r);
}

void console_dirty(UiConsole *c, int x, int y, int w, int h)
{
    console_blink(c, x, y, w, h);
    if (c->ui->front)
        c->ui->active_ns = clock_ns(c->ui->m, CLOCK_HOST);
}

void console_kick(UiConsole *c)
{
    if (c && visible(c))
        wake_refresh(c->ui);
}

void console_update(UiConsole *c)
{
    refresh_console(c, true);
}

void ui_select(Ui *ui, int number)
{
    if (number < 0 || number >= ui->consoles || number == ui->selected)
        return;
    ui->chosen = true;
    ui_release_keys(ui);            /* the Ctrl-Alt that switched must not stay pressed in the guest */
    ui->selected = number;
    show_selected(ui);
}

int ui_selected(Ui *ui) { return ui->selected; }

UiConsole *ui_console(Ui *ui, int number)
{
    return ui && number >= 0 && number < ui->consoles ? ui->console[number] : NULL;
}

void ui_set_front_end(Ui *ui, const FrontEndOps *ops, void *opaque)
{
    ui->front = ops;
    ui->front_opaque = opaque;
    timer_cancel(&ui->refresh);
    show_selected(ui);
}

void ui_state_changed(Ui *ui)
{
    if (ui && ui->front && ui->front->title)
        ui->front->title(ui->front_opaque);
}

/* ---- input ---- */

static bool guest_visible(const Ui *ui)
{
    return ui->consoles && ui->console[ui->selected]->graphic;
}

/* Keeps the list of pressed keys; false: a release of what was not pressed, or too many at once. */
static bool note_key(Ui *ui, u16 scancode, bool down)
{
    int i = 0;
    while (i < ui->downs && ui->down[i] != scancode)
        i++;
    if (down) {
        if (i < ui->downs)
            return true;            /* auto-repeat */
        if (ui->downs == UI_MAX_DOWN)
            return false;
        ui->down[ui->downs++] = scancode;
        return true;
    }
    if (i == ui->downs)
        return false;
    memmove(&ui->down[i], &ui->down[i + 1], (size_t)(ui->downs - i - 1) * sizeof ui->down[0]);
    ui->downs--;
    return true;
}

void ui_key(Ui *ui, u16 scancode, bool down)
{
    if (!down || guest_visible(ui))
        ui_send_key(ui, scancode, down);
    else
        wake_refresh(ui);
}

void ui_send_key(Ui *ui, u16 scancode, bool down)
{
    wake_refresh(ui);
    if (note_key(ui, scancode, down) && ui->keyboard)
        ui->keyboard->key(ui->keyboard_opaque, scancode, down);
}

void ui_release_keys(Ui *ui)
{
    while (ui->downs)
        ui_key(ui, ui->down[ui->downs - 1], false);
}

void ui_text(Ui *ui, const char *utf8)
{
    UiConsole *c = ui_console(ui, ui->selected);
    if (c && c->ops && c->ops->key_char)
        c->ops->key_char(c->opaque, utf8);
    wake_refresh(ui);
}

void ui_special(Ui *ui, int key)
{
    UiConsole *c = ui_console(ui, ui->selected);
    if (c && c->ops && c->ops->key_special)
        c->ops->key_special(c->opaque, key);
    wake_refresh(ui);
}

void ui_send_mouse(Ui *ui, int dx, int dy, int dz, unsigned buttons)
{
    wake_refresh(ui);
    if (ui->mouse)
        ui->mouse->mouse(ui->mouse_opaque, dx, dy, dz, buttons);
}

void ui_mouse(Ui *ui, int dx, int dy, int dz, unsigned buttons)
{
    if (guest_visible(ui))
        ui_send_mouse(ui, dx, dy, dz, buttons);
}

void ui_set_keyboard(Ui *ui, const InputSink *sink, void *opaque)
{
    if (!ui)
        return;
    ui->keyboard = sink;
    ui->keyboard_opaque = opaque;
    key_sender_sink(&ui->sender, sink, opaque);
}

void ui_set_mouse(Ui *ui, const InputSink *sink, void *opaque)
{
    if (!ui)
        return;
    ui->mouse = sink;
    ui->mouse_opaque = opaque;
    tell_pointer(ui);
}

bool ui_send_keys(Ui *ui, const char *combination, unsigned hold_ms, Error *err)
{
    return key_sender_add(&ui->sender, combination, hold_ms, err);
}
