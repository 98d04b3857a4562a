/*
 * The guest of the CPU benchmark: sets up a protected-mode machine with 4 KiB pages and a 100 Hz timer
 * interrupt, measures the TSC by the PIT, runs all rows, writes to COM1 and ends by isa-debug-exit at port
 * 501h.
 */
#include "guest.h"

enum { COM1 = 0x3f8, EXIT_PORT = 0x501, PIT_HZ = 1193182, CODE_PAGES = 2 };

const u32 place_batch_kcycles = 4000;
u32 guest_directory[1024] __attribute__((aligned(4096)));
u32 guest_directory2[1024] __attribute__((aligned(4096)));
u32 guest_tables[MAPPED_TABLES + 1][1024] __attribute__((aligned(4096)));
static u8 code_pages[CODE_PAGES * 4096] __attribute__((aligned(4096)));
static u32 idt[256][2];
extern u32 gdt[12];
extern void (*const fault_gates[20])(void);
void gate_timer(void);
void gate_syscall(void);
void gate_leave(void);
void gate_sysenter(void);

void place_put(char c)
{
    while (!(in8(COM1 + 5) & 0x20)) {
    }
    out8(COM1, (u8)c);
}

u8 *place_code(void)
{
    return code_pages;
}

void guest_fault(u32 vector, u32 address)
{
    bench_text("fault ");
    bench_number(vector);
    bench_text(" at ");
    bench_number(address);
    place_put('\n');
    out8(EXIT_PORT, 1);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void gate(u32 vector, void (*to)(void), u32 type)
{
    idt[vector][0] = 0x00080000 | ((u32)to & 0xffff);
    idt[vector][1] = ((u32)to & 0xffff0000) | 0x8000 | type << 8;
}

static void gates(void)
{
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) pointer = {sizeof idt - 1, (u32)idt};

    for (u32 i = 0; i < 20; i++)
        gate(i, fault_gates[i], 0x0e);
    gate(0x20, gate_timer, 0x0e);
    gate(0x80, gate_syscall, 0x6e);
    gate(0x81, gate_leave, 0x6e);
    gdt[10] = 103 | (u32)tss << 16;
    gdt[11] = ((u32)tss >> 16 & 0xff) | 0x8900 | ((u32)tss & 0xff000000);
    __asm__ volatile("lidt %0; ltr %w1" ::"m"(pointer), "r"(0x28) : "memory");
}

static void paging(void)
{
    static u32 second[4][1024] __attribute__((aligned(4096)));
    u32 value;

    for (u32 i = 0; i < MAPPED_TABLES * 1024; i++)
        guest_tables[i / 1024][i % 1024] = i << 12 | 7;
    for (u32 i = 0; i < 1024; i++)
        guest_tables[MAPPED_TABLES][i] = (0xfec00000 + (i << 12)) | 0x1f; /* APICs: uncached */
    for (u32 i = 0; i < MAPPED_TABLES; i++)
        guest_directory[i] = guest_directory2[i] = (u32)guest_tables[i] | 7;
    for (u32 i = 0; i < 4096; i++)
        second[i / 1024][i % 1024] = (SECOND_BASE + ((i ^ 1) << 12)) | 7; /* pages in another order */
    for (u32 i = 0; i < 4; i++)
        guest_directory2[12 + i] = (u32)second[i] | 7;
    guest_directory[0xfec00000u >> 22] = (u32)guest_tables[MAPPED_TABLES] | 7;
    guest_directory2[0xfec00000u >> 22] = (u32)guest_tables[MAPPED_TABLES] | 7;
    load_cr3(guest_directory);
    __asm__ volatile("mov %%cr4, %0; or $0x600, %0; mov %0, %%cr4" : "=r"(value)); /* SSE */
    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    value = (value & ~0xcu) | 0x80010022; /* PG, WP, NE, MP; not EM, TS */
    __asm__ volatile("mov %0, %%cr0; fninit" ::"r"(value) : "memory");
}

static void timer(void)
{
    static const u8 commands[] = {0x11, 0x20, 4, 1, 0xfe}, slave[] = {0x11, 0x28, 2, 1, 0xff};

    for (u32 i = 0; i < 5; i++) {
        out8(i ? 0x21 : 0x20, commands[i]);
        out8(i ? 0xa1 : 0xa0, slave[i]);
    }
    out8(0x43, 0x34);
    out8(0x40, (PIT_HZ / 100) & 0xff);
    out8(0x40, (PIT_HZ / 100) >> 8);
    __asm__ volatile("sti");
}

/* Cycles in 50 ms of PIT channel 2, twenty times that a second. */
static u32 tsc_khz(void)
{
    u64 start;

    out8(0x61, (in8(0x61) & ~2) | 1);
    out8(0x43, 0xb0);
    out8(0x42, (PIT_HZ / 20) & 0xff);
    out8(0x42, (PIT_HZ / 20) >> 8);
    start = cycles();
    while (!(in8(0x61) & 0x20)) {
    }
    return (u32)(cycles() - start) / 50;
}

void guest_main(void)
{
    out8(COM1 + 3, 3);
    gates();
    paging();
    write_msr(0x174, 8);
    write_msr(0x176, (u32)gate_sysenter);
    bench_text("khz ");
    bench_number(tsc_khz());
    place_put('\n');
    timer();
    bench_group("integer", rows_integer);
    bench_group("string", rows_string);
    bench_group("code", rows_code);
    bench_group("float", rows_x87);
    bench_group("float", rows_sse);
    bench_group("event", rows_event);
    bench_text("ticks ");
    bench_number(timer_ticks);
    bench_text("\nend\n");
    out8(EXIT_PORT, 0);
}

/* The compiler may ask for these. */
void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n)::"memory");
    return to;
}

void *memset(void *to, int value, size_t n)
{
    void *d = to;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
    return to;
}
