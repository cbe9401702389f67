/* Writes an encoder as an ONNX file, for runtimes that know nothing of this project.
 *
 *     err = model_onnx_write(encoder, "disease-ner", MODEL_ONNX_FLOAT, folder, "model.onnx", reterr);
 *
 * Inputs: input_ids, attention_mask, token_type_ids, int64 [batch, sequence] each. Output: logits, float [batch, sequence, labels],
 * [batch, labels] for sequence classification, [batch, sequence, vocabulary] for masked LM. Opset 14, ir version 8; only operators
 * that every runtime has: LayerNorm and GELU stand written out. Adapters are merged. Eight-bit files hold int8 weights with one
 * scale a row (DequantizeLinear) and compute in float.
 * Format: onnx.proto (ONNX 1.12), protobuf wire format, written by hand since few message kinds are needed. Tested by Debian's
 * python3-onnx checker and by running it (tests/proc/export_onnx.py). The file is streamed: weights are not held twice.
 * Threads: free of state; the encoder is only read. Limits: 2 GB, protobuf's. */
#ifndef CONCORDAT_NODE_MODEL_ONNX_H
#define CONCORDAT_NODE_MODEL_ONNX_H

#include "node/model/encoder.h"

enum model_onnx_kind {
    MODEL_ONNX_FLOAT,
    MODEL_ONNX_INT8
};
/* FOLDER/FILE, mode 0600, complete and on disk, or as it was before.
 * Errors: E_USAGE the encoder has adapters (merge first); E_LIMIT too large; E_NO_MEMORY; E_IO, E_DISK_FULL. */
MUST_CHECK enum err model_onnx_write(const struct model_encoder *encoder, const char *name,
                                     enum model_onnx_kind kind, const char *folder,
                                     const char *file, struct err_info *reterr);

#endif
