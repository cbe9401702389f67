/* Vectors on disk, means of updates and the server's steps, against plain arithmetic. */
#include "config.h"

#include "node/model/logistic.h"
#include "node/train/aggregate.h"
#include "node/train/vector.h"

#include "proto/privacy.h"
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
        assert_int_equal(train_vector_put(&home.store, vectors[s], COUNT, tag, STORE_BLOB_PASSING,
                                          hashes[s], NULL),
                         E_OK);
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
    assert_int_equal(train_vector_check(&home.store, hashes[0], COUNT, NULL, &norm, NULL), E_OK);
    assert_true(fabs(norm - sqrt(square)) < 1e-9 * norm);
    assert_int_equal(train_vector_check(&home.store, hashes[0], COUNT - 1, NULL, &norm, NULL),
                     E_SCHEMA);
    assert_int_equal(train_vector_check(&home.store, hashes[0], COUNT + 1, NULL, &norm, NULL),
                     E_SCHEMA);
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
        assert_int_equal(
            train_vector_put(&home.store, spoiled, COUNT, tag, STORE_BLOB_PASSING, hash, NULL),
            E_OK);
        assert_int_equal(train_vector_check(&home.store, hash, COUNT, NULL, &norm, NULL),
                         E_INVALID);
        assert_int_equal(train_vector_get(&home.store, hash, spoiled, COUNT, NULL), E_INVALID);
        proto_free(spoiled);
    }
}

/* The step that a round takes on its mean is the one that a replay takes on the mean alone. */
static enum err mean_of(const struct train_updates *updates, uint8_t ret_mean[32])
{
    const struct train_server server = {PROTO_FEDADAM, 0.01, 0.9, job_id};
    struct train_server_state from = {.weights = {0}}, to, again;
    memcpy(from.weights, hashes[0], 32);
    enum err err = train_mean_step(&home.store, updates, &server, &from, &to, ret_mean, NULL);
    if (!err) {
        assert_int_equal(train_server_step(&home.store, &server, updates->round, COUNT, ret_mean,
                                           &from, &again, NULL),
                         E_OK);
        assert_memory_equal(&to, &again, sizeof to);
        assert_int_equal(store_blob_verify(&home.store, to.weights, NULL), E_OK);
    }
    return err;
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
    assert_int_equal(mean_of(&updates, mean), E_OK);
    float *got = get(mean);
    for (size_t i = 0; i < COUNT; i++) {
        double sum = 0;
        for (size_t s = 0; s < SITES; s++) {
            sum += weight[s] * (double)vectors[s][i];
        }
        assert_true(fabs((double)got[i] - sum / 1328) < 1e-6);
    }
    proto_free(got);
    assert_int_equal(mean_of(&updates, again), E_OK);
    assert_memory_equal(mean, again, 32); /* the same bits for the same updates */
    updates.count = 0;
    assert_int_equal(mean_of(&updates, mean), E_INVALID);
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
    assert_int_equal(
        train_vector_put(&home.store, vectors[2], COUNT, tag, STORE_BLOB_PASSING, hashes[2], NULL),
        E_OK);
    assert_int_equal(mean_of(&updates, mean), E_OK);
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
    assert_int_equal(
        train_vector_put(&home.store, vectors[4], COUNT, tag, STORE_BLOB_PASSING, hashes[4], NULL),
        E_OK);
    struct train_server_state before = at;
    assert_int_equal(train_server_step(&home.store, &wild, 1, COUNT, hashes[4], &at, &at, NULL),
                     E_INVALID);
    assert_memory_equal(&at, &before, sizeof at);
}

/* --- SCAFFOLD against FedAvg on sites that want different things --------------------------------------------------------- */

enum {
    ROWS = 600,
    WEIGHTS = 3
};
static struct {
    float x[SITES][ROWS * 2];
    uint8_t y[SITES][ROWS];
    uint32_t unit[ROWS];
    struct model_table table[SITES];
} skewed;

/* Each site sees another part of the plane and mostly one class, by one law of all. */
static void make_sites(void)
{
    struct seed random = seed_of(11);
    for (size_t s = 0; s < SITES; s++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            double a = (double)seed_below(&random, 2000) / 5000 - 1 + 0.4 * (double)s;
            double b = (double)seed_below(&random, 2000) / 1000 - 1;
            double p = 1 / (1 + exp(-(3 * a + (s % 2 ? 2 : -2) * b)));
            skewed.x[s][2 * i] = (float)fmin(fmax(a, -1), 1);
            skewed.x[s][2 * i + 1] = (float)b;
            skewed.y[s][i] = (double)seed_below(&random, 1000000) / 1e6 < p;
            skewed.unit[i] = i;
        }
        skewed.table[s] = (struct model_table){.rows = ROWS,
                                               .features = 2,
                                               .x = skewed.x[s],
                                               .y = skewed.y[s],
                                               .unit = skewed.unit,
                                               .units = ROWS};
    }
}

/* Sites weigh 1 to 5. */
static double global_loss(const double *w)
{
    double sum = 0;
    for (size_t s = 0; s < SITES; s++) {
        for (size_t i = 0; i < ROWS; i++) {
            double score = model_logistic_score(w, skewed.x[s] + 2 * i, 2);
            sum += (double)(s + 1) * model_logistic_loss(score, skewed.y[s][i]);
        }
    }
    return sum / (15 * ROWS);
}

/* The loss of the whole's optimum, by plain gradient steps. */
static double best_loss(void)
{
    double w[WEIGHTS] = {0};
    for (size_t step = 0; step < 3000; step++) {
        double gradient[WEIGHTS] = {0};
        for (size_t s = 0; s < SITES; s++) {
            double own[WEIGHTS] = {0};
            model_logistic_gradient(&skewed.table[s], 0, ROWS, w, own);
            for (size_t j = 0; j < WEIGHTS; j++) {
                gradient[j] += (double)(s + 1) * own[j];
            }
        }
        for (size_t j = 0; j < WEIGHTS; j++) {
            w[j] -= 2 * gradient[j] / (15 * ROWS);
        }
    }
    return global_loss(w);
}

/* One site's steps with hardly any noise; CHANGE is what leaves. */
static void local_steps(size_t site, const float *weights, const float *correction, uint32_t steps,
                        double rate, float *change)
{
    double w[WEIGHTS], extra[WEIGHTS] = {0};
    uint32_t done;
    for (size_t j = 0; j < WEIGHTS; j++) {
        w[j] = (double)weights[j];
        extra[j] = correction ? (double)correction[j] : 0;
    }
    struct model_sgd sgd = {.rate = 1,
                            .clip = 4,
                            .sigma = PROTO_PRIVACY_SIGMA_MIN,
                            .learning_rate = rate,
                            .expected_batch = ROWS,
                            .steps = steps,
                            .correction = extra};
    assert_int_equal(model_logistic_train(&skewed.table[site], &sgd, w, NULL, NULL, &done, NULL),
                     E_OK);
    for (size_t j = 0; j < WEIGHTS; j++) {
        change[j] = (float)(w[j] - (double)weights[j]);
    }
}

/* ROUNDS of a method on disk as a job does them; every site but one of each round, when SOME. RET_OFF: |c - mean of c_i|. */
static double run_rounds(enum proto_aggregation method, size_t rounds, bool some, double *ret_off)
{
    static const uint8_t none[32];
    const double rate = 0.5;
    struct train_server server = {.method = method, .rate = 1, .job_id = job_id};
    struct train_server_state at = {.weights = {0}}, next;
    float weights[WEIGHTS] = {0}, own[SITES][WEIGHTS] = {{0}}, c[WEIGHTS] = {0};
    double w[WEIGHTS];
    assert_int_equal(
        train_vector_put(&home.store, weights, WEIGHTS, tag, STORE_BLOB_PASSING, at.weights, NULL),
        E_OK);
    for (uint64_t round = 1; round <= rounds; round++) {
        uint8_t sent[SITES][32], mean[32];
        double weight[SITES], scale[SITES];
        struct train_updates updates = {.job_id = job_id,
                                        .round = round,
                                        .numbers = WEIGHTS,
                                        .hash = (const uint8_t(*)[32])sent,
                                        .weight = weight};
        for (size_t s = 0; s < SITES; s++) {
            uint32_t steps = 40 + 10 * (uint32_t)s; /* sites differ in size */
            uint8_t who[16] = {(uint8_t)(s + 1)}, update_tag[TRAIN_VECTOR_TAG];
            float correction[WEIGHTS], change[WEIGHTS];
            if (some && (round + s) % SITES == 0) {
                continue;
            }
            for (size_t j = 0; j < WEIGHTS; j++) {
                correction[j] = c[j] - own[s][j];
            }
            local_steps(s, weights, method == PROTO_SCAFFOLD ? correction : NULL, steps, rate,
                        change);
            train_vector_tag(TRAIN_VECTOR_UPDATE, job_id, round, who, update_tag);
            assert_int_equal(train_vector_put(&home.store, change, WEIGHTS, update_tag,
                                              STORE_BLOB_PASSING, sent[updates.count], NULL),
                             E_OK);
            scale[updates.count] = steps * rate;
            weight[updates.count++] = (double)(s + 1);
            train_control_own(own[s], c, change, WEIGHTS, steps * rate);
        }
        assert_int_equal(train_mean_step(&home.store, &updates, &server, &at, &next, mean, NULL),
                         E_OK);
        assert_memory_equal(next.first, none, 32); /* no moment of the server */
        if (method == PROTO_SCAFFOLD) {
            assert_int_equal(
                train_control_step(&home.store, &updates, scale, 15, at.first, next.first, NULL),
                E_OK);
            assert_int_equal(train_vector_get(&home.store, next.first, c, WEIGHTS, NULL), E_OK);
        }
        at = next;
        assert_int_equal(train_vector_get(&home.store, at.weights, weights, WEIGHTS, NULL), E_OK);
    }
    *ret_off = 0;
    for (size_t j = 0; j < WEIGHTS; j++) {
        double sum = 0;
        for (size_t s = 0; s < SITES; s++) {
            sum += (double)(s + 1) / 15 * (double)own[s][j];
        }
        *ret_off = fmax(*ret_off, fabs(sum - (double)c[j]));
        w[j] = (double)weights[j];
    }
    return global_loss(w);
}

static void scaffold_does_not_drift(void **state)
{
    (void)state;
    double off, unused;
    make_sites();
    for (size_t s = 0; s < SITES; s++) {
        assert_true(model_table_valid(&skewed.table[s]));
    }
    double averaged = run_rounds(PROTO_FEDAVG, 60, false, &unused);
    double controlled = run_rounds(PROTO_SCAFFOLD, 60, false, &off);
    assert_true(off < 1e-5);
    double some = run_rounds(PROTO_SCAFFOLD, 60, true, &off);
    assert_true(off < 1e-5); /* also where sites stay away, c is the mean of all c_i */
    double best = best_loss();
    print_message(
        "# loss: best %.4f, FedAvg %.4f, SCAFFOLD %.4f, with one site away in turn %.4f\n", best,
        averaged, controlled, some);
    assert_true(averaged > best + 0.002 && controlled < best + 0.001 && some < best + 0.001);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(vectors_come_back),       T(tags_tell_apart),      T(what_is_not_finite_is_refused),
        T(means_are_weighted),      T(outliers_are_trimmed), T(the_server_steps_as_the_papers_say),
        T(scaffold_does_not_drift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
