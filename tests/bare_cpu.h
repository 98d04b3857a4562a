/*
 * A CPU with its memory from address 0 on and nothing else, for tests of core/x86. The test says before it includes
 * this how much: RAM_BYTES.
 */
#ifndef TESTS_BARE_CPU_H
#define TESTS_BARE_CPU_H

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"
#include "test.h"

static Machine *m;
static Cpu *cpu;
static u8 *ram;

static bool bare_cpu_create(void)
{
    Error err = { "" };
    Config cfg;

    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES + (1 << 20), &err);
    MemRegion *region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    m->cpu = cpu = cpu_create(m, NULL, &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    return cpu != NULL;
}

#endif
