# A test guest of one boot sector: says "ready" on the first serial line and the screen, then does what each byte
# from the serial line asks for (table below). For the tests of reset, power and the debug ports. All
# addresses are relative to the sector's start (segment 07C0h), so that no linker is needed.

    .code16
    .text
_start:
    ljmp $0x07c0, $(1f - _start)
1:  cli
    movw %cs, %ax
    movw %ax, %ds
    xorw %ax, %ax
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    movw $0x3fb, %dx                    # COM1: 115200 baud, 8N1, no FIFO, no interrupts
    movb $0x80, %al
    outb %al, %dx
    movw $0x3f8, %dx
    movw $1, %ax
    outb %al, %dx
    incw %dx
    movb $0, %al
    outb %al, %dx
    movw $0x3fb, %dx
    movb $3, %al
    outb %al, %dx
    movw $(ready - _start), %si
    call print

next:
    movw $0x3fd, %dx
    inb %dx, %al
    testb $1, %al
    jz next
    movw $0x3f8, %dx
    inb %dx, %al
    movw $(table - _start), %bx
search:
    cmpb $0, (%bx)
    je next
    cmpb %al, (%bx)
    je found
    addw $3, %bx
    jmp search
found:
    call *1(%bx)
    jmp next

table:
    .byte 'k'; .word keyboard - _start
    .byte 'p'; .word port92 - _start
    .byte 'c'; .word cf9 - _start
    .byte 't'; .word triple - _start
    .byte 'j'; .word jump - _start
    .byte 'x'; .word debug_exit - _start
    .byte 'h'; .word dead - _start
    .byte 'd'; .word debug - _start
    .byte '?'; .word answer - _start
    .byte 0

keyboard:                               # the 8042's reset line
    movb $0xfe, %al
    outb %al, $0x64
    jmp dead
port92:                                 # fast reset
    inb $0x92, %al
    andb $0xfe, %al
    outb %al, $0x92
    orb $1, %al
    outb %al, $0x92
    jmp dead
cf9:                                    # the chipset's reset control
    movw $0xcf9, %dx
    movb $2, %al
    outb %al, %dx
    movb $6, %al
    outb %al, %dx
    jmp dead
triple:                                 # no vector is within the limit: fault, double fault, shutdown
    lidt no_idt - _start
    int3
jump:                                   # the BIOS's entry point
    ljmp $0xf000, $0xfff0
debug_exit:                             # isa-debug-exit at 501h: ends with 21h * 2 + 1
    movw $0x501, %dx
    movb $0x21, %al
    outb %al, %dx
dead:
    cli
    hlt
    jmp dead
debug:                                  # the debug console
    movw $(hello - _start), %si
1:  lodsb
    testb %al, %al
    jz 2f
    outb %al, $0xe9
    jmp 1b
2:  ret
answer:
    movw $(yes - _start), %si

print:                                  # DS:SI to COM1 and the screen
    lodsb
    testb %al, %al
    jz 3f
    movb %al, %cl
    movw $0x3fd, %dx
4:  inb %dx, %al
    testb $0x20, %al
    jz 4b
    movw $0x3f8, %dx
    movb %cl, %al
    outb %al, %dx
    movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    jmp print
3:  ret

no_idt:
    .word 0, 0, 0
ready:
    .asciz "ready\r\n"
yes:
    .asciz "yes\r\n"
hello:
    .asciz "debug console\n"

    .org 510
    .word 0xaa55
