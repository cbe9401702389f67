/* Fine-tuning of an encoder on one site's texts: what node/train calls. It knows no peer, no plan and no ledger.
 *
 *     struct model_tuning tuning = {.task = MODEL_TASK_TOKENS, .training = MODEL_TRAIN_FULL, .labels = names, .label_count = 3,
 *                                   .longest = 128, .stride = 32, .dropout = -1, .seed = 1};
 *     err = model_tuner_open(package, NULL, &tuning, threads, &tuner, reterr);
 *     err = model_tuner_corpus(tuner, &corpus, reterr);             // then fill and seal it: corpus.h
 *     err = model_tuner_set(tuner, weights, reterr);                // of the round; model_tuner_count(tuner) numbers
 *     err = model_tuner_train_private(tuner, corpus, units, count, &sgd, tick, user, &done, reterr);   // or model_tuner_train
 *     model_tuner_get(tuner, weights);                              // may leave the site after _train_private only
 *     err = model_tuner_evaluate(tuner, corpus, held, held_count, &evaluation, reterr);                // exact: stays
 *     model_tuner_close(tuner);
 *
 * The trained numbers are one flat vector of float, the same at every site that opens the same package with the same tuning:
 * all weights (full), adapters and head (lora), their B and the head (ffa), or the head alone. Heads and adapters start from
 * the public seed. The optimiser's state begins anew with each call of a training function and is thrown away after it.
 *
 * _train is for data that a licence lets be trained on without noise. _train_private is DP-SGD with the patient as unit (Abadi
 * et al. 2016; add or remove one patient). One step:
 *   1. each unit joins with probability RATE, by coins of the system's source;
 *   2. the gradient of a joined unit's own mean loss is clipped to CLIP (1 - 2^-8); norms are exact: direct where tensors are
 *      small, by the ghost norm where they are not (team.h);
 *   3. the sum is rounded to integers of a grid; with a patient more or less it moves by at most D2 grid steps (grid.h);
 *   4. exact discrete Gaussian noise of deviation >= SIGMA * D2 joins each coordinate, also when nobody joined;
 *   5. the noisy sum is divided by the public EXPECTED_BATCH and given to the optimiser, which is post-processing.
 * The 2^-8 is there for the rounding of float sums; see grid.h for what it covers.
 * Threads: a tuner belongs to one thread at a time and starts its own. Limits: those of encoder.h, corpus.h, team.h. */
#ifndef CONCORDAT_NODE_MODEL_TUNER_H
#define CONCORDAT_NODE_MODEL_TUNER_H

#include "node/model/corpus.h"
#include "node/model/package.h"
#include "node/model/report.h"

/* What all sites must agree on. */
struct model_tuning {
    enum model_task task;
    enum model_training training;
    uint32_t targets, rank; /* of adapters: a set of 1 << model_target */
    double alpha;
    const char *const *
        labels; /* "O", "B-Disease", ..: tags or classes; none for masked LM. Borrowed for the call */
    uint32_t label_count;
    bool any_labels;          /* for prediction alone: labels of words need be no tags */
    uint32_t longest, stride; /* pieces: corpus.h */
    double dropout;           /* below 0: as the model's configuration says */
    uint64_t seed;            /* of heads and adapters */
};

struct model_tuner;
/* BASE: the package that PACKAGE's adapters belong to, NULL for a whole model. Both may be closed afterwards.
 * Training goes on from PACKAGE's head when it has the same task and labels, and from its adapters when TUNING asks for the same;
 * adapters of another kind are merged into the weights first.
 * Errors: E_SCHEMA the model does not fit; E_LIMIT; E_USAGE labels; E_NO_MEMORY. ret is set on success only. */
MUST_CHECK enum err model_tuner_open(const struct model_package *package,
                                     const struct model_package *base,
                                     const struct model_tuning *tuning, unsigned threads,
                                     struct model_tuner **ret, struct err_info *reterr);
void model_tuner_close(struct model_tuner *tuner);

/* The flat vector. set refuses (E_INVALID) numbers that are not finite, and then changes nothing. */
size_t model_tuner_count(const struct model_tuner *tuner);
void model_tuner_get(const struct model_tuner *tuner, float *ret);
MUST_CHECK enum err model_tuner_set(struct model_tuner *tuner, const float *numbers,
                                    struct err_info *reterr);
/* What stands where in the flat vector, in its order. Borrowed from the tuner. */
enum model_part_kind {
    MODEL_PART_BASE,
    MODEL_PART_HEAD, /* may stay at a site that keeps a head of its own */
    MODEL_PART_A,    /* of adapters */
    MODEL_PART_B
};
struct model_part {
    const char *name; /* of the tensor */
    size_t at, count;
    enum model_part_kind kind;
};
const struct model_part *model_tuner_parts(const struct model_tuner *tuner, size_t *ret_count);
const struct model_encoder *model_tuner_encoder(const struct model_tuner *tuner);
/* Number of a label, MODEL_WORDS_NONE when there is none. */
const struct model_words *model_tuner_labels(const struct model_tuner *tuner);
/* An empty corpus for this tuner's task, tokenizer and lengths. The caller frees it, before the tuner. */
MUST_CHECK enum err model_tuner_corpus(const struct model_tuner *tuner, struct model_corpus **ret,
                                       struct err_info *reterr);

/* --- training ---------------------------------------------------------------------------------------- */

/* Called before each step with what was done; the loss is exact and must not leave the site (NAN in private training).
 * false: stop, E_CANCELLED. */
typedef bool model_tuner_tick(void *user, uint32_t step, uint32_t steps, double loss);

/* The rate of global step s: linear from 0 to PEAK over WARM_UP steps, then linear to 0 at TOTAL. TOTAL 0: always PEAK. */
struct model_schedule {
    double peak;
    uint64_t first, warm_up,
        total; /* steps; FIRST is the number of the call's first step over all rounds */
};
struct model_local {
    struct model_schedule schedule;
    uint32_t epochs, batch;  /* windows in a batch, 1 .. MODEL_TUNER_BATCH_MAX */
    uint32_t steps_max;      /* 0: none */
    double decay, clip;      /* AdamW's weight decay (0.01); norm of a gradient (1), 0: none */
    double proximal;         /* FedProx: adds PROXIMAL (w - w at the start) to each gradient */
    const float *correction; /* SCAFFOLD: added to each gradient, with plain SGD; NULL: none */
    bool plain;              /* SGD instead of AdamW */
    uint32_t frozen; /* set of 1 << model_part_kind: parts that stay as they are in this call */
    uint64_t seed;   /* of order, dropout and masks */
};
#define MODEL_TUNER_BATCH_MAX 1024u
struct model_trained {
    uint32_t steps;
    double loss;       /* mean over labels of the last epoch; exact */
    uint64_t labelled; /* labels of the units, once over; exact */
};
/* Steps that _train will do. */
uint32_t model_tuner_steps(const struct model_corpus *corpus, const uint32_t *units, size_t count,
                           const struct model_local *local);
/* UNITS: which of the corpus' units; NULL: all (COUNT is then ignored).
 * Errors: E_INVALID settings, or the weights became not finite; E_CANCELLED; E_NO_MEMORY. On failure the weights are as before. */
MUST_CHECK enum err model_tuner_train(struct model_tuner *tuner, const struct model_corpus *corpus,
                                      const uint32_t *units, size_t count,
                                      const struct model_local *local, model_tuner_tick *tick,
                                      void *user, struct model_trained *ret,
                                      struct err_info *reterr);

struct model_private {
    double rate, clip, sigma; /* sampling rate, clip norm, noise multiplier */
    double expected_batch;    /* public: RATE times the declared number of patients */
    uint32_t steps;
    struct model_schedule schedule;
    double momentum, decay; /* plain: SGD's momentum; else AdamW with DECAY */
    bool plain;
    double proximal;
    uint32_t frozen; /* parts that stay; their gradients count in the norm all the same */
    uint64_t seed;   /* of dropout and masks alone: coins and noise are the system's */
};
/* ret_steps  set always: how many steps drew noise, which is what was spent.
 * Errors: E_INVALID settings; E_LIMIT sigma out of range; E_CANCELLED; E_NO_MEMORY; those of the random source.
 * On failure the weights are as before the call. */
MUST_CHECK enum err model_tuner_train_private(struct model_tuner *tuner,
                                              const struct model_corpus *corpus,
                                              const uint32_t *units, size_t count,
                                              const struct model_private *sgd,
                                              model_tuner_tick *tick, void *user,
                                              uint32_t *ret_steps, struct err_info *reterr);

/* --- evaluation: exact, so it must not leave the site as it is ---------------------------------------- */

/* Counts of each unit and type, for who bounds a patient's part and adds noise. Types: entity types in the order of the label
 * set (default rules of report.h), classes, or one type "token" for masked LM, where predicted = gold. */
struct model_evaluation {
    uint32_t types, units;
    const char *const *names;          /* types; borrowed from the tuner */
    struct model_report_count *counts; /* units x types */
    double *loss;                      /* units: sum of cross entropy */
    uint64_t *labelled;                /* units: labels */
};
MUST_CHECK enum err model_tuner_evaluate(struct model_tuner *tuner,
                                         const struct model_corpus *corpus, const uint32_t *units,
                                         size_t count, struct model_evaluation *ret,
                                         struct err_info *reterr);
void model_evaluation_fini(struct model_evaluation *evaluation);
/* Of sums over units, by type: what a report prints. The counts may be noisy: below 0 is 0. */
MUST_CHECK enum err model_evaluation_report(const char *const *names, const double (*counts)[3],
                                            uint32_t types, struct model_report *ret);

/* --- prediction -------------------------------------------------------------------------------------- */

/* The label of each word of a sentence, numbers in the label set. SENTENCE counts as they were added. */
typedef enum err model_tuner_sentence(void *user, uint32_t sentence, const uint16_t *labels,
                                      size_t words);
/* Token classification: calls SEE for each sentence in the order in which they were added. */
MUST_CHECK enum err model_tuner_tags(struct model_tuner *tuner, const struct model_corpus *corpus,
                                     model_tuner_sentence *see, void *user,
                                     struct err_info *reterr);
/* Sequence classification: probabilities, sentences x labels, in the order in which they were added. The caller frees. */
MUST_CHECK enum err model_tuner_classes(struct model_tuner *tuner,
                                        const struct model_corpus *corpus, float **ret,
                                        struct err_info *reterr);

#endif
