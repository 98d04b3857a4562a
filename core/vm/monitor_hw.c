/*
 * Monitor commands that reach into the machine: I/O ports, check sums, memory to files, the boot order, NMI;
 * and the commands of old builds whose devices this machine does not have, which say so in a line.
 */
#include "monitor_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* The expression at *p; false: the complaint is printed. */
static bool value_of(Monitor *mon, const char *what, const char **p, u64 *value)
{
    Error err;
    machine_park(mon->m);
    bool ok = monitor_expr(mon, p, value, &err);
    machine_unpark(mon->m);
    if (!ok)
        monitor_printf(mon, "%s: %s\n", what, err.text);
    return ok;
}

static bool size_of_format(Monitor *mon, const char *what, const char *format, unsigned *size)
{
    *size = *format == 'h' ? 2 : *format == 'w' ? 4 : 1;
    if (!*format || (strchr("bhw", *format) && !format[1]))
        return true;
    monitor_printf(mon, "%s: the size is /b, /h or /w\n", what);
    return false;
}

void monitor_i(Monitor *mon, const Args *a)
{
    unsigned size;
    u64 port;
    const char *p = a->rest;
    if (!size_of_format(mon, "i", a->format, &size) || !value_of(mon, "i", &p, &port))
        return;
    if (*p || port > 0xffff) {
        monitor_puts(mon, "usage: i /fmt port     (a port is 0 to 0xffff)\n");
        return;
    }
    machine_park(mon->m);
    u32 value = port_read(mon->m, (u32)port, size);
    machine_unpark(mon->m);
    monitor_printf(mon, "port%c[0x%04x] = 0x%0*x\n", size == 1 ? 'b' : size == 2 ? 'w' : 'l', (unsigned)port,
                   (int)size * 2, value);
}

void monitor_o(Monitor *mon, const Args *a)
{
    unsigned size;
    u64 port, value;
    const char *p = a->rest;
    if (!size_of_format(mon, "o", a->format, &size) || !value_of(mon, "o", &p, &port))
        return;
    if (!*p || port > 0xffff) {
        monitor_puts(mon, "usage: o /fmt port value     (a port is 0 to 0xffff)\n");
        return;
    }
    if (!value_of(mon, "o", &p, &value) || *p)
        return;
    machine_park(mon->m);
    port_write(mon->m, (u32)port, (u32)value, size);
    machine_unpark(mon->m);
}

/* As value_of(), but it ends at a space: a file's name that begins with a slash is no division. */
static bool word_of(Monitor *mon, const char *what, const char **p, u64 *value)
{
    char word[128];
    while (**p == ' ')
        ++*p;
    int len = (int)strcspn(*p, " ");
    const char *at = word;
    snprintf(word, sizeof word, "%.*s", len, *p);
    *p += len;
    while (**p == ' ')
        ++*p;
    return value_of(mon, what, &at, value);
}

/* The addr and size of sum, memsave and pmemsave. */
static bool range_of(Monitor *mon, const char *what, const char **p, u64 *addr, u64 *size)
{
    enum { LARGEST = 1 << 30 };
    if (!word_of(mon, what, p, addr) || !word_of(mon, what, p, size))
        return false;
    if (*addr >> 40 || !*size || *size > LARGEST) {
        monitor_printf(mon, "%s: the size is 1 byte to 1 GiB\n", what);
        return false;
    }
    return true;
}

/* The check sum of the BSD command sum: 16 bits that rotate. */
void monitor_sum(Monitor *mon, const Args *a)
{
    u64 addr, size;
    u32 sum = 0;
    u8 part[PAGE_SIZE];
    const char *p = a->rest;
    if (!range_of(mon, "sum", &p, &addr, &size))
        return;
    for (u64 at = 0; at < size; at += sizeof part) {
        u64 n = size - at < sizeof part ? size - at : sizeof part;
        mem_dma_read(mon->m->mem, addr + at, part, n);
        for (u64 i = 0; i < n; i++)
            sum = ((sum >> 1 | sum << 15) + part[i]) & 0xffff;
    }
    monitor_printf(mon, "%05u\n", sum);
}

static void save(Monitor *mon, const Args *a, const char *what, bool physical)
{
    u64 addr, size, at = 0;
    u8 part[PAGE_SIZE];
    Error err = { "" };
    const char *p = a->rest;
    char name[1024];
    if (!range_of(mon, what, &p, &addr, &size))
        return;
    size_t len = strlen(p);
    bool quoted = len >= 2 && *p == '"' && p[len - 1] == '"';
    snprintf(name, sizeof name, "%.*s", (int)(len - 2 * quoted), p + quoted);
    HostFile *f = *name ? host_file_open(name, HOST_WRITE | HOST_CREATE, &err) : NULL;
    if (!f) {
        monitor_printf(mon, "%s: %s\n", what, *name ? err.text : "a file's name is missing");
        return;
    }
    machine_park(mon->m);
    for (bool ok = true; ok && at < size;) {
        u64 phys = addr + at, n = PAGE_SIZE - (phys & PAGE_MASK);
        n = n < size - at ? n : size - at;
        ok = physical || cpu_virt_to_phys(mon->m->cpu, addr + at, &phys) ||
             error_set(&err, "nothing is mapped at 0x%llx", (unsigned long long)(addr + at));
        if (ok)
            mem_dma_read(mon->m->mem, phys, part, n);
        ok = ok && host_file_write(f, at, part, (size_t)n, &err);
        at += ok ? n : 0;
    }
    machine_unpark(mon->m);
    host_file_close(f);
    if (at < size)
        monitor_printf(mon, "%s: %s\n", what, err.text);
}

void monitor_memsave(Monitor *mon, const Args *a) { save(mon, a, "memsave", false); }
void monitor_pmemsave(Monitor *mon, const Args *a) { save(mon, a, "pmemsave", true); }

void monitor_nmi(Monitor *mon, const Args *a)
{
    (void)a;
    irq_set(cpu_nmi_line(mon->m->cpu), 1);
    irq_set(cpu_nmi_line(mon->m->cpu), 0);
}

void monitor_cpu(Monitor *mon, const Args *a)
{
    if (strcmp(a->argv[0], "0"))
        monitor_puts(mon, "cpu: this machine has CPU 0 only\n");
}

void monitor_boot_set(Monitor *mon, const Args *a)
{
    if (!mon->m->boot_set || !mon->m->boot_set(mon->m->board_opaque, a->argv[0]))
        monitor_puts(mon, "boot_set: the letters are a, c, d and n, as in -boot\n");
}

/* ---- what this machine does not have ---- */

void monitor_no_usb(Monitor *mon, const Args *a)
{
    (void)a;
    monitor_puts(mon, "this machine has no USB; keyboard and mouse are PS/2\n");
}

void monitor_no_capture(Monitor *mon, const Args *a)
{
    (void)a;
    monitor_puts(mon, "sound is not recorded\n");
}

void monitor_mouse_set(Monitor *mon, const Args *a)
{
    if (strcmp(a->argv[0], "0"))
        monitor_puts(mon, "mouse_set: there is mouse 0 only; 'info mice' lists it\n");
}

void monitor_no_hot_plug(Monitor *mon, const Args *a)
{
    (void)a;
    monitor_puts(mon,
                 "nothing can be plugged in or out while this machine runs; media are changed by 'change'\n");
}

void info_no_kqemu(Monitor *mon)
{
    monitor_puts(mon, "kqemu support: not needed; 'info jit' shows what the translator does\n");
}

void info_no_usb(Monitor *mon)
{
    monitor_puts(mon, "this machine has no USB\n");
}

void info_no_capture(Monitor *mon)
{
    monitor_puts(mon, "nothing is recorded\n");
}

void info_no_profile(Monitor *mon)
{
    monitor_puts(mon, "no profile is kept; 'info jit' and 'info iostats' show counts\n");
}

void info_no_vnc(Monitor *mon)
{
    monitor_puts(mon, "VNC server: none; the picture is in the window\n");
}

void info_mice(Monitor *mon)
{
    monitor_puts(mon, "* Mouse #0: PS/2 mouse\n");
}
