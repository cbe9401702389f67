/* Texts of patients, cut into pieces and grouped by patient: what training and evaluation read.
 *
 *     struct model_corpus *corpus = NULL;
 *     err = model_corpus_new(tokenizer, MODEL_TASK_TOKENS, 128, 32, &corpus);
 *     err = model_corpus_words(corpus, unit, words, tags, count, reterr);    // a sentence; as often as needed
 *     err = model_corpus_text(corpus, unit, text, label, reterr);            // or a text with one label, or none
 *     err = model_corpus_seal(corpus, reterr);                               // no more after this
 *     for (uint32_t u = 0; u < model_corpus_units(corpus); u++) ...
 *
 * A UNIT is a number that the caller gives to a patient, in any order and with gaps; after seal units are numbered
 * 0 .. units - 1 by rising number, and model_corpus_unit_number gives the caller's back.
 * A sentence longer than the longest input is cut into windows that overlap by STRIDE pieces, so that words near a cut are
 * seen with what stands around them. Each word is labelled in one window only, that in which it is farther from the cut: so a
 * word counts once in training, and predictions need no vote. A word whose own pieces do not fit is cut.
 * Sequence classification sees the first window alone (as the field's tools do); masked-LM windows do not overlap.
 * Threads: filled by one, read by any number after seal. Limits: MODEL_CORPUS_ROWS_MAX pieces. */
#ifndef CONCORDAT_NODE_MODEL_CORPUS_H
#define CONCORDAT_NODE_MODEL_CORPUS_H

#include "node/model/encoder.h"
#include "node/model/notes.h"
#include "node/model/tokenizer.h"

#define MODEL_CORPUS_ROWS_MAX ((size_t)1 << 28)

struct model_corpus;
/* LONGEST pieces of an input, [CLS] and [SEP] among them. The tokenizer is borrowed until free.
 * Errors: E_USAGE LONGEST below 8 or STRIDE above half of it; E_NO_MEMORY. */
MUST_CHECK enum err model_corpus_new(const struct model_tokenizer *tokenizer, enum model_task task,
                                     size_t longest, size_t stride, struct model_corpus **ret);
void model_corpus_free(struct model_corpus *corpus);

/* TAGS: numbers in the label set, or NULL: to be predicted.
 * Errors: E_INVALID a word is no UTF-8; E_LIMIT; E_NO_MEMORY. On failure the corpus is as before. */
MUST_CHECK enum err model_corpus_words(struct model_corpus *corpus, uint32_t unit,
                                       const char *const *words, const uint16_t *tags, size_t count,
                                       struct err_info *reterr);
/* LABEL below 0: none. Token classification takes white space for the borders of words, without tags. */
MUST_CHECK enum err model_corpus_text(struct model_corpus *corpus, uint32_t unit, struct span text,
                                      int32_t label, struct err_info *reterr);
/* All sentences of NOTES, whose units join those from FIRST_UNIT on. */
MUST_CHECK enum err model_corpus_notes(struct model_corpus *corpus, const struct model_notes *notes,
                                       uint32_t first_unit, struct err_info *reterr);
MUST_CHECK enum err model_corpus_seal(struct model_corpus *corpus, struct err_info *reterr);

uint32_t model_corpus_units(const struct model_corpus *corpus);
uint32_t model_corpus_unit_number(const struct model_corpus *corpus, uint32_t unit);

/* --- for who makes batches of it; all borrowed, after seal ------------------------------------------- */

/* Windows [window_at[u], window_at[u + 1]) are those of unit u; rows [row_at[w], row_at[w + 1]) those of window w. */
struct model_corpus_view {
    uint32_t units, windows, sentences;
    const uint32_t *window_at; /* units + 1 */
    const uint32_t *row_at;    /* windows + 1 */
    const uint32_t *ids;       /* rows */
    const int32_t *labels;     /* rows (tokens), or windows (sequences); NULL for masked LM */
    /* Sentences as they were added, in the order of units: */
    const uint32_t *sentence_unit; /* sentences */
    const uint32_t *order;         /* sentences: place in the order in which they were added */
    const uint32_t *word_at;       /* sentences + 1 */
    const uint32_t
        *word_row; /* words: row of the piece that stands for the word, or MODEL_WORDS_NONE */
    const int32_t *word_tag; /* words: the tag, or MODEL_LABEL_NONE */
};
const struct model_corpus_view *model_corpus_view(const struct model_corpus *corpus);

#endif
