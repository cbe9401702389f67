/* Personal heads: no vector of a job holds a number of them, and a model's document gets one back only where it is kept. */
#include "config.h"
#include "tests/unit/store/home.h"

#include <string.h>

#include "node/model/folder.h"
#include "node/model/tuner.h"
#include "node/train/learner.h"
#include "node/train/vector.h"
#include "tests/lib/vectors.h"

static struct home home;
static uint8_t model[32];
static uint64_t model_size;
static const char *const values[] = {"visit", "surgery"};
static struct proto_text labels[2], features[1];
static struct proto_column columns[2];
static const struct proto_schema schema = {.columns = columns, .count = 2, .max_rows_per_unit = 1};

static void put_file(const char *folder, const char *name, struct span bytes)
{
    assert_int_equal(model_folder_write(folder, name, bytes, NULL), E_OK);
}

static void copy_file(const char *folder, const char *name)
{
    struct buf buf = {.max = 1 << 24};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", vectors_path("bert/small"));
    assert_int_equal(model_folder_read(path, name, &buf, NULL), E_OK);
    put_file(folder, name, buf_span(&buf));
    buf_fini(&buf);
}

/* The small model of the vectors under a vocabulary of letters, as a blob of the store. */
static int make(void **state)
{
    struct buf words = {.max = 1 << 16}, blob = {.max = 1 << 24};
    (void)state;
    home_make(&home);
    copy_file(home.dir, "config.json");
    copy_file(home.dir, "model.safetensors");
    assert_int_equal(buf_put(&words, span_str("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")), E_OK);
    for (int i = 0; i < 26; i++) {
        assert_int_equal(buf_printf(&words, "%c\n##%c\n", 'a' + i, 'a' + i), E_OK);
    }
    put_file(home.dir, "vocab.txt", buf_span(&words));
    assert_int_equal(model_package_import(home.dir, "small", "CC0-1.0", &blob, NULL), E_OK);
    assert_int_equal(store_blob_put(&home.store, buf_span(&blob), model, NULL), E_OK);
    model_size = blob.len;
    buf_fini(&words);
    buf_fini(&blob);
    for (size_t i = 0; i < 2; i++) {
        labels[i].text = span_str(values[i]);
    }
    features[0].text = span_str("note");
    columns[0] = (struct proto_column){.name = "note", .type = PROTO_COLUMN_TEXT};
    columns[1] = (struct proto_column){.name = "kind",
                                       .type = PROTO_COLUMN_CATEGORY,
                                       .values = (const char **)values,
                                       .value_count = 2};
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    home_remove(&home);
    return 0;
}

static struct train_plan plan_of(enum proto_tune tune, bool personal)
{
    return (struct train_plan){.task = PROTO_TASK_SEQUENCE_CLASSIFICATION,
                               .features = {features, 1},
                               .target = span_str("kind"),
                               .model = span_of(model, 32),
                               .model_size = model_size,
                               .model_base = span_str(""),
                               .trainer = span_str(""),
                               .tune = tune,
                               .rank = 2,
                               .alpha = 4,
                               .targets = MODEL_TARGETS_QV,
                               .labels = {labels, 2},
                               .max_length = 16,
                               .dropout = -1,
                               .seed = 5,
                               .personal_head = personal,
                               .numbers = 1};
}

static struct train_learner *open_learner(const struct train_plan *plan)
{
    struct train_learner *learner = NULL;
    struct err_info info = {0};
    const struct train_learner_wish wish = {
        .store = &home.store, .plan = plan, .schema = &schema, .threads = 1};
    if (train_learner_open(&wish, &learner, &info)) {
        fail_msg("%s", info.text);
    }
    return learner;
}

static float *start_of(struct train_learner *learner)
{
    float *start = proto_alloc(train_learner_count(learner), sizeof *start);
    assert_non_null(start);
    assert_int_equal(train_learner_start(learner, start, NULL), E_OK);
    return start;
}

static void a_head_is_in_no_vector(void **state)
{
    (void)state;
    static const enum proto_tune tunes[] = {PROTO_TUNE_FULL, PROTO_TUNE_LORA, PROTO_TUNE_FFA_LORA};
    for (size_t i = 0; i < sizeof tunes / sizeof *tunes; i++) {
        const struct train_plan all = plan_of(tunes[i], false), shared = plan_of(tunes[i], true);
        struct train_learner *whole = open_learner(&all), *own = open_learner(&shared);
        size_t none, count;
        assert_null(train_learner_home(whole, &none));
        float *head = train_learner_home(own, &count);
        assert_non_null(head);
        assert_true(none == 0 && count > 0);
        assert_int_equal(train_learner_count(own) + count, train_learner_count(whole));
        /* Whatever the head is, what is shared stays what it was. */
        float *before = start_of(own);
        for (size_t j = 0; j < count; j++) {
            head[j] = 100 + (float)j;
        }
        float *after = start_of(own);
        assert_memory_equal(before, after, train_learner_count(own) * sizeof *before);
        for (size_t j = 0; j < train_learner_count(own); j++) {
            assert_true(after[j] < 100);
        }
        /* It begins alike at every site. */
        struct train_learner *other = open_learner(&shared), *third = open_learner(&shared);
        assert_memory_equal(train_learner_home(other, &none), train_learner_home(third, &none),
                            none * sizeof(float));
        proto_free(before);
        proto_free(after);
        train_learner_close(whole);
        train_learner_close(own);
        train_learner_close(other);
        train_learner_close(third);
    }
}

/* The numbers of DOCUMENT's head and of the rest, as a job on the same labels would take them over. */
static void numbers_of(struct span document, float **ret_shared, float **ret_head,
                       size_t *ret_count)
{
    struct train_plan plan = plan_of(PROTO_TUNE_FULL, true);
    uint8_t hash[32];
    assert_int_equal(store_blob_put(&home.store, document, hash, NULL), E_OK);
    plan.model = span_of(hash, 32);
    struct train_learner *learner = open_learner(&plan);
    const float *head = train_learner_home(learner, ret_count);
    *ret_shared = start_of(learner);
    *ret_head = proto_alloc(*ret_count, sizeof **ret_head);
    assert_non_null(*ret_head);
    memcpy(*ret_head, head, *ret_count * sizeof *head);
    train_learner_close(learner);
}

static void a_document_gets_the_head_that_is_kept(void **state)
{
    (void)state;
    struct train_plan plan = plan_of(PROTO_TUNE_FULL, true);
    struct train_learner *learner = open_learner(&plan);
    struct buf bare = {.max = 1 << 24}, full = {.max = 1 << 24};
    struct model_package *package = NULL;
    static const uint8_t tag[TRAIN_VECTOR_TAG] = {1}, other[TRAIN_VECTOR_TAG] = {2};
    uint8_t weights[32], hash[32];
    size_t count, again;
    float *head = train_learner_home(learner, &count), *start = start_of(learner);
    float *public_head, *shared, *kept_head, *kept_shared;
    plan.numbers = train_learner_count(learner);
    start[3] += 1;
    assert_int_equal(
        train_vector_put(&home.store, start, plan.numbers, tag, STORE_BLOB_PASSING, weights, NULL),
        E_OK);
    assert_int_equal(train_notes_document(&home.store, &plan, weights, "m", "MIT", &bare, NULL),
                     E_OK);
    assert_int_equal(model_package_open(buf_span(&bare), &package, NULL), E_OK);
    assert_true(model_package_info(package)->personal_head);
    model_package_close(package);
    numbers_of(buf_span(&bare), &shared, &public_head, &again);
    assert_int_equal(again, count);
    assert_memory_equal(shared, start, plan.numbers * sizeof *start);
    assert_memory_equal(public_head, head, count * sizeof *head);

    for (size_t i = 0; i < count; i++) {
        head[i] = (float)i / 8;
    }
    assert_int_equal(
        train_vector_put(&home.store, head, count, other, STORE_BLOB_PASSING, hash, NULL), E_OK);
    assert_int_equal(train_notes_with_head(&home.store, &plan, buf_span(&bare), hash, &full, NULL),
                     E_OK);
    assert_int_equal(model_package_open(buf_span(&full), &package, NULL), E_OK);
    assert_false(model_package_info(package)->personal_head);
    model_package_close(package);
    numbers_of(buf_span(&full), &kept_shared, &kept_head, &again);
    assert_memory_equal(kept_shared, start, plan.numbers * sizeof *start);
    assert_memory_equal(kept_head, head, count * sizeof *head);
    /* A vector of another length is no head. */
    full.len = 0;
    assert_int_equal(
        train_notes_with_head(&home.store, &plan, buf_span(&bare), weights, &full, NULL), E_SCHEMA);
    proto_free(start);
    proto_free(shared);
    proto_free(public_head);
    proto_free(kept_shared);
    proto_free(kept_head);
    buf_fini(&bare);
    buf_fini(&full);
    train_learner_close(learner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_in_no_vector),
        cmocka_unit_test(a_document_gets_the_head_that_is_kept),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
