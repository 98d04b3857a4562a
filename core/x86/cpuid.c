/*
 * CPU models and CPUID.
 *
 * Source: Intel application note AP-485 (processor identification), SDM vol. 2 (CPUID). A model names what
 * the real chip had and what this program does; performance monitoring, thermal control, MONITOR and 64-bit
 * mode are never offered. Instructions that are copied to the host are offered only if the host has them.
 */
#include "system.h"

#include "../vm/log.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

enum {
    F_486 = FEAT_FPU,
    F_P5 = FEAT_FPU | FEAT_VME | FEAT_DE | FEAT_PSE | FEAT_TSC | FEAT_MSR | FEAT_MCE | FEAT_CX8 | FEAT_APIC,
    F_P2 = F_P5 | FEAT_PAE | FEAT_SEP | FEAT_MTRR | FEAT_PGE | FEAT_MCA | FEAT_CMOV | FEAT_PAT | FEAT_PSE36 |
           FEAT_MMX | FEAT_FXSR,
    F_P3 = F_P2 | FEAT_SSE,
    F_P4 = F_P3 | FEAT_SSE2 | FEAT_CLFLUSH,
};
#define F2_CORE2    (FEAT2_SSE3 | FEAT2_SSSE3)
#define F2_NEHALEM  (F2_CORE2 | FEAT2_SSE41 | FEAT2_SSE42 | FEAT2_POPCNT)
#define F2_WESTMERE (F2_NEHALEM | FEAT2_AES | FEAT2_PCLMUL)
#define F2_MAX      (F2_WESTMERE | FEAT2_MOVBE | FEAT2_RDRAND | FEAT2_HYPERVISOR)
#define F7_MAX      (FEAT7_ERMS | FEAT7_RDSEED | FEAT7_ADX | FEAT7_CLFLUSHOPT | FEAT7_SHA)

static const CacheLevel cache_2m[] = { { 1, 1, 32, 8, 64 }, { 2, 1, 32, 8, 64 }, { 3, 2, 2048, 8, 64 }, { 0 } };
static const CacheLevel cache_4m[] = { { 1, 1, 32, 8, 64 }, { 2, 1, 32, 8, 64 }, { 3, 2, 4096, 16, 64 }, { 0 } };
static const CacheLevel cache_6m[] = { { 1, 1, 32, 8, 64 }, { 2, 1, 32, 8, 64 }, { 3, 2, 6144, 24, 64 }, { 0 } };
static const CacheLevel cache_8m[] = {
    { 1, 1, 32, 8, 64 }, { 2, 1, 32, 4, 64 }, { 3, 2, 256, 8, 64 }, { 3, 3, 8192, 16, 64 }, { 0 },
};
static const CacheLevel cache_atom[] = {
    { 1, 1, 24, 6, 64 }, { 2, 1, 32, 8, 64 }, { 3, 2, 512, 8, 64 }, { 0 },
};

/*
 * The first row is the default. It is a Pentium M: what a Pentium III is, with SSE2. Its leaves go on to 6,
 * which tells a guest that it may sleep between two timer interrupts: an idle Linux then has no tick.
 */
static const CpuModel models[] = {
    { "pentiumm", 6, 13, 8, 0x16, 6, { F_P4 }, "Intel(R) Pentium(R) M processor",
      { 0x02b3b001, 0xf0, 0x2c04307d }, cache_2m },
    { "486", 4, 8, 0, 0, 1, { F_486 }, NULL, { 0 }, NULL },
    { "pentium", 5, 2, 12, 0, 1, { F_P5 }, NULL, { 0 }, NULL },
    { "pentium-mmx", 5, 4, 3, 0, 1, { F_P5 | FEAT_MMX }, NULL, { 0 }, NULL },
    { "pentium2", 6, 5, 2, 0, 2, { F_P2 }, NULL, { 0x03020101, 0, 0x0c040843 }, NULL },
    { "pentium3", 6, 8, 6, 2, 2, { F_P3 }, NULL, { 0x03020101, 0, 0x0c040882 }, NULL },
    { "pentium4", 15, 2, 9, 9, 2, { F_P4 }, "Intel(R) Pentium(R) 4 CPU", { 0x665b5001, 0, 0x007b7040 }, NULL },
    { "coreduo", 6, 14, 8, 0, 6, { F_P4, FEAT2_SSE3, FEAT3_NX }, "Genuine Intel(R) CPU T2600",
      { 0x02b3b001, 0xf0, 0x2c04307d }, cache_2m },
    { "n270", 6, 28, 2, 0, 6, { F_P4, F2_CORE2 | FEAT2_MOVBE, FEAT3_NX }, "Intel(R) Atom(TM) CPU N270",
      { 0x4fba5901, 0, 0x0e3080c0 }, cache_atom },
    { "core2duo", 6, 15, 11, 0, 6, { F_P4, F2_CORE2, FEAT3_NX }, "Intel(R) Core(TM)2 Duo CPU T7700",
      { 0x05b0b101, 0x005657f0, 0x2cb43049 }, cache_4m },
    { "penryn", 6, 23, 10, 0, 6, { F_P4, F2_CORE2 | FEAT2_SSE41, FEAT3_NX }, "Intel(R) Core(TM)2 Duo CPU P9500",
      { 0x05b0b101, 0x005657f0, 0x2cb4304e }, cache_6m },
    { "nehalem", 6, 26, 3, 0, 6, { F_P4, F2_NEHALEM, FEAT3_NX }, "Intel Core i7 9xx (Nehalem)",
      { 0x55035a01, 0x00f0b2e4, 0x09ca212c }, cache_8m },
    { "westmere", 6, 44, 1, 0, 6, { F_P4, F2_WESTMERE, FEAT3_NX }, "Westmere E56xx/L56xx/X56xx",
      { 0x55035a01, 0x00f0b2ff, 0x00ca0000 }, cache_8m },
    { "qemu32", 6, 6, 3, 0, 6, { F_P4, FEAT2_SSE3 | FEAT2_HYPERVISOR }, "QEMU Virtual CPU",
      { 0x03020101, 0, 0x0c040843 }, cache_2m },
    { "max", 6, 14, 12, 0, 7, { F_P4, F2_MAX, FEAT3_NX, 0, F7_MAX }, "Virtual CPU",
      { 0x02b3b001, 0xf0, 0x2c04307d }, cache_2m },
};
static const struct { const char *alias, *name; } aliases[] = {
    { "default", "pentiumm" }, { "i486", "486" }, { "i586", "pentium" }, { "i686", "pentium2" },
    { "base", "486" }, { "host", "max" }, { "kvm32", "qemu32" }, { "qemu64", "qemu32" },
    { "kvm64", "qemu32" }, { "conroe", "core2duo" },
};

/* Names of features for "+f,-f"; word: index into features[]. The first name of a bit is its own. */
static const struct { const char *name; u8 word, bit; } feature_names[] = {
    { "fpu", 0, 0 }, { "vme", 0, 1 }, { "de", 0, 2 }, { "pse", 0, 3 }, { "tsc", 0, 4 }, { "msr", 0, 5 }, { "pae", 0, 6 },
    { "mce", 0, 7 }, { "cx8", 0, 8 }, { "apic", 0, 9 }, { "sep", 0, 11 }, { "mtrr", 0, 12 },
    { "pge", 0, 13 }, { "mca", 0, 14 }, { "cmov", 0, 15 }, { "pat", 0, 16 }, { "pse36", 0, 17 },
    { "clflush", 0, 19 }, { "mmx", 0, 23 }, { "fxsr", 0, 24 }, { "sse", 0, 25 }, { "sse2", 0, 26 },
    { "sse3", 1, 0 }, { "pni", 1, 0 }, { "pclmulqdq", 1, 1 }, { "pclmuldq", 1, 1 }, { "ssse3", 1, 9 },
    { "sse4.1", 1, 19 }, { "sse4_1", 1, 19 }, { "sse4.2", 1, 20 }, { "sse4_2", 1, 20 },
    { "movbe", 1, 22 }, { "popcnt", 1, 23 }, { "aes", 1, 25 }, { "rdrand", 1, 30 },
    { "hypervisor", 1, 31 }, { "nx", 2, 20 }, { "erms", 4, 9 }, { "rdseed", 4, 18 }, { "adx", 4, 19 },
    { "clflushopt", 4, 23 }, { "sha-ni", 4, 29 }, { "sha_ni", 4, 29 },
};

/* ---- choosing ---- */

/* Bits that stand for instructions which run on the host as they are. */
static const u32 from_host[FEAT_WORDS] = {
    0, F2_MAX & ~FEAT2_HYPERVISOR, 0, 0, FEAT7_RDSEED | FEAT7_ADX | FEAT7_SHA,
};

void x86_host_features(u32 have[FEAT_WORDS])
{
    u32 a, b, c, d;

    for (unsigned i = 0; i < FEAT_WORDS; i++)
        have[i] = ~from_host[i];
    if (__get_cpuid(1, &a, &b, &c, &d))
        have[1] |= c & from_host[1];
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        have[4] |= b & from_host[4];
}

static const char *feature_name(unsigned word, unsigned bit)
{
    for (unsigned i = 0; i < ARRAY_LEN(feature_names); i++) {
        if (feature_names[i].word == word && feature_names[i].bit == bit)
            return feature_names[i].name;
    }
    return "?";
}

/* The model "max" asks for what there is; whoever asks by name is told what he doesn't get. */
static void keep_what_host_has(Cpu *cpu, bool quiet)
{
    u32 have[FEAT_WORDS];
    char list[160] = "";
    size_t at = 0;

    x86_host_features(have);
    for (unsigned word = 0; word < FEAT_WORDS; word++) {
        u32 lacks = cpu->features[word] & ~have[word];

        cpu->features[word] &= have[word];
        for (; lacks && at < sizeof(list); lacks &= lacks - 1)
            at += (size_t)snprintf(list + at, sizeof(list) - at, " %s",
                                   feature_name(word, (unsigned)__builtin_ctz(lacks)));
    }
    if (*list && !quiet)
        log_line("-cpu: not offered, because this computer's processor lacks it:%s", list);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static bool same_name(const char *name, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (lower(text[i]) != name[i])
            return false;
    }
    return !name[len];
}

/* How many letters must change, come or go to make one of the other (Levenshtein). */
static unsigned distance(const char *name, const char *text, size_t len)
{
    unsigned row[40];
    size_t width = strlen(name) < 39 ? strlen(name) : 39;

    for (unsigned i = 0; i <= width; i++)
        row[i] = i;
    for (size_t k = 0; k < len; k++) {
        unsigned diagonal = row[0]++;

        for (size_t i = 1; i <= width; i++) {
            unsigned change = diagonal + (name[i - 1] != lower(text[k]));

            diagonal = row[i];
            row[i] = row[i] < row[i - 1] ? row[i] + 1 : row[i - 1] + 1;
            row[i] = change < row[i] ? change : row[i];
        }
    }
    return row[width];
}

static bool unknown_feature(const char *text, size_t len, Error *err)
{
    const char *best = feature_names[0].name;

    for (unsigned i = 1; i < ARRAY_LEN(feature_names); i++) {
        if (distance(feature_names[i].name, text, len) < distance(best, text, len))
            best = feature_names[i].name;
    }
    return error_set(err, "-cpu: this program has no CPU feature '%.*s'; the nearest is '%s'", (int)len, text,
                     best);
}

static bool set_feature(Cpu *cpu, const char *name, size_t len, bool on, Error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(feature_names); i++) {
        u32 *word = &cpu->features[feature_names[i].word], bit = 1u << feature_names[i].bit;

        if (!same_name(feature_names[i].name, name, len))
            continue;
        *word = on ? *word | bit : *word & ~bit;
        return true;
    }
    return unknown_feature(name, len, err);
}

/* "+sse3", "-sse3", "sse3=on", "sse3=off" */
static bool apply_feature(Cpu *cpu, const char *item, size_t len, Error *err)
{
    const char *equals = memchr(item, '=', len);
    size_t value = equals ? len - (size_t)(equals + 1 - item) : 0;

    if (len && (item[0] == '+' || item[0] == '-'))
        return set_feature(cpu, item + 1, len - 1, item[0] == '+', err);
    if (equals && value == 2 && !memcmp(equals, "=on", 3))
        return set_feature(cpu, item, (size_t)(equals - item), true, err);
    if (equals && value == 3 && !memcmp(equals, "=off", 4))
        return set_feature(cpu, item, (size_t)(equals - item), false, err);
    return error_set(err, "-cpu: '%.*s' is neither +feature nor -feature", (int)len, item);
}

static const CpuModel *find_model(const char *name, size_t len)
{
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++) {
        if (same_name(aliases[i].alias, name, len))
            return find_model(aliases[i].name, strlen(aliases[i].name));
    }
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        if (same_name(models[i].name, name, len))
            return &models[i];
    }
    return NULL;
}

static bool unknown_model(const char *text, size_t len, Error *err)
{
    const char *best = models[0].name;

    for (unsigned i = 1; i < ARRAY_LEN(models); i++) {
        if (distance(models[i].name, text, len) < distance(best, text, len))
            best = models[i].name;
    }
    return error_set(err, "-cpu: unknown model '%.*s'; the nearest is '%s' (known are %s)", (int)len, text, best,
                     cpu_model_names());
}

const char *cpu_model_names(void)
{
    static char list[256];
    size_t at = 0;

    for (unsigned i = 0; i < ARRAY_LEN(models); i++)
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", i ? " " : "", models[i].name);
    return list;
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
    keep_what_host_has(cpu, cpu->model == find_model("max", 3));
    for (model += len; *model == ','; model += len) {
        model++;
        len = strcspn(model, ",");
        if (!apply_feature(cpu, model, len, err))
            return false;
    }
    keep_what_host_has(cpu, false);
    return true;
}

/* ---- the instruction ---- */

static void answer(Cpu *cpu, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
    cpu->s.gpr[EAX] = eax;
    cpu->s.gpr[EBX] = ebx;
    cpu->s.gpr[ECX] = ecx;
    cpu->s.gpr[EDX] = edx;
}

static void brand(Cpu *cpu, u32 leaf)
{
    char text[48] = { 0 };
    const char *part = text + 16 * leaf;

    strncpy(text, cpu->model->brand, sizeof(text) - 1);
    answer(cpu, load32(part), load32(part + 4), load32(part + 8), load32(part + 12));
}

u32 x86_signature(const Cpu *cpu)
{
    const CpuModel *m = cpu->model;

    return (u32)(m->model >> 4) << 16 | (u32)m->family << 8 | (m->model & 15u) << 4 | m->stepping;
}

static void basic_features(Cpu *cpu)
{
    u32 flush = has(cpu, FEAT_CLFLUSH) ? 8 << 8 : 0;    /* 64 bytes, in units of 8 */

    answer(cpu, x86_signature(cpu), flush | cpu->model->brand_id, cpu->features[1],
           cpu->features[0] & (cpu->has_apic ? ~0u : ~(u32)FEAT_APIC));
}

static void cache_geometry(Cpu *cpu, u32 index)
{
    const CacheLevel *c = cpu->model->levels;

    for (; c && c->type && index; index--)
        c++;
    if (!c || !c->type) {
        answer(cpu, 0, 0, 0, 0);
        return;
    }
    answer(cpu, c->type | (u32)c->level << 5 | 1 << 8, (c->line - 1u) | (c->ways - 1u) << 22,
           c->kbytes * 1024u / (c->ways * c->line) - 1, 0);
}

u32 HELPER helper_cpuid(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    const CpuModel *m = cpu->model;
    u32 leaf = cpu->s.gpr[EAX], basic = m->max_leaf, extended = m->brand ? 0x80000004u : 0x80000001u;
    (void)ea;
    (void)desc;
    (void)imm;

    if (leaf >> 16 == 0x4000 && (cpu->features[1] & FEAT2_HYPERVISOR))
        leaf = 3;               /* no hypervisor's interface: empty, like leaf 3 */
    else if (leaf >= 0x80000000u ? (leaf > extended || m->family < 5) : leaf > basic)
        leaf = basic;           /* beyond the last: the last basic leaf */
    switch (leaf) {
    case 0: answer(cpu, basic, 0x756e6547, 0x6c65746e, 0x49656e69); break;      /* "GenuineIntel" */
    case 1: basic_features(cpu); break;
    case 2: answer(cpu, m->cache[0], 0, m->cache[1], m->cache[2]); break;
    case 4: cache_geometry(cpu, cpu->s.gpr[ECX]); break;
    case 6: answer(cpu, cpu->has_apic ? 1 << 2 : 0, 0, 0, 0); break;    /* ARAT: its timer never sleeps */
    case 7: answer(cpu, 0, cpu->s.gpr[ECX] ? 0 : cpu->features[4], 0, 0); break;
    case 0x80000000u: answer(cpu, extended, 0, 0, 0); break;
    case 0x80000001u: answer(cpu, 0, 0, cpu->features[3], cpu->features[2]); break;
    case 0x80000002u:
    case 0x80000003u:
    case 0x80000004u: brand(cpu, leaf - 0x80000002u); break;
    default: answer(cpu, 0, 0, 0, 0); break;    /* 3: serial number, 5: MONITOR: none of these */
    }
    return X86_NEXT;
}
