/*
 * What the tests of the user network share: a guest that is a few functions, and host sockets that the test
 * holds in its hand. Defines all of hostnet.h, so that no real socket is linked.
 */
#ifndef TESTS_USER_BENCH_H
#define TESTS_USER_BENCH_H

#include "chip_bench.h"

#include "../net/user_int.h"

#define GUEST 0x0a00020fu
#define GATEWAY 0x0a000202u
#define NAMES 0x0a000203u
#define FAR 0x5db8d822u             /* 93.184.216.34 */

/* ---- sockets ---- */

enum { SOCKETS = 5000, SENT = 1 << 20 };

struct HostSocket {
    const HostSocketOps *ops;
    void *opaque;
    HostAddr to, local, sent_to;
    bool listening, udp, connecting, closed, aborted, shut, paused;
    u8 *sent;                       /* what was given to it, all in a row */
    u32 sent_bytes, sends;
    u32 room;                       /* bytes it takes before it says HOST_AGAIN */
    bool blocked;
    const u8 *in;                   /* what host_recv() gives: in pieces of `piece`, one a datagram */
    u32 in_bytes, piece;
    bool ended, broken;             /* behind that */
    HostAddr from;
};

static HostSocket *sockets[SOCKETS];
static int socket_count, sockets_open;
static bool connect_fails, resolver_absent;

static HostSocket *socket_new(const HostSocketOps *ops, void *opaque)
{
    HostSocket *s = calloc(1, sizeof(*s));

    s->ops = ops;
    s->opaque = opaque;
    s->room = ~0u;
    while (sockets[socket_count % SOCKETS] && !sockets[socket_count % SOCKETS]->closed)
        socket_count++;
    free(sockets[socket_count % SOCKETS]);
    sockets[socket_count++ % SOCKETS] = s;
    sockets_open++;
    return s;
}

__attribute__((unused)) static HostSocket *last_socket(void) { return sockets[(socket_count - 1) % SOCKETS]; }

__attribute__((unused)) static u32 address_of(const HostAddr *a, u16 *port)
{
    u32 ip;

    host_addr_ip4(a, &ip, port);
    return ip;
}

HostSocket *host_connect(const HostAddr *to, const HostSocketOps *ops, void *opaque, Error *err)
{
    if (connect_fails || sockets_open > SOCKETS - 10) {
        error_set(err, "refused at once");
        return NULL;
    }
    HostSocket *s = socket_new(ops, opaque);
    s->to = *to;
    s->connecting = true;
    return s;
}

HostSocket *host_listen(const HostAddr *at, const HostSocketOps *ops, void *opaque, Error *err)
{
    (void)err;
    HostSocket *s = socket_new(ops, opaque);
    s->listening = true;
    s->local = *at;
    return s;
}

static HostAddr next_peer;
static bool peer_waits;

HostSocket *host_accept(HostSocket *listener, HostAddr *from, const HostSocketOps *ops, void *opaque)
{
    (void)listener;
    if (!peer_waits)
        return NULL;
    peer_waits = false;
    *from = next_peer;
    return socket_new(ops, opaque);
}

HostSocket *host_udp_open(const HostAddr *local, const HostAddr *to, const HostSocketOps *ops, void *opaque,
                          Error *err)
{
    (void)err;
    HostSocket *s = socket_new(ops, opaque);
    s->udp = true;
    if (local)
        s->local = *local;
    if (to)
        s->to = *to;
    return s;
}

void host_socket_close(HostSocket *s)
{
    if (!s || s->closed)
        return;
    s->closed = true;
    sockets_open--;
    free(s->sent);
    s->sent = NULL;
}

void host_socket_abort(HostSocket *s)
{
    if (s)
        s->aborted = true;
    host_socket_close(s);
}

void host_socket_shutdown(HostSocket *s) { s->shut = true; }
void host_socket_resume(HostSocket *s) { s->paused = false; }
void host_socket_sweep(void) { }
const HostNetStats *host_net_stats(void) { static HostNetStats none; return &none; }

int host_recv(HostSocket *s, void *buf, u32 bytes, HostAddr *from, Error *err)
{
    u32 n = s->in_bytes < s->piece || !s->piece ? s->in_bytes : s->piece;

    CHECK_MSG(!s->closed, "a closed socket is not read");
    if (from)
        *from = s->from;
    if (!n && s->broken) {
        error_set(err, "reset by the peer");
        return HOST_BROKEN;
    }
    if (!n)
        return s->ended ? 0 : HOST_AGAIN;
    if (n > bytes)
        n = bytes;
    memcpy(buf, s->in, n);
    s->in += n;
    s->in_bytes -= n;
    return (int)n;
}

int host_send(HostSocket *s, const void *buf, u32 bytes, const HostAddr *to, Error *err)
{
    (void)err;
    CHECK_MSG(!s->closed && !s->shut, "a closed socket is not written to");
    if (to)
        s->sent_to = *to;
    if (!s->sent)
        s->sent = malloc(SENT);
    u32 n = bytes < s->room ? bytes : s->room;
    if (!n) {
        s->blocked = true;
        return HOST_AGAIN;
    }
    if (s->sent_bytes + n > SENT)
        s->sent_bytes = 0;
    memcpy(s->sent + s->sent_bytes, buf, n);
    s->sent_bytes += n;
    s->room -= n;
    s->sends++;
    return (int)n;
}

bool host_resolver(HostAddr *a)
{
    host_addr_set_ip4(a, 0x01020304, 53);
    return !resolver_absent;
}

/* The main loop's part: readable() as long as it asks for more. */
static void socket_serve(HostSocket *s)
{
    for (int i = 0; i < 10000 && !s->closed && !s->paused; i++) {
        HostDrain r = s->ops->readable(s->opaque);
        if (s->closed || r == HOST_DRAINED)
            return;
        s->paused = r == HOST_PAUSED;
    }
}

__attribute__((unused)) static void socket_connects(HostSocket *s, bool ok)
{
    Error err;

    error_set(&err, "refused");
    s->connecting = false;
    s->ops->connected(s->opaque, ok ? NULL : &err);
}

__attribute__((unused)) static void socket_gives(HostSocket *s, const void *data, u32 bytes)
{
    s->in = data;
    s->in_bytes = bytes;
    socket_serve(s);
}

/* ---- the guest ---- */

enum { KEPT = 256 };
static const u8 guest_mac[MAC_LEN] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
static u8 gateway_mac[MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static NetPeer *card;
static User *user;
static struct { u8 data[1600]; u32 len; } heard[KEPT];
static u32 heard_count, heard_read;
static bool card_full;
static u32 lose_every;              /* of frames to the guest; 0: none */
static void (*on_frame)(const u8 *frame, u32 len);

static bool card_receive(void *opaque, const u8 *frame, u32 len)
{
    (void)opaque;
    if (card_full)
        return false;
    if (lose_every && rnd() % lose_every == 0)
        return true;
    CHECK_MSG(len <= 1514, "frames are no longer than the wire's %u", len);
    if (on_frame)
        on_frame(frame, len);
    u32 at = heard_count++ % KEPT;
    heard[at].len = len;
    memcpy(heard[at].data, frame, len <= 1514 ? len : 1514);
    return true;
}

/* The next frame that was heard; NULL: none. */
static const u8 *next_frame(u32 *len)
{
    pass(0);
    if (heard_read == heard_count)
        return NULL;
    if (heard_count - heard_read > KEPT)
        heard_read = heard_count - KEPT;
    *len = heard[heard_read % KEPT].len;
    return heard[heard_read++ % KEPT].data;
}

__attribute__((unused)) static void forget(void)
{
    pass(0);
    heard_read = heard_count;
}

static void send_frame(u16 type, const u8 *to, const u8 *data, u32 len)
{
    u8 frame[2000];

    memcpy(frame, to, MAC_LEN);
    memcpy(frame + MAC_LEN, guest_mac, MAC_LEN);
    put16(frame + 12, type);
    memcpy(frame + ETH_HEADER, data, len);
    net_send(card, frame, ETH_HEADER + len);
}

/* An IP packet; fragment: the field with flags and offset. */
static void send_ip(u32 from, u32 to, u8 proto, const u8 *data, u32 len, u16 id, u16 fragment)
{
    u8 p[2000];

    memset(p, 0, IP_HEADER);
    p[0] = 0x45;
    put16(p + 2, IP_HEADER + len);
    put16(p + 4, id);
    put16(p + 6, fragment);
    p[8] = 64;
    p[9] = proto;
    put32(p + 12, from);
    put32(p + 16, to);
    store16(p + 10, ip_sum_end(ip_sum(p, IP_HEADER, 0)));
    memcpy(p + IP_HEADER, data, len);
    send_frame(ETHERTYPE_IP, gateway_mac, p, IP_HEADER + len);
}

__attribute__((unused))
static void send_udp(u32 from, u16 sport, u32 to, u16 dport, const void *data, u32 len)
{
    u8 p[1600];

    put16(p, sport);
    put16(p + 2, dport);
    put16(p + 4, UDP_HEADER + len);
    store16(p + 6, 0);
    memcpy(p + UDP_HEADER, data, len);
    store16(p + 6, ip_sum_end(ip_sum(p, UDP_HEADER + len, ip_pseudo_sum(from, to, PROTO_UDP, UDP_HEADER + len))));
    send_ip(from, to, PROTO_UDP, p, UDP_HEADER + len, 1, 0);
}

/* The payload of the next frame that is a sound datagram of this protocol and port; others are passed over. */
__attribute__((unused)) static const u8 *next_udp(u16 dport, u16 *sport, u32 *src, u32 *len)
{
    const u8 *f;

    while ((f = next_frame(len))) {
        const u8 *ip = f + ETH_HEADER, *p = ip + IP_HEADER;
        if (get16(f + 12) != ETHERTYPE_IP || ip[9] != PROTO_UDP || get16(p + 2) != dport)
            continue;
        u32 bytes = get16(p + 4);
        CHECK_MSG(!ip_sum_end(ip_sum(ip, IP_HEADER, 0)) &&
                      !ip_sum_end(ip_sum(p, bytes, ip_pseudo_sum(get32(ip + 12), get32(ip + 16), PROTO_UDP, bytes))),
                  "its check sums are right");
        *sport = get16(p);
        *src = get32(ip + 12);
        *len = bytes - UDP_HEADER;
        return p + UDP_HEADER;
    }
    return NULL;
}

static void send_arp(u16 what, u32 from, u32 to)
{
    u8 a[28] = { 0, 1, 8, 0, 6, 4 };

    put16(a + 6, what);
    memcpy(a + 8, guest_mac, MAC_LEN);
    put32(a + 14, from);
    put32(a + 24, to);
    send_frame(ETHERTYPE_ARP, (const u8 *)"\xff\xff\xff\xff\xff\xff", a, sizeof(a));
}

/* A machine with a card and a user network as `spec` says, whose guest has made itself known. */
__attribute__((unused)) static void user_bench(const char *spec)
{
    static const NetPeerOps ops = { .receive = card_receive };
    Error err = { "" };

    bench_machine(NULL);
    card = net_join(m, 0, "card", &ops, NULL);
    CHECK_MSG(user_open(m, 0, "user.0", spec, &err), "%s: %s", spec, err.text);
    user = m->net->user;
    send_arp(1, GUEST, GATEWAY);
    u32 len;
    const u8 *f = next_frame(&len);
    if (f)
        memcpy(gateway_mac, f + 6, MAC_LEN);
    forget();
}

__attribute__((unused)) static void user_bench_end(void)
{
    net_leave(card);
    net_close(m);
    CHECK_MSG(sockets_open == 0, "in the end no socket is left open: %d", sockets_open);
    for (int i = 0; i < SOCKETS; i++)
        free(sockets[i]);
    clocks_run(m, false);
}

#endif
