/* Asking several sites at once, and what a site's answer to a round becomes: progress, an update that is fetched and checked, a
 * refusal, or the reason why it counts for nothing. */
#include "config.h"
#include "node/train/coordinator_internal.h"

#include "node/query/site.h"
#include "node/query/witness.h"
#include "node/train/vector.h"

#include <stdio.h>
#include <time.h>

#define GONE_MS   8000  /* how long a lost site is waited for within a round */
#define ABSENT_MS 1000  /* the same for one that was absent in the last round already */
#define BUSY_MS   20000 /* how long a site that says BUSY is asked again */
#define CALL_MS   20000 /* a site answers a question in about a second, whatever it works on */
#define PAUSE_MS  500
#define SHORT_MS  20

static bool asked_cancelled(void *user)
{
    struct asked *asked = user;
    struct peer_member member;
    uint64_t now = query_now_ms();
    if (asked->cancelled && asked->cancelled(asked->user)) {
        asked->given_up = true;
        return true;
    }
    if (now - asked->looked_ms < PAUSE_MS) {
        return false;
    }
    asked->looked_ms = now;
    bool known = peer_member_by_id(asked->service->context->peer, asked->call.to, &member);
    if (known && (member.state == PEER_UP || member.state == PEER_SELF)) {
        asked->returned = asked->gone_ms != 0;
        asked->gone_ms = 0;
        return asked->returned;
    }
    asked->gone_ms = asked->gone_ms ? asked->gone_ms : now;
    if (!known || member.state == PEER_REVOKED || now - asked->gone_ms > asked->patience_ms) {
        asked->given_up = true;
    }
    return asked->given_up;
}

static void pause_ms(uint64_t ms)
{
    struct timespec pause = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0) {
    }
}

static uint64_t left_ms(const struct asked *asked)
{
    uint64_t passed = query_now_ms() - asked->progress_ms;
    return passed < asked->stall_ms ? asked->stall_ms - passed : 0;
}

static bool ask_again(struct asked *asked)
{
    uint64_t now = query_now_ms();
    enum err status = asked->call.status;
    if (asked->given_up || left_ms(asked) <= PAUSE_MS) {
        return false;
    }
    if (status == E_CANCELLED && asked->returned) {
        return true;
    }
    if (status == E_BUSY) {
        asked->busy_ms = asked->busy_ms ? asked->busy_ms : now;
        return now - asked->busy_ms < BUSY_MS;
    }
    return status == E_TIMEOUT && asked->final != NULL;
}

static void *ask_one(void *user)
{
    struct asked *asked = user;
    for (;;) {
        uint64_t left = left_ms(asked);
        left = asked->final && left > CALL_MS ? CALL_MS : left;
        asked->returned = false;
        enum err err = peer_call_many(asked->service->context->peer, &asked->call, 1,
                                      left ? left : 1, asked_cancelled, asked);
        asked->call.status = err ? err : asked->call.status;
        if (asked->call.status == E_OK) {
            asked->busy_ms = 0;
            if (!asked->final || asked->final(asked)) {
                break;
            }
            if (left_ms(asked) == 0) {
                asked->call.status = E_TIMEOUT;
                break;
            }
        } else if (!ask_again(asked)) {
            break;
        } else {
            pause_ms(asked->call.status == E_BUSY && asked->final ? SHORT_MS : PAUSE_MS);
        }
        peer_reply_fini(&asked->call.reply);
    }
    if (asked->call.status == E_CANCELLED) {
        asked->call.status = E_UNREACHABLE;
    }
    return NULL;
}

void asked_all(struct asked *asked, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        asked[i].joinable = pthread_create(&asked[i].thread, NULL, ask_one, &asked[i]) == 0;
        if (!asked[i].joinable) {
            asked[i].call.status = E_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (asked[i].joinable) {
            pthread_join(asked[i].thread, NULL);
        }
    }
}

static void drop_taken(struct asked *asked)
{
    if (asked->taken) {
        (void)!store_blob_remove(asked->service->context->store, asked->update.update.hash.ptr,
                                 NULL);
        asked->taken = false;
    }
}

void asked_fini(struct asked *asked, size_t count)
{
    for (size_t i = 0; asked && i < count; i++) {
        drop_taken(&asked[i]);
        peer_reply_fini(&asked[i].call.reply);
        buf_fini(&asked[i].request);
        arena_fini(&asked[i].arena);
    }
    proto_free(asked);
}

void asked_init(struct asked *asked, struct train_service *service, const struct train_site *site,
                size_t index, uint32_t type, uint64_t stall_ms, bool (*cancelled)(void *),
                void *user)
{
    struct peer_member member;
    bool known = peer_member_by_id(service->context->peer, site->id, &member);
    bool gone =
        known && member.state == PEER_DOWN && query_now() - member.last_seen > GONE_MS / 1000;
    bool absent =
        gone || strcmp(site->state, "absent") == 0 || strcmp(site->state, "unreachable") == 0;
    *asked = (struct asked){
        .service = service,
        .site = index,
        .stall_ms = stall_ms,
        .progress_ms = query_now_ms(),
        .patience_ms = absent ? ABSENT_MS : GONE_MS,
        .cancelled = cancelled,
        .user = user,
    };
    asked->request.max = PEER_MESSAGE_MAX;
    asked->call.type = type;
    memcpy(asked->call.to, site->id, 16);
}

/* --- an answer to a round ---------------------------------------------------------------------------------------------- */

/* Ours, signed, and an answer to what was asked. */
static enum err open_update(struct asked *asked)
{
    struct query_context *context = asked->service->context;
    const struct train_job_state *state = &asked->job->state;
    struct peer_member member = {0};
    enum err err = E_OK;
    if (!peer_member_by_id(context->peer, asked->call.to, &member)) {
        err = E_NOT_FOUND;
    }
    if (!err) {
        err = query_message_open(&train_update_message, asked->call.reply.bytes,
                                 TRAIN_UPDATE_DOMAIN, member.point, context->federation_id,
                                 &asked->arena, &asked->update, NULL);
    }
    if (!err && (memcmp(asked->update.job_id.ptr, state->id, 16) != 0 ||
                 asked->update.round != asked->number ||
                 memcmp(asked->update.plan_hash.ptr, state->plan_hash, 32) != 0)) {
        err = E_AUTH;
    }
    if (!err && asked->update.answer != TRAIN_WORKING) {
        query_witness_keep(context, &member, asked->update.head);
    }
    return err;
}

/* Why an update counts for nothing. */
static enum err reject(struct asked *asked, const char *reason)
{
    snprintf(asked->reason, sizeof asked->reason, "%s", reason);
    return E_INVALID;
}

static bool fetch_cancelled(void *user)
{
    return asked_cancelled(user) && ((struct asked *)user)->given_up;
}

/* false: nobody waits for it any more. */
static bool fetch_enter(struct asked *asked)
{
    struct train_service *service = asked->service;
    bool in = false;
    while (!in && !fetch_cancelled(asked)) {
        pthread_mutex_lock(&service->lock);
        if (service->fetching < TRAIN_FETCHING) {
            service->fetching++;
            in = true;
        } else {
            train_wait_locked(service, PAUSE_MS);
        }
        pthread_mutex_unlock(&service->lock);
    }
    return in;
}

static void fetch_leave(struct asked *asked)
{
    struct train_service *service = asked->service;
    pthread_mutex_lock(&service->lock);
    service->fetching--;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static void count_bytes(void *user, uint64_t bytes)
{
    struct asked *asked = user;
    asked->bytes += bytes;
    asked->progress_ms = query_now_ms();
}

/* Its vector becomes a blob of ours; one that is not what a model can be moved by is thrown away at once. */
static enum err take_vector(struct asked *asked)
{
    struct query_context *context = asked->service->context;
    const struct train_job_state *state = &asked->job->state;
    struct peer_blob blob;
    uint8_t tag[TRAIN_VECTOR_TAG];
    bool was_here;
    double norm;
    struct peer_fetch how = {
        .from = asked->call.to,
        .stall_ms = asked->stall_ms,
        .keep = STORE_BLOB_PASSING,
        .was_here = &was_here,
        .cancelled = fetch_cancelled,
        .user = asked,
        .progress = count_bytes,
    };
    if (memcmp(asked->update.base.ptr, state->server.weights, 32) != 0) {
        return reject(asked, "OTHER_WEIGHTS");
    }
    if (train_blob_open(&asked->update.update, &blob) ||
        blob.size != train_vector_size(state->numbers)) {
        return reject(asked, "SHAPE");
    }
    train_vector_tag(TRAIN_VECTOR_UPDATE, state->id, asked->number, asked->call.to, tag);
    if (!fetch_enter(asked)) {
        return E_CANCELLED;
    }
    enum err err = peer_blob_fetch(context->peer, context->store, &blob, &how, NULL);
    fetch_leave(asked);
    if (err) {
        return err == E_AUTH ? reject(asked, "HASH") : err;
    }
    err = train_vector_check(context->store, blob.hash, state->numbers, tag, &norm, NULL);
    /* Nobody may name a blob that is here for another purpose: it would be counted, and removed with the round. */
    bool other = err == E_AUTH;
    if (other) {
        err = reject(asked, "OTHER_VECTOR");
    } else if (err == E_INVALID) {
        err = reject(asked, "NOT_FINITE");
    } else if (!err && asked->norm_bound > 0 && !(norm <= asked->norm_bound)) {
        err = reject(asked, "NORM");
    }
    bool own = memcmp(asked->call.to, context->node_id, 16) == 0; /* then it is the site's */
    asked->taken = !own && !(other && was_here);
    if (err) {
        drop_taken(asked);
    }
    return err;
}

static void note_progress(struct asked *asked)
{
    struct train_job *job = asked->job;
    if (asked->update.done != asked->done || asked->update.total != asked->total) {
        asked->progress_ms = query_now_ms();
    }
    asked->done = asked->update.done;
    asked->total = asked->update.total;
    pthread_mutex_lock(&job->service->lock);
    job->state.sites[asked->site].done = asked->done;
    job->state.sites[asked->site].total = asked->total;
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
}

bool asked_round(struct asked *asked)
{
    asked->err = open_update(asked);
    asked->bytes += asked->call.reply.bytes.len;
    if (!asked->err && asked->update.answer == TRAIN_WORKING) {
        note_progress(asked);
        arena_fini(&asked->arena);
        asked->arena = (struct arena){0};
        return false;
    }
    if (asked->err == E_AUTH || asked->err == E_INVALID || asked->err == E_LIMIT ||
        asked->err == E_TRUNCATED) {
        asked->err = reject(asked, "MALFORMED");
    } else if (!asked->err && asked->update.answer == TRAIN_UPDATED) {
        asked->err = take_vector(asked);
        if (asked->err == E_NOT_FOUND || asked->err == E_REFUSED) {
            pause_ms(PAUSE_MS); /* it was restarted and shares its update when it is asked again */
            return false;
        }
    }
    return true;
}
