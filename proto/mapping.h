/* How resources of an electronic health record, or rows of a database, become the flat rows of a dataset: a mapping. It gives
 * a source the header that the manifest's columns are bound to by `source:` (or by their names). YAML is only its syntax
 * (node/config/yaml.h); the ready ones stand in deploy/mappings and are meant to be copied and edited.
 *
 *     struct proto_mapping mapping = {0};
 *     err = config_yaml_mapping(path, &mapping, reterr);                  fills and checks
 *     err = proto_mapping_fits(&mapping, &manifest.schema, reterr);       may its columns take these fields?
 *
 * FHIR (R4): each resource of the type `rows` is a row; a field's `path` leads to its value. A path is a list of steps joined
 * by dots, as in FHIRPath: a key, the place in a list from 0, `key[url=TEXT]` for the entries whose member url is TEXT, and
 * `resolve()` behind a reference to a contained resource. Where a list stands and no place is given all its entries are
 * looked at, and the first value wins; so does the first of several paths. A path that begins with the type of a join
 * (`Patient.birthDate`) leads into the resource that the row refers to.
 * PostgreSQL: a field is a column of the result of `query`.
 *
 * What FHIR resources say of people (names, addresses, identifiers, narratives, extensions) reaches a column only under the
 * operations of de-identification that fit it: proto_mapping_fits refuses every other.
 * Threads: read-only once checked. Memory: all lists and texts belong to mapping.arena. Limits: PROTO_MAPPING_*. */
#ifndef CONCORDAT_PROTO_MAPPING_H
#define CONCORDAT_PROTO_MAPPING_H

#include "proto/schema.h"

#define PROTO_MAPPING_FIELDS_MAX PROTO_SCHEMA_COLUMNS_MAX
#define PROTO_MAPPING_JOINS_MAX  4
#define PROTO_MAPPING_PATHS_MAX  8  /* of a field */
#define PROTO_MAPPING_STEPS_MAX  12 /* of a path */
#define PROTO_MAPPING_LIST_MAX   256
#define PROTO_MAPPING_TEXT_MAX   256

/* What a field makes of the value at its path. */
enum proto_mapping_as {
    PROTO_MAPPING_VALUE,     /* the text, number or truth value that stands there */
    PROTO_MAPPING_DATE,      /* a dateTime without its time of day */
    PROTO_MAPPING_REFERENCE, /* the id of the resource that a Reference names */
    PROTO_MAPPING_AGE,       /* completed years of the patient at the date there */
    PROTO_MAPPING_DAYS,      /* from the date at path to the one at until */
    PROTO_MAPPING_FLAG,      /* true where a value stands that is not false; else false */
    PROTO_MAPPING_QUANTITY,  /* the number of a Quantity, in unit */
};

/* A step of a path. */
struct proto_mapping_step {
    const char *key;        /* NULL: index */
    uint32_t index;         /* of a list */
    const char *where_key;  /* NULL: every entry; else only those whose member */
    const char *where_text; /* has this text */
    bool resolve;           /* the contained resource that the Reference names */
};

struct proto_mapping_path {
    int join; /* the resource that it begins in; -1: the row itself */
    struct proto_mapping_step *steps;
    size_t count;
};

/* FROM becomes TO. */
struct proto_mapping_value {
    const char *from;
    const char *to;
};

/* What unit's numbers are multiplied by. */
struct proto_mapping_unit {
    const char *unit;
    double factor;
};

struct proto_mapping_field {
    const char *name;
    const char **path_texts;
    size_t path_count;
    const char **until_texts; /* of DAYS */
    size_t until_count;
    enum proto_mapping_as as;
    const char *
        *systems; /* the Coding whose system is the first of these that is there; none: any value */
    size_t system_count;
    const char *take; /* of that Coding: code or display */
    const char *unit; /* of QUANTITY: a UCUM code */
    struct proto_mapping_unit *convert;
    size_t convert_count;
    bool comparator; /* of QUANTITY: take the number of "< 5", too; else such rows are rejected */
    struct proto_mapping_value *map;
    size_t map_count;
    bool allow; /* an extension that is known to identify nobody */
    /* Made by the check. */
    struct proto_mapping_path *paths;
    struct proto_mapping_path *until;
};

/* A row is taken only if one of the values at the paths is among VALUES (with `not: true` if none is). */
struct proto_mapping_condition {
    const char **path_texts;
    size_t path_count;
    const char **systems;
    size_t system_count;
    const char **values;
    size_t value_count;
    bool negated;
    struct proto_mapping_path *paths;
};

struct proto_mapping_join {
    const char *resource; /* Patient */
    const char *by;       /* the Reference of a row that names it: subject */
    struct proto_mapping_path path;
};

enum proto_mapping_format {
    PROTO_MAPPING_FHIR,
    PROTO_MAPPING_POSTGRES,
};

struct proto_mapping {
    const char *name;
    const char *title; /* what it is for; NULL: not said */
    enum proto_mapping_format format;
    const char *rows; /* of FHIR: the type of the resources that are rows */
    struct proto_mapping_join *joins;
    size_t join_count;
    struct proto_mapping_condition *where;
    size_t where_count;
    struct proto_mapping_field *fields; /* of FHIR */
    size_t field_count;
    const char *query; /* of PostgreSQL: one SELECT */
    struct arena arena;
};

/* Names, paths and what belongs to which; settles paths, systems by their short names (LOINC, SNOMED, ICD-10, ...) and
 * defaults. Errors: E_INVALID with the text "fields[2].path: reason"; E_LIMIT; E_NO_MEMORY. */
MUST_CHECK enum err proto_mapping_check(struct proto_mapping *mapping, struct err_info *reterr);

/* Whether each column of DECLARED may take the field that it is bound to: names, telecoms, photos and most of an address only
 * where they are dropped, identifiers and ids only as pseudonyms (or as the unit), narratives and notes only redacted,
 * extensions only where the mapping allows them. Columns whose field the mapping lacks are found by the importer.
 * Errors: E_INVALID with the text "columns[2].deidentify: reason". */
MUST_CHECK enum err proto_mapping_fits(const struct proto_mapping *mapping,
                                       const struct proto_schema *declared,
                                       struct err_info *reterr);

/* Index of the field, or -1. */
int proto_mapping_find(const struct proto_mapping *mapping, const char *name);
void proto_mapping_fini(struct proto_mapping *mapping);

#endif
