/*
 * Integer and memory work of the usual kinds, small enough that a round takes microseconds.
 */
#include "bench.h"

#define APART __attribute__((noinline, noclone))

enum {
    SIEVE = 32768,
    CRC_BYTES = 8192,
    SHA_BYTES = 4096,
    SORT = 1024,
    LIMBS = 32,
    COPY_WORDS = 4096,
    PAGE = 4096,
    CHASE_PAGES = 4096,
    CHASE_STEPS = 4096
};

static u8 flags[SIEVE], bytes[CRC_BYTES];
static u32 crc_table[256], sorted[SORT], source[COPY_WORDS], target[COPY_WORDS];
static u32 chase_memory[CHASE_PAGES * (PAGE / 4)] __attribute__((aligned(4096)));
static u32 chase_at, chase_order[CHASE_PAGES];

static u32 sieve(void)
{
    u32 count = 0;

    for (u32 i = 0; i < SIEVE; i++)
        flags[i] = 1;
    for (u32 i = 2; i < SIEVE; i++) {
        if (!flags[i])
            continue;
        count++;
        for (u32 k = i + i; k < SIEVE; k += i)
            flags[k] = 0;
    }
    return count;
}

static void crc_prepare(void)
{
    u32 seed = 1;

    for (u32 i = 0; i < 256; i++) {
        u32 c = i;

        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
        crc_table[i] = c;
    }
    for (u32 i = 0; i < CRC_BYTES; i++)
        bytes[i] = (u8)random_next(&seed);
}

static u32 crc32(void)
{
    u32 crc = ~0u;

    for (u32 i = 0; i < CRC_BYTES; i++)
        crc = crc_table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

/* FIPS 180-4's compression function; its constants are made from a generator, which is as much work. */
static u32 sha_constants[64];

static void sha_prepare(void)
{
    u32 seed = 0x428a2f98;

    crc_prepare();
    for (int i = 0; i < 64; i++)
        sha_constants[i] = random_next(&seed);
}

static inline u32 ror(u32 x, int n)
{
    return x >> n | x << (32 - n);
}

static APART void sha_block(u32 h[8], const u8 *p)
{
    u32 w[64], s[8];

    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
    for (int i = 16; i < 64; i++) {
        u32 a = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
        u32 b = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;

        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    for (int i = 0; i < 8; i++)
        s[i] = h[i];
    for (int i = 0; i < 64; i++) {
        u32 e = ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25);
        u32 a = ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22);
        u32 t = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + sha_constants[i] + w[i];
        u32 m = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);

        s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t;
        s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t + a + m;
    }
    for (int i = 0; i < 8; i++)
        h[i] += s[i];
}

static u32 sha256(void)
{
    u32 h[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    for (u32 i = 0; i < SHA_BYTES; i += 64)
        sha_block(h, bytes + i);
    return h[0];
}

/* Records, strings and small procedures, as the old Dhrystone has them. */
typedef struct Record {
    u32 kind, number, component;
    char text[32];
} Record;

static Record records[2];

static APART int compare_text(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a - *b;
}

static APART u32 procedure(Record *to, const Record *from, u32 n)
{
    *to = *from;
    to->number = from->number + n;
    to->component = to->number * 3 / (n + 1);
    to->text[n & 15] = (char)('a' + n % 26);
    return compare_text(to->text, from->text) < 0 ? to->component : to->number;
}

static u32 records_run(void)
{
    static const char text[] = "a record's text of some length";
    u32 sum = 0;

    records[0].number = 7;
    for (u32 i = 0; i < sizeof text; i++)
        records[0].text[i] = text[i];
    for (u32 i = 0; i < 100; i++) {
        sum += procedure(&records[1], &records[0], i);
        sum ^= procedure(&records[0], &records[1], sum & 7);
    }
    return sum;
}

static APART u32 fib(u32 n)
{
    u32 a;

    if (n < 2)
        return n;
    a = fib(n - 1);
    __asm__ volatile("" : "+r"(a)); /* keeps the compiler from unrolling the recursion */
    return a + fib(n - 2);
}

static u32 fib_run(void)
{
    return fib(16);
}

enum { OP_PUSH, OP_ADD, OP_MUL, OP_DUP, OP_SWAP, OP_LOAD, OP_STORE, OP_DEC_JUMP, OP_XOR, OP_END };

static APART u32 interpret(const u8 *code)
{
    u32 stack[16], vars[4] = {1, 2, 100, 4}, *sp = stack, t;
    const u8 *pc = code;

    for (;;) {
        switch (*pc++) {
        case OP_PUSH: *sp++ = *pc++; break;
        case OP_ADD: sp--, sp[-1] += sp[0]; break;
        case OP_MUL: sp--, sp[-1] *= sp[0]; break;
        case OP_XOR: sp--, sp[-1] ^= sp[0]; break;
        case OP_DUP: sp[0] = sp[-1], sp++; break;
        case OP_SWAP: t = sp[-1], sp[-1] = sp[-2], sp[-2] = t; break;
        case OP_LOAD: *sp++ = vars[*pc++]; break;
        case OP_STORE: vars[*pc++] = *--sp; break;
        case OP_DEC_JUMP:
            if (--vars[2])
                pc -= *pc;
            else
                pc++;
            break;
        default: return vars[0] ^ vars[1];
        }
    }
}

static u32 bytecode(void)
{
    static const u8 code[] = {OP_LOAD, 0, OP_PUSH, 31, OP_MUL, OP_LOAD, 1, OP_ADD, OP_DUP, OP_STORE, 0,
                              OP_LOAD, 1, OP_XOR, OP_PUSH, 7, OP_SWAP, OP_ADD, OP_STORE, 1,
                              OP_DEC_JUMP, 21, OP_END};

    return interpret(code);
}

static APART u32 f0(u32 x) { return x + 1; }
static APART u32 f1(u32 x) { return x ^ 0x55; }
static APART u32 f2(u32 x) { return x * 3; }
static APART u32 f3(u32 x) { return x - 9; }
static u32 (*volatile const functions[4])(u32) = {f0, f1, f2, f3};

static u32 indirect(void)
{
    u32 x = 1;

    for (u32 i = 0; i < 512; i++)
        x = functions[(i ^ i >> 3 ^ i >> 5) & 3](x);
    return x;
}

static APART int less(const u32 *a, const u32 *b)
{
    return *a < *b;
}

static APART void quicksort(u32 *a, int low, int high, int (*before)(const u32 *, const u32 *))
{
    while (low < high) {
        u32 pivot = a[(low + high) / 2], t;
        int i = low, k = high;

        while (i <= k) {
            while (before(&a[i], &pivot))
                i++;
            while (before(&pivot, &a[k]))
                k--;
            if (i <= k)
                t = a[i], a[i++] = a[k], a[k--] = t;
        }
        quicksort(a, low, k, before);
        low = i;
    }
}

static u32 sort(void)
{
    u32 seed = 99, sum = 0;

    for (u32 i = 0; i < SORT; i++)
        sorted[i] = random_next(&seed);
    quicksort(sorted, 0, SORT - 1, less);
    for (u32 i = 0; i < SORT; i += 100)
        sum ^= sorted[i] + i;
    return sum;
}

static u32 bignum(void)
{
    static u32 a[LIMBS], b[LIMBS], r[2 * LIMBS];
    u32 seed = 5, sum = 0;

    for (u32 i = 0; i < LIMBS; i++)
        a[i] = random_next(&seed), b[i] = random_next(&seed), r[i] = r[i + LIMBS] = 0;
    for (u32 i = 0; i < LIMBS; i++) {
        u32 carry = 0;

        for (u32 k = 0; k < LIMBS; k++) {
            u64 t = (u64)a[i] * b[k] + r[i + k] + carry;

            r[i + k] = (u32)t;
            carry = (u32)(t >> 32);
        }
        r[i + LIMBS] = carry;
    }
    for (u32 i = 0; i < 2 * LIMBS; i++)
        sum = sum * 31 + r[i];
    return sum;
}

static u32 copy(void)
{
    for (u32 i = 0; i < COPY_WORDS; i++) {
        target[i] = source[i] + 1;
        __asm__ volatile("" ::: "memory"); /* word by word */
    }
    return target[COPY_WORDS - 1];
}

/* A ring through `nodes` places, `step` words apart, in random order; over pages at a random line in each. */
static void ring(u32 nodes, u32 step)
{
    u32 seed = 77, first;

    for (u32 i = 0; i < nodes; i++)
        chase_order[i] = i * step + (step >= PAGE / 4 ? random_next(&seed) % 64 * 16 : 0);
    for (u32 i = nodes - 1; i; i--) {
        u32 k = random_next(&seed) % (i + 1), t = chase_order[i];

        chase_order[i] = chase_order[k], chase_order[k] = t;
    }
    first = chase_order[0];
    for (u32 i = 0; i < nodes; i++)
        chase_memory[chase_order[i]] = i + 1 < nodes ? chase_order[i + 1] : first;
    chase_at = first;
}

static void ring_l1(void) { ring(256, 16); }
static void ring_256(void) { ring(256, PAGE / 4); }
static void ring_4096(void) { ring(CHASE_PAGES, PAGE / 4); }

static u32 chase(void)
{
    u32 at = chase_at;

    for (u32 i = 0; i < CHASE_STEPS; i++)
        at = chase_memory[at];
    return at;
}

const Row rows_integer[] = {
    {"sieve", sieve, SIEVE, 0, 0},
    {"crc32", crc32, CRC_BYTES, crc_prepare, 0},
    {"sha256", sha256, SHA_BYTES, sha_prepare, 0},
    {"records", records_run, 200, 0, 0},
    {"fib", fib_run, 3193, 0, 0},
    {"bytecode", bytecode, 1300, 0, 0},
    {"indirect-call", indirect, 512, 0, 0},
    {"qsort", sort, SORT, 0, 0},
    {"bignum", bignum, LIMBS *LIMBS, 0, 0},
    {"copy-loop", copy, COPY_WORDS, 0, 0},
    {"chase-L1", chase, CHASE_STEPS, ring_l1, 0},
    {"chase-256p", chase, CHASE_STEPS, ring_256, 0},
    {"chase-4096p", chase, CHASE_STEPS, ring_4096, 0},
    {0}};
