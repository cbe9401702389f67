/* Private to the encoder: places of tensors, and the counter's mix. */
#ifndef CONCORDAT_NODE_MODEL_ENCODER_INTERNAL_H
#define CONCORDAT_NODE_MODEL_ENCODER_INTERNAL_H

#include "node/model/encoder.h"
#include "node/model/encoder_config.h"
#include "proto/alloc.h"

enum {
    EMBEDDING_WORD,
    EMBEDDING_POSITION,
    EMBEDDING_TYPE,
    EMBEDDING_NORM_W,
    EMBEDDING_NORM_B,
    EMBEDDING_TENSORS
};

/* Query, key and value stand together, so that one product computes all three. */
enum layer_tensor {
    LAYER_QUERY_W,
    LAYER_KEY_W,
    LAYER_VALUE_W,
    LAYER_QUERY_B,
    LAYER_KEY_B,
    LAYER_VALUE_B,
    LAYER_ATTENTION_W,
    LAYER_ATTENTION_B,
    LAYER_NORM1_W,
    LAYER_NORM1_B,
    LAYER_INNER_W,
    LAYER_INNER_B,
    LAYER_OUTPUT_W,
    LAYER_OUTPUT_B,
    LAYER_NORM2_W,
    LAYER_NORM2_B,
    LAYER_TENSORS
};
#define HEAD_TENSORS_MAX 8

static inline size_t layer_tensor(size_t layer, enum layer_tensor which)
{
    return EMBEDDING_TENSORS + layer * LAYER_TENSORS + which;
}

/* Tensors and their places, without weights: what model_encoder_new starts from. */
MUST_CHECK enum err model_encoder_layout(const struct model_shape *shape,
                                         struct model_encoder **ret, struct err_info *reterr);

struct model_tensor_entry;
/* The tensor that FAMILY's files keep under another spelling of NAME; NULL when there is none. */
const struct model_tensor_entry *model_entry_find(const struct model_safetensors *file,
                                                  enum model_family family, const char *name);
bool model_entry_fits(const struct model_tensor *tensor, const struct model_tensor_entry *entry);
/* model_encoder_load; without HEAD, the head stays new. */
MUST_CHECK enum err model_encoder_load_part(struct model_encoder *encoder,
                                            const struct model_safetensors *file, bool head,
                                            struct err_info *reterr);
/* Adds alpha/rank B A to the weights of the adapted layers; A and B stay as they are. */
void model_encoder_merge(struct model_encoder *encoder);

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t model_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

#endif
