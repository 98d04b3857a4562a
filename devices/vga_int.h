/*
 * The VGA's inside: state, and what its files offer each other.
 *
 *   vga.c        ports and registers, retrace timing, creation, save and load
 *   vga_mem.c    the window at A0000h: planes, write and read modes, what of it can be mapped directly
 *   vga_vbe.c    the DISPI registers
 *   vga_draw.c   what is on the screen: modes, colours, scan lines, linear modes, planar modes
 *   vga_text.c   text modes
 *
 * Video memory is interleaved: byte 4 * a + p is offset a of plane p. Chain-4 addresses and the VBE's linear
 * frame buffer are then plain byte offsets. (In chain-4 a real VGA leaves three of four offsets unused; here
 * they are used without gaps, and the CRTC's doubleword mode counts accordingly. Only a program that reads
 * the planes behind chain-4's back could see it.)
 */
#ifndef DEVICES_VGA_INT_H
#define DEVICES_VGA_INT_H

#include "../core/vm/machine.h"
#include "../core/vm/ui.h"
#include "vga.h"

enum { SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_FONT, SEQ_MEMORY };
enum {
    GC_SET_RESET, GC_ENABLE_SR, GC_COMPARE, GC_ROTATE, GC_READ_MAP, GC_MODE, GC_MISC, GC_DONT_CARE,
    GC_BIT_MASK,
};
enum {
    CR_HTOTAL = 0x00, CR_HDISP_END = 0x01, CR_VTOTAL = 0x06, CR_OVERFLOW = 0x07, CR_PRESET_ROW = 0x08,
    CR_MAX_SCAN = 0x09, CR_CURSOR_START = 0x0a, CR_CURSOR_END = 0x0b, CR_START_HI = 0x0c, CR_START_LO = 0x0d,
    CR_CURSOR_HI = 0x0e, CR_CURSOR_LO = 0x0f, CR_VSYNC_START = 0x10, CR_VSYNC_END = 0x11, CR_VDISP_END = 0x12,
    CR_OFFSET = 0x13, CR_UNDERLINE = 0x14, CR_MODE = 0x17, CR_LINE_COMPARE = 0x18, CR_COUNT = 0x19,
};
enum { ATTR_MODE = 0x10, ATTR_OVERSCAN, ATTR_PLANES, ATTR_PANNING, ATTR_COLOR_SELECT, ATTR_COUNT };
enum { ATTR_VIDEO_ON = 0x20 };                  /* in the index register: the palette is the display's */
enum {
    VBE_ID, VBE_XRES, VBE_YRES, VBE_BPP, VBE_ENABLE, VBE_BANK, VBE_VIRT_WIDTH, VBE_VIRT_HEIGHT, VBE_X_OFFSET,
    VBE_Y_OFFSET, VBE_MEMORY_64K, VBE_COUNT,
};
enum { VBE_ENABLED = 0x01, VBE_GETCAPS = 0x02, VBE_DAC8 = 0x20, VBE_LFB = 0x40, VBE_NOCLEAR = 0x80 };

typedef struct {
    PciState pci;                   /* unused on ISA */
    u8 misc;                        /* 3C2h/3CCh: 0 color ports, 1 RAM enable, 2-3 clock, 5 page, 6-7 sync */
    u8 feature, enable;             /* 3DAh/3CAh, 3C3h */
    u8 attr_data;                   /* 1: the next write to 3C0h is data */
    u8 seq_index, gc_index, crtc_index, attr_index;
    u8 seq[8], gc[16], crtc[32], attr[32];
    u8 pel_mask, dac_read, dac_write, dac_sub;      /* indices; which of the three colours is next */
    u8 dac_reading;                 /* 3C7h was the last index written */
    u8 dac_latch[3];
    u8 palette[768];                /* as written: 6 or 8 bits */
    u32 latch;                      /* of the four planes */
    u16 vbe_index;
    u16 vbe[VBE_COUNT];
} VgaState;

/* How the screen is made, as far as a new surface or a new drawing routine is wanted when it changes. */
typedef enum { VGA_BLANK, VGA_TEXT, VGA_PLANAR, VGA_CGA, VGA_256, VGA_LINEAR } VgaShape;
typedef struct {
    VgaShape kind;
    int width, height;              /* of the picture */
    int chars;                      /* character clocks a line */
    int pixels;                     /* of the guest's, a character clock */
    int wide;                       /* dots a pixel */
    int bpp;                        /* LINEAR */
} VgaMode;

/* What else decides how a byte in memory looks: if it changes, all is drawn again. */
typedef struct {
    u32 pal16[16], pal256[256];
    u16 font[2];                    /* offsets in plane 2: for attribute bit 3 = 0, 1 */
    u8 underline, attr_mode, pad[2];
} VgaLook;

enum { VGA_MAX_LINES = 1024 };
typedef struct {
    u16 ma;                         /* CRTC's memory address of the first character */
    u8 ra;                          /* row scan */
    u8 pan;                         /* dots cut off at the left */
} VgaLine;

typedef struct {
    VgaMode mode;
    VgaLook look;
    VgaLine line[VGA_MAX_LINES];    /* of the picture */
    VgaLine last[VGA_MAX_LINES];
    u32 *shadow;                    /* what was drawn: in text cells, otherwise video memory */
    size_t shadow_words;            /* a line (or a text row) */
    size_t shadow_size;
    bool blink;                     /* characters that blink are hidden */
    u8 cursor_first, cursor_last;   /* as drawn */
    u32 seen_writes;                /* register writes at the last refresh */
    int waited;                     /* refreshes that waited for the guest to finish setting a mode */
} VgaDraw;

typedef enum { WINDOW_HANDLER, WINDOW_LINEAR, WINDOW_TEXT } VgaWindow;

typedef struct {
    u64 clock;                      /* dots a second */
    u32 htotal, hdisp;              /* dots */
    u32 vtotal, vdisp, vsync, vsync_end;    /* scan lines */
} VgaTiming;

typedef struct {
    PciDevice pci;                  /* its Device also where there is no PCI */
    VgaState s;
    bool on_pci;
    UiConsole *con;
    MemRegion *vram_region, *text_region, *window_region;
    u8 *vram;
    u8 *text;                       /* 32 KiB: stands for planes 0 and 1 while WINDOW_TEXT */
    VgaWindow window;
    u32 window_addr, window_offset, window_bytes;
    int window_handle;
    VgaTiming timing;
    bool timing_valid;
    bool kicked;                    /* the UI knows already that something changed */
    bool font_changed;              /* plane 2 was written */
    u32 writes;                     /* to registers that make the mode */
    VgaDraw draw;
} Vga;

static inline Machine *vga_machine(const Vga *v) { return v->pci.dev.m; }

/* vga.c */
void vga_changed(Vga *v);                       /* what is shown may be different: the UI looks soon */
u64 vga_frame(Vga *v);                          /* number of frames since the machine's start: blinking */

/* vga_mem.c */
void vga_window_create(Vga *v);
void vga_window_update(Vga *v);                 /* after a register changed that it depends on */
void vga_window_forget(Vga *v);                 /* video memory was loaded: the text copy is worth nothing */
void vga_window_sync(Vga *v);                   /* video memory is wanted whole */

/* vga_vbe.c */
void vbe_reset(Vga *v);
u16 vbe_read(Vga *v, unsigned index);
void vbe_write(Vga *v, unsigned index, u16 value);
bool vbe_sane(const Vga *v);        /* false: the registers are none that vbe_write() would leave */
static inline bool vbe_on(const Vga *v) { return v->s.vbe[VBE_ENABLE] & VBE_ENABLED; }
u32 vbe_stride(const Vga *v);                   /* bytes a line; in 4-bit modes bytes a line and plane */

/* vga_draw.c, vga_text.c */
void vga_draw_create(Vga *v);
void vga_draw_destroy(Vga *v);
u32 vga_address(const Vga *v, u32 ma, u32 ra);  /* plane offset for the CRTC's counters */
void vga_draw_text(Vga *v, Surface *sf, bool full);

#endif
