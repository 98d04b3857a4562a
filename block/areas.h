/*
 * Areas of one size that tables lie in: where no data may be. Added in any order, then sorted once; later
 * ones lie behind all others, since images grow at their end.
 */
#ifndef BLOCK_AREAS_H
#define BLOCK_AREAS_H

#include "driver.h"

typedef struct {
    u64 *at, bytes;                 /* bytes: of each */
    u32 count, room;
} Areas;

void areas_add(Areas *a, u64 at);
bool areas_sort(Areas *a);                              /* false: two of them overlap */
bool areas_hit(const Areas *a, u64 at, u64 bytes);      /* an area lies there, or a part of one */
void areas_free(Areas *a);

#endif
