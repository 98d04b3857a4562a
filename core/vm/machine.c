/*
 * The machine lock, the vCPU thread and the run state.
 *
 * The vCPU thread holds the lock except inside cpu_run(). It parks (waits on cpu_cond) when the machine is
 * paused, when the main thread wants it parked, when a request waits to be served, and when the CPU is halted
 * with nothing to do. A halted CPU is woken by whoever lets go of the lock after having given it work:
 * machine_unlock() looks.
 *
 * The timers of the virtual clock are the main loop's. But a guest that is idle and ticks (a few hundred
 * times a second it wakes up, does next to nothing and halts) would cost two threads' wake-ups a tick. After
 * some such short runs the vCPU keeps the virtual timers itself: it sleeps until the next one, runs it and
 * goes on. The main loop takes them back when a wake-up becomes a longer run. Nobody tells it so (that would
 * cost a wake-up a tick again): while a guest ticks, it looks now and then, which is how late a tick can be
 * that falls into the first run of a guest that stops being idle.
 */
#include "machine.h"

#include "blk.h"
#include "clocks.h"
#include "device.h"
#include "host.h"
#include "log.h"
#include "monitor.h"
#include "snapshot.h"
#include "ui.h"

#include <stdlib.h>

struct MachineThread {
    HostLock *lock;
    HostCond *cpu_cond;         /* the vCPU waits on it */
    HostCond *parked_cond;      /* whoever wants it parked waits on it */
    HostThread *vcpu;
    u32 requests;
    int park_wanted;            /* nested */
    bool parked;                /* the vCPU is not inside cpu_run() */
    bool halted;                /* parked because of HLT */
    bool keeps_time;            /* the vCPU runs the virtual timers */
    bool ticked, watched;       /* it woke up since the main loop looked; the main loop will look again */
    int short_runs;             /* between halts, since the last longer one */
    u64 stop_ns;                /* host time of machine_stop(); 0: it has not run yet */
    u64 run_start_ns;           /* host time of the last end of a halt */
    u64 sleep_end_ns;           /* keeps_time and halted: when it will wake up by itself */
    bool running;               /* the person's will: not paused */
    bool powered_off;           /* -no-shutdown: the machine is off, the window stays */
    bool io_error;              /* paused because of one */
    bool quit;
    bool by_guest;              /* what asked for a reset or the end was no person */
    int exit_code;
};

Machine *machine_create(const Config *cfg, u64 arena_bytes, Error *err)
{
    Machine *m = calloc(1, sizeof(*m));
    MachineThread *t = calloc(1, sizeof(*t));

    if (!m || !t) {
        free(m);
        free(t);
        error_set(err, "out of memory");
        return NULL;
    }
    m->thread = t;
    t->lock = host_lock_new();
    t->cpu_cond = host_cond_new();
    t->parked_cond = host_cond_new();
    t->parked = true;
    config_copy(&m->cfg, cfg);
    m->mem = memory_create(m, arena_bytes);
    if (!m->mem || !clocks_create(m)) {
        machine_destroy(m);
        error_set(err, "not enough memory for a guest with %llu MB",
                  (unsigned long long)(cfg->ram_bytes >> 20));
        return NULL;
    }
    m->ui = ui_create(m);
    return m;
}

void machine_destroy(Machine *m)
{
    MachineThread *t = m->thread;

    snapshot_destroy(m);
    devices_destroy(m);
    monitor_drop_info(m);
    if (m->ui)
        ui_destroy(m->ui);
    if (m->clocks)
        clocks_destroy(m);
    memory_destroy(m->mem);
    config_free(&m->cfg);
    host_cond_free(t->cpu_cond);
    host_cond_free(t->parked_cond);
    host_lock_free(t->lock);
    free(t);
    free(m);
}

void machine_lock(Machine *m) { host_lock(m->thread->lock); }

/* Whose the virtual timers are, the vCPU's or the main loop's. */
static void keep_time(Machine *m, bool keep)
{
    m->thread->keeps_time = keep;
    clock_keep(m, keep);
}

void machine_unlock(Machine *m)
{
    MachineThread *t = m->thread;
    bool wake = t->halted && m->cpu && cpu_has_work(m->cpu);

    bool keeper = wake && t->keeps_time;

    if (wake) {
        t->halted = false;
        t->run_start_ns = host_now_ns();
    }
    if (keeper)
        keep_time(m, false);
    host_unlock(t->lock);
    if (keeper)
        host_wake();                    /* its timers are the main loop's again */
    if (wake)
        /* after the unlock, so that the vCPU does not wake only to wait for the lock */
        host_cond_signal(t->cpu_cond);
}

/* ---- the virtual timers, kept by the vCPU while the guest is idle ---- */

enum {
    MS = 1000000,
    SHORT_RUN_NS = MS / 2,      /* a tick of a guest that is idle takes less */
    SHORT_RUNS = 8,             /* so many of them: it is idle */
    COARSE_NS = 2 * MS,         /* nearer timers are the main loop's, whose waits are more exact */
    WATCH_NS = 50 * MS,
};

/* vCPU thread. */
static void sleep_halted(Machine *m)
{
    MachineThread *t = m->thread;
    u64 next = clock_next(m, CLOCK_VIRTUAL);

    if (!t->keeps_time && t->short_runs >= SHORT_RUNS && next > host_now_ns() + COARSE_NS)
        keep_time(m, true);
    if (!t->keeps_time) {
        host_cond_wait(t->cpu_cond, t->lock);
        return;
    }
    t->sleep_end_ns = next;
    host_cond_wait_until(t->cpu_cond, t->lock, next);
    if (!t->keeps_time || host_now_ns() < next)
        return;
    clock_run_due(m, CLOCK_VIRTUAL);
    t->halted = !cpu_has_work(m->cpu);
    t->run_start_ns = host_now_ns();
    t->ticked = true;
    if (!t->watched)
        host_wake();
}

/* Main thread, once a turn: takes the timers back if need be. Returns when it has to look again. */
static u64 watch_time(Machine *m)
{
    MachineThread *t = m->thread;
    u64 now = host_now_ns();

    t->watched = t->ticked;
    if (!t->keeps_time)
        return TIMER_NEVER;
    if (!t->halted) {
        if (now - t->run_start_ns < SHORT_RUN_NS)
            return now + SHORT_RUN_NS;
        keep_time(m, false);
    } else if (cpu_has_work(m->cpu) || clock_next(m, CLOCK_VIRTUAL) < t->sleep_end_ns) {
        keep_time(m, false);
    }
    t->ticked = false;
    return t->keeps_time && t->watched ? now + WATCH_NS : TIMER_NEVER;
}

/* ---- the vCPU thread ---- */

static void cpu_left(Machine *m, CpuExit why)
{
    MachineThread *t = m->thread;

    switch (why) {
    case CPU_EXIT_HALT:
        t->halted = !cpu_has_work(m->cpu);
        if (host_now_ns() - t->run_start_ns >= SHORT_RUN_NS)
            t->short_runs = 0;
        else if (t->short_runs < SHORT_RUNS)
            t->short_runs++;
        break;
    case CPU_EXIT_SHUTDOWN:
        machine_request(m, REQ_RESET);  /* a PC's chip set answers the shutdown cycle with a reset */
        break;
    case CPU_EXIT_DEBUG:
        machine_request(m, REQ_STOP);
        break;
    case CPU_EXIT_STOP:
        break;
    }
}

static void vcpu_thread(void *opaque)
{
    Machine *m = opaque;
    MachineThread *t = m->thread;

    host_lock(t->lock);
    while (!t->quit) {
        CpuExit why;

        if (!t->running || t->park_wanted || t->requests) {
            host_cond_signal(t->parked_cond);
            host_cond_wait(t->cpu_cond, t->lock);
            continue;
        }
        if (t->halted) {
            sleep_halted(m);
            continue;
        }
        t->parked = false;
        host_unlock(t->lock);
        why = cpu_run(m->cpu);
        host_lock(t->lock);
        t->parked = true;
        cpu_left(m, why);
    }
    host_cond_signal(t->parked_cond);   /* somebody may wait in machine_park() */
    host_unlock(t->lock);
}

/* Returns with the vCPU outside cpu_run(), and it stays there until machine_unpark(). */
void machine_park(Machine *m)
{
    MachineThread *t = m->thread;

    t->park_wanted++;
    while (!t->parked) {
        cpu_attention(m->cpu, CPU_ATT_STOP);
        host_cond_wait(t->parked_cond, t->lock);
    }
}

void machine_unpark(Machine *m)
{
    m->thread->park_wanted--;
    host_cond_signal(m->thread->cpu_cond);
}

/* ---- run state ---- */

static void reset_all(Machine *m)
{
    devices_reset(m);
    blk_give_up_all(m);
    m->thread->io_error = false;
    if (m->board_reset)
        m->board_reset(m->board_opaque);
    cpu_reset(m->cpu);
    keep_time(m, false);
    m->thread->halted = false;
}

bool machine_start(Machine *m, Error *err)
{
    MachineThread *t = m->thread;
    char note[512];

    reset_all(m);
    if (m->cfg.loadvm && !snapshot_load(m, m->cfg.loadvm, note, err))
        return error_prefix(err, "-loadvm %.60s", m->cfg.loadvm);
    if (m->cfg.loadvm && note[0])
        log_line("%s", note);
    t->vcpu = host_thread_start("vcpu", vcpu_thread, m);
    if (!m->cfg.start_stopped)
        machine_cont(m);
    return true;
}

void machine_join(Machine *m)
{
    MachineThread *t = m->thread;

    if (!t->vcpu)
        return;
    machine_park(m);
    t->quit = true;
    machine_unpark(m);
    host_unlock(t->lock);
    host_thread_join(t->vcpu);
    host_lock(t->lock);
    t->vcpu = NULL;
}

void machine_stop(Machine *m)
{
    MachineThread *t = m->thread;

    if (!t->running)
        return;
    machine_park(m);
    t->running = false;
    t->stop_ns = host_now_ns();
    keep_time(m, false);
    clocks_run(m, false);
    machine_unpark(m);
    ui_state_changed(m->ui);
    machine_tell(m, MACHINE_STOPPED, NULL, NULL);
}

void machine_cont(Machine *m)
{
    MachineThread *t = m->thread;

    if (t->running || t->powered_off)
        return;
    t->running = true;
    if (m->cpu)
        cpu_resume(m->cpu);
    t->io_error = false;
    clocks_run(m, true);
    if (m->stood && t->stop_ns)
        m->stood(m->stood_opaque, host_now_ns() - t->stop_ns);
    blk_retry_all(m);
    host_cond_signal(t->cpu_cond);
    host_wake();
    ui_state_changed(m->ui);
    machine_tell(m, MACHINE_RESUMED, NULL, NULL);
}

void machine_listen(Machine *m, MachineListener *l)
{
    l->next = m->listeners;
    m->listeners = l;
}

void machine_unlisten(Machine *m, MachineListener *l)
{
    for (MachineListener **p = &m->listeners; *p; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            return;
        }
    }
}

void machine_tell(Machine *m, MachineEvent e, const char *detail, void *subject)
{
    for (MachineListener *l = m->listeners, *next; l; l = next) {
        next = l->next;
        l->event(l->opaque, e, detail, subject);
    }
}

void machine_freeze(Machine *m)
{
    machine_park(m);
    keep_time(m, false);
    clocks_run(m, false);
}

void machine_thaw(Machine *m, bool other_state)
{
    MachineThread *t = m->thread;

    if (other_state) {
        t->halted = t->powered_off = false;     /* cpu_run() finds out again */
        ui_state_changed(m->ui);
    }
    clocks_run(m, t->running);
    machine_unpark(m);
    host_wake();
}

bool machine_started(Machine *m) { return m->thread->vcpu; }
bool machine_running(Machine *m) { return m->thread->running; }

void machine_request(Machine *m, MachineRequest r)
{
    if ((r & REQ_RESET) && m->cfg.no_reboot)
        r = (MachineRequest)(REQ_SHUTDOWN | (r & REQ_BY_HOST));
    if (!(r & REQ_BY_HOST) && (r & (REQ_RESET | REQ_SHUTDOWN)))
        m->thread->by_guest = true;
    m->thread->requests |= r & ~REQ_BY_HOST;
    if (m->cpu && r != REQ_POWERDOWN)
        cpu_attention(m->cpu, CPU_ATT_STOP);
    host_wake();
}

void machine_set_exit_code(Machine *m, int code) { m->thread->exit_code = code; }
int machine_exit_code(Machine *m) { return m->thread->exit_code; }

static void serve_shutdown(Machine *m)
{
    MachineThread *t = m->thread;

    machine_tell(m, MACHINE_SHUTDOWN, !t->by_guest ? "host-signal" : m->cfg.no_reboot ? "guest-reset" : "guest-shutdown",
                 NULL);
    if (!m->cfg.no_shutdown) {
        t->quit = true;
        return;
    }
    machine_stop(m);
    t->powered_off = true;
    ui_state_changed(m->ui);
}

static void serve_requests(Machine *m, u32 requests)
{
    MachineThread *t = m->thread;

    if (requests & REQ_QUIT) {
        machine_tell(m, MACHINE_SHUTDOWN, "host-qmp-quit", NULL);
        t->quit = true;
        return;
    }
    if (requests & REQ_SHUTDOWN)
        serve_shutdown(m);
    if (t->quit)
        return;
    if (requests & (REQ_STOP | REQ_IO_ERROR))
        machine_stop(m);
    if (requests & REQ_IO_ERROR)
        t->io_error = true;
    if (requests & REQ_RESET) {
        machine_park(m);
        reset_all(m);
        t->powered_off = false;
        machine_unpark(m);
        ui_state_changed(m->ui);
        machine_tell(m, MACHINE_RESET, t->by_guest ? "guest-reset" : "host-qmp-system-reset", NULL);
    }
    if ((requests & REQ_POWERDOWN) && m->powerdown) {
        m->powerdown(m->powerdown_opaque);
        machine_tell(m, MACHINE_POWERDOWN, NULL, NULL);
    }
    t->by_guest = false;
}

bool machine_service(Machine *m, u64 *deadline_ns)
{
    MachineThread *t = m->thread;
    u64 look;

    while (t->requests && !t->quit) {
        u32 requests = t->requests;

        t->requests = 0;
        serve_requests(m, requests);
        host_cond_signal(t->cpu_cond);
    }
    look = watch_time(m);
    snapshot_service(m);
    *deadline_ns = timers_run(m);
    if (look < *deadline_ns)
        *deadline_ns = look;
    return !t->quit;
}

bool machine_io_error(Machine *m) { return !m->thread->running && m->thread->io_error; }

const char *machine_state_name(Machine *m)
{
    if (m->thread->powered_off)
        return "shutdown";
    return m->thread->running ? "running" : m->thread->io_error ? "paused (io-error)" : "paused";
}
