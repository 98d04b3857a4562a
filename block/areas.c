/* Areas of one size that tables lie in: a sorted list. */
#include "areas.h"

#include <stdlib.h>
#include <string.h>

void areas_add(Areas *a, u64 at)
{
    if (a->count == a->room) {
        u64 *bigger = block_alloc(sizeof(u64) * (a->room ? a->room * 2ull : 64));

        if (a->count)
            memcpy(bigger, a->at, sizeof(u64) * a->count);
        free(a->at);
        a->at = bigger;
        a->room = a->room ? a->room * 2 : 64;
    }
    a->at[a->count++] = at;
}

static int order(const void *x, const void *y)
{
    u64 a = *(const u64 *)x, b = *(const u64 *)y;

    return a < b ? -1 : a > b;
}

bool areas_sort(Areas *a)
{
    if (a->count > 1)
        qsort(a->at, a->count, sizeof(u64), order);
    for (u32 i = 1; i < a->count; i++) {
        if (a->at[i] - a->at[i - 1] < a->bytes)
            return false;
    }
    return true;
}

bool areas_hit(const Areas *a, u64 at, u64 bytes)
{
    u32 low = 0, high = a->count;

    while (low < high) {            /* the first one that ends behind `at` */
        u32 middle = low + (high - low) / 2;

        if (a->at[middle] + a->bytes > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low < a->count && a->at[low] < at + bytes;
}

void areas_free(Areas *a)
{
    free(a->at);
    a->at = NULL;
    a->count = a->room = 0;
}
