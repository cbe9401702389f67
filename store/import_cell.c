/* A field becomes a value of its column: parsed by the declared type, bounded, de-identified. */
#include "config.h"
#include "store/import_internal.h"

#include "store/parse.h"
#include "store/redact.h"

/* NULL, or why the row cannot be taken. Identifiers and private values are only looked at here; they
 * get their codes when the whole row is good. */
static const char *parse_category(struct import_column *column)
{
    struct span text = store_parse_trim(column->cell);
    if (column->zips) {
        store_zip3(column->zips, text, column->small);
        text = span_of(column->small, 3);
    } else if (column->hierarchy) {
        const char *group = store_hierarchy_find(column->hierarchy, text);
        if (!group) {
            return "is not in the column's hierarchy";
        }
        text = span_str(group);
    }
    if (column->values.grows) {
        column->cell = text;
        return text.len >= PROTO_SCHEMA_VALUE_SIZE ? "is too long for a category" : NULL;
    }
    uint32_t code = column->values.slots[store_values_find(&column->values, text)];
    if (!code) {
        return "is not one of the declared values";
    }
    column->code = code - 1;
    return NULL;
}

/* A date that is to become a year or to be shifted may be a record's: with a time of day, or without its day. */
static const char *parse_date(struct import_column *column)
{
    enum proto_deidentify op = column->declared->deidentify;
    if (op != PROTO_DEID_YEAR && op != PROTO_DEID_DATESHIFT) {
        return store_parse_date(column->cell, &column->number);
    }
    return store_parse_record_date(column->cell, &column->number, &column->partial);
}

/* What needs no more than the value itself. */
static void coarsen_number(struct import_column *column)
{
    const struct proto_column *declared = column->declared;
    double at = declared->by.at;
    switch (declared->deidentify) {
    case PROTO_DEID_AGE90:
        column->number = store_deidentify_age90(column->number);
        break;
    case PROTO_DEID_YEAR:
        column->number = store_deidentify_year(column->number);
        break;
    case PROTO_DEID_BIN:
        column->number = proto_column_bin(declared, column->number);
        break;
    case PROTO_DEID_TOP:
        column->number = column->number > at ? at : column->number;
        break;
    case PROTO_DEID_BOTTOM:
        column->number = column->number < at ? at : column->number;
        break;
    default:
        break;
    }
}

static const char *parse_number(struct import_column *column)
{
    const struct proto_column *declared = column->declared;
    const char *fault;
    switch (declared->type) {
    case PROTO_COLUMN_INTEGER:
        fault = store_parse_integer(column->cell, &column->number);
        break;
    case PROTO_COLUMN_DATE:
        fault = parse_date(column);
        break;
    default:
        fault = column->decimal_comma ? store_parse_real_comma(column->cell, &column->number)
                                      : store_parse_real(column->cell, &column->number);
    }
    if (fault) {
        return fault;
    }
    column->day = column->number;
    if (declared->has_bounds) {
        double bounded = column->number < declared->min   ? declared->min
                         : column->number > declared->max ? declared->max
                                                          : column->number;
        column->clamped = bounded != column->number;
        column->number = bounded;
    }
    coarsen_number(column);
    return NULL;
}

static bool is_label(const struct proto_column *column, struct span label)
{
    for (size_t i = 0; i < column->value_count; i++) {
        if (span_is(label, column->values[i])) {
            return true;
        }
    }
    return false;
}

/* Tags of a sentence, a blank between two: O, or B- or I- and a declared label. */
static const char *check_tags(const struct proto_column *column, struct span text)
{
    for (size_t at = 0; at <= text.len;) {
        const uint8_t *blank = at < text.len ? memchr(text.ptr + at, ' ', text.len - at) : NULL;
        size_t len = blank ? (size_t)(blank - text.ptr) - at : text.len - at;
        struct span tag = span_of(text.ptr + at, len);
        bool marked = len > 2 && (tag.ptr[0] == 'B' || tag.ptr[0] == 'I') && tag.ptr[1] == '-';
        if (!span_is(tag, "O") && (!marked || !is_label(column, span_of(tag.ptr + 2, len - 2)))) {
            return "has a tag that is neither O nor B- or I- with a declared label";
        }
        at += len + 1;
    }
    return NULL;
}

static size_t count_words(struct span text)
{
    size_t count = text.len > 0;
    for (size_t i = 0; i < text.len; i++) {
        count += text.ptr[i] == ' ';
    }
    return count;
}

bool import_cells_match(const struct import_column *tokens, const struct import_column *tags)
{
    return count_words(tokens->cell) == count_words(tags->cell);
}

const char *import_cell_parse(struct import_column *column, const struct store_field *field)
{
    column->cell = span_of(field->text, field->len);
    column->number = 0;
    column->code = 0;
    column->clamped = column->blanked = column->partial = false;
    column->redacted = 0;
    column->missing = field->null || store_parse_missing(column->declared, column->cell);
    if (column->missing) {
        return column->is_unit ? "is missing, but it is the privacy unit" : NULL;
    }
    enum proto_deidentify op = column->declared->deidentify;
    if (column->is_unit || op == PROTO_DEID_PSEUDONYM || op == PROTO_DEID_PSEUDONYM_HMAC) {
        column->cell = store_parse_trim(column->cell);
        if (column->key && !column->is_unit) {
            store_pseudonym_text(column->key, column->cell, column->small);
            column->cell = span_str(column->small);
        }
        return column->cell.len ? NULL : "is empty, but it identifies a person";
    }
    if (column->form == STORE_FORM_NUMBER) {
        return parse_number(column);
    }
    if (column->declared->type == PROTO_COLUMN_BOOLEAN) {
        return store_parse_boolean(column->cell, &column->code);
    }
    if (column->declared->type == PROTO_COLUMN_TAGS) {
        return check_tags(column->declared, column->cell);
    }
    return column->form == STORE_FORM_CODE ? parse_category(column) : NULL;
}

/* --- what depends on other columns of the row ----------------------------------------------- */

/* Whether this row says that its person is over 89. */
static bool is_old(const struct import *import)
{
    for (size_t i = 0; i < import->count; i++) {
        const struct import_column *column = &import->columns[i];
        bool age = column->declared->deidentify == PROTO_DEID_AGE90 && column->number >= 90;
        bool birth =
            column->declared->birth && store_years_between(column->day, import->today) >= 90;
        if (!column->missing && (age || birth)) {
            return true;
        }
    }
    return false;
}

static void blank(struct import_column *column)
{
    column->missing = true;
    column->blanked = true;
    column->clamped = false;
}

/* A date that is shifted or a birth; OLD: its person is over 89, so that any date that shows it goes. */
static void relate_date(const struct import *import, struct import_column *column, bool old)
{
    if (column->declared->deidentify == PROTO_DEID_YEAR) {
        if (old && column->declared->birth) {
            blank(column);
        }
    } else if (old || column->partial) {
        blank(column);
    } else if (import->shift_key) {
        column->number += store_shift_days(import->shift_key, import->unit->cell);
    }
}

static enum err redact(const struct import *import, struct import_column *column,
                       const struct store_row *row)
{
    struct span names[IMPORT_NAME_FIELDS_MAX];
    for (size_t i = 0; i < import->name_count; i++) {
        const struct store_field *field = &row->fields[import->name_fields[i]];
        names[i] = span_of(field->text, field->len);
    }
    column->clean.len = 0;
    enum err err =
        store_redact(column->cell, names, import->name_count, &column->clean, &column->redacted);
    column->cell = buf_span(&column->clean);
    return err;
}

enum err import_cells_relate(struct import *import, const struct store_row *row)
{
    enum err err = E_OK;
    bool old = is_old(import);
    for (size_t i = 0; i < import->count && !err; i++) {
        struct import_column *column = &import->columns[i];
        enum proto_deidentify op = column->declared->deidentify;
        if (column->missing) {
            continue;
        }
        if (op == PROTO_DEID_REDACT) {
            err = redact(import, column, row);
        } else if (op == PROTO_DEID_YEAR || op == PROTO_DEID_DATESHIFT) {
            relate_date(import, column, old);
        }
    }
    return err;
}
