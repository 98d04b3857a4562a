/*
 * Options about the machine: board, memory, CPU, clock, boot order, picture and ports.
 */
#include "config.h"
#include "log.h"
#include "cpu.h"
#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RAM_MIN_MIB = 1, RAM_MAX_MIB = 3584 }; /* above 3.5 GiB lie the PCI devices of this board */

static bool wants_list(const char *arg)
{
    return !strcmp(arg, "?") || !strcmp(arg, "help");
}

static bool print_list(Parse *p, const char *text)
{
    fputs(text, stdout);
    p->exit_ok = true;
    return true;
}

/* ---- board, CPU, memory ---- */

static bool machine_type(Parse *p, const char *arg, const char *type)
{
    if (!strcmp(type, "pc") || !strncmp(type, "pc-i440fx", 9) || !strncmp(type, "pc-0.", 5) ||
        !strncmp(type, "pc-1.", 5))
        p->cfg->isapc = false;
    else if (!strcmp(type, "isapc"))
        p->cfg->isapc = true;
    else
        return bad_value(p, arg, "unknown machine; there are pc and isapc");
    return true;
}

bool apply_machine(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (wants_list(arg))
        return print_list(
            p,
            "pc      PC with PCI: Intel 440FX and PIIX3 (default)\nisapc   PC without PCI, as before 1993\n");
    char *copy = text_dup(arg), *rest = copy, *key, *value;
    bool ok = true, first = true;
    for (; ok && spec_next(&rest, &key, &value); first = false) {
        if (first && !value)
            ok = machine_type(p, arg, key);
        else if (!strcmp(key, "type"))
            ok = machine_type(p, arg, value ? value : "");
        else if (!strcmp(key, "acpi"))
            ok = parse_on_off(value ? value : "", &p->cfg->acpi) ||
                 bad_value(p, arg, "acpi=: expected on or off");
        else if (strcmp(key, "accel"))
            note(p, "%s= has no effect here", key);
    }
    free(copy);
    return ok;
}

bool apply_cpu(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (wants_list(arg)) {
        printf("%s\n", cpu_model_names());
        return print_list(p, "the first is the default; with features: -cpu pentium3,-sse,+sse2\n");
    }
    text_set(&p->cfg->cpu_model, arg);
    return true;
}

bool apply_accel(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (wants_list(arg))
        return print_list(p, "tcg     the built-in translator, which every other name stands for too\n");
    if (strncmp(arg, "tcg", 3))
        note(p, "%s: the guest always runs under the built-in translator", arg);
    return true;
}

bool apply_smp(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    u64 cpus = 1, factor, product = 1;
    char *copy = text_dup(arg), *rest = copy, *key, *value;
    bool ok = true, counted = false;
    while (ok && spec_next(&rest, &key, &value)) {
        if (!value) {
            ok = parse_number(key, &cpus);
            counted = true;
        } else {
            ok = parse_number(value, &factor) && factor >= 1 && factor <= 1024;
            if (ok && !strcmp(key, "cpus")) {
                cpus = factor;
                counted = true;
            } else if (ok && strcmp(key, "maxcpus") && product <= 1024) {
                product *= factor;
            }
        }
    }
    free(copy);
    if (!ok || (counted && !cpus))
        return bad_value(p, arg, "expected a number of CPUs");
    if ((counted ? cpus : product) > 1)
        return bad_value(p, arg, "this build has machines with one CPU");
    return true;
}

bool apply_memory(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    const char *digits = arg, *text = arg;
    char first[32];
    size_t n = strcspn(arg, ",");
    if (arg[n]) {
        note(p, "only the size counts, %s has no effect", arg + n + 1);
        if (n >= sizeof first)
            return bad_value(p, arg, "not a size");
        memcpy(first, arg, n);
        first[n] = 0;
        digits = text = first;
    }
    if (!strncmp(text, "size=", 5))
        digits = text += 5;
    char number[24];
    n = strspn(digits, "0123456789");
    u64 mib;
    bool ok = n > 0 && n < sizeof number - 1;
    if (ok) {
        memcpy(number, digits, n);
        number[n] = 0;
        const char *unit = digits + n;
        ok = parse_number(number, &mib) && mib < (1ull << 32) &&
             (!*unit || (strchr("kKmMgG", *unit) && !unit[1]));
        if (ok && (*unit == 'g' || *unit == 'G'))
            mib <<= 10;
        if (ok && (*unit == 'k' || *unit == 'K'))
            mib >>= 10;
    }
    if (!ok)
        return bad_value(p, arg, "not a size: expected %d to %d MiB, as in 128, 512M or 1G", RAM_MIN_MIB,
                         RAM_MAX_MIB);
    if (mib < RAM_MIN_MIB || mib > RAM_MAX_MIB)
        return bad_value(p, arg, "memory goes from %d to %d MiB", RAM_MIN_MIB, RAM_MAX_MIB);
    p->cfg->ram_bytes = mib << 20;
    return true;
}

/* ---- boot order, clock ---- */

static bool boot_order(Parse *p, const char *arg, const char *order, char *to)
{
    if (!*order || strlen(order) >= sizeof p->cfg->boot)
        return bad_value(p, arg, "expected letters of a (floppy), c (disk), d (CD-ROM), n (network)");
    for (const char *s = order; *s; s++) {
        if (!strchr("acdn", *s))
            return bad_value(p, arg,
                             "no drive '%c': a is the floppy, c the disk, d the CD-ROM, n the network", *s);
        if (strchr(s + 1, *s))
            return bad_value(p, arg, "'%c' stands there twice", *s);
    }
    strcpy(to, order);
    return true;
}

bool apply_boot(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    char *copy = text_dup(arg), *rest = copy, *key, *value;
    bool ok = true, first = true;
    for (; ok && spec_next(&rest, &key, &value); first = false) {
        if (first && !value) {
            ok = boot_order(p, arg, key, p->cfg->boot);
        } else if (!strcmp(key, "order")) {
            ok = boot_order(p, arg, value ? value : "", p->cfg->boot);
        } else if (!strcmp(key, "once")) {
            ok = boot_order(p, arg, value ? value : "", p->cfg->boot_once);
        } else if (!strcmp(key, "menu")) {
            ok = parse_on_off(value ? value : "", &p->cfg->boot_menu) ||
                 bad_value(p, arg, "menu=: expected on or off");
        } else if (!strcmp(key, "splash") || !strcmp(key, "splash-time") || !strcmp(key, "reboot-timeout") ||
                   !strcmp(key, "strict")) {
            note(p, "%s= has no effect here", key);
        } else {
            ok = bad_value(p, arg, "unknown word %s", key);
        }
    }
    free(copy);
    return ok;
}

static bool digits_at(const char **s, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++) {
        if (!isdigit((unsigned char)**s))
            return false;
        *value = *value * 10 + *(*s)++ - '0';
    }
    return true;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar: years are counted from March, so that the leap
 * day is the last. */
static s64 days_since_1970(int year, int month, int day)
{
    static const u16 before_month[12] = {306, 337, 0,   31,  61,  92,
                                         122, 153, 184, 214, 245, 275}; /* from 1 March */
    s64 y = month <= 2 ? year - 1 : year;
    return y * 365 + y / 4 - y / 100 + y / 400 + before_month[month - 1] + day - 1 - 719468;
}

/* YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS */
static bool parse_date(const char *s, s64 *unix_s)
{
    static const u8 month_days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day, hour = 0, minute = 0, second = 0;
    if (!digits_at(&s, 4, &year) || *s++ != '-' || !digits_at(&s, 2, &month) || *s++ != '-' ||
        !digits_at(&s, 2, &day))
        return false;
    if (*s && (*s++ != 'T' || !digits_at(&s, 2, &hour) || *s++ != ':' || !digits_at(&s, 2, &minute) ||
               *s++ != ':' || !digits_at(&s, 2, &second) || *s))
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 1970 || month < 1 || month > 12 || day < 1 ||
        day > month_days[month - 1] + (leap && month == 2) || hour > 23 || minute > 59 || second > 59)
        return false;
    *unix_s = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

static bool rtc_base(Parse *p, const char *arg, const char *value)
{
    p->cfg->rtc_base = -1;
    p->cfg->rtc_local = !strcmp(value, "localtime");
    if (p->cfg->rtc_local || !strcmp(value, "utc") || !strcmp(value, "now"))
        return true;
    return parse_date(value, &p->cfg->rtc_base) ||
           bad_value(p, arg, "expected utc, localtime or a date from 1970 on as in 2006-06-17T16:01:21");
}

bool apply_startdate(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    return rtc_base(p, arg, arg);
}

static bool rtc_clock(Parse *p, const char *arg, const char *value)
{
    p->cfg->rtc_stands = !strcmp(value, "vm");
    return p->cfg->rtc_stands || !strcmp(value, "host") || !strcmp(value, "rt") ||
           bad_value(p, arg, "clock= is host (the date goes on while the machine is paused), rt (the same) or vm");
}

bool apply_rtc(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    char *copy = text_dup(arg), *rest = copy, *key, *value;
    bool ok = true;
    while (ok && spec_next(&rest, &key, &value)) {
        if (!strcmp(key, "base"))
            ok = rtc_base(p, arg, value ? value : "");
        else if (!strcmp(key, "clock"))
            ok = rtc_clock(p, arg, value ? value : "");
        else if (!strcmp(key, "driftfix"))
            note(p, "driftfix= has no effect here: the clock always makes up for lost ticks");
        else
            ok = bad_value(p, arg, "unknown word %s", key);
    }
    free(copy);
    return ok;
}

bool apply_firmware_dir(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (p->firmware_dirs == (int)ARRAY_LEN(p->cfg->firmware_dir))
        return bad_value(p, arg, "more than %d directories", (int)ARRAY_LEN(p->cfg->firmware_dir));
    p->cfg->firmware_dir[p->firmware_dirs++] = text_dup(arg);
    return true;
}

/* ---- picture ---- */

bool apply_vga_name(Parse *p, const Option *o, const char *arg)
{
    static const char *const absent[] = {"cirrus", "vmware", "qxl", "virtio", "tcx", "cg3", "xenfb"};
    (void)o;
    if (wants_list(arg))
        return print_list(
            p, "std     standard VGA with Bochs VBE extensions (default)\nnone    no graphics card\n");
    p->cfg->vga = VGA_STD;
    if (!strcmp(arg, "std"))
        return true;
    if (!strcmp(arg, "none")) {
        p->cfg->vga = VGA_NONE;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
        if (!strcmp(arg, absent[i])) {
            note(p, "%s is not in this build; the standard VGA is used", arg);
            return true;
        }
    }
    return bad_value(p, arg, "unknown graphics card; there are std and none");
}

/* -std-vga, -cirrusvga, -vmwarevga: the card's name is the option's. */
bool apply_vga(Parse *p, const Option *o, const char *arg)
{
    (void)arg;
    if (o->value)
        note(p, "this graphics card is not in this build; the standard VGA is used");
    p->cfg->vga = VGA_STD;
    return true;
}

bool apply_sdl(Parse *p, const Option *o, const char *arg)
{
    (void)o, (void)arg;
    p->cfg->display = DISPLAY_SDL;
    p->display_set = true;
    return true;
}

bool apply_display(Parse *p, const Option *o, const char *arg)
{
    static const char *const windows[] = {"gtk",       "cocoa",        "curses", "vnc",
                                          "spice-app", "egl-headless", "dbus",   "default"};
    (void)o;
    if (wants_list(arg))
        return print_list(p, "sdl     a window (default)\nnone    no picture\n");
    char *copy = text_dup(arg), *rest = copy, *key, *value;
    if (!spec_next(&rest, &key, &value))
        key = copy;
    bool known = !strcmp(key, "sdl") || !strcmp(key, "none");
    p->cfg->display = !strcmp(key, "none") ? DISPLAY_NONE : DISPLAY_SDL;
    p->display_set = true;
    for (size_t i = 0; i < ARRAY_LEN(windows) && !known; i++) {
        known = !strcmp(key, windows[i]) || !strncmp(key, "vnc=", 4);
        if (known)
            note(p, "%s is not in this build; the SDL window is used", key);
    }
    bool ok = known || bad_value(p, arg, "unknown display; there are sdl and none");
    while (ok && spec_next(&rest, &key, &value)) {
        if (!strcmp(key, "full-screen"))
            ok = parse_on_off(value ? value : "", &p->cfg->full_screen) ||
                 bad_value(p, arg, "full-screen=: expected on or off");
        else
            note(p, "%s= has no effect here", key);
    }
    free(copy);
    return ok;
}

bool apply_nographic(Parse *p, const Option *o, const char *arg)
{
    (void)o, (void)arg;
    p->cfg->nographic = true;
    p->cfg->display = DISPLAY_NONE;
    return true;
}

/* ---- ports ---- */

bool apply_serial(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (p->serials == CFG_SERIALS)
        return bad_value(p, arg, "a PC has %d serial ports", CFG_SERIALS);
    text_set(&p->cfg->serial[p->serials++], arg);
    p->serial_set = true;
    return true;
}

bool apply_parallel(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (p->parallels == CFG_PARALLELS)
        return bad_value(p, arg, "a PC has %d parallel ports", CFG_PARALLELS);
    text_set(&p->cfg->parallel[p->parallels++], arg);
    p->parallel_set = true;
    return true;
}

bool apply_monitor(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    text_set(&p->cfg->monitor, arg);
    p->monitor_set = true;
    return true;
}

/* ---- log, networks, and what this build lacks ---- */

bool apply_log(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    if (wants_list(arg)) {
        printf("%s\n", log_names());
        p->exit_ok = true;
        return true;
    }
    return log_parse(arg, &p->cfg->log_mask) ||
           bad_value(p, arg, "unknown category; there are: %s", log_names());
}

bool add_net(Parse *p, NetOption option, const char *spec)
{
    if (p->nets == CFG_NETS)
        return bad_value(p, spec, "more than %d network options", CFG_NETS);
    p->cfg->net[p->nets].option = option;
    p->cfg->net[p->nets++].spec = text_dup(spec);
    return true;
}

bool apply_net(Parse *p, const Option *o, const char *arg)
{
    p->net_set |= o->field < NET_DEVICE;
    return add_net(p, (NetOption)o->field, arg);
}

/* Going on from another state than the one asked for would not be what was asked for. */
bool apply_incoming(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    return bad_value(p, arg, "machines don't move from host to host here; -loadvm starts from a snapshot");
}

/* ---- after all options ---- */

/* A port on "mon:SPEC" brings the monitor with it: the SPEC, or NULL. */
static const char *shared_port(const Config *cfg)
{
    const char *port[] = {cfg->serial[0],   cfg->serial[1],   cfg->serial[2],   cfg->serial[3],
                          cfg->parallel[0], cfg->parallel[1], cfg->parallel[2], cfg->debugcon};
    for (size_t i = 0; i < ARRAY_LEN(port); i++) {
        if (port[i] && !strncmp(port[i], "mon:", 4))
            return port[i];
    }
    return NULL;
}

/* -nographic: the serial port and the monitor share the terminal. A -serial stdio beside it means the same.
 */
static void nographic_ports(Parse *p)
{
    Config *cfg = p->cfg;
    if (!p->serial_set && config_uses_stdio(cfg))
        text_set(&cfg->serial[0], "null");
    else if (!p->serial_set)
        text_set(&cfg->serial[0], p->monitor_set ? "stdio" : "mon:stdio");
    else if (!p->monitor_set && cfg->serial[0] && !strcmp(cfg->serial[0], "stdio"))
        text_set(&cfg->serial[0], "mon:stdio");
    if (!p->monitor_set && !shared_port(cfg))
        text_set(&cfg->monitor, config_uses_stdio(cfg) ? "none" : "stdio");
}

static void drop_none(char **spec)
{
    if (*spec && !strcmp(*spec, "none"))
        text_set(spec, NULL);
}

/* A card, and the user network; a card that -device named stands for the first. */
static bool add_default_net(Parse *p)
{
    bool card = false;

    for (int i = 0; i < p->nets; i++)
        card |= p->cfg->net[i].option == NET_DEVICE;
    return card || (add_net(p, NET_NET, "nic") && add_net(p, NET_NET, "user"));
}

bool machine_finish(Parse *p)
{
    Config *cfg = p->cfg;
    if (!cfg->kernel && (cfg->initrd || cfg->append))
        return error_set(p->err, "%s: only together with -kernel", cfg->initrd ? "-initrd" : "-append");
    const char *unseen = cfg->display == DISPLAY_NONE ? "null" : "vc";
    if (cfg->nographic && !p->no_defaults)
        nographic_ports(p);
    if (!p->no_defaults) {
        if (!p->serial_set && !cfg->serial[0])
            text_set(&cfg->serial[0], unseen);
        if (!p->parallel_set)
            text_set(&cfg->parallel[0], unseen);
        if (!p->monitor_set && !cfg->monitor)
            text_set(&cfg->monitor, shared_port(cfg) ? shared_port(cfg) : unseen);
    }
    for (int i = 0; i < CFG_SERIALS; i++)
        drop_none(&cfg->serial[i]);
    for (int i = 0; i < CFG_PARALLELS; i++)
        drop_none(&cfg->parallel[i]);
    if (!p->net_set && !p->no_defaults && !add_default_net(p))
        return false;
    if (!cfg->monitor)
        text_set(&cfg->monitor, "none");
    drop_none(&cfg->debugcon);
    return true;
}
