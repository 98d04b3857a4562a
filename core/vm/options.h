/*
 * Inside of the command line parser: what its files share. Nobody else includes this.
 *
 *   options.c          the table of options, the loop over argv, -h
 *   options_machine.c  options about the machine: memory, CPU, clock, boot order, display, ports
 *   options_drive.c    disks, and -device
 *   options_chardev.c  -chardev, -mon, -qmp, -gdb
 *   options_config.c   the Config itself and "driver,key=value" lists
 */
#ifndef VM_OPTIONS_H
#define VM_OPTIONS_H

#include "config.h"
#include "error.h"
#include "types.h"

typedef struct {
    Config *cfg;
    Error *err;
    const char *typed; /* the option as it was typed, for messages */
    bool exit_ok;      /* a list was printed: end with success */
    bool no_defaults;  /* -nodefaults */
    bool snapshot;     /* -snapshot */
    bool monitor_set, serial_set, parallel_set, display_set, net_set;
    int serials, parallels, devices, nets, drives, firmware_dirs, chardevs, monitors;
} Parse;

typedef enum {
    GROUP_MACHINE,
    GROUP_DISK,
    GROUP_NET,
    GROUP_LINUX,
    GROUP_DISPLAY,
    GROUP_PORTS,
    GROUP_RUN,
    GROUP_HELP,
    GROUP_NOTE,
    GROUP_COUNT
} OptionGroup;

typedef struct Option Option;
typedef bool ApplyFn(Parse *p, const Option *o, const char *arg);

struct Option {
    const char *names; /* all spellings, separated by a blank */
    const char *arg;   /* what its argument is called, NULL: it has none */
    OptionGroup group;
    ApplyFn *apply;
    size_t field;     /* for set_flag, set_text: offset in Config; for drives: which one */
    bool value;       /* for set_flag */
    const char *help; /* for GROUP_NOTE: why it has no effect */
};

/* "-m 12q: message"; returns false. */
bool bad_value(Parse *p, const char *arg, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* "-net: message" to the log: the option is accepted, and this is why nothing comes of it. */
void note(Parse *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

char *text_dup(const char *s); /* never NULL */
void text_set(char **field, const char *s);
bool parse_number(const char *s, u64 *value);  /* decimal, or hexadecimal with 0x; nothing behind it */
bool parse_on_off(const char *s, bool *value); /* on off yes no true false, "" is on */

/* Cuts the next element off a list, in place: "a,b=c,,d" gives key "a" value NULL, then key "b" value "c,d".
 */
bool spec_next(char **list, char **key, char **value);

/* options_machine.c */
ApplyFn apply_machine, apply_cpu, apply_accel, apply_smp, apply_memory, apply_boot, apply_rtc,
    apply_startdate, apply_firmware_dir, apply_vga, apply_vga_name, apply_display, apply_sdl, apply_nographic,
    apply_serial, apply_parallel, apply_monitor, apply_log, apply_net, apply_incoming;
bool add_net(Parse *p, NetOption option, const char *spec); /* for apply_device, too */
bool machine_finish(Parse *p); /* defaults that depend on other options */

/* options_chardev.c */
ApplyFn apply_chardev, apply_mon, apply_qmp, apply_gdb;

/* options_drive.c */
ApplyFn apply_image, apply_drive, apply_snapshot, apply_device, apply_nodefaults;
bool drives_finish(Parse *p); /* free places, empty default drives, -snapshot */

#endif
