/* JSON: what is right is read and written back, what is wrong is refused, nothing breaks on noise. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../core/vm/json.h"

static Json *parse(const char *text)
{
    Error err;
    return json_parse(text, strlen(text), &err);
}

static void test_right(void)
{
    Json *j = parse(" { \"a\" : [1, -2 , 0, 9223372036854775807, -9223372036854775808, 9223372036854775808],"
                    "\"b\":{\"c\":true,\"d\":false,\"e\":null}, \"f\":\"\\u0041\\n\\\"\\u20ac\\ud83d\\ude00\\/\","
                    "\"g\": 1.5e+3, \"h\": [] , \"i\":{} }\r\n");
    CHECK(j && j->kind == JSON_OBJECT);
    const Json *a = json_member(j, "a");
    CHECK(a && a->kind == JSON_ARRAY && a->first->integer == 1 && a->first->next->integer == -2);
    const Json *big = a->first->next->next->next;
    CHECK(big->is_integer && big->integer == INT64_MAX && big->next->is_integer && big->next->integer == INT64_MIN);
    CHECK_MSG(!big->next->next->is_integer, "what does not fit in 64 bits is no integer");
    const Json *b = json_member(j, "b");
    CHECK(json_member(b, "c")->boolean && !json_member(b, "d")->boolean && json_member(b, "e")->kind == JSON_NULL);
    CHECK(!strcmp(json_member(j, "f")->string, "A\n\"\xe2\x82\xac\xf0\x9f\x98\x80/"));
    CHECK(!json_member(j, "g")->is_integer && !json_member(j, "z") && !json_member(a, "a"));
    JsonOut o = { 0 };
    json_open(&o, NULL, '{');
    json_string(&o, "s", "q\"\\\n\x01\x7f\xff\xc3\xa4");
    json_int(&o, "n", -5);
    json_open(&o, "l", '[');
    json_bool(&o, NULL, true);
    json_copy(&o, NULL, b);
    json_close(&o, ']');
    json_close(&o, '}');
    CHECK_MSG(!strcmp(o.text, "{\"s\": \"q\\\"\\\\\\n\\u0001\\u007f\xef\xbf\xbd\xc3\xa4\", \"n\": -5, \"l\": [true, "
                              "{\"c\":true,\"d\":false,\"e\":null}]}"), "%s", o.text);
    Json *again = parse(o.text);
    CHECK_MSG(again, "what is written can be read");
    json_free(again);
    json_free_out(&o);
    json_free(j);
}

static void test_wrong(void)
{
    static const char *const wrong[] = {
        "", " ", "{", "}", "[", "]", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "{\"a\":}", "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}", "'x'", "\"x", "\"\\x\"", "\"\\u12\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
        "\"\\udc00\"", "\"\n\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"",
        "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "tru", "True", "nul", "NaN", "1 2", "{} {}", "\\", "\"\\",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        Error err = { "" };
        Json *j = json_parse(wrong[i], strlen(wrong[i]), &err);
        CHECK_MSG(!j && strstr(err.text, "JSON"), "'%s' is refused", wrong[i]);
        json_free(j);
    }
    char deep[2 * JSON_DEPTH + 8];
    for (int levels = JSON_DEPTH; levels <= JSON_DEPTH + 1; levels++) {
        memset(deep, '[', (size_t)levels);
        memset(deep + levels, ']', (size_t)levels);
        deep[2 * levels] = 0;
        Json *j = parse(deep);
        CHECK_MSG(!j == (levels > JSON_DEPTH), "%d levels", levels);
        json_free(j);
    }
}

static void test_scan(void)
{
    static const char text[] = " {\"a\":\"}\\\"\"} {\"b\":[{}]}\n\n  12\n{]";
    char ends[16] = "";
    JsonScan s = { 0 };
    for (const char *p = text; *p; p++) {
        if (json_scan(&s, (u8)*p))
            strncat(ends, p, 1);
    }
    CHECK_MSG(!strcmp(ends, "}}\n]"), "values end with their bracket or line: %s", ends);
}

/* Mutations of good texts, and noise: no crash, and what is taken is taken again when written. */
static void test_noise(void)
{
    static const char good[] = "{\"execute\": \"x\", \"arguments\": {\"a\": [1, -2.5e3, \"\\u00e4\\n\", null, true]}}";
    u32 seed = 12345;
    size_t taken = 0;
    for (int i = 0; i < 100000; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        int changes = 1 + (int)((seed = seed * 1664525 + 1013904223) >> 29);
        while (changes--) {
            seed = seed * 1664525 + 1013904223;
            size_t at = (seed >> 8) % (sizeof good - 1);
            text[at] = seed & 0x80 ? good[(seed >> 20) % (sizeof good - 1)] : (char)(seed >> 24);
        }
        char *exact = malloc(sizeof good - 1);         /* the sanitizer sees a byte too many */
        memcpy(exact, text, sizeof good - 1);
        size_t len = (sizeof good - 1) - (i % 3 ? 0 : (seed >> 16) % 40);
        Error err;
        Json *j = json_parse(exact, len, &err);
        taken += j != NULL;
        json_free(j);
        free(exact);
    }
    CHECK_MSG(taken > 1000 && taken < 90000, "%zu of 100000 mutations are still right", taken);
}

int main(void)
{
    test_right();
    test_wrong();
    test_scan();
    test_noise();
    return test_end();
}
