/*
 * Snapshots of a whole machine whose disk is a file in memory: what is saved comes back, chip by chip and page
 * by page; what is refused leaves the machine as it is; power cuts and full disks leave the image and its
 * older snapshots sound. The guest is paused throughout. Longer with QEMU_WIN_ROUNDS=n (default 1).
 */
#include "mem_files.h"

#include "../core/vm/device.h"
#include "../core/vm/snapshot.h"
#include "../core/vm/snapshot_int.h"
#include "../devices/pc.h"

#include <stdio.h>
#include <zlib.h>

enum { RAM = 4 << 20, DISK = 1 << 20, MARKS = 64 };

static Machine *m;
static Error err;
static char note[512], done_error[512];

/* The firmware is a real file. */
bool host_resource(const char *name, const void **data, size_t *size)
{
    char path[512];
    const char *dir = getenv("QEMU_WIN_BIOS");
    static u8 buf[4][1 << 18];
    static int next;
    u8 *to = buf[next++ & 3];

    snprintf(path, sizeof(path), "%s/%s", dir ? dir : "build/pc-bios", name);
    FILE *f = fopen(path, "rb");
    *size = f ? fread(to, 1, sizeof(buf[0]), f) : 0;
    *data = to;
    if (f)
        fclose(f);
    return *size;
}

static char *text(const char *s)
{
    char *copy = malloc(strlen(s) + 1);
    return strcpy(copy, s);
}

static bool make(const char *file, const char *loadvm, bool ok_expected)
{
    Config cfg;

    config_default(&cfg);
    cfg.ram_bytes = RAM;
    cfg.start_stopped = true;
    cfg.drive[0] = (DriveConfig){ .iface = IF_IDE, .used = true, .file = text(file) };
    cfg.loadvm = loadvm ? text(loadvm) : NULL;
    m = machine_create(&cfg, pc_arena_bytes(&cfg), &err);
    config_free(&cfg);
    machine_lock(m);
    bool ok = pc_create(m, &err) && machine_start(m, &err);
    CHECK_MSG(ok == ok_expected, "start on %s: %s", file, err.text);
    return ok;
}

static void drop(void)
{
    snapshot_finish(m);
    machine_join(m);
    machine_unlock(m);
    machine_destroy(m);
    m = NULL;
}

static void create_disk(u32 cluster_bits)
{
    Qcow2Create how = { .size = DISK, .version = 3, .cluster_bits = cluster_bits, .ref_order = 4 };

    CHECK_MSG(qcow2_create("disk", &how, &err), "%s", err.text);
    mem_set_synced(mem_file("disk"));
}

static void save_done(void *opaque, const char *error)
{
    (void)opaque;
    snprintf(done_error, sizeof(done_error), "%s", error ? error : "");
}

static bool save(const char *name)
{
    done_error[0] = 0;
    if (!snapshot_save(m, name, note, save_done, NULL, &err))
        return false;
    snapshot_finish(m);
    return !done_error[0];
}

static bool load(const char *which)
{
    bool ok = snapshot_load(m, which, note, &err);

    snapshot_finish(m);
    return ok;
}

/* ---- what the machine is ---- */

static Blk *disk(void)
{
    Blk *blk = blk_first(m);

    while (blk_removable(blk))
        blk = blk_next(blk);
    return blk;
}

static void mark_done(BlkReq *req) { (void)req; }

static void write_disk(u32 sector, u32 value)
{
    u8 buf[SECTOR];
    BlkReq req = { .op = BLK_WRITE, .offset = sector * SECTOR, .bytes = SECTOR, .buf = buf, .done = mark_done };

    for (u32 i = 0; i < SECTOR; i += 4)
        store32(buf + i, value);
    blk_submit(disk(), &req);
    blk_drain(disk());
}

static u32 read_disk(u32 sector)
{
    u8 buf[SECTOR];

    return blk_read_now(disk(), sector * SECTOR, buf, SECTOR) ? load32(buf) : 0xdeadbeef;
}

/* Every MARKS-th of the memory and of the disk tells of n; pages with much else in them. */
static void set_marks(u32 n)
{
    for (u32 i = 0; i < MARKS; i++) {
        u8 page[PAGE_SIZE];

        for (u32 k = 0; k < PAGE_SIZE; k++)
            page[k] = (u8)(i & 1 ? mem_random() : k / 64);
        store32(page, n * 1000 + i);
        mem_dma_write(m->mem, 0x100000 + i * 3 * PAGE_SIZE, page, PAGE_SIZE);
    }
    for (u32 i = 0; i < MARKS; i += 8)
        write_disk(i * 20, n * 1000 + i);
    port_write(m, 0x70, 0x50, 1);           /* a byte of CMOS, for the chips */
    port_write(m, 0x71, n & 255, 1);
}

static unsigned wrong_marks(u32 n)
{
    unsigned wrong = 0;

    for (u32 i = 0; i < MARKS; i++)
        wrong += mem_bus_read(m->mem, 0x100000 + i * 3 * PAGE_SIZE, 4) != (n ? n * 1000 + i : 0);
    for (u32 i = 0; i < MARKS; i += 8)
        wrong += read_disk(i * 20) != (n ? n * 1000 + i : 0);
    port_write(m, 0x70, 0x50, 1);
    wrong += port_read(m, 0x71, 1) != (n & 255);
    return wrong;
}

static u32 memory_crc(void)
{
    u32 crc = 0;
    u8 page[PAGE_SIZE];

    for (u32 at = 0; at < RAM; at += PAGE_SIZE) {
        mem_dma_read(m->mem, at, page, PAGE_SIZE);
        for (u32 i = 0; i < PAGE_SIZE; i += 8)
            crc = (crc << 5 | crc >> 27) ^ load32(page + i) ^ load32(page + i + 4) * 77;
    }
    return crc;
}

static void take_chips(SaveBuf *b)
{
    MachineState st;

    state_take(m, &st);
    *b = st.chips;
}

static bool same_chips(const SaveBuf *a)
{
    SaveBuf b;
    bool same;

    take_chips(&b);
    same = a->len == b.len && !memcmp(a->data, b.data, b.len);
    free(b.data);
    return same;
}

static void check_image(const char *when, bool leaks_allowed)
{
    Qcow2Check c = { 0 };
    Qcow2 *q = qcow2_load("disk", true, &err);

    CHECK_MSG(q && qcow2_check(q, 0, NULL, &c, &err) && !c.corruptions && !c.errors &&
              (leaks_allowed || !c.leaks), "%s: the image is sound: %llu corruptions, %llu leaks", when,
              (unsigned long long)c.corruptions, (unsigned long long)c.leaks);
    if (q)
        qcow2_free(q);
}

/* ---- there and back ---- */

static char listing[4096];

static void add_line(void *opaque, const char *line)
{
    size_t n = strlen(listing);

    (void)opaque;
    snprintf(listing + n, sizeof(listing) - n, "%s\n", line);
}

static const char *tree(void)
{
    listing[0] = 0;
    snapshot_tree(m, add_line, NULL);
    for (char *p = listing; (p = strstr(p, "  20")); )          /* without the dates */
        memmove(p, p + 21, strlen(p + 21) + 1);
    return listing;
}

static void test_round_trip(u32 cluster_bits)
{
    SaveBuf chips;

    create_disk(cluster_bits);
    make("disk", NULL, true);
    set_marks(1);
    take_chips(&chips);
    u32 crc = memory_crc();
    CHECK_MSG(save("one") && !note[0], "savevm: %s%s", err.text, done_error);
    CHECK_MSG(same_chips(&chips) && memory_crc() == crc && !wrong_marks(1), "saving changes nothing");
    set_marks(2);
    for (u32 port = 0x3c0; port < 0x3d0; port++)
        port_write(m, port, mem_random() & 255, 1);
    CHECK_MSG(load("one"), "loadvm: %s", err.text);
    CHECK_MSG(strstr(note, "before-loadvm"), "it is said where the present is kept");
    CHECK_MSG(!wrong_marks(1) && memory_crc() == crc, "memory and disk are what they were");
    CHECK_MSG(same_chips(&chips), "all chips are what they were");
    CHECK_MSG(load("before-loadvm") && !wrong_marks(2), "loadvm can be undone: %s", err.text);
    CHECK_MSG(load("1") && !wrong_marks(1), "a number does as well");
    CHECK_MSG(save("two") && load("before-loadvm") && !wrong_marks(2) && load("2") && !wrong_marks(1),
              "and again: %s", err.text);
    drop();
    check_image("closed", false);
    make("disk", "one", true);
    CHECK_MSG(!wrong_marks(1) && same_chips(&chips), "-loadvm in a new process");
    drop();
    make("disk", "three", false);
    CHECK_MSG(strstr(err.text, "there is no snapshot 'three'"), "a wrong name: %s", err.text);
    drop();
    free(chips.data);
    check_image("closed", false);
}

static void test_list(void)
{
    SnapshotFigures first, second;

    create_disk(16);
    make("disk", NULL, true);
    listing[0] = 0;
    snapshot_list(m, add_line, NULL);
    CHECK_MSG(strstr(listing, "no snapshots"), "none at first");
    set_marks(3);
    CHECK(save("test"));
    first = snapshot_figures(m);
    CHECK(save("test2"));
    second = snapshot_figures(m);
    CHECK_MSG(second.bytes < first.bytes && second.bytes <= 2 * 65536,
              "what has not changed is not written again: %llu bytes, then %llu", (unsigned long long)first.bytes,
              (unsigned long long)second.bytes);
    listing[0] = 0;
    snapshot_list(m, add_line, NULL);
    CHECK_MSG(!strncmp(listing, "ID TAG    VM SIZE DATE                VM CLOCK\n1  test   ", 56) &&
              strstr(listing, "\n2  test2  ") && strlen(listing) > 140, "info snapshots:\n%s", listing);
    CHECK_MSG(!strcmp(tree(), "1 test\n+- 2 test2\n   +- * the present\n"), "the tree:\n%s", listing);
    CHECK(load("test"));
    CHECK_MSG(!strcmp(tree(), "1 test\n+- 2 test2\n|  +- 3 before-loadvm\n+- * the present\n"), "the tree:\n%s",
              listing);
    set_marks(4);
    CHECK_MSG(save("test2") && strstr(note, "replaced"), "a name given twice replaces and says so: %s", note);
    CHECK(!strcmp(tree(), "1 test\n+- 2 test2\n|  +- * the present\n+- 3 before-loadvm\n"));
    CHECK_MSG(snapshot_remove(m, "test", &err), "delvm: %s", err.text);
    CHECK_MSG(load("test2") && !wrong_marks(4), "what a deleted parent shared stays: %s", err.text);
    CHECK(!snapshot_remove(m, "test", &err) && strstr(err.text, "no snapshot 'test'"));
    CHECK_MSG(!snapshot_save(m, "17", note, save_done, NULL, &err) && strstr(err.text, "number"),
              "a name that is a number is refused");
    CHECK_MSG(save(NULL) && !strncmp(note, "the snapshot is called 'vm-", 27), "no name makes one: %s", note);
    CHECK(snapshot_remove(m, "test2", &err) && snapshot_remove(m, "before-loadvm", &err));
    set_marks(5);
    CHECK_MSG(save("last") && load("last") && !wrong_marks(5), "after its base was deleted");
    drop();
    check_image("closed", false);
}

static void test_refused_disks(void)
{
    mem_make("raw", false);
    mem_file("raw")->bytes = DISK;
    make("raw", NULL, true);
    CHECK_MSG(!snapshot_save(m, "a", note, save_done, NULL, &err) && strstr(err.text, "ide0-hd0") &&
              strstr(err.text, "qemu-img convert -O qcow2 raw"), "a raw disk is named, with the command: %s",
              err.text);
    CHECK(!load("a"));
    drop();
}

/* ---- damage ---- */

static void test_damage(unsigned rounds)
{
    MemFile *f = mem_file("disk");
    SaveBuf chips;
    unsigned refused = 0, loaded = 0, changed = 0;
    u64 place[64], states = 0;
    Head h;
    Blk *blk;
    BlkSnapshot row;

    create_disk(16);
    f = mem_file("disk");
    make("disk", NULL, true);
    set_marks(1);
    CHECK(save("one"));
    set_marks(2);
    m->cfg.no_auto_snapshot = true;
    take_chips(&chips);
    u32 crc = memory_crc();
    CHECK(snapshot_look_up(m, "one", &blk, &row, &err) && head_read(&h, blk, &row, &err));
    for (u64 at = 0; at < f->bytes && states < ARRAY_LEN(place); at += 65536) {
        static u8 block[65536];     /* where the blocks of the state lie in the file */
        for (u32 b = 0; b < h.blocks; b++) {
            CHECK(blk_snapshot_read(blk, row.id, (u64)b * 65536, block, 65536, &err));
            if (!memcmp(block, f->now + at, 65536) && states < ARRAY_LEN(place)) {
                place[states++] = at;
                break;
            }
        }
    }
    CHECK(states >= h.blocks);
    for (unsigned i = 0; i < rounds; i++) {
        /* one bit of what means something: the head, the pages, the sections */
        u64 at = place[mem_random() % states] + mem_random() % (i & 1 ? 4096 : 65536);
        u8 bit = (u8)(1u << mem_random() % 8);

        f->now[at] ^= bit;
        if (load("one"))
            loaded++;
        else
            refused++;
        f->now[at] ^= bit;
        if (loaded)
            break;
        if (i % 16 == 0 || i == rounds - 1)
            changed += !same_chips(&chips) || memory_crc() != crc || wrong_marks(2);
    }
    CHECK_MSG(!changed, "what is refused leaves the machine as it is");
    printf("%u flipped bits refused, %u loaded\n", refused, loaded);
    CHECK(load("one") && !wrong_marks(1));
    free(chips.data);
    drop();
}

/* ---- power cuts ---- */

static u32 keep_crc;
static u64 cuts, bad_images, lost_snapshots;

/* The file as it is found: what was synced, and any choice of the sectors that were not. */
static void power_cut(const MemFile *from, MemFile *to)
{
    u32 mode = mem_random() % 4;

    memset(to->now, 0, to->bytes);
    memcpy(to->now, from->synced, from->synced_bytes);
    to->bytes = from->synced_bytes;
    for (MemWrite *w = from->writes; w; w = w->next) {
        for (u32 at = 0, n; at < w->bytes; at += n) {
            n = SECTOR - (u32)((w->at + at) % SECTOR);
            n = n < w->bytes - at ? n : w->bytes - at;
            if (mode == 0 || (mode > 1 && mem_random() % 3 == 0))
                continue;
            memcpy(to->now + w->at + at, w->data + at, n);
            if (w->at + at + n > to->bytes)
                to->bytes = w->at + at + n;
        }
    }
}

/* State and disk of the snapshot "keep", by checksum; 0: it is not there. */
static u32 snapshot_crc(const char *file)
{
    BlkImage *img = qcow2_driver.open(NULL, file, true, &err);
    BlkSnapshot *list = NULL;
    u32 count = 0, crc = 0;
    static u8 content[DISK];

    if (!img)
        return 0;
    if (qcow2_snapshot_ops.list(img, &list, &count, &err)) {
        for (u32 i = 0; i < count; i++) {
            u8 *state = strcmp(list[i].name, "keep") ? NULL : malloc(list[i].vm_bytes);

            if (state && qcow2_snapshot_ops.read(img, list[i].id, 0, state, list[i].vm_bytes, &err) &&
                qcow2_use_snapshot((Qcow2 *)img, list[i].id, &err) &&
                image_do(img, BLK_READ, 0, content, DISK) == BLK_OK) {
                for (u64 k = 0; k < list[i].vm_bytes; k += 4)
                    crc = (crc << 7 | crc >> 25) ^ load32(state + k);
                for (u32 k = 0; k < DISK; k += 4)
                    crc = (crc << 7 | crc >> 25) ^ load32(content + k);
            }
            free(state);
        }
    }
    free(list);
    img->drv->close(img);
    return crc;
}

static void look_at_cut(MemFile *f)
{
    static HostIo *queue[ARRAY_LEN(mem_queue)];
    unsigned queued = mem_queued;
    Qcow2Check c = { 0 };
    Qcow2 *q;

    if (mem_random() % 5)
        return;
    cuts++;
    mem_before_write = NULL;
    memcpy(queue, mem_queue, sizeof(queue));
    mem_queued = 0;
    power_cut(f, mem_file("cut"));
    q = qcow2_load("cut", true, &err);
    if (!q || !qcow2_check(q, 0, NULL, &c, &err) || c.errors || c.corruptions > c.copied_missing) {
        if (bad_images++ < 3)
            printf("cut %llu: %llu corruptions, %llu errors %s\n", (unsigned long long)cuts,
                   (unsigned long long)c.corruptions, (unsigned long long)c.errors, err.text);
    }
    if (q)
        qcow2_free(q);
    lost_snapshots += snapshot_crc("cut") != keep_crc;
    memcpy(mem_queue, queue, sizeof(queue));
    mem_queued = queued;
    mem_before_write = look_at_cut;
}

static void test_cuts(unsigned rounds, u32 cluster_bits)
{
    u64 cuts_before = cuts;

    create_disk(cluster_bits);
    make("disk", NULL, true);
    set_marks(1);
    CHECK(save("keep"));
    keep_crc = snapshot_crc("disk");
    CHECK(keep_crc);
    for (unsigned i = 0; i < rounds; i++) {
        set_marks(2 + i);
        mem_before_write = look_at_cut;
        CHECK_MSG(save(i & 1 ? "other" : "more"), "savevm: %s%s", err.text, done_error);
        CHECK_MSG(load(i & 1 ? "keep" : "other") || !i, "loadvm: %s", err.text);
        if (i % 3 == 2)
            CHECK_MSG(snapshot_remove(m, "other", &err), "delvm: %s", err.text);
        mem_before_write = NULL;
    }
    CHECK_MSG(!bad_images, "%llu power cuts: the image is sound", (unsigned long long)(cuts - cuts_before));
    CHECK_MSG(!lost_snapshots, "%llu power cuts: an older snapshot is whole", (unsigned long long)lost_snapshots);
    CHECK(load("keep") && !wrong_marks(1));
    drop();
    check_image("after all", false);
    printf("%llu power cuts\n", (unsigned long long)(cuts - cuts_before));
}

/* ---- a full disk ---- */

static void test_full(void)
{
    unsigned failed = 0;

    create_disk(16);
    make("disk", NULL, true);
    set_marks(1);
    CHECK(save("keep"));
    keep_crc = snapshot_crc("disk");
    set_marks(2);
    SaveBuf chips;
    take_chips(&chips);
    for (u64 room = 0; room < 40; room++) {
        mem_limit = mem_file("disk")->bytes + room * 16384;
        if (save("more"))
            break;
        failed++;
        CHECK_MSG(done_error[0] || err.text[0], "it is said why");
        CHECK_MSG(same_chips(&chips) && !wrong_marks(2), "the guest goes on with what it had");
    }
    mem_limit = 0;
    CHECK_MSG(failed > 5, "the disk was full %u times", failed);
    CHECK_MSG(snapshot_crc("disk") == keep_crc, "older snapshots are whole");
    CHECK_MSG(save("more") && load("keep") && !wrong_marks(1) && load("more") && !wrong_marks(2),
              "with room again all is as ever: %s%s", err.text, done_error);
    free(chips.data);
    drop();
    check_image("after a full disk", true);
}

/* ---- what an earlier build saved ---- */

#define KEPT "tests/data/snapshot-sections-1.z"

/* With QEMU_WIN_KEEP=1 this build's sections become the kept file. */
static void keep_sections(void)
{
    static u8 packed[1 << 20];
    uLong n = sizeof(packed);
    PageTable t = { .pages = mem_arena_pages(m->mem), .blocks = 1 };
    MachineState st;
    SaveBuf raw = { 0 };

    t.page = calloc(t.pages, sizeof(PageRef));
    table_room(&t, 1);
    set_marks(7);
    state_take(m, &st);
    state_put_sections(m, &st, &t, &raw);
    compress2(packed, &n, raw.data, (uLong)raw.len, 9);
    FILE *f = fopen(KEPT, "wb");
    fwrite(packed, 1, n, f);
    fclose(f);
    free(raw.data);
    state_free(&st);
    table_free(&t);
}

static void test_kept(void)
{
    static u8 packed[1 << 20], raw[1 << 20];
    uLong n = sizeof(raw);
    PageTable t = { 0 };
    MachineState st = { 0 };
    Error e = { "" };

    create_disk(16);
    make("disk", NULL, true);
    if (getenv("QEMU_WIN_KEEP"))
        keep_sections();
    set_marks(1);
    FILE *f = fopen(KEPT, "rb");
    size_t bytes = f ? fread(packed, 1, sizeof(packed), f) : 0;
    CHECK_MSG(bytes && uncompress(raw, &n, packed, (uLong)bytes) == Z_OK, KEPT " is there");
    bool ok = state_parse(m, raw, n, 65536, &st, &t, &e);
    CHECK_MSG(ok, "every chip of the first build is understood: %s", e.text);
    machine_freeze(m);
    CHECK_MSG(ok && state_apply(m, &st, &e), "and takes its values: %s", e.text);
    machine_thaw(m, true);
    port_write(m, 0x70, 0x50, 1);
    CHECK_MSG(port_read(m, 0x71, 1) == 7, "the CMOS holds what it held");
    if (f)
        fclose(f);
    for (size_t i = 0, bad = 0; i < 2000; i++) {        /* damaged: any answer but a crash */
        MachineState hurt = { 0 };
        PageTable table = { 0 };
        size_t at = mem_random() % n;
        u8 was = raw[at];

        raw[at] = (u8)mem_random();
        bad += !state_parse(m, raw, i & 1 ? n : mem_random() % n, 65536, &hurt, &table, &e);
        raw[at] = was;
        state_free(&hurt);
        table_free(&table);
        CHECK(i < 1999 || bad > 900);
    }
    state_free(&st);
    table_free(&t);
    drop();
}

int main(void)
{
    unsigned rounds = getenv("QEMU_WIN_ROUNDS") ? (unsigned)atoi(getenv("QEMU_WIN_ROUNDS")) : 1;

    setvbuf(stdout, NULL, _IONBF, 0);
    host_posix_init();
    mem_make("cut", false);
    test_round_trip(16);
    test_round_trip(12);
    test_list();
    test_refused_disks();
    test_damage(60 * rounds);
    test_cuts(6 * rounds, 16);
    test_cuts(6 * rounds, 12);
    test_full();
    test_kept();
    return test_end();
}
