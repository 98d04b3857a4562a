/*
 * Character devices on a handle that is read and written by overlapped requests: named pipes, serial ports.
 * One read and one write are under way at a time; both end on the main thread, by events of its wait set.
 * hc_kick() may be called on the vCPU thread; all else is the main thread's. Machine lock held throughout.
 */
#ifndef WIN32_HANDLE_CHR_H
#define WIN32_HANDLE_CHR_H

#include "win.h"

#include "../core/vm/chardev.h"
#include "../core/vm/chardev_stream.h"

enum { HC_PIECE = 4096 };

typedef struct HandleChr {
    Chardev chr;
    HANDLE h;                       /* INVALID_HANDLE_VALUE: not connected */
    OVERLAPPED rd, wr;              /* their events are manual-reset */
    HANDLE kick;                    /* event: there is something to write, or room to read */
    WaitItem *rd_item, *wr_item, *kick_item;
    bool reading, writing;
    u8 in[HC_PIECE], piece[HC_PIECE];
    size_t at, end;                 /* of `in`: waits for the frontend */
    ChrQueue out;
    void (*broken)(struct HandleChr *hc, DWORD code);      /* nothing is under way any more; h is closed */
} HandleChr;

void hc_init(HandleChr *hc);                    /* events; the Chardev is initialised already */
void hc_attach(HandleChr *hc, HANDLE h);        /* connected: starts reading */
void hc_detach(HandleChr *hc);                  /* ends what is under way and closes the handle */
void hc_free(HandleChr *hc);
/* For a ChrBackend. */
size_t hc_write(Chardev *chr, const u8 *buf, size_t n);
void hc_accept(Chardev *chr);

#endif
