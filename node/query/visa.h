/* Visas by their gossiped records: those that speak of a requester and that a licence asks for.
 * Threads: any. */
#ifndef CONCORDAT_NODE_QUERY_VISA_H
#define CONCORDAT_NODE_QUERY_VISA_H

#include "node/query/context.h"
#include "proto/licence.h"
#include "proto/request.h"

#define QUERY_VISAS_MAX                                                                            \
    256 /* of one decision; what is above is not seen, and what is not seen denies */

/* What members attest about the person and the project of PURPOSE at REQUESTER, as far as LICENCE asks for it (and what that depends on by its
 * conditions), into the request; in ARENA. LICENCE may be NULL. Left out: what was taken back or signed twice, and all of an issuer that is no
 * member any more. What has expired stays, for the decision to say so. Errors: none; without memory nothing is held. */
void query_visas_gather(struct query_context *context, const uint8_t requester[16],
                        const struct proto_licence *licence, struct arena *arena,
                        struct proto_request *request);

/* "valid", "expired", "revoked", or "void" where its issuer is no member any more. */
const char *query_visa_state(struct query_context *context, const struct proto_record *record,
                             bool forked, int64_t now);

#endif
