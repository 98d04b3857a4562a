/*
 * A coverage-guided fuzzer of image formats, for libFuzzer: `make -f Makefile.mingw fuzz FORMAT=vmdk` builds
 * it with clang and runs it for a while from small sound images. The format is named by QEMU_WIN_FUZZ.
 */
#include "fuzz_image.h"

#include "../block/vpc.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static const BlkDriver *drv;
    u64 touched = fuzz_touched;
    MemFile *f;

    if (!drv) {
        drv = getenv("QEMU_WIN_FUZZ") ? image_driver_named(getenv("QEMU_WIN_FUZZ")) : NULL;
        if (!drv) {
            fprintf(stderr, "QEMU_WIN_FUZZ names no format\n");
            exit(1);
        }
        fuzz_base();
    }
    if (size > MEM_FILE_MAX / 2)
        return 0;
    f = mem_make("image", true);
    memcpy(f->now, data, size);
    f->bytes = size;
    /* a fuzzer does not find checksums */
    if (drv == &vpc_driver && size >= VPC_FOOTER + VPC_DYNAMIC && f->now[0] == 'c') {
        put32(f->now + 64, vpc_checksum(f->now, VPC_FOOTER, 64));
        put32(f->now + VPC_FOOTER + 36, vpc_checksum(f->now + VPC_FOOTER, VPC_DYNAMIC, 36));
    }
    mem_set_synced(f);
    fuzz_image(drv, "image");
    if (fuzz_touched != touched)
        abort();
    return 0;
}
