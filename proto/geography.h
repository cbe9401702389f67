/* Places of licences and requests: ISO 3166-1 countries (alpha-2), their subdivisions (ISO 3166-2) and two macros.
 *
 * A record holds plain codes: macros are expanded when it is issued, so that what was signed does not change with the
 * membership of a union. Threads: pure. */
#ifndef CONCORDAT_PROTO_GEOGRAPHY_H
#define CONCORDAT_PROTO_GEOGRAPHY_H

#include "proto/err.h"
#include "proto/span.h"

#include <stddef.h>

/* "EU" and "EEA" become their members (alpha-2); a plain code becomes itself, with a count of 0. false: not a code. */
bool proto_geography_expand(const char *code, const char *const **ret_codes, size_t *ret_count);
/* ISO 3166-1 alpha-2 or -2 in form: what a record may hold. */
bool proto_geography_valid(struct span code);
/* What a person may write: a country that exists, a subdivision of one (its own part in form only), EU or EEA.
 * Errors: E_INVALID, the text names the nearest code; a country's name counts as one. */
MUST_CHECK enum err proto_geography_check(struct span code, struct err_info *reterr);
/* PLACE lies in AREA: the same, or a subdivision of that country ("DE-BY" in "DE"). */
bool proto_geography_within(struct span place, struct span area);
/* "Germany"; NULL for others. */
const char *proto_geography_name(struct span country);

#endif
