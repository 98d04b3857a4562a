/*
 * ATA disks and ATAPI CD-ROMs on one or two channels: the ISA card of old boards and the PCI function of the
 * PIIX3 with bus master. Machine lock held for every call; the board owns the Blks, which outlive the
 * controller. A NULL Blk is no drive; blk_is_cdrom() decides between disk and CD-ROM; a CD-ROM may be without
 * a medium, a disk may not (it is left out). Sources: ATA/ATAPI-6 (T13 1410D), INF-8020i/MMC-3, Intel
 * 82371FB/82371SB data sheet (290550) chapter 2.4, "Programming Interface for Bus Master IDE Controller" 1.0.
 */
#ifndef DEVICES_IDE_H
#define DEVICES_IDE_H

#include "../core/vm/blk.h"
#include "../core/vm/device.h"
#include "../core/vm/irq.h"
#include "pci.h"

extern const DeviceClass ide_class;             /* one channel */
extern const DeviceClass piix3_ide_class;       /* the PCI function */

/* A channel on the ISA bus, without DMA: command block at cmd (1F0h, 170h), control block at ctl (3F6h,
 * 376h). */
void ide_isa_create(Machine *m, u16 cmd, u16 ctl, Irq irq, Blk *master, Blk *slave);

/* PIIX3 function 1 (8086:7010). Ports are decoded only as the firmware enables them (IDETIM bit 15, command
 * bit 0). drives: primary master, primary slave, secondary master, secondary slave. */
PciDevice *ide_pci_create(Machine *m, PciBus *bus, int devfn, Irq irq14, Irq irq15, Blk *const drives[4]);

/* The disk's geometry as IDENTIFY reports it after reset, and the translation its partition table was made
 * with: what the firmware wants in CMOS (39h: two bits a drive, 0 none, 1 LBA; 12h, 19h ff.: cylinders,
 * heads, sectors). */
typedef struct { u16 cylinders; u8 heads, sectors, translation; } IdeGeometry;
IdeGeometry ide_geometry(Blk *blk);

#endif
