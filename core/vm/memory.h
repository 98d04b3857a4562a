/*
 * The guest's physical address space, and its I/O ports.
 *
 * All memory that a guest can own (RAM, ROM, video memory) lies in one arena; a page of it is known by its
 * arena page number, whatever physical addresses it shows at (shadow RAM, A20, aliases). Dirty bits and
 * "holds translated code" hang on that number. What shows where is a list of mappings with priorities,
 * compiled to one entry per 4 KiB page.
 *
 *      physical page ── mem_page() ──> MemPage { arena page, direct read/write? }  or  an MMIO region
 *
 * Threads: mem_page() and the arena may be read by the vCPU thread without the lock; everything else wants
 * the machine lock.
 */
#ifndef VM_MEMORY_H
#define VM_MEMORY_H

#include "types.h"

typedef struct Machine Machine;
typedef struct Memory Memory;
typedef struct MemRegion MemRegion;

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096u
#define PAGE_MASK 4095u
#define MEM_NO_PAGE 0xffffffffu

/* MMIO handlers. Machine lock held; offset is within the region and aligned to size. The bus splits and
 * merges accesses so that handlers only see sizes min..max (1, 2, 4 or 8 bytes). Unmapped addresses read
 * as all ones. */
typedef struct {
    u64 (*read)(void *opaque, u64 offset, unsigned size);
    void (*write)(void *opaque, u64 offset, u64 value, unsigned size);
    u8 min, max;
} MmioOps;

typedef struct {
    u32 page;               /* arena page, MEM_NO_PAGE where there is no memory */
    u8 direct_read;         /* loads may go straight to the arena */
    u8 direct_write;        /* so may stores (0: ROM, write goes to MMIO or nowhere) */
    u16 region;             /* index for mem_region_of(); 0: nothing is mapped */
} MemPage;

/* ---- set-up by the board and devices ---- */
/* Makes m->io as well. arena_bytes: room for everything mem_ram() will make. NULL: out of memory. */
Memory *memory_create(Machine *m, u64 arena_bytes);
void memory_destroy(Memory *mem);
MemRegion *mem_ram(Memory *mem, const char *name, u64 bytes);
MemRegion *mem_mmio(Memory *mem, const char *name, u64 bytes, const MmioOps *ops, void *opaque);
u8 *mem_ram_ptr(MemRegion *r);                              /* host address of its first byte; not for MMIO */
u64 mem_region_size(const MemRegion *r);
const char *mem_region_name(const MemRegion *r);
MemRegion *mem_ram_region(Memory *mem, unsigned n);         /* the n-th that mem_ram() made; NULL: no more */
u32 mem_region_page(const MemRegion *r);                    /* its first arena page; not for MMIO */

/*
 * Shows `bytes` of region r, from `offset`, at physical `addr`. Higher priority hides lower. addr, offset and
 * bytes are multiples of PAGE_SIZE. Flags say which accesses it catches: a mapping may catch only reads or
 * only writes (PAM: read ROM, write RAM); what it does not catch goes to the next lower one. MEM_ROM: reads
 * hit, writes are swallowed. Returns a handle > 0 for mem_unmap(). Each change flushes the CPU's TLB before
 * the next guest instruction.
 */
enum { MEM_R = 1, MEM_W = 2, MEM_RW = 3, MEM_ROM = 4 };
int mem_map(Memory *mem, MemRegion *r, u64 addr, u64 offset, u64 bytes, int priority, unsigned flags);
void mem_unmap(Memory *mem, int handle);                    /* 0 is allowed and does nothing */
/* for `info mtree` */
void mem_list(Memory *mem, void (*print)(void *opaque, const char *line), void *opaque);

/* ---- look-up: the vCPU ---- */
MemPage mem_page(const Memory *mem, u64 addr);              /* addr up to 2^40 */
u8 *mem_arena(const Memory *mem);
u32 mem_arena_pages(const Memory *mem);
u8 *mem_page_flags(const Memory *mem);                      /* one byte an arena page, bits below */
/*
 * DIRTY: written since a snapshot took the bit away. CODE: translated code exists; stores must tell the CPU.
 * HELD: a snapshot has still to copy what is there, ABSENT: a snapshot has still to fill it. Whoever looks a
 * page up gets it settled first: `settle` is called, on the thread that looks, with or without the lock, and
 * takes both bits away. Only RAM that nobody reaches but through this header may have them.
 */
enum { PAGE_DIRTY = 1, PAGE_CODE = 2, PAGE_HELD = 4, PAGE_ABSENT = 8 };
void mem_on_settle(Memory *mem, void (*settle)(void *opaque, u32 page), void *opaque);

/* One aligned-or-not access of 1, 2, 4 or 8 bytes as the bus sees it: RAM, ROM, MMIO or nothing. May cross
 * pages. */
u64 mem_bus_read(Memory *mem, u64 addr, unsigned size);
void mem_bus_write(Memory *mem, u64 addr, u64 value, unsigned size);

/* ---- DMA: devices ----
 * Any address and length. RAM is copied and marked dirty, translated code in it is
 * invalidated; MMIO gets accesses of 4 (or fewer) bytes unless a handler is already running (then reads
 * give ones and writes are dropped: no re-entry). */
void mem_dma_read(Memory *mem, u64 addr, void *buf, u64 bytes);
void mem_dma_write(Memory *mem, u64 addr, const void *buf, u64 bytes);
static inline u32 mem_read32(Memory *mem, u64 addr) { u32 v = 0; mem_dma_read(mem, addr, &v, 4); return v; }

/* ---- I/O ports ----
 * Handlers: machine lock held; port is absolute. The sizes (1|2|4, or'ed) are those
 * the handler takes; the bus splits larger accesses into ports of the handler's largest size, and unmapped
 * ports read as ones. Ranges may overlap an older one: the newest wins until it is removed. */
typedef struct {
    u32 (*read)(void *opaque, u32 port, unsigned size);             /* NULL: reads as ones */
    void (*write)(void *opaque, u32 port, u32 value, unsigned size);/* NULL: ignored */
    u8 sizes;
} PortOps;
/* handle > 0 */
int port_map(Machine *m, const char *name, u32 first, u32 count, const PortOps *ops, void *opaque);
void port_unmap(Machine *m, int handle);
u32 port_read(Machine *m, u32 port, unsigned size);
void port_write(Machine *m, u32 port, u32 value, unsigned size);
void port_list(Machine *m, void (*print)(void *opaque, const char *line), void *opaque);

#endif
