/* The de-identifications that need a table or a key: three-digit ZIP codes, generalisation hierarchies, date shifts,
 * keyed pseudonyms; and dates as records have them. Rules: HIPAA 45 CFR 164.514(b) and (c).
 *
 *     err = store_zips_open(SPAN_NONE, &zips, reterr);               the built-in list
 *     store_zip3(zips, span_str("2743"), to);                        "027"
 *     err = store_hierarchy_open(bytes, 2, &hierarchy, reterr);
 *     const char *group = store_hierarchy_find(hierarchy, span_str("A00.1"));
 *
 * Threads: what is opened is read-only. Limits: STORE_TABLE_*. */
#ifndef CONCORDAT_STORE_TRANSFORM_H
#define CONCORDAT_STORE_TRANSFORM_H

#include "crypto/keyring.h"
#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define STORE_TABLE_BYTES_MAX ((size_t)16 << 20)
#define STORE_TABLE_ROWS_MAX  ((size_t)1 << 20)

struct store_zips;
/* TEXT: one three-digit prefix a line that is to become 000, or, if any line has a number of inhabitants behind it, all
 * prefixes with theirs: then those with 20,000 and less become 000, and those that are not listed. Comments begin with #.
 * SPAN_NONE: the union of the published lists (23 prefixes), and the prefixes 000 to 004, which are assigned to nobody.
 * Errors: E_INVALID with the line; E_NO_MEMORY. */
MUST_CHECK enum err store_zips_open(struct span text, struct store_zips **ret,
                                    struct err_info *reterr);
/* Digits alone count, a ZIP+4 loses its four, and four digits get back the zero that spreadsheets eat. What is no ZIP
 * code is "000". */
void store_zip3(const struct store_zips *zips, struct span zip, char ret[4]);
void store_zips_free(struct store_zips *zips);

struct store_hierarchy;
/* TEXT: a value and its generalisations a line, from fine to coarse, separated by ; (or by commas where no line has one).
 * LEVEL 1 is the one next to the value. Errors: E_INVALID with the line; E_LIMIT; E_NO_MEMORY. */
MUST_CHECK enum err store_hierarchy_open(struct span text, uint32_t level,
                                         struct store_hierarchy **ret, struct err_info *reterr);
/* NULL: the table does not know the value. Lives as long as the table. */
const char *store_hierarchy_find(const struct store_hierarchy *hierarchy, struct span value);
void store_hierarchy_free(struct store_hierarchy *hierarchy);

/* Keys of a dataset's own: LABEL and COLUMN separate them. */
MUST_CHECK enum err store_transform_key(const struct crypto_key *dek, const char *label,
                                        const char *column, struct crypto_key **ret);
/* -50 to 50, all alike likely, the same for the same identifier. */
int store_shift_days(const struct crypto_key *key, struct span identifier);
/* 16 letters and digits (base32 of 80 bits of an HMAC-SHA-256) and a zero. */
void store_pseudonym_text(const struct crypto_key *key, struct span identifier, char ret[17]);

/* YYYY-MM-DD, and behind it a time of day, which is dropped; or YYYY-MM or YYYY: then *RET_PARTIAL is set and *RET is its first
 * day. NULL, or why it is none. */
const char *store_parse_record_date(struct span text, double *ret, bool *ret_partial);
/* Completed years between two days since 1970-01-01; who was born on 29 February turns on 1 March in other years. */
int store_years_between(double birth, double day);

#endif
