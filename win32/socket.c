/*
 * Sockets by events: what core/vm/hostnet.h promises, with WSAEventSelect and the main loop's wait set.
 *
 * Windows records an event of a socket once, until the call that re-arms it (recv, accept, a send that found
 * no room), and signals the event object that the socket is associated with. Rules that follow:
 *   - a socket that is readable is drained, or stays in the list `again`, which is served at the loop's next
 *     turn: no event is waited for that was told already;
 *   - FD_WRITE is only waited for after a send that said WSAEWOULDBLOCK;
 *   - a freshly accepted socket is looked at once without an event: what came before it was associated is
 *     there already;
 *   - sockets share event objects (a wait takes 64 handles). The objects reset themselves when the wait is
 *     over; then every socket of the event is asked. WSAEnumNetworkEvents must not reset it as well: that
 *     could swallow the signal of a socket which was asked before.
 */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <iphlpapi.h>

#include "win.h"

#include "../core/vm/hostnet.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SIO_UDP_CONNRESET
#define SIO_UDP_CONNRESET _WSAIOW(IOC_VENDOR, 12)
#endif

enum { EVENTS_MAX = 256, BACKLOG = 64, SOCKET_BUFFER = 1 << 18 };

typedef struct EventGroup EventGroup;

struct HostSocket {
    SOCKET fd;
    const HostSocketOps *ops;
    void *opaque;
    EventGroup *group;
    HostSocket *next;               /* in its group */
    HostSocket *next_again;
    bool again;                     /* is in the list */
    bool connecting, paused, wants_write, closed;
    bool suspect;                   /* the last sweep found data that nobody was told of */
};

struct EventGroup {
    HANDLE event;
    WaitItem *item;
    HostSocket *sockets;
    u32 count;
};

static struct {
    bool started;
    EventGroup *group[EVENTS_MAX];
    int groups;
    HostSocket *again, **again_tail;
    HANDLE turn;                    /* event: the list is not empty */
    int depth;                      /* callbacks are running: closed sockets keep their memory and place */
    bool any_closed;
    HostNetStats stats;
} net;

const HostNetStats *host_net_stats(void)
{
    return &net.stats;
}

/* ---- callbacks ---- */

static void callbacks_begin(void)
{
    net.depth++;
}

static void callbacks_end(void)
{
    if (--net.depth || !net.any_closed)
        return;
    net.any_closed = false;
    for (int i = 0; i < net.groups; i++) {
        for (HostSocket **at = &net.group[i]->sockets; *at;) {
            HostSocket *s = *at;
            if (s->closed) {
                *at = s->next;
                free(s);
            } else {
                at = &s->next;
            }
        }
    }
}

static void serve_again(HostSocket *s)
{
    if (s->again || s->closed)
        return;
    s->again = true;
    s->next_again = NULL;
    *net.again_tail = s;
    net.again_tail = &s->next_again;
    SetEvent(net.turn);
}

static void read_event(HostSocket *s)
{
    if (s->closed || s->paused || s->connecting)
        return;
    s->suspect = false;
    switch (s->ops->readable ? s->ops->readable(s->opaque) : HOST_DRAINED) {
    case HOST_DRAINED:
        break;
    case HOST_MORE:
        serve_again(s);
        break;
    case HOST_PAUSED:
        if (!s->closed)
            s->paused = true;
        break;
    }
}

static void connect_event(HostSocket *s, int code)
{
    char reason[200];
    Error err;

    if (!s->connecting)
        return;
    s->connecting = false;
    if (code)
        error_set(&err, "%s", win_reason((DWORD)code, reason, sizeof reason));
    s->ops->connected(s->opaque, code ? &err : NULL);
    if (!s->closed && !code)
        serve_again(s);             /* its first data may have come with the connection */
}

static void serve_socket(HostSocket *s)
{
    WSANETWORKEVENTS events;

    if (WSAEnumNetworkEvents(s->fd, NULL, &events))
        return;
    if (events.lNetworkEvents & FD_CONNECT)
        connect_event(s, events.iErrorCode[FD_CONNECT_BIT]);
    if ((events.lNetworkEvents & FD_WRITE) && s->wants_write && !s->closed) {
        s->wants_write = false;
        if (s->ops->writable)
            s->ops->writable(s->opaque);
    }
    if ((events.lNetworkEvents & (FD_READ | FD_ACCEPT | FD_CLOSE)) && !s->again)
        read_event(s);
}

static void on_group(void *opaque)
{
    EventGroup *g = opaque;

    net.stats.wakes++;
    callbacks_begin();
    for (HostSocket *s = g->sockets; s; s = s->next)
        if (!s->closed)
            serve_socket(s);
    callbacks_end();
}

static void on_turn(void *opaque)
{
    HostSocket *list = net.again;

    (void)opaque;
    net.again = NULL;
    net.again_tail = &net.again;
    callbacks_begin();
    while (list) {
        HostSocket *s = list;
        list = s->next_again;
        s->again = false;
        read_event(s);
    }
    callbacks_end();
}

/* ---- the life of a socket ---- */

static bool failed(Error *err, const char *what)
{
    char reason[200];
    return error_set(err, "%s: %s", what, win_reason((DWORD)WSAGetLastError(), reason, sizeof reason));
}

static bool start(Error *err)
{
    WSADATA data;

    if (net.started)
        return true;
    int code = WSAStartup(MAKEWORD(2, 2), &data);
    if (code) {
        WSASetLastError(code);
        return failed(err, "Winsock");
    }
    net.again_tail = &net.again;
    net.turn = CreateEventW(NULL, FALSE, FALSE, NULL);
    loop_add(net.turn, on_turn, NULL);
    net.started = true;
    return true;
}

/* The event with the fewest sockets; a new one as long as there may be more. */
static EventGroup *group_for(void)
{
    EventGroup *best = NULL;

    for (int i = 0; i < net.groups; i++)
        if (!best || net.group[i]->count < best->count)
            best = net.group[i];
    if (best && (best->count == 0 || net.groups == EVENTS_MAX))
        return best;
    EventGroup *g = calloc(1, sizeof *g);
    if (!g)
        abort();
    g->event = CreateEventW(NULL, FALSE, FALSE, NULL);
    g->item = loop_add(g->event, on_group, g);
    if (!g->item) {                 /* the wait set is full: share */
        CloseHandle(g->event);
        free(g);
        return best;
    }
    net.group[net.groups++] = g;
    return g;
}

static HostSocket *adopt(SOCKET fd, long events, const HostSocketOps *ops, void *opaque, Error *err)
{
    EventGroup *g = group_for();

    if (!g || WSAEventSelect(fd, g->event, events)) {
        failed(err, "socket");
        closesocket(fd);
        return NULL;
    }
    HostSocket *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->fd = fd;
    s->ops = ops;
    s->opaque = opaque;
    s->group = g;
    s->next = g->sockets;
    g->sockets = s;
    g->count++;
    net.stats.sockets++;
    return s;
}

void host_socket_close(HostSocket *s)
{
    if (!s || s->closed)
        return;
    s->closed = true;
    closesocket(s->fd);
    s->group->count--;
    net.stats.sockets--;
    if (s->again) {
        HostSocket **at = &net.again;
        while (*at && *at != s)
            at = &(*at)->next_again;
        if (*at) {
            *at = s->next_again;
            if (!*at)
                net.again_tail = at;
        }
    }
    net.any_closed = true;
    callbacks_begin();
    callbacks_end();
}

void host_socket_abort(HostSocket *s)
{
    const struct linger at_once = {1, 0};

    if (s && !s->closed)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, (const char *)&at_once, sizeof at_once);
    host_socket_close(s);
}

void host_socket_shutdown(HostSocket *s)
{
    shutdown(s->fd, SD_SEND);
}

void host_socket_resume(HostSocket *s)
{
    s->paused = false;
    serve_again(s);
}

static SOCKET make(int family, int type, Error *err)
{
    SOCKET fd = WSASocketW(family, type, 0, NULL, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);

    if (fd == INVALID_SOCKET)
        failed(err, "socket");
    return fd;
}

static void set_option(SOCKET fd, int level, int name, int value)
{
    setsockopt(fd, level, name, (const char *)&value, sizeof value);
}

static void tune_stream(SOCKET fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);    /* urgent bytes keep their place */
}

static int family_of(const HostAddr *a)
{
    return ((const struct sockaddr *)a->bytes)->sa_family;
}

static HostSocket *fail_open(SOCKET fd, const HostAddr *a, Error *err)
{
    char text[80];

    host_addr_text(a, text, sizeof text);
    failed(err, text);
    closesocket(fd);
    return NULL;
}

HostSocket *host_listen(const HostAddr *at, const HostSocketOps *ops, void *opaque, Error *err)
{
    if (!start(err))
        return NULL;
    SOCKET fd = make(family_of(at), SOCK_STREAM, err);
    if (fd == INVALID_SOCKET)
        return NULL;
    set_option(fd, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1);
    if (bind(fd, (const struct sockaddr *)at->bytes, (int)at->len) || listen(fd, BACKLOG))
        return fail_open(fd, at, err);
    return adopt(fd, FD_ACCEPT, ops, opaque, err);
}

HostSocket *host_accept(HostSocket *listener, HostAddr *from, const HostSocketOps *ops, void *opaque)
{
    int len = sizeof from->bytes;
    Error err;

    SOCKET fd = accept(listener->fd, (struct sockaddr *)from->bytes, &len);
    if (fd == INVALID_SOCKET)
        return NULL;
    from->len = (u32)len;
    tune_stream(fd);
    HostSocket *s = adopt(fd, FD_READ | FD_WRITE | FD_CLOSE, ops, opaque, &err);
    if (s)
        serve_again(s);
    return s;
}

HostSocket *host_connect(const HostAddr *to, const HostSocketOps *ops, void *opaque, Error *err)
{
    if (!start(err))
        return NULL;
    SOCKET fd = make(family_of(to), SOCK_STREAM, err);
    if (fd == INVALID_SOCKET)
        return NULL;
    tune_stream(fd);
    HostSocket *s = adopt(fd, FD_CONNECT | FD_READ | FD_WRITE | FD_CLOSE, ops, opaque, err);
    if (!s)
        return NULL;
    s->connecting = true;
    if (WSAConnect(fd, (const struct sockaddr *)to->bytes, (int)to->len, NULL, NULL, NULL, NULL) &&
        WSAGetLastError() != WSAEWOULDBLOCK) {
        char reason[200];
        error_set(err, "%s", win_reason((DWORD)WSAGetLastError(), reason, sizeof reason));
        host_socket_close(s);
        return NULL;
    }
    return s;
}

static void tune_datagram(SOCKET fd)
{
    DWORD done;
    BOOL off = FALSE;

    WSAIoctl(fd, SIO_UDP_CONNRESET, &off, sizeof off, NULL, 0, &done, NULL, NULL);
    set_option(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
    set_option(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
}

HostSocket *host_udp_open(const HostAddr *local, const HostAddr *to, const HostSocketOps *ops, void *opaque,
                          Error *err)
{
    if (!start(err))
        return NULL;
    SOCKET fd = make(family_of(local ? local : to), SOCK_DGRAM, err);
    if (fd == INVALID_SOCKET)
        return NULL;
    tune_datagram(fd);
    if (local ? bind(fd, (const struct sockaddr *)local->bytes, (int)local->len) :
                connect(fd, (const struct sockaddr *)to->bytes, (int)to->len))
        return fail_open(fd, local ? local : to, err);
    return adopt(fd, FD_READ | FD_WRITE, ops, opaque, err);
}

HostSocket *host_multicast_open(const HostAddr *group, const HostAddr *iface, const HostSocketOps *ops,
                                void *opaque, Error *err)
{
    const struct sockaddr_in *g = (const struct sockaddr_in *)group->bytes;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = g->sin_port};
    struct ip_mreq join = {.imr_multiaddr = g->sin_addr};

    if (iface)
        join.imr_interface = ((const struct sockaddr_in *)iface->bytes)->sin_addr;
    if (!start(err))
        return NULL;
    SOCKET fd = make(AF_INET, SOCK_DGRAM, err);
    if (fd == INVALID_SOCKET)
        return NULL;
    tune_datagram(fd);
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) ||
        setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, (const char *)&join, sizeof join))
        return fail_open(fd, group, err);
    return adopt(fd, FD_READ | FD_WRITE, ops, opaque, err);
}

void host_multicast_sender(HostSocket *s, const HostAddr *iface)
{
    set_option(s->fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
    if (iface)
        setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_IF,
                   (const char *)&((const struct sockaddr_in *)iface->bytes)->sin_addr, sizeof(struct in_addr));
}

void host_socket_local(HostSocket *s, HostAddr *a)
{
    int len = sizeof a->bytes;

    if (getsockname(s->fd, (struct sockaddr *)a->bytes, &len))
        len = 0;
    a->len = (u32)len;
}

/* ---- bytes ---- */

int host_recv(HostSocket *s, void *buf, u32 bytes, HostAddr *from, Error *err)
{
    WSABUF b = {.len = bytes, .buf = buf};
    DWORD done = 0, flags = 0;
    int len = from ? (int)sizeof from->bytes : 0;
    char reason[200];

    net.stats.recv_calls++;
    int bad = from ? WSARecvFrom(s->fd, &b, 1, &done, &flags, (struct sockaddr *)from->bytes, &len, NULL, NULL) :
                     WSARecv(s->fd, &b, 1, &done, &flags, NULL, NULL);
    if (from)
        from->len = (u32)len;
    int code = bad ? WSAGetLastError() : 0;
    if (code == WSAEMSGSIZE) {      /* a datagram that was cut */
        done = bytes;
        code = 0;
    }
    net.stats.recv_bytes += done;
    if (!code)
        return (int)done;
    if (code == WSAEWOULDBLOCK)
        return HOST_AGAIN;
    error_set(err, "%s", win_reason((DWORD)code, reason, sizeof reason));
    return HOST_BROKEN;
}

int host_send(HostSocket *s, const void *buf, u32 bytes, const HostAddr *to, Error *err)
{
    WSABUF b = {.len = bytes, .buf = (char *)buf};
    DWORD done = 0;
    char reason[200];

    net.stats.send_calls++;
    int bad = to ? WSASendTo(s->fd, &b, 1, &done, 0, (const struct sockaddr *)to->bytes, (int)to->len, NULL, NULL) :
                   WSASend(s->fd, &b, 1, &done, 0, NULL, NULL);
    net.stats.send_bytes += done;
    if (!bad)
        return (int)done;
    int code = WSAGetLastError();
    if (code == WSAEWOULDBLOCK) {
        s->wants_write = true;
        return HOST_AGAIN;
    }
    error_set(err, "%s", win_reason((DWORD)code, reason, sizeof reason));
    return HOST_BROKEN;
}

/* Data that lies in a socket through two sweeps, with nobody paused and nobody told, was missed. */
void host_socket_sweep(void)
{
    for (int i = 0; i < net.groups; i++) {
        for (HostSocket *s = net.group[i]->sockets; s; s = s->next) {
            u_long waiting = 0;
            if (s->closed || s->paused || s->again || s->connecting ||
                ioctlsocket(s->fd, FIONREAD, &waiting) || !waiting) {
                s->suspect = false;
                continue;
            }
            if (s->suspect) {
                net.stats.rescued++;
                serve_again(s);
            }
            s->suspect = !s->suspect;
        }
    }
}

/* ---- addresses ---- */

/* "host:port" or "[host]:port"; host may be empty. */
static bool split(const char *text, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(text, ':'), *end = colon;

    if (!colon || !colon[1] || (size_t)(colon - text) >= size)
        return false;
    if (*text == '[') {
        if (colon[-1] != ']')
            return false;
        text++;
        end--;
    }
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = 0;
    *port = colon + 1;
    return true;
}

bool host_addr_parse(const char *text, const char *fallback, bool udp, HostAddr *a, Error *err)
{
    char host[256], reason[200];
    const char *port;
    struct addrinfo hint = {.ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM}, *found = NULL;

    if (!split(text, host, sizeof host, &port) || (!host[0] && !fallback))
        return error_set(err, "%.200s: expected HOST:PORT", text);
    char *end;
    unsigned long number = strtoul(port, &end, 10);
    if (*end || number > 65535)
        return error_set(err, "%.200s: the port is a number up to 65535", text);
    if (!start(err))
        return false;
    hint.ai_family = strchr(host, ':') ? AF_INET6 : AF_UNSPEC;
    int code = getaddrinfo(host[0] ? host : fallback, port, &hint, &found);
    if (code || !found)
        return error_set(err, "%.200s: %s", text, win_reason((DWORD)code, reason, sizeof reason));
    const struct addrinfo *best = found;
    for (const struct addrinfo *i = found; i; i = i->ai_next)
        if (i->ai_family == AF_INET) {          /* what a QEMU at the other end listens on */
            best = i;
            break;
        }
    memset(a, 0, sizeof *a);
    a->len = (u32)best->ai_addrlen;
    assert(a->len <= sizeof a->bytes);
    memcpy(a->bytes, best->ai_addr, a->len);
    freeaddrinfo(found);
    return true;
}

void host_addr_text(const HostAddr *a, char *text, size_t size)
{
    char host[64] = "?", port[8] = "?";

    getnameinfo((const struct sockaddr *)a->bytes, (socklen_t)a->len, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

bool host_addr_equal(const HostAddr *a, const HostAddr *b)
{
    const struct sockaddr_in *x = (const struct sockaddr_in *)a->bytes, *y = (const struct sockaddr_in *)b->bytes;
    const struct sockaddr_in6 *x6 = (const void *)a->bytes, *y6 = (const void *)b->bytes;

    if (x->sin_family != y->sin_family || x->sin_port != y->sin_port)
        return false;
    return x->sin_family == AF_INET ? x->sin_addr.s_addr == y->sin_addr.s_addr :
                                      !memcmp(&x6->sin6_addr, &y6->sin6_addr, sizeof x6->sin6_addr);
}

void host_addr_set_ip4(HostAddr *a, u32 ip, u16 port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};

    memset(a, 0, sizeof *a);
    memcpy(a->bytes, &in, sizeof in);
    a->len = sizeof in;
}

bool host_addr_ip4(const HostAddr *a, u32 *ip, u16 *port)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)a->bytes;

    *port = ntohs(in->sin_port);
    *ip = in->sin_family == AF_INET ? ntohl(in->sin_addr.s_addr) : 0;
    return in->sin_family == AF_INET;
}

/* The first name server of the first adapter that is up and has one; IPv4 before IPv6. */
static bool adapter_resolver(const IP_ADAPTER_ADDRESSES *list, int family, HostAddr *a)
{
    for (const IP_ADAPTER_ADDRESSES *i = list; i; i = i->Next) {
        if (i->OperStatus != IfOperStatusUp)
            continue;
        for (const IP_ADAPTER_DNS_SERVER_ADDRESS *d = i->FirstDnsServerAddress; d; d = d->Next) {
            const SOCKET_ADDRESS *s = &d->Address;
            if (s->lpSockaddr->sa_family != family || (size_t)s->iSockaddrLength > sizeof a->bytes)
                continue;
            memset(a, 0, sizeof *a);
            memcpy(a->bytes, s->lpSockaddr, (size_t)s->iSockaddrLength);
            a->len = (u32)s->iSockaddrLength;
            ((struct sockaddr_in *)a->bytes)->sin_port = htons(53);     /* the same place in both families */
            return true;
        }
    }
    return false;
}

bool host_resolver(HostAddr *a)
{
    enum { FLAGS = GAA_FLAG_SKIP_UNICAST | GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST };
    ULONG bytes = 0;

    if (GetAdaptersAddresses(AF_UNSPEC, FLAGS, NULL, NULL, &bytes) != ERROR_BUFFER_OVERFLOW)
        return false;
    IP_ADAPTER_ADDRESSES *list = malloc(bytes);
    if (!list)
        abort();
    bool found = GetAdaptersAddresses(AF_UNSPEC, FLAGS, NULL, list, &bytes) == ERROR_SUCCESS &&
                 (adapter_resolver(list, AF_INET, a) || adapter_resolver(list, AF_INET6, a));
    free(list);
    return found;
}

bool host_is_multicast(const HostAddr *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)a->bytes;

    return in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 28 == 14;
}
