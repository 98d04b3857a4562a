/*
 * JSON (RFC 8259), for QMP: a strict reader into a tree and a writer into a growing text. Any thread.
 *
 * Reading: no comments, no trailing commas, UTF-8 checked, nested at most JSON_DEPTH deep; strings hold no NUL.
 * Numbers are 64-bit integers; a fraction or exponent is read, checked and marked as no integer.
 */
#ifndef VM_JSON_H
#define VM_JSON_H

#include "error.h"
#include "types.h"

enum { JSON_DEPTH = 32 };
typedef enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

typedef struct Json {
    JsonKind kind;
    bool boolean;
    bool is_integer;                /* of a number; `integer` is valid */
    s64 integer;
    char *string;                   /* of a string */
    const char *text;               /* where it stands in what was read, and how long it is there */
    size_t len;
    char *key;                      /* inside an object */
    struct Json *first, *next;      /* elements; the next one beside this */
} Json;

/* One value and nothing behind it but blanks. NULL: err says what is wrong, and at which byte. `text` must live
 * as long as the tree. */
Json *json_parse(const char *text, size_t len, Error *err);
void json_free(Json *j);                                /* NULL is allowed */
const Json *json_member(const Json *object, const char *key);      /* NULL: not there, or no object */

/* How far the first value of a stream reaches. It is found by its brackets alone: what is inside may be wrong. */
typedef struct { int depth; bool in_string, escaped, started; } JsonScan;
/* Takes one byte; true: it was the last of a value. Outside of brackets a value ends with its line. */
bool json_scan(JsonScan *s, u8 byte);

/* Text that grows; out of memory ends the program. */
typedef struct {
    char *text;                     /* NULL while nothing was written */
    size_t len, cap;
    bool comma;                     /* the next element needs one in front */
} JsonOut;
void json_free_out(JsonOut *o);
void json_raw(JsonOut *o, const char *text, size_t len);
void json_open(JsonOut *o, const char *key, char bracket);         /* key NULL: in an array, or the whole */
void json_close(JsonOut *o, char bracket);
void json_string(JsonOut *o, const char *key, const char *value);  /* what is no UTF-8 becomes U+FFFD */
void json_int(JsonOut *o, const char *key, s64 value);
void json_bool(JsonOut *o, const char *key, bool value);
void json_copy(JsonOut *o, const char *key, const Json *value);    /* as it was read */

#endif
