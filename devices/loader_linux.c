/*
 * Linux bzImage and zImage. Source: Linux Documentation/x86/boot.rst, "The Real-Mode Kernel Header",
 * "Memory Layout".
 *
 *   protocol 2.02 and later:  10000 setup code, heap and stack to 1e000, command line; kernel at 100000
 *   2.00 and 2.01:            90000 setup code, heap and stack to 99800, command line; kernel at 100000,
 *                             or at 10000 if it is a zImage
 *   initrd: as high as the kernel allows and RAM goes, less what the firmware keeps at its top
 *
 * Not supported: kernels from before protocol 2.00 (1995), the EFI and 64-bit entries (the real-mode one is
 * always there).
 */
#include "loader.h"

#include <stdlib.h>
#include <string.h>

enum {
    H_SETUP_SECTS = 0x1f1, H_SYSSIZE = 0x1f4, H_VID_MODE = 0x1fa, H_BOOT_FLAG = 0x1fe, H_MAGIC = 0x202,
    H_VERSION = 0x206, H_LOADER = 0x210, H_LOADFLAGS = 0x211, H_RAMDISK = 0x218, H_RAMDISK_SIZE = 0x21c,
    H_HEAP_END = 0x224, H_CMDLINE = 0x228, H_INITRD_MAX = 0x22c, H_CMDLINE_SIZE = 0x238,
    H_PREF_ADDRESS = 0x258,
    H_INIT_SIZE = 0x260, H_END = 0x268,
    H_OLD_CMDLINE_MAGIC = 0x20, H_OLD_CMDLINE_OFFSET = 0x22, OLD_CMDLINE_MAGIC = 0xa33f,
    LOADED_HIGH = 0x01, CAN_USE_HEAP = 0x80, LOADER_UNASSIGNED = 0xff,
    MIN_HEAP = 0x1000,
};

typedef struct {
    u16 version;
    u32 setup_bytes, setup_addr, heap_end, kernel_addr, kernel_bytes;
    u32 cmdline_addr, cmdline_max;
    u64 kernel_end;                 /* while it unpacks itself, too */
    u32 initrd_max;                 /* highest address of its last byte */
} Layout;

static bool read_header(const u8 *file, size_t bytes, Layout *l, Error *err)
{
    if (bytes < H_END || load16(file + H_BOOT_FLAG) != 0xaa55 || memcmp(file + H_MAGIC, "HdrS", 4) != 0)
        return error_set(err, "neither a Linux kernel (bzImage) nor a multiboot file");
    l->version = load16(file + H_VERSION);
    if (l->version < 0x200)
        return error_set(err, "boot protocol %d.%02d is too old, 2.00 is the first one supported",
                         l->version >> 8, l->version & 0xff);
    l->setup_bytes = 512 * (1u + (file[H_SETUP_SECTS] ? file[H_SETUP_SECTS] : 4));
    if (bytes <= l->setup_bytes)
        return error_set(err, "the file ends in its set-up code");
    l->kernel_bytes = (u32)(bytes - l->setup_bytes);
    if (l->version >= 0x204 && (u64)load32(file + H_SYSSIZE) * 16 > (u64)l->kernel_bytes + 15)
        return error_set(err, "the file is cut off: %u bytes of kernel, its header says %llu",
                         l->kernel_bytes, (unsigned long long)load32(file + H_SYSSIZE) * 16);
    return true;
}

static bool lay_out(const u8 *file, Layout *l, Error *err)
{
    bool high = file[H_LOADFLAGS] & LOADED_HIGH, modern = high && l->version >= 0x202;

    l->setup_addr = modern ? 0x10000 : 0x90000;
    l->heap_end = modern ? 0xe000 : 0x9800;
    l->kernel_addr = high ? 0x100000 : 0x10000;
    l->cmdline_addr = l->setup_addr + l->heap_end;
    l->cmdline_max = l->version >= 0x206 ? load32(file + H_CMDLINE_SIZE) : 255;
    if (l->cmdline_max >= BOOT_LOW_TOP - l->cmdline_addr)
        l->cmdline_max = BOOT_LOW_TOP - l->cmdline_addr - 1;
    l->initrd_max = l->version >= 0x203 ? load32(file + H_INITRD_MAX) : 0x37ffffff;
    l->kernel_end = (u64)l->kernel_addr + l->kernel_bytes;
    if (l->version >= 0x20a) {
        u64 unpacked = load64(file + H_PREF_ADDRESS);
        if (unpacked >= 1ull << 32)
            return error_set(err, "its header wants it at an address above 4 GiB");
        unpacked += load32(file + H_INIT_SIZE);
        if (unpacked > l->kernel_end)
            l->kernel_end = unpacked;
    }
    if (l->setup_bytes + MIN_HEAP > l->heap_end)
        return error_set(err, "%u bytes of set-up code are too many", l->setup_bytes);
    if (!high && l->kernel_end > l->setup_addr)
        return error_set(err, "%u bytes are too many for a kernel that is loaded low (zImage)",
                         l->kernel_bytes);
    return true;
}

/* vga=: normal, ext, ask or a number; the kernel's set-up code wants it in its header. */
static void set_video_mode(u8 *setup, const char *cmdline)
{
    const char *at = cmdline;

    while ((at = strstr(at, "vga=")) && at != cmdline && at[-1] != ' ')
        at++;
    if (!at)
        return;
    at += 4;
    if (!strncmp(at, "normal", 6))
        store16(setup + H_VID_MODE, 0xffff);
    else if (!strncmp(at, "ext", 3))
        store16(setup + H_VID_MODE, 0xfffe);
    else if (!strncmp(at, "ask", 3))
        store16(setup + H_VID_MODE, 0xfffd);
    else
        store16(setup + H_VID_MODE, (u16)strtoul(at, NULL, 0));
}

static void *copy_of(const void *data, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);

    if (!copy)
        abort();
    memcpy(copy, data, bytes);
    return copy;
}

static bool place_initrd(const Layout *l, u32 bytes, u64 low_ram, u32 *addr, Error *err)
{
    u64 limit = (u64)l->initrd_max + 1;

    if (limit > low_ram - BOOT_FIRMWARE_KEEPS)
        limit = low_ram - BOOT_FIRMWARE_KEEPS;
    u64 first = l->kernel_end > 0x100000 ? l->kernel_end : 0x100000;
    if (limit < first || bytes > limit - first || ((limit - bytes) & ~0xfffull) < first)
        return error_set(err, "kernel and initrd need %llu MiB of memory, the machine has %llu",
                         (unsigned long long)(first + bytes + BOOT_FIRMWARE_KEEPS + 0xfffff) >> 20,
                         (unsigned long long)low_ram >> 20);
    *addr = (u32)((limit - bytes) & ~0xfffull);
    return true;
}

bool boot_plan_linux(BootPlan *plan, const u8 *file, size_t bytes, const BootModule *initrd,
                     const char *cmdline, u64 low_ram, Error *err)
{
    Layout l = { 0 };
    u32 initrd_addr = 0, initrd_bytes = initrd ? (u32)initrd->bytes : 0;

    memset(plan, 0, sizeof(*plan));
    if (!read_header(file, bytes, &l, err) || !lay_out(file, &l, err))
        return false;
    if (strlen(cmdline) > l.cmdline_max)
        return error_set(err, "the command line has %zu characters, this kernel takes %u", strlen(cmdline),
                         l.cmdline_max);
    if (l.kernel_end > low_ram)
        return error_set(err, "the kernel needs %llu MiB of memory, the machine has %llu",
                         (unsigned long long)(l.kernel_end + 0xfffff) >> 20,
                         (unsigned long long)low_ram >> 20);
    if (initrd && !place_initrd(&l, initrd_bytes, low_ram, &initrd_addr, err))
        return false;

    u8 *setup = copy_of(file, l.setup_bytes);
    setup[H_LOADER] = LOADER_UNASSIGNED;
    set_video_mode(setup, cmdline);
    if (l.version >= 0x201) {
        setup[H_LOADFLAGS] |= CAN_USE_HEAP;
        store16(setup + H_HEAP_END, (u16)(l.heap_end - 0x200));
    }
    if (l.version >= 0x202) {
        store32(setup + H_CMDLINE, l.cmdline_addr);
    } else {
        store16(setup + H_OLD_CMDLINE_MAGIC, OLD_CMDLINE_MAGIC);
        store16(setup + H_OLD_CMDLINE_OFFSET, (u16)l.heap_end);
    }
    store32(setup + H_RAMDISK, initrd_addr);
    store32(setup + H_RAMDISK_SIZE, initrd_bytes);

    plan->header = (BootHeader){ .kind = BOOT_LINUX, .entry = l.setup_addr >> 4, .stack = l.heap_end,
                                 .pieces = initrd ? 4 : 3 };
    plan->piece[0] = (BootPiece){ FW_CFG_SETUP_DATA, FW_CFG_SETUP_ADDR, FW_CFG_SETUP_SIZE, l.setup_addr,
                                  setup, l.setup_bytes };
    plan->piece[1] = (BootPiece){ FW_CFG_KERNEL_DATA, FW_CFG_KERNEL_ADDR, FW_CFG_KERNEL_SIZE, l.kernel_addr,
                                  copy_of(file + l.setup_bytes, l.kernel_bytes), l.kernel_bytes };
    plan->piece[2] = (BootPiece){ FW_CFG_CMDLINE_DATA, FW_CFG_CMDLINE_ADDR, FW_CFG_CMDLINE_SIZE,
                                  l.cmdline_addr,
                                  copy_of(cmdline, strlen(cmdline) + 1), (u32)strlen(cmdline) + 1 };
    if (initrd)
        plan->piece[3] = (BootPiece){ FW_CFG_INITRD_DATA, FW_CFG_INITRD_ADDR, FW_CFG_INITRD_SIZE, initrd_addr,
                                      copy_of(initrd->data, initrd->bytes), initrd_bytes };
    return true;
}
