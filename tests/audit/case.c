/* Runs one case and judges it. */
#include "config.h"
#include "tests/audit/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/privacy.h"

static size_t count;
static double end;
static size_t cases_left;

size_t audit_next(void)
{
    return ++count;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void audit_time(double seconds, size_t cases)
{
    end = now() + seconds;
    cases_left = cases;
}

static double promised(const struct audit_promise *promise, double delta)
{
    if (promise->pure > 0) {
        return promise->pure;
    }
    if (promise->steps) {
        return delta > 0 ? proto_privacy_sgd_epsilon(promise->rate, promise->sigma, promise->steps,
                                                     0, delta)
                         : INFINITY;
    }
    return delta > promise->delta0 ? proto_privacy_epsilon(promise->rho, delta - promise->delta0)
                                   : INFINITY;
}

static void collect(const struct audit_case *audited, struct judge *judge, double until)
{
    double *outputs = calloc(audited->batch * audited->dims, sizeof *outputs);
    if (!outputs) {
        abort();
    }
    while (judge->pilots[1] < audited->pilots) {
        for (int side = 0; side < 2; side++) {
            audited->run(audited->user, side, outputs, audited->batch);
            for (size_t i = 0; i < audited->batch; i++) {
                judge_pilot(judge, side, outputs + i * audited->dims);
            }
        }
    }
    judge_ready(judge);
    while ((double)judge->runs[1] < audited->least ||
           ((double)judge->runs[1] < audited->most && now() < until)) {
        for (int side = 0; side < 2; side++) {
            audited->run(audited->user, side, outputs, audited->batch);
            for (size_t i = 0; i < audited->batch; i++) {
                judge_add(judge, side, outputs + i * audited->dims);
            }
        }
    }
    free(outputs);
}

bool audit_judge(const struct audit_case *audited)
{
    static const double deltas[] = {0, 1e-5, 1e-4, 1e-3, 1e-2};
    struct judge judge;
    double worst = -INFINITY;
    char text[160] = "";
    judge_init(&judge, audited->dims);
    double left = end - now();
    collect(audited, &judge, now() + (cases_left ? left / (double)cases_left : 0));
    cases_left -= cases_left > 0;
    for (size_t i = 0; i < sizeof deltas / sizeof *deltas; i++) {
        double most = promised(&audited->promise, deltas[i]);
        if (!isfinite(most) || (audited->promise.pure > 0 && i > 0)) {
            continue;
        }
        double least = judge_bound(&judge, deltas[i], AUDIT_ERROR);
        if (least - most > worst) {
            worst = least - most;
            snprintf(text, sizeof text, "epsilon at least %.4f, promised %.4f at delta %g", least,
                     most, deltas[i]);
        }
    }
    bool kept = worst <= 0;
    /* What a planted bug breaks is as it should be. */
    printf("%s %zu - %s: %s (%llu runs a side)%s\n", kept || audit_planted ? "ok" : "not ok",
           audit_next(), audited->name, text, (unsigned long long)judge.runs[1],
           kept ? "" : " BROKEN");
    fflush(stdout);
    judge_fini(&judge);
    return kept;
}
