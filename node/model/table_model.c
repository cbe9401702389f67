#include "config.h"
#include "node/model/table_model_internal.h"

#include <math.h>
#include <stdlib.h>

#include "node/model/tabular.h"

#define DOCUMENT_MAX ((size_t)64 << 20)
#define FIELD_MAX    64u /* bytes of a number */

static enum err bad(struct err_info *reterr, const char *key)
{
    return proto_err_set(reterr, E_INVALID,
                         "the model's document: %s is missing or of another kind", key);
}

/* The place of KEY's text in NAMES, or COUNT. */
static size_t choice(const json_t *object, const char *key, const char *const *names, size_t count)
{
    const char *text = json_string_value(json_object_get(object, key));
    size_t i = 0;
    while (i < count && !(text && strcmp(text, names[i]) == 0)) {
        i++;
    }
    return i;
}

static enum err read_feature(const json_t *from, struct table_feature *f, size_t width,
                             struct err_info *reterr)
{
    static const char *const encodings[] = {"standardised", "zero-one", "one-hot"};
    const json_t *at = json_object_get(from, "at"), *wide = json_object_get(from, "width");
    f->name = json_string_value(json_object_get(from, "name"));
    size_t encoding = choice(from, "encoding", encodings, 3);
    if (!f->name || !json_is_integer(at) || !json_is_integer(wide)) {
        return bad(reterr, "a feature's name, at or width");
    }
    if (encoding == 3) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "the model's document: feature \"%.80s\" has an unknown encoding",
                             f->name);
    }
    f->encoding = (enum table_encoding)encoding;
    f->min = json_number_value(json_object_get(from, "min"));
    f->max = json_number_value(json_object_get(from, "max"));
    f->values = json_object_get(from, "values");
    json_int_t first = json_integer_value(at), n = json_integer_value(wide);
    bool fits =
        first >= 0 && n >= 0 && (size_t)first <= width && (size_t)n <= width - (size_t)first;
    bool shaped = f->encoding == TABLE_ONE_HOT
                      ? json_array_size(f->values) == (size_t)n + 1
                      : n == 1 && (f->encoding == TABLE_ZERO_ONE || f->min < f->max);
    if (!fits || !shaped) {
        return bad(reterr, "a feature's place, range or values");
    }
    f->at = (size_t)first;
    f->width = (size_t)n;
    return E_OK;
}

/* COUNT numbers under "weights" of FROM, and its intercept. */
static enum err read_numbers(const json_t *from, double *to, size_t count, double *ret_intercept,
                             struct err_info *reterr)
{
    const json_t *list = json_object_get(from, "weights");
    const json_t *intercept = json_object_get(from, "intercept");
    if (!json_is_array(list) || json_array_size(list) != count || !json_is_number(intercept)) {
        return bad(reterr, "weights or intercept");
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *w = json_array_get(list, i);
        if (!json_is_number(w)) {
            return bad(reterr, "a weight");
        }
        to[i] = json_number_value(w);
    }
    *ret_intercept = json_number_value(intercept);
    return E_OK;
}

/* Of a network the width is that of its hidden units. */
static enum err read_weights(struct model_table_model *m, bool network, struct err_info *reterr)
{
    const json_t *hidden = json_object_get(m->root, "hidden");
    m->hidden = network ? json_array_size(hidden) : 0;
    m->width =
        json_array_size(json_object_get(network ? json_array_get(hidden, 0) : m->root, "weights"));
    if (network != json_is_array(hidden) || (network && m->hidden == 0) ||
        m->hidden > MODEL_HIDDEN_UNITS_MAX || m->width > MODEL_FEATURES_MAX) {
        return bad(reterr, "hidden or weights");
    }
    size_t row = m->width + 1;
    m->weights =
        proto_alloc(m->hidden * row + (network ? m->hidden : m->width) + 1, sizeof *m->weights);
    enum err err = m->weights ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < m->hidden; i++) {
        double *unit = m->weights + i * row;
        err = read_numbers(json_array_get(hidden, i), unit, m->width, unit + m->width, reterr);
    }
    return err ? err
               : read_numbers(m->root, m->weights + m->hidden * row, network ? m->hidden : m->width,
                              &m->intercept, reterr);
}

static enum err read_document(struct model_table_model *m, struct err_info *reterr)
{
    static const char *const formats[] = {"concordat-linear-1", "concordat-network-1"},
                             *const links[] = {"logit", "identity", "log"},
                             *const missings[] = {"drop", "midpoint"};
    const json_t *features = json_object_get(m->root, "features"),
                 *target = json_object_get(m->root, "target");
    size_t link = choice(m->root, "link", links, 3), format = choice(m->root, "format", formats, 2);
    if (format == 2 || link == 3) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "the model's document: format or link is unknown");
    }
    m->link = (enum table_link)link;
    m->midpoint = choice(m->root, "missing", missings, 2) == 1;
    const json_t *scale = json_object_get(target, "scale");
    m->scale = json_is_number(scale) ? json_number_value(scale) : 1;
    m->offset = json_number_value(json_object_get(target, "offset"));
    m->feature_count = json_array_size(features);
    if (!json_is_array(features) || m->feature_count > MODEL_FEATURES_MAX) {
        return bad(reterr, "features");
    }
    enum err err = read_weights(m, format == 1, reterr);
    m->features = proto_alloc(m->feature_count + 1, sizeof *m->features);
    err = err || m->features ? err : E_NO_MEMORY;
    for (size_t i = 0; !err && i < m->feature_count; i++) {
        err = read_feature(json_array_get(features, i), &m->features[i], m->width, reterr);
    }
    return err;
}

enum err model_table_model_read(struct span bytes, struct model_table_model **ret,
                                struct err_info *reterr)
{
    json_error_t why = {.line = 0};
    struct model_table_model *m = proto_alloc(1, sizeof *m);
    if (!m) {
        return proto_err_set(reterr, E_NO_MEMORY, "model: no memory");
    }
    m->root = bytes.len <= DOCUMENT_MAX
                  ? json_loadb((const char *)bytes.ptr, bytes.len, JSON_REJECT_DUPLICATES, &why)
                  : NULL;
    enum err err = json_is_object(m->root)
                       ? read_document(m, reterr)
                       : proto_err_set(reterr, E_INVALID, "the model's document, line %d: %.100s",
                                       why.line, m->root ? "no object" : why.text);
    if (err) {
        model_table_model_free(m);
        return err;
    }
    *ret = m;
    return E_OK;
}

void model_table_model_free(struct model_table_model *m)
{
    if (m) {
        json_decref(m->root);
        proto_free(m->features);
        proto_free(m->weights);
        proto_free(m);
    }
}

enum err model_table_model_header(struct model_table_model *m, const struct span *names,
                                  size_t count, struct err_info *reterr)
{
    for (size_t i = 0; i < m->feature_count; i++) {
        struct table_feature *f = &m->features[i];
        f->column = 0;
        while (f->column < count && !span_is(names[f->column], f->name)) {
            f->column++;
        }
        if (f->column == count) {
            return proto_err_set(reterr, E_SCHEMA, "the data has no column \"%.80s\"", f->name);
        }
    }
    return E_OK;
}

/* A whole text as a number; NAN. */
static double number_of(struct span text)
{
    char copy[FIELD_MAX + 1], *end = NULL;
    if (text.len == 0 || text.len > FIELD_MAX) {
        return NAN;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    double v = strtod(copy, &end);
    return *end == 0 && isfinite(v) ? v : NAN;
}

/* What a feature's values are, from F->at in X on; false: missing or unreadable, and X has the middle of what may stand there. */
static bool put_values(const struct table_feature *f, struct span text, double *x)
{
    double v = number_of(text);
    x += f->at;
    if (f->encoding == TABLE_ONE_HOT) {
        size_t count = f->width + 1, found = count;
        for (size_t i = 0; i < count && found == count; i++) {
            const char *value = json_string_value(json_array_get(f->values, i));
            found = value && span_is(text, value) ? i : count;
        }
        for (size_t i = 0; i < f->width; i++) {
            x[i] = found == count ? 1 / (double)count : found == i + 1;
        }
        return found < count;
    }
    if (f->encoding == TABLE_ZERO_ONE) {
        v = span_is(text, "true") ? 1 : span_is(text, "false") ? 0 : v;
        *x = isnan(v) ? 0.5 : v < 0 || v > 0;
        return !isnan(v);
    }
    *x = isnan(v) ? 0 : (double)model_standardise(v, f->min, f->max);
    return !isnan(v);
}

static double product(const double *w, const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += w[i] * x[i];
    }
    return sum;
}

static double score_of(const struct model_table_model *m, const double *x)
{
    const double *last = m->weights + m->hidden * (m->width + 1);
    double score = m->intercept + (m->hidden ? 0 : product(last, x, m->width));
    for (size_t i = 0; i < m->hidden; i++) {
        const double *unit = m->weights + i * (m->width + 1);
        score += last[i] * tanh(product(unit, x, m->width) + unit[m->width]);
    }
    return score;
}

double model_table_model_answer(const struct model_table_model *m, const struct span *fields,
                                size_t count)
{
    double x[MODEL_FEATURES_MAX];
    memset(x, 0, m->width * sizeof *x);
    for (size_t i = 0; i < m->feature_count; i++) {
        const struct table_feature *f = &m->features[i];
        struct span text = f->column < count ? fields[f->column] : SPAN_NONE;
        if (!put_values(f, text, x) && !m->midpoint) {
            return NAN;
        }
    }
    double score = score_of(m, x);
    return m->link == TABLE_LOGIT ? 1 / (1 + exp(-score))
           : m->link == TABLE_LOG ? exp(score)
                                  : m->offset + m->scale * score;
}
