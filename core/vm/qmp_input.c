/* QMP: send-key and input-send-event. Keys have the names of sendkey; mice move relatively. */
#include "qmp_int.h"

#include <stdio.h>
#include <string.h>

#include "ui.h"

/* A KeyValue: {"type": "qcode", "data": "ctrl"} or {"type": "number", "data": 29}; a number is a set 1
 * scancode with bit 7 for the extended keys. */
static bool key_of(const Json *key, u16 *scancode, Error *err)
{
    const Json *type = json_member(key, "type"), *data = json_member(key, "data");
    if (!type || type->kind != JSON_STRING || !data)
        return error_set(err, "a key is {\"type\": \"qcode\", \"data\": NAME}");
    if (!strcmp(type->string, "number") && data->is_integer && data->integer > 0 && data->integer < 256) {
        *scancode = (u16)(data->integer & 0x80 ? 0xe000 | (data->integer & 0x7f) : data->integer);
        return true;
    }
    if (!strcmp(type->string, "qcode") && data->kind == JSON_STRING) {
        if (ui_scancode(data->string, scancode))
            return true;
        return error_set(err, "there is no key '%.40s'", data->string);
    }
    return error_set(err, "a key's type is qcode or number");
}

static const char *name_of(u16 scancode)
{
    u16 code;
    for (int i = 0; ui_key_name(i); i++) {
        if (ui_scancode(ui_key_name(i), &code) && code == scancode)
            return ui_key_name(i);
    }
    return NULL;
}

bool qmp_send_key(QmpCall *c)
{
    char combination[256] = "";
    size_t len = 0;
    s64 hold = qmp_int(c, "hold-time", 100);
    for (const Json *k = json_member(c->args, "keys")->first; k; k = k->next) {
        u16 scancode;
        if (!key_of(k, &scancode, c->err))
            return false;
        const char *name = name_of(scancode);
        if (!name || len + strlen(name) + 2 > sizeof combination)
            return error_set(c->err, name ? "too many keys" : "scancode 0x%x is no key of this keyboard",
                             scancode);
        len += (size_t)snprintf(combination + len, sizeof combination - len, "%s%s", len ? "-" : "", name);
    }
    if (!len || hold < 1 || hold > 60000)
        return error_set(c->err, len ? "hold-time is 1 to 60000 ms" : "keys is empty");
    return ui_send_keys(c->m->ui, combination, (unsigned)hold, c->err);
}

typedef struct { int dx, dy, dz; unsigned set, clear; bool mouse; } Motion;

static bool button(const Json *data, Motion *m, Error *err)
{
    static const struct { const char *name; unsigned bit; int wheel;
    } buttons[] = {
        {"left", 1, 0}, {"right", 2, 0}, {"middle", 4, 0}, {"wheel-up", 0, -1}, {"wheel-down", 0, 1},
    };
    const Json *name = json_member(data, "button"), *down = json_member(data, "down");
    for (size_t i = 0; name && name->kind == JSON_STRING && down && i < ARRAY_LEN(buttons); i++) {
        if (strcmp(name->string, buttons[i].name))
            continue;
        m->mouse = true;
        if (down->boolean) {
            m->set |= buttons[i].bit;
            m->dz += buttons[i].wheel;
        } else {
            m->clear |= buttons[i].bit;
        }
        return true;
    }
    return error_set(err, "a btn event has button (left, right, middle, wheel-up, wheel-down) and down");
}

static bool axis(const Json *data, Motion *m, Error *err)
{
    const Json *name = json_member(data, "axis"), *value = json_member(data, "value");
    if (!name || name->kind != JSON_STRING || !value || !value->is_integer || value->integer < -10000 ||
            value->integer > 10000 || (strcmp(name->string, "x") && strcmp(name->string, "y")))
        return error_set(err, "a rel event has axis (x, y) and value (-10000 to 10000)");
    *(*name->string == 'x' ? &m->dx : &m->dy) += (int)value->integer;
    m->mouse = true;
    return true;
}

static bool one_event(QmpCall *c, const Json *e, Motion *m, bool send)
{
    const Json *type = json_member(e, "type"), *data = json_member(e, "data");
    u16 scancode;
    if (!type || type->kind != JSON_STRING || !data)
        return error_set(c->err, "an event has type and data");
    if (!strcmp(type->string, "btn"))
        return button(data, m, c->err);
    if (!strcmp(type->string, "rel"))
        return axis(data, m, c->err);
    if (!strcmp(type->string, "abs"))
        return error_set(c->err, "the guest's mouse moves relatively: use rel");
    if (strcmp(type->string, "key"))
        return error_set(c->err, "an event's type is key, btn or rel");
    const Json *down = json_member(data, "down");
    if (!key_of(json_member(data, "key"), &scancode, c->err))
        return false;
    if (!down || down->kind != JSON_BOOL)
        return error_set(c->err, "a key event has down and key");
    if (send)
        ui_send_key(c->m->ui, scancode, down->boolean);
    return true;
}

/* All or nothing: the events are checked before the first is sent. */
bool qmp_input_send_event(QmpCall *c)
{
    static unsigned pressed;
    const Json *events = json_member(c->args, "events");
    Motion check = { 0 }, m = { 0 };
    for (const Json *e = events->first; e; e = e->next) {
        if (!one_event(c, e, &check, false))
            return false;
    }
    for (const Json *e = events->first; e; e = e->next)
        one_event(c, e, &m, true);
    pressed = (pressed | m.set) & ~(m.clear & ~m.set);
    if (m.mouse)
        ui_send_mouse(c->m->ui, m.dx, m.dy, m.dz, pressed);
    return true;
}
