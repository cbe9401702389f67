#include "config.h"
#include "node/model/team.h"

#include <pthread.h>
#include <string.h>

#include "node/model/encoder_internal.h"

/* What one thread does: groups [from, to) of the batch, or sequences when nothing is clipped and there are no groups. */
struct part {
    const struct model_encoder *e;
    struct model_run *run;
    real *sum;    /* trained_count: its part of the result */
    real *groups; /* gradients of the groups of one pass; grown when a clip asks for it */
    size_t groups_count;
    const struct model_batch *batch;
    size_t from, to; /* sequences; whole groups */
    size_t group_from, group_to;
    bool apart; /* groups are clipped or shown one by one */
    double clip;
    model_team_visit *visit; /* instead of clipping, or NULL */
    void *user;
    unsigned thread;
    real scale;    /* of groups together */
    double *norms; /* of all groups, or NULL */
    double loss;
    uint64_t labelled;
    uint64_t seed;
    enum err err;
    struct err_info info;
};

struct model_team {
    unsigned threads;
    struct part parts[MODEL_TEAM_THREADS_MAX];
};

enum err model_team_new(const struct model_encoder *encoder, unsigned threads,
                        struct model_team **ret)
{
    if (threads == 0 || threads > MODEL_TEAM_THREADS_MAX) {
        return E_LIMIT;
    }
    struct model_team *team = proto_alloc(1, sizeof *team);
    if (!team) {
        return E_NO_MEMORY;
    }
    team->threads = threads;
    for (unsigned i = 0; i < threads; i++) {
        struct part *p = &team->parts[i];
        p->e = encoder;
        p->run = model_run_new(encoder);
        p->sum = proto_alloc(encoder->trained_count, sizeof *p->sum);
        if (!p->run || !p->sum) {
            model_team_free(team);
            return E_NO_MEMORY;
        }
    }
    *ret = team;
    return E_OK;
}

void model_team_free(struct model_team *team)
{
    for (unsigned i = 0; team && i < team->threads; i++) {
        model_run_free(team->parts[i].run);
        proto_free(team->parts[i].sum);
        proto_free(team->parts[i].groups);
    }
    proto_free(team);
}

static uint32_t group_start(const struct model_batch *b, size_t group)
{
    return b->group_at ? b->group_at[group] : group ? (uint32_t)b->sequences : 0;
}

/* Sequences [from, to) of BATCH as a batch of their own; START has room for to - from + 1. */
static struct model_batch slice(const struct model_batch *batch, bool per_sequence, size_t from,
                                size_t to, uint32_t *start)
{
    struct model_batch b = *batch;
    uint32_t row = batch->start[from];
    for (size_t i = from; i <= to; i++) {
        start[i - from] = batch->start[i] - row;
    }
    b.start = start;
    b.sequences = to - from;
    b.ids += row;
    b.types = b.types ? b.types + row : NULL;
    b.labels += per_sequence ? from : row;
    b.groups = 1;
    b.group_at = NULL;
    return b;
}

/* Without clip: one pass over all sequences of the part. */
static enum err whole(struct part *p, uint32_t *start)
{
    struct model_batch b =
        slice(p->batch, p->e->shape.task == MODEL_TASK_SEQUENCE, p->from, p->to, start);
    b.dropout_seed = p->seed;
    enum err err = model_run_forward(p->run, &b, &p->info);
    if (!err) {
        model_run_loss(p->run, &b, &p->loss, &p->labelled);
        model_run_backward(p->run, &b, &p->scale, p->sum);
    }
    return err;
}

/* The groups of one pass: each shown, or clipped and added. */
static enum err pass(struct part *p, size_t group, size_t groups, uint32_t *start,
                     uint32_t *group_at)
{
    size_t trained = p->e->trained_count;
    size_t first = group_start(p->batch, group), last = group_start(p->batch, group + groups);
    double sums[64];
    uint64_t labelled[64];
    real scale[64];
    if (first == last) {
        return E_OK;
    }
    struct model_batch b =
        slice(p->batch, p->e->shape.task == MODEL_TASK_SEQUENCE, first, last, start);
    for (size_t g = 0; g <= groups; g++) {
        group_at[g] = group_start(p->batch, group + g) - (uint32_t)first;
    }
    b.groups = groups;
    b.group_at = group_at;
    b.dropout_seed = p->seed ? model_mix(p->seed + group) | 1 : 0;
    enum err err = model_run_forward(p->run, &b, &p->info);
    if (err) {
        return err;
    }
    model_run_loss(p->run, &b, sums, labelled);
    for (size_t g = 0; g < groups; g++) {
        scale[g] = labelled[g] ? 1 / (real)labelled[g] : 0;
        p->loss += sums[g];
        p->labelled += labelled[g];
    }
    memset(p->groups, 0, groups * trained * sizeof *p->groups);
    model_run_backward(p->run, &b, scale, p->groups);
    for (size_t g = 0; g < groups; g++) {
        if (p->visit) {
            if (group_at[g] < group_at[g + 1]) {
                p->visit(p->user, p->thread, group + g, p->groups + g * trained);
            }
            continue;
        }
        double norm = model_clip_add(p->groups + g * trained, trained, p->clip, p->sum);
        if (p->norms) {
            p->norms[group + g] = norm;
        }
    }
    return E_OK;
}

static enum err apart(struct part *p, uint32_t *start)
{
    uint32_t group_at[65];
    size_t at_once = MODEL_TEAM_NUMBERS_MAX / p->e->trained_count;
    at_once = at_once > 64 ? 64 : at_once ? at_once : 1;
    at_once = at_once > p->group_to - p->group_from ? p->group_to - p->group_from : at_once;
    if (at_once > p->groups_count) {
        proto_free(p->groups);
        p->groups = proto_alloc(at_once * p->e->trained_count, sizeof *p->groups);
        p->groups_count = p->groups ? at_once : 0;
        if (!p->groups) {
            return proto_err_set(&p->info, E_NO_MEMORY,
                                 "model: no memory for the gradients of %zu patients", at_once);
        }
    }
    enum err err = E_OK;
    for (size_t g = p->group_from; !err && g < p->group_to; g += at_once) {
        size_t n = p->group_to - g < at_once ? p->group_to - g : at_once;
        err = pass(p, g, n, start, group_at);
    }
    return err;
}

static void *work(void *user)
{
    struct part *p = user;
    p->loss = 0;
    p->labelled = 0;
    p->info = (struct err_info){0};
    memset(p->sum, 0, p->e->trained_count * sizeof *p->sum);
    p->err = E_OK;
    if (p->from == p->to) {
        return NULL;
    }
    uint32_t *start = proto_alloc(p->to - p->from + 1, sizeof *start);
    if (!start) {
        p->err = proto_err_set(&p->info, E_NO_MEMORY, "model: no memory");
        return NULL;
    }
    p->err = p->apart ? apart(p, start) : whole(p, start);
    proto_free(start);
    return NULL;
}

/* Cuts the batch where the rows so far reach the part's share: between groups when they are clipped, else between sequences. */
static void cut(struct model_team *team, const struct model_batch *b, bool apart)
{
    size_t units = apart ? b->groups : b->sequences, unit = 0;
    uint64_t rows = b->start[b->sequences];
    for (unsigned i = 0; i < team->threads; i++) {
        struct part *p = &team->parts[i];
        p->group_from = unit;
        p->from = apart ? group_start(b, unit) : unit;
        uint64_t goal = rows * (i + 1) / team->threads;
        while (unit < units &&
               (i + 1 == team->threads || b->start[apart ? group_start(b, unit) : unit] < goal)) {
            unit++;
        }
        p->group_to = unit;
        p->to = apart ? group_start(b, unit) : unit;
    }
}

/* What the parts need before they may index the batch; the rest is checked by model_run_forward. */
static enum err check(const struct model_batch *b, struct err_info *reterr)
{
    bool fits = b->labels && b->sequences > 0 && b->start[0] == 0 && b->groups > 0 &&
                (b->group_at || b->groups == 1);
    for (size_t i = 0; fits && i < b->sequences; i++) {
        fits = b->start[i] < b->start[i + 1];
    }
    for (size_t g = 0; fits && b->group_at && g < b->groups; g++) {
        fits = b->group_at[g] <= b->group_at[g + 1];
    }
    fits =
        fits && (!b->group_at || (b->group_at[0] == 0 && b->group_at[b->groups] == b->sequences));
    return fits ? E_OK
                : proto_err_set(
                      reterr, E_USAGE,
                      "model: a batch to train on needs labels, sequences and groups in order");
}

static uint64_t count_labels(const struct model_batch *b, bool per_sequence)
{
    uint64_t labelled = 0;
    for (size_t i = 0; i < (per_sequence ? b->sequences : b->start[b->sequences]); i++) {
        labelled += b->labels[i] >= 0;
    }
    return labelled;
}

/* Starts all parts of a checked batch, whose other settings the caller has set, and joins them. */
static enum err run_parts(struct model_team *team, const struct model_batch *batch, bool apart,
                          double *ret_sum, uint64_t *ret_labelled, struct err_info *reterr)
{
    uint64_t all = count_labels(batch, team->parts[0].e->shape.task == MODEL_TASK_SEQUENCE);
    pthread_t threads[MODEL_TEAM_THREADS_MAX];
    bool started[MODEL_TEAM_THREADS_MAX] = {false};
    enum err err = E_OK;
    cut(team, batch, apart);
    for (unsigned i = team->threads; i > 0; i--) {
        struct part *p = &team->parts[i - 1];
        p->batch = batch;
        p->apart = apart;
        p->thread = i - 1;
        p->scale = all ? 1 / (real)all : 0;
        p->seed = batch->dropout_seed ? model_mix(batch->dropout_seed + i) | 1 : 0;
        started[i - 1] = i > 1 && pthread_create(&threads[i - 1], NULL, work, p) == 0;
        if (!started[i - 1]) {
            /* The first part is this thread's, and so is one that found no thread: the numbers are the same. */
            work(p);
        }
    }
    *ret_sum = 0;
    *ret_labelled = 0;
    for (unsigned i = 0; i < team->threads; i++) {
        struct part *p = &team->parts[i];
        if (started[i]) {
            pthread_join(threads[i], NULL);
        }
        if (p->err && !err) {
            err = proto_err_set(reterr, p->err, "%s", p->info.text);
        }
        *ret_sum += p->loss;
        *ret_labelled += p->labelled;
    }
    return err;
}

enum err model_team_gradient(struct model_team *team, const struct model_batch *batch, double clip,
                             real *gradient, double *norms, double *ret_sum, uint64_t *ret_labelled,
                             struct err_info *reterr)
{
    size_t trained = team->parts[0].e->trained_count;
    enum err err = check(batch, reterr);
    if (err) {
        return err;
    }
    for (size_t g = 0; norms && g < batch->groups; g++) {
        norms[g] = 0;
    }
    for (unsigned i = 0; i < team->threads; i++) {
        struct part *p = &team->parts[i];
        p->clip = clip;
        p->visit = NULL;
        p->norms = clip > 0 ? norms : NULL;
    }
    err = run_parts(team, batch, clip > 0, ret_sum, ret_labelled, reterr);
    memset(gradient, 0, trained * sizeof *gradient);
    for (unsigned i = 0; i < team->threads; i++) {
        for (size_t j = 0; j < trained; j++) {
            gradient[j] += team->parts[i].sum[j];
        }
    }
    return err;
}

enum err model_team_groups(struct model_team *team, const struct model_batch *batch,
                           model_team_visit *visit, void *user, double *ret_sum,
                           uint64_t *ret_labelled, struct err_info *reterr)
{
    enum err err = check(batch, reterr);
    for (unsigned i = 0; i < team->threads; i++) {
        team->parts[i].visit = visit;
        team->parts[i].user = user;
    }
    return err ? err : run_parts(team, batch, true, ret_sum, ret_labelled, reterr);
}
