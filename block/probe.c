/*
 * Which driver opens a file. A file is raw unless its bytes say that it is an image of another format; those
 * this build does not know are refused by name, never taken as raw disks in silence: a guest would see the
 * container as its disk and destroy it. format=raw overrides, for a guest disk that happens to look like an
 * image.
 */
#include "driver.h"

#include <string.h>

static const BlkDriver *const drivers[] = { &raw_driver, &qcow2_driver, &qcow_driver, &vmdk_driver,
                                           &vpc_driver, &vdi_driver, &vhdx_driver, &parallels_driver,
                                           &bochs_driver, &cow_driver, &cloop_driver, &dmg_driver };

/* Marks of the formats in use. at < 0: counted from the end of the file. */
static const struct {
    const char *format;
    s32 at;
    u8 len;
    const char *bytes;
} marks[] = {
    { "qcow",      0,    8,  "QFI\xfb\0\0\0\1" },
    { "qcow2",     0,    4,  "QFI\xfb" },
    { "qed",       0,    4,  "QED\0" },
    { "vmdk",      0,    4,  "KDMV" },
    { "vmdk",      0,    4,  "COWD" },
    { "vmdk",      0,    21, "# Disk DescriptorFile" },
    { "vhdx",      0,    8,  "vhdxfile" },
    { "vpc",       0,    8,  "conectix" },
    { "vpc",       -512, 8,  "conectix" },
    { "vdi",       0x40, 4,  "\x7f\x10\xda\xbe" },
    { "vdi",       0,    10, "<<< Oracle" },
    { "vdi",       0,    7,  "<<< Sun" },
    { "vdi",       0,    10, "<<< innote" },
    { "parallels", 0,    16, "WithoutFreeSpace" },
    { "parallels", 0,    16, "WithouFreSpacExt" },
    { "bochs",     0,    22, "Bochs Virtual HD Image" },
    { "cow",       0,    4,  "OOOM" },
    { "cloop",     0,    23, "#!/bin/sh\n#V2.0 Format\n" },
    { "luks",      0,    6,  "LUKS\xba\xbe" },
    { "dmg",       -512, 4,  "koly" },
};

/* Names that are no files. */
static const struct { const char *prefix, *what; } no_files[] = {
    { "nbd:", "network disks" }, { "http://", "network disks" },
    { "https://", "network disks" }, { "ftp://", "network disks" }, { "ssh://", "network disks" },
    { "json:", "json: descriptions" },
};

static bool is_file_name(const char *file, Error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(no_files); i++) {
        if (!strncmp(file, no_files[i].prefix, strlen(no_files[i].prefix)))
            return error_set(err, "%.300s: %s are not supported by this build", file, no_files[i].what);
    }
    return true;
}

/* CON, nul.img, COM1: devices of Windows, in any folder and with any ending. */
static bool is_device_name(const char *last)
{
    static const struct { const char *name; bool numbered; } devices[] = {
        { "CON", false }, { "PRN", false }, { "AUX", false }, { "NUL", false }, { "CONIN$", false },
        { "CONOUT$", false }, { "COM", true }, { "LPT", true },
    };

    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        const char *name = devices[i].name, *p = last;

        while (*name && (*p == *name || (*p >= 'a' && *p <= 'z' && *p - 0x20 == *name))) {
            p++;
            name++;
        }
        if (*name || (devices[i].numbered && (*p < '0' || *p > '9')))
            continue;
        p += devices[i].numbered;
        if (!*p || *p == '.' || *p == ':' || *p == ' ')
            return true;
    }
    return false;
}

bool image_name_allowed(const char *image, const char *name, Error *err)
{
    bool network = (name[0] == '\\' || name[0] == '/') && (name[1] == '\\' || name[1] == '/');
    bool special = !strncmp(name, "fat:", 4) || image_is_device(name);
    const char *last = name;

    for (const char *p = name; *p; p++) {
        if (*p == '/' || *p == '\\')
            last = p + 1;
    }
    return (!network && !special && !is_device_name(last)) ||
           error_set(err, "%.300s: the backing file or extent %.100s is a device or on another computer; it "
                     "is not opened because an image names it", image, name);
}

bool image_is_device(const char *file)
{
    bool letter = (file[0] | 0x20) >= 'a' && (file[0] | 0x20) <= 'z';

    return !strncmp(file, "\\\\.\\", 4) || !strncmp(file, "//./", 4) || !strncmp(file, "/dev/", 5) ||
           (letter && file[1] == ':' && !file[2]);
}

const BlkDriver *image_driver_number(int n)
{
    return n < (int)ARRAY_LEN(drivers) ? drivers[n] : NULL;
}

const BlkDriver *image_driver_named(const char *format)
{
    if (!strcmp(format, "vhd"))
        format = "vpc";
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (!strcmp(drivers[i]->name, format))
            return drivers[i];
    }
    return NULL;
}

/* The format that the file's marks name; NULL: none, which is raw. */
static const char *marked_as(HostFile *f)
{
    u64 size = host_file_size(f);

    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        u64 at = marks[i].at < 0 ? size - (u64)-marks[i].at : (u64)marks[i].at;
        u8 got[32];
        Error ignored;

        if (marks[i].at < 0 && size < (u64)-marks[i].at)
            continue;
        if (at + marks[i].len <= size && host_file_read(f, at, got, marks[i].len, &ignored) &&
            !memcmp(got, marks[i].bytes, marks[i].len))
            return marks[i].format;
    }
    return NULL;
}

const BlkDriver *image_driver(const char *file, const char *format, Error *err)
{
    const BlkDriver *drv;
    HostFile *f;

    if (!strncmp(file, "fat:", 4))
        return &fat_driver;
    if (!is_file_name(file, err))
        return NULL;
    if (format) {
        drv = image_driver_named(format);
        if (!drv)
            error_set(err, "format '%.40s' of %.300s is not supported by this build (qemu-img --help lists "
                      "those it knows)", format, file);
        return drv;
    }
    f = host_file_open(file, HOST_READ, err);
    if (!f)
        return NULL;
    format = marked_as(f);
    host_file_close(f);
    drv = image_driver_named(format ? format : "raw");
    if (!drv)
        error_set(err, "format '%s' of %.300s is not supported by this build "
                  "(format=raw takes the file as it is)", format, file);
    return drv;
}
