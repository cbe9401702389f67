/* The mechanisms alone: exact sums of two neighbours, as a patient's rows can make them, through privacy_mechanism_release. */
#include "config.h"
#include "tests/audit/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/privacy/mechanism.h"
#include "node/privacy/noise.h"
#include "proto/privacy.h"

#define BATCH 2048
#define CELLS 4

/* A planned release of COUNT coordinates in CELLS cells, and the exact sums of both neighbours. */
struct release {
    struct privacy_coordinate coordinates[4];
    size_t count, cells;
    __int128 exact[2][16];
};

static void run_release(void *user, int side, double *to, size_t runs)
{
    const struct release *release = user;
    size_t width = release->count * release->cells;
    __int128 *exact = calloc(runs * width, sizeof *exact);
    int64_t *noisy = calloc(runs * width, sizeof *noisy);
    if (!exact || !noisy) {
        abort();
    }
    for (size_t i = 0; i < runs; i++) {
        memcpy(exact + i * width, release->exact[side], width * sizeof *exact);
    }
    /* Every cell has noise of its own, so cells of one call are runs of their own. */
    enum err err = privacy_mechanism_release(release->coordinates, release->count, exact,
                                             runs * release->cells, noisy, NULL);
    for (size_t i = 0; i < runs * width; i++) {
        to[i] = err ? -1e18 : (double)noisy[i];
    }
    free(exact);
    free(noisy);
}

static struct release plan(uint64_t rho_nano, struct privacy_bounds bounds,
                           const struct privacy_coordinate *coordinates, size_t count, size_t cells)
{
    struct release release = {.count = count, .cells = cells};
    memcpy(release.coordinates, coordinates, count * sizeof *coordinates);
    if (privacy_mechanism_plan_bounded(rho_nano, &bounds, release.coordinates, count, NULL)) {
        fprintf(stderr, "a case cannot be planned\n");
        abort();
    }
    return release;
}

static const struct privacy_coordinate one_count = {
    .kind = PRIVACY_ROWS, .bound = 1, .integer = true};
static const struct privacy_coordinate units = {.kind = PRIVACY_UNITS, .bound = 1, .integer = true};
static const struct privacy_coordinate creatinine = {.kind = PRIVACY_ROWS, .bound = 15};
static const struct privacy_bounds single = {1, 1, 1};
static const struct privacy_bounds four = {4, 4, 4};

struct noise {
    uint64_t t, s;
    int64_t shift;
};

static void run_laplace(void *user, int side, double *to, size_t runs)
{
    const struct noise *noise = user;
    int64_t draws[BATCH];
    if (privacy_noise_laplace(noise->t, noise->s, draws, runs)) {
        abort();
    }
    for (size_t i = 0; i < runs; i++) {
        to[i] = (double)(draws[i] + (side ? noise->shift : 0));
    }
}

static size_t judge_batch(const char *name, uint64_t rho_nano, struct release *release,
                          size_t batch, double runs)
{
    const struct audit_case audited = {
        .name = name,
        .promise = {.rho = (double)rho_nano / 1e9},
        .dims = release->count * release->cells,
        .batch = batch,
        .run = run_release,
        .user = release,
        .pilots = JUDGE_PILOT,
        .least = 40000,
        .most = runs,
    };
    return !audit_judge(&audited);
}

static size_t judge_release(const char *name, uint64_t rho_nano, struct release *release,
                            double runs)
{
    return judge_batch(name, rho_nano, release, BATCH, runs);
}

static size_t counts(double runs)
{
    uint64_t cheap = proto_privacy_rho_ceil_nano(0.5, 1e-6);
    uint64_t dear = proto_privacy_rho_ceil_nano(8, 1e-6);
    struct release release = plan(cheap, single, &one_count, 1, 1);
    release.exact[1][0] = 1;
    size_t broken = judge_release("a count, nobody or one person", cheap, &release, runs);
    release = plan(dear, single, &one_count, 1, 1);
    release.exact[0][0] = INT64_C(1) << 40;
    release.exact[1][0] = (INT64_C(1) << 40) + 1;
    return broken + judge_release("a count with little noise, of many", dear, &release, runs);
}

static size_t sums(double runs)
{
    uint64_t nano = proto_privacy_rho_ceil_nano(1, 1e-6);
    struct release release = plan(nano, single, &creatinine, 1, 1);
    release.exact[0][0] = privacy_mechanism_quantise(&release.coordinates[0], NAN);
    release.exact[1][0] = privacy_mechanism_quantise(&release.coordinates[0], INFINITY);
    size_t broken =
        judge_release("a sum, no number or one beyond all bounds", nano, &release, runs);
    release = plan(nano, single, &creatinine, 1, 1);
    release.exact[1][0] = privacy_mechanism_quantise(&release.coordinates[0], -1e300);
    broken += judge_release("a sum, nobody or the lowest number", nano, &release, runs);
    release = plan(nano, single, &creatinine, 1, 1);
    release.exact[0][0] = (__int128)INT64_MAX - 40000000;
    release.exact[1][0] =
        release.exact[0][0] + privacy_mechanism_quantise(&release.coordinates[0], 15);
    return broken + judge_batch("a sum at the edge of its width, where releases fail", nano,
                                &release, 1, runs);
}

static size_t vectors(double runs)
{
    uint64_t nano = proto_privacy_rho_ceil_nano(1, 1e-6);
    const struct privacy_coordinate mean[2] = {one_count, creatinine};
    struct release release = plan(nano, single, mean, 2, 1);
    release.exact[1][0] = 1;
    release.exact[1][1] = privacy_mechanism_quantise(&release.coordinates[1], 15);
    size_t broken =
        judge_release("a mean's count and sum, nobody or the highest number", nano, &release, runs);
    const struct privacy_coordinate all[3] = {units, one_count, creatinine};
    release = plan(nano, four, all, 3, CELLS);
    release.exact[1][0] = 1;
    release.exact[1][1] = 4;
    release.exact[1][2] = 4 * privacy_mechanism_quantise(&release.coordinates[2], 15);
    broken += judge_release("four rows of one person in one group", nano, &release, runs);
    release = plan(nano, four, all, 3, CELLS);
    for (size_t cell = 0; cell < CELLS; cell++) {
        release.exact[1][cell * 3] = 1;
        release.exact[1][cell * 3 + 1] = 1;
        release.exact[1][cell * 3 + 2] = privacy_mechanism_quantise(&release.coordinates[2], -15);
    }
    return broken + judge_release("four rows of one person in four groups", nano, &release, runs);
}

static size_t laplace(double runs)
{
    struct noise noises[] = {{2, 1, 1}, {7, 2, 3}};
    size_t broken = 0;
    for (size_t i = 0; i < 2; i++) {
        double b = (double)noises[i].t / (double)noises[i].s;
        char name[64];
        snprintf(name, sizeof name, "discrete Laplace noise of scale %g, moved by %d", b,
                 (int)noises[i].shift);
        const struct audit_case audited = {
            .name = name,
            .promise = {.pure = (double)noises[i].shift / b},
            .dims = 1,
            .batch = BATCH,
            .run = run_laplace,
            .user = &noises[i],
            .pilots = JUDGE_PILOT,
            .least = 40000,
            .most = runs,
        };
        broken += !audit_judge(&audited);
    }
    return broken;
}

size_t audit_mechanisms(double runs)
{
    return counts(runs) + sums(runs) + vectors(runs) + laplace(runs);
}
