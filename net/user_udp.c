/*
 * The user network's UDP (RFC 768) and its name server. Each port of the guest that sends has a socket of the
 * host, so that anybody who is sent to can answer, and from the same port. A socket that nothing passes through
 * for some minutes is closed; beyond UDP_FLOWS of them the one that was used longest ago is.
 *
 * What goes to the name server's address goes to the host's own name server, unread. If the host has none, the
 * guest is told "server failure" (RFC 1035, 4.1.1) at once.
 *
 * Not modelled: ICMP errors that the host's network answers with; broadcasts of the guest reach nobody.
 */
#include "user_int.h"

#include <stdlib.h>
#include <string.h>

enum { DATAGRAMS_A_TURN = 64, IDLE_S = 240, DNS_IDLE_S = 20, DNS_HEADER = 12, SERVER_FAILURE = 2 };
enum { UNREACHABLE_PORT = 3, UNREACHABLE_FORBIDDEN = 13 };

struct UdpFlow {
    User *user;
    UdpFlow *next;                  /* the one used last is the first */
    HostSocket *sock;
    u32 ip;                         /* the guest's end */
    u16 port;
    bool dns, paused;
    u64 last;                       /* CLOCK_HOST */
};

/* ---- to the guest ---- */

void udp_output(User *u, u32 src, u16 sport, u32 dst, u16 dport, u32 len)
{
    u8 *p = user_payload(u);

    len += UDP_HEADER;
    put16(p, sport);
    put16(p + 2, dport);
    put16(p + 4, len);
    store16(p + 6, 0);
    u16 sum = ip_sum_end(ip_sum(p, len, ip_pseudo_sum(src, dst, PROTO_UDP, len)));
    store16(p + 6, sum ? sum : 0xffff);         /* zero means that there is none */
    ip_output_large(u, src, dst, PROTO_UDP, len);
}

/* Datagrams of a socket go to the guest's ip and port. to_forward: they came to a forwarded port. */
static HostDrain receive(User *u, HostSocket *sock, Forward *to_forward, UdpFlow *flow)
{
    u32 ip = flow ? flow->ip : to_forward->ip;
    u16 port = flow ? flow->port : to_forward->port;

    for (int i = 0; i < DATAGRAMS_A_TURN; i++) {
        HostAddr from;
        Error err;
        u32 src;
        u16 sport;
        if (!user_may_send(u)) {
            *(flow ? &flow->paused : &to_forward->paused) = true;
            return HOST_PAUSED;
        }
        int n = host_recv(sock, user_payload(u) + UDP_HEADER, UDP_MAX - UDP_HEADER, &from, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        if (n == HOST_BROKEN)
            continue;               /* about a datagram that reached nobody */
        user_inside(u, &from, &src, &sport);
        if (to_forward) {
            to_forward->peer = from;
            to_forward->peer_ip = src;
            to_forward->peer_port = sport;
        } else if (flow->dns) {
            src = u->cfg.dns;
            sport = PORT_DNS;
        }
        udp_output(u, src, sport, ip, port, (u32)n);
    }
    return HOST_MORE;
}

/* ---- flows ---- */

static void flow_free(User *u, UdpFlow *f)
{
    UdpFlow **at = &u->udp;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    u->udp_count--;
    host_socket_close(f->sock);
    free(f);
}

static u64 flow_end(const UdpFlow *f)
{
    return f->last + (f->dns ? DNS_IDLE_S : IDLE_S) * NS_PER_SEC;
}

static void look_at_idle(void *opaque)
{
    User *u = opaque;
    u64 now = clock_ns(u->net->m, CLOCK_HOST), next = TIMER_NEVER;

    for (UdpFlow *f = u->udp, *after; f; f = after) {
        after = f->next;
        if (flow_end(f) <= now)
            flow_free(u, f);
        else if (flow_end(f) < next)
            next = flow_end(f);
    }
    if (next != TIMER_NEVER)
        timer_arm(&u->udp_idle, next);
}

static void touch(UdpFlow *f)
{
    User *u = f->user;
    UdpFlow **at = &u->udp;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->next = u->udp;
    u->udp = f;
    f->last = clock_ns(u->net->m, CLOCK_HOST);
    if (!u->udp_idle.fire)
        timer_init(&u->udp_idle, u->net->m, CLOCK_HOST, look_at_idle, u);
    if (!timer_armed(&u->udp_idle) || flow_end(f) < u->udp_idle.when)
        timer_arm(&u->udp_idle, flow_end(f));
}

static HostDrain flow_readable(void *opaque)
{
    UdpFlow *f = opaque;

    touch(f);
    return receive(f->user, f->sock, NULL, f);
}

static UdpFlow *flow_new(User *u, u32 ip, u16 port, const HostAddr *dns)
{
    static const HostSocketOps ops = { .readable = flow_readable };
    UdpFlow *f = calloc(1, sizeof(*f)), *oldest = u->udp;
    HostAddr any;
    Error err;

    if (!f)
        abort();
    while (u->udp_count >= UDP_FLOWS && oldest->next)
        oldest = oldest->next;
    if (u->udp_count >= UDP_FLOWS)
        flow_free(u, oldest);
    f->user = u;
    f->ip = ip;
    f->port = port;
    f->dns = dns;
    host_addr_set_ip4(&any, 0, 0);
    f->sock = host_udp_open(dns ? NULL : &any, dns, &ops, f, &err);
    if (!f->sock) {
        free(f);
        return NULL;
    }
    f->next = u->udp;
    u->udp = f;
    u->udp_count++;
    net_watch_sockets(u->net);
    return f;
}

static UdpFlow *flow_of(User *u, u32 ip, u16 port, const HostAddr *dns)
{
    for (UdpFlow *f = u->udp; f; f = f->next)
        if (f->port == port && f->ip == ip && f->dns == !!dns)
            return f;
    return flow_new(u, ip, port, dns);
}

void udp_resume(User *u)
{
    for (UdpFlow *f = u->udp; f; f = f->next)
        if (f->paused) {
            f->paused = false;
            host_socket_resume(f->sock);
        }
    for (Forward *f = u->forwards; f; f = f->next)
        if (f->paused) {
            f->paused = false;
            host_socket_resume(f->sock);
        }
}

void udp_close(User *u)
{
    while (u->udp)
        flow_free(u, u->udp);
    if (u->udp_idle.fire)
        timer_cancel(&u->udp_idle);
}

/* ---- hostfwd= ---- */

static HostDrain forward_readable(void *opaque)
{
    Forward *f = opaque;

    return receive(f->user, f->sock, f, NULL);
}

bool udp_forward_open(Forward *f, Error *err)
{
    static const HostSocketOps ops = { .readable = forward_readable };

    f->sock = host_udp_open(&f->at, NULL, &ops, f, err);
    return f->sock;
}

/* The guest's end of a forwarded port answers from the host's end. */
static Forward *forward_from(User *u, u32 ip, u16 port)
{
    for (Forward *f = u->forwards; f; f = f->next)
        if (f->udp && f->to_guest && f->ip == ip && f->port == port)
            return f;
    return NULL;
}

/* ---- from the guest ---- */

static void no_name_server(User *u, u32 src, u16 sport, const u8 *query, u32 len)
{
    u8 *p = user_payload(u) + UDP_HEADER;

    if (len < DNS_HEADER || len > 512 || query[2] & 0x80)
        return;
    memcpy(p, query, len);
    p[2] |= 0x80;                   /* an answer */
    p[3] = (u8)((p[3] & 0x70) | SERVER_FAILURE);
    udp_output(u, u->cfg.dns, PORT_DNS, src, sport, len);
}

/* The socket that a datagram leaves by, and where to; NULL: by none. */
static HostSocket *way_out(User *u, u32 src, u16 sport, u32 dst, u16 dport, HostAddr *to, bool *connected)
{
    bool dns = dst == u->cfg.dns && dport == PORT_DNS;
    Forward *back = forward_from(u, src, sport);

    *connected = dns;
    if (back && back->peer.len && back->peer_ip == dst && back->peer_port == dport) {
        *to = back->peer;
        return back->sock;
    }
    if (!user_outside(u, dst, dport, true, to))
        return NULL;
    if (back && !dns)
        return back->sock;
    UdpFlow *f = flow_of(u, src, sport, dns ? to : NULL);
    if (f)
        touch(f);
    return f ? f->sock : NULL;
}

static void pass_on(User *u, u32 src, u16 sport, u32 dst, u16 dport, const u8 *data, u32 len, const u8 *packet)
{
    u32 quoted = (packet[0] & 15) * 4u + UDP_HEADER;
    bool connected;
    HostAddr to;
    Error err;

    if (dst == u->cfg.dns && dport == PORT_DNS && !u->cfg.restricted && !user_resolver(u)) {
        no_name_server(u, src, sport, data, len);
        return;
    }
    HostSocket *sock = way_out(u, src, sport, dst, dport, &to, &connected);
    if (sock)                                   /* what finds no room there is lost, as on a wire */
        host_send(sock, data, len, connected ? NULL : &to, &err);
    else if (dst != (u->cfg.net | ~u->cfg.mask) && dst >> 28 < 14)
        icmp_unreachable(u, packet, quoted, u->cfg.restricted ? UNREACHABLE_FORBIDDEN : UNREACHABLE_PORT);
}

void udp_input(User *u, u32 src, u32 dst, const u8 *packet, const u8 *p, u32 len)
{
    u32 bytes = len >= UDP_HEADER ? get16(p + 4) : 0;

    if (bytes < UDP_HEADER || bytes > len || bytes > UDP_MAX ||
        (load16(p + 6) && ip_sum_end(ip_sum(p, bytes, ip_pseudo_sum(src, dst, PROTO_UDP, bytes))))) {
        u->bad_packets++;
        return;
    }
    u16 sport = get16(p), dport = get16(p + 2);
    bool to_us = dst == u->cfg.host || dst == IP_BROADCAST || dst == (u->cfg.net | ~u->cfg.mask);
    p += UDP_HEADER;
    len = bytes - UDP_HEADER;
    if (to_us && dport == PORT_BOOTPS)
        dhcp_input(u, p, len);
    else if (!src)
        u->bad_packets++;
    else if (dst == u->cfg.host && u->cfg.tftp[0] && dport == PORT_TFTP)
        tftp_input(u, src, sport, p, len);
    else if (dst != u->cfg.host || !u->cfg.tftp[0] || !tftp_answer(u, src, sport, dport, p, len))
        pass_on(u, src, sport, dst, dport, p, len, packet);
}
