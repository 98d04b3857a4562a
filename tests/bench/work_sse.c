/*
 * Work for SSE2 and MMX. MMX is written out: compilers for 64 bits replace its intrinsics.
 */
#include "bench.h"

#define _MM_MALLOC_H_INCLUDED /* its allocator wants a C library, which the guest has not */
#include <emmintrin.h>

enum { N = 16, SIDE = 16, LIMIT = 50, WORDS = 1024 };

static float a[N][N] __attribute__((aligned(16))), b[N][N] __attribute__((aligned(16)));
static float c[N][N] __attribute__((aligned(16)));
static u32 words[WORDS] __attribute__((aligned(16)));

static u32 mandelbrot(void)
{
    u32 total = 0;

    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            double cr = x * 0.1875 - 2, ci = y * 0.125 - 1, r = 0, i = 0;
            u32 n = 0;

            while (n < LIMIT && r * r + i * i < 4) {
                double t = r * r - i * i + cr;

                i = 2 * r * i + ci;
                r = t;
                n++;
            }
            total += n;
        }
    return total;
}

static void fill(void)
{
    u32 seed = 8;

    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            a[i][k] = (float)(i - k), b[i][k] = (float)(i + 2 * k);
    for (u32 i = 0; i < WORDS; i++)
        words[i] = random_next(&seed);
}

static u32 matmul(void)
{
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k += 4) {
            __m128 sum = _mm_setzero_ps();

            for (int n = 0; n < N; n++)
                sum = _mm_add_ps(sum, _mm_mul_ps(_mm_set1_ps(a[i][n]), _mm_load_ps(&b[n][k])));
            _mm_store_ps(&c[i][k], sum);
        }
    return (u32)(int)c[3][5];
}

static u32 integer(void)
{
    __m128i sum = _mm_setzero_si128(), mask = _mm_set1_epi32(0x00ff00ff);

    for (u32 i = 0; i < WORDS; i += 4) {
        __m128i x = _mm_load_si128((const __m128i *)(const void *)&words[i]);

        sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_and_si128(x, mask), _mm_srli_epi16(x, 8)));
        sum = _mm_xor_si128(sum, _mm_unpacklo_epi8(x, sum));
    }
    return (u32)_mm_cvtsi128_si32(sum);
}

static u32 mmx(void)
{
    u32 result;
    const u32 *p = words, *end = words + WORDS;

    __asm__ volatile("pxor %%mm0, %%mm0\n"
                     "1: movq (%1), %%mm1\n"
                     "movq %%mm1, %%mm2\n"
                     "pmaddwd %%mm1, %%mm2\n"
                     "paddd %%mm2, %%mm0\n"
                     "punpcklbw %%mm0, %%mm1\n"
                     "pxor %%mm1, %%mm0\n"
                     "add $8, %1\n"
                     "cmp %2, %1\n"
                     "jne 1b\n"
                     "movd %%mm0, %0\n"
                     "emms"
                     : "=r"(result), "+r"(p)
                     : "r"(end)
                     : "memory", "cc");
    return result;
}

const Row rows_sse[] = {
    {"sse2-mandelbrot", mandelbrot, SIDE *SIDE, 0, 0},
    {"sse2-matmul", matmul, N *N *N, fill, 0},
    {"sse2-integer", integer, WORDS, fill, 0},
    {"mmx", mmx, WORDS, fill, 0},
    {0}};
