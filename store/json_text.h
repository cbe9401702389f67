/* One JSON text of a data file as a value, within limits; and its scalars as fields. Inside of store/ alone, as it names
 * jansson.
 *
 *     const char *fault = store_json_parse(line, &object);
 *     fault = fault ? fault : store_json_scalar(json_object_get(object, "age"), number, &field);
 *     json_decref(object);
 *
 * A fault says why, never what stands there. Threads: any. Limits: STORE_JSON_*. */
#ifndef CONCORDAT_STORE_JSON_TEXT_H
#define CONCORDAT_STORE_JSON_TEXT_H

#include "store/source.h"

#include <jansson.h>

#define STORE_JSON_TEXT_MAX  ((size_t)4 << 20) /* bytes of one object */
#define STORE_JSON_FIELD_MAX 65536
#define STORE_JSON_DEPTH_MAX 32
#define STORE_JSON_NUMBER    32 /* a long long, or a double of 17 digits */

/* An object of TEXT, which the caller gives back with json_decref. NULL, or why there is none: no JSON object, a key that
 * stands twice, zero bytes, invalid UTF-8, too deep. */
const char *store_json_parse(struct span text, json_t **ret);
/* Text, number, true or false; NULL and null are a field without a value. RET points into VALUE or NUMBER. */
const char *store_json_scalar(const json_t *value, char number[STORE_JSON_NUMBER],
                              struct store_field *ret);

#endif
