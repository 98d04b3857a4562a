/*
 * The engine of the formats that keep a disk in units: requests are cut into parts, and the parts do their
 * own input and output at the same time.
 *
 * Jobs wait in a queue and are cut strictly in order (sparse_pump). The first one stops the others while a
 * table it needs is being read, while an earlier write to the same unit is under way, and while a commit
 * runs: so nobody else can change the tables meanwhile. Parts that are under way don't stop anybody.
 *
 *      write in place: data -> (note) -> done
 *      any other:      place, (read what the request leaves of the unit), write -> tables, in memory -> done
 *
 * The tables change only after the data has been written: a write that fails leaves what was there.
 */
#include "sparse.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { COMMIT_AFTER_MS = 3000 };

struct SparseJob {
    Sparse *s;
    BlkReq *req;                    /* NULL: a commit of our own */
    u64 at, end;                    /* what has not been cut yet */
    BlkResult result;
    u32 parts;                      /* under way, plus one until it is cut */
    SparseJob *next;
};

struct SparsePart {
    SparseJob *job;
    HostIo io;
    BlkReq base_req;
    Run run;                        /* what was there */
    Run to;                         /* where a write goes */
    u64 guest;
    u32 bytes;
    u8 *buf;                        /* the request's own memory for this part */
    u8 *packed;                     /* a compressed unit as it is in the file */
    u8 *whole;                      /* a unit, if the request has only a part of it */
    bool allocates;
    SparsePart *next;               /* of the allocating ones */
    SparsePart *next_mapping;
};

/* ---- the end of parts and jobs ---- */

static void job_unref(SparseJob *job)
{
    Sparse *s = job->s;

    if (--job->parts)
        return;
    job->next = NULL;
    *s->finished_end = job;
    s->finished_end = &job->next;
}

/* Never inside submit(). */
static void deliver(Sparse *s)
{
    if (s->delivering)
        return;
    s->delivering = true;
    while (s->finished) {
        SparseJob *job = s->finished;

        s->finished = job->next;
        if (!s->finished)
            s->finished_end = &s->finished;
        if (job->req)
            image_complete(job->req, job->result);
        free(job);
    }
    s->delivering = false;
}

static void ticked(HostIo *io)
{
    Sparse *s = io->opaque;

    s->ticking = false;
    deliver(s);
}

/* Jobs that needed no input or output end a turn of the main loop later. */
static void deliver_later(Sparse *s)
{
    if (!s->finished || s->ticking || s->delivering)
        return;
    s->ticking = true;
    s->tick = (HostIo){ .kind = HOST_IO_READ, .file = s->file[0].f, .buf = s->tick_buf, .bytes = SECTOR,
                        .done = ticked, .opaque = s };
    host_io_submit(&s->tick);
}

static void part_free(SparsePart *part)
{
    free(part->packed);
    free(part->whole);
    free(part);
}

static void part_end(SparsePart *part, BlkResult result)
{
    SparseJob *job = part->job;
    Sparse *s = job->s;

    if (result != BLK_OK)
        job->result = result;
    for (SparsePart **p = &s->allocating; part->allocates && *p; p = &(*p)->next) {
        if (*p == part) {
            *p = part->next;
            break;
        }
    }
    if (job->req->op == BLK_WRITE)
        s->writes--;
    part_free(part);
    job_unref(job);
    sparse_pump(s);
}

static SparsePart *part_new(SparseJob *job, const Run *run, u64 guest, u64 bytes)
{
    SparsePart *part = block_alloc(sizeof(*part));

    part->job = job;
    part->run = *run;
    part->guest = guest;
    part->bytes = (u32)bytes;
    part->buf = (u8 *)job->req->buf + (guest - job->req->offset);
    job->parts++;
    if (job->req->op == BLK_WRITE)
        job->s->writes++;
    return part;
}

/* ---- reading ---- */

static void part_io(SparsePart *part, HostIoKind kind, u32 file, u64 at, void *buf, u32 bytes,
                    void (*done)(HostIo *io))
{
    part->io = (HostIo){ .kind = kind, .file = part->job->s->file[file].f, .offset = at, .buf = buf,
                         .bytes = bytes, .done = done, .opaque = part };
    host_io_submit(&part->io);
}

static BlkResult read_result(SparsePart *part)
{
    HostIo *io = &part->io;
    Sparse *s = part->job->s;

    if (!io->ok) {
        log_once(&s->said, "%s: %s", s->name, io->err.text);
        return BLK_ERR_IO;
    }
    /* the file may end in its last unit: the rest is zeros */
    if (io->transferred < io->bytes)
        memset((u8 *)io->buf + io->transferred, 0, io->bytes - io->transferred);
    return BLK_OK;
}

static void write_done(HostIo *io);

static void old_is_there(SparsePart *part, BlkResult result)
{
    if (result != BLK_OK) {
        part_end(part, result);
        return;
    }
    memcpy(part->whole + (part->guest - part->to.unit), part->buf, part->bytes);
    part_io(part, HOST_IO_WRITE, part->to.file, part->to.at, part->whole, (u32)part->to.unit_bytes,
            write_done);
}

static void part_is_read(SparsePart *part, BlkResult result)
{
    if (part->whole)
        old_is_there(part, result);
    else
        part_end(part, result);
}

static void read_done(HostIo *io) { part_is_read(io->opaque, read_result(io->opaque)); }
static void base_done(BlkReq *req) { part_is_read(req->opaque, req->result); }

/* A part of the unit that is unpacked. */
static void from_unpacked(const Sparse *s, u64 in, u8 *buf, u64 bytes)
{
    u64 n = in >= s->unpacked_bytes ? 0 : bytes < s->unpacked_bytes - in ? bytes : s->unpacked_bytes - in;

    if (n)
        memcpy(buf, s->unpacked + in, n);
    memset(buf + n, 0, bytes - n);
}

static bool is_unpacked(const Sparse *s, const Run *run)
{
    return s->unpacked && s->unpacked_at == run->at && s->unpacked_file == run->file &&
           s->unpacked_bytes == run->unit_bytes;
}

/* The unit goes to a buffer that the image keeps: the next read is often for its neighbour. */
static void packed_done(HostIo *io)
{
    SparsePart *part = io->opaque;
    Sparse *s = part->job->s;
    BlkResult result = read_result(part);

    if (result == BLK_OK && !is_unpacked(s, &part->run)) {
        free(s->unpacked);
        s->unpacked = block_alloc(part->run.unit_bytes);
        s->unpacked_at = part->run.at;
        s->unpacked_file = part->run.file;
        s->unpacked_bytes = part->run.unit_bytes;
        if (!s->ops->unpack(s, &part->run, part->packed, s->unpacked)) {
            sparse_damaged(s, "the compressed data of disk offset %llu can't be unpacked",
                           (unsigned long long)part->run.unit);
            free(s->unpacked);
            s->unpacked = NULL;
            result = BLK_ERR_IO;
        }
    }
    if (result == BLK_OK && part->whole)
        from_unpacked(s, part->to.unit - part->run.unit, part->whole, part->to.unit_bytes);
    else if (result == BLK_OK)
        from_unpacked(s, part->guest - part->run.unit, part->buf, part->bytes);
    part_is_read(part, result);
}

/* Begins to read what the run holds; false: there is nothing to wait for, the bytes are there. */
static bool fetch(SparsePart *part, u64 guest, u8 *buf, u64 bytes)
{
    Sparse *s = part->job->s;
    u64 base_bytes = s->backing ? s->backing->bytes : 0, n;

    switch (part->run.kind) {
    case PART_DATA:
        part_io(part, HOST_IO_READ, part->run.file, part->run.at, buf, (u32)bytes, read_done);
        return true;
    case PART_PACKED:
        if (is_unpacked(s, &part->run)) {
            from_unpacked(s, guest - part->run.unit, buf, bytes);
            return false;
        }
        part->packed = block_alloc(part->run.packed ? part->run.packed : 1);
        part_io(part, HOST_IO_READ, part->run.file, part->run.at, part->packed, part->run.packed,
                packed_done);
        return true;
    case PART_BASE:
        n = guest >= base_bytes ? 0 : bytes < base_bytes - guest ? bytes : base_bytes - guest;
        memset(buf + n, 0, bytes - n);
        if (!n)
            return false;
        part->base_req = (BlkReq){ .op = BLK_READ, .offset = guest, .bytes = (u32)n, .buf = buf,
                                   .done = base_done, .opaque = part };
        image_submit(s->backing, &part->base_req);
        return true;
    case PART_ZERO:
        memset(buf, 0, bytes);
    }
    return false;
}

/* A write to these units is under way: what they hold is not settled. */
static bool clash(const Sparse *s, u64 at, u64 end)
{
    for (SparsePart *p = s->allocating; p; p = p->next) {
        if (at < p->to.unit + p->to.unit_bytes && p->to.unit < end)
            return true;
    }
    return false;
}

/* Runs that lie in a row are taken together. */
static Step find_run(Sparse *s, u64 guest, u64 bytes, Run *run)
{
    Step step = s->ops->find(s, guest, bytes, run);
    Run next;

    if (step != STEP_OK)
        return step;
    while (run->bytes < bytes && run->kind != PART_PACKED &&
           s->ops->find(s, guest + run->bytes, bytes - run->bytes, &next) == STEP_OK &&
           next.kind == run->kind && next.in_place == run->in_place && next.note == run->note &&
           ((run->kind != PART_DATA && !run->in_place) ||
            (next.file == run->file && next.at == run->at + run->bytes)))
        run->bytes += next.bytes;
    if (run->bytes > bytes)
        run->bytes = bytes;
    return STEP_OK;
}

static Step cut_read(SparseJob *job)
{
    Sparse *s = job->s;

    while (job->at < job->end) {
        Run run;
        Step step = find_run(s, job->at, job->end - job->at, &run);
        SparsePart *part;

        if (step != STEP_OK)
            return step;
        part = part_new(job, &run, job->at, run.bytes);
        job->at += run.bytes;
        if (!fetch(part, part->guest, part->buf, part->bytes)) {
            part_free(part);        /* as part_end(), without going round */
            job->parts--;
        }
    }
    return STEP_OK;
}

/* ---- writing ---- */

static BlkResult write_result(const SparsePart *part)
{
    const HostIo *io = &part->io;
    Sparse *s = part->job->s;

    if (!io->ok)
        log_once(&s->said, "%s: %s", s->name, io->err.text);
    return !io->ok ? BLK_ERR_IO : io->transferred < io->bytes ? BLK_ERR_NOSPACE : BLK_OK;
}

static void commit_soon(Sparse *s)
{
    if (s->m && !timer_armed(&s->timer))
        timer_arm(&s->timer, clock_ns(s->m, CLOCK_HOST) + (u64)COMMIT_AFTER_MS * 1000000);
}

static void write_done(HostIo *io)
{
    SparsePart *part = io->opaque;
    Sparse *s = part->job->s;
    BlkResult result = write_result(part);

    s->file[part->to.file].unsynced = true;
    s->written = true;
    commit_soon(s);
    if (result != BLK_OK || !(part->allocates || part->to.note)) {
        part_end(part, result);
        return;
    }
    part->next_mapping = s->mapping;
    s->mapping = part;
    sparse_pump(s);
}

/* Tables that must be read first keep a part waiting here, and those behind it too. */
static void run_mapping(Sparse *s)
{
    while (s->mapping) {
        SparsePart *part = s->mapping;
        Step step = s->ops->mapped(s, part->guest, part->bytes, &part->to);

        if (step == STEP_WAIT)
            return;
        s->mapping = part->next_mapping;
        part_end(part, step == STEP_OK ? BLK_OK : BLK_ERR_IO);
    }
}

/* A part of a unit may be written alone where the rest of it is zeros, in the file too. */
static bool rest_is_zero(const Sparse *s, const Run *old, const Run *to)
{
    return to->partial || (old->kind == PART_ZERO && to->at >= s->file[to->file].size);
}

static Step cut_allocating(SparseJob *job)
{
    Sparse *s = job->s;
    u64 want, left;
    Run to = { 0 }, old;
    SparsePart *part;
    Step step = s->ops->place(s, job->at, &to);

    if (step == STEP_OK)
        step = s->ops->find(s, to.unit, to.unit_bytes, &old);
    if (step != STEP_OK)
        return step;
    left = to.unit + to.unit_bytes - job->at;
    want = job->end - job->at < left ? job->end - job->at : left;
    s->file[to.file].end = to.at + to.unit_bytes;
    part = part_new(job, &old, job->at, want);
    part->to = to;
    part->allocates = true;
    part->next = s->allocating;
    s->allocating = part;
    job->at += want;
    if (want == to.unit_bytes || rest_is_zero(s, &old, &to)) {
        part_io(part, HOST_IO_WRITE, to.file, to.at + (part->guest - to.unit), part->buf, part->bytes,
                write_done);
        return STEP_OK;
    }
    part->whole = block_alloc(to.unit_bytes);
    if (!fetch(part, to.unit, part->whole, to.unit_bytes))
        old_is_there(part, BLK_OK);
    return STEP_OK;
}

static Step cut_write(SparseJob *job)
{
    Sparse *s = job->s;

    while (job->at < job->end) {
        SparsePart *part;
        Step step;
        Run run;

        if (clash(s, job->at, job->end))
            return STEP_WAIT;
        step = find_run(s, job->at, job->end - job->at, &run);
        if (step == STEP_OK && !run.in_place) {
            step = cut_allocating(job);
            if (step == STEP_OK)
                continue;
        }
        if (step != STEP_OK)
            return step;
        part = part_new(job, &run, job->at, run.bytes);
        part->to = run;
        job->at += run.bytes;
        part_io(part, HOST_IO_WRITE, run.file, run.at, part->buf, part->bytes, write_done);
    }
    return STEP_OK;
}

/* ---- the queue ---- */

static void enqueue(Sparse *s, SparseJob *job, bool first)
{
    job->s = s;
    job->parts = 1;
    job->next = first ? s->queue : NULL;
    if (!first || !s->queue) {
        *s->queue_end = job;
        s->queue_end = &job->next;
    }
    if (first)
        s->queue = job;
}

static SparseJob *dequeue(Sparse *s)
{
    SparseJob *job = s->queue;

    s->queue = job->next;
    if (!s->queue)
        s->queue_end = &s->queue;
    return job;
}

static Step cut(SparseJob *job)
{
    if (!job->req || job->req->op == BLK_FLUSH)
        return table_commit(job->s);
    if (job->result != BLK_OK)
        return STEP_FAIL;
    return job->req->op == BLK_READ ? cut_read(job) : cut_write(job);
}

static void run_queue(Sparse *s)
{
    while (s->queue) {
        SparseJob *job = s->queue;
        Step step;

        if (job->req && job->req->op == BLK_WRITE && job->result == BLK_OK && table_must_commit(s)) {
            enqueue(s, block_alloc(sizeof(*job)), true);
            continue;
        }
        step = cut(job);
        if (step == STEP_WAIT)
            return;
        if (step == STEP_FAIL && job->result == BLK_OK)
            job->result = BLK_ERR_IO;
        dequeue(s);
        /* the write that asked for a commit in vain must not ask again and again */
        if (step == STEP_FAIL && !job->req && s->queue && s->queue->req)
            s->queue->result = BLK_ERR_IO;
        job_unref(job);
    }
}

void sparse_pump(Sparse *s)
{
    if (s->pumping) {
        s->again = true;
        return;
    }
    s->pumping = true;
    do {
        s->again = false;
        run_mapping(s);
        run_queue(s);
    } while (s->again);
    s->pumping = false;
    deliver_later(s);
}

void sparse_submit(BlkImage *img, BlkReq *req)
{
    Sparse *s = (Sparse *)img;
    SparseJob *job = block_alloc(sizeof(*job));

    job->req = req;
    job->at = req->offset;
    job->end = req->offset + req->bytes;
    enqueue(s, job, false);
    sparse_pump(s);
}

void sparse_commit_timer(void *opaque)
{
    Sparse *s = opaque;

    if (!table_commit_needed(s))
        return;
    enqueue(s, block_alloc(sizeof(SparseJob)), false);
    sparse_pump(s);
}


