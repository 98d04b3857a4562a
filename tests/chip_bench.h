/*
 * What the tests of chips share: a machine whose clock the test moves itself, a CPU that is only its pins,
 * random guests. Defines all of cpu.h, so that no real CPU is linked.
 */
#ifndef TESTS_CHIP_BENCH_H
#define TESTS_CHIP_BENCH_H

#include "test.h"

#include "../core/vm/clocks.h"
#include "../core/vm/cpu.h"
#include "../core/vm/device.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

#define US 1000ull
#define MS 1000000ull
#define SEC 1000000000ull

/* ---- a CPU that is only pins ---- */

struct Cpu {
    bool intr;
    int nmis, smis, inits;
    int (*ack)(void *opaque);
    void *ack_opaque;
    u64 (*get_base)(void *opaque);
    void (*set_base)(void *opaque, u64 value);
    void *apic_opaque;
};
static struct Cpu the_cpu;

static void pin_intr(void *o, int n, bool level) { (void)n; ((Cpu *)o)->intr = level; }
static void pin_count(void *o, int n, bool level) { (void)n; *(int *)o += level; }
Irq cpu_intr_line(Cpu *cpu) { return (Irq){ pin_intr, cpu, 0 }; }
Irq cpu_nmi_line(Cpu *cpu) { return (Irq){ pin_count, &cpu->nmis, 0 }; }
Irq cpu_smi_line(Cpu *cpu) { return (Irq){ pin_count, &cpu->smis, 0 }; }
Irq cpu_init_line(Cpu *cpu) { return (Irq){ pin_count, &cpu->inits, 0 }; }
Irq cpu_ferr_line_to(Cpu *cpu, Irq irq) { (void)cpu; return irq; }
void cpu_connect_intack(Cpu *cpu, int (*ack)(void *opaque), void *opaque)
{
    cpu->ack = ack;
    cpu->ack_opaque = opaque;
}
void cpu_connect_apic(Cpu *cpu, u64 (*get)(void *opaque), void (*set)(void *opaque, u64 value), void *opaque)
{
    cpu->get_base = get;
    cpu->set_base = set;
    cpu->apic_opaque = opaque;
}
void cpu_connect_smm(Cpu *c, void (*smm)(void *opaque, bool active), void *o) { (void)c; (void)smm; (void)o; }
Cpu *cpu_create(Machine *on, const char *model, Error *e) { (void)on; (void)model; (void)e; return &the_cpu; }
void cpu_destroy(Cpu *cpu) { (void)cpu; }
void cpu_reset(Cpu *cpu) { (void)cpu; }
CpuExit cpu_run(Cpu *cpu) { (void)cpu; return CPU_EXIT_STOP; }
bool cpu_has_work(Cpu *cpu) { return cpu->intr; }
void cpu_attention(Cpu *cpu, u32 bits) { (void)cpu; (void)bits; }
void cpu_set_a20(Cpu *cpu, bool on) { (void)cpu; (void)on; }
bool cpu_get_a20(Cpu *cpu) { (void)cpu; return true; }
void cpu_memory_changed(Cpu *cpu) { (void)cpu; }
void cpu_code_written(Cpu *cpu, u32 page, u32 off, u32 n) { (void)cpu; (void)page; (void)off; (void)n; }
u64 cpu_eip(Cpu *cpu) { (void)cpu; return 0; }
bool cpu_virt_to_phys(Cpu *cpu, u64 lin, u64 *phys) { (void)cpu; *phys = lin; return true; }
bool cpu_get_register(Cpu *cpu, const char *name, u64 *v) { (void)cpu; (void)name; (void)v; return false; }
void cpu_info_registers(Cpu *cpu, PrintFn *print, void *o) { (void)cpu; (void)print; (void)o; }
void cpu_info_mem(Cpu *cpu, PrintFn *print, void *o) { (void)cpu; (void)print; (void)o; }
void cpu_info_tlb(Cpu *cpu, PrintFn *print, void *o) { (void)cpu; (void)print; (void)o; }
void cpu_info_jit(Cpu *cpu, PrintFn *print, void *o) { (void)cpu; (void)print; (void)o; }
unsigned cpu_disassemble(const u8 *code, unsigned len, u64 at, unsigned bits, char *out, size_t size)
{
    (void)code;
    (void)len;
    (void)at;
    (void)bits;
    if (size)
        *out = 0;
    return 1;
}
unsigned cpu_code_bits(Cpu *cpu) { (void)cpu; return 32; }

/* The CPU takes an interrupt; -1: none is offered. */
__attribute__((unused)) static int take_interrupt(void)
{
    return the_cpu.intr ? the_cpu.ack(the_cpu.ack_opaque) : -1;
}

/* ---- a machine whose time the test moves ---- */

enum { BENCH_RAM = 2 << 20 };

static Machine *m;
static u64 bench_now = 1000 * SEC;

__attribute__((unused)) static void bench_machine(const Config *changed)
{
    static Config cfg;
    Error err = { "" };
    MemRegion *r;

    host_posix_init();
    host_posix_set_time(bench_now);
    config_default(&cfg);
    m = machine_create(changed ? changed : &cfg, 2 * BENCH_RAM, &err);
    if (!m)
        abort();
    m->cpu = &the_cpu;
    machine_lock(m);
    r = mem_ram(m->mem, "ram", BENCH_RAM);
    mem_map(m->mem, r, 0, 0, BENCH_RAM, 0, MEM_RW);
    clocks_run(m, true);
}

__attribute__((unused)) static void bench_end(void)
{
    machine_unlock(m);
    machine_destroy(m);
}

/* Time passes; every timer fires at its moment. */
__attribute__((unused)) static void pass(u64 ns)
{
    u64 end = bench_now + ns;

    for (;;) {
        u64 next = timers_run(m);

        if (next > end)
            break;
        if (next > bench_now)
            bench_now = next;
        host_posix_set_time(bench_now);
    }
    bench_now = end;
    host_posix_set_time(bench_now);
    timers_run(m);
}

/* Time passes and the main loop sleeps through it. */
__attribute__((unused)) static void oversleep(u64 ns)
{
    bench_now += ns;
    host_posix_set_time(bench_now);
}

__attribute__((unused)) static void out8(u32 port, u8 v) { port_write(m, port, v, 1); }
__attribute__((unused)) static u8 in8(u32 port) { return (u8)port_read(m, port, 1); }

/* ---- a random guest ---- */

static u64 bench_seed = 1;

__attribute__((unused)) static u32 rnd(void)
{
    bench_seed ^= bench_seed << 13;
    bench_seed ^= bench_seed >> 7;
    bench_seed ^= bench_seed << 17;
    return (u32)(bench_seed >> 16);
}

typedef struct { u32 first, count; } Range;

/* Random accesses of all sizes to these ports, with pauses and resets. each() comes between; may be NULL. */
__attribute__((unused))
static void port_storm(const Range *r, unsigned ranges, unsigned times, void (*each)(void))
{
    for (unsigned i = 0; i < times; i++) {
        const Range *at = &r[rnd() % ranges];
        u32 port = at->first + rnd() % at->count, value = rnd();
        unsigned size = 1u << rnd() % 3;

        if (rnd() & 1)
            port_write(m, port, rnd() % 4 ? value : value & 0x80808080u ? 0 : ~0u, size);
        else
            port_read(m, port, size);
        if (each)
            each();
        if (rnd() % 16 == 0)
            oversleep(rnd() % (rnd() % 64 ? 100 * US : 3 * SEC));
        if (rnd() % 4 == 0)
            timers_run(m);
        if (rnd() % 20000 == 0)
            devices_reset(m);
    }
}

/* The field table covers the state; save, load, save give the same bytes; cut or mangled ones do no harm. */
__attribute__((unused)) static void check_saves(const char *id)
{
    Device *dev = m->devices;
    SaveBuf a = { 0 }, b = { 0 };
    Error err = { "" };

    while (dev && strcmp(dev->id, id))
        dev = dev->next;
    CHECK_MSG(dev, "%s is in the machine", id);
    if (!dev)
        return;
    CHECK_MSG(device_class_tiles(dev->cls, &err), "%s", err.text);
    device_save(dev, &a);
    CHECK_MSG(device_load(dev, a.data, a.len, &err), "%s", err.text);
    device_save(dev, &b);
    CHECK_MSG(a.len == b.len && !memcmp(a.data, b.data, a.len), "%s: save, load, save is the same", id);
    CHECK_MSG(!device_load(dev, a.data, a.len - 1, &err), "%s: a save that is cut short is refused", id);
    for (unsigned i = 0; i < 2000; i++) {
        memcpy(b.data, a.data, a.len);
        for (unsigned k = 0; k < 1 + i % 4; k++)
            b.data[rnd() % a.len] ^= (u8)(1 << rnd() % 8);
        device_load(dev, b.data, b.len, &err);
        timers_run(m);
        oversleep(rnd() % MS);
    }
    CHECK(device_load(dev, a.data, a.len, &err));
    free(a.data);
    free(b.data);
}

#endif
