#include "config.h"
#include "proto/alloc.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static _Atomic uint64_t fail_countdown;

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t cap;
    _Alignas(max_align_t) uint8_t bytes[];
};

void proto_alloc_fail_at(uint64_t nth)
{
    atomic_store(&fail_countdown, nth);
}

static bool must_fail(void)
{
    uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    return left && atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void *proto_alloc(size_t count, size_t size)
{
    if (must_fail()) {
        return NULL;
    }
    return calloc(count ? count : 1, size ? size : 1);
}

void *proto_alloc_raw(size_t count, size_t size)
{
    return proto_realloc(NULL, count, size);
}

void *proto_realloc(void *old, size_t count, size_t size)
{
    if (must_fail()) {
        return NULL;
    }
    return reallocarray(old, count ? count : 1, size ? size : 1);
}

void proto_free(void *ptr)
{
    free(ptr);
}

char *proto_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = proto_alloc(size, 1);
    if (copy) {
        memcpy(copy, text, size);
    }
    return copy;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count ? count : 1, size ? size : 1, &bytes)) {
        return NULL;
    }
    size_t max = arena->max ? arena->max : PROTO_ARENA_MAX;
    if (bytes > max - 16 || arena->used > max - bytes - 16) {
        return NULL;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    struct arena_block *block = arena->blocks;
    if (!block || block->cap - block->used < bytes) {
        size_t cap = bytes > 4000 ? bytes : 4000;
        block = proto_alloc(1, sizeof *block + cap);
        if (!block) {
            return NULL;
        }
        block->cap = cap;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *ptr = block->bytes + block->used;
    block->used += bytes;
    arena->used += bytes;
    return ptr;
}

char *arena_strdup(struct arena *arena, struct span text)
{
    char *copy = arena_alloc(arena, text.len + 1, 1);
    if (copy && text.len) {
        memcpy(copy, text.ptr, text.len);
    }
    return copy;
}

struct arena_deferred {
    struct arena_deferred *next;
    void (*run)(void *user);
    void *user;
};

enum err arena_defer(struct arena *arena, void (*run)(void *user), void *user)
{
    struct arena_deferred *deferred = arena_alloc(arena, 1, sizeof *deferred);
    if (!deferred) {
        return E_NO_MEMORY;
    }
    *deferred = (struct arena_deferred){arena->deferred, run, user};
    arena->deferred = deferred;
    return E_OK;
}

void arena_fini(struct arena *arena)
{
    for (struct arena_deferred *d = arena->deferred; d; d = d->next) {
        d->run(d->user);
    }
    arena->deferred = NULL;
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;
        proto_free(arena->blocks);
        arena->blocks = next;
    }
    arena->used = 0;
}

enum err buf_reserve(struct buf *buf, size_t n)
{
    if (n > buf->max || buf->len > buf->max - n) {
        return E_LIMIT;
    }
    size_t need = buf->len + n;
    if (need <= buf->cap) {
        return E_OK;
    }
    size_t cap = buf->cap ? buf->cap * 2 : 256;
    if (cap < need) {
        cap = need;
    }
    if (cap > buf->max) {
        cap = buf->max;
    }
    uint8_t *grown = proto_realloc(buf->ptr, cap, 1);
    if (!grown) {
        return E_NO_MEMORY;
    }
    buf->ptr = grown;
    buf->cap = cap;
    return E_OK;
}

enum err buf_put(struct buf *buf, struct span bytes)
{
    if (bytes.len == 0) {
        return E_OK;
    }
    enum err err = buf_reserve(buf, bytes.len);
    if (!err) {
        memcpy(buf->ptr + buf->len, bytes.ptr, bytes.len);
        buf->len += bytes.len;
    }
    return err;
}

enum err buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) {
        return E_NO_MEMORY;
    }
    enum err err = buf_put(buf, span_of(text, (size_t)n));
    free(text);
    return err;
}

void buf_fini(struct buf *buf)
{
    proto_free(buf->ptr);
    buf->ptr = NULL;
    buf->len = buf->cap = 0;
}
