/* Precision, recall and F1 of entities, by the definitions of seqeval, from gold and predicted tags.
 *
 *     struct model_report report = {.strict = false};
 *     err = model_report_add(&report, gold, predicted, words);       // a sentence; as often as needed
 *     err = model_report_text(&report, &buf);                        // or model_report_json
 *     model_report_fini(&report);
 *
 * An entity is (type, first word, last word) of one sentence; sentences are separated by O. Default rules (those of conlleval):
 * a chunk starts at B or S, at I or E after O, E or S, or when the type changes; it ends when the type changes, before B, S
 * or O, and after E or S. Strict (IOB2): only B-X (I-X)* is an entity. A tag is PREFIX-TYPE; what has no dash has the type _.
 * 0/0 is 0. micro: of the sums; macro: mean over the types in gold or prediction; weighted: mean by gold entities.
 * The counts are exact: before they leave a site they need the same budget as any other answer.
 * Threads: a report belongs to one thread at a time. Limits: MODEL_REPORT_TYPES_MAX; counts up to 2^63. */
#ifndef CONCORDAT_NODE_MODEL_REPORT_H
#define CONCORDAT_NODE_MODEL_REPORT_H

#include <stdbool.h>

#include "node/model/words.h"

#define MODEL_REPORT_TYPES_MAX 4096u

struct model_report_count {
    uint64_t matched, predicted, gold;
};
struct model_report {
    bool strict;              /* set before the first add */
    struct model_words types; /* the rest is the module's */
    struct model_report_count *counts;
    uint32_t counts_cap;
};

struct model_score {
    double precision, recall, f1;
    uint64_t support; /* gold entities */
};

/* Adds a sentence of WORDS tags each. Errors: E_LIMIT too many types; E_INVALID an empty tag; E_NO_MEMORY. */
MUST_CHECK enum err model_report_add(struct model_report *report, const char *const *gold,
                                     const char *const *predicted, size_t words);
struct model_score model_report_type(const struct model_report *report, uint32_t type);
struct model_score model_report_micro(const struct model_report *report);
struct model_score model_report_macro(const struct model_report *report);
struct model_score model_report_weighted(const struct model_report *report);

/* A table for people: types by name, then micro, macro, weighted; two decimals. */
MUST_CHECK enum err model_report_text(const struct model_report *report, struct buf *to);
/* {"types":{NAME:{"precision","recall","f1","support"}},"micro":{..},"macro":{..},"weighted":{..}} */
MUST_CHECK enum err model_report_json(const struct model_report *report, struct buf *to);
void model_report_fini(struct model_report *report);

#endif
