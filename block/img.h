/*
 * qemu-img: what its commands share. Everything here is blocking and runs in a program of its own, without a
 * machine. Commands return the exit code.
 */
#ifndef BLOCK_IMG_H
#define BLOCK_IMG_H

#include "qcow2.h"

typedef struct {
    const char *opt[128];           /* by letter: the value, "" for one without, NULL: not given */
    const char *file[32];
    int files;
    bool json, chain, shrink, no_drain;
    const char *flush_interval, *pattern, *size;    /* of bench and measure */
} ImgArgs;

int img_main(int argc, char **argv);

int img_create(const ImgArgs *a);
int img_resize(const ImgArgs *a);
int img_convert(const ImgArgs *a);
int img_compare(const ImgArgs *a);
int img_info(const ImgArgs *a);
int img_check(const ImgArgs *a);
int img_map(const ImgArgs *a);
int img_snapshot(const ImgArgs *a);
int img_commit(const ImgArgs *a);
int img_rebase(const ImgArgs *a);
int img_dd(const ImgArgs *a);
int img_bench(const ImgArgs *a);
int img_measure(const ImgArgs *a);
bool img_wants_help(const ImgArgs *a);          /* -o help */
int img_options_help(const char *format);

/* ---- img_util.c ---- */
enum { IMG_BUF = 2 << 20 };
int img_fail(const char *fmt, ...) PRINTF_LIKE(1, 2);           /* says it on stderr; 1 */
void img_say(const ImgArgs *a, const char *fmt, ...) PRINTF_LIKE(2, 3);     /* unless -q */
void img_progress(const ImgArgs *a, u64 done, u64 of);          /* with -p */
/* Ctrl-C is seen by img_interrupted() from now on, so that nothing is left half-done. */
void img_catch_interrupts(void);
bool img_interrupted(Error *err);                               /* true: err says so */
BlkImage *img_open(const char *file, const char *format, bool writable, Error *err);
BlkImage *img_open_read(const char *file, const char *format,
                        Error *err);                            /* an empty file is a disk of no bytes */
Qcow2 *img_qcow2(BlkImage *img);                                /* NULL: of another format */
BlkImage *img_backing(BlkImage *img);                           /* NULL: none */
void img_close(BlkImage *img);
/* What a disk holds from an offset on, for at least one sector. depth: 0 the image itself, 1 its base, ... */
typedef struct {
    bool data, zero, present, compressed, has_offset;
    u64 bytes, at;
    int depth;
    BlkImage *owner;
} ImgStatus;
bool img_status(BlkImage *img, u64 at, u64 bytes, ImgStatus *out, Error *err);
bool img_read(BlkImage *img, u64 at, void *buf, u64 bytes, Error *err);     /* zeros behind the end */
bool img_write(BlkImage *img, u64 at, void *buf, u64 bytes, Error *err);
bool img_is_zero(const u8 *p, u64 bytes);
void img_human(u64 bytes, char *out, size_t size);              /* 1.5 GiB */
void img_json_text(const char *s);
/* Makes an image; options are checked against what the format knows. */
bool img_make(const char *file, const char *format, ImageCreate *how, Error *err);
void img_list_snapshots(Qcow2 *q);

#endif
