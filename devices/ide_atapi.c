/*
 * ATAPI CD-ROM: ATA/ATAPI-6 chapter 9.8 (PACKET protocol), INF-8020i and MMC-3 (commands). The medium is an
 * image of 2048-byte blocks, one data track; an image above 1 GB shows itself as a DVD.
 *
 * A reply is built in the channel's buffer and handed over in DRQs of at most the guest's byte count limit,
 * or by DMA. READ goes through the same buffer, 64 KiB at a time, or with DMA in chunks of 512 KiB.
 *
 * Not modelled: audio (no such tracks), writing, EDC and ECC bytes of raw reads (zeros), subchannels beyond
 * the position.
 */
#include "ide_int.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/machine.h"

enum { KEY_NONE, KEY_NOT_READY = 2, KEY_MEDIUM = 3, KEY_ILLEGAL = 5, KEY_ATTENTION = 6 };
enum { ASC_INVALID_OPCODE = 0x20, ASC_OUT_OF_RANGE = 0x21, ASC_INVALID_FIELD = 0x24, ASC_CHANGED = 0x28,
       ASC_RESET = 0x29, ASC_NO_MEDIUM = 0x3a, ASC_LOCKED = 0x53, ASC_MODE = 0x64 };
enum { EVENT_NONE, EVENT_NEW_MEDIUM = 2, EVENT_REMOVED = 3 };

static const u8 ready = ST_DRDY | ST_DSC;
static const u32 dvd_blocks = (1u << 30) / CD_BLOCK;

static void read_more(IdeChannel *ch);
static void dma_more(IdeChannel *ch);

static void put16(u8 *p, u32 v) { p[0] = (u8)(v >> 8); p[1] = (u8)v; }
static void put32(u8 *p, u32 v) { put16(p, v >> 16); put16(p + 2, v); }
static u32 get16(const u8 *p) { return (u32)p[0] << 8 | p[1]; }
static u32 get24(const u8 *p) { return (u32)p[0] << 16 | get16(p + 1); }
static u32 get32(const u8 *p) { return get16(p) << 16 | get16(p + 2); }

static void put_msf(u8 *p, u32 lba)
{
    lba += 150;
    p[0] = (u8)(lba / 75 / 60);
    p[1] = (u8)(lba / 75 % 60);
    p[2] = (u8)(lba % 75);
}

/* ---- how a command ends ---- */

static void complete(IdeChannel *ch)
{
    ide_drive(ch)->count[0] = 3;    /* interrupt reason: I/O, C/D: status */
    ide_end(ch, ready, 0);
}

static void fail(IdeChannel *ch, u8 key, u8 asc, u8 ascq)
{
    IdeDrive *d = ide_drive(ch);

    d->sense_key = key;
    d->asc = asc;
    d->ascq = ascq;
    d->count[0] = 3;
    ide_end(ch, ready | ST_ERR, (u8)(key << 4 | ER_ABRT));
}

static void invalid_field(IdeChannel *ch) { fail(ch, KEY_ILLEGAL, ASC_INVALID_FIELD, 0); }

void atapi_io_failed(IdeChannel *ch, const BlkReq *req)
{
    if (req->result == BLK_ERR_NOMEDIUM)
        fail(ch, KEY_NOT_READY, ASC_NO_MEDIUM, 0);
    else
        fail(ch, KEY_MEDIUM, 0x11, 0);      /* unrecovered read error */
}

/* ---- data to the guest ---- */

static bool by_dma(IdeChannel *ch) { return ch->bm && (ide_drive(ch)->feature[0] & 1); }

/* The next DRQ: at most what the guest's limit allows, whole words unless it is the last. */
static void present(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    IdeDrive *d = ide_drive(ch);
    u32 n = s->len - s->pos;

    if (n > s->limit)
        n = s->limit & ~1u;
    d->count[0] = 2;                /* I/O: to the host */
    d->mid[0] = (u8)n;
    d->high[0] = (u8)(n >> 8);
    ide_transfer(ch, PHASE_IN, n, true);
}

static void wait_for_bus_master(IdeChannel *ch)
{
    ch->s.phase = PHASE_DMA;
    ide_drive(ch)->status = ST_BSY;
}

static void reply_by_dma(IdeChannel *ch)
{
    IdeState *s = &ch->s;

    if (ide_bm_ready(ch->bm))
        s->pos += ide_bm_move(ch->bm, s->buf + s->pos, s->len - s->pos, true);
    if (s->pos < s->len)
        wait_for_bus_master(ch);
    else
        complete(ch);
}

/* buf holds len bytes of reply, of which the guest takes at most alloc. */
static void reply(IdeChannel *ch, u32 len, u32 alloc)
{
    IdeState *s = &ch->s;

    s->pos = 0;
    s->end = s->len = len < alloc ? len : alloc;
    if (!s->len) {
        s->end = 0;
        complete(ch);
    } else if (by_dma(ch)) {
        s->op = OP_REPLY_DMA;
        reply_by_dma(ch);
    } else {
        s->op = OP_REPLY;
        present(ch);
    }
}

/* ---- the medium ---- */

static u32 blocks(IdeChannel *ch)
{
    u64 n = (blk_bytes(ide_blk(ch)) + CD_BLOCK - 1) / CD_BLOCK;

    return n > 0x7fffffff ? 0x7fffffff : (u32)n;
}

static bool has_medium(IdeChannel *ch)
{
    return blk_has_medium(ide_blk(ch)) && !ide_drive(ch)->tray_open;
}

void atapi_medium_changed(IdeChannel *ch, unsigned drive)
{
    IdeDrive *d = &ch->s.d[drive];

    d->tray_open = 0;
    d->was_changed = 1;
    d->attention = blk_has_medium(ch->blk[drive]) ? ASC_CHANGED : 0;
    d->media_event = blk_has_medium(ch->blk[drive]) ? EVENT_NEW_MEDIUM : EVENT_REMOVED;
}

void atapi_reset_drive(IdeChannel *ch, unsigned drive)
{
    ch->s.d[drive].attention = ASC_RESET;
    ch->s.d[drive].sense_key = ch->s.d[drive].asc = ch->s.d[drive].ascq = 0;
}

/* ---- reading blocks ---- */

static void raw_block(u8 *to, const u8 *data, u32 lba)
{
    static const u8 sync[12] = { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0 };

    memset(to, 0, CD_RAW_BLOCK);
    memcpy(to, sync, sizeof(sync));
    put_msf(to + 12, lba);
    for (unsigned i = 12; i < 15; i++)
        to[i] = (u8)(to[i] / 10 % 10 << 4 | to[i] % 10);
    to[15] = 1;                     /* mode 1 */
    memcpy(to + 16, data, CD_BLOCK);
}

/* Asks for the next n blocks; the last one of an image may be short, its rest reads as zeros. */
static void request_blocks(IdeChannel *ch, u32 n, void (*then)(IdeChannel *ch, IdeIo *io))
{
    IdeState *s = &ch->s;
    u64 at = s->lba * CD_BLOCK, end = blk_bytes(ide_blk(ch));
    u32 bytes = n * CD_BLOCK, have = at >= end ? 0 : end - at < bytes ? (u32)(end - at) : bytes;
    IdeIo *io = ide_new_io(ch, BLK_READ, have ? at : 0, bytes, then);

    io->req.bytes = have;
    memset(io->data + have, 0, bytes - have);
    ide_submit(ch, io);
}

static u32 batch(const IdeState *s, u32 room)
{
    u32 most = room / s->cd_block;

    return s->left < most ? s->left : most;
}

static void read_done(IdeChannel *ch, IdeIo *io)
{
    IdeState *s = &ch->s;
    u32 n = batch(s, IDE_BUF);

    if (s->cd_block == CD_BLOCK) {
        memcpy(s->buf, io->data, (size_t)n * CD_BLOCK);
    } else {
        for (u32 i = 0; i < n; i++)
            raw_block(s->buf + (size_t)i * CD_RAW_BLOCK, io->data + (size_t)i * CD_BLOCK, (u32)s->lba + i);
    }
    s->lba += n;
    s->left -= n;
    s->pos = 0;
    s->len = n * s->cd_block;
    present(ch);
}

static void read_more(IdeChannel *ch)
{
    request_blocks(ch, batch(&ch->s, IDE_BUF), read_done);
}

static void dma_done(IdeChannel *ch, IdeIo *io)
{
    IdeState *s = &ch->s;
    u32 n = batch(s, IDE_DMA_CHUNK / 2), bytes = n * s->cd_block, moved = s->skip;
    u8 *data = io->data, *raw = NULL;

    if (s->cd_block == CD_RAW_BLOCK) {
        data = raw = ide_alloc(bytes);
        for (u32 i = 0; i < n; i++)
            raw_block(raw + (size_t)i * CD_RAW_BLOCK, io->data + (size_t)i * CD_BLOCK, (u32)s->lba + i);
    }
    if (ide_bm_ready(ch->bm))
        moved += ide_bm_move(ch->bm, data + s->skip, bytes - s->skip, true);
    free(raw);
    s->skip = moved % s->cd_block;
    s->lba += moved / s->cd_block;
    s->left -= moved / s->cd_block;
    if (s->left)
        dma_more(ch);
    else
        complete(ch);
}

static void dma_more(IdeChannel *ch)
{
    if (ide_bm_ready(ch->bm))
        request_blocks(ch, batch(&ch->s, IDE_DMA_CHUNK / 2), dma_done);
    else
        wait_for_bus_master(ch);
}

static void start_read(IdeChannel *ch, u32 lba, u32 n, u16 block)
{
    IdeState *s = &ch->s;

    if (lba > blocks(ch) || n > blocks(ch) - lba) {
        fail(ch, KEY_ILLEGAL, ASC_OUT_OF_RANGE, 0);
        return;
    }
    if (!n) {
        complete(ch);
        return;
    }
    s->lba = lba;
    s->left = n;
    s->cd_block = block;
    s->op = by_dma(ch) ? OP_CD_READ_DMA : OP_CD_READ;
    if (by_dma(ch))
        dma_more(ch);
    else
        read_more(ch);
}

static void cmd_read10(IdeChannel *ch, const u8 *c) { start_read(ch, get32(c + 2), get16(c + 7), CD_BLOCK); }
static void cmd_read12(IdeChannel *ch, const u8 *c) { start_read(ch, get32(c + 2), get32(c + 6), CD_BLOCK); }

/* READ CD: nothing, the 2048 data bytes, or the whole raw block. */
static void read_cd(IdeChannel *ch, u32 lba, u32 n, u8 what)
{
    switch (what & 0xf8) {
    case 0x00:
        complete(ch);
        break;
    case 0x10:
        start_read(ch, lba, n, CD_BLOCK);
        break;
    case 0xf8:
        start_read(ch, lba, n, CD_RAW_BLOCK);
        break;
    default:
        invalid_field(ch);
        break;
    }
}

static void cmd_read_cd(IdeChannel *ch, const u8 *c)
{
    read_cd(ch, get32(c + 2), get24(c + 6), c[9]);
}

static void cmd_read_cd_msf(IdeChannel *ch, const u8 *c)
{
    u32 from = (c[3] * 60u + c[4]) * 75u + c[5], to = (c[6] * 60u + c[7]) * 75u + c[8];

    if (from < 150 || to < from)
        invalid_field(ch);
    else
        read_cd(ch, from - 150, to - from, c[9]);
}

static void cmd_seek(IdeChannel *ch, const u8 *c)
{
    if (get32(c + 2) >= blocks(ch))
        fail(ch, KEY_ILLEGAL, ASC_OUT_OF_RANGE, 0);
    else
        complete(ch);
}

/* ---- status and tray ---- */

static void cmd_ok(IdeChannel *ch, const u8 *c)
{
    (void)c;
    complete(ch);
}

static void cmd_request_sense(IdeChannel *ch, const u8 *c)
{
    IdeDrive *d = ide_drive(ch);
    u8 *b = ch->s.buf;

    if (!d->sense_key && d->attention) {
        d->sense_key = KEY_ATTENTION;
        d->asc = d->attention;
        d->attention = 0;
    }
    memset(b, 0, 18);
    b[0] = 0x70;
    b[2] = d->sense_key;
    b[7] = 10;
    b[12] = d->asc;
    b[13] = d->ascq;
    d->sense_key = d->asc = d->ascq = 0;
    reply(ch, 18, c[4]);
}

static void cmd_inquiry(IdeChannel *ch, const u8 *c)
{
    u8 *b = ch->s.buf;

    if ((c[1] & 1) || c[2]) {
        invalid_field(ch);
        return;
    }
    memset(b, 0, 36);
    b[0] = 5;                       /* CD-ROM */
    b[1] = 0x80;                    /* removable */
    b[3] = 0x21;                    /* ATAPI; response format 1 */
    b[4] = 31;
    memcpy(b + 8, "QEMU-WINCD-ROM          1.0 ", 28);
    reply(ch, 36, get16(c + 3));
}

static void cmd_start_stop(IdeChannel *ch, const u8 *c)
{
    IdeDrive *d = ide_drive(ch);
    bool load_eject = c[4] & 2, start = c[4] & 1;

    if (load_eject && !start && blk_locked(ide_blk(ch)) && !d->tray_open) {
        fail(ch, KEY_ILLEGAL, ASC_LOCKED, 2);
        return;
    }
    if (load_eject && d->tray_open == start) {
        d->tray_open = !start;
        d->media_event = start ? blk_has_medium(ide_blk(ch)) ? EVENT_NEW_MEDIUM : EVENT_NONE : EVENT_REMOVED;
        if (start && blk_has_medium(ide_blk(ch)))
            d->attention = ASC_CHANGED;
    }
    complete(ch);
}

static void cmd_prevent(IdeChannel *ch, const u8 *c)
{
    blk_set_locked(ide_blk(ch), c[4] & 1);
    complete(ch);
}

static void cmd_capacity(IdeChannel *ch, const u8 *c)
{
    (void)c;
    put32(ch->s.buf, blocks(ch) - 1);
    put32(ch->s.buf + 4, CD_BLOCK);
    reply(ch, 8, 8);
}

static void cmd_mechanism(IdeChannel *ch, const u8 *c)
{
    u8 *b = ch->s.buf;

    memset(b, 0, 8);
    b[1] = ide_drive(ch)->tray_open ? 0x10 : 0;
    b[5] = 1;
    reply(ch, 8, get16(c + 8));
}

static void cmd_event_status(IdeChannel *ch, const u8 *c)
{
    IdeDrive *d = ide_drive(ch);
    u8 *b = ch->s.buf;

    if (!(c[1] & 1)) {              /* only polled */
        invalid_field(ch);
        return;
    }
    memset(b, 0, 8);
    b[3] = 0x10;                    /* media events are told */
    if (!(c[4] & 0x10)) {
        b[1] = 2;
        b[2] = 0x80;
        reply(ch, 4, get16(c + 7));
        return;
    }
    b[1] = 6;
    b[2] = 4;
    b[4] = d->media_event;
    b[5] = (u8)((d->tray_open ? 1 : 0) | (has_medium(ch) ? 2 : 0));
    if (d->media_event == EVENT_NEW_MEDIUM)
        d->was_changed = 0;         /* the guest knows: no need to show it an empty tray first */
    d->media_event = EVENT_NONE;
    reply(ch, 8, get16(c + 7));
}

/* ---- table of contents ---- */

static u8 *put_address(u8 *p, u32 lba, bool msf)
{
    if (msf) {
        p[0] = 0;
        put_msf(p + 1, lba);
    } else {
        put32(p, lba);
    }
    return p + 4;
}

static u32 toc_tracks(IdeChannel *ch, u8 first, bool msf)
{
    u8 *b = ch->s.buf, *p = b + 4;

    b[2] = b[3] = 1;
    if (first <= 1) {
        memcpy(p, "\0\x14\x01\0", 4);
        p = put_address(p + 4, 0, msf);
    }
    memcpy(p, "\0\x14\xaa\0", 4);
    p = put_address(p + 4, blocks(ch), msf);
    return (u32)(p - b);
}

static u32 toc_sessions(IdeChannel *ch, bool msf)
{
    u8 *b = ch->s.buf;

    b[2] = b[3] = 1;
    memcpy(b + 4, "\0\x14\x01\0", 4);
    put_address(b + 8, 0, msf);
    return 12;
}

static u32 toc_full(IdeChannel *ch)
{
    u8 *b = ch->s.buf, *p = b + 4;
    static const u8 points[] = { 0xa0, 0xa1, 0xa2, 1 };

    b[2] = b[3] = 1;
    for (unsigned i = 0; i < ARRAY_LEN(points); i++, p += 11) {
        memset(p, 0, 11);
        p[0] = 1;                   /* session */
        p[1] = 0x14;
        p[3] = points[i];
        if (points[i] == 0xa2)
            put_msf(p + 8, blocks(ch));
        else if (points[i] == 1)
            put_msf(p + 8, 0);
        else
            p[8] = 1;               /* first and last track */
    }
    return (u32)(p - b);
}

static void cmd_toc(IdeChannel *ch, const u8 *c)
{
    u8 format = c[2] & 15 ? c[2] & 15 : c[9] >> 6;
    bool msf = c[1] & 2;
    u32 len;

    if (format == 0 && (c[6] <= 1 || c[6] == 0xaa)) {
        len = toc_tracks(ch, c[6], msf);
    } else if (format == 1) {
        len = toc_sessions(ch, msf);
    } else if (format == 2 && c[6] <= 1) {
        len = toc_full(ch);
    } else {
        invalid_field(ch);
        return;
    }
    put16(ch->s.buf, len - 2);
    reply(ch, len, get16(c + 7));
}

static void cmd_subchannel(IdeChannel *ch, const u8 *c)
{
    u8 *b = ch->s.buf;

    memset(b, 0, 24);
    b[1] = 0x15;                    /* no audio status to tell */
    if (!(c[2] & 0x40)) {
        reply(ch, 4, get16(c + 7));
        return;
    }
    if (!c[3] || c[3] > 3) {
        invalid_field(ch);
        return;
    }
    b[3] = c[3] == 1 ? 12 : 20;
    b[4] = c[3];
    b[5] = 0x14;
    b[6] = b[7] = c[3] == 1 ? 1 : 0;
    reply(ch, 4u + b[3], get16(c + 7));
}

static void cmd_disc_info(IdeChannel *ch, const u8 *c)
{
    u8 *b = ch->s.buf;

    memset(b, 0, 34);
    put16(b, 32);
    b[2] = 0x0e;                    /* complete, last session complete */
    b[3] = b[4] = b[5] = b[6] = 1;
    b[7] = 0x20;                    /* unrestricted use */
    memset(b + 16, 0xff, 8);
    reply(ch, 34, get16(c + 7));
}

/* The physical format of a DVD; other structures do not exist. */
static void cmd_dvd_structure(IdeChannel *ch, const u8 *c)
{
    u8 *b = ch->s.buf;

    if (blocks(ch) < dvd_blocks || c[7] || c[6]) {
        invalid_field(ch);
        return;
    }
    memset(b, 0, 2052);
    put16(b, 2050);
    b[4] = 1;                       /* DVD-ROM, book version 1 */
    b[5] = 0x0f;                    /* 120 mm, no minimum rate */
    b[6] = 1;
    put32(b + 8, 0x30000);          /* where the data area starts and ends */
    put32(b + 12, 0x30000 + blocks(ch) - 1);
    reply(ch, 2052, get16(c + 8));
}

/* ---- what the drive can do ---- */

static u8 *put_feature(u8 *p, const u8 *c, u16 code, bool current, const u8 *data, u8 len)
{
    u8 which = c[1] & 3;

    if (which == 2 ? code != get16(c + 2) : code < get16(c + 2) || (which == 1 && !current))
        return p;
    put16(p, code);
    p[2] = (u8)((code < 3 ? 2 : 0) | current);      /* persistent, current */
    p[3] = len;
    memcpy(p + 4, data, len);
    return p + 4 + len;
}

static void cmd_configuration(IdeChannel *ch, const u8 *c)
{
    bool medium = has_medium(ch), dvd = medium && blocks(ch) >= dvd_blocks, cd = medium && !dvd;
    const u8 profiles[8] = { 0, 0x10, dvd, 0, 0, 0x08, cd, 0 };
    u8 *b = ch->s.buf, *p = b + 8;

    if ((c[1] & 3) == 3) {
        invalid_field(ch);
        return;
    }
    memset(b, 0, 8);
    put16(b + 6, dvd ? 0x10 : cd ? 0x08 : 0);
    p = put_feature(p, c, 0x0000, true, profiles, 8);
    p = put_feature(p, c, 0x0001, true, (const u8 *)"\0\0\0\x02\0\0\0", 8);      /* core: ATAPI */
    p = put_feature(p, c, 0x0002, true, (const u8 *)"\0\0\0", 4);                /* morphing */
    p = put_feature(p, c, 0x0003, true, (const u8 *)"\x29\0\0", 4);              /* tray, eject, lock */
    p = put_feature(p, c, 0x0010, medium, (const u8 *)"\0\0\x08\0\0\x01\0", 8);  /* random readable */
    p = put_feature(p, c, 0x001e, cd, (const u8 *)"\0\0\0", 4);                  /* CD read */
    p = put_feature(p, c, 0x001f, dvd, (const u8 *)"\0\0\0", 0);                 /* DVD read */
    put32(b, (u32)(p - b) - 4);
    reply(ch, (u32)(p - b), get16(c + 7));
}

static u8 *mode_page(IdeChannel *ch, u8 *p, u8 page)
{
    switch (page) {
    case 0x01:                      /* error recovery */
        memcpy(p, "\x01\x06\x00\x05\0\0\0\0", 8);
        return p + 8;
    case 0x0e:                      /* audio: ports 0 and 1 at full volume */
        memcpy(p, "\x0e\x0e\x04\0\0\0\0\x4b\x01\xff\x02\xff\0\0\0\0", 16);
        return p + 16;
    case 0x2a:                      /* capabilities */
        memset(p, 0, 20);
        p[0] = 0x2a;
        p[1] = 18;
        p[2] = 0x0b;                /* reads CD-R, CD-RW, DVD-ROM */
        p[4] = 0x70;                /* mode 2 forms, multisession */
        p[5] = 0x02;
        p[6] = (u8)(0x29 | (blk_locked(ide_blk(ch)) ? 2 : 0));      /* tray, eject, lock */
        put16(p + 8, 706);          /* kB/s: 4 x */
        put16(p + 12, 512);         /* kB of buffer */
        put16(p + 14, 706);
        return p + 20;
    default:
        return p;
    }
}

static u32 mode_pages(IdeChannel *ch, u8 *to, u8 page)
{
    static const u8 all[] = { 0x01, 0x0e, 0x2a };
    u8 *p = to;

    if (page != 0x3f)
        return (u32)(mode_page(ch, to, page) - to);
    for (unsigned i = 0; i < ARRAY_LEN(all); i++)
        p = mode_page(ch, p, all[i]);
    return (u32)(p - to);
}

static void cmd_mode_sense(IdeChannel *ch, const u8 *c)
{
    bool ten = c[0] == 0x5a;
    u8 *b = ch->s.buf;
    u32 header = ten ? 8 : 4, len = mode_pages(ch, b + header, c[2] & 0x3f);
    u8 medium = ide_drive(ch)->tray_open ? 0x71 : has_medium(ch) ? 0x01 : 0x70;

    if (!len) {
        invalid_field(ch);
        return;
    }
    if (c[2] >> 6 == 3) {           /* saved values: there are none */
        fail(ch, KEY_ILLEGAL, 0x39, 0);
        return;
    }
    memset(b, 0, header);
    len += header;
    if (ten)
        put16(b, len - 2);
    else
        b[0] = (u8)(len - 1);
    b[ten ? 2 : 1] = medium;
    reply(ch, len, ten ? get16(c + 7) : c[4]);
}

/* The parameters are taken and have no effect. */
static void cmd_mode_select(IdeChannel *ch, const u8 *c)
{
    IdeState *s = &ch->s;
    IdeDrive *d = ide_drive(ch);
    u32 n = c[0] == 0x55 ? get16(c + 7) : c[4];

    if (!n || by_dma(ch)) {
        if (n)
            invalid_field(ch);
        else
            complete(ch);
        return;
    }
    s->op = OP_PARAMETERS;
    s->pos = 0;
    s->len = n;
    d->count[0] = 0;                /* data from the host */
    d->mid[0] = (u8)n;
    d->high[0] = (u8)(n >> 8);
    ide_transfer(ch, PHASE_OUT, n, true);
}

static void cmd_no_audio(IdeChannel *ch, const u8 *c)
{
    (void)c;
    fail(ch, KEY_ILLEGAL, ASC_MODE, 0);     /* illegal mode for this track */
}

/* ---- dispatch ---- */

enum { ANY_TIME = 1 /* even with a unit attention to tell */, MEDIUM = 2 };

static const struct {
    u8 code, flags;
    void (*run)(IdeChannel *ch, const u8 *cdb);
} commands[] = {
    { 0x00, MEDIUM,   cmd_ok },             /* TEST UNIT READY */
    { 0x03, ANY_TIME, cmd_request_sense },
    { 0x12, ANY_TIME, cmd_inquiry },
    { 0x15, 0,        cmd_mode_select },
    { 0x1a, 0,        cmd_mode_sense },
    { 0x1b, 0,        cmd_start_stop },
    { 0x1e, 0,        cmd_prevent },
    { 0x25, MEDIUM,   cmd_capacity },
    { 0x28, MEDIUM,   cmd_read10 },
    { 0x2b, MEDIUM,   cmd_seek },
    { 0x42, MEDIUM,   cmd_subchannel },
    { 0x43, MEDIUM,   cmd_toc },
    { 0x45, MEDIUM,   cmd_no_audio },       /* PLAY AUDIO (10), MSF; PAUSE */
    { 0x46, ANY_TIME, cmd_configuration },
    { 0x47, MEDIUM,   cmd_no_audio },
    { 0x4a, ANY_TIME, cmd_event_status },
    { 0x4b, MEDIUM,   cmd_no_audio },
    { 0x4e, MEDIUM,   cmd_ok },             /* STOP PLAY */
    { 0x51, MEDIUM,   cmd_disc_info },
    { 0x55, 0,        cmd_mode_select },
    { 0x5a, 0,        cmd_mode_sense },
    { 0xa8, MEDIUM,   cmd_read12 },
    { 0xad, MEDIUM,   cmd_dvd_structure },
    { 0xb9, MEDIUM,   cmd_read_cd_msf },
    { 0xbb, 0,        cmd_ok },             /* SET CD SPEED */
    { 0xbd, 0,        cmd_mechanism },
    { 0xbe, MEDIUM,   cmd_read_cd },
};

/* A new disc is told in two steps, as a tray that was opened and closed: guests without event polling rely on
 * it. */
static bool medium_usable(IdeChannel *ch)
{
    IdeDrive *d = ide_drive(ch);

    if (d->was_changed || !has_medium(ch)) {
        d->was_changed = 0;
        fail(ch, KEY_NOT_READY, ASC_NO_MEDIUM, d->tray_open ? 2 : 1);
        return false;
    }
    return true;
}

static void run_packet(IdeChannel *ch)
{
    IdeDrive *d = ide_drive(ch);
    const u8 *c = ch->s.cdb;
    size_t i = 0;

    memcpy(ch->s.cdb, ch->s.buf, sizeof(ch->s.cdb));
    while (i < ARRAY_LEN(commands) && commands[i].code != c[0])
        i++;
    if (i == ARRAY_LEN(commands)) {
        fail(ch, KEY_ILLEGAL, ASC_INVALID_OPCODE, 0);
        return;
    }
    if (c[0] != 0x03)
        d->sense_key = d->asc = d->ascq = 0;
    if (!(commands[i].flags & ANY_TIME) && d->attention &&
        !(d->was_changed && (commands[i].flags & MEDIUM))) {
        u8 asc = d->attention;

        d->attention = 0;
        fail(ch, KEY_ATTENTION, asc, 0);
        return;
    }
    if ((commands[i].flags & MEDIUM) && !medium_usable(ch))
        return;
    commands[i].run(ch, c);
}

void atapi_block_ended(IdeChannel *ch)
{
    IdeState *s = &ch->s;

    switch (s->op) {
    case OP_CDB:
        ide_drive(ch)->status = ST_BSY;
        s->phase = PHASE_IDLE;
        run_packet(ch);
        break;
    case OP_REPLY:
    case OP_CD_READ:
        if (s->pos < s->len)
            present(ch);
        else if (s->op == OP_CD_READ && s->left)
            read_more(ch);
        else
            complete(ch);
        break;
    case OP_PARAMETERS:
        complete(ch);
        break;
    default:                        /* IDENTIFY PACKET DEVICE: data in of the ATA kind */
        s->phase = PHASE_IDLE;
        s->op = OP_NONE;
        ide_drive(ch)->status = ready;
        break;
    }
}

void atapi_dma(IdeChannel *ch)
{
    if (ch->s.op == OP_REPLY_DMA)
        reply_by_dma(ch);
    else
        dma_more(ch);
}

static void identify_packet(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    u8 *w = s->buf;

    memset(w, 0, 512);
    store16(w, 0x85c0);             /* ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets */
    ide_put_text(w, 10, 10, s->select ? "QWCD1" : "QWCD0");
    ide_put_text(w, 23, 4, "1.0");
    ide_put_text(w, 27, 20, "QEMU-WIN CD-ROM");
    store16(w + 2 * 82, 0x4210);    /* NOP, DEVICE RESET, PACKET */
    store16(w + 2 * 83, 0x4000);
    store16(w + 2 * 84, 0x4000);
    store16(w + 2 * 85, 0x4210);
    store16(w + 2 * 87, 0x4000);
    ide_identify_modes(ch, w);
    s->op = OP_BUFFER_IN;
    s->pos = 0;
    s->len = 512;
    ide_transfer(ch, PHASE_IN, 512, true);
}

static void start_packet(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    IdeDrive *d = ide_drive(ch);

    s->limit = d->mid[0] | (u32)d->high[0] << 8;
    if (!s->limit || s->limit > 0xfffe)
        s->limit = 0xfffe;
    if (s->limit < 2)
        s->limit = 2;
    s->op = OP_CDB;
    s->pos = 0;
    s->len = sizeof(s->cdb);
    d->count[0] = 1;                /* C/D: the packet, from the host */
    ide_transfer(ch, PHASE_OUT, sizeof(s->cdb), false);
}

void atapi_command(IdeChannel *ch, u8 command)
{
    IdeDrive *d = ide_drive(ch);

    switch (command) {
    case 0xa0:
        start_packet(ch);
        break;
    case 0xa1:
        identify_packet(ch);
        break;
    case 0x08:                      /* DEVICE RESET: no interrupt */
        ide_signature(ch, ch->s.select);
        d->device = ch->s.select ? DEV_SELECT : 0;
        break;
    case 0xec: case 0x20: case 0x21: case 0x24:
        ide_signature(ch, ch->s.select);
        ide_end(ch, ready | ST_ERR, ER_ABRT);
        break;
    case 0x90: case 0xef: case 0xe0: case 0xe1: case 0xe2: case 0xe3: case 0xe5: case 0xe6:
        ata_command(ch, command);
        break;
    default:
        ide_end(ch, ready | ST_ERR, ER_ABRT);
        break;
    }
}
