/*
 * The formats that are only read: images put together from the specifications (image_seeds.h) read as the
 * disk they were made of, by us and, where it knows them, by the packaged qemu-img; and its own are read.
 */
#include "image_bench.h"
#include "image_seeds.h"

enum { DISK = 301 * SECTOR };

static u8 *disk;

/* Holes, text, and what does not compress. */
static void make_disk(void)
{
    disk = calloc(1, DISK);
    for (u32 at = 0; at < DISK; at += SECTOR) {
        u32 kind = at / 8192 % 4 ? bench_random() % 3 : 0;

        for (u32 i = 0; i < SECTOR && kind; i++)
            disk[at + i] = kind == 1 ? (u8)bench_random() : (u8)(at / SECTOR);
    }
}

static const char *store(const Seed *s)
{
    const char *file = temp_name();
    Error err;
    HostFile *f = host_file_open(file, HOST_READ | HOST_WRITE, &err);

    host_file_write(f, 0, s->data, s->bytes, &err);
    host_file_close(f);
    return file;
}

static BlkImage *open_image(const char *format, const char *file)
{
    Error err = { "" };
    const BlkDriver *drv = image_driver(file, NULL, &err);
    BlkImage *img = drv ? drv->open(m, file, true, &err) : NULL;

    CHECK_MSG(img && !strcmp(drv->name, format), "%s is recognised and opened: %s", format, err.text);
    if (drv)
        CHECK_MSG(!drv->open(m, file, false, &err) && strstr(err.text, "only read"),
                  "%s is refused for writing: %s", format, err.text);
    return img;
}

static void check_image(const char *format, const char *what, Seed s, bool packaged)
{
    const char *file = store(&s), *raw = temp_name();
    BlkImage *img = open_image(format, file);

    if (img) {
        CHECK_MSG(img->bytes >= DISK && equals(img, disk, DISK), "%s%s reads as the disk it was made of",
                  format, what);
        img->drv->close(img);
    }
    if (have_tool && packaged) {
        Seed plain = { .data = disk, .bytes = DISK };

        raw = store(&plain);
        CHECK_MSG(!tool("compare -f %s -F raw %s %s", format, file, raw), "%s%s: the packaged tool agrees",
                  format, what);
    }
    free(s.data);
    bench_remove_files();
}

static void check_theirs(const char *format, const char *options)
{
    Seed plain = { .data = disk, .bytes = DISK };
    const char *raw = store(&plain), *file = temp_name();
    BlkImage *img;

    CHECK(!tool("convert -f raw -O %s %s %s %s", format, options, raw, file));
    img = open_image(format, file);
    if (img) {
        CHECK_MSG(equals(img, disk, DISK), "%s %s of the packaged tool is read", format, options);
        img->drv->close(img);
    }
    bench_remove_files();
}

/* What an image of these formats has not got is its base's. */
static void test_cow_base(void)
{
    const char *base = bench_file(DISK);
    Seed s = seed_cow(disk, DISK, false, strrchr(base, '/') + 1);
    const char *file = store(&s);
    BlkImage *img = open_image("cow", file);
    u8 *want = malloc(DISK);

    for (u32 at = 0; at < DISK; at++)
        want[at] = seed_empty(disk + at / SECTOR * SECTOR, SECTOR) ? pattern(at) : disk[at];
    CHECK_MSG(img && equals(img, want, DISK), "cow: what is not in the image is the backing file's");
    if (img)
        img->drv->close(img);
    free(want);
    free(s.data);
    bench_remove_files();
}

static void test_refused(void)
{
    static const u32 types[] = { 6, 7, 8 };
    static const char *const names[] = { "bzip2", "LZFSE", "LZMA" };
    BlkImage *img;
    Error err;

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        Seed s = seed_dmg(disk, DISK, false, false);
        const char *file;

        for (size_t at = 0; at + 4 < s.bytes; at++) {
            if (be32(s.data + at) == 0x80000005)
                put32(s.data + at, 0x80000000 + types[i]);
        }
        file = store(&s);
        CHECK_MSG(!dmg_driver.open(NULL, file, true, &err) && strstr(err.text, names[i]), "dmg: %s",
                  err.text);
        free(s.data);
    }
    Seed s = seed_vhdx(disk, DISK);
    u8 *h = s.data + (128 << 10);

    h[48] = 1;                      /* the log's GUID */
    store32(h + 4, 0);
    store32(h + 4, seed_crc32c(h, 4096));
    CHECK_MSG(!vhdx_driver.open(NULL, store(&s), true, &err) && strstr(err.text, "log"), "vhdx: %s",
              err.text);
    h[4]++;                         /* the checksum: the other header counts */
    img = vhdx_driver.open(NULL, store(&s), true, &err);
    CHECK_MSG(img && equals(img, disk, DISK), "vhdx: a damaged header is passed over");
    img->drv->close(img);
    free(s.data);
    bench_remove_files();
}

int main(void)
{
    bench_machine();
    have_tool = !system("qemu-img --version >/dev/null 2>&1");
    make_disk();
    check_image("parallels", "", seed_parallels(disk, DISK, true), true);
    check_image("parallels", " without extension", seed_parallels(disk, DISK, false), true);
    check_image("bochs", "", seed_bochs(disk, DISK, false), true);
    check_image("bochs", " 1", seed_bochs(disk, DISK, true), true);
    check_image("cow", "", seed_cow(disk, DISK, false, ""), false);
    check_image("cow", " packed", seed_cow(disk, DISK, true, ""), false);
    check_image("cloop", "", seed_cloop(disk, DISK), true);
    check_image("dmg", "", seed_dmg(disk, DISK, true, false), true);
    check_image("dmg", " with resources", seed_dmg(disk, DISK, false, false), true);
    check_image("dmg", " with ADC", seed_dmg(disk, DISK, true, true), false);
    check_image("vhdx", "", seed_vhdx(disk, DISK), true);
    if (have_tool) {
        check_theirs("parallels", "");
        check_theirs("vhdx", "");
        check_theirs("vhdx", "-o subformat=fixed");
        check_theirs("vhdx", "-o block_size=32M,log_size=2M");
    }
    test_cow_base();
    test_refused();
    free(disk);
    bench_remove_files();
    return test_end();
}
