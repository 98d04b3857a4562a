/* Text consoles: what control sequences do to the screen, what is drawn, keys, scroll-back. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/chardev.h"
#include "../core/vm/machine.h"
#include "../core/vm/ui.h"
#include "../core/vm/vc.h"
#include "host_posix.h"

static VcScreen s;

static void put(const char *text)
{
    for (; *text; text++)
        vc_screen_put(&s, (u8)*text);
}

/* Does line y begin with text and go on with blanks? */
static bool line_is(int y, const char *text)
{
    const VcCell *l = vc_screen_line(&s, y);
    int n = (int)strlen(text);
    for (int x = 0; x < s.cols; x++) {
        if (l[x].ch != (x < n ? (u8)text[x] : ' '))
            return false;
    }
    return true;
}

static bool cursor_at(int x, int y) { return s.x == x && s.y == y; }
static u8 attr_at(int x, int y) { return vc_screen_line(&s, y)[x].attr; }

static void fresh(int cols, int rows)
{
    free(s.cells);
    CHECK(vc_screen_init(&s, cols, rows));
}

static void test_writing(void)
{
    fresh(20, 4);
    put("hello\r\nworld");
    CHECK(line_is(0, "hello") && line_is(1, "world") && cursor_at(5, 1));
    put("\b\b\bX\tY");
    CHECK(line_is(1, "woXld   Y"));
    put("\r\n01234567890123456789");
    CHECK_MSG(cursor_at(20, 2), "the last column does not wrap yet");
    put("Z");
    CHECK(line_is(2, "01234567890123456789") && line_is(3, "Z"));
    put("\r\na\r\nb");
    CHECK_MSG(line_is(-1, "woXld   Y") && line_is(-2, "hello") && s.history == 2,
              "lines that scroll off are kept");
    put("\033[?7l\033[1;1H01234567890123456789ABC");
    CHECK_MSG(line_is(0, "0123456789012345678C"), "without wrapping the last column is overwritten");
    put("\033[?7h");
    fresh(20, 4);
    put("\xc3\xa9\xe2\x94\x80\xe2\x82\xac\xff\xc3z");
    const VcCell *l = vc_screen_line(&s, 0);
    CHECK_MSG(l[0].ch == 0x82 && l[1].ch == 0xc4, "UTF-8 becomes code page 437");
    CHECK_MSG(l[2].ch == '?' && l[3].ch == '?' && l[4].ch == '?' && l[5].ch == 'z',
              "what it hasn't or what is broken is '?'");
}

static void test_sequences(void)
{
    fresh(20, 5);
    put("aaaaa\r\nbbbbb\r\nccccc\r\nddddd\r\neeeee");
    put("\033[2;3HX\033[A\033[2CY\033[99;99H.");
    CHECK(line_is(1, "bbXbb") && line_is(0, "aaaaaY") && vc_screen_line(&s, 4)[19].ch == '.');
    put("\033[2;3H\033[K");
    CHECK(line_is(1, "bb"));
    put("\033[3;3H\033[1K");
    CHECK(line_is(2, "   cc"));
    put("\033[4;1H\033[2P\033[2@");
    CHECK(line_is(3, "  ddd"));
    put("\033[4;1H\033[L");
    CHECK(line_is(3, "") && line_is(4, "  ddd"));
    put("\033[M");
    CHECK(line_is(3, "  ddd") && line_is(4, ""));
    put("\033[2J");
    CHECK(line_is(0, "") && line_is(3, ""));
    put("\033[H1\r\n2\r\n3\r\n4\r\n5\033[2;4r\033[4;1H\n");
    CHECK_MSG(line_is(0, "1") && line_is(1, "3") && line_is(2, "4") && line_is(3, "") && line_is(4, "5")
              && s.history == 0,
              "a scrolling region scrolls alone");
    put("\033[2;1H\033M");
    CHECK(line_is(1, "") && line_is(2, "3") && line_is(3, "4"));
    put("\033[r\0337\033[3;3H\0338x");
    CHECK(vc_screen_line(&s, 0)[0].ch == 'x' || cursor_at(1, 1));
    put("\033c");
    CHECK(line_is(1, "") && cursor_at(0, 0));
}

static void test_colours(void)
{
    fresh(20, 4);
    put("\033[31mr\033[1mR\033[44mB\033[7mI\033[0mn\033[97;101mb\033[38;5;3;32mx");
    CHECK(attr_at(0, 0) == 0x04 && attr_at(1, 0) == 0x0c && attr_at(2, 0) == 0x1c && attr_at(3, 0) == 0x41);
    CHECK(attr_at(4, 0) == 0x07 && attr_at(5, 0) == 0xcf && attr_at(6, 0) == 0xcf);
    put("\033[0;42m\033[K");
    CHECK_MSG(attr_at(19, 0) == 0x27, "erased cells have the background colour");
}

static char answer[64];

static void keep_answer(void *opaque, const char *text)
{
    (void)opaque;
    strcpy(answer, text);
}

static void test_odd_input(void)
{
    fresh(20, 4);
    s.answer = keep_answer;
    put("abc\033[6n");
    CHECK(!strcmp(answer, "\033[1;4R"));
    put("\033[5n");
    CHECK(!strcmp(answer, "\033[0n"));
    put("\r\033[2K\033]0;title\007x\033]1;t\033\\y\033(Bz");
    CHECK(line_is(0, "xyz"));
    put("\r\033[2K\033[99999999999;999999999;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1Hq");
    CHECK(vc_screen_line(&s, 3)[19].ch == 'q');
    put("\033[99999L\033[99999M\033[99999P\033[99999@\033[99999X\033[99999S\033[99999T\033[99999A");
    u32 seed = 1;
    for (int i = 0; i < 2000000; i++) {
        static const char likely[] = "\033[[[;;;0123456789ABCDHJKLMPSTXm@rhl?\n\r\b\tx\xc3\xa9\xe2";
        seed = seed * 1664525 + 1013904223;
        u8 b = seed >> 31 ? (u8)likely[(seed >> 8) % (sizeof likely - 1)] : (u8)(seed >> 16);
        vc_screen_put(&s, b);
    }
    CHECK_MSG(s.x >= 0 && s.x <= s.cols && s.y >= 0 && s.y < s.rows,
              "any bytes leave the cursor on the screen");
    fresh(20, 4);
    for (int i = 0; i < 12000; i++)
        put("line\r\n");
    CHECK(s.history == VC_HISTORY && line_is(-VC_HISTORY, "line"));
}

/* ---- the device ---- */

static char typed[256];
static size_t room = 200;

static size_t fe_room(void *opaque)
{
    (void)opaque;
    return room;
}

static void fe_receive(void *opaque, const u8 *buf, size_t n)
{
    (void)opaque;
    CHECK(n <= room);
    if (strlen(typed) + n >= sizeof typed)
        typed[0] = 0;
    strncat(typed, (const char *)buf, n);
}

static const ChrFrontend fe = { fe_room, fe_receive, NULL, NULL };

static bool cell_is(const Surface *sf, int x, int y, u8 ch, u32 fg, u32 bg)
{
    const u8 *g = ui_font() + ch * 16;
    for (int r = 0; r < 16; r++) {
        for (int b = 0; b < 8; b++) {
            if (sf->pixels[(y * 16 + r) * sf->stride + x * 8 + b] != (g[r] & (0x80 >> b) ? fg : bg))
                return false;
        }
    }
    return true;
}

static void test_device(Machine *m)
{
    Error err = { "" };
    Chardev *chr = chardev_open(m, "serial0", "vc", &err);
    CHECK(chr);
    UiConsole *c = ui_console(m->ui, 0);
    const Surface *sf = console_surface(c);
    CHECK(c && sf->width == 640 && sf->height == 400 && !console_is_graphic(c));
    chardev_attach(chr, &fe, NULL);
    CHECK(chardev_write(chr, "A\033[33mB", 7) == 7);
    console_update(c);
    CHECK(cell_is(sf, 0, 0, 'A', 0xaaaaaa, 0) && cell_is(sf, 1, 0, 'B', 0xaa5500, 0));
    CHECK_MSG(cell_is(sf, 2, 0, ' ', 0, 0xaaaaaa), "the cursor is a block");
    CHECK(!memcmp(ui_font() + 16, "\x00\x00\x7e\x81\xa5\x81\x81\xbd", 8));

    ui_text(m->ui, "x\xc3\xa9");
    ui_special(m->ui, UI_KEY_UP);
    ui_special(m->ui, UI_KEY_ENTER);
    ui_special(m->ui, 99);
    CHECK(!strcmp(typed, "x\xc3\xa9\033[A\r"));
    room = 0;
    ui_text(m->ui, "later");
    CHECK(!strchr(typed, 'l'));
    room = 200;
    chardev_accept(chr);
    CHECK(strstr(typed, "later"));
    room = 0;
    for (int i = 0; i < 1000; i++)
        ui_text(m->ui, "flood");
    room = 200;

    for (int i = 0; i < 30; i++) {
        char line[16];
        int n = snprintf(line, sizeof line, "\033[0m\r\n%c", 'a' + i % 26);
        chardev_write(chr, line, (size_t)n);
    }
    console_update(c);
    CHECK(cell_is(sf, 0, 24, 'd', 0xaaaaaa, 0));
    ui_special(m->ui, UI_KEY_SCROLL_UP);
    console_update(c);
    CHECK_MSG(cell_is(sf, 0, 12, 'z', 0xaaaaaa, 0) || cell_is(sf, 0, 0, 'A', 0xaaaaaa, 0),
              "scroll-back shows older lines");
    ui_text(m->ui, "k");
    console_update(c);
    CHECK_MSG(cell_is(sf, 0, 24, 'd', 0xaaaaaa, 0), "typing goes back to the end");
    chardev_close(chr);
    console_update(c);
    Chardev *small = chardev_open(m, "serial1", "vc:40Cx10C", &err);
    CHECK(small && console_surface(ui_console(m->ui, 1))->width == 320
          && console_surface(ui_console(m->ui, 1))->height == 160);
    chardev_close(small);
}

int main(void)
{
    Config cfg;
    Error err;
    host_posix_init();
    test_writing();
    test_sequences();
    test_colours();
    test_odd_input();
    free(s.cells);
    config_default(&cfg);
    Machine *m = machine_create(&cfg, 1 << 20, &err);
    machine_lock(m);
    test_device(m);
    machine_unlock(m);
    machine_destroy(m);
    config_free(&cfg);
    return test_end();
}
