/* What agreement.c, agreement_provider.c and agreement_consumer.c share; nobody else includes it. */
#ifndef CONCORDAT_NODE_QUERY_AGREEMENT_INTERNAL_H
#define CONCORDAT_NODE_QUERY_AGREEMENT_INTERNAL_H

#include "node/query/agreement.h"

#include <pthread.h>

#define AGREEMENT_CLOCK_S 300 /* a document signed longer ago, or further ahead, is not taken */

/* What a question needs to know of each agreement without opening it. */
struct agreement_entry {
    uint8_t id[16];
    uint8_t peer[16];
    uint64_t side, state;
    char dataset[65];
    char project[129];
    uint8_t licence[16]; /* of the offer */
    int64_t ends;
};

struct query_agreements {
    pthread_mutex_t lock; /* around each change and the index */
    struct agreement_entry *entries;
    size_t count, cap;
};

/* STEP says what BODY is: the request, the offer, the agreement (its countersignature comes back alone), the end. */
struct agreement_message {
    uint64_t version;
    uint64_t step; /* enum proto_agreement_event */
    struct span id;
    struct span body;
    struct span signature;
    struct span approval; /* REQUEST as a reply: it waits for a person under this number */
    struct span detail;
};
extern const struct proto_message agreement_message_table;

/* Stores the row and makes the index anew; with the lock held, or where no other thread knows the row yet. */
MUST_CHECK enum err agreement_save(struct query_context *context, struct store_agreement *row,
                                   struct err_info *reterr);
MUST_CHECK enum err agreement_copy(struct arena *arena, struct span bytes, struct span *ret);
/* Signs BYTES as this node; the signature lives in ARENA. */
MUST_CHECK enum err agreement_sign(struct query_context *context, const char *domain,
                                   struct span bytes, struct arena *arena,
                                   struct span *ret_signature);
/* Errors: E_AUTH, the text names BY. */
MUST_CHECK enum err agreement_verify(struct query_context *context, const struct peer_member *by,
                                     const char *domain, struct span bytes, struct span signature,
                                     struct err_info *reterr);
/* What the provider countersigns: the document and the consumer's signature on it. */
MUST_CHECK enum err agreement_countersigned(struct span document, struct span signature,
                                            struct arena *arena, struct span *ret);
MUST_CHECK enum err agreement_audit(struct query_context *context,
                                    const struct store_agreement *row, const char *kind,
                                    const char *detail);
/* proto_agreement_step on the row's state. */
MUST_CHECK enum err agreement_step(struct store_agreement *row, enum proto_agreement_event event,
                                   enum proto_agreement_side by, struct err_info *reterr);

#endif
