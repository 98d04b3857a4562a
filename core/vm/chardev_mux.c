/*
 * Several frontends on one character device: a serial port and the monitor on one terminal. Output of all
 * goes out as it comes; input goes to the slot that has the focus. Ctrl-a is the escape character, as
 * everybody's fingers know it.
 *
 * A slot keeps input that its frontend has no room for yet, so that Ctrl-a c is still seen while the guest
 * reads nothing.
 */
#include "chardev_mux.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "host.h"
#include "machine.h"

enum { ESCAPE = 0x01, SLOT_BUF = 1024 };

typedef struct Mux Mux;
typedef struct MuxSlot {
    Chardev chr;
    Mux *mux;
    struct MuxSlot *next;           /* in order of creation */
    u8 wait[SLOT_BUF];              /* input its frontend has no room for yet */
    size_t waiting;
} MuxSlot;

struct Mux {
    Machine *m;
    Chardev *under;
    char spec[256];                 /* of what is under it */
    MuxSlot *slots, *focus;
    bool escaped;                   /* the last byte was Ctrl-a */
    bool stamps, line_start;        /* Ctrl-a t: each line of output begins with the time since then */
    u64 stamps_ns;
    char stamp[24];
    size_t stamp_len, stamp_sent;
    Mux *next;
};

static Mux *muxes;

/* The stamp of the line that begins goes out first; false: it could not yet, whole. */
static bool put_stamp(Mux *mux)
{
    if (mux->line_start) {
        u64 ms = (host_now_ns() - mux->stamps_ns) / 1000000, s = ms / 1000;
        int n = snprintf(mux->stamp, sizeof mux->stamp, "[%02u:%02u:%02u.%03u] ", (unsigned)(s / 3600 % 1000),
                         (unsigned)(s / 60 % 60), (unsigned)(s % 60), (unsigned)(ms % 1000));
        mux->stamp_len = (size_t)n;
        mux->stamp_sent = 0;
        mux->line_start = false;
    }
    if (mux->stamp_sent < mux->stamp_len)
        mux->stamp_sent += chardev_write(mux->under, mux->stamp + mux->stamp_sent,
                                         mux->stamp_len - mux->stamp_sent);
    return mux->stamp_sent == mux->stamp_len;
}

static size_t slot_write(Chardev *chr, const u8 *buf, size_t n)
{
    Mux *mux = CONTAINER_OF(chr, MuxSlot, chr)->mux;
    size_t done = 0;
    if (!mux->stamps)
        return chardev_write(mux->under, buf, n);
    while (done < n && put_stamp(mux)) {
        const u8 *end = memchr(buf + done, '\n', n - done);
        size_t line = end ? (size_t)(end - buf) + 1 - done : n - done;
        size_t taken = chardev_write(mux->under, buf + done, line);
        done += taken;
        if (taken < line)
            break;
        mux->line_start = end != NULL;
    }
    return done;
}

static void slot_drain(MuxSlot *s)
{
    while (s->waiting) {
        size_t n = chardev_room(&s->chr);
        if (n > s->waiting)
            n = s->waiting;
        if (!n)
            break;
        u8 part[SLOT_BUF];
        memcpy(part, s->wait, n);
        s->waiting -= n;
        memmove(s->wait, s->wait + n, s->waiting);
        chardev_deliver(&s->chr, part, n);
    }
}

static void slot_accept(Chardev *chr)
{
    MuxSlot *s = CONTAINER_OF(chr, MuxSlot, chr);
    slot_drain(s);
    if (s == s->mux->focus)
        chardev_accept(s->mux->under);
}

static void slot_set_break(Chardev *chr, bool on)
{
    Chardev *under = CONTAINER_OF(chr, MuxSlot, chr)->mux->under;
    if (under->be->set_break)
        under->be->set_break(under, on);
}

static void slot_set_params(Chardev *chr, u32 baud, u8 data_bits, char parity, u8 stop_bits)
{
    Chardev *under = CONTAINER_OF(chr, MuxSlot, chr)->mux->under;
    if (under->be->set_params)
        under->be->set_params(under, baud, data_bits, parity, stop_bits);
}

static void slot_close(Chardev *chr)
{
    MuxSlot *s = CONTAINER_OF(chr, MuxSlot, chr);
    Mux *mux = s->mux;
    for (MuxSlot **p = &mux->slots; *p; p = &(*p)->next) {
        if (*p == s) {
            *p = s->next;
            break;
        }
    }
    if (mux->focus == s)
        mux->focus = mux->slots;
    free(s);
    if (mux->slots)
        return;
    for (Mux **p = &muxes; *p; p = &(*p)->next) {
        if (*p == mux) {
            *p = mux->next;
            break;
        }
    }
    chardev_close(mux->under);
    free(mux);
}

static const ChrBackend slot_backend = {
    .name = "mux", .write = slot_write, .accept = slot_accept, .set_break = slot_set_break,
    .set_params = slot_set_params, .close = slot_close,
};

static void set_focus(Mux *mux, MuxSlot *s)
{
    if (mux->focus == s)
        return;
    if (mux->focus)
        chardev_tell(&mux->focus->chr, CHR_UNFOCUS);
    mux->focus = s;
    chardev_tell(&s->chr, CHR_FOCUS);
}

static void help(Mux *mux)
{
    static const char text[] =
        "\r\nCtrl-a h  this help\r\n"
        "Ctrl-a x  quit\r\n"
        "Ctrl-a s  write everything to the disks\r\n"
        "Ctrl-a b  send a break\r\n"
        "Ctrl-a t  time stamps before lines, on and off\r\n"
        "Ctrl-a c  switch between the monitor and the guest\r\n"
        "Ctrl-a Ctrl-a  send Ctrl-a\r\n";
    chardev_write(mux->under, text, sizeof text - 1);
}

static void slot_put(MuxSlot *s, u8 byte)
{
    if (!s->waiting && chardev_room(&s->chr))
        chardev_deliver(&s->chr, &byte, 1);
    else if (s->waiting < SLOT_BUF)
        s->wait[s->waiting++] = byte;
}

static void command(Mux *mux, u8 byte)
{
    switch (byte) {
    case 'c': case 'C':
        set_focus(mux, mux->focus->next ? mux->focus->next : mux->slots);
        break;
    case 'x': case 'X':
        machine_request(mux->m, REQ_QUIT);
        break;
    case 's': case 'S':
        blk_flush_all(mux->m);
        break;
    case 'b': case 'B':
        chardev_tell(&mux->focus->chr, CHR_BREAK);
        break;
    case 't': case 'T':
        mux->stamps = mux->line_start = !mux->stamps;
        mux->stamps_ns = host_now_ns();
        break;
    case 'h': case 'H': case '?':
        help(mux);
        break;
    case ESCAPE:
        slot_put(mux->focus, ESCAPE);
        break;
    default:
        break;
    }
}

static size_t mux_can_receive(void *opaque)
{
    Mux *mux = opaque;
    return SLOT_BUF - mux->focus->waiting;
}

static void mux_receive(void *opaque, const u8 *buf, size_t n)
{
    Mux *mux = opaque;
    for (size_t i = 0; i < n; i++) {
        if (mux->escaped) {
            mux->escaped = false;
            command(mux, buf[i]);
        } else if (buf[i] == ESCAPE) {
            mux->escaped = true;
        } else {
            slot_put(mux->focus, buf[i]);
        }
    }
}

static void mux_writable(void *opaque)
{
    Mux *mux = opaque;
    for (MuxSlot *s = mux->slots; s; s = s->next)
        chardev_writable(&s->chr);
}

static void mux_event(void *opaque, ChrEvent event)
{
    Mux *mux = opaque;
    for (MuxSlot *s = mux->slots; s; s = s->next) {
        if (event != CHR_BREAK || s == mux->focus)
            chardev_tell(&s->chr, event);
    }
}

static const ChrFrontend mux_frontend = { mux_can_receive, mux_receive, mux_writable, mux_event };

/* The guest has the first focus: the monitor takes it only if there is nobody else. */
static Chardev *add_slot(Mux *mux, const char *label)
{
    MuxSlot *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    chardev_init(&s->chr, &slot_backend, mux->m, label);
    snprintf(s->chr.spec, sizeof s->chr.spec, "mon:%.80s", mux->spec);
    s->mux = mux;
    MuxSlot **p = &mux->slots;
    while (*p)
        p = &(*p)->next;
    *p = s;
    if (!mux->focus)
        mux->focus = s;
    else if (!strncmp(mux->focus->chr.label, "monitor", 7) && strncmp(label, "monitor", 7))
        set_focus(mux, s);
    return &s->chr;
}

Chardev *chardev_mux_slot(Chardev *mux, const char *label)
{
    return mux && mux->be == &slot_backend ? add_slot(CONTAINER_OF(mux, MuxSlot, chr)->mux, label) : NULL;
}

bool chardev_focused(const Chardev *chr)
{
    if (!chr || chr->be != &slot_backend)
        return true;
    const MuxSlot *s = CONTAINER_OF(chr, MuxSlot, chr);
    return s->mux->focus == s;
}

Chardev *mux_open(Machine *m, const char *label, const char *spec, Error *err)
{
    const char *under_spec = spec + strlen("mon:");
    for (Mux *mux = muxes; mux; mux = mux->next) {
        if (mux->m == m && !strcmp(mux->spec, under_spec))
            return add_slot(mux, label);
    }
    if (strlen(under_spec) >= sizeof ((Mux *)0)->spec || !strncmp(under_spec, "mon:", 4)) {
        error_set(err, "'%s' can't be shared", under_spec);
        return NULL;
    }
    Mux *mux = calloc(1, sizeof *mux);
    if (!mux) {
        error_set(err, "out of memory");
        return NULL;
    }
    mux->m = m;
    snprintf(mux->spec, sizeof mux->spec, "%s", under_spec);
    char under_label[32];
    snprintf(under_label, sizeof under_label, "%.20s-shared", label);
    mux->under = chardev_open(m, under_label, under_spec, err);
    if (!mux->under) {
        if (!err->text[0])
            error_set(err, "'%s' can't be shared", under_spec);
        free(mux);
        return NULL;
    }
    mux->under->spec[0] = 0;        /* listed by its slots */
    mux->next = muxes;
    muxes = mux;
    Chardev *chr = add_slot(mux, label);
    if (!chr) {
        error_set(err, "out of memory");
        return NULL;
    }
    chardev_attach(mux->under, &mux_frontend, mux);
    return chr;
}
