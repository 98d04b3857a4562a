/*
 * QMP: the monitor for programs, JSON over a character device. Main thread, machine lock held. Specification:
 * QEMU Machine Protocol, version of QEMU 8 ("qmp-spec"): greeting, capabilities, commands with id, events.
 */
#ifndef VM_QMP_H
#define VM_QMP_H

#include "chardev.h"

typedef struct Machine Machine;
typedef struct Qmp Qmp;

Qmp *qmp_create(Machine *m, Chardev *chr, bool pretty);        /* NULL: out of memory */
void qmp_destroy(Qmp *q);

#endif
