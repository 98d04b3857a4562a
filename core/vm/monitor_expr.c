/*
 * Expressions of the monitor: 64-bit integers, C's notation of numbers, 'c' characters, $register ($pc: the
 * linear address of the next instruction), unary + - ~, parentheses, and the binary operators * / %, + -, <<
 * >>, & ^ |, in C's order.
 */
#include "monitor_int.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

typedef struct {
    Monitor *mon;
    const char *p;
    Error *err;
    int depth;
} Parser;

static bool binary(Parser *x, int level, u64 *value);

static void skip(Parser *x)
{
    x->p += strspn(x->p, " \t");
}

static bool register_value(Parser *x, u64 *value)
{
    char name[16];
    size_t n = 0;
    while (((x->p[n] | 32) >= 'a' && (x->p[n] | 32) <= 'z') || (x->p[n] >= '0' && x->p[n] <= '9'))
        n++;
    if (!n || n >= sizeof name)
        return error_set(x->err, "behind $ stands a register's name, as in $eip");
    memcpy(name, x->p, n);
    name[n] = 0;
    x->p += n;
    if (!strcmp(name, "pc") && x->mon->m->cpu) {
        *value = cpu_eip(x->mon->m->cpu);
        return true;
    }
    if (!x->mon->m->cpu || !cpu_get_register(x->mon->m->cpu, name, value))
        return error_set(x->err, "there is no register '%s'", name);
    return true;
}

static bool number(Parser *x, u64 *value)
{
    char *end;
    if (x->p[0] == '\'' && x->p[1] && x->p[2] == '\'') {
        *value = (u8)x->p[1];
        x->p += 3;
        return true;
    }
    if (*x->p < '0' || *x->p > '9')
        return *x->p ? error_set(x->err, "'%.20s' isn't understood", x->p)
                     : error_set(x->err, "a number or a $register is missing");
    *value = strtoull(x->p, &end, 0);
    if ((*end | 32) >= 'a' && (*end | 32) <= 'z')
        return error_set(x->err, "'%.20s' isn't a number", x->p);
    x->p = end;
    return true;
}

static bool unary(Parser *x, u64 *value)
{
    skip(x);
    if (++x->depth > MAX_DEPTH)
        return error_set(x->err, "the expression is nested too deeply");
    bool ok;
    char c = *x->p;
    if (c == '+' || c == '-' || c == '~') {
        x->p++;
        ok = unary(x, value);
        *value = c == '-' ? 0 - *value : c == '~' ? ~*value : *value;
    } else if (c == '(') {
        x->p++;
        ok = binary(x, 0, value);
        skip(x);
        if (ok && *x->p != ')')
            ok = error_set(x->err, "a ) is missing");
        x->p += ok;
    } else if (c == '$') {
        x->p++;
        ok = register_value(x, value);
    } else {
        ok = number(x, value);
    }
    x->depth--;
    return ok;
}

/* The operator at p if it is one of this level: its character, '<' and '>' for the shifts, or 0. */
static char operator_at(Parser *x, int level)
{
    static const char *const levels[] = { "|", "^", "&", "<>", "+-", "*/%" };
    skip(x);
    char c = *x->p;
    if (!c || !strchr(levels[level], c))
        return 0;
    if ((c == '<' || c == '>') && x->p[1] != c)
        return 0;
    x->p += c == '<' || c == '>' ? 2 : 1;
    return c;
}

static bool apply(Parser *x, char op, u64 *a, u64 b)
{
    switch (op) {
    case '|': *a |= b; break;
    case '^': *a ^= b; break;
    case '&': *a &= b; break;
    case '<': *a = b < 64 ? *a << b : 0; break;
    case '>': *a = b < 64 ? *a >> b : 0; break;
    case '+': *a += b; break;
    case '-': *a -= b; break;
    case '*': *a *= b; break;
    default:
        if (!b)
            return error_set(x->err, "division by zero");
        *a = op == '/' ? *a / b : *a % b;
    }
    return true;
}

static bool binary(Parser *x, int level, u64 *value)
{
    if (level == 6)
        return unary(x, value);
    if (!binary(x, level + 1, value))
        return false;
    for (char op; (op = operator_at(x, level));) {
        u64 right = 0;
        if (!binary(x, level + 1, &right) || !apply(x, op, value, right))
            return false;
    }
    return true;
}

bool monitor_expr(Monitor *mon, const char **p, u64 *value, Error *err)
{
    Parser x = { mon, *p, err, 0 };
    *value = 0;
    if (!binary(&x, 0, value))
        return false;
    skip(&x);
    *p = x.p;
    return true;
}
