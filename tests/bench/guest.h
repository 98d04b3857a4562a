/*
 * What the guest's two C files share: ports, and the page tables that the rows of system events change.
 */
#ifndef GUEST_H
#define GUEST_H

#include "bench.h"

enum { MAPPED_TABLES = 16, SECOND_BASE = 0x3000000 }; /* 64 MiB one to one; the last 16 differ by directory */

extern u32 guest_directory[1024], guest_directory2[1024], guest_tables[MAPPED_TABLES + 1][1024];
extern u32 fault_entry, fault_value, timer_ticks, sysenter_stack, tss[26];

void user_run(void (*function)(void));
void user_int80(void);
void user_sysenter(void);

static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline u8 in8(u16 port)
{
    u8 value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void write_msr(u32 msr, u32 value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"(value), "d"(0));
}

static inline void load_cr3(u32 *directory)
{
    __asm__ volatile("mov %0, %%cr3" ::"r"(directory) : "memory");
}

static inline void forget_page(u32 address)
{
    __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory");
}

#endif
