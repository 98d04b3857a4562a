/* Folders of the host: hostdir.h. Links (reparse points) and devices are left out. */
#include "win.h"

#include "../core/vm/hostdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct HostDir {
    HANDLE find;
    WIN32_FIND_DATAW data;
    bool has; /* data holds the next entry */
};

static bool fail(Error *err, const char *path, DWORD code)
{
    char reason[256];
    return error_set(err, "%.300s: %s", path, win_reason(code, reason, sizeof reason));
}

HostDir *host_dir_open(const char *path, Error *err)
{
    size_t n = strlen(path);
    char *all = malloc(n + 3);
    HostDir *d = calloc(1, sizeof *d);
    if (!all || !d)
        abort();
    snprintf(all, n + 3, "%s%s*", path, n && (path[n - 1] == '/' || path[n - 1] == '\\') ? "" : "\\");
    wchar_t *wide = wide_path(all);
    d->find = FindFirstFileW(wide, &d->data);
    DWORD code = GetLastError();
    free(wide);
    free(all);
    d->has = d->find != INVALID_HANDLE_VALUE;
    if (!d->has && code != ERROR_FILE_NOT_FOUND) {
        fail(err, path, code);
        free(d);
        return NULL;
    }
    return d;
}

bool host_dir_next(HostDir *d, HostDirEntry *out)
{
    const u64 epoch = 116444736000000000ull, ticks_s = 10000000; /* 1970 in ticks since 1601 */
    const DWORD others = FILE_ATTRIBUTE_REPARSE_POINT | FILE_ATTRIBUTE_DEVICE;
    while (d->has) {
        WIN32_FIND_DATAW data = d->data;
        d->has = FindNextFileW(d->find, &d->data);
        if (!wcscmp(data.cFileName, L".") || !wcscmp(data.cFileName, L"..") ||
            (data.dwFileAttributes & others))
            continue;
        char *name = utf8_from_wide(data.cFileName);
        snprintf(out->name, sizeof out->name, "%s", name);
        free(name);
        out->folder = data.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY;
        out->bytes = out->folder ? 0 : (u64)data.nFileSizeHigh << 32 | data.nFileSizeLow;
        u64 t = (u64)data.ftLastWriteTime.dwHighDateTime << 32 | data.ftLastWriteTime.dwLowDateTime;
        out->modified_s = t > epoch ? (s64)((t - epoch) / ticks_s) : 0;
        return true;
    }
    return false;
}

void host_dir_close(HostDir *d)
{
    if (d->find != INVALID_HANDLE_VALUE)
        FindClose(d->find);
    free(d);
}

bool host_dir_make(const char *path, Error *err)
{
    wchar_t *wide = wide_path(path);
    DWORD code = CreateDirectoryW(wide, NULL) ? 0 : GetLastError();
    free(wide);
    return code ? fail(err, path, code) : true;
}

bool host_dir_delete(const char *path, Error *err)
{
    wchar_t *wide = wide_path(path);
    DWORD code = RemoveDirectoryW(wide) ? 0 : GetLastError();
    free(wide);
    return code ? fail(err, path, code) : true;
}

bool host_file_rename(const char *from, const char *to, Error *err)
{
    wchar_t *a = wide_path(from), *b = wide_path(to);
    DWORD code = MoveFileExW(a, b, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) ? 0 : GetLastError();
    free(a);
    free(b);
    return code ? fail(err, to, code) : true;
}
