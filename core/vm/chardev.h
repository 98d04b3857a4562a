/*
 * Character devices: bytes in and out, between a frontend (UART, monitor, debugger) and a backend (stdio,
 * file, pipe, socket, port of the host, text console, nothing). Machine lock held; callbacks come on the main
 * thread.
 *
 * Back-pressure goes both ways: the backend asks can_receive() before it hands over bytes and is told by
 * chardev_accept() when there is room again; chardev_write() takes what it can and calls writable() when it
 * can take more.
 */
#ifndef VM_CHARDEV_H
#define VM_CHARDEV_H

#include "error.h"
#include "types.h"

typedef struct Machine Machine;
typedef struct Chardev Chardev;

/* FOCUS and UNFOCUS come from a mux: keys go to this frontend from here on, or elsewhere. */
typedef enum { CHR_OPENED, CHR_CLOSED, CHR_BREAK, CHR_FOCUS, CHR_UNFOCUS } ChrEvent;

typedef struct {
    size_t (*can_receive)(void *opaque);                        /* bytes it has room for */
    void (*receive)(void *opaque, const u8 *buf, size_t n);     /* n <= can_receive() */
    void (*writable)(void *opaque);                             /* may be NULL */
    void (*event)(void *opaque, ChrEvent event);                /* may be NULL */
} ChrFrontend;

/* What a backend implements. It embeds a Chardev as its first member. */
typedef struct {
    const char *name;
    size_t (*write)(Chardev *chr, const u8 *buf, size_t n);     /* returns how many it took, never blocks */
    void (*accept)(Chardev *chr);                               /* the frontend has room again. May be NULL */
    void (*set_break)(Chardev *chr, bool on);                   /* may be NULL */
    void (*set_params)(Chardev *chr, u32 baud, u8 data_bits, char parity, u8 stop_bits);   /* may be NULL */
    void (*close)(Chardev *chr);                                /* frees it */
    void (*flush)(Chardev *chr);                /* all that was taken is out; may block. May be NULL */
    void (*hangup)(Chardev *chr);               /* ends the connection with the peer, soon. May be NULL */
} ChrBackend;

struct Chardev {
    const ChrBackend *be;
    const ChrFrontend *fe;          /* NULL: nobody listens, input waits */
    void *fe_opaque;
    Machine *m;
    char label[32];                 /* "serial0", "monitor" */
    char spec[96];                  /* as it was asked for, cut: for `info chardev` */
    char state[80];                 /* of its connection, for the same; "" where there is none */
    Chardev *next;                  /* chardev.c's list of all that are open */
};

/* spec: null | none | stdio | file:NAME | vc | vc:WxH | tcp:HOST:PORT,... | telnet:... | udp:... | pipe:NAME
 * | COMn | chardev:ID | mon:SPEC ; NULL and err when unknown or it can't be opened. mon:SPEC is one slot of a
 * mux on SPEC; opened again, it is a further slot of the same mux. chardev:ID is what -chardev named so.
 * Every backend this build has registers itself in one table in chardev.c; the host's (stdio, pipe, COM) come
 * through host_chardev_open(). "none" gives NULL without an error text. */
Chardev *chardev_open(Machine *m, const char *label, const char *spec, Error *err);
/* by the host: stdio, pipe:NAME, COMn */
Chardev *host_chardev_open(Machine *m, const char *label, const char *spec, Error *err);
void chardev_close(Chardev *chr);                               /* NULL is allowed */
void chardev_flush_all(Machine *m);                             /* blocking: before the program ends */

void chardev_attach(Chardev *chr, const ChrFrontend *fe, void *opaque);
size_t chardev_write(Chardev *chr, const void *buf, size_t n);  /* NULL chr: swallows all */
void chardev_accept(Chardev *chr);
void chardev_hangup(Chardev *chr);              /* the peer is sent away; CHR_CLOSED will come */

/* For backends. */
void chardev_init(Chardev *chr, const ChrBackend *be, Machine *m, const char *label);
size_t chardev_room(Chardev *chr);
void chardev_deliver(Chardev *chr, const u8 *buf, size_t n);
void chardev_tell(Chardev *chr, ChrEvent event);
void chardev_writable(Chardev *chr);

/* stdio shared by serial port and monitor (-nographic, mon:stdio): a mux with Ctrl-a c to switch, Ctrl-a x
 * to quit, Ctrl-a h for help, Ctrl-a b break, Ctrl-a s flush disks, Ctrl-a t time stamps, Ctrl-a Ctrl-a the
 * character itself. Each call adds one more frontend slot. */
Chardev *chardev_mux_slot(Chardev *mux, const char *label);
bool chardev_focused(const Chardev *chr);       /* false: a slot of a mux whose keys go to another slot */

/* info chardev */
void chardev_list(Machine *m, void (*print)(void *opaque, const char *line), void *opaque);

#endif
