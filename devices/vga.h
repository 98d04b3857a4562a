/*
 * VGA with the Bochs VBE extensions ("-vga std"): the chip as a PCI card or as part of an ISA board. Machine
 * lock held.
 *
 * The PCI card has 16 MiB of video memory at BAR 0, its registers memory-mapped at BAR 2 and the VGA BIOS in
 * its ROM; the ISA one shows the video memory at E0000000h and brings no ROM: the board hands the VGA BIOS to
 * the firmware.
 */
#ifndef DEVICES_VGA_H
#define DEVICES_VGA_H

#include "pci.h"

enum { VGA_VRAM_BYTES = 16 << 20, VGA_ROM_BYTES = 64 << 10, VGA_TEXT_BYTES = 32 << 10 };
/* what it takes of the memory arena */
enum { VGA_ARENA_BYTES = VGA_VRAM_BYTES + VGA_ROM_BYTES + VGA_TEXT_BYTES };

PciDevice *vga_pci_create(Machine *m, PciBus *bus, int devfn);
void vga_isa_create(Machine *m);

#endif
