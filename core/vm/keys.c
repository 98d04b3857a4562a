/*
 * Key names and their scancodes (set 1, IBM PC/AT Technical Reference and the extended keys of the
 * 101/102-key keyboard), and the queue of key combinations that sendkey types. The names are those that
 * QEMU's sendkey has always used.
 */
#include "ui_keys.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    u16 code;
} keys[] = {
    { "shift", 0x2a }, { "shift_r", 0x36 }, { "alt", 0x38 }, { "alt_r", 0xe038 }, { "ctrl", 0x1d },
    { "ctrl_r", 0xe01d },
    { "menu", 0xe05d }, { "esc", 0x01 },
    { "1", 0x02 }, { "2", 0x03 }, { "3", 0x04 }, { "4", 0x05 }, { "5", 0x06 },
    { "6", 0x07 }, { "7", 0x08 }, { "8", 0x09 }, { "9", 0x0a }, { "0", 0x0b },
    { "minus", 0x0c }, { "equal", 0x0d }, { "backspace", 0x0e }, { "tab", 0x0f },
    { "q", 0x10 }, { "w", 0x11 }, { "e", 0x12 }, { "r", 0x13 }, { "t", 0x14 },
    { "y", 0x15 }, { "u", 0x16 }, { "i", 0x17 }, { "o", 0x18 }, { "p", 0x19 },
    { "bracket_left", 0x1a }, { "bracket_right", 0x1b }, { "ret", 0x1c },
    { "a", 0x1e }, { "s", 0x1f }, { "d", 0x20 }, { "f", 0x21 }, { "g", 0x22 },
    { "h", 0x23 }, { "j", 0x24 }, { "k", 0x25 }, { "l", 0x26 },
    { "semicolon", 0x27 }, { "apostrophe", 0x28 }, { "grave_accent", 0x29 }, { "backslash", 0x2b },
    { "z", 0x2c }, { "x", 0x2d }, { "c", 0x2e }, { "v", 0x2f }, { "b", 0x30 }, { "n", 0x31 }, { "m", 0x32 },
    { "comma", 0x33 }, { "dot", 0x34 }, { "slash", 0x35 }, { "asterisk", 0x37 }, { "spc", 0x39 },
    { "caps_lock", 0x3a },
    { "f1", 0x3b }, { "f2", 0x3c }, { "f3", 0x3d }, { "f4", 0x3e }, { "f5", 0x3f }, { "f6", 0x40 },
    { "f7", 0x41 }, { "f8", 0x42 }, { "f9", 0x43 }, { "f10", 0x44 }, { "f11", 0x57 }, { "f12", 0x58 },
    { "num_lock", 0x45 }, { "scroll_lock", 0x46 },
    { "kp_divide", 0xe035 }, { "kp_multiply", 0x37 }, { "kp_subtract", 0x4a }, { "kp_add", 0x4e },
    { "kp_enter", 0xe01c },
    { "kp_decimal", 0x53 }, { "kp_0", 0x52 }, { "kp_1", 0x4f }, { "kp_2", 0x50 }, { "kp_3", 0x51 },
    { "kp_4", 0x4b },
    { "kp_5", 0x4c }, { "kp_6", 0x4d }, { "kp_7", 0x47 }, { "kp_8", 0x48 }, { "kp_9", 0x49 },
    { "kp_comma", 0x7e }, { "kp_equals", 0x59 },
    { "sysrq", 0x54 }, { "less", 0x56 }, { "print", 0xe037 }, { "pause", 0xe11d },
    { "home", 0xe047 }, { "up", 0xe048 }, { "pgup", 0xe049 }, { "left", 0xe04b }, { "right", 0xe04d },
    { "end", 0xe04f },
    { "down", 0xe050 }, { "pgdn", 0xe051 }, { "insert", 0xe052 }, { "delete", 0xe053 },
    { "meta_l", 0xe05b }, { "meta_r", 0xe05c }, { "compose", 0xe05d },
    { "ro", 0x73 }, { "hiragana", 0x77 }, { "henkan", 0x79 }, { "muhenkan", 0x7b },
    { "katakanahiragana", 0x70 },
    { "yen", 0x7d },
    { "power", 0xe05e }, { "sleep", 0xe05f }, { "wake", 0xe063 },
    { "audionext", 0xe019 }, { "audioprev", 0xe010 }, { "audiostop", 0xe024 }, { "audioplay", 0xe022 },
    { "audiomute", 0xe020 }, { "volumeup", 0xe030 }, { "volumedown", 0xe02e }, { "mail", 0xe06c },
    { "calculator", 0xe021 }, { "computer", 0xe06b }, { "ac_home", 0xe032 }, { "ac_bookmarks", 0xe066 },
    { "ac_refresh", 0xe067 }, { "ac_forward", 0xe069 }, { "ac_back", 0xe06a },
};

static const u64 gap_ns = 10 * 1000 * 1000;     /* between two combinations */

const char *ui_key_name(int i)
{
    return i >= 0 && i < (int)ARRAY_LEN(keys) ? keys[i].name : NULL;
}

static bool find_key(const char *name, size_t len, u16 *code)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strlen(keys[i].name) == len && !memcmp(keys[i].name, name, len)) {
            *code = keys[i].code;
            return true;
        }
    }
    /* 0x1c: a scancode as a number; 0x80 and above stand for the extended keys */
    if (len > 2 && len <= 6 && name[0] == '0' && (name[1] == 'x' || name[1] == 'X')) {
        char text[8] = { 0 };
        char *end;
        memcpy(text, name, len);
        unsigned long v = strtoul(text, &end, 16);
        if (!*end && v & 0x7f && (v < 0x100 || v >> 8 == 0xe0)) {
            *code = (u16)(v & 0x80 || v > 0xff ? 0xe000 | (v & 0x7f) : v);
            return true;
        }
    }
    return false;
}

bool ui_scancode(const char *key_name, u16 *scancode)
{
    return find_key(key_name, strlen(key_name), scancode);
}

/* ---- the queue ---- */

static void press(KeySender *ks)
{
    const KeyCombo *k = &ks->queue[ks->head];
    ks->pressed = true;
    for (int i = 0; ks->sink && i < k->count; i++)
        ks->sink->key(ks->sink_opaque, k->code[i], true);
    timer_arm(&ks->timer, clock_ns(ks->timer.m, CLOCK_VIRTUAL) + (u64)k->hold_ms * 1000000);
}

static void release(KeySender *ks)
{
    const KeyCombo *k = &ks->queue[ks->head];
    for (int i = k->count - 1; ks->sink && i >= 0; i--)
        ks->sink->key(ks->sink_opaque, k->code[i], false);
    ks->pressed = false;
    ks->head = (ks->head + 1) % SEND_QUEUE;
    ks->count--;
    if (ks->count)
        timer_arm(&ks->timer, clock_ns(ks->timer.m, CLOCK_VIRTUAL) + gap_ns);
}

static void sender_fire(void *opaque)
{
    KeySender *ks = opaque;
    if (ks->pressed)
        release(ks);
    else if (ks->count)
        press(ks);
}

void key_sender_init(KeySender *ks, Machine *m)
{
    memset(ks, 0, sizeof *ks);
    timer_init(&ks->timer, m, CLOCK_VIRTUAL, sender_fire, ks);
}

void key_sender_end(KeySender *ks)
{
    timer_cancel(&ks->timer);
    free(ks->queue);
}

void key_sender_sink(KeySender *ks, const InputSink *sink, void *opaque)
{
    ks->sink = sink;
    ks->sink_opaque = opaque;
}

bool key_sender_add(KeySender *ks, const char *combination, unsigned hold_ms, Error *err)
{
    KeyCombo k = { .hold_ms = hold_ms };
    for (const char *p = combination;;) {
        size_t len = strcspn(p, "-");
        u16 code;
        if (!find_key(p, len, &code))
            return error_set(err, "'%.*s' is no key; TAB or `help sendkey` lists them",
                             (int)(len > 40 ? 40 : len), p);
        if (k.count == SEND_COMBO)
            return error_set(err, "at most %d keys can be pressed together", SEND_COMBO);
        k.code[k.count++] = code;
        if (!p[len])
            break;
        p += len + 1;
    }
    if (!ks->queue)
        ks->queue = calloc(SEND_QUEUE, sizeof *ks->queue);
    if (!ks->queue || ks->count == SEND_QUEUE)
        return error_set(err, "%d key combinations are waiting already", SEND_QUEUE);
    ks->queue[(ks->head + ks->count) % SEND_QUEUE] = k;
    if (!ks->count++)
        press(ks);
    else if (!timer_armed(&ks->timer))
        timer_arm(&ks->timer, clock_ns(ks->timer.m, CLOCK_VIRTUAL) + gap_ns);
    return true;
}
