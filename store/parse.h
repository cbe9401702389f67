/* Text fields of a data file as typed values. Pure; nothing here keeps or prints a field.
 * Threads: any. */
#ifndef CONCORDAT_STORE_PARSE_H
#define CONCORDAT_STORE_PARSE_H

#include "proto/schema.h"

/* Without blanks (space, tab, CR, LF) at either end. */
struct span store_parse_trim(struct span text);
/* Whether a field means "no value" for COLUMN: one of its missing texts, or the empty one when it has
 * none; blanks around it do not matter. */
bool store_parse_missing(const struct proto_column *column, struct span text);
/* Each: NULL and *ret, or why the field does not parse. */
const char *store_parse_integer(struct span text, double *ret); /* within +-2^53 */
const char *store_parse_real(struct span text, double *ret);    /* decimal, finite */
/* The same with a comma before the fraction; a point is no part of it, so that 1.234 is not taken for one and a bit. */
const char *store_parse_real_comma(struct span text, double *ret);
const char *store_parse_boolean(struct span text,
                                uint32_t *ret);              /* true t yes y 1, false f no n 0 */
const char *store_parse_date(struct span text, double *ret); /* YYYY-MM-DD; days since 1970-01-01 */

#endif
