#include "config.h"
#include "node/model/corpus.h"

#include <stdlib.h>
#include <string.h>

/* Growing arrays while the corpus is filled; the view's arrays are made once, by seal. */
struct filling {
    uint32_t *pieces, *piece_at; /* of all words, words + 1 */
    int32_t *tags;               /* words */
    uint32_t *word_at;           /* sentences + 1 */
    uint32_t *unit;              /* sentences: the caller's number */
    int32_t *label;              /* sentences */
    size_t piece_count, words, sentences;
    size_t pieces_cap, words_cap, tags_cap, sentences_cap, units_cap, labels_cap;
};

struct model_corpus {
    const struct model_tokenizer *tokenizer;
    enum model_task task;
    size_t longest, stride;
    struct filling filling;
    struct model_corpus_view view;
    uint32_t *numbers; /* units: the caller's */
    /* Owned arrays of the view. */
    uint32_t *window_at, *row_at, *ids, *sentence_unit, *order, *word_at, *word_row;
    int32_t *labels, *word_tag;
};

enum err model_corpus_new(const struct model_tokenizer *tokenizer, enum model_task task,
                          size_t longest, size_t stride, struct model_corpus **ret)
{
    if (longest < 8 || longest > MODEL_POSITIONS_MAX || stride > (longest - 2) / 2) {
        return E_USAGE;
    }
    struct model_corpus *corpus = proto_alloc(1, sizeof *corpus);
    if (!corpus) {
        return E_NO_MEMORY;
    }
    corpus->tokenizer = tokenizer;
    corpus->task = task;
    corpus->longest = longest;
    corpus->stride = stride;
    *ret = corpus;
    return E_OK;
}

static void filling_fini(struct filling *f)
{
    proto_free(f->pieces);
    proto_free(f->piece_at);
    proto_free(f->tags);
    proto_free(f->word_at);
    proto_free(f->unit);
    proto_free(f->label);
    *f = (struct filling){0};
}

void model_corpus_free(struct model_corpus *corpus)
{
    if (corpus) {
        filling_fini(&corpus->filling);
        proto_free(corpus->numbers);
        proto_free(corpus->window_at);
        proto_free(corpus->row_at);
        proto_free(corpus->ids);
        proto_free(corpus->sentence_unit);
        proto_free(corpus->order);
        proto_free(corpus->word_at);
        proto_free(corpus->word_row);
        proto_free(corpus->labels);
        proto_free(corpus->word_tag);
        proto_free(corpus);
    }
}

/* --- filling ------------------------------------------------------------------------------------------- */

/* Room for MORE elements after COUNT in *ARRAY. */
static bool room(void **array, size_t *cap, size_t count, size_t more, size_t size)
{
    if (count + more <= *cap) {
        return true;
    }
    size_t grown = (count + more) * 2 + 64;
    void *p = proto_realloc(*array, grown, size);
    if (p) {
        *array = p;
        *cap = grown;
    }
    return p != NULL;
}

#define ROOM(array, cap, count, more)                                                              \
    room((void **)&(array), &(cap), (count), (more), sizeof *(array))

/* Pieces of TEXT as the next word, uncounted until the sentence is whole. */
static enum err add_word(struct model_corpus *corpus, size_t word, size_t *pieces, struct span text,
                         int32_t tag, struct err_info *reterr)
{
    struct filling *f = &corpus->filling;
    /* A decomposed character has fewer pieces than bytes but for a few marks of music. */
    size_t most = text.len + 16, count = 0;
    if (f->piece_count + *pieces + most > MODEL_CORPUS_ROWS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "corpus: more than %zu pieces of text",
                             MODEL_CORPUS_ROWS_MAX);
    }
    if (!ROOM(f->pieces, f->pieces_cap, f->piece_count + *pieces, most) ||
        !ROOM(f->piece_at, f->words_cap, f->words + word, 2) ||
        !ROOM(f->tags, f->tags_cap, f->words + word, 1)) {
        return proto_err_set(reterr, E_NO_MEMORY, "corpus: no memory");
    }
    enum err err = model_tokenizer_text(corpus->tokenizer, text,
                                        f->pieces + f->piece_count + *pieces, most, &count, reterr);
    if (!err) {
        f->piece_at[f->words + word] = (uint32_t)(f->piece_count + *pieces);
        f->tags[f->words + word] = tag;
        *pieces += count;
    }
    return err;
}

static enum err end_sentence(struct model_corpus *corpus, uint32_t unit, int32_t label,
                             size_t words, size_t pieces, struct err_info *reterr)
{
    struct filling *f = &corpus->filling;
    if (!ROOM(f->word_at, f->sentences_cap, f->sentences, 2) ||
        !ROOM(f->unit, f->units_cap, f->sentences, 1) ||
        !ROOM(f->label, f->labels_cap, f->sentences, 1) ||
        !ROOM(f->piece_at, f->words_cap, f->words + words, 1)) {
        return proto_err_set(reterr, E_NO_MEMORY, "corpus: no memory");
    }
    f->word_at[f->sentences] = (uint32_t)f->words;
    f->unit[f->sentences] = unit;
    f->label[f->sentences] = label;
    f->piece_count += pieces;
    f->words += words;
    f->sentences++;
    f->word_at[f->sentences] = (uint32_t)f->words;
    f->piece_at[f->words] = (uint32_t)f->piece_count;
    return E_OK;
}

enum err model_corpus_words(struct model_corpus *corpus, uint32_t unit, const char *const *words,
                            const uint16_t *tags, size_t count, struct err_info *reterr)
{
    enum err err = E_OK;
    size_t pieces = 0;
    for (size_t w = 0; !err && w < count; w++) {
        err = add_word(corpus, w, &pieces, span_str(words[w]), tags ? tags[w] : MODEL_LABEL_NONE,
                       reterr);
    }
    return err ? err : end_sentence(corpus, unit, MODEL_LABEL_NONE, count, pieces, reterr);
}

static bool white(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

enum err model_corpus_text(struct model_corpus *corpus, uint32_t unit, struct span text,
                           int32_t label, struct err_info *reterr)
{
    enum err err = E_OK;
    size_t pieces = 0, words = 0;
    if (corpus->task != MODEL_TASK_TOKENS) {
        err = add_word(corpus, words++, &pieces, text, MODEL_LABEL_NONE, reterr);
        return err ? err : end_sentence(corpus, unit, label, words, pieces, reterr);
    }
    for (size_t at = 0; !err && at < text.len;) {
        size_t from = at;
        while (at < text.len && !white(text.ptr[at])) {
            at++;
        }
        if (at > from) {
            err = add_word(corpus, words++, &pieces, span_of(text.ptr + from, at - from),
                           MODEL_LABEL_NONE, reterr);
        }
        at += at < text.len;
    }
    return err ? err : end_sentence(corpus, unit, label, words, pieces, reterr);
}

enum err model_corpus_notes(struct model_corpus *corpus, const struct model_notes *notes,
                            uint32_t first_unit, struct err_info *reterr)
{
    const char **words = NULL;
    size_t cap = 0;
    enum err err = E_OK;
    for (uint32_t s = 0; !err && s < notes->sentences; s++) {
        uint32_t from = notes->sentence_at[s], count = notes->sentence_at[s + 1] - from;
        if (!ROOM(words, cap, 0, count)) {
            err = proto_err_set(reterr, E_NO_MEMORY, "corpus: no memory");
            break;
        }
        for (uint32_t w = 0; w < count; w++) {
            words[w] = notes->text + notes->word_at[from + w];
        }
        err = model_corpus_words(corpus, first_unit + notes->unit[s], words, notes->tag + from,
                                 count, reterr);
    }
    proto_free(words);
    return err;
}

/* --- sealing ------------------------------------------------------------------------------------------- */

/* What seal is making: counted in a first pass with OUT NULL, filled in a second. */
struct cutter {
    struct model_corpus *out;
    const struct model_corpus *corpus;
    size_t windows, rows;
};

static void put_row(struct cutter *c, uint32_t id, int32_t label)
{
    if (c->out) {
        c->out->ids[c->rows] = id;
        if (c->corpus->task == MODEL_TASK_TOKENS) {
            c->out->labels[c->rows] = label;
        }
    }
    c->rows++;
}

static void open_window(struct cutter *c)
{
    put_row(c, model_tokenizer_special(c->corpus->tokenizer).cls, MODEL_LABEL_NONE);
}

static void close_window(struct cutter *c, int32_t label)
{
    put_row(c, model_tokenizer_special(c->corpus->tokenizer).sep, MODEL_LABEL_NONE);
    c->windows++;
    if (c->out) {
        c->out->row_at[c->windows] = (uint32_t)c->rows;
        if (c->corpus->task == MODEL_TASK_SEQUENCE) {
            c->out->labels[c->windows - 1] = label;
        }
    }
}

static size_t word_pieces(const struct model_corpus *corpus, size_t word)
{
    size_t count = corpus->filling.piece_at[word + 1] - corpus->filling.piece_at[word];
    return count > corpus->longest - 2 ? corpus->longest - 2 : count;
}

/* Words [FROM, TO) as one window; those in [own_from, own_to) are labelled here. SHIFT: from a filled word's number to that in
 * the order of units. */
static void cut_words(struct cutter *c, size_t from, size_t to, size_t own_from, size_t own_to,
                      size_t shift)
{
    const struct filling *f = &c->corpus->filling;
    open_window(c);
    for (size_t w = from; w < to; w++) {
        bool own = w >= own_from && w < own_to;
        size_t count = word_pieces(c->corpus, w);
        if (own && count > 0 && c->out) {
            c->out->word_row[w + shift] = (uint32_t)c->rows;
        }
        for (size_t i = 0; i < count; i++) {
            put_row(c, f->pieces[f->piece_at[w] + i],
                    own && i == 0 ? f->tags[w] : MODEL_LABEL_NONE);
        }
    }
    close_window(c, MODEL_LABEL_NONE);
}

/* Where the next window starts so that it repeats at most STRIDE pieces of what ends before word END; after FROM. */
static size_t step_back(const struct model_corpus *corpus, size_t from, size_t end)
{
    size_t repeated = 0, next = end;
    while (next > from + 1 && repeated + word_pieces(corpus, next - 1) <= corpus->stride) {
        repeated += word_pieces(corpus, --next);
    }
    return next;
}

/* The first word of [FROM, TO) that begins in the second half of their pieces. */
static size_t middle(const struct model_corpus *corpus, size_t from, size_t to)
{
    size_t all = 0, before = 0;
    for (size_t w = from; w < to; w++) {
        all += word_pieces(corpus, w);
    }
    while (from < to && 2 * before < all) {
        before += word_pieces(corpus, from++);
    }
    return from;
}

static void cut_tokens(struct cutter *c, size_t from, size_t words_end, size_t shift)
{
    const struct model_corpus *corpus = c->corpus;
    size_t own_from = from;
    while (from < words_end) {
        size_t end = from, pieces = 0;
        while (end < words_end && pieces + word_pieces(corpus, end) <= corpus->longest - 2) {
            pieces += word_pieces(corpus, end++);
        }
        size_t next = end < words_end ? step_back(corpus, from, end) : words_end;
        size_t own_to = end < words_end ? middle(corpus, next, end) : words_end;
        cut_words(c, from, end, own_from, own_to, shift);
        own_from = own_to;
        from = next;
    }
}

/* Pieces alone matter: the first window for sequences, all for masked LM. */
static void cut_pieces(struct cutter *c, size_t first_word, size_t words_end, int32_t label)
{
    const struct filling *f = &c->corpus->filling;
    size_t at = f->piece_at[first_word], end = f->piece_at[words_end];
    do {
        open_window(c);
        for (size_t i = 0; i < c->corpus->longest - 2 && at < end; i++) {
            put_row(c, f->pieces[at++], MODEL_LABEL_NONE);
        }
        close_window(c, label);
    } while (c->corpus->task == MODEL_TASK_MASKED && at < end);
}

static void cut_sentence(struct cutter *c, size_t sentence, size_t shift)
{
    const struct filling *f = &c->corpus->filling;
    if (c->corpus->task == MODEL_TASK_TOKENS) {
        cut_tokens(c, f->word_at[sentence], f->word_at[sentence + 1], shift);
    } else if (c->corpus->task == MODEL_TASK_SEQUENCE ||
               f->piece_at[f->word_at[sentence]] < f->piece_at[f->word_at[sentence + 1]]) {
        cut_pieces(c, f->word_at[sentence], f->word_at[sentence + 1], f->label[sentence]);
    }
}

struct place {
    uint32_t unit, sentence;
};

static int by_unit(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->unit != b->unit) {
        return a->unit < b->unit ? -1 : 1;
    }
    return a->sentence < b->sentence ? -1 : 1;
}

static enum err make_arrays(struct model_corpus *c, size_t windows, size_t rows)
{
    const struct filling *f = &c->filling;
    size_t labels = c->task == MODEL_TASK_TOKENS     ? rows
                    : c->task == MODEL_TASK_SEQUENCE ? windows
                                                     : 0;
    c->numbers = proto_alloc(f->sentences + 1, sizeof *c->numbers);
    c->window_at = proto_alloc(f->sentences + 2, sizeof *c->window_at);
    c->row_at = proto_alloc(windows + 1, sizeof *c->row_at);
    c->ids = proto_alloc(rows + 1, sizeof *c->ids);
    c->labels = proto_alloc(labels + 1, sizeof *c->labels);
    c->sentence_unit = proto_alloc(f->sentences + 1, sizeof *c->sentence_unit);
    c->order = proto_alloc(f->sentences + 1, sizeof *c->order);
    c->word_at = proto_alloc(f->sentences + 1, sizeof *c->word_at);
    c->word_row = proto_alloc(f->words + 1, sizeof *c->word_row);
    c->word_tag = proto_alloc(f->words + 1, sizeof *c->word_tag);
    bool all = c->numbers && c->window_at && c->row_at && c->ids && c->labels && c->sentence_unit &&
               c->order && c->word_at && c->word_row && c->word_tag;
    for (size_t w = 0; all && w < f->words; w++) {
        c->word_row[w] = MODEL_WORDS_NONE;
    }
    return all ? E_OK : E_NO_MEMORY;
}

/* The second pass: sentences in the order of PLACES. */
static void fill(struct model_corpus *c, const struct place *places)
{
    const struct filling *f = &c->filling;
    struct cutter cutter = {.out = c, .corpus = c};
    uint32_t units = 0, words = 0;
    for (uint32_t i = 0; i < f->sentences; i++) {
        uint32_t s = places[i].sentence, from = f->word_at[s], count = f->word_at[s + 1] - from;
        if (i == 0 || places[i].unit != places[i - 1].unit) {
            c->numbers[units] = places[i].unit;
            c->window_at[units++] = (uint32_t)cutter.windows;
        }
        c->sentence_unit[i] = units - 1;
        c->order[i] = s;
        c->word_at[i] = words;
        memcpy(c->word_tag + words, f->tags + from, count * sizeof *c->word_tag);
        cut_sentence(&cutter, s, (size_t)words - from);
        words += count;
    }
    c->word_at[f->sentences] = words;
    c->window_at[units] = (uint32_t)cutter.windows;
    c->view = (struct model_corpus_view){.units = units,
                                         .windows = (uint32_t)cutter.windows,
                                         .sentences = (uint32_t)f->sentences,
                                         .window_at = c->window_at,
                                         .row_at = c->row_at,
                                         .ids = c->ids,
                                         .labels = c->task == MODEL_TASK_MASKED ? NULL : c->labels,
                                         .sentence_unit = c->sentence_unit,
                                         .order = c->order,
                                         .word_at = c->word_at,
                                         .word_row = c->word_row,
                                         .word_tag = c->word_tag};
}

enum err model_corpus_seal(struct model_corpus *corpus, struct err_info *reterr)
{
    struct filling *f = &corpus->filling;
    struct place *places = proto_alloc(f->sentences + 1, sizeof *places);
    struct cutter counter = {.corpus = corpus};
    for (uint32_t s = 0; places && s < f->sentences; s++) {
        places[s] = (struct place){f->unit[s], s};
        cut_sentence(&counter, s, 0);
    }
    enum err err = places ? make_arrays(corpus, counter.windows, counter.rows) : E_NO_MEMORY;
    if (!err && counter.rows > UINT32_MAX) {
        err = E_LIMIT;
    }
    if (err) {
        proto_free(places);
        return proto_err_set(reterr, err, "corpus: no memory for %zu pieces", counter.rows);
    }
    qsort(places, f->sentences, sizeof *places, by_unit);
    fill(corpus, places);
    proto_free(places);
    filling_fini(f);
    return E_OK;
}

uint32_t model_corpus_units(const struct model_corpus *corpus)
{
    return corpus->view.units;
}

uint32_t model_corpus_unit_number(const struct model_corpus *corpus, uint32_t unit)
{
    return unit < corpus->view.units ? corpus->numbers[unit] : MODEL_WORDS_NONE;
}

const struct model_corpus_view *model_corpus_view(const struct model_corpus *corpus)
{
    return &corpus->view;
}
