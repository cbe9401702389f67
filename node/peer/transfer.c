#include "config.h"
#include "node/peer/transfer.h"

#include "node/peer/internal.h"
#include "proto/codec.h"

#include <time.h>

#define PAUSE_MS 100
#define LOOK_MS  250 /* how often the state of the link is looked at */

static size_t chunk_len(uint64_t size, uint64_t index)
{
    uint64_t at = index * STORE_BLOB_CHUNK;
    uint64_t left = at < size ? size - at : 0;
    return left < STORE_BLOB_CHUNK ? (size_t)left : STORE_BLOB_CHUNK;
}

enum err peer_blob_describe(struct store *store, const uint8_t hash[32], struct peer_blob *ret,
                            struct err_info *reterr)
{
    memcpy(ret->hash, hash, 32);
    return store_blob_size(store, hash, &ret->size, reterr);
}

/* --- fetching ---------------------------------------------------------------------------------------------------------- */

struct fetch {
    struct peer *peer;
    const struct peer_blob *blob;
    const struct peer_fetch *how;
    struct store_blob_writer *writer;
    uint64_t done;    /* bytes */
    uint64_t last_ms; /* when the last chunk came */
    uint64_t looked_ms;
    bool gone, returned; /* the link went, and came back: what was under way is lost */
};

static void pause_ms(uint64_t ms)
{
    struct timespec pause = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0) {
    }
}

static bool give_up(const struct fetch *fetch)
{
    return fetch->how->cancelled && fetch->how->cancelled(fetch->how->user);
}

static bool fetch_cancelled(void *user)
{
    struct fetch *fetch = user;
    struct peer_member member;
    uint64_t now = peer_now_ms();
    if (give_up(fetch)) {
        return true;
    }
    if (now - fetch->looked_ms >= LOOK_MS) {
        fetch->looked_ms = now;
        bool up = peer_member_by_id(fetch->peer, fetch->how->from, &member) &&
                  (member.state == PEER_UP || member.state == PEER_SELF);
        fetch->returned = fetch->returned || (fetch->gone && up);
        fetch->gone = !up;
    }
    return fetch->returned;
}

static enum err take_chunk(struct fetch *fetch, const struct peer_call *call, uint64_t index,
                           struct err_info *reterr)
{
    struct arena arena = {0};
    struct peer_chunk_reply reply;
    enum err err =
        proto_codec_decode(&peer_chunk_reply_message, call->reply.bytes, &arena, &reply, reterr);
    if (!err && (reply.size != fetch->blob->size ||
                 reply.bytes.len != chunk_len(fetch->blob->size, index))) {
        err = proto_err_set(reterr, E_AUTH, "a chunk of another length than was named");
    }
    if (!err) {
        err = store_blob_append(fetch->writer, reply.bytes, reterr);
    }
    if (!err) {
        fetch->done += reply.bytes.len;
        fetch->last_ms = peer_now_ms();
        if (fetch->how->progress) {
            fetch->how->progress(fetch->how->user, reply.bytes.len);
        }
    }
    arena_fini(&arena);
    return err;
}

/* What another try may mend. */
static bool passes(enum err err)
{
    return err == E_BUSY || err == E_TIMEOUT || err == E_UNREACHABLE || err == E_CANCELLED;
}

/* One window. E_OK: some came, or it is worth another try. */
static enum err fetch_window(struct fetch *fetch, struct err_info *reterr)
{
    struct peer_call calls[PEER_FETCH_WINDOW];
    struct buf bodies[PEER_FETCH_WINDOW];
    uint64_t first = fetch->done / STORE_BLOB_CHUNK;
    uint64_t left = store_blob_chunks(fetch->blob->size) - first;
    size_t count = left < PEER_FETCH_WINDOW ? (size_t)left : PEER_FETCH_WINDOW;
    enum err err = E_OK;
    memset(bodies, 0, sizeof bodies);
    memset(calls, 0, sizeof calls);
    for (size_t i = 0; !err && i < count; i++) {
        struct peer_chunk_request wish = {PEER_TRANSFER_VERSION, span_of(fetch->blob->hash, 32),
                                          first + i};
        bodies[i].max = 256;
        err = proto_codec_encode(&peer_chunk_request_message, &wish, &bodies[i], reterr);
        calls[i].type = PEER_MSG_BLOB_GET;
        calls[i].body = buf_span(&bodies[i]);
        memcpy(calls[i].to, fetch->how->from, 16);
    }
    uint64_t waited = peer_now_ms() - fetch->last_ms;
    fetch->gone = fetch->returned = false;
    if (!err) {
        err = peer_call_many(fetch->peer, calls, count,
                             waited < fetch->how->stall_ms ? fetch->how->stall_ms - waited : 1,
                             fetch_cancelled, fetch);
    }
    bool more = true;
    for (size_t i = 0; !err && more && i < count; i++) {
        more = calls[i].status == E_OK;
        if (more) {
            err = take_chunk(fetch, &calls[i], first + i, reterr);
        } else if (!passes(calls[i].status)) {
            err = proto_err_set(reterr, calls[i].status, "the other side has none for us");
        } else {
            pause_ms(fetch->returned ? 0 : PAUSE_MS);
        }
    }
    for (size_t i = 0; i < count; i++) {
        peer_reply_fini(&calls[i].reply);
        buf_fini(&bodies[i]);
    }
    return err;
}

static enum err fetch_all(struct fetch *fetch, struct err_info *reterr)
{
    enum err err = E_OK;
    while (!err && fetch->done < fetch->blob->size) {
        if (give_up(fetch)) {
            err = E_CANCELLED;
        } else if (peer_now_ms() - fetch->last_ms >= fetch->how->stall_ms) {
            err = proto_err_set(reterr, E_TIMEOUT, "no progress after %llu of %llu bytes",
                                (unsigned long long)fetch->done,
                                (unsigned long long)fetch->blob->size);
        } else {
            err = fetch_window(fetch, reterr);
        }
    }
    return err;
}

/* E_EXISTS: somebody else has completed it meanwhile. */
static enum err begin(struct fetch *fetch, struct store *store, struct err_info *reterr)
{
    for (;;) {
        enum err err = store_blob_begin(store, fetch->blob->hash, fetch->blob->size,
                                        fetch->how->keep, &fetch->writer, &fetch->done, reterr);
        if (err != E_BUSY) {
            return err;
        }
        if (give_up(fetch) || peer_now_ms() - fetch->last_ms >= fetch->how->stall_ms) {
            return give_up(fetch) ? E_CANCELLED : E_BUSY;
        }
        pause_ms(PAUSE_MS);
    }
}

enum err peer_blob_fetch(struct peer *peer, struct store *store, const struct peer_blob *blob,
                         const struct peer_fetch *how, struct err_info *reterr)
{
    struct fetch fetch = {.peer = peer, .blob = blob, .how = how, .last_ms = peer_now_ms()};
    enum err err = begin(&fetch, store, reterr);
    if (how->was_here) {
        *how->was_here = err == E_EXISTS;
    }
    if (err) {
        return err == E_EXISTS ? E_OK : err;
    }
    err = fetch_all(&fetch, reterr);
    if (!err) {
        return store_blob_commit(fetch.writer, NULL, reterr);
    }
    store_blob_leave(fetch.writer);
    if (err == E_AUTH) {
        store_blob_forget(store, blob->hash);
    }
    return err;
}

/* --- serving ----------------------------------------------------------------------------------------------------------- */

/* BODY stands in READER until that is closed. */
static enum err serve(struct peer *peer, struct store *store, struct peer_request *request,
                      peer_blob_may *may, void *user, struct buf *head, struct span *body,
                      struct store_blob_reader **reader)
{
    struct arena arena = {0};
    struct peer_chunk_request wish;
    struct peer_member member;
    struct peer_chunk_reply reply = {0};
    enum err err = proto_codec_decode(&peer_chunk_request_message, peer_request_body(request),
                                      &arena, &wish, NULL);
    if (!err && (!peer_member_by_id(peer, peer_request_from(request), &member) ||
                 member.state == PEER_REVOKED)) {
        err = E_REFUSED;
    }
    if (!err) {
        err = store_blob_open(store, wish.hash.ptr, reader, &reply.size, NULL);
    }
    size_t len = err ? 0 : chunk_len(reply.size, wish.index);
    if (!err && len == 0 && wish.index > 0) {
        err = E_INVALID;
    }
    if (!err) {
        err = may(user, &member, wish.hash.ptr, wish.index * STORE_BLOB_CHUNK, len);
    }
    if (!err && len) {
        err = store_blob_view(*reader, wish.index, &reply.bytes, NULL);
    }
    if (!err) {
        err = proto_codec_encode_head(&peer_chunk_reply_message, &reply, head, NULL);
        *body = reply.bytes;
    }
    arena_fini(&arena);
    return err;
}

static void served(void *owner)
{
    store_blob_close(owner);
}

void peer_transfer_serve(struct peer *peer, struct store *store, struct peer_request *request,
                         peer_blob_may *may, void *user)
{
    struct buf head = {.max = 64};
    struct span body = SPAN_NONE;
    struct store_blob_reader *reader = NULL;
    enum err err = serve(peer, store, request, may, user, &head, &body, &reader);
    if (err) {
        store_blob_close(reader);
        peer_reply(request, err, SPAN_NONE);
    } else {
        peer_reply_lent(request, buf_span(&head), body, served, reader);
    }
    buf_fini(&head);
}
