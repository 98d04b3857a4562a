/* The Windows host: files, waiting, time, threads, memory, faults, firmware. Runs on Windows or under Wine.
 */
#include "../win32/win.h"

#include "../core/vm/machine.h"
#include "../core/vm/timer.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Latin, CJK and an emoji: all of Unicode must survive the way to the file system. */
#define UNICODE_NAME "host-t\xc3\xa4st-\xe6\xbc\xa2\xe5\xad\x97-\xf0\x9f\x98\x80.bin"

static Error err;

/* ---- files ---- */

static void test_files(void)
{
    u8 buf[1000], back[1000];
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (u8)(i * 7);
    HostFile *f = host_file_open(UNICODE_NAME, HOST_READ | HOST_WRITE | HOST_CREATE, &err);
    CHECK_MSG(f != NULL, "a file with a Unicode name is made: %s", err.text);
    if (!f)
        return;
    CHECK(host_file_write(f, 0, buf, sizeof buf, &err) && host_file_size(f) == sizeof buf);
    CHECK(host_file_read(f, 0, back, sizeof back, &err) && !memcmp(buf, back, sizeof buf));
    CHECK_MSG(!host_file_read(f, 500, back, 501, &err) && strstr(err.text, "end of file"),
              "reading past the end fails: %s", err.text);
    CHECK(host_file_resize(f, 5000, &err) && host_file_size(f) == 5000);
    CHECK_MSG(host_file_read(f, 4000, back, 1000, &err) && !back[0] && !back[999],
              "what a file grew by is zero");

    Error second;
    CHECK_MSG(!host_file_open(UNICODE_NAME, HOST_WRITE, &second), "a second writer is refused");
    CHECK_MSG(!strcmp(second.text, UNICODE_NAME ": in use by another program"), "and told why: %s",
              second.text);
    HostFile *reader = host_file_open(UNICODE_NAME, HOST_READ, &second);
    CHECK_MSG(reader == NULL || host_file_size(reader) == 5000, "a reader sees the file, if it is let in");
    if (reader)
        host_file_close(reader);
    host_file_close(f);

    CHECK(host_file_exists(UNICODE_NAME) && !host_file_exists("no-such-file"));
    size_t size;
    u8 *data = host_file_slurp(UNICODE_NAME, 5000, &size, &err);
    CHECK_MSG(data && size == 5000 && !memcmp(data, buf, sizeof buf) && data[5000] == 0,
              "a file is read whole, a NUL behind it");
    free(data);
    CHECK(!host_file_slurp(UNICODE_NAME, 4999, &size, &err) && strstr(err.text, "larger than 4999"));
    wchar_t *wide = wide_path(UNICODE_NAME);
    CHECK(DeleteFileW(wide));
    free(wide);
}

static void test_file_errors(void)
{
    CHECK(!host_file_open("no-such-file", HOST_READ, &err) &&
          !strcmp(err.text, "no-such-file: no such file"));
    CHECK(!host_file_open("no-such-dir\\x", HOST_READ, &err) && strstr(err.text, "no such directory"));
    CHECK_MSG(!host_file_open(".", HOST_READ, &err) && !strcmp(err.text, ".: is a directory"),
              "a directory: %s", err.text);
    CHECK_MSG(!host_file_open("NUL", HOST_READ, &err) && strstr(err.text, "device"),
              "a device is no file: %s", err.text);
    CHECK(!host_file_open("", HOST_READ, &err) && err.text[0]);
    char text[256];
    CHECK_MSG(!strchr(win_reason(ERROR_CRC, text, sizeof text), '\n') && strlen(text) > 20,
              "reasons are one line: %s", text);
}

static void test_long_path(void)
{
    char path[600] = "";
    wchar_t *wide;
    for (int i = 0; i < 8; i++) {
        strcat(path, i ? "\\" : "");
        strcat(path, "a-directory-with-a-rather-long-name-of-50-letters-");
        wide = wide_path(path);
        CreateDirectoryW(wide, NULL);
        free(wide);
    }
    strcat(path, "\\file.img");
    HostFile *f = host_file_open(path, HOST_READ | HOST_WRITE | HOST_CREATE, &err);
    CHECK_MSG(f != NULL, "names longer than MAX_PATH work: %.300s", err.text);
    if (f)
        host_file_close(f);
    wide = wide_path(path);
    DeleteFileW(wide);
    free(wide);
    for (char *cut; (cut = strrchr(path, '\\')) || path[0];) {
        *(cut ? cut : path) = 0;
        wide = wide_path(path);
        if (path[0])
            RemoveDirectoryW(wide);
        free(wide);
    }
}

static void test_temp(void)
{
    u8 buf[16] = "temporary";
    HostFile *a = host_file_open("", HOST_READ | HOST_WRITE | HOST_TEMP, &err);
    HostFile *b = host_file_open("", HOST_READ | HOST_WRITE | HOST_TEMP, &err);
    CHECK_MSG(a && b, "temporary files: %s", err.text);
    if (!a || !b)
        return;
    CHECK(host_file_write(a, 100, buf, sizeof buf, &err) && host_file_size(a) == 116 &&
          host_file_size(b) == 0);
    host_file_close(a);
    host_file_close(b);
}

/* ---- asynchronous ---- */

enum { REQUESTS = 300, REQUEST_BYTES = 512 };
static HostIo request[REQUESTS];
static int done_count;
static bool inside_submit, completed_inside;

static void request_done(HostIo *r)
{
    completed_inside |= inside_submit;
    done_count += r->ok ? 1 : 1000000;
}

static void submit(HostIo *r, HostIoKind kind, HostFile *f, u64 offset, void *buf, u32 bytes)
{
    *r =
        (HostIo){.kind = kind, .file = f, .offset = offset, .buf = buf, .bytes = bytes, .done = request_done};
    inside_submit = true;
    host_io_submit(r);
    inside_submit = false;
}

static HostFile *chain_file;
static int chain_left;
static u8 chain_buf[512];

static void chain_done(HostIo *r)
{
    if (chain_left-- > 0) {
        host_io_submit(r);
        return;
    }
    done_count++;
}

static void test_async(void)
{
    static u8 data[REQUESTS][REQUEST_BYTES], back[REQUESTS][REQUEST_BYTES];
    HostFile *f = host_file_open("async.bin", HOST_READ | HOST_WRITE | HOST_CREATE, &err);
    CHECK(f != NULL);
    if (!f)
        return;
    for (int i = 0; i < REQUESTS; i++) {
        memset(data[i], i * 13, REQUEST_BYTES);
        submit(&request[i], HOST_IO_WRITE, f, (u64)i * REQUEST_BYTES, data[i], REQUEST_BYTES);
    }
    while (host_io_wait())
        ;
    CHECK_MSG(done_count == REQUESTS, "300 writes in flight complete once each: %d", done_count);
    done_count = 0;
    submit(&request[0], HOST_IO_FLUSH, f, 0, NULL, 0);
    for (int i = 1; i < 200; i++)
        submit(&request[i], i % 2 ? HOST_IO_FLUSH : HOST_IO_READ, f, 0, back[0], REQUEST_BYTES);
    while (host_io_wait())
        ;
    CHECK_MSG(done_count == 200, "flushes and reads mixed, more than the queue holds: %d", done_count);
    done_count = 0;
    for (int i = 0; i < REQUESTS; i++)
        submit(&request[i], HOST_IO_READ, f, (u64)i * REQUEST_BYTES, back[i], REQUEST_BYTES);
    while (host_io_wait())
        ;
    CHECK(done_count == REQUESTS && !memcmp(data, back, sizeof data));
    done_count = 0;
    submit(&request[0], HOST_IO_READ, f, (u64)REQUESTS * REQUEST_BYTES - 100, back[0], REQUEST_BYTES);
    submit(&request[1], HOST_IO_READ, f, 1 << 30, back[0], REQUEST_BYTES);
    while (host_io_wait())
        ;
    CHECK_MSG(request[0].ok && request[0].transferred == 100, "a read across the end is short: %u",
              request[0].transferred);
    CHECK_MSG(request[1].ok && request[1].transferred == 0, "a read behind it gives nothing: %u",
              request[1].transferred);
    CHECK_MSG(!completed_inside, "no request completes inside its submit");

    done_count = 0;
    chain_file = f;
    chain_left = 100;
    request[0] =
        (HostIo){.kind = HOST_IO_READ, .file = f, .buf = chain_buf, .bytes = 512, .done = chain_done};
    host_io_submit(&request[0]);
    while (host_io_wait())
        ;
    CHECK_MSG(done_count == 1, "a request may be submitted again from its done()");
    host_file_close(f);

    done_count = 0;
    f = host_file_open("async.bin", HOST_READ, &err);
    submit(&request[0], HOST_IO_WRITE, f, 0, data[0], REQUEST_BYTES);
    while (host_io_wait())
        ;
    CHECK_MSG(!request[0].ok && request[0].err.text[0], "a write to a file open for reading fails: %s",
              request[0].err.text);
    host_file_close(f);
    DeleteFileW(L"async.bin");
    CHECK_MSG(!host_io_wait(), "nothing is in flight at the end");
}

/* ---- waiting ---- */

typedef struct {
    WaitSet *ws;
    WaitItem *item;
    HANDLE event;
    int calls;
    bool remove;
} Waiter;

static int calls;

static void waiter_called(void *opaque)
{
    Waiter *w = opaque;
    w->calls++;
    calls++;
    if (w->remove) {
        waitset_remove(w->ws, w->item);
        w->item = NULL;
    }
}

static void wait_for_calls(WaitSet *ws, int wanted)
{
    u64 end = host_now_ns() + 10ull * 1000000000;
    while (calls < wanted && host_now_ns() < end && waitset_wait(ws, 5000))
        waitset_dispatch(ws);
}

static void test_waitset_of(int n)
{
    WaitSet *ws = waitset_new();
    Waiter *w = calloc((size_t)n, sizeof *w);
    for (int i = 0; i < n; i++) {
        w[i].ws = ws;
        w[i].event = CreateEventW(NULL, FALSE, FALSE, NULL);
        w[i].item = waitset_add(ws, w[i].event, waiter_called, &w[i]);
    }
    CHECK_MSG(!waitset_wait(ws, 0), "%d handles: none is signalled", n);
    calls = 0;
    for (int i = 0; i < n; i++) {
        SetEvent(w[i].event);
        wait_for_calls(ws, i + 1);
    }
    int right = 0;
    for (int i = 0; i < n; i++)
        right += w[i].calls == 1;
    CHECK_MSG(right == n && calls == n, "%d handles: each one's function runs once: %d", n, right);
    calls = 0;
    for (int i = n - 1; i >= 0; i--)
        SetEvent(w[i].event);
    wait_for_calls(ws, n);
    if (waitset_wait(ws, 20)) /* a group may tell twice of what was fetched at once */
        waitset_dispatch(ws);
    CHECK_MSG(calls == n, "%d handles at once: none is lost, none comes twice: %d", n, calls);

    calls = 0;
    for (int i = 0; i < n; i++) {
        w[i].remove = i % 2;
        SetEvent(w[i].event);
    }
    wait_for_calls(ws, n);
    for (int i = 0; i < n; i++)
        SetEvent(w[i].event);
    wait_for_calls(ws, n + (n + 1) / 2);
    waitset_wait(ws, 20);
    waitset_dispatch(ws);
    CHECK_MSG(calls == n + (n + 1) / 2, "%d handles, half of them removed in their functions: %d", n, calls);
    for (int i = 0; i < n; i++) {
        if (w[i].item)
            waitset_remove(ws, w[i].item);
        CloseHandle(w[i].event);
    }
    CHECK_MSG(n > 46 || ws != NULL, "the handles may be closed now");
    waitset_free(ws);
    free(w);
}

static int starved(const Waiter *w, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += w[i].calls == 0;
    return count;
}

/* A handle that stays signalled must not keep the others from their turn. */
static void test_waitset_fair(int n)
{
    WaitSet *ws = waitset_new();
    Waiter *w = calloc((size_t)n, sizeof *w);
    for (int i = 0; i < n; i++) {
        w[i].event = CreateEventW(NULL, TRUE, TRUE, NULL);
        w[i].item = waitset_add(ws, w[i].event, waiter_called, &w[i]);
    }
    u64 end = host_now_ns() + 20ull * 1000000000;
    while (starved(w, n) && host_now_ns() < end && waitset_wait(ws, 5000))
        waitset_dispatch(ws);
    CHECK_MSG(!starved(w, n), "%d handles that stay signalled: all are served: %d are not", n, starved(w, n));
    waitset_free(ws);
    for (int i = 0; i < n; i++)
        CloseHandle(w[i].event);
    free(w);
}

/* ---- the main loop, with a machine that has no chips ---- */

static Machine *machine;
static Timer loop_timer;
static u64 started_ns, late_ns, far_ns;
static int fired, woken_turns;
static HostIo loop_io;
static HostFile *loop_file;

static void far_fired(void *opaque)
{
    (void)opaque;
    far_ns = clock_ns(machine, CLOCK_HOST) - started_ns;
    machine_request(machine, REQ_QUIT);
}

static void io_done(HostIo *r)
{
    done_count += r->ok;
    timer_init(&loop_timer, machine, CLOCK_HOST, far_fired,
               NULL); /* far away: the coarse wait and then the timer */
    started_ns = clock_ns(machine, CLOCK_HOST);
    timer_arm(&loop_timer, started_ns + 150000000);
}

static void near_fired(void *opaque)
{
    (void)opaque;
    u64 now = clock_ns(machine, CLOCK_HOST);
    late_ns += now - (started_ns + (u64)++fired * 5000000);
    if (fired < 20) {
        timer_arm(&loop_timer, started_ns + (u64)(fired + 1) * 5000000);
        return;
    }
    loop_io =
        (HostIo){.kind = HOST_IO_READ, .file = loop_file, .buf = chain_buf, .bytes = 4, .done = io_done};
    host_io_submit(&loop_io);
}

static void stranger(void *opaque)
{
    for (int i = 0; i < 100; i++) {
        machine_lock(opaque);
        woken_turns++;
        machine_unlock(opaque);
        host_wake();
        Sleep(1);
    }
}

static void test_loop(void)
{
    Config cfg;
    config_default(&cfg);
    machine = machine_create(&cfg, 1 << 20, &err);
    loop_file = host_file_open("loop.bin", HOST_READ | HOST_WRITE | HOST_CREATE, &err);
    CHECK(machine && loop_file && host_file_write(loop_file, 0, "loop", 4, &err));
    done_count = 0;
    timer_init(&loop_timer, machine, CLOCK_HOST, near_fired, NULL);
    started_ns = clock_ns(machine, CLOCK_HOST);
    timer_arm(&loop_timer, started_ns + 5000000);
    HostThread *t = host_thread_start("stranger", stranger, machine);
    loop_run(machine);
    host_thread_join(t);
    CHECK_MSG(fired == 20 && late_ns / 20 < 100000000, "20 timers of 5 ms fire, %llu us late on average",
              (unsigned long long)(late_ns / 20000));
    CHECK_MSG(done_count == 1 && !memcmp(chain_buf, "loop", 4), "a file completes in the loop");
    CHECK_MSG(far_ns >= 150000000 && far_ns < 2000000000, "a timer far away is not early: %llu us",
              (unsigned long long)(far_ns / 1000));
    CHECK_MSG(woken_turns == 100, "others get the lock while the loop sleeps");
    host_file_close(loop_file);
    DeleteFileW(L"loop.bin");
    machine_destroy(machine);
}

/* ---- the computer goes to sleep: Windows calls on a thread of its own ---- */

static bool before_sleep, asleep, awake;

static bool runs_now(void)
{
    machine_lock(machine);
    bool running = machine_running(machine);
    machine_unlock(machine);
    return running;
}

static void windows(void *opaque)
{
    (void)opaque;
    before_sleep = runs_now();
    power_event(NULL, PBT_APMSUSPEND, NULL);
    asleep = runs_now();
    power_event(NULL, PBT_APMRESUMEAUTOMATIC, NULL);
    power_event(NULL, PBT_APMRESUMESUSPEND, NULL);
    for (int i = 0; i < 500 && !(awake = runs_now()); i++)
        Sleep(10);
    machine_lock(machine);
    machine_request(machine, REQ_QUIT);
    machine_unlock(machine);
}

static void test_power(void)
{
    Config cfg;
    config_default(&cfg);
    machine = machine_create(&cfg, 1 << 20, &err);
    power_init(machine);
    machine_lock(machine);
    machine_cont(machine);
    machine_unlock(machine);
    HostThread *t = host_thread_start("windows", windows, NULL);
    loop_run(machine);
    host_thread_join(t);
    CHECK_MSG(before_sleep && !asleep && awake, "the machine is paused while the computer sleeps");
    machine_destroy(machine);
}

/* ---- time, threads, memory ---- */

static void test_time(void)
{
    u64 a = host_now_ns();
    Sleep(50);
    u64 ms = (host_now_ns() - a) / 1000000;
    CHECK_MSG(ms >= 45 && ms < 2000, "50 ms on the monotonic clock: %llu", (unsigned long long)ms);
    s64 wall = host_wall_us() / 1000000;
    CHECK_MSG(wall > 1700000000 && wall < 7000000000, "the date is of our days");
    s64 offset = host_utc_offset_s(wall);
    CHECK_MSG(offset % 900 == 0 && offset >= -12 * 3600 && offset <= 14 * 3600, "the zone: %lld s",
              (long long)offset);
    CHECK_MSG(host_utc_offset_s(-99999999999999) == 0, "a date Windows does not know has no zone");
    HANDLE t = time_waitable_timer();
    LARGE_INTEGER due = {.QuadPart = -200000};
    a = host_now_ns();
    CHECK(t && SetWaitableTimer(t, &due, 0, NULL, NULL, FALSE));
    WaitForSingleObject(t, 5000);
    u64 us = (host_now_ns() - a) / 1000;
    CHECK_MSG(us >= 19000 && us < 1000000, "a timer of 20 ms: %llu us", (unsigned long long)us);
    CloseHandle(t);
}

static HostLock *lock;
static HostCond *cond;
static int turn, counter;

static void taker(void *opaque)
{
    int me = opaque != NULL;
    for (int i = 0; i < 1000; i++) {
        host_lock(lock);
        while (turn != me)
            host_cond_wait(cond, lock);
        counter++;
        turn = !turn;
        host_cond_signal(cond);
        host_unlock(lock);
    }
}

static void test_threads(void)
{
    lock = host_lock_new();
    cond = host_cond_new();
    HostThread *a = host_thread_start("a", taker, NULL), *b = host_thread_start("b", taker, &turn);
    host_thread_join(a);
    host_thread_join(b);
    CHECK_MSG(counter == 2000, "two threads take turns: %d", counter);
    host_cond_free(cond);
    host_lock_free(lock);
}

static void test_memory(void)
{
    u64 bytes = 64 << 20;
    u8 *p = host_pages_alloc(bytes);
    CHECK(p && !p[0] && !p[bytes - 1] && !((u64)p & 4095));
    memset(p, 1, bytes);
    host_pages_zero(p + 4096, 4096);
    CHECK_MSG(p[4095] == 1 && !p[4096] && !p[8191] && p[8192] == 1, "one page reads as zero again");
    host_pages_zero(p + (1 << 20), 16 << 20);
    CHECK_MSG(p[(1 << 20) - 1] == 1 && !p[1 << 20] && !p[(17 << 20) - 1] && p[17 << 20] == 1, "and 16 MiB");
    p[1 << 20] = 5;
    CHECK(p[1 << 20] == 5);
    host_pages_free(p, bytes);

    static const u8 code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov eax,42; ret */
    u8 *c = host_code_alloc(1 << 20);
    CHECK(c != NULL);
    memcpy(c, code, sizeof code);
    CHECK_MSG(((int (*)(void))(void *)c)() == 42, "code that was written runs");
    host_code_free(c, 1 << 20);
}

/* ---- faults: each snippet faults, its handler sends it on to a `ret` behind ---- */

static u8 *fault_code;
static int fault_vector;
static void *fault_pc;

static void *on_fault(void *opaque, void *pc, int vector)
{
    if ((u8 *)pc < fault_code || (u8 *)pc >= fault_code + 4096)
        return NULL;
    *(int *)opaque += 1;
    fault_vector = vector;
    fault_pc = pc;
    return fault_code + 64;
}

static int vector_of(const u8 *bytes, size_t n)
{
    static int hits;
    memset(fault_code, 0x90, 64);
    memcpy(fault_code, bytes, n);
    memcpy(fault_code + 64, (const u8[]){0xdb, 0xe3, 0xc3}, 3); /* fninit; ret */
    host_fault_handler(on_fault, &hits);
    fault_vector = -1;
    unsigned mxcsr = __builtin_ia32_stmxcsr();
    ((void (*)(void))(void *)fault_code)();
    __builtin_ia32_ldmxcsr(mxcsr);
    return fault_vector;
}

static void test_faults(void)
{
    fault_code = host_code_alloc(4096);
    static const u8 divide[] = {0x31, 0xc9, 0xf7, 0xf1};                           /* xor ecx,ecx; div ecx */
    static const u8 overflow[] = {0xba, 1, 0, 0, 0, 0xb9, 1, 0, 0, 0, 0xf7, 0xf1}; /* edx=1, ecx=1; div ecx */
    static const u8 undefined[] = {0x0f, 0x0b};                                    /* ud2 */
    static const u8 page[] = {0x31, 0xc0, 0x8b, 0x00}; /* xor eax,eax; mov eax,[rax] */
    static const u8 general[] = {0x48, 0xb8, 0, 0,    0,    0,
                                 0,    0,    0, 0x70, 0x8b, 0x00}; /* a non-canonical address */
    static const u8 privileged[] = {0xf4};                         /* hlt */
    static const u8 x87[] = {
        /* push 37ah; fldcw [rsp]; pop rax; fldz; fld1; fdiv st,st1; fwait */
        0x68, 0x7a, 0x03, 0, 0, 0xd9, 0x2c, 0x24, 0x58, 0xd9, 0xee, 0xd9, 0xe8, 0xd8, 0xf1, 0x9b,
    };
    static const u8 sse[] = {
        /* push 1f00h; ldmxcsr [rsp]; pop rax; xorps xmm0,xmm0; divps xmm0,xmm0 */
        0x68, 0, 0x1f, 0, 0, 0x0f, 0xae, 0x14, 0x24, 0x58, 0x0f, 0x57, 0xc0, 0x0f, 0x5e, 0xc0,
    };
    CHECK_MSG(vector_of(divide, sizeof divide) == 0 && fault_pc == fault_code + 2, "division by zero is #DE");
    CHECK_MSG(vector_of(overflow, sizeof overflow) == 0, "a quotient too large is #DE: %d", fault_vector);
    CHECK_MSG(vector_of(undefined, sizeof undefined) == 6, "ud2 is #UD: %d", fault_vector);
    CHECK_MSG(vector_of(page, sizeof page) == 14, "a read at 0 is #PF: %d", fault_vector);
    CHECK_MSG(vector_of(general, sizeof general) == 13, "a non-canonical address is #GP: %d", fault_vector);
    CHECK_MSG(vector_of(privileged, sizeof privileged) == 13, "hlt is #GP: %d", fault_vector);
    CHECK_MSG(vector_of(x87, sizeof x87) == 16 && fault_pc == fault_code + 15, "an x87 exception is #MF: %d",
              fault_vector);
    CHECK_MSG(vector_of(sse, sizeof sse) == 19, "an SSE exception is #XM: %d", fault_vector);
    host_code_free(fault_code, 4096);
}

/* ---- firmware, text ---- */

static void test_resources(void)
{
    static const char *const names[] = {"bios-256k.bin", "bios.bin", "vgabios-stdvga.bin"};
    const void *data, *again;
    size_t size;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CHECK_MSG(host_resource(names[i], &data, &size) && size >= 0x8000, "%s is part of the program",
                  names[i]);
        CHECK(host_resource(names[i], &again, &size) && again == data);
    }
    CHECK(!host_resource("no-such.bin", &data, &size));
    char *argv[] = {"qemu", "-L", "no-such-dir", "-L", "."};
    Config cfg;
    CHECK(options_parse(ARRAY_LEN(argv), argv, &cfg, &err) == OPTIONS_RUN);
    resource_dirs(&cfg);
    HostFile *f = host_file_open("own-rom.bin", HOST_WRITE | HOST_CREATE, &err);
    CHECK(f && host_file_write(f, 0, "rom", 3, &err));
    host_file_close(f);
    CHECK_MSG(host_resource("own-rom.bin", &data, &size) && size == 3 && !memcmp(data, "rom", 3),
              "-L comes first");
    CHECK_MSG(host_resource("bios.bin", &data, &size), "a directory without firmware is passed over");
    DeleteFileW(L"own-rom.bin");
    config_free(&cfg);
}

static void test_text(void)
{
    wchar_t *w = wide_from_utf8("a\xc3\xa4\xf0\x9f\x98\x80");
    CHECK(w[0] == 'a' && w[1] == 0xe4 && w[2] == 0xd83d && w[3] == 0xde00 && !w[4]);
    char *u = utf8_from_wide(w);
    CHECK(!strcmp(u, "a\xc3\xa4\xf0\x9f\x98\x80"));
    free(u);
    free(w);
    w = wide_from_utf8("x\xff\xfey");
    CHECK_MSG(w[0] == 'x' && w[1] == 0xfffd && wcschr(w, 'y'), "what is no UTF-8 is replaced");
    free(w);
}

int main(void)
{
    static const int sizes[] = {1, 45, 46, 47, 63, 64, 65, 200, 500};
    loop_init();
    test_text();
    test_files();
    test_file_errors();
    test_long_path();
    test_temp();
    test_async();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        test_waitset_of(sizes[i]);
    test_waitset_fair(10);
    test_waitset_fair(150);
    test_loop();
    test_power();
    test_time();
    test_threads();
    test_memory();
    test_faults();
    test_resources();
    return test_end();
}
