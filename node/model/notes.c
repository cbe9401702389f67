#include "config.h"
#include "node/model/notes.h"

#include "proto/codec.h"

struct reader {
    struct model_notes *notes;
    struct model_words *labels;
    bool add_labels;
    struct model_words units; /* names given by -DOCSTART- */
    uint32_t *named_unit;     /* number of each name */
    uint32_t named_cap;
    bool documents; /* a -DOCSTART- was seen */
    bool unit_open; /* the current document has its number */
    uint32_t name;  /* of the current document, or MODEL_WORDS_NONE */
    uint32_t current_unit;
    size_t text_cap;
    uint32_t words_cap, tags_cap, sentences_cap, units_cap;
    const char *file;
    uint64_t line;
    struct err_info *reterr;
};

static enum err fail(struct reader *r, enum err code, const char *why)
{
    return proto_err_set(r->reterr, code, "%.200s:%llu: %s", r->file, (unsigned long long)r->line,
                         why);
}

static bool blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

bool model_tag_valid(struct span tag)
{
    if (span_is(tag, "O")) {
        return true;
    }
    return tag.len > 2 && (tag.ptr[0] == 'B' || tag.ptr[0] == 'I') && tag.ptr[1] == '-';
}

/* ARRAY with room for one more element of SIZE bytes after COUNT; NULL when out of memory, then ARRAY is as it was. */
static void *room(void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap) {
        return array;
    }
    uint32_t more = *cap * 2 + 64;
    void *grown = more > *cap ? proto_realloc(array, more, size) : NULL;
    *cap = grown ? more : *cap;
    return grown;
}

static bool sentence_empty(const struct model_notes *n)
{
    return n->sentence_at[n->sentences] == n->words;
}

static enum err end_sentence(struct reader *r)
{
    struct model_notes *n = r->notes;
    if (sentence_empty(n)) {
        return E_OK;
    }
    if (!r->unit_open) {
        /* Only now, so that a document without words counts nothing. */
        uint32_t *named = r->name != MODEL_WORDS_NONE ? &r->named_unit[r->name] : NULL;
        r->current_unit = named && *named != MODEL_WORDS_NONE ? *named : n->units++;
        if (named) {
            *named = r->current_unit;
        }
        r->unit_open = r->documents;
    }
    uint32_t *unit = room(n->unit, n->sentences, &r->units_cap, sizeof *n->unit);
    n->unit = unit ? unit : n->unit;
    uint32_t *at =
        room(n->sentence_at, n->sentences + 1, &r->sentences_cap, sizeof *n->sentence_at);
    n->sentence_at = at ? at : n->sentence_at;
    if (!unit || !at) {
        return fail(r, E_NO_MEMORY, "no memory");
    }
    n->unit[n->sentences++] = r->current_unit;
    n->sentence_at[n->sentences] = n->words;
    return E_OK;
}

static enum err begin_document(struct reader *r, struct span second)
{
    enum err err = end_sentence(r);
    if (err) {
        return err;
    }
    if (!r->documents && r->notes->units > 0) {
        /* What came before the first mark is one document. */
        for (uint32_t s = 0; s < r->notes->sentences; s++) {
            r->notes->unit[s] = 0;
        }
        r->notes->units = 1;
    }
    r->documents = true;
    r->unit_open = false;
    r->name = MODEL_WORDS_NONE;
    if (second.len == 0 || span_is(second, "-X-") || span_is(second, "O")) {
        return E_OK;
    }
    uint32_t id = 0, before = r->units.count;
    err = model_words_add(&r->units, second, &id);
    if (err) {
        return fail(r, err, "the name of the unit cannot be kept");
    }
    if (id == before) {
        uint32_t *named = room(r->named_unit, id, &r->named_cap, sizeof *r->named_unit);
        if (!named) {
            return fail(r, E_NO_MEMORY, "no memory");
        }
        r->named_unit = named;
        r->named_unit[id] = MODEL_WORDS_NONE;
    }
    r->name = id;
    return E_OK;
}

/* I-X must follow B-X or I-X of the same sentence. */
static bool continues(const struct reader *r, struct span tag)
{
    const struct model_notes *n = r->notes;
    if (tag.ptr[0] != 'I' || tag.len == 1) {
        return true;
    }
    if (sentence_empty(n)) {
        return false;
    }
    const char *before = model_words_get(r->labels, n->tag[n->words - 1]);
    struct span type = span_of(tag.ptr + 2, tag.len - 2);
    return before[0] != 'O' && span_equal(span_str(before + 2), type);
}

static enum err take_tag(struct reader *r, struct span tag, uint16_t *ret_tag)
{
    if (!model_tag_valid(tag)) {
        return fail(r, E_INVALID, "the last column is no tag: O, B-TYPE or I-TYPE");
    }
    uint32_t id = model_words_find(r->labels, tag);
    if (id == MODEL_WORDS_NONE && !r->add_labels) {
        return fail(r, E_INVALID, "the tag is not in the label set");
    }
    if (id == MODEL_WORDS_NONE && r->labels->count >= MODEL_NOTES_LABELS_MAX) {
        return fail(r, E_LIMIT, "too many different tags");
    }
    if (!continues(r, tag)) {
        return fail(r, E_INVALID, "an I- tag does not continue an entity of its type");
    }
    enum err err = model_words_add(r->labels, tag, &id);
    if (err) {
        return fail(r, err, "the tag cannot be kept");
    }
    *ret_tag = (uint16_t)id;
    return E_OK;
}

static enum err take_word(struct reader *r, struct span word, struct span tag)
{
    struct model_notes *n = r->notes;
    uint16_t id = 0;
    if (word.len > MODEL_NOTES_WORD_MAX) {
        return fail(r, E_LIMIT, "the word is too long");
    }
    if (n->words - n->sentence_at[n->sentences] >= MODEL_NOTES_SENTENCE_MAX) {
        return fail(r, E_LIMIT, "the sentence is too long");
    }
    enum err err = take_tag(r, tag, &id);
    if (err) {
        return err;
    }
    if (r->text_cap - n->text_len < word.len + 1) {
        size_t cap = r->text_cap * 2 + MODEL_NOTES_WORD_MAX + 1;
        char *text = proto_realloc(n->text, cap, 1);
        if (!text) {
            return fail(r, E_NO_MEMORY, "no memory");
        }
        n->text = text;
        r->text_cap = cap;
    }
    uint32_t *word_at = room(n->word_at, n->words, &r->words_cap, sizeof *n->word_at);
    n->word_at = word_at ? word_at : n->word_at;
    uint16_t *tags = room(n->tag, n->words, &r->tags_cap, sizeof *n->tag);
    n->tag = tags ? tags : n->tag;
    if (!word_at || !tags) {
        return fail(r, E_NO_MEMORY, "no memory");
    }
    memcpy(n->text + n->text_len, word.ptr, word.len);
    n->text[n->text_len + word.len] = 0;
    n->word_at[n->words] = (uint32_t)n->text_len;
    n->text_len += word.len + 1;
    n->tag[n->words++] = id;
    return E_OK;
}

static struct span column(struct span line, size_t *at)
{
    while (*at < line.len && blank(line.ptr[*at])) {
        (*at)++;
    }
    size_t from = *at;
    while (*at < line.len && !blank(line.ptr[*at])) {
        (*at)++;
    }
    return span_of(line.ptr + from, *at - from);
}

static enum err take_line(struct reader *r, struct span line)
{
    while (line.len > 0 && blank(line.ptr[line.len - 1])) {
        line.len--;
    }
    if (line.len == 0) {
        return end_sentence(r);
    }
    if (memchr(line.ptr, 0, line.len) || !proto_utf8_valid(line)) {
        return fail(r, E_INVALID, "the line is no UTF-8 text");
    }
    size_t at = 0;
    struct span word = column(line, &at);
    size_t second = at;
    if (span_is(word, "-DOCSTART-")) {
        return begin_document(r, column(line, &second));
    }
    struct span tag = SPAN_NONE;
    while (at < line.len) {
        tag = column(line, &at);
    }
    if (tag.len == 0) {
        return fail(r, E_INVALID, "there is no tag");
    }
    return take_word(r, word, tag);
}

enum err model_notes_read(struct span bytes, const char *name, struct model_words *labels,
                          bool add_labels, struct model_notes *ret_notes, struct err_info *reterr)
{
    struct model_notes notes = {0};
    struct reader r = {.notes = &notes,
                       .labels = labels,
                       .add_labels = add_labels,
                       .name = MODEL_WORDS_NONE,
                       .file = name,
                       .reterr = reterr};
    r.units.max = UINT32_MAX >> 2;
    uint32_t id = 0;
    enum err err = E_OK;
    if (bytes.len > MODEL_NOTES_BYTES_MAX) {
        return fail(&r, E_LIMIT, "the file is too large");
    }
    if (add_labels && labels->count == 0) {
        err = model_words_add(labels, span_str("O"), &id);
    }
    notes.sentence_at = room(NULL, 0, &r.sentences_cap, sizeof *notes.sentence_at);
    if (err || !notes.sentence_at) {
        err = fail(&r, E_NO_MEMORY, "no memory");
        goto out;
    }
    notes.sentence_at[0] = 0;
    for (size_t at = 0; !err && at < bytes.len;) {
        const uint8_t *end = memchr(bytes.ptr + at, '\n', bytes.len - at);
        size_t len = end ? (size_t)(end - (bytes.ptr + at)) : bytes.len - at;
        r.line++;
        err = take_line(&r, span_of(bytes.ptr + at, len));
        at += len + 1;
    }
    err = err ? err : end_sentence(&r);
out:
    model_words_fini(&r.units);
    proto_free(r.named_unit);
    if (err) {
        model_notes_fini(&notes);
        return err;
    }
    *ret_notes = notes;
    return E_OK;
}

void model_notes_fini(struct model_notes *notes)
{
    proto_free(notes->text);
    proto_free(notes->word_at);
    proto_free(notes->tag);
    proto_free(notes->sentence_at);
    proto_free(notes->unit);
    *notes = (struct model_notes){0};
}
