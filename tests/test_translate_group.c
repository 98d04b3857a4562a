/*
 * Memory operands that share a check: pages that end within a frame, faults in the middle, aliases, mappings that
 * change between two accesses of a block.
 */
#include "test.h"

#include "flat_cpu.h"

static u32 at(u32 linear) { return load32(ram + (linear & (RAM_BYTES - 1))); }

/* push 11h; push 22h; mov ebp,esp; sub esp,10h; mov [ebp-8],33h; mov eax,[ebp+4]; add eax,[ebp]; add eax,[esp+8];
 * leave; pop ebx; hlt */
static const char frame[] = "\x6a\x11\x6a\x22\x89\xe5\x83\xec\x10\xc7\x45\xf8\x33\x00\x00\x00\x8b\x45\x04"
                            "\x03\x45\x00\x03\x44\x24\x08\xc9\x5b\xf4";

static void frames_may_lie_anywhere(void)
{
    flat_cpu_reset();
    put_code(CODE, frame, sizeof frame - 1);
    for (u32 esp = STACK - 40; esp <= STACK + 40; esp++) {
        cpu->s.gpr[ESP] = esp;
        run_at(CODE);
        CHECK_MSG(cpu->s.gpr[EAX] == 0x66 && cpu->s.gpr[ESP] == esp && cpu->s.gpr[EBX] == 0x11 &&
                      cpu->s.gpr[EBP] == 0x22 && at(esp - 4) == 0x11 && at(esp - 8) == 0x22 &&
                      at(esp - 16) == 0x33,
                  "frame from %x", esp);
    }
}

/* mov [ebx],1; mov [ebx+4],2; mov ecx,[ebx+8]; mov [ebx+12],3; hlt */
static const char four[] = "\xc7\x03\x01\x00\x00\x00\xc7\x43\x04\x02\x00\x00\x00\x8b\x4b\x08\xc7\x43\x0c\x03\x00\x00\x00\xf4";

static void the_right_access_faults(void)
{
    static const struct { u32 offset, done, eip, cr2; } rows[] = {
        { 0, 0, 0, 0 }, { 4, 1, 6, 4 }, { 8, 2, 13, 8 }, { 12, 2, 16, 12 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned warm = 0; warm < 2; warm++) {
            flat_cpu_reset();
            put_code(CODE, four, sizeof four - 1);
            u32 page = DATA + 0x1000, ebx = page - rows[i].offset;
            if (warm) {                             /* translated and linked while nothing fails */
                cpu->s.gpr[EBX] = DATA;
                run_at(CODE);
                memset(ram + DATA, 0, 64);
            }
            map_page(page, page | 6);               /* not present */
            cpu->s.gpr[EBX] = ebx;
            cpu->s.gpr[ECX] = 0x77;
            run_at(CODE);
            CHECK_MSG(cpu->s.eip == HANDLERS + 16 * VEC_PF + 1 && cpu->s.cr2 == page, "offset %u faults",
                      rows[i].offset);
            CHECK_MSG(at(cpu->s.gpr[ESP] + 4) == CODE + rows[i].eip, "at its own EIP: %x",
                      at(cpu->s.gpr[ESP] + 4));
            u32 done = (rows[i].offset > 0 && at(ebx) == 1) + (rows[i].offset > 4 && at(ebx + 4) == 2);
            CHECK_MSG(done == rows[i].done && (rows[i].offset > 8) == (cpu->s.gpr[ECX] != 0x77),
                      "what stands before it is done");
        }
}

static void a_read_before_the_refused_write_is_done(void)
{
    flat_cpu_reset();
    put_code(CODE, "\x8b\x43\x04\x89\x43\x08\xf4", 7);      /* mov eax,[ebx+4]; mov [ebx+8],eax; hlt */
    map_page(DATA, DATA | 5);
    store32(ram + DATA + 4, 99);
    cpu->s.gpr[EBX] = DATA;
    run_at(CODE);
    CHECK(cpu->s.eip == HANDLERS + 16 * VEC_PF + 1 && cpu->s.gpr[EAX] == 99 && cpu->s.cr2 == DATA + 8);
    CHECK(!(load32(ram + PAGE_TABLE + (DATA >> 12) * 4) & 0x40));
}

static void aliases_are_one_memory(void)
{
    /* mov [ebx],5; mov [esi],6; mov eax,[ebx]; mov [ebx+4],eax; mov ecx,[esi+4]; hlt */
    static const char code[] = "\xc7\x03\x05\x00\x00\x00\xc7\x06\x06\x00\x00\x00\x8b\x03\x89\x43\x04\x8b\x4e\x04\xf4";
    flat_cpu_reset();
    put_code(CODE, code, sizeof code - 1);
    cpu->s.gpr[EBX] = DATA + 16;
    cpu->s.gpr[ESI] = ALIAS + DATA + 16;
    for (int i = 0; i < 3; i++) {
        run_at(CODE);
        CHECK(cpu->s.gpr[EAX] == 6 && cpu->s.gpr[ECX] == 6);
    }
}

static void mappings_may_change_between(void)
{
    /* mov eax,[ebx]; mov ecx,[ebx+4]; mov [PTE],edx; invlpg [ebx]; mov esi,[ebx]; mov edi,[ebx+4]; hlt */
    static const char code[] = "\x8b\x03\x8b\x4b\x04\x89\x15\x40\x62\x00\x00\x0f\x01\x3b\x8b\x33\x8b\x7b\x04\xf4";
    flat_cpu_reset();
    put_code(CODE, code, sizeof code - 1);
    for (u32 i = 0; i < 4; i++)
        store32(ram + DATA + (i & 2 ? 0x1000 : 0) + (i & 1) * 4, i);
    for (int i = 0; i < 3; i++) {
        map_page(DATA, DATA | 7);
        cpu->s.gpr[EBX] = DATA;
        cpu->s.gpr[EDX] = (DATA + 0x1000) | 7;
        run_at(CODE);
        CHECK(cpu->s.gpr[EAX] == 0 && cpu->s.gpr[ECX] == 1 && cpu->s.gpr[ESI] == 2 && cpu->s.gpr[EDI] == 3);
    }
}

static void sums_are_followed(void)
{
    /* mov eax,[ebx+ecx*4+8]; inc ecx; add eax,[ebx+ecx*4+8]; mov [ebx+ecx*4],eax; hlt */
    static const char code[] = "\x8b\x44\x8b\x08\x41\x03\x44\x8b\x08\x89\x04\x8b\xf4";
    flat_cpu_reset();
    put_code(CODE, code, sizeof code - 1);
    for (u32 i = 0; i < 64; i++) {
        u32 base = DATA + 0x1000 - 64 * 4 + i * 4;
        for (u32 k = 0; k < 80; k++)
            store32(ram + base + 4 * k, 100 + k);
        cpu->s.gpr[EBX] = base;
        cpu->s.gpr[ECX] = 60;
        run_at(CODE);
        CHECK_MSG(cpu->s.gpr[EAX] == 162 + 163 && at(base + 61 * 4) == 162 + 163 && cpu->s.gpr[ECX] == 61,
                  "from %x", base);
    }
}

static void addresses_wrap(void)
{
    flat_cpu_reset();
    store32(ram + PAGE_DIR + 4 * 1023, PAGE_TABLE | 7);     /* the last 4 MiB show the first again */
    put_code(CODE, "\x8b\x43\x04\x03\x43\xfc\xf4", 7);      /* mov eax,[ebx+4]; add eax,[ebx-4]; hlt */
    store32(ram + 4, 7);
    store32(ram + PAGE_TABLE + 1023 * 4, DATA | 7);
    store32(ram + DATA + 0xffc, 8);
    cpu->s.gpr[EBX] = 0;
    run_at(CODE);
    CHECK(cpu->s.gpr[EAX] == 15);
}

int main(void)
{
    CHECK(flat_cpu_create());
    if (!test_failed) {
        frames_may_lie_anywhere();
        the_right_access_faults();
        a_read_before_the_refused_write_is_done();
        aliases_are_one_memory();
        mappings_may_change_between();
        sums_are_followed();
        addresses_wrap();
    }
    return test_end();
}
