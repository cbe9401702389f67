/* What rows of FHIR data refer to by a mapping's joins: mostly their patients. Of each resource only the values that fields ask
 * for are kept, under its type and id and under its fullUrl (join.h). Inside of store/ alone, as it names jansson.
 *
 *     err = store_fhir_joins_open(&mapping, "HOME/partitions", 48 << 20, &joins, reterr);
 *     err = store_fhir_joins_keep(joins, resource, full_url, line, reterr);           all of them, in any order
 *     err = store_fhir_joins_finish(joins, reterr);
 *     err = store_fhir_joins_find(joins, row, &missed, reterr);                        what this row refers to
 *     value = store_fhir_joins_value(joins, field, path);
 *
 * Threads: one. Limits: STORE_FHIR_JOINED_MAX bytes of a value. */
#ifndef CONCORDAT_STORE_FHIR_JOIN_H
#define CONCORDAT_STORE_FHIR_JOIN_H

#include "store/fhir_path.h"

#define STORE_FHIR_JOINED_MAX 1024

struct store_fhir_joins;

/* MAPPING and FOLDER are borrowed until it is closed. MEMORY_BYTES is shared by all joins. Errors: E_NO_MEMORY. */
MUST_CHECK enum err store_fhir_joins_open(const struct proto_mapping *mapping, const char *folder,
                                          size_t memory_bytes, struct store_fhir_joins **ret,
                                          struct err_info *reterr);
/* Whether bytes of an object name a type that is joined: parsing costs most. It may be wrong the other way round. */
bool store_fhir_joins_may(const struct store_fhir_joins *joins, struct span text);
/* RESOURCE is kept if its type is joined. FULL_URL may be NULL. Errors: E_INVALID a value of it cannot be used, with LINE;
 * those of store_join_add. */
MUST_CHECK enum err store_fhir_joins_keep(struct store_fhir_joins *joins, const json_t *resource,
                                          const char *full_url, uint64_t line,
                                          struct err_info *reterr);
MUST_CHECK enum err store_fhir_joins_finish(struct store_fhir_joins *joins,
                                            struct err_info *reterr);
/* Looks up what ROW refers to; *INOUT_MISSED counts references that led to nothing. */
MUST_CHECK enum err store_fhir_joins_find(struct store_fhir_joins *joins, const json_t *row,
                                          uint64_t *inout_missed, struct err_info *reterr);

/* Of what was found last, valid until the next find. The value of path PATH of field FIELD; null: none. */
struct store_field store_fhir_joins_value(const struct store_fhir_joins *joins, size_t field,
                                          size_t path);
/* The patient's date of birth, for ages. */
struct store_field store_fhir_joins_birth(const struct store_fhir_joins *joins);
/* The id of the resource that the Reference at BY (as the mapping writes it) led to; null: none. */
struct store_field store_fhir_joins_id(const struct store_fhir_joins *joins, const char *by);
bool store_fhir_joins_found(const struct store_fhir_joins *joins, int join);
/* NULL is fine. */
void store_fhir_joins_close(struct store_fhir_joins *joins);

#endif
