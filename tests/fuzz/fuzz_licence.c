/* Licence bodies, and the decision on whatever decodes: it must end, and find room for every clause. */
#include "config.h"

#include <stdlib.h>

#include "proto/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct proto_decision decision;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct proto_licence licence;
    if (!proto_licence_decode(span_of(data, size), &arena, &licence, NULL)) {
        struct buf out = {.max = 16384};
        if (size <= PROTO_RECORD_BODY_MAX && (proto_licence_encode(&licence, &out, NULL) ||
                                              !span_equal(buf_span(&out), span_of(data, size)))) {
            abort();
        }
        buf_fini(&out);
        struct proto_record record = {
            .envelope = {.kind = PROTO_RECORD_LICENCE, .expires = licence.expires}};
        struct proto_party site = {.org = span_str("org-a"), .country = span_str("DE")};
        struct proto_request request = {.requester = site,
                                        .purpose = {.permission = PROTO_DUO_GRU},
                                        .sites = &site,
                                        .site_count = 1,
                                        .institutions = 1,
                                        .rounds = 1,
                                        .epsilon_u = 100000,
                                        .now = (int64_t)licence.not_before,
                                        .actions = data[size / 2] & PROTO_ACTION_ALL};
        proto_policy_decide(&request, &record, &licence, false, NULL, &decision);
        if (decision.clause_count >= PROTO_POLICY_CLAUSES ||
            (decision.verdict == PROTO_DENY) != (decision.grant < 0)) {
            abort();
        }
    }
    arena_fini(&arena);
    return 0;
}
