/*
 * VLANs: hubs whose members get what the others send, bounded queues for those that can't take it at once, and
 * what `info network` and `info iostats` show. The contract is core/vm/nic.h.
 *
 * A frame goes straight to a member whose queue is empty and which takes it; only what is refused is copied.
 * Nobody is called twice at a time: what a member sends while frames are being handed to another is fine, but
 * what would come back to one that is just receiving waits in its queue.
 */
#include "net_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/monitor.h"

enum { QUEUE_FRAMES = 1024, QUEUE_BYTES = 1 << 20, SWEEP_S = 2 };

typedef struct Frame {
    struct Frame *next;
    u32 len;
    u8 data[];
} Frame;

struct NetPeer {
    Net *net;
    NetPeer *next;
    int vlan;
    char name[48];
    const NetPeerOps *ops;
    void *opaque;
    Frame *head, **tail;
    u32 frames, bytes;
    bool link_down, waiting, receiving;
    bool stalled;               /* full for too long: nobody waits for it */
    bool gone;                  /* left while frames were on their way */
    u64 full_since;             /* CLOCK_HOST, 0: it is not full */
    u64 in_frames, in_bytes, out_frames, out_bytes, dropped;
    u32 most;                   /* frames that were in the queue at a time */
};

static void *get(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        abort();
    return p;
}

static bool full(const NetPeer *p)
{
    return p->frames >= QUEUE_FRAMES || p->bytes >= QUEUE_BYTES;
}

/* ---- waiting to send ---- */

bool net_can_send(NetPeer *p)
{
    for (const NetPeer *to = p->net->peers; to; to = to->next)
        if (to->vlan == p->vlan && to != p && !to->gone && full(to) && !to->stalled)
            return false;
    return true;
}

static void soon(Net *n)
{
    if (!timer_armed(&n->soon))
        timer_arm(&n->soon, clock_ns(n->m, CLOCK_HOST));
}

void net_wait_to_send(NetPeer *p)
{
    p->waiting = true;
    if (net_can_send(p))
        soon(p->net);
}

static void peers_clean(Net *n)
{
    for (NetPeer **at = &n->peers; *at;) {
        NetPeer *p = *at;
        if (p->gone) {
            *at = p->next;
            free(p);
        } else {
            at = &p->next;
        }
    }
}

/* Callbacks may leave: members are only unlinked when nobody walks the list. */
static bool walk_begin(Net *n)
{
    bool outer = !n->delivering;
    n->delivering = true;
    return outer;
}

static void walk_end(Net *n, bool outer)
{
    if (!outer)
        return;
    n->delivering = false;
    peers_clean(n);
}

static void senders_go(void *opaque)
{
    Net *n = opaque;
    bool outer = walk_begin(n);

    for (NetPeer *p = n->peers; p; p = p->next) {
        if (!p->waiting || p->gone || !net_can_send(p))
            continue;
        p->waiting = false;
        if (p->ops->may_send)
            p->ops->may_send(p->opaque);
    }
    walk_end(n, outer);
}

static bool anybody_waits(const Net *n)
{
    for (const NetPeer *p = n->peers; p; p = p->next)
        if (p->waiting)
            return true;
    return false;
}

static void look_at_stalls(void *opaque)
{
    const u64 limit = (u64)NET_STALL_MS * 1000000;
    Net *n = opaque;
    u64 now = clock_ns(n->m, CLOCK_HOST), next = TIMER_NEVER;

    for (NetPeer *p = n->peers; p; p = p->next) {
        if (!p->full_since || p->stalled)
            continue;
        if (now - p->full_since >= limit)
            p->stalled = true;
        else if (p->full_since + limit < next)
            next = p->full_since + limit;
    }
    if (next != TIMER_NEVER)
        timer_arm(&n->stall, next);
    if (anybody_waits(n))
        soon(n);
}

/* ---- queues ---- */

static void frame_drop_first(NetPeer *p)
{
    Frame *f = p->head;

    p->head = f->next;
    if (!p->head)
        p->tail = &p->head;
    p->frames--;
    p->bytes -= f->len;
    free(f);
}

static void enqueue(NetPeer *p, const u8 *frame, u32 len)
{
    if (full(p)) {
        p->dropped++;
        return;
    }
    Frame *f = malloc(sizeof(*f) + len);
    if (!f) {
        p->dropped++;
        return;
    }
    f->next = NULL;
    f->len = len;
    memcpy(f->data, frame, len);
    *p->tail = f;
    p->tail = &f->next;
    p->bytes += len;
    if (++p->frames > p->most)
        p->most = p->frames;
    if (full(p) && !p->full_since) {
        p->full_since = clock_ns(p->net->m, CLOCK_HOST) | 1;
        if (!timer_armed(&p->net->stall))
            timer_arm(&p->net->stall, p->full_since + (u64)NET_STALL_MS * 1000000);
    }
}

static bool hand_over(NetPeer *p, const u8 *frame, u32 len)
{
    p->receiving = true;
    bool taken = p->ops->receive(p->opaque, frame, len);
    p->receiving = false;
    if (taken) {
        p->in_frames++;
        p->in_bytes += len;
        p->net->delivered++;
    }
    return taken;
}

void net_ready(NetPeer *p)
{
    Net *n = p->net;

    if (p->receiving || p->gone)
        return;
    bool outer = walk_begin(n);
    while (p->head && !p->gone && hand_over(p, p->head->data, p->head->len))
        frame_drop_first(p);
    if (!full(p)) {
        p->full_since = 0;
        p->stalled = false;
    }
    if (p->frames <= QUEUE_FRAMES / 2 && p->bytes <= QUEUE_BYTES / 2 && anybody_waits(n))
        soon(n);
    walk_end(n, outer);
}

void net_send(NetPeer *p, const u8 *frame, u32 len)
{
    Net *n = p->net;

    if (len == 0 || len > NET_FRAME_MAX || p->link_down || p->gone) {
        p->dropped++;
        return;
    }
    p->out_frames++;
    p->out_bytes += len;
    bool outer = walk_begin(n);
    for (NetPeer *to = n->peers; to; to = to->next) {
        if (to == p || to->vlan != p->vlan || to->gone)
            continue;
        if (to->link_down)
            to->dropped++;
        else if (to->head || to->receiving || !hand_over(to, frame, len))
            enqueue(to, frame, len);
        else if (to->head)
            net_ready(to);                      /* somebody answered it at once */
    }
    walk_end(n, outer);
}

/* ---- members ---- */

NetPeer *net_join(Machine *m, int vlan, const char *name, const NetPeerOps *ops, void *opaque)
{
    Net *n = net_of(m);
    NetPeer *p = get(sizeof(*p)), **at = &n->peers;

    p->net = n;
    p->vlan = vlan;
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->ops = ops;
    p->opaque = opaque;
    p->tail = &p->head;
    while (*at)
        at = &(*at)->next;
    *at = p;
    return p;
}

void net_leave(NetPeer *p)
{
    Net *n = p->net;

    while (p->head)
        frame_drop_first(p);
    p->gone = true;
    p->waiting = false;
    p->full_since = 0;
    if (anybody_waits(n))
        soon(n);
    if (!n->delivering)
        peers_clean(n);
}

bool net_set_link(Machine *m, const char *name, bool up)
{
    bool found = false;

    for (NetPeer *p = net_of(m)->peers; p; p = p->next) {
        if (strcmp(p->name, name) || p->gone)
            continue;
        p->link_down = !up;
        while (!up && p->head)
            frame_drop_first(p);
        p->full_since = 0;
        found = true;
    }
    return found;
}

int net_cards(Machine *m, const NicConfig **list)
{
    *list = net_of(m)->card;
    return net_of(m)->cards;
}

/* ---- what the monitor shows ---- */

static void show_peer(const NetPeer *p, PrintFn *print, void *opaque)
{
    char text[200] = "", line[512];

    if (p->ops->describe)
        p->ops->describe(p->opaque, text, sizeof(text));
    snprintf(line, sizeof(line), "  %s: %s%s", p->name, text, p->link_down ? " (link is down)" : "");
    print(opaque, line);
    snprintf(line, sizeof(line), "    sent %llu frames, %llu bytes; received %llu frames, %llu bytes; dropped %llu; "
             "queue %u of %d, at most %u%s", (unsigned long long)p->out_frames, (unsigned long long)p->out_bytes,
             (unsigned long long)p->in_frames, (unsigned long long)p->in_bytes, (unsigned long long)p->dropped,
             p->frames, QUEUE_FRAMES, p->most, p->stalled ? ", stalled" : "");
    print(opaque, line);
}

static void show_network(void *opaque, PrintFn *print, void *print_opaque)
{
    Net *n = opaque;
    char line[80];

    if (!n->peers)
        print(print_opaque, "no networks; -net nic -net socket,... makes one");
    for (const NetPeer *first = n->peers; first; first = first->next) {
        const NetPeer *p = n->peers;
        while (p != first && p->vlan != first->vlan)
            p = p->next;
        if (p != first)
            continue;                           /* its VLAN was shown with an earlier member */
        if (first->vlan >= 0)
            snprintf(line, sizeof(line), "VLAN %d:", first->vlan);
        else
            snprintf(line, sizeof(line), "netdev %d:", -first->vlan);
        print(print_opaque, line);
        for (p = first; p; p = p->next)
            if (p->vlan == first->vlan)
                show_peer(p, print, print_opaque);
    }
}

static void show_iostats(void *opaque, PrintFn *print, void *print_opaque)
{
    const HostNetStats *s = host_net_stats();
    const Net *n = opaque;
    char line[200];

    snprintf(line, sizeof(line), "sockets: %u open, %llu wake-ups, %llu frames delivered", s->sockets,
             (unsigned long long)s->wakes, (unsigned long long)n->delivered);
    print(print_opaque, line);
    snprintf(line, sizeof(line), "receive: %llu calls, %llu bytes; send: %llu calls, %llu bytes",
             (unsigned long long)s->recv_calls, (unsigned long long)s->recv_bytes,
             (unsigned long long)s->send_calls, (unsigned long long)s->send_bytes);
    print(print_opaque, line);
    snprintf(line, sizeof(line), "events rescued by the safety sweep: %llu", (unsigned long long)s->rescued);
    print(print_opaque, line);
}

/* ---- the whole ---- */

static void sweep(void *opaque)
{
    Net *n = opaque;

    if (!host_net_stats()->sockets)
        return;
    host_socket_sweep();
    timer_arm(&n->sweep, clock_ns(n->m, CLOCK_HOST) + SWEEP_S * NS_PER_SEC);
}

void net_watch_sockets(Net *n)
{
    if (!timer_armed(&n->sweep))
        timer_arm(&n->sweep, clock_ns(n->m, CLOCK_HOST) + SWEEP_S * NS_PER_SEC);
}

Net *net_of(Machine *m)
{
    if (!m->net) {
        m->net = get(sizeof(*m->net));
        m->net->m = m;
        timer_init(&m->net->soon, m, CLOCK_HOST, senders_go, m->net);
        timer_init(&m->net->stall, m, CLOCK_HOST, look_at_stalls, m->net);
        timer_init(&m->net->sweep, m, CLOCK_HOST, sweep, m->net);
        monitor_add_info(m, "network", "VLANs and who hangs on them", show_network, m->net);
        monitor_add_info(m, "iostats", "what the sockets did", show_iostats, m->net);
    }
    return m->net;
}

void net_close(Machine *m)
{
    Net *n = m->net;

    if (!n)
        return;
    bool outer = walk_begin(n);
    for (NetPeer *p = n->peers; p; p = p->next)
        if (p->ops->close && !p->gone)
            p->ops->close(p->opaque);
    for (NetPeer *p = n->peers; p; p = p->next)
        if (!p->gone)
            net_leave(p);
    walk_end(n, outer);
    timer_cancel(&n->soon);
    timer_cancel(&n->stall);
    timer_cancel(&n->sweep);
    free(n);
    m->net = NULL;
}
