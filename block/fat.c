/*
 * fat:FOLDER: a folder of the host as a disk.
 *
 *      fat:[floppy:][12:|16:|32:][rw:]FOLDER
 *
 * The disk is made when it is opened; what is changed in the folder later is not seen, but for the bytes of
 * its files. What the guest writes is kept in a temporary file. Without rw: it is gone with it. With rw: it is
 * applied to the folder (fat_apply.c) when the guest flushes, two seconds after it has last written, and when
 * the disk is closed; a file system that is not whole at that moment is left for the next time.
 */
#include "fat.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"
#include "../core/vm/timer.h"

enum { FILES_OPEN = 8, ALL_BUSY = -2, APPLY_AFTER_MS = 2000 };

/* ---- the folder as it is: read-only ---- */

typedef struct {
    BlkImage img;
    FatVolume *v;
    HostFile *tick;                 /* an empty file: a request to it ends a turn of the main loop later */
    struct { FatNode *node; HostFile *f; u32 in_flight; u64 used; } open[FILES_OPEN];
    u64 uses;
} FatImage;

typedef struct { FatImage *fat; BlkReq *req; u32 parts; bool failed; } FatJob;
typedef struct { HostIo io; FatJob *job; int slot; u8 *to; u32 want; } FatPart;

static void job_unref(FatJob *job)
{
    if (--job->parts)
        return;
    image_complete(job->req, job->failed ? BLK_ERR_IO : BLK_OK);
    free(job);
}

static void part_done(HostIo *io)
{
    FatPart *part = io->opaque;
    FatJob *job = part->job;

    if (part->slot >= 0)
        job->fat->open[part->slot].in_flight--;
    if (part->slot >= 0 && !io->ok) {
        log_line("fat: %s", io->err.text);
        job->failed = true;
    } else if (part->want) {        /* the file may have become shorter */
        memset(part->to + io->transferred, 0, part->want - io->transferred);
    }
    free(part);
    job_unref(job);
}

/* Many small files in one request. */
static bool read_at_once(FatImage *fat, FatNode *node, u64 offset, u8 *to, u32 bytes)
{
    char *path = fat_node_path(fat->v, node);
    Error err;
    HostFile *f = host_file_open(path, HOST_READ, &err);
    u64 size = f ? host_file_size(f) : 0;
    u32 n = size <= offset ? 0 : size - offset < bytes ? (u32)(size - offset) : bytes;
    bool ok = f && (!n || host_file_read(f, offset, to, n, &err));

    if (ok)
        memset(to + n, 0, bytes - n);
    else
        log_line("fat: %s", err.text);
    if (f)
        host_file_close(f);
    free(path);
    return ok;
}

/* A slot with the file open; -1: it can't be read; ALL_BUSY: there is no slot. */
static int open_file(FatImage *fat, FatNode *node)
{
    int slot = -1;
    char *path;
    Error err;

    for (int i = 0; i < FILES_OPEN; i++) {
        if (fat->open[i].node == node) {
            fat->open[i].used = ++fat->uses;
            return i;
        }
        if (!fat->open[i].in_flight && (slot < 0 || fat->open[i].used < fat->open[slot].used))
            slot = i;
    }
    if (slot < 0)
        return ALL_BUSY;
    if (fat->open[slot].f)
        host_file_close(fat->open[slot].f);
    path = fat_node_path(fat->v, node);
    fat->open[slot].f = host_file_open(path, HOST_READ, &err);
    fat->open[slot].node = fat->open[slot].f ? node : NULL;
    fat->open[slot].used = ++fat->uses;
    free(path);
    if (fat->open[slot].f)
        return slot;
    log_line("fat: %s", err.text);
    return -1;
}

static void submit_part(FatJob *job, HostFile *f, int slot, u64 offset, u8 *to, u32 bytes)
{
    static u8 nothing[SECTOR];
    FatPart *part = block_alloc(sizeof(*part));

    *part = (FatPart){ .job = job, .slot = slot, .to = to, .want = slot < 0 ? 0 : bytes };
    part->io = (HostIo){ .kind = HOST_IO_READ, .file = f, .offset = offset, .buf = slot < 0 ? nothing : to,
                         .bytes = bytes, .done = part_done, .opaque = part };
    job->parts++;
    host_io_submit(&part->io);
}

/* The run of one file's sectors at a place; returns their number. */
static u32 read_file(FatJob *job, FatNode *node, u64 offset, u8 *to, u32 sectors)
{
    u64 left = (node->bytes - offset + SECTOR - 1) / SECTOR;
    u32 n = sectors < left ? sectors : (u32)left;
    u64 in_file = node->bytes - offset;
    u32 bytes = n * SECTOR < in_file ? n * SECTOR : (u32)in_file;
    int slot = open_file(job->fat, node);

    memset(to + bytes, 0, n * SECTOR - bytes);
    if (slot < 0) {
        job->failed |= slot != ALL_BUSY || !read_at_once(job->fat, node, offset, to, bytes);
        return n;
    }
    job->fat->open[slot].in_flight++;
    submit_part(job, job->fat->open[slot].f, slot, offset, to, bytes);
    return n;
}

static void fat_submit(BlkImage *img, BlkReq *req)
{
    FatImage *fat = (FatImage *)img;
    FatJob *job = block_alloc(sizeof(*job));
    u32 sectors = req->bytes / SECTOR, n;

    *job = (FatJob){ .fat = fat, .req = req, .parts = 1 };
    for (u32 i = 0; i < sectors; i += n) {
        u8 *to = (u8 *)req->buf + (u64)i * SECTOR;
        FatNode *node = NULL;
        u64 offset = 0;

        n = 1;
        if (!fat_sector(fat->v, req->offset / SECTOR + i, to, &node, &offset))
            n = read_file(job, node, offset, to, sectors - i);
    }
    if (job->parts == 1)
        submit_part(job, fat->tick, -1, 0, NULL, SECTOR);
    job_unref(job);
}

static void close_files(void *opaque)
{
    FatImage *fat = opaque;

    for (int i = 0; i < FILES_OPEN; i++) {
        if (fat->open[i].in_flight)
            continue;
        if (fat->open[i].f)
            host_file_close(fat->open[i].f);
        fat->open[i].f = NULL;
        fat->open[i].node = NULL;
    }
}

static void fat_close(BlkImage *img)
{
    FatImage *fat = (FatImage *)img;

    close_files(fat);
    host_file_close(fat->tick);
    fat_volume_free(fat->v);
    free(fat);
}

static const BlkDriver fat_plain_driver = { .name = "fat", .submit = fat_submit, .close = fat_close };

/* ---- fat:rw: ---- */

typedef struct {
    BlkImage img;
    BlkImage *disk;                 /* the overlay on fat */
    FatImage *fat;
    Machine *m;
    Timer timer;
    bool changed, applying, said;
    u32 in_flight;                  /* of the guest's */
    BlkReq *held, **held_end;       /* came while the folder was being written */
    BlkReq *flush, **flush_end;     /* wait for their turn on the main thread */
    bool ticking;
    HostIo tick;
    u8 tick_buf[SECTOR];
} FatRw;

typedef struct { BlkReq req, *of; FatRw *rw; } FatPass;

static void passed(BlkReq *req)
{
    FatPass *pass = req->opaque;
    BlkReq *of = pass->of;
    BlkResult result = req->result;

    pass->rw->in_flight--;
    free(pass);
    image_complete(of, result);
}

static void pass_on(FatRw *rw, BlkReq *req)
{
    FatPass *pass = block_alloc(sizeof(*pass));

    *pass = (FatPass){ .of = req, .rw = rw };
    pass->req = (BlkReq){ .op = req->op, .offset = req->offset, .bytes = req->bytes, .buf = req->buf,
                          .done = passed, .opaque = pass };
    rw->in_flight++;
    image_submit(rw->disk, &pass->req);
}

/* Nothing of the guest's is under way meanwhile. */
static void apply(FatRw *rw)
{
    BlkReq *req, *next;
    Error err;

    if (!rw->changed || rw->applying)
        return;
    rw->applying = true;
    while (rw->in_flight)
        host_io_wait();
    rw->changed = false;
    if (!fat_apply(rw->fat->v, rw->disk, &err)) {
        rw->changed = true;
        if (!rw->said)
            log_line("fat: %s; what was changed is kept, and tried again later", err.text);
        rw->said = true;
    } else {
        rw->said = false;
    }
    rw->applying = false;
    req = rw->held;
    rw->held = NULL;
    rw->held_end = &rw->held;
    for (; req; req = next) {
        next = req->priv[0];
        pass_on(rw, req);
    }
}

static void timer_fired(void *opaque) { apply(opaque); }

static void ticked(HostIo *io)
{
    FatRw *rw = io->opaque;
    BlkReq *req = rw->flush;

    rw->ticking = false;
    rw->flush = NULL;
    rw->flush_end = &rw->flush;
    apply(rw);
    while (req) {
        BlkReq *next = req->priv[0];

        image_complete(req, BLK_OK);
        req = next;
    }
}

static void rw_submit(BlkImage *img, BlkReq *req)
{
    FatRw *rw = (FatRw *)img;

    if (req->op != BLK_FLUSH) {
        if (req->op == BLK_WRITE) {
            rw->changed = true;
            if (rw->m)
                timer_arm(&rw->timer, clock_ns(rw->m, CLOCK_HOST) + (u64)APPLY_AFTER_MS * 1000000);
        }
        req->priv[0] = NULL;
        if (rw->applying) {
            *rw->held_end = req;
            rw->held_end = (BlkReq **)&req->priv[0];
        } else {
            pass_on(rw, req);
        }
        return;
    }
    req->priv[0] = NULL;
    *rw->flush_end = req;
    rw->flush_end = (BlkReq **)&req->priv[0];
    if (rw->ticking)
        return;
    rw->ticking = true;
    rw->tick = (HostIo){ .kind = HOST_IO_READ, .file = rw->fat->tick, .buf = rw->tick_buf, .bytes = SECTOR,
                         .done = ticked, .opaque = rw };
    host_io_submit(&rw->tick);
}

static void rw_close(BlkImage *img)
{
    FatRw *rw = (FatRw *)img;

    apply(rw);
    if (rw->changed)
        log_line("fat: the last changes are lost: the guest's file system is not whole");
    if (rw->m)
        timer_cancel(&rw->timer);
    rw->disk->drv->close(rw->disk);
    free(rw);
}

static const BlkDriver fat_rw_driver = { .name = "fat", .can = CAN_FLUSH, .submit = rw_submit,
                                         .close = rw_close };

/* ---- opening ---- */

typedef struct { int type; bool floppy, rw; const char *path; } FatWords;

/* Words before the folder, in any order; a letter before a colon is a drive. */
static void parse(const char *file, FatWords *w)
{
    static const struct { const char *word; int type; bool floppy, rw; } words[] = {
        { "floppy:", 0, true, false }, { "rw:", 0, false, true }, { "12:", 12, false, false },
        { "16:", 16, false, false },   { "32:", 32, false, false },
    };

    *w = (FatWords){ .path = file + 4 };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i].word);

        if (strncmp(w->path, words[i].word, n))
            continue;
        w->path += n;
        w->type = words[i].type ? words[i].type : w->type;
        w->floppy |= words[i].floppy;
        w->rw |= words[i].rw;
        i = (size_t)-1;
    }
}

static BlkImage *fat_open_plain(const FatWords *w, Error *err)
{
    FatVolume *v = fat_volume_create(w->path, w->type, w->floppy, err);
    HostFile *tick = v ? host_file_open("", HOST_READ | HOST_WRITE | HOST_TEMP, err) : NULL;
    FatImage *fat;

    if (!tick) {
        if (v)
            fat_volume_free(v);
        return NULL;
    }
    fat = block_alloc(sizeof(*fat));
    fat->img = (BlkImage){ .drv = &fat_plain_driver, .bytes = v->disk_sectors * SECTOR, .readonly = true };
    fat->v = v;
    fat->tick = tick;
    return &fat->img;
}

static BlkImage *fat_open(Machine *m, const char *file, bool readonly, Error *err)
{
    FatWords w;
    BlkImage *plain, *disk;
    FatRw *rw;

    parse(file, &w);
    plain = fat_open_plain(&w, err);
    if (!plain || readonly)
        return plain;
    disk = overlay_create(plain, err);
    if (!disk) {
        fat_close(plain);
        return NULL;
    }
    if (!w.rw)
        return disk;
    rw = block_alloc(sizeof(*rw));
    rw->img = (BlkImage){ .drv = &fat_rw_driver, .bytes = disk->bytes };
    rw->disk = disk;
    rw->fat = (FatImage *)plain;
    rw->fat->v->close_files = close_files;      /* Windows replaces no open files */
    rw->fat->v->opaque = rw->fat;
    rw->m = m;
    rw->flush_end = &rw->flush;
    rw->held_end = &rw->held;
    if (m)
        timer_init(&rw->timer, m, CLOCK_HOST, timer_fired, rw);
    return &rw->img;
}

const BlkDriver fat_driver = { .name = "fat", .open = fat_open };
