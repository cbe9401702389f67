#include "config.h"
#include "node/model/team.h"

#include <pthread.h>
#include <string.h>

#include "node/model/encoder_internal.h"
#include "node/model/kernels.h"

#define GROUPS_MAX 64u /* of a clipped pass */

/* What one thread does: groups [from, to) of the batch, or sequences when nothing is clipped. */
struct part {
    const struct model_encoder *e;
    struct model_run *run;
    real *sum,
        *own; /* trained_count: its part of the result; OWN is the thread's, the first adds to the caller's */
    real *alone;     /* a group too long for one pass; made when there is one */
    uint32_t *start; /* of a pass; room for all sequences of the part */
    size_t pass_rows;
    bool recompute;
    const struct model_batch *batch;
    size_t from, to; /* sequences; whole groups */
    size_t group_from, group_to;
    double clip;
    real scale;    /* of sequences when nothing is clipped */
    double *norms; /* of all groups, or NULL */
    double loss;
    uint64_t labelled;
    enum err err;
    struct err_info info;
};

struct model_team {
    unsigned threads;
    struct part parts[MODEL_TEAM_THREADS_MAX];
};

/* Rows of a pass by what a row keeps: sixteen times H in each layer, and attention of 128 rows. */
static size_t rows_of_pass(const struct model_shape *s)
{
    size_t numbers =
        (size_t)s->layers * (8 * (size_t)s->hidden + 2 * (size_t)s->inner + 128 * (size_t)s->heads);
    size_t rows = MODEL_TEAM_PASS_BYTES / (numbers * sizeof(real));
    return rows > MODEL_TEAM_PASS_ROWS ? MODEL_TEAM_PASS_ROWS : rows ? rows : 1;
}

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
        p->own = i ? proto_alloc(encoder->trained_count, sizeof *p->own) : NULL;
        if (!p->run || (i && !p->own)) {
            model_team_free(team);
            return E_NO_MEMORY;
        }
    }
    model_team_passes(team, 0, false);
    *ret = team;
    return E_OK;
}

void model_team_free(struct model_team *team)
{
    for (unsigned i = 0; team && i < team->threads; i++) {
        model_run_free(team->parts[i].run);
        proto_free(team->parts[i].own);
        proto_free(team->parts[i].alone);
    }
    proto_free(team);
}

void model_team_passes(struct model_team *team, size_t rows, bool recompute)
{
    for (unsigned i = 0; i < team->threads; i++) {
        team->parts[i].pass_rows = rows ? rows : rows_of_pass(&team->parts[i].e->shape);
        team->parts[i].recompute = recompute;
    }
}

static uint32_t group_start(const struct model_batch *b, size_t group)
{
    return b->group_at ? b->group_at[group] : group ? (uint32_t)b->sequences : 0;
}

/* --- passes -------------------------------------------------------------------------------------------- */

/* Sequences [from, to) of the batch as a batch of their own, one group. */
static struct model_batch slice(const struct part *p, size_t from, size_t to)
{
    struct model_batch b = *p->batch;
    uint32_t row = b.start[from];
    for (size_t i = from; i <= to; i++) {
        p->start[i - from] = b.start[i] - row;
    }
    b.start = p->start;
    b.sequences = to - from;
    b.ids += row;
    b.types = b.types ? b.types + row : NULL;
    b.labels += p->e->shape.task == MODEL_TASK_SEQUENCE ? from : row;
    b.first_row += row;
    b.groups = 1;
    b.group_at = NULL;
    return b;
}

/* The end of the pass that begins with sequence FROM: as many as fit, at least one. */
static size_t pass_end(const struct part *p, size_t from, size_t end)
{
    const uint32_t *start = p->batch->start;
    size_t to = from + 1;
    while (to < end && start[to + 1] - start[from] <= p->pass_rows) {
        to++;
    }
    return to;
}

/* Forward of a pass. One sequence much longer than a pass keeps one layer's activations at a time. */
static enum err forward(struct part *p, const struct model_batch *b, bool clipped)
{
    bool recompute = p->recompute || (b->sequences == 1 && b->start[1] > 2 * p->pass_rows);
    model_run_mode(p->run, recompute, clipped);
    return model_run_forward(p->run, b, &p->info);
}

/* Sequences [from, to) in passes, added to TO with SCALE. */
static enum err whole(struct part *p, size_t from, size_t end, real scale, real *to, double *loss,
                      uint64_t *labelled)
{
    enum err err = E_OK;
    for (size_t at = from, next; !err && at < end; at = next) {
        double sum = 0;
        uint64_t count = 0;
        next = pass_end(p, at, end);
        struct model_batch b = slice(p, at, next);
        err = forward(p, &b, false);
        if (!err) {
            model_run_loss(p->run, &b, &sum, &count);
            model_run_backward(p->run, &b, &scale, to);
            *loss += sum;
            *labelled += count;
        }
    }
    return err;
}

/* Groups [group, group + groups), all in one pass. */
static enum err clipped_pass(struct part *p, size_t group, size_t groups)
{
    size_t first = group_start(p->batch, group), last = group_start(p->batch, group + groups);
    double sums[GROUPS_MAX], norms[GROUPS_MAX];
    uint64_t labelled[GROUPS_MAX];
    uint32_t group_at[GROUPS_MAX + 1];
    real scale[GROUPS_MAX];
    if (first == last) {
        return E_OK;
    }
    struct model_batch b = slice(p, first, last);
    for (size_t g = 0; g <= groups; g++) {
        group_at[g] = group_start(p->batch, group + g) - (uint32_t)first;
    }
    b.groups = groups;
    b.group_at = group_at;
    enum err err = forward(p, &b, true);
    if (err) {
        return err;
    }
    model_run_loss(p->run, &b, sums, labelled);
    for (size_t g = 0; g < groups; g++) {
        scale[g] = labelled[g] ? 1 / (real)labelled[g] : 0;
        p->loss += sums[g];
        p->labelled += labelled[g];
    }
    err = model_run_backward_clipped(p->run, &b, scale, p->clip, norms, p->sum, &p->info);
    for (size_t g = 0; !err && p->norms && g < groups; g++) {
        p->norms[group + g] = norms[g];
    }
    return err;
}

/* A group too long for one pass. */
static enum err clipped_alone(struct part *p, size_t group)
{
    size_t first = group_start(p->batch, group), last = group_start(p->batch, group + 1);
    size_t trained = p->e->trained_count;
    bool per_sequence = p->e->shape.task == MODEL_TASK_SEQUENCE;
    double loss = 0;
    uint64_t labelled = 0, seen = 0;
    p->alone = p->alone ? p->alone : proto_alloc(trained, sizeof *p->alone);
    if (!p->alone) {
        return proto_err_set(&p->info, E_NO_MEMORY, "model: no memory for a patient's gradient");
    }
    memset(p->alone, 0, trained * sizeof *p->alone);
    for (size_t i = per_sequence ? first : p->batch->start[first];
         i < (per_sequence ? last : p->batch->start[last]); i++) {
        labelled += p->batch->labels[i] >= 0;
    }
    enum err err = whole(p, first, last, labelled ? 1 / (real)labelled : 0, p->alone, &loss, &seen);
    if (!err) {
        double norm = model_clip_add(p->alone, trained, p->clip, p->sum);
        p->loss += loss;
        p->labelled += labelled;
        if (p->norms) {
            p->norms[group] = norm;
        }
    }
    return err;
}

static enum err apart(struct part *p)
{
    const struct model_batch *b = p->batch;
    enum err err = E_OK;
    for (size_t g = p->group_from; !err && g < p->group_to;) {
        uint32_t first = b->start[group_start(b, g)];
        size_t end = g;
        while (end < p->group_to && end - g < GROUPS_MAX &&
               b->start[group_start(b, end + 1)] - first <= p->pass_rows) {
            end++;
        }
        err = end > g ? clipped_pass(p, g, end - g) : clipped_alone(p, g);
        g = end > g ? end : g + 1;
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
    p->start = proto_alloc(p->to - p->from + 1, sizeof *p->start);
    if (!p->start) {
        p->err = proto_err_set(&p->info, E_NO_MEMORY, "model: no memory");
        return NULL;
    }
    p->err =
        p->clip > 0 ? apart(p) : whole(p, p->from, p->to, p->scale, p->sum, &p->loss, &p->labelled);
    proto_free(p->start);
    p->start = NULL;
    return NULL;
}

/* --- the team ------------------------------------------------------------------------------------------ */

/* Cuts the batch where the rows so far reach the part's share: between groups when they are clipped, else between sequences. */
static void cut(struct model_team *team, const struct model_batch *b, bool apart_groups)
{
    size_t units = apart_groups ? b->groups : b->sequences, unit = 0;
    uint64_t rows = b->start[b->sequences];
    for (unsigned i = 0; i < team->threads; i++) {
        struct part *p = &team->parts[i];
        p->group_from = unit;
        p->from = apart_groups ? group_start(b, unit) : unit;
        uint64_t goal = rows * (i + 1) / team->threads;
        while (unit < units && (i + 1 == team->threads ||
                                b->start[apart_groups ? group_start(b, unit) : unit] < goal)) {
            unit++;
        }
        p->group_to = unit;
        p->to = apart_groups ? group_start(b, unit) : unit;
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
static enum err run_parts(struct model_team *team, double *ret_sum, uint64_t *ret_labelled,
                          struct err_info *reterr)
{
    pthread_t threads[MODEL_TEAM_THREADS_MAX];
    bool started[MODEL_TEAM_THREADS_MAX] = {false};
    enum err err = E_OK;
    for (unsigned i = team->threads; i > 0; i--) {
        struct part *p = &team->parts[i - 1];
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
    const struct model_encoder *e = team->parts[0].e;
    enum err err = check(batch, reterr);
    if (err) {
        return err;
    }
    for (size_t g = 0; norms && g < batch->groups; g++) {
        norms[g] = 0;
    }
    uint64_t all = count_labels(batch, e->shape.task == MODEL_TASK_SEQUENCE);
    cut(team, batch, clip > 0);
    for (unsigned i = 0; i < team->threads; i++) {
        struct part *p = &team->parts[i];
        p->batch = batch;
        p->sum = i ? p->own : gradient;
        p->clip = clip;
        p->scale = all ? 1 / (real)all : 0;
        p->norms = clip > 0 ? norms : NULL;
    }
    err = run_parts(team, ret_sum, ret_labelled, reterr);
    for (unsigned i = 1; !err && i < team->threads; i++) {
        model_kernels()->add(gradient, team->parts[i].own, e->trained_count);
    }
    return err;
}
