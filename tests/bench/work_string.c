/*
 * String instructions, written out so that no compiler replaces them.
 */
#include "bench.h"

enum { LARGE = 65536, SMALL_ROUNDS = 64, SCAN = 1024 };

static u8 from[LARGE] __attribute__((aligned(64))), to[LARGE] __attribute__((aligned(64)));

static void movsb(u8 *d, const u8 *s, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}

static void movsd(u8 *d, const u8 *s, size_t n)
{
    __asm__ volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}

static void stosb(u8 *d, u8 value, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
}

static void stosd(u8 *d, u32 value, size_t n)
{
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(value) : "memory");
}

static void fill(void)
{
    u32 seed = 3;

    for (u32 i = 0; i < LARGE; i++)
        from[i] = (u8)(random_next(&seed) | 1); /* no zero byte */
}

static u32 movs_large(void)
{
    movsd(to, from, LARGE / 4);
    return to[LARGE - 1];
}

static u32 stos_large(void)
{
    stosd(to, 0x01020304, LARGE / 4);
    return to[LARGE - 1];
}

static u32 movs_small(void)
{
    for (u32 i = 0; i < SMALL_ROUNDS; i++)
        movsb(to + i * 80, from + i * 83, 8 + i);
    return to[63 * 80];
}

static u32 movsd_small(void)
{
    for (u32 i = 0; i < SMALL_ROUNDS; i++)
        movsd(to + i * 80, from + i * 83, 2 + i / 4);
    return to[63 * 80];
}

static u32 stos_small(void)
{
    for (u32 i = 0; i < SMALL_ROUNDS; i++)
        stosb(to + i * 80, (u8)i, 8 + i);
    return to[63 * 80];
}

static u32 scas(void)
{
    const u8 *d = from;
    size_t n = SCAN;

    __asm__ volatile("repne scasb" : "+D"(d), "+c"(n) : "a"(0) : "memory", "cc");
    return (u32)(d - from);
}

static u32 cmps(void)
{
    const u8 *d = to, *s = from;
    size_t n = SCAN;

    __asm__ volatile("repe cmpsb" : "+D"(d), "+S"(s), "+c"(n)::"memory", "cc");
    return (u32)(d - to);
}

static void fill_both(void)
{
    fill();
    movsb(to, from, LARGE);
}

static u32 lods(void)
{
    const u8 *s = from;
    size_t n = SCAN;
    u32 sum = 0, value = 0;

    while (n--) {
        __asm__ volatile("lodsb" : "+S"(s), "+a"(value)::"memory");
        sum += value;
    }
    return sum;
}

const Row rows_string[] = {
    {"movsd-64K", movs_large, LARGE, fill, 0},
    {"stosd-64K", stos_large, LARGE, 0, 0},
    {"movsb-8..71", movs_small, SMALL_ROUNDS, fill, 0},
    {"movsd-8..71", movsd_small, SMALL_ROUNDS, fill, 0},
    {"stosb-8..71", stos_small, SMALL_ROUNDS, 0, 0},
    {"scasb-1K", scas, SCAN, fill, 0},
    {"cmpsb-1K", cmps, SCAN, fill_both, 0},
    {"lodsb", lods, SCAN, fill, 0},
    {0}};
