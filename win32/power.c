/*
 * The computer goes to sleep with a guest running. The performance counter goes on meanwhile, and a guest that
 * finds hours gone between two instructions believes in lost interrupts and dead disks: so the machine is
 * paused before, and goes on after. What its date does then is the machine's policy (-rtc clock=).
 *
 * Windows calls on a thread of its own and goes to sleep when we return. PowerRegisterSuspendResumeNotification
 * needs no window; it is there since Windows 8.
 */
#include "win.h"

#include "../core/vm/machine.h"

static struct {
    Machine *m;
    HANDLE changed, done;
    volatile LONG asleep;
    bool paused; /* by us, and not by a person */
} power;

/* Main thread, machine lock held. */
static void on_change(void *opaque)
{
    (void)opaque;
    if (power.asleep && machine_running(power.m)) {
        machine_stop(power.m);
        power.paused = true;
    } else if (!power.asleep && power.paused) {
        machine_cont(power.m);
        power.paused = false;
    }
    SetEvent(power.done);
}

ULONG CALLBACK power_event(void *opaque, ULONG type, void *setting)
{
    enum { PATIENCE_MS = 1500 }; /* Windows itself waits for 2 seconds */
    (void)opaque, (void)setting;
    if (type != PBT_APMSUSPEND && type != PBT_APMRESUMEAUTOMATIC && type != PBT_APMRESUMESUSPEND)
        return 0;
    InterlockedExchange(&power.asleep, type == PBT_APMSUSPEND);
    ResetEvent(power.done);
    SetEvent(power.changed);
    if (type == PBT_APMSUSPEND)
        WaitForSingleObject(power.done, PATIENCE_MS);
    return 0;
}

void power_init(Machine *m)
{
    /* As <powrprof.h> of newer SDKs has them: DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS, DEVICE_NOTIFY_CALLBACK. */
    static struct {
        ULONG(CALLBACK *callback)(void *context, ULONG type, void *setting);
        void *context;
    } to = {.callback = power_event};
    enum { NOTIFY_CALLBACK = 2 };
    typedef DWORD WINAPI Register(DWORD flags, HANDLE recipient, HANDLE *registration);
    HMODULE library = LoadLibraryW(L"powrprof.dll");
    Register *start =
        library ? (Register *)(void *)GetProcAddress(library, "PowerRegisterSuspendResumeNotification") : NULL;
    HANDLE handle;
    power.m = m;
    power.changed = CreateEventW(NULL, FALSE, FALSE, NULL);
    power.done = CreateEventW(NULL, TRUE, FALSE, NULL);
    loop_add(power.changed, on_change, NULL);
    if (start)
        start(NOTIFY_CALLBACK, &to, &handle); /* until the program ends */
}
