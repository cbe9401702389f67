#include "config.h"
#include "store/fhir_join.h"

#include "crypto/memory.h"
#include "store/join.h"

#include <stdio.h>

#define NULL_VALUE UINT16_MAX

/* A value that is kept: what path PATH of field FIELD leads to. */
struct slot {
    size_t field; /* of the mapping; BIRTH: the date of birth that ages need */
    size_t path;
};
#define BIRTH SIZE_MAX

struct join {
    const struct proto_mapping_join *declared;
    struct store_join *table;
    struct slot *slots;
    size_t slot_count;
    /* Of the row at hand: the record of what it refers to. */
    bool found;
    struct span record;
};

struct store_fhir_joins {
    const struct proto_mapping *mapping;
    struct join joins[PROTO_MAPPING_JOINS_MAX];
};

static bool is_patient(const struct join *join)
{
    return strcmp(join->declared->resource, "Patient") == 0;
}

/* --- records --------------------------------------------------------------------------------- */

static enum err put_value(struct buf *record, const struct store_field *value)
{
    uint8_t len[2];
    put_be16(len, value->null ? NULL_VALUE : (uint16_t)value->len);
    enum err err = buf_put(record, span_of(len, 2));
    /* With its zero, so that fields can point into the record. */
    return err || value->null ? err : buf_put(record, span_of(value->text, value->len + 1));
}

/* The value at PLACE of a record: 0 is the id, then the slots. */
static struct store_field value_at(struct span record, size_t place)
{
    const uint8_t *at = record.ptr;
    for (;; place--) {
        uint16_t len = get_be16(at);
        bool null = len == NULL_VALUE;
        if (place == 0) {
            return null ? (struct store_field){.text = "", .null = true}
                        : (struct store_field){.text = (const char *)at + 2, .len = len};
        }
        at += 2 + (null ? 0 : (size_t)len + 1);
    }
}

/* The record of RESOURCE: its id and the values that fields ask for. */
static enum err make_record(const struct store_fhir_joins *joins, const struct join *join,
                            const json_t *resource, const char *id, struct buf *record,
                            const char **ret_fault)
{
    struct store_field value = {.text = id, .len = strlen(id)};
    enum err err = put_value(record, &value);
    for (size_t i = 0; i < join->slot_count && !err && !*ret_fault; i++) {
        const struct slot *slot = &join->slots[i];
        char number[STORE_JSON_NUMBER];
        if (slot->field == BIRTH) {
            *ret_fault = store_json_scalar(json_object_get(resource, "birthDate"), number, &value);
        } else {
            const struct proto_mapping_field *field = &joins->mapping->fields[slot->field];
            *ret_fault =
                store_fhir_value(resource, field, &field->paths[slot->path], number, &value);
        }
        if (!*ret_fault && value.len > STORE_FHIR_JOINED_MAX) {
            *ret_fault = "has too long a value to join";
        }
        err = *ret_fault ? E_OK : put_value(record, &value);
    }
    return err;
}

static enum err keep_resource(struct store_fhir_joins *joins, struct join *join,
                              const json_t *resource, const char *full_url, uint64_t line,
                              struct err_info *reterr)
{
    struct buf record = {.max = STORE_JOIN_RECORD_MAX};
    char name[STORE_FHIR_NAME], url[STORE_FHIR_NAME];
    const char *id = json_string_value(json_object_get(resource, "id"));
    const char *fault = NULL;
    bool named = id && store_fhir_reference(id, join->declared->resource, name);
    bool has_url = full_url && store_fhir_reference(full_url, join->declared->resource, url);
    if (!named && !has_url) {
        return E_OK; /* nothing can refer to it */
    }
    enum err err =
        make_record(joins, join, resource, store_fhir_id(named ? name : url), &record, &fault);
    if (err || fault) {
        err = proto_err_set(reterr, err && err != E_LIMIT ? err : E_INVALID, "line %llu: %s %s",
                            (unsigned long long)line, join->declared->resource,
                            fault ? fault : "has too much to join");
    }
    if (!err && named) {
        err = store_join_add(join->table, span_str(name), buf_span(&record), reterr);
    }
    if (!err && has_url && !(named && strcmp(name, url) == 0)) {
        err = store_join_add(join->table, span_str(url), buf_span(&record), reterr);
    }
    crypto_buf_fini(&record);
    return err;
}

/* --- keeping --------------------------------------------------------------------------------- */

/* \u may spell anything. */
bool store_fhir_joins_may(const struct store_fhir_joins *joins, struct span text)
{
    bool may = memmem(text.ptr, text.len, "\\u", 2) != NULL;
    for (size_t i = 0; i < joins->mapping->join_count && !may; i++) {
        char quoted[80];
        int len = snprintf(quoted, sizeof quoted, "\"%s\"", joins->mapping->joins[i].resource);
        may = memmem(text.ptr, text.len, quoted, (size_t)len) != NULL;
    }
    return may;
}

enum err store_fhir_joins_keep(struct store_fhir_joins *joins, const json_t *resource,
                               const char *full_url, uint64_t line, struct err_info *reterr)
{
    const char *type = json_string_value(json_object_get(resource, "resourceType"));
    for (size_t i = 0; i < joins->mapping->join_count && type; i++) {
        if (strcmp(type, joins->joins[i].declared->resource) == 0) {
            return keep_resource(joins, &joins->joins[i], resource, full_url, line, reterr);
        }
    }
    return E_OK;
}

enum err store_fhir_joins_finish(struct store_fhir_joins *joins, struct err_info *reterr)
{
    enum err err = E_OK;
    for (size_t i = 0; i < joins->mapping->join_count && !err; i++) {
        err = store_join_finish(joins->joins[i].table, reterr);
    }
    return err;
}

/* --- looking up ------------------------------------------------------------------------------ */

enum err store_fhir_joins_find(struct store_fhir_joins *joins, const json_t *row,
                               uint64_t *inout_missed, struct err_info *reterr)
{
    for (size_t i = 0; i < joins->mapping->join_count; i++) {
        struct join *join = &joins->joins[i];
        char number[STORE_JSON_NUMBER], name[STORE_FHIR_NAME];
        struct store_field text;
        /* A contained resource is none of its own, and not every row has to refer to one. */
        bool says = !store_fhir_text(row, &join->declared->path, number, &text) && !text.null &&
                    text.text[0] != '#';
        bool refers = says && store_fhir_reference(text.text, join->declared->resource, name);
        enum err err = refers ? store_join_find(join->table, span_str(name), &join->record, reterr)
                              : E_NOT_FOUND;
        join->found = !err;
        if (err && err != E_NOT_FOUND) {
            return err;
        }
        *inout_missed += says && err;
    }
    return E_OK;
}

static const struct store_field none = {.text = "", .null = true};

static struct store_field slot_value(const struct join *join, size_t field, size_t path)
{
    for (size_t i = 0; i < join->slot_count && join->found; i++) {
        if (join->slots[i].field == field && join->slots[i].path == path) {
            return value_at(join->record, i + 1);
        }
    }
    return none;
}

struct store_field store_fhir_joins_value(const struct store_fhir_joins *joins, size_t field,
                                          size_t path)
{
    int join = joins->mapping->fields[field].paths[path].join;
    return slot_value(&joins->joins[join], field, path);
}

struct store_field store_fhir_joins_birth(const struct store_fhir_joins *joins)
{
    struct store_field birth = none;
    for (size_t i = 0; i < joins->mapping->join_count && birth.null; i++) {
        birth = is_patient(&joins->joins[i]) ? slot_value(&joins->joins[i], BIRTH, 0) : none;
    }
    return birth;
}

struct store_field store_fhir_joins_id(const struct store_fhir_joins *joins, const char *by)
{
    for (size_t i = 0; i < joins->mapping->join_count; i++) {
        const struct join *join = &joins->joins[i];
        if (join->found && strcmp(join->declared->by, by) == 0) {
            return value_at(join->record, 0);
        }
    }
    return none;
}

bool store_fhir_joins_found(const struct store_fhir_joins *joins, int join)
{
    return joins->joins[join].found;
}

/* --- opening --------------------------------------------------------------------------------- */

/* Which values of the joined resource the fields ask for. */
static enum err take_slots(const struct proto_mapping *mapping, int number, struct join *join)
{
    join->declared = &mapping->joins[number];
    join->slots =
        proto_alloc(mapping->field_count * PROTO_MAPPING_PATHS_MAX + 1, sizeof *join->slots);
    if (!join->slots) {
        return E_NO_MEMORY;
    }
    bool ages = false;
    for (size_t i = 0; i < mapping->field_count; i++) {
        const struct proto_mapping_field *field = &mapping->fields[i];
        for (size_t j = 0; j < field->path_count; j++) {
            if (field->paths[j].join == number) {
                join->slots[join->slot_count++] = (struct slot){i, j};
            }
        }
        ages = ages || field->as == PROTO_MAPPING_AGE;
    }
    if (ages && is_patient(join)) {
        join->slots[join->slot_count++] = (struct slot){.field = BIRTH};
    }
    return E_OK;
}

enum err store_fhir_joins_open(const struct proto_mapping *mapping, const char *folder,
                               size_t memory_bytes, struct store_fhir_joins **ret,
                               struct err_info *reterr)
{
    struct store_fhir_joins *joins = proto_alloc(1, sizeof *joins);
    enum err err = joins ? E_OK : E_NO_MEMORY;
    if (joins) {
        joins->mapping = mapping;
    }
    for (size_t i = 0; i < mapping->join_count && !err; i++) {
        err = take_slots(mapping, (int)i, &joins->joins[i]);
        err = err ? err
                  : store_join_open(folder, memory_bytes / mapping->join_count,
                                    &joins->joins[i].table, reterr);
    }
    if (err) {
        store_fhir_joins_close(joins);
        return proto_err_set(reterr, err, "opening the data");
    }
    *ret = joins;
    return E_OK;
}

void store_fhir_joins_close(struct store_fhir_joins *joins)
{
    for (size_t i = 0; joins && i < PROTO_MAPPING_JOINS_MAX; i++) {
        store_join_close(joins->joins[i].table);
        proto_free(joins->joins[i].slots);
    }
    proto_free(joins);
}
