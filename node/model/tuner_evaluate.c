/* What a tuned model says about texts: counts for reports, tags and classes. */
#include "config.h"
#include "node/model/tuner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "node/model/tuner_internal.h"

#define PASS_ROWS 4096u

/* One walk over windows, with the logits of each pass shown to the task's part. */
struct walk {
    struct model_tuner *t;
    const struct model_corpus_view *v;
    struct model_run *run;
    struct model_packed packed;
    uint16_t *best; /* rows (tokens) or windows (sequences): the label, 0 for masked LM */
    float *classes; /* windows x labels, or NULL */
    struct model_evaluation *out;
};

static uint16_t largest(const float *row, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t j = 1; j < count; j++) {
        best = row[j] > row[best] ? j : best;
    }
    return (uint16_t)best;
}

static void softmax(const float *row, uint32_t count, float *to)
{
    float max = row[largest(row, count)], sum = 0;
    for (uint32_t j = 0; j < count; j++) {
        sum += to[j] = expf(row[j] - max);
    }
    for (uint32_t j = 0; j < count; j++) {
        to[j] /= sum;
    }
}

/* Windows [from, to) as one batch; of one unit when losses are asked for. */
static enum err forward(struct walk *w, uint32_t from, uint32_t to, uint64_t mask_seed,
                        struct err_info *reterr)
{
    enum err err =
        model_packed_reserve(&w->packed, to - from, w->v->row_at[to] - w->v->row_at[from], 1);
    if (err) {
        return proto_err_set(reterr, err, "model: no memory for a batch");
    }
    model_packed_begin(&w->packed);
    for (uint32_t i = from; i < to; i++) {
        model_packed_window(&w->packed, w->t, w->v, i, mask_seed);
    }
    model_packed_end_group(&w->packed);
    return model_run_forward(w->run, &w->packed.batch, reterr);
}

/* Predictions of the last forward into best and classes; masked LM counts its hits into RET_HITS. */
static void take(struct walk *w, uint32_t from, uint32_t to, uint64_t *ret_hits)
{
    const struct model_batch *b = &w->packed.batch;
    uint32_t labels = w->t->encoder->shape.labels;
    const float *logits = model_run_logits(w->run);
    if (w->t->tuning.task == MODEL_TASK_TOKENS) {
        for (uint32_t r = w->v->row_at[from], i = 0; r < w->v->row_at[to]; r++, i++) {
            w->best[r] = largest(logits + (size_t)i * labels, labels);
        }
    } else if (w->t->tuning.task == MODEL_TASK_SEQUENCE) {
        for (uint32_t i = from; i < to; i++) {
            const float *row = logits + (size_t)(i - from) * labels;
            w->best[i] = largest(row, labels);
            if (w->classes) {
                softmax(row, labels, w->classes + (size_t)i * labels);
            }
        }
    } else {
        *ret_hits += model_run_hits(w->run, b);
    }
}

/* Windows [from, end) in passes of about PASS_ROWS rows; adds to loss and labelled. */
static enum err walk_windows(struct walk *w, uint32_t from, uint32_t end, uint64_t mask_seed,
                             double *loss, uint64_t *labelled, uint64_t *hits,
                             struct err_info *reterr)
{
    enum err err = E_OK;
    while (!err && from < end) {
        uint32_t to = from + 1;
        while (to < end && w->v->row_at[to + 1] - w->v->row_at[from] <= PASS_ROWS) {
            to++;
        }
        err = forward(w, from, to, mask_seed, reterr);
        if (!err) {
            double sum = 0;
            uint64_t count = 0;
            take(w, from, to, hits);
            model_run_loss(w->run, &w->packed.batch, &sum, &count);
            *loss += sum;
            *labelled += count;
        }
        from = to;
    }
    return err;
}

static enum err walk_init(struct walk *w)
{
    size_t rows = w->v->windows ? w->v->row_at[w->v->windows] : 0;
    w->run = model_run_new(w->t->encoder);
    w->best = proto_alloc(rows + 1, sizeof *w->best);
    return w->run && w->best ? E_OK : E_NO_MEMORY;
}

static void walk_fini(struct walk *w)
{
    model_run_free(w->run);
    model_packed_fini(&w->packed);
    proto_free(w->best);
}

/* --- evaluation ---------------------------------------------------------------------------------------- */

static const char *predicted_tag(const struct walk *w, uint32_t word)
{
    uint32_t row = w->v->word_row[word];
    return row == MODEL_WORDS_NONE ? "O" : model_words_get(&w->t->labels, w->best[row]);
}

/* Entities of sentence S into REPORT. Words without a tag are O on both sides. */
static enum err count_sentence(const struct walk *w, uint32_t s, const char **tags, size_t cap,
                               struct model_report *report)
{
    uint32_t from = w->v->word_at[s], count = w->v->word_at[s + 1] - from;
    if (count > cap) {
        return E_LIMIT;
    }
    for (uint32_t i = 0; i < count; i++) {
        int32_t tag = w->v->word_tag[from + i];
        tags[i] = tag < 0 ? "O" : model_words_get(&w->t->labels, (uint32_t)tag);
        tags[cap + i] = tag < 0 ? "O" : predicted_tag(w, from + i);
    }
    return model_report_add(report, tags, tags + cap, count);
}

/* A report whose types stand in the order of the tuner's. */
static enum err report_types(const char *const *names, uint32_t types, struct model_report *report)
{
    enum err err = E_OK;
    for (uint32_t i = 0; !err && i < types; i++) {
        char tag[MODEL_NOTES_WORD_MAX + 8];
        const char *gold = tag, *predicted = "O";
        int n = snprintf(tag, sizeof tag, "B-%s", names[i]);
        err = n > 0 && (size_t)n < sizeof tag ? model_report_add(report, &gold, &predicted, 1)
                                              : E_LIMIT;
    }
    for (uint32_t i = 0; !err && i < types; i++) {
        report->counts[i] = (struct model_report_count){0};
    }
    return err;
}

static enum err count_entities(struct walk *w, const uint32_t *units, uint32_t count,
                               struct err_info *reterr)
{
    struct model_evaluation *e = w->out;
    struct model_report report = {0};
    size_t cap = 1;
    for (uint32_t s = 0; s < w->v->sentences; s++) {
        size_t words = w->v->word_at[s + 1] - w->v->word_at[s];
        cap = words > cap ? words : cap;
    }
    const char **tags = proto_alloc(2 * cap, sizeof *tags);
    enum err err = tags ? report_types(e->names, e->types, &report) : E_NO_MEMORY;
    for (uint32_t i = 0, s = 0; !err && i < count; i++) {
        uint32_t unit = units ? units[i] : i;
        while (s < w->v->sentences && w->v->sentence_unit[s] < unit) {
            s++;
        }
        for (; !err && s < w->v->sentences && w->v->sentence_unit[s] == unit; s++) {
            err = count_sentence(w, s, tags, cap, &report);
        }
        for (uint32_t type = 0; !err && type < e->types; type++) {
            e->counts[(size_t)i * e->types + type] = report.counts[type];
            report.counts[type] = (struct model_report_count){0};
        }
    }
    proto_free(tags);
    model_report_fini(&report);
    return err ? proto_err_set(reterr, err, "model: counting entities") : E_OK;
}

static void count_classes(const struct walk *w, uint32_t unit, uint32_t place)
{
    struct model_report_count *c = w->out->counts + (size_t)place * w->out->types;
    for (uint32_t i = w->v->window_at[unit]; i < w->v->window_at[unit + 1]; i++) {
        if (w->v->labels[i] >= 0) {
            c[w->v->labels[i]].gold++;
            c[w->best[i]].predicted++;
            c[w->best[i]].matched += w->best[i] == (uint32_t)w->v->labels[i];
        }
    }
}

static enum err evaluate_units(struct walk *w, const uint32_t *units, uint32_t count,
                               struct err_info *reterr)
{
    struct model_evaluation *e = w->out;
    enum err err = E_OK;
    for (uint32_t i = 0; !err && i < count; i++) {
        uint32_t unit = units ? units[i] : i;
        uint64_t hits = 0;
        /* The same masks at each evaluation, so that rounds can be compared. */
        err = walk_windows(w, w->v->window_at[unit], w->v->window_at[unit + 1],
                           w->t->tuning.seed + 0x6d61736b, &e->loss[i], &e->labelled[i], &hits,
                           reterr);
        if (!err && w->t->tuning.task == MODEL_TASK_SEQUENCE) {
            count_classes(w, unit, i);
        } else if (w->t->tuning.task == MODEL_TASK_MASKED) {
            e->counts[i] = (struct model_report_count){hits, e->labelled[i], e->labelled[i]};
        }
    }
    return !err && w->t->tuning.task == MODEL_TASK_TOKENS ? count_entities(w, units, count, reterr)
                                                          : err;
}

enum err model_tuner_evaluate(struct model_tuner *t, const struct model_corpus *corpus,
                              const uint32_t *units, size_t count, struct model_evaluation *ret,
                              struct err_info *reterr)
{
    struct model_evaluation e = {.types = t->types.count, .names = t->names};
    struct walk w = {.t = t, .v = model_corpus_view(corpus), .out = &e};
    for (size_t i = 0; units && i < count; i++) {
        if (units[i] >= w.v->units || (i > 0 && units[i] <= units[i - 1])) {
            return proto_err_set(reterr, E_INVALID, "model: the units are not in order");
        }
    }
    e.units = units ? (uint32_t)count : w.v->units;
    e.counts = proto_alloc((size_t)e.units * e.types + 1, sizeof *e.counts);
    e.loss = proto_alloc((size_t)e.units + 1, sizeof *e.loss);
    e.labelled = proto_alloc((size_t)e.units + 1, sizeof *e.labelled);
    enum err err = walk_init(&w);
    err = err || !e.counts || !e.loss || !e.labelled
              ? proto_err_set(reterr, E_NO_MEMORY, "model: no memory for an evaluation")
              : evaluate_units(&w, units, e.units, reterr);
    walk_fini(&w);
    if (err) {
        model_evaluation_fini(&e);
        return err;
    }
    *ret = e;
    return E_OK;
}

void model_evaluation_fini(struct model_evaluation *e)
{
    proto_free(e->counts);
    proto_free(e->loss);
    proto_free(e->labelled);
    *e = (struct model_evaluation){0};
}

static uint64_t whole(double noisy)
{
    return noisy > 0 ? (uint64_t)fmin(rint(noisy), 0x1p62) : 0;
}

enum err model_evaluation_report(const char *const *names, const double (*counts)[3],
                                 uint32_t types, struct model_report *ret)
{
    struct model_report report = {0};
    enum err err = report_types(names, types, &report);
    for (uint32_t i = 0; !err && i < types; i++) {
        report.counts[i] = (struct model_report_count){whole(counts[i][0]), whole(counts[i][1]),
                                                       whole(counts[i][2])};
    }
    if (err) {
        model_report_fini(&report);
        return err;
    }
    *ret = report;
    return E_OK;
}

/* --- prediction ---------------------------------------------------------------------------------------- */

/* All windows, in passes. */
static enum err predict(struct walk *w, struct err_info *reterr)
{
    double loss = 0;
    uint64_t labelled = 0, hits = 0;
    enum err err = walk_init(w);
    return err ? proto_err_set(reterr, err, "model: no memory for predictions")
               : walk_windows(w, 0, w->v->windows, 0, &loss, &labelled, &hits, reterr);
}

/* PLACE[n]: where the sentence that was added as the n-th stands. */
static uint32_t *places(const struct model_corpus_view *v)
{
    uint32_t *place = proto_alloc((size_t)v->sentences + 1, sizeof *place);
    for (uint32_t s = 0; place && s < v->sentences; s++) {
        place[v->order[s]] = s;
    }
    return place;
}

static enum err show_tags(const struct walk *w, const uint32_t *place, model_tuner_sentence *see,
                          void *user, struct err_info *reterr)
{
    uint32_t other = model_words_find(&w->t->labels, span_str("O"));
    uint16_t *labels = NULL;
    size_t cap = 0;
    enum err err = E_OK;
    for (uint32_t n = 0; !err && n < w->v->sentences; n++) {
        uint32_t s = place[n], from = w->v->word_at[s], count = w->v->word_at[s + 1] - from;
        if (count > cap || !labels) {
            proto_free(labels);
            cap = (size_t)count * 2 + 64;
            labels = proto_alloc(cap, sizeof *labels);
            if (!labels) {
                return proto_err_set(reterr, E_NO_MEMORY, "model: no memory for predictions");
            }
        }
        for (uint32_t i = 0; i < count; i++) {
            uint32_t row = w->v->word_row[from + i];
            labels[i] = row == MODEL_WORDS_NONE ? (uint16_t)(other == MODEL_WORDS_NONE ? 0 : other)
                                                : w->best[row];
        }
        err = see(user, n, labels, count);
    }
    proto_free(labels);
    return err;
}

enum err model_tuner_tags(struct model_tuner *t, const struct model_corpus *corpus,
                          model_tuner_sentence *see, void *user, struct err_info *reterr)
{
    struct walk w = {.t = t, .v = model_corpus_view(corpus)};
    if (t->tuning.task != MODEL_TASK_TOKENS) {
        return proto_err_set(reterr, E_USAGE, "model: it does not label words");
    }
    enum err err = predict(&w, reterr);
    uint32_t *place = err ? NULL : places(w.v);
    if (!err) {
        err = place ? show_tags(&w, place, see, user, reterr)
                    : proto_err_set(reterr, E_NO_MEMORY, "model: no memory for predictions");
    }
    proto_free(place);
    walk_fini(&w);
    return err;
}

enum err model_tuner_classes(struct model_tuner *t, const struct model_corpus *corpus, float **ret,
                             struct err_info *reterr)
{
    struct walk w = {.t = t, .v = model_corpus_view(corpus)};
    size_t labels = t->encoder->shape.labels;
    if (t->tuning.task != MODEL_TASK_SEQUENCE) {
        return proto_err_set(reterr, E_USAGE, "model: it does not classify texts");
    }
    /* Each sentence is one window. */
    w.classes = proto_alloc((size_t)w.v->windows * labels + 1, sizeof *w.classes);
    float *ordered = proto_alloc((size_t)w.v->windows * labels + 1, sizeof *ordered);
    enum err err = w.classes && ordered
                       ? predict(&w, reterr)
                       : proto_err_set(reterr, E_NO_MEMORY, "model: no memory for predictions");
    for (uint32_t s = 0; !err && s < w.v->sentences; s++) {
        memcpy(ordered + w.v->order[s] * labels, w.classes + s * labels, labels * sizeof *ordered);
    }
    proto_free(w.classes);
    walk_fini(&w);
    if (err) {
        proto_free(ordered);
        return err;
    }
    *ret = ordered;
    return E_OK;
}
