/* What the tests of disks and their controllers share: a machine without a CPU, image files, a main loop by
 * hand. */
#ifndef TESTS_DISK_BENCH_H
#define TESTS_DISK_BENCH_H

#include "test.h"

#include "../core/vm/blk.h"
#include "../core/vm/clocks.h"
#include "../core/vm/device.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BENCH_RAM = 16 << 20 };

static Machine *m;
static u8 *ram;
static char bench_files[64][64];
static unsigned bench_file_count;

/* Removed when the test ends. size 0 is allowed; byte i of sector n is n * 7 + i / 2 + n / 256. */
__attribute__((unused)) static u8 pattern(u64 offset)
{
    u64 n = offset / 512;

    return (u8)(n * 7 + offset % 512 / 2 + n / 256);
}

__attribute__((unused)) static void bench_remove_files(void)
{
    while (bench_file_count)
        unlink(bench_files[--bench_file_count]);
}

__attribute__((unused)) static const char *bench_file(u64 size)
{
    char *name = bench_files[bench_file_count++ % 64];
    int fd;

    strcpy(name, "/tmp/qemu-win-disk-XXXXXX");
    fd = mkstemp(name);
    for (u64 at = 0; at < size;) {
        u8 buf[4096];
        size_t n = size - at < sizeof(buf) ? size - at : sizeof(buf);

        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(at + i);
        if (write(fd, buf, n) != (ssize_t)n)
            abort();
        at += n;
    }
    close(fd);
    return name;
}

__attribute__((unused)) static u8 *bench_contents(const char *file, size_t *size)
{
    Error err;
    u8 *p = host_file_slurp(file, 64 << 20, size, &err);

    if (!p)
        abort();
    return p;
}

__attribute__((unused)) static void bench_machine(void)
{
    static Config cfg;
    Error err;
    MemRegion *r;

    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, 2 * BENCH_RAM, &err);
    if (!m)
        abort();
    machine_lock(m);
    r = mem_ram(m->mem, "ram", BENCH_RAM);
    mem_map(m->mem, r, 0, 0, BENCH_RAM, 0, MEM_RW);
    ram = mem_ram_ptr(r);
    clocks_run(m, true);
}

__attribute__((unused)) static Blk *bench_drive(const char *file, bool cdrom, bool readonly, bool snapshot)
{
    DriveConfig cfg = { .used = true, .iface = IF_NONE, .cdrom = cdrom, .readonly = readonly,
                        .snapshot = snapshot,
                        .file = (char *)file };
    Error err = { "" };
    Blk *blk = blk_create(m, &cfg, "drive", &err);

    if (!blk) {
        printf("%s\n", err.text);
        abort();
    }
    return blk;
}

/* One turn of the main loop. */
__attribute__((unused)) static void turn(void)
{
    host_io_wait();
    timers_run(m);
}

/* Turns the main loop until cond holds; false after two seconds. */
#define WAIT_FOR(cond) ({ \
        u64 until_ = host_now_ns() + 2 * NS_PER_SEC; \
        while (!(cond) && host_now_ns() < until_) \
            turn(); \
        (bool)(cond); \
    })

__attribute__((unused)) static void out8(u32 port, u8 v) { port_write(m, port, v, 1); }
__attribute__((unused)) static u8 in8(u32 port) { return (u8)port_read(m, port, 1); }

/* A small generator: the same numbers on every run, others with QEMU_WIN_SEED=n. */
__attribute__((unused)) static u32 bench_random(void)
{
    static u64 x;

    if (!x)
        x = 88172645463325252ull + (getenv("QEMU_WIN_SEED") ? strtoull(getenv("QEMU_WIN_SEED"), NULL, 0) : 0);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (u32)(x >> 16);
}

/* save -> load -> save gives the same bytes. */
__attribute__((unused)) static bool bench_save_load(Device *dev)
{
    SaveBuf a = { 0 }, b = { 0 };
    Error err = { "" };
    bool ok;

    device_save(dev, &a);
    ok = device_load(dev, a.data, a.len, &err);
    if (!ok)
        printf("%s\n", err.text);
    device_save(dev, &b);
    ok = ok && a.len == b.len && !memcmp(a.data, b.data, a.len);
    free(a.data);
    free(b.data);
    return ok;
}

#endif
