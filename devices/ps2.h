/*
 * What hangs on the two plugs of the keyboard controller: a 102-key keyboard and a wheel mouse. They talk
 * in whole bytes. Source: IBM PS/2 technical reference, "Keyboard" and "Mouse"; Microsoft, "PS/2
 * IntelliMouse". Machine lock held for every call.
 */
#ifndef DEVICES_PS2_H
#define DEVICES_PS2_H

#include "../core/vm/types.h"

typedef struct Machine Machine;
typedef struct Ps2 Ps2;

Ps2 *ps2_keyboard_create(Machine *m, void (*changed)(void *opaque), void *opaque);
Ps2 *ps2_mouse_create(Machine *m, void (*changed)(void *opaque), void *opaque);

/* changed() is called when a byte comes in. The controller takes bytes one by one, and sends some. */
bool ps2_ready(const Ps2 *ps2);
u8 ps2_take(Ps2 *ps2);                  /* the byte; 0 when there is none */
void ps2_send(Ps2 *ps2, u8 byte);

#endif
