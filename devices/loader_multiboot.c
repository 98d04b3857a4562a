/*
 * Multiboot kernels: ELF files for the 386, and files of any form whose header says what goes where.
 * Source: Multiboot Specification 0.6.96, chapter 3.
 *
 * What the kernel is handed (information structure, memory map, modules' list, strings) is one piece in low
 * memory; the ROM fills in the memory map. Modules lie page by page behind the kernel.
 * Not supported: setting a video mode before the start (flag 2), 64-bit ELF files; symbol tables are not
 * handed over.
 */
#include "loader.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum {
    MAGIC = 0x1badb002, SEARCH = 8192,
    FLAG_PAGE_ALIGN = 1 << 0, FLAG_MEMORY = 1 << 1, FLAG_VIDEO = 1 << 2, FLAG_ADDRESSES = 1 << 16,
    KNOWN_MUST = FLAG_PAGE_ALIGN | FLAG_MEMORY | FLAG_VIDEO,
    INFO_MEMORY = 1 << 0, INFO_CMDLINE = 1 << 2, INFO_MODULES = 1 << 3, INFO_MMAP = 1 << 6,
    INFO_LOADER = 1 << 9,
    INFO_BYTES = 128, MMAP_ENTRIES = 64, MMAP_ENTRY = 24, MODULE_ENTRY = 16,
    LOW_BOTTOM = 0x1000,            /* the ROM works below */
    ROM_AREA = 0xc0000,
    LOW_PREFERRED = 0x10000,
    PT_LOAD = 1, EM_386 = 3, ELF_HEADER = 52, ELF_PHDR = 32,
};
static const char loader_name[] = "qemu-win";

typedef struct {
    u8 *data;                       /* malloc'ed: the memory from low to high */
    u32 low, high, entry;
} Image;

/* Offset of the header, or -1. */
static long find_header(const u8 *file, size_t bytes)
{
    for (size_t at = 0; at + 12 <= bytes && at + 12 <= SEARCH; at += 4)
        if (load32(file + at) == MAGIC &&
            load32(file + at) + load32(file + at + 4) + load32(file + at + 8) == 0)
            return (long)at;
    return -1;
}

bool boot_is_multiboot(const u8 *file, size_t bytes)
{
    return find_header(file, bytes) >= 0;
}

/* The range is RAM that nobody else uses while the kernel is loaded. */
static bool check_range(u64 low, u64 high, u64 low_ram, Error *err)
{
    if (high <= low)
        return error_set(err, "there is nothing in it to load");
    if (high > low_ram)
        return error_set(err, "the kernel needs %llu MiB of memory, the machine has %llu",
                         (unsigned long long)(high + 0xfffff) >> 20, (unsigned long long)low_ram >> 20);
    bool low_memory = low >= LOW_BOTTOM && high <= BOOT_LOW_TOP;
    bool high_memory = low >= ROM_AREA && high > 0x100000;
    if (!low_memory && !high_memory)
        return error_set(err, "it wants to be loaded at %08llx-%08llx, where the firmware is",
                         (unsigned long long)low, (unsigned long long)high - 1);
    return true;
}

static bool image_alloc(Image *image, u64 low, u64 high, Error *err)
{
    image->low = (u32)low;
    image->high = (u32)high;
    image->data = calloc(1, (size_t)(high - low));
    return image->data || error_set(err, "out of memory");
}

static bool load_by_header(Image *image, const u8 *file, size_t bytes, size_t at, u64 low_ram, Error *err)
{
    if (bytes - at < 32)
        return error_set(err, "the file ends in its multiboot header");
    u32 header = load32(file + at + 12), load = load32(file + at + 16), load_end = load32(file + at + 20);
    u32 bss_end = load32(file + at + 24);

    if (header < load || header - load > at)
        return error_set(err, "its multiboot header lies outside of what it says is to be loaded");
    size_t offset = at - (header - load);
    u64 size = load_end ? (u64)load_end - load : bytes - offset;
    if ((load_end && load_end < load) || size > bytes - offset)
        return error_set(err, "its multiboot header wants more loaded than is in the file");
    u64 high = load + size;
    if (bss_end > high)
        high = bss_end;
    image->entry = load32(file + at + 28);
    if (!check_range(load, high, low_ram, err) || !image_alloc(image, load, high, err))
        return false;
    memcpy(image->data, file + offset, (size_t)size);
    return true;
}

static bool load_elf(Image *image, const u8 *file, size_t bytes, u64 low_ram, Error *err)
{
    if (bytes < ELF_HEADER || memcmp(file, "\x7f" "ELF", 4) != 0)
        return error_set(err, "a multiboot header without addresses, in a file that is not ELF");
    if (file[4] != 1 || file[5] != 1 || load16(file + 18) != EM_386)
        return error_set(err, "an ELF file, but not for the 386; multiboot starts 32-bit kernels");
    u32 phoff = load32(file + 28), entry = load32(file + 24);
    u16 step = load16(file + 42), count = load16(file + 44);

    if (step < ELF_PHDR || phoff > bytes || (u64)step * count > bytes - phoff)
        return error_set(err, "its ELF program headers lie outside of the file");
    u64 low = ~0ull, high = 0;
    for (const u8 *p = file + phoff; p < file + phoff + step * count; p += step) {
        u32 offset = load32(p + 4), addr = load32(p + 12), in_file = load32(p + 16);
        u32 in_memory = load32(p + 20);
        if (load32(p) != PT_LOAD || !in_memory)
            continue;
        if (in_file > in_memory || offset > bytes || in_file > bytes - offset)
            return error_set(err, "an ELF segment lies outside of the file");
        if (addr < low)
            low = addr;
        if ((u64)addr + in_memory > high)
            high = (u64)addr + in_memory;
    }
    if (!check_range(low, high, low_ram, err) || !image_alloc(image, low, high, err))
        return false;
    image->entry = entry;
    for (const u8 *p = file + phoff; p < file + phoff + step * count; p += step) {
        u32 vaddr = load32(p + 8), addr = load32(p + 12);
        if (load32(p) != PT_LOAD || !load32(p + 20))
            continue;
        memcpy(image->data + (addr - low), file + load32(p + 4), load32(p + 16));
        if (entry >= vaddr && entry - vaddr < load32(p + 20))
            image->entry = entry - vaddr + addr;    /* paging is off: the physical one */
    }
    return true;
}

/* Linkers like to put the ELF headers in front of what is linked to 1 MiB: those bytes are nobody's loss. */
static void drop_rom_area(Image *image)
{
    if (image->low < ROM_AREA || image->low >= 0x100000)
        return;
    memmove(image->data, image->data + (0x100000 - image->low), image->high - 0x100000);
    image->low = 0x100000;
}

/* Modules behind the kernel, each on its own page; *addr[] where they begin. */
static bool place_modules(BootPlan *plan, const Image *image, const BootModule *modules, int count,
                          u64 low_ram, u32 *addr, Error *err)
{
    u64 first = ((image->high > 0x100000 ? image->high : 0x100000) + 0xfffull) & ~0xfffull, at = first;

    for (int i = 0; i < count; i++) {
        addr[i] = (u32)at;
        at += (modules[i].bytes + 0xfff) & ~0xfffull;
        if (at > low_ram - BOOT_FIRMWARE_KEEPS)
            return error_set(err, "kernel and modules need more than the machine's %llu MiB of memory",
                             (unsigned long long)low_ram >> 20);
    }
    if (at == first)
        return true;
    u8 *data = calloc(1, (size_t)(at - first));
    if (!data)
        return error_set(err, "out of memory");
    for (int i = 0; i < count; i++)
        memcpy(data + (addr[i] - first), modules[i].data, modules[i].bytes);
    plan->piece[plan->header.pieces++] = (BootPiece){ FW_CFG_INITRD_DATA, FW_CFG_INITRD_ADDR,
                                                      FW_CFG_INITRD_SIZE,
                                                      (u32)first, data, (u32)(at - first) };
    return true;
}

/* Where `bytes` of low memory are free of the kernel; 0: nowhere. */
static u32 low_place(const Image *image, size_t bytes)
{
    u32 want = LOW_PREFERRED;

    if (image->low < BOOT_LOW_TOP) {
        if (bytes <= image->low - LOW_BOTTOM)
            return LOW_BOTTOM;
        want = (image->high + 15) & ~15u;
    }
    return want < BOOT_LOW_TOP && bytes <= BOOT_LOW_TOP - want ? want : 0;
}

static u32 put_text(u8 *info, u32 *at, u32 base, const char *text)
{
    u32 addr = base + *at;
    size_t n = strlen(text) + 1;

    memcpy(info + *at, text, n);
    *at += (u32)n;
    return addr;
}

static bool make_info(BootPlan *plan, const Image *image, const BootModule *modules, const u32 *module_addr,
                      int count, const char *cmdline, Error *err)
{
    size_t bytes = INFO_BYTES + MMAP_ENTRIES * MMAP_ENTRY + MODULE_ENTRY * (size_t)count + strlen(cmdline) +
                   1 + sizeof(loader_name);
    for (int i = 0; i < count; i++)
        bytes += strlen(modules[i].cmdline) + 1;
    u32 base = low_place(image, bytes), list = INFO_BYTES + MMAP_ENTRIES * MMAP_ENTRY;
    u32 at = list + MODULE_ENTRY * (u32)count;
    u8 *info = base ? calloc(1, bytes) : NULL;

    if (!info)
        return error_set(err, "no room below 640 KiB for the multiboot information");
    store32(info, INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER);
    store32(info + 16, put_text(info, &at, base, cmdline));
    store32(info + 20, (u32)count);
    store32(info + 24, base + list);
    store32(info + 48, base + INFO_BYTES);
    store32(info + 64, put_text(info, &at, base, loader_name));
    for (int i = 0; i < count; i++) {
        u8 *entry = info + list + MODULE_ENTRY * i;
        store32(entry, module_addr[i]);
        store32(entry + 4, module_addr[i] + (u32)modules[i].bytes);
        store32(entry + 8, put_text(info, &at, base, modules[i].cmdline));
    }
    plan->header.info = base;
    plan->header.mmap = base + INFO_BYTES;
    plan->header.mmap_entries = MMAP_ENTRIES;
    plan->piece[plan->header.pieces++] = (BootPiece){ FW_CFG_SETUP_DATA, FW_CFG_SETUP_ADDR,
                                                      FW_CFG_SETUP_SIZE, base, info, (u32)bytes };
    return true;
}

bool boot_plan_multiboot(BootPlan *plan, const u8 *file, size_t bytes, const char *file_name,
                         const BootModule *modules, int count, const char *cmdline, u64 low_ram, Error *err)
{
    long at = find_header(file, bytes);
    u32 flags = at >= 0 ? load32(file + at + 4) : 0;
    size_t line_bytes = strlen(file_name) + strlen(cmdline) + 2;
    u32 *module_addr = calloc((size_t)count + 1, sizeof(*module_addr));
    char *line = calloc(1, line_bytes);
    Image image = { 0 };
    bool ok = false;

    memset(plan, 0, sizeof(*plan));
    if (!module_addr || !line) {
        error_set(err, "out of memory");
        goto out;
    }
    strcpy(line, file_name);
    if (cmdline[0]) {
        strcat(line, " ");
        strcat(line, cmdline);
    }
    if (at < 0) {
        error_set(err, "no multiboot header");
        goto out;
    }
    if (flags & 0xffff & ~KNOWN_MUST) {
        error_set(err, "its multiboot header demands features that are not supported (flags %04x)",
                  flags & 0xffff);
        goto out;
    }
    if (flags & FLAG_VIDEO)
        log_line("%s: asks for a video mode; it starts in text mode", file_name);
    plan->header.kind = BOOT_MULTIBOOT;
    if (!(flags & FLAG_ADDRESSES ? load_by_header(&image, file, bytes, (size_t)at, low_ram, err)
                                 : load_elf(&image, file, bytes, low_ram, err)))
        goto out;
    drop_rom_area(&image);
    plan->header.entry = image.entry;
    plan->piece[plan->header.pieces++] = (BootPiece){ FW_CFG_KERNEL_DATA, FW_CFG_KERNEL_ADDR,
                                                      FW_CFG_KERNEL_SIZE,
                                                      image.low, image.data, image.high - image.low };
    ok = place_modules(plan, &image, modules, count, low_ram, module_addr, err) &&
         make_info(plan, &image, modules, module_addr, count, line, err);
    if (!ok)
        boot_plan_free(plan);
out:
    free(module_addr);
    free(line);
    return ok;
}
