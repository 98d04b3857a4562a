/*
 * Calls and returns that run as calls and returns of the host (translate.c, thunk.c): what the guest does to its
 * stack must decide where it goes on, whatever the host's stack says.
 */
#include "test.h"

#include "flat_cpu.h"

#include <pthread.h>
#include <unistd.h>

static volatile bool over;

static void nested_calls_return(void)
{
    /* f: dec ecx; jz end; call f; end: inc eax; ret. Far deeper than the host's stack is allowed to go. */
    static const char f[] = "\x49\x74\x05\xe8\xf8\xff\xff\xff\x40\xc3";
    flat_cpu_reset();
    put_code(CODE, f, sizeof f - 1);
    put_code(CODE + 0x100, "\xe8\xfb\xfe\xff\xff\xf4", 6);
    for (u32 depth = 1; depth <= 60000; depth = depth * 3 + 1) {
        cpu->s.gpr[EAX] = 0;
        cpu->s.gpr[ECX] = depth;
        cpu->s.gpr[ESP] = 0xfff00;
        run_at(CODE + 0x100);
        CHECK_MSG(cpu->s.gpr[EAX] == depth && cpu->s.gpr[ESP] == 0xfff00, "%u nested calls", depth);
    }
}

static void the_guest_stack_decides(void)
{
    /* call f; mov al,1; hlt    mov al,2; hlt    f: add dword [esp],3; ret */
    static const char changed[] = "\xe8\x06\x00\x00\x00\xb0\x01\xf4\xb0\x02\xf4\x83\x04\x24\x03\xc3";
    flat_cpu_reset();
    put_code(CODE, changed, sizeof changed - 1);
    for (int i = 0; i < 3; i++) {
        run_at(CODE);
        CHECK_MSG((cpu->s.gpr[EAX] & 0xff) == 2, "a callee that changes its return address");
    }
    /* mov ecx,40000; again: call next; next: pop eax; dec ecx; jnz again; hlt */
    static const char own_address[] = "\xb9\x40\x9c\x00\x00\xe8\x00\x00\x00\x00\x58\x49\x75\xf7\xf4";
    put_code(CODE + 0x100, own_address, sizeof own_address - 1);
    run_at(CODE + 0x100);
    CHECK(cpu->s.gpr[EAX] == CODE + 0x10a && !cpu->s.gpr[ECX]);
    /* again: mov ebx,esp; call f; f: mov esp,ebx (as longjmp); dec ecx; jnz again; hlt */
    static const char thrown[] = "\x89\xe3\xe8\x01\x00\x00\x00\xf4\x89\xdc\x49\x75\xf3\xf4";
    put_code(CODE + 0x200, thrown, sizeof thrown - 1);
    cpu->s.gpr[ECX] = 100000;
    run_at(CODE + 0x200);
    CHECK_MSG(cpu->s.eip == CODE + 0x20e && !cpu->s.gpr[ECX], "calls that never return don't pile up");
    /* push offset there; ret; hlt; there: mov al,3; hlt */
    put_code(CODE + 0x300, "\x68\x07\x03\x01\x00\xc3\xf4\xb0\x03\xf4", 10);
    run_at(CODE + 0x300);
    CHECK((cpu->s.gpr[EAX] & 0xff) == 3);
}

static void flags_survive(void)
{
    /* call f; jc yes; mov al,0; hlt; yes: mov al,1; hlt;  f: stc; ret, the second time clc; ret elsewhere */
    static const char code[] = "\xe8\x08\x00\x00\x00\x72\x03\xb0\x00\xf4\xb0\x01\xf4\xf9\xc3";
    flat_cpu_reset();
    for (int i = 0; i < 6; i++) {
        put_code(CODE, code, sizeof code - 1);
        ram[CODE + 13] = i & 1 ? 0xf8 : 0xf9;
        blocks_written(cpu, (u32)(ram + CODE - mem_arena(m->mem)) >> 12, (CODE + 13) & 4095, 1);
        run_at(CODE);
        CHECK_MSG((cpu->s.gpr[EAX] & 1) == !(i & 1), "carry as a callee's result");
    }
}

/* The page that is returned to shows other code by then: f maps it anew with INVLPG. */
static void the_page_may_change_meanwhile(void)
{
    static const char f[] = "\xc7\x05\x40\x60\x00\x00\x07\x20\x01\x00"      /* mov [PTE of CODE], 12007h */
                            "\x0f\x01\x3d\x00\x00\x01\x00\xc3";             /* invlpg [CODE]; ret */
    flat_cpu_reset();
    put_code(CODE, "\xe8\xfb\x0f\x00\x00\xb0\x01\xf4", 8);                  /* call CODE+1000h; mov al,1 */
    put_code(CODE + 0x1000, f, sizeof f - 1);
    put_code(CODE + 0x2000, "\x90\x90\x90\x90\x90\xb0\x02\xf4", 8);
    for (int i = 0; i < 3; i++) {
        map_page(CODE, CODE | 7);
        run_at(CODE);
        CHECK_MSG((cpu->s.gpr[EAX] & 0xff) == 2, "the return goes to what is mapped there now");
    }
}

static void *disturber(void *opaque)
{
    (void)opaque;
    while (!over) {
        cpu_attention(cpu, CPU_ATT_IRQ);
        usleep(20);
    }
    return NULL;
}

static void attention_anywhere(void)
{
    /* fib(ecx): cmp ecx,2; jb 1f; push ecx; dec ecx; call fib; pop ecx; sub ecx,2; call fib; ret; 1: add eax,ecx; ret */
    static const char fib[] = "\x83\xf9\x02\x72\x11\x51\x49\xe8\xf4\xff\xff\xff\x59\x83\xe9\x02"
                              "\xe8\xeb\xff\xff\xff\xc3\x01\xc8\xc3";
    pthread_t thread;
    flat_cpu_reset();
    put_code(CODE, fib, sizeof fib - 1);
    put_code(CODE + 0x1100, "\xe8\xfb\xee\xff\xff\xf4", 6);
    pthread_create(&thread, NULL, disturber, NULL);
    for (int i = 0; i < 3; i++) {
        cpu->s.gpr[EAX] = 0;
        cpu->s.gpr[ECX] = 24;
        run_at(CODE + 0x1100);
        CHECK_MSG(cpu->s.gpr[EAX] == 46368 && cpu->s.gpr[ESP] == STACK, "fib(24) is %u", cpu->s.gpr[EAX]);
    }
    over = true;
    pthread_join(thread, NULL);
}

int main(void)
{
    CHECK(flat_cpu_create());
    if (!test_failed) {
        nested_calls_return();
        the_guest_stack_decides();
        flags_survive();
        the_page_may_change_meanwhile();
        attention_anywhere();
    }
    return test_end();
}
