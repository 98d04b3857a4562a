/* What making an image of any format needs: options that are words, and UUIDs. */
#include "img_options.h"

#include <stdio.h>
#include <string.h>

bool img_choice(const char *list, const char *name, const char *const *words, int *which, Error *err)
{
    char v[64], known[200] = "";

    if (!image_option(list, name, v, sizeof(v)))
        return true;
    for (int i = 0; words[i]; i++) {
        size_t n = strlen(known);

        if (!strcmp(words[i], v)) {
            *which = i;
            return true;
        }
        snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", words[i]);
    }
    return error_set(err, "%s=%s is not known: %s", name, v, known);
}

bool img_switch(const char *list, const char *name, bool *value, Error *err)
{
    static const char *const words[] = { "off", "on", NULL };
    int which = *value;
    bool ok = img_choice(list, name, words, &which, err);

    *value = which == 1;
    return ok;
}

/* Two images made within the same nanosecond would need the same address and count to get the same one. */
void img_uuid(u8 *out)
{
    static u64 count;
    u64 x = host_now_ns() ^ (u64)host_wall_us() << 20 ^ (u64)(uintptr_t)out ^ ++count << 56;

    for (int i = 0; i < 16; i++) {
        x += 0x9e3779b97f4a7c15ull;
        u64 z = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;

        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        out[i] = (u8)(z >> 32);
    }
    out[6] = (u8)((out[6] & 0x0f) | 0x40);
    out[8] = (u8)((out[8] & 0x3f) | 0x80);
}
