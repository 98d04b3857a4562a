/* Character devices: null, file, mux (Ctrl-a), what is asked for wrongly. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/vm/chardev.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "host_posix.h"

typedef struct {
    u8 got[4096];
    size_t len, room, writables;
    ChrEvent last;
    int events;
} End;

static size_t end_room(void *opaque) { return ((End *)opaque)->room; }

static void end_receive(void *opaque, const u8 *buf, size_t n)
{
    End *e = opaque;
    CHECK(n <= e->room);
    memcpy(e->got + e->len, buf, n);
    e->len += n;
    e->room -= n;
}

static void end_writable(void *opaque) { ((End *)opaque)->writables++; }

static void end_event(void *opaque, ChrEvent event)
{
    End *e = opaque;
    e->last = event;
    e->events++;
}

static const ChrFrontend end_fe = { end_room, end_receive, end_writable, end_event };

static void test_specs(Machine *m)
{
    Error err = { "" };
    Chardev *chr = chardev_open(m, "serial0", "null", &err);
    CHECK(chr && chardev_write(chr, "abc", 3) == 3);
    CHECK(chardev_write(NULL, "abc", 3) == 3);
    chardev_close(chr);
    chardev_close(NULL);
    CHECK(!chardev_open(m, "serial0", "none", &err) && !err.text[0]);
    CHECK(!chardev_open(m, "serial0", "nul", &err) && strstr(err.text, "'nul'")
          && strstr(err.text, "file:NAME"));
    CHECK(!chardev_open(m, "serial0", "file:", &err) && strstr(err.text, "name"));
    CHECK(!chardev_open(m, "serial0", "file:/no/such/dir/x", &err) && err.text[0]);
    CHECK(!chardev_open(m, "serial0", "vc:3x3", &err) && strstr(err.text, "80Cx25C"));
    CHECK(!chardev_open(m, "serial0", "mon:mon:null", &err) && err.text[0]);
    CHECK(!chardev_open(m, "serial0", "mon:none", &err) && err.text[0]);
}

static void test_file(Machine *m)
{
    char path[] = "/tmp/test_chardevXXXXXX", spec[64];
    Error err = { "" };
    End end = { .room = 1 };
    close(mkstemp(path));
    snprintf(spec, sizeof spec, "file:%s", path);
    Chardev *chr = chardev_open(m, "serial0", spec, &err);
    CHECK(chr);
    chardev_attach(chr, &end_fe, &end);
    size_t total = 0, refused = 0;
    u8 block[1000];
    for (int i = 0; i < 300; i++) {
        memset(block, 'a' + i % 26, sizeof block);
        size_t n = chardev_write(chr, block, sizeof block);
        total += n;
        if (n < sizeof block) {
            refused++;
            CHECK(host_io_wait());
        }
    }
    CHECK_MSG(refused > 0 && end.writables > 0,
              "a file that can't keep up makes the frontend wait and tells it to go on");
    chardev_flush_all(m);
    size_t size;
    u8 *text = host_file_slurp(path, 1 << 20, &size, &err);
    CHECK_MSG(text && size == total, "all that was taken is in the file after a flush");
    CHECK(text && text[0] == 'a' && text[1000] == 'b');
    free(text);
    chardev_write(chr, "end", 3);
    chardev_close(chr);
    text = host_file_slurp(path, 1 << 20, &size, &err);
    CHECK_MSG(text && size == total + 3 && !memcmp(text + total, "end", 3), "closing writes the rest");
    free(text);
    unlink(path);
}

/* What is under the mux: a null device whose backend the test replaces. It was opened just before the
 * mux's first slot. */
static struct { Chardev *chr; u8 out[65536]; size_t len, room; bool closed; } wire;

static size_t wire_write(Chardev *chr, const u8 *buf, size_t n)
{
    (void)chr;
    n = n < wire.room ? n : wire.room;
    memcpy(wire.out + wire.len, buf, n);
    wire.len += n;
    wire.room -= n;
    return n;
}

static void wire_close(Chardev *chr)
{
    wire.closed = true;
    free(chr);
}

static const ChrBackend wire_backend = { .name = "wire", .write = wire_write, .close = wire_close };

static void take_wire(Chardev *first_slot)
{
    wire.chr = first_slot->next;
    wire.chr->be = &wire_backend;
    wire.room = sizeof wire.out;
}

static void type(const char *text)
{
    size_t n = strlen(text), room = chardev_room(wire.chr);
    chardev_deliver(wire.chr, (const u8 *)text, n < room ? n : room);
}

static void test_mux(Machine *m)
{
    Error err = { "" };
    End serial = { .room = 100 }, mon = { .room = 100 };
    Chardev *b = chardev_open(m, "monitor", "mon:null", &err);
    CHECK(b && chardev_focused(b));
    take_wire(b);
    chardev_attach(b, &end_fe, &mon);
    Chardev *a = chardev_open(m, "serial0", "mon:null", &err);
    chardev_attach(a, &end_fe, &serial);
    CHECK_MSG(a && a != b && chardev_focused(a) && !chardev_focused(b),
              "the guest takes the focus from the monitor");
    CHECK(mon.last == CHR_UNFOCUS);
    type("ab");
    CHECK(serial.len == 2 && mon.len == 0);
    type("\001c");
    CHECK(chardev_focused(b) && mon.last == CHR_FOCUS && serial.last == CHR_UNFOCUS);
    type("info\r");
    CHECK(mon.len == 5 && !memcmp(mon.got, "info\r", 5));
    type("\001c\001\001");
    CHECK_MSG(serial.len == 3 && serial.got[2] == 1, "Ctrl-a Ctrl-a sends one Ctrl-a");
    type("\001b");
    CHECK(serial.last == CHR_BREAK);
    type("\001h");
    CHECK(strstr((char *)wire.out, "Ctrl-a x"));

    serial.room = 0;
    type("waits");
    CHECK(serial.len == 3);
    type("\001c\001c");
    CHECK_MSG(chardev_focused(a), "the escape works while the guest reads nothing");
    serial.room = 3;
    chardev_accept(a);
    CHECK(serial.len == 6 && !memcmp(serial.got + 3, "wai", 3));
    serial.room = 100;
    chardev_accept(a);
    CHECK(serial.len == 8 && !memcmp(serial.got + 6, "ts", 2));

    wire.room = 2;
    CHECK(chardev_write(a, "xyz", 3) == 2);
    wire.room = 10;
    chardev_writable(wire.chr);
    CHECK(serial.writables == 1 && mon.writables == 1);

    host_posix_set_time(1000000000ull);
    wire.len = 0;
    wire.room = 1000;
    type("\001t");
    host_posix_set_time(3724005000000ull);
    CHECK(chardev_write(a, "one\ntwo", 7) == 7);
    wire.room = 5;
    CHECK_MSG(chardev_write(a, "\nthree", 6) == 1, "a stamp that does not fit goes out in parts");
    wire.room = 1000;
    CHECK(chardev_write(a, "three", 5) == 5);
    type("\001t");
    chardev_write(a, "\nx", 2);
    wire.out[wire.len] = 0;
    CHECK_MSG(!strcmp((char *)wire.out, "[01:02:03.005] one\n[01:02:03.005] two\n[01:02:03.005] three\nx"),
              "Ctrl-a t stamps lines");
    host_posix_set_time(0);

    Chardev *c = chardev_mux_slot(a, "serial1");
    CHECK(c && !chardev_focused(c) && !chardev_mux_slot(wire.chr, "x"));
    chardev_close(c);
    chardev_close(a);
    CHECK(!wire.closed && chardev_focused(b));
    type("\001c");
    chardev_close(b);
    CHECK_MSG(wire.closed, "the last slot closes what is under the mux");
}

static void count_line(void *opaque, const char *line)
{
    if (strstr(line, "serial1: null"))
        ++*(int *)opaque;
}

int main(void)
{
    Machine m = { 0 };
    Error err = { "" };
    int lines = 0;
    host_posix_init();
    test_specs(&m);
    test_file(&m);
    test_mux(&m);
    Chardev *chr = chardev_open(&m, "serial1", "null", &err);
    chardev_list(&m, count_line, &lines);
    CHECK(lines == 1);
    chardev_close(chr);
    return test_end();
}
