/*
 * 82078: the commands that move data (data sheet chapters 5.1, 5.2, 6). READ, WRITE, their deleted forms,
 * READ TRACK, VERIFY, SCAN, FORMAT TRACK, READ ID.
 *
 * A run of sectors that lie together in the image (to the end of the track, or of both sides with MT) is one
 * request; the DMA channel then takes or gives sector after sector until its terminal count. If the channel
 * is not ready the command waits, as a sector and a byte in it, without any buffer that would have to be
 * saved: the rest is read again. Without DMA the sector in s.buf goes through the FIFO register.
 *
 * Raw images hold no address marks: a sector has the ID that its place gives it, 512 bytes (N = 2), and is
 * never deleted. WRITE DELETED writes plain data; FORMAT writes the fill byte where the IDs fit the image and
 * fails where they don't.
 */
#include "fdc_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/machine.h"

enum { CHANNEL = 2, RUN_MAX = 96 };
enum { SCAN_DIFFERS = 1, SCAN_FAILS = 2 };

#define READ_ID_NS 100000u
#define NO_DISK_NS 2000000u

struct FdcIo {
    BlkReq req;
    Fdc *fdc;
    bool dead;                      /* its command was ended by a reset */
    u32 sectors;
    u8 data[];
};

static u8 opcode(const Fdc *f) { return f->s.cmd[0] & 0x1f; }
static bool is_dma(const Fdc *f) { return !(f->s.specify[1] & 1); }
static bool is_scan(u8 op) { return op == CMD_SCAN_EQUAL || op == CMD_SCAN_LOW || op == CMD_SCAN_HIGH; }
static bool is_write(u8 op) { return op == CMD_WRITE || op == CMD_WRITE_DELETED || op == CMD_FORMAT; }

/* Which way the bytes go: a disk that is written or compared gets them from the host. */
bool fdc_pio_to_host(const Fdc *f) { return !is_write(opcode(f)) && !is_scan(opcode(f)); }

static void proceed(Fdc *f);

static void finish(Fdc *f, u8 st0)
{
    FdcState *s = &f->s;

    s->pio_ready = s->stalled = s->exec_due = 0;
    dma_set_dreq(f->dma, CHANNEL, false);
    s->result[0] = (u8)(st0 | s->drive | s->head << 2);
    s->result[1] = s->st[1];
    s->result[2] = s->st[2];
    s->result[3] = s->c;
    s->result[4] = s->h;
    s->result[5] = s->r;
    s->result[6] = s->n;
    fdc_result(f, 7);
    fdc_raise(f);
}

static void fail(Fdc *f, u8 st1, u8 st2)
{
    f->s.st[1] |= st1;
    f->s.st[2] |= st2;
    finish(f, ST0_IC_ABNORMAL);
}

/* ---- where the heads stand ---- */

static Blk *disk(Fdc *f)
{
    Blk *blk = f->s.drive < FDC_DRIVES ? f->blk[f->s.drive] : NULL;

    return blk && blk_has_medium(blk) ? blk : NULL;
}

/* Are there sector IDs under the head? 5.25" disks of 40 tracks turn at 250 kb/s in their own drive, at 300
 * in a 1.2M one. */
static bool track_readable(Fdc *f)
{
    const FloppyGeometry *g = &f->geometry[f->s.drive & 1];
    bool rate_fits = f->s.rate == g->rate || (g->cylinders == 40 && f->s.rate == RATE_300K);

    return disk(f) && rate_fits && f->s.head < g->heads && f->s.track[f->s.drive] < g->cylinders;
}

/* Why the sector of the ID is not found: ST1 and ST2; 0: it is. */
static u8 sector_fault(Fdc *f, u8 *st2)
{
    FdcState *s = &f->s;
    const FloppyGeometry *g = &f->geometry[s->drive & 1];

    *st2 = 0;
    if (!track_readable(f))
        return ST1_MA;
    if (s->n != 2 || !s->r || s->r > g->sectors)
        return ST1_ND;
    if (opcode(f) == CMD_READ_TRACK)
        return 0;                   /* takes what comes, whatever its ID */
    if (s->c != s->track[s->drive]) {
        *st2 = s->c == 0xff ? ST2_BC : ST2_WC;
        return ST1_ND;
    }
    return s->h != s->head ? ST1_ND : 0;
}

static bool find_sector(Fdc *f)
{
    u8 st2, st1 = sector_fault(f, &st2);

    if (st1)
        fail(f, st1, st2);
    return !st1;
}

static u64 sector_number(Fdc *f)
{
    const FloppyGeometry *g = &f->geometry[f->s.drive & 1];

    return ((u64)f->s.track[f->s.drive] * g->heads + f->s.head) * g->sectors + f->s.r - 1;
}

/* The ID goes on by one as the result phase wants it. False: that was the last of the cylinder. */
static bool next_sector(Fdc *f)
{
    FdcState *s = &f->s;
    bool mt = s->cmd[0] & CMD_MT, side_end = s->r == s->cmd[6];

    if (!side_end) {
        s->r++;
        return true;
    }
    s->r = 1;
    if (mt && !s->head) {
        s->head = s->h = 1;
        return true;
    }
    s->c++;
    if (mt)
        s->h = 0;
    return false;
}

/* Sectors from here that lie together in the image. */
static u32 run_length(Fdc *f)
{
    FdcState *s = &f->s;
    const FloppyGeometry *g = &f->geometry[s->drive & 1];
    u8 last = s->cmd[6] >= s->r && s->cmd[6] <= g->sectors ? s->cmd[6] : g->sectors;
    u32 n = last - s->r + 1u;

    if (is_scan(opcode(f)) || !is_dma(f))
        return 1;
    if ((s->cmd[0] & CMD_MT) && !s->head && g->heads == 2 && last == g->sectors && last == s->cmd[6])
        n += g->sectors;
    return n < RUN_MAX ? n : RUN_MAX;
}

/* ---- requests ---- */

static void read_arrived(Fdc *f, FdcIo *io);
static void write_ended(Fdc *f, FdcIo *io);

static void io_done(BlkReq *req)
{
    FdcIo *io = req->opaque;
    Fdc *f = io->fdc;

    if (io->dead) {
        f->orphans--;
    } else {
        f->io = NULL;
        if (req->result == BLK_ERR_READONLY)
            fail(f, ST1_NW, 0);
        else if (req->result != BLK_OK)
            fail(f, ST1_DE, ST2_DD);
        else if (req->op == BLK_READ)
            read_arrived(f, io);
        else
            write_ended(f, io);
    }
    free(io);
}

static FdcIo *new_io(Fdc *f, BlkOp op, u32 sectors)
{
    FdcIo *io = calloc(1, sizeof(*io) + (size_t)sectors * FDC_SECTOR);

    if (!io) {
        fprintf(stderr, "qemu: out of memory\n");
        abort();
    }
    io->fdc = f;
    io->sectors = sectors;
    io->req.op = op;
    io->req.offset = sector_number(f) * FDC_SECTOR;
    io->req.buf = io->data;
    io->req.done = io_done;
    io->req.opaque = io;
    return io;
}

static void submit(Fdc *f, FdcIo *io, u32 bytes)
{
    f->io = io;
    io->req.bytes = bytes;
    blk_submit(disk(f), &io->req);
}

void fdc_abandon(Fdc *f)
{
    if (f->io) {
        f->io->dead = true;
        f->io = NULL;
        f->orphans++;
    }
    dma_set_dreq(f->dma, CHANNEL, false);
}

/* Reads a run; what the image is too short for stays zero. */
static void start_read(Fdc *f)
{
    u64 end = blk_bytes(disk(f));
    FdcIo *io = new_io(f, BLK_READ, run_length(f));
    u64 bytes = (u64)io->sectors * FDC_SECTOR;

    if (io->req.offset >= end) {
        io->req.offset = 0;
        bytes = 0;
    } else if (bytes > end - io->req.offset) {
        bytes = end - io->req.offset;
    }
    submit(f, io, (u32)bytes);
}

/* ---- to and from the host ---- */

/* Moves the rest of a sector, or of its ID, by DMA. False: the channel is not ready, the command waits. */
static bool dma_move(Fdc *f, u8 *sector, u32 size, bool to_memory)
{
    FdcState *s = &f->s;

    s->stalled = 0;
    dma_set_dreq(f->dma, CHANNEL, true);
    if (s->dor & 0x08) {
        s->pos = (u16)(s->pos + dma_transfer(f->dma, CHANNEL, sector + s->pos, size - s->pos, to_memory));
        s->tc = dma_tc(f->dma, CHANNEL);
    }
    if (s->pos >= size || s->tc) {
        s->pos = 0;
        return true;
    }
    s->stalled = 1;
    return false;
}

static void pio_wait(Fdc *f)
{
    f->s.pio_ready = 1;
    fdc_raise(f);
}

/* A sector has gone its way whole. True: the command goes on with the next one. */
static bool sector_ended(Fdc *f)
{
    FdcState *s = &f->s;
    u8 head = s->head;
    bool more = next_sector(f);

    if (s->tc) {
        s->head = head;
        finish(f, 0);
        return false;
    }
    if (!more) {
        if (opcode(f) == CMD_READ_TRACK || opcode(f) == CMD_VERIFY) {
            finish(f, 0);
        } else {
            fail(f, ST1_EN, 0);
        }
    }
    return more;
}

static void verify_arrived(Fdc *f, FdcIo *io)
{
    FdcState *s = &f->s;

    for (u32 i = 0; i < io->sectors; i++) {
        if ((s->cmd[1] & 0x80) && !--s->left)
            s->tc = 1;
        if (!sector_ended(f))
            return;
    }
    proceed(f);
}

/* Compares the rest of s.buf, which came from the host, with the disk's sector. FFh from the host matches
 * anything. */
static void scan_sector(Fdc *f, const u8 *disk_bytes)
{
    FdcState *s = &f->s;
    u8 op = opcode(f);

    s->scan = 0;
    for (unsigned i = 0; i < FDC_SECTOR; i++) {
        u8 host = s->buf[i], on_disk = disk_bytes[i];

        if (host == 0xff || host == on_disk)
            continue;
        s->scan |= SCAN_DIFFERS;
        if (op == CMD_SCAN_EQUAL || (op == CMD_SCAN_LOW ? on_disk > host : on_disk < host))
            s->scan |= SCAN_FAILS;
    }
    if (!(s->scan & SCAN_FAILS)) {
        s->st[2] |= s->scan & SCAN_DIFFERS ? 0 : ST2_SH;
        next_sector(f);
        finish(f, 0);
        return;
    }
    for (unsigned step = s->cmd[8] == 2 ? 2 : 1; step; step--) {
        if (!next_sector(f) || s->tc) {
            s->st[2] |= ST2_SN;
            finish(f, 0);
            return;
        }
    }
    proceed(f);
}

static void read_arrived(Fdc *f, FdcIo *io)
{
    FdcState *s = &f->s;
    bool deleted = opcode(f) == CMD_READ_DELETED;

    if (opcode(f) == CMD_VERIFY) {
        verify_arrived(f, io);
        return;
    }
    if (is_scan(opcode(f))) {
        scan_sector(f, io->data);
        return;
    }
    if (!is_dma(f)) {
        memcpy(s->buf, io->data, FDC_SECTOR);
        pio_wait(f);
        return;
    }
    for (u32 i = 0; i < io->sectors; i++) {
        if (!dma_move(f, io->data + (size_t)i * FDC_SECTOR, FDC_SECTOR, true))
            return;
        if (deleted) {              /* a plain sector where a deleted one was wanted: it is the last */
            s->st[2] |= ST2_CM;
            finish(f, 0);
            return;
        }
        if (!sector_ended(f))
            return;
    }
    proceed(f);
}

/* Gathers a run from the host and writes it. A sector that the terminal count cuts short is filled with
 * zeros. */
static void start_write(Fdc *f)
{
    FdcState *s = &f->s;
    u64 end = blk_bytes(disk(f)) / FDC_SECTOR, first = sector_number(f);
    u32 n = run_length(f), have = 0;
    FdcIo *io;

    if (first >= end) {             /* the image ends before the disk does */
        fail(f, ST1_ND, 0);
        return;
    }
    if (n > end - first)
        n = (u32)(end - first);
    io = new_io(f, BLK_WRITE, n);
    while (have < n && !s->tc) {
        u16 from = s->pos;
        u8 *sector = io->data + (size_t)have * FDC_SECTOR;

        memcpy(sector, s->buf, from);               /* what came before the channel stalled */
        if (!dma_move(f, sector, FDC_SECTOR, false)) {
            memcpy(s->buf + from, sector + from, s->pos - from);
            break;
        }
        have++;
    }
    io->sectors = have;
    if (have)
        submit(f, io, have * FDC_SECTOR);
    else
        free(io);
}

static void write_ended(Fdc *f, FdcIo *io)
{
    FdcState *s = &f->s;
    bool tc = s->tc;

    if (opcode(f) == CMD_FORMAT) {
        if (tc || !--s->left)
            finish(f, 0);
        else
            proceed(f);
        return;
    }
    s->tc = 0;
    for (u32 i = 0; i < io->sectors; i++) {
        s->tc = tc && i == io->sectors - 1;
        if (!sector_ended(f))
            return;
    }
    proceed(f);
}

/* ---- FORMAT TRACK: s.buf holds the 4 bytes of the next sector's ID ---- */

static void format_sector(Fdc *f)
{
    FdcState *s = &f->s;
    FdcIo *io;

    s->c = s->buf[0];
    s->h = s->buf[1];
    s->r = s->buf[2];
    s->n = s->buf[3];
    if (!find_sector(f))
        return;
    if (sector_number(f) >= blk_bytes(disk(f)) / FDC_SECTOR) {
        fail(f, ST1_ND, 0);
        return;
    }
    io = new_io(f, BLK_WRITE, 1);
    memset(io->data, s->cmd[5], FDC_SECTOR);
    submit(f, io, FDC_SECTOR);
}

static void proceed_format(Fdc *f)
{
    if (!is_dma(f))
        pio_wait(f);
    else if (dma_move(f, f->s.buf, 4, false))
        format_sector(f);
}

/* ---- the course of a command ---- */

static bool may_write(Fdc *f)
{
    if (!is_write(opcode(f)) || !blk_readonly(disk(f)))
        return true;
    fail(f, ST1_NW, 0);
    return false;
}

/* The next run: the ID is that of its first sector, s.pos bytes of which have been moved. */
static void proceed(Fdc *f)
{
    FdcState *s = &f->s;
    u8 op = opcode(f);

    s->pio_ready = 0;
    if (op == CMD_FORMAT) {
        proceed_format(f);
        return;
    }
    if (!find_sector(f))
        return;
    if (op == CMD_READ_DELETED && (s->cmd[0] & CMD_SK)) {   /* no sector is deleted: all are skipped */
        s->r = s->cmd[6];
        if (sector_ended(f))
            proceed(f);
    } else if (is_dma(f) && is_scan(op)) {
        if (dma_move(f, s->buf, FDC_SECTOR, false))
            start_read(f);
    } else if (!is_dma(f) && !fdc_pio_to_host(f)) {
        pio_wait(f);
    } else if (is_write(op)) {
        start_write(f);
    } else {
        start_read(f);
    }
}

static void begin(Fdc *f)
{
    FdcState *s = &f->s;

    s->phase = PHASE_EXEC;
    s->drive = s->cmd[1] & 3;
    s->head = s->cmd[1] >> 2 & 1;
    memset(s->st, 0, sizeof(s->st));
    s->pos = 0;
    s->tc = s->stalled = s->pio_ready = 0;
}

/* Errors come by the timer: the guest shall be done with the OUT that started the command before it is
 * interrupted. */
static void end_later(Fdc *f, u64 ns)
{
    f->s.exec_due = 1;
    timer_arm(&f->exec_timer, clock_ns(f->dev.m, CLOCK_VIRTUAL) + ns);
}

void fdc_exec_fired(void *opaque)
{
    Fdc *f = opaque;
    FdcState *s = &f->s;
    const FloppyGeometry *g = &f->geometry[s->drive & 1];

    if (!s->exec_due)
        return;
    s->exec_due = 0;
    if (!track_readable(f)) {
        fail(f, ST1_MA, 0);
    } else if (opcode(f) != CMD_READ_ID) {
        if (may_write(f))
            proceed(f);
    } else {
        /* the disk turns five times a second */
        u64 turn = clock_ns(f->dev.m, CLOCK_VIRTUAL) % 200000000u;

        s->c = s->track[s->drive];
        s->h = s->head;
        s->r = (u8)(turn * g->sectors / 200000000u + 1);
        s->n = 2;
        finish(f, 0);
    }
}

void fdc_data_command(Fdc *f)
{
    FdcState *s = &f->s;
    u8 st2;

    begin(f);
    s->c = s->cmd[2];
    s->h = s->cmd[3];
    s->r = opcode(f) == CMD_READ_TRACK ? 1 : s->cmd[4];
    s->n = s->cmd[5];
    s->left = s->cmd[8] ? s->cmd[8] : 256;          /* VERIFY's sector count */
    if (s->config & CONFIG_EIS) {
        fdc_move_heads(f, s->drive, s->c - s->pcn[s->drive]);
        s->pcn[s->drive] = s->c;
    }
    if (sector_fault(f, &st2) || (is_write(opcode(f)) && blk_readonly(disk(f))))
        end_later(f, NO_DISK_NS);
    else
        proceed(f);
}

void fdc_read_id(Fdc *f)
{
    begin(f);
    f->s.c = f->s.track[f->s.drive];
    f->s.h = f->s.head;
    f->s.r = 1;
    f->s.n = 2;
    end_later(f, track_readable(f) ? READ_ID_NS : NO_DISK_NS);
}

void fdc_format(Fdc *f)
{
    FdcState *s = &f->s;

    begin(f);
    s->c = s->track[s->drive];
    s->h = s->head;
    s->r = 1;
    s->n = s->cmd[2];
    s->left = s->cmd[3] ? s->cmd[3] : 256;
    end_later(f, track_readable(f) ? READ_ID_NS : NO_DISK_NS);
}

void fdc_dma_ready(void *opaque)
{
    Fdc *f = opaque;

    if (f->s.phase != PHASE_EXEC || !f->s.stalled || f->io || f->s.exec_due)
        return;
    if (!(f->s.dor & 0x08) || !dma_ready(f->dma, CHANNEL))
        return;
    f->s.stalled = 0;
    proceed(f);
}

/* ---- non-DMA ---- */

u8 fdc_pio_read(Fdc *f)
{
    FdcState *s = &f->s;
    u8 value = s->buf[s->pos];

    if (++s->pos < FDC_SECTOR)
        return value;
    s->pos = 0;
    s->pio_ready = 0;
    s->irq = 0;
    irq_set(f->irq, false);
    if (opcode(f) == CMD_READ_DELETED) {
        s->st[2] |= ST2_CM;
        finish(f, 0);
    } else if (sector_ended(f)) {
        proceed(f);
    }
    return value;
}

void fdc_pio_write(Fdc *f, u8 value)
{
    FdcState *s = &f->s;
    u8 op = opcode(f);

    s->buf[s->pos] = value;
    if (++s->pos < (op == CMD_FORMAT ? 4 : FDC_SECTOR))
        return;
    s->pos = 0;
    s->pio_ready = 0;
    s->irq = 0;
    irq_set(f->irq, false);
    if (op == CMD_FORMAT) {
        format_sector(f);
    } else if (!find_sector(f)) {
        return;
    } else if (is_scan(op)) {
        start_read(f);
    } else if (sector_number(f) >= blk_bytes(disk(f)) / FDC_SECTOR) {
        fail(f, ST1_ND, 0);
    } else {
        FdcIo *io = new_io(f, BLK_WRITE, 1);

        memcpy(io->data, s->buf, FDC_SECTOR);
        submit(f, io, FDC_SECTOR);
    }
}
