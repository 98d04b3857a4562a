/*
 * A monitor on a character device: output with a bounded buffer, taking command lines apart, help and info.
 * Every complaint is one line that says what would be right.
 */
#include "monitor_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "host.h"
#include "log.h"
#include "snapshot.h"
#include "ui.h"
#include "version.h"

enum { OUT_MAX = 1 << 20 };

static Monitor *monitors;

/* ---- output ---- */

static void flush_out(Monitor *mon)
{
    while (mon->out_sent < mon->out_len) {
        size_t n = chardev_write(mon->chr, mon->out + mon->out_sent, mon->out_len - mon->out_sent);
        if (!n)
            return;
        mon->out_sent += n;
    }
    mon->out_sent = mon->out_len = 0;
    if (mon->out_lost) {
        mon->out_lost = false;
        monitor_puts(mon, "\n[a part of the output was dropped: nobody read it]\n");
    }
}

static bool out_room(Monitor *mon, size_t n)
{
    if (mon->out_len + n <= mon->out_cap)
        return true;
    if (mon->out_len + n > OUT_MAX)
        return false;
    size_t cap = mon->out_cap ? mon->out_cap : 4096;
    while (cap < mon->out_len + n)
        cap *= 2;
    u8 *p = realloc(mon->out, cap);
    if (!p)
        return false;
    mon->out = p;
    mon->out_cap = cap;
    return true;
}

void monitor_puts(Monitor *mon, const char *text)
{
    for (; *text; text++) {
        if (!out_room(mon, 2) || mon->out_lost) {
            mon->out_lost = true;
            break;
        }
        if (*text == '\n' && mon->chr)
            mon->out[mon->out_len++] = '\r';
        mon->out[mon->out_len++] = (u8)*text;
    }
    if (mon->chr)
        flush_out(mon);
}

void monitor_printf(Monitor *mon, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    monitor_puts(mon, text);
}

void monitor_tell(Machine *m, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (Monitor *mon = monitors; mon; mon = mon->next) {
        if (mon->m != m || !chardev_focused(mon->chr))
            continue;
        monitor_printf(mon, "\r\033[K%s\n", text);
        edit_show(mon);
    }
}

void monitor_print(void *opaque, const char *line)
{
    monitor_printf(opaque, "%s\n", line);
}

/* ---- command lines ---- */

static bool name_is(const char *name, const char *text, size_t len)
{
    return name && strlen(name) == len && !memcmp(name, text, len);
}

const Command *monitor_find(const char *name, size_t len)
{
    for (const Command *c = monitor_commands; c->name; c++) {
        if (name_is(c->name, name, len) || name_is(c->alias, name, len))
            return c;
    }
    return NULL;
}

/* Words are separated by blanks; quotes of either kind hold blanks together. A backslash is an ordinary
 * character, as file names of Windows want it. */
static bool split(char *text, Args *a, Error *err)
{
    char *to = text;
    while (*text) {
        while (*text == ' ' || *text == '\t')
            text++;
        if (!*text)
            break;
        if (a->argc == MAX_ARGS)
            return error_set(err, "too many words");
        a->argv[a->argc++] = to;
        char quote = 0;
        for (; *text && (quote || (*text != ' ' && *text != '\t')); text++) {
            if (quote && *text == quote)
                quote = 0;
            else if (!quote && (*text == '"' || *text == '\''))
                quote = *text;
            else
                *to++ = *text;
        }
        if (quote)
            return error_set(err, "a closing %c is missing", quote);
        bool end = !*text;
        *to++ = 0;
        text += !end;
    }
    return true;
}

static void unknown_command(Monitor *mon, const char *name, size_t len)
{
    const char *near = NULL;
    for (const Command *c = monitor_commands; c->name && !near; c++) {
        if (len >= 2 && !strncmp(c->name, name, len < strlen(c->name) ? len : strlen(c->name)))
            near = c->name;
    }
    int shown = len > 40 ? 40 : (int)len;
    if (near)
        monitor_printf(mon, "unknown command: '%.*s'; did you mean '%s'?\n", shown, name, near);
    else
        monitor_printf(mon, "unknown command: '%.*s'; 'help' lists them\n", shown, name);
}

void monitor_run(Monitor *mon, const char *line)
{
    while (*line == ' ' || *line == '\t')
        line++;
    size_t len = strcspn(line, " \t/");
    if (len == 0 && line[0] == 0)
        return;
    const Command *c = monitor_find(line, len);
    if (!c) {
        unknown_command(mon, line, len ? len : strlen(line));
        return;
    }
    const char *rest = line + len;
    if (c->takes_format && rest[strspn(rest, " \t")] == '/') /* "x /4i $pc" means "x/4i $pc" */
        rest += strspn(rest, " \t");
    char format[32] = "";
    if (*rest == '/') {
        size_t n = strcspn(rest, " \t");
        if (!c->takes_format || n > sizeof format) {
            monitor_printf(mon, "%s: '%.20s' isn't understood here\n", c->name, rest);
            return;
        }
        memcpy(format, rest + 1, n - 1);
        format[n - 1] = 0;
        rest += n;
    }
    rest += strspn(rest, " \t");
    Args a = { .rest = rest, .format = format };
    Error err;
    char *words = malloc(strlen(rest) + 2);
    if (!words)
        return;
    strcpy(words, rest);
    if (c->max_args >= 0 && !split(words, &a, &err))
        monitor_printf(mon, "%s: %s\n", c->name, err.text);
    else if (c->max_args >= 0 && (a.argc < c->min_args || a.argc > c->max_args))
        monitor_printf(mon, "usage: %s %s\n", c->name, c->params);
    else
        c->run(mon, &a);
    free(words);
}

/* ---- help, info ---- */

static void explain(Monitor *mon, const Command *c)
{
    const char *bar = c->alias ? "|" : "", *alias = c->alias ? c->alias : "";
    monitor_printf(mon, "%s%s%s %s -- %s\n", c->name, bar, alias, c->params, c->help);
}

void monitor_help(Monitor *mon, const Args *a)
{
    if (a->argc) {
        const Command *c = monitor_find(a->argv[0], strlen(a->argv[0]));
        if (!c) {
            unknown_command(mon, a->argv[0], strlen(a->argv[0]));
            return;
        }
        explain(mon, c);
        if (c->complete == COMPLETE_INFO) {
            monitor_info(mon, &(Args){ .argc = 0 });
        } else if (c->complete == COMPLETE_KEY) {
            monitor_puts(mon, "keys:");
            for (int i = 0; ui_key_name(i); i++)
                monitor_printf(mon, "%s%s", i % 12 ? " " : "\n  ", ui_key_name(i));
            monitor_puts(mon, "\n");
        } else if (c->complete == COMPLETE_LOG) {
            monitor_printf(mon, "categories: %s\n", log_names());
        }
        return;
    }
    for (const Command *c = monitor_commands; c->name; c++)
        explain(mon, c);
}

void monitor_info(Monitor *mon, const Args *a)
{
    bool found = false;
    if (!a->argc) {
        for (const InfoTopic *t = monitor_topics; t->name; t++)
            monitor_printf(mon, "info %s -- %s\n", t->name, t->help);
        for (const struct InfoNode *n = mon->m->info_topics; n; n = n->next)
            monitor_printf(mon, "info %s -- %s\n", n->name, n->help);
        return;
    }
    mon->info_option = a->argc > 1 ? a->argv[1] : NULL;
    for (const InfoTopic *t = monitor_topics; t->name; t++) {
        if (strcmp(t->name, a->argv[0]))
            continue;
        machine_park(mon->m);
        t->show(mon);
        machine_unpark(mon->m);
        found = true;
    }
    for (const struct InfoNode *n = mon->m->info_topics; n; n = n->next) {
        if (strcmp(n->name, a->argv[0]))
            continue;
        n->show(n->opaque, monitor_print, mon);
        found = true;
    }
    if (!found)
        monitor_printf(mon, "info: there is nothing about '%.40s'; 'info' alone lists what there is\n",
                       a->argv[0]);
}

void monitor_add_info(Machine *m, const char *name, const char *help,
                      void (*show)(void *opaque, PrintFn *print, void *print_opaque), void *opaque)
{
    struct InfoNode *n = calloc(1, sizeof *n), **p = &m->info_topics;
    if (!n)
        return;
    *n = (struct InfoNode){ name, help, show, opaque, NULL };
    while (*p)
        p = &(*p)->next;
    *p = n;
}

void monitor_drop_info(Machine *m)
{
    while (m->info_topics) {
        struct InfoNode *n = m->info_topics;
        m->info_topics = n->next;
        free(n);
    }
}

/* ---- completion ---- */

static const char *nth_word_of(const char *list, int i, char *out, size_t size)
{
    static const char separators[] = " ,\t\n";
    for (;;) {
        list += strspn(list, separators);
        size_t n = strcspn(list, separators);
        if (!n)
            return NULL;
        if (i-- == 0) {
            snprintf(out, size, "%.*s", (int)n, list);
            return out;
        }
        list += n;
    }
}

enum { FILES_MAX = 512 };
static struct { char *name[FILES_MAX]; int count; const char *folder; size_t folder_len; } files;

static void add_file(void *opaque, const char *name, bool is_folder)
{
    (void)opaque;
    size_t size = files.folder_len + strlen(name) + 2;
    char *text = files.count < FILES_MAX ? malloc(size) : NULL;
    if (!text)
        return;
    snprintf(text, size, "%.*s%s%s", (int)files.folder_len, files.folder, name, is_folder ? "/" : "");
    files.name[files.count++] = text;
}

/* Names in the folder of what is typed so far, with that folder in front. */
static const char *nth_file(const char *typed, int i)
{
    char folder[512];
    if (i == 0) {
        while (files.count)
            free(files.name[--files.count]);
        const char *base = typed;
        for (const char *p = typed; *p; p++) {
            if (*p == '/' || *p == '\\' || *p == ':')
                base = p + 1;
        }
        files.folder = typed;
        files.folder_len = (size_t)(base - typed);
        if (files.folder_len < sizeof folder) {
            snprintf(folder, sizeof folder, "%.*s", (int)files.folder_len, typed);
            host_list_folder(folder, add_file, NULL);
        }
    }
    return i < files.count ? files.name[i] : NULL;
}

const char *monitor_candidate(Monitor *mon, Complete kind, const char *typed, int i)
{
    static char word[64];
    switch (kind) {
    case COMPLETE_COMMAND:
        for (const Command *c = monitor_commands; c->name; c++) {
            if (i-- == 0)
                return c->name;
        }
        return NULL;
    case COMPLETE_INFO:
        for (const InfoTopic *t = monitor_topics; t->name; t++) {
            if (i-- == 0)
                return t->name;
        }
        for (const struct InfoNode *n = mon->m->info_topics; n; n = n->next) {
            if (i-- == 0)
                return n->name;
        }
        return NULL;
    case COMPLETE_KEY:
        return ui_key_name(i);
    case COMPLETE_DRIVE:
        for (Blk *b = blk_first(mon->m); b; b = blk_next(b)) {
            if (i-- == 0)
                return blk_name(b);
        }
        return NULL;
    case COMPLETE_SNAPSHOT:
        return snapshot_name(mon->m, i);
    case COMPLETE_LOG:
        return nth_word_of(log_names(), i, word, sizeof word);
    case COMPLETE_FILE:
        return nth_file(typed, i);
    case COMPLETE_DRIVE_FILE: case COMPLETE_NONE:
        break;
    }
    return NULL;
}

/* ---- the character device's side ---- */

static void greet(Monitor *mon)
{
    if (!mon->greeted)
        monitor_puts(mon, "qemu-win " PROGRAM_VERSION " monitor - type 'help' for more information\n");
    mon->greeted = true;
    edit_show(mon);
}

enum { RECEIVE_MAX = 4096 };

static size_t mon_can_receive(void *opaque)
{
    return ((Monitor *)opaque)->busy ? 0 : RECEIVE_MAX;
}

static void mon_receive(void *opaque, const u8 *buf, size_t n)
{
    Monitor *mon = opaque;
    size_t i = 0;
    while (i < n && !mon->busy)
        edit_byte(mon, buf[i++]);
    u8 *p = i < n ? realloc(mon->ahead, mon->ahead_len + n - i) : NULL;
    if (!p)
        return;
    memcpy(p + mon->ahead_len, buf + i, n - i);
    mon->ahead = p;
    mon->ahead_len += n - i;
}

void monitor_busy(Monitor *mon) { mon->busy = true; }

void monitor_ready(Monitor *mon)
{
    if (!mon->busy)
        return;
    mon->busy = false;
    edit_show(mon);
    u8 *typed = mon->ahead;
    size_t n = mon->ahead_len;
    mon->ahead = NULL;
    mon->ahead_len = 0;
    mon_receive(mon, typed, n);
    free(typed);
    if (!mon->busy)
        chardev_accept(mon->chr);
}

static void mon_writable(void *opaque)
{
    flush_out(opaque);
}

static void mon_event(void *opaque, ChrEvent event)
{
    Monitor *mon = opaque;
    if (event == CHR_OPENED) {          /* a new peer: what the last one typed or did not read is gone */
        mon->out_len = mon->out_sent = 0;
        mon->out_lost = mon->greeted = false;
        edit_restart(&mon->edit);
    }
    if ((event == CHR_FOCUS || event == CHR_OPENED) && chardev_focused(mon->chr)) {
        monitor_puts(mon, "\n");
        greet(mon);
    }
}

static const ChrFrontend mon_frontend = { mon_can_receive, mon_receive, mon_writable, mon_event };

Monitor *monitor_create(Machine *m, Chardev *chr)
{
    Monitor *mon = calloc(1, sizeof *mon);
    if (!mon)
        return NULL;
    mon->m = m;
    mon->chr = chr;
    mon->mem_format = 'x';
    mon->mem_size = 4;
    if (chardev_focused(chr))
        greet(mon);
    chardev_attach(chr, &mon_frontend, mon);
    mon->next = monitors;
    monitors = mon;
    return mon;
}

/* A monitor without a character device keeps what it has to say. */
char *monitor_capture(Machine *m, const char *line)
{
    Monitor *mon = calloc(1, sizeof *mon);
    char *text = NULL;
    if (!mon)
        return NULL;
    mon->m = m;
    mon->mem_format = 'x';
    mon->mem_size = 4;
    monitor_run(mon, line);
    if (out_room(mon, 1)) {
        mon->out[mon->out_len] = 0;
        text = (char *)mon->out;
        mon->out = NULL;
    }
    monitor_destroy(mon);
    return text;
}

void monitor_destroy(Monitor *mon)
{
    if (!mon)
        return;
    for (Monitor **p = &monitors; *p; p = &(*p)->next) {
        if (*p == mon) {
            *p = mon->next;
            break;
        }
    }
    chardev_attach(mon->chr, NULL, NULL);
    edit_free(&mon->edit);
    free(mon->ahead);
    free(mon->out);
    free(mon);
}
