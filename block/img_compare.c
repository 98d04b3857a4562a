/* qemu-img compare: two disks, byte for byte; what is known to be zeros in both is not read. */
#include "img.h"

#include <stdlib.h>
#include <string.h>

enum { SAME = 0, DIFFERENT = 1, FAILED = 2 };

static int compare(const ImgArgs *a, BlkImage *x, BlkImage *y, Error *err)
{
    u64 total = x->bytes > y->bytes ? x->bytes : y->bytes;
    u8 *bx = block_alloc(IMG_BUF), *by = block_alloc(IMG_BUF);
    int result = SAME;

    for (u64 at = 0; at < total && result == SAME; ) {
        u64 n = total - at < IMG_BUF ? total - at : IMG_BUF;
        ImgStatus sx, sy;

        if (!img_status(x, at, total - at, &sx, err) || !img_status(y, at, total - at, &sy, err)) {
            result = FAILED;
            break;
        }
        if (sx.zero && sy.zero) {
            at += sx.bytes < sy.bytes ? sx.bytes : sy.bytes;
            continue;
        }
        if (!img_read(x, at, bx, n, err) || !img_read(y, at, by, n, err))
            result = FAILED;
        for (u64 k = 0; k < n && result == SAME; k += SECTOR) {
            if (memcmp(bx + k, by + k, SECTOR)) {
                img_say(a, "Content mismatch at offset %llu!\n", (unsigned long long)(at + k));
                result = DIFFERENT;
            }
        }
        at += n;
        img_progress(a, at, total);
    }
    free(bx);
    free(by);
    return result;
}

int img_compare(const ImgArgs *a)
{
    BlkImage *x, *y = NULL;
    Error err;
    int result = FAILED;

    if (a->files != 2) {
        img_fail("compare needs two files");
        return FAILED;
    }
    x = img_open_read(a->file[0], a->opt['f'], &err);
    if (x)
        y = img_open_read(a->file[1], a->opt['F'], &err);
    if (y && x->bytes != y->bytes && a->opt['s']) {
        img_say(a, "Strict mode: Image size mismatch!\n");
        result = DIFFERENT;
    } else if (y) {
        if (x->bytes != y->bytes)
            img_say(a, "Warning: Image size mismatch!\n");
        result = compare(a, x, y, &err);
    }
    img_close(x);
    img_close(y);
    if (result == FAILED)
        img_fail("%s", err.text);
    if (result == SAME)
        img_say(a, "Images are identical.\n");
    return result;
}
