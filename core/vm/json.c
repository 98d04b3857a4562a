/* Reading and writing JSON; see json.h. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

typedef struct {
    const char *start, *p, *end;
    int depth;
    Error *err;
} Reader;

static bool wrong(Reader *r, const char *what)
{
    return error_set(r->err, "JSON: %s at byte %zu", what, (size_t)(r->p - r->start));
}

static void blanks(Reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r' || *r->p == '\n'))
        r->p++;
}

/* Length of the UTF-8 character at p, 0: it is none (RFC 3629: shortest form, no surrogates, to U+10FFFF). */
static size_t utf8_len(const u8 *p, size_t left)
{
    u32 c = p[0], min = 0;
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (!n || n > left)
        return 0;
    c = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    min = n == 3 ? 0x800 : n == 4 ? 0x10000 : 0;
    return c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static char *put_utf8(char *to, u32 c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

static bool four_hex(Reader *r, u32 *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++, r->p++) {
        char c = r->p < r->end ? *r->p : 0;
        if (c >= '0' && c <= '9')
            *value = *value << 4 | (u32)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            *value = *value << 4 | (u32)((c | 32) - 'a' + 10);
        else
            return wrong(r, "four hexadecimal digits are expected");
    }
    return true;
}

static bool escape(Reader *r, char **to)
{
    static const char from[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    u32 c, low;
    const char *at;
    char letter = r->p < r->end ? *r->p++ : 0;
    if (letter && (at = strchr(from, letter))) {
        *(*to)++ = means[at - from];
        return true;
    }
    if (letter != 'u')
        return wrong(r, "unknown escape");
    if (!four_hex(r, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return wrong(r, "half of a surrogate pair");
        r->p += 2;
        if (!four_hex(r, &low))
            return false;
        if (low < 0xdc00 || low >= 0xe000)
            return wrong(r, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c < 0xe000) {
        return wrong(r, "half of a surrogate pair");
    }
    if (!c)
        return wrong(r, "a string holds no NUL");
    *to = put_utf8(*to, c);
    return true;
}

/* The text of a string is never longer than its notation. */
static char *string(Reader *r)
{
    const char *close = ++r->p;
    while (close < r->end && *close != '"')
        close += *close == '\\' && close + 1 < r->end ? 2 : 1;
    char *text = malloc((size_t)(close - r->p) + 1), *to = text;
    if (!text) {
        error_set(r->err, "out of memory");
        return NULL;
    }
    for (;;) {
        size_t n;
        if (r->p >= r->end) {
            wrong(r, "a string has no end");
            break;
        }
        if (*r->p == '"') {
            r->p++;
            *to = 0;
            return text;
        }
        if (*r->p == '\\') {
            r->p++;
            if (!escape(r, &to))
                break;
            continue;
        }
        n = (u8)*r->p < 0x20 ? 0 : utf8_len((const u8 *)r->p, (size_t)(r->end - r->p));
        if (!n) {
            wrong(r, "a byte that may not stand in a string");
            break;
        }
        memcpy(to, r->p, n);
        to += n;
        r->p += n;
    }
    free(text);
    return NULL;
}

static const char *digits(Reader *r)
{
    const char *first = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return first;
}

static bool number(Reader *r, Json *j)
{
    const char *start = r->p;
    bool negative = *r->p == '-';
    r->p += negative;
    const char *first = digits(r);
    size_t n = (size_t)(r->p - first);
    if (!n || (n > 1 && *first == '0'))
        return wrong(r, "no number");
    u64 value = 0, limit = negative ? 1ull << 63 : (1ull << 63) - 1;
    j->is_integer = true;
    for (const char *p = first; p < r->p; p++) {
        u64 digit = (u64)(*p - '0');
        if (value > (limit - digit) / 10)
            j->is_integer = false;
        value = value * 10 + digit;
    }
    j->integer = (s64)(negative ? 0 - value : value);
    if (r->p < r->end && *r->p == '.') {
        r->p++;
        j->is_integer = false;
        if (digits(r) == r->p)
            return wrong(r, "a digit is missing");
    }
    if (r->p < r->end && (*r->p | 32) == 'e') {
        r->p++;
        j->is_integer = false;
        r->p += r->p < r->end && (*r->p == '+' || *r->p == '-');
        if (digits(r) == r->p)
            return wrong(r, "a digit is missing");
    }
    j->kind = JSON_NUMBER;
    return r->p > start;
}

static Json *value(Reader *r);

/* What stands between brackets; the opening one is taken. */
static bool elements(Reader *r, Json *j, bool object)
{
    Json **tail = &j->first;
    char close = object ? '}' : ']';
    blanks(r);
    if (r->p < r->end && *r->p == close) {
        r->p++;
        return true;
    }
    for (;;) {
        char *key = NULL;
        blanks(r);
        if (object) {
            if (r->p >= r->end || *r->p != '"')
                return wrong(r, "a name in quotes is expected");
            if (!(key = string(r)))
                return false;
            blanks(r);
            if (r->p >= r->end || *r->p != ':' || json_member(j, key)) {
                free(key);
                return wrong(r, "a ':' is expected behind a name that was not there before");
            }
            r->p++;
        }
        Json *element = value(r);
        if (!element) {
            free(key);
            return false;
        }
        element->key = key;
        *tail = element;
        tail = &element->next;
        blanks(r);
        if (r->p < r->end && *r->p == close) {
            r->p++;
            return true;
        }
        if (r->p >= r->end || *r->p != ',')
            return wrong(r, object ? "',' or '}' is expected" : "',' or ']' is expected");
        r->p++;
    }
}

static bool word(Reader *r, Json *j)
{
    static const struct { const char *text; JsonKind kind; bool boolean; } words[] = {
        { "true", JSON_BOOL, true }, { "false", JSON_BOOL, false }, { "null", JSON_NULL, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i].text);
        if ((size_t)(r->end - r->p) < n || memcmp(r->p, words[i].text, n))
            continue;
        r->p += n;
        j->kind = words[i].kind;
        j->boolean = words[i].boolean;
        return true;
    }
    return wrong(r, "a value is expected");
}

static Json *value(Reader *r)
{
    blanks(r);
    Json *j = calloc(1, sizeof *j);
    if (!j) {
        error_set(r->err, "out of memory");
        return NULL;
    }
    bool ok;
    char c = r->p < r->end ? *r->p : 0;
    j->text = r->p;
    if (c == '{' || c == '[') {
        j->kind = c == '{' ? JSON_OBJECT : JSON_ARRAY;
        r->p++;
        ok = ++r->depth <= JSON_DEPTH ? elements(r, j, c == '{') : wrong(r, "nested too deeply");
        r->depth--;
    } else if (c == '"') {
        j->kind = JSON_STRING;
        j->string = string(r);
        ok = j->string;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        ok = number(r, j);
    } else {
        ok = word(r, j);
    }
    j->len = (size_t)(r->p - j->text);
    if (ok)
        return j;
    json_free(j);
    return NULL;
}

Json *json_parse(const char *text, size_t len, Error *err)
{
    Reader r = { text, text, text + len, 0, err };
    Json *j = value(&r);
    blanks(&r);
    if (j && r.p < r.end) {
        wrong(&r, "nothing is expected behind the value");
        json_free(j);
        return NULL;
    }
    return j;
}

void json_free(Json *j)
{
    while (j) {
        Json *next = j->next;
        json_free(j->first);
        free(j->string);
        free(j->key);
        free(j);
        j = next;
    }
}

const Json *json_member(const Json *object, const char *key)
{
    if (!object || object->kind != JSON_OBJECT)
        return NULL;
    for (const Json *j = object->first; j; j = j->next) {
        if (!strcmp(j->key, key))
            return j;
    }
    return NULL;
}

bool json_scan(JsonScan *s, u8 c)
{
    if (s->in_string) {
        if (s->escaped)
            s->escaped = false;
        else if (c == '\\')
            s->escaped = true;
        else if (c == '"')
            s->in_string = false;
        return false;
    }
    s->started |= c != ' ' && c != '\t' && c != '\r' && c != '\n';
    if (c == '"')
        s->in_string = true;
    else if (c == '{' || c == '[')
        s->depth++;
    else if (c == '}' || c == ']')
        s->depth--;
    bool end = s->started && s->depth <= 0 && (c == '}' || c == ']' || c == '\n');
    if (end || !s->started)
        *s = (JsonScan){ 0 };
    return end;
}

/* ---- writing ---- */

void json_free_out(JsonOut *o)
{
    free(o->text);
    *o = (JsonOut){ 0 };
}

void json_raw(JsonOut *o, const char *text, size_t len)
{
    if (o->cap < o->len + len + 1) {
        o->cap = (o->len + len + 1) * 2;
        o->text = realloc(o->text, o->cap);
        if (!o->text)
            abort();
    }
    memcpy(o->text + o->len, text, len);
    o->len += len;
    o->text[o->len] = 0;
}

static void quoted(JsonOut *o, const char *s)
{
    char text[8];
    size_t left = strlen(s);
    json_raw(o, "\"", 1);
    while (left) {
        size_t n = utf8_len((const u8 *)s, left);
        u8 c = (u8)*s;
        if (!n) {
            json_raw(o, "\xef\xbf\xbd", 3);
            n = 1;
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(text, sizeof text, "\\u%04x", c);
            json_raw(o, c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : text,
                     c == '\n' || c == '\r' || c == '\t' ? 2 : 6);
        } else {
            if (c == '"' || c == '\\')
                json_raw(o, "\\", 1);
            json_raw(o, s, n);
        }
        s += n;
        left -= n;
    }
    json_raw(o, "\"", 1);
}

static void begin(JsonOut *o, const char *key)
{
    if (o->comma)
        json_raw(o, ", ", 2);
    o->comma = true;
    if (key) {
        quoted(o, key);
        json_raw(o, ": ", 2);
    }
}

void json_open(JsonOut *o, const char *key, char bracket)
{
    begin(o, key);
    json_raw(o, &bracket, 1);
    o->comma = false;
}

void json_close(JsonOut *o, char bracket)
{
    json_raw(o, &bracket, 1);
    o->comma = true;
}

void json_string(JsonOut *o, const char *key, const char *value)
{
    begin(o, key);
    quoted(o, value);
}

void json_int(JsonOut *o, const char *key, s64 value)
{
    char text[32];
    begin(o, key);
    json_raw(o, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void json_bool(JsonOut *o, const char *key, bool value)
{
    begin(o, key);
    json_raw(o, value ? "true" : "false", value ? 4 : 5);
}

void json_copy(JsonOut *o, const char *key, const Json *value)
{
    begin(o, key);
    json_raw(o, value->text, value->len);
}
