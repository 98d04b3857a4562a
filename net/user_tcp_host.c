/*
 * The user network's TCP connections as the host's sockets see them: connecting, forwarded ports, and bytes in
 * both directions. What the socket can't take stays in out[], and the guest's window closes; what the guest
 * can't take stays in ring[], and then in the socket, whose sender waits.
 */
#include "user_tcp.h"

#include <stdlib.h>
#include <string.h>

enum { READS_A_TURN = 4, ACCEPTS_A_TURN = 16 };

/* ---- from the socket to the guest ---- */

static void ring_grow(Tcp *c)
{
    u32 size = c->ring_size ? c->ring_size * 4 : RING_FIRST, first = c->ring_size - c->ring_at;
    u8 *ring = malloc(size);

    if (!ring)
        abort();
    if (first > c->used)
        first = c->used;
    if (c->used) {
        memcpy(ring, c->ring + c->ring_at, first);
        memcpy(ring + first, c->ring, c->used - first);
    }
    free(c->ring);
    c->ring = ring;
    c->ring_size = size;
    c->ring_at = 0;
}

static HostDrain pause_reading(Tcp *c)
{
    c->paused = true;
    return HOST_PAUSED;
}

static HostDrain read_socket(Tcp *c)
{
    Error err;

    for (int i = 0; i < READS_A_TURN; i++) {
        if (c->state != TCP_OPEN || c->host_ended || (c->used == RING_MAX && c->ring_size == RING_MAX))
            return pause_reading(c);
        if (c->used == c->ring_size)
            ring_grow(c);
        u32 at = (c->ring_at + c->used) & (c->ring_size - 1), room = c->ring_size - c->used;
        if (room > c->ring_size - at)
            room = c->ring_size - at;
        int n = host_recv(c->sock, c->ring + at, room, NULL, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        if (n == HOST_BROKEN) {
            tcp_reset_guest(c);
            return HOST_DRAINED;
        }
        c->host_ended = n == 0;
        c->used += (u32)n;
        tcp_want(c);
    }
    return HOST_MORE;
}

static HostDrain readable(void *opaque)
{
    Tcp *c = opaque;
    User *u = c->user;
    HostDrain r = read_socket(c);

    tcp_serve(u);
    return r;
}

void tcp_room(Tcp *c)
{
    if (!c->paused || c->host_ended || c->used > c->ring_size - c->ring_size / 4)
        return;
    c->paused = false;
    host_socket_resume(c->sock);
}

void tcp_opened(Tcp *c)
{
    c->paused = false;
    host_socket_resume(c->sock);
}

/* ---- from the guest to the socket ---- */

void tcp_flush(Tcp *c)
{
    Error err;

    if (c->state != TCP_OPEN)
        return;
    while (!c->blocked && c->out_at < c->out_end) {
        int n = host_send(c->sock, c->out + c->out_at, c->out_end - c->out_at, NULL, &err);
        if (n == HOST_BROKEN) {
            tcp_reset_guest(c);
            return;
        }
        if (n == HOST_AGAIN)
            c->blocked = true;
        else
            c->out_at += (u32)n;
    }
    if ((s32)(c->rcv_nxt + tcp_window(c) - c->told) >= WINDOW_UPDATE && !c->guest_ended)
        c->ack_now = true;
    if (c->out_at < c->out_end)
        return;
    c->out_at = c->out_end = 0;
    if (c->guest_ended && !c->host_told) {
        c->host_told = true;
        host_socket_shutdown(c->sock);
    }
}

static void writable(void *opaque)
{
    Tcp *c = opaque;
    User *u = c->user;

    c->blocked = false;
    tcp_want(c);
    tcp_serve(u);
}

void tcp_abort_host(Tcp *c)
{
    host_socket_abort(c->sock);
    c->sock = NULL;
}

/* ---- connections that the guest begins ---- */

static void connected(void *opaque, const Error *err)
{
    Tcp *c = opaque;
    User *u = c->user;

    if (err) {
        tcp_reset_guest(c);
    } else {
        c->state = TCP_SYN_ANSWERED;
        tcp_send_syn(c);
    }
    tcp_serve(u);
}

static const HostSocketOps socket_ops = { .readable = readable, .writable = writable, .connected = connected };

bool tcp_connect_host(Tcp *c, const HostAddr *to, Error *err)
{
    c->sock = host_connect(to, &socket_ops, c, err);
    return c->sock;
}

/* ---- forwarded ports ---- */

static bool accept_one(Forward *f)
{
    static const HostSocketOps refuse;
    User *u = f->user;
    HostAddr from;
    u32 ip;
    u16 port;

    if (u->tcp_count >= TCP_MAX) {
        HostSocket *sock = host_accept(f->sock, &from, &refuse, NULL);
        host_socket_abort(sock);
        u->tcp_refused += !!sock;
        return sock;
    }
    Tcp *c = tcp_new(u, f->ip, f->port, 0, 0);
    c->sock = host_accept(f->sock, &from, &socket_ops, c);
    if (!c->sock) {
        tcp_kill(c);
        return false;
    }
    user_inside(u, &from, &ip, &port);
    tcp_rename(c, ip, port);
    c->state = TCP_SYN_TO_GUEST;
    tcp_send_syn(c);
    return true;
}

static HostDrain forward_readable(void *opaque)
{
    Forward *f = opaque;
    User *u = f->user;
    HostDrain r = HOST_MORE;

    for (int i = 0; i < ACCEPTS_A_TURN && r == HOST_MORE; i++)
        if (!accept_one(f))
            r = HOST_DRAINED;
    tcp_serve(u);
    return r;
}

bool tcp_forward_open(Forward *f, Error *err)
{
    static const HostSocketOps ops = { .readable = forward_readable };

    f->sock = host_listen(&f->at, &ops, f, err);
    return f->sock;
}
