#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/control.h"

static void encode_sample(struct buf *out)
{
    struct proto_control_argument arguments[] = {
        {span_str("SQL"), span_str("SELECT COUNT(*) FROM a")},
        {span_str("--epsilon"), span_str("0.5")},
        {span_str("--explain"), span_str("")},
    };
    struct proto_control_request request = {
        PROTO_CONTROL_VERSION, span_str("query"), {arguments, 3}};
    assert_int_equal(proto_control_encode_request(&request, out, NULL), E_OK);
}

static void test_request_comes_back(void **state)
{
    (void)state;
    struct buf out = {.max = 4096};
    encode_sample(&out);
    struct proto_control_frame frame;
    size_t used = 0;
    assert_int_equal(proto_control_next(buf_span(&out), &frame, &used, NULL), E_OK);
    assert_int_equal(used, out.len);
    assert_int_equal(frame.kind, PROTO_CONTROL_REQUEST);
    struct arena arena = {0};
    struct proto_control_request back;
    assert_int_equal(proto_control_decode_request(frame.body, &arena, &back, NULL), E_OK);
    assert_true(span_is(back.operation, "query"));
    assert_int_equal(back.arguments.count, 3);
    assert_true(span_is(proto_control_value(&back, "--epsilon"), "0.5"));
    assert_non_null(proto_control_value(&back, "--explain").ptr);
    assert_int_equal(proto_control_value(&back, "--explain").len, 0);
    assert_null(proto_control_value(&back, "--delta").ptr);
    arena_fini(&arena);
    buf_fini(&out);
}

static void test_every_prefix_is_truncated(void **state)
{
    (void)state;
    struct buf out = {.max = 4096};
    encode_sample(&out);
    for (size_t len = 0; len < out.len; len++) {
        /* An exact copy, so that a sanitizer sees a read past the prefix. */
        uint8_t *copy = malloc(len + 1);
        memcpy(copy, out.ptr, len);
        struct proto_control_frame frame;
        size_t used = 0;
        assert_int_equal(proto_control_next(span_of(copy, len), &frame, &used, NULL), E_TRUNCATED);
        free(copy);
    }
    buf_fini(&out);
}

static void test_frames_follow_each_other(void **state)
{
    (void)state;
    struct buf out = {.max = 4096};
    struct proto_control_progress progress = {span_str("reading"), 5, 10};
    struct proto_control_result result = {5, span_str("{\"error\":{}}")};
    assert_int_equal(proto_control_encode_progress(&progress, &out, NULL), E_OK);
    assert_int_equal(proto_control_encode_cancel(&out, NULL), E_OK);
    assert_int_equal(proto_control_encode_result(&result, &out, NULL), E_OK);
    struct span left = buf_span(&out);
    static const enum proto_control_kind order[] = {PROTO_CONTROL_PROGRESS, PROTO_CONTROL_CANCEL,
                                                    PROTO_CONTROL_RESULT};
    for (size_t i = 0; i < 3; i++) {
        struct proto_control_frame frame;
        size_t used = 0;
        assert_int_equal(proto_control_next(left, &frame, &used, NULL), E_OK);
        assert_int_equal(frame.kind, order[i]);
        if (frame.kind == PROTO_CONTROL_PROGRESS) {
            struct proto_control_progress back;
            assert_int_equal(proto_control_decode_progress(frame.body, &back, NULL), E_OK);
            assert_int_equal(back.done, 5);
            assert_int_equal(back.total, 10);
        } else if (frame.kind == PROTO_CONTROL_RESULT) {
            struct proto_control_result back;
            assert_int_equal(proto_control_decode_result(frame.body, &back, NULL), E_OK);
            assert_int_equal(back.exit_code, 5);
            assert_true(span_is(back.json, "{\"error\":{}}"));
        }
        left = span_of(left.ptr + used, left.len - used);
    }
    assert_int_equal(left.len, 0);
    buf_fini(&out);
}

static void test_garbage_is_refused_at_once(void **state)
{
    (void)state;
    struct proto_control_frame frame;
    size_t used = 0;
    const uint8_t huge[4] = {0xFF, 0xFF, 0xFF, 0xFF};
    assert_int_equal(proto_control_next(span_of(huge, 4), &frame, &used, NULL), E_LIMIT);
    const uint8_t empty[5] = {0, 0, 0, 1, 1};
    assert_int_equal(proto_control_next(span_of(empty, 5), &frame, &used, NULL), E_LIMIT);
    const uint8_t unknown[6] = {0, 0, 0, 2, 9, 0x90};
    assert_int_equal(proto_control_next(span_of(unknown, 6), &frame, &used, NULL), E_INVALID);
    struct arena arena = {0};
    struct proto_control_request request;
    const uint8_t version2[] = {0x93, 0x02, 0xA1, 'x', 0x90};
    assert_int_equal(
        proto_control_decode_request(span_of(version2, sizeof version2), &arena, &request, NULL),
        E_UNSUPPORTED);
    const uint8_t trailing[] = {0x93, 0x01, 0xA1, 'x', 0x90, 0x00};
    assert_int_not_equal(
        proto_control_decode_request(span_of(trailing, sizeof trailing), &arena, &request, NULL),
        E_OK);
    arena_fini(&arena);
}

static void test_limits_leave_the_buffer_alone(void **state)
{
    (void)state;
    struct buf out = {.max = 64};
    assert_int_equal(proto_control_encode_cancel(&out, NULL), E_OK);
    size_t before = out.len;
    char json[128];
    memset(json, ' ', sizeof json);
    struct proto_control_result result = {0, span_of(json, sizeof json)};
    assert_int_not_equal(proto_control_encode_result(&result, &out, NULL), E_OK);
    assert_int_equal(out.len, before);
    result.exit_code = 10;
    result.json = span_str("{}");
    assert_int_equal(proto_control_encode_result(&result, &out, NULL), E_LIMIT);
    assert_int_equal(out.len, before);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_comes_back),
        cmocka_unit_test(test_every_prefix_is_truncated),
        cmocka_unit_test(test_frames_follow_each_other),
        cmocka_unit_test(test_garbage_is_refused_at_once),
        cmocka_unit_test(test_limits_leave_the_buffer_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
