/* The seeds of fuzz targets are messages of this version: behind a stale one a target sees nothing but the version. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/provider.h"
#include "node/query/message.h"
#include "node/train/state.h"

static const char *const trains[] = {"admit",         "offer",      "round",      "update",
                                     "plan",          "plan-heads", "plan-notes", "plan-regression",
                                     "plan-survival", "part",       "part-2",     "state"};
static const char *const answers[] = {"answer-0", "answer-1", "answer-2", "answer-3",
                                      "answer-4", "answer-5", "answer-6"};

static struct span seed(const char *target, const char *name)
{
    static uint8_t bytes[1 << 16];
    char path[1024];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/%s/%s", top ? top : ".", target, name);
    FILE *from = fopen(path, "rb");
    if (!from) {
        fail_msg("%s is missing", path);
    }
    size_t len = fread(bytes, 1, sizeof bytes, from);
    fclose(from);
    assert_in_range(len, 1, sizeof bytes - 1);
    return span_of(bytes, len);
}

static enum err take_plan(struct span bytes, struct arena *arena)
{
    struct train_plan plan;
    enum err err = proto_codec_decode(&train_plan_message, bytes, arena, &plan, NULL);
    return err ? err : train_plan_check(&plan, NULL);
}

static enum err take_state(struct span bytes)
{
    struct train_job_state *state = proto_alloc(1, sizeof *state);
    assert_non_null(state);
    enum err err = train_job_state_decode(bytes, state, NULL);
    train_job_state_fini(state);
    proto_free(state);
    return err;
}

/* As fuzz_train.c tells them apart. */
static enum err take_train(struct span bytes, struct arena *arena)
{
    struct span rest = span_of(bytes.ptr + 1, bytes.len - 1);
    struct train_offer offer;
    struct train_admit admit;
    struct train_round round;
    struct train_update update;
    struct train_part part;
    enum err err;
    switch (bytes.ptr[0]) {
    case 0:
        err = query_message_peek(&train_offer_message, rest, arena, &offer, NULL);
        return err ? err : take_plan(offer.plan, arena);
    case 1:
        return query_message_peek(&train_admit_message, rest, arena, &admit, NULL);
    case 2:
        return query_message_peek(&train_round_message, rest, arena, &round, NULL);
    case 3:
        return query_message_peek(&train_update_message, rest, arena, &update, NULL);
    case 4:
        return take_state(rest);
    case 5:
        return train_part_decode(rest, arena, &part);
    default:
        return take_plan(rest, arena);
    }
}

static void training_messages_are_of_this_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof trains / sizeof *trains; i++) {
        struct arena arena = {0};
        enum err err = take_train(seed("train", trains[i]), &arena);
        if (err) {
            fail_msg("train/%s: %s", trains[i], proto_err_name(err));
        }
        arena_fini(&arena);
    }
}

static void answers_are_of_this_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct arena arena = {0};
        struct query_answer answer;
        struct span bytes = seed("partial", answers[i]);
        enum err err =
            query_answer_take(span_of(bytes.ptr + 1, bytes.len - 1), &arena, &answer, NULL);
        if (err) {
            fail_msg("partial/%s: %s", answers[i], proto_err_name(err));
        }
        arena_fini(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_messages_are_of_this_version),
        cmocka_unit_test(answers_are_of_this_version),
    };
    assert_int_equal(crypto_init(NULL), E_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
