/*
 * Firmware: the directories of -L first, then pc-bios beside the program, then what is embedded in the
 * program itself. A directory without the file is passed over: `-L .` in old batch files names a place that
 * need not have any.
 */
#include "win.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRMWARE_MAX = 16 << 20, DIRS_MAX = 9 };

typedef struct Loaded {
    struct Loaded *next;
    u8 *data;
    size_t size;
    char name[];
} Loaded;

static Loaded *loaded; /* files stay in memory: callers keep pointers into them */
static char *dir[DIRS_MAX];
static int dirs;

/* pc-bios beside the program, malloc'ed. */
static char *program_dir(void)
{
    static const wchar_t below[] = L"pc-bios";
    wchar_t path[4096];
    DWORD n = GetModuleFileNameW(NULL, path, ARRAY_LEN(path) - ARRAY_LEN(below));
    while (n && path[n - 1] != L'\\')
        n--;
    memcpy(path + n, below, sizeof below);
    return utf8_from_wide(path);
}

void resource_dirs(const Config *cfg)
{
    while (dirs)
        free(dir[--dirs]);
    for (size_t i = 0; i < ARRAY_LEN(cfg->firmware_dir) && cfg->firmware_dir[i]; i++) {
        dir[dirs] = strdup(cfg->firmware_dir[i]);
        dirs++;
    }
    dir[dirs++] = program_dir();
}

static bool from_dir(const char *path, const char *name, const void **data, size_t *size)
{
    char file[4096 * 3];
    Error err;
    int n = snprintf(file, sizeof file, "%s\\%s", path, name);
    if (n < 0 || (size_t)n >= sizeof file || !host_file_exists(file))
        return false;
    Loaded *l = malloc(sizeof *l + strlen(name) + 1);
    if (!l)
        abort();
    l->data = host_file_slurp(file, FIRMWARE_MAX, &l->size, &err);
    if (!l->data) {
        free(l);
        return false;
    }
    strcpy(l->name, name);
    l->next = loaded;
    loaded = l;
    *data = l->data;
    *size = l->size;
    return true;
}

static bool embedded(const char *name, const void **data, size_t *size)
{
    wchar_t *wide = wide_from_utf8(name);
    HRSRC found = FindResourceW(NULL, wide, (LPCWSTR)RT_RCDATA);
    free(wide);
    HGLOBAL memory = found ? LoadResource(NULL, found) : NULL;
    if (!memory)
        return false;
    *data = LockResource(memory);
    *size = SizeofResource(NULL, found);
    return true;
}

bool host_resource(const char *name, const void **data, size_t *size)
{
    for (const Loaded *l = loaded; l; l = l->next) {
        if (!strcmp(l->name, name)) {
            *data = l->data;
            *size = l->size;
            return true;
        }
    }
    for (int i = 0; i < dirs; i++) {
        if (from_dir(dir[i], name, data, size))
            return true;
    }
    return embedded(name, data, size);
}
