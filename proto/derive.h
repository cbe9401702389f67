/* The licence of a model, from the licences of the data that taught it: same format, same decision.
 *
 *     struct proto_derive_parent parents[] = {{&a, id_a}, {&b, id_b}};
 *     struct proto_derivation d;
 *     err = proto_derive(parents, 2, &terms, ontology, &arena, &d, reterr);
 *     // d.licence is encoded into a LICENCE record under the model's name; d.capped says what keeps it in the federation
 *
 * A request that the model's licence permits would have been permitted by each parent, as far as purpose, modifiers,
 * recipients, places, time and duties go (a law that is tested). Alternatives multiply: each grant of the model is a meet
 * of one grant of every parent. Purposes meet in DUO's order, diseases through the hierarchy (the terms below both);
 * NPU, NCU, NPOA, NMDS, GSO and the promises unite; named lists and places intersect; TS takes the least months of an
 * agreement and the first date, expiry the earliest, MOR and not_before the latest; CC stays only where all have it.
 * Where nothing is left the licence names nobody.
 * Order and repetition of the parents do not matter to what is permitted.
 * Threads: pure. Limits: PROTO_LICENCE_PARENTS_MAX parents; of more than PROTO_LICENCE_GRANTS_MAX alternatives the first
 * ones stay, which only narrows. Source: reference agreements, 4.3. */
#ifndef CONCORDAT_PROTO_DERIVE_H
#define CONCORDAT_PROTO_DERIVE_H

#include "proto/ontology.h"
#include "proto/spdx_terms.h"

struct proto_derive_parent {
    const struct proto_licence *licence;
    const uint8_t *record_id; /* 16 */
};

/* What the trainer knows. */
struct proto_derive_terms {
    struct span model;   /* its name, a dataset's in form */
    struct span version; /* such as "1" */
    struct span weights; /* 32: SHA-256 */
    bool private;        /* trained with noise */
    int64_t now;
};

/* Why a model stays with its participants; NONE: it does not. */
enum proto_cap {
    PROTO_CAP_NONE,
    PROTO_CAP_GRANT,      /* a grant releases to the federation or the recipients only */
    PROTO_CAP_CLASH,      /* the data licences leave no licence for the model */
    PROTO_CAP_NO_SHARE,   /* a data licence forbids to share it, or nobody has read it */
    PROTO_CAP_NONPRIVATE, /* trained without privacy on people's data: LICENSE_NONPRIVATE */
    PROTO_CAP_NOBODY,     /* no purpose is left that all parents permit */
    PROTO_CAP_TOTAL,
};
const char *proto_cap_text(enum proto_cap cap);

struct proto_derivation {
    struct proto_licence licence; /* valid; spans point into the parents, the arena and constants */
    struct proto_spdx_terms data; /* the data licences together, with their elections */
    enum proto_release release;
    enum proto_cap cap;
    char clash[PROTO_SPDX_CLASH_SIZE]; /* the pair that clashes, else "" */
};

/* The terms of a model that came from outside under a data licence alone, in the shape of every other model's: any purpose, not
 * commercial where SPDX excludes that, in the federation only. It is no record that anybody signed.
 * NAME as of a dataset; WEIGHTS 32 bytes; RECORD_ID 16, of the record that says so. Spans are borrowed.
 * Errors: E_INVALID the expression does not parse; E_NO_MEMORY. */
MUST_CHECK enum err proto_derive_imported(struct span name, struct span spdx, struct span weights,
                                          struct span record_id, struct arena *arena,
                                          struct proto_licence *ret, struct err_info *reterr);

/* Errors: E_INVALID no parents, too many, or they never hold at one time; E_REFUSED a data licence allows no training;
 * E_LIMIT their duties do not fit in a record; E_NO_MEMORY. */
MUST_CHECK enum err proto_derive(const struct proto_derive_parent *parents, size_t count,
                                 const struct proto_derive_terms *terms,
                                 const struct proto_ontology *ontology, struct arena *arena,
                                 struct proto_derivation *ret, struct err_info *reterr);

#endif
