/*
 * Boot sector of the raw-disk form: reads SECTORS sectors behind itself to 64 KiB with int 13h/42h, moves
 * them to 1 MiB in protected mode and jumps to the guest's start.
 */
    .code16
    .globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    movb %dl, drive
next:
    movb drive, %dl
    movw $packet, %si
    movb $0x42, %ah
    int $0x13
    jc failed
    addw $(64 * 512 / 16), packet_segment
    addl $64, packet_lba
    subw $64, left
    ja next
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    cli
    lgdt gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmp $8, $protected
failed:
    movw $message, %si
1:  lodsb
    testb %al, %al
    jz 2f
    movb $0x0e, %ah
    int $0x10
    jmp 1b
2:  hlt
    jmp 2b

    .code32
protected:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    movl $0x10000, %esi
    movl $0x100000, %edi
    movl $(SECTORS * 128), %ecx
    rep movsl
    movl $0x100000, %eax
    jmp *%eax

message: .asciz "The disk can't be read."
drive:  .byte 0
left:   .word SECTORS
    .balign 4
packet: .word 16, 64, 0
packet_segment: .word 0x1000
packet_lba: .long 1, 0
gdt_pointer: .word 23
    .long gdt
    .balign 8
gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
    .org 510
    .word 0xaa55
