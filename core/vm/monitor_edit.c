/*
 * The monitor's line editor: the keys of GNU readline's Emacs mode that everybody uses, history, and TAB
 * completion by what the command's table row says its arguments are. Writes only backspaces and "erase to end
 * of line" (ECMA-48 EL), so that it works on any terminal and reads well in a log file.
 */
#include "monitor_int.h"

#include <stdlib.h>
#include <string.h>

static const char prompt[] = "(qemu) ";

enum {
    CTRL_A = 1, CTRL_B = 2, CTRL_C = 3, CTRL_D = 4, CTRL_E = 5, CTRL_F = 6, BELL = 7, CTRL_H = 8, TAB = 9,
    CTRL_K = 11, CTRL_L = 12, CTRL_N = 14, CTRL_P = 16, CTRL_U = 21, CTRL_W = 23, ESC = 27, DEL = 127,
};

void edit_show(Monitor *mon)
{
    const LineEdit *e = &mon->edit;
    monitor_printf(mon, "%s%.*s", prompt, e->len > 1900 ? 1900 : e->len, e->text);
    for (int i = e->cursor; i < e->len; i++)
        monitor_puts(mon, "\b");
}

static void back(Monitor *mon, int n)
{
    while (n-- > 0)
        monitor_puts(mon, "\b");
}

static void put_tail(Monitor *mon)
{
    LineEdit *e = &mon->edit;
    e->text[e->len] = 0;
    monitor_puts(mon, e->text + e->cursor);
    monitor_puts(mon, "\033[K");
    back(mon, e->len - e->cursor);
}

static void move_to(Monitor *mon, int to)
{
    LineEdit *e = &mon->edit;
    if (to < e->cursor) {
        back(mon, e->cursor - to);
    } else {
        char c[2] = { 0 };
        for (int i = e->cursor; i < to; i++) {
            c[0] = e->text[i];
            monitor_puts(mon, c);
        }
    }
    e->cursor = to;
}

static void insert(Monitor *mon, char c)
{
    LineEdit *e = &mon->edit;
    if (e->len >= LINE_MAX_LEN - 1) {
        e->too_long = true;
        return;
    }
    memmove(e->text + e->cursor + 1, e->text + e->cursor, (size_t)(e->len - e->cursor));
    e->text[e->cursor] = c;
    e->len++;
    char s[2] = { c, 0 };
    monitor_puts(mon, s);
    e->cursor++;
    if (e->cursor < e->len)
        put_tail(mon);
}

/* Removes n characters left of the cursor. */
static void remove_left(Monitor *mon, int n)
{
    LineEdit *e = &mon->edit;
    if (n <= 0)
        return;
    memmove(e->text + e->cursor - n, e->text + e->cursor, (size_t)(e->len - e->cursor));
    e->len -= n;
    e->cursor -= n;
    back(mon, n);
    put_tail(mon);
}

static void remove_right(Monitor *mon)
{
    LineEdit *e = &mon->edit;
    if (e->cursor == e->len)
        return;
    memmove(e->text + e->cursor, e->text + e->cursor + 1, (size_t)(e->len - e->cursor - 1));
    e->len--;
    put_tail(mon);
}

static int word_left(const LineEdit *e)
{
    int i = e->cursor;
    while (i && e->text[i - 1] == ' ')
        i--;
    while (i && e->text[i - 1] != ' ')
        i--;
    return i;
}

static void replace_line(Monitor *mon, const char *text)
{
    LineEdit *e = &mon->edit;
    move_to(mon, 0);
    size_t n = strlen(text);
    e->len = (int)(n < LINE_MAX_LEN - 1 ? n : LINE_MAX_LEN - 1);
    memcpy(e->text, text, (size_t)e->len);
    put_tail(mon);
    move_to(mon, e->len);
}

/* ---- history ---- */

static void browse(Monitor *mon, int step)
{
    LineEdit *e = &mon->edit;
    int to = e->browse + step;
    if (to < 0 || to > e->histories)
        return;
    if (e->browse == e->histories) {
        free(e->typed);
        e->text[e->len] = 0;
        e->typed = strdup(e->text);
    }
    e->browse = to;
    replace_line(mon, to < e->histories ? e->history[to] : e->typed ? e->typed : "");
}

static void remember(LineEdit *e)
{
    if (e->text[strspn(e->text, " \t")] && (!e->histories || strcmp(e->history[e->histories - 1], e->text))) {
        if (e->histories == HISTORY_MAX) {
            free(e->history[0]);
            memmove(e->history, e->history + 1, (HISTORY_MAX - 1) * sizeof e->history[0]);
            e->histories--;
        }
        char *copy = strdup(e->text);
        if (copy)
            e->history[e->histories++] = copy;
    }
    e->browse = e->histories;
}

void edit_free(LineEdit *e)
{
    for (int i = 0; i < e->histories; i++)
        free(e->history[i]);
    free(e->typed);
}

/* ---- completion ---- */

/* What the word at the cursor can be; *start is where it begins. Keys of a combination are completed one
 * by one. */
static Complete what_to_complete(const LineEdit *e, int *start)
{
    int first = 0;
    while (first < e->cursor && e->text[first] == ' ')
        first++;
    int end = first;
    while (end < e->cursor && e->text[end] != ' ')
        end++;
    int s = e->cursor;
    while (s > end && e->text[s - 1] != ' ')
        s--;
    *start = end == e->cursor ? first : s;
    if (end == e->cursor)
        return COMPLETE_COMMAND;
    const Command *c = monitor_find(e->text + first, (size_t)(end - first));
    if (!c)
        return COMPLETE_NONE;
    if (c->complete == COMPLETE_KEY) {
        for (int i = s; i < e->cursor; i++) {
            if (e->text[i] == '-')
                *start = i + 1;
        }
    }
    if (c->complete != COMPLETE_DRIVE_FILE)
        return c->complete;
    int words = 0;                  /* between the command and what is completed */
    for (int i = end; i < s; i++)
        words += e->text[i] != ' ' && e->text[i + 1] == ' ';
    return words ? COMPLETE_FILE : COMPLETE_DRIVE;
}

static void complete(Monitor *mon)
{
    LineEdit *e = &mon->edit;
    int start, found = 0;
    Complete kind = what_to_complete(e, &start);
    size_t have = (size_t)(e->cursor - start), common = 0;
    char best[256] = "", typed[LINE_MAX_LEN];
    const char *word;

    memcpy(typed, e->text + start, have);
    typed[have] = 0;
    for (int i = 0; (word = monitor_candidate(mon, kind, typed, i)); i++) {
        if (strncmp(word, typed, have) || strlen(word) >= sizeof best)
            continue;
        if (!found++) {
            strcpy(best, word);
            common = strlen(best);
        } else {
            size_t n = 0;
            while (n < common && word[n] == best[n])
                n++;
            common = n;
        }
    }
    for (size_t i = have; found && i < common; i++)
        insert(mon, best[i]);
    if (found == 1 && kind != COMPLETE_KEY && best[common - 1] != '/')
        insert(mon, ' ');
    if (found < 2 || common > have)
        return;
    monitor_puts(mon, "\n");
    for (int i = 0; (word = monitor_candidate(mon, kind, typed, i)); i++) {
        if (!strncmp(word, typed, have))
            monitor_printf(mon, "%s ", word);
    }
    monitor_puts(mon, "\n");
    edit_show(mon);
}

/* ---- bytes ---- */

static void end_line(Monitor *mon)
{
    LineEdit *e = &mon->edit;
    char line[LINE_MAX_LEN];
    bool refuse = e->too_long;
    e->text[e->len] = 0;
    memcpy(line, e->text, (size_t)e->len + 1);
    monitor_puts(mon, "\n");
    if (!refuse)
        remember(e);
    e->len = e->cursor = 0;
    e->too_long = false;
    if (refuse)
        monitor_printf(mon, "the line is longer than %d characters\n", LINE_MAX_LEN - 1);
    else
        monitor_run(mon, line);
    if (!mon->busy)
        edit_show(mon);
}

static void final_of_escape(Monitor *mon, u8 c)
{
    LineEdit *e = &mon->edit;
    int p = e->escape_param;
    e->escape = 0;
    if (c == '~')
        c = p == 1 || p == 7 ? 'H' : p == 4 || p == 8 ? 'F' : p == 3 ? 'X' : 0;
    switch (c) {
    case 'A': browse(mon, -1); break;
    case 'B': browse(mon, 1); break;
    case 'C': if (e->cursor < e->len) move_to(mon, e->cursor + 1); break;
    case 'D': if (e->cursor) move_to(mon, e->cursor - 1); break;
    case 'H': move_to(mon, 0); break;
    case 'F': move_to(mon, e->len); break;
    case 'X': remove_right(mon); break;
    default: break;
    }
}

static void escape_byte(Monitor *mon, u8 c)
{
    LineEdit *e = &mon->edit;
    if (e->escape == 1) {
        e->escape = c == '[' || c == 'O' ? 2 : 0;
        e->escape_param = 0;
    } else if (c >= '0' && c <= '9') {
        e->escape_param = (e->escape_param * 10 + (c - '0')) % 1000;
    } else if (c >= 0x40) {
        final_of_escape(mon, c);
    }
}

static void control_key(Monitor *mon, u8 c)
{
    LineEdit *e = &mon->edit;
    switch (c) {
    case CTRL_A: move_to(mon, 0); break;
    case CTRL_E: move_to(mon, e->len); break;
    case CTRL_B: if (e->cursor) move_to(mon, e->cursor - 1); break;
    case CTRL_F: if (e->cursor < e->len) move_to(mon, e->cursor + 1); break;
    case CTRL_D: remove_right(mon); break;
    case CTRL_H: case DEL: remove_left(mon, e->cursor > 0); break;
    case CTRL_W: remove_left(mon, e->cursor - word_left(e)); break;
    case CTRL_U: remove_left(mon, e->cursor); break;
    case CTRL_K: e->len = e->cursor; put_tail(mon); break;
    case CTRL_P: browse(mon, -1); break;
    case CTRL_N: browse(mon, 1); break;
    case CTRL_L: monitor_puts(mon, "\033[2J\033[H"); edit_show(mon); break;
    case CTRL_C:
        e->len = e->cursor = 0;
        e->too_long = false;
        monitor_puts(mon, "\n");
        edit_show(mon);
        break;
    case TAB: complete(mon); break;
    case ESC: e->escape = 1; break;
    default: break;
    }
}

void edit_restart(LineEdit *e)
{
    e->len = e->cursor = e->escape = 0;
    e->browse = e->histories;
    e->too_long = e->last_cr = false;
}

void edit_byte(Monitor *mon, u8 byte)
{
    LineEdit *e = &mon->edit;
    bool after_cr = e->last_cr;
    e->last_cr = byte == '\r';
    if (e->escape)
        escape_byte(mon, byte);
    else if (byte == '\n' && after_cr)
        return;
    else if (byte == '\r' || byte == '\n')
        end_line(mon);
    else if (byte < 0x20 || byte == DEL)
        control_key(mon, byte);
    else
        insert(mon, (char)byte);
}
