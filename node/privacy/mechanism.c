#include "node/privacy/mechanism.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "crypto/memory.h"
#include "proto/alloc.h"
#include "proto/privacy.h"

typedef unsigned __int128 wide;

/* The sampler takes sigma^2 up to 2^54; the aim is 2^52 at most, and a binary denominator of up to 2^40. */
#define SIGMA2_BITS      52
#define DENOMINATOR_BITS 40
#define GRID_BITS        25

/* W_r and w_u of the proof. */
struct weights {
    uint64_t rows, units;
};

static uint32_t weight_of(const struct privacy_coordinate *coord)
{
    return coord->weight ? coord->weight : 1;
}

static enum err coordinates_check(const struct privacy_coordinate *coords, size_t count,
                                  struct weights *ret, struct err_info *reterr)
{
    *ret = (struct weights){0, 0};
    if (count == 0 || count > PRIVACY_COORDINATES_MAX) {
        return proto_err_set(reterr, count == 0 ? E_INVALID : E_LIMIT,
                             "a release has 1 to %u coordinates, not %zu", PRIVACY_COORDINATES_MAX,
                             count);
    }
    for (size_t i = 0; i < count; i++) {
        /* Within these, scaling by powers of two is exact. */
        if (!(coords[i].bound >= 1e-250 && coords[i].bound <= 1e250)) {
            return proto_err_set(reterr, E_INVALID, "coordinate %zu has no usable bound (%g)", i,
                                 coords[i].bound);
        }
        if (coords[i].weight > PRIVACY_WEIGHT_MAX) {
            return proto_err_set(reterr, E_INVALID, "coordinate %zu has too large a weight", i);
        }
        if (coords[i].kind == PRIVACY_ROWS) {
            ret->rows += weight_of(&coords[i]);
        } else if (ret->units) {
            return proto_err_set(reterr, E_INVALID, "patients are counted twice in one release");
        } else {
            ret->units = weight_of(&coords[i]);
        }
    }
    return E_OK;
}

/* f(c) of the proof: rows beyond the first of each cell fill one cell after the other. */
static uint64_t squares_most(const struct privacy_bounds *bounds, uint64_t cells)
{
    uint64_t most = bounds->rows_per_cell < bounds->rows ? bounds->rows_per_cell : bounds->rows;
    if (most == 1) {
        return cells;
    }
    uint64_t spare = (cells * most < bounds->rows ? cells * most : bounds->rows) - cells;
    uint64_t full = spare / (most - 1);
    uint64_t rest = spare % (most - 1);
    return full * most * most + (full < cells ? (rest + 1) * (rest + 1) + (cells - full - 1) : 0);
}

/* What of the proof is common to all coordinates. */
struct worst {
    uint64_t rows;  /* F */
    uint64_t cells; /* G */
    wide both;      /* N */
};

static struct worst worst_of(const struct privacy_bounds *bounds, const struct weights *weights)
{
    uint64_t cells = bounds->cells < bounds->rows ? bounds->cells : bounds->rows;
    /* Without a bound per cell f is convex, and an end is the worst. */
    uint64_t step = bounds->rows_per_cell < bounds->rows || cells < 2 ? 1 : cells - 1;
    struct worst worst = {0, cells, 0};
    for (uint64_t c = 1; c <= cells; c += step) {
        uint64_t rows = squares_most(bounds, c);
        worst.rows = rows > worst.rows ? rows : worst.rows;
    }
    for (uint64_t c = 1; c <= cells; c += step) {
        wide both = (wide)weights->rows * squares_most(bounds, c) * cells +
                    (wide)weights->units * c * worst.rows;
        worst.both = both > worst.both ? both : worst.both;
    }
    return worst;
}

static int64_t quantise(double value, double bound, int grid_log2)
{
    if (isnan(value)) {
        return 0;
    }
    return (int64_t)rint(ldexp(fmin(fmax(value, -bound), bound), -grid_log2));
}

static wide divisor(wide a, wide b)
{
    while (b) {
        wide rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* num/den >= factor/over * 1e9 / (2 rho_nano), as close above as the widths allow. False when it is too large. */
static bool variance_set(struct privacy_coordinate *coord, wide factor, wide over,
                         uint64_t rho_nano)
{
    wide n;
    wide d;
    wide common = divisor(factor, over);
    if (__builtin_mul_overflow(factor / common, (wide)PROTO_PRIVACY_NANO, &n) ||
        __builtin_mul_overflow(over / common, 2 * (wide)rho_nano, &d) ||
        (n - 1) / d >= PRIVACY_NOISE_MAX) {
        return false;
    }
    unsigned shift = 0;
    while (shift < DENOMINATOR_BITS && n >> 126 == 0 && (n << 1) / d < (wide)1 << SIGMA2_BITS) {
        n <<= 1;
        shift++;
    }
    coord->sigma2_num = (uint64_t)((n - 1) / d + 1);
    coord->sigma2_den = (uint64_t)1 << shift;
    while (coord->sigma2_den > 1 && coord->sigma2_num % 2 == 0) {
        coord->sigma2_num /= 2;
        coord->sigma2_den /= 2;
    }
    return true;
}

static bool coordinate_plan(struct privacy_coordinate *coord, const struct worst *worst,
                            uint64_t rho_nano)
{
    if (coord->kind == PRIVACY_UNITS) {
        coord->grid_log2 = 0;
        coord->sensitivity = 1;
        return variance_set(coord, worst->both, (wide)worst->rows * weight_of(coord), rho_nano);
    }
    wide over = (wide)worst->cells * weight_of(coord);
    wide common = divisor(worst->both, over);
    wide spread = worst->both / common;
    over /= common;
    /* The double only chooses the grid; what protects is the integer arithmetic that follows. */
    double sigma =
        coord->bound * sqrt((double)spread / (double)over * 1e9 / (2 * (double)rho_nano));
    int grid = (int)floor(log2(sigma)) - GRID_BITS;
    int coarsest = (int)floor(log2(coord->bound));
    grid = grid < coarsest ? grid : coarsest;
    if (coord->integer && grid < 0) {
        grid = 0;
    }
    coord->grid_log2 = grid;
    int64_t sensitivity = quantise(coord->bound, coord->bound, grid);
    if (sensitivity > (int64_t)1 << 52) {
        return false; /* so much budget that the grid would be finer than a double */
    }
    coord->sensitivity = sensitivity > 0 ? (uint64_t)sensitivity : 1;
    wide factor;
    if (__builtin_mul_overflow((wide)coord->sensitivity * coord->sensitivity, spread, &factor)) {
        return false;
    }
    return variance_set(coord, factor, over, rho_nano);
}

enum err privacy_mechanism_plan_bounded(uint64_t rho_nano, const struct privacy_bounds *bounds,
                                        struct privacy_coordinate *coords, size_t count,
                                        struct err_info *reterr)
{
    struct weights weights;
    enum err err = coordinates_check(coords, count, &weights, reterr);
    if (err != E_OK) {
        return err;
    }
    if (rho_nano == 0 || rho_nano > (uint64_t)1 << 60 || bounds->rows == 0 ||
        bounds->rows_per_cell == 0 || bounds->cells == 0 || bounds->rows > PRIVACY_ROWS_MAX) {
        return proto_err_set(reterr, E_LIMIT,
                             "a release needs rho within (0, 2^60] nano and 1 to %u rows a patient",
                             PRIVACY_ROWS_MAX);
    }
    struct worst worst = worst_of(bounds, &weights);
    for (size_t i = 0; i < count; i++) {
        if (!coordinate_plan(&coords[i], &worst, rho_nano)) {
            return proto_err_set(reterr, E_LIMIT,
                                 "the noise of coordinate %zu cannot be sampled at this epsilon",
                                 i);
        }
    }
    return E_OK;
}

enum err privacy_mechanism_plan(uint64_t rho_nano, uint32_t max_rows_per_unit,
                                struct privacy_coordinate *coords, size_t count,
                                struct err_info *reterr)
{
    const struct privacy_bounds bounds = {max_rows_per_unit, max_rows_per_unit, max_rows_per_unit};
    return privacy_mechanism_plan_bounded(rho_nano, &bounds, coords, count, reterr);
}

int64_t privacy_mechanism_quantise(const struct privacy_coordinate *coord, double value)
{
    return quantise(value, coord->bound, coord->grid_log2);
}

double privacy_mechanism_sigma(const struct privacy_coordinate *coord)
{
    return ldexp(sqrt((double)coord->sigma2_num / (double)coord->sigma2_den), coord->grid_log2);
}

double privacy_mechanism_value(const struct privacy_coordinate *coord, int64_t noisy)
{
    return ldexp((double)noisy, coord->grid_log2);
}

enum err privacy_mechanism_prepare(struct privacy_pool *pool,
                                   const struct privacy_coordinate *coords, size_t count,
                                   size_t cells)
{
    for (size_t j = 0; j < count; j++) {
        /* Coordinates with equal noise share a shelf. */
        size_t equal = 0;
        for (size_t i = 0; i < count; i++) {
            equal += coords[i].sigma2_num == coords[j].sigma2_num &&
                     coords[i].sigma2_den == coords[j].sigma2_den;
        }
        enum err err =
            privacy_pool_prepare(pool, coords[j].sigma2_num, coords[j].sigma2_den, equal * cells);
        if (err != E_OK) {
            return err;
        }
    }
    return E_OK;
}

/* All noise is drawn before any sum is looked at. */
static enum err release_with(struct privacy_pool *pool, const struct privacy_coordinate *coords,
                             size_t count, const __int128 *exact, size_t cells, int64_t *noise,
                             int64_t *ret_noisy)
{
    for (size_t j = 0; j < count; j++) {
        enum err err = privacy_pool_draw(pool, coords[j].sigma2_num, coords[j].sigma2_den,
                                         noise + j * cells, cells);
        if (err != E_OK) {
            return err;
        }
    }
    enum err err = E_OK;
    for (size_t i = 0; i < cells; i++) {
        for (size_t j = 0; j < count; j++) {
            __int128 noisy;
            if (__builtin_add_overflow(exact[i * count + j], (__int128)noise[j * cells + i],
                                       &noisy) ||
                noisy > INT64_MAX || noisy < INT64_MIN) {
                err = E_LIMIT;
                noisy = 0;
            }
            ret_noisy[i * count + j] = (int64_t)noisy;
        }
    }
    return err;
}

enum err privacy_mechanism_release_pooled(struct privacy_pool *pool,
                                          const struct privacy_coordinate *coords, size_t count,
                                          const __int128 *exact, size_t cells, int64_t *ret_noisy,
                                          struct err_info *reterr)
{
    if (count == 0 || count > PRIVACY_COORDINATES_MAX || cells > PRIVACY_CELLS_MAX) {
        return proto_err_set(reterr, E_LIMIT,
                             "%zu cells of %zu values are too many for one release", cells, count);
    }
    int64_t *noise = proto_alloc(cells * count + 1, sizeof *noise);
    if (!noise) {
        memset(ret_noisy, 0, cells * count * sizeof *ret_noisy);
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for %zu noisy values", cells * count);
    }
    enum err err = release_with(pool, coords, count, exact, cells, noise, ret_noisy);
    crypto_wipe(noise, (cells * count + 1) * sizeof *noise);
    proto_free(noise);
    if (err != E_OK) {
        memset(ret_noisy, 0, cells * count * sizeof *ret_noisy);
        return proto_err_set(reterr, err,
                             err == E_LIMIT ? "a noisy sum does not fit 64 bits"
                                            : "the noise could not be drawn");
    }
    return E_OK;
}

enum err privacy_mechanism_release(const struct privacy_coordinate *coords, size_t count,
                                   const __int128 *exact, size_t cells, int64_t *ret_noisy,
                                   struct err_info *reterr)
{
    return privacy_mechanism_release_pooled(NULL, coords, count, exact, cells, ret_noisy, reterr);
}
