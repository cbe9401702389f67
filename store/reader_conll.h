/* Annotated notes: a token and its tag a line, an empty line behind each sentence (CoNLL 2003, IOB), streaming, packed or not.
 *
 *     err = store_reader_conll_open("train.tsv", &source, reterr);       header: tokens, tags, document
 *
 * A row is a sentence: its tokens and its tags, each joined by single blanks, and its document. The token is a line's first
 * column and the tag its last; columns are separated by tabs, or by blanks in a line without tabs. A document begins with a
 * line `-DOCSTART- ID`, `# doc_id = ID` or `# newdoc id = ID`; without an ID it gets its number. Sentences in front of the
 * first such line are documents of their own, named by their line. Other lines that begin with `# ` and have no tab are
 * comments. A sentence is faulty, by its first line, when a line has no tag, a token holds a blank, or for zero bytes,
 * invalid UTF-8 and what exceeds the limits.
 * Threads: one. Limits: STORE_CONLL_*. */
#ifndef CONCORDAT_STORE_READER_CONLL_H
#define CONCORDAT_STORE_READER_CONLL_H

#include "store/source.h"

#define STORE_CONLL_LINE_MAX     ((size_t)16 << 10)
#define STORE_CONLL_SENTENCE_MAX ((size_t)64 << 10) /* bytes of the tokens, and of the tags */
#define STORE_CONLL_DOCUMENT_MAX 128

/* Errors: E_NOT_FOUND; E_IO, E_NO_MEMORY; those of store_stream_open. */
MUST_CHECK enum err store_reader_conll_open(const char *path, struct store_source **ret,
                                            struct err_info *reterr);
/* The same over BYTES, which are borrowed until the source is freed; what tests and the fuzzer use. */
MUST_CHECK enum err store_reader_conll_bytes(struct span bytes, struct store_source **ret,
                                             struct err_info *reterr);

#endif
