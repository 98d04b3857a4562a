/*
 * Copying disks. A ring of slots, each with a buffer; the main thread does all input and output, worker
 * threads only compress.
 *
 *      FREE -> READING -> READ -> (PACKING ->) WRITING -> FREE
 *
 * Slots are read ahead in order of the disk. Uncompressed ones are written as soon as they are there, in runs
 * that leave out zeros; compressed ones are written in order, since a format packs them one behind the other.
 * While the oldest slot is not packed yet the main thread packs, too.
 */
#include "img_copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { SLOTS = 8, RUNS_MAX = COPY_BUF / 4096 + 1, WORKERS_MAX = 16, SKIP_MIN = 65536, UNIT_MAX = 65536, PACK_LEVEL = 3 };

typedef enum { FREE, READING, READ, PACKING, WRITING } State;

typedef struct Engine Engine;

typedef struct {
    Engine *e;
    State state;
    u64 at, bytes;                  /* on the target's disk */
    u8 *buf;
    BlkReq read, *write;            /* RUNS_MAX of them */
    u32 pending;
    u32 units, claimed, packed;     /* PACKING: clusters, those that somebody works at, those done */
    u8 *out;                        /* the packed ones, each at its place */
    u32 *out_bytes;                 /* 0: all zeros; > room: does not become smaller */
} Slot;

struct Engine {
    Copy *c;
    Slot slot[SLOTS];
    u32 oldest, used;               /* a ring */
    u64 next;                       /* the next offset to read */
    u32 unit;                       /* bytes that the target allocates together */
    u32 room;                       /* that a packed unit may take */
    int window;
    bool failed;
    Error err;
    /* workers */
    HostLock *lock;
    HostCond *work, *done;
    HostThread *worker[WORKERS_MAX];
    int workers;
    bool end;
};

static void fail(Engine *e, const char *what, u64 at, BlkResult r)
{
    if (!e->failed)
        error_set(&e->err, "error while %s at byte %llu%s", what, (unsigned long long)at,
                  r == BLK_ERR_NOSPACE ? ": no space left" : "");
    e->failed = true;
}

/* ---- packing ---- */

/* Deflate streams are made once a thread; 0: it does not become smaller. */
static u32 pack(z_stream *z, const u8 *in, u32 bytes, u8 *out, u32 room)
{
    deflateReset(z);
    z->next_in = (u8 *)in;
    z->avail_in = bytes;
    z->next_out = out;
    z->avail_out = room;
    return deflate(z, Z_FINISH) == Z_STREAM_END ? room - z->avail_out : 0;
}

static bool pack_open(const Engine *e, z_stream *z)
{
    *z = (z_stream){ 0 };
    return deflateInit2(z, PACK_LEVEL, Z_DEFLATED, e->window, 9, Z_DEFAULT_STRATEGY) == Z_OK;
}

/* The next cluster nobody works at, of the oldest slot that has one. Lock held. */
static Slot *claim(Engine *e, u32 *unit)
{
    for (u32 i = 0; i < e->used; i++) {
        Slot *s = &e->slot[(e->oldest + i) % SLOTS];

        if (s->state == PACKING && s->claimed < s->units) {
            *unit = s->claimed++;
            return s;
        }
    }
    return NULL;
}

/* Lock held; let go while working. */
static void pack_one(Engine *e, Slot *s, u32 unit, z_stream *z)
{
    u8 *in = s->buf + (u64)unit * e->unit, *out = s->out + (u64)unit * e->room;
    u32 n;

    host_unlock(e->lock);
    if (img_is_zero(in, e->unit)) {
        s->out_bytes[unit] = 0;
    } else {
        n = pack(z, in, e->unit, out, e->room);
        s->out_bytes[unit] = n ? n : e->room + 1;
    }
    host_lock(e->lock);
    if (++s->packed == s->units)
        host_cond_signal(e->done);
}

static void work(void *opaque)
{
    Engine *e = opaque;
    z_stream z;

    if (!pack_open(e, &z))
        return;
    host_lock(e->lock);
    while (!e->end) {
        u32 unit;
        Slot *s = claim(e, &unit);

        if (s)
            pack_one(e, s, unit, &z);
        else
            host_cond_wait(e->work, e->lock);
    }
    host_unlock(e->lock);
    deflateEnd(&z);
}

static void start_packing(Slot *s)
{
    Engine *e = s->e;

    host_lock(e->lock);
    memset(s->buf + s->bytes, 0, round_up(s->bytes, e->unit) - s->bytes);
    s->units = (u32)(round_up(s->bytes, e->unit) / e->unit);
    s->claimed = s->packed = 0;
    s->state = PACKING;
    host_cond_signal(e->work);
    host_unlock(e->lock);
}

/* Returns when the slot is packed. */
static void finish_packing(Engine *e, Slot *s, z_stream *z)
{
    host_lock(e->lock);
    while (s->packed < s->units) {
        u32 unit;
        Slot *mine = claim(e, &unit);

        if (mine)
            pack_one(e, mine, unit, z);
        else
            host_cond_wait(e->done, e->lock);
    }
    host_unlock(e->lock);
}

static void write_packed(Engine *e, Slot *s)
{
    Copy *c = e->c;

    for (u32 i = 0; i < s->units && !e->failed; i++) {
        u64 k = (u64)i * e->unit, n = s->bytes - k < e->unit ? s->bytes - k : e->unit;

        if (!s->out_bytes[i])
            continue;
        if (s->out_bytes[i] <= e->room)
            e->failed = !c->to->drv->write_packed(c->to, s->at + k, s->out + (u64)i * e->room,
                                                  s->out_bytes[i], &e->err);
        else
            e->failed = !img_write(c->to, s->at + k, s->buf + k, n, &e->err);
    }
    s->state = FREE;
}

/* ---- reading and writing ---- */

static void read_done(BlkReq *req)
{
    Slot *s = req->opaque;

    if (req->result != BLK_OK)
        fail(s->e, "reading", s->at + s->e->c->skip, req->result);
    s->state = READ;
}

static void write_done(BlkReq *req)
{
    Slot *s = req->opaque;

    if (req->result != BLK_OK)
        fail(s->e, "writing", req->offset, req->result);
    if (!--s->pending)
        s->state = FREE;
}

/* The image that has an offset of all sources together; *at becomes the offset in it. */
static BlkImage *source_of(const Copy *c, u64 *at)
{
    for (int i = 0; i < c->sources; i++) {
        if (*at < c->from[i]->bytes)
            return c->from[i];
        *at -= c->from[i]->bytes;
    }
    return NULL;
}

/* Whether what follows is known to be zeros, and for how long at least. */
static bool skips(Engine *e, BlkImage *img, u64 at, u64 left, u64 *bytes)
{
    ImgStatus st;
    u64 in = img->bytes - at, n = left < in ? left : in;

    if (!e->c->sparse || e->c->has_base)
        return false;
    if (!img_status(img, at, n, &st, &e->err)) {
        e->failed = true;
        return false;
    }
    *bytes = st.bytes < left ? st.bytes / e->unit * e->unit : st.bytes;
    return st.zero && *bytes && (*bytes >= SKIP_MIN || st.bytes == left);
}

/* Parts that lie in two sources are read at once. */
static void read_now(Slot *s, u64 at)
{
    Engine *e = s->e;

    for (u64 k = 0, n; k < s->bytes && !e->failed; k += n) {
        u64 in = at + k;
        BlkImage *img = source_of(e->c, &in);

        n = s->bytes - k < img->bytes - in ? s->bytes - k : img->bytes - in;
        e->failed = !img_read(img, in, s->buf + k, n, &e->err);
    }
    s->state = READ;
}

/* Reads the next part that may hold something. False: nothing is left, or an error. */
static bool start_reading(Engine *e)
{
    Copy *c = e->c;
    Slot *s = &e->slot[(e->oldest + e->used) % SLOTS];

    while (!e->failed && e->next < c->bytes) {
        u64 all = e->next + c->skip, at = all, left = c->bytes - e->next, n;
        BlkImage *img = source_of(c, &at);

        if (skips(e, img, at, left, &n)) {
            e->next += n;
            continue;
        }
        if (e->failed)
            return false;
        n = left < COPY_BUF - e->next % COPY_BUF ? left : COPY_BUF - e->next % COPY_BUF;
        s->at = e->next;
        s->bytes = n;
        if (n > img->bytes - at) {
            e->next += n;
            e->used++;
            read_now(s, all);
            return true;
        }
        s->state = READING;
        s->read = (BlkReq){ .op = BLK_READ, .offset = at, .buf = s->buf, .bytes = (u32)n, .done = read_done,
                            .opaque = s };
        e->next += n;
        e->used++;
        image_submit(img, &s->read);
        return true;
    }
    return false;
}

static void submit_write(Slot *s, u64 from, u64 to)
{
    BlkReq *req = &s->write[s->pending++];

    *req = (BlkReq){ .op = BLK_WRITE, .offset = s->at + from, .buf = s->buf + from, .bytes = (u32)(to - from),
                     .done = write_done, .opaque = s };
    image_submit(s->e->c->to, req);
}

/* Writes what differs from what the target reads as already: zeros, or its base. */
static void start_writing(Slot *s, u8 *other)
{
    Engine *e = s->e;
    Copy *c = e->c;
    u64 unit = c->sparse > e->unit ? c->sparse : e->unit, from = 0, n;
    bool open = false;

    s->state = WRITING;
    s->pending = 0;
    if (c->has_base && !img_read(c->to, s->at, other, s->bytes, &e->err)) {
        e->failed = true;
        s->state = FREE;
        return;
    }
    for (u64 k = 0; k < s->bytes; k += n) {
        bool same;

        n = unit - (s->at + k) % unit;
        n = s->bytes - k < n ? s->bytes - k : n;
        same = c->has_base ? !memcmp(s->buf + k, other + k, n) : c->sparse && img_is_zero(s->buf + k, n);
        if (same && open)
            submit_write(s, from, k);
        if (!same && !open)
            from = k;
        open = !same;
    }
    if (open)
        submit_write(s, from, s->bytes);
    if (!s->pending)
        s->state = FREE;
}

/* ---- all together ---- */

static void start_workers(Engine *e)
{
    e->lock = host_lock_new();
    e->work = host_cond_new();
    e->done = host_cond_new();
    e->workers = host_cpus() < WORKERS_MAX ? host_cpus() : WORKERS_MAX;
    for (int i = 0; i < e->workers; i++)
        e->worker[i] = host_thread_start("pack", work, e);
}

static void end_workers(Engine *e)
{
    host_lock(e->lock);
    e->end = true;
    host_cond_signal(e->work);
    host_unlock(e->lock);
    for (int i = 0; i < e->workers; i++)
        host_thread_join(e->worker[i]);
    host_cond_free(e->work);
    host_cond_free(e->done);
    host_lock_free(e->lock);
}

/* The oldest slot goes on; true: it is done with. */
static bool oldest_goes_on(Engine *e, u8 *other, z_stream *z)
{
    Slot *s = &e->slot[e->oldest];

    for (u32 i = 0; i < e->used; i++) {
        Slot *any = &e->slot[(e->oldest + i) % SLOTS];

        if (any->state == READ && e->failed)
            any->state = FREE;
        else if (any->state == READ && e->c->compress)
            start_packing(any);
        else if (any->state == READ)
            start_writing(any, other);
    }
    if (s->state == PACKING) {
        finish_packing(e, s, z);
        if (e->failed)
            s->state = FREE;
        else
            write_packed(e, s);
    }
    if (s->state != FREE)
        return false;
    img_progress(e->c->a, s->at + s->bytes, e->c->bytes);
    e->oldest = (e->oldest + 1) % SLOTS;
    e->used--;
    return true;
}

static void run(Engine *e, z_stream *z)
{
    u8 *other = e->c->has_base ? block_alloc(COPY_BUF) : NULL;

    for (;;) {
        if (!e->failed && img_interrupted(&e->err))
            e->failed = true;
        while (e->used < SLOTS && start_reading(e))
            ;
        if (!e->used)
            break;
        if (!oldest_goes_on(e, other, z))
            host_io_wait();
    }
    free(other);
}

static void make_slots(Engine *e)
{
    for (int i = 0; i < SLOTS; i++) {
        Slot *s = &e->slot[i];

        s->e = e;
        s->buf = block_alloc(COPY_BUF + e->unit);
        s->write = block_alloc(sizeof(*s->write) * RUNS_MAX);
        if (e->c->compress) {
            s->out = block_alloc((COPY_BUF / e->unit + 1) * (size_t)e->room);
            s->out_bytes = block_alloc(sizeof(u32) * (COPY_BUF / e->unit + 1));
        }
    }
}

static void free_slots(Engine *e)
{
    for (int i = 0; i < SLOTS; i++) {
        free(e->slot[i].buf);
        free(e->slot[i].write);
        free(e->slot[i].out);
        free(e->slot[i].out_bytes);
    }
}

bool img_copy(Copy *c, Error *err)
{
    Engine *e = block_alloc(sizeof(*e));
    ImageFacts facts = { 0 };
    z_stream z;
    bool ok;

    e->c = c;
    if (c->to->drv->facts)
        c->to->drv->facts(c->to, &facts);
    e->unit = facts.unit > UNIT_MAX ? UNIT_MAX : facts.unit > 4096 ? facts.unit : 4096;
    if (c->compress)
        e->unit = facts.unit;
    e->room = facts.packs_only ? 2 * e->unit + 1024 : e->unit - 1;
    e->window = facts.pack_window;
    make_slots(e);
    if (c->compress && pack_open(e, &z)) {
        start_workers(e);
        run(e, &z);
        end_workers(e);
        deflateEnd(&z);
    } else {
        run(e, NULL);
    }
    if (!e->failed && image_do(c->to, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
        e->failed = !error_set(&e->err, "the target can't be written out");
    if (!e->failed)
        img_progress(c->a, c->bytes, c->bytes);
    ok = !e->failed;
    if (!ok)
        *err = e->err;
    free_slots(e);
    free(e);
    return ok;
}
