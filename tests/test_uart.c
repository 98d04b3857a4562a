/* 16550A: transmit and back-pressure, FIFOs, time-out, interrupts, loopback, modem lines, break. */
#include "chip_bench.h"

#include "../devices/uart.h"

enum {
    BASE = 0x3f8, RBR = BASE, IER = BASE + 1, IIR = BASE + 2, LCR = BASE + 3, MCR = BASE + 4, LSR = BASE + 5,
    MSR = BASE + 6, SCR = BASE + 7,
};

/* A character device that takes what it is allowed to, and has input of its own. */
typedef struct {
    Chardev chr;
    char out[4096];
    size_t len, room;
    const char *in;
    u32 baud;
    bool in_break, odd;             /* odd: settings that no port has */
} Wire;

static Wire wire;
static bool irq4;
static int edges;

static size_t wire_write(Chardev *chr, const u8 *buf, size_t n)
{
    Wire *w = (Wire *)chr;

    n = n < w->room ? n : w->room;
    for (size_t i = 0; i < n; i++)
        w->out[w->len++ % sizeof(w->out)] = (char)buf[i];
    w->room -= n;
    return n;
}

static void wire_accept(Chardev *chr)
{
    Wire *w = (Wire *)chr;
    size_t room = chardev_room(chr), n = w->in ? strlen(w->in) : 0;

    n = n < room ? n : room;
    if (n) {
        const u8 *from = (const u8 *)w->in;

        w->in += n;
        chardev_deliver(chr, from, n);
    }
}

static void wire_break(Chardev *chr, bool on) { ((Wire *)chr)->in_break = on; }
static void wire_params(Chardev *chr, u32 baud, u8 bits, char parity, u8 stop)
{
    ((Wire *)chr)->baud = baud;
    ((Wire *)chr)->odd |= bits < 5 || bits > 8 || !strchr("NOEMS", parity) || stop < 1 || stop > 2 || !baud;
}
static void wire_close(Chardev *chr) { (void)chr; }
static const ChrBackend wire_backend = {
    .name = "wire", .write = wire_write, .accept = wire_accept, .set_break = wire_break,
    .set_params = wire_params, .close = wire_close,
};

static void irq_changed(void *opaque, int n, bool level)
{
    (void)opaque;
    (void)n;
    edges += level && !irq4;
    irq4 = level;
}

static void fresh(void)
{
    wire.len = 0;
    wire.room = 1 << 30;
    wire.in = NULL;
    devices_reset(m);
    out8(MCR, 0x0b);
    in8(MSR);
    edges = 0;
}

static bool sent(const char *what)
{
    return wire.len == strlen(what) && !memcmp(wire.out, what, wire.len);
}

static void type(const char *text)
{
    wire.in = text;
    wire_accept(&wire.chr);
}

static void test_transmit(void)
{
    fresh();
    CHECK_MSG(in8(LSR) == 0x60 && in8(IIR) == 0x01, "idle after reset");
    out8(RBR, 'a');
    out8(RBR, 'b');
    CHECK_MSG(sent("ab") && in8(LSR) == 0x60, "bytes leave at once");
    out8(IER, 2);
    CHECK_MSG(irq4 && in8(IIR) == 0x02 && !irq4, "enabled on an empty transmitter THRE interrupts once");
    CHECK(in8(IIR) == 0x01);
    out8(RBR, 'c');
    CHECK_MSG(irq4, "and after each byte");
    wire.room = 1;
    out8(RBR, 'd');
    in8(IIR);
    out8(RBR, 'e');
    CHECK_MSG(!irq4 && in8(LSR) == 0x00, "a character device that is full holds THRE down");
    wire.room = 100;
    chardev_writable(&wire.chr);
    CHECK_MSG(irq4 && sent("abcde") && in8(LSR) == 0x60, "until it takes more");
    out8(IIR, 0x01);
    CHECK_MSG((in8(IIR) & 0xc0) == 0xc0, "FIFOs on");
    wire.room = 0;
    for (char c = 'A'; c < 'A' + 16; c++)
        out8(RBR, (u8)c);
    wire.room = 3;
    chardev_writable(&wire.chr);
    CHECK(in8(LSR) == 0 && wire.len == 8);
    wire.room = 100;
    chardev_writable(&wire.chr);
    CHECK_MSG(sent("abcdeABCDEFGHIJKLMNOP"), "sixteen bytes wait in order");
    wire.room = 0;
    out8(RBR, 'x');
    out8(IIR, 0x05);
    wire.room = 100;
    chardev_writable(&wire.chr);
    CHECK_MSG(wire.len == 21 && in8(LSR) == 0x60, "clearing the FIFO drops what waits");
}

static void test_receive(void)
{
    fresh();
    out8(IER, 1);
    type("hello");
    CHECK_MSG(irq4 && in8(IIR) == 0x04 && in8(LSR) == 0x61, "without FIFO a byte at a time");
    CHECK(!strcmp(wire.in, "ello"));
    CHECK(in8(RBR) == 'h' && in8(RBR) == 'e' && in8(RBR) == 'l' && in8(RBR) == 'l' && in8(RBR) == 'o');
    CHECK_MSG(!irq4 && in8(LSR) == 0x60, "the rest follows as it is read; nothing is overrun");
    out8(IIR, 0x81);                /* trigger level 8 */
    type("0123456");
    CHECK_MSG(!irq4, "seven are below the trigger");
    pass(30 * MS);
    CHECK_MSG(irq4 && in8(IIR) == 0xcc, "the time-out tells of them");
    CHECK(in8(RBR) == '0' && !irq4);
    pass(30 * MS);
    CHECK(irq4);
    type("789abcdefghijklm");
    CHECK_MSG(in8(IIR) == 0xc4, "the trigger has priority");
    CHECK_MSG(!strcmp(wire.in, "hijklm"), "sixteen lie in the FIFO, the rest waits: %s", wire.in);
    for (int i = 0; i < 22; i++)
        CHECK(in8(RBR) == (u8)"123456789abcdefghijklm"[i]);
    CHECK(in8(LSR) == 0x60 && !irq4);
    type("zz");
    out8(IIR, 0x83);
    CHECK_MSG(in8(LSR) == 0x60, "clearing the receive FIFO");
    out8(IER, 5);
    chardev_tell(&wire.chr, CHR_BREAK);
    CHECK_MSG(irq4 && in8(IIR) == 0xc6 && in8(LSR) == 0x71 && in8(RBR) == 0, "break is an error and a NUL");
    CHECK(in8(LSR) == 0x60);
}

static void test_loopback(void)
{
    fresh();
    CHECK_MSG(in8(MSR) == 0xb0, "somebody is plugged in");
    out8(MCR, 0x1b);
    CHECK_MSG(in8(MSR) == 0xb0, "RTS, DTR, OUT2 come back as CTS, DSR, DCD");
    out8(MCR, 0x10);
    CHECK_MSG(in8(MSR) == 0x0b && in8(MSR) == 0x00, "with their changes");
    out8(MCR, 0x14);
    out8(MCR, 0x10);
    CHECK_MSG(in8(MSR) == 0x04, "the trailing edge of RI");
    out8(RBR, 0x5a);
    CHECK_MSG(in8(LSR) == 0x61 && in8(RBR) == 0x5a && !wire.len, "bytes come back");
    out8(RBR, 1);
    out8(RBR, 2);
    CHECK_MSG((in8(LSR) & 2) && in8(RBR) == 2, "one too many is an overrun");
    type("later");
    CHECK_MSG(!(in8(LSR) & 1), "the world waits meanwhile");
    out8(MCR, 0x0b);
    CHECK(in8(LSR) == 0x61 && in8(RBR) == 'l');
}

static void test_rest(void)
{
    fresh();
    out8(SCR, 0xa5);
    CHECK(in8(SCR) == 0xa5);
    out8(LCR, 0x83);
    out8(RBR, 3);
    out8(IER, 0);
    CHECK(in8(RBR) == 3 && in8(IER) == 0);
    out8(LCR, 0x03);
    CHECK_MSG(in8(LCR) == 3 && wire.baud == 38400, "divisor 3 is 38400 baud: %u", wire.baud);
    out8(LCR, 0x43);
    CHECK(wire.in_break);
    out8(LCR, 0x03);
    CHECK(!wire.in_break);
    out8(MCR, 0x03);
    out8(IER, 2);
    CHECK_MSG(!irq4 && in8(IIR) == 2, "without OUT2 the interrupt does not reach the bus");
    out8(IER, 0xff);
    CHECK(in8(IER) == 0x0f);
    uart_create(m, 0x2f8, (Irq){ 0 }, NULL);
    devices_reset(m);
    CHECK_MSG(in8(0x2fe) == 0x00 && in8(0x2fd) == 0x60, "nothing plugged in: no carrier");
    out8(0x2f8, 'x');
    CHECK(in8(0x2fd) == 0x60);
}

static void random_wire(void)
{
    if (rnd() % 8 == 0)
        wire.room = rnd() % 40;
    if (rnd() % 8 == 0)
        type("the quick brown fox jumps over the lazy dog");
    if (rnd() % 8 == 0)
        chardev_writable(&wire.chr);
    if (rnd() % 64 == 0)
        chardev_tell(&wire.chr, CHR_BREAK);
}

int main(void)
{
    static const Range ports[] = { { BASE, 8 }, { 0x2f8, 8 } };

    bench_machine(NULL);
    chardev_init(&wire.chr, &wire_backend, m, "serial0");
    uart_create(m, BASE, (Irq){ irq_changed, NULL, 4 }, &wire.chr);
    test_transmit();
    test_receive();
    test_loopback();
    test_rest();
    port_storm(ports, ARRAY_LEN(ports), 300000, random_wire);
    CHECK(!wire.odd);
    check_saves("uart");
    test_transmit();
    bench_end();
    return test_end();
}
