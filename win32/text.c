/* Text towards Windows: UTF-8 and UTF-16, file names, reasons of errors. */
#include "win.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *get(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p)
        abort();
    return p;
}

wchar_t *wide_from_utf8(const char *s)
{
    int n = MultiByteToWideChar(CP_UTF8, 0, s, -1, NULL, 0);
    wchar_t *w = get((size_t)(n > 0 ? n : 1) * sizeof *w);
    if (n <= 0 || !MultiByteToWideChar(CP_UTF8, 0, s, -1, w, n))
        w[0] = 0;
    return w;
}

char *utf8_from_wide(const wchar_t *s)
{
    int n = WideCharToMultiByte(CP_UTF8, 0, s, -1, NULL, 0, NULL, NULL);
    char *u = get((size_t)(n > 0 ? n : 1));
    if (n <= 0 || !WideCharToMultiByte(CP_UTF8, 0, s, -1, u, n, NULL, NULL))
        u[0] = 0;
    return u;
}

/* The \\?\ form takes absolute names only and switches off all other interpretation: names that are short
 * stay as they are. */
wchar_t *wide_path(const char *path)
{
    wchar_t *w = wide_from_utf8(path);
    if (wcslen(w) < MAX_PATH - 12 || !wcsncmp(w, L"\\\\?\\", 4) || !wcsncmp(w, L"\\\\.\\", 4))
        return w;
    DWORD n = GetFullPathNameW(w, 0, NULL, NULL);
    wchar_t *full = get((n + 9) * sizeof *full);
    wchar_t *at = full + 8; /* room for \\?\UNC\ in front */
    DWORD got = n ? GetFullPathNameW(w, n + 1, at, NULL) : 0;
    if (!got || got > n) {
        free(full);
        return w;
    }
    bool unc = !wcsncmp(at, L"\\\\", 2);
    const wchar_t *prefix = unc ? L"\\\\?\\UNC\\" : L"\\\\?\\";
    at += unc ? 2 : 0; /* \\server\share becomes \\?\UNC\server\share */
    at -= wcslen(prefix);
    memcpy(at, prefix, wcslen(prefix) * sizeof *at);
    memmove(full, at, (wcslen(at) + 1) * sizeof *at);
    free(w);
    return full;
}

const char *win_reason(DWORD code, char *buf, size_t size)
{
    static const struct {
        DWORD code;
        const char *text;
    } known[] = {
        {ERROR_FILE_NOT_FOUND, "no such file"},
        {ERROR_PATH_NOT_FOUND, "no such directory"},
        {ERROR_BAD_NETPATH, "no such network path"},
        {ERROR_INVALID_NAME, "not a valid file name"},
        {ERROR_ACCESS_DENIED, "access denied"},
        {ERROR_SHARING_VIOLATION, "in use by another program"},
        {ERROR_LOCK_VIOLATION, "locked by another program"},
        {ERROR_WRITE_PROTECT, "write-protected"},
        {ERROR_DISK_FULL, "the disk is full"},
        {ERROR_HANDLE_DISK_FULL, "the disk is full"},
        {ERROR_FILE_TOO_LARGE, "too large for this file system"},
        {ERROR_HANDLE_EOF, "end of file"},
        {ERROR_NOT_READY, "the drive is not ready"},
        {ERROR_NOT_ENOUGH_MEMORY, "out of memory"},
        {ERROR_OUTOFMEMORY, "out of memory"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].code == code) {
            snprintf(buf, size, "%s", known[i].text);
            return buf;
        }
    }
    wchar_t text[256];
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK;
    DWORD n = FormatMessageW(flags, NULL, code, MAKELANGID(LANG_ENGLISH, SUBLANG_ENGLISH_US), text,
                             ARRAY_LEN(text), NULL);
    if (!n) /* a Windows without English texts */
        n = FormatMessageW(flags, NULL, code, 0, text, ARRAY_LEN(text), NULL);
    while (n && wcschr(L" .\r\n", text[n - 1]))
        n--;
    if (!n) {
        snprintf(buf, size, "Windows error %lu", code);
        return buf;
    }
    text[n] = 0;
    char *u = utf8_from_wide(text);
    snprintf(buf, size, "%s (Windows error %lu)", u, code);
    free(u);
    return buf;
}
