/*
 * Virtual-8086 mode extensions and protected-mode virtual interrupts: INT n by the redirection bitmap, VIF and
 * VIP, in translated code. Expected: Intel SDM vol. 3, tables 20-2 and 20-3, vol. 2 (CLI, STI, PUSHF, POPF, IRET).
 */
#include "cpu_guest.h"

static void vme(unsigned with_iopl)
{
    v86_mode(with_iopl);
    cpu->s.cr4 |= CR4_VME;
}

/* A handler of the V86 program at 2000:0100 (INT3 there), by the vector table at 0. */
static void own_handler(unsigned vector)
{
    store32(ram + 4 * vector, 0x20000100);
    ram[DATA + 0x100] = 0xcc;
}

static u32 v86_word(unsigned n) { return load16(ram + DATA + 0x8000 - 2 * n); }

static void without_vme_iopl_decides(void)
{
    v86_mode(0);
    CHECK(RUN("\xcd\x80") == VEC_GP && frame(0) == 0);
    v86_mode(3);
    CHECK_MSG(RUN("\xcd\x80") == 0x80, "IOPL 3: by the IDT");
    v86_mode(0);
    CHECK(RUN("\x9c") == VEC_GP);
    v86_mode(0);
    CHECK(RUN("\xfa") == VEC_GP);
}

static void redirection(void)
{
    vme(0);
    own_handler(0x80);
    cpu->s.eflags |= FLAG_VIF | FLAG_CF | FLAG_IF;
    CHECK_MSG(RUN("\xcd\x80") == VEC_BP, "a clear bit: to the program's own handler");
    CHECK_MSG(frame(1) == 0x2000 && frame(0) == 0x101, "which runs at %x:%x", frame(1), frame(0));
    CHECK_MSG((frame(2) & (FLAG_VM | FLAG_VIF | FLAG_IF)) == (FLAG_VM | FLAG_IF), "VIF is clear, IF is not");
    CHECK_MSG(v86_word(3) == 2 && v86_word(2) == CODE >> 4, "return address");
    CHECK_MSG((v86_word(1) & (FLAG_IF | FLAG_IOPL)) == (FLAG_IF | FLAG_IOPL), "VIF as IF, IOPL 3: %x", v86_word(1));
    vme(0);
    own_handler(0x80);
    ram[TSS + 0x88 - 32 + 0x80 / 8] = 1;
    CHECK_MSG(RUN("\xcd\x80") == VEC_GP, "a set bit and IOPL 0: the monitor's");
    vme(3);
    own_handler(0x80);
    ram[TSS + 0x88 - 32 + 0x80 / 8] = 1;
    CHECK_MSG(RUN("\xcd\x80") == 0x80, "a set bit and IOPL 3: by the IDT");
    vme(3);
    own_handler(0x80);
    cpu->s.eflags |= FLAG_IF;
    CHECK(RUN("\xcd\x80") == VEC_BP && frame(1) == 0x2000);
    CHECK_MSG(!(frame(2) & FLAG_IF) && (v86_word(1) & FLAG_IF), "IOPL 3: IF itself is cleared");
    vme(0);
    store16(ram + TSS + 102, 0x1020);
    CHECK_MSG(RUN("\xcd\x80") == VEC_GP, "a bitmap beyond the TSS");
}

static void virtual_flag(void)
{
    vme(0);
    CHECK(RUN("\xfb") == VEC_BP && (frame(2) & FLAG_VIF) && !(frame(2) & FLAG_IF));
    vme(0);
    cpu->s.eflags |= FLAG_VIF | FLAG_IF;
    CHECK(RUN("\xfa") == VEC_BP && !(frame(2) & FLAG_VIF) && (frame(2) & FLAG_IF));
    vme(0);
    cpu->s.eflags |= FLAG_VIP;
    CHECK_MSG(RUN("\xfb") == VEC_GP, "STI while an interrupt waits");
    vme(0);
    cpu->s.eflags |= FLAG_VIF;
    CHECK(RUN("\x9c\x58") == VEC_BP);
    CHECK_MSG((cpu->s.gpr[EAX] & 0xffff) == (FLAG_1 | FLAG_IF | FLAG_IOPL), "PUSHF: %x", cpu->s.gpr[EAX]);
    vme(0);
    CHECK_MSG(RUN("\x66\x9c") == VEC_GP, "PUSHFD is the monitor's");
    vme(0);
    cpu->s.eflags |= FLAG_IF;
    CHECK(RUN("\x68\x01\x02\x9d") == VEC_BP);                  /* push 0201h; popf */
    CHECK((frame(2) & (FLAG_VIF | FLAG_IF | FLAG_CF)) == (FLAG_VIF | FLAG_IF | FLAG_CF));
    CHECK_MSG(!(frame(2) & FLAG_IOPL), "POPF leaves IOPL alone");
    vme(0);
    CHECK_MSG(RUN("\x68\x00\x01\x9d") == VEC_GP, "POPF with TF is the monitor's");
    vme(0);
    cpu->s.eflags |= FLAG_VIP;
    CHECK_MSG(RUN("\x68\x00\x02\x9d") == VEC_GP, "POPF with IF while an interrupt waits");
    vme(0);
    CHECK_MSG(RUN("\x66\x9d") == VEC_GP, "POPFD is the monitor's");
    vme(0);
    own_handler(0);
    CHECK_MSG(RUN("\x68\x00\x02\x68\x00\x20\x68\x00\x01\xcf") == VEC_BP, "IRET within the program");
    CHECK(frame(1) == 0x2000 && frame(0) == 0x101 && (frame(2) & FLAG_VIF));
    vme(0);
    CHECK_MSG(RUN("\x66\xcf") == VEC_GP, "IRETD is the monitor's");
}

static void protected_mode_virtual_interrupts(void)
{
    protected_mode(3);
    CHECK(RUN("\xfb") == VEC_GP);
    protected_mode(3);
    cpu->s.cr4 |= CR4_PVI;
    CHECK(RUN("\xfb") == VEC_BP && (frame(2) & FLAG_VIF) && !(frame(2) & FLAG_IF));
    protected_mode(3);
    cpu->s.cr4 |= CR4_PVI;
    cpu->s.eflags |= FLAG_VIP;
    CHECK(RUN("\xfb") == VEC_GP);
    protected_mode(3);
    cpu->s.cr4 |= CR4_PVI;
    cpu->s.eflags |= FLAG_VIF;
    CHECK(RUN("\xfa") == VEC_BP && !(frame(2) & FLAG_VIF));
    protected_mode(3);
    cpu->s.cr4 |= CR4_PVI;
    cpu->s.eflags |= FLAG_IOPL;
    CHECK_MSG(RUN("\xfb") == VEC_BP && (frame(2) & FLAG_IF) && !(frame(2) & FLAG_VIF), "IOPL 3: IF itself");
    protected_mode(3);
    cpu->s.cr4 |= CR4_VME;
    CHECK_MSG(RUN("\xfb") == VEC_GP, "VME is for V86 mode only");
}

static void the_monitor_sets_them(void)
{
    protected_mode(0);
    /* an IRETD frame to V86: 2000:0100 with VIF and VIP */
    static const u32 to[] = { 0x100, 0x2000, FLAG_VM | FLAG_VIF | FLAG_VIP | 2, 0x4000, 0x2000, 0, 0, 0, 0 };
    memcpy(ram + STACK0 - sizeof(to), to, sizeof(to));
    ram[DATA + 0x100] = 0xcc;
    cpu->s.gpr[ESP] = STACK0 - sizeof(to);
    CHECK(RUN("\xcf") == VEC_BP && (frame(2) & (FLAG_VM | FLAG_VIF | FLAG_VIP)) == (FLAG_VM | FLAG_VIF | FLAG_VIP));
    protected_mode(0);
    /* pushfd with VIF set goes back by IRETD at privilege 0 */
    CHECK(RUN("\x68\x02\x00\x08\x00\x6a\x08\x68\x00\x20\x01\x00\xcf") != VEC_GP);
    CHECK_MSG(cpu->s.eflags & FLAG_VIF, "IRETD at privilege 0 sets VIF");
}

int main(void)
{
    if (!guest_create("pentium3"))
        return test_end();
    without_vme_iopl_decides();
    redirection();
    virtual_flag();
    protected_mode_virtual_interrupts();
    the_monitor_sets_them();
    return test_end();
}
