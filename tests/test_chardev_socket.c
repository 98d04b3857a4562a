/* Character devices on TCP, telnet and UDP: peers that come, go, stall and talk nonsense. */
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../core/vm/chardev.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "host_posix.h"

typedef struct {
    u8 got[8192];
    size_t len, room;
    int writables, opened, closed, breaks;
} End;

static Machine *m;

static size_t end_room(void *opaque) { return ((End *)opaque)->room; }

static void end_receive(void *opaque, const u8 *buf, size_t n)
{
    End *e = opaque;
    CHECK(n <= e->room && e->len + n <= sizeof e->got);
    memcpy(e->got + e->len, buf, n);
    e->len += n;
    e->room -= n;
}

static void end_writable(void *opaque) { ((End *)opaque)->writables++; }

static void end_event(void *opaque, ChrEvent event)
{
    End *e = opaque;
    e->opened += event == CHR_OPENED;
    e->closed += event == CHR_CLOSED;
    e->breaks += event == CHR_BREAK;
}

static const ChrFrontend end_fe = { end_room, end_receive, end_writable, end_event };

static void turns(int n)
{
    while (n--)
        host_posix_turn(m, 5);
}

/* Turns of the loop until the condition holds, 2 s at most. */
#define UNTIL(cond) do { for (int u_ = 0; u_ < 400 && !(cond); u_++) turns(1); CHECK(cond); } while (0)

static int bound(int type, u16 *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || getsockname(fd, (struct sockaddr *)&a, &len))
        abort();
    *port = ntohs(a.sin_port);
    return fd;
}

static int dial(u16 port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        abort();
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A port that nobody has at this moment. */
static u16 free_port(void)
{
    u16 port;
    close(bound(SOCK_STREAM, &port));
    return port;
}

static Chardev *open_at(const char *form, u16 port, End *e)
{
    char spec[96];
    Error err = { "" };
    snprintf(spec, sizeof spec, form, port);
    Chardev *chr = chardev_open(m, "serial0", spec, &err);
    CHECK_MSG(chr, "%s: %s", spec, err.text);
    chardev_attach(chr, &end_fe, e);
    return chr;
}

static size_t read_all(int fd, u8 *buf, size_t size, size_t want)
{
    size_t n = 0;
    for (int i = 0; i < 400 && n < want; i++) {
        ssize_t r = recv(fd, buf + n, size - n, MSG_DONTWAIT);
        if (r > 0)
            n += (size_t)r;
        else
            turns(1);
    }
    return n;
}

static void test_server(void)
{
    End e = { .room = 4 };
    u8 buf[64];
    u16 port = free_port();
    Chardev *chr = open_at("tcp::%u,server,nowait", port, &e);
    CHECK_MSG(chardev_write(chr, "lost", 4) == 4, "without a peer what is written is lost");
    int a = dial(port), b = dial(port);
    UNTIL(e.opened == 1);
    CHECK(strstr(chr->state, "connected to 127.0.0.1:"));
    CHECK(chardev_write(chr, "hello", 5) == 5);
    CHECK(read_all(a, buf, sizeof buf, 5) == 5 && !memcmp(buf, "hello", 5));
    send(a, "123456", 6, 0);
    UNTIL(e.len == 4);
    turns(3);
    CHECK_MSG(e.len == 4, "no more comes than there is room for");
    e.room = 10;
    chardev_accept(chr);
    UNTIL(e.len == 6);
    send(b, "B", 1, 0);
    turns(3);
    CHECK_MSG(e.len == 6 && e.opened == 1, "a second peer waits for its turn");
    close(a);
    UNTIL(e.closed == 1 && e.opened == 2 && e.len == 7);
    CHECK(e.got[6] == 'B');
    chardev_hangup(chr);
    UNTIL(e.closed == 2);
    CHECK_MSG(read_all(b, buf, sizeof buf, 1) == 0, "a peer can be sent away");
    close(b);
    chardev_close(chr);
}

/* R16: a peer that reads nothing. */
static void test_stall(void)
{
    End e = { .room = 1 };
    static u8 block[16384];
    u16 port = free_port();
    Chardev *chr = open_at("tcp:127.0.0.1:%u,server,nowait", port, &e);
    int fd = dial(port);
    UNTIL(e.opened == 1);
    size_t taken = 0, n = 1;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (u8)(i * 7 + (i >> 8));
    for (int still = 0; still < 20; still = n ? 0 : still + 1) {
        n = chardev_write(chr, block + taken % sizeof block, sizeof block - taken % sizeof block);
        taken += n;
        turns(1);
    }
    CHECK_MSG(taken > 65536 && taken < 16 << 20, "a stalled reader stops the flood: %zu bytes", taken);
    int before = e.writables;
    size_t got = 0, wrong = 0;
    for (int i = 0; i < 20000 && got < taken; i++) {
        u8 buf[65536];
        ssize_t r = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
        for (ssize_t k = 0; k < r; k++, got++)
            wrong += buf[k] != block[got % sizeof block];
        turns(r <= 0);
    }
    CHECK_MSG(got == taken && !wrong, "all that was taken arrives, in order");
    CHECK_MSG(e.writables > before, "the frontend is told that it may go on");
    struct linger reset = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    for (int i = 0; i < 100 && !e.closed; i++) {
        chardev_write(chr, "x", 1);
        turns(1);
    }
    CHECK_MSG(e.closed == 1, "a peer that vanishes while it is written to is dropped");
    chardev_close(chr);
}

static void test_client(void)
{
    End e = { .room = 100 };
    u8 buf[8];
    u16 port;
    int listener = bound(SOCK_STREAM, &port);
    Chardev *chr = open_at("tcp:127.0.0.1:%u,reconnect=1", port, &e);
    turns(3);
    CHECK_MSG(!e.opened, "a client goes on while nobody is there");
    listen(listener, 4);
    UNTIL(e.opened == 1);
    int a = accept(listener, NULL, NULL);
    chardev_write(chr, "one", 3);
    CHECK(read_all(a, buf, sizeof buf, 3) == 3);
    close(a);
    UNTIL(e.closed == 1);
    UNTIL(e.opened == 2);
    chardev_close(chr);
    close(listener);
    End once = { .room = 1 };
    chr = open_at("tcp:127.0.0.1:%u", port, &once);
    turns(5);
    CHECK(!strcmp(chr->state, "not connected"));
    chardev_close(chr);
}

static void test_telnet(void)
{
    static const u8 in[] = { 255, 253, 3, 255, 253, 31, 'a', 255, 250, 31, 0, 80, 255, 240, '\r', 0, 255, 255,
                             '\r', '\n', 'b', 255, 243 };
    static const u8 want[] = { 'a', '\r', 255, '\r', 'b' };
    static const u8 offer[] = { 255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0 };
    End e = { .room = 1000 };
    u8 buf[64];
    u16 port = free_port();
    Chardev *chr = open_at("telnet:127.0.0.1:%u,server,nowait", port, &e);
    int fd = dial(port);
    UNTIL(e.opened == 1);
    CHECK(read_all(fd, buf, sizeof buf, sizeof offer) == sizeof offer && !memcmp(buf, offer, sizeof offer));
    for (size_t i = 0; i < sizeof in; i++) {
        send(fd, in + i, 1, 0);
        turns(2);
    }
    UNTIL(e.breaks == 1);
    CHECK_MSG(e.len == sizeof want && !memcmp(e.got, want, sizeof want), "the protocol is taken out, byte by byte");
    CHECK_MSG(read_all(fd, buf, sizeof buf, 3) == 3 && buf[1] == 252 && buf[2] == 31, "other options are refused");
    chardev_write(chr, "\xffz", 2);
    CHECK(read_all(fd, buf, sizeof buf, 3) == 3 && buf[0] == 255 && buf[1] == 255 && buf[2] == 'z');
    close(fd);
    chardev_close(chr);
}

static void test_udp(void)
{
    End e = { .room = 3 };
    u8 buf[4096];
    u16 port, local = free_port();
    int fd = bound(SOCK_DGRAM, &port);
    char form[64];
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(local) };
    snprintf(form, sizeof form, "udp:127.0.0.1:%%u@127.0.0.1:%u", local);
    Chardev *chr = open_at(form, port, &e);
    chardev_write(chr, "one", 3);
    CHECK(read_all(fd, buf, sizeof buf, 1) == 3 && !memcmp(buf, "one", 3));
    sendto(fd, "12345", 5, 0, (struct sockaddr *)&a, sizeof a);
    sendto(fd, "67", 2, 0, (struct sockaddr *)&a, sizeof a);
    UNTIL(e.len == 3);
    e.room = 100;
    chardev_accept(chr);
    UNTIL(e.len == 7);
    CHECK_MSG(!memcmp(e.got, "1234567", 7), "a datagram may be taken in parts");
    close(fd);
    for (int i = 0; i < 5; i++) {
        chardev_write(chr, "nobody", 6);
        turns(1);
    }
    chardev_close(chr);
}

static void test_wrong(void)
{
    static const struct { const char *spec, *says; } wrong[] = {
        { "tcp:127.0.0.1", "HOST:PORT" }, { "tcp:127.0.0.1:99999,server", "" }, { "tcp::1,sever", "'sever'" },
        { "tcp::1,reconnect=x", "seconds" }, { "tcp::1,server,reconnect=1", "client" }, { "udp:", "HOST:PORT" },
        { "telnet::", "HOST:PORT" }, { "udp::1@", "" }, { "chardev:nix", "id=nix" }, { "pipe:", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        Error err = { "" };
        Chardev *chr = chardev_open(m, "serial0", wrong[i].spec, &err);
        CHECK_MSG(!chr && err.text[0] && strstr(err.text, wrong[i].says), "%s: %s", wrong[i].spec, err.text);
    }
}

int main(void)
{
    Config cfg;
    Error err;
    host_posix_init();
    log_to_file("/dev/null");
    config_default(&cfg);
    m = machine_create(&cfg, 1 << 20, &err);
    machine_lock(m);
    test_server();
    test_stall();
    test_client();
    test_telnet();
    test_udp();
    test_wrong();
    machine_unlock(m);
    return test_end();
}
