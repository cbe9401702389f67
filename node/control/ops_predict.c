/* model predict: a model's answers to a file of this node, or to what a program sent (call->body). */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"

#include "node/model/deploy.h"
#include "node/model/inputs.h"
#include "node/model/table_model.h"
#include "node/query/clock.h"
#include "store/reader_csv.h"

#include <math.h>
#include <string.h>

#define PREDICT_BYTES_MAX ((size_t)64 << 20)

static enum err add_answer(void *user, const struct model_answer *a)
{
    json_t *row = json_object();
    if (a->tag) {
        json_t *words = json_array(), *tags = json_array();
        for (size_t i = 0; i < a->words; i++) {
            json_array_append_new(words, json_string(a->word[i]));
            json_array_append_new(tags, json_string(a->tag[i]));
        }
        json_object_set_new(row, "words", words);
        json_object_set_new(row, "tags", tags);
    } else {
        json_t *probabilities = json_object();
        for (uint32_t i = 0; i < a->labels->count; i++) {
            json_object_set_new(probabilities, model_words_get(a->labels, i),
                                json_real((double)a->probabilities[i]));
        }
        json_object_set_new(row, "label", json_string(a->label));
        json_object_set_new(row, "probabilities", probabilities);
    }
    return json_array_append_new(user, row) ? E_NO_MEMORY : E_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* By --format, else by the file's name: .tsv, .conll and .iob have one word a line. */
static enum err words_of_lines(struct control_call *call, bool *ret, struct err_info *reterr)
{
    const char *format = control_text(call, "--format"), *path = control_text(call, "--data");
    if (format && strcmp(format, "conll") != 0 && strcmp(format, "text") != 0) {
        return proto_err_set(reterr, E_USAGE, "--format is text or conll");
    }
    *ret = format ? strcmp(format, "conll") == 0
                  : ends_with(path, ".tsv") || ends_with(path, ".conll") || ends_with(path, ".iob");
    return E_OK;
}

static enum err predict_texts(struct control_call *call, const struct control_opened *o,
                              struct span data, json_t *rows, struct err_info *reterr)
{
    struct model_predictor *predictor = NULL;
    bool words = false;
    enum err err = words_of_lines(call, &words, reterr);
    err = err ? err : model_predictor_open(o->package, o->base, 1, &predictor, reterr);
    err = err ? err : model_predictor_answer(predictor, data, words, add_answer, rows, reterr);
    model_predictor_close(predictor);
    return err;
}

/* COUNT fields as spans into TO, which has room for CAP. */
static size_t spans_of(const struct store_field *fields, size_t count, struct span *to, size_t cap)
{
    count = count < cap ? count : cap;
    for (size_t i = 0; i < count; i++) {
        to[i] = fields[i].null ? SPAN_NONE : span_of(fields[i].text, fields[i].len);
    }
    return count;
}

static void add_number(json_t *rows, double value)
{
    json_array_append_new(rows, isfinite(value) ? json_real(value) : json_null());
}

static enum err predict_rows(struct control_call *call, const struct control_opened *o,
                             struct span data, json_t *rows, struct err_info *reterr)
{
    struct model_table_model *model = NULL;
    struct store_source *source = NULL;
    struct store_row row = {0};
    struct span *spans = arena_alloc(&call->arena, STORE_CSV_COLUMNS_MAX, sizeof *spans);
    enum err err = spans ? model_table_model_read(buf_span(&o->blob), &model, reterr) : E_NO_MEMORY;
    err = err ? err : store_reader_csv_bytes(data, ',', &source, reterr);
    if (!err) {
        size_t columns =
            spans_of(source->header, source->header_count, spans, STORE_CSV_COLUMNS_MAX);
        err = model_table_model_header(model, spans, columns, reterr);
    }
    while (!err && !(err = source->next(source, &row, reterr)) && !row.end) {
        size_t count =
            row.fault ? 0 : spans_of(row.fields, row.count, spans, STORE_CSV_COLUMNS_MAX);
        double value = row.fault ? NAN : model_table_model_answer(model, spans, count);
        add_number(rows, value);
    }
    if (source) {
        source->free(source);
    }
    model_table_model_free(model);
    return err;
}

static enum err predict_file(struct control_call *call, struct control_opened *o, json_t *rows,
                             struct err_info *reterr)
{
    struct buf data = {.max = PREDICT_BYTES_MAX};
    enum err err = control_model_load(call, o, reterr);
    err = err ? err
              : control_read(call, control_text(call, "--data"), PREDICT_BYTES_MAX, &data, reterr);
    if (!err) {
        err = o->package ? predict_texts(call, o, buf_span(&data), rows, reterr)
                         : predict_rows(call, o, buf_span(&data), rows, reterr);
    }
    buf_fini(&data);
    return err;
}

/* --- for programs: what a service was sent ------------------------------------------------------------------------------ */

#define LINES_AT_ONCE 8 /* between looks at the clock */

static enum err predict_cells(const struct control_opened *o, const struct model_inputs *inputs,
                              json_t *rows, struct err_info *reterr)
{
    struct model_table_model *model = NULL;
    enum err err = model_table_model_read(buf_span(&o->blob), &model, reterr);
    err = err ? err : model_table_model_header(model, inputs->names, inputs->columns, reterr);
    for (size_t i = 0; !err && i < inputs->count; i++) {
        add_number(rows, model_table_model_answer(model, inputs->cells + i * inputs->columns,
                                                  inputs->columns));
    }
    model_table_model_free(model);
    return err;
}

/* The first lines of *TEXT, LINES_AT_ONCE at most; *TEXT is what is left. */
static struct span some_lines(struct span *text)
{
    struct span lines = span_of(text->ptr, 0);
    for (unsigned i = 0; i < LINES_AT_ONCE && lines.len < text->len; i++) {
        const uint8_t *from = text->ptr + lines.len,
                      *end = memchr(from, '\n', text->len - lines.len);
        lines.len = end ? (size_t)(end - text->ptr) + 1 : text->len;
    }
    *text = span_of(text->ptr + lines.len, text->len - lines.len);
    return lines;
}

static enum err predict_lines(struct control_call *call, struct model_predictor *predictor,
                              struct span text, json_t *rows, struct err_info *reterr)
{
    uint64_t end = query_now_ms() + CONTROL_PREDICT_S * 1000;
    enum err err = E_OK;
    while (!err && text.len) {
        struct span lines = some_lines(&text);
        if (call->node->stopping) {
            return proto_err_set(reterr, E_BUSY, "the daemon is stopping");
        }
        if (query_now_ms() > end) {
            return proto_err_set(reterr, E_TIMEOUT,
                                 "%zu texts in %d s and no more: send fewer or shorter ones",
                                 json_array_size(rows), CONTROL_PREDICT_S);
        }
        err = model_predictor_answer(predictor, lines, false, add_answer, rows, reterr);
    }
    return err;
}

/* With the kept model when it is this one, which saves reading it. */
static enum err predict_kept(struct control_call *call, struct control_opened *o,
                             const struct model_inputs *inputs, json_t *rows,
                             struct err_info *reterr)
{
    struct control_kept *kept = call->kept;
    enum err err = E_OK;
    pthread_mutex_lock(&kept->lock);
    if (!kept->predictor || memcmp(kept->hash, o->hash, sizeof kept->hash) != 0) {
        model_predictor_close(kept->predictor);
        kept->predictor = NULL;
        err = control_model_load(call, o, reterr);
        if (!err && o->package) {
            err = model_predictor_open(o->package, o->base, 1, &kept->predictor, reterr);
            memcpy(kept->hash, o->hash, sizeof kept->hash);
            if (o->own_head) { /* which may be forgotten: looked for each time */
                memset(kept->hash, 0, sizeof kept->hash);
            }
        }
    }
    if (!err && inputs->table != !kept->predictor) {
        err = proto_err_set(reterr, E_USAGE, "model %s takes %s", o->name,
                            kept->predictor ? "texts: {\"texts\": [..]}"
                                            : "rows: {\"columns\": [..], \"rows\": [[..], ..]}");
    }
    if (!err) {
        err = inputs->table
                  ? predict_cells(o, inputs, rows, reterr)
                  : predict_lines(call, kept->predictor, buf_span(&inputs->lines), rows, reterr);
    }
    pthread_mutex_unlock(&kept->lock);
    return err;
}

static enum err predict_body(struct control_call *call, struct control_opened *o, json_t *rows,
                             struct err_info *reterr)
{
    struct model_inputs inputs = {0};
    enum err err = model_inputs_read(call->body, &inputs, reterr);
    err = err ? err : predict_kept(call, o, &inputs, rows, reterr);
    model_inputs_fini(&inputs);
    return err;
}

/* Whoever asks, each use is on record before its answer. */
enum err control_model_predict(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct control_opened o = {0};
    json_t *rows = json_array();
    enum err err = rows ? control_model_locate(call, &o, true, reterr) : E_NO_MEMORY;
    if (!err) {
        err = control_audit(call, "model.predict", reterr, "model", o.name, "by",
                            call->kept ? "service" : "command", "purpose", o.use.purpose, "project",
                            o.use.project, (const char *)NULL);
    }
    if (!err) {
        err = call->kept ? predict_body(call, &o, rows, reterr)
                         : predict_file(call, &o, rows, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:O}", "model", o.name, "rows", rows);
    }
    json_decref(rows);
    control_opened_fini(&o);
    return err;
}
