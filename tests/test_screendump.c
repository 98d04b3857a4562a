/* PPM and PNG: read back and compared pixel by pixel. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "../core/vm/ui.h"
#include "host_posix.h"

static void no_refresh(void *opaque, bool full)
{
    (void)opaque;
    (void)full;
}

static const ConsoleOps ops = { .refresh = no_refresh };

static u32 be32(const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }

static bool rgb_is(const u8 *p, u32 rgb)
{
    return p[0] == (u8)(rgb >> 16) && p[1] == (u8)(rgb >> 8) && p[2] == (u8)rgb;
}

static void check_ppm(Machine *m, const Surface *s)
{
    Error err = { "" };
    size_t size;
    CHECK(ui_screendump(m->ui, ui_console(m->ui, 0), "/tmp/test_screendump.ppm", &err));
    u8 *d = host_file_slurp("/tmp/test_screendump.ppm", 1 << 20, &size, &err);
    const char head[] = "P6\n37 11\n255\n";
    size_t h = sizeof head - 1;
    CHECK(d && size == h + 37 * 11 * 3 && !memcmp(d, head, h));
    int wrong = 0;
    for (int i = 0; d && i < 37 * 11; i++)
        wrong += !rgb_is(d + h + i * 3, s->pixels[i]);
    CHECK(wrong == 0);
    free(d);
    unlink("/tmp/test_screendump.ppm");
}

static void check_png(Machine *m, const Surface *s)
{
    static const u8 signature[8] = { 0x89, 'P', 'N', 'G', 13, 10, 26, 10 };
    Error err = { "" };
    size_t size, at = 8;
    u8 raw[11 * (37 * 3 + 1)];
    uLong raw_size = sizeof raw;
    int chunks = 0;
    CHECK(ui_screendump(m->ui, NULL, "/tmp/test_screendump.PNG", &err));
    u8 *d = host_file_slurp("/tmp/test_screendump.PNG", 1 << 20, &size, &err);
    CHECK(d && size > 8 && !memcmp(d, signature, 8));
    while (d && at + 12 <= size) {
        u32 n = be32(d + at);
        const u8 *type = d + at + 4;
        CHECK(at + 12 + n <= size && crc32(0, type, n + 4) == be32(type + 4 + n));
        if (!memcmp(type, "IHDR", 4))
            CHECK(be32(type + 4) == 37 && be32(type + 8) == 11 && type[12] == 8 && type[13] == 2 && n == 13);
        if (!memcmp(type, "IDAT", 4))
            CHECK(uncompress(raw, &raw_size, type + 4, n) == Z_OK && raw_size == sizeof raw);
        at += 12 + n;
        chunks++;
    }
    CHECK(chunks == 3 && at == size);
    int wrong = 0;
    for (int y = 0; y < 11; y++) {
        wrong += raw[y * 112] != 0;
        for (int x = 0; x < 37; x++)
            wrong += !rgb_is(raw + y * 112 + 1 + x * 3, s->pixels[y * 37 + x]);
    }
    CHECK_MSG(wrong == 0, "the PNG holds the picture");
    free(d);
    unlink("/tmp/test_screendump.PNG");
}

int main(void)
{
    Config cfg;
    Error err = { "" };
    host_posix_init();
    config_default(&cfg);
    Machine *m = machine_create(&cfg, 1 << 20, &err);
    CHECK(!ui_screendump(m->ui, NULL, "/tmp/x.ppm", &err) && err.text[0]);
    UiConsole *c = console_create(m->ui, "screen", true, &ops, NULL);
    console_resize(c, 37, 11);
    Surface *s = console_surface(c);
    for (int i = 0; i < 37 * 11; i++)
        s->pixels[i] = (u32)i * 40503u & 0xffffff;
    check_ppm(m, s);
    check_png(m, s);
    CHECK(!ui_screendump(m->ui, c, "/no/such/dir/x.png", &err) && strstr(err.text, "/no/such/dir/x.png"));
    machine_destroy(m);
    config_free(&cfg);
    return test_end();
}
