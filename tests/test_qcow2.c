/*
 * qcow2: what is written is read back, over all cluster sizes and refcount widths, with backing files,
 * snapshots and discards; our own check finds every image sound, and so does the packaged qemu-img where it
 * is installed.
 */
#include "image_bench.h"

static Qcow2 *open_image(const char *file, bool readonly)
{
    Error err = { "" };
    BlkImage *img = qcow2_driver.open(m, file, readonly, &err);

    if (!img) {
        printf("%s\n", err.text);
        abort();
    }
    return (Qcow2 *)img;
}

static void close_image(Qcow2 *q) { q->img.drv->close(&q->img); }

static void print_line(const char *line) { printf("    %s\n", line); }

static bool is_sound(const char *file)
{
    Error err = { "" };
    Qcow2 *q = qcow2_load(file, true, &err);
    Qcow2Check c;
    bool ok = q && qcow2_check(q, 0, print_line, &c, &err) && !c.corruptions && !c.leaks && !c.errors;

    if (!ok)
        printf("    %s %s\n", file, err.text);
    if (q)
        qcow2_free(q);
    return ok;
}

static const char *make(u64 size, u32 version, u32 cluster_bits, u32 ref_order, const char *backing)
{
    const char *file = temp_name();
    Qcow2Create how = {.size = size,
                       .version = version,
                       .cluster_bits = cluster_bits,
                       .ref_order = ref_order,
                       .backing = backing,
                       .backing_format = backing ? "raw" : NULL};
    Error err = { "" };

    if (!qcow2_create(file, &how, &err)) {
        printf("%s\n", err.text);
        abort();
    }
    return file;
}

static void test_shapes(void)
{
    enum { SIZE = 3 << 20 };
    static const struct { u32 version, bits, order; bool backing; } shapes[] = {
        { 3, 16, 4, false }, { 2, 16, 4, false }, { 3, 9, 4, false }, { 3, 9, 6, true }, { 3, 12, 0, true },
        { 3, 12, 1, false }, { 3, 10, 2, true }, { 3, 21, 3, false }, { 3, 13, 5, true }, { 2, 9, 4, true },
        { 2, 21, 4, true }, { 3, 16, 4, true },
    };
    u8 *model = malloc(SIZE), *raw;
    size_t raw_bytes;

    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        const char *base = shapes[i].backing ? bench_file(SIZE / 2 + 1000) : NULL;
        const char *file = make(SIZE, shapes[i].version, shapes[i].bits, shapes[i].order, base);
        Qcow2 *q;

        memset(model, 0, SIZE);
        if (base) {
            raw = bench_contents(base, &raw_bytes);
            memcpy(model, raw, raw_bytes);
            free(raw);
        }
        for (int again = 0; again < 3; again++) {
            q = open_image(file, false);
            CHECK_MSG(equals(&q->img, model, SIZE), "shape %zu, opened %d times: reads what was written", i,
                      again);
            CHECK_MSG(exercise(&q->img, model, SIZE / SECTOR, 60), "shape %zu: random requests", i);
            close_image(q);
            CHECK_MSG(is_sound(file), "shape %zu: our check finds it sound", i);
        }
        if (have_tool) {
            const char *flat = temp_name();

            CHECK_MSG(!tool("check %s", file), "shape %zu: the packaged check finds it sound", i);
            CHECK(!tool("convert -O raw %s %s", file, flat));
            raw = bench_contents(flat, &raw_bytes);
            CHECK_MSG(raw_bytes == SIZE && !memcmp(raw, model, SIZE), "shape %zu: the packaged tool reads it",
                      i);
            free(raw);
        }
        bench_remove_files();
    }
    free(model);
}

static void test_snapshots(void)
{
    enum { SIZE = 2 << 20 };
    static const u32 bits[] = { 9, 12, 16 };
    u8 *model = calloc(1, SIZE), *then = malloc(SIZE);
    Error err = { "" };

    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        const char *file = make(SIZE, 3, bits[i], 4, NULL);
        Qcow2 *q = open_image(file, false);

        memset(model, 0, SIZE);
        CHECK(exercise(&q->img, model, SIZE / SECTOR, 40));
        CHECK_MSG(snapshot_create(q, "first", 1234567890, 0, &err), "%s", err.text);
        memcpy(then, model, SIZE);
        CHECK_MSG(exercise(&q->img, model, SIZE / SECTOR, 40), "writing goes on beside a snapshot");
        CHECK(snapshot_create(q, "second", 1234567891, 0, &err));
        CHECK(exercise(&q->img, model, SIZE / SECTOR, 10));
        CHECK(equals(&q->img, model, SIZE));
        close_image(q);
        CHECK(is_sound(file));
        if (have_tool)
            CHECK(!tool("check %s", file));
        q = open_image(file, false);
        CHECK_MSG(snapshot_apply(q, "first", &err), "%s", err.text);
        CHECK_MSG(equals(&q->img, then, SIZE), "going back gives the disk of that moment");
        memcpy(model, then, SIZE);
        CHECK(exercise(&q->img, model, SIZE / SECTOR, 20));
        close_image(q);
        CHECK(is_sound(file));
        if (have_tool) {
            CHECK(!tool("check %s", file));
            CHECK(!tool("snapshot -a second %s", file));
            CHECK(!tool("snapshot -a first %s", file));
        }
        q = open_image(file, false);
        CHECK(snapshot_apply(q, "1", &err) && equals(&q->img, then, SIZE));
        CHECK_MSG(snapshot_delete(q, "first", &err), "%s", err.text);
        CHECK(equals(&q->img, then, SIZE) && snapshot_delete(q, "second", &err) && q->snapshots == 0);
        CHECK_MSG(!snapshot_delete(q, "second", &err), "a snapshot that is gone can't be deleted again");
        CHECK(qcow2_resize(q, 40 << 20, &err) && equals(&q->img, then, SIZE));
        CHECK(qcow2_resize(q, SIZE / 2, &err) && equals(&q->img, then, SIZE / 2));
        close_image(q);
        CHECK(is_sound(file));
        if (have_tool)
            CHECK(!tool("check %s", file));
        bench_remove_files();
    }
    free(model);
    free(then);
}

/* Images that the packaged tool made: compressed clusters, snapshots, every option. */
static void test_foreign(void)
{
    static const char *const options[] = { "compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M",
                                           "refcount_bits=1", "refcount_bits=64", "lazy_refcounts=on",
                                           "preallocation=metadata" };
    enum { SIZE = 1 << 20 };
    u8 *model;
    size_t bytes;

    if (!have_tool) {
        printf("images of the packaged qemu-img: skipped, it is not installed\n");
        return;
    }
    for (size_t i = 0; i < 2 * ARRAY_LEN(options); i++) {
        const char *raw = bench_file(SIZE), *file = temp_name(), *option = options[i / 2];
        Qcow2 *q;

        if (i == 15)                /* compressed and preallocated: the tool refuses that */
            break;
        CHECK(!tool("convert %s -f raw -O qcow2 -o %s %s %s", i & 1 ? "-c" : "", option, raw, file));
        model = bench_contents(raw, &bytes);
        q = open_image(file, false);
        CHECK_MSG(equals(&q->img, model, SIZE), "%s%s: read", option, i & 1 ? ", compressed" : "");
        CHECK_MSG(exercise(&q->img, model, SIZE / SECTOR, 40), "%s: written", option);
        CHECK(equals(&q->img, model, SIZE));
        close_image(q);
        CHECK_MSG(is_sound(file), "%s: our check", option);
        CHECK_MSG(!tool("check %s", file), "%s: the packaged check", option);
        free(model);
        bench_remove_files();
    }
}

static void patch(const char *file, u64 at, const void *bytes, size_t n)
{
    Error err;
    HostFile *f = host_file_open(file, HOST_READ | HOST_WRITE, &err);

    host_file_write(f, at, bytes, n, &err);
    host_file_close(f);
}

static bool refused(const char *file, bool readonly, const char *word)
{
    size_t n, n_after;
    u8 *before = bench_contents(file, &n), *after;
    Error err = { "" };
    BlkImage *img = qcow2_driver.open(m, file, readonly, &err);
    bool ok = !img && strstr(err.text, word);

    if (img)
        img->drv->close(img);
    after = bench_contents(file, &n_after);
    ok = ok && n == n_after && !memcmp(before, after, n);
    if (!ok)
        printf("    %s\n", err.text);
    free(before);
    free(after);
    return ok;
}

/* What this build can't use is refused by name, and the file stays as it was. */
static void test_refused(void)
{
    static const struct { u64 at; const char *bytes; size_t n; bool readonly; const char *word; } bad[] = {
        { 4, "\0\0\0\4", 4, true, "version 4" },           { 20, "\0\0\0\37", 4, true, "cluster_bits 31" },
        { 32, "\0\0\0\1", 4, true, "encrypted" },          { 79, "\4", 1, true, "external data file" },
        { 79, "\10", 1, true, "zstd" },                     { 79, "\20", 1, true, "extended L2" },
        { 75, "\1", 1, true, "bit 32" },                    { 79, "\2", 1, false, "corrupt" },
        { 99, "\7", 1, true, "refcount order" },            { 24, "\1\0\0\0\0\0\0\1", 8, true, "too large" },
        { 36, "\377\0\0\0", 4, true, "too large" },        { 40, "\0\0\1\0", 4, true, "outside the file" },
        { 48, "\0\0\0\0\0\0\2\0", 8, true, "not on a" }, { 60, "\0\1\0\1", 4, true, "too many" },
        { 40, "\0\0\0\0\0\1\0\0", 8, false, "overlap" },  { 103, "\5", 1, true, "header length" },
    };
    static const char *const devices[] = { "CON", "nul", "Aux.raw", "folder/COM1", "c:\\x\\lpt9.img" };
    Error err = { "" };
    const char *file;
    Qcow2 *q;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        file = make(1 << 20, 3, 16, 4, NULL);
        patch(file, bad[i].at, bad[i].bytes, bad[i].n);
        CHECK_MSG(refused(file, bad[i].readonly, bad[i].word), "%s is refused", bad[i].word);
        bench_remove_files();
    }
    file = make(1 << 20, 3, 16, 4, "placeholder");
    q = qcow2_load(file, false, &err);
    CHECK(qcow2_set_backing(q, strrchr(file, '/') + 1, "qcow2", &err));
    qcow2_free(q);
    CHECK_MSG(refused(file, false, "itself"), "an image that is its own backing file is refused");
    CHECK(refused(make(1 << 20, 3, 16, 4, "\\\\server\\share\\disk"), true, "another computer"));
    CHECK(refused(make(1 << 20, 3, 16, 4, "\\\\.\\PhysicalDrive0"), true, "device"));
    CHECK(refused(make(1 << 20, 3, 16, 4, "/nowhere/at/all"), true, "/nowhere/at/all"));
    for (size_t i = 0; i < ARRAY_LEN(devices); i++)
        CHECK_MSG(refused(make(1 << 20, 3, 16, 4, devices[i]), true, "is a device"), "%s is refused",
                  devices[i]);
    CHECK_MSG(!refused(make(1 << 20, 3, 16, 4, "console.raw"), true, "is a device"), "console.raw is a file");
    CHECK_MSG(!refused(make(1 << 20, 3, 16, 4, "COMMON"), true, "is a device"), "COMMON is a file");
    file = make(1 << 20, 3, 16, 0, NULL);
    q = open_image(file, false);
    CHECK_MSG(!snapshot_create(q, "s", 0, 0, &err) && strstr(err.text, "narrow"),
              "counts of one bit leave no room for a snapshot");
    close_image(q);
    CHECK(is_sound(file));
}

int main(void)
{
    bench_machine();
    have_tool = !system("qemu-img --version >/dev/null 2>&1");
    test_shapes();
    test_snapshots();
    test_foreign();
    test_refused();
    bench_remove_files();
    return test_end();
}
