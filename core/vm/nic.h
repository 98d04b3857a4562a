/*
 * Networks. A VLAN is a hub: what one of its members (network cards, sockets, dumps) sends reaches all others.
 * Implemented by net/. Machine lock held for every call; members are called on the main thread or, for a
 * frame that a guest sends, on the vCPU thread.
 *
 * Back-pressure: a member may refuse a frame. The hub then keeps it and what follows in that member's queue,
 * which is bounded, and goes on when the member says net_ready(). Who is about to send asks net_can_send();
 * if a queue is full, it waits for may_send(). A member that stays full for STALL_MS stops nobody any more:
 * what it can't take is dropped and counted, as on a wire, until it takes something again.
 */
#ifndef VM_NIC_H
#define VM_NIC_H

#include "error.h"
#include "types.h"

typedef struct Machine Machine;
typedef struct NetPeer NetPeer;

enum { NET_FRAME_MAX = 69632, NET_STALL_MS = 200, MAC_LEN = 6 };

typedef struct {
    /* A whole Ethernet frame without its check sequence, 1..NET_FRAME_MAX bytes. False: not now. */
    bool (*receive)(void *opaque, const u8 *frame, u32 len);
    void (*may_send)(void *opaque);             /* after net_can_send() said no. May be NULL */
    void (*close)(void *opaque);                /* by net_close(): leaves and frees itself. NULL: somebody else does */
    /* What the member is connected to, for `info network`. May be NULL. */
    void (*describe)(void *opaque, char *text, size_t size);
} NetPeerOps;

/* Name is copied. Never NULL. */
NetPeer *net_join(Machine *m, int vlan, const char *name, const NetPeerOps *ops, void *opaque);
void net_leave(NetPeer *p);                     /* also from inside its own callbacks */
bool net_can_send(NetPeer *p);
void net_wait_to_send(NetPeer *p);              /* may_send() comes, from the main loop, when net_can_send() */
void net_send(NetPeer *p, const u8 *frame, u32 len);
void net_ready(NetPeer *p);                     /* it takes frames again: the queue is delivered */
bool net_set_link(Machine *m, const char *name, bool up);       /* false: no such member */

/* What the command line asks for: opens the members that are no cards, and lists the cards for the board. */
typedef struct {
    int vlan;
    u8 mac[MAC_LEN];
    char name[32], model[16];                   /* model: ne2k_pci or ne2k_isa */
    u32 iobase, irq;                            /* of an ISA card */
    int devfn;                                  /* of a PCI card; -1: any */
} NicConfig;
bool net_open(Machine *m, Error *err);
void net_close(Machine *m);                     /* the cards are gone already */
int net_cards(Machine *m, const NicConfig **list);

#endif
