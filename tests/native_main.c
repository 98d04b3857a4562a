/*
 * The whole machine on the build machine, without a window: for debugging and for tests with sanitizers. Not
 * shipped. Takes the same command line as qemu.exe; the display is always "none".
 */
#include "host_posix.h"

#include "../core/vm/blk.h"
#include "../core/vm/chardev.h"
#include "../core/vm/control.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/snapshot.h"
#include "../devices/pc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const Error *err)
{
    fprintf(stderr, "qemu: %s\n", err->text);
    return 1;
}

int main(int argc, char **argv)
{
    Config cfg;
    Error err = { "" };
    Machine *m;
    int code;

    host_posix_init();
    config_default(&cfg);
    switch (options_parse(argc, argv, &cfg, &err)) {
    case OPTIONS_EXIT_OK:
        return 0;
    case OPTIONS_ERROR:
        return fail(&err);
    case OPTIONS_RUN:
        break;
    }
    cfg.display = DISPLAY_NONE;
    log_mask = cfg.log_mask;
    if (cfg.log_file && !log_to_file(cfg.log_file))
        return 1;
    m = machine_create(&cfg, pc_arena_bytes(&cfg), &err);
    if (!m)
        return fail(&err);
    machine_lock(m);
    if (!pc_create(m, &err) || !control_open(m, &err))
        return fail(&err);
    if (!machine_start(m, &err))
        return fail(&err);
    machine_unlock(m);
    host_posix_loop(m);
    machine_lock(m);
    snapshot_finish(m);
    machine_join(m);
    blk_flush_all(m);
    chardev_flush_all(m);
    machine_unlock(m);
    code = machine_exit_code(m);
    fflush(stdout);
    _Exit(code);
}
