/* QMP on a device in memory: messages in pieces, junk, noise, a reader that stalls. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/json.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/qmp.h"
#include "host_posix.h"

static struct { Chardev chr; char out[4 << 20]; size_t len, room; int hangups; } peer;

static size_t peer_write(Chardev *chr, const u8 *buf, size_t n)
{
    (void)chr;
    n = n < peer.room ? n : peer.room;
    if (peer.len + n >= sizeof peer.out)
        peer.len = 0;
    memcpy(peer.out + peer.len, buf, n);
    peer.len += n;
    peer.out[peer.len] = 0;
    peer.room -= n;
    return n;
}

static void peer_close(Chardev *chr) { (void)chr; }
static void peer_hangup(Chardev *chr) { peer.hangups += chr == &peer.chr; }
static const ChrBackend backend = { .name = "peer", .write = peer_write, .close = peer_close, .hangup = peer_hangup };

static void clear(void)
{
    peer.len = 0;
    peer.out[0] = 0;
    peer.room = ~(size_t)0;
}

static const char *send(const void *data, size_t n)
{
    clear();
    for (size_t at = 0, part; at < n; at += part) {
        part = chardev_room(&peer.chr);
        part = part < n - at ? part : n - at;
        if (!part)
            break;
        chardev_deliver(&peer.chr, (const u8 *)data + at, part);
    }
    return peer.out;
}

static const char *say(const char *text) { return send(text, strlen(text)); }

static void meet(void)
{
    clear();
    chardev_tell(&peer.chr, CHR_CLOSED);
    chardev_tell(&peer.chr, CHR_OPENED);
    CHECK(strstr(peer.out, "\"QMP\""));
}

static void test_protocol(Machine *m)
{
    meet();
    CHECK(strstr(say("{\"execute\":\"query-status\"}"), "CommandNotFound"));
    CHECK(!strcmp(say("{\"execute\":\"qmp_capabilities\",\"id\":1}\r\n"), "{\"return\": {}, \"id\": 1}\r\n"));
    say("{\"execute\":\"query-st");
    CHECK_MSG(!peer.len, "half a command is waited for");
    CHECK(strstr(say("atus\"}"), "\"running\": false"));
    CHECK(strstr(say("{\"execute\":\"cont\"} {\"execute\":\"stop\"}"), "RESUME") && strstr(peer.out, "STOP"));
    CHECK_MSG(strstr(say("{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info version\"}}"),
                     "qemu-win)\\n\""), "%s", peer.out);
    machine_tell(m, MACHINE_POWERDOWN, NULL, NULL);
    CHECK(strstr(peer.out, "\"event\": \"POWERDOWN\""));
    meet();
    clear();
    machine_tell(m, MACHINE_POWERDOWN, NULL, NULL);
    CHECK_MSG(!peer.len, "events come after the negotiation only");
}

static void test_junk(void)
{
    static char big[1 << 20];
    meet();
    CHECK(strstr(say("nonsense\n"), "error") && strstr(say("{\"a\":}\n"), "error"));
    CHECK_MSG(strstr(send("\0\0\0\n", 4), "error"), "a NUL is an error");
    CHECK(strstr(say("\n \r\n{\"execute\":\"qmp_capabilities\"}"), "return"));
    memset(big, '[', sizeof big);
    int before = peer.hangups;
    CHECK_MSG(strstr(send(big, sizeof big), "64 KiB") && peer.hangups > before, "1 MB without an end is sent away");
}

/* Who asks and does not read: bounded, not listened to, and served again when it reads. */
static void test_stall(void)
{
    static const char ask[] = "{\"execute\":\"query-commands\"}";
    meet();
    say("{\"execute\":\"qmp_capabilities\"}");
    peer.room = 0;
    int asked = 0;
    while (chardev_room(&peer.chr) && asked < 100000) {
        chardev_deliver(&peer.chr, (const u8 *)ask, sizeof ask - 1);
        asked++;
    }
    CHECK_MSG(asked > 10 && asked < 2000, "after %d questions nobody listens", asked);
    clear();
    chardev_writable(&peer.chr);
    CHECK(peer.len > 100000 && chardev_room(&peer.chr));
    CHECK(strstr(say("{\"execute\":\"query-name\"}"), "return"));
}

static void test_noise(void)
{
    static const char *const good[] = {
        "{\"execute\":\"query-block\"}", "{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\","
        "\"data\":\"a\"}],\"hold-time\":5}}", "{\"execute\":\"eject\",\"arguments\":{\"device\":\"x\",\"force\":true}}",
        "{\"execute\":\"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"rel\",\"data\":{\"axis\":\"x\","
        "\"value\":3}},{\"type\":\"btn\",\"data\":{\"button\":\"left\",\"down\":true}}]}}",
        "{\"execute\":\"query-chardev\",\"id\":[1,{}]}", "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"x\"}}",
    };
    u32 seed = 1;
    meet();
    say("{\"execute\":\"qmp_capabilities\"}");
    for (int i = 0; i < 20000; i++) {
        char text[256];
        size_t n = strlen(good[i % ARRAY_LEN(good)]);
        memcpy(text, good[i % ARRAY_LEN(good)], n);
        for (int k = 0; k < i % 4; k++) {
            seed = seed * 1664525 + 1013904223;
            text[(seed >> 8) % n] = (seed & 0x40) ? (char)(seed >> 24) : text[(seed >> 16) % n];
        }
        text[n] = '\n';
        send(text, n + 1);
        if (i % 500 == 0)
            say("\"\n\n}]}]\n\n");          /* whatever was open */
    }
    meet();
    CHECK_MSG(strstr(say("{\"execute\":\"qmp_capabilities\"}"), "return"), "the next peer is served");
}

int main(void)
{
    Config cfg;
    Error err;
    host_posix_init();
    log_to_file("/dev/null");
    config_default(&cfg);
    Machine *m = machine_create(&cfg, 1 << 20, &err);
    machine_lock(m);
    chardev_init(&peer.chr, &backend, m, "qmp0");
    clear();
    Qmp *q = qmp_create(m, &peer.chr, false);
    CHECK(q && strstr(peer.out, "\"QMP\""));
    test_protocol(m);
    test_junk();
    test_stall();
    test_noise();
    qmp_destroy(q);
    q = qmp_create(m, &peer.chr, true);
    CHECK_MSG(strstr(say("{\"execute\":\"qmp_capabilities\"}"), "{\r\n    \"return\": {}\r\n}\r\n"), "%s", peer.out);
    qmp_destroy(q);
    machine_unlock(m);
    return test_end();
}
