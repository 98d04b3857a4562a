/*
 * The board: what the firmware is told, where it shows, resets, shared interrupts, what is refused; the state
 * of all its chips; and a storm of random port and memory accesses (R2 of RELIABILITY).
 */
#include "test.h"

#include "../core/vm/cpu.h"
#include "../core/vm/device.h"
#include "../core/vm/machine.h"
#include "../core/vm/timer.h"
#include "../devices/fw_cfg.h"
#include "../devices/pc.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

/* The native host reads firmware anew for each question and never frees it: it is the program's. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

static Machine *m;
static Error err;

static char *text(const char *s)
{
    char *copy = malloc(strlen(s) + 1);
    return strcpy(copy, s);
}

static bool make(Config *cfg)
{
    m = machine_create(cfg, pc_arena_bytes(cfg), &err);
    machine_lock(m);
    err.text[0] = 0;
    if (!pc_create(m, &err))
        return false;
    devices_reset(m);
    cpu_reset(m->cpu);
    machine_cont(m);
    return true;
}

static void drop(void)
{
    machine_unlock(m);
    machine_destroy(m);
    m = NULL;
}

static u8 cmos(u8 index)
{
    port_write(m, 0x70, index, 1);
    return (u8)port_read(m, 0x71, 1);
}

static void cfg_write(int devfn, int reg, u32 value, unsigned size)
{
    port_write(m, 0xcf8, 0x80000000u | (u32)devfn << 8 | (u32)(reg & 0xfc), 4);
    port_write(m, 0xcfc + (reg & 3), value, size);
}

static u8 fw_byte(u16 key, int skip)
{
    u8 value = 0;

    port_write(m, 0x510, key, 2);
    for (int i = 0; i <= skip; i++)
        value = (u8)port_read(m, 0x511, 1);
    return value;
}

/* ---- what the firmware finds ---- */

static void test_firmware_view(void)
{
    Config cfg;

    config_default(&cfg);
    cfg.ram_bytes = 64 << 20;
    strcpy(cfg.boot, "dca");
    cfg.fd_bootchk = false;
    CHECK(make(&cfg));
    CHECK_MSG(mem_bus_read(m->mem, 0xfffffff0, 1) == 0xea, "the reset vector is a far jump");
    u64 vector = mem_bus_read(m->mem, 0xfffffff0, 8);
    CHECK_MSG(mem_bus_read(m->mem, 0xffff0, 8) == vector, "and shows below 1 MiB");
    CHECK_MSG(mem_bus_read(m->mem, 0xffeffff0, 8) == vector, "and where a closed A20 gate leads");
    mem_bus_write(m->mem, 0xffff0, 0, 8);
    CHECK(mem_bus_read(m->mem, 0xffff0, 8) == vector);

    CHECK(cmos(0x15) == 0x80 && cmos(0x16) == 0x02);
    CHECK_MSG(cmos(0x34) == 0x00 && cmos(0x35) == 0x03, "48 MiB above 16 MiB");
    CHECK_MSG(cmos(0x17) == 0x00 && cmos(0x18) == 0xfc && cmos(0x30) == 0x00 && cmos(0x31) == 0xfc,
              "63 MiB above 1 MiB");
    CHECK_MSG(cmos(0x3d) == 0x23 && (cmos(0x38) & 0xf0) == 0x10, "boot order CD-ROM, disk, floppy");
    CHECK_MSG(cmos(0x38) & 1, "-no-fd-bootchk");
    CHECK(cmos(0x5f) == 0 && (cmos(0x14) & 0x06) == 0x06);
    u16 sum = 0;
    for (u8 i = 0x10; i < 0x2e; i++)
        sum = (u16)(sum + cmos(i));
    CHECK_MSG(sum == (cmos(0x2e) << 8 | cmos(0x2f)), "the CMOS checksum");
    CHECK(fw_byte(FW_CFG_SIGNATURE, 2) == 'M' && fw_byte(FW_CFG_NB_CPUS, 0) == 1 && fw_byte(FW_CFG_RAM_SIZE,
                                                                                            3) == 4);
    CHECK_MSG(fw_byte(FW_CFG_IRQ0_OVERRIDE, 0) == 1, "the timer is on pin 2 of the I/O APIC");
    CHECK_MSG(port_read(m, 0x402, 1) == 0xff && port_read(m, 0xe9, 1) == 0xff, "no console, no debug ports");
    drop();
}

static void test_memory_layout(void)
{
    Config cfg;

    config_default(&cfg);
    cfg.ram_bytes = 3600ull << 20;
    CHECK(make(&cfg));
    mem_bus_write(m->mem, 0xdffffffc, 0x11111111, 4);
    CHECK(mem_bus_read(m->mem, 0xdffffffc, 4) == 0x11111111);
    CHECK_MSG(mem_bus_read(m->mem, 0xe0000000, 4) == 0xffffffff, "RAM ends at 3.5 GiB");
    mem_bus_write(m->mem, 0x100000000ull, 0x22222222, 4);
    CHECK_MSG(mem_bus_read(m->mem, 0x100000000ull, 4) == 0x22222222, "and goes on above 4 GiB");
    CHECK_MSG(cmos(0x5b) == 0x00 && cmos(0x5c) == 0x01, "16 MiB there");
    drop();
}

static void test_isapc(void)
{
    Config cfg;

    config_default(&cfg);
    cfg.isapc = true;
    CHECK(make(&cfg));
    CHECK(!m->pci && mem_bus_read(m->mem, 0xffff0, 1) == 0xea && port_read(m, 0xcf8, 4) == 0xffffffff);
    mem_bus_write(m->mem, 0xffff0, 0x00, 1);
    CHECK_MSG(mem_bus_read(m->mem, 0xffff0, 1) == 0x00, "the firmware runs in RAM");
    devices_reset(m);
    CHECK_MSG(mem_bus_read(m->mem, 0xffff0, 1) == 0xea, "and is there again after a reset");
    CHECK(!m->powerdown);
    drop();
}

/* ---- resets ---- */

static void test_boot_once(void)
{
    Config cfg;

    config_default(&cfg);
    strcpy(cfg.boot, "c");
    strcpy(cfg.boot_once, "da");
    CHECK(make(&cfg));
    m->board_reset(m->board_opaque);
    CHECK_MSG(cmos(0x3d) == 0x13, "-boot once= at the machine's start: %02x", cmos(0x3d));
    devices_reset(m);
    m->board_reset(m->board_opaque);
    CHECK_MSG(cmos(0x3d) == 0x02, "and the order from the next reset on: %02x", cmos(0x3d));
    drop();
}

static bool shadow(void) { return mem_page(m->mem, 0xf0000).direct_write; }

/* Marks the chip set with something that a reset of the machine takes away. */
static void mark(u8 shutdown_code)
{
    port_write(m, 0x70, 0x0f, 1);
    port_write(m, 0x71, shutdown_code, 1);
    cfg_write(0, 0x59, 0x30, 1);
}

static void test_resets(void)
{
    Config cfg;
    u64 next;

    config_default(&cfg);
    CHECK(make(&cfg));
    mark(0);
    port_write(m, 0x64, 0xfe, 1);
    machine_service(m, &next);
    CHECK_MSG(!shadow(), "the keyboard controller's reset restarts the machine");
    mark(5);
    port_write(m, 0x64, 0xfe, 1);
    machine_service(m, &next);
    CHECK_MSG(shadow() && cpu_has_work(m->cpu), "with a shutdown code in CMOS it is the CPU's alone");
    cpu_reset(m->cpu);
    mark(0);
    port_write(m, 0x92, 0x01, 1);
    machine_service(m, &next);
    CHECK_MSG(!shadow(), "port 92h");
    mark(9);
    port_write(m, 0xcf9, 0x02, 1);
    port_write(m, 0xcf9, 0x06, 1);
    machine_service(m, &next);
    CHECK_MSG(!shadow(), "CF9h, whatever is in CMOS");
    drop();

    config_default(&cfg);
    cfg.no_reboot = true;
    CHECK(make(&cfg));
    port_write(m, 0xcf9, 0x06, 1);
    CHECK_MSG(!machine_service(m, &next) && machine_exit_code(m) == 0,
              "-no-reboot: a reset ends the program");
    drop();
}

static void test_a20(void)
{
    Config cfg;

    config_default(&cfg);
    CHECK(make(&cfg) && cpu_get_a20(m->cpu));
    port_write(m, 0x92, 0x00, 1);
    CHECK(!cpu_get_a20(m->cpu));
    port_write(m, 0x64, 0xd1, 1);
    port_write(m, 0x60, 0xdf, 1);
    CHECK_MSG(cpu_get_a20(m->cpu) && (port_read(m, 0x92, 1) & 2),
              "the keyboard controller opens the same gate");
    drop();
}

/* COM1 and COM3 share IRQ 4: the line is up while either wants it. */
static void test_shared_interrupt(void)
{
    Config cfg;

    config_default(&cfg);
    cfg.isapc = true;
    cfg.serial[0] = text("null");
    cfg.serial[2] = text("null");
    CHECK(make(&cfg));
    port_write(m, 0x4d0, 0x10, 1);          /* level-triggered, to see the level in IRR */
    port_write(m, 0x20, 0x0a, 1);
    port_write(m, 0x3fc, 0x08, 1);
    port_write(m, 0x3ec, 0x08, 1);
    port_write(m, 0x3f9, 0x02, 1);          /* transmitter empty */
    port_write(m, 0x3e9, 0x02, 1);
    CHECK(port_read(m, 0x20, 1) & 0x10);
    port_write(m, 0x3f9, 0x00, 1);
    CHECK_MSG(port_read(m, 0x20, 1) & 0x10, "one of two sources still pulls");
    port_write(m, 0x3e9, 0x00, 1);
    CHECK_MSG(!(port_read(m, 0x20, 1) & 0x10), "none does");
    CHECK_MSG(port_read(m, 0x2fd, 1) == 0xff, "a port that was not asked for is not there");
    drop();
    config_free(&cfg);
}

/* ---- refusals ---- */

static bool refused(Config *cfg, const char *words)
{
    bool ok = !make(cfg) && strstr(err.text, words);

    if (!ok)
        printf("message: %s\n", err.text);
    drop();
    config_free(cfg);
    return ok;
}

static void test_refused(void)
{
    Config cfg;

    config_default(&cfg);
    cfg.bios = text("no-such-firmware.bin");
    CHECK(refused(&cfg, "no-such-firmware.bin: there is no such firmware"));
    config_default(&cfg);
    cfg.bios = text("Makefile.mingw");
    CHECK(refused(&cfg, "multiple of 64 KiB"));
    config_default(&cfg);
    cfg.kernel = text("no-such-kernel");
    CHECK(refused(&cfg, "no-such-kernel"));
    config_default(&cfg);
    cfg.kernel = text("Makefile.mingw");
    CHECK(refused(&cfg, "neither a Linux kernel"));
    config_default(&cfg);
    cfg.device[0].used = true;
    cfg.device[0].spec = text("flux-capacitor,x=1");
    CHECK(refused(&cfg, "-device flux-capacitor: no such device"));
    config_default(&cfg);
    cfg.device[0].used = true;
    cfg.device[0].spec = text("isa-debug-exit,iobase=banana");
    CHECK(refused(&cfg, "iobase=banana"));
    config_default(&cfg);
    cfg.device[0].used = true;
    cfg.device[0].spec = text("isa-debugcon,iobase=0x402");
    CHECK(refused(&cfg, "needs chardev="));
    config_default(&cfg);
    cfg.serial[0] = text("telepathy");
    CHECK(refused(&cfg, "telepathy"));
}

/* ---- state, storm ---- */

static void test_state(bool isapc)
{
    Config cfg;
    SaveBuf a = { 0 }, b = { 0 };

    config_default(&cfg);
    cfg.isapc = isapc;
    cfg.serial[0] = text("null");
    cfg.parallel[0] = text("null");
    CHECK(make(&cfg));
    machine_stop(m);
    for (Device *d = m->devices; d; d = d->next) {
        a.len = b.len = 0;
        CHECK_MSG(device_class_tiles(d->cls, &err), "%s", err.text);
        device_save(d, &a);
        CHECK_MSG(device_load(d, a.data, a.len, &err), "%s loads what it saved: %s", d->id, err.text);
        device_save(d, &b);
        CHECK_MSG(a.len == b.len && !memcmp(a.data, b.data, a.len), "%s: save, load, save is the same",
                  d->id);
    }
    free(a.data);
    free(b.data);
    drop();
    config_free(&cfg);
}

static u32 seed;
static u32 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* Half of the ports are those where chips are. */
static u32 random_port(void)
{
    static const u16 places[] = { 0x00, 0x20, 0x40, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xf0, 0x170,
                                  0x1ce, 0x1f0,
                                  0x278, 0x2f8, 0x378, 0x3b0, 0x3c0, 0x3d0, 0x3f0, 0x3f8, 0x4d0, 0x510,
                                  0x514, 0x600,
                                  0xcf8, 0xcfc, 0xc000, 0xafe0 };
    u32 r = rnd();
    return r & 1 ? rnd() & 0xffff : places[(r >> 1) % ARRAY_LEN(places)] + (r >> 8 & 0xf);
}

static u64 random_address(void)
{
    static const u32 places[] = { 0xa0000, 0xb8000, 0xc0000, 0xe0000, 0xf0000, 0x100000, 0xfec00000,
                                  0xfee00000,
                                  0xe0000000, 0xe1000000, 0xe2000000, 0xfffc0000, 0x1000 };
    return places[rnd() % ARRAY_LEN(places)] + (rnd() & 0x7ffff) % (rnd() & 3 ? 0x800 : 0x80000);
}

static void storm(bool isapc, int operations)
{
    Config cfg;

    config_default(&cfg);
    cfg.isapc = isapc;
    cfg.ram_bytes = 8 << 20;
    cfg.serial[0] = text("null");
    cfg.parallel[0] = text("null");
    CHECK(make(&cfg));
    for (int i = 0; i < operations; i++) {
        unsigned size = 1u << rnd() % 3;
        switch (rnd() % 8) {
        case 0:
        case 1:
        case 2:
            port_write(m, random_port(), rnd(), size);
            break;
        case 3:
        case 4:
            port_read(m, random_port(), size);
            break;
        case 5:
            mem_bus_write(m->mem, random_address(), rnd(), size);
            break;
        case 6:
            mem_bus_read(m->mem, random_address(), size);
            break;
        default:
            if (!isapc)
                cfg_write((int)(rnd() % 0x18), (int)(rnd() & 0xff),
                          rnd() & 1 ? 0xe0000007 | rnd() << 16 : rnd(), size);
            break;
        }
        if (i % 64 == 0)
            timers_run(m);
        if (i % 20000 == 19999)
            devices_reset(m);
    }
    devices_reset(m);
    CHECK_MSG(mem_bus_read(m->mem, 0xffff0, 1) == 0xea && fw_byte(FW_CFG_SIGNATURE, 0) == 'Q',
              "the board starts again after a storm of random accesses");
    drop();
    config_free(&cfg);
}

int main(int argc, char **argv)
{
    int operations = argc > 1 ? atoi(argv[1]) : 200000;

    host_posix_init();
    seed = argc > 2 ? (u32)atoi(argv[2]) : 1;
    test_firmware_view();
    test_memory_layout();
    test_isapc();
    test_boot_once();
    test_resets();
    test_a20();
    test_shared_interrupt();
    test_refused();
    test_state(false);
    test_state(true);
    storm(false, operations);
    storm(true, operations / 2);
    return test_end();
}
