/*
 * What character devices with a peer share: a bounded queue of bytes on their way out. Machine lock held.
 */
#ifndef VM_CHARDEV_STREAM_H
#define VM_CHARDEV_STREAM_H

#include "chardev.h"

enum { CHR_QUEUE = 64 * 1024 };

typedef struct {
    u8 bytes[CHR_QUEUE];
    size_t head, tail;              /* ever growing; tail - head bytes wait */
    bool starved;                   /* a write took less than all: the frontend waits for writable() */
} ChrQueue;

static inline size_t chr_queue_used(const ChrQueue *q) { return q->tail - q->head; }

/* Takes what there is room for, and remembers that somebody waits if that is not all. */
size_t chr_queue_put(ChrQueue *q, const u8 *buf, size_t n);
/* The bytes that wait at *from, without a wrap. */
size_t chr_queue_peek(const ChrQueue *q, const u8 **from);
void chr_queue_take(ChrQueue *q, size_t n);
/* True once when the queue has room again for somebody who waits. */
bool chr_queue_feed(ChrQueue *q);

/* The backends' entries in chardev.c's table. */
Chardev *socket_chr_open(Machine *m, const char *label, const char *spec, Error *err);   /* tcp: telnet: */
Chardev *udp_chr_open(Machine *m, const char *label, const char *spec, Error *err);      /* udp: */

#endif
