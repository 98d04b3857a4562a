/*
 * core/vm/hostnet.h for the build machine, on poll(). For tests; the program itself uses win32/socket.c.
 */
#define _GNU_SOURCE
#include "../core/vm/host.h"
#include "../core/vm/hostnet.h"
#include "host_posix_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct HostSocket {
    int fd;
    const HostSocketOps *ops;
    void *opaque;
    HostSocket *next;
    bool connecting, paused, again, wants_write, closed;
};

static HostSocket *sockets;
static int depth;
static HostNetStats stats;

const HostNetStats *host_net_stats(void) { return &stats; }
void host_socket_sweep(void) { }        /* poll() loses nothing */

static void clean(void)
{
    if (depth)
        return;
    for (HostSocket **at = &sockets; *at;) {
        HostSocket *s = *at;
        if (s->closed) {
            *at = s->next;
            free(s);
        } else {
            at = &s->next;
        }
    }
}

static HostSocket *adopt(int fd, const HostSocketOps *ops, void *opaque)
{
    HostSocket *s = calloc(1, sizeof(*s)), **at = &sockets;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    s->fd = fd;
    s->ops = ops;
    s->opaque = opaque;
    while (*at)
        at = &(*at)->next;
    *at = s;
    stats.sockets++;
    return s;
}

void host_socket_close(HostSocket *s)
{
    if (!s || s->closed)
        return;
    s->closed = true;
    close(s->fd);
    stats.sockets--;
    clean();
}

void host_socket_abort(HostSocket *s)
{
    struct linger at_once = { 1, 0 };

    if (s && !s->closed)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    host_socket_close(s);
}

void host_socket_shutdown(HostSocket *s) { shutdown(s->fd, SHUT_WR); }

void host_socket_resume(HostSocket *s)
{
    s->paused = false;
    s->again = true;
    host_wake();                        /* the loop may be asleep: another thread calls this too */
}

bool posix_net_eager(void)
{
    for (HostSocket *s = sockets; s; s = s->next)
        if (s->again)
            return true;
    return false;
}

int posix_net_prepare(struct pollfd *fds)
{
    int n = 0;

    for (HostSocket *s = sockets; s && n < POSIX_NET_MAX; s = s->next) {
        short events = (short)((s->paused || s->connecting ? 0 : POLLIN) |
                               (s->wants_write || s->connecting ? POLLOUT : 0));
        /* a paused socket whose peer is gone would wake us again and again */
        fds[n++] = (struct pollfd){ .fd = events ? s->fd : -1, .events = events };
    }
    return n;
}

static void serve(HostSocket *s, short events)
{
    if (s->connecting && events) {
        int code = 0;
        socklen_t len = sizeof(code);
        Error err;

        s->connecting = false;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &code, &len);
        error_set(&err, "%s", strerror(code));
        s->ops->connected(s->opaque, code ? &err : NULL);
    }
    if (!s->closed && s->wants_write && (events & (POLLOUT | POLLERR | POLLHUP))) {
        s->wants_write = false;
        if (s->ops->writable)
            s->ops->writable(s->opaque);
    }
    if (!s->closed && !s->connecting && !s->paused && s->ops->readable &&
        (s->again || (events & (POLLIN | POLLERR | POLLHUP)))) {
        s->again = false;
        HostDrain r = s->ops->readable(s->opaque);
        s->again |= r == HOST_MORE;
        s->paused = r == HOST_PAUSED && !s->again;
    }
}

void posix_net_dispatch(const struct pollfd *fds, int count)
{
    int i = 0;

    depth++;
    for (HostSocket *s = sockets; s && i < count; s = s->next, i++) {
        stats.wakes += fds[i].revents != 0;
        if (!s->closed)
            serve(s, fds[i].revents);
    }
    depth--;
    clean();
}

static HostSocket *fail_open(int fd, const HostAddr *a, Error *err)
{
    char text[80];

    host_addr_text(a, text, sizeof(text));
    error_set(err, "%s: %s", text, strerror(errno));
    close(fd);
    return NULL;
}

static int family_of(const HostAddr *a) { return ((const struct sockaddr *)a->bytes)->sa_family; }

static void set_option(int fd, int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof(value)); }

HostSocket *host_listen(const HostAddr *at, const HostSocketOps *ops, void *opaque, Error *err)
{
    int fd = socket(family_of(at), SOCK_STREAM, 0);

    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (const struct sockaddr *)at->bytes, at->len) || listen(fd, 64))
        return fail_open(fd, at, err);
    return adopt(fd, ops, opaque);
}

HostSocket *host_accept(HostSocket *listener, HostAddr *from, const HostSocketOps *ops, void *opaque)
{
    socklen_t len = sizeof(from->bytes);
    int fd = accept(listener->fd, (struct sockaddr *)from->bytes, &len);

    if (fd < 0)
        return NULL;
    from->len = len;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    return adopt(fd, ops, opaque);
}

HostSocket *host_connect(const HostAddr *to, const HostSocketOps *ops, void *opaque, Error *err)
{
    int fd = socket(family_of(to), SOCK_STREAM | SOCK_NONBLOCK, 0);

    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    if (connect(fd, (const struct sockaddr *)to->bytes, to->len) && errno != EINPROGRESS)
        return fail_open(fd, to, err);
    HostSocket *s = adopt(fd, ops, opaque);
    s->connecting = true;
    return s;
}

HostSocket *host_udp_open(const HostAddr *local, const HostAddr *to, const HostSocketOps *ops, void *opaque,
                          Error *err)
{
    int fd = socket(family_of(local ? local : to), SOCK_DGRAM, 0);

    if (local ? bind(fd, (const struct sockaddr *)local->bytes, local->len) :
                connect(fd, (const struct sockaddr *)to->bytes, to->len))
        return fail_open(fd, local ? local : to, err);
    return adopt(fd, ops, opaque);
}

HostSocket *host_multicast_open(const HostAddr *group, const HostAddr *iface, const HostSocketOps *ops,
                                void *opaque, Error *err)
{
    const struct sockaddr_in *g = (const void *)group->bytes, *i = iface ? (const void *)iface->bytes : NULL;
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = g->sin_port };
    struct ip_mreq join = { .imr_multiaddr = g->sin_addr };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (i)
        join.imr_interface = i->sin_addr;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (struct sockaddr *)&any, sizeof(any)) ||
        setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)))
        return fail_open(fd, group, err);
    return adopt(fd, ops, opaque);
}

void host_multicast_sender(HostSocket *s, const HostAddr *iface)
{
    set_option(s->fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
    if (iface)
        setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_IF, &((const struct sockaddr_in *)(const void *)iface->bytes)->sin_addr,
                   sizeof(struct in_addr));
}

void host_socket_local(HostSocket *s, HostAddr *a)
{
    socklen_t len = sizeof(a->bytes);

    a->len = getsockname(s->fd, (struct sockaddr *)a->bytes, &len) ? 0 : len;
}

static int result(ssize_t n, Error *err)
{
    if (n >= 0)
        return (int)n;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return HOST_AGAIN;
    error_set(err, "%s", strerror(errno));
    return HOST_BROKEN;
}

int host_recv(HostSocket *s, void *buf, u32 bytes, HostAddr *from, Error *err)
{
    socklen_t len = from ? sizeof(from->bytes) : 0;
    ssize_t n = recvfrom(s->fd, buf, bytes, 0, from ? (struct sockaddr *)from->bytes : NULL, from ? &len : NULL);

    if (from)
        from->len = len;
    stats.recv_calls++;
    stats.recv_bytes += n > 0 ? (u64)n : 0;
    return result(n, err);
}

int host_send(HostSocket *s, const void *buf, u32 bytes, const HostAddr *to, Error *err)
{
    ssize_t n = sendto(s->fd, buf, bytes, MSG_NOSIGNAL, to ? (const struct sockaddr *)to->bytes : NULL, to ? to->len : 0);

    stats.send_calls++;
    stats.send_bytes += n > 0 ? (u64)n : 0;
    int r = result(n, err);
    if (r == HOST_AGAIN) {
        s->wants_write = true;
        host_wake();
    }
    return r;
}

bool host_addr_parse(const char *text, const char *fallback, bool udp, HostAddr *a, Error *err)
{
    struct addrinfo hint = { .ai_family = AF_INET, .ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM }, *found = NULL;
    char host[256];
    const char *colon = strrchr(text, ':');

    if (!colon || !colon[1] || colon - text > 255 || (colon == text && !fallback))
        return error_set(err, "%.200s: expected HOST:PORT", text);
    if (strtoul(colon + 1, NULL, 10) > 65535)
        return error_set(err, "%.200s: the port is a number up to 65535", text);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    int code = getaddrinfo(host[0] ? host : fallback, colon + 1, &hint, &found);
    if (code || !found)
        return error_set(err, "%.200s: %s", text, gai_strerror(code));
    memset(a, 0, sizeof(*a));
    a->len = found->ai_addrlen;
    memcpy(a->bytes, found->ai_addr, a->len);
    freeaddrinfo(found);
    return true;
}

void host_addr_text(const HostAddr *a, char *text, size_t size)
{
    char host[64] = "?", port[8] = "?";

    getnameinfo((const struct sockaddr *)a->bytes, a->len, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, size, "%s:%s", host, port);
}

bool host_addr_equal(const HostAddr *a, const HostAddr *b)
{
    const struct sockaddr_in *x = (const void *)a->bytes, *y = (const void *)b->bytes;

    return x->sin_family == y->sin_family && x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
}

void host_addr_set_ip4(HostAddr *a, u32 ip, u16 port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip) };

    memset(a, 0, sizeof(*a));
    memcpy(a->bytes, &in, sizeof(in));
    a->len = sizeof(in);
}

bool host_addr_ip4(const HostAddr *a, u32 *ip, u16 *port)
{
    const struct sockaddr_in *in = (const void *)a->bytes;

    *port = ntohs(in->sin_port);
    *ip = in->sin_family == AF_INET ? ntohl(in->sin_addr.s_addr) : 0;
    return in->sin_family == AF_INET;
}

bool host_resolver(HostAddr *a)
{
    FILE *f = fopen("/etc/resolv.conf", "r");
    char line[200], text[64];
    struct in_addr ip;
    bool found = false;

    while (f && !found && fgets(line, sizeof(line), f))
        found = sscanf(line, "nameserver %63s", text) == 1 && inet_pton(AF_INET, text, &ip) == 1;
    if (f)
        fclose(f);
    if (found)
        host_addr_set_ip4(a, ntohl(ip.s_addr), 53);
    return found;
}

bool host_is_multicast(const HostAddr *a)
{
    const struct sockaddr_in *in = (const void *)a->bytes;

    return in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 28 == 14;
}
