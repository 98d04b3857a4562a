/*
 * The measuring of a row: rounds are doubled until a batch is long enough, then the best of some batches
 * counts: on a busy machine one of two milliseconds is likely to run undisturbed, one of twenty isn't. Long
 * divisions are written out because the guest has no compiler library.
 */
#include "bench.h"

enum { BATCHES = 25 };

void bench_text(const char *text)
{
    while (*text)
        place_put(*text++);
}

static void digits(u32 value, unsigned least)
{
    char text[10];
    unsigned n = 0;

    do {
        text[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value || n < least);
    while (n)
        place_put(text[--n]);
}

void bench_number(u32 value)
{
    digits(value, 1);
}

static u64 divide(u64 value, u32 by)
{
    u32 high = (u32)(value >> 32), low, rest;

    __asm__("divl %4" : "=a"(low), "=d"(rest) : "a"((u32)value), "d"(high % by), "rm"(by) : "cc");
    return (u64)(high / by) << 32 | low;
}

static u64 batch(const Row *row, u32 rounds)
{
    u64 start = cycles();

    while (rounds--)
        row->run();
    return cycles() - start;
}

static void measure(const char *group, const Row *row)
{
    u32 check, rounds = 1, hundredths;
    u64 best, taken;

    if (row->prepare)
        row->prepare();
    check = row->run();
    while ((best = batch(row, rounds)) < (u64)place_batch_kcycles * 1000 && rounds < 1u << 30)
        rounds *= 2;
    for (int i = 1; i < BATCHES; i++) {
        taken = batch(row, rounds);
        if (taken < best)
            best = taken;
    }
    /* Per round first, in 1/1024 cycles, so that rounds * ops need not fit in 32 bits. */
    hundredths = (u32)(divide(divide(best << 10, rounds) * 100, row->ops) >> 10);
    bench_text("row ");
    bench_text(group);
    place_put(' ');
    bench_text(row->name);
    place_put(' ');
    digits(hundredths / 100, 1);
    place_put('.');
    digits(hundredths % 100, 2);
    place_put(' ');
    digits(row->inexact ? 0 : check, 1);
    place_put('\n');
}

void bench_group(const char *group, const Row *rows)
{
    for (; rows->name; rows++)
        measure(group, rows);
}
