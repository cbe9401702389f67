/* What a program sends to be predicted: a JSON document with texts, or with rows of a table.
 *
 *     {"texts": ["No sign of breast cancer.", ...]}
 *     {"columns": ["age", "sex"], "rows": [[63, "F"], [71, null], ...]}
 *
 *     err = model_inputs_read(body, &inputs, reterr);
 *     err = model_predictor_answer(predictor, buf_span(&inputs.lines), false, see, user, reterr);     // texts
 *     ... model_table_model_answer(model, inputs.cells + row * inputs.columns, inputs.columns);           // rows
 *     model_inputs_fini(&inputs);
 *
 * A text becomes one line: what breaks lines in it becomes a blank, which no tokenizer tells from it. Numbers of rows become the shortest text
 * that reads as the same number; true and false are no numbers. Nothing else may stand in the document.
 * Threads: pure. Limits: MODEL_INPUTS_BYTES_MAX, MODEL_INPUTS_MAX texts or rows, MODEL_INPUTS_TEXT_MAX bytes a text, MODEL_INPUTS_COLUMNS_MAX. */
#ifndef CONCORDAT_NODE_MODEL_INPUTS_H
#define CONCORDAT_NODE_MODEL_INPUTS_H

#include "proto/alloc.h"

#define MODEL_INPUTS_BYTES_MAX   ((size_t)1 << 20)
#define MODEL_INPUTS_MAX         256u
#define MODEL_INPUTS_TEXT_MAX    ((size_t)64 << 10)
#define MODEL_INPUTS_COLUMNS_MAX 1024u

struct model_inputs {
    size_t count; /* texts or rows, at least 1 */
    bool table;
    struct buf lines;   /* texts: one a line, each ended by a line feed */
    struct span *names; /* table: columns */
    struct span *cells; /* table: count x columns; a missing one is empty */
    size_t columns;     /* table */
    struct arena arena; /* owns names and cells */
};
/* Errors: E_INVALID no such document, with the place; E_LIMIT; E_NO_MEMORY. ret is to be fini'd on success only. */
MUST_CHECK enum err model_inputs_read(struct span json, struct model_inputs *ret,
                                      struct err_info *reterr);
void model_inputs_fini(struct model_inputs *inputs);

#endif
