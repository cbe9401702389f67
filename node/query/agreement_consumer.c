/* The consumer's side: what this node's people ask of others. */
#include "config.h"
#include "node/query/agreement_internal.h"

#include "crypto/provider.h"
#include "crypto/random.h"
#include "node/query/site.h"
#include "store/egress.h"

#define CALL_TIMEOUT_MS 10000

struct consume {
    struct query_context *context;
    struct peer_member provider;
    struct arena arena;
    struct store_agreement row;
    struct agreement_message in;
};

static enum err exchange(struct consume *c, const struct agreement_message *out,
                         struct err_info *reterr)
{
    struct buf body = {.max = PEER_MESSAGE_MAX};
    struct peer_call call = {.type = PEER_MSG_AGREEMENT};
    struct span reply;
    char id[33];
    memcpy(call.to, c->provider.id, 16);
    span_to_hex(out->id, id);
    enum err err = proto_codec_encode(&agreement_message_table, out, &body, reterr);
    if (!err && memcmp(call.to, c->context->node_id, 16) != 0) {
        err = store_egress_add(c->context->store, c->provider.name, "agreement", id, body.len,
                               query_now(), reterr);
    }
    if (!err) {
        call.body = buf_span(&body);
        err = peer_call_many(c->context->peer, &call, 1, CALL_TIMEOUT_MS, NULL, NULL);
        err = err ? err : call.status;
        if (err) {
            err = proto_err_set(reterr, err, "%s: %s", c->provider.name, proto_err_text(err));
        }
    }
    err = err ? err : agreement_copy(&c->arena, call.reply.bytes, &reply);
    err =
        err ? err : proto_codec_decode(&agreement_message_table, reply, &c->arena, &c->in, reterr);
    if (!err && !span_equal(c->in.id, out->id)) {
        err =
            proto_err_set(reterr, E_AUTH, "%s answered about another agreement", c->provider.name);
    }
    peer_reply_fini(&call.reply);
    buf_fini(&body);
    return err;
}

static enum err take_offer(struct consume *c, struct err_info *reterr)
{
    uint8_t digest[32];
    struct proto_agreement_offer offer;
    enum err err = agreement_verify(c->context, &c->provider, PROTO_AGREEMENT_OFFER_DOMAIN,
                                    c->in.body, c->in.signature, reterr);
    err = err ? err : proto_agreement_offer_decode(c->in.body, &c->arena, &offer, reterr);
    crypto_sha256(&c->row.request, 1, digest);
    if (!err && (!span_equal(offer.id, span_of(c->row.id, 16)) ||
                 !span_equal(offer.request, span_of(digest, sizeof digest)))) {
        err = proto_err_set(reterr, E_AUTH, "the offer answers another request");
    }
    if (!err && c->row.state == PROTO_AGREEMENT_ACCEPTED) {
        c->row.state = PROTO_AGREEMENT_OFFERED; /* other terms came in place of a signature */
        c->row.document = c->row.consumer_signature = SPAN_NONE;
    }
    err = err ? err
              : agreement_step(&c->row, PROTO_AGREEMENT_OFFER, PROTO_AGREEMENT_PROVIDER, reterr);
    c->row.offer = c->in.body;
    c->row.offer_signature = c->in.signature;
    return err ? err : agreement_save(c->context, &c->row, reterr);
}

static enum err take_end(struct consume *c, struct err_info *reterr)
{
    struct proto_agreement_end end;
    enum err err = agreement_verify(c->context, &c->provider, PROTO_AGREEMENT_END_DOMAIN,
                                    c->in.body, c->in.signature, reterr);
    err = err ? err : proto_agreement_end_decode(c->in.body, &c->arena, &end, reterr);
    if (!err && !span_equal(end.id, span_of(c->row.id, 16))) {
        err = proto_err_set(reterr, E_AUTH, "it ends another agreement");
    }
    if (!err && c->row.state != PROTO_AGREEMENT_TERMINATED) {
        err = agreement_step(&c->row, PROTO_AGREEMENT_TERMINATE, PROTO_AGREEMENT_PROVIDER, reterr);
    }
    c->row.end = c->in.body;
    c->row.end_signature = c->in.signature;
    c->row.reason = err ? SPAN_NONE : end.reason;
    err = err ? err : agreement_save(c->context, &c->row, reterr);
    return err ? err
               : proto_err_set(reterr, E_REFUSED, "%s refuses: %.*s", c->provider.name,
                               (int)end.reason.len, (const char *)end.reason.ptr);
}

/* What came back on a request, or in place of a countersignature. */
static enum err take_answer(struct consume *c, struct err_info *reterr)
{
    switch (c->in.step) {
    case PROTO_AGREEMENT_OFFER:
        return take_offer(c, reterr);
    case PROTO_AGREEMENT_TERMINATE:
        return take_end(c, reterr);
    case PROTO_AGREEMENT_REQUEST:
        return proto_err_set(reterr, E_APPROVAL, "%.*s", (int)c->in.detail.len,
                             (const char *)c->in.detail.ptr);
    default:
        return proto_err_set(reterr, E_AUTH, "%s answered out of turn", c->provider.name);
    }
}

static enum err send_request(struct consume *c, struct err_info *reterr)
{
    const struct agreement_message out = {.version = 1,
                                          .step = PROTO_AGREEMENT_REQUEST,
                                          .id = span_of(c->row.id, 16),
                                          .body = c->row.request,
                                          .signature = c->row.request_signature,
                                          .detail = span_str("")};
    enum err err = exchange(c, &out, reterr);
    return err ? err : take_answer(c, reterr);
}

static enum err make_request(struct consume *c, const struct query_agreement_wish *wish,
                             struct err_info *reterr)
{
    struct peer_member self;
    struct buf bytes = {.max = PROTO_AGREEMENT_MAX};
    if (!peer_member_by_id(c->context->peer, c->context->node_id, &self)) {
        return proto_err_set(reterr, E_NOT_FOUND, "this node is no member yet");
    }
    struct proto_agreement_request request = {
        .v = PROTO_BODY_VERSION,
        .id = span_of(c->row.id, 16),
        .consumer = span_of(c->context->node_id, 16),
        .provider = span_of(c->provider.id, 16),
        .dataset = span_str(wish->dataset),
        .institution = span_str(self.org),
        .org_type = span_str(self.org_type),
        .actions = wish->actions,
        .purpose = *wish->purpose,
        .recipients = wish->recipients,
        .time = query_now(),
    };
    request.purpose.agreements = (struct proto_list){0};
    enum err err = proto_agreement_request_encode(&request, &bytes, reterr);
    err = err ? err : agreement_copy(&c->arena, buf_span(&bytes), &c->row.request);
    err = err ? err
              : agreement_sign(c->context, PROTO_AGREEMENT_REQUEST_DOMAIN, c->row.request,
                               &c->arena, &c->row.request_signature);
    buf_fini(&bytes);
    memcpy(c->row.peer, c->provider.id, 16);
    c->row.side = PROTO_AGREEMENT_CONSUMER;
    c->row.dataset = span_str(wish->dataset);
    err = err ? err
              : agreement_step(&c->row, PROTO_AGREEMENT_REQUEST, PROTO_AGREEMENT_CONSUMER, reterr);
    return err ? err : agreement_save(c->context, &c->row, reterr);
}

enum err query_agreement_request(struct query_context *context,
                                 const struct query_agreement_wish *wish, uint8_t ret_id[16],
                                 struct err_info *reterr)
{
    struct consume c = {.context = context, .provider = *wish->provider};
    memset(ret_id, 0, 16);
    if (memcmp(c.provider.id, context->node_id, 16) == 0) {
        return proto_err_set(reterr, E_USAGE, "an agreement needs two nodes");
    }
    enum err err = query_clock_check(context->peer, reterr);
    err = err ? err : crypto_random(c.row.id, 16);
    pthread_mutex_lock(&context->agreements->lock);
    err = err ? err : make_request(&c, wish, reterr);
    pthread_mutex_unlock(&context->agreements->lock);
    if (!err) {
        memcpy(ret_id, c.row.id, 16);
        err = agreement_audit(context, &c.row, "agreement.requested", "");
    }
    err = err ? err : send_request(&c, reterr);
    arena_fini(&c.arena);
    return err;
}

static enum err load(struct consume *c, const uint8_t id[16], struct err_info *reterr)
{
    enum err err = store_agreement_get(c->context->store, id, &c->arena, &c->row, reterr);
    if (err == E_NOT_FOUND) {
        return proto_err_set(reterr, err, "no agreement here has this id");
    }
    if (!err && !peer_member_by_id(c->context->peer, c->row.peer, &c->provider)) {
        err = proto_err_set(reterr, E_NOT_FOUND, "its other side is no member any more");
    }
    return err;
}

enum err query_agreement_again(struct query_context *context, const uint8_t id[16],
                               struct err_info *reterr)
{
    struct consume c = {.context = context};
    enum err err = load(&c, id, reterr);
    if (!err && c.row.side == PROTO_AGREEMENT_CONSUMER &&
        c.row.state == PROTO_AGREEMENT_REQUESTED) {
        err = send_request(&c, reterr);
    }
    arena_fini(&c.arena);
    return err;
}

/* Without a word of the person: what the request promised of what the offer asks. */
static enum err promised(struct consume *c, struct proto_list *ret, struct err_info *reterr)
{
    struct proto_agreement_request request;
    struct proto_agreement_offer offer;
    enum err err = proto_agreement_request_decode(c->row.request, &c->arena, &request, reterr);
    err = err ? err : proto_agreement_offer_decode(c->row.offer, &c->arena, &offer, reterr);
    if (err) {
        return err;
    }
    const struct proto_text *items = request.purpose.accepted.items;
    const struct proto_agreement_duty *duties = offer.duties.items;
    struct proto_text *kept =
        arena_alloc(&c->arena, request.purpose.accepted.count + 1, sizeof *kept);
    *ret = (struct proto_list){kept, 0};
    for (size_t i = 0; kept && i < request.purpose.accepted.count; i++) {
        bool asked = false;
        for (size_t j = 0; j < offer.duties.count; j++) {
            asked = asked || span_equal(duties[j].id, items[i].text);
        }
        if (asked) {
            kept[ret->count++] = items[i];
        }
    }
    return kept ? E_OK : E_NO_MEMORY;
}

static enum err make_document(struct consume *c, const char *person,
                              const struct proto_list *accepted, struct err_info *reterr)
{
    struct proto_agreement_parts parts;
    struct buf bytes = {.max = PROTO_AGREEMENT_MAX};
    struct proto_agreement agreement = {.v = PROTO_BODY_VERSION,
                                        .id = span_of(c->row.id, 16),
                                        .request = c->row.request,
                                        .offer = c->row.offer,
                                        .person = span_str(person),
                                        .time = query_now()};
    if (!c->row.offer.ptr) {
        return proto_err_set(reterr, E_INVALID, "there is no offer to accept yet");
    }
    agreement.accepted = *accepted;
    enum err err = accepted->count ? E_OK : promised(c, &agreement.accepted, reterr);
    err = err ? err : proto_agreement_encode(&agreement, &bytes, reterr);
    err = err ? err : agreement_copy(&c->arena, buf_span(&bytes), &c->row.document);
    buf_fini(&bytes);
    err =
        err ? err
            : proto_agreement_open(c->row.document, &crypto_proto_hash, &c->arena, &parts, reterr);
    err = err ? err
              : agreement_sign(c->context, PROTO_AGREEMENT_DOMAIN, c->row.document, &c->arena,
                               &c->row.consumer_signature);
    err = err ? err
              : agreement_step(&c->row, PROTO_AGREEMENT_ACCEPT, PROTO_AGREEMENT_CONSUMER, reterr);
    return err ? err : agreement_save(c->context, &c->row, reterr);
}

/* The countersignature is checked before anything counts. */
static enum err take_agreement(struct consume *c, struct err_info *reterr)
{
    struct span both;
    enum err err =
        agreement_countersigned(c->row.document, c->row.consumer_signature, &c->arena, &both);
    err = err ? err
              : agreement_verify(c->context, &c->provider, PROTO_AGREEMENT_COUNTER_DOMAIN, both,
                                 c->in.signature, reterr);
    err = err ? err
              : agreement_step(&c->row, PROTO_AGREEMENT_AGREE, PROTO_AGREEMENT_PROVIDER, reterr);
    err = err ? err
              : agreement_step(&c->row, PROTO_AGREEMENT_VERIFY, PROTO_AGREEMENT_CONSUMER, reterr);
    c->row.provider_signature = c->in.signature;
    err = err ? err : agreement_audit(c->context, &c->row, "agreement.agreed", "");
    return err ? err : agreement_save(c->context, &c->row, reterr);
}

static enum err tell_verified(struct consume *c, struct err_info *reterr)
{
    const struct agreement_message out = {.version = 1,
                                          .step = PROTO_AGREEMENT_VERIFY,
                                          .id = span_of(c->row.id, 16),
                                          .detail = span_str("")};
    enum err err = exchange(c, &out, reterr);
    if (!err && c->in.step != PROTO_AGREEMENT_FINALIZE) {
        err = proto_err_set(reterr, E_AUTH, "%s answered out of turn", c->provider.name);
    }
    err = err ? err
              : agreement_step(&c->row, PROTO_AGREEMENT_FINALIZE, PROTO_AGREEMENT_PROVIDER, reterr);
    return err ? err : agreement_save(c->context, &c->row, reterr);
}

static enum err accept_offer(struct consume *c, const char *person,
                             const struct proto_list *accepted, struct err_info *reterr)
{
    enum err err = E_OK;
    if (c->row.side != PROTO_AGREEMENT_CONSUMER) {
        return proto_err_set(reterr, E_USAGE, "the institution that asked accepts");
    }
    if (c->row.state != PROTO_AGREEMENT_VERIFIED) {
        bool resend = c->row.state == PROTO_AGREEMENT_ACCEPTED && c->row.document.ptr;
        err = resend ? E_OK : make_document(c, person, accepted, reterr);
        const struct agreement_message out = {.version = 1,
                                              .step = PROTO_AGREEMENT_ACCEPT,
                                              .id = span_of(c->row.id, 16),
                                              .body = c->row.document,
                                              .signature = c->row.consumer_signature,
                                              .detail = span_str("")};
        err = err ? err : exchange(c, &out, reterr);
        if (!err && c->in.step != PROTO_AGREEMENT_AGREE) {
            err = take_answer(c, reterr);
            return err ? err
                       : proto_err_set(reterr, E_REFUSED,
                                       "the terms changed meanwhile: read the new "
                                       "ones and accept again");
        }
        err = err ? err : take_agreement(c, reterr);
    }
    return err ? err : tell_verified(c, reterr);
}

enum err query_agreement_accept(struct query_context *context, const uint8_t id[16],
                                const char *person, const struct proto_list *accepted,
                                struct err_info *reterr)
{
    struct consume c = {.context = context};
    enum err err = query_clock_check(context->peer, reterr);
    err = err ? err : load(&c, id, reterr);
    err = err ? err : accept_offer(&c, person, accepted, reterr);
    arena_fini(&c.arena);
    return err;
}

enum err query_agreement_terminate(struct query_context *context, const uint8_t id[16],
                                   const char *reason, struct err_info *reterr)
{
    struct consume c = {.context = context};
    struct buf bytes = {.max = 4096};
    struct proto_agreement_end end = {.v = PROTO_BODY_VERSION,
                                      .id = span_of(id, 16),
                                      .by = span_of(context->node_id, 16),
                                      .reason = span_str(reason),
                                      .time = query_now()};
    pthread_mutex_lock(&context->agreements->lock);
    enum err err = load(&c, id, reterr);
    err = err ? err
              : agreement_step(&c.row, PROTO_AGREEMENT_TERMINATE,
                               (enum proto_agreement_side)c.row.side, reterr);
    err = err ? err : proto_agreement_end_encode(&end, &bytes, reterr);
    c.row.end = buf_span(&bytes);
    err = err ? err
              : agreement_sign(context, PROTO_AGREEMENT_END_DOMAIN, c.row.end, &c.arena,
                               &c.row.end_signature);
    c.row.reason = span_str(reason);
    err = err ? err : agreement_audit(context, &c.row, "agreement.terminated", reason);
    err = err ? err : agreement_save(context, &c.row, reterr);
    pthread_mutex_unlock(&context->agreements->lock);
    if (!err) {
        context->licence_changes++;
        const struct agreement_message out = {.version = 1,
                                              .step = PROTO_AGREEMENT_TERMINATE,
                                              .id = span_of(id, 16),
                                              .body = c.row.end,
                                              .signature = c.row.end_signature,
                                              .detail = span_str("")};
        (void)!exchange(&c, &out, NULL); /* away now: it learns of it when it uses the agreement */
    }
    buf_fini(&bytes);
    arena_fini(&c.arena);
    return err;
}
