/*
 * The local APIC of the one CPU: memory-mapped registers at FEE00000h (movable by IA32_APIC_BASE). Source:
 * Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller". Machine lock held for every
 * call.
 *
 * It sits between the 8259 pair (on LINT0, "virtual wire") and the CPU: lapic_create() takes over the
 * pair's output, drives the CPU's INTR line and answers its interrupt acknowledge and its APIC base MSR.
 */
#ifndef DEVICES_LAPIC_H
#define DEVICES_LAPIC_H

#include "pic.h"

typedef struct Cpu Cpu;
typedef struct Lapic Lapic;

/* The delivery modes of interrupt messages. */
enum {
    APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5, APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

Lapic *lapic_create(Machine *m, Cpu *cpu, Pic *pic);

/* A message on the APIC bus. dest: APIC id, or mask of logical ids. True: our CPU took it. */
bool lapic_message(Lapic *apic, u8 dest, bool logical, u8 mode, u8 vector, bool level_triggered);
/* The I/O APIC hears of every end of interrupt; level: it was level-triggered, an EOI goes over the bus. */
void lapic_on_eoi(Lapic *apic, void (*eoi)(void *opaque, u8 vector, bool level), void *opaque);
bool lapic_requested(const Lapic *apic, u8 vector);     /* in IRR: the CPU has not taken it yet */

#endif
