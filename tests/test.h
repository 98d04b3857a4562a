/* The smallest test kit: CHECK counts, says where and what failed, and goes on. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <stdio.h>

static int test_passed, test_failed;

/* what: the behaviour that is claimed, as a sentence. */
#define CHECK_MSG(cond, ...) do { \
        if (cond) { \
            test_passed++; \
        } else { \
            test_failed++; \
            printf("%s:%d: failed: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__); \
            printf("\n"); \
        } \
    } while (0)
#define CHECK(cond) CHECK_MSG(cond, "%s", #cond)

/* main() ends with `return test_end();` */
static inline int test_end(void)
{
    printf("%d passed, %d failed\n", test_passed, test_failed);
    fflush(stdout);
    return test_failed ? 1 : 0;
}

#endif
