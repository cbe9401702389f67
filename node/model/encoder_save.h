/* An encoder's files as the field's tools read them: a PEFT adapter, or a Hugging Face folder with the adapters merged.
 *
 *     err = model_adapter_save(encoder, "bert-tiny-biomed", folder, reterr);  // adapter_config.json, adapter_model.safetensors
 *     err = model_encoder_save(encoder, labels, folder, reterr);              // config.json, model.safetensors
 *     err = model_adapter_load(other, file, reterr);                          // adapters and head, nothing less or more
 *
 * It does not write the vocabulary, which is the base model's, nor the card or the licence record: those are node/train's.
 * Formats: Hugging Face Transformers (config.json), PEFT (adapter_config.json; adapter names are dropped in the file; the
 * head is a module to save; the scale is alpha/rank). Merged: W + alpha/rank B A, computed in double.
 * Threads: the encoder is only read, but by model_adapter_load. Limits: those of encoder.h and safetensors.h. */
#ifndef CONCORDAT_NODE_MODEL_ENCODER_SAVE_H
#define CONCORDAT_NODE_MODEL_ENCODER_SAVE_H

#include "node/model/encoder.h"
#include "proto/alloc.h"

struct model_safetensors;
struct model_safetensors_note;

/* Appends adapter_model.safetensors, with NOTES in its __metadata__.
 * Errors: E_USAGE the encoder has no adapters; those of model_safetensors_encode. */
MUST_CHECK enum err model_adapter_encode(const struct model_encoder *encoder,
                                         const struct model_safetensors_note *notes,
                                         size_t note_count, struct buf *ret,
                                         struct err_info *reterr);
/* Appends model.safetensors: base with the adapters added, and head. */
MUST_CHECK enum err model_encoder_encode(const struct model_encoder *encoder,
                                         const struct model_safetensors_note *notes,
                                         size_t note_count, struct buf *ret,
                                         struct err_info *reterr);
/* Both files into FOLDER, which must be there. */
MUST_CHECK enum err model_adapter_save(const struct model_encoder *encoder, const char *base,
                                       const char *folder, struct err_info *reterr);
/* Errors: E_SCHEMA a tensor of the adapters or the head is missing or of another shape, or there are others; those of
 * reading. On failure the adapters and the head are anything. */
MUST_CHECK enum err model_adapter_load(struct model_encoder *encoder,
                                       const struct model_safetensors *file,
                                       struct err_info *reterr);

/* config.json and model.safetensors into FOLDER, which must be there: base with the adapters added, and head. */
MUST_CHECK enum err model_encoder_save(const struct model_encoder *encoder,
                                       const char *const *labels, const char *folder,
                                       struct err_info *reterr);

#endif
