/* The hash functions that pure code is given by its caller; no implementation stands on this floor. */
#ifndef CONCORDAT_PROTO_HASH_H
#define CONCORDAT_PROTO_HASH_H

#include "proto/span.h"

#define PROTO_HASH_SIZE 32

struct proto_hash {
    /* SHA-256 over the concatenation of COUNT spans. Must not fail; synchronous; thread-safe. */
    void (*sha256)(const struct span *parts, size_t count, uint8_t out[PROTO_HASH_SIZE]);
};

#endif
