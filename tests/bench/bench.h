/*
 * The rows of the CPU benchmark, and what they need of the place they run in. The same sources are compiled
 * for the guest (32 bit, no C library) and for the build machine.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* One row: run() does `ops` operations and answers a checksum that is the same wherever it runs. */
typedef struct {
    const char *name;
    u32 (*run)(void);
    u32 ops;
    void (*prepare)(void); /* once, not timed; may be null */
    int inexact;           /* the last bits depend on the floating-point unit: the checksum is not compared */
} Row;

/* A null name ends a table. */
extern const Row rows_integer[], rows_string[], rows_code[], rows_x87[], rows_sse[], rows_event[];

/* Runs the rows of a group and prints "row GROUP NAME CYCLES CHECKSUM" for each. */
void bench_group(const char *group, const Row *rows);
void bench_text(const char *text);
void bench_number(u32 value);

/* Of the place: */
void place_put(char c);
u8 *place_code(void);                 /* two pages that may be written and executed */
extern const u32 place_batch_kcycles; /* a batch lasts at least so long */

static inline u64 cycles(void)
{
    u32 low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

/* The same sequence everywhere, with a seed of each row's own. */
static inline u32 random_next(u32 *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

#endif
