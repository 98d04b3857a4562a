/* What the window shows when nothing was named to boot from: what to do next, in the letters of a PC's text
 * screen. */
#include "window.h"

#include "../core/vm/ui.h"

enum { GLYPH_WIDTH = 8, GLYPH_HEIGHT = 16, COLUMNS = WELCOME_WIDTH / GLYPH_WIDTH };

static const u32 paper = 0x101c2c, ink = 0xc8d0dc, bright = 0xffffff, green = 0x5adc82;

typedef struct {
    int row, column;
    const u32 *colour;
    const char *text;
} Line;

static const Line lines[] = {
    {2, 4, &green, "QEMU"},
    {2, 9, &bright, "runs PC operating systems in this window."},
    {4, 4, &ink, "There is nothing to boot yet. Give it something:"},
    {6, 4, &bright, "Drop a disk image here."},
    {7, 6, &ink, "A floppy or hard disk image, or a CD-ROM image (.iso): it starts at once."},
    {9, 4, &bright, "Or drop one on qemu.exe"},
    {10, 6, &ink, "in the Explorer: it becomes the machine's first hard disk."},
    {12, 4, &bright, "Or edit qemu-win.bat"},
    {13, 6, &ink, "beside the program, with any editor, and start that with a double click."},
    {15, 4, &bright, "Or start it at a command prompt:"},
    {16, 6, &green, "qemu -m 256 -hda disk.img -cdrom install.iso -boot d"},
    {17, 6, &green, "qemu -h"},
    {17, 18, &ink, "lists all options."},
    {20, 4, &ink, "While a guest runs, Ctrl-Alt takes and releases the mouse, Ctrl-Alt-f"},
    {21, 4, &ink, "switches to full screen, and Ctrl-Alt-2 shows the monitor."},
    {23, 4, &ink, "Closing this window ends the program."},
};

static void draw_glyph(u32 *pixels, const u8 *glyph, u32 colour)
{
    for (int y = 0; y < GLYPH_HEIGHT; y++) {
        for (int x = 0; x < GLYPH_WIDTH; x++) {
            if (glyph[y] & 0x80 >> x)
                pixels[y * WELCOME_WIDTH + x] = colour;
        }
    }
}

void welcome_draw(u32 *pixels)
{
    const u8 *font = ui_font();
    for (int i = 0; i < WELCOME_WIDTH * WELCOME_HEIGHT; i++)
        pixels[i] = paper;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        const Line *l = &lines[i];
        u32 *at = pixels + l->row * GLYPH_HEIGHT * WELCOME_WIDTH + l->column * GLYPH_WIDTH;
        for (int n = 0; l->text[n] && l->column + n < COLUMNS; n++)
            draw_glyph(at + n * GLYPH_WIDTH, font + (u8)l->text[n] * GLYPH_HEIGHT, *l->colour);
    }
}
