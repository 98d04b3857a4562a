/*
 * 82371SB (PIIX3), function 0: PCI to ISA bridge with the PCI interrupt router. Machine lock held for every
 * call.
 * Source: Intel 82371FB/82371SB data sheet, order 290550, section 2.2.
 */
#ifndef DEVICES_PIIX3_H
#define DEVICES_PIIX3_H

#include "../core/vm/irq.h"
#include "pci.h"

typedef struct Piix3 Piix3;

extern const DeviceClass piix3_class;

/* isa[n] is the bridge's own output to ISA interrupt n. */
Piix3 *piix3_create(Machine *m, PciBus *bus, int devfn, const Irq isa[16]);
void piix3_set_pirq(Piix3 *p, int pirq, bool level);     /* PIRQA#..PIRQD# = 0..3; level true: asserted */

#endif
