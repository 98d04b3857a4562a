/*
 * Waiting for any number of handles. WaitForMultipleObjects takes 64: up to DIRECT_MAX handles are waited for
 * directly; the rest belongs to groups, each with a fan-in thread that waits for up to 62 handles and one
 * event that wakes it up.
 *
 * A group's thread takes a signalled handle out of what it waits for, tells the main thread by the group's
 * event, and waits for the others; after the handle's function has run the handle is put back. So a handle
 * that stays signalled makes no thread spin, and none is served twice before the others had their turn.
 * Directly waited for handles change places for the same reason: of several that are signalled, Windows
 * reports the first.
 */
#include "win.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIRECT_MAX = 46,
    GROUP_ITEMS = MAXIMUM_WAIT_OBJECTS - 2,
    GROUPS_MAX = MAXIMUM_WAIT_OBJECTS - DIRECT_MAX
};

typedef enum { ARMED, FIRED, SERVED, REMOVED } ItemState; /* of an item in a group */
typedef struct Group Group;

struct WaitItem {
    HANDLE handle;
    WaitFn *fn;
    void *opaque;
    Group *group;    /* whose thread waits for it; NULL: directly waited for */
    ItemState state; /* the group's lock protects it */
    WaitItem *next;  /* in WaitSet.found */
};

struct Group {
    WaitSet *ws;
    HostThread *thread;
    HostLock *lock; /* for all below */
    HostCond *seen_cond;
    HANDLE control; /* main -> thread: look at the items again */
    HANDLE event;   /* thread -> main: items have fired */
    WaitItem *item[GROUP_ITEMS];
    int items;
    u32 changes, seen; /* the thread waits for none that was removed before change number `seen` */
    bool quit;
};

struct WaitSet {
    HANDLE handle[MAXIMUM_WAIT_OBJECTS];
    WaitItem *item[MAXIMUM_WAIT_OBJECTS];
    int count;  /* of the two arrays */
    int direct; /* items among them that are no group's event */
    Group *group[GROUPS_MAX];
    int groups;
    int fired;         /* index the last wait found, -1: none */
    WaitItem *found;   /* items of a group whose functions are to be run */
    WaitItem *running; /* whose function is running; NULL when it removed itself */
};

static void *get(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        abort();
    return p;
}

WaitSet *waitset_new(void)
{
    WaitSet *ws = get(sizeof *ws);
    ws->fired = -1;
    return ws;
}

static void direct_add(WaitSet *ws, WaitItem *item)
{
    ws->handle[ws->count] = item->handle;
    ws->item[ws->count++] = item;
}

static void direct_take(WaitSet *ws, int i)
{
    ws->count--;
    memmove(&ws->handle[i], &ws->handle[i + 1], (size_t)(ws->count - i) * sizeof ws->handle[0]);
    memmove(&ws->item[i], &ws->item[i + 1], (size_t)(ws->count - i) * sizeof ws->item[0]);
}

/* ---- a group's thread ---- */

static void group_wait(Group *g)
{
    HANDLE handle[1 + GROUP_ITEMS] = {g->control};
    WaitItem *item[1 + GROUP_ITEMS];
    DWORD n = 1;
    g->seen = g->changes;
    host_cond_signal(g->seen_cond);
    for (int i = 0; i < g->items; i++) {
        if (g->item[i]->state == ARMED) {
            item[n] = g->item[i];
            handle[n++] = g->item[i]->handle;
        }
    }
    host_unlock(g->lock);
    DWORD r = WaitForMultipleObjects(n, handle, FALSE, INFINITE);
    host_lock(g->lock);
    assert(r < n); /* a handle was closed before it was removed */
    if (r > 0 && item[r]->state == ARMED) {
        item[r]->state = FIRED;
        SetEvent(g->event);
    }
}

static void group_thread(void *opaque)
{
    Group *g = opaque;
    host_lock(g->lock);
    while (!g->quit)
        group_wait(g);
    host_unlock(g->lock);
}

/* Main thread: what has fired is moved to the list of what is to be run. */
static void group_collect(void *opaque)
{
    Group *g = opaque;
    host_lock(g->lock);
    for (int i = g->items - 1; i >= 0; i--) {
        WaitItem *item = g->item[i];
        if (item->state == FIRED) {
            item->state = SERVED;
            item->next = g->ws->found;
            g->ws->found = item;
        }
    }
    host_unlock(g->lock);
}

static Group *group_new(WaitSet *ws)
{
    Group *g = get(sizeof *g);
    g->ws = ws;
    g->lock = host_lock_new();
    g->seen_cond = host_cond_new();
    g->control = CreateEventW(NULL, FALSE, FALSE, NULL);
    g->event = CreateEventW(NULL, FALSE, FALSE, NULL);
    WaitItem *item = get(sizeof *item);
    *item = (WaitItem){.handle = g->event, .fn = group_collect, .opaque = g};
    direct_add(ws, item);
    ws->group[ws->groups++] = g;
    g->thread = host_thread_start("fan-in", group_thread, g);
    return g;
}

static void group_add(Group *g, WaitItem *item)
{
    host_lock(g->lock);
    item->group = g;
    item->state = ARMED;
    g->item[g->items++] = item;
    host_unlock(g->lock);
    SetEvent(g->control);
}

static void group_remove(Group *g, WaitItem *item)
{
    host_lock(g->lock);
    int i = 0;
    while (g->item[i] != item)
        i++;
    g->item[i] = g->item[--g->items];
    bool waited_for = item->state == ARMED;
    item->state = REMOVED;
    if (waited_for) { /* the thread lets go of it before its handle may be closed */
        u32 change = ++g->changes;
        SetEvent(g->control);
        while ((s32)(g->seen - change) < 0)
            host_cond_wait(g->seen_cond, g->lock);
    }
    host_unlock(g->lock);
}

static void group_rearm(Group *g, WaitItem *item)
{
    host_lock(g->lock);
    item->state = ARMED;
    host_unlock(g->lock);
    SetEvent(g->control);
}

static void group_free(Group *g)
{
    host_lock(g->lock);
    g->quit = true;
    host_unlock(g->lock);
    SetEvent(g->control);
    host_thread_join(g->thread);
    for (int i = 0; i < g->items; i++)
        free(g->item[i]);
    CloseHandle(g->control);
    CloseHandle(g->event);
    host_cond_free(g->seen_cond);
    host_lock_free(g->lock);
    free(g);
}

/* ---- the set ---- */

static Group *group_with_room(WaitSet *ws)
{
    for (int i = 0; i < ws->groups; i++) {
        if (ws->group[i]->items < GROUP_ITEMS)
            return ws->group[i];
    }
    return ws->groups < GROUPS_MAX ? group_new(ws) : NULL;
}

WaitItem *waitset_add(WaitSet *ws, HANDLE handle, WaitFn *fn, void *opaque)
{
    Group *g = ws->direct < DIRECT_MAX ? NULL : group_with_room(ws);
    if (!g && ws->direct >= DIRECT_MAX)
        return NULL;
    WaitItem *item = get(sizeof *item);
    *item = (WaitItem){.handle = handle, .fn = fn, .opaque = opaque};
    if (g) {
        group_add(g, item);
    } else {
        direct_add(ws, item);
        ws->direct++;
    }
    return item;
}

void waitset_remove(WaitSet *ws, WaitItem *item)
{
    if (ws->running == item)
        ws->running = NULL;
    for (WaitItem **p = &ws->found; *p; p = &(*p)->next) {
        if (*p == item) {
            *p = item->next;
            break;
        }
    }
    if (item->group) {
        group_remove(item->group, item);
    } else {
        for (int i = 0; i < ws->count; i++) {
            if (ws->item[i] != item)
                continue;
            direct_take(ws, i);
            ws->direct--;
            if (ws->fired >= i)
                ws->fired = ws->fired == i ? -1 : ws->fired - 1;
            break;
        }
    }
    free(item);
}

bool waitset_wait(WaitSet *ws, DWORD timeout_ms)
{
    DWORD r = WaitForMultipleObjects((DWORD)ws->count, ws->handle, FALSE, timeout_ms);
    assert(r == WAIT_TIMEOUT || r < (DWORD)ws->count); /* a handle was closed before it was removed */
    ws->fired = r == WAIT_TIMEOUT ? -1 : (int)r;
    return ws->fired >= 0;
}

void waitset_dispatch(WaitSet *ws)
{
    if (ws->fired < 0)
        return;
    WaitItem *item = ws->item[ws->fired];
    direct_take(ws, ws->fired);
    direct_add(ws, item); /* behind the others */
    ws->fired = -1;
    item->fn(item->opaque);
    while (ws->found) {
        item = ws->found;
        ws->found = item->next;
        ws->running = item;
        item->fn(item->opaque);
        if (ws->running == item)
            group_rearm(item->group, item);
        ws->running = NULL;
    }
}

void waitset_free(WaitSet *ws)
{
    for (int i = 0; i < ws->count; i++)
        free(ws->item[i]);
    for (int i = 0; i < ws->groups; i++)
        group_free(ws->group[i]);
    free(ws);
}
