/* Regression, a small network or Cox on a table: node/model/tabular.h under the plan's terms. */
#include "config.h"
#include "node/train/learner.h"

#include "node/train/table.h"

struct learner {
    struct train_learner base;
    struct train_learner_wish wish;
    struct train_encoding encoding;
    struct model_tabular shape;
    struct train_tables tables;
};

static enum err name_columns(const struct train_plan *plan, struct arena *arena,
                             struct train_columns *ret)
{
    const struct proto_text *texts = plan->features.items;
    const char **features = arena_alloc(arena, plan->features.count, sizeof *features);
    *ret = (struct train_columns){
        .outcome = plan->task == PROTO_TASK_TABULAR_REGRESSION ? TRAIN_OUTCOME_NUMBER
                   : plan->task == PROTO_TASK_TABULAR_SURVIVAL ? TRAIN_OUTCOME_EVENT
                                                               : TRAIN_OUTCOME_CLASS,
        .features = features,
        .feature_count = plan->features.count,
        .target = arena_strdup(arena, plan->target),
        .time = arena_strdup(arena, plan->event_time),
        .horizon = plan->horizon,
    };
    for (size_t i = 0; features && i < plan->features.count; i++) {
        features[i] = arena_strdup(arena, texts[i].text);
        if (!features[i]) {
            return E_NO_MEMORY;
        }
    }
    return features && ret->target && ret->time ? E_OK : E_NO_MEMORY;
}

enum err train_table_encode(const struct train_plan *plan, const struct proto_schema *schema,
                            struct train_encoding *ret, struct err_info *reterr)
{
    struct arena arena = {0};
    struct train_columns columns;
    enum err err = name_columns(plan, &arena, &columns);
    if (!err) {
        err = train_encoding_plan(schema, &columns, ret, reterr);
    }
    arena_fini(&arena);
    return err;
}

static enum err table_check(const struct train_plan *plan, const struct proto_schema *schema,
                            struct err_info *reterr)
{
    struct train_encoding *encoding = proto_alloc(1, sizeof *encoding);
    enum err err = encoding ? train_table_encode(plan, schema, encoding, reterr) : E_NO_MEMORY;
    proto_free(encoding);
    return err;
}

static enum err table_open(const struct train_learner_wish *wish, struct train_learner **ret,
                           struct err_info *reterr)
{
    struct learner *learner = proto_alloc(1, sizeof *learner);
    enum err err = learner
                       ? train_table_encode(wish->plan, wish->schema, &learner->encoding, reterr)
                       : E_NO_MEMORY;
    if (err) {
        proto_free(learner);
        return err;
    }
    learner->wish = *wish;
    learner->shape = train_plan_tabular(wish->plan, learner->encoding.width);
    *ret = &learner->base;
    return E_OK;
}

static size_t table_count(const struct train_learner *base)
{
    return model_tabular_count(&((const struct learner *)base)->shape);
}

static enum err table_start(struct train_learner *base, float *ret, struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    size_t count = table_count(base);
    double *start = proto_alloc(count, sizeof *start);
    if (!start) {
        return proto_err_set(reterr, E_NO_MEMORY, "no memory for %zu weights", count);
    }
    model_tabular_start(&learner->shape, learner->wish.plan->seed, start);
    for (size_t i = 0; i < count; i++) {
        ret[i] = (float)start[i];
    }
    proto_free(start);
    return E_OK;
}

static enum err table_load(struct train_learner *base, struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    const struct train_plan *plan = learner->wish.plan;
    struct train_table_wish wish = {
        .dataset = learner->wish.dataset,
        .schema = learner->wish.schema,
        .encoding = &learner->encoding,
        .midpoint = plan->midpoint,
        .eval_split = plan->eval_every ? plan->eval_split : 0,
        .key = learner->wish.key,
        .cancelled = learner->wish.cancelled,
        .user = learner->wish.user,
    };
    train_tables_fini(&learner->tables);
    return train_tables_load(learner->wish.store, &wish, &learner->tables, reterr);
}

/* The caller frees. */
static double *widen(const float *from, size_t count)
{
    double *to = proto_alloc(count, sizeof *to);
    for (size_t i = 0; to && i < count; i++) {
        to[i] = (double)from[i];
    }
    return to;
}

static enum err table_train(struct train_learner *base, const float *weights,
                            const struct train_local *local, float *ret_change,
                            struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    const struct train_plan *plan = learner->wish.plan;
    size_t count = table_count(base);
    double *trained = widen(weights, count);
    double *correction = local->correction ? widen(local->correction, count) : NULL;
    struct model_sgd sgd = {
        .rate = local->cost->rate,
        .clip = plan->clip,
        .sigma = local->cost->sigma,
        .learning_rate = plan->learning_rate,
        .momentum = plan->momentum,
        .expected_batch = local->cost->rate * (double)local->size,
        .steps = (uint32_t)local->steps,
        .proximal = plan->proximal,
        .correction = correction,
    };
    uint32_t done;
    enum err err =
        trained && (correction || !local->correction)
            ? model_tabular_train(&learner->shape, &learner->tables.train, &sgd, trained,
                                  learner->wish.cancelled, learner->wish.user, &done, reterr)
            : E_NO_MEMORY;
    for (size_t i = 0; !err && i < count; i++) {
        ret_change[i] = (float)(trained[i] - (double)weights[i]);
    }
    proto_free(trained);
    proto_free(correction);
    return err;
}

static enum err table_evaluate(struct train_learner *base, const float *weights,
                               const struct train_figures_wish *wish, struct train_figures *ret,
                               struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    double *wide = widen(weights, table_count(base));
    struct train_table_model model = {.shape = learner->shape, .weights = wide};
    if (wide && model.shape.kind == MODEL_TABULAR_COX) {
        train_encoding_range(&learner->encoding, wide, &model.low, &model.high);
    }
    enum err err = wide ? train_evaluate_table(learner->wish.noise, &learner->tables.held, &model,
                                               wish, ret, reterr)
                        : E_NO_MEMORY;
    proto_free(wide);
    return err;
}

static void table_close(struct train_learner *base)
{
    struct learner *learner = (struct learner *)base;
    train_tables_fini(&learner->tables);
    proto_free(learner);
}

const struct train_learner_kind train_learner_table = {
    .check = table_check,
    .open = table_open,
    .count = table_count,
    .start = table_start,
    .load = table_load,
    .train = table_train,
    .evaluate = table_evaluate,
    .close = table_close,
};
