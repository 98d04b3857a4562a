/*
 * The formats beside raw and qcow2: what is written is read back, and the packaged qemu-img, where it is
 * installed, reads what we write and writes what we read.
 */
#include "image_bench.h"

#include <zlib.h>

typedef struct {
    const char *format, *options;       /* for our create, and theirs */
    const char *theirs;                 /* options for theirs if they differ; "" none */
    bool rounds_up;                     /* the disk may be larger than was asked for */
    bool checks;                        /* the packaged tool can check it */
} Shape;

static const Shape shapes[] = {
    { "vdi", "", "", false, true },
    { "vdi", "static=on", "static=on", false, true },
    { "vpc", "", "", true, false },
    { "vpc", "force_size=on", "force_size=on", false, false },
    { "vpc", "subformat=fixed", "subformat=fixed", true, false },
    { "vpc", "subformat=fixed,force_size=on", "subformat=fixed,force_size=on", false, false },
    { "qcow", "", "", false, false },
    { "vmdk", "", "", false, true },
    { "vmdk", "subformat=monolithicFlat", "subformat=monolithicFlat", false, false },
    { "vmdk", "subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentSparse", false, true },
    { "vmdk", "subformat=twoGbMaxExtentFlat", "subformat=twoGbMaxExtentFlat", false, false },
    { "vmdk", "adapter_type=lsilogic", "zeroed_grain=on", false, true },
};

/* Of the formats that pack. The packaged tool's own compressed qcow fails. */
static const Shape packed_shapes[] = {
    { "vmdk", "subformat=streamOptimized", "subformat=streamOptimized", false, true },
    { "qcow", "", NULL, false, false },
};

static const char *format_name(const Shape *s)
{
    static char name[100];

    snprintf(name, sizeof(name), "%s%s%s", s->format, s->options[0] ? "," : "", s->options);
    return name;
}

static BlkImage *open_image(const Shape *s, const char *file, bool readonly)
{
    Error err = { "" };
    const BlkDriver *drv = image_driver(file, strstr(s->options, "fixed") ? s->format : NULL, &err);
    bool is_stream = strstr(s->options, "streamOptimized") != NULL;     /* written by tools only */
    BlkImage *img = drv ? drv->open(is_stream ? NULL : m, file, readonly, &err) : NULL;

    if (!img) {
        printf("%s: %s\n", format_name(s), err.text);
        abort();
    }
    CHECK_MSG(!strcmp(drv->name, s->format), "%s is recognised", s->format);
    return img;
}

/* The image's files, those of its extents too. */
static void remove_files(const char *file)
{
    char cmd[200];

    snprintf(cmd, sizeof(cmd), "rm -f %s-flat %s-[fs]0*", file, file);
    CHECK(!system(cmd));
    bench_remove_files();
}

static void close_image(BlkImage *img) { img->drv->close(img); }

static void make(const Shape *s, const char *file, u64 bytes)
{
    ImageCreate how = { .bytes = bytes, .options = s->options };
    Error err = { "" };

    if (!image_driver_named(s->format)->create(file, &how, &err)) {
        printf("%s: %s\n", format_name(s), err.text);
        abort();
    }
}

static const u32 sizes[] = { 1, 333, 6151 };        /* sectors */

/* The packaged tool finds in the image what the model holds. */
static void they_agree(const Shape *s, const char *file, const u8 *model, u32 bytes)
{
    const char *flat = temp_name();
    Error err;
    HostFile *f = host_file_open(flat, HOST_READ | HOST_WRITE, &err);

    host_file_write(f, 0, model, bytes, &err);
    host_file_close(f);
    CHECK_MSG(!tool("compare -f %s -F raw %s %s", s->format, file, flat), "%s of %u: the packaged compare",
              format_name(s), bytes);
    if (s->checks)
        CHECK_MSG(!tool("check -f %s %s", s->format, file), "%s of %u: the packaged check", format_name(s),
                  bytes);
}

static void test_ours(const Shape *s, u32 sectors)
{
    u32 bytes = sectors * SECTOR;
    const char *file = temp_name();
    u8 *model;
    BlkImage *img;

    make(s, file, bytes);
    for (int again = 0; again < 3; again++) {
        img = open_image(s, file, false);
        CHECK_MSG(img->bytes == bytes || (s->rounds_up && img->bytes > bytes), "%s of %u bytes has %llu",
                  format_name(s), bytes, (unsigned long long)img->bytes);
        if (!again)
            model = calloc(1, img->bytes);
        CHECK_MSG(equals(img, model, (u32)img->bytes), "%s of %u, opened %d times: reads what was written",
                  format_name(s), bytes, again);
        CHECK_MSG(exercise(img, model, (u32)(img->bytes / SECTOR), 40), "%s: random requests",
                  format_name(s));
        bytes = (u32)img->bytes;
        close_image(img);
    }
    img = open_image(s, file, true);
    CHECK_MSG(equals(img, model, bytes), "%s of %u: closed and read", format_name(s), bytes);
    close_image(img);
    if (have_tool)
        they_agree(s, file, model, bytes);
    free(model);
    remove_files(file);
}

static void test_theirs(const Shape *s, u32 sectors)
{
    u32 bytes = sectors * SECTOR;
    const char *raw = bench_file(bytes), *file = temp_name();
    size_t n;
    u8 *model = bench_contents(raw, &n);
    BlkImage *img;

    CHECK(!tool("convert -f raw -O %s %s%s %s %s", s->format, s->theirs[0] ? "-o " : "", s->theirs, raw,
                file));
    img = open_image(s, file, false);
    CHECK_MSG(img->bytes >= bytes && equals(img, model, bytes), "%s of %u: theirs is read", format_name(s),
              bytes);
    CHECK_MSG(exercise(img, model, sectors, 40), "%s of %u: theirs is written", format_name(s), bytes);
    CHECK(equals(img, model, bytes));
    close_image(img);
    they_agree(s, file, model, bytes);
    free(model);
    remove_files(file);
}

static u32 deflate_unit(const u8 *in, u32 bytes, u8 *out, u32 room, int window)
{
    z_stream z = { .next_in = (u8 *)in, .avail_in = bytes, .next_out = out, .avail_out = room };

    if (deflateInit2(&z, 6, Z_DEFLATED, window, 9, Z_DEFAULT_STRATEGY) != Z_OK ||
        deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    deflateEnd(&z);
    return room - z.avail_out;
}

/* Every second unit, compressed; then theirs. */
static void test_packed(const Shape *s, u32 sectors)
{
    u32 bytes = sectors * SECTOR, room;
    const char *file = temp_name(), *raw = temp_name();
    u8 *model, *packed, *unit;
    ImageFacts facts;
    BlkImage *img;
    Error err;

    make(s, file, bytes);
    img = open_image(s, file, false);
    img->drv->facts(img, &facts);
    room = facts.unit * 2 + 1024;
    model = calloc(1, bytes + facts.unit);
    packed = malloc(room);
    unit = calloc(1, facts.unit);
    for (u32 at = 0; at < bytes; at += 2 * facts.unit) {
        u32 n = bytes - at < facts.unit ? bytes - at : facts.unit;

        for (u32 i = 0; i < n; i++)
            model[at + i] = pattern(i + at / 3);
        memcpy(unit, model + at, facts.unit);
        n = deflate_unit(unit, facts.unit, packed, room, facts.pack_window);
        CHECK_MSG(img->drv->write_packed(img, at, packed, n, &err), "%s: %s", format_name(s), err.text);
    }
    CHECK_MSG(equals(img, model, bytes), "%s of %u: compressed, read at once", format_name(s), bytes);
    close_image(img);
    img = open_image(s, file, true);
    CHECK_MSG(equals(img, model, bytes), "%s of %u: compressed, closed and read", format_name(s), bytes);
    close_image(img);
    if (!facts.packs_only) {
        img = open_image(s, file, false);
        CHECK_MSG(exercise(img, model, sectors, 30), "%s: compressed units are written over", format_name(s));
        close_image(img);
    }
    if (have_tool) {
        they_agree(s, file, model, bytes);
        CHECK(!tool("convert -O raw %s %s", file, raw));
    }
    if (have_tool && s->theirs) {
        CHECK(!tool("convert -c -f raw -O %s %s%s %s %s", s->format, s->theirs[0] ? "-o " : "", s->theirs,
                    raw, file));
        img = open_image(s, file, true);
        CHECK_MSG(equals(img, model, bytes), "%s of %u: theirs, compressed, is read", format_name(s), bytes);
        close_image(img);
    }
    free(model);
    free(packed);
    free(unit);
    bench_remove_files();
}

/* A sparse raw file of any size with one sector at three places, or the same in an image. */
static const u64 large[] = { 0, 512, (4ull << 30) + 512 * 77, 2040ull << 30, 2ull << 40 };

static u64 mark_at(u64 bytes, int i)
{
    return i == 0 ? 0 : i == 1 ? bytes / 2 / SECTOR * SECTOR : bytes - SECTOR;
}

static const char *large_raw(u64 bytes)
{
    const char *file = temp_name();
    u8 sector[SECTOR];
    Error err;
    HostFile *f = host_file_open(file, HOST_READ | HOST_WRITE, &err);

    CHECK(host_file_resize(f, bytes, &err));
    memset(sector, 0x77, SECTOR);
    for (int i = 0; i < 3 && bytes; i++)
        CHECK(host_file_write(f, mark_at(bytes, i), sector, SECTOR, &err));
    host_file_close(f);
    return file;
}

static bool marks_read(BlkImage *img, u64 bytes)
{
    u8 sector[SECTOR];
    bool ok = true;

    for (int i = 0; i < 3; i++)
        ok = ok && image_do(img, BLK_READ, mark_at(bytes, i), sector, SECTOR) == BLK_OK && sector[5] == 0x77;
    if (bytes > 4096)
        ok = ok && image_do(img, BLK_READ, mark_at(bytes / 2, 1), sector, SECTOR) == BLK_OK && !sector[5];
    return ok;
}

/* The packaged compare would look at the whole disk. */
static bool they_read_marks(const Shape *s, const char *file, u64 bytes)
{
    char cmd[400];
    int n = snprintf(cmd, sizeof(cmd), "qemu-io -r -f %s", s->format);

    for (int i = 0; i < 3; i++)
        n += snprintf(cmd + n, sizeof(cmd) - (size_t)n, " -c 'read -P 0x77 %llu 512'",
                      (unsigned long long)mark_at(bytes, i));
    snprintf(cmd + n, sizeof(cmd) - (size_t)n, " %s 2>&1 | grep -c '^read 512/512' | grep -qx 3", file);
    return !system(cmd);
}

static bool too_large(const Shape *s, u64 bytes)
{
    return !strcmp(s->format, "vpc") && bytes > 2040ull << 30;
}

static void test_large(const Shape *s, u64 bytes)
{
    ImageCreate how = { .bytes = bytes, .options = s->options };
    const char *file = temp_name(), *raw = large_raw(bytes);
    u8 sector[SECTOR];
    Error err = { "" };
    BlkImage *img;
    bool made = image_driver_named(s->format)->create(file, &how, &err);

    if (too_large(s, bytes) || (!bytes && !strcmp(s->format, "vmdk"))) {
        CHECK_MSG(!made && strstr(err.text, bytes ? "too large" : "at least"), "%s of %llu is refused: %s",
                  format_name(s), (unsigned long long)bytes, err.text);
        remove_files(file);
        return;
    }
    CHECK_MSG(made, "%s of %llu: %s", format_name(s), (unsigned long long)bytes, err.text);
    img = open_image(s, file, false);
    memset(sector, 0x77, SECTOR);
    for (int i = 0; i < 3 && bytes; i++)
        CHECK(image_do(img, BLK_WRITE, mark_at(bytes, i), sector, SECTOR) == BLK_OK);
    close_image(img);
    img = open_image(s, file, true);
    CHECK_MSG(!bytes || marks_read(img, bytes), "%s of %llu bytes reads what was written", format_name(s),
              (unsigned long long)bytes);
    close_image(img);
    if (have_tool && bytes)
        CHECK_MSG(they_read_marks(s, file, bytes), "%s of %llu: the packaged tool reads what was written",
                  format_name(s), (unsigned long long)bytes);
    if (have_tool && bytes) {
        CHECK(!tool("convert -f raw -O %s %s%s %s %s", s->format, s->theirs[0] ? "-o " : "", s->theirs, raw,
                    file));
        img = open_image(s, file, true);
        CHECK_MSG(img->bytes >= bytes && marks_read(img, bytes), "%s of %llu: theirs is read", format_name(s),
                  (unsigned long long)bytes);
        close_image(img);
    }
    remove_files(file);
}

/* Images that lie on themselves, directly or by another one. */
static void test_chains(void)
{
    static const char *const formats[] = { "qcow", "vmdk" };
    Error err;

    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        const BlkDriver *drv = image_driver_named(formats[i]);
        const char *file = temp_name(), *other = temp_name();
        ImageCreate how = { .bytes = 1 << 20 };

        CHECK(drv->create(other, &how, &err));
        how.base = strrchr(other, '/') + 1;
        CHECK_MSG(drv->create(file, &how, &err), "%s", err.text);
        CHECK(rename(file, other) == 0);        /* lies on the name that it has */
        CHECK_MSG(!drv->open(NULL, other, true, &err) && strstr(err.text, "itself"), "%s: %s", formats[i],
                  err.text);
        bench_remove_files();
    }
}

int main(void)
{
    bench_machine();
    have_tool = !system("qemu-img --version >/dev/null 2>&1");
    if (!have_tool)
        printf("images of the packaged qemu-img: skipped, it is not installed\n");
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
            test_ours(&shapes[i], sizes[k]);
            if (have_tool)
                test_theirs(&shapes[i], sizes[k]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        for (size_t k = 0; k < ARRAY_LEN(large); k++) {
            if (large[k] < 5ull << 30 || !shapes[i].options[0])
                test_large(&shapes[i], large[k]);
        }
    }
    test_chains();
    for (size_t i = 0; i < ARRAY_LEN(packed_shapes); i++) {
        for (size_t k = 0; k < ARRAY_LEN(sizes); k++)
            test_packed(&packed_shapes[i], sizes[k]);
    }
    bench_remove_files();
    return test_end();
}
