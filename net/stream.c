/*
 * -net socket,listen= and connect=: frames over TCP, each behind its length.
 *
 *      +-- 4 bytes, big-endian --+-- that many bytes --+
 *      | length of the frame     | Ethernet frame      |  and the next
 *
 * That is the wire of every QEMU. A listener takes any number of peers; each is a member of the VLAN of its
 * own. The end that connects tries again as long as nobody is there, once a second. A length over
 * NET_FRAME_MAX means that the other end speaks something else: it is disconnected, with a line that says so;
 * frames of length 0 are passed over.
 *
 * What comes is read in large pieces and handed to the VLAN where it lies. What goes out is gathered: the
 * frames that a guest sends until the main loop's next turn leave in one call.
 */
#include "net_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { HEADER = 4, IN_BYTES = 2 * (NET_FRAME_MAX + HEADER), OUT_BYTES = 4 * (NET_FRAME_MAX + HEADER) };
enum { READS_A_TURN = 8, PEERS_MAX = 1000 };
#define RETRY_NS NS_PER_SEC

typedef struct Listener Listener;

typedef struct {
    Net *net;
    NetPeer *peer;
    HostSocket *sock;               /* NULL: waiting for the next attempt */
    Listener *listener;             /* whose child it is; NULL: this end connects */
    HostAddr addr;
    char name[48];
    bool up, blocked;               /* connected; the socket takes no more at the moment */
    bool said;                      /* that nobody is there, once an outage */
    Timer retry, flush;
    u8 *in, *out;
    u32 in_at, in_end, out_at, out_end;
} Stream;

struct Listener {
    Net *net;
    NetPeer *peer;
    HostSocket *sock;
    HostAddr addr;
    char name[40];
    int vlan;
    u32 peers, serial;
    bool closed;
};

static const HostSocketOps stream_socket_ops;

/* ---- a connection's life ---- */

static Stream *stream_new(Net *n, const char *name, const HostAddr *addr)
{
    Stream *s = calloc(1, sizeof(*s));
    if (s) {
        s->in = malloc(IN_BYTES);
        s->out = malloc(OUT_BYTES);
    }
    if (!s || !s->in || !s->out)
        abort();
    s->net = n;
    s->addr = *addr;
    snprintf(s->name, sizeof(s->name), "%s", name);
    return s;
}

static void stream_free(Stream *s)
{
    timer_cancel(&s->retry);
    timer_cancel(&s->flush);
    host_socket_close(s->sock);
    net_leave(s->peer);
    if (s->listener && --s->listener->peers == 0 && s->listener->closed)
        free(s->listener);
    free(s->in);
    free(s->out);
    free(s);
}

/* The connection has ended: a child goes, the end that connects begins anew. */
static void stream_lost(Stream *s, const char *why)
{
    char text[80];

    host_addr_text(&s->addr, text, sizeof(text));
    if (s->up || !s->said)
        log_line("%s: %s: %s%s", s->name, text, why, s->listener ? "" : "; trying again");
    if (s->listener) {
        stream_free(s);
        return;
    }
    host_socket_close(s->sock);
    s->sock = NULL;
    s->up = s->blocked = false;
    s->said = true;
    s->in_at = s->in_end = s->out_at = s->out_end = 0;
    timer_arm(&s->retry, clock_ns(s->net->m, CLOCK_HOST) + RETRY_NS);
    net_ready(s->peer);
}

/* ---- from the socket to the VLAN ---- */

static u32 load_be32(const u8 *p)
{
    return __builtin_bswap32(load32(p));
}

typedef enum { PARSED_ALL, PARSED_WAIT, PARSED_BAD } Parsed;

static Parsed parse(Stream *s)
{
    while (s->in_end - s->in_at >= HEADER) {
        u32 len = load_be32(s->in + s->in_at);
        if (len > NET_FRAME_MAX)
            return PARSED_BAD;
        if (s->in_end - s->in_at - HEADER < len)
            break;
        if (!net_can_send(s->peer))
            return PARSED_WAIT;
        if (len)
            net_send(s->peer, s->in + s->in_at + HEADER, len);
        s->in_at += HEADER + len;
    }
    memmove(s->in, s->in + s->in_at, s->in_end - s->in_at);
    s->in_end -= s->in_at;
    s->in_at = 0;
    return PARSED_ALL;
}

static HostDrain stream_readable(void *opaque)
{
    Stream *s = opaque;
    Error err = { "" };

    for (int i = 0; i < READS_A_TURN; i++) {
        switch (parse(s)) {
        case PARSED_ALL:
            break;
        case PARSED_WAIT:
            net_wait_to_send(s->peer);
            return HOST_PAUSED;
        case PARSED_BAD:
            stream_lost(s, "disconnected: what it sends are no frames (length over 69632)");
            return HOST_DRAINED;
        }
        int n = host_recv(s->sock, s->in + s->in_end, IN_BYTES - s->in_end, NULL, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        if (n <= 0) {
            stream_lost(s, n == 0 ? "the other end has closed the connection" : err.text);
            return HOST_DRAINED;
        }
        s->in_end += (u32)n;
    }
    return HOST_MORE;
}

static void stream_may_send(void *opaque)
{
    Stream *s = opaque;

    if (s->sock)
        host_socket_resume(s->sock);
}

/* ---- from the VLAN to the socket ---- */

static bool stream_receive(void *opaque, const u8 *frame, u32 len)
{
    Stream *s = opaque;

    if (!s->up)
        return true;                /* the cable ends in the air */
    if (OUT_BYTES - s->out_end < HEADER + len) {
        memmove(s->out, s->out + s->out_at, s->out_end - s->out_at);
        s->out_end -= s->out_at;
        s->out_at = 0;
        if (OUT_BYTES - s->out_end < HEADER + len)
            return false;
    }
    store32(s->out + s->out_end, __builtin_bswap32(len));
    memcpy(s->out + s->out_end + HEADER, frame, len);
    s->out_end += HEADER + len;
    if (!s->blocked && !timer_armed(&s->flush))
        timer_arm(&s->flush, clock_ns(s->net->m, CLOCK_HOST));
    return true;
}

static void stream_flush(void *opaque)
{
    Stream *s = opaque;
    Error err = { "" };

    while (s->up && !s->blocked && s->out_at < s->out_end) {
        int n = host_send(s->sock, s->out + s->out_at, s->out_end - s->out_at, NULL, &err);
        if (n == HOST_BROKEN) {
            stream_lost(s, err.text);
            return;
        }
        if (n == HOST_AGAIN)
            s->blocked = true;
        else
            s->out_at += (u32)n;
    }
    if (s->out_at == s->out_end)
        s->out_at = s->out_end = 0;
    net_ready(s->peer);
}

static void stream_writable(void *opaque)
{
    Stream *s = opaque;

    s->blocked = false;
    stream_flush(s);
}

static void stream_describe(void *opaque, char *text, size_t size)
{
    Stream *s = opaque;
    char addr[80];

    host_addr_text(&s->addr, addr, sizeof(addr));
    snprintf(text, size, "%s %s%s", s->listener ? "connection from" : "connect to", addr,
             s->up ? "" : " (not connected, trying)");
}

static void stream_close(void *opaque)
{
    stream_free(opaque);
}

static const NetPeerOps stream_ops = { .receive = stream_receive, .may_send = stream_may_send,
                                       .close = stream_close, .describe = stream_describe };

static void stream_join(Stream *s, int vlan, void (*retry)(void *opaque))
{
    s->peer = net_join(s->net->m, vlan, s->name, &stream_ops, s);
    timer_init(&s->retry, s->net->m, CLOCK_HOST, retry, s);
    timer_init(&s->flush, s->net->m, CLOCK_HOST, stream_flush, s);
}

/* ---- connect= ---- */

static void stream_connected(void *opaque, const Error *err)
{
    Stream *s = opaque;

    if (err) {
        stream_lost(s, err->text);
        return;
    }
    char text[80];
    host_addr_text(&s->addr, text, sizeof(text));
    log_line("%s: connected to %s", s->name, text);
    s->up = true;
    s->said = false;
}

static const HostSocketOps stream_socket_ops = { .readable = stream_readable, .writable = stream_writable,
                                                 .connected = stream_connected };

static void stream_try(void *opaque)
{
    Stream *s = opaque;
    Error err = { "" };

    s->sock = host_connect(&s->addr, &stream_socket_ops, s, &err);
    if (!s->sock)
        stream_lost(s, err.text);
    net_watch_sockets(s->net);
}

bool stream_connect(Machine *m, int vlan, const char *name, const char *to, Error *err)
{
    HostAddr addr;

    if (!host_addr_parse(to, "127.0.0.1", false, &addr, err))
        return false;
    Stream *s = stream_new(net_of(m), name, &addr);
    stream_join(s, vlan, stream_try);
    stream_try(s);
    return true;
}

/* ---- listen= ---- */

static void never(void *opaque)
{
    (void)opaque;
}

static bool accept_one(Listener *l)
{
    static const HostSocketOps refuse;
    HostAddr from;
    char text[80], name[64];

    if (l->peers == PEERS_MAX) {
        HostSocket *sock = host_accept(l->sock, &from, &refuse, NULL);
        host_socket_close(sock);
        return sock;
    }
    snprintf(name, sizeof(name), "%s.%u", l->name, ++l->serial);
    Stream *s = stream_new(l->net, name, &l->addr);
    s->listener = l;
    s->sock = host_accept(l->sock, &s->addr, &stream_socket_ops, s);
    if (!s->sock) {
        l->serial--;
        free(s->in);
        free(s->out);
        free(s);
        return false;
    }
    l->peers++;
    s->up = true;
    stream_join(s, l->vlan, never);
    host_addr_text(&s->addr, text, sizeof(text));
    log_line("%s: %s has connected", l->name, text);
    return true;
}

static HostDrain listener_readable(void *opaque)
{
    for (int i = 0; i < READS_A_TURN; i++)
        if (!accept_one(opaque))
            return HOST_DRAINED;
    return HOST_MORE;
}

static bool listener_receive(void *opaque, const u8 *frame, u32 len)
{
    (void)opaque;
    (void)frame;
    (void)len;
    return true;                    /* its connections are members of their own */
}

static void listener_describe(void *opaque, char *text, size_t size)
{
    Listener *l = opaque;
    char addr[80];

    host_addr_text(&l->addr, addr, sizeof(addr));
    snprintf(text, size, "listening on %s, %u connected", addr, l->peers);
}

static void listener_close(void *opaque)
{
    Listener *l = opaque;

    host_socket_close(l->sock);
    net_leave(l->peer);
    l->closed = true;
    if (!l->peers)
        free(l);                    /* or else with the last of its connections */
}

bool stream_listen(Machine *m, int vlan, const char *name, const char *at, Error *err)
{
    static const HostSocketOps ops = { .readable = listener_readable };
    static const NetPeerOps peer_ops = { .receive = listener_receive, .close = listener_close,
                                         .describe = listener_describe };
    HostAddr addr;

    if (!host_addr_parse(at, "127.0.0.1", false, &addr, err))
        return false;
    Listener *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    l->net = net_of(m);
    l->vlan = vlan;
    snprintf(l->name, sizeof(l->name), "%s", name);
    l->sock = host_listen(&addr, &ops, l, err);
    if (!l->sock) {
        free(l);
        return false;
    }
    host_socket_local(l->sock, &l->addr);
    l->peer = net_join(m, vlan, name, &peer_ops, l);
    net_watch_sockets(l->net);
    return true;
}
