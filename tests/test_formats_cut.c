/*
 * VDI, VHD, VMDK and qcow when the power is cut: these formats have no journal and no check, but what was
 * flushed must be there, every sector holds something that was written to it, and the image opens for writing
 * and goes on. Longer with QEMU_WIN_ROUNDS=n (default 2).
 */
#include "power_cut.h"

static u64 cuts, unopened;
static const BlkDriver *driver;
static unsigned one_in = 3;

static void read_tags(BlkImage *img, u8 *disk)
{
    if (image_do(img, BLK_READ, 0, disk, SECTORS * SECTOR) != BLK_OK)
        lost++;
    for (unsigned i = 0; i < SECTORS; i++)
        lost += !tag_allowed(i, disk + i * SECTOR);
}

/* Writing goes on in what was found, and harms no other sector. */
static void goes_on(BlkImage *img, u8 *disk)
{
    static u8 one[3 * SECTOR];

    for (int i = 0; i < 3; i++) {
        u32 at = mem_random() % (SECTORS - 3) * SECTOR;

        memset(one, 0x5a + i, sizeof(one));
        memcpy(disk + at, one, sizeof(one));
        lost += image_do(img, BLK_WRITE, at, one, sizeof(one)) != BLK_OK;
    }
}

static void look_at_cut(MemFile *f)
{
    static u8 disk[SECTORS * SECTOR], again[SECTORS * SECTOR];
    HostIo *queue[ARRAY_LEN(mem_queue)];
    unsigned queued = mem_queued;
    Error err = { "" };
    BlkImage *img;

    if (mem_random() % one_in || strcmp(f->name, "disk"))
        return;
    cuts++;
    mem_before_write = NULL;
    memcpy(queue, mem_queue, sizeof(queue));
    mem_queued = 0;
    power_cut(f, mem_file("cut"));
    img = driver->open(NULL, "cut", false, &err);
    if (img) {
        read_tags(img, disk);
        goes_on(img, disk);
        driver->close(img);
        img = driver->open(NULL, "cut", true, &err);
    }
    if (img) {
        lost += image_do(img, BLK_READ, 0, again, sizeof(again)) != BLK_OK;
        lost += memcmp(again, disk, sizeof(disk)) != 0;
        driver->close(img);
    } else if (unopened++ < 5) {
        printf("cut %llu: %s\n", (unsigned long long)cuts, err.text);
    }
    memcpy(mem_queue, queue, sizeof(queue));
    mem_queued = queued;
    mem_before_write = look_at_cut;
}

static void run(const char *format, const char *options, const char *base, unsigned steps)
{
    ImageCreate how = { .bytes = SECTORS * SECTOR, .options = options, .base = base,
                        .base_format = base ? format : NULL };
    u64 cuts_before = cuts, unopened_before = unopened, lost_before;
    Error err = { "" };
    BlkImage *img;

    driver = image_driver_named(format);
    memset(flushed, 0, sizeof(flushed));
    memset(newer_count, 0, sizeof(newer_count));
    CHECK_MSG(driver->create("disk", &how, &err), "%s", err.text);
    mem_set_synced(mem_file("disk"));
    img = driver->open(NULL, "disk", false, &err);
    CHECK_MSG(img, "%s", err.text);
    note_flushed(img);              /* what the base has */
    lost_before = lost;
    mem_before_write = look_at_cut;
    for (unsigned i = 0; i < steps; i++) {
        write_some(img);
        if (mem_random() % 6 == 0)
            flush(img);
    }
    driver->close(img);
    mem_before_write = NULL;
    CHECK_MSG(cuts > cuts_before && unopened == unopened_before, "%s %s: %llu cuts leave images that open",
              format, options, (unsigned long long)(cuts - cuts_before));
    CHECK_MSG(lost == lost_before, "%s %s: flushed data is there after the cut", format, options);
}

/* A base that has data of its own. */
static void make_base(const char *format, const char *name, const char *options)
{
    ImageCreate how = { .bytes = SECTORS * SECTOR, .options = options };
    const BlkDriver *drv = image_driver_named(format);
    static u8 buf[100 * SECTOR];
    Error err = { "" };
    BlkImage *img;

    CHECK_MSG(drv->create(name, &how, &err), "%s", err.text);
    img = drv->open(NULL, name, false, &err);
    for (u32 i = 0; i < sizeof(buf); i += 4)
        store32(buf + i, 0x10000000 + i / SECTOR);
    CHECK(image_do(img, BLK_WRITE, 50 * SECTOR, buf, sizeof(buf)) == BLK_OK);
    drv->close(img);
}

int main(void)
{
    unsigned rounds = getenv("QEMU_WIN_ROUNDS") ? (unsigned)atoi(getenv("QEMU_WIN_ROUNDS")) : 2;

    mem_make("cut", false);
    make_base("vpc", "base.vhd", "force_size=on");
    for (unsigned i = 0; i < rounds; i++) {
        run("vdi", "", NULL, 40);
        run("vpc", "force_size=on", NULL, 40);
        run("vpc", "", "base.vhd", 40);
        run("vmdk", "", NULL, 40);
        run("qcow", "", NULL, 40);
    }
    printf("%llu power cuts\n", (unsigned long long)cuts);
    return test_end();
}
