/* Annotated notes: words with IOB2 tags from a CoNLL-like text, checked line by line.
 *
 *     struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
 *     struct model_notes notes;
 *     err = model_notes_read(bytes, "train.tsv", &labels, true, &notes, reterr);   // "train.tsv:17: I-Drug follows O"
 *     for (uint32_t s = 0; s < notes.sentences; s++)
 *         for (uint32_t w = notes.sentence_at[s]; w < notes.sentence_at[s + 1]; w++) ... notes.text + notes.word_at[w], notes.tag[w]
 *     model_notes_fini(&notes);
 *
 * A line is a word, white space (tab or spaces), possibly further columns, and the tag last: O, B-TYPE or I-TYPE. An empty line
 * ends a sentence. A line whose first column is -DOCSTART- begins a document; its second column, unless it is -X- or a tag O,
 * names the unit of privacy (the patient): documents with the same name are one unit. Without a name each document is a unit
 * of its own, and without any -DOCSTART- each sentence is. Words before the first -DOCSTART- are a document of their own.
 * Refused with file and line: no tag, a tag of another form, I-X that does not continue X, bytes that are no UTF-8, a zero
 * byte, an unknown tag when the label set is fixed.
 * Threads: free of state. Limits: below. */
#ifndef CONCORDAT_NODE_MODEL_NOTES_H
#define CONCORDAT_NODE_MODEL_NOTES_H

#include <stdbool.h>

#include "node/model/words.h"

#define MODEL_NOTES_BYTES_MAX    ((size_t)1 << 30)
#define MODEL_NOTES_WORD_MAX     1024u  /* bytes */
#define MODEL_NOTES_SENTENCE_MAX 65536u /* words */
#define MODEL_NOTES_LABELS_MAX   1024u

struct model_notes {
    char *text; /* all words, each with a terminating zero */
    size_t text_len;
    uint32_t words;
    uint32_t *word_at; /* words: where in text */
    uint16_t *tag;     /* words: number in the label set */
    uint32_t sentences;
    uint32_t *sentence_at; /* sentences + 1: first word */
    uint32_t *unit;        /* sentences: 0 .. units - 1 */
    uint32_t units;
};

/* LABELS is in and out: with ADD_LABELS new tags join it in order of appearance ("O" first), else they are errors.
 * NAME stands before the line in errors. ret_notes is set on success only; model_notes_fini.
 * Errors: E_INVALID, E_LIMIT, E_NO_MEMORY. On failure LABELS may have grown. */
MUST_CHECK enum err model_notes_read(struct span bytes, const char *name,
                                     struct model_words *labels, bool add_labels,
                                     struct model_notes *ret_notes, struct err_info *reterr);
void model_notes_fini(struct model_notes *notes);

/* O, B-TYPE or I-TYPE with a type that is not empty. */
bool model_tag_valid(struct span tag);

#endif
