/* A folder as a FAT disk: layout, names, what rw: applies and what it must never do, and damaged tables. */
#include "disk_bench.h"

#include "../block/fat.h"
#include "../core/vm/log.h"

#include <stdarg.h>

static char top[64];

static char *in_top(const char *fmt, ...)
{
    static char path[4][512];
    static int n;
    char *p = path[n++ % 4];
    va_list ap;
    int at = snprintf(p, 512, "%s/", top);

    va_start(ap, fmt);
    vsnprintf(p + at, 512 - (size_t)at, fmt, ap);
    va_end(ap);
    return p;
}

static void put_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    fputs(text, f);
    fclose(f);
}

static bool file_is(const char *path, const char *text)
{
    size_t n;
    Error err;
    u8 *data = host_file_slurp(path, 1 << 20, &n, &err);
    bool same = data && n == strlen(text) && !memcmp(data, text, n);

    free(data);
    return same;
}

static void make_folder(void)
{
    strcpy(top, "/tmp/qemu-win-fat-XXXXXX");
    if (!mkdtemp(top))
        abort();
    mkdir(in_top("f"), 0777);
    mkdir(in_top("f/Sub folder"), 0777);
    put_file(in_top("outside.txt"), "outside");
    put_file(in_top("f/README.TXT"), "hello");
    put_file(in_top("f/A long name of a file.text"), "long");
    put_file(in_top("f/Sub folder/inner.txt"), "inner");
    put_file(in_top("f/empty"), "");
}

static void remove_folder(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", top);
    if (system(command))
        abort();
}

static void done(BlkReq *req) { *(bool *)req->opaque = true; }

static BlkResult go(Blk *blk, BlkOp op, u64 sector, void *buf, u32 sectors)
{
    bool is_done = false;
    BlkReq req = { .op = op, .offset = sector * 512, .buf = buf, .bytes = sectors * 512, .done = done,
                   .opaque = &is_done };

    blk_submit(blk, &req);
    if (!WAIT_FOR(is_done))
        abort();
    return req.result;
}

static Blk *open_fat(const char *words, bool readonly)
{
    char *file = in_top("");
    char name[600];

    snprintf(name, sizeof(name), "fat:%s%sf", words, file);
    return bench_drive(name, false, readonly, false);
}

static void test_layout(void)
{
    static const struct { const char *words; u64 bytes; int type; u32 start; } kinds[] = {
        { "floppy:", 1474560, 12, 0 }, { "", 1024ull * 16 * 63 * 512, 16, 63 }, { "12:", 33030144, 12, 63 },
        { "32:", 0, 32, 63 },
    };
    u8 s[512];

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        Blk *blk = open_fat(kinds[i].words, true);

        CHECK_MSG(!kinds[i].bytes || blk_bytes(blk) == kinds[i].bytes, "fat:%s has its size", kinds[i].words);
        CHECK(go(blk, BLK_READ, 0, s, 1) == BLK_OK && load16(s + 510) == 0xaa55);
        if (kinds[i].start) {
            CHECK_MSG(load32(s + 0x1c6) == 63 && s[0x1c2], "the partition begins at sector 63");
            CHECK(63 + load32(s + 0x1ca) == blk_bytes(blk) / 512);
        }
        CHECK(go(blk, BLK_READ, kinds[i].start, s, 1) == BLK_OK);
        CHECK_MSG(!memcmp(s + (kinds[i].type == 32 ? 82 : 54), kinds[i].type == 32 ? "FAT32   "
                          : kinds[i].type == 16 ? "FAT16   " : "FAT12   ", 8), "the boot sector names its type");
        blk_destroy(blk);
    }
}

static void test_same_folder_same_disk(void)
{
    static u8 a[2880 * 512], b[2880 * 512];
    Blk *blk = open_fat("floppy:", true);

    CHECK(go(blk, BLK_READ, 0, a, 2880) == BLK_OK);
    blk_destroy(blk);
    blk = open_fat("floppy:", true);
    CHECK(go(blk, BLK_READ, 0, b, 2880) == BLK_OK);
    blk_destroy(blk);
    CHECK_MSG(!memcmp(a, b, sizeof(a)), "the same folder makes the same disk");
}

/* The floppy's sectors: 1 table, 10 table, 19 root directory (14), 33 cluster 2. */
static u8 *find_entry(u8 *root, const char *name)
{
    for (int at = 0; at < 14 * 512; at += 32) {
        if (!memcmp(root + at, name, 11))
            return root + at;
    }
    return NULL;
}

static void test_thrown_away(void)
{
    Blk *blk = open_fat("floppy:", false);
    u8 s[512], *e, root[14 * 512];
    u32 sector;

    CHECK(go(blk, BLK_READ, 19, root, 14) == BLK_OK);
    e = find_entry(root, "README  TXT");
    CHECK_MSG(e && load32(e + 28) == 5, "the root directory has the file");
    CHECK_MSG(find_entry(root, "ALONGN~1TEX"), "a long name has a short one");
    sector = 33 + load16(e + 26) - 2u;
    CHECK(go(blk, BLK_READ, sector, s, 1) == BLK_OK && !memcmp(s, "hello\0\0", 7));
    memset(s, 'X', 512);
    CHECK(go(blk, BLK_WRITE, sector, s, 1) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    blk_destroy(blk);
    CHECK_MSG(file_is(in_top("f/README.TXT"), "hello"), "without rw: the folder is never written");
}

static void test_rw(void)
{
    Blk *blk = open_fat("floppy:rw:", false);
    u8 s[512], fat[512], *e, root[14 * 512], *gone;
    u32 cluster;

    CHECK(go(blk, BLK_READ, 19, root, 14) == BLK_OK && go(blk, BLK_READ, 1, fat, 1) == BLK_OK);
    e = find_entry(root, "README  TXT");
    cluster = load16(e + 26);
    memset(s, 0, 512);
    memcpy(s, "HELLO, DOS", 10);
    CHECK(go(blk, BLK_WRITE, 33 + cluster - 2, s, 1) == BLK_OK);
    store32(e + 28, 10);
    gone = find_entry(root, "EMPTY      ");
    gone[0] = 0xe5;
    gone[-32] = 0xe5;
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    CHECK_MSG(file_is(in_top("f/README.TXT"), "HELLO, DOS"), "a flush brings a changed file to the folder");
    CHECK_MSG(!host_file_exists(in_top("f/empty")), "and what was deleted is gone there");
    CHECK_MSG(file_is(in_top("f/A long name of a file.text"), "long") &&
              file_is(in_top("f/Sub folder/inner.txt"), "inner"), "other files stay");
    /* a chain shorter than its file */
    store32(e + 28, 1000);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    CHECK_MSG(file_is(in_top("f/README.TXT"), "HELLO, DOS"), "a file system that is not whole changes nothing");
    store32(e + 28, 5);
    memcpy(e, "CON     TXT", 11);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    CHECK_MSG(file_is(in_top("f/README.TXT"), "HELLO, DOS"), "a device's name is refused");
    memcpy(e, "NEW     TXT", 11);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK);
    blk_destroy(blk);
    CHECK_MSG(file_is(in_top("f/NEW.TXT"), "HELLO") && !host_file_exists(in_top("f/README.TXT")),
              "closing applies what is left: a file has another name");
}

static void test_renamed(void)
{
    Blk *blk = open_fat("floppy:rw:", false);
    u8 s[512], root[14 * 512], *e;
    u32 sector;

    CHECK(go(blk, BLK_READ, 19, root, 14) == BLK_OK);
    e = find_entry(root, "NEW     TXT");
    sector = 33 + load16(e + 26) - 2u;
    memcpy(e, "MOVED   TXT", 11);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    CHECK_MSG(file_is(in_top("f/MOVED.TXT"), "HELLO") && !host_file_exists(in_top("f/NEW.TXT")),
              "a renamed file is renamed in the folder");
    CHECK_MSG(go(blk, BLK_READ, sector, s, 1) == BLK_OK && !memcmp(s, "HELLO", 6),
              "and the guest reads it as before");
    memcpy(e, "NEW     TXT", 11);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK);
    blk_destroy(blk);
    CHECK(file_is(in_top("f/NEW.TXT"), "HELLO"));
}

static void test_no_escape(void)
{
    static const char *const names[] = { "..      TXT", "../OUTSITXT", "/ETC/PASTXT", "A\\B     TXT" };
    Blk *blk = open_fat("floppy:rw:", false);
    u8 root[14 * 512], *e;

    CHECK(go(blk, BLK_READ, 19, root, 14) == BLK_OK);
    e = find_entry(root, "NEW     TXT");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        memcpy(e, names[i], 11);
        CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    }
    CHECK_MSG(file_is(in_top("outside.txt"), "outside"), "no name leads out of the folder");
    put_file(in_top("f/LATER.TXT"), "host's");
    memcpy(e, "LATER   TXT", 11);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK && go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
    CHECK_MSG(file_is(in_top("f/LATER.TXT"), "host's"), "a file that came into the folder later is not replaced");
    memcpy(e, "NEW     TXT", 11);
    CHECK(go(blk, BLK_WRITE, 19, root, 14) == BLK_OK);
    blk_destroy(blk);
}

/* Whatever the guest writes, nothing breaks, and nothing outside is touched. */
static void test_damage(void)
{
    for (int turn = 0; turn < 40; turn++) {
        Blk *blk = open_fat(turn % 2 ? "floppy:rw:" : "rw:", false);
        u32 start = turn % 2 ? 1 : 64, last = turn % 2 ? 60 : 64 + 2 * 252 + 64;
        u8 s[512];

        for (int k = 0; k < 12; k++) {
            u32 sector = start + bench_random() % (last - start);

            CHECK(go(blk, BLK_READ, sector, s, 1) == BLK_OK);
            for (int b = 0; b < 6; b++)
                s[bench_random() % 512] = (u8)bench_random();
            CHECK(go(blk, BLK_WRITE, sector, s, 1) == BLK_OK);
            if (k % 4 == 3)
                CHECK(go(blk, BLK_FLUSH, 0, NULL, 0) == BLK_OK);
        }
        blk_destroy(blk);
    }
    CHECK_MSG(file_is(in_top("outside.txt"), "outside"), "damaged tables lead to no file outside");
}

static void test_refused(void)
{
    Error err = { "" };
    DriveConfig cfg = { .used = true, .iface = IF_IDE };
    char name[200];

    snprintf(name, sizeof(name), "fat:%s/no-such-folder", top);
    cfg.file = name;
    CHECK_MSG(!blk_create(m, &cfg, "d", &err) && strstr(err.text, "no-such-folder"), "a missing folder is named");
}

int main(void)
{
    bench_machine();
    log_to_file("/dev/null");
    make_folder();
    test_layout();
    test_same_folder_same_disk();
    test_thrown_away();
    test_rw();
    test_renamed();
    test_no_escape();
    test_damage();
    test_refused();
    remove_folder();
    return test_end();
}
