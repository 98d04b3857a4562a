/*
 * -kernel, -initrd, -append: reads the files, has them taken apart (loader_linux.c, loader_multiboot.c),
 * and gives pieces, plan and boot ROM to the firmware. The pieces also stand under fw_cfg's own keys, where
 * other firmware looks for them.
 */
#include "loader.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/host.h"

enum {
    FILE_MAX = 1 << 30, MODULES_MAX = 64,
    DMA_READ_SELECTED = 8 | 2,      /* a fw_cfg descriptor's control: select, read */
    ROM_PNP_HEADER = 0x1a, PNP_BYTES = 32, PNP_CHECKSUM = 9,
};

void boot_plan_free(BootPlan *plan)
{
    for (int i = 0; i < BOOT_PIECES; i++)
        free(plan->piece[i].data);
    memset(plan, 0, sizeof(*plan));
}

static u8 sum_of(const u8 *p, size_t n)
{
    u8 sum = 0;

    while (n--)
        sum = (u8)(sum + *p++);
    return sum;
}

/* The ROM comes from the assembler without its checksums. */
static bool add_rom(FwCfg *fw, Error *err)
{
    static const char order[] = "/rom@genroms/boot.bin\n";
    const void *data;
    size_t bytes;

    if (!host_resource("boot.bin", &data, &bytes))
        return error_set(err, "boot.bin: the boot ROM is not in the program");
    u8 *rom = malloc(bytes);
    if (!rom)
        abort();
    memcpy(rom, data, bytes);
    u16 pnp = load16(rom + ROM_PNP_HEADER);
    if ((size_t)pnp + PNP_BYTES < bytes) {
        rom[pnp + PNP_CHECKSUM] = 0;
        rom[pnp + PNP_CHECKSUM] = (u8)-sum_of(rom + pnp, PNP_BYTES);
    }
    rom[bytes - 1] = 0;
    rom[bytes - 1] = (u8)-sum_of(rom, bytes);
    fw_cfg_add_file(fw, "genroms/boot.bin", rom, (u32)bytes);
    fw_cfg_add_file(fw, "bootorder", order, sizeof(order));
    free(rom);
    return true;
}

static void publish(FwCfg *fw, BootPlan *plan)
{
    u8 table[sizeof(BootHeader) + 16 * BOOT_PIECES] = { 0 };

    memcpy(table, &plan->header, sizeof(plan->header));
    for (u32 i = 0; i < plan->header.pieces; i++) {
        BootPiece *p = &plan->piece[i];
        u8 *desc = table + sizeof(BootHeader) + 16 * i;
        store32(desc, __builtin_bswap32((u32)p->data_key << 16 | DMA_READ_SELECTED));
        store32(desc + 4, __builtin_bswap32(p->bytes));
        store64(desc + 8, __builtin_bswap64(p->addr));
        fw_cfg_add32(fw, p->addr_key, p->addr);
        fw_cfg_add32(fw, p->size_key, p->bytes);
        fw_cfg_give(fw, p->data_key, p->data, p->bytes);
        p->data = NULL;
    }
    fw_cfg_add32(fw, FW_CFG_KERNEL_ENTRY, plan->header.entry);
    fw_cfg_add(fw, FW_CFG_BOOT_PLAN, table, sizeof(table));
}

/* One word of a multiboot -initrd list: up to a comma; two commas stand for one. Returns what is behind it,
 * or NULL. */
static char *next_word(char *word)
{
    char *out = word;

    for (char *in = word; *in; in++) {
        if (*in == ',' && in[1] != ',') {
            *out = 0;
            return in + 1;
        }
        if (*in == ',')
            in++;
        *out++ = *in;
    }
    *out = 0;
    return NULL;
}

static bool slurp_module(BootModule *module, const char *words, Error *err)
{
    size_t n = strcspn(words, " ");
    char *path = calloc(1, n + 1);

    if (!path)
        abort();
    memcpy(path, words, n);
    module->cmdline = words;
    module->data = host_file_slurp(path, FILE_MAX, &module->bytes, err);
    free(path);
    return module->data;
}

static bool plan_multiboot(BootPlan *plan, const u8 *file, size_t bytes, const Config *cfg, u64 low_ram,
                           Error *err)
{
    BootModule modules[MODULES_MAX] = { 0 };
    char *list = cfg->initrd ? strdup(cfg->initrd) : NULL;
    int count = 0;
    bool ok = true;

    for (char *word = list, *next; ok && word; word = next) {
        next = next_word(word);
        if (count == MODULES_MAX)
            ok = error_set(err, "-initrd: more than %d modules", MODULES_MAX);
        else if ((ok = slurp_module(&modules[count], word, err)))
            count++;
    }
    if (ok) {
        ok = boot_plan_multiboot(plan, file, bytes, cfg->kernel, modules, count,
                                 cfg->append ? cfg->append : "", low_ram, err);
        if (!ok)
            error_prefix(err, "%s", cfg->kernel);
    }
    for (int i = 0; i < count; i++)
        free(modules[i].data);
    free(list);
    return ok;
}

static bool plan_linux(BootPlan *plan, const u8 *file, size_t bytes, const Config *cfg, u64 low_ram,
                       Error *err)
{
    BootModule initrd = { 0 };

    if (cfg->initrd && !(initrd.data = host_file_slurp(cfg->initrd, FILE_MAX, &initrd.bytes, err)))
        return false;
    bool ok = boot_plan_linux(plan, file, bytes, cfg->initrd ? &initrd : NULL,
                              cfg->append ? cfg->append : "", low_ram, err);
    if (!ok)
        error_prefix(err, "%s", cfg->kernel);
    free(initrd.data);
    return ok;
}

bool loader_add_kernel(FwCfg *fw, const Config *cfg, u64 low_ram, Error *err)
{
    BootPlan plan;
    size_t bytes;
    u8 *file = host_file_slurp(cfg->kernel, FILE_MAX, &bytes, err);

    if (!file)
        return false;
    bool ok = boot_is_multiboot(file, bytes) ? plan_multiboot(&plan, file, bytes, cfg, low_ram, err)
                                             : plan_linux(&plan, file, bytes, cfg, low_ram, err);
    free(file);
    if (!ok)
        return false;
    publish(fw, &plan);
    return add_rom(fw, err);
}
