/*
 * Processor faults. What translated code causes is the guest's and goes to core/x86 by a vectored handler,
 * which Windows calls before it looks for anything on the stack. What is left is a bug of ours: one line, and
 * the program ends.
 *
 * Exceptions of x87 and SSE share their codes: the status words tell them apart. A #GP has no address, which
 * shows as -1.
 */
#include "win.h"

#include <stdio.h>

#ifndef STATUS_FLOAT_MULTIPLE_FAULTS
#define STATUS_FLOAT_MULTIPLE_FAULTS ((DWORD)0xc00002b4)
#endif
#ifndef STATUS_FLOAT_MULTIPLE_TRAPS
#define STATUS_FLOAT_MULTIPLE_TRAPS ((DWORD)0xc00002b5)
#endif

enum {
    NO_VECTOR = -1,
    VECTOR_DE = 0,
    VECTOR_UD = 6,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
    VECTOR_MF = 16,
    VECTOR_AC = 17,
    VECTOR_XM = 19,
    INTERNAL_ERROR = 70
};

static HostFaultFn *fault_fn;
static void *fault_opaque;

/*
 * #MF is certain to have ES (bit 7) of the x87 status word set, and #XM an unmasked flag in MXCSR (flags are
 * bits 0-5, their masks 7-12). If both are, then the second parameter is MXCSR in case of #XM; #MF has one
 * parameter at most.
 */
static int float_vector(const EXCEPTION_RECORD *r, const CONTEXT *c)
{
    bool x87 = c->FltSave.StatusWord & 0x80, sse = c->MxCsr & 0x3f & ~(c->MxCsr >> 7);
    if (x87 && sse)
        return r->NumberParameters >= 2 ? VECTOR_XM : VECTOR_MF;
    return x87 ? VECTOR_MF : VECTOR_XM;
}

static int vector_of(const EXCEPTION_RECORD *r, const CONTEXT *c)
{
    switch (r->ExceptionCode) {
    case EXCEPTION_INT_DIVIDE_BY_ZERO:
    case EXCEPTION_INT_OVERFLOW:
        return VECTOR_DE;
    case EXCEPTION_ILLEGAL_INSTRUCTION:
        return VECTOR_UD;
    case EXCEPTION_PRIV_INSTRUCTION:
        return VECTOR_GP;
    case EXCEPTION_ACCESS_VIOLATION:
        return r->NumberParameters >= 2 && r->ExceptionInformation[1] == ~(ULONG_PTR)0 ? VECTOR_GP
                                                                                       : VECTOR_PF;
    case EXCEPTION_DATATYPE_MISALIGNMENT:
        return VECTOR_AC;
    case EXCEPTION_FLT_DENORMAL_OPERAND:
    case EXCEPTION_FLT_DIVIDE_BY_ZERO:
    case EXCEPTION_FLT_INEXACT_RESULT:
    case EXCEPTION_FLT_INVALID_OPERATION:
    case EXCEPTION_FLT_OVERFLOW:
    case EXCEPTION_FLT_STACK_CHECK:
    case EXCEPTION_FLT_UNDERFLOW:
    case STATUS_FLOAT_MULTIPLE_FAULTS:
    case STATUS_FLOAT_MULTIPLE_TRAPS:
        return float_vector(r, c);
    default:
        return NO_VECTOR;
    }
}

static LONG CALLBACK on_fault(EXCEPTION_POINTERS *e)
{
    int vector = vector_of(e->ExceptionRecord, e->ContextRecord);
    void *to = NULL;
    if (fault_fn && vector != NO_VECTOR)
        to = fault_fn(fault_opaque, (void *)e->ContextRecord->Rip, vector);
    if (!to)
        return EXCEPTION_CONTINUE_SEARCH;
    e->ContextRecord->Rip = (DWORD64)to;
    return EXCEPTION_CONTINUE_EXECUTION;
}

void host_fault_handler(HostFaultFn *fn, void *opaque)
{
    static void *installed;
    fault_opaque = opaque;
    fault_fn = fn;
    if (!installed)
        installed = AddVectoredExceptionHandler(1, on_fault);
}

static LONG CALLBACK on_bug(EXCEPTION_POINTERS *e)
{
    u64 base = (u64)GetModuleHandleW(NULL), at = e->ContextRecord->Rip;
    fprintf(stderr, "qemu: internal error: exception %08lx at %s%llx\n", e->ExceptionRecord->ExceptionCode,
            at - base < 0x10000000 ? "qemu.exe+" : "",
            (unsigned long long)(at - base < 0x10000000 ? at - base : at));
    fflush(stderr);
    TerminateProcess(GetCurrentProcess(), INTERNAL_ERROR);
    return EXCEPTION_CONTINUE_SEARCH;
}

void fault_init(void)
{
    SetUnhandledExceptionFilter(on_bug);
}
