/*
 * -net, -netdev, -nic and -device CARD: what the command line says about networks. The VLANs of -net have the
 * numbers given there; each -netdev and -nic has one of its own, numbered -1, -2, ...
 */
#include "net_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/vm/log.h"

static const char *const option_name[] = { [NET_NET] = "-net", [NET_NETDEV] = "-netdev", [NET_NIC] = "-nic",
                                           [NET_DEVICE] = "-device", [NET_REDIR] = "-redir",
                                           [NET_TFTP] = "-tftp", [NET_BOOTP] = "-bootp" };
static const u8 default_mac[MAC_LEN] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

enum { TEXT = 260 };

typedef struct {
    Net *net;
    const Config *cfg;
    const NetConfig *at;
    char kind[32];
    int members[8];                 /* of each kind, for names */
    Error *err;
} Reader;

/* ---- keys ---- */

static bool value_of(Reader *r, const char *key, char text[TEXT])
{
    return spec_get(r->at->spec, key, text, TEXT);
}

/* Every key must be one of the blank-separated names. */
static bool keys_known(Reader *r, const char *known)
{
    for (const char *s = strchr(r->at->spec, ','); s; s = strchr(s, ',')) {
        size_t n = strcspn(++s, ",=");
        if (*s == ',') {            /* ",," is a comma in a value */
            s++;
            continue;
        }
        bool found = false;
        for (const char *k = known; *k; k += strcspn(k, " "), k += *k == ' ')
            found |= strcspn(k, " ") == n && !memcmp(k, s, n);
        if (!found)
            return error_set(r->err, "%.*s: unknown key; there are: %s", (int)n, s, known);
    }
    return true;
}

static bool number_of(Reader *r, const char *key, u32 fallback, u32 most, u32 *value)
{
    char text[TEXT], *end;

    *value = fallback;
    if (!value_of(r, key, text))
        return true;
    unsigned long v = strtoul(text, &end, 0);
    if (end == text || *end || text[0] == '-' || v > most)
        return error_set(r->err, "%s=%s: expected a number up to %u", key, text, most);
    *value = (u32)v;
    return true;
}

static bool mac_of(Reader *r, u8 mac[MAC_LEN])
{
    char text[TEXT];
    unsigned b[MAC_LEN];
    int used = 0;

    memcpy(mac, default_mac, MAC_LEN);
    mac[5] = (u8)(mac[5] + r->net->cards);
    if (!value_of(r, "macaddr", text) && !value_of(r, "mac", text))
        return true;
    if ((sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &used) != 6 &&
         sscanf(text, "%2x-%2x-%2x-%2x-%2x-%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &used) != 6) ||
        text[used])
        return error_set(r->err, "macaddr=%s: expected six bytes as 52:54:00:12:34:56", text);
    if (b[0] & 1)
        return error_set(r->err, "macaddr=%s: that is the address of a group, no card may have it", text);
    for (int i = 0; i < MAC_LEN; i++)
        mac[i] = (u8)b[i];
    return true;
}

static void member_name(Reader *r, const char *kind, char name[TEXT])
{
    int which = !strcmp(kind, "socket") ? 0 : !strcmp(kind, "dump") ? 1 : !strcmp(kind, "user") ? 2 : 3;

    if (!value_of(r, "id", name) && !value_of(r, "name", name))
        snprintf(name, TEXT, "%s.%d", kind, r->members[which]);
    r->members[which]++;
}

/* ---- cards ---- */

bool net_model_known(const char *model)
{
    return !strcmp(model, "ne2k_pci") || !strcmp(model, "ne2k_isa");
}

static bool model_absent(const char *model)
{
    static const char *const absent[] = { "rtl8139", "e1000", "pcnet", "virtio", "virtio-net-pci", "i82551",
                                          "i82557b", "i82559er", "e1000e", "vmxnet3", "smc91c111" };
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        if (!strcmp(model, absent[i]))
            return true;
    return false;
}

static bool add_card(Reader *r, int vlan, const char *model)
{
    const char *standard = r->cfg->isapc ? "ne2k_isa" : "ne2k_pci";
    char text[TEXT], name[TEXT];

    if (r->net->cards == CARDS_MAX)
        return error_set(r->err, "more than %d network cards", CARDS_MAX);
    NicConfig *c = &r->net->card[r->net->cards];
    if (!model[0] || model_absent(model)) {
        if (model[0])
            log_line("%s %s: the card %s is not in this build; the guest sees a %s", option_name[r->at->option],
                     r->at->spec, model, standard);
        model = standard;
    }
    if (!net_model_known(model))
        return error_set(r->err, "model=%.60s: unknown card; there are ne2k_pci and ne2k_isa", model);
    if (r->cfg->isapc && strcmp(model, "ne2k_isa"))
        return error_set(r->err, "model=%s: the machine isapc has no PCI bus", model);
    c->vlan = vlan;
    snprintf(c->model, sizeof(c->model), "%s", model);
    member_name(r, model, name);
    snprintf(c->name, sizeof(c->name), "%.31s", name);
    c->devfn = -1;
    if (!mac_of(r, c->mac) || !number_of(r, "iobase", 0x300 + 0x20 * (u32)r->net->cards, 0xffe0, &c->iobase) ||
        !number_of(r, "irq", r->net->cards ? 10 : 9, 15, &c->irq))
        return false;
    if (value_of(r, "addr", text)) {
        unsigned slot, function = 0;
        if (sscanf(text, "%x.%x", &slot, &function) < 1 || slot > 31 || function)
            return error_set(r->err, "addr=%s: expected a slot from 0 to 1f", text);
        c->devfn = (int)slot << 3;
    }
    r->net->cards++;
    return true;
}

/* ---- what else hangs on a VLAN ---- */

static bool add_socket(Reader *r, int vlan)
{
    static const char *const ways[] = { "listen", "connect", "mcast", "udp" };
    char to[TEXT] = "", local[TEXT], name[TEXT], text[TEXT];
    Machine *m = r->net->m;
    int way = -1;

    for (int i = 0; i < (int)ARRAY_LEN(ways); i++) {
        if (!value_of(r, ways[i], text))
            continue;
        if (way >= 0)
            return error_set(r->err, "%s= and %s= together", ways[way], ways[i]);
        way = i;
        memcpy(to, text, TEXT);
    }
    if (way < 0)
        return error_set(r->err, value_of(r, "fd", text) ? "fd= is not for Windows" :
                         "socket needs listen=, connect=, mcast= or udp=");
    bool has_local = value_of(r, "localaddr", local);
    member_name(r, "socket", name);
    switch (way) {
    case 0: return stream_listen(m, vlan, name, to, r->err) || error_prefix(r->err, "listen=");
    case 1: return stream_connect(m, vlan, name, to, r->err) || error_prefix(r->err, "connect=");
    case 2: return dgram_multicast(m, vlan, name, to, has_local ? local : NULL, r->err) ||
                   error_prefix(r->err, "mcast=");
    default: return dgram_udp(m, vlan, name, to, has_local ? local : NULL, r->err) || error_prefix(r->err, "udp=");
    }
}

static bool add_dump(Reader *r, int vlan)
{
    char file[TEXT] = "qemu-vlan.pcap", name[TEXT];
    u32 len;

    value_of(r, "file", file);
    member_name(r, "dump", name);
    return number_of(r, "len", 65536, NET_FRAME_MAX, &len) &&
           dump_open(r->net->m, vlan, name, file, len, r->err);
}

static bool add_backend(Reader *r, int vlan)
{
    if (!strcmp(r->kind, "socket"))
        return add_socket(r, vlan);
    if (!strcmp(r->kind, "dump"))
        return add_dump(r, vlan);
    if (!strcmp(r->kind, "hubport"))
        return true;
    if (!strcmp(r->kind, "user")) {
        char name[TEXT];
        member_name(r, "user", name);
        return user_open(r->net->m, vlan, name, r->at->spec, r->err);
    }
    if (!strcmp(r->kind, "tap") || !strcmp(r->kind, "bridge")) {
        log_line("%s %s: the %s network is not in this build; nothing is connected there",
                 option_name[r->at->option], r->at->spec, r->kind);
        return true;
    }
    return error_set(r->err, "unknown network '%s'; there are nic, user, socket, dump and none", r->kind);
}

/* ---- one option ---- */

static int own_vlan(const Reader *r)
{
    return -(int)(r->at - r->cfg->net) - 1;
}

/* The VLAN that a -netdev made, or hubport's. */
static bool netdev_vlan(const Config *cfg, const char *id, int *vlan)
{
    for (int i = 0; i < CFG_NETS; i++) {
        char text[TEXT];
        const NetConfig *n = &cfg->net[i];
        if (!n->spec || n->option != NET_NETDEV || !spec_get(n->spec, "id", text, sizeof(text)) ||
            strcmp(text, id))
            continue;
        bool hub = !strncmp(n->spec, "hubport", 7) && spec_get(n->spec, "hubid", text, sizeof(text));
        *vlan = hub ? atoi(text) : -i - 1;
        return true;
    }
    return false;
}

#define CARD_KEYS "macaddr mac model name id iobase irq addr"
#define BACKEND_KEYS "listen connect mcast udp localaddr fd file len"

/* user and tap have keys of their own, which are not looked at. */
static bool backend_known(const Reader *r)
{
    return !strcmp(r->kind, "socket") || !strcmp(r->kind, "dump") || !strcmp(r->kind, "hubport");
}

static bool read_net(Reader *r)
{
    char model[TEXT] = "";
    u32 vlan;

    if (!strcmp(r->kind, "none"))
        return true;
    if (!number_of(r, "vlan", 0, 255, &vlan))
        return false;
    if (!strcmp(r->kind, "nic")) {
        value_of(r, "model", model);
        return keys_known(r, "vlan netdev " CARD_KEYS) && add_card(r, (int)vlan, model);
    }
    return (!backend_known(r) || keys_known(r, "vlan name id hubid " BACKEND_KEYS)) && add_backend(r, (int)vlan);
}

static bool read_netdev(Reader *r)
{
    char id[TEXT];
    int vlan;

    if (!value_of(r, "id", id))
        return error_set(r->err, "needs id=NAME");
    if (!strcmp(r->kind, "none") || !strcmp(r->kind, "nic"))
        return error_set(r->err, "%s is nothing for -netdev", r->kind);
    if (backend_known(r) && !keys_known(r, "id hubid " BACKEND_KEYS))
        return false;
    netdev_vlan(r->cfg, id, &vlan);
    if (vlan != own_vlan(r) && strcmp(r->kind, "hubport"))
        return error_set(r->err, "there is another -netdev with id=%s", id);
    return add_backend(r, vlan);
}

static bool read_nic(Reader *r)
{
    char model[TEXT] = "";

    if (!strcmp(r->kind, "none"))
        return true;
    value_of(r, "model", model);
    if (backend_known(r) && !keys_known(r, CARD_KEYS " " BACKEND_KEYS))
        return false;
    return add_backend(r, own_vlan(r)) && add_card(r, own_vlan(r), model);
}

static bool read_device(Reader *r)
{
    char netdev[TEXT];
    u32 number;
    int vlan = own_vlan(r);

    if (!keys_known(r, "netdev vlan bus " CARD_KEYS))
        return false;
    if (value_of(r, "netdev", netdev) && !netdev_vlan(r->cfg, netdev, &vlan))
        return error_set(r->err, "netdev=%s: there is no -netdev with this id", netdev);
    if (value_of(r, "vlan", netdev)) {
        if (!number_of(r, "vlan", 0, 255, &number))
            return false;
        vlan = (int)number;
    }
    return add_card(r, vlan, r->kind);
}

/* -redir, -tftp and -bootp are for the first user network, wherever they stand. */
static bool read_user(Reader *r)
{
    if (r->net->user)
        return user_legacy(r->net->user, r->at->option, r->at->spec, r->err);
    log_line("%s %s: there is no user network", option_name[r->at->option], r->at->spec);
    return true;
}

static bool read_all(Machine *m, bool for_user, Error *err)
{
    static bool (*const read[])(Reader *r) = { [NET_NET] = read_net, [NET_NETDEV] = read_netdev,
                                               [NET_NIC] = read_nic, [NET_DEVICE] = read_device,
                                               [NET_REDIR] = read_user, [NET_TFTP] = read_user,
                                               [NET_BOOTP] = read_user };
    Reader r = { .net = net_of(m), .cfg = &m->cfg, .err = err };

    for (int i = 0; i < CFG_NETS; i++) {
        r.at = &m->cfg.net[i];
        if (!r.at->spec || (r.at->option >= NET_REDIR) != for_user)
            continue;
        snprintf(r.kind, sizeof(r.kind), "%.*s", (int)strcspn(r.at->spec, ","), r.at->spec);
        if (!read[r.at->option](&r))
            return error_prefix(err, "%s %.200s", option_name[r.at->option], r.at->spec);
    }
    return true;
}

bool net_open(Machine *m, Error *err)
{
    return read_all(m, false, err) && read_all(m, true, err);
}
