#include "config.h"
#include "store/fhir_path.h"

#include <stdio.h>

/* Called with each value that a path leads to; true: enough. */
typedef bool visit_fn(void *user, const json_t *value);

struct walk {
    const json_t *resource;
    const struct proto_mapping_path *path;
    visit_fn *visit;
    void *user;
};

static const char *member_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* The contained resource that a Reference names by "#id". */
static const json_t *contained(const json_t *resource, const json_t *reference)
{
    const char *name = member_text(reference, "reference");
    const json_t *list = json_object_get(resource, "contained");
    for (size_t i = 0; name && name[0] == '#' && i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *id = member_text(one, "id");
        if (id && strcmp(id, name + 1) == 0) {
            return one;
        }
    }
    return NULL;
}

static bool walk_from(const struct walk *walk, const json_t *from, size_t at);

/* The entries of a list, of which a step may choose one, or those with a certain member. */
static bool walk_list(const struct walk *walk, const json_t *list, size_t at,
                      const struct proto_mapping_step *filter)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *text = filter ? member_text(one, filter->where_key) : NULL;
        bool wanted = !filter || (text && strcmp(text, filter->where_text) == 0);
        if (wanted && !json_is_array(one) && walk_from(walk, one, at)) {
            return true;
        }
    }
    return false;
}

/* Recursion is bounded by the steps of the path. */
static bool walk_from(const struct walk *walk, const json_t *from, size_t at)
{
    const struct proto_mapping_step *step = at < walk->path->count ? &walk->path->steps[at] : NULL;
    if (json_is_array(from)) {
        bool chosen = step && !step->key && !step->resolve;
        const json_t *one = chosen ? json_array_get(from, step->index) : NULL;
        return chosen ? one && !json_is_array(one) && walk_from(walk, one, at + 1)
                      : walk_list(walk, from, at, NULL);
    }
    if (!from || !step) {
        return from && walk->visit(walk->user, from);
    }
    if (step->resolve) {
        const json_t *one = contained(walk->resource, from);
        return one && walk_from(walk, one, at + 1);
    }
    const json_t *next = step->key ? json_object_get(from, step->key) : NULL;
    if (next && step->where_key) {
        return json_is_array(next) && walk_list(walk, next, at + 1, step);
    }
    return next && walk_from(walk, next, at + 1);
}

static bool walk_path(const json_t *resource, const struct proto_mapping_path *path,
                      visit_fn *visit, void *user)
{
    struct walk walk = {resource, path, visit, user};
    return walk_from(&walk, resource, 0);
}

/* --- values ---------------------------------------------------------------------------------- */

static bool take_first(void *user, const json_t *value)
{
    const json_t **first = user;
    *first = json_is_null(value) ? NULL : value;
    return *first != NULL;
}

const char *store_fhir_text(const json_t *resource, const struct proto_mapping_path *path,
                            char number[STORE_JSON_NUMBER], struct store_field *ret)
{
    const json_t *value = NULL;
    (void)walk_path(resource, path, take_first, &value);
    return store_json_scalar(value, number, ret);
}

struct coding {
    const char *system;
    const json_t *found;
};

static bool take_coding(void *user, const json_t *value)
{
    struct coding *coding = user;
    const char *system = member_text(value, "system");
    bool same = system && strcmp(system, coding->system) == 0;
    coding->found = same ? value : NULL;
    return same;
}

static const char *coding_value(const json_t *resource, const struct proto_mapping_field *field,
                                const struct proto_mapping_path *path,
                                char number[STORE_JSON_NUMBER], struct store_field *ret)
{
    struct coding coding = {0};
    for (size_t i = 0; i < field->system_count && !coding.found; i++) {
        coding.system = field->systems[i];
        (void)walk_path(resource, path, take_coding, &coding);
    }
    return store_json_scalar(coding.found ? json_object_get(coding.found, field->take) : NULL,
                             number, ret);
}

/* What a number in the Quantity's unit is multiplied by; 0: the unit is another. */
static double factor_of(const struct proto_mapping_field *field, const json_t *quantity)
{
    const char *code = member_text(quantity, "code");
    const char *unit = code ? code : member_text(quantity, "unit");
    if (unit && strcmp(unit, field->unit) == 0) {
        return 1;
    }
    for (size_t i = 0; unit && i < field->convert_count; i++) {
        if (strcmp(unit, field->convert[i].unit) == 0) {
            return field->convert[i].factor;
        }
    }
    return 0;
}

static const char *quantity_value(const json_t *resource, const struct proto_mapping_field *field,
                                  const struct proto_mapping_path *path,
                                  char number[STORE_JSON_NUMBER], struct store_field *ret)
{
    const json_t *quantity = NULL;
    (void)walk_path(resource, path, take_first, &quantity);
    const json_t *value = json_object_get(quantity, "value");
    if (quantity && !json_is_object(quantity)) {
        return "is no Quantity";
    }
    const char *fault = store_json_scalar(json_is_number(value) ? value : NULL, number, ret);
    if (fault || ret->null) {
        return fault;
    }
    if (json_object_get(quantity, "comparator") && !field->comparator) {
        return "is no exact value but has a comparator";
    }
    double factor = factor_of(field, quantity);
    if (factor == 0) {
        return "is in a unit that the mapping does not know";
    }
    if (factor != 1) {
        ret->len =
            (size_t)snprintf(number, STORE_JSON_NUMBER, "%.12g", json_number_value(value) * factor);
    }
    return NULL;
}

const char *store_fhir_value(const json_t *resource, const struct proto_mapping_field *field,
                             const struct proto_mapping_path *path, char number[STORE_JSON_NUMBER],
                             struct store_field *ret)
{
    if (field->system_count) {
        return coding_value(resource, field, path, number, ret);
    }
    if (field->as == PROTO_MAPPING_QUANTITY) {
        return quantity_value(resource, field, path, number, ret);
    }
    const json_t *value = NULL;
    if (field->as == PROTO_MAPPING_FLAG) {
        (void)walk_path(resource, path, take_first, &value);
        bool yes = value && !json_is_false(value);
        *ret = (struct store_field){.text = yes ? "true" : "", .len = yes ? 4 : 0, .null = !yes};
        return NULL;
    }
    const char *fault = store_fhir_text(resource, path, number, ret);
    if (!fault && field->as == PROTO_MAPPING_DATE && ret->len > 10 && ret->text[10] == 'T') {
        memcpy(number, ret->text, 10);
        number[10] = '\0';
        ret->text = number;
        ret->len = 10;
    }
    return fault;
}

/* --- conditions ------------------------------------------------------------------------------ */

static bool meets(void *user, const json_t *value)
{
    const struct proto_mapping_condition *where = user;
    char number[STORE_JSON_NUMBER];
    struct store_field text;
    if (where->system_count) {
        const char *system = member_text(value, "system");
        bool same = false;
        for (size_t i = 0; i < where->system_count && system && !same; i++) {
            same = strcmp(system, where->systems[i]) == 0;
        }
        value = same ? json_object_get(value, "code") : NULL;
    }
    if (store_json_scalar(value, number, &text) || text.null) {
        return false;
    }
    for (size_t i = 0; i < where->value_count; i++) {
        if (strcmp(text.text, where->values[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool store_fhir_wanted(const json_t *resource, const struct proto_mapping *mapping)
{
    bool wanted = true;
    for (size_t i = 0; i < mapping->where_count && wanted; i++) {
        struct proto_mapping_condition *where = &mapping->where[i];
        bool met = false;
        for (size_t j = 0; j < where->path_count && !met; j++) {
            met = walk_path(resource, &where->paths[j], meets, where);
        }
        wanted = met != where->negated;
    }
    return wanted;
}

/* --- references ------------------------------------------------------------------------------ */

bool store_fhir_reference(const char *text, const char *type, char ret[STORE_FHIR_NAME])
{
    const char *end = strstr(text, "/_history/");
    size_t len = end ? (size_t)(end - text) : strlen(text);
    if (len == 0 || text[0] == '#' || len >= STORE_FHIR_NAME) {
        return false;
    }
    if (len > 4 && memcmp(text, "urn:", 4) == 0) {
        memcpy(ret, text, len);
        ret[len] = '\0';
        return true;
    }
    size_t id = len;
    while (id && text[id - 1] != '/') {
        id--;
    }
    size_t start = id ? id - 1 : 0; /* of the type, behind the slash before */
    while (start && text[start - 1] != '/') {
        start--;
    }
    int put = id > start + 1
                  ? snprintf(ret, STORE_FHIR_NAME, "%.*s", (int)(len - start), text + start)
                  : snprintf(ret, STORE_FHIR_NAME, "%s/%.*s", type, (int)(len - id), text + id);
    return id < len && put < STORE_FHIR_NAME;
}

const char *store_fhir_id(const char *name)
{
    const char *last = strrchr(name, '/');
    const char *colon = last ? NULL : strrchr(name, ':');
    return last ? last + 1 : colon ? colon + 1 : name;
}
