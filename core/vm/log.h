/*
 * What the program has to say about the guest. Any thread. Lines go to stderr or to the file of `-D`.
 * Categories are switched by `-d`; a category that is off costs one load and a test.
 */
#ifndef VM_LOG_H
#define VM_LOG_H

#include "types.h"

enum {
    LOG_GUEST     = 1 << 0,     /* guest_errors: the guest did what no hardware defines */
    LOG_INT       = 1 << 1,
    LOG_CPU_RESET = 1 << 2,
    LOG_IN_ASM    = 1 << 3,
    LOG_OUT_ASM   = 1 << 4,
    LOG_IOPORT    = 1 << 5,
    LOG_EXEC      = 1 << 6,
    LOG_CPU       = 1 << 7,
    LOG_MMU       = 1 << 8,
    LOG_UNIMP     = 1 << 9,
};

extern u32 log_mask;            /* written before the machine starts and by the monitor's `log` */

static inline bool log_on(u32 category) { return (log_mask & category) != 0; }

/* One line (the newline is added), whatever the mask. */
void log_line(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* One line, the first time only for this call site's flag: what a guest does a million times is said once. */
void log_once(bool *said, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Sends lines to a file (UTF-8 name) instead of stderr; false if it can't be made. */
bool log_to_file(const char *path);

/* Parses a comma list of `-d` names into a mask; false if a name is unknown. `log_names()` lists them for
 * help. */
bool log_parse(const char *list, u32 *mask);
const char *log_names(void);

#endif
