/* The log: one line at a time, to stderr or a file, from any thread (stdio locks the stream). */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

u32 log_mask;
static FILE *log_file;

static const struct { const char *name; u32 bit; } categories[] = {
    { "guest_errors", LOG_GUEST }, { "int", LOG_INT }, { "cpu_reset", LOG_CPU_RESET },
    { "in_asm", LOG_IN_ASM }, { "out_asm", LOG_OUT_ASM }, { "ioport", LOG_IOPORT },
    { "exec", LOG_EXEC }, { "cpu", LOG_CPU }, { "mmu", LOG_MMU },
    { "unimp", LOG_UNIMP },
};

static void write_line(const char *fmt, va_list args)
{
    char line[1024];
    FILE *out = log_file ? log_file : stderr;

    vsnprintf(line, sizeof(line), fmt, args);
    fprintf(out, "%s\n", line);
    fflush(out);
}

void log_line(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_line(fmt, args);
    va_end(args);
}

void log_once(bool *said, const char *fmt, ...)
{
    va_list args;

    if (*said)
        return;
    *said = true;
    va_start(args, fmt);
    write_line(fmt, args);
    va_end(args);
}

bool log_to_file(const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f)
        return false;
    if (log_file)
        fclose(log_file);
    log_file = f;
    return true;
}

static bool parse_one(const char *name, size_t len, u32 *mask)
{
    if (len == 3 && !memcmp(name, "all", 3)) {
        *mask = ~0u;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(categories); i++) {
        if (strlen(categories[i].name) == len && !memcmp(categories[i].name, name, len)) {
            *mask |= categories[i].bit;
            return true;
        }
    }
    return false;
}

bool log_parse(const char *list, u32 *mask)
{
    *mask = 0;
    while (*list) {
        size_t len = strcspn(list, ",");

        if (!parse_one(list, len, mask))
            return false;
        list += len;
        if (*list == ',')
            list++;
    }
    return true;
}

const char *log_names(void)
{
    return "guest_errors,int,cpu_reset,in_asm,out_asm,ioport,exec,cpu,mmu,unimp,all";
}
