#include "config.h"
#include "node/model/tuner.h"

#include <math.h>
#include <string.h>

#include "node/model/encoder_internal.h"
#include "node/model/grid.h"
#include "node/model/team.h"
#include "node/model/tuner_internal.h"
#include "node/privacy/noise.h"

/* --- opening ------------------------------------------------------------------------------------------- */

static enum err take_labels(struct model_tuner *t, const struct model_tuning *tuning,
                            struct err_info *reterr)
{
    t->labels.max = MODEL_LABELS_MAX;
    for (uint32_t i = 0; i < tuning->label_count; i++) {
        uint32_t id = 0;
        struct span label = span_str(tuning->labels[i]);
        enum err err = model_words_add(&t->labels, label, &id);
        if (err || id != i || label.len == 0) {
            return proto_err_set(reterr, err ? err : E_USAGE,
                                 "model: label %u is empty or stands twice", i);
        }
        if (tuning->task == MODEL_TASK_TOKENS && !tuning->any_labels && !model_tag_valid(label)) {
            return proto_err_set(reterr, E_USAGE, "model: label %u is no tag: O, B-TYPE or I-TYPE",
                                 i);
        }
    }
    if (tuning->task != MODEL_TASK_MASKED && tuning->label_count < 2) {
        return proto_err_set(reterr, E_USAGE, "model: a classifier needs at least two labels");
    }
    return E_OK;
}

/* The types of an evaluation, in the order of the label set. */
static enum err take_types(struct model_tuner *t)
{
    enum err err = E_OK;
    uint32_t id = 0;
    t->types.max = MODEL_LABELS_MAX;
    for (uint32_t i = 0; !err && i < t->labels.count; i++) {
        const char *label = model_words_get(&t->labels, i);
        bool tokens = t->tuning.task == MODEL_TASK_TOKENS;
        bool tag = model_tag_valid(span_str(label));
        if (!tokens || !tag || label[0] != 'O') {
            err = model_words_add(&t->types, span_str(tokens && tag ? label + 2 : label), &id);
        }
    }
    if (!err && t->tuning.task == MODEL_TASK_MASKED) {
        err = model_words_add(&t->types, span_str("token"), &id);
    }
    t->names = proto_alloc(t->types.count + 1, sizeof *t->names);
    for (uint32_t i = 0; t->names && i < t->types.count; i++) {
        t->names[i] = model_words_get(&t->types, i);
    }
    return err ? err : t->names ? E_OK : E_NO_MEMORY;
}

static enum err take_parts(struct model_tuner *t)
{
    const struct model_encoder *e = t->encoder;
    t->parts = proto_alloc(e->tensor_count, sizeof *t->parts);
    for (size_t i = 0; t->parts && i < e->tensor_count; i++) {
        const struct model_tensor *tensor = &e->tensors[i];
        bool a = i >= e->adapters && strstr(tensor->name, ".lora_A.");
        if (tensor->trained_at != MODEL_FROZEN) {
            t->parts[t->part_count++] =
                (struct model_part){.name = tensor->name,
                                    .at = tensor->trained_at,
                                    .count = tensor->rows * tensor->cols,
                                    .kind = i < e->head       ? MODEL_PART_BASE
                                            : i < e->adapters ? MODEL_PART_HEAD
                                            : a               ? MODEL_PART_A
                                                              : MODEL_PART_B};
        }
    }
    return t->parts ? E_OK : E_NO_MEMORY;
}

const struct model_part *model_tuner_parts(const struct model_tuner *t, size_t *ret_count)
{
    *ret_count = t->part_count;
    return t->parts;
}

static struct model_shape tuned_shape(const struct model_package_info *info,
                                      const struct model_tuning *tuning)
{
    struct model_shape shape = info->shape;
    shape.task = tuning->task;
    shape.labels = tuning->task == MODEL_TASK_MASKED ? shape.vocabulary : tuning->label_count;
    shape.training = tuning->training;
    shape.targets = tuning->targets;
    shape.rank = tuning->rank;
    shape.alpha = tuning->alpha;
    if (tuning->dropout >= 0) {
        shape.dropout = shape.attention_dropout = tuning->dropout;
    }
    return shape;
}

enum err model_tuner_open(const struct model_package *package, const struct model_package *base,
                          const struct model_tuning *tuning, unsigned threads,
                          struct model_tuner **ret, struct err_info *reterr)
{
    struct model_tuner *t = proto_alloc(1, sizeof *t);
    if (!t) {
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    t->tuning = *tuning;
    t->threads = threads;
    const struct model_package *whole = base ? base : package;
    struct model_shape shape = tuned_shape(model_package_info(package), tuning);
    enum err err = take_labels(t, tuning, reterr);
    err = err ? err : take_types(t);
    err = err ? err
              : model_package_encoder(package, base, &shape, &t->labels, tuning->seed, &t->encoder,
                                      reterr);
    err = err ? err : model_package_tokenizer(whole, &t->tokenizer, reterr);
    err = err ? err : take_parts(t);
    err = err ? err : model_team_new(t->encoder, threads, &t->team);
    if (!err && tuning->longest > shape.positions) {
        err = proto_err_set(reterr, E_LIMIT, "model: it takes at most %u pieces", shape.positions);
    }
    if (err) {
        model_tuner_close(t);
        return err;
    }
    t->tuning.labels = NULL; /* borrowed for the call alone */
    *ret = t;
    return E_OK;
}

void model_tuner_close(struct model_tuner *t)
{
    if (t) {
        model_team_free(t->team);
        model_encoder_close(t->encoder);
        model_tokenizer_close(t->tokenizer);
        model_words_fini(&t->labels);
        model_words_fini(&t->types);
        proto_free(t->names);
        proto_free(t->parts);
        proto_free(t);
    }
}

size_t model_tuner_count(const struct model_tuner *t)
{
    return t->encoder->trained_count;
}

void model_tuner_get(const struct model_tuner *t, float *ret)
{
    model_encoder_get(t->encoder, ret);
}

enum err model_tuner_set(struct model_tuner *t, const float *numbers, struct err_info *reterr)
{
    for (size_t i = 0; i < t->encoder->trained_count; i++) {
        if (!isfinite(numbers[i])) {
            return proto_err_set(reterr, E_INVALID, "model: weight %zu is not finite", i);
        }
    }
    model_encoder_set(t->encoder, numbers);
    return E_OK;
}

const struct model_encoder *model_tuner_encoder(const struct model_tuner *t)
{
    return t->encoder;
}

const struct model_words *model_tuner_labels(const struct model_tuner *t)
{
    return &t->labels;
}

enum err model_tuner_corpus(const struct model_tuner *t, struct model_corpus **ret,
                            struct err_info *reterr)
{
    enum err err =
        model_corpus_new(t->tokenizer, t->tuning.task, t->tuning.longest, t->tuning.stride, ret);
    return err ? proto_err_set(reterr, err,
                               "model: inputs need 8 pieces or more, and overlap by less than half")
               : E_OK;
}

/* --- batches ------------------------------------------------------------------------------------------- */

void model_packed_fini(struct model_packed *p)
{
    proto_free(p->start);
    proto_free(p->ids);
    proto_free(p->labels);
    proto_free(p->group_at);
    *p = (struct model_packed){0};
}

enum err model_packed_reserve(struct model_packed *p, size_t windows, size_t rows, size_t groups)
{
    if (windows <= p->windows_cap && rows <= p->rows_cap && groups <= p->groups_cap) {
        return E_OK;
    }
    struct model_packed grown = {.windows_cap = windows + p->windows_cap,
                                 .rows_cap = rows + p->rows_cap,
                                 .groups_cap = groups + p->groups_cap};
    grown.start = proto_alloc(grown.windows_cap + 1, sizeof *grown.start);
    grown.ids = proto_alloc(grown.rows_cap + 1, sizeof *grown.ids);
    /* One a row, or one a window. */
    grown.labels = proto_alloc(grown.rows_cap + 1, sizeof *grown.labels);
    grown.group_at = proto_alloc(grown.groups_cap + 1, sizeof *grown.group_at);
    if (!grown.start || !grown.ids || !grown.labels || !grown.group_at) {
        model_packed_fini(&grown);
        return E_NO_MEMORY;
    }
    model_packed_fini(p);
    *p = grown;
    return E_OK;
}

static uint64_t mask_bits(uint64_t seed, uint32_t window, uint32_t row)
{
    return model_mix(seed + model_mix(((uint64_t)window << 32 | row) + 1));
}

/* Devlin et al. 2018: of 15 % of the pieces, 80 % become [MASK], 10 % any piece, 10 % stay; each is to be found again. */
static void mask_row(const struct model_tuner *t, uint64_t bits, uint32_t *id, int32_t *label)
{
    struct model_tokenizer_special special = model_tokenizer_special(t->tokenizer);
    uint32_t vocabulary = t->encoder->shape.vocabulary;
    *label = MODEL_LABEL_NONE;
    if (*id == special.cls || *id == special.sep || (bits & 0xffff) >= 9830) {
        return;
    }
    *label = (int32_t)*id;
    uint64_t die = (bits >> 16 & 0xffff) * 10 >> 16;
    if (die < 8 && special.mask != MODEL_WORDS_NONE) {
        *id = special.mask;
    } else if (die == 8) {
        *id = (uint32_t)((bits >> 32) * vocabulary >> 32);
    }
}

void model_packed_window(struct model_packed *p, const struct model_tuner *t,
                         const struct model_corpus_view *v, uint32_t window, uint64_t mask_seed)
{
    uint32_t from = v->row_at[window], count = v->row_at[window + 1] - from;
    uint32_t at = p->start[p->batch.sequences];
    memcpy(p->ids + at, v->ids + from, count * sizeof *p->ids);
    if (t->tuning.task == MODEL_TASK_TOKENS) {
        memcpy(p->labels + at, v->labels + from, count * sizeof *p->labels);
    } else if (t->tuning.task == MODEL_TASK_SEQUENCE) {
        p->labels[p->batch.sequences] = v->labels[window];
    }
    for (uint32_t r = 0; t->tuning.task == MODEL_TASK_MASKED && r < count; r++) {
        mask_row(t, mask_bits(mask_seed, window, r), &p->ids[at + r], &p->labels[at + r]);
    }
    p->batch.sequences++;
    p->start[p->batch.sequences] = at + count;
}

void model_packed_begin(struct model_packed *p)
{
    p->batch = (struct model_batch){
        .start = p->start, .ids = p->ids, .labels = p->labels, .group_at = p->group_at};
    p->start[0] = 0;
    p->group_at[0] = 0;
}

void model_packed_end_group(struct model_packed *p)
{
    p->batch.groups++;
    p->group_at[p->batch.groups] = (uint32_t)p->batch.sequences;
}

uint64_t model_packed_labelled(const struct model_tuner *t, const struct model_batch *b)
{
    size_t count = t->tuning.task == MODEL_TASK_SEQUENCE ? b->sequences : b->start[b->sequences];
    uint64_t labelled = 0;
    for (size_t i = 0; i < count; i++) {
        labelled += b->labels[i] >= 0;
    }
    return labelled;
}

/* --- steps --------------------------------------------------------------------------------------------- */

double model_schedule_at(const struct model_schedule *s, uint64_t step)
{
    return s->total ? model_rate_at(s->peak, s->first + step, s->warm_up, s->total) : s->peak;
}

enum err model_descent_init(struct model_descent *d, struct model_tuner *t)
{
    size_t count = t->encoder->trained_count;
    d->before = proto_alloc(count + 1, sizeof *d->before);
    d->gradient = proto_alloc(count + 1, sizeof *d->gradient);
    enum err err = d->before && d->gradient ? E_OK : E_NO_MEMORY;
    if (!err && d->plain) {
        d->velocity = proto_alloc(count + 1, sizeof *d->velocity);
        err = d->velocity ? E_OK : E_NO_MEMORY;
    } else if (!err) {
        d->adamw = MODEL_ADAMW_DEFAULT;
        d->adamw.decay = d->decay;
        d->adamw.clip = d->clip;
        err = model_adamw_init(&d->adamw, t->encoder);
    }
    if (!err) {
        model_encoder_get(t->encoder, d->before);
    }
    return err;
}

void model_descent_fini(struct model_descent *d)
{
    proto_free(d->before);
    proto_free(d->gradient);
    proto_free(d->velocity);
    model_adamw_fini(&d->adamw);
}

/* gradient += mu (w - w0) + correction. */
static void pull(struct model_descent *d, const struct model_encoder *e)
{
    for (size_t i = 0; d->correction && i < e->trained_count; i++) {
        d->gradient[i] += d->correction[i];
    }
    for (size_t i = 0; d->proximal > 0 && i < e->tensor_count; i++) {
        const struct model_tensor *tensor = &e->tensors[i];
        if (tensor->trained_at == MODEL_FROZEN) {
            continue;
        }
        const float *w = e->weights + tensor->at, *w0 = d->before + tensor->trained_at;
        for (size_t j = 0; j < tensor->rows * tensor->cols; j++) {
            d->gradient[tensor->trained_at + j] += (float)d->proximal * (w[j] - w0[j]);
        }
    }
}

static double plain_step(struct model_descent *d, struct model_encoder *e, double rate)
{
    double norm = model_norm(d->gradient, e->trained_count);
    if (!isfinite(norm)) {
        return norm;
    }
    float scale = d->clip > 0 && norm > d->clip ? (float)(d->clip / norm) : 1;
    for (size_t i = 0; i < e->tensor_count; i++) {
        const struct model_tensor *tensor = &e->tensors[i];
        if (tensor->trained_at == MODEL_FROZEN) {
            continue;
        }
        float *w = e->weights + tensor->at, *v = d->velocity + tensor->trained_at;
        const float *g = d->gradient + tensor->trained_at;
        for (size_t j = 0; j < tensor->rows * tensor->cols; j++) {
            v[j] = (float)d->momentum * v[j] + scale * g[j];
            w[j] -= (float)rate * v[j];
        }
    }
    return norm;
}

/* Frozen parts as they were: neither momentum nor decay moves them. */
static void thaw(struct model_descent *d, struct model_tuner *t)
{
    struct model_encoder *e = t->encoder;
    for (size_t i = 0, part = 0; d->frozen && i < e->tensor_count; i++) {
        const struct model_tensor *tensor = &e->tensors[i];
        if (tensor->trained_at == MODEL_FROZEN) {
            continue;
        }
        if (d->frozen >> t->parts[part].kind & 1) {
            memcpy(e->weights + tensor->at, d->before + tensor->trained_at,
                   t->parts[part].count * sizeof *d->before);
        }
        part++;
    }
}

enum err model_descent_step(struct model_descent *d, struct model_tuner *t, double rate,
                            struct err_info *reterr)
{
    pull(d, t->encoder);
    for (size_t i = 0; i < t->part_count; i++) {
        if (d->frozen >> t->parts[i].kind & 1) {
            memset(d->gradient + t->parts[i].at, 0, t->parts[i].count * sizeof *d->gradient);
        }
    }
    double norm = d->plain ? plain_step(d, t->encoder, rate)
                           : model_adamw_step(&d->adamw, t->encoder, d->gradient, rate);
    thaw(d, t);
    return isfinite(norm) ? E_OK
                          : proto_err_set(reterr, E_INVALID,
                                          "model: a gradient is not finite; a lower learning rate "
                                          "may help");
}

enum err model_descent_end(struct model_descent *d, struct model_tuner *t, enum err err,
                           struct err_info *reterr)
{
    if (!err) {
        model_encoder_get(t->encoder, d->gradient);
        if (!isfinite(model_norm(d->gradient, t->encoder->trained_count))) {
            err = proto_err_set(reterr, E_INVALID,
                                "model: weights became not finite; a lower learning rate may help");
        }
    }
    if (err && d->before) {
        model_encoder_set(t->encoder, d->before);
    }
    model_descent_fini(d);
    return err;
}
