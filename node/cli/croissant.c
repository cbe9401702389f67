/* Croissant (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html) as a draft: its record set's fields are
 * columns, its licence is read from where writers put it, its RAI fields become remarks for the data holder. */
#include "config.h"
#include "node/cli/draft.h"

#include <string.h>

/* A JSON-LD value is one thing or a list of things. */
static size_t count_of(const json_t *value)
{
    return json_is_array(value) ? json_array_size(value) : value && !json_is_null(value);
}

static const json_t *item(const json_t *value, size_t i)
{
    return json_is_array(value) ? json_array_get(value, i) : value;
}

/* The text of a value: itself, or what an object names itself by; "" for none. */
static const char *text_of(const json_t *value)
{
    static const char *const keys[] = {"@id", "url", "@value", "termCode", "name"};
    const char *text = json_string_value(value);
    for (size_t i = 0; !text && i < sizeof keys / sizeof *keys; i++) {
        text = json_string_value(json_object_get(value, keys[i]));
    }
    return text ? text : "";
}

static const json_t *member(const json_t *object, const char *prefix, const char *key)
{
    char full[64];
    const json_t *value = json_object_get(object, key);
    snprintf(full, sizeof full, "%s:%s", prefix, key);
    return value ? value : json_object_get(object, full);
}

/* "https://schema.org/Integer", "sc:Integer", "cr:Int64": what follows the last of / # : */
static const char *local_name(const char *iri)
{
    const char *last = iri;
    for (const char *at = iri; *at; at++) {
        last = strchr("/#:", *at) ? at + 1 : last;
    }
    return last;
}

static const struct {
    const char *name;
    const char *type;
} types[] = {
    {"Integer", "integer"}, {"Int8", "integer"},         {"Int16", "integer"},
    {"Int32", "integer"},   {"Int64", "integer"},        {"UInt8", "integer"},
    {"UInt16", "integer"},  {"UInt32", "integer"},       {"UInt64", "integer"},
    {"Float", "real"},      {"Number", "real"},          {"Float16", "real"},
    {"Float32", "real"},    {"Float64", "real"},         {"Boolean", "boolean"},
    {"Date", "date"},       {"DateTime", "date"},        {"Text", "text"},
    {"URL", "text"},        {"Enumeration", "category"},
};

static const char *type_of(const json_t *said)
{
    for (size_t i = 0; i < count_of(said); i++) {
        const char *name = local_name(text_of(item(said, i)));
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            if (strcmp(types[k].name, name) == 0) {
                return types[k].type;
            }
        }
    }
    return NULL;
}

/* The column of the file behind a field, where it says one; else the field's own name. */
static const char *source_of(const json_t *field)
{
    const json_t *extract = member(member(field, "cr", "source"), "cr", "extract");
    const char *column = json_string_value(member(extract, "cr", "column"));
    const char *name = json_string_value(json_object_get(field, "name"));
    const char *from = column ? column : name ? name : text_of(field);
    const char *slash = column ? NULL : strrchr(from, '/');
    return slash && slash[1] ? slash + 1 : from;
}

static void read_field(const json_t *field, struct cli_draft *ret)
{
    const char *source = source_of(field);
    const json_t *said = member(field, "cr", "dataType");
    const char *type = type_of(said);
    bool many = json_is_true(member(field, "cr", "repeated")) ||
                json_is_true(member(field, "cr", "isArray")) || member(field, "cr", "subField");
    if (!type || many) {
        cli_draft_note(ret, "the field %s is left out: no column holds %s", source,
                       many ? "several values" : local_name(text_of(item(said, 0))));
        return;
    }
    struct cli_draft_column *column = cli_draft_column(ret, source, type);
    if (column && strcmp(type, "category") == 0) {
        column->note = "values: [...] when they are known to everyone";
    }
}

static void read_record_sets(const json_t *sets, struct cli_draft *ret)
{
    bool used = false;
    for (size_t i = 0; i < count_of(sets); i++) {
        const json_t *set = item(sets, i);
        const json_t *fields = member(set, "cr", "field");
        if (count_of(fields) == 0 || used) {
            cli_draft_note(ret, "the record set %s is left out: a manifest describes one table",
                           text_of(set));
            continue;
        }
        used = true;
        for (size_t k = 0; k < count_of(fields); k++) {
            read_field(item(fields, k), ret);
        }
        if (member(set, "cr", "key")) {
            cli_draft_note(ret,
                           "its key is %s: if that is one person's, make it the unit "
                           "(`unit:`, `deidentify: pseudonym`)",
                           text_of(item(member(set, "cr", "key"), 0)));
        }
    }
}

static void read_licence(const json_t *json, struct cli_draft *ret)
{
    const json_t *licence = json_object_get(json, "license");
    for (size_t i = 0; i < count_of(licence); i++) {
        cli_draft_licence(ret, text_of(item(licence, i)));
    }
    if (member(json, "cr", "sdLicense")) {
        cli_draft_note(ret, "sdLicense is the licence of the description, not of the data");
    }
    const json_t *usage = json_object_get(json, "usageInfo");
    for (size_t i = 0; i < count_of(usage); i++) {
        const json_t *one = item(usage, i);
        if (json_object_get(one, "permission") || json_object_get(one, "odrl:permission")) {
            cli_draft_note(ret, "its usageInfo states terms in ODRL, which is a view of terms and "
                                "never read back: write them here");
        } else {
            cli_draft_codes(ret, text_of(one));
            cli_draft_codes(ret, json_is_object(one) &&
                                         json_string_value(json_object_get(one, "termCode"))
                                     ? json_string_value(json_object_get(one, "termCode"))
                                     : "");
        }
    }
}

static void read_rai(const json_t *json, struct cli_draft *ret)
{
    static const struct {
        const char *key;
        const char *label;
    } remarks[] = {
        {"personalSensitiveInformation", "personal and sensitive information"},
        {"dataUseCases", "intended uses"},
        {"dataLimitations", "limitations"},
        {"dataBiases", "biases"},
    };
    for (size_t i = 0; i < sizeof remarks / sizeof *remarks; i++) {
        const json_t *said = member(json, "rai", remarks[i].key);
        for (size_t k = 0; k < count_of(said) && k < 8; k++) {
            cli_draft_note(ret, "%s: %.250s", remarks[i].label, text_of(item(said, k)));
        }
    }
}

enum err cli_draft_croissant(const json_t *json, struct cli_draft *ret, struct err_info *reterr)
{
    const json_t *type = json_object_get(json, "@type");
    const json_t *maker = item(json_object_get(json, "creator"), 0);
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *version = text_of(json_object_get(json, "version"));
    if (!json_is_object(json) || strcmp(local_name(text_of(item(type, 0))), "Dataset") != 0) {
        return proto_err_set(reterr, E_INVALID,
                             "not Croissant: its @type is no Dataset of schema.org");
    }
    cli_draft_name(ret, name ? name : "dataset");
    ret->title = cli_draft_clean(ret, name ? name : NULL, 200);
    ret->version = *version ? cli_draft_clean(ret, version, 32) : NULL;
    ret->contact = cli_draft_clean(ret, json_string_value(json_object_get(maker, "email")), 200);
    read_licence(json, ret);
    read_record_sets(member(json, "cr", "recordSet"), ret);
    read_rai(json, ret);
    if (!ret->spdx) {
        cli_draft_note(ret, "it states no licence: find out under which terms you hold the data");
        ret->spdx = "NOASSERTION";
    }
    return ret->short_of_memory ? E_NO_MEMORY : E_OK;
}
