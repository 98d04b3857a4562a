/*
 * The window thread: SDL, and nothing of the machine. Everything that the main thread wants arrives as a
 * posted message and is done in the window procedure, so the picture goes on while Windows is inside a menu
 * or drags the window.
 *
 * The picture is drawn pixel by pixel: in its own size, or enlarged by a whole number, or shrunk where the
 * screen is smaller, always in its own proportions. GDI does it; there is no graphics driver to wait for and
 * none to lose.
 */
#include "window.h"

#include "../core/vm/ui.h"

#define SDL_MAIN_HANDLED
#include <SDL2/SDL.h>
#include <SDL2/SDL_syswm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WM_NOTIFY_US = WM_APP + 1, MAX_SCALE = 8 };

typedef struct {
    Window *w;
    SDL_Window *win;
    WNDPROC sdl_proc;
    int width, height; /* of the guest's picture */
    SDL_Rect drawn;    /* where the picture was drawn last, in the window */
    int screen_width, screen_height;
    bool grabbed, full_screen, mouse_wanted, text_wanted;
    unsigned buttons;  /* of the mouse that are down, as in ui_mouse() */
    bool combination;  /* Ctrl and Alt are down, and nothing else was pressed since */
    bool swallow_text; /* the key that is down was a command: it types nothing */
    bool ended;
} View;

static View view; /* the window procedure has no argument for it; there is one window */

/* ---- towards the main thread ---- */

void window_input(Window *w, const Input *in)
{
    host_lock(w->lock);
    Input *last = w->head != w->tail ? &w->queue[(w->tail - 1) % INPUT_QUEUE] : NULL;
    if (last && in->kind == IN_MOUSE && last->kind == IN_MOUSE && in->buttons == last->buttons) {
        last->dx += in->dx;
        last->dy += in->dy;
        last->dz += in->dz;
    } else if (w->tail - w->head < INPUT_QUEUE) {
        w->queue[w->tail++ % INPUT_QUEUE] = *in;
    } else if (in->kind == IN_QUIT) {
        loop_request_quit();
    } else {
        w->keys_lost |= in->kind == IN_KEY || in->kind == IN_RELEASE_KEYS;
        free(in->path);
    }
    host_unlock(w->lock);
    SetEvent(w->input_event);
}

static void input(Input in)
{
    window_input(view.w, &in);
}

void window_notify(Window *w)
{
    if (!w->posted && w->hwnd)
        w->posted = PostMessageW(w->hwnd, WM_NOTIFY_US, 0, 0) != 0;
}

/* ---- drawing ---- */

static int whole_scale(int screen_w, int screen_h, int w, int h)
{
    int x = screen_w / w, y = screen_h / h, scale = x < y ? x : y;
    return scale < MAX_SCALE ? scale : MAX_SCALE;
}

/* Where a picture goes on a screen. */
static SDL_Rect place(int screen_w, int screen_h, int w, int h)
{
    int scale = whole_scale(screen_w, screen_h, w, h);
    SDL_Rect r = {0, 0, w * scale, h * scale};
    if (!scale) {
        r.w = screen_w;
        r.h = (int)((s64)h * screen_w / w);
        if (r.h > screen_h) {
            r.h = screen_h;
            r.w = (int)((s64)w * screen_h / h);
        }
        r.w = r.w ? r.w : 1;
        r.h = r.h ? r.h : 1;
    }
    r.x = (screen_w - r.w) / 2;
    r.y = (screen_h - r.h) / 2;
    return r;
}

/* The lock is held. Copies the changed part to the window's surface; *changed is what of the window it is. */
static void blit(Window *w, SDL_Surface *screen, const SDL_Rect *at, SDL_Rect *changed)
{
    int scale = at->w / w->width;
    SDL_Rect from = {w->x0, w->y0, w->x1 - w->x0, w->y1 - w->y0};
    SDL_Surface *frame = SDL_CreateRGBSurfaceWithFormatFrom(w->frame, w->width, w->height, 32, w->width * 4,
                                                            SDL_PIXELFORMAT_RGB888);
    if (!frame)
        return;
    *changed = (SDL_Rect){at->x + from.x * scale, at->y + from.y * scale, from.w * scale, from.h * scale};
    if (!scale) {
        from = (SDL_Rect){0, 0, w->width, w->height};
        *changed = *at;
    }
    SDL_Rect to = *changed;
    if (scale == 1)
        SDL_BlitSurface(frame, &from, screen, &to);
    else
        SDL_BlitScaled(frame, &from, screen, &to);
    SDL_FreeSurface(frame);
}

static void draw(bool all)
{
    Window *w = view.w;
    SDL_Surface *screen = SDL_GetWindowSurface(view.win);
    if (!screen)
        return;
    host_lock(w->lock);
    if (!w->frame) {
        host_unlock(w->lock);
        return;
    }
    SDL_Rect at = place(screen->w, screen->h, w->width, w->height), changed = {0, 0, 0, 0};
    all |= !SDL_RectEquals(&at, &view.drawn) || screen->w != view.screen_width ||
           screen->h != view.screen_height;
    if (all) {
        w->x0 = w->y0 = 0;
        w->x1 = w->width;
        w->y1 = w->height;
        SDL_FillRect(screen, NULL, 0);
    }
    if (w->x0 < w->x1 && w->y0 < w->y1)
        blit(w, screen, &at, &changed);
    w->x0 = w->x1 = w->y0 = w->y1 = 0;
    host_unlock(w->lock);
    view.drawn = at;
    view.screen_width = screen->w;
    view.screen_height = screen->h;
    if (all)
        SDL_UpdateWindowSurface(view.win);
    else if (changed.w > 0)
        SDL_UpdateWindowSurfaceRects(view.win, &changed, 1);
}

/* ---- the window itself ---- */

/* On a screen with small pixels a picture is enlarged from the beginning. */
static int screen_scale(void)
{
    float dpi;
    if (SDL_GetDisplayDPI(0, &dpi, NULL, NULL) || dpi < 96)
        return 1;
    return (int)(dpi / 96) < MAX_SCALE ? (int)(dpi / 96) : MAX_SCALE;
}

/* The window follows the guest's mode, as much enlarged as it was before; a maximised one stays as it is. */
static void follow_mode(int width, int height)
{
    int old_w, old_h, scale = screen_scale();
    SDL_GetWindowSize(view.win, &old_w, &old_h);
    if (view.width)
        scale = whole_scale(old_w, old_h, view.width, view.height);
    view.width = width;
    view.height = height;
    if (view.full_screen || (SDL_GetWindowFlags(view.win) & SDL_WINDOW_MAXIMIZED))
        return;
    SDL_Rect bounds;
    int display = SDL_GetWindowDisplayIndex(view.win);
    if (display < 0 || SDL_GetDisplayUsableBounds(display, &bounds))
        bounds = (SDL_Rect){0, 0, 1 << 15, 1 << 15};
    int fits = whole_scale(bounds.w, bounds.h, width, height);
    scale = scale < 1 ? 1 : scale;
    scale = scale > fits ? fits : scale;
    SDL_Rect r =
        scale ? (SDL_Rect){0, 0, width * scale, height * scale} : place(bounds.w, bounds.h, width, height);
    SDL_SetWindowSize(view.win, r.w, r.h);
}

static void set_title(void)
{
    char name[256], title[400];
    host_lock(view.w->lock);
    memcpy(name, view.w->title, sizeof name);
    host_unlock(view.w->lock);
    const char *keys = view.grabbed ? " - Ctrl-Alt releases the mouse" : "";
    if (!view.grabbed && view.mouse_wanted)
        keys = " - Ctrl-Alt or a click takes the mouse";
    else if (!view.grabbed && view.text_wanted)
        keys = " - Ctrl-Alt-1 shows the guest";
    snprintf(title, sizeof title, "%s%s", name, keys);
    SDL_SetWindowTitle(view.win, title);
}

/* Movements without a pointer: Windows' raw input, or, where that is missing, a pointer held in the middle.
 */
static void grab(bool on)
{
    if (on == view.grabbed || !view.win)
        return;
    view.grabbed = on;
    if (!on && view.buttons)
        input((Input){.kind = IN_MOUSE});
    view.buttons = 0;
    if (SDL_SetRelativeMouseMode(on) && on) {
        SDL_SetHint(SDL_HINT_MOUSE_RELATIVE_MODE_WARP, "1");
        SDL_SetRelativeMouseMode(true);
    }
    SDL_SetWindowKeyboardGrab(view.win, on);
    set_title();
}

static void toggle_full_screen(void)
{
    view.full_screen = !view.full_screen;
    SDL_SetWindowFullscreen(view.win, view.full_screen ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
    if (!view.full_screen)
        follow_mode(view.width, view.height);
    draw(true);
}

/* The main thread has changed something. */
static void on_notify(void)
{
    Window *w = view.w;
    host_lock(w->lock);
    w->posted = false;
    bool quit = w->quit, resized = w->resized, retitled = w->retitled;
    int width = w->width, height = w->height;
    bool mouse_wanted = w->mouse_wanted, text_wanted = w->text_wanted;
    w->resized = w->retitled = false;
    host_unlock(w->lock);
    if (quit) {
        SDL_Event e = {.type = SDL_USEREVENT};
        view.ended = true;
        SDL_PushEvent(&e);
        return;
    }
    if (resized)
        follow_mode(width, height);
    if (text_wanted != view.text_wanted) {
        view.text_wanted = text_wanted;
        if (text_wanted)
            SDL_StartTextInput();
        else
            SDL_StopTextInput(); /* no input method between keyboard and guest */
    }
    view.mouse_wanted = mouse_wanted;
    if (!mouse_wanted)
        grab(false);
    if (retitled)
        set_title();
    draw(resized);
}

static LRESULT CALLBACK window_proc(HWND hwnd, UINT message, WPARAM wparam, LPARAM lparam)
{
    switch (message) {
    case WM_NOTIFY_US:
        on_notify();
        if (view.ended)
            SendMessageW(hwnd, WM_CANCELMODE, 0, 0); /* out of a menu or a drag */
        return 0;
    case WM_CLOSE: /* at once, even if Windows is busy dragging */
        input((Input){.kind = IN_QUIT});
        return 0;
    case WM_ENDSESSION:
        if (wparam)
            console_end_session();
        return 0;
    default:
        return CallWindowProcW(view.sdl_proc, hwnd, message, wparam, lparam);
    }
}

/* ---- events ---- */

static void on_special_keys(const SDL_KeyboardEvent *e)
{
    int key = keys_special(e->keysym.sym, e->keysym.mod & KMOD_CTRL);
    bool letter = e->keysym.sym >= SDLK_a && e->keysym.sym <= SDLK_z;
    if (key)
        input((Input){.kind = IN_SPECIAL, .number = key});
    else if (letter && (e->keysym.mod & KMOD_CTRL) && !(e->keysym.mod & KMOD_ALT))
        input((Input){.kind = IN_TEXT, .text = {(char)(e->keysym.sym - SDLK_a + 1)}});
}

/* Ctrl-Alt and a key: true: it was one of ours. AltGr arrives as Ctrl and the right Alt: only the left one
 * counts. */
static bool on_command(const SDL_KeyboardEvent *e)
{
    if (!(e->keysym.mod & KMOD_CTRL) || !(e->keysym.mod & KMOD_LALT))
        return false;
    SDL_Scancode s = e->keysym.scancode;
    bool digit = s >= SDL_SCANCODE_1 && s <= SDL_SCANCODE_9;
    if (!digit && e->keysym.sym != SDLK_f)
        return false;
    if (e->repeat)
        return true;
    view.swallow_text = true;
    if (digit)
        input((Input){.kind = IN_SELECT, .number = s - SDL_SCANCODE_1 + 1});
    else
        toggle_full_screen();
    return true;
}

static bool is_modifier(SDL_Scancode s)
{
    return s == SDL_SCANCODE_LCTRL || s == SDL_SCANCODE_RCTRL || s == SDL_SCANCODE_LALT;
}

static void on_key(const SDL_KeyboardEvent *e)
{
    SDL_Scancode s = e->keysym.scancode;
    bool down = e->type == SDL_KEYDOWN;
    if (is_modifier(s)) {
        if (down && !e->repeat) {
            view.combination = (e->keysym.mod & KMOD_CTRL) && (e->keysym.mod & KMOD_LALT);
        } else if (!down && view.combination) {
            view.combination = false;
            grab(!view.grabbed && view.mouse_wanted);
        }
    } else if (down) {
        view.combination = false;
        if (on_command(e))
            return;
    } else {
        view.swallow_text = false;
    }
    u16 scancode = keys_scancode(s);
    if (scancode)
        input((Input){.kind = IN_KEY, .scancode = scancode, .down = down});
    if (down && view.text_wanted)
        on_special_keys(e);
}

static unsigned pc_button(Uint8 sdl)
{
    return sdl == SDL_BUTTON_LEFT ? 1 : sdl == SDL_BUTTON_RIGHT ? 2 : sdl == SDL_BUTTON_MIDDLE ? 4 : 0;
}

/* Buttons are counted from the events: SDL's own state is already ahead of them, and a short click would be
 * lost. */
static void on_button(const SDL_MouseButtonEvent *e)
{
    if (!view.grabbed) {
        if (e->type == SDL_MOUSEBUTTONUP && e->button == SDL_BUTTON_LEFT && view.mouse_wanted)
            grab(true);
        return;
    }
    if (e->type == SDL_MOUSEBUTTONDOWN)
        view.buttons |= pc_button(e->button);
    else
        view.buttons &= ~pc_button(e->button);
    input((Input){.kind = IN_MOUSE, .buttons = view.buttons});
}

/* A PC's mouse counts the wheel towards the person as positive, SDL away from him. */
static void on_wheel(const SDL_MouseWheelEvent *e)
{
    if (view.text_wanted)
        input((Input){.kind = IN_SPECIAL, .number = e->y > 0 ? UI_KEY_SCROLL_UP : UI_KEY_SCROLL_DOWN});
    else if (view.grabbed)
        input((Input){.kind = IN_MOUSE, .dz = -e->y, .buttons = view.buttons});
}

static void on_window(const SDL_WindowEvent *e)
{
    switch (e->event) {
    case SDL_WINDOWEVENT_FOCUS_LOST:
        view.combination = false;
        grab(false);
        input((Input){.kind = IN_RELEASE_KEYS});
        break;
    case SDL_WINDOWEVENT_EXPOSED:
    case SDL_WINDOWEVENT_SIZE_CHANGED:
    case SDL_WINDOWEVENT_RESTORED:
        draw(true);
        break;
    default:
        break;
    }
}

static void on_event(const SDL_Event *e)
{
    Input in;
    switch (e->type) {
    case SDL_QUIT:
        input((Input){.kind = IN_QUIT});
        break;
    case SDL_WINDOWEVENT:
        on_window(&e->window);
        break;
    case SDL_KEYDOWN:
    case SDL_KEYUP:
        on_key(&e->key);
        break;
    case SDL_TEXTINPUT:
        in = (Input){.kind = IN_TEXT};
        snprintf(in.text, sizeof in.text, "%s", e->text.text);
        if (view.text_wanted && !view.swallow_text)
            input(in);
        break;
    case SDL_MOUSEMOTION:
        if (view.grabbed)
            input((Input){
                .kind = IN_MOUSE, .dx = e->motion.xrel, .dy = e->motion.yrel, .buttons = view.buttons});
        break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP:
        on_button(&e->button);
        break;
    case SDL_MOUSEWHEEL:
        on_wheel(&e->wheel);
        break;
    case SDL_DROPFILE:
        in = (Input){.kind = IN_DROP, .path = strdup(e->drop.file)};
        SDL_free(e->drop.file);
        input(in);
        break;
    default:
        break;
    }
}

/* ---- the thread ---- */

static bool open_window(Window *w)
{
    SDL_SetMainReady();
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    SDL_SetHint(SDL_HINT_TIMER_RESOLUTION, "0"); /* the system's clock stays as it is */
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
    SDL_SetHint(SDL_HINT_FRAMEBUFFER_ACCELERATION, "0");
    SDL_SetHint(SDL_HINT_WINDOWS_NO_CLOSE_ON_ALT_F4, "1"); /* the guest's windows want it */
    SDL_SetHint(SDL_HINT_WINDOWS_INTRESOURCE_ICON, "1");
    if (SDL_Init(SDL_INIT_VIDEO))
        return error_set(&w->error, "%s", SDL_GetError());
    int scale = screen_scale();
    view.win = SDL_CreateWindow(w->title, SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED,
                                WELCOME_WIDTH * scale, WELCOME_HEIGHT * scale, SDL_WINDOW_RESIZABLE);
    if (!view.win)
        return error_set(&w->error, "%s", SDL_GetError());
    SDL_StopTextInput();
    SDL_SysWMinfo info;
    SDL_VERSION(&info.version);
    if (SDL_GetWindowWMInfo(view.win, &info) && info.subsystem == SDL_SYSWM_WINDOWS) {
        w->hwnd = info.info.win.window;
        view.sdl_proc = (WNDPROC)SetWindowLongPtrW(w->hwnd, GWLP_WNDPROC, (LONG_PTR)window_proc);
    } else {
        return error_set(&w->error, "SDL_VIDEODRIVER=%s makes no window of Windows",
                         SDL_GetCurrentVideoDriver());
    }
    return true;
}

void window_thread(void *opaque)
{
    Window *w = opaque;
    view = (View){.w = w};
    bool open = open_window(w);
    if (open && w->start_full_screen)
        toggle_full_screen();
    SetEvent(w->started);
    SDL_Event e;
    while (open && !view.ended && SDL_WaitEvent(&e))
        on_event(&e);
    grab(false);
    SetEvent(w->ended);
}
