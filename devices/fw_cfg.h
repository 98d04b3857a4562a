/*
 * The firmware configuration device: numbered items and named files that firmware reads through ports
 * 510h/511h or by DMA (514h-51Bh). Machine lock held for every call; all items are added by the board
 * before the machine runs.
 * Source: the interface's public specification, "QEMU Firmware Configuration (fw_cfg) Device".
 */
#ifndef DEVICES_FW_CFG_H
#define DEVICES_FW_CFG_H

#include "../core/vm/device.h"

typedef struct FwCfg FwCfg;

extern const DeviceClass fw_cfg_class;

enum {
    FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05, FW_CFG_KERNEL_ADDR = 0x07, FW_CFG_KERNEL_SIZE = 0x08, FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b, FW_CFG_NUMA = 0x0d, FW_CFG_BOOT_MENU = 0x0e, FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10, FW_CFG_KERNEL_DATA = 0x11, FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14, FW_CFG_CMDLINE_DATA = 0x15, FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18, FW_CFG_FILE_DIR = 0x19, FW_CFG_FIRST_FILE = 0x20, FW_CFG_IRQ0_OVERRIDE = 0x8002,
    FW_CFG_BOOT_PLAN = 0x8010,      /* ours: what devices/rom/boot.S loads and starts */
    FW_CFG_FILES = 32, FW_CFG_NAME = 56,
};

FwCfg *fw_cfg_create(Machine *m);

/* An item; data is copied. A key that is there already gets the new data. */
void fw_cfg_add(FwCfg *fw, u16 key, const void *data, u32 bytes);
void fw_cfg_add16(FwCfg *fw, u16 key, u16 value);
void fw_cfg_add32(FwCfg *fw, u16 key, u32 value);
void fw_cfg_add64(FwCfg *fw, u16 key, u64 value);
/* The same without a copy: data was malloc'ed and belongs to the device from here on. */
void fw_cfg_give(FwCfg *fw, u16 key, void *data, u32 bytes);

/* A named file ("etc/e820"); data is copied. At most FW_CFG_FILES, names shorter than FW_CFG_NAME: false
 * otherwise. */
bool fw_cfg_add_file(FwCfg *fw, const char *name, const void *data, u32 bytes);

#endif
