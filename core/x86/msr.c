/*
 * Model-specific registers of the P5 and P6 families: what firmware and systems read and write; every other
 * number is #GP(0).
 *
 * Source: Intel SDM vol. 4 (model-specific registers), vol. 3, chapter 11.11 (MTRRs), 11.12 (PAT), 15.3
 * (machine check). Memory types have no effect here: MTRRs and PAT are kept and given back. No performance
 * counter counts.
 */
#include "system.h"

enum {
    MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b, MSR_EBL_CR_POWERON = 0x2a,
    MSR_UPDATE_TRIGGER = 0x79, MSR_BIOS_SIGN = 0x8b, MSR_MTRRCAP = 0xfe, MSR_BBL_CR_CTL3 = 0x11e,
    MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a, MSR_MCG_CTL = 0x17b, MSR_MISC_ENABLE = 0x1a0, MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_VAR = 0x200, MSR_MTRR_FIX64K = 0x250, MSR_MTRR_FIX16K = 0x258, MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277, MSR_MTRR_DEF = 0x2ff, MSR_MC0_CTL = 0x400,
};
#define MSR_EFER 0xc0000080u
enum { MC_BANKS = 5, MTRR_PAIRS = 8 };

/* Fixed-range MTRRs lie at three places. -1: not one of them. */
static int fixed_index(u32 msr)
{
    if (msr == MSR_MTRR_FIX64K)
        return 0;
    if (msr >= MSR_MTRR_FIX16K && msr < MSR_MTRR_FIX16K + 2)
        return (int)(1 + msr - MSR_MTRR_FIX16K);
    if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
        return (int)(3 + msr - MSR_MTRR_FIX4K);
    return -1;
}

/* Registers that are plain storage in this CPU: where, or NULL. */
static u64 *storage(Cpu *cpu, u32 msr)
{
    int fixed = fixed_index(msr);

    if (has(cpu, FEAT_MTRR)) {
        if (fixed >= 0)
            return &cpu->s.mtrr_fixed[fixed];
        if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 2 * MTRR_PAIRS)
            return &cpu->s.mtrr_var[msr - MSR_MTRR_VAR];
        if (msr == MSR_MTRR_DEF)
            return &cpu->s.mtrr_def;
    }
    if (has(cpu, FEAT_PAT) && msr == MSR_PAT)
        return &cpu->s.pat;
    if (has(cpu, FEAT_MCA)) {
        if (msr == MSR_MCG_STATUS)
            return &cpu->s.mcg_status;
        if (msr == MSR_MCG_CTL)
            return &cpu->s.mcg_ctl;
        if (msr >= MSR_MC0_CTL && msr < MSR_MC0_CTL + 4 * MC_BANKS)
            return &cpu->s.mc_bank[msr - MSR_MC0_CTL];
    }
    if (cpu->model->family >= 6 && msr == MSR_MISC_ENABLE)
        return &cpu->s.misc_enable;
    if (cpu->model->family >= 6 && msr == MSR_BIOS_SIGN)
        return &cpu->s.bios_sign;
    return NULL;
}

static u32 *sysenter(Cpu *cpu, u32 msr)
{
    if (!has(cpu, FEAT_SEP))
        return NULL;
    switch (msr) {
    case MSR_SYSENTER_CS: return &cpu->s.sysenter_cs;
    case MSR_SYSENTER_ESP: return &cpu->s.sysenter_esp;
    case MSR_SYSENTER_EIP: return &cpu->s.sysenter_eip;
    default: return NULL;
    }
}

/* The Pentium's two machine check registers. */
static bool is_p5_check(const Cpu *cpu, u32 msr) { return has(cpu, FEAT_MCE) && msr < 2; }

static bool read_msr(Cpu *cpu, u32 msr, u64 *value)
{
    const u64 *plain = storage(cpu, msr);
    const u32 *enter = sysenter(cpu, msr);
    bool p6 = cpu->model->family >= 6;

    *value = 0;
    if (plain) {
        *value = *plain;
    } else if (enter) {
        *value = *enter;
    } else if (msr == MSR_TSC && has(cpu, FEAT_TSC)) {
        *value = clock_tsc(cpu->m);
    } else if (msr == MSR_APIC_BASE && cpu->has_apic && has(cpu, FEAT_APIC)) {
        machine_lock(cpu->m);
        *value = cpu->apic_get(cpu->apic_opaque);
        machine_unlock(cpu->m);
    } else if (msr == MSR_EFER && (cpu->features[2] & FEAT3_NX)) {
        *value = cpu->s.efer;
    } else if (msr == MSR_MTRRCAP && has(cpu, FEAT_MTRR)) {
        *value = 0x500 | MTRR_PAIRS;            /* write-combining, fixed ranges */
    } else if (msr == MSR_MCG_CAP && has(cpu, FEAT_MCA)) {
        *value = 0x100 | MC_BANKS;
    } else if (msr == MSR_EBL_CR_POWERON && p6) {
        *value = 0xc5800000;
    } else {
        return (p6 && (msr == MSR_PLATFORM_ID || msr == MSR_BBL_CR_CTL3 || msr == MSR_DEBUGCTL)) ||
               is_p5_check(cpu, msr);
    }
    return true;
}

static bool valid_type(u64 type) { return type <= 1 || (type >= 4 && type <= 6); }

/* Memory types of 8 fields; PAT also knows 7 (uncached, weak). */
static bool valid_types(u64 value, bool pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        u64 type = value >> i & 0xff;

        if (!valid_type(type) && !(pat && type == 7))
            return false;
    }
    return true;
}

static bool valid_plain(u32 msr, u64 value)
{
    if (fixed_index(msr) >= 0)
        return valid_types(value, false);
    if (msr == MSR_PAT)
        return valid_types(value, true);
    if (msr == MSR_MTRR_DEF)
        return !(value & ~0xcffull) && valid_type(value & 0xff);
    if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 2 * MTRR_PAIRS)
        return msr & 1 ? !(value & 0xfffffff0000007ffull)
                       : !(value & 0xfffffff000000f00ull) && valid_type(value & 0xff);
    if (msr >= MSR_MC0_CTL && msr < MSR_MC0_CTL + 4 * MC_BANKS && (msr & 3))
        return value == 0;
    return true;
}

static bool write_msr(Cpu *cpu, u32 msr, u64 value)
{
    u64 *plain = storage(cpu, msr);
    u32 *enter = sysenter(cpu, msr);
    bool p6 = cpu->model->family >= 6;

    if (plain) {
        if (!valid_plain(msr, value))
            return false;
        *plain = value;
    } else if (enter) {
        *enter = (u32)value;
    } else if (msr == MSR_TSC && has(cpu, FEAT_TSC)) {
        clock_set_tsc(cpu->m, value);
    } else if (msr == MSR_APIC_BASE && cpu->has_apic && has(cpu, FEAT_APIC)) {
        machine_lock(cpu->m);
        cpu->apic_set(cpu->apic_opaque, value);
        machine_unlock(cpu->m);
    } else if (msr == MSR_EFER && (cpu->features[2] & FEAT3_NX)) {
        if (value & ~(u64)EFER_NXE)
            return false;
        cpu->s.efer = value;
        tlb_flush(cpu, true);
    } else {
        return (p6 && (msr == MSR_UPDATE_TRIGGER || msr == MSR_EBL_CR_POWERON || msr == MSR_BBL_CR_CTL3 ||
                       msr == MSR_DEBUGCTL)) || is_p5_check(cpu, msr);
    }
    return true;
}

u32 HELPER helper_rdmsr(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u64 value;
    (void)ea;
    (void)desc;
    (void)imm;

    if (cpu->s.cpl || !read_msr(cpu, cpu->s.gpr[ECX], &value))
        x86_raise_error(cpu, VEC_GP, 0);
    cpu->s.gpr[EAX] = (u32)value;
    cpu->s.gpr[EDX] = (u32)(value >> 32);
    return X86_NEXT;
}

u32 HELPER helper_wrmsr(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u64 value = (u64)cpu->s.gpr[EDX] << 32 | cpu->s.gpr[EAX];
    (void)ea;
    (void)imm;

    if (cpu->s.cpl || !write_msr(cpu, cpu->s.gpr[ECX], value))
        x86_raise_error(cpu, VEC_GP, 0);
    return leave_next(cpu, desc);
}
