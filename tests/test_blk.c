/* Drives: what becomes of a request that the host could not do (werror, rerror), cont and reset after it, and
 * commit of -snapshot. The host's input and output is this test's own and fails when it is told to. */
#include "disk_bench.h"

#include "../core/vm/log.h"
#include "../block/driver.h"

static HostIo *queue[64];
static unsigned queued;
static bool fail_reads, fail_writes, fail_flushes, disk_full;
static unsigned served;

void host_io_submit(HostIo *io) { queue[queued++] = io; }

bool host_io_wait(void)
{
    HostIo *io = queue[0];
    bool fail;

    if (!queued)
        return false;
    memmove(queue, queue + 1, sizeof(*queue) * --queued);
    fail = io->kind == HOST_IO_READ ? fail_reads : io->kind == HOST_IO_WRITE ? fail_writes : fail_flushes;
    io->ok = !fail;
    io->no_space = fail && disk_full;
    io->transferred = fail ? 0 : io->bytes;
    if (fail)
        error_set(&io->err, "as the test wants it");
    else if (io->kind == HOST_IO_READ)
        io->ok = host_file_read(io->file, io->offset, io->buf, io->bytes, &io->err);
    else if (io->kind == HOST_IO_WRITE)
        io->ok = host_file_write(io->file, io->offset, io->buf, io->bytes, &io->err);
    served++;
    io->done(io);
    return true;
}

static unsigned done_count;
static void done(BlkReq *req)
{
    (void)req;
    done_count++;
}

static Blk *drive_with(const char *file, OnError werror, OnError rerror, bool snapshot)
{
    DriveConfig cfg = { .used = true, .iface = IF_IDE, .werror = werror, .rerror = rerror,
                        .file = (char *)file, .snapshot = snapshot };
    Error err;
    Blk *blk = blk_create(m, &cfg, "ide0-hd0", &err);

    if (!blk)
        abort();
    return blk;
}

static u8 buf[512];

/* Submits and lets the main loop turn; the result, or -1: it is not done. */
static int go(Blk *blk, BlkReq *req, BlkOp op)
{
    unsigned before = done_count;
    u64 deadline;

    *req = (BlkReq){ .op = op, .offset = 1024, .buf = buf, .bytes = op == BLK_FLUSH ? 0 : 512, .done = done };
    blk_submit(blk, req);
    for (int i = 0; i < 10; i++) {
        host_io_wait();
        machine_service(m, &deadline);
    }
    return done_count > before ? (int)req->result : -1;
}

static void turns(void)
{
    u64 deadline;

    for (int i = 0; i < 10; i++) {
        host_io_wait();
        machine_service(m, &deadline);
    }
}

static bool state_is(const char *name) { return !strcmp(machine_state_name(m), name); }

static void test_report(void)
{
    Blk *blk = drive_with(bench_file(65536), ON_ERROR_DEFAULT, ON_ERROR_DEFAULT, false);
    BlkReq req;

    machine_cont(m);
    fail_reads = fail_writes = true;
    CHECK_MSG(go(blk, &req, BLK_READ) == BLK_ERR_IO, "a read error is reported to the guest by default");
    CHECK_MSG(go(blk, &req, BLK_WRITE) == BLK_ERR_IO, "so is a write error that is no full disk");
    CHECK(state_is("running"));
    fail_reads = fail_writes = false;
    CHECK(go(blk, &req, BLK_READ) == BLK_OK && go(blk, &req, BLK_WRITE) == BLK_OK);
    blk_destroy(blk);
}

static void test_ignore(void)
{
    Blk *blk = drive_with(bench_file(65536), ON_ERROR_IGNORE, ON_ERROR_IGNORE, false);
    BlkReq req;

    fail_reads = fail_writes = true;
    memset(buf, 0x55, sizeof(buf));
    CHECK_MSG(go(blk, &req, BLK_WRITE) == BLK_OK, "werror=ignore tells the guest that all is well");
    CHECK_MSG(go(blk, &req, BLK_READ) == BLK_OK && buf[0] == 0 && buf[511] == 0,
              "rerror=ignore reads zeros");
    CHECK(state_is("running"));
    fail_reads = fail_writes = false;
    blk_destroy(blk);
}

static void test_stop_and_cont(void)
{
    const char *file = bench_file(65536);
    Blk *blk = drive_with(file, ON_ERROR_DEFAULT, ON_ERROR_STOP, false);
    char text[512];
    BlkReq req, second;
    size_t size;
    u8 *after;

    fail_writes = disk_full = true;
    memset(buf, 0xa7, sizeof(buf));
    CHECK_MSG(go(blk, &req, BLK_WRITE) == -1, "a full disk keeps the guest waiting by default");
    CHECK_MSG(state_is("paused (io-error)") && !machine_running(m), "and the machine is paused");
    CHECK(blk_waits(blk));
    blk_describe(blk, text, sizeof(text));
    CHECK_MSG(strstr(text, "waits after an error"), "info block says so: %s", text);
    blk_drain(blk);
    CHECK_MSG(blk_waits(blk), "draining does not wait for it");
    machine_cont(m);
    turns();
    CHECK_MSG(state_is("paused (io-error)") && blk_waits(blk), "cont tries again, and it fails again");
    CHECK_MSG(go(blk, &second, BLK_FLUSH) == BLK_OK, "other requests go on");
    fail_writes = disk_full = false;
    unsigned before = done_count;
    machine_cont(m);
    CHECK(state_is("running"));
    turns();
    CHECK_MSG(done_count == before + 1 && req.result == BLK_OK && !blk_waits(blk),
              "when there is room again, cont completes the write");
    fail_reads = true;
    CHECK_MSG(go(blk, &req, BLK_READ) == -1 && state_is("paused (io-error)"), "rerror=stop does it for reads");
    fail_reads = false;
    before = done_count;
    blk_give_up_all(m);             /* as a reset does */
    CHECK_MSG(done_count == before + 1 && req.result == BLK_ERR_IO, "a reset ends it with the error");
    blk_destroy(blk);
    after = bench_contents(file, &size);
    CHECK_MSG(after[1024] == 0xa7 && after[1535] == 0xa7, "the file holds what was written");
    free(after);
}

static void test_flush_and_destroy(void)
{
    Blk *blk = drive_with(bench_file(65536), ON_ERROR_STOP, ON_ERROR_REPORT, false);
    unsigned before;
    BlkReq req;

    fail_flushes = true;
    CHECK_MSG(go(blk, &req, BLK_FLUSH) == -1 && blk_waits(blk), "werror=stop is for flushes too");
    before = done_count;
    blk_destroy(blk);
    CHECK_MSG(done_count == before + 1, "a drive that goes away ends what waits");
    fail_flushes = false;
}

static void test_commit(void)
{
    const char *file = bench_file(1 << 20);
    Blk *blk = drive_with(file, ON_ERROR_DEFAULT, ON_ERROR_DEFAULT, true);
    Blk *plain;
    BlkReq req;
    Error err;
    size_t size;
    u8 *after;

    memset(buf, 0xc3, sizeof(buf));
    CHECK(go(blk, &req, BLK_WRITE) == BLK_OK);
    after = bench_contents(file, &size);
    CHECK_MSG(after[1024] == pattern(1024), "-snapshot leaves the file as it was");
    free(after);
    fail_writes = true;
    CHECK_MSG(!blk_commit(blk, &err) && strstr(err.text, file), "a commit that fails names the file");
    fail_writes = false;
    memset(buf, 0, sizeof(buf));
    CHECK_MSG(go(blk, &req, BLK_READ) == BLK_OK && buf[0] == 0xc3, "and loses nothing");
    CHECK_MSG(blk_commit(blk, &err), "commit: %s", err.text);
    after = bench_contents(file, &size);
    CHECK_MSG(after[1024] == 0xc3 && after[1535] == 0xc3, "commit writes what was changed");
    CHECK_MSG(after[1023] == pattern(1023) && after[1536] == pattern(1536), "and nothing else");
    free(after);
    memset(buf, 0x3c, sizeof(buf));
    CHECK(go(blk, &req, BLK_WRITE) == BLK_OK);
    CHECK(go(blk, &req, BLK_READ) == BLK_OK && buf[7] == 0x3c);
    after = bench_contents(file, &size);
    CHECK_MSG(after[1024] == 0xc3, "what is written afterwards is kept apart again");
    free(after);
    blk_destroy(blk);
    plain = drive_with(file, ON_ERROR_DEFAULT, ON_ERROR_DEFAULT, false);
    CHECK_MSG(!blk_commit(plain, &err), "commit is refused where nothing is kept apart");
    blk_destroy(plain);
}

static void test_second_writer(void)
{
    const char *file = bench_file(65536);
    Blk *blk = drive_with(file, ON_ERROR_DEFAULT, ON_ERROR_DEFAULT, false);
    DriveConfig cfg = { .used = true, .iface = IF_IDE, .file = (char *)file };
    Error err;
    Blk *reader;

    CHECK_MSG(!blk_create(m, &cfg, "ide0-hd1", &err) && strstr(err.text, file),
              "an image is written by one drive only: %s", err.text);
    cfg.readonly = true;
    reader = blk_create(m, &cfg, "ide0-hd1", &err);
    CHECK_MSG(reader, "others may read it");
    blk_destroy(reader);
    blk_destroy(blk);
}

int main(void)
{
    bench_machine();
    log_to_file("/dev/null");
    test_report();
    test_ignore();
    test_stop_and_cont();
    machine_cont(m);
    test_flush_and_destroy();
    test_commit();
    test_second_writer();
    bench_remove_files();
    return test_end();
}
