/* qemu-img convert and dd: making an image out of others. What is unfinished is deleted. */
#include "img_copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPARSE_BYTES = 4096 };

static void close_all(Copy *c)
{
    for (int i = 0; i < c->sources; i++)
        img_close(c->from[i]);
    img_close(c->to);
}

static u64 total_bytes(const Copy *c)
{
    u64 n = 0;

    for (int i = 0; i < c->sources; i++)
        n += c->from[i]->bytes;
    return n;
}

/* Opens the target, which was made anew unless -n was given. */
static bool open_target(Copy *c, const char *file, const char *format, bool made, Error *err)
{
    ImageFacts facts = { 0 };

    if (!c->bytes && !strcmp(format, "raw") && made)
        return true;
    c->to = img_open(file, format, true, err);
    if (!c->to)
        return false;
    if (!made)
        c->sparse = 0;              /* what is there already must be overwritten */
    if (c->to->bytes < c->bytes)
        return error_set(err, "%.200s is smaller than the source", file);
    if (c->to->drv->facts)
        c->to->drv->facts(c->to, &facts);
    if (facts.packs_only)
        c->compress = true;
    return !c->compress || (facts.packs && made && facts.unit <= COPY_BUF) ||
           error_set(err, made ? "format %s has no compression" : "-c and -n do not go together",
                     c->to->drv->name);
}

/* A device or a pipe is not made by us: it stays. */
static void delete_unfinished(const char *file)
{
    Error ignored;
    HostFile *f = host_file_open(file, HOST_READ, &ignored);

    if (!f)
        return;
    host_file_close(f);
    host_file_delete(file, &ignored);
}

static bool copy_to(Copy *c, const char *file, const char *format, ImageCreate *how, bool make, Error *err)
{
    bool ok;

    how->bytes = c->bytes;
    c->has_base = how->base != NULL;
    if (make && !img_make(file, format, how, err))
        return error_prefix(err, "%.200s", file);
    ok = open_target(c, file, format, make, err) && (!c->to || img_copy(c, err));
    if (!ok && make) {
        img_close(c->to);
        c->to = NULL;
        delete_unfinished(file);
    }
    return ok;
}

static bool open_sources(Copy *c, int files, Error *err)
{
    const ImgArgs *a = c->a;

    for (int i = 0; i < files; i++) {
        if (!strcmp(a->file[i], a->file[files]))
            return error_set(err, "source and target are the same file");
        c->from[i] = img_open_read(a->file[i], a->opt['f'], err);
        if (!c->from[i]) {
            Error why = *err;

            return error_set(err, "Could not open '%.100s': %.350s", a->file[i], why.text);
        }
        c->sources++;
    }
    if (!a->opt['l'])
        return true;
    if (files > 1)
        return error_set(err, "-l takes one source");
    return img_qcow2(c->from[0]) ? qcow2_use_snapshot(img_qcow2(c->from[0]), a->opt['l'], err)
                                 : error_set(err, "%.300s has no snapshots", a->file[0]);
}

int img_convert(const ImgArgs *a)
{
    Copy c = { .a = a, .sparse = SPARSE_BYTES, .compress = a->opt['c'] != NULL };
    const char *format = a->opt['O'] ? a->opt['O'] : "raw";
    ImageCreate how = { .options = a->opt['o'], .base = a->opt['B'], .base_format = a->opt['F'] };
    char base[1100], base_format[32];
    Error err = { "" };
    bool ok;

    if (img_wants_help(a))
        return img_options_help(format);
    if (a->files < 2 || a->files > COPY_SOURCES)
        return img_fail(a->files < 2 ? "convert needs a source and a target" : "too many sources");
    if (a->opt['S'] && !image_size(a->opt['S'], &c.sparse, &err))
        return img_fail("%s", err.text);
    if (c.sparse % SECTOR || c.sparse > COPY_BUF)
        return img_fail("-S must be a multiple of 512 up to 2M");
    if (!how.base && image_option(a->opt['o'], "backing_file", base, sizeof(base)))
        how.base = base;
    if (!how.base_format && image_option(a->opt['o'], "backing_fmt", base_format, sizeof(base_format)))
        how.base_format = base_format;
    img_catch_interrupts();
    ok = open_sources(&c, a->files - 1, &err);
    c.bytes = total_bytes(&c);
    ok = ok && copy_to(&c, a->file[a->files - 1], format, &how, !a->opt['n'], &err);
    close_all(&c);
    return ok ? 0 : img_fail("%s", err.text);
}

/* ---- dd ---- */

typedef struct { const char *in, *out; u64 bs, count, skip; bool has_count; } DdWords;

/* "if=file" and its like. */
static bool dd_word(DdWords *w, const char *word, Error *err)
{
    static const char *const names[] = { "if=", "of=", "bs=", "count=", "skip=" };
    int n = 0;

    while (n < 5 && strncmp(word, names[n], strlen(names[n])))
        n++;
    if (n == 5)
        return error_set(err, "dd does not know '%.60s': there are if= of= bs= count= skip=", word);
    word += strlen(names[n]);
    switch (n) {
    case 0: w->in = word; return true;
    case 1: w->out = word; return true;
    case 2:
        return image_size(word, &w->bs, err) && ((w->bs && w->bs <= 1ull << 40) ||
                                                 error_set(err, "bs=%s is out of range", word));
    case 3: w->has_count = true; return image_size(word, &w->count, err);
    default: return image_size(word, &w->skip, err);
    }
}

int img_dd(const ImgArgs *a)
{
    Copy c = { .a = a, .sparse = SPARSE_BYTES };
    const char *format = a->opt['O'] ? a->opt['O'] : "raw";
    DdWords w = { .bs = SECTOR };
    ImageCreate how = { 0 };
    Error err = { "" };
    u64 all;
    bool ok;

    for (int i = 0; i < a->files; i++) {
        if (!dd_word(&w, a->file[i], &err))
            return img_fail("%s", err.text);
    }
    if (!w.in || !w.out || !strcmp(w.in, w.out))
        return img_fail("dd needs if= and of=, two different files");
    if (w.bs % SECTOR)
        return img_fail("bs must be a multiple of 512");
    img_catch_interrupts();
    c.from[0] = img_open_read(w.in, a->opt['f'], &err);
    if (!c.from[0])
        return img_fail("Could not open '%s': %s", w.in, err.text);
    c.sources = 1;
    all = total_bytes(&c);
    c.skip = w.skip > all / w.bs ? all : w.skip * w.bs;
    c.bytes = all - c.skip;
    if (w.has_count && w.count < c.bytes / w.bs + 1 && w.count * w.bs < c.bytes)
        c.bytes = w.count * w.bs;
    ok = copy_to(&c, w.out, format, &how, true, &err);
    close_all(&c);
    return ok ? 0 : img_fail("%s", err.text);
}
