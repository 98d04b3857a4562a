/*
 * The text console's inside: a screen of cells with scroll-back (vc_screen.c: what escapes do to it), and its
 * face to the UI and to the character device (vc.c). Machine lock held.
 */
#ifndef VM_VC_H
#define VM_VC_H

#include "types.h"

enum { VC_HISTORY = 10000, VC_PARAMS = 16, VC_TEXT = 0x07 };

typedef struct {
    u8 ch;                          /* code page 437 */
    u8 attr;                        /* as VGA text: foreground 0-3, background 4-7 */
} VcCell;

typedef enum { VC_GROUND, VC_ESC, VC_CSI, VC_CHARSET, VC_STRING, VC_STRING_ESC } VcParse;

typedef struct {
    int cols, rows;
    VcCell *cells;                  /* a ring of rows + VC_HISTORY lines */
    int top;                        /* ring index of the screen's first line */
    int history;                    /* lines above it that were written once */
    int x, y;                       /* cursor; x may be cols: the next character wraps first */
    int saved_x, saved_y;
    int region_top, region_bottom;  /* scrolling region, bottom outside */
    u8 fg, bg;
    bool bold, inverse, no_wrap, no_cursor;
    VcParse parse;
    int param[VC_PARAMS], params;
    bool question;                  /* CSI ? ... */
    u32 utf8;                       /* character being collected, and how many bytes are missing */
    int utf8_left;
    void (*answer)(void *opaque, const char *text);     /* replies to status requests */
    void *answer_opaque;
} VcScreen;

bool vc_screen_init(VcScreen *s, int cols, int rows);
void vc_screen_put(VcScreen *s, u8 byte);
/* Line y of the screen; y < 0 looks into the scroll-back, -1 being the newest line there. */
const VcCell *vc_screen_line(const VcScreen *s, int y);

#endif
