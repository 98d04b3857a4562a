/* Sizes and lists of options as people write them on command lines. */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool image_size(const char *text, u64 *bytes, Error *err)
{
    static const char units[] = "bkmgtpe";
    char *end;
    double v = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end | 0x20) : units;
    u64 times = unit ? 1ull << (10 * (unit - units)) : 0;

    if (end == text || !times || !(v >= 0) || (*end && end[1]) || v * (double)times > 9.0e18)
        return error_set(err, "invalid size '%.60s': a number with k, M, G, T, P or E behind it", text);
    *bytes = strchr(text, '.') ? (u64)(v * (double)times) : strtoull(text, NULL, 0) * times;
    return true;
}

bool image_option(const char *list, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);

    for (const char *p = list; p && *p; ) {
        size_t len = strcspn(p, ",");

        if (len > n && !strncmp(p, name, n) && p[n] == '=') {
            snprintf(value, size, "%.*s", (int)(len - n - 1), p + n + 1);
            return true;
        }
        p += len + (p[len] == ',');
    }
    return false;
}
