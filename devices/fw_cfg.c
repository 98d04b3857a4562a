/*
 * The firmware configuration device. Source: "QEMU Firmware Configuration (fw_cfg) Device" specification.
 *
 *   510h  16-bit write: selects an item, its offset becomes 0
 *   511h  byte read: the item's next byte; zeros behind its end
 *   514h  upper, 518h lower half of a DMA descriptor's address, big-endian; writing the lower half starts it.
 *         Read, the eight bytes are "QEMU CFG".
 *   Descriptor, big-endian:  u32 control, u32 length, u64 address
 *   control: 31-16 item | 4 write | 3 select | 2 skip | 1 read | 0 error (set by us; 0 in all bits: done)
 *   Item 19h, the directory: u32 count, { u32 size, u16 item, u16 0, char name[56] }, big-endian
 *
 * Items are read-only: DMA writes end with the error bit. A DMA read far (16 MiB) behind an item's end does
 * so too, so that no guest can keep us copying zeros.
 */
#include "fw_cfg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/machine.h"

enum {
    PORT_SELECT = 0x510, PORT_DATA = 0x511, PORT_DMA_HIGH = 0x514, PORT_DMA_LOW = 0x518,
    DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16,
    MAX_ITEMS = 96, MAX_ZEROS = 16 << 20,
};

typedef struct {
    u64 dma_address;                /* upper half waits for the lower one */
    u32 offset;
    u16 selected;
    u8 pad[2];
} FwCfgState;

typedef struct {
    u8 *data;
    u32 bytes;
    u16 key;
    char name[FW_CFG_NAME];         /* "" for what is no file */
} Item;

struct FwCfg {
    Device dev;
    FwCfgState s;
    Item item[MAX_ITEMS];
    int count, files;
};

static const SaveField fw_cfg_fields[] = {
    SAVE(FwCfgState, dma_address), SAVE(FwCfgState, offset), SAVE(FwCfgState, selected), SAVE(FwCfgState,
                                                                                              pad), SAVE_END
};

static void put_be16(u8 *p, u16 v) { store16(p, __builtin_bswap16(v)); }
static void put_be32(u8 *p, u32 v) { store32(p, __builtin_bswap32(v)); }

/* ---- items ---- */

static const Item *find(const FwCfg *fw, u16 key)
{
    for (int i = 0; i < fw->count; i++)
        if (fw->item[i].key == key)
            return &fw->item[i];
    return NULL;
}

void fw_cfg_give(FwCfg *fw, u16 key, void *data, u32 bytes)
{
    Item *item = (Item *)find(fw, key);

    if (!item) {
        if (fw->count == MAX_ITEMS)
            abort();
        item = &fw->item[fw->count++];
        item->key = key;
    }
    free(item->data);
    item->data = data;
    item->bytes = bytes;
}

void fw_cfg_add(FwCfg *fw, u16 key, const void *data, u32 bytes)
{
    u8 *copy = malloc(bytes ? bytes : 1);

    if (!copy)
        abort();
    if (bytes)
        memcpy(copy, data, bytes);
    fw_cfg_give(fw, key, copy, bytes);
}

void fw_cfg_add16(FwCfg *fw, u16 key, u16 value) { fw_cfg_add(fw, key, &value, sizeof(value)); }
void fw_cfg_add32(FwCfg *fw, u16 key, u32 value) { fw_cfg_add(fw, key, &value, sizeof(value)); }
void fw_cfg_add64(FwCfg *fw, u16 key, u64 value) { fw_cfg_add(fw, key, &value, sizeof(value)); }

static void make_directory(FwCfg *fw)
{
    u32 bytes = 4 + 64 * (u32)fw->files;
    u8 *dir = calloc(1, bytes), *p = dir + 4;

    if (!dir)
        abort();
    put_be32(dir, (u32)fw->files);
    for (int i = 0; i < fw->count; i++) {
        const Item *item = &fw->item[i];
        if (!item->name[0])
            continue;
        put_be32(p, item->bytes);
        put_be16(p + 4, item->key);
        memcpy(p + 8, item->name, FW_CFG_NAME);
        p += 64;
    }
    fw_cfg_give(fw, FW_CFG_FILE_DIR, dir, bytes);
}

bool fw_cfg_add_file(FwCfg *fw, const char *name, const void *data, u32 bytes)
{
    u16 key = (u16)(FW_CFG_FIRST_FILE + fw->files);

    if (fw->files == FW_CFG_FILES || strlen(name) >= FW_CFG_NAME || !name[0])
        return false;
    fw_cfg_add(fw, key, data, bytes);
    memcpy(((Item *)find(fw, key))->name, name, strlen(name) + 1);
    fw->files++;
    make_directory(fw);
    return true;
}

/* ---- ports ---- */

static void select_item(FwCfg *fw, u16 key)
{
    fw->s.selected = key;
    fw->s.offset = 0;
}

static u8 next_byte(FwCfg *fw)
{
    const Item *item = find(fw, fw->s.selected);

    return item && fw->s.offset < item->bytes ? item->data[fw->s.offset++] : 0;
}

static u32 select_read(void *opaque, u32 port, unsigned size)
{
    return port == PORT_DATA && size == 1 ? next_byte(opaque) : 0xffffffff;
}

static void select_write(void *opaque, u32 port, u32 value, unsigned size)
{
    if (port == PORT_SELECT && size == 2)
        select_item(opaque, (u16)value);
}

static const PortOps select_ports = { .read = select_read, .write = select_write, .sizes = 1 | 2 };

/* Reads or skips `length` bytes of the selected item; false: the descriptor asks for what there is not. */
static bool transfer(FwCfg *fw, u64 addr, u32 length, bool skip)
{
    static const u8 zeros[4096];
    const Item *item = find(fw, fw->s.selected);
    u32 left = item && fw->s.offset < item->bytes ? item->bytes - fw->s.offset : 0;
    u32 bytes = length < left ? length : left, rest = length - bytes;

    if (!skip && rest > MAX_ZEROS)
        return false;
    if (!skip && bytes)
        mem_dma_write(fw->dev.m->mem, addr, item->data + fw->s.offset, bytes);
    fw->s.offset += bytes;
    while (!skip && rest) {
        u32 n = rest < sizeof(zeros) ? rest : (u32)sizeof(zeros);
        mem_dma_write(fw->dev.m->mem, addr + length - rest, zeros, n);
        rest -= n;
    }
    return true;
}

static void dma_start(FwCfg *fw)
{
    Memory *mem = fw->dev.m->mem;
    u64 at = fw->s.dma_address;
    u8 desc[16], result[4];

    fw->s.dma_address = 0;
    mem_dma_read(mem, at, desc, sizeof(desc));
    u32 control = __builtin_bswap32(load32(desc));
    u32 length = __builtin_bswap32(load32(desc + 4));
    u64 addr = __builtin_bswap64(load64(desc + 8));
    bool ok = true;

    if (control & DMA_SELECT)
        select_item(fw, (u16)(control >> 16));
    if (control & DMA_READ)
        ok = transfer(fw, addr, length, false);
    else if (control & DMA_WRITE)
        ok = false;
    else if (control & DMA_SKIP)
        ok = transfer(fw, addr, length, true);
    put_be32(result, ok ? 0 : DMA_ERROR);
    mem_dma_write(mem, at, result, sizeof(result));
}

static u32 dma_read(void *opaque, u32 port, unsigned size)
{
    static const u8 signature[] = "QEMU CFG";
    u32 value = 0;
    (void)opaque;

    for (unsigned i = 0; i < size; i++)
        value |= (u32)signature[port - PORT_DMA_HIGH + i] << 8 * i;
    return value;
}

static void dma_write(void *opaque, u32 port, u32 value, unsigned size)
{
    FwCfg *fw = opaque;

    if (size != 4)
        return;
    value = __builtin_bswap32(value);
    if (port == PORT_DMA_HIGH) {
        fw->s.dma_address = (u64)value << 32;
    } else if (port == PORT_DMA_LOW) {
        fw->s.dma_address |= value;
        dma_start(fw);
    }
}

static const PortOps dma_ports = { .read = dma_read, .write = dma_write, .sizes = 1 | 2 | 4 };

/* ---- life ---- */

static void fw_cfg_destroy(Device *dev)
{
    FwCfg *fw = CONTAINER_OF(dev, FwCfg, dev);

    for (int i = 0; i < fw->count; i++)
        free(fw->item[i].data);
}

const DeviceClass fw_cfg_class = {
    .name = "fw-cfg", .size = sizeof(FwCfg),
    .state = offsetof(FwCfg, s), .state_size = sizeof(FwCfgState), .fields = fw_cfg_fields,
    .destroy = fw_cfg_destroy,
};

FwCfg *fw_cfg_create(Machine *m)
{
    FwCfg *fw = device_create(m, &fw_cfg_class);

    fw_cfg_add(fw, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add32(fw, FW_CFG_ID, 3);             /* ports and DMA */
    make_directory(fw);
    port_map(m, "fw-cfg", PORT_SELECT, 2, &select_ports, fw);
    port_map(m, "fw-cfg dma", PORT_DMA_HIGH, 8, &dma_ports, fw);
    return fw;
}
