/*
 * Guest memory operands: the check in line, the slow path out of line. See "Memory" in translate.h's Access
 * and x86.h.
 *
 *     lea   r8d, ea                      offset in the segment
 *     cmp   r8d, limit; ja slow; add r8d, base        only where the segment isn't flat
 *     mov   r9d, r8d; shr r9d, 12
 *     mov   r9, [r14 + table + r9 * 8]   host minus guest address, 0: slow
 *     test  r9, r9; jz slow
 *     test  r8b, size - 1; jnz unaligned comes back if it stays in the page
 *     op    [r9 + r8]
 *
 * The slow path is "prepare, do, commit" (access_prepare() in x86.h) and holds a second copy of the
 * instruction. Where guest flags must survive the check they wait in EAX, and EAX in r11. Through a run of
 * instructions that don't touch flags (the pops before a RET) they are parked in memory once. Operands that
 * belong to a group need none of this: see translate_group.c.
 */
#include "run.h"
#include "translate.h"

#include <assert.h>

static void emit_ea(Tr *t, const Access *a)
{
    Code *c = &t->c;
    if (a->xlat) {
        emit_reg(c, 0, 0, 0x0fb6, R8, RAX);             /* movzx r8d, al */
        emit_lea32(c, R8, (Mem){ RBX, R8, 0, 0 });
    } else if (a->ea.base == NO_REG && a->ea.index == NO_REG) {
        emit_mov_imm32(c, R8, (u32)a->ea.disp & (a->wrap16 ? 0xffffu : 0xffffffffu));
        return;
    } else if (a->ea.index == NO_REG && a->ea.disp == 0) {
        emit_mov32(c, R8, a->ea.base);
    } else {
        emit_lea32(c, R8, a->ea);
    }
    if (a->wrap16)
        emit_reg(c, 0, 0, 0x0fb7, R8, R8);              /* movzx r8d, r8w */
}

void park_flags(Code *c)
{
    emit_mov64(c, R11, RAX);
    emit8(c, 0x9f);                                     /* lahf */
    emit_reg(c, 0, 0, 0x0f90, 0, RAX);                  /* seto al */
}

void unpark_flags(Code *c)
{
    emit8(c, 0x04);                                     /* add al, 0x7f: OF again */
    emit8(c, 0x7f);
    emit8(c, 0x9e);                                     /* sahf */
    emit_mov64(c, RAX, R11);
}

/* Jump cache entry of the EIP in r10 to r9; flags: equal if it is the one. Clobbers r8. */
void emit_look_up(Code *c)
{
    emit_mov32(c, R9, R10);
    emit_reg(c, 0, 0, 0x81, 4, R9);                     /* and r9d, size - 1 */
    emit32(c, JUMP_CACHE_SIZE - 1);
    emit_reg(c, 0, 0, 0xc1, 4, R9);                     /* shl r9d, log2 of an entry */
    emit8(c, JUMP_CACHE_ENTRY_SHIFT);
    emit_mem(c, 0, REX_W, 0x03, R9, CPU_FIELD(scratch[SCRATCH_JUMP_CACHE]));
    emit_load64(c, R8, CPU_FIELD(scratch[SCRATCH_CONTEXT]));
    emit_reg(c, 0, REX_W, 0x09, R10, R8);               /* or r8, r10 */
    emit_mem(c, 0, REX_W, 0x3b, R8, mem_base(R9, offsetof(JumpCacheEntry, key)));
}

void emit_park(Tr *t)
{
    park_flags(&t->c);
    emit_store32(&t->c, CPU_FIELD(scratch[SCRATCH_FLAGS]), RAX);
    emit_mov64(&t->c, RAX, R11);
}

void emit_unpark(Tr *t)
{
    emit_mov64(&t->c, R11, RAX);
    emit_load32(&t->c, RAX, CPU_FIELD(scratch[SCRATCH_FLAGS]));
    unpark_flags(&t->c);
}

static bool always_slow(const Tr *t, const Access *a)
{
    if (t->mode & (MODE_AC | MODE_WATCH) || mode_seg_class(t->mode, a->seg) == SEG_SLOW)
        return true;
    if (a->seg == CS && a->kind & 2 && t->mode & MODE_PROT)
        return true;                                    /* C raises #GP: code is not written through CS */
    return a->size != 1 && a->size != 2 && a->size != 4 && a->size != 8 && a->size != 10 && a->size != 16;
}

static void check_segment(Tr *t, const Access *a, Cold *cold)
{
    if (mode_seg_class(t->mode, a->seg) != SEG_BASED)
        return;
    unsigned column = a->size == 10 ? 4 : (unsigned)__builtin_ctz(a->size);
    emit_mem(&t->c, 0, 0, 0x3b, R8, mem_cpu(offsetof(Cpu, seg_max) + (5u * a->seg + column) * sizeof(u32)));
    cold->to_slow[cold->slow_count++] = emit_jcc(&t->c, CC_A);
    emit_mem(&t->c, 0, 0, 0x03, R8,
             mem_cpu(offsetof(Cpu, s.seg) + a->seg * sizeof(Seg) + offsetof(Seg, base)));
}

/* Flags: the offset of r8 in its page against the last one where the access fits. */
static void compare_page_offset(Code *c, u32 last)
{
    emit_store64(c, CPU_FIELD(scratch[SCRATCH_UNALIGNED]), R10);
    emit_mov32(c, R10, R8);
    emit_reg(c, 0, 0, 0x81, 4, R10);                    /* and */
    emit32(c, PAGE_MASK);
    emit_reg(c, 0, 0, 0x81, 7, R10);                    /* cmp */
    emit32(c, last);
    emit_load64(c, R10, CPU_FIELD(scratch[SCRATCH_UNALIGNED]));
}

static void check_alignment(Tr *t, const Access *a, Cold *cold)
{
    Code *c = &t->c;
    if (a->size == 1)
        return;
    if (a->size == 10) {
        compare_page_offset(c, PAGE_SIZE - 10);
        cold->to_slow[cold->slow_count++] = emit_jcc(c, CC_A);
        return;
    }
    emit_reg(c, 0, 0, 0xf6, 0, R8);                     /* test r8b, size - 1 */
    emit8(c, a->size - 1u);
    cold->to_unaligned = emit_jcc(c, CC_NE);
}

void emit_access(Tr *t, Access a)
{
    Code *c = &t->c;
    const Group *g = group_of(t, a.n, a.stack);
    if (g) {
        a.body(t, a.n, group_operand(t, g, a.n, a.stack));
        return;
    }
    assert(t->cold_count < ARRAY_LEN(t->cold));
    Cold *cold = &t->cold[t->cold_count++];
    a.parked = t->parked;
    a.x87_eip = t->x87_eip;
    a.x87_what = t->x87_what;
    if (a.parked)
        a.flags_live = false;
    *cold = (Cold){ .a = a };
    if (always_slow(t, &a)) {
        cold->a.flags_live = false;                     /* nothing was parked */
        cold->to_slow[cold->slow_count++] = emit_jmp(c);
        cold->resume = c->p;
        return;
    }
    emit_ea(t, &a);
    if (a.flags_live)
        park_flags(c);
    check_segment(t, &a, cold);
    emit_mov32(c, R9, R8);
    emit_reg(c, 0, 0, 0xc1, 5, R9);                     /* shr r9d, 12 */
    emit8(c, PAGE_SHIFT);
    emit_load64(c, R9, (Mem){ R14, R9, 3, a.kind & 2 ? offsetof(TlbSet, write) : offsetof(TlbSet, read) });
    emit_reg(c, 0, REX_W, 0x85, R9, R9);
    cold->to_slow[cold->slow_count++] = emit_jcc(c, CC_E);
    check_alignment(t, &a, cold);
    cold->hot = c->p;
    if (a.flags_live)
        unpark_flags(c);
    a.body(t, a.n, (Mem){ R9, R8, 0, 0 });
    cold->resume = c->p;
}

static void emit_one_cold(Tr *t, const Cold *cold)
{
    Code *c = &t->c;
    const Access *a = &cold->a;
    const Thunks *thunk = &t->cpu->blocks->thunk;
    if (cold->to_unaligned) {
        emit_here32(c, cold->to_unaligned);
        if (!a->aligned) {
            compare_page_offset(c, PAGE_SIZE - a->size);
            emit_jcc_to(c, CC_BE, cold->hot);
        }
    }
    for (unsigned i = 0; i < cold->slow_count; i++)
        emit_here32(c, cold->to_slow[i]);
    if (a->flags_live)
        unpark_flags(c);
    if (a->parked)
        emit_unpark(t);
    emit_ea(t, a);
    emit_mov_imm32(c, R9,
                   (u32)a->size << ACCESS_SIZE | (u32)a->kind << ACCESS_KIND | (u32)a->seg << ACCESS_SEG |
                       (u32)a->aligned << ACCESS_ALIGNED);
    emit_store_imm32(c, CPU_FIELD(s.eip), a->n->eip);
    emit_x87_values(c, a->x87_eip, a->x87_what);
    emit_call_to(c, thunk->prepare);
    a->body(t, a->n, mem_base(R9, 0));
    if (a->kind & 2) {
        emit_x87_done(t, a->n);
        if (a->next.in_r10)
            emit_store32(c, CPU_FIELD(s.eip), R10);
        else
            emit_store_imm32(c, CPU_FIELD(s.eip), a->next.eip);
        emit_call_to(c, thunk->commit);
    }
    if (a->parked)
        emit_park(t);
    emit_jmp_to(c, cold->resume);
}

void emit_cold(Tr *t)
{
    for (unsigned i = 0; i < t->cold_count; i++)
        emit_one_cold(t, &t->cold[i]);
}
