/*
 * Floppy formats by image size. Sources: ECMA-70/-78/-99/-100/-125/-147 for the standard ones; the others are
 * those that DMF, fdformat and Linux' fd names write. A drive that reads more than 18 sectors a track is
 * called 2.88M to the firmware, whose INT 13h would otherwise refuse the higher sector numbers. Not here:
 * sector sizes other than 512 bytes.
 */
#include "floppy_geometry.h"

#include "../core/vm/log.h"

static const FloppyGeometry formats[] = {
    { 40, 1,  8, RATE_250K, DRIVE_360K },       /* 160K */
    { 40, 1,  9, RATE_250K, DRIVE_360K },       /* 180K */
    { 40, 2,  8, RATE_250K, DRIVE_360K },       /* 320K */
    { 40, 2,  9, RATE_250K, DRIVE_360K },       /* 360K */
    { 80, 2,  8, RATE_250K, DRIVE_1440K },      /* 640K */
    { 80, 2,  9, RATE_250K, DRIVE_1440K },      /* 720K */
    { 80, 2, 10, RATE_250K, DRIVE_1440K },      /* 800K */
    { 82, 2, 10, RATE_250K, DRIVE_1440K },
    { 83, 2, 10, RATE_250K, DRIVE_1440K },
    { 80, 2, 15, RATE_500K, DRIVE_1200K },      /* 1.2M */
    { 80, 2, 18, RATE_500K, DRIVE_1440K },      /* 1.44M */
    { 82, 2, 18, RATE_500K, DRIVE_1440K },
    { 83, 2, 18, RATE_500K, DRIVE_1440K },
    { 80, 2, 20, RATE_500K, DRIVE_2880K },      /* 1.6M */
    { 80, 2, 21, RATE_500K, DRIVE_2880K },      /* 1.68M, DMF */
    { 82, 2, 21, RATE_500K, DRIVE_2880K },      /* 1.72M */
    { 83, 2, 21, RATE_500K, DRIVE_2880K },
    { 80, 2, 22, RATE_500K, DRIVE_2880K },
    { 80, 2, 23, RATE_500K, DRIVE_2880K },
    { 80, 2, 24, RATE_500K, DRIVE_2880K },
    { 80, 2, 36, RATE_1M,   DRIVE_2880K },      /* 2.88M */
    { 80, 2, 39, RATE_1M,   DRIVE_2880K },
    { 80, 2, 40, RATE_1M,   DRIVE_2880K },
    { 80, 2, 44, RATE_1M,   DRIVE_2880K },
    { 80, 2, 48, RATE_1M,   DRIVE_2880K },
};

static const FloppyGeometry format_1440k = { 80, 2, 18, RATE_500K, DRIVE_1440K };
static const FloppyGeometry format_2880k = { 80, 2, 36, RATE_1M, DRIVE_2880K };

static u32 sectors_of(const FloppyGeometry *g)
{
    return (u32)g->cylinders * g->heads * g->sectors;
}

/* By the BIOS parameter block of the boot sector: bytes a sector 0Bh, sectors 13h, sectors a track 18h, heads
 * 1Ah. */
static bool by_parameter_block(Blk *blk, u64 image_sectors, FloppyGeometry *g)
{
    u8 boot[512];
    u32 total, spt, heads;

    if (!blk_read_now(blk, 0, boot, sizeof(boot)))
        return false;
    total = load16(boot + 0x13);
    spt = load16(boot + 0x18);
    heads = load16(boot + 0x1a);
    if (load16(boot + 0x0b) != 512 || total < image_sectors)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        const FloppyGeometry *f = &formats[i];

        if (f->sectors == spt && f->heads == heads && sectors_of(f) == total) {
            *g = *f;
            return true;
        }
    }
    return false;
}

FloppyGeometry floppy_geometry(Blk *blk)
{
    u64 sectors = blk_bytes(blk) / 512;
    FloppyGeometry g;

    if (!sectors)
        return format_1440k;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (sectors_of(&formats[i]) == sectors)
            return formats[i];
    }
    if (by_parameter_block(blk, sectors, &g))
        return g;
    if (sectors <= sectors_of(&format_1440k))
        return format_1440k;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (formats[i].cylinders == 80 && formats[i].sectors > 18 && sectors_of(&formats[i]) >= sectors)
            return formats[i];
    }
    log_line("%s: %s is larger than any floppy disk; the guest sees its first 2.88 MB", blk_name(blk),
             blk_file(blk));
    return format_2880k;
}
