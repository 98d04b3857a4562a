/* The monitor: commands, complaints, expressions, memory, line editing, completion, junk, slow readers. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/vm/host.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/monitor.h"
#include "../core/vm/ui.h"
#include "host_posix.h"

static Machine *m;
static Monitor *mon;

/* The terminal the monitor writes to. */
static struct { Chardev chr; char out[1 << 21]; size_t len, room; } term;

static size_t term_write(Chardev *chr, const u8 *buf, size_t n)
{
    (void)chr;
    n = n < term.room ? n : term.room;
    if (term.len + n >= sizeof term.out)
        term.len = 0;
    memcpy(term.out + term.len, buf, n);
    term.len += n;
    term.out[term.len] = 0;
    term.room -= n;
    return n;
}

static void term_close(Chardev *chr) { (void)chr; }

static const ChrBackend term_backend = { .name = "term", .write = term_write, .close = term_close };

static void clear(void)
{
    term.len = 0;
    term.out[0] = 0;
    term.room = ~(size_t)0;
}

static void type(const char *text)
{
    chardev_deliver(&term.chr, (const u8 *)text, strlen(text));
}

/* What the monitor answers to a command line. */
static const char *run(const char *line)
{
    clear();
    monitor_run(mon, line);
    return term.out;
}

static bool says(const char *line, const char *what) { return strstr(run(line), what) != NULL; }
static bool is_silent(const char *line) { return !*run(line); }

static int lines_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static struct { u16 code[16]; int n, dx; unsigned buttons; } input;

static void key(void *opaque, u16 code, bool down)
{
    (void)opaque;
    if (down && input.n < 16)
        input.code[input.n++] = code;
}

static void mouse(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    (void)opaque;
    input.dx += dx * 10000 + dy * 100 + dz;
    input.buttons = buttons;
}

static const InputSink sink = { key, mouse };

static void topic(void *opaque, PrintFn *print, void *print_opaque)
{
    print(print_opaque, opaque);
}

static void test_complaints(void)
{
    static const char *const bad[] = {
        "foo", "sy", "info foo", "sendkey", "sendkey nokey", "sendkey a b", "sendkey a 0", "sendkey a 1 2",
        "mouse_move 1",
        "mouse_move a b", "mouse_button 9", "screendump", "screendump /no/such/x.ppm", "print", "print 1 +",
        "print 1/0",
        "print (1", "print $foo", "print 1 2", "print/y 1", "xp", "xp/8q 0", "xp/99999999x 0", "xp 0 1",
        "eject", "eject nodrive",
        "change ide0-hd0", "change nodrive file", "log nonsense", "help nonsense", "quit now", "print \"",
        "change \"a b",
        "/", "/x", "stop/x", "print 0x", "print 12z", "system_powerdown", "xp/x 0x123456789abcdef0",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        run(bad[i]);
        CHECK_MSG(lines_of(term.out) >= 1 && lines_of(term.out) <= 2 && term.len < 400,
                  "'%s': one helpful line, not '%s'",
                  bad[i], term.out);
    }
    CHECK(says("stp", "unknown command: 'stp'") && says("system", "did you mean 'system_reset'"));
    CHECK(is_silent("") && is_silent("   "));
}

static void test_commands(void)
{
    CHECK(says("help", "screendump file") && says("?", "sendkey keys")
          && says("help xp", "physical address"));
    CHECK(says("help sendkey", "kp_0") && says("help info", "info status"));
    CHECK(says("info", "info registers --") && says("info", "info chip -- a chip"));
    CHECK(says("info chip", "all is well\r\n"));
    CHECK(says("info status", "VM status: paused"));
    CHECK(is_silent("cont") && says("info status", "running"));
    CHECK(is_silent("stop") && says("info status", "paused"));
    CHECK(says("info version", ".") && says("info chardev", "test: term"));
    CHECK(says("info registers", "no CPU") && says("info jit", "no CPU") && says("x 0", "no CPU"));
    CHECK(says("info mtree", "ram"));

    CHECK(is_silent("sendkey ctrl-alt-f1") && input.n == 3 && input.code[2] == 0x3b);
    CHECK(is_silent("mouse_move 3 -2 1") && input.dx == 30000 - 200 + 1);
    CHECK(is_silent("mouse_button 4") && input.buttons == 2);
    CHECK_MSG(is_silent("mouse_button 2") && input.buttons == 4, "2 is the middle button");
    CHECK(is_silent("log int,cpu_reset") && log_on(LOG_INT) && is_silent("log none") && !log_mask);
    CHECK(is_silent("screendump \"/tmp/test monitor.ppm\"") && !unlink("/tmp/test monitor.ppm"));
    run("quit");
    u64 deadline;
    CHECK(!machine_service(m, &deadline));
}

static void test_numbers(void)
{
    CHECK(says("print 1+2*3", "0x7\r\n") && says("p (1+2)*3", "0x9\r\n") && says("p/d 7-10", "-3\r\n"));
    CHECK(says("p 0xf0 | 1 ^ 3 & 2", "0xf3\r\n") && says("p ~0 & 0xffff", "0xffff\r\n")
          && says("p 1<<12", "0x1000"));
    CHECK(says("p/d 17 % 5 * 2", "4\r\n") && says("p - -3", "0x3\r\n") && says("p 'A'", "0x41")
          && says("p/c 65", "'A'"));
    CHECK(says("p/o 8", "010\r\n") && says("p/d 100 >> 2 >> 1", "12\r\n") && says("p 010", "0x8"));
    char deep[400] = "p ";
    memset(deep + 2, '(', 300);
    CHECK(says(deep, "nested"));
}

static void test_memory(void)
{
    for (u32 i = 0; i < 4096; i++)
        mem_bus_write(m->mem, i, i * 3, 1);
    CHECK(says("xp/2xw 0", "0000000000000000: 0x09060300 0x15120f0c\r\n"));
    CHECK_MSG(says("xp/8xb 0x10", "0000000000000010: 0x30 0x33 0x36 0x39 0x3c 0x3f 0x42 0x45\r\n"), "%s",
              term.out);
    CHECK_MSG(says("xp /2xw 0", ": 0x09060300 0x15120f0c\r\n") && says("print /d 7", "7\r\n"),
              "the blank that `help` shows before the format: %s", term.out);
    CHECK(says("xp/xh 2", "0x0906") && says("xp/xg 0", "0x15120f0c09060300")
          && says("xp/4c 0x16", "'B' 'E' 'H' 'K'"));
    CHECK_MSG(says("xp/db 0x50", "-16\r\n") && says("xp/ub 0x50", "240"), "%s", term.out);
    run("xp/12xw 0");
    CHECK_MSG(lines_of(term.out) == 3, "four words a line");
    CHECK(says("xp/4xw 0xff8", "Cannot access memory at address 0x1000")
          && strstr(term.out, "0000000000000ff8: 0x"));
}

static void test_editing(void)
{
    clear();
    type("p 12\r");
    CHECK(strstr(term.out, "\n0xc\r\n(qemu) "));
    clear();
    type("p 2\001\013p 1\033[D\033[D\033[C+\b\0054\r");
    CHECK_MSG(strstr(term.out, "0xe\r\n"), "cursor keys, kill, home and end: %s", term.out);
    clear();
    type("\033[A\033[A\r");
    CHECK_MSG(strstr(term.out, "\n0xc\r\n"), "history");
    clear();
    type("junk\025p 3\177\1775\b 6\r");
    CHECK_MSG(strstr(term.out, "\n0x6\r\n"), "erase line, backspace");
    clear();
    type("p 1 junk\027+ 1\033OH\033[3~p\033OF\r");
    CHECK_MSG(strstr(term.out, "\n0x2\r\n"), "erase word, delete: %s", term.out);
    clear();
    type("nonsense\003p 7\r");
    CHECK_MSG(strstr(term.out, "\n0x7\r\n") && !strstr(term.out, "unknown"), "Ctrl-C gives the line up");
    clear();
    type("p 8\r\np 9\n");
    CHECK_MSG(strstr(term.out, "\n0x8\r\n(qemu) p 9"), "CR LF ends one line");
    clear();
    type("p 1");
    type("\033[A");
    type("\033[B\r");
    CHECK_MSG(strstr(term.out, "\n0x1\r\n"), "what was being typed comes back after the history");
    CHECK(says("info history", "'p 8'"));
}

static void test_completion(void)
{
    clear();
    type("info st\t\r");
    CHECK(strstr(term.out, "info status \r\nVM status"));
    clear();
    type("system_\t");
    CHECK(strstr(term.out, "system_reset") && strstr(term.out, "system_powerdown"));
    type("\003");
    clear();
    type("info ch\t");
    CHECK(strstr(term.out, "chardev") && strstr(term.out, "chip"));
    type("\003");
    input.n = 0;
    clear();
    type("sendkey ctrl-al\t-del\t\003");
    CHECK(strstr(term.out, "alt") && strstr(term.out, "ete"));
    type("nothing \t\t\003log in_\t\003help scr\t\003\t\t\003");
}

static u32 port_value;
static u32 port_in(void *opaque, u32 port, unsigned size)
{
    (void)opaque;
    return port + size;
}
static void port_out(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)opaque;
    port_value = port << 16 | value << 4 | size;
}

static void test_hardware(void)
{
    static const PortOps ops = { port_in, port_out, 1 | 2 | 4 };
    char dir[] = "/tmp/test_monitorXXXXXX", line[256];
    Error err;
    size_t size;
    int handle = port_map(m, "test", 0x300, 4, &ops, NULL);
    CHECK(says("i 0x300", "portb[0x0300] = 0x01") && says("i /h 0x300", "portw[0x0300] = 0x0302"));
    CHECK(is_silent("o /w 0x300 5+6") && port_value == (0x300 << 16 | 11 << 4 | 4));
    CHECK(says("i", "missing") && says("i /q 1", "/b, /h or /w") && says("i 65536", "usage") && says("o 1", "usage"));
    port_unmap(m, handle);
    mem_dma_write(m->mem, 0x100, "\1\2\3", 3);
    CHECK(says("sum 0x100 3", "16388") && says("sum 0 0", "1 byte"));
    CHECK(mkdtemp(dir));
    snprintf(line, sizeof line, "pmemsave 0x100 3 %s/some-memory.bin", dir);
    CHECK(is_silent(line));
    snprintf(line, sizeof line, "%s/some-memory.bin", dir);
    u8 *file = host_file_slurp(line, 10, &size, &err);
    CHECK_MSG(file && size == 3 && !memcmp(file, "\1\2\3", 3), "memory is saved");
    free(file);
    clear();
    snprintf(line, sizeof line, "screendump %s/so\t", dir);
    type(line);
    CHECK_MSG(strstr(term.out, "/some-memory.bin "), "a file's name is completed");
    type("\003");
    snprintf(line, sizeof line, "rm -r %s", dir);
    CHECK(!system(line));
    CHECK(says("usb_add x", "no USB") && says("wavcapture x", "not recorded") && says("info kqemu", "not needed"));
    CHECK(says("cpu 1", "CPU 0 only") && says("mouse_set 1", "mouse 0"));
    CHECK(says("device_add x", "while this machine runs") && says("boot_set x", "letters"));
    CHECK(says("gdbserver none", "no debugger") && says("gdbserver nix", "no character device"));
    CHECK(says("logfile /no/such/dir/x", "can't be made"));
    char *text = monitor_capture(m, "info version");
    CHECK_MSG(text && strstr(text, "qemu-win)\n") && !strchr(text, '\r'), "a command's output can be had as text");
    free(text);
}

static void test_junk(void)
{
    static u8 big[1 << 20];
    clear();
    memset(big, 'a', sizeof big);
    u64 start = host_now_ns();
    chardev_deliver(&term.chr, big, sizeof big);
    type("\r");
    CHECK(strstr(term.out, "longer than 4095"));
    clear();
    type("\001p 1\005\r");
    CHECK_MSG(strstr(term.out, "\n0x1\r\n"), "a line of 1 MB is refused, the next one works");
    memset(big, 0, sizeof big);
    chardev_deliver(&term.chr, big, sizeof big);
    u32 seed = 7;
    for (size_t i = 0; i < sizeof big / 4; i++) {
        seed = seed * 1664525 + 1013904223;
        big[i] = (u8)(seed >> 16);
        if (big[i] == '\r' && seed >> 31)
            big[i] = ' ';
        if (i % 512 == 511)
            clear();
        chardev_deliver(&term.chr, &big[i], 1);
    }
    CHECK(host_now_ns() - start < 30 * NS_PER_SEC);
    clear();
    type("\033[B\003p 5\r");
    CHECK_MSG(strstr(term.out, "\n0x5\r\n"), "random bytes leave a monitor that works: %s", term.out);
}

static void test_slow_reader(void)
{
    clear();
    term.room = 10;
    for (int i = 0; i < 2000; i++)
        monitor_run(mon, "help");
    CHECK(term.len == 10);
    size_t taken = 0;
    for (int i = 0; i < 10000 && (term.len == 10 || term.room == 0); i++) {
        taken += term.len;
        term.len = 0;
        term.room = 4096;
        chardev_writable(&term.chr);
    }
    taken += term.len;
    CHECK_MSG(taken > 100000 && taken < (1 << 20) + 200, "output for a stalled reader is bounded");
    CHECK_MSG(strstr(term.out, "dropped"), "and says that it was cut");
    clear();
    CHECK(says("p 1", "0x1"));
}

int main(void)
{
    Config cfg;
    Error err = { "" };
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, 1 << 20, &err);
    machine_lock(m);
    mem_map(m->mem, mem_ram(m->mem, "ram", 4096), 0, 0, 4096, 0, MEM_RW);
    ui_set_keyboard(m->ui, &sink, NULL);
    ui_set_mouse(m->ui, &sink, NULL);
    static const ConsoleOps ops = { .refresh = NULL };
    UiConsole *screen = console_create(m->ui, "screen", true, &ops, NULL);
    console_remove(screen);
    monitor_add_info(m, "chip", "a chip", topic, "all is well");
    clear();
    chardev_init(&term.chr, &term_backend, m, "test");
    strcpy(term.chr.spec, "term");
    mon = monitor_create(m, &term.chr);
    CHECK(strstr(term.out, "(qemu) "));
    test_complaints();
    test_numbers();
    test_memory();
    test_editing();
    test_completion();
    test_hardware();
    test_junk();
    test_slow_reader();
    test_commands();
    monitor_destroy(mon);
    machine_unlock(m);
    machine_destroy(m);
    config_free(&cfg);
    return test_end();
}
