/*
 * Sockets of hostnet.h and the VLAN's TCP as they are on this host: the same test natively (test_net.c) and on
 * Windows (test_win_net.c), which bring turn(), a turn of the main loop, and handles(), how many are open.
 */
#ifndef TESTS_NET_SOCKETS_H
#define TESTS_NET_SOCKETS_H

#include "test.h"

#include "../core/vm/host.h"
#include "../core/vm/hostnet.h"
#include "../core/vm/machine.h"
#include "../net/net_int.h"

#include <stdlib.h>
#include <string.h>

static Machine *m;
static void turn(unsigned most_ms);
static unsigned handles(void);

#define UNTIL(cond) do { \
        u64 end_ = host_now_ns() + 30 * NS_PER_SEC; \
        while (!(cond) && host_now_ns() < end_) \
            turn(20); \
        CHECK(cond); \
    } while (0)

enum { PAIRS_MAX = 500 };

/* ---- one end of a connection ---- */

typedef struct {
    HostSocket *sock;
    u64 got;
    u32 sum;                        /* of what came */
    bool connected, refused, ended, broken, writable, deaf;
} End;

static HostDrain end_readable(void *opaque)
{
    End *e = opaque;
    static u8 buf[65536];
    Error err;

    if (e->deaf)
        return HOST_PAUSED;
    for (int i = 0; i < 4; i++) {
        int n = host_recv(e->sock, buf, sizeof(buf), NULL, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        if (n <= 0) {
            e->ended = n == 0;
            e->broken = n != 0;
            return HOST_PAUSED;
        }
        e->got += (u32)n;
        for (int k = 0; k < n; k++)
            e->sum = e->sum * 31 + buf[k];
    }
    return HOST_MORE;
}

static void end_writable(void *opaque) { ((End *)opaque)->writable = true; }

static void end_connected(void *opaque, const Error *err)
{
    End *e = opaque;

    e->connected = !err;
    e->refused = err;
}

static const HostSocketOps end_ops = { end_readable, end_writable, end_connected };

static End accepted[PAIRS_MAX], caller[PAIRS_MAX];
static int accepts;
static HostSocket *listener;
static HostAddr listener_at;

static HostDrain listener_readable(void *opaque)
{
    HostAddr from;

    (void)opaque;
    while (accepts < PAIRS_MAX) {
        End *e = &accepted[accepts];
        memset(e, 0, sizeof(*e));
        e->sock = host_accept(listener, &from, &end_ops, e);
        if (!e->sock)
            return HOST_DRAINED;
        accepts++;
    }
    return HOST_PAUSED;
}

static void listen_anywhere(void)
{
    static const HostSocketOps ops = { .readable = listener_readable };
    Error err = { "" };
    HostAddr a;

    host_addr_set_ip4(&a, 0x7f000001, 0);
    listener = host_listen(&a, &ops, NULL, &err);
    CHECK_MSG(listener, "a listener on a free port: %s", err.text);
    host_socket_local(listener, &listener_at);
    accepts = 0;
}

static void call(End *e)
{
    Error err = { "" };

    memset(e, 0, sizeof(*e));
    e->sock = host_connect(&listener_at, &end_ops, e, &err);
    CHECK_MSG(e->sock, "a connection is begun: %s", err.text);
}

static void hang_up(int count)
{
    for (int i = 0; i < count; i++) {
        host_socket_close(caller[i].sock);
        host_socket_close(accepted[i].sock);
    }
    accepts = 0;
    host_socket_resume(listener);
}

/* ---- many sockets ---- */

static int all(int count, bool (*has)(const End *e), const End *list)
{
    int n = 0;

    for (int i = 0; i < count; i++)
        n += has(&list[i]);
    return n;
}

static bool is_connected(const End *e) { return e->connected; }
static bool has_word(const End *e) { return e->got == 5; }
static bool has_answer(const End *e) { return e->got == 4; }
static bool has_ended(const End *e) { return e->ended; }

static void test_open_at_once(void)
{
    static const int counts[] = { 1, 63, 64, 65, 200, 500 };
    Error err;

    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        int count = counts[c];
        for (int i = 0; i < count; i++) {
            call(&caller[i]);
            if (i % 40 == 39)
                UNTIL(accepts > i - 39);        /* a listener's queue is 64 long */
        }
        UNTIL(all(count, is_connected, caller) == count && accepts == count);
        for (int i = count - 1; i >= 0; i--)
            host_send(caller[i].sock, "hello", 5, NULL, &err);
        UNTIL(all(count, has_word, accepted) == count);
        for (int i = 0; i < count; i++)
            host_send(accepted[i].sock, "back", 4, NULL, &err);
        UNTIL(all(count, has_answer, caller) == count);
        for (int i = 0; i < count; i++)
            host_socket_shutdown(caller[i].sock);
        UNTIL(all(count, has_ended, accepted) == count);
        hang_up(count);
        CHECK_MSG(host_net_stats()->sockets == 1, "%d connections are open at once, carry and end", count);
    }
}

static void test_come_and_go(int times)
{
    unsigned before = 0;

    for (int i = 0; i < times; i++) {
        call(&caller[0]);
        UNTIL(caller[0].connected && accepts == 1);
        if (i % 2)
            host_socket_abort(caller[0].sock);
        else
            host_socket_close(caller[0].sock);
        UNTIL(accepted[0].ended || accepted[0].broken);
        CHECK(accepted[0].broken == (i % 2 != 0) || i % 2);     /* a reset may look like an end, never the reverse */
        host_socket_close(accepted[0].sock);
        accepts = 0;
        host_socket_resume(listener);
        if (i == 20)
            before = handles();
    }
    CHECK_MSG(handles() <= before + 2, "%d connections leave no handle behind: %u, %u", times, before, handles());
}

static void test_refused(void)
{
    HostAddr nobody = listener_at;

    host_socket_close(listener);
    listener_at = nobody;
    Error err;
    memset(&caller[0], 0, sizeof(caller[0]));
    caller[0].sock = host_connect(&nobody, &end_ops, &caller[0], &err);
    if (caller[0].sock)
        UNTIL(caller[0].refused);
    CHECK_MSG(!caller[0].connected, "nobody listens: the connection is refused");
    host_socket_close(caller[0].sock);
    listen_anywhere();
}

/* ---- slow and rude peers ---- */

static void test_slow_reader(void)
{
    static u8 data[1 << 16];
    u64 sent = 0;
    u32 sum = 0;
    Error err;
    int n;

    for (u32 i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 13 + (i >> 8));
    call(&caller[0]);
    UNTIL(caller[0].connected && accepts == 1);
    accepted[0].deaf = true;
    while ((n = host_send(caller[0].sock, data, sizeof(data), NULL, &err)) > 0 && sent < 64 << 20) {
        for (int k = 0; k < n; k++)
            sum = sum * 31 + data[k];
        sent += (u32)n;
        turn(0);
    }
    CHECK_MSG(n == HOST_AGAIN && sent < 64 << 20, "a peer that does not read stops the sender: %u KiB",
              (unsigned)(sent >> 10));
    turn(50);
    CHECK_MSG(!caller[0].writable, "which is not told to go on");
    accepted[0].deaf = false;
    host_socket_resume(accepted[0].sock);
    UNTIL(caller[0].writable && accepted[0].got == sent);
    CHECK_MSG(accepted[0].sum == sum, "when it reads, all arrives in order");
    for (int i = 0; i < 200; i++) {
        host_send(caller[0].sock, "x", 1, NULL, &err);
        turn(0);
    }
    UNTIL(accepted[0].got == sent + 200);
    hang_up(1);
}

/* ---- RELIABILITY R13: the VLAN's wire ---- */

static u32 frames, frame_bytes;

static bool card_receive(void *opaque, const u8 *frame, u32 len)
{
    (void)opaque;
    (void)frame;
    frames++;
    frame_bytes += len;
    return true;
}

static void send_all(End *e, const void *data, u32 bytes)
{
    Error err;
    const u8 *p = data;

    for (u64 end = host_now_ns() + 10 * NS_PER_SEC; bytes && host_now_ns() < end;) {
        int n = host_send(e->sock, p, bytes, NULL, &err);
        if (n > 0) {
            p += n;
            bytes -= (u32)n;
        }
        turn(0);
    }
}

static void test_wire(int strangers)
{
    static const NetPeerOps ops = { .receive = card_receive };
    static u8 big[4 + 69632 + 4];
    Error err = { "" };
    char at[80];
    HostAddr old = listener_at;

    host_addr_text(&listener_at, at, sizeof(at));
    host_socket_close(listener);
    NetPeer *card = net_join(m, 0, "card", &ops, NULL);
    CHECK_MSG(stream_listen(m, 0, "socket", at, &err), "the VLAN listens on %s: %s", at, err.text);
    call(&caller[0]);
    UNTIL(caller[0].connected);
    for (int i = 0; i < 64; i++) {              /* a frame of 60 bytes, byte by byte */
        u8 byte = i < 3 ? 0 : i == 3 ? 60 : (u8)i;
        send_all(&caller[0], &byte, 1);
    }
    UNTIL(frames == 1 && frame_bytes == 60);
    send_all(&caller[0], "\0\0\0\0\0\0\0\1x", 9);
    UNTIL(frames == 2 && frame_bytes == 61);    /* length 0 is passed over */
    big[1] = 0x01;
    big[2] = 0x10;
    send_all(&caller[0], big, sizeof(big) - 4);
    UNTIL(frames == 3 && frame_bytes == 61 + 69632);
    call(&caller[1]);
    UNTIL(caller[1].connected);
    send_all(&caller[1], "\0\1\x10\1rest", 8);
    UNTIL(caller[1].ended || caller[1].broken); /* 69,633 is no frame */
    call(&caller[2]);
    UNTIL(caller[2].connected);
    send_all(&caller[2], "\0\0\5\xdc" "cut", 7);
    host_socket_abort(caller[2].sock);
    host_socket_close(caller[1].sock);
    unsigned before = 0;
    for (int i = 0; i < strangers; i++) {
        call(&caller[1]);
        UNTIL(caller[1].connected);
        host_socket_close(caller[1].sock);
        before = i == 10 ? handles() : before;
    }
    turn(200);
    CHECK_MSG(handles() <= before + 4, "strangers that come and go leave no handle behind: %u, %u", before, handles());
    u8 frame[60] = { 0 };
    caller[0].got = 0;
    net_send(card, frame, sizeof(frame));
    UNTIL(caller[0].got == 64);
    send_all(&caller[0], "\0\0\0\1y", 5);
    UNTIL(frames == 4);
    CHECK_MSG(true, "the first one is unharmed by all of them");
    host_socket_close(caller[0].sock);
    net_leave(card);
    net_close(m);
    listener_at = old;
}

static void test_sockets(int times)
{
    listen_anywhere();
    test_open_at_once();
    test_come_and_go(times);
    test_refused();
    test_slow_reader();
    for (int i = 0; i < 3; i++) {               /* what was missed is found by the second sweep */
        host_socket_sweep();
        turn(10);
    }
    test_wire(times);
    CHECK_MSG(host_net_stats()->rescued == 0, "no event was lost: %u", (unsigned)host_net_stats()->rescued);
    CHECK_MSG(host_net_stats()->sockets == 0, "no socket is left: %u", host_net_stats()->sockets);
}

#endif
