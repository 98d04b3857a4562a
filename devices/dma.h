/*
 * Two cascaded 8237A DMA controllers of a PC/AT with their page registers. Channels 0-3 move bytes, 5-7
 * words, 4 is the cascade. Source: Intel 8237A data sheet; IBM PC/AT technical reference, "DMA". Machine
 * lock held for every call.
 *
 * A device that has data asks dma_transfer(); whatever it takes is moved at once. If the channel is not
 * ready (masked, controller off, wrong direction) 0 comes back: the device waits for its dma_watch()
 * callback and tries again.
 */
#ifndef DEVICES_DMA_H
#define DEVICES_DMA_H

#include "../core/vm/types.h"

typedef struct Machine Machine;
typedef struct Dma Dma;

Dma *dma_create(Machine *m);

/*
 * Moves up to `bytes` between buf and the guest's memory. to_memory: from the device to memory (the mode
 * register's "write"). Returns the bytes moved; less than asked when the terminal count was reached (see
 * dma_tc) or the channel is not ready. Verify mode counts without touching memory; the buffer is then left
 * alone (to_memory) or filled with zeros. Channels 5-7 count words: an odd last byte is not moved.
 */
u32 dma_transfer(Dma *dma, int channel, void *buf, u32 bytes, bool to_memory);
bool dma_tc(const Dma *dma, int channel);       /* its last dma_transfer() ended at terminal count */
bool dma_ready(const Dma *dma, int channel);    /* controller on, channel not masked */
u32 dma_left(const Dma *dma, int channel);      /* bytes until terminal count */

/* The device's request line, for the status register; and who hears that the guest made the channel ready. */
void dma_set_dreq(Dma *dma, int channel, bool level);
void dma_watch(Dma *dma, int channel, void (*ready)(void *opaque), void *opaque);

#endif
