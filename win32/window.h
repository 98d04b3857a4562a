/*
 * The window: what its two sides share. The window thread (sdl_window.c) makes all SDL calls; the main thread
 * (sdl_front.c) never waits for it. Towards the window go a picture and a few wishes, under a small lock, and
 * a posted message; towards the machine goes a queue of input and an event of the main loop.
 */
#ifndef WIN32_WINDOW_H
#define WIN32_WINDOW_H

#include "win.h"

#include "../core/vm/machine.h"

typedef enum {
    IN_KEY,
    IN_RELEASE_KEYS,
    IN_TEXT,
    IN_SPECIAL,
    IN_MOUSE,
    IN_SELECT,
    IN_QUIT,
    IN_DROP
} InputKind;

typedef struct {
    InputKind kind;
    u16 scancode; /* IN_KEY */
    bool down;
    int number;     /* IN_SPECIAL: UI_KEY_*; IN_SELECT: n of Ctrl-Alt-n */
    int dx, dy, dz; /* IN_MOUSE */
    unsigned buttons;
    char text[32]; /* IN_TEXT: a whole number of UTF-8 characters */
    char *path;    /* IN_DROP: the receiver frees it */
} Input;

enum { INPUT_QUEUE = 512 };

typedef struct Window {
    /* main thread only */
    Machine *m;
    WaitItem *item;

    HostThread *thread;
    HANDLE started, ended; /* events: the window is there, or has failed; the thread has ended */
    HANDLE input_event;    /* there is input */
    bool start_full_screen;

    HostLock *lock; /* for all below */
    Error error;    /* why the window could not be opened; "" : it is open */
    HWND hwnd;      /* where messages go */
    u32 *frame;     /* 0x00RRGGBB, the visible console's picture */
    int width, height;
    int x0, y0, x1, y1; /* changed since it was drawn; x1, y1 outside */
    bool resized;
    bool mouse_wanted; /* the guest has a mouse that wants movements */
    bool text_wanted;  /* a text console is visible: characters are wanted, not only keys */
    bool quit;
    bool posted;     /* a message is on its way */
    char title[256]; /* name and state, UTF-8 */
    bool retitled;
    Input queue[INPUT_QUEUE];
    unsigned head, tail; /* ever growing */
    bool keys_lost;      /* the queue was full: all keys must be released */
} Window;

/* ---- sdl_front.c: main thread ---- */
Window *window_open(const Config *cfg, Error *err); /* starts the thread; returns when the window is there */
/* Nothing to boot: shows what to do next. Returns a file that was dropped (malloc'ed), or NULL: the window
 * was closed. */
char *window_welcome(Window *w);
void window_attach(Window *w, Machine *m); /* machine lock held */
void window_close(Window *w); /* machine lock held, if there is a machine; the program is about to end */

/* ---- sdl_window.c ---- */
void window_thread(void *opaque);
void window_notify(Window *w);                 /* w->lock held: the window thread looks at what has changed */
void window_input(Window *w, const Input *in); /* window thread: puts it into the queue */

/* ---- sdl_keys.c ---- */
u16 keys_scancode(int sdl_scancode);          /* set 1 with e0/e1 in the high byte; 0: a PC has no such key */
int keys_special(int sdl_keycode, bool ctrl); /* UI_KEY_*, 0: none */

/* ---- sdl_welcome.c ---- */
enum { WELCOME_WIDTH = 640, WELCOME_HEIGHT = 400 };
void welcome_draw(u32 *pixels); /* of that size */

#endif
