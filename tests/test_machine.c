/* Who runs the virtual timers: of an idle guest that ticks the vCPU, which wakes nobody else for it; of a busy
 * one the main loop. With a CPU and a main loop of the test's own. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/cpu.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"
#include "host_posix.h"

enum { TICK_NS = 4000000, IDLE_TICKS = 100 };

/* ---- a CPU that halts at once, or computes while it is told to ---- */
static bool interrupt, busy;
static volatile bool stop_wanted;
static int runs;

bool cpu_has_work(Cpu *cpu) { (void)cpu; return interrupt; }
void cpu_attention(Cpu *cpu, u32 bits) { (void)cpu; stop_wanted |= bits & CPU_ATT_STOP; }
void cpu_reset(Cpu *cpu) { (void)cpu; }
void cpu_resume(Cpu *cpu) { (void)cpu; }
void cpu_memory_changed(Cpu *cpu) { (void)cpu; }
void cpu_code_written(Cpu *cpu, u32 page, u32 offset, u32 bytes)
{
    (void)cpu, (void)page, (void)offset, (void)bytes;
}

static Machine *m;

CpuExit cpu_run(Cpu *cpu)
{
    (void)cpu;
    machine_lock(m);
    runs++;
    interrupt = false;
    machine_unlock(m);
    while (__atomic_load_n(&busy, __ATOMIC_RELAXED) && !stop_wanted)
        ;
    bool stopped = stop_wanted;
    stop_wanted = false;
    return stopped ? CPU_EXIT_STOP : CPU_EXIT_HALT;
}

/* ---- the main loop: sleeps until its deadline, or until it is woken ---- */
static HostLock *sleep_lock;
static HostCond *sleep_cond;
static bool woken;
static u64 asked_ns = TIMER_NEVER;
static int turns;

static void end_sleep(u64 at_ns)
{
    host_lock(sleep_lock);
    woken |= at_ns == 0;
    asked_ns = at_ns < asked_ns ? at_ns : asked_ns;
    host_cond_signal(sleep_cond);
    host_unlock(sleep_lock);
}

void host_wake(void) { end_sleep(0); }
void host_deadline(u64 when_ns) { end_sleep(when_ns); }

static void one_turn(u64 latest_ns)
{
    u64 deadline;
    turns++;
    machine_service(m, &deadline);
    machine_unlock(m);
    host_lock(sleep_lock);
    for (;;) {
        u64 end = asked_ns < deadline ? asked_ns : deadline;
        end = end < latest_ns ? end : latest_ns;
        if (woken || host_now_ns() >= end)
            break;
        host_cond_wait_until(sleep_cond, sleep_lock, end);
    }
    woken = false;
    asked_ns = TIMER_NEVER;
    host_unlock(sleep_lock);
    machine_lock(m);
}

/* ---- a periodic timer that interrupts, and others ---- */
static Timer tick, single;
static int ticks, singles, ticks_at_single;

static void on_tick(void *opaque)
{
    (void)opaque;
    ticks++;
    interrupt = true;
    timer_arm(&tick, clock_ns(m, CLOCK_VIRTUAL) + TICK_NS);
}

static void on_single(void *opaque)
{
    (void)opaque;
    singles++;
    ticks_at_single = ticks;
}

static void run_ticks(int n)
{
    u64 end = host_now_ns() + 20 * NS_PER_SEC; /* of a broken machine; nothing is measured */
    for (int until = ticks + n; ticks < until && host_now_ns() < end;)
        one_turn(host_now_ns() + 200000000);
}

int main(void)
{
    Error err;
    Config cfg = { .ram_bytes = 1 << 20 };
    host_posix_init();
    sleep_lock = host_lock_new();
    sleep_cond = host_cond_new();
    m = machine_create(&cfg, 1 << 21, &err);
    CHECK(m != NULL);
    m->cpu = (Cpu *)&cfg; /* never looked into */
    machine_lock(m);
    timer_init(&tick, m, CLOCK_VIRTUAL, on_tick, NULL);
    timer_init(&single, m, CLOCK_VIRTUAL, on_single, NULL);
    CHECK(machine_start(m, &err));
    timer_arm(&tick, 0);

    run_ticks(IDLE_TICKS);
    int before = turns, ticks_before = ticks;
    run_ticks(IDLE_TICKS);
    CHECK_MSG(ticks - ticks_before >= IDLE_TICKS, "an idle guest's timer goes on ticking");
    CHECK_MSG(turns - before < IDLE_TICKS / 2, "it wakes the main loop rarely: %d turns", turns - before);

    /* Armed by the main loop while the vCPU sleeps until a later tick. */
    timer_cancel(&tick);
    timer_arm(&tick, clock_ns(m, CLOCK_VIRTUAL) + 50 * TICK_NS);
    run_ticks(1);
    int count = ticks;
    timer_arm(&single, clock_ns(m, CLOCK_VIRTUAL) + TICK_NS / 2);
    timer_cancel(&tick);
    timer_arm(&tick, clock_ns(m, CLOCK_VIRTUAL) + 20 * TICK_NS);
    run_ticks(1);
    CHECK_MSG(singles == 1 && ticks_at_single == count, "a timer nearer than the vCPU's sleep comes first");

    timer_cancel(&tick);
    timer_arm(&tick, clock_ns(m, CLOCK_VIRTUAL) + TICK_NS);
    run_ticks(IDLE_TICKS / 2);
    __atomic_store_n(&busy, true, __ATOMIC_RELAXED); /* the next run does not end */
    run_ticks(IDLE_TICKS / 2);
    CHECK_MSG(busy, "while the guest computes the main loop runs its timers");
    int busy_runs = runs;
    run_ticks(5);
    CHECK_MSG(runs == busy_runs, "it did compute: %d runs", runs - busy_runs);
    __atomic_store_n(&busy, false, __ATOMIC_RELAXED);
    run_ticks(IDLE_TICKS / 2);
    CHECK_MSG(runs > busy_runs, "and goes on ticking when it is idle again");

    machine_stop(m);
    count = ticks;
    one_turn(host_now_ns() + 10 * TICK_NS);
    CHECK_MSG(ticks == count, "a machine that is stopped does not tick");
    machine_cont(m);
    run_ticks(20);
    CHECK_MSG(ticks > count, "one that goes on does");

    machine_join(m);
    machine_unlock(m);
    machine_destroy(m);
    host_lock_free(sleep_lock);
    host_cond_free(sleep_cond);
    return test_end();
}
