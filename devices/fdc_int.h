/* What fdc.c (registers, commands without data) and fdc_data.c (commands with data) share. */
#ifndef DEVICES_FDC_INT_H
#define DEVICES_FDC_INT_H

#include "../core/vm/timer.h"
#include "fdc.h"
#include "floppy_geometry.h"

enum { FDC_DRIVES = 2, FDC_CMD_MAX = 17, FDC_RESULT_MAX = 16, FDC_SECTOR = 512 };

enum { PHASE_COMMAND, PHASE_EXEC, PHASE_RESULT };

enum { ST0_IC_ABNORMAL = 0x40, ST0_IC_INVALID = 0x80, ST0_IC_POLL = 0xc0, ST0_SE = 0x20, ST0_EC = 0x10,
       ST0_HD = 0x04 };
enum { ST1_EN = 0x80, ST1_DE = 0x20, ST1_OR = 0x10, ST1_ND = 0x04, ST1_NW = 0x02, ST1_MA = 0x01 };
enum { ST2_CM = 0x40, ST2_DD = 0x20, ST2_WC = 0x10, ST2_SH = 0x08, ST2_SN = 0x04, ST2_BC = 0x02 };

enum { CMD_READ_TRACK = 0x02, CMD_WRITE = 0x05, CMD_READ = 0x06, CMD_WRITE_DELETED = 0x09,
       CMD_READ_ID = 0x0a, CMD_READ_DELETED = 0x0c, CMD_FORMAT = 0x0d, CMD_SCAN_EQUAL = 0x11,
       CMD_VERIFY = 0x16, CMD_SCAN_LOW = 0x19, CMD_SCAN_HIGH = 0x1d, CMD_MT = 0x80, CMD_SK = 0x20 };

/* of CONFIGURE's second byte; set: EIS on, others off */
enum { CONFIG_EIS = 0x40, CONFIG_EFIFO = 0x20, CONFIG_POLL = 0x10 };

typedef struct {
    u8 dor, tdr, rate, phase;
    u8 irq;                         /* the INT pin before DOR's gate */
    u8 reset_due;                   /* out of reset, its interrupt still to come */
    u8 reset_status;                /* drives whose polling status SENSE INTERRUPT still has to tell */
    u8 exec_due;                    /* READ ID, or a command that found no disk, ends when the timer fires */
    u8 cmd[FDC_CMD_MAX], cmd_len;
    u8 result[FDC_RESULT_MAX], result_len, result_pos;
    u8 specify[2], config, pretrk, lock, perpendicular, option, powerdown, drive_spec[4];
    u8 pcn[4], track[4];            /* what the controller believes, where the heads are */
    u8 target[4], recalibrate;      /* of seeks under way; bit a drive */
    u8 seeking, seek_ended, seek_st0[4];
    u8 changed;                     /* DSKCHG, bit a drive */
    u8 st[3], c, h, r, n;           /* of the data command under way, as the result phase tells them */
    u8 drive, head, scan;
    u8 pio_ready;                   /* non-DMA: the FIFO register moves data */
    u8 stalled;                     /* DMA: waits for the channel */
    u8 tc;
    u8 buf[FDC_SECTOR];
    u8 pad;
    u16 pos;                        /* in buf or in the sector under way */
    u16 left;                       /* sectors: FORMAT, VERIFY with EC */
} FdcState;

typedef struct FdcIo FdcIo;
typedef struct { Fdc *fdc; unsigned drive; } FdcSlot;       /* whose medium changed */

struct Fdc {
    Device dev;
    FdcState s;
    Irq irq;
    Dma *dma;
    Blk *blk[FDC_DRIVES];
    FloppyGeometry geometry[FDC_DRIVES];
    FdcSlot slot[FDC_DRIVES];
    u8 drive_type[FDC_DRIVES];      /* fixed at creation: CMOS was told */
    Timer seek_timer, reset_timer, exec_timer;
    FdcIo *io;                      /* the request of the command under way */
    u32 orphans;                    /* requests of commands that a reset ended; busy until they are gone */
};

/* fdc.c */
void fdc_raise(Fdc *f);
void fdc_result(Fdc *f, unsigned len);              /* enters the result phase, without interrupt */
void fdc_move_heads(Fdc *f, unsigned drive, int steps);
/* fdc_data.c */
void fdc_data_command(Fdc *f);                      /* s.cmd holds a whole data command */
void fdc_read_id(Fdc *f);
void fdc_format(Fdc *f);
void fdc_exec_fired(void *opaque);
void fdc_dma_ready(void *opaque);
u8 fdc_pio_read(Fdc *f);
void fdc_pio_write(Fdc *f, u8 value);
bool fdc_pio_to_host(const Fdc *f);
void fdc_abandon(Fdc *f);

#endif
