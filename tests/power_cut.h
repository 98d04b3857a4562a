/*
 * What the power-cut tests of image formats share: a disk whose sectors carry tags, requests at random that
 * remember what each sector may hold, and the file as it is found after a cut: what was synced, and a random
 * choice of the sectors that were not.
 */
#ifndef TESTS_POWER_CUT_H
#define TESTS_POWER_CUT_H

#include "mem_files.h"

#include <stdio.h>

enum { SECTORS = 400, NEWER = 12 };

static u32 flushed[SECTORS], newer[SECTORS][NEWER];     /* tags: what a sector is filled with */
static unsigned newer_count[SECTORS];
static u32 next_tag = 1;
static u64 lost;                    /* sectors that hold what they may not */

/* The file as it is found after the cut. */
static void power_cut(MemFile *from, MemFile *to)
{
    u32 mode = mem_random() % 4;    /* none, all, or some of what was not synced */

    memset(to->now, 0, to->bytes);
    memcpy(to->now, from->synced, from->synced_bytes);
    to->bytes = from->synced_bytes;
    for (MemWrite *w = from->writes; w; w = w->next) {
        for (u32 at = 0, n; at < w->bytes; at += n) {
            n = SECTOR - (u32)((w->at + at) % SECTOR);
            if (n > w->bytes - at)
                n = w->bytes - at;
            if (mode == 0 || (mode > 1 && mem_random() % 3 == 0))
                continue;
            memcpy(to->now + w->at + at, w->data + at, n);
            if (w->at + at + n > to->bytes)
                to->bytes = w->at + at + n;
        }
    }
}

static bool tag_allowed(unsigned i, const u8 *sector)
{
    u32 tag = load32(sector);

    for (u32 k = 0; k < SECTOR; k += 4) {
        if (load32(sector + k) != tag)
            return false;
    }
    if (tag == flushed[i])
        return true;
    for (unsigned k = 0; k < newer_count[i]; k++) {
        if (newer[i][k] == tag)
            return true;
    }
    return false;
}

/* What is on the disk is what is read. */
static void note_flushed(BlkImage *img)
{
    static u8 disk[SECTORS * SECTOR];

    if (image_do(img, BLK_READ, 0, disk, sizeof(disk)) != BLK_OK)
        lost++;
    for (unsigned i = 0; i < SECTORS; i++) {
        lost += !tag_allowed(i, disk + i * SECTOR);
        flushed[i] = load32(disk + i * SECTOR);
        newer_count[i] = 0;
    }
}

static void flush(BlkImage *img)
{
    if (image_do(img, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
        lost++;
    note_flushed(img);
}

static bool room_for_tags(unsigned at, unsigned n)
{
    for (unsigned i = at; i < at + n; i++) {
        if (newer_count[i] == NEWER)
            return false;
    }
    return true;
}

static unsigned ended;
static void count_ended(BlkReq *req) { (void)req; ended++; }

static void write_some(BlkImage *img)
{
    static u8 buf[3][64 * SECTOR];
    BlkReq req[3];
    unsigned at = mem_random() % SECTORS, n = 0;

    ended = 0;
    for (; n < 3 && at < SECTORS; n++) {
        unsigned count = 1 + mem_random() % (mem_random() % 4 ? 9 : 64);
        bool discard = (img->drv->can & CAN_DISCARD) && mem_random() % 8 == 0;

        if (count > SECTORS - at)
            count = SECTORS - at;
        if (!room_for_tags(at, count))
            break;
        for (unsigned i = 0; i < count; i++) {
            u32 tag = discard ? 0 : next_tag++;

            newer[at + i][newer_count[at + i]++] = tag;
            for (u32 k = 0; k < SECTOR; k += 4)
                store32(buf[n] + i * SECTOR + k, tag);
        }
        req[n] = (BlkReq){.op = discard ? BLK_DISCARD : BLK_WRITE,
                          .offset = at * SECTOR,
                          .bytes = count * SECTOR,
                          .buf = buf[n],
                          .done = count_ended};
        image_submit(img, &req[n]);
        at += count + mem_random() % 30;
    }
    while (ended < n)
        host_io_wait();
    for (unsigned i = 0; i < n; i++)
        lost += req[i].result != BLK_OK;
    if (n == 0)
        flush(img);
}

#endif
