/* QMP's commands, one row each. See qmp_int.h; names and arguments as in the published schema. */
#include "qmp_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "monitor_int.h"
#include "ui.h"
#include "version.h"

/* ---- arguments ---- */

static bool fits(char type, const Json *j)
{
    switch (type) {
    case 's': return j->kind == JSON_STRING;
    case 'i': return j->kind == JSON_NUMBER && j->is_integer;
    case 'b': return j->kind == JSON_BOOL;
    case 'l': return j->kind == JSON_ARRAY;
    default: return true;
    }
}

/* The next "name=type" of a row; false: there is none. */
static bool next_arg(const char **row, char *name, size_t size, char *type, bool *optional)
{
    *row += strspn(*row, " ");
    size_t n = strcspn(*row, "=");
    if (!**row)
        return false;
    snprintf(name, size, "%.*s", (int)n, *row);
    *type = (*row)[n + 1];
    *optional = (*row)[n + 2] == '?';
    *row += n + 2 + *optional;
    return true;
}

bool qmp_check_args(const QmpCommand *cmd, const Json *args, Error *err)
{
    char name[40], type;
    bool optional;
    for (const char *row = cmd->args; next_arg(&row, name, sizeof name, &type, &optional);) {
        const Json *j = json_member(args, name);
        if (!j && !optional)
            return error_set(err, "Parameter '%s' is missing", name);
        if (j && !fits(type, j))
            return error_set(err, "Invalid parameter type for '%s', expected: %s", name,
                             type == 's'   ? "string"
                             : type == 'i' ? "integer"
                             : type == 'b' ? "boolean"
                                           : "array");
    }
    for (const Json *j = args ? args->first : NULL; j; j = j->next) {
        bool known = false;
        for (const char *row = cmd->args; next_arg(&row, name, sizeof name, &type, &optional);)
            known |= !strcmp(name, j->key) || type == '*';
        if (!known)
            return error_set(err, "Parameter '%.60s' is unexpected", j->key);
    }
    return true;
}

const char *qmp_text(const QmpCall *c, const char *name)
{
    const Json *j = json_member(c->args, name);
    return j ? j->string : NULL;
}

s64 qmp_int(const QmpCall *c, const char *name, s64 otherwise)
{
    const Json *j = json_member(c->args, name);
    return j ? j->integer : otherwise;
}

bool qmp_flag(const QmpCall *c, const char *name, bool otherwise)
{
    const Json *j = json_member(c->args, name);
    return j ? j->boolean : otherwise;
}

/* ---- the machine ---- */

static bool qmp_capabilities(QmpCall *c)
{
    const Json *enable = json_member(c->args, "enable");
    return !enable || !enable->first || error_set(c->err, "there is no capability to enable");
}

static bool query_version(QmpCall *c)
{
    int v[4] = { PROGRAM_VERSION_NUMBERS };
    json_open(c->out, NULL, '{');
    json_open(c->out, "qemu", '{');
    json_int(c->out, "major", v[0]);
    json_int(c->out, "minor", v[1]);
    json_int(c->out, "micro", v[2]);
    json_close(c->out, '}');
    json_string(c->out, "package", "qemu-win");
    json_close(c->out, '}');
    return true;
}

static bool query_commands(QmpCall *c)
{
    json_open(c->out, NULL, '[');
    for (const QmpCommand *row = qmp_commands; row->name; row++) {
        json_open(c->out, NULL, '{');
        json_string(c->out, "name", row->name);
        json_close(c->out, '}');
    }
    json_close(c->out, ']');
    return true;
}

static bool query_status(QmpCall *c)
{
    json_open(c->out, NULL, '{');
    json_string(c->out, "status", machine_io_error(c->m) ? "io-error" : machine_state_name(c->m));
    json_bool(c->out, "singlestep", false);
    json_bool(c->out, "running", machine_running(c->m));
    json_close(c->out, '}');
    return true;
}

static bool query_name(QmpCall *c)
{
    json_open(c->out, NULL, '{');
    if (c->m->cfg.name)
        json_string(c->out, "name", c->m->cfg.name);
    json_close(c->out, '}');
    return true;
}

static bool query_cpus(QmpCall *c)
{
    json_open(c->out, NULL, '[');
    if (c->m->cpu) {
        json_open(c->out, NULL, '{');
        json_int(c->out, "cpu-index", 0);
        json_string(c->out, "qom-path", "/machine/cpu[0]");
        json_int(c->out, "thread-id", 1);
        json_string(c->out, "target", "i386");
        json_close(c->out, '}');
    }
    json_close(c->out, ']');
    return true;
}

static bool query_kvm(QmpCall *c)
{
    json_open(c->out, NULL, '{');
    json_bool(c->out, "enabled", false);
    json_bool(c->out, "present", false);
    json_close(c->out, '}');
    return true;
}

static bool cmd_stop(QmpCall *c)
{
    machine_stop(c->m);
    return true;
}

static bool cmd_cont(QmpCall *c)
{
    machine_cont(c->m);
    return machine_running(c->m) || error_set(c->err, "Resetting the Virtual Machine is required");
}

static bool cmd_quit(QmpCall *c)
{
    machine_request(c->m, REQ_QUIT);
    return true;
}

static bool cmd_reset(QmpCall *c)
{
    machine_request(c->m, (MachineRequest)(REQ_RESET | REQ_BY_HOST));
    return true;
}

static bool cmd_powerdown(QmpCall *c)
{
    if (!c->m->powerdown)
        return error_set(c->err, "this machine has no power button");
    machine_request(c->m, REQ_POWERDOWN);
    return true;
}

static bool screendump(QmpCall *c)
{
    const char *format = qmp_text(c, "format"), *file = qmp_text(c, "filename");
    size_t n = strlen(file);
    bool png = n > 4 && !strcmp(file + n - 4, ".png");
    UiConsole *con = NULL;
    if (format && strcmp(format, png ? "png" : "ppm"))
        return error_set(c->err, "the format follows from the file's name: .png, else PPM");
    for (int i = 0; ui_console(c->m->ui, i) && !con; i++) {
        if (console_is_graphic(ui_console(c->m->ui, i)))
            con = ui_console(c->m->ui, i);
    }
    return con ? ui_screendump(c->m->ui, con, file, c->err) : error_set(c->err, "there is no screen");
}

static bool human_monitor_command(QmpCall *c)
{
    char *text = monitor_capture(c->m, qmp_text(c, "command-line"));
    if (!text)
        return error_set(c->err, "out of memory");
    json_string(c->out, NULL, text);
    free(text);
    return true;
}

/* ---- drives ---- */

static void describe_medium(JsonOut *o, const Blk *b)
{
    json_open(o, "inserted", '{');
    json_string(o, "file", blk_file(b));
    json_string(o, "node-name", blk_name(b));
    json_bool(o, "ro", blk_readonly(b));
    json_string(o, "drv", blk_format(b));
    json_bool(o, "encrypted", false);
    json_open(o, "image", '{');
    json_string(o, "filename", blk_file(b));
    json_string(o, "format", blk_format(b));
    json_int(o, "virtual-size", (s64)blk_bytes(b));
    json_close(o, '}');
    json_close(o, '}');
}

static bool removable(const Blk *b)
{
    return blk_is_cdrom(b) || !strncmp(blk_name(b), "floppy", 6);
}

static bool query_block(QmpCall *c)
{
    json_open(c->out, NULL, '[');
    for (Blk *b = blk_first(c->m); b; b = blk_next(b)) {
        json_open(c->out, NULL, '{');
        json_string(c->out, "device", blk_name(b));
        json_string(c->out, "qdev", blk_name(b));
        json_string(c->out, "type", "unknown");
        json_bool(c->out, "removable", removable(b));
        json_bool(c->out, "locked", blk_locked(b));
        if (removable(b))
            json_bool(c->out, "tray_open", !blk_has_medium(b));
        if (blk_has_medium(b))
            describe_medium(c->out, b);
        json_close(c->out, '}');
    }
    json_close(c->out, ']');
    return true;
}

static Blk *drive(QmpCall *c)
{
    const char *name = qmp_text(c, "device");
    name = name ? name : qmp_text(c, "id");
    for (Blk *b = blk_first(c->m); b && name; b = blk_next(b)) {
        if (!strcmp(blk_name(b), name))
            return b;
    }
    if (name) {
        c->error_class = "DeviceNotFound";
        error_set(c->err, "Device '%.60s' not found", name);
    } else {
        error_set(c->err, "Parameter 'id' is missing");
    }
    return NULL;
}

static bool unlocked(QmpCall *c, const Blk *b)
{
    return !blk_locked(b) || qmp_flag(c, "force", false) ||
           error_set(c->err, "Device '%s' is locked and force was not specified", blk_name(b));
}

static bool eject(QmpCall *c)
{
    Blk *b = drive(c);
    return b && unlocked(c, b) && blk_change(b, NULL, NULL, c->err);
}

static bool change_medium(QmpCall *c)
{
    Blk *b = drive(c);
    const char *mode = qmp_text(c, "read-only-mode");
    if (mode && strcmp(mode, "retain"))
        return error_set(c->err,
                         "read-only-mode is retain: whether a medium may be written is the drive's matter");
    return b && unlocked(c, b) && blk_change(b, qmp_text(c, "filename"), qmp_text(c, "format"), c->err);
}

static bool query_chardev(QmpCall *c);

static bool no_hot_plug(QmpCall *c)
{
    const char *id = qmp_text(c, "id"), *driver = qmp_text(c, "driver");
    if (driver)
        return error_set(c->err,
                         "'%.60s' can't be plugged in while the machine runs: no bus of this board can that",
                         driver);
    c->error_class = "DeviceNotFound";
    return error_set(c->err, "Device '%.60s' not found", id ? id : "");
}

const QmpCommand qmp_commands[] = {
    {"qmp_capabilities", "enable=l?", qmp_capabilities},
    {"query-version", "", query_version},
    {"query-commands", "", query_commands},
    {"query-status", "", query_status},
    {"query-name", "", query_name},
    {"query-cpus-fast", "", query_cpus},
    {"query-kvm", "", query_kvm},
    {"query-block", "", query_block},
    {"query-chardev", "", query_chardev},
    {"stop", "", cmd_stop},
    {"cont", "", cmd_cont},
    {"quit", "", cmd_quit},
    {"system_reset", "", cmd_reset},
    {"system_powerdown", "", cmd_powerdown},
    {"screendump", "filename=s device=s? head=i? format=s?", screendump},
    {"send-key", "keys=l hold-time=i?", qmp_send_key},
    {"input-send-event", "device=s? head=i? events=l", qmp_input_send_event},
    {"human-monitor-command", "command-line=s cpu-index=i?", human_monitor_command},
    {"eject", "device=s? id=s? force=b?", eject},
    {"blockdev-change-medium", "device=s? id=s? filename=s format=s? force=b? read-only-mode=s?",
     change_medium},
    {"snapshot-save", "job-id=s tag=s vmstate=s? devices=l?", qmp_snapshot_save},
    {"snapshot-load", "job-id=s tag=s vmstate=s? devices=l?", qmp_snapshot_load},
    {"snapshot-delete", "job-id=s tag=s devices=l?", qmp_snapshot_delete},
    {"query-jobs", "", qmp_query_jobs},
    {"job-dismiss", "id=s", qmp_job_dismiss},
    {"device_add", "driver=s id=s? more=*?", no_hot_plug},
    {"device_del", "id=s", no_hot_plug},
    {NULL, NULL, NULL}};

static void one_chardev(void *opaque, const char *line)
{
    JsonOut *o = opaque;
    char label[32];
    size_t n = strcspn(line, ":");
    snprintf(label, sizeof label, "%.*s", (int)n, line);
    json_open(o, NULL, '{');
    json_string(o, "label", label);
    json_string(o, "filename", line[n] ? line + n + 2 : "");
    json_bool(o, "frontend-open", !strstr(line, "(nobody listens)"));
    json_close(o, '}');
}

static bool query_chardev(QmpCall *c)
{
    json_open(c->out, NULL, '[');
    chardev_list(c->m, one_chardev, c->out);
    json_close(c->out, ']');
    return true;
}
