/* Decoded records of datasets and licences, kept by their exact bytes. Each question needs the same few again, and decoding
 * them is a good part of its time; a record that changed has other bytes, and is decoded anew. Nothing is decided here.
 *
 *     err = query_record_get(context, issuer, "flchain", PROTO_RECORD_LICENCE, &arena, &known, NULL, reterr);
 *     if (!err && known->understood && !(known->record.envelope.flags & PROTO_RECORD_FINAL)) { use(&known->licence); }                          until arena_fini(&arena)
 *
 * Threads: any. What is returned is shared and constant. Memory: at most QUERY_KNOWN_SLOTS records beside those in use. */
#ifndef CONCORDAT_NODE_QUERY_KNOWN_H
#define CONCORDAT_NODE_QUERY_KNOWN_H

#include "node/query/context.h"
#include "proto/licence.h"
#include "proto/manifest.h"
#include "proto/record.h"

#define QUERY_KNOWN_SLOTS 256

struct query_known *query_known_new(void); /* NULL: no memory */
void query_known_free(struct query_known *known);

struct query_record {
    struct proto_record record;
    bool
        understood; /* the body, by this version; else only RECORD is set. It may be withdrawn: PROTO_RECORD_FINAL */
    struct proto_dataset dataset; /* of PROTO_RECORD_DATASET, these three */
    struct proto_schema schema;
    uint8_t schema_hash[32];
    struct proto_licence licence; /* of PROTO_RECORD_LICENCE */
};

/* The newest record of ISSUER with that name and kind. *RET lives as long as HOLDER; ret_forked may be NULL.
 * Errors: E_NOT_FOUND; E_NO_MEMORY; those of reading; those of proto_record_decode. */
MUST_CHECK enum err query_record_get(struct query_context *context, const uint8_t issuer[16],
                                     const char *name, uint64_t kind, struct arena *holder,
                                     const struct query_record **ret, bool *ret_forked,
                                     struct err_info *reterr);

#endif
