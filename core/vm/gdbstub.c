/*
 * The debugger's server; see gdbstub.h. Stops and steps are the CPU's (cpu.h); memory is read and written
 * where the guest's page tables say, or at physical addresses (Qqemu.PhyMemMode), ROM excepted. A packet is
 * at most 4 KiB; what is longer or damaged is refused with '-', what is unknown is answered with an empty
 * packet, as the protocol wants. When the debugger leaves, its stops go and the guest goes on.
 */
#include "gdbstub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdb_regs.h"
#include "machine.h"
#include "monitor.h"

enum { PACKET = 4096, OUT_MAX = 256 * 1024, TRAP = 5, INTERRUPT = 2 };
#define RESET_VECTOR 0xfffffff0u
typedef enum { RX_IDLE, RX_DATA, RX_SUM1, RX_SUM2 } Rx;

typedef struct {
    Machine *m;
    Chardev *chr;
    MachineListener listener;
    bool connected, resumed;        /* resumed: the debugger waits for the guest to stop */
    bool no_ack, physical, sw_reasons, hw_reasons;
    unsigned bits;                  /* of the code the debugger found when it came */
    Rx rx;
    bool too_long;
    u8 sum, wanted;
    char in[PACKET + 1];
    size_t in_len;
    u8 out[OUT_MAX];
    size_t out_len, out_sent, last; /* last: where the packet begins that a '-' asks for again */
    u64 hw[CPU_STOPS_MAX];          /* addresses of Z1 */
    unsigned hws;
} Gdb;

static Gdb *server;

/* ---- output ---- */

static void flush(Gdb *g)
{
    while (g->out_sent < g->out_len) {
        size_t n = chardev_write(g->chr, g->out + g->out_sent, g->out_len - g->out_sent);
        if (!n)
            return;
        g->out_sent += n;
    }
}

static void put(Gdb *g, const void *data, size_t n)
{
    if (g->out_sent == g->out_len)
        g->out_len = g->out_sent = 0;
    if (n > OUT_MAX - g->out_len) {
        chardev_hangup(g->chr);     /* a debugger that asks and does not read */
        return;
    }
    memcpy(g->out + g->out_len, data, n);
    g->out_len += n;
}

static void reply_bytes(Gdb *g, const char *data, size_t n)
{
    u8 sum = 0;
    char end[4];
    if (g->out_sent == g->out_len)
        g->out_len = g->out_sent = 0;
    g->last = g->out_len;
    put(g, "$", 1);
    for (size_t i = 0; i < n; i++) {
        char c = data[i], escaped[2] = { '}', (char)(c ^ 0x20) };
        bool special = c == '#' || c == '$' || c == '}' || c == '*';
        put(g, special ? escaped : &c, special ? 2 : 1);
        sum = (u8)(sum + (special ? '}' + (c ^ 0x20) : c));
    }
    snprintf(end, sizeof end, "#%02x", sum);
    put(g, end, 3);
    flush(g);
}

static void reply(Gdb *g, const char *text)
{
    reply_bytes(g, text, strlen(text));
}

/* ---- hexadecimal ---- */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* False: no number, or more than 64 bits. */
static bool number(const char **p, u64 *value)
{
    int n = 0;
    for (*value = 0; digit(**p) >= 0; (*p)++, n++)
        *value = *value << 4 | (u64)digit(**p);
    return n > 0 && n <= 16;
}

/* Two numbers with a comma between them. */
static bool two_numbers(const char **p, u64 *a, u64 *b)
{
    return number(p, a) && *(*p)++ == ',' && number(p, b);
}

static size_t from_hex(const char *p, u8 *out, size_t max)
{
    size_t n = 0;
    while (n < max && digit(p[0]) >= 0 && digit(p[1]) >= 0) {
        out[n++] = (u8)(digit(p[0]) << 4 | digit(p[1]));
        p += 2;
    }
    return n;
}

static char *to_hex(char *to, const u8 *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *to++ = digits[bytes[i] >> 4];
        *to++ = digits[bytes[i] & 15];
    }
    *to = 0;
    return to;
}

/* ---- memory ---- */

/* Reads or writes as far as it can; returns how many bytes. */
static size_t memory(Gdb *g, u64 addr, u8 *buf, size_t n, bool write)
{
    for (size_t i = 0; i < n;) {
        u64 at = addr + i, phys = at;
        size_t part = PAGE_SIZE - (size_t)(at & PAGE_MASK);
        part = part < n - i ? part : n - i;
        if (!g->physical && !cpu_virt_to_phys(g->m->cpu, at, &phys))
            return i;
        MemPage page = mem_page(g->m->mem, phys);
        if (phys >> 40 || !page.region || (write && !page.direct_write && page.direct_read))
            return i;
        if (write)
            mem_dma_write(g->m->mem, phys, buf + i, part);
        else
            mem_dma_read(g->m->mem, phys, buf + i, part);
        i += part;
    }
    return n;
}

static void read_memory(Gdb *g, const char *p)
{
    u8 bytes[PACKET / 2];
    char text[PACKET + 1];
    u64 addr, n;
    if (!two_numbers(&p, &addr, &n) || *p) {
        reply(g, "E01");
        return;
    }
    n = n < sizeof bytes - 4 ? n : sizeof bytes - 4;
    size_t got = memory(g, addr, bytes, (size_t)n, false);
    to_hex(text, bytes, got);
    reply(g, n && !got ? "E14" : text);
}

/* M addr,length:hex and X addr,length:binary */
static void write_memory(Gdb *g, const char *p, bool binary)
{
    u8 bytes[PACKET];
    u64 addr, n;
    size_t have = 0;
    if (!two_numbers(&p, &addr, &n) || *p++ != ':') {
        reply(g, "E01");
        return;
    }
    if (binary) {
        for (const char *end = g->in + g->in_len; p < end; p++) {
            if (*p == '}' && p + 1 < end)
                bytes[have++] = (u8)(*++p ^ 0x20);
            else
                bytes[have++] = (u8)*p;
        }
    } else {
        have = from_hex(p, bytes, sizeof bytes);
    }
    reply(g, have != n ? "E01" : memory(g, addr, bytes, have, true) == have ? "OK" : "E14");
}

/* ---- registers ---- */

static void read_registers(Gdb *g)
{
    char text[GDB_REGS * 2 * GDB_REG_MAX + 1], *to = text;
    for (unsigned r = 0; r < GDB_REGS; r++) {
        u8 value[GDB_REG_MAX];
        gdb_reg_read(g->m->cpu, r, value);
        to = to_hex(to, value, gdb_reg_size(r));
    }
    reply(g, text);
}

static void write_registers(Gdb *g, const char *p)
{
    u8 values[GDB_REGS * GDB_REG_MAX];
    size_t have = from_hex(p, values, sizeof values), at = 0;
    for (unsigned r = 0; r < GDB_REGS && at + gdb_reg_size(r) <= have; at += gdb_reg_size(r++))
        gdb_reg_write(g->m->cpu, r, values + at);
    reply(g, "OK");
}

static void one_register(Gdb *g, const char *p, bool write)
{
    u8 value[GDB_REG_MAX];
    char text[2 * GDB_REG_MAX + 1];
    u64 r;
    unsigned size = number(&p, &r) && r < GDB_REGS ? gdb_reg_size((unsigned)r) : 0;
    if (!size || (write && (*p != '=' || from_hex(p + 1, value, size) != size))) {
        reply(g, "E01");
        return;
    }
    if (write) {
        reply(g, gdb_reg_write(g->m->cpu, (unsigned)r, value) ? "OK" : "E01");
        return;
    }
    gdb_reg_read(g->m->cpu, (unsigned)r, value);
    to_hex(text, value, size);
    reply(g, text);
}

/* ---- stops ---- */

static bool is_hw(const Gdb *g, u64 addr)
{
    for (unsigned i = 0; i < g->hws; i++) {
        if (g->hw[i] == addr)
            return true;
    }
    return false;
}

static void note_hw(Gdb *g, u64 addr, bool set)
{
    if (set && g->hws < CPU_STOPS_MAX)
        g->hw[g->hws++] = addr;
    for (unsigned i = 0; !set && i < g->hws; i++) {
        if (g->hw[i] == addr)
            g->hw[i--] = g->hw[--g->hws];
    }
}

/* Z or z type,addr,kind */
static void set_stop(Gdb *g, const char *p, bool set)
{
    static const CpuStop kinds[] = {CPU_STOP_EXEC, CPU_STOP_EXEC, CPU_STOP_WRITE, CPU_STOP_READ,
                                    CPU_STOP_ACCESS};
    u64 type, addr, bytes;
    if (!number(&p, &type) || *p++ != ',' || !two_numbers(&p, &addr, &bytes) || (*p && *p != ';') ||
        type > 4 || bytes > PAGE_SIZE || addr > 0xffffffff) {
        reply(g, type > 4 ? "" : "E01");
        return;
    }
    bytes = type < 2 ? 1 : bytes;
    bool ok = set ? cpu_stop_add(g->m->cpu, kinds[type], addr, (u32)bytes)
                  : cpu_stop_remove(g->m->cpu, kinds[type], addr, (u32)bytes);
    if (ok && type == 1)
        note_hw(g, addr, set);
    reply(g, ok ? "OK" : "E28");
}

static void stop_reply(Gdb *g)
{
    static const char *const watch[] = {
        [CPU_STOP_WRITE] = "watch", [CPU_STOP_READ] = "rwatch", [CPU_STOP_ACCESS] = "awatch"
    };
    u64 at;
    char text[80], reason[48] = "";
    CpuStop why = cpu_stopped_by(g->m->cpu, &at);
    if (why >= CPU_STOP_WRITE)
        snprintf(reason, sizeof reason, "%s:%llx;", watch[why], (unsigned long long)at);
    else if (why == CPU_STOP_EXEC && is_hw(g, at) && g->hw_reasons)
        snprintf(reason, sizeof reason, "hwbreak:;");
    else if (why == CPU_STOP_EXEC && !is_hw(g, at) && g->sw_reasons)
        snprintf(reason, sizeof reason, "swbreak:;");
    snprintf(text, sizeof text, "T%02x%sthread:1;", why == CPU_STOP_NONE ? INTERRUPT : TRAP, reason);
    reply(g, text);
}

static void go_on(Gdb *g, bool step)
{
    u64 ignored;
    cpu_stopped_by(g->m->cpu, &ignored);
    cpu_step(g->m->cpu, step);
    g->resumed = true;
    machine_cont(g->m);
    if (!machine_running(g->m)) {   /* powered off */
        g->resumed = false;
        reply(g, "T05thread:1;");
    }
}

/* The debugger has left, or lets go: as if it had never been. */
static void let_go(Gdb *g)
{
    machine_park(g->m);
    cpu_stop_clear(g->m->cpu);
    cpu_step(g->m->cpu, false);
    g->hws = 0;
    machine_unpark(g->m);
    g->connected = g->resumed = false;
    machine_cont(g->m);
}

static void on_machine(void *opaque, MachineEvent e, const char *detail, void *subject)
{
    Gdb *g = opaque;
    (void)detail;
    (void)subject;
    if (!g->resumed || !g->connected)
        return;
    if (e == MACHINE_STOPPED) {
        g->resumed = false;
        cpu_step(g->m->cpu, false);
        stop_reply(g);
    } else if (e == MACHINE_SHUTDOWN) {
        g->resumed = false;
        reply(g, "W00");
    }
}

/* ---- queries ---- */

static bool starts(const char **p, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*p, prefix, n))
        return false;
    *p += n;
    return true;
}

static void features(Gdb *g, const char *p)
{
    char text[2048];
    const char *xml = gdb_target_xml(g->bits);
    u64 at, n, len = strlen(xml);
    if (!two_numbers(&p, &at, &n)) {
        reply(g, "E01");
        return;
    }
    at = at < len ? at : len;
    n = n < sizeof text - 2 ? n : sizeof text - 2;
    n = n < len - at ? n : len - at;
    text[0] = at + n == len ? 'l' : 'm';
    memcpy(text + 1, xml + at, n);
    reply_bytes(g, text, n + 1);
}

/* "monitor ..." of the debugger */
static void run_monitor(Gdb *g, const char *p)
{
    char line[PACKET / 2 + 1], part[PACKET + 2];
    line[from_hex(p, (u8 *)line, sizeof line - 1)] = 0;
    char *text = monitor_capture(g->m, line), *at = text;
    for (size_t left = text ? strlen(text) : 0, n; left; left -= n, at += n) {
        n = left < PACKET / 2 - 8 ? left : PACKET / 2 - 8;
        part[0] = 'O';
        to_hex(part + 1, (u8 *)at, n);
        reply(g, part);
    }
    free(text);
    reply(g, "OK");
}

static void query(Gdb *g, const char *p)
{
    if (starts(&p, "qSupported")) {
        g->sw_reasons = strstr(p, "swbreak+");
        g->hw_reasons = strstr(p, "hwbreak+");
        reply(g, "PacketSize=1000;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+");
    } else if (starts(&p, "qXfer:features:read:target.xml:")) {
        features(g, p);
    } else if (starts(&p, "qRcmd,")) {
        run_monitor(g, p);
    } else if (!strcmp(p, "qC")) {
        reply(g, "QC1");
    } else if (!strcmp(p, "qfThreadInfo")) {
        reply(g, "m1");
    } else if (!strcmp(p, "qsThreadInfo")) {
        reply(g, "l");
    } else if (starts(&p, "qThreadExtraInfo,")) {
        reply(g, machine_running(g->m) ? "4350552372756e6e696e67" : "4350552373746f70706564");
    } else if (!strcmp(p, "qAttached")) {
        reply(g, "1");
    } else if (!strcmp(p, "qqemu.PhyMemMode")) {
        reply(g, g->physical ? "1" : "0");
    } else if (starts(&p, "Qqemu.PhyMemMode:")) {
        g->physical = *p == '1';
        reply(g, "OK");
    } else if (!strcmp(p, "QStartNoAckMode")) {
        reply(g, "OK");
        g->no_ack = true;
    } else {
        reply(g, "");
    }
}

static void v_packet(Gdb *g, const char *p)
{
    if (!strcmp(p, "vCont?")) {
        reply(g, "vCont;c;C;s;S");
    } else if (starts(&p, "vCont;")) {
        if (strchr("cCsS", *p) && *p)
            go_on(g, (*p | 32) == 's');
        else
            reply(g, "E01");
    } else if (starts(&p, "vKill")) {
        reply(g, "OK");
        machine_request(g->m, REQ_QUIT);
    } else {
        reply(g, "");
    }
}

/* c, s with an address to go on from; C, S with a signal, which no machine knows, and one behind it. */
static void resume(Gdb *g, const char *p, bool step, bool signal)
{
    u64 value;
    u8 eip[GDB_REG_MAX] = { 0 };
    if (signal && number(&p, &value))
        p += *p == ';';
    if (*p && number(&p, &value)) {
        store32(eip, (u32)value);
        gdb_reg_write(g->m->cpu, 8, eip);
    }
    go_on(g, step);
}

static void command(Gdb *g)
{
    const char *p = g->in;
    u64 ignored;
    switch (*p++) {
    case '?':
        cpu_stopped_by(g->m->cpu, &ignored);
        reply(g, "T05thread:1;");
        break;
    case 'g': read_registers(g); break;
    case 'G': write_registers(g, p); break;
    case 'p': one_register(g, p, false); break;
    case 'P': one_register(g, p, true); break;
    case 'm': read_memory(g, p); break;
    case 'M': write_memory(g, p, false); break;
    case 'X': write_memory(g, p, true); break;
    case 'Z': set_stop(g, p, true); break;
    case 'z': set_stop(g, p, false); break;
    case 'c': case 'C': resume(g, p, false, p[-1] == 'C'); break;
    case 's': case 'S': resume(g, p, true, p[-1] == 'S'); break;
    case 'H': case 'T': case '!': reply(g, "OK"); break;
    case 'q': case 'Q': query(g, g->in); break;
    case 'v': v_packet(g, g->in); break;
    case 'D':
        reply(g, "OK");
        let_go(g);
        chardev_hangup(g->chr);
        break;
    case 'k': machine_request(g->m, REQ_QUIT); break;
    case 'R': machine_request(g->m, (MachineRequest)(REQ_RESET | REQ_BY_HOST)); break;
    default: reply(g, ""); break;
    }
}

/* ---- packets in ---- */

static void end_of_packet(Gdb *g)
{
    g->rx = RX_IDLE;
    g->in[g->in_len] = 0;
    if (g->sum != g->wanted || g->too_long) {
        put(g, "-", 1);
        flush(g);
        return;
    }
    if (!g->no_ack)
        put(g, "+", 1);
    if (!g->connected)              /* it came back after letting go, on the same line */
        g->connected = true;
    machine_park(g->m);
    command(g);
    machine_unpark(g->m);
    flush(g);
}

static void idle_byte(Gdb *g, u8 c)
{
    if (c == '$') {
        g->rx = RX_DATA;
        g->in_len = 0;
        g->sum = 0;
        g->too_long = false;
    } else if (c == 3) {
        machine_stop(g->m);
    } else if (c == '-' && !g->no_ack && g->last < g->out_sent) {
        g->out_sent = g->last;
        flush(g);
    }
}

static void take(Gdb *g, u8 c)
{
    switch (g->rx) {
    case RX_IDLE:
        idle_byte(g, c);
        break;
    case RX_DATA:
        if (c == '#') {
            g->rx = RX_SUM1;
        } else if (g->in_len < PACKET) {
            g->in[g->in_len++] = (char)c;
            g->sum = (u8)(g->sum + c);
        } else {
            g->too_long = true;
        }
        break;
    case RX_SUM1:
        g->wanted = (u8)(digit((char)c) << 4);
        g->rx = RX_SUM2;
        break;
    case RX_SUM2:
        g->wanted |= (u8)digit((char)c);
        end_of_packet(g);
        break;
    }
}

/* ---- the character device's side ---- */

static size_t can_receive(void *opaque)
{
    const Gdb *g = opaque;
    return g->out_len - g->out_sent > OUT_MAX / 2 ? 0 : 4096;
}

static void receive(void *opaque, const u8 *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        take(opaque, buf[i]);
}

static void writable(void *opaque)
{
    Gdb *g = opaque;
    flush(g);
    chardev_accept(g->chr);
}

static void event(void *opaque, ChrEvent e)
{
    Gdb *g = opaque;
    bool was = g->connected;
    if (e == CHR_OPENED) {
        g->rx = RX_IDLE;
        g->out_len = g->out_sent = g->last = 0;
        g->no_ack = g->physical = g->resumed = g->sw_reasons = g->hw_reasons = false;
        g->connected = true;
        machine_stop(g->m);
        /* who comes in before the first instruction is about to debug what comes after the firmware */
        g->bits = cpu_eip(g->m->cpu) == RESET_VECTOR ? 32 : cpu_code_bits(g->m->cpu);
    } else if (e == CHR_CLOSED && was) {
        let_go(g);
    }
}

static const ChrFrontend frontend = { can_receive, receive, writable, event };

bool gdb_end(Machine *m)
{
    Gdb *g = server;
    if (!g || g->m != m)
        return false;
    if (g->connected)
        let_go(g);
    server = NULL;
    machine_unlisten(m, &g->listener);
    chardev_attach(g->chr, NULL, NULL);
    chardev_close(g->chr);
    free(g);
    return true;
}

bool gdb_serve(Machine *m, Chardev *chr)
{
    gdb_end(m);
    Gdb *g = calloc(1, sizeof *g);
    if (!g)
        return false;
    g->m = m;
    g->chr = chr;
    g->listener = (MachineListener){ on_machine, g, NULL };
    machine_listen(m, &g->listener);
    chardev_attach(chr, &frontend, g);
    server = g;
    return true;
}
