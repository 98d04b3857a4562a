/*
 * -net socket,mcast= and udp=: one bare Ethernet frame a datagram, as every QEMU sends and takes them.
 *
 * mcast: several programs join a group, on one computer too. What this one sends comes back to it with the
 * others' frames; it is known by the address of the socket it was sent from, which is not the group's port,
 * and dropped, so that a guest does not hear itself.
 * udp: a cable to one other program; localaddr= is where it is answered.
 *
 * What a guest sends until the main loop's next turn is gathered as in stream.c, and sent a datagram a frame.
 */
#include "net_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 4, OUT_BYTES = 1 << 18, DATAGRAM_MAX = 65507, FRAMES_A_TURN = 64 };

typedef struct {
    Net *net;
    NetPeer *peer;
    HostSocket *in, *out;           /* the same with udp= */
    HostAddr to, own;               /* where `out` sends to and from */
    bool mcast, blocked;
    Timer flush;
    u8 *buf;
    u32 at, end;                    /* frames behind their lengths */
    u64 too_long, lost;
    u8 datagram[65536];
} Dgram;

/* ---- in ---- */

static HostDrain dgram_readable(void *opaque)
{
    Dgram *d = opaque;

    for (int i = 0; i < FRAMES_A_TURN; i++) {
        HostAddr from;
        Error err;
        if (!net_can_send(d->peer)) {
            net_wait_to_send(d->peer);
            return HOST_PAUSED;
        }
        int n = host_recv(d->in, d->datagram, sizeof(d->datagram), &from, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        if (n == HOST_BROKEN)
            d->lost++;              /* an error message of the network about a single datagram */
        else if (n > 0 && !(d->mcast && host_addr_equal(&from, &d->own)))
            net_send(d->peer, d->datagram, (u32)n);
    }
    return HOST_MORE;
}

static void dgram_may_send(void *opaque)
{
    host_socket_resume(((Dgram *)opaque)->in);
}

/* ---- out ---- */

static bool dgram_receive(void *opaque, const u8 *frame, u32 len)
{
    Dgram *d = opaque;

    if (len > DATAGRAM_MAX) {
        d->too_long++;
        return true;
    }
    if (OUT_BYTES - d->end < HEADER + len) {
        memmove(d->buf, d->buf + d->at, d->end - d->at);
        d->end -= d->at;
        d->at = 0;
        if (OUT_BYTES - d->end < HEADER + len)
            return false;
    }
    store32(d->buf + d->end, len);
    memcpy(d->buf + d->end + HEADER, frame, len);
    d->end += HEADER + len;
    if (!d->blocked && !timer_armed(&d->flush))
        timer_arm(&d->flush, clock_ns(d->net->m, CLOCK_HOST));
    return true;
}

static void dgram_flush(void *opaque)
{
    Dgram *d = opaque;
    Error err;

    for (int i = 0; i < FRAMES_A_TURN && d->at < d->end; i++) {
        u32 len = load32(d->buf + d->at);
        int n = host_send(d->out, d->buf + d->at + HEADER, len, &d->to, &err);
        if (n == HOST_AGAIN) {
            d->blocked = true;
            break;
        }
        d->lost += n == HOST_BROKEN;
        d->at += HEADER + len;
    }
    if (d->at == d->end)
        d->at = d->end = 0;
    else if (!d->blocked)
        timer_arm(&d->flush, clock_ns(d->net->m, CLOCK_HOST));
    net_ready(d->peer);
}

static void dgram_writable(void *opaque)
{
    Dgram *d = opaque;

    d->blocked = false;
    dgram_flush(d);
}

static HostDrain ignore(void *opaque)
{
    HostAddr from;
    Error err;
    u8 byte;

    /* Nothing is meant for the socket that multicasts are sent from. */
    return host_recv(((Dgram *)opaque)->out, &byte, 1, &from, &err) == HOST_AGAIN ? HOST_DRAINED : HOST_MORE;
}

/* ---- both ---- */

static void dgram_describe(void *opaque, char *text, size_t size)
{
    Dgram *d = opaque;
    char to[80], own[80];

    host_addr_text(&d->to, to, sizeof(to));
    host_addr_text(&d->own, own, sizeof(own));
    snprintf(text, size, "%s %s from %s, %llu lost, %llu too long", d->mcast ? "multicast" : "udp to", to, own,
             (unsigned long long)d->lost, (unsigned long long)d->too_long);
}

static void dgram_close(void *opaque)
{
    Dgram *d = opaque;

    timer_cancel(&d->flush);
    if (d->out != d->in)
        host_socket_close(d->out);
    host_socket_close(d->in);
    net_leave(d->peer);
    free(d->buf);
    free(d);
}

static const NetPeerOps dgram_ops = { .receive = dgram_receive, .may_send = dgram_may_send,
                                      .close = dgram_close, .describe = dgram_describe };
static const HostSocketOps socket_ops = { .readable = dgram_readable, .writable = dgram_writable };

static Dgram *dgram_new(Machine *m, const HostAddr *to)
{
    Dgram *d = calloc(1, sizeof(*d));
    if (d)
        d->buf = malloc(OUT_BYTES);
    if (!d || !d->buf)
        abort();
    d->net = net_of(m);
    d->to = *to;
    return d;
}

static bool dgram_failed(Dgram *d)
{
    host_socket_close(d->in);
    free(d->buf);
    free(d);
    return false;
}

static bool dgram_join(Dgram *d, int vlan, const char *name)
{
    host_socket_local(d->out, &d->own);
    timer_init(&d->flush, d->net->m, CLOCK_HOST, dgram_flush, d);
    d->peer = net_join(d->net->m, vlan, name, &dgram_ops, d);
    net_watch_sockets(d->net);
    return true;
}

bool dgram_multicast(Machine *m, int vlan, const char *name, const char *group, const char *local, Error *err)
{
    static const HostSocketOps sender_ops = { .readable = ignore, .writable = dgram_writable };
    HostAddr to, iface;

    if (!host_addr_parse(group, NULL, true, &to, err))
        return false;
    if (!host_is_multicast(&to))
        return error_set(err, "%s is no multicast address (224.0.0.0 to 239.255.255.255)", group);
    char with_port[80];
    snprintf(with_port, sizeof(with_port), "%.60s:0", local ? local : "");
    if (local && !host_addr_parse(with_port, NULL, true, &iface, err))
        return false;
    Dgram *d = dgram_new(m, &to);
    d->mcast = true;
    d->in = host_multicast_open(&to, local ? &iface : NULL, &socket_ops, d, err);
    d->out = d->in ? host_udp_open(local ? &iface : NULL, &to, &sender_ops, d, err) : NULL;
    if (!d->out)
        return dgram_failed(d);
    host_multicast_sender(d->out, local ? &iface : NULL);
    return dgram_join(d, vlan, name);
}

bool dgram_udp(Machine *m, int vlan, const char *name, const char *to_text, const char *local, Error *err)
{
    HostAddr to, from;

    if (!local)
        return error_set(err, "udp= needs localaddr=, where the answers come to");
    if (!host_addr_parse(to_text, "127.0.0.1", true, &to, err) ||
        !host_addr_parse(local, "127.0.0.1", true, &from, err))
        return false;
    Dgram *d = dgram_new(m, &to);
    d->in = d->out = host_udp_open(&from, &to, &socket_ops, d, err);
    return d->in ? dgram_join(d, vlan, name) : dgram_failed(d);
}
