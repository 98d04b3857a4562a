/*
 * Snapshots: the machine and its disks at one instant, and back. Contract: snapshot.h; files: snapshot_int.h.
 *
 * A save goes by phases, a step at each turn of the main loop:
 *
 *      FLUSH     what the disks have cached is written, while the guest runs
 *      (instant) the vCPU parked, virtual time standing, requests drained: chips and CPU are taken, memory is
 *                held, every disk's present is kept. The guest goes on
 *      WRITE     blocks of compressed memory, as the thread fills them; then the sections and the head
 *      SYNC      they are brought to the disk
 *      END       the snapshot tables tell of it: the others' first, the one with the machine last
 *
 * Going back reads the whole state, checks every byte of it by checksums and tries it on the chips' tables
 * before anything is changed.
 */
#include "snapshot_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "host.h"
#include "log.h"
#include "version.h"

typedef enum { IDLE, FLUSH, WRITE, SYNC } Phase;

typedef struct Snapshots {
    Machine *m;
    Phase phase;
    SnapshotDone *done;
    void *done_opaque;
    bool automatic;                     /* before-loadvm */
    bool switched;                      /* ... and the machine has gone back: what is saved is not its state */
    bool tail_written;
    u32 waiting;                        /* requests under way */
    Error err;                          /* text empty: all is well so far */
    Blk *disk[DRIVE_COUNT];             /* to be saved; the first holds the machine */
    BlkSave *save[DRIVE_COUNT];
    int disks;
    BlkSnapshot row;
    Head head;
    MachineState state;
    u8 *picture;
    RamSave *ram;
    RamLoad *load;
    RamBase base;
    char base_name[256];
    u64 point, ancestor[ANCESTORS];     /* the snapshot that the present comes from, and its ancestors */
    u64 replaced;                       /* uid of the one whose place this takes */
    u64 began_ns;
    SnapshotFigures figures;
    char name[256];                     /* snapshot_name()'s */
} Snapshots;

static Snapshots *of(Machine *m)
{
    if (!m->snapshots) {
        m->snapshots = calloc(1, sizeof(Snapshots));
        if (!m->snapshots)
            abort();
        m->snapshots->m = m;
    }
    return m->snapshots;
}

u64 snapshot_point(Machine *m, u64 ancestor[ANCESTORS])
{
    memcpy(ancestor, of(m)->ancestor, sizeof(of(m)->ancestor));
    return of(m)->point;
}

const char *snapshot_name(Machine *m, int n)
{
    return snapshot_nth_name(m, n, of(m)->name, sizeof(of(m)->name));
}

SnapshotFigures snapshot_figures(Machine *m) { return of(m)->figures; }

/* ---- disks and rows ---- */

/* The writable hard disks; all must be able to. */
static bool find_disks(Snapshots *s, Error *err)
{
    s->disks = 0;
    for (Blk *blk = blk_first(s->m); blk; blk = blk_next(blk)) {
        if (blk_removable(blk) || !blk_has_medium(blk) || blk_readonly(blk))
            continue;
        if (!blk_keeps_changes(blk))
            return error_set(err, "%s (%.200s) throws its changes away (-snapshot): there is nothing to go back to",
                             blk_name(blk), blk_file(blk));
        if (blk_waits(blk))
            return error_set(err, "%s waits after an error of the host; 'cont' or 'system_reset' first",
                             blk_name(blk));
        if (!blk_can_snapshot(blk))
            return error_set(err, "%s (%.160s) can't keep snapshots; "
                             "'qemu-img convert -O qcow2 %.160s new.qcow2' makes an image that can", blk_name(blk),
                             blk_file(blk), blk_file(blk));
        s->disk[s->disks++] = blk;
    }
    return s->disks || error_set(err, "there is no writable disk in the qcow2 format to keep a snapshot in");
}

Blk *snapshot_disk(Machine *m)
{
    for (Blk *blk = blk_first(m); blk; blk = blk_next(blk)) {
        if (!blk_removable(blk) && blk_can_snapshot(blk))
            return blk;
    }
    return NULL;
}

static bool digits(const char *text) { return *text && !text[strspn(text, "0123456789")]; }

/* By number, then by name. */
static const BlkSnapshot *find_row(const BlkSnapshot *list, u32 count, const char *which)
{
    for (u32 i = 0; i < count; i++) {
        if (!strcmp(list[i].id, which))
            return &list[i];
    }
    for (u32 i = 0; i < count; i++) {
        if (!strcmp(list[i].name, which))
            return &list[i];
    }
    return NULL;
}

static const BlkSnapshot *find_name(const BlkSnapshot *list, u32 count, const char *name)
{
    for (u32 i = 0; i < count; i++) {
        if (!strcmp(list[i].name, name))
            return &list[i];
    }
    return NULL;
}

/* The row of a snapshot on the disk that holds machines. False and err: there is none. */
bool snapshot_look_up(Machine *m, const char *which, Blk **blk, BlkSnapshot *row, Error *err)
{
    BlkSnapshot *list;
    const BlkSnapshot *found;
    u32 count;

    *blk = snapshot_disk(m);
    if (!*blk)
        return error_set(err, "there is no disk in the qcow2 format that could hold snapshots");
    if (!blk_snapshots(*blk, &list, &count, err))
        return false;
    found = find_row(list, count, which);
    if (found)
        *row = *found;
    free(list);
    return found || error_set(err, "there is no snapshot '%.60s'; 'info snapshots' lists them", which);
}

static void set_row(Snapshots *s, const char *name)
{
    s64 now = host_wall_us();

    s->row = (BlkSnapshot){ .date_s = (u32)(now / 1000000), .date_ns = (u32)(now % 1000000) * 1000 };
    if (name && *name) {
        snprintf(s->row.name, sizeof(s->row.name), "%s", name);
    } else {
        snapshot_name_now(s->row.name, sizeof(s->row.name));
    }
}

/* ---- saving ---- */

static void fail(Snapshots *s, const Error *err)
{
    if (!s->err.text[0])
        s->err = *err;
}

static void ended(Snapshots *s)
{
    SnapshotDone *done = s->done;
    Error err = s->err;

    for (int i = 0; i < s->disks; i++) {
        if (s->save[i])
            blk_save_abort(s->save[i]);
        s->save[i] = NULL;
    }
    if (s->ram) {
        machine_park(s->m);             /* the vCPU may be about to have a page kept */
        ram_save_free(s->ram, !s->switched);
        machine_unpark(s->m);
    }
    s->ram = NULL;
    state_free(&s->state);
    free(s->picture);
    s->picture = NULL;
    s->phase = IDLE;
    s->done = NULL;
    s->figures.total_ns = host_now_ns() - s->began_ns;
    if (done)
        done(s->done_opaque, err.text[0] ? err.text : NULL);
    else if (err.text[0])
        log_line("snapshot '%s': %s", s->row.name, err.text);
}

static const char *reason(BlkResult r)
{
    return r == BLK_ERR_NOSPACE ? "there is no space left on the host's disk"
                                : "the image can't be written: an error, or no space left on the host's disk";
}

typedef struct { BlkReq req; Snapshots *s; u8 *block; bool from_ram; } Write;

static void write_done(BlkReq *req)
{
    Write *w = req->opaque;
    Snapshots *s = w->s;
    Error err;

    if (req->result != BLK_OK) {
        error_set(&err, "%s", reason(req->result));
        fail(s, &err);
    }
    if (w->from_ram)
        ram_save_release(s->ram, w->block);
    else
        free(w->block);
    free(w);
    s->waiting--;
    host_wake();
}

static void write_block(Snapshots *s, u32 n, u8 *block, u32 blocks, bool from_ram)
{
    Write *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    *w = (Write){ .s = s, .block = block, .from_ram = from_ram };
    w->req = (BlkReq){ .offset = (u64)n * s->head.block_bytes, .bytes = blocks * s->head.block_bytes,
                       .buf = block, .done = write_done, .opaque = w };
    s->waiting++;
    s->figures.bytes += w->req.bytes;
    blk_save_write(s->save[0], &w->req);
}

typedef struct { BlkReq req; Snapshots *s; } Flush;

static void flush_done(BlkReq *req)
{
    Flush *f = req->opaque;
    Error err;

    if (req->result != BLK_OK) {
        error_set(&err, "%s", reason(req->result));
        fail(f->s, &err);
    }
    f->s->waiting--;
    free(f);
    host_wake();
}

static void flush_disks(Snapshots *s)
{
    for (int i = 0; i < s->disks; i++) {
        Flush *f = calloc(1, sizeof(*f));

        if (!f)
            abort();
        f->s = s;
        f->req = (BlkReq){ .op = BLK_FLUSH, .done = flush_done, .opaque = f };
        s->waiting++;
        blk_submit(s->disk[i], &f->req);
    }
}

static void drain_all(Machine *m)
{
    for (Blk *blk = blk_first(m); blk; blk = blk_next(blk))
        blk_drain(blk);
}

/* The number of the snapshot that memory is compared with; false: it is not there any more. */
static bool base_row(const Snapshots *s, char id[24])
{
    BlkSnapshot *list;
    const BlkSnapshot *row;
    u32 count;
    Head head;
    Error ignored;
    bool ok;

    if (!s->base.uid || !blk_snapshots(s->disk[0], &list, &count, &ignored))
        return false;
    row = find_name(list, count, s->base_name);
    ok = row && head_read(&head, s->disk[0], row, &ignored) && head.uid == s->base.uid &&
         head.block_bytes == s->head.block_bytes;
    if (ok)
        memcpy(id, row->id, sizeof(row->id));
    free(list);
    return ok;
}

/* Memory and disks as they are now; frozen, drained. The thread is not started yet. */
static bool take_hold(Snapshots *s, Error *err)
{
    u32 *share, shares;
    char from[24] = "";

    s->head = (Head){ .uid = head_new_uid(), .block_bytes = blk_vm_block(s->disk[0]) };
    s->head.ancestor[0] = s->point;
    memcpy(s->head.ancestor + 1, s->ancestor, (ANCESTORS - 1) * sizeof(u64));
    snprintf(s->head.program, sizeof(s->head.program), "qemu-win %s", PROGRAM_VERSION);
    s->picture = malloc(s->head.block_bytes);
    if (!s->picture)
        return error_set(err, "out of memory");
    s->head.picture_bytes = head_picture(s->m, s->picture, s->head.block_bytes - HEAD_BYTES);
    state_take(s->m, &s->state);
    s->row.clock_ns = s->state.clock_ns;
    s->tail_written = false;
    s->figures.bytes = 0;
    if (s->base.uid && !base_row(s, from))
        ram_base_lost(s->m, &s->base);
    s->ram = ram_save_begin(s->m, &s->base, s->head.block_bytes, &share, &shares);
    for (int i = 0; i < s->disks; i++) {
        s->save[i] = blk_save_begin(s->disk[i], from, share, i ? 0 : shares, err);
        if (!s->save[i])
            break;
    }
    free(share);
    return s->save[s->disks - 1];
}

static void instant(Snapshots *s)
{
    u64 from = host_now_ns();
    Error err;
    bool ok;

    machine_freeze(s->m);
    drain_all(s->m);
    ok = take_hold(s, &err);
    machine_thaw(s->m, false);
    s->figures.stood_ns = host_now_ns() - from;
    if (!ok) {
        fail(s, &err);
        ended(s);
        return;
    }
    ram_save_run(s->ram);
    s->phase = WRITE;
}

/* Sections and head, when all pages are in blocks. */
static bool write_tail(Snapshots *s, Error *err)
{
    PageTable *t = ram_save_table(s->ram);
    SaveBuf raw = { 0 };
    uLong packed;
    u8 *tail, *head = calloc(1, s->head.block_bytes);
    u32 size = s->head.block_bytes, blocks;
    bool ok;

    table_room(t, 1);
    t->blocks = t->blocks ? t->blocks : 1;
    state_put_sections(s->m, &s->state, t, &raw);
    packed = compressBound((uLong)raw.len);
    blocks = (u32)((packed + size - 1) / size);
    tail = calloc(blocks, size);
    ok = tail && head && compress2(tail, &packed, raw.data, (uLong)raw.len, 1) == Z_OK;
    if (ok) {
        s->head.sections_at = t->blocks;
        s->head.sections_bytes = (u32)packed;
        s->head.sections_raw = (u32)raw.len;
        blocks = (u32)((packed + size - 1) / size);
        s->head.sections_crc = (u32)crc32(0, tail, (uInt)blocks * size);
        s->head.blocks = t->blocks + blocks;
        s->row.vm_bytes = (u64)s->head.blocks * size;
        head_put(head, &s->head, s->picture);
        write_block(s, s->head.sections_at, tail, blocks, false);
        write_block(s, 0, head, 1, false);
    } else {
        free(tail);
        free(head);
        error_set(err, "out of memory");
    }
    free(raw.data);
    s->tail_written = true;
    return ok;
}

static void write_more(Snapshots *s)
{
    u8 *block;
    u32 n;
    Error err;

    while (!s->err.text[0] && (block = ram_save_take(s->ram, &n)))
        write_block(s, n, block, 1, true);
    if (s->waiting || (!s->err.text[0] && !ram_save_done(s->ram)))
        return;
    if (!s->err.text[0] && !s->tail_written) {
        if (!write_tail(s, &err))
            fail(s, &err);
        return;
    }
    s->phase = SYNC;
    if (!s->err.text[0])
        flush_disks(s);
}

/* The instant at which it is there. */
static void end_save(Snapshots *s)
{
    Error err;

    drain_all(s->m);
    for (int i = s->disks - 1; i >= 0 && !s->err.text[0]; i--) {
        BlkSnapshot row = s->row;

        row.vm_bytes = i ? 0 : row.vm_bytes;
        if (!blk_save_end(s->save[i], &row, &err))
            fail(s, &err);
        s->save[i] = NULL;
    }
    if (!s->err.text[0] && !s->automatic) {
        ram_save_keep(s->ram, &s->base, s->head.uid);
        memcpy(s->base_name, s->row.name, sizeof(s->base_name));
        memcpy(s->ancestor, s->head.ancestor, sizeof(s->ancestor));
        s->point = s->head.uid;
    }
    if (!s->err.text[0] && s->replaced && s->replaced == s->base.uid)
        ram_base_lost(s->m, &s->base);
    ended(s);
}

/* One step; false: there is nothing to do but to wait. */
static bool step(Snapshots *s)
{
    Phase before = s->phase;

    if (before == IDLE)
        return false;
    if (before == WRITE) {
        bool tail = s->tail_written;

        write_more(s);
        return s->phase != before || tail != s->tail_written;
    }
    if (s->waiting)
        return false;
    if (s->err.text[0])
        ended(s);
    else if (before == FLUSH)
        instant(s);
    else
        end_save(s);
    return true;
}

/* With the vCPU parked: it may be about to ask the load for a page. */
static void end_load(Snapshots *s)
{
    machine_park(s->m);
    ram_load_free(s->load);
    s->load = NULL;
    machine_unpark(s->m);
}

void snapshot_service(Machine *m)
{
    Snapshots *s = m->snapshots;

    if (!s)
        return;
    while (step(s))
        ;
    if (s->load && ram_load_done(s->load))
        end_load(s);
}

void snapshot_finish(Machine *m)
{
    Snapshots *s = m->snapshots;

    while (s && s->phase != IDLE) {
        if (step(s))
            continue;
        if (s->waiting)
            host_io_wait();
        else
            ram_save_wait(s->ram);
    }
    if (s && s->load)
        end_load(s);
}

void snapshot_destroy(Machine *m)
{
    Snapshots *s = m->snapshots;

    if (!s)
        return;
    snapshot_finish(m);
    table_free(&s->base.table);
    free(s->base.quick);
    free(s);
    m->snapshots = NULL;
}

/* What a snapshot of that name is replaced for: its uid goes to s->replaced. */
static bool will_replace(Snapshots *s, bool *exists, Error *err)
{
    BlkSnapshot *list;
    const BlkSnapshot *old;
    Head head;
    Error ignored;
    u32 count;

    if (!blk_snapshots(s->disk[0], &list, &count, err))
        return false;
    old = find_name(list, count, s->row.name);
    *exists = old;
    s->replaced = old && head_read(&head, s->disk[0], old, &ignored) ? head.uid : 0;
    free(list);
    return true;
}

static bool begin(Snapshots *s, const char *name, bool *replaces, Error *err)
{
    snapshot_finish(s->m);
    s->err.text[0] = 0;
    s->done = NULL;
    s->began_ns = host_now_ns();
    if (!find_disks(s, err))
        return false;
    set_row(s, name);
    return will_replace(s, replaces, err);
}

bool snapshot_save(Machine *m, const char *name, char note[512], SnapshotDone *done, void *opaque, Error *err)
{
    Snapshots *s = of(m);
    bool replaces;

    note[0] = 0;
    if (name && digits(name))
        return error_set(err, "'%.60s' would be taken for a number: use a name with a letter in it", name);
    if (name && strlen(name) >= sizeof(s->row.name))
        return error_set(err, "the name is longer than %u characters", (unsigned)sizeof(s->row.name) - 1);
    if (!begin(s, name, &replaces, err))
        return false;
    if (replaces)
        snprintf(note, 512, "the snapshot '%s' is replaced", s->row.name);
    else if (!name || !*name)
        snprintf(note, 512, "the snapshot is called '%s'", s->row.name);
    s->automatic = s->switched = false;
    s->done = done;
    s->done_opaque = opaque;
    s->phase = FLUSH;
    flush_disks(s);
    host_wake();
    return true;
}

/* ---- going back ---- */

typedef struct {
    Blk *blk[DRIVE_COUNT];              /* the disks that go back, and their numbers for it */
    char id[DRIVE_COUNT][24];
    int disks;
    BlkSnapshot row;
    Head head;
    u8 *area;
    MachineState state;
    PageTable table;
} Goal;

static void goal_free(Goal *g)
{
    free(g->area);
    state_free(&g->state);
    table_free(&g->table);
}

static bool check_blocks(const Goal *g, Error *err)
{
    u32 size = g->head.block_bytes;

    if (g->table.blocks > g->head.sections_at)
        return error_set(err, "its machine state is damaged: blocks");
    for (u32 b = 1; b < g->table.blocks; b++) {
        if ((u32)crc32(0, g->area + (u64)b * size, size) != g->table.crc[b])
            return error_set(err, "its machine state is damaged: block %u of %u", b, g->table.blocks);
    }
    return true;
}

/* The state, read whole and tried on this machine. */
static bool read_goal(Machine *m, Blk *blk, Goal *g, Error *err)
{
    const Head *h = &g->head;
    u64 bytes;
    uLong raw;
    u8 *sections, *at;
    bool ok;

    if (!head_read(&g->head, blk, &g->row, err))
        return false;
    bytes = (u64)h->blocks * h->block_bytes;
    if (h->block_bytes != blk_vm_block(blk) || bytes > g->row.vm_bytes)
        return error_set(err, "its machine state is damaged: the head");
    g->area = malloc(bytes);
    raw = h->sections_raw;
    sections = malloc(raw + 1ul);
    if (!g->area || !sections) {
        free(sections);
        return error_set(err, "out of memory for its state of %llu MB", (unsigned long long)bytes >> 20);
    }
    ok = blk_snapshot_read(blk, g->row.id, 0, g->area, bytes, err);
    at = g->area + (u64)h->sections_at * h->block_bytes;
    if (ok && ((u32)crc32(0, at, (uInt)(g->area + bytes - at)) != h->sections_crc ||
               uncompress(sections, &raw, at, h->sections_bytes) != Z_OK || raw != h->sections_raw))
        ok = error_set(err, "its machine state is damaged: sections");
    ok = ok && state_parse(m, sections, raw, h->block_bytes, &g->state, &g->table, err) && check_blocks(g, err);
    free(sections);
    return ok;
}

/* Every writable disk must have it. */
static bool find_goals(Snapshots *s, Goal *g, Error *err)
{
    if (!find_disks(s, err))
        return false;
    for (g->disks = 0; g->disks < s->disks; g->disks++) {
        Blk *blk = s->disk[g->disks];
        BlkSnapshot *list;
        const BlkSnapshot *row;
        u32 count;

        if (!blk_snapshots(blk, &list, &count, err))
            return false;
        row = g->disks ? find_name(list, count, g->row.name) : &g->row;
        if (row)
            memcpy(g->id[g->disks], row->id, sizeof(row->id));
        g->blk[g->disks] = blk;
        free(list);
        if (!row)
            return error_set(err, "%s (%.200s) has no snapshot '%.60s'", blk_name(blk), blk_file(blk),
                             g->row.name);
    }
    return true;
}

/* What was in the drives then and is not now: nothing is opened because a snapshot says so. */
static void note_media(Machine *m, const MachineState *st, char note[512])
{
    for (u32 i = 0; i < st->media; i++) {
        const MediumNote *then = &st->medium[i];

        for (Blk *blk = blk_first(m); blk; blk = blk_next(blk)) {
            size_t n = strlen(note);

            if (strcmp(blk_name(blk), then->drive) || !strcmp(blk_file(blk), then->file))
                continue;
            snprintf(note + n, 512 - n, "%s%s held %s%.100s%s then, and now %s%.100s%s", n ? "\n" : "",
                     then->drive, then->file[0] ? "'" : "", then->file[0] ? then->file : "nothing",
                     then->file[0] ? "'" : "", blk_file(blk)[0] ? "'" : "",
                     blk_file(blk)[0] ? blk_file(blk) : "nothing", blk_file(blk)[0] ? "'" : "");
        }
    }
}

/* Chips, then disks, then memory; frozen. False: the machine is what it was. */
static bool switch_over(Snapshots *s, Goal *g, Error *err)
{
    Machine *m = s->m;
    MachineState now;
    Error ignored;
    bool ok;
    int gone = 0;

    state_take(m, &now);
    ok = state_apply(m, &g->state, err);
    for (; ok && gone < g->disks; gone += ok)
        ok = blk_snapshot_apply(g->blk[gone], g->id[gone], err);
    if (!ok) {
        state_apply(m, &now, &ignored);
        state_free(&now);
        if (gone) {
            machine_request(m, REQ_STOP);
            error_prefix(err, "the guest is stopped: %s has gone back, and the next disk could not", blk_name(g->blk[0]));
        }
        return false;
    }
    state_free(&now);
    s->load = ram_load_begin(m, &s->base, g->head.uid, &g->table, g->area, g->head.block_bytes);
    g->area = NULL;
    for (Device *dev = m->devices; dev; dev = dev->next) {
        if (dev->cls->memory_loaded)
            dev->cls->memory_loaded(dev);
    }
    table_free(&s->base.table);
    s->base.table = g->table;
    s->base.uid = g->head.uid;
    memcpy(s->base_name, g->row.name, sizeof(s->base_name));
    s->switched = true;
    g->table = (PageTable){ 0 };
    ram_quick_hashes(m, &s->base);
    s->point = g->head.uid;
    memcpy(s->ancestor, g->head.ancestor, sizeof(s->ancestor));
    return true;
}

/* The present is kept, or begun to be. */
static bool keep_present(Snapshots *s, Error *err)
{
    bool replaces, ok;

    s->automatic = true;
    s->switched = false;
    ok = begin(s, SNAPSHOT_AUTO, &replaces, err) && take_hold(s, err);
    if (!ok)
        error_prefix(err, "the present can't be kept as '" SNAPSHOT_AUTO "' (-no-auto-snapshot goes back all the same)");
    return ok;
}

static void given_up(void *opaque, const char *error) { (void)opaque, (void)error; }

static void give_up_present(Snapshots *s)
{
    error_set(&s->err, "given up");
    s->done = given_up;
    ended(s);
}

bool snapshot_load(Machine *m, const char *which, char note[512], Error *err)
{
    Snapshots *s = of(m);
    Goal g = { 0 };
    Blk *blk;
    u64 from = host_now_ns();
    bool ok, keeps = !m->cfg.no_auto_snapshot && machine_started(m);

    note[0] = 0;
    snapshot_finish(m);
    machine_freeze(m);
    drain_all(m);
    ok = snapshot_look_up(m, which, &blk, &g.row, err) && find_goals(s, &g, err) && read_goal(m, blk, &g, err);
    if (ok && keeps && !keep_present(s, err)) {
        give_up_present(s);
        ok = false;
    }
    if (ok)
        blk_give_up_all(m);
    if (ok && !switch_over(s, &g, err)) {
        if (keeps)
            give_up_present(s);
        ok = false;
    }
    if (ok && keeps) {
        snprintf(note, 512, "what was not saved is kept as '" SNAPSHOT_AUTO "'");
        ram_save_run(s->ram);
        s->phase = WRITE;
    } else if (ok && machine_started(m)) {
        snprintf(note, 512, "what was not saved is gone");
    }
    if (ok)
        note_media(m, &g.state, note);
    machine_thaw(m, ok);
    s->figures.stood_ns = host_now_ns() - from;
    goal_free(&g);
    return ok;
}

/* ---- deleting ---- */

bool snapshot_remove(Machine *m, const char *which, Error *err)
{
    Snapshots *s = of(m);
    BlkSnapshot row, *list;
    Head head;
    Blk *first;
    Error ignored;
    u32 count;
    bool ok = true;

    snapshot_finish(m);
    if (!snapshot_look_up(m, which, &first, &row, err))
        return false;
    drain_all(m);
    if (s->base.uid && head_read(&head, first, &row, &ignored) && head.uid == s->base.uid)
        ram_base_lost(m, &s->base);
    for (Blk *blk = blk_first(m); ok && blk; blk = blk_next(blk)) {
        const BlkSnapshot *found;
        char id[24] = "";

        if (blk_removable(blk) || !blk_can_snapshot(blk) || blk_readonly(blk))
            continue;
        if (!blk_snapshots(blk, &list, &count, err))
            return false;
        found = blk == first ? &row : find_name(list, count, row.name);
        if (found)
            memcpy(id, found->id, sizeof(id));
        free(list);
        ok = !id[0] || blk_snapshot_delete(blk, id, err);
    }
    return ok;
}
