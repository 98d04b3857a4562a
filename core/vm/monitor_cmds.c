/*
 * The monitor's commands and info topics, one row each.
 */
#include "monitor_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "device.h"
#include "gdbstub.h"
#include "log.h"
#include "nic.h"
#include "ui.h"
#include "version.h"

static bool number(Monitor *mon, const char *what, const char *text, long lo, long hi, long *value)
{
    char *end;
    *value = strtol(text, &end, 0);
    if (end != text && !*end && *value >= lo && *value <= hi)
        return true;
    monitor_printf(mon, "%s: '%.40s' isn't a number from %ld to %ld\n", what, text, lo, hi);
    return false;
}

/* ---- the machine ---- */

static void cmd_quit(Monitor *mon, const Args *a)
{
    (void)a;
    machine_request(mon->m, REQ_QUIT);
}

static void cmd_stop(Monitor *mon, const Args *a)
{
    (void)a;
    machine_stop(mon->m);
}

static void cmd_cont(Monitor *mon, const Args *a)
{
    (void)a;
    machine_cont(mon->m);
    if (!machine_running(mon->m))
        monitor_puts(mon, "the guest has powered off; 'system_reset', then 'cont', switch it on again\n");
}

static void cmd_reset(Monitor *mon, const Args *a)
{
    (void)a;
    machine_request(mon->m, (MachineRequest)(REQ_RESET | REQ_BY_HOST));
}

static void cmd_powerdown(Monitor *mon, const Args *a)
{
    (void)a;
    if (mon->m->powerdown)
        machine_request(mon->m, REQ_POWERDOWN);
    else
        monitor_puts(mon, "this machine has no power button\n");
}

static void cmd_log(Monitor *mon, const Args *a)
{
    u32 mask = 0;
    if (strcmp(a->argv[0], "none") && !log_parse(a->argv[0], &mask)) {
        monitor_printf(mon, "log: '%.60s': the categories are none, %s\n", a->argv[0], log_names());
        return;
    }
    machine_park(mon->m);
    log_mask = mask;
    if (mon->m->cpu)
        cpu_log_changed(mon->m->cpu);
    machine_unpark(mon->m);
}

static void cmd_logfile(Monitor *mon, const Args *a)
{
    if (!log_to_file(a->argv[0]))
        monitor_printf(mon, "logfile: %.200s can't be made\n", a->argv[0]);
}

static void cmd_gdbserver(Monitor *mon, const Args *a)
{
    const char *where = a->argc ? a->argv[0] : "tcp::1234";
    char spec[256];
    Error err = { "" };
    if (!strcmp(where, "none")) {
        monitor_puts(mon, gdb_end(mon->m) ? "no debugger is let in any more\n"
                                          : "there was no debugger's server\n");
        return;
    }
    bool port = where[strspn(where, "0123456789")] == 0;
    bool bare = port || (!strncmp(where, "tcp:", 4) && !strstr(where, ",server"));
    snprintf(spec, sizeof spec, "%s%.200s%s", port ? "tcp::" : "", where, bare ? ",server,nowait" : "");
    gdb_end(mon->m);
    Chardev *chr = chardev_open(mon->m, "gdb", spec, &err);
    if (chr && gdb_serve(mon->m, chr))
        monitor_printf(mon, "waiting for a debugger at '%s'\n", spec);
    else
        monitor_printf(mon, "gdbserver: %s\n", err.text[0] ? err.text : "out of memory");
}

/* ---- keyboard, mouse, screen ---- */

static void cmd_sendkey(Monitor *mon, const Args *a)
{
    long hold = 100;
    Error err;
    if (a->argc > 1 && !number(mon, "sendkey", a->argv[1], 1, 60000, &hold))
        return;
    if (!ui_send_keys(mon->m->ui, a->argv[0], (unsigned)hold, &err))
        monitor_printf(mon, "sendkey: %s\n", err.text);
}

static void cmd_mouse_move(Monitor *mon, const Args *a)
{
    long d[3] = { 0 };
    for (int i = 0; i < a->argc; i++) {
        if (!number(mon, "mouse_move", a->argv[i], -10000, 10000, &d[i]))
            return;
    }
    ui_send_mouse(mon->m->ui, (int)d[0], (int)d[1], (int)d[2], mon->mouse_buttons);
}

static void cmd_mouse_button(Monitor *mon, const Args *a)
{
    long v;
    if (!number(mon, "mouse_button", a->argv[0], 0, 7, &v))
        return;
    /* the monitor counts left, middle, right; a PS/2 mouse left, right, middle */
    mon->mouse_buttons = (unsigned)((v & 1) | (v & 2) << 1 | (v & 4) >> 1);
    ui_send_mouse(mon->m->ui, 0, 0, 0, mon->mouse_buttons);
}

static void cmd_screendump(Monitor *mon, const Args *a)
{
    Error err;
    UiConsole *c = ui_console(mon->m->ui, 0);
    for (int i = 0; ui_console(mon->m->ui, i); i++) {
        if (console_is_graphic(ui_console(mon->m->ui, i))) {
            c = ui_console(mon->m->ui, i);
            break;
        }
    }
    if (!ui_screendump(mon->m->ui, c, a->argv[0], &err))
        monitor_printf(mon, "screendump: %s\n", err.text);
}

/* ---- networks ---- */

static void cmd_set_link(Monitor *mon, const Args *a)
{
    bool up = !strcmp(a->argv[1], "on");
    if (!up && strcmp(a->argv[1], "off"))
        monitor_puts(mon, "usage: set_link name on|off\n");
    else if (!net_set_link(mon->m, a->argv[0], up))
        monitor_printf(mon, "set_link: there is no '%.40s'; 'info network' lists them\n", a->argv[0]);
}

/* ---- drives ---- */

static Blk *find_drive(Monitor *mon, const char *name)
{
    for (Blk *b = blk_first(mon->m); b; b = blk_next(b)) {
        if (!strcmp(blk_name(b), name))
            return b;
    }
    monitor_printf(mon, "there is no drive '%.40s'; 'info block' lists them\n", name);
    return NULL;
}

static void cmd_eject(Monitor *mon, const Args *a)
{
    Error err;
    bool force = !strcmp(a->argv[0], "-f");
    if (force != (a->argc == 2)) {
        monitor_puts(mon, "usage: eject [-f] drive\n");
        return;
    }
    Blk *b = find_drive(mon, a->argv[force]);
    if (!b)
        return;
    if (blk_locked(b) && !force)
        monitor_printf(mon, "eject: the guest has locked '%s'; 'eject -f %s' takes it out all the same\n",
                       blk_name(b), blk_name(b));
    else if (!blk_change(b, NULL, NULL, &err))
        monitor_printf(mon, "eject: %s\n", err.text);
}

static void cmd_change(Monitor *mon, const Args *a)
{
    Error err;
    Blk *b = find_drive(mon, a->argv[0]);
    if (!b)
        return;
    if (blk_locked(b))
        monitor_printf(mon, "change: the guest has locked '%s'; 'eject -f %s' first\n", blk_name(b),
                       blk_name(b));
    else if (!blk_change(b, a->argv[1], a->argc > 2 ? a->argv[2] : NULL, &err))
        monitor_printf(mon, "change: %s\n", err.text);
}

static void cmd_commit(Monitor *mon, const Args *a)
{
    bool all = !strcmp(a->argv[0], "all");
    Blk *only = all ? NULL : find_drive(mon, a->argv[0]);
    if (!all && !only)
        return;
    for (Blk *b = blk_first(mon->m); b; b = blk_next(b)) {
        Error err;
        if ((all ? blk_keeps_changes_apart(b) : b == only) && !blk_commit(b, &err))
            monitor_printf(mon, "commit: %s\n", err.text);
    }
}

const Command monitor_commands[] = {
    {"help", "?", 0, 1, false, COMPLETE_COMMAND, "[command]", "list the commands, or explain one",
     monitor_help},
    {"info", NULL, 0, 2, false, COMPLETE_INFO, "[topic]", "show something about the machine", monitor_info},
    {"quit", "q", 0, 0, false, COMPLETE_NONE, "", "end the program", cmd_quit},
    {"stop", NULL, 0, 0, false, COMPLETE_NONE, "", "pause the guest", cmd_stop},
    {"cont", "c", 0, 0, false, COMPLETE_NONE, "", "let the guest go on", cmd_cont},
    {"system_reset", NULL, 0, 0, false, COMPLETE_NONE, "", "press the reset button", cmd_reset},
    {"system_powerdown", NULL, 0, 0, false, COMPLETE_NONE, "", "press the power button", cmd_powerdown},
    {"sendkey", NULL, 1, 2, false, COMPLETE_KEY, "keys [hold_ms]",
     "type a combination, as in ctrl-alt-delete; held for 100 ms", cmd_sendkey},
    {"mouse_move", NULL, 2, 3, false, COMPLETE_NONE, "dx dy [dz]", "move the mouse", cmd_mouse_move},
    {"mouse_button", NULL, 1, 1, false, COMPLETE_NONE, "state",
     "set the mouse buttons (1 left, 2 middle, 4 right)", cmd_mouse_button},
    {"screendump", NULL, 1, 1, false, COMPLETE_FILE, "file",
     "save the screen as PPM, or PNG if the name ends in .png", cmd_screendump},
    {"x", NULL, 0, -1, true, COMPLETE_NONE, "/fmt address",
     "show memory at a virtual address, as in x/10i $pc", monitor_x},
    {"xp", NULL, 0, -1, true, COMPLETE_NONE, "/fmt address", "show memory at a physical address", monitor_xp},
    {"print", "p", 0, -1, true, COMPLETE_NONE, "/fmt expression", "calculate, as in p $eax + 4 * 3",
     monitor_p},
    {"eject", NULL, 1, 2, false, COMPLETE_DRIVE, "[-f] drive",
     "take the medium out (-f: even if the guest locked it)", cmd_eject},
    {"set_link", NULL, 2, 2, false, COMPLETE_NONE, "name on|off", "take a network's cable out, or put it in",
     cmd_set_link},
    {"change", NULL, 2, 3, false, COMPLETE_DRIVE_FILE, "drive file [format]", "put another medium in",
     cmd_change},
    {"savevm", NULL, 0, 1, false, COMPLETE_SNAPSHOT, "[name]", "take a snapshot of machine and disks",
     monitor_savevm},
    {"loadvm", NULL, 1, 1, false, COMPLETE_SNAPSHOT, "name|number", "go back to a snapshot", monitor_loadvm},
    { "snapshot_picture", NULL, 2, 2, false, COMPLETE_SNAPSHOT, "name|number file.png",
      "write the picture of the screen that is kept with a snapshot", monitor_snapshot_picture },
    {"delvm", NULL, 1, 1, false, COMPLETE_SNAPSHOT, "name|number", "delete a snapshot", monitor_delvm},
    {"log", NULL, 1, 1, false, COMPLETE_LOG, "item[,...]|none", "choose what is logged", cmd_log},
    {"logfile", NULL, 1, 1, false, COMPLETE_FILE, "file", "send the log to a file from here on", cmd_logfile},
    {"gdbserver", NULL, 0, 1, false, COMPLETE_NONE, "[port|none]",
     "let a debugger in, at tcp::1234 unless another character device is named", cmd_gdbserver},
    {"i", NULL, 0, -1, true, COMPLETE_NONE, "/fmt port", "read an I/O port: /b, /h or /w", monitor_i},
    {"o", NULL, 0, -1, true, COMPLETE_NONE, "/fmt port value", "write an I/O port", monitor_o},
    {"sum", NULL, 0, -1, false, COMPLETE_NONE, "address size",
     "sum physical memory up, as the command sum does", monitor_sum},
    {"memsave", NULL, 0, -1, false, COMPLETE_NONE, "address size file", "save virtual memory to a file",
     monitor_memsave},
    {"pmemsave", NULL, 0, -1, false, COMPLETE_NONE, "address size file", "save physical memory to a file",
     monitor_pmemsave},
    {"nmi", NULL, 0, 1, false, COMPLETE_NONE, "[cpu]", "send the CPU a non-maskable interrupt", monitor_nmi},
    {"cpu", NULL, 1, 1, false, COMPLETE_NONE, "index", "choose the CPU that info and x look at", monitor_cpu},
    {"boot_set", NULL, 1, 1, false, COMPLETE_NONE, "letters", "choose the boot order, from the next reset on",
     monitor_boot_set},
    {"commit", NULL, 1, 1, false, COMPLETE_DRIVE, "drive|all", "write what -snapshot keeps apart",
     cmd_commit},
    {"mouse_set", NULL, 1, 1, false, COMPLETE_NONE, "index", "choose the mouse", monitor_mouse_set},
    {"usb_add", NULL, 0, -1, false, COMPLETE_NONE, "device", "there is no USB", monitor_no_usb},
    {"usb_del", NULL, 0, -1, false, COMPLETE_NONE, "device", "there is no USB", monitor_no_usb},
    {"device_add", NULL, 0, -1, false, COMPLETE_NONE, "driver,...", "nothing can be plugged in while it runs",
     monitor_no_hot_plug},
    {"device_del", NULL, 0, -1, false, COMPLETE_NONE, "id", "nothing can be plugged out while it runs",
     monitor_no_hot_plug},
    {"wavcapture", NULL, 0, -1, false, COMPLETE_NONE, "file", "sound is not recorded", monitor_no_capture},
    {"stopcapture", NULL, 0, -1, false, COMPLETE_NONE, "index", "sound is not recorded", monitor_no_capture},
    {NULL, NULL, 0, 0, false, COMPLETE_NONE, NULL, NULL, NULL}};

/* ---- info ---- */

static void info_version(Monitor *mon)
{
    monitor_puts(mon, PROGRAM_VERSION " (qemu-win)\n");
}

static void info_status(Monitor *mon)
{
    monitor_printf(mon, "VM status: %s\n", machine_state_name(mon->m));
}

static void info_name(Monitor *mon)
{
    if (mon->m->cfg.name)
        monitor_printf(mon, "%s\n", mon->m->cfg.name);
}

static void info_history(Monitor *mon)
{
    for (int i = 0; i < mon->edit.histories; i++)
        monitor_printf(mon, "%d: '%.1000s'\n", i, mon->edit.history[i]);
}

static bool has_cpu(Monitor *mon)
{
    if (!mon->m->cpu)
        monitor_puts(mon, "this machine has no CPU\n");
    return mon->m->cpu;
}

static void info_registers(Monitor *mon)
{
    if (has_cpu(mon))
        cpu_info_registers(mon->m->cpu, monitor_print, mon);
}

static void info_mem(Monitor *mon)
{
    if (has_cpu(mon))
        cpu_info_mem(mon->m->cpu, monitor_print, mon);
}

static void info_tlb(Monitor *mon)
{
    if (has_cpu(mon))
        cpu_info_tlb(mon->m->cpu, monitor_print, mon);
}

static void info_jit(Monitor *mon)
{
    if (has_cpu(mon))
        cpu_info_jit(mon->m->cpu, monitor_print, mon);
}

static void info_idt(Monitor *mon)
{
    if (has_cpu(mon))
        cpu_info_idt(mon->m->cpu, monitor_print, mon);
}

static void info_gdt(Monitor *mon)
{
    if (has_cpu(mon))
        cpu_info_gdt(mon->m->cpu, monitor_print, mon);
}

static void info_cpus(Monitor *mon)
{
    if (has_cpu(mon))
        monitor_printf(mon, "* CPU #0: pc=0x%08llx\n", (unsigned long long)cpu_eip(mon->m->cpu));
}

static void info_block(Monitor *mon)
{
    for (Blk *b = blk_first(mon->m); b; b = blk_next(b)) {
        char text[1024];
        blk_describe(b, text, sizeof text);
        monitor_printf(mon, "%s\n", text);
    }
}

static void info_mtree(Monitor *mon)
{
    mem_list(mon->m->mem, monitor_print, mon);
}

static void info_ports(Monitor *mon)
{
    port_list(mon->m, monitor_print, mon);
}

static void info_chardev(Monitor *mon)
{
    chardev_list(mon->m, monitor_print, mon);
}

static void info_devices(Monitor *mon)
{
    for (Device *d = mon->m->devices; d; d = d->next) {
        monitor_printf(mon, "%s\n", d->id);
        if (d->cls->info)
            d->cls->info(d, monitor_print, mon);
    }
}

const InfoTopic monitor_topics[] = {
    { "version", "the program's version", info_version },
    { "status", "whether the guest runs", info_status },
    { "name", "the guest's name (-name)", info_name },
    { "history", "command lines typed before", info_history },
    { "registers", "the CPU's registers", info_registers },
    { "cpus", "the CPUs", info_cpus },
    { "mem", "virtual memory that is mapped, in ranges", info_mem },
    { "tlb", "virtual memory that is mapped, page by page", info_tlb },
    { "jit", "the translator's figures", info_jit },
    { "snapshots", "what savevm has kept (-t: as a tree, -f: figures of the last one)", monitor_info_snapshots },
    { "block", "drives and what is in them", info_block },
    { "mtree", "the physical address space", info_mtree },
    { "ports", "the I/O address space", info_ports },
    { "chardev", "character devices", info_chardev },
    { "devices", "all chips", info_devices },
    { "idt", "the interrupt descriptor table", info_idt },
    { "gdt", "the global descriptor table", info_gdt },
    { "mice", "pointing devices", info_mice },
    { "kqemu", "the accelerator", info_no_kqemu },
    { "usb", "USB devices", info_no_usb },
    { "usbhost", "USB devices of the host", info_no_usb },
    { "capture", "recordings of sound", info_no_capture },
    { "profile", "where time goes", info_no_profile },
    { "vnc", "the remote display", info_no_vnc },
    { NULL, NULL, NULL }
};
