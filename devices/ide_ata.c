/*
 * ATA disk commands: ATA/ATAPI-6 chapter 8. PIO and DMA, CHS, LBA28 and LBA48.
 *
 * PIO reads and writes go through the channel's buffer of 128 sectors, of which the guest takes a DRQ block
 * at a time; DMA goes in chunks of 1 MiB. If the bus master stops short the command waits at (lba, left,
 * skip) and its rest is read again, or gathered on, when it is started anew: no data waits outside the saved
 * state.
 */
#include "ide_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/machine.h"

enum { SECTOR = 512, MULTIPLE_MAX = 16, MAX_LBA28 = 0x0fffffff };

#define WRITE_DELAY_NS 300000u

static const u8 ready = ST_DRDY | ST_DSC;

static void read_more(IdeChannel *ch);
static void dma_more(IdeChannel *ch);
static void verify_more(IdeChannel *ch);

static u64 disk_sectors(IdeChannel *ch) { return blk_bytes(ide_blk(ch)) / SECTOR; }

static void done(IdeChannel *ch) { ide_end(ch, ready, 0); }
static void refuse(IdeChannel *ch, u8 error) { ide_end(ch, ready | ST_ERR, error); }

/* ---- geometry ---- */

static bool by_partition_table(Blk *blk, u64 sectors, IdeGeometry *g)
{
    u8 mbr[SECTOR];

    if (!blk_read_now(blk, 0, mbr, sizeof(mbr)) || load16(mbr + 510) != 0xaa55)
        return false;
    for (unsigned i = 0; i < 4; i++) {
        const u8 *p = mbr + 446 + 16 * i;
        u32 heads = p[5] + 1u, spt = p[6] & 63;
        u64 cylinders = spt ? sectors / (heads * spt) : 0;

        if (!load32(p + 12) || !spt || !cylinders || heads < 2)
            continue;
        if (heads > 16 || cylinders > 16383) {
            g->translation = heads > 16;
            return heads > 16;
        }
        *g = (IdeGeometry){ (u16)cylinders, (u8)heads, (u8)spt, 0 };
        return true;
    }
    return false;
}

IdeGeometry ide_geometry(Blk *blk)
{
    u64 sectors = blk_bytes(blk) / SECTOR, cylinders = sectors / (16 * 63);
    IdeGeometry g = { (u16)(cylinders > 16383 ? 16383 : cylinders ? cylinders : 1), 16, 63,
                      cylinders > 1024 };

    if (!blk_is_cdrom(blk) && sectors)
        by_partition_table(blk, sectors, &g);
    return g;
}

/* ---- IDENTIFY DEVICE ---- */

static void put(u8 *words, unsigned n, u32 value) { store16(words + 2 * n, (u16)value); }

void ide_put_text(u8 *words, unsigned first, unsigned count, const char *text)
{
    for (unsigned i = 0; i < 2 * count; i++)
        words[2 * first + (i ^ 1)] = (u8)(*text ? *text++ : ' ');
}

/* Words 49, 51-53, 63-68, 80, 88, 93 and the checksum: the same for disks and CD-ROMs. */
void ide_identify_modes(IdeChannel *ch, u8 *w)
{
    const IdeDrive *d = ide_drive(ch);
    u32 multiword = d->dma_mode >> 5 == 1 ? 0x100u << (d->dma_mode & 7) : 0;
    u32 ultra = d->dma_mode >> 6 == 1 ? 0x100u << (d->dma_mode & 7) : 0;
    u8 sum = 0xa5;

    put(w, 49, ch->bm ? 0x0b00 : 0x0a00);       /* IORDY, LBA, DMA */
    put(w, 51, 0x200);
    put(w, 52, 0x200);
    put(w, 53, 7);                              /* words 54-58, 64-70, 88 are valid */
    if (ch->bm) {
        put(w, 63, 0x07 | multiword);
        put(w, 88, 0x3f | ultra);
    }
    put(w, 64, 3);                              /* PIO 3 and 4 */
    for (unsigned n = 65; n <= 68; n++)
        put(w, n, 120);                         /* ns a cycle */
    put(w, 80, 0x7e);                           /* ATA-1 to ATA/ATAPI-6 */
    put(w, 93, ch->s.select ? 0x6b00 : 0x600b); /* 80-wire cable, jumpered */
    put(w, 255, 0xa5);
    for (unsigned i = 0; i < 510; i++)
        sum = (u8)(sum + w[i]);
    w[511] = (u8)-sum;
}

static void identify(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    const IdeDrive *d = ide_drive(ch);
    const IdeGeometry *g = &ch->geometry[s->select];
    u64 total = disk_sectors(ch);
    u32 lba28 = total > MAX_LBA28 ? MAX_LBA28 : (u32)total, chs, cylinders;
    u8 *w = s->buf;
    char serial[24];

    memset(w, 0, SECTOR);
    cylinders = (u32)(total / ((u32)d->heads * d->sectors));
    if (cylinders > 16383)
        cylinders = d->heads == g->heads && d->sectors == g->sectors ? g->cylinders : 16383;
    chs = cylinders * d->heads * d->sectors;
    put(w, 0, 0x0040);                          /* fixed disk */
    put(w, 1, g->cylinders);
    put(w, 3, g->heads);
    put(w, 4, 512u * g->sectors);
    put(w, 5, 512);
    put(w, 6, g->sectors);
    snprintf(serial, sizeof(serial), "QW%08x%u", (unsigned)(ch->cmd * 0x10001u), s->select);
    ide_put_text(w, 10, 10, serial);
    put(w, 20, 3);
    put(w, 21, 512);                            /* buffer: 256 KiB */
    put(w, 22, 4);
    ide_put_text(w, 23, 4, "1.0");
    ide_put_text(w, 27, 20, "QEMU-WIN HARDDISK");
    put(w, 47, 0x8000 | MULTIPLE_MAX);
    put(w, 48, 1);
    put(w, 54, cylinders);
    put(w, 55, d->heads);
    put(w, 56, d->sectors);
    store32(w + 2 * 57, chs);
    put(w, 59, d->multiple ? 0x100u | d->multiple : 0);
    store32(w + 2 * 60, lba28);
    put(w, 82, 0x7068);                         /* NOP, buffers, look-ahead, write cache, power management */
    put(w, 83, 0x7400);                         /* FLUSH CACHE (EXT), LBA48 */
    put(w, 84, 0x4000);
    put(w, 85, 0x7008 | (d->no_look_ahead ? 0 : 0x40) | (d->no_write_cache ? 0 : 0x20));
    put(w, 86, 0x3400);
    put(w, 87, 0x4000);
    store64(w + 2 * 100, total);
    ide_identify_modes(ch, w);
    s->op = OP_BUFFER_IN;
    s->pos = 0;
    s->len = SECTOR;
    ide_transfer(ch, PHASE_IN, SECTOR, true);
}

/* ---- addresses ---- */

/* Takes lba and left from the registers. False: the command was refused. */
static bool take_address(IdeChannel *ch, bool ext)
{
    IdeState *s = &ch->s;
    const IdeDrive *d = ide_drive(ch);
    u64 total = disk_sectors(ch);

    if (ext) {
        s->lba = d->low[0] | (u64)d->mid[0] << 8 | (u64)d->high[0] << 16 | (u64)d->low[1] << 24 |
                 (u64)d->mid[1] << 32 | (u64)d->high[1] << 40;
        s->left = d->count[0] | (u32)d->count[1] << 8;
        s->left = s->left ? s->left : 65536;
    } else {
        u32 cylinder = d->mid[0] | (u32)d->high[0] << 8, head = d->device & 15;

        s->left = d->count[0] ? d->count[0] : 256;
        if (d->device & DEV_LBA) {
            s->lba = d->low[0] | (u64)cylinder << 8 | (u64)head << 24;
        } else if (!d->low[0] || d->low[0] > d->sectors || head >= d->heads) {
            refuse(ch, ER_IDNF);
            return false;
        } else {
            s->lba = ((u64)cylinder * d->heads + head) * d->sectors + d->low[0] - 1;
        }
    }
    if (s->lba >= total || s->left > total - s->lba) {
        refuse(ch, ER_IDNF);
        return false;
    }
    return true;
}

/* The registers tell a sector: the one that failed, or the last one. */
static void tell_address(IdeChannel *ch, u64 lba)
{
    IdeDrive *d = ide_drive(ch);
    u32 track;

    if (d->device & DEV_LBA) {
        d->low[0] = (u8)lba;
        d->mid[0] = (u8)(lba >> 8);
        d->high[0] = (u8)(lba >> 16);
        d->low[1] = (u8)(lba >> 24);
        d->mid[1] = (u8)(lba >> 32);
        d->high[1] = (u8)(lba >> 40);
        if (lba <= MAX_LBA28)
            d->device = (u8)((d->device & 0xf0) | (lba >> 24 & 15));
        return;
    }
    d->low[0] = (u8)(lba % d->sectors + 1);
    track = (u32)(lba / d->sectors);
    d->device = (u8)((d->device & 0xf0) | track % d->heads);
    d->mid[0] = (u8)(track / d->heads);
    d->high[0] = (u8)(track / d->heads >> 8);
}

static void went_on(IdeChannel *ch, u32 sectors)
{
    ch->s.lba += sectors;
    ch->s.left -= sectors;
    if (!ch->s.left) {
        ide_drive(ch)->count[0] = 0;
        tell_address(ch, ch->s.lba - 1);
    }
}

void ata_io_failed(IdeChannel *ch, const BlkReq *req)
{
    if (ch->s.op == OP_FLUSH) {
        ide_end(ch, ready | ST_DF | ST_ERR, ER_ABRT);
        return;
    }
    tell_address(ch, ch->s.lba);
    ide_drive(ch)->count[0] = (u8)ch->s.left;
    ide_end(ch, ready | ST_ERR, req->op == BLK_READ ? ER_UNC : ER_ABRT);
}

/* ---- PIO ---- */

static u32 drq_bytes(const IdeState *s)
{
    u32 block = (u32)s->block * SECTOR, rest = s->len - s->pos;

    return rest < block ? rest : block;
}

static void read_done(IdeChannel *ch, IdeIo *io)
{
    IdeState *s = &ch->s;

    memcpy(s->buf, io->data, io->req.bytes);
    s->pos = 0;
    s->len = io->req.bytes;
    ide_transfer(ch, PHASE_IN, drq_bytes(s), true);
}

static void read_more(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    u32 most = IDE_BUF / SECTOR, n = s->left < most ? s->left : most;

    ide_submit(ch, ide_new_io(ch, BLK_READ, s->lba * SECTOR, n * SECTOR, read_done));
}

/* Asks the guest for the next DRQ block: of the buffer under way, or the first of the next buffer full. */
static void write_present(IdeChannel *ch, bool interrupt)
{
    IdeState *s = &ch->s;

    if (s->pos == s->len) {
        s->pos = 0;
        s->len = s->left < IDE_BUF / SECTOR ? s->left * SECTOR : IDE_BUF;
    }
    ide_transfer(ch, PHASE_OUT, drq_bytes(s), interrupt);
}

void ata_write_on(IdeChannel *ch)
{
    if (ch->s.left)
        write_present(ch, true);
    else
        done(ch);
}

/* With -win2k-hack the interrupt takes its time: the installer of Windows 2000 loses writes that are
 * acknowledged at once. */
static void write_soon(IdeChannel *ch)
{
    if (!ch->dev.m->cfg.win2k_hack) {
        ata_write_on(ch);
        return;
    }
    ch->s.phase = PHASE_DELAY;
    ide_drive(ch)->status = ST_BSY;
    timer_arm(&ch->delay, clock_ns(ch->dev.m, CLOCK_VIRTUAL) + WRITE_DELAY_NS);
}

static void write_done(IdeChannel *ch, IdeIo *io)
{
    went_on(ch, io->req.bytes / SECTOR);
    write_soon(ch);
}

void ata_block_ended(IdeChannel *ch)
{
    IdeState *s = &ch->s;

    switch (s->op) {
    case OP_READ:
        if (s->pos < s->len) {
            ide_transfer(ch, PHASE_IN, drq_bytes(s), true);
            return;
        }
        went_on(ch, s->len / SECTOR);
        if (s->left) {
            read_more(ch);
            return;
        }
        break;
    case OP_WRITE:
        if (s->pos < s->len) {
            write_soon(ch);
        } else {
            IdeIo *io = ide_new_io(ch, BLK_WRITE, s->lba * SECTOR, s->len, write_done);

            memcpy(io->data, s->buf, s->len);
            ide_submit(ch, io);
        }
        return;
    case OP_BUFFER_OUT:
        done(ch);
        return;
    default:
        break;
    }
    s->phase = PHASE_IDLE;          /* data in ends without another interrupt */
    s->op = OP_NONE;
    ide_drive(ch)->status = ready;
}

static void start_pio(IdeChannel *ch, u8 op, bool ext, unsigned block)
{
    if (!block) {
        refuse(ch, ER_ABRT);        /* MULTIPLE without SET MULTIPLE */
        return;
    }
    if (!take_address(ch, ext))
        return;
    ch->s.op = op;
    ch->s.block = (u8)block;
    if (op == OP_READ)
        read_more(ch);
    else
        write_present(ch, false);
}

/* ---- DMA ---- */

static void wait_for_bus_master(IdeChannel *ch)
{
    ch->s.phase = PHASE_DMA;
    ide_drive(ch)->status = ST_BSY;
}

/* bytes, counted from the start of the sector at lba, have gone their way; the rest of it waits in skip. */
static void dma_moved(IdeChannel *ch, u32 bytes)
{
    IdeState *s = &ch->s;

    s->skip = bytes % SECTOR;
    went_on(ch, bytes / SECTOR);
    if (s->left)
        dma_more(ch);
    else
        done(ch);
}

static void dma_read_done(IdeChannel *ch, IdeIo *io)
{
    IdeState *s = &ch->s;
    u32 want = io->req.bytes - s->skip, moved = 0;

    if (ide_bm_ready(ch->bm))
        moved = ide_bm_move(ch->bm, io->data + s->skip, want, true);
    dma_moved(ch, s->skip + moved);
}

static void dma_write_done(IdeChannel *ch, IdeIo *io)
{
    dma_moved(ch, io->req.bytes + ch->s.skip);
}

static void dma_write_more(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    u32 most = IDE_DMA_CHUNK / SECTOR, bytes = (s->left < most ? s->left : most) * SECTOR, got;
    IdeIo *io = ide_new_io(ch, BLK_WRITE, s->lba * SECTOR, bytes, dma_write_done);

    memcpy(io->data, s->buf, s->skip);
    got = s->skip + ide_bm_move(ch->bm, io->data + s->skip, bytes - s->skip, false);
    s->skip = got % SECTOR;
    memcpy(s->buf, io->data + (got - s->skip), s->skip);
    io->req.bytes = got - s->skip;
    if (io->req.bytes) {
        ide_submit(ch, io);
    } else {
        free(io);
        wait_for_bus_master(ch);
    }
}

static void dma_more(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    u32 most = IDE_DMA_CHUNK / SECTOR, n = s->left < most ? s->left : most;

    if (!ide_bm_ready(ch->bm))
        wait_for_bus_master(ch);
    else if (s->op == OP_WRITE_DMA)
        dma_write_more(ch);
    else
        ide_submit(ch, ide_new_io(ch, BLK_READ, s->lba * SECTOR, n * SECTOR, dma_read_done));
}

void ata_dma(IdeChannel *ch)
{
    dma_more(ch);
}

static void start_dma(IdeChannel *ch, u8 op, bool ext)
{
    if (!ch->bm) {
        refuse(ch, ER_ABRT);
        return;
    }
    if (!take_address(ch, ext))
        return;
    ch->s.op = op;
    dma_more(ch);
}

/* ---- commands without data ---- */

static void verify_done(IdeChannel *ch, IdeIo *io)
{
    went_on(ch, io->req.bytes / SECTOR);
    if (ch->s.left)
        verify_more(ch);
    else
        done(ch);
}

static void verify_more(IdeChannel *ch)
{
    IdeState *s = &ch->s;
    u32 most = IDE_DMA_CHUNK / SECTOR, n = s->left < most ? s->left : most;

    ide_submit(ch, ide_new_io(ch, BLK_READ, s->lba * SECTOR, n * SECTOR, verify_done));
}

static void start_verify(IdeChannel *ch, bool ext)
{
    if (!take_address(ch, ext))
        return;
    ch->s.op = OP_VERIFY;
    verify_more(ch);
}

static void flush_done(IdeChannel *ch, IdeIo *io)
{
    (void)io;
    done(ch);
}

static void set_multiple(IdeChannel *ch)
{
    IdeDrive *d = ide_drive(ch);
    u8 n = d->count[0];

    if (n > MULTIPLE_MAX || (n & (n - 1))) {
        refuse(ch, ER_ABRT);
        return;
    }
    d->multiple = n;
    done(ch);
}

static bool set_transfer_mode(IdeDrive *d, u8 mode)
{
    if (mode <= 1)
        d->pio_mode = 0x08;
    else if (mode >= 0x08 && mode <= 0x0c)
        d->pio_mode = mode;
    else if ((mode >= 0x20 && mode <= 0x22) || (mode >= 0x40 && mode <= 0x45))
        d->dma_mode = mode;
    else
        return false;
    return true;
}

static void set_features(IdeChannel *ch)
{
    IdeDrive *d = ide_drive(ch);

    switch (d->feature[0]) {
    case 0x02: d->no_write_cache = 0; break;
    case 0x82: d->no_write_cache = 1; break;
    case 0xaa: d->no_look_ahead = 0; break;
    case 0x55: d->no_look_ahead = 1; break;
    case 0x03:
        if (set_transfer_mode(d, d->count[0]))
            break;
        refuse(ch, ER_ABRT);
        return;
    case 0x66: case 0xcc:           /* what a soft reset keeps */
    case 0x05: case 0x85:           /* advanced power management */
    case 0x42: case 0xc2:           /* acoustic management */
        break;
    default:
        refuse(ch, ER_ABRT);
        return;
    }
    done(ch);
}

static void initialize_parameters(IdeChannel *ch)
{
    IdeDrive *d = ide_drive(ch);

    if (!d->count[0]) {
        refuse(ch, ER_ABRT);
        return;
    }
    d->heads = (u8)((d->device & 15) + 1);
    d->sectors = d->count[0];
    done(ch);
}

static void native_max(IdeChannel *ch, bool ext)
{
    IdeDrive *d = ide_drive(ch);
    u64 last = disk_sectors(ch) ? disk_sectors(ch) - 1 : 0;

    if (!ext && last > MAX_LBA28)
        last = MAX_LBA28;
    d->device |= DEV_LBA;
    tell_address(ch, last);
    done(ch);
}

static void diagnose(IdeChannel *ch)
{
    for (unsigned n = 0; n < 2; n++)
        ide_signature(ch, n);
    ch->s.select = 0;
    if (ch->blk[0] && blk_is_cdrom(ch->blk[0]))
        ide_raise(ch);
    else
        ide_end(ch, ready, 1);
}

static void buffer_command(IdeChannel *ch, bool in)
{
    ch->s.op = in ? OP_BUFFER_IN : OP_BUFFER_OUT;
    ch->s.pos = 0;
    ch->s.len = SECTOR;
    ide_transfer(ch, in ? PHASE_IN : PHASE_OUT, SECTOR, in);
}

void ata_command(IdeChannel *ch, u8 command)
{
    IdeDrive *d = ide_drive(ch);

    switch (command) {
    case 0x20: case 0x21: start_pio(ch, OP_READ, false, 1); break;
    case 0x24:            start_pio(ch, OP_READ, true, 1); break;
    case 0xc4:            start_pio(ch, OP_READ, false, d->multiple); break;
    case 0x29:            start_pio(ch, OP_READ, true, d->multiple); break;
    case 0x30: case 0x31: case 0x3c: start_pio(ch, OP_WRITE, false, 1); break;
    case 0x34:            start_pio(ch, OP_WRITE, true, 1); break;
    case 0xc5:            start_pio(ch, OP_WRITE, false, d->multiple); break;
    case 0x39:            start_pio(ch, OP_WRITE, true, d->multiple); break;
    case 0xc8: case 0xc9: start_dma(ch, OP_READ_DMA, false); break;
    case 0x25:            start_dma(ch, OP_READ_DMA, true); break;
    case 0xca: case 0xcb: start_dma(ch, OP_WRITE_DMA, false); break;
    case 0x35:            start_dma(ch, OP_WRITE_DMA, true); break;
    case 0x40: case 0x41: start_verify(ch, false); break;
    case 0x42:            start_verify(ch, true); break;
    case 0xe7: case 0xea:
        ch->s.op = OP_FLUSH;
        ide_submit(ch, ide_new_io(ch, BLK_FLUSH, 0, 0, flush_done));
        break;
    case 0xec: identify(ch); break;
    case 0xef: set_features(ch); break;
    case 0xc6: set_multiple(ch); break;
    case 0x91: initialize_parameters(ch); break;
    case 0x90: diagnose(ch); break;
    case 0xf8: native_max(ch, false); break;
    case 0x27: native_max(ch, true); break;
    case 0xe4: buffer_command(ch, true); break;
    case 0xe8: buffer_command(ch, false); break;
    case 0xe5: case 0x98: d->count[0] = 0xff; done(ch); break;              /* CHECK POWER MODE: active */
    case 0xe0: case 0xe1: case 0xe2: case 0xe3: case 0xe6:                  /* STANDBY, IDLE, SLEEP */
    case 0x94: case 0x95: case 0x96: case 0x97: case 0x99:
        done(ch);
        break;
    default:
        if (command >= 0x10 && command <= 0x1f)                             /* RECALIBRATE */
            done(ch);
        else if (command >= 0x70 && command <= 0x7f) {                      /* SEEK */
            d->count[0] = 1;
            if (take_address(ch, false))
                done(ch);
        } else {
            refuse(ch, ER_ABRT);
        }
        break;
    }
}

void ata_reset_drive(IdeChannel *ch, unsigned drive)
{
    ch->s.d[drive].multiple = MULTIPLE_MAX;
}
