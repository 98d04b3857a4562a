/*
 * 82371AB (PIIX4), function 3: power management. Source: Intel data sheet, order 290562, chapters 7 and 11;
 * the event and control blocks as the ACPI specification 1.0, section 4.7, names them.
 *
 * PM I/O space, at PMBA (40h) while PMREGMISC (80h) bit 0 is set:
 *   00h PMSTS    15 RSM | 10 RTC | 8 PWRBTN | 5 GBL | 4 BM | 0 TMROF       a 1 clears
 *   02h PMEN            | 10 RTC | 8 PWRBTN | 5 GBL |      | 0 TMROF
 *   04h PMCNTRL  13 SUS_EN | 12-10 SUS_TYP | 2 GBL_RLS | 1 BRLD_EN | 0 SCI_EN
 *   08h PMTMR    23-0, 3.579545 MHz; TMROF is set when bit 23 changes
 * SMBus I/O space, at SMBBA (90h) while SMBHSTCFG (D2h) bit 0 is set.
 * B2h APMC: a write pulses SMI# while DEVACTB (58h) bit 25, APMC_EN, is set. B3h APMS: a byte to pass on.
 *
 * Two things the chip of a real board leaves to its firmware's SMI handler are done here, because SeaBIOS
 * expects them of its board: APMC values F1h and F0h switch SCI_EN on and off (ACPI enable and disable),
 * and the general-purpose event block that its tables name at AFE0h is there, without an event ever in it.
 *
 * SUS_TYP 0 with SUS_EN turns the power off, and so does the power button while ACPI mode is off, as on an
 * ATX board.
 * Not modelled: suspend states (the firmware is told not to offer them), device monitors, clock control;
 * the SMBus has no slaves: each transfer ends with "no acknowledge".
 */
#include "piix4_pm.h"

#include "../core/vm/log.h"
#include "../core/vm/machine.h"

enum {
    REG_PMBA = 0x40, REG_DEVACTB = 0x58, REG_PMREGMISC = 0x80, REG_SMBBA = 0x90, REG_SMBHSTCFG = 0xd2,
    PM_PORTS = 64, SMB_PORTS = 16, GPE_BASE = 0xafe0, GPE_PORTS = 4, APM_BASE = 0xb2,
};
enum {
    PM_TMROF = 1 << 0, PM_BM = 1 << 4, PM_GBL = 1 << 5, PM_PWRBTN = 1 << 8, PM_RTC = 1 << 10,
    PM_RSM = 1 << 15,
    PM_STATUS_BITS = PM_TMROF | PM_BM | PM_GBL | PM_PWRBTN | PM_RTC | PM_RSM,
    PM_ENABLE_BITS = PM_TMROF | PM_GBL | PM_PWRBTN | PM_RTC,
    SCI_EN = 1 << 0, SUS_EN = 1 << 13, SUS_TYP_SHIFT = 10, CONTROL_BITS = 0x1c03,
    APMC_ACPI_ON = 0xf1, APMC_ACPI_OFF = 0xf0,
    SMB_STATUS = 0, SMB_CONTROL = 2, SMB_START = 0x40, SMB_INTR = 0x02, SMB_DEV_ERR = 0x04,
    SMB_CLEARABLE = 0x1e,
};
#define APMC_EN (1u << 25)
#define PM_TIMER_HZ 3579545u
#define PM_TIMER_HALF (1u << 23)

typedef struct {
    PciState pci;
    u64 overflow_tick;              /* PM timer ticks since power-on at which bit 23 changes next */
    u16 status, enable, control, gpe_enable;
    u8 apmc, apms;
    u8 smb[SMB_PORTS];
    u8 regs[PM_PORTS];              /* the rest of the PM space: keeps what is written */
    u8 pad[6];
} Piix4PmState;

struct Piix4Pm {
    PciDevice pci;
    Piix4PmState s;
    Irq sci, smi;
    Timer timer;
    int pm_ports, smb_ports;
    u32 pm_base, smb_base;
    bool said_suspend;
};

static const SaveField piix4_pm_fields[] = {
    PCI_SAVE(Piix4PmState, pci), SAVE(Piix4PmState, overflow_tick), SAVE(Piix4PmState, status),
    SAVE(Piix4PmState, enable), SAVE(Piix4PmState, control), SAVE(Piix4PmState, gpe_enable),
    SAVE(Piix4PmState, apmc), SAVE(Piix4PmState, apms), SAVE(Piix4PmState, smb), SAVE(Piix4PmState, regs),
    SAVE(Piix4PmState, pad), SAVE_END
};

/* ---- PM timer and SCI ---- */

static u64 ticks_now(Piix4Pm *pm)
{
    return muldiv64(clock_ns(pm->pci.dev.m, CLOCK_VIRTUAL), PM_TIMER_HZ, NS_PER_SEC);
}

static u64 next_overflow(u64 ticks)
{
    return (ticks | (PM_TIMER_HALF - 1)) + 1;
}

/* Brings TMROF, the SCI line and the timer to what the registers and the time say. */
static void update(Piix4Pm *pm)
{
    Piix4PmState *s = &pm->s;

    if (ticks_now(pm) >= s->overflow_tick)
        s->status |= PM_TMROF;
    irq_set(pm->sci, (s->control & SCI_EN) && (s->status & s->enable & PM_ENABLE_BITS));
    if ((s->enable & PM_TMROF) && !(s->status & PM_TMROF))
        timer_arm(&pm->timer, muldiv64(s->overflow_tick, NS_PER_SEC, PM_TIMER_HZ) + 1);
    else
        timer_cancel(&pm->timer);
}

static void timer_fired(void *opaque)
{
    update(opaque);
}

static void status_written(Piix4Pm *pm, u16 value)
{
    update(pm);
    pm->s.status &= (u16)~value;
    if (value & PM_TMROF)
        pm->s.overflow_tick = next_overflow(ticks_now(pm));
    update(pm);
}

static void control_written(Piix4Pm *pm, u16 value)
{
    Machine *m = pm->pci.dev.m;

    pm->s.control = value & CONTROL_BITS;
    update(pm);
    if (!(value & SUS_EN))
        return;
    if ((value >> SUS_TYP_SHIFT & 7) == 0)
        machine_request(m, REQ_SHUTDOWN);
    else
        log_once(&pm->said_suspend, "power management: suspend type %d is not supported, the guest goes on",
                 value >> SUS_TYP_SHIFT & 7);
}

void piix4_pm_power_button(void *opaque)
{
    Piix4Pm *pm = opaque;

    pm->s.status |= PM_PWRBTN;
    if (pm->s.control & SCI_EN)
        update(pm);
    else
        machine_request(pm->pci.dev.m, REQ_SHUTDOWN);
}

/* ---- PM I/O space: 16-bit registers and the 32-bit timer, seen byte-wise ---- */

static u8 pm_read_byte(Piix4Pm *pm, unsigned reg)
{
    unsigned shift = 8 * (reg & 1);

    switch (reg & ~1u) {
    case 0x00: return (u8)(pm->s.status >> shift);
    case 0x02: return (u8)(pm->s.enable >> shift);
    case 0x04: return (u8)(pm->s.control >> shift);
    default:   return pm->s.regs[reg];
    }
}

static u32 pm_read(void *opaque, u32 port, unsigned size)
{
    Piix4Pm *pm = opaque;
    unsigned reg = port - pm->pm_base;
    u32 value = 0;

    if (reg >= 0x08 && reg < 0x0c)
        return (u32)(ticks_now(pm) & 0xffffff) >> 8 * (reg - 0x08);
    if (reg < 2)
        update(pm);
    for (unsigned i = 0; i < size; i++)
        value |= (u32)pm_read_byte(pm, reg + i) << 8 * i;
    return value;
}

/* `mask` says which bits of the 16-bit register were written. */
static void pm_write_word(Piix4Pm *pm, unsigned reg, u16 value, u16 mask)
{
    switch (reg) {
    case 0x00:
        status_written(pm, value & mask & PM_STATUS_BITS);
        break;
    case 0x02:
        pm->s.enable = (u16)((pm->s.enable & ~mask) | (value & mask & PM_ENABLE_BITS));
        update(pm);
        break;
    case 0x04:
        control_written(pm, (u16)((pm->s.control & ~mask) | (value & mask)));
        break;
    case 0x08:
    case 0x0a:
        break;                      /* the timer is read-only */
    default:
        store16(pm->s.regs + reg, (u16)((load16(pm->s.regs + reg) & ~mask) | (value & mask)));
        break;
    }
}

static void pm_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Piix4Pm *pm = opaque;
    unsigned reg = port - pm->pm_base;

    for (unsigned i = 0; i < size; i += 2) {
        if (size == 1 && (reg & 1))
            pm_write_word(pm, reg & ~1u, (u16)(value << 8), 0xff00);
        else
            pm_write_word(pm, (reg + i) & ~1u, (u16)(value >> 8 * i), size == 1 ? 0x00ff : 0xffff);
    }
}

static const PortOps pm_port_ops = { .read = pm_read, .write = pm_write, .sizes = 1 | 2 | 4 };

/* ---- SMBus host controller ---- */

static u32 smb_read(void *opaque, u32 port, unsigned size)
{
    Piix4Pm *pm = opaque;
    (void)size;

    return pm->s.smb[port - pm->smb_base];
}

static void smb_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Piix4Pm *pm = opaque;
    unsigned reg = port - pm->smb_base;
    (void)size;

    if (reg == SMB_STATUS) {
        pm->s.smb[SMB_STATUS] &= (u8)~(value & SMB_CLEARABLE);
    } else if (reg == SMB_CONTROL) {
        pm->s.smb[reg] = (u8)(value & ~SMB_START);
        if (value & SMB_START)
            pm->s.smb[SMB_STATUS] |= SMB_INTR | SMB_DEV_ERR;
    } else {
        pm->s.smb[reg] = (u8)value;
    }
}

static const PortOps smb_port_ops = { .read = smb_read, .write = smb_write, .sizes = 1 };

/* ---- APM control, general-purpose events ---- */

static u32 apm_read(void *opaque, u32 port, unsigned size)
{
    Piix4Pm *pm = opaque;
    (void)size;

    return port == APM_BASE ? pm->s.apmc : pm->s.apms;
}

static void apm_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Piix4Pm *pm = opaque;
    (void)size;

    if (port != APM_BASE) {
        pm->s.apms = (u8)value;
        return;
    }
    pm->s.apmc = (u8)value;
    if (value == APMC_ACPI_ON)
        pm->s.control |= SCI_EN;
    else if (value == APMC_ACPI_OFF)
        pm->s.control &= (u16)~SCI_EN;
    update(pm);
    if (load32(pm->s.pci.config + REG_DEVACTB) & APMC_EN)
        irq_pulse(pm->smi);
}

static const PortOps apm_port_ops = { .read = apm_read, .write = apm_write, .sizes = 1 };

static u32 gpe_read(void *opaque, u32 port, unsigned size)
{
    Piix4Pm *pm = opaque;
    (void)size;

    return port < GPE_BASE + 2 ? 0 : pm->s.gpe_enable >> 8 * (port & 1) & 0xff;
}

static void gpe_write(void *opaque, u32 port, u32 value, unsigned size)
{
    Piix4Pm *pm = opaque;
    unsigned shift = 8 * (port & 1);
    (void)size;

    if (port >= GPE_BASE + 2)
        pm->s.gpe_enable = (u16)((pm->s.gpe_enable & ~(0xff << shift)) | (value & 0xff) << shift);
}

static const PortOps gpe_port_ops = { .read = gpe_read, .write = gpe_write, .sizes = 1 };

/* ---- configuration ---- */

static void map_ports(Piix4Pm *pm)
{
    Machine *m = pm->pci.dev.m;
    const u8 *c = pm->s.pci.config;
    u32 pm_base = c[REG_PMREGMISC] & 1 ? load32(c + REG_PMBA) & 0xffc0 : 0;
    u32 smb_base = c[REG_SMBHSTCFG] & 1 ? load32(c + REG_SMBBA) & 0xfff0 : 0;

    if (pm_base != pm->pm_base) {
        port_unmap(m, pm->pm_ports);
        pm->pm_base = pm_base;
        pm->pm_ports = pm_base ? port_map(m, "power management", pm_base, PM_PORTS, &pm_port_ops, pm) : 0;
    }
    if (smb_base != pm->smb_base) {
        port_unmap(m, pm->smb_ports);
        pm->smb_base = smb_base;
        pm->smb_ports = smb_base ? port_map(m, "smbus", smb_base, SMB_PORTS, &smb_port_ops, pm) : 0;
    }
}

static void config_written(PciDevice *dev, unsigned reg, unsigned size)
{
    (void)reg;
    (void)size;
    map_ports(CONTAINER_OF(dev, Piix4Pm, pci));
}

static void pm_reset(Device *dev)
{
    Piix4Pm *pm = CONTAINER_OF(dev, Piix4Pm, pci.dev);

    pci_device_reset(&pm->pci);
    pm->s.overflow_tick = next_overflow(ticks_now(pm));
    map_ports(pm);
    update(pm);
}

static bool pm_loaded(Device *dev, Error *err)
{
    Piix4Pm *pm = CONTAINER_OF(dev, Piix4Pm, pci.dev);

    if (!pci_device_loaded(&pm->pci, err))
        return false;
    if (pm->s.overflow_tick > next_overflow(ticks_now(pm)))
        pm->s.overflow_tick = next_overflow(ticks_now(pm));
    map_ports(pm);
    update(pm);
    return true;
}

static void pm_destroy(Device *dev)
{
    timer_cancel(&CONTAINER_OF(dev, Piix4Pm, pci.dev)->timer);
}

const DeviceClass piix4_pm_class = {
    .name = "piix4-pm", .size = sizeof(Piix4Pm),
    .state = offsetof(Piix4Pm, s), .state_size = sizeof(Piix4PmState), .fields = piix4_pm_fields,
    .reset = pm_reset, .loaded = pm_loaded, .destroy = pm_destroy,
};

Piix4Pm *piix4_pm_create(Machine *m, PciBus *bus, int devfn, Irq sci, Irq smi)
{
    static const PciId id = { .vendor = 0x8086, .device = 0x7113, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                              .revision = 3, .subclass = 0x80, .base_class = 6, .int_pin = 1 };
    Piix4Pm *pm = device_create(m, &piix4_pm_class);
    u8 *init = pm->pci.init, *wmask = pm->pci.wmask;

    pm->sci = sci;
    pm->smi = smi;
    timer_init(&pm->timer, m, CLOCK_VIRTUAL, timer_fired, pm);
    pci_register(bus, &pm->pci, &pm->s.pci, devfn, &id);
    pm->pci.config_written = config_written;

    store16(init + 0x06, 0x0280);
    store32(init + REG_PMBA, 1);                /* an I/O address */
    store32(wmask + REG_PMBA, 0xffc0);
    for (int reg = 0x44; reg < 0x80; reg++)
        wmask[reg] = 0xff;
    wmask[REG_PMREGMISC] = 0x01;
    store32(init + REG_SMBBA, 1);
    store32(wmask + REG_SMBBA, 0xfff0);
    wmask[REG_SMBHSTCFG] = 0x0f;
    for (int reg = 0xd3; reg < 0xd6; reg++)
        wmask[reg] = 0xff;
    port_map(m, "apm", APM_BASE, 2, &apm_port_ops, pm);
    port_map(m, "gpe", GPE_BASE, GPE_PORTS, &gpe_port_ops, pm);
    return pm;
}
