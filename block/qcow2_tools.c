/* qcow2: what qemu-img asks of any format: making an image, what of it is data, and what info shows. */
#include "qcow2.h"

#include <stdio.h>
#include <string.h>

const char *const qcow2_options[] = {
    "size", "compat", "backing_file", "backing_fmt", "cluster_size", "refcount_bits", "lazy_refcounts",
    "preallocation", "compression_type", "encryption", "extended_l2", NULL,
};

/* Options whose other values this build does not have. */
static bool only_default(const char *list, const char *name, const char *usual, Error *err)
{
    char v[64];

    return !image_option(list, name, v, sizeof(v)) || !strcmp(v, usual) ||
           error_set(err, "%s=%s is not supported by this build", name, v);
}

static bool power_of_two(const char *list, const char *name, u64 least, u64 most, u32 *log2, Error *err)
{
    char v[64];
    u64 n;

    if (!image_option(list, name, v, sizeof(v)))
        return true;
    if (!image_size(v, &n, err))
        return false;
    if (n < least || n > most || (n & (n - 1)))
        return error_set(err, "%s must be a power of two between %llu and %llu", name,
                         (unsigned long long)least, (unsigned long long)most);
    *log2 = (u32)__builtin_ctzll(n);
    return true;
}

bool qcow2_create_image(const char *file, const ImageCreate *create, Error *err)
{
    Qcow2Create how = { .size = create->bytes, .version = 3, .cluster_bits = 16, .ref_order = 4,
                        .backing = create->base, .backing_format = create->base_format };
    const char *options = create->options;
    char v[64];

    if (!only_default(options, "preallocation", "off", err) ||
        !only_default(options, "compression_type", "zlib", err) ||
        !only_default(options, "encryption", "off", err) ||
        !only_default(options, "extended_l2", "off", err) ||
        !power_of_two(options, "cluster_size", 512, 2 << 20, &how.cluster_bits, err) ||
        !power_of_two(options, "refcount_bits", 1, 64, &how.ref_order, err))
        return false;
    if (image_option(options, "compat", v, sizeof(v))) {
        bool old = !strcmp(v, "0.10") || !strcmp(v, "v2");

        if (!old && strcmp(v, "1.1") && strcmp(v, "v3"))
            return error_set(err, "compat=%s is not known: 0.10 or 1.1", v);
        how.version = old ? 2 : 3;
    }
    how.lazy_refcounts = image_option(options, "lazy_refcounts", v, sizeof(v)) && !strcmp(v, "on");
    if (how.version == 2 && (how.ref_order != 4 || how.lazy_refcounts))
        return error_set(err, "refcount_bits and lazy_refcounts need compat=1.1");
    return qcow2_create(file, &how, err);
}

BlkImage *qcow2_open_alone(const char *file, Error *err)
{
    Qcow2 *q = qcow2_load(file, true, err);

    return q ? &q->img : NULL;
}

bool qcow2_part(BlkImage *img, u64 at, u64 bytes, ImagePart *out, Error *err)
{
    static const ImagePartKind kinds[] = { [MAP_BACKING] = PART_BASE, [MAP_ZERO] = PART_ZERO,
                                           [MAP_DATA] = PART_DATA, [MAP_COMPRESSED] = PART_PACKED };
    Qcow2 *q = (Qcow2 *)img;
    Step step;
    Map map;

    do {
        step = map_lookup(q, at, bytes, &map);
    } while (qcow2_wait(q, step, err));
    if (step != STEP_OK)
        return false;
    *out = (ImagePart){ .kind = kinds[map.kind], .bytes = map.bytes, .at_known = map.kind == MAP_DATA,
                        .at = map.at };
    return true;
}

bool qcow2_resize_image(BlkImage *img, u64 bytes, Error *err)
{
    return qcow2_resize((Qcow2 *)img, bytes, err);
}

bool qcow2_pack_image(BlkImage *img, u64 at, const u8 *packed, u32 bytes, Error *err)
{
    return qcow2_write_compressed((Qcow2 *)img, at, packed, bytes, err);
}

void qcow2_facts(BlkImage *img, ImageFacts *out)
{
    enum { WINDOW_BITS = -12 };     /* as the format prescribes: raw deflate */
    Qcow2 *q = (Qcow2 *)img;
    bool v3 = q->version >= 3;

    *out = (ImageFacts){ .backing = q->backing, .unit = (u32)q->cluster, .packs = true,
                         .pack_window = WINDOW_BITS };
    out->backing_name = q->backing_name[0] ? q->backing_name : NULL;
    out->backing_format = q->backing_format[0] ? q->backing_format : NULL;
    snprintf(out->more, sizeof(out->more), "compat: %s\ncompression type: zlib\n", v3 ? "1.1" : "0.10");
    if (v3)
        snprintf(out->more + strlen(out->more), sizeof(out->more) - strlen(out->more),
                 "lazy refcounts: %s\nrefcount bits: %u\ncorrupt: %s\nextended l2: false\n",
                 q->compatible & 1 ? "true" : "false", 1u << q->ref_order,
                 q->incompatible & INCOMPAT_CORRUPT ? "true" : "false");
    else
        strcat(out->more, "refcount bits: 16\n");
}
