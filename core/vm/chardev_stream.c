/* The bounded queue of character devices with a peer; see chardev_stream.h. */
#include "chardev_stream.h"

#include <string.h>

size_t chr_queue_put(ChrQueue *q, const u8 *buf, size_t n)
{
    size_t room = CHR_QUEUE - chr_queue_used(q), take = n < room ? n : room;
    size_t at = q->tail % CHR_QUEUE, first = take < CHR_QUEUE - at ? take : CHR_QUEUE - at;
    memcpy(q->bytes + at, buf, first);
    memcpy(q->bytes, buf + first, take - first);
    q->tail += take;
    q->starved |= take < n;
    return take;
}

size_t chr_queue_peek(const ChrQueue *q, const u8 **from)
{
    size_t at = q->head % CHR_QUEUE, n = chr_queue_used(q);
    *from = q->bytes + at;
    return n < CHR_QUEUE - at ? n : CHR_QUEUE - at;
}

void chr_queue_take(ChrQueue *q, size_t n)
{
    q->head += n;
}

bool chr_queue_feed(ChrQueue *q)
{
    bool feed = q->starved && chr_queue_used(q) < CHR_QUEUE;
    if (feed)
        q->starved = false;
    return feed;
}
