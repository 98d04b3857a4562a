/*
 * The main loop: one wait on everything that can happen, with the next timer as deadline. Nothing polls.
 *
 * host_wake() is called far more often than the loop sleeps: it only sets a flag, and signals the event when
 * the loop has said that it sleeps. The loop says so first and looks at the flag then; the waker sets the
 * flag first and looks then: one of the two sees the other.
 *
 * A vCPU that arms a timer (a guest does so hundreds of times a second) wakes nobody: host_deadline() sets
 * the waitable timer that the loop waits for anyway. It is only ever moved forward; what was set for a timer
 * that is gone is a wake for nothing.
 */
#include "win.h"

#include "../core/vm/machine.h"

static struct {
    WaitSet *set;
    HANDLE timer, wake;
    SRWLOCK arm_lock;
    u64 armed_ns; /* host time the timer is set to; TIMER_NEVER: to none. Under arm_lock */
    volatile LONG woken, sleeping, quit;
    int turns; /* the loop has gone round since it last looked at the handles */
} loop;

static void on_event(void *opaque)
{
    (void)opaque; /* the loop goes round once, that is all */
}

static void on_timer(void *opaque)
{
    (void)opaque;
    /* If it was set anew meanwhile, this forgets it; the loop goes on to look at all timers and sets it for
     * the next. */
    AcquireSRWLockExclusive(&loop.arm_lock);
    loop.armed_ns = TIMER_NEVER;
    ReleaseSRWLockExclusive(&loop.arm_lock);
}

void loop_init(void)
{
    time_init();
    loop.set = waitset_new();
    loop.timer = time_waitable_timer();
    loop.wake = CreateEventW(NULL, FALSE, FALSE, NULL);
    loop.armed_ns = TIMER_NEVER;
    waitset_add(loop.set, loop.timer, on_timer, NULL);
    waitset_add(loop.set, loop.wake, on_event, NULL);
    file_io_init();
}

WaitItem *loop_add(HANDLE handle, WaitFn *fn, void *opaque)
{
    return waitset_add(loop.set, handle, fn, opaque);
}

void loop_remove(WaitItem *item)
{
    waitset_remove(loop.set, item);
}

void host_wake(void)
{
    InterlockedExchange(&loop.woken, 1);
    if (loop.sleeping && loop.wake)
        SetEvent(loop.wake);
}

void loop_request_quit(void)
{
    InterlockedExchange(&loop.quit, 1);
    host_wake();
}

void host_deadline(u64 when_ns)
{
    enum { TICK_NS = 100 }; /* the unit of waitable timers; negative: from this moment on */
    AcquireSRWLockExclusive(&loop.arm_lock);
    if (loop.timer && when_ns < loop.armed_ns) {
        u64 now = host_now_ns(), left = when_ns > now ? when_ns - now : 0;
        LARGE_INTEGER due = {.QuadPart = -(LONGLONG)(left / TICK_NS + 1)};
        loop.armed_ns = when_ns;
        SetWaitableTimer(loop.timer, &due, 0, NULL, NULL, FALSE);
    }
    ReleaseSRWLockExclusive(&loop.arm_lock);
}

/*
 * The machine lock is not held. A deadline that is near is kept by the timer. One that is far is approached
 * by the wait's own timeout, which may be late by a tick of the system's clock (16 ms): most of them are
 * replaced by a nearer one before that, and so the timer need not be set for them.
 */
static void sleep_until(u64 deadline_ns)
{
    enum { NEAR_MS = 60, APPROACH_MS = 30, MAX_MS = 1000000, TURNS = 16 };
    const u64 ms = 1000000;
    InterlockedExchange(&loop.sleeping, 1);
    if (loop.woken && loop.turns++ < TURNS) {
        loop.sleeping = 0; /* no need to ask Windows; but now and then the handles have their turn */
        return;
    }
    loop.turns = 0;
    u64 now = deadline_ns == TIMER_NEVER ? 0 : host_now_ns();
    DWORD timeout = INFINITE;
    if (loop.woken || deadline_ns <= now) {
        timeout = 0; /* something else may have happened, too */
    } else if (deadline_ns != TIMER_NEVER && deadline_ns - now < NEAR_MS * ms) {
        host_deadline(deadline_ns);
    } else if (deadline_ns != TIMER_NEVER) {
        u64 left = (deadline_ns - now) / ms - APPROACH_MS;
        timeout = left < MAX_MS ? (DWORD)left : MAX_MS;
    }
    waitset_wait(loop.set, timeout);
    loop.sleeping = 0;
}

void loop_run(Machine *m)
{
    machine_lock(m);
    for (;;) {
        u64 deadline;
        InterlockedExchange(&loop.woken, 0);
        waitset_dispatch(loop.set);
        if (loop.quit)
            machine_request(m, REQ_QUIT);
        if (!machine_service(m, &deadline))
            break;
        machine_unlock(m);
        sleep_until(deadline);
        machine_lock(m);
    }
    machine_unlock(m);
}
