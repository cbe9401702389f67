#include "config.h"
#include "node/train/library.h"

#include "node/query/site.h"
#include "node/train/internal.h"
#include "node/train/statement.h"
#include "store/blob.h"

#define STALL_MS         30000
#define LINEAGE_STALL_MS 2000

/* --- fetching -------------------------------------------------------------------------------------------- */

static enum err fetch_from(struct query_context *context, const struct proto_model *model,
                           const uint8_t *from, const struct peer_fetch *how,
                           struct err_info *reterr)
{
    struct peer_blob blob = {.size = model->size};
    struct peer_fetch fetch = *how;
    fetch.from = from;
    memcpy(blob.hash, model->weights.ptr, 32);
    return peer_blob_fetch(context->peer, context->store, &blob, &fetch, reterr);
}

static void fetch_lineage(struct query_context *context, const struct proto_model *model,
                          const uint8_t *from)
{
    struct peer_blob blob = {.size = model->lineage_size};
    struct peer_fetch how = {.from = from, .stall_ms = LINEAGE_STALL_MS};
    if (model->lineage.ptr && model->lineage_size <= TRAIN_STATEMENT_MAX &&
        memcmp(from, context->node_id, 16) != 0 &&
        !store_blob_has(context->store, model->lineage.ptr)) {
        memcpy(blob.hash, model->lineage.ptr, 32);
        (void)!peer_blob_fetch(context->peer, context->store, &blob, &how, NULL);
    }
}

void train_library_lineage(struct query_context *context, const struct proto_record *record,
                           const struct proto_model *model)
{
    fetch_lineage(context, model, record->envelope.issuer.ptr);
}

enum err train_library_fetch(struct train_service *service, const struct proto_record *record,
                             const struct proto_model *model, const uint8_t *from,
                             bool (*cancelled)(void *user),
                             void (*progress)(void *user, uint64_t bytes), void *user,
                             struct err_info *reterr)
{
    struct query_context *context = service->context;
    const struct proto_model_participant *participants = model->participants.items;
    const struct peer_fetch how = {
        .stall_ms = STALL_MS, .cancelled = cancelled, .progress = progress, .user = user};
    const uint8_t *source = from ? from : record->envelope.issuer.ptr;
    enum err err = fetch_from(context, model, source, &how, reterr);
    for (size_t i = 0; !from && err && err != E_CANCELLED && i < model->participants.count; i++) {
        if (memcmp(participants[i].node.ptr, context->node_id, 16) != 0) {
            source = participants[i].node.ptr;
            err = fetch_from(context, model, source, &how, reterr);
        }
    }
    if (!err) {
        fetch_lineage(context, model, record->envelope.issuer.ptr);
        fetch_lineage(context, model, source);
    }
    return err;
}
