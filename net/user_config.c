/*
 * What -net user,... says, and forwarded ports: hostfwd=, guestfwd=, -redir. The network is 10.0.2.0/24 unless
 * net= says otherwise; the other addresses follow it.
 */
#include "user_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

enum { VALUE = 300 };
#define DEFAULT_NET 0x0a000200u
#define DEFAULT_MASK 0xffffff00u

/* ---- numbers and addresses ---- */

bool user_parse_ip(const char *text, u32 *ip)
{
    unsigned a, b, c, d;
    int used = 0;

    if (sscanf(text, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &used) != 4 || text[used] || a > 255 || b > 255 ||
        c > 255 || d > 255)
        return false;
    *ip = a << 24 | b << 16 | c << 8 | d;
    return true;
}

void user_ip_text(u32 ip, char text[16])
{
    snprintf(text, 16, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static bool parse_port(const char *text, u16 *port)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    if (end == text || *end || v < 1 || v > 65535)
        return false;
    *port = (u16)v;
    return true;
}

static bool parse_net(const char *text, u32 *net, u32 *mask, Error *err)
{
    char address[32], *end;
    const char *slash = strchr(text, '/');

    snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text) : 31, text);
    *mask = DEFAULT_MASK;
    unsigned long bits = slash ? strtoul(slash + 1, &end, 10) : 24;
    bool ok = user_parse_ip(address, net);
    if (slash && *end) {
        ok = ok && user_parse_ip(slash + 1, mask) && !(~*mask & (~*mask + 1));
    } else {
        ok = ok && bits >= 8 && bits <= 29;
        *mask = ok ? ~0u << (32 - bits) : 0;
    }
    if (!ok || ~*mask < 7)
        return error_set(err, "net=%.60s: expected ADDRESS/BITS with 8 to 29 bits", text);
    *net &= *mask;
    return true;
}

/* ---- forwarded ports ---- */

static Forward *forward_add(User *u, const Forward *f)
{
    Forward *copy = malloc(sizeof(*copy)), **at = &u->forwards;

    if (!copy)
        abort();
    *copy = *f;
    copy->user = u;
    copy->next = NULL;
    while (*at)
        at = &(*at)->next;
    *at = copy;
    return copy;
}

static void forward_drop(User *u, Forward *f)
{
    Forward **at = &u->forwards;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    host_socket_close(f->sock);
    free(f);
}

/* "tcp:rest" or "udp:rest"; the rest, or NULL. */
static const char *protocol(const char *text, bool *udp)
{
    *udp = !strncmp(text, "udp:", 4);
    return *udp || !strncmp(text, "tcp:", 4) ? text + 4 : *text == ':' ? text + 1 : NULL;
}

/* "[address]:port"; an empty address is the fallback. */
static bool guest_end(const char *text, u32 fallback, u32 *ip, u16 *port)
{
    const char *colon = strchr(text, ':');
    char address[32];

    if (!colon || colon - text > 31)
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)(colon - text), text);
    *ip = fallback;
    return (!address[0] || user_parse_ip(address, ip)) && parse_port(colon + 1, port);
}

bool user_forward(User *u, const char *text, Error *err)
{
    Forward f = { .to_guest = true };
    const char *rest = protocol(text, &f.udp), *dash = rest ? strchr(rest, '-') : NULL;
    char host[VALUE];

    if (!dash || !guest_end(dash + 1, u->cfg.dhcp_start, &f.ip, &f.port))
        return error_set(err, "%.200s: expected tcp|udp:[HOST]:PORT-[GUEST]:PORT", text);
    if (!user_is_near(u, f.ip))
        return error_set(err, "%.200s: the guest's address is not in its network", text);
    snprintf(host, sizeof(host), "%.*s", (int)(dash - rest), rest);
    if (!host_addr_parse(host, "127.0.0.1", f.udp, &f.at, err))
        return false;
    Forward *kept = forward_add(u, &f);
    if (f.udp ? udp_forward_open(kept, err) : tcp_forward_open(kept, err))
        return true;
    forward_drop(u, kept);
    return false;
}

/* tcp:ADDRESS:PORT-tcp:HOST:PORT: connections to the address go there. */
bool user_guest_forward(User *u, const char *text, Error *err)
{
    Forward f = { .to_guest = false };
    const char *rest = protocol(text, &f.udp), *dash = rest ? strchr(rest, '-') : NULL;
    char end[VALUE];

    if (dash)
        snprintf(end, sizeof(end), "%.*s", (int)(dash - rest), rest);
    if (!dash || f.udp || !guest_end(end, 0, &f.ip, &f.port) || strncmp(dash, "-tcp:", 5))
        return error_set(err, "%.200s: expected tcp:ADDRESS:PORT-tcp:HOST:PORT", text);
    if (!user_is_near(u, f.ip) || f.ip == u->cfg.dhcp_start)
        return error_set(err, "%.200s: expected an address of the guest's network that no guest has", text);
    if (!host_addr_parse(dash + 5, "127.0.0.1", false, &f.at, err))
        return false;
    forward_add(u, &f);
    return true;
}

void user_forwards_close(User *u)
{
    while (u->forwards)
        forward_drop(u, u->forwards);
}

/* ---- the option ---- */

typedef bool EachFn(void *opaque, const char *key, const char *value, Error *err);

/* Calls fn for each "key=value" behind the kind. A comma in a value is written twice. */
static bool each_key(const char *spec, EachFn *fn, void *opaque, Error *err)
{
    char item[VALUE];

    for (const char *s = spec + strcspn(spec, ","); *s;) {
        size_t n = 0;
        for (s++; *s && (*s != ',' || s[1] == ','); s++) {
            s += *s == ',';
            if (n < sizeof(item) - 1)
                item[n++] = *s;
        }
        item[n] = 0;
        char *equals = strchr(item, '=');
        if (equals)
            *equals++ = 0;
        if (n == sizeof(item) - 1)
            return error_set(err, "%.40s=: its value is too long", item);
        if (item[0] && !fn(opaque, item, equals ? equals : "on", err))
            return false;
    }
    return true;
}

typedef struct {
    UserConfig cfg;
    bool host_set, dns_set, start_set;
} Draft;

static bool text_value(char *field, size_t size, const char *key, const char *value, Error *err)
{
    if (strlen(value) >= size)
        return error_set(err, "%s=%.60s...: at most %zu characters", key, value, size - 1);
    memcpy(field, value, strlen(value) + 1);
    return true;
}

static bool ip_value(u32 *field, bool *set, const char *key, const char *value, Error *err)
{
    *set = true;
    return user_parse_ip(value, field) || error_set(err, "%s=%.60s: expected an address as 10.0.2.2", key, value);
}

static bool switch_value(bool *field, const char *key, const char *value, Error *err)
{
    bool on = !strcmp(value, "on") || !strcmp(value, "yes") || !strcmp(value, "y");

    if (!on && strcmp(value, "off") && strcmp(value, "no") && strcmp(value, "n"))
        return error_set(err, "%s=%.60s: expected on or off", key, value);
    *field = on;
    return true;
}

static bool absent(const char *key, const char *why)
{
    log_line("-net user,%s=: %s", key, why);
    return true;
}

static bool read_key(void *opaque, const char *key, const char *value, Error *err)
{
    static const char elsewhere[] = " id vlan name hubid hostfwd guestfwd mac macaddr model iobase irq addr "
                                    "loss delay rate ", v6[] = " ipv6 ip6-net ipv6-net ipv6-prefix "
                                    "ipv6-prefixlen ipv6-host ipv6-dns dnssearch ";
    Draft *d = opaque;
    UserConfig *c = &d->cfg;
    char word[40];
    bool ignored;

    if (!strcmp(key, "net") || !strcmp(key, "ip"))
        return parse_net(value, &c->net, &c->mask, err);
    if (!strcmp(key, "host"))
        return ip_value(&c->host, &d->host_set, key, value, err);
    if (!strcmp(key, "dns"))
        return ip_value(&c->dns, &d->dns_set, key, value, err);
    if (!strcmp(key, "dhcpstart"))
        return ip_value(&c->dhcp_start, &d->start_set, key, value, err);
    if (!strcmp(key, "hostname"))
        return text_value(c->hostname, sizeof(c->hostname), key, value, err);
    if (!strcmp(key, "domainname"))
        return text_value(c->domain, sizeof(c->domain), key, value, err);
    if (!strcmp(key, "tftp"))
        return text_value(c->tftp, sizeof(c->tftp), key, value, err);
    if (!strcmp(key, "bootfile"))
        return text_value(c->boot_file, sizeof(c->boot_file), key, value, err);
    if (!strcmp(key, "tftp-server-name"))
        return text_value(c->tftp_server, sizeof(c->tftp_server), key, value, err);
    if (!strcmp(key, "restrict") || !strcmp(key, "restricted"))
        return switch_value(&c->restricted, key, value, err);
    if (!strcmp(key, "ipv4"))
        return switch_value(&ignored, key, value, err) &&
               (ignored || error_set(err, "ipv4=off: there is nothing else"));
    if (!strcmp(key, "smb") || !strcmp(key, "smbserver"))
        return absent(key, "there is no SMB server of its own; a folder that Windows shares is \\\\10.0.2.2\\NAME");
    snprintf(word, sizeof(word), " %.30s ", key);
    if (strstr(elsewhere, word))
        return true;
    if (strstr(v6, word))
        return absent(key, "not in this build");
    return error_set(err, "%.40s: unknown key of a user network", key);
}

static bool read_forward(void *opaque, const char *key, const char *value, Error *err)
{
    if (!strcmp(key, "hostfwd"))
        return user_forward(opaque, value, err) || error_prefix(err, "hostfwd=");
    if (!strcmp(key, "guestfwd"))
        return user_guest_forward(opaque, value, err) || error_prefix(err, "guestfwd=");
    return true;
}

/* -redir PROTOCOL:PORT:[GUEST]:PORT, -tftp and -bootp. */
bool user_legacy(User *u, NetOption option, const char *text, Error *err)
{
    char modern[VALUE];
    bool udp;

    if (option == NET_TFTP)
        return text_value(u->cfg.tftp, sizeof(u->cfg.tftp), "tftp", text, err);
    if (option == NET_BOOTP)
        return text_value(u->cfg.boot_file, sizeof(u->cfg.boot_file), "bootfile", text, err);
    const char *port = protocol(text, &udp), *guest = port ? strchr(port, ':') : NULL;
    if (!guest || strlen(text) > VALUE - 20)
        return error_set(err, "%.200s: expected tcp|udp:PORT:[GUEST]:PORT", text);
    snprintf(modern, sizeof(modern), "%s::%.*s-%s", udp ? "udp" : "tcp", (int)(guest - port), port, guest + 1);
    return user_forward(u, modern, err);
}

bool user_open(Machine *m, int vlan, const char *name, const char *spec, Error *err)
{
    Draft d = { .cfg = { .net = DEFAULT_NET, .mask = DEFAULT_MASK } };
    UserConfig *c = &d.cfg;

    if (!each_key(spec, read_key, &d, err))
        return false;
    if (!d.host_set)
        c->host = c->net | 2;
    if (!d.dns_set)
        c->dns = c->net | 3;
    if (!d.start_set)
        c->dhcp_start = c->net | (~c->mask > 15 ? 15 : 4);
    u32 last = c->net | ~c->mask;
    const u32 ends[] = { c->host, c->dns, c->dhcp_start };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if ((ends[i] & c->mask) != c->net || ends[i] == c->net || ends[i] == last)
            return error_set(err, "host=, dns= and dhcpstart= must be addresses of the network");
    if (c->host == c->dns || c->host == c->dhcp_start || c->dns == c->dhcp_start)
        return error_set(err, "host=, dns= and dhcpstart= must be different");
    return each_key(spec, read_forward, user_create(m, vlan, name, c), err);
}
