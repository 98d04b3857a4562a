/* Opens the monitors, QMP and the debugger's server of the command line; see control.h. */
#include "control.h"

#include <stdio.h>

#include "chardev.h"
#include "gdbstub.h"
#include "machine.h"
#include "monitor.h"
#include "qmp.h"

static bool open_at(Machine *m, const char *label, const char *spec, const char *option, Chardev **chr,
                    Error *err)
{
    err->text[0] = 0;
    *chr = chardev_open(m, label, spec, err);
    return *chr || !err->text[0] || error_prefix(err, "%s", option);
}

bool control_open(Machine *m, Error *err)
{
    Chardev *chr;
    char label[32];
    if (m->cfg.monitor) {
        if (!open_at(m, "monitor", m->cfg.monitor, "-monitor", &chr, err))
            return false;
        if (chr)
            monitor_create(m, chr);
    }
    for (int i = 0; i < CFG_MONITORS && m->cfg.mon[i].spec; i++) {
        bool control = m->cfg.mon[i].control;
        snprintf(label, sizeof label, control ? "qmp%d" : "monitor%d", i + !control);
        if (!open_at(m, label, m->cfg.mon[i].spec, control ? "-qmp" : "-mon", &chr, err))
            return false;
        if (chr && control)
            qmp_create(m, chr, m->cfg.mon[i].pretty);
        else if (chr)
            monitor_create(m, chr);
    }
    if (m->cfg.gdb) {
        if (!open_at(m, "gdb", m->cfg.gdb, "-gdb", &chr, err))
            return false;
        if (chr && !gdb_serve(m, chr))
            return error_set(err, "-gdb: out of memory");
    }
    return true;
}
