/*
 * Boot ROM of -kernel: an option ROM whose bootstrap entry fetches the pieces of a kernel by fw_cfg DMA and
 * starts it. What goes where was decided on the host (loader.c, struct BootHeader in loader.h); the ROM
 * reads that plan first.
 * Sources: PnP BIOS Specification 1.0A (option ROM header), fw_cfg specification, Linux boot protocol,
 * Multiboot 0.6.96.
 *
 * Assemble:  x86_64-w64-mingw32-gcc -c boot.S -o boot.o && x86_64-w64-mingw32-objcopy -O binary -j .text
 * boot.o boot.bin Checksums are filled in by loader.c.
 *
 * Low memory while it works:  600 a DMA descriptor, then GDTR | 620 the plan | ff0 stack, downwards
 */
#define DESC        0x600
#define PLAN        0x620
#define PLAN_BYTES  96
#define STACK       0xff0
#define PLAN_KEY    0x8010

/* Big-endian, as fw_cfg wants it. */
#define SWAP16(x)   ((((x) & 0xff) << 8) | (((x) >> 8) & 0xff))
#define SWAP32(x)   ((SWAP16(x) << 16) | SWAP16((x) >> 16))

/* struct BootHeader */
#define KIND        PLAN
#define ENTRY       PLAN + 4
#define STACK_TOP   PLAN + 8
#define INFO        PLAN + 12
#define MMAP        PLAN + 16
#define MMAP_ROOM   PLAN + 20
#define PIECES      PLAN + 24
#define FIRST_PIECE PLAN + 32

    .text
    .code16
rom:
    .byte 0x55, 0xaa
    .byte (rom_end - rom) / 512
    xorw %ax, %ax                       /* initialisation: nothing to do */
    lretw
    .org 0x1a
    .word pnp - rom

    .org 0x20
pnp:
    .ascii "$PnP"
    .byte 1, 2                          /* revision, length in 16 bytes */
    .word 0                             /* no next header */
    .byte 0, 0                          /* reserved, checksum */
    .long 0                             /* device id */
    .word 0                             /* manufacturer */
    .word product - rom
    .byte 0, 0, 0                       /* device type */
    .byte 0x14                          /* read-only, an initial program load device */
    .word 0, 0                          /* boot connection and disconnect vectors */
    .word boot - rom                    /* bootstrap entry vector */
    .word 0, 0

product:
    .asciz "Kernel given by -kernel"
failed_text:
    .asciz "\r\nThe kernel could not be loaded.\r\n"

boot:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $STACK, %esp
    inb $0x92, %al                      /* A20 on, without touching the reset bit */
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92

    movl $SWAP32(PLAN_KEY << 16 | 8 | 2), DESC
    movl $SWAP32(PLAN_BYTES), DESC + 4
    movl $0, DESC + 8
    movl $SWAP32(PLAN), DESC + 12
    movl $DESC, %esi
    call dma

    movl PIECES, %ebp
    movl $FIRST_PIECE, %esi
1:  testl %ebp, %ebp
    jz 2f
    call dma
    addl $16, %esi
    decl %ebp
    jmp 1b
2:  cmpl $1, KIND
    je linux
    cmpl $2, KIND
    je multiboot
    jmp failed

/* Has fw_cfg carry out the descriptor at %esi. */
dma:
    xorl %eax, %eax
    movw $0x514, %dx
    outl %eax, %dx
    movl %esi, %eax
    bswapl %eax
    movw $0x518, %dx
    outl %eax, %dx
1:  movl (%si), %eax
    testl $SWAP32(~1 & 0xffffffff), %eax
    jnz 1b
    testl %eax, %eax
    jnz failed
    ret

failed:
    movw $(failed_text - rom), %si
1:  movb %cs:(%si), %al
    incw %si
    testb %al, %al
    jz 2f
    movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    jmp 1b
2:  int $0x18                           /* the firmware tries the next device */

/* The set-up code runs from 200h of its segment, which all segment registers but CS name. */
linux:
    movl STACK_TOP, %ecx
    movl ENTRY, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movl %ecx, %esp
    addw $0x20, %ax
    pushw %ax
    pushw $0
    lretw

multiboot:
    movl MMAP, %eax
    shrl $4, %eax
    movw %ax, %es
    xorw %di, %di
    xorl %ebx, %ebx
    movl %ebx, DESC                     /* KiB above 1 MiB */
next_range:
    movl $0xe820, %eax
    movl $0x534d4150, %edx              /* "SMAP" */
    movl $20, %ecx
    addw $4, %di
    int $0x15
    leaw -4(%di), %di
    jc ranges_done
    cmpl $0x534d4150, %eax
    jne ranges_done
    movl $20, %es:(%di)
    cmpl $0x100000, %es:4(%di)
    jne 1f
    cmpl $0, %es:8(%di)
    jne 1f
    cmpl $1, %es:20(%di)
    jne 1f
    movl %es:12(%di), %eax
    shrl $10, %eax
    movl %eax, DESC
1:  addw $24, %di
    testl %ebx, %ebx
    jz ranges_done
    decl MMAP_ROOM
    jnz next_range
ranges_done:
    cli
    movl INFO, %eax
    shrl $4, %eax
    movw %ax, %es
    movzwl %di, %eax
    movl %eax, %es:44                   /* mmap_length */
    movl DESC, %eax
    movl %eax, %es:8                    /* mem_upper */
    int $0x12
    cli
    movzwl %ax, %eax
    movl %eax, %es:4                    /* mem_lower */

    movl ENTRY, %ecx
    movl INFO, %ebx
    xorl %eax, %eax
    movw %cs, %ax
    shll $4, %eax
    leal (gdt - rom)(%eax), %edx
    movw $23, DESC
    movl %edx, DESC + 2
    lgdtl DESC
    addl $(protected - rom), %eax
    movl %cr0, %edx
    orb $1, %dl
    movl %edx, %cr0
    pushl $8
    pushl %eax
    lretl

    .code32
protected:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $0x2badb002, %eax
    jmp *%ecx

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            /* code, base 0, 4 GiB */
    .quad 0x00cf93000000ffff            /* data */

    .org 1024                           /* the last byte is the checksum's */
rom_end:
