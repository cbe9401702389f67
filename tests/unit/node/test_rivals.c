/* What the ledger's currency costs: the error of COUNT, AVG and a median when 1, 20 and 100 questions share one (epsilon, delta),
 * against the published mechanisms of Google's library and of OpenDP under the best composition that each offers for questions
 * that are fixed before. Prints the table of doc/privacy.md, and checks that it stands there.
 *
 * All figures are standard deviations of the noise, on one site, one row a person; sigma1 is the deviation for a sensitivity of 1.
 *
 * Ours: zCDP, sigma1 = sqrt(k/(2 rho)), rho = proto_privacy_rho(epsilon, delta); the shares of a question's numbers as planned.
 * Google (C++ library and dp_accounting): Laplace noise whose k-fold privacy-loss distribution is (epsilon, delta), or Gaussian
 *     noise, sigma1 = sqrt(k) AG(epsilon, delta) (Balle and Wang 2018), whichever is less.
 * OpenDP: Laplace with epsilon/k each, or Gaussian noise under zCDP with the same conversion as ours, whichever is less.
 * COUNT: one number. AVG of a column of half-width h, for a mean halfway between middle and bound: a count and a sum of centred
 *     values of equal shares, variance h^2 sigma^2 (1 + 1/4) with 2k releases.
 * Median: the error of the rank. Google's tree: 4 levels of 16 children, each level normalised by its own total: variance
 *     b p (1 - p) sigma^2 a level, p = 1/2 at the root and b/6 sigma^2 on average below, sigma = sqrt(4) sigma1 (or 4 b for
 *     Laplace). OpenDP's tree: 3 levels of 16 over 4,096 classes, made consistent by least squares, sigma = sqrt(3) sigma1. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "node/query/tree.h"
#include "proto/loss.h"
#include "proto/pld.h"
#include "proto/privacy.h"
#include "tests/lib/numbers.h"
#include "tests/unit/node/answering.h"

#define CLASSES 4096
#define H       8.0 /* half-width of x */

static struct proto_column columns[] = {
    {.name = "x", .type = PROTO_COLUMN_REAL, .has_bounds = true, .min = -H, .max = H},
};
static const struct proto_schema schema = {.columns = columns, .count = 1, .max_rows_per_unit = 1};

/* --- rivals --------------------------------------------------------------------------------------- */

/* Standard deviation of continuous Laplace noise of which RELEASES, fixed ahead, are (epsilon, delta). */
static double laplace_sigma(double epsilon, double delta, uint64_t releases)
{
    double low = 0.01 / epsilon;
    double high = 1.001 * (double)releases / epsilon; /* pure composition is enough */
    for (int i = 0; i < 18; i++) {
        double b = sqrt(low * high);
        struct proto_pld pld = {0};
        assert_int_equal(proto_pld_laplace(b, 1e-3, &pld), E_OK);
        assert_int_equal(proto_pld_repeat(&pld, releases), E_OK);
        if (proto_pld_epsilon(&pld, delta) <= epsilon) {
            high = b;
        } else {
            low = b;
        }
        proto_pld_fini(&pld);
    }
    return M_SQRT2 * high;
}

struct rivals {
    double google_gaussian, google_laplace, opendp_gaussian, opendp_laplace; /* sigma1 */
};

static struct rivals rivals_of(double epsilon, double delta, uint64_t releases)
{
    double k = (double)releases;
    return (struct rivals){
        .google_gaussian = sqrt(k) * proto_privacy_analytic_gaussian_sigma(epsilon, delta, 1),
        .google_laplace = laplace_sigma(epsilon, delta, releases),
        .opendp_gaussian = sqrt(k / (2 * proto_privacy_rho(epsilon, delta))),
        .opendp_laplace = M_SQRT2 * k / epsilon,
    };
}

/* Rank variance of a consistent tree for the median, in variances of one of its counts. */
static double rank_variance(const struct query_tree_shape *shape, const double *variances)
{
    double *weights = calloc(shape->sizes[shape->height - 1], sizeof *weights);
    struct query_tree tree = {.shape = shape};
    double variance = 0;
    size_t leaves = shape->sizes[shape->height - 1];
    memcpy(tree.variances, variances, shape->height * sizeof *variances);
    for (size_t i = 0; i < leaves; i++) { /* rows to the left less half of all */
        weights[i] = i < leaves / 2 ? 0.5 : -0.5;
    }
    assert_int_equal(query_tree_covariance(&tree, weights, weights, &variance), E_OK);
    free(weights);
    return variance;
}

static double opendp_rank(double sigma1)
{
    static const struct query_tree_shape shape = {
        .height = 3, .branch = 16, .sizes = {16, 256, CLASSES}, .spans = {256, 16, 1}};
    const double variances[3] = {3, 3, 3};
    return sigma1 * sqrt(rank_variance(&shape, variances));
}

static double google_rank(double sigma_node)
{
    return sigma_node * sqrt(16.0 / 4 + 3 * 16.0 / 6);
}

/* --- ours, as planned ----------------------------------------------------------------------------- */

static double sigma_of(const struct planned *planned, size_t part)
{
    return privacy_mechanism_sigma(&planned->layout.coordinates[part]);
}

static double our_count(double rho)
{
    struct planned planned;
    planned_make(&planned, &schema, "SELECT COUNT(*) FROM t", rho);
    double sigma = sigma_of(&planned, planned.layout.rows_part);
    proto_query_fini(&planned.query);
    return sigma;
}

static double our_mean(double rho)
{
    struct planned planned;
    planned_make(&planned, &schema, "SELECT AVG(x) FROM t", rho);
    double count = sigma_of(&planned, planned.layout.reads[0].values);
    double sum = sigma_of(&planned, planned.layout.reads[0].sums[0]);
    proto_query_fini(&planned.query);
    return sqrt(sum * sum + H * H / 4 * count * count);
}

static double our_rank(double rho)
{
    struct planned planned;
    struct query_tree_shape shape;
    struct query_tree tree;
    double variances[QUERY_COORDINATES_MAX];
    planned_make(&planned, &schema, "SELECT MEDIAN(x) FROM t", rho);
    planned_noise(&planned, variances);
    double *sums = calloc(planned.layout.slots, sizeof *sums);
    const struct query_totals totals = {sums, variances};
    query_estimate_tree(&planned.layout, &planned.layout.reads[0], 0, &totals, &shape, &tree);
    double variance = rank_variance(&shape, tree.variances);
    assert_int_equal(shape.sizes[shape.height - 1], CLASSES);
    free(sums);
    proto_query_fini(&planned.query);
    return sqrt(variance);
}

/* --- the table ------------------------------------------------------------------------------------ */

static void stands_in_the_document(const char *line)
{
    static char text[1 << 17];
    const char *source = getenv("top_srcdir");
    char path[1024];
    snprintf(path, sizeof path, "%s/doc/privacy.md", source ? source : ".");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got = fread(text, 1, sizeof text - 1, file);
    text[got] = '\0';
    fclose(file);
    printf("# %s\n", line);
    if (!strstr(text, line)) {
        fail_msg("doc/privacy.md has not this line: %s", line);
    }
}

static void table_is_as_printed(void **state)
{
    (void)state;
    static const uint64_t questions[] = {1, 20, 100};
    static const double epsilons[] = {1, 4, 8};
    const double delta = 1e-6;
    for (size_t i = 0; i < 3; i++) {
        double rho = proto_privacy_rho(epsilons[i], delta);
        for (size_t j = 0; j < 3; j++) {
            uint64_t k = questions[j];
            struct rivals one = rivals_of(epsilons[i], delta, k);
            struct rivals two = rivals_of(epsilons[i], delta, 2 * k);
            double share = rho / (double)k;
            double count = our_count(share);
            double count_google = fmin(one.google_gaussian, one.google_laplace);
            double count_opendp = fmin(one.opendp_gaussian, one.opendp_laplace);
            double mean = our_mean(share) / H;
            double mean_google = sqrt(1.25) * fmin(two.google_gaussian, two.google_laplace);
            double mean_opendp = sqrt(1.25) * fmin(two.opendp_gaussian, two.opendp_laplace);
            double rank = our_rank(share);
            double rank_google = google_rank(fmin(2 * one.google_gaussian, 4 * one.google_laplace));
            double rank_opendp = opendp_rank(one.opendp_gaussian);
            double ratios[6] = {count / count_google, count / count_opendp, mean / mean_google,
                                mean / mean_opendp,   rank / rank_google,   rank / rank_opendp};
            char line[256];
            snprintf(
                line, sizeof line,
                "| %g | %llu | %.3g | %.2f | %.2f | %.3g h | %.2f | %.2f | %.3g | %.2f | %.2f |",
                epsilons[i], (unsigned long long)k, count, ratios[0], ratios[1], mean, ratios[2],
                ratios[3], rank, ratios[4], ratios[5]);
            stands_in_the_document(line);
            for (size_t r = 0; r < 6 && k >= 20; r++) {
                assert_true(ratios[r] <= 1.10);
            }
        }
    }
}

/* Laplace noise for a single count, charged at the order of a budget of (8, 1e-6) as the ledger would have to: at which price of a
 * question does it win, and by how much at the usual ones? The figures of doc/privacy.md. */
static void laplace_wins_late(void **state)
{
    (void)state;
    double order = proto_privacy_order(8, 1e-6);
    static const double epsilons[] = {0.1, 0.5, 1, 2, 4};
    for (size_t i = 0; i < 5; i++) {
        double rho = proto_privacy_rho(epsilons[i], 1e-6);
        double gaussian = sqrt(1 / (2 * rho));
        double low = 1e-3;
        double high = 1e3;
        for (int step = 0; step < 100; step++) { /* the least scale that costs no more */
            double b = sqrt(low * high);
            if (proto_loss_laplace_rdp(b, order) / order <= rho) {
                high = b;
            } else {
                low = b;
            }
        }
        char line[128];
        snprintf(line, sizeof line, "| %g | %.4g | %.3g | %.3g | %.2f |", epsilons[i], rho,
                 gaussian, M_SQRT2 * high, M_SQRT2 * high / gaussian);
        stands_in_the_document(line);
        assert_true(epsilons[i] > 2 || M_SQRT2 * high > gaussian);
    }
}

/* A median of one table alone: the exponential mechanism over candidates, at the same rho = epsilon^2/8, picks a rank with a
 * probability that falls as exp(-epsilon |rank - target|), whose deviation is sqrt 2/epsilon. Its answers do not add up over sites. */
static void exponential_mechanism_is_named(void **state)
{
    (void)state;
    char line[160];
    double rho = 0.02;
    double exponential = M_SQRT2 / sqrt(8 * rho);
    snprintf(line, sizeof line, "a rank deviation of 0.5/sqrt(rho), ours is %.1f times that",
             our_rank(rho) / exponential);
    stands_in_the_document(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_as_printed),
        cmocka_unit_test(laplace_wins_late),
        cmocka_unit_test(exponential_mechanism_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
