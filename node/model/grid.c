#include "config.h"
#include "node/model/grid.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "crypto/memory.h"
#include "node/privacy/noise.h"
#include "proto/privacy.h"

/* sigma D2 is about 2^22 in grid units, and a clipped vector has at least 2^10 of them. */
#define GRID_SIGMA_LOG2 22
#define GRID_CLIP_LOG2  10
#define SIGMA_MAX       65536.0
#define PIECE           4096u
#define THREADS_MAX     64u

/* ROUNDING: by how much a coordinate of the difference of two neighbours may move when it is rounded. */
static enum err plan(double clip, double sigma, size_t count, double rounding,
                     struct model_grid *ret)
{
    if (!(clip >= 1e-6 && clip <= 1e6) || count == 0 || count > PRIVACY_NOISE_COUNT_MAX) {
        return E_INVALID;
    }
    if (!(sigma >= PROTO_PRIVACY_SIGMA_MIN && sigma <= SIGMA_MAX)) {
        return E_LIMIT;
    }
    int fine = (int)floor(log2(clip)) - GRID_CLIP_LOG2;
    int grid = (int)floor(log2(clip * sigma)) - GRID_SIGMA_LOG2;
    ret->log2 = grid < fine ? grid : fine;
    ret->sensitivity = (uint64_t)ceil(ldexp(clip, -ret->log2) + sqrt((double)count) * rounding);
    /* Twice up: by an ulp for the product, and to the next integer. */
    double deviation = nextafter(sigma * (double)ret->sensitivity, INFINITY);
    ret->sigma2 = (uint64_t)ceil(nextafter(deviation * deviation, INFINITY));
    return ret->sigma2 <= PRIVACY_NOISE_MAX && deviation >= 1 << 20 ? E_OK : E_LIMIT;
}

enum err model_grid_plan(double clip, double sigma, size_t count, struct model_grid *ret)
{
    return plan(clip, sigma, count, 0.5, ret);
}

enum err model_grid_plan_sum(double clip, double sigma, size_t count, struct model_grid *ret)
{
    return plan(clip, sigma, count, 1, ret);
}

void model_grid_add(const struct model_grid *grid, const double *v, size_t count, int64_t *sum)
{
    unsigned __int128 square = 0;
    for (size_t j = 0; j < count; j++) {
        double q = rint(ldexp(v[j], -grid->log2));
        if (!(fabs(q) <= (double)grid->sensitivity)) {
            return;
        }
        square += (unsigned __int128)(q * q);
    }
    if (square > (unsigned __int128)grid->sensitivity * grid->sensitivity) {
        return;
    }
    for (size_t j = 0; j < count; j++) {
        sum[j] += (int64_t)rint(ldexp(v[j], -grid->log2));
    }
}

struct share {
    const struct model_grid *grid;
    const float *sum;
    float *noisy;
    size_t from, to;
    enum err err;
};

static void *release_share(void *user)
{
    struct share *s = user;
    int64_t noise[PIECE];
    for (size_t at = s->from; !s->err && at < s->to; at += PIECE) {
        size_t n = s->to - at < PIECE ? s->to - at : PIECE;
        s->err = privacy_noise_gaussian(s->grid->sigma2, 1, noise, n);
        for (size_t j = 0; !s->err && j < n; j++) {
            double v = isfinite(s->sum[at + j]) ? (double)s->sum[at + j] : 0;
            /* |sum| <= 2^10 units of 2^26 steps and |noise| < 2^43, so the double is exact. */
            s->noisy[at + j] =
                (float)ldexp(rint(ldexp(v, -s->grid->log2)) + (double)noise[j], s->grid->log2);
        }
    }
    crypto_wipe(noise, sizeof noise);
    return NULL;
}

enum err model_grid_release(const struct model_grid *grid, const float *sum, size_t count,
                            unsigned threads, float *noisy, struct err_info *reterr)
{
    struct share shares[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    bool started[THREADS_MAX] = {false};
    enum err err = count > PRIVACY_NOISE_COUNT_MAX
                       ? proto_err_set(reterr, E_LIMIT, "model: too many numbers for noise")
                       : E_OK;
    threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    for (unsigned i = threads; !err && i > 0; i--) {
        struct share *s = &shares[i - 1];
        *s = (struct share){.grid = grid, .sum = sum, .noisy = noisy};
        s->from = count * (i - 1) / threads;
        s->to = count * i / threads;
        started[i - 1] = i > 1 && pthread_create(&ids[i - 1], NULL, release_share, s) == 0;
        if (!started[i - 1]) {
            release_share(s);
        }
    }
    bool begun = !err;
    for (unsigned i = 0; begun && i < threads; i++) {
        if (started[i]) {
            pthread_join(ids[i], NULL);
        }
        if (shares[i].err && !err) {
            err = proto_err_set(reterr, shares[i].err, "model: no noise from the random source");
        }
    }
    if (err) {
        memset(noisy, 0, count * sizeof *noisy);
    }
    return err;
}
