/*
 * VMDK, the disk image of VMware ("Virtual Disk Format 5.0"), little-endian: what its files share.
 *
 * A disk is described by a text, in a file of its own or inside the only extent. Its extents lie behind each
 * other: flat (plain bytes), zero, or sparse:
 *
 *      0 "KDMV"  4 version  8 flags  12 capacity  20 grain size  28 descriptor at, size  44 entries a table
 *      48 redundant directory at  56 directory at  64 overhead  72 unclean  73 line ends  77 compression
 *      (places and sizes in sectors)
 *
 *      grain directory -> grain tables (32-bit numbers of sectors) -> grains;  twice, the second for safety
 *      a compressed grain has a marker in front: 64-bit disk sector, 32-bit length of the zlib stream
 *
 * The extent of old ESX, "COWD": 12 disk sectors  16 grain size  20 directory at  24 its entries; tables of
 * 4096 entries.
 */
#ifndef BLOCK_VMDK_H
#define BLOCK_VMDK_H

#include "areas.h"
#include "sparse.h"

enum {
    VMDK_HEADER = 512, VMDK_GTES = 512, VMDK_GRAIN = 65536, VMDK_MARKER = 12,
    VMDK_TEXT_MAX = 1 << 20, VMDK_EXTENTS_MAX = 4096, VMDK_EMBEDDED_SECTORS = 20,
    VMDK_NEWLINES = 1, VMDK_REDUNDANT = 2, VMDK_ZEROED = 4,
};
#define VMDK_COMPRESSED (1u << 16)
#define VMDK_MARKERS (1u << 17)
#define VMDK_NO_PARENT 0xffffffffu
#define VMDK_AT_END (~0ull)                 /* the directory's place stands in a footer */

typedef enum { VMDK_FLAT, VMDK_ZERO, VMDK_SPARSE } VmdkKind;

typedef struct {
    VmdkKind kind;
    u32 file;
    u64 start, bytes;                       /* on the disk */
    u64 at;                                 /* FLAT */
    u64 grain, gd_at, rgd_at;               /* SPARSE; rgd_at 0: none */
    u32 gtes, gds;                          /* entries of a table, of the directory */
    bool compressed, zeroed, writable;
    Areas tables;
} VmdkExtent;

typedef struct {
    Sparse s;
    VmdkExtent *extent;
    u32 extents;
    char create_type[40];
    u32 cid, parent_cid;
    u64 text_at, text_bytes;                /* in file 0 */
} Vmdk;

/* ---- vmdk_text.c ---- */
/* The value of "name=value", without quotes; false: it is not there. */
bool vmdk_value(const char *text, const char *name, char *out, size_t size);
typedef struct {
    u64 sectors, at;
    VmdkKind kind;
    bool writable;
    char name[300];                         /* "" for ZERO */
} VmdkLine;
/* The next extent line from *text on, which moves behind it; false: there is none, or it is wrong (then the
 * Error is filled). */
bool vmdk_line(const char **text, VmdkLine *out, Error *err);
bool vmdk_create(const char *file, const ImageCreate *how, Error *err);
extern const char *const vmdk_options[];

/* ---- vmdk_open.c ---- */
BlkImage *vmdk_open(Machine *m, const char *file, bool readonly, Error *err);
void vmdk_freed(Sparse *s);
void vmdk_close(BlkImage *img);
void vmdk_facts(BlkImage *img, ImageFacts *out);

/* ---- vmdk.c ---- */
extern const SparseOps vmdk_ops;
bool vmdk_write_packed(BlkImage *img, u64 at, const u8 *packed, u32 bytes, Error *err);

#endif
