/*
 * The user network's DHCP and BOOTP server: RFC 951, 2131, 2132. Addresses are given in turn, from dhcpstart=
 * on, and belong to a card's address from then on; when all are gone, nobody is answered.
 *
 *      op 1, htype 1, hlen 6, hops | xid | secs, flags | ciaddr | yiaddr | siaddr | giaddr | chaddr (16) |
 *      sname (64) | file (128) | 63 82 53 63 | options: tag, length, value ... ff
 *
 * Not modelled: relays, leases that end.
 */
#include "user_int.h"

#include <stdio.h>
#include <string.h>

enum { AT_FLAGS = 10, AT_CIADDR = 12, AT_YIADDR = 16, AT_SIADDR = 20, AT_CHADDR = 28, AT_SNAME = 44,
       AT_FILE = 108, AT_MAGIC = 236, AT_OPTIONS = 240, REPLY_BYTES = 576 - 28 };
enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM };
enum { OPT_PAD = 0, OPT_MASK = 1, OPT_ROUTER = 3, OPT_DNS = 6, OPT_HOSTNAME = 12, OPT_DOMAIN = 15,
       OPT_REQUESTED = 50, OPT_LEASE = 51, OPT_TYPE = 53, OPT_SERVER = 54, OPT_TFTP_SERVER = 66,
       OPT_BOOT_FILE = 67, OPT_END = 255 };
enum { LEASE_S = 86400 };
#define MAGIC 0x63825363u

typedef struct {
    u8 type;                        /* 0: BOOTP */
    u32 requested, server;
} Asked;

/* ---- leases ---- */

static Lease *lease_of(User *u, const u8 *mac)
{
    for (int i = 0; i < LEASES; i++)
        if (u->lease[i].used && !memcmp(u->lease[i].mac, mac, MAC_LEN))
            return &u->lease[i];
    return NULL;
}

static bool lease_taken(const User *u, u32 ip)
{
    for (int i = 0; i < LEASES; i++)
        if (u->lease[i].used && u->lease[i].ip == ip)
            return true;
    return user_is_ours(u, ip);
}

static Lease *lease_new(User *u, const u8 *mac)
{
    Lease *l = NULL;
    u32 ip = u->cfg.dhcp_start;

    for (int i = 0; i < LEASES && !l; i++)
        l = u->lease[i].used ? NULL : &u->lease[i];
    while (user_is_near(u, ip) && lease_taken(u, ip))
        ip++;
    if (!l || !user_is_near(u, ip) || ip == (u->cfg.net | ~u->cfg.mask))
        return NULL;
    l->ip = ip;
    memcpy(l->mac, mac, MAC_LEN);
    l->used = true;
    return l;
}

/* ---- the question ---- */

static Asked read_options(const u8 *p, u32 len)
{
    Asked a = { 0 };

    for (u32 i = AT_OPTIONS; i < len && p[i] != OPT_END;) {
        if (p[i] == OPT_PAD) {
            i++;
            continue;
        }
        if (len - i < 2 || len - i - 2 < p[i + 1])
            break;
        const u8 *value = p + i + 2;
        if (p[i] == OPT_TYPE && p[i + 1] == 1)
            a.type = *value;
        else if (p[i] == OPT_REQUESTED && p[i + 1] == 4)
            a.requested = get32(value);
        else if (p[i] == OPT_SERVER && p[i + 1] == 4)
            a.server = get32(value);
        i += 2u + p[i + 1];
    }
    return a;
}

/* ---- the answer ---- */

static u8 *put_bytes(u8 *at, u8 tag, const void *value, size_t bytes)
{
    at[0] = tag;
    at[1] = (u8)bytes;
    memcpy(at + 2, value, bytes);
    return at + 2 + bytes;
}

static u8 *put_text(u8 *at, u8 tag, const char *text)
{
    return text[0] ? put_bytes(at, tag, text, strlen(text)) : at;
}

static u8 *put_number(u8 *at, u8 tag, u32 v)
{
    u8 bytes[4];

    put32(bytes, v);
    return put_bytes(at, tag, bytes, 4);
}

static u8 *put_network(const User *u, u8 *at)
{
    at = put_number(at, OPT_MASK, u->cfg.mask);
    if (!u->cfg.restricted) {
        at = put_number(at, OPT_ROUTER, u->cfg.host);
        at = put_number(at, OPT_DNS, u->cfg.dns);
    }
    at = put_text(at, OPT_HOSTNAME, u->cfg.hostname);
    at = put_text(at, OPT_DOMAIN, u->cfg.domain);
    at = put_text(at, OPT_TFTP_SERVER, u->cfg.tftp_server);
    return put_text(at, OPT_BOOT_FILE, u->cfg.boot_file);
}

static void reply(User *u, const u8 *query, u8 type, u32 given)
{
    u8 *p = user_payload(u) + UDP_HEADER, *at = p + AT_OPTIONS;

    memset(p, 0, REPLY_BYTES);
    memcpy(p, query, AT_SIADDR);                /* xid, flags, ciaddr */
    p[0] = 2;
    p[3] = 0;
    put32(p + AT_YIADDR, given);
    put32(p + AT_SIADDR, u->cfg.host);
    memcpy(p + AT_CHADDR, query + AT_CHADDR, 16);
    snprintf((char *)p + AT_FILE, 128, "%s", u->cfg.boot_file);
    put32(p + AT_MAGIC, MAGIC);
    if (type) {
        at = put_bytes(at, OPT_TYPE, &type, 1);
        at = put_number(at, OPT_SERVER, u->cfg.host);
        if (given && type != NAK)
            at = put_number(at, OPT_LEASE, LEASE_S);
    }
    if (type != NAK)
        at = put_network(u, at);
    *at++ = OPT_END;
    u32 len = (u32)(at - p) > REPLY_BYTES ? (u32)(at - p) : REPLY_BYTES;
    /* Who has an address is asked for it by ARP; who has none yet hears a broadcast. */
    bool has = type == ACK && user_is_near(u, get32(query + AT_CIADDR));
    udp_output(u, u->cfg.host, PORT_BOOTPS, has ? get32(query + AT_CIADDR) : IP_BROADCAST, PORT_BOOTPC, len);
}

static void request(User *u, const u8 *p, const Asked *a)
{
    const u8 *mac = p + AT_CHADDR;
    u32 wanted = a->requested ? a->requested : get32(p + AT_CIADDR);
    Lease *l = lease_of(u, mac);

    if (a->server && a->server != u->cfg.host)
        return;                     /* it chose another server */
    if (!l && user_is_near(u, wanted) && !lease_taken(u, wanted) && wanted != u->cfg.net &&
        wanted != (u->cfg.net | ~u->cfg.mask)) {
        l = lease_new(u, mac);      /* an earlier life of this network gave it */
        if (l)
            l->ip = wanted;
    }
    if (l && l->ip == wanted)
        reply(u, p, ACK, l->ip);
    else
        reply(u, p, NAK, 0);
}

void dhcp_input(User *u, const u8 *p, u32 len)
{
    if (len < AT_MAGIC || p[0] != 1 || p[1] != 1 || p[2] != MAC_LEN || (p[AT_CHADDR] & 1)) {
        u->bad_packets++;
        return;
    }
    Asked a = { 0 };
    if (len >= AT_OPTIONS && get32(p + AT_MAGIC) == MAGIC)
        a = read_options(p, len);
    const u8 *mac = p + AT_CHADDR;
    Lease *l = lease_of(u, mac);
    switch (a.type) {
    case 0:
    case DISCOVER:
        if (!l)
            l = lease_new(u, mac);
        if (l)
            reply(u, p, a.type ? OFFER : 0, l->ip);
        break;
    case REQUEST:
        request(u, p, &a);
        break;
    case INFORM:
        if (user_is_near(u, get32(p + AT_CIADDR)))
            reply(u, p, ACK, 0);
        break;
    case RELEASE:
        if (l)
            l->used = false;
        break;
    case DECLINE:
        if (l)
            memset(l->mac, 0, MAC_LEN);         /* somebody has this address: nobody else gets it */
        break;
    }
}
