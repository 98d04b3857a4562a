/*
 * I/O APIC with 24 inputs, registers at FEC00000h. Source: Intel 82093AA data sheet. Machine lock held for
 * every call.
 */
#ifndef DEVICES_IOAPIC_H
#define DEVICES_IOAPIC_H

#include "lapic.h"

typedef struct Ioapic Ioapic;

Ioapic *ioapic_create(Machine *m, Lapic *apic);
Irq ioapic_line(Ioapic *io, int pin);           /* 0..23 */
IrqReturn ioapic_return(Ioapic *io, int pin);

/*
 * An ISA interrupt of the board, wired to both: input irq of the 8259 pair and pin irq of the I/O APIC,
 * except that IRQ 0 is on pin 2 (the MADT's interrupt source override says so). irq 0..15.
 */
Irq ioapic_isa_line(Ioapic *io, Pic *pic, int irq);

#endif
