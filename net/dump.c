/*
 * -net dump: writes what passes on a VLAN to a file of libpcap's format, version 2.4, link type Ethernet.
 *
 *      file header   a1b2c3d4  2  4  0  0  snap length  1
 *      a frame       seconds, microseconds, bytes stored, bytes of the frame; the bytes
 *
 * Frames are gathered in memory while a write is under way, and written in one piece then. If the disk can't
 * keep up, frames are left out and counted: a dump never slows the network.
 */
#include "net_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/host.h"
#include "../core/vm/log.h"

enum { BUFFER = 4 << 20, RECORD = 16 };

typedef struct {
    NetPeer *peer;
    HostFile *file;
    char *name;
    HostIo io;
    bool busy, failed, closed;
    u32 snap;
    u64 offset, frames, lost;
    u8 *filling, *writing;
    u32 filled;
} Dump;

static void dump_free(Dump *d)
{
    host_file_close(d->file);
    free(d->name);
    free(d->filling);
    free(d->writing);
    free(d);
}

static void dump_write(Dump *d)
{
    if (d->busy || d->failed || !d->filled)
        return;
    u8 *full = d->filling;
    d->filling = d->writing;
    d->writing = full;
    d->io.kind = HOST_IO_WRITE;
    d->io.file = d->file;
    d->io.offset = d->offset;
    d->io.buf = full;
    d->io.bytes = d->filled;
    d->offset += d->filled;
    d->filled = 0;
    d->busy = true;
    host_io_submit(&d->io);
}

static void written(HostIo *io)
{
    Dump *d = io->opaque;

    d->busy = false;
    if (!io->ok && !d->failed) {
        log_line("%s: %s; the dump ends here", d->name, io->err.text);
        d->failed = true;
    }
    dump_write(d);
    if (d->closed && !d->busy)
        dump_free(d);
}

static bool dump_receive(void *opaque, const u8 *frame, u32 len)
{
    Dump *d = opaque;
    u32 stored = len < d->snap ? len : d->snap;

    if (d->failed || BUFFER - d->filled < RECORD + stored) {
        d->lost++;
        return true;
    }
    s64 now = host_wall_us();
    u8 *p = d->filling + d->filled;
    store32(p, (u32)(now / 1000000));
    store32(p + 4, (u32)(now % 1000000));
    store32(p + 8, stored);
    store32(p + 12, len);
    memcpy(p + RECORD, frame, stored);
    d->filled += RECORD + stored;
    d->frames++;
    dump_write(d);
    return true;
}

static void dump_describe(void *opaque, char *text, size_t size)
{
    Dump *d = opaque;

    snprintf(text, size, "dump to %s, %llu frames, %llu left out", d->name, (unsigned long long)d->frames,
             (unsigned long long)d->lost);
}

static void dump_close(void *opaque)
{
    Dump *d = opaque;

    net_leave(d->peer);
    d->closed = true;
    dump_write(d);
    if (!d->busy)
        dump_free(d);
}

bool dump_open(Machine *m, int vlan, const char *name, const char *file, u32 len, Error *err)
{
    static const NetPeerOps ops = { .receive = dump_receive, .close = dump_close, .describe = dump_describe };
    HostFile *f = host_file_open(file, HOST_WRITE | HOST_CREATE, err);

    if (!f)
        return false;
    Dump *d = calloc(1, sizeof(*d));
    size_t bytes = strlen(file) + 1;
    if (d) {
        d->filling = malloc(BUFFER);
        d->writing = malloc(BUFFER);
        d->name = malloc(bytes);
    }
    if (!d || !d->filling || !d->writing || !d->name)
        abort();
    memcpy(d->name, file, bytes);
    d->file = f;
    d->snap = len;
    d->io.done = written;
    d->io.opaque = d;
    u8 *h = d->filling;
    memset(h, 0, 24);
    store32(h, 0xa1b2c3d4);
    store16(h + 4, 2);
    store16(h + 6, 4);
    store32(h + 16, len);
    store32(h + 20, 1);
    d->filled = 24;
    d->peer = net_join(m, vlan, name, &ops, d);
    dump_write(d);
    return true;
}
