/*
 * Work for the x87 unit: compiled with -mfpmath=387 on both sides.
 */
#include "bench.h"

enum { N = 16, BODIES = 5, STEPS = 20, POINTS = 64 };

static double a[N][N], b[N][N], c[N][N];

static u32 bits(double x)
{
    union {
        double d;
        u32 w[2];
    } u = {x};

    return u.w[0] ^ u.w[1];
}

static void fill(void)
{
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            a[i][k] = i - k, b[i][k] = i + 2 * k;
}

static u32 matmul(void)
{
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            double sum = 0;

            for (int n = 0; n < N; n++)
                sum += a[i][n] * b[n][k];
            c[i][k] = sum;
        }
    return bits(c[3][5]);
}

static double root(double x)
{
    __asm__("fsqrt" : "+t"(x));
    return x;
}

static u32 nbody(void)
{
    double p[BODIES][3], v[BODIES][3];

    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            p[i][k] = i * 3 + k * k, v[i][k] = 0;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int k = i + 1; k < BODIES; k++) {
                double d[3], square = 0.01, pull;

                for (int x = 0; x < 3; x++)
                    d[x] = p[i][x] - p[k][x], square += d[x] * d[x];
                pull = 0.001 / (square * root(square));
                for (int x = 0; x < 3; x++)
                    v[i][x] -= d[x] * pull, v[k][x] += d[x] * pull;
            }
        for (int i = 0; i < BODIES; i++)
            for (int x = 0; x < 3; x++)
                p[i][x] += v[i][x];
    }
    return bits(p[2][1]);
}

static u32 transcendental(void)
{
    double sum = 0, x, y;

    for (int i = 1; i <= POINTS; i++) {
        x = i * 0.125;
        y = x;
        __asm__("fsin" : "+t"(y));
        sum += y;
        y = x;
        __asm__("fcos" : "+t"(y));
        sum += y;
        y = 1;
        __asm__("fyl2x" : "=t"(y) : "0"(x), "u"(y) : "st(1)");
        sum += y;
        y = 1;
        __asm__("fpatan" : "=t"(y) : "0"(y), "u"(x) : "st(1)");
        sum += y;
    }
    return bits(sum);
}

const Row rows_x87[] = {
    {"x87-matmul", matmul, N *N *N, fill, 0},
    {"x87-nbody", nbody, STEPS, 0, 1},
    {"x87-transcend", transcendental, 4 * POINTS, 0, 1},
    {0}};
