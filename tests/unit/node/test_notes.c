/* Notes: what is read, which units come out, and which line is named in an error. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "node/model/notes.h"

static void reads(void **state)
{
    (void)state;
    struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
    struct model_notes n;
    const char *text = "\nAnna\tNNP\tB-PER\r\nBerg I-PER\nhas\tO\n\n\nIHD\tB-Disease";
    assert_int_equal(model_notes_read(span_str(text), "t", &labels, true, &n, NULL), E_OK);
    assert_int_equal(n.words, 4);
    assert_int_equal(n.sentences, 2);
    assert_int_equal(n.sentence_at[1], 3);
    assert_int_equal(n.sentence_at[2], 4);
    assert_string_equal(n.text + n.word_at[1], "Berg");
    assert_string_equal(model_words_get(&labels, n.tag[1]), "I-PER");
    assert_string_equal(model_words_get(&labels, 0), "O");
    assert_int_equal(n.units, 2);
    assert_int_equal(n.unit[1], 1);
    model_notes_fini(&n);
    model_words_fini(&labels);
}

static void units_are_documents_or_patients(void **state)
{
    (void)state;
    struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
    struct model_notes n;
    const char *text =
        "a O\n\nb O\n-DOCSTART- p7\nc O\n\nd O\n-DOCSTART- -X- O\ne O\n\nf O\n-DOCSTART-\tp9\ng O\n"
        "-DOCSTART- p7\nh O\n-DOCSTART-\ni O\n";
    static const uint32_t want[] = {0, 0, 1, 1, 2, 2, 3, 1, 4};
    assert_int_equal(model_notes_read(span_str(text), "t", &labels, true, &n, NULL), E_OK);
    assert_int_equal(n.sentences, 9);
    assert_int_equal(n.units, 5);
    for (size_t s = 0; s < 9; s++) {
        assert_int_equal(n.unit[s], want[s]);
    }
    model_notes_fini(&n);
    model_words_fini(&labels);
}

static void refused(const char *text, size_t len, enum err want, const char *place)
{
    struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
    struct model_notes n;
    struct err_info info = {0};
    assert_int_equal(model_notes_read(span_of(text, len), "train.tsv", &labels, true, &n, &info),
                     want);
    if (strncmp(info.text, place, strlen(place)) != 0) {
        fail_msg("\"%s\" does not start with %s", info.text, place);
    }
    model_words_fini(&labels);
}

static void names_the_line(void **state)
{
    (void)state;
    refused("a O\nb\n", 6, E_INVALID, "train.tsv:2: there is no tag");
    refused("a X\n", 4, E_INVALID, "train.tsv:1: the last column is no tag");
    refused("a B-\n", 5, E_INVALID, "train.tsv:1: ");
    refused("a I-X\n", 6, E_INVALID, "train.tsv:1: an I- tag");
    refused("a B-X\n\nb I-X\n", 13, E_INVALID, "train.tsv:3: an I- tag");
    refused("a B-X\nb I-Y\n", 12, E_INVALID, "train.tsv:2: an I- tag");
    refused("a O\n\xff O\n", 8, E_INVALID, "train.tsv:2: the line is no UTF-8");
    refused("a\0b O\n", 6, E_INVALID, "train.tsv:1: the line is no UTF-8");
    static char word[MODEL_NOTES_WORD_MAX + 4];
    memset(word, 'w', sizeof word);
    memcpy(word + sizeof word - 3, " O\n", 3);
    refused(word, sizeof word, E_LIMIT, "train.tsv:1: the word is too long");
    static char sentence[(MODEL_NOTES_SENTENCE_MAX + 1) * 4];
    for (size_t i = 0; i < sizeof sentence; i += 4) {
        memcpy(sentence + i, "w O\n", 4);
    }
    refused(sentence, sizeof sentence, E_LIMIT, "train.tsv:65537: the sentence is too long");
}

static void fixed_label_sets(void **state)
{
    (void)state;
    struct model_words labels = {.max = 3};
    struct model_notes n;
    struct err_info info = {0};
    uint32_t id = 0;
    assert_int_equal(model_words_add(&labels, span_str("O"), &id), E_OK);
    assert_int_equal(model_words_add(&labels, span_str("B-X"), &id), E_OK);
    assert_int_equal(model_notes_read(span_str("a B-X\nb O\n"), "f", &labels, false, &n, NULL),
                     E_OK);
    assert_int_equal(n.tag[0], 1);
    model_notes_fini(&n);
    assert_int_equal(model_notes_read(span_str("a B-X\nb B-Z\n"), "f", &labels, false, &n, &info),
                     E_INVALID);
    assert_non_null(strstr(info.text, "f:2: the tag is not in the label set"));
    assert_int_equal(labels.count, 2);
    model_words_fini(&labels);
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (uint64_t nth = 1; nth < 100; nth++) {
        struct model_words labels = {.max = MODEL_NOTES_LABELS_MAX};
        struct model_notes n;
        proto_alloc_fail_at(nth);
        enum err err = model_notes_read(span_str("-DOCSTART- p\na B-X\nb I-X\n\nc O\n"), "f",
                                        &labels, true, &n, NULL);
        proto_alloc_fail_at(0);
        assert_true(err == E_OK || err == E_NO_MEMORY);
        model_words_fini(&labels);
        if (!err) {
            model_notes_fini(&n);
            break;
        }
        failed++;
    }
    assert_in_range(failed, 8, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(units_are_documents_or_patients),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(fixed_label_sets),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
