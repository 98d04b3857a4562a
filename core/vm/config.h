/*
 * What the command line says, as plain values. options.c fills it from either dialect; the board reads it.
 */
#ifndef VM_CONFIG_H
#define VM_CONFIG_H

#include "error.h"
#include "types.h"

enum {
    CFG_DRIVES = 16, CFG_SERIALS = 4, CFG_PARALLELS = 3, CFG_DEVICES = 32, CFG_NETS = 32, CFG_CHARDEVS = 16,
    CFG_MONITORS = 8,
};

typedef enum { IF_IDE, IF_FLOPPY, IF_NONE } DriveIf;

/* What becomes of a request that the host could not do. STOP: the machine pauses, `cont` tries again. */
typedef enum { ON_ERROR_DEFAULT, ON_ERROR_REPORT, ON_ERROR_STOP, ON_ERROR_ENOSPC, ON_ERROR_IGNORE } OnError;

typedef struct {
    DriveIf iface;
    int index;                  /* IDE: 0..3 hda..hdd; floppy: 0..1 */
    bool used, cdrom, readonly, snapshot;
    bool writes_asked;          /* readonly=off was typed: disks of the host are written */
    char *file;                 /* NULL: drive without a medium */
    char *format;               /* NULL: probe (raw is never probed into another format silently) */
    char *id;
    OnError werror, rerror;     /* default: enospc (stop when the disk is full, else report), report */
} DriveConfig;

typedef enum { DISPLAY_SDL, DISPLAY_NONE } DisplayKind;
typedef enum { VGA_STD, VGA_NONE } VgaKind;

/* One -net, -netdev, -nic, -redir, -tftp, -bootp, or -device with a network card: net/config.c reads it. */
typedef enum { NET_NET, NET_NETDEV, NET_NIC, NET_DEVICE, NET_REDIR, NET_TFTP, NET_BOOTP } NetOption;
typedef struct {
    NetOption option;
    char *spec;                 /* NULL: not used */
} NetConfig;

typedef struct {
    bool isapc;                 /* -M isapc */
    bool acpi;                  /* false: -no-acpi */
    u64 ram_bytes;
    char *cpu_model;            /* NULL: the default */
    char *name;                 /* -name, NULL */
    DriveConfig drive[CFG_DRIVES];
    char boot[16];              /* order, letters a c d n; "" = default */
    char boot_once[16];         /* the same for the first start only; "" = as boot */
    bool boot_menu;
    bool fd_bootchk;            /* false: -no-fd-bootchk */
    char *kernel, *initrd, *append;
    char *bios;                 /* -bios file; NULL: the board's */
    char *firmware_dir[8];      /* -L, in order of search */
    VgaKind vga;
    DisplayKind display;
    bool full_screen;
    bool nographic;
    char *serial[CFG_SERIALS];  /* character device specs, NULL: not there */
    char *parallel[CFG_PARALLELS];
    char *monitor;              /* NULL: "vc" with a window */
    char *debugcon;             /* -debugcon spec for port E9h, NULL: none */
    struct { char *id, *spec; } chardev[CFG_CHARDEVS];          /* -chardev, as a spec of chardev.h */
    struct { char *spec; bool control, pretty; } mon[CFG_MONITORS];     /* -mon, -qmp: further monitors */
    char *gdb;                  /* -gdb, -s: where a debugger may come in, NULL: nowhere */
    struct { bool used; char *spec; } device[CFG_DEVICES];     /* -device: driver,key=value,... */
    NetConfig net[CFG_NETS];    /* in the order of the command line */
    bool rtc_local;             /* -localtime, -rtc base=localtime */
    bool rtc_stands;            /* -rtc clock=vm: the date stands while the machine is paused */
    s64 rtc_base;               /* seconds since 1970 for -rtc base=DATE, or -1: the host's clock */
    bool no_reboot, no_shutdown, start_stopped;
    bool win2k_hack;
    char *loadvm;               /* the snapshot to start from */
    bool no_auto_snapshot;      /* loadvm does not keep the present */
    char *pidfile;
    char *keymap;
    char *log_file;             /* -D */
    u32 log_mask;               /* -d */
} Config;

/* The value of key in a "driver,key=value,..." spec; copies at most size-1 bytes; false: not there. */
bool spec_get(const char *spec, const char *key, char *out, size_t size);

typedef enum { OPTIONS_RUN, OPTIONS_EXIT_OK, OPTIONS_ERROR } OptionsResult;

/* Parses a command line (UTF-8). OPTIONS_EXIT_OK: -h or -version was printed to stdout. Notes about
 * options that are accepted and have no meaning here go to stderr by log_line(). */
OptionsResult options_parse(int argc, char **argv, Config *cfg, Error *err);
void config_default(Config *cfg);
void config_free(Config *cfg);
void config_copy(Config *to, const Config *from);
bool config_has_boot_medium(const Config *cfg);     /* false: nothing was named to boot from */
bool config_uses_stdio(const Config *cfg);          /* a port or monitor is on standard input and output */

#endif
