/* Private to the tuner: its state, packed batches of a corpus' windows, and one descent. */
#ifndef CONCORDAT_NODE_MODEL_TUNER_INTERNAL_H
#define CONCORDAT_NODE_MODEL_TUNER_INTERNAL_H

#include "node/model/team.h"
#include "node/model/tuner.h"

struct model_tuner {
    struct model_tuning tuning; /* without labels */
    struct model_tokenizer *tokenizer;
    struct model_encoder *encoder;
    struct model_team *team;
    unsigned threads;
    struct model_words labels, types;
    const char **names; /* of types */
    struct model_part *parts;
    size_t part_count;
};

/* A batch with arrays of its own. begin, windows, end_group, .., and then BATCH is ready. */
struct model_packed {
    struct model_batch batch;
    uint32_t *start, *ids, *group_at;
    int32_t *labels;
    size_t windows_cap, rows_cap, groups_cap;
};
/* Room for a batch; what was packed is lost. Errors: E_NO_MEMORY. */
MUST_CHECK enum err model_packed_reserve(struct model_packed *p, size_t windows, size_t rows,
                                         size_t groups);
void model_packed_begin(struct model_packed *p);
void model_packed_window(struct model_packed *p, const struct model_tuner *t,
                         const struct model_corpus_view *v, uint32_t window, uint64_t mask_seed);
void model_packed_end_group(struct model_packed *p);
uint64_t model_packed_labelled(const struct model_tuner *t, const struct model_batch *b);
void model_packed_fini(struct model_packed *p);

/* From weights to weights: zero-initialise, set the first block, init; fill `gradient` and step; end puts the weights back on
 * failure. */
struct model_descent {
    bool plain;
    double momentum, decay, clip, proximal;
    const float *correction;
    uint32_t frozen; /* kinds of parts */
    float *before, *gradient, *velocity;
    struct model_adamw adamw;
};
MUST_CHECK enum err model_descent_init(struct model_descent *d, struct model_tuner *t);
MUST_CHECK enum err model_descent_step(struct model_descent *d, struct model_tuner *t, double rate,
                                       struct err_info *reterr);
MUST_CHECK enum err model_descent_end(struct model_descent *d, struct model_tuner *t, enum err err,
                                      struct err_info *reterr);
void model_descent_fini(struct model_descent *d);
double model_schedule_at(const struct model_schedule *s, uint64_t step);

#endif
