/*
 * The user network's TCP as the guest sees it: RFC 9293, window scaling (RFC 7323), retransmission after three
 * equal acknowledgements or a timeout (RFC 5681, 6298), resets checked as RFC 5961 says.
 *
 * The guest's segments are only collected while its frames are read; then the queue is served: each connection
 * first gives its bytes to the socket in one call, and then acknowledges them in one segment, with what it has
 * to send. Connections take turns, some segments each.
 *
 * Timers go by the guest's clock: a stopped guest loses no connection.
 *
 * Not modelled: selective acknowledgement, time stamps, urgent pointers (urgent data stays in its place in the
 * stream), and congestion (between us and the guest there is only a queue, which says when it is full).
 */
#include "user_tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
enum { OPT_END = 0, OPT_NOP = 1, OPT_MSS = 2, OPT_SHIFT = 3, SYN_OPTIONS = 8 };
enum { OUR_SHIFT = 3, SHIFT_MAX = 14, MSS_DEFAULT = 536, MSS_MIN = 64, SEGMENTS_A_TURN = 32, DUP_ACKS = 3 };
enum { TRIES_MAX = 12, SYN_TRIES_MAX = 5, BACKOFF_MAX = 6, KEEPALIVE_S = 900 };
#define SYN_TIMEOUT NS_PER_SEC
#define DATA_TIMEOUT (3 * NS_PER_SEC / 10)
#define TIMEOUT_MAX (2 * NS_PER_SEC)

typedef struct {
    u16 sport, dport;
    u32 seq, ack, window;
    u8 flags, shift;                /* shift, mss: of a SYN */
    bool has_shift;
    u32 mss, len;
    const u8 *data;
} Segment;

/* ---- connections ---- */

static u32 bucket(u32 guest_ip, u16 guest_port, u32 far_ip, u16 far_port)
{
    u32 h = (guest_ip ^ far_ip * 0x9e3779b1u) + ((u32)guest_port << 16 | far_port) * 0x85ebca6bu;

    return (h ^ h >> 15) % TCP_BUCKETS;
}

Tcp *tcp_find(User *u, u32 guest_ip, u16 guest_port, u32 far_ip, u16 far_port)
{
    Tcp *c = u->tcp[bucket(guest_ip, guest_port, far_ip, far_port)];

    while (c && (c->guest_port != guest_port || c->far_port != far_port || c->far_ip != far_ip ||
                 c->guest_ip != guest_ip))
        c = c->next;
    return c;
}

static void link_in(Tcp *c)
{
    Tcp **at = &c->user->tcp[bucket(c->guest_ip, c->guest_port, c->far_ip, c->far_port)];

    c->next = *at;
    *at = c;
}

static void link_out(Tcp *c)
{
    Tcp **at = &c->user->tcp[bucket(c->guest_ip, c->guest_port, c->far_ip, c->far_port)];

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

static void on_timer(void *opaque);

Tcp *tcp_new(User *u, u32 guest_ip, u16 guest_port, u32 far_ip, u16 far_port)
{
    Tcp *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    c->user = u;
    c->guest_ip = guest_ip;
    c->guest_port = guest_port;
    c->far_ip = far_ip;
    c->far_port = far_port;
    /* Not the numbers of an earlier connection with these ports, and none that a stranger could guess at once. */
    u32 start = (u32)(clock_ns(u->net->m, CLOCK_HOST) / 4000) + ++u->tick * 0x3779b1u;
    c->una = c->nxt = c->max = start;
    c->mss = MSS_DEFAULT;
    c->congestion = RING_MAX;
    timer_init(&c->timer, u->net->m, CLOCK_VIRTUAL, on_timer, c);
    link_in(c);
    u->tcp_count++;
    u->tcp_seen++;
    net_watch_sockets(u->net);
    return c;
}

void tcp_rename(Tcp *c, u32 far_ip, u16 far_port)
{
    link_out(c);
    while (tcp_find(c->user, c->guest_ip, c->guest_port, far_ip, far_port))
        far_port = far_port == 65535 ? 1024 : far_port + 1;
    c->far_ip = far_ip;
    c->far_port = far_port;
    link_in(c);
}

void tcp_want(Tcp *c)
{
    User *u = c->user;

    if (c->queued)
        return;
    c->queued = true;
    c->next_queued = NULL;
    *u->queue_tail = c;
    u->queue_tail = &c->next_queued;
    if (!u->working)
        user_work_soon(u);
}

void tcp_kill(Tcp *c)
{
    if (c->dead)
        return;
    c->dead = true;
    timer_cancel(&c->timer);
    host_socket_close(c->sock);
    c->sock = NULL;
    link_out(c);
    c->user->tcp_count--;
    free(c->out);
    free(c->ring);
    c->out = c->ring = NULL;
    tcp_want(c);
}

/* ---- segments to the guest ---- */

static void finish_segment(User *u, u32 src, u32 dst, u32 len)
{
    u8 *p = user_payload(u);

    store16(p + 16, 0);
    store16(p + 18, 0);
    store16(p + 16, ip_sum_end(ip_sum(p, len, ip_pseudo_sum(src, dst, PROTO_TCP, len))));
    ip_output(u, src, dst, PROTO_TCP, len);
}

static void head(User *u, u16 sport, u16 dport, u32 seq, u32 ack, u32 flags, u32 window, u32 header)
{
    u8 *p = user_payload(u);

    put16(p, sport);
    put16(p + 2, dport);
    put32(p + 4, seq);
    put32(p + 8, flags & ACK ? ack : 0);
    p[12] = (u8)(header / 4 << 4);
    p[13] = (u8)flags;
    put16(p + 14, window);
}

/* Bytes of ring[] from `offset` on, or none. */
static void send_segment(Tcp *c, u32 flags, u32 seq, u32 offset, u32 bytes)
{
    User *u = c->user;
    u8 *data = user_payload(u) + TCP_HEADER;
    u32 window = tcp_window(c);

    if (bytes) {
        u32 at = (c->ring_at + offset) & (c->ring_size - 1), first = c->ring_size - at;
        first = first < bytes ? first : bytes;
        memcpy(data, c->ring + at, first);
        memcpy(data + first, c->ring, bytes - first);
    }
    head(u, c->far_port, c->guest_port, seq, c->rcv_nxt, flags | ACK, window >> c->rcv_shift, TCP_HEADER);
    c->told = c->rcv_nxt + window;
    c->ack_now = false;
    finish_segment(u, c->far_ip, c->guest_ip, TCP_HEADER + bytes);
}

/* RFC 6298, with a floor that is longer than any guest delays an acknowledgement. */
static u64 timeout_of(const Tcp *c)
{
    u64 t = c->smooth + 4 * c->varies;

    if (c->state != TCP_OPEN)
        return SYN_TIMEOUT;
    return t < DATA_TIMEOUT ? DATA_TIMEOUT : t < TIMEOUT_MAX ? t : TIMEOUT_MAX;
}

static void round_trip(Tcp *c, u64 took)
{
    u64 off = took > c->smooth ? took - c->smooth : c->smooth - took;

    c->varies = c->smooth ? (3 * c->varies + off) / 4 : took / 2;
    c->smooth = c->smooth ? (7 * c->smooth + took) / 8 : took;
    c->timed_at = 0;
}

static void schedule(Tcp *c, bool restart)
{
    bool busy = c->nxt != c->una || c->used || (c->host_ended && !c->fin_acked);
    u64 now = clock_ns(c->user->net->m, CLOCK_VIRTUAL);

    if (c->nxt != c->una && !c->timed_at && !c->tries && c->nxt == c->max) {
        c->timed_at = now ? now : 1;
        c->timed = c->nxt;
    }
    if (busy && (restart || !c->busy))
        c->deadline = now + (timeout_of(c) << (c->tries < BACKOFF_MAX ? c->tries : BACKOFF_MAX));
    else if (!busy)
        c->deadline = now + KEEPALIVE_S * NS_PER_SEC;
    c->busy = busy;
    if (!timer_armed(&c->timer) || c->timer.when > c->deadline)
        timer_arm(&c->timer, c->deadline);
}

void tcp_send_syn(Tcp *c)
{
    User *u = c->user;
    u8 *option = user_payload(u) + TCP_HEADER;
    bool answer = c->state == TCP_SYN_ANSWERED, scaled = !answer || c->rcv_shift;

    head(u, c->far_port, c->guest_port, c->una, c->rcv_nxt, answer ? SYN | ACK : SYN, 0xffff,
         TCP_HEADER + SYN_OPTIONS);
    option[0] = OPT_MSS;
    option[1] = 4;
    put16(option + 2, TCP_MSS);
    memset(option + 4, OPT_NOP, 4);
    if (scaled) {
        option[5] = OPT_SHIFT;
        option[6] = 3;
        option[7] = OUR_SHIFT;
    }
    c->nxt = c->max = c->una + 1;
    c->told = c->rcv_nxt + 0xffff;
    finish_segment(u, c->far_ip, c->guest_ip, TCP_HEADER + SYN_OPTIONS);
    schedule(c, true);
}

void tcp_reset_guest(Tcp *c)
{
    User *u = c->user;

    if (c->dead)
        return;
    head(u, c->far_port, c->guest_port, c->nxt, c->rcv_nxt, c->state == TCP_SYN_TO_GUEST ? RST : RST | ACK, 0,
         TCP_HEADER);
    finish_segment(u, c->far_ip, c->guest_ip, TCP_HEADER);
    tcp_kill(c);
}

/* To what belongs to no connection. */
static void reset_stranger(User *u, u32 src, u32 dst, const Segment *s)
{
    u32 end = s->seq + s->len + !!(s->flags & SYN) + !!(s->flags & FIN);

    if (s->flags & RST)
        return;
    if (s->flags & ACK)
        head(u, s->dport, s->sport, s->ack, 0, RST, 0, TCP_HEADER);
    else
        head(u, s->dport, s->sport, 0, end, RST | ACK, 0, TCP_HEADER);
    finish_segment(u, dst, src, TCP_HEADER);
}

/* What the guest misses first, once more. */
static void resend(Tcp *c, u32 limit)
{
    u32 bytes = c->used < limit ? c->used : limit;
    bool fin = c->host_ended && !c->fin_acked && bytes == c->used;

    c->user->resent++;
    c->timed_at = 0;                /* whose acknowledgement would it be? */
    send_segment(c, PSH | (fin ? FIN : 0), c->una, 0, bytes);
    if ((s32)(c->una + bytes + fin - c->nxt) > 0)
        c->nxt = c->una + bytes + fin;
    if ((s32)(c->nxt - c->max) > 0)
        c->max = c->nxt;
}

/* Sends what the guest's window and the card take. False: the card takes no more; *more: its turn was over. */
static bool output(Tcp *c, bool *more)
{
    *more = false;
    if (c->state != TCP_OPEN)
        return true;
    for (int i = 0; i < SEGMENTS_A_TURN; i++) {
        u32 offset = c->nxt - c->una, limit = c->window < c->congestion ? c->window : c->congestion;
        u32 left = offset < c->used ? c->used - offset : 0, room = limit > offset ? limit - offset : 0;
        u32 bytes = left < room ? left : room;
        bytes = bytes < c->mss ? bytes : c->mss;
        bool fin = c->host_ended && !c->fin_acked && offset + bytes == c->used;
        if (!bytes && !fin)
            break;
        if (bytes < left && bytes < c->mss && offset)
            break;                  /* a crumb of a window: wait till it has opened further */
        if (!user_may_send(c->user))
            return false;
        send_segment(c, (offset + bytes == c->used ? PSH : 0) | (fin ? FIN : 0), c->nxt, offset, bytes);
        c->nxt += bytes + fin;
        if ((s32)(c->nxt - c->max) > 0)
            c->max = c->nxt;
        *more = i == SEGMENTS_A_TURN - 1;
    }
    if (c->ack_now) {
        if (!user_may_send(c->user))
            return false;
        send_segment(c, 0, c->nxt, 0, 0);
    }
    schedule(c, false);
    return true;
}

void tcp_serve(User *u)
{
    for (Tcp *c = u->queue; c; c = c->next_queued)
        if (!c->dead)
            tcp_flush(c);
    while (u->queue && !u->waiting) {
        Tcp *c = u->queue;
        bool more = false;
        if (!c->dead && !output(c, &more))
            return;
        u->queue = c->next_queued;
        if (!u->queue)
            u->queue_tail = &u->queue;
        c->queued = false;
        if (c->dead)
            free(c);
        else if (c->fin_acked && c->host_told)
            tcp_kill(c);
        else if (more)
            tcp_want(c);
    }
}

/* ---- time ---- */

static void on_timer(void *opaque)
{
    Tcp *c = opaque;
    bool syn = c->state == TCP_SYN_TO_GUEST || c->state == TCP_SYN_ANSWERED;

    if (clock_ns(c->user->net->m, CLOCK_VIRTUAL) < c->deadline) {
        timer_arm(&c->timer, c->deadline);
        return;
    }
    if (c->heard && c->tries > BACKOFF_MAX)
        c->tries = BACKOFF_MAX;     /* it is there, and only keeps its window closed */
    c->heard = false;
    if (++c->tries > (syn ? SYN_TRIES_MAX : TRIES_MAX)) {
        tcp_abort_host(c);
        tcp_reset_guest(c);
        return;
    }
    if (syn) {
        tcp_send_syn(c);
        return;
    }
    if (c->busy) {
        /* The byte behind a closed window asks whether it still is. */
        u32 limit = c->window ? c->window : 1;
        c->nxt = c->una;
        c->congestion = c->mss;
        c->recovering = false;
        c->dup_acks = 0;
        resend(c, limit < c->mss ? limit : c->mss);
    } else {
        send_segment(c, 0, c->una - 1, 0, 0);   /* is anybody there? */
    }
    schedule(c, true);
}

/* ---- segments of the guest ---- */

static void read_options(Segment *s, const u8 *p, u32 len)
{
    s->mss = MSS_DEFAULT;
    for (u32 i = 0; i < len && p[i] != OPT_END;) {
        if (p[i] == OPT_NOP) {
            i++;
            continue;
        }
        if (len - i < 2 || p[i + 1] < 2 || p[i + 1] > len - i)
            return;
        if (p[i] == OPT_MSS && p[i + 1] == 4)
            s->mss = get16(p + i + 2);
        if (p[i] == OPT_SHIFT && p[i + 1] == 3) {
            s->has_shift = true;
            s->shift = p[i + 2] < SHIFT_MAX ? p[i + 2] : SHIFT_MAX;
        }
        i += p[i + 1];
    }
    s->mss = s->mss < MSS_MIN ? MSS_MIN : s->mss > TCP_MSS ? TCP_MSS : s->mss;
}

static bool parse(Segment *s, u32 src, u32 dst, const u8 *p, u32 len)
{
    u32 header = len >= TCP_HEADER ? (p[12] >> 4) * 4u : 0;

    if (header < TCP_HEADER || header > len || ip_sum_end(ip_sum(p, len, ip_pseudo_sum(src, dst, PROTO_TCP, len))))
        return false;
    *s = (Segment){ .sport = get16(p), .dport = get16(p + 2), .seq = get32(p + 4), .ack = get32(p + 8),
                    .window = get16(p + 14), .flags = p[13], .len = len - header, .data = p + header };
    if (s->flags & SYN)
        read_options(s, p + TCP_HEADER, header - TCP_HEADER);
    return true;
}

static void take_syn(Tcp *c, const Segment *s)
{
    c->rcv_nxt = s->seq + 1;
    c->mss = s->mss;
    c->window = s->window;
    c->rcv_shift = s->has_shift ? OUR_SHIFT : 0;
    c->snd_shift = s->shift;
}

static void begin(User *u, u32 src, u32 dst, const Segment *s)
{
    HostAddr to;
    Error err;

    if (u->tcp_count >= TCP_MAX || !user_outside(u, dst, s->dport, false, &to)) {
        u->tcp_refused++;
        reset_stranger(u, src, dst, s);
        return;
    }
    Tcp *c = tcp_new(u, src, s->sport, dst, s->dport);
    take_syn(c, s);
    if (!tcp_connect_host(c, &to, &err))
        tcp_reset_guest(c);
}

static void open_up(Tcp *c)
{
    c->state = TCP_OPEN;
    c->una = c->nxt = c->max;
    c->tries = 0;
    schedule(c, true);
    tcp_opened(c);
}

/* The answer to our SYN, or anything else. */
static void answer_input(Tcp *c, const Segment *s)
{
    bool acks = (s->flags & ACK) && s->ack == c->una + 1;

    if ((s->flags & ACK) && !acks) {
        reset_stranger(c->user, c->guest_ip, c->far_ip, s);
    } else if (s->flags & RST) {
        if (acks) {
            tcp_abort_host(c);
            tcp_kill(c);
        }
    } else if ((s->flags & SYN) && acks) {
        take_syn(c, s);
        c->ack_now = true;
        open_up(c);
        tcp_want(c);
    }
}

/* Takes data to out[]; returns how much found room. */
static u32 take_data(Tcp *c, const u8 *data, u32 len)
{
    u32 held = c->out_end - c->out_at;

    if (len > OUT_MAX - held)
        len = OUT_MAX - held;
    if (!len)
        return 0;
    if (c->out_at && c->out_size - c->out_end < len) {
        memmove(c->out, c->out + c->out_at, held);
        c->out_at = 0;
        c->out_end = held;
    }
    if (c->out_size - c->out_end < len) {
        u32 size = c->out_size ? c->out_size : OUT_FIRST;
        while (size < held + len)
            size *= 2;
        u8 *out = realloc(c->out, size);
        if (!out)
            abort();
        c->out = out;
        c->out_size = size;
    }
    memcpy(c->out + c->out_end, data, len);
    c->out_end += len;
    return len;
}

static void data_input(Tcp *c, const Segment *s)
{
    s32 known = (s32)(c->rcv_nxt - s->seq);     /* bytes at its beginning that we have */
    bool fin = s->flags & FIN;

    if (!s->len && !fin)
        return;
    c->ack_now = true;
    if (known < 0 || (u32)known > s->len || c->guest_ended)
        return;                     /* something is missing before it, or it is old */
    u32 fresh = s->len - (u32)known, taken = take_data(c, s->data + known, fresh);
    c->rcv_nxt += taken;
    if (fin && taken == fresh) {
        c->rcv_nxt++;
        c->guest_ended = true;
    }
}

static void acked_bytes(Tcp *c, u32 acked)
{
    u32 data = acked < c->used ? acked : c->used;

    c->fin_acked = acked > data;
    if (data)
        c->ring_at = (c->ring_at + data) & (c->ring_size - 1);
    c->used -= data;
    c->una += acked;
    if ((s32)(c->nxt - c->una) < 0)
        c->nxt = c->una;
    if (c->timed_at && (s32)(c->una - c->timed) >= 0)
        round_trip(c, clock_ns(c->user->net->m, CLOCK_VIRTUAL) - c->timed_at);
    c->tries = 0;
    c->dup_acks = 0;
    if (c->congestion < RING_MAX)
        c->congestion += acked;
    if (c->recovering) {
        c->recovering = (s32)(c->una - c->recover) < 0;
        if (c->recovering)
            resend(c, c->mss);      /* the next hole */
    }
    schedule(c, true);
    tcp_room(c);
}

/* False: it acknowledges what was never sent. */
static bool ack_input(Tcp *c, const Segment *s)
{
    u32 acked = s->ack - c->una, window = s->window << c->snd_shift;

    if ((s32)(s->ack - c->max) > 0) {
        c->ack_now = true;
        return false;
    }
    if ((s32)acked < 0)
        return true;                /* old */
    if (acked) {
        acked_bytes(c, acked);
    } else if (!c->window && window) {
        c->nxt = c->una;            /* what asked for this was not taken */
    } else if (!s->len && window && window == c->window && c->nxt != c->una && !(s->flags & FIN)) {
        if (++c->dup_acks == DUP_ACKS && !c->recovering) {
            c->recovering = true;
            c->recover = c->max;
            resend(c, c->mss);
        }
    }
    c->window = window;
    return true;
}

static void open_input(Tcp *c, const Segment *s)
{
    u32 ahead = s->seq - c->rcv_nxt;

    if (s->flags & RST) {
        if (ahead == 0) {
            tcp_abort_host(c);
            tcp_kill(c);
        } else if (ahead < OUT_MAX) {
            c->ack_now = true;      /* who really resets it knows the number then */
        }
        return;
    }
    if (s->flags & SYN) {
        if (c->state == TCP_SYN_ANSWERED && s->seq + 1 == c->rcv_nxt)
            tcp_send_syn(c);
        else
            c->ack_now = true;
        return;
    }
    if (!(s->flags & ACK))
        return;
    if (c->state == TCP_SYN_ANSWERED) {
        if (s->ack != c->max) {
            reset_stranger(c->user, c->guest_ip, c->far_ip, s);
            return;
        }
        c->window = s->window << c->snd_shift;
        open_up(c);
    } else if (!ack_input(c, s)) {
        return;
    }
    c->heard = true;
    if (!c->busy)
        c->tries = 0;
    data_input(c, s);
}

void tcp_input(User *u, u32 src, u32 dst, const u8 *p, u32 len)
{
    Segment s;

    if (!parse(&s, src, dst, p, len)) {
        u->bad_packets++;
        return;
    }
    Tcp *c = tcp_find(u, src, s.sport, dst, s.dport);
    if (!c) {
        if ((s.flags & (SYN | ACK | RST | FIN)) == SYN)
            begin(u, src, dst, &s);
        else
            reset_stranger(u, src, dst, &s);
        return;
    }
    switch (c->state) {
    case TCP_CONNECTING:
        if (s.flags & RST) {
            tcp_abort_host(c);
            tcp_kill(c);
        }
        return;
    case TCP_SYN_TO_GUEST:
        answer_input(c, &s);
        return;
    case TCP_SYN_ANSWERED:
    case TCP_OPEN:
        open_input(c, &s);
        if (!c->dead)
            tcp_want(c);
        return;
    }
}

/* ---- the whole ---- */

void tcp_list(User *u, PrintFn *print, void *opaque)
{
    static const char *const state[] = { "connecting", "to the guest", "answered", "open" };
    char line[200], guest[16], far[16];

    for (int i = 0; i < TCP_BUCKETS; i++)
        for (const Tcp *c = u->tcp[i]; c; c = c->next) {
            user_ip_text(c->guest_ip, guest);
            user_ip_text(c->far_ip, far);
            snprintf(line, sizeof(line), "    tcp %s:%u - %s:%u %s%s%s, %u bytes to the guest, %u to the host",
                     guest, c->guest_port, far, c->far_port, state[c->state], c->guest_ended ? ", guest ended" : "",
                     c->host_ended ? ", host ended" : "", c->used, c->out_end - c->out_at);
            print(opaque, line);
        }
}

void tcp_close(User *u)
{
    for (int i = 0; i < TCP_BUCKETS; i++)
        while (u->tcp[i])
            tcp_kill(u->tcp[i]);
    while (u->queue) {
        Tcp *c = u->queue;
        u->queue = c->next_queued;
        free(c);
    }
    u->queue_tail = &u->queue;
    timer_cancel(&u->work);
}
