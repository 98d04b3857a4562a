/* The monitor's commands for snapshots. */
#include "monitor_int.h"

#include <string.h>

#include "snapshot.h"

static void say(Monitor *mon, const char *note)
{
    if (note[0])
        monitor_printf(mon, "%s\n", note);
}

static void saved(void *opaque, const char *error)
{
    Monitor *mon = opaque;
    if (error)
        monitor_printf(mon, "savevm: %s\n", error);
    monitor_ready(mon);
}

void monitor_savevm(Monitor *mon, const Args *a)
{
    char note[512];
    Error err;
    if (!snapshot_save(mon->m, a->argc ? a->argv[0] : NULL, note, saved, mon, &err)) {
        monitor_printf(mon, "savevm: %s\n", err.text);
        return;
    }
    say(mon, note);
    if (mon->chr)
        monitor_busy(mon);
    else
        snapshot_finish(mon->m);        /* a monitor for this one line: it can't wait for the end */
}

void monitor_loadvm(Monitor *mon, const Args *a)
{
    char note[512];
    Error err;
    if (snapshot_load(mon->m, a->argv[0], note, &err))
        say(mon, note);
    else
        monitor_printf(mon, "loadvm: %s\n", err.text);
}

void monitor_delvm(Monitor *mon, const Args *a)
{
    Error err;
    if (!snapshot_remove(mon->m, a->argv[0], &err))
        monitor_printf(mon, "delvm: %s\n", err.text);
}

void monitor_snapshot_picture(Monitor *mon, const Args *a)
{
    Error err;
    if (!snapshot_picture(mon->m, a->argv[0], a->argv[1], &err))
        monitor_printf(mon, "snapshot_picture: %s\n", err.text);
}

static void figures(Monitor *mon)
{
    SnapshotFigures f = snapshot_figures(mon->m);
    monitor_printf(mon, "the last one: the guest stood still for %llu us, all took %llu ms, %llu KB were written\n",
                   (unsigned long long)f.stood_ns / 1000, (unsigned long long)f.total_ns / 1000000,
                   (unsigned long long)f.bytes >> 10);
}

void monitor_info_snapshots(Monitor *mon)
{
    if (!mon->info_option)
        snapshot_list(mon->m, monitor_print, mon);
    else if (!strcmp(mon->info_option, "-t"))
        snapshot_tree(mon->m, monitor_print, mon);
    else if (!strcmp(mon->info_option, "-f"))
        figures(mon);
    else
        monitor_puts(mon, "usage: info snapshots [-t|-f]\n");
}
