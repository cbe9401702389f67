/* Borrowed bytes. A span never owns and says nothing about a terminating zero.
 * Big-endian readers and writers stand here as well, since every format of ours uses them. */
#ifndef CONCORDAT_PROTO_SPAN_H
#define CONCORDAT_PROTO_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *ptr;
    size_t len;
};

#define SPAN_NONE ((struct span){NULL, 0})

static inline struct span span_of(const void *ptr, size_t len)
{
    return (struct span){(const uint8_t *)ptr, len};
}

static inline struct span span_str(const char *text)
{
    return (struct span){(const uint8_t *)text, text ? strlen(text) : 0};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool span_is(struct span a, const char *text)
{
    return span_equal(a, span_str(text));
}

/* Copies into a C string of SIZE bytes; false when it does not fit or holds a zero byte. */
bool span_to_cstr(struct span from, char *to, size_t size);
/* Lower-case hexadecimal with a terminating zero; TO has 2 * len + 1 bytes. */
void span_to_hex(struct span from, char *to);
/* Exactly LEN bytes from 2 * LEN hexadecimal digits; false otherwise. */
bool span_from_hex(const char *hex, uint8_t *to, size_t len);

static inline void put_be16(uint8_t *to, uint16_t v)
{
    to[0] = (uint8_t)(v >> 8);
    to[1] = (uint8_t)v;
}

static inline void put_be32(uint8_t *to, uint32_t v)
{
    put_be16(to, (uint16_t)(v >> 16));
    put_be16(to + 2, (uint16_t)v);
}

static inline void put_be64(uint8_t *to, uint64_t v)
{
    put_be32(to, (uint32_t)(v >> 32));
    put_be32(to + 4, (uint32_t)v);
}

static inline uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static inline uint64_t get_be64(const uint8_t *p)
{
    return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

#endif
