/* Whole files into memory, over the host's files. */
#include "host.h"

#include <stdlib.h>

u8 *host_file_slurp(const char *path, size_t max, size_t *size, Error *err)
{
    HostFile *f = host_file_open(path, HOST_READ, err);
    u64 bytes = f ? host_file_size(f) : 0;
    u8 *data = NULL;

    if (!f)
        return NULL;
    if (bytes > max) {
        error_set(err, "%.300s: larger than %llu bytes", path, (unsigned long long)max);
    } else if (!(data = malloc(bytes + 1))) {
        error_set(err, "%.300s: out of memory", path);
    } else if (bytes && !host_file_read(f, 0, data, bytes, err)) {
        error_prefix(err, "%.300s", path);
        free(data);
        data = NULL;
    } else {
        data[bytes] = 0;
        *size = bytes;
    }
    host_file_close(f);
    return data;
}
