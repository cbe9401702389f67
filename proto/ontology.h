/* Disease hierarchies: child-parent (is_a) pairs, and whether one term lies above another.
 *
 *     struct proto_ontology ontology = {0};
 *     err = proto_ontology_parse(file, &crypto_proto_hash, &ontology, reterr);
 *     bool wider = proto_ontology_is_a(&ontology, span_str("MONDO:0005105"), span_str("MONDO:0004992"));
 *
 * Formats, told apart by their content:
 *     pairs  lines "child TAB parent" or "child,parent", each perhaps with the child's label as third field; '#' starts
 *            a comment line;
 *     OBO    [Term] stanzas with id:, name:, is_a:, is_obsolete: (OBO 1.2 and 1.4); all other tags are passed over.
 *
 * The closure, all ancestors of each term, is made once at parsing, so that a decision only looks up. Cycles are
 * harmless. Terms are compared whole, case matters, never by prefix.
 * Threads: read-only after parsing. Limits: PROTO_ONTOLOGY_*. */
#ifndef CONCORDAT_PROTO_ONTOLOGY_H
#define CONCORDAT_PROTO_ONTOLOGY_H

#include "proto/alloc.h"
#include "proto/hash.h"

#define PROTO_ONTOLOGY_TERMS_MAX   65536
#define PROTO_ONTOLOGY_EDGES_MAX   262144
#define PROTO_ONTOLOGY_CLOSURE_MAX 4194304 /* ancestors of all terms together */
#define PROTO_ONTOLOGY_TERM_MAX    64
#define PROTO_ONTOLOGY_LABEL_MAX   128
#define PROTO_ONTOLOGY_FILE_MAX    ((size_t)256 << 20)
#define PROTO_ONTOLOGY_NONE        UINT32_MAX

struct proto_ontology {
    struct span *terms;  /* sorted bytewise, unique */
    struct span *labels; /* of the terms; without bytes where the file gives none */
    uint32_t term_count;
    uint32_t *first;     /* term_count + 1: where a term's ancestors start */
    uint32_t *ancestors; /* ascending indices into terms, the term itself not among them */
    uint32_t *slots;     /* hash table of indices into terms; PROTO_ONTOLOGY_NONE is free */
    uint32_t slot_mask;
    uint8_t digest[PROTO_HASH_SIZE]; /* SHA-256 of the file, recorded with each decision */
    struct arena arena;
};

/* FILE may be freed afterwards. Errors: E_INVALID (text says the line), E_LIMIT, E_NO_MEMORY; on
 * failure RET is empty. */
MUST_CHECK enum err proto_ontology_parse(struct span file, const struct proto_hash *hash,
                                         struct proto_ontology *ret, struct err_info *reterr);
/* The small hierarchy that stands in for the operator's own (pairs with labels); diseases.c. */
struct span proto_ontology_shipped(void);
/* A term's index, or PROTO_ONTOLOGY_NONE. NULL is the empty ontology, here and below. */
uint32_t proto_ontology_find(const struct proto_ontology *ontology, struct span term);
bool proto_ontology_knows(const struct proto_ontology *ontology, struct span term);
/* TERM is ANCESTOR or below it. false for unknown terms. */
bool proto_ontology_is_a(const struct proto_ontology *ontology, struct span term,
                         struct span ancestor);
/* The same for indices that proto_ontology_find gave. */
bool proto_ontology_below(const struct proto_ontology *ontology, uint32_t term, uint32_t ancestor);
/* The term's label, none when there is none. */
struct span proto_ontology_label(const struct proto_ontology *ontology, struct span term);
/* The known term that is spelled most alike, or none when none is close. */
struct span proto_ontology_nearest(const struct proto_ontology *ontology, struct span term);
void proto_ontology_fini(struct proto_ontology *ontology);

/* A disease's CURIE as licences and requests write it: MONDO:7 digits, DOID:digits, EFO:7 digits or ICD10:code.
 * Errors: E_INVALID, the text says what is wrong and what the nearest right form is. */
MUST_CHECK enum err proto_curie_check(struct span text, struct err_info *reterr);

#endif
