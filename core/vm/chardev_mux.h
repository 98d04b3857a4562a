/* The mux's entry in chardev.c's table of backends; its other functions are in chardev.h. */
#ifndef VM_CHARDEV_MUX_H
#define VM_CHARDEV_MUX_H

#include "chardev.h"

Chardev *mux_open(Machine *m, const char *label, const char *spec, Error *err);     /* "mon:SPEC" */

#endif
