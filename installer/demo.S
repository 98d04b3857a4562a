# The demo that is shipped: a boot floppy that greets, shows the PC it runs on and a running clock, echoes the
# keyboard, and switches the machine off. It needs a BIOS, VGA and nothing else; it also boots on a real PC.
# The boot sector loads the sectors behind it to the same segment; addresses are relative to its start.

    .code16
    .text
    .set SECTORS, 4
_start:
    ljmp $0x07c0, $(1f - _start)
1:  cli
    movw %cs, %ax
    movw %ax, %ds
    movw %ax, %es
    xorw %cx, %cx
    movw %cx, %ss
    movw $0x7c00, %sp
    sti
    cld
    movw $(0x0200 + SECTORS), %ax       # int 13h, read: cylinder 0, head 0, from sector 2
    movw $2, %cx
    movb $0, %dh
    movw $512, %bx
    int $0x13
    jnc main
    movw $(no_read - _start), %si
    movb $0x0f, %bl
    call print
2:  hlt
    jmp 2b
no_read:
    .asciz "The demo floppy can't be read."

print:                                  # DS:SI in colour BL at the cursor
    lodsb
    testb %al, %al
    jz 9f
    cmpb $13, %al
    je 4f
    cmpb $10, %al
    je 4f
    movb $0x09, %ah                     # write the character with its colour, then move on
    movw $1, %cx
    movb $0, %bh
    int $0x10
4:  movb $0x0e, %ah
    movb $0, %bh
    int $0x10
    jmp print
9:  ret

    .org 510
    .word 0xaa55

main:
    movw $0x0003, %ax                   # 80x25, 16 colours
    int $0x10
    movw $0x0600, %ax                   # blue screen
    movb $0x17, %bh
    xorw %cx, %cx
    movw $0x184f, %dx
    int $0x10
    movw $0x0600, %ax                   # a light bar on top
    movb $0x70, %bh
    xorw %cx, %cx
    movw $0x004f, %dx
    int $0x10

    movw $(items - _start), %di
next_item:                              # row and column, colour, text
    movw (%di), %dx
    cmpb $0xff, %dl
    je shown
    movb $0x02, %ah
    movb $0, %bh
    int $0x10
    movb 2(%di), %bl
    leaw 3(%di), %si
    call print
    movw %si, %di
    jmp next_item
shown:
    int $0x12                           # KiB below 640 K
    movw $0x0d1a, %dx
    call number_at
    movb $0x88, %ah                     # KiB above 1 M, 64 MiB at most
    int $0x15
    movw $0x0e1a, %dx
    call number_at
    movw $0x1203, %dx
    movb $0x02, %ah
    movb $0, %bh
    int $0x10

wait:
    call clock
    movb $0x01, %ah
    int $0x16
    jnz key
    hlt                                 # until the next timer tick or key
    jmp wait
key:
    movb $0, %ah
    int $0x16
    cmpb $27, %al
    je off
    cmpb $13, %al
    je new_line
    cmpb $8, %al
    je back
    cmpb $32, %al
    jb wait
    movb $0x1f, %bl
    movw $1, %cx
    movb $0x09, %ah
    movb $0, %bh
    int $0x10
    movb $0x0e, %ah
    int $0x10
    movb $0x03, %ah                     # at the right edge: a new line
    int $0x10
    cmpb $77, %dl
    jb wait
new_line:
    movb $0x03, %ah
    movb $0, %bh
    int $0x10
    movb $3, %dl
    incb %dh
    cmpb $24, %dh
    jb 1f
    movb $0x12, %dh
1:  movb $0x02, %ah
    int $0x10
    jmp wait
back:
    movb $0x03, %ah
    movb $0, %bh
    int $0x10
    cmpb $3, %dl
    jbe wait
    decb %dl
    movb $0x02, %ah
    int $0x10
    movw $0x0920, %ax
    movw $0x001f, %bx
    movw $1, %cx
    int $0x10
    jmp wait

off:                                    # Advanced Power Management 1.2: connect, 1.2 rules, all devices off
    movw $0x5301, %ax
    xorw %bx, %bx
    int $0x15
    movw $0x530e, %ax
    xorw %bx, %bx
    movw $0x0102, %cx
    int $0x15
    movw $0x5307, %ax
    movw $1, %bx
    movw $3, %cx
    int $0x15
    jmp wait                            # a PC that can't is left as it was

clock:                                  # the time of day in the bar; the cursor stays where it is
    movb $0x03, %ah
    movb $0, %bh
    int $0x10
    pushw %dx
    movb $0x02, %ah
    int $0x1a
    jc 1f
    pushw %dx
    pushw %cx
    movw $0x0046, %dx
    movb $0x02, %ah
    movb $0, %bh
    int $0x10
    popw %cx
    pushw %cx
    movb %ch, %al
    call two_digits
    movb $':', %al
    call bar_char
    popw %cx
    movb %cl, %al
    call two_digits
    movb $':', %al
    call bar_char
    popw %dx
    movb %dh, %al
    call two_digits
1:  popw %dx
    movb $0x02, %ah
    movb $0, %bh
    int $0x10
    ret

two_digits:                             # packed decimal in AL
    pushw %ax
    shrb $4, %al
    addb $'0', %al
    call bar_char
    popw %ax
    andb $15, %al
    addb $'0', %al
bar_char:
    pushw %cx
    pushw %dx
    movb $0x70, %bl
    movb $0, %bh
    movw $1, %cx
    movb $0x09, %ah
    int $0x10
    movb $0x0e, %ah
    int $0x10
    popw %dx
    popw %cx
    ret

number_at:                              # AX in decimal and " KiB" at row DH, column DL
    pushw %ax
    movb $0x02, %ah
    movb $0, %bh
    int $0x10
    popw %ax
    movw $(digits_end - _start), %si
    movw $10, %cx
1:  xorw %dx, %dx
    divw %cx
    addb $'0', %dl
    decw %si
    movb %dl, (%si)
    testw %ax, %ax
    jnz 1b
    movb $0x1f, %bl
    jmp print
    .ascii "     "
digits_end:
    .asciz " KiB"

    .macro item row, column, colour, text
    .byte \column, \row, \colour
    .asciz "\text"
    .endm
items:
    item 0, 2, 0x70, "qemu-win demo"
    item 3, 3, 0x1f, "Welcome. This is a PC inside a window."
    item 5, 3, 0x17, "What you see is a boot floppy, demo.img, that runs on the emulated PC."
    item 6, 3, 0x17, "To start something of your own, drop a disk image on qemu.exe,"
    item 7, 3, 0x17, "or open qemu-win.bat with an editor and change its last lines."
    item 9, 3, 0x17, "Ctrl-Alt releases the mouse, Ctrl-Alt-F is full screen,"
    item 10, 3, 0x17, "Ctrl-Alt-2 shows the monitor and Ctrl-Alt-1 comes back."
    item 13, 3, 0x17, "Conventional memory:"
    item 14, 3, 0x17, "Extended memory:"
    item 16, 3, 0x1e, "Type here. Esc switches the machine off."
    .byte 0xff, 0xff

    .org 512 + SECTORS * 512
