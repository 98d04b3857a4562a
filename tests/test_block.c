/* Block layer: raw images, odd sizes, -snapshot, ranges, errors, refusal of other formats, media change. */
#include "disk_bench.h"

static unsigned done_count;
static bool inside_submit, done_inside_submit;

static void done(BlkReq *req)
{
    (void)req;
    done_count++;
    done_inside_submit |= inside_submit;
}

static BlkResult go(Blk *blk, BlkOp op, u64 offset, void *buf, u32 bytes)
{
    BlkReq req = { .op = op, .offset = offset, .buf = buf, .bytes = bytes, .done = done };
    unsigned before = done_count;

    inside_submit = true;
    blk_submit(blk, &req);
    inside_submit = false;
    if (!WAIT_FOR(done_count > before))
        abort();
    return req.result;
}

static bool holds_pattern(const u8 *buf, u64 offset, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (buf[i] != pattern(offset + i))
            return false;
    }
    return true;
}

static Blk *try_open(const char *file, const char *format, bool readonly, Error *err)
{
    DriveConfig cfg = { .used = true, .readonly = readonly, .file = (char *)file, .format = (char *)format };

    err->text[0] = 0;
    return blk_create(m, &cfg, "drive", err);
}

static void test_raw(void)
{
    const char *file = bench_file(100000);              /* 195 sectors and 160 bytes */
    Blk *blk = bench_drive(file, false, false, false);
    u8 buf[4096], *after;
    size_t size;

    CHECK_MSG(blk_bytes(blk) == 196 * 512, "a file's size is rounded up to whole sectors");
    CHECK(go(blk, BLK_READ, 512, buf, 4096) == BLK_OK && holds_pattern(buf, 512, 4096));
    CHECK(go(blk, BLK_READ, 195 * 512, buf, 512) == BLK_OK && holds_pattern(buf, 195 * 512, 160));
    CHECK_MSG(buf[160] == 0 && buf[511] == 0, "what the file lacks of its last sector reads as zeros");
    CHECK(go(blk, BLK_READ, 196 * 512, buf, 512) == BLK_ERR_RANGE);
    CHECK(go(blk, BLK_READ, 195 * 512, buf, 1024) == BLK_ERR_RANGE);
    CHECK(go(blk, BLK_READ, ~511ull, buf, 1024) == BLK_ERR_RANGE);
    CHECK(go(blk, BLK_READ, 100, buf, 512) == BLK_ERR_RANGE);
    CHECK(go(blk, BLK_READ, 0, buf, 100) == BLK_ERR_RANGE);
    CHECK(go(blk, BLK_READ, 0, buf, 0) == BLK_OK);
    memset(buf, 0x5a, sizeof(buf));
    CHECK(go(blk, BLK_WRITE, 195 * 512, buf, 512) == BLK_OK);
    CHECK(go(blk, BLK_WRITE, 1024, buf, 512) == BLK_OK);
    CHECK(go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    CHECK(go(blk, BLK_DISCARD, 0, NULL, 512) == BLK_OK);
    CHECK_MSG(!done_inside_submit, "done() never runs inside blk_submit(), not even for errors");
    blk_destroy(blk);
    after = bench_contents(file, &size);
    CHECK_MSG(size == 196 * 512 && after[195 * 512 + 511] == 0x5a,
              "writing the last sector makes the file whole");
    CHECK(after[1024] == 0x5a && after[1535] == 0x5a && holds_pattern(after, 0, 1024));
    free(after);
}

static void test_many_at_once(void)
{
    Blk *blk = bench_drive(bench_file(1 << 20), false, false, true);
    static u8 buf[256][4096];
    BlkReq req[256];
    bool ok = true;

    done_count = 0;
    for (unsigned i = 0; i < 256; i++) {
        memset(buf[i], (int)i, 4096);
        req[i] = (BlkReq){ .op = i & 1 ? BLK_WRITE : BLK_READ, .offset = i * 4096, .buf = buf[i],
                           .bytes = 4096, .done = done };
        blk_submit(blk, &req[i]);
    }
    blk_drain(blk);
    CHECK_MSG(done_count == 256, "drain waits for all 256 requests");
    for (unsigned i = 0; i < 256; i++)
        ok = ok && req[i].result == BLK_OK && ((i & 1) || holds_pattern(buf[i], i * 4096, 4096));
    CHECK(ok);
    blk_submit(blk, &(BlkReq){ .op = BLK_READ, .offset = 1ull << 40, .bytes = 512, .done = done });
    blk_drain(blk);
    CHECK_MSG(done_count == 257, "drain runs answers that need no file, too");
    blk_destroy(blk);
}

static void test_snapshot(void)
{
    enum { SIZE = 5 << 20 };
    const char *file = bench_file(SIZE);
    Blk *blk = bench_drive(file, false, false, true);
    u8 *model = malloc(SIZE), *buf = malloc(1 << 20), *after;
    bool same = true;
    size_t size;

    for (u64 i = 0; i < SIZE; i++)
        model[i] = pattern(i);
    for (unsigned round = 0; round < 400; round++) {
        u32 sectors = 1 + bench_random() % (round % 10 ? 40 : 2048), at = bench_random() % (SIZE / 512);

        if (sectors > SIZE / 512 - at)
            sectors = SIZE / 512 - at;
        if (bench_random() & 1) {
            memset(buf, (int)bench_random(), sectors * 512);
            memcpy(model + at * 512, buf, sectors * 512);
            same = same && go(blk, BLK_WRITE, at * 512ull, buf, sectors * 512) == BLK_OK;
        } else {
            same = same && go(blk, BLK_READ, at * 512ull, buf, sectors * 512) == BLK_OK &&
                   !memcmp(buf, model + at * 512, sectors * 512);
        }
    }
    CHECK_MSG(same, "random reads and writes over a snapshot give what was written");
    CHECK_MSG(!blk_readonly(blk), "a snapshot can be written");
    blk_destroy(blk);
    after = bench_contents(file, &size);
    CHECK_MSG(size == SIZE && holds_pattern(after, 0, SIZE), "the base file is untouched");
    free(after);
    chmod(file, 0444);
    blk = bench_drive(file, false, false, true);
    CHECK_MSG(go(blk, BLK_WRITE, 0, buf, 512) == BLK_OK,
              "a file that can only be read can be used with -snapshot");
    blk_destroy(blk);
    free(model);
    free(buf);
}

static void test_refused(void)
{
    static const struct { const char *bytes, *format; size_t n; int at; } marked[] = {
        { "KDMV", "vmdk", 4, 0 }, { "conectix", "vpc", 8, 0 },
        { "conectix", "vpc", 8, 8192 - 512 }, { "vhdxfile", "vhdx", 8, 0 },
        { "<<< Oracle VM VirtualBox Disk Image >>>", "vdi", 39, 0 }, { "WithoutFreeSpace", "parallels", 16,
                0 },
    };
    const char *file, *empty = bench_file(0);
    Error err;
    Blk *blk;

    for (size_t i = 0; i < ARRAY_LEN(marked); i++) {
        HostFile *f;

        file = bench_file(8192);
        f = host_file_open(file, HOST_READ | HOST_WRITE, &err);
        host_file_write(f, (u64)marked[i].at, marked[i].bytes, marked[i].n, &err);
        host_file_close(f);
        CHECK_MSG(!try_open(file, NULL, true, &err) && strstr(err.text, file),
                  "damaged %s is not taken for a raw disk: %s", marked[i].format, err.text);
        blk = try_open(file, "raw", true, &err);
        CHECK_MSG(blk != NULL, "format=raw takes it as it is: %s", err.text);
        blk_destroy(blk);
    }
    file = bench_file(512);
    CHECK(!try_open(file, "qed", false, &err) && strstr(err.text, "format 'qed' of") &&
          strstr(err.text, "not supported"));
    CHECK(!try_open(empty, NULL, false, &err) && strstr(err.text, "empty"));
    CHECK(!try_open("/tmp", NULL, true, &err) && strstr(err.text, "/tmp"));
    CHECK(!try_open("/nowhere/at/all.img", NULL, true, &err) && strstr(err.text, "/nowhere/at/all.img"));
    CHECK(!try_open("nbd:host:1", NULL, true, &err) && strstr(err.text, "not supported"));
    CHECK(!try_open("fat:/no-folder", NULL, true, &err) && strstr(err.text, "no-folder"));
    if (geteuid()) {                /* root may write everything */
        chmod(file, 0444);
        CHECK(!try_open(file, NULL, false, &err) && strstr(err.text, "-snapshot"));
    }
    blk = try_open(file, NULL, true, &err);
    CHECK(blk && blk_readonly(blk));
    CHECK_MSG(go(blk, BLK_WRITE, 0, err.text, 512) == BLK_ERR_READONLY, "a read-only image is never written");
    blk_destroy(blk);
}

static void test_file_shrinks(void)
{
    const char *file = bench_file(65536);
    Blk *blk = bench_drive(file, false, false, false);
    u8 buf[512];

    CHECK(!truncate(file, 1024));
    CHECK_MSG(go(blk, BLK_READ, 32768, buf, 512) == BLK_ERR_IO,
              "a file that has become shorter is an I/O error");
    blk_destroy(blk);
}

static unsigned changes;
static void changed(void *opaque) { (void)opaque; changes++; }

static void test_media(void)
{
    const char *one = bench_file(2048), *two = bench_file(4096);
    DriveConfig cfg = { .used = true, .cdrom = true };
    Error err = { "" };
    Blk *blk = blk_create(m, &cfg, "ide1-cd0", &err), *other = bench_drive(two, false, true, false), *disk;
    char text[200];
    u8 buf[512];

    CHECK(blk && !blk_has_medium(blk) && blk_bytes(blk) == 0 && !strcmp(blk_file(blk), ""));
    CHECK(go(blk, BLK_READ, 0, buf, 512) == BLK_ERR_NOMEDIUM);
    blk_describe(blk, text, sizeof(text));
    CHECK(strstr(text, "ide1-cd0: no medium"));
    blk_on_change(blk, changed, NULL);
    CHECK(blk_change(blk, one, NULL, &err) && changes == 1 && blk_bytes(blk) == 2048 && blk_readonly(blk));
    CHECK(blk_change(blk, two, "raw", &err) && changes == 2 && blk_bytes(blk) == 4096 &&
          !strcmp(blk_file(blk), two));
    CHECK(!blk_change(blk, "/nowhere", NULL, &err) && strstr(err.text, "/nowhere"));
    CHECK_MSG(blk_has_medium(blk) && !strcmp(blk_file(blk), two),
              "a medium that can't be opened leaves the old one in");
    blk_set_locked(blk, true);
    blk_describe(blk, text, sizeof(text));
    CHECK(strstr(text, two) && strstr(text, "raw") && strstr(text, "4096") && strstr(text, "locked"));
    CHECK(blk_change(blk, NULL, NULL, &err) && !blk_has_medium(blk));
    cfg = (DriveConfig){ .used = true, .iface = IF_IDE, .readonly = true, .file = (char *)one };
    disk = blk_create(m, &cfg, "ide0-hd0", &err);
    CHECK(disk && !blk_change(disk, NULL, NULL, &err) && strstr(err.text, "ide0-hd0"));
    CHECK_MSG(!blk_change(disk, two, NULL, &err) && blk_bytes(disk) == 2048, "a hard disk can't be changed");
    blk_destroy(disk);
    CHECK(blk_first(m) == blk && blk_next(blk) == other && !blk_next(other));
    blk_flush_all(m);
    blk_destroy(blk);
    CHECK(blk_first(m) == other);
    blk_destroy(other);
}

int main(void)
{
    bench_machine();
    test_raw();
    test_many_at_once();
    test_snapshot();
    test_refused();
    test_file_shrinks();
    test_media();
    CHECK(!blk_first(m));
    machine_unlock(m);
    machine_destroy(m);
    bench_remove_files();
    return test_end();
}
