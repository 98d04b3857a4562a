/*
 * The 8x16 font of the text consoles, found inside the VGA BIOS that is shipped: 256 glyphs of 16 bytes, one
 * bit a pixel, leftmost pixel in bit 7. It is recognised by glyph 1, the smiling face, behind sixteen zero
 * bytes of glyph 0.
 */
#include "ui.h"

#include <string.h>

#include "host.h"
#include "log.h"

enum { GLYPH = 16, FONT = 256 * GLYPH };

/* Without a VGA BIOS: a box for every character but the blank, so that at least something is seen. */
static const u8 *boxes(void)
{
    static u8 font[FONT];
    for (int c = 33; c < 255; c++) {
        u8 *g = font + c * GLYPH;
        memset(g + 3, 0x42, 8);
        g[2] = g[11] = 0x7e;
    }
    return font;
}

const u8 *ui_font(void)
{
    static const u8 *font;
    static const u8 mark[2 * GLYPH] = {
        [GLYPH] = 0x00, 0x00, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e
    };
    if (font)
        return font;
    const void *data;
    size_t size;
    if (host_resource("vgabios-stdvga.bin", &data, &size)) {
        const u8 *p = data;
        for (size_t i = 0; i + FONT <= size && !font; i++) {
            if (!memcmp(p + i, mark, sizeof mark))
                font = p + i;
        }
    }
    if (!font) {
        log_line("vgabios-stdvga.bin: no 8x16 font in it; text consoles show boxes");
        font = boxes();
    }
    return font;
}
