/*
 * Code that is written while it runs. The bytes mean the same in 32 and in 64 bits.
 */
#include "bench.h"

typedef u32 (*Function)(void);

static u32 counter;

static u8 *put32(u8 *p, u32 value)
{
    for (int i = 0; i < 4; i++)
        *p++ = (u8)(value >> 8 * i);
    return p;
}

/* mov eax, imm; ret: written whole once, then only its immediate. */
static void patch_prepare(void)
{
    u8 *p = place_code();

    *p++ = 0xb8;
    p = put32(p, 0);
    *p = 0xc3;
}

static u32 patch(void)
{
    u8 *p = place_code();
    u32 sum = 0;

    for (u32 i = 0; i < 64; i++) {
        *(volatile u32 *)(p + 1) = i; /* not aligned, as it comes */
        sum += ((Function)(void *)p)();
    }
    return sum;
}

/* A function of 33 instructions, written afresh, then called eight times. */
static u32 generate(void)
{
    u8 *p = place_code() + 256;
    Function f = (Function)(void *)p;
    u32 sum = 0;

    counter++;
    *p++ = 0xb8; /* mov eax, imm */
    p = put32(p, 1);
    for (u32 i = 0; i < 31; i++) {
        if (i % 3 == 0) {
            *p++ = 0x05; /* add eax, imm */
            p = put32(p, counter + i);
        } else if (i % 3 == 1) {
            *p++ = 0x35; /* xor eax, imm */
            p = put32(p, counter * i);
        } else {
            *p++ = 0xc1; /* rol eax, imm */
            *p++ = 0xc0;
            *p++ = (u8)(i & 31);
        }
    }
    *p = 0xc3;
    for (u32 i = 0; i < 8; i++)
        sum += f() + i;
    return sum;
}

/* Data 1 KiB behind a function that runs in between. */
static u32 beside(void)
{
    u8 *p = place_code();
    volatile u32 *data = (volatile u32 *)(void *)(p + 1024);
    u32 sum = 0;

    for (u32 i = 0; i < 64; i++) {
        data[i] = i;
        sum += ((Function)(void *)p)() + data[i];
    }
    return sum;
}

static void beside_prepare(void)
{
    patch_prepare();
}

static void generate_prepare(void)
{
    counter = 0;
}

const Row rows_code[] = {
    {"patch-and-call", patch, 64, patch_prepare, 0},
    {"generate-call-8", generate, 1, generate_prepare, 0},
    {"store-beside", beside, 64, beside_prepare, 0},
    {0}};
