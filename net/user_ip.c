/*
 * The user network's IPv4: headers and check sums (RFC 791, 1071), fragments, ICMP (RFC 792).
 *
 * Fragments that overlap make the whole datagram void: no sender does that by accident. At most FRAGMENTS
 * datagrams wait for the rest of themselves, for half a minute.
 *
 * Not modelled: IP options (passed over), ICMP to other computers than the gateway, path MTU discovery.
 */
#include "user_int.h"

#include <stdlib.h>
#include <string.h>

enum { DATAGRAM = 65536, MAP_BYTES = DATAGRAM / 8 / 8, WAIT_S = 30 };
enum { MORE_FRAGMENTS = 0x2000, DONT_FRAGMENT = 0x4000, OFFSET = 0x1fff, TTL = 64 };
enum { ICMP_ECHO_REPLY = 0, ICMP_UNREACHABLE = 3, ICMP_ECHO = 8, ICMP_TIME_EXCEEDED = 11, ICMP_HEADER = 8 };
enum { IP_HEADER_MAX = 60, QUOTED = 8 };

/* ---- check sums ---- */

u32 ip_sum(const void *data, u32 bytes, u32 sum)
{
    const u8 *p = data;
    u64 total = sum;

    for (; bytes >= 16; bytes -= 16, p += 16)
        total += (u64)load32(p) + load32(p + 4) + load32(p + 8) + load32(p + 12);
    for (; bytes >= 2; bytes -= 2, p += 2)
        total += load16(p);
    if (bytes)
        total += *p;
    total = (total & 0xffffffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    return (u32)((total & 0xffff) + (total >> 16));
}

/* As stored: the sum of little-endian words is the same with its bytes exchanged. */
u16 ip_sum_end(u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16)~sum;
}

u32 ip_pseudo_sum(u32 src, u32 dst, u8 proto, u32 len)
{
    u8 head[12];

    put32(head, src);
    put32(head + 4, dst);
    head[8] = 0;
    head[9] = proto;
    put16(head + 10, len);
    return ip_sum(head, sizeof(head), 0);
}

/* ---- out ---- */

static void send_part(User *u, u32 src, u32 dst, u8 proto, u32 len, u16 fragment)
{
    u8 *p = u->out + ETH_HEADER;

    p[0] = 0x45;
    p[1] = 0;
    put16(p + 2, IP_HEADER + len);
    put16(p + 4, u->ip_id);
    put16(p + 6, fragment);
    p[8] = TTL;
    p[9] = proto;
    store16(p + 10, 0);
    put32(p + 12, src);
    put32(p + 16, dst);
    store16(p + 10, ip_sum_end(ip_sum(p, IP_HEADER, 0)));
    user_send_packet(u, dst, IP_HEADER + len);
}

void ip_output(User *u, u32 src, u32 dst, u8 proto, u32 len)
{
    u->ip_id++;
    send_part(u, src, dst, proto, len, proto == PROTO_TCP ? DONT_FRAGMENT : 0);
}

void ip_output_large(User *u, u32 src, u32 dst, u8 proto, u32 len)
{
    enum { PART = (IP_MTU - IP_HEADER) & ~7 };

    if (len <= IP_MTU - IP_HEADER) {
        ip_output(u, src, dst, proto, len);
        return;
    }
    u->ip_id++;
    u8 *data = user_payload(u);
    for (u32 at = 0; at < len; at += PART) {
        u32 part = len - at < PART ? len - at : PART;
        memmove(data, data + at, part);         /* what lies before `at` has been sent */
        send_part(u, src, dst, proto, part, (u16)(at / 8 | (at + part < len ? MORE_FRAGMENTS : 0)));
    }
}

/* ---- ICMP ---- */

static void icmp_send(User *u, u32 src, u32 dst, u32 len)
{
    u8 *p = user_payload(u);

    store16(p + 2, 0);
    store16(p + 2, ip_sum_end(ip_sum(p, len, 0)));
    ip_output_large(u, src, dst, PROTO_ICMP, len);
}

/* An error about `packet`, never about another ICMP message or a broadcast. */
static void icmp_error(User *u, const u8 *packet, u32 len, u8 type, u8 code)
{
    u32 head = (packet[0] & 15) * 4u, part = head + QUOTED < len ? head + QUOTED : len;
    u8 *p = user_payload(u);

    if (packet[9] == PROTO_ICMP || get32(packet + 16) >> 28 >= 14 || get32(packet + 12) == 0)
        return;
    p[0] = type;
    p[1] = code;
    store32(p + 4, 0);
    memcpy(p + ICMP_HEADER, packet, part);
    icmp_send(u, u->cfg.host, get32(packet + 12), ICMP_HEADER + part);
}

void icmp_unreachable(User *u, const u8 *packet, u32 len, u8 code)
{
    icmp_error(u, packet, len, ICMP_UNREACHABLE, code);
}

static void icmp_input(User *u, u32 src, u32 dst, const u8 *p, u32 len)
{
    if (len < ICMP_HEADER || len > UDP_MAX || ip_sum_end(ip_sum(p, len, 0))) {
        u->bad_packets++;
        return;
    }
    if (p[0] != ICMP_ECHO || !user_is_ours(u, dst))
        return;
    memcpy(user_payload(u), p, len);
    user_payload(u)[0] = ICMP_ECHO_REPLY;
    icmp_send(u, dst, src, len);
}

/* ---- in ---- */

/* segment: what the datagram carries; packet: its header, with `header` bytes, and QUOTED bytes if it has them. */
static void deliver(User *u, const u8 *packet, u32 header, const u8 *segment, u32 len)
{
    u32 src = get32(packet + 12), dst = get32(packet + 16);

    if (!src && packet[9] != PROTO_UDP) {
        u->bad_packets++;           /* who has no address yet may ask for one, that is all */
        return;
    }
    switch (packet[9]) {
    case PROTO_ICMP:
        icmp_input(u, src, dst, segment, len);
        break;
    case PROTO_TCP:
        tcp_input(u, src, dst, segment, len);
        break;
    case PROTO_UDP:
        udp_input(u, src, dst, packet, segment, len);
        break;
    default:
        if (user_is_ours(u, dst))
            icmp_unreachable(u, packet, header + len, 2);
        break;
    }
}

static Fragments *fragments_of(User *u, const u8 *p)
{
    u64 now = clock_ns(u->net->m, CLOCK_HOST);
    Fragments *use = NULL;

    for (int i = 0; i < FRAGMENTS; i++) {
        Fragments *f = &u->frag[i];
        if (f->used && now - f->since > WAIT_S * NS_PER_SEC)
            f->used = false;
        if (f->used && f->id == get16(p + 4) && f->proto == p[9] && f->src == get32(p + 12) &&
            f->dst == get32(p + 16))
            return f;
        if (!use || !f->used || (use->used && f->since < use->since))
            use = f;
    }
    if (!use->data) {
        use->data = malloc(DATAGRAM);
        use->map = malloc(MAP_BYTES);
        if (!use->data || !use->map)
            abort();
    }
    memset(use->map, 0, MAP_BYTES);
    use->src = get32(p + 12);
    use->dst = get32(p + 16);
    use->id = get16(p + 4);
    use->proto = p[9];
    use->total = use->have = 0;
    use->since = now;
    use->used = true;
    return use;
}

/* Marks the eighths; false: one was there already. */
static bool mark(Fragments *f, u32 first, u32 count)
{
    for (u32 i = first; i < first + count; i++) {
        if (f->map[i / 8] >> (i % 8) & 1)
            return false;
        f->map[i / 8] |= (u8)(1 << i % 8);
    }
    return true;
}

static void fragment_input(User *u, const u8 *p, u32 header, u32 len)
{
    u16 field = get16(p + 6);
    u32 at = (field & OFFSET) * 8u, end = at + len;
    bool last = !(field & MORE_FRAGMENTS);
    Fragments *f = fragments_of(u, p);

    if (!len || end > DATAGRAM - IP_HEADER || (!last && len % 8) || (f->total && end > f->total) ||
        (last && f->total) || !mark(f, at / 8, (len + 7) / 8)) {
        f->used = false;            /* and with it all that came before */
        u->bad_packets++;
        return;
    }
    memcpy(f->data + at, p + header, len);
    f->have += len;
    if (last)
        f->total = end;
    if (!f->total || f->have != f->total) {
        f->used = !f->total || f->have < f->total;
        return;
    }
    u8 packet[IP_HEADER_MAX + QUOTED];
    f->used = false;
    memcpy(packet, p, header);
    memcpy(packet + header, f->data, QUOTED);
    deliver(u, packet, header, f->data, f->total);
}

void ip_input(User *u, const u8 *p, u32 len)
{
    u32 header = len ? (p[0] & 15) * 4u : 0, total = len >= IP_HEADER ? get16(p + 2) : 0;

    if (len < IP_HEADER || p[0] >> 4 != 4 || header < IP_HEADER || total < header || total > len ||
        ip_sum_end(ip_sum(p, header, 0))) {
        u->bad_packets++;
        return;
    }
    u32 src = get32(p + 12), dst = get32(p + 16);
    if (src && (!user_is_near(u, src) || user_is_ours(u, src))) {
        u->bad_packets++;           /* nobody else lives there, and none speaks for us */
        return;
    }
    if (p[8] <= 1 && !user_is_near(u, dst) && dst != IP_BROADCAST) {
        icmp_error(u, p, total, ICMP_TIME_EXCEEDED, 0);
        return;
    }
    if (get16(p + 6) & (MORE_FRAGMENTS | OFFSET))
        fragment_input(u, p, header, total - header);
    else
        deliver(u, p, header, p + header, total - header);
}

void ip_fragments_free(User *u)
{
    for (int i = 0; i < FRAGMENTS; i++) {
        free(u->frag[i].data);
        free(u->frag[i].map);
    }
}
