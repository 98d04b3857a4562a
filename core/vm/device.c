/* Devices by field tables: creation, reset, save, load. */
#include "device.h"

#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *device_create(Machine *m, const DeviceClass *cls)
{
    Device *dev = calloc(1, cls->size), **at = &m->devices;
    int same = 0;

    if (!dev) {
        fprintf(stderr, "qemu: out of memory\n");
        abort();
    }
    dev->cls = cls;
    dev->m = m;
    for (; *at; at = &(*at)->next)
        same += (*at)->cls == cls;
    *at = dev;
    if (same)
        snprintf(dev->id, sizeof(dev->id), "%s.%d", cls->name, same);
    else
        snprintf(dev->id, sizeof(dev->id), "%s", cls->name);
    return dev;
}

static u8 *state_of(Device *dev) { return (u8 *)dev + dev->cls->state; }

void device_reset(Device *dev)
{
    memset(state_of(dev), 0, dev->cls->state_size);
    if (dev->cls->reset)
        dev->cls->reset(dev);
}

void devices_reset(Machine *m)
{
    for (Device *dev = m->devices; dev; dev = dev->next)
        device_reset(dev);
}

void devices_destroy(Machine *m)
{
    while (m->devices) {
        Device **at = &m->devices, *last;

        while ((*at)->next)
            at = &(*at)->next;
        last = *at;
        *at = NULL;
        if (last->cls->destroy)
            last->cls->destroy(last);
        free(last);
    }
}

bool device_class_tiles(const DeviceClass *cls, Error *err)
{
    u8 *used = calloc(1, cls->state_size + 1);
    bool ok = true;

    for (const SaveField *f = cls->fields; ok && f && f->name; f++) {
        size_t bytes = (size_t)f->width * f->count;

        if (f->offset > cls->state_size || bytes > cls->state_size - f->offset) {
            ok = error_set(err, "%s: field %s lies outside the state", cls->name, f->name);
            break;
        }
        for (size_t i = 0; ok && i < bytes; i++) {
            if (used[f->offset + i]++)
                ok = error_set(err, "%s: field %s overlaps another", cls->name, f->name);
        }
    }
    for (size_t i = 0; ok && i < cls->state_size; i++) {
        if (!used[i])
            ok = error_set(err, "%s: state byte %u has no field", cls->name, (unsigned)i);
    }
    free(used);
    return ok;
}

/* ---- save: u32 version, { u8 name length, name, u8 width, u32 count, data } ..., u8 0 ---- */

void savebuf_put(SaveBuf *b, const void *p, size_t n)
{
    if (n > b->cap - b->len) {
        size_t cap = b->cap ? b->cap : 1024;

        while (cap - b->len < n)
            cap *= 2;
        b->data = realloc(b->data, cap);
        if (!b->data) {
            fprintf(stderr, "qemu: out of memory\n");
            abort();
        }
        b->cap = cap;
    }
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
}

void device_save(Device *dev, SaveBuf *out)
{
    const DeviceClass *cls = dev->cls;
    u32 version = cls->version ? cls->version : 1;
    u8 end = 0;

    if (cls->saving)
        cls->saving(dev);
    savebuf_put(out, &version, 4);
    for (const SaveField *f = cls->fields; f && f->name; f++) {
        u8 len = (u8)strlen(f->name);

        savebuf_put(out, &len, 1);
        savebuf_put(out, f->name, len);
        savebuf_put(out, &f->width, 1);
        savebuf_put(out, &f->count, 4);
        savebuf_put(out, state_of(dev) + f->offset, (size_t)f->width * f->count);
    }
    savebuf_put(out, &end, 1);
}

typedef struct { const u8 *p; size_t left; } Reader;

static const u8 *take(Reader *r, size_t n)
{
    const u8 *p = r->p;

    if (n > r->left)
        return NULL;
    r->p += n;
    r->left -= n;
    return p;
}

static const SaveField *find_field(const DeviceClass *cls, const u8 *name, u8 len)
{
    for (const SaveField *f = cls->fields; f && f->name; f++) {
        if (strlen(f->name) == len && !memcmp(f->name, name, len))
            return f;
    }
    return NULL;
}

/* Reads one field into state; *more is false at the end mark. */
static bool load_field(const Device *dev, Reader *r, u8 *state, bool *more, Error *err)
{
    const u8 *len = take(r, 1), *name, *head, *data;
    const SaveField *f;

    if (!len)
        return error_set(err, "%s: saved state is cut short", dev->id);
    *more = *len != 0;
    if (!*more)
        return true;
    name = take(r, *len);
    head = take(r, 5);
    if (!name || !head)
        return error_set(err, "%s: saved state is cut short", dev->id);
    f = find_field(dev->cls, name, *len);
    if (!f)
        return error_set(err, "%s: unknown field %.*s", dev->id, *len, (const char *)name);
    if (head[0] != f->width || load32(head + 1) != f->count)
        return error_set(err, "%s: field %s has %u x %u bytes, not %u x %u", dev->id, f->name,
                         load32(head + 1), head[0], f->count, f->width);
    data = take(r, (size_t)f->width * f->count);
    if (!data)
        return error_set(err, "%s: field %s is cut short", dev->id, f->name);
    memcpy(state + f->offset, data, (size_t)f->width * f->count);
    return true;
}

static bool parse(Device *dev, Reader *r, u8 *state, Error *err)
{
    u32 ours = dev->cls->version ? dev->cls->version : 1;
    const u8 *head = take(r, 4);
    bool more = true;

    if (!head)
        return error_set(err, "%s: saved state is cut short", dev->id);
    if (load32(head) > ours)
        return error_set(err, "%s: saved by a later version (%u, this is %u)", dev->id, load32(head), ours);
    while (more) {
        if (!load_field(dev, r, state, &more, err))
            return false;
    }
    return !r->left || error_set(err, "%s: saved data has the wrong size", dev->id);
}

bool device_load_check(Device *dev, const u8 *data, size_t len, Error *err)
{
    Reader r = { data, len };
    u8 *fresh = calloc(1, dev->cls->state_size + 1);
    bool ok = fresh ? parse(dev, &r, fresh, err) : error_set(err, "%s: out of memory", dev->id);

    free(fresh);
    return ok;
}

bool device_load(Device *dev, const u8 *data, size_t len, Error *err)
{
    const DeviceClass *cls = dev->cls;
    Reader r = { data, len };
    u8 *fresh = calloc(1, cls->state_size + 1), *old = malloc(cls->state_size + 1);
    bool ok;

    if (!fresh || !old) {
        free(fresh);
        free(old);
        return error_set(err, "%s: out of memory", dev->id);
    }
    memcpy(fresh, state_of(dev), cls->state_size);
    ok = parse(dev, &r, fresh, err);
    if (ok) {
        memcpy(old, state_of(dev), cls->state_size);
        memcpy(state_of(dev), fresh, cls->state_size);
        if (cls->loaded && !cls->loaded(dev, err)) {
            Error again;

            memcpy(state_of(dev), old, cls->state_size);
            cls->loaded(dev, &again);
            ok = false;
        }
    }
    free(fresh);
    free(old);
    return ok;
}
