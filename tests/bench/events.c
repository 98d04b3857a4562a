/*
 * System events: what a kernel does all day. Only the guest has them.
 */
#include "guest.h"

enum { ROUNDS = 64, LAPIC_VERSION = 0xfee00030, TOUCHED = 16 };

static u8 page[8192] __attribute__((aligned(4096)));

static u32 int80(void)
{
    user_run(user_int80);
    return 0;
}

static u32 sysenter(void)
{
    user_run(user_sysenter);
    return 0;
}

static void sysenter_prepare(void)
{
    user_run(user_int80); /* sets the stack's top */
    write_msr(0x175, sysenter_stack);
}

static u32 *entry_of(u32 address)
{
    return &guest_tables[address >> 22][address >> 12 & 1023];
}

static u32 page_fault(void)
{
    volatile u8 *p = page;
    u32 *entry = entry_of((u32)page);

    fault_value = *entry;
    fault_entry = (u32)entry;
    for (u32 i = 0; i < ROUNDS; i++) {
        *entry = 0;
        forget_page((u32)p);
        p[5] = (u8)i;
    }
    fault_entry = 0;
    return p[5];
}

static u32 pte_write(void)
{
    volatile u8 *p = page;
    volatile u32 *entry = entry_of((u32)page);
    u32 one = *entry & ~0x60u, other = (one & 0xfff) | ((u32)page + 4096);

    for (u32 i = 0; i < ROUNDS; i++) {
        *entry = i & 1 ? one : other;
        forget_page((u32)p);
        p[5] = (u8)i;
    }
    return p[5];
}

static u32 cr3_switch(void)
{
    u32 sum = 0;

    for (u32 i = 0; i < ROUNDS; i++) {
        load_cr3(i & 1 ? guest_directory : guest_directory2);
        for (u32 k = 0; k < TOUCHED; k++)
            sum += *(volatile u32 *)(SECOND_BASE + k * 4096);
    }
    return sum;
}

static u32 port(void)
{
    for (u32 i = 0; i < ROUNDS; i++)
        out8(0x80, (u8)i);
    return 0;
}

static u32 mmio(void)
{
    u32 sum = 0;

    for (u32 i = 0; i < ROUNDS; i++)
        sum += *(volatile u32 *)LAPIC_VERSION & 0xff;
    return sum;
}

static u32 flags(void)
{
    for (u32 i = 0; i < ROUNDS; i++)
        __asm__ volatile("pushf; cli; popf" ::: "memory", "cc");
    return 0;
}

static u32 segments(void)
{
    u32 selector = 0x10;

    for (u32 i = 0; i < ROUNDS; i++)
        __asm__ volatile("mov %w0, %%es; mov %w0, %%fs" ::"r"(selector));
    return 0;
}

const Row rows_event[] = {
    {"int80-iret", int80, 1000, 0, 0},
    {"sysenter-sysexit", sysenter, 1000, sysenter_prepare, 0},
    {"page-fault-retry", page_fault, ROUNDS, 0, 0},
    {"pte-invlpg-touch", pte_write, ROUNDS, 0, 0},
    {"cr3-touch-16", cr3_switch, ROUNDS, 0, 0},
    {"port-output", port, ROUNDS, 0, 0},
    {"mmio-read", mmio, ROUNDS, 0, 0},
    {"pushf-cli-popf", flags, ROUNDS, 0, 0},
    {"segment-loads-2", segments, ROUNDS, 0, 0},
    {0}};
