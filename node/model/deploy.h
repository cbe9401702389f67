/* A package as files for other tools, and its answers to texts: what `model export` and `model predict` do, without node or store.
 *
 *     err = model_deploy_write(package, base, MODEL_DEPLOY_ONNX, 0, folder, reterr);
 *     err = model_predictor_open(package, base, threads, &predictor, reterr);
 *     err = model_predictor_answer(predictor, bytes, false, see, user, reterr);       as often as wanted
 *     model_predictor_close(predictor);
 *
 * BASE is the package that PACKAGE's adapters belong to, NULL for a whole model.
 * Formats: SAFETENSORS config.json, model.safetensors (adapters merged) and the vocabulary, for Hugging Face Transformers; PEFT
 * adapter_config.json and adapter_model.safetensors, with config.json for the labels, for models of adapters only; ONNX model.onnx, config.json, vocabulary; INT8 the
 * same with eight-bit weights (onnx.h). PRUNE: that share of each layer's numbers becomes 0 before (quantise.h).
 * A predictor is what `model predict` and the console's inference service answer with (node/control/ops_predict.c).
 * Threads: writing is free of state. Limits: those of corpus.h. */
#ifndef CONCORDAT_NODE_MODEL_DEPLOY_H
#define CONCORDAT_NODE_MODEL_DEPLOY_H

#include "node/model/package.h"

enum model_deploy {
    MODEL_DEPLOY_SAFETENSORS,
    MODEL_DEPLOY_PEFT,
    MODEL_DEPLOY_ONNX,
    MODEL_DEPLOY_INT8,
    MODEL_DEPLOY_COUNT
};
/* "safetensors", .. ; false when there is none of that name. */
bool model_deploy_by_name(const char *name, enum model_deploy *ret);

/* What was written: of the numbers in matrices of the layers those that are 0, pruned or not. */
struct model_deployed {
    uint64_t zeros, numbers;
};
/* Into FOLDER, which must be there; a file that stands there is replaced.
 * Errors: E_USAGE peft of a whole model, or a share outside 0 to 1; E_UNSUPPORTED a base without any head as ONNX; those of
 * reading and writing. */
MUST_CHECK enum err model_deploy_write(const struct model_package *package,
                                       const struct model_package *base, enum model_deploy as,
                                       double prune, const char *folder, struct model_deployed *ret,
                                       struct err_info *reterr);

/* A sentence or text with what the model says. */
struct model_answer {
    size_t words;
    const char *const *word; /* words, for token classification; else none */
    const char *const *tag;  /* words */
    const char *label; /* sequence classification: the likeliest class, and all probabilities */
    const float *probabilities; /* labels, in their order */
    const struct model_words *labels;
};
typedef enum err model_answer_fn(void *user, const struct model_answer *answer);

/* A model that is ready to answer; PACKAGE and BASE may be closed afterwards. One thread at a time; it starts THREADS of its own.
 * Errors: E_UNSUPPORTED a model without a classifier; those of model_tuner_open. ret is set on success only. */
struct model_predictor;
MUST_CHECK enum err model_predictor_open(const struct model_package *package,
                                         const struct model_package *base, unsigned threads,
                                         struct model_predictor **ret, struct err_info *reterr);
void model_predictor_close(struct model_predictor *predictor);
/* One line of TEXT is one sentence or text; with WORDS one line is one word (the first column), an empty line ends a sentence.
 * SEE gets them in order; what it is shown is borrowed for the call.
 * Errors: E_USAGE WORDS with a model that classifies texts; E_INVALID no UTF-8; E_LIMIT; what SEE returns. */
MUST_CHECK enum err model_predictor_answer(struct model_predictor *predictor, struct span text,
                                           bool words, model_answer_fn *see, void *user,
                                           struct err_info *reterr);

#endif
