/*
 * The folder as a tree: sorted, so that the same folder makes the same disk, with names as FAT wants them. A
 * name that FAT can't hold (*?<>|:" or more than 255 characters) and files of 4 GiB and more are left out, and
 * a line says so.
 */
#include "fat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

int fat_to_utf16(const char *s, u16 *out, int max)
{
    int n = 0;

    while (*s) {
        u32 c = (u8)*s++, more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;

        if (c >= 0xf8 || (c >= 0x80 && c < 0xc0))
            return -1;
        c &= more ? 0x3fu >> more : 0x7f;
        for (; more; more--, s++) {
            if (((u8)*s & 0xc0) != 0x80)
                return -1;
            c = c << 6 | ((u8)*s & 0x3f);
        }
        if (c < 0x20 || (c < 0x80 && strchr("\"*/:<>?\\|", (int)c)) || n + 2 > max)
            return -1;
        if (c >= 0x10000) {
            out[n++] = (u16)(0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        out[n++] = (u16)c;
    }
    return n;
}

static bool name_fits(const char *name)
{
    u16 units[FAT_LFN_MAX + 2];
    size_t n = strlen(name);

    return n && name[n - 1] != '.' && name[n - 1] != ' ' && fat_to_utf16(name, units, FAT_LFN_MAX + 1) > 0;
}

/* ---- short names ---- */

static u8 short_char(u8 c, bool *lossy)
{
    if (c >= 'a' && c <= 'z')
        return (u8)(c - 32);
    if (c < 0x80 && !strchr("+,;=[] ", c))
        return c;
    *lossy = true;
    return '_';
}

/* The 8.3 form; lossy: it is not all of the name. */
static void basis(const char *name, u8 *out, bool *lossy)
{
    const char *dot = strrchr(name, '.'), *end = dot && dot != name ? dot : name + strlen(name);
    int n = 0, e = 8;

    memset(out, ' ', 11);
    for (const char *s = name; s < end; s++) {
        if (*s == '.' || *s == ' ' || ((u8)*s & 0xc0) == 0x80) {
            *lossy = true;
        } else if (n < 8) {
            out[n++] = short_char((u8)*s, lossy);
        } else {
            *lossy = true;
        }
    }
    for (const char *s = *end ? end + 1 : end; *s; s++) {
        if (*s == ' ' || ((u8)*s & 0xc0) == 0x80 || e == 11)
            *lossy = true;
        else
            out[e++] = short_char((u8)*s, lossy);
    }
    if (!n)
        out[0] = '_';
}

static bool taken(const FatNode *first, const FatNode *upto, const u8 *name)
{
    for (; first != upto; first = first->next) {
        if (!memcmp(first->short_name, name, 11))
            return true;
    }
    return false;
}

static void give_short_name(FatNode *first, FatNode *node)
{
    bool lossy = false;
    u8 base[11];
    char shown[16];
    int n = 0;

    basis(node->name, base, &lossy);
    memcpy(node->short_name, base, 11);
    for (u32 number = 1; (lossy || taken(first, node, node->short_name)) && number < 1000000; number++) {
        char tail[12];
        int room = 8 - snprintf(tail, sizeof(tail), "~%u", (unsigned)number), keep = 0;

        while (keep < room && base[keep] != ' ')
            keep++;
        memcpy(node->short_name, base, 11);
        memset(node->short_name + keep, ' ', (size_t)(8 - keep));
        memcpy(node->short_name + keep, tail, strlen(tail));
        lossy = false;
        node->needs_long = true;
    }
    for (int i = 0; i < 11; i++) {
        if (i == 8 && node->short_name[8] != ' ')
            shown[n++] = '.';
        if (node->short_name[i] != ' ')
            shown[n++] = (char)node->short_name[i];
    }
    shown[n] = 0;
    node->needs_long |= strcmp(shown, node->name) != 0;
}

/* ---- long names ---- */

u8 fat_checksum(const u8 *short_name)
{
    u8 sum = 0;

    for (int i = 0; i < 11; i++)
        sum = (u8)((sum << 7 | sum >> 1) + short_name[i]);
    return sum;
}

u32 fat_long_entries(const FatNode *node)
{
    u16 units[FAT_LFN_MAX + 2];

    return node->needs_long ? ((u32)fat_to_utf16(node->name, units, FAT_LFN_MAX + 1) + 12) / 13 : 0;
}

void fat_put_long_name(const FatNode *node, u8 *entries)
{
    static const u8 place[13] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
    u16 units[FAT_LFN_MAX + 2];
    int n = fat_to_utf16(node->name, units, FAT_LFN_MAX + 1);
    u32 count = fat_long_entries(node);

    for (u32 i = 0; i < count; i++) {           /* the last part comes first */
        u8 *e = entries + i * FAT_ENTRY;
        u32 part = count - 1 - i;

        memset(e, 0, FAT_ENTRY);
        e[0] = (u8)((part + 1) | (i ? 0 : 0x40));
        e[11] = 0x0f;
        e[13] = fat_checksum(node->short_name);
        for (int k = 0; k < 13; k++) {
            int at = (int)part * 13 + k;

            store16(e + place[k], at < n ? units[at] : at == n ? 0 : 0xffff);
        }
    }
}

/* ---- reading the folder ---- */

static void set_time(FatNode *node, s64 unix_s)
{
    s64 local = unix_s + host_utc_offset_s(unix_s), days = local / 86400, of_day = local % 86400;
    s64 z, era, doe, yoe, doy, mp, year, month, day;

    if (of_day < 0) {
        of_day += 86400;
        days--;
    }
    /* the civil date of a day number, in years that begin with March */
    z = days + 719468;
    era = (z >= 0 ? z : z - 146096) / 146097;
    doe = z - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    day = doy - (153 * mp + 2) / 5 + 1;
    month = mp < 10 ? mp + 3 : mp - 9;
    year = yoe + era * 400 + (month <= 2);
    if (year < 1980 || year > 2107) {
        node->date = 0x21;                      /* 1980-01-01 */
        return;
    }
    node->date = (u16)((year - 1980) << 9 | month << 5 | day);
    node->time = (u16)(of_day / 3600 << 11 | of_day / 60 % 60 << 5 | of_day % 60 / 2);
}

static void insert(FatNode *parent, FatNode *node)
{
    FatNode **p = &parent->child;

    while (*p && strcmp((*p)->name, node->name) < 0)
        p = &(*p)->next;
    node->next = *p;
    *p = node;
    node->parent = parent;
}

static bool read_folder(FatNode *folder, const char *path, int depth, u32 *count, Error *err)
{
    HostDirEntry *e = block_alloc(sizeof(*e));
    HostDir *dir = depth > FAT_DEPTH_MAX ? NULL : host_dir_open(path, err);
    char *below = block_alloc(FAT_PATH_MAX);
    bool ok = dir != NULL;

    if (depth > FAT_DEPTH_MAX)
        error_set(err, "%.300s: more than %d folders in each other", path, FAT_DEPTH_MAX);
    while (ok && host_dir_next(dir, e)) {
        FatNode *node;

        if (!name_fits(e->name) || e->bytes > 0xffffffff) {
            log_line("fat: %.300s/%.300s is left out: %s", path, e->name,
                     e->bytes > 0xffffffff ? "it is too large" : "FAT has no such names");
            continue;
        }
        if (++*count > FAT_NODES_MAX) {
            ok = error_set(err, "%.300s: more than %d files", path, FAT_NODES_MAX);
            break;
        }
        node = block_alloc(sizeof(*node));
        node->name = strcpy(block_alloc(strlen(e->name) + 1), e->name);
        node->folder = e->folder;
        node->bytes = (u32)e->bytes;
        set_time(node, e->modified_s);
        insert(folder, node);
    }
    if (dir)
        host_dir_close(dir);
    for (FatNode *node = folder->child; ok && node; node = node->next) {
        give_short_name(folder->child, node);
        if (!node->folder)
            continue;
        ok = snprintf(below, FAT_PATH_MAX, "%s/%s", path, node->name) < FAT_PATH_MAX ||
             error_set(err, "%.300s: the path is too long", path);
        ok = ok && read_folder(node, below, depth + 1, count, err);
    }
    free(below);
    free(e);
    return ok;
}

FatNode *fat_tree_read(const char *path, u32 *count, Error *err)
{
    FatNode *root = block_alloc(sizeof(*root));

    root->folder = true;
    *count = 0;
    if (read_folder(root, path, 0, count, err))
        return root;
    fat_tree_free(root);
    return NULL;
}

void fat_tree_free(FatNode *root)
{
    for (FatNode *node = root ? root->child : NULL, *next; node; node = next) {
        next = node->next;
        fat_tree_free(node);
    }
    if (root) {
        free(root->name);
        free(root->data);
        free(root);
    }
}

char *fat_node_path(const FatVolume *v, const FatNode *node)
{
    char *above, *path;
    size_t n;

    if (!node->parent)
        return strcpy(block_alloc(strlen(v->path) + 1), v->path);
    above = fat_node_path(v, node->parent);
    n = strlen(above) + strlen(node->name) + 2;
    path = block_alloc(n);
    snprintf(path, n, "%s/%s", above, node->name);
    free(above);
    return path;
}
