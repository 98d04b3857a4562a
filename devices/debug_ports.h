/*
 * Ports for people who write operating systems: a console that is one port (E9h, 402h), and a way to end
 * the program. Machine lock held for every call.
 */
#ifndef DEVICES_DEBUG_PORTS_H
#define DEVICES_DEBUG_PORTS_H

#include "../core/vm/chardev.h"
#include "../core/vm/device.h"

typedef struct DebugCon DebugCon;

extern const DeviceClass debugcon_class;

/* The console closes chr at its end. More ports may lead to the same console. */
DebugCon *debugcon_create(Machine *m, Chardev *chr);
void debugcon_add_port(DebugCon *con, u16 port);

/* isa-debug-exit: a byte, word or double word v written there ends the program with exit code (v << 1) |
 * 1. */
bool debug_exit_create(Machine *m, u32 port, u32 count, Error *err);

#endif
