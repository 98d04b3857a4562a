/*
 * VHD, the disk image of Virtual PC and Hyper-V ("Virtual Hard Disk Image Format Specification", 1.0): what
 * reading and making it share. All numbers are big-endian.
 *
 *      footer:   0 "conectix"  8 features  12 version  16 data at  24 time  28 creator  36 host
 *                40 original size  48 size  56 geometry  60 type  64 checksum  68 UUID
 *      dynamic:  0 "cxsparse"  8 ~0  16 table at  24 version  28 entries  32 block size  36 checksum
 *                40 parent's UUID  56 parent's time  64 parent's name (UTF-16)  576 eight locators
 *
 *      fixed:    data | footer
 *      dynamic:  footer's copy | dynamic header | block table | blocks: bitmap, data | footer
 */
#ifndef BLOCK_VPC_H
#define BLOCK_VPC_H

#include "driver.h"

enum {
    VPC_FOOTER = 512, VPC_DYNAMIC = 1024, VPC_FIXED_TYPE = 2, VPC_DYNAMIC_TYPE = 3, VPC_DIFF_TYPE = 4,
    VPC_BLOCK = 2 << 20, VPC_NAME = 256, VPC_LOCATORS = 8, VPC_LOCATOR = 24,
};
#define VPC_SECTORS_MAX 0xff000000ull       /* 2040 GiB */
#define VPC_CHS_MAX (65535ull * 16 * 255)
#define VPC_W2RU 0x57327275u                /* a locator: the parent's name from the image's folder, UTF-16 */

typedef struct { u32 cylinders, heads, sectors; } VpcGeometry;

/* The specification's rule; cylinders are rounded down. */
VpcGeometry vpc_geometry(u64 sectors);
/* The checksum of a footer or header whose own lies at an offset. */
u32 vpc_checksum(const u8 *p, u32 bytes, u32 at);
bool vpc_create(const char *file, const ImageCreate *how, Error *err);
extern const char *const vpc_options[];

#endif
