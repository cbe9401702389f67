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

struct counts {
    uint64_t rows, units; /* K and U of the proof */
};

static enum err coordinates_check(const struct privacy_coordinate *coords, size_t count,
                                  struct counts *ret, struct err_info *reterr)
{
    *ret = (struct counts){0, 0};
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
        if (coords[i].kind == PRIVACY_UNITS) {
            ret->units++;
        } else {
            ret->rows++;
        }
    }
    if (ret->units > 1) {
        return proto_err_set(reterr, E_INVALID, "patients are counted twice in one release");
    }
    return E_OK;
}

static int64_t quantise(double value, double bound, int grid_log2)
{
    if (isnan(value)) {
        return 0;
    }
    return (int64_t)rint(ldexp(fmin(fmax(value, -bound), bound), -grid_log2));
}

/* num/den >= factor * 1e9 / (2 rho_nano), as close above as the widths allow. False when it is too large. */
static bool variance_set(struct privacy_coordinate *coord, wide factor, uint64_t rho_nano)
{
    wide n;
    wide d = 2 * (wide)rho_nano;
    if (__builtin_mul_overflow(factor, (wide)PROTO_PRIVACY_NANO, &n) ||
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

static bool coordinate_plan(struct privacy_coordinate *coord, wide spread, uint32_t m,
                            uint64_t rho_nano)
{
    if (coord->kind == PRIVACY_UNITS) {
        coord->grid_log2 = 0;
        coord->sensitivity = 1;
        return variance_set(coord, spread, rho_nano);
    }
    /* The double only chooses the grid; what protects is the integer arithmetic that follows. */
    double sigma = coord->bound * sqrt((double)m * (double)spread * 1e9 / (2 * (double)rho_nano));
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
    if (__builtin_mul_overflow((wide)coord->sensitivity * coord->sensitivity, (wide)m * spread,
                               &factor)) {
        return false;
    }
    return variance_set(coord, factor, rho_nano);
}

enum err privacy_mechanism_plan(uint64_t rho_nano, uint32_t max_rows_per_unit,
                                struct privacy_coordinate *coords, size_t count,
                                struct err_info *reterr)
{
    struct counts n;
    enum err err = coordinates_check(coords, count, &n, reterr);
    if (err != E_OK) {
        return err;
    }
    if (rho_nano == 0 || rho_nano > (uint64_t)1 << 60 || max_rows_per_unit == 0 ||
        max_rows_per_unit > PRIVACY_ROWS_MAX) {
        return proto_err_set(reterr, E_LIMIT,
                             "a release needs rho within (0, 2^60] nano and 1 to %u rows a patient",
                             PRIVACY_ROWS_MAX);
    }
    uint64_t m = max_rows_per_unit;
    wide spread =
        n.rows * m + n.units > n.rows + n.units * m ? n.rows * m + n.units : n.rows + n.units * m;
    for (size_t i = 0; i < count; i++) {
        if (!coordinate_plan(&coords[i], spread, max_rows_per_unit, rho_nano)) {
            return proto_err_set(reterr, E_LIMIT,
                                 "the noise of coordinate %zu cannot be sampled at this epsilon",
                                 i);
        }
    }
    return E_OK;
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
