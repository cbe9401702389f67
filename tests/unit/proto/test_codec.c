/* Codec: one encoding per value, everything else refused, and no allocation by a claimed count. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "proto/codec.h"

struct inner {
    uint64_t n;
    struct proto_list words;
};
struct sample {
    uint64_t version;
    int64_t shift;
    bool flag;
    double real;
    struct span name;
    struct span blob;
    uint8_t id[4];
    struct inner inner;
    struct proto_list items;
    bool has_limit;
    uint64_t limit;
    struct span note;
    bool has_list;
    struct proto_list list;
};
static const struct proto_field inner_fields[] = {
    PROTO_FIELD(struct inner, n, PROTO_U64, 0, 1000),
    PROTO_FIELD_LIST(struct inner, words, &proto_text_message, 0, 4),
};
static const struct proto_message inner_message =
    PROTO_MESSAGE("inner", struct inner, inner_fields);
static const struct proto_field sample_fields[] = {
    PROTO_FIELD(struct sample, version, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct sample, shift, PROTO_I64, -1000, 1000),
    PROTO_FIELD(struct sample, flag, PROTO_BOOL, 0, 0),
    PROTO_FIELD(struct sample, real, PROTO_F64, 0, 0),
    PROTO_FIELD(struct sample, name, PROTO_STR, 1, 8),
    PROTO_FIELD(struct sample, blob, PROTO_BIN, 0, 300),
    PROTO_FIELD(struct sample, id, PROTO_FIXED, 4, 4),
    PROTO_FIELD_NESTED(struct sample, inner, &inner_message),
    PROTO_FIELD_LIST(struct sample, items, &inner_message, 0, 3),
    PROTO_FIELD_PRESENT(struct sample, limit, has_limit, PROTO_U64, 0, 9),
    PROTO_FIELD_OPTIONAL(struct sample, note, PROTO_STR, 0, 8),
    PROTO_FIELD_LIST_PRESENT(struct sample, list, has_list, &proto_text_message, 0, 4),
};
static const struct proto_message sample_message =
    PROTO_MESSAGE("sample", struct sample, sample_fields);

/* [1, -1, true, 1.5, "ab", h'01', h'01020304', [7, ["x"]], [[8, []]], nil, nil, []] */
static const uint8_t golden[] = {0x9C, 0x01, 0xFF, 0xC3, 0xCB, 0x3F, 0xF8, 0,    0,    0,
                                 0,    0,    0,    0xA2, 'a',  'b',  0xC4, 0x01, 0x01, 0xC4,
                                 0x04, 0x01, 0x02, 0x03, 0x04, 0x92, 0x07, 0x91, 0xA1, 'x',
                                 0x91, 0x92, 0x08, 0x90, 0xC0, 0xC0, 0x90};

static struct sample make(void)
{
    static struct proto_text words[] = {{{(const uint8_t *)"x", 1}}};
    static struct inner items[] = {{.n = 8}};
    return (struct sample){
        .version = 1,
        .shift = -1,
        .flag = true,
        .real = 1.5,
        .name = span_str("ab"),
        .blob = span_of("\1", 1),
        .id = {1, 2, 3, 4},
        .inner = {7, {words, 1}},
        .items = {items, 1},
        .has_list = true,
    };
}

static enum err encode(const struct sample *sample, uint8_t *to, size_t *len)
{
    struct buf out = {.max = 4096};
    enum err err = proto_codec_encode(&sample_message, sample, &out, NULL);
    memcpy(to, out.ptr ? out.ptr : (const uint8_t *)"", out.len);
    *len = out.len;
    buf_fini(&out);
    return err;
}

/* Decodes from an exact heap copy, so that a sanitizer sees any read outside. */
static enum err decode(const void *bytes, size_t len)
{
    struct arena arena = {0};
    struct sample sample;
    struct err_info info = {0};
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    enum err err = proto_codec_decode(&sample_message, span_of(copy, len), &arena, &sample, &info);
    assert_true(!err == !info.text[0]);
    arena_fini(&arena);
    free(copy);
    return err;
}

static void test_golden(void **state)
{
    (void)state;
    struct sample sample = make(), back;
    uint8_t bytes[4096];
    size_t len;
    assert_int_equal(encode(&sample, bytes, &len), E_OK);
    assert_int_equal(len, sizeof golden);
    assert_memory_equal(bytes, golden, sizeof golden);
    struct arena arena = {0};
    assert_int_equal(
        proto_codec_decode(&sample_message, span_of(golden, sizeof golden), &arena, &back, NULL),
        E_OK);
    assert_int_equal(back.shift, -1);
    assert_true(back.name.ptr > golden && back.name.ptr < golden + sizeof golden);
    assert_false(back.has_limit);
    assert_null(back.note.ptr);
    assert_true(back.has_list);
    const struct proto_text *words = back.inner.words.items;
    assert_true(span_is(words[0].text, "x"));
    arena_fini(&arena);
}

static void test_every_cut_and_tail(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof golden; n++) {
        assert_int_not_equal(decode(golden, n), E_OK);
    }
    uint8_t longer[sizeof golden + 1] = {0};
    memcpy(longer, golden, sizeof golden);
    assert_int_equal(decode(longer, sizeof longer), E_INVALID);
}

/* Replaces REMOVE bytes at AT by INSERT. */
static enum err decode_with(size_t at, size_t remove, const char *insert, size_t insert_len)
{
    uint8_t bytes[sizeof golden + 512];
    memcpy(bytes, golden, at);
    memcpy(bytes + at, insert, insert_len);
    memcpy(bytes + at + insert_len, golden + at + remove, sizeof golden - at - remove);
    return decode(bytes, sizeof golden - remove + insert_len);
}
#define REPLACE(at, remove, text) decode_with(at, remove, text, sizeof(text) - 1)

static void test_refusals(void **state)
{
    (void)state;
    assert_int_equal(REPLACE(0, 0, ""), E_OK);
    assert_int_equal(REPLACE(sizeof golden, 0, "\xC0"), E_INVALID); /* a trailing byte */
    assert_int_equal(REPLACE(1, 1, "\xCC\x01"), E_INVALID);         /* 1 in two bytes */
    assert_int_equal(REPLACE(1, 1, "\xCD\x00\x01"), E_INVALID);     /* in three */
    assert_int_equal(REPLACE(1, 1, "\xD0\x01"), E_INVALID);         /* as a signed one */
    assert_int_equal(REPLACE(2, 1, "\xD0\xFF"), E_INVALID);         /* -1 in two bytes */
    assert_int_equal(REPLACE(1, 1, "\x00"), E_LIMIT);               /* below min */
    assert_int_equal(REPLACE(1, 1, "\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), E_LIMIT);
    assert_int_equal(REPLACE(1, 1, "\xFF"), E_INVALID);       /* negative where none may be */
    assert_int_equal(REPLACE(1, 1, "\xC0"), E_INVALID);       /* required and nil */
    assert_int_equal(REPLACE(2, 1, "\xD1\xFC\x17"), E_LIMIT); /* -1001 */
    assert_int_equal(REPLACE(3, 1, "\x01"), E_INVALID);       /* 1 is not true */
    assert_int_equal(REPLACE(4, 9, "\xCA\x3F\xC0\x00\x00"), E_INVALID); /* float 32 */
    assert_int_equal(REPLACE(5, 8, "\x80\0\0\0\0\0\0\0"), E_LIMIT);     /* -0 */
    assert_int_equal(REPLACE(5, 8, "\x7F\xF8\0\0\0\0\0\0"), E_LIMIT);   /* NaN */
    assert_int_equal(REPLACE(5, 8, "\x7F\xF0\0\0\0\0\0\0"), E_LIMIT);   /* infinity */
    assert_int_equal(REPLACE(13, 3, "\xA0"), E_LIMIT);                  /* name too short */
    assert_int_equal(REPLACE(13, 3,
                             "\xA9"
                             "123456789"),
                     E_LIMIT); /* too long */
    assert_int_equal(REPLACE(13, 3,
                             "\xD9\x02"
                             "ab"),
                     E_INVALID); /* longer header */
    assert_int_equal(REPLACE(13, 3,
                             "\xC4\x02"
                             "ab"),
                     E_INVALID);                                     /* bin for str */
    assert_int_equal(REPLACE(13, 3, "\xA2\xC0\x80"), E_INVALID);     /* overlong zero */
    assert_int_equal(REPLACE(13, 3, "\xA1\0"), E_INVALID);           /* a zero byte */
    assert_int_equal(REPLACE(13, 3, "\xA3\xED\xA0\x80"), E_INVALID); /* a surrogate */
    assert_int_equal(REPLACE(13, 3, "\xA4\xF4\x90\x80\x80"), E_INVALID);
    assert_int_equal(REPLACE(13, 3, "\xA1\xFF"), E_INVALID);
    assert_int_equal(REPLACE(13, 3, "\xA4\xF0\x9F\x98\x80"), E_OK); /* well-formed */
    assert_int_equal(REPLACE(19, 6, "\xC4\x03\1\2\3"), E_INVALID);  /* fixed, another length */
    assert_int_equal(REPLACE(25, 2, "\x93\x07\x07"), E_INVALID);    /* one field too many inside */
    assert_int_equal(REPLACE(0, 1, "\x9D"), E_TRUNCATED);
    assert_int_equal(REPLACE(0, 2, "\x9B"), E_INVALID);                      /* a field missing */
    assert_int_equal(REPLACE(30, 4, "\xDC\x00\x01\x92\x08\x90"), E_INVALID); /* wide array header */
    assert_int_equal(REPLACE(30, 4, "\x94\x92\x08\x90\x92\x08\x90\x92\x08\x90\x92\x08\x90"),
                     E_LIMIT);
    assert_int_equal(REPLACE(34, 1, "\x05"), E_OK);
    assert_int_equal(REPLACE(34, 1, "\x0A"), E_LIMIT);
    assert_int_equal(REPLACE(35, 1, "\xA0"), E_OK);
    assert_int_equal(REPLACE(36, 1, "\xC0"), E_OK);
    assert_int_equal(REPLACE(36, 1, "\x80"), E_INVALID);         /* a map */
    assert_int_equal(REPLACE(36, 1, "\xD4\x01\x00"), E_INVALID); /* an extension */
    assert_int_equal(REPLACE(36, 1, "\xC1"), E_INVALID);
}

static void test_one_field_more(void **state)
{
    (void)state;
    uint8_t bytes[sizeof golden + 1];
    memcpy(bytes, golden, sizeof golden);
    bytes[0] = 0x9D;
    bytes[sizeof golden] = 0xC0;
    assert_int_equal(decode(bytes, sizeof bytes), E_INVALID);
}

static void test_depth_and_counts(void **state)
{
    (void)state;
    uint8_t deep[64];
    memset(deep, 0x91, sizeof deep);
    deep[63] = 0xC0;
    assert_int_equal(decode(deep, sizeof deep), E_LIMIT);
    /* Four thousand million elements, none there: refused before msgpack-c sees the count. */
    assert_int_equal(decode("\xDD\xFF\xFF\xFF\xFF", 5), E_TRUNCATED);
    assert_int_equal(decode("\xDC\xFF\xFF", 3), E_TRUNCATED);
    assert_int_equal(decode("\xDB\xFF\xFF\xFF\xFF", 5), E_TRUNCATED);
    assert_int_equal(decode("\xC6\xFF\xFF\xFF", 4), E_TRUNCATED);
    /* As many elements as bytes, but more than any message of ours has. */
    size_t count = PROTO_CODEC_ELEMENTS + 1;
    uint8_t *wide = malloc(count + 5);
    memset(wide, 0xC0, count + 5);
    wide[0] = 0xDD;
    put_be32(wide + 1, (uint32_t)count);
    assert_int_equal(decode(wide, count + 5), E_LIMIT);
    free(wide);
    uint8_t *huge = calloc(1, PROTO_CODEC_MAX + 1);
    assert_int_equal(decode(huge, PROTO_CODEC_MAX + 1), E_LIMIT);
    free(huge);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    size_t len;
    struct sample good = make(), bad = good;
    bad.version = 0;
    assert_int_equal(encode(&bad, bytes, &len), E_LIMIT);
    assert_int_equal(len, 0);
    bad = good;
    bad.version = UINT64_MAX;
    assert_int_equal(encode(&bad, bytes, &len), E_LIMIT);
    bad = good;
    bad.real = -0.0;
    assert_int_equal(encode(&bad, bytes, &len), E_LIMIT);
    bad.real = NAN;
    assert_int_equal(encode(&bad, bytes, &len), E_LIMIT);
    bad = good;
    bad.name = span_of("\xFF", 1);
    assert_int_equal(encode(&bad, bytes, &len), E_LIMIT);
    bad = good;
    bad.items.count = 4;
    assert_int_equal(encode(&bad, bytes, &len), E_LIMIT);
    struct buf small = {.max = 20};
    assert_int_equal(buf_put(&small, span_str("abc")), E_OK);
    assert_int_equal(proto_codec_encode(&sample_message, &good, &small, NULL), E_LIMIT);
    assert_int_equal(small.len, 3);
    buf_fini(&small);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        assert_true(n < 50);
        struct arena arena = {0};
        struct buf out = {.max = 4096};
        struct sample sample = make(), back;
        proto_alloc_fail_at(n);
        enum err err = proto_codec_encode(&sample_message, &sample, &out, NULL);
        if (!err) {
            err = proto_codec_decode(&sample_message, buf_span(&out), &arena, &back, NULL);
        }
        proto_alloc_fail_at(0);
        assert_true(err == E_OK || err == E_NO_MEMORY);
        assert_true(err == E_OK || n < 10);
        done = err == E_OK;
        buf_fini(&out);
        arena_fini(&arena);
    }
}

struct carrier {
    uint64_t size;
    struct span bytes;
};
static const struct proto_field carrier_fields[] = {
    PROTO_FIELD(struct carrier, size, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct carrier, bytes, PROTO_BIN, 0, 70000),
};
static const struct proto_message carrier_message =
    PROTO_MESSAGE("carrier", struct carrier, carrier_fields);

/* The head and the bytes behind it are the whole message. */
static void test_head_alone(void **state)
{
    static const uint8_t bytes[70001] = {1, 2, 3};
    static const size_t lengths[] = {0, 1, 255, 256, 65535, 65536, 70000};
    struct buf whole = {.max = 1 << 20}, head = {.max = 1 << 20};
    struct carrier carrier = {.bytes = SPAN_NONE};
    const struct sample other = {.version = 1};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        carrier = (struct carrier){i % 2 ? INT64_MAX : i, span_of(bytes, lengths[i])};
        whole.len = head.len = 0;
        assert_int_equal(proto_codec_encode(&carrier_message, &carrier, &whole, NULL), E_OK);
        assert_int_equal(proto_codec_encode_head(&carrier_message, &carrier, &head, NULL), E_OK);
        assert_int_equal(buf_put(&head, carrier.bytes), E_OK);
        assert_true(span_equal(buf_span(&whole), buf_span(&head)));
    }
    head.len = 0;
    carrier.bytes = SPAN_NONE;
    assert_int_equal(proto_codec_encode_head(&carrier_message, &carrier, &head, NULL), E_OK);
    head.len = 0;
    carrier.bytes = span_of(bytes, sizeof bytes); /* more than the table allows */
    assert_int_equal(proto_codec_encode_head(&carrier_message, &carrier, &head, NULL), E_LIMIT);
    assert_int_equal(proto_codec_encode_head(&sample_message, &other, &head, NULL), E_LIMIT);
    assert_int_equal(head.len, 0);
    buf_fini(&whole);
    buf_fini(&head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),           cmocka_unit_test(test_every_cut_and_tail),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_one_field_more),
        cmocka_unit_test(test_depth_and_counts), cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_head_alone),       cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("proto/codec", tests, NULL, NULL);
}
