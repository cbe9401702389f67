#include "config.h"
#include "node/model/tokenizer.h"

#include <jansson.h>
#include <utf8proc.h>

#include "node/model/folder.h"
#include "proto/codec.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
/* A character becomes at most 4 by canonical decomposition (and 1 more by lower case). */
#define DECOMPOSED_MAX 8

struct model_tokenizer {
    struct model_words pieces;
    size_t longest; /* bytes of the longest piece */
    struct model_tokenizer_options options;
    struct model_tokenizer_special special;
};

/* --- vocabularies -------------------------------------------------------------------------------------- */

static enum err add_piece(struct model_tokenizer *t, struct span piece, uint64_t place,
                          struct err_info *reterr)
{
    uint32_t id = 0;
    uint32_t before = t->pieces.count;
    if (piece.len == 0 || piece.len > MODEL_PIECE_MAX || !proto_utf8_valid(piece)) {
        return proto_err_set(reterr, E_INVALID,
                             "vocabulary: piece %llu is empty, too long or no UTF-8",
                             (unsigned long long)place);
    }
    enum err err = model_words_add(&t->pieces, piece, &id);
    if (err) {
        return proto_err_set(reterr, err, "vocabulary: piece %llu: %s", (unsigned long long)place,
                             proto_err_text(err));
    }
    if (id != before) {
        return proto_err_set(reterr, E_INVALID, "vocabulary: piece %llu stands there twice",
                             (unsigned long long)place);
    }
    t->longest = piece.len > t->longest ? piece.len : t->longest;
    return E_OK;
}

static enum err find_special(struct model_tokenizer *t, const char *unk, struct err_info *reterr)
{
    t->special.unk = model_words_find(&t->pieces, span_str(unk));
    t->special.cls = model_words_find(&t->pieces, span_str("[CLS]"));
    t->special.sep = model_words_find(&t->pieces, span_str("[SEP]"));
    t->special.pad = model_words_find(&t->pieces, span_str("[PAD]"));
    t->special.mask = model_words_find(&t->pieces, span_str("[MASK]"));
    if (t->special.unk == MODEL_WORDS_NONE || t->special.cls == MODEL_WORDS_NONE ||
        t->special.sep == MODEL_WORDS_NONE || t->special.pad == MODEL_WORDS_NONE) {
        return proto_err_set(reterr, E_SCHEMA,
                             "vocabulary: [UNK], [CLS], [SEP] or [PAD] is missing");
    }
    return E_OK;
}

static struct model_tokenizer *new_tokenizer(const struct model_tokenizer_options *options)
{
    struct model_tokenizer *t = proto_alloc(1, sizeof *t);
    if (t) {
        t->options = *options;
        t->pieces.max = MODEL_VOCABULARY_MAX;
    }
    return t;
}

enum err model_tokenizer_vocabulary(struct span bytes,
                                    const struct model_tokenizer_options *options,
                                    struct model_tokenizer **ret, struct err_info *reterr)
{
    if (bytes.len > MODEL_VOCABULARY_BYTES_MAX || options->max_word > MODEL_WORD_CHARACTERS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "vocabulary: too large");
    }
    struct model_tokenizer *t = new_tokenizer(options);
    enum err err = t ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "vocabulary: no memory");
    uint64_t line = 0;
    for (size_t at = 0; !err && at < bytes.len;) {
        const uint8_t *end = memchr(bytes.ptr + at, '\n', bytes.len - at);
        size_t len = end ? (size_t)(end - (bytes.ptr + at)) : bytes.len - at;
        struct span piece = span_of(bytes.ptr + at, len);
        if (piece.len > 0 && piece.ptr[piece.len - 1] == '\r') {
            piece.len--;
        }
        err = add_piece(t, piece, ++line, reterr);
        at += len + 1;
    }
    err = err ? err : find_special(t, "[UNK]", reterr);
    if (err) {
        model_tokenizer_close(t);
        return err;
    }
    *ret = t;
    return E_OK;
}

static enum err unsupported(struct err_info *reterr, const char *what)
{
    return proto_err_set(reterr, E_UNSUPPORTED, "tokenizer.json: %s", what);
}

/* An optional boolean: absent or null is OTHERWISE. */
static enum err json_flag(const json_t *object, const char *key, bool otherwise, bool *ret,
                          struct err_info *reterr)
{
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value) && !json_is_boolean(value)) {
        return proto_err_set(reterr, E_INVALID, "tokenizer: %s is neither true nor false", key);
    }
    *ret = value && json_is_boolean(value) ? json_is_true(value) : otherwise;
    return E_OK;
}

static bool json_is(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && strcmp(value, text) == 0;
}

static enum err json_options(const json_t *root, struct model_tokenizer_options *ret,
                             struct err_info *reterr)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *model = json_object_get(root, "model");
    const json_t *max_word = json_object_get(model, "max_input_chars_per_word");
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    bool clean = true;
    if (!json_is(model, "type", "WordPiece")) {
        return unsupported(reterr, "its model is no WordPiece");
    }
    if (!json_is(json_object_get(root, "pre_tokenizer"), "type", "BertPreTokenizer")) {
        return unsupported(reterr, "its pre-tokenizer is no BertPreTokenizer");
    }
    if (!json_is(normalizer, "type", "BertNormalizer")) {
        return unsupported(reterr, "its normalizer is no BertNormalizer");
    }
    if (prefix && !json_is(model, "continuing_subword_prefix", "##")) {
        return unsupported(reterr, "its continuing prefix is not ##");
    }
    ret->max_word = 100;
    if (max_word) {
        json_int_t n = json_is_integer(max_word) ? json_integer_value(max_word) : 0;
        if (n < 1 || n > MODEL_WORD_CHARACTERS_MAX) {
            return proto_err_set(reterr, E_LIMIT,
                                 "tokenizer.json: max_input_chars_per_word is not 1 to %u",
                                 MODEL_WORD_CHARACTERS_MAX);
        }
        ret->max_word = (uint32_t)n;
    }
    enum err err = json_flag(normalizer, "lowercase", true, &ret->lower_case, reterr);
    err =
        err ? err
            : json_flag(normalizer, "strip_accents", ret->lower_case, &ret->strip_accents, reterr);
    err = err ? err : json_flag(normalizer, "handle_chinese_chars", true, &ret->chinese, reterr);
    err = err ? err : json_flag(normalizer, "clean_text", true, &clean, reterr);
    return !err && !clean ? unsupported(reterr, "clean_text is false") : err;
}

/* The pieces by number: each from 0 to the size less one exactly once. */
static enum err json_pieces(struct model_tokenizer *t, json_t *vocabulary, struct err_info *reterr)
{
    const char *piece;
    json_t *number;
    size_t count = json_object_size(vocabulary);
    if (!json_is_object(vocabulary) || count == 0 || count > MODEL_VOCABULARY_MAX) {
        return proto_err_set(reterr, E_INVALID, "tokenizer.json: no vocabulary, or one too large");
    }
    const char **by_id = proto_alloc(count, sizeof *by_id);
    if (!by_id) {
        return proto_err_set(reterr, E_NO_MEMORY, "tokenizer.json: no memory");
    }
    enum err err = E_OK;
    json_object_foreach(vocabulary, piece, number)
    {
        json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
        if (id < 0 || (size_t)id >= count || by_id[id]) {
            err = proto_err_set(reterr, E_INVALID,
                                "tokenizer.json: the pieces' numbers are not 0 to %zu, each once",
                                count - 1);
            break;
        }
        by_id[id] = piece;
    }
    for (size_t id = 0; !err && id < count; id++) {
        err = add_piece(t, span_str(by_id[id]), id, reterr);
    }
    proto_free(by_id);
    return err;
}

static enum err json_tokenizer(json_t *root, struct model_tokenizer **ret, struct err_info *reterr)
{
    struct model_tokenizer_options options = {0};
    enum err err = json_options(root, &options, reterr);
    if (err) {
        return err;
    }
    json_t *model = json_object_get(root, "model");
    const char *unk = json_string_value(json_object_get(model, "unk_token"));
    struct model_tokenizer *t = new_tokenizer(&options);
    err = t ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "tokenizer.json: no memory");
    err = err ? err : json_pieces(t, json_object_get(model, "vocab"), reterr);
    err = err ? err : find_special(t, unk ? unk : "[UNK]", reterr);
    if (err) {
        model_tokenizer_close(t);
        return err;
    }
    *ret = t;
    return E_OK;
}

enum err model_tokenizer_json(struct span bytes, struct model_tokenizer **ret,
                              struct err_info *reterr)
{
    json_error_t why;
    if (bytes.len > MODEL_VOCABULARY_BYTES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "tokenizer.json: too large");
    }
    json_t *root = json_loadb((const char *)bytes.ptr, bytes.len, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        return proto_err_set(reterr, E_INVALID, "tokenizer.json:%d: %.100s", why.line, why.text);
    }
    enum err err = json_tokenizer(root, ret, reterr);
    json_decref(root);
    return err;
}

enum err model_tokenizer_options_json(struct span bytes, struct model_tokenizer_options *ret,
                                      struct err_info *reterr)
{
    json_error_t why;
    struct model_tokenizer_options read = MODEL_TOKENIZER_UNCASED;
    json_t *root = json_loadb((const char *)bytes.ptr, bytes.len, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(root)) {
        proto_err_set(reterr, E_INVALID, "tokenizer_config.json:%d: %.100s", why.line,
                      root ? "no object" : why.text);
        json_decref(root);
        return E_INVALID;
    }
    enum err err = json_flag(root, "do_lower_case", true, &read.lower_case, reterr);
    err =
        err ? err : json_flag(root, "strip_accents", read.lower_case, &read.strip_accents, reterr);
    err = err ? err : json_flag(root, "tokenize_chinese_chars", true, &read.chinese, reterr);
    json_decref(root);
    if (!err) {
        *ret = read;
    }
    return err;
}

static enum err folder_options(const char *folder, struct model_tokenizer_options *ret,
                               struct err_info *reterr)
{
    struct buf buf = {.max = CONFIG_BYTES_MAX};
    struct err_info missing = {0};
    *ret = MODEL_TOKENIZER_UNCASED;
    enum err err = model_folder_read(folder, "tokenizer_config.json", &buf, &missing);
    if (err) {
        err = err == E_NOT_FOUND ? E_OK : proto_err_set(reterr, err, "%s", missing.text);
    } else {
        err = model_tokenizer_options_json(buf_span(&buf), ret, reterr);
    }
    buf_fini(&buf);
    return err;
}

/* Byte-level BPE keeps its merges in a file of their own. */
static bool has_merges(const char *folder)
{
    struct buf buf = {.max = 1};
    enum err err = model_folder_read(folder, "merges.txt", &buf, NULL);
    buf_fini(&buf);
    return err != E_NOT_FOUND;
}

enum err model_tokenizer_open(const char *folder, struct model_tokenizer **ret,
                              struct err_info *reterr)
{
    struct buf buf = {.max = MODEL_VOCABULARY_BYTES_MAX};
    struct model_tokenizer_options options;
    enum err err = model_folder_read(folder, "vocab.txt", &buf, reterr);
    if (!err) {
        err = folder_options(folder, &options, reterr);
        err = err ? err : model_tokenizer_vocabulary(buf_span(&buf), &options, ret, reterr);
    } else if (err == E_NOT_FOUND) {
        err = model_folder_read(folder, "tokenizer.json", &buf, reterr);
        if (err == E_NOT_FOUND && has_merges(folder)) {
            err =
                proto_err_set(reterr, E_UNSUPPORTED,
                              "%.300s: its tokenizer is byte-level BPE (merges.txt); this version "
                              "reads WordPiece only",
                              folder);
        }
        err = err ? err : model_tokenizer_json(buf_span(&buf), ret, reterr);
    }
    buf_fini(&buf);
    return err;
}

void model_tokenizer_close(struct model_tokenizer *tokenizer)
{
    if (tokenizer) {
        model_words_fini(&tokenizer->pieces);
        proto_free(tokenizer);
    }
}

const struct model_words *model_tokenizer_pieces(const struct model_tokenizer *tokenizer)
{
    return &tokenizer->pieces;
}

struct model_tokenizer_special model_tokenizer_special(const struct model_tokenizer *tokenizer)
{
    return tokenizer->special;
}

/* --- normaliser ---------------------------------------------------------------------------------------- */

static bool is_space(int32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0x2028 || c == 0x2029 ||
           utf8proc_category(c) == UTF8PROC_CATEGORY_ZS;
}

static bool is_dropped(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r') {
        return false;
    }
    utf8proc_category_t category = utf8proc_category(c);
    return c == 0 || c == 0xfffd || category == UTF8PROC_CATEGORY_CC ||
           category == UTF8PROC_CATEGORY_CF;
}

/* The blocks that BERT treats as ideographs, from its published description; kana and hangul are not among them. */
static bool is_ideograph(int32_t c)
{
    static const int32_t blocks[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df},
                                        {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b820, 0x2ceaf},
                                        {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (c >= blocks[i][0] && c <= blocks[i][1]) {
            return true;
        }
    }
    return false;
}

static bool is_punctuation(int32_t c)
{
    if ((c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
        (c >= '{' && c <= '~')) {
        return true;
    }
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

/* What character C becomes, at TO (DECOMPOSED_MAX of room); returns how many. */
static size_t normalise(const struct model_tokenizer_options *options, int32_t c, int32_t *to)
{
    int32_t lower[2] = {c, 0};
    size_t lowered = 1, count = 0;
    if (options->lower_case && c == 0x130) {
        /* The one character whose lower case is two. */
        lower[0] = 'i';
        lower[1] = 0x307;
        lowered = 2;
    } else if (options->lower_case) {
        lower[0] = utf8proc_tolower(c);
    }
    for (size_t i = 0; i < lowered; i++) {
        if (!options->strip_accents) {
            to[count++] = lower[i];
            continue;
        }
        int32_t parts[DECOMPOSED_MAX / 2];
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char(
            lower[i], parts, DECOMPOSED_MAX / 2, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (n < 0 || n > DECOMPOSED_MAX / 2) {
            parts[0] = lower[i];
            n = 1;
        }
        for (utf8proc_ssize_t j = 0; j < n; j++) {
            if (utf8proc_category(parts[j]) != UTF8PROC_CATEGORY_MN) {
                to[count++] = parts[j];
            }
        }
    }
    return count;
}

/* --- pieces -------------------------------------------------------------------------------------------- */

/* The work of one text. The word being read is kept as UTF-8 with "##" in front, which later pieces need. */
struct work {
    const struct model_tokenizer *t;
    uint8_t *word; /* 2 + 4 * max_word bytes */
    size_t len;    /* bytes after the "##" */
    size_t characters;
    uint32_t *ids;
    size_t capacity, count;
};

static enum err emit(struct work *w, uint32_t id)
{
    if (w->count >= w->capacity) {
        return E_LIMIT;
    }
    w->ids[w->count++] = id;
    return E_OK;
}

/* The longest piece at FROM; its length, or 0. */
static size_t longest_piece(const struct work *w, size_t from, uint32_t *ret_id)
{
    uint8_t saved[2] = {0, 0};
    uint8_t *start = w->word + 2 + from;
    size_t prefix = from > 0 ? 2 : 0;
    size_t len = w->len - from;
    len =
        len + prefix > w->t->longest ? (w->t->longest > prefix ? w->t->longest - prefix : 0) : len;
    memcpy(saved, start - 2, 2);
    memcpy(start - 2, "##", 2);
    for (; len > 0; len--) {
        /* Cut only between characters. */
        if (from + len < w->len && (start[len] & 0xc0) == 0x80) {
            continue;
        }
        *ret_id = model_words_find(&w->t->pieces, span_of(start - prefix, len + prefix));
        if (*ret_id != MODEL_WORDS_NONE) {
            break;
        }
    }
    memcpy(start - 2, saved, 2);
    return len;
}

static enum err end_word(struct work *w)
{
    size_t before = w->count;
    enum err err = E_OK;
    if (w->characters == 0) {
        return E_OK;
    }
    bool whole = w->characters <= w->t->options.max_word;
    for (size_t from = 0; whole && !err && from < w->len;) {
        uint32_t id = 0;
        size_t len = longest_piece(w, from, &id);
        whole = len > 0;
        err = whole ? emit(w, id) : E_OK;
        from += len;
    }
    w->len = 0;
    w->characters = 0;
    if (!err && !whole) {
        w->count = before;
        err = emit(w, w->t->special.unk);
    }
    return err;
}

static void add_character(struct work *w, int32_t c)
{
    w->characters++;
    if (w->characters <= w->t->options.max_word) {
        w->len += (size_t)utf8proc_encode_char(c, w->word + 2 + w->len);
    }
}

static enum err take(struct work *w, int32_t c)
{
    if (is_space(c)) {
        return end_word(w);
    }
    if (!is_punctuation(c)) {
        add_character(w, c);
        return E_OK;
    }
    enum err err = end_word(w);
    add_character(w, c);
    return err ? err : end_word(w);
}

static enum err take_raw(struct work *w, int32_t c)
{
    int32_t parts[DECOMPOSED_MAX];
    if (is_dropped(c)) {
        return E_OK;
    }
    if (is_space(c)) {
        return end_word(w);
    }
    bool alone = w->t->options.chinese && is_ideograph(c);
    enum err err = alone ? end_word(w) : E_OK;
    size_t count = normalise(&w->t->options, c, parts);
    for (size_t i = 0; !err && i < count; i++) {
        err = take(w, parts[i]);
    }
    return err || !alone ? err : end_word(w);
}

enum err model_tokenizer_text(const struct model_tokenizer *tokenizer, struct span text,
                              uint32_t *ids, size_t capacity, size_t *ret_count,
                              struct err_info *reterr)
{
    struct work w = {.t = tokenizer, .ids = ids, .capacity = capacity};
    if (text.len > MODEL_TEXT_MAX) {
        return proto_err_set(reterr, E_LIMIT, "tokenizer: more than %zu bytes of text",
                             MODEL_TEXT_MAX);
    }
    w.word = proto_alloc(2 + 4 * ((size_t)tokenizer->options.max_word + 1), 1);
    if (!w.word) {
        return proto_err_set(reterr, E_NO_MEMORY, "tokenizer: no memory");
    }
    enum err err = E_OK;
    for (size_t at = 0; !err && at < text.len;) {
        int32_t c = 0;
        utf8proc_ssize_t n = utf8proc_iterate(text.ptr + at, (utf8proc_ssize_t)(text.len - at), &c);
        if (n <= 0) {
            err = proto_err_set(reterr, E_INVALID, "tokenizer: the text is no UTF-8");
            break;
        }
        at += (size_t)n;
        err = take_raw(&w, c);
    }
    err = err ? err : end_word(&w);
    proto_free(w.word);
    if (err == E_LIMIT) {
        return proto_err_set(reterr, err, "tokenizer: more than %zu pieces", capacity);
    }
    if (!err) {
        *ret_count = w.count;
    }
    return err;
}

/* --- sentences ----------------------------------------------------------------------------------------- */

static enum err add_words(const struct model_tokenizer *t, const char *const *words,
                          const uint16_t *tags, size_t count, size_t max, struct model_pieces *p,
                          struct err_info *reterr)
{
    for (size_t w = 0; w < count; w++) {
        size_t n = 0;
        enum err err = model_tokenizer_text(t, span_str(words[w]), p->ids + p->count,
                                            max - 1 - p->count, &n, reterr);
        if (err == E_LIMIT) {
            return E_OK;
        }
        if (err) {
            return err;
        }
        if (n > 0) {
            p->first_piece[w] = (uint32_t)p->count;
            p->labels[p->count] = tags ? tags[w] : MODEL_LABEL_NONE;
        }
        p->count += n;
        p->words_kept = w + 1;
    }
    return E_OK;
}

enum err model_tokenizer_sentence(const struct model_tokenizer *tokenizer, const char *const *words,
                                  const uint16_t *tags, size_t count, size_t max,
                                  struct model_pieces *ret, struct err_info *reterr)
{
    if (max < 3) {
        return proto_err_set(reterr, E_USAGE, "tokenizer: a sentence needs room for 3 pieces");
    }
    struct model_pieces p = {0};
    p.ids = proto_alloc(max, sizeof *p.ids);
    p.labels = proto_alloc(max, sizeof *p.labels);
    p.first_piece = proto_alloc(count + 1, sizeof *p.first_piece);
    if (!p.ids || !p.labels || !p.first_piece) {
        model_pieces_fini(&p);
        return proto_err_set(reterr, E_NO_MEMORY, "tokenizer: no memory");
    }
    for (size_t i = 0; i < max; i++) {
        p.labels[i] = MODEL_LABEL_NONE;
    }
    for (size_t w = 0; w < count; w++) {
        p.first_piece[w] = MODEL_WORDS_NONE;
    }
    p.ids[p.count++] = tokenizer->special.cls;
    enum err err = add_words(tokenizer, words, tags, count, max, &p, reterr);
    if (err) {
        model_pieces_fini(&p);
        return err;
    }
    p.ids[p.count++] = tokenizer->special.sep;
    *ret = p;
    return E_OK;
}

void model_pieces_fini(struct model_pieces *pieces)
{
    proto_free(pieces->ids);
    proto_free(pieces->labels);
    proto_free(pieces->first_piece);
    *pieces = (struct model_pieces){0};
}
