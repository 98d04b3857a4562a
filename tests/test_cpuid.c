/*
 * CPU models: what CPUID tells of each, features switched on and off, errors, and what the host lacks.
 * Expected values: Intel AP-485 (signatures, brand numbers, cache descriptors), SDM vol. 2 (CPUID, leaf 4).
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <string.h>

static Machine *m;
static Cpu *cpu;
static u32 eax, ebx, ecx, edx;

static bool select_model(const char *model)
{
    Error err = { "" };
    bool ok = x86_model_select(cpu, model, &err);
    CHECK_MSG(ok, "%s: %s", model, err.text);
    return ok;
}

static void cpuid(u32 leaf, u32 sub)
{
    cpu->s.gpr[EAX] = leaf;
    cpu->s.gpr[ECX] = sub;
    CHECK(helper_cpuid(cpu, 0, 0, 0) == X86_NEXT);
    eax = cpu->s.gpr[EAX];
    ebx = cpu->s.gpr[EBX];
    ecx = cpu->s.gpr[ECX];
    edx = cpu->s.gpr[EDX];
}

static void models_have_their_signatures(void)
{
    static const struct { const char *model; u32 signature, last_leaf, some, none; } rows[] = {
        { "486", 0x480, 1, FEAT_FPU, FEAT_TSC | FEAT_CX8 | FEAT_MMX },
        { "pentium", 0x52c, 1, FEAT_TSC | FEAT_CX8 | FEAT_PSE, FEAT_CMOV | FEAT_MMX | FEAT_SEP },
        { "pentium-mmx", 0x543, 1, FEAT_MMX, FEAT_CMOV },
        { "pentium2", 0x652, 2, FEAT_CMOV | FEAT_MMX | FEAT_FXSR | FEAT_SEP | FEAT_PAE, FEAT_SSE },
        { "pentium3", 0x686, 2, FEAT_SSE, FEAT_SSE2 },
        { "pentium4", 0xf29, 2, FEAT_SSE2 | FEAT_CLFLUSH, 0 },
        { "pentiumm", 0x6d8, 6, FEAT_SSE2, 0 },
        { "coreduo", 0x6e8, 6, FEAT_SSE2, 0 },
        { "n270", 0x106c2, 6, FEAT_SSE2, 0 },
        { "Penryn", 0x1067a, 6, FEAT_SSE2, 0 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        if (!select_model(rows[i].model))
            continue;
        cpuid(0, 0);
        CHECK_MSG(eax == rows[i].last_leaf && ebx == 0x756e6547 && edx == 0x49656e69 && ecx == 0x6c65746e,
                  "%s: leaf 0", rows[i].model);
        cpuid(1, 0);
        CHECK_MSG(eax == rows[i].signature, "%s: signature %x", rows[i].model, eax);
        CHECK_MSG((edx & rows[i].some) == rows[i].some && !(edx & rows[i].none), "%s: features %08x",
                  rows[i].model, edx);
        CHECK_MSG(!(edx & FEAT_APIC), "%s: no APIC is connected", rows[i].model);
        CHECK_MSG(!(ecx & (1 << 3 | 1 << 24 | 1 << 26 | 1 << 28)), "no MONITOR, TSC deadline, XSAVE, AVX");
        device_reset(&cpu->dev);
        CHECK_MSG(cpu->s.gpr[EDX] == rows[i].signature, "%s: EDX after reset", rows[i].model);
    }
}

static void brand_strings_and_numbers(void)
{
    char text[49] = "";
    select_model("coreduo");
    cpuid(0x80000000u, 0);
    CHECK(eax == 0x80000004u);
    for (u32 i = 0; i < 3; i++) {
        u32 words[4];
        cpuid(0x80000002u + i, 0);
        words[0] = eax, words[1] = ebx, words[2] = ecx, words[3] = edx;
        memcpy(text + 16 * i, words, 16);
    }
    CHECK_MSG(!strcmp(text, "Genuine Intel(R) CPU T2600"), "%s", text);
    cpuid(0x80000001u, 0);
    CHECK(edx == FEAT3_NX);
    select_model("pentium3");
    cpuid(1, 0);
    CHECK_MSG((ebx & 255) == 2, "a Pentium III has a brand number and no string");
    cpuid(0x80000000u, 0);
    CHECK(eax == 0x80000001u);
    select_model("486");
    cpuid(0x80000000u, 0);
    CHECK_MSG(eax == 0x480, "without extended leaves the last basic one answers");
}

static void caches_are_described(void)
{
    select_model("pentium4");
    cpuid(2, 0);
    CHECK(eax == 0x665b5001 && edx == 0x007b7040);
    select_model("coreduo");
    cpuid(4, 0);
    CHECK_MSG((eax & 0x3ff) == 0x121 && ebx == (7u << 22 | 63) && ecx == 63, "L1 data: 32 KB, 8 ways of 64");
    cpuid(4, 2);
    CHECK_MSG((eax & 0x3ff) == 0x143 && ecx == 4095, "L2: 2 MB");
    CHECK_MSG(!(eax >> 14), "nothing is shared by more than one core");
    cpuid(4, 3);
    CHECK((eax & 31) == 0);
    cpuid(6, 0);
    CHECK_MSG(eax == 0, "no APIC, no timer of its");
    cpuid(3, 0);
    CHECK(!eax && !ebx && !ecx && !edx);
}

static void features_are_switched(void)
{
    Error err = { "" };
    u32 have[FEAT_WORDS];
    x86_host_features(have);
    CHECK(select_model("pentium3,-sse,+nx") && !has(cpu, FEAT_SSE) && cpu->features[2] == FEAT3_NX);
    CHECK(select_model("pentium4,sse3=on,sse2=off") && !has(cpu, FEAT_SSE2));
    CHECK_MSG((cpu->features[1] & FEAT2_SSE3) == (have[1] & FEAT2_SSE3), "as far as the host has it");
    CHECK(select_model("max") && !(cpu->features[1] & ~have[1]) && !(cpu->features[4] & ~have[4]));
    cpuid(7, 0);
    CHECK(ebx == cpu->features[4] && !edx);
    cpuid(7, 1);
    CHECK(!ebx);
    cpuid(0x40000000, 0);
    CHECK_MSG(!eax && !ebx && !ecx && !edx, "no hypervisor introduces itself");
    CHECK(!x86_model_select(cpu, "z80", &err) && strstr(err.text, "z80") && strstr(err.text, "pentium3"));
    CHECK_MSG(!x86_model_select(cpu, "pentum3", &err) && strstr(err.text, "nearest is 'pentium3'"), "%s",
              err.text);
    CHECK(!x86_model_select(cpu, "486,+warp", &err) && strstr(err.text, "warp"));
    CHECK_MSG(!x86_model_select(cpu, "486,+sse4.3", &err) && strstr(err.text, "nearest is 'sse4.1'"), "%s",
              err.text);
    CHECK(!x86_model_select(cpu, "486,sse", &err) && !x86_model_select(cpu, "486,sse=maybe", &err));
    CHECK(!x86_model_select(cpu, "486,", &err));
    CHECK_MSG(strstr(cpu_model_names(), "pentiumm 486 "), "%s", cpu_model_names());
    select_model(NULL);
}

int main(void)
{
    Error err = { "" };
    Config cfg;
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, 1 << 20, &err);
    m->cpu = cpu = cpu_create(m, NULL, &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    if (!cpu)
        return test_end();
    models_have_their_signatures();
    brand_strings_and_numbers();
    caches_are_described();
    features_are_switched();
    return test_end();
}
