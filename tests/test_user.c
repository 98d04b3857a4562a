/* The user network: addresses, ARP, ping, DHCP, fragments, its option, and packets of a hostile guest. */
#include "user_bench.h"

static void test_arp(void)
{
    u32 len;

    send_arp(1, GUEST, NAMES);
    const u8 *f = next_frame(&len);
    CHECK_MSG(f && get16(f + 12) == ETHERTYPE_ARP && get16(f + 20) == 2 && get32(f + 28) == NAMES,
              "the name server's address is answered for");
    send_arp(1, GUEST, GUEST);
    CHECK_MSG(!next_frame(&len), "the guest's own is not");
    send_arp(1, GUEST, GATEWAY + 50);
    CHECK_MSG(!next_frame(&len), "an address that nobody has is not");
}

static u32 ping(u32 to, u32 bytes, u8 *reply)
{
    static u8 p[1480];
    u32 len;

    memset(p, 0, 8);
    p[0] = 8;
    for (u32 i = 8; i < bytes; i++)
        p[i] = (u8)i;
    store16(p + 2, ip_sum_end(ip_sum(p, bytes, 0)));
    send_ip(GUEST, to, PROTO_ICMP, p, bytes, 1, 0);
    const u8 *f = next_frame(&len);
    if (!f || f[ETH_HEADER + 9] != PROTO_ICMP)
        return 0;
    len = get16(f + ETH_HEADER + 2) - IP_HEADER;
    memcpy(reply, f + ETH_HEADER + IP_HEADER, len);
    return len;
}

static void test_ping(void)
{
    u8 reply[1600];

    CHECK_MSG(ping(GATEWAY, 64, reply) == 64 && reply[0] == 0 && reply[63] == 63 && !ip_sum_end(ip_sum(reply, 64, 0)),
              "the gateway answers a ping with the same bytes");
    CHECK_MSG(ping(NAMES, 1480, reply) == 1480, "the name server one of 1480 bytes");
    CHECK_MSG(!ping(FAR, 64, reply) && !ping(GATEWAY + 9, 64, reply), "who is not there does not");
}

/* ---- DHCP ---- */

static u32 make_dhcp(u8 *p, u8 type, const u8 *mac, u32 requested)
{
    memset(p, 0, 300);
    p[0] = p[1] = 1;
    p[2] = 6;
    put32(p + 4, 0x12345678);
    memcpy(p + 28, mac, MAC_LEN);
    put32(p + 236, 0x63825363);
    u8 *o = p + 240;
    if (type) {
        *o++ = 53;
        *o++ = 1;
        *o++ = type;
    }
    if (requested) {
        *o++ = 50;
        *o++ = 4;
        put32(o, requested);
        o += 4;
    }
    *o = 255;
    return 300;
}

/* The answer's options of one tag; NULL: none. */
static const u8 *option(const u8 *p, u32 len, u8 tag)
{
    for (u32 i = 240; i + 1 < len && p[i] != 255; i += p[i] ? 2u + p[i + 1] : 1)
        if (p[i] == tag)
            return p + i;
    return NULL;
}

static const u8 *dhcp(u8 type, const u8 *mac, u32 requested, u32 *len)
{
    u8 p[300];
    u16 sport;
    u32 src;

    forget();
    send_udp(0, 68, IP_BROADCAST, 67, p, make_dhcp(p, type, mac, requested));
    return next_udp(68, &sport, &src, len);
}

static void test_dhcp(void)
{
    static const u8 other[6] = { 0x52, 0x54, 0, 0, 0, 9 };
    u32 len;

    const u8 *p = dhcp(1, guest_mac, 0, &len);
    CHECK_MSG(p && get32(p + 16) == GUEST && get32(p + 4) == 0x12345678 && option(p, len, 53)[2] == 2,
              "the first guest is offered 10.0.2.15");
    p = dhcp(3, guest_mac, GUEST, &len);
    CHECK_MSG(p && option(p, len, 53)[2] == 5 && get32(option(p, len, 3) + 2) == GATEWAY &&
                  get32(option(p, len, 6) + 2) == NAMES && get32(option(p, len, 1) + 2) == 0xffffff00,
              "and is told gateway, name server and mask");
    CHECK_MSG(p && !memcmp(option(p, len, 12) + 2, "box", 3) && !strcmp((const char *)p + 108, "boot.bin"),
              "and its name and the boot file");
    p = dhcp(1, other, 0, &len);
    CHECK_MSG(p && get32(p + 16) == GUEST + 1, "the second one gets the next address");
    p = dhcp(3, other, GUEST, &len);
    CHECK_MSG(p && option(p, len, 53)[2] == 6, "who asks for another's address is refused");
    p = dhcp(0, other, 0, &len);
    CHECK_MSG(p && get32(p + 16) == GUEST + 1 && !option(p, len, 53), "BOOTP is answered as BOOTP");
    u8 mac[6] = { 2, 0, 0, 0, 0, 0 };
    u32 answers = 0;
    for (int i = 0; i < 300; i++) {
        put16(mac + 4, (u32)i);
        answers += dhcp(1, mac, 0, &len) != NULL;
    }
    CHECK_MSG(answers == LEASES - 2, "there are %u addresses, and then no answer", answers);
}

/* ---- fragments ---- */

static void test_fragments(void)
{
    u8 p[3000];
    u32 len;

    memset(p, 0, sizeof(p));
    p[0] = 8;
    for (u32 i = 8; i < sizeof(p); i++)
        p[i] = (u8)(i * 3);
    store16(p + 2, ip_sum_end(ip_sum(p, sizeof(p), 0)));
    forget();
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p + 1480, 1480, 7, 0x2000 | 185);
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p + 2960, 40, 7, 370);
    CHECK_MSG(!next_frame(&len), "fragments wait for the first");
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p, 1480, 7, 0x2000);
    u32 got = 0, frames = 0;
    bool same = true;
    for (const u8 *f; (f = next_frame(&len)); frames++) {
        u32 at = (get16(f + 20) & 0x1fff) * 8, bytes = get16(f + 16) - IP_HEADER;
        for (u32 i = 0; i < bytes; i++)
            same &= at + i < 8 || f[34 + i] == p[at + i];
        got += bytes;
    }
    CHECK_MSG(got == 3000 && frames == 3 && same, "a ping of 3,000 bytes comes back in fragments: %u in %u", got, frames);
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p, 1480, 8, 0x2000);
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p + 1000, 1480, 8, 0x2000 | 125);
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p + 1480, 1480, 8, 0x2000 | 185);
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p + 2960, 40, 8, 370);
    CHECK_MSG(!next_frame(&len), "fragments that overlap are no datagram");
    send_ip(GUEST, GATEWAY, PROTO_ICMP, p, 1480, 9, 0x1fff);
    for (int i = 0; i < 1000; i++)
        send_ip(GUEST, GATEWAY, PROTO_ICMP, p, 8, (u16)(1000 + i), 0x2000);
    send_ip(GUEST, FAR, 99, p, 8, 5000, 0x2000);
    send_ip(GUEST, GATEWAY, 99, p, 8, 5001, 0x2000);
    send_ip(GUEST, GATEWAY, 99, p, 1, 5001, 1);
    const u8 *f = next_frame(&len);
    CHECK_MSG(f && f[34] == 3 && f[35] == 2, "an unknown protocol is answered by ICMP, also in fragments");
}

/* ---- its option ---- */

static bool opens(const char *spec, const char *complaint)
{
    Error err = { "" };
    int before = sockets_open;

    bool ok = user_open(m, 5, "other", spec, &err);
    CHECK_MSG(complaint ? !ok && strstr(err.text, complaint) : ok, "%s: %s", spec, err.text);
    return ok && sockets_open >= before;
}

static void test_option(void)
{
    opens("user,net=192.168.7.0/24,host=192.168.7.1,dns=192.168.7.2,dhcpstart=192.168.7.100", NULL);
    opens("user,net=10.0.2.0/255.255.0.0,hostname=a", NULL);
    opens("user,net=10.0.2.0/33", "net=");
    opens("user,net=10.0.2.0/30", "net=");
    opens("user,net=10.0.2.256", "net=");
    opens("user,net=10.0.2.0/255.0.255.0", "net=");
    opens("user,host=10.0.3.2", "addresses of the network");
    opens("user,host=10.0.2.3", "different");
    opens("user,restrict=maybe", "on or off");
    opens("user,nonsense=1", "unknown key");
    opens("user,hostfwd=tcp::8080-:80,hostfwd=udp:127.0.0.1:53-10.0.2.20:53", NULL);
    opens("user,hostfwd=tcp::8080", "hostfwd=");
    opens("user,hostfwd=icmp::8080-:80", "hostfwd=");
    opens("user,hostfwd=tcp::8080-:0", "hostfwd=");
    opens("user,hostfwd=tcp::8080-10.9.9.9:80", "not in its network");
    opens("user,guestfwd=tcp:10.0.2.100:80-tcp:127.0.0.1:80", NULL);
    opens("user,guestfwd=tcp:10.0.2.15:80-tcp:127.0.0.1:80", "no guest has");
    opens("user,smb=c:\\x,ipv6=off", NULL);
    char text[400] = "user,tftp=";
    memset(text + 10, 'a', 380);
    opens(text, "too long");
}

/* ---- RELIABILITY R14 ---- */

static void test_junk(void)
{
    static const u16 types[] = { ETHERTYPE_IP, ETHERTYPE_IP, ETHERTYPE_IP, ETHERTYPE_ARP, 0x86dd };
    static const u8 protos[] = { PROTO_ICMP, PROTO_UDP, PROTO_TCP, 99 };
    static const u16 ports[] = { 53, 67, 69, 80, 1234 };
    u8 p[1500];

    for (int i = 0; i < 60000; i++) {
        u32 len = rnd() % (rnd() % 4 ? 90 : sizeof(p)), header = IP_HEADER;
        for (u32 k = 0; k < sizeof(p); k++)
            p[k] = (u8)rnd();
        if (rnd() % 8 && len >= 28) {           /* sound so far that more of it is read */
            p[0] = rnd() % 16 ? 0x45 : (u8)(0x40 | rnd() % 16);
            header = (p[0] & 15) * 4u;
            put16(p + 2, rnd() % 16 ? len : rnd());
            put16(p + 6, rnd() % 4 ? 0 : rnd());
            p[9] = protos[rnd() % ARRAY_LEN(protos)];
            put32(p + 12, rnd() % 8 ? GUEST : rnd());
            put32(p + 16, rnd() % 4 ? GATEWAY + rnd() % 3 : rnd());
            if (header >= IP_HEADER && header + 24 <= len) {
                put16(p + header + 2, ports[rnd() % ARRAY_LEN(ports)]);
                if (p[9] == PROTO_UDP)
                    put16(p + header + 4, rnd() % 8 ? len - header : rnd());
                p[header + 12] = rnd() % 4 ? 0x50 : (u8)rnd();
                u32 at = header + (p[9] == PROTO_TCP ? 16 : p[9] == PROTO_UDP ? 6 : 2);
                store16(p + at, 0);
                u32 seed = p[9] == PROTO_ICMP ? 0 :
                           ip_pseudo_sum(get32(p + 12), get32(p + 16), p[9], len - header);
                store16(p + at, ip_sum_end(ip_sum(p + header, len - header, seed)));
            }
            if (header >= IP_HEADER && header <= len) {
                store16(p + 10, 0);
                store16(p + 10, ip_sum_end(ip_sum(p, header, 0)));
            }
        }
        send_frame(types[rnd() % ARRAY_LEN(types)], rnd() % 8 ? gateway_mac : p, p, len);
        if (rnd() % 16 == 0)
            pass(rnd() % (rnd() % 50 ? 1000000 : 3 * SEC));
        if (rnd() % 64 == 0)
            for (int s = socket_count > 20 ? socket_count - 20 : 0; s < socket_count; s++) {
                HostSocket *sock = sockets[s % SOCKETS];
                if (!sock->closed && sock->connecting && rnd() % 4 == 0)
                    socket_connects(sock, rnd() & 1);
            }
    }
    CHECK_MSG(user->tcp_count <= TCP_MAX && user->udp_count <= UDP_FLOWS, "junk opens no more than it may");
    CHECK_MSG(user->bad_packets > 1000, "and is counted: %llu", (unsigned long long)user->bad_packets);
}

int main(void)
{
    user_bench("user,hostname=box,bootfile=boot.bin,tftp=.,domainname=example.org");
    test_arp();
    test_ping();
    test_dhcp();
    test_fragments();
    test_option();
    test_junk();
    user_bench_end();
    return test_end();
}
