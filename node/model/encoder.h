/* A BERT encoder with a head, for training and prediction on packed sequences of any length: no padding, no mask.
 *
 *     struct model_shape shape;
 *     err = model_shape_read(folder, &shape, reterr);          // config.json
 *     shape.task = MODEL_TASK_TOKENS; shape.labels = 3; shape.training = MODEL_TRAIN_FULL;
 *     err = model_encoder_open(folder, &shape, seed, &encoder, reterr);
 *     struct model_run *run = model_run_new(encoder);
 *     err = model_run_forward(run, &batch, reterr);
 *     model_run_loss(run, &batch, losses, labelled);           // per group; sums, not means
 *     model_run_backward(run, &batch, scale, gradients);       // groups x trained, added to
 *     model_run_free(run); model_encoder_close(encoder);
 *
 * Shapes: rows of all sequences stand one after the other; R rows in a batch. Weights are row-major [out][in] as in PyTorch.
 * Positions restart at 0 in each sequence and no attention crosses sequences.
 * Formulas: BERT (Devlin et al. 2018, arXiv 1810.04805): post-LayerNorm with population variance, erf-GELU, attention scale
 * 1/sqrt(head size); LoRA (arXiv 2106.09685): y = W x + b + alpha/rank B (A x); FFA-LoRA (arXiv 2403.12313) trains B alone.
 * Loss: sum of cross entropy over rows (or sequences) with a label >= 0. Masked LM: dense, GELU, LayerNorm, then the word embeddings
 * as decoder, on labelled rows only.
 *
 * Groups: consecutive sequences, e.g. of one patient. Loss and gradient come apart by group, exactly; the norm of a group's
 * gradient is that of the group alone. One group is an ordinary batch. Memory for gradients: groups x trained numbers, or, clipped,
 * the small tensors alone.
 * Dropout by counter: the same seed drops the same, however a batch is cut (first_row); backward draws the same again, nothing is
 * stored.
 * Threads: an encoder's weights may be read by any number of runs; a run belongs to one thread. Tested against
 * tests/vectors/bert in float and in double (real.h), and by central differences. Limits: below. */
#ifndef CONCORDAT_NODE_MODEL_ENCODER_H
#define CONCORDAT_NODE_MODEL_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/model/real.h"
#include "proto/err.h"

#define MODEL_HIDDEN_MAX    4096u
#define MODEL_LAYERS_MAX    48u
#define MODEL_INNER_MAX     16384u
#define MODEL_POSITIONS_MAX 8192u
#define MODEL_LABELS_MAX    1024u
#define MODEL_RANK_MAX      256u
#define MODEL_ROWS_MAX      65536u /* in one batch */
#define MODEL_FROZEN        SIZE_MAX

enum model_task {
    MODEL_TASK_TOKENS,
    MODEL_TASK_SEQUENCE, /* of the first row: pooler (tanh), then classifier */
    MODEL_TASK_MASKED, /* masked LM: dense, GELU, LayerNorm, then the word embeddings as decoder, and a bias */
};
enum model_training {
    MODEL_TRAIN_FULL,
    MODEL_TRAIN_LORA, /* adapters and the head */
    MODEL_TRAIN_FFA,  /* as LORA with A frozen */
    MODEL_TRAIN_HEAD, /* the head alone */
};
/* Linear layers that adapters may join; a set of 1 << target. */
enum model_target {
    MODEL_TARGET_QUERY,
    MODEL_TARGET_KEY,
    MODEL_TARGET_VALUE,
    MODEL_TARGET_ATTENTION_OUTPUT,
    MODEL_TARGET_INTERMEDIATE,
    MODEL_TARGET_OUTPUT,
    MODEL_TARGET_COUNT
};
#define MODEL_TARGETS_QV  (1u << MODEL_TARGET_QUERY | 1u << MODEL_TARGET_VALUE)
#define MODEL_TARGETS_ALL ((1u << MODEL_TARGET_COUNT) - 1)

struct model_shape {
    uint32_t vocabulary, hidden, layers, heads, inner, positions, types;
    double layer_norm_eps;
    double dropout, attention_dropout; /* probabilities, used when a batch has a dropout seed */
    enum model_task task;
    uint32_t labels;
    enum model_training training;
    uint32_t targets, rank; /* adapters */
    double alpha;
};
/* Whether it has adapters. */
static inline bool model_shape_adapted(const struct model_shape *shape)
{
    return shape->training == MODEL_TRAIN_LORA || shape->training == MODEL_TRAIN_FFA;
}
/* Whether all is inside the limits; *ret_why says what is not. */
bool model_shape_valid(const struct model_shape *shape, const char **ret_why);

struct model_tensor {
    char name[128];    /* as in Hugging Face and PEFT files */
    size_t rows, cols; /* a vector has 1 row */
    size_t at;         /* in weights */
    size_t trained_at; /* in the vector of trained numbers, or MODEL_FROZEN */
    size_t small_at;   /* in the vector of small trained tensors, or MODEL_FROZEN: gradient.c */
    bool decay;        /* weight decay applies: neither bias nor LayerNorm */
    bool base;         /* must be in a model's file; heads and adapters may be new */
};
struct model_encoder {
    struct model_shape shape;
    struct model_tensor *tensors;
    size_t tensor_count;
    real *weights;
    size_t weight_count, trained_count, small_count;
    size_t head;     /* first tensor of the head */
    size_t adapters; /* first tensor of the adapters, after the head */
    size_t *adapter; /* layers x MODEL_TARGET_COUNT: tensor of A (B follows), or MODEL_FROZEN */
};

/* All weights 0 but heads and adapters, which start from SEED: N(0, 0.02), A uniform in +-1/sqrt(in), B and biases 0. The
 * seed is public: sites that start from one seed start equal.
 * Errors: E_LIMIT shape; E_NO_MEMORY. ret is set on success only; model_encoder_close. */
MUST_CHECK enum err model_encoder_new(const struct model_shape *shape, uint64_t seed,
                                      struct model_encoder **ret, struct err_info *reterr);
void model_encoder_close(struct model_encoder *encoder);
/* NULL when there is none. */
const struct model_tensor *model_encoder_tensor(const struct model_encoder *encoder,
                                                const char *name);

/* The trained numbers as one vector of trained_count, in the order of trained_at. */
void model_encoder_get(const struct model_encoder *encoder, real *ret);
void model_encoder_set(struct model_encoder *encoder, const real *numbers);

/* --- Hugging Face folders (encoder_load.c) --------------------------------------------------------------- */

/* From the bytes of config.json: task, labels and training are left as they are, but labels from id2label when it is there.
 * Errors: E_INVALID with the key; E_UNSUPPORTED another architecture, activation or position type; E_LIMIT. */
MUST_CHECK enum err model_shape_json(const void *bytes, size_t len, struct model_shape *shape,
                                     struct err_info *reterr);
MUST_CHECK enum err model_shape_read(const char *folder, struct model_shape *shape,
                                     struct err_info *reterr);
struct model_safetensors;
/* Takes each tensor whose name the file has, with or without "bert." and with LayerNorm.gamma/beta for weight/bias.
 * A head that is missing or was made for another number of labels stays new; adapters may be missing.
 * Errors: E_SCHEMA a base tensor is missing, or one has another shape; those of reading. On failure the weights are anything. */
MUST_CHECK enum err model_encoder_load(struct model_encoder *encoder,
                                       const struct model_safetensors *file,
                                       struct err_info *reterr);
/* model_encoder_new, then FOLDER/model.safetensors. */
MUST_CHECK enum err model_encoder_open(const char *folder, const struct model_shape *shape,
                                       uint64_t seed, struct model_encoder **ret,
                                       struct err_info *reterr);

/* --- passes -------------------------------------------------------------------------------------------- */

struct model_batch {
    size_t sequences;
    const uint32_t *start; /* sequences + 1: first row of each; start[0] is 0 */
    const uint32_t *ids;   /* R: pieces */
    const uint8_t *types;  /* R, or NULL: all 0 */
    /* R for tokens and masked LM, `sequences` for sequences; < 0 is none; NULL: prediction only */
    const int32_t *labels;
    size_t groups;
    const uint32_t
        *group_at;         /* groups + 1: first sequence of each; NULL with groups 1: one of all */
    uint64_t dropout_seed; /* 0: no dropout */
    uint64_t
        first_row; /* of a batch that is part of a larger one: what is dropped does not depend on the cut */
};

struct model_run;
/* Keeps and grows its own buffers. NULL when out of memory. The encoder is borrowed until free. */
struct model_run *model_run_new(const struct model_encoder *encoder);
void model_run_free(struct model_run *run);
/* Before forward. recompute: activations of one layer at a time are kept, and computed again in backward, which gives the same
 * numbers; not with `clipped` when all is trained. clipped: what model_run_backward_clipped needs is kept. */
void model_run_mode(struct model_run *run, bool recompute, bool clipped);

/* Errors: E_INVALID a piece, type, label or length outside the model; E_LIMIT too many rows; E_NO_MEMORY. */
MUST_CHECK enum err model_run_forward(struct model_run *run, const struct model_batch *batch,
                                      struct err_info *reterr);
/* R x labels, sequences x labels, or labelled rows (all rows without labels) x vocabulary. Borrowed until the next forward. */
const real *model_run_logits(const struct model_run *run);
/* What the classifier of sequences or the decoder of masked LM reads; NULL for tokens. */
const real *model_run_pooled(const struct model_run *run);
/* Rows x hidden after the embeddings (0) or layer N (N + 1). Borrowed until the next forward. */
const real *model_run_hidden(const struct model_run *run, size_t level);
/* After forward on the same batch: sums of cross entropy and numbers of labels, for each group. */
void model_run_loss(const struct model_run *run, const struct model_batch *batch, double *ret_sums,
                    uint64_t *ret_labelled);
/* Labelled rows (or sequences) whose greatest logit is that of the label. */
uint64_t model_run_hits(const struct model_run *run, const struct model_batch *batch);
/* After forward on the same batch, with labels: adds the gradient of scale[g] * (sum of cross entropy of group g) to
 * GRADIENTS + g * encoder->trained_count. Once per forward. */
void model_run_backward(struct model_run *run, const struct model_batch *batch, const real *scale,
                        real *gradients);
/* The same, but each group's gradient is scaled to a norm of at most CLIP, one that is not finite counts as 0, and SUM
 * (trained_count) gets their sum added. ret_norms: before clipping, of each group. Needs mode `clipped`. Memory: small tensors by
 * group, no large ones. Errors: E_NO_MEMORY, then SUM is unchanged. */
MUST_CHECK enum err model_run_backward_clipped(struct model_run *run,
                                               const struct model_batch *batch, const real *scale,
                                               double clip, double *ret_norms, real *sum,
                                               struct err_info *reterr);

/* --- optimiser (adamw.c) ------------------------------------------------------------------------------- */

struct model_adamw {
    double beta1, beta2, eps, decay; /* 0.9, 0.999, 1e-8, 0.01 */
    double clip;                     /* global L2 norm of the gradient; 0: none */
    uint64_t step;                   /* steps done */
    real *m, *v;                     /* trained_count each */
};
#define MODEL_ADAMW_DEFAULT                                                                        \
    ((struct model_adamw){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01})
MUST_CHECK enum err model_adamw_init(struct model_adamw *adamw,
                                     const struct model_encoder *encoder);
void model_adamw_fini(struct model_adamw *adamw);
/* p <- p (1 - rate decay), without decay on biases and LayerNorm; p <- p - rate m^ / (sqrt(v^) + eps) (Loshchilov, Hutter,
 * arXiv 1711.05101). Returns the gradient's norm before clipping. A gradient that is not finite changes nothing: the norm
 * tells. */
double model_adamw_step(struct model_adamw *adamw, struct model_encoder *encoder,
                        const real *gradient, double rate);
/* Linear from 0 to PEAK over WARM_UP steps, then linear to 0 at TOTAL; STEP counts from 0 over all rounds. */
double model_rate_at(double peak, uint64_t step, uint64_t warm_up, uint64_t total);
/* The L2 norm, summed in double. */
double model_norm(const real *v, size_t count);
/* Adds GRADIENT, scaled to a norm of at most CLIP, to SUM; what is not finite is left out. Returns the norm before. */
double model_clip_add(const real *gradient, size_t count, double clip, real *sum);

#endif
