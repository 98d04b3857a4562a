/* VMDK: the descriptor's text, and making images. The layout is in vmdk.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img_options.h"
#include "vmdk.h"

#define SPLIT_BYTES (4192256ull * SECTOR)   /* what fits below 2 GiB, as VMware splits */

enum { MONOLITHIC_SPARSE, MONOLITHIC_FLAT, SPLIT_SPARSE, SPLIT_FLAT, STREAM };

static const char *const subformats[] = {
    "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized",
    NULL
};
static const char *const adapters[] = { "ide", "buslogic", "lsilogic", "legacyESX", NULL };
const char *const vmdk_options[] = {
    "size", "subformat", "adapter_type", "hwversion", "backing_file", "backing_fmt", NULL
};

/* ---- reading ---- */

bool vmdk_value(const char *text, const char *name, char *out, size_t size)
{
    size_t n = strlen(name);

    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        const char *v;
        size_t len;

        p += strspn(p, " \t");
        if (strncmp(p, name, n))
            continue;
        v = p + n + strspn(p + n, " \t");
        if (*v != '=')
            continue;
        v += 1 + strspn(v + 1, " \t");
        len = *v == '"' ? strcspn(v + 1, "\"\r\n") : strcspn(v, " \t\r\n");
        v += *v == '"';
        if (len >= size)
            return false;
        memcpy(out, v, len);
        out[len] = 0;
        return true;
    }
    return false;
}

static bool word_is(const char *p, const char *word)
{
    size_t n = strlen(word);

    return !strncmp(p, word, n) && strchr(" \t\r\n\"", p[n]);
}

/* "RW 63 SPARSE "name" 0", from the first letter on. */
static bool parse_line(const char *p, VmdkLine *out, Error *err)
{
    static const struct { const char *word; VmdkKind kind; } kinds[] = {
        { "FLAT", VMDK_FLAT }, { "VMFS", VMDK_FLAT }, { "ZERO", VMDK_ZERO }, { "SPARSE", VMDK_SPARSE },
        { "VMFSSPARSE", VMDK_SPARSE },
    };
    size_t len, i = 0;
    char *end;

    *out = (VmdkLine){ .writable = word_is(p, "RW") };
    p += strcspn(p, " \t");
    out->sectors = strtoull(p, &end, 10);
    p = end + strspn(end, " \t");
    while (i < ARRAY_LEN(kinds) && !word_is(p, kinds[i].word))
        i++;
    if (i == ARRAY_LEN(kinds) || !out->sectors || out->sectors > 1ull << 47)
        return error_set(err, "extent of type '%.*s' and %llu sectors is not supported",
                         (int)strcspn(p, " \t\r\n"), p, (unsigned long long)out->sectors);
    out->kind = kinds[i].kind;
    p += strlen(kinds[i].word);
    p += strspn(p, " \t");
    if (out->kind == VMDK_ZERO)
        return true;
    len = *p == '"' ? strcspn(p + 1, "\"\r\n") : 0;
    if (!len || len >= sizeof(out->name) || p[1 + len] != '"')
        return error_set(err, "an extent's name is missing or too long");
    memcpy(out->name, p + 1, len);
    out->at = strtoull(p + len + 2, NULL, 10);
    return out->at <= 1ull << 47 || error_set(err, "an extent's offset is too large");
}

bool vmdk_line(const char **text, VmdkLine *out, Error *err)
{
    while (*text && **text) {
        const char *p = *text + strspn(*text, " \t");

        *text = strchr(p, '\n') ? strchr(p, '\n') + 1 : p + strlen(p);
        if (word_is(p, "RW") || word_is(p, "RDONLY") || word_is(p, "NOACCESS"))
            return parse_line(p, out, err);
    }
    return false;
}

/* ---- making ---- */

/* The header and empty tables of a sparse extent; text: its embedded descriptor or NULL. */
static bool write_sparse(HostFile *f, u64 bytes, const char *text, bool packed, Error *err)
{
    u64 grains = (bytes + VMDK_GRAIN - 1) / VMDK_GRAIN, tables = (grains + VMDK_GTES - 1) / VMDK_GTES;
    u64 gt = VMDK_GTES * 4 / SECTOR, gd = (tables * 4 + SECTOR - 1) / SECTOR;
    u64 text_sectors = text ? VMDK_EMBEDDED_SECTORS : 0;
    u64 rgd_at = 1 + text_sectors, gd_at = rgd_at + gd + tables * gt;
    u64 overhead = round_up(gd_at + gd + tables * gt, VMDK_GRAIN / SECTOR);
    u8 h[VMDK_HEADER] = "KDMV", *table = block_alloc(gd * SECTOR);
    bool ok;

    store32(h + 4, packed ? 3 : 1);
    store32(h + 8, VMDK_NEWLINES | VMDK_REDUNDANT | (packed ? VMDK_COMPRESSED | VMDK_MARKERS : 0));
    store64(h + 12, bytes / SECTOR);
    store64(h + 20, VMDK_GRAIN / SECTOR);
    store64(h + 28, text ? 1 : 0);
    store64(h + 36, text_sectors);
    store32(h + 44, VMDK_GTES);
    store64(h + 48, rgd_at);
    store64(h + 56, gd_at);
    store64(h + 64, overhead);
    memcpy(h + 73, "\n \r\n", 4);
    store16(h + 77, packed ? 1 : 0);
    ok = host_file_resize(f, overhead * SECTOR, err) && host_file_write(f, 0, h, VMDK_HEADER, err) &&
         (!text || host_file_write(f, SECTOR, text, strlen(text), err));
    for (int copy = 0; copy < 2 && ok; copy++) {
        u64 at = copy ? gd_at : rgd_at;

        for (u64 i = 0; i < tables; i++)
            store32(table + i * 4, (u32)(at + gd + i * gt));
        ok = host_file_write(f, at * SECTOR, table, gd * SECTOR, err);
    }
    free(table);
    return ok;
}

static const char *last_part(const char *file)
{
    const char *last = file;

    for (const char *p = file; *p; p++) {
        if (*p == '/' || *p == '\\')
            last = p + 1;
    }
    return last;
}

/* disk.vmdk: disk-s001.vmdk, disk-f001.vmdk, disk-flat.vmdk. number 0: whole. malloc'ed */
static char *extent_name(const char *file, int subformat, u32 number)
{
    size_t n = strlen(file), dot = n;
    char *name = block_alloc(n + 32);

    for (size_t i = 0; file[i]; i++) {
        if (file[i] == '.')
            dot = i;
        if (file[i] == '/' || file[i] == '\\')
            dot = n;
    }
    if (number)
        snprintf(name, n + 32, "%.*s-%c%03u%s", (int)dot, file, subformat == SPLIT_FLAT ? 'f' : 's', number,
                 file + dot);
    else
        snprintf(name, n + 32, "%.*s-flat%s", (int)dot, file, file + dot);
    return name;
}

static bool write_extent(const char *name, u64 bytes, bool flat, Error *err)
{
    HostFile *f = host_file_open(name, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    bool ok;

    if (!f)
        return false;
    ok = flat ? host_file_resize(f, bytes, err) : write_sparse(f, bytes, NULL, false, err);
    host_file_close(f);
    return ok || error_prefix(err, "%.300s", name);
}

typedef struct { char *text; size_t n, room; } Text;

__attribute__((format(printf, 2, 3))) static void say(Text *t, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    t->n += (size_t)vsnprintf(t->text + t->n, t->room - t->n, fmt, args);
    va_end(args);
}

/* The extents' files, other than the descriptor's own, and their lines. */
static bool make_extents(Text *t, const char *file, int subformat, u64 bytes, Error *err)
{
    bool split = subformat == SPLIT_SPARSE || subformat == SPLIT_FLAT;
    bool flat = subformat == MONOLITHIC_FLAT || subformat == SPLIT_FLAT, ok = true;

    if (!split && !flat) {
        say(t, "RW %llu SPARSE \"%s\"\n", (unsigned long long)bytes / SECTOR, last_part(file));
        return true;
    }
    for (u64 at = 0, n; at < bytes && ok; at += n) {
        char *name = extent_name(file, subformat, split ? (u32)(at / SPLIT_BYTES) + 1 : 0);

        n = split && bytes - at > SPLIT_BYTES ? SPLIT_BYTES : bytes - at;
        say(t, "RW %llu %s \"%s\"%s\n", (unsigned long long)n / SECTOR, flat ? "FLAT" : "SPARSE",
            last_part(name), flat ? " 0" : "");
        ok = write_extent(name, n, flat, err);
        free(name);
    }
    return ok;
}

/* The CID of the backing file, if it is a VMDK image. */
static bool parent_cid(const char *file, const ImageCreate *how, u32 *cid, Error *err)
{
    char *path = sparse_beside(file, how->base);
    const BlkDriver *drv = image_driver(path, how->base_format, err);
    BlkImage *img = NULL;

    if (drv && drv != &vmdk_driver)
        error_set(err, "%.200s: the backing file of a VMDK image must be one too", how->base);
    else if (drv)
        img = drv->open(NULL, path, true, err);
    free(path);
    if (!img)
        return false;
    *cid = ((Vmdk *)img)->cid;
    img->drv->close(img);
    return true;
}

static bool make_text(Text *t, const char *file, const ImageCreate *how, int subformat, Error *err)
{
    static const char *const heads[] = { "16", "255" };
    char version[16] = "4";
    u8 id[16];
    u32 cid = VMDK_NO_PARENT;
    int adapter = 0;
    u64 track;
    bool ok;

    image_option(how->options, "hwversion", version, sizeof(version));
    if (!img_choice(how->options, "adapter_type", adapters, &adapter, err) ||
        (how->base && !parent_cid(file, how, &cid, err)))
        return false;
    img_uuid(id);
    say(t, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", load32(id), cid,
        subformats[subformat]);
    if (how->base)
        say(t, "parentFileNameHint=\"%.1000s\"\n", how->base);
    say(t, "\n# Extent description\n");
    ok = make_extents(t, file, subformat, how->bytes, err);
    track = (adapter ? 255 : 16) * 63ull * SECTOR;
    say(t, "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%.8s\"\n", version);
    say(t, "ddb.geometry.cylinders = \"%llu\"\nddb.geometry.heads = \"%s\"\nddb.geometry.sectors = \"63\"\n",
        (unsigned long long)(how->bytes / track < 16383 || adapter ? how->bytes / track : 16383),
        heads[adapter != 0]);
    say(t, "ddb.adapterType = \"%s\"\n", adapters[adapter]);
    return ok;
}

bool vmdk_create(const char *file, const ImageCreate *how, Error *err)
{
    Text t = { .room = VMDK_TEXT_MAX };
    int subformat = MONOLITHIC_SPARSE;
    bool embedded, flat, ok;
    HostFile *f;

    if (!img_choice(how->options, "subformat", subformats, &subformat, err))
        return false;
    embedded = subformat == MONOLITHIC_SPARSE || subformat == STREAM;
    flat = subformat == MONOLITHIC_FLAT || subformat == SPLIT_FLAT;
    if (flat && how->base)
        return error_set(err, "a flat VMDK image has no backing file");
    if (!how->bytes)
        return error_set(err, "%.300s: a VMDK image has at least one sector", file);
    if (how->bytes / SPLIT_BYTES >= VMDK_EXTENTS_MAX || strpbrk(last_part(file), "\"\r\n"))
        return error_set(err, "%.300s: the disk is too large for VMDK, or the name can't be quoted", file);
    t.text = block_alloc(t.room);
    f = host_file_open(file, HOST_READ | HOST_WRITE | HOST_CREATE, err);
    ok = f && make_text(&t, file, how, subformat, err);
    if (ok && embedded)
        ok = t.n <= VMDK_EMBEDDED_SECTORS * SECTOR
                 ? write_sparse(f, how->bytes, t.text, subformat == STREAM, err)
                 : error_set(err, "the descriptor is too long");
    else if (ok)
        ok = host_file_write(f, 0, t.text, t.n, err);
    if (f)
        host_file_close(f);
    free(t.text);
    return ok || error_prefix(err, "%.300s", file);
}
