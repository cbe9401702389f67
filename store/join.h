/* A table that rows of an import look something up in: short records by the names of what they are about (patients by their
 * references). It is made once and then read; what does not fit into memory lies on disk, sealed under a key that exists in
 * this process alone, in a file without a name, so that nothing of it outlives the import.
 *
 *     err = store_join_open("HOME/partitions", 64 << 20, &join, reterr);
 *     err = store_join_add(join, span_str("Patient/7"), record, reterr);            the last record of a name counts
 *     err = store_join_finish(join, reterr);
 *     err = store_join_find(join, span_str("Patient/7"), &record, reterr);          E_NOT_FOUND: none
 *     store_join_close(join);
 *
 * Names are told apart by 128 bits of SHA-256. Lookups that go to disk open one block of some 64 KiB, unless it is one of
 * the last ones.
 * Threads: one. Limits: STORE_JOIN_RECORD_MAX bytes of a record; STORE_JOIN_RUNS times the memory in all. */
#ifndef CONCORDAT_STORE_JOIN_H
#define CONCORDAT_STORE_JOIN_H

#include "proto/err.h"
#include "proto/span.h"

#define STORE_JOIN_RECORD_MAX 16384
#define STORE_JOIN_RUNS       256

struct store_join;

/* FOLDER holds the file, if one is needed. MEMORY_BYTES is what is kept before records go there. Errors: E_NO_MEMORY. */
MUST_CHECK enum err store_join_open(const char *folder, size_t memory_bytes,
                                    struct store_join **ret, struct err_info *reterr);
/* Errors: E_LIMIT; E_IO, E_DISK_FULL, E_NO_MEMORY. */
MUST_CHECK enum err store_join_add(struct store_join *join, struct span name, struct span record,
                                   struct err_info *reterr);
/* No more records come. Errors: those of store_join_add; E_AUTH the file was changed. */
MUST_CHECK enum err store_join_finish(struct store_join *join, struct err_info *reterr);
/* RET is valid until the next call. Errors: E_NOT_FOUND, without a text; E_AUTH; E_IO. */
MUST_CHECK enum err store_join_find(struct store_join *join, struct span name, struct span *ret,
                                    struct err_info *reterr);
/* Records that went to disk. */
uint64_t store_join_spilled(const struct store_join *join);
/* NULL is fine. */
void store_join_close(struct store_join *join);

#endif
