/* The rows of a mapping file. What they mean is checked by proto/mapping. */
#include "config.h"
#include "node/config/bind.h"
#include "node/config/yaml.h"

#define TOP(m)       offsetof(struct proto_mapping, m)
#define FIELD(m)     offsetof(struct proto_mapping_field, m)
#define CONDITION(m) offsetof(struct proto_mapping_condition, m)
#define JOIN(m)      offsetof(struct proto_mapping_join, m)
#define UNIT(m)      offsetof(struct proto_mapping_unit, m)
#define VALUE(m)     offsetof(struct proto_mapping_value, m)

static const char *const format_names[] = {"fhir", "postgres", NULL};
static const char *const as_names[] = {"value", "date", "reference", "age",
                                       "days",  "flag", "quantity",  NULL};

static const struct config_row unit_rows[] = {
    {.name = "unit",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = UNIT(unit),
     .min = 1,
     .max = 64},
    {.name = "factor", .type = CONFIG_NUMBER, .required = true, .offset = UNIT(factor)},
    CONFIG_ROWS_END,
};

static const struct config_row value_rows[] = {
    {.name = "from",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = VALUE(from),
     .max = PROTO_MAPPING_TEXT_MAX},
    {.name = "to",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = VALUE(to),
     .max = PROTO_SCHEMA_VALUE_SIZE - 1},
    CONFIG_ROWS_END,
};

static const struct config_row join_rows[] = {
    {.name = "resource",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = JOIN(resource),
     .min = 1,
     .max = 64},
    {.name = "by",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = JOIN(by),
     .min = 1,
     .max = PROTO_MAPPING_TEXT_MAX},
    CONFIG_ROWS_END,
};

#define TEXTS(of, list, number)                                                                    \
    .type = CONFIG_TEXTS, .offset = of(list), .count_offset = of(number), .min = 1,                \
    .max = PROTO_MAPPING_TEXT_MAX

static const struct config_row condition_rows[] = {
    {.name = "path", .required = true, TEXTS(CONDITION, path_texts, path_count)},
    {.name = "system", TEXTS(CONDITION, systems, system_count)},
    {.name = "values", .required = true, TEXTS(CONDITION, values, value_count)},
    {.name = "not", .type = CONFIG_BOOL, .offset = CONDITION(negated)},
    CONFIG_ROWS_END,
};

static const struct config_row field_rows[] = {
    {.name = "name",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = FIELD(name),
     .min = 1,
     .max = PROTO_NAME_SIZE - 1},
    {.name = "path", .required = true, TEXTS(FIELD, path_texts, path_count)},
    {.name = "until", TEXTS(FIELD, until_texts, until_count)},
    {.name = "as", .type = CONFIG_ENUM, .offset = FIELD(as), .names = as_names},
    {.name = "system", TEXTS(FIELD, systems, system_count)},
    {.name = "take", .type = CONFIG_TEXT, .offset = FIELD(take), .min = 1, .max = 16},
    {.name = "unit", .type = CONFIG_TEXT, .offset = FIELD(unit), .min = 1, .max = 64},
    {.name = "convert",
     .type = CONFIG_LIST,
     .offset = FIELD(convert),
     .count_offset = FIELD(convert_count),
     .max = PROTO_MAPPING_LIST_MAX,
     .rows = unit_rows,
     .element_size = sizeof(struct proto_mapping_unit)},
    {.name = "comparator", .type = CONFIG_BOOL, .offset = FIELD(comparator)},
    {.name = "map",
     .type = CONFIG_LIST,
     .offset = FIELD(map),
     .count_offset = FIELD(map_count),
     .max = PROTO_MAPPING_LIST_MAX,
     .rows = value_rows,
     .element_size = sizeof(struct proto_mapping_value)},
    {.name = "allow", .type = CONFIG_BOOL, .offset = FIELD(allow)},
    CONFIG_ROWS_END,
};

static const struct config_row mapping_rows[] = {
    {.name = "mapping",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = TOP(name),
     .min = 1,
     .max = 64},
    {.name = "title", .type = CONFIG_TEXT, .offset = TOP(title), .max = 256},
    {.name = "format",
     .type = CONFIG_ENUM,
     .required = true,
     .offset = TOP(format),
     .names = format_names},
    {.name = "rows", .type = CONFIG_TEXT, .offset = TOP(rows), .min = 1, .max = 64},
    {.name = "joins",
     .type = CONFIG_LIST,
     .offset = TOP(joins),
     .count_offset = TOP(join_count),
     .max = PROTO_MAPPING_JOINS_MAX,
     .rows = join_rows,
     .element_size = sizeof(struct proto_mapping_join)},
    {.name = "where",
     .type = CONFIG_LIST,
     .offset = TOP(where),
     .count_offset = TOP(where_count),
     .max = 16,
     .rows = condition_rows,
     .element_size = sizeof(struct proto_mapping_condition)},
    {.name = "fields",
     .type = CONFIG_LIST,
     .offset = TOP(fields),
     .count_offset = TOP(field_count),
     .min = 1,
     .max = PROTO_MAPPING_FIELDS_MAX,
     .rows = field_rows,
     .element_size = sizeof(struct proto_mapping_field)},
    {.name = "query", .type = CONFIG_TEXT, .offset = TOP(query), .min = 1, .max = 65536},
    CONFIG_ROWS_END,
};

static enum err check_mapping(void *object, struct err_info *reterr)
{
    return proto_mapping_check(object, reterr);
}

enum err config_yaml_mapping_bytes(struct span bytes, const char *name, struct proto_mapping *ret,
                                   struct err_info *reterr)
{
    return config_bind(bytes, name, mapping_rows, ret, &ret->arena, check_mapping, reterr);
}
