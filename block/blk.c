/*
 * Drives and their media: what blk.h promises to the controllers, over the formats' drivers. Checks every
 * request once, keeps count of what is in flight, and answers what needs no driver a turn of the main loop
 * later, so that done() never runs inside blk_submit().
 */
#include "../core/vm/blk.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/timer.h"
#include "../core/vm/monitor.h"
#include "driver.h"

struct Blk {
    Machine *m;
    char name[32];
    char *file;
    BlkImage *img;                  /* NULL: no medium */
    const char *format;
    bool cdrom, readonly, snapshot, writes_asked, locked, removable;
    OnError werror, rerror;
    u32 in_flight;
    BlkReq *answered, **answered_end;       /* results known, done() not run */
    BlkReq *waiting, **waiting_end;         /* failed, made again by `cont` */
    Timer answer;
    void (*changed)(void *opaque);
    void *changed_opaque;
    Blk *next;
};

static Blk *blks;                   /* of all machines, in order of creation */

void *block_alloc(size_t bytes)
{
    void *p = calloc(1, bytes);

    if (!p) {
        fprintf(stderr, "qemu: out of memory\n");
        abort();
    }
    return p;
}

static char *copy_text(const char *s)
{
    return s ? strcpy(block_alloc(strlen(s) + 1), s) : NULL;
}

/* ---- requests ---- */

static void now_done(BlkReq *req)
{
    *(bool *)req->opaque = true;
}

static OnError on_error(const Blk *blk, const BlkReq *req, BlkResult result)
{
    OnError what = req->op == BLK_READ ? blk->rerror : blk->werror;

    if (what == ON_ERROR_DEFAULT)
        what = req->op == BLK_READ ? ON_ERROR_REPORT : ON_ERROR_ENOSPC;
    if (what == ON_ERROR_ENOSPC)
        what = result == BLK_ERR_NOSPACE ? ON_ERROR_STOP : ON_ERROR_REPORT;
    return what;
}

const char *blk_error_action(const BlkReq *req)
{
    OnError what = on_error(req->blk, req, req->result);

    return what == ON_ERROR_STOP ? "stop" : what == ON_ERROR_IGNORE ? "ignore" : "report";
}

static void wait_for_cont(Blk *blk, BlkReq *req)
{
    static const char *const verbs[] = { "reading", "writing", "flushing", "discarding" };
    char line[700];

    if (!blk->waiting) {
        snprintf(line, sizeof(line), "%s: %s at %llu of '%.400s' failed%s; the machine is paused, and 'cont' "
                 "tries again", blk->name, verbs[req->op], (unsigned long long)req->offset, blk_file(blk),
                 req->result == BLK_ERR_NOSPACE ? ": the disk is full" : "");
        log_line("%s", line);
        monitor_tell(blk->m, "%s", line);
    }
    req->next = NULL;
    *blk->waiting_end = req;
    blk->waiting_end = &req->next;
    machine_request(blk->m, REQ_IO_ERROR);
}

void image_complete(BlkReq *req, BlkResult result)
{
    Blk *blk = req->blk;

    req->result = result;
    if (blk)
        blk->in_flight--;
    if (blk && (result == BLK_ERR_IO || result == BLK_ERR_NOSPACE) && req->done != now_done) {
        OnError what = on_error(blk, req, result);

        machine_tell(blk->m, MACHINE_IO_ERROR, blk->name, req);
        if (what == ON_ERROR_STOP) {
            wait_for_cont(blk, req);
            return;
        }
        if (what == ON_ERROR_IGNORE) {
            req->result = BLK_OK;
            if (req->op == BLK_READ)
                memset(req->buf, 0, req->bytes);
        }
    }
    req->done(req);
}

static BlkReq *take_waiting(Blk *blk)
{
    BlkReq *req = blk->waiting;

    blk->waiting = NULL;
    blk->waiting_end = &blk->waiting;
    return req;
}

static void retry(Blk *blk)
{
    for (BlkReq *req = take_waiting(blk), *next; req; req = next) {
        next = req->next;
        blk_submit(blk, req);
    }
}

static void give_up(Blk *blk)
{
    for (BlkReq *req = take_waiting(blk), *next; req; req = next) {
        next = req->next;
        req->done(req);
    }
}

bool blk_waits(const Blk *blk) { return blk->waiting != NULL; }

static bool run_answers(Blk *blk)
{
    BlkReq *req = blk->answered;

    blk->answered = NULL;
    blk->answered_end = &blk->answered;
    if (!req)
        return false;
    while (req) {
        BlkReq *next = req->next;

        image_complete(req, req->result);
        req = next;
    }
    return true;
}

static void answer_fired(void *opaque)
{
    run_answers(opaque);
}

static void answer_later(Blk *blk, BlkReq *req, BlkResult result)
{
    req->result = result;
    req->next = NULL;
    *blk->answered_end = req;
    blk->answered_end = &req->next;
    if (!timer_armed(&blk->answer))
        timer_arm(&blk->answer, 0);
}

static BlkResult check(const Blk *blk, const BlkReq *req)
{
    if (!blk->img)
        return BLK_ERR_NOMEDIUM;
    if (req->op == BLK_FLUSH)
        return BLK_OK;
    if (req->op != BLK_READ && blk->img->readonly)
        return BLK_ERR_READONLY;
    if (req->offset % SECTOR || req->bytes % SECTOR || req->offset > blk->img->bytes ||
        req->bytes > blk->img->bytes - req->offset)
        return BLK_ERR_RANGE;
    return BLK_OK;
}

void blk_submit(Blk *blk, BlkReq *req)
{
    BlkResult result = check(blk, req);
    bool skip = false;

    req->blk = blk;
    blk->in_flight++;
    if (result == BLK_OK) {
        unsigned can = blk->img->drv->can;

        skip = req->op == BLK_FLUSH ? !(can & CAN_FLUSH) || blk->img->readonly
                                    : !req->bytes || (req->op == BLK_DISCARD && !(can & CAN_DISCARD));
    }
    if (result != BLK_OK || skip)
        answer_later(blk, req, result);
    else
        image_submit(blk->img, req);
}

const char *blk_format(const Blk *blk)
{
    return blk->img ? blk->format : "";
}

void blk_drain(Blk *blk)
{
    while (blk->in_flight) {
        bool some = run_answers(blk);

        if (blk->in_flight && !host_io_wait())
            assert(some);           /* in flight, and nobody has it: a driver has lost a request */
    }
    timer_cancel(&blk->answer);
}

static BlkResult submit_and_wait(Blk *blk, BlkOp op, u64 offset, void *buf, u32 bytes)
{
    bool done = false;
    BlkReq req = { .op = op, .offset = offset, .buf = buf, .bytes = bytes, .done = now_done,
                   .opaque = &done };

    blk_submit(blk, &req);
    while (!done && blk->in_flight) {
        if (!run_answers(blk))
            host_io_wait();
    }
    return req.result;
}

bool blk_read_now(Blk *blk, u64 offset, void *buf, u32 bytes)
{
    return submit_and_wait(blk, BLK_READ, offset, buf, bytes) == BLK_OK;
}

/* ---- media ---- */

static BlkImage *open_image(Blk *blk, const char *file, const char *format, Error *err)
{
    bool throw_away = (blk->snapshot || (image_is_device(file) && !blk->writes_asked)) && !blk->readonly;
    const BlkDriver *drv = image_driver(file, format, err);
    BlkImage *img = drv ? drv->open(blk->m, file, blk->readonly || throw_away, err) : NULL, *over;

    if (!img)
        return NULL;
    blk->format = drv->name;
    if (!throw_away)
        return img;
    over = overlay_create(img, err);
    if (!over)
        img->drv->close(img);
    return over;
}

static void close_image(Blk *blk)
{
    blk_drain(blk);
    if (!blk->img)
        return;
    if (submit_and_wait(blk, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
        log_line("%s: the last writes may not have reached the disk", blk->file);
    blk->img->drv->close(blk->img);
    blk->img = NULL;
}

bool blk_change(Blk *blk, const char *file, const char *format, Error *err)
{
    char *old_file = blk->file;
    const char *old_format = blk->format;
    bool ok = true;

    if (!blk->removable)
        return error_set(err, "%s is a hard disk: its medium stays in", blk->name);
    /* first: the same file may be put in again, and we keep it from other writers */
    close_image(blk);
    blk->file = copy_text(file);
    if (file) {
        blk->img = open_image(blk, file, format, err);
        if (!blk->img) {
            Error ignored;

            ok = false;
            free(blk->file);
            blk->file = old_file;
            old_file = NULL;
            blk->img = blk->file ? open_image(blk, blk->file, old_format, &ignored) : NULL;
            if (!blk->img) {
                free(blk->file);
                blk->file = NULL;
            }
        }
    }
    free(old_file);
    if (blk->changed)
        blk->changed(blk->changed_opaque);
    return ok;
}

Blk *blk_create(Machine *m, const DriveConfig *cfg, const char *name, Error *err)
{
    Blk *blk = block_alloc(sizeof(*blk)), **at = &blks;

    blk->m = m;
    snprintf(blk->name, sizeof(blk->name), "%s", name);
    blk->cdrom = cfg->cdrom;
    blk->readonly = cfg->readonly || cfg->cdrom;
    blk->snapshot = cfg->snapshot;
    blk->writes_asked = cfg->writes_asked;
    blk->removable = cfg->cdrom || cfg->iface != IF_IDE;
    blk->answered_end = &blk->answered;
    blk->waiting_end = &blk->waiting;
    blk->werror = cfg->werror;
    blk->rerror = cfg->rerror;
    timer_init(&blk->answer, m, CLOCK_HOST, answer_fired, blk);
    if (cfg->file) {
        blk->img = open_image(blk, cfg->file, cfg->format, err);
        if (!blk->img) {
            free(blk);
            return NULL;
        }
        blk->file = copy_text(cfg->file);
    }
    while (*at)
        at = &(*at)->next;
    *at = blk;
    return blk;
}

void blk_destroy(Blk *blk)
{
    if (!blk)
        return;
    give_up(blk);
    close_image(blk);
    for (Blk **at = &blks; *at; at = &(*at)->next) {
        if (*at == blk) {
            *at = blk->next;
            break;
        }
    }
    timer_cancel(&blk->answer);
    free(blk->file);
    free(blk);
}

/* ---- what controllers and the monitor ask ---- */

bool blk_has_medium(const Blk *blk) { return blk->img != NULL; }
u64 blk_bytes(const Blk *blk) { return blk->img ? blk->img->bytes : 0; }
bool blk_readonly(const Blk *blk) { return blk->img ? blk->img->readonly : blk->readonly; }
bool blk_is_cdrom(const Blk *blk) { return blk->cdrom; }
const char *blk_name(const Blk *blk) { return blk->name; }
const char *blk_file(const Blk *blk) { return blk->file ? blk->file : ""; }
bool blk_locked(const Blk *blk) { return blk->locked; }
void blk_set_locked(Blk *blk, bool locked) { blk->locked = locked; }

void blk_on_change(Blk *blk, void (*changed)(void *opaque), void *opaque)
{
    blk->changed = changed;
    blk->changed_opaque = opaque;
}

static Blk *of_machine(Blk *blk, Machine *m)
{
    while (blk && blk->m != m)
        blk = blk->next;
    return blk;
}

Blk *blk_first(Machine *m) { return of_machine(blks, m); }
Blk *blk_next(Blk *blk) { return of_machine(blk->next, blk->m); }

void blk_retry_all(Machine *m)
{
    for (Blk *blk = blk_first(m); blk; blk = blk_next(blk))
        retry(blk);
}

void blk_give_up_all(Machine *m)
{
    for (Blk *blk = blk_first(m); blk; blk = blk_next(blk))
        give_up(blk);
}

bool blk_keeps_changes_apart(const Blk *blk) { return blk->img && blk->img->drv == &overlay_driver; }

bool blk_commit(Blk *blk, Error *err)
{
    bool ok;

    if (!blk->img)
        return error_set(err, "%s: no medium", blk->name);
    if (!blk_keeps_changes_apart(blk))
        return error_set(err, "%s: changes are written to %s at once (this is for -snapshot)", blk->name,
                         blk->file);
    blk_drain(blk);
    ok = overlay_commit(blk->img, blk->m, blk->file, err);
    if (!overlay_usable(blk->img)) {        /* the file could not be opened again */
        blk->img->drv->close(blk->img);
        blk->img = NULL;
    }
    return ok;
}

void blk_describe(Blk *blk, char *out, size_t size)
{
    if (!blk->img) {
        snprintf(out, size, "%s: no medium%s", blk->name, blk->locked ? ", locked" : "");
        return;
    }
    snprintf(out, size, "%s: %s (%s, %llu bytes%s%s%s%s)", blk->name, blk->file, blk->format,
             (unsigned long long)blk->img->bytes, blk->img->readonly ? ", read-only" : "",
             blk->img->drv == &overlay_driver ? ", changes are thrown away" : "",
             blk->waiting ? ", waits after an error" : "", blk->locked ? ", locked" : "");
}

/* ---- snapshots ---- */

bool blk_removable(const Blk *blk) { return blk->removable; }
bool blk_can_snapshot(const Blk *blk) { return blk->img && blk->img->drv->snapshots; }
bool blk_keeps_changes(const Blk *blk) { return blk->img && blk->img->drv != &overlay_driver; }
u32 blk_vm_block(const Blk *blk) { return blk->img->drv->snapshots->block_bytes(blk->img); }

bool blk_snapshots(Blk *blk, BlkSnapshot **list, u32 *count, Error *err)
{
    return blk->img->drv->snapshots->list(blk->img, list, count, err);
}

BlkSave *blk_save_begin(Blk *blk, const char *from, const u32 *share, u32 count, Error *err)
{
    BlkSave *save = blk->img->drv->snapshots->begin(blk->img, from, share, count, err);

    if (save)
        save->blk = blk;
    return save;
}

void blk_save_write(BlkSave *save, BlkReq *req)
{
    req->blk = save->blk;
    save->blk->in_flight++;
    save->blk->img->drv->snapshots->write(save, req);
}

bool blk_save_end(BlkSave *save, const BlkSnapshot *row, Error *err)
{
    return save->blk->img->drv->snapshots->end(save, row, err);
}

void blk_save_abort(BlkSave *save) { save->blk->img->drv->snapshots->abort(save); }

bool blk_snapshot_read(Blk *blk, const char *id, u64 offset, void *buf, u64 bytes, Error *err)
{
    return blk->img->drv->snapshots->read(blk->img, id, offset, buf, bytes, err);
}

bool blk_snapshot_apply(Blk *blk, const char *id, Error *err)
{
    return blk->img->drv->snapshots->apply(blk->img, id, err);
}

bool blk_snapshot_delete(Blk *blk, const char *id, Error *err)
{
    return blk->img->drv->snapshots->remove(blk->img, id, err);
}

void blk_flush_all(Machine *m)
{
    for (Blk *blk = blk_first(m); blk; blk = blk_next(blk)) {
        blk_drain(blk);
        if (blk->img && submit_and_wait(blk, BLK_FLUSH, 0, NULL, 0) != BLK_OK)
            log_line("%s: the last writes may not have reached the disk", blk->file);
    }
}
