/*
 * 16550A: FIFOs with trigger levels and the character time-out, loopback, modem lines, break, scratch
 * register. Source: National Semiconductor PC16550D data sheet, section 8.
 *
 *      port + 0    RBR / THR, divisor low with DLAB        + 4   MCR
 *           + 1    IER,       divisor high with DLAB       + 5   LSR
 *           + 2    IIR / FCR                               + 6   MSR
 *           + 3    LCR                                     + 7   scratch
 *
 * Bytes are not paced by the baud rate: they leave as fast as the character device takes them and come as
 * fast as the guest reads; only the time-out interrupt uses the rate. Nothing is dropped in either
 * direction: a character device that takes no more keeps THRE low, and one that has more waits until there
 * is room. As on a PC, OUT2 lets the interrupt out.
 *
 * Not modelled: parity and framing errors (characters come whole), FIFO mode's DMA pins.
 */
#include "uart.h"

#include "../core/vm/device.h"
#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum { FIFO = 16 };
enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_NONE = 1, IIR_MODEM = 0, IIR_THRE = 2, IIR_RX = 4, IIR_LINE = 6, IIR_TIMEOUT = 12 };
enum { FCR_ON = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16 };
enum { LSR_DATA = 1, LSR_OVERRUN = 2, LSR_BREAK = 16, LSR_ERRORS = 0x1e, LSR_THRE = 32, LSR_IDLE = 64 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_TERI = 4 };

typedef struct {
    u8 rx[FIFO], tx[FIFO];
    u8 rx_count, tx_count;
    u8 ier, fcr, lcr, mcr, scratch;
    u8 errors;                      /* LSR bits 1-4 */
    u8 msr;
    u8 thre_pending;                /* THRE interrupt not yet seen by the guest */
    u8 timeout;                     /* the FIFO's time-out has come */
    u8 pad;
    u16 divisor;
} UartState;

struct Uart {
    Device dev;
    UartState s;
    Timer timer;                    /* the FIFO's time-out */
    Irq irq;
    Chardev *chr;
};

static const SaveField uart_fields[] = {
    SAVE(UartState, rx), SAVE(UartState, tx), SAVE(UartState, rx_count), SAVE(UartState, tx_count),
    SAVE(UartState, ier), SAVE(UartState, fcr), SAVE(UartState, lcr), SAVE(UartState, mcr),
    SAVE(UartState, scratch), SAVE(UartState, errors), SAVE(UartState, msr), SAVE(UartState, thre_pending),
    SAVE(UartState, timeout), SAVE(UartState, pad), SAVE(UartState, divisor), SAVE_END
};

/* ---- interrupts ---- */

static unsigned trigger(const UartState *s)
{
    static const u8 levels[4] = { 1, 4, 8, 14 };

    return s->fcr & FCR_ON ? levels[s->fcr >> 6] : 1;
}

/* The pending interrupt with the highest priority. */
static u8 cause(const UartState *s)
{
    if ((s->ier & IER_LINE) && s->errors)
        return IIR_LINE;
    if ((s->ier & IER_RX) && s->rx_count >= trigger(s))
        return IIR_RX;
    if ((s->ier & IER_RX) && s->timeout)
        return IIR_TIMEOUT;
    if ((s->ier & IER_THRE) && s->thre_pending)
        return IIR_THRE;
    if ((s->ier & IER_MODEM) && (s->msr & 15))
        return IIR_MODEM;
    return IIR_NONE;
}

static void update(Uart *u)
{
    bool out2 = (u->s.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

    irq_set(u->irq, out2 && cause(&u->s) != IIR_NONE);
}

/* Four characters' time from now, if there are some in the FIFO, but too few to interrupt by their number. */
static void arm_timeout(Uart *u)
{
    UartState *s = &u->s;
    u64 character = (u64)(s->divisor ? s->divisor : 0x10000) * 16 * 10 * NS_PER_SEC / 1843200;

    s->timeout = 0;
    if (!(s->fcr & FCR_ON) || !s->rx_count || s->rx_count >= trigger(s))
        timer_cancel(&u->timer);
    else
        timer_arm(&u->timer, clock_ns(u->dev.m, CLOCK_VIRTUAL) + 4 * character);
}

static void timed_out(void *opaque)
{
    Uart *u = opaque;

    u->s.timeout = u->s.rx_count != 0;
    update(u);
}

/* ---- modem lines ---- */

static u8 modem_lines(const Uart *u)
{
    u8 mcr = u->s.mcr;

    if (!(mcr & MCR_LOOP))
        return u->chr ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
    return (u8)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
                (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void modem_changed(Uart *u)
{
    UartState *s = &u->s;
    u8 lines = modem_lines(u), changed = (s->msr ^ lines) & 0xf0, delta = changed >> 4 & ~MSR_TERI;

    if ((changed & MSR_RI) && !(lines & MSR_RI))
        delta |= MSR_TERI;
    s->msr = lines | (s->msr & 15) | delta;
}

/* ---- characters ---- */

static void take(Uart *u, u8 byte)
{
    UartState *s = &u->s;
    unsigned room = s->fcr & FCR_ON ? FIFO : 1;

    if (s->rx_count >= room) {
        s->errors |= LSR_OVERRUN;   /* only in loopback: the character device asks before it sends */
        if (room == 1)
            s->rx[0] = byte;
        return;
    }
    s->rx[s->rx_count++] = byte;
}

static u8 read_rbr(Uart *u)
{
    UartState *s = &u->s;
    u8 byte = s->rx[0];

    if (!s->rx_count)
        return byte;
    s->rx_count--;
    for (unsigned i = 0; i < s->rx_count; i++)
        s->rx[i] = s->rx[i + 1];
    arm_timeout(u);
    update(u);
    if (!(s->mcr & MCR_LOOP) && (s->rx_count == 0 || s->rx_count == FIFO - 1))
        chardev_accept(u->chr);
    return byte;
}

/* Gives the character device what it takes. */
static void send(Uart *u)
{
    UartState *s = &u->s;
    size_t n = chardev_write(u->chr, s->tx, s->tx_count);

    if (n > s->tx_count)
        n = s->tx_count;
    if (!s->tx_count)
        return;
    s->tx_count = (u8)(s->tx_count - n);
    for (unsigned i = 0; i < s->tx_count; i++)
        s->tx[i] = s->tx[i + n];
    if (!s->tx_count)
        s->thre_pending = 1;
    update(u);
}

static void write_thr(Uart *u, u8 byte)
{
    UartState *s = &u->s;
    unsigned room = s->fcr & FCR_ON ? FIFO : 1;

    s->thre_pending = 0;
    if (s->mcr & MCR_LOOP) {
        take(u, byte);
        arm_timeout(u);
        s->thre_pending = 1;
        update(u);
        return;
    }
    if (s->tx_count < room)
        s->tx[s->tx_count++] = byte;    /* a guest that writes in spite of THRE loses the byte */
    send(u);
    update(u);
}

static size_t can_receive(void *opaque)
{
    const UartState *s = &((Uart *)opaque)->s;
    unsigned room = s->fcr & FCR_ON ? FIFO : 1;

    return s->mcr & MCR_LOOP || s->rx_count >= room ? 0 : room - s->rx_count;
}

static void receive(void *opaque, const u8 *buf, size_t n)
{
    Uart *u = opaque;

    for (size_t i = 0; i < n; i++)
        take(u, buf[i]);
    arm_timeout(u);
    update(u);
}

static void writable(void *opaque) { send(opaque); }

static void event(void *opaque, ChrEvent e)
{
    Uart *u = opaque;

    if (e != CHR_BREAK || !can_receive(u))
        return;
    u->s.errors |= LSR_BREAK;
    receive(u, (const u8 *)"", 1);
}

static const ChrFrontend uart_frontend = { can_receive, receive, writable, event };

/* ---- registers ---- */

static void write_fcr(Uart *u, u8 value)
{
    UartState *s = &u->s;
    bool toggled = (value ^ s->fcr) & FCR_ON;

    s->fcr = value & FCR_ON ? value & 0xc9 : 0;
    if (toggled || (value & FCR_CLEAR_RX))
        s->rx_count = s->timeout = 0;
    if (toggled || (value & FCR_CLEAR_TX)) {
        s->thre_pending |= s->tx_count != 0;
        s->tx_count = 0;
    }
    arm_timeout(u);
    update(u);
    chardev_accept(u->chr);
}

static void write_mcr(Uart *u, u8 value)
{
    bool left_loop = (u->s.mcr & MCR_LOOP) && !(value & MCR_LOOP);

    u->s.mcr = value & 0x1f;
    modem_changed(u);
    update(u);
    if (left_loop)
        chardev_accept(u->chr);
}

/* Tells a real port behind us about speed and format. */
static void line_settings(Uart *u)
{
    const UartState *s = &u->s;
    static const char parity[8] = { 'N', 'O', 'N', 'E', 'N', 'M', 'N', 'S' };
    u32 baud = 115200 / (s->divisor ? s->divisor : 0x10000);

    if (u->chr && u->chr->be->set_params)
        u->chr->be->set_params(u->chr, baud ? baud : 1, (u8)(5 + (s->lcr & 3)), parity[s->lcr >> 3 & 7],
                               s->lcr & 4 ? 2 : 1);
}

static void write_lcr(Uart *u, u8 value)
{
    u8 changed = value ^ u->s.lcr;

    u->s.lcr = value;
    if ((changed & LCR_BREAK) && u->chr && u->chr->be->set_break)
        u->chr->be->set_break(u->chr, value & LCR_BREAK);
    if ((changed & 0x3f) || ((changed & LCR_DLAB) && !(value & LCR_DLAB)))
        line_settings(u);
}

static void write_ier(Uart *u, u8 value)
{
    UartState *s = &u->s;

    /* An empty transmitter says so as soon as its interrupt is enabled. */
    if ((value & ~s->ier & IER_THRE) && !s->tx_count)
        s->thre_pending = 1;
    s->ier = value & 15;
    update(u);
}

static void uart_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Uart *u = opaque;
    UartState *s = &u->s;
    u8 byte = (u8)value;

    (void)size;
    switch (port & 7) {
    case 0:
        if (s->lcr & LCR_DLAB)
            s->divisor = (s->divisor & 0xff00) | byte;
        else
            write_thr(u, byte);
        break;
    case 1:
        if (s->lcr & LCR_DLAB)
            s->divisor = (u16)((s->divisor & 0x00ff) | byte << 8);
        else
            write_ier(u, byte);
        break;
    case 2:
        write_fcr(u, byte);
        break;
    case 3:
        write_lcr(u, byte);
        break;
    case 4:
        write_mcr(u, byte);
        break;
    case 7:
        s->scratch = byte;
        break;
    }
}

static u8 read_iir(Uart *u)
{
    UartState *s = &u->s;
    u8 iir = cause(s);

    if (iir == IIR_THRE) {
        s->thre_pending = 0;
        update(u);
    }
    return iir | (s->fcr & FCR_ON ? 0xc0 : 0);
}

static u8 read_lsr(Uart *u)
{
    UartState *s = &u->s;
    u8 lsr = (u8)((s->rx_count ? LSR_DATA : 0) | s->errors | (s->tx_count ? 0 : LSR_THRE | LSR_IDLE));

    s->errors = 0;
    update(u);
    return lsr;
}

static u32 uart_read(void *opaque, u32 port, unsigned size)
{
    Uart *u = opaque;
    UartState *s = &u->s;
    u8 value;

    (void)size;
    switch (port & 7) {
    case 0:
        return s->lcr & LCR_DLAB ? s->divisor & 0xff : read_rbr(u);
    case 1:
        return s->lcr & LCR_DLAB ? s->divisor >> 8 : s->ier;
    case 2:
        return read_iir(u);
    case 3:
        return s->lcr;
    case 4:
        return s->mcr;
    case 5:
        return read_lsr(u);
    case 6:
        value = s->msr;
        s->msr &= 0xf0;
        update(u);
        return value;
    default:
        return s->scratch;
    }
}

static const PortOps uart_ops = { uart_read, uart_write, 1 };

/* ---- device ---- */

static void uart_reset(Device *dev)
{
    Uart *u = (Uart *)dev;

    u->s.divisor = 12;
    u->s.msr = modem_lines(u);
    timer_cancel(&u->timer);
    irq_set(u->irq, false);
    chardev_accept(u->chr);
}

static bool uart_loaded(Device *dev, Error *err)
{
    Uart *u = (Uart *)dev;
    UartState *s = &u->s;

    if (s->rx_count > FIFO || s->tx_count > FIFO)
        return error_set(err, "%s: more in a FIFO than it holds", dev->id);
    s->ier &= 15;
    if (s->timeout)
        timer_cancel(&u->timer);
    else
        arm_timeout(u);
    update(u);
    send(u);
    return true;
}

static const DeviceClass uart_class = {
    .name = "uart", .size = sizeof(Uart), .state = offsetof(Uart, s), .state_size = sizeof(UartState),
    .fields = uart_fields, .reset = uart_reset, .loaded = uart_loaded,
};

Uart *uart_create(Machine *m, u16 base, Irq irq, Chardev *chr)
{
    Uart *u = device_create(m, &uart_class);

    u->irq = irq;
    u->chr = chr;
    timer_init(&u->timer, m, CLOCK_VIRTUAL, timed_out, u);
    port_map(m, "uart", base, 8, &uart_ops, u);
    chardev_attach(chr, &uart_frontend, u);
    return u;
}
