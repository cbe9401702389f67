/* Smaller weights for deployment: eight bits a number, and zeros where numbers are small.
 *
 *     model_quantise_rows(w, rows, cols, q, scale);          // w[r][c] ~ q[r][c] scale[r]
 *     model_encoder_quantise(encoder);                        // in place: what an int8 export computes
 *     model_encoder_prune(encoder, 0.5);                      // half of each matrix becomes 0
 *
 * Symmetric by output row: scale = max |w| / 127, q = round(w / scale). Matrices of layers, heads and the word embeddings are changed;
 * biases, LayerNorm, positions and types stay. Pruning is by magnitude within each matrix of the layers; embeddings and heads stay.
 * Both change a model's answers: measure them (tests/bench/bench_ner.c does) before they are used.
 * Threads: free of state; the encoder is the caller's alone meanwhile. */
#ifndef CONCORDAT_NODE_MODEL_QUANTISE_H
#define CONCORDAT_NODE_MODEL_QUANTISE_H

#include "node/model/encoder.h"

void model_quantise_rows(const real *w, size_t rows, size_t cols, int8_t *q, float *scale);
/* Whether TENSOR of ENCODER is stored in eight bits. */
bool model_quantised(const struct model_encoder *encoder, size_t tensor);
/* Errors: E_USAGE it has adapters (merge them first); E_NO_MEMORY. */
MUST_CHECK enum err model_encoder_quantise(struct model_encoder *encoder, struct err_info *reterr);
/* SHARE of the numbers of each matrix, 0 <= SHARE < 1. Errors: E_USAGE; E_NO_MEMORY. */
MUST_CHECK enum err model_encoder_prune(struct model_encoder *encoder, double share,
                                        struct err_info *reterr);
/* Of the numbers that pruning looks at, those that are 0. */
void model_encoder_sparsity(const struct model_encoder *encoder, uint64_t *ret_zeros,
                            uint64_t *ret_numbers);

#endif
