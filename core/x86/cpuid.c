/*
 * CPU models and CPUID.
 *
 * Source: Intel application note AP-485 (processor identification), SDM vol. 2 (CPUID). A model names what
 * the real chip had and what this program does; VME, performance monitoring and thermal control are never
 * offered.
 */
#include "system.h"

#include <stdio.h>
#include <string.h>

enum {
    F_486 = FEAT_FPU,
    F_P5 = FEAT_FPU | FEAT_DE | FEAT_PSE | FEAT_TSC | FEAT_MSR | FEAT_MCE | FEAT_CX8 | FEAT_APIC,
    F_P2 = F_P5 | FEAT_PAE | FEAT_SEP | FEAT_MTRR | FEAT_PGE | FEAT_MCA | FEAT_CMOV | FEAT_PAT | FEAT_PSE36 |
           FEAT_MMX | FEAT_FXSR,
    F_P3 = F_P2 | FEAT_SSE,
    F_P4 = F_P3 | FEAT_SSE2 | FEAT_CLFLUSH,
};

/*
 * The first row is the default. It is a Pentium M: what a Pentium III is, with SSE2. Its leaves go on to 6,
 * which tells a guest that it may sleep between two timer interrupts: an idle Linux then has no tick.
 */
static const CpuModel models[] = {
    { "pentiumm", 6, 13, 8, 6, { F_P4, 0, 0, 0 }, "Intel(R) Pentium(R) M processor",
      { 0x02b3b001, 0xf0, 0x2c04307d } },
    { "486", 4, 8, 0, 1, { F_486, 0, 0, 0 }, NULL, { 0, 0, 0 } },
    { "pentium", 5, 2, 12, 1, { F_P5, 0, 0, 0 }, NULL, { 0, 0, 0 } },
    { "pentium-mmx", 5, 4, 3, 1, { F_P5 | FEAT_MMX, 0, 0, 0 }, NULL, { 0, 0, 0 } },
    { "pentium2", 6, 5, 2, 2, { F_P2, 0, 0, 0 }, NULL, { 0x03020101, 0, 0x0c040843 } },
    { "pentium3", 6, 8, 6, 2, { F_P3, 0, 0, 0 }, NULL, { 0x03020101, 0, 0x0c040882 } },
    { "pentium4", 15, 2, 9, 2, { F_P4, 0, 0, 0 }, "Intel(R) Pentium(R) 4 CPU",
      { 0x665b5001, 0, 0x007b7040 } },
    { "coreduo", 6, 14, 8, 6, { F_P4, 0, FEAT3_NX, 0 }, "Genuine Intel(R) CPU T2600",
      { 0x02b3b001, 0xf0, 0x2c04307d } },
    { "qemu32", 6, 6, 3, 6, { F_P4, FEAT2_HYPERVISOR, 0, 0 }, "QEMU Virtual CPU",
      { 0x03020101, 0, 0x0c040843 } },
    { "max", 6, 14, 12, 6, { F_P4, FEAT2_HYPERVISOR, FEAT3_NX, 0 }, "Virtual CPU",
      { 0x02b3b001, 0xf0, 0x2c04307d } },
};
static const struct { const char *alias, *name; } aliases[] = {
    { "default", "pentiumm" }, { "i486", "486" }, { "i586", "pentium" }, { "i686", "pentium2" },
    { "base", "486" }, { "host", "max" }, { "kvm32", "qemu32" }, { "qemu64", "qemu32" },
    { "kvm64", "qemu32" }, { "n270", "coreduo" },
};

/* Names of features for "+f,-f"; word: index into features[]. */
static const struct { const char *name; u8 word, bit; } feature_names[] = {
    { "fpu", 0, 0 }, { "de", 0, 2 }, { "pse", 0, 3 }, { "tsc", 0, 4 }, { "msr", 0, 5 }, { "pae", 0, 6 },
    { "mce", 0, 7 }, { "cx8", 0, 8 }, { "apic", 0, 9 }, { "sep", 0, 11 }, { "mtrr", 0, 12 },
    { "pge", 0, 13 }, { "mca", 0, 14 }, { "cmov", 0, 15 }, { "pat", 0, 16 }, { "pse36", 0, 17 },
    { "mmx", 0, 23 }, { "fxsr", 0, 24 }, { "sse", 0, 25 }, { "sse2", 0, 26 }, { "hypervisor", 1, 31 },
    { "nx", 2, 20 },
};

static bool apply_feature(Cpu *cpu, const char *item, size_t len, Error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(feature_names); i++) {
        u32 bit = 1u << feature_names[i].bit;

        if (strlen(feature_names[i].name) != len - 1 || memcmp(feature_names[i].name, item + 1, len - 1) != 0)
            continue;
        if (item[0] == '+')
            cpu->features[feature_names[i].word] |= bit;
        else
            cpu->features[feature_names[i].word] &= ~bit;
        return true;
    }
    return error_set(err, "-cpu: unknown or unsupported feature '%.*s'", (int)len, item);
}

static const CpuModel *find_model(const char *name, size_t len)
{
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strlen(aliases[i].alias) == len && memcmp(aliases[i].alias, name, len) == 0)
            return find_model(aliases[i].name, strlen(aliases[i].name));
    }
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        if (strlen(models[i].name) == len && memcmp(models[i].name, name, len) == 0)
            return &models[i];
    }
    return NULL;
}

static bool unknown_model(const char *name, size_t len, Error *err)
{
    char list[256] = "";
    size_t at = 0;

    for (unsigned i = 0; i < ARRAY_LEN(models); i++)
        at += (size_t)snprintf(list + at, sizeof(list) - at, " %s", models[i].name);
    return error_set(err, "-cpu: unknown model '%.*s'; known are%s", (int)len, name, list);
}

bool x86_model_select(Cpu *cpu, const char *model, Error *err)
{
    size_t len;

    if (!model || !*model)
        model = models[0].name;
    len = strcspn(model, ",");
    cpu->model = find_model(model, len);
    if (!cpu->model)
        return unknown_model(model, len, err);
    memcpy(cpu->features, cpu->model->features, sizeof(cpu->features));
    for (model += len; *model == ','; model += len) {
        model++;
        len = strcspn(model, ",");
        if (len && model[0] != '+' && model[0] != '-')
            return error_set(err, "-cpu: '%.*s' is neither +feature nor -feature", (int)len, model);
        if (len && !apply_feature(cpu, model, len, err))
            return false;
    }
    return true;
}

/* ---- the instruction ---- */

static void brand(Cpu *cpu, u32 leaf)
{
    char text[48] = { 0 };
    u32 *r = cpu->s.gpr;

    strncpy(text, cpu->model->brand, sizeof(text) - 1);
    r[EAX] = load32(text + 16 * leaf);
    r[EBX] = load32(text + 16 * leaf + 4);
    r[ECX] = load32(text + 16 * leaf + 8);
    r[EDX] = load32(text + 16 * leaf + 12);
}

u32 HELPER helper_cpuid(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    const CpuModel *m = cpu->model;
    u32 *r = cpu->s.gpr, leaf = r[EAX], basic = m->max_leaf, extended = m->brand ? 0x80000004u : 0x80000001u;
    (void)ea;
    (void)desc;
    (void)imm;

    if (leaf >= 0x80000000u ? (leaf > extended || m->family < 5) : leaf > basic)
        leaf = basic;           /* beyond the last: the last basic leaf */
    switch (leaf) {
    case 0:
        r[EAX] = basic;
        r[EBX] = 0x756e6547;    /* "GenuineIntel" */
        r[EDX] = 0x49656e69;
        r[ECX] = 0x6c65746e;
        break;
    case 1:
        r[EAX] = (u32)m->family << 8 | (u32)m->model << 4 | m->stepping;
        r[EBX] = has(cpu, FEAT_CLFLUSH) ? 8 << 8 : 0;
        r[ECX] = cpu->features[1];
        r[EDX] = cpu->features[0] & (cpu->has_apic ? ~0u : ~(u32)FEAT_APIC);
        break;
    case 2:
        r[EAX] = m->cache[0];
        r[EBX] = 0;
        r[ECX] = m->cache[1];
        r[EDX] = m->cache[2];
        break;
    case 6:
        r[EAX] = cpu->has_apic ? 1 << 2 : 0;    /* ARAT: the local APIC's timer runs while the CPU sleeps */
        r[EBX] = r[ECX] = r[EDX] = 0;
        break;
    case 0x80000000u:
        r[EAX] = extended;
        r[EBX] = r[ECX] = r[EDX] = 0;
        break;
    case 0x80000001u:
        r[EAX] = r[EBX] = 0;
        r[ECX] = cpu->features[3];
        r[EDX] = cpu->features[2];
        break;
    case 0x80000002u:
    case 0x80000003u:
    case 0x80000004u:
        brand(cpu, leaf - 0x80000002u);
        break;
    default:                    /* 3 to 5: serial number, cache geometry, MONITOR: none of these */
        r[EAX] = r[EBX] = r[ECX] = r[EDX] = 0;
        break;
    }
    return X86_NEXT;
}
