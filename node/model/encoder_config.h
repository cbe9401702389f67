/* config.json and adapter_config.json: shapes and labels, read from hostile bytes and written for the field's tools.
 *
 *     struct model_config config = {0};
 *     err = model_config_read(bytes, &config, reterr);        // config.shape, config.labels, config.family
 *     err = model_config_encode(&shape, labels, &buf, reterr);
 *     model_config_fini(&config);
 *
 * Families: BERT as published; DistilBERT (no token types, no pooler); RoBERTa (positions start at 2, no token types). Their layers
 * compute the same, so that what is read becomes a BERT shape: encoder_load.c knows the families' names of tensors.
 * Formats: Hugging Face Transformers (config.json), PEFT (adapter_config.json of kind LORA).
 * Threads: free of state. Limits: MODEL_CONFIG_MAX bytes, and those of encoder.h. */
#ifndef CONCORDAT_NODE_MODEL_ENCODER_CONFIG_H
#define CONCORDAT_NODE_MODEL_ENCODER_CONFIG_H

#include "node/model/encoder.h"
#include "node/model/words.h"

#define MODEL_CONFIG_MAX ((size_t)1 << 20)

enum model_family {
    MODEL_FAMILY_BERT,
    MODEL_FAMILY_DISTILBERT,
    MODEL_FAMILY_ROBERTA,
    MODEL_FAMILY_COUNT
};

struct model_config {
    enum model_family family;
    struct model_shape
        shape;     /* positions without RoBERTa's offset; labels 0 when the file tells none */
    bool has_task; /* `architectures` tells what the model was made for */
    struct model_words labels; /* by id2label */
};
/* Errors: E_INVALID with the key; E_UNSUPPORTED another architecture, activation or position type; E_LIMIT; E_NO_MEMORY.
 * On failure CONFIG is empty. */
MUST_CHECK enum err model_config_read(struct span bytes, struct model_config *config,
                                      struct err_info *reterr);
void model_config_fini(struct model_config *config);

/* Appends config.json of a BERT. LABELS: shape->labels names, or NULL when there is no head of labels.
 * Errors: E_INVALID a label twice or no UTF-8; E_NO_MEMORY. */
MUST_CHECK enum err model_config_encode(const struct model_shape *shape, const char *const *labels,
                                        struct buf *ret, struct err_info *reterr);

/* Appends adapter_config.json; BASE is the base model's name. Errors: E_USAGE no adapters; E_INVALID BASE is no UTF-8. */
MUST_CHECK enum err model_adapter_config(const struct model_shape *shape, const char *base,
                                         struct buf *ret, struct err_info *reterr);
/* The last part of base_model_name_or_path into RET of SIZE bytes, "" when it is missing or does not fit. */
void model_adapter_base(struct span bytes, char *ret, size_t size);
/* Sets training (LORA), targets, rank, alpha and task of SHAPE from adapter_config.json.
 * Errors: E_INVALID with the key; E_UNSUPPORTED another kind of adapter or of bias, layers that are not among the targets,
 * ranks that differ by layer, rank-stabilised scale; E_LIMIT. On failure SHAPE is unchanged. */
MUST_CHECK enum err model_adapter_config_read(struct span bytes, struct model_shape *shape,
                                              struct err_info *reterr);

#endif
