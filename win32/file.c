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
#include <wctype.h>
#include <winioctl.h>

struct HostFile {
    HANDLE handle;
    bool sparse;
    DWORD sector;     /* a disk or drive: reads and writes are in these; 0: a file */
    u64 device_bytes; /* a disk or drive: its size */
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

/* DeviceIoControl on an overlapped handle, waited for. Returns the bytes that came back, or -1. */
static int control(HANDLE h, DWORD what, void *in, DWORD in_bytes, void *out, DWORD out_bytes)
{
    OVERLAPPED o = {.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL)};
    DWORD n = 0;
    BOOL ok = o.hEvent && DeviceIoControl(h, what, in, in_bytes, out, out_bytes, &n, &o);
    DWORD code = GetLastError();
    if (o.hEvent && !ok && (code == ERROR_IO_PENDING || code == ERROR_MORE_DATA)) {
        ok = GetOverlappedResult(h, &o, &n, TRUE);
        ok = ok || GetLastError() == ERROR_MORE_DATA;
        code = GetLastError();
    }
    if (o.hEvent)
        CloseHandle(o.hEvent);
    SetLastError(code);
    return ok ? (int)n : -1;
}

/* ---- disks and drives ---- */

static bool first_cdrom(wchar_t *name)
{
    for (wchar_t letter = L'A'; letter <= L'Z'; letter++) {
        wchar_t root[] = {letter, L':', L'\\', 0};
        if (GetDriveTypeW(root) == DRIVE_CDROM) {
            wsprintfW(name, L"\\\\.\\%c:", letter);
            return true;
        }
    }
    return false;
}

/* d: and /dev/cdrom become what CreateFile wants; false: the name of a file. */
static bool device_name(const wchar_t *path, wchar_t *name, size_t size)
{
    if (!wcscmp(path, L"/dev/cdrom"))
        return first_cdrom(name);
    if (iswalpha(path[0]) && path[1] == L':' && !path[2]) {
        wsprintfW(name, L"\\\\.\\%c:", path[0]);
        return true;
    }
    if ((wcsncmp(path, L"\\\\.\\", 4) && wcsncmp(path, L"//./", 4)) || wcslen(path) >= size)
        return false;
    wcscpy(name, path);
    wcsncpy(name, L"\\\\.\\", 4);
    return true;
}

/* Only disks and drives have such a length. */
static void ask_device(HostFile *f)
{
    GET_LENGTH_INFORMATION length;
    DISK_GEOMETRY geometry;
    if (control(f->handle, IOCTL_DISK_GET_LENGTH_INFO, NULL, 0, &length, sizeof length) < 0)
        return;
    f->device_bytes = (u64)length.Length.QuadPart;
    f->sector = 512;
    if (control(f->handle, IOCTL_DISK_GET_DRIVE_GEOMETRY, NULL, 0, &geometry, sizeof geometry) >= 0 &&
        geometry.BytesPerSector >= 512 && geometry.BytesPerSector <= 65536)
        f->sector = geometry.BytesPerSector;
}

static HANDLE open_device(const wchar_t *name, unsigned flags, DWORD *code)
{
    DWORD access = GENERIC_READ | (flags & HOST_WRITE ? GENERIC_WRITE : 0);
    HANDLE h = CreateFileW(name, access, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                           FILE_FLAG_OVERLAPPED, NULL);
    *code = GetLastError();
    return h;
}

static HANDLE open_named(const char *path, unsigned flags, DWORD *code)
{
    wchar_t *wide = wide_path(path), device[64];
    if (device_name(wide, device, ARRAY_LEN(device))) {
        free(wide);
        return open_device(device, flags, code);
    }
    DWORD access = (flags & HOST_READ ? GENERIC_READ : 0) | (flags & HOST_WRITE ? GENERIC_WRITE : 0);
    DWORD share =
        flags & HOST_WRITE ? FILE_SHARE_READ : FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    DWORD how = flags & HOST_CREATE ? CREATE_ALWAYS : OPEN_EXISTING;
    HANDLE h =
        CreateFileW(wide, access, share, NULL, how, FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OVERLAPPED, NULL);
    *code = GetLastError();
    if (h != INVALID_HANDLE_VALUE && (flags & HOST_SPARSE))
        control(h, FSCTL_SET_SPARSE, NULL, 0, NULL, 0); /* FAT can't: then the file is as long as it is */
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
    ask_device(f);
    BY_HANDLE_FILE_INFORMATION info;
    f->sparse = GetFileInformationByHandle(h, &info) &&
                (info.dwFileAttributes & FILE_ATTRIBUTE_SPARSE_FILE);
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
    if (f->sector)
        return f->device_bytes;
    return GetFileSizeEx(f->handle, &size) ? (u64)size.QuadPart : 0;
}

u64 host_file_allocated(HostFile *f)
{
    FILE_STANDARD_INFO info;
    return GetFileInformationByHandleEx(f->handle, FileStandardInfo, &info, sizeof info)
               ? (u64)info.AllocationSize.QuadPart
               : 0;
}

void host_file_next_data(HostFile *f, u64 offset, u64 *from, u64 *to)
{
    u64 size = host_file_size(f);
    FILE_ALLOCATED_RANGE_BUFFER ask, got;
    *from = offset < size ? offset : size;
    *to = size;
    if (!f->sparse || offset >= size)
        return;
    ask.FileOffset.QuadPart = (LONGLONG)offset;
    ask.Length.QuadPart = (LONGLONG)(size - offset);
    int n = control(f->handle, FSCTL_QUERY_ALLOCATED_RANGES, &ask, sizeof ask, &got, sizeof got);
    if (n < 0)
        return; /* a file system that does not tell: all is data */
    u64 start = n ? (u64)got.FileOffset.QuadPart : size;
    u64 end = n ? start + (u64)got.Length.QuadPart : size;
    if (n && (start >= size || end <= offset || end < start))
        return;
    *from = start > offset ? start : offset;
    *to = end < size ? end : size;
}

bool host_file_zero(HostFile *f, u64 offset, u64 bytes, Error *err)
{
    static const u8 zeros[65536];
    FILE_ZERO_DATA_INFORMATION range;
    range.FileOffset.QuadPart = (LONGLONG)offset;
    range.BeyondFinalZero.QuadPart = (LONGLONG)(offset + bytes);
    if (control(f->handle, FSCTL_SET_ZERO_DATA, &range, sizeof range, NULL, 0) >= 0)
        return true;
    for (u64 n; bytes; offset += n, bytes -= n) {
        n = bytes < sizeof zeros ? bytes : sizeof zeros;
        if (!host_file_write(f, offset, zeros, n, err))
            return false;
    }
    return true;
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

static bool transfer(HostFile *f, Transfer *go, const char *what, u64 offset, u8 *buf, size_t bytes,
                     Error *err);

/* A part of a disk's sectors: they are read whole. */
static bool read_part(HostFile *f, u64 offset, void *buf, size_t bytes, Error *err)
{
    u64 from = offset / f->sector * f->sector, end = (offset + bytes + f->sector - 1) / f->sector * f->sector;
    u8 *all = malloc(end - from);
    bool ok = all && transfer(f, ReadFile, "read", from, all, end - from, err);
    if (ok)
        memcpy(buf, all + (offset - from), bytes);
    free(all);
    return ok;
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
    if (f->sector && (offset % f->sector || bytes % f->sector))
        return read_part(f, offset, buf, bytes, err);
    return transfer(f, ReadFile, "read", offset, buf, bytes, err);
}

bool host_file_write(HostFile *f, u64 offset, const void *buf, size_t bytes, Error *err)
{
    return transfer(f, transfer_write, "write", offset, (u8 *)buf, bytes, err);
}

bool host_file_delete(const char *path, Error *err)
{
    wchar_t *wide = wide_path(path);
    DWORD code = DeleteFileW(wide) ? 0 : GetLastError();
    free(wide);
    return code ? fail(err, path, code) : true;
}

void host_list_folder(const char *folder, void (*each)(void *opaque, const char *name, bool is_folder), void *opaque)
{
    char pattern[600];
    WIN32_FIND_DATAW found;
    snprintf(pattern, sizeof pattern, "%s*", folder);
    wchar_t *wide = wide_from_utf8(pattern);
    HANDLE h = FindFirstFileW(wide, &found);
    free(wide);
    if (h == INVALID_HANDLE_VALUE)
        return;
    do {
        char *name = utf8_from_wide(found.cFileName);
        if (name[0] != '.')
            each(opaque, name, found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY);
        free(name);
    } while (FindNextFileW(h, &found));
    FindClose(h);
}

bool host_file_exists(const char *path)
{
    wchar_t *wide = wide_path(path);
    DWORD attributes = GetFileAttributesW(wide);
    free(wide);
    return attributes != INVALID_FILE_ATTRIBUTES;
}
