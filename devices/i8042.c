/*
 * 8042 keyboard controller with auxiliary (mouse) port: command byte, translation to set 1, self tests, A20
 * and reset by the output port. Source: IBM PS/2 technical reference, "Keyboard and auxiliary device
 * controller".
 *
 *      status (64h)    7 parity  6 timeout  5 AUX  4 unlocked  3 last write was to 64h  2 SYS  1 IBF  0 OBF
 *      command byte    6 translate  5 mouse off  4 keyboard off  2 SYS  1 IRQ 12  0 IRQ 1
 *      output port     7 6 lines to the keyboard  5 IRQ 12  4 IRQ 1  1 A20  0 reset#
 *
 * One byte at a time lies in the output buffer. A byte from a device is only put there BYTE_NS after the
 * last one was read, as the serial lines are slow: interrupt handlers that read port 60h twice see the same
 * byte. The controller's own answers come at once; a device's byte that was not read yet is put aside and
 * comes back after them.
 *
 * Not modelled: password (there is none), parity and time-out errors, diagnostic dump.
 */
#include "i8042.h"

#include "ps2.h"
#include "ps2_codes.h"

#include "../core/vm/device.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum { BYTE_NS = 500000 };
enum { ST_OBF = 0x01, ST_SYS = 0x04, ST_COMMAND = 0x08, ST_UNLOCKED = 0x10, ST_AUX = 0x20 };
enum {
    CB_IRQ1 = 0x01, CB_IRQ12 = 0x02, CB_SYS = 0x04, CB_KBD_OFF = 0x10, CB_AUX_OFF = 0x20, CB_TRANSLATE = 0x40,
};
enum { OUT_RESET = 0x01, OUT_A20 = 0x02, OUT_IRQ1 = 0x10, OUT_IRQ12 = 0x20, OUT_LINES = 0xc0 };
enum { FROM_CONTROLLER, FROM_KEYBOARD, FROM_MOUSE };

typedef struct {
    u64 next_ns;                    /* no byte of a device before */
    u8 ram[32];                     /* [0]: command byte */
    u8 out, full, source;           /* output buffer; source: FROM_* */
    u8 aux;                         /* it counts as the mouse's */
    u8 aside, aside_full, aside_source;
    u8 expect;                      /* command whose data comes next to port 60h; 0: none */
    u8 command_last;                /* status bit 3 */
    u8 out_port;
    u8 release;                     /* translation: F0h came */
    u8 pad[5];
} I8042State;

struct I8042 {
    Device dev;
    I8042State s;
    Timer timer;
    Irq irq1, irq12, reset;
    void (*a20)(void *opaque, bool on);
    void *a20_opaque;
    Ps2 *keyboard, *mouse;
    bool loading;
    bool said;
};

static const SaveField i8042_fields[] = {
    SAVE(I8042State, next_ns), SAVE(I8042State, ram), SAVE(I8042State, out), SAVE(I8042State, full),
    SAVE(I8042State, source), SAVE(I8042State, aux), SAVE(I8042State, aside), SAVE(I8042State, aside_full),
    SAVE(I8042State, aside_source), SAVE(I8042State, expect), SAVE(I8042State, command_last),
    SAVE(I8042State, out_port), SAVE(I8042State, release), SAVE(I8042State, pad), SAVE_END
};

static void update(I8042 *k)
{
    const I8042State *s = &k->s;

    irq_set(k->irq1, s->full && !s->aux && (s->ram[0] & CB_IRQ1));
    irq_set(k->irq12, s->full && s->aux && (s->ram[0] & CB_IRQ12));
}

/* ---- output buffer ---- */

static void put(I8042 *k, u8 byte, int source, bool aux)
{
    I8042State *s = &k->s;

    s->out = byte;
    s->full = 1;
    s->source = (u8)source;
    s->aux = aux;
}

/* The next byte of the keyboard for the guest; false: it takes more bytes to make one. */
static bool take_key(I8042 *k, u8 *byte)
{
    I8042State *s = &k->s;
    u8 b = ps2_take(k->keyboard);

    if (!(s->ram[0] & CB_TRANSLATE)) {
        *byte = b;
        return true;
    }
    if (b == 0xf0) {
        s->release = 0x80;
        return false;
    }
    *byte = ps2_translate(b) | s->release;
    s->release = 0;
    return true;
}

static void load_device_byte(I8042 *k)
{
    I8042State *s = &k->s;
    u8 byte;

    while (!(s->ram[0] & CB_KBD_OFF) && ps2_ready(k->keyboard)) {
        if (take_key(k, &byte)) {
            put(k, byte, FROM_KEYBOARD, false);
            return;
        }
    }
    if (!(s->ram[0] & CB_AUX_OFF) && ps2_ready(k->mouse))
        put(k, ps2_take(k->mouse), FROM_MOUSE, true);
}

/* Fills the output buffer if it is empty and something waits. */
static void load(I8042 *k)
{
    I8042State *s = &k->s;
    bool any = (!(s->ram[0] & CB_KBD_OFF) && ps2_ready(k->keyboard)) ||
               (!(s->ram[0] & CB_AUX_OFF) && ps2_ready(k->mouse));

    if (k->loading)
        return;                     /* taking a byte made room for another in the same device */
    k->loading = true;
    if (!s->full && s->aside_full) {
        put(k, s->aside, s->aside_source, s->aside_source == FROM_MOUSE);
        s->aside_full = 0;
    } else if (!s->full && any) {
        if (clock_ns(k->dev.m, CLOCK_VIRTUAL) >= s->next_ns)
            load_device_byte(k);
        else if (!timer_armed(&k->timer))
            timer_arm(&k->timer, s->next_ns);
    }
    k->loading = false;
    update(k);
}

static void load_later(void *opaque) { load(opaque); }

/* The controller's own answer. */
static void answer(I8042 *k, u8 byte, bool aux)
{
    I8042State *s = &k->s;

    if (s->full && s->source != FROM_CONTROLLER && !s->aside_full) {
        s->aside = s->out;
        s->aside_source = s->source;
        s->aside_full = 1;
    }
    /* The buffer is emptied before it is filled, so that the line shows an edge. */
    s->full = 0;
    update(k);
    put(k, byte, FROM_CONTROLLER, aux);
    update(k);
}

/* ---- output port ---- */

static void write_out_port(I8042 *k, u8 value)
{
    k->s.out_port = value & (OUT_RESET | OUT_A20);
    k->a20(k->a20_opaque, value & OUT_A20);
    if (!(value & OUT_RESET))
        irq_pulse(k->reset);
}

static u8 read_out_port(const I8042 *k)
{
    const I8042State *s = &k->s;

    return OUT_LINES | s->out_port | (s->full ? (s->aux ? OUT_IRQ12 : OUT_IRQ1) : 0);
}

/* ---- commands ---- */

static void set_command_byte(I8042 *k, u8 value)
{
    k->s.ram[0] = value;
    load(k);
}

static void command(I8042 *k, u8 c)
{
    I8042State *s = &k->s;

    s->expect = 0;
    if (c >= 0x20 && c < 0x40) {
        answer(k, s->ram[c & 31], false);
        return;
    }
    if (c >= 0xf0) {
        if (!(c & OUT_RESET))
            irq_pulse(k->reset);
        return;
    }
    switch (c) {
    case 0xa4:                      /* is there a password? no */
        answer(k, 0xf1, false);
        return;
    case 0xa7:
        s->ram[0] |= CB_AUX_OFF;
        return;
    case 0xa8:
        set_command_byte(k, s->ram[0] & (u8)~CB_AUX_OFF);
        return;
    case 0xa9:                      /* interface tests: good */
    case 0xab:
        answer(k, 0, false);
        return;
    case 0xaa:
        s->ram[0] |= CB_SYS;
        answer(k, 0x55, false);
        return;
    case 0xad:
        s->ram[0] |= CB_KBD_OFF;
        return;
    case 0xae:
        set_command_byte(k, s->ram[0] & (u8)~CB_KBD_OFF);
        return;
    case 0xc0:                      /* input port: keyboard not locked, no manufacturing jumper */
        answer(k, 0xb0, false);
        return;
    case 0xd0:
        answer(k, read_out_port(k), false);
        return;
    case 0xdd:
    case 0xdf:
        write_out_port(k, c == 0xdf ? s->out_port | OUT_A20 : s->out_port & (u8)~OUT_A20);
        return;
    case 0xe0:                      /* test inputs */
        answer(k, 0, false);
        return;
    }
    if ((c >= 0x60 && c < 0x80) || c == 0xa5 || (c >= 0xd1 && c <= 0xd4))
        s->expect = c;
    else
        log_once(&k->said, "i8042: command %02x is not supported", c);
}

static void data(I8042 *k, u8 value)
{
    I8042State *s = &k->s;
    u8 c = s->expect;

    s->expect = 0;
    switch (c) {
    case 0:
        s->ram[0] &= (u8)~CB_KBD_OFF;
        ps2_send(k->keyboard, value);
        break;
    case 0xa5:                      /* a password is a string that ends with 0; it is not kept */
        s->expect = value ? c : 0;
        break;
    case 0xd1:
        write_out_port(k, value);
        break;
    case 0xd2:
    case 0xd3:
        answer(k, value, c == 0xd3);
        break;
    case 0xd4:
        s->ram[0] &= (u8)~CB_AUX_OFF;
        ps2_send(k->mouse, value);
        break;
    case 0x60:
        set_command_byte(k, value);
        break;
    default:
        s->ram[c & 31] = value;
    }
    load(k);
}

/* ---- ports ---- */

static u32 data_read(void *opaque, u32 port, unsigned size)
{
    I8042 *k = opaque;
    I8042State *s = &k->s;
    u8 byte = s->out;

    (void)port;
    (void)size;
    if (!s->full)
        return byte;
    s->full = 0;
    if (s->source != FROM_CONTROLLER)
        s->next_ns = clock_ns(k->dev.m, CLOCK_VIRTUAL) + BYTE_NS;
    update(k);
    load(k);
    return byte;
}

static u32 status_read(void *opaque, u32 port, unsigned size)
{
    I8042 *k = opaque;
    const I8042State *s = &k->s;

    (void)port;
    (void)size;
    load(k);                        /* a guest that polls need not wait for the main loop */
    return (u32)(ST_UNLOCKED | (s->full ? ST_OBF : 0) | (s->ram[0] & CB_SYS ? ST_SYS : 0) |
                 (s->command_last ? ST_COMMAND : 0) | (s->full && s->aux ? ST_AUX : 0));
}

static void data_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)port;
    (void)size;
    ((I8042 *)opaque)->s.command_last = 0;
    data(opaque, (u8)value);
}

static void command_write(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)port;
    (void)size;
    ((I8042 *)opaque)->s.command_last = 1;
    command(opaque, (u8)value);
}

static const PortOps data_ops = { data_read, data_write, 1 };
static const PortOps command_ops = { status_read, command_write, 1 };

/* ---- device ---- */

static void i8042_reset(Device *dev)
{
    I8042 *k = (I8042 *)dev;

    k->s.ram[0] = CB_KBD_OFF | CB_AUX_OFF;
    k->s.out_port = OUT_RESET | OUT_A20;
    timer_cancel(&k->timer);
    k->a20(k->a20_opaque, true);
    update(k);
}

static bool i8042_loaded(Device *dev, Error *err)
{
    I8042 *k = (I8042 *)dev;
    const I8042State *s = &k->s;

    if (s->source > FROM_MOUSE || s->aside_source > FROM_MOUSE || s->release & 0x7f ||
        s->next_ns > clock_ns(dev->m, CLOCK_VIRTUAL) + BYTE_NS)
        return error_set(err, "i8042: impossible state");
    update(k);
    timer_arm(&k->timer, s->next_ns);
    return true;
}

static const DeviceClass i8042_class = {
    .name = "i8042", .size = sizeof(I8042), .state = offsetof(I8042, s), .state_size = sizeof(I8042State),
    .fields = i8042_fields, .reset = i8042_reset, .loaded = i8042_loaded,
};

I8042 *i8042_create(Machine *m, Irq irq1, Irq irq12, Irq reset, void (*a20)(void *opaque, bool on),
                    void *a20_opaque)
{
    I8042 *k = device_create(m, &i8042_class);

    k->irq1 = irq1;
    k->irq12 = irq12;
    k->reset = reset;
    k->a20 = a20;
    k->a20_opaque = a20_opaque;
    timer_init(&k->timer, m, CLOCK_VIRTUAL, load_later, k);
    k->keyboard = ps2_keyboard_create(m, load_later, k);
    k->mouse = ps2_mouse_create(m, load_later, k);
    port_map(m, "i8042", 0x60, 1, &data_ops, k);
    port_map(m, "i8042", 0x64, 1, &command_ops, k);
    return k;
}
