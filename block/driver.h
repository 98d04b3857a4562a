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

/* What a part of an image's disk holds. */
typedef enum { PART_ZERO, PART_BASE, PART_DATA, PART_PACKED } ImagePartKind;
typedef struct {
    ImagePartKind kind;
    u64 bytes;                      /* from the offset asked for; at least one sector */
    bool at_known;                  /* DATA: it lies in the image's own file, at this offset */
    u64 at;
} ImagePart;

/* What a format tells about an image; what does not apply is zero. The texts live as long as the image. */
typedef struct {
    BlkImage *backing;
    const char *backing_name, *backing_format;      /* as the file has them; NULL: none */
    u32 unit;                       /* bytes that are allocated together */
    bool packs, packs_only;         /* write_packed() works; packs_only: no other writes do */
    int pack_window;                /* for deflateInit2(): its window bits, below 0: raw deflate */
    char more[400];                 /* "key: value\n" for each line */
} ImageFacts;

typedef struct {
    u64 bytes;                      /* of the disk, a multiple of SECTOR */
    const char *options;            /* "name=value,name=value", names out of create_options; or NULL */
    const char *base, *base_format; /* the backing file's name as it goes into the image; NULL: none */
    u64 base_bytes;
} ImageCreate;

struct BlkSave { Blk *blk; };                       /* a format's own begins with it */

/* What a format with snapshots offers: the functions of blk.h, on an image. Blocking, nothing in flight. */
typedef struct {
    bool (*list)(BlkImage *img, BlkSnapshot **list, u32 *count, Error *err);
    BlkSave *(*begin)(BlkImage *img, const char *from, const u32 *share, u32 count, Error *err);
    bool (*end)(BlkSave *save, const BlkSnapshot *row, Error *err);
    void (*abort)(BlkSave *save);
    void (*write)(BlkSave *save, BlkReq *req);      /* not blocking */
    bool (*read)(BlkImage *img, const char *id, u64 offset, void *buf, u64 bytes, Error *err);
    bool (*apply)(BlkImage *img, const char *id, Error *err);
    bool (*remove)(BlkImage *img, const char *id, Error *err);
    u32 (*block_bytes)(BlkImage *img);
} BlkSnapshotOps;

typedef struct {
    const char *name;
    unsigned can;
    /* NULL and err; no file is left open */
    BlkImage *(*open)(Machine *m, const char *file, bool readonly, Error *err);
    void (*submit)(BlkImage *img, BlkReq *req);
    void (*close)(BlkImage *img);                   /* nothing is in flight; frees it */
    /* For tools, blocking. What a format does not have is NULL. */
    bool (*part)(BlkImage *img, u64 at, u64 bytes, ImagePart *out, Error *err);
    void (*facts)(BlkImage *img, ImageFacts *out);
    bool (*resize)(BlkImage *img, u64 bytes, Error *err);
    /* One unit, compressed, where the image has nothing yet */
    bool (*write_packed)(BlkImage *img, u64 at, const u8 *packed, u32 bytes, Error *err);
    bool (*create)(const char *file, const ImageCreate *how, Error *err);
    const char *const *create_options;              /* ends with NULL */
    BlkImage *(*open_alone)(const char *file, Error *err);      /* read-only, without its backing file */
    const BlkSnapshotOps *snapshots;                /* NULL: none */
} BlkDriver;

struct BlkImage {                                   /* first member of each format's own image */
    const BlkDriver *drv;
    u64 bytes;                                      /* multiple of SECTOR */
    bool readonly;
};

extern const BlkDriver raw_driver, qcow2_driver, overlay_driver, fat_driver;
extern const BlkDriver qcow_driver, vmdk_driver, vpc_driver, vdi_driver, vhdx_driver, parallels_driver,
    bochs_driver, cow_driver, cloop_driver, dmg_driver;

/* Where a step of work stands: done; waiting for input or output, to be made again; failed. */
typedef enum { STEP_OK, STEP_WAIT, STEP_FAIL } Step;

static inline u16 be16(const void *p) { return __builtin_bswap16(load16(p)); }
static inline u32 be32(const void *p) { return __builtin_bswap32(load32(p)); }
static inline u64 be64(const void *p) { return __builtin_bswap64(load64(p)); }
static inline void put16(void *p, u16 v) { store16(p, __builtin_bswap16(v)); }
static inline void put32(void *p, u32 v) { store32(p, __builtin_bswap32(v)); }
static inline void put64(void *p, u64 v) { store64(p, __builtin_bswap64(v)); }
static inline u64 round_up(u64 v, u64 to) { return (v + to - 1) / to * to; }

/* The driver by name or, with format NULL, by what the file holds; NULL and err where there is none. */
const BlkDriver *image_driver(const char *file, const char *format, Error *err);

/* A disk or drive of the host by its name: d:, \\.\PhysicalDrive1, /dev/cdrom. */
bool image_is_device(const char *file);
const BlkDriver *image_driver_named(const char *format);        /* NULL: not in this build */
const BlkDriver *image_driver_number(int n);                    /* NULL past the last */
/* A name that leads to a device or to another computer is not opened because an image says so. */
bool image_name_allowed(const char *image, const char *name, Error *err);
/* Sizes and options as people write them: 512, 64k, 1.5G; "name=value,name=value", the value cut to size */
bool image_size(const char *text, u64 *bytes, Error *err);
bool image_option(const char *list, const char *name, char *value, size_t size);

static inline void image_submit(BlkImage *img, BlkReq *req) { img->drv->submit(img, req); }
void image_complete(BlkReq *req, BlkResult result);
BlkResult image_do(BlkImage *img, BlkOp op, u64 offset, void *buf, u32 bytes);  /* blocking */

/* An open file as a raw image; name is for messages. Takes the file over. */
BlkImage *raw_wrap(HostFile *f, const char *name, bool readonly);
/* Reads go to base, writes to an anonymous file that is gone at close. Takes base over; on error base stays
 * the caller's. */
BlkImage *overlay_create(BlkImage *base, Error *err);
/* What was written goes into the file, which must be the base's. Nothing in flight; blocking. */
bool overlay_commit(BlkImage *img, Machine *m, const char *file, Error *err);
bool overlay_has(BlkImage *img, u64 at, u64 bytes); /* any of it was written */
bool overlay_usable(const BlkImage *img);           /* false: its base could not be opened again */

/* Zeroed memory. A host without any left ends the program, as everywhere. */
void *block_alloc(size_t bytes);

#endif
