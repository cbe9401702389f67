/* The one allocation layer: counted, zeroed unless said otherwise, and able to fail on demand so that tests can walk every failure.
 * Also `arena` (freed as a whole) and `buf` (a growing buffer with a mandatory maximum).
 * Threads: proto_alloc is thread-safe; an arena or buf belongs to one thread at a time. */
#ifndef CONCORDAT_PROTO_ALLOC_H
#define CONCORDAT_PROTO_ALLOC_H

#include "proto/err.h"
#include "proto/span.h"

/* Zeroed memory of COUNT * SIZE bytes; NULL when out of memory or the product overflows. */
void *proto_alloc(size_t count, size_t size);
/* The same, not zeroed: for large buffers that are filled before they are read. */
void *proto_alloc_raw(size_t count, size_t size);
/* Keeps the contents; on failure the old block stays valid and NULL is returned. The new part is not zeroed. */
void *proto_realloc(void *old, size_t count, size_t size);
void proto_free(void *ptr);
char *proto_strdup(const char *text);

/* For tests: the N-th allocation from now fails (1 is the next one); 0 turns it off. */
void proto_alloc_fail_at(uint64_t nth);

/* Bump allocator. Zero-initialise; `max` 0 means PROTO_ARENA_MAX. */
#define PROTO_ARENA_MAX ((size_t)64 << 20)
struct arena_block;
struct arena_deferred;
struct arena {
    struct arena_block *blocks;
    struct arena_deferred *deferred;
    size_t used;
    size_t max;
};
/* Zeroed, aligned for any type, valid until arena_fini. NULL when out of memory or past the maximum. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);
char *arena_strdup(struct arena *arena, struct span text);
/* RUN(USER) in arena_fini, the last one first, while the arena's memory is still there. Errors: E_NO_MEMORY. */
MUST_CHECK enum err arena_defer(struct arena *arena, void (*run)(void *user), void *user);
void arena_fini(struct arena *arena);

/* Growing bytes. Zero-initialise and set max. */
struct buf {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    size_t max;
};
MUST_CHECK enum err buf_put(struct buf *buf, struct span bytes);
MUST_CHECK enum err buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
/* Room for N more bytes at ptr + len; the caller adds what it wrote to len. */
MUST_CHECK enum err buf_reserve(struct buf *buf, size_t n);
static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){buf->ptr, buf->len};
}
void buf_fini(struct buf *buf);

#endif
