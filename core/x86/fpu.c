/*
 * The guest's floating-point state in the host's registers, and FLDENV FNSTENV FRSTOR FNSAVE FXSAVE FXRSTOR
 * MASKMOV. Source: Intel SDM volume 1, 8.1.10 (x87 state images) and 10.5 (FXSAVE); volume 2.
 *
 * XMM0-7 of the guest are xmm8-15 of the host. Where C code may clobber those (everywhere but on Windows),
 * thunks keep them in s.fx while C runs, and that copy counts here. The last instruction's pointer is found
 * from the host's through the side tables. Not modelled: last data pointer and opcode (zero), as on
 * processors that keep them only for unmasked exceptions.
 */
#include "fpu.h"

#include "block.h"
#include "system.h"

enum { FX_MXCSR = 24, FX_MXCSR_MASK = 28, FX_ST = 32, FX_XMM = 160, FX_XMM8 = 288, XMM_BYTES = 128 };
enum { MXCSR_DEFAULT = 0x1f80, MXCSR_MASK_DEFAULT = 0xffbf };

static void save_registers(FxImage *to) { __asm__ volatile("fxsave64 %0" : "=m"(*to)); }
static void load_registers(const FxImage *from) { __asm__ volatile("fxrstor64 %0" : : "m"(*from)); }

static u32 mxcsr_mask(void)
{
    FxImage now;
    save_registers(&now);
    u32 mask = load32(now.bytes + FX_MXCSR_MASK);
    return mask ? mask : MXCSR_MASK_DEFAULT;
}

/* A guest's image as the host loads it: XMM0-7 to their host places, pointers gone, nothing reserved in
 * MXCSR. */
static void to_host(FxImage *host, const u8 *guest)
{
    u32 mask = mxcsr_mask();
    *host = (FxImage){ { 0 } };
    __builtin_memcpy(host->bytes, guest, 6);           /* not the last opcode: the host's differs */
    store32(host->bytes + FX_MXCSR, load32(guest + FX_MXCSR) & mask);
    __builtin_memcpy(host->bytes + FX_ST, guest + FX_ST, XMM_BYTES);
    __builtin_memcpy(host->bytes + FX_XMM8, guest + FX_XMM, XMM_BYTES);
}

/* The registers as the guest's image; its other bytes are zero. */
static void from_host(const Cpu *cpu, u8 *guest, u32 mask)
{
    FxImage host;
    save_registers(&host);
#ifdef _WIN32
    const u8 *xmm = host.bytes + FX_XMM8;
    (void)cpu;
#else
    const u8 *xmm = cpu->s.fx + FX_XMM;
#endif
    u8 kept[XMM_BYTES];
    __builtin_memcpy(kept, xmm, XMM_BYTES);
    __builtin_memset(guest, 0, 512);
    __builtin_memcpy(guest, host.bytes, 6);
    store32(guest + FX_MXCSR, load32(host.bytes + FX_MXCSR));
    store32(guest + FX_MXCSR_MASK, mask);
    __builtin_memcpy(guest + FX_ST, host.bytes + FX_ST, XMM_BYTES);
    __builtin_memcpy(guest + FX_XMM, kept, XMM_BYTES);
}

void fpu_load(Cpu *cpu, FxImage *host)
{
    FxImage image;
    save_registers(host);
    to_host(&image, cpu->s.fx);
    load_registers(&image);
}

void fpu_store(Cpu *cpu, const FxImage *host)
{
    from_host(cpu, cpu->s.fx, load32(host->bytes + FX_MXCSR_MASK));
    load_registers(host);
}

/* ---- images of FNSTENV and FNSAVE ---- */

/* As FNSTENV stores it in 64-bit mode: the 32-bit protected form. */
typedef struct { u32 control, status, tag, ip, cs_opcode, dp, ds; } Env;
typedef struct {
    Env env;
    u8 st[80];
} __attribute__((packed)) Save;

/* Guest EIP of the x87 instruction at the host address whose low half is known; 0: not one of ours. */
static u32 guest_ip(const Cpu *cpu, u32 host_low)
{
    BlockCache *bc = cpu->blocks;
    const u8 *pc = bc->code + (host_low - (u32)(uintptr_t)bc->code);
    const Block *b = pc < bc->code_next ? blocks_at(bc, pc) : NULL;
    for (unsigned i = 0; b && i < b->fault_count; i++)
        if (b->code + b->faults[i].host_offset == pc)
            return b->faults[i].eip;
    return 0;
}

static bool real_format(const Cpu *cpu) { return !(cpu->mode & MODE_PROT); }

static unsigned write_env(const Cpu *cpu, u8 *out, const Env *e, unsigned opsize)
{
    u32 ip = guest_ip(cpu, e->ip), cs = ip ? cpu->s.seg[CS].sel : 0;
    if (real_format(cpu))
        ip += cs << 4;
    if (opsize == 4) {
        u32 words[7] = {
            0xffff0000u | e->control, 0xffff0000u | e->status, 0xffff0000u | e->tag, ip, cs, 0, 0xffff0000u};
        if (real_format(cpu)) {
            words[3] = 0xffff0000u | (ip & 0xffff);
            words[4] = ip >> 16 << 12;
            words[6] = 0;
        }
        __builtin_memcpy(out, words, sizeof words);
        return sizeof words;
    }
    u16 words[7] = { (u16)e->control, (u16)e->status, (u16)e->tag, (u16)ip, (u16)cs, 0, 0 };
    if (real_format(cpu))
        words[4] = (u16)(ip >> 16 << 12);
    __builtin_memcpy(out, words, sizeof words);
    return sizeof words;
}

static unsigned read_env(const u8 *in, Env *e, unsigned opsize)
{
    unsigned step = opsize;
    *e = (Env){ .control = load16(in), .status = load16(in + step), .tag = load16(in + 2 * step) };
    return 7 * opsize;
}

static u32 done(Cpu *cpu, u32 desc) { return go_on(cpu, desc, access_commit(cpu)); }

u32 HELPER helper_fnstenv(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Env e;
    unsigned opsize = desc_size(desc);
    u8 *to = access_prepare(cpu, (int)desc_seg(desc), ea, 7 * opsize, 2);
    (void)imm;
    __asm__ volatile("fnstenv %0" : "=m"(e));
    e.control &= 0xffff;
    e.status &= 0xffff;
    e.tag &= 0xffff;
    write_env(cpu, to, &e, opsize);
    return done(cpu, desc);
}

/*
 * FLDENV and FRSTOR wait: an unmasked exception that is pending comes first, and here the host must not be
 * the one to raise it. True: leave for the dispatcher.
 */
static bool error_pending(Cpu *cpu)
{
    u16 status;
    __asm__ volatile("fnstsw %0" : "=m"(status));
    if (!(status & 0x80))
        return false;
    if (x86_fpu_error(cpu))
        return true;
    __asm__ volatile("fnclex");         /* IGNNE# */
    return false;
}

u32 HELPER helper_fldenv(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Env e;
    unsigned opsize = desc_size(desc);
    (void)imm;
    if (error_pending(cpu))
        return X86_EXIT;
    read_env(access_prepare(cpu, (int)desc_seg(desc), ea, 7 * opsize, 1), &e, opsize);
    __asm__ volatile("fldenv %0" : : "m"(e));
    return X86_NEXT;
}

u32 HELPER helper_fnsave(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Save s;
    unsigned opsize = desc_size(desc);
    u8 *to = access_prepare(cpu, (int)desc_seg(desc), ea, 7 * opsize + sizeof s.st, 2);
    (void)imm;
    __asm__ volatile("fnsave %0" : "=m"(s));
    Env e = s.env;
    e.control &= 0xffff;
    e.status &= 0xffff;
    e.tag &= 0xffff;
    to += write_env(cpu, to, &e, opsize);
    __builtin_memcpy(to, s.st, sizeof s.st);
    return done(cpu, desc);
}

u32 HELPER helper_frstor(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    Save s;
    Env e;
    unsigned opsize = desc_size(desc);
    const u8 *from;
    (void)imm;
    if (error_pending(cpu))
        return X86_EXIT;
    from = access_prepare(cpu, (int)desc_seg(desc), ea, 7 * opsize + sizeof s.st, 1);
    from += read_env(from, &e, opsize);
    s.env = e;
    __builtin_memcpy(s.st, from, sizeof s.st);
    __asm__ volatile("frstor %0" : : "m"(s));
    return X86_NEXT;
}

/* ---- FXSAVE, FXRSTOR ---- */

static u8 *fx_operand(Cpu *cpu, u32 ea, u32 desc, unsigned kind)
{
    if ((cpu->s.seg[desc_seg(desc)].base + ea) & 15)
        x86_raise_error(cpu, VEC_GP, 0);
    return access_prepare(cpu, (int)desc_seg(desc), ea, 512, kind);
}

u32 HELPER helper_fxsave(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u8 image[512];
    u8 *to = fx_operand(cpu, ea, desc, 3);
    (void)imm;
    from_host(cpu, image, has(cpu, FEAT_SSE) ? mxcsr_mask() : 0);
    /* Bytes behind XMM7 are reserved and stay as they are. */
    __builtin_memcpy(to, image, has(cpu, FEAT_SSE) ? FX_XMM + XMM_BYTES : FX_XMM);
    return done(cpu, desc);
}

u32 HELPER helper_fxrstor(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    FxImage guest, host;
    (void)imm;
    __builtin_memcpy(guest.bytes, fx_operand(cpu, ea, desc, 1), 512);
    if (!has(cpu, FEAT_SSE)) {
        FxImage now;
        from_host(cpu, now.bytes, 0);
        __builtin_memcpy(guest.bytes + FX_MXCSR, now.bytes + FX_MXCSR, 8);
        __builtin_memcpy(guest.bytes + FX_XMM, now.bytes + FX_XMM, XMM_BYTES);
    } else if (load32(guest.bytes + FX_MXCSR) & ~mxcsr_mask()) {
        x86_raise_error(cpu, VEC_GP, 0);
    }
    to_host(&host, guest.bytes);
    load_registers(&host);
    __builtin_memcpy(cpu->s.fx + FX_XMM, guest.bytes + FX_XMM, XMM_BYTES);
    return X86_NEXT;
}

/* ---- MASKMOVQ, MASKMOVDQU: bytes of one register, where another's sign bits say so, to DS:EDI ---- */

u32 HELPER helper_maskmov(Cpu *cpu, u32 ea, u32 desc, u64 imm)
{
    u8 image[512];
    bool sse = (desc_size(desc) == 2) == ((cpu->mode & MODE_CS32) != 0), died = false;
    u32 offset = cpu->s.gpr[EDI];
    (void)ea;
    (void)imm;
    from_host(cpu, image, 0);
    unsigned top = load16(image + 2) >> 11 & 7;
    const u8 *data = image + (sse ? FX_XMM + 16 * desc_reg(desc) : FX_ST + 16 * ((desc_reg(desc) - top) & 7));
    const u8 *mask = image + (sse ? FX_XMM + 16 * desc_rm(desc) : FX_ST + 16 * ((desc_rm(desc) - top) & 7));
    for (unsigned i = 0; i < (sse ? 16u : 8u); i++) {
        u32 at = offset + i;
        if (mask[i] & 0x80)
            died |= seg_write(cpu, (int)desc_seg(desc), desc_addr32(desc) ? at : at & 0xffff, data[i], 1);
    }
    return go_on(cpu, desc, died);
}
