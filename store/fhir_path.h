/* Values of FHIR resources by the paths of a mapping (proto/mapping.h). Inside of store/ alone, as it names jansson.
 *
 *     fault = store_fhir_value(resource, field, paths, number, &value);      the first value of the first path that has one
 *     good = store_fhir_reference("http://x/fhir/Patient/7/_history/2", "Patient", name);     "Patient/7"
 *
 * Threads: any. */
#ifndef CONCORDAT_STORE_FHIR_PATH_H
#define CONCORDAT_STORE_FHIR_PATH_H

#include "proto/mapping.h"
#include "store/json_text.h"

#define STORE_FHIR_NAME 256 /* of a resource, with its zero */

/* The value of FIELD in RESOURCE before it is mapped, by the path PATH of the field; RET points into RESOURCE, or into
 * NUMBER. Ages, days, flags and references are for store_fhir_text's callers. NULL, or why the row cannot be used. */
const char *store_fhir_value(const json_t *resource, const struct proto_mapping_field *field,
                             const struct proto_mapping_path *path, char number[STORE_JSON_NUMBER],
                             struct store_field *ret);
/* The first scalar at PATH, whatever a field would make of it. */
const char *store_fhir_text(const json_t *resource, const struct proto_mapping_path *path,
                            char number[STORE_JSON_NUMBER], struct store_field *ret);
/* Whether the conditions hold for RESOURCE. */
bool store_fhir_wanted(const json_t *resource, const struct proto_mapping *mapping);

/* What names the resource that TEXT refers to: "TYPE/id", however it is written (relative, absolute, with a version), or a
 * urn as it stands. TYPE is taken where the text has none. False: it names none (a contained one, or too long). */
bool store_fhir_reference(const char *text, const char *type, char ret[STORE_FHIR_NAME]);
/* The id behind the type or the urn's last colon. */
const char *store_fhir_id(const char *name);

#endif
