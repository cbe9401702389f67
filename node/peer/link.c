/* Links: our REQ socket to one member, how it gets connected, and the calls on it.
 *
 *   DOWN --retry_ms--> DIALLING --pipe--> GREETING --HELLO answered--> UP --pipe gone--> DOWN (and a retry is planned)
 *
 * sp_dial blocks in a pool thread and tells how it went; when to try again is decided here. The pause between tries is
 * random below a limit that doubles, from 100 ms over redial_min to redial_max. */
#include "config.h"
#include "node/peer/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HELLO_SLOT LINK_SLOTS

static void slot_run(struct peer *peer, struct peer_event *event);
static void link_pump(struct link *link);

static uint64_t retry_pause(struct peer *peer, unsigned failures)
{
    uint64_t most = failures > 16 ? UINT64_MAX : (uint64_t)100 << failures;
    if (failures > 3 && most < peer->limits.redial_min_ms) {
        most = peer->limits.redial_min_ms;
    }
    if (most > peer->limits.redial_max_ms) {
        most = peer->limits.redial_max_ms;
    }
    return 20 + peer_random_below(most);
}

static void plan_retry(struct link *link, uint64_t now_ms)
{
    link->retry_ms = now_ms + retry_pause(link->peer, link->failures);
    if (link->retry_ms < link->banned_until_ms) {
        link->retry_ms = link->banned_until_ms;
    }
    peer_tick_at(link->peer, link->retry_ms);
}

static void show(struct link *link, enum peer_state state, int64_t certificate_until)
{
    peer_directory_seen(link->peer->directory, link->index, state,
                        state == PEER_UP ? (int64_t)time(NULL) : 0, certificate_until);
}

/* --- pipes ------------------------------------------------------------------------------------------------------ */

struct pipe_event {
    struct peer_event event;
    struct link *link;
    struct pipe_entry entry;
    bool up;
};

static void greeted(struct call *call, enum err status, struct peer_reply *reply)
{
    struct link *link = call->user;
    struct peer *peer = link->peer;
    if (link->state != LINK_GREETING || link->pipe != link->hello_pipe) {
        return; /* that connection is gone already */
    }
    if (!status) {
        status = hello_check(peer, link->id, link->exporter, true, reply->bytes);
    }
    if (status) {
        peer_say(peer, PEER_LOG_WARN, "%s did not greet as it must: %s", link->hex,
                 proto_err_text(status));
        peer_count(peer, &peer->counters.hello_failed, 1);
        sp_pipe_close(link->pipe);
        return;
    }
    pipe_greeted(peer, link->pipe);
    link->state = LINK_UP;
    link->failures = 0;
    show(link, PEER_UP, 0);
    gossip_link(link, true);
    if (peer->dials_only) {
        link_reverse_wanted(link);
    }
    link_pump(link);
}

static void slot_send(struct slot *slot, struct call *call);

/* When the slot is busy, the HELLO of an older connection ends first, and slot_run comes here again. */
static void greet(struct link *link)
{
    struct peer *peer = link->peer;
    uint64_t now = peer_now_ms();
    if (link->state != LINK_GREETING || link->hello_pipe == link->pipe ||
        link->slots[HELLO_SLOT].busy || peer->stopping) {
        return;
    }
    link->hello_pipe = link->pipe;
    hello_make(peer, link->id, link->exporter, false, link->hello_body);
    link->hello = (struct call){.peer = peer,
                                .type = PEER_MSG_HELLO,
                                .body = span_of(link->hello_body, HELLO_SIZE),
                                .deadline_ms = now + HELLO_LIMIT_MS,
                                .started_ms = now,
                                .slot = -1,
                                .link = link,
                                .finish = greeted,
                                .user = link};
    peer_tick_at(peer, link->hello.deadline_ms);
    slot_send(&link->slots[HELLO_SLOT], &link->hello);
}

static void pipe_up(struct link *link, const struct pipe_entry *entry)
{
    if (link->state == LINK_UP) {
        gossip_link(link,
                    false); /* a second connection took over before the first was seen to end */
    }
    link->pipe = entry->id;
    link->state = LINK_GREETING;
    memcpy(link->exporter, entry->exporter, 32);
    show(link, PEER_CONNECTING, entry->certificate_until);
    greet(link);
}

static void pipe_down(struct link *link, uint32_t id)
{
    if (link->pipe != id) {
        return;
    }
    bool was_up = link->state == LINK_UP;
    link->pipe = 0;
    link->state = LINK_DOWN;
    show(link, PEER_DOWN, 0);
    if (was_up) {
        gossip_link(link, false);
    } else {
        link->failures++;
    }
    if (!link->revoked && !link->peer->stopping) {
        plan_retry(link, peer_now_ms());
    }
}

static void pipe_run(struct peer *peer, struct peer_event *event)
{
    struct pipe_event *e = (struct pipe_event *)event;
    (void)peer;
    if (e->up) {
        pipe_up(e->link, &e->entry);
    } else {
        pipe_down(e->link, e->entry.id);
        sp_sweep(e->link->socket);
    }
    proto_free(e);
}

/* NNG's threads. */
static bool on_pipe(void *user, const struct sp_identity *who, enum sp_event event)
{
    struct link *link = user;
    struct peer *peer = link->peer;
    struct pipe_entry entry;
    if (event == SP_ASKED) {
        bool ok = !who->enrolling && memcmp(who->certificate.node_id, link->id, 16) == 0 &&
                  peer_directory_admits(peer->directory, &who->certificate, (int64_t)time(NULL)) &&
                  pipe_add(peer, who, false);
        peer_count(peer, &peer->counters.unauthorised, ok ? 0 : 1);
        return ok;
    }
    bool up = event == SP_UP;
    struct pipe_event *e = NULL;
    if (up ? pipe_get(peer, who->pipe, &entry) : pipe_remove(peer, who->pipe, &entry)) {
        e = proto_alloc(1, sizeof *e);
    }
    if (e) {
        *e = (struct pipe_event){.event.run = pipe_run, .link = link, .entry = entry, .up = up};
        peer_post(peer, &e->event);
    }
    return true;
}

/* --- the link itself --------------------------------------------------------------------------------------------- */

static bool link_open(struct link *link)
{
    return link->socket || !sp_open(SP_REQ, PEER_FRAME_MAX, on_pipe, link, &link->socket);
}

/* What requests are measured by, off the loop. */
static void tell_guest(const struct link *link)
{
    struct peer *peer = link->peer;
    pthread_mutex_lock(&peer->guests_lock);
    peer->guests[link->index].welcome = !link->revoked;
    peer->guests[link->index].banned_until_ms = link->banned_until_ms;
    pthread_mutex_unlock(&peer->guests_lock);
}

struct link *link_get(struct peer *peer, size_t index)
{
    struct peer_member member;
    if (index >= PEER_MEMBERS_MAX || !peer_directory_get(peer->directory, index, &member) ||
        memcmp(member.id, peer->node_id, 16) == 0) {
        return NULL;
    }
    if (peer->links[index]) {
        return peer->links[index];
    }
    struct link *link = proto_alloc(1, sizeof *link);
    if (!link) {
        return NULL;
    }
    link->peer = peer;
    link->index = index;
    link->revoked = member.state == PEER_REVOKED;
    memcpy(link->id, member.id, 16);
    span_to_hex(span_of(member.id, 16), link->hex);
    link->queue_tail = &link->queue;
    for (size_t i = 0; i <= LINK_SLOTS; i++) {
        link->slots[i].link = link;
        link->slots[i].event.run = slot_run;
    }
    for (int i = 0; i < 2; i++) {
        link->dials[i].link = link;
        link->dials[i].reverse = i == 1;
    }
    link->outbox.max = OUTBOX_MAX;
    link->sending.max = OUTBOX_MAX;
    peer->links[index] = link;
    tell_guest(link);
    return link;
}

/* One without an address may be at one of the seeds. */
static bool can_dial(const struct peer *peer, const struct peer_member *member)
{
    return member->address[0] ? strcmp(member->address, "none") != 0 : peer->seed_count > 0;
}

void link_member_changed(struct peer *peer, const struct peer_directory_change *change)
{
    if (change->member < 0 || !peer->started || peer->stopping) {
        return;
    }
    struct peer_member member;
    struct link *link = link_get(peer, (size_t)change->member);
    if (!link || !peer_directory_get(peer->directory, link->index, &member)) {
        return;
    }
    if (change->revoked || change->tls_key) {
        link->revoked = member.state == PEER_REVOKED;
        tell_guest(link);
        pipe_close_all(peer, link->id, 0);
        if (link->revoked) {
            peer_say(peer, PEER_LOG_WARN, "%s (%s) was expelled", member.name, link->hex);
            link_fail_calls(link, E_REFUSED);
            link->retry_ms = 0;
            return;
        }
    }
    if (link->revoked || !can_dial(peer, &member)) {
        return;
    }
    if (change->address) {
        link->failures = 0;
    }
    if (link->state == LINK_DOWN && (change->added || change->address || !link->retry_ms)) {
        plan_retry(link, peer_now_ms());
    }
}

void link_ban(struct link *link, uint64_t ms)
{
    link->banned_until_ms = peer_now_ms() + ms;
    tell_guest(link);
    pipe_close_all(link->peer, link->id, 0);
}

/* --- dialling --------------------------------------------------------------------------------------------------- */

static void dial_done(struct peer *peer, struct peer_event *event)
{
    struct dial *dial = (struct dial *)event;
    struct link *link = dial->link;
    uint64_t now = peer_now_ms();
    dial->running = false;
    if (peer->stopping) {
        return;
    }
    if (dial->result == 0) {
        if (dial->reverse) {
            link->reverse_failures = 0;
        }
        return; /* the pipe's own event moves the state on */
    }
    if (dial->reverse) {
        link->reverse_failures++;
        link->reverse_retry_ms = now + retry_pause(peer, link->reverse_failures);
        peer_tick_at(peer, link->reverse_retry_ms);
        return;
    }
    if (link->failures < 4 || link->failures % 16 == 0) {
        peer_say(peer, PEER_LOG_DEBUG, "dialling %s: %s", dial->url, nng_strerror(dial->result));
    }
    if (link->state == LINK_DIALLING) {
        link->state = LINK_DOWN;
        link->failures++;
        show(link, PEER_DOWN, 0);
        plan_retry(link, now);
    }
}

static void dial_run(struct pool_job *job)
{
    struct dial *dial = (struct dial *)((char *)job - offsetof(struct dial, job));
    struct link *link = dial->link;
    struct peer *peer = link->peer;
    struct sp_socket *socket = dial->reverse ? peer->rep : link->socket;
    dial->result = dial->url[0]
                       ? sp_dial(socket, dial->url, peer_profile(peer), link->hex, DIAL_LIMIT_MS)
                       : NNG_EADDRINVAL;
    /* It may have moved while we could not hear of it. Whoever else is there fails the handshake. */
    bool elsewhere = !dial->reverse && (link->failures < 3 || link->failures % 4 == 0);
    for (size_t i = 0; elsewhere && i < peer->seed_count; i++) {
        if (dial->result == 0 || dial->result == NNG_ECLOSED) {
            break;
        }
        if (strcmp(peer->seeds[i], dial->url) != 0) {
            dial->result =
                sp_dial(socket, peer->seeds[i], peer_profile(peer), link->hex, DIAL_LIMIT_MS);
        }
    }
    peer_post(peer, &dial->event);
}

static void dial_start(struct dial *dial, const char *url)
{
    if (dial->running) {
        return;
    }
    dial->running = true;
    snprintf(dial->url, sizeof dial->url, "%s", url);
    dial->event.run = dial_done;
    dial->job.run = dial_run;
    pool_put(&dial->link->peer->dialers, &dial->job);
}

/* --- reverse links: we only dial out, so our REP socket dials the member's REQ listener ----------------------------- */

static void reverse_answered(struct call *call, enum err status, struct peer_reply *reply)
{
    struct link *link = call->user;
    struct peer_member member;
    char host[128], url[192];
    uint16_t port;
    link->reverse_asking = false;
    if (link->peer->stopping || link->reverse_pipe) {
        return;
    }
    if (status || reply->bytes.len != 2 || get_be16(reply->bytes.ptr) == 0 ||
        !peer_directory_get(link->peer->directory, link->index, &member) ||
        !peer_url_split(member.address, host, &port)) {
        link->reverse_failures++;
        link->reverse_retry_ms = peer_now_ms() + retry_pause(link->peer, link->reverse_failures);
        peer_tick_at(link->peer, link->reverse_retry_ms);
        return;
    }
    snprintf(url, sizeof url, "tls+tcp://%s:%u", host, (unsigned)get_be16(reply->bytes.ptr));
    dial_start(&link->dials[1], url);
}

void link_reverse_wanted(struct link *link)
{
    uint64_t now = peer_now_ms();
    link->reverse_retry_ms = 0;
    if (link->state != LINK_UP || link->reverse_pipe || link->reverse_asking ||
        link->dials[1].running || link->revoked) {
        return;
    }
    link->reverse_asking = true;
    link->reverse_call = (struct call){.peer = link->peer,
                                       .type = PEER_MSG_REVERSE,
                                       .deadline_ms = now + HELLO_LIMIT_MS,
                                       .started_ms = now,
                                       .slot = -1,
                                       .finish = reverse_answered,
                                       .user = link};
    link_call(link, &link->reverse_call);
}

void link_reverse_down(struct link *link, uint32_t pipe)
{
    if (link->reverse_pipe == pipe) {
        link->reverse_pipe = 0;
        link->reverse_retry_ms = peer_now_ms() + retry_pause(link->peer, link->reverse_failures);
        peer_tick_at(link->peer, link->reverse_retry_ms);
    }
}

/* Ports are tried from reverse_from on; 0 lets the system choose. */
uint16_t link_listen(struct link *link)
{
    struct peer *peer = link->peer;
    char host[128], url[192];
    uint16_t own_port;
    if (link->has_listener) {
        return link->listener_port;
    }
    if (!peer_url_split(peer->listen, host, &own_port) || !link_open(link)) {
        return 0;
    }
    for (unsigned port = peer->reverse_from; port <= peer->reverse_to; port++) {
        struct sp_listener *listener;
        uint16_t bound;
        snprintf(url, sizeof url, "tls+tcp://%s:%u", host, port);
        if (!sp_listen(link->socket, url, peer_profile(peer), link->hex, &listener, &bound)) {
            link->has_listener = true;
            link->listener_port = bound;
            return bound;
        }
    }
    return 0;
}

/* --- calls ------------------------------------------------------------------------------------------------------ */

static void call_done(struct call *call, enum err status, struct peer_reply *reply)
{
    if (!call->done) {
        call->done = true;
        call->finish(call, status, reply);
    }
}

static void call_failed(struct call *call, enum err status)
{
    struct peer_reply none = {.bytes = SPAN_NONE};
    call_done(call, status, &none);
}

static void queue_put(struct link *link, struct call *call)
{
    call->next = NULL;
    call->slot = -1;
    *link->queue_tail = call;
    link->queue_tail = &call->next;
    link->queued++;
}

static void queue_remove(struct link *link, struct call *call)
{
    for (struct call **at = &link->queue; *at; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            if (!*at) {
                link->queue_tail = at;
            }
            link->queued--;
            return;
        }
    }
}

void link_call(struct link *link, struct call *call)
{
    call->link = link;
    call->slot = -1;
    if (link->revoked) {
        call_failed(call, E_REFUSED);
    } else if (link->queued >= LINK_QUEUE_MAX) {
        call_failed(call, E_LIMIT);
    } else {
        queue_put(link, call);
        peer_tick_at(link->peer, call->deadline_ms);
        link_pump(link);
    }
}

/* The slot goes on until its exchange ends, which the call's own deadline bounds; nobody waits for it any more. */
void link_give_up(struct call *call, enum err status)
{
    if (call->done) {
        return;
    }
    if (call->slot >= 0) {
        call->link->slots[call->slot].call = NULL;
    } else {
        queue_remove(call->link, call);
    }
    call_failed(call, status);
}

void link_fail_calls(struct link *link, enum err status)
{
    while (link->queue) {
        link_give_up(link->queue, status);
    }
    for (size_t i = 0; i <= LINK_SLOTS; i++) {
        struct call *call = link->slots[i].call;
        if (call) {
            link->slots[i].call = NULL;
            call_failed(call, status);
        }
    }
}

static enum err status_of(int rv)
{
    switch (rv) {
    case NNG_ETIMEDOUT:
        return E_TIMEOUT;
    case NNG_ECANCELED:
        return E_CANCELLED;
    case NNG_ENOMEM:
        return E_NO_MEMORY;
    default:
        return E_UNREACHABLE;
    }
}

/* NNG's threads, or inside sp_ctx_request. */
static void slot_done(void *user, int rv, struct sp_message *msg)
{
    struct slot *slot = user;
    slot->rv = rv;
    slot->msg = msg;
    peer_post(slot->link->peer, &slot->event);
}

static void slot_send(struct slot *slot, struct call *call)
{
    struct peer *peer = slot->link->peer;
    uint64_t now = peer_now_ms();
    if (call->deadline_ms <= now) {
        call_failed(call, E_TIMEOUT);
        return;
    }
    if (!slot->ctx && sp_ctx_open(slot->link->socket, &slot->ctx)) {
        call_failed(call, E_NO_MEMORY);
        return;
    }
    uint64_t left = call->deadline_ms - now;
    struct peer_frame_request frame = {
        .type = call->type, .deadline_ms = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left};
    uint8_t head[PEER_FRAME_REQUEST_HEAD];
    struct span parts[] = {span_of(head, peer_frame_encode_request(&frame, head)), call->body};
    slot->call = call;
    slot->busy = true;
    slot->until_ms = call->deadline_ms;
    call->slot = (int)(slot - slot->link->slots);
    peer_count(peer, &peer->counters.requests_out, 1);
    peer_count(peer, &peer->counters.bytes_out, parts[0].len + parts[1].len);
    peer_egress(peer, slot->link->index, call->type, parts[0].len + parts[1].len);
    sp_ctx_request(slot->ctx, parts, 2, slot_done, slot);
}

/* The other side's limits stood in the way and no handler has seen the call: it may go out again, a little later. */
static bool call_again(struct link *link, struct call *call, uint64_t now_ms)
{
    uint64_t pause = 20 + peer_random_below((uint64_t)20 << (call->busy < 6 ? call->busy : 6));
    if (now_ms + pause >= call->deadline_ms || link->peer->stopping) {
        return false;
    }
    call->busy++;
    call->again_ms = now_ms + pause;
    queue_put(link, call);
    peer_tick_at(link->peer, call->again_ms);
    return true;
}

/* MSG, or NULL when it was taken. */
static struct sp_message *slot_answered(struct slot *slot, struct sp_message *msg)
{
    struct link *link = slot->link;
    struct call *call = slot->call;
    struct peer_frame_reply reply;
    slot->call = NULL;
    struct span bytes = msg->bytes;
    peer_count(link->peer, &link->peer->counters.bytes_in, bytes.len);
    enum err err = peer_frame_decode_reply(bytes, &reply);
    if (err) {
        peer_count(link->peer, &link->peer->counters.malformed, 1);
    }
    if (!call) {
        return msg;
    }
    if (err) {
        call_failed(call, E_INVALID);
    } else if (!(reply.flags & PEER_FRAME_UNSEEN) || reply.status != E_BUSY ||
               !call_again(link, call, peer_now_ms())) {
        struct peer_reply whole = {reply.body, msg};
        call_done(call, reply.status, &whole);
        return whole.memory;
    }
    return msg;
}

static void slot_failed(struct slot *slot)
{
    struct call *call = slot->call;
    slot->call = NULL;
    if (call) {
        call_failed(call, status_of(slot->rv));
    }
}

static void slot_run(struct peer *peer, struct peer_event *event)
{
    struct slot *slot = (struct slot *)event;
    struct link *link = slot->link;
    struct sp_message *msg = slot->msg;
    (void)peer;
    slot->msg = NULL;
    if (msg) {
        proto_free(slot_answered(slot, msg));
    } else {
        slot_failed(slot);
    }
    slot->busy = false;
    if (slot == &link->slots[HELLO_SLOT]) {
        greet(link);
        return;
    }
    link_pump(link);
}

static void link_pump(struct link *link)
{
    uint64_t now = peer_now_ms();
    if (link->state != LINK_UP || link->peer->stopping) {
        return;
    }
    for (size_t i = 0; i < LINK_SLOTS; i++) {
        struct call *call = link->queue;
        while (call && call->again_ms > now) {
            call = call->next;
        }
        if (!call) {
            return;
        }
        if (!link->slots[i].busy) {
            queue_remove(link, call);
            slot_send(&link->slots[i], call);
        }
    }
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static void sweep_queue(struct link *link, uint64_t now_ms, uint64_t *next_ms)
{
    struct call *call = link->queue;
    while (call) {
        struct call *next = call->next;
        if (call->deadline_ms <= now_ms) {
            link_give_up(call, link->state == LINK_UP ? E_TIMEOUT : E_UNREACHABLE);
        } else {
            uint64_t at = call->again_ms > now_ms ? call->again_ms : call->deadline_ms;
            *next_ms = at < *next_ms ? at : *next_ms;
        }
        call = next;
    }
}

/* What was sent and not answered in time. */
static void sweep_slots(struct link *link, uint64_t now_ms, uint64_t *next_ms)
{
    for (size_t i = 0; i <= LINK_SLOTS; i++) {
        struct slot *slot = &link->slots[i];
        if (!slot->busy || slot->until_ms == 0) {
            continue;
        }
        if (slot->until_ms <= now_ms) {
            slot->until_ms = 0;
            sp_ctx_cancel(slot->ctx, NNG_ETIMEDOUT);
        } else if (slot->until_ms < *next_ms) {
            *next_ms = slot->until_ms;
        }
    }
}

void link_awake(struct link *link)
{
    uint64_t soon = peer_now_ms() + 50;
    if (link && link->state == LINK_DOWN && !link->revoked && soon >= link->banned_until_ms &&
        (link->retry_ms == 0 || link->retry_ms > soon)) {
        link->failures = 0;
        link->retry_ms = soon;
        peer_tick_at(link->peer, soon);
    }
}

static void link_redial(struct link *link, uint64_t now_ms)
{
    struct peer_member member;
    if (link->retry_ms == 0 || link->retry_ms > now_ms || link->state != LINK_DOWN ||
        link->revoked || link->dials[0].running) {
        return;
    }
    link->retry_ms = 0;
    if (peer_directory_get(link->peer->directory, link->index, &member) &&
        can_dial(link->peer, &member) && link_open(link)) {
        link->state = LINK_DIALLING;
        show(link, PEER_CONNECTING, 0);
        dial_start(&link->dials[0], member.address);
    }
}

void link_tick(struct peer *peer, uint64_t now_ms, uint64_t *next_ms)
{
    for (size_t i = 0; i < PEER_MEMBERS_MAX; i++) {
        struct link *link = peer->links[i];
        if (!link) {
            continue;
        }
        sweep_queue(link, now_ms, next_ms);
        sweep_slots(link, now_ms, next_ms);
        link_redial(link, now_ms);
        if (link->retry_ms && link->state == LINK_DOWN && !link->revoked &&
            !link->dials[0].running && link->retry_ms < *next_ms) {
            *next_ms = link->retry_ms;
        }
        if (link->reverse_retry_ms && link->reverse_retry_ms <= now_ms) {
            link_reverse_wanted(link);
        } else if (link->reverse_retry_ms && link->reverse_retry_ms < *next_ms) {
            *next_ms = link->reverse_retry_ms;
        }
        link_pump(link);
    }
}

/* --- the end ---------------------------------------------------------------------------------------------------- */

void link_stop(struct link *link)
{
    if (!link->socket) {
        return;
    }
    sp_stop(link->socket);
    sp_wait(link->socket);
}

void link_free(struct link *link)
{
    if (!link) {
        return;
    }
    for (size_t i = 0; i <= LINK_SLOTS; i++) {
        if (link->slots[i].msg) {
            proto_free(link->slots[i].msg);
        }
    }
    sp_close(link->socket);
    buf_fini(&link->outbox);
    buf_fini(&link->sending);
    proto_free(link);
}
