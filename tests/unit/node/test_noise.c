/* The samplers against exact distributions: chi-square tests that fail by chance with probability 1e-6 each. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/privacy/noise.h"
#include "proto/privacy.h"
#include "tests/lib/numbers.h"

#define DRAWS 20000
#define BINS  256
/* What a bin must expect. With less the statistic's upper tail is a Poisson variable's and not chi-square's: with 2 expected, one
 * bin alone went beyond the critical value some ten times as often as 1e-6. */
#define EXPECTED_LEAST 40

/* Bins of |y|: bin i holds at[i] <= |y| < at[i+1], once for each sign; bin 0 is y = 0. tail[i] = P[y >= at[i]]. */
struct law {
    size_t count;
    int64_t at[BINS];
    double tail[BINS], variance, zero;
};

/* The critical value that a chi-square variable exceeds with probability 1e-6 (Wilson and Hilferty 1931). */
static double critical(double freedom)
{
    double z = proto_privacy_normal_quantile(1 - 1e-6);
    double v = 2 / (9 * freedom);
    return freedom * pow(1 - v + z * sqrt(v), 3);
}

static double statistic_add(double observed, double expected)
{
    return (observed - expected) * (observed - expected) / expected;
}

static void judge(const struct law *law, const int64_t *draws, size_t count, const char *name)
{
    double sum = 0;
    size_t bins = 0;
    double left = (double)count;
    double left_seen = (double)count;
    double last = 0; /* bin: not in the sum yet, since what is left at the end goes with it */
    double last_seen = 0;
    for (int sign = 0; sign <= 2; sign++) {
        double expected = 0;
        double observed = 0;
        for (size_t i = 0; i < law->count; i++) {
            double p =
                sign == 0 ? law->zero : law->tail[i] - (i + 1 < law->count ? law->tail[i + 1] : 0);
            expected += p * (double)count;
            for (size_t n = 0; n < count; n++) {
                int64_t y = sign == 2 ? -draws[n] : draws[n];
                bool in = y >= law->at[i] && (i + 1 == law->count || y < law->at[i + 1]);
                observed += sign == 0 ? y == 0 : in;
            }
            if (expected >= EXPECTED_LEAST) {
                sum += last > 0 ? statistic_add(last_seen, last) : 0;
                last = expected;
                last_seen = observed;
                left -= expected;
                left_seen -= observed;
                bins++;
                expected = observed = 0;
            }
            if (sign == 0) {
                break;
            }
        }
    }
    assert_true(left_seen < left + 40 + 8 * sqrt(left < 0 ? 0 : left)); /* all tails together */
    if (left >= EXPECTED_LEAST) {
        sum += statistic_add(left_seen, left) + statistic_add(last_seen, last);
        bins++;
    } else {
        sum += statistic_add(last_seen + left_seen, last + left);
    }
    if (bins > 1 && sum > critical((double)bins - 1)) {
        fail_msg("%s: chi-square %.1f over %zu bins exceeds %.1f", name, sum, bins,
                 critical((double)bins - 1));
    }
}

static void judge_moments(const struct law *law, const int64_t *draws, size_t count)
{
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)draws[i];
        squares += (double)draws[i] * (double)draws[i];
    }
    double n = (double)count;
    assert_near(sum / n, 0, 5.5 * sqrt(law->variance / n) + 0.01 / sqrt(n));
    /* Fourth moment of at most 6 variance^2 (Laplace) plus what a coarse grid adds. */
    double spread = sqrt((6 * law->variance * law->variance + law->variance) / n);
    assert_near(squares / n, law->variance, 5.5 * spread + 5.5 * sqrt(law->variance / n));
}

/* Reads the rows of one parameter into LAW; they stand together in the file. True while there are more. */
static bool law_read(struct numbers *t, const char *key, double *parameter, bool *pending,
                     struct law *law)
{
    memset(law, 0, sizeof *law);
    while (*pending || numbers_next(t)) {
        double p = numbers_get(t, key);
        if (law->variance != 0 && p != *parameter) {
            *pending = true;
            return true;
        }
        *pending = false;
        *parameter = p;
        law->variance = numbers_get(t, "variance");
        int64_t k = (int64_t)numbers_get(t, "k");
        if (k == 0) {
            law->zero = numbers_get(t, "pmf");
        } else {
            if (k > 1 && law->count == 0) {
                law->at[0] = 1;
                law->tail[0] = (1 - law->zero) / 2;
                law->count = 1;
            }
            law->at[law->count] = k;
            law->tail[law->count++] = numbers_get(t, "tail_ge_k");
        }
    }
    return law->variance != 0;
}

static void each_law(const char *file, const char *key, enum err (*draw)(double, int64_t *, size_t),
                     size_t want)
{
    static int64_t draws[DRAWS];
    struct numbers t;
    struct law law;
    double parameter = 0;
    bool pending = false;
    size_t laws = 0;
    numbers_open(&t, "privacy", file);
    while (law_read(&t, key, &parameter, &pending, &law)) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s %g", key, parameter);
        assert_int_equal(draw(parameter, draws, DRAWS), E_OK);
        judge(&law, draws, DRAWS, name);
        judge_moments(&law, draws, DRAWS);
        laws++;
    }
    assert_true(laws >= (getenv("VECTORS") ? 1 : want));
    numbers_close(&t);
}

static enum err draw_gaussian(double sigma2, int64_t *to, size_t count)
{
    return privacy_noise_gaussian((uint64_t)(sigma2 * 4096), 4096, to, count);
}

static enum err draw_laplace(double t, int64_t *to, size_t count)
{
    return privacy_noise_laplace((uint64_t)(t * 1024), 1024, to, count);
}

static struct privacy_pool *shared_pool;

static enum err draw_pool(double sigma2, int64_t *to, size_t count)
{
    /* Half of it waits for the thread, half is drawn directly. */
    uint64_t num = (uint64_t)(sigma2 * 4096);
    enum err err = privacy_pool_prepare(shared_pool, num, 4096, 2000);
    for (int i = 0; i < 5000 && privacy_pool_ready(shared_pool, num, 4096) < 2000; i++) {
        struct timespec pause = {0, 1000000};
        (void)nanosleep(&pause, NULL);
    }
    for (size_t at = 0; at < count && err == E_OK; at += 500) {
        err = privacy_pool_draw(shared_pool, num, 4096, to + at, 500);
    }
    return err;
}

static void gaussian_has_its_law(void **state)
{
    (void)state;
    each_law("03_discrete_gaussian.csv", "sigma2", draw_gaussian, 5);
}

static void laplace_has_its_law(void **state)
{
    (void)state;
    each_law("03b_discrete_laplace.csv", "scale_t", draw_laplace, 5);
}

static void pool_has_the_same_law(void **state)
{
    (void)state;
    assert_int_equal(privacy_pool_new(&shared_pool), E_OK);
    each_law("03_discrete_gaussian.csv", "sigma2", draw_pool, 5);
    privacy_pool_free(shared_pool);
    shared_pool = NULL;
}

/* A sampler that is wrong by a tenth in sigma must fail the test: the test itself can fail. */
static void a_wrong_law_is_seen(void **state)
{
    (void)state;
    static int64_t draws[DRAWS];
    assert_int_equal(privacy_noise_gaussian(121, 4, draws, DRAWS), E_OK); /* 5.5 in place of 5 */
    double inside = 0;
    for (size_t i = 0; i < DRAWS; i++) {
        inside += draws[i] >= -5 && draws[i] <= 5;
    }
    double p = 0;
    double all = 0;
    for (int k = -60; k <= 60; k++) {
        double w = exp(-k * k / 50.0);
        all += w;
        p += k >= -5 && k <= 5 ? w : 0;
    }
    p /= all;
    double z = (inside - DRAWS * p) / sqrt(DRAWS * p * (1 - p));
    assert_true(z < -4.9);
}

/* Large sigma: as many draws in each sixteenth of the normal distribution. */
static void large_sigma_is_normal(void **state)
{
    (void)state;
    static int64_t draws[DRAWS];
    const double sigma = 67108864;
    assert_int_equal(privacy_noise_gaussian((uint64_t)1 << 52, 1, draws, DRAWS), E_OK);
    double seen[16] = {0};
    for (size_t i = 0; i < DRAWS; i++) {
        size_t bin = (size_t)(16 * proto_privacy_normal_cdf((double)draws[i] / sigma));
        seen[bin < 16 ? bin : 15]++;
    }
    double sum = 0;
    for (size_t i = 0; i < 16; i++) {
        sum += statistic_add(seen[i], DRAWS / 16.0);
    }
    assert_true(sum < critical(15));
}

static void split_products_keep_the_probability(void **state)
{
    (void)state;
    struct privacy_random random = {.left = 0};
    static const struct {
        uint64_t x, y, d;
    } cases[] = {{900, 900, 1000000},
                 {70000, 33, 2000000},
                 {1, 1000, 700},
                 {4095, 4097, 9000000},
                 {0, 5, 7}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double p = exp(-(double)cases[c].x * (double)cases[c].y / (double)cases[c].d);
        for (unsigned bits = 8; bits <= 126; bits += 59) {
            double hits = 0;
            for (size_t i = 0; i < DRAWS; i++) {
                hits += privacy_noise_bernoulli_exp_product(&random, cases[c].x, cases[c].y,
                                                            cases[c].d, bits);
            }
            assert_near(hits, p * DRAWS, 4.9 * sqrt(p * (1 - p) * DRAWS) + 0.5);
        }
    }
    assert_int_equal(random.err, E_OK);
    /* Products of 160 bits, which production meets with probability e^-64. */
    unsigned __int128 big = (unsigned __int128)1 << 80;
    assert_false(
        privacy_noise_bernoulli_exp_product(&random, big, big, (unsigned __int128)1 << 111, 126));
    privacy_random_fini(&random);
}

static void uniform_numbers_stay_below(void **state)
{
    (void)state;
    struct privacy_random random = {.left = 0};
    double seen[5] = {0};
    for (size_t i = 0; i < DRAWS; i++) {
        seen[(size_t)privacy_random_below(&random, 5)]++;
        assert_int_equal((uint64_t)privacy_random_below(&random, 1), 0);
        assert_true(privacy_random_below(&random, ((unsigned __int128)1 << 100) + 1) <=
                    (unsigned __int128)1 << 100);
    }
    double sum = 0;
    for (size_t i = 0; i < 5; i++) {
        sum += statistic_add(seen[i], DRAWS / 5.0);
    }
    assert_true(sum < critical(4));
    privacy_random_fini(&random);
    assert_int_equal(random.left, 0);
}

static void widths_are_kept(void **state)
{
    (void)state;
    int64_t y[2] = {5, 5};
    assert_int_equal(privacy_noise_gaussian(0, 1, y, 2), E_LIMIT);
    assert_int_equal(y[0], 0);
    assert_int_equal(privacy_noise_gaussian(PRIVACY_NOISE_MAX + 1, 1, y, 1), E_LIMIT);
    assert_int_equal(privacy_noise_gaussian(1, 0, y, 1), E_LIMIT);
    assert_int_equal(privacy_noise_laplace(0, 1, y, 1), E_LIMIT);
    assert_int_equal(privacy_noise_gaussian(PRIVACY_NOISE_MAX, 1, y, 2), E_OK);
    assert_int_equal(privacy_noise_gaussian(1, PRIVACY_NOISE_MAX, y, 2), E_OK);
    assert_int_equal(y[0], 0); /* exp(-2^53) */
    assert_int_equal(privacy_noise_gaussian(PRIVACY_NOISE_MAX - 1, PRIVACY_NOISE_MAX, y, 2), E_OK);
    assert_int_equal(privacy_pool_draw(NULL, 0, 1, y, 2), E_LIMIT);
}

static void pool_gives_each_sample_once(void **state)
{
    (void)state;
    struct privacy_pool *pool = NULL;
    assert_int_equal(privacy_pool_new(&pool), E_OK);
    int64_t got[200];
    for (uint64_t key = 1; key <= PRIVACY_POOL_KEYS + 5; key++) {
        assert_int_equal(privacy_pool_prepare(pool, ((uint64_t)1 << 50) + key, 1, 200), E_OK);
    }
    assert_int_equal(privacy_pool_ready(pool, ((uint64_t)1 << 50) + 1, 1), 0); /* pushed out */
    assert_int_equal(privacy_pool_draw(pool, ((uint64_t)1 << 50) + 37, 1, got, 200), E_OK);
    size_t equal = 0;
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i; k++) {
            equal += got[i] == got[k];
        }
    }
    /* Two of 19,900 pairs agree by chance with probability below 1e-6 (sigma is 2^25); a shelf given out twice would
     * make many. */
    assert_true(equal < 2);
    privacy_pool_free(pool);
    privacy_pool_free(NULL);
}

static size_t ready_after(struct privacy_pool *pool, size_t least)
{
    size_t ready = 0;
    for (int i = 0; i < 5000 && ready < least; i++) {
        struct timespec pause = {0, 1000000};
        (void)nanosleep(&pause, NULL);
        ready = privacy_pool_ready(pool, 100, 1);
    }
    return ready;
}

/* One sample taken must not make one sample to be made: its time would be that sample's own, and the next answer has it. */
static void pool_fills_whole_batches(void **state)
{
    (void)state;
    struct privacy_pool *pool = NULL;
    int64_t got[PRIVACY_POOL_FILL];
    assert_int_equal(privacy_pool_new(&pool), E_OK);
    assert_int_equal(privacy_pool_prepare(pool, 100, 1, 1), E_OK);
    assert_int_equal(ready_after(pool, 1), PRIVACY_POOL_FILL);
    for (size_t i = 1; i < PRIVACY_POOL_FILL; i++) {
        assert_int_equal(privacy_pool_draw(pool, 100, 1, got, 1), E_OK);
    }
    assert_int_equal(privacy_pool_ready(pool, 100, 1), 1);
    assert_int_equal(privacy_pool_draw(pool, 100, 1, got, 1), E_OK);
    assert_int_equal(ready_after(pool, 1), PRIVACY_POOL_FILL);
    privacy_pool_free(pool);
}

/* Not the parent's samples, and no zeros in their place. */
static void a_child_has_no_samples(void **state)
{
    (void)state;
    struct privacy_pool *pool = NULL;
    assert_int_equal(privacy_pool_new(&pool), E_OK);
    assert_int_equal(privacy_pool_prepare(pool, 100, 1, 50), E_OK);
    assert_true(ready_after(pool, 50) >= 50);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(privacy_pool_ready(pool, 100, 1) == 0 ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(privacy_pool_ready(pool, 100, 1) >= 50);
    privacy_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaussian_has_its_law),
        cmocka_unit_test(laplace_has_its_law),
        cmocka_unit_test(pool_has_the_same_law),
        cmocka_unit_test(a_wrong_law_is_seen),
        cmocka_unit_test(large_sigma_is_normal),
        cmocka_unit_test(split_products_keep_the_probability),
        cmocka_unit_test(uniform_numbers_stay_below),
        cmocka_unit_test(widths_are_kept),
        cmocka_unit_test(pool_gives_each_sample_once),
        cmocka_unit_test(pool_fills_whole_batches),
        cmocka_unit_test(a_child_has_no_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
