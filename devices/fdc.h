/*
 * 82078 floppy disk controller with up to two drives. Machine lock held for every call; the board owns the
 * Blks, which outlive the controller. A NULL Blk is a drive that isn't installed; a Blk without a medium is
 * an empty drive. Source: Intel 82078 44-pin data sheet (order 290475).
 */
#ifndef DEVICES_FDC_H
#define DEVICES_FDC_H

#include "../core/vm/blk.h"
#include "../core/vm/device.h"
#include "../core/vm/irq.h"
#include "dma.h"

typedef struct Fdc Fdc;
extern const DeviceClass fdc_class;

/* base: 3F0h; uses DMA channel 2. */
Fdc *fdc_create(Machine *m, u16 base, Irq irq6, Dma *dma, Blk *a, Blk *b);

/* What CMOS byte 10h says of drive 0 or 1: 0 none, 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M. */
u8 fdc_drive_type(const Fdc *fdc, int drive);

#endif
