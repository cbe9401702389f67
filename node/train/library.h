/* Moving the federation's models between nodes.
 *
 *     err = train_library_fetch(service, &record, &model, how, reterr);       weights and lineage into our store, verified
 *
 * Whether this node may have the model for what it wants it for is decided before, by use.h; whoever serves the bytes decides
 * again what it can know. Threads: any. */
#ifndef CONCORDAT_NODE_TRAIN_LIBRARY_H
#define CONCORDAT_NODE_TRAIN_LIBRARY_H

#include "node/peer/transfer.h"
#include "node/train/service.h"
#include "proto/body.h"

/* From FROM, or when that is NULL from the issuer, then from its participants. Goes on after a cut.
 * Errors: those of peer_blob_fetch. */
MUST_CHECK enum err train_library_fetch(struct train_service *service,
                                        const struct proto_record *record,
                                        const struct proto_model *model, const uint8_t *from,
                                        bool (*cancelled)(void *user),
                                        void (*progress)(void *user, uint64_t bytes), void *user,
                                        struct err_info *reterr);
/* The statement into our store, from the issuer. A model is whole without it, so it may stay missing. */
void train_library_lineage(struct query_context *context, const struct proto_record *record,
                           const struct proto_model *model);

#endif
