#include "config.h"
#include "proto/mapping.h"

#include <math.h>

#include "proto/codec.h"

/* ---- systems of codes ----------------------------------------------------------------------- */

/* What people call a system, and its URL (HL7 terminology, R4). */
static const struct {
    const char *name;
    const char *url;
} systems[] = {
    {"LOINC", "http://loinc.org"},
    {"SNOMED", "http://snomed.info/sct"},
    {"ICD-10", "http://hl7.org/fhir/sid/icd-10"},
    {"ICD-10-CM", "http://hl7.org/fhir/sid/icd-10-cm"},
    {"ICD-10-GM", "http://fhir.de/CodeSystem/bfarm/icd-10-gm"},
    {"ICD-9-CM", "http://hl7.org/fhir/sid/icd-9-cm"},
    {"RXNORM", "http://www.nlm.nih.gov/research/umls/rxnorm"},
    {"ATC", "http://www.whocc.no/atc"},
    {"NDC", "http://hl7.org/fhir/sid/ndc"},
    {"CVX", "http://hl7.org/fhir/sid/cvx"},
    {"UCUM", "http://unitsofmeasure.org"},
    {"V3-ACTCODE", "http://terminology.hl7.org/CodeSystem/v3-ActCode"},
};

static const char *settle_systems(const char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool known = strchr(names[i], ':') != NULL; /* a URL of its own */
        for (size_t j = 0; j < sizeof systems / sizeof *systems && !known; j++) {
            if (strcmp(names[i], systems[j].name) == 0) {
                names[i] = systems[j].url;
                known = true;
            }
        }
        if (!known) {
            return "must be a URL, or LOINC, SNOMED, ICD-10, ICD-10-CM, ICD-10-GM, ICD-9-CM, "
                   "RXNORM, ATC, NDC, CVX, UCUM, V3-ACTCODE";
        }
    }
    return NULL;
}

/* ---- paths ----------------------------------------------------------------------------------- */

static bool is_key(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i && ((c >= '0' && c <= '9') || c == '-'))) {
            return false;
        }
    }
    return text.len > 0;
}

static bool is_index(struct span text, uint32_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        *ret = *ret * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    return text.len > 0 && text.len <= 4;
}

/* The step at the front of *INOUT, which moves behind it and its dot. A bracket may hold dots. */
static struct span next_step(struct span *inout)
{
    size_t len = 0;
    bool inside = false;
    while (len < inout->len && (inside || inout->ptr[len] != '.')) {
        inside = inout->ptr[len] == '[' || (inside && inout->ptr[len] != ']');
        len++;
    }
    struct span step = span_of(inout->ptr, len);
    *inout = span_of(inout->ptr + len + (len < inout->len), inout->len - len - (len < inout->len));
    return step;
}

static const char *read_step(struct span text, struct arena *arena, struct proto_mapping_step *ret)
{
    static const char *const shape =
        "has a step that is neither a key, a number, key[name=text] nor resolve()";
    *ret = (struct proto_mapping_step){.resolve = span_is(text, "resolve()")};
    if (ret->resolve || is_index(text, &ret->index)) {
        return NULL;
    }
    const uint8_t *bracket = memchr(text.ptr, '[', text.len);
    struct span key = bracket ? span_of(text.ptr, (size_t)(bracket - text.ptr)) : text;
    if (!is_key(key)) {
        return shape;
    }
    ret->key = arena_strdup(arena, key);
    if (!ret->key) {
        return "no memory to read it";
    }
    if (!bracket) {
        return NULL;
    }
    struct span inside = span_of(bracket + 1, text.len - key.len - 1);
    const uint8_t *equals = inside.len ? memchr(inside.ptr, '=', inside.len) : NULL;
    if (!equals || inside.ptr[inside.len - 1] != ']') {
        return shape;
    }
    struct span name = span_of(inside.ptr, (size_t)(equals - inside.ptr));
    struct span want = span_of(equals + 1, inside.len - name.len - 2);
    if (!is_key(name) || want.len == 0) {
        return shape;
    }
    ret->where_key = arena_strdup(arena, name);
    ret->where_text = arena_strdup(arena, want);
    return ret->where_key && ret->where_text ? NULL : "no memory to read it";
}

/* The join whose type is TEXT; -1: the type of the rows; -2: neither. */
static int find_type(const struct proto_mapping *mapping, struct span text)
{
    for (size_t i = 0; i < mapping->join_count; i++) {
        if (span_is(text, mapping->joins[i].resource)) {
            return (int)i;
        }
    }
    return span_is(text, mapping->rows) ? -1 : -2;
}

static const char *read_path(struct proto_mapping *mapping, const char *text,
                             struct proto_mapping_path *ret)
{
    struct span rest = span_str(text);
    *ret = (struct proto_mapping_path){.join = -1};
    ret->steps = arena_alloc(&mapping->arena, PROTO_MAPPING_STEPS_MAX, sizeof *ret->steps);
    if (!ret->steps) {
        return "no memory to read it";
    }
    if (rest.len == 0 || rest.ptr[rest.len - 1] == '.') {
        return "is no path";
    }
    if (rest.ptr[0] >= 'A' && rest.ptr[0] <= 'Z') {
        ret->join = find_type(mapping, next_step(&rest));
        if (ret->join == -2) {
            return "begins with a type that is neither that of rows: nor that of a join";
        }
    }
    while (rest.len) {
        if (ret->count == PROTO_MAPPING_STEPS_MAX) {
            return "has too many steps";
        }
        const char *fault = read_step(next_step(&rest), &mapping->arena, &ret->steps[ret->count]);
        if (fault) {
            return fault;
        }
        ret->count++;
    }
    return ret->count ? NULL : "leads nowhere";
}

static const char *read_paths(struct proto_mapping *mapping, const char *const *texts, size_t count,
                              struct proto_mapping_path **ret)
{
    if (count > PROTO_MAPPING_PATHS_MAX) {
        return "too many";
    }
    *ret = arena_alloc(&mapping->arena, count + 1, sizeof **ret);
    const char *fault = *ret ? NULL : "no memory to read it";
    for (size_t i = 0; i < count && !fault; i++) {
        fault = read_path(mapping, texts[i], &(*ret)[i]);
    }
    return fault;
}

/* A Reference is an object; its text is what is wanted. */
static const char *refer(struct proto_mapping *mapping, struct proto_mapping_path *path)
{
    const struct proto_mapping_step *last = &path->steps[path->count - 1];
    if (last->key && strcmp(last->key, "reference") == 0) {
        return NULL;
    }
    if (path->count == PROTO_MAPPING_STEPS_MAX) {
        return "has too many steps";
    }
    const char *key = arena_strdup(&mapping->arena, span_str("reference"));
    path->steps[path->count++] = (struct proto_mapping_step){.key = key};
    return key ? NULL : "no memory to read it";
}

/* ---- the check -------------------------------------------------------------------------------- */

static bool is_type(const char *text)
{
    return text && text[0] >= 'A' && text[0] <= 'Z' && is_key(span_str(text));
}

static enum err check_joins(struct proto_mapping *mapping, struct err_info *reterr)
{
    if (mapping->join_count > PROTO_MAPPING_JOINS_MAX) {
        return proto_err_set(reterr, E_INVALID, "joins: more than %d", PROTO_MAPPING_JOINS_MAX);
    }
    for (size_t i = 0; i < mapping->join_count; i++) {
        struct proto_mapping_join *join = &mapping->joins[i];
        const char *fault = is_type(join->resource) ? NULL : "is no type of resource";
        for (size_t j = 0; j < i && !fault; j++) {
            fault =
                strcmp(mapping->joins[j].resource, join->resource) == 0 ? "is joined twice" : NULL;
        }
        if (!fault && strcmp(join->resource, mapping->rows) == 0) {
            fault = "is the type of the rows";
        }
        if (fault) {
            return proto_err_set(reterr, E_INVALID, "joins[%zu].resource: %s", i, fault);
        }
    }
    for (size_t i = 0; i < mapping->join_count; i++) {
        const char *fault = read_path(mapping, mapping->joins[i].by, &mapping->joins[i].path);
        if (!fault && mapping->joins[i].path.join != -1) {
            fault = "must lead from the row";
        }
        fault = fault ? fault : refer(mapping, &mapping->joins[i].path);
        if (fault) {
            return proto_err_set(reterr, E_INVALID, "joins[%zu].by: %s", i, fault);
        }
    }
    return E_OK;
}

static enum err check_where(struct proto_mapping *mapping, struct err_info *reterr)
{
    for (size_t i = 0; i < mapping->where_count; i++) {
        struct proto_mapping_condition *where = &mapping->where[i];
        const char *fault = settle_systems(where->systems, where->system_count);
        if (fault) {
            return proto_err_set(reterr, E_INVALID, "where[%zu].system: %s", i, fault);
        }
        fault = read_paths(mapping, where->path_texts, where->path_count, &where->paths);
        for (size_t j = 0; j < where->path_count && !fault; j++) {
            fault = where->paths[j].join == -1 ? NULL : "must lead from the row";
        }
        if (fault) {
            return proto_err_set(reterr, E_INVALID, "where[%zu].path: %s", i, fault);
        }
    }
    return E_OK;
}

/* NULL, or what of FIELD belongs to another kind; *RET_KEY names it. */
static const char *check_kind(const struct proto_mapping_field *field, const char **ret_key)
{
    *ret_key = "until";
    if ((field->as == PROTO_MAPPING_DAYS) != (field->until_count > 0)) {
        return "belongs to as: days, which needs it";
    }
    *ret_key = "unit";
    if ((field->as == PROTO_MAPPING_QUANTITY) != (field->unit != NULL)) {
        return "belongs to as: quantity, which needs it";
    }
    *ret_key = "convert";
    if (field->as != PROTO_MAPPING_QUANTITY && (field->convert_count || field->comparator)) {
        return "and comparator belong to as: quantity";
    }
    for (size_t i = 0; i < field->convert_count; i++) {
        if (!isfinite(field->convert[i].factor) || field->convert[i].factor == 0) {
            return "needs a factor other than 0";
        }
    }
    *ret_key = "system";
    if (field->system_count && field->as != PROTO_MAPPING_VALUE) {
        return "belongs to a code, which is no other as:";
    }
    *ret_key = "take";
    if (field->take && (!field->system_count || (strcmp(field->take, "code") != 0 &&
                                                 strcmp(field->take, "display") != 0))) {
        return "is code or display, of a field with system:";
    }
    return NULL;
}

/* The age needs the birth date of whom the row is about. */
static const char *check_age(const struct proto_mapping *mapping)
{
    bool patient = strcmp(mapping->rows, "Patient") == 0;
    for (size_t i = 0; i < mapping->join_count && !patient; i++) {
        patient = strcmp(mapping->joins[i].resource, "Patient") == 0;
    }
    return patient ? NULL : "age needs a join with Patient";
}

static enum err check_field(struct proto_mapping *mapping, size_t i, struct err_info *reterr)
{
    struct proto_mapping_field *field = &mapping->fields[i];
    const char *key = "name";
    const char *fault = proto_column_name_valid(field->name) ? NULL : "is no name of a column";
    for (size_t j = 0; j < i && !fault; j++) {
        fault = strcmp(mapping->fields[j].name, field->name) == 0 ? "stands twice" : NULL;
    }
    fault = fault ? fault : check_kind(field, &key);
    if (!fault && field->as == PROTO_MAPPING_AGE) {
        key = "as";
        fault = check_age(mapping);
    }
    if (!fault) {
        key = "system";
        fault = settle_systems(field->systems, field->system_count);
    }
    if (!fault) {
        key = "path";
        fault = read_paths(mapping, field->path_texts, field->path_count, &field->paths);
    }
    for (size_t j = 0; j < field->path_count && !fault && field->as == PROTO_MAPPING_REFERENCE;
         j++) {
        fault = refer(mapping, &field->paths[j]);
    }
    if (!fault && field->until_count) {
        key = "until";
        fault = read_paths(mapping, field->until_texts, field->until_count, &field->until);
    }
    for (size_t j = 0; j < field->until_count && !fault; j++) {
        fault = field->until[j].join == -1 ? NULL : "must lead from the row";
    }
    field->take = field->take ? field->take : "code";
    return fault ? proto_err_set(reterr, E_INVALID, "fields[%zu].%s: %s", i, key, fault) : E_OK;
}

static enum err check_fhir(struct proto_mapping *mapping, struct err_info *reterr)
{
    if (!is_type(mapping->rows)) {
        return proto_err_set(reterr, E_INVALID,
                             "rows: must be a type of resource, such as Observation");
    }
    if (mapping->query) {
        return proto_err_set(reterr, E_INVALID, "query: belongs to format: postgres");
    }
    if (mapping->field_count == 0 || mapping->field_count > PROTO_MAPPING_FIELDS_MAX) {
        return proto_err_set(reterr, E_INVALID, "fields: must be 1 to %d",
                             PROTO_MAPPING_FIELDS_MAX);
    }
    enum err err = check_joins(mapping, reterr);
    err = err ? err : check_where(mapping, reterr);
    for (size_t i = 0; i < mapping->field_count && !err; i++) {
        err = check_field(mapping, i, reterr);
    }
    return err;
}

static enum err check_postgres(const struct proto_mapping *mapping, struct err_info *reterr)
{
    if (mapping->rows || mapping->join_count || mapping->where_count || mapping->field_count) {
        return proto_err_set(reterr, E_INVALID,
                             "query: rows, joins, where and fields belong to format: fhir; of "
                             "postgres the query says it all");
    }
    return mapping->query
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "query: format: postgres needs one SELECT");
}

enum err proto_mapping_check(struct proto_mapping *mapping, struct err_info *reterr)
{
    return mapping->format == PROTO_MAPPING_FHIR ? check_fhir(mapping, reterr)
                                                 : check_postgres(mapping, reterr);
}

/* ---- what may reach a column ------------------------------------------------------------------ */

/* How much a place in a resource says of a person. */
enum bearing {
    BEARS_NOTHING,
    BEARS_EXTENSION, /* whatever somebody put there */
    BEARS_TEXT,      /* free text */
    BEARS_ZIP,
    BEARS_ID,
    BEARS_NAME, /* and other direct identifiers */
};

static bool has_step(const struct proto_mapping_path *path, const char *key)
{
    for (size_t i = 0; i < path->count; i++) {
        if (path->steps[i].key && strcmp(path->steps[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

static const char *last_key(const struct proto_mapping_path *path)
{
    for (size_t i = path->count; i > 0; i--) {
        if (path->steps[i - 1].key) {
            return path->steps[i - 1].key;
        }
    }
    return "";
}

static bool is_any(const char *key, const char *const *list)
{
    while (*list && strcmp(key, *list) != 0) {
        list++;
    }
    return *list != NULL;
}

static enum bearing bears_address(const char *last)
{
    return strcmp(last, "postalCode") == 0                              ? BEARS_ZIP
           : strcmp(last, "state") == 0 || strcmp(last, "country") == 0 ? BEARS_NOTHING
                                                                        : BEARS_NAME;
}

/* The system and type of the identifier at step AT say which kind it is, not whose. */
static bool says_kind(const struct proto_mapping_path *path, size_t at)
{
    for (at++; at < path->count && !path->steps[at].key; at++) {
    }
    const char *next = at < path->count ? path->steps[at].key : "";
    return strcmp(next, "system") == 0 || strcmp(next, "type") == 0;
}

/* FHIR R4 by the names of its elements, which mean the same in every resource. */
static enum bearing bearing_of(const struct proto_mapping_path *path)
{
    static const char *const names[] = {"name",     "family",    "telecom",   "photo",
                                        "contact",  "link",      "contained", "url",
                                        "position", "longitude", "latitude",  NULL};
    static const char *const texts[] = {
        "text",        "div",         "note",    "comment", "conclusion",         "data",
        "description", "valueString", "summary", "title",   "patientInstruction", NULL};
    static const char *const ids[] = {
        "id",         "identifier",         "reference", "fullUrl",      "serialNumber",
        "udiCarrier", "distinctIdentifier", "lotNumber", "subscriberId", NULL};
    const char *last = last_key(path);
    bool resolved = false;
    for (size_t i = 0; i < path->count; i++) {
        resolved = resolved || path->steps[i].resolve;
    }
    if (has_step(path, "extension") || has_step(path, "modifierExtension")) {
        return BEARS_EXTENSION;
    }
    if (has_step(path, "address")) {
        return bears_address(last);
    }
    for (size_t i = 0; i < path->count; i++) {
        const char *key = path->steps[i].key;
        if (key && is_any(key, names)) {
            return BEARS_NAME;
        }
        if (key && is_any(key, ids) && !(resolved && strcmp(key, "reference") == 0) &&
            !says_kind(path, i)) {
            return BEARS_ID;
        }
    }
    if (strcmp(last, "display") == 0 && !has_step(path, "coding") && !has_step(path, "class")) {
        return BEARS_NAME; /* of a Reference: mostly who it is */
    }
    return is_any(last, texts) || has_step(path, "note") ? BEARS_TEXT : BEARS_NOTHING;
}

/* The most that any of the field's paths bears. */
static enum bearing field_bears(const struct proto_mapping_field *field)
{
    if (field->as == PROTO_MAPPING_AGE || field->as == PROTO_MAPPING_DAYS ||
        field->as == PROTO_MAPPING_FLAG) {
        return BEARS_NOTHING;
    }
    enum bearing most = field->as == PROTO_MAPPING_REFERENCE ? BEARS_ID : BEARS_NOTHING;
    for (size_t i = 0; i < field->path_count; i++) {
        enum bearing bears = bearing_of(&field->paths[i]);
        most = bears > most ? bears : most;
    }
    return most;
}

/* NULL, or why OP is too little for what the field bears. */
static const char *too_little(const struct proto_mapping_field *field, enum proto_deidentify op,
                              bool is_unit)
{
    if (op == PROTO_DEID_DROP) {
        return NULL;
    }
    switch (field_bears(field)) {
    case BEARS_EXTENSION:
        return field->allow ? NULL
                            : "takes an extension: drop it, or say allow: true in the mapping when "
                              "it is known to identify nobody";
    case BEARS_TEXT:
        return op == PROTO_DEID_REDACT || op == PROTO_DEID_GENERALISE
                   ? NULL
                   : "takes free text, which needs drop, redact or generalise";
    case BEARS_ZIP:
        return op == PROTO_DEID_ZIP3 || op == PROTO_DEID_GENERALISE
                   ? NULL
                   : "takes a postal code, which needs drop, zip3 or generalise";
    case BEARS_ID:
        return op == PROTO_DEID_PSEUDONYM || op == PROTO_DEID_PSEUDONYM_HMAC || is_unit
                   ? NULL
                   : "takes an id, which needs drop, pseudonym or pseudonym-hmac, or to be the "
                     "unit";
    case BEARS_NAME:
        return "takes what tells who somebody is (a name, address, telecom, photo, contact or "
               "display), which can only be dropped";
    default:
        return NULL;
    }
}

int proto_mapping_find(const struct proto_mapping *mapping, const char *name)
{
    for (size_t i = 0; i < mapping->field_count; i++) {
        if (strcmp(mapping->fields[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

enum err proto_mapping_fits(const struct proto_mapping *mapping,
                            const struct proto_schema *declared, struct err_info *reterr)
{
    for (size_t i = 0; i < declared->count; i++) {
        const struct proto_column *column = &declared->columns[i];
        int number = proto_mapping_find(mapping, column->source[0] ? column->source : column->name);
        if (number < 0) {
            continue;
        }
        bool is_unit = declared->unit[0] && strcmp(declared->unit, column->name) == 0;
        const char *why = too_little(&mapping->fields[number], column->deidentify, is_unit);
        if (why) {
            return proto_err_set(reterr, E_INVALID, "columns[%zu].deidentify: column %s %s", i,
                                 column->name, why);
        }
    }
    return E_OK;
}

void proto_mapping_fini(struct proto_mapping *mapping)
{
    arena_fini(&mapping->arena);
    *mapping = (struct proto_mapping){0};
}
