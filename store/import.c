#include "config.h"
#include "store/import.h"

#include "crypto/provider.h"
#include "crypto/random.h"
#include "proto/body.h"
#include "store/catalogue.h"
#include "store/claim.h"
#include "store/deidentify.h"
#include "store/keyset.h"
#include "store/parse.h"
#include "store/partition_file.h"
#include "store/reader_conll.h"
#include "store/reader_csv.h"
#include "store/reader_ndjson.h"
#include "store/redact.h"
#include "store/rotate.h"
#include "store/scan.h"
#include "store/transform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DICTIONARY_BYTES ((size_t)3 << 20)
#define BODY_MAX         ((size_t)2 << 20)
#define TEXT_START       ((size_t)64 << 10)

/* Texts to codes; open addressing. */
struct values {
    const char **texts;
    uint32_t count;
    uint32_t cap;
    uint32_t *slots; /* code + 1 */
    uint32_t mask;
    size_t bytes;
    struct arena arena; /* of texts that were added */
    bool grows;
};

/* One published column while its chunk fills. */
struct column {
    const struct proto_column *declared;
    const struct proto_column *published;
    struct store_import_column *report;
    const char *name;
    size_t field;
    enum store_form form;
    bool is_unit;
    struct store_pseudonym *pseudonyms; /* of a unit or pseudonym column */
    struct store_zips *zips;
    struct store_hierarchy *hierarchy;
    struct crypto_key *key; /* of keyed pseudonyms */
    struct values values;
    double *numbers;
    uint32_t *codes;
    struct buf text;
    uint32_t *text_start;
    uint64_t *null;
    bool any_null;
    uint32_t *histogram;
    uint32_t histogram_codes;
    struct buf zones;
    /* The row at hand. */
    bool missing;
    bool clamped;
    bool blanked;
    bool partial;      /* a date without its day */
    double day;        /* of a date, before it became a year */
    uint64_t redacted; /* replacements */
    double number;
    uint32_t code;
    struct span cell;
    char small[20];   /* what cell may point into */
    struct buf clean; /* likewise: redacted text */
};

#define NAME_FIELDS_MAX 32

struct import {
    struct store *store;
    const struct proto_manifest *manifest;
    const struct store_import_options *options;
    struct store_import_report *report;
    struct store_source *source;
    struct arena arena;
    struct proto_schema published;
    struct buf body; /* the DATASET body */
    struct column *columns;
    size_t count;
    size_t rows; /* in the chunk at hand */
    uint32_t chunks;
    uint64_t unit_limit; /* one more than the largest unit number */
    uint64_t *seen;      /* bitmap of unit numbers */
    size_t seen_words;
    struct column *tokens, *tags; /* of annotated notes; NULL: none */
    struct column *unit;          /* NULL: each row is one */
    struct crypto_key *shift_key; /* of dateshift; NULL in a dry run */
    bool has_relations;           /* a column whose value depends on others of its row */
    bool redacts;
    size_t name_fields[NAME_FIELDS_MAX]; /* dropped text of the file, whose words are names */
    size_t name_count;
    double today;                    /* days since 1970-01-01 */
    struct store_partition *earlier; /* what append carries over; NULL: a new or replaced dataset */
    struct column *key;              /* NULL: rows are added only */
    struct store_keyset keys;        /* of the file's rows */
    struct store_keyset excluded;    /* units that have opted out: hashes of identifiers, */
    struct store_keyset excluded_numbers; /* and the numbers of those that are stored */
    const struct crypto_key *dek;
    bool new_key;
    struct store_partition_place place;
    struct store_partition_writer *writer;
    char path[PATH_MAX];     /* of the finished file */
    char new_path[PATH_MAX]; /* while it is written */
    bool file_made;
    bool stopped; /* too many rejects: only looks for more of them */
    struct buf encoded;
};

/* --- texts to codes ------------------------------------------------------------------------ */

static uint32_t find_value(const struct values *values, struct span text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ text.ptr[i]) * 1099511628211u;
    }
    uint32_t slot = (uint32_t)(hash ^ hash >> 32) & values->mask;
    while (values->slots[slot] && !span_is(text, values->texts[values->slots[slot] - 1])) {
        slot = (slot + 1) & values->mask;
    }
    return slot;
}

static enum err index_values(struct values *values, uint32_t slots)
{
    uint32_t *fresh = proto_alloc(slots, sizeof *fresh);
    if (!fresh) {
        return E_NO_MEMORY;
    }
    proto_free(values->slots);
    values->slots = fresh;
    values->mask = slots - 1;
    for (uint32_t i = 0; i < values->count; i++) {
        values->slots[find_value(values, span_str(values->texts[i]))] = i + 1;
    }
    return E_OK;
}

static enum err open_values(struct values *values, const struct proto_column *column)
{
    values->grows = column->values_private;
    values->cap = values->grows ? 256 : (uint32_t)column->value_count + 1;
    values->texts = proto_alloc(values->cap, sizeof *values->texts);
    if (!values->texts) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < column->value_count; i++) {
        values->texts[values->count++] = column->values[i];
    }
    return index_values(values, 4096);
}

static enum err add_value(struct values *values, struct span text, uint32_t slot)
{
    if (values->count >= STORE_IMPORT_VALUES || values->bytes + text.len > DICTIONARY_BYTES) {
        return E_LIMIT;
    }
    if (values->count == values->cap) {
        const char **grown = proto_realloc(values->texts, values->cap * 2, sizeof *grown);
        if (!grown) {
            return E_NO_MEMORY;
        }
        values->texts = grown;
        values->cap *= 2;
    }
    const char *copy = arena_strdup(&values->arena, text);
    if (!copy) {
        return E_NO_MEMORY;
    }
    values->texts[values->count++] = copy;
    values->slots[slot] = values->count;
    values->bytes += text.len + 2;
    return values->count > values->mask / 2 ? index_values(values, (values->mask + 1) * 2) : E_OK;
}

static void close_values(struct values *values)
{
    proto_free(values->texts);
    proto_free(values->slots);
    arena_fini(&values->arena);
}

/* --- cells --------------------------------------------------------------------------------- */

/* NULL, or why the row cannot be taken. Identifiers and private values are only looked at here; they
 * get their codes when the whole row is good. */
static const char *parse_category(struct column *column)
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
    uint32_t code = column->values.slots[find_value(&column->values, text)];
    if (!code) {
        return "is not one of the declared values";
    }
    column->code = code - 1;
    return NULL;
}

/* A date that is to become a year or to be shifted may be a record's: with a time of day, or without its day. */
static const char *parse_date(struct column *column)
{
    enum proto_deidentify op = column->declared->deidentify;
    if (op != PROTO_DEID_YEAR && op != PROTO_DEID_DATESHIFT) {
        return store_parse_date(column->cell, &column->number);
    }
    return store_parse_record_date(column->cell, &column->number, &column->partial);
}

/* What needs no more than the value itself. */
static void coarsen_number(struct column *column)
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

static const char *parse_number(struct column *column)
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
        fault = store_parse_real(column->cell, &column->number);
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

static const char *parse_cell(struct column *column, const struct store_field *field)
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

static enum err see_unit(struct import *import, uint32_t code)
{
    size_t word = code / 64;
    if (word >= import->seen_words) {
        size_t grown = (word + 1) * 2 < 1024 ? 1024 : (word + 1) * 2;
        uint64_t *seen = proto_realloc(import->seen, grown, sizeof *seen);
        if (!seen) {
            return E_NO_MEMORY;
        }
        memset(seen + import->seen_words, 0, (grown - import->seen_words) * sizeof *seen);
        import->seen = seen;
        import->seen_words = grown;
    }
    uint64_t mask = (uint64_t)1 << code % 64;
    import->report->units += !(import->seen[word] & mask);
    import->seen[word] |= mask;
    if (code >= import->unit_limit) {
        import->unit_limit = (uint64_t)code + 1;
    }
    return E_OK;
}

/* Codes of identifiers and of private categories. */
static enum err assign_code(struct column *column)
{
    if (column->missing) {
        return E_OK;
    }
    enum err err = E_OK;
    if (column->pseudonyms) {
        err = store_pseudonym_get(column->pseudonyms, column->cell, &column->code);
    } else if (column->values.grows) {
        uint32_t slot = find_value(&column->values, column->cell);
        if (column->values.slots[slot]) {
            column->code = column->values.slots[slot] - 1;
        } else {
            column->code = column->values.count;
            err = add_value(&column->values, column->cell, slot);
        }
    }
    return err;
}

static enum err append_text(struct import *import, struct column *column)
{
    struct span text = column->missing ? SPAN_NONE : column->cell;
    enum err err = buf_put(&column->text, text);
    if (!err) {
        column->text_start[import->rows + 1] = (uint32_t)column->text.len;
    }
    return err;
}

/* The values of the row at hand, codes assigned, go behind the chunk's others. */
static enum err put_values(struct import *import, struct column *column)
{
    size_t row = import->rows;
    enum err err = column->form == STORE_FORM_TEXT ? append_text(import, column) : E_OK;
    if (!err && column->is_unit) {
        err = see_unit(import, column->code);
    }
    if (column->missing) {
        column->null[row / 64] |= (uint64_t)1 << row % 64;
        column->any_null = true;
    }
    if (column->form == STORE_FORM_NUMBER) {
        column->numbers[row] = column->number;
    } else if (column->form == STORE_FORM_CODE) {
        column->codes[row] = column->code;
    }
    if (column->histogram && !column->missing) {
        column->histogram[column->code]++;
    }
    return err;
}

static enum err append_row(struct import *import, uint64_t line, struct err_info *reterr)
{
    for (size_t i = 0; i < import->count; i++) {
        struct column *column = &import->columns[i];
        enum err err = assign_code(column);
        err = err ? err : put_values(import, column);
        if (err) {
            return proto_err_set(
                reterr, err, "line %llu, column %s: %s", (unsigned long long)line, column->name,
                err == E_LIMIT ? "too many distinct values or too much text" : proto_err_text(err));
        }
        column->report->clamped += column->clamped;
        column->report->blanked += column->blanked;
        column->report->redacted += column->redacted;
    }
    import->rows++;
    import->report->rows++;
    return E_OK;
}

/* --- chunks -------------------------------------------------------------------------------- */

static enum err flush_zones(struct import *import, struct column *column, uint32_t block,
                            struct err_info *reterr)
{
    enum err err = store_partition_writer_put(import->writer, STORE_PARTITION_ZONE, column->name,
                                              block, 0, buf_span(&column->zones), reterr);
    column->zones.len = 0;
    return err;
}

static enum err flush_column(struct import *import, struct column *column, struct err_info *reterr)
{
    struct store_column_input input = {.form = column->form,
                                       .rows = import->rows,
                                       .numbers = column->numbers,
                                       .codes = column->codes,
                                       .text = (const char *)column->text.ptr,
                                       .text_start = column->text_start,
                                       .null = column->any_null ? column->null : NULL};
    struct store_zone zone;
    import->encoded.len = 0;
    enum err err = store_column_encode(&input, &import->encoded, &zone);
    err = err ? err
              : store_zones_put(&zone, column->histogram, column->histogram_codes, &column->zones);
    if (err) {
        return proto_err_set(reterr, err, "column %s: %s", column->name,
                             err == E_LIMIT ? "too much text in 65536 rows" : proto_err_text(err));
    }
    err = store_partition_writer_put(import->writer, STORE_PARTITION_CHUNK, column->name,
                                     import->chunks, (uint32_t)import->rows,
                                     buf_span(&import->encoded), reterr);
    if (!err && (import->chunks + 1) % STORE_ZONE_CHUNKS == 0) {
        err = flush_zones(import, column, import->chunks / STORE_ZONE_CHUNKS, reterr);
    }
    return err;
}

static void empty_column(struct column *column)
{
    memset(column->null, 0, STORE_CHUNK_WORDS * sizeof *column->null);
    if (column->histogram) {
        memset(column->histogram, 0, column->histogram_codes * sizeof *column->histogram);
    }
    column->any_null = false;
    column->text.len = 0;
}

static size_t map_bytes(const struct import *import)
{
    uint64_t raw = import->source->bytes_total;
    if (raw == 0 || import->source->packed) {
        return STORE_MAP_BYTES; /* not a plain file: its size is not known, and a map costs nothing but addresses */
    }
    struct stat earlier = {
        0}; /* what is carried over may need a little more room in its new chunks */
    char path[PATH_MAX];
    if (import->earlier &&
        store_partition_path(import->store->home, import->earlier->place.uuid, "", path,
                             sizeof path) &&
        stat(path, &earlier) == 0) {
        raw += (uint64_t)earlier.st_size;
    }
    /* A field of one byte and its comma may become a double of eight. */
    return (size_t)(raw * 8 + import->count * ((uint64_t)2 << 20) + ((uint64_t)64 << 20));
}

static enum err open_writer(struct import *import, struct err_info *reterr)
{
    if (import->writer) {
        return E_OK;
    }
    import->file_made = true;
    return store_partition_writer_open(import->new_path, import->dek, &import->place,
                                       map_bytes(import), &import->writer, reterr);
}

static enum err flush_chunk(struct import *import, struct err_info *reterr)
{
    bool writes = import->rows && !import->options->dry_run && !import->stopped;
    enum err err = writes ? open_writer(import, reterr) : E_OK;
    for (size_t i = 0; i < import->count && !err; i++) {
        err = writes ? flush_column(import, &import->columns[i], reterr) : E_OK;
        empty_column(&import->columns[i]);
    }
    import->chunks += writes;
    import->rows = 0;
    return err;
}

/* --- rows ---------------------------------------------------------------------------------- */

static void reject(struct import *import, uint64_t line, const char *column, const char *reason)
{
    struct store_import_report *report = import->report;
    if (report->reject_count < STORE_IMPORT_REJECTS) {
        size_t i = report->reject_count++;
        report->rejects[i].line = line;
        snprintf(report->rejects[i].column, sizeof report->rejects[i].column, "%s", column);
        snprintf(report->rejects[i].reason, sizeof report->rejects[i].reason, "%s", reason);
    }
    report->rejected++;
    import->stopped = report->rejected > import->options->max_rejects;
}

/* Whether this row says that its person is over 89. */
static bool is_old(const struct import *import)
{
    for (size_t i = 0; i < import->count; i++) {
        const struct column *column = &import->columns[i];
        bool age = column->declared->deidentify == PROTO_DEID_AGE90 && column->number >= 90;
        bool birth =
            column->declared->birth && store_years_between(column->day, import->today) >= 90;
        if (!column->missing && (age || birth)) {
            return true;
        }
    }
    return false;
}

static void blank(struct column *column)
{
    column->missing = true;
    column->blanked = true;
    column->clamped = false;
}

/* A date that is shifted or a birth; OLD: its person is over 89, so that any date that shows it goes. */
static void relate_date(const struct import *import, struct column *column, bool old)
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

static enum err redact(const struct import *import, struct column *column,
                       const struct store_row *row)
{
    struct span names[NAME_FIELDS_MAX];
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

/* What depends on other columns of the row, after all have been parsed. */
static enum err relate(struct import *import, const struct store_row *row)
{
    enum err err = E_OK;
    bool old = is_old(import);
    for (size_t i = 0; i < import->count && !err; i++) {
        struct column *column = &import->columns[i];
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

static bool take_row(struct import *import, const struct store_row *row)
{
    if (row->fault) {
        reject(import, row->line, row->fault_column ? row->fault_column : "", row->fault);
        return false;
    }
    for (size_t i = 0; i < import->count; i++) {
        struct column *column = &import->columns[i];
        const char *fault = parse_cell(column, &row->fields[column->field]);
        if (fault) {
            reject(import, row->line, column->name, fault);
            return false;
        }
    }
    if (import->tokens && import->tags &&
        count_words(import->tokens->cell) != count_words(import->tags->cell)) {
        reject(import, row->line, import->tags->name,
               "has another number of tags than there are tokens");
        return false;
    }
    if (import->has_relations && relate(import, row)) {
        reject(import, row->line, "", "has too much text");
        return false;
    }
    return true;
}

static void tell(const struct import *import)
{
    const struct store_import_options *options = import->options;
    if (options->progress) {
        options->progress(options->user, import->source->bytes_done, import->source->bytes_total,
                          import->report->rows);
    }
}

static enum err check_cancelled(const struct import *import, struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    return options->cancelled && options->cancelled(options->user)
               ? proto_err_set(reterr, E_CANCELLED, "the import was cancelled")
               : E_OK;
}

static enum err end_row(struct import *import, struct err_info *reterr)
{
    if (import->report->rows > UINT32_MAX) {
        return proto_err_set(reterr, E_LIMIT, "more than 4294967295 rows");
    }
    return import->rows == STORE_CHUNK_ROWS ? flush_chunk(import, reterr) : E_OK;
}

static uint64_t key_of(const struct column *column)
{
    uint64_t bits = column->code;
    if (column->form == STORE_FORM_NUMBER) {
        double number = column->number + 0.0; /* -0 and 0 are one key */
        memcpy(&bits, &number, sizeof bits);
    }
    return bits;
}

/* A row without a key, or with one that stands further up in the file, is rejected: *RET_TAKE. */
static enum err take_key(struct import *import, uint64_t line, bool *ret_take,
                         struct err_info *reterr)
{
    struct column *key = import->key;
    *ret_take = !key->missing;
    if (key->missing) {
        reject(import, line, key->name, "is missing, but it is the key");
        return E_OK;
    }
    enum err err = assign_code(key);
    err = err ? err : store_keyset_add(&import->keys, key_of(key), ret_take);
    if (err) {
        return proto_err_set(reterr, err, "line %llu: %s", (unsigned long long)line,
                             err == E_LIMIT ? "too many keys: import the data in parts"
                                            : proto_err_text(err));
    }
    if (!*ret_take) {
        reject(import, line, key->name, "has the key of a row further up");
    }
    return E_OK;
}

/* Excluded identifiers are told apart by 64 bits of SHA-256: a million of them meet one of ten million others with a chance of 5e-7. */
static uint64_t unit_hash(struct span identifier)
{
    uint8_t hash[32];
    crypto_sha256_one(identifier, hash);
    return get_be64(hash);
}

static bool is_excluded(struct import *import)
{
    bool excluded = import->excluded.count &&
                    store_keyset_has(&import->excluded, unit_hash(import->unit->cell));
    import->report->excluded += excluded;
    return excluded;
}

static enum err read_rows(struct import *import, struct err_info *reterr)
{
    struct store_row row;
    for (uint64_t seen = 0;; seen++) {
        enum err err = import->source->next(import->source, &row, reterr);
        if (err || row.end) {
            return err;
        }
        bool take = take_row(import, &row) && !is_excluded(import);
        if (take && !import->stopped && import->key) {
            err = take_key(import, row.line, &take, reterr);
        }
        if (!err && take && !import->stopped) {
            err = append_row(import, row.line, reterr);
            err = err ? err : end_row(import, reterr);
        }
        if (!err && seen % STORE_CHUNK_ROWS == 0) {
            tell(import);
            err = check_cancelled(import, reterr);
        }
        if (err || (import->stopped && import->report->reject_count == STORE_IMPORT_REJECTS)) {
            return err;
        }
    }
}

static enum err judge_rejects(const struct import *import, struct err_info *reterr)
{
    const struct store_import_report *report = import->report;
    if (report->rejected > import->options->max_rejects) {
        bool row = !report->rejects[0].column[0];
        return proto_err_set(
            reterr, E_INVALID, "line %llu%s%s: %s (%s%llu rows rejected, %llu allowed)",
            (unsigned long long)report->rejects[0].line, row ? "" : ", column ",
            report->rejects[0].column, report->rejects[0].reason,
            report->reject_count == STORE_IMPORT_REJECTS ? "at least " : "",
            (unsigned long long)report->rejected, (unsigned long long)import->options->max_rejects);
    }
    if (import->options->forget) {
        return report->rows
                   ? E_OK
                   : proto_err_set(reterr, E_INVALID, "no row would be left: remove the dataset");
    }
    bool none = report->rows == report->carried;
    return none ? proto_err_set(reterr, E_INVALID, "the data has no rows") : E_OK;
}

/* --- preparing ----------------------------------------------------------------------------- */

static int find_header(const struct store_source *source, const char *name, bool trimmed)
{
    int found = -1;
    struct span want = trimmed ? store_parse_trim(span_str(name)) : span_str(name);
    for (size_t i = 0; i < source->header_count; i++) {
        struct span text = span_of(source->header[i].text, source->header[i].len);
        if (span_equal(trimmed ? store_parse_trim(text) : text, want)) {
            if (found >= 0) {
                return -2;
            }
            found = (int)i;
        }
    }
    return found;
}

static enum err bind_field(struct import *import, struct column *column, struct err_info *reterr)
{
    const char *source = column->declared->source[0] ? column->declared->source : column->name;
    int found = find_header(import->source, source, false);
    if (found == -1) {
        found = find_header(import->source, source, true);
    }
    if (found < 0) {
        return proto_err_set(reterr, E_SCHEMA, "line 1: %s column is headed '%s'",
                             found == -2 ? "more than one" : "no", source);
    }
    column->field = (size_t)found;
    return E_OK;
}

static enum err alloc_column(struct column *column)
{
    size_t rows = STORE_CHUNK_ROWS;
    column->null = proto_alloc(STORE_CHUNK_WORDS, sizeof *column->null);
    column->zones.max = STORE_CHUNK_BYTES_MAX;
    column->text.max = STORE_CHUNK_TEXT_MAX;
    bool ok = column->null != NULL;
    if (column->form == STORE_FORM_NUMBER) {
        column->numbers = proto_alloc(rows, sizeof *column->numbers);
        ok = ok && column->numbers;
    } else if (column->form == STORE_FORM_CODE) {
        column->codes = proto_alloc(rows, sizeof *column->codes);
        ok = ok && column->codes;
    } else {
        column->text_start = proto_alloc(rows + 1, sizeof *column->text_start);
        ok = ok && column->text_start && !buf_reserve(&column->text, TEXT_START);
    }
    return ok ? E_OK : E_NO_MEMORY;
}

/* The table of an operation, and which operations need more than their own cell. */
static enum err open_operation(struct import *import, struct column *column,
                               struct err_info *reterr)
{
    const struct proto_column *declared = column->declared;
    size_t number = (size_t)(declared - import->manifest->schema.columns);
    struct span table = import->options->tables ? import->options->tables[number] : SPAN_NONE;
    enum err err = E_OK;
    if (import->options->forget) {
        /* Stored values went through it already. */
    } else if (declared->by.table && !table.len) {
        err = proto_err_set(reterr, E_INVALID, "its table %s is empty or was not given",
                            declared->by.table);
    } else if (declared->deidentify == PROTO_DEID_ZIP3) {
        err = store_zips_open(table, &column->zips, reterr);
    } else if (declared->deidentify == PROTO_DEID_GENERALISE) {
        err = store_hierarchy_open(table, declared->by.level, &column->hierarchy, reterr);
    }
    if (err) {
        proto_err_frame(reterr, "column %s", column->name);
        return err;
    }
    column->clean.max = STORE_CHUNK_TEXT_MAX;
    bool redacts = declared->deidentify == PROTO_DEID_REDACT;
    import->redacts = import->redacts || redacts;
    import->has_relations = import->has_relations || redacts || declared->birth ||
                            declared->deidentify == PROTO_DEID_DATESHIFT;
    import->unit = column->is_unit ? column : import->unit;
    import->tokens = declared->type == PROTO_COLUMN_TOKENS ? column : import->tokens;
    import->tags = declared->type == PROTO_COLUMN_TAGS ? column : import->tags;
    return E_OK;
}

static enum err open_column(struct import *import, struct column *column, size_t published,
                            struct err_info *reterr)
{
    const struct proto_column *declared = column->declared;
    column->name = declared->name;
    column->published = &import->published.columns[published];
    column->report = &import->report->columns[published];
    memcpy(column->report->name, declared->name, sizeof column->report->name);
    import->report->column_count = published + 1;
    column->is_unit =
        import->published.unit[0] && strcmp(import->published.unit, declared->name) == 0;
    column->form =
        store_form_of(&import->published, published, declared->deidentify == PROTO_DEID_PSEUDONYM);
    enum err err = alloc_column(column);
    if (!err && column->published->type == PROTO_COLUMN_CATEGORY) {
        err = open_values(&column->values, column->published);
    }
    uint32_t codes = declared->type == PROTO_COLUMN_BOOLEAN ? 2 : (uint32_t)declared->value_count;
    if (!err && column->form == STORE_FORM_CODE && codes && codes <= STORE_HISTOGRAM_MAX) {
        column->histogram_codes = codes;
        column->histogram = proto_alloc(codes, sizeof *column->histogram);
        err = column->histogram ? E_OK : E_NO_MEMORY;
    }
    if (err) {
        return proto_err_set(reterr, err, "column %s: %s", column->name, proto_err_text(err));
    }
    err = open_operation(import, column, reterr);
    return err ? err : bind_field(import, column, reterr);
}

/* Columns of text that are dropped mostly hold names; what stands in them is taken out of the row's free text. */
static void find_names(struct import *import)
{
    const struct proto_schema *declared = &import->manifest->schema;
    for (size_t i = 0;
         i < declared->count && import->redacts && import->name_count < NAME_FIELDS_MAX; i++) {
        const struct proto_column *column = &declared->columns[i];
        if (column->deidentify == PROTO_DEID_DROP && column->type == PROTO_COLUMN_TEXT) {
            int found = find_header(import->source,
                                    column->source[0] ? column->source : column->name, true);
            if (found >= 0) {
                import->name_fields[import->name_count++] = (size_t)found;
            }
        }
    }
}

static enum err open_columns(struct import *import, struct err_info *reterr)
{
    const struct proto_schema *declared = &import->manifest->schema;
    enum err err = proto_schema_publish(declared, &import->arena, &import->published);
    import->columns = err ? NULL : proto_alloc(import->published.count, sizeof *import->columns);
    if (!import->columns) {
        return proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
    }
    for (size_t i = 0; i < declared->count && !err; i++) {
        if (declared->columns[i].deidentify != PROTO_DEID_DROP) {
            struct column *column = &import->columns[import->count++];
            column->declared = &declared->columns[i];
            err = open_column(import, column, import->count - 1, reterr);
        }
    }
    find_names(import);
    return err;
}

static enum err make_body(struct import *import, struct err_info *reterr)
{
    struct proto_dataset dataset;
    proto_schema_hash(&import->published, &crypto_proto_hash, import->place.schema_hash);
    enum err err =
        proto_manifest_dataset_body(import->manifest, &import->published, import->place.schema_hash,
                                    &import->arena, &dataset, reterr);
    import->body.max = BODY_MAX;
    return err ? err : proto_dataset_encode(&dataset, &import->body, reterr);
}

static void key_name(const char *dataset, char to[CRYPTO_KEYRING_NAME])
{
    snprintf(to, CRYPTO_KEYRING_NAME, "dataset/%s", dataset);
}

/* A dataset without a key is new, or was shredded: then old pseudonyms can never be opened again. */
static enum err open_key(struct import *import, struct err_info *reterr)
{
    char name[CRYPTO_KEYRING_NAME];
    key_name(import->manifest->dataset, name);
    enum err err = crypto_keyring_get(import->store->keyring, name, &import->dek);
    if (err != E_NOT_FOUND) {
        return err ? proto_err_set(reterr, err, "the key of the dataset") : E_OK;
    }
    err = store_pseudonym_remove(import->store, import->manifest->dataset, reterr);
    err = err ? err : crypto_keyring_add(import->store->keyring, name, reterr);
    if (err) {
        return err;
    }
    import->new_key = true;
    err = crypto_keyring_get(import->store->keyring, name, &import->dek);
    return err ? proto_err_set(reterr, err, "the key of the dataset") : E_OK;
}

/* Keys that a rotation keeps hang on the unit's table; without a unit only keyed pseudonyms have one. */
static enum err derive_keys(struct import *import, struct err_info *reterr)
{
    const struct crypto_key *from =
        import->unit ? store_pseudonym_key(import->unit->pseudonyms) : import->dek;
    enum err err =
        import->unit ? store_transform_key(from, "dateshift", "", &import->shift_key) : E_OK;
    for (size_t i = 0; i < import->count && !err; i++) {
        struct column *column = &import->columns[i];
        if (column->declared->deidentify == PROTO_DEID_PSEUDONYM_HMAC) {
            err = store_transform_key(from, "pseudonym-hmac", column->name, &column->key);
        }
    }
    return err ? proto_err_set(reterr, err, "deriving the keys of de-identification") : E_OK;
}

static enum err prepare_writing(struct import *import, struct err_info *reterr)
{
    enum err err = open_key(import, reterr);
    err = err ? err : crypto_random(import->place.uuid, sizeof import->place.uuid);
    memcpy(import->report->partition_uuid, import->place.uuid, 16);
    if (!err && (!store_partition_path(import->store->home, import->place.uuid, "", import->path,
                                       sizeof import->path) ||
                 !store_partition_path(import->store->home, import->place.uuid, ".new",
                                       import->new_path, sizeof import->new_path))) {
        return proto_err_set(reterr, E_LIMIT, "the home's path is too long");
    }
    for (size_t i = 0; i < import->count && !err; i++) {
        struct column *column = &import->columns[i];
        if (column->is_unit || column->declared->deidentify == PROTO_DEID_PSEUDONYM) {
            err = store_pseudonym_load(import->store, import->manifest->dataset, column->name,
                                       import->dek, &column->pseudonyms, reterr);
        }
    }
    return err ? err : derive_keys(import, reterr);
}

/* --- append -------------------------------------------------------------------------------- */

/* Takes the private values over under the codes that stored rows have. */
static enum err carry_values(struct import *import, struct column *column, int number)
{
    enum err err = E_OK;
    uint32_t count = column->values.grows ? store_partition_values(import->earlier, number) : 0;
    for (uint32_t code = 0; code < count && !err; code++) {
        struct span text = span_str(store_partition_value(import->earlier, number, code));
        err = add_value(&column->values, text, find_value(&column->values, text));
    }
    return err;
}

static enum err match_columns(struct import *import, struct err_info *reterr)
{
    const struct proto_schema *stored = store_partition_schema(import->earlier);
    uint8_t hash[32];
    proto_schema_hash(stored, &crypto_proto_hash, hash);
    bool same = memcmp(hash, import->place.schema_hash, sizeof hash) == 0;
    for (size_t i = 0; i < import->count && same; i++) {
        struct column *column = &import->columns[i];
        int number = proto_schema_find(stored, column->name);
        same = number >= 0 && store_partition_form(import->earlier, number) == column->form;
        enum err err = same ? carry_values(import, column, number) : E_OK;
        if (err) {
            return proto_err_set(reterr, err, "column %s", column->name);
        }
    }
    return same ? E_OK
                : proto_err_set(reterr, E_SCHEMA,
                                "the columns of %s differ from what is stored: append needs the "
                                "same, an import without it replaces",
                                import->manifest->dataset);
}

static enum err find_key(struct import *import, struct err_info *reterr)
{
    const char *name = import->options->key;
    for (size_t i = 0; name && i < import->count; i++) {
        if (strcmp(import->columns[i].name, name) == 0) {
            import->key = &import->columns[i];
        }
    }
    if (name && !import->key) {
        return proto_err_set(reterr, E_INVALID, "there is no stored column %s to be the key", name);
    }
    return import->key && import->key->form == STORE_FORM_TEXT
               ? proto_err_set(reterr, E_INVALID,
                               "column %s is text: a key is a number, a category or a pseudonym",
                               name)
               : E_OK;
}

static enum err open_earlier(struct import *import, struct err_info *reterr)
{
    const char *dataset = import->manifest->dataset;
    if (!import->options->append && !import->options->forget) {
        return import->options->key ? proto_err_set(reterr, E_USAGE, "a key belongs to append")
                                    : E_OK;
    }
    enum err err = store_partition_open(import->store, dataset, &import->earlier, reterr);
    if (err == E_NOT_FOUND) {
        return proto_err_set(reterr, err, "there is no dataset %s to append to", dataset);
    }
    err = err ? err : match_columns(import, reterr);
    return err ? err : find_key(import, reterr);
}

/* Reads the list of excluded units. Their numbers are known once pseudonyms are loaded, so not in a rehearsal of a new
 * dataset, which has none. */
static enum err read_excluded(struct import *import, struct err_info *reterr)
{
    struct span rest = import->options->exclude;
    if (rest.len && !import->unit) {
        return proto_err_set(reterr, E_INVALID, "units cannot be excluded where each row is one");
    }
    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.ptr) : rest.len;
        struct span id = store_parse_trim(span_of(rest.ptr, len));
        rest = span_of(rest.ptr + len + (end != NULL), rest.len - len - (end != NULL));
        uint32_t number;
        bool fresh;
        enum err err = id.len ? store_keyset_add(&import->excluded, unit_hash(id), &fresh) : E_OK;
        if (!err && id.len && import->unit->pseudonyms &&
            store_pseudonym_find(import->unit->pseudonyms, id, &number)) {
            err = store_keyset_add(&import->excluded_numbers, number, &fresh);
            if (!err && import->options->forget) {
                err = store_pseudonym_forget(import->unit->pseudonyms, number);
            }
        }
        if (err) {
            return proto_err_set(reterr, err, "reading the list of excluded units: %s",
                                 proto_err_text(err));
        }
    }
    return E_OK;
}

struct carry {
    struct import *import;
    struct err_info *reterr;
};

static bool carry_cancelled(void *user)
{
    const struct store_import_options *options = ((struct carry *)user)->import->options;
    return options->cancelled && options->cancelled(options->user);
}

/* One stored row: its values stand in the columns as if they had been parsed. */
static void take_stored(struct import *import, const struct store_batch *batch, size_t row)
{
    for (size_t i = 0; i < import->count; i++) {
        struct column *column = &import->columns[i];
        const struct store_batch_column *from = &batch->columns[i];
        column->missing = store_batch_missing(batch, i, row);
        if (column->form == STORE_FORM_TEXT) {
            column->cell = span_of(from->text + from->text_start[row],
                                   from->text_start[row + 1] - from->text_start[row]);
        } else if (column->form == STORE_FORM_CODE) {
            column->code = from->code[row];
        } else {
            column->number = store_batch_number(batch, i, row);
        }
    }
}

static enum err carry_batch(void *user, const struct store_batch *batch)
{
    struct carry *carry = user;
    struct import *import = carry->import;
    enum err err = E_OK;
    for (size_t row = 0; row < batch->rows && !err; row++) {
        take_stored(import, batch, row);
        if (import->unit && store_keyset_has(&import->excluded_numbers, import->unit->code)) {
            import->report->excluded++;
            continue;
        }
        if (import->key && !import->key->missing &&
            store_keyset_has(&import->keys, key_of(import->key))) {
            import->report->replaced++;
            continue;
        }
        for (size_t i = 0; i < import->count && !err; i++) {
            err = put_values(import, &import->columns[i]);
        }
        import->rows++;
        import->report->rows++;
        import->report->carried++;
        err = err ? proto_err_set(carry->reterr, err, "carrying stored rows over")
                  : end_row(import, carry->reterr);
    }
    tell(import);
    return err;
}

static enum err carry_over(struct import *import, struct err_info *reterr)
{
    struct carry carry = {import, reterr};
    int numbers[PROTO_SCHEMA_COLUMNS_MAX];
    for (size_t i = 0; i < import->count; i++) {
        numbers[i] =
            proto_schema_find(store_partition_schema(import->earlier), import->columns[i].name);
    }
    enum err err = store_scan_with(import->earlier, numbers, import->count, NULL, false,
                                   carry_cancelled, carry_batch, &carry, NULL, reterr);
    return err;
}

/* --- publishing ---------------------------------------------------------------------------- */

static enum err put_dictionary(struct import *import, const struct column *column,
                               struct err_info *reterr)
{
    uint8_t number[4];
    import->encoded.len = 0;
    put_be32(number, column->values.count);
    enum err err = buf_put(&import->encoded, span_of(number, 4));
    for (uint32_t i = 0; i < column->values.count && !err; i++) {
        struct span text = span_str(column->values.texts[i]);
        put_be16(number, (uint16_t)text.len);
        err = buf_put(&import->encoded, span_of(number, 2));
        err = err ? err : buf_put(&import->encoded, text);
    }
    return err ? proto_err_set(reterr, err, "column %s", column->name)
               : store_partition_writer_put(import->writer, STORE_PARTITION_DICTIONARY,
                                            column->name, 0, 0, buf_span(&import->encoded), reterr);
}

static enum err put_columns(struct import *import, struct err_info *reterr)
{
    uint8_t forms[PROTO_SCHEMA_COLUMNS_MAX] = {0};
    enum err err = E_OK;
    for (size_t i = 0; i < import->count && !err; i++) {
        struct column *column = &import->columns[i];
        forms[i] = (uint8_t)column->form;
        if (column->values.grows) {
            err = put_dictionary(import, column, reterr);
        }
        if (!err && column->zones.len) {
            err = flush_zones(import, column, import->chunks / STORE_ZONE_CHUNKS, reterr);
        }
    }
    return err ? err
               : store_partition_writer_put(import->writer, STORE_PARTITION_DICTIONARY, "", 0, 0,
                                            span_of(forms, import->count), reterr);
}

static enum err sync_folder(const struct store *store, struct err_info *reterr)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/partitions", store->home);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd < 0 || fsync(fd) ? store_env_errno(errno, path, reterr) : E_OK;
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static enum err finish_file(struct import *import, struct err_info *reterr)
{
    struct store_import_report *report = import->report;
    bool has_unit = import->published.unit[0];
    uint64_t units = has_unit ? import->unit_limit : report->rows;
    enum err err = put_columns(import, reterr);
    err = err ? err
              : store_partition_writer_finish(import->writer, report->rows, units,
                                              buf_span(&import->body), report->root,
                                              &report->bytes_stored, reterr);
    if (!has_unit) {
        report->units = report->rows;
    }
    return err;
}

static void unlink_earlier(struct import *import, const uint8_t uuid[16])
{
    char path[PATH_MAX];
    if (store_partition_path(import->store->home, uuid, "", path, sizeof path)) {
        (void)unlink(path); /* if it stays, the next store_open removes it */
    }
}

static enum err put_row(struct import *import, struct err_info *reterr)
{
    const struct store_import_report *report = import->report;
    const struct proto_manifest *manifest = import->manifest;
    struct arena arena = {0};
    struct store_dataset earlier;
    enum err err = store_catalogue_get(import->store, manifest->dataset, &arena, &earlier, NULL);
    bool replaces = !err;
    struct store_dataset row = {.rows = report->rows,
                                .units = report->units,
                                .bytes_raw = report->bytes_raw +
                                             (import->earlier && replaces ? earlier.bytes_raw : 0),
                                .bytes_stored = report->bytes_stored,
                                .size = manifest->size,
                                .imported_at = import->options->now,
                                .manifest_yaml = import->options->manifest_yaml,
                                .schema = buf_span(&import->body)};
    memcpy(row.name, manifest->dataset, sizeof row.name);
    memcpy(row.version, manifest->version, sizeof row.version);
    memcpy(row.partition_uuid, import->place.uuid, 16);
    memcpy(row.root, report->root, 32);
    memcpy(row.schema_hash, import->place.schema_hash, 32);
    err = store_catalogue_put(import->store, &row, reterr);
    if (!err && replaces) {
        unlink_earlier(import, earlier.partition_uuid);
    }
    arena_fini(&arena);
    return err;
}

static enum err publish(struct import *import, struct err_info *reterr)
{
    enum err err = finish_file(import, reterr);
    tell(import);
    err = err ? err : check_cancelled(import, reterr);
    for (size_t i = 0; i < import->count && !err; i++) {
        if (import->columns[i].pseudonyms) {
            err = store_pseudonym_save(import->store, import->columns[i].pseudonyms, reterr);
        }
    }
    tell(import);
    if (!err && rename(import->new_path, import->path)) {
        err = store_env_errno(errno, import->path, reterr);
    }
    tell(import);
    err = err ? err : sync_folder(import->store, reterr);
    err = err ? err : put_row(import, reterr);
    tell(import);
    return err;
}

/* --- all of it ----------------------------------------------------------------------------- */

static void wipe_buf(struct buf *buf)
{
    if (buf->ptr) {
        crypto_wipe(buf->ptr, buf->cap);
    }
    buf_fini(buf);
}

static void close_column(struct column *column)
{
    if (column->numbers) {
        crypto_wipe(column->numbers, STORE_CHUNK_ROWS * sizeof *column->numbers);
    }
    if (column->codes) {
        crypto_wipe(column->codes, STORE_CHUNK_ROWS * sizeof *column->codes);
    }
    proto_free(column->numbers);
    proto_free(column->codes);
    proto_free(column->text_start);
    proto_free(column->null);
    proto_free(column->histogram);
    wipe_buf(&column->text);
    wipe_buf(&column->zones);
    wipe_buf(&column->clean);
    close_values(&column->values);
    store_pseudonym_free(column->pseudonyms);
    store_zips_free(column->zips);
    store_hierarchy_free(column->hierarchy);
    crypto_key_free(column->key);
}

/* What a failed import made goes again: its file, and a key that nothing was published under. */
static void undo(struct import *import)
{
    if (import->file_made) {
        (void)unlink(import->new_path);
        (void)unlink(import->path);
    }
    if (import->new_key) {
        char name[CRYPTO_KEYRING_NAME];
        key_name(import->manifest->dataset, name);
        enum err ignored = store_pseudonym_remove(import->store, import->manifest->dataset, NULL);
        ignored = crypto_keyring_shred(import->store->keyring, name, NULL);
        (void)ignored; /* an unused key does no harm; the next import uses it */
    }
}

static void close_import(struct import *import, enum err err)
{
    store_partition_writer_close(import->writer);
    if (err) {
        undo(import);
    }
    for (size_t i = 0; i < import->count; i++) {
        close_column(&import->columns[i]);
    }
    store_partition_close(import->earlier);
    store_keyset_fini(&import->keys);
    store_keyset_fini(&import->excluded);
    store_keyset_fini(&import->excluded_numbers);
    crypto_key_free(import->shift_key);
    proto_free(import->columns);
    proto_free(import->seen);
    wipe_buf(&import->encoded);
    buf_fini(&import->body);
    arena_fini(&import->arena);
    if (import->source) {
        import->source->free(import->source);
    }
}

static bool ends_with(const char *name, const char *end)
{
    size_t a = strlen(name);
    size_t b = strlen(end);
    return a >= b && strcmp(name + a - b, end) == 0;
}

/* The format that the end of a file's name tells. */
static enum proto_format named_format(const char *name)
{
    static const struct {
        const char *end;
        enum proto_format format;
    } ends[] = {{".ndjson", PROTO_FORMAT_NDJSON},
                {".jsonl", PROTO_FORMAT_NDJSON},
                {".conll", PROTO_FORMAT_CONLL},
                {".iob", PROTO_FORMAT_CONLL}};
    static const char *const packed[] = {"", ".gz", ".zst"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        for (size_t j = 0; j < 3; j++) {
            char end[16];
            snprintf(end, sizeof end, "%s%s", ends[i].end, packed[j]);
            if (ends_with(name, end)) {
                return ends[i].format;
            }
        }
    }
    return PROTO_FORMAT_CSV;
}

/* The option wins over the manifest, and that over the file's name. */
static enum err choose_format(const struct import *import, enum proto_format *ret,
                              struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    *ret = import->manifest->format;
    static const char *const names[] = {"", "csv", "ndjson", "conll", "fhir"};
    if (options->format) {
        unsigned format = PROTO_FORMAT_CSV;
        while (format <= PROTO_FORMAT_FHIR && strcmp(options->format, names[format]) != 0) {
            format++;
        }
        if (format > PROTO_FORMAT_FHIR) {
            return proto_err_set(reterr, E_UNSUPPORTED,
                                 "this version reads csv, ndjson, conll and fhir");
        }
        *ret = (enum proto_format)format;
    } else if (*ret == PROTO_FORMAT_NONE) {
        *ret = named_format(options->data_name ? options->data_name : options->data_path);
    }
    return E_OK;
}

/* A JSON object has no header line: what the manifest asks for is its header. */
static const char **ask_names(struct import *import, size_t *ret_count)
{
    const struct proto_schema *declared = &import->manifest->schema;
    const char **names = arena_alloc(&import->arena, declared->count, sizeof *names);
    size_t count = 0;
    bool redacts = false;
    for (size_t i = 0; i < declared->count; i++) {
        redacts = redacts || declared->columns[i].deidentify == PROTO_DEID_REDACT;
    }
    for (size_t i = 0; names && i < declared->count; i++) {
        const struct proto_column *column = &declared->columns[i];
        bool names_people = redacts && column->type == PROTO_COLUMN_TEXT;
        if (column->deidentify != PROTO_DEID_DROP || names_people) {
            names[count++] = column->source[0] ? column->source : column->name;
        }
    }
    *ret_count = count;
    return names;
}

static enum err open_ndjson(struct import *import, struct err_info *reterr)
{
    size_t count;
    const char **names = ask_names(import, &count);
    return names ? store_reader_ndjson_open(import->options->data_path, names, count,
                                            &import->source, reterr)
                 : proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
}

/* The manifest is the mapping: `resource:` says which resources are rows, each column's `source:` where its value lies. */
static enum err open_fhir(struct import *import, struct err_info *reterr)
{
    if (!import->manifest->resource) {
        return proto_err_set(
            reterr, E_INVALID,
            "FHIR data needs resource: in the manifest, such as resource: Observation");
    }
    enum err err = open_ndjson(import, reterr);
    if (!err) {
        store_reader_ndjson_fhir(import->source, import->manifest->resource);
    }
    return err;
}

/* Every column and no row. */
static enum err open_nothing(struct import *import, struct err_info *reterr)
{
    size_t count;
    const char **names = ask_names(import, &count);
    return names ? store_reader_ndjson_bytes(SPAN_NONE, names, count, &import->source, reterr)
                 : proto_err_set(reterr, E_NO_MEMORY, "preparing the import");
}

static enum err open_source(struct import *import, struct err_info *reterr)
{
    if (import->options->forget) {
        return open_nothing(import, reterr);
    }
    enum proto_format format;
    enum err err = choose_format(import, &format, reterr);
    if (err) {
        return err;
    }
    if (format == PROTO_FORMAT_FHIR) {
        return open_fhir(import, reterr);
    }
    if (format == PROTO_FORMAT_CONLL) {
        return store_reader_conll_open(import->options->data_path, &import->source, reterr);
    }
    return format == PROTO_FORMAT_NDJSON
               ? open_ndjson(import, reterr)
               : store_reader_csv_open(import->options->data_path, &import->source, reterr);
}

static void note_absent(struct import *import)
{
    for (size_t i = 0; i < import->count && import->source->absent; i++) {
        import->columns[i].report->absent = import->source->absent[import->columns[i].field];
    }
}

static enum err run(struct import *import, struct err_info *reterr)
{
    const struct store_import_options *options = import->options;
    enum err err = open_source(import, reterr);
    err = err ? err : open_columns(import, reterr);
    err = err ? err : make_body(import, reterr);
    err = err ? err : open_earlier(import, reterr);
    /* A rehearsal of append needs the pseudonyms, too, to know which keys are there; it saves none. */
    if (!err && (!options->dry_run || import->earlier)) {
        err = prepare_writing(import, reterr);
    }
    err = err ? err : read_excluded(import, reterr);
    /* Without a key the stored rows come first, as they are older; with one the file must be known before. */
    if (!err && import->earlier && !import->key) {
        err = carry_over(import, reterr);
    }
    err = err ? err : read_rows(import, reterr);
    if (import->source) {
        import->report->bytes_raw = import->source->bytes_plain;
        note_absent(import);
    }
    err = err ? err : judge_rejects(import, reterr);
    if (!err && import->key) {
        err = carry_over(import, reterr);
    }
    err = err ? err : flush_chunk(import, reterr);
    return err || options->dry_run ? err : publish(import, reterr);
}

enum err store_import_run(struct store *store, const struct proto_manifest *manifest,
                          const struct store_import_options *options,
                          struct store_import_report *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    struct store_claim self = {.store = store, .dataset = manifest->dataset};
    if (!store_claim_enter(&self)) {
        return proto_err_set(reterr, E_BUSY, "dataset %s is being imported or given a new key",
                             manifest->dataset);
    }
    struct import import = {.store = store,
                            .manifest = manifest,
                            .options = options,
                            .report = ret,
                            .today = floor((double)options->now / 86400),
                            .encoded = {.max = STORE_CHUNK_BYTES_MAX}};
    enum err err = run(&import, reterr);
    close_import(&import, err);
    store_claim_leave(&self);
    return err;
}

/* --- recovery and removal ------------------------------------------------------------------ */

struct wanted {
    struct buf uuids;
};

static enum err want(void *user, const struct store_dataset *row)
{
    return buf_put(&((struct wanted *)user)->uuids, span_of(row->partition_uuid, 16));
}

static bool is_wanted(const struct wanted *wanted, const char *name)
{
    char hex[33];
    uint8_t uuid[16];
    snprintf(hex, sizeof hex, "%.32s", name);
    if (strlen(name) != 36 || strcmp(name + 32, ".mdb") != 0 || !span_from_hex(hex, uuid, 16)) {
        return true; /* not ours to remove */
    }
    for (size_t at = 0; at < wanted->uuids.len; at += 16) {
        if (memcmp(wanted->uuids.ptr + at, uuid, 16) == 0) {
            return true;
        }
    }
    return false;
}

enum err store_import_recover(struct store *store, struct err_info *reterr)
{
    struct wanted wanted = {.uuids = {.max = (size_t)16 << 20}};
    enum err err = store_catalogue_each(store, want, &wanted, reterr);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/partitions", store->home);
    DIR *folder = err ? NULL : opendir(path);
    if (!err && !folder && errno != ENOENT) {
        err = store_env_errno(errno, path, reterr);
    }
    const struct dirent *entry;
    while (folder && (entry = readdir(folder)) != NULL) {
        if (ends_with(entry->d_name, ".new") || !is_wanted(&wanted, entry->d_name)) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    if (folder) {
        closedir(folder);
    }
    buf_fini(&wanted.uuids);
    return err;
}

enum err store_import_remove(struct store *store, const char *dataset, struct err_info *reterr)
{
    struct store_claim self = {.store = store, .dataset = dataset};
    struct arena arena = {0};
    struct store_dataset row;
    char name[CRYPTO_KEYRING_NAME];
    char path[PATH_MAX];
    if (!store_claim_enter(&self)) {
        return proto_err_set(reterr, E_BUSY, "dataset %s is being imported or given a new key",
                             dataset);
    }
    enum err err = store_catalogue_get(store, dataset, &arena, &row, reterr);
    if (!err) {
        key_name(dataset, name);
        err = crypto_keyring_shred(store->keyring, name, reterr);
        err = err == E_NOT_FOUND ? E_OK : err; /* an earlier removal came this far */
    }
    if (!err) {
        store_rotate_name(dataset, name);
        err = crypto_keyring_shred(store->keyring, name, reterr);
        err = err == E_NOT_FOUND ? E_OK : err; /* no rotation was under way */
    }
    err = err ? err : store_keyring_anchor(store, reterr);
    err = err ? err : store_pseudonym_remove(store, dataset, reterr);
    if (!err && store_partition_path(store->home, row.partition_uuid, "", path, sizeof path) &&
        unlink(path) && errno != ENOENT) {
        err = store_env_errno(errno, path, reterr);
    }
    err = err ? err : store_catalogue_remove(store, dataset, reterr);
    arena_fini(&arena);
    store_claim_leave(&self);
    return err;
}
