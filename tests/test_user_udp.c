/* The user network's UDP: flows, names, forwarded ports, restrict=on; and TFTP, with names that must not work. */
#include "user_bench.h"

#include <unistd.h>

enum { FLOW = 3000 };

static char folder[] = "/tmp/test_user_udp.XXXXXX";

static void test_flow(void)
{
    u16 port;
    u32 len, src;

    forget();
    send_udp(GUEST, FLOW, FAR, 7, "question", 8);
    pass(0);
    HostSocket *s = last_socket();
    CHECK_MSG(s->udp && s->sent_bytes == 8 && address_of(&s->sent_to, &port) == FAR && port == 7,
              "a datagram leaves for where the guest sends it");
    send_udp(GUEST, FLOW, FAR + 1, 9, "2", 1);
    pass(0);
    CHECK_MSG(last_socket() == s && s->sent_bytes == 9, "a port of the guest has one socket");
    host_addr_set_ip4(&s->from, FAR + 7, 99);
    socket_gives(s, "answer", 6);
    const u8 *p = next_udp(FLOW, &port, &src, &len);
    CHECK_MSG(p && len == 6 && !memcmp(p, "answer", 6) && src == FAR + 7 && port == 99, "who answers is named");
    host_addr_set_ip4(&s->from, 0x7f000001, 98);
    socket_gives(s, "local", 5);
    p = next_udp(FLOW, &port, &src, &len);
    CHECK_MSG(p && src == GATEWAY && port == 98, "the host itself is the gateway");
    send_udp(GUEST, FLOW, GATEWAY, 7, "in", 2);
    pass(0);
    CHECK_MSG(address_of(&s->sent_to, &port) == 0x7f000001, "and the gateway is the host itself");
    int before = socket_count;
    u32 sent = s->sent_bytes;
    send_udp(GUEST, FLOW, 0x7f000001, 7, "x", 1);
    send_udp(GUEST, FLOW, 0xe0000001, 7, "x", 1);
    send_udp(GUEST, FLOW, IP_BROADCAST, 137, "x", 1);
    send_udp(GUEST, FLOW, GATEWAY | 255, 137, "x", 1);
    pass(0);
    CHECK_MSG(socket_count == before && s->sent_bytes == sent, "loopback, groups and broadcasts are not sent to");
    pass(300 * SEC);
    CHECK_MSG(s->closed && user->udp_count == 0, "a flow that is not used is closed");
}

static void test_large(void)
{
    static u8 data[20000];
    u32 len, got = 0;

    for (u32 i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 5);
    send_udp(GUEST, FLOW, FAR, 7, "?", 1);
    forget();
    HostSocket *s = last_socket();
    host_addr_set_ip4(&s->from, FAR, 7);
    socket_gives(s, data, sizeof(data));
    bool same = true, more = true;
    for (const u8 *f; (f = next_frame(&len));) {
        u32 at = (get16(f + 20) & 0x1fff) * 8, bytes = get16(f + 16) - IP_HEADER;
        for (u32 i = at ? 0 : 8; i < bytes; i++)
            same &= f[34 + i] == data[at + i - 8];
        got += bytes;
        more = get16(f + 20) & 0x2000;
    }
    CHECK_MSG(got == sizeof(data) + 8 && same && !more, "a datagram of 20,000 bytes comes in fragments: %u", got);
    card_full = true;
    s->piece = 1000;
    socket_gives(s, data, sizeof(data));
    for (int i = 0; i < 200; i++)
        socket_gives(s, data, sizeof(data));
    CHECK_MSG(s->paused && s->in_bytes, "a card that takes nothing leaves datagrams in their socket");
    card_full = false;
    net_ready(card);
    pass(0);
    CHECK_MSG(!s->paused, "when it takes them again, so is the socket");
    forget();
}

static void test_names(void)
{
    u16 port;
    u32 len, src;
    u8 query[17] = { 0x12, 0x34, 1, 0, 0, 1 };

    send_udp(GUEST, FLOW + 1, NAMES, 53, query, sizeof(query));
    pass(0);
    HostSocket *s = last_socket();
    CHECK_MSG(address_of(&s->to, &port) == 0x01020304 && port == 53 && s->sent_bytes == sizeof(query),
              "a question for a name goes to the host's name server");
    host_addr_set_ip4(&s->from, 0x01020304, 53);
    socket_gives(s, "reply", 5);
    const u8 *p = next_udp(FLOW + 1, &port, &src, &len);
    CHECK_MSG(p && src == NAMES && port == 53 && len == 5, "its answer comes from the network's name server");
    pass(30 * SEC);
    CHECK_MSG(s->closed, "and the socket goes soon");
    resolver_absent = true;
    pass(10 * SEC);
    send_udp(GUEST, FLOW + 1, NAMES, 53, query, sizeof(query));
    p = next_udp(FLOW + 1, &port, &src, &len);
    CHECK_MSG(p && p[0] == 0x12 && (p[2] & 0x80) && (p[3] & 15) == 2, "without one the guest is told so");
    resolver_absent = false;
    pass(10 * SEC);
    send_udp(GUEST, FLOW + 1, NAMES, 99, query, sizeof(query));
    const u8 *f = next_frame(&len);
    CHECK_MSG(f && f[23] == PROTO_ICMP && f[34] == 3 && f[35] == 3, "another port of it is unreachable");
}

static void test_many(void)
{
    for (int i = 0; i < 3000; i++) {
        send_udp(GUEST, (u16)(10000 + i), FAR, 7, "x", 1);
        pass(0);
    }
    CHECK_MSG(user->udp_count == UDP_FLOWS && sockets_open == UDP_FLOWS + 1, "flows are bounded: %u", user->udp_count);
    pass(300 * SEC);
    CHECK_MSG(user->udp_count == 0, "and go");
}

static void test_forward(void)
{
    HostSocket *s = sockets[0];
    u16 port;
    u32 len, src;

    host_addr_set_ip4(&s->from, 0x7f000001, 5000);
    socket_gives(s, "call", 4);
    const u8 *p = next_udp(69, &port, &src, &len);
    CHECK_MSG(p && src == GATEWAY && port == 5000 && len == 4, "a forwarded datagram reaches the guest");
    int before = socket_count;
    send_udp(GUEST, 69, GATEWAY, 5000, "back", 4);
    pass(0);
    CHECK_MSG(s->sent_bytes == 4 && socket_count == before && address_of(&s->sent_to, &port) == 0x7f000001 && port == 5000,
              "and its answer comes from the forwarded port");
}

/* ---- TFTP ---- */

static u32 ask(const char *name, const char *options, u32 bytes, u16 *from, u8 *reply)
{
    u8 p[600] = { 0, 1 };
    u32 n = 2, len, src;

    memcpy(p + n, name, strlen(name) + 1);
    n += (u32)strlen(name) + 1;
    memcpy(p + n, "octet", 6);
    n += 6;
    memcpy(p + n, options, bytes);
    forget();
    send_udp(GUEST, FLOW, GATEWAY, 69, p, n + bytes);
    pass(0);
    host_io_wait();
    const u8 *r = next_udp(FLOW, from, &src, &len);
    if (!r)
        return 0;
    memcpy(reply, r, len);
    return len;
}

static u32 acknowledge(u16 to, u16 block, u8 *reply)
{
    u8 p[4] = { 0, 4 };
    u16 from;
    u32 len, src;

    put16(p + 2, block);
    send_udp(GUEST, FLOW, GATEWAY, to, p, 4);
    pass(0);
    host_io_wait();
    const u8 *r = next_udp(FLOW, &from, &src, &len);
    if (!r)
        return 0;
    memcpy(reply, r, len);
    return len;
}

static void put_file(const char *name, const u8 *data, size_t bytes)
{
    char path[300];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    fwrite(data, 1, bytes, f);
    fclose(f);
}

static void test_tftp(void)
{
    u8 data[5000], r[1600], got[5000];
    u16 from;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (u8)rnd();
    put_file("boot.bin", data, sizeof(data));
    put_file("even", data, 1024);
    u32 len = ask("boot.bin", "", 0, &from, r), at = 0, block = 1;
    while (len >= 4 && get16(r) == 3 && get16(r + 2) == block) {
        memcpy(got + at, r + 4, len - 4);
        at += len - 4;
        if (block == 3)
            CHECK_MSG(acknowledge(from, 2, r) == 516 && get16(r + 2) == 3, "a block that was lost is sent again");
        len = acknowledge(from, (u16)block++, r);
    }
    CHECK_MSG(at == sizeof(data) && !memcmp(got, data, at) && block == 11, "a file comes in blocks of 512: %u", at);
    len = ask("/even", "tsize\0" "0\0blksize\0" "1024\0", 21, &from, r);
    CHECK_MSG(len == 26 && get16(r) == 6 && !memcmp(r + 2, "tsize\0" "1024\0blksize\0" "1024", 24),
              "size and length of blocks are agreed upon");
    CHECK_MSG(acknowledge(from, 0, r) == 1028 && acknowledge(from, 1, r) == 4, "a file of whole blocks ends with an empty one");
    CHECK_MSG(acknowledge(from, 2, r) == 0 && !user->tftp, "and the transfer is over");
    static const char *const bad[] = { "../etc/passwd", "..", "a/../../x", "a\\..\\x", "c:boot.bin", "boot.bin:x", "/..",
                                       "", "//", "a/.../x", "boot.bin.", "boot.bin ", ".hidden", "x\n", "\\boot.bin" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        len = ask(bad[i], "", 0, &from, r);
        CHECK_MSG(len > 4 && get16(r) == 5 && get16(r + 2) == 2, "\"%s\" is refused", bad[i]);
    }
    CHECK_MSG(ask("absent", "", 0, &from, r) > 4 && get16(r) == 5 && get16(r + 2) == 1, "a file that is not there");
    for (int i = 0; i < 200; i++) {
        send_udp(GUEST, (u16)(9000 + i), GATEWAY, 69, "\0\1boot.bin\0octet", 17);
        pass(0);
        host_io_wait();
    }
    CHECK_MSG(user->tftp_count <= 16, "transfers that nobody goes on with are bounded: %u", user->tftp_count);
    for (int i = 0; i < 20000; i++) {
        u8 p[100];
        u32 n = rnd() % sizeof(p);
        for (u32 k = 0; k < n; k++)
            p[k] = (u8)(rnd() % 4 ? rnd() : 0);
        put16(p, rnd() % 7);
        if (rnd() % 2 && n > 20)
            memcpy(p + 2, "boot.bin\0octet\0blksize", 23);
        send_udp(GUEST, (u16)(FLOW + rnd() % 40), GATEWAY, rnd() % 2 ? 69 : (u16)(49152 + rnd() % 20), p, n);
        if (rnd() % 4 == 0) {
            pass(0);
            host_io_wait();
        }
    }
    CHECK_MSG(true, "requests of random bytes do no harm");
    forget();
}

static void test_restricted(void)
{
    u32 len;

    user->cfg.restricted = true;
    tftp_close(user);
    int before = socket_count;
    forget();
    send_udp(GUEST, FLOW + 9, FAR, 7, "x", 1);
    const u8 *f = next_frame(&len);
    CHECK_MSG(f && f[23] == PROTO_ICMP && f[35] == 13, "restrict=on: the outside is forbidden");
    send_udp(GUEST, FLOW + 9, NAMES, 53, "0123456789abcdef", 16);
    f = next_frame(&len);
    CHECK_MSG(f && f[35] == 13 && socket_count == before, "restrict=on: so are names");
    send_udp(GUEST, 69, GATEWAY, 5000, "back", 4);
    pass(0);
    CHECK_MSG(sockets[0]->sent_bytes == 8, "restrict=on: a forwarded port may still answer");
    send_udp(GUEST, 69, FAR, 5000, "out", 3);
    pass(0);
    CHECK_MSG(sockets[0]->sent_bytes == 8, "restrict=on: but not write to others");
}

int main(void)
{
    char spec[300];

    if (!mkdtemp(folder))
        return 1;
    snprintf(spec, sizeof(spec), "user,tftp=%s,hostfwd=udp::6900-:69", folder);
    user_bench(spec);
    test_flow();
    test_large();
    test_names();
    test_many();
    test_forward();
    test_tftp();
    test_restricted();
    user_bench_end();
    snprintf(spec, sizeof(spec), "%s/boot.bin", folder);
    unlink(spec);
    snprintf(spec, sizeof(spec), "%s/even", folder);
    unlink(spec);
    rmdir(folder);
    return test_end();
}
