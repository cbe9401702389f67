/* Annotated notes: a token and its tag a line, an empty line behind each sentence (CoNLL 2003, IOB), streaming, packed or not.
 *
 *     const char *const names[] = {"sex"};
 *     err = store_reader_conll_open("train.tsv", names, 1, &source, reterr);       header: tokens, tags, document, sex
 *
 * A row is a sentence: its tokens and its tags, each joined by single blanks, and its document. The token is a line's first
 * column and the tag its last; columns are separated by tabs, or by blanks in a line without tabs. A document begins with a
 * line `-DOCSTART- ID`, `# doc_id = ID` or `# newdoc id = ID`; without an ID it gets its number. Sentences in front of the
 * first such line are documents of their own, named by their line. A line `# NAME = VALUE` of a NAME that was asked for, in
 * front of a sentence, says something of it and of what follows in its document. Other lines that begin with `# ` and have no
 * tab are comments. A sentence is faulty, by its first line, when a line has no tag, a token holds a blank, or for zero bytes,
 * invalid UTF-8 and what exceeds the limits.
 * Threads: one. Limits: STORE_CONLL_*. */
#ifndef CONCORDAT_STORE_READER_CONLL_H
#define CONCORDAT_STORE_READER_CONLL_H

#include "store/source.h"

#define STORE_CONLL_LINE_MAX     ((size_t)16 << 10)
#define STORE_CONLL_SENTENCE_MAX ((size_t)64 << 10) /* bytes of the tokens, and of the tags */
#define STORE_CONLL_DOCUMENT_MAX 128
#define STORE_CONLL_VALUE_MAX    256 /* bytes of what a line says of its document */

/* NAMES are borrowed until the source is freed; tokens, tags and document among them are no further columns.
 * Errors: E_NOT_FOUND; E_IO, E_NO_MEMORY; those of store_stream_open. */
MUST_CHECK enum err store_reader_conll_open(const char *path, const char *const *names,
                                            size_t count, struct store_source **ret,
                                            struct err_info *reterr);
/* The same over BYTES, which are borrowed until the source is freed; what tests and the fuzzer use. */
MUST_CHECK enum err store_reader_conll_bytes(struct span bytes, const char *const *names,
                                             size_t count, struct store_source **ret,
                                             struct err_info *reterr);

#endif
