/* Overlapped reading and writing for character devices; see handle_chr.h. */
#include "handle_chr.h"

#include <stdlib.h>
#include <string.h>

static void fail(HandleChr *hc, DWORD code)
{
    hc_detach(hc);
    hc->broken(hc, code);
}

/* The event of an overlapped request is reset by the request's start and stays set after its end. */
static void idle(OVERLAPPED *o)
{
    ResetEvent(o->hEvent);
}

static void start_read(HandleChr *hc)
{
    if (hc->h == INVALID_HANDLE_VALUE || hc->reading || hc->at < hc->end)
        return;
    hc->reading = true;
    if (!ReadFile(hc->h, hc->in, sizeof hc->in, NULL, &hc->rd) && GetLastError() != ERROR_IO_PENDING) {
        DWORD code = GetLastError();
        hc->reading = false;
        fail(hc, code);
    }
}

static void start_write(HandleChr *hc)
{
    const u8 *from;
    size_t n = chr_queue_peek(&hc->out, &from);
    if (hc->h == INVALID_HANDLE_VALUE || hc->writing || !n)
        return;
    n = n < sizeof hc->piece ? n : sizeof hc->piece;
    memcpy(hc->piece, from, n);
    hc->writing = true;
    if (!WriteFile(hc->h, hc->piece, (DWORD)n, NULL, &hc->wr) && GetLastError() != ERROR_IO_PENDING) {
        DWORD code = GetLastError();
        hc->writing = false;
        fail(hc, code);
    }
}

static void deliver(HandleChr *hc)
{
    while (hc->at < hc->end) {
        size_t room = chardev_room(&hc->chr), n = hc->end - hc->at;
        n = n < room ? n : room;
        if (!n)
            return;
        hc->at += n;
        chardev_deliver(&hc->chr, hc->in + hc->at - n, n);
    }
}

static void on_read(void *opaque)
{
    HandleChr *hc = opaque;
    DWORD n = 0;
    if (!hc->reading) {
        idle(&hc->rd);
        return;
    }
    BOOL ok = GetOverlappedResult(hc->h, &hc->rd, &n, FALSE);
    DWORD code = ok ? 0 : GetLastError();
    if (code == ERROR_IO_INCOMPLETE)
        return;
    hc->reading = false;
    idle(&hc->rd);
    if (!ok) {
        fail(hc, code);
        return;
    }
    hc->at = 0;
    hc->end = n;
    deliver(hc);
    start_read(hc);
}

static void on_written(void *opaque)
{
    HandleChr *hc = opaque;
    DWORD n = 0;
    if (!hc->writing) {
        idle(&hc->wr);
        return;
    }
    BOOL ok = GetOverlappedResult(hc->h, &hc->wr, &n, FALSE);
    DWORD code = ok ? 0 : GetLastError();
    if (code == ERROR_IO_INCOMPLETE)
        return;
    hc->writing = false;
    idle(&hc->wr);
    if (!ok) {
        fail(hc, code);
        return;
    }
    chr_queue_take(&hc->out, n);
    start_write(hc);
    if (chr_queue_feed(&hc->out))
        chardev_writable(&hc->chr);
}

static void on_kick(void *opaque)
{
    HandleChr *hc = opaque;
    deliver(hc);
    start_read(hc);
    start_write(hc);
}

void hc_init(HandleChr *hc)
{
    hc->h = INVALID_HANDLE_VALUE;
    hc->rd.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    hc->wr.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    hc->kick = CreateEventW(NULL, FALSE, FALSE, NULL);
    hc->rd_item = loop_add(hc->rd.hEvent, on_read, hc);
    hc->wr_item = loop_add(hc->wr.hEvent, on_written, hc);
    hc->kick_item = loop_add(hc->kick, on_kick, hc);
}

void hc_attach(HandleChr *hc, HANDLE h)
{
    hc->h = h;
    hc->at = hc->end = 0;
    hc->out.head = hc->out.tail = 0;
    SetEvent(hc->kick);
}

/* The requests' buffers are ours: none may be under way when this returns. */
void hc_detach(HandleChr *hc)
{
    DWORD n;
    if (hc->h == INVALID_HANDLE_VALUE)
        return;
    CancelIo(hc->h);
    if (hc->reading)
        GetOverlappedResult(hc->h, &hc->rd, &n, TRUE);
    if (hc->writing)
        GetOverlappedResult(hc->h, &hc->wr, &n, TRUE);
    hc->reading = hc->writing = false;
    CloseHandle(hc->h);
    hc->h = INVALID_HANDLE_VALUE;
    hc->out.head = hc->out.tail = 0;
}

void hc_free(HandleChr *hc)
{
    hc_detach(hc);
    loop_remove(hc->rd_item);
    loop_remove(hc->wr_item);
    loop_remove(hc->kick_item);
    CloseHandle(hc->rd.hEvent);
    CloseHandle(hc->wr.hEvent);
    CloseHandle(hc->kick);
    free(hc);
}

size_t hc_write(Chardev *chr, const u8 *buf, size_t n)
{
    HandleChr *hc = CONTAINER_OF(chr, HandleChr, chr);
    if (hc->h == INVALID_HANDLE_VALUE)
        return n;                   /* nobody is there */
    size_t taken = chr_queue_put(&hc->out, buf, n);
    if (!hc->writing)
        SetEvent(hc->kick);
    return taken;
}

void hc_accept(Chardev *chr)
{
    HandleChr *hc = CONTAINER_OF(chr, HandleChr, chr);
    if (hc->at < hc->end)
        SetEvent(hc->kick);
}
