/* The provider's side: what members ask of this node's data. */
#include "config.h"
#include "node/query/agreement_internal.h"

#include "crypto/provider.h"
#include "node/query/approval.h"
#include "node/query/site.h"
#include "store/egress.h"

/* One message of a consumer on its way through. */
struct provide {
    struct query_context *context;
    struct peer_member consumer;
    struct arena arena;
    struct agreement_message in, out;
    struct store_agreement row;
    bool known;
    struct proto_agreement_request request;
    struct query_admission admission;
};

static enum err terminate_row(struct provide *p, const char *reason, struct err_info *reterr)
{
    struct buf bytes = {.max = 4096};
    struct proto_agreement_end end = {.v = PROTO_BODY_VERSION,
                                      .id = span_of(p->row.id, 16),
                                      .by = span_of(p->context->node_id, 16),
                                      .reason = span_str(reason),
                                      .time = query_now()};
    enum err err =
        agreement_step(&p->row, PROTO_AGREEMENT_TERMINATE, PROTO_AGREEMENT_PROVIDER, reterr);
    err = err ? err : proto_agreement_end_encode(&end, &bytes, reterr);
    err = err ? err : agreement_copy(&p->arena, buf_span(&bytes), &p->row.end);
    err = err ? err
              : agreement_sign(p->context, PROTO_AGREEMENT_END_DOMAIN, p->row.end, &p->arena,
                               &p->row.end_signature);
    buf_fini(&bytes);
    if (!err) {
        p->row.reason = span_str(arena_strdup(&p->arena, span_str(reason)));
        p->out.step = PROTO_AGREEMENT_TERMINATE;
        p->out.body = p->row.end;
        p->out.signature = p->row.end_signature;
    }
    return err ? err : agreement_save(p->context, &p->row, reterr);
}

/* Which of the wanted actions the licence grants when every duty is accepted. Each is judged alone; the duties of all that
 * pass are united. */
struct granted {
    uint64_t actions;
    bool held;
    enum proto_reason reason; /* of the first that is not */
    struct proto_agreement_duty duties[PROTO_POLICY_DUTIES];
    size_t duty_count;
};

static enum err unite_duties(struct provide *p, struct granted *granted)
{
    const struct proto_decision *decision = &p->admission.decision;
    for (size_t i = 0; i < decision->duty_count; i++) {
        const struct proto_duty *duty = &decision->duties[i];
        bool there = false;
        for (size_t j = 0; j < granted->duty_count && !there; j++) {
            there = span_equal(granted->duties[j].id, duty->id) &&
                    span_equal(granted->duties[j].text, duty->text);
        }
        if (!there && granted->duty_count == PROTO_POLICY_DUTIES) {
            return E_LIMIT;
        }
        if (!there) {
            granted->duties[granted->duty_count++] =
                (struct proto_agreement_duty){duty->id, duty->when, duty->text};
        }
    }
    (void)p;
    return E_OK;
}

static enum err judge(struct provide *p, struct granted *granted)
{
    static const char *const promises[] = {"collaborate", "publish", "return-results",
                                           "ethics-ref"};
    struct proto_text accepted[4];
    struct proto_purpose purpose = p->request.purpose;
    struct query_node_ref self = {span_of(p->context->node_id, 16)};
    for (size_t i = 0; i < 4; i++) {
        accepted[i].text = span_str(promises[i]);
    }
    purpose.accepted = (struct proto_list){accepted, 4};
    purpose.agreements = (struct proto_list){0};
    enum err err = E_OK;
    for (int i = 0; !err && i < PROTO_ACTION_TOTAL; i++) {
        struct proto_use use = {
            .actions = PROTO_ACTION_BIT(i), .epsilon = 1e-6, .rounds = 1, .clip = 1};
        if (!(p->request.actions & PROTO_ACTION_BIT(i))) {
            continue;
        }
        p->admission.agreement_start = query_now(); /* time limits count from now, would it begin */
        query_admission_decide(p->context, &p->admission, &p->consumer, &purpose, &use, &self, 1,
                               query_now());
        const struct proto_decision *decision = &p->admission.decision;
        if (decision->verdict == PROTO_DENY) {
            granted->reason = granted->reason ? granted->reason : decision->reason;
            continue;
        }
        granted->actions |= PROTO_ACTION_BIT(i);
        granted->held = granted->held || decision->verdict == PROTO_HOLD;
        err = unite_duties(p, granted);
    }
    return err;
}

static enum err ask_person(struct provide *p, const struct granted *granted,
                           struct query_held *held, struct err_info *reterr)
{
    uint8_t subject[32];
    uint8_t number[8];
    struct buf operations = {.max = STORE_APPROVAL_TEXT};
    char person[129], project[129];
    enum err err = E_OK;
    put_be64(number, granted->actions);
    const struct span part = span_of(number, sizeof number);
    crypto_sha256(&part, 1, subject);
    for (int i = 0; !err && i < PROTO_ACTION_TOTAL; i++) {
        if (granted->actions & PROTO_ACTION_BIT(i)) {
            err = buf_printf(&operations, "%s%s", operations.len ? ", " : "",
                             proto_action_name((enum proto_action)i));
        }
    }
    if (!span_to_cstr(p->request.purpose.person, person, sizeof person) ||
        !span_to_cstr(p->request.purpose.project, project, sizeof project)) {
        err = E_INVALID;
    }
    struct query_hold hold = {
        .kind = STORE_APPROVAL_AGREEMENT,
        .request = p->row.id,
        .subject = subject,
        .person = person,
        .project = project,
        .purpose = &p->request.purpose,
        .operations = arena_strdup(&p->arena, buf_span(&operations)),
        .question = "an agreement under the licence's terms",
        .shape = "a countersigned agreement; each use of it costs as the licence says",
    };
    buf_fini(&operations);
    return err ? err
               : query_approval_ask(p->context, &p->admission, &p->consumer, &hold, held, reterr);
}

static enum err make_offer(struct provide *p, const struct granted *granted,
                           struct err_info *reterr)
{
    uint8_t digest[32];
    struct buf bytes = {.max = PROTO_AGREEMENT_MAX};
    crypto_sha256(&p->row.request, 1, digest);
    struct proto_agreement_offer offer = {
        .v = PROTO_BODY_VERSION,
        .id = span_of(p->row.id, 16),
        .request = span_of(digest, sizeof digest),
        .licence = span_of(p->admission.record.id, 16),
        .actions = granted->actions,
        .duties = {(void *)granted->duties, granted->duty_count},
        .ends = (int64_t)p->admission.licence.expires,
        .time = query_now(),
    };
    enum err err = agreement_step(&p->row, PROTO_AGREEMENT_OFFER, PROTO_AGREEMENT_PROVIDER, reterr);
    err = err ? err : proto_agreement_offer_encode(&offer, &bytes, reterr);
    err = err ? err : agreement_copy(&p->arena, buf_span(&bytes), &p->row.offer);
    err = err ? err
              : agreement_sign(p->context, PROTO_AGREEMENT_OFFER_DOMAIN, p->row.offer, &p->arena,
                               &p->row.offer_signature);
    buf_fini(&bytes);
    err = err ? err : agreement_save(p->context, &p->row, reterr);
    if (!err) {
        p->out.step = PROTO_AGREEMENT_OFFER;
        p->out.body = p->row.offer;
        p->out.signature = p->row.offer_signature;
    }
    return err;
}

/* Of a dataset of ours, else of a model that we published. */
static enum err load_terms(struct provide *p, const char *name, struct err_info *reterr)
{
    enum err err = query_admission_load(p->context, name, &p->admission, reterr);
    if (err == E_NOT_FOUND) {
        query_admission_fini(&p->admission);
        err = query_admission_load_model(p->context, name, &p->admission, reterr);
    }
    return err;
}

/* What the licence says to the request as it stands now: an offer, a person's turn, or no. */
static enum err consider(struct provide *p, struct err_info *reterr)
{
    struct granted granted = {0};
    struct query_held held;
    char dataset[65];
    (void)span_to_cstr(p->row.dataset, dataset, sizeof dataset);
    enum err err = load_terms(p, dataset, reterr);
    if (err == E_NOT_FOUND) {
        return terminate_row(p, proto_reason_name(PROTO_REASON_NO_LICENSE), reterr);
    }
    err = err ? err : judge(p, &granted);
    if (!err && !granted.actions) {
        return terminate_row(p, proto_reason_name(granted.reason), reterr);
    }
    if (!err && granted.held && p->admission.model) {
        /* A person here cannot say yes for those of all the sites whose data taught it. */
        return terminate_row(p, proto_reason_name(PROTO_REASON_HOLD), reterr);
    }
    if (!err && granted.held) {
        err = ask_person(p, &granted, &held, reterr);
        if (err == E_APPROVAL) {
            p->out.step = PROTO_AGREEMENT_REQUEST;
            err = agreement_copy(&p->arena, span_of(held.id, 16), &p->out.approval);
            p->out.detail = span_str(arena_strdup(&p->arena, span_str(held.detail)));
            return err ? err : agreement_save(p->context, &p->row, reterr);
        }
        if (err == E_REFUSED) {
            return terminate_row(p, held.detail, reterr);
        }
    }
    return err ? err : make_offer(p, &granted, reterr);
}

static enum err check_request(struct provide *p, struct err_info *reterr)
{
    const struct proto_agreement_request *request = &p->request;
    int64_t off = query_now() - request->time;
    if (!span_equal(request->id, p->in.id) ||
        !span_equal(request->consumer, span_of(p->consumer.id, 16)) ||
        !span_equal(request->provider, span_of(p->context->node_id, 16))) {
        return proto_err_set(reterr, E_INVALID, "the request names other parties");
    }
    if (!span_is(request->institution, p->consumer.org) ||
        !span_is(request->org_type, p->consumer.org_type)) {
        return proto_err_set(reterr, E_INVALID, "the institution is not as the council attests it");
    }
    if (!p->known && (off > AGREEMENT_CLOCK_S || off < -AGREEMENT_CLOCK_S)) {
        return proto_err_set(reterr, E_REFUSED, "the request's time is %lld s off", (long long)off);
    }
    return E_OK;
}

static enum err on_request(struct provide *p, struct err_info *reterr)
{
    enum err err = agreement_verify(p->context, &p->consumer, PROTO_AGREEMENT_REQUEST_DOMAIN,
                                    p->in.body, p->in.signature, reterr);
    if (!err && p->known && !span_equal(p->row.request, p->in.body)) {
        err = proto_err_set(reterr, E_INVALID, "another request has this id");
    }
    err = err ? err : proto_agreement_request_decode(p->in.body, &p->arena, &p->request, reterr);
    err = err ? err : check_request(p, reterr);
    if (!err && p->known && p->row.state != PROTO_AGREEMENT_REQUESTED) {
        /* Asked again: what was said last. */
        bool ended = p->row.state == PROTO_AGREEMENT_TERMINATED;
        p->out.step = ended ? PROTO_AGREEMENT_TERMINATE : PROTO_AGREEMENT_OFFER;
        p->out.body = ended ? p->row.end : p->row.offer;
        p->out.signature = ended ? p->row.end_signature : p->row.offer_signature;
        return E_OK;
    }
    if (!err) {
        memcpy(p->row.id, p->in.id.ptr, 16);
        memcpy(p->row.peer, p->consumer.id, 16);
        p->row.side = PROTO_AGREEMENT_PROVIDER;
        p->row.dataset = p->request.dataset;
        p->row.request = p->in.body;
        p->row.request_signature = p->in.signature;
        err = agreement_step(&p->row, PROTO_AGREEMENT_REQUEST, PROTO_AGREEMENT_CONSUMER, reterr);
    }
    if (!err && !p->known) {
        err = agreement_audit(p->context, &p->row, "agreement.requested", "");
    }
    return err ? err : consider(p, reterr);
}

static enum err countersign(struct provide *p, struct err_info *reterr)
{
    struct span both;
    enum err err =
        agreement_step(&p->row, PROTO_AGREEMENT_ACCEPT, PROTO_AGREEMENT_CONSUMER, reterr);
    err = err ? err
              : agreement_step(&p->row, PROTO_AGREEMENT_AGREE, PROTO_AGREEMENT_PROVIDER, reterr);
    p->row.document = p->in.body;
    p->row.consumer_signature = p->in.signature;
    err = err ? err : agreement_countersigned(p->in.body, p->in.signature, &p->arena, &both);
    err = err ? err
              : agreement_sign(p->context, PROTO_AGREEMENT_COUNTER_DOMAIN, both, &p->arena,
                               &p->row.provider_signature);
    err = err ? err : agreement_audit(p->context, &p->row, "agreement.agreed", "");
    return err ? err : agreement_save(p->context, &p->row, reterr);
}

static enum err on_accept(struct provide *p, struct err_info *reterr)
{
    struct proto_agreement_parts parts;
    char dataset[65];
    enum err err = agreement_verify(p->context, &p->consumer, PROTO_AGREEMENT_DOMAIN, p->in.body,
                                    p->in.signature, reterr);
    err =
        err ? err : proto_agreement_open(p->in.body, &crypto_proto_hash, &p->arena, &parts, reterr);
    if (!err && (!span_equal(parts.agreement.request, p->row.request) ||
                 !span_equal(parts.agreement.offer, p->row.offer))) {
        err = proto_err_set(reterr, E_INVALID, "it accepts another offer than the last one");
    }
    int64_t off = err ? 0 : query_now() - parts.agreement.time;
    if (!err && (off > AGREEMENT_CLOCK_S || off < -AGREEMENT_CLOCK_S)) {
        err = proto_err_set(reterr, E_REFUSED, "its time is %lld s off", (long long)off);
    }
    bool again = p->row.document.ptr && span_equal(p->row.document, p->in.body);
    if (!err && !again) {
        p->request = parts.request;
        (void)span_to_cstr(p->row.dataset, dataset, sizeof dataset);
        err = load_terms(p, dataset, reterr);
        if (!err && (!p->admission.has_licence || p->admission.forked ||
                     !span_equal(parts.offer.licence, span_of(p->admission.record.id, 16)))) {
            /* The terms changed meanwhile: whoever accepted the old ones is shown the new. */
            query_admission_fini(&p->admission);
            return consider(p, reterr);
        }
        err = err ? err : countersign(p, reterr);
    }
    if (!err) {
        p->out.step = PROTO_AGREEMENT_AGREE;
        p->out.signature = p->row.provider_signature;
    }
    return err;
}

static enum err on_verify(struct provide *p, struct err_info *reterr)
{
    enum err err = E_OK;
    if (p->row.state != PROTO_AGREEMENT_FINALIZED) {
        err = agreement_step(&p->row, PROTO_AGREEMENT_VERIFY, PROTO_AGREEMENT_CONSUMER, reterr);
        err = err ? err
                  : agreement_step(&p->row, PROTO_AGREEMENT_FINALIZE, PROTO_AGREEMENT_PROVIDER,
                                   reterr);
        err = err ? err : agreement_save(p->context, &p->row, reterr);
    }
    p->out.step = PROTO_AGREEMENT_FINALIZE;
    return err;
}

static enum err on_terminate(struct provide *p, struct err_info *reterr)
{
    struct proto_agreement_end end;
    enum proto_agreement_side theirs = p->row.side == PROTO_AGREEMENT_PROVIDER
                                           ? PROTO_AGREEMENT_CONSUMER
                                           : PROTO_AGREEMENT_PROVIDER;
    enum err err = agreement_verify(p->context, &p->consumer, PROTO_AGREEMENT_END_DOMAIN,
                                    p->in.body, p->in.signature, reterr);
    err = err ? err : proto_agreement_end_decode(p->in.body, &p->arena, &end, reterr);
    if (!err &&
        (!span_equal(end.id, p->in.id) || !span_equal(end.by, span_of(p->consumer.id, 16)))) {
        err = proto_err_set(reterr, E_INVALID, "it ends something else");
    }
    if (!err && p->row.state != PROTO_AGREEMENT_TERMINATED) {
        err = agreement_step(&p->row, PROTO_AGREEMENT_TERMINATE, theirs, reterr);
        p->row.end = p->in.body;
        p->row.end_signature = p->in.signature;
        p->row.reason = end.reason;
        err = err ? err
                  : agreement_audit(p->context, &p->row, "agreement.terminated", "by the other");
        err = err ? err : agreement_save(p->context, &p->row, reterr);
        p->context->licence_changes++; /* what runs under it looks again */
    }
    p->out.step = PROTO_AGREEMENT_TERMINATE;
    return err;
}

static enum err provide(struct provide *p, struct span body, struct err_info *reterr)
{
    static enum err (*const handlers[PROTO_AGREEMENT_EVENTS])(struct provide *,
                                                              struct err_info *) = {
        [PROTO_AGREEMENT_REQUEST] = on_request,
        [PROTO_AGREEMENT_ACCEPT] = on_accept,
        [PROTO_AGREEMENT_VERIFY] = on_verify,
        [PROTO_AGREEMENT_TERMINATE] = on_terminate,
    };
    enum err err = query_clock_check(p->context->peer, reterr);
    err = err ? err : proto_codec_decode(&agreement_message_table, body, &p->arena, &p->in, reterr);
    if (err) {
        return err;
    }
    p->out = (struct agreement_message){.version = 1, .id = p->in.id, .detail = span_str("")};
    err = store_agreement_get(p->context->store, p->in.id.ptr, &p->arena, &p->row, reterr);
    p->known = err == E_OK;
    err = err == E_NOT_FOUND ? E_OK : err;
    bool other = p->known && memcmp(p->row.peer, p->consumer.id, 16) != 0;
    if (!err &&
        (other || !handlers[p->in.step] || (!p->known && p->in.step != PROTO_AGREEMENT_REQUEST))) {
        err = proto_err_set(reterr, E_NOT_FOUND, "no such agreement with this member");
    }
    return err ? err : handlers[p->in.step](p, reterr);
}

void query_agreement_handle(struct peer_request *request, void *user)
{
    struct query_context *context = user;
    struct provide *p = proto_alloc(1, sizeof *p);
    struct buf reply = {.max = PEER_MESSAGE_MAX};
    struct err_info info = {0};
    enum err err = p ? E_OK : E_NO_MEMORY;
    if (!err && ((context->refusing && context->refusing(context->user)) ||
                 !peer_member_by_id(context->peer, peer_request_from(request), &p->consumer) ||
                 p->consumer.state == PEER_REVOKED)) {
        err = E_BUSY;
    }
    if (!err) {
        p->context = context;
        pthread_mutex_lock(&context->agreements->lock);
        err = provide(p, peer_request_body(request), &info);
        pthread_mutex_unlock(&context->agreements->lock);
        err = err ? err : proto_codec_encode(&agreement_message_table, &p->out, &reply, &info);
    }
    if (!err) {
        char id[33];
        span_to_hex(p->out.id, id);
        err = store_egress_add(context->store, p->consumer.name, "agreement", id, reply.len,
                               query_now(), &info);
    } else if (p && info.text[0]) {
        context->log(context->user, PEER_LOG_INFO, "agreement.refused", info.text);
    }
    peer_reply(request, err, err ? SPAN_NONE : buf_span(&reply));
    buf_fini(&reply);
    if (p) {
        query_admission_fini(&p->admission);
        arena_fini(&p->arena);
    }
    proto_free(p);
}
