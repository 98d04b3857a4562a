/* The UI hub: order of consoles, what is published, keys, sendkey, refresh rates. */
#include "test.h"

#include <string.h>

#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "../core/vm/ui.h"
#include "host_posix.h"

static struct { int refreshes, fulls, specials; char text[64]; UiConsole *con; bool draw, blink; } picture;

static void pic_refresh(void *opaque, bool full)
{
    (void)opaque;
    picture.refreshes++;
    picture.fulls += full;
    if (picture.draw)
        console_dirty(picture.con, 10, 20, 30, 40);
    if (picture.blink)
        console_blink(picture.con, 1, 1, 1, 1);
}

static void pic_char(void *opaque, const char *utf8)
{
    (void)opaque;
    strcat(picture.text, utf8);
}

static void pic_special(void *opaque, int key)
{
    (void)opaque;
    picture.specials = key;
}

static const ConsoleOps pic_ops = { pic_refresh, pic_char, pic_special };

static struct { int resizes, updates, w, h, x, y, uw, uh, titles; bool wanted; } front;

static void fe_resized(void *opaque, int w, int h)
{
    (void)opaque;
    front.resizes++;
    front.w = w;
    front.h = h;
}

static void fe_update(void *opaque, const Surface *s, int x, int y, int w, int h)
{
    (void)opaque;
    CHECK(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= s->width && y + h <= s->height);
    front.updates++;
    front.x = x;
    front.y = y;
    front.uw = w;
    front.uh = h;
}

static void fe_pointer(void *opaque, bool absolute, bool wanted)
{
    (void)opaque;
    CHECK(!absolute);
    front.wanted = wanted;
}

static void fe_title(void *opaque)
{
    (void)opaque;
    front.titles++;
}

static const FrontEndOps fe_ops = { fe_resized, fe_update, fe_pointer, fe_title };

static struct { u16 code[64]; bool down[64]; int n, dx, buttons; } keys;

static void kbd_key(void *opaque, u16 code, bool down)
{
    (void)opaque;
    if (keys.n < 64) {
        keys.code[keys.n] = code;
        keys.down[keys.n++] = down;
    }
}

static void mouse_event(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    (void)opaque;
    (void)dy;
    (void)dz;
    keys.dx += dx;
    keys.buttons = (int)buttons;
}

static const InputSink sink = { kbd_key, mouse_event };

/* Runs the main loop's part for ms milliseconds of real time. */
static void turn(Machine *m, unsigned ms)
{
    u64 end = host_now_ns() + ms * 1000000ull, deadline;
    while (host_now_ns() < end)
        machine_service(m, &deadline);
}

static void test_consoles(Machine *m)
{
    Ui *ui = m->ui;
    UiConsole *serial = console_create(ui, "serial0", false, &pic_ops, NULL);
    picture.con = console_create(ui, "screen", true, &pic_ops, NULL);
    UiConsole *mon = console_create(ui, "monitor", false, &pic_ops, NULL);
    CHECK_MSG(ui_console(ui, 0) == picture.con && ui_console(ui, 1) == mon && ui_console(ui, 2) == serial
              && !ui_console(ui, 3),
              "the screen is console 0, then monitor and serial port, whatever was made first");
    CHECK(ui_selected(ui) == 0 && !ui_console(ui, -1));
    CHECK(console_is_graphic(picture.con) && !strcmp(console_name(mon), "monitor"));
    ui_set_front_end(ui, &fe_ops, NULL);
    CHECK(front.resizes == 1 && front.w == 640 && front.h == 400 && front.uw == 640 && front.uh == 400);
    ui_set_mouse(ui, &sink, NULL);
    CHECK(front.wanted);
    ui_select(ui, 1);
    CHECK(!front.wanted && ui_selected(ui) == 1);
    ui_text(ui, "a");
    ui_special(ui, UI_KEY_UP);
    CHECK(!strcmp(picture.text, "a") && picture.specials == UI_KEY_UP);
    ui_select(ui, 7);
    CHECK(ui_selected(ui) == 1);
    front.resizes = 0;
    console_resize(serial, 100, 100);
    CHECK_MSG(front.resizes == 0, "a hidden console's size does not concern the window");
    console_resize(mon, 0, 100000);
    CHECK(front.resizes == 1 && front.w == 1 && front.h == 8192);
    ui_select(ui, 0);
    front.titles = 0;
    machine_cont(m);
    CHECK(front.titles == 1);
}

static void test_refresh(Machine *m)
{
    turn(m, 60);
    picture.refreshes = front.updates = 0;
    picture.draw = true;
    turn(m, 200);
    CHECK_MSG(picture.refreshes >= 3 && picture.refreshes <= 13,
              "a changing picture: 60 times a second, not %d in 0.2 s",
              picture.refreshes);
    CHECK(front.updates == picture.refreshes && front.x == 10 && front.y == 20 && front.uw == 30
          && front.uh == 40);
    picture.draw = false;
    picture.blink = true;
    turn(m, 1100);
    picture.refreshes = 0;
    turn(m, 500);
    CHECK_MSG(picture.refreshes >= 1 && picture.refreshes <= 6,
              "a still picture with a blinking cursor: 10 times a second, not "
              "%d in 0.5 s", picture.refreshes);
    picture.refreshes = 0;
    console_kick(picture.con);
    turn(m, 30);
    CHECK_MSG(picture.refreshes >= 1, "a kick is answered at once");
    picture.blink = false;
    ui_set_front_end(m->ui, NULL, NULL);
    picture.refreshes = 0;
    turn(m, 200);
    CHECK_MSG(picture.refreshes == 0, "no front end, no refresh");
    console_update(picture.con);
    CHECK(picture.refreshes == 1);
    ui_set_front_end(m->ui, &fe_ops, NULL);
}

static void test_rects(Machine *m)
{
    UiConsole *c = picture.con;
    front.updates = 0;
    console_dirty(c, 0, 0, 8, 1);
    console_dirty(c, 0, 1, 8, 1);
    console_dirty(c, -5, 100, 10000, 3);
    console_dirty(c, 700, 100, 10, 10);
    turn(m, 120);
    CHECK_MSG(front.updates == 2 && front.x == 0 && front.y == 100 && front.uw == 640 && front.uh == 3,
              "lines below each other are one rectangle; what lies outside is cut off");
    front.updates = 0;
    for (int i = 0; i < 400; i += 2)
        console_dirty(c, i & 63, i, 1, 1);
    turn(m, 120);
    CHECK(front.updates > 0 && front.updates <= 32);
}

static void test_keys(Machine *m)
{
    Ui *ui = m->ui;
    ui_set_keyboard(ui, &sink, NULL);
    ui_select(ui, 0);
    keys.n = 0;
    ui_key(ui, 0x1d, true);
    ui_key(ui, 0x38, true);
    ui_key(ui, 0x10, false);
    CHECK_MSG(keys.n == 2, "a release without a press is not passed on");
    ui_select(ui, 1);
    CHECK_MSG(keys.n == 4 && !keys.down[2] && !keys.down[3], "changing the console releases what is pressed");
    ui_key(ui, 0x1e, true);
    CHECK_MSG(keys.n == 4, "keys for a text console do not reach the guest");
    ui_mouse(ui, 5, 0, 0, 1);
    CHECK(keys.dx == 0);
    ui_send_mouse(ui, 5, 0, 0, 1);
    CHECK(keys.dx == 5 && keys.buttons == 1);
    ui_select(ui, 0);
    for (u16 i = 1; i < 100; i++)
        ui_key(ui, i, true);
    keys.n = 0;
    ui_release_keys(ui);
    CHECK(keys.n == 32);
}

static void test_sendkey(Machine *m)
{
    Error err;
    u16 code;
    CHECK(ui_scancode("ret", &code) && code == 0x1c);
    CHECK(ui_scancode("delete", &code) && code == 0xe053);
    CHECK(ui_scancode("0x1e", &code) && code == 0x1e);
    CHECK(ui_scancode("0xd3", &code) && code == 0xe053);
    CHECK(!ui_scancode("0x", &code) && !ui_scancode("0x80", &code) && !ui_scancode("", &code)
          && !ui_scancode("A", &code));
    int n = 0;
    while (ui_key_name(n)) {
        CHECK(ui_scancode(ui_key_name(n), &code));
        n++;
    }
    CHECK(n > 100 && !ui_key_name(-1));

    keys.n = 0;
    CHECK(ui_send_keys(m->ui, "ctrl-alt-delete", 5, &err));
    CHECK_MSG(keys.n == 3 && keys.code[0] == 0x1d && keys.code[1] == 0x38 && keys.code[2] == 0xe053,
              "pressed together");
    CHECK(ui_send_keys(m->ui, "a", 5, &err));
    CHECK(keys.n == 3);
    turn(m, 60);
    CHECK_MSG(keys.n == 8 && keys.code[3] == 0xe053 && !keys.down[3] && !keys.down[5] && keys.code[6] == 0x1e
              && keys.down[6]
              && !keys.down[7], "released in reverse; later keys wait for earlier ones");
    CHECK(!ui_send_keys(m->ui, "ctrl-foo", 5, &err) && strstr(err.text, "'foo'"));
    CHECK(!ui_send_keys(m->ui, "", 5, &err) && !ui_send_keys(m->ui, "ctrl-", 5, &err));
    CHECK(!ui_send_keys(m->ui, "a-b-c-d-e-f-g-h-i", 5, &err));
    machine_stop(m);
    int queued = 0;
    while (queued < 5000 && ui_send_keys(m->ui, "b", 1, &err))
        queued++;
    CHECK_MSG(queued == 1024, "the queue is bounded");
}

int main(void)
{
    Config cfg;
    Error err;
    host_posix_init();
    config_default(&cfg);
    Machine *m = machine_create(&cfg, 1 << 20, &err);
    CHECK(m);
    machine_lock(m);
    test_consoles(m);
    test_refresh(m);
    test_rects(m);
    test_keys(m);
    test_sendkey(m);
    machine_unlock(m);
    machine_destroy(m);
    config_free(&cfg);
    return test_end();
}
