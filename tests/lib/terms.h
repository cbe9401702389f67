/* Random licences and requests, for the laws of the decision and for its speed.
 *
 *     struct terms *terms = terms_new();
 *     terms_random(terms, &seed);             a valid licence, and a request that it permits about every third time
 *     proto_policy_decide(&terms->request, &terms->record, &terms->licence, terms->forked, &ontology, &decision);
 *
 * Everything points into the structure: it does not move. */
#ifndef CONCORDAT_TESTS_LIB_TERMS_H
#define CONCORDAT_TESTS_LIB_TERMS_H

#include "proto/policy.h"
#include "tests/lib/seed.h"

#define TERMS_TEXTS 512

struct terms {
    struct proto_licence licence;
    struct proto_grant grants[PROTO_LICENCE_GRANTS_MAX];
    struct proto_modifier modifiers[PROTO_LICENCE_GRANTS_MAX][PROTO_LICENCE_MODIFIERS_MAX];
    struct proto_obligation obligations[8];
    struct proto_text texts[TERMS_TEXTS];
    size_t text_count;
    struct proto_record record;
    bool forked;
    struct proto_request request;
    struct proto_party sites[5];
    struct proto_visa_wanted visas[PROTO_LICENCE_GRANTS_MAX][PROTO_LICENCE_VISAS_MAX];
    struct proto_visa_held held[4];
};

struct terms *terms_new(void);
void terms_free(struct terms *terms);
void terms_random(struct terms *terms, struct seed *seed);
/* One more restriction somewhere; the licence need not be valid afterwards. */
void terms_restrict(struct terms *terms, struct seed *seed);

#endif
