/* Threads, locks and conditions. */
#include "win.h"

#include <process.h>
#include <stdio.h>
#include <stdlib.h>

struct HostThread {
    HANDLE handle;
    void (*run)(void *);
    void *opaque;
};
struct HostLock {
    SRWLOCK lock;
};
struct HostCond {
    CONDITION_VARIABLE cond;
};

static void *get(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        abort();
    return p;
}

static unsigned __stdcall thread_main(void *opaque)
{
    HostThread *t = opaque;
    t->run(t->opaque);
    return 0;
}

static void name_thread(HANDLE thread, const char *name)
{
    typedef HRESULT WINAPI SetName(HANDLE, PCWSTR);
    SetName *set = (SetName *)(void *)GetProcAddress(GetModuleHandleW(L"kernel32"), "SetThreadDescription");
    if (set) {
        wchar_t *wide = wide_from_utf8(name);
        set(thread, wide);
        free(wide);
    }
}

HostThread *host_thread_start(const char *name, void (*run)(void *), void *opaque)
{
    HostThread *t = get(sizeof *t);
    t->run = run;
    t->opaque = opaque;
    t->handle = (HANDLE)_beginthreadex(NULL, 0, thread_main, t, 0, NULL);
    if (!t->handle) {
        fprintf(stderr, "qemu: can't start the %s thread\n", name);
        abort();
    }
    name_thread(t->handle, name);
    return t;
}

void host_thread_join(HostThread *t)
{
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
    free(t);
}

HostLock *host_lock_new(void)
{
    HostLock *l = get(sizeof *l);
    InitializeSRWLock(&l->lock);
    return l;
}

void host_lock_free(HostLock *l)
{
    free(l);
}
void host_lock(HostLock *l)
{
    AcquireSRWLockExclusive(&l->lock);
}
void host_unlock(HostLock *l)
{
    ReleaseSRWLockExclusive(&l->lock);
}

HostCond *host_cond_new(void)
{
    HostCond *c = get(sizeof *c);
    InitializeConditionVariable(&c->cond);
    return c;
}

void host_cond_free(HostCond *c)
{
    free(c);
}
void host_cond_wait(HostCond *c, HostLock *l)
{
    SleepConditionVariableSRW(&c->cond, &l->lock, INFINITE, 0);
}
void host_cond_wait_until(HostCond *c, HostLock *l, u64 when_ns)
{
    enum { MS = 1000000, LONGEST_MS = 1000000 };
    u64 now = host_now_ns(), left = when_ns > now ? (when_ns - now + MS - 1) / MS : 0;
    SleepConditionVariableSRW(&c->cond, &l->lock, left < LONGEST_MS ? (DWORD)left : LONGEST_MS, 0);
}
void host_cond_signal(HostCond *c)
{
    WakeAllConditionVariable(&c->cond);
}

int host_cpus(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors ? (int)info.dwNumberOfProcessors : 1;
}
