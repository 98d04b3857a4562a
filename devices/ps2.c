/*
 * PS/2 keyboard (102 keys, scan code sets 1 and 2) and PS/2 wheel mouse. Source: IBM PS/2 technical
 * reference, "Keyboard" (commands, scan codes) and "Mouse" (commands, data report); Microsoft, "PS/2
 * IntelliMouse" (sample rates 200, 100, 80 turn the wheel on).
 *
 * Each device has two queues: replies to commands, and what its keys and movements make; replies go first.
 * A key is only reported as pressed while there is room for its release behind it, so a release is never
 * lost.
 *
 * Keys come from ui.h as set 1 codes. Set 2 is made from them by the inverse of the controller's
 * translation. The keyboard repeats the last key that was pressed at the rate the guest set; repeats from
 * the host are ignored.
 *
 * Not modelled: scan code set 3 (the keyboard says which set it is in), the shift codes that surround the
 * grey keys while Num Lock is on, five-button mice.
 */
#include "ps2.h"

#include "ps2_codes.h"

#include "../core/vm/device.h"
#include "../core/vm/log.h"
#include "../core/vm/machine.h"
#include "../core/vm/ui.h"

#include <string.h>

enum { REPLIES = 16, QUEUE = 1024 };
enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };

/* ---- what both have ---- */

typedef struct {
    u8 reply[REPLIES];
    u8 queue[QUEUE];                /* a ring */
    u16 head, count;
    u8 replies;
    u8 last;                        /* byte taken last, for RESEND */
    u8 expect;                      /* command whose parameter comes next; 0: none */
    u8 pad;
} PlugState;
#define PLUG_SAVE(Type) \
    SAVE(Type, plug.reply), SAVE(Type, plug.queue), SAVE(Type, plug.head), SAVE(Type, plug.count), \
    SAVE(Type, plug.replies), SAVE(Type, plug.last), SAVE(Type, plug.expect), SAVE(Type, plug.pad)

struct Ps2 {
    Device dev;
    PlugState *plug;                /* in the state of the keyboard or mouse */
    void (*send)(Ps2 *ps2, u8 byte);
    void (*taken)(Ps2 *ps2);        /* the queue has more room. May be NULL */
    void (*changed)(void *opaque);
    void *opaque;
};

bool ps2_ready(const Ps2 *ps2) { return ps2->plug->replies || ps2->plug->count; }

u8 ps2_take(Ps2 *ps2)
{
    PlugState *p = ps2->plug;

    if (p->replies) {
        p->last = p->reply[0];
        memmove(p->reply, p->reply + 1, --p->replies);
        return p->last;
    }
    if (!p->count)
        return 0;
    p->last = p->queue[p->head];
    p->head = (p->head + 1) % QUEUE;
    p->count--;
    if (ps2->taken)
        ps2->taken(ps2);
    return p->last;
}

void ps2_send(Ps2 *ps2, u8 byte)
{
    ps2->send(ps2, byte);
    if (ps2_ready(ps2))
        ps2->changed(ps2->opaque);
}

static void reply(Ps2 *ps2, u8 byte)
{
    PlugState *p = ps2->plug;

    if (p->replies < REPLIES)
        p->reply[p->replies++] = byte;
}

static unsigned room(const Ps2 *ps2) { return QUEUE - ps2->plug->count; }

/* All or nothing. */
static void enqueue(Ps2 *ps2, const u8 *bytes, unsigned n)
{
    PlugState *p = ps2->plug;

    if (n > room(ps2))
        return;
    for (unsigned i = 0; i < n; i++)
        p->queue[(p->head + p->count++) % QUEUE] = bytes[i];
    ps2->changed(ps2->opaque);
}

static bool plug_loaded(const PlugState *p, const Device *dev, Error *err)
{
    if (p->head < QUEUE && p->count <= QUEUE && p->replies <= REPLIES)
        return true;
    return error_set(err, "%s: impossible queue", dev->id);
}

/* ---- keyboard ---- */

enum {
    KEY_ALT = 0x38, KEY_CTRL = 0x1d, KEY_LSHIFT = 0x2a, KEY_RSHIFT = 0x36, KEY_PRINT = 0x37,
    KEY_SYSRQ = 0x54, KEY_SCROLL = 0x46, KEY_NUM = 0x45, EXTENDED = 0x80, KEY_PAUSE = 0xff,
};
enum { PRINT_FULL, PRINT_PLAIN, PRINT_SYSRQ };
enum { LONGEST_RELEASE = 6, RATE_DEFAULT = 0x2b };

typedef struct {
    PlugState plug;
    u8 down[32];                    /* a bit a key: set 1 code, + EXTENDED */
    u8 told[32];                    /* the guest takes it for pressed */
    u8 enabled, leds, set, rate;
    u8 print;                       /* how PrintScreen was pressed: PRINT_* */
    u8 repeats;                     /* key that repeats; 0: none */
    u8 pad[2];
} KeyboardState;

typedef struct {
    Ps2 ps2;
    KeyboardState s;
    Timer timer;                    /* the next repeat */
    bool strange_hands;             /* the state was loaded: its keys are not held by anybody here */
    bool said;
} Keyboard;

static const SaveField keyboard_fields[] = {
    PLUG_SAVE(KeyboardState), SAVE(KeyboardState, down), SAVE(KeyboardState, told),
    SAVE(KeyboardState, enabled), SAVE(KeyboardState, leds), SAVE(KeyboardState, set),
    SAVE(KeyboardState, rate), SAVE(KeyboardState, print), SAVE(KeyboardState, repeats),
    SAVE(KeyboardState, pad), SAVE_END
};

static bool get_bit(const u8 *bits, u8 i) { return bits[i >> 3] >> (i & 7) & 1; }

static void put_bit(u8 *bits, u8 i, bool on)
{
    u8 bit = (u8)(1 << (i & 7));

    bits[i >> 3] = on ? bits[i >> 3] | bit : bits[i >> 3] & (u8)~bit;
}

/* The bytes of one press or several. */
typedef struct { u8 byte[16]; unsigned n; } Codes;

static void add(Codes *c, u8 set, u8 prefix, u8 code, bool release)
{
    if (prefix)
        c->byte[c->n++] = prefix;
    if (set == 1) {
        c->byte[c->n++] = code | (release ? 0x80 : 0);
        return;
    }
    if (release)
        c->byte[c->n++] = 0xf0;
    c->byte[c->n++] = ps2_set2_of(code);
}

static bool is_held(const KeyboardState *s, u8 code)
{
    return get_bit(s->down, code) || get_bit(s->down, code | EXTENDED);
}

static Codes press_codes(KeyboardState *s, u8 key)
{
    Codes c = { .n = 0 };
    u8 set = s->set;

    if (key == KEY_PAUSE && is_held(s, KEY_CTRL)) {     /* Break; it is released at once */
        add(&c, set, 0xe0, KEY_SCROLL, false);
        add(&c, set, 0xe0, KEY_SCROLL, true);
    } else if (key == KEY_PAUSE) {
        add(&c, set, 0xe1, KEY_CTRL, false);
        add(&c, set, 0, KEY_NUM, false);
        add(&c, set, 0xe1, KEY_CTRL, true);
        add(&c, set, 0, KEY_NUM, true);
    } else if (key == (KEY_PRINT | EXTENDED)) {
        bool plain = is_held(s, KEY_CTRL) || get_bit(s->down, KEY_LSHIFT) || get_bit(s->down, KEY_RSHIFT);

        s->print = is_held(s, KEY_ALT) ? PRINT_SYSRQ : plain ? PRINT_PLAIN : PRINT_FULL;
        if (s->print == PRINT_FULL)
            add(&c, set, 0xe0, KEY_LSHIFT, false);
        if (s->print == PRINT_SYSRQ)
            add(&c, set, 0, KEY_SYSRQ, false);
        else
            add(&c, set, 0xe0, KEY_PRINT, false);
    } else {
        add(&c, set, key & EXTENDED ? 0xe0 : 0, key & 0x7f, false);
    }
    return c;
}

static Codes release_codes(const KeyboardState *s, u8 key)
{
    Codes c = { .n = 0 };
    u8 set = s->set;

    if (key == KEY_PAUSE)
        return c;
    if (key == (KEY_PRINT | EXTENDED) && s->print == PRINT_SYSRQ) {
        add(&c, set, 0, KEY_SYSRQ, true);
        return c;
    }
    add(&c, set, key & EXTENDED ? 0xe0 : 0, key & 0x7f, true);
    if (key == (KEY_PRINT | EXTENDED) && s->print == PRINT_FULL)
        add(&c, set, 0xe0, KEY_LSHIFT, true);
    return c;
}

static u64 now_ns(const Device *dev) { return clock_ns(dev->m, CLOCK_VIRTUAL); }

/* Rate byte: bits 6-5 delay in quarters of a second, less one; 4-3 a, 2-0 b: (8 + b) * 2^a / 240 seconds. */
static u64 repeat_delay(const KeyboardState *s) { return ((s->rate >> 5 & 3) + 1ull) * NS_PER_SEC / 4; }
static u64 repeat_period(const KeyboardState *s)
{
    return ((8ull + (s->rate & 7)) << (s->rate >> 3 & 3)) * NS_PER_SEC / 240;
}

static void stop_repeat(Keyboard *k)
{
    k->s.repeats = 0;
    timer_cancel(&k->timer);
}

static unsigned count_told(const KeyboardState *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < sizeof(s->told); i++)
        n += (unsigned)__builtin_popcount(s->told[i]);
    return n;
}

/* Room for these bytes and for the release of every key that the guest then takes for pressed. */
static bool fits(const Keyboard *k, const Codes *c)
{
    return c->n + (count_told(&k->s) + 1) * LONGEST_RELEASE <= room(&k->ps2);
}

static void press(Keyboard *k, u8 key)
{
    KeyboardState *s = &k->s;
    Codes c;

    if (!s->enabled || get_bit(s->told, key))
        return;
    c = press_codes(s, key);
    if (!fits(k, &c))
        return;
    if (key != KEY_PAUSE) {
        put_bit(s->told, key, true);
        s->repeats = key;
        timer_arm(&k->timer, now_ns(&k->ps2.dev) + repeat_delay(s));
    }
    enqueue(&k->ps2, c.byte, c.n);
}

static void release(Keyboard *k, u8 key)
{
    KeyboardState *s = &k->s;
    Codes c;

    if (s->repeats == key)
        stop_repeat(k);
    if (!s->enabled || !get_bit(s->told, key))
        return;                     /* while scanning is off it waits for the keyboard to be enabled */
    put_bit(s->told, key, false);
    c = release_codes(s, key);
    enqueue(&k->ps2, c.byte, c.n);
}

static void keyboard_key(void *opaque, u16 scancode, bool down)
{
    Keyboard *k = opaque;
    u8 prefix = scancode >> 8, key = scancode & 0x7f;

    if (prefix == 0xe1)
        key = KEY_PAUSE;
    else if (prefix)
        key |= EXTENDED;
    if (!(key & 0x7f) || get_bit(k->s.down, key) == down)
        return;
    put_bit(k->s.down, key, down);
    if (down)
        press(k, key);
    else
        release(k, key);
}

/* Scanning goes on: releases that fell into the pause are made up for. */
static void enable(Keyboard *k)
{
    KeyboardState *s = &k->s;

    s->enabled = 1;
    for (unsigned key = 1; key < 256; key++) {
        if (get_bit(s->told, (u8)key) && !get_bit(s->down, (u8)key))
            release(k, (u8)key);
    }
}

static void release_all(Keyboard *k)
{
    k->strange_hands = false;
    stop_repeat(k);
    memset(k->s.down, 0, sizeof(k->s.down));
    if (k->s.enabled)
        enable(k);
}

static void repeat(void *opaque)
{
    Keyboard *k = opaque;
    KeyboardState *s = &k->s;

    if (k->strange_hands)
        release_all(k);
    if (!s->repeats || !s->enabled)
        return;
    if (!s->plug.count) {           /* a guest that doesn't take them gets no more */
        Codes c = press_codes(s, s->repeats);

        enqueue(&k->ps2, c.byte, c.n);
    }
    timer_arm(&k->timer, now_ns(&k->ps2.dev) + repeat_period(s));
}

static void keyboard_defaults(Keyboard *k)
{
    k->s.rate = RATE_DEFAULT;
    k->s.set = 2;
    k->s.plug.count = 0;
    stop_repeat(k);
}

static void keyboard_power_on(Keyboard *k)
{
    keyboard_defaults(k);
    k->s.leds = 0;
    k->s.enabled = 1;
    k->strange_hands = false;
    k->s.plug.replies = k->s.plug.expect = 0;
    memset(k->s.told, 0, sizeof(k->s.told));
}

static void keyboard_parameter(Keyboard *k, u8 command, u8 byte)
{
    KeyboardState *s = &k->s;

    switch (command) {
    case 0xed:
        s->leds = byte & 7;
        break;
    case 0xf3:
        s->rate = byte & 0x7f;
        break;
    case 0xf0:
        reply(&k->ps2, ACK);
        if (byte == 0)
            reply(&k->ps2, s->set);
        else if (byte == 1 || byte == 2)
            s->set = byte;
        else
            log_once(&k->said, "keyboard: scan code set %u is not supported", byte);
        return;
    }
    reply(&k->ps2, ACK);
}

static void keyboard_send(Ps2 *ps2, u8 byte)
{
    Keyboard *k = (Keyboard *)ps2;
    KeyboardState *s = &k->s;
    u8 command = s->plug.expect;

    s->plug.expect = 0;
    if (command && byte < 0xed) {
        keyboard_parameter(k, command, byte);
        return;
    }
    switch (byte) {
    case 0xed:                      /* LEDs, scan code set, typematic rate: a parameter follows */
    case 0xf0:
    case 0xf3:
        s->plug.expect = byte;
        break;
    case 0xee:
        reply(ps2, 0xee);
        return;
    case 0xf2:
        reply(ps2, ACK);
        reply(ps2, 0xab);
        reply(ps2, 0x83);
        return;
    case 0xf4:
        reply(ps2, ACK);
        enable(k);
        return;
    case 0xf5:
        keyboard_defaults(k);
        s->enabled = 0;
        break;
    case 0xf6:
        keyboard_defaults(k);
        break;
    case 0xf7: case 0xf8: case 0xf9: case 0xfa:     /* key types of set 3: nothing to change in ours */
    case 0xfb: case 0xfc: case 0xfd:
        break;
    case 0xfe:
        reply(ps2, s->plug.last);
        return;
    case 0xff:
        keyboard_power_on(k);
        reply(ps2, ACK);
        reply(ps2, BAT_OK);
        return;
    default:
        reply(ps2, RESEND);
        return;
    }
    reply(ps2, ACK);
}

static void keyboard_reset(Device *dev)
{
    keyboard_power_on((Keyboard *)dev);
}

static bool keyboard_loaded(Device *dev, Error *err)
{
    Keyboard *k = (Keyboard *)dev;
    KeyboardState *s = &k->s;

    if (!plug_loaded(&s->plug, dev, err))
        return false;
    if (s->set < 1 || s->set > 2)
        return error_set(err, "%s: scan code set %u", dev->id, s->set);
    k->strange_hands = true;
    timer_arm(&k->timer, now_ns(dev));
    return true;
}

static const DeviceClass keyboard_class = {
    .name = "ps2-keyboard", .size = sizeof(Keyboard), .state = offsetof(Keyboard, s),
    .state_size = sizeof(KeyboardState), .fields = keyboard_fields, .reset = keyboard_reset,
    .loaded = keyboard_loaded,
};

Ps2 *ps2_keyboard_create(Machine *m, void (*changed)(void *opaque), void *opaque)
{
    static const InputSink sink = { .key = keyboard_key };
    Keyboard *k = device_create(m, &keyboard_class);

    k->ps2.plug = &k->s.plug;
    k->ps2.send = keyboard_send;
    k->ps2.changed = changed;
    k->ps2.opaque = opaque;
    timer_init(&k->timer, m, CLOCK_VIRTUAL, repeat, k);
    ui_set_keyboard(m->ui, &sink, k);
    return &k->ps2;
}

/* ---- mouse ---- */

enum { FAR = 32767, MOTION_ROOM = 32 };

typedef struct {
    PlugState plug;
    u64 next_ns;                    /* no movement is reported before: the sample rate */
    s32 dx, dy, dz;                 /* not reported yet; y upwards, z towards the person */
    u8 buttons, reported;           /* bit 0 left, 1 right, 2 middle */
    u8 enabled, remote, wrap;
    u8 scaling;                     /* 2:1 */
    u8 resolution, rate;
    u8 id;                          /* 0: standard, 3: with a wheel */
    u8 rates[2];                    /* the two sample rates set before */
    u8 pad[1];
} MouseState;

typedef struct {
    Ps2 ps2;
    MouseState s;
    Timer timer;                    /* the next report */
} Mouse;

static const SaveField mouse_fields[] = {
    PLUG_SAVE(MouseState), SAVE(MouseState, next_ns), SAVE(MouseState, dx), SAVE(MouseState, dy),
    SAVE(MouseState, dz), SAVE(MouseState, buttons), SAVE(MouseState, reported), SAVE(MouseState, enabled),
    SAVE(MouseState, remote), SAVE(MouseState, wrap), SAVE(MouseState, scaling), SAVE(MouseState, resolution),
    SAVE(MouseState, rate), SAVE(MouseState, id), SAVE(MouseState, rates), SAVE(MouseState, pad), SAVE_END
};

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* Takes what a report can carry of a movement. */
static int portion(s32 *left, int low, int high)
{
    int v = clamp(*left, low, high);

    *left -= v;
    return v;
}

static int scaled(int v)
{
    static const u8 small[6] = { 0, 1, 1, 3, 6, 9 };
    int a = v < 0 ? -v : v;

    a = a < 6 ? small[a] : 2 * a;
    return clamp(v < 0 ? -a : a, -255, 255);
}

/* The data report of what has gathered. */
static unsigned report(MouseState *s, u8 packet[4], bool stream)
{
    int dx = portion(&s->dx, -255, 255), dy = portion(&s->dy, -255, 255);

    if (stream && s->scaling) {
        dx = scaled(dx);
        dy = scaled(dy);
    }
    packet[0] = (u8)(0x08 | s->buttons | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0));
    packet[1] = (u8)dx;
    packet[2] = (u8)dy;
    s->reported = s->buttons;
    if (s->id != 3) {
        s->dz = 0;
        return 3;
    }
    packet[3] = (u8)portion(&s->dz, -8, 7);
    return 4;
}

/* Reports what has gathered, if the mouse may speak; buttons at once, movement at the sample rate. */
static void try_report(Mouse *m)
{
    MouseState *s = &m->s;
    u64 now = now_ns(&m->ps2.dev);
    bool clicked = s->buttons != s->reported;
    u8 packet[4];

    if (!s->enabled || s->remote || s->wrap || (!clicked && !s->dx && !s->dy && !s->dz))
        return;
    if (s->plug.count > (clicked ? QUEUE - 4 : MOTION_ROOM))
        return;                     /* taken() comes back */
    if (!clicked && now < s->next_ns) {
        if (!timer_armed(&m->timer))
            timer_arm(&m->timer, s->next_ns);
        return;
    }
    s->next_ns = now + NS_PER_SEC / s->rate;
    enqueue(&m->ps2, packet, report(s, packet, true));
    if (s->dx || s->dy || s->dz)
        timer_arm(&m->timer, s->next_ns);
}

static void mouse_timer(void *opaque) { try_report(opaque); }
static void mouse_taken(Ps2 *ps2) { try_report((Mouse *)ps2); }

static void mouse_moved(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    Mouse *m = opaque;
    MouseState *s = &m->s;

    s->buttons = buttons & 7;
    if (s->enabled || s->remote) {
        s->dx = clamp(s->dx + clamp(dx, -FAR, FAR), -FAR, FAR);
        s->dy = clamp(s->dy - clamp(dy, -FAR, FAR), -FAR, FAR);
        s->dz = clamp(s->dz + clamp(dz, -FAR, FAR), -FAR, FAR);
    }
    try_report(m);
}

static void forget_motion(Mouse *m)
{
    m->s.dx = m->s.dy = m->s.dz = 0;
    m->s.plug.count = 0;
    timer_cancel(&m->timer);
}

static void mouse_defaults(Mouse *m)
{
    MouseState *s = &m->s;

    s->rate = 100;
    s->resolution = 2;
    s->scaling = s->remote = s->enabled = s->wrap = 0;
    forget_motion(m);
}

static void mouse_power_on(Mouse *m)
{
    mouse_defaults(m);
    m->s.id = 0;
    m->s.rates[0] = m->s.rates[1] = 0;
    m->s.plug.replies = m->s.plug.expect = 0;
}

static void set_rate(MouseState *s, u8 rate)
{
    s->rate = rate ? rate : 100;
    if (s->rates[0] == 200 && s->rates[1] == 100 && rate == 80)
        s->id = 3;
    s->rates[0] = s->rates[1];
    s->rates[1] = rate;
}

static void reply_status(Mouse *m)
{
    const MouseState *s = &m->s;
    unsigned b = s->buttons;

    reply(&m->ps2, ACK);
    reply(&m->ps2, (u8)(s->remote << 6 | s->enabled << 5 | s->scaling << 4 | (b & 1) << 2 | (b & 4) >> 1 |
                        (b & 2) >> 1));
    reply(&m->ps2, s->resolution);
    reply(&m->ps2, s->rate);
}

static void reply_report(Mouse *m)
{
    u8 packet[4];
    unsigned n = report(&m->s, packet, false);

    reply(&m->ps2, ACK);
    for (unsigned i = 0; i < n; i++)
        reply(&m->ps2, packet[i]);
}

/* The commands that only set something and are acknowledged; false: unknown. */
static bool mouse_setting(Mouse *m, u8 byte)
{
    MouseState *s = &m->s;

    switch (byte) {
    case 0xe6:
    case 0xe7:
        s->scaling = byte & 1;
        return true;
    case 0xe8:                      /* resolution, sample rate: a parameter follows */
    case 0xf3:
        s->plug.expect = byte;
        return true;
    case 0xea:
        s->remote = 0;
        return true;
    case 0xec:
        s->wrap = 0;
        return true;
    case 0xee:
        s->wrap = 1;
        return true;
    case 0xf0:
        s->remote = 1;
        forget_motion(m);
        return true;
    case 0xf4:
        s->enabled = 1;
        forget_motion(m);
        s->reported = s->buttons;
        return true;
    case 0xf5:
        s->enabled = 0;
        forget_motion(m);
        return true;
    case 0xf6:
        mouse_defaults(m);
        return true;
    }
    return false;
}

static void mouse_send(Ps2 *ps2, u8 byte)
{
    Mouse *m = (Mouse *)ps2;
    MouseState *s = &m->s;
    u8 command = s->plug.expect;

    if (s->wrap && byte != 0xff && byte != 0xec) {
        reply(ps2, byte);
        return;
    }
    s->plug.expect = 0;
    if (command) {
        if (command == 0xe8)
            s->resolution = byte & 3;
        else
            set_rate(s, byte);
        reply(ps2, ACK);
        return;
    }
    switch (byte) {
    case 0xe9:
        reply_status(m);
        return;
    case 0xeb:
        reply_report(m);
        return;
    case 0xf2:
        reply(ps2, ACK);
        reply(ps2, s->id);
        return;
    case 0xfe:
        reply(ps2, s->plug.last);
        return;
    case 0xff:
        mouse_power_on(m);
        reply(ps2, ACK);
        reply(ps2, BAT_OK);
        reply(ps2, 0);
        return;
    }
    reply(ps2, mouse_setting(m, byte) ? ACK : RESEND);
}

static void mouse_reset(Device *dev)
{
    mouse_power_on((Mouse *)dev);
}

static bool mouse_loaded(Device *dev, Error *err)
{
    Mouse *m = (Mouse *)dev;
    MouseState *s = &m->s;

    if (!plug_loaded(&s->plug, dev, err))
        return false;
    if (!s->rate)
        return error_set(err, "%s: sample rate 0", dev->id);
    s->dx = clamp(s->dx, -FAR, FAR);
    s->dy = clamp(s->dy, -FAR, FAR);
    s->dz = clamp(s->dz, -FAR, FAR);
    s->buttons &= 7;
    timer_arm(&m->timer, now_ns(dev));
    return true;
}

static const DeviceClass mouse_class = {
    .name = "ps2-mouse", .size = sizeof(Mouse), .state = offsetof(Mouse, s), .state_size = sizeof(MouseState),
    .fields = mouse_fields, .reset = mouse_reset, .loaded = mouse_loaded,
};

Ps2 *ps2_mouse_create(Machine *m, void (*changed)(void *opaque), void *opaque)
{
    static const InputSink sink = { .mouse = mouse_moved };
    Mouse *mouse = device_create(m, &mouse_class);

    mouse->ps2.plug = &mouse->s.plug;
    mouse->ps2.send = mouse_send;
    mouse->ps2.taken = mouse_taken;
    mouse->ps2.changed = changed;
    mouse->ps2.opaque = opaque;
    timer_init(&mouse->timer, m, CLOCK_VIRTUAL, mouse_timer, mouse);
    ui_set_mouse(m->ui, &sink, mouse);
    return &mouse->ps2;
}
