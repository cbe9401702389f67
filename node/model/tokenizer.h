/* WordPiece as BERT publishes it: text to numbers of pieces, and the tags of words to the labels of pieces.
 *
 *     struct model_tokenizer *tokenizer = NULL;
 *     err = model_tokenizer_open("bert-tiny-biomed", &tokenizer, reterr);   // vocab.txt, else tokenizer.json
 *     err = model_tokenizer_text(tokenizer, text, ids, capacity, &count, reterr);          // without [CLS] and [SEP]
 *     err = model_tokenizer_sentence(tokenizer, words, tags, count, 512, &pieces, reterr); // with them and with labels
 *     model_tokenizer_close(tokenizer);
 *
 * Normaliser: drops NUL, U+FFFD and control characters (Cc, Cf) but tab, LF, CR; Zs, tab, LF, CR are spaces; spaces around CJK
 * ideographs; lower case (uncased), then NFD without Mn (when accents are stripped, as uncased models do unless told
 * otherwise). Then every ASCII mark and every P* character is a word of its own, U+2028 and U+2029 separate too. Each word
 * is cut greedily into the longest pieces, later ones with "##"; a word of more than max_word characters or one that cannot
 * be cut is [UNK]. "[MASK]" in a text is ordinary text.
 * Without canonical reordering: characters that are left after Mn is dropped keep their order, which differs from full NFD
 * only for two or more successive Mc or Me marks of different combining classes.
 * Tested against tests/vectors/bert/tokenizer.jsonl and alignment.json.
 * Threads: after open, any number may use it. Limits: below. */
#ifndef CONCORDAT_NODE_MODEL_TOKENIZER_H
#define CONCORDAT_NODE_MODEL_TOKENIZER_H

#include <stdbool.h>

#include "node/model/words.h"

#define MODEL_VOCABULARY_MAX       1000000u
#define MODEL_VOCABULARY_BYTES_MAX ((size_t)64 << 20)
#define MODEL_PIECE_MAX            512u              /* bytes */
#define MODEL_TEXT_MAX             ((size_t)1 << 20) /* bytes in one call */
#define MODEL_WORD_CHARACTERS_MAX  1000u
#define MODEL_LABEL_NONE           (-100) /* a piece without a label, as in PyTorch */

struct model_tokenizer_options {
    bool lower_case;
    bool strip_accents;
    bool chinese;      /* spaces around CJK ideographs */
    uint32_t max_word; /* characters; longer words are [UNK] */
};
#define MODEL_TOKENIZER_UNCASED ((struct model_tokenizer_options){true, true, true, 100})
#define MODEL_TOKENIZER_CASED   ((struct model_tokenizer_options){false, false, true, 100})

struct model_tokenizer;

/* From the bytes of vocab.txt (the line is the number) or of tokenizer.json (BertNormalizer, BertPreTokenizer, WordPiece).
 * Errors: E_INVALID with line or key; E_UNSUPPORTED another tokenizer's parts; E_SCHEMA [UNK], [CLS], [SEP] or [PAD] is
 * missing; E_LIMIT; E_NO_MEMORY. ret is set on success only; model_tokenizer_close. */
MUST_CHECK enum err model_tokenizer_vocabulary(struct span bytes,
                                               const struct model_tokenizer_options *options,
                                               struct model_tokenizer **ret,
                                               struct err_info *reterr);
MUST_CHECK enum err model_tokenizer_json(struct span bytes, struct model_tokenizer **ret,
                                         struct err_info *reterr);
/* Options from the bytes of tokenizer_config.json. On failure RET is unchanged. Errors: E_INVALID. */
MUST_CHECK enum err model_tokenizer_options_json(struct span bytes,
                                                 struct model_tokenizer_options *ret,
                                                 struct err_info *reterr);
/* From a folder: vocab.txt with the options of tokenizer_config.json when there is one (else uncased); without vocab.txt
 * tokenizer.json. Errors: those above, E_NOT_FOUND, E_IO; E_UNSUPPORTED a folder with byte-level BPE. */
MUST_CHECK enum err model_tokenizer_open(const char *folder, struct model_tokenizer **ret,
                                         struct err_info *reterr);
void model_tokenizer_close(struct model_tokenizer *tokenizer);

const struct model_words *model_tokenizer_pieces(const struct model_tokenizer *tokenizer);
struct model_tokenizer_special {
    uint32_t unk, cls, sep, pad;
    uint32_t mask; /* MODEL_WORDS_NONE when the vocabulary has none */
};
struct model_tokenizer_special model_tokenizer_special(const struct model_tokenizer *tokenizer);

/* The pieces of a TEXT. Errors: E_INVALID not UTF-8; E_LIMIT more than MODEL_TEXT_MAX bytes or CAPACITY pieces; E_NO_MEMORY.
 * ret_count is set on success only. */
MUST_CHECK enum err model_tokenizer_text(const struct model_tokenizer *tokenizer, struct span text,
                                         uint32_t *ids, size_t capacity, size_t *ret_count,
                                         struct err_info *reterr);

/* A sentence ready for the encoder. All arrays have `count` entries but first_piece, which has one for each word. */
struct model_pieces {
    size_t count;
    uint32_t *ids;
    int32_t *labels;       /* tag of the word on its first piece, MODEL_LABEL_NONE elsewhere */
    uint32_t *first_piece; /* MODEL_WORDS_NONE: the word was cut off or has no piece at all */
    size_t words_kept;     /* words before the cut, those without a piece among them */
};
/* [CLS] pieces [SEP], at most MAX pieces (>= 3); the first word that does not fit whole and all after it are left out.
 * tags  COUNT numbers, or NULL: no labels.
 * Errors: those of _text; E_USAGE MAX too small. ret is set on success only; model_pieces_fini. */
MUST_CHECK enum err model_tokenizer_sentence(const struct model_tokenizer *tokenizer,
                                             const char *const *words, const uint16_t *tags,
                                             size_t count, size_t max, struct model_pieces *ret,
                                             struct err_info *reterr);
void model_pieces_fini(struct model_pieces *pieces);

#endif
