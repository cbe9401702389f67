/* Vectors on disk, means of updates and the server's steps, against plain arithmetic. */
#include "config.h"

#include "node/train/aggregate.h"
#include "node/train/vector.h"

#include "tests/lib/seed.h"
#include "tests/unit/store/home.h"

#include <math.h>

#define COUNT (TRAIN_VECTOR_BLOCK + 777) /* two chunks */
#define SITES 5

static const uint8_t job_id[16] = {1};
static uint8_t tag[TRAIN_VECTOR_TAG];
static struct home home;
static struct seed seed;
static float *vectors[SITES];
static uint8_t hashes[SITES][32];

static float draw(void)
{
    return (float)((double)seed_below(&seed, 2000001) / 1e6 - 1);
}

static int setup(void **state)
{
    (void)state;
    home_make(&home);
    seed = seed_of(7);
    for (size_t s = 0; s < SITES; s++) {
        vectors[s] = proto_alloc(COUNT, sizeof(float));
        for (size_t i = 0; i < COUNT; i++) {
            vectors[s][i] = draw();
        }
        assert_int_equal(
            train_vector_put(&home.store, vectors[s], COUNT, tag, false, hashes[s], NULL), E_OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t s = 0; s < SITES; s++) {
        proto_free(vectors[s]);
    }
    home_remove(&home);
    return 0;
}

static float *get(const uint8_t hash[32])
{
    float *numbers = proto_alloc(COUNT, sizeof *numbers);
    assert_int_equal(train_vector_get(&home.store, hash, numbers, COUNT, NULL), E_OK);
    return numbers;
}

static void vectors_come_back(void **state)
{
    float part[10];
    double norm;
    double square = 0;
    (void)state;
    float *back = get(hashes[0]);
    assert_memory_equal(back, vectors[0], COUNT * sizeof *back);
    proto_free(back);
    assert_int_equal(
        train_vector_part(&home.store, hashes[0], TRAIN_VECTOR_BLOCK - 5, part, 10, NULL), E_OK);
    assert_memory_equal(part, vectors[0] + TRAIN_VECTOR_BLOCK - 5, sizeof part);
    for (size_t i = 0; i < COUNT; i++) {
        square += (double)vectors[0][i] * (double)vectors[0][i];
    }
    assert_int_equal(train_vector_check(&home.store, hashes[0], COUNT, &norm, NULL), E_OK);
    assert_true(fabs(norm - sqrt(square)) < 1e-9 * norm);
    assert_int_equal(train_vector_check(&home.store, hashes[0], COUNT - 1, &norm, NULL), E_SCHEMA);
    assert_int_equal(train_vector_check(&home.store, hashes[0], COUNT + 1, &norm, NULL), E_SCHEMA);
    assert_int_equal(train_vector_part(&home.store, hashes[0], COUNT - 5, part, 10, NULL),
                     E_SCHEMA);
}

/* Equal numbers that are different things have different names: one can go without the other. */
static void tags_tell_apart(void **state)
{
    static const uint8_t node[16] = {2};
    uint8_t tags[6][TRAIN_VECTOR_TAG];
    (void)state;
    train_vector_tag(TRAIN_VECTOR_WEIGHTS, job_id, 1, NULL, tags[0]);
    train_vector_tag(TRAIN_VECTOR_WEIGHTS, job_id, 2, NULL, tags[1]);
    train_vector_tag(TRAIN_VECTOR_MEAN, job_id, 1, NULL, tags[2]);
    train_vector_tag(TRAIN_VECTOR_UPDATE, job_id, 1, job_id, tags[3]);
    train_vector_tag(TRAIN_VECTOR_UPDATE, job_id, 1, node, tags[4]);
    train_vector_tag(TRAIN_VECTOR_UPDATE, node, 1, node, tags[5]);
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(tags[i], tags[j], TRAIN_VECTOR_TAG);
        }
    }
}

static void what_is_not_finite_is_refused(void **state)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    uint8_t hash[32];
    double norm;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        float *spoiled = get(hashes[1]);
        spoiled[COUNT - 1] = odd[i];
        assert_int_equal(train_vector_put(&home.store, spoiled, COUNT, tag, false, hash, NULL),
                         E_OK);
        assert_int_equal(train_vector_check(&home.store, hash, COUNT, &norm, NULL), E_INVALID);
        assert_int_equal(train_vector_get(&home.store, hash, spoiled, COUNT, NULL), E_INVALID);
        proto_free(spoiled);
    }
}

static void means_are_weighted(void **state)
{
    const double weight[SITES] = {1000, 1, 20, 300, 7};
    struct train_updates updates = {.job_id = job_id,
                                    .numbers = COUNT,
                                    .count = SITES,
                                    .hash = (const uint8_t(*)[32])hashes,
                                    .weight = weight};
    uint8_t mean[32];
    uint8_t again[32];
    (void)state;
    assert_int_equal(train_mean(&home.store, &updates, mean, NULL), E_OK);
    float *got = get(mean);
    for (size_t i = 0; i < COUNT; i++) {
        double sum = 0;
        for (size_t s = 0; s < SITES; s++) {
            sum += weight[s] * (double)vectors[s][i];
        }
        assert_true(fabs((double)got[i] - sum / 1328) < 1e-6);
    }
    proto_free(got);
    assert_int_equal(train_mean(&home.store, &updates, again, NULL), E_OK);
    assert_memory_equal(mean, again, 32); /* the same bits for the same updates */
    updates.count = 0;
    assert_int_equal(train_mean(&home.store, &updates, mean, NULL), E_INVALID);
}

/* One liar of five cannot move a mean that leaves out a fifth at each end beyond what the others said. */
static void outliers_are_trimmed(void **state)
{
    struct train_updates updates = {.job_id = job_id,
                                    .numbers = COUNT,
                                    .count = SITES,
                                    .hash = (const uint8_t(*)[32])hashes,
                                    .trimmed = true,
                                    .trim = 0.2};
    uint8_t mean[32];
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        vectors[2][i] = i % 2 ? 1e30F : -1e30F;
    }
    assert_int_equal(train_vector_put(&home.store, vectors[2], COUNT, tag, false, hashes[2], NULL),
                     E_OK);
    assert_int_equal(train_mean(&home.store, &updates, mean, NULL), E_OK);
    float *got = get(mean);
    for (size_t i = 0; i < COUNT; i++) {
        double sum = 0;
        float low = 2e30F;
        float high = -2e30F;
        for (size_t s = 0; s < SITES; s++) {
            low = fminf(low, vectors[s][i]);
            high = fmaxf(high, vectors[s][i]);
        }
        for (size_t s = 0, cut_low = 0, cut_high = 0; s < SITES; s++) {
            if (vectors[s][i] == low && !cut_low) {
                cut_low = 1;
            } else if (vectors[s][i] == high && !cut_high) {
                cut_high = 1;
            } else {
                sum += (double)vectors[s][i];
            }
        }
        assert_true(fabs((double)got[i] - sum / 3) < 1e-6);
    }
    proto_free(got);
}

struct numbers {
    double w, first, second;
};

static struct numbers expect(const struct train_server *server, struct numbers n, double d)
{
    double b = server->momentum;
    if (server->method == PROTO_FEDADAM) {
        n.first = b * n.first + (1 - b) * d;
        n.second = 0.99 * n.second + 0.01 * d * d;
        n.w += server->rate * n.first / (sqrt(n.second) + 1e-3);
    } else if (b > 0) {
        n.first = b * n.first + d;
        n.w += server->rate * n.first;
    } else {
        n.w += server->rate * d;
    }
    return n;
}

static void three_steps(const struct train_server *server)
{
    struct train_server_state at = {.weights = {0}};
    struct numbers want[COUNT / 97 + 1];
    memcpy(at.weights, hashes[0], 32);
    for (size_t i = 0; i * 97 < COUNT; i++) {
        want[i] = (struct numbers){(double)vectors[0][i * 97], 0, 0};
    }
    for (size_t s = 1; s <= 3; s++) {
        assert_int_equal(
            train_server_step(&home.store, server, s, COUNT, hashes[s], &at, &at, NULL), E_OK);
        float *got = get(at.weights);
        for (size_t i = 0; i * 97 < COUNT; i++) {
            want[i] = expect(server, want[i], (double)vectors[s][i * 97]);
            assert_true(fabs((double)got[i * 97] - want[i].w) < 2e-5);
        }
        proto_free(got);
    }
    assert_true(train_hash_none(at.second) == (server->method != PROTO_FEDADAM));
}

static void the_server_steps_as_the_papers_say(void **state)
{
    static const struct train_server servers[] = {
        {PROTO_FEDAVG, 1, 0, job_id},
        {PROTO_FEDAVG, 0.5, 0.9, job_id},
        {PROTO_FEDADAM, 0.01, 0.9, job_id},
        {PROTO_FEDPROX, 1, 0, job_id},
    };
    (void)state;
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        three_steps(&servers[i]);
    }
    /* Weights that overflow are no weights. */
    struct train_server wild = {PROTO_FEDAVG, 10, 0.9, job_id};
    struct train_server_state at = {.weights = {0}};
    for (size_t i = 0; i < COUNT; i++) {
        vectors[4][i] = 3e38F;
    }
    memcpy(at.weights, hashes[0], 32);
    assert_int_equal(train_vector_put(&home.store, vectors[4], COUNT, tag, false, hashes[4], NULL),
                     E_OK);
    struct train_server_state before = at;
    assert_int_equal(train_server_step(&home.store, &wild, 1, COUNT, hashes[4], &at, &at, NULL),
                     E_INVALID);
    assert_memory_equal(&at, &before, sizeof at);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(vectors_come_back),  T(tags_tell_apart),      T(what_is_not_finite_is_refused),
        T(means_are_weighted), T(outliers_are_trimmed), T(the_server_steps_as_the_papers_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
