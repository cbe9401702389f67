/* Shared by the tests of this floor: a seeded generator, a temporary directory, whole files. */
#ifndef CONCORDAT_TESTS_CRYPTO_COMMON_H
#define CONCORDAT_TESTS_CRYPTO_COMMON_H

#include "proto/span.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t common_state;

static inline void common_seed(void)
{
    const char *text = getenv("SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    printf("# SEED=%llu\n", (unsigned long long)seed);
    common_state = seed;
}

/* splitmix64 */
static inline uint64_t common_next(void)
{
    uint64_t z = common_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline void common_fill(void *to, size_t len)
{
    uint8_t *p = to;
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)common_next();
    }
}

struct common_dir {
    char path[64];
};

static inline bool common_dir_make(struct common_dir *dir)
{
    snprintf(dir->path, sizeof dir->path, "/tmp/concordat-test-XXXXXX");
    return mkdtemp(dir->path) != NULL;
}

static inline const char *common_path(const struct common_dir *dir, const char *name, char to[256])
{
    snprintf(to, 256, "%s/%s", dir->path, name);
    return to;
}

static inline void common_dir_remove(const struct common_dir *dir, const char *const *names)
{
    char path[256];
    for (size_t i = 0; names[i]; i++) {
        unlink(common_path(dir, names[i], path));
    }
    rmdir(dir->path);
}

static inline size_t common_read(const char *path, uint8_t *to, size_t cap)
{
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(to, 1, cap, file) : 0;
    if (file) {
        fclose(file);
    }
    return n;
}

static inline bool common_write(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(bytes, 1, len, file) == len;
    return file ? fclose(file) == 0 && ok : false;
}

static inline bool common_contains(struct span in, struct span what)
{
    return memmem(in.ptr, in.len, what.ptr, what.len) != NULL;
}

#endif
