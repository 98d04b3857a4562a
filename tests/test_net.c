/* Sockets and the VLAN's wire on the build machine's host. */
#include "net_sockets.h"

#include "host_posix.h"

#include <dirent.h>

static void turn(unsigned most_ms) { host_posix_turn(m, most_ms); }

static unsigned handles(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

int main(void)
{
    Config cfg;
    Error err;

    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, 1 << 20, &err);
    machine_lock(m);
    test_sockets(1000);
    machine_unlock(m);
    return test_end();
}
