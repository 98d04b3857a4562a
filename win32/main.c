/*
 * qemu.exe: command line -> machine -> board -> window -> main loop -> exit code. The only place that ends
 * the program.
 */
#include "win.h"
#include "window.h"

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

enum { EXIT_FAILED = 1 };

int _dowildcard = 0; /* MinGW's start-up code expands no wildcards: file names are what they are */

static int fail(const Error *err)
{
    console_fail(err);
    console_restore();
    return EXIT_FAILED;
}

/* ---- what the options ask of the program itself ---- */

static bool write_pidfile(const char *path, Error *err)
{
    char text[32];
    HostFile *f = host_file_open(path, HOST_WRITE | HOST_CREATE, err);
    if (!f)
        return error_prefix(err, "-pidfile");
    int n = snprintf(text, sizeof text, "%lu\n", GetCurrentProcessId());
    bool ok = host_file_write(f, 0, text, (size_t)n, err) || error_prefix(err, "-pidfile %s", path);
    host_file_close(f);
    return ok;
}

static void remove_pidfile(const char *path)
{
    wchar_t *wide = wide_path(path);
    DeleteFileW(wide);
    free(wide);
}

/* A console that was made for this program alone shows nothing that anybody needs, unless the guest talks
 * there. */
static void settle_console(const Config *cfg)
{
    if (config_uses_stdio(cfg))
        console_attach();
    else if (cfg->display == DISPLAY_SDL)
        console_detach();
}

/* ---- nothing to boot ---- */

static bool ends_in(const char *path, const char *ending)
{
    size_t n = strlen(path), e = strlen(ending);
    return n >= e && !_stricmp(path + n - e, ending);
}

static DriveConfig *drive_for(Config *cfg, DriveIf iface, int index)
{
    DriveConfig *unused = NULL;
    for (int i = 0; i < CFG_DRIVES; i++) {
        DriveConfig *d = &cfg->drive[i];
        if (d->used && d->iface == iface && d->index == index)
            return d;
        if (!d->used && !unused)
            unused = d;
    }
    if (unused)
        *unused = (DriveConfig){.used = true, .iface = iface, .index = index};
    return unused;
}

/* A dropped file goes where its name and size say it belongs. Takes over path. */
static bool insert_dropped(Config *cfg, char *path, Error *err)
{
    enum { LARGEST_FLOPPY = 2880 * 1024, CDROM_PLACE = 2 };
    HostFile *f = host_file_open(path, HOST_READ, err);
    if (!f) {
        free(path);
        return false;
    }
    u64 bytes = host_file_size(f);
    host_file_close(f);
    bool cdrom = ends_in(path, ".iso"), floppy = bytes <= LARGEST_FLOPPY;
    DriveConfig *d =
        cdrom ? drive_for(cfg, IF_IDE, CDROM_PLACE) : drive_for(cfg, floppy ? IF_FLOPPY : IF_IDE, 0);
    if (!d) {
        free(path);
        return error_set(err, "no drive is free");
    }
    d->cdrom = d->readonly = cdrom;
    free(d->file);
    d->file = path;
    if (!cfg->boot[0])
        strcpy(cfg->boot, cdrom ? "d" : floppy ? "a" : "c");
    return true;
}

/* Asks the person in the window. False: he closed it, or what he gave is no file; then err says so. */
static bool ask_for_medium(Window *w, Config *cfg, Error *err)
{
    char *path = window_welcome(w);
    return path && insert_dropped(cfg, path, err);
}

/* ---- the machine ---- */

/* Runs the machine, which was started, to its end; everything acknowledged is on the disk when it returns. */
static int run(Machine *m, Window *w)
{
    power_init(m);
    machine_unlock(m);
    loop_run(m);
    machine_lock(m);
    snapshot_finish(m);
    machine_join(m);
    blk_flush_all(m);
    while (host_io_wait())
        ;
    chardev_flush_all(m);
    stdio_finish();
    if (w)
        window_close(w);
    machine_unlock(m);
    return machine_exit_code(m);
}

static bool build(Machine **m, Window **w, const Config *cfg, Error *err)
{
    *m = machine_create(cfg, pc_arena_bytes(cfg), err);
    if (!*m)
        return false;
    machine_lock(*m);
    if (!pc_create(*m, err) || !control_open(*m, err))
        return false;
    if (cfg->display == DISPLAY_SDL && !*w && !(*w = window_open(cfg, err)))
        return false;
    if (*w)
        window_attach(*w, *m);
    return machine_start(*m, err) && (!cfg->pidfile || write_pidfile(cfg->pidfile, err));
}

static bool open_log(const Config *cfg, Error *err)
{
    log_mask = cfg->log_mask;
    return !cfg->log_file || log_to_file(cfg->log_file) ||
           error_set(err, "-D %s: can't be made", cfg->log_file);
}

int main(void)
{
    Config cfg;
    Error err = {""};
    Machine *m;
    Window *w = NULL;
    int argc;

    fault_init();
    console_init();
    loop_init();
    char **argv = console_arguments(&argc);
    switch (options_parse(argc, argv, &cfg, &err)) {
    case OPTIONS_EXIT_OK:
        console_restore();
        return 0;
    case OPTIONS_ERROR:
        return fail(&err);
    case OPTIONS_RUN:
        break;
    }
    if (!open_log(&cfg, &err))
        return fail(&err);
    resource_dirs(&cfg);
    settle_console(&cfg);
    if (cfg.display == DISPLAY_SDL && !config_has_boot_medium(&cfg)) {
        w = window_open(&cfg, &err);
        if (!w)
            return fail(&err);
        if (!ask_for_medium(w, &cfg, &err)) {
            window_close(w);
            return err.text[0] ? fail(&err) : 0;
        }
    }
    if (!build(&m, &w, &cfg, &err))
        return fail(&err);
    int code = run(m, w);
    if (cfg.pidfile)
        remove_pidfile(cfg.pidfile);
    console_restore();
    fflush(NULL);
    ExitProcess((UINT)code); /* threads that wait for input end with the program */
}
