/*
 * An IDE channel with two drives: task file, data register, reset, interrupt. What a command means is in
 * ide_ata.c and ide_atapi.c. Source: ATA/ATAPI-6 chapters 7 (registers) and 9 (protocols).
 *
 *      cmd+0 data  +1 error/features  +2 count  +3 LBA low  +4 LBA mid  +5 LBA high  +6 device
 *      cmd+7 status/command
 *      ctl+0 alternate status / device control (HOB, SRST, nIEN)
 *
 * Requests are asynchronous: while one is under way the channel is busy and the guest goes on. A reset ends
 * the command at once; the channel stays busy until the request that was under way is gone, so that nothing
 * written later can be overtaken.
 *
 * Not modelled: overlap and queueing, 8-bit transfers of CFA, security, S.M.A.R.T., host protected area. A
 * drive that isn't there reads as zeros, a channel without any too.
 */
#include "ide_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

void *ide_alloc(size_t bytes)
{
    void *p = malloc(bytes);

    if (!p) {
        fprintf(stderr, "qemu: out of memory\n");
        abort();
    }
    return p;
}

static bool is_cd(const IdeChannel *ch, unsigned drive)
{
    return ch->blk[drive] && blk_is_cdrom(ch->blk[drive]);
}

/* ---- interrupt ---- */

static void update_line(IdeChannel *ch)
{
    bool line = ch->s.irq && !(ch->s.ctl & CTL_NIEN);

    if (line && !ch->line && ch->bm)
        ide_bm_interrupt(ch->bm);
    ch->line = line;
    irq_set(ch->irq, line);
}

void ide_raise(IdeChannel *ch)
{
    ch->s.irq = 1;
    update_line(ch);
}

static void lower(IdeChannel *ch)
{
    ch->s.irq = 0;
    update_line(ch);
}

/* ---- the course of a command ---- */

void ide_end(IdeChannel *ch, u8 status, u8 error)
{
    IdeState *s = &ch->s;

    s->phase = PHASE_IDLE;
    s->op = OP_NONE;
    s->skip = 0;
    ide_drive(ch)->status = status;
    ide_drive(ch)->error = error;
    ide_raise(ch);
}

void ide_transfer(IdeChannel *ch, u8 phase, u32 bytes, bool interrupt)
{
    IdeState *s = &ch->s;

    s->phase = phase;
    s->end = s->pos + bytes;
    ide_drive(ch)->status = ST_DRDY | ST_DSC | ST_DRQ;
    if (interrupt)
        ide_raise(ch);
}

static void io_done(BlkReq *req)
{
    IdeIo *io = req->opaque;
    IdeChannel *ch = io->ch;

    if (io->dead) {
        ch->orphans--;
    } else {
        ch->io = NULL;
        if (req->result == BLK_OK)
            io->then(ch, io);
        else if (is_cd(ch, ch->s.select))
            atapi_io_failed(ch, req);
        else
            ata_io_failed(ch, req);
    }
    free(io);
}

IdeIo *ide_new_io(IdeChannel *ch, BlkOp op, u64 offset, u32 bytes, void (*then)(IdeChannel *ch, IdeIo *io))
{
    IdeIo *io = ide_alloc(sizeof(*io) + bytes);

    *io = (IdeIo){ .ch = ch, .then = then };
    io->req = (BlkReq){ .op = op, .offset = offset, .bytes = bytes, .buf = io->data, .done = io_done,
                        .opaque = io };
    return io;
}

void ide_submit(IdeChannel *ch, IdeIo *io)
{
    ch->s.phase = PHASE_IO;
    ide_drive(ch)->status = ST_BSY;
    ch->io = io;
    blk_submit(ide_blk(ch), &io->req);
}

static void delay_fired(void *opaque)
{
    IdeChannel *ch = opaque;

    if (ch->s.phase == PHASE_DELAY)
        ata_write_on(ch);
}

static void abandon(IdeChannel *ch)
{
    timer_cancel(&ch->delay);
    if (!ch->io)
        return;
    ch->io->dead = true;
    ch->io = NULL;
    ch->orphans++;
}

static void block_ended(IdeChannel *ch)
{
    if (is_cd(ch, ch->s.select))
        atapi_block_ended(ch);
    else
        ata_block_ended(ch);
}

void ide_go_on(IdeChannel *ch)
{
    if (ch->s.phase != PHASE_DMA)
        return;
    if (is_cd(ch, ch->s.select))
        atapi_dma(ch);
    else
        ata_dma(ch);
}

/* ---- reset ---- */

/* What a drive leaves in its registers after reset and diagnostics: who it is. */
void ide_signature(IdeChannel *ch, unsigned drive)
{
    IdeDrive *d = &ch->s.d[drive];

    memset(d->count, 0, sizeof(d->count));
    memset(d->low, 0, sizeof(d->low));
    d->count[0] = d->low[0] = 1;
    d->mid[0] = is_cd(ch, drive) ? 0x14 : 0;
    d->high[0] = is_cd(ch, drive) ? 0xeb : 0;
    d->mid[1] = d->high[1] = 0;
    d->device = 0;
    d->error = 1;                   /* diagnostics passed */
    d->status = is_cd(ch, drive) ? 0 : ST_DRDY | ST_DSC;
}

static void soft_reset(IdeChannel *ch)
{
    IdeState *s = &ch->s;

    abandon(ch);
    s->phase = PHASE_IDLE;
    s->op = OP_NONE;
    s->select = 0;
    s->pos = s->end = s->len = s->skip = s->left = 0;
    for (unsigned n = 0; n < 2; n++) {
        ide_signature(ch, n);
        if (is_cd(ch, n))
            atapi_reset_drive(ch, n);
        else
            ata_reset_drive(ch, n);
    }
    lower(ch);
}

/* ---- registers ---- */

static bool selected(const IdeChannel *ch)
{
    return ch->blk[ch->s.select] != NULL;
}

static u8 status(const IdeChannel *ch)
{
    if (!selected(ch))
        return 0;
    if (ch->orphans || (ch->s.ctl & CTL_SRST))
        return ST_BSY;
    return ch->s.d[ch->s.select].status;
}

static u32 data_read(IdeChannel *ch, unsigned size)
{
    IdeState *s = &ch->s;
    u32 value = 0, n = s->end - s->pos;

    if (s->phase != PHASE_IN)
        return 0;
    if (n > size)
        n = size;
    memcpy(&value, s->buf + s->pos, n);
    s->pos += n;
    if (s->pos == s->end)
        block_ended(ch);
    return value;
}

static void data_write(IdeChannel *ch, u32 value, unsigned size)
{
    IdeState *s = &ch->s;
    u32 n = s->end - s->pos;

    if (s->phase != PHASE_OUT)
        return;
    if (n > size)
        n = size;
    memcpy(s->buf + s->pos, &value, n);
    s->pos += n;
    if (s->pos == s->end)
        block_ended(ch);
}

static u8 register_read(IdeChannel *ch, unsigned reg)
{
    IdeDrive *d = ide_drive(ch);
    unsigned before = ch->s.ctl & CTL_HOB ? 1 : 0;
    u8 now;

    if (!selected(ch))
        return 0;
    switch (reg) {
    case 1: return before ? d->feature[1] : d->error;
    case 2: return d->count[before];
    case 3: return d->low[before];
    case 4: return d->mid[before];
    case 5: return d->high[before];
    case 6: return (u8)(0xa0 | (d->device & ~DEV_SELECT) | (ch->s.select ? DEV_SELECT : 0));
    default:
        now = status(ch);
        lower(ch);
        return now;
    }
}

static void push(u8 *reg, u8 value)
{
    reg[1] = reg[0];
    reg[0] = value;
}

static void command(IdeChannel *ch, u8 value)
{
    IdeState *s = &ch->s;
    u8 now = status(ch);
    bool cd = is_cd(ch, s->select);

    if (!selected(ch) || ((now & (ST_BSY | ST_DRQ)) && !(cd && value == 0x08)))
        return;
    if (s->ctl & CTL_SRST)
        return;
    abandon(ch);                    /* DEVICE RESET may come at any time */
    lower(ch);
    s->phase = PHASE_IDLE;
    s->op = OP_NONE;
    s->pos = s->end = s->len = s->skip = s->left = 0;
    ide_drive(ch)->error = 0;
    if (cd)
        atapi_command(ch, value);
    else
        ata_command(ch, value);
}

static void register_write(IdeChannel *ch, unsigned reg, u8 value)
{
    IdeState *s = &ch->s;

    s->ctl &= (u8)~CTL_HOB;
    if (reg == 7) {
        command(ch, value);
        return;
    }
    if (s->phase != PHASE_IDLE || ch->orphans)
        return;                     /* a busy drive does not listen */
    for (unsigned n = 0; n < 2; n++) {
        IdeDrive *d = &s->d[n];

        switch (reg) {
        case 1: push(d->feature, value); break;
        case 2: push(d->count, value); break;
        case 3: push(d->low, value); break;
        case 4: push(d->mid, value); break;
        case 5: push(d->high, value); break;
        case 6: d->device = value; break;
        default: break;
        }
    }
    if (reg == 6)
        s->select = value & DEV_SELECT ? 1 : 0;
}

static u32 cmd_read(void *opaque, u32 port, unsigned size)
{
    IdeChannel *ch = opaque;
    unsigned reg = port - ch->cmd;
    u32 value = 0;

    if (!reg)
        return data_read(ch, size);
    for (unsigned i = 0; i < size; i++)
        value |= (u32)register_read(ch, reg + i) << (8 * i);
    return value;
}

static void cmd_write(void *opaque, u32 port, u32 value, unsigned size)
{
    IdeChannel *ch = opaque;
    unsigned reg = port - ch->cmd;

    if (!reg) {
        data_write(ch, value, size);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        register_write(ch, reg + i, (u8)(value >> (8 * i)));
}

static u32 ctl_read(void *opaque, u32 port, unsigned size)
{
    (void)port;
    (void)size;
    return status(opaque);
}

static void ctl_write(void *opaque, u32 port, u32 value, unsigned size)
{
    IdeChannel *ch = opaque;
    u8 old = ch->s.ctl;

    (void)port;
    (void)size;
    ch->s.ctl = (u8)value;
    if ((value & CTL_SRST) && !(old & CTL_SRST))
        soft_reset(ch);
    update_line(ch);
}

static const PortOps cmd_ports = { .read = cmd_read, .write = cmd_write, .sizes = 1 | 2 | 4 };
static const PortOps ctl_ports = { .read = ctl_read, .write = ctl_write, .sizes = 1 };

void ide_channel_decode(IdeChannel *ch, bool on)
{
    if (on == (ch->cmd_map != 0))
        return;
    if (on) {
        ch->cmd_map = port_map(ch->dev.m, "ide", ch->cmd, 8, &cmd_ports, ch);
        ch->ctl_map = port_map(ch->dev.m, "ide", ch->ctl, 1, &ctl_ports, ch);
        return;
    }
    port_unmap(ch->dev.m, ch->cmd_map);
    port_unmap(ch->dev.m, ch->ctl_map);
    ch->cmd_map = ch->ctl_map = 0;
}

/* ---- the device ---- */

static const SaveField ide_fields[] = {
    IDE_DRIVE_SAVE(d[0]), IDE_DRIVE_SAVE(d[1]), SAVE(IdeState, lba), SAVE(IdeState, left),
    SAVE(IdeState, skip), SAVE(IdeState, pos), SAVE(IdeState, end), SAVE(IdeState, len),
    SAVE(IdeState, limit), SAVE(IdeState, cd_block), SAVE(IdeState, select), SAVE(IdeState, ctl),
    SAVE(IdeState, irq), SAVE(IdeState, phase), SAVE(IdeState, op), SAVE(IdeState, block),
    SAVE(IdeState, cdb), SAVE(IdeState, pad), SAVE(IdeState, buf), SAVE_END
};

static void ide_reset(Device *dev)
{
    IdeChannel *ch = (IdeChannel *)dev;

    for (unsigned n = 0; n < 2; n++) {
        IdeDrive *d = &ch->s.d[n];

        d->heads = ch->geometry[n].heads;
        d->sectors = ch->geometry[n].sectors;
        d->multiple = 16;
        d->pio_mode = 0x0c;
        d->dma_mode = 0x22;
        if (ch->blk[n])
            blk_set_locked(ch->blk[n], false);
    }
    soft_reset(ch);
}

/* The transfer that was saved is one that the drive's commands can go on with. */
static bool work_fits(const IdeChannel *ch)
{
    const IdeState *s = &ch->s;
    bool cd_op = s->op == OP_CD_READ || s->op == OP_CD_READ_DMA, cd = is_cd(ch, s->select);

    if (s->phase == PHASE_DMA) {
        if (!ch->bm || (cd_op && s->op == OP_CD_READ))
            return false;
        if (s->op == OP_REPLY_DMA)
            return cd && s->pos < s->len;
        return s->left && cd == cd_op && s->skip < (cd ? s->cd_block : 512u) &&
               (cd || s->op == OP_READ_DMA || s->op == OP_WRITE_DMA);
    }
    if (s->phase == PHASE_IDLE || s->phase == PHASE_IO)
        return true;
    if (s->phase == PHASE_DELAY && s->op != OP_WRITE)
        return false;
    if (cd_op)
        return cd && s->cd_block && s->limit >= 2;
    if (s->op == OP_REPLY)
        return cd && s->limit >= 2;
    if (s->op == OP_READ || (s->op == OP_WRITE && s->phase != PHASE_DELAY))
        return !cd && s->block && s->len / 512 <= s->left;
    return s->op != OP_WRITE || (!cd && s->block);
}

static bool ide_loaded(Device *dev, Error *err)
{
    IdeChannel *ch = (IdeChannel *)dev;
    IdeState *s = &ch->s;

    if (s->select > 1 || s->phase > PHASE_DELAY || s->op >= OP_COUNT || s->len > IDE_BUF || s->end > s->len ||
        s->pos > s->end || (s->cd_block != CD_BLOCK && s->cd_block != CD_RAW_BLOCK && s->cd_block))
        return error_set(err, "%s: state out of range", dev->id);
    if (s->phase == PHASE_IO || ((s->phase == PHASE_IN || s->phase == PHASE_OUT) && s->pos == s->end))
        return error_set(err, "%s: saved with a request under way", dev->id);
    if (s->phase != PHASE_IDLE && !ch->blk[s->select])
        return error_set(err, "%s: the drive that was at work is not there", dev->id);
    if (!work_fits(ch))
        return error_set(err, "%s: a transfer that no command leaves", dev->id);
    for (unsigned n = 0; n < 2; n++) {
        const IdeDrive *d = &s->d[n];

        if (ch->blk[n] && (!d->heads || !d->sectors || d->multiple > 16))
            return error_set(err, "%s: drive parameters out of range", dev->id);
    }
    ch->line = s->irq && !(s->ctl & CTL_NIEN);
    irq_set(ch->irq, ch->line);
    if (s->phase == PHASE_DELAY)
        timer_arm(&ch->delay, clock_ns(dev->m, CLOCK_VIRTUAL));
    return true;
}

static void ide_destroy(Device *dev)
{
    IdeChannel *ch = (IdeChannel *)dev;

    timer_cancel(&ch->delay);
    for (unsigned n = 0; n < 2; n++) {
        if (ch->blk[n]) {
            blk_drain(ch->blk[n]);
            blk_on_change(ch->blk[n], NULL, NULL);
        }
    }
}

static void ide_info(Device *dev, void (*print)(void *opaque, const char *line), void *opaque)
{
    static const char *const phases[] = { "idle", "disk request", "data in", "data out", "waits for DMA",
                                          "writes" };
    IdeChannel *ch = (IdeChannel *)dev;
    char line[160];

    snprintf(line, sizeof(line), "%03x/%03x %s: drive %u, %s, status %02x, control %02x", ch->cmd, ch->ctl,
             ch->cmd_map ? "decoded" : "off", ch->s.select, phases[ch->s.phase], status(ch), ch->s.ctl);
    print(opaque, line);
    for (unsigned n = 0; n < 2; n++) {
        IdeDrive *d = &ch->s.d[n];

        if (!ch->blk[n])
            continue;
        snprintf(line, sizeof(line),
                 "drive %u: %s, %u heads, %u sectors, multiple %u, PIO %02x, DMA %02x, error %02x", n,
                 is_cd(ch, n) ? "CD-ROM" : "disk", d->heads, d->sectors, d->multiple, d->pio_mode,
                 d->dma_mode, d->error);
        print(opaque, line);
    }
}

const DeviceClass ide_class = {
    .name = "ide", .size = sizeof(IdeChannel),
    .state = offsetof(IdeChannel, s), .state_size = sizeof(IdeState), .fields = ide_fields,
    .reset = ide_reset, .loaded = ide_loaded, .destroy = ide_destroy, .info = ide_info,
};

static void medium_changed(void *opaque)
{
    IdeSlot *slot = opaque;

    if (is_cd(slot->ch, slot->drive))
        atapi_medium_changed(slot->ch, slot->drive);
}

IdeChannel *ide_channel_create(Machine *m, u16 cmd, u16 ctl, Irq irq, Blk *master, Blk *slave, IdeBm *bm)
{
    IdeChannel *ch = device_create(m, &ide_class);

    ch->irq = irq;
    ch->cmd = cmd;
    ch->ctl = ctl;
    ch->bm = bm;
    timer_init(&ch->delay, m, CLOCK_VIRTUAL, delay_fired, ch);
    ch->blk[0] = master;
    ch->blk[1] = slave;
    for (unsigned n = 0; n < 2; n++) {
        if (ch->blk[n] && !blk_is_cdrom(ch->blk[n]) && !blk_has_medium(ch->blk[n]))
            ch->blk[n] = NULL;      /* a disk drive without a disk is no drive */
        if (!ch->blk[n])
            continue;
        ch->geometry[n] = ide_geometry(ch->blk[n]);
        ch->slot[n] = (IdeSlot){ ch, n };
        blk_on_change(ch->blk[n], medium_changed, &ch->slot[n]);
    }
    device_reset(&ch->dev);
    return ch;
}

void ide_isa_create(Machine *m, u16 cmd, u16 ctl, Irq irq, Blk *master, Blk *slave)
{
    ide_channel_decode(ide_channel_create(m, cmd, ctl, irq, master, slave, NULL), true);
}
