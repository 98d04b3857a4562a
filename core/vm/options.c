/*
 * The command line, in the dialect of 2006 and in today's. One table drives parsing and -h: a row an option.
 *
 * Every option may be written with one dash or two. What has no meaning here is accepted, with one line that
 * says why, so that batch files written for other builds run unchanged; what is unknown is refused, with the
 * nearest known name.
 */
#include "config.h"
#include "log.h"
#include "options.h"
#include "version.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bad_value(Parse *p, const char *arg, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!strcmp(p->typed, arg)) /* a bare file name: the argument is all that was typed */
        return error_set(p->err, "%.200s: %s", arg, text);
    return error_set(p->err, "%.40s %.200s: %s", p->typed, arg, text);
}

void note(Parse *p, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_line("%s: %s", p->typed, text);
}

static bool set_flag(Parse *p, const Option *o, const char *arg)
{
    (void)arg;
    *(bool *)((char *)p->cfg + o->field) = o->value;
    return true;
}

static bool set_text(Parse *p, const Option *o, const char *arg)
{
    text_set((char **)((char *)p->cfg + o->field), arg);
    return true;
}

static bool no_effect(Parse *p, const Option *o, const char *arg)
{
    (void)arg;
    note(p, "%s", o->help);
    return true;
}

static ApplyFn show_help, show_version;

#define FIELD(name) offsetof(Config, name)
#define PLACE(iface, index) ((iface) << 8 | (index))

static const Option options[] = {
    {"M machine", "TYPE", GROUP_MACHINE, apply_machine, 0, 0, "pc (default) or isapc; ? lists them"},
    {"cpu", "MODEL", GROUP_MACHINE, apply_cpu, 0, 0,
     "the CPU, as in pentium3 or 486,+feature,-feature; ? lists them"},
    {"m", "SIZE", GROUP_MACHINE, apply_memory, 0, 0, "memory in MiB, or with M or G behind it (default 128)"},
    {"smp", "N", GROUP_MACHINE, apply_smp, 0, 0, "number of CPUs: 1"},
    {"boot", "ORDER", GROUP_MACHINE, apply_boot, 0, 0,
     "drives to boot from: a floppy, c disk, d CD-ROM, n network; order=cd,once=d,menu=on"},
    {"localtime", NULL, GROUP_MACHINE, set_flag, FIELD(rtc_local), true,
     "the guest's clock shows local time, not UTC"},
    {"rtc", "[base=BASE][,clock=host|vm]", GROUP_MACHINE, apply_rtc, 0, 0,
     "utc (default), localtime or a date as 2006-06-17T16:01:21"},
    {"startdate", "DATE", GROUP_MACHINE, apply_startdate, 0, 0, "as -rtc base=DATE"},
    {"L", "DIR", GROUP_MACHINE, apply_firmware_dir, 0, 0,
     "where to look for BIOS files before the built-in ones"},
    {"bios", "FILE", GROUP_MACHINE, set_text, FIELD(bios), 0, "the BIOS to use"},
    {"no-acpi", NULL, GROUP_MACHINE, set_flag, FIELD(acpi), false, "a board without ACPI"},
    {"no-fd-bootchk", NULL, GROUP_MACHINE, set_flag, FIELD(fd_bootchk), false,
     "boot floppies without looking for the boot signature"},
    {"win2k-hack", NULL, GROUP_MACHINE, set_flag, FIELD(win2k_hack), true,
     "for the set-up of Windows 2000, which takes a fast disk for a full one"},
    {"device", "DRIVER,...", GROUP_MACHINE, apply_device, 0, 0,
     "isa-debug-exit or isa-debugcon with iobase=N; ide-hd, ide-cd or floppy with drive=ID; ne2k_pci or "
     "ne2k_isa with netdev=ID"},

    {"fda", "FILE", GROUP_DISK, apply_image, PLACE(IF_FLOPPY, 0), 0, "image in floppy drive A:"},
    {"fdb", "FILE", GROUP_DISK, apply_image, PLACE(IF_FLOPPY, 1), 0, "image in floppy drive B:"},
    {"hda", "FILE", GROUP_DISK, apply_image, PLACE(IF_IDE, 0), 0,
     "first hard disk; a bare file name means this too"},
    {"hdb", "FILE", GROUP_DISK, apply_image, PLACE(IF_IDE, 1), 0, "second hard disk"},
    {"hdc", "FILE", GROUP_DISK, apply_image, PLACE(IF_IDE, 2), 0, "third hard disk"},
    {"hdd", "FILE", GROUP_DISK, apply_image, PLACE(IF_IDE, 3), 0, "fourth hard disk"},
    {"cdrom", "FILE", GROUP_DISK, apply_image, PLACE(IF_IDE, 2), true,
     "image in the CD-ROM drive, in the place of -hdc"},
    {"drive", "file=FILE,...", GROUP_DISK, apply_drive, 0, 0,
     "format=raw if=ide|floppy|none index=N media=disk|cdrom readonly=on snapshot=on id=ID"},
    {"snapshot", NULL, GROUP_DISK, apply_snapshot, 0, 0,
     "writes go to a temporary place, the images stay as they are"},

    {"net", "KIND,...", GROUP_NET, apply_net, NET_NET, 0,
     "nic[,vlan=N][,macaddr=M][,model=ne2k_pci|ne2k_isa]: a card; "
     "user[,vlan=N][,hostfwd=tcp|udp:[HOST]:PORT-[GUEST]:PORT][,tftp=FOLDER][,bootfile=F][,hostname=N][,restrict=on]: "
     "a network of its own at 10.0.2.0/24 that reaches what this computer reaches; "
     "socket[,vlan=N],listen=HOST:PORT | connect=HOST:PORT | mcast=GROUP:PORT | udp=HOST:PORT,localaddr=HOST:PORT; "
     "dump[,vlan=N][,file=F]; none. Without any of these: a card and user. listen=:PORT is reached from this computer only, listen=0.0.0.0:PORT from all"},
    {"netdev", "KIND,id=ID,...", GROUP_NET, apply_net, NET_NETDEV, 0,
     "as -net user, -net socket; the card is -device ne2k_pci,netdev=ID,mac=M"},
    {"nic", "KIND,...", GROUP_NET, apply_net, NET_NIC, 0, "both in one: -nic socket,connect=HOST:PORT,mac=M"},
    {"redir", "tcp|udp:PORT:[GUEST]:PORT", GROUP_NET, apply_net, NET_REDIR, 0,
     "a port of this computer leads to one of the guest in the user network, as hostfwd="},
    {"tftp", "FOLDER", GROUP_NET, apply_net, NET_TFTP, 0, "as -net user,tftp="},
    {"bootp", "FILE", GROUP_NET, apply_net, NET_BOOTP, 0, "as -net user,bootfile="},

    {"kernel", "FILE", GROUP_LINUX, set_text, FIELD(kernel), 0, "boot this Linux kernel or multiboot file"},
    {"initrd", "FILE", GROUP_LINUX, set_text, FIELD(initrd), 0,
     "its initial RAM disk; multiboot: \"module args,module\""},
    {"append", "TEXT", GROUP_LINUX, set_text, FIELD(append), 0, "its command line"},

    {"display", "KIND", GROUP_DISPLAY, apply_display, 0, 0, "sdl (a window, default) or none"},
    {"sdl", NULL, GROUP_DISPLAY, apply_sdl, 0, 0, "as -display sdl"},
    {"nographic", NULL, GROUP_DISPLAY, apply_nographic, 0, 0,
     "no window; serial port and monitor on the console, Ctrl-a h helps"},
    {"full-screen", NULL, GROUP_DISPLAY, set_flag, FIELD(full_screen), true,
     "start in full screen; Ctrl-Alt-f switches"},
    {"vga", "CARD", GROUP_DISPLAY, apply_vga_name, 0, 0, "std (default) or none"},
    {"std-vga", NULL, GROUP_DISPLAY, apply_vga, 0, false, "as -vga std"},
    {"cirrusvga", NULL, GROUP_DISPLAY, apply_vga, 0, true, "accepted; the standard VGA is used"},
    {"vmwarevga", NULL, GROUP_DISPLAY, apply_vga, 0, true, "accepted; the standard VGA is used"},
    {"name", "NAME", GROUP_DISPLAY, set_text, FIELD(name), 0, "the machine's name, for the window's title"},

    {"serial", "PORT", GROUP_PORTS, apply_serial, 0, 0,
     "up to 4 times: stdio, vc, file:NAME, null, none, mon:stdio, tcp:HOST:PORT[,server][,nowait], telnet:..., "
     "udp:HOST:PORT[@HOST:PORT], pipe:NAME, COM1, chardev:ID"},
    {"parallel", "PORT", GROUP_PORTS, apply_parallel, 0, 0, "up to 3 times, as -serial"},
    {"monitor", "PORT", GROUP_PORTS, apply_monitor, 0, 0, "where the monitor is, as -serial (default vc)"},
    {"debugcon", "PORT", GROUP_PORTS, set_text, FIELD(debugcon), 0,
     "what the guest writes to I/O port E9h, as -serial"},
    {"chardev", "KIND,id=ID,...", GROUP_PORTS, apply_chardev, 0, 0,
     "socket,host=H,port=P[,server=on][,wait=off][,telnet=on][,reconnect=N]; udp,host=H,port=P; file,path=F; "
     "pipe,path=F; serial,path=COM1; stdio; vc; null; with mux=on it can be shared"},
    {"mon", "chardev=ID", GROUP_PORTS, apply_mon, 0, 0, "a further monitor; mode=control: for programs (QMP)"},
    {"qmp", "PORT", GROUP_PORTS, apply_qmp, 0, false, "a monitor for programs, as -serial"},
    {"qmp-pretty", "PORT", GROUP_PORTS, apply_qmp, 0, true, "the same, with line breaks"},
    {"gdb", "PORT", GROUP_PORTS, apply_gdb, 0, 0, "a debugger may come in there, as in tcp::1234"},
    {"s", NULL, GROUP_PORTS, apply_gdb, 0, 0, "as -gdb tcp::1234"},

    {"S", NULL, GROUP_RUN, set_flag, FIELD(start_stopped), true, "start paused; the monitor's cont goes on"},
    {"no-reboot", NULL, GROUP_RUN, set_flag, FIELD(no_reboot), true, "end instead of rebooting"},
    {"no-shutdown", NULL, GROUP_RUN, set_flag, FIELD(no_shutdown), true,
     "stop instead of ending when the guest powers off"},
    {"loadvm", "NAME", GROUP_RUN, set_text, FIELD(loadvm), 0, "start from this snapshot (its name or number)"},
    {"no-auto-snapshot", NULL, GROUP_RUN, set_flag, FIELD(no_auto_snapshot), true,
     "loadvm does not keep the present as 'before-loadvm'"},
    {"pidfile", "FILE", GROUP_RUN, set_text, FIELD(pidfile), 0, "write the process number to a file"},
    {"d", "LIST", GROUP_RUN, apply_log, 0, 0, "log these categories; ? lists them"},
    {"D", "FILE", GROUP_RUN, set_text, FIELD(log_file), 0, "the log goes to this file"},
    {"nodefaults", NULL, GROUP_RUN, apply_nodefaults, 0, 0, "no drives and ports that were not asked for"},

    {"h help ?", NULL, GROUP_HELP, show_help, 0, 0, "this list"},
    {"version", NULL, GROUP_HELP, show_version, 0, 0, "the version"},

    {"accel", "NAME", GROUP_NOTE, apply_accel, 0, 0, "the guest always runs under the built-in translator"},
    {"no-kqemu", NULL, GROUP_NOTE, no_effect, 0, 0, "there is no kqemu here: the translator is always used"},
    {"kernel-kqemu enable-kqemu", NULL, GROUP_NOTE, no_effect, 0, 0,
     "kqemu is not needed: the translator is always used"},
    {"enable-kvm no-kvm enable-hax", NULL, GROUP_NOTE, no_effect, 0, 0,
     "the guest always runs under the built-in translator"},
    {"k", "LAYOUT", GROUP_NOTE, set_text, FIELD(keymap), 0,
     "keys reach the guest by their place, its own layout applies"},
    {"user-net dummy-net", NULL, GROUP_NOTE, no_effect, 0, 0, "-net user is the network there is anyway"},
    {"macaddr nics", "X", GROUP_NOTE, no_effect, 0, 0, "-net nic,macaddr= sets a card's address"},
    {"smb", "FOLDER", GROUP_NOTE, no_effect, 0, 0,
     "there is no SMB server of its own; a folder that Windows shares is \\\\10.0.2.2\\NAME in the guest"},
    {"usb", NULL, GROUP_NOTE, no_effect, 0, 0, "USB is not in this build; keyboard and mouse are PS/2"},
    {"usbdevice", "DEVICE", GROUP_NOTE, no_effect, 0, 0,
     "USB is not in this build; keyboard and mouse are PS/2"},
    {"soundhw audio audiodev", "CARD", GROUP_NOTE, no_effect, 0, 0, "sound is not in this build"},
    {"audio-help enable-audio", NULL, GROUP_NOTE, no_effect, 0, 0, "sound is not in this build"},
    {"vnc spice", "X", GROUP_NOTE, no_effect, 0, 0,
     "remote displays are not in this build; the SDL window is used"},
    {"curses", NULL, GROUP_NOTE, no_effect, 0, 0, "not in this build; the SDL window is used"},
    {"g", "MODE", GROUP_NOTE, no_effect, 0, 0, "the guest chooses its screen mode"},
    {"no-frame no-quit alt-grab ctrl-grab portrait show-cursor", NULL, GROUP_NOTE, no_effect, 0, 0,
     "the window has one way of working"},
    {"hdachs", "C,H,S", GROUP_NOTE, no_effect, 0, 0, "the disk's geometry follows from its size"},
    {"mtdblock sd pflash", "FILE", GROUP_NOTE, no_effect, 0, 0, "a PC has no such device"},
    {"pci isa", NULL, GROUP_NOTE, no_effect, 0, 0, "-M pc and -M isapc choose the board"},
    {"p", "PORT", GROUP_NOTE, no_effect, 0, 0, "-gdb tcp::PORT says where a debugger may come in"},
    {"incoming", "URI", GROUP_NOTE, apply_incoming, 0, 0,
     "machines don't move from host to host here; -loadvm NAME starts from a snapshot"},
    {"daemonize", NULL, GROUP_NOTE, no_effect, 0, 0, "a window needs no terminal; start /b does the rest"},
    {"no-hpet", NULL, GROUP_NOTE, no_effect, 0, 0, "the board has no HPET"},
    {"rtc-td-hack tdf no-rtc-td-hack", NULL, GROUP_NOTE, no_effect, 0, 0,
     "lost clock ticks are always made up for"},
    {"no-code-copy singlestep one-insn-per-tb", NULL, GROUP_NOTE, no_effect, 0, 0,
     "the translator needs no such setting"},
    {"icount tb-size watchdog watchdog-action balloon uuid smbios acpitable option-rom dtb object global "
     "overcommit mem-path msg trace sandbox runas chroot seed readconfig action fsdev virtfs tpmdev plugin "
     "numa set",
     "X", GROUP_NOTE, no_effect, 0, 0, "not in this build"},
    {"mem-prealloc no-user-config nodefconfig semihosting bt", NULL, GROUP_NOTE, no_effect, 0, 0,
     "not in this build"},
};

static const char *const group_title[GROUP_COUNT] = {
    [GROUP_MACHINE] = "Machine",
    [GROUP_DISK] = "Disks",
    [GROUP_NET] = "Networks",
    [GROUP_LINUX] = "Kernels without a boot loader",
    [GROUP_DISPLAY] = "Picture",
    [GROUP_PORTS] = "Ports",
    [GROUP_RUN] = "Running",
    [GROUP_HELP] = "Help",
    [GROUP_NOTE] = "Accepted, without effect in this build",
};

/* Whether name is one of the blank-separated names. */
static bool has_name(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *s = names; *s;) {
        size_t len = strcspn(s, " ");
        if (len == n && !memcmp(s, name, n))
            return true;
        s += len;
        s += *s == ' ';
    }
    return false;
}

static const Option *find_option(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (has_name(options[i].names, name))
            return &options[i];
    }
    return NULL;
}

/* Levenshtein's distance of two names, of which only the first 31 characters count. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned row[32];
    a_len = a_len > 31 ? 31 : a_len;
    b_len = b_len > 31 ? 31 : b_len;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned best = row[j - 1] < row[j] ? row[j - 1] + 1 : row[j] + 1;
            row[j] = change < best ? change : best;
        }
    }
    return row[b_len];
}

static bool unknown_option(Parse *p, const char *name)
{
    const char *nearest = NULL;
    size_t nearest_len = 0;
    unsigned best = strlen(name) <= 2 ? 2 : 3; /* further away it is no slip of the finger */
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        for (const char *s = options[i].names; *s;) {
            size_t len = strcspn(s, " ");
            unsigned d = distance(name, strlen(name), s, len);
            if (d < best && d < len) {
                best = d;
                nearest = s;
                nearest_len = len;
            }
            s += len;
            s += *s == ' ';
        }
    }
    if (nearest)
        return error_set(p->err, "%.100s: unknown option, did you mean -%.*s?", p->typed, (int)nearest_len,
                         nearest);
    return error_set(p->err, "%.100s: unknown option; -h lists all", p->typed);
}

/* "  -a, -b ARG     help"; a long list of names is broken, and the help stands below it. */
static void print_option(const Option *o)
{
    enum { HELP_COLUMN = 27, WIDTH = 76 };
    int column = printf("  ");
    for (const char *s = o->names; *s;) {
        int len = (int)strcspn(s, " ");
        if (column + len > WIDTH)
            column = printf("\n  ") - 1;
        column += printf("-%.*s", len, s);
        s += len;
        s += *s == ' ';
        if (*s)
            column += printf(", ");
    }
    if (o->arg)
        column += printf(" %s", o->arg);
    if (column >= HELP_COLUMN)
        column = printf("\n") - 1;
    printf("%*s%s\n", HELP_COLUMN - column, "", o->help);
}

static bool show_help(Parse *p, const Option *o, const char *arg)
{
    (void)o, (void)arg;
    printf("qemu " PROGRAM_VERSION ": runs PC operating systems in a window\n"
           "usage: qemu [options] [disk image]     (every option with - or --)\n");
    for (int g = 0; g < GROUP_COUNT; g++) {
        printf("\n%s:\n", group_title[g]);
        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
            if (options[i].group == (OptionGroup)g)
                print_option(&options[i]);
        }
    }
    printf("\nIn the window: Ctrl-Alt takes and releases the mouse, Ctrl-Alt-f full screen,\n"
           "Ctrl-Alt-1 guest, Ctrl-Alt-2 monitor, Ctrl-Alt-3 serial port.\n");
    p->exit_ok = true;
    return true;
}

static bool show_version(Parse *p, const Option *o, const char *arg)
{
    (void)o, (void)arg;
    printf("QEMU for Windows, own implementation, version " PROGRAM_VERSION "\n");
    p->exit_ok = true;
    return true;
}

/* One option with its argument; *used counts the arguments taken. */
static bool apply_one(Parse *p, int argc, char **argv, int *used)
{
    static const Option bare_file = {.names = "hda", .field = PLACE(IF_IDE, 0)};
    const char *word = argv[0];
    p->typed = word;
    *used = 1;
    if (word[0] != '-' || !word[1])
        return apply_image(p, &bare_file, word);
    const char *name = word + 1 + (word[1] == '-');
    const Option *o = find_option(name);
    if (!o)
        return unknown_option(p, name);
    if (!o->arg)
        return o->apply(p, o, "");
    if (argc < 2)
        return error_set(p->err, "%s: %s is missing behind it", word, o->arg);
    *used = 2;
    bool ok = o->apply(p, o, argv[1]);
    if (ok && o->group == GROUP_NOTE && o->apply == set_text)
        note(p, "%s", o->help);
    return ok;
}

OptionsResult options_parse(int argc, char **argv, Config *cfg, Error *err)
{
    Parse p = {.cfg = cfg, .err = err};
    config_default(cfg);
    for (int i = 1, used; i < argc; i += used) {
        if (!apply_one(&p, argc - i, argv + i, &used))
            return OPTIONS_ERROR;
        if (p.exit_ok)
            return OPTIONS_EXIT_OK;
    }
    if (!machine_finish(&p) || !drives_finish(&p))
        return OPTIONS_ERROR;
    return OPTIONS_RUN;
}
