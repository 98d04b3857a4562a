/*
 * The engine of convert and dd: copies disks with many requests in flight, leaves out what is known to be
 * zeros, and compresses on all cores. Blocking.
 */
#ifndef BLOCK_IMG_COPY_H
#define BLOCK_IMG_COPY_H

#include "img.h"

enum { COPY_SOURCES = 16, COPY_BUF = 2 << 20 };

typedef struct {
    const ImgArgs *a;
    BlkImage *from[COPY_SOURCES];   /* one behind the other */
    int sources;
    u64 skip, bytes;                /* of the sources together: where to begin, how much is copied */
    BlkImage *to;
    bool compress;
    bool has_base;                  /* what reads the same in the target already is not written */
    u64 sparse;                     /* runs of zeros this long are not written; 0: all is written */
} Copy;

/* False: err; the target is unfinished. */
bool img_copy(Copy *c, Error *err);

#endif
