/*
 * The board's own: what pc.c wires, shared with pc_firmware.c (the firmware and what it is told) and
 * pc_devices.c (-debugcon, -device). Machine lock held for every call.
 */
#ifndef DEVICES_PC_INT_H
#define DEVICES_PC_INT_H

#include "pc.h"

#include "../core/vm/chardev.h"
#include "../core/vm/device.h"
#include "dma.h"
#include "fdc.h"
#include "fw_cfg.h"
#include "ioapic.h"
#include "pic.h"
#include "piix3.h"
#include "rtc.h"

enum { KIB = 1 << 10, MIB = 1 << 20, ISA_SOURCES = 64, FIRMWARE_MAX = 16 * MIB };
#define FOUR_GIB 0x100000000ull

typedef struct {
    Device dev;
    Cpu *cpu;
    MemRegion *ram;
    u64 low_ram;
    Irq isa[16];                    /* the wires to the interrupt controllers */
    struct { u8 irq; bool level; } source[ISA_SOURCES];     /* who pulls them: a wire is up while any does */
    int sources;
    Pic *pic;
    Ioapic *ioapic;
    Rtc *rtc;
    Dma *dma;
    Fdc *fdc;
    FwCfg *fw;
    Piix3 *piix3;
    Irq hard_reset, soft_reset, ignne;
    u8 *firmware;                   /* a copy of its last 128 KiB, for isapc */
    u32 firmware_tail;
    Blk *ide[4], *floppy[2], *loose[CFG_DRIVES];
    int loose_count;
    Chardev *chardev[CFG_SERIALS + CFG_PARALLELS];
    int chardevs;
    bool started;                   /* the reset that starts the machine has been */
} Pc;

/* Reads the firmware and shows it at its places. */
bool pc_load_firmware(Pc *pc, Error *err);
/* CMOS and fw_cfg, when all chips are there; -kernel too. */
bool pc_configure_firmware(Pc *pc, Error *err);

/* One more chip on ISA interrupt n. */
Irq pc_isa_irq(Pc *pc, int n);

bool pc_add_devices(Pc *pc, Error *err);
/* Network cards, and what they are connected to. */
bool pc_add_cards(Pc *pc, Error *err);

#endif
