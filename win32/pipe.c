/*
 * The character device pipe:NAME: the named pipe \\.\pipe\NAME. Where a pipe of this name exists it is
 * connected to; else it is made, and waits for whoever comes. So of two programs that are given the same name
 * the first is the server, whatever their order. Start-up never waits. A peer that leaves makes room for the
 * next; when a server leaves, its client becomes the server.
 */
#include "handle_chr.h"

#include "../core/vm/log.h"
#include "../core/vm/timer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    HandleChr hc;
    wchar_t *path;
    HANDLE waiting;                 /* the pipe we made, while nobody is connected */
    OVERLAPPED connect;
    WaitItem *connect_item;
    Timer later;                    /* the pipe is busy: another look in a second */
} PipeChr;

static void meet(PipeChr *p);

static void connected(PipeChr *p, HANDLE h)
{
    snprintf(p->hc.chr.state, sizeof p->hc.chr.state, "connected");
    hc_attach(&p->hc, h);
    chardev_tell(&p->hc.chr, CHR_OPENED);
}

static void look_later(PipeChr *p)
{
    snprintf(p->hc.chr.state, sizeof p->hc.chr.state, "the pipe has another peer");
    timer_arm(&p->later, clock_ns(p->hc.chr.m, CLOCK_HOST) + NS_PER_SEC);
}

static void complain(PipeChr *p, DWORD code)
{
    char reason[200];
    log_line("%s: %s: %s", p->hc.chr.label, p->hc.chr.spec, win_reason(code, reason, sizeof reason));
}

static void on_later(void *opaque)
{
    meet(opaque);
}

static void on_connect(void *opaque)
{
    PipeChr *p = opaque;
    DWORD n, code = 0;
    HANDLE h = p->waiting;
    ResetEvent(p->connect.hEvent);
    if (h == INVALID_HANDLE_VALUE)
        return;
    if (!GetOverlappedResult(h, &p->connect, &n, FALSE))
        code = GetLastError();
    if (code == ERROR_IO_INCOMPLETE)
        return;
    p->waiting = INVALID_HANDLE_VALUE;
    if (!code) {
        connected(p, h);
        return;
    }
    CloseHandle(h);
    complain(p, code);
    look_later(p);
}

static bool serve(PipeChr *p, DWORD *code)
{
    enum { BUFFER = 65536 };
    HANDLE h =
        CreateNamedPipeW(p->path, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                         PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, 1,
                         BUFFER, BUFFER, 0, NULL);
    *code = GetLastError();
    if (h == INVALID_HANDLE_VALUE)
        return false;
    BOOL here = ConnectNamedPipe(h, &p->connect);
    *code = GetLastError();
    if (here || *code == ERROR_PIPE_CONNECTED) {
        connected(p, h);
    } else if (*code == ERROR_IO_PENDING) {
        p->waiting = h;
        snprintf(p->hc.chr.state, sizeof p->hc.chr.state, "waits for a peer");
    } else {
        CloseHandle(h);
        return false;
    }
    return true;
}

/* Connects to the pipe or makes it. False: neither can be done, ever. */
static bool find_peer(PipeChr *p, DWORD *code)
{
    HANDLE h = CreateFileW(p->path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                           FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS, NULL);
    *code = GetLastError();
    if (h != INVALID_HANDLE_VALUE) {
        connected(p, h);
        return true;
    }
    if (*code == ERROR_FILE_NOT_FOUND && serve(p, code))
        return true;
    if (*code != ERROR_PIPE_BUSY && *code != ERROR_ACCESS_DENIED)
        return false;
    look_later(p);
    return true;
}

static void meet(PipeChr *p)
{
    DWORD code;
    if (find_peer(p, &code))
        return;
    complain(p, code);
    look_later(p);
}

static void pipe_broken(HandleChr *hc, DWORD code)
{
    PipeChr *p = CONTAINER_OF(hc, PipeChr, hc);
    if (code == ERROR_BROKEN_PIPE || code == ERROR_NO_DATA || code == ERROR_PIPE_NOT_CONNECTED)
        log_line("%s: %s: the other side has left", hc->chr.label, hc->chr.spec);
    else
        complain(p, code);
    chardev_tell(&hc->chr, CHR_CLOSED);
    if (chr_queue_feed(&hc->out))
        chardev_writable(&hc->chr);
    meet(p);
}

static void pipe_close(Chardev *chr)
{
    PipeChr *p = CONTAINER_OF(chr, PipeChr, hc.chr);
    DWORD n;
    timer_cancel(&p->later);
    if (p->waiting != INVALID_HANDLE_VALUE) {
        CancelIo(p->waiting);
        GetOverlappedResult(p->waiting, &p->connect, &n, TRUE);
        CloseHandle(p->waiting);
    }
    loop_remove(p->connect_item);
    CloseHandle(p->connect.hEvent);
    free(p->path);
    hc_free(&p->hc);
}

static const ChrBackend pipe_backend = {
    .name = "pipe", .write = hc_write, .accept = hc_accept, .close = pipe_close,
};

Chardev *pipe_chr_open(Machine *m, const char *label, const char *spec, Error *err)
{
    const char *name = spec + strlen("pipe:");
    char path[300], reason[200];
    DWORD code;
    if (!*name || strlen(name) > 256) {
        error_set(err, "pipe: needs a name, as in pipe:com_1");
        return NULL;
    }
    PipeChr *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, "out of memory");
        return NULL;
    }
    snprintf(path, sizeof path, "%s%s", strncmp(name, "\\\\", 2) ? "\\\\.\\pipe\\" : "", name);
    p->path = wide_from_utf8(path);
    p->waiting = INVALID_HANDLE_VALUE;
    chardev_init(&p->hc.chr, &pipe_backend, m, label);
    snprintf(p->hc.chr.spec, sizeof p->hc.chr.spec, "%s", spec);
    p->hc.broken = pipe_broken;
    timer_init(&p->later, m, CLOCK_HOST, on_later, p);
    hc_init(&p->hc);
    p->connect.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    p->connect_item = loop_add(p->connect.hEvent, on_connect, p);
    if (find_peer(p, &code))
        return &p->hc.chr;
    error_set(err, "%s: %s", spec, win_reason(code, reason, sizeof reason));
    chardev_close(&p->hc.chr);
    return NULL;
}
