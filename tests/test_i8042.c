/*
 * Keyboard controller, keyboard and mouse: commands, both scan code sets, translation, special keys, repeat,
 * releases that are never lost, mouse reports and the wheel, A20, reset.
 */
#include "chip_bench.h"

#include "../core/vm/ui.h"
#include "../devices/i8042.h"
#include "../devices/ps2.h"
#include "../devices/ps2_codes.h"

static bool irq1, irq12, a20;
static int edges1, edges12, resets;

static void irq_changed(void *opaque, int n, bool level)
{
    bool *line = opaque;

    if (level && !*line)
        ++*(n == 1 ? &edges1 : &edges12);
    *line = level;
}

static void reset_changed(void *opaque, int n, bool level) { (void)opaque; (void)n; resets += level; }
static void a20_changed(void *opaque, bool on) { (void)opaque; a20 = on; }

/* The next byte at port 60h, waiting as guests do; -1: none came. */
static int next(void)
{
    for (int i = 0; i < 200; i++, pass(100 * US)) {
        if (in8(0x64) & 1)
            return in8(0x60);
    }
    return -1;
}

/* All that comes, as hexadecimal text. */
static const char *all(void)
{
    static char text[4096];
    size_t len = 0;
    int b;

    text[0] = 0;
    while (len < sizeof(text) - 8 && (b = next()) >= 0)
        len += (size_t)snprintf(text + len, sizeof(text) - len, len ? " %02x" : "%02x", b);
    return text;
}

#define GIVES(what, want) do { \
        const char *got_ = all(); \
        CHECK_MSG(!strcmp(got_, want), "%s: %s, not %s", what, got_, want); \
    } while (0)

static void command(u8 c) { out8(0x64, c); }
static void command2(u8 c, u8 v) { out8(0x64, c); out8(0x60, v); }
static void keyboard(u8 b) { out8(0x60, b); }
static void mouse(u8 b) { command2(0xd4, b); }
static void key(u16 code, bool down) { ui_key(m->ui, code, down); }
static void tap(u16 code) { key(code, true); key(code, false); }

/* As firmware leaves it: both on, both interrupts, translation. */
static void fresh(void)
{
    ui_release_keys(m->ui);
    devices_reset(m);
    command(0xaa);
    all();
    command2(0x60, 0x47);
    keyboard(0xf4);
    mouse(0xf4);
    all();
    edges1 = edges12 = resets = 0;
}

static void test_controller(void)
{
    devices_reset(m);
    CHECK(in8(0x64) == 0x10 && a20);
    command(0xaa);
    CHECK_MSG((in8(0x64) & 0x0f) == 0x0d && in8(0x60) == 0x55, "self test");
    CHECK_MSG(in8(0x60) == 0x55, "the last byte stays readable");
    command(0x20);
    GIVES("command byte", "34");
    command2(0x60, 0x47);
    command(0x20);
    GIVES("command byte as written", "47");
    command2(0x65, 0x12);
    command(0x25);
    GIVES("controller memory", "12");
    command(0xab);
    GIVES("keyboard interface test", "00");
    command(0xa9);
    GIVES("mouse interface test", "00");
    command(0xa4);
    GIVES("no password", "f1");
    edges1 = edges12 = 0;
    command2(0xd3, 0x77);
    CHECK_MSG(irq12 && !irq1 && (in8(0x64) & 0x21) == 0x21 && in8(0x60) == 0x77, "mouse loopback");
    command2(0xd2, 0x78);
    CHECK_MSG(irq1 && !irq12 && (in8(0x64) & 0x21) == 0x01 && in8(0x60) == 0x78, "keyboard loopback");
    CHECK(edges1 == 1 && edges12 == 1);
    command2(0xd1, 0x01);
    CHECK_MSG(!a20, "A20 by the output port");
    command(0xd0);
    CHECK((next() & 0x03) == 0x01);
    command(0xdf);
    CHECK(a20);
    resets = 0;
    command(0xff);
    CHECK(!resets);
    command(0xfe);
    CHECK_MSG(resets == 1, "pulse of the reset line");
    command2(0xd1, 0x02);
    CHECK(resets == 2);
    command2(0xd1, 0x03);
    fresh();
    key(0x1e, true);
    command(0x20);
    CHECK_MSG(next() == 0x47 && next() == 0x1e, "an answer overtakes an unread key, which is not lost");
    key(0x1e, false);
    GIVES("release", "9e");
    command(0xad);
    tap(0x1e);
    CHECK_MSG(next() == -1, "keyboard off: keys wait");
    command(0xae);
    GIVES("and come when it is on", "1e 9e");
    edges1 = 0;
    tap(0x1e);
    CHECK_MSG(irq1 && in8(0x60) == 0x1e && in8(0x60) == 0x1e, "read twice in a handler, it is the same key");
    CHECK(!irq1);
    pass(MS);
    CHECK_MSG(edges1 == 2 && in8(0x60) == 0x9e, "the next comes with an interrupt of its own");
}

static void test_keyboard(void)
{
    fresh();
    keyboard(0xee);
    GIVES("echo", "ee");
    keyboard(0xf2);
    GIVES("identify, translated", "fa ab 41");
    keyboard(0xed);
    GIVES("LEDs", "fa");
    keyboard(0x07);
    GIVES("LEDs' parameter", "fa");
    keyboard(0xf3);
    keyboard(0x20);
    GIVES("rate", "fa fa");
    keyboard(0xf3);
    keyboard(0xf4);
    GIVES("a command instead of a parameter", "fa fa");
    keyboard(0xff);
    GIVES("reset", "fa aa");
    keyboard(0xfe);
    GIVES("resend", "aa");
    keyboard(0x99);
    GIVES("no command", "fe");
    keyboard(0xf0);
    keyboard(0);
    GIVES("which set, translated", "fa fa 41");
    command2(0x60, 0x07);
    keyboard(0xf2);
    GIVES("identify, raw", "fa ab 83");
    keyboard(0xf0);
    keyboard(0);
    GIVES("set 2", "fa fa 02");
    tap(0x1e);
    GIVES("a, set 2", "1c f0 1c");
    tap(0xe048);
    GIVES("up, set 2", "e0 75 e0 f0 75");
    tap(0x41);
    GIVES("F7, set 2", "83 f0 83");
    keyboard(0xf0);
    keyboard(1);
    GIVES("to set 1", "fa fa");
    tap(0x1e);
    tap(0xe048);
    GIVES("set 1", "1e 9e e0 48 e0 c8");
    key(0xe11d, true);
    key(0xe11d, false);
    GIVES("Pause, set 1", "e1 1d 45 e1 9d c5");
    keyboard(0xf6);
    command2(0x60, 0x47);
    all();
    for (u16 code = 1; code < 0x59; code++) {
        char want[16];

        if (code == 0x55 || code == 0x54)
            continue;
        tap(code);
        snprintf(want, sizeof(want), "%02x %02x", code, code | 0x80);
        GIVES("every key survives both translations", want);
    }
    key(0xe11d, true);
    key(0xe11d, false);
    GIVES("Pause", "e1 1d 45 e1 9d c5");
    tap(0xe037);
    GIVES("PrintScreen", "e0 2a e0 37 e0 b7 e0 aa");
    key(0x38, true);
    tap(0xe037);
    key(0x38, false);
    GIVES("Alt-PrintScreen is SysRq", "38 54 d4 b8");
    key(0x1d, true);
    key(0xe037, true);
    key(0x1d, false);
    key(0xe037, false);
    GIVES("Ctrl-PrintScreen has no shift", "1d e0 37 9d e0 b7");
    key(0xe01d, true);
    tap(0xe11d);
    key(0xe01d, false);
    GIVES("Ctrl-Pause is Break", "e0 1d e0 46 e0 c6 e0 9d");
}

static void test_repeat(void)
{
    int n = 0;

    fresh();
    key(0x1e, true);
    CHECK(next() == 0x1e);
    for (int i = 0; i < 10; i++)
        key(0x1e, true);            /* the host repeats */
    CHECK_MSG(next() == -1, "the host's repeats are not the guest's");
    pass(440 * MS);
    CHECK(!(in8(0x64) & 1));
    pass(60 * MS);
    CHECK_MSG(in8(0x60) == 0x1e && next() == -1, "the first repeat after half a second");
    for (int i = 0; i < 1000; i++, pass(MS))
        if (in8(0x64) & 1)
            n += in8(0x60) == 0x1e;
    CHECK_MSG(n >= 10 && n <= 11, "then 10.9 a second: %d", n);
    key(0x1f, true);
    CHECK(next() == 0x1f);
    pass(520 * MS);
    CHECK_MSG(next() == 0x1f, "the last key repeats");
    key(0x1f, false);
    CHECK(next() == 0x9f);
    pass(2 * SEC);
    CHECK_MSG(next() == -1, "and none after its release");
    key(0x1e, false);
    CHECK(next() == 0x9e);
    keyboard(0xf3);
    keyboard(0x00);
    all();
    key(0x1e, true);
    CHECK(next() == 0x1e);
    n = 0;
    for (int i = 0; i < 1000; i++, pass(MS))
        if (in8(0x64) & 1)
            n += in8(0x60) == 0x1e;
    CHECK_MSG(n >= 21 && n <= 24, "fastest: 250 ms, then 30 a second: %d", n);
    pass(10 * SEC);
    key(0x1e, false);
    GIVES("a guest that does not read gets few repeats", "1e 1e 9e");
}

static void test_releases(void)
{
    u8 down[256] = { 0 };
    int b, left = 0;

    fresh();
    for (int round = 0; round < 30000; round++) {
        u16 code = (u16)(1 + rnd() % 0x53);

        key(rnd() & 1 ? code : 0xe000 | code, rnd() & 1);
    }
    ui_release_keys(m->ui);
    while ((b = next()) >= 0) {
        if (b == 0xe0)
            b = next() | 0x100;
        down[(b & 0x7f) | (b >> 1 & 0x80)] = !(b & 0x80);
    }
    for (int i = 0; i < 256; i++)
        left += down[i];
    CHECK_MSG(!left, "after a flood of keys that nobody read, all are released: %d are not", left);
    tap(0x1e);
    GIVES("and the keyboard works", "1e 9e");
    key(0x1e, true);
    CHECK(next() == 0x1e);
    keyboard(0xf5);
    GIVES("scanning off", "fa");
    key(0x1e, false);
    CHECK(next() == -1);
    keyboard(0xf4);
    GIVES("a release that fell into the pause is made up for", "fa 9e");
    key(0x1f, true);
    GIVES("press", "1f");
    ui_release_keys(m->ui);
    GIVES("the window loses its focus", "9f");
}

static void move(int dx, int dy, int dz, unsigned buttons)
{
    pass(100 * MS);
    ui_send_mouse(m->ui, dx, dy, dz, buttons);
}

static void test_mouse(void)
{
    fresh();
    mouse(0xff);
    CHECK_MSG(next() == 0xfa && (in8(0x64) & 0x20 || next() == 0xaa), "its bytes are marked as the mouse's");
    all();
    mouse(0xf2);
    GIVES("a standard mouse", "fa 00");
    mouse(0xe9);
    GIVES("status", "fa 00 02 64");
    move(5, 5, 0, 1);
    CHECK_MSG(next() == -1, "off after reset");
    mouse(0xf4);
    GIVES("on", "fa");
    edges12 = 0;
    move(5, -3, 0, 1);
    GIVES("right and up, left button", "09 05 03");
    CHECK_MSG(edges12 == 3 && !irq12, "each byte interrupts");
    move(-5, 3, 2, 0);
    GIVES("left and down, no wheel yet", "38 fb fd");
    move(300, 0, 0, 0);
    GIVES("what one report cannot carry comes in the next", "08 ff 00 08 2d 00");
    move(0, 0, 0, 6);
    GIVES("right and middle", "0e 00 00");
    move(0, 0, 0, 0);
    GIVES("released", "08 00 00");
    mouse(0xf3); mouse(200); mouse(0xf3); mouse(100); mouse(0xf3); mouse(80);
    GIVES("the knock", "fa fa fa fa fa fa");
    mouse(0xf2);
    GIVES("turns the wheel on", "fa 03");
    move(0, 0, 1, 0);
    GIVES("wheel towards the person", "08 00 00 01");
    move(0, 0, -1, 0);
    GIVES("wheel away", "08 00 00 ff");
    move(0, 0, 9, 0);
    GIVES("a fast wheel", "08 00 00 07 08 00 00 02");
    mouse(0xe7);
    all();
    move(3, -5, 0, 0);
    GIVES("scaling 2:1", "08 03 09 00");
    mouse(0xe6);
    mouse(0xf0);
    all();
    move(7, 0, 0, 1);
    CHECK_MSG(next() == -1, "remote mode: silent");
    mouse(0xeb);
    GIVES("until it is asked", "fa 09 07 00 00");
    mouse(0xe9);
    GIVES("status in remote mode", "fa 64 02 50");
    mouse(0xea);
    mouse(0xee);
    mouse(0x12);
    mouse(0xf4);
    GIVES("wrap mode echoes", "fa fa 12 f4");
    mouse(0xec);
    mouse(0xe1);
    GIVES("and ends; an unknown command", "fa fe");
    mouse(0xf6);
    all();
    mouse(0xe9);
    GIVES("defaults", "fa 04 02 64");
    mouse(0xf4);
    all();
    move(0, 0, 0, 0);
    all();
    for (int i = 0; i < 100; i++, pass(MS))
        ui_send_mouse(m->ui, 1, 0, 0, 0);
    {
        int n = 0, sum = 0, b;

        while ((b = next()) >= 0) {
            n++;
            sum += next();
            next();
            next();
        }
        CHECK_MSG(sum == 100 && n <= 14, "100 movements in 100 ms: %d reports, %d steps", n, sum);
    }
    for (int i = 0; i < 20; i++)
        ui_send_mouse(m->ui, 0, 0, 0, (i & 1) ^ 1);
    {
        int n = 0, b;

        while ((b = next()) >= 0) {
            n += (b & 7) == !(n & 1);
            next();
            next();
            next();
        }
        CHECK_MSG(n == 20, "no click is lost: %d of 20", n);
    }
    command(0xa7);
    move(1, 0, 0, 0);
    CHECK(next() == -1);
    command(0xa8);
    GIVES("mouse port off: it waits", "08 01 00 00");
}

static void random_person(void)
{
    if (rnd() % 8 == 0)
        key((u16)(rnd() % 8 ? (rnd() & 0x7f) | (rnd() & 1 ? 0xe000 : 0) : rnd()), rnd() & 1);
    if (rnd() % 8 == 0)
        ui_send_mouse(m->ui, (int)rnd(), (int)rnd(), (int)rnd(), rnd());
}

int main(void)
{
    static const Range ports[] = { { 0x60, 1 }, { 0x64, 1 } };
    static const ConsoleOps ops = { 0 };

    bench_machine(NULL);
    console_create(m->ui, "screen", true, &ops, NULL);
    i8042_create(m, (Irq){ irq_changed, &irq1, 1 }, (Irq){ irq_changed, &irq12, 12 },
                 (Irq){ reset_changed, NULL, 0 }, a20_changed, NULL);
    test_controller();
    test_keyboard();
    test_repeat();
    test_releases();
    test_mouse();
    port_storm(ports, ARRAY_LEN(ports), 400000, random_person);
    check_saves("i8042");
    check_saves("ps2-keyboard");
    check_saves("ps2-mouse");
    fresh();
    test_keyboard();
    test_mouse();
    bench_end();
    return test_end();
}
