/* Snapshots as a person sees them: the list, the tree, names for completion, pictures. */
#include "snapshot_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/*
 * Seconds since 1970 to year, month, day, hour, minute, second. Years begin on 1 March here, so that the leap
 * day comes last; 400 of them have 146,097 days.
 */
static void split_time(s64 s, int n[6])
{
    s64 days = s / 86400 - (s % 86400 < 0), in_day = s - days * 86400, z = days + 719468;
    s64 era = z / 146097, d = z - era * 146097;
    s64 y = (d - d / 1460 + d / 36524 - d / 146096) / 365, in_year = d - (365 * y + y / 4 - y / 100);
    s64 m = (5 * in_year + 2) / 153;

    n[0] = (int)(era * 400 + y + (m >= 10));
    n[1] = (int)(m < 10 ? m + 3 : m - 9);
    n[2] = (int)(in_year - (153 * m + 2) / 5 + 1);
    n[3] = (int)(in_day / 3600);
    n[4] = (int)(in_day / 60 % 60);
    n[5] = (int)(in_day % 60);
}

void snapshot_name_now(char *out, size_t size)
{
    s64 now = host_wall_us() / 1000000;
    int n[6];

    split_time(now + host_utc_offset_s(now), n);
    snprintf(out, size, "vm-%04d%02d%02d%02d%02d%02d", n[0], n[1], n[2], n[3], n[4], n[5]);
}

static void put_date(const BlkSnapshot *s, char *out, size_t size)
{
    int n[6];

    split_time((s64)s->date_s + host_utc_offset_s(s->date_s), n);
    snprintf(out, size, "%04d-%02d-%02d %02d:%02d:%02d", n[0], n[1], n[2], n[3], n[4], n[5]);
}

static void put_clock(u64 ns, char *out, size_t size)
{
    u64 s = ns / NS_PER_SEC;

    snprintf(out, size, "%02llu:%02u:%02u.%03u", (unsigned long long)s / 3600, (unsigned)(s / 60 % 60),
             (unsigned)(s % 60), (unsigned)(ns / 1000000 % 1000));
}

static void put_size(u64 bytes, char *out, size_t size)
{
    static const char units[] = "BKMG";
    unsigned u = 0;
    u64 tenths = bytes * 10;

    while (u < 3 && tenths >= 10240) {
        tenths = (tenths + 512) / 1024;
        u++;
    }
    if (tenths < 100 && tenths % 10)
        snprintf(out, size, "%u.%u%c", (unsigned)(tenths / 10), (unsigned)(tenths % 10), units[u]);
    else
        snprintf(out, size, "%llu%c", (unsigned long long)(tenths + 5) / 10, units[u]);
}

static bool get_list(Machine *m, Blk **blk, BlkSnapshot **list, u32 *count, PrintFn *print, void *opaque)
{
    Error err;

    snapshot_finish(m);
    *blk = snapshot_disk(m);
    if (!*blk) {
        print(opaque, "there is no disk in the qcow2 format that could hold snapshots");
        return false;
    }
    if (blk_snapshots(*blk, list, count, &err)) {
        if (!*count)
            print(opaque, "there are no snapshots; 'savevm' takes one");
        return true;
    }
    print(opaque, err.text);
    return false;
}

void snapshot_list(Machine *m, PrintFn *print, void *opaque)
{
    BlkSnapshot *list;
    Blk *blk;
    u32 count;
    int id = 2, tag = 6;
    char line[512], size[32], date[40], clock[40];

    if (!get_list(m, &blk, &list, &count, print, opaque))
        return;
    for (u32 i = 0; i < count; i++) {
        int n = (int)strlen(list[i].id), t = (int)strlen(list[i].name);

        id = n > id ? n : id;
        tag = t > tag ? t : tag;
    }
    for (u32 i = 0; i < count; i++) {
        if (!i) {
            snprintf(line, sizeof(line), "%-*s %-*s VM SIZE %-19s VM CLOCK", id, "ID", tag, "TAG", "DATE");
            print(opaque, line);
        }
        put_size(list[i].vm_bytes, size, sizeof(size));
        put_date(&list[i], date, sizeof(date));
        put_clock(list[i].clock_ns, clock, sizeof(clock));
        snprintf(line, sizeof(line), "%-*s %-*s %-7s %s %s", id, list[i].id, tag, list[i].name, size, date, clock);
        print(opaque, line);
    }
    free(list);
}

const char *snapshot_nth_name(Machine *m, int n, char *out, size_t size)
{
    Blk *blk = snapshot_disk(m);
    BlkSnapshot *list;
    u32 count;
    Error err;

    if (!blk || !blk_snapshots(blk, &list, &count, &err))
        return NULL;
    if ((u32)n < count)
        snprintf(out, size, "%s", list[n].name);
    free(list);
    return (u32)n < count ? out : NULL;
}

/* ---- the tree ---- */

typedef struct {
    const BlkSnapshot *row;
    Head head;                          /* uid 0: not one of ours */
    int parent;                         /* -1: none */
} Node;

typedef struct {
    Node *node;
    u32 count;
    int point;                          /* -1: the present comes from none of them */
    PrintFn *print;
    void *opaque;
} Tree;

static int find_node(const Tree *t, u64 uid)
{
    for (u32 i = 0; uid && i < t->count; i++) {
        if (t->node[i].head.uid == uid)
            return (int)i;
    }
    return -1;
}

/* The nearest ancestor that is still there. */
static int nearest(const Tree *t, const u64 *ancestor, int self)
{
    for (int i = 0; i < ANCESTORS; i++) {
        int n = find_node(t, ancestor[i]);

        if (n >= 0 && n != self)
            return n;
    }
    return -1;
}

/* Those who come from `parent`, and what comes from them. prefix: what stands before their branches. */
static void draw(const Tree *t, int parent, const char *prefix, u32 depth)
{
    char line[700], deeper[256], date[40];
    u32 left = t->point == parent;

    for (u32 i = 0; i < t->count; i++)
        left += t->node[i].parent == parent;
    for (u32 i = 0; i < t->count && depth < 64; i++) {
        const Node *n = &t->node[i];

        if (n->parent != parent)
            continue;
        left--;
        put_date(n->row, date, sizeof(date));
        snprintf(line, sizeof(line), "%s%s%s %s  %s", prefix, depth ? "+- " : "", n->row->id, n->row->name, date);
        t->print(t->opaque, line);
        snprintf(deeper, sizeof(deeper), "%.240s%s", prefix, !depth ? "" : left ? "|  " : "   ");
        draw(t, (int)i, deeper, depth + 1);
    }
    if (t->point == parent) {
        snprintf(line, sizeof(line), "%s%s* the present", prefix, depth ? "+- " : "");
        t->print(t->opaque, line);
    }
}

/* Ancestors that lead in a circle: nobody made them so, a damaged file may. */
static void break_circles(Tree *t)
{
    for (u32 i = 0; i < t->count; i++) {
        int p = t->node[i].parent;
        u32 steps = 0;

        while (p >= 0 && steps++ <= t->count)
            p = t->node[p].parent;
        if (p >= 0)
            t->node[i].parent = -1;
    }
}

void snapshot_tree(Machine *m, PrintFn *print, void *opaque)
{
    Tree t = { .print = print, .opaque = opaque };
    BlkSnapshot *list;
    Blk *blk;
    Error ignored;
    u64 ancestor[ANCESTORS], point = snapshot_point(m, ancestor);

    if (!get_list(m, &blk, &list, &t.count, print, opaque))
        return;
    t.node = calloc(t.count + 1ull, sizeof(Node));
    for (u32 i = 0; t.node && i < t.count; i++) {
        t.node[i].row = &list[i];
        if (!head_read(&t.node[i].head, blk, &list[i], &ignored))
            t.node[i].head = (Head){ 0 };
    }
    for (u32 i = 0; t.node && i < t.count; i++)
        t.node[i].parent = nearest(&t, t.node[i].head.ancestor, (int)i);
    t.point = find_node(&t, point);
    if (t.point < 0)
        t.point = nearest(&t, ancestor, -1);
    break_circles(&t);
    if (t.node && t.count)
        draw(&t, -1, "", 0);
    free(t.node);
    free(list);
}

bool snapshot_picture(Machine *m, const char *which, const char *file, Error *err)
{
    Blk *blk;
    BlkSnapshot row;
    Head head;
    HostFile *f;
    u8 png[65536];
    bool ok;

    snapshot_finish(m);
    if (!snapshot_look_up(m, which, &blk, &row, err) || !head_read(&head, blk, &row, err))
        return false;
    if (!head.picture_bytes)
        return error_set(err, "the machine had no screen");
    if (head.picture_bytes > sizeof(png))
        return error_set(err, "its picture is too large");
    if (!blk_snapshot_read(blk, row.id, HEAD_BYTES, png, head.picture_bytes, err))
        return false;
    f = host_file_open(file, HOST_WRITE | HOST_CREATE, err);
    ok = f && host_file_write(f, 0, png, head.picture_bytes, err);
    if (f)
        host_file_close(f);
    return ok;
}
