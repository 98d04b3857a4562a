/* Time of the host: the performance counter for durations, the system clock for dates, the most exact
 * waitable timer. */
#include "win.h"

#include <timeapi.h>

#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 2
#endif

static u64 qpc_hz;
static u64 qpc_ns; /* nanoseconds a count where that is a whole number (10 MHz: 100), else 0 */

static const s64 epoch_difference_s = 11644473600; /* 1601 to 1970 */

void time_init(void)
{
    LARGE_INTEGER f;
    QueryPerformanceFrequency(&f);
    qpc_hz = (u64)f.QuadPart;
    qpc_ns = 1000000000 % qpc_hz ? 0 : 1000000000 / qpc_hz;
}

u64 host_now_ns(void)
{
    LARGE_INTEGER t;
    if (!qpc_hz)
        time_init();
    QueryPerformanceCounter(&t);
    if (qpc_ns)
        return (u64)t.QuadPart * qpc_ns;
    u64 n = (u64)t.QuadPart, s = n / qpc_hz; /* in two parts: no overflow, and no 128-bit division */
    return s * 1000000000 + (n - s * qpc_hz) * 1000000000 / qpc_hz;
}

s64 host_wall_us(void)
{
    FILETIME ft;
    GetSystemTimePreciseAsFileTime(&ft);
    u64 t = (u64)ft.dwHighDateTime << 32 | ft.dwLowDateTime;
    return (s64)(t / 10) - epoch_difference_s * 1000000;
}

static bool filetime_of(s64 unix_s, FILETIME *ft)
{
    s64 s = unix_s + epoch_difference_s;
    if (s < 0 || s > 900000000000)
        return false;
    u64 t = (u64)s * 10000000;
    ft->dwLowDateTime = (DWORD)t;
    ft->dwHighDateTime = (DWORD)(t >> 32);
    return true;
}

s64 host_utc_offset_s(s64 unix_s)
{
    FILETIME utc, local;
    SYSTEMTIME in, out;
    if (!filetime_of(unix_s, &utc) || !FileTimeToSystemTime(&utc, &in) ||
        !SystemTimeToTzSpecificLocalTime(NULL, &in, &out) || !SystemTimeToFileTime(&out, &local) ||
        !SystemTimeToFileTime(&in, &utc))
        return 0;
    u64 a = (u64)local.dwHighDateTime << 32 | local.dwLowDateTime,
        b = (u64)utc.dwHighDateTime << 32 | utc.dwLowDateTime;
    return ((s64)a - (s64)b) / 10000000;
}

/* Windows 11 gives hidden windows coarse timers: a guest must keep its time when its window is minimised. */
static void refuse_throttling(void)
{
    typedef BOOL WINAPI SetInfo(HANDLE, int, void *, DWORD);
    enum { PROCESS_POWER_THROTTLING = 4, EXECUTION_SPEED = 1, IGNORE_TIMER_RESOLUTION = 4 };
    struct {
        ULONG version, control, state;
    } power = {1, EXECUTION_SPEED | IGNORE_TIMER_RESOLUTION, 0};
    SetInfo *set = (SetInfo *)(void *)GetProcAddress(GetModuleHandleW(L"kernel32"), "SetProcessInformation");
    if (set)
        set(GetCurrentProcess(), PROCESS_POWER_THROTTLING, &power, sizeof power);
}

HANDLE time_waitable_timer(void)
{
    refuse_throttling();
    HANDLE t = CreateWaitableTimerExW(NULL, NULL, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    timeBeginPeriod(1); /* for host_cond_wait_until(), and for a plain timer */
    return t ? t : CreateWaitableTimerW(NULL, FALSE, NULL); /* before Windows 10 1803 */
}
