/*
 * The translator's driver: decodes a block within one guest page, finds which flags are wanted where, has
 * each instruction translated, and makes the exits. See translate.h; the instructions themselves are in
 * translate_op.c.
 *
 * A block goes on behind conditional jumps that aren't taken. It ends at other transfers, at the page's end,
 * after 64 instructions, before an instruction that crosses the page. One that crosses is a block of its own
 * that the dispatcher checks each time.
 */
#include "helpers.h"
#include "translate.h"

#include "../vm/log.h"

#include <assert.h>
#include <string.h>

/* ---- exits ---- */

static void leave_unlinked(Tr *t, u32 eip)
{
    emit_store_imm32(&t->c, CPU_FIELD(s.eip), eip);
    emit_jmp_to(&t->c, t->cpu->blocks->thunk.exit);
}

static bool same_page(const Tr *t, u32 eip) { return (t->cs_base + eip) >> PAGE_SHIFT == t->linear_page; }
static bool linkable(const Tr *t, u32 eip)
{
    return !t->b->unlinked && eip <= t->cs_limit && t->exit_count < BLOCK_MAX_EXITS;
}

static void new_exit(Tr *t, const Insn *n, u32 eip, u8 *patch)
{
    u32 entry = !same_page(t, eip) ? ENTRY_PAGE : eip <= n->eip ? ENTRY_POLL : ENTRY_PLAIN;
    t->exit[t->exit_count++] = (Exit){ .eip = eip, .entry = entry, .patch = patch };
}

/* A jump out of the code segment faults where it stands; running out of it, at the next instruction. */
static void leave_unlinkable(Tr *t, const Insn *n, u32 eip)
{
    if (eip > t->cs_limit && eip != n->eip + n->len)
        emit_helper(t, n, helper_gp);
    else
        leave_unlinked(t, eip);
}

void emit_exit(Tr *t, const Insn *n, u32 eip)
{
    if (linkable(t, eip))
        new_exit(t, n, eip, emit_jmp(&t->c));
    else
        leave_unlinkable(t, n, eip);
}

void emit_jcc_exit(Tr *t, const Insn *n, unsigned cc, u32 eip)
{
    Code *c = &t->c;
    if (linkable(t, eip)) {
        new_exit(t, n, eip, emit_jcc(c, cc));
        return;
    }
    u8 *over = emit_jcc(c, cc ^ 1);
    leave_unlinkable(t, n, eip);
    emit_here32(c, over);
}

void emit_single_exit(Tr *t, const Insn *n)
{
    assert(t->exit_count < BLOCK_MAX_EXITS);
    t->exit[t->exit_count++] =
        (Exit){ .eip = n->eip, .entry = ENTRY_PLAIN, .single = true, .patch = emit_jmp(&t->c) };
}

/*
 * A guest call is a host call, and the guest's RET a host RET with its target in r10: the host predicts it, and
 * what stands behind the call looks whether the prediction holds. Flags stay: jrcxz, with RCX in r9.
 */
void emit_call_exit(Tr *t, const Insn *n, u32 eip)
{
    Code *c = &t->c;
    u32 back = n->eip + n->len;
    bool both = linkable(t, back) && t->exit_count + 1 < BLOCK_MAX_EXITS;
    if (!both || !linkable(t, eip) || eip == back) {        /* CALL $+5 only asks for its own address */
        emit_exit(t, n, eip);
        return;
    }
    emit8(c, 0xe8);
    emit32(c, 0);
    new_exit(t, n, eip, c->p - 4);
    if (t->exit[t->exit_count - 1].entry == ENTRY_PLAIN)
        t->exit[t->exit_count - 1].entry = ENTRY_POLL;
    emit_return_site(t, n);
}

void emit_return_site(Tr *t, const Insn *n)
{
    Code *c = &t->c;
    u32 back = n->eip + n->len;
    emit_mov64(c, R9, RCX);
    emit_lea32(c, RCX, mem_base(R10, -(s32)back));
    u8 *same = emit_short(c, OP_JRCXZ);
    emit_mov64(c, RCX, R9);
    emit_jmp_to(c, t->cpu->blocks->thunk.jump);
    emit_here8(c, same);
    emit_mov64(c, RCX, R9);
    bool linked = linkable(t, back);
    emit_exit(t, n, back);
    if (linked)                                     /* the page may have gone while the callee was at work */
        t->exit[t->exit_count - 1].entry = ENTRY_PAGE;
}

static void emit_stubs(Tr *t)
{
    BlockCache *bc = t->cpu->blocks;
    Block *b = t->b;
    b->exit_count = (u16)t->exit_count;
    b->exits = blocks_alloc(bc, sizeof *b->exits * (t->exit_count + 1));
    for (unsigned i = 0; i < t->exit_count; i++) {
        Exit *e = &b->exits[i];
        *e = t->exit[i];
        e->from = b;
        e->stub = t->c.p;
        patch32(e->patch, e->stub);
        emit_mov_imm64(&t->c, R10, (u64)(uintptr_t)e);
        emit_jmp_to(&t->c, bc->thunk.link);
    }
}

/* ---- decoding ---- */

/* What the mode makes of an instruction that would otherwise be translated; NULL: nothing. */
static X86Helper *trap_of(const Tr *t, const InsnRow *row)
{
    u32 mode = t->mode;
    if (!insn_has_feature(t->cpu, row->feature))
        return helper_ud;
    if (row->props & P_FPU && mode & (MODE_EM | MODE_TS))
        return helper_nm;
    if (row->props & P_WAIT && (mode & (MODE_MP | MODE_TS)) == (MODE_MP | MODE_TS))
        return helper_nm;
    if (row->props & P_SSE && (mode & MODE_EM || !(mode & MODE_OSFXSR)))
        return helper_ud;
    if (row->props & P_MMX && mode & MODE_EM)
        return helper_ud;
    if (row->props & (P_MMX | P_SSE) && mode & MODE_TS)
        return helper_nm;
    return NULL;
}

/* Judges a decoded instruction; true: the block ends behind it. */
static bool accept(Tr *t, Insn *n, DecodeResult r)
{
    if (r == DECODE_LONG || (u64)n->eip + n->len - 1 > t->cs_limit)
        t->raise = helper_gp;
    else if (r == DECODE_UD)
        t->raise = helper_ud;
    else
        t->raise = trap_of(t, n->row);
    if (t->raise)
        n->row = NULL;
    t->count++;
    return t->raise || n->row->props & P_END || n->row->action == A_JMP || n->row->action == A_CALL;
}

static u32 decode_page(Tr *t, const u8 *code, unsigned avail, u32 eip)
{
    unsigned pos = 0, max = t->mode & MODE_STEP ? 1 : BLOCK_MAX_INSNS;
    unsigned jumps = 0;
    while (t->count < max && pos < avail && jumps < BLOCK_MAX_JUMPS) {
        Insn *n = &t->insn[t->count];
        if (t->cpu->debug.execs && t->count > 0 && debug_exec_stop(t->cpu, t->cs_base + eip))
            break;
        DecodeResult r = insn_decode(n, code + pos, avail - pos, eip, t->mode & MODE_CS32);
        if (r == DECODE_SHORT)
            break;
        if (t->count > 0 && (u64)eip + n->len - 1 > t->cs_limit)
            break;
        pos += n->len;
        eip += n->len;
        if (accept(t, n, r))
            break;
        jumps += n->row->action == A_JCC;
    }
    return pos;
}

/* ---- flags ---- */

static u16 flags_written(const Insn *n)
{
    const InsnRow *row = n->row;
    if (row->props & P_COUNT) {
        bool by_imm = row->b == Ib || row->c == Ib;
        if (!by_imm || (n->imm & 31) == 0)
            return 0;
    }
    return row->written | row->undefined;
}

/* A helper in the place of what is mostly done in line may end the block: all flags must be true then. */
static u16 flags_read(const Tr *t, const Insn *n)
{
    bool by_helper = (n->row->action == A_STRING && !string_in_line(t, n)) ||
                     (n->row->action == A_FLAG && !flag_insn_in_line(t, n));
    return by_helper ? FLAGS_ARITH : n->row->read;
}

static void find_live_flags(Tr *t)
{
    u16 live = FLAGS_ARITH;
    for (unsigned i = t->count; i-- > 0; ) {
        const Insn *n = &t->insn[i];
        if (!n->row || n->row->props & P_END || n->row->action == A_JCC)
            live = FLAGS_ARITH;
        t->live[i] = live;
        if (n->row)
            live = (u16)((live & ~flags_written(n)) | flags_read(t, n));
        t->before[i] = live;
    }
    t->live_in = live;
}

/* ---- the whole ---- */

static void begin(Tr *t, Cpu *cpu, u32 page, u32 context)
{
    blocks_begin(cpu);
    BlockCache *bc = cpu->blocks;
    Block *b = blocks_alloc(bc, sizeof *b);
    t->cpu = cpu;
    t->b = b;
    t->c.p = bc->code_next;
    t->mode = cpu->mode;
    t->cs_base = cpu->s.seg[CS].base;
    t->cs_limit = cpu->s.seg[CS].limit;
    t->linear_page = (t->cs_base + cpu->s.eip) >> PAGE_SHIFT;
    t->count = t->cold_count = t->cold_helper_count = t->exit_count = t->fault_count = 0;
    t->x87_what = 0;
    t->raise = NULL;
    t->parked = false;
    b->eip = cpu->s.eip;
    t->single = context & CONTEXT_SINGLE;
    b->context = context;
    b->page = page;
    b->page2 = MEM_NO_PAGE;
    b->offset = (u16)((t->cs_base + cpu->s.eip) & PAGE_MASK);
    b->code = t->c.p;
    b->unlinked = t->mode & MODE_STEP || log_on(LOG_EXEC | LOG_CPU);
}

/* -d in_asm */
static void log_block(const Tr *t, const u8 *code)
{
    char text[96];
    log_line("block %04x:%08x mode %08x", t->cpu->s.seg[CS].sel, t->b->eip, t->mode);
    for (unsigned i = 0; i < t->count; code += t->insn[i++].len) {
        const Insn *n = &t->insn[i];
        cpu_disassemble(code, n->len, n->eip, t->mode & MODE_CS32 ? 32 : 16, text, sizeof text);
        log_line("  %08x  %s%s", n->eip, text, n->row ? "" : "  (raises)");
    }
}

static bool falls_through(const Insn *n)
{
    if (!n->row)
        return false;
    switch (n->row->action) {
    case A_JMP: case A_JMPI: case A_CALL: case A_CALLI: case A_RET: case A_LOOP: return false;
    default: return true;
    }
}

/* True: an operand of it is looked up by itself. */
static bool accesses_memory(const Tr *t, const Insn *n)
{
    Action a = n->row->action;
    bool stack = a == A_PUSH || a == A_POP || a == A_LEAVE || a == A_CALL || a == A_CALLI || a == A_RET;
    return ((n->mem_size || a == A_XLAT || a == A_STRING) && !group_of(t, n, false)) ||
           (stack && !group_of(t, n, true));
}

/* These want the flags parked in any case, or have a look-up to do. */
static bool ends_parked(const Tr *t, const Insn *n)
{
    return n->row->action == A_JMPI || n->row->action == A_CALLI || accesses_memory(t, n);
}

/* Where a run of instructions that don't touch the (live) flags ends, if parking the flags around it pays;
 * else first. */
static unsigned end_of_run(const Tr *t, unsigned first)
{
    unsigned i = first;
    bool pays = false;
    if (!t->live[first])
        return first;
    for (; i < t->count && insn_in_run(&t->insn[i]); i++)
        pays |= accesses_memory(t, &t->insn[i]);
    if (i < t->count && insn_ends_run(&t->insn[i]) && (pays || ends_parked(t, &t->insn[i])))
        return i + 1;
    return pays ? i : first;
}

static void translate_all(Tr *t)
{
    for (unsigned i = 0; i < t->count; ) {
        unsigned end = end_of_run(t, i);
        t->parked = end > i;
        if (t->parked)
            emit_park(t);
        else
            end = i + 1;
        for (; i < end; i++) {
            emit_group_checks(t, i);
            translate_insn(t, &t->insn[i], t->live[i]);
        }
        if (t->parked)
            emit_unpark(t);
        t->parked = false;
    }
}

/* A block whose instruction crosses the page begins by looking whether the second page is still the same. */
static void check_second_page(Tr *t)
{
    Code *c = &t->c;
    emit_mov64(c, R9, RCX);
    emit_load32(c, RCX, mem_base(R14, (s32)(offsetof(TlbSet, exec) + 4 * ((t->linear_page + 1) & 0xfffff))));
    emit_lea32(c, RCX, mem_base(RCX, -(s32)(t->b->page2 + 1)));
    u8 *ok = emit_short(c, OP_JRCXZ);
    emit_mov64(c, RCX, R9);
    leave_unlinked(t, t->b->eip);
    emit_here8(c, ok);
    emit_mov64(c, RCX, R9);
}

/* The block's entries, see block.h. Where the guest's flags are alive they wait in EAX, and EAX in r11. */
static void emit_entries(Tr *t)
{
    Code *c = &t->c;
    Block *b = t->b;
    bool live = t->live_in != 0;
    u8 *over = NULL;
    if (b->unlinked) {
        for (unsigned i = 0; i < ENTRY_COUNT; i++)
            b->entry[i] = c->p;
        return;
    }
    const u8 *failed = c->p;
    if (live)
        unpark_flags(c);
    leave_unlinked(t, b->eip);
    b->entry[ENTRY_PAGE] = c->p;
    if (live)
        park_flags(c);
    emit_mem(c, 0, 0, 0x81, 7, mem_base(R14, (s32)(offsetof(TlbSet, exec) + 4 * t->linear_page)));
    emit32(c, b->page + 1);
    emit_jcc8_to(c, CC_NE, failed);
    if (live)
        over = emit_short(c, OP_JMP8);
    b->entry[ENTRY_POLL] = c->p;
    if (live) {
        park_flags(c);
        emit_here8(c, over);
    }
    emit_mem(c, 0, REX_W, 0x3b, RSP, CPU_FIELD(poll_limit));
    emit_jcc8_to(c, CC_BE, failed);
    if (live)
        unpark_flags(c);
    b->entry[ENTRY_PLAIN] = c->p;
}

/* Notes the block for -d cpu_reset: where it is and what it is, into a ring whose index is a byte. */
static void emit_trace(Tr *t)
{
    Code *c = &t->c;
    Mem at = { R15, R9, 3, (s32)offsetof(Cpu, trace) - CPU_BIAS };
    emit_mem(c, 0, 0, 0x0fb6, R9, CPU_FIELD(trace_next));
    emit_store_imm32(c, at, t->cs_base + t->b->eip);
    at.disp += 4;
    emit_store_imm32(c, at, (t->mode & MODE_CS32) | t->count << TRACE_COUNT_SHIFT);
    emit_lea32(c, R9, mem_base(R9, 1));
    emit_mem(c, 0, 0, 0x88, R9, CPU_FIELD(trace_next));
}

static Block *finish(Tr *t)
{
    BlockCache *bc = t->cpu->blocks;
    Block *b = t->b;
    find_live_flags(t);
    find_groups(t);
    emit_entries(t);
    if (b->page2 != MEM_NO_PAGE && !b->unlinked)
        check_second_page(t);
    if (log_on(LOG_CPU_RESET))
        emit_trace(t);
    if (t->cpu->debug.execs && debug_exec_stop(t->cpu, t->cs_base + b->eip))
        emit_helper(t, &t->insn[0], helper_debug_stop);
    translate_all(t);
    const Insn *last = &t->insn[t->count - 1];
    emit_x87_pointers(t);
    if (falls_through(last))
        emit_exit(t, last, last->eip + last->len);
    emit_cold(t);
    emit_cold_helpers(t);
    emit_group_exits(t);
    emit_stubs(t);
    b->code_bytes = (u32)(t->c.p - b->code);
    assert(b->code_bytes <= BLOCK_MAX_CODE);
    b->insn_count = t->count;
    b->fault_count = (u16)t->fault_count;
    b->faults = blocks_alloc(bc, sizeof *b->faults * (t->fault_count + 1));
    memcpy(b->faults, t->fault, sizeof *b->faults * t->fault_count);
    bc->code_next = (u8 *)(((uintptr_t)t->c.p + 15) & ~(uintptr_t)15);
    blocks_add(t->cpu, b);
    return b;
}

/* Fetches byte by byte, as far as the instruction needs: the first page may be anywhere, the second is looked
 * at only if needed. */
static DecodeResult fetch_one(Tr *t, Insn *n, u8 *bytes)
{
    Cpu *cpu = t->cpu;
    u32 linear = t->cs_base + cpu->s.eip, have = 0, page = 0;
    u8 *at = NULL;
    u64 phys = 0;
    for (;;) {
        DecodeResult r = insn_decode(n, bytes, have, cpu->s.eip, t->mode & MODE_CS32);
        if (r != DECODE_SHORT)
            return r;
        u32 next = linear + have;
        if (have == 0 || (next & PAGE_MASK) == 0) {
            at = tlb_fill(cpu, next, ACC_EXEC, &phys);
            page = next;
        }
        if (at) {
            bytes[have] = at[next - page];
        } else {
            machine_lock(cpu->m);
            bytes[have] = (u8)mem_bus_read(cpu->mem, phys + (next - page), 1);
            machine_unlock(cpu->m);
        }
        have++;
    }
}

Block *translate(Cpu *cpu, u32 page, u32 context)
{
    Tr t;
    u8 bytes[16];
    u32 offset = (cpu->s.seg[CS].base + cpu->s.eip) & PAGE_MASK;
    begin(&t, cpu, page, context);
    u32 used =
        decode_page(&t, cpu->arena + ((u64)page << PAGE_SHIFT) + offset, PAGE_SIZE - offset, cpu->s.eip);
    if (!t.count) {
        DecodeResult r = fetch_one(&t, &t.insn[0], bytes);
        u32 page2 = tlb_exec_page(cpu, (t.linear_page + 1) << PAGE_SHIFT);
        if (!page2)
            t.b->once = true;                       /* its second half comes from outside memory */
        t.b->page2 = page2 - 1;
        t.b->unlinked |= t.b->once;
        accept(&t, &t.insn[0], r);
        used = t.insn[0].len;
    }
    t.b->bytes = (u16)used;
    if (log_on(LOG_IN_ASM) && t.b->page2 == MEM_NO_PAGE)
        log_block(&t, cpu->arena + ((u64)page << PAGE_SHIFT) + offset);
    return finish(&t);
}

Block *translate_once(Cpu *cpu, u32 context)
{
    Tr t;
    u8 bytes[16];
    begin(&t, cpu, MEM_NO_PAGE, context);
    t.b->once = t.b->unlinked = true;
    DecodeResult r = fetch_one(&t, &t.insn[0], bytes);
    accept(&t, &t.insn[0], r);
    t.b->bytes = t.insn[0].len;
    return finish(&t);
}
