/* fw_cfg: items by port and by DMA, the directory, what it refuses, saving; ports 92h, E9h and
 * isa-debug-exit. */
#include "test.h"

#include "../core/vm/machine.h"
#include "../devices/debug_ports.h"
#include "../devices/fw_cfg.h"
#include "../devices/port92.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

static Machine *m;
static u8 *ram;

enum { DESC = 0x1000, BUF = 0x2000 };

static u32 be32(const u8 *p) { return __builtin_bswap32(load32(p)); }

/* Carries out a descriptor; returns what is in its control field afterwards. */
static u32 dma(u32 control, u32 length, u64 addr)
{
    store32(ram + DESC, __builtin_bswap32(control));
    store32(ram + DESC + 4, __builtin_bswap32(length));
    store64(ram + DESC + 8, __builtin_bswap64(addr));
    port_write(m, 0x514, 0, 4);
    port_write(m, 0x518, __builtin_bswap32(DESC), 4);
    return be32(ram + DESC);
}

static void test_ports(FwCfg *fw)
{
    char text[5] = { 0 };

    port_write(m, 0x510, FW_CFG_SIGNATURE, 2);
    for (int i = 0; i < 4; i++)
        text[i] = (char)port_read(m, 0x511, 1);
    CHECK(!strcmp(text, "QEMU"));
    CHECK_MSG(port_read(m, 0x511, 1) == 0, "zeros behind an item's end");
    port_write(m, 0x510, FW_CFG_ID, 2);
    CHECK_MSG(port_read(m, 0x511, 1) == 3, "ports and DMA are there");
    fw_cfg_add16(fw, FW_CFG_NB_CPUS, 0x1234);
    fw_cfg_add16(fw, FW_CFG_NB_CPUS, 0x0102);
    port_write(m, 0x510, FW_CFG_NB_CPUS, 2);
    CHECK_MSG(port_read(m, 0x511, 1) == 2 && port_read(m, 0x511, 1) == 1,
              "a key given twice has the later data");
    port_write(m, 0x510, 0x7777, 2);
    CHECK_MSG(port_read(m, 0x511, 1) == 0, "an item that is not there is empty");
    CHECK(port_read(m, 0x514, 4) == 0x554d4551 && port_read(m, 0x518, 4) == 0x47464320);
}

static void test_directory(FwCfg *fw)
{
    u8 dir[4 + 3 * 64];

    CHECK(fw_cfg_add_file(fw, "etc/one", "1", 1) && fw_cfg_add_file(fw, "etc/two", "22", 2));
    char name[FW_CFG_NAME + 1];
    memset(name, 'x', sizeof(name));
    name[FW_CFG_NAME] = 0;
    CHECK_MSG(!fw_cfg_add_file(fw, name, "", 0), "a name that is too long is refused");
    CHECK(dma(FW_CFG_FILE_DIR << 16 | 8 | 2, sizeof(dir), BUF) == 0);
    memcpy(dir, ram + BUF, sizeof(dir));
    CHECK(be32(dir) == 2 && be32(dir + 4) == 1 && !strcmp((char *)dir + 12, "etc/one"));
    CHECK(be32(dir + 68) == 2 && !strcmp((char *)dir + 76, "etc/two"));
    u16 key = (u16)(dir[72] << 8 | dir[73]);
    CHECK(dma((u32)key << 16 | 8 | 2, 2, BUF) == 0 && !memcmp(ram + BUF, "22", 2));
    int more = 0;
    while (more < 100 && fw_cfg_add_file(fw, "more", "", 0))
        more++;
    CHECK_MSG(more == FW_CFG_FILES - 2, "the directory is bounded");
}

static void test_dma(FwCfg *fw)
{
    fw_cfg_add(fw, 0x100, "abcdefgh", 8);
    memset(ram + BUF, 0xff, 32);
    CHECK(dma(0x100 << 16 | 8 | 2, 4, BUF) == 0 && !memcmp(ram + BUF, "abcd\xff", 5));
    CHECK_MSG(dma(4, 2, 0) == 0 && dma(2, 1, BUF) == 0 && ram[BUF] == 'g',
              "skip moves on, read goes on there");
    CHECK_MSG(dma(2, 4, BUF) == 0 && !memcmp(ram + BUF, "h\0\0\0\xff", 5), "zeros behind the end");
    CHECK_MSG(dma(0x100 << 16 | 8, 0, 0) == 0 && dma(2, 1, BUF) == 0 && ram[BUF] == 'a', "select alone");
    CHECK_MSG(dma(0x100 << 16 | 8 | 16, 4, BUF) == 1, "items can't be written");
    CHECK_MSG(dma(0x100 << 16 | 8 | 2, 0xffffffff, BUF) == 1, "no gigabytes of zeros");
    CHECK_MSG(dma(0x100 << 16 | 8 | 2, 8, 0xfffffffffffffffcull) == 0,
              "a destination that is nowhere is survived");
    CHECK_MSG(dma(2, 100, DESC - 50) == 0, "a transfer over the descriptor itself");
    port_write(m, 0x510, 0x100, 2);
    port_write(m, 0x514, 0xffffffff, 4);
    port_write(m, 0x518, 0xffffffff, 4);
    CHECK_MSG(dma(0x100 << 16 | 8 | 2, 1, BUF) == 0 && ram[BUF] == 'a',
              "a descriptor that is nowhere is survived");
}

static void test_state(FwCfg *fw)
{
    Error err;
    SaveBuf a = { 0 }, b = { 0 };
    Device *dev = (Device *)fw;

    CHECK(device_class_tiles(&fw_cfg_class, &err) && device_class_tiles(&port92_class, &err) &&
          device_class_tiles(&debugcon_class, &err));
    port_write(m, 0x510, 0x100, 2);
    port_read(m, 0x511, 1);
    device_save(dev, &a);
    device_reset(dev);
    CHECK(port_read(m, 0x511, 1) == 'Q');
    CHECK(device_load(dev, a.data, a.len, &err) && port_read(m, 0x511, 1) == 'b');
    device_load(dev, a.data, a.len, &err);
    device_save(dev, &b);
    CHECK(a.len == b.len && !memcmp(a.data, b.data, a.len));
    free(a.data);
    free(b.data);
}

static void test_storm(FwCfg *fw)
{
    static const u16 ports[] = { 0x510, 0x511, 0x514, 0x516, 0x518, 0x519, 0x51a, 0x92, 0xe9 };
    u32 seed = 99;

    for (int i = 0; i < 200000; i++) {
        seed = seed * 1664525 + 1013904223;
        u32 r = seed >> 8, value = seed ^ seed << 7;
        if (r & 1)
            port_read(m, ports[r % ARRAY_LEN(ports)], 1u << (r >> 6) % 3);
        else
            port_write(m, ports[r % ARRAY_LEN(ports)], r & 0x10 ? __builtin_bswap32(value & 0xffff0) : value,
                       1u << (r >> 6) % 3);
    }
    device_reset((Device *)fw);
    port_write(m, 0x510, FW_CFG_SIGNATURE, 2);
    CHECK_MSG(port_read(m, 0x511, 1) == 'Q', "it works after a storm of random accesses");
}

/* ---- port 92h, console, exit ---- */

static bool a20 = true;
static int resets;
static void a20_set(void *opaque, bool on) { (void)opaque; a20 = on; }
static bool a20_get(void *opaque) { (void)opaque; return a20; }
static void reset_set(void *opaque, int n, bool level) { (void)opaque; (void)n; resets += level; }

static void test_port92(void)
{
    port92_create(m, (A20Gate){ a20_set, a20_get, NULL }, (Irq){ reset_set, NULL, 0 });
    CHECK(port_read(m, 0x92, 1) == 0x02);
    port_write(m, 0x92, 0x00, 1);
    CHECK(!a20 && port_read(m, 0x92, 1) == 0x00);
    a20 = true;
    CHECK_MSG(port_read(m, 0x92, 1) == 0x02, "the gate reads as it is, whoever set it");
    port_write(m, 0x92, 0x03, 1);
    port_write(m, 0x92, 0x03, 1);
    CHECK_MSG(resets == 1, "the rising edge of FAST_INIT resets");
}

typedef struct { Chardev chr; char text[200000]; size_t got, room; bool closed; } Sink;
static size_t sink_write(Chardev *chr, const u8 *buf, size_t n)
{
    Sink *s = CONTAINER_OF(chr, Sink, chr);
    n = n < s->room ? n : s->room;
    memcpy(s->text + s->got, buf, n);
    s->got += n;
    s->room -= n;
    return n;
}
static void sink_close(Chardev *chr) { CONTAINER_OF(chr, Sink, chr)->closed = true; }
static const ChrBackend sink_backend = { .name = "sink", .write = sink_write, .close = sink_close };
static Sink sink;

static void test_console(void)
{
    chardev_init(&sink.chr, &sink_backend, m, "debugcon");
    DebugCon *con = debugcon_create(m, &sink.chr);
    debugcon_add_port(con, 0xe9);
    debugcon_add_port(con, 0x402);
    CHECK(port_read(m, 0xe9, 1) == 0xe9 && port_read(m, 0x402, 1) == 0xe9);
    sink.room = 2;
    for (const char *s = "hello"; *s; s++)
        port_write(m, s[1] ? 0xe9 : 0x402, (u8)*s, 1);
    CHECK_MSG(sink.got == 2, "what the backend does not take waits");
    sink.room = 150000;
    chardev_writable(&sink.chr);
    CHECK(sink.got == 5 && !memcmp(sink.text, "hello", 5));
    sink.room = 0;
    for (int i = 0; i < 100000; i++)
        port_write(m, 0xe9, 'x', 1);
    sink.room = 150000;
    chardev_writable(&sink.chr);
    CHECK_MSG(sink.got == 5 + 65536, "what waits is bounded");
    port_write(m, 0x402, 'y', 1);
    CHECK(sink.text[5 + 65536] == 'y');
    sink.room = 100;
}

static void test_exit(void)
{
    Error err;
    u64 next;

    CHECK(!debug_exit_create(m, 0xffff, 2, &err) && !debug_exit_create(m, 0x501, 0, &err));
    CHECK(debug_exit_create(m, 0xf4, 4, &err) && machine_service(m, &next));
    port_write(m, 0xf4, 0x10, 1);
    CHECK(!machine_service(m, &next) && machine_exit_code(m) == 0x21);
}

int main(void)
{
    Config cfg;
    Error err;

    host_posix_init();
    config_default(&cfg);
    cfg.ram_bytes = 2 << 20;
    m = machine_create(&cfg, 4 << 20, &err);
    machine_lock(m);
    MemRegion *region = mem_ram(m->mem, "ram", 2 << 20);
    mem_map(m->mem, region, 0, 0, 2 << 20, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    FwCfg *fw = fw_cfg_create(m);

    test_ports(fw);
    test_directory(fw);
    test_dma(fw);
    test_state(fw);
    test_port92();
    test_console();
    test_storm(fw);
    test_exit();
    machine_unlock(m);
    machine_destroy(m);
    CHECK_MSG(sink.closed, "the console closes its backend");
    return test_end();
}
