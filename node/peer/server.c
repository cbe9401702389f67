/* Requests of others: one REP socket, PEER_CONTEXTS contexts, the table of handlers, and the limits in front of it. */
#include "config.h"
#include "node/peer/internal.h"

#include <time.h>

static void request_received(struct peer *peer, struct peer_event *event);

/* --- pipes of the REP socket --------------------------------------------------------------------------------------- */

struct pipe_event {
    struct peer_event event;
    struct pipe_entry entry;
    bool up;
};

static void pipe_run(struct peer *peer, struct peer_event *event)
{
    struct pipe_event *e = (struct pipe_event *)event;
    int at = peer_directory_find(peer->directory, e->entry.node);
    struct link *link = at < 0 ? NULL : peer->links[at];
    if (e->up && !peer->stopping) {
        peer_tick_at(peer, e->entry.since_ms + HELLO_LIMIT_MS);
    }
    if (!e->up) {
        sp_sweep(peer->rep);
    }
    if (link && e->entry.outgoing) {
        if (e->up) {
            link->reverse_pipe = e->entry.id;
        } else {
            link_reverse_down(link, e->entry.id);
        }
    }
    proto_free(e);
}

/* NNG's threads. */
static bool on_pipe(void *user, const struct sp_identity *who, enum sp_event event)
{
    struct peer *peer = user;
    struct pipe_entry entry;
    if (event == SP_ASKED) {
        bool ok = !who->enrolling &&
                  peer_directory_admits(peer->directory, &who->certificate, (int64_t)time(NULL)) &&
                  pipe_add(peer, who, true);
        peer_count(peer, &peer->counters.unauthorised, ok ? 0 : 1);
        return ok;
    }
    bool up = event == SP_UP;
    bool known = up ? pipe_get(peer, who->pipe, &entry) : pipe_remove(peer, who->pipe, &entry);
    struct pipe_event *e = known ? proto_alloc(1, sizeof *e) : NULL;
    if (e) {
        *e = (struct pipe_event){.event.run = pipe_run, .entry = entry, .up = up};
        peer_post(peer, &e->event);
    }
    return true;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static bool hand_to_pool(struct peer_request *request);

/* NNG's threads, or inside the call that began it. What a handler of the pool takes goes to it from here, with a wake less
 * than over the loop, which sees all else, and whatever must be refused. */
static void received(void *user, int rv, struct sp_message *msg)
{
    struct peer_request *request = user;
    request->rv = rv;
    request->msg = msg;
    if (rv || !hand_to_pool(request)) {
        peer_post(request->peer, &request->event);
    }
}

static void request_wait(struct peer_request *request)
{
    request->event.run = request_received;
    request->counted = false;
    sp_ctx_receive(request->ctx, received, request);
}

static void give_back(struct peer_request *request)
{
    if (request->over) {
        request->over(request->owner);
        request->over = NULL;
    }
}

/* The reply is out, or was not taken: any thread. */
static void replied(void *user, int rv, struct sp_message *msg)
{
    struct peer_request *request = user;
    struct peer *peer = request->peer;
    (void)rv;
    (void)msg;
    give_back(request);
    pthread_mutex_lock(&peer->guests_lock);
    if (request->counted) {
        peer->guests[request->link].open_requests--;
        peer->open_requests--;
    }
    bool more = !peer->closed_to_guests;
    pthread_mutex_unlock(&peer->guests_lock);
    if (more) {
        request_wait(request);
    }
}

/* Not looked at by any handler: UNSEEN tells that it may be sent again. */
static void refuse(struct peer_request *request, enum err status, unsigned flags);

/* Lock held. */
static bool rate_allows(const struct peer *peer, struct guest *guest, uint64_t now_ms)
{
    uint64_t most = (uint64_t)peer->limits.burst * 1000;
    uint64_t passed = guest->tokens_ms ? now_ms - guest->tokens_ms : 3600000;
    guest->tokens_milli += passed > 600000 ? most : passed * peer->limits.rate_per_s;
    if (guest->tokens_milli > most) {
        guest->tokens_milli = most;
    }
    guest->tokens_ms = now_ms;
    if (guest->tokens_milli < 1000) {
        return false;
    }
    guest->tokens_milli -= 1000;
    return true;
}

/* Lock held. Counts the request when the limits have room for it. */
static bool admit(struct peer_request *request)
{
    struct peer *peer = request->peer;
    struct guest *guest = &peer->guests[request->link];
    if (peer->closed_to_guests || !rate_allows(peer, guest, peer_now_ms()) ||
        guest->open_requests >= peer->limits.open_requests) {
        return false;
    }
    guest->open_requests++;
    peer->open_requests++;
    request->counted = true;
    return true;
}

static void on_hello(struct peer_request *request, const struct pipe_entry *pipe)
{
    struct peer *peer = request->peer;
    uint8_t answer[HELLO_SIZE];
    enum err err = hello_check(peer, request->from, request->exporter, false, request->frame.body);
    if (err) {
        peer_count(peer, &peer->counters.hello_failed, 1);
        refuse(request, err, 0);
        return;
    }
    pipe_greeted(peer, pipe->id);
    pipe_close_all(peer, request->from, pipe->id); /* the newest connection stands */
    hello_make(peer, request->from, request->exporter, true, answer);
    link_awake(link_get(peer, request->link));
    peer_reply(request, E_OK, span_of(answer, sizeof answer));
}

static void on_reverse(struct peer_request *request)
{
    struct link *link = link_get(request->peer, request->link);
    uint8_t answer[2];
    put_be16(answer, link ? link_listen(link) : 0);
    peer_reply(request, E_OK, span_of(answer, 2));
}

static void handler_run(struct pool_job *job)
{
    struct peer_request *request =
        (struct peer_request *)((char *)job - offsetof(struct peer_request, job));
    const struct handler *handler = &request->peer->table[request->frame.type];
    handler->run(request, handler->user);
}

/* NULL: nobody's type, or this folder's own. */
static const struct handler *handler_of(const struct peer_request *request)
{
    uint32_t type = request->frame.type;
    const struct handler *handler = type < PEER_MSG_COUNT ? &request->peer->table[type] : NULL;
    return handler && handler->run ? handler : NULL;
}

void server_dispatch(struct peer_request *request)
{
    struct peer *peer = request->peer;
    const struct handler *handler = handler_of(request);
    if (!handler) {
        refuse(request, E_UNSUPPORTED, 0);
    } else if (handler->flags & PEER_ON_LOOP) {
        handler->run(request, handler->user);
    } else {
        request->job.run = handler_run;
        pool_put(&peer->handlers, &request->job);
    }
}

static void request_route(struct peer_request *request, const struct pipe_entry *pipe)
{
    struct peer *peer = request->peer;
    struct link *link = link_get(peer, request->link);
    if (!link || link->revoked || link->banned_until_ms > peer_now_ms()) {
        refuse(request, E_REFUSED, 0);
    } else if (request->frame.type == PEER_MSG_HELLO) {
        on_hello(request, pipe);
    } else if (!pipe->greeted) {
        peer_count(peer, &peer->counters.unauthorised, 1);
        refuse(request, E_AUTH, 0);
    } else {
        pthread_mutex_lock(&peer->guests_lock);
        bool admitted = admit(request);
        pthread_mutex_unlock(&peer->guests_lock);
        if (!admitted) {
            peer_count(peer, &peer->counters.over_limit, 1);
            refuse(request, E_BUSY, PEER_FRAME_UNSEEN);
        } else if (request->frame.type == PEER_MSG_GOSSIP) {
            gossip_request(request);
        } else if (request->frame.type == PEER_MSG_REVERSE) {
            on_reverse(request);
        } else {
            server_dispatch(request);
        }
    }
}

static void drop_message(struct peer_request *request)
{
    if (request->msg) {
        proto_free(request->msg);
        request->msg = NULL;
    }
}

/* Who sent it and what it is. E_AUTH: by nobody that we know. */
static enum err identify(struct peer_request *request, struct pipe_entry *ret_pipe)
{
    struct peer *peer = request->peer;
    struct span bytes = request->msg->bytes;
    int at = -1;
    request->link = PEER_MEMBERS_MAX; /* nobody yet */
    request->frame = (struct peer_frame_request){0};
    if (pipe_get(peer, sp_ctx_pipe(request->ctx), ret_pipe)) {
        at = peer_directory_find(peer->directory, ret_pipe->node);
    }
    enum err err = at < 0 ? E_AUTH : peer_frame_decode_request(bytes, &request->frame);
    if (!err) {
        request->link = (size_t)at;
        request->deadline_at_ms = peer_now_ms() + request->frame.deadline_ms;
        memcpy(request->from, ret_pipe->node, 16);
        memcpy(request->exporter, ret_pipe->exporter, 32);
    }
    return err;
}

static void count_in(struct peer_request *request)
{
    struct peer *peer = request->peer;
    pthread_mutex_lock(&peer->lock);
    peer->counters.requests_in++;
    peer->counters.bytes_in += request->msg->bytes.len;
    pthread_mutex_unlock(&peer->lock);
}

static bool hand_to_pool(struct peer_request *request)
{
    struct peer *peer = request->peer;
    struct pipe_entry pipe;
    bool taken = false;
    if (identify(request, &pipe) || !pipe.greeted) {
        return false;
    }
    const struct handler *handler = handler_of(request);
    if (!handler || handler->flags & PEER_ON_LOOP) {
        return false;
    }
    const struct guest *guest = &peer->guests[request->link];
    pthread_mutex_lock(&peer->guests_lock);
    if (guest->welcome && guest->banned_until_ms <= peer_now_ms() && admit(request)) {
        /* Under the lock: once closed_to_guests is set, nothing comes into the pool any more. */
        taken = true;
        count_in(request);
        server_dispatch(request);
    }
    pthread_mutex_unlock(&peer->guests_lock);
    return taken;
}

static void request_received(struct peer *peer, struct peer_event *event)
{
    struct peer_request *request = (struct peer_request *)event;
    struct pipe_entry pipe;
    if (request->rv) {
        return; /* the socket stops */
    }
    count_in(request);
    enum err err = identify(request, &pipe);
    if (err) {
        peer_count(peer, err == E_AUTH ? &peer->counters.unauthorised : &peer->counters.malformed,
                   1);
        refuse(request, err, 0);
        return;
    }
    request_route(request, &pipe);
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

static void local_replied(struct peer *peer, struct peer_event *event)
{
    struct peer_request *request = (struct peer_request *)event;
    struct call *call = request->local;
    pthread_mutex_lock(&peer->guests_lock);
    peer->open_requests--;
    pthread_mutex_unlock(&peer->guests_lock);
    if (call && !call->done) {
        call->done = true;
        struct peer_reply reply = {buf_span(&request->reply), request->reply.ptr};
        request->reply = (struct buf){0};
        call->finish(call, request->status, &reply);
        peer_reply_fini(&reply);
    }
    buf_fini(&request->reply);
    proto_free(request);
}

/* Keeps BODY and LENT in the request. */
static void keep_reply(struct peer_request *request, enum err status, struct span body,
                       struct span lent)
{
    request->status = status;
    request->reply.max = PEER_MESSAGE_MAX;
    request->reply.len = 0;
    if (buf_put(&request->reply, body) || buf_put(&request->reply, lent)) {
        request->status = E_NO_MEMORY;
    }
}

static void reply_with(struct peer_request *request, enum err status, unsigned flags,
                       struct span body, struct span lent)
{
    struct peer *peer = request->peer;
    if (lent.len > PEER_MESSAGE_MAX || body.len > PEER_MESSAGE_MAX - lent.len) {
        status = E_LIMIT;
        body = lent = SPAN_NONE;
    }
    if (!request->ctx) {
        keep_reply(request, status, body, lent);
        give_back(request);
        request->event.run = local_replied;
        peer_post(peer, &request->event);
        return;
    }
    uint8_t head[PEER_FRAME_REPLY_HEAD];
    struct peer_frame_reply reply = {.status = status, .flags = flags};
    struct span parts[] = {span_of(head, peer_frame_encode_reply(&reply, head)), body};
    struct sp_message *answered = request->msg; /* BODY may point into it */
    request->msg = NULL;
    size_t len = parts[0].len + parts[1].len + lent.len;
    peer_count(peer, &peer->counters.bytes_out, len);
    peer_egress(peer, request->link, request->frame.type, len);
    sp_ctx_reply(request->ctx, parts, 2, lent, replied, request); /* may be another's from here */
    if (answered) {
        proto_free(answered);
    }
}

static void refuse(struct peer_request *request, enum err status, unsigned flags)
{
    reply_with(request, status, flags, SPAN_NONE, SPAN_NONE);
}

void peer_reply(struct peer_request *request, enum err status, struct span body)
{
    reply_with(request, status, 0, body, SPAN_NONE);
}

void peer_reply_lent(struct peer_request *request, struct span head, struct span body,
                     void (*over)(void *owner), void *owner)
{
    request->over = over;
    request->owner = owner;
    reply_with(request, E_OK, 0, head, body);
}

/* --- replies that wait for their time: peer->later, on the loop, the next one first --------------------------------- */

static void later_put(struct peer *peer, struct peer_event *event)
{
    struct peer_request *request = (struct peer_request *)event;
    struct peer_request **at = &peer->later;
    if (peer->torn_down) { /* nobody looks at the time any more */
        reply_with(request, E_CANCELLED, 0, SPAN_NONE, SPAN_NONE);
        return;
    }
    while (*at && (*at)->reply_at_ms <= request->reply_at_ms) {
        at = &(*at)->next_later;
    }
    request->next_later = *at;
    *at = request;
    peer_tick_at(peer, request->reply_at_ms);
}

void server_tick(struct peer *peer, uint64_t now_ms, uint64_t *next_ms)
{
    while (peer->later && peer->later->reply_at_ms <= now_ms) {
        struct peer_request *request = peer->later;
        peer->later = request->next_later;
        struct buf reply = request->reply;
        request->reply = (struct buf){0};
        reply_with(request, request->status, 0, buf_span(&reply), SPAN_NONE);
        buf_fini(&reply);
    }
    if (peer->later && peer->later->reply_at_ms < *next_ms) {
        *next_ms = peer->later->reply_at_ms;
    }
}

void server_drop_later(struct peer *peer)
{
    while (peer->later) {
        struct peer_request *request = peer->later;
        peer->later = request->next_later;
        reply_with(request, E_CANCELLED, 0, SPAN_NONE, SPAN_NONE);
    }
}

void peer_reply_at(struct peer_request *request, uint64_t at_ms, enum err status, struct span body)
{
    if (at_ms <= peer_now_ms()) {
        peer_reply(request, status, body);
        return;
    }
    keep_reply(request, body.len > PEER_MESSAGE_MAX ? E_LIMIT : status,
               body.len > PEER_MESSAGE_MAX ? SPAN_NONE : body, SPAN_NONE);
    request->reply_at_ms = at_ms;
    request->event.run = later_put;
    peer_post(request->peer, &request->event);
}

const uint8_t *peer_request_from(const struct peer_request *request)
{
    return request->from;
}

struct span peer_request_body(const struct peer_request *request)
{
    return request->frame.body;
}

uint64_t peer_request_deadline_ms(const struct peer_request *request)
{
    uint64_t now = peer_now_ms();
    return request->deadline_at_ms > now ? request->deadline_at_ms - now : 0;
}

const uint8_t *peer_request_exporter(const struct peer_request *request)
{
    return request->exporter;
}

void peer_handle(struct peer *peer, uint32_t type, unsigned flags, peer_handler *handler,
                 void *user)
{
    if (type >= 32 && type < PEER_MSG_COUNT) {
        peer->table[type] = (struct handler){handler, flags, user};
    }
}

/* A call to ourselves takes the same handlers; its body is the caller's, who waits. */
enum err server_local(struct peer *peer, struct call *call)
{
    struct peer_request *request = proto_alloc(1, sizeof *request);
    if (!request) {
        return E_NO_MEMORY;
    }
    request->peer = peer;
    request->local = call;
    memcpy(request->from, peer->node_id, 16);
    request->deadline_at_ms = call->deadline_ms;
    request->frame = (struct peer_frame_request){.type = call->type, .body = call->body};
    pthread_mutex_lock(&peer->guests_lock);
    peer->open_requests++;
    pthread_mutex_unlock(&peer->guests_lock);
    server_dispatch(request);
    return E_OK;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static enum err server_listen(struct peer *peer, struct err_info *reterr)
{
    int rv =
        sp_listen(peer->rep, peer->listen, peer_profile(peer), NULL, &peer->listener, &peer->port);
    return rv ? proto_err_set(reterr, rv == NNG_EADDRINVAL ? E_INVALID : E_IO,
                              "cannot listen on %s: %s", peer->listen, nng_strerror(rv))
              : E_OK;
}

enum err server_start(struct peer *peer, struct err_info *reterr)
{
    enum err err = sp_open(SP_REP, PEER_FRAME_MAX, on_pipe, peer, &peer->rep);
    for (size_t i = 0; !err && i < PEER_CONTEXTS; i++) {
        struct peer_request *request = &peer->requests[i];
        request->peer = peer;
        err = sp_ctx_open(peer->rep, &request->ctx);
    }
    if (err) {
        return proto_err_set(reterr, err, "no request contexts");
    }
    err = peer->dials_only ? E_OK : server_listen(peer, reterr);
    for (size_t i = 0; !err && i < PEER_CONTEXTS; i++) {
        request_wait(&peer->requests[i]);
    }
    return err;
}

void server_stop(struct peer *peer)
{
    if (!peer->rep) {
        return;
    }
    sp_stop(peer->rep);
    sp_wait(peer->rep);
}

void server_free(struct peer *peer)
{
    for (size_t i = 0; i < PEER_CONTEXTS; i++) {
        drop_message(&peer->requests[i]);
        buf_fini(&peer->requests[i].reply);
    }
    sp_close(peer->rep);
}
