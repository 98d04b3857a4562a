/* Types and small tools that every file uses. */
#ifndef VM_TYPES_H
#define VM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* printf's own checks for our printf-like functions. */
#if defined(__MINGW32__) && !defined(__clang__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(gnu_printf, fmt, args)))
#else
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#endif

/* The structure that holds *member at ptr. */
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* Little-endian loads and stores at any alignment. The host is x86: these are plain moves. */
static inline u16 load16(const void *p) { u16 v; __builtin_memcpy(&v, p, 2); return v; }
static inline u32 load32(const void *p) { u32 v; __builtin_memcpy(&v, p, 4); return v; }
static inline u64 load64(const void *p) { u64 v; __builtin_memcpy(&v, p, 8); return v; }
static inline void store16(void *p, u16 v) { __builtin_memcpy(p, &v, 2); }
static inline void store32(void *p, u32 v) { __builtin_memcpy(p, &v, 4); }
static inline void store64(void *p, u64 v) { __builtin_memcpy(p, &v, 8); }

#endif
