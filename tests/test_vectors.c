/*
 * Every captured 80286 real-mode vector through cpu_run(), on the real translator. See
 * $QEMU_WIN_SHARED/vectors/README.md for the format. What a 386 and later does differently stands in the
 * tables below, each with its reason; all else must be equal: registers, defined flags, memory, and the
 * exception taken.
 */
#include "test.h"

#include "../core/vm/machine.h"
#include "../core/x86/system.h"
#include "host_posix.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { RAM_BYTES = 16 << 20, HLT = 0xf4, MAX_REPORTS = 3 };
enum { C = FLAG_CF, P = FLAG_PF, A = FLAG_AF, Z = FLAG_ZF, S = FLAG_SF, O = FLAG_OF, ALL = FLAGS_ARITH };

/*
 * Flags that the manuals leave undefined: the 286 and the host's processor need not agree. Bits 12-15 do
 * not exist on a 286.
 */
static const struct { const char *form; u32 flags; const char *reason; } undefined_flags[] = {
    { "08", A, "logic: AF" }, { "09", A, "logic: AF" }, { "0A", A, "logic: AF" }, { "0B", A, "logic: AF" },
    { "0C", A, "logic: AF" }, { "0D", A, "logic: AF" }, { "20", A, "logic: AF" }, { "21", A, "logic: AF" },
    { "22", A, "logic: AF" }, { "23", A, "logic: AF" }, { "24", A, "logic: AF" }, { "25", A, "logic: AF" },
    { "30", A, "logic: AF" }, { "31", A, "logic: AF" }, { "32", A, "logic: AF" }, { "33", A, "logic: AF" },
    { "34", A, "logic: AF" }, { "35", A, "logic: AF" }, { "80.1", A, "logic: AF" },
    { "80.4", A, "logic: AF" }, { "80.6", A, "logic: AF" }, { "81.1", A, "logic: AF" },
    { "81.4", A, "logic: AF" }, { "81.6", A, "logic: AF" }, { "82.1", A, "logic: AF" },
    { "82.4", A, "logic: AF" }, { "82.6", A, "logic: AF" }, { "83.1", A, "logic: AF" },
    { "83.4", A, "logic: AF" }, { "83.6", A, "logic: AF" }, { "84", A, "logic: AF" },
    { "85", A, "logic: AF" }, { "A8", A, "logic: AF" }, { "A9", A, "logic: AF" },
    { "F6.0", A, "logic: AF" }, { "F6.1", A, "logic: AF" }, { "F7.0", A, "logic: AF" },
    { "F7.1", A, "logic: AF" }, { "27", O, "BCD: OF" }, { "2F", O, "BCD: OF" },
    { "37", O | S | Z | P, "ASCII adjust" }, { "3F", O | S | Z | P, "ASCII adjust" },
    { "D4", O | A | C, "AAM" }, { "D5", O | A | C, "AAD" }, { "69", S | Z | A | P, "IMUL" },
    { "6B", S | Z | A | P, "IMUL" }, { "F6.4", S | Z | A | P, "MUL" }, { "F6.5", S | Z | A | P, "IMUL" },
    { "F7.4", S | Z | A | P, "MUL" }, { "F7.5", S | Z | A | P, "IMUL" }, { "F6.6", ALL, "DIV" },
    { "F6.7", ALL, "IDIV" }, { "F7.6", ALL, "DIV" }, { "F7.7", ALL, "IDIV" },
    { "C0", O | A, "shifts and rotates by more than 1" },
    { "C1", O | A, "shifts and rotates by more than 1" }, { "D0", A, "shifts: AF" },
    { "D1", A, "shifts: AF" }, { "D2", O | A, "shifts and rotates by more than 1" },
    { "D3", O | A, "shifts and rotates by more than 1" },
};

/*
 * Forms that overwrite all arithmetic flags: while their memory operand is looked up the old ones are not
 * kept, so a fault of the access pushes others. The restarted instruction makes them anew: nothing but the
 * handler could tell.
 */
static const char *const overwriting[] = {
    "00", "01", "02", "03", "08", "09", "0A", "0B", "20", "21", "22", "23",
    "28", "29", "2A", "2B", "30", "31", "32", "33", "38", "39", "3A", "3B",
    "69", "6B", "80", "81", "82", "83", "84", "85", "D0", "D1", "F6", "F7",
};

/* The 286 moves SI, DI and CX before a faulting string instruction is given up, a 386 does not. */
static const char *const string_forms[] = { "6D", "6F", "A5", "A7", "AB", "AD", "AF" };

typedef struct { u32 addr; u8 value; } Cell;
typedef struct { u16 reg[14]; u16 given; const u8 *ram; u32 ram_count; } State;
typedef struct {
    char name[64];
    const u8 *bytes;
    u32 byte_count;
    State init, fina;
    bool trapped;
    u8 vector;
} Test;
enum { R_AX, R_BX, R_CX, R_DX, R_CS, R_SS, R_DS, R_ES, R_SP, R_BP, R_SI, R_DI, R_IP, R_FLAGS };
static const char *const reg_names[] = {"ax", "bx", "cx", "dx", "cs", "ss", "ds",
                                        "es", "sp", "bp", "si", "di", "ip", "flags"};

static Machine *m;
static Cpu *cpu;
static u8 *ram;
static unsigned skipped;

/* ---- the file format ---- */

static Cell ram_byte(const State *s, u32 i) { return (Cell){ load32(s->ram + 5 * i), s->ram[5 * i + 4] }; }

static void parse_state(const u8 *p, u32 len, State *s)
{
    for (u32 at = 0; at + 8 <= len;) {
        u32 size = load32(p + at + 4);
        const u8 *body = p + at + 8;

        if (!memcmp(p + at, "REGS", 4)) {
            s->given = load16(body);
            for (unsigned i = 0, n = 1; i < 14; i++) {
                if (s->given >> i & 1)
                    s->reg[i] = load16(body + 2 * n++);
            }
        } else if (!memcmp(p + at, "RAM ", 4)) {
            s->ram_count = load32(body);
            s->ram = body + 4;
        }
        at += 8 + size;
    }
}

static void parse_test(const u8 *p, u32 len, Test *t)
{
    memset(t, 0, sizeof(*t));
    for (u32 at = 4; at + 8 <= len;) {
        u32 size = load32(p + at + 4);
        const u8 *body = p + at + 8;

        if (!memcmp(p + at, "NAME", 4)) {
            snprintf(t->name, sizeof(t->name), "%.*s", (int)load32(body), (const char *)body + 4);
        } else if (!memcmp(p + at, "BYTS", 4)) {
            t->byte_count = load32(body);
            t->bytes = body + 4;
        } else if (!memcmp(p + at, "INIT", 4)) {
            parse_state(body, size, &t->init);
        } else if (!memcmp(p + at, "FINA", 4)) {
            t->fina = t->init;
            t->fina.ram_count = 0;
            parse_state(body, size, &t->fina);
        } else if (!memcmp(p + at, "EXCP", 4)) {
            t->trapped = true;
            t->vector = body[0];
        }
        at += 8 + size;
    }
}

static u8 *slurp(const char *path, size_t *len)
{
    gzFile f = gzopen(path, "rb");
    u8 *data = NULL;
    size_t cap = 0;
    int n = 1;

    *len = 0;
    while (f && n > 0) {
        if (*len + 65536 > cap)
            data = realloc(data, cap += 1 << 20);
        n = gzread(f, data + *len, 65536);
        *len += n > 0 ? (size_t)n : 0;
    }
    if (f)
        gzclose(f);
    return data;
}

/* ---- one vector ---- */

static void poke(const State *s, bool clear)
{
    for (u32 i = 0; i < s->ram_count; i++) {
        Cell b = ram_byte(s, i);
        u8 value = clear ? HLT : b.value;

        mem_dma_write(m->mem, b.addr, &value, 1);
    }
}

static const u8 gpr_of[8] = { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI };
static const u8 seg_of[4] = { R_ES, R_CS, R_SS, R_DS };

/*
 * A 286 has one exception for the end of any segment, 13; a 386 says 12 where it is the stack's. Both lead
 * to one handler here.
 */
static void join_stack_fault(const Test *t)
{
    u32 at = 0;

    if (t->trapped && t->vector == VEC_GP) {
        mem_dma_read(m->mem, 4 * VEC_GP, &at, 4);
        mem_dma_write(m->mem, 4 * VEC_SS, &at, 4);
    }
}

static void set_up(const Test *t)
{
    machine_lock(m);
    cpu_reset(cpu);
    poke(&t->init, false);
    join_stack_fault(t);
    for (int i = 0; i < 8; i++)
        cpu->s.gpr[i] = t->init.reg[gpr_of[i]];
    for (int i = 0; i < 4; i++)
        cpu->s.seg[i] = (Seg){ (u32)t->init.reg[seg_of[i]] << 4, 0xffff, t->init.reg[seg_of[i]], 0x93 };
    cpu->s.eip = t->init.reg[R_IP];
    cpu->s.eflags = (t->init.reg[R_FLAGS] & 0xfff) | FLAG_1;
    cpu->s.idt_limit = 0x3ff;
    x86_update_mode(cpu);
    machine_unlock(m);
}

static u16 result_reg(int r)
{
    for (int i = 0; i < 8; i++) {
        if (gpr_of[i] == r)
            return (u16)cpu->s.gpr[i];
    }
    for (int i = 0; i < 4; i++) {
        if (seg_of[i] == r)
            return cpu->s.seg[i].sel;
    }
    return r == R_IP ? (u16)cpu->s.eip : (u16)(x86_get_eflags(cpu) & 0xfff);
}

static u32 undefined_of(const char *form)
{
    for (unsigned i = 0; i < ARRAY_LEN(undefined_flags); i++) {
        size_t n = strlen(undefined_flags[i].form);

        if (!strncmp(form, undefined_flags[i].form, n) && (form[n] == 0 || form[n] == '.'))
            return undefined_flags[i].flags;
    }
    return 0;
}

static bool is_in(const char *form, const char *const *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!strncmp(form, list[i], 2))
            return true;
    }
    return false;
}

static bool is_moved_by_286(const char *form, const Test *t, int r)
{
    return t->trapped && (r == R_SI || r == R_DI || r == R_CX) &&
           is_in(form, string_forms, ARRAY_LEN(string_forms));
}

/* What differs, or NULL. */
static const char *compare(const char *form, const Test *t, char *out, size_t size)
{
    u32 undefined = undefined_of(form),
        flags_addr = ((u32)t->fina.reg[R_SS] << 4) + (u16)(t->fina.reg[R_SP] + 4);

    if (t->trapped && t->vector == VEC_GP && is_in(form, overwriting, ARRAY_LEN(overwriting)))
        undefined = ALL;
    for (int r = 0; r < 14; r++) {
        u16 want = t->fina.reg[r], got = result_reg(r);
        u16 mask = r == R_FLAGS ? (u16)(0xfff & ~undefined) : 0xffff;

        if (((want ^ got) & mask) && !is_moved_by_286(form, t, r)) {
            snprintf(out, size, "%s is %04x, not %04x", reg_names[r], got, want);
            return out;
        }
    }
    for (u32 i = 0; i < t->fina.ram_count; i++) {
        Cell b = ram_byte(&t->fina, i);
        u8 allowed = 0;

        if (t->trapped && (b.addr == flags_addr || b.addr == flags_addr + 1))
            allowed = (u8)(undefined >> (b.addr == flags_addr ? 0 : 8));
        if ((ram[b.addr] ^ b.value) & ~allowed) {
            snprintf(out, size, "[%06x] is %02x, not %02x", b.addr, ram[b.addr], b.value);
            return out;
        }
    }
    return NULL;
}

/* Vectors that a 386 does not run the same way at all. */
static bool not_comparable(const char *form, const Test *t)
{
    u32 n = 0;

    if (!strcmp(form, "8F") && t->trapped && t->vector == VEC_GP)
        return true;            /* POP to memory that faults: a 286 has moved SP already */
    for (; n < t->byte_count; n++) {
        u8 b = t->bytes[n];

        if (b == 0xf0)
            return true;        /* LOCK: 386 and later take it with a few instructions only */
        if (b != 0x26 && b != 0x2e && b != 0x36 && b != 0x3e && b != 0xf2 && b != 0xf3)
            break;
    }
    return t->byte_count > 11;  /* with its HLT: more than the 286's ten bytes are #GP there */
}

static bool run_test(const char *form, const Test *t, unsigned *reports)
{
    char text[128];
    const char *diff;
    CpuExit why;
    bool ok;

    set_up(t);
    why = cpu_run(cpu);
    diff = why != CPU_EXIT_HALT ? "it did not end in HLT" : compare(form, t, text, sizeof(text));
    ok = diff == NULL;
    if (!ok && (*reports)++ < MAX_REPORTS) {
        printf("%s: %s (", form, t->name);
        for (u32 i = 0; i < t->byte_count; i++)
            printf("%02x", t->bytes[i]);
        printf(")%s: %s\n", t->trapped ? " trapped" : "", diff);
    }
    machine_lock(m);
    if (ok) {
        poke(&t->init, true);
        poke(&t->fina, true);
    } else {
        memset(ram, HLT, RAM_BYTES);
        mem_dma_write(m->mem, 0, ram, RAM_BYTES);
    }
    machine_unlock(m);
    return ok;
}

static void run_file(const char *dir, const char *name)
{
    char path[1024], form[32];
    size_t len;
    unsigned good = 0, bad = 0, reports = 0;
    u8 *data;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    snprintf(form, sizeof(form), "%.*s", (int)(strstr(name, ".MOO") - name), name);
    data = slurp(path, &len);
    for (size_t at = 0; data && at + 8 <= len; at += 8 + load32(data + at + 4)) {
        Test t;

        if (memcmp(data + at, "TEST", 4) != 0)
            continue;
        parse_test(data + at + 8, load32(data + at + 4), &t);
        if (not_comparable(form, &t))
            skipped++;
        else if (run_test(form, &t, &reports))
            good++;
        else
            bad++;
    }
    free(data);
    CHECK_MSG(bad == 0 && good > 0, "%s: %u of %u vectors differ", form, bad, good + bad);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(int argc, char **argv)
{
    const char *shared = getenv("QEMU_WIN_SHARED");
    char dir[1000], *names[1024];
    unsigned count = 0;
    struct dirent *entry;
    Error err = { "" };
    Config cfg;
    MemRegion *region;
    DIR *d;

    snprintf(dir, sizeof(dir), "%s/vectors/80286_real", shared ? shared : "../shared");
    host_posix_init();
    config_default(&cfg);
    m = machine_create(&cfg, RAM_BYTES, &err);
    region = mem_ram(m->mem, "ram", RAM_BYTES);
    mem_map(m->mem, region, 0, 0, RAM_BYTES, 0, MEM_RW);
    ram = mem_ram_ptr(region);
    memset(ram, HLT, RAM_BYTES);
    m->cpu = cpu = cpu_create(m, NULL, &err);
    CHECK_MSG(cpu != NULL, "%s", err.text);
    d = opendir(dir);
    CHECK_MSG(d != NULL, "no vectors in %s", dir);
    while (cpu && d && count < ARRAY_LEN(names) && (entry = readdir(d))) {
        if (strstr(entry->d_name, ".MOO") && (argc < 2 || !strncmp(entry->d_name, argv[1], strlen(argv[1]))))
            names[count++] = strdup(entry->d_name);
    }
    if (d)
        closedir(d);
    qsort(names, count, sizeof(*names), by_name);
    for (unsigned i = 0; i < count; i++) {
        run_file(dir, names[i]);
        free(names[i]);
    }
    printf("%u vectors were skipped: LOCK, longer than a 286 takes, POP that faults\n", skipped);
    return test_end();
}
