/*
 * Intel 82078 floppy disk controller (44-pin, AT mode): registers, command phase, and the commands that move
 * no data. Source: 82078 data sheet (290475), chapters 2 (registers), 5 (command set), 6 (status). The
 * sectors move in fdc_data.c.
 *
 *      3F2 DOR  motors, DMA gate, /reset, drive     3F4 r MSR  w DSR
 *      3F3 TDR  tape drive bits, kept only          3F5 FIFO         3F7 r DIR (disk changed)  w CCR
 *
 * Not modelled: FORMAT AND WRITE (answered as an invalid command), FM recording (the MFM bit is not looked
 * at), head load and step times (seeks take a fixed instant), a motor that is off (disks are always up to
 * speed), the FIFO's threshold.
 */
#include "fdc_int.h"

#include <stdio.h>
#include <string.h>

#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum { DOR_RESET_N = 0x04, DOR_DMA_GATE = 0x08, MSR_RQM = 0x80, MSR_DIO = 0x40, MSR_NONDMA = 0x20,
       MSR_BUSY = 0x10 };

#define SEEK_NS  100000u            /* long enough for the guest to be done with its last OUT */
#define RESET_NS 30000u

static void update_line(Fdc *f)
{
    irq_set(f->irq, f->s.irq && (f->s.dor & DOR_DMA_GATE));
}

void fdc_raise(Fdc *f)
{
    /* firmware asks for one of the four only and goes on: the rest is forgotten */
    f->s.reset_status = 0;
    f->s.irq = 1;
    update_line(f);
}

static void lower(Fdc *f)
{
    f->s.irq = 0;
    update_line(f);
}

void fdc_result(Fdc *f, unsigned len)
{
    f->s.phase = len ? PHASE_RESULT : PHASE_COMMAND;
    f->s.result_len = (u8)len;
    f->s.result_pos = 0;
    f->s.cmd_len = 0;
}

static void no_result(Fdc *f) { fdc_result(f, 0); }

static void one_result(Fdc *f, u8 value)
{
    f->s.result[0] = value;
    fdc_result(f, 1);
}

/* ---- seeks ---- */

void fdc_move_heads(Fdc *f, unsigned drive, int steps)
{
    int to = f->s.track[drive] + steps;

    f->s.track[drive] = (u8)(to < 0 ? 0 : to > 85 ? 85 : to);
    if (drive < FDC_DRIVES && f->blk[drive] && blk_has_medium(f->blk[drive]))
        f->s.changed &= (u8)~(1u << drive);
}

static void start_seek(Fdc *f, unsigned drive, u8 target, bool recalibrate)
{
    FdcState *s = &f->s;

    s->target[drive] = target;
    s->recalibrate = (u8)((s->recalibrate & ~(1u << drive)) | (unsigned)recalibrate << drive);
    s->seeking |= (u8)(1u << drive);
    no_result(f);
    timer_arm(&f->seek_timer, clock_ns(f->dev.m, CLOCK_VIRTUAL) + SEEK_NS);
}

static void seek_fired(void *opaque)
{
    Fdc *f = opaque;
    FdcState *s = &f->s;

    if (!s->seeking)
        return;
    for (unsigned d = 0; d < 4; d++) {
        bool there = d < FDC_DRIVES && f->blk[d];

        if (!(s->seeking >> d & 1))
            continue;
        s->seek_st0[d] = (u8)(ST0_SE | d);
        if (s->recalibrate >> d & 1) {
            /* the chip gives up after 79 steps without the track 0 signal */
            fdc_move_heads(f, d, -79);
            s->pcn[d] = 0;
            if (!there || s->track[d])
                s->seek_st0[d] |= ST0_IC_ABNORMAL | ST0_EC;
        } else {
            fdc_move_heads(f, d, s->target[d] - s->pcn[d]);
            s->pcn[d] = s->target[d];
        }
        s->seek_ended |= (u8)(1u << d);
    }
    s->seeking = 0;
    fdc_raise(f);
}

static void cmd_seek(Fdc *f)
{
    start_seek(f, f->s.cmd[1] & 3, f->s.cmd[2], false);
}

static void cmd_relative_seek(Fdc *f)
{
    unsigned d = f->s.cmd[1] & 3;
    int to = f->s.pcn[d] + (f->s.cmd[0] & 0x40 ? f->s.cmd[2] : -f->s.cmd[2]);

    start_seek(f, d, (u8)(to < 0 ? 0 : to > 255 ? 255 : to), false);
}

static void cmd_recalibrate(Fdc *f)
{
    start_seek(f, f->s.cmd[1] & 3, 0, true);
}

static void cmd_sense_interrupt(Fdc *f)
{
    FdcState *s = &f->s;

    for (unsigned d = 0; d < 4; d++) {
        if (s->seek_ended >> d & 1) {
            s->seek_ended &= (u8)~(1u << d);
            s->result[0] = s->seek_st0[d];
            s->result[1] = s->pcn[d];
            fdc_result(f, 2);
            if (!s->seek_ended)
                lower(f);
            return;
        }
    }
    if (s->reset_status) {
        unsigned d = 4u - s->reset_status--;

        s->result[0] = (u8)(ST0_IC_POLL | d);
        s->result[1] = s->pcn[d];
        fdc_result(f, 2);
        lower(f);
    } else {
        one_result(f, ST0_IC_INVALID);
    }
}

/* ---- settings and status ---- */

static void cmd_specify(Fdc *f)
{
    memcpy(f->s.specify, f->s.cmd + 1, 2);
    no_result(f);
}

static void cmd_sense_drive(Fdc *f)
{
    unsigned d = f->s.cmd[1] & 3;
    Blk *blk = d < FDC_DRIVES ? f->blk[d] : NULL;
    u8 st3 = (u8)(0x28 | (f->s.cmd[1] & 7));                /* ready, two sides */

    if (blk && !f->s.track[d])
        st3 |= 0x10;
    if (blk && blk_has_medium(blk) && blk_readonly(blk))
        st3 |= 0x40;
    one_result(f, st3);
}

static void cmd_configure(Fdc *f)
{
    f->s.config = f->s.cmd[2] & 0x7f;
    f->s.pretrk = f->s.cmd[3];
    no_result(f);
}

static void cmd_dumpreg(Fdc *f)
{
    FdcState *s = &f->s;

    memcpy(s->result, s->pcn, 4);
    memcpy(s->result + 4, s->specify, 2);
    s->result[6] = s->cmd[6];                               /* SC/EOT of the last data command */
    s->result[7] = (u8)(s->lock << 7 | (s->perpendicular & 0x3f));
    s->result[8] = s->config;
    s->result[9] = s->pretrk;
    fdc_result(f, 10);
}

static void cmd_lock(Fdc *f)
{
    f->s.lock = f->s.cmd[0] >> 7;
    one_result(f, (u8)(f->s.lock << 4));
}

static void cmd_perpendicular(Fdc *f)
{
    u8 v = f->s.cmd[1], keep = f->s.perpendicular & 0x3c;

    f->s.perpendicular = v & 0x80 ? v & 0x3f : (u8)(keep | (v & 3));    /* drive bits only with OW */
    no_result(f);
}

static void cmd_version(Fdc *f) { one_result(f, 0x90); }
static void cmd_part_id(Fdc *f) { one_result(f, 0x21); }    /* 44-pin part, first stepping */

static void cmd_powerdown(Fdc *f)
{
    f->s.powerdown = f->s.cmd[1] & 0x37;
    one_result(f, f->s.powerdown);
}

static void cmd_option(Fdc *f)
{
    f->s.option = f->s.cmd[1];
    no_result(f);
}

/* One byte a drive until one has bit 7; bit 6 of that one: no result phase. The bytes are kept and told, no
 * more. */
static void cmd_drive_spec(Fdc *f)
{
    FdcState *s = &f->s;
    u8 last = s->cmd[s->cmd_len - 1];

    for (unsigned i = 1; i < s->cmd_len; i++) {
        if (!(s->cmd[i] & 0x80))
            s->drive_spec[s->cmd[i] >> 5 & 3] = s->cmd[i] & 0x1f;
    }
    memcpy(s->result, s->drive_spec, 4);
    fdc_result(f, last & 0x40 ? 0 : 4);
}

static void cmd_save(Fdc *f)
{
    FdcState *s = &f->s;

    memset(s->result, 0, sizeof(s->result));
    s->result[0] = (u8)(s->powerdown & 0x80);
    s->result[1] = s->option;
    memcpy(s->result + 2, s->pcn, 4);
    memcpy(s->result + 6, s->specify, 2);
    s->result[8] = s->cmd[6];
    s->result[9] = (u8)(s->lock << 7 | (s->perpendicular & 0x3f));
    s->result[10] = s->config;
    s->result[11] = s->pretrk;
    s->result[14] = s->rate;
    fdc_result(f, 16);
}

static void cmd_restore(Fdc *f)
{
    FdcState *s = &f->s;

    s->option = s->cmd[2];
    memcpy(s->pcn, s->cmd + 3, 4);
    memcpy(s->specify, s->cmd + 7, 2);
    s->lock = s->cmd[10] >> 7;
    s->perpendicular = s->cmd[10] & 0x3f;
    s->config = s->cmd[11] & 0x7f;
    s->pretrk = s->cmd[12];
    s->rate = s->cmd[15] & 3;
    no_result(f);
}

static void cmd_invalid(Fdc *f) { one_result(f, ST0_IC_INVALID); }

/* The first row that matches; bytes is the length of the whole command. */
static const struct {
    u8 mask, value, bytes;
    void (*run)(Fdc *f);
} commands[] = {
    { 0x1f, CMD_READ,          9,  fdc_data_command },
    { 0x3f, CMD_WRITE,         9,  fdc_data_command },
    { 0x9f, CMD_READ_TRACK,    9,  fdc_data_command },
    { 0x3f, CMD_WRITE_DELETED, 9,  fdc_data_command },
    { 0x1f, CMD_READ_DELETED,  9,  fdc_data_command },
    { 0x1f, CMD_SCAN_EQUAL,    9,  fdc_data_command },
    { 0x1f, CMD_SCAN_LOW,      9,  fdc_data_command },
    { 0x1f, CMD_SCAN_HIGH,     9,  fdc_data_command },
    { 0x1f, CMD_VERIFY,        9,  fdc_data_command },
    { 0xbf, CMD_READ_ID,       2,  fdc_read_id },
    { 0xbf, CMD_FORMAT,        6,  fdc_format },
    { 0xff, 0x03,              3,  cmd_specify },
    { 0xff, 0x04,              2,  cmd_sense_drive },
    { 0xff, 0x07,              2,  cmd_recalibrate },
    { 0xff, 0x08,              1,  cmd_sense_interrupt },
    { 0xff, 0x0e,              1,  cmd_dumpreg },
    { 0xff, 0x0f,              3,  cmd_seek },
    { 0xbf, 0x8f,              3,  cmd_relative_seek },
    { 0xff, 0x10,              1,  cmd_version },
    { 0xff, 0x12,              2,  cmd_perpendicular },
    { 0xff, 0x13,              4,  cmd_configure },
    { 0x7f, 0x14,              1,  cmd_lock },
    { 0xff, 0x17,              2,  cmd_powerdown },
    { 0xff, 0x18,              1,  cmd_part_id },
    { 0xff, 0x2e,              1,  cmd_save },
    { 0xff, 0x33,              2,  cmd_option },
    { 0xff, 0x4e,              17, cmd_restore },
    { 0xff, 0x8e,              6,  cmd_drive_spec },
    { 0x00, 0x00,              1,  cmd_invalid },
};

static void command_byte(Fdc *f, u8 value)
{
    FdcState *s = &f->s;
    unsigned i = 0;

    if (s->cmd_len >= FDC_CMD_MAX)
        s->cmd_len = 0;
    s->cmd[s->cmd_len++] = value;
    while ((s->cmd[0] & commands[i].mask) != commands[i].value)
        i++;
    if (s->cmd_len == commands[i].bytes || (s->cmd[0] == 0x8e && s->cmd_len > 1 && (value & 0x80)))
        commands[i].run(f);
}

/* ---- reset ---- */

static void stop_everything(Fdc *f)
{
    FdcState *s = &f->s;

    fdc_abandon(f);
    timer_cancel(&f->seek_timer);
    timer_cancel(&f->reset_timer);
    timer_cancel(&f->exec_timer);
    s->phase = PHASE_COMMAND;
    s->cmd_len = s->result_len = s->result_pos = 0;
    s->seeking = s->seek_ended = s->recalibrate = 0;
    s->reset_due = s->reset_status = s->exec_due = 0;
    s->pio_ready = s->stalled = s->tc = 0;
    s->pos = 0;
    memset(s->pcn, 0, sizeof(s->pcn));
    if (!s->lock) {
        s->config = (u8)((s->config & CONFIG_POLL) | CONFIG_EFIFO);
        s->pretrk = 0;
    }
    s->perpendicular &= 0x3c;
    lower(f);
}

static void leave_reset(Fdc *f)
{
    f->s.reset_due = 1;
    timer_arm(&f->reset_timer, clock_ns(f->dev.m, CLOCK_VIRTUAL) + RESET_NS);
}

static void reset_fired(void *opaque)
{
    Fdc *f = opaque;

    if (!f->s.reset_due)
        return;
    f->s.reset_due = 0;
    /* with polling disabled too: drivers that disable it wait for this one all the same */
    fdc_raise(f);
    f->s.reset_status = 4;
}

static void write_dor(Fdc *f, u8 value)
{
    u8 old = f->s.dor;

    f->s.dor = value;
    if (!(value & DOR_RESET_N)) {
        if (old & DOR_RESET_N)
            stop_everything(f);
    } else if (!(old & DOR_RESET_N)) {
        leave_reset(f);
    }
    update_line(f);
    if (value & DOR_DMA_GATE)
        fdc_dma_ready(f);
}

/* ---- registers ---- */

static u8 read_msr(Fdc *f)
{
    FdcState *s = &f->s;
    u8 msr = s->seeking & 0x0f;

    if (!(s->dor & DOR_RESET_N) || f->orphans)
        return 0;
    if (s->phase == PHASE_COMMAND)
        return (u8)(msr | MSR_RQM | (s->cmd_len ? MSR_BUSY : 0));
    if (s->phase == PHASE_RESULT)
        return (u8)(msr | MSR_RQM | MSR_DIO | MSR_BUSY);
    msr |= MSR_BUSY;
    if (s->specify[1] & 1)
        msr |= MSR_NONDMA;
    if (s->pio_ready)
        msr |= (u8)(MSR_RQM | (fdc_pio_to_host(f) ? MSR_DIO : 0));
    return msr;
}

static u8 read_fifo(Fdc *f)
{
    FdcState *s = &f->s;
    u8 value;

    if (!(read_msr(f) & MSR_DIO))
        return 0;
    if (s->phase == PHASE_EXEC)
        return fdc_pio_read(f);
    if (!s->seek_ended && !s->reset_status)
        lower(f);
    value = s->result[s->result_pos++];
    if (s->result_pos >= s->result_len)
        no_result(f);
    return value;
}

static void write_fifo(Fdc *f, u8 value)
{
    if ((read_msr(f) & (MSR_RQM | MSR_DIO)) != MSR_RQM)
        return;
    if (f->s.phase == PHASE_EXEC)
        fdc_pio_write(f, value);
    else
        command_byte(f, value);
}

static u32 fdc_port_read(void *opaque, u32 port, unsigned size)
{
    Fdc *f = opaque;

    (void)size;
    switch (port & 7) {
    case 2: return f->s.dor;
    case 3: return f->s.tdr;
    case 4: return read_msr(f);
    case 5: return read_fifo(f);
    case 7: return f->s.changed >> (f->s.dor & 3) & 1 ? 0x80 : 0;
    default: return 0xff;
    }
}

static void fdc_port_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Fdc *f = opaque;

    (void)size;
    switch (port & 7) {
    case 2:
        write_dor(f, (u8)value);
        break;
    case 3:
        f->s.tdr = value & 3;
        break;
    case 4:
        f->s.rate = value & 3;
        if (value & 0x80) {
            stop_everything(f);
            if (f->s.dor & DOR_RESET_N)
                leave_reset(f);
        }
        break;
    case 5:
        write_fifo(f, (u8)value);
        break;
    case 7:
        f->s.rate = value & 3;
        break;
    default:
        break;
    }
}

static const PortOps fdc_ports = { .read = fdc_port_read, .write = fdc_port_write, .sizes = 1 };

/* ---- the device ---- */

static const SaveField fdc_fields[] = {
    SAVE(FdcState, dor), SAVE(FdcState, tdr), SAVE(FdcState, rate), SAVE(FdcState, phase),
    SAVE(FdcState, irq), SAVE(FdcState, reset_due), SAVE(FdcState, reset_status), SAVE(FdcState, exec_due),
    SAVE(FdcState, cmd), SAVE(FdcState, cmd_len), SAVE(FdcState, result), SAVE(FdcState, result_len),
    SAVE(FdcState, result_pos), SAVE(FdcState, specify), SAVE(FdcState, config), SAVE(FdcState, pretrk),
    SAVE(FdcState, lock), SAVE(FdcState, perpendicular), SAVE(FdcState, option), SAVE(FdcState, powerdown),
    SAVE(FdcState, drive_spec), SAVE(FdcState, pcn), SAVE(FdcState, track), SAVE(FdcState, target),
    SAVE(FdcState, recalibrate), SAVE(FdcState, seeking), SAVE(FdcState, seek_ended),
    SAVE(FdcState, seek_st0), SAVE(FdcState, changed), SAVE(FdcState, st), SAVE(FdcState, c),
    SAVE(FdcState, h), SAVE(FdcState, r), SAVE(FdcState, n), SAVE(FdcState, drive), SAVE(FdcState, head),
    SAVE(FdcState, scan), SAVE(FdcState, pio_ready), SAVE(FdcState, stalled), SAVE(FdcState, tc),
    SAVE(FdcState, buf), SAVE(FdcState, pad), SAVE(FdcState, pos), SAVE(FdcState, left), SAVE_END
};

static void fdc_reset(Device *dev)
{
    Fdc *f = (Fdc *)dev;

    f->s.config = CONFIG_EFIFO;
    f->s.rate = RATE_250K;
    f->s.changed = 0x0f;
    stop_everything(f);
}

static bool fdc_loaded(Device *dev, Error *err)
{
    Fdc *f = (Fdc *)dev;
    FdcState *s = &f->s;
    u64 soon = clock_ns(dev->m, CLOCK_VIRTUAL) + SEEK_NS;

    if (s->phase > PHASE_RESULT || s->cmd_len > FDC_CMD_MAX || s->result_len > FDC_RESULT_MAX ||
        s->pos >= FDC_SECTOR || s->rate > 3 || s->drive > 3 || s->head > 1 || s->reset_status > 4 ||
        (s->phase == PHASE_RESULT && s->result_pos >= s->result_len) || s->result_pos > s->result_len)
        return error_set(err, "fdc: state out of range");
    if (s->seeking)
        timer_arm(&f->seek_timer, soon);
    if (s->reset_due)
        timer_arm(&f->reset_timer, soon);
    if (s->exec_due)
        timer_arm(&f->exec_timer, soon);
    update_line(f);
    dma_set_dreq(f->dma, 2, s->stalled);
    return true;
}

static void fdc_destroy(Device *dev)
{
    Fdc *f = (Fdc *)dev;

    for (unsigned d = 0; d < FDC_DRIVES; d++) {
        if (f->blk[d]) {
            blk_drain(f->blk[d]);
            blk_on_change(f->blk[d], NULL, NULL);
        }
    }
    timer_cancel(&f->seek_timer);
    timer_cancel(&f->reset_timer);
    timer_cancel(&f->exec_timer);
}

static void fdc_info(Device *dev, void (*print)(void *opaque, const char *line), void *opaque)
{
    static const char *const phases[] = { "waits for a command", "executes", "has a result" };
    Fdc *f = (Fdc *)dev;
    char line[160];

    for (unsigned d = 0; d < FDC_DRIVES; d++) {
        FloppyGeometry *g = &f->geometry[d];

        if (!f->blk[d])
            continue;
        snprintf(line, sizeof(line), "drive %u: %u/%u/%u, head on track %u%s", d, g->cylinders, g->heads,
                           g->sectors, f->s.track[d], f->s.changed >> d & 1 ? ", disk changed" : "");
        print(opaque, line);
    }
    snprintf(line, sizeof(line), "controller %s, DOR %02x, MSR %02x", phases[f->s.phase], f->s.dor,
             read_msr(f));
    print(opaque, line);
}

const DeviceClass fdc_class = {
    .name = "fdc", .size = sizeof(Fdc),
    .state = offsetof(Fdc, s), .state_size = sizeof(FdcState), .fields = fdc_fields,
    .reset = fdc_reset, .loaded = fdc_loaded, .destroy = fdc_destroy, .info = fdc_info,
};

static void medium_changed(void *opaque)
{
    FdcSlot *slot = opaque;
    Fdc *f = slot->fdc;

    f->geometry[slot->drive] = floppy_geometry(f->blk[slot->drive]);
    f->s.changed |= (u8)(1u << slot->drive);
}

Fdc *fdc_create(Machine *m, u16 base, Irq irq6, Dma *dma, Blk *a, Blk *b)
{
    Fdc *f = device_create(m, &fdc_class);

    f->irq = irq6;
    f->dma = dma;
    f->blk[0] = a;
    f->blk[1] = b;
    for (unsigned d = 0; d < FDC_DRIVES; d++) {
        if (!f->blk[d])
            continue;
        f->geometry[d] = floppy_geometry(f->blk[d]);
        f->drive_type[d] = f->geometry[d].drive;
        f->slot[d] = (FdcSlot){ f, d };
        blk_on_change(f->blk[d], medium_changed, &f->slot[d]);
    }
    timer_init(&f->seek_timer, m, CLOCK_VIRTUAL, seek_fired, f);
    timer_init(&f->reset_timer, m, CLOCK_VIRTUAL, reset_fired, f);
    timer_init(&f->exec_timer, m, CLOCK_VIRTUAL, fdc_exec_fired, f);
    dma_watch(dma, 2, fdc_dma_ready, f);
    port_map(m, "fdc", base + 2u, 4, &fdc_ports, f);        /* 3F6h belongs to the IDE channel */
    port_map(m, "fdc", base + 7u, 1, &fdc_ports, f);
    fdc_reset(&f->dev);
    return f;
}

u8 fdc_drive_type(const Fdc *fdc, int drive)
{
    return drive >= 0 && drive < FDC_DRIVES ? fdc->drive_type[drive] : DRIVE_NONE;
}
