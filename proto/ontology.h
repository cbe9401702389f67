/* Disease hierarchies: child-parent (is_a) pairs, and whether one term lies above another.
 *
 *     struct proto_ontology ontology = {0};
 *     err = proto_ontology_parse(tsv, &crypto_proto_hash, &ontology, reterr);
 *     bool wider = proto_ontology_is_a(&ontology, span_str("MONDO:0005105"), span_str("MONDO:0004992"));
 *
 * Format: lines "child TAB parent"; '#' starts a comment line. Cycles are harmless. Terms are compared whole, case
 * matters, never by prefix.
 * Threads: read-only after parsing. Limits: PROTO_ONTOLOGY_*. */
#ifndef CONCORDAT_PROTO_ONTOLOGY_H
#define CONCORDAT_PROTO_ONTOLOGY_H

#include "proto/alloc.h"
#include "proto/hash.h"

#define PROTO_ONTOLOGY_TERMS_MAX 65536
#define PROTO_ONTOLOGY_EDGES_MAX 262144
#define PROTO_ONTOLOGY_TERM_MAX  64

struct proto_ontology {
    struct span *terms; /* sorted bytewise, unique */
    size_t term_count;
    uint32_t *first;                 /* term_count + 1: where a term's parents start */
    uint32_t *parents;               /* indices into terms */
    uint8_t digest[PROTO_HASH_SIZE]; /* SHA-256 of the file, recorded with each decision */
    struct arena arena;
};

/* TSV may be freed afterwards. Errors: E_INVALID (text says the line), E_LIMIT, E_NO_MEMORY; on
 * failure RET is empty. */
MUST_CHECK enum err proto_ontology_parse(struct span tsv, const struct proto_hash *hash,
                                         struct proto_ontology *ret, struct err_info *reterr);
bool proto_ontology_knows(const struct proto_ontology *ontology, struct span term);
/* TERM is ANCESTOR or below it. false for unknown terms; NULL is the empty ontology. */
bool proto_ontology_is_a(const struct proto_ontology *ontology, struct span term,
                         struct span ancestor);
void proto_ontology_fini(struct proto_ontology *ontology);

#endif
