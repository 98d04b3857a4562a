/* Pages of memory for the guest and for translated code. */
#include "win.h"

#include <string.h>

void *host_pages_alloc(u64 bytes)
{
    return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

/* Decommitting and committing again gives the memory back, and costs two system calls: not worth it for a
 * little. */
void host_pages_zero(void *p, u64 bytes)
{
    enum { SMALL = 64 * 1024 };
    if (bytes > SMALL && VirtualFree(p, bytes, MEM_DECOMMIT) &&
        VirtualAlloc(p, bytes, MEM_COMMIT, PAGE_READWRITE))
        return;
    memset(p, 0, bytes);
}

void host_pages_free(void *p, u64 bytes)
{
    (void)bytes;
    VirtualFree(p, 0, MEM_RELEASE);
}

void *host_code_alloc(u64 bytes)
{
    return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_EXECUTE_READWRITE);
}

void host_code_free(void *p, u64 bytes)
{
    host_pages_free(p, bytes);
}
