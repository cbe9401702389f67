/* What evaluations say, from the sites' noisy sums to the rows that people see. */
#include "config.h"
#include "node/train/coordinator_internal.h"

#include "node/query/site.h"

#include <math.h>

void figures_fini(struct outcome *outcome)
{
    for (size_t i = 0; i < TRAIN_SITES_MAX; i++) {
        proto_free(outcome->heard[i].bins);
    }
    memset(outcome, 0, sizeof *outcome);
}

void figures_open(struct outcome *outcome, const struct train_job_state *state,
                  const struct train_plan *plan, uint64_t number)
{
    figures_fini(outcome);
    outcome->number = number;
    outcome->started_ms = query_now_ms();
    outcome->evaluate =
        number > plan->rounds || train_plan_evaluates(state->rounds, plan->eval_every, number - 1);
}

static enum err unpack(struct span from, size_t count, double **ret)
{
    double *doubles = proto_alloc(count, sizeof *doubles);
    enum err err = doubles ? train_unpack_doubles(from, doubles, count) : E_NO_MEMORY;
    if (err) {
        proto_free(doubles);
        return err;
    }
    proto_free(*ret);
    *ret = doubles;
    return E_OK;
}

enum err figures_hear(const struct train_job_state *state, const struct train_plan *plan,
                      const struct train_update *update, struct heard *heard)
{
    const struct train_evaluation *evaluation = &update->evaluation;
    struct train_sums sums = train_sums_of(plan, (uint32_t)state->max_rows_per_unit);
    bool last = update->round > plan->rounds;
    if (update->answer != (last ? TRAIN_EVALUATED : TRAIN_UPDATED)) {
        return E_INVALID; /* a round is trained, the last request only evaluated */
    }
    enum err err = E_OK;
    if (last && plan->bins && evaluation->histograms.len) {
        err = unpack(evaluation->histograms, 2 * plan->bins, &heard->bins);
    }
    if (!err && evaluation->present) {
        err = train_unpack_doubles(evaluation->sums, heard->sums, sums.count);
        heard->evaluated = !err;
    }
    heard->updated = !err && !last;
    if (heard->updated) {
        memcpy(heard->hash, update->update.hash.ptr, 32);
    }
    return err;
}

void figures_add(const struct train_job_state *state, const struct train_plan *plan,
                 uint64_t participants, struct outcome *outcome)
{
    for (size_t i = 0; i < state->site_count; i++) {
        const struct heard *heard = &outcome->heard[i];
        if (!(participants >> i & 1)) {
            continue;
        }
        outcome->updated |= (uint64_t)heard->updated << i;
        if (heard->evaluated) {
            outcome->evaluated |= UINT64_C(1) << i;
            outcome->counts[i] = heard->sums[TRAIN_SUM_COUNT];
            for (size_t j = 0; j < TRAIN_SUMS_MAX; j++) {
                outcome->sums[j] += heard->sums[j];
            }
        }
        for (size_t j = 0; heard->bins && j < 2 * plan->bins; j++) {
            outcome->histograms[j] += heard->bins[j];
        }
        outcome->histogram_sites += heard->bins != NULL;
    }
}

static double spent(const struct train_job_state *state, struct train_site *site)
{
    if (!state->noise) {
        return NAN;
    }
    site->epsilon = train_cost_epsilon(&site->cost, site->steps_started, site->evaluations,
                                       site->histograms > 0, state->delta);
    return site->epsilon;
}

double figures_spent(struct train_job_state *state)
{
    double most = state->noise ? 0 : NAN;
    for (size_t i = 0; i < state->site_count; i++) {
        if (state->noise && state->sites[i].admitted) {
            most = fmax(most, spent(state, &state->sites[i]));
        }
    }
    return most;
}

/* Whoever was asked for figures is counted as having spent them, whether its answer arrived or not. */
void figures_count(struct train_job_state *state, const struct outcome *outcome, bool histogram)
{
    for (size_t i = 0; i < state->site_count; i++) {
        struct train_site *site = &state->sites[i];
        if (outcome->asked >> i & 1) {
            site->evaluations += outcome->evaluate && site->evaluations < site->cost.evaluations;
            site->histograms += histogram && site->histograms == 0 && site->cost.hist_nano > 0;
        }
    }
}

/* The noise of each site's sums, by public numbers; all zero for a job without noise. */
static bool plan_noise(const struct train_job_state *state, const struct train_sums *sums,
                       double ret_sigma[TRAIN_SUMS_MAX])
{
    struct privacy_coordinate coordinates[TRAIN_SUMS_MAX];
    uint64_t nano = 0;
    memset(ret_sigma, 0, TRAIN_SUMS_MAX * sizeof *ret_sigma);
    if (!state->noise) {
        return true;
    }
    for (size_t i = 0; i < state->site_count; i++) {
        const struct train_site *site = &state->sites[i];
        nano = site->admitted ? site->cost.sums_nano : nano; /* the same at every site */
    }
    if (train_sums_plan(nano, sums, coordinates)) {
        return false;
    }
    for (size_t i = 0; i < sums->count; i++) {
        ret_sigma[i] = privacy_mechanism_sigma(&coordinates[i]);
    }
    return true;
}

static void read_types(const struct train_sums *sums, const struct outcome *outcome, double sigma,
                       size_t sites, struct train_round_row *row)
{
    row->types = sums->types;
    row->type_sigma = sigma * sqrt((double)sites);
    for (size_t i = 0; i < 3 * (size_t)sums->types; i++) {
        row->type_counts[i / 3][i % 3] = outcome->sums[sums->types_at + i];
    }
}

static void read_sums(struct train_job_state *state, const struct train_sums *sums,
                      const struct outcome *outcome, struct train_round_row *row)
{
    double sigma[TRAIN_SUMS_MAX];
    double variances[TRAIN_SUM_SQUARE + 1] = {0};
    double count = 0;
    double count_variance = 0;
    size_t sites = 0;
    if (!plan_noise(state, sums, sigma)) {
        return;
    }
    for (size_t i = 0; i < state->site_count; i++) {
        struct train_site *site = &state->sites[i];
        if (!(outcome->evaluated >> i & 1)) {
            continue;
        }
        sites++;
        site->counts++;
        site->count_sum += outcome->counts[i];
        count += site->count_sum / (double)site->counts;
        count_variance += sigma[TRAIN_SUM_COUNT] * sigma[TRAIN_SUM_COUNT] / (double)site->counts;
        for (size_t j = 0; j <= TRAIN_SUM_SQUARE; j++) {
            variances[j] += sigma[j] * sigma[j];
        }
    }
    struct train_metrics metrics =
        train_metrics_read(sums, count, count_variance, outcome->sums, variances);
    row->evaluated = true;
    row->loss = metrics.loss;
    row->loss_margin = metrics.loss_margin;
    row->accuracy = metrics.accuracy;
    row->accuracy_margin = metrics.accuracy_margin;
    if (sums->types) {
        read_types(sums, outcome, sigma[sums->types_at], sites, row);
    }
}

static void read_histograms(const struct train_job_state *state, const struct train_plan *plan,
                            const struct outcome *outcome, struct train_round_row *row)
{
    struct privacy_coordinate bin;
    uint64_t nano = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        nano = state->sites[i].admitted ? state->sites[i].cost.hist_nano : nano;
    }
    if (train_histogram_plan(nano, (uint32_t)state->max_rows_per_unit, &bin) == E_OK) {
        double sigma = privacy_mechanism_sigma(&bin);
        double variance = sigma * sigma * (double)outcome->histogram_sites;
        row->auc = plan->task == PROTO_TASK_TABULAR_SURVIVAL
                       ? train_metrics_concordance(outcome->histograms, plan->bins, variance)
                       : train_metrics_auc(outcome->histograms, plan->bins, variance);
    }
}

/* Evaluations are of the weights that were sent: the result of the round before. */
void figures_note(struct train_job_state *state, const struct train_plan *plan,
                  const struct outcome *outcome)
{
    struct train_round_row *row =
        state->history_count ? &state->history[state->history_count - 1] : NULL;
    if (!row || (!outcome->evaluated && !outcome->histogram_sites)) {
        return;
    }
    struct train_sums sums = train_sums_of(plan, (uint32_t)state->max_rows_per_unit);
    if (outcome->evaluated) {
        read_sums(state, &sums, outcome, row);
    }
    if (outcome->histogram_sites) {
        read_histograms(state, plan, outcome, row);
    }
    if (!isfinite(row->loss)) {
        return;
    }
    if (state->best_loss == 0 || row->loss < state->best_loss) {
        state->best_loss = row->loss != 0 ? row->loss : 1e-12;
        state->stale = 0;
    } else {
        state->stale++;
    }
}

size_t train_figures_name(const char *task, double scale, const struct train_round_view *round,
                          struct train_named ret[TRAIN_NAMED_MAX])
{
    if (strcmp(task, proto_task_name(PROTO_TASK_TABULAR_SURVIVAL)) == 0) {
        ret[0] = (struct train_named){"concordance", round->auc};
        return 1;
    }
    if (strcmp(task, proto_task_name(PROTO_TASK_TABULAR_REGRESSION)) == 0) {
        double root = sqrt(2 * round->eval_loss); /* of a loss of half the square */
        ret[0] = (struct train_named){"rmse", scale * root};
        ret[1] = (struct train_named){"rmse_margin95", scale * round->eval_loss_margin / root};
        ret[2] = (struct train_named){"r2", round->accuracy};
        ret[3] = (struct train_named){"r2_margin95", round->accuracy_margin};
        return 4;
    }
    ret[0] = (struct train_named){"accuracy", round->accuracy};
    ret[1] = (struct train_named){"accuracy_margin95", round->accuracy_margin};
    ret[2] = (struct train_named){"auc", round->auc};
    return 3;
}
