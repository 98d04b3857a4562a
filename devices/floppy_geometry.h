/* Which floppy disk an image is: tracks, heads, sectors and data rate. Machine lock held. */
#ifndef DEVICES_FLOPPY_GEOMETRY_H
#define DEVICES_FLOPPY_GEOMETRY_H

#include "../core/vm/blk.h"

/* The data rates as DSR and CCR code them. */
enum { RATE_500K = 0, RATE_300K = 1, RATE_250K = 2, RATE_1M = 3 };
/* The drives as CMOS byte 10h codes them. */
enum { DRIVE_NONE, DRIVE_360K, DRIVE_1200K, DRIVE_720K, DRIVE_1440K, DRIVE_2880K };

typedef struct {
    u8 cylinders, heads, sectors, rate;
    u8 drive;                       /* the drive that suits it */
} FloppyGeometry;

/*
 * A size that some format has is that format. Any other size (a hobby system's image, from one boot sector
 * on) takes the geometry of its BIOS parameter block if that holds the image, else the smallest 3.5" format
 * that does; what the file lacks of it reads as zeros. Without a medium: an empty 1.44M drive's. Blocks:
 * reads the boot sector of odd sizes.
 */
FloppyGeometry floppy_geometry(Blk *blk);

#endif
