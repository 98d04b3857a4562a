/*
 * Debug console ports and isa-debug-exit. Source: the interfaces' description in SeaBIOS's and QEMU's
 * documentation ("isa-debugcon", "isa-debug-exit"); port E9h is the "E9 hack" of Bochs' documentation.
 *
 * A console port takes bytes and reads as E9h, by which firmware knows that somebody listens. The port
 * can't make the guest wait: what the character device does not take at once waits in a ring; what does not
 * fit there is lost.
 */
#include "debug_ports.h"

#include "../core/vm/machine.h"
#include "../core/vm/memory.h"

enum { READBACK = 0xe9, RING = 65536 };

struct DebugCon {
    Device dev;
    Chardev *chr;
    u32 head, fill;
    u8 ring[RING];
};

static const SaveField debugcon_fields[] = { SAVE_END };

static void drain(void *opaque)
{
    DebugCon *con = opaque;

    while (con->fill) {
        u32 run = RING - con->head < con->fill ? RING - con->head : con->fill;
        size_t taken = chardev_write(con->chr, con->ring + con->head, run);

        if (!taken)
            return;
        con->head = (con->head + (u32)taken) % RING;
        con->fill -= (u32)taken;
    }
}

static u32 debugcon_read(void *opaque, u32 port, unsigned size)
{
    (void)opaque;
    (void)port;
    (void)size;
    return READBACK;
}

static void debugcon_write(void *opaque, u32 port, u32 value, unsigned size)
{
    DebugCon *con = opaque;
    (void)port;
    (void)size;

    if (con->fill < RING)
        con->ring[(con->head + con->fill++) % RING] = (u8)value;
    drain(con);
}

static const PortOps debugcon_ops = { .read = debugcon_read, .write = debugcon_write, .sizes = 1 };

static size_t can_receive(void *opaque)
{
    (void)opaque;
    return 4096;
}

static void receive(void *opaque, const u8 *buf, size_t n)
{
    (void)opaque;
    (void)buf;
    (void)n;                        /* the port has no way in */
}

static const ChrFrontend debugcon_frontend = { .can_receive = can_receive, .receive = receive,
                                               .writable = drain };

static void debugcon_destroy(Device *dev)
{
    chardev_close(CONTAINER_OF(dev, DebugCon, dev)->chr);
}

const DeviceClass debugcon_class = {
    .name = "debugcon", .size = sizeof(DebugCon), .fields = debugcon_fields, .destroy = debugcon_destroy,
};

DebugCon *debugcon_create(Machine *m, Chardev *chr)
{
    DebugCon *con = device_create(m, &debugcon_class);

    con->chr = chr;
    chardev_attach(chr, &debugcon_frontend, con);
    return con;
}

void debugcon_add_port(DebugCon *con, u16 port)
{
    port_map(con->dev.m, "debug console", port, 1, &debugcon_ops, con);
}

static void exit_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Machine *m = opaque;
    (void)port;
    (void)size;

    machine_set_exit_code(m, (int)(value << 1 | 1));
    machine_request(m, REQ_SHUTDOWN);
}

static const PortOps exit_ops = { .write = exit_write, .sizes = 1 | 2 | 4 };

bool debug_exit_create(Machine *m, u32 port, u32 count, Error *err)
{
    if (!count || port > 0xffff || count > 0x10000 - port)
        return error_set(err, "isa-debug-exit: ports %Xh to %Xh do not exist", port, port + count - 1);
    port_map(m, "debug exit", port, count, &exit_ops, m);
    return true;
}
