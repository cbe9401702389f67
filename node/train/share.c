/* Who may fetch which blob from us: vectors of running jobs, and models that a record of ours publishes. In memory only: a site
 * that was restarted is asked for the round again, and shares its update again. */
#include "config.h"
#include "node/train/internal.h"
#include "node/train/use.h"

#include "crypto/provider.h"
#include "node/query/site.h"
#include "store/egress.h"
#include "store/records.h"

#include <unistd.h>

#define THREADS_MAX 16

static struct train_share *find_share(struct train_service *service, const uint8_t job_id[16],
                                      const uint8_t hash[32])
{
    struct train_share *share = service->shares;
    while (share &&
           (memcmp(share->hash, hash, 32) != 0 || memcmp(share->job_id, job_id, 16) != 0)) {
        share = share->next;
    }
    return share;
}

enum err train_share_put(struct train_service *service, const uint8_t job_id[16],
                         const uint8_t hash[32], const char *kind, const struct proto_list *nodes)
{
    const struct query_node_ref *refs = nodes->items;
    struct train_share *fresh = proto_alloc(1, sizeof *fresh);
    uint8_t(*copy)[16] = proto_alloc(nodes->count + 1, 16);
    if (!fresh || !copy) {
        proto_free(fresh);
        proto_free(copy);
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < nodes->count; i++) {
        memcpy(copy[i], refs[i].node.ptr, 16);
    }
    pthread_mutex_lock(&service->lock);
    struct train_share *share = find_share(service, job_id, hash);
    if (share) {
        proto_free(share->nodes);
        proto_free(fresh);
    } else {
        share = fresh;
        memcpy(share->hash, hash, 32);
        memcpy(share->job_id, job_id, 16);
        share->next = service->shares;
        service->shares = share;
    }
    share->kind = kind;
    share->nodes = copy;
    share->count = nodes->count;
    pthread_mutex_unlock(&service->lock);
    return E_OK;
}

static void share_free(struct train_share *share)
{
    proto_free(share->nodes);
    proto_free(share);
}

/* HASH NULL: all of the job. */
void train_share_drop(struct train_service *service, const uint8_t job_id[16], const uint8_t *hash)
{
    pthread_mutex_lock(&service->lock);
    for (struct train_share **at = &service->shares; *at;) {
        struct train_share *share = *at;
        if (memcmp(share->job_id, job_id, 16) == 0 &&
            (!hash || memcmp(share->hash, hash, 32) == 0)) {
            *at = share->next;
            share_free(share);
        } else {
            at = &share->next;
        }
    }
    pthread_mutex_unlock(&service->lock);
}

void train_share_fini(struct train_service *service)
{
    for (struct train_share *share = service->shares, *next; share; share = next) {
        next = share->next;
        share_free(share);
    }
    service->shares = NULL;
}

/* --- serving ----------------------------------------------------------------------------------------------------------- */

/* Whether some running job lets NODE have it; RET_KIND: how it is counted. */
static bool shared_with(struct train_service *service, const uint8_t hash[32],
                        const uint8_t node[16], const char **ret_kind)
{
    bool found = false;
    pthread_mutex_lock(&service->lock);
    for (const struct train_share *share = service->shares; share && !found; share = share->next) {
        for (size_t i = 0; memcmp(share->hash, hash, 32) == 0 && i < share->count && !found; i++) {
            found = memcmp(share->nodes[i], node, 16) == 0;
            *ret_kind = share->kind;
        }
    }
    pthread_mutex_unlock(&service->lock);
    return found;
}

/* A row for each published model that leaves, when its first chunk does; who asks again in the middle costs no row. */
static enum err may_have(void *user, const struct peer_member *member, const uint8_t hash[32],
                         uint64_t offset, size_t bytes)
{
    struct train_service *service = user;
    struct store *store = service->context->store;
    const char *kind = NULL;
    char id[65];
    if (shared_with(service, hash, member->id, &kind)) {
        if (kind) {
            store_egress_count(store, member->name, kind, bytes);
        }
        return E_OK;
    }
    if (train_job_lends(service, hash, member->id)) {
        store_egress_count(store, member->name, "train", bytes);
        return E_OK;
    }
    enum err err = train_model_may_have(service, member, hash);
    if (err) {
        return err;
    }
    if (offset) {
        store_egress_count(store, member->name, "model", bytes);
        return E_OK;
    }
    span_to_hex(span_of(hash, 32), id);
    return store_egress_add(store, member->name, "model", id, bytes, query_now(), NULL);
}

void train_blob_get(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    const struct query_context *context = service->context;
    if (context->refusing && context->refusing(context->user)) {
        peer_reply(request, E_BUSY, SPAN_NONE);
        return;
    }
    peer_transfer_serve(context->peer, context->store, request, may_have, service);
}

/* --- what else both sides ask ------------------------------------------------------------------------------------------- */

enum err train_licence_id(struct query_context *context, const uint8_t node[16],
                          const char *dataset, uint8_t ret[16])
{
    struct arena arena = {0};
    struct proto_record record;
    struct span bytes;
    uint8_t key[16];
    memset(ret, 0, 16);
    proto_record_key(&crypto_proto_hash, dataset, key);
    enum err err =
        store_records_get(context->store, node, key, PROTO_RECORD_DATASET, &arena, &bytes, NULL);
    if (!err) {
        err = store_records_get(context->store, node, key, PROTO_RECORD_LICENCE, &arena, &bytes,
                                NULL);
        if (!err) {
            err = proto_record_decode(bytes, &crypto_proto_hash, &record, NULL);
        } else if (err == E_NOT_FOUND) {
            arena_fini(&arena);
            return E_OK;
        }
    }
    if (!err && !(record.envelope.flags & PROTO_RECORD_FINAL)) {
        memcpy(ret, record.id, 16);
    }
    arena_fini(&arena);
    return err;
}

unsigned train_threads(const struct train_service *service)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long most = (long)service->context->training_cores;
    cores = most && most < cores ? most : cores;
    return cores < 1 ? 1 : (cores > THREADS_MAX ? THREADS_MAX : (unsigned)cores);
}
