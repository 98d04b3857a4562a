/*
 * -chardev, -mon, -qmp, -gdb: character devices in today's notation. Each -chardev becomes the spec of
 * chardev.h that says the same; who uses it writes chardev:ID.
 */
#include "config.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD = 256 };

static bool is_on(const char *arg, const char *key, bool otherwise)
{
    char text[WORD];
    bool value = otherwise;
    return spec_get(arg, key, text, sizeof text) && parse_on_off(text, &value) ? value : otherwise;
}

static const char *get(const char *arg, const char *key, char *out)
{
    if (!spec_get(arg, key, out, WORD))
        out[0] = 0;
    return out;
}

static bool socket_spec(Parse *p, const char *arg, char *spec, size_t size)
{
    char host[WORD], port[WORD], reconnect[WORD], path[WORD];
    if (*get(arg, "path", path))
        return bad_value(p, arg, "path=: sockets have a host= and a port= here; pipe,path= is a named pipe");
    if (!*get(arg, "port", port))
        return bad_value(p, arg, "port= is missing");
    get(arg, "reconnect", reconnect);
    get(arg, "host", host);
    snprintf(spec, size, "%s:%s:%s%s%s%s%s", is_on(arg, "telnet", false) ? "telnet" : "tcp", host, port,
             is_on(arg, "server", false) ? ",server" : "", is_on(arg, "wait", true) ? "" : ",nowait",
             *reconnect && strcmp(reconnect, "0") ? ",reconnect=" : "",
             strcmp(reconnect, "0") ? reconnect : "");
    return true;
}

static bool udp_spec(Parse *p, const char *arg, char *spec, size_t size)
{
    char host[WORD], port[WORD], local[WORD], local_port[WORD];
    if (!*get(arg, "port", port))
        return bad_value(p, arg, "port= is missing");
    get(arg, "host", host);
    get(arg, "localaddr", local);
    get(arg, "localport", local_port);
    if (*local || *local_port)
        snprintf(spec, size, "udp:%s:%s@%s:%s", host, port, local, *local_port ? local_port : "0");
    else
        snprintf(spec, size, "udp:%s:%s", host, port);
    return true;
}

static bool path_spec(Parse *p, const char *arg, const char *prefix, char *spec, size_t size)
{
    char path[WORD];
    if (!*get(arg, "path", path))
        return bad_value(p, arg, "path= is missing");
    snprintf(spec, size, "%s%s", prefix, path);
    return true;
}

static bool vc_spec(const char *arg, char *spec, size_t size)
{
    char cols[WORD], rows[WORD];
    bool chars = *get(arg, "cols", cols) && *get(arg, "rows", rows);
    if (chars)
        snprintf(spec, size, "vc:%.10sCx%.10sC", cols, rows);
    else if (*get(arg, "width", cols) && *get(arg, "height", rows))
        snprintf(spec, size, "vc:%.10sx%.10s", cols, rows);
    else
        snprintf(spec, size, "vc");
    return true;
}

bool apply_chardev(Parse *p, const Option *o, const char *arg)
{
    char kind[32], id[WORD], spec[4 * WORD + 64], shared[sizeof spec + 8];
    bool ok;
    (void)o;
    snprintf(kind, sizeof kind, "%.*s", (int)strcspn(arg, ","), arg);
    if (!*get(arg, "id", id))
        return bad_value(p, arg, "id= is missing");
    if (p->chardevs == CFG_CHARDEVS)
        return bad_value(p, arg, "more than %d character devices", CFG_CHARDEVS);
    for (int i = 0; i < p->chardevs; i++) {
        if (!strcmp(p->cfg->chardev[i].id, id))
            return bad_value(p, arg, "id=%s is there twice", id);
    }
    if (!strcmp(kind, "socket"))
        ok = socket_spec(p, arg, spec, sizeof spec);
    else if (!strcmp(kind, "udp"))
        ok = udp_spec(p, arg, spec, sizeof spec);
    else if (!strcmp(kind, "file"))
        ok = path_spec(p, arg, "file:", spec, sizeof spec);
    else if (!strcmp(kind, "pipe"))
        ok = path_spec(p, arg, "pipe:", spec, sizeof spec);
    else if (!strcmp(kind, "serial") || !strcmp(kind, "tty"))
        ok = path_spec(p, arg, "", spec, sizeof spec);
    else if (!strcmp(kind, "vc"))
        ok = vc_spec(arg, spec, sizeof spec);
    else if ((ok = !strcmp(kind, "stdio") || !strcmp(kind, "null")))
        snprintf(spec, sizeof spec, "%s", kind);
    else
        return bad_value(p, arg, "unknown kind; there are socket, udp, file, pipe, serial, stdio, vc, null");
    if (!ok)
        return false;
    snprintf(shared, sizeof shared, "%s%s", is_on(arg, "mux", false) ? "mon:" : "", spec);
    text_set(&p->cfg->chardev[p->chardevs].id, id);
    text_set(&p->cfg->chardev[p->chardevs++].spec, shared);
    return true;
}

static bool add_monitor(Parse *p, const char *arg, const char *spec, bool control, bool pretty)
{
    if (p->monitors == CFG_MONITORS)
        return bad_value(p, arg, "more than %d monitors", CFG_MONITORS);
    text_set(&p->cfg->mon[p->monitors].spec, spec);
    p->cfg->mon[p->monitors].control = control;
    p->cfg->mon[p->monitors++].pretty = pretty;
    return true;
}

/* chardev=ID,mode=control or ID,mode=control */
bool apply_mon(Parse *p, const Option *o, const char *arg)
{
    char id[WORD], mode[WORD], spec[WORD + 16], whole[WORD];
    (void)o;
    snprintf(whole, sizeof whole, "mon,%.*s", (int)sizeof whole - 5, arg);
    if (!*get(whole, "chardev", id))
        snprintf(id, sizeof id, "%.*s", (int)strcspn(arg, ","), arg);
    get(whole, "mode", mode);
    bool control = !strcmp(mode, "control");
    if (*mode && !control && strcmp(mode, "readline"))
        return bad_value(p, arg, "mode= is readline or control");
    snprintf(spec, sizeof spec, "chardev:%s", id);
    p->monitor_set = true;
    return add_monitor(p, arg, spec, control, is_on(whole, "pretty", false));
}

bool apply_qmp(Parse *p, const Option *o, const char *arg)
{
    return add_monitor(p, arg, arg, true, o->value);
}

bool apply_gdb(Parse *p, const Option *o, const char *arg)
{
    char spec[WORD];
    bool socket = !strncmp(arg, "tcp:", 4) && !strstr(arg, ",server");
    snprintf(spec, sizeof spec, "%s%s", o->arg ? arg : "tcp::1234",
             !o->arg || socket ? ",server,nowait" : "");
    text_set(&p->cfg->gdb, spec);
    return true;
}

static bool spec_uses_stdio(const Config *cfg, const char *spec)
{
    while (spec && !strncmp(spec, "mon:", 4))
        spec += 4;
    if (spec && !strncmp(spec, "chardev:", 8)) {
        for (int i = 0; i < CFG_CHARDEVS; i++) {
            if (cfg->chardev[i].id && !strcmp(cfg->chardev[i].id, spec + 8))
                return spec_uses_stdio(cfg, cfg->chardev[i].spec);
        }
    }
    return spec && !strcmp(spec, "stdio");
}

bool config_uses_stdio(const Config *cfg)
{
    bool used = spec_uses_stdio(cfg, cfg->monitor) || spec_uses_stdio(cfg, cfg->debugcon) ||
                spec_uses_stdio(cfg, cfg->gdb);
    for (int i = 0; i < CFG_SERIALS; i++)
        used |= spec_uses_stdio(cfg, cfg->serial[i]);
    for (int i = 0; i < CFG_PARALLELS; i++)
        used |= spec_uses_stdio(cfg, cfg->parallel[i]);
    for (int i = 0; i < CFG_MONITORS; i++)
        used |= spec_uses_stdio(cfg, cfg->mon[i].spec);
    return used;
}
