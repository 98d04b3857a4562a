/* VMDK: opening descriptors and extents, without believing them. The layout is in vmdk.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"
#include "vmdk.h"

enum { GD_MAX = 16 << 20, GRAIN_MIN = 4096, GRAIN_MAX = 64 << 20, SCAN = 65536, COWD_GTES = 4096 };

void vmdk_freed(Sparse *s)
{
    Vmdk *v = (Vmdk *)s;

    for (u32 i = 0; i < v->extents; i++)
        areas_free(&v->extent[i].tables);
    free(v->extent);
}

static VmdkExtent *add_extent(Vmdk *v)
{
    VmdkExtent *bigger = block_alloc(sizeof(*bigger) * (v->extents + 1)), *e;

    if (v->extents)
        memcpy(bigger, v->extent, sizeof(*bigger) * v->extents);
    free(v->extent);
    v->extent = bigger;
    e = &v->extent[v->extents++];
    e->start = v->extents > 1 ? e[-1].start + e[-1].bytes : 0;
    return e;
}

/* Where the grain tables of a directory lie. */
static bool scan_directory(Vmdk *v, VmdkExtent *e, u64 gd_at, Error *err)
{
    const char *name = v->s.file[e->file].name;
    u64 bytes = e->gds * 4ull;
    u8 *buf;
    bool ok = true;

    if (!sparse_inside(&v->s, e->file, gd_at, bytes))
        return error_set(err, "%.300s: the grain directory at %llu lies outside the file", name,
                         (unsigned long long)gd_at);
    buf = block_alloc(SCAN);
    for (u64 at = 0; at < bytes && ok; at += SCAN) {
        u64 n = bytes - at < SCAN ? bytes - at : SCAN;

        ok = sparse_read(&v->s, e->file, gd_at + at, buf, n, "grain directory", err);
        for (u64 i = 0; i < n && ok; i += 4) {
            u64 table = (u64)load32(buf + i) * SECTOR;

            if (!table)
                continue;
            if (table < VMDK_HEADER || !sparse_inside(&v->s, e->file, table, 4))
                ok = error_set(err, "%.300s: grain directory entry %llu is wrong", name,
                               (unsigned long long)((at + i) / 4));
            areas_add(&e->tables, table);
        }
    }
    free(buf);
    return ok;
}

/* The tables must not lie on each other or on a directory where the extent is to be written. */
static bool scan_extent(Vmdk *v, VmdkExtent *e, Error *err)
{
    const char *name = v->s.file[e->file].name;
    bool apart;

    e->tables.bytes = round_up(e->gtes * 4ull, SECTOR);
    if (!scan_directory(v, e, e->gd_at, err) || (e->rgd_at && !scan_directory(v, e, e->rgd_at, err)))
        return false;
    apart = areas_sort(&e->tables) && !areas_hit(&e->tables, e->gd_at, e->gds * 4ull) &&
            (!e->rgd_at || !areas_hit(&e->tables, e->rgd_at, e->gds * 4ull));
    return apart || !e->writable ||
           error_set(err, "%.300s: tables of the image overlap; it can be opened for reading only", name);
}

static bool sane_shape(const char *name, u64 sectors, u64 grain, u64 gtes, Error *err)
{
    if (grain < GRAIN_MIN / SECTOR || grain > GRAIN_MAX / SECTOR || (grain & (grain - 1)))
        return error_set(err, "%.300s: a grain size of %llu sectors is not supported", name,
                         (unsigned long long)grain);
    if (gtes < 1 || gtes > COWD_GTES || (gtes & (gtes - 1)))
        return error_set(err, "%.300s: tables of %llu entries are not supported", name,
                         (unsigned long long)gtes);
    if (!sectors || sectors > 1ull << 47 || (sectors + grain * gtes - 1) / (grain * gtes) > GD_MAX / 4)
        return error_set(err, "%.300s: a disk of %llu sectors is too large", name,
                         (unsigned long long)sectors);
    return true;
}

static bool open_cowd(Vmdk *v, VmdkExtent *e, const u8 *h, Error *err)
{
    const char *name = v->s.file[e->file].name;
    u64 sectors = load32(h + 12), grain = load32(h + 16);

    if (!sane_shape(name, sectors, grain, COWD_GTES, err))
        return false;
    e->kind = VMDK_SPARSE;
    e->bytes = sectors * SECTOR;
    e->grain = grain * SECTOR;
    e->gtes = COWD_GTES;
    e->gd_at = (u64)load32(h + 20) * SECTOR;
    e->gds = load32(h + 24);
    if ((u64)e->gds * e->gtes * grain < sectors || e->gds > GD_MAX / 4)
        return error_set(err, "%.300s: a grain directory of %u entries does not fit the disk", name, e->gds);
    return scan_extent(v, e, err);
}

/* The footer of a stream: the header again, with the directory's place in it. */
static bool read_footer(Vmdk *v, const VmdkExtent *e, u8 *h, Error *err)
{
    u64 size = v->s.file[e->file].size;
    const char *name = v->s.file[e->file].name;

    if (size < 3 * SECTOR || !sparse_read(&v->s, e->file, (size & ~(u64)(SECTOR - 1)) - 2 * SECTOR, h,
                                          VMDK_HEADER, "VMDK footer", err))
        return error_set(err, "%.300s: the file is too short for a stream-optimized image", name);
    if (memcmp(h, "KDMV", 4) || load64(h + 56) == VMDK_AT_END)
        return error_set(err, "%.300s: the footer is missing; is the file complete?", name);
    return true;
}

static bool open_sparse(Vmdk *v, VmdkExtent *e, u8 *h, Error *err)
{
    const char *name = v->s.file[e->file].name;
    u64 sectors, grain, gtes;
    u32 flags;

    if (load64(h + 56) == VMDK_AT_END && !read_footer(v, e, h, err))
        return false;
    flags = load32(h + 8);
    sectors = load64(h + 12);
    grain = load64(h + 20);
    gtes = load32(h + 44);
    if (load32(h + 4) < 1 || load32(h + 4) > 3)
        return error_set(err, "%.300s: VMDK version %u is not supported by this build", name, load32(h + 4));
    if ((flags & VMDK_NEWLINES) && memcmp(h + 73, "\n \r\n", 4))
        return error_set(err, "%.300s: line ends were converted: the file is damaged by a transfer as text",
                         name);
    if (!sane_shape(name, sectors, grain, gtes, err))
        return false;
    e->compressed = flags & VMDK_COMPRESSED;
    e->zeroed = flags & VMDK_ZEROED;
    if (e->compressed && (load16(h + 77) != 1 || !(flags & VMDK_MARKERS)))
        return error_set(err, "%.300s: compression of type %u is not supported", name, load16(h + 77));
    e->kind = VMDK_SPARSE;
    e->bytes = sectors * SECTOR;
    e->grain = grain * SECTOR;
    e->gtes = (u32)gtes;
    e->gds = (u32)((sectors + grain * gtes - 1) / (grain * gtes));
    if (load64(h + 56) >> 47 || load64(h + 48) >> 47)
        return error_set(err, "%.300s: the grain directory lies outside the file", name);
    e->gd_at = load64(h + 56) * SECTOR;
    e->rgd_at = flags & VMDK_REDUNDANT ? load64(h + 48) * SECTOR : 0;
    return scan_extent(v, e, err);
}

/* A file that is an extent: sparse, by its magic. */
static bool open_extent(Vmdk *v, VmdkExtent *e, Error *err)
{
    u8 h[VMDK_HEADER];

    if (!sparse_read(&v->s, e->file, 0, h, VMDK_HEADER, "VMDK header", err))
        return false;
    if (!memcmp(h, "KDMV", 4))
        return open_sparse(v, e, h, err);
    if (!memcmp(h, "COWD", 4))
        return open_cowd(v, e, h, err);
    return error_set(err, "%.300s: this is no VMDK extent", v->s.file[e->file].name);
}

/* Extents lie beside their descriptor: it can't make us open other files. */
static int open_beside(Vmdk *v, const VmdkLine *line, bool readonly, Error *err)
{
    char *path;
    int file;

    if (!line->name[0] || strpbrk(line->name, "/\\:") || !image_name_allowed(v->s.name, line->name, err)) {
        error_set(err, "%.200s: the extent '%.200s' does not lie beside its descriptor", v->s.name,
                  line->name);
        return -1;
    }
    path = sparse_beside(v->s.name, line->name);
    file = sparse_add_file(&v->s, path, readonly, err);
    free(path);
    return file;
}

static bool add_line(Vmdk *v, const VmdkLine *line, Error *err)
{
    bool readonly = v->s.img.readonly || !line->writable;
    VmdkExtent *e = add_extent(v);
    int file;

    e->kind = line->kind;
    e->writable = !readonly;
    e->bytes = line->sectors * SECTOR;
    if (line->kind == VMDK_ZERO)
        return true;
    file = open_beside(v, line, readonly, err);
    if (file < 0)
        return false;
    e->file = (u32)file;
    e->at = line->at * SECTOR;
    if (e->kind == VMDK_FLAT)
        return sparse_inside(&v->s, e->file, e->at, e->bytes) ||
               error_set(err, "%.300s: the file is shorter than its extent", v->s.file[file].name);
    if (!open_extent(v, e, err))
        return false;
    return e->bytes == line->sectors * SECTOR ||
           error_set(err, "%.300s: the extent's size differs from its descriptor's", v->s.file[file].name);
}

static bool read_extents(Vmdk *v, const char *text, Error *err)
{
    VmdkLine line;

    err->text[0] = 0;
    while (vmdk_line(&text, &line, err)) {
        if (v->extents >= VMDK_EXTENTS_MAX)
            return error_set(err, "%.300s: more than %d extents", v->s.name, VMDK_EXTENTS_MAX);
        if (!add_line(v, &line, err))
            return false;
    }
    if (err->text[0])
        return error_prefix(err, "%.300s", v->s.name);
    return v->extents || error_set(err, "%.300s: the descriptor names no extent", v->s.name);
}

/* Identity and parent. */
static bool read_text(Vmdk *v, const char *text, Error *err)
{
    char value[1024];

    snprintf(v->create_type, sizeof(v->create_type), "unknown");
    if (vmdk_value(text, "createType", value, sizeof(value)))
        snprintf(v->create_type, sizeof(v->create_type), "%.39s", value);
    v->cid = vmdk_value(text, "CID", value, sizeof(value)) ? (u32)strtoul(value, NULL, 16) : 0;
    v->parent_cid = VMDK_NO_PARENT;
    if (vmdk_value(text, "parentCID", value, sizeof(value)))
        v->parent_cid = (u32)strtoul(value, NULL, 16);
    if (v->parent_cid == VMDK_NO_PARENT)
        return true;
    if (!vmdk_value(text, "parentFileNameHint", value, sizeof(value)) || !value[0])
        return error_set(err, "%.300s: the image has a parent, but not its name", v->s.name);
    v->s.backing_name = sparse_text(value, strlen(value));
    return true;
}

/* The text of file 0, NUL behind it: a file of its own, or embedded where the header says. NULL: it has none,
 * or err. */
static bool load_text(Vmdk *v, char **text, bool *embedded, Error *err)
{
    u64 size = v->s.file[0].size;
    u8 h[VMDK_HEADER] = { 0 };

    *text = NULL;
    if (!sparse_read(&v->s, 0, 0, h, size < VMDK_HEADER ? size : VMDK_HEADER, "VMDK header", err))
        return false;
    *embedded = !memcmp(h, "KDMV", 4) || !memcmp(h, "COWD", 4);
    v->text_bytes = size;
    if (*embedded) {
        bool kdmv = h[0] == 'K';

        if (kdmv && (load64(h + 28) >> 47 || load64(h + 36) > VMDK_TEXT_MAX / SECTOR))
            return error_set(err, "%.300s: the descriptor lies outside the file", v->s.name);
        v->text_at = kdmv ? load64(h + 28) * SECTOR : 0;
        v->text_bytes = kdmv && v->text_at ? load64(h + 36) * SECTOR : 0;
    } else if (memcmp(h, "# Disk DescriptorFile", 21)) {
        return error_set(err, "%.300s: this is no VMDK image", v->s.name);
    }
    if (v->text_bytes > VMDK_TEXT_MAX)
        return error_set(err, "%.300s: the descriptor is too long", v->s.name);
    *text = block_alloc(v->text_bytes + 1);
    return sparse_read(&v->s, 0, v->text_at, *text, v->text_bytes, "descriptor", err);
}

static bool load(Vmdk *v, const Machine *m, Error *err)
{
    bool embedded, ok;
    char *text;

    ok = load_text(v, &text, &embedded, err) && read_text(v, text, err);
    if (ok && embedded) {
        VmdkExtent *e = add_extent(v);

        e->writable = !v->s.img.readonly;
        ok = open_extent(v, e, err);
        if (ok && e->gtes == COWD_GTES && !v->s.img.readonly)
            ok = error_set(err, "%.300s: COWD extents are only read by this build", v->s.name);
        if (ok && e->compressed && m && !v->s.img.readonly)
            ok = error_set(err, "%.300s: a stream-optimized image can't be written to (-snapshot or "
                           "readonly=on takes it; qemu-img convert makes another of it)", v->s.name);
    } else if (ok) {
        ok = read_extents(v, text, err);
    }
    free(text);
    if (ok)
        v->s.img.bytes = v->extent[v->extents - 1].start + v->extent[v->extents - 1].bytes;
    return ok && (v->s.img.bytes <= 1ull << 56 || error_set(err, "%.300s: the disk is too large", v->s.name));
}

BlkImage *vmdk_open(Machine *m, const char *file, bool readonly, Error *err)
{
    Vmdk *v = sparse_new(sizeof(*v), &vmdk_driver, &vmdk_ops, file, readonly, err), *parent;

    if (!v)
        return NULL;
    if (!load(v, m, err)) {
        sparse_free(&v->s);
        return NULL;
    }
    if (!sparse_ready(&v->s, m, err))
        return NULL;
    parent = v->s.backing && v->s.backing->drv == &vmdk_driver ? (Vmdk *)v->s.backing : NULL;
    if (parent && parent->cid != v->parent_cid) {
        error_set(err, "%.250s: the parent %.150s was changed after the image was made (CID %08x, not %08x)",
                  v->s.name, v->s.backing_name, parent->cid, v->parent_cid);
        sparse_close(&v->s.img);
        return NULL;
    }
    return &v->s.img;
}

/* An image that was written gets another CID, by which its children know. The text keeps its length. */
static bool change_cid(Vmdk *v, Error *err)
{
    char *text = block_alloc(v->text_bytes + 1), *line, cid[9];
    bool ok = !v->text_bytes || host_file_read(v->s.file[0].f, v->text_at, text, v->text_bytes, err);

    line = ok ? strstr(text, "\nCID=") : NULL;
    snprintf(cid, sizeof(cid), "%08x", v->cid * 0x9e3779b1u + (u32)host_wall_us() % 0xfffffff);
    if (line && strspn(line + 5, "0123456789abcdefABCDEF") == 8)
        ok = host_file_write(v->s.file[0].f, v->text_at + (u64)(line + 5 - text), cid, 8, err);
    free(text);
    return ok;
}

void vmdk_close(BlkImage *img)
{
    Vmdk *v = (Vmdk *)img;
    Error err;

    if (v->s.written && !change_cid(v, &err))
        log_line("%s: %s", v->s.name, err.text);
    sparse_close(img);
}

void vmdk_facts(BlkImage *img, ImageFacts *out)
{
    const Vmdk *v = (const Vmdk *)img;
    int n;

    sparse_facts(img, out);
    out->unit = v->extent[0].kind == VMDK_SPARSE ? (u32)v->extent[0].grain : 0;
    out->packs = out->packs_only = v->extents == 1 && v->extent[0].compressed;
    out->pack_window = 15;
    n = snprintf(out->more, sizeof(out->more), "cid: %u\nparent cid: %u\ncreate type: %s\n", v->cid,
                 v->parent_cid, v->create_type);
    if (v->extents > 1)
        snprintf(out->more + n, sizeof(out->more) - (size_t)n, "extents: %u\n", v->extents);
}
