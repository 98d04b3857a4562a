/* The native test host's own calls, beyond host.h. */
#ifndef TESTS_HOST_POSIX_H
#define TESTS_HOST_POSIX_H

#include "../core/vm/types.h"

typedef struct Machine Machine;

void host_posix_init(void);                     /* once, before a machine is made */
void host_posix_set_time(u64 ns);               /* host_now_ns() stands there from now on: tests of chips */
void host_posix_loop(Machine *m);               /* the main loop, until machine_service() says to end */
/* One turn of it, machine lock held (it is let go while waiting); false: the machine ends. For tests. */
bool host_posix_turn(Machine *m, unsigned max_ms);

#endif
