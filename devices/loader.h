/*
 * -kernel: a Linux bzImage or a multiboot file is taken apart here, on the host, into pieces with a place
 * each; the boot ROM (rom/boot.S) copies them into the guest's memory by fw_cfg DMA and starts the kernel.
 * Nothing of it is trusted.
 * Sources: Linux Documentation/x86/boot.rst; Multiboot Specification 0.6.96.
 */
#ifndef DEVICES_LOADER_H
#define DEVICES_LOADER_H

#include "../core/vm/config.h"
#include "../core/vm/error.h"
#include "fw_cfg.h"

enum {
    BOOT_LINUX = 1, BOOT_MULTIBOOT = 2, BOOT_PIECES = 4,
    BOOT_LOW_TOP = 0x9f000,                 /* below it, low memory is free of the firmware's */
    BOOT_FIRMWARE_KEEPS = 512 << 10,        /* what it may keep of the top of RAM */
};

/* The header of what the ROM reads, followed by one fw_cfg DMA descriptor (16 bytes) for each piece. */
typedef struct {
    u32 kind;
    u32 entry;                      /* Linux: segment of the setup code; multiboot: EIP */
    u32 stack;                      /* Linux: SP in that segment */
    /* multiboot: address of the information structure, multiple of 16, below 640K */
    u32 info;
    u32 mmap, mmap_entries;         /* multiboot: room for the memory map, the same way */
    u32 pieces;
    u32 pad;
} BootHeader;

typedef struct {
    u16 data_key, addr_key, size_key;   /* fw_cfg items */
    u32 addr;                       /* physical, in the guest */
    u8 *data;                       /* malloc'ed */
    u32 bytes;
} BootPiece;

typedef struct {
    BootHeader header;
    BootPiece piece[BOOT_PIECES];
} BootPlan;

/* An -initrd module: multiboot allows several, Linux takes one. */
typedef struct { u8 *data; size_t bytes; const char *cmdline; } BootModule;

/* low_ram: bytes of RAM from address 0. The plan owns its data; on failure nothing is owned. */
bool boot_plan_linux(BootPlan *plan, const u8 *file, size_t bytes, const BootModule *initrd,
                     const char *cmdline,
                     u64 low_ram, Error *err);
bool boot_plan_multiboot(BootPlan *plan, const u8 *file, size_t bytes, const char *file_name,
                         const BootModule *modules, int count, const char *cmdline, u64 low_ram, Error *err);
bool boot_is_multiboot(const u8 *file, size_t bytes);
void boot_plan_free(BootPlan *plan);

/* Loads cfg->kernel, initrd, append and hands plan and ROM to the firmware. */
bool loader_add_kernel(FwCfg *fw, const Config *cfg, u64 low_ram, Error *err);

#endif
