/*
 * What the fuzzers of image formats share: a damaged image is opened, read, written and closed; it must end
 * in time, and what is refused or opened for reading stays as it was.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include "mem_files.h"

#include "../core/vm/log.h"

enum { FUZZ_SLOW_MS = 2000, FUZZ_BASE = 256 << 10 };

static u64 fuzz_refused, fuzz_opened, fuzz_slow, fuzz_touched;

static void fuzz_read(BlkImage *img)
{
    static u8 buf[65536];

    for (u64 i = 0; i < 24; i++) {
        u64 at = i * sizeof(buf), n;
        ImagePart part;
        Error err;

        if (i >= 16)
            at = img->bytes ? (mem_random() * 7919ull * SECTOR) % img->bytes / SECTOR * SECTOR : 0;
        n = at >= img->bytes ? 0 : img->bytes - at < sizeof(buf) ? img->bytes - at : sizeof(buf);
        if (!n)
            continue;
        image_do(img, BLK_READ, at, buf, (u32)n);
        if (img->drv->part && img->drv->part(img, at, n, &part, &err) && (!part.bytes || part.bytes > n))
            abort();
    }
}

static void fuzz_write(BlkImage *img)
{
    static u8 buf[65536];

    for (int i = 0; i < 8; i++) {
        u64 sectors = img->bytes / SECTOR, at = 0, n;

        if (sectors)
            at = mem_random() % (sectors < 2048 ? sectors : 2048);
        n = sectors - at < 128 ? sectors - at : 1 + mem_random() % 128;

        if (n)
            image_do(img, BLK_WRITE, at * SECTOR, buf, (u32)n * SECTOR);
        if (i == 4)
            image_do(img, BLK_FLUSH, 0, NULL, 0);
    }
}

static bool fuzz_same(const MemFile *f, const u8 *was, u64 bytes)
{
    return f->bytes == bytes && !memcmp(f->now, was, bytes);
}

static void fuzz_image(const BlkDriver *drv, const char *name)
{
    MemFile *f = mem_file(name);
    u64 start = host_now_ns(), bytes = f->bytes, ms;
    u8 *was = malloc(bytes + 1);
    ImageFacts facts;
    Error err = { "" };
    BlkImage *img;

    memcpy(was, f->now, bytes);
    img = drv->open(NULL, name, true, &err);
    if (img) {
        if (drv->facts)
            drv->facts(img, &facts);
        fuzz_read(img);
        drv->close(img);
    }
    fuzz_touched += !fuzz_same(f, was, bytes);
    img = drv->open(NULL, name, false, &err);
    if (img) {
        fuzz_opened++;
        fuzz_write(img);
        fuzz_read(img);
        drv->close(img);
    } else {
        fuzz_refused++;
        fuzz_touched += !fuzz_same(f, was, bytes);
    }
    free(was);
    mem_set_synced(f);
    ms = (host_now_ns() - start) / 1000000;
    if (ms > FUZZ_SLOW_MS && fuzz_slow++ < 5)
        printf("slow: %s, %llu ms\n", drv->name, (unsigned long long)ms);
}

/* What images name as their backing file. */
static void fuzz_base(void)
{
    MemFile *base = mem_make("base", true);

    memset(base->now, 0xba, FUZZ_BASE);
    base->bytes = FUZZ_BASE;
    mem_set_synced(base);
    log_to_file("/dev/null");       /* a line about each image */
}

/* An image may not ask for more memory than this at once. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "max_allocation_size_mb=256:allocator_may_return_null=0";
}

#endif
