#include "config.h"
#include "node/query/survival.h"

#include "node/query/tree.h"

#include <math.h>
#include <string.h>

enum {
    EVENTS,
    LEFT,
    HALVES
};

struct forest {
    struct query_tree_shape shape[HALVES];
    struct query_tree tree[HALVES];
};

static void forest_of(const struct query_layout *layout, const struct query_reads *reads,
                      const struct query_totals *totals, struct forest *ret)
{
    for (size_t half = 0; half < HALVES; half++) {
        query_estimate_tree(layout, reads, half, totals, &ret->shape[half], &ret->tree[half]);
    }
}

/* Leaves whose running sum never falls: what remains of COUNTS after monotone regression of their sums. */
static enum err fitted(const double *counts, size_t bins, double *ret)
{
    double sum = 0;
    for (size_t i = 0; i < bins; i++) {
        sum += counts[i];
        ret[i] = sum;
    }
    enum err err = query_tree_monotone(ret, bins);
    for (size_t i = bins; i-- > 1 && !err;) {
        ret[i] -= ret[i - 1];
    }
    return err;
}

/* d log(1 - d/n) / dn, which is a bin's part of Greenwood's sum as well. */
static double slope(double events, double at_risk)
{
    return events / (at_risk * (at_risk - events));
}

/* How log S at the end of bin LAST moves with each leaf. */
static void log_gradient(const struct query_curve *curve, size_t last, double *by_event,
                         double *by_left)
{
    double through = 0;
    for (size_t k = 0; k < curve->bins; k++) {
        double d = curve->events_fitted[k];
        double n = curve->at_risk[k];
        if (k <= last) {
            through += slope(d, n);
        }
        by_left[k] = through;
        by_event[k] = through - (k <= last ? 1 / (n - d) : 0);
    }
}

static enum err variance_of(const struct forest *forest, const double *by_event,
                            const double *by_left, double *ret)
{
    double events;
    double left;
    enum err err = query_tree_covariance(&forest->tree[EVENTS], by_event, by_event, &events);
    err = err ? err : query_tree_covariance(&forest->tree[LEFT], by_left, by_left, &left);
    *ret = err ? 0 : fmax(events + left, 0);
    return err;
}

static enum err bands(const struct forest *forest, struct query_curve *curve, double *by_event,
                      double *by_left)
{
    enum err err = E_OK;
    double greenwood = 0;
    bool known = true;
    for (size_t j = 0; j < curve->bins && !err; j++) {
        struct query_curve_point *point = &curve->points[j];
        double variance;
        for (size_t k = 0; k < curve->bins; k++) {
            by_event[k] = by_left[k] = k >= j;
        }
        err = variance_of(forest, by_event, by_left, &variance);
        point->risk_margin = QUERY_Z95 * sqrt(variance);
        /* With fewer at risk than the noise may make up, what follows would be of the noise alone. */
        known = known && point->at_risk > point->risk_margin;
        point->known = point->known && known;
        if (err || !point->known || point->survival <= 0) {
            point->margin = point->lower = point->upper = NAN;
            continue;
        }
        log_gradient(curve, j, by_event, by_left);
        err = variance_of(forest, by_event, by_left, &variance);
        greenwood += slope(curve->events_fitted[j], curve->at_risk[j]);
        double reach = QUERY_Z95 * sqrt(greenwood + variance);
        point->margin = fmin(point->survival * QUERY_Z95 * sqrt(variance), 1);
        point->lower = point->survival * exp(-reach);
        point->upper = fmin(point->survival * exp(reach), 1);
    }
    return err;
}

static enum err estimate(const struct forest *forest, struct query_curve *curve, double *left)
{
    enum err err = query_tree_fit(&forest->tree[EVENTS], curve->events);
    err = err ? err : query_tree_fit(&forest->tree[LEFT], curve->at_risk);
    err = err ? err : fitted(curve->events, curve->bins, curve->events_fitted);
    err = err ? err : fitted(curve->at_risk, curve->bins, left);
    if (err) {
        return err;
    }
    double at_risk = 0;
    for (size_t i = curve->bins; i-- > 0;) {
        at_risk += curve->events_fitted[i] + left[i];
        curve->at_risk[i] = at_risk;
    }
    double survival = 1;
    bool known = true;
    for (size_t i = 0; i < curve->bins; i++) {
        double n = curve->at_risk[i];
        known = known && n >= 1;
        survival *= known ? fmax(1 - curve->events_fitted[i] / n, 0) : 1;
        curve->points[i] =
            (struct query_curve_point){.at_risk = n, .known = known, .survival = survival};
    }
    return E_OK;
}

enum err query_survival_curve(const struct query_layout *layout, const struct query_reads *reads,
                              const struct query_totals *totals, struct arena *arena,
                              struct query_curve *ret)
{
    struct forest forest;
    forest_of(layout, reads, totals, &forest);
    size_t bins = layout->parts[reads->levels + reads->height - 1].bins;
    double *numbers = arena_alloc(arena, 5 * bins, sizeof *numbers);
    *ret = (struct query_curve){
        .bins = bins, .points = arena_alloc(arena, bins, sizeof *ret->points), .events = numbers};
    if (!numbers || !ret->points) {
        return E_NO_MEMORY;
    }
    ret->events_fitted = numbers + bins;
    ret->at_risk = numbers + 2 * bins;
    enum err err = estimate(&forest, ret, numbers + 3 * bins);
    return err ? err : bands(&forest, ret, numbers + 3 * bins, numbers + 4 * bins);
}

/* ---- log-rank ------------------------------------------------------------------------------ */

double query_chi2_above(double x, size_t freedom)
{
    double half = x / 2;
    bool odd = freedom % 2;
    double sum = odd ? erfc(sqrt(half)) : 0;
    /* Terms e^-h h^k / Gamma(k + 1), k = 0, 1, ... or 1/2, 3/2, ... up to freedom/2 - 1. */
    double term = odd ? exp(-half) * sqrt(half) / sqrt(acos(-1)) * 2 : exp(-half);
    for (size_t i = 0; i < freedom / 2; i++) {
        sum += term;
        term *= half / ((double)i + (odd ? 1.5 : 1));
    }
    return x > 0 ? fmin(sum, 1) : 1;
}

struct comparison {
    size_t groups;
    size_t bins;
    const struct query_curve *curves;
    double *events; /* by bin, over groups: unbiased, then fitted */
    double *fitted;
    double *at_risk;
    double score[QUERY_LOGRANK_GROUPS];
    double variance[QUERY_LOGRANK_GROUPS][QUERY_LOGRANK_GROUPS];
};

static void pool(struct comparison *c)
{
    for (size_t g = 0; g < c->groups; g++) {
        for (size_t i = 0; i < c->bins; i++) {
            c->events[i] += c->curves[g].events[i];
            c->fitted[i] += c->curves[g].events_fitted[i];
            c->at_risk[i] += c->curves[g].at_risk[i];
        }
    }
}

/* Observed less expected events, and their hypergeometric covariance. */
static void score(struct comparison *c)
{
    for (size_t i = 0; i < c->bins && c->at_risk[i] >= 1; i++) {
        double n = c->at_risk[i];
        double d = fmin(c->fitted[i], n);
        double spread = n > 1 ? d * (n - d) / (n - 1) : 0;
        for (size_t g = 0; g < c->groups; g++) {
            double part = c->curves[g].at_risk[i] / n;
            c->score[g] += c->curves[g].events[i] - part * c->events[i];
            for (size_t h = 0; h < c->groups; h++) {
                c->variance[g][h] += spread * part * ((g == h) - c->curves[h].at_risk[i] / n);
            }
        }
    }
}

/* How the score of group G moves with the leaves of group H. */
static void score_gradient(const struct comparison *c, size_t g, size_t h, double *by_event,
                           double *by_left)
{
    double through = 0;
    for (size_t k = 0; k < c->bins; k++) {
        double n = c->at_risk[k];
        double own = n >= 1 ? (g == h) - c->curves[g].at_risk[k] / n : 0;
        through += n >= 1 ? c->fitted[k] / n * own : 0;
        by_left[k] = -through;
        by_event[k] = own - through;
    }
}

/* Adds the covariance of scores G and H by the noise of every group. */
static enum err add_noise(struct comparison *c, const struct query_layout *layout,
                          const struct query_reads *reads, const struct query_totals *totals,
                          size_t g, size_t h, double *scratch)
{
    enum err err = E_OK;
    double *first[HALVES] = {scratch, scratch + c->bins};
    double *second[HALVES] = {scratch + 2 * c->bins, scratch + 3 * c->bins};
    for (size_t source = 0; source < c->groups && !err; source++) {
        struct forest forest;
        forest_of(layout, reads, &totals[source], &forest);
        score_gradient(c, g, source, first[EVENTS], first[LEFT]);
        score_gradient(c, h, source, second[EVENTS], second[LEFT]);
        for (size_t half = 0; half < HALVES && !err; half++) {
            double covariance;
            err = query_tree_covariance(&forest.tree[half], first[half], second[half], &covariance);
            c->variance[g][h] += err ? 0 : covariance;
        }
    }
    c->variance[h][g] = c->variance[g][h];
    return err;
}

/* z' V^-1 z over all groups but the last by elimination; NaN when V is not positive. */
static double quadratic(struct comparison *c)
{
    size_t n = c->groups - 1;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double pivot = c->variance[i][i];
        if (!(pivot > 0)) {
            return NAN;
        }
        sum += c->score[i] * c->score[i] / pivot;
        for (size_t r = i + 1; r < n; r++) {
            double factor = c->variance[r][i] / pivot;
            for (size_t k = i; k < n; k++) {
                c->variance[r][k] -= factor * c->variance[i][k];
            }
            c->score[r] -= factor * c->score[i];
        }
    }
    return sum;
}

static enum err compare(struct comparison *c, const struct query_layout *layout,
                        const struct query_reads *reads, const struct query_totals *totals,
                        double *scratch, struct query_logrank *ret)
{
    enum err err = E_OK;
    pool(c);
    score(c);
    for (size_t g = 0; g + 1 < c->groups && !err; g++) {
        for (size_t h = g; h + 1 < c->groups && !err; h++) {
            err = add_noise(c, layout, reads, totals, g, h, scratch);
        }
    }
    if (!err) {
        ret->freedom = c->groups - 1;
        ret->chi2 = quadratic(c);
        ret->known = isfinite(ret->chi2);
        ret->p = ret->known ? query_chi2_above(ret->chi2, ret->freedom) : NAN;
    }
    return err;
}

enum err query_survival_logrank(const struct query_layout *layout, const struct query_reads *reads,
                                const struct query_totals *totals, const struct query_curve *curves,
                                size_t groups, struct query_logrank *ret)
{
    *ret = (struct query_logrank){.chi2 = NAN, .p = NAN};
    if (groups < 2 || groups > QUERY_LOGRANK_GROUPS) {
        return E_OK;
    }
    struct comparison *c = proto_alloc(1, sizeof *c);
    size_t bins = curves[0].bins;
    double *numbers = proto_alloc(7 * bins, sizeof *numbers);
    enum err err = E_NO_MEMORY;
    if (c && numbers) {
        *c = (struct comparison){.groups = groups,
                                 .bins = bins,
                                 .curves = curves,
                                 .events = numbers,
                                 .fitted = numbers + bins,
                                 .at_risk = numbers + 2 * bins};
        err = compare(c, layout, reads, totals, numbers + 3 * bins, ret);
    }
    proto_free(c);
    proto_free(numbers);
    return err;
}
