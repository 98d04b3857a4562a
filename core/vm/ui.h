/*
 * The hub between what shows pictures and takes keys (the window) and what makes pictures and wants keys
 * (VGA, text consoles, keyboard and mouse). Machine lock held unless said otherwise.
 *
 * Pictures: each console has a Surface, drawn on the main thread. ui_present() publishes changed rectangles
 * of the visible console to the front end, which copies them under its own small lock: the window thread
 * never waits for the machine and the machine never waits for the window.
 */
#ifndef VM_UI_H
#define VM_UI_H

#include "chardev.h"
#include "types.h"

typedef struct Machine Machine;
typedef struct Ui Ui;
typedef struct UiConsole UiConsole;

typedef struct {
    u32 *pixels;                    /* 0x00RRGGBB */
    int width, height, stride;      /* stride in pixels */
} Surface;

Ui *ui_create(Machine *m);
void ui_destroy(Ui *ui);

/* ---- consoles ---- */
typedef struct {
    /* Brings the surface up to date and calls console_dirty() for what changed; called about 60 times a
     * second while visible, less often while nothing changes. full: draw all. */
    void (*refresh)(void *opaque, bool full);
    void (*key_char)(void *opaque, const char *utf8);           /* text consoles: typed text; may be NULL */
    void (*key_special)(void *opaque, int key);                 /* text consoles: UI_KEY_*; may be NULL */
} ConsoleOps;
/* Their numbers: 0 = guest's screen (Ctrl-Alt-1), then monitor, serial, parallel ports, whatever the order
 * of creation. */
UiConsole *console_create(Ui *ui, const char *name, bool graphic, const ConsoleOps *ops, void *opaque);
Surface *console_surface(UiConsole *c);
void console_resize(UiConsole *c, int width, int height);       /* new, black pixels; 1..8192 each */
void console_dirty(UiConsole *c, int x, int y, int w, int h);
/* as dirty, but no reason to look more often */
void console_blink(UiConsole *c, int x, int y, int w, int h);
void console_kick(UiConsole *c);                    /* something changed: refresh it soon. Cheap */
void console_update(UiConsole *c);                  /* runs refresh(full=true) at once: before a screendump */
void console_remove(UiConsole *c);                  /* its owner goes: it stays in the row, empty */
const char *console_name(UiConsole *c);
bool console_is_graphic(UiConsole *c);
void ui_select(Ui *ui, int number);                             /* the visible console */
int ui_selected(Ui *ui);
UiConsole *ui_console(Ui *ui, int number);                      /* NULL: no such */

/* A text console with a screen of its own, scroll-back and ANSI escapes, as a character device ("vc",
 * "vc:80Cx25C"). */
Chardev *vc_open(Machine *m, const char *label, const char *spec, Error *err);

/* ---- the front end (window) ---- */
typedef struct {
    void (*resized)(void *opaque, int width, int height);                   /* of the visible console */
    void (*update)(void *opaque, const Surface *s, int x, int y, int w, int h);
    void (*pointer_mode)(void *opaque, bool absolute, bool wanted);  /* what the guest's pointing device is */
    void (*title)(void *opaque);                                            /* run state or name changed */
} FrontEndOps;
void ui_set_front_end(Ui *ui, const FrontEndOps *ops, void *opaque);        /* NULL: none (-display none) */
void ui_state_changed(Ui *ui);                      /* machine.c: title to be made anew */

/* ---- input: front end -> machine ----
 * Keys are "set 1" scancodes as a PC/AT sends them: 0x01..0x7f, 0xe0 in the high byte for the extended ones
 * (0xe01d), 0xe11d for Pause, 0xe037 for PrintScreen. */
void ui_key(Ui *ui, u16 scancode, bool down);       /* to the visible console's owner: graphic -> keyboard */
void ui_text(Ui *ui, const char *utf8);             /* to a text console; lost if a graphic one is visible */
enum {
    UI_KEY_UP = 1, UI_KEY_DOWN, UI_KEY_LEFT, UI_KEY_RIGHT, UI_KEY_HOME, UI_KEY_END, UI_KEY_PGUP, UI_KEY_PGDN,
    UI_KEY_DELETE, UI_KEY_ENTER, UI_KEY_BACKSPACE, UI_KEY_TAB, UI_KEY_ESC, UI_KEY_SCROLL_UP,
    UI_KEY_SCROLL_DOWN,
};
void ui_special(Ui *ui, int key);
void ui_mouse(Ui *ui, int dx, int dy, int dz, unsigned buttons);      /* buttons: 1 left, 2 right, 4 middle */
/* to the guest, whatever console is visible */
void ui_send_key(Ui *ui, u16 scancode, bool down);
void ui_send_mouse(Ui *ui, int dx, int dy, int dz, unsigned buttons);
void ui_release_keys(Ui *ui);                           /* the window lost its focus: all keys up */

/* ---- input: machine side ---- */
typedef struct {
    void (*key)(void *opaque, u16 scancode, bool down);
    void (*mouse)(void *opaque, int dx, int dy, int dz, unsigned buttons);
} InputSink;
void ui_set_keyboard(Ui *ui, const InputSink *sink, void *opaque);
void ui_set_mouse(Ui *ui, const InputSink *sink, void *opaque);
/* sendkey names: "ctrl" "alt" "delete" "a" "f1" "spc" "ret" ... */
bool ui_scancode(const char *key_name, u16 *scancode);
const char *ui_key_name(int i);                     /* i-th name, NULL past the last: completion and help */
/* sendkey: "ctrl-alt-delete"; pressed together, released after hold_ms of virtual time. Keys of later
 * calls queue behind. */
bool ui_send_keys(Ui *ui, const char *combination, unsigned hold_ms, Error *err);

/* Pictures to files: PPM, or PNG when the name ends in .png. The whole console as it is at this instant. */
bool ui_screendump(Ui *ui, UiConsole *c, const char *path, Error *err);
u8 *ui_png(const Surface *s, size_t *size);         /* malloc'ed; NULL: no memory */

/* The 8x16 font of the text consoles: 256 glyphs of 16 bytes, taken from the VGA BIOS that is shipped.
 * Never NULL. */
const u8 *ui_font(void);

#endif
