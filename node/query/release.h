/* From exact sums to what leaves a site: noise, the minimum cohort, and which private groups stand out.
 *
 * A cell whose noisy number of units is below the minimum cohort keeps nothing, not even that number. With private groups a
 * cell is told at all only if it has a unit and its noisy number of units reaches the threshold T; the others are not
 * there, nor is how many they are. Proof: beside its noise, which costs rho whatever the groups are, a patient shows
 * when a group that is this patient's alone is told. There are at most g such groups (the bound of the layout), each
 * has one unit, and is told with probability P[1 + Y >= T] <= 1 - (1 - delta0)^(1/g) for discrete Gaussian Y, whose
 * coins are independent. So with probability 1 - delta0 none is, and the release is delta0-approximately rho-zCDP (Bun
 * and Steinke 2016). T: proto/selection.
 *
 * A stored answer is held to the minimum cohort of whoever gets it again. What is withheld once stays so.
 *
 * Threads: one call per thread. */
#ifndef CONCORDAT_NODE_QUERY_RELEASE_H
#define CONCORDAT_NODE_QUERY_RELEASE_H

#include "node/query/coordinates.h"
#include "node/query/execute.h"
#include "node/query/message.h"

struct query_release_terms {
    uint64_t min_cohort;
    uint64_t
        delta0_e18; /* of private groups, over all groups of a unit and all sites that may know it */
};

/* T; UINT64_MAX: none is told. */
uint64_t query_release_threshold(const struct query_layout *layout, uint64_t delta0_e18);

/* Fills cells, coordinates, keys, values and withheld of ANSWER; their memory is ARENA's. SUMS may be wiped after it.
 * Errors: those of privacy_mechanism_release; E_LIMIT more groups stand out than one answer may hold; E_NO_MEMORY. */
MUST_CHECK enum err query_release(struct privacy_pool *pool, const struct proto_query *query,
                                  const struct query_layout *layout, const struct query_sums *sums,
                                  const struct query_release_terms *terms, struct arena *arena,
                                  struct query_answer *answer, struct err_info *reterr);
/* Holds ANSWER, which was stored for the same question at the same price, to MIN_COHORT: a cell whose noisy number of units is below it
 * keeps nothing, and a private group is not there. What changes is ARENA's. Errors: E_CORRUPT the answer is none to this question;
 * E_NO_MEMORY. */
MUST_CHECK enum err query_release_withhold(const struct proto_query *query,
                                           const struct query_layout *layout, uint64_t min_cohort,
                                           struct arena *arena, struct query_answer *answer);
/* Only the coordinates and the number of public cells: what --explain tells. */
MUST_CHECK enum err query_release_shape(const struct proto_query *query,
                                        const struct query_layout *layout, struct arena *arena,
                                        struct query_answer *answer);

#endif
