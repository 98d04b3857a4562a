/* Messages for host and user errors. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool error_set(Error *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    return false;
}

bool error_prefix(Error *err, const char *fmt, ...)
{
    char old[sizeof(err->text)];
    va_list args;
    int used;

    memcpy(old, err->text, sizeof(old));
    va_start(args, fmt);
    used = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    if (used >= 0 && (size_t)used + 3 < sizeof(err->text))
        snprintf(err->text + used, sizeof(err->text) - (size_t)used, ": %.*s",
                 (int)(sizeof(err->text) - (size_t)used - 3), old);
    return false;
}
