/*
 * A TCP connection of the user network, between user_tcp.c (the guest's end) and user_tcp_host.c (the host's
 * socket). Main thread, machine lock held.
 *
 *      guest --segments--> out[] --host_send()--> socket            room in out[] is the window we tell
 *      guest <--segments-- ring[] <--host_recv()-- socket           ring[] keeps what is not acknowledged
 */
#ifndef USER_TCP_H
#define USER_TCP_H

#include "user_int.h"

enum { TCP_HEADER = 20, TCP_MSS = IP_MTU - IP_HEADER - TCP_HEADER };
enum { OUT_FIRST = 1 << 14, OUT_MAX = 1 << 18, RING_FIRST = 1 << 14, RING_MAX = 1 << 18, WINDOW_UPDATE = 1 << 14 };

typedef enum {
    TCP_CONNECTING,                 /* the guest's SYN waits for the host's connection */
    TCP_SYN_TO_GUEST,               /* a forwarded port: the guest's answer is waited for */
    TCP_SYN_ANSWERED,               /* SYN and ACK were sent */
    TCP_OPEN                        /* and what follows, till both ends have closed */
} TcpState;

struct Tcp {
    User *user;
    Tcp *next;                      /* in its bucket */
    Tcp *next_queued;
    HostSocket *sock;
    u32 guest_ip, far_ip;
    u16 guest_port, far_port;
    TcpState state;
    bool queued, dead;              /* dead: in no bucket, freed when the queue is served */

    /* from the guest to the host */
    u8 *out;
    u32 out_at, out_end, out_size;
    u32 rcv_nxt, told;              /* next byte expected; the window's end as the guest was told */
    bool guest_ended, host_told;    /* its FIN has come; the socket was shut down */
    bool blocked;                   /* the socket takes no more */
    bool ack_now;
    u8 rcv_shift;

    /* from the host to the guest */
    u8 snd_shift;
    u8 *ring;
    u32 ring_size, ring_at, used;   /* ring_at: the byte with number una */
    u32 una, nxt, max;              /* first not acknowledged, next to send, end of what ever was sent */
    u32 window, mss;
    bool host_ended, fin_acked;     /* the socket's end has come; the guest knows */
    bool paused;                    /* the socket waits for room in ring[] */

    /* when segments are lost */
    u32 congestion, recover;
    u8 dup_acks;
    bool recovering, busy;          /* busy: something waits for the guest */
    bool heard;                     /* of the guest, since the timer fired */
    Timer timer;                    /* fires at `deadline` or before, and is armed again then */
    u64 deadline;
    u32 tries;
    u64 timed_at, smooth, varies;   /* round trips: begin of the one that is measured (0: none), mean, deviation */
    u32 timed;                      /* ends when this is acknowledged */
};

/* What the guest may send now, in the steps that it can be told in. */
static inline u32 tcp_window(const Tcp *c)
{
    u32 field = (OUT_MAX - (c->out_end - c->out_at)) >> c->rcv_shift;

    return (field < 0xffff ? field : 0xffff) << c->rcv_shift;
}

/* user_tcp.c */
Tcp *tcp_new(User *u, u32 guest_ip, u16 guest_port, u32 far_ip, u16 far_port);
Tcp *tcp_find(User *u, u32 guest_ip, u16 guest_port, u32 far_ip, u16 far_port);
void tcp_rename(Tcp *c, u32 far_ip, u16 far_port);      /* or the next port that is not in use */
void tcp_want(Tcp *c);              /* it has something to do when the queue is served */
void tcp_send_syn(Tcp *c);          /* alone, or as an answer */
void tcp_reset_guest(Tcp *c);       /* tells the guest, and forgets the connection */
void tcp_kill(Tcp *c);              /* closes the socket and forgets it; nobody is told */

/* user_tcp_host.c */
bool tcp_connect_host(Tcp *c, const HostAddr *to, Error *err);
void tcp_flush(Tcp *c);             /* out[] to the socket; may end the connection */
void tcp_opened(Tcp *c);            /* the guest's end is open: the socket may be read */
void tcp_room(Tcp *c);              /* there is room in ring[] again */
void tcp_abort_host(Tcp *c);        /* the host's peer sees a reset */

#endif
