/* trainer/1: frames round trip, arrive in pieces, and are refused where they cannot be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/train/trainer_message.h"

static struct train_trainer_frame sample_task(void)
{
    static struct proto_text features[2];
    features[0].text = span_str("age");
    features[1].text = span_str("sex");
    return (struct train_trainer_frame){
        .type = TRAIN_TRAINER_TASK,
        .of.task = {.version = TRAIN_TRAINER_VERSION,
                    .task = span_str("tabular-classification"),
                    .round = 2,
                    .rounds = 5,
                    .numbers = 300,
                    .rows = 70000,
                    .width = 2,
                    .epochs = 1,
                    .batch = 256,
                    .learning_rate = 0.5,
                    .threads = 2,
                    .time_ms = 60000,
                    .features = {features, 2}},
    };
}

static void frames_round_trip_in_pieces(void **state)
{
    const struct train_trainer_frame frames[] = {
        {.type = TRAIN_TRAINER_CONFINED, .of.confined = {true, 7, true, span_str("")}},
        {.type = TRAIN_TRAINER_HELLO, .of.hello = {TRAIN_TRAINER_VERSION, span_str("a")}},
        sample_task(),
        {.type = TRAIN_TRAINER_PROGRESS, .of.progress = {3, 10}},
        {.type = TRAIN_TRAINER_UPDATE, .of.update = {4096}},
        {.type = TRAIN_TRAINER_FAILED},
    };
    struct buf all = {.max = 1 << 20};
    struct arena arena = {0};
    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        struct buf out = {.max = 1 << 20};
        struct train_trainer_frame back;
        size_t used;
        assert_int_equal(train_trainer_encode(&frames[i], &out, NULL), E_OK);
        for (size_t len = 0; len < out.len; len++) { /* not there yet, never wrong */
            assert_int_equal(
                train_trainer_decode(span_of(out.ptr, len), &arena, &back, &used, NULL), E_OK);
            assert_int_equal(used, 0);
        }
        assert_int_equal(train_trainer_decode(buf_span(&out), &arena, &back, &used, NULL), E_OK);
        assert_int_equal(used, out.len);
        assert_int_equal(back.type, frames[i].type);
        assert_int_equal(buf_put(&all, buf_span(&out)), E_OK);
        buf_fini(&out);
    }
    size_t at = 0;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        struct train_trainer_frame back;
        size_t used;
        assert_int_equal(
            train_trainer_decode(span_of(all.ptr + at, all.len - at), &arena, &back, &used, NULL),
            E_OK);
        assert_int_equal(back.type, frames[i].type);
        at += used;
    }
    assert_int_equal(at, all.len);
    buf_fini(&all);
    arena_fini(&arena);
}

/* The bytes that deploy/trainer/concordat_trainer.py writes and reads. */
static void the_bytes_are_known(void **state)
{
    static const uint8_t hello[] = {9, 0, 0, 0, 2, 0x92, 1, 0xa5, 'p', 'l', 'a', 'i', 'n'};
    static const uint8_t update[] = {5, 0, 0, 0, 5, 0x91, 0xcd, 0x01, 0x2c};
    struct train_trainer_frame frame = {.type = TRAIN_TRAINER_HELLO,
                                        .of.hello = {TRAIN_TRAINER_VERSION, span_str("plain")}};
    struct buf out = {.max = 1 << 10};
    (void)state;
    assert_int_equal(train_trainer_encode(&frame, &out, NULL), E_OK);
    assert_int_equal(out.len, sizeof hello);
    assert_memory_equal(out.ptr, hello, sizeof hello);
    out.len = 0;
    frame = (struct train_trainer_frame){.type = TRAIN_TRAINER_UPDATE, .of.update = {300}};
    assert_int_equal(train_trainer_encode(&frame, &out, NULL), E_OK);
    assert_int_equal(out.len, sizeof update);
    assert_memory_equal(out.ptr, update, sizeof update);
    buf_fini(&out);
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum err err;
    } cases[] = {
        {"\0\0\0\0", 4, E_LIMIT},     /* no type */
        {"\x01\0\x01\0", 4, E_LIMIT}, /* longer than a frame may be */
        {"\xff\xff\xff\xff", 4, E_LIMIT},
        {"\x01\0\0\0\0", 5, E_INVALID},                 /* no such type */
        {"\xff\0\0\0\x07", 5, E_INVALID},               /* told before the rest arrives */
        {"\x02\0\0\0\x06\xc0", 6, E_INVALID},           /* FAILED has no fields */
        {"\x03\0\0\0\x05\x91\xc0", 7, E_INVALID},       /* nil is no size */
        {"\x05\0\0\0\x05\x91\xcd\0\x05", 9, E_INVALID}, /* not the shortest form */
        {"\x05\0\0\0\x02\x92\x02\xa1\x61", 9, E_LIMIT}, /* version 2 */
    };
    struct arena arena = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct train_trainer_frame frame;
        struct err_info info = {0};
        size_t used;
        assert_int_equal(train_trainer_decode(span_of(cases[i].bytes, cases[i].len), &arena, &frame,
                                              &used, &info),
                         cases[i].err);
        assert_int_equal(used, 0);
        assert_true(info.text[0]);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_round_trip_in_pieces),
        cmocka_unit_test(the_bytes_are_known),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
