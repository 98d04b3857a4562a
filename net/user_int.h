/*
 * The inside of the user network, whose other end are the host's own sockets. Machine lock held; everything
 * but user_receive() runs on the main thread.
 *
 *   user.c         the member of the VLAN: frames in and out, ARP      user_config.c  -net user,... and -redir
 *   user_ip.c      IPv4 headers, fragments, ICMP                       user_dhcp.c    DHCP and BOOTP
 *   user_tcp.c     connections as the guest sees them                  user_tftp.c    TFTP
 *   user_tcp_host.c  the same as the host's sockets see them           user_udp.c     UDP and DNS
 *
 * Addresses and ports are numbers in the host's byte order; what a frame holds is read and written by
 * get16() ... put32().
 */
#ifndef USER_INT_H
#define USER_INT_H

#include "net_int.h"

enum { ETH_HEADER = 14, IP_HEADER = 20, IP_MTU = 1500, UDP_HEADER = 8, UDP_MAX = 65507 };
enum { ETHERTYPE_IP = 0x0800, ETHERTYPE_ARP = 0x0806 };
enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17 };
enum { PORT_DNS = 53, PORT_BOOTPS = 67, PORT_BOOTPC = 68, PORT_TFTP = 69 };
#define IP_LOOPBACK 0x7f000001u
#define IP_BROADCAST 0xffffffffu

static inline u16 get16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }
static inline u32 get32(const u8 *p) { return __builtin_bswap32(load32(p)); }
static inline void put16(u8 *p, u32 v) { p[0] = (u8)(v >> 8); p[1] = (u8)v; }
static inline void put32(u8 *p, u32 v) { store32(p, __builtin_bswap32(v)); }

typedef struct User User;
typedef struct Tcp Tcp;
typedef struct UdpFlow UdpFlow;
typedef struct TftpSession TftpSession;

/* What the option says. */
typedef struct {
    u32 net, mask, host, dns, dhcp_start;
    char hostname[64], domain[128], boot_file[128], tftp_server[128];
    char tftp[260];                 /* folder; "": no TFTP */
    bool restricted;
} UserConfig;

/* hostfwd= and guestfwd= */
typedef struct Forward {
    User *user;
    struct Forward *next;
    HostSocket *sock;               /* hostfwd: listens, or receives datagrams */
    HostAddr at;                    /* hostfwd: the host's end; guestfwd: where its connections go */
    u32 ip;                         /* hostfwd: the guest; guestfwd: the address it is reached at */
    u16 port;
    bool udp, to_guest;             /* false: guestfwd */
    bool paused;                    /* UDP: waits for the card */
    HostAddr peer;                  /* UDP: who sent last, and how the guest sees it */
    u32 peer_ip;
    u16 peer_port;
} Forward;

/* A computer of the guest's network that was heard or is being asked for. */
typedef struct {
    u32 ip;
    u8 mac[MAC_LEN];
    bool known;
    u32 used;                       /* User.tick when it was used last */
    u32 waiting;                    /* bytes of the one packet that waits for the address; 0: none */
    u8 *packet;
} Neighbour;

/* A datagram of which not all fragments are there. */
typedef struct {
    u32 src, dst, total;            /* total: 0, or the length that the last fragment told */
    u16 id;
    u8 proto;
    bool used;
    u64 since;
    u32 have;
    u8 *data;                       /* DATAGRAM bytes */
    u8 *map;                        /* a bit for each 8 bytes */
} Fragments;

typedef struct {
    u32 ip;
    u8 mac[MAC_LEN];
    bool used;
} Lease;

enum { NEIGHBOURS = 16, FRAGMENTS = 8, LEASES = 64, TCP_BUCKETS = 1024, TCP_MAX = 4000, UDP_FLOWS = 512 };

struct User {
    Net *net;
    NetPeer *peer;
    char name[48];
    UserConfig cfg;
    u8 mac[MAC_LEN];
    Timer work;                     /* frames of the guest, and connections, wait to be served */
    u8 *in;                         /* frames behind their lengths */
    u32 in_end;
    bool working, waiting;          /* waiting: for may_send() */
    u32 tick;
    u16 ip_id;
    Neighbour near[NEIGHBOURS];
    Fragments frag[FRAGMENTS];
    Lease lease[LEASES];
    Forward *forwards;
    Tcp *tcp[TCP_BUCKETS];
    Tcp *queue, **queue_tail;       /* connections with something to do */
    u32 tcp_count;
    u64 tcp_seen, tcp_refused, bad_packets, resent;
    UdpFlow *udp;
    u32 udp_count;
    Timer udp_idle;
    TftpSession *tftp;
    u32 tftp_count;
    HostAddr resolver;
    u64 resolver_at;                /* CLOCK_HOST when it was asked for */
    u8 out[ETH_HEADER + UDP_MAX + 64];
};

/* ---- user.c ---- */
User *user_create(Machine *m, int vlan, const char *name, const UserConfig *cfg);
void user_work_soon(User *u);
bool user_may_send(User *u);        /* false: the card takes no more; the queue is served when it does */
/* An IP packet of `len` bytes lies at out + ETH_HEADER: to the guest with the address `to`. */
void user_send_packet(User *u, u32 to, u32 len);
/* Does an address belong to this network, does it stand for the host? */
bool user_is_ours(const User *u, u32 ip);
static inline bool user_is_near(const User *u, u32 ip) { return (ip & u->cfg.mask) == u->cfg.net; }
/* The socket address that a packet to `ip` goes to; false: nowhere. */
bool user_outside(User *u, u32 ip, u16 port, bool udp, HostAddr *a);
/* The address that the guest sees for a socket address of the host. */
void user_inside(User *u, const HostAddr *a, u32 *ip, u16 *port);
const HostAddr *user_resolver(User *u);                 /* NULL: the host has none */

/* ---- user_config.c ---- */
bool user_forward(User *u, const char *text, Error *err);       /* tcp|udp:[addr]:port-[addr]:port */
bool user_guest_forward(User *u, const char *text, Error *err);
bool user_parse_ip(const char *text, u32 *ip);
void user_ip_text(u32 ip, char text[16]);
void user_forwards_close(User *u);

/* ---- user_ip.c ---- */
u32 ip_sum(const void *data, u32 bytes, u32 sum);       /* adds 16-bit words; fold with ip_sum_end() */
u16 ip_sum_end(u32 sum);
u32 ip_pseudo_sum(u32 src, u32 dst, u8 proto, u32 len);
void ip_input(User *u, const u8 *packet, u32 len);
/* The payload of `len` bytes lies at out + ETH_HEADER + IP_HEADER. At most IP_MTU in all. */
void ip_output(User *u, u32 src, u32 dst, u8 proto, u32 len);
void ip_output_large(User *u, u32 src, u32 dst, u8 proto, u32 len);     /* in fragments when it must be */
void icmp_unreachable(User *u, const u8 *packet, u32 len, u8 code);
void ip_fragments_free(User *u);
static inline u8 *user_payload(User *u) { return u->out + ETH_HEADER + IP_HEADER; }

/* ---- user_udp.c ---- */
void udp_input(User *u, u32 src, u32 dst, const u8 *packet, const u8 *segment, u32 len);
/* The data of `len` bytes lies at user_payload() + UDP_HEADER. */
void udp_output(User *u, u32 src, u16 sport, u32 dst, u16 dport, u32 len);
bool udp_forward_open(Forward *f, Error *err);
void udp_resume(User *u);           /* the card takes frames again */
void udp_close(User *u);

/* ---- user_tcp.c, user_tcp_host.c ---- */
void tcp_input(User *u, u32 src, u32 dst, const u8 *segment, u32 len);
void tcp_serve(User *u);            /* runs the queue */
bool tcp_forward_open(Forward *f, Error *err);
void tcp_close(User *u);
void tcp_list(User *u, PrintFn *print, void *opaque);

/* ---- user_dhcp.c, user_tftp.c ---- */
void dhcp_input(User *u, const u8 *data, u32 len);
void tftp_input(User *u, u32 src, u16 sport, const u8 *data, u32 len);          /* to port 69 */
bool tftp_answer(User *u, u32 src, u16 sport, u16 dport, const u8 *data, u32 len);      /* false: no transfer's */
void tftp_close(User *u);

#endif
