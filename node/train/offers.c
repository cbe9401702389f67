/* The plan at the sites: offered, admitted or refused, and the end of a job. */
#include "config.h"
#include "node/train/coordinator_internal.h"

#include "node/query/ask.h"
#include "node/query/site.h"
#include "node/query/witness.h"
#include "store/egress.h"

#include <math.h>
#include <stdio.h>

enum err offers_seal(struct train_service *service, const struct train_job_state *state,
                     const struct train_site *site, bool explain, enum train_end end,
                     struct buf *out, struct err_info *reterr)
{
    struct train_offer offer = {
        .to = span_of(site->id, 16),
        .explain = explain,
        .end = end,
        .term = state->has_machine && !explain ? state->machine.term : 0,
        .time = query_now(),
        .plan = state->plan,
    };
    return query_message_seal(&train_offer_message, &offer, TRAIN_PLAN_DOMAIN,
                              service->context->identity, service->context->federation_id, out,
                              reterr);
}

static void site_lost(struct train_site *site, enum err err, const char *detail)
{
    snprintf(site->state, sizeof site->state, "unreachable");
    site->error = err == E_BUSY ? E_BUSY : E_UNREACHABLE;
    snprintf(site->reason, sizeof site->reason, "%s", proto_err_name(err));
    snprintf(site->detail, sizeof site->detail, "%.250s",
             detail && detail[0]    ? detail
             : err == E_UNREACHABLE ? "the site cannot be reached"
                                    : proto_err_text(err));
}

static void keep_clauses(struct train_job_state *state, struct train_site *site,
                         const struct train_admit *admit)
{
    const struct query_clause *from = admit->clauses.items;
    struct query_clause *to = arena_alloc(&state->arena, admit->clauses.count, sizeof *to);
    for (size_t i = 0; to && i < admit->clauses.count; i++) {
        const struct span texts[] = {from[i].clause, from[i].expected, from[i].reason};
        struct span *into[] = {&to[i].clause, &to[i].expected, &to[i].reason};
        for (size_t j = 0; j < 3; j++) {
            *into[j] = span_str(arena_strdup(&state->arena, texts[j]));
        }
        to[i].result = from[i].result;
    }
    site->clauses = to;
    site->clause_count = to ? admit->clauses.count : 0;
}

static void keep_duties(struct train_site *site, const struct proto_list *duties)
{
    const struct proto_text *items = duties->items;
    size_t at = 0;
    site->duties[0] = '\0';
    for (size_t i = 0; i < duties->count && at + items[i].text.len + 2 < sizeof site->duties; i++) {
        at += (size_t)snprintf(site->duties + at, sizeof site->duties - at, "%s%.*s", at ? " " : "",
                               (int)items[i].text.len, (const char *)items[i].text.ptr);
    }
}

/* The noise that the site says it calibrated must be what our own arithmetic gives for the size that it declared. */
static enum err check_cost(const struct train_job_state *state, struct train_site *site,
                           const struct train_admit *admit)
{
    struct arena arena = {0};
    struct train_plan plan;
    enum err err = proto_codec_decode(&train_plan_message, state->plan, &arena, &plan, NULL);
    if (!err) {
        struct train_terms terms = train_plan_terms(&plan, admit->size);
        err = train_cost_plan(&terms, 2, &site->cost, NULL);
    }
    arena_fini(&arena);
    if (!err && (admit->steps != site->cost.steps ||
                 fabs(admit->sigma - site->cost.sigma) > 1e-9 * site->cost.sigma)) {
        err = E_INVALID;
    }
    return err;
}

void offers_read(struct train_service *service, struct train_job_state *state, struct asked *asked,
                 bool explain)
{
    struct train_site *site = &state->sites[asked->site];
    struct query_context *context = service->context;
    struct arena arena = {0};
    struct peer_member member = {0};
    struct train_admit admit;
    struct err_info info = {0};
    enum err err = asked->call.status;
    if (!err && !peer_member_by_id(context->peer, site->id, &member)) {
        err = E_NOT_FOUND;
    }
    if (!err) {
        err = query_message_open(&train_admit_message, asked->call.reply.bytes, TRAIN_ADMIT_DOMAIN,
                                 member.point, context->federation_id, &arena, &admit, &info);
    }
    if (!err && (memcmp(admit.job_id.ptr, state->id, 16) != 0 ||
                 memcmp(admit.plan_hash.ptr, state->plan_hash, 32) != 0)) {
        err = E_AUTH;
    }
    if (err) {
        site_lost(site, err, info.text);
        arena_fini(&arena);
        return;
    }
    query_witness_keep(context, &member, admit.head);
    char error[65];
    site->error =
        span_to_cstr(admit.error, error, sizeof error) ? proto_err_by_name(error) : E_REFUSED;
    (void)span_to_cstr(admit.reason, site->reason, sizeof site->reason);
    snprintf(site->detail, sizeof site->detail, "%.*s",
             (int)(admit.detail.len < 250 ? admit.detail.len : 250),
             (const char *)admit.detail.ptr);
    site->cap_nano = admit.cap_nano;
    site->spent_nano = admit.spent_nano;
    site->account_delta_e12 = admit.account_delta_e12;
    site->cost_nano = admit.cost_nano;
    if (explain) {
        keep_clauses(state, site, &admit);
    }
    if (admit.admitted && memcmp(admit.licence_id.ptr, site->licence_id, 16) != 0) {
        site->error = E_REFUSED;
        snprintf(site->state, sizeof site->state, "refused");
        snprintf(site->reason, sizeof site->reason, "%s",
                 proto_reason_name(PROTO_REASON_LICENSE_SET));
        snprintf(site->detail, sizeof site->detail, "%s",
                 proto_reason_text(PROTO_REASON_LICENSE_SET));
    } else if (admit.admitted && check_cost(state, site, &admit)) {
        site_lost(site, E_INVALID, "the site's own calibration differs from the plan's");
    } else if (admit.admitted) {
        site->admitted = true;
        site->error = E_OK;
        site->size = admit.size;
        site->release = admit.release;
        keep_duties(site, &admit.duties);
        snprintf(site->state, sizeof site->state, "admitted");
    } else {
        site->error = site->error ? site->error : E_REFUSED;
        snprintf(site->state, sizeof site->state,
                 site->error == E_APPROVAL ? "waiting" : "refused");
    }
    arena_fini(&arena);
}

enum err offers_ask(struct train_service *service, struct train_job_state *state, size_t index,
                    bool explain, uint64_t timeout_ms, bool (*cancelled)(void *), void *user,
                    struct asked *asked, struct err_info *reterr)
{
    struct train_site *site = &state->sites[index];
    asked_init(asked, service, site, index, PEER_MSG_TRAIN_PLAN, timeout_ms, cancelled, user);
    enum err err =
        offers_seal(service, state, site, explain, TRAIN_END_NONE, &asked->request, reterr);
    asked->call.body = buf_span(&asked->request);
    if (memcmp(site->id, service->context->node_id, 16) != 0) {
        store_egress_count(service->context->store, site->node, "train", asked->request.len);
    }
    return err;
}

enum err train_coordinator_explain(struct train_service *service, struct train_job_state *state,
                                   struct err_info *reterr)
{
    struct asked *asked = proto_alloc(state->site_count, sizeof *asked);
    size_t count = 0;
    enum err err = asked ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if (state->sites[i].error != E_SCHEMA) {
            err = offers_ask(service, state, i, true, OFFER_TIMEOUT_MS, NULL, NULL, &asked[count++],
                             reterr);
        }
    }
    if (!err) {
        asked_all(asked, count);
        for (size_t i = 0; i < count; i++) {
            offers_read(service, state, &asked[i], true);
        }
    }
    asked_fini(asked, count);
    return err;
}

/* Distinct institutions among the sites whose bit is set. */
size_t offers_institutions(const struct train_job_state *state, uint64_t sites)
{
    size_t count = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        bool seen = !(sites >> i & 1);
        for (size_t j = 0; j < i && !seen; j++) {
            seen = (sites >> j & 1) && strcmp(state->sites[j].org, state->sites[i].org) == 0;
        }
        count += !seen;
    }
    return count;
}

uint64_t offers_admitted(const struct train_job_state *state)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        bits |= (uint64_t)state->sites[i].admitted << i;
    }
    return bits;
}

enum err offers_worst(const struct train_job_state *state, struct err_info *reterr)
{
    enum err worst = E_OK;
    const struct train_site *cause = NULL;
    for (size_t i = 0; i < state->site_count; i++) {
        enum err err = query_worst(worst, state->sites[i].error);
        cause = err != worst ? &state->sites[i] : cause;
        worst = err;
    }
    worst = worst ? worst : E_UNREACHABLE;
    return proto_err_set(reterr, worst, "%zu institutions take part, %llu wanted%s%s%s%s%s%s%s",
                         offers_institutions(state, offers_admitted(state)),
                         (unsigned long long)state->min_sites, cause ? "; " : "",
                         cause ? cause->node : "", cause ? ": " : "", cause ? cause->detail : "",
                         cause ? " (" : "", cause ? cause->reason : "", cause ? ")" : "");
}

const struct train_site *offers_contradicted(const struct train_job_state *state)
{
    static const enum proto_reason reasons[] = {PROTO_REASON_MODEL, PROTO_REASON_LICENSE_SET};
    for (size_t i = 0; i < state->site_count; i++) {
        for (size_t j = 0; j < sizeof reasons / sizeof *reasons; j++) {
            if (!state->sites[i].admitted &&
                strcmp(state->sites[i].reason, proto_reason_name(reasons[j])) == 0) {
                return &state->sites[i];
            }
        }
    }
    return NULL;
}

/* Every site gives back what it did not start. One that is away keeps it reserved; it is told once. */
void offers_end(struct train_job *job, uint64_t sites, enum train_end end)
{
    struct train_job_state *state = &job->state;
    struct asked *asked = proto_alloc(state->site_count, sizeof *asked);
    size_t count = 0;
    for (size_t i = 0; asked && i < state->site_count; i++) {
        const struct train_site *site = &state->sites[i];
        bool refused = !site->admitted && strcmp(site->state, "refused") == 0;
        if (!(sites >> i & 1) || refused) {
            continue;
        }
        asked_init(&asked[count], job->service, site, i, PEER_MSG_TRAIN_STOP, OFFER_TIMEOUT_MS,
                   NULL, NULL);
        if (offers_seal(job->service, state, site, false, end, &asked[count].request, NULL) ==
            E_OK) {
            asked[count].call.body = buf_span(&asked[count].request);
            count++;
        } else {
            buf_fini(&asked[count].request);
        }
    }
    if (asked) {
        asked_all(asked, count);
    }
    asked_fini(asked, count);
}
