/*
 * qcow2 when the power is cut: after writes of random workloads, the file is put together from what was
 * synced and a random choice of the sectors that were not. Our check must find nothing worse than leaks, and
 * each sector must hold what was flushed, or something newer. Longer with QEMU_WIN_ROUNDS=n (default 4).
 */
#include "power_cut.h"

static u64 cuts, bad_checks, leaked;
static bool changing_snapshots;
static unsigned one_in = 3;

static Qcow2 *open_mem(const char *name, bool readonly, Error *err)
{
    return (Qcow2 *)qcow2_driver.open(NULL, name, readonly, err);
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

static void change_snapshots(Qcow2 *q)
{
    Error err = { "" };
    u32 what = mem_random() % 3;
    bool ok = true;

    flush(&q->img);
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
    note_flushed(&q->img);
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
        write_some(&q->img);
        if (mem_random() % 6 == 0)
            flush(&q->img);
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
