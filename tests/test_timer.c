/* Timers in order, cancelled, re-armed; the virtual clock and the TSC stand still while the machine is
 * stopped. */
#include "test.h"

#include "../core/vm/clocks.h"
#include "../core/vm/host.h"
#include "../core/vm/machine.h"

#include <stdlib.h>
#include <string.h>

static char order[16];
static Timer timers[4];
static int rearmed;

static void fire_a(void *o) { (void)o; strcat(order, "a"); }
static void fire_b(void *o) { (void)o; strcat(order, "b"); }
static void fire_c(void *o) { (void)o; strcat(order, "c"); timer_cancel(&timers[3]); }
static void fire_again(void *o) { (void)o; rearmed++; timer_arm(&timers[3], 0); }

int main(void)
{
    Machine m = { 0 };
    u64 stood, tsc;

    CHECK(clocks_create(&m));
    timer_init(&timers[0], &m, CLOCK_VIRTUAL, fire_a, NULL);
    timer_init(&timers[1], &m, CLOCK_VIRTUAL, fire_b, NULL);
    timer_init(&timers[2], &m, CLOCK_HOST, fire_c, NULL);
    timer_init(&timers[3], &m, CLOCK_VIRTUAL, fire_again, NULL);

    stood = clock_ns(&m, CLOCK_VIRTUAL);
    tsc = clock_tsc(&m);
    timer_arm(&timers[1], 2);
    timer_arm(&timers[0], 1);
    CHECK_MSG(timers_run(&m) == TIMER_NEVER && !order[0], "virtual timers wait while the machine stands");
    CHECK(clock_ns(&m, CLOCK_VIRTUAL) == stood && clock_tsc(&m) == tsc);

    clocks_run(&m, true);
    while (clock_ns(&m, CLOCK_VIRTUAL) < 1000)
        ;
    CHECK(clock_tsc(&m) > tsc);
    timers_run(&m);
    CHECK_MSG(!strcmp(order, "ab"), "earlier fires first: %s", order);
    CHECK(!timer_armed(&timers[0]));

    timer_arm(&timers[3], 0);
    timers_run(&m);
    CHECK_MSG(rearmed >= 1 && timer_armed(&timers[3]),
              "a timer that always re-arms into the past does not hold the loop");
    timer_arm(&timers[2], 0);
    timers_run(&m);
    CHECK(strchr(order, 'c') && !timer_armed(&timers[3]));

    timer_arm(&timers[0], ~0ull - 5);
    CHECK_MSG(timers_run(&m) == TIMER_NEVER - 1, "a far deadline does not wrap");
    clocks_run(&m, false);
    stood = clock_ns(&m, CLOCK_VIRTUAL);
    CHECK(clock_ns(&m, CLOCK_VIRTUAL) == stood);
    clock_set_tsc(&m, 1000);
    CHECK(clock_tsc(&m) == 1000);
    clocks_destroy(&m);
    return test_end();
}
