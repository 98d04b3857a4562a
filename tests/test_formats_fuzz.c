/*
 * Damaged images of all formats but qcow2 (test_qcow2_fuzz.c): headers, tables and trailers with wrong
 * numbers, with their checksums put right in half of the cases. More with QEMU_WIN_ROUNDS=n. With
 * QEMU_WIN_SEEDS=folder the sound images it begins with are left there, for `make fuzz`.
 */
#include "fuzz_image.h"
#include "image_seeds.h"

#include "../block/vpc.h"

#include <stdio.h>

enum { DISK = 200 * SECTOR, AREAS_MAX = 8 };

static u8 disk[DISK];

/* A seed of a format that we write: made, and written in places. */
static Seed made_seed(const char *format, const char *options, const char *base)
{
    const BlkDriver *drv = image_driver_named(format);
    ImageCreate how = { .bytes = DISK, .options = options, .base = base, .base_format = base ? "raw" : NULL };
    Error err = { "" };
    Seed s = { 0 };
    ImageFacts facts;
    BlkImage *img;

    if (!drv->create("seed", &how, &err) || !(img = drv->open(NULL, "seed", false, &err))) {
        printf("%s %s: %s\n", format, options, err.text);
        abort();
    }
    drv->facts(img, &facts);
    if (facts.packs) {
        u8 *unit = calloc(1, facts.unit), *packed = malloc(facts.unit * 2);
        z_stream z = { .next_in = unit, .avail_in = facts.unit, .next_out = packed,
                       .avail_out = facts.unit * 2 };

        if (deflateInit2(&z, 6, Z_DEFLATED, facts.pack_window, 9, 0) != Z_OK || deflate(&z, Z_FINISH) < 0 ||
            deflateEnd(&z) != Z_OK || !drv->write_packed(img, 0, packed, (u32)z.total_out, &err))
            abort();
        free(unit);
        free(packed);
    }
    if (!facts.packs_only)
        image_do(img, BLK_WRITE, 90 * SECTOR, disk, 30 * SECTOR);
    drv->close(img);
    seed_put(&s, 0, mem_file("seed")->now, mem_file("seed")->bytes);
    return s;
}

static u64 interesting(u64 old, u64 file_bytes)
{
    static const u64 values[] = { 0, 1, 2, 0xff, 0x1ff, 0x200, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
                                  0xfffffffe, 0xffffffff, 0x100000000ull, 1ull << 47, 1ull << 55, 1ull << 62,
                                  1ull << 63, ~0ull, 0x7fffffffffffffffull };

    switch (mem_random() % 6) {
    case 0: return old ^ 1ull << (mem_random() % 64);
    case 1: return mem_random() % (file_bytes + 1024);
    case 2: return mem_random() % (file_bytes + 1024) / SECTOR;
    case 3: return old + (u64)(mem_random() % 5) - 2;
    default: return values[mem_random() % ARRAY_LEN(values)];
    }
}

static void damage_at(MemFile *f, u64 at)
{
    u8 *p = f->now + at;

    if (at + 8 > f->bytes)
        return;
    switch (mem_random() % 6) {
    case 0: put64(p, interesting(be64(p), f->bytes)); break;
    case 1: put32(p, (u32)interesting(be32(p), f->bytes)); break;
    case 2: store64(p, interesting(load64(p), f->bytes)); break;
    case 3: store32(p, (u32)interesting(load32(p), f->bytes)); break;
    case 4: store16(p, (u16)interesting(load16(p), f->bytes)); break;
    default: p[mem_random() % 8] = (u8)mem_random();
    }
}

static void fix_vpc(u8 *p, u64 bytes)
{
    if (bytes < VPC_FOOTER + VPC_DYNAMIC)
        return;
    if (!memcmp(p + bytes - VPC_FOOTER, "conectix", 8))
        put32(p + bytes - VPC_FOOTER + 64, vpc_checksum(p + bytes - VPC_FOOTER, VPC_FOOTER, 64));
    if (memcmp(p, "conectix", 8))
        return;
    put32(p + 64, vpc_checksum(p, VPC_FOOTER, 64));
    put32(p + VPC_FOOTER + 36, vpc_checksum(p + VPC_FOOTER, VPC_DYNAMIC, 36));
}

static void fix_vhdx(u8 *p, u64 bytes)
{
    if (bytes < 512 << 10)
        return;
    for (u32 i = 0; i < 2; i++) {
        u8 *h = p + (64 << (10 + i)), *r = p + ((192 + 64 * i) << 10);

        store32(h + 4, 0);
        store32(h + 4, seed_crc32c(h, 4096));
        store32(r + 4, 0);
        store32(r + 4, seed_crc32c(r, 65536));
    }
}

/* areas: where headers and tables begin; below 0: counted from the end. */
typedef struct { const char *format, *options, *base; Seed seed; s64 areas[AREAS_MAX]; u32 spread; } Target;

static void run(const Target *t, unsigned times)
{
    const BlkDriver *drv = image_driver_named(t->format);
    Error err = { "" };
    BlkImage *img;
    MemFile *f;

    for (unsigned i = 0; i <= times; i++) {
        unsigned n = i ? 1 + mem_random() % 4 : 0;

        f = mem_make("image", true);
        memcpy(f->now, t->seed.data, t->seed.bytes);
        f->bytes = t->seed.bytes;
        while (n--) {
            u32 count = 1;
            s64 at;

            while (count < AREAS_MAX && t->areas[count])
                count++;
            at = t->areas[mem_random() % count];
            damage_at(f, (at < 0 ? f->bytes : 0) + (u64)at + mem_random() % (t->spread / 2) * 2);
        }
        if (i && mem_random() % 16 == 0) {
            u64 keep = mem_random() % f->bytes;

            memset(f->now + keep, 0, f->bytes - keep);
            f->bytes = keep;
        }
        if (i && mem_random() % 2 && !strcmp(t->format, "vpc"))
            fix_vpc(f->now, f->bytes);
        if (i && mem_random() % 4 && !strcmp(t->format, "vhdx"))
            fix_vhdx(f->now, f->bytes);
        mem_set_synced(f);
        if (i) {
            fuzz_image(drv, "image");
            continue;
        }
        img = drv->open(NULL, "image", true, &err);
        CHECK_MSG(img, "%s: the seed itself is sound: %s", t->format, err.text);
        if (img)
            drv->close(img);
    }
}

static void leave_seed(const char *folder, const Target *t)
{
    char name[300];
    FILE *f;

    snprintf(name, sizeof(name), "%s/%s-%s", folder, t->format, t->options);
    f = fopen(name, "wb");
    if (!f || fwrite(t->seed.data, 1, t->seed.bytes, f) != t->seed.bytes)
        abort();
    fclose(f);
}

int main(void)
{
    unsigned rounds = getenv("QEMU_WIN_ROUNDS") ? (unsigned)atoi(getenv("QEMU_WIN_ROUNDS")) : 1;
    enum { MIB = 1 << 20 };

    fuzz_base();
    for (u32 i = 0; i < DISK; i++)
        disk[i] = i / 8192 % 3 ? (u8)(i * 7 + i / 256) : 0;
    Target targets[] = {
        { "vdi", "", NULL, made_seed("vdi", "", NULL), { 0, 0x150, 512 }, 128 },
        { "vpc", "", NULL, made_seed("vpc", "", NULL), { 0, 512, 1536, 2048, -512 }, 96 },
        { "vpc", "fixed", NULL, made_seed("vpc", "subformat=fixed", NULL), { -512, -512, 0 }, 96 },
        { "vmdk", "", NULL, made_seed("vmdk", "", NULL),
          { 0, 512, 21 * 512, 22 * 512, 26 * 512, 27 * 512 }, 128 },
        { "vmdk", "stream", NULL, made_seed("vmdk", "subformat=streamOptimized", NULL),
          { 0, 21 * 512, 26 * 512, 27 * 512, 65536 }, 80 },
        { "qcow", "", NULL, made_seed("qcow", "", NULL), { 0, 48, 4096, 4096 + 64 }, 64 },
        { "qcow", "base", "base", made_seed("qcow", "", "base"), { 0, 48, 512, 1024 }, 64 },
        { "vhdx", "", NULL, seed_vhdx(disk, DISK),
          { 64 << 10, 128 << 10, 192 << 10, 256 << 10, 2 * MIB, 2 * MIB + 65536, 3 * MIB }, 128 },
        { "parallels", "", NULL, seed_parallels(disk, DISK, true), { 0 }, 128 },
        { "parallels", "old", NULL, seed_parallels(disk, DISK, false), { 0 }, 128 },
        { "bochs", "", NULL, seed_bochs(disk, DISK, false), { 0, 512, 564 }, 96 },
        { "cow", "", "base", seed_cow(disk, DISK, false, "base"), { 0, 1030 }, 96 },
        { "cloop", "", NULL, seed_cloop(disk, DISK), { 0, 128, 180 }, 64 },
        { "dmg", "", NULL, seed_dmg(disk, DISK, false, true), { -512, -320, -24, -1100, -800 }, 400 },
        { "dmg", "xml", NULL, seed_dmg(disk, DISK, true, true), { -512, -320, -24, -1500, -900 }, 500 },
    };

    for (size_t i = 0; i < ARRAY_LEN(targets) && getenv("QEMU_WIN_SEEDS"); i++)
        leave_seed(getenv("QEMU_WIN_SEEDS"), &targets[i]);
    for (unsigned r = 0; r < rounds; r++) {
        for (size_t i = 0; i < ARRAY_LEN(targets); i++)
            run(&targets[i], 80);
    }
    CHECK_MSG(mem_file("base")->written == 0, "no backing file is ever written");
    CHECK_MSG(fuzz_slow == 0, "%llu images took longer than two seconds", (unsigned long long)fuzz_slow);
    CHECK_MSG(fuzz_touched == 0, "%llu images were changed, although refused or opened for reading",
              (unsigned long long)fuzz_touched);
    CHECK_MSG(fuzz_refused > 0 && fuzz_opened > 0, "%llu images refused, %llu opened for writing",
              (unsigned long long)fuzz_refused, (unsigned long long)fuzz_opened);
    printf("%llu damaged images refused, %llu opened for writing\n", (unsigned long long)fuzz_refused,
           (unsigned long long)fuzz_opened);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        free(targets[i].seed.data);
    return test_end();
}
