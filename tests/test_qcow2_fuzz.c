/*
 * qcow2 images with damaged headers, tables, refcounts and snapshot tables: opening, reading, checking,
 * writing and snapshots end in time with an answer; what is refused is left as it was. More with
 * QEMU_WIN_ROUNDS=n.
 */
#include "mem_files.h"

#include "../core/vm/log.h"

#include <stdio.h>

enum { DISK = 1 << 20, SLOW_MS = 2000 };

static u64 refused, slow, touched, opened;

static void make_base(u32 version, u32 bits, u32 order)
{
    Qcow2Create how = { .size = DISK, .version = version, .cluster_bits = bits, .ref_order = order,
                        .backing = "base", .backing_format = "raw" };
    static u8 buf[65536];
    Error err;
    Qcow2 *q;

    if (!qcow2_create("seed", &how, &err))
        abort();
    q = (Qcow2 *)qcow2_driver.open(NULL, "seed", false, &err);
    for (int i = 0; i < 12; i++) {
        memset(buf, i + 1, sizeof(buf));
        image_do(&q->img, BLK_WRITE, mem_random() % (DISK / SECTOR - 128) * SECTOR, buf,
                 SECTOR * (1 + mem_random() % 128));
        if (i == 6 && !snapshot_create(q, "one", 1, 0, &err))
            abort();
    }
    qcow2_write_compressed(q, DISK - q->cluster, (const u8 *)"\x03\x00", 2, &err);
    q->img.drv->close(&q->img);
}

static u64 interesting(u64 old, u64 file_bytes)
{
    static const u64 values[] = {0,
                                 1,
                                 2,
                                 0xff,
                                 0xffff,
                                 0x7fffffff,
                                 0xffffffff,
                                 0x200,
                                 0x10000,
                                 1ull << 55,
                                 1ull << 62,
                                 1ull << 63,
                                 ~0ull,
                                 0x8000000000000200ull,
                                 0x4000000000000200ull};

    switch (mem_random() % 5) {
    case 0: return old ^ 1ull << (mem_random() % 64);
    case 1: return (old & 1ull << 63) | mem_random() % file_bytes / SECTOR * SECTOR;
    case 2: return old + (mem_random() % 5 - 2) * SECTOR;
    default: return values[mem_random() % ARRAY_LEN(values)];
    }
}

/* Most damage goes where tables are. */
static void damage(MemFile *f, const u64 *areas, unsigned area_count)
{
    unsigned n = 1 + mem_random() % 4;

    while (n--) {
        u64 area = areas[mem_random() % area_count];
        u64 at = mem_random() % 3 == 0 ? mem_random() % 30 * 4 : area + mem_random() % 64 * 8;
        u8 *p = f->now + at;

        if (at + 8 > f->bytes)
            continue;
        if (mem_random() & 1)
            put64(p, interesting(be64(p), f->bytes));
        else if (mem_random() & 1)
            put32(p, (u32)interesting(be32(p), f->bytes));
        else
            p[mem_random() % 8] = (u8)mem_random();
    }
    if (mem_random() % 16 == 0)
        f->bytes = mem_random() % f->bytes;
    memset(f->now + f->bytes, 0, f->bytes < MEM_FILE_MAX / 2 ? 1 << 20 : 0);
}

static void read_some(BlkImage *img)
{
    static u8 buf[65536];

    for (u64 i = 0; i < 40; i++) {
        u64 at = i < 16       ? i * sizeof(buf)
                 : img->bytes ? (mem_random() * 7919ull * SECTOR) % img->bytes / SECTOR * SECTOR
                              : 0;
        u64 n = at >= img->bytes ? 0 : img->bytes - at < sizeof(buf) ? img->bytes - at : sizeof(buf);

        if (n)
            image_do(img, BLK_READ, at, buf, (u32)n);
    }
}

static void write_some(Qcow2 *q)
{
    static u8 buf[65536];
    Error err;

    for (int i = 0; i < 8; i++) {
        u64 sectors = q->img.bytes / SECTOR,
            at = sectors ? mem_random() % (sectors < 2048 ? sectors : 2048) : 0;
        u64 n = sectors - at < 128 ? sectors - at : 1 + mem_random() % 128;

        if (n)
            image_do(&q->img, i % 4 == 3 ? BLK_DISCARD : BLK_WRITE, at * SECTOR, buf, (u32)n * SECTOR);
        if (i == 4)
            image_do(&q->img, BLK_FLUSH, 0, NULL, 0);
    }
    if (mem_random() % 4 == 0)
        snapshot_create(q, "two", 2, 0, &err);
    if (mem_random() % 4 == 0)
        snapshot_apply(q, "one", &err);
    if (mem_random() % 4 == 0)
        snapshot_delete(q, "one", &err);
    if (mem_random() % 4 == 0)
        qcow2_resize(q, DISK / 2 + mem_random() % DISK, &err);
}

static void try_image(MemFile *f)
{
    u64 start = host_now_ns(), before = f->written;
    Error err = { "" };
    Qcow2Check c;
    Qcow2 *q = qcow2_load("image", true, &err);
    BlkImage *img;

    if (q) {
        qcow2_check(q, 0, NULL, &c, &err);
        qcow2_free(q);
    }
    img = qcow2_driver.open(NULL, "image", true, &err);
    if (img) {
        read_some(img);
        img->drv->close(img);
    }
    touched += f->written != before;
    img = qcow2_driver.open(NULL, "image", false, &err);
    if (img) {
        opened++;
        write_some((Qcow2 *)img);
        img->drv->close(img);
    } else {
        refused++;
        /* a dirty image is repaired as far as possible before it may be refused */
        touched += f->written != before && !(f->now[79] & INCOMPAT_DIRTY);
    }
    if (mem_random() % 4 == 0 && (q = qcow2_load("image", false, &err)) != NULL) {
        qcow2_check(q, FIX_LEAKS | FIX_ERRORS, NULL, &c, &err);
        qcow2_free(q);
    }
    if ((host_now_ns() - start) / 1000000 > SLOW_MS && slow++ < 5)
        printf("slow: %llu ms\n", (unsigned long long)(host_now_ns() - start) / 1000000);
    mem_set_synced(f);
}

static void run(u32 version, u32 bits, u32 order, unsigned times)
{
    MemFile *seed, *f = mem_file("image");
    u64 areas[8];
    unsigned n = 0;
    Error err;
    Qcow2 *q;

    make_base(version, bits, order);
    seed = mem_file("seed");
    q = qcow2_load("seed", true, &err);
    areas[n++] = 0;
    areas[n++] = q->l1_at;
    areas[n++] = q->reft_at;
    areas[n++] = q->reft[0];
    areas[n++] = q->snap_at;
    areas[n++] = q->l1[0] & OFF_MASK;
    areas[n++] = q->l1[q->l1_size - 1] & OFF_MASK;
    qcow2_free(q);
    mem_set_synced(seed);
    for (unsigned i = 0; i < times; i++) {
        memset(f->now, 0, f->bytes > 4 << 20 ? MEM_FILE_MAX : 5 << 20);
        memcpy(f->now, seed->now, seed->bytes);
        f->bytes = seed->bytes;
        damage(f, areas, n);
        mem_set_synced(f);
        try_image(f);
    }
}

int main(void)
{
    unsigned rounds = getenv("QEMU_WIN_ROUNDS") ? (unsigned)atoi(getenv("QEMU_WIN_ROUNDS")) : 4;
    MemFile *base = mem_make("base", true);

    mem_make("image", true);
    memset(base->now, 0xba, DISK / 2);
    base->bytes = DISK / 2;
    log_to_file("/dev/null");       /* a line about each image */
    for (unsigned i = 0; i < rounds; i++) {
        run(3, 9, 4, 100);
        run(3, 16, 4, 100);
        run(2, 12, 4, 100);
        run(3, 10, 2, 50);
    }
    CHECK_MSG(base->written == 0, "no backing file is ever written");
    CHECK_MSG(slow == 0, "%llu images took longer than two seconds", (unsigned long long)slow);
    CHECK_MSG(touched == 0, "%llu images were changed, although refused or opened for reading",
              (unsigned long long)touched);
    CHECK_MSG(refused > 0 && opened > 0, "%llu images refused, %llu opened", (unsigned long long)refused,
              (unsigned long long)opened);
    printf("%llu damaged images refused, %llu opened\n", (unsigned long long)refused,
           (unsigned long long)opened);
    return test_end();
}
