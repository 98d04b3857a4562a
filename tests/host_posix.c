/*
 * host.h for the build machine: what unit tests and the native harness run on. Not shipped. Files complete
 * from a queue that the loop and host_io_wait() serve, so that a completion never comes inside its submit, as
 * on Windows.
 */
#define _GNU_SOURCE
#include "host_posix.h"
#include "host_posix_net.h"

#include "../core/vm/chardev.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- time ---- */

static u64 fixed_ns;            /* 0: the clock runs */

void host_posix_set_time(u64 ns) { fixed_ns = ns; }

u64 host_now_ns(void)
{
    struct timespec t;

    if (fixed_ns)
        return fixed_ns;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * NS_PER_SEC + (u64)t.tv_nsec;
}

s64 host_wall_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (s64)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

s64 host_utc_offset_s(s64 unix_s)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    localtime_r(&t, &tm);
    return tm.tm_gmtoff;
}

/* ---- memory ---- */

static void *map_pages(u64 bytes, int prot)
{
    void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

void *host_pages_alloc(u64 bytes) { return map_pages(bytes, PROT_READ | PROT_WRITE); }
void host_pages_free(void *p, u64 bytes) { munmap(p, bytes); }
void *host_code_alloc(u64 bytes) { return map_pages(bytes, PROT_READ | PROT_WRITE | PROT_EXEC); }
void host_code_free(void *p, u64 bytes) { munmap(p, bytes); }

void host_pages_zero(void *p, u64 bytes)
{
    if (madvise(p, bytes, MADV_DONTNEED))
        memset(p, 0, bytes);
}

/* ---- threads ---- */

struct HostThread { pthread_t id; void (*run)(void *); void *opaque; };
struct HostLock { pthread_mutex_t m; };
struct HostCond { pthread_cond_t c; };

static void *thread_main(void *p)
{
    HostThread *t = p;
    stack_t alt = { .ss_sp = malloc(65536), .ss_size = 65536 }, before;

    /* translated code owns no stack that a signal frame may be pushed on blindly */
    sigaltstack(&alt, &before);
    t->run(t->opaque);
    sigaltstack(&before, NULL);
    free(alt.ss_sp);
    return NULL;
}

HostThread *host_thread_start(const char *name, void (*run)(void *), void *opaque)
{
    HostThread *t = calloc(1, sizeof(*t));

    t->run = run;
    t->opaque = opaque;
    if (pthread_create(&t->id, NULL, thread_main, t)) {
        fprintf(stderr, "can't start thread %s\n", name);
        abort();
    }
    return t;
}

void host_thread_join(HostThread *t)
{
    pthread_join(t->id, NULL);
    free(t);
}

HostLock *host_lock_new(void)
{
    HostLock *l = calloc(1, sizeof(*l));

    pthread_mutex_init(&l->m, NULL);
    return l;
}

HostCond *host_cond_new(void)
{
    HostCond *c = calloc(1, sizeof(*c));

    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->c, &attr);
    return c;
}

void host_lock_free(HostLock *l) { free(l); }
void host_cond_free(HostCond *c) { free(c); }
void host_lock(HostLock *l) { pthread_mutex_lock(&l->m); }
void host_unlock(HostLock *l) { pthread_mutex_unlock(&l->m); }
void host_cond_wait(HostCond *c, HostLock *l) { pthread_cond_wait(&c->c, &l->m); }
void host_cond_wait_until(HostCond *c, HostLock *l, u64 when_ns)
{
    struct timespec ts = { (time_t)(when_ns / NS_PER_SEC), (long)(when_ns % NS_PER_SEC) };

    pthread_cond_timedwait(&c->c, &l->m, &ts);
}
void host_cond_signal(HostCond *c) { pthread_cond_broadcast(&c->c); }

/* ---- processor faults ---- */

static HostFaultFn *fault_fn;
static void *fault_opaque;

static int vector_of(int sig, const siginfo_t *info)
{
    if (sig == SIGFPE)
        return info->si_code == FPE_INTDIV || info->si_code == FPE_INTOVF ? 0 : 16;
    return sig == SIGILL ? 6 : sig == SIGBUS ? 17 : 14;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    int vector = vector_of(sig, info);
    void *to;

    /* Trap number 19 is #XM, 16 #MF, 13 #GP: more exact than the signal. */
    if (uc->uc_mcontext.gregs[REG_TRAPNO] < 20)
        vector = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
    to = fault_fn ? fault_fn(fault_opaque, (void *)uc->uc_mcontext.gregs[REG_RIP], vector) : NULL;
    if (!to) {
        signal(sig, SIG_DFL);
        return;
    }
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)to;
}

void host_fault_handler(HostFaultFn *fn, void *opaque)
{
    struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS };

    fault_fn = fn;
    fault_opaque = opaque;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &sa, NULL);
}

/* ---- files ---- */

struct HostFile { int fd; };

static pthread_mutex_t io_lock = PTHREAD_MUTEX_INITIALIZER;
static HostIo *io_head, **io_tail = &io_head;
static int wake_pipe[2] = { -1, -1 };

/* One writer a file, as Windows' share modes have it. Pipes and devices are nobody's own. */
static bool lock_writer(int fd)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct stat st;

    return fstat(fd, &st) || !S_ISREG(st.st_mode) || !fcntl(fd, F_OFD_SETLK, &all) ||
           (errno != EAGAIN && errno != EACCES);
}

HostFile *host_file_open(const char *path, unsigned flags, Error *err)
{
    HostFile *f;
    struct stat st;
    int fd;

    if (flags & HOST_TEMP) {
        fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
        path = "temporary file";
    } else {
        fd = open(path,
            (flags & HOST_WRITE ? O_RDWR : O_RDONLY) | (flags & HOST_CREATE ? O_CREAT : 0) | O_CLOEXEC, 0666);
    }
    if (fd < 0) {
        error_set(err, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(fd, &st) || S_ISDIR(st.st_mode)) {
        error_set(err, "%s: is a directory", path);
        close(fd);
        return NULL;
    }
    if ((flags & HOST_WRITE) && !(flags & HOST_TEMP) && !lock_writer(fd)) {
        error_set(err, "%s: in use by another program", path);
        close(fd);
        return NULL;
    }
    if ((flags & HOST_CREATE) && ftruncate(fd, 0)) {
        error_set(err, "%s: %s", path, strerror(errno));
        close(fd);
        return NULL;
    }
    f = calloc(1, sizeof(*f));
    f->fd = fd;
    return f;
}

void host_file_close(HostFile *f)
{
    close(f->fd);
    free(f);
}

u64 host_file_size(HostFile *f)
{
    struct stat st;

    return fstat(f->fd, &st) ? 0 : (u64)st.st_size;
}

bool host_file_resize(HostFile *f, u64 bytes, Error *err)
{
    return ftruncate(f->fd, (off_t)bytes) ? error_set(err, "resize: %s", strerror(errno)) : true;
}

bool host_file_read(HostFile *f, u64 offset, void *buf, size_t bytes, Error *err)
{
    ssize_t n = pread(f->fd, buf, bytes, (off_t)offset);

    if (n < 0)
        return error_set(err, "read: %s", strerror(errno));
    return (size_t)n == bytes ? true : error_set(err, "read past the end of the file");
}

bool host_file_write(HostFile *f, u64 offset, const void *buf, size_t bytes, Error *err)
{
    ssize_t n = pwrite(f->fd, buf, bytes, (off_t)offset);

    return n >= 0 && (size_t)n == bytes ? true : error_set(err, "write: %s", strerror(errno));
}

static void io_do(HostIo *io)
{
    ssize_t n = 0;

    switch (io->kind) {
    case HOST_IO_READ:
        n = pread(io->file->fd, io->buf, io->bytes, (off_t)io->offset);
        break;
    case HOST_IO_WRITE:
        n = pwrite(io->file->fd, io->buf, io->bytes, (off_t)io->offset);
        break;
    case HOST_IO_FLUSH:
        n = fdatasync(io->file->fd);
        break;
    }
    io->ok = n >= 0;
    io->no_space = n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);
    io->transferred = n > 0 ? (u32)n : 0;
    if (!io->ok)
        error_set(&io->err, "%s", strerror(errno));
}

void host_io_submit(HostIo *io)
{
    io->next = NULL;
    pthread_mutex_lock(&io_lock);
    *io_tail = io;
    io_tail = &io->next;
    pthread_mutex_unlock(&io_lock);
    host_wake();
}

bool host_io_wait(void)
{
    bool any = false;

    for (;;) {
        HostIo *io;

        pthread_mutex_lock(&io_lock);
        io = io_head;
        if (io) {
            io_head = io->next;
            if (!io_head)
                io_tail = &io_head;
        }
        pthread_mutex_unlock(&io_lock);
        if (!io)
            return any;
        io_do(io);
        any = true;
        io->done(io);
    }
}

bool host_file_exists(const char *path) { return access(path, F_OK) == 0; }

void host_list_folder(const char *folder, void (*each)(void *opaque, const char *name, bool is_folder), void *opaque)
{
    DIR *d = opendir(*folder ? folder : ".");
    const struct dirent *e;

    while (d && (e = readdir(d))) {
        if (e->d_name[0] != '.')
            each(opaque, e->d_name, e->d_type == DT_DIR);
    }
    if (d)
        closedir(d);
}

bool host_file_delete(const char *path, Error *err)
{
    return unlink(path) ? error_set(err, "%s: %s", path, strerror(errno)) : true;
}

u64 host_file_allocated(HostFile *f)
{
    struct stat st;

    return fstat(f->fd, &st) ? 0 : (u64)st.st_blocks * 512;
}

void host_file_next_data(HostFile *f, u64 offset, u64 *from, u64 *to)
{
    u64 size = host_file_size(f);
    off_t data = offset < size ? lseek(f->fd, (off_t)offset, SEEK_DATA) : -1, hole;

    if (offset < size && data < 0 && errno != ENXIO)
        data = (off_t)offset;           /* a file system that does not tell */
    *from = *to = size;
    if (data < 0 || (u64)data >= size)
        return;
    hole = lseek(f->fd, data, SEEK_HOLE);
    *from = (u64)data;
    *to = hole > data && (u64)hole < size ? (u64)hole : size;
}

bool host_file_zero(HostFile *f, u64 offset, u64 bytes, Error *err)
{
    static const u8 zeros[65536];

    if (!fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes))
        return true;
    for (u64 n; bytes; offset += n, bytes -= n) {
        n = bytes < sizeof(zeros) ? bytes : sizeof(zeros);
        if (!host_file_write(f, offset, zeros, n, err))
            return false;
    }
    return true;
}

/* Firmware: from build/pc-bios of the project, QEMU_WIN_BIOS, or Debian's package. */
bool host_resource(const char *name, const void **data, size_t *size)
{
    /* As parts of the program they are never freed. */
    static struct { char name[64]; void *data; size_t size; } read[16];
    const char *dirs[] = { getenv("QEMU_WIN_BIOS"), "build/pc-bios", "/usr/share/seabios" };
    char path[512];
    size_t n = 0;

    for (; n < ARRAY_LEN(read) && read[n].data; n++) {
        if (!strcmp(read[n].name, name)) {
            *data = read[n].data;
            *size = read[n].size;
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        Error err;

        if (!dirs[i])
            continue;
        snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
        void *file = host_file_slurp(path, 16 << 20, size, &err);
        if (!file)
            continue;
        if (n < ARRAY_LEN(read)) {
            snprintf(read[n].name, sizeof(read[n].name), "%s", name);
            read[n].data = file;
            read[n].size = *size;
        }
        *data = file;
        return true;
    }
    return false;
}

/* ---- Ctrl-C ---- */

static void (*interrupt_fn)(void);

static void on_interrupt(int sig)
{
    signal(sig, SIG_DFL);
    interrupt_fn();
}

void host_on_interrupt(void (*fn)(void))
{
    interrupt_fn = fn;
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
}

int host_cpus(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n > 0 ? (int)n : 1;
}

/* ---- main loop ---- */

void host_wake(void)
{
    if (wake_pipe[1] >= 0 && write(wake_pipe[1], "", 1) < 0)
        return;     /* full: it is awake */
}

void host_deadline(u64 when_ns)
{
    (void)when_ns;              /* poll()'s timeout can't be changed from outside */
    host_wake();
}

typedef struct { Chardev chr; bool eof; } Stdio;
static Stdio *stdio_chr;

static size_t stdio_write(Chardev *chr, const u8 *buf, size_t n)
{
    (void)chr;
    fwrite(buf, 1, n, stdout);
    fflush(stdout);
    return n;
}

static void stdio_accept(Chardev *chr)
{
    (void)chr;
    host_wake();
}

static void stdio_close(Chardev *chr)
{
    stdio_chr = NULL;
    free(chr);
}

static const ChrBackend stdio_backend = { .name = "stdio", .write = stdio_write, .accept = stdio_accept,
                                          .close = stdio_close };

Chardev *host_chardev_open(Machine *m, const char *label, const char *spec, Error *err)
{
    if (strcmp(spec, "stdio") || stdio_chr) {
        error_set(err, "%s: unknown or already used character device", spec);
        return NULL;
    }
    stdio_chr = calloc(1, sizeof(*stdio_chr));
    chardev_init(&stdio_chr->chr, &stdio_backend, m, label);
    return &stdio_chr->chr;
}

static void stdio_input(void)
{
    u8 buf[256];
    size_t room = chardev_room(&stdio_chr->chr);
    ssize_t n = read(0, buf, room < sizeof(buf) ? room : sizeof(buf));

    if (n <= 0)
        stdio_chr->eof = true;
    else
        chardev_deliver(&stdio_chr->chr, buf, (size_t)n);
}

void host_posix_init(void)
{
    if (pipe2(wake_pipe, O_NONBLOCK | O_CLOEXEC))
        abort();
    signal(SIGXFSZ, SIG_IGN);           /* too large a file is an error of the write */
}

/* One turn of the main loop, machine lock held; it waits for max_ns at most. False: the machine ends. */
static bool turn(Machine *m, u64 max_ns)
{
    static struct pollfd fds[2 + POSIX_NET_MAX];
    u64 deadline;
    char drain[64];

    host_io_wait();
    bool go_on = machine_service(m, &deadline);
    bool input = stdio_chr && !stdio_chr->eof && chardev_room(&stdio_chr->chr);
    fds[0] = (struct pollfd){ .fd = wake_pipe[0], .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = input ? 0 : -1, .events = POLLIN };
    int sockets = posix_net_prepare(fds + 2);

    if (!go_on)
        return false;
    machine_unlock(m);
    u64 now = host_now_ns();
    u64 left = deadline == TIMER_NEVER ? 1000 * NS_PER_SEC : deadline > now ? deadline - now : 0;
    if (left > max_ns)
        left = max_ns;
    if (posix_net_eager())
        left = 0;
    struct timespec ts = { (time_t)(left / NS_PER_SEC), (long)(left % NS_PER_SEC) };

    ppoll(fds, 2 + (nfds_t)sockets, &ts, NULL);
    while (read(wake_pipe[0], drain, sizeof(drain)) > 0)
        ;
    machine_lock(m);
    posix_net_dispatch(fds + 2, sockets);
    if (input && (fds[1].revents & (POLLIN | POLLHUP)) && stdio_chr)
        stdio_input();
    return true;
}

bool host_posix_turn(Machine *m, unsigned max_ms) { return turn(m, max_ms * 1000000ull); }

void host_posix_loop(Machine *m)
{
    machine_lock(m);
    while (turn(m, TIMER_NEVER))
        ;
    machine_unlock(m);
}
