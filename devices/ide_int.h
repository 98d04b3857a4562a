/* What the files of the IDE channel share: ide.c (registers, PIO, reset), ide_ata.c, ide_atapi.c,
 * ide_bmdma.c. */
#ifndef DEVICES_IDE_INT_H
#define DEVICES_IDE_INT_H

#include "../core/vm/timer.h"
#include "ide.h"

enum { IDE_BUF = 65536, IDE_DMA_CHUNK = 1 << 20, CD_BLOCK = 2048, CD_RAW_BLOCK = 2352 };

enum { ST_BSY = 0x80, ST_DRDY = 0x40, ST_DF = 0x20, ST_DSC = 0x10, ST_DRQ = 0x08, ST_ERR = 0x01 };
enum { ER_UNC = 0x40, ER_IDNF = 0x10, ER_ABRT = 0x04 };
enum { DEV_LBA = 0x40, DEV_SELECT = 0x10, CTL_HOB = 0x80, CTL_SRST = 0x04, CTL_NIEN = 0x02 };

/* What the channel is at. */
enum { PHASE_IDLE, PHASE_IO /* a block request */, PHASE_IN, PHASE_OUT /* DRQ */,
       PHASE_DMA /* waits for the bus master */, PHASE_DELAY };

/* What the phase belongs to. */
enum { OP_NONE, OP_READ, OP_WRITE, OP_READ_DMA, OP_WRITE_DMA, OP_VERIFY, OP_FLUSH, OP_BUFFER_IN,
       OP_BUFFER_OUT, OP_CDB, OP_REPLY, OP_REPLY_DMA, OP_PARAMETERS, OP_CD_READ, OP_CD_READ_DMA, OP_COUNT };

/* the registers of one drive, [1]: what was written before (LBA48's high halves) */
typedef struct {
    u8 feature[2], count[2], low[2], mid[2], high[2];
    u8 device, status, error;
    u8 heads, sectors;              /* of INITIALIZE DEVICE PARAMETERS */
    u8 multiple;                    /* sectors a DRQ of READ MULTIPLE; 0: off */
    u8 pio_mode, dma_mode;          /* as SET FEATURES coded them: 08h+n; 20h+n multiword, 40h+n ultra */
    u8 no_write_cache, no_look_ahead;
    u8 sense_key, asc, ascq;        /* CD-ROM from here */
    u8 attention, tray_open, was_changed, media_event;
    u8 pad;
} IdeDrive;
#define IDE_DRIVE_SAVE(d) \
    SAVE(IdeState, d.feature), SAVE(IdeState, d.count), SAVE(IdeState, d.low), SAVE(IdeState, d.mid), \
    SAVE(IdeState, d.high), SAVE(IdeState, d.device), SAVE(IdeState, d.status), SAVE(IdeState, d.error), \
    SAVE(IdeState, d.heads), SAVE(IdeState, d.sectors), SAVE(IdeState, d.multiple), \
    SAVE(IdeState, d.pio_mode), SAVE(IdeState, d.dma_mode), SAVE(IdeState, d.no_write_cache), \
    SAVE(IdeState, d.no_look_ahead), SAVE(IdeState, d.sense_key), SAVE(IdeState, d.asc), \
    SAVE(IdeState, d.ascq), SAVE(IdeState, d.attention), SAVE(IdeState, d.tray_open), \
    SAVE(IdeState, d.was_changed), SAVE(IdeState, d.media_event), SAVE(IdeState, d.pad)

typedef struct {
    IdeDrive d[2];
    u64 lba;                        /* the next sector or CD block to be moved */
    u32 left;                       /* of them */
    u32 skip;                       /* DMA: bytes of the next one that have been moved */
    /* in buf: the next byte, the end of this DRQ, the end of what is there or wanted */
    u32 pos, end, len;
    u32 limit;                      /* bytes a DRQ that the guest takes (ATAPI) */
    u16 cd_block;                   /* bytes of a CD block as the guest wants it */
    u8 select, ctl, irq, phase, op, block /* sectors a DRQ */;
    u8 cdb[12];
    u8 pad[4];
    u8 buf[IDE_BUF];
} IdeState;

typedef struct IdeChannel IdeChannel;
typedef struct IdeBm IdeBm;

typedef struct IdeIo {              /* one block request and its buffer */
    BlkReq req;
    IdeChannel *ch;
    bool dead;                      /* its command was ended by a reset */
    void (*then)(IdeChannel *ch, struct IdeIo *io);         /* only when it succeeded */
    u8 data[];
} IdeIo;

typedef struct { IdeChannel *ch; unsigned drive; } IdeSlot; /* whose medium changed */

struct IdeChannel {
    Device dev;
    IdeState s;
    Irq irq;
    Blk *blk[2];
    IdeSlot slot[2];
    IdeGeometry geometry[2];
    IdeBm *bm;                      /* NULL: no DMA */
    u16 cmd, ctl;
    int cmd_map, ctl_map;           /* port handles, 0: not decoded */
    bool line;                      /* as the board sees it */
    Timer delay;                    /* ends PHASE_DELAY */
    IdeIo *io;                      /* the request of the command under way */
    u32 orphans;                    /* requests of commands that a reset ended: busy until they are gone */
};

static inline IdeDrive *ide_drive(IdeChannel *ch) { return &ch->s.d[ch->s.select]; }
static inline Blk *ide_blk(IdeChannel *ch) { return ch->blk[ch->s.select]; }

/* ide.c */
IdeChannel *ide_channel_create(Machine *m, u16 cmd, u16 ctl, Irq irq, Blk *master, Blk *slave, IdeBm *bm);
void ide_channel_decode(IdeChannel *ch, bool on);
void ide_raise(IdeChannel *ch);
void ide_signature(IdeChannel *ch, unsigned drive);
void ide_end(IdeChannel *ch, u8 status, u8 error);              /* the command is over; interrupt */
/* DRQ for the next bytes of buf */
void ide_transfer(IdeChannel *ch, u8 phase, u32 bytes, bool interrupt);
IdeIo *ide_new_io(IdeChannel *ch, BlkOp op, u64 offset, u32 bytes, void (*then)(IdeChannel *ch, IdeIo *io));
void ide_submit(IdeChannel *ch, IdeIo *io);
void *ide_alloc(size_t bytes);

/* ide_ata.c */
void ata_command(IdeChannel *ch, u8 command);
void ata_block_ended(IdeChannel *ch);                           /* the DRQ's bytes have been moved */
void ata_write_on(IdeChannel *ch);                              /* a PIO write's next DRQ, or its end */
void ata_dma(IdeChannel *ch);                                   /* the bus master can go on */
void ata_io_failed(IdeChannel *ch, const BlkReq *req);
void ata_reset_drive(IdeChannel *ch, unsigned drive);
/* IDENTIFY: two characters a word */
void ide_put_text(u8 *words, unsigned first, unsigned count, const char *text);
void ide_identify_modes(IdeChannel *ch, u8 *words);

/* ide_atapi.c */
void atapi_command(IdeChannel *ch, u8 command);
void atapi_block_ended(IdeChannel *ch);
void atapi_dma(IdeChannel *ch);
void atapi_io_failed(IdeChannel *ch, const BlkReq *req);
void atapi_medium_changed(IdeChannel *ch, unsigned drive);
void atapi_reset_drive(IdeChannel *ch, unsigned drive);

/* ide_bmdma.c */
bool ide_bm_ready(const IdeBm *bm);                             /* started, and its table not at its end */
/* returns bytes moved: less when the table ended */
u32 ide_bm_move(IdeBm *bm, u8 *buf, u32 bytes, bool to_memory);
void ide_bm_interrupt(IdeBm *bm);
void ide_go_on(IdeChannel *ch);                                 /* ide.c: the bus master was started */

#endif
