/*
 * -snapshot: an image whose writes go to an anonymous file and are gone with it, while its base stays
 * untouched.
 *
 * The disk is divided into clusters of 64 KiB. The first write to a cluster gives it the next slot of the
 * file, so that the file is as long as what was written; a bit a sector says which sectors lie there. A read
 * is cut into runs that lie together in either file, mostly one. Nothing is ever copied from the base.
 *
 *      page of 1024 clusters -> cluster { slot, 128 sector bits } -> file
 *
 * `commit` writes what is there into the base and forgets it.
 *
 * A sector's bit is set when its write has succeeded: a failed one leaves what the guest saw before.
 */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTER = 65536, CLUSTER_SECTORS = CLUSTER / SECTOR, PAGE_CLUSTERS = 1024 };

typedef struct {
    u64 written[CLUSTER_SECTORS / 64];
    u64 slot;                       /* 1 + number in the file; 0: none yet */
} Cluster;

typedef struct {
    BlkImage img;
    BlkImage *base, *file;
    Cluster **page;
    u64 slots;                      /* used in the file */
} Overlay;

typedef struct {                    /* one request of the guest, and the parts it was cut into */
    Overlay *ov;
    BlkReq *req;
    BlkResult result;
    u32 parts;                      /* in flight, plus one while cutting */
} Job;

typedef struct {
    BlkReq req;
    Job *job;
    u64 guest;                      /* its offset on the guest's disk */
} Part;

static Cluster *find_cluster(Overlay *ov, u64 offset, bool make)
{
    u64 n = offset / CLUSTER;
    Cluster **page = &ov->page[n / PAGE_CLUSTERS];

    if (!*page) {
        if (!make)
            return NULL;
        *page = block_alloc(sizeof(Cluster) * PAGE_CLUSTERS);
    }
    return &(*page)[n % PAGE_CLUSTERS];
}

/* Where a sector is read from: true and its place in the file, or false: the base. */
static bool in_file(Overlay *ov, u64 offset, u64 *at)
{
    Cluster *c = find_cluster(ov, offset, false);
    unsigned sector = (unsigned)(offset % CLUSTER / SECTOR);

    if (!c || !(c->written[sector / 64] >> (sector % 64) & 1))
        return false;
    *at = (c->slot - 1) * CLUSTER + offset % CLUSTER;
    return true;
}

static u64 place_for_write(Overlay *ov, u64 offset)
{
    Cluster *c = find_cluster(ov, offset, true);

    if (!c->slot)
        c->slot = ++ov->slots;
    return (c->slot - 1) * CLUSTER + offset % CLUSTER;
}

static void mark_written(Overlay *ov, u64 offset, u32 bytes)
{
    for (u64 at = offset; at < offset + bytes; at += SECTOR) {
        unsigned sector = (unsigned)(at % CLUSTER / SECTOR);

        find_cluster(ov, at, true)->written[sector / 64] |= (u64)1 << (sector % 64);
    }
}

static void job_part_ended(Job *job)
{
    BlkReq *req = job->req;
    BlkResult result = job->result;

    if (--job->parts)
        return;
    free(job);
    image_complete(req, result);
}

static void part_done(BlkReq *req)
{
    Part *part = req->opaque;
    Job *job = part->job;

    if (req->result != BLK_OK)
        job->result = req->result;
    else if (req->op == BLK_WRITE)
        mark_written(job->ov, part->guest, req->bytes);
    free(part);
    job_part_ended(job);
}

static void submit_part(Job *job, BlkImage *to, u64 at, u64 guest, u32 bytes)
{
    Part *part = block_alloc(sizeof(*part));

    part->job = job;
    part->guest = guest;
    part->req = (BlkReq){ .op = job->req->op, .offset = at, .bytes = bytes, .done = part_done, .opaque = part,
                          .buf = (u8 *)job->req->buf + (guest - job->req->offset) };
    job->parts++;
    image_submit(to, &part->req);
}

static void overlay_submit(BlkImage *img, BlkReq *req)
{
    Overlay *ov = (Overlay *)img;
    Job *job = block_alloc(sizeof(*job));
    u64 end = req->offset + req->bytes;

    *job = (Job){ .ov = ov, .req = req, .result = BLK_OK, .parts = 1 };
    for (u64 start = req->offset, next; start < end; start = next) {
        u64 at = start, follows;
        bool ours = req->op == BLK_WRITE || in_file(ov, start, &at);

        if (req->op == BLK_WRITE)
            at = place_for_write(ov, start);
        for (next = start + SECTOR; next < end; next += SECTOR) {
            if (req->op == BLK_WRITE) {
                follows = place_for_write(ov, next);
            } else if (in_file(ov, next, &follows) != ours) {
                break;
            } else if (!ours) {
                continue;
            }
            if (follows != at + (next - start))
                break;
        }
        submit_part(job, ours ? ov->file : ov->base, at, start, (u32)(next - start));
    }
    job_part_ended(job);            /* parts end later, never inside submit: this one is never the last */
}

/* Nothing is written any more: everything reads as the base. */
static void forget(Overlay *ov)
{
    u64 pages = ov->img.bytes / CLUSTER / PAGE_CLUSTERS + 1;

    for (u64 i = 0; i < pages; i++) {
        free(ov->page[i]);
        ov->page[i] = NULL;
    }
    ov->slots = 0;
}

static void overlay_close(BlkImage *img)
{
    Overlay *ov = (Overlay *)img;

    forget(ov);
    free(ov->page);
    ov->file->drv->close(ov->file);
    if (ov->base)
        ov->base->drv->close(ov->base);
    free(ov);
}

/* ---- commit ---- */

static bool write_cluster(Overlay *ov, BlkImage *to, u64 offset, u8 *buf, Error *err)
{
    u64 end = offset + CLUSTER < ov->img.bytes ? offset + CLUSTER : ov->img.bytes, at;

    for (u64 start = offset, next; start < end; start = next) {
        bool ours = in_file(ov, start, &at);
        u64 follows;

        for (next = start + SECTOR; next < end && in_file(ov, next, &follows) == ours; next += SECTOR)
            ;
        if (!ours)
            continue;
        if (image_do(ov->file, BLK_READ, at, buf, (u32)(next - start)) != BLK_OK)
            return error_set(err, "the temporary file can't be read");
        if (image_do(to, BLK_WRITE, start, buf, (u32)(next - start)) != BLK_OK)
            return error_set(err, "writing at %llu failed", (unsigned long long)start);
    }
    return true;
}

static bool write_all(Overlay *ov, BlkImage *to, Error *err)
{
    u8 *buf = block_alloc(CLUSTER);
    bool ok = true;

    for (u64 at = 0; ok && at < ov->img.bytes; at += CLUSTER) {
        if (!ov->page[at / CLUSTER / PAGE_CLUSTERS])
            at += (u64)CLUSTER * (PAGE_CLUSTERS - 1 - at / CLUSTER % PAGE_CLUSTERS);
        else
            ok = write_cluster(ov, to, at, buf, err);
    }
    free(buf);
    if (ok && image_do(to, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
        ok = error_set(err, "the last writes may not have reached the disk");
    return ok;
}

/* The base is opened anew afterwards: what it remembers of its tables is not true any more. After an error
 * the overlay still has all that was written. */
bool overlay_commit(BlkImage *img, Machine *m, const char *file, Error *err)
{
    Overlay *ov = (Overlay *)img;
    const BlkDriver *drv = ov->base->drv;
    BlkImage *to = drv->open ? drv->open(m, file, false, err) : NULL;
    Error why;
    bool ok;

    if (!drv->open)
        error_set(err, "%.300s: a folder is written by fat:rw: only", file);
    if (!to)
        return false;
    ok = write_all(ov, to, err) || error_prefix(err, "%.300s", file);
    to->drv->close(to);
    ov->base->drv->close(ov->base);
    ov->base = drv->open(m, file, true, &why);
    if (!ov->base) {
        *err = why;
        ok = false;
    }
    if (ok)
        forget(ov);
    return ok;
}

bool overlay_has(BlkImage *img, u64 at, u64 bytes)
{
    u64 place;

    for (u64 k = 0; k < bytes; k += SECTOR) {
        if (in_file((Overlay *)img, at + k, &place))
            return true;
    }
    return false;
}

bool overlay_usable(const BlkImage *img) { return ((const Overlay *)img)->base != NULL; }

BlkImage *overlay_create(BlkImage *base, Error *err)
{
    HostFile *f = host_file_open("", HOST_READ | HOST_WRITE | HOST_TEMP, err);
    Overlay *ov;

    if (!f) {
        error_prefix(err, "the temporary file of -snapshot");
        return NULL;
    }
    ov = block_alloc(sizeof(*ov));
    ov->img.drv = &overlay_driver;
    ov->img.bytes = base->bytes;
    ov->base = base;
    ov->file = raw_wrap(f, "the temporary file of -snapshot", false);
    ov->page = block_alloc(sizeof(*ov->page) * (size_t)(base->bytes / CLUSTER / PAGE_CLUSTERS + 1));
    return &ov->img;
}

const BlkDriver overlay_driver = { .name = "overlay", .submit = overlay_submit, .close = overlay_close };
