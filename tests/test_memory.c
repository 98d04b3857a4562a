/* Physical address space and ports: mappings, priorities, split reads and writes, DMA, port sizes. */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

#include <stdlib.h>
#include <string.h>

static u32 code_page, code_offset, code_bytes;
static int flushes;

void cpu_memory_changed(Cpu *cpu) { (void)cpu; flushes++; }

void cpu_code_written(Cpu *cpu, u32 arena_page, u32 offset, u32 bytes)
{
    (void)cpu;
    code_page = arena_page;
    code_offset = offset;
    code_bytes = bytes;
}

typedef struct {
    u64 last_offset, last_value;
    unsigned last_size, calls;
    Memory *mem;
    bool nested_dma;
    u8 seen[4];
} Chip;

static u64 chip_read(void *opaque, u64 offset, unsigned size)
{
    Chip *c = opaque;

    c->calls++;
    c->last_offset = offset;
    c->last_size = size;
    if (c->nested_dma)
        mem_dma_read(c->mem, 0xd0000000, c->seen, 4);
    return 0x8877665544332211ull >> (8 * (offset & 7));
}

static void chip_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    Chip *c = opaque;

    c->calls++;
    c->last_offset = offset;
    c->last_value = value;
    c->last_size = size;
}

static void test_mappings(Memory *mem)
{
    MemRegion *ram = mem_ram(mem, "ram", 0x200000), *rom = mem_ram(mem, "rom", 0x10000);
    int shadow;

    memset(mem_ram_ptr(rom), 0xaa, 0x10000);
    mem_map(mem, ram, 0, 0, 0x200000, 0, MEM_RW);
    mem_bus_write(mem, 0xf1000, 0x12345678, 4);
    CHECK(mem_bus_read(mem, 0xf1000, 4) == 0x12345678);
    mem_map(mem, rom, 0xf0000, 0, 0x10000, 1, MEM_ROM);
    CHECK(mem_bus_read(mem, 0xf1000, 4) == 0xaaaaaaaa);
    mem_bus_write(mem, 0xf1000, 0, 4);
    CHECK_MSG(mem_ram_ptr(rom)[0x1000] == 0xaa, "a ROM swallows writes");
    CHECK(mem_page(mem, 0xf1000).direct_read && !mem_page(mem, 0xf1000).direct_write);

    shadow = mem_map(mem, ram, 0xf0000, 0xf0000, 0x10000, 2, MEM_W);
    mem_bus_write(mem, 0xf1000, 0x99, 1);
    CHECK_MSG(mem_bus_read(mem, 0xf1000, 1) == 0xaa, "read ROM ...");
    CHECK_MSG(mem_ram_ptr(ram)[0xf1000] == 0x99, "... and write the RAM beneath");
    CHECK(!mem_page(mem, 0xf1000).direct_write);
    mem_unmap(mem, shadow);
    mem_bus_write(mem, 0xf1000, 0x55, 1);
    CHECK_MSG(mem_ram_ptr(ram)[0xf1000] == 0x99, "an unmapped shadow catches nothing");
    CHECK(mem_bus_read(mem, 0x300000, 4) == 0xffffffff);
    CHECK(mem_bus_read(mem, 1ull << 45, 8) == ~0ull);
    mem_bus_write(mem, 0x1ffffe, 0x44332211, 4);
    CHECK_MSG(mem_bus_read(mem, 0x1ffffe, 4) == 0xffff2211, "an access may end where nothing is");
    CHECK(mem_page(mem, 0x100000).page == 0x100);
}

static void test_mmio(Memory *mem)
{
    static const MmioOps narrow = { chip_read, chip_write, 1, 2 }, wide = { chip_read, chip_write, 4, 4 };
    Chip chip = { .mem = mem };
    MemRegion *a = mem_mmio(mem, "narrow", 0x1000, &narrow, &chip);
    MemRegion *b = mem_mmio(mem, "wide", 0x1000, &wide, &chip);

    mem_map(mem, a, 0xd0000000, 0, 0x1000, 0, MEM_RW);
    mem_map(mem, b, 0xd0001000, 0, 0x1000, 0, MEM_RW);
    CHECK(mem_bus_read(mem, 0xd0000000, 4) == 0x44332211 && chip.calls == 2 && chip.last_size == 2);
    CHECK_MSG(mem_bus_read(mem, 0xd0001002, 1) == 0x33 && chip.last_size == 4, "a byte of a 32-bit register");
    CHECK(mem_bus_read(mem, 0xd0001001, 4) == 0x55443322);
    mem_bus_write(mem, 0xd0001004, 0xcafe, 4);
    CHECK(chip.last_offset == 4 && chip.last_value == 0xcafe);
    chip.nested_dma = true;
    mem_bus_read(mem, 0xd0000000, 1);
    CHECK_MSG(load32(chip.seen) == 0xffffffff, "DMA from inside a handler does not enter a handler");
}

static void test_dma(Memory *mem)
{
    u8 buf[10000], back[10000];

    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i * 7);
    memset(mem_page_flags(mem), 0, 0x200);
    mem_page_flags(mem)[0x101] = PAGE_CODE;
    mem_dma_write(mem, 0x100800, buf, sizeof(buf));
    mem_dma_read(mem, 0x100800, back, sizeof(back));
    CHECK(!memcmp(buf, back, sizeof(buf)));
    CHECK(mem_page_flags(mem)[0x100] & PAGE_DIRTY);
    CHECK_MSG(code_page == 0x101 && code_offset == 0 && code_bytes == 4096,
              "DMA over translated code is told");
    mem_dma_read(mem, 0x1ffff0, back, 32);
    CHECK(back[31] == 0xff);
}

static u32 ports_read(void *opaque, u32 port, unsigned size)
{
    Chip *c = opaque;

    c->calls++;
    c->last_size = size;
    return port * 0x01010101u;
}

static void ports_write(void *opaque, u32 port, u32 value, unsigned size)
{
    chip_write(opaque, port, value, size);
}

static void test_ports(Machine *m)
{
    static const PortOps bytes = { ports_read, ports_write, 1 }, words = { ports_read, ports_write, 1 | 2 };
    Chip a = { 0 }, b = { 0 };
    int handle;

    CHECK(port_read(m, 0x80, 4) == 0xffffffff);
    port_map(m, "a", 0x60, 4, &bytes, &a);
    CHECK(port_read(m, 0x60, 2) == 0x6160 && a.calls == 2);
    handle = port_map(m, "b", 0x62, 3, &words, &b);
    CHECK_MSG(port_read(m, 0x62, 2) == 0x6262 && b.calls == 1 && b.last_size == 2, "the newest range wins");
    CHECK_MSG(port_read(m, 0x64, 4) == 0xffffff64, "an access past the end of a range sees ones");
    port_write(m, 0x61, 0x332211, 4);
    CHECK(a.last_value == 0x11 && b.last_value == 0);
    port_unmap(m, handle);
    CHECK(port_read(m, 0x62, 1) == 0x62 && port_read(m, 0x64, 1) == 0xff);
    CHECK(port_read(m, 0xffff, 4) == 0xffffffff);
    CHECK(port_map(m, "c", 0xfff0, 17, &bytes, &a) == 0);
}

int main(void)
{
    Machine m = { 0 };

    m.mem = memory_create(&m, 0x400000);
    m.cpu = (Cpu *)&m;
    test_mappings(m.mem);
    CHECK_MSG(flushes == 4, "each change of the map is told to the CPU");
    test_mmio(m.mem);
    test_dma(m.mem);
    test_ports(&m);
    memory_destroy(m.mem);
    return test_end();
}
