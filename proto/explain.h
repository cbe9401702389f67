/* A licence in plain sentences: what it says of everybody, and what each of its alternatives permits, excludes and asks
 * for. Nothing is decided here; the sentences are made from the same fields that the decision reads.
 *
 *     struct proto_explanation *e = arena_alloc(&arena, 1, sizeof *e);
 *     err = proto_licence_explain(&licence, ontology, &arena, e);
 *     for (i...) puts(e->about.items[i]);   for (g...) e->grants[g].permits ...
 *
 * Threads: pure. */
#ifndef CONCORDAT_PROTO_EXPLAIN_H
#define CONCORDAT_PROTO_EXPLAIN_H

#include "proto/licence.h"
#include "proto/ontology.h"

#define PROTO_EXPLAIN_LINES 48

struct proto_sentences {
    const char *items[PROTO_EXPLAIN_LINES];
    size_t count;
};

struct proto_explained_grant {
    const char *title;              /* "disease specific research: melanoma (MONDO:0005105)" */
    struct proto_sentences permits; /* what may be done */
    struct proto_sentences forbids; /* what it is not for */
    struct proto_sentences needs;   /* what the one who asks must be, state or promise */
};

struct proto_explanation {
    struct proto_sentences about; /* of the whole dataset */
    struct proto_explained_grant grants[PROTO_LICENCE_GRANTS_MAX];
    size_t grant_count;
};

/* Errors: E_NO_MEMORY. */
MUST_CHECK enum err proto_licence_explain(const struct proto_licence *licence,
                                          const struct proto_ontology *ontology,
                                          struct arena *arena, struct proto_explanation *ret);

#endif
