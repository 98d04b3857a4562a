/*
 * Start, interrupt gates and privilege changes of the benchmark's guest.
 * Segments: 08 code, 10 data, 1b user code, 23 user data, 28 TSS (the order that SYSENTER wants).
 */
    .section .start, "ax"
    .globl start
start:
    jmp begin
    .balign 4
header: /* multiboot 1, addresses given: this is a flat file */
    .long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
    .long header, start, load_end, bss_end, start
begin:
    cli
    cld
    movl $load_end, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    movl $stack_top, %esp
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    call guest_main
2:  hlt
    jmp 2b

    .text
/* Faults that no row expects: number and address go to guest_fault. */
    .macro fault number, code
fault\number:
    .if !\code
    pushl $0
    .endif
    pushl $\number
    jmp unexpected
    .endm
    .irp n, 0,1,2,3,4,5,6,7,9,15,16,18,19
    fault \n, 0
    .endr
    .irp n, 8,10,11,12,13,17
    fault \n, 1
    .endr
unexpected:
    popl %eax
    popl %edx
    popl %ecx
    pushl %ecx
    pushl %eax
    call guest_fault

    .globl gate_timer, gate_syscall, gate_leave, gate_page_fault, gate_sysenter, user_run, user_int80
    .globl user_sysenter, fault_gates
gate_timer:
    pushl %eax
    incl timer_ticks
    movb $0x20, %al
    outb %al, $0x20
    popl %eax
    iret
gate_syscall:
    iret
gate_sysenter:
    sti
    sysexit
gate_page_fault: /* puts back what the row took away, else it is a fault like others */
    pushl %eax
    movl fault_entry, %eax
    testl %eax, %eax
    jz 1f
    pushl %edx
    movl fault_value, %edx
    movl %edx, (%eax)
    popl %edx
    popl %eax
    addl $4, %esp
    iret
1:  popl %eax
    pushl $14
    jmp unexpected

/* void user_run(void (*function)(void)): runs it in ring 3 until it does int 0x81. */
user_run:
    movl 4(%esp), %eax
    pushl %ebx
    pushl %esi
    pushl %edi
    pushl %ebp
    movl %esp, kernel_stack
    movl %esp, tss + 4
    subl $1024, tss + 4
    movl tss + 4, %ecx
    movl %ecx, sysenter_stack
    movl $0x23, %edx
    movl %edx, %ds
    movl %edx, %es
    pushl %edx
    pushl $user_stack_top
    pushl $0x3202 /* IF, IOPL 3 */
    pushl $0x1b
    pushl %eax
    iret
gate_leave:
    movl kernel_stack, %esp
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    popl %ebp
    popl %edi
    popl %esi
    popl %ebx
    sti
    ret

user_int80:
    movl $1000, %ebx
1:  int $0x80
    decl %ebx
    jnz 1b
    int $0x81
user_sysenter:
    movl $1000, %ebx
1:  movl $2f, %edx
    movl %esp, %ecx
    sysenter
2:  decl %ebx
    jnz 1b
    int $0x81

    .section .rodata
fault_gates:
    .long fault0, fault1, fault2, fault3, fault4, fault5, fault6, fault7, fault8, fault9, fault10
    .long fault11, fault12, fault13, gate_page_fault, fault15, fault16, fault17, fault18, fault19

    .data
    .globl tss, gdt, timer_ticks, fault_entry, fault_value, sysenter_stack
    .balign 8
gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0
gdt_pointer: .word 47
    .long gdt
    .balign 4
tss: .long 0, 0, 0x10
    .fill 22, 4, 0
    .word 0, 104
timer_ticks: .long 0
fault_entry: .long 0
fault_value: .long 0
kernel_stack: .long 0
sysenter_stack: .long 0

    .bss
    .balign 16
    .skip 16384
stack_top:
    .skip 4096
user_stack_top:
    .section .note.GNU-stack, "", @progbits
