/* qemu-img bench: how fast requests are answered; measure: how large an image would become. */
#include "img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 1024, SIZE_MAX_BYTES = 64 << 20 };

/* ---- bench ---- */

typedef struct BenchReq BenchReq;

typedef struct {
    BlkImage *img;
    bool write;
    u64 count, started, finished;   /* requests */
    u64 size, step, at, depth;      /* bytes; how many requests at a time */
    u64 flush_interval, written;    /* a flush after so many writes; 0: none */
    bool drain, flushing, failed;
    BenchReq *free;
} Bench;

struct BenchReq {
    BlkReq req;
    Bench *b;
    BenchReq *next;
};

static void bench_done(BlkReq *req)
{
    BenchReq *r = req->opaque;
    Bench *b = r->b;

    b->failed |= req->result != BLK_OK;
    if (req->op == BLK_FLUSH) {
        b->flushing = false;
    } else {
        b->finished++;
        b->written++;
    }
    r->next = b->free;
    b->free = r;
}

static void bench_submit(Bench *b, BlkOp op)
{
    BenchReq *r = b->free;
    bool flush = op == BLK_FLUSH;

    b->free = r->next;
    r->req = (BlkReq){ .op = op, .offset = flush ? 0 : b->at, .bytes = flush ? 0 : (u32)b->size,
                       .buf = r->req.buf, .done = bench_done, .opaque = r };
    if (flush) {
        b->flushing = true;
        b->written = 0;
    } else {
        b->started++;
        b->at = (b->at + b->step) % (b->img->bytes - b->size + SECTOR) / SECTOR * SECTOR;
    }
    image_submit(b->img, &r->req);
}

static void bench_turns(Bench *b)
{
    while (b->finished < b->count && !b->failed) {
        bool due = b->flush_interval && b->written >= b->flush_interval;

        if (due && !b->flushing && b->free && (!b->drain || b->started == b->finished))
            bench_submit(b, BLK_FLUSH);
        while (b->started < b->count && b->started - b->finished < b->depth && b->free &&
               !(b->drain && (due || b->flushing)))
            bench_submit(b, b->write ? BLK_WRITE : BLK_READ);
        host_io_wait();
    }
    while (b->started > b->finished || b->flushing)
        host_io_wait();
}

static bool bench_run(Bench *b, u8 pattern)
{
    BenchReq *reqs = block_alloc(sizeof(*reqs) * (b->depth + 1));
    u8 *buf = block_alloc(b->size * b->depth);

    memset(buf, pattern, b->size * b->depth);
    for (u64 i = 0; i <= b->depth; i++) {
        reqs[i] = (BenchReq){ .b = b, .next = b->free, .req.buf = buf + i % b->depth * b->size };
        b->free = &reqs[i];
    }
    bench_turns(b);
    free(reqs);
    free(buf);
    return !b->failed;
}

static bool number(const char *text, u64 fallback, u64 least, u64 most, const char *what, u64 *value, Error *err)
{
    *value = fallback;
    if (text && !image_size(text, value, err))
        return false;
    return (*value >= least && *value <= most) ||
           error_set(err, "%s must be from %llu to %llu", what, (unsigned long long)least,
                     (unsigned long long)most);
}

int img_bench(const ImgArgs *a)
{
    Bench b = { .write = a->opt['w'] != NULL, .drain = !a->no_drain };
    u64 start, pattern;
    bool ok;
    Error err;

    if (a->files != 1)
        return img_fail("bench needs one file name");
    if (!number(a->opt['c'], 75000, 1, 1ull << 40, "-c", &b.count, &err) ||
        !number(a->opt['d'], 64, 1, DEPTH_MAX, "-d", &b.depth, &err) ||
        !number(a->opt['s'], 4096, SECTOR, SIZE_MAX_BYTES, "-s", &b.size, &err) ||
        !number(a->opt['S'], b.size, 0, 1ull << 50, "-S", &b.step, &err) ||
        !number(a->opt['o'], 0, 0, 1ull << 60, "-o", &b.at, &err) ||
        !number(a->flush_interval, 0, 0, 1ull << 40, "--flush-interval", &b.flush_interval, &err) ||
        !number(a->pattern, 0, 0, 255, "--pattern", &pattern, &err))
        return img_fail("%s", err.text);
    if (b.flush_interval && !b.write)
        return img_fail("--flush-interval needs -w");
    b.size = round_up(b.size, SECTOR);
    b.img = img_open(a->file[0], a->opt['f'], b.write, &err);
    if (!b.img)
        return img_fail("Could not open '%s': %s", a->file[0], err.text);
    if (b.img->bytes < b.size || b.at > b.img->bytes - b.size) {
        img_close(b.img);
        return img_fail("%s is smaller than one request", a->file[0]);
    }
    b.at = b.at / SECTOR * SECTOR;
    img_say(a, "Sending %llu %s requests, %llu bytes each, %llu in parallel (starting at offset %llu, step size "
            "%llu)\n", (unsigned long long)b.count, b.write ? "write" : "read", (unsigned long long)b.size,
            (unsigned long long)b.depth, (unsigned long long)b.at, (unsigned long long)b.step);
    start = host_now_ns();
    ok = bench_run(&b, (u8)pattern);
    img_say(a, "Run completed in %.3f seconds.\n", (double)(host_now_ns() - start) / 1e9);
    img_close(b.img);
    return ok ? 0 : img_fail("a request failed");
}

/* ---- measure ---- */

/* What tables a qcow2 image of so many bytes needs when all of them have a place. */
static u64 qcow2_tables(u64 bytes, u32 cluster_bits, u32 ref_order)
{
    u64 cluster = 1ull << cluster_bits, per_table = cluster / 8, per_block = cluster * 8 >> ref_order;
    u64 data = round_up(bytes, cluster) / cluster;
    u64 l2 = round_up(data, per_table) / per_table;
    u64 l1 = round_up(l2, per_table) / per_table;
    u64 others = 1 + l1 + l2 + data, blocks = 0, table = 0, before;

    do {                            /* counts are counted, too */
        before = blocks + table;
        blocks = (others + before + per_block - 1) / per_block;
        table = (blocks + per_table - 1) / per_table;
    } while (blocks + table != before);
    return (1 + l1 + l2 + blocks + table) << cluster_bits;
}

/* Bytes of clusters that are not zeros. */
static bool data_bytes(BlkImage *img, u64 cluster, u64 *bytes, Error *err)
{
    u64 last = ~0ull;

    *bytes = 0;
    for (u64 at = 0; at < img->bytes; ) {
        ImgStatus st;
        u64 first, end;

        if (!img_status(img, at, img->bytes - at, &st, err))
            return false;
        first = at / cluster;
        end = (at + st.bytes - 1) / cluster;
        if (!st.zero) {
            *bytes += (end - first + (first != last)) * cluster;
            last = end;
        }
        at += st.bytes;
    }
    return true;
}

int img_measure(const ImgArgs *a)
{
    const char *format = a->opt['O'] ? a->opt['O'] : "raw";
    bool raw = !strcmp(format, "raw");
    u64 size = 0, data, cluster = 65536, ref_bits = 16, required, full;
    char v[64];
    BlkImage *img = NULL;
    Error err;

    if (img_wants_help(a))
        return img_options_help(format);
    if (a->size ? a->files != 0 : a->files != 1)
        return img_fail("measure needs a file name or --size");
    if (!raw && strcmp(format, "qcow2"))
        return img_fail("measure knows raw and qcow2");
    if ((image_option(a->opt['o'], "cluster_size", v, sizeof(v)) &&
         !number(v, 0, 512, 2 << 20, "cluster_size", &cluster, &err)) ||
        (image_option(a->opt['o'], "refcount_bits", v, sizeof(v)) &&
         !number(v, 0, 1, 64, "refcount_bits", &ref_bits, &err)))
        return img_fail("%s", err.text);
    if (a->size ? !image_size(a->size, &size, &err)
                : !(img = img_open_read(a->file[0], a->opt['f'], &err)))
        return img_fail("%s", err.text);
    size = round_up(img ? img->bytes : size, SECTOR);
    data = raw ? size : 0;
    if (img && !raw && !data_bytes(img, cluster, &data, &err)) {
        img_close(img);
        return img_fail("%s", err.text);
    }
    img_close(img);
    required = raw ? size
                   : data + qcow2_tables(size, (u32)__builtin_ctzll(cluster), (u32)__builtin_ctzll(ref_bits));
    full = raw ? size : required - data + round_up(size, cluster);
    printf(a->json ? "{\n    \"required\": %llu,\n    \"fully-allocated\": %llu\n}\n"
                   : "required size: %llu\nfully allocated size: %llu\n",
           (unsigned long long)required, (unsigned long long)full);
    return 0;
}
