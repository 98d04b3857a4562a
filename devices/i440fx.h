/*
 * 82441FX host bridge: configuration ports CF8h-CFFh, shadow RAM (PAM), SMRAM. Machine lock held for every
 * call.
 * Source: Intel 82441FX (PMC) data sheet, order 290549.
 */
#ifndef DEVICES_I440FX_H
#define DEVICES_I440FX_H

#include "../core/vm/irq.h"
#include "pci.h"

typedef struct Cpu Cpu;

extern const DeviceClass i440fx_class;

/* What the host bridge needs from the board. */
typedef struct {
    MemRegion *ram;                 /* from physical 0; the bridge shows it at A0000h-FFFFFh */
    Cpu *cpu;                       /* its SMM state decides about SMRAM */
    Irq hard_reset, init;           /* pulsed by port CF9h and the turbo reset control register */
    int (*route)(void *opaque, int slot, int pin);      /* see pci_bus_create() */
    void (*pirq)(void *opaque, int pirq, bool level);
    void *opaque;
} I440fxWiring;

/* The bridge is device 0 of the bus it makes. */
PciBus *i440fx_create(Machine *m, const I440fxWiring *wiring);

#endif
