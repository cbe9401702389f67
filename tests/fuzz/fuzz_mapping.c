/* The reader of mapping files over arbitrary bytes. What is accepted must hold: paths within their limits, and a schema against
 * which it can be judged. */
#include "config.h"
#include "node/config/yaml.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_paths(const struct proto_mapping *mapping, const struct proto_mapping_path *paths,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (paths[i].join < -1 || paths[i].join >= (int)mapping->join_count ||
            paths[i].count == 0 || paths[i].count > PROTO_MAPPING_STEPS_MAX) {
            abort();
        }
    }
}

static void check_mapping(const struct proto_mapping *mapping)
{
    for (size_t i = 0; i < mapping->field_count; i++) {
        const struct proto_mapping_field *field = &mapping->fields[i];
        check_paths(mapping, field->paths, field->path_count);
        check_paths(mapping, field->until, field->until_count);
        if (proto_mapping_find(mapping, field->name) != (int)i) {
            abort();
        }
    }
    struct proto_column column = {.type = PROTO_COLUMN_TEXT};
    struct proto_schema schema = {.columns = &column, .count = 1};
    for (size_t i = 0; i < mapping->field_count; i++) {
        size_t len = strlen(mapping->fields[i].name);
        memcpy(column.name, mapping->fields[i].name, len + 1);
        column.deidentify = PROTO_DEID_DROP;
        if (proto_mapping_fits(mapping, &schema, NULL)) {
            abort(); /* what is dropped may be anything */
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proto_mapping mapping = {0};
    if (config_yaml_mapping_bytes(span_of(data, size), "fuzz", &mapping, NULL) == E_OK) {
        check_mapping(&mapping);
    }
    proto_mapping_fini(&mapping);
    return 0;
}
