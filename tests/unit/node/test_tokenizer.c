/* The tokenizer against known answers, its errors, and the alignment of tags. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "node/model/folder.h"
#include "node/model/tokenizer.h"
#include "tests/lib/vectors.h"

static struct model_tokenizer *open_golden(void)
{
    struct model_tokenizer *t = NULL;
    struct err_info info = {0};
    if (model_tokenizer_open(vectors_path("bert"), &t, &info)) {
        fail_msg("%s", info.text);
    }
    return t;
}

/* The same vocabulary as a tokenizer.json. */
static struct model_tokenizer *by_json(const struct model_tokenizer *from, bool lower)
{
    const struct model_words *pieces = model_tokenizer_pieces(from);
    json_t *vocabulary = json_object();
    for (uint32_t id = pieces->count; id > 0; id--) {
        json_object_set_new(vocabulary, model_words_get(pieces, id - 1), json_integer(id - 1));
    }
    json_t *root =
        json_pack("{s:{s:s,s:b,s:n,s:b,s:b},s:{s:s},s:{s:s,s:s,s:s,s:i,s:o}}", "normalizer", "type",
                  "BertNormalizer", "clean_text", 1, "strip_accents", "handle_chinese_chars", 1,
                  "lowercase", lower, "pre_tokenizer", "type", "BertPreTokenizer", "model", "type",
                  "WordPiece", "unk_token", "[UNK]", "continuing_subword_prefix", "##",
                  "max_input_chars_per_word", 100, "vocab", vocabulary);
    assert_non_null(root);
    char *text = json_dumps(root, 0);
    struct model_tokenizer *t = NULL;
    struct err_info info = {0};
    if (model_tokenizer_json(span_str(text), &t, &info)) {
        fail_msg("%s", info.text);
    }
    free(text);
    json_decref(root);
    return t;
}

static void check_line(const struct model_tokenizer *t, const json_t *line, unsigned number)
{
    uint32_t ids[4096];
    size_t count = 0;
    struct err_info info = {0};
    const json_t *text = json_object_get(line, "text"), *want = json_object_get(line, "ids");
    if (model_tokenizer_text(t, span_of(json_string_value(text), json_string_length(text)), ids,
                             4096, &count, &info)) {
        fail_msg("line %u: %s", number, info.text);
    }
    if (count != json_array_size(want)) {
        fail_msg("line %u: %zu pieces, expected %zu", number, count, json_array_size(want));
    }
    for (size_t i = 0; i < count; i++) {
        if (ids[i] != json_integer_value(json_array_get(want, i))) {
            fail_msg("line %u, piece %zu: %s", number, i,
                     model_words_get(model_tokenizer_pieces(t), ids[i]));
        }
    }
}

static void golden_lines(void **state)
{
    (void)state;
    struct model_tokenizer *a = open_golden(), *b = by_json(a, true);
    FILE *file = fopen(vectors_path("bert/tokenizer.jsonl"), "r");
    assert_non_null(file);
    unsigned number = 0;
    json_t *line;
    while ((line = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL))) {
        number++;
        check_line(a, line, number);
        check_line(b, line, number);
        json_decref(line);
    }
    assert_int_equal(number, 300);
    fclose(file);
    model_tokenizer_close(a);
    model_tokenizer_close(b);
}

static void check_sentence(const struct model_tokenizer *t, const json_t *labels,
                           const json_t *test)
{
    const json_t *words = json_object_get(test, "words"), *tags = json_object_get(test, "tags");
    const json_t *ids = json_object_get(test, "input_ids"), *want = json_object_get(test, "labels");
    const json_t *first = json_object_get(test, "first_piece");
    const char *text[512];
    uint16_t tag[512];
    size_t count = json_array_size(words);
    assert_in_range(count, 1, 512);
    for (size_t w = 0; w < count; w++) {
        text[w] = json_string_value(json_array_get(words, w));
        for (tag[w] = 0; tag[w] < json_array_size(labels); tag[w]++) {
            if (json_equal(json_array_get(labels, tag[w]), json_array_get(tags, w))) {
                break;
            }
        }
    }
    struct model_pieces p = {0};
    assert_int_equal(model_tokenizer_sentence(t, text, tag, count, 512, &p, NULL), E_OK);
    assert_int_equal(p.count, json_array_size(ids));
    assert_int_equal(p.words_kept, count);
    assert_int_equal(json_array_size(first), count);
    for (size_t i = 0; i < p.count; i++) {
        assert_int_equal(p.ids[i], json_integer_value(json_array_get(ids, i)));
        assert_int_equal(p.labels[i], json_integer_value(json_array_get(want, i)));
    }
    for (size_t w = 0; w < count; w++) {
        assert_int_equal(p.first_piece[w], json_integer_value(json_array_get(first, w)));
    }
    size_t whole = p.count;
    model_pieces_fini(&p);
    /* Cut: whole words only, and [SEP] still ends it. */
    assert_int_equal(model_tokenizer_sentence(t, text, tag, count, whole - 1, &p, NULL), E_OK);
    assert_in_range(p.count, 2, whole - 1);
    assert_int_equal(p.words_kept, count - 1);
    assert_int_equal(p.first_piece[count - 1], MODEL_WORDS_NONE);
    assert_int_equal(p.ids[p.count - 1], model_tokenizer_special(t).sep);
    model_pieces_fini(&p);
}

static void golden_alignment(void **state)
{
    (void)state;
    struct model_tokenizer *t = open_golden();
    json_t *root = vectors_json("bert/alignment.json");
    const json_t *all = json_object_get(root, "sentences");
    assert_int_equal(json_array_size(all), 30);
    for (size_t i = 0; i < json_array_size(all); i++) {
        check_sentence(t, json_object_get(root, "label_list"), json_array_get(all, i));
    }
    json_decref(root);
    model_tokenizer_close(t);
}

static const char tiny[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\nCaf\xc3\xa9\ncafe\nab\n##c\n##cd\n,\n\xe4\xb8\xad\n";

static void pieces_are(const char *text, struct model_tokenizer_options options, const char *want)
{
    struct model_tokenizer *t = NULL;
    uint32_t ids[32];
    size_t count = 0;
    char got[256] = "";
    assert_int_equal(model_tokenizer_vocabulary(span_str(tiny), &options, &t, NULL), E_OK);
    assert_int_equal(model_tokenizer_text(t, span_str(text), ids, 32, &count, NULL), E_OK);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(got);
        snprintf(got + len, sizeof got - len, "%s%s", len ? " " : "",
                 model_words_get(model_tokenizer_pieces(t), ids[i]));
    }
    assert_string_equal(got, want);
    model_tokenizer_close(t);
}

static void cased_and_uncased(void **state)
{
    (void)state;
    struct model_tokenizer_options short_words = MODEL_TOKENIZER_UNCASED;
    short_words.max_word = 4;
    pieces_are("Caf\xc3\xa9,abcd", MODEL_TOKENIZER_UNCASED, "cafe , ab ##cd");
    pieces_are("Caf\xc3\xa9,abcd", MODEL_TOKENIZER_CASED, "Caf\xc3\xa9 , ab ##cd");
    pieces_are("cAFE ab\xe4\xb8\xad"
               "ab [PAD]",
               MODEL_TOKENIZER_CASED, "[UNK] ab \xe4\xb8\xad ab [UNK] [UNK] [UNK]");
    pieces_are("abcc abccc abx", short_words, "ab ##c ##c [UNK] [UNK]");
    pieces_are(" \t\xe2\x80\x8b\n", MODEL_TOKENIZER_UNCASED, "");
}

static void refuses_vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err err;
    } cases[] = {
        {"", E_SCHEMA},
        {"[PAD]\n[UNK]\n[CLS]\n", E_SCHEMA},
        {"[PAD]\n[UNK]\n\n[CLS]\n[SEP]\n", E_INVALID},
        {"[PAD]\n[UNK]\n[UNK]\n[CLS]\n[SEP]\n", E_INVALID},
        {"[PAD]\n[UNK]\n\xff\n[CLS]\n[SEP]\n", E_INVALID},
    };
    struct model_tokenizer *t = NULL;
    struct model_tokenizer_options options = MODEL_TOKENIZER_UNCASED;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(model_tokenizer_vocabulary(span_str(cases[i].text), &options, &t, NULL),
                         cases[i].err);
    }
    for (uint64_t n = 1; n <= 4; n++) {
        proto_alloc_fail_at(n);
        assert_int_equal(model_tokenizer_vocabulary(span_str(tiny), &options, &t, NULL),
                         E_NO_MEMORY);
        proto_alloc_fail_at(0);
    }
    assert_null(t);
    assert_int_equal(model_tokenizer_open("/nonexistent", &t, NULL), E_NOT_FOUND);
}

#define JSON_HEAD                                                                                  \
    "{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"                   \
    "\"BertPreTokenizer\"},\"model\":"

static void refuses_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err err;
    } cases[] = {
        {"", E_INVALID},
        {"{}", E_UNSUPPORTED},
        {JSON_HEAD "{\"type\":\"BPE\",\"vocab\":{}}}", E_UNSUPPORTED},
        {JSON_HEAD "{\"type\":\"WordPiece\",\"vocab\":{}}}", E_INVALID},
        {JSON_HEAD "{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}}", E_INVALID},
        {JSON_HEAD "{\"type\":\"WordPiece\",\"vocab\":{\"a\":0,\"b\":0}}}", E_INVALID},
        {JSON_HEAD "{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", E_SCHEMA},
        {JSON_HEAD "{\"type\":\"WordPiece\",\"max_input_chars_per_word\":0,\"vocab\":{\"a\":0}}}",
         E_LIMIT},
        {JSON_HEAD
         "{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"@@\",\"vocab\":{\"a\":0}}}",
         E_UNSUPPORTED},
    };
    struct model_tokenizer *t = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(model_tokenizer_json(span_str(cases[i].text), &t, NULL), cases[i].err);
    }
    assert_null(t);
}

static void refuses_texts(void **state)
{
    (void)state;
    struct model_tokenizer *t = NULL;
    struct model_tokenizer_options options = MODEL_TOKENIZER_UNCASED;
    struct model_pieces p = {0};
    uint32_t ids[2];
    size_t count = 77;
    const char *words[] = {"ab", "a\xff"};
    assert_int_equal(model_tokenizer_vocabulary(span_str(tiny), &options, &t, NULL), E_OK);
    assert_int_equal(model_tokenizer_text(t, span_str("ab \xc3"), ids, 2, &count, NULL), E_INVALID);
    assert_int_equal(model_tokenizer_text(t, span_str("ab ab ab"), ids, 2, &count, NULL), E_LIMIT);
    assert_int_equal(count, 77);
    assert_int_equal(model_tokenizer_sentence(t, words, NULL, 2, 2, &p, NULL), E_USAGE);
    assert_int_equal(model_tokenizer_sentence(t, words, NULL, 2, 9, &p, NULL), E_INVALID);
    assert_null(p.ids);
    model_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_lines),      cmocka_unit_test(golden_alignment),
        cmocka_unit_test(cased_and_uncased), cmocka_unit_test(refuses_vocabularies),
        cmocka_unit_test(refuses_json),      cmocka_unit_test(refuses_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
