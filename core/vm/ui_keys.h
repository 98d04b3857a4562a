/*
 * Keys that are typed by command (sendkey) and not by hand. Part of the UI hub: ui.c owns one KeySender.
 */
#ifndef VM_UI_KEYS_H
#define VM_UI_KEYS_H

#include "timer.h"
#include "ui.h"

enum { UI_MAX_DOWN = 32, SEND_COMBO = 8, SEND_QUEUE = 1024 };

typedef struct {
    u16 code[SEND_COMBO];
    u8 count;
    u32 hold_ms;
} KeyCombo;

typedef struct {
    Timer timer;                    /* virtual time: a stopped guest keeps its keys waiting */
    const InputSink *sink;
    void *sink_opaque;
    KeyCombo *queue;                /* a ring, made when first needed */
    u32 head, count;
    bool pressed;                   /* the combination at head is down */
} KeySender;

void key_sender_init(KeySender *ks, Machine *m);
void key_sender_end(KeySender *ks);
void key_sender_sink(KeySender *ks, const InputSink *sink, void *opaque);
bool key_sender_add(KeySender *ks, const char *combination, unsigned hold_ms, Error *err);

#endif
