/*
 * Disks on the command line, in both dialects (-hda FILE and -drive file=FILE,...), and -device.
 *
 * A drive that names no place (index) gets a free one after all options have been read, so that the order of
 * options does not matter. A PC has a floppy drive and a CD-ROM drive even when nothing is in them.
 */
#include "config.h"
#include "options.h"

#include <stdlib.h>
#include <string.h>

enum { IDE_PLACES = 4, FLOPPY_PLACES = 2, CDROM_PLACE = 2, ANYWHERE = -1 };

/* field of an Option row for apply_image: iface << 8 | index */

static DriveConfig *drive_new(Parse *p, const char *arg)
{
    if (p->drives == CFG_DRIVES) {
        bad_value(p, arg, "more than %d drives", CFG_DRIVES);
        return NULL;
    }
    DriveConfig *d = &p->cfg->drive[p->drives++];
    d->used = true;
    return d;
}

static DriveConfig *drive_at(Config *cfg, DriveIf iface, int index)
{
    for (int i = 0; i < CFG_DRIVES; i++) {
        DriveConfig *d = &cfg->drive[i];
        if (d->used && d->iface == iface && d->index == index)
            return d;
    }
    return NULL;
}

static const char *place_name(DriveIf iface, int index)
{
    static const char *const ide[] = {"hda", "hdb", "hdc (the place of -cdrom)", "hdd"};
    static const char *const floppy[] = {"fda", "fdb"};
    return iface == IF_FLOPPY ? floppy[index] : ide[index];
}

static bool place_free(Parse *p, const char *arg, DriveIf iface, int index)
{
    const DriveConfig *other = drive_at(p->cfg, iface, index);
    if (!other)
        return true;
    return bad_value(p, arg, "%s is taken by %s already", place_name(iface, index),
                     other->file ? other->file : "another drive");
}

/* -hda FILE and its like, and the bare file name. */
bool apply_image(Parse *p, const Option *o, const char *arg)
{
    DriveIf iface = (DriveIf)(o->field >> 8);
    int index = (int)(o->field & 0xff);
    if (!place_free(p, arg, iface, index))
        return false;
    DriveConfig *d = drive_new(p, arg);
    if (!d)
        return false;
    d->iface = iface;
    d->index = index;
    d->cdrom = o->value;
    d->readonly = o->value;
    if (*arg)
        d->file = text_dup(arg);
    return true;
}

bool apply_snapshot(Parse *p, const Option *o, const char *arg)
{
    (void)o, (void)arg;
    p->snapshot = true;
    return true;
}

bool apply_nodefaults(Parse *p, const Option *o, const char *arg)
{
    (void)o, (void)arg;
    p->no_defaults = true;
    return true;
}

typedef struct {
    DriveConfig d;
    u64 index, bus, unit;
    bool has_index, has_bus, has_unit, media_set;
} DriveWords;

static bool drive_interface(Parse *p, const char *arg, DriveWords *w, const char *value)
{
    if (!strcmp(value, "ide"))
        w->d.iface = IF_IDE;
    else if (!strcmp(value, "floppy"))
        w->d.iface = IF_FLOPPY;
    else if (!strcmp(value, "none"))
        w->d.iface = IF_NONE;
    else
        return bad_value(p, arg, "if=%s is not in this build; there are ide, floppy and none", value);
    return true;
}

static bool drive_number(Parse *p, const char *arg, const char *key, const char *value, u64 *n, bool *has)
{
    *has = parse_number(value, n);
    return *has || bad_value(p, arg, "%s=%s is not a number", key, value);
}

static bool drive_switch(Parse *p, const char *arg, const char *key, const char *value, bool *on)
{
    return parse_on_off(value, on) || bad_value(p, arg, "%s=%s: expected on or off", key, value);
}

/* enospc is for writes only */
static bool drive_on_error(Parse *p, const char *arg, const char *key, const char *value, OnError *what)
{
    static const char *const names[] = {[ON_ERROR_REPORT] = "report",
                                        [ON_ERROR_STOP] = "stop",
                                        [ON_ERROR_ENOSPC] = "enospc",
                                        [ON_ERROR_IGNORE] = "ignore"};
    bool write = *key == 'w';
    for (int i = ON_ERROR_REPORT; i <= ON_ERROR_IGNORE; i++) {
        if (!strcmp(value, names[i]) && (write || i != ON_ERROR_ENOSPC)) {
            *what = (OnError)i;
            return true;
        }
    }
    return bad_value(p, arg, "%s=%s: expected report, stop, %signore", key, value, write ? "enospc, " : "");
}

static bool drive_word(Parse *p, const char *arg, DriveWords *w, const char *key, const char *value)
{
    static const char *const tuning[] = {
        "cache",      "aio",  "detect-zeroes", "discard", "copy-on-read", "boot",    "cyls",
        "heads",      "secs", "trans",         "serial",  "addr",
        "throttling", "bps",  "iops",   "bps_rd", "bps_wr",        "iops_rd", "iops_wr",
    };
    if (!strcmp(key, "file")) {
        if (*value)
            text_set(&w->d.file, value);
    } else if (!strcmp(key, "format")) {
        text_set(&w->d.format, value);
    } else if (!strcmp(key, "id")) {
        text_set(&w->d.id, value);
    } else if (!strcmp(key, "if")) {
        return drive_interface(p, arg, w, value);
    } else if (!strcmp(key, "index")) {
        return drive_number(p, arg, key, value, &w->index, &w->has_index);
    } else if (!strcmp(key, "bus")) {
        return drive_number(p, arg, key, value, &w->bus, &w->has_bus);
    } else if (!strcmp(key, "unit")) {
        return drive_number(p, arg, key, value, &w->unit, &w->has_unit);
    } else if (!strcmp(key, "readonly") || !strcmp(key, "read-only")) {
        bool ok = drive_switch(p, arg, key, value, &w->d.readonly);
        w->d.writes_asked = ok && !w->d.readonly;
        return ok;
    } else if (!strcmp(key, "snapshot")) {
        return drive_switch(p, arg, key, value, &w->d.snapshot);
    } else if (!strcmp(key, "werror")) {
        return drive_on_error(p, arg, key, value, &w->d.werror);
    } else if (!strcmp(key, "rerror")) {
        return drive_on_error(p, arg, key, value, &w->d.rerror);
    } else if (!strcmp(key, "media")) {
        if (strcmp(value, "disk") && strcmp(value, "cdrom"))
            return bad_value(p, arg, "media=%s: expected disk or cdrom", value);
        w->d.cdrom = !strcmp(value, "cdrom");
    } else {
        for (size_t i = 0; i < ARRAY_LEN(tuning); i++) {
            if (!strcmp(key, tuning[i])) {
                note(p, "%s= has no effect here", key);
                return true;
            }
        }
        return bad_value(p, arg, "unknown word %s", key);
    }
    return true;
}

/* Where the drive goes: index, or bus and unit (two drives an IDE channel, two floppy drives a controller).
 */
static bool drive_place(Parse *p, const char *arg, DriveWords *w)
{
    int places = w->d.iface == IF_FLOPPY ? FLOPPY_PLACES : IDE_PLACES;
    if (w->has_bus || w->has_unit) {
        if (w->unit > 1 || w->bus > 1)
            return bad_value(p, arg, "bus and unit go from 0 to 1");
        w->index = w->bus * 2 + w->unit;
        w->has_index = true;
    }
    if (w->d.iface == IF_NONE || !w->has_index) {
        w->d.index = ANYWHERE;
        return true;
    }
    if (w->index >= (u64)places)
        return bad_value(p, arg, "index goes from 0 to %d", places - 1);
    w->d.index = (int)w->index;
    return place_free(p, arg, w->d.iface, w->d.index);
}

bool apply_drive(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    DriveWords w = {.d = {.iface = IF_IDE}};
    char *copy = text_dup(arg), *rest = copy, *key, *value;
    bool ok = true;
    while (ok && spec_next(&rest, &key, &value))
        ok = drive_word(p, arg, &w, key, value ? value : "");
    free(copy);
    if (ok && w.d.cdrom && w.d.iface == IF_FLOPPY)
        ok = bad_value(p, arg, "media=cdrom does not go with if=floppy");
    ok = ok && drive_place(p, arg, &w);
    DriveConfig *d = ok ? drive_new(p, arg) : NULL;
    if (!d) {
        free(w.d.file);
        free(w.d.format);
        free(w.d.id);
        return false;
    }
    *d = w.d;
    d->used = true;
    d->readonly |= d->cdrom;
    return true;
}

/* ---- -device ---- */

/* Drivers a person may ask for and that this build does not have: said, and gone on without. */
static const char *const absent_devices[] = {
    "e1000",          "e1000e",         "rtl8139",    "pcnet",
    "ne2k_pci",       "ne2k_isa",       "i82551",     "i82557b",
    "i82559er",       "vmxnet3",        "virtio-",    "usb-",
    "piix3-usb-uhci", "piix4-usb-uhci", "ich9-usb-",  "nec-usb-xhci",
    "qemu-xhci",      "pci-ohci",       "AC97",       "ES1370",
    "sb16",           "adlib",          "cs4231a",    "gus",
    "intel-hda",      "ich9-intel-hda", "hda-",       "lsi",
    "lsi53c895a",     "megasas",        "am53c974",   "scsi-",
    "ahci",           "ich9-ahci",      "nvme",       "isa-serial",
    "isa-parallel",

    "pvpanic",        "i6300esb",       "ib700",      "tpm-",
    "vmware-svga",    "cirrus-vga",     "qxl",        "VGA",
    "bochs-display",  "pci-serial",     "vmcoreinfo", "edu",
    "ivshmem",        "pci-bridge",     "loader",     "vhost-",
    "intel-iommu",
};

static bool device_absent(const char *driver)
{
    for (size_t i = 0; i < ARRAY_LEN(absent_devices); i++) {
        size_t n = strlen(absent_devices[i]);
        bool family = absent_devices[i][n - 1] == '-';
        if (family ? !strncmp(driver, absent_devices[i], n) : !strcmp(driver, absent_devices[i]))
            return true;
    }
    return false;
}

/* -device ide-hd,drive=ID puts a drive of -drive if=none,id=ID on the IDE or floppy controller. */
static bool device_drive(Parse *p, const char *arg, DriveIf iface, bool cdrom)
{
    char id[128], word[32];
    if (!spec_get(arg, "drive", id, sizeof id))
        return bad_value(p, arg, "drive=ID is missing");
    for (int i = 0; i < CFG_DRIVES; i++) {
        DriveConfig *d = &p->cfg->drive[i];
        if (!d->used || d->iface != IF_NONE || !d->id || strcmp(d->id, id))
            continue;
        u64 bus = 0, unit = 0;
        int index = ANYWHERE;
        if (spec_get(arg, "bus", word, sizeof word)) {
            const char *dot = strrchr(word, '.');
            if (!dot || !parse_number(dot + 1, &bus) || bus > 1 || (iface == IF_FLOPPY && bus))
                return bad_value(p, arg, "bus=%s: expected ide.0 or ide.1", word);
            index = (int)bus * 2;
        }
        if (spec_get(arg, "unit", word, sizeof word)) {
            if (!parse_number(word, &unit) || unit > 1)
                return bad_value(p, arg, "unit=%s: expected 0 or 1", word);
            index = (int)(bus * 2 + unit);
        }
        if (index != ANYWHERE && !place_free(p, arg, iface, index))
            return false;
        if ((spec_get(arg, "werror", word, sizeof word) &&
             !drive_on_error(p, arg, "werror", word, &d->werror)) ||
            (spec_get(arg, "rerror", word, sizeof word) &&
             !drive_on_error(p, arg, "rerror", word, &d->rerror)))
            return false;
        d->iface = iface;
        d->index = index;
        d->cdrom |= cdrom;
        d->readonly |= d->cdrom;
        return true;
    }
    return bad_value(p, arg, "no -drive if=none,id=%s stands before it", id);
}

bool apply_device(Parse *p, const Option *o, const char *arg)
{
    (void)o;
    char driver[64];
    size_t n = strcspn(arg, ",");
    if (n == 0 || n >= sizeof driver)
        return bad_value(p, arg, "expected DRIVER,key=value,...");
    memcpy(driver, arg, n);
    driver[n] = 0;
    if (!strcmp(driver, "ide-hd") || !strcmp(driver, "ide-drive"))
        return device_drive(p, arg, IF_IDE, false);
    if (!strcmp(driver, "ide-cd"))
        return device_drive(p, arg, IF_IDE, true);
    if (!strcmp(driver, "floppy"))
        return device_drive(p, arg, IF_FLOPPY, false);
    if (!strcmp(driver, "ne2k_pci") || !strcmp(driver, "ne2k_isa"))
        return add_net(p, NET_DEVICE, arg);
    if (device_absent(driver)) {
        note(p, "the device %s is not in this build", driver);
        return true;
    }
    if (strcmp(driver, "isa-debug-exit") && strcmp(driver, "isa-debugcon"))
        return bad_value(p, arg,
                         "unknown device; there are isa-debug-exit, isa-debugcon, ide-hd, ide-cd, floppy, "
                         "ne2k_pci, ne2k_isa");
    if (p->devices == CFG_DEVICES)
        return bad_value(p, arg, "more than %d devices", CFG_DEVICES);
    p->cfg->device[p->devices].used = true;
    p->cfg->device[p->devices++].spec = text_dup(arg);
    return true;
}

/* ---- after all options ---- */

static bool give_place(Parse *p, DriveConfig *d)
{
    int places = d->iface == IF_FLOPPY ? FLOPPY_PLACES : IDE_PLACES;
    for (int i = 0; i < places; i++) {
        if (!drive_at(p->cfg, d->iface, i)) {
            d->index = i;
            return true;
        }
    }
    return error_set(p->err, "%s: all %d %s places are taken", d->file ? d->file : "empty drive", places,
                     d->iface == IF_FLOPPY ? "floppy" : "IDE");
}

static void empty_drive(Parse *p, DriveIf iface, int index, bool cdrom)
{
    if (p->drives == CFG_DRIVES || drive_at(p->cfg, iface, index))
        return;
    DriveConfig *d = &p->cfg->drive[p->drives++];
    *d = (DriveConfig){.used = true, .iface = iface, .index = index, .cdrom = cdrom, .readonly = cdrom};
}

bool drives_finish(Parse *p)
{
    for (int i = 0; i < CFG_DRIVES; i++) {
        DriveConfig *d = &p->cfg->drive[i];
        if (d->used && d->iface != IF_NONE && d->index == ANYWHERE && !give_place(p, d))
            return false;
    }
    if (!p->no_defaults) {
        empty_drive(p, IF_FLOPPY, 0, false);
        empty_drive(p, IF_IDE, CDROM_PLACE, true);
    }
    for (int i = 0; i < CFG_DRIVES; i++) {
        DriveConfig *d = &p->cfg->drive[i];
        d->snapshot |= d->used && p->snapshot && !d->cdrom;
    }
    return true;
}
