/*
 * -kernel: how Linux and multiboot files are taken apart, what is refused, and that no change to a file's
 * headers makes the loader read or write outside of what it has.
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../devices/loader.h"
#include "host_posix.h"

#include <stdlib.h>
#include <string.h>

enum { RAM = 64 << 20, SETUP_SECTS = 3, SETUP = 512 * (SETUP_SECTS + 1), KERNEL = 5000 };

static Error err;

static bool says(const char *words) { return strstr(err.text, words); }

/* ---- Linux ---- */

static u8 linux_file[SETUP + KERNEL];

static void make_linux(u16 version, bool high)
{
    u8 *f = linux_file;

    for (size_t i = 0; i < sizeof(linux_file); i++)
        f[i] = (u8)(i * 7);
    memset(f, 0, SETUP);
    f[0x1f1] = SETUP_SECTS;
    store32(f + 0x1f4, (KERNEL + 15) / 16);
    store16(f + 0x1fe, 0xaa55);
    memcpy(f + 0x202, "HdrS", 4);
    store16(f + 0x206, version);
    f[0x211] = high;
    store32(f + 0x22c, 0x37ffffff);
    store32(f + 0x238, 100);
    store64(f + 0x258, 0x1000000);
    store32(f + 0x260, 0x200000);
}

static const BootPiece *piece_of(const BootPlan *plan, u16 key)
{
    for (u32 i = 0; i < plan->header.pieces; i++)
        if (plan->piece[i].data_key == key)
            return &plan->piece[i];
    return NULL;
}

static void test_linux(void)
{
    BootPlan plan;
    u8 initrd[3000];
    BootModule module = { initrd, sizeof(initrd), "" };

    memset(initrd, 0x77, sizeof(initrd));
    make_linux(0x20c, true);
    CHECK(boot_plan_linux(&plan, linux_file, sizeof(linux_file), &module, "quiet vga=0x317", RAM, &err));
    const BootPiece *setup = piece_of(&plan, FW_CFG_SETUP_DATA), *kernel = piece_of(&plan,
                                                                                    FW_CFG_KERNEL_DATA);
    const BootPiece *line = piece_of(&plan, FW_CFG_CMDLINE_DATA), *rd = piece_of(&plan, FW_CFG_INITRD_DATA);
    CHECK(plan.header.kind == BOOT_LINUX && plan.header.pieces == 4 && plan.header.entry == setup->addr >> 4);
    CHECK(setup->bytes == SETUP && kernel->addr == 0x100000 && kernel->bytes == KERNEL);
    CHECK_MSG(!memcmp(kernel->data, linux_file + SETUP, KERNEL),
              "the kernel is what follows the set-up code");
    CHECK(!strcmp((char *)line->data, "quiet vga=0x317") && load32(setup->data + 0x228) == line->addr);
    CHECK_MSG(load16(setup->data + 0x1fa) == 0x317, "vga= goes into the header");
    CHECK(setup->data[0x210] == 0xff && (setup->data[0x211] & 0x80));
    CHECK_MSG(load16(setup->data + 0x224) + 0x200u <= plan.header.stack &&
              setup->addr + plan.header.stack <= line->addr,
              "heap and stack end before the command line");
    CHECK(load32(setup->data + 0x218) == rd->addr && load32(setup->data + 0x21c) == sizeof(initrd));
    CHECK_MSG(rd->addr >= 0x1200000 && rd->addr + rd->bytes <= RAM && !(rd->addr & 0xfff),
              "the initrd lies page-aligned behind the unpacked kernel");
    boot_plan_free(&plan);

    store32(linux_file + 0x22c, 0x2000000 - 1);
    CHECK(boot_plan_linux(&plan, linux_file, sizeof(linux_file), &module, "", RAM, &err));
    rd = piece_of(&plan, FW_CFG_INITRD_DATA);
    CHECK_MSG(rd->addr + rd->bytes <= 0x2000000, "and below what the kernel can reach");
    boot_plan_free(&plan);

    make_linux(0x201, true);
    CHECK(boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, "old", RAM, &err));
    setup = piece_of(&plan, FW_CFG_SETUP_DATA);
    CHECK_MSG(setup->addr == 0x90000 && load16(setup->data + 0x20) == 0xa33f &&
              0x90000u + load16(setup->data + 0x22) == piece_of(&plan, FW_CFG_CMDLINE_DATA)->addr,
              "protocol 2.01 finds its command line by offset");
    boot_plan_free(&plan);

    make_linux(0x200, false);
    CHECK(boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, "", RAM, &err));
    CHECK_MSG(piece_of(&plan, FW_CFG_KERNEL_DATA)->addr == 0x10000, "a zImage is loaded low");
    boot_plan_free(&plan);
}

static void test_linux_refused(void)
{
    BootPlan plan;
    u8 initrd[0x1000] = { 0 };
    BootModule module = { initrd, sizeof(initrd), "" };
    char line[200];

    make_linux(0x20c, true);
    CHECK(!boot_plan_linux(&plan, linux_file, 100, NULL, "", RAM, &err) && says("neither"));
    CHECK(!boot_plan_linux(&plan, linux_file, SETUP, NULL, "", RAM, &err) && says("ends in"));
    CHECK(!boot_plan_linux(&plan, linux_file, SETUP + 1000, NULL, "", RAM, &err) && says("cut off"));
    memset(line, 'x', sizeof(line));
    line[101] = 0;
    CHECK(!boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, line, RAM, &err) &&
          says("command line"));
    line[100] = 0;
    CHECK(boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, line, RAM, &err));
    boot_plan_free(&plan);
    CHECK(!boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, "", 16 << 20, &err) &&
          says("needs 18 MiB"));
    CHECK(!boot_plan_linux(&plan, linux_file, sizeof(linux_file), &module, "", (18 << 20) + 0x1000, &err) &&
          says("initrd"));
    linux_file[0x1f1] = 200;
    CHECK(!boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, "", RAM, &err));
    make_linux(0x1ff, true);
    CHECK(!boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, "", RAM, &err) && says("too old"));
    memset(linux_file + 0x202, 0, 4);
    CHECK(!boot_plan_linux(&plan, linux_file, sizeof(linux_file), NULL, "", RAM, &err));
}

/* ---- multiboot ---- */

enum { ELF_BYTES = 0x3000, ELF_CODE = 0x1000 };
static u8 elf_file[ELF_BYTES];

static void put_header(u8 *at, u32 flags)
{
    store32(at, 0x1badb002);
    store32(at + 4, flags);
    store32(at + 8, 0u - 0x1badb002 - flags);
}

static void put_segment(int n, u32 offset, u32 vaddr, u32 paddr, u32 in_file, u32 in_memory)
{
    u8 *p = elf_file + 52 + 32 * n;
    const u32 fields[8] = { 1, offset, vaddr, paddr, in_file, in_memory, 7, 0x1000 };

    memcpy(p, fields, 32);
}

static void make_elf(void)
{
    static const u8 ident[] = { 0x7f, 'E', 'L', 'F', 1, 1, 1 };

    for (size_t i = 0; i < sizeof(elf_file); i++)
        elf_file[i] = (u8)(i * 13);
    memset(elf_file, 0, 0x200);
    memcpy(elf_file, ident, sizeof(ident));
    store16(elf_file + 16, 2);
    store16(elf_file + 18, 3);
    store32(elf_file + 24, 0xc0100010);
    store32(elf_file + 28, 52);
    store16(elf_file + 42, 32);
    store16(elf_file + 44, 2);
    put_segment(0, ELF_CODE, 0xc0100000, 0x100000, 0x800, 0x800);
    put_segment(1, ELF_CODE + 0x1000, 0xc0102000, 0x102000, 0x400, 0x3000);
    put_header(elf_file + ELF_CODE, 3);
}

static void test_elf(void)
{
    BootPlan plan;
    BootModule modules[2] = { { (u8 *)"one", 3, "m1 a" }, { (u8 *)"second", 6, "m2" } };

    make_elf();
    CHECK(boot_is_multiboot(elf_file, sizeof(elf_file)));
    CHECK(boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k.elf", modules, 2, "x=1", RAM, &err));
    const BootPiece *kernel = piece_of(&plan, FW_CFG_KERNEL_DATA), *info = piece_of(&plan, FW_CFG_SETUP_DATA);
    const BootPiece *mods = piece_of(&plan, FW_CFG_INITRD_DATA);
    CHECK(plan.header.kind == BOOT_MULTIBOOT && kernel->addr == 0x100000 && kernel->bytes == 0x5000);
    CHECK_MSG(plan.header.entry == 0x100010, "the entry is the physical address of the virtual one");
    CHECK(!memcmp(kernel->data, elf_file + ELF_CODE, 0x800) &&
          !memcmp(kernel->data + 0x2000, elf_file + ELF_CODE + 0x1000, 0x400));
    CHECK_MSG(kernel->data[0x800] == 0 && kernel->data[0x2400] == 0 && kernel->data[0x4fff] == 0,
              "the rest is zeros");
    CHECK(info->addr == plan.header.info && info->addr + info->bytes <= 0x9f000 && !(info->addr & 15));
    const u8 *i = info->data;
    CHECK(load32(i) == (1 | 4 | 8 | 0x40 | 0x200));
    CHECK(!strcmp((char *)i + (load32(i + 16) - info->addr), "k.elf x=1"));
    CHECK(load32(i + 20) == 2);
    const u8 *list = i + (load32(i + 24) - info->addr);
    CHECK(load32(list) == mods->addr && load32(list + 4) == mods->addr + 3 && !(load32(list + 16) & 0xfff));
    CHECK(!strcmp((char *)i + (load32(list + 8) - info->addr), "m1 a"));
    CHECK(!memcmp(mods->data + (load32(list + 16) - mods->addr), "second", 6) && mods->addr >= 0x105000);
    CHECK(plan.header.mmap == load32(i + 48) && !(plan.header.mmap & 15));
    boot_plan_free(&plan);

    put_segment(0, ELF_CODE - 0x100, 0xfff00, 0xfff00, 0x900, 0x900);
    store32(elf_file + 24, 0x100010);
    CHECK(boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err));
    CHECK_MSG(piece_of(&plan, FW_CFG_KERNEL_DATA)->addr == 0x100000 &&
              !memcmp(piece_of(&plan, FW_CFG_KERNEL_DATA)->data, elf_file + ELF_CODE, 0x800),
              "ELF headers in the ROM area are left out");
    boot_plan_free(&plan);

    make_elf();
    put_segment(0, ELF_CODE, 0x10000, 0x10000, 0x800, 0x800);
    store16(elf_file + 44, 1);
    CHECK(boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err));
    info = piece_of(&plan, FW_CFG_SETUP_DATA);
    CHECK_MSG(info->addr + info->bytes <= 0x10000 || info->addr >= 0x10800,
              "the information keeps out of a low kernel");
    boot_plan_free(&plan);
}

static void test_by_header(void)
{
    BootPlan plan;
    u8 file[4096];

    for (size_t i = 0; i < sizeof(file); i++)
        file[i] = (u8)(i * 3);
    put_header(file + 64, 0x10003);
    store32(file + 76, 0x200040);       /* header */
    store32(file + 80, 0x200020);       /* load: from offset 32 of the file */
    store32(file + 84, 0x200420);
    store32(file + 88, 0x201000);
    store32(file + 92, 0x200100);
    CHECK(boot_plan_multiboot(&plan, file, sizeof(file), "k", NULL, 0, "", RAM, &err));
    const BootPiece *kernel = piece_of(&plan, FW_CFG_KERNEL_DATA);
    CHECK(kernel->addr == 0x200020 && kernel->bytes == 0xfe0 && !memcmp(kernel->data, file + 32, 0x400));
    CHECK(plan.header.entry == 0x200100 && kernel->data[0x400] == 0);
    boot_plan_free(&plan);
    store32(file + 84, 0);
    store32(file + 88, 0);
    CHECK(boot_plan_multiboot(&plan, file, sizeof(file), "k", NULL, 0, "", RAM, &err));
    CHECK_MSG(piece_of(&plan, FW_CFG_KERNEL_DATA)->bytes == sizeof(file) - 32,
              "no end: to the end of the file");
    boot_plan_free(&plan);
    store32(file + 84, 0x300000);
    CHECK(!boot_plan_multiboot(&plan, file, sizeof(file), "k", NULL, 0, "", RAM, &err) &&
          says("more loaded"));
    store32(file + 76, 0x300000);
    CHECK(!boot_plan_multiboot(&plan, file, sizeof(file), "k", NULL, 0, "", RAM, &err));
}

static void test_multiboot_refused(void)
{
    BootPlan plan;
    u8 big[64] = { 0 };

    CHECK(!boot_is_multiboot(big, sizeof(big)) && !boot_is_multiboot(big, 3));
    make_elf();
    put_header(elf_file + ELF_CODE, 0x13);
    CHECK(!boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err) &&
          says("features"));
    make_elf();
    elf_file[4] = 2;
    CHECK(!boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err) &&
          says("32-bit"));
    make_elf();
    put_segment(1, ELF_CODE, 0, 0x102000, 0x400, 0x80000000);
    CHECK(!boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err) &&
          says("needs"));
    put_segment(1, 0x2f00, 0, 0x102000, 0x400, 0x400);
    CHECK(!boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err) &&
          says("outside"));
    make_elf();
    put_segment(0, ELF_CODE, 0, 0x90000, 0x800, 0x20000);
    CHECK(!boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", NULL, 0, "", RAM, &err) &&
          says("firmware"));
    make_elf();
    BootModule module = { big, RAM, "" };
    CHECK(!boot_plan_multiboot(&plan, elf_file, sizeof(elf_file), "k", &module, 1, "", RAM, &err) &&
          says("modules"));
}

/* ---- mutations: refused or planned within RAM, never out of bounds ---- */

static bool within(const BootPlan *plan)
{
    for (u32 i = 0; i < plan->header.pieces; i++)
        if ((u64)plan->piece[i].addr + plan->piece[i].bytes > RAM || plan->piece[i].addr < 0x1000)
            return false;
    return plan->header.pieces <= BOOT_PIECES;
}

static void test_mutations(void)
{
    static const u32 values[] = { 0, 1, 0xffffffff, 0x7fffffff, 0x80000000, 0x100000, 0xfffff000, 0xffff,
                                  0x1000, 0x2fff };
    u32 seed = 7, planned = 0, refused = 0;
    bool ok = true;
    u8 initrd[5000] = { 0 };
    BootModule module = { initrd, sizeof(initrd), "m" };

    for (int i = 0; i < 20000; i++) {
        BootPlan plan;
        bool linux_kernel = i & 1;

        if (linux_kernel)
            make_linux((u16)(0x200 + i % 16), true);
        else
            make_elf();
        for (int k = 0; k < 3; k++) {
            seed = seed * 1664525 + 1013904223;
            u32 r = seed >> 8;
            u8 *at = linux_kernel ? linux_file + 0x1f0 + r % 0x78
                                  : elf_file + (r & 0x100 ? ELF_CODE : 0) + r % 120;
            store32(at, r & 0x200 ? values[(r >> 10) % ARRAY_LEN(values)] : seed);
        }
        size_t bytes = linux_kernel ? sizeof(linux_file) : sizeof(elf_file);
        if (seed & 0x10000)
            bytes = (seed >> 17) % bytes;
        bool made = linux_kernel
            ? boot_plan_linux(&plan, linux_file, bytes, seed & 1 << 16 ? NULL : &module, "a b", RAM, &err)
            : boot_plan_multiboot(&plan, elf_file, bytes, "k", &module, 1, "", RAM, &err);
        planned += made;
        refused += !made;
        if (made) {
            ok &= within(&plan);
            boot_plan_free(&plan);
        }
    }
    CHECK_MSG(ok, "every plan lies within RAM");
    CHECK_MSG(planned > 100 && refused > 100, "%u planned, %u refused", planned, refused);
}

int main(void)
{
    host_posix_init();
    test_linux();
    test_linux_refused();
    test_elf();
    test_by_header();
    test_multiboot_refused();
    test_mutations();
    return test_end();
}
