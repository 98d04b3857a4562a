/*
 * Scan codes: what the keyboard controller makes of set 2 (its translation to set 1), and the way back.
 * Source: IBM PS/2 technical reference, "Keyboard scan codes"; Microsoft, "Keyboard Scan Code
 * Specification", appendix C.
 */
#ifndef DEVICES_PS2_CODES_H
#define DEVICES_PS2_CODES_H

#include "../core/vm/types.h"

u8 ps2_translate(u8 set2);              /* one byte that is not F0h; replies such as FAh stay what they are */
u8 ps2_set2_of(u8 set1);                /* 01h..7Fh */

#endif
