/*
 * Sockets of the host: what net/ needs, implemented by win32/socket.c (for tests by tests/host_posix_net.c).
 * Main thread, machine lock held, unless said otherwise. Nothing blocks but host_addr_parse() with a name.
 *
 * Events are told once: readable() is called when something may have come, and its owner receives until
 * host_recv() says HOST_AGAIN (HOST_DRAINED), or stops early to be fair to others (HOST_MORE: it is called
 * again at the loop's next turn), or because it can't use more (HOST_PAUSED: until host_socket_resume()).
 */
#ifndef VM_HOSTNET_H
#define VM_HOSTNET_H

#include "error.h"
#include "types.h"

typedef struct HostSocket HostSocket;
typedef enum { HOST_DRAINED, HOST_MORE, HOST_PAUSED } HostDrain;
enum { HOST_AGAIN = -1, HOST_BROKEN = -2 };     /* beside counts of bytes; err says why it is broken */

typedef struct {
    u8 bytes[28];                               /* a sockaddr */
    u32 len;
} HostAddr;

typedef struct {
    HostDrain (*readable)(void *opaque);        /* a listener: host_accept() until NULL */
    void (*writable)(void *opaque);             /* once, after host_send() took less than all. May be NULL */
    void (*connected)(void *opaque, const Error *err);      /* once; err NULL: it is. May close the socket */
} HostSocketOps;

/* "host:port", "[v6 address]:port", ":port" (then fallback is the host). */
bool host_addr_parse(const char *text, const char *fallback, bool udp, HostAddr *a, Error *err);
void host_addr_text(const HostAddr *a, char *text, size_t size);        /* any thread */
bool host_addr_equal(const HostAddr *a, const HostAddr *b);             /* any thread */
void host_addr_set_ip4(HostAddr *a, u32 ip, u16 port);                  /* any thread */
bool host_addr_ip4(const HostAddr *a, u32 *ip, u16 *port);  /* false: it is none, only port is set. Any thread */
bool host_resolver(HostAddr *a);                /* the name server that this computer asks; false: it has none */

HostSocket *host_listen(const HostAddr *at, const HostSocketOps *ops, void *opaque, Error *err);
HostSocket *host_accept(HostSocket *listener, HostAddr *from, const HostSocketOps *ops, void *opaque);
/* One attempt; its end comes through connected(). */
HostSocket *host_connect(const HostAddr *to, const HostSocketOps *ops, void *opaque, Error *err);
/* Bound to local, which may be NULL with `to`: sends go to `to` (a multicast group too). */
HostSocket *host_udp_open(const HostAddr *local, const HostAddr *to, const HostSocketOps *ops, void *opaque,
                          Error *err);
/* Receives what is sent to the group, on the interface with address iface (NULL: the system's choice);
 * several programs on one computer may. Port and group are those of `group`. */
HostSocket *host_multicast_open(const HostAddr *group, const HostAddr *iface, const HostSocketOps *ops,
                                void *opaque, Error *err);
void host_multicast_sender(HostSocket *s, const HostAddr *iface);       /* s sends through this interface */
bool host_is_multicast(const HostAddr *a);
void host_socket_local(HostSocket *s, HostAddr *a);
void host_socket_close(HostSocket *s);          /* no callback comes any more; NULL is allowed */
void host_socket_abort(HostSocket *s);          /* closes, and the peer sees a reset */
void host_socket_shutdown(HostSocket *s);       /* nothing more is sent; what was taken still arrives */
void host_socket_resume(HostSocket *s);         /* after HOST_PAUSED */

/* Bytes received (a datagram that is longer is cut), 0: the peer has ended, HOST_AGAIN, HOST_BROKEN. */
int host_recv(HostSocket *s, void *buf, u32 bytes, HostAddr *from, Error *err);
/* Bytes taken, HOST_AGAIN (writable() will come), HOST_BROKEN. `to` NULL: where it is connected to. */
int host_send(HostSocket *s, const void *buf, u32 bytes, const HostAddr *to, Error *err);

/* Looks whether an event was missed; called every few seconds while there are sockets. */
void host_socket_sweep(void);

typedef struct {
    u64 wakes;                                  /* times the main loop was woken by sockets */
    u64 recv_calls, recv_bytes, send_calls, send_bytes;
    u64 rescued;                                /* events that only the sweep found: must stay 0 */
    u32 sockets;
} HostNetStats;
const HostNetStats *host_net_stats(void);

#endif
