/*
 * VGA: ports, registers, DAC, retrace timing, and the two forms of the card.
 * Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem"; the Bochs VBE card's PCI form
 * (1234:1111).
 *
 * The retrace bits follow the machine's clock and the CRTC's totals: a guest that waits for them sees a
 * monitor's rate.
 * Not modelled: vertical retrace interrupt, light pen, sync polarity, character clock skew, count-by-2/4,
 * shift-by-2/4, border.
 */
#include "vga_int.h"

#include <stdio.h>
#include <string.h>

#include "../core/vm/host.h"
#include "../core/vm/log.h"

/* ---- timing ---- */

static u32 crtc_vertical(const u8 *cr, unsigned reg, unsigned bit8, unsigned bit9)
{
    return cr[reg] | (u32)(cr[CR_OVERFLOW] >> bit8 & 1) << 8 | (u32)(cr[CR_OVERFLOW] >> bit9 & 1) << 9;
}

/* With registers that make no picture, or in a VBE mode, which has none: 640x480 at 60 Hz. */
static const VgaTiming *timing(Vga *v)
{
    VgaTiming *t = &v->timing;
    const u8 *cr = v->s.crtc;
    if (v->timing_valid)
        return t;
    u32 dots = v->s.seq[SEQ_CLOCKING] & 1 ? 8 : 9;
    t->clock = v->s.misc & 4 ? 28322000 : 25175000;
    if (v->s.seq[SEQ_CLOCKING] & 8)
        t->clock /= 2;
    t->htotal = (cr[CR_HTOTAL] + 5u) * dots;
    t->hdisp = (cr[CR_HDISP_END] + 1u) * dots;
    t->vtotal = crtc_vertical(cr, CR_VTOTAL, 0, 5) + 2;
    t->vdisp = crtc_vertical(cr, CR_VDISP_END, 1, 6) + 1;
    t->vsync = crtc_vertical(cr, CR_VSYNC_START, 2, 7);
    u32 retrace = (cr[CR_VSYNC_END] - t->vsync) & 15;
    t->vsync_end = t->vsync + (retrace ? retrace : 16);
    if (vbe_on(v) || t->htotal < 200 || t->vtotal < 100 || t->vsync >= t->vtotal || t->hdisp >= t->htotal)
        *t = (VgaTiming){ 25175000, 800, 640, 525, 480, 490, 492 };
    v->timing_valid = true;
    return t;
}

u64 vga_frame(Vga *v)
{
    const VgaTiming *t = timing(v);
    u64 frame_ns = (u64)t->htotal * t->vtotal * NS_PER_SEC / t->clock;
    return clock_ns(vga_machine(v), CLOCK_VIRTUAL) / frame_ns;
}

/* Input status 1: bit 0 no picture at this moment, bit 3 vertical retrace. */
static u8 input_status(Vga *v)
{
    const VgaTiming *t = timing(v);
    u64 now = clock_ns(vga_machine(v), CLOCK_VIRTUAL);
    u64 dot = muldiv64(now, t->clock, NS_PER_SEC) % ((u64)t->htotal * t->vtotal);
    u32 line = (u32)dot / t->htotal, x = (u32)dot % t->htotal;
    u8 status = line >= t->vdisp || x >= t->hdisp ? 0x01 : 0;
    if (line >= t->vsync && line < t->vsync_end)
        status |= 0x08;
    return status;
}

/* ---- registers ---- */

void vga_changed(Vga *v)
{
    if (!v->kicked) {
        v->kicked = true;
        console_kick(v->con);
    }
}

static void mode_register_changed(Vga *v)
{
    v->writes++;
    v->timing_valid = false;
    vga_changed(v);
}

static void attr_write(Vga *v, u8 value)
{
    static const u8 mask[ATTR_COUNT] = {
        0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
        0xef, 0xff, 0x3f, 0x0f, 0x0f
    };
    if (!v->s.attr_data) {
        if ((v->s.attr_index ^ value) & ATTR_VIDEO_ON)
            mode_register_changed(v);
        v->s.attr_index = value & 0x3f;
    } else if ((v->s.attr_index & 0x1f) < ATTR_COUNT) {
        v->s.attr[v->s.attr_index & 0x1f] = value & mask[v->s.attr_index & 0x1f];
        vga_changed(v);
    }
    v->s.attr_data ^= 1;
}

static void seq_write(Vga *v, u8 value)
{
    static const u8 mask[8] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
    unsigned i = v->s.seq_index & 7;
    u8 old = v->s.seq[i];
    v->s.seq[i] = value & mask[i];
    if (v->s.seq[i] == old)
        return;
    if (i == SEQ_CLOCKING || i == SEQ_FONT)
        mode_register_changed(v);
    vga_window_update(v);
}

static void gc_write(Vga *v, u8 value)
{
    static const u8 mask[16] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
    unsigned i = v->s.gc_index & 15;
    u8 old = v->s.gc[i];
    v->s.gc[i] = value & mask[i];
    if (v->s.gc[i] == old)
        return;
    if (i == GC_MODE || i == GC_MISC)
        mode_register_changed(v);
    vga_window_update(v);
}

static void crtc_write(Vga *v, u8 value)
{
    unsigned i = v->s.crtc_index;
    u8 *cr = v->s.crtc;
    if (i >= CR_COUNT)
        return;
    if (i <= CR_OVERFLOW && cr[CR_VSYNC_END] & 0x80) {      /* protected, but for bit 8 of the line compare */
        if (i != CR_OVERFLOW)
            return;
        value = (u8)((cr[i] & ~0x10) | (value & 0x10));
    }
    if (cr[i] == value)
        return;
    cr[i] = value;
    if (i >= CR_CURSOR_START && i <= CR_CURSOR_LO)
        vga_changed(v);
    else
        mode_register_changed(v);
}

static void dac_write_data(Vga *v, u8 value)
{
    if (!(v->s.vbe[VBE_ENABLE] & VBE_DAC8))
        value &= 0x3f;
    v->s.dac_latch[v->s.dac_sub] = value;
    if (++v->s.dac_sub < 3)
        return;
    v->s.dac_sub = 0;
    memcpy(&v->s.palette[v->s.dac_write++ * 3], v->s.dac_latch, 3);
    vga_changed(v);
}

static u8 dac_read_data(Vga *v)
{
    u8 value = v->s.palette[v->s.dac_read * 3 + v->s.dac_sub];
    if (++v->s.dac_sub == 3) {
        v->s.dac_sub = 0;
        v->s.dac_read++;
    }
    return value;
}

/* The CRTC and input status 1 answer at 3Dxh in colour and at 3Bxh in monochrome. */
static bool other_ports(const Vga *v, u32 port)
{
    return (port >= 0x3b0 && port < 0x3c0 && (v->s.misc & 1)) || (port >= 0x3d0 && !(v->s.misc & 1));
}

static u32 reg_read(Vga *v, u32 port)
{
    VgaState *s = &v->s;
    if (other_ports(v, port))
        return 0xff;
    switch (port) {
    case 0x3c0: return s->attr_data ? s->attr[s->attr_index & 0x1f] : s->attr_index;
    case 0x3c1: return s->attr[s->attr_index & 0x1f];
    case 0x3c2: return 0x10;                    /* switch sense: a monitor is there */
    case 0x3c3: return s->enable;
    case 0x3c4: return s->seq_index;
    case 0x3c5: return s->seq[s->seq_index & 7];
    case 0x3c6: return s->pel_mask;
    case 0x3c7: return s->dac_reading ? 3 : 0;
    case 0x3c8: return s->dac_write;
    case 0x3c9: return dac_read_data(v);
    case 0x3ca: return s->feature;
    case 0x3cc: return s->misc;
    case 0x3ce: return s->gc_index;
    case 0x3cf: return s->gc[s->gc_index & 15];
    case 0x3b4: case 0x3d4: return s->crtc_index;
    case 0x3b5: case 0x3d5: return s->crtc_index < CR_COUNT ? s->crtc[s->crtc_index] : 0;
    case 0x3ba: case 0x3da:
        s->attr_data = 0;
        return input_status(v);
    default: return 0xff;
    }
}

static void reg_write(Vga *v, u32 port, u8 value)
{
    VgaState *s = &v->s;
    if (other_ports(v, port))
        return;
    switch (port) {
    case 0x3c0: attr_write(v, value); break;
    case 0x3c2:
        s->misc = value & 0xef;
        mode_register_changed(v);
        vga_window_update(v);
        break;
    case 0x3c3: s->enable = value & 1; break;
    case 0x3c4: s->seq_index = value & 7; break;
    case 0x3c5: seq_write(v, value); break;
    case 0x3c6:
        s->pel_mask = value;
        vga_changed(v);
        break;
    case 0x3c7:
        s->dac_read = value;
        s->dac_sub = 0;
        s->dac_reading = 1;
        break;
    case 0x3c8:
        s->dac_write = value;
        s->dac_sub = 0;
        s->dac_reading = 0;
        break;
    case 0x3c9: dac_write_data(v, value); break;
    case 0x3ce: s->gc_index = value & 15; break;
    case 0x3cf: gc_write(v, value); break;
    case 0x3b4: case 0x3d4: s->crtc_index = value & 0x3f; break;
    case 0x3b5: case 0x3d5: crtc_write(v, value); break;
    case 0x3ba: case 0x3da: s->feature = value & 3; break;
    default: break;
    }
}

/* ---- the ways to the registers ---- */

static u32 port_in(void *opaque, u32 port, unsigned size)
{
    (void)size;
    return reg_read(opaque, port);
}

static void port_out(void *opaque, u32 port, u32 value, unsigned size)
{
    (void)size;
    reg_write(opaque, port, (u8)value);
}

static const PortOps vga_ports = { port_in, port_out, 1 };

static u32 vbe_in(void *opaque, u32 port, unsigned size)
{
    Vga *v = opaque;
    (void)size;
    return port == 0x1ce ? v->s.vbe_index : vbe_read(v, v->s.vbe_index);
}

static void vbe_out(void *opaque, u32 port, u32 value, unsigned size)
{
    Vga *v = opaque;
    (void)size;
    if (port == 0x1ce)
        v->s.vbe_index = (u16)value;
    else
        vbe_write(v, v->s.vbe_index, (u16)value);
}

static const PortOps vbe_ports = { vbe_in, vbe_out, 2 };

/* BAR 2: ports 3C0h-3DFh at 400h, DISPI registers at 500h, 16 bits each. The EDID at 0 is not there:
 * zeroes. */
enum { MMIO_VGA = 0x400, MMIO_VGA_END = 0x420, MMIO_VBE = 0x500, MMIO_VBE_END = 0x500 + 2 * VBE_COUNT };

static u64 mmio_read(void *opaque, u64 offset, unsigned size)
{
    if (offset >= MMIO_VGA && offset < MMIO_VGA_END) {
        u32 port = 0x3c0 + (u32)offset - MMIO_VGA, value = reg_read(opaque, port) & 0xff;
        return size == 2 ? value | (reg_read(opaque, port + 1) & 0xff) << 8 : value;
    }
    if (offset >= MMIO_VBE && offset < MMIO_VBE_END)
        return (u64)vbe_read(opaque, (unsigned)(offset - MMIO_VBE) >> 1) >> (offset & 1 ? 8 : 0);
    return 0;
}

static void mmio_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    if (offset >= MMIO_VGA && offset < MMIO_VGA_END) {
        reg_write(opaque, 0x3c0 + (u32)offset - MMIO_VGA, (u8)value);
        if (size == 2)
            reg_write(opaque, 0x3c1 + (u32)offset - MMIO_VGA, (u8)(value >> 8));
    } else if (offset >= MMIO_VBE && offset < MMIO_VBE_END && size == 2) {
        vbe_write(opaque, (unsigned)(offset - MMIO_VBE) >> 1, (u16)value);
    }
}

static const MmioOps mmio_ops = { mmio_read, mmio_write, 1, 2 };

/* ---- the device ---- */

static Vga *of(Device *dev) { return CONTAINER_OF(dev, Vga, pci.dev); }

static void vga_reset(Device *dev)
{
    Vga *v = of(dev);
    if (v->on_pci)
        pci_device_reset(&v->pci);
    v->s.enable = 1;
    v->s.pel_mask = 0xff;
    vbe_reset(v);
    v->timing_valid = false;
    vga_window_update(v);
    mode_register_changed(v);
}

/* Everything that serves as an index was masked when it was written; a file may hold anything. */
static bool vga_loaded(Device *dev, Error *err)
{
    Vga *v = of(dev);
    const VgaState *s = &v->s;
    if (s->seq_index > 7 || s->gc_index > 15 || s->crtc_index > 0x3f || s->attr_index > 0x3f
        || s->attr_data > 1 || s->dac_sub > 2 || !vbe_sane(v))
        return error_set(err, "%s: its registers hold what no guest can write", dev->id);
    v->timing_valid = false;
    vga_window_update(v);
    mode_register_changed(v);
    return !v->on_pci || pci_device_loaded(&v->pci, err);
}

static void vga_destroy(Device *dev)
{
    Vga *v = of(dev);
    vga_draw_destroy(v);
}

static void vga_saving(Device *dev) { vga_window_sync(of(dev)); }

static void vga_memory_loaded(Device *dev) { vga_window_forget(of(dev)); }

static void vga_info(Device *dev, void (*print)(void *opaque, const char *line), void *opaque)
{
    static const char *const kinds[] = { "blank", "text", "16 colours", "CGA", "256 colours", "linear" };
    static const char *const windows[] = { "by handler", "direct, linear", "direct, text" };
    const Vga *v = of(dev);
    const VgaMode *m = &v->draw.mode;
    char line[128];
    snprintf(line, sizeof line, "  shows %dx%d, %s; memory window %s", m->width, m->height, kinds[m->kind],
             windows[v->window]);
    print(opaque, line);
}

static const SaveField vga_fields[] = {
    PCI_SAVE(VgaState, pci), SAVE(VgaState, misc), SAVE(VgaState, feature), SAVE(VgaState, enable),
    SAVE(VgaState, attr_data), SAVE(VgaState, seq_index), SAVE(VgaState, gc_index),
    SAVE(VgaState, crtc_index), SAVE(VgaState, attr_index), SAVE(VgaState, seq), SAVE(VgaState, gc),
    SAVE(VgaState, crtc), SAVE(VgaState, attr), SAVE(VgaState, pel_mask), SAVE(VgaState, dac_read),
    SAVE(VgaState, dac_write), SAVE(VgaState, dac_sub), SAVE(VgaState, dac_reading),
    SAVE(VgaState, dac_latch), SAVE(VgaState, palette), SAVE(VgaState, latch), SAVE(VgaState, vbe_index),
    SAVE(VgaState, vbe), SAVE_END
};

#define VGA_CLASS(class_name) { \
    .name = class_name, .size = sizeof(Vga), .state = offsetof(Vga, s), .state_size = sizeof(VgaState), \
    .fields = vga_fields, .reset = vga_reset, .loaded = vga_loaded, .destroy = vga_destroy, \
    .saving = vga_saving, .memory_loaded = vga_memory_loaded, \
    .info = vga_info, \
}
const DeviceClass vga_pci_class = VGA_CLASS("vga");
const DeviceClass vga_isa_class = VGA_CLASS("isa-vga");

static Vga *create(Machine *m, const DeviceClass *cls)
{
    Vga *v = device_create(m, cls);
    vga_window_create(v);
    port_map(m, "vga", 0x3b4, 2, &vga_ports, v);
    port_map(m, "vga", 0x3ba, 1, &vga_ports, v);
    port_map(m, "vga", 0x3c0, 16, &vga_ports, v);
    port_map(m, "vga", 0x3d4, 2, &vga_ports, v);
    port_map(m, "vga", 0x3da, 1, &vga_ports, v);
    port_map(m, "vga-dispi", 0x1ce, 3, &vbe_ports, v);
    vga_draw_create(v);
    return v;
}

static void add_rom(Vga *v)
{
    const void *data;
    size_t size;
    if (!host_resource("vgabios-stdvga.bin", &data, &size) || size > VGA_ROM_BYTES) {
        log_line("vgabios-stdvga.bin is missing: the guest's screen will stay black");
        return;
    }
    MemRegion *rom = mem_ram(vga_machine(v)->mem, "vga.rom", VGA_ROM_BYTES);
    memcpy(mem_ram_ptr(rom), data, size);
    v->pci.bar[6] = (PciBar){ .kind = BAR_ROM, .size = VGA_ROM_BYTES, .region = rom };
}

PciDevice *vga_pci_create(Machine *m, PciBus *bus, int devfn)
{
    static const PciId id = {
        .vendor = 0x1234, .device = 0x1111, .subsys_vendor = 0x1af4, .subsys = 0x1100, .revision = 2,
        .base_class = 3,
    };
    Vga *v = create(m, &vga_pci_class);
    v->on_pci = true;
    v->pci.bar[0] = (PciBar){ .kind = BAR_MEM_PREFETCH, .size = VGA_VRAM_BYTES, .region = v->vram_region };
    MemRegion *registers = mem_mmio(m->mem, "vga.mmio", 0x1000, &mmio_ops, v);
    v->pci.bar[2] = (PciBar){ .kind = BAR_MEM, .size = 0x1000, .region = registers };
    add_rom(v);
    pci_register(bus, &v->pci, &v->s.pci, devfn, &id);
    device_reset(&v->pci.dev);
    return &v->pci;
}

void vga_isa_create(Machine *m)
{
    Vga *v = create(m, &vga_isa_class);
    mem_map(m->mem, v->vram_region, 0xe0000000, 0, VGA_VRAM_BYTES, MAP_PRIO_CHIP, MEM_RW);
    device_reset(&v->pci.dev);
}
