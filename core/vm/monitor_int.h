/*
 * The monitor's inside: what its files share. Main thread, machine lock held.
 *
 *   monitor.c        a monitor on a character device: output, command lines, help, info
 *   monitor_edit.c   line editing, history, completion keys
 *   monitor_cmds.c   the tables of commands and info topics
 *   monitor_mem.c    x, xp, print      monitor_expr.c   expressions      monitor_hw.c   ports, sums, memory to files
 *   monitor_snapshot.c   savevm, loadvm, delvm, info snapshots
 */
#ifndef VM_MONITOR_INT_H
#define VM_MONITOR_INT_H

#include "machine.h"
#include "monitor.h"

enum { LINE_MAX_LEN = 4096, HISTORY_MAX = 128, MAX_ARGS = 16 };

/* ---- line editor ---- */
typedef struct {
    char text[LINE_MAX_LEN];
    int len, cursor;
    bool too_long;                  /* something did not fit: the line is refused when it ends */
    char *history[HISTORY_MAX];
    int histories, browse;          /* browse == histories: the line being typed */
    char *typed;                    /* kept while browsing */
    int escape;                     /* 0 none, 1 after ESC, 2 in ESC [ or ESC O */
    int escape_param;
    bool last_cr;                   /* CR LF is one end of line */
} LineEdit;

void edit_byte(Monitor *mon, u8 byte);
void edit_show(Monitor *mon);       /* prompt and line, anew */
void edit_restart(LineEdit *e);     /* what was typed is gone; the history stays */
void edit_free(LineEdit *e);

/* ---- monitor ---- */
struct Monitor {
    Machine *m;
    Chardev *chr;
    LineEdit edit;
    u8 *out;                        /* waiting for the character device */
    size_t out_len, out_cap, out_sent;
    bool out_lost;
    bool greeted;
    unsigned mouse_buttons;
    bool busy;                      /* a command is at work: its prompt is still to come */
    u8 *ahead;                      /* what was typed meanwhile */
    size_t ahead_len;
    const char *info_option;        /* behind the topic's name, or NULL: while `info` runs */
    char mem_format;                /* of the last x or xp */
    u8 mem_size;
    Monitor *next;                  /* all monitors of the program */
};

typedef struct {
    int argc;                       /* words behind the command's name */
    char *argv[MAX_ARGS];
    const char *rest;               /* everything behind the name and the format, as typed */
    const char *format;             /* behind the '/', "" without */
} Args;

typedef enum {
    COMPLETE_NONE, COMPLETE_COMMAND, COMPLETE_INFO, COMPLETE_KEY, COMPLETE_DRIVE, COMPLETE_LOG, COMPLETE_FILE,
    COMPLETE_DRIVE_FILE,            /* a drive, then a file */
    COMPLETE_SNAPSHOT
} Complete;

typedef struct {
    const char *name, *alias;       /* alias may be NULL */
    int min_args, max_args;         /* -1: takes the rest of the line */
    bool takes_format;              /* x/8xw */
    Complete complete;
    const char *params, *help;
    void (*run)(Monitor *mon, const Args *a);
} Command;

typedef struct {
    const char *name, *help;
    void (*show)(Monitor *mon);
} InfoTopic;

extern const Command monitor_commands[];        /* ends with a NULL name */
extern const InfoTopic monitor_topics[];        /* ends with a NULL name */

/* A device's topic, in a list of the machine. */
struct InfoNode {
    const char *name, *help;
    void (*show)(void *opaque, PrintFn *print, void *print_opaque);
    void *opaque;
    struct InfoNode *next;
};

void monitor_puts(Monitor *mon, const char *text);
const Command *monitor_find(const char *name, size_t len);
/* The i-th word that may complete `typed`, which is of this kind; NULL past the last. Ask from 0 on. */
const char *monitor_candidate(Monitor *mon, Complete kind, const char *typed, int i);
void monitor_help(Monitor *mon, const Args *a);
void monitor_info(Monitor *mon, const Args *a);

/* *p moves behind the expression. False: err says what is wrong. */
bool monitor_expr(Monitor *mon, const char **p, u64 *value, Error *err);

/* monitor_hw.c */
typedef void CommandFn(Monitor *mon, const Args *a);
CommandFn monitor_i, monitor_o, monitor_sum, monitor_memsave, monitor_pmemsave, monitor_nmi, monitor_cpu,
    monitor_boot_set, monitor_mouse_set, monitor_no_usb, monitor_no_capture, monitor_no_hot_plug;
void info_no_kqemu(Monitor *mon), info_no_usb(Monitor *mon), info_no_capture(Monitor *mon),
    info_no_profile(Monitor *mon), info_no_vnc(Monitor *mon), info_mice(Monitor *mon);

/* A command that goes on after it returned: no prompt and no further command before monitor_ready(). */
void monitor_busy(Monitor *mon);
void monitor_ready(Monitor *mon);

void monitor_savevm(Monitor *mon, const Args *a);
void monitor_loadvm(Monitor *mon, const Args *a);
void monitor_delvm(Monitor *mon, const Args *a);
void monitor_snapshot_picture(Monitor *mon, const Args *a);
void monitor_info_snapshots(Monitor *mon);

void monitor_x(Monitor *mon, const Args *a);
void monitor_xp(Monitor *mon, const Args *a);
void monitor_p(Monitor *mon, const Args *a);

#endif
