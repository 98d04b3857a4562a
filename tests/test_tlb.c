/*
 * Address spaces kept by CR3, against the page walk: random changes of page tables (with and without INVLPG,
 * through other addresses, in spaces that are not the current one), loads of CR3, accesses of both privileges.
 * After each load of CR3 every entry of the tables must be what a walk finds now.
 */
#include "test.h"

#include "../core/x86/block.h"
#include "../core/x86/system.h"

enum {
    RAM_BYTES = 4 << 20, DIRECTORIES = 12, DIRECTORY = 0x100000, TABLE = 0x140000, TABLES = 6, PAGES = 64,
    ROUNDS = 60000,
};

#include "bare_cpu.h"

static u32 seed = 2463534242u;

static u32 next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed >> 3;
}

static u32 random_entry(void)
{
    return next() % 32 << 12 | (next() % 8 ? 1 : 0) | (next() % 4 ? 2 : 0) | (next() % 4 ? 4 : 0) |
           (next() % 2 ? 0x20 : 0) | (next() % 2 ? 0x40 : 0) | (next() % 16 ? 0 : 0x100);
}

static u32 random_directory_entry(void)
{
    u32 flags = (next() % 8 ? 1 : 0) | (next() % 4 ? 2 : 0) | (next() % 4 ? 4 : 0) | (next() % 2 ? 0x20 : 0);

    return next() % 8 ? (TABLE + next() % TABLES * PAGE_SIZE) | flags : flags | 0x80;
}

/* One of the first PAGES of one of the first two directory entries. */
static u32 random_linear(void) { return next() % 2 << 22 | next() % PAGES << 12 | (next() & 0xff0); }

static void access_memory(void)
{
    u32 linear = random_linear();
    u64 phys;

    x86_set_cpl(cpu, next() & 1 ? 3 : 0);
    if (__builtin_setjmp(cpu->leave)) {
        cpu->fault_vector = -1;
        return;
    }
    tlb_fill(cpu, linear, (int)(next() % 3), &phys);
}

static void change_tables(void)
{
    if (next() % 3 == 0)
        store32(ram + DIRECTORY + next() % DIRECTORIES * PAGE_SIZE + next() % 2 * 4, random_directory_entry());
    else
        store32(ram + TABLE + next() % TABLES * PAGE_SIZE + next() % PAGES * 4, random_entry());
}

static bool entry_true(unsigned user, u32 vpn)
{
    const TlbSet *set = cpu->tlb_set[user];
    PageInfo info = { 0 };
    u32 error;
    u64 host;

    if (!set->read[vpn] && !set->write[vpn] && !set->exec[vpn])
        return true;
    if (!x86_walk(cpu, vpn << 12, ACC_READ, user, false, &info, &error))
        return false;
    host = (u64)(uintptr_t)(ram + info.phys) - ((u64)vpn << 12);
    return (!set->read[vpn] || set->read[vpn] == host) &&
           (!set->write[vpn] || (set->write[vpn] == host && info.writable && info.dirty)) &&
           (!set->exec[vpn] || cpu->arena + ((u64)(set->exec[vpn] - 1) << 12) == ram + info.phys);
}

static bool all_true(void)
{
    for (unsigned user = 0; user < 2; user++)
        for (u32 i = 0; i < 2 * PAGES; i++) {
            u32 vpn = i / PAGES << 10 | i % PAGES;

            if (!entry_true(user, vpn)) {
                printf("cr3 %x user %u page %x read %llx write %llx exec %x\n", cpu->s.cr3, user, vpn,
                       (unsigned long long)cpu->tlb_set[user]->read[vpn],
                       (unsigned long long)cpu->tlb_set[user]->write[vpn], cpu->tlb_set[user]->exec[vpn]);
                return false;
            }
        }
    return true;
}

static void begin(u32 cr4)
{
    device_reset(&cpu->dev);
    for (u32 at = DIRECTORY; at < TABLE + TABLES * PAGE_SIZE; at += 4)
        store32(ram + at, 0);
    for (u32 d = 0; d < DIRECTORIES; d++)
        for (u32 i = 0; i < 2; i++)
            store32(ram + DIRECTORY + d * PAGE_SIZE + 4 * i, random_directory_entry() | 1);
    for (u32 i = 0; i < TABLES * 1024; i++)
        store32(ram + TABLE + 4 * i, i % 1024 < PAGES ? random_entry() | 1 : 0);
    cpu->s.cr4 = cr4;
    cpu->s.cr3 = DIRECTORY;
    cpu->s.cr0 = CR0_PE | CR0_PG | CR0_ET | (next() & 1 ? CR0_WP : 0);
    tlb_flush(cpu, true);
}

static void test_random_spaces(void)
{
    unsigned wrong = 0, kept = 0;

    begin(CR4_PSE);
    for (u32 i = 0; i < ROUNDS && !wrong; i++) {
        if (i % 5000 == 4999)
            begin(CR4_PSE);
        switch (next() % 12) {
        case 0:
            x86_set_cr3(cpu, DIRECTORY + next() % (next() % 4 ? 4 : DIRECTORIES) * PAGE_SIZE);
            wrong += !all_true();
            for (u32 k = 0; k < PAGES; k++)
                kept += cpu->tlb_set[0]->read[k] != 0;
            break;
        case 1: change_tables(); break;
        default: access_memory(); break;
        }
    }
    CHECK_MSG(!wrong, "after a load of CR3 every entry is what a walk finds");
    CHECK_MSG(kept > 1000, "entries are kept over loads of CR3");
}

static void map(u32 page, u32 entry) { store32(ram + TABLE + page * 4, entry); }

static void touch(u32 linear, int access)
{
    u64 phys;

    if (__builtin_setjmp(cpu->leave))
        return;
    tlb_fill(cpu, linear, access, &phys);
}

static u64 host_of(u32 page) { return cpu->tlb->read[page] + (page << 12) - (u64)(uintptr_t)ram; }

static void simple(u32 cr4)
{
    begin(cr4);
    for (u32 d = 0; d < DIRECTORIES; d++)
        store32(ram + DIRECTORY + d * PAGE_SIZE, TABLE | 0x67);
    for (u32 i = 0; i < PAGES; i++)
        map(i, i << 12 | 0x67);
    x86_set_cpl(cpu, 0);
    tlb_flush(cpu, true);
}

static void test_what_is_seen(void)
{
    simple(0);
    touch(0x5000, ACC_WRITE);
    x86_set_cr3(cpu, DIRECTORY + PAGE_SIZE);
    CHECK_MSG(!cpu->tlb->read[5], "a new space knows nothing");
    map(5, 9 << 12 | 0x67);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(!cpu->tlb->read[5], "a table changed while another space was current");
    touch(0x5000, ACC_WRITE);
    CHECK(host_of(5) == 0x9000);
    map(5, 0x5000 | 0x67);
    touch(0x5000, ACC_WRITE);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(!cpu->tlb->read[5], "a table changed without INVLPG, and the same CR3 again");
    touch(0x5000, ACC_WRITE);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(cpu->tlb->read[5] && cpu->tlb->write[5], "what is as it was is kept");
    map(5, 0x5000 | 0x27);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(cpu->tlb->read[5] && !cpu->tlb->write[5], "D cleared by the guest: the next write sets it");
    map(5, 0x5000 | 0x47);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(!cpu->tlb->read[5], "A cleared by the guest: the next access sets it");
}

static void test_globals(void)
{
    simple(CR4_PGE);
    map(7, 0x7000 | 0x167);
    touch(0x7000, ACC_WRITE);
    x86_set_cr3(cpu, DIRECTORY + PAGE_SIZE);
    CHECK_MSG(cpu->tlb->read[7] && cpu->tlb->write[7], "a new space takes global pages along");
    map(7, 0x8000 | 0x167);
    tlb_flush_page(cpu, 0x7000);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(!cpu->tlb->read[7], "a global page that INVLPG took in one space is gone in the others");
    touch(0x7000, ACC_READ);
    CHECK(host_of(7) == 0x8000);
    x86_set_cr4(cpu, 0);
    CHECK_MSG(!cpu->tlb->read[7], "PGE off: all is flushed");
}

static void test_more_spaces_than_are_kept(void)
{
    simple(0);
    for (u32 n = 0; n < 3 * DIRECTORIES; n++) {
        u32 d = n % DIRECTORIES;

        x86_set_cr3(cpu, DIRECTORY + d * PAGE_SIZE);
        map(3, (n % 16) << 12 | 0x67);
        tlb_flush_page(cpu, 0x3000);
        touch(0x3000, ACC_READ);
        if (host_of(3) != (u64)(n % 16) << 12) {
            CHECK_MSG(false, "space %u shows its own page", n);
            return;
        }
    }
    CHECK(true);
}

static void test_code_is_watched_everywhere(void)
{
    MemPage p = mem_page(cpu->mem, 0x6000);

    simple(0);
    touch(0x6000, ACC_WRITE);
    x86_set_cr3(cpu, DIRECTORY + PAGE_SIZE);
    touch(0x6000, ACC_WRITE);
    tlb_protect_code(cpu, p.page);
    CHECK(!cpu->tlb->write[6] && cpu->tlb->read[6]);
    x86_set_cr3(cpu, DIRECTORY);
    CHECK_MSG(!cpu->tlb->write[6], "a page that got code is not written past us from another space");
}

int main(void)
{
    if (!bare_cpu_create())
        return test_end();
    test_what_is_seen();
    test_globals();
    test_more_spaces_than_are_kept();
    test_code_is_watched_everywhere();
    test_random_spaces();
    return test_end();
}
