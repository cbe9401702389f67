#include "config.h"
#include "node/model/inputs.h"

#include "crypto/memory.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static enum err take_text(struct model_inputs *to, const json_t *text, size_t at,
                          struct err_info *reterr)
{
    size_t len = json_string_length(text);
    if (!json_is_string(text)) {
        return proto_err_set(reterr, E_INVALID, "texts[%zu] is no string", at);
    }
    if (len > MODEL_INPUTS_TEXT_MAX) {
        return proto_err_set(reterr, E_LIMIT, "texts[%zu] has %zu bytes, at most %zu are taken", at,
                             len, MODEL_INPUTS_TEXT_MAX);
    }
    size_t from = to->lines.len;
    enum err err = buf_put(&to->lines, span_of(json_string_value(text), len));
    for (size_t i = from; !err && i < to->lines.len; i++) {
        uint8_t *c = &to->lines.ptr[i];
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    }
    return err ? err : buf_put(&to->lines, span_str("\n"));
}

static enum err keep(struct model_inputs *to, struct span text, struct span *ret)
{
    const char *copy = arena_strdup(&to->arena, text);
    *ret = span_of(copy, copy ? text.len : 0);
    return copy ? E_OK : E_NO_MEMORY;
}

static enum err take_cell(struct model_inputs *to, const json_t *value, struct span *ret)
{
    char number[40];
    if (json_is_null(value)) {
        *ret = SPAN_NONE;
        return E_OK;
    }
    if (json_is_string(value)) {
        return keep(to, span_of(json_string_value(value), json_string_length(value)), ret);
    }
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(number, sizeof number, "%.17g", json_real_value(value));
    } else {
        return E_INVALID;
    }
    return keep(to, span_str(number), ret);
}

static enum err take_names(struct model_inputs *to, const json_t *columns, struct err_info *reterr)
{
    to->columns = json_array_size(columns);
    if (to->columns == 0 || to->columns > MODEL_INPUTS_COLUMNS_MAX) {
        return proto_err_set(reterr, to->columns ? E_LIMIT : E_INVALID,
                             "columns: 1 to %u names are wanted", MODEL_INPUTS_COLUMNS_MAX);
    }
    to->names = arena_alloc(&to->arena, to->columns, sizeof *to->names);
    enum err err = to->names ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < to->columns; i++) {
        const json_t *name = json_array_get(columns, i);
        err = json_is_string(name)
                  ? keep(to, span_of(json_string_value(name), json_string_length(name)),
                         &to->names[i])
                  : proto_err_set(reterr, E_INVALID, "columns[%zu] is no string", i);
    }
    return err;
}

static enum err take_row(struct model_inputs *to, const json_t *row, size_t at,
                         struct err_info *reterr)
{
    if (!json_is_array(row) || json_array_size(row) != to->columns) {
        return proto_err_set(reterr, E_INVALID, "rows[%zu] is no list of %zu values", at,
                             to->columns);
    }
    for (size_t i = 0; i < to->columns; i++) {
        enum err err = take_cell(to, json_array_get(row, i), &to->cells[at * to->columns + i]);
        if (err) {
            return proto_err_set(reterr, err, "rows[%zu][%zu] is no number, text or null", at, i);
        }
    }
    return E_OK;
}

static enum err take_items(struct model_inputs *to, const json_t *items, const char *key,
                           struct err_info *reterr)
{
    enum err err = E_OK;
    to->count = json_array_size(items);
    if (to->count == 0 || to->count > MODEL_INPUTS_MAX) {
        return proto_err_set(reterr, to->count ? E_LIMIT : E_INVALID,
                             "%s: a list of 1 to %u is wanted", key, MODEL_INPUTS_MAX);
    }
    if (to->table) {
        to->cells = arena_alloc(&to->arena, to->count * to->columns, sizeof *to->cells);
        err = to->cells ? E_OK : E_NO_MEMORY;
    }
    for (size_t i = 0; !err && i < to->count; i++) {
        const json_t *item = json_array_get(items, i);
        err = to->table ? take_row(to, item, i, reterr) : take_text(to, item, i, reterr);
    }
    return err;
}

static enum err take_document(struct model_inputs *to, const json_t *document,
                              struct err_info *reterr)
{
    const json_t *texts = json_object_get(document, "texts"),
                 *columns = json_object_get(document, "columns"),
                 *rows = json_object_get(document, "rows");
    size_t size = json_object_size(document);
    if (texts && size == 1) {
        return take_items(to, texts, "texts", reterr);
    }
    if (columns && rows && size == 2) {
        to->table = true;
        enum err err = take_names(to, columns, reterr);
        return err ? err : take_items(to, rows, "rows", reterr);
    }
    return proto_err_set(
        reterr, E_INVALID,
        "{\"texts\": [..]} or {\"columns\": [..], \"rows\": [[..], ..]} is wanted");
}

enum err model_inputs_read(struct span json, struct model_inputs *ret, struct err_info *reterr)
{
    json_error_t error;
    if (json.len > MODEL_INPUTS_BYTES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "more than %zu bytes", MODEL_INPUTS_BYTES_MAX);
    }
    json_t *document = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, &error);
    if (!document) {
        return proto_err_set(reterr, E_INVALID, "no JSON: %.100s, in line %d", error.text,
                             error.line);
    }
    struct model_inputs inputs = {.lines.max = 2 * MODEL_INPUTS_BYTES_MAX};
    enum err err = take_document(&inputs, document, reterr);
    json_decref(document);
    if (err) {
        model_inputs_fini(&inputs);
        return err;
    }
    *ret = inputs;
    return E_OK;
}

void model_inputs_fini(struct model_inputs *inputs)
{
    if (inputs->lines.ptr) { /* somebody's notes */
        crypto_wipe(inputs->lines.ptr, inputs->lines.cap);
    }
    buf_fini(&inputs->lines);
    arena_fini(&inputs->arena);
    *inputs = (struct model_inputs){.count = 0};
}
