/* The front matter of a data set card (https://huggingface.co/docs/hub/datasets-cards) as a draft. */
#include "config.h"
#include "node/cli/draft.h"

#include <stdlib.h>
#include <string.h>

static const char *text_in(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static const char *column_type(const char *dtype)
{
    static const struct {
        const char *prefix;
        const char *type;
    } types[] = {{"int", "integer"},      {"uint", "integer"},   {"float", "real"},
                 {"double", "real"},      {"decimal", "real"},   {"bool", "boolean"},
                 {"date", "date"},        {"timestamp", "date"}, {"string", "text"},
                 {"large_string", "text"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strncmp(dtype, types[i].prefix, strlen(types[i].prefix)) == 0) {
            return types[i].type;
        }
    }
    return NULL;
}

/* names: {'0': no, '1': yes}, in the order of their numbers, or a list. */
static void read_labels(const json_t *names, struct cli_draft_column *column,
                        struct cli_draft *draft)
{
    size_t count = json_is_array(names) ? json_array_size(names) : json_object_size(names);
    char key[16];
    for (size_t i = 0; i < count && i < CLI_DRAFT_VALUES; i++) {
        snprintf(key, sizeof key, "%zu", i);
        const char *value = json_is_array(names) ? json_string_value(json_array_get(names, i))
                                                 : text_in(names, key);
        const char *clean = cli_draft_clean(draft, value, 60);
        if (clean && *clean) {
            column->values[column->value_count++] = clean;
        }
    }
    if (count > column->value_count) {
        column->value_count = 0;
        cli_draft_note(draft, "the labels of %s do not fit here: write its values", column->name);
    } else {
        cli_draft_note(draft,
                       "%s: the file holds either the labels or their numbers from 0; see "
                       "which",
                       column->name);
    }
}

static void read_feature(const json_t *feature, struct cli_draft *ret)
{
    const char *name = text_in(feature, "name");
    const json_t *dtype = json_object_get(feature, "dtype");
    const json_t *label = json_object_get(dtype, "class_label");
    const char *type = json_is_string(dtype) ? column_type(json_string_value(dtype)) : NULL;
    if (!name) {
        return;
    }
    if (json_is_object(label)) {
        struct cli_draft_column *column = cli_draft_column(ret, name, "category");
        if (column) {
            read_labels(json_object_get(label, "names"), column, ret);
        }
    } else if (type) {
        (void)cli_draft_column(ret, name, type);
    } else {
        cli_draft_note(ret, "the feature %s is left out: no column holds its type", name);
    }
}

static void read_features(const json_t *features, struct cli_draft *ret)
{
    for (size_t i = 0; i < json_array_size(features); i++) {
        read_feature(json_array_get(features, i), ret);
    }
}

/* 23,456 is 20,000: a number that a person states, not one that is counted. */
static uint64_t order_of(double rows)
{
    uint64_t unit = 1;
    if (!(rows >= 1) || rows > 1e12) {
        return 0;
    }
    while ((double)unit * 10 <= rows) {
        unit *= 10;
    }
    return (uint64_t)(rows / (double)unit) * unit;
}

static void read_size(const json_t *card, const json_t *info, struct cli_draft *ret)
{
    const json_t *splits = json_object_get(info, "splits");
    const json_t *classes = json_object_get(card, "size_categories");
    double rows = 0;
    for (size_t i = 0; i < json_array_size(splits); i++) {
        const char *count = text_in(json_array_get(splits, i), "num_examples");
        rows += count ? strtod(count, NULL) : 0;
    }
    ret->size = order_of(rows);
    const char *class =
        json_string_value(json_is_array(classes) ? json_array_get(classes, 0) : classes);
    if (!ret->size && class) { /* "10K<n<100K" */
        char *end = NULL;
        double least = strtod(class, &end);
        double scale = *end == 'K' ? 1e3 : *end == 'M' ? 1e6 : *end == 'B' ? 1e9 : 1;
        ret->size = order_of(least * scale);
    }
}

static void read_licence(const json_t *card, struct cli_draft *ret)
{
    const json_t *licence = json_object_get(card, "license");
    const char *name = text_in(card, "license_name");
    const char *said = json_string_value(licence);
    if (said && strcmp(said, "other") == 0) {
        cli_draft_licence(ret, name ? name : "other");
        if (text_in(card, "license_link")) {
            cli_draft_note(ret, "the licence's text: %.200s", text_in(card, "license_link"));
        }
    } else if (said && strcmp(said, "unknown") != 0) {
        cli_draft_licence(ret, said);
    }
    for (size_t i = 0; i < json_array_size(licence); i++) {
        const char *one = json_string_value(json_array_get(licence, i));
        cli_draft_licence(ret, one ? one : "");
    }
    if (!ret->spdx) {
        cli_draft_note(ret, "it states no licence: find out under which terms you hold the data");
        ret->spdx = "NOASSERTION";
    }
}

enum err cli_draft_card(const json_t *json, struct cli_draft *ret, struct err_info *reterr)
{
    const json_t *info = json_object_get(json, "dataset_info");
    const char *title = text_in(json, "pretty_name");
    if (!json_is_object(json)) {
        return proto_err_set(reterr, E_INVALID, "not a card: its front matter is no map");
    }
    if (json_is_array(info)) {
        if (json_array_size(info) > 1) {
            cli_draft_note(ret, "it describes %zu configurations; this is the first",
                           json_array_size(info));
        }
        info = json_array_get(info, 0);
    }
    const char *name = text_in(info, "config_name");
    bool told = name && strcmp(name, "default") != 0;
    cli_draft_name(ret, title ? title : told ? name : "dataset");
    ret->title = cli_draft_clean(ret, title, 200);
    read_licence(json, ret);
    read_size(json, info, ret);
    read_features(json_object_get(info, "features"), ret);
    if (text_in(json, "extra_gated_prompt")) {
        cli_draft_note(ret, "its host asks for consent first: %.220s",
                       text_in(json, "extra_gated_prompt"));
    }
    if (ret->column_count == 0) {
        cli_draft_note(ret, "it names no columns that a table can have: write them");
    }
    return ret->short_of_memory ? E_NO_MEMORY : E_OK;
}
