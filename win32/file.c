/*
 * Files, blocking: opening, sizes, whole reads and writes for start-up and tools. All handles are overlapped,
 * since file_io.c uses the same ones.
 *
 * Who opens a file for writing lets nobody else write it; who only reads lets others do what they want.
 */
#include "win.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct HostFile {
    HANDLE handle;
};

HANDLE file_handle(HostFile *f)
{
    return f->handle;
}

static bool fail(Error *err, const char *what, DWORD code)
{
    char reason[256];
    return error_set(err, "%s: %s", what, win_reason(code, reason, sizeof reason));
}

static HANDLE open_temporary(DWORD *code)
{
    wchar_t dir[MAX_PATH + 1], path[MAX_PATH + 1];
    DWORD n = GetTempPathW(ARRAY_LEN(dir), dir);
    if (!n || n >= ARRAY_LEN(dir) || !GetTempFileNameW(dir, L"qem", 0, path)) {
        *code = GetLastError();
        return INVALID_HANDLE_VALUE;
    }
    HANDLE h = CreateFileW(path, GENERIC_READ | GENERIC_WRITE | DELETE, 0, NULL, CREATE_ALWAYS,
                           FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE | FILE_FLAG_OVERLAPPED, NULL);
    *code = GetLastError();
    if (h == INVALID_HANDLE_VALUE)
        DeleteFileW(path);
    return h;
}

static HANDLE open_named(const char *path, unsigned flags, DWORD *code)
{
    wchar_t *wide = wide_path(path);
    DWORD access = (flags & HOST_READ ? GENERIC_READ : 0) | (flags & HOST_WRITE ? GENERIC_WRITE : 0);
    DWORD share =
        flags & HOST_WRITE ? FILE_SHARE_READ : FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    DWORD how = flags & HOST_CREATE ? CREATE_ALWAYS : OPEN_EXISTING;
    HANDLE h =
        CreateFileW(wide, access, share, NULL, how, FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OVERLAPPED, NULL);
    *code = GetLastError();
    DWORD attributes = h == INVALID_HANDLE_VALUE ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY))
        *code = ERROR_DIRECTORY; /* Windows says "access denied", which misleads */
    free(wide);
    return h;
}

HostFile *host_file_open(const char *path, unsigned flags, Error *err)
{
    DWORD code;
    HANDLE h = flags & HOST_TEMP ? open_temporary(&code) : open_named(path, flags, &code);
    if (h == INVALID_HANDLE_VALUE) {
        if (flags & HOST_TEMP)
            fail(err, "temporary file", code);
        else if (code == ERROR_DIRECTORY)
            error_set(err, "%s: is a directory", path);
        else
            fail(err, path, code);
        return NULL;
    }
    if (!(flags & HOST_TEMP) && GetFileType(h) != FILE_TYPE_DISK) {
        CloseHandle(h);
        error_set(err, "%s: is a device, not a file", path);
        return NULL;
    }
    HostFile *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->handle = h;
    return f;
}

void host_file_close(HostFile *f)
{
    CloseHandle(f->handle);
    free(f);
}

u64 host_file_size(HostFile *f)
{
    LARGE_INTEGER size;
    return GetFileSizeEx(f->handle, &size) ? (u64)size.QuadPart : 0;
}

bool host_file_resize(HostFile *f, u64 bytes, Error *err)
{
    FILE_END_OF_FILE_INFO end = {.EndOfFile.QuadPart = (LONGLONG)bytes};
    if (SetFileInformationByHandle(f->handle, FileEndOfFileInfo, &end, sizeof end))
        return true;
    return fail(err, "resize", GetLastError());
}

typedef BOOL WINAPI Transfer(HANDLE, void *, DWORD, DWORD *, OVERLAPPED *);

static BOOL WINAPI transfer_write(HANDLE h, void *buf, DWORD bytes, DWORD *done, OVERLAPPED *o)
{
    return WriteFile(h, buf, bytes, done, o);
}

/* Whole or failed, in pieces of at most 1 GiB. */
static bool transfer(HostFile *f, Transfer *go, const char *what, u64 offset, u8 *buf, size_t bytes,
                     Error *err)
{
    const size_t piece_max = (size_t)1 << 30;
    OVERLAPPED o = {.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL)};
    DWORD code = o.hEvent ? 0 : GetLastError(), n;
    while (!code && bytes) {
        DWORD piece = (DWORD)(bytes < piece_max ? bytes : piece_max);
        o.Offset = (DWORD)offset;
        o.OffsetHigh = (DWORD)(offset >> 32);
        if (!go(f->handle, buf, piece, NULL, &o) && GetLastError() != ERROR_IO_PENDING)
            code = GetLastError();
        else if (!GetOverlappedResult(f->handle, &o, &n, TRUE))
            code = GetLastError();
        else if (n == 0)
            code = ERROR_HANDLE_EOF;
        if (!code) {
            buf += n;
            offset += n;
            bytes -= n;
        }
    }
    if (o.hEvent)
        CloseHandle(o.hEvent);
    return code ? fail(err, what, code) : true;
}

bool host_file_read(HostFile *f, u64 offset, void *buf, size_t bytes, Error *err)
{
    return transfer(f, ReadFile, "read", offset, buf, bytes, err);
}

bool host_file_write(HostFile *f, u64 offset, const void *buf, size_t bytes, Error *err)
{
    return transfer(f, transfer_write, "write", offset, (u8 *)buf, bytes, err);
}

u8 *host_file_slurp(const char *path, size_t max, size_t *size, Error *err)
{
    HostFile *f = host_file_open(path, HOST_READ, err);
    if (!f)
        return NULL;
    u64 bytes = host_file_size(f);
    u8 *data = NULL;
    if (bytes > max) {
        error_set(err, "%s: larger than %llu bytes", path, (unsigned long long)max);
    } else if (!(data = malloc(bytes + 1))) {
        error_set(err, "%s: out of memory", path);
    } else if (!host_file_read(f, 0, data, bytes, err)) {
        error_prefix(err, "%s", path);
        free(data);
        data = NULL;
    } else {
        data[bytes] = 0;
        *size = bytes;
    }
    host_file_close(f);
    return data;
}

bool host_file_exists(const char *path)
{
    wchar_t *wide = wide_path(path);
    DWORD attributes = GetFileAttributesW(wide);
    free(wide);
    return attributes != INVALID_FILE_ATTRIBUTES;
}
