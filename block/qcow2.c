/*
 * qcow2 as a driver: requests are cut into parts, and the parts do their own input and output at the same
 * time.
 *
 * Jobs wait in a queue and are cut strictly in order (qcow2_pump). The first one stops the others while a
 * table it needs is being read, while an earlier write to the same cluster is under way, and while a commit
 * runs: so nobody else can change the map meanwhile. Parts that are under way don't stop anybody.
 *
 *      write in place: data -> done
 *      any other:      allocate, (read what the request leaves of the cluster), write it whole -> map -> done
 *
 * The map changes in memory only after the data has been written: a write that fails leaves what was there.
 * Clusters that a request gives up are counted down by the commit.
 */
#include "qcow2.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { COMMIT_AFTER_MS = 3000, DIRTY_BYTES_MAX = CACHE_BYTES / 2, FREED_MAX = 65536 };

struct Job {
    Qcow2 *q;
    BlkReq *req;                    /* NULL: a commit of our own */
    u64 at, end;                    /* what has not been cut yet */
    BlkResult result;
    u32 parts;                      /* under way, plus one until it is cut */
    Job *next;
};

struct Part {
    Job *job;
    HostIo io;
    BlkReq base_req;
    Map map;
    u64 guest;
    u32 bytes;
    u8 *buf;                        /* the request's own memory for this part */
    u8 *packed;                     /* a compressed cluster as it is in the file */
    /* writes that allocate */
    u64 host, clusters;             /* where the data goes */
    bool reused;                    /* a cluster that the entry had already */
    u8 *whole;                      /* one cluster, if the request has only a part of it */
    Meta *l2;                       /* pinned */
    Part *next;
};

/* ---- the end of parts and jobs ---- */

static void job_unref(Job *job)
{
    Qcow2 *q = job->q;

    if (--job->parts)
        return;
    job->next = NULL;
    *q->finished_end = job;
    q->finished_end = &job->next;
}

/* Never inside submit(). */
static void deliver(Qcow2 *q)
{
    if (q->delivering)
        return;
    q->delivering = true;
    while (q->finished) {
        Job *job = q->finished;

        q->finished = job->next;
        if (!q->finished)
            q->finished_end = &q->finished;
        if (job->req)
            image_complete(job->req, job->result);
        free(job);
    }
    q->delivering = false;
}

static void ticked(HostIo *io)
{
    Qcow2 *q = io->opaque;

    q->ticking = false;
    deliver(q);
}

/* Jobs that needed no input or output end a turn of the main loop later. */
static void deliver_later(Qcow2 *q)
{
    if (!q->finished || q->ticking || q->delivering)
        return;
    q->ticking = true;
    q->tick = (HostIo){ .kind = HOST_IO_READ, .file = q->f, .buf = q->tick_buf, .bytes = SECTOR,
                        .done = ticked, .opaque = q };
    host_io_submit(&q->tick);
}

static bool is_write(const BlkReq *req) { return req->op == BLK_WRITE || (int)req->op == BLK_VM_WRITE; }

static void part_end(Part *part, BlkResult result)
{
    Job *job = part->job;
    Qcow2 *q = job->q;

    if (result != BLK_OK)
        job->result = result;
    if (part->l2) {
        part->l2->pins--;
        for (Part **p = &q->allocating; *p; p = &(*p)->next) {
            if (*p == part) {
                *p = part->next;
                break;
            }
        }
    }
    if (is_write(job->req))
        q->writes--;
    free(part->packed);
    free(part->whole);
    free(part);
    job_unref(job);
    qcow2_pump(q);
}

static Part *part_new(Job *job, const Map *map, u64 guest, u32 bytes)
{
    Part *part = block_alloc(sizeof(*part));

    part->job = job;
    part->map = *map;
    part->guest = guest;
    part->bytes = bytes;
    part->buf = (u8 *)job->req->buf + (guest - job->req->offset);
    job->parts++;
    if (is_write(job->req))
        job->q->writes++;
    return part;
}

/* ---- reading ---- */

static void part_io(Part *part, HostIoKind kind, u64 at, void *buf, u32 bytes, void (*done)(HostIo *io))
{
    part->io = (HostIo){ .kind = kind, .file = part->job->q->f, .offset = at, .buf = buf, .bytes = bytes,
                         .done = done, .opaque = part };
    host_io_submit(&part->io);
}

static BlkResult read_result(Part *part)
{
    HostIo *io = &part->io;
    Qcow2 *q = part->job->q;

    if (!io->ok) {
        log_once(&q->said, "%s: %s", q->name, io->err.text);
        return BLK_ERR_IO;
    }
    /* the file may end in its last cluster, and holes behind its end are zeros */
    if (io->transferred < io->bytes)
        memset((u8 *)io->buf + io->transferred, 0, io->bytes - io->transferred);
    return BLK_OK;
}

static void old_is_there(Part *part, BlkResult result);

static void read_done(HostIo *io)
{
    Part *part = io->opaque;
    BlkResult result = read_result(part);

    if (part->whole)
        old_is_there(part, result);
    else
        part_end(part, result);
}

/* The compressed cluster goes to a buffer that the image keeps: the next read is often for its neighbour. */
static void packed_done(HostIo *io)
{
    Part *part = io->opaque;
    Qcow2 *q = part->job->q;
    BlkResult result = read_result(part);

    if (result == BLK_OK) {
        q->inflated_entry = 0;
        if (!q->inflated)
            q->inflated = block_alloc(q->cluster);
        if (qcow2_inflate(q, part->packed, io->bytes, q->inflated)) {
            q->inflated_entry = part->map.entry;
        } else {
            qcow2_damaged(q, "a compressed cluster can't be unpacked");
            result = BLK_ERR_IO;
        }
    }
    if (result == BLK_OK && part->whole)
        memcpy(part->whole, q->inflated, q->cluster);
    else if (result == BLK_OK)
        memcpy(part->buf, q->inflated + (part->guest & (q->cluster - 1)), part->bytes);
    if (part->whole)
        old_is_there(part, result);
    else
        part_end(part, result);
}

static void base_done(BlkReq *req)
{
    Part *part = req->opaque;

    if (part->whole)
        old_is_there(part, req->result);
    else
        part_end(part, req->result);
}

/* Begins to read; false: there is nothing to wait for, the bytes are there. */
static bool fetch(Part *part, u64 guest, u8 *buf, u32 bytes)
{
    Qcow2 *q = part->job->q;
    u64 base_bytes = q->backing ? q->backing->bytes : 0;
    u32 n, packed;

    switch (part->map.kind) {
    case MAP_DATA:
        part_io(part, HOST_IO_READ, part->map.at, buf, bytes, read_done);
        return true;
    case MAP_COMPRESSED:
        if (q->inflated && q->inflated_entry == part->map.entry) {
            memcpy(buf, q->inflated + (guest & (q->cluster - 1)), bytes);
            return false;
        }
        map_compressed_place(q, part->map.entry, &part->map.at, &packed);
        part->packed = block_alloc(packed);
        part_io(part, HOST_IO_READ, part->map.at, part->packed, packed, packed_done);
        return true;
    case MAP_BACKING:
        n = guest >= base_bytes ? 0 : bytes < base_bytes - guest ? bytes : (u32)(base_bytes - guest);
        memset(buf + n, 0, bytes - n);
        if (!n)
            return false;
        part->base_req = (BlkReq){ .op = BLK_READ, .offset = guest, .bytes = n, .buf = buf, .done = base_done,
                                   .opaque = part };
        image_submit(q->backing, &part->base_req);
        return true;
    case MAP_ZERO:
        memset(buf, 0, bytes);
    }
    return false;
}

/* A write to these clusters is under way: what they hold is not settled. */
static bool clash(Qcow2 *q, u64 at, u64 end)
{
    for (Part *p = q->allocating; p; p = p->next) {
        u64 from = p->guest & ~(q->cluster - 1);

        if (at < from + p->clusters * q->cluster && from < end)
            return true;
    }
    return false;
}

static Step cut_read(Job *job)
{
    Qcow2 *q = job->q;

    if (clash(q, job->at, job->end))
        return STEP_WAIT;
    while (job->at < job->end) {
        Map map;
        Step step = map_lookup(q, job->at, job->end - job->at, &map);
        Part *part;

        if (step != STEP_OK)
            return step;
        part = part_new(job, &map, job->at, (u32)map.bytes);
        job->at += map.bytes;
        if (!fetch(part, part->guest, part->buf, part->bytes)) {
            free(part);             /* as part_end(), without going round */
            job->parts--;
        }
    }
    return STEP_OK;
}

/* ---- writing ---- */

static BlkResult write_result(const Part *part)
{
    const HostIo *io = &part->io;
    Qcow2 *q = part->job->q;

    if (!io->ok)
        log_once(&q->said, "%s: %s", q->name, io->err.text);
    return io->ok && io->transferred == io->bytes ? BLK_OK
           : io->ok || io->no_space               ? BLK_ERR_NOSPACE
                                                  : BLK_ERR_IO;
}

static void in_place_done(HostIo *io)
{
    part_end(io->opaque, write_result(io->opaque));
}

static void commit_soon(Qcow2 *q)
{
    if (q->m && !timer_armed(&q->timer))
        timer_arm(&q->timer, clock_ns(q->m, CLOCK_HOST) + (u64)COMMIT_AFTER_MS * 1000000);
}

static void give_back(Part *part)
{
    for (u64 i = 0; i < part->clusters && !part->reused; i++)
        ref_free_later(part->job->q, (part->host >> part->job->q->cluster_bits) + i);
}

static void allocated_done(HostIo *io)
{
    Part *part = io->opaque;
    Qcow2 *q = part->job->q;
    BlkResult result = write_result(part);

    if (result == BLK_OK) {
        for (u64 i = 0; i < part->clusters; i++)
            map_set(q, part->l2, part->guest + i * q->cluster, (part->host + i * q->cluster) | COPIED);
    } else {
        give_back(part);
    }
    commit_soon(q);
    part_end(part, result);
}

static void old_is_there(Part *part, BlkResult result)
{
    Qcow2 *q = part->job->q;

    if (result != BLK_OK) {
        give_back(part);
        part_end(part, result);
        return;
    }
    memcpy(part->whole + (part->guest & (q->cluster - 1)), part->buf, part->bytes);
    part_io(part, HOST_IO_WRITE, part->host, part->whole, (u32)q->cluster, allocated_done);
}

/* How many whole clusters from here on need a new place; at least one. */
static Step count_new(Job *job, u64 *clusters)
{
    Qcow2 *q = job->q;
    u64 in_table = (q->cluster >> 3) - (job->at >> q->cluster_bits & ((q->cluster >> 3) - 1));
    u64 most = (job->end - job->at) >> q->cluster_bits;

    if (most > in_table)
        most = in_table;
    for (*clusters = 1; *clusters < most; ++*clusters) {
        Map map;
        Step step = map_lookup(q, job->at + (*clusters << q->cluster_bits), 1, &map);

        if (step != STEP_OK)
            return step;
        if (map.copied)
            break;
    }
    return STEP_OK;
}

static Step cut_allocating(Job *job, const Map *map)
{
    Qcow2 *q = job->q;
    u64 in = job->at & (q->cluster - 1), left = q->cluster - in, host = map->entry & OFF_MASK;
    u32 bytes = (u32)(job->end - job->at < left ? job->end - job->at : left);
    bool reuse = map->kind == MAP_ZERO && map->copied;
    u64 clusters = 1, got = 1, first;
    Part *part;
    Meta *l2;
    Step step = map_table_for_write(q, job->at, &l2);

    if (step == STEP_OK && bytes == q->cluster && !reuse)
        step = count_new(job, &clusters);
    if (step != STEP_OK)
        return step;
    if (reuse && !data_place_ok(q, host, q->cluster))
        return qcow2_damaged(q, "a data cluster lies outside the file or on a table");
    if (!reuse) {
        l2->pins++;
        step = ref_alloc(q, clusters, &first, &got);
        l2->pins--;
        if (step != STEP_OK)
            return step;
        host = first << q->cluster_bits;
    }
    part = part_new(job, map, job->at, bytes < q->cluster ? bytes : (u32)(got << q->cluster_bits));
    part->host = host;
    part->clusters = got;
    part->reused = reuse;
    part->l2 = l2;
    l2->pins++;
    part->next = q->allocating;
    q->allocating = part;
    job->at += part->bytes;
    if (part->bytes >= q->cluster) {
        part_io(part, HOST_IO_WRITE, host, part->buf, part->bytes, allocated_done);
        return STEP_OK;
    }
    part->whole = block_alloc(q->cluster);
    if (map->kind == MAP_DATA)
        part->map.at -= in;
    if (!fetch(part, part->guest - in, part->whole, (u32)q->cluster))
        old_is_there(part, BLK_OK);
    return STEP_OK;
}

static Step cut_write(Job *job)
{
    Qcow2 *q = job->q;

    while (job->at < job->end) {
        Map map;
        Part *part;
        Step step;

        if (clash(q, job->at, job->end))
            return STEP_WAIT;
        step = map_lookup(q, job->at, job->end - job->at, &map);
        if (step != STEP_OK)
            return step;
        if (map.kind != MAP_DATA || !map.copied) {
            step = cut_allocating(job, &map);
            if (step != STEP_OK)
                return step;
            continue;
        }
        if (!data_place_ok(q, map.at, map.bytes))
            return qcow2_damaged(q, "data of disk offset %llu lies outside the file or on a table",
                                 (unsigned long long)job->at);
        part = part_new(job, &map, job->at, (u32)map.bytes);
        job->at += map.bytes;
        part_io(part, HOST_IO_WRITE, map.at, part->buf, part->bytes, in_place_done);
    }
    return STEP_OK;
}

/* The state of a machine: clusters that the map does not know, see qcow2_vmstate.c. */
static void vm_written(HostIo *io)
{
    Part *part = io->opaque;

    part_end(part, write_result(part));
}

static Step cut_vm_write(Job *job)
{
    Qcow2 *q = job->q;

    while (job->at < job->end) {
        Map none = { .kind = MAP_DATA };
        u64 first, got;
        Step step = ref_alloc(q, (job->end - job->at) >> q->cluster_bits, &first, &got);
        Part *part;

        if (step != STEP_OK)
            return step;
        for (u64 i = 0; i < got; i++)
            vmstate_set_place(q, job->at + (i << q->cluster_bits), (first + i) << q->cluster_bits);
        part = part_new(job, &none, job->at, (u32)(got << q->cluster_bits));
        job->at += part->bytes;
        part_io(part, HOST_IO_WRITE, first << q->cluster_bits, part->buf, part->bytes, vm_written);
    }
    return STEP_OK;
}

/* Whole clusters read as zeros afterwards, and their place in the file is free. */
static Step cut_discard(Job *job)
{
    Qcow2 *q = job->q;
    bool hides = q->backing || q->backing_name[0];
    u64 last = job->end == q->img.bytes ? round_up(job->end, q->cluster) : job->end;

    if (q->writes)
        return STEP_WAIT;
    job->at = round_up(job->at, q->cluster);
    while (job->at + q->cluster <= last && q->freed_count < FREED_MAX && !(hides && q->version < 3)) {
        Map map;
        Meta *l2;
        Step step = map_lookup(q, job->at, 1, &map);

        if (step == STEP_OK && ((map.kind == MAP_BACKING && !hides) ||
                                (map.kind == MAP_ZERO && !(map.entry & OFF_MASK)))) {
            job->at += q->cluster;
            continue;
        }
        if (step == STEP_OK)
            step = map_table_for_write(q, job->at, &l2);
        if (step != STEP_OK)
            return step;
        map_set(q, l2, job->at, hides ? ZERO : 0);
        job->at += q->cluster;
    }
    commit_soon(q);
    return STEP_OK;
}

/* ---- the queue ---- */

static void enqueue(Qcow2 *q, Job *job, bool first)
{
    job->q = q;
    job->parts = 1;
    job->next = first ? q->queue : NULL;
    if (first) {
        q->queue = job;
        if (!job->next)
            q->queue_end = &job->next;
    } else {
        *q->queue_end = job;
        q->queue_end = &job->next;
    }
}

static bool must_commit(const Qcow2 *q)
{
    return q->dirty_metas << q->cluster_bits > DIRTY_BYTES_MAX + 8 * q->cluster || q->freed_count > FREED_MAX;
}

static Step cut(Job *job)
{
    if (!job->req || job->req->op == BLK_FLUSH)
        return commit_step(job->q);
    if (job->result != BLK_OK)
        return STEP_FAIL;
    switch ((int)job->req->op) {
    case BLK_READ: return cut_read(job);
    case BLK_WRITE: return cut_write(job);
    case BLK_VM_WRITE: return cut_vm_write(job);
    default: return cut_discard(job);
    }
}

void qcow2_pump(Qcow2 *q)
{
    if (q->pumping) {
        q->again = true;
        return;
    }
    q->pumping = true;
    do {
        q->again = false;
        while (q->queue) {
            Job *job = q->queue;
            Step step;

            if (job->req && job->req->op != BLK_READ && job->req->op != BLK_FLUSH && must_commit(q)) {
                enqueue(q, block_alloc(sizeof(*job)), true);
                continue;
            }
            step = cut(job);
            if (step == STEP_WAIT)
                break;
            if (step == STEP_FAIL && job->result == BLK_OK)
                job->result = q->no_space ? BLK_ERR_NOSPACE : BLK_ERR_IO;
            q->queue = job->next;
            if (!q->queue)
                q->queue_end = &q->queue;
            /* the write that asked for a commit in vain must not ask again and again */
            if (step == STEP_FAIL && !job->req && q->queue)
                q->queue->result = q->no_space ? BLK_ERR_NOSPACE : BLK_ERR_IO;
            if (step == STEP_FAIL && !job->req && q->queue && q->queue->req && must_commit(q)) {
                Job *failed = q->queue;

                q->queue = failed->next;
                if (!q->queue)
                    q->queue_end = &q->queue;
                job_unref(failed);
            }
            job_unref(job);
        }
    } while (q->again);
    q->pumping = false;
    deliver_later(q);
}

static void qcow2_submit(BlkImage *img, BlkReq *req)
{
    Qcow2 *q = (Qcow2 *)img;
    Job *job = block_alloc(sizeof(*job));

    job->req = req;
    job->at = req->offset;
    job->end = req->offset + req->bytes;
    enqueue(q, job, false);
    qcow2_pump(q);
}

static void commit_timer(void *opaque)
{
    Qcow2 *q = opaque;

    if (!commit_needed(q))
        return;
    enqueue(q, block_alloc(sizeof(Job)), false);
    qcow2_pump(q);
}

/* ---- blocking, for opening, closing and tools ---- */

bool qcow2_wait(Qcow2 *q, Step step, Error *err)
{
    if (step == STEP_WAIT) {
        host_io_wait();
        return true;
    }
    if (step == STEP_FAIL)
        error_set(err, "%.300s: the image is damaged, or there is no space left", q->name);
    return false;
}

static void do_done(BlkReq *req) { *(bool *)req->opaque = true; }

BlkResult image_do(BlkImage *img, BlkOp op, u64 offset, void *buf, u32 bytes)
{
    bool done = false;
    BlkReq req = { .op = op, .offset = offset, .buf = buf, .bytes = bytes, .done = do_done, .opaque = &done };

    if (op == BLK_FLUSH ? !(img->drv->can & CAN_FLUSH) || img->readonly : !bytes)
        return BLK_OK;
    image_submit(img, &req);
    while (!done)
        host_io_wait();
    return req.result;
}

bool qcow2_commit_now(Qcow2 *q, Error *err)
{
    if (q->img.readonly || image_do(&q->img, BLK_FLUSH, 0, NULL, 0) == BLK_OK)
        return true;
    return error_set(err, "%.300s: tables can't be written", q->name);
}

/* A place for a compressed cluster: behind the last one, or at a cluster of its own. Counts it. */
static Step packed_place(Qcow2 *q, u32 bytes, u64 *at)
{
    u64 in = q->pack_at & (q->cluster - 1), first, got, count = 0;
    Step step = in ? ref_get(q, q->pack_at >> q->cluster_bits, &count) : STEP_OK;
    bool shared = in && count < ref_max(q);

    if (step == STEP_OK && shared && in + bytes <= q->cluster) {
        *at = q->pack_at;
        return ref_add(q, q->pack_at >> q->cluster_bits, 1);
    }
    if (step == STEP_OK)
        step = ref_alloc(q, 1, &first, &got);
    if (step != STEP_OK)
        return step;
    *at = first << q->cluster_bits;
    if (!shared || first != (q->pack_at >> q->cluster_bits) + 1)
        return STEP_OK;
    *at = q->pack_at;               /* it begins in the last cluster and ends in the next */
    return ref_add(q, q->pack_at >> q->cluster_bits, 1);
}

bool qcow2_write_compressed(Qcow2 *q, u64 guest, const u8 *packed, u32 bytes, Error *err)
{
    u32 shift = 62 - (q->cluster_bits - 8);
    u64 at = 0, sectors;
    Step step;
    Meta *l2;

    if (must_commit(q) && !qcow2_commit_now(q, err))
        return false;
    do {
        step = map_table_for_write(q, guest, &l2);
    } while (qcow2_wait(q, step, err));
    if (step != STEP_OK)
        return false;
    l2->pins++;
    do {
        step = packed_place(q, bytes, &at);
    } while (qcow2_wait(q, step, err));
    l2->pins--;
    if (step != STEP_OK)
        return false;
    if (at + bytes >= 1ull << shift)
        return error_set(err, "%.300s: too large for compressed clusters", q->name);
    if (!host_file_write(q->f, at, packed, bytes, err))
        return error_prefix(err, "%.300s", q->name);
    q->pack_at = at + bytes;
    sectors = (at + bytes - 1) / SECTOR - at / SECTOR;
    map_set(q, l2, guest, COMPRESSED | sectors << shift | at);
    return true;
}

typedef struct { bool done; } SyncWait;

static void sync_done(HostIo *io) { ((SyncWait *)io->opaque)->done = true; }

bool qcow2_sync_file(Qcow2 *q, Error *err)
{
    SyncWait wait = { false };
    HostIo io = { .kind = HOST_IO_FLUSH, .file = q->f, .done = sync_done, .opaque = &wait };

    host_io_submit(&io);
    while (!wait.done)
        host_io_wait();
    return io.ok || error_set(err, "%.300s: %.150s", q->name, io.err.text);
}

static bool has_loop(const char *file, int depth, Error *err)
{
    return depth > BACKING_DEPTH_MAX &&
           !error_set(err, "%.300s: more than %d backing files; does one of them refer to itself?", file,
                      BACKING_DEPTH_MAX);
}

static BlkImage *open_backing(Machine *m, const Qcow2 *q, Error *err)
{
    static int depth;
    const char *format = q->backing_format[0] ? q->backing_format : NULL;
    char *path = qcow2_backing_path(q->name, q->backing_name);
    const BlkDriver *drv = NULL;
    BlkImage *img = NULL;

    depth++;
    if (!has_loop(q->name, depth, err) && qcow2_backing_allowed(q, err))
        drv = image_driver(path, format, err);
    if (drv)
        img = drv->open(m, path, true, err);
    if (!img && depth == 1)
        error_prefix(err, "backing file of %.100s", q->name);
    depth--;
    free(path);
    return img;
}

static void qcow2_close(BlkImage *img)
{
    Qcow2 *q = (Qcow2 *)img;
    Error err;

    if (q->saving)
        qcow2_snapshot_ops.abort(q->saving);
    if (!q->img.readonly) {
        /* whole clusters to the end: compressed ones are read by sectors */
        if (q->pack_at && host_file_size(q->f) < q->file_end && !host_file_resize(q->f, q->file_end, &err))
            log_line("%s: %s", q->name, err.text);
        for (int i = 0; i < 3 && commit_needed(q); i++) {
            if (!qcow2_commit_now(q, &err)) {
                log_line("%s", err.text);
                break;
            }
        }
    }
    if (q->m)
        timer_cancel(&q->timer);
    while (q->ticking || q->queue)
        host_io_wait();
    if (q->backing)
        q->backing->drv->close(q->backing);
    qcow2_free(q);
}

static bool make_writable(Qcow2 *q, Error *err)
{
    Qcow2Check ignored;

    if (q->incompatible & INCOMPAT_CORRUPT)
        return error_set(err,
                         "%.300s: the image is marked as corrupt; it can be read only, or be repaired by "
                         "qemu-img check -r all",
                         q->name);
    if ((q->incompatible & INCOMPAT_DIRTY) && !qcow2_check(q, FIX_LEAKS | FIX_ERRORS, NULL, &ignored, err))
        return false;
    if (!meta_set_build(q, err))
        return false;
    if (q->version >= 3 && (q->autoclear || (q->incompatible & INCOMPAT_DIRTY))) {
        u8 bits[8];

        /* what we don't keep up to date, such as bitmaps, must not be believed later */
        put64(bits, q->incompatible & ~(u64)INCOMPAT_DIRTY);
        if (!host_file_write(q->f, 72, bits, 8, err))
            return error_prefix(err, "%.300s", q->name);
        put64(bits, 0);
        if (!host_file_write(q->f, 88, bits, 8, err) || !qcow2_sync_file(q, err))
            return error_prefix(err, "%.300s", q->name);
        q->incompatible &= ~(u64)INCOMPAT_DIRTY;
        q->autoclear = 0;
    }
    return true;
}

static BlkImage *qcow2_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Qcow2 *q = qcow2_load(file, readonly, err);
    bool ok = q != NULL;

    if (!ok)
        return NULL;
    q->queue_end = &q->queue;
    q->finished_end = &q->finished;
    if (q->backing_name[0]) {
        q->backing = open_backing(m, q, err);
        ok = q->backing != NULL;
    }
    ok = ok && (readonly || make_writable(q, err));
    if (!ok) {
        if (q->backing)
            q->backing->drv->close(q->backing);
        qcow2_free(q);
        return NULL;
    }
    q->m = m;
    if (m)
        timer_init(&q->timer, m, CLOCK_HOST, commit_timer, q);
    return &q->img;
}

const BlkDriver qcow2_driver = {
    .name = "qcow2", .can = CAN_FLUSH | CAN_DISCARD, .open = qcow2_open, .submit = qcow2_submit,
    .close = qcow2_close, .part = qcow2_part, .facts = qcow2_facts, .resize = qcow2_resize_image,
    .write_packed = qcow2_pack_image, .create = qcow2_create_image, .create_options = qcow2_options,
    .open_alone = qcow2_open_alone, .snapshots = &qcow2_snapshot_ops,
};
