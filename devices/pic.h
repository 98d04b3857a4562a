/*
 * Two cascaded 8259A interrupt controllers of a PC/AT, with the edge/level registers of the PIIX3 (ports
 * 4D0h, 4D1h). Source: Intel 8259A data sheet; Intel 82371SB (PIIX3), section 2.5. Machine lock held for
 * every call.
 *
 * isapc: pic_create(m, cpu_intr_line(cpu)) and cpu_connect_intack(cpu, pic_ack, pic). With a local APIC:
 * pic_create(m, (Irq){0}), then lapic_create(), which takes over the pair's output and intack.
 */
#ifndef DEVICES_PIC_H
#define DEVICES_PIC_H

#include "../core/vm/irq.h"
#include "../core/vm/types.h"

typedef struct Machine Machine;
typedef struct Pic Pic;

Pic *pic_create(Machine *m, Irq cpu_intr);
Irq pic_line(Pic *pic, int n);          /* IRQ 0..15; 2 is the cascade and goes nowhere */
int pic_ack(void *pic);                 /* interrupt acknowledge: the vector; IRQ 7's or 15's if spurious */
void pic_connect_output(Pic *pic, Irq intr);    /* INTR goes there from now on */
bool pic_output(const Pic *pic);                /* its level */

/*
 * The way back of an interrupt line, a value as Irq is one: a source that must not lose interrupts (the
 * timer) learns when the guest has ended one of them, and whether the guest wants them at all.
 */
typedef struct {
    void (*watch)(void *opaque, int n, void (*ended)(void *source), void *source);  /* NULL: there is none */
    bool (*open)(void *opaque, int n);      /* not masked */
    bool (*pending)(void *opaque, int n);   /* requested, not yet taken: one more edge would be lost */
    void *opaque;
    int n;
} IrqReturn;
IrqReturn pic_return(Pic *pic, int n);

#endif
