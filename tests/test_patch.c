/* Immediates that are changed again and again, through every way they can be: patch.c, block.c, tlb.c. */
#include "test.h"

#include "flat_cpu.h"

#include "../core/x86/block.h"

/* CODE: three instructions with an immediate each, and ret. */
static const char function[] = "\xb8\x00\x00\x00\x00"           /* mov eax, 0 */
                               "\x05\x00\x00\x00\x00"           /* add eax, 0 */
                               "\x81\xf1\x00\x00\x00\x00\xc3";  /* xor ecx, 0; ret */
/* esi: where to store, edi: first value, edx: how often. Sums of what the function gives in ebx. */
static const char loop[] = "\x89\x3e"                           /* again: mov [esi], edi */
                           "\x31\xc9\xe8\xf7\xef\xff\xff"       /* xor ecx, ecx; call CODE */
                           "\x01\xc3\x01\xcb\x47\x4a\x75\xef\xf4";  /* add ebx,eax/ecx; inc edi; dec edx; jnz */

static u32 sum_of(u32 where, u32 first, u32 times)
{
    cpu->s.gpr[ESI] = where;
    cpu->s.gpr[EDI] = first;
    cpu->s.gpr[EDX] = times;
    cpu->s.gpr[EBX] = 0;
    run_at(CODE + 0x1000);
    return cpu->s.gpr[EBX];
}

static void every_value_is_seen(void)
{
    static const unsigned at[] = { 1, 6, 12 };
    for (unsigned i = 0; i < ARRAY_LEN(at); i++)
        for (unsigned alias = 0; alias < 2; alias++) {
            flat_cpu_reset();
            put_code(CODE, function, sizeof function - 1);
            put_code(CODE + 0x1000, loop, sizeof loop - 1);
            u32 killed = (u32)cpu->stat[STAT_KILLED];
            u32 sum = sum_of((alias ? ALIAS : 0) + CODE + at[i], 1000, 100);
            CHECK_MSG(sum == 100 * 1000 + 99 * 50, "100 values of the immediate at %u: sum %u", at[i], sum);
            CHECK_MSG(cpu->stat[STAT_KILLED] - killed < 8, "the block is not made again each time");
        }
}

static void other_bytes_still_kill(void)
{
    flat_cpu_reset();
    put_code(CODE, function, sizeof function - 1);
    put_code(CODE + 0x1000, loop, sizeof loop - 1);
    sum_of(CODE + 1, 5, 20);
    CHECK(sum_of(CODE + 2, 0, 1) == 24);            /* 18h in the lowest byte is left; the rest and 05 are 0 */
    flat_cpu_reset();
    put_code(CODE, function, sizeof function - 1);
    put_code(CODE + 0x1000, loop, sizeof loop - 1);
    sum_of(CODE + 1, 5, 20);
    put_code(CODE, "\xbb", 1);                      /* mov ebx, imm: the same place, another instruction */
    cpu->s.gpr[EAX] = 7;
    CHECK(sum_of(CODE + 1, 100, 3) == 102 + 7 && cpu->s.gpr[EAX] == 7);
}

static void a_device_may_write_it(void)
{
    flat_cpu_reset();
    put_code(CODE, function, sizeof function - 1);
    put_code(CODE + 0x1000, loop, sizeof loop - 1);
    sum_of(CODE + 1, 5, 20);
    store32(ram + CODE + 1, 0x12345678);
    cpu_code_written(cpu, (u32)(ram + CODE - mem_arena(m->mem)) >> 12, (CODE + 1) & 4095, 4);
    CHECK(sum_of(DATA, 0, 1) == 0x12345678);
}

int main(void)
{
    CHECK(flat_cpu_create());
    if (!test_failed) {
        every_value_is_seen();
        other_bytes_still_kill();
        a_device_may_write_it();
    }
    return test_end();
}
