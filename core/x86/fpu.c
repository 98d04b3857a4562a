/*
 * The guest's floating-point state in the host's registers, and FLDENV FNSTENV FRSTOR FNSAVE FXSAVE FXRSTOR
 * MASKMOV. Source: Intel SDM volume 1, 8.1.10 (x87 state images) and 10.5 (FXSAVE); volume 2.
 *
 * XMM0-7 of the guest are xmm8-15 of the host. Where C code may clobber those (everywhere but on Windows),
 * thunks keep them in s.fx while C runs, and that copy counts here. The pointers to the last instruction are
 * the translator's work (translate_x87.c), the host's own are not used.
 */
#include "fpu.h"

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
    __builtin_memcpy(host->bytes, guest, FX_FOP);
    store32(host->bytes + FX_MXCSR, load32(guest + FX_MXCSR) & mask);
    __builtin_memcpy(host->bytes + FX_ST, guest + FX_ST, XMM_BYTES);
    __builtin_memcpy(host->bytes + FX_XMM8, guest + FX_XMM, XMM_BYTES);
}

/* The registers as the guest's image, with the pointers of s.fx; its other bytes are zero. */
static void from_host(Cpu *cpu, u8 *guest, u32 mask)
{
    FxImage host;
    save_registers(&host);
#ifdef _WIN32
    const u8 *xmm = host.bytes + FX_XMM8;
#else
    const u8 *xmm = cpu->s.fx + FX_XMM;
#endif
    u8 kept[XMM_BYTES], pointers[FX_MXCSR - FX_FOP];
    x87_settle(cpu);
    __builtin_memcpy(kept, xmm, XMM_BYTES);
    __builtin_memcpy(pointers, cpu->s.fx + FX_FOP, sizeof pointers);
    __builtin_memset(guest, 0, 512);
    __builtin_memcpy(guest, host.bytes, FX_FOP);
    __builtin_memcpy(guest + FX_FOP, pointers, sizeof pointers);
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

/* ---- pointers to the last instruction ---- */

static void forget_pointers(Cpu *cpu)
{
    cpu->x87_what = cpu->x87_seg = 0;
    __builtin_memset(cpu->s.fx + FX_FOP, 0, FX_MXCSR - FX_FOP);
}

void fpu_settle(Cpu *cpu)
{
    u32 what = cpu->x87_what, seg = cpu->x87_seg;
    cpu->x87_what = cpu->x87_seg = 0;
    if (what & X87_INIT) {
        forget_pointers(cpu);
        return;
    }
    store16(cpu->s.fx + FX_FOP, what & X87_FOP);
    store16(cpu->s.fx + FX_FCS, cpu->s.seg[CS].sel);
    if (seg)
        store16(cpu->s.fx + FX_FDS, cpu->s.seg[seg - 1].sel);
}

/* ---- images of FNSTENV and FNSAVE ---- */

/* As FNSTENV stores it in 64-bit mode: the 32-bit protected form. Its pointers are not the guest's. */
typedef struct { u32 control, status, tag, ip, cs_opcode, dp, ds; } Env;
typedef struct {
    Env env;
    u8 st[80];
} __attribute__((packed)) Save;

static bool real_format(const Cpu *cpu) { return !(cpu->mode & MODE_PROT); }

static unsigned write_env(Cpu *cpu, u8 *out, const Env *e, unsigned opsize)
{
    const u8 *fx = cpu->s.fx;
    x87_settle(cpu);
    u32 ip = load32(fx + FX_FIP), dp = load32(fx + FX_FDP), op = load16(fx + FX_FOP) & X87_FOP;
    u32 cs = load16(fx + FX_FCS), ds = load16(fx + FX_FDS);
    u32 words[7] = { e->control, e->status, e->tag, ip, op << 16 | cs, dp, ds };
    if (real_format(cpu)) {             /* linear addresses; their upper bits begin at bit 12 */
        ip += cs << 4;
        dp += ds << 4;
        words[3] = ip & 0xffff;
        words[4] = (ip >> 16) << 12 | op;
        words[5] = dp & 0xffff;
        words[6] = (dp >> 16) << 12;
    }
    for (unsigned i = 0; i < 7; i++) {
        bool high_ones = i < 3 || (!real_format(cpu) && i == 6) || (real_format(cpu) && (i == 3 || i == 5));
        if (opsize == 4)
            store32(out + 4 * i, words[i] | (high_ones ? 0xffff0000u : 0));
        else
            store16(out + 2 * i, (u16)words[i]);
    }
    return 7 * opsize;
}

static void take_pointers(Cpu *cpu, const u32 *words, unsigned opsize)
{
    u8 *fx = cpu->s.fx;
    u32 ip = words[3], dp = words[5], cs = words[4] & 0xffff, ds = words[6] & 0xffff, op = words[4] >> 16;
    if (real_format(cpu)) {
        ip = (ip & 0xffff) | words[4] >> 12 << 16;
        dp = (dp & 0xffff) | words[6] >> 12 << 16;
        op = words[4];
        cs = ds = 0;
    } else if (opsize == 2) {
        op = load16(fx + FX_FOP);       /* this form has no opcode */
    }
    cpu->x87_what = cpu->x87_seg = 0;
    store16(fx + FX_FOP, op & X87_FOP);
    store32(fx + FX_FIP, ip);
    store16(fx + FX_FCS, (u16)cs);
    store32(fx + FX_FDP, dp);
    store16(fx + FX_FDS, (u16)ds);
}

static unsigned read_env(Cpu *cpu, const u8 *in, Env *e, unsigned opsize)
{
    u32 words[7];
    x87_settle(cpu);
    for (unsigned i = 0; i < 7; i++)
        words[i] = opsize == 4 ? load32(in + 4 * i) : load16(in + 2 * i);
    *e = (Env){ .control = words[0] & 0xffff, .status = words[1] & 0xffff, .tag = words[2] & 0xffff };
    take_pointers(cpu, words, opsize);
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
    read_env(cpu, access_prepare(cpu, (int)desc_seg(desc), ea, 7 * opsize, 1), &e, opsize);
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
    forget_pointers(cpu);
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
    from += read_env(cpu, from, &e, opsize);
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
    cpu->x87_what = cpu->x87_seg = 0;
    __builtin_memcpy(cpu->s.fx + FX_FOP, guest.bytes + FX_FOP, FX_MXCSR - FX_FOP);
    store16(cpu->s.fx + FX_FOP, load16(cpu->s.fx + FX_FOP) & X87_FOP);
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
