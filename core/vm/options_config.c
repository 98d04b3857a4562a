/*
 * The Config: defaults, copying, freeing; and lists of the form "driver,key=value,...", in which ",," stands
 * for a comma.
 */
#include "config.h"
#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_RAM_MIB = 128 };

char *text_dup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = malloc(n);
    if (!copy)
        abort();
    memcpy(copy, s, n);
    return copy;
}

void text_set(char **field, const char *s)
{
    char *copy = s ? text_dup(s) : NULL; /* before the free: s may be the field itself */
    free(*field);
    *field = copy;
}

bool parse_number(const char *s, u64 *value)
{
    if (!isdigit((unsigned char)s[0])) /* strtoull would take blanks and signs */
        return false;
    char *end;
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    unsigned long long v = strtoull(s, &end, hex ? 16 : 10);
    if (*end || end - s > 18)
        return false;
    *value = v;
    return true;
}

bool parse_on_off(const char *s, bool *value)
{
    static const char *const on[] = {"", "on", "yes", "true", "1"}, *const off[] = {"off", "no", "false",
                                                                                    "0"};
    for (size_t i = 0; i < ARRAY_LEN(on); i++) {
        if (!strcmp(s, on[i])) {
            *value = true;
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        if (!strcmp(s, off[i])) {
            *value = false;
            return true;
        }
    }
    return false;
}

bool spec_next(char **list, char **key, char **value)
{
    char *in = *list, *out = in;
    if (!in || !*in)
        return false;
    *key = in;
    *value = NULL;
    *list = NULL;
    while (*in) {
        if (in[0] == ',' && in[1] == ',') {
            in++;
        } else if (*in == ',') {
            *list = in + 1;
            break;
        } else if (*in == '=' && !*value) {
            *out++ = 0;
            *value = out;
            in++;
            continue;
        }
        *out++ = *in++;
    }
    *out = 0;
    return true;
}

bool spec_get(const char *spec, const char *key, char *out, size_t size)
{
    bool found = false;
    char *copy = text_dup(spec), *rest = copy, *k, *v;
    spec_next(&rest, &k, &v); /* the driver's name */
    while (spec_next(&rest, &k, &v)) {
        if (strcmp(k, key))
            continue;
        if (size)
            snprintf(out, size, "%s", v ? v : "on");
        found = true;
        break;
    }
    free(copy);
    return found;
}

void config_default(Config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    cfg->acpi = true;
    cfg->ram_bytes = (u64)DEFAULT_RAM_MIB << 20;
    cfg->fd_bootchk = true;
    cfg->rtc_base = -1;
}

/* Calls visit for every text of a Config: the one list of them. */
static void each_text(Config *cfg, void (*visit)(char **text))
{
    char **single[] = {
        &cfg->cpu_model, &cfg->name,     &cfg->kernel,  &cfg->initrd, &cfg->append,   &cfg->bios,
        &cfg->monitor,   &cfg->debugcon, &cfg->pidfile, &cfg->keymap, &cfg->log_file, &cfg->gdb,
        &cfg->loadvm,
    };
    for (size_t i = 0; i < ARRAY_LEN(single); i++)
        visit(single[i]);
    for (int i = 0; i < CFG_DRIVES; i++) {
        visit(&cfg->drive[i].file);
        visit(&cfg->drive[i].format);
        visit(&cfg->drive[i].id);
    }
    for (size_t i = 0; i < ARRAY_LEN(cfg->firmware_dir); i++)
        visit(&cfg->firmware_dir[i]);
    for (int i = 0; i < CFG_SERIALS; i++)
        visit(&cfg->serial[i]);
    for (int i = 0; i < CFG_PARALLELS; i++)
        visit(&cfg->parallel[i]);
    for (int i = 0; i < CFG_DEVICES; i++)
        visit(&cfg->device[i].spec);
    for (int i = 0; i < CFG_NETS; i++)
        visit(&cfg->net[i].spec);
    for (int i = 0; i < CFG_CHARDEVS; i++) {
        visit(&cfg->chardev[i].id);
        visit(&cfg->chardev[i].spec);
    }
    for (int i = 0; i < CFG_MONITORS; i++)
        visit(&cfg->mon[i].spec);
}

static void free_text(char **text)
{
    free(*text);
    *text = NULL;
}

static void own_text(char **text)
{
    if (*text)
        *text = text_dup(*text);
}

void config_free(Config *cfg)
{
    each_text(cfg, free_text);
}

void config_copy(Config *to, const Config *from)
{
    *to = *from;
    each_text(to, own_text);
}

bool config_has_boot_medium(const Config *cfg)
{
    if (cfg->kernel || cfg->bios) /* a firmware of one's own may be all there is to run */
        return true;
    for (int i = 0; i < CFG_DRIVES; i++) {
        if (cfg->drive[i].used && cfg->drive[i].file && cfg->drive[i].iface != IF_NONE)
            return true;
    }
    return false;
}
