/* The statement of where a model comes from, and base64: the vectors of RFC 4648 and of DSSE, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/base64.h"
#include "proto/lineage.h"

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text, *url;
    } vectors[] = {{"", "", ""},
                   {"f", "Zg==", "Zg"},
                   {"fo", "Zm8=", "Zm8"},
                   {"foo", "Zm9v", "Zm9v"},
                   {"foob", "Zm9vYg==", "Zm9vYg"},
                   {"fooba", "Zm9vYmE=", "Zm9vYmE"},
                   {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
                   {"\xfb\xff", "+/8=", "-_8"}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        static const enum proto_base64 alphabets[] = {PROTO_BASE64, PROTO_BASE64_URL};
        for (size_t a = 0; a < 2; a++) {
            enum proto_base64 alphabet = alphabets[a];
            const char *text = alphabet == PROTO_BASE64 ? vectors[i].text : vectors[i].url;
            struct buf out = {.max = 64}, back = {.max = 64};
            assert_int_equal(proto_base64_encode(alphabet, span_str(vectors[i].bytes), &out), E_OK);
            assert_true(out.len == strlen(text) &&
                        memcmp(out.ptr ? (char *)out.ptr : "", text, out.len) == 0);
            assert_int_equal(proto_base64_decode(alphabet, span_str(text), &back), E_OK);
            assert_true(span_equal(buf_span(&back), span_str(vectors[i].bytes)) || !back.len);
            buf_fini(&out);
            buf_fini(&back);
        }
    }
    static const char *const bad[] = {"Zg=",  "Zg",     "Zg===", "Z",    "Zh==", "Zm9=",
                                      "Zm 9", "Zm9v\n", "Z===",  "====", "-_8=", "Zg==Zg=="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf out = {.max = 64};
        assert_int_equal(buf_put(&out, span_str("x")), E_OK);
        assert_int_equal(proto_base64_decode(PROTO_BASE64, span_str(bad[i]), &out), E_INVALID);
        assert_int_equal(out.len, 1);
        buf_fini(&out);
    }
}

/* The example of the DSSE specification, with our type. */
static void test_signed(void **state)
{
    (void)state;
    struct buf out = {.max = 256};
    assert_int_equal(proto_lineage_signed(span_str("hello world"), &out), E_OK);
    assert_true(span_is(buf_span(&out), "DSSEv1 28 application/vnd.in-toto+json 11 hello world"));
    buf_fini(&out);
}

static void test_statement(void **state)
{
    (void)state;
    static const uint8_t bytes[32] = {0xAB, 1};
    struct proto_lineage_node nodes[] = {
        {span_of(bytes, 16), span_str("a\"\\\n\x01"), span_str("org"), span_of(bytes, 16), 2,
         1500001},
        {span_of(bytes, 16), span_str("b"), span_str("org"), span_of(bytes, 16), 3, 0}};
    struct proto_lineage lineage = {.v = PROTO_LINEAGE_VERSION,
                                    .federation = span_of(bytes, 16),
                                    .model = span_str("m"),
                                    .job = span_of(bytes, 16),
                                    .job_name = span_str("j"),
                                    .plan = span_of(bytes, 32),
                                    .dataset = span_str("d"),
                                    .task = span_str("t"),
                                    .weights = span_of(bytes, 32),
                                    .size = 7,
                                    .rounds = 3,
                                    .delta_e12 = 1000000,
                                    .unit = span_str("row"),
                                    .coordinator = span_str("a"),
                                    .nodes = {nodes, 2},
                                    .created = 1790000000};
    static const char wanted[] =
        "{\"_type\":\"https://in-toto.io/Statement/"
        "v1\",\"subject\":[{\"name\":\"m\",\"digest\":{\"sha256\":"
        "\"ab01000000000000000000000000000000000000000000000000000000000000\"}}],\"predicateType\":"
        "\"urn:concordat:lineage:1\",\"predicate\":{\"federation\":"
        "\"ab010000000000000000000000000000\",\"job\":"
        "\"ab010000000000000000000000000000\",\"name\":\"j\",\"plan\":{\"sha256\":"
        "\"ab01000000000000000000000000000000000000000000000000000000000000\"},\"dataset\":\"d\","
        "\"task\":\"t\","
        "\"coordinator\":\"a\",\"unit\":\"row\",\"size\":7,\"rounds\":3,\"delta\":\"0."
        "000001000000\",\"created\":"
        "\"2026-09-21T14:13:20Z\",\"participants\":[{\"node\":\"a\\\"\\\\\\u000a\\u0001\",\"id\":"
        "\"ab010000000000000000000000000000\",\"institution\":\"org\",\"licence\":"
        "\"ab010000000000000000000000000000\","
        "\"rounds\":2,\"epsilon\":\"1.500001\"},{\"node\":\"b\",\"id\":"
        "\"ab010000000000000000000000000000\","
        "\"institution\":\"org\",\"licence\":\"ab010000000000000000000000000000\",\"rounds\":3,"
        "\"epsilon\":"
        "\"0.000000\"}]}}";
    struct buf out = {.max = PROTO_LINEAGE_MAX};
    assert_int_equal(proto_lineage_statement(&lineage, &out), E_OK);
    assert_string_equal(
        (assert_int_equal(buf_put(&out, span_of((const uint8_t *)"", 1)), E_OK), (char *)out.ptr),
        wanted);
    buf_fini(&out);

    /* On the wire it is the same, and nothing is cut. */
    struct buf wire = {.max = 4096}, again = {.max = PROTO_LINEAGE_MAX};
    struct arena arena = {0};
    struct proto_lineage back;
    assert_int_equal(proto_codec_encode(&proto_lineage_message, &lineage, &wire, NULL), E_OK);
    assert_int_equal(
        proto_codec_decode(&proto_lineage_message, buf_span(&wire), &arena, &back, NULL), E_OK);
    assert_int_equal(proto_lineage_statement(&back, &again), E_OK);
    assert_true(again.len == sizeof wanted - 1 && memcmp(again.ptr, wanted, again.len) == 0);
    for (size_t len = 0; len < wire.len; len++) {
        assert_int_not_equal(
            proto_codec_decode(&proto_lineage_message, span_of(wire.ptr, len), &arena, &back, NULL),
            E_OK);
    }
    struct buf small = {.max = 100};
    assert_int_equal(proto_lineage_statement(&lineage, &small), E_LIMIT);
    buf_fini(&small);
    buf_fini(&again);
    buf_fini(&wire);
    arena_fini(&arena);
}

static void test_envelope(void **state)
{
    (void)state;
    const struct proto_lineage_signature signatures[] = {{{1}, span_str("foo")},
                                                         {{2}, span_str("f")}};
    struct buf out = {.max = 1024};
    assert_int_equal(proto_lineage_envelope(span_str("{}"), signatures, 2, &out), E_OK);
    assert_true(span_is(
        buf_span(&out),
        "{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"e30=\",\"signatures\":["
        "{\"keyid\":\"01000000000000000000000000000000\",\"sig\":\"Zm9v\"},"
        "{\"keyid\":\"02000000000000000000000000000000\",\"sig\":\"Zg==\"}]}\n"));
    assert_true(proto_lineage_is_envelope(buf_span(&out)));
    for (size_t len = 0; len < out.len; len++) {
        assert_false(proto_lineage_is_envelope(span_of(out.ptr, len)));
    }
    for (size_t i = 0; i < strlen("{\"payloadType\":\"application/vnd.in-toto+json\""); i++) {
        out.ptr[i] ^= 0x20;
        assert_false(proto_lineage_is_envelope(buf_span(&out)));
        out.ptr[i] ^= 0x20;
    }
    assert_true(proto_lineage_is_envelope(buf_span(&out)));
    assert_false(proto_lineage_is_envelope(span_str("{\"kind\":\"tabular\",\"signatures\":[]}\n")));
    assert_false(proto_lineage_is_envelope(SPAN_NONE));
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_signed),
        cmocka_unit_test(test_statement),
        cmocka_unit_test(test_envelope),
    };
    return cmocka_run_group_tests_name("proto/lineage", tests, NULL, NULL);
}
