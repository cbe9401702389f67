/* The face of a run: forward, what it gave, and the loss. Backward stands in gradient.c. */
#include "config.h"
#include "node/model/run.h"

enum err model_run_forward(struct model_run *run, const struct model_batch *batch,
                           struct err_info *reterr)
{
    enum err err = run_prepare(run, batch, reterr);
    if (err) {
        return err;
    }
    embed_forward(run, batch);
    for (size_t layer = 0; layer < run->e->shape.layers; layer++) {
        layer_forward(run, batch, layer);
    }
    head_forward(run, batch);
    return E_OK;
}

const real *model_run_logits(const struct model_run *run)
{
    return run->logits;
}

const real *model_run_hidden(const struct model_run *run, size_t level)
{
    return level <= run->e->shape.layers ? layer_input(run, level) : NULL;
}

const real *model_run_pooled(const struct model_run *run)
{
    return run->e->shape.task == MODEL_TASK_SEQUENCE ? run->pooled
           : run->e->shape.task == MODEL_TASK_MASKED ? run->head_in
                                                     : NULL;
}

void model_run_loss(const struct model_run *run, const struct model_batch *batch, double *ret_sums,
                    uint64_t *ret_labelled)
{
    head_loss(run, batch, ret_sums, ret_labelled);
}

uint64_t model_run_hits(const struct model_run *run, const struct model_batch *batch)
{
    size_t labels = run->e->shape.labels;
    uint64_t hits = 0;
    for (size_t r = 0; batch->labels && r < run->head_rows; r++) {
        const real *row = run->logits + r * labels;
        int32_t label = head_label(run, batch, r), best = 0;
        for (int32_t j = 1; label >= 0 && j < (int32_t)labels; j++) {
            best = row[j] > row[best] ? j : best;
        }
        hits += label >= 0 && best == label;
    }
    return hits;
}
