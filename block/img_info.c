/* qemu-img info, check, map and snapshot. */
#include "img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The room it takes on the disk; of the file's own, not of what lies below. */
static u64 file_allocated(const char *file)
{
    Error err;
    HostFile *f = host_file_open(file, HOST_READ, &err);
    u64 n = f ? host_file_allocated(f) : 0;

    if (f)
        host_file_close(f);
    return n;
}

void img_list_snapshots(Qcow2 *q)
{
    Snapshot *list;
    Error err;

    if (!q->snapshots || !snapshots_read(q, &list, &err))
        return;
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK",
           "ICOUNT");
    for (u32 i = 0; i < q->snapshots; i++) {
        const Snapshot *s = &list[i];
        time_t t = (time_t)s->date_s;
        struct tm *tm = localtime(&t);
        char date[32] = "", clock[32], size[32];
        u64 sec = s->clock_ns / 1000000000;

        if (tm)
            strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", tm);
        snprintf(clock, sizeof(clock), "%02d:%02d:%02d.%03d", (int)(sec / 3600), (int)(sec / 60 % 60),
                 (int)(sec % 60), (int)(s->clock_ns / 1000000 % 1000));
        img_human(s->vm_bytes, size, sizeof(size));
        printf("%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, size, date, clock, "");
    }
    snapshots_free(list, q->snapshots);
}

static void get_facts(BlkImage *img, ImageFacts *facts)
{
    *facts = (ImageFacts){ 0 };
    if (img->drv->facts)
        img->drv->facts(img, facts);
}

/* Splits the next "key: value" line off. */
static bool next_line(char **text, char **key, char **value)
{
    char *line = *text, *end = strchr(line, '\n');

    if (!*line || !end)
        return false;
    *end = 0;
    *text = end + 1;
    *key = line;
    *value = strstr(line, ": ");
    if (!*value)
        return false;
    **value = 0;
    *value += 2;
    return true;
}

static void info_human(const char *file, BlkImage *img)
{
    ImageFacts facts;
    char size[32], disk[32], *rest, *key, *value;

    get_facts(img, &facts);
    img_human(img->bytes, size, sizeof(size));
    img_human(file_allocated(file), disk, sizeof(disk));
    printf("image: %s\nfile format: %s\nvirtual size: %s (%llu bytes)\ndisk size: %s\n", file, img->drv->name,
           size, (unsigned long long)img->bytes, disk);
    if (facts.unit)
        printf("cluster_size: %u\n", (unsigned)facts.unit);
    if (facts.backing_name) {
        char *path = qcow2_backing_path(file, facts.backing_name);

        printf("backing file: %s", facts.backing_name);
        if (strcmp(path, facts.backing_name))
            printf(" (actual path: %s)", path);
        printf("\n");
        free(path);
        if (facts.backing_format)
            printf("backing file format: %s\n", facts.backing_format);
    }
    if (img_qcow2(img))
        img_list_snapshots(img_qcow2(img));
    if (facts.more[0])
        printf("Format specific information:\n");
    for (rest = facts.more; next_line(&rest, &key, &value); )
        printf("    %s: %s\n", key, value);
}

static void json_snapshots(Qcow2 *q)
{
    Snapshot *list;
    Error err;

    if (!q->snapshots || !snapshots_read(q, &list, &err))
        return;
    printf("    \"snapshots\": [\n");
    for (u32 i = 0; i < q->snapshots; i++) {
        printf("        { \"id\": ");
        img_json_text(list[i].id);
        printf(", \"name\": ");
        img_json_text(list[i].name);
        printf(", \"vm-state-size\": %llu, \"date-sec\": %u, \"date-nsec\": %u, \"vm-clock-sec\": %llu, "
               "\"vm-clock-nsec\": %llu }%s\n",
               (unsigned long long)list[i].vm_bytes, list[i].date_s, list[i].date_ns,
               (unsigned long long)(list[i].clock_ns / 1000000000),
               (unsigned long long)(list[i].clock_ns % 1000000000), i + 1 < q->snapshots ? "," : "");
    }
    printf("    ],\n");
    snapshots_free(list, q->snapshots);
}

/* true, false and numbers as they are, all else as text; a key's blanks become dashes. */
static void json_field(const char *key, const char *value)
{
    bool plain = !strcmp(value, "true") || !strcmp(value, "false") ||
                 (*value && strspn(value, "0123456789") == strlen(value));

    printf("            \"");
    for (; *key; key++)
        putchar(*key == ' ' ? '-' : *key);
    printf("\": ");
    if (plain)
        printf("%s", value);
    else
        img_json_text(value);
}

static void json_facts(const char *file, BlkImage *img)
{
    ImageFacts facts;
    char *rest, *key, *value;
    int fields = 0;

    get_facts(img, &facts);
    if (facts.unit)
        printf("    \"cluster-size\": %u,\n", (unsigned)facts.unit);
    if (facts.more[0]) {
        printf("    \"format-specific\": {\n        \"type\": \"%s\",\n        \"data\": {\n",
               img->drv->name);
        for (rest = facts.more; next_line(&rest, &key, &value); ) {
            printf("%s", fields++ ? ",\n" : "");
            json_field(key, value);
        }
        printf("\n        }\n    },\n");
    }
    if (facts.backing_name) {
        char *path = qcow2_backing_path(file, facts.backing_name);

        printf("    \"backing-filename\": ");
        img_json_text(facts.backing_name);
        printf(",\n    \"full-backing-filename\": ");
        img_json_text(path);
        printf(",\n");
        free(path);
    }
    if (facts.backing_format)
        printf("    \"backing-filename-format\": \"%s\",\n", facts.backing_format);
}

static void info_json(const char *file, BlkImage *img)
{
    Qcow2 *q = img_qcow2(img);

    printf("{\n");
    if (q)
        json_snapshots(q);
    json_facts(file, img);
    printf("    \"virtual-size\": %llu,\n    \"filename\": ", (unsigned long long)img->bytes);
    img_json_text(file);
    printf(",\n    \"format\": \"%s\",\n    \"actual-size\": %llu,\n    \"dirty-flag\": %s\n}",
           img->drv->name, (unsigned long long)file_allocated(file),
           q && (q->incompatible & INCOMPAT_DIRTY) ? "true" : "false");
}

/* info works where the base is missing: only the image itself is looked at. */
static BlkImage *open_alone(const char *file, const char *format, Error *err)
{
    const BlkDriver *drv = image_driver(file, format, err);

    if (drv && drv->open_alone)
        return drv->open_alone(file, err);
    return drv ? img_open_read(file, format, err) : NULL;
}

static bool may_follow(BlkImage *img)
{
    Error ignored;

    return !img_qcow2(img) || qcow2_backing_allowed(img_qcow2(img), &ignored);
}

int img_info(const ImgArgs *a)
{
    char *file, *next = NULL;
    char format[32] = "";
    int depth = 0;
    Error err;

    if (a->files != 1)
        return img_fail("info needs one file name");
    file = qcow2_backing_path("", a->file[0]);
    snprintf(format, sizeof(format), "%s", a->opt['f'] ? a->opt['f'] : "");
    if (a->json && a->chain)
        printf("[\n");
    for (; file; file = next, depth++) {
        BlkImage *img = depth > BACKING_DEPTH_MAX ? NULL : open_alone(file, format[0] ? format : NULL, &err);
        ImageFacts facts;

        if (!img) {
            img_fail("Could not open '%s': %s", file,
                     depth > BACKING_DEPTH_MAX ? "too many backing files" : err.text);
            free(file);
            return 1;
        }
        if (depth)
            printf(a->json ? ",\n" : "\n");
        (a->json ? info_json : info_human)(file, img);
        get_facts(img, &facts);
        next = NULL;
        if (a->chain && facts.backing_name && may_follow(img)) {
            next = qcow2_backing_path(file, facts.backing_name);
            snprintf(format, sizeof(format), "%s", facts.backing_format ? facts.backing_format : "");
        }
        img_close(img);
        free(file);
    }
    if (a->json)
        printf(a->chain ? "\n]\n" : "\n");
    return 0;
}

/* ---- check ---- */

enum { CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

static void print_line(const char *line) { puts(line); }

static void check_human(const ImgArgs *a, const Qcow2Check *c)
{
    if (!c->corruptions && !c->leaks && !c->errors)
        img_say(a, "No errors were found on the image.\n");
    if (c->corruptions)
        img_say(a,
                "\n%llu errors were found on the image.\nData may be corrupted, or further writes to the "
                "image may "
                "corrupt it.\n",
                (unsigned long long)c->corruptions);
    if (c->leaks)
        img_say(
            a,
            "\n%llu leaked clusters were found on the image.\nThis means waste of disk space, but no harm to "
            "data.\n",
            (unsigned long long)c->leaks);
    if (c->errors)
        img_say(a, "\n%llu parts of the image could not be read.\n", (unsigned long long)c->errors);
    if (c->total)
        img_say(a, "%llu/%llu = %.2f%% allocated, %.2f%% compressed clusters\n",
                (unsigned long long)c->allocated, (unsigned long long)c->total,
                (double)c->allocated * 100 / (double)c->total,
                c->allocated ? (double)c->compressed * 100 / (double)c->allocated : 0.0);
    img_say(a, "Image end offset: %llu\n", (unsigned long long)c->image_end);
}

static void check_json(const char *file, const Qcow2Check *c)
{
    printf("{\n    \"image-end-offset\": %llu,\n    \"total-clusters\": %llu,\n    \"check-errors\": %llu,\n",
           (unsigned long long)c->image_end, (unsigned long long)c->total, (unsigned long long)c->errors);
    if (c->corruptions)
        printf("    \"corruptions\": %llu,\n", (unsigned long long)c->corruptions);
    if (c->leaks)
        printf("    \"leaks\": %llu,\n", (unsigned long long)c->leaks);
    printf("    \"allocated-clusters\": %llu,\n    \"compressed-clusters\": %llu,\n    \"filename\": ",
           (unsigned long long)c->allocated, (unsigned long long)c->compressed);
    img_json_text(file);
    printf(",\n    \"format\": \"qcow2\"\n}\n");
}

static bool run_check(const char *file, int fix, bool quiet, Qcow2Check *c, Error *err)
{
    Qcow2 *q = qcow2_load(file, !fix, err);
    bool ok = q && qcow2_check(q, fix, quiet ? NULL : print_line, c, err);

    if (q)
        qcow2_free(q);
    return ok;
}

int img_check(const ImgArgs *a)
{
    const char *repair = a->opt['r'];
    int fix = !repair                    ? 0
              : !strcmp(repair, "leaks") ? FIX_LEAKS
              : !strcmp(repair, "all")   ? FIX_LEAKS | FIX_ERRORS
                                         : -1;
    bool quiet = a->json || a->opt['q'];
    const BlkDriver *drv;
    Qcow2Check c;
    Error err;

    if (a->files != 1 || fix < 0)
        return img_fail(fix < 0 ? "-r takes leaks or all" : "check needs one file name");
    drv = image_driver(a->file[0], a->opt['f'], &err);
    if (!drv)
        return img_fail("%s", err.text);
    if (drv != &qcow2_driver) {
        img_fail("This image format does not support checks");
        return CHECK_UNSUPPORTED;
    }
    if (!run_check(a->file[0], fix, quiet, &c, &err))
        return img_fail("%s", err.text);
    if (c.fixed_leaks || c.fixed_corruptions) {
        if (!quiet)
            printf("The following inconsistencies were found and repaired:\n\n    %llu leaked clusters\n    "
                   "%llu corruptions\n\n"
                   "Double checking the fixed image now...\n",
                   (unsigned long long)c.fixed_leaks, (unsigned long long)c.fixed_corruptions);
        if (!run_check(a->file[0], 0, quiet, &c, &err))
            return img_fail("%s", err.text);
    }
    if (a->json)
        check_json(a->file[0], &c);
    else
        check_human(a, &c);
    return c.errors ? CHECK_FAILED : c.corruptions ? CHECK_CORRUPT : c.leaks ? CHECK_LEAKS : 0;
}

/* ---- map ---- */

/* Each image's name stands in the one above it. */
static char *owner_name(BlkImage *top, const char *file, int depth)
{
    char *name = qcow2_backing_path("", file);
    BlkImage *img = top;

    for (int i = 0; i < depth && img; i++) {
        ImageFacts facts;
        char *below;

        get_facts(img, &facts);
        if (!facts.backing_name)
            break;
        below = qcow2_backing_path(name, facts.backing_name);
        free(name);
        name = below;
        img = facts.backing;
    }
    return name;
}

static void map_row(const ImgArgs *a, BlkImage *img, u64 at, const ImgStatus *st, bool first)
{
    if (a->json) {
        printf("%s{ \"start\": %llu, \"length\": %llu, \"depth\": %d, \"present\": %s, \"zero\": %s, "
               "\"data\": %s",
               first ? "[" : ",\n", (unsigned long long)at, (unsigned long long)st->bytes, st->depth,
               st->present ? "true" : "false", st->zero ? "true" : "false", st->data ? "true" : "false");
        if (st->has_offset)
            printf(", \"offset\": %llu", (unsigned long long)st->at);
        printf("}");
    } else if (st->data && st->has_offset) {
        char *name = owner_name(img, a->file[0], st->depth);

        printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)at, (unsigned long long)st->bytes,
               (unsigned long long)st->at, name);
        free(name);
    }
}

static bool joins(const ImgStatus *x, const ImgStatus *y)
{
    return x->data == y->data && x->zero == y->zero && x->present == y->present && x->depth == y->depth &&
           x->owner == y->owner && x->has_offset == y->has_offset && x->compressed == y->compressed &&
           (!x->has_offset || y->at == x->at + x->bytes);
}

int img_map(const ImgArgs *a)
{
    BlkImage *img;
    ImgStatus now, next;
    bool ok = true, first = true;
    Error err;

    if (a->files != 1)
        return img_fail("map needs one file name");
    img = img_open_read(a->file[0], a->opt['f'], &err);
    if (!img)
        return img_fail("Could not open '%s': %s", a->file[0], err.text);
    if (!a->json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (u64 at = 0; ok && at < img->bytes; at += now.bytes, first = false) {
        ok = img_status(img, at, img->bytes - at, &now, &err);
        while (ok && at + now.bytes < img->bytes &&
               (ok = img_status(img, at + now.bytes, img->bytes - at - now.bytes, &next, &err)) &&
               joins(&now, &next))
            now.bytes += next.bytes;
        if (ok && !a->json && now.compressed) {
            img_close(img);
            return img_fail("File contains external, encrypted or compressed clusters.");
        }
        if (ok)
            map_row(a, img, at, &now, first);
    }
    if (a->json)
        printf(first ? "[]\n" : "]\n");
    img_close(img);
    return ok ? 0 : img_fail("%s", err.text);
}

/* ---- snapshot ---- */

int img_snapshot(const ImgArgs *a)
{
    const char *create = a->opt['c'], *apply = a->opt['a'], *delete = a->opt['d'];
    BlkImage *img;
    s64 now = host_wall_us();
    bool ok;
    Error err;

    if (a->files != 1)
        return img_fail("snapshot needs one file name");
    if ((create != NULL) + (apply != NULL) + (delete != NULL) + (a->opt['l'] != NULL) > 1)
        return img_fail("Cannot mix '-l', '-a', '-c', '-d'");
    if (!create && !apply && !delete) {
        img = open_alone(a->file[0], a->opt['f'], &err);
        if (!img)
            return img_fail("%s", err.text);
        if (img_qcow2(img))
            img_list_snapshots(img_qcow2(img));
        img_close(img);
        return 0;
    }
    img = img_open(a->file[0], a->opt['f'], true, &err);
    if (!img)
        return img_fail("%s", err.text);
    if (!img_qcow2(img))
        ok = error_set(&err, "%.300s: format %s has no snapshots", a->file[0], img->drv->name);
    else if (create)
        ok = snapshot_create(img_qcow2(img), create, (u32)(now / 1000000), (u32)(now % 1000000) * 1000, &err);
    else if (apply)
        ok = snapshot_apply(img_qcow2(img), apply, &err);
    else
        ok = snapshot_delete(img_qcow2(img), delete, &err);
    img_close(img);
    return ok ? 0 : img_fail("%s", err.text);
}
