/* What a life of a node left in HOME/models goes when it starts again; what anything names, or what is no vector of a job known here, stays. */
#include "config.h"

#include "node/query/context.h"
#include "node/train/base.h"
#include "node/train/internal.h"
#include "node/train/vector.h"
#include "store/job.h"
#include "tests/unit/store/home.h"

#include <fcntl.h>
#include <sys/file.h>
#include <utime.h>

#define NUMBERS 6
#define DAY     86400

static struct home home;
static struct query_context context;
static const uint8_t job_id[16] = {1}, other_job[16] = {2}, other_node[16] = {3};
static char said[200];
static int warned;

static void hear(void *user, int level, const char *event, const char *detail)
{
    (void)user;
    assert_string_equal(event, "train.sweep");
    warned += level != PEER_LOG_INFO;
    snprintf(said, sizeof said, "%s", detail);
}

static int setup(void **state)
{
    (void)state;
    home_make(&home);
    home_federate(&home);
    said[0] = '\0';
    warned = 0;
    context = (struct query_context){.store = &home.store, .log = hear};
    memcpy(context.node_id, home.node_id, 16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    home_remove(&home);
    return 0;
}

struct blob {
    uint8_t hash[32];
};

/* VALUE makes two vectors of one tag. */
static struct blob vector(enum train_vector kind, const uint8_t job[16], uint64_t round,
                          const uint8_t *node, size_t count, float value)
{
    struct blob blob;
    uint8_t tag[TRAIN_VECTOR_TAG];
    float numbers[2 * NUMBERS] = {value};
    train_vector_tag(kind, job, round, node, tag);
    assert_int_equal(
        train_vector_put(&home.store, numbers, count, tag, STORE_BLOB_DURABLE, blob.hash, NULL),
        E_OK);
    return blob;
}

static struct blob bytes_of(const char *text)
{
    struct blob blob;
    assert_int_equal(store_blob_put(&home.store, span_str(text), blob.hash, NULL), E_OK);
    return blob;
}

static bool here(const struct blob *blob)
{
    return store_blob_has(&home.store, blob->hash);
}

/* A plan of two sites, of which we are the first. */
static void plan_of(const struct blob *start, const struct blob *model, bool head, struct buf *out)
{
    static struct train_plan_site sites[2];
    static struct query_node_ref coordinator;
    static const uint8_t zeros[32];
    sites[0] = (struct train_plan_site){span_of(home.node_id, 16), span_of(zeros, 16)};
    sites[1] = (struct train_plan_site){span_of(other_node, 16), span_of(zeros, 16)};
    coordinator.node = span_of(home.node_id, 16);
    struct train_plan plan = {
        .version = TRAIN_VERSION,
        .job_id = span_of(job_id, 16),
        .job = span_str("job"),
        .dataset = span_str("d"),
        .schema_hash = span_of(zeros, 32),
        .target = span_str("t"),
        .event_time = span_str(""),
        .model = span_of(model->hash, 32),
        .model_size = 1,
        .model_name = span_str("m"),
        .model_base = span_str(""),
        .personal_head = head,
        .trainer = span_str(""),
        .numbers = NUMBERS,
        .start = span_of(start->hash, 32),
        .rounds = 5,
        .epochs = 1,
        .batch = 1,
        .purpose = {.person = span_str("p"), .project = span_str("x")},
        .sites = {sites, 2},
        .coordinators = {&coordinator, 1},
    };
    struct err_info info = {0};
    if (proto_codec_encode(&train_plan_message, &plan, out, &info)) {
        fail_msg("%s", info.text);
    }
}

static void put_part(struct span plan, struct span update, struct span control, struct span pending)
{
    static const uint8_t bytes[32] = {7};
    struct buf out = {.max = 1 << 20};
    uint8_t id[16];
    const struct train_part part = {.version = TRAIN_VERSION,
                                    .job_id = span_of(job_id, 16),
                                    .plan_hash = span_of(bytes, 32),
                                    .coordinator = span_of(bytes, 16),
                                    .key = span_of(bytes, 16),
                                    .plan = plan,
                                    .admit = span_str("admit"),
                                    .rate = 0.5,
                                    .size = 100,
                                    .steps = 4,
                                    .rounds = 5,
                                    .last_round = 3,
                                    .update = update,
                                    .control = control,
                                    .pending = pending,
                                    .pending_round = 3};
    train_part_id(job_id, id);
    assert_int_equal(train_part_encode(&part, &out), E_OK);
    assert_int_equal(store_job_put(&home.store, id, buf_span(&out), NULL), E_OK);
    buf_fini(&out);
}

static void put_state(struct span plan, const struct blob *weights, const struct blob *first,
                      const struct blob *mean)
{
    struct buf out = {.max = 1 << 20};
    struct err_info info = {0};
    struct train_round_row *row;
    struct train_job_state *state = proto_alloc(1, sizeof *state);
    memcpy(state->id, job_id, 16);
    snprintf(state->name, sizeof state->name, "job");
    state->state = TRAIN_WAITING;
    state->plan = plan;
    state->rounds = 5;
    state->round = 1;
    state->numbers = NUMBERS;
    state->max_rows_per_unit = 1;
    memcpy(state->server.weights, weights->hash, 32);
    memcpy(state->server.first, first->hash, 32);
    assert_int_equal(train_job_state_row(state, &row), E_OK);
    row->round = 1;
    memcpy(row->mean, mean->hash, 32);
    if (train_job_state_encode(state, &out, &info)) {
        fail_msg("%s", info.text);
    }
    assert_int_equal(store_job_put(&home.store, job_id, buf_span(&out), NULL), E_OK);
    train_job_state_fini(state);
    proto_free(state);
    buf_fini(&out);
}

/* Both a coordinator's state and a site's part: what each names, beside a sibling of its kind that nothing names. */
static void a_job_keeps_what_it_names(void **state)
{
    (void)state;
    struct buf plan = {.max = 1 << 16};
    const uint8_t *self = home.node_id;
    struct blob model = bytes_of("a model"), base = bytes_of("imported"), loose = bytes_of("what?");
    struct blob kept[] = {
        vector(TRAIN_VECTOR_WEIGHTS, job_id, 0, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_WEIGHTS, job_id, 1, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_FIRST, job_id, 1, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_MEAN, job_id, 1, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_UPDATE, job_id, 3, self, NUMBERS, 1),
        vector(TRAIN_VECTOR_CONTROL, job_id, 2, self, NUMBERS, 1),
        vector(TRAIN_VECTOR_CONTROL, job_id, 3, self, NUMBERS, 1),
        /* of a job that nobody here knows */
        vector(TRAIN_VECTOR_UPDATE, other_job, 1, self, NUMBERS, 1),
        /* no such round, no such site: the plan has none of them */
        vector(TRAIN_VECTOR_WEIGHTS, job_id, 7, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_UPDATE, job_id, 1, other_job, NUMBERS, 1),
        model,
        base,
        loose,
    };
    struct blob gone[] = {
        vector(TRAIN_VECTOR_WEIGHTS, job_id, 2, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_WEIGHTS, job_id, 2, NULL, NUMBERS, 2), /* computed twice */
        vector(TRAIN_VECTOR_WEIGHTS, job_id, 2, NULL, NUMBERS, 3),
        vector(TRAIN_VECTOR_FIRST, job_id, 2, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_SECOND, job_id, 2, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_MEAN, job_id, 2, NULL, NUMBERS, 1),
        vector(TRAIN_VECTOR_UPDATE, job_id, 2, self, NUMBERS, 1),
        vector(TRAIN_VECTOR_UPDATE, job_id, 4, other_node, NUMBERS, 1),
        vector(TRAIN_VECTOR_CONTROL, job_id, 1, self, NUMBERS, 1),
        vector(TRAIN_VECTOR_HEAD, job_id, 1, self, NUMBERS - 1, 1),
    };
    struct train_base named = {.name = "base", .size = 8};
    memcpy(named.hash, base.hash, 32);
    assert_int_equal(train_base_put(&home.store, &named, NULL), E_OK);
    plan_of(&kept[0], &model, false, &plan);
    put_state(buf_span(&plan), &kept[1], &kept[2], &kept[3]);
    put_part(buf_span(&plan), span_of(kept[4].hash, 32), span_of(kept[5].hash, 32),
             span_of(kept[6].hash, 32));
    train_sweep(&context);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (!here(&kept[i])) {
            fail_msg("kept %zu is gone", i);
        }
    }
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        if (here(&gone[i])) {
            fail_msg("gone %zu is there", i);
        }
    }
    assert_int_equal(warned, 0);
    assert_memory_equal(said, "10 files", 8);
    said[0] = '\0';
    train_sweep(&context); /* nothing is left to say */
    assert_string_equal(said, "");
    buf_fini(&plan);
}

/* A site that coordinates nothing: weights that it fetched go, also the first; of heads, which are shorter, the kept one stays. */
static void a_site_keeps_its_head(void **state)
{
    (void)state;
    struct buf plan = {.max = 1 << 16};
    struct blob model = bytes_of("a model");
    struct blob start = vector(TRAIN_VECTOR_WEIGHTS, job_id, 0, NULL, NUMBERS, 1);
    struct blob weights = vector(TRAIN_VECTOR_WEIGHTS, job_id, 3, NULL, NUMBERS, 1);
    struct blob head = vector(TRAIN_VECTOR_HEAD, job_id, 2, home.node_id, 2, 1);
    struct blob lost = vector(TRAIN_VECTOR_HEAD, job_id, 3, home.node_id, 2, 1);
    plan_of(&start, &model, true, &plan);
    put_part(buf_span(&plan), span_str(""), span_of(head.hash, 32), span_str(""));
    train_sweep(&context);
    assert_true(here(&model) && here(&head));
    assert_false(here(&start) || here(&weights) || here(&lost));
    buf_fini(&plan);
}

/* A record may name whatever it likes. */
static void what_a_record_names_stays(void **state)
{
    (void)state;
    struct buf plan = {.max = 1 << 16}, body = {.max = PROTO_RECORD_BODY_MAX};
    struct blob model = bytes_of("a model");
    struct blob weights = vector(TRAIN_VECTOR_WEIGHTS, job_id, 3, NULL, NUMBERS, 1);
    struct blob lineage = vector(TRAIN_VECTOR_WEIGHTS, job_id, 4, NULL, NUMBERS, 1);
    struct blob lost = vector(TRAIN_VECTOR_WEIGHTS, job_id, 5, NULL, NUMBERS, 1);
    const struct proto_model published = {.v = PROTO_MODEL_VERSION,
                                          .name = span_str("m"),
                                          .job = span_str("j"),
                                          .dataset = span_str("d"),
                                          .task = span_str("imported"),
                                          .weights = span_of(weights.hash, 32),
                                          .size = 56,
                                          .unit = span_str("row"),
                                          .spdx = span_str("MIT"),
                                          .metrics = span_str("{}"),
                                          .lineage = span_of(lineage.hash, 32),
                                          .lineage_size = 56};
    struct err_info info = {0};
    if (proto_model_encode(&published, &body, &info)) {
        fail_msg("%s", info.text);
    }
    home_record(&home, PROTO_RECORD_MODEL, "m", 1, buf_span(&body), E_OK);
    plan_of(&lost, &model, false, &plan);
    put_part(buf_span(&plan), span_str(""), span_str(""), span_str(""));
    train_sweep(&context);
    assert_true(here(&weights) && here(&lineage));
    assert_false(here(&lost));
    buf_fini(&plan);
    buf_fini(&body);
}

/* What we cannot read may name anything. */
static void in_doubt_all_stays(void **state)
{
    (void)state;
    static const uint8_t id[16] = {9};
    struct buf plan = {.max = 1 << 16};
    struct blob model = bytes_of("a model");
    struct blob lost = vector(TRAIN_VECTOR_UPDATE, job_id, 1, home.node_id, NUMBERS, 1);
    plan_of(&lost, &model, false, &plan);
    put_part(buf_span(&plan), span_str(""), span_str(""), span_str(""));
    assert_int_equal(store_job_put(&home.store, id, span_str("CTJ9 of another version"), NULL),
                     E_OK);
    train_sweep(&context);
    assert_true(here(&lost));
    assert_int_equal(warned, 1);
    assert_int_equal(store_job_put(&home.store, id, span_str("{\"type\":\"query\"}"), NULL), E_OK);
    train_sweep(&context);
    assert_false(here(&lost));
    buf_fini(&plan);
}

static void file_of(const char *name, int age_s, char ret[160])
{
    struct utimbuf times = {.actime = time(NULL) - age_s, .modtime = time(NULL) - age_s};
    snprintf(ret, 160, "%s/models/%s", home.dir, name);
    FILE *file = fopen(ret, "w");
    assert_non_null(file);
    fputs("0123456789", file);
    fclose(file);
    assert_int_equal(utime(ret, &times), 0);
}

static void what_writers_left_goes(void **state)
{
    (void)state;
    char young[160], old[160], fresh[160], held[160], foreign[160], name[80];
    struct blob model = bytes_of("a model");
    char hex[65];
    span_to_hex(span_of(model.hash, 32), hex);
    snprintf(name, sizeof name, "%s.part", hex);
    file_of(name, DAY - 600, young);
    snprintf(name, sizeof name, "%.62s00.part", hex);
    file_of(name, DAY + 600, old);
    snprintf(name, sizeof name, "%.62s01.part", hex);
    file_of(name, DAY + 600, held);
    file_of("00112233445566778899aabbccddeeff.new", 0, fresh);
    file_of("notes.new", 2 * DAY, foreign);
    int fd = open(held, O_RDWR);
    assert_true(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    /* One that is being written, by its own interface. */
    struct store_blob_writer *writer;
    uint64_t offset;
    assert_int_equal(
        store_blob_begin(&home.store, NULL, 10, STORE_BLOB_DURABLE, &writer, &offset, NULL), E_OK);
    train_sweep(&context);
    assert_string_equal(said, "2 files that nothing names any more, 20 bytes");
    assert_int_equal(store_blob_append(writer, span_str("0123456789"), NULL), E_OK);
    struct blob written;
    assert_int_equal(store_blob_commit(writer, written.hash, NULL), E_OK);
    assert_true(here(&written) && here(&model));
    assert_int_equal(access(young, F_OK) | access(held, F_OK) | access(foreign, F_OK), 0);
    assert_int_not_equal(access(old, F_OK), 0);
    assert_int_not_equal(access(fresh, F_OK), 0);
    close(fd);
}

static void an_empty_home_is_fine(void **state)
{
    (void)state;
    train_sweep(&context);
    assert_string_equal(said, "");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_job_keeps_what_it_names), T(a_site_keeps_its_head),  T(what_a_record_names_stays),
        T(in_doubt_all_stays),        T(what_writers_left_goes), T(an_empty_home_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
