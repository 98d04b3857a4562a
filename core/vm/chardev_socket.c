/*
 * Character devices on TCP: tcp:HOST:PORT and telnet:HOST:PORT, as client or (,server) as server for one peer
 * after the other. Everything is told by events; nothing here waits.
 *
 *   server          listens; while a peer is there, others stay in the listener's queue
 *   wait (server's default; nowait is its opposite)    the guest does not start before the first peer
 *   reconnect=N     a client tries again N seconds after its peer has left or was not there
 *   nodelay         always the case
 *
 * Without a peer, what is written is lost, as on a cable without an end. A peer that does not read makes the
 * frontend wait: 64 KiB are kept, no more. telnet: RFC 854, with echo, suppressed go-ahead and binary offered
 * (RFC 857, 858, 856); a break of the peer (IAC BRK, IAC IP) reaches the frontend. HOST empty: a server is
 * reached from this computer only, a client connects to it.
 */
#include "chardev_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostnet.h"
#include "log.h"
#include "machine.h"

enum {
    IAC = 255, DONT = 254, DO = 253, WONT = 252, WILL = 251, SB = 250, BRK = 243, IP = 244, SE = 240,
    OPT_BINARY = 0, OPT_ECHO = 1, OPT_SGA = 3, PIECE = 4096, RECONNECT_MAX = 3600,
};
typedef enum { TEL_DATA, TEL_CR, TEL_IAC, TEL_OPTION, TEL_SB, TEL_SB_IAC } Telnet;

typedef struct {
    Chardev chr;
    HostAddr addr;
    HostSocket *listener, *peer;
    bool server, telnet, up;        /* up: the peer is connected */
    bool holds_guest;               /* the vCPU is parked until a peer comes */
    bool broken;                    /* a write found the connection gone; `later` drops it */
    bool closing;                   /* drop_peer() is at work */
    u64 reconnect_ns;               /* 0: never */
    Timer later;                    /* drops a broken connection, or tries again */
    Telnet state;
    ChrQueue out;
} SockChr;

static const HostSocketOps peer_ops;

static void set_state(SockChr *s, const char *what, const HostAddr *a)
{
    char text[64] = "";
    if (a)
        host_addr_text(a, text, sizeof text);
    snprintf(s->chr.state, sizeof s->chr.state, "%s%s%s", what, a ? " " : "", text);
}

static void release_guest(SockChr *s)
{
    if (!s->holds_guest)
        return;
    s->holds_guest = false;
    machine_unpark(s->chr.m);
}

/* ---- a peer comes and goes ---- */

static bool send_out(SockChr *s, Error *err)
{
    const u8 *from;
    for (size_t n; (n = chr_queue_peek(&s->out, &from)) > 0;) {
        int sent = host_send(s->peer, from, (u32)n, NULL, err);
        if (sent == HOST_BROKEN)
            return false;
        if (sent <= 0)
            break;
        chr_queue_take(&s->out, (size_t)sent);
    }
    return true;
}

static void peer_up(SockChr *s, const HostAddr *a)
{
    static const u8 offer[] = { IAC, WILL, OPT_ECHO, IAC, WILL, OPT_SGA, IAC, WILL, OPT_BINARY,
                                IAC, DO, OPT_BINARY };
    s->up = true;
    s->broken = false;
    s->state = TEL_DATA;
    s->out.head = s->out.tail = 0;
    set_state(s, "connected to", a);
    if (s->telnet && s->server)
        chr_queue_put(&s->out, offer, sizeof offer);
    release_guest(s);
    chardev_tell(&s->chr, CHR_OPENED);
}

static void try_later(SockChr *s)
{
    if (s->reconnect_ns && !s->peer)
        timer_arm(&s->later, clock_ns(s->chr.m, CLOCK_HOST) + s->reconnect_ns);
}

/* why NULL: it has ended the connection itself. */
static void drop_peer(SockChr *s, const char *why)
{
    HostSocket *peer = s->peer;
    bool was_up = s->up;
    if (!peer || s->closing)
        return;
    s->closing = true;
    log_line("%s: %s: %s", s->chr.label, s->chr.spec, why ? why : "the other side has left");
    host_socket_close(peer);
    s->peer = NULL;
    s->up = false;
    s->out.head = s->out.tail = 0;
    set_state(s, s->server ? "waits for a peer" : "not connected", NULL);
    if (was_up)
        chardev_tell(&s->chr, CHR_CLOSED);
    if (chr_queue_feed(&s->out))
        chardev_writable(&s->chr);
    s->closing = false;
    if (s->listener)
        host_socket_resume(s->listener);
    else
        try_later(s);
}

static void connect_now(void *opaque)
{
    SockChr *s = opaque;
    Error err;
    set_state(s, "connecting", NULL);
    s->peer = host_connect(&s->addr, &peer_ops, s, &err);
    if (s->peer)
        return;
    log_line("%s: %s: %s", s->chr.label, s->chr.spec, err.text);
    set_state(s, "not connected", NULL);
    try_later(s);
}

static void on_later(void *opaque)
{
    SockChr *s = opaque;
    if (s->peer)
        drop_peer(s, s->broken ? "the connection is broken" : "closed from here");
    else if (!s->server)
        connect_now(s);
}

static void on_connected(void *opaque, const Error *err)
{
    SockChr *s = opaque;
    if (err)
        drop_peer(s, err->text);
    else
        peer_up(s, &s->addr);
    if (s->peer && !send_out(s, &(Error){ "" }))
        drop_peer(s, NULL);
}

static HostDrain on_accept(void *opaque)
{
    SockChr *s = opaque;
    HostAddr from;
    Error err;
    while (!s->peer) {
        s->peer = host_accept(s->listener, &from, &peer_ops, s);
        if (!s->peer)
            return HOST_DRAINED;
        peer_up(s, &from);
        if (s->peer && !send_out(s, &err))
            drop_peer(s, err.text);
    }
    return HOST_PAUSED;                     /* until this one has left */
}

static const HostSocketOps listener_ops = { on_accept, NULL, NULL };

/* ---- input ---- */

/* Answers an option that the other side brings up: ours were offered, all else is refused. */
static void telnet_option(SockChr *s, u8 verb, u8 option)
{
    bool ours = option == OPT_SGA || option == OPT_BINARY || (option == OPT_ECHO && s->server);
    if (ours || verb == WONT || verb == DONT)
        return;
    u8 answer[] = { IAC, verb == DO ? WONT : DONT, option };
    if (CHR_QUEUE - chr_queue_used(&s->out) >= sizeof answer)
        chr_queue_put(&s->out, answer, sizeof answer);
}

/* Takes the protocol out of n bytes, in place; returns how many are left. */
static size_t telnet_filter(SockChr *s, u8 *buf, size_t n, u8 *verb)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        u8 c = buf[i];
        switch (s->state) {
        case TEL_CR:
            s->state = TEL_DATA;
            if (c == 0 || c == '\n')        /* CR NUL and CR LF are the key Enter */
                break;
            /* fall through */
        case TEL_DATA:
            if (c == IAC)
                s->state = TEL_IAC;
            else
                buf[kept++] = c;
            if (c == '\r')
                s->state = TEL_CR;
            break;
        case TEL_IAC:
            s->state = TEL_DATA;
            if (c == IAC)
                buf[kept++] = c;
            else if (c == BRK || c == IP)
                chardev_tell(&s->chr, CHR_BREAK);
            else if (c == SB)
                s->state = TEL_SB;
            else if (c >= WILL) {
                *verb = c;
                s->state = TEL_OPTION;
            }
            break;
        case TEL_OPTION:
            s->state = TEL_DATA;
            telnet_option(s, *verb, c);
            break;
        case TEL_SB:
            s->state = c == IAC ? TEL_SB_IAC : TEL_SB;
            break;
        case TEL_SB_IAC:
            s->state = c == SE ? TEL_DATA : TEL_SB;
            break;
        }
    }
    return kept;
}

static HostDrain on_readable(void *opaque)
{
    SockChr *s = opaque;
    u8 buf[PIECE], verb = DO;
    Error err;
    for (int pieces = 0; s->up; pieces++) {
        size_t room = chardev_room(&s->chr);
        if (!room)
            return HOST_PAUSED;
        if (pieces == 8)
            return HOST_MORE;
        int n = host_recv(s->peer, buf, (u32)(room < sizeof buf ? room : sizeof buf), NULL, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        if (n <= 0) {
            drop_peer(s, n ? err.text : NULL);
            break;
        }
        size_t bytes = s->telnet ? telnet_filter(s, buf, (size_t)n, &verb) : (size_t)n;
        chardev_deliver(&s->chr, buf, bytes);
        if (s->up && s->telnet && !send_out(s, &err))
            drop_peer(s, err.text);
    }
    return HOST_DRAINED;
}

static void on_writable(void *opaque)
{
    SockChr *s = opaque;
    Error err;
    if (!s->up)
        return;
    if (!send_out(s, &err))
        drop_peer(s, err.text);
    else if (chr_queue_feed(&s->out))
        chardev_writable(&s->chr);
}

static const HostSocketOps peer_ops = { on_readable, on_writable, on_connected };

/* ---- the device ---- */

static size_t put_telnet(SockChr *s, const u8 *buf, size_t n)
{
    static const u8 twice[] = { IAC, IAC };
    for (size_t i = 0; i < n; i++) {
        size_t want = buf[i] == IAC ? 2 : 1;
        if (CHR_QUEUE - chr_queue_used(&s->out) < want) {
            s->out.starved = true;
            return i;
        }
        chr_queue_put(&s->out, buf[i] == IAC ? twice : buf + i, want);
    }
    return n;
}

/* A peer that turns out to be gone is dropped at the main loop's next turn, not from inside a write. */
static size_t sock_write(Chardev *chr, const u8 *buf, size_t n)
{
    SockChr *s = CONTAINER_OF(chr, SockChr, chr);
    bool idle = !chr_queue_used(&s->out);
    if (!s->up || s->broken)
        return n;
    size_t taken = s->telnet ? put_telnet(s, buf, n) : chr_queue_put(&s->out, buf, n);
    if (idle && !send_out(s, &(Error){ "" })) {
        s->broken = true;
        timer_arm(&s->later, clock_ns(chr->m, CLOCK_HOST));
    }
    return taken;
}

static void sock_accept(Chardev *chr)
{
    SockChr *s = CONTAINER_OF(chr, SockChr, chr);
    if (s->up)
        host_socket_resume(s->peer);
}

static void sock_close(Chardev *chr)
{
    SockChr *s = CONTAINER_OF(chr, SockChr, chr);
    timer_cancel(&s->later);
    release_guest(s);
    host_socket_close(s->peer);
    host_socket_close(s->listener);
    free(s);
}

static void sock_hangup(Chardev *chr)
{
    SockChr *s = CONTAINER_OF(chr, SockChr, chr);
    if (s->up)
        timer_arm(&s->later, clock_ns(chr->m, CLOCK_HOST));
}

static const ChrBackend sock_backend = {
    .name = "socket", .write = sock_write, .accept = sock_accept, .close = sock_close, .hangup = sock_hangup,
};

/* One word behind the address; false: err says what is wrong. */
static bool sock_word(SockChr *s, const char *word, bool *wait, Error *err)
{
    char *end;
    if (!strcmp(word, "server") || !strcmp(word, "server=on")) {
        s->server = true;
    } else if (!strcmp(word, "wait") || !strcmp(word, "wait=on")) {
        *wait = true;
    } else if (!strcmp(word, "nowait") || !strcmp(word, "wait=off")) {
        *wait = false;
    } else if (!strncmp(word, "reconnect=", 10)) {
        unsigned long seconds = strtoul(word + 10, &end, 10);
        if (*end || end == word + 10 || seconds > RECONNECT_MAX)
            return error_set(err, "reconnect= is a number of seconds up to %d", RECONNECT_MAX);
        s->reconnect_ns = seconds * NS_PER_SEC;
    } else if (strcmp(word, "server=off") && strncmp(word, "nodelay", 7) && strcmp(word, "delay")) {
        return error_set(err,
                         "'%.40s' is not understood; there are server, nowait, nodelay, reconnect=", word);
    }
    return true;
}

static bool sock_parse(SockChr *s, const char *spec, bool *wait, Error *err)
{
    char text[256];
    const char *at = strchr(spec, ':') + 1;
    size_t n = strcspn(at, ",");
    if (n >= sizeof text)
        return error_set(err, "'%.60s...': the name is too long", spec);
    snprintf(text, sizeof text, "%.*s", (int)n, at);
    for (const char *p = at + n; *p == ',';) {
        char word[64];
        p++;
        size_t len = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)len, p);
        if (!sock_word(s, word, wait, err))
            return error_prefix(err, "%.100s", spec);
        p += len;
    }
    if (s->server && s->reconnect_ns)
        return error_set(err, "%.100s: reconnect= is for a client", spec);
    return host_addr_parse(text, "127.0.0.1", false, &s->addr, err);
}

Chardev *socket_chr_open(Machine *m, const char *label, const char *spec, Error *err)
{
    SockChr *s = calloc(1, sizeof *s);
    bool wait = true;
    if (!s) {
        error_set(err, "out of memory");
        return NULL;
    }
    s->telnet = !strncmp(spec, "telnet:", 7);
    if (!sock_parse(s, spec, &wait, err) ||
            (s->server && !(s->listener = host_listen(&s->addr, &listener_ops, s, err)))) {
        free(s);
        return NULL;
    }
    chardev_init(&s->chr, &sock_backend, m, label);
    snprintf(s->chr.spec, sizeof s->chr.spec, "%s", spec);
    timer_init(&s->later, m, CLOCK_HOST, on_later, s);
    if (!s->server) {
        connect_now(s);
        return &s->chr;
    }
    set_state(s, "waits for a peer", NULL);
    if (wait && m->thread) {
        HostAddr at;
        char text[64];
        host_socket_local(s->listener, &at);
        host_addr_text(&at, text, sizeof text);
        log_line("%s: the guest waits until somebody connects to %s (nowait lets it start)", label, text);
        s->holds_guest = true;
        machine_park(m);
    }
    return &s->chr;
}
