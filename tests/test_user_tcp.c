/*
 * The user network's TCP: opening and closing from either side, windows, lost segments, resets, forwarded ports,
 * many connections. The guest's end is played by hand, or by a receiver that acknowledges what comes in order.
 */
#include "user_bench.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { PORT = 40000, WEB = 80, ISS = 1000000 };

typedef struct {
    u16 sport, dport;
    u32 seq, ack, window, len, src;
    u8 flags, header;
    const u8 *data;
} Seg;

static u8 big[1 << 20];

static void send_tcp(u32 to, u16 sport, u16 dport, u32 seq, u32 ack, u8 flags, u16 window, const void *data, u32 len)
{
    u8 p[1600];
    u32 header = flags & SYN ? 28 : 20;

    memset(p, 0, header);
    put16(p, sport);
    put16(p + 2, dport);
    put32(p + 4, seq);
    put32(p + 8, ack);
    p[12] = (u8)(header / 4 << 4);
    p[13] = flags;
    put16(p + 14, window);
    if (flags & SYN)
        memcpy(p + 20, "\2\4\5\xb4\1\3\3\7", 8);         /* MSS 1460, a window of 128ths */
    if (len)
        memcpy(p + header, data, len);
    len += header;
    store16(p + 16, ip_sum_end(ip_sum(p, len, ip_pseudo_sum(GUEST, to, PROTO_TCP, len))));
    send_ip(GUEST, to, PROTO_TCP, p, len, 1, 0);
}

static bool parse_tcp(const u8 *f, Seg *s)
{
    const u8 *ip = f + ETH_HEADER, *p = ip + IP_HEADER;
    u32 len = get16(ip + 2) - IP_HEADER;

    if (get16(f + 12) != ETHERTYPE_IP || ip[9] != PROTO_TCP)
        return false;
    CHECK_MSG(!ip_sum_end(ip_sum(p, len, ip_pseudo_sum(get32(ip + 12), get32(ip + 16), PROTO_TCP, len))),
              "its check sum is right");
    *s = (Seg){ get16(p), get16(p + 2), get32(p + 4), get32(p + 8), get16(p + 14), len - (p[12] >> 4) * 4u,
                get32(ip + 12), p[13], (u8)((p[12] >> 4) * 4), p + (p[12] >> 4) * 4 };
    return true;
}

static bool next_tcp(Seg *s)
{
    const u8 *f;
    u32 len;

    while ((f = next_frame(&len)))
        if (parse_tcp(f, s))
            return true;
    *s = (Seg){ 0 };
    return false;
}

/* ---- a connection of the guest's ---- */

typedef struct {
    HostSocket *sock;
    u16 port;
    u32 seq, ack;
} Conn;

static Conn open_conn(u16 port)
{
    Conn c = { .port = port, .seq = ISS + 1 };
    Seg s;

    forget();
    send_tcp(FAR, port, WEB, ISS, 0, SYN, 65535, NULL, 0);
    pass(0);
    c.sock = last_socket();
    CHECK_MSG(!next_tcp(&s), "a SYN is not answered before the host has connected");
    socket_connects(c.sock, true);
    next_tcp(&s);
    CHECK_MSG(s.flags == (SYN | ACK) && s.ack == ISS + 1 && s.header == 28, "then it is, with MSS and scale");
    c.ack = s.seq + 1;
    send_tcp(FAR, port, WEB, c.seq, c.ack, ACK, 512, NULL, 0);
    forget();
    return c;
}

static void test_open_and_close(void)
{
    Conn c = open_conn(PORT);
    Seg s;
    u16 port;

    CHECK_MSG(address_of(&c.sock->to, &port) == FAR && port == WEB, "the host connects to where the guest wants to");
    send_tcp(FAR, PORT, WEB, c.seq, c.ack, ACK, 512, "GET /", 5);
    next_tcp(&s);
    CHECK_MSG(c.sock->sent_bytes == 5 && !memcmp(c.sock->sent, "GET /", 5) && s.ack == c.seq + 5,
              "what the guest sends reaches the socket and is acknowledged");
    socket_gives(c.sock, "hello", 5);
    next_tcp(&s);
    CHECK_MSG(s.len == 5 && !memcmp(s.data, "hello", 5) && s.seq == c.ack && s.ack == c.seq + 5,
              "what the socket gives reaches the guest");
    send_tcp(FAR, PORT, WEB, c.seq + 5, c.ack + 5, ACK | FIN, 512, NULL, 0);
    next_tcp(&s);
    CHECK_MSG(c.sock->shut && !c.sock->closed && s.ack == c.seq + 6, "the guest's end shuts half of the socket");
    socket_gives(c.sock, "rest", 4);
    next_tcp(&s);
    CHECK_MSG(s.len == 4, "the other half still carries data");
    c.sock->ended = true;
    socket_serve(c.sock);
    next_tcp(&s);
    CHECK_MSG((s.flags & FIN) && s.seq == c.ack + 9, "the host's end becomes a FIN");
    send_tcp(FAR, PORT, WEB, c.seq + 6, c.ack + 10, ACK, 512, NULL, 0);
    pass(0);
    CHECK_MSG(c.sock->closed && !c.sock->aborted && user->tcp_count == 0, "then the socket is closed, in order");
}

static void test_host_ends_first(void)
{
    Conn c = open_conn(PORT);
    Seg s;

    c.sock->ended = true;
    socket_gives(c.sock, "bye", 3);
    next_tcp(&s);
    if (s.len == 3 && !(s.flags & FIN))
        next_tcp(&s);
    CHECK_MSG((s.flags & FIN), "the host's end is told with its last bytes");
    send_tcp(FAR, PORT, WEB, c.seq, c.ack + 4, ACK, 512, "more", 4);
    next_tcp(&s);
    CHECK_MSG(c.sock->sent_bytes == 4 && s.ack == c.seq + 4, "the guest goes on sending");
    send_tcp(FAR, PORT, WEB, c.seq + 4, c.ack + 4, ACK | FIN, 512, NULL, 0);
    next_tcp(&s);
    CHECK_MSG(s.ack == c.seq + 5 && c.sock->closed && c.sock->shut, "till it ends, too");
}

static void test_refused(void)
{
    Seg s;

    forget();
    send_tcp(FAR, PORT, WEB, ISS, 0, SYN, 65535, NULL, 0);
    pass(0);
    socket_connects(last_socket(), false);
    next_tcp(&s);
    CHECK_MSG((s.flags & RST) && s.ack == ISS + 1, "a refused connection is a reset");
    connect_fails = true;
    send_tcp(FAR, PORT, WEB, ISS, 0, SYN, 65535, NULL, 0);
    next_tcp(&s);
    connect_fails = false;
    CHECK_MSG((s.flags & RST) && s.ack == ISS + 1, "also one that fails at once");
    int before = socket_count;
    send_tcp(0x7f000001, PORT, WEB, ISS, 0, SYN, 65535, NULL, 0);
    next_tcp(&s);
    CHECK_MSG((s.flags & RST) && socket_count == before, "the host's loopback is not reached by its own name");
    send_tcp(GATEWAY + 20, PORT, WEB, ISS, 0, SYN, 65535, NULL, 0);
    next_tcp(&s);
    CHECK_MSG((s.flags & RST) && socket_count == before, "nor is an address of the network that is nobody's");
    send_tcp(FAR, PORT, WEB, ISS, 77, ACK, 65535, "stray", 5);
    next_tcp(&s);
    CHECK_MSG(s.flags == RST && s.seq == 77, "what belongs to no connection is reset");
    send_tcp(GATEWAY, PORT, WEB, ISS, 0, SYN, 65535, NULL, 0);
    pass(0);
    u16 port;
    CHECK_MSG(address_of(&last_socket()->to, &port) == 0x7f000001, "the gateway is the host's loopback");
    send_tcp(GATEWAY, PORT, WEB, ISS + 1, 0, RST, 0, NULL, 0);
    pass(0);
    CHECK_MSG(last_socket()->closed, "a guest that gives up while it connects closes the socket");
}

static void test_resets(void)
{
    Conn c = open_conn(PORT);
    Seg s;

    send_tcp(FAR, PORT, WEB, c.seq + 100, 0, RST, 0, NULL, 0);
    next_tcp(&s);
    CHECK_MSG(!c.sock->closed && s.flags == ACK && s.ack == c.seq, "a reset with a guessed number is asked about");
    send_tcp(FAR, PORT, WEB, ISS + 5000, 0, SYN, 0, NULL, 0);
    next_tcp(&s);
    CHECK_MSG(!c.sock->closed && s.flags == ACK, "so is a SYN in the middle");
    send_tcp(FAR, PORT, WEB, c.seq, 0, RST, 0, NULL, 0);
    pass(0);
    CHECK_MSG(c.sock->aborted, "a true reset is passed on");
    c = open_conn(PORT);
    c.sock->broken = true;
    socket_serve(c.sock);
    next_tcp(&s);
    CHECK_MSG((s.flags & RST) && s.seq == c.ack && c.sock->closed, "a reset of the host's peer resets the guest");
}

/* ---- windows ---- */

static void test_host_is_slow(void)
{
    Conn c = open_conn(PORT);
    Seg s;
    u32 sent = 0, shown;

    c.sock->room = 1000;
    do {
        send_tcp(FAR, PORT, WEB, c.seq + sent, c.ack, ACK, 512, big + sent, 1460);
        sent += 1460;
        next_tcp(&s);
        shown = s.window << 3;
    } while (sent < 400000 && s.ack == c.seq + sent && shown >= 1460);
    CHECK_MSG(sent > 200000 && sent < 300000 && shown < 1460, "a socket that takes nothing closes the guest's window");
    CHECK_MSG(c.sock->sent_bytes == 1000 && c.sock->blocked, "and is not asked again");
    send_tcp(FAR, PORT, WEB, c.seq + sent, c.ack, ACK, 512, big + sent, 1460);
    next_tcp(&s);
    CHECK_MSG(s.ack - c.seq <= (1 << 18) + 1000, "what lies beyond the window is not taken");
    u32 taken = s.ack - c.seq;
    c.sock->room = ~0u;
    c.sock->ops->writable(c.sock->opaque);
    next_tcp(&s);
    CHECK_MSG(s.window << 3 > 200000, "when it takes again, the window opens without being asked");
    CHECK_MSG(c.sock->sent_bytes == taken && !memcmp(c.sock->sent, big, taken), "all bytes came, in order, once");
    CHECK_MSG(c.sock->sends < 10, "and in few calls: %u", c.sock->sends);
    tcp_close(user);
}

static void test_guest_is_slow(void)
{
    Conn c = open_conn(PORT);
    Seg s;
    u32 got = 0, most = 0;

    send_tcp(FAR, PORT, WEB, c.seq, c.ack, ACK, 365, NULL, 0);          /* 46,720 bytes, 32 segments */
    pass(0);
    socket_gives(c.sock, big, 1000000);
    while (next_tcp(&s)) {
        got += s.len;
        most = s.seq + s.len - c.ack > most ? s.seq + s.len - c.ack : most;
    }
    CHECK_MSG(got == 46720 && most == 46720, "no more comes than the guest's window takes: %u", got);
    CHECK_MSG(c.sock->paused && c.sock->in_bytes > 500000, "the rest waits in the host's socket");
    send_tcp(FAR, PORT, WEB, c.seq, c.ack + 46720, ACK, 0, NULL, 0);
    CHECK_MSG(!next_tcp(&s), "a closed window stops all");
    for (int i = 0; i < 30; i++) {
        pass(70 * SEC);
        if (next_tcp(&s))
            send_tcp(FAR, PORT, WEB, c.seq, c.ack + 46720, ACK, 0, NULL, 0);
        CHECK_MSG(s.len == 1 && s.seq == c.ack + 46720, "a closed window is asked with one byte");
        forget();
    }
    CHECK_MSG(!c.sock->closed, "for as long as the guest answers");
    send_tcp(FAR, PORT, WEB, c.seq, c.ack + 46720, ACK, 512, NULL, 0);
    next_tcp(&s);
    CHECK_MSG(s.len == 1460 && s.seq == c.ack + 46720 && !memcmp(s.data, big + 46720, 1460), "and goes on then");
    tcp_close(user);
}

static void test_silent_guest(void)
{
    Conn c = open_conn(PORT);
    Seg s;
    int tries = 0;

    socket_gives(c.sock, "anybody?", 8);
    for (int i = 0; i < 3000 && !c.sock->closed; i++) {
        pass(SEC);
        while (next_tcp(&s))
            tries += s.len == 8;
    }
    CHECK_MSG(tries > 8 && tries < 15 && c.sock->aborted, "a guest that never answers is given up: %d tries", tries);
}

/* ---- a guest that receives: acknowledges what comes in order ---- */

static struct {
    u32 seq, next, at, losses;
    bool wrong, ended;
} rx;

static void acknowledge(const u8 *frame, u32 len)
{
    Seg s;

    (void)len;
    if (!parse_tcp(frame, &s) || s.dport != PORT)
        return;
    if (s.seq == rx.next) {
        rx.wrong |= memcmp(s.data, big + rx.at, s.len) != 0;
        rx.at += s.len;
        rx.next += s.len;
        if (s.flags & FIN) {
            rx.next++;
            rx.ended = true;
        }
    }
    if (rx.losses && rnd() % rx.losses == 0)
        return;
    send_tcp(FAR, PORT, WEB, rx.seq, rx.next, ACK, 512, NULL, 0);
}

static void receive_all(u32 lose, const char *what)
{
    Conn c = open_conn(PORT);
    u64 begin = bench_now, resent = user->resent;

    memset(&rx, 0, sizeof(rx));
    rx.seq = c.seq;
    rx.next = c.ack;
    rx.losses = lose_every = lose;
    on_frame = acknowledge;
    c.sock->ended = true;
    socket_gives(c.sock, big, sizeof(big));
    for (int i = 0; i < 2000 && !rx.ended; i++) {
        pass(20 * MS);
        socket_serve(c.sock);
    }
    on_frame = NULL;
    lose_every = 0;
    CHECK_MSG(rx.ended && rx.at == sizeof(big) && !rx.wrong, "%s: a megabyte arrives as it was sent: %u", what, rx.at);
    CHECK_MSG(bench_now - begin < 30 * SEC, "%s: in %llu ms", what, (unsigned long long)((bench_now - begin) / MS));
    CHECK_MSG((user->resent > resent) == (lose != 0), "%s: what was lost is sent again, and nothing else", what);
    send_tcp(FAR, PORT, WEB, rx.seq, rx.next, ACK | FIN, 512, NULL, 0);
    pass(0);
    CHECK_MSG(c.sock->closed, "%s: and the connection ends", what);
}

/* The guest sends with losses; it repeats from what was acknowledged last. */
static void test_send_with_losses(void)
{
    Conn c = open_conn(PORT);
    u32 done = 0, size = 300000;
    Seg s;

    for (int turn = 0; turn < 5000 && done < size; turn++) {
        for (u32 at = done; at < size && at < done + 20 * 1460; at += 1460)
            if (rnd() % 10)
                send_tcp(FAR, PORT, WEB, c.seq + at, c.ack, ACK, 512, big + at, at + 1460 < size ? 1460 : size - at);
        while (next_tcp(&s))
            if ((s32)(s.ack - c.seq - done) > 0)
                done = s.ack - c.seq;
    }
    CHECK_MSG(done == size && c.sock->sent_bytes == size && !memcmp(c.sock->sent, big, size),
              "what the guest repeats reaches the host once");
    tcp_close(user);
}

/* ---- many ---- */

static void test_many(void)
{
    u32 open = 0, refused = 0;
    Seg s;

    forget();
    for (u32 i = 0; i < 10000; i++) {
        send_tcp(FAR + i / 5000, (u16)(20000 + i % 5000), WEB, ISS, 0, SYN, 65535, NULL, 0);
        pass(0);
        while (next_tcp(&s))
            refused += !!(s.flags & RST);
    }
    open = user->tcp_count;
    CHECK_MSG(open == TCP_MAX && open + refused == 10000, "half-open connections are bounded: %u, %u refused", open, refused);
    Conn c = { .sock = sockets[(socket_count - 1) % SOCKETS] };
    socket_connects(c.sock, true);
    CHECK_MSG(next_tcp(&s) && s.flags == (SYN | ACK), "the last of them is served like the first");
    tcp_close(user);
    CHECK_MSG(user->tcp_count == 0 && sockets_open == 2, "all of them go");
    for (int i = 0; i < 2000; i++) {
        c = open_conn((u16)(PORT + i % 7));
        send_tcp(FAR, c.port, WEB, c.seq, c.ack, ACK, 512, "x", 1);
        pass(0);
        send_tcp(FAR, c.port, WEB, c.seq + 1, c.ack, RST | ACK, 512, NULL, 0);
        pass(0);
    }
    CHECK_MSG(user->tcp_count == 0 && sockets_open == 2, "2,000 short ones leave nothing behind");
}

static void test_turns(void)
{
    Conn a = open_conn(PORT), b = open_conn(PORT + 1);
    Seg s;
    u32 first = 0, second = 0;

    card_full = true;
    a.sock->piece = b.sock->piece = 65536;
    socket_gives(a.sock, big, sizeof(big));
    socket_gives(b.sock, "short", 5);
    card_full = false;
    net_ready(card);
    for (u32 n = 0; next_tcp(&s); n++) {
        if (s.dport == PORT && !first)
            first = n + 1;
        if (s.dport == PORT + 1 && !second)
            second = n + 1;
    }
    CHECK_MSG(first && second && second < 60, "a long transfer lets a short one pass: %u, %u", first, second);
    tcp_close(user);
}

/* ---- forwarded ports ---- */

static void test_forward(void)
{
    HostSocket *listener = sockets[0];
    Seg s;
    u16 port;

    CHECK_MSG(listener->listening && address_of(&listener->local, &port) == 0x7f000001 && port == 8080,
              "hostfwd= without an address listens on the loopback address");
    CHECK_MSG(sockets[1]->listening && address_of(&sockets[1]->local, &port) == 0 && port == 2222,
              "with 0.0.0.0 on all");
    host_addr_set_ip4(&next_peer, 0x7f000001, 5555);
    peer_waits = true;
    forget();
    socket_serve(listener);
    HostSocket *sock = last_socket();
    next_tcp(&s);
    CHECK_MSG(s.flags == SYN && s.dport == 80 && s.src == GATEWAY && s.sport == 5555, "the guest is called by the gateway");
    u32 iss = s.seq;
    pass(1100 * MS);
    CHECK_MSG(next_tcp(&s) && s.flags == SYN && s.seq == iss, "once more after a second");
    send_tcp(GATEWAY, 80, 5555, ISS, iss + 1, SYN | ACK, 8000, NULL, 0);
    next_tcp(&s);
    CHECK_MSG(s.flags == ACK && s.ack == ISS + 1, "its answer opens the connection");
    socket_gives(sock, "GET", 3);
    next_tcp(&s);
    CHECK_MSG(s.len == 3 && s.seq == iss + 1, "which carries what the peer had sent before");
    peer_waits = true;
    sock->paused = false;
    socket_serve(listener);
    next_tcp(&s);
    CHECK_MSG(s.flags == SYN && s.sport != 5555, "a second peer of the same number gets another port");
    send_tcp(GATEWAY, 80, s.sport, 0, s.seq + 1, RST | ACK, 0, NULL, 0);
    pass(0);
    CHECK_MSG(last_socket()->aborted, "a guest that refuses resets the peer");
    tcp_close(user);
    CHECK_MSG(sock->closed && !listener->closed, "the listener stays");
}

int main(void)
{
    for (u32 i = 0; i < sizeof(big); i++)
        big[i] = (u8)rnd();
    user_bench("user,hostfwd=tcp::8080-:80,hostfwd=tcp:0.0.0.0:2222-:22");
    test_forward();
    test_open_and_close();
    test_host_ends_first();
    test_refused();
    test_resets();
    test_host_is_slow();
    test_guest_is_slow();
    test_silent_guest();
    receive_all(0, "no losses");
    receive_all(50, "one in 50 lost");
    receive_all(10, "one in 10 lost");
    test_send_with_losses();
    test_turns();
    test_many();
    user_bench_end();
    return test_end();
}
