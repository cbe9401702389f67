/* Training messages: encode, decode, refuse what is out of bounds; a job's state survives the disk. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "crypto/provider.h"
#include "node/train/state.h"

static void doubles_come_back_and_nan_does_not(void **state)
{
    struct arena arena = {0};
    struct span bytes;
    const double values[] = {0, 1, -2.5, 1e300, -1e-300};
    double back[5];
    (void)state;
    assert_int_equal(train_pack_doubles(values, 5, &arena, &bytes), E_OK);
    assert_int_equal(bytes.len, 40);
    assert_int_equal(train_unpack_doubles(bytes, back, 5), E_OK);
    assert_memory_equal(values, back, sizeof values);
    assert_int_equal(train_unpack_doubles(bytes, back, 4), E_INVALID);
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(train_pack_doubles(&bad[i], 1, &arena, &bytes), E_OK);
        assert_int_equal(train_unpack_doubles(bytes, back, 1), E_INVALID);
    }
    arena_fini(&arena);
}

static struct train_update sample_update(struct span sums)
{
    static const uint8_t zeros[256];
    return (struct train_update){
        .version = TRAIN_VERSION,
        .job_id = span_of(zeros, 16),
        .plan_hash = span_of(zeros, 32),
        .round = 3,
        .answer = TRAIN_UPDATED,
        .error = span_str("OK"),
        .reason = span_str(""),
        .detail = span_str(""),
        .base = span_of(zeros, 32),
        .update = {span_of(zeros, 32), STORE_BLOB_CHUNK + 1},
        .done = 3,
        .total = 10,
        .steps_started = 30,
        .evaluation = {.present = true, .sums = sums, .histograms = span_str("")},
        .head = span_of(zeros, 168),
    };
}

static void an_update_round_trips(void **state)
{
    struct arena arena = {0};
    struct span sums;
    const double values[] = {0.5, -0.25};
    struct buf out = {.max = 4096};
    struct train_update back;
    struct peer_blob blob;
    (void)state;
    assert_int_equal(train_pack_doubles(values, 2, &arena, &sums), E_OK);
    struct train_update update = sample_update(sums);
    assert_int_equal(proto_codec_encode(&train_update_message, &update, &out, NULL), E_OK);
    assert_int_equal(proto_codec_decode(&train_update_message, buf_span(&out), &arena, &back, NULL),
                     E_OK);
    assert_int_equal(back.round, 3);
    assert_true(back.evaluation.present && span_equal(back.evaluation.sums, sums));
    assert_int_equal(train_blob_open(&back.update, &blob), E_OK);
    assert_int_equal(blob.size, STORE_BLOB_CHUNK + 1);
    back.update = TRAIN_BLOB_NONE;
    assert_int_equal(train_blob_open(&back.update, &blob), E_INVALID);
    for (size_t len = 0; len < out.len; len++) { /* every truncation is refused */
        assert_int_not_equal(
            proto_codec_decode(&train_update_message, span_of(out.ptr, len), &arena, &back, NULL),
            E_OK);
    }
    buf_fini(&out);
    arena_fini(&arena);
}

static void bounds_are_refused(void **state)
{
    struct buf out = {.max = 1 << 20};
    static const uint8_t many[TRAIN_SUMS_MAX * 8 + 8];
    (void)state;
    struct train_update update = sample_update(span_of(many, sizeof many));
    assert_int_equal(proto_codec_encode(&train_update_message, &update, &out, NULL), E_LIMIT);
    update = sample_update(span_str(""));
    update.round = 0;
    assert_int_equal(proto_codec_encode(&train_update_message, &update, &out, NULL), E_LIMIT);
    update = sample_update(span_str(""));
    update.answer = TRAIN_ANSWERS;
    assert_int_equal(proto_codec_encode(&train_update_message, &update, &out, NULL), E_LIMIT);
    update = sample_update(span_str(""));
    update.update.size = STORE_BLOB_MAX + 1;
    assert_int_equal(proto_codec_encode(&train_update_message, &update, &out, NULL), E_LIMIT);
    buf_fini(&out);
}

static struct train_plan sample_plan(void)
{
    static const uint8_t hash[32] = {1};
    static struct proto_text labels[3];
    labels[0].text = span_str("O");
    labels[1].text = span_str("B-Disease");
    labels[2].text = span_str("I-Disease");
    return (struct train_plan){
        .task = PROTO_TASK_TOKEN_CLASSIFICATION,
        .model = span_of(hash, 32),
        .model_size = 10,
        .labels = {labels, 3},
        .max_length = 128,
        .dropout = -1,
        .learning_rate = 5e-4,
        .server_rate = 1,
        .noise = true,
        .clip = 1,
        .epsilon = 8,
        .delta_e12 = 10000000,
    };
}

/* What the fields allow one by one and no plan may be. */
static void plans_that_cannot_be_are_refused(void **state)
{
    struct train_plan plan = sample_plan();
    (void)state;
    assert_int_equal(train_plan_check(&plan, NULL), E_OK);
#define REFUSED(change)                                                                            \
    plan = sample_plan();                                                                          \
    change;                                                                                        \
    assert_int_equal(train_plan_check(&plan, NULL), E_INVALID)
    REFUSED(plan.model = span_str(""));
    REFUSED(plan.task = PROTO_TASK_TABULAR_CLASSIFICATION);
    REFUSED(plan.model_base = span_str("short"));
    REFUSED(plan.max_length = 2);
    REFUSED(plan.tune = PROTO_TUNE_LORA); /* without a rank */
    REFUSED(plan.tune = PROTO_TUNE_ALTERNATING_LORA; plan.rank = 4; plan.targets = 5;
            plan.alpha = 8; plan.server_momentum = 0.9); /* would move the factor that is kept */
    REFUSED(plan.epsilon = 0);
    REFUSED(plan.clip = 0);
    REFUSED(plan.noise = false); /* and yet an epsilon */
    REFUSED(plan.learning_rate = 0);
    REFUSED(plan.method = PROTO_SCAFFOLD);
    REFUSED(plan.learning_rate = NAN);
    REFUSED(plan.trim = 0.5);
    REFUSED(plan.server_momentum = 1);
    REFUSED(plan.dropout = 1);
    REFUSED(plan.eval_split = -0.1);
#undef REFUSED
    plan = sample_plan();
    plan.noise = false;
    plan.epsilon = 0;
    plan.delta_e12 = 0;
    assert_int_equal(train_plan_check(&plan, NULL), E_OK);
}

static struct train_plan table_plan(uint64_t task)
{
    static struct proto_text feature[1];
    struct train_plan plan = sample_plan();
    feature[0].text = span_str("age");
    plan.task = task;
    plan.model = span_str("");
    plan.model_size = plan.max_length = 0;
    plan.labels = (struct proto_list){NULL, 0};
    plan.features = (struct proto_list){feature, 1};
    plan.target = span_str("death");
    if (task == PROTO_TASK_TABULAR_SURVIVAL) {
        plan.event_time = span_str("futime");
        plan.horizon = 5000;
        plan.intervals = 10;
        plan.bins = 128;
    }
    plan.high = task == PROTO_TASK_TABULAR_REGRESSION ? 10 : 0;
    return plan;
}

/* Each task of tables has what it needs, and nothing of another's. */
static void plans_of_tables(void **state)
{
    static const uint64_t tasks[] = {PROTO_TASK_TABULAR_CLASSIFICATION,
                                     PROTO_TASK_TABULAR_REGRESSION, PROTO_TASK_TABULAR_SURVIVAL};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct train_plan plan = table_plan(tasks[i]);
        assert_int_equal(train_plan_check(&plan, NULL), E_OK);
        plan.hidden = 8;
        assert_int_equal(train_plan_check(&plan, NULL),
                         tasks[i] == PROTO_TASK_TABULAR_SURVIVAL ? E_INVALID : E_OK);
        plan.trainer = span_str("own"); /* brings its own model */
        plan.trainer_ms = 1000;
        plan.eval_every = 0;
        assert_int_equal(train_plan_check(&plan, NULL), E_INVALID);
        plan.hidden = 0;
        assert_int_equal(train_plan_check(&plan, NULL), E_OK);
    }
#define REFUSED(what, change)                                                                      \
    do {                                                                                           \
        struct train_plan plan = table_plan(what);                                                 \
        change;                                                                                    \
        assert_int_equal(train_plan_check(&plan, NULL), E_INVALID);                                \
    } while (0)
    struct train_plan scaffold = table_plan(PROTO_TASK_TABULAR_CLASSIFICATION);
    scaffold.method = PROTO_SCAFFOLD;
    assert_int_equal(train_plan_check(&scaffold, NULL), E_OK);
    REFUSED(PROTO_TASK_TABULAR_CLASSIFICATION, plan.method = PROTO_SCAFFOLD; plan.momentum = 0.9);
    REFUSED(PROTO_TASK_TABULAR_CLASSIFICATION, plan.method = PROTO_SCAFFOLD;
            plan.server_momentum = 0.9);
    REFUSED(PROTO_TASK_TABULAR_SURVIVAL, plan.event_time = span_str(""));
    REFUSED(PROTO_TASK_TABULAR_SURVIVAL, plan.horizon = 0);
    REFUSED(PROTO_TASK_TABULAR_SURVIVAL, plan.horizon = NAN);
    REFUSED(PROTO_TASK_TABULAR_SURVIVAL, plan.intervals = 0);
    REFUSED(PROTO_TASK_TABULAR_SURVIVAL, plan.bins = 100);
    REFUSED(PROTO_TASK_TABULAR_CLASSIFICATION, plan.bins = 128);
    REFUSED(PROTO_TASK_TABULAR_CLASSIFICATION, plan.horizon = 1);
    REFUSED(PROTO_TASK_TABULAR_REGRESSION, plan.high = plan.low);
    REFUSED(PROTO_TASK_TABULAR_REGRESSION, plan.high = NAN);
#undef REFUSED
}

static void plans_hash_by_their_bytes(void **state)
{
    uint8_t a[32], b[32], c[32];
    (void)state;
    train_plan_hash(span_str("one"), a);
    train_plan_hash(span_str("one"), b);
    train_plan_hash(span_str("two"), c);
    assert_memory_equal(a, b, 32);
    assert_memory_not_equal(a, c, 32);
}

/* As long as proto/round.h allows. */
#define LONG_REASON "a-reason-of-sixty-three-bytes-which-is-the-longest-that-is-kept"

static void fill_job(struct train_job_state *job)
{
    struct train_round_row *row;
    snprintf(job->name, sizeof job->name, "risk");
    snprintf(job->dataset, sizeof job->dataset, "flchain");
    job->state = TRAIN_WAITING;
    job->error = E_TIMEOUT;
    job->plan = span_str("plan bytes");
    train_plan_hash(job->plan, job->plan_hash);
    job->rounds = 10;
    job->round = 2;
    job->term = 3;
    job->max_rows_per_unit = 1;
    job->numbers = 3;
    job->noise = true;
    job->server.weights[1] = 7;
    job->server.first[2] = 8;
    job->site_count = 2;
    snprintf(job->sites[1].node, sizeof job->sites[1].node, "beta");
    job->sites[1].admitted = true;
    job->sites[1].error = E_BUSY;
    job->sites[1].cost.sigma = 1.5;
    job->sites[1].steps_started = 20;
    static struct proto_round_actions out;
    static const uint64_t institutions[] = {0, 1};
    struct proto_round_event start = {.kind = PROTO_ROUND_START,
                                      .institutions = institutions,
                                      .site_count = 2,
                                      .rounds = 10,
                                      .min_sites = 2,
                                      .timeout_ms = 1000};
    assert_int_equal(proto_round_step(&job->machine, &start, &out), E_OK);
    job->has_machine = true;
    for (uint64_t round = 1; round <= 2; round++) {
        assert_int_equal(train_job_state_row(job, &row), E_OK);
        row->round = round;
        row->participants = 3;
        row->absent_count = 1;
        row->absent[0].site = 1;
        snprintf(row->absent[0].reason, sizeof row->absent[0].reason, "%s", LONG_REASON);
    }
    job->history[0].evaluated = true;
    job->history[0].loss = 0.5;
    job->history[0].types = 2;
    job->history[0].type_counts[1][2] = 12.5;
    job->history[0].epsilon = NAN;
    job->history[0].mean[3] = 9;
}

/* One letter changed in the name of an error. */
static void refuses_other_errors(struct span bytes)
{
    struct train_job_state *back = proto_alloc(1, sizeof *back);
    uint8_t *copy = proto_alloc(bytes.len, 1);
    size_t at = 0;
    assert_true(back && copy);
    memcpy(copy, bytes.ptr, bytes.len);
    while (at + 7 < bytes.len && memcmp(copy + at, "TIMEOUT", 7) != 0) {
        at++;
    }
    assert_memory_equal(copy + at, "TIMEOUT", 7);
    copy[at] = 't';
    assert_int_equal(train_job_state_decode(span_of(copy, bytes.len), back, NULL), E_INVALID);
    train_job_state_fini(back);
    proto_free(back);
    proto_free(copy);
}

static void a_job_survives_the_disk(void **state)
{
    struct train_job_state *job = proto_alloc(1, sizeof *job);
    struct train_job_state *back = proto_alloc(1, sizeof *back);
    struct buf out = {.max = 1 << 20};
    struct buf again = {.max = 1 << 20};
    (void)state;
    fill_job(job);
    assert_int_equal(train_job_state_encode(job, &out, NULL), E_OK);
    assert_int_equal(train_job_state_decode(buf_span(&out), back, NULL), E_OK);
    assert_string_equal(back->name, "risk");
    assert_int_equal(back->error, E_TIMEOUT);
    assert_int_equal(back->history_count, 2);
    assert_true(back->history[0].loss == 0.5 && isnan(back->history[1].loss));
    assert_string_equal(back->history[1].absent[0].reason, LONG_REASON);
    assert_true(back->has_machine && back->machine.term == 1 && back->machine.min_sites == 2);
    assert_true(back->noise && back->numbers == 3);
    assert_memory_equal(&back->server, &job->server, sizeof job->server);
    assert_int_equal(back->history[0].types, 2);
    assert_true(back->history[0].type_counts[1][2] == 12.5 && isnan(back->history[0].epsilon));
    assert_int_equal(back->history[0].mean[3], 9);
    assert_true(back->sites[1].admitted && back->sites[1].error == E_BUSY &&
                back->sites[1].cost.sigma == 1.5);
    assert_memory_equal(back->plan_hash, job->plan_hash, 32);
    assert_int_equal(train_job_state_encode(back, &again, NULL), E_OK);
    refuses_other_errors(buf_span(&out));
    assert_true(span_equal(buf_span(&out), buf_span(&again)));
    train_job_state_fini(back);
    for (size_t len = 0; len < out.len; len++) {
        assert_int_not_equal(train_job_state_decode(span_of(out.ptr, len), back, NULL), E_OK);
        train_job_state_fini(back);
    }
    /* Questions are kept in the same table, as JSON. */
    assert_int_equal(train_job_state_decode(span_str("{\"type\":\"query\"}"), back, NULL),
                     E_INVALID);
    train_job_state_fini(job);
    proto_free(job);
    proto_free(back);
    buf_fini(&out);
    buf_fini(&again);
}

/* A site's part, and as its machine takes it. */
static void a_part_survives_the_disk(void **state)
{
    static const uint8_t bytes[32] = {7};
    struct train_part part = {
        .version = TRAIN_VERSION,
        .job_id = span_of(bytes, 16),
        .plan_hash = span_of(bytes, 32),
        .coordinator = span_of(bytes, 16),
        .key = span_of(bytes, 16),
        .plan = span_str("plan"),
        .admit = span_str("admit"),
        .rate = 0.5,
        .sigma = 2,
        .size = 100,
        .steps = 4,
        .rounds = 10,
        .last_round = 3,
        .time = 5,
        .term = 9,
        .charged = true,
        .update = span_str(""),
        .control = span_of(bytes, 32),
        .pending = span_of(bytes, 32),
        .pending_round = 3,
    };
    struct train_part back;
    struct proto_round_site site;
    struct arena arena = {0};
    struct buf out = {.max = 1 << 16};
    (void)state;
    assert_int_equal(train_part_encode(&part, &out), E_OK);
    assert_int_equal(train_part_decode(buf_span(&out), &arena, &back), E_OK);
    assert_int_equal(back.term, 9);
    assert_true(back.control.len == 32 && back.pending.len == 32 && back.pending_round == 3);
    train_part_machine(&back, 28, &site);
    assert_true(proto_round_site_valid(&site));
    assert_int_equal(site.state, PROTO_ROUND_SITE_ACTIVE);
    assert_int_equal(site.last_round, 3);
    assert_int_equal(site.steps_left, 28);
    assert_memory_equal(site.plan_hash, bytes, 32);
    back.last_round = 0;
    train_part_machine(&back, 40, &site);
    assert_int_equal(site.state, PROTO_ROUND_SITE_PLANNED);
    back.end = TRAIN_END_STOPPED;
    train_part_machine(&back, 40, &site);
    assert_int_equal(site.state, PROTO_ROUND_SITE_ENDED);
    assert_true(back.charged && back.update.len == 0);
    for (size_t len = 0; len < out.len; len++) {
        assert_int_not_equal(train_part_decode(span_of(out.ptr, len), &arena, &back), E_OK);
    }
    arena_fini(&arena);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_come_back_and_nan_does_not),
        cmocka_unit_test(an_update_round_trips),
        cmocka_unit_test(bounds_are_refused),
        cmocka_unit_test(plans_that_cannot_be_are_refused),
        cmocka_unit_test(plans_of_tables),
        cmocka_unit_test(plans_hash_by_their_bytes),
        cmocka_unit_test(a_job_survives_the_disk),
        cmocka_unit_test(a_part_survives_the_disk),
    };
    assert_int_equal(crypto_init(NULL), E_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
