/*
 * The rows on the build machine itself: the "native" column.
 */
#include "bench.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

const u32 place_batch_kcycles = 4000;

void place_put(char c)
{
    putchar(c);
}

u8 *place_code(void)
{
    static u8 *code;

    if (!code)
        code = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return code;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
    double start = seconds();
    u64 before = cycles();

    if (place_code() == MAP_FAILED) {
        perror("memory for code");
        return 1;
    }
    while (seconds() < start + 0.05) {
    }
    printf("khz %u\n", (u32)((double)(cycles() - before) / (seconds() - start) / 1e3));
    bench_group("integer", rows_integer);
    bench_group("string", rows_string);
    bench_group("code", rows_code);
    bench_group("float", rows_x87);
    bench_group("float", rows_sse);
    puts("end");
    return 0;
}
