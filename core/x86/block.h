/*
 * Translation blocks: where they are, who jumps to whom, which guest bytes they were made from. vCPU thread
 * only.
 *
 * A block's key is (arena page, offset, EIP, context); a context is a number for (mode, CS base, CS limit).
 * EIPs stand in the code as immediates. Blocks, their exits and side tables lie in a bump arena beside the
 * code; both are dropped whole when full.
 *
 * The jump cache is what translated code itself looks into at indirect jumps: indexed by the low bits of EIP.
 *
 * A block has three entries, and who jumps to it takes the one that checks what must be checked on that way:
 *   ENTRY_PAGE    from another page, by an indirect jump or a return: is this page still mapped here? then
 *   ENTRY_POLL    from behind in the same page, and by calls: attention, depth of nested calls; then
 *   ENTRY_PLAIN   everything else
 * So the jumps themselves are single host jumps. A failed check goes to the dispatcher.
 */
#ifndef X86_BLOCK_H
#define X86_BLOCK_H

#include "insn.h"

enum {
    CODE_CACHE_BYTES = 64 << 20,
    BLOCK_ARENA_BYTES = 64 << 20,
    BLOCK_MAX_CODE = 64 << 10,          /* no block's code is longer */
    BLOCK_MAX_INSNS = 64,
    BLOCK_MAX_JUMPS = 22,               /* conditional ones */
    BLOCK_MAX_EXITS = 36,               /* and a call's two, and the groups' */
    JUMP_CACHE_SIZE = 1 << 14,
    JUMP_CACHE_ENTRY_SHIFT = 5,
};
enum { ENTRY_PLAIN, ENTRY_POLL, ENTRY_PAGE, ENTRY_COUNT };

/* A direct jump out of a block. Not linked: `patch` leads to the stub. */
typedef struct Exit {
    u32 eip;
    u16 entry;                          /* ENTRY_* of the target that it may jump to */
    bool single;                        /* a group's check failed: to a block without groups */
    u8 *patch;                          /* rel32 of the jump */
    u8 *stub;
    struct Block *from, *to;
    struct Exit *next_incoming;
} Exit;

/* A place in guest code that is written again and again: patch.c. In a block: an immediate that it reads from
 * guest memory, so that a change of these bytes does not concern it. */
typedef struct { u32 page; u16 offset; u8 bytes, count; } PatchedPlace;
typedef struct { u16 offset; u8 bytes; } BlockPatch;
enum { PATCHED_PLACES = 1024, FREE_PLACES = 64, BLOCK_MAX_PATCHES = 4 };

/* Where a host fault may happen, which guest instruction that is, and the x87 instruction before it whose
 * pointers were not yet stored (x87_what 0: none). */
typedef struct { u32 host_offset, eip, x87_eip, x87_what; } FaultEntry;

struct Block {
    u32 eip, context;
    u32 page, page2;                    /* page2: MEM_NO_PAGE unless its only instruction crosses the page */
    u16 offset, bytes;                  /* of the guest code; bytes may go past the page's end */
    u16 exit_count, fault_count;
    bool dead;
    bool unlinked;                      /* never chained to: single step, or runs once */
    u8 patch_count;
    BlockPatch patch[BLOCK_MAX_PATCHES];
    bool once;                          /* code from outside memory: not in any table */
    u8 *code;                           /* first byte; the entries lie behind it */
    u8 *entry[ENTRY_COUNT];
    u32 code_bytes, insn_count;
    Block *hash_next, *page_next, *page2_next;
    Exit *exits, *incoming;
    FaultEntry *faults;
};

/* Translated code reads key (context << 32 | eip, 0: empty) and code; page: arena page + 1, as in
 * TlbSet.exec. */
typedef struct {
    u64 key;
    u8 *code;                           /* ENTRY_PAGE */
    Block *block;
    u32 linear_page, page;
} JumpCacheEntry;

enum {
    STAT_BLOCKS, STAT_INSNS, STAT_GUEST_BYTES, STAT_HOST_BYTES, STAT_KILLED, STAT_DROPS,
    STAT_LOOKUPS, STAT_LINKS, STAT_EXIT_LINK, STAT_EXIT_OTHER, STAT_FAULTS, STAT_HOST_FAULTS,
    STAT_SERVICES, STAT_STORES_TO_CODE,
};

/* Thunks: the code between translated code and C, made once by thunk.c. */
typedef struct {
    void (HELPER *enter)(Cpu *cpu, const u8 *code);
    u8 *helper, *prepare, *commit, *link, *exit, *jump, *host_fault;
    u8 *rep[2][3][2];                   /* REP MOVS, REP STOS; by log2 of the size; flags kept */
} Thunks;

typedef struct { u32 mode, cs_base, cs_limit; u32 next; } Context;
/* CONTEXT_SINGLE: part of a block's context if it checks each memory operand by itself. */
enum { CONTEXT_SINGLE = 1 << 16 };
enum { MAX_CONTEXTS = 4096, CONTEXT_HASH = 1024, BLOCK_HASH = 1 << 16 };

struct BlockCache {
    u8 *code, *code_end, *code_next, *code_first;   /* code_first: behind the thunks */
    u8 *arena, *arena_next;
    Thunks thunk;
    JumpCacheEntry *jump_cache;
    Block **hash;
    Block **page_blocks;                /* by arena page */
    u64 *granules;                      /* by arena page: 64-byte pieces that hold translated code */
    Block **by_address;                 /* in order of their code: for host faults */
    u32 block_count, block_capacity;
    Context context[MAX_CONTEXTS];
    u32 context_hash[CONTEXT_HASH];     /* first of a chain, 0: none */
    u32 context_count;                  /* number 0 is not used */
    u32 context_now;
    PatchedPlace patched[PATCHED_PLACES];
    PatchedPlace free_places[FREE_PLACES];          /* no living block holds these bytes */
    bool drop_pending;                  /* all blocks are dead; memory is reused at the next translation */
    u32 fault_vector;                   /* of the host fault at work */
};

/* cpu->scratch: what translated code and thunks keep there. */
enum { SCRATCH_R10, SCRATCH_LINK, SCRATCH_CONTEXT, SCRATCH_JUMP_CACHE, SCRATCH_FLAGS, SCRATCH_UNALIGNED,
       SCRATCH_RSP };

bool blocks_create(Cpu *cpu, Error *err);
void blocks_destroy(Cpu *cpu);
u32 blocks_context(Cpu *cpu);           /* of the CPU as it stands */
Block *blocks_find(BlockCache *bc, u32 page, u32 offset, u32 eip, u32 context);
void blocks_begin(Cpu *cpu);            /* before a translation: makes room */
void *blocks_alloc(BlockCache *bc, size_t bytes);
void blocks_add(Cpu *cpu, Block *b);
void blocks_link(Cpu *cpu, Exit *e, Block *to);
Block *blocks_at(BlockCache *bc, const u8 *host_pc);

void patch_count(BlockCache *bc, u32 page, u32 offset, u32 bytes);      /* a store killed blocks */
bool patch_is_hot(BlockCache *bc, u32 page, u32 offset, u32 bytes);
void patch_set_free(BlockCache *bc, u32 page, u32 offset, u32 bytes);
bool patch_is_free(BlockCache *bc, u32 page, u32 offset, u32 bytes);
bool patch_concerns(const Block *b, u32 page, u32 offset, u32 bytes);   /* a change there kills the block */
void patch_block_added(BlockCache *bc, const Block *b, u32 page, u32 offset, u32 bytes);
void thunks_make(Cpu *cpu);             /* thunk.c */

#endif
