#include "config.h"
#include "node/train/learner.h"

#include "node/query/bound.h"

#include <math.h>

static const struct train_learner_kind *kind_of(const struct train_plan *plan)
{
    bool tabular = proto_task_tabular((enum proto_task)plan->task);
    return plan->trainer.len ? &train_learner_external
           : tabular         ? &train_learner_table
                             : &train_learner_notes;
}

enum err train_learner_check(const struct train_plan *plan, const struct proto_schema *schema,
                             struct err_info *reterr)
{
    if (schema->max_nodes_per_unit > 1) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "this version does not account for training on people whom several "
                             "nodes know (max_nodes_per_unit: %u)",
                             (unsigned)schema->max_nodes_per_unit);
    }
    return kind_of(plan)->check(plan, schema, reterr);
}

enum err train_learner_open(const struct train_learner_wish *wish, struct train_learner **ret,
                            struct err_info *reterr)
{
    const struct train_learner_kind *kind = kind_of(wish->plan);
    struct train_learner *learner = NULL;
    enum err err = kind->open(wish, &learner, reterr);
    if (!err) {
        learner->kind = kind;
        *ret = learner;
    }
    return err;
}

size_t train_learner_count(const struct train_learner *learner)
{
    return learner->kind->count(learner);
}

enum err train_learner_start(struct train_learner *learner, float *ret, struct err_info *reterr)
{
    return learner->kind->start(learner, ret, reterr);
}

float *train_learner_home(struct train_learner *learner, size_t *ret_count)
{
    *ret_count = 0;
    return learner->kind->home ? learner->kind->home(learner, ret_count) : NULL;
}

enum err train_learner_load(struct train_learner *learner, struct err_info *reterr)
{
    return learner->kind->load(learner, reterr);
}

enum err train_learner_train(struct train_learner *learner, const float *weights,
                             const struct train_local *local, float *ret_change,
                             struct err_info *reterr)
{
    return learner->kind->train(learner, weights, local, ret_change, reterr);
}

enum err train_learner_evaluate(struct train_learner *learner, const float *weights,
                                const struct train_figures_wish *wish, struct train_figures *ret,
                                struct err_info *reterr)
{
    *ret = (struct train_figures){.has_histograms = false};
    return learner->kind->evaluate
               ? learner->kind->evaluate(learner, weights, wish, ret, reterr)
               : proto_err_set(reterr, E_UNSUPPORTED, "an external trainer is not evaluated");
}

void train_learner_close(struct train_learner *learner)
{
    if (learner) {
        learner->kind->close(learner);
    }
}

uint64_t train_held_threshold(double split)
{
    return (uint64_t)ldexp(split, 63) * 2;
}

bool train_held_out(const uint8_t key[16], uint32_t unit, uint64_t threshold)
{
    uint8_t other[16];
    for (size_t i = 0; i < sizeof other; i++) {
        other[i] = key[i] ^ 0x5a; /* not the key that picks rows */
    }
    return query_bound_hash(other, unit) < threshold;
}
