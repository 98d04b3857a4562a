/*
 * The user network's place on the VLAN: takes the guest's frames, answers ARP for the addresses that stand for
 * the host, and finds the guest's own (RFC 826).
 *
 *      10.0.2.2   the gateway, which is the host's loopback address        10.0.2.3   its name server
 *      10.0.2.15  the first guest that asks for an address                 ...        guestfwd= addresses
 *
 * A guest sends on the vCPU thread; sockets belong to the main thread. So frames are gathered and served at the
 * main loop's next turn, many at a time: what they carry for one connection leaves in one call.
 *
 * Not modelled: IPv6, more than one guest network behind the gateway, proxies.
 */
#include "user_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_BYTES = 1 << 19, LENGTH = 4, ARP_BYTES = 28, ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { RESOLVER_AGE_S = 5 };

static const u8 broadcast_mac[MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* ---- which address is whose ---- */

bool user_is_ours(const User *u, u32 ip)
{
    if (ip == u->cfg.host || ip == u->cfg.dns)
        return true;
    for (const Forward *f = u->forwards; f; f = f->next)
        if (!f->to_guest && f->ip == ip)
            return true;
    return false;
}

const HostAddr *user_resolver(User *u)
{
    u64 now = clock_ns(u->net->m, CLOCK_HOST);

    if (!u->resolver_at || now - u->resolver_at > RESOLVER_AGE_S * NS_PER_SEC) {
        if (!host_resolver(&u->resolver))
            u->resolver.len = 0;
        u->resolver_at = now | 1;
    }
    return u->resolver.len ? &u->resolver : NULL;
}

bool user_outside(User *u, u32 ip, u16 port, bool udp, HostAddr *a)
{
    for (const Forward *f = u->forwards; f; f = f->next)
        if (!f->to_guest && f->ip == ip && f->port == port && f->udp == udp) {
            *a = f->at;
            return true;
        }
    if (u->cfg.restricted)
        return false;
    if (ip == u->cfg.dns) {
        const HostAddr *r = port == PORT_DNS ? user_resolver(u) : NULL;
        if (r)
            *a = *r;
        return r;
    }
    if (ip == u->cfg.host) {
        host_addr_set_ip4(a, IP_LOOPBACK, port);
        return true;
    }
    if (user_is_near(u, ip) || ip >> 24 == 127 || ip >> 24 == 0 || ip >> 28 >= 14)
        return false;
    host_addr_set_ip4(a, ip, port);
    return true;
}

void user_inside(User *u, const HostAddr *a, u32 *ip, u16 *port)
{
    if (!host_addr_ip4(a, ip, port))
        *ip = u->cfg.host;          /* an IPv6 peer of a forwarded port */
    if (*ip >> 24 == 127 || user_is_near(u, *ip))
        *ip = u->cfg.host;
}

/* ---- out: to the guest ---- */

static Neighbour *neighbour(User *u, u32 ip)
{
    Neighbour *oldest = &u->near[0];

    for (int i = 0; i < NEIGHBOURS; i++) {
        Neighbour *n = &u->near[i];
        if (n->ip == ip) {
            n->used = ++u->tick;
            return n;
        }
        if (n->used < oldest->used)
            oldest = n;
    }
    oldest->ip = ip;
    oldest->known = false;
    oldest->waiting = 0;
    oldest->used = ++u->tick;
    return oldest;
}

static void frame_head(User *u, u8 *frame, const u8 *to, u16 type)
{
    memcpy(frame, to, MAC_LEN);
    memcpy(frame + 6, u->mac, MAC_LEN);
    put16(frame + 12, type);
}

static void arp_send(User *u, u16 what, u32 from, const u8 *to_mac, u32 to)
{
    u8 frame[ETH_HEADER + ARP_BYTES], *a = frame + ETH_HEADER;

    frame_head(u, frame, what == ARP_REQUEST ? broadcast_mac : to_mac, ETHERTYPE_ARP);
    put16(a, 1);                    /* Ethernet */
    put16(a + 2, ETHERTYPE_IP);
    a[4] = MAC_LEN;
    a[5] = 4;
    put16(a + 6, what);
    memcpy(a + 8, u->mac, MAC_LEN);
    put32(a + 14, from);
    if (what == ARP_REQUEST)
        memset(a + 18, 0, MAC_LEN);
    else
        memcpy(a + 18, to_mac, MAC_LEN);
    put32(a + 24, to);
    net_send(u->peer, frame, sizeof(frame));
}

void user_send_packet(User *u, u32 to, u32 len)
{
    if (to == IP_BROADCAST) {
        frame_head(u, u->out, broadcast_mac, ETHERTYPE_IP);
        net_send(u->peer, u->out, ETH_HEADER + len);
        return;
    }
    Neighbour *n = neighbour(u, to);
    if (n->known) {
        frame_head(u, u->out, n->mac, ETHERTYPE_IP);
        net_send(u->peer, u->out, ETH_HEADER + len);
        return;
    }
    if (!n->packet && !(n->packet = malloc(ETH_HEADER + IP_MTU)))
        abort();
    n->waiting = len <= IP_MTU ? ETH_HEADER + len : 0;
    memcpy(n->packet, u->out, n->waiting);
    arp_send(u, ARP_REQUEST, u->cfg.host, NULL, to);
}

static void heard(User *u, u32 ip, const u8 *mac)
{
    if (!user_is_near(u, ip) || user_is_ours(u, ip) || (mac[0] & 1))
        return;
    Neighbour *n = neighbour(u, ip);
    memcpy(n->mac, mac, MAC_LEN);
    n->known = true;
    if (n->waiting) {
        u32 len = n->waiting;
        n->waiting = 0;
        frame_head(u, n->packet, n->mac, ETHERTYPE_IP);
        net_send(u->peer, n->packet, len);
    }
}

/* ---- in: from the guest ---- */

static void arp_input(User *u, const u8 *a, u32 len)
{
    if (len < ARP_BYTES || get16(a) != 1 || get16(a + 2) != ETHERTYPE_IP || a[4] != MAC_LEN || a[5] != 4) {
        u->bad_packets++;
        return;
    }
    u32 from = get32(a + 14), asked = get32(a + 24);
    heard(u, from, a + 8);
    if (get16(a + 6) == ARP_REQUEST && user_is_ours(u, asked) && from != asked)
        arp_send(u, ARP_REPLY, asked, a + 8, from);
}

static void frame_input(User *u, const u8 *frame, u32 len)
{
    if (len < ETH_HEADER || ((frame[0] & 1) == 0 && memcmp(frame, u->mac, MAC_LEN)))
        return;
    u32 rest = len - ETH_HEADER;
    const u8 *p = frame + ETH_HEADER;
    switch (get16(frame + 12)) {
    case ETHERTYPE_ARP:
        arp_input(u, p, rest);
        break;
    case ETHERTYPE_IP:
        if (rest >= IP_HEADER)
            heard(u, get32(p + 12), frame + 6);
        ip_input(u, p, rest);
        break;
    }
}

static void work(void *opaque)
{
    User *u = opaque;

    u->working = true;
    for (u32 at = 0; at < u->in_end;) {
        u32 len = load32(u->in + at);
        frame_input(u, u->in + at + LENGTH, len);
        at += LENGTH + len;
    }
    u->in_end = 0;
    u->working = false;
    if (!u->waiting)
        tcp_serve(u);
    net_ready(u->peer);
}

void user_work_soon(User *u)
{
    if (!timer_armed(&u->work))
        timer_arm(&u->work, clock_ns(u->net->m, CLOCK_HOST));
}

static bool user_receive(void *opaque, const u8 *frame, u32 len)
{
    User *u = opaque;

    if (IN_BYTES - u->in_end < LENGTH + len)
        return false;
    store32(u->in + u->in_end, len);
    memcpy(u->in + u->in_end + LENGTH, frame, len);
    u->in_end += LENGTH + len;
    if (!u->working)
        user_work_soon(u);
    return true;
}

bool user_may_send(User *u)
{
    if (net_can_send(u->peer))
        return true;
    u->waiting = true;
    net_wait_to_send(u->peer);
    return false;
}

static void may_send(void *opaque)
{
    User *u = opaque;

    u->waiting = false;
    udp_resume(u);
    tcp_serve(u);
}

/* ---- the whole ---- */

static void describe(void *opaque, char *text, size_t size)
{
    User *u = opaque;
    char net[16];

    user_ip_text(u->cfg.net, net);
    snprintf(text, size, "user network %s/%d%s, %u TCP connections (%llu so far, %llu refused), %u UDP flows, "
             "%llu segments sent again, %llu bad packets", net, __builtin_popcount(u->cfg.mask),
             u->cfg.restricted ? ", restricted" : "", u->tcp_count, (unsigned long long)u->tcp_seen,
             (unsigned long long)u->tcp_refused, u->udp_count, (unsigned long long)u->resent,
             (unsigned long long)u->bad_packets);
}

static void user_close(void *opaque)
{
    User *u = opaque;

    user_forwards_close(u);
    tcp_close(u);
    udp_close(u);
    tftp_close(u);
    ip_fragments_free(u);
    timer_cancel(&u->work);
    if (u->net->user == u)
        u->net->user = NULL;
    net_leave(u->peer);
    for (int i = 0; i < NEIGHBOURS; i++)
        free(u->near[i].packet);
    free(u->in);
    free(u);
}

User *user_create(Machine *m, int vlan, const char *name, const UserConfig *cfg)
{
    static const NetPeerOps ops = { .receive = user_receive, .may_send = may_send, .close = user_close,
                                    .describe = describe };
    User *u = calloc(1, sizeof(*u));

    if (u)
        u->in = malloc(IN_BYTES);
    if (!u || !u->in)
        abort();
    u->net = net_of(m);
    u->cfg = *cfg;
    snprintf(u->name, sizeof(u->name), "%s", name);
    put16(u->mac, 0x5255);          /* locally administered, with the gateway's address behind it */
    put32(u->mac + 2, cfg->host);
    u->queue_tail = &u->queue;
    timer_init(&u->work, m, CLOCK_HOST, work, u);
    u->peer = net_join(m, vlan, name, &ops, u);
    net_watch_sockets(u->net);
    if (!u->net->user)
        u->net->user = u;
    return u;
}
