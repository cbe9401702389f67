/* The codec under a table with every field type: what decodes must re-encode to the same bytes. */
#include "config.h"

#include <stdlib.h>

#include "proto/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct item {
    uint64_t n;
    struct proto_list words;
};
struct sample {
    uint64_t u;
    int64_t i;
    bool flag;
    double real;
    struct span text;
    struct span blob;
    uint8_t id[4];
    struct item one;
    struct proto_list items;
    bool has_limit;
    uint64_t limit;
    bool has_list;
    struct proto_list list;
};
static const struct proto_field item_fields[] = {
    PROTO_FIELD(struct item, n, PROTO_U64, 0, 1000),
    PROTO_FIELD_LIST(struct item, words, &proto_long_text_message, 0, 1000),
};
static const struct proto_message item_message = PROTO_MESSAGE("item", struct item, item_fields);
static const struct proto_field sample_fields[] = {
    PROTO_FIELD(struct sample, u, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct sample, i, PROTO_I64, INT64_MIN, INT64_MAX),
    PROTO_FIELD(struct sample, flag, PROTO_BOOL, 0, 0),
    PROTO_FIELD(struct sample, real, PROTO_F64, 0, 0),
    PROTO_FIELD(struct sample, text, PROTO_STR, 0, 1000),
    PROTO_FIELD_OPTIONAL(struct sample, blob, PROTO_BIN, 0, 1000),
    PROTO_FIELD(struct sample, id, PROTO_FIXED, 4, 4),
    PROTO_FIELD_NESTED(struct sample, one, &item_message),
    PROTO_FIELD_LIST(struct sample, items, &item_message, 0, 1000),
    PROTO_FIELD_PRESENT(struct sample, limit, has_limit, PROTO_U64, 0, 9),
    PROTO_FIELD_LIST_PRESENT(struct sample, list, has_list, &proto_text_message, 0, 1000),
};
static const struct proto_message sample_message =
    PROTO_MESSAGE("sample", struct sample, sample_fields);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct sample sample;
    if (!proto_codec_decode(&sample_message, span_of(data, size), &arena, &sample, NULL)) {
        struct buf out = {.max = PROTO_CODEC_MAX};
        if (proto_codec_encode(&sample_message, &sample, &out, NULL) ||
            !span_equal(buf_span(&out), span_of(data, size))) {
            abort();
        }
        buf_fini(&out);
    }
    arena_fini(&arena);
    return 0;
}
