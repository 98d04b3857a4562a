/*
 * The debugger's server: GDB's remote serial protocol on a character device. Main thread, machine lock held.
 * Specification: "Debugging with GDB", appendix "GDB Remote Serial Protocol".
 */
#ifndef VM_GDBSTUB_H
#define VM_GDBSTUB_H

#include "chardev.h"

typedef struct Machine Machine;

/* A debugger that connects stops the guest. One server a machine: a new one replaces the old, whose character
 * device is closed. False: out of memory. */
bool gdb_serve(Machine *m, Chardev *chr);
bool gdb_end(Machine *m);                       /* false: there was none */

#endif
