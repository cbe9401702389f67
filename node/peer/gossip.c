/* Drives proto/gossip: events from links and timers in, actions out. Signature checks and writes go to the records
 * thread, which answers by events. Messages for one link are collected and travel in one PEER_MSG_GOSSIP request at a
 * time; what the other side has to say at once comes back in the reply. A batch is (length u32 | message)*. */
#include "config.h"
#include "node/peer/internal.h"

#include <stdlib.h>
#include <time.h>

#include "crypto/envelope.h"
#include "crypto/random.h"
#include "store/records.h"

#define GOSSIP_DEADLINE_MS 10000
#define BAN_MS             600000

static void perform(struct peer *peer);

static void step(struct peer *peer, struct proto_gossip_event *event)
{
    event->now_ms = peer_now_ms();
    event->wall_ms = peer_wall_ms();
    proto_gossip_step(peer->gossip, event, peer->actions);
    perform(peer);
}

static void arm(struct peer *peer)
{
    uint64_t now = peer_now_ms();
    uint64_t next = peer->actions->next_ms;
    if (peer->stopping || next == UINT64_MAX) {
        uv_timer_stop(&peer->gossip_timer);
        return;
    }
    uv_timer_start(&peer->gossip_timer, gossip_timer_fired, next > now ? next - now : 1, 0);
}

void gossip_timer_fired(uv_timer_t *timer)
{
    struct peer *peer = timer->data;
    struct proto_gossip_event event = {.kind = PROTO_GOSSIP_TIMER};
    step(peer, &event);
}

/* --- the outbox ----------------------------------------------------------------------------------------------------- */

static void outbox_put(struct link *link, struct span message)
{
    uint8_t head[4];
    put_be32(head, (uint32_t)message.len);
    size_t before = link->outbox.len;
    if (buf_put(&link->outbox, span_of(head, 4)) || buf_put(&link->outbox, message)) {
        link->outbox.len = before; /* full: the next digest finds what is missing */
    }
}

static void second_keep(struct peer *peer, struct span bytes)
{
    struct proto_record record;
    struct second *second = &peer->seconds[peer->second_next++ % SECONDS_MAX];
    buf_fini(&second->record);
    second->record = (struct buf){.max = PROTO_RECORD_MAX};
    if (!proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) &&
        !buf_put(&second->record, bytes)) {
        memcpy(second->rid, record.id, 16);
    }
}

static bool record_is(struct span bytes, const uint8_t rid[16])
{
    struct proto_record record;
    return !proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) &&
           memcmp(record.id, rid, 16) == 0;
}

/* The bytes of a record of our set: a head, or the proof of an equivocation. */
static bool record_find(struct peer *peer, const uint8_t rid[16], struct arena *arena,
                        struct span *ret)
{
    uint8_t issuer[16], key[16];
    uint64_t kind;
    bool second;
    if (!store_records_by_id(peer->store, rid, arena, ret)) {
        return true;
    }
    if (!proto_gossip_key(peer->gossip, rid, issuer, key, &kind, &second) || !second) {
        return false;
    }
    for (size_t i = 0; i < SECONDS_MAX; i++) {
        if (peer->seconds[i].record.len && memcmp(peer->seconds[i].rid, rid, 16) == 0) {
            *ret = buf_span(&peer->seconds[i].record);
            return true;
        }
    }
    return !store_records_fork(peer->store, issuer, key, kind, arena, ret) && record_is(*ret, rid);
}

static void outbox_records(struct link *link, struct span rids)
{
    struct arena arena = {0};
    struct buf message = {.max = PROTO_GOSSIP_MESSAGE_MAX};
    for (size_t i = 0; i + 16 <= rids.len; i += 16) {
        struct span record;
        if (!record_find(link->peer, rids.ptr + i, &arena, &record)) {
            continue;
        }
        if (!proto_gossip_push_add(&message, record)) {
            outbox_put(link, buf_span(&message));
            message.len = 0;
            (void)!proto_gossip_push_add(&message, record);
        }
    }
    if (message.len) {
        outbox_put(link, buf_span(&message));
    }
    buf_fini(&message);
    arena_fini(&arena);
}

/* Moves whole messages of at most GOSSIP_BODY_MAX bytes from the outbox to TO. */
static void outbox_take(struct link *link, struct buf *to)
{
    size_t len = 0;
    while (len + 4 <= link->outbox.len) {
        size_t next = len + 4 + get_be32(link->outbox.ptr + len);
        if (next > GOSSIP_BODY_MAX) {
            break;
        }
        len = next;
    }
    to->len = 0;
    if (len && buf_put(to, span_of(link->outbox.ptr, len)) == E_OK) {
        memmove(link->outbox.ptr, link->outbox.ptr + len, link->outbox.len - len);
        link->outbox.len -= len;
    }
}

static void batch_read(struct link *link, struct span body)
{
    struct peer *peer = link->peer;
    struct proto_gossip_link_view view;
    while (body.len >= 4) {
        size_t len = get_be32(body.ptr);
        if (len > body.len - 4) {
            peer_count(peer, &peer->counters.malformed, 1);
            return;
        }
        struct proto_gossip_event event = {.kind = PROTO_GOSSIP_MSG,
                                           .link = (uint32_t)link->index,
                                           .bytes = span_of(body.ptr + 4, len)};
        step(peer, &event);
        body = span_of(body.ptr + 4 + len, body.len - 4 - len);
    }
    proto_gossip_link(peer->gossip, (uint32_t)link->index, &view);
    peer_directory_root(peer->directory, link->index, view.root_equal, view.count);
    if (view.clock_known) {
        peer_directory_clock(peer->directory, link->index, view.clock_ahead_ms);
    }
    peer_directory_seen(peer->directory, link->index,
                        link->state == LINK_UP ? PEER_UP : PEER_CONNECTING, (int64_t)time(NULL), 0);
}

static void flushed(struct call *call, enum err status, struct peer_reply *reply)
{
    struct link *link = call->user;
    link->gossip_busy = false;
    if (link->peer->stopping) {
        return;
    }
    if (!status) {
        batch_read(link, reply->bytes);
    }
    gossip_flush(link);
}

void gossip_flush(struct link *link)
{
    uint64_t now = peer_now_ms();
    if (link->gossip_busy || link->state != LINK_UP || !link->outbox.len || link->peer->stopping) {
        return;
    }
    outbox_take(link, &link->sending);
    if (!link->sending.len) {
        link->outbox.len = 0; /* cannot be: no message is longer than a body */
        return;
    }
    link->gossip_busy = true;
    link->gossip_call = (struct call){.peer = link->peer,
                                      .type = PEER_MSG_GOSSIP,
                                      .body = buf_span(&link->sending),
                                      .started_ms = now,
                                      .deadline_ms = now + GOSSIP_DEADLINE_MS,
                                      .slot = -1,
                                      .finish = flushed,
                                      .user = link};
    link_call(link, &link->gossip_call);
}

void gossip_request(struct peer_request *request)
{
    struct link *link = request->peer->links[request->link];
    struct buf answer = {.max = PEER_MESSAGE_MAX};
    /* What was already waiting for this link goes its own way, when there is one. */
    bool busy = link->gossip_busy;
    link->gossip_busy = true;
    batch_read(link, request->frame.body);
    link->gossip_busy = busy;
    outbox_take(link, &answer);
    peer_reply(request, E_OK, buf_span(&answer));
    buf_fini(&answer);
    gossip_flush(link);
}

void gossip_link(struct link *link, bool up)
{
    struct proto_gossip_event event = {.kind = up ? PROTO_GOSSIP_LINK_UP : PROTO_GOSSIP_LINK_DOWN,
                                       .link = (uint32_t)link->index};
    if (!up) {
        link->outbox.len = 0;
    }
    step(link->peer, &event);
}

/* --- jobs on the records thread --------------------------------------------------------------------------------------- */

static void job_free(struct peer *peer, struct gossip_job *job)
{
    size_t at = job->number & 0xffff;
    if (peer->jobs[at] == job) {
        peer->jobs[at] = NULL;
    }
    buf_fini(&job->record);
    proto_free(job);
}

static void job_answer(struct peer *peer, struct peer_event *event)
{
    struct gossip_job *job =
        (struct gossip_job *)((char *)event - offsetof(struct gossip_job, event));
    link_member_changed(peer, &job->change);
    job->change.member = -1;
    if (peer->stopping) {
        job_free(peer, job);
        return;
    }
    struct proto_gossip_event answer = {.kind = job->store ? PROTO_GOSSIP_STORED
                                                           : PROTO_GOSSIP_VERIFIED,
                                        .job = job->number,
                                        .verdict = job->verdict,
                                        .ok = job->ok};
    step(peer, &answer);
}

static void job_run(struct pool_job *base)
{
    struct gossip_job *job = (struct gossip_job *)base;
    struct peer *peer = job->peer;
    struct span record = buf_span(&job->record);
    if (job->store) {
        enum err err = store_records_put(peer->store, record, NULL);
        job->ok = err == E_OK || err == E_FORKED || err == E_EXISTS;
    } else {
        job->verdict = peer_directory_judge(peer->directory, record);
        /* At once, not after it is stored: what follows in the queue may be signed by this member. */
        if (job->verdict == PROTO_GOSSIP_ACCEPT) {
            job->change = peer_directory_apply(peer->directory, record);
        }
    }
    peer_post(peer, &job->event);
}

static void job_put(struct peer *peer, const struct proto_gossip_action *action)
{
    size_t at = action->job & 0xffff;
    struct gossip_job *job = peer->jobs[at];
    if (action->kind == PROTO_GOSSIP_VERIFY) {
        job = proto_alloc(1, sizeof *job);
        if (job) {
            job->record.max = PROTO_RECORD_MAX;
        }
        if (!job || buf_put(&job->record, action->bytes)) {
            proto_free(job);
            return; /* the core's job stays open; a later restart forgets it */
        }
        job->peer = peer;
        job->number = action->job;
        job->change.member = -1;
        peer->jobs[at] = job;
    }
    if (job) {
        job->store = action->kind == PROTO_GOSSIP_STORE;
        job->job.run = job_run;
        job->event.run = job_answer;
        pool_put(&peer->records, &job->job);
    }
}

static void job_done(struct peer *peer, const struct proto_gossip_action *action)
{
    struct gossip_job *job = peer->jobs[action->job & 0xffff];
    if (!job) {
        return;
    }
    if (action->ok && peer->on_record) {
        peer->on_record(peer->on_record_user, buf_span(&job->record), action->forked);
    }
    if (action->ok && action->forked) {
        second_keep(peer, buf_span(&job->record));
        peer_say(peer, PEER_LOG_ALARM, "an issuer signed two versions of one record");
    }
    job_free(peer, job);
}

/* --- actions ------------------------------------------------------------------------------------------------------------ */

static void show_liveness(struct link *link, enum proto_gossip_liveness liveness)
{
    if (link->state == LINK_UP && liveness != PROTO_GOSSIP_DOWN) {
        peer_directory_seen(link->peer->directory, link->index,
                            liveness == PROTO_GOSSIP_UP        ? PEER_UP
                            : liveness == PROTO_GOSSIP_SUSPECT ? PEER_CONNECTING
                                                               : PEER_DOWN,
                            0, 0);
    }
}

static void perform_one(struct peer *peer, const struct proto_gossip_action *action)
{
    struct link *link = action->link < PEER_MEMBERS_MAX ? peer->links[action->link] : NULL;
    switch (action->kind) {
    case PROTO_GOSSIP_SEND:
        if (link) {
            outbox_put(link, action->bytes);
        }
        break;
    case PROTO_GOSSIP_SEND_RECORDS:
        if (link) {
            outbox_records(link, action->bytes);
        }
        break;
    case PROTO_GOSSIP_VERIFY:
    case PROTO_GOSSIP_STORE:
        job_put(peer, action);
        break;
    case PROTO_GOSSIP_DONE:
        job_done(peer, action);
        break;
    case PROTO_GOSSIP_LIVENESS:
        if (link) {
            show_liveness(link, action->liveness);
        }
        break;
    case PROTO_GOSSIP_CLOSE:
        if (link) {
            peer_say(peer, PEER_LOG_ALARM, "%s sends nonsense; refused for ten minutes", link->hex);
            link_ban(link, BAN_MS);
        }
        break;
    }
}

static void perform(struct peer *peer)
{
    struct proto_gossip_actions *actions = peer->actions;
    struct proto_gossip_counters counters;
    uint8_t root[16];
    for (size_t i = 0; i < actions->count; i++) {
        perform_one(peer, &actions->items[i]);
    }
    for (size_t i = 0; i < actions->count; i++) {
        uint32_t number = actions->items[i].link;
        if (number < PEER_MEMBERS_MAX && peer->links[number]) {
            gossip_flush(peer->links[number]);
        }
    }
    uint64_t count = proto_gossip_root(peer->gossip, root);
    proto_gossip_counters(peer->gossip, &counters);
    pthread_mutex_lock(&peer->lock);
    peer->root_count = count;
    memcpy(peer->root_print, root, 16);
    peer->counters.records_new = counters.fresh;
    peer->counters.records_duplicate = counters.duplicate;
    peer->counters.records_rejected = counters.rejected;
    peer->counters.records_forked = counters.forked;
    pthread_mutex_unlock(&peer->lock);
    arm(peer);
}

/* --- own records -------------------------------------------------------------------------------------------------------- */

struct add_event {
    struct peer_event event;
    struct buf record;
    struct peer_directory_change change;
};

static void add_run(struct peer *peer, struct peer_event *event)
{
    struct add_event *add = (struct add_event *)event;
    if (!peer->stopping) {
        struct proto_gossip_event e = {
            .kind = PROTO_GOSSIP_ADD, .bytes = buf_span(&add->record), .own = true};
        link_member_changed(peer, &add->change);
        step(peer, &e);
        if (peer->on_record) {
            peer->on_record(peer->on_record_user, buf_span(&add->record), false);
        }
    }
    buf_fini(&add->record);
    proto_free(add);
}

/* Milliseconds in the upper 48 bits, a counter below; strictly rising. */
static uint64_t next_hlc(struct peer *peer)
{
    uint64_t now = peer_wall_ms() << 16;
    peer->hlc = now > peer->hlc ? now : peer->hlc + 1;
    return peer->hlc;
}

static enum err publish_locked(struct peer *peer, uint64_t kind, const uint8_t key[16],
                               struct span body, uint64_t flags, int64_t expires,
                               struct buf *record, struct err_info *reterr)
{
    uint8_t prev[16], sig[64];
    uint64_t seq;
    struct buf envelope_bytes = {.max = PROTO_RECORD_MAX};
    enum err err = store_records_next_seq(peer->store, key, kind, &seq, prev);
    if (!err) {
        struct proto_envelope envelope = {.version = 1,
                                          .kind = kind,
                                          .issuer = span_of(peer->node_id, 16),
                                          .key = span_of(key, 16),
                                          .seq = seq,
                                          .hlc = next_hlc(peer),
                                          .expires = (uint64_t)(expires > 0 ? expires : 0),
                                          .prev = seq > 1 ? span_of(prev, 16) : SPAN_NONE,
                                          .flags = flags,
                                          .body = body};
        err = proto_record_encode(&envelope, &envelope_bytes, reterr);
    }
    if (!err) {
        err = crypto_envelope_sign(peer->identity, PROTO_RECORD_DOMAIN, peer->federation_id,
                                   buf_span(&envelope_bytes), sig);
    }
    if (!err) {
        err = proto_record_seal(buf_span(&envelope_bytes), sig, record);
    }
    if (!err) {
        err = store_records_put(peer->store, buf_span(record), reterr);
    }
    if (err == E_EXISTS) {
        err = proto_err_set(reterr, E_REFUSED,
                            "an earlier version of this record is final, it was withdrawn for "
                            "good: use another name");
    }
    buf_fini(&envelope_bytes);
    return err;
}

/* A record that is on disk already enters the set and goes to all links. Takes RECORD. */
static enum err announce(struct peer *peer, struct buf *take_record)
{
    struct add_event *add = proto_alloc(1, sizeof *add);
    if (!add) {
        buf_fini(take_record);
        return E_NO_MEMORY;
    }
    add->event.run = add_run;
    add->record = *take_record;
    add->change = peer_directory_apply(peer->directory, buf_span(take_record));
    peer_post(peer, &add->event);
    return E_OK;
}

enum err peer_publish_key(struct peer *peer, uint64_t kind, const uint8_t key[16], struct span body,
                          uint64_t flags, int64_t expires, uint8_t ret_id[16],
                          struct err_info *reterr)
{
    struct buf record = {.max = PROTO_RECORD_MAX};
    struct proto_record decoded;
    pthread_mutex_lock(&peer->publish_lock);
    enum err err = publish_locked(peer, kind, key, body, flags, expires, &record, reterr);
    pthread_mutex_unlock(&peer->publish_lock);
    if (!err) {
        err = proto_record_decode(buf_span(&record), &crypto_proto_hash, &decoded, reterr);
    }
    if (err) {
        buf_fini(&record);
        return err;
    }
    if (ret_id) {
        memcpy(ret_id, decoded.id, 16);
    }
    return announce(peer, &record);
}

enum err peer_publish(struct peer *peer, uint64_t kind, const char *key_name, struct span body,
                      uint64_t flags, int64_t expires, uint8_t ret_id[16], struct err_info *reterr)
{
    uint8_t key[16];
    proto_record_key(&crypto_proto_hash, key_name, key);
    return peer_publish_key(peer, kind, key, body, flags, expires, ret_id, reterr);
}

enum err peer_publish_other(struct peer *peer, struct span record, struct err_info *reterr)
{
    if (peer_directory_judge(peer->directory, record) != PROTO_GOSSIP_ACCEPT) {
        return proto_err_set(reterr, E_AUTH, "the record is not signed as it must be");
    }
    enum err err = store_records_put(peer->store, record, reterr);
    struct buf copy = {.max = PROTO_RECORD_MAX};
    err = err == E_FORKED ? E_OK : err; /* kept as proof, which others need as well */
    if (!err) {
        err = buf_put(&copy, record);
    }
    return err ? err : announce(peer, &copy);
}

/* --- life ---------------------------------------------------------------------------------------------------------------- */

struct loading {
    struct peer *peer;
    bool members;
};

static bool of_membership(uint64_t kind)
{
    return kind == PROTO_RECORD_MEMBER || kind == PROTO_RECORD_CHARTER ||
           kind == PROTO_RECORD_REVOKE || kind == PROTO_RECORD_ADDRESS;
}

static void load_second(struct peer *peer, const struct proto_record *head)
{
    struct arena arena = {0};
    struct proto_gossip_event event = {
        .kind = PROTO_GOSSIP_ADD, .now_ms = peer_now_ms(), .wall_ms = peer_wall_ms()};
    if (!store_records_fork(peer->store, head->envelope.issuer.ptr, head->envelope.key.ptr,
                            head->envelope.kind, &arena, &event.bytes)) {
        proto_gossip_step(peer->gossip, &event, peer->actions);
    }
    arena_fini(&arena);
}

/* Stored records were verified when they came; loading trusts the disk, which the store itself checks. */
static enum err load_one(void *user, struct span bytes, bool forked)
{
    struct loading *loading = user;
    struct proto_record record;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL)) {
        return E_OK;
    }
    if (forked) {
        load_second(loading->peer, &record);
    }
    if (of_membership(record.envelope.kind)) {
        peer_directory_apply(loading->peer->directory, bytes);
    }
    struct proto_gossip_event event = {.kind = PROTO_GOSSIP_ADD,
                                       .bytes = bytes,
                                       .now_ms = peer_now_ms(),
                                       .wall_ms = peer_wall_ms()};
    proto_gossip_step(loading->peer->gossip, &event, loading->peer->actions);
    return E_OK;
}

enum err gossip_open(struct peer *peer, struct err_info *reterr)
{
    struct proto_gossip_config config = {.hash = &crypto_proto_hash,
                                         .links = PEER_MEMBERS_MAX,
                                         .records = 65536,
                                         .issuers = 4096,
                                         .ping_ms = peer->limits.gossip_ping_ms,
                                         .issuer_per_min = peer->limits.issuer_per_min};
    enum err err = crypto_random(&config.seed, sizeof config.seed);
    if (err) {
        return err;
    }
    peer->gossip = proto_gossip_new(&config);
    peer->actions = proto_gossip_actions_new();
    if (!peer->gossip || !peer->actions) {
        return E_NO_MEMORY;
    }
    struct loading loading = {.peer = peer};
    err = store_records_each(peer->store, 0, load_one, &loading);
    peer->root_count = proto_gossip_root(peer->gossip, peer->root_print);
    return err ? proto_err_set(reterr, err, "the stored records cannot be read") : E_OK;
}

void gossip_close(struct peer *peer)
{
    for (size_t i = 0; i < PROTO_GOSSIP_JOBS; i++) {
        if (peer->jobs[i]) {
            job_free(peer, peer->jobs[i]);
        }
    }
    for (size_t i = 0; i < SECONDS_MAX; i++) {
        buf_fini(&peer->seconds[i].record);
    }
    proto_gossip_free(peer->gossip);
    proto_gossip_actions_free(peer->actions);
}
