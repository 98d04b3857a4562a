/*
 * NE2000: the DP8390 network controller with packet memory, as an ISA card and as the RTL8029 on PCI. Machine
 * lock held. Creating one joins its VLAN.
 */
#ifndef DEVICES_NE2000_H
#define DEVICES_NE2000_H

#include "../core/vm/irq.h"
#include "../core/vm/machine.h"
#include "../core/vm/nic.h"

void ne2k_isa_create(Machine *m, const NicConfig *cfg, Irq irq);
void ne2k_pci_create(Machine *m, PciBus *bus, const NicConfig *cfg);

#endif
