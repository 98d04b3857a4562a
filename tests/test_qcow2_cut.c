/*
 * qcow2 when the power is cut: after writes of random workloads, the file is put together from what was
 * synced and a random choice of the sectors that were not. Our check must find nothing worse than leaks, and
 * each sector must hold what was flushed, or something newer. Longer with QEMU_WIN_ROUNDS=n (default 4).
 */
#include "mem_files.h"

#include <stdio.h>

enum { SECTORS = 400, NEWER = 12 };

static u32 flushed[SECTORS], newer[SECTORS][NEWER];     /* tags: what a sector is filled with */
static unsigned newer_count[SECTORS];
static u32 next_tag = 1;
static u64 cuts, bad_checks, lost, leaked;
static bool changing_snapshots;
static unsigned one_in = 3;

static Qcow2 *open_mem(const char *name, bool readonly, Error *err)
{
    return (Qcow2 *)qcow2_driver.open(NULL, name, readonly, err);
}

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

static void look_at_cut(MemFile *f)
{
    static u8 disk[SECTORS * SECTOR];
    HostIo *queue[ARRAY_LEN(mem_queue)];
    unsigned queued = mem_queued;
    Error err = { "" };
    Qcow2Check c = { 0 };
    Qcow2 *q;

    if (mem_random() % one_in)
        return;
    cuts++;
    mem_before_write = NULL;
    memcpy(queue, mem_queue, sizeof(queue));
    mem_queued = 0;
    power_cut(f, mem_file("cut"));
    q = qcow2_load("cut", true, &err);
    if (!q || !qcow2_check(q, 0, NULL, &c, &err) || c.errors ||
        c.corruptions > (changing_snapshots ? c.copied_missing : 0)) {
        if (bad_checks++ < 5)
            printf("cut %llu: %llu corruptions, %llu errors %s\n", (unsigned long long)cuts,
                   (unsigned long long)c.corruptions, (unsigned long long)c.errors, err.text);
    }
    leaked += c.leaks;
    if (q)
        qcow2_free(q);
    q = open_mem("cut", true, &err);
    if (q) {
        u32 n = q->img.bytes < sizeof(disk) ? (u32)q->img.bytes : (u32)sizeof(disk);

        if (image_do(&q->img, BLK_READ, 0, disk, n) != BLK_OK)
            lost++;
        for (unsigned i = 0; i < n / SECTOR; i++)
            lost += !tag_allowed(i, disk + i * SECTOR);
        q->img.drv->close(&q->img);
    }
    memcpy(mem_queue, queue, sizeof(queue));
    mem_queued = queued;
    mem_before_write = look_at_cut;
}

/* What is on the disk is what is read. */
static void note_flushed(Qcow2 *q)
{
    static u8 disk[SECTORS * SECTOR];

    if (image_do(&q->img, BLK_READ, 0, disk, sizeof(disk)) != BLK_OK)
        lost++;
    for (unsigned i = 0; i < SECTORS; i++) {
        lost += !tag_allowed(i, disk + i * SECTOR);
        flushed[i] = load32(disk + i * SECTOR);
        newer_count[i] = 0;
    }
}

static void flush(Qcow2 *q)
{
    if (image_do(&q->img, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
        lost++;
    note_flushed(q);
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

static void write_some(Qcow2 *q)
{
    static u8 buf[3][64 * SECTOR];
    BlkReq req[3];
    unsigned at = mem_random() % SECTORS, n = 0;

    ended = 0;
    for (; n < 3 && at < SECTORS; n++) {
        unsigned count = 1 + mem_random() % (mem_random() % 4 ? 9 : 64);
        bool discard = mem_random() % 8 == 0;

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
        image_submit(&q->img, &req[n]);
        at += count + mem_random() % 30;
    }
    while (ended < n)
        host_io_wait();
    for (unsigned i = 0; i < n; i++)
        lost += req[i].result != BLK_OK;
    if (n == 0)
        flush(q);
}

static void change_snapshots(Qcow2 *q)
{
    Error err = { "" };
    u32 what = mem_random() % 3;
    bool ok = true;

    flush(q);
    changing_snapshots = true;
    if (what == 0 && q->snapshots < 3) {
        ok = snapshot_create(q, "s", 1, 0, &err);
    } else if (what == 1 && q->snapshots) {
        ok = snapshot_delete(q, "s", &err);
    } else if (q->snapshots) {
        /* either disk may be found after the cut */
        static u8 disk[SECTORS * SECTOR];
        Qcow2 *then;

        memcpy(mem_file("look")->now, mem_file("disk")->now, mem_file("disk")->bytes);
        mem_file("look")->bytes = mem_file("disk")->bytes;
        then = open_mem("look", true, &err);
        ok = then && qcow2_use_snapshot(then, "s", &err) &&
             image_do(&then->img, BLK_READ, 0, disk, sizeof(disk)) == BLK_OK;
        for (unsigned i = 0; i < SECTORS; i++)
            newer[i][newer_count[i]++] = load32(disk + i * SECTOR);
        then->img.drv->close(&then->img);
        ok = ok && snapshot_apply(q, "s", &err);
    } else {
        ok = qcow2_resize(q, q->size + 64 * SECTOR * (1 + mem_random() % 40), &err);
    }
    CHECK_MSG(ok, "snapshot operation %u: %s", what, err.text);
    changing_snapshots = false;
    note_flushed(q);
}

static void run(u32 version, u32 cluster_bits, u32 ref_order, bool snapshots, unsigned steps)
{
    Qcow2Create how = { .size = SECTORS * SECTOR, .version = version, .cluster_bits = cluster_bits,
                        .ref_order = ref_order };
    u64 cuts_before = cuts, bad_before = bad_checks, lost_before = lost;
    Error err = { "" };
    Qcow2Check c;
    Qcow2 *q;

    memset(flushed, 0, sizeof(flushed));
    memset(newer_count, 0, sizeof(newer_count));
    CHECK_MSG(qcow2_create("disk", &how, &err), "%s", err.text);
    mem_set_synced(mem_file("disk"));
    q = open_mem("disk", false, &err);
    mem_before_write = look_at_cut;
    for (unsigned i = 0; i < steps; i++) {
        write_some(q);
        if (mem_random() % 6 == 0)
            flush(q);
        if (snapshots && mem_random() % 20 == 0)
            change_snapshots(q);
    }
    q->img.drv->close(&q->img);
    mem_before_write = NULL;
    q = qcow2_load("disk", true, &err);
    CHECK_MSG(q && qcow2_check(q, 0, NULL, &c, &err) && !c.corruptions && !c.leaks,
              "closed: no leaks either");
    qcow2_free(q);
    CHECK_MSG(cuts > cuts_before && bad_checks == bad_before,
              "v%u, clusters of %u: %llu cuts leave sound images", version, 1u << cluster_bits,
              (unsigned long long)(cuts - cuts_before));
    CHECK_MSG(lost == lost_before, "v%u, clusters of %u: flushed data is there after the cut", version,
              1u << cluster_bits);
}

int main(void)
{
    unsigned rounds = getenv("QEMU_WIN_ROUNDS") ? (unsigned)atoi(getenv("QEMU_WIN_ROUNDS")) : 4;

    mem_make("cut", false);
    mem_make("look", false);
    for (unsigned i = 0; i < rounds; i++) {
        run(3, 9, 4, false, 60);
        run(3, 9, 6, true, 60);
        run(2, 10, 4, true, 60);
        run(3, 12, 4, true, 60);
        run(3, 12, 2, false, 60);
        run(3, 16, 4, true, 30);
    }
    printf("%llu power cuts, %llu leaked clusters\n", (unsigned long long)cuts, (unsigned long long)leaked);
    return test_end();
}
