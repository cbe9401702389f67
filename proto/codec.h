/* Strict msgpack by message tables: one table states a message's fields, types and limits, and serves reader and
 * writer.
 *
 *     struct ping { uint64_t now_ms; struct span root; };
 *     static const struct proto_field ping_fields[] = {
 *         PROTO_FIELD(struct ping, now_ms, PROTO_U64, 0, INT64_MAX),
 *         PROTO_FIELD(struct ping, root, PROTO_BIN, 16, 16),
 *     };
 *     static const struct proto_message ping_message = PROTO_MESSAGE("ping", struct ping, ping_fields);
 *
 * A message is a msgpack array of exactly its fields, in table order; an absent optional field is nil. Decoding
 * refuses:
 *     - another element count, a wrong type, a value outside min..max, trailing bytes;
 *     - nesting deeper than PROTO_CODEC_DEPTH, arrays longer than the bytes that could hold them;
 *     - invalid UTF-8 in PROTO_STR;
 *     - anything whose re-encoding by the same table differs in one byte, so that each value has one encoding (integers
 *       are minimal).
 *
 * Limits: PROTO_CODEC_MAX bytes and PROTO_CODEC_ELEMENTS elements a message, checked before anything is allocated.
 * Threads: pure. */
#ifndef CONCORDAT_PROTO_CODEC_H
#define CONCORDAT_PROTO_CODEC_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define PROTO_CODEC_MAX      ((size_t)4 << 20)
#define PROTO_CODEC_DEPTH    8
#define PROTO_CODEC_ELEMENTS 65536

/* Field type and the C type of the member it fills. min..max bound integer values, byte lengths and
 * array counts. */
enum proto_type {
    PROTO_U64,    /* uint64_t */
    PROTO_I64,    /* int64_t */
    PROTO_BOOL,   /* bool */
    PROTO_F64,    /* double; finite; -0 and NaN refused; msgpack float 64 only */
    PROTO_STR,    /* struct span, UTF-8 without zero bytes; borrowed from the decoded bytes */
    PROTO_BIN,    /* struct span; borrowed from the decoded bytes */
    PROTO_FIXED,  /* uint8_t[min], msgpack bin of exactly that length */
    PROTO_NESTED, /* the nested struct itself, inline */
    PROTO_LIST,   /* struct proto_list of nested structs, allocated from the arena */
};

/* count elements of the element message's size, at items; owned by the arena of the decoding. */
struct proto_list {
    void *items;
    size_t count;
};

struct proto_message;

struct proto_field {
    const char *name;
    enum proto_type type;
    bool optional; /* nil when absent: scalars and nested need `present`; spans absent = ptr NULL;
                      lists absent = count 0 */
    size_t offset;
    size_t present; /* offset of a bool that says whether an optional field is there; 0: none */
    int64_t min;
    int64_t max;
    const struct proto_message *nested;
};

struct proto_message {
    const char *name;
    const struct proto_field *fields;
    size_t count;
    size_t size; /* of the C struct */
};

/* 0 stands for "no such member", so the bool may not come first in its structure: that does not compile. */
#define PROTO_PRESENT_AT(type_, has_) (offsetof(type_, has_) / (size_t)(offsetof(type_, has_) != 0))

#define PROTO_FIELD(type_, member, kind, min_, max_)                                               \
    {                                                                                              \
        .name = #member, .type = kind, .offset = offsetof(type_, member), .min = min_, .max = max_ \
    }
#define PROTO_FIELD_OPTIONAL(type_, member, kind, min_, max_)                                      \
    {                                                                                              \
        .name = #member, .type = kind, .optional = true, .offset = offsetof(type_, member),        \
        .min = min_, .max = max_                                                                   \
    }
#define PROTO_FIELD_PRESENT(type_, member, has_, kind, min_, max_)                                 \
    {                                                                                              \
        .name = #member, .type = kind, .optional = true, .offset = offsetof(type_, member),        \
        .present = PROTO_PRESENT_AT(type_, has_), .min = min_, .max = max_                         \
    }
#define PROTO_FIELD_NESTED(type_, member, message_)                                                \
    {                                                                                              \
        .name = #member, .type = PROTO_NESTED, .offset = offsetof(type_, member),                  \
        .nested = message_                                                                         \
    }
#define PROTO_FIELD_NESTED_PRESENT(type_, member, has_, message_)                                  \
    {                                                                                              \
        .name = #member, .type = PROTO_NESTED, .optional = true,                                   \
        .offset = offsetof(type_, member), .present = PROTO_PRESENT_AT(type_, has_),               \
        .nested = message_                                                                         \
    }
/* nil and the empty list differ. */
#define PROTO_FIELD_LIST_PRESENT(type_, member, has_, message_, min_, max_)                        \
    {                                                                                              \
        .name = #member, .type = PROTO_LIST, .optional = true, .offset = offsetof(type_, member),  \
        .present = PROTO_PRESENT_AT(type_, has_), .min = min_, .max = max_, .nested = message_     \
    }
#define PROTO_FIELD_LIST(type_, member, message_, min_, max_)                                      \
    {                                                                                              \
        .name = #member, .type = PROTO_LIST, .offset = offsetof(type_, member), .min = min_,       \
        .max = max_, .nested = message_                                                            \
    }
#define PROTO_MESSAGE(name_, type_, fields_)                                                       \
    {                                                                                              \
        name_, fields_, sizeof(fields_) / sizeof *(fields_), sizeof(type_)                         \
    }

/* A list of plain strings is a list of this; its elements stand in the list bare, without an array of one field. */
struct proto_text {
    struct span text;
};
extern const struct proto_message proto_text_message;      /* 1..256 bytes each */
extern const struct proto_message proto_long_text_message; /* 0..4096 bytes each */

/* Appends the encoding of OBJECT to OUT.
 * Errors: E_LIMIT a field is outside its table's bounds or OUT is full; E_NO_MEMORY. On failure OUT
 * is unchanged. */
MUST_CHECK enum err proto_codec_encode(const struct proto_message *message, const void *object,
                                       struct buf *out, struct err_info *reterr);

/* The same without the bytes of the last field, a PROTO_BIN: for whoever sends these from where they stand. */
MUST_CHECK enum err proto_codec_encode_head(const struct proto_message *message, const void *object,
                                            struct buf *out, struct err_info *reterr);

/* Fills OBJECT (message->size bytes) from BYTES; spans in it point into BYTES, lists into ARENA.
 * Errors: E_TRUNCATED, E_INVALID, E_LIMIT (text names message and field, never the value);
 * E_NO_MEMORY. On failure OBJECT is unspecified and must not be used. */
MUST_CHECK enum err proto_codec_decode(const struct proto_message *message, struct span bytes,
                                       struct arena *arena, void *object, struct err_info *reterr);

bool proto_utf8_valid(struct span text);

#endif
