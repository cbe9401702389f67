/* Encoders on texts: node/model/tuner.h under the plan's terms. */
#include "config.h"
#include "node/train/learner.h"

#include "crypto/memory.h"
#include "node/model/tuner.h"
#include "node/train/rows.h"
#include "node/train/vector.h"
#include "store/blob.h"

#include <math.h>

#define OVERLAP_OF_LENGTH 4 /* windows of long texts overlap by a quarter */
#define WORDS_MAX         65535u

struct learner {
    struct train_learner base;
    struct train_learner_wish wish;
    struct model_tuner *tuner;
    struct model_corpus *corpus; /* NULL before load */
    int columns[2];              /* of the schema: tokens and tags, or text and target; */
    size_t column_count;         /* of a masked LM the first alone */
    /* Personal heads: the whole vector of the tuner, and its numbers that stay here; else NULL and 0. */
    float *all, *home;
    size_t home_count;
    uint32_t *train, *held; /* units of the corpus */
    size_t train_count, held_count;
    /* while loading */
    char *text;
    size_t text_cap;
    const char **words;
    uint16_t *tags;
    struct err_info why;
};

/* --- the model --------------------------------------------------------------------------------------------------------- */

struct packages {
    struct buf bytes, base_bytes;
    struct model_package *package, *base;
};

static void packages_fini(struct packages *packages)
{
    model_package_close(packages->package);
    model_package_close(packages->base);
    buf_fini(&packages->bytes);
    buf_fini(&packages->base_bytes);
}

static enum err open_package(struct store *store, struct span hash, struct buf *bytes,
                             struct model_package **ret, struct err_info *reterr)
{
    bytes->max = STORE_BLOB_MAX;
    enum err err = store_blob_get(store, hash.ptr, bytes, reterr);
    return err ? err : model_package_open(buf_span(bytes), ret, reterr);
}

static enum err open_packages(struct store *store, const struct train_plan *plan,
                              struct packages *ret, struct err_info *reterr)
{
    enum err err = open_package(store, plan->model, &ret->bytes, &ret->package, reterr);
    const struct model_package_info *info = err ? NULL : model_package_info(ret->package);
    if (!err && info->has_base &&
        (plan->model_base.len != 32 || memcmp(plan->model_base.ptr, info->base, 32) != 0)) {
        err = proto_err_set(reterr, E_INVALID, "the plan does not name the base of its model");
    }
    if (!err && info->has_base) {
        err = open_package(store, plan->model_base, &ret->base_bytes, &ret->base, reterr);
    }
    return err;
}

static enum err make_tuner(const struct train_plan *plan, const struct packages *packages,
                           unsigned threads, struct model_tuner **ret, struct err_info *reterr)
{
    static const enum model_task tasks[PROTO_TASK_COUNT] = {
        [PROTO_TASK_TOKEN_CLASSIFICATION] = MODEL_TASK_TOKENS,
        [PROTO_TASK_SEQUENCE_CLASSIFICATION] = MODEL_TASK_SEQUENCE,
        [PROTO_TASK_MASKED_LM] = MODEL_TASK_MASKED,
    };
    static const enum model_training trainings[] = {
        [PROTO_TUNE_FULL] = MODEL_TRAIN_FULL,
        [PROTO_TUNE_LORA] = MODEL_TRAIN_LORA,
        [PROTO_TUNE_FFA_LORA] = MODEL_TRAIN_FFA,
        [PROTO_TUNE_ALTERNATING_LORA] = MODEL_TRAIN_LORA,
    };
    const struct proto_text *texts = plan->labels.items;
    struct arena arena = {0};
    const char **labels = arena_alloc(&arena, plan->labels.count + 1, sizeof *labels);
    enum err err = labels ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < plan->labels.count; i++) {
        labels[i] = arena_strdup(&arena, texts[i].text);
        err = labels[i] ? E_OK : E_NO_MEMORY;
    }
    struct model_tuning tuning = {
        .task = tasks[plan->task],
        .training = trainings[plan->tune],
        .targets = (uint32_t)plan->targets,
        .rank = (uint32_t)plan->rank,
        .alpha = plan->alpha,
        .labels = labels,
        .label_count = (uint32_t)plan->labels.count,
        .longest = (uint32_t)plan->max_length,
        .stride = (uint32_t)plan->max_length / OVERLAP_OF_LENGTH,
        .dropout = plan->dropout,
        .seed = plan->seed,
    };
    if (!err) {
        err = model_tuner_open(packages->package, packages->base, &tuning, threads, ret, reterr);
    }
    arena_fini(&arena);
    return err;
}

/* --- numbers that leave, and a head that stays -------------------------------------------------------------------------- */

static size_t head_count(const struct model_tuner *tuner)
{
    size_t parts, count = 0;
    const struct model_part *part = model_tuner_parts(tuner, &parts);
    for (size_t i = 0; i < parts; i++) {
        count += part[i].kind == MODEL_PART_HEAD ? part[i].count : 0;
    }
    return count;
}

/* ALL of a tuner from or to its two halves, each in the order of ALL. A half that is NULL stays. */
enum direction {
    JOIN,
    SPLIT
};
static void move_numbers(const struct model_tuner *tuner, enum direction direction, float *all,
                         float *shared, float *home)
{
    size_t parts;
    const struct model_part *part = model_tuner_parts(tuner, &parts);
    for (size_t i = 0; i < parts; i++) {
        float **half = part[i].kind == MODEL_PART_HEAD ? &home : &shared;
        if (*half) {
            float *at = all + part[i].at;
            memcpy(direction == JOIN ? at : *half, direction == JOIN ? *half : at,
                   part[i].count * sizeof *at);
            *half += part[i].count;
        }
    }
}

/* Of a vector under PLAN. */
static size_t shared_count(const struct model_tuner *tuner, const struct train_plan *plan)
{
    return model_tuner_count(tuner) - (plan->personal_head ? head_count(tuner) : 0);
}

/* Sets what SHARED and HOME hold; the rest stays. */
static enum err set_halves(struct model_tuner *tuner, const float *shared, const float *home,
                           struct err_info *reterr)
{
    float *all = proto_alloc(model_tuner_count(tuner), sizeof *all);
    if (!all) {
        return E_NO_MEMORY;
    }
    model_tuner_get(tuner, all);
    move_numbers(tuner, JOIN, all, (float *)shared, (float *)home);
    enum err err = model_tuner_set(tuner, all, reterr);
    proto_free(all);
    return err;
}

enum err train_notes_document(struct store *store, const struct train_plan *plan,
                              const uint8_t weights[32], const char *name, const char *licence,
                              struct buf *ret, struct err_info *reterr)
{
    struct packages packages = {0};
    struct model_tuner *tuner = NULL;
    float *numbers = proto_alloc(plan->numbers, sizeof *numbers);
    enum err err = numbers ? open_packages(store, plan, &packages, reterr) : E_NO_MEMORY;
    if (!err) {
        err = make_tuner(plan, &packages, 1, &tuner, reterr);
    }
    if (!err && shared_count(tuner, plan) != plan->numbers) {
        err = proto_err_set(reterr, E_SCHEMA, "the weights do not fit the model");
    }
    if (!err) {
        err = train_vector_get(store, weights, numbers, plan->numbers, reterr);
    }
    if (!err) {
        err = plan->personal_head ? set_halves(tuner, numbers, NULL, reterr)
                                  : model_tuner_set(tuner, numbers, reterr);
    }
    /* Adapters belong to the base that they were trained on; those of a model that had adapters itself were merged. */
    bool adapters = plan->tune != PROTO_TUNE_FULL && !packages.base;
    if (!err) {
        err = model_package_encode(model_tuner_encoder(tuner), model_tuner_labels(tuner),
                                   packages.base ? packages.base : packages.package,
                                   adapters ? plan->model.ptr : NULL, plan->personal_head, name,
                                   licence, ret, reterr);
    }
    model_tuner_close(tuner);
    packages_fini(&packages);
    proto_free(numbers);
    return err;
}

enum err train_notes_with_head(struct store *store, const struct train_plan *plan,
                               struct span document, const uint8_t head[32], struct buf *ret,
                               struct err_info *reterr)
{
    struct packages packages = {0};
    struct model_tuner *tuner = NULL;
    struct train_plan as = *plan;
    enum err err = model_package_open(document, &packages.package, reterr);
    const struct model_package_info *info = err ? NULL : model_package_info(packages.package);
    if (!err && info->has_base) {
        err = open_package(store, span_of(info->base, 32), &packages.base_bytes, &packages.base,
                           reterr);
    } else if (!err) {
        as.tune = PROTO_TUNE_FULL; /* the adapters were merged into it, or it never had any */
    }
    err = err ? err : make_tuner(&as, &packages, 1, &tuner, reterr);
    size_t count = err ? 0 : head_count(tuner);
    float *home = proto_alloc(count + 1, sizeof *home);
    if (!err) {
        err = home ? train_vector_get(store, head, home, count, reterr) : E_NO_MEMORY;
    }
    err = err ? err : set_halves(tuner, NULL, home, reterr);
    if (!err) {
        err = model_package_encode(model_tuner_encoder(tuner), model_tuner_labels(tuner),
                                   packages.base ? packages.base : packages.package,
                                   info->has_base ? info->base : NULL, false, info->name,
                                   info->licence, ret, reterr);
    }
    if (home) {
        crypto_wipe(home, (count + 1) * sizeof *home);
    }
    proto_free(home);
    model_tuner_close(tuner);
    packages_fini(&packages);
    return err;
}

/* --- columns ----------------------------------------------------------------------------------------------------------- */

static int only_column(const struct proto_schema *schema, enum proto_column_type type)
{
    int found = -1;
    for (size_t i = 0; i < schema->count; i++) {
        if (schema->columns[i].type == type) {
            found = found < 0 ? (int)i : -2; /* two are none */
        }
    }
    return found;
}

static int named_column(const struct proto_schema *schema, struct span name,
                        enum proto_column_type type)
{
    char text[PROTO_NAME_SIZE];
    int found = span_to_cstr(name, text, sizeof text) ? proto_schema_find(schema, text) : -1;
    return found >= 0 && schema->columns[found].type == type ? found : -1;
}

/* Tags are O, B-X and I-X of the declared X; classes are the declared values. */
static bool labels_fit(const struct train_plan *plan, const struct proto_column *column)
{
    const struct proto_text *labels = plan->labels.items;
    bool tags = plan->task == PROTO_TASK_TOKEN_CLASSIFICATION;
    bool fit = plan->labels.count == (tags ? 2 * column->value_count + 1 : column->value_count);
    for (size_t i = 0; fit && i < plan->labels.count; i++) {
        struct span label = labels[i].text;
        if (!tags) {
            fit = span_is(label, column->values[i]);
        } else if (i == 0) {
            fit = span_is(label, "O");
        } else {
            fit = label.len > 2 && label.ptr[0] == (i % 2 ? 'B' : 'I') && label.ptr[1] == '-' &&
                  span_is(span_of(label.ptr + 2, label.len - 2), column->values[(i - 1) / 2]);
        }
    }
    return fit;
}

/* What a masked LM reads: the text column that is named, or the tokens. */
static enum err find_text(const struct train_plan *plan, const struct proto_schema *schema,
                          int ret[2], struct err_info *reterr)
{
    const struct proto_text *features = plan->features.items;
    ret[0] = plan->features.count ? named_column(schema, features[0].text, PROTO_COLUMN_TEXT)
                                  : only_column(schema, PROTO_COLUMN_TOKENS);
    return ret[0] >= 0 ? E_OK
                       : proto_err_set(reterr, E_UNSUPPORTED,
                                       "the dataset must have one column of tokens, or the text "
                                       "column that the job names in features");
}

static enum err find_columns(const struct train_plan *plan, const struct proto_schema *schema,
                             int ret[2], struct err_info *reterr)
{
    if (plan->task == PROTO_TASK_MASKED_LM) {
        return find_text(plan, schema, ret, reterr);
    }
    const struct proto_text *features = plan->features.items;
    bool tags = plan->task == PROTO_TASK_TOKEN_CLASSIFICATION;
    if (tags) {
        ret[0] = only_column(schema, PROTO_COLUMN_TOKENS);
        ret[1] = only_column(schema, PROTO_COLUMN_TAGS);
    } else {
        ret[0] = plan->features.count == 1
                     ? named_column(schema, features[0].text, PROTO_COLUMN_TEXT)
                     : -1;
        ret[1] = named_column(schema, plan->target, PROTO_COLUMN_CATEGORY);
    }
    if (ret[0] < 0 || ret[1] < 0) {
        return proto_err_set(reterr, E_UNSUPPORTED, "the dataset must have %s",
                             tags ? "one column of tokens and one of tags"
                                  : "the text column and the category that the job names");
    }
    const struct proto_column *column = &schema->columns[ret[1]];
    if (column->values_private || !labels_fit(plan, column)) {
        return proto_err_set(reterr, E_SCHEMA, "the labels of the job are not those of column %s",
                             column->name);
    }
    return E_OK;
}

static enum err notes_check(const struct train_plan *plan, const struct proto_schema *schema,
                            struct err_info *reterr)
{
    int columns[2];
    return find_columns(plan, schema, columns, reterr);
}

/* --- rows -------------------------------------------------------------------------------------------------------------- */

static struct span text_of(const struct store_batch_column *column, size_t row)
{
    uint32_t from = column->text_start[row];
    return span_of(column->text + from, column->text_start[row + 1] - from);
}

static enum err keep_text(struct learner *learner, struct span text)
{
    if (text.len + 1 > learner->text_cap) {
        size_t cap = 2 * (text.len + 1);
        char *fresh = proto_alloc(cap, 1);
        if (!fresh) {
            return E_NO_MEMORY;
        }
        if (learner->text) {
            crypto_wipe(learner->text, learner->text_cap);
        }
        proto_free(learner->text);
        learner->text = fresh;
        learner->text_cap = cap;
    }
    memcpy(learner->text, text.ptr, text.len);
    learner->text[text.len] = '\0';
    return E_OK;
}

/* Words of TEXT, at blanks, into learner->words. */
static size_t split_words(struct learner *learner)
{
    size_t count = 0;
    for (char *at = learner->text; *at && count < WORDS_MAX;) {
        size_t len = strcspn(at, " ");
        learner->words[count++] = at;
        at += len;
        if (*at) {
            *at++ = '\0';
        }
    }
    return count;
}

/* Tags of the row as numbers; one that the label set has not counts as O. */
static size_t split_tags(struct learner *learner, struct span tags)
{
    const struct model_words *labels = model_tuner_labels(learner->tuner);
    size_t count = 0;
    for (size_t at = 0; at < tags.len && count < WORDS_MAX;) {
        size_t end = at;
        while (end < tags.len && tags.ptr[end] != ' ') {
            end++;
        }
        uint32_t number = model_words_find(labels, span_of(tags.ptr + at, end - at));
        learner->tags[count++] = number == MODEL_WORDS_NONE ? 0 : (uint16_t)number;
        at = end + 1;
    }
    return count;
}

static enum err take_row(struct learner *learner, const struct store_batch *batch, size_t row)
{
    const struct store_batch_column *text = &batch->columns[0];
    const struct store_batch_column *label = &batch->columns[1];
    uint32_t unit = train_rows_unit(batch, row);
    if (learner->column_count == 1) {
        return store_batch_missing(batch, 0, row)
                   ? E_OK
                   : model_corpus_text(learner->corpus, unit, text_of(text, row), -1,
                                       &learner->why);
    }
    if (store_batch_missing(batch, 0, row) || store_batch_missing(batch, 1, row)) {
        return E_OK;
    }
    if (learner->wish.plan->task != PROTO_TASK_TOKEN_CLASSIFICATION) {
        return model_corpus_text(learner->corpus, unit, text_of(text, row),
                                 (int32_t)store_batch_number(batch, 1, row), &learner->why);
    }
    enum err err = keep_text(learner, text_of(text, row));
    if (err) {
        return err;
    }
    size_t words = split_words(learner);
    size_t tags = split_tags(learner, text_of(label, row));
    words = words < tags ? words : tags; /* import made them equal */
    return words ? model_corpus_words(learner->corpus, unit, learner->words, learner->tags, words,
                                      &learner->why)
                 : E_OK;
}

static enum err on_rows(void *user, const struct store_batch *batch, const uint64_t *keep)
{
    struct learner *learner = user;
    enum err err = E_OK;
    for (size_t word = 0; !err && word * 64 < batch->rows; word++) {
        for (uint64_t left = keep[word]; !err && left; left &= left - 1) {
            err = take_row(learner, batch, word * 64 + (size_t)__builtin_ctzll(left));
        }
    }
    return err;
}

static enum err split_units(struct learner *learner)
{
    const struct train_plan *plan = learner->wish.plan;
    uint64_t threshold = train_held_threshold(plan->eval_every ? plan->eval_split : 0);
    uint32_t units = model_corpus_units(learner->corpus);
    learner->train = proto_alloc(units ? units : 1, sizeof *learner->train);
    learner->held = proto_alloc(units ? units : 1, sizeof *learner->held);
    if (!learner->train || !learner->held) {
        return E_NO_MEMORY;
    }
    for (uint32_t unit = 0; unit < units; unit++) {
        uint32_t number = model_corpus_unit_number(learner->corpus, unit);
        if (train_held_out(learner->wish.key, number, threshold)) {
            learner->held[learner->held_count++] = unit;
        } else {
            learner->train[learner->train_count++] = unit;
        }
    }
    return E_OK;
}

static void forget_rows(struct learner *learner)
{
    model_corpus_free(learner->corpus);
    proto_free(learner->train);
    proto_free(learner->held);
    learner->corpus = NULL;
    learner->train = learner->held = NULL;
    learner->train_count = learner->held_count = 0;
}

static enum err notes_load(struct train_learner *base, struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    struct train_rows_wish rows = {
        .dataset = learner->wish.dataset,
        .schema = learner->wish.schema,
        .columns = learner->columns,
        .count = learner->column_count,
        .key = learner->wish.key,
        .cancelled = learner->wish.cancelled,
        .user = learner->wish.user,
    };
    forget_rows(learner);
    learner->words = proto_alloc(WORDS_MAX, sizeof *learner->words);
    learner->tags = proto_alloc(WORDS_MAX, sizeof *learner->tags);
    enum err err = learner->words && learner->tags
                       ? model_tuner_corpus(learner->tuner, &learner->corpus, reterr)
                       : E_NO_MEMORY;
    if (!err) {
        err = train_rows_each(learner->wish.store, &rows, on_rows, learner, reterr);
        if (err && learner->why.text[0]) {
            err = proto_err_set(reterr, err, "%s", learner->why.text);
        }
    }
    if (!err) {
        err = model_corpus_seal(learner->corpus, reterr);
    }
    if (!err) {
        err = split_units(learner);
    }
    proto_free(learner->words);
    proto_free(learner->tags);
    if (learner->text) {
        crypto_wipe(learner->text, learner->text_cap);
    }
    proto_free(learner->text);
    learner->words = NULL;
    learner->tags = NULL;
    learner->text = NULL;
    learner->text_cap = 0;
    return err;
}

/* --- training ---------------------------------------------------------------------------------------------------------- */

struct ticking {
    struct learner *learner;
    const struct train_local *local;
};

static bool tick(void *user, uint32_t step, uint32_t steps, double loss)
{
    struct ticking *ticking = user;
    const struct train_learner_wish *wish = &ticking->learner->wish;
    (void)loss; /* exact: nobody sees it */
    if (ticking->local->progress) {
        ticking->local->progress(ticking->local->user, step, steps);
    }
    return !(wish->cancelled && wish->cancelled(wish->user));
}

/* The schedule runs over the steps of all rounds. */
static struct model_schedule schedule_of(const struct train_plan *plan, uint64_t round,
                                         uint64_t steps)
{
    uint64_t total = steps * plan->rounds;
    return (struct model_schedule){
        .peak = plan->learning_rate,
        .first = (round - 1) * steps,
        .warm_up = (uint64_t)(plan->warmup * (double)total),
        .total = total,
    };
}

/* Of order, dropout and masks: another for each site and round; coins and noise are the system's. */
static uint64_t seed_of(const struct learner *learner, uint64_t round)
{
    uint64_t key = get_be64(learner->wish.key) ^ (round * UINT64_C(0x9e3779b97f4a7c15));
    return (key ^ key >> 29) | 1;
}

/* B in odd rounds, A in even ones, the head in all (Chen et al. 2024, RoLoRA, arXiv 2409.02346): with one factor the same at every
 * site the mean of the products is the product of the means, which it is not when both are averaged. */
static uint32_t frozen_parts(const struct train_plan *plan, uint64_t round)
{
    return plan->tune != PROTO_TUNE_ALTERNATING_LORA ? 0
           : round % 2                               ? 1u << MODEL_PART_A
                                                     : 1u << MODEL_PART_B;
}

static enum err train_plain(struct learner *learner, const struct train_local *local,
                            struct err_info *reterr)
{
    const struct train_plan *plan = learner->wish.plan;
    struct ticking ticking = {learner, local};
    struct model_trained trained;
    struct model_local how = {
        .epochs = (uint32_t)plan->epochs,
        .batch =
            plan->batch < MODEL_TUNER_BATCH_MAX ? (uint32_t)plan->batch : MODEL_TUNER_BATCH_MAX,
        .decay = plan->weight_decay,
        .clip = plan->clip,
        .proximal = plan->proximal,
        .frozen = frozen_parts(plan, local->round),
        .seed = seed_of(learner, local->round),
    };
    uint32_t steps = model_tuner_steps(learner->corpus, learner->train, learner->train_count, &how);
    how.schedule = schedule_of(plan, local->round, steps);
    return learner->train_count == 0
               ? E_OK
               : model_tuner_train(learner->tuner, learner->corpus, learner->train,
                                   learner->train_count, &how, tick, &ticking, &trained, reterr);
}

static enum err train_private(struct learner *learner, const struct train_local *local,
                              struct err_info *reterr)
{
    const struct train_plan *plan = learner->wish.plan;
    struct ticking ticking = {learner, local};
    uint32_t done;
    struct model_private how = {
        .rate = local->cost->rate,
        .clip = plan->clip,
        .sigma = local->cost->sigma,
        .expected_batch = local->cost->rate * (double)local->size,
        .steps = (uint32_t)local->steps,
        .schedule = schedule_of(plan, local->round, local->cost->steps),
        .decay = plan->weight_decay,
        .proximal = plan->proximal,
        .frozen = frozen_parts(plan, local->round),
        .seed = seed_of(learner, local->round),
    };
    return model_tuner_train_private(learner->tuner, learner->corpus, learner->train,
                                     learner->train_count, &how, tick, &ticking, &done, reterr);
}

/* Weights of the round, and the head that stays, into the tuner; and back. */
static enum err put_numbers(struct learner *learner, const float *weights, struct err_info *reterr)
{
    if (!learner->home) {
        return model_tuner_set(learner->tuner, weights, reterr);
    }
    move_numbers(learner->tuner, JOIN, learner->all, (float *)weights, learner->home);
    return model_tuner_set(learner->tuner, learner->all, reterr);
}

static void take_numbers(struct learner *learner, float *ret)
{
    if (!learner->home) {
        model_tuner_get(learner->tuner, ret);
        return;
    }
    model_tuner_get(learner->tuner, learner->all);
    move_numbers(learner->tuner, SPLIT, learner->all, ret, learner->home);
}

static enum err notes_train(struct train_learner *base, const float *weights,
                            const struct train_local *local, float *ret_change,
                            struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    size_t count = shared_count(learner->tuner, learner->wish.plan);
    enum err err = put_numbers(learner, weights, reterr);
    if (!err) {
        err = local->cost->sigma > 0 ? train_private(learner, local, reterr)
                                     : train_plain(learner, local, reterr);
    }
    if (!err) {
        take_numbers(learner, ret_change);
        for (size_t i = 0; i < count; i++) {
            ret_change[i] -= weights[i];
        }
    }
    return err;
}

/* --- evaluation -------------------------------------------------------------------------------------------------------- */

struct walk {
    const struct model_evaluation *evaluation;
    uint32_t unit;
};

static bool next_unit(void *user, struct train_unit_figures *ret)
{
    struct walk *walk = user;
    const struct model_evaluation *e = walk->evaluation;
    *ret = (struct train_unit_figures){0};
    while (walk->unit < e->units && e->labelled[walk->unit] == 0) {
        walk->unit++; /* a short text of which no piece is masked says nothing */
    }
    if (walk->unit >= e->units) {
        return false;
    }
    const struct model_report_count *counts = e->counts + (size_t)walk->unit * e->types;
    double labelled = (double)e->labelled[walk->unit];
    double matched = 0;
    for (uint32_t type = 0; type < e->types; type++) {
        matched += (double)counts[type].matched;
        if (type < TRAIN_TYPES_MAX) {
            ret->types[type][0] = (double)counts[type].matched;
            ret->types[type][1] = (double)counts[type].predicted;
            ret->types[type][2] = (double)counts[type].gold;
        }
    }
    ret->loss = labelled > 0 ? e->loss[walk->unit] / labelled : 0;
    ret->correct = labelled > 0 ? matched / labelled : 0; /* of classes */
    walk->unit++;
    return true;
}

static enum err notes_evaluate(struct train_learner *base, const float *weights,
                               const struct train_figures_wish *wish, struct train_figures *ret,
                               struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    struct model_evaluation evaluation = {0};
    enum err err = wish->sums ? put_numbers(learner, weights, reterr) : E_OK;
    if (err || !wish->sums) {
        return err;
    }
    if (learner->held_count) {
        err = model_tuner_evaluate(learner->tuner, learner->corpus, learner->held,
                                   learner->held_count, &evaluation, reterr);
    }
    struct walk walk = {.evaluation = &evaluation};
    if (!err) {
        err = train_evaluate_units(learner->wish.noise, next_unit, &walk, wish, ret, reterr);
    }
    model_evaluation_fini(&evaluation);
    return err;
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

static void notes_close(struct train_learner *base)
{
    struct learner *learner = (struct learner *)base;
    forget_rows(learner);
    if (learner->home) {
        crypto_wipe(learner->home, learner->home_count * sizeof *learner->home);
        crypto_wipe(learner->all, model_tuner_count(learner->tuner) * sizeof *learner->all);
    }
    proto_free(learner->home);
    proto_free(learner->all);
    model_tuner_close(learner->tuner);
    proto_free(learner);
}

/* The head as the base model or the public seed gives it: where every site begins. */
static enum err begin_home(struct learner *learner)
{
    learner->home_count = head_count(learner->tuner);
    learner->all = proto_alloc(model_tuner_count(learner->tuner), sizeof *learner->all);
    learner->home = learner->all ? proto_alloc(learner->home_count, sizeof *learner->home) : NULL;
    if (!learner->home) {
        return E_NO_MEMORY;
    }
    model_tuner_get(learner->tuner, learner->all);
    move_numbers(learner->tuner, SPLIT, learner->all, NULL, learner->home);
    return E_OK;
}

static enum err notes_open(const struct train_learner_wish *wish, struct train_learner **ret,
                           struct err_info *reterr)
{
    struct packages packages = {0};
    struct learner *learner = proto_alloc(1, sizeof *learner);
    if (!learner) {
        return E_NO_MEMORY;
    }
    learner->wish = *wish;
    learner->wish.threads = wish->threads ? wish->threads : 1;
    learner->column_count = wish->plan->task == PROTO_TASK_MASKED_LM ? 1 : 2;
    enum err err = find_columns(wish->plan, wish->schema, learner->columns, reterr);
    if (!err) {
        err = open_packages(wish->store, wish->plan, &packages, reterr);
    }
    if (!err) {
        err = make_tuner(wish->plan, &packages, learner->wish.threads, &learner->tuner, reterr);
    }
    packages_fini(&packages);
    if (!err && wish->plan->numbers > 1 &&
        wish->plan->numbers != shared_count(learner->tuner, wish->plan)) {
        err = proto_err_set(reterr, E_SCHEMA, "the model has %zu numbers to train, not %llu",
                            shared_count(learner->tuner, wish->plan),
                            (unsigned long long)wish->plan->numbers);
    }
    if (!err && wish->plan->personal_head) {
        err = begin_home(learner);
    }
    if (err) {
        notes_close(&learner->base);
        return err;
    }
    *ret = &learner->base;
    return E_OK;
}

static size_t notes_count(const struct train_learner *base)
{
    const struct learner *learner = (const struct learner *)base;
    return shared_count(learner->tuner, learner->wish.plan);
}

static enum err notes_start(struct train_learner *base, float *ret, struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    (void)reterr;
    if (learner->home) {
        model_tuner_get(learner->tuner, learner->all);
        move_numbers(learner->tuner, SPLIT, learner->all, ret, NULL);
    } else {
        model_tuner_get(learner->tuner, ret);
    }
    return E_OK;
}

static float *notes_home(struct train_learner *base, size_t *ret_count)
{
    struct learner *learner = (struct learner *)base;
    *ret_count = learner->home_count;
    return learner->home;
}

const struct train_learner_kind train_learner_notes = {
    .check = notes_check,
    .open = notes_open,
    .count = notes_count,
    .start = notes_start,
    .home = notes_home,
    .load = notes_load,
    .train = notes_train,
    .evaluate = notes_evaluate,
    .close = notes_close,
};
