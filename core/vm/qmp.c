/*
 * QMP on a character device: a greeting for each peer, one JSON object a command, an answer or an error for
 * each, events in between. See qmp.h.
 *
 * A peer that sends no JSON gets an error and goes on behind the line; one that sends an object of more than
 * 64 KiB, or that leaves more than 1 MiB of answers unread, is told so and sent away.
 */
#include "qmp_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "host.h"
#include "version.h"

enum { IN_MAX = 64 * 1024, OUT_MAX = 1 << 20 };

struct Qmp {
    Machine *m;
    Chardev *chr;
    bool pretty;
    bool negotiated;
    bool skipping;                  /* up to the end of the line: what came was no JSON */
    bool gone;                      /* sent away: nothing is read or written any more */
    JsonScan scan;
    char in[IN_MAX];
    size_t in_len;
    u8 *out;
    size_t out_len, out_sent, out_cap;
    MachineListener listener;
    Qmp *next;
};

static Qmp *qmps;

/* ---- output ---- */

static void flush(Qmp *q)
{
    while (q->out_sent < q->out_len) {
        size_t n = chardev_write(q->chr, q->out + q->out_sent, q->out_len - q->out_sent);
        if (!n)
            return;
        q->out_sent += n;
    }
    q->out_sent = q->out_len = 0;
}

static void put(Qmp *q, const char *text, size_t n)
{
    if (q->out_len + n > q->out_cap) {
        size_t cap = (q->out_len + n) * 2;
        u8 *p = q->out_len + n > OUT_MAX ? NULL : realloc(q->out, cap);
        if (!p) {
            q->gone = true;
            q->out_len = q->out_sent = 0;
            chardev_hangup(q->chr);
            return;
        }
        q->out = p;
        q->out_cap = cap;
    }
    memcpy(q->out + q->out_len, text, n);
    q->out_len += n;
}

/* Line breaks and four blanks a level, between the tokens. */
static void put_pretty(Qmp *q, const char *text)
{
    static const char blanks[] = "\r\n                                                                ";
    int depth = 0;
    bool in_string = false;
    for (; *text && !q->gone; text++) {
        char c = *text, next = text[1];
        if (in_string) {
            put(q, text, c == '\\' && next ? 2 : 1);
            in_string = c != '"';
            text += c == '\\' && next;
            continue;
        }
        in_string = c == '"';
        bool open = c == '{' || c == '[', close = c == '}' || c == ']';
        depth += open - close;
        int indent = 2 + 4 * (depth > 16 ? 16 : depth);
        if (close && text[-1] != '{' && text[-1] != '[')
            put(q, blanks, (size_t)indent);
        if (c == ' ' && text[-1] == ',')
            put(q, blanks, (size_t)indent);
        else
            put(q, text, 1);
        if (open && next != '}' && next != ']')
            put(q, blanks, (size_t)indent);
    }
}

static void send(Qmp *q, JsonOut *o)
{
    if (q->gone) {
        json_free_out(o);
        return;
    }
    if (q->pretty)
        put_pretty(q, o->text);
    else
        put(q, o->text, o->len);
    put(q, "\r\n", 2);
    json_free_out(o);
    flush(q);
}

static void send_error(Qmp *q, const char *class, const char *text, const Json *id)
{
    JsonOut o = { 0 };
    json_open(&o, NULL, '{');
    if (id)
        json_copy(&o, "id", id);
    json_open(&o, "error", '{');
    json_string(&o, "class", class ? class : "GenericError");
    json_string(&o, "desc", text);
    json_close(&o, '}');
    json_close(&o, '}');
    send(q, &o);
}

static void greet(Qmp *q)
{
    JsonOut o = { 0 };
    int v[4] = { PROGRAM_VERSION_NUMBERS };
    json_open(&o, NULL, '{');
    json_open(&o, "QMP", '{');
    json_open(&o, "version", '{');
    json_open(&o, "qemu", '{');
    json_int(&o, "micro", v[2]);
    json_int(&o, "minor", v[1]);
    json_int(&o, "major", v[0]);
    json_close(&o, '}');
    json_string(&o, "package", "qemu-win");
    json_close(&o, '}');
    json_open(&o, "capabilities", '[');
    json_close(&o, ']');
    json_close(&o, '}');
    json_close(&o, '}');
    send(q, &o);
}

/* ---- events ---- */

void qmp_event(Machine *m, const char *name, const char *data)
{
    s64 now = host_wall_us();
    for (Qmp *q = qmps; q; q = q->next) {
        JsonOut o = { 0 };
        if (q->m != m || !q->negotiated)
            continue;
        json_open(&o, NULL, '{');
        json_open(&o, "timestamp", '{');
        json_int(&o, "seconds", now / 1000000);
        json_int(&o, "microseconds", now % 1000000);
        json_close(&o, '}');
        json_string(&o, "event", name);
        if (data)
            json_copy(&o, "data", &(Json){ .text = data, .len = strlen(data) });
        json_close(&o, '}');
        send(q, &o);
    }
}

static void reason_event(Machine *m, const char *name, const char *reason)
{
    char data[96];
    snprintf(data, sizeof data, "{\"guest\": %s, \"reason\": \"%s\"}",
             strncmp(reason, "guest", 5) ? "false" : "true", reason);
    qmp_event(m, name, data);
}

static void io_error_event(Machine *m, const char *drive, const BlkReq *req)
{
    JsonOut o = { 0 };
    json_open(&o, NULL, '{');
    json_string(&o, "device", drive);
    json_string(&o, "node-name", drive);
    json_string(&o, "operation", req->op == BLK_READ ? "read" : "write");
    json_string(&o, "action", blk_error_action(req));
    json_bool(&o, "nospace", req->result == BLK_ERR_NOSPACE);
    json_string(&o, "reason",
                req->result == BLK_ERR_NOSPACE ? "no space left on the host" : "input/output error");
    json_close(&o, '}');
    qmp_event(m, "BLOCK_IO_ERROR", o.text);
    json_free_out(&o);
}

/* Every connection listens; the first one in the list speaks for all, so that each event is sent once. */
static void on_machine(void *opaque, MachineEvent e, const char *detail, void *subject)
{
    Qmp *q = opaque, *first = qmps;
    while (first && first->m != q->m)
        first = first->next;
    if (first != q)
        return;
    switch (e) {
    case MACHINE_STOPPED: qmp_event(q->m, "STOP", NULL); break;
    case MACHINE_RESUMED: qmp_event(q->m, "RESUME", NULL); break;
    case MACHINE_POWERDOWN: qmp_event(q->m, "POWERDOWN", NULL); break;
    case MACHINE_RESET: reason_event(q->m, "RESET", detail); break;
    case MACHINE_SHUTDOWN: reason_event(q->m, "SHUTDOWN", detail); break;
    case MACHINE_IO_ERROR: io_error_event(q->m, detail, subject); break;
    }
}

/* ---- commands ---- */

static void run(Qmp *q, const QmpCommand *cmd, const Json *args, const Json *id)
{
    JsonOut value = { 0 }, o = { 0 };
    Error err = { "" };
    QmpCall c = { q->m, q, args, &value, &err, NULL };
    if (!qmp_check_args(cmd, args, &err) || !cmd->run(&c)) {
        send_error(q, c.error_class, err.text, id);
    } else {
        json_open(&o, NULL, '{');
        json_copy(&o, "return",
                  &(Json){.text = value.text ? value.text : "{}", .len = value.text ? value.len : 2});
        if (id)
            json_copy(&o, "id", id);
        json_close(&o, '}');
        send(q, &o);
    }
    json_free_out(&value);
}

static void execute(Qmp *q, const Json *j)
{
    const Json *name = json_member(j, "execute"), *args = json_member(j, "arguments"),
               *id = json_member(j, "id");
    char text[200];
    for (const Json *e = j->kind == JSON_OBJECT ? j->first : NULL; e; e = e->next) {
        if (e != name && e != args && e != id) {
            snprintf(text, sizeof text, "QMP input member '%.60s' is unexpected", e->key);
            send_error(q, NULL, text, id);
            return;
        }
    }
    if (j->kind != JSON_OBJECT || !name || name->kind != JSON_STRING) {
        send_error(q, NULL, j->kind == JSON_OBJECT ? "QMP input lacks member 'execute'" :
                   "QMP input must be a JSON object", id);
        return;
    }
    if (args && args->kind != JSON_OBJECT) {
        send_error(q, NULL, "QMP input member 'arguments' must be an object", id);
        return;
    }
    bool negotiates = !strcmp(name->string, "qmp_capabilities");
    if (q->negotiated == negotiates) {
        send_error(q, "CommandNotFound",
                   negotiates ? "Capabilities negotiation is already complete, command ignored"
                              : "Expecting capabilities negotiation with 'qmp_capabilities'",
                   id);
        return;
    }
    for (const QmpCommand *c = qmp_commands; c->name; c++) {
        if (!strcmp(c->name, name->string)) {
            q->negotiated |= negotiates;
            run(q, c, args, id);
            return;
        }
    }
    snprintf(text, sizeof text, "The command %.100s has not been found", name->string);
    send_error(q, "CommandNotFound", text, id);
}

static void message(Qmp *q)
{
    Error err;
    size_t blank = 0;
    while (blank < q->in_len && strchr(" \t\r\n", q->in[blank]) && q->in[blank])
        blank++;
    if (blank < q->in_len) {
        Json *j = json_parse(q->in, q->in_len, &err);
        if (j) {
            execute(q, j);
        } else {
            send_error(q, NULL, err.text, NULL);
            q->skipping = q->in[q->in_len - 1] != '\n';
        }
        json_free(j);
    }
    q->in_len = 0;
    q->scan = (JsonScan){ 0 };
}

static void take(Qmp *q, u8 byte)
{
    if (q->skipping) {
        q->skipping = byte != '\n';
        return;
    }
    q->in[q->in_len++] = (char)byte;
    bool control = byte < 0x20 && byte != '\t' && byte != '\r' && byte != '\n';
    if (json_scan(&q->scan, byte) || control) {
        message(q);
    } else if (q->in_len == IN_MAX) {
        send_error(q, NULL, "the command is longer than 64 KiB", NULL);
        q->in_len = 0;
        q->scan = (JsonScan){ 0 };
        q->skipping = true;
        chardev_hangup(q->chr);
    }
}

/* ---- the character device's side ---- */

static size_t can_receive(void *opaque)
{
    const Qmp *q = opaque;
    return q->out_len - q->out_sent > OUT_MAX / 2 ? 0 : 4096;      /* who reads nothing is not listened to */
}

static void receive(void *opaque, const u8 *buf, size_t n)
{
    Qmp *q = opaque;
    for (size_t i = 0; i < n && !q->gone; i++)
        take(q, buf[i]);
}

static void writable(void *opaque)
{
    Qmp *q = opaque;
    flush(q);
    chardev_accept(q->chr);
}

static void event(void *opaque, ChrEvent e)
{
    Qmp *q = opaque;
    if (e != CHR_OPENED && e != CHR_CLOSED)
        return;
    q->negotiated = q->skipping = q->gone = false;
    q->in_len = q->out_len = q->out_sent = 0;
    q->scan = (JsonScan){ 0 };
    if (e == CHR_OPENED)
        greet(q);
}

static const ChrFrontend frontend = { can_receive, receive, writable, event };

Qmp *qmp_create(Machine *m, Chardev *chr, bool pretty)
{
    Qmp *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->m = m;
    q->chr = chr;
    q->pretty = pretty;
    q->listener = (MachineListener){ on_machine, q, NULL };
    machine_listen(m, &q->listener);
    q->next = qmps;
    qmps = q;
    greet(q);
    chardev_attach(chr, &frontend, q);
    return q;
}

void qmp_destroy(Qmp *q)
{
    if (!q)
        return;
    for (Qmp **p = &qmps; *p; p = &(*p)->next) {
        if (*p == q) {
            *p = q->next;
            break;
        }
    }
    machine_unlisten(q->m, &q->listener);
    chardev_attach(q->chr, NULL, NULL);
    free(q->out);
    free(q);
}
