/*
 * The inside of net/: what its files share. Machine lock held for every call.
 *
 *   hub.c      VLANs, members, queues, `info network`      config.c   -net, -netdev, -nic and their keys
 *   stream.c   -net socket,listen= and connect=            dgram.c    -net socket,mcast= and udp=
 *   dump.c     -net dump                                 user_*.c   -net user: see user_int.h
 */
#ifndef NET_INT_H
#define NET_INT_H

#include "../core/vm/device.h"
#include "../core/vm/hostnet.h"
#include "../core/vm/machine.h"
#include "../core/vm/nic.h"

enum { CARDS_MAX = 8 };

typedef struct Net {
    Machine *m;
    NetPeer *peers;             /* of all VLANs, in order of joining */
    Timer soon;                 /* the main loop's next turn: those who wait to send */
    Timer stall;                /* members that refused are looked at */
    Timer sweep;                /* host_socket_sweep() */
    NicConfig card[CARDS_MAX];
    int cards;
    struct User *user;          /* the first user network, NULL: there is none */
    u64 delivered, wakes_seen;
    bool delivering;
} Net;

Net *net_of(Machine *m);        /* made when it is first asked for */
void net_watch_sockets(Net *n); /* a socket was opened: the safety sweep runs */

/* Each opens what "key=value,..." (behind the kind) says, as member `name`. */
bool stream_listen(Machine *m, int vlan, const char *name, const char *at, Error *err);
bool stream_connect(Machine *m, int vlan, const char *name, const char *to, Error *err);
bool dgram_multicast(Machine *m, int vlan, const char *name, const char *group, const char *local, Error *err);
bool dgram_udp(Machine *m, int vlan, const char *name, const char *to, const char *local, Error *err);
bool dump_open(Machine *m, int vlan, const char *name, const char *file, u32 len, Error *err);
bool user_legacy(struct User *u, NetOption option, const char *text, Error *err);
bool user_open(Machine *m, int vlan, const char *name, const char *spec, Error *err);

#endif
