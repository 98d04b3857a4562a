/*
 * What an image format implements, and what formats offer each other. Machine lock held, main thread unless
 * said otherwise.
 *
 * An image is an array of bytes in whole sectors. Requests reach a driver checked: inside the image, whole
 * sectors, never a write to a read-only image, never a kind it did not claim. submit() may run on the vCPU
 * thread; it ends each request exactly once by image_complete(), later, on the main thread. Formats that lie
 * on another image (an overlay on its base) send requests of their own to it by image_submit().
 */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

#include "../core/vm/blk.h"
#include "../core/vm/host.h"

#define SECTOR 512u

typedef struct BlkImage BlkImage;

/* what is not claimed is answered BLK_OK without the driver */
enum { CAN_FLUSH = 1, CAN_DISCARD = 2 };

typedef struct {
    const char *name;
    unsigned can;
    /* NULL and err; no file is left open */
    BlkImage *(*open)(Machine *m, const char *file, bool readonly, Error *err);
    void (*submit)(BlkImage *img, BlkReq *req);
    void (*close)(BlkImage *img);                   /* nothing is in flight; frees it */
} BlkDriver;

struct BlkImage {                                   /* first member of each format's own image */
    const BlkDriver *drv;
    u64 bytes;                                      /* multiple of SECTOR */
    bool readonly;
};

extern const BlkDriver raw_driver, qcow2_driver, overlay_driver;

/* The driver by name or, with format NULL, by what the file holds; NULL and err where there is none. */
const BlkDriver *image_driver(const char *file, const char *format, Error *err);

static inline void image_submit(BlkImage *img, BlkReq *req) { img->drv->submit(img, req); }
void image_complete(BlkReq *req, BlkResult result);

/* An open file as a raw image; name is for messages. Takes the file over. */
BlkImage *raw_wrap(HostFile *f, const char *name, bool readonly);
/* Reads go to base, writes to an anonymous file that is gone at close. Takes base over; on error base stays
 * the caller's. */
BlkImage *overlay_create(BlkImage *base, Error *err);

/* Zeroed memory. A host without any left ends the program, as everywhere. */
void *block_alloc(size_t bytes);

#endif
