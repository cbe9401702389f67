/* Agreements between an institution that asks for data and one that holds them: how one comes about, and its documents.
 *
 * Both sides run the same table; the one that asks is the consumer, the one that holds the data the provider. The names
 * are those of the dataspace protocol (EDC, IDSA):
 *
 *   (none) --REQUEST--> REQUESTED --OFFER--> OFFERED --ACCEPT--> ACCEPTED --AGREE--> AGREED --VERIFY--> VERIFIED
 *             consumer      | |      provider   |  \   consumer     |    provider    |    consumer    | FINALIZE
 *                           | |                 |   -- OFFER: other terms            |                v provider
 *                           v v                 v                   v                v            FINALIZED
 *                        TERMINATE, by either side, from any state that is not its end  -----> TERMINATED
 *
 * A request is signed by the consumer. An offer names the licence record and the duties in it, and is signed by the
 * provider. Accepting makes the agreement: the exact bytes of both in one document, signed by the consumer and
 * countersigned by the provider over document and signature; both keep it.
 *
 * This module neither signs nor stores. Threads: pure. Limits: in the tables of agreement.c; PROTO_AGREEMENT_MAX bytes. */
#ifndef CONCORDAT_PROTO_AGREEMENT_H
#define CONCORDAT_PROTO_AGREEMENT_H

#include "proto/body.h"
#include "proto/request.h"

#define PROTO_AGREEMENT_MAX            ((size_t)48 << 10)
#define PROTO_AGREEMENT_REQUEST_DOMAIN "concordat1-agreement-request"
#define PROTO_AGREEMENT_OFFER_DOMAIN   "concordat1-agreement-offer"
#define PROTO_AGREEMENT_DOMAIN         "concordat1-agreement"
#define PROTO_AGREEMENT_COUNTER_DOMAIN "concordat1-agreement-counter"
#define PROTO_AGREEMENT_END_DOMAIN     "concordat1-agreement-end"

enum proto_agreement_state {
    PROTO_AGREEMENT_NONE,
    PROTO_AGREEMENT_REQUESTED,
    PROTO_AGREEMENT_OFFERED,
    PROTO_AGREEMENT_ACCEPTED,
    PROTO_AGREEMENT_AGREED,
    PROTO_AGREEMENT_VERIFIED,
    PROTO_AGREEMENT_FINALIZED,
    PROTO_AGREEMENT_TERMINATED,
    PROTO_AGREEMENT_STATES,
};

enum proto_agreement_event {
    PROTO_AGREEMENT_REQUEST,
    PROTO_AGREEMENT_OFFER,
    PROTO_AGREEMENT_ACCEPT,
    PROTO_AGREEMENT_AGREE,
    PROTO_AGREEMENT_VERIFY,
    PROTO_AGREEMENT_FINALIZE,
    PROTO_AGREEMENT_TERMINATE,
    PROTO_AGREEMENT_EVENTS,
};

enum proto_agreement_side {
    PROTO_AGREEMENT_CONSUMER,
    PROTO_AGREEMENT_PROVIDER,
};

const char *proto_agreement_state_name(uint64_t state); /* "REQUESTED", ... */
/* EVENT, brought about by BY. Errors: E_INVALID it has no place in this state, or is the other side's; STATE is
 * unchanged. */
MUST_CHECK enum err proto_agreement_step(enum proto_agreement_state *state,
                                         enum proto_agreement_event event,
                                         enum proto_agreement_side by, struct err_info *reterr);

/* Who asks, for what. Organisation, type and country are compared with the MEMBER record, which is what counts. */
struct proto_agreement_request {
    uint64_t v;
    struct span id;       /* 16, random: names request, offer and agreement */
    struct span consumer; /* 16: node */
    struct span provider; /* 16: node */
    struct span dataset;
    struct span institution;
    struct span org_type;
    uint64_t actions; /* PROTO_ACTION_BITs wanted */
    struct proto_purpose purpose;
    struct proto_list recipients; /* struct proto_text: who else gets results */
    int64_t time;
};

struct proto_agreement_duty {
    struct span id;
    struct span when;
    struct span text; /* none when absent */
};

/* What the provider would sign: its licence record and what that asks for. */
struct proto_agreement_offer {
    uint64_t v;
    struct span id;      /* 16 */
    struct span request; /* 32: SHA-256 of the request's bytes */
    struct span licence; /* 16: record id; another version of the licence needs another agreement */
    uint64_t actions;    /* of those wanted, the permitted ones */
    struct proto_list duties; /* struct proto_agreement_duty */
    int64_t ends;
    int64_t time;
};

/* The agreement. Its start is TIME: time limits of the licence count from it. */
struct proto_agreement {
    uint64_t v;
    struct span id;
    struct span request; /* the exact bytes */
    struct span offer;
    struct proto_list
        accepted;       /* struct proto_text: ids of the offer's duties, all that need a promise */
    struct span person; /* who accepted */
    int64_t time;
};

struct proto_agreement_end {
    uint64_t v;
    struct span id;
    struct span by; /* 16: node */
    struct span reason;
    int64_t time;
};

#define PROTO_AGREEMENT_BODIES(X)                                                                  \
    X(agreement_request)                                                                           \
    X(agreement_offer)                                                                             \
    X(agreement)                                                                                   \
    X(agreement_end)

/* proto_agreement_request_encode, ..._decode and so on, as in body.h. */
#define X(name)                                                                                    \
    MUST_CHECK enum err proto_##name##_encode(const struct proto_##name *body, struct buf *out,    \
                                              struct err_info *reterr);                            \
    MUST_CHECK enum err proto_##name##_decode(struct span bytes, struct arena *arena,              \
                                              struct proto_##name *ret, struct err_info *reterr);
PROTO_AGREEMENT_BODIES(X)
#undef X

/* An agreement with its request and offer read and compared: one id, the offer answers this request, every duty that
 * needs a promise was accepted, and nothing else was. */
struct proto_agreement_parts {
    struct proto_agreement agreement;
    struct proto_agreement_request request;
    struct proto_agreement_offer offer;
};
/* Errors: E_INVALID the parts do not belong together; those of the decoders. */
MUST_CHECK enum err proto_agreement_open(struct span bytes, const struct proto_hash *hash,
                                         struct arena *arena, struct proto_agreement_parts *ret,
                                         struct err_info *reterr);

#endif
