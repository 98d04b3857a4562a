/*
 * The main thread's side of the window: the machine's pictures are copied into the shared frame, the window's
 * input is taken from the queue and given to the machine.
 */
#include "window.h"

#include "../core/vm/ui.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pictures: called by the UI hub, machine lock held ---- */

static void mark_dirty(Window *w, int x0, int y0, int x1, int y1)
{
    bool none = w->x0 >= w->x1;
    w->x0 = none || x0 < w->x0 ? x0 : w->x0;
    w->y0 = none || y0 < w->y0 ? y0 : w->y0;
    w->x1 = none || x1 > w->x1 ? x1 : w->x1;
    w->y1 = none || y1 > w->y1 ? y1 : w->y1;
}

/* A window without memory for a picture keeps the old one; update() then has nothing that fits. */
static void front_resized(void *opaque, int width, int height)
{
    Window *w = opaque;
    u32 *frame = calloc((size_t)width * (size_t)height, sizeof *frame);
    host_lock(w->lock);
    if (frame && (width != w->width || height != w->height)) {
        free(w->frame);
        w->frame = frame;
        w->width = width;
        w->height = height;
        w->x0 = w->y0 = 0;
        w->x1 = width;
        w->y1 = height;
        w->resized = true;
        frame = NULL;
        window_notify(w);
    }
    host_unlock(w->lock);
    free(frame);
}

static void front_update(void *opaque, const Surface *s, int x, int y, int width, int height)
{
    Window *w = opaque;
    host_lock(w->lock);
    if (s->width == w->width && s->height == w->height && w->frame) {
        for (int row = y; row < y + height; row++)
            memcpy(w->frame + (size_t)row * (size_t)w->width + x,
                   s->pixels + (size_t)row * (size_t)s->stride + x, (size_t)width * sizeof(u32));
        mark_dirty(w, x, y, x + width, y + height);
        window_notify(w);
    }
    host_unlock(w->lock);
}

static void front_title(void *opaque)
{
    Window *w = opaque;
    const char *name = w->m->cfg.name, *state = machine_state_name(w->m);
    host_lock(w->lock);
    snprintf(w->title, sizeof w->title, "QEMU%s%.160s%s - %c%s", name ? " (" : "", name ? name : "",
             name ? ")" : "", state[0] - (state[0] >= 'a' && state[0] <= 'z' ? 'a' - 'A' : 0), state + 1);
    w->retitled = true;
    window_notify(w);
    host_unlock(w->lock);
}

static void front_pointer_mode(void *opaque, bool absolute, bool wanted)
{
    Window *w = opaque;
    UiConsole *visible = ui_console(w->m->ui, ui_selected(w->m->ui));
    host_lock(w->lock);
    w->mouse_wanted = wanted && !absolute;
    w->text_wanted = visible && !console_is_graphic(visible);
    w->retitled = true;
    window_notify(w);
    host_unlock(w->lock);
}

static const FrontEndOps front_ops = {
    .resized = front_resized,
    .update = front_update,
    .pointer_mode = front_pointer_mode,
    .title = front_title,
};

/* ---- input ---- */

/*
 * Ctrl-Alt-1 is the guest's screen, 2 the monitor, 3 and on the other consoles in their order, whatever order
 * they were made in and whichever of them are not there.
 */
static int console_of_key(Ui *ui, int key)
{
    UiConsole *c;
    int others = 2;
    for (int i = 0; (c = ui_console(ui, i)); i++) {
        bool monitor = !strcmp(console_name(c), "monitor");
        if (console_is_graphic(c) ? key == 1 : monitor ? key == 2 : key == ++others)
            return i;
    }
    return -1;
}

static void give(Window *w, const Input *in)
{
    Ui *ui = w->m->ui;
    switch (in->kind) {
    case IN_KEY:
        ui_key(ui, in->scancode, in->down);
        break;
    case IN_RELEASE_KEYS:
        ui_release_keys(ui);
        break;
    case IN_TEXT:
        ui_text(ui, in->text);
        break;
    case IN_SPECIAL:
        ui_special(ui, in->number);
        break;
    case IN_MOUSE:
        ui_mouse(ui, in->dx, in->dy, in->dz, in->buttons);
        break;
    case IN_SELECT:
        ui_select(ui, console_of_key(ui, in->number));
        break;
    case IN_QUIT:
        machine_request(w->m, REQ_QUIT);
        break;
    case IN_DROP: /* only the welcome screen takes files */
        free(in->path);
        break;
    }
}

static bool take(Window *w, Input *in)
{
    host_lock(w->lock);
    bool any = w->head != w->tail;
    if (any) {
        *in = w->queue[w->head++ % INPUT_QUEUE];
    } else if (w->keys_lost) {
        w->keys_lost = false;
        *in = (Input){.kind = IN_RELEASE_KEYS};
        any = true;
    }
    host_unlock(w->lock);
    return any;
}

static void on_input(void *opaque)
{
    Window *w = opaque;
    Input in;
    while (take(w, &in))
        give(w, &in);
}

/* ---- opening and closing ---- */

/* Batch files of SDL 1.2's days name its drivers. */
static void translate_environment(void)
{
    wchar_t driver[32];
    DWORD n = GetEnvironmentVariableW(L"SDL_VIDEODRIVER", driver, ARRAY_LEN(driver));
    if (n && n < ARRAY_LEN(driver) && (!wcsicmp(driver, L"windib") || !wcsicmp(driver, L"directx")))
        SetEnvironmentVariableW(L"SDL_VIDEODRIVER", L"windows");
}

Window *window_open(const Config *cfg, Error *err)
{
    translate_environment();
    Window *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->lock = host_lock_new();
    w->started = CreateEventW(NULL, TRUE, FALSE, NULL);
    w->ended = CreateEventW(NULL, TRUE, FALSE, NULL);
    w->input_event = CreateEventW(NULL, FALSE, FALSE, NULL);
    w->start_full_screen = cfg->full_screen;
    snprintf(w->title, sizeof w->title, "QEMU%s%.200s", cfg->name ? " - " : "", cfg->name ? cfg->name : "");
    w->thread = host_thread_start("window", window_thread, w);
    WaitForSingleObject(w->started, INFINITE);
    if (w->error.text[0]) {
        error_set(err, "no window: %s (-display none and -nographic do without)", w->error.text);
        window_close(w);
        return NULL;
    }
    return w;
}

char *window_welcome(Window *w)
{
    front_resized(w, WELCOME_WIDTH, WELCOME_HEIGHT);
    host_lock(w->lock);
    welcome_draw(w->frame);
    mark_dirty(w, 0, 0, WELCOME_WIDTH, WELCOME_HEIGHT);
    snprintf(w->title, sizeof w->title, "QEMU - nothing to boot yet");
    w->retitled = true;
    window_notify(w);
    host_unlock(w->lock);
    for (;;) {
        Input in;
        WaitForSingleObject(w->input_event, INFINITE);
        while (take(w, &in)) {
            if (in.kind == IN_DROP)
                return in.path;
            if (in.kind == IN_QUIT)
                return NULL;
        }
    }
}

void window_attach(Window *w, Machine *m)
{
    w->m = m;
    w->item = loop_add(w->input_event, on_input, w);
    SetEvent(w->input_event); /* what was typed before */
    ui_set_front_end(m->ui, &front_ops, w);
    front_title(w);
}

/* The program is about to end, and the window with it: taking it down in order may wait for other programs.
 */
void window_close(Window *w)
{
    enum { PATIENCE_MS = 3000 }; /* a window caught in a driver must not hold up the end */
    if (w->m)
        ui_set_front_end(w->m->ui, NULL, NULL);
    if (w->item)
        loop_remove(w->item);
    host_lock(w->lock);
    w->quit = true;
    window_notify(w);
    host_unlock(w->lock);
    WaitForSingleObject(w->ended, PATIENCE_MS);
}
