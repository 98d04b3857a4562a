/*
 * Character devices: the calls that both ends use, the table of backends, and the backends that need nothing
 * but host.h: null and file. Sockets are in chardev_socket.c and chardev_udp.c, the mux in chardev_mux.c, the
 * text console in vc.c; stdio, pipes and serial ports belong to the host.
 *
 * A file is written asynchronously: one buffer is on its way to the disk while the other fills. When both are
 * full the frontend waits (chardev_write() takes nothing) until the disk has caught up: memory stays bounded
 * whatever the guest sends.
 */
#include "chardev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chardev_mux.h"
#include "chardev_stream.h"
#include "host.h"
#include "log.h"
#include "machine.h"
#include "ui.h"

static Chardev *open_chardevs;      /* every one that was opened and not closed */

/* ---- both ends ---- */

void chardev_init(Chardev *chr, const ChrBackend *be, Machine *m, const char *label)
{
    memset(chr, 0, sizeof *chr);
    chr->be = be;
    chr->m = m;
    snprintf(chr->label, sizeof chr->label, "%s", label);
    chr->next = open_chardevs;
    open_chardevs = chr;
}

void chardev_close(Chardev *chr)
{
    if (!chr)
        return;
    for (Chardev **p = &open_chardevs; *p; p = &(*p)->next) {
        if (*p == chr) {
            *p = chr->next;
            break;
        }
    }
    chr->fe = NULL;
    chr->be->close(chr);
}

void chardev_attach(Chardev *chr, const ChrFrontend *fe, void *opaque)
{
    if (!chr)
        return;
    chr->fe = fe;
    chr->fe_opaque = opaque;
    if (fe)
        chardev_accept(chr);        /* input may have waited for somebody to listen */
}

size_t chardev_write(Chardev *chr, const void *buf, size_t n)
{
    return chr && n ? chr->be->write(chr, buf, n) : n;
}

void chardev_accept(Chardev *chr)
{
    if (chr && chr->be->accept)
        chr->be->accept(chr);
}

void chardev_hangup(Chardev *chr)
{
    if (chr && chr->be->hangup)
        chr->be->hangup(chr);
}

size_t chardev_room(Chardev *chr)
{
    return chr->fe ? chr->fe->can_receive(chr->fe_opaque) : 0;
}

void chardev_deliver(Chardev *chr, const u8 *buf, size_t n)
{
    if (chr->fe && n)
        chr->fe->receive(chr->fe_opaque, buf, n);
}

void chardev_tell(Chardev *chr, ChrEvent event)
{
    if (chr->fe && chr->fe->event)
        chr->fe->event(chr->fe_opaque, event);
}

void chardev_writable(Chardev *chr)
{
    if (chr->fe && chr->fe->writable)
        chr->fe->writable(chr->fe_opaque);
}

void chardev_flush_all(Machine *m)
{
    for (Chardev *c = open_chardevs; c; c = c->next) {
        if (c->m == m && c->be->flush)
            c->be->flush(c);
    }
}

void chardev_list(Machine *m, void (*print)(void *opaque, const char *line), void *opaque)
{
    char line[256];
    for (const Chardev *c = open_chardevs; c; c = c->next) {
        if (c->m != m || !c->spec[0])
            continue;
        snprintf(line, sizeof line, "%s: %s%s%s%s", c->label, c->spec, c->state[0] ? ", " : "", c->state,
                 c->fe ? "" : " (nobody listens)");
        print(opaque, line);
    }
}

/* ---- null ---- */

static size_t null_write(Chardev *chr, const u8 *buf, size_t n)
{
    (void)chr;
    (void)buf;
    return n;
}

static void null_close(Chardev *chr)
{
    free(chr);
}

static const ChrBackend null_backend = { .name = "null", .write = null_write, .close = null_close };

static Chardev *null_open(Machine *m, const char *label, const char *spec, Error *err)
{
    (void)spec;
    Chardev *chr = calloc(1, sizeof *chr);
    if (!chr) {
        error_set(err, "out of memory");
        return NULL;
    }
    chardev_init(chr, &null_backend, m, label);
    return chr;
}

/* ---- file ---- */

enum { FILE_BUF = 64 * 1024 };

typedef struct {
    Chardev chr;
    HostFile *file;
    HostIo io;
    u64 offset;                     /* in the file, of the buffer that is on its way or fills next */
    u8 *out, *fill;                 /* on its way; filling */
    u32 filled;
    bool busy;                      /* io is submitted */
    bool failed;                    /* said so; the rest is thrown away */
    bool starved;                   /* a write took less than all: the frontend waits for writable() */
} FileChr;

static void file_start(FileChr *f)
{
    u8 *t = f->out;
    f->out = f->fill;
    f->fill = t;
    f->io.kind = HOST_IO_WRITE;
    f->io.file = f->file;
    f->io.offset = f->offset;
    f->io.buf = f->out;
    f->io.bytes = f->filled;
    f->offset += f->filled;
    f->filled = 0;
    f->busy = true;
    host_io_submit(&f->io);
}

static void file_done(HostIo *io)
{
    FileChr *f = io->opaque;
    f->busy = false;
    if (!io->ok && !f->failed) {
        f->failed = true;
        log_line("%s: %s; what follows is lost", f->chr.label, io->err.text);
    }
    if (f->failed)
        f->filled = 0;
    if (f->filled)
        file_start(f);
    if (f->starved) {
        f->starved = false;
        chardev_writable(&f->chr);
    }
}

static size_t file_write(Chardev *chr, const u8 *buf, size_t n)
{
    FileChr *f = CONTAINER_OF(chr, FileChr, chr);
    if (f->failed)
        return n;
    size_t take = n;
    if (take > FILE_BUF - f->filled)
        take = FILE_BUF - f->filled;
    memcpy(f->fill + f->filled, buf, take);
    f->filled += (u32)take;
    if (!f->busy && f->filled)
        file_start(f);
    if (take < n)
        f->starved = true;
    return take;
}

static void file_flush(Chardev *chr)
{
    FileChr *f = CONTAINER_OF(chr, FileChr, chr);
    while (f->busy && host_io_wait())
        ;
}

static void file_close(Chardev *chr)
{
    FileChr *f = CONTAINER_OF(chr, FileChr, chr);
    file_flush(chr);
    host_file_close(f->file);
    free(f->out);
    free(f->fill);
    free(f);
}

static const ChrBackend file_backend = {
    .name = "file", .write = file_write, .close = file_close, .flush = file_flush,
};

static Chardev *file_open(Machine *m, const char *label, const char *spec, Error *err)
{
    const char *path = spec + strlen("file:");
    if (!*path) {
        error_set(err, "file: needs a name, as in file:serial.txt");
        return NULL;
    }
    HostFile *file = host_file_open(path, HOST_WRITE | HOST_CREATE, err);
    if (!file)
        return NULL;
    FileChr *f = calloc(1, sizeof *f);
    u8 *a = malloc(FILE_BUF), *b = malloc(FILE_BUF);
    if (!f || !a || !b) {
        free(f);
        free(a);
        free(b);
        host_file_close(file);
        error_set(err, "out of memory");
        return NULL;
    }
    chardev_init(&f->chr, &file_backend, m, label);
    f->file = file;
    f->out = a;
    f->fill = b;
    f->io.done = file_done;
    f->io.opaque = f;
    return &f->chr;
}

/* ---- the table ---- */

/* "chardev:ID": what -chardev ...,id=ID says. */
static Chardev *named_open(Machine *m, const char *label, const char *spec, Error *err)
{
    const char *id = spec + strlen("chardev:");
    for (int i = 0; i < CFG_CHARDEVS; i++) {
        if (m->cfg.chardev[i].id && !strcmp(m->cfg.chardev[i].id, id))
            return chardev_open(m, label, m->cfg.chardev[i].spec, err);
    }
    error_set(err, "there is no -chardev with id=%.60s", id);
    return NULL;
}

static const struct {
    const char *prefix;             /* ends in ':' when something must follow */
    Chardev *(*open)(Machine *m, const char *label, const char *spec, Error *err);
    const char *form;
} backends[] = {
    { "null",     null_open,         "null" },
    { "stdio",    host_chardev_open, "stdio" },
    { "file:",    file_open,         "file:NAME" },
    { "vc:",      vc_open,           "vc:WxH" },
    { "vc",       vc_open,           "vc" },
    { "tcp:",     socket_chr_open,   "tcp:HOST:PORT[,server][,nowait][,reconnect=N]" },
    { "telnet:",  socket_chr_open,   "telnet:HOST:PORT[,server][,nowait]" },
    { "udp:",     udp_chr_open,      "udp:HOST:PORT[@HOST:PORT]" },
    { "pipe:",    host_chardev_open, "pipe:NAME" },
    { "COM",      host_chardev_open, "COMn" },
    { "chardev:", named_open,        "chardev:ID" },
    { "mon:",     mux_open,          "mon:SPEC" },
};

static bool is_prefix(const char *prefix, const char *spec)
{
    size_t n = strlen(prefix);
    if (!strcmp(prefix, "COM"))     /* a name of Windows: upper and lower case are the same */
        return (spec[0] | 32) == 'c' && (spec[1] | 32) == 'o' && (spec[2] | 32) == 'm' && spec[3] >= '0' &&
               spec[3] <= '9';
    return prefix[n - 1] == ':' ? !strncmp(spec, prefix, n) : !strcmp(spec, prefix);
}

Chardev *chardev_open(Machine *m, const char *label, const char *spec, Error *err)
{
    err->text[0] = 0;
    if (!strcmp(spec, "none"))
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        if (!is_prefix(backends[i].prefix, spec))
            continue;
        Chardev *chr = backends[i].open(m, label, spec, err);
        if (chr)
            snprintf(chr->spec, sizeof chr->spec, "%s", spec);
        return chr;
    }
    char forms[320] = "none";
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        size_t n = strlen(forms);
        snprintf(forms + n, sizeof forms - n, ", %s", backends[i].form);
    }
    error_set(err, "'%.100s' is no character device of this program; there are %s", spec, forms);
    return NULL;
}
