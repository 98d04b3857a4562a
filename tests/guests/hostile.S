# A test guest of one boot sector that means no good: says "ready" on the first serial line, takes one letter from
# it, echoes the letter and goes the way that the table below gives it. It never comes back; a reset brings the next "ready".
# Interrupts have the handlers of the firmware except where a storm brings its own.

    .code16
    .text
_start:
    ljmp $0, $(1f - _start + ORIGIN)
    .set ORIGIN, 0x7c00                 # where the firmware puts it; no linker is needed
1:  cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7000, %sp
    cld
    movw $(ready - _start + ORIGIN), %si
print:
    lodsb
    testb %al, %al
    jz read
    movw $0x3f8, %dx
    outb %al, %dx
    jmp print
read:
    movw $0x3fd, %dx
    inb %dx, %al
    testb $1, %al
    jz read
    movw $0x3f8, %dx
    inb %dx, %al
    movw $(table - _start + ORIGIN), %bx
search:
    cmpb $0, (%bx)
    je read
    addw $3, %bx
    cmpb %al, -3(%bx)
    jne search
    outb %al, %dx
    jmp *-2(%bx)

ready:
    .asciz "ready\n"
table:
    .byte 'h'; .word dead - _start + ORIGIN
    .byte 'u'; .word undefined - _start + ORIGIN
    .byte 's'; .word modify - _start + ORIGIN
    .byte 'i'; .word ticks - _start + ORIGIN
    .byte 't'; .word steps - _start + ORIGIN
    .byte 'r'; .word wrap - _start + ORIGIN
    .byte 'p'; .word ports - _start + ORIGIN
    .byte 'c'; .word calls - _start + ORIGIN
    .byte 'v'; .word modes - _start + ORIGIN
    .byte 'd'; .word vbe - _start + ORIGIN
    .byte 'x'; .word nowhere - _start + ORIGIN
    .byte 0

dead:                                   # no interrupt ends this
    cli
    hlt
    jmp dead

undefined:                              # #UD, and again, from a handler that never returns
    movw $(1f - _start + ORIGIN), 6 * 4
    movw %cs, 6 * 4 + 2
1:  movw $0x7000, %sp
    ud2

modify:                                 # instructions that change the next one, and themselves
    incb 2f - _start + ORIGIN + 1
2:  movb $0, %al
    incw 3f - _start + ORIGIN + 1
3:  movw $0, %bx
    xorb $1, 4f - _start + ORIGIN                    # nop or xchg cx, ax
4:  nop
    jmp modify

ticks:                                  # a timer of 1.19 MHz
    movw $(1f - _start + ORIGIN), 8 * 4
    movw %cs, 8 * 4 + 2
    movb $0x34, %al
    outb %al, $0x43
    movb $1, %al
    outb %al, $0x40
    movb $0, %al
    outb %al, $0x40
    sti
    jmp .
1:  movb $0x20, %al
    outb %al, $0x20
    iret

steps:                                  # a trap behind every instruction
    movw $(1f - _start + ORIGIN), 1 * 4
    movw %cs, 1 * 4 + 2
    pushw $0x102
    popfw
    jmp .
1:  iret

wrap:                                   # string instructions over the end of a segment: #GP, #SS
    movw $(2f - _start + ORIGIN), 13 * 4
    movw %cs, 13 * 4 + 2
    movw $(2f - _start + ORIGIN), 12 * 4
    movw %cs, 12 * 4 + 2
2:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    movw $0x2000, %ax
    movw %ax, %es
    movw %ax, %ds
    movw $0xfffc, %di
    movw $0xfffb, %si
    movw $0xffff, %cx
    rep movsw
    jmp 2b

ports:                                  # every port, every width, a long REP
    movw $0x2000, %ax
    movw %ax, %es
    xorw %dx, %dx
1:  inb %dx, %al
    inl %dx, %eax
    movw $0xffff, %cx
    pushw %dx
    movw $0x1f0, %dx
    rep insw
    popw %dx
    incw %dx
    jmp 1b

calls:                                  # a stack that writes over all, itself at last
    pushaw
    call calls

modes:                                  # the picture changes as fast as the firmware can
    movw $0x13, %ax
    int $0x10
    movw $3, %ax
    int $0x10
    movw $0x4f02, %ax
    movw $0x118, %bx
    int $0x10
    jmp modes

vbe:                                    # VBE registers all ones
    movw $0x1ce, %dx
    movw %bx, %ax
    outw %ax, %dx
    incw %dx
    movw $0xffff, %ax
    outw %ax, %dx
    decw %dx
    movw $4, %ax
    outw %ax, %dx
    incw %dx
    movw $0x41, %ax
    outw %ax, %dx
    incw %bx
    andw $15, %bx
    jmp vbe

nowhere:                                # paging with the tables in no memory, and no IDT to tell it
    lidt zeroes - _start + ORIGIN
    movl $0xfffff000, %eax
    movl %eax, %cr3
    movl $0x80000011, %eax
    movl %eax, %cr0
    jmp .
zeroes:
    .long 0, 0

    .org 510
    .word 0xaa55
