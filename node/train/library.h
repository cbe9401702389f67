/* The federation's models: which may be used by whom, and moving them between nodes.
 *
 *     err = train_model_may(context, &record, &model, &member, reterr);       before export, prediction, or as a base
 *     err = train_library_fetch(service, &record, &model, how, reterr);       weights and lineage into our store, verified
 *
 * A model is for whom its own licence names as recipients; one that was trained without privacy stays with the institutions
 * that took part (LICENSE_NONPRIVATE). Once a licence that it was trained under is withdrawn it is tainted: new use is
 * denied (LICENSE_TAINTED), unless all of those licences said that it survives. Threads: any. */
#ifndef CONCORDAT_NODE_TRAIN_LIBRARY_H
#define CONCORDAT_NODE_TRAIN_LIBRARY_H

#include "node/peer/transfer.h"
#include "node/train/service.h"
#include "proto/body.h"
#include "proto/policy.h"

/* RET: NONE, or why MEMBER may not use the model now. TAINTED_BY (may be NULL) gets the name of a site that withdrew. */
void train_model_reason(struct query_context *context, const struct proto_record *record,
                        const struct proto_model *model, const struct peer_member *member,
                        enum proto_reason *ret, char tainted_by[33]);
/* The same as an error for people. Errors: E_REFUSED, the text ends with the reason's code. */
MUST_CHECK enum err train_model_may(struct query_context *context,
                                    const struct proto_record *record,
                                    const struct proto_model *model,
                                    const struct peer_member *member, struct err_info *reterr);

/* From FROM, or when that is NULL from the issuer, then from its participants. Goes on after a cut.
 * Errors: those of train_model_may for this node, and of peer_blob_fetch. */
MUST_CHECK enum err train_library_fetch(struct train_service *service,
                                        const struct proto_record *record,
                                        const struct proto_model *model, const uint8_t *from,
                                        bool (*cancelled)(void *user),
                                        void (*progress)(void *user, uint64_t bytes), void *user,
                                        struct err_info *reterr);
/* The statement into our store, from the issuer. A model is whole without it, so it may stay missing. */
void train_library_lineage(struct query_context *context, const struct proto_record *record,
                           const struct proto_model *model);
/* For share.c: may MEMBER have the blob HASH as a published model's weights or statement? Errors: E_NOT_FOUND no record of
 * ours or of a model that we hold names it; E_REFUSED. */
MUST_CHECK enum err train_library_may_have(struct query_context *context,
                                           const struct peer_member *member,
                                           const uint8_t hash[32]);

#endif
