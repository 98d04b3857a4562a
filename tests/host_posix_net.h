/* The test host's sockets, for its main loop and for tests without one. */
#ifndef TESTS_HOST_POSIX_NET_H
#define TESTS_HOST_POSIX_NET_H

#include <poll.h>

enum { POSIX_NET_MAX = 1100 };
int posix_net_prepare(struct pollfd *fds);      /* fills in what is waited for; returns how many */
void posix_net_dispatch(const struct pollfd *fds, int count);
bool posix_net_eager(void);                     /* somebody wants to go on without waiting */

#endif
