/*
 * What the tests of image formats share: random requests against a model in memory, and the packaged qemu-img
 * where it is installed.
 */
#ifndef TESTS_IMAGE_BENCH_H
#define TESTS_IMAGE_BENCH_H

#include "../block/qcow2.h"
#include "disk_bench.h"

#include <stdarg.h>
#include <stdio.h>

static bool have_tool;              /* the packaged qemu-img */

static const char *temp_name(void)
{
    return bench_file(0);
}

__attribute__((unused, format(printf, 1, 2))) static int tool(const char *fmt, ...)
{
    char cmd[1024], said[64];
    va_list args;
    int n = snprintf(cmd, sizeof(cmd), "qemu-img "), code;

    va_start(args, fmt);
    n += vsnprintf(cmd + n, sizeof(cmd) - (size_t)n, fmt, args);
    va_end(args);
    snprintf(said, sizeof(said), "/tmp/qemu-win-tool-%d.txt", getpid());
    snprintf(cmd + n, sizeof(cmd) - (size_t)n, " >%s 2>&1", said);
    code = system(cmd);
    if (code) {
        char show[200];

        snprintf(show, sizeof(show), "echo '%.80s...'; head -5 %s", cmd, said);
        if (system(show))
            code = -1;
    }
    unlink(said);
    return code;
}

static unsigned ended;
static void count_ended(BlkReq *req) { (void)req; ended++; }

/* Random requests against a model in memory; four at a time, side by side on the disk. */
__attribute__((unused)) static bool exercise(BlkImage *img, u8 *model, u32 sectors, unsigned rounds)
{
    enum { SLOTS = 4, MAX = 600 };
    static u8 buf[SLOTS][MAX * SECTOR];
    bool same = true;

    for (unsigned r = 0; r < rounds && same; r++) {
        BlkReq req[SLOTS];
        u32 at = bench_random() % sectors;
        unsigned n = 0;

        ended = 0;
        for (; n < SLOTS && at < sectors; n++) {
            u32 count = 1 + bench_random() % (bench_random() % 4 ? 24 : MAX);

            if (count > sectors - at)
                count = sectors - at;
            req[n] = (BlkReq){ .op = bench_random() & 1 ? BLK_WRITE : BLK_READ, .offset = (u64)at * SECTOR,
                               .bytes = count * SECTOR, .buf = buf[n], .done = count_ended };
            memset(buf[n], (int)bench_random(), req[n].bytes);
            if (req[n].op == BLK_WRITE)
                memcpy(model + req[n].offset, buf[n], req[n].bytes);
            image_submit(img, &req[n]);
            same = same && !ended;
            at += count + bench_random() % 8;
        }
        while (ended < n)
            host_io_wait();
        for (unsigned i = 0; i < n; i++)
            same = same && req[i].result == BLK_OK &&
                   (req[i].op == BLK_WRITE || !memcmp(model + req[i].offset, buf[i], req[i].bytes));
        if (bench_random() % 8 == 0)
            same = same && image_do(img, BLK_FLUSH, 0, NULL, 0) == BLK_OK;
        /* what a discard leaves is up to the format: read it */
        if ((img->drv->can & CAN_DISCARD) && bench_random() % 8 == 0) {
            u64 from = req[0].offset;

            same = same && image_do(img, BLK_DISCARD, from, NULL, req[0].bytes) == BLK_OK &&
                   image_do(img, BLK_READ, from, model + from, req[0].bytes) == BLK_OK;
        }
    }
    return same;
}

__attribute__((unused)) static bool equals(BlkImage *img, const u8 *model, u32 bytes)
{
    u8 *buf = malloc(bytes);
    bool same = image_do(img, BLK_READ, 0, buf, bytes) == BLK_OK && !memcmp(buf, model, bytes);

    free(buf);
    return same;
}

#endif
