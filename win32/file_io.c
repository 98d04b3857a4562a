/*
 * Files, asynchronous: overlapped requests in any number, completed on the main thread.
 *
 * All requests share one auto-reset event. Starting a request resets its event, so the signal of another one
 * that completed a moment before may be lost: after each start the requests in flight are looked at (a memory
 * read each) and the event is set again if one has completed. When the event is signalled all that have
 * completed are served.
 *
 * Windows has no asynchronous flush: a thread of its own does them in turn. It is started by the first flush.
 */
#include "win.h"

#include <stdlib.h>
#include <string.h>

/* How HostIo.priv is used. */
typedef struct {
    OVERLAPPED o;
    DWORD code;         /* flush, and what could not be started: the result */
    volatile LONG done; /* and that it is there */
} IoState;
_Static_assert(sizeof(IoState) <= sizeof(((HostIo *)0)->priv), "the state fits into a request");

static struct {
    HANDLE event;
    HostIo *flying, **tail;      /* in order of submission; machine lock */
    HostIo *ready, **ready_tail; /* completed, done() not called yet */
    HostLock *lock;              /* for the flush thread's queue */
    HostCond *cond;
    HostThread *flusher;
    HostIo *flush[64]; /* a ring; when it is full the flush is done at once */
    unsigned flush_head, flush_tail;
} io;

static IoState *state(HostIo *r)
{
    return (IoState *)r->priv;
}

static bool completed(HostIo *r)
{
    IoState *s = state(r);
    return s->done || (r->kind != HOST_IO_FLUSH && HasOverlappedIoCompleted(&s->o));
}

static void finish(HostIo *r, DWORD code)
{
    state(r)->code = code;
    InterlockedExchange(&state(r)->done, 1);
    SetEvent(io.event);
}

/* ---- flushing ---- */

static DWORD flush(HostIo *r)
{
    return FlushFileBuffers(file_handle(r->file)) ? 0 : GetLastError();
}

static void flush_thread(void *opaque)
{
    (void)opaque;
    host_lock(io.lock);
    for (;;) {
        while (io.flush_head == io.flush_tail)
            host_cond_wait(io.cond, io.lock);
        HostIo *r = io.flush[io.flush_head++ % ARRAY_LEN(io.flush)];
        host_unlock(io.lock);
        finish(r, flush(r));
        host_lock(io.lock);
    }
}

static void submit_flush(HostIo *r)
{
    if (!io.flusher)
        io.flusher = host_thread_start("flush", flush_thread, NULL);
    host_lock(io.lock);
    bool room = io.flush_tail - io.flush_head < ARRAY_LEN(io.flush);
    if (room) {
        io.flush[io.flush_tail++ % ARRAY_LEN(io.flush)] = r;
        host_cond_signal(io.cond);
    }
    host_unlock(io.lock);
    if (!room)
        finish(r, flush(r));
}

/* ---- reading and writing ---- */

static void submit_transfer(HostIo *r)
{
    IoState *s = state(r);
    HANDLE h = file_handle(r->file);
    s->o.hEvent = io.event;
    s->o.Offset = (DWORD)r->offset;
    s->o.OffsetHigh = (DWORD)(r->offset >> 32);
    BOOL ok = r->kind == HOST_IO_READ ? ReadFile(h, r->buf, r->bytes, NULL, &s->o)
                                      : WriteFile(h, r->buf, r->bytes, NULL, &s->o);
    DWORD code = ok ? ERROR_IO_PENDING : GetLastError();
    if (code != ERROR_IO_PENDING) {
        finish(r, code); /* refused at once: nothing will complete it but we */
        return;
    }
    for (HostIo *other = io.flying; other; other = other->next) {
        if (completed(other)) {
            SetEvent(io.event);
            break;
        }
    }
}

void host_io_submit(HostIo *r)
{
    memset(r->priv, 0, sizeof r->priv);
    r->next = NULL;
    *io.tail = r;
    io.tail = &r->next;
    if (r->kind == HOST_IO_FLUSH)
        submit_flush(r);
    else
        submit_transfer(r);
}

static void set_result(HostIo *r)
{
    IoState *s = state(r);
    DWORD code = s->code, n = 0;
    if (!s->done && !GetOverlappedResult(file_handle(r->file), &s->o, &n, FALSE))
        code = GetLastError();
    if (code == ERROR_HANDLE_EOF && r->kind == HOST_IO_READ)
        code = 0; /* nothing there: a short read, not a failure */
    r->transferred = n;
    r->ok = code == 0;
    r->no_space = code == ERROR_DISK_FULL || code == ERROR_HANDLE_DISK_FULL || code == ERROR_FILE_TOO_LARGE;
    if (code) {
        char reason[256];
        error_set(&r->err, "%s", win_reason(code, reason, sizeof reason));
    }
}

/* Serves what has completed by now. What done() submits waits for the next turn, even if it completes at
 * once. */
static bool serve(void)
{
    for (HostIo **p = &io.flying; *p;) {
        HostIo *r = *p;
        if (!completed(r)) {
            p = &r->next;
            continue;
        }
        *p = r->next;
        if (io.tail == &r->next)
            io.tail = p;
        r->next = NULL;
        *io.ready_tail = r;
        io.ready_tail = &r->next;
    }
    bool any = io.ready != NULL;
    while (io.ready) {
        HostIo *r = io.ready;
        io.ready = r->next;
        if (!io.ready)
            io.ready_tail = &io.ready;
        set_result(r);
        r->done(r);
    }
    return any;
}

static void on_event(void *opaque)
{
    (void)opaque;
    serve();
}

bool host_io_wait(void)
{
    while (io.flying || io.ready) {
        if (serve())
            return true;
        WaitForSingleObject(io.event, INFINITE);
    }
    return false;
}

void file_io_init(void)
{
    io.event = CreateEventW(NULL, FALSE, FALSE, NULL);
    io.tail = &io.flying;
    io.ready_tail = &io.ready;
    io.lock = host_lock_new();
    io.cond = host_cond_new();
    loop_add(io.event, on_event, NULL);
}
