/*
 * Host and user errors. A function that can fail returns bool (or a pointer) and fills an Error: one line,
 * without a full stop, that says what and where. The caller may put its own context in front. The Error is
 * never NULL.
 */
#ifndef VM_ERROR_H
#define VM_ERROR_H

#include "types.h"

typedef struct {
    char text[512];             /* UTF-8 */
} Error;

/* Writes the message; always returns false, so that `return error_set(...)` reads well. */
bool error_set(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Puts context in front of the message: "context: message". Always returns false. */
bool error_prefix(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
