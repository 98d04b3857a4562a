/*
 * Devices: a state struct the guest can observe, a table that describes its fields, and a few functions. The
 * table serves reset (zero, then class->reset), save, load and listing. See docs of STYLE: the rows must tile
 * the state struct; a test walks every class and demands it.
 *
 * In a snapshot each field is: name, element width, count, little-endian data. A field missing in the file
 * keeps its reset value; an unknown one is an error that names it. Nothing of the host (pointers, host times)
 * is in the state struct.
 */
#ifndef VM_DEVICE_H
#define VM_DEVICE_H

#include "error.h"
#include "types.h"

typedef struct Machine Machine;

typedef struct {
    const char *name;       /* NULL ends the table */
    u32 offset;             /* in the state struct */
    u8 width;               /* of one element: 1, 2, 4, 8 */
    u32 count;              /* elements */
} SaveField;

/* The element width and count of a field come from its type: a row cannot lie. Arrays of arrays count
 * innermost elements. */
#define SAVE_ELEM(x) _Generic((x), \
    u8 *: 1, u16 *: 2, u32 *: 4, u64 *: 8, s8 *: 1, s16 *: 2, s32 *: 4, s64 *: 8, \
    u8: 1, u16: 2, u32: 4, u64: 8, s8: 1, s16: 2, s32: 4, s64: 8, default: 0)
#define SAVE(Type, field) { #field, offsetof(Type, field), SAVE_ELEM(((Type *)0)->field), \
    sizeof(((Type *)0)->field) / SAVE_ELEM(((Type *)0)->field) }
#define SAVE_END { 0, 0, 0, 0 }

typedef struct Device Device;
typedef struct DeviceClass {
    const char *name;
    u32 version;                    /* of the saved form; 0 counts as 1 */
    size_t size;                    /* of the whole device struct, whose first member is the Device */
    size_t state, state_size;       /* where the state struct lies in it */
    const SaveField *fields;
    void (*reset)(Device *dev);     /* state already zeroed; also drops host-side activity. May be NULL */
    /* after load: check ranges, re-arm timers, re-raise lines. May be NULL */
    bool (*loaded)(Device *dev, Error *err);
    void (*destroy)(Device *dev);   /* frees what the device allocated besides itself. May be NULL */
    void (*saving)(Device *dev);    /* before save: brings the state, and memory, up to date. May be NULL */
    void (*memory_loaded)(Device *dev);         /* the machine's memory is another, after loaded(). May be NULL */
    /* for the monitor */
    void (*info)(Device *dev, void (*print)(void *opaque, const char *line), void *opaque);
} DeviceClass;

struct Device {
    const DeviceClass *cls;
    Machine *m;
    /* unique in the machine: class name, with ".n" for the second and later */
    char id[32];
    Device *next;                   /* in order of creation */
};

/* Allocates a zeroed device, adds it to the machine, gives it its id. Never NULL (out of memory ends the
 * program). */
void *device_create(Machine *m, const DeviceClass *cls);

void device_reset(Device *dev);
void devices_reset(Machine *m);     /* all, in order of creation */
void devices_destroy(Machine *m);   /* in reverse order */

/* Every class in the program, for the test that walks them: tiling, save -> load -> save. */
bool device_class_tiles(const DeviceClass *cls, Error *err);

/* Save and load of one device's state to and from memory. out grows by realloc. */
typedef struct { u8 *data; size_t len, cap; } SaveBuf;
void savebuf_put(SaveBuf *b, const void *p, size_t n);
void device_save(Device *dev, SaveBuf *out);
/* Whether the data fits the chip, as far as its table tells; nothing is changed. */
bool device_load_check(Device *dev, const u8 *data, size_t len, Error *err);
/* Refuses whole: the state is untouched on error. A field missing in the data keeps the value it has: who
 * loads a machine resets it first. */
bool device_load(Device *dev, const u8 *data, size_t len, Error *err);

#endif
