/*
 * The ways into a machine that the command line asks for: monitors for people, monitors for programs (QMP), the
 * debugger's server. Main thread, machine lock held.
 */
#ifndef VM_CONTROL_H
#define VM_CONTROL_H

#include "error.h"

typedef struct Machine Machine;

/* Once, when the board is there and before the machine starts. False: err names the option. */
bool control_open(Machine *m, Error *err);

#endif
