/* Parallel port: strobed bytes come out once, a full printer is busy, acknowledge interrupts, registers. */
#include "chip_bench.h"

#include "../devices/parallel.h"

typedef struct { Chardev chr; char out[256]; size_t len, room; } Printer;

static Printer printer;
static int acks;

static size_t printer_write(Chardev *chr, const u8 *buf, size_t n)
{
    Printer *p = (Printer *)chr;

    n = n < p->room ? n : p->room;
    for (size_t i = 0; i < n; i++)
        p->out[p->len++ % sizeof(p->out)] = (char)buf[i];
    p->room -= n;
    return n;
}

static void printer_close(Chardev *chr) { (void)chr; }
static const ChrBackend printer_backend = {
    .name = "printer", .write = printer_write, .close = printer_close,
};
static void acked(void *opaque, int n, bool level) { (void)opaque; (void)n; acks += level; }

static void put(char c, u8 control)
{
    out8(0x378, (u8)c);
    out8(0x37a, control | 1);
    out8(0x37a, control);
}

static void test_printing(void)
{
    devices_reset(m);
    printer.len = 0;
    printer.room = 100;
    acks = 0;
    CHECK_MSG(in8(0x37a) == 0xcc && in8(0x379) == 0xdf, "selected, ready, no error");
    put('a', 0x0c);
    put('b', 0x0c);
    out8(0x378, 'c');
    CHECK_MSG(printer.len == 2 && !memcmp(printer.out, "ab", 2), "a byte a strobe");
    CHECK(in8(0x378) == 'c' && !acks);
    out8(0x37a, 0x0d);
    out8(0x37a, 0x0d);
    CHECK_MSG(printer.len == 3, "the strobe's edge counts, not its level");
    out8(0x37a, 0x0c);
    put('d', 0x1c);
    CHECK_MSG(acks == 1, "acknowledge interrupts when it is enabled");
    printer.room = 0;
    put('e', 0x1c);
    CHECK_MSG(in8(0x379) == 0x5f && acks == 1, "a full printer is busy");
    put('f', 0x1c);
    printer.room = 10;
    chardev_writable(&printer.chr);
    CHECK_MSG(printer.len == 5 && printer.out[4] == 'e' && in8(0x379) == 0xdf && acks == 2, "and goes on");
    out8(0x37a, 0x2c);
    CHECK_MSG(in8(0x378) == 0xff, "turned to input the data lines float");
    CHECK_MSG(in8(0x279) == 0x7f, "no printer on the second port");
    out8(0x278, 'x');
    out8(0x27a, 1);
    CHECK(in8(0x278) == 'x');
}

static void random_printer(void)
{
    if (rnd() % 8 == 0)
        printer.room = rnd() % 4;
    if (rnd() % 8 == 0)
        chardev_writable(&printer.chr);
}

int main(void)
{
    static const Range ports[] = { { 0x378, 3 }, { 0x278, 3 } };

    bench_machine(NULL);
    chardev_init(&printer.chr, &printer_backend, m, "parallel0");
    parallel_create(m, 0x378, (Irq){ acked, NULL, 7 }, &printer.chr);
    parallel_create(m, 0x278, (Irq){ 0 }, NULL);
    test_printing();
    port_storm(ports, ARRAY_LEN(ports), 200000, random_printer);
    check_saves("parallel");
    test_printing();
    bench_end();
    return test_end();
}
