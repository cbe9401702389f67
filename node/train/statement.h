/* The lineage statement of a finished job (proto/lineage.h): made and signed by the coordinator, countersigned by the sites.
 *
 * A site signs only what it knows to be so: the plan that it admitted, its own licence record, rounds and epsilon that are not
 * less than its own ledger says. A site that is away in the moment is missing among the signatures; the model is published all
 * the same. Threads: the job's thread; the handler any. */
#ifndef CONCORDAT_NODE_TRAIN_STATEMENT_H
#define CONCORDAT_NODE_TRAIN_STATEMENT_H

#include "node/train/lineage.h"
#include "proto/lineage.h"

#define TRAIN_STATEMENT_MAX (4 * PROTO_LINEAGE_MAX) /* signed */

struct train_statement {
    uint8_t hash[32]; /* of the signed document, which is in store/blob */
    uint64_t size;
};

/* Handler of PEER_MSG_LINEAGE; user: struct train_service. */
void train_statement_handle(struct peer_request *request, void *user);

/* Errors: E_NO_MEMORY; those of the store. */
MUST_CHECK enum err train_statement_make(struct train_service *service,
                                         const struct train_job_state *state,
                                         const struct train_lineage *lineage, const char *model,
                                         const uint8_t weights[32], uint64_t size, const char *unit,
                                         struct train_statement *ret, struct err_info *reterr);

#endif
