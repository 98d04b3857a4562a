/*
 * The character device "stdio": the console the program was started from, or pipes and files in its place.
 *
 * A thread reads and hands over one piece at a time; another writes what stands in a ring of 64 KiB. Neither
 * a silent sender nor a stalled reader ever stops the machine: when the ring is full, chardev_write() takes
 * no more until there is room.
 *
 * With -nographic the console is the guest's terminal: keys come raw, Ctrl-C included. Otherwise Ctrl-C ends
 * the program.
 */
#include "win.h"

#include "../core/vm/chardev.h"
#include "../core/vm/machine.h"

#include <stdio.h>
#include <string.h>

enum { RING = 64 * 1024, PIECE = 4096 };

static struct {
    Chardev chr;
    bool open;
    HANDLE in, out;
    bool in_console, out_console, vt_input;
    DWORD in_mode, out_mode; /* as they were */
    SRWLOCK lock;            /* for all below */
    CONDITION_VARIABLE changed;
    u8 piece[PIECE]; /* input: bytes at..end wait for the frontend */
    size_t at, end;
    HANDLE input;         /* event: a piece has come, or the frontend has room */
    u8 ring[RING];        /* output: bytes head..tail wait for the writer */
    size_t head, tail;    /* ever growing */
    bool starved;         /* a write took less than all */
    bool writing, broken; /* the writer is at it; nobody takes it any more */
    HANDLE room;          /* event: the starved may write again */
} io;

/* ---- input ---- */

/* What a terminal sends for keys that have no character, where Windows does not translate them itself. */
static const char *key_sequence(const KEY_EVENT_RECORD *k)
{
    switch (k->wVirtualKeyCode) {
    case VK_UP:
        return "\033[A";
    case VK_DOWN:
        return "\033[B";
    case VK_RIGHT:
        return "\033[C";
    case VK_LEFT:
        return "\033[D";
    case VK_HOME:
        return "\033[1~";
    case VK_INSERT:
        return "\033[2~";
    case VK_DELETE:
        return "\033[3~";
    case VK_END:
        return "\033[4~";
    case VK_PRIOR:
        return "\033[5~";
    case VK_NEXT:
        return "\033[6~";
    default:
        return "";
    }
}

/* One key event as the bytes a terminal would send; high keeps the first half of a surrogate pair. */
static size_t key_bytes(const KEY_EVENT_RECORD *k, wchar_t *high, char *out, size_t size)
{
    wchar_t c = k->uChar.UnicodeChar;
    bool alt_code = !k->bKeyDown && k->wVirtualKeyCode == VK_MENU && c; /* typed as Alt and digits */
    if (!k->bKeyDown && !alt_code)
        return 0;
    if (!c) {
        const char *s = io.vt_input ? "" : key_sequence(k);
        return (size_t)snprintf(out, size, "%s", s);
    }
    if (c == L'\b' && k->wVirtualKeyCode == VK_BACK && !io.vt_input)
        c = 0x7f;
    if (c >= 0xd800 && c < 0xdc00) {
        *high = c;
        return 0;
    }
    wchar_t text[2] = {*high ? *high : c, c};
    int n = WideCharToMultiByte(CP_UTF8, 0, text, *high ? 2 : 1, out, (int)size, NULL, NULL);
    *high = 0;
    return n > 0 ? (size_t)n : 0;
}

static size_t read_console(u8 *buf, size_t size)
{
    static wchar_t high;
    size_t n = 0;
    INPUT_RECORD record[64];
    DWORD count;
    while (n == 0) {
        if (!ReadConsoleInputW(io.in, record, ARRAY_LEN(record), &count))
            return 0;
        for (DWORD i = 0; i < count; i++) {
            if (record[i].EventType != KEY_EVENT)
                continue;
            char key[8];
            size_t len = key_bytes(&record[i].Event.KeyEvent, &high, key, sizeof key);
            for (int r = record[i].Event.KeyEvent.wRepeatCount; r > 0 && n + len <= size; r--) {
                memcpy(buf + n, key, len);
                n += len;
            }
        }
    }
    return n;
}

static size_t read_some(u8 *buf, size_t size)
{
    DWORD n;
    if (io.in_console)
        return read_console(buf, size);
    return ReadFile(io.in, buf, (DWORD)size, &n, NULL) ? n : 0;
}

static void reader(void *opaque)
{
    u8 buf[PIECE];
    size_t n;
    (void)opaque;
    while ((n = read_some(buf, sizeof buf)) > 0) {
        AcquireSRWLockExclusive(&io.lock);
        while (io.at != io.end)
            SleepConditionVariableSRW(&io.changed, &io.lock, INFINITE, 0);
        memcpy(io.piece, buf, n);
        io.at = 0;
        io.end = n;
        ReleaseSRWLockExclusive(&io.lock);
        SetEvent(io.input);
    }
}

/* Main thread, machine lock held: gives the frontend what it has room for. */
static void on_input(void *opaque)
{
    u8 buf[PIECE];
    size_t n;
    (void)opaque;
    do {
        size_t room = io.open ? chardev_room(&io.chr) : 0;
        AcquireSRWLockExclusive(&io.lock);
        n = io.end - io.at;
        n = n < room ? n : room;
        memcpy(buf, io.piece + io.at, n);
        io.at += n;
        if (n && io.at == io.end)
            WakeAllConditionVariable(&io.changed);
        ReleaseSRWLockExclusive(&io.lock);
        if (n)
            chardev_deliver(&io.chr, buf, n);
    } while (n);
}

static void stdio_accept(Chardev *chr)
{
    (void)chr;
    AcquireSRWLockExclusive(&io.lock);
    bool waiting = io.at != io.end;
    ReleaseSRWLockExclusive(&io.lock);
    if (waiting)
        SetEvent(io.input);
}

/* ---- output ---- */

/* Bytes to a console: whole UTF-8 characters only; returns how many bytes were taken. */
static size_t write_console(const u8 *buf, size_t n)
{
    size_t whole = n;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        u8 c = buf[n - back];
        if (c >= 0xc0) {
            size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
            if (need > back)
                whole = n - back;
            break;
        }
        if (c < 0x80)
            break;
    }
    if (!whole)
        return 0;
    wchar_t text[PIECE];
    int len = MultiByteToWideChar(CP_UTF8, 0, (const char *)buf, (int)whole, text, ARRAY_LEN(text));
    DWORD written;
    for (int at = 0; at < len; at += (int)written) {
        if (!WriteConsoleW(io.out, text + at, (DWORD)(len - at), &written, NULL) || !written)
            break;
    }
    return whole;
}

static bool write_file(const u8 *buf, size_t n)
{
    for (DWORD done; n; buf += done, n -= done) {
        if (!WriteFile(io.out, buf, (DWORD)n, &done, NULL) || !done)
            return false;
    }
    return true;
}

static void writer(void *opaque)
{
    u8 buf[PIECE];
    size_t kept = 0; /* bytes of a character whose end has not come yet */
    (void)opaque;
    AcquireSRWLockExclusive(&io.lock);
    for (;;) {
        while (io.head == io.tail)
            SleepConditionVariableSRW(&io.changed, &io.lock, INFINITE, 0);
        size_t n = kept;
        while (n < sizeof buf && io.head != io.tail)
            buf[n++] = io.ring[io.head++ % RING];
        bool starved = io.starved;
        io.starved = false;
        io.writing = true;
        ReleaseSRWLockExclusive(&io.lock);
        if (starved)
            SetEvent(io.room);
        size_t taken = n;
        bool ok = true;
        if (io.out_console)
            taken = write_console(buf, n);
        else
            ok = write_file(buf, n);
        kept = n - taken < 4 ? n - taken : 0;
        memmove(buf, buf + taken, kept);
        AcquireSRWLockExclusive(&io.lock);
        io.writing = false;
        io.broken |= !ok;
        if (io.broken)
            io.head = io.tail;
        WakeAllConditionVariable(&io.changed);
    }
}

static size_t stdio_write(Chardev *chr, const u8 *buf, size_t n)
{
    (void)chr;
    AcquireSRWLockExclusive(&io.lock);
    size_t room = io.broken ? n : RING - (io.tail - io.head), taken = n < room ? n : room;
    for (size_t i = 0; i < taken && !io.broken; i++)
        io.ring[io.tail++ % RING] = buf[i];
    io.starved |= taken < n;
    ReleaseSRWLockExclusive(&io.lock);
    WakeAllConditionVariable(&io.changed);
    return taken;
}

static void on_room(void *opaque)
{
    (void)opaque;
    if (io.open)
        chardev_writable(&io.chr);
}

/* A reader that takes nothing may not hold up the end for ever. */
void stdio_finish(void)
{
    enum { PATIENCE_MS = 2000 };
    u64 end = host_now_ns() + PATIENCE_MS * 1000000ull;
    AcquireSRWLockExclusive(&io.lock);
    for (u64 now; (io.head != io.tail || io.writing) && (now = host_now_ns()) < end;)
        SleepConditionVariableSRW(&io.changed, &io.lock, (DWORD)((end - now) / 1000000) + 1, 0);
    ReleaseSRWLockExclusive(&io.lock);
    if (io.in_console)
        SetConsoleMode(io.in, io.in_mode);
    if (io.out_console)
        SetConsoleMode(io.out, io.out_mode);
}

/* ---- the device ---- */

static void stdio_close(Chardev *chr)
{
    (void)chr;
    io.open = false;
}

static const ChrBackend backend = {
    .name = "stdio",
    .write = stdio_write,
    .accept = stdio_accept,
    .close = stdio_close,
};

static void console_modes(bool raw)
{
    io.in_console = GetConsoleMode(io.in, &io.in_mode) != 0;
    io.out_console = GetConsoleMode(io.out, &io.out_mode) != 0;
    if (io.in_console) {
        DWORD cooked = ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT | ENABLE_MOUSE_INPUT | ENABLE_WINDOW_INPUT;
        DWORD mode = io.in_mode & ~(cooked | (raw ? ENABLE_PROCESSED_INPUT : 0));
        io.vt_input = SetConsoleMode(io.in, mode | ENABLE_VIRTUAL_TERMINAL_INPUT) != 0;
        if (!io.vt_input)
            SetConsoleMode(io.in, mode);
    }
    if (io.out_console)
        SetConsoleMode(io.out, io.out_mode | ENABLE_PROCESSED_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

Chardev *host_chardev_open(Machine *m, const char *label, const char *spec, Error *err)
{
    if (strcmp(spec, "stdio"))
        return strncmp(spec, "pipe:", 5) ? com_chr_open(m, label, spec, err) : pipe_chr_open(m, label, spec, err);
    if (io.open) {
        error_set(err, "stdio can be used once; mon:stdio shares it between a port and the monitor");
        return NULL;
    }
    io.open = true;
    chardev_init(&io.chr, &backend, m, label);
    if (io.input) /* closed and opened again: the threads are there */
        return &io.chr;
    io.in = GetStdHandle(STD_INPUT_HANDLE);
    io.out = GetStdHandle(STD_OUTPUT_HANDLE);
    console_modes(m->cfg.nographic);
    io.input = CreateEventW(NULL, FALSE, FALSE, NULL);
    io.room = CreateEventW(NULL, FALSE, FALSE, NULL);
    loop_add(io.input, on_input, NULL);
    loop_add(io.room, on_room, NULL);
    host_thread_start("stdin", reader, NULL);
    host_thread_start("stdout", writer, NULL);
    return &io.chr;
}
