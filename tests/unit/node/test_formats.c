/* What is written for other tools: cards, event files, curves, eight-bit and pruned weights. ONNX: tests/proc/export_onnx.py. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "node/model/card.h"
#include "node/model/curve.h"
#include "node/model/events.h"
#include "node/model/quantise.h"

static char *text_of(struct buf *buf)
{
    assert_int_equal(buf_put(buf, span_of((const uint8_t *)"", 1)), E_OK);
    return (char *)buf->ptr;
}

/* RFC 3720, appendix B.4. */
static void crc_of_the_rfc(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(model_crc32c(span_of(bytes, 32)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(model_crc32c(span_of(bytes, 32)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(model_crc32c(span_of(bytes, 32)), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(model_crc32c(span_of(bytes, 32)), 0x113fdb5c);
    assert_int_equal(model_crc32c(span_str("123456789")), 0xe3069283);
}

static uint64_t le(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    for (size_t i = size; i > 0; i--) {
        v = v << 8 | p[i - 1];
    }
    return v;
}

static uint32_t unmask(uint32_t masked)
{
    uint32_t rotated = masked - 0xa282ead8u;
    return rotated >> 17 | rotated << 15;
}

static void event_files(void **state)
{
    (void)state;
    struct buf buf = {.max = 4096};
    assert_int_equal(model_events_begin(&buf, 1700000000.5), E_OK);
    size_t second = buf.len;
    assert_int_equal(model_events_scalar(&buf, 1700000001, 300, "eval/f1", 0.5), E_OK);
    assert_int_equal(model_events_scalar(&buf, 1700000001, 300, "", 0.5), E_INVALID);
    size_t events = 0;
    for (size_t at = 0; at < buf.len; events++) {
        uint64_t len = le(buf.ptr + at, 8);
        assert_int_equal(unmask((uint32_t)le(buf.ptr + at + 8, 4)),
                         model_crc32c(span_of(buf.ptr + at, 8)));
        assert_int_equal(unmask((uint32_t)le(buf.ptr + at + 12 + len, 4)),
                         model_crc32c(span_of(buf.ptr + at + 12, (size_t)len)));
        at += 16 + (size_t)len;
        assert_in_range(at, 1, buf.len);
    }
    assert_int_equal(events, 2);
    /* The second message by hand: wall_time, step 300, summary of one value. */
    static const uint8_t want[] = {0x09, 0,    0,    0x40, 0x40, 0xfc, 0x54, 0xd9, 0x41, 0x10,
                                   0xac, 0x02, 0x2a, 0x10, 0x0a, 0x0e, 0x0a, 0x07, 'e',  'v',
                                   'a',  'l',  '/',  'f',  '1',  0x15, 0,    0,    0,    0x3f};
    assert_int_equal(le(buf.ptr + second, 8), sizeof want);
    assert_memory_equal(buf.ptr + second + 12, want, sizeof want);
    buf_fini(&buf);
}

static void curves(void **state)
{
    (void)state;
    static const double loss[] = {0.9, 0.5, NAN, 0.3, NAN, 0.25},
                        around[] = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1},
                        f1[] = {0.1, 0.4, 0.5, 0.6, 0.6, 0.7};
    static const struct model_curve both[] = {{"loss <&>", loss, around}, {"F1", f1, NULL}};
    struct buf buf = {.max = 1 << 16};
    assert_int_equal(model_curves_svg("a \"job\"", "round", both, 2, 6, &buf), E_OK);
    char *svg = text_of(&buf);
    assert_non_null(strstr(svg, "a &quot;job&quot;"));
    assert_non_null(strstr(svg, "loss &lt;&amp;&gt;"));
    size_t lines = 0, bands = 0, circles = 0;
    for (char *at = svg; (at = strstr(at, "<poly")); at++) {
        lines += strncmp(at, "<polyline", 9) == 0;
        bands += strncmp(at, "<polygon", 8) == 0;
    }
    for (char *at = svg; (at = strstr(at, "<circle")); at++) {
        circles++;
    }
    /* The loss has gaps: three pieces, two of them single points; F1 is one. */
    assert_int_equal(lines, 4);
    assert_int_equal(bands, 3);
    assert_int_equal(circles, 2);
    assert_null(strstr(svg, "nan"));
    assert_int_equal(model_curves_svg("", "", both, 0, 6, &buf), E_USAGE);
    buf_fini(&buf);
}

static void cards(void **state)
{
    (void)state;
    static const char *const labels[] = {"O", "B-Disease"}, *const duties[] = {"attribution\n# no"};
    static const struct model_card_metric metrics[] = {{"Disease F1", "f1", 0.6153, 0.02},
                                                       {"micro F1", "f1", 0.6153, 0}};
    static const struct model_card_site sites[] = {{"org|a", 3.5, 8}, {"org-b", NAN, 7}};
    struct model_card card = {.name = "a \"name\": *bold*",
                              .licence = "CC-BY-4.0",
                              .task = "token-classification",
                              .base = "bert-tiny-biomed",
                              .dataset = "notes",
                              .labels = labels,
                              .label_count = 2,
                              .rounds = 8,
                              .sites = sites,
                              .site_count = 2,
                              .epsilon = 4,
                              .delta = 1e-5,
                              .unit = "patient",
                              .clip = 1,
                              .metrics = metrics,
                              .metric_count = 2,
                              .report = "precision recall\n```\n0.5 0.6",
                              .obligations = duties,
                              .obligation_count = 1};
    struct buf buf = {.max = 1 << 16};
    assert_int_equal(model_card_write(&card, &buf), E_OK);
    char *text = text_of(&buf);
    static const char *const parts[] = {
        "---\nlicense: \"cc-by-4.0\"\n",
        "base_model: \"bert-tiny-biomed\"\n",
        "- name: \"a \\\"name\\\": *bold*\"\n",
        "- {type: \"f1\", name: \"Disease F1\", value: 0.6153}\n",
        "# a \"name\": \\*bold\\*\n",
        "- Labels: O, B-Disease\n",
        "| org\\|a | 8 | 3.500 |\n| org-b | 7 | none |\n",
        "(4.000, 1e-05) at each site, for adding or removing one patient",
        "| Disease F1 | 0.6153 | +- 0.0200 |\n",
        "    precision recall\n    ```\n    0.5 0.6\n",
        "- Duty: attribution \\# no\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strstr(text, parts[i])) {
            fail_msg("the card lacks %s in %s", parts[i], text);
        }
    }
    buf.len = 0;
    card.licence = "CC-BY-4.0 AND (MIT OR Apache-2.0)";
    card.epsilon = NAN;
    assert_int_equal(model_card_write(&card, &buf), E_OK);
    text = text_of(&buf);
    assert_non_null(strstr(text, "license: \"other\"\nlicense_name: \"CC-BY-4.0 AND"));
    assert_non_null(strstr(text, "no privacy guarantee"));
    buf_fini(&buf);
}

static struct model_encoder *encoder(void)
{
    struct model_shape shape = {.vocabulary = 30,
                                .hidden = 16,
                                .layers = 2,
                                .heads = 2,
                                .inner = 24,
                                .positions = 8,
                                .types = 2,
                                .layer_norm_eps = 1e-12,
                                .labels = 3};
    struct model_encoder *e = NULL;
    assert_int_equal(model_encoder_new(&shape, 1, &e, NULL), E_OK);
    for (size_t i = 0; i < e->weight_count; i++) {
        e->weights[i] = (real)sin((double)(i * i % 1009));
    }
    return e;
}

/* Within half a step of each row's scale, and stable: a second time changes nothing. */
static void eight_bits(void **state)
{
    (void)state;
    struct model_encoder *before = encoder(), *e = encoder(), *again = encoder();
    assert_int_equal(model_encoder_quantise(e, NULL), E_OK);
    assert_int_equal(model_encoder_quantise(again, NULL), E_OK);
    assert_int_equal(model_encoder_quantise(again, NULL), E_OK);
    for (size_t t = 0; t < e->tensor_count; t++) {
        const struct model_tensor *tensor = &e->tensors[t];
        for (size_t r = 0; r < tensor->rows; r++) {
            const real *a = before->weights + tensor->at + r * tensor->cols;
            const real *b = e->weights + tensor->at + r * tensor->cols;
            const real *c = again->weights + tensor->at + r * tensor->cols;
            double largest = 0;
            for (size_t j = 0; j < tensor->cols; j++) {
                largest = fmax(largest, fabs((double)a[j]));
            }
            for (size_t j = 0; j < tensor->cols; j++) {
                double off = fabs((double)(a[j] - b[j]));
                assert_true(model_quantised(e, t) ? off <= largest / 254 * 1.0001 : off == 0);
                assert_true(fabs((double)(b[j] - c[j])) <= 1e-6 * largest);
            }
        }
    }
    model_encoder_close(before);
    model_encoder_close(e);
    model_encoder_close(again);
}

static void pruning(void **state)
{
    (void)state;
    struct model_encoder *before = encoder(), *e = encoder();
    assert_int_equal(model_encoder_prune(e, 1, NULL), E_USAGE);
    assert_int_equal(model_encoder_prune(e, 0.3, NULL), E_OK);
    for (size_t t = 0; t < e->tensor_count; t++) {
        const struct model_tensor *tensor = &e->tensors[t];
        size_t n = tensor->rows * tensor->cols, zeros = 0;
        double kept = INFINITY, lost = 0;
        for (size_t i = 0; i < n; i++) {
            double a = fabs((double)before->weights[tensor->at + i]);
            bool zero = e->weights[tensor->at + i] == 0;
            zeros += zero;
            lost = zero ? fmax(lost, a) : lost;
            kept = zero ? kept : fmin(kept, a);
        }
        bool pruned = t >= 5 && t < e->head && tensor->rows > 1;
        assert_true(lost <= kept);
        assert_true(!pruned || zeros == (size_t)floor(0.3 * (double)n));
        assert_true(pruned || memcmp(e->weights + tensor->at, before->weights + tensor->at,
                                     n * sizeof(real)) == 0);
    }
    model_encoder_close(before);
    model_encoder_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_the_rfc), cmocka_unit_test(event_files), cmocka_unit_test(curves),
        cmocka_unit_test(cards),          cmocka_unit_test(eight_bits),  cmocka_unit_test(pruning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
