/* A finished or running job computed again: from the weights that its plan names and the mean of each round, with the server's
 * step alone. Single updates are not kept, so this shows that the model is what the recorded rounds make it, bit by bit. */
#include "config.h"
#include "node/train/internal.h"

#include "store/job.h"

struct replay {
    struct store *store;
    const struct train_job_state *state;
    struct train_server server;
    struct train_server_state at;
};

/* What only the replay made goes again. */
static void forget(const struct replay *replay, const uint8_t hash[32])
{
    const struct train_server_state *kept = &replay->state->server;
    bool used = train_hash_none(hash) || memcmp(hash, kept->weights, 32) == 0 ||
                memcmp(hash, kept->first, 32) == 0 || memcmp(hash, kept->second, 32) == 0;
    if (!used) {
        (void)!store_blob_remove(replay->store, hash, NULL);
    }
}

static enum err replay_round(struct replay *replay, const struct train_round_row *row, bool first,
                             struct err_info *reterr)
{
    struct train_server_state next;
    if (!store_blob_has(replay->store, row->mean)) {
        return proto_err_set(reterr, E_NOT_FOUND,
                             "the mean of round %llu was not kept: the model is too large for that",
                             (unsigned long long)row->round);
    }
    enum err err = train_server_step(replay->store, &replay->server, row->round,
                                     replay->state->numbers, row->mean, &replay->at, &next, reterr);
    if (err) {
        return err;
    }
    if (!first) {
        forget(replay, replay->at.weights); /* the first weights stay */
    }
    forget(replay, replay->at.first);
    forget(replay, replay->at.second);
    replay->at = next;
    return memcmp(next.weights, row->weights, 32) == 0
               ? E_OK
               : proto_err_set(
                     reterr, E_CORRUPT,
                     "round %llu: the recorded mean does not lead to the recorded weights",
                     (unsigned long long)row->round);
}

static enum err replay_all(struct replay *replay, struct err_info *reterr)
{
    const struct train_job_state *state = replay->state;
    struct arena arena = {0};
    struct train_plan plan;
    enum err err = proto_codec_decode(&train_plan_message, state->plan, &arena, &plan, reterr);
    if (!err) {
        replay->server = (struct train_server){.method = (enum proto_aggregation)plan.method,
                                               .rate = plan.server_rate,
                                               .momentum = plan.server_momentum,
                                               .job_id = state->id};
        memcpy(replay->at.weights, plan.start.ptr, 32);
    }
    for (size_t i = 0; !err && i < state->history_count; i++) {
        err = replay_round(replay, &state->history[i], i == 0, reterr);
    }
    if (!err && memcmp(replay->at.weights, state->server.weights, 32) != 0) {
        err = proto_err_set(reterr, E_CORRUPT, "the model is not that of the last round");
    }
    forget(replay, replay->at.first);
    forget(replay, replay->at.second);
    arena_fini(&arena);
    return err;
}

enum err train_verify(struct train_service *service, const uint8_t id[16], uint64_t *ret_rounds,
                      uint8_t ret_weights[32], struct err_info *reterr)
{
    struct train_job_state *state = proto_alloc(1, sizeof *state);
    struct buf bytes = {.max = STORE_JOB_MAX};
    enum err err = state ? store_job_get(service->context->store, id, &bytes, reterr) : E_NO_MEMORY;
    if (!err) {
        err = train_job_state_decode(buf_span(&bytes), state, reterr);
    }
    struct replay replay = {.store = service->context->store, .state = state};
    if (!err) {
        err = replay_all(&replay, reterr);
    }
    if (!err) {
        *ret_rounds = state->history_count;
        memcpy(ret_weights, state->server.weights, 32);
    }
    if (state) {
        train_job_state_fini(state);
    }
    proto_free(state);
    buf_fini(&bytes);
    return err == E_INVALID
               ? proto_err_set(reterr, E_NOT_FOUND, "this node does not coordinate that job")
               : err;
}
