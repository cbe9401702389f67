/* Records and every body, from the same bytes. */
#include "config.h"

#include <stdlib.h>

#include "proto/body.h"
#include "tests/lib/fake_hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_bodies(struct span bytes)
{
    struct arena arena = {0};
    struct buf out = {.max = 16384};
#define X(name)                                                                                    \
    {                                                                                              \
        struct proto_##name body;                                                                  \
        out.len = 0;                                                                               \
        if (bytes.len <= PROTO_RECORD_BODY_MAX &&                                                  \
            !proto_##name##_decode(bytes, &arena, &body, NULL) &&                                  \
            (proto_##name##_encode(&body, &out, NULL) || !span_equal(buf_span(&out), bytes))) {    \
            abort();                                                                               \
        }                                                                                          \
    }
    PROTO_BODIES(X)
#undef X
    buf_fini(&out);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proto_record record;
    try_bodies(span_of(data, size));
    if (!proto_record_decode(span_of(data, size), &fake_hash, &record, NULL)) {
        struct buf inner = {.max = 8192}, out = {.max = 8192};
        if (proto_record_encode(&record.envelope, &inner, NULL) ||
            proto_record_seal(buf_span(&inner), record.signature, &out) ||
            !span_equal(buf_span(&out), span_of(data, size)) ||
            proto_record_compare(&record, &record) != 0) {
            abort();
        }
        try_bodies(record.envelope.body);
        buf_fini(&inner);
        buf_fini(&out);
    }
    return 0;
}
