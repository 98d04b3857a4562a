/* -debugcon and -device: what a command line adds to the board. */
#include "pc_int.h"

#include <stdlib.h>
#include <string.h>

#include "debug_ports.h"

static bool number_of(const char *spec, const char *key, u32 fallback, u32 *value, Error *err)
{
    char text[32], *end;

    *value = fallback;
    if (!spec_get(spec, key, text, sizeof(text)))
        return true;
    unsigned long long v = strtoull(text, &end, 0);
    if (end == text || *end || v > 0xffff)
        return error_set(err, "-device %s: %s=%s: expected a number from 0 to 0xffff", spec, key, text);
    *value = (u32)v;
    return true;
}

/* isa-debugcon without chardev= is one more port of -debugcon's console. */
static bool add_debugcon(Pc *pc, const char *spec, DebugCon **shared, Error *err)
{
    Machine *m = pc->dev.m;
    DebugCon *con = *shared;
    char backend[256];
    u32 port;

    if (!number_of(spec, "iobase", 0xe9, &port, err))
        return false;
    if (spec_get(spec, "chardev", backend, sizeof(backend))) {
        err->text[0] = 0;
        Chardev *chr = chardev_open(m, "debugcon", backend, err);
        if (!chr)
            return err->text[0] ? error_prefix(err, "-device %s", spec) : true;
        con = debugcon_create(m, chr);
    }
    if (!con)
        return error_set(err, "-device %s: needs chardev=, or -debugcon before it", spec);
    debugcon_add_port(con, (u16)port);
    return true;
}

static bool add_device(Pc *pc, const char *spec, DebugCon **shared, Error *err)
{
    size_t n = strcspn(spec, ",");
    u32 port, count;

    if (n == 14 && !strncmp(spec, "isa-debug-exit", n))
        return number_of(spec, "iobase", 0x501, &port, err) && number_of(spec, "iosize", 2, &count, err) &&
               debug_exit_create(pc->dev.m, port, count, err);
    if (n == 12 && !strncmp(spec, "isa-debugcon", n))
        return add_debugcon(pc, spec, shared, err);
    return error_set(err, "-device %.*s: no such device; there are isa-debug-exit and isa-debugcon", (int)n,
                     spec);
}

bool pc_add_devices(Pc *pc, Error *err)
{
    Machine *m = pc->dev.m;
    DebugCon *shared = NULL;

    if (m->cfg.debugcon) {
        err->text[0] = 0;
        Chardev *chr = chardev_open(m, "debugcon", m->cfg.debugcon, err);
        if (!chr && err->text[0])
            return error_prefix(err, "-debugcon");
        if (chr) {
            shared = debugcon_create(m, chr);
            debugcon_add_port(shared, 0xe9);
        }
    }
    for (int i = 0; i < CFG_DEVICES; i++)
        if (m->cfg.device[i].used && !add_device(pc, m->cfg.device[i].spec, &shared, err))
            return false;
    return true;
}
