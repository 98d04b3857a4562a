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
    monitor_busy(mon);
    say(mon, note);
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

void monitor_info_snapshots(Monitor *mon)
{
    if (!mon->info_option)
        snapshot_list(mon->m, monitor_print, mon);
    else if (!strcmp(mon->info_option, "-t"))
        snapshot_tree(mon->m, monitor_print, mon);
    else
        monitor_puts(mon, "usage: info snapshots [-t]\n");
}
