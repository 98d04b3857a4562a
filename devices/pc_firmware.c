/*
 * The firmware: where it comes from, where it shows, and what it is told about the board by CMOS and
 * fw_cfg.
 * Sources: IBM PS/2 technical reference, "RT/CMOS RAM"; SeaBIOS's documentation ("Runtime config") for the
 * fields and files it looks for.
 */
#include "pc_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/blk.h"
#include "../core/vm/host.h"
#include "ide.h"
#include "loader.h"

enum { SHADOW = 128 * KIB };

static u8 *slurp_firmware(const Config *cfg, const char *name, size_t *bytes, Error *err)
{
    const void *data;
    char path[1024];

    if (cfg->bios && host_file_exists(name))
        return host_file_slurp(name, FIRMWARE_MAX, bytes, err);
    for (size_t i = 0; i < ARRAY_LEN(cfg->firmware_dir) && cfg->firmware_dir[i]; i++) {
        snprintf(path, sizeof(path), "%s/%s", cfg->firmware_dir[i], name);
        if (host_file_exists(path))
            return host_file_slurp(path, FIRMWARE_MAX, bytes, err);
    }
    if (!host_resource(name, &data, bytes)) {
        error_set(err,
                  "%s: there is no such firmware, neither as a file nor in a -L folder nor in the program",
                  name);
        return NULL;
    }
    u8 *copy = malloc(*bytes + 1);
    if (!copy)
        abort();
    memcpy(copy, data, *bytes);
    return copy;
}

bool pc_load_firmware(Pc *pc, Error *err)
{
    Machine *m = pc->dev.m;
    /* The large build needs the host bridge to reach its lower half. */
    const char *name = m->cfg.bios ? m->cfg.bios : m->cfg.isapc ? "bios.bin" : "bios-256k.bin";
    size_t bytes;
    u8 *data = slurp_firmware(&m->cfg, name, &bytes, err);

    if (!data)
        return false;
    if (!bytes || bytes % (64 * KIB) || bytes > FIRMWARE_MAX) {
        free(data);
        return error_set(err, "%s: %llu bytes; firmware is a multiple of 64 KiB, at most 16 MiB", name,
                         (unsigned long long)bytes);
    }
    u32 tail = bytes < SHADOW ? (u32)bytes : SHADOW;
    MemRegion *rom = mem_ram(m->mem, "firmware", bytes);
    memcpy(mem_ram_ptr(rom), data, bytes);
    mem_map(m->mem, rom, FOUR_GIB - bytes, 0, bytes, MAP_PRIO_CHIP, MEM_ROM);
    if (bytes <= MIB)
        mem_map(m->mem, rom, FOUR_GIB - MIB - tail, bytes - tail, tail, MAP_PRIO_CHIP, MEM_ROM);
    if (!m->cfg.isapc)
        mem_map(m->mem, rom, MIB - tail, bytes - tail, tail, MAP_PRIO_CHIP, MEM_ROM);
    memmove(data, data + bytes - tail, tail);
    pc->firmware = data;
    pc->firmware_tail = tail;
    return true;
}

/* ---- what it is told ---- */

static void set_memory_cmos(Pc *pc)
{
    u64 ram = pc->dev.m->cfg.ram_bytes;
    u64 above_1m = (pc->low_ram - MIB) >> 10;
    u64 above_16m = pc->low_ram > 16 * MIB ? (pc->low_ram - 16 * MIB) >> 16 : 0;
    u64 above_4g = (ram - pc->low_ram) >> 16;

    if (above_1m > 0xffff)
        above_1m = 0xffff;
    rtc_set_cmos(pc->rtc, 0x15, 640 & 0xff);            /* base memory, KiB */
    rtc_set_cmos(pc->rtc, 0x16, 640 >> 8);
    rtc_set_cmos(pc->rtc, 0x17, (u8)above_1m);          /* extended memory, KiB, twice */
    rtc_set_cmos(pc->rtc, 0x18, (u8)(above_1m >> 8));
    rtc_set_cmos(pc->rtc, 0x30, (u8)above_1m);
    rtc_set_cmos(pc->rtc, 0x31, (u8)(above_1m >> 8));
    rtc_set_cmos(pc->rtc, 0x34, (u8)above_16m);         /* in 64 KiB */
    rtc_set_cmos(pc->rtc, 0x35, (u8)(above_16m >> 8));
    rtc_set_cmos(pc->rtc, 0x5b, (u8)above_4g);
    rtc_set_cmos(pc->rtc, 0x5c, (u8)(above_4g >> 8));
    rtc_set_cmos(pc->rtc, 0x5d, (u8)(above_4g >> 16));
}

/* Boot devices by number, first in the low nibble of 3Dh; bit 0 of 38h: don't look for 55AAh on a floppy. */
static void set_boot_cmos(Pc *pc, const char *letters_in_order)
{
    static const char letters[] = "acdn";               /* 1 floppy, 2 disk, 3 CD-ROM, 4 network */
    const Config *cfg = &pc->dev.m->cfg;
    const char *order = letters_in_order[0] ? letters_in_order : "cad";
    u8 code[3] = { 0, 0, 0 };

    for (int i = 0; i < 3 && order[i]; i++) {
        const char *at = strchr(letters, order[i]);
        code[i] = at ? (u8)(at - letters + 1) : 0;
    }
    rtc_set_cmos(pc->rtc, 0x3d, (u8)(code[0] | code[1] << 4));
    rtc_set_cmos(pc->rtc, 0x38, (u8)(code[2] << 4 | !cfg->fd_bootchk));
}

/* -boot once= is for the machine's start, which is its first reset; the monitor's boot_set for those to come. */
static void was_reset(void *opaque)
{
    Pc *pc = opaque;

    if (pc->started)
        set_boot_cmos(pc, pc->dev.m->cfg.boot);
    pc->started = true;
}

static bool boot_set(void *opaque, const char *letters)
{
    Config *cfg = &((Pc *)opaque)->dev.m->cfg;

    if (!*letters || letters[strspn(letters, "acdn")] || strlen(letters) >= sizeof(cfg->boot))
        return false;
    strcpy(cfg->boot, letters);
    return true;
}

static void set_drive_cmos(Pc *pc)
{
    u8 a = fdc_drive_type(pc->fdc, 0), b = fdc_drive_type(pc->fdc, 1);
    int floppies = (a != 0) + (b != 0);
    u8 types = 0, translation[2] = { 0, 0 };

    rtc_set_cmos(pc->rtc, 0x10, (u8)(a << 4 | b));
    /* FPU, mouse */
    rtc_set_cmos(pc->rtc, 0x14, (u8)(0x06 | (floppies ? 1 : 0) | (floppies > 1 ? 0x40 : 0)));
    for (int i = 0; i < 4; i++) {
        if (!pc->ide[i] || blk_is_cdrom(pc->ide[i]) || !blk_has_medium(pc->ide[i]))
            continue;
        IdeGeometry g = ide_geometry(pc->ide[i]);
        translation[i / 2] |= (u8)((g.translation & 3) << (i % 2 ? 2 : 0));
        if (i > 1)
            continue;
        /* Type 47, "user defined": geometry at 1Bh (first disk) or 24h. */
        types |= i ? 0x0f : 0xf0;
        u8 at = i ? 0x24 : 0x1b;
        u8 user[9] = { (u8)g.cylinders, (u8)(g.cylinders >> 8), g.heads, 0xff, 0xff,
                       (u8)(0xc0 | (g.heads > 8) << 3),
                       (u8)g.cylinders, (u8)(g.cylinders >> 8), g.sectors };
        rtc_set_cmos(pc->rtc, i ? 0x1a : 0x19, 47);
        for (int k = 0; k < 9; k++)
            rtc_set_cmos(pc->rtc, (u8)(at + k), user[k]);
    }
    rtc_set_cmos(pc->rtc, 0x12, types);
    rtc_set_cmos(pc->rtc, 0x39, (u8)(translation[0] | translation[1] << 4));
}

static void set_cmos_checksum(Pc *pc)
{
    u16 sum = 0;

    for (u8 i = 0x10; i < 0x2e; i++)
        sum = (u16)(sum + rtc_get_cmos(pc->rtc, i));
    rtc_set_cmos(pc->rtc, 0x2e, (u8)(sum >> 8));
    rtc_set_cmos(pc->rtc, 0x2f, (u8)sum);
}

static void add_e820(Pc *pc)
{
    u8 table[40];
    u64 high = pc->dev.m->cfg.ram_bytes - pc->low_ram;

    store64(table, 0);
    store64(table + 8, pc->low_ram);
    store32(table + 16, 1);
    store64(table + 20, FOUR_GIB);
    store64(table + 28, high);
    store32(table + 36, 1);
    fw_cfg_add_file(pc->fw, "etc/e820", table, high ? 40 : 20);
}

bool pc_configure_firmware(Pc *pc, Error *err)
{
    /* States S0 to S5: bit 7 says supported, the rest is the SUS_TYP that the tables shall name. Only S0
     * and S5. */
    static const u8 system_states[6] = { 0x80, 0, 0, 0x01, 0x02, 0x80 };
    static const u8 uuid[16] = { 0 };
    static const u32 wait_for_ever = 0xffffffff;        /* with nothing to boot, instead of a restart */
    Machine *m = pc->dev.m;
    const Config *cfg = &m->cfg;

    fw_cfg_add(pc->fw, FW_CFG_UUID, uuid, sizeof(uuid));
    fw_cfg_add64(pc->fw, FW_CFG_RAM_SIZE, cfg->ram_bytes);
    fw_cfg_add16(pc->fw, FW_CFG_NOGRAPHIC, cfg->nographic);
    fw_cfg_add16(pc->fw, FW_CFG_NB_CPUS, 1);
    fw_cfg_add16(pc->fw, FW_CFG_MAX_CPUS, 1);
    fw_cfg_add64(pc->fw, FW_CFG_NUMA, 0);
    fw_cfg_add16(pc->fw, FW_CFG_BOOT_MENU, cfg->boot_menu);
    fw_cfg_add(pc->fw, FW_CFG_IRQ0_OVERRIDE, "\1", 1);
    fw_cfg_add_file(pc->fw, "etc/system-states", system_states, sizeof(system_states));
    fw_cfg_add_file(pc->fw, "etc/boot-fail-wait", &wait_for_ever, sizeof(wait_for_ever));
    add_e820(pc);
    set_memory_cmos(pc);
    set_boot_cmos(pc, cfg->boot_once[0] ? cfg->boot_once : cfg->boot);
    m->board_reset = was_reset;
    m->board_opaque = pc;
    m->boot_set = boot_set;
    set_drive_cmos(pc);
    rtc_set_cmos(pc->rtc, 0x5f, 0);                     /* CPUs, less one */
    set_cmos_checksum(pc);
    if (cfg->isapc && cfg->vga != VGA_NONE) {           /* without PCI there is no ROM BAR to find it in */
        const void *rom;
        size_t bytes;
        if (!host_resource("vgabios-stdvga.bin", &rom, &bytes))
            return error_set(err, "vgabios-stdvga.bin: the video firmware is not in the program");
        fw_cfg_add_file(pc->fw, "vgaroms/vgabios.bin", rom, (u32)bytes);
    }
    return !cfg->kernel || loader_add_kernel(pc->fw, cfg, pc->low_ram, err);
}
