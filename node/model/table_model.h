/* A tabular model's document (JSON, "concordat-linear-1" or "concordat-network-1") applied to rows of text: what `model predict` does with a table.
 *
 *     err = model_table_model_read(bytes, &model, reterr);
 *     err = model_table_model_header(model, names, count, reterr);       // which column is which feature
 *     model_table_model_answer(model, fields, count, &value);            // for each row
 *     model_table_model_free(model);
 *
 * The document: features with their encoding ("standardised" with min and max, "zero-one", "one-hot" with values, the first of which has
 * no weight), weights, intercept and link: logit (the answer is a probability), identity (in the units of `scale` and `offset` of the
 * target when the document has them), log (exp of the score: Cox, a hazard relative to the reference).
 * A network has `hidden`, a list of units each with weights of the features and an intercept; `weights` are then of tanh of the units.
 * Cox has a `baseline` beside, which answers do not need: log_hazards of equal parts of the horizon, in events per horizon.
 * A row with a missing or unreadable value has the answer NAN, or counts as the midpoint where the document says so.
 * Written by node/train. Threads: after _header, any number may read. Limits: MODEL_FEATURES_MAX weights, MODEL_HIDDEN_UNITS_MAX units. */
#ifndef CONCORDAT_NODE_MODEL_TABLE_MODEL_H
#define CONCORDAT_NODE_MODEL_TABLE_MODEL_H

#include "proto/alloc.h"

struct model_table_model;
/* Errors: E_INVALID with the key; E_UNSUPPORTED another format, link or encoding; E_LIMIT; E_NO_MEMORY. */
MUST_CHECK enum err model_table_model_read(struct span bytes, struct model_table_model **ret,
                                           struct err_info *reterr);
void model_table_model_free(struct model_table_model *model);
/* Errors: E_SCHEMA a feature has no column of its name. */
MUST_CHECK enum err model_table_model_header(struct model_table_model *model,
                                             const struct span *names, size_t count,
                                             struct err_info *reterr);
/* FIELDS: the row's texts by column; an empty one is missing. */
double model_table_model_answer(const struct model_table_model *model, const struct span *fields,
                                size_t count);
/* FOLDER/FILE: the model as an ONNX graph (opset 14). Inputs, float [batch, 1] each, under the features' names: the raw number, 0 or 1,
 * or of a category the number of its value in the document's list, from 0. Output, float [batch, 1]: "probability", "value" or
 * "hazard_ratio". A row that lacks something is for who asks: the graph knows of none. In onnx_table.c.
 * Errors: E_UNSUPPORTED a feature is called as what the graph has inside; E_NO_MEMORY; E_LIMIT; those of writing. */
MUST_CHECK enum err model_table_model_onnx(const struct model_table_model *model, const char *name,
                                           const char *folder, const char *file,
                                           struct err_info *reterr);

#endif
