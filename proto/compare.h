/* Two licences clause by clause: what became wider, what narrower.
 *
 *     struct proto_comparison *c = arena_alloc(&arena, 1, sizeof *c);
 *     err = proto_licence_compare(&old, &new, ontology, &arena, c);
 *     for (i...) printf("%s %s: %s -> %s", proto_change_name(c->changes[i].change), ...)
 *
 * Grants are matched by how little they differ, those of one permission first. A new alternative is wider, one that went
 * is narrower. "Wider" is said of a clause alone: together with another
 * that became narrower the whole may permit less.
 * Threads: pure. */
#ifndef CONCORDAT_PROTO_COMPARE_H
#define CONCORDAT_PROTO_COMPARE_H

#include "proto/licence.h"
#include "proto/ontology.h"

#define PROTO_CHANGES_MAX 256

enum proto_change {
    PROTO_CHANGE_WIDER,
    PROTO_CHANGE_NARROWER,
    PROTO_CHANGE_OTHER, /* neither, or nobody can say */
};
const char *proto_change_name(enum proto_change change); /* "wider", "narrower", "changed" */

struct proto_changed {
    enum proto_change change;
    const char *clause; /* "grants[0].modifiers NPU" */
    const char *from;   /* "" where there was nothing */
    const char *to;
};

struct proto_comparison {
    struct proto_changed changes[PROTO_CHANGES_MAX];
    size_t count;
    size_t wider, narrower, other;
};

/* Errors: E_LIMIT more grants than a licence may have; E_NO_MEMORY. */
MUST_CHECK enum err proto_licence_compare(const struct proto_licence *from,
                                          const struct proto_licence *to,
                                          const struct proto_ontology *ontology,
                                          struct arena *arena, struct proto_comparison *ret);

#endif
