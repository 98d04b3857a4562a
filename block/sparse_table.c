/*
 * The tables of an image: a cache of pages by file and offset, sector by sector, and the commit that writes
 * what has changed. A page may hold tables beside data: only the sectors that are tables are ever looked at
 * or written.
 */
#include "sparse.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_SECTORS = TABLE_PAGE / SECTOR };

struct TablePage {
    u32 file;
    u64 at;                         /* multiple of TABLE_PAGE */
    u8 data[TABLE_PAGE];
    u8 valid, dirty[TABLE_LEVELS];  /* a bit a sector */
    bool loading;
    Sparse *s;
    TablePage *hash_next, *newer, *older;
    HostIo io;
    u8 *loaded;                     /* what is being read */
};

typedef struct {
    HostIo io;
    Sparse *s;
    u8 data[];
} TableWrite;

static TablePage **bucket(Sparse *s, u32 file, u64 at)
{
    return &s->hash[(at / TABLE_PAGE * 0x9e3779b1u + file * 31u) % TABLE_HASH];
}

static void unlink_age(Sparse *s, TablePage *p)
{
    *(p->newer ? &p->newer->older : &s->newest) = p->older;
    *(p->older ? &p->older->newer : &s->oldest) = p->newer;
}

static void link_newest(Sparse *s, TablePage *p)
{
    p->newer = NULL;
    p->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = p;
    s->newest = p;
}

static void discard(Sparse *s, TablePage *p)
{
    TablePage **at = bucket(s, p->file, p->at);

    while (*at != p)
        at = &(*at)->hash_next;
    *at = p->hash_next;
    unlink_age(s, p);
    s->pages--;
    s->dirty_pages -= p->dirty[0] || p->dirty[1];
    free(p->loaded);
    free(p);
}

static void make_room(Sparse *s)
{
    TablePage *p = s->oldest, *newer;

    for (; p && s->pages >= TABLE_PAGES_MAX; p = newer) {
        newer = p->newer;
        if (!p->dirty[0] && !p->dirty[1] && !p->loading)
            discard(s, p);
    }
}

static TablePage *find_page(Sparse *s, u32 file, u64 at, bool make)
{
    TablePage *p = *bucket(s, file, at);

    while (p && (p->file != file || p->at != at))
        p = p->hash_next;
    if (p) {
        unlink_age(s, p);
        link_newest(s, p);
        return p;
    }
    if (!make)
        return NULL;
    make_room(s);
    p = block_alloc(sizeof(*p));
    p->file = file;
    p->at = at;
    p->s = s;
    p->hash_next = *bucket(s, file, at);
    *bucket(s, file, at) = p;
    link_newest(s, p);
    s->pages++;
    return p;
}

static void page_loaded(HostIo *io)
{
    TablePage *p = io->opaque;
    Sparse *s = p->s;

    p->loading = false;
    if (!io->ok) {
        sparse_damaged(s, "a table at %llu can't be read: %.200s", (unsigned long long)p->at, io->err.text);
        s->failed_at = p->at + 1;
        s->failed_file = p->file;
    } else {
        /* what lies behind the file's end is zero */
        for (int i = 0; i < PAGE_SECTORS; i++) {
            if (!(p->valid >> i & 1))
                memcpy(p->data + i * SECTOR, p->loaded + i * SECTOR, SECTOR);
        }
        p->valid = 0xff;
    }
    free(p->loaded);
    p->loaded = NULL;
    sparse_pump(s);
}

Step table_get(Sparse *s, u32 file, u64 at, u8 **entry)
{
    u64 page = at & ~(u64)(TABLE_PAGE - 1);
    TablePage *p = find_page(s, file, page, true);

    if (p->valid >> (at % TABLE_PAGE / SECTOR) & 1) {
        *entry = p->data + at % TABLE_PAGE;
        return STEP_OK;
    }
    if (p->loading)
        return STEP_WAIT;
    if (s->failed_at == page + 1 && s->failed_file == file) {
        s->failed_at = 0;
        return STEP_FAIL;
    }
    p->loading = true;
    p->loaded = block_alloc(TABLE_PAGE);
    p->io = (HostIo){ .kind = HOST_IO_READ, .file = s->file[file].f, .offset = page, .buf = p->loaded,
                      .bytes = TABLE_PAGE, .done = page_loaded, .opaque = p };
    host_io_submit(&p->io);
    return STEP_WAIT;
}

static void set_dirty(TablePage *p, u64 from, u64 end, int level)
{
    if (!p->dirty[0] && !p->dirty[1])
        p->s->dirty_pages++;
    for (u64 i = from / SECTOR; i < (end + SECTOR - 1) / SECTOR; i++)
        p->dirty[level] |= (u8)(1u << i);
}

void table_changed(Sparse *s, u32 file, u64 at, u32 bytes, int level)
{
    set_dirty(find_page(s, file, at & ~(u64)(TABLE_PAGE - 1), false), at % TABLE_PAGE,
              at % TABLE_PAGE + bytes, level);
}

void table_new(Sparse *s, u32 file, u64 at, u32 bytes, u8 fill, int level)
{
    for (u64 end = at + bytes; at < end; ) {
        u64 in = at % TABLE_PAGE, n = end - at < TABLE_PAGE - in ? end - at : TABLE_PAGE - in;
        TablePage *p = find_page(s, file, at - in, true);

        memset(p->data + in, fill, n);
        for (u64 i = in / SECTOR; i < (in + n) / SECTOR; i++)
            p->valid |= (u8)(1u << i);
        set_dirty(p, in, in + n, level);
        at += n;
    }
}

void table_forget(Sparse *s, u32 file, u64 at, u32 bytes)
{
    for (u64 end = at + bytes; at < end; at += SECTOR) {
        TablePage *p = find_page(s, file, at & ~(u64)(TABLE_PAGE - 1), false);

        if (p)
            p->valid &= (u8)~(1u << at % TABLE_PAGE / SECTOR);
    }
}

void table_drop_all(Sparse *s)
{
    while (s->oldest)
        discard(s, s->oldest);
}

/* ---- the commit ---- */

enum { DATA_SYNC, LEVEL_WRITE, LEVEL_SYNC, LEVEL_DONE, PER_LEVEL = 3 };

bool table_must_commit(const Sparse *s) { return s->dirty_pages > TABLE_DIRTY_MAX; }

bool table_commit_needed(const Sparse *s)
{
    bool unsynced = false;

    for (u32 i = 0; i < s->files; i++)
        unsynced |= s->file[i].unsynced;
    return s->dirty_pages || unsynced;
}

static void ended(Sparse *s, const HostIo *io)
{
    s->commit_pending--;
    if (!io->ok || (io->kind == HOST_IO_WRITE && io->transferred < io->bytes)) {
        sparse_damaged(s, "tables can't be written: %.200s", io->ok ? "no space left" : io->err.text);
        s->commit_failed = true;
    }
}

static void table_ended(HostIo *io)
{
    TableWrite *w = io->opaque;
    Sparse *s = w->s;

    ended(s, io);
    free(w);
    sparse_pump(s);
}

static void submit(Sparse *s, HostIoKind kind, u32 file, u64 at, const u8 *data, u32 bytes)
{
    TableWrite *w = block_alloc(sizeof(*w) + bytes);

    if (bytes)
        memcpy(w->data, data, bytes);
    w->s = s;
    w->io = (HostIo){ .kind = kind, .file = s->file[file].f, .offset = at, .buf = w->data, .bytes = bytes,
                      .done = table_ended, .opaque = w };
    s->commit_pending++;
    host_io_submit(&w->io);
}

static void sync_files(Sparse *s)
{
    for (u32 i = 0; i < s->files; i++) {
        Error err;

        if (!s->file[i].unsynced)
            continue;
        if (host_file_size(s->file[i].f) < s->file[i].end &&
            !host_file_resize(s->file[i].f, s->file[i].end, &err)) {
            sparse_damaged(s, "%.200s", err.text);
            s->commit_failed = true;
        }
        s->file[i].unsynced = false;
        submit(s, HOST_IO_FLUSH, i, 0, NULL, 0);
    }
}

static void write_level(Sparse *s, int level)
{
    for (TablePage *p = s->oldest; p; p = p->newer) {
        for (u32 i = 0, n; i < PAGE_SECTORS; i += n) {
            for (n = 0; i + n < PAGE_SECTORS && (p->dirty[level] >> (i + n) & 1); n++)
                ;
            if (n) {
                submit(s, HOST_IO_WRITE, p->file, p->at + i * SECTOR, p->data + i * SECTOR, n * SECTOR);
                s->file[p->file].unsynced = true;
            } else {
                n = 1;
            }
        }
    }
}

static void level_is_clean(Sparse *s, int level)
{
    for (TablePage *p = s->oldest; p; p = p->newer) {
        bool was = p->dirty[0] || p->dirty[1];

        p->dirty[level] = 0;
        s->dirty_pages -= was && !p->dirty[0] && !p->dirty[1];
    }
}

static void commit_fails(Sparse *s)
{
    for (u32 i = 0; i < s->files; i++)
        s->file[i].unsynced = true;
    s->commit_failed = false;
    s->phase = DATA_SYNC;
}

/* Nothing else changes the tables until it has ended. */
Step table_commit(Sparse *s)
{
    if (s->writes)
        return STEP_WAIT;
    for (;;) {
        int level = (s->phase - LEVEL_WRITE) / PER_LEVEL;

        if (s->commit_pending)
            return STEP_WAIT;
        if (s->commit_failed) {
            commit_fails(s);
            return STEP_FAIL;
        }
        if (s->phase == LEVEL_WRITE + PER_LEVEL * TABLE_LEVELS)
            break;
        if (s->phase == DATA_SYNC || (s->phase - LEVEL_WRITE) % PER_LEVEL == LEVEL_SYNC - LEVEL_WRITE)
            sync_files(s);
        else if ((s->phase - LEVEL_WRITE) % PER_LEVEL == 0)
            write_level(s, level);
        else
            level_is_clean(s, level);
        s->phase++;
    }
    s->phase = DATA_SYNC;
    return STEP_OK;
}
