#include "config.h"
#include "node/query/regress.h"

#include <math.h>
#include <string.h>

#define TERMS PROTO_QUERY_ARGUMENTS_MAX
/* Beyond it what is left out of the first order is no longer small beside it. */
#define DISTURBANCE_MAX 0.25

/* The normal equations in centred columns: term 0 is the constant, term i column i (argument i; argument 0 is y). */
struct normal {
    size_t terms;
    double a[TERMS][TERMS];
    double inverse[TERMS][TERMS];
    double b[TERMS];
    double squares; /* of y */
    double beta[TERMS];
};

static double sum_of(const struct query_layout *layout, const struct query_totals *totals,
                     uint8_t part)
{
    return totals->sums[layout->offsets[part]];
}

static void fill(const struct query_layout *layout, const struct query_reads *reads,
                 const struct query_totals *totals, struct normal *normal)
{
    double rows = sum_of(layout, totals, reads->values);
    normal->a[0][0] = rows;
    normal->b[0] = sum_of(layout, totals, reads->sums[0]);
    normal->squares = sum_of(layout, totals, reads->products[0][0]) +
                      rows * layout->parts[reads->products[0][0]].shift;
    for (size_t i = 1; i < normal->terms; i++) {
        normal->a[0][i] = normal->a[i][0] = sum_of(layout, totals, reads->sums[i]);
        normal->b[i] = sum_of(layout, totals, reads->products[0][i]);
        for (size_t j = i; j < normal->terms; j++) {
            double shift = layout->parts[reads->products[i][j]].shift;
            normal->a[i][j] = normal->a[j][i] =
                sum_of(layout, totals, reads->products[i][j]) + rows * shift;
        }
    }
}

/* Cholesky's L L' = A, then the inverse by columns. False: A is not positive. */
static bool invert(struct normal *normal)
{
    double l[TERMS][TERMS] = {{0}};
    for (size_t i = 0; i < normal->terms; i++) {
        for (size_t j = 0; j <= i; j++) {
            double left = normal->a[i][j];
            for (size_t k = 0; k < j; k++) {
                left -= l[i][k] * l[j][k];
            }
            if (i == j && !(left > 1e-12 * normal->a[i][i])) {
                return false;
            }
            l[i][j] = i == j ? sqrt(left) : left / l[j][j];
        }
    }
    for (size_t column = 0; column < normal->terms; column++) {
        double x[TERMS];
        for (size_t i = 0; i < normal->terms; i++) {
            x[i] = i == column;
            for (size_t k = 0; k < i; k++) {
                x[i] -= l[i][k] * x[k];
            }
            x[i] /= l[i][i];
        }
        for (size_t i = normal->terms; i-- > 0;) {
            for (size_t k = i + 1; k < normal->terms; k++) {
                x[i] -= l[k][i] * x[k];
            }
            x[i] /= l[i][i];
            normal->inverse[i][column] = x[i];
        }
    }
    return true;
}

/* How far the noise moves A in its own scale: the root of the expected squared Frobenius norm of A^-1/2 E A^-1/2, which
 * bounds by how much it can stretch any direction. */
static double disturbance(const struct query_layout *layout, const struct query_reads *reads,
                          const struct query_totals *totals, const struct normal *normal)
{
    double sum = 0;
    for (size_t i = 0; i < normal->terms; i++) {
        for (size_t j = i; j < normal->terms; j++) {
            const double(*inverse)[TERMS] = normal->inverse;
            double shift_i = i ? layout->parts[reads->products[i][i]].shift : 1;
            double shift_j = j ? layout->parts[reads->products[j][j]].shift : 1;
            double both = inverse[i][j] * inverse[i][j];
            double own = i == j ? both : 2 * (inverse[i][i] * inverse[j][j] + both);
            uint8_t part = j == 0 ? QUERY_NO_PART : i == 0 ? reads->sums[j] : reads->products[i][j];
            sum += part == QUERY_NO_PART ? 0 : own * totals->variances[part];
            sum += (i == j ? 1 : 2) * both * shift_i * shift_j * totals->variances[reads->values];
        }
    }
    return sqrt(sum);
}

/* Adds the part of one released number, which moves db - dA beta by BY, to the variance of every coefficient. CENTRES turn
 * the constant into that of the columns as they are. */
static void add_noise(const struct normal *normal, const double *centres, const double *by,
                      double variance, struct query_fit *fit)
{
    double moved[TERMS] = {0};
    for (size_t i = 0; i < normal->terms; i++) {
        for (size_t k = 0; k < normal->terms; k++) {
            moved[i] += normal->inverse[i][k] * by[k];
        }
    }
    for (size_t i = 1; i < normal->terms; i++) {
        moved[0] -= centres[i] * moved[i];
    }
    for (size_t i = 0; i < normal->terms; i++) {
        fit->noise[i] += moved[i] * moved[i] * variance;
    }
}

static void noise_of(const struct query_layout *layout, const struct query_reads *reads,
                     const struct query_totals *totals, const struct normal *normal,
                     const double *centres, struct query_fit *fit)
{
    const double *beta = normal->beta;
    double rows[TERMS] = {-beta[0]};
    for (size_t i = 1; i < normal->terms; i++) {
        rows[i] = -layout->parts[reads->products[i][i]].shift * beta[i];
        double sum[TERMS] = {-beta[i]};
        sum[i] = -beta[0];
        add_noise(normal, centres, sum, totals->variances[reads->sums[i]], fit);
        double with_y[TERMS] = {0};
        with_y[i] = 1;
        add_noise(normal, centres, with_y, totals->variances[reads->products[0][i]], fit);
        for (size_t j = i; j < normal->terms; j++) {
            double product[TERMS] = {0};
            product[i] = -beta[j];
            product[j] = -beta[i];
            add_noise(normal, centres, product, totals->variances[reads->products[i][j]], fit);
        }
    }
    add_noise(normal, centres, rows, totals->variances[reads->values], fit);
    const double y[TERMS] = {1};
    add_noise(normal, centres, y, totals->variances[reads->sums[0]], fit);
}

/* s^2 A^-1, and for the constant of the columns as they are s^2 v' A^-1 v with v = (1, -centres). */
static void sampling_of(const struct normal *normal, const double *centres, double square,
                        struct query_fit *fit)
{
    double constant = 0;
    for (size_t i = 0; i < normal->terms; i++) {
        fit->sampling[i] = square * normal->inverse[i][i];
        for (size_t j = 0; j < normal->terms; j++) {
            constant += (i ? -centres[i] : 1) * normal->inverse[i][j] * (j ? -centres[j] : 1);
        }
    }
    fit->sampling[0] = square * constant;
}

void query_regress(const struct proto_query_item *item, const struct query_layout *layout,
                   const struct query_reads *reads, const struct query_totals *totals,
                   struct query_fit *ret)
{
    struct normal normal = {.terms = item->argument_count};
    double centres[TERMS];
    *ret = (struct query_fit){.terms = normal.terms, .deviation = NAN};
    for (size_t i = 0; i < normal.terms; i++) {
        centres[i] = layout->parts[reads->sums[i]].centre;
    }
    fill(layout, reads, totals, &normal);
    ret->rows = normal.a[0][0];
    if (!invert(&normal) || disturbance(layout, reads, totals, &normal) > DISTURBANCE_MAX) {
        return;
    }
    double residual = normal.squares;
    for (size_t i = 0; i < normal.terms; i++) {
        for (size_t k = 0; k < normal.terms; k++) {
            normal.beta[i] += normal.inverse[i][k] * normal.b[k];
        }
        residual -= normal.beta[i] * normal.b[i];
    }
    ret->known = true;
    memcpy(ret->coefficient, normal.beta, sizeof ret->coefficient);
    ret->coefficient[0] += centres[0];
    for (size_t i = 1; i < normal.terms; i++) {
        ret->coefficient[0] -= centres[i] * normal.beta[i];
    }
    noise_of(layout, reads, totals, &normal, centres, ret);
    double freedom = ret->rows - (double)normal.terms;
    double square = freedom > 0 ? fmax(residual, 0) / freedom : NAN;
    ret->deviation = sqrt(square);
    sampling_of(&normal, centres, square, ret);
}
