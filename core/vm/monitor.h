/*
 * The monitor: commands by table, on any character device. Main thread, machine lock held.
 */
#ifndef VM_MONITOR_H
#define VM_MONITOR_H

#include "chardev.h"
#include "cpu.h"
#include "types.h"

typedef struct Machine Machine;
typedef struct Monitor Monitor;

/* Opens a monitor with line editing and history on chr. */
Monitor *monitor_create(Machine *m, Chardev *chr);
void monitor_destroy(Monitor *mon);

void monitor_printf(Monitor *mon, const char *fmt, ...) PRINTF_LIKE(2, 3);
PrintFn monitor_print;          /* a PrintFn whose opaque is the Monitor: prints a line and a newline */

/* One line to all of a machine's monitors: something has happened that a person should know. */
void monitor_tell(Machine *m, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Runs one command line as if typed; output goes to the monitor. For tests. */
void monitor_run(Monitor *mon, const char *line);

/* Runs a line and returns what it printed, malloc'ed; NULL: out of memory. For QMP and the debugger. */
char *monitor_capture(Machine *m, const char *line);

/* Devices add their `info NAME` topics: help is one line. */
void monitor_add_info(Machine *m, const char *name, const char *help,
                      void (*show)(void *opaque, PrintFn *print, void *print_opaque), void *opaque);
void monitor_drop_info(Machine *m);         /* machine_destroy() forgets them all */

#endif
