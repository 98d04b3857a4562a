/*
 * 82371AB (PIIX4), function 3: power management, PM timer, SMI command port, SMBus. Machine lock held for
 * every call.
 * Source: Intel 82371AB data sheet, order 290562, chapter 11.
 */
#ifndef DEVICES_PIIX4_PM_H
#define DEVICES_PIIX4_PM_H

#include "../core/vm/irq.h"
#include "pci.h"

typedef struct Piix4Pm Piix4Pm;

extern const DeviceClass piix4_pm_class;

/* sci: level, ISA interrupt 9. smi: pulsed. */
Piix4Pm *piix4_pm_create(Machine *m, PciBus *bus, int devfn, Irq sci, Irq smi);
void piix4_pm_power_button(void *pm);

#endif
