/*
 * The character device udp:[HOST]:PORT[@[HOST]:PORT]: what is written in one go leaves as one datagram for
 * the first address; what arrives at the second is input. Datagrams get lost where there is no room, as UDP's
 * do. Without a second address any free port is used. HOST empty: this computer.
 */
#include "chardev_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostnet.h"
#include "log.h"

enum { DATAGRAM = 65536, SEND_MAX = 1400 };

typedef struct {
    Chardev chr;
    HostAddr to;
    HostSocket *socket;
    bool said;                      /* that sending fails */
    u8 *in;
    size_t at, end;                 /* of the datagram that waits for the frontend */
} UdpChr;

static void deliver(UdpChr *u)
{
    while (u->at < u->end) {
        size_t room = chardev_room(&u->chr), n = u->end - u->at;
        n = n < room ? n : room;
        if (!n)
            return;
        u->at += n;
        chardev_deliver(&u->chr, u->in + u->at - n, n);
    }
}

static HostDrain on_readable(void *opaque)
{
    UdpChr *u = opaque;
    Error err;
    HostAddr from;
    for (int datagrams = 0; datagrams < 64; datagrams++) {
        deliver(u);
        if (u->at < u->end)
            return HOST_PAUSED;
        int n = host_recv(u->socket, u->in, DATAGRAM, &from, &err);
        if (n == HOST_AGAIN)
            return HOST_DRAINED;
        u->at = 0;
        u->end = n > 0 ? (size_t)n : 0;     /* an error is told of one datagram: the next may come */
    }
    return HOST_MORE;
}

static const HostSocketOps ops = { on_readable, NULL, NULL };

static size_t udp_write(Chardev *chr, const u8 *buf, size_t n)
{
    UdpChr *u = CONTAINER_OF(chr, UdpChr, chr);
    Error err;
    for (size_t at = 0; at < n; at += SEND_MAX) {
        size_t part = n - at < SEND_MAX ? n - at : SEND_MAX;
        if (host_send(u->socket, buf + at, (u32)part, &u->to, &err) == HOST_BROKEN)
            log_once(&u->said, "%s: %s: %s", chr->label, chr->spec, err.text);
    }
    return n;
}

static void udp_accept(Chardev *chr)
{
    host_socket_resume(CONTAINER_OF(chr, UdpChr, chr)->socket);
}

static void udp_close(Chardev *chr)
{
    UdpChr *u = CONTAINER_OF(chr, UdpChr, chr);
    host_socket_close(u->socket);
    free(u->in);
    free(u);
}

static const ChrBackend udp_backend = {
    .name = "udp", .write = udp_write, .accept = udp_accept, .close = udp_close,
};

static bool parse(UdpChr *u, const char *spec, HostAddr *local, Error *err)
{
    char to[256], from[256] = ":0";
    const char *at = spec + strlen("udp:");
    size_t n = strcspn(at, "@"), m = strlen(at) - n;
    if (n >= sizeof to || m >= sizeof from)
        return error_set(err, "'%.60s...': the name is too long", spec);
    snprintf(to, sizeof to, "%.*s", (int)n, at);
    if (m)
        snprintf(from, sizeof from, "%s", at + n + 1);
    return host_addr_parse(to, "127.0.0.1", true, &u->to, err) &&
           host_addr_parse(from, m ? "127.0.0.1" : "0.0.0.0", true, local, err);
}

Chardev *udp_chr_open(Machine *m, const char *label, const char *spec, Error *err)
{
    HostAddr local;
    UdpChr *u = calloc(1, sizeof *u);
    if (!u || !(u->in = malloc(DATAGRAM))) {
        free(u);
        error_set(err, "out of memory");
        return NULL;
    }
    if (!parse(u, spec, &local, err) || !(u->socket = host_udp_open(&local, NULL, &ops, u, err))) {
        free(u->in);
        free(u);
        return NULL;
    }
    chardev_init(&u->chr, &udp_backend, m, label);
    return &u->chr;
}
