#include "config.h"
#include "node/query/ask.h"

#include "crypto/random.h"
#include "node/query/partial.h"
#include "node/query/agreement.h"
#include "node/query/price.h"
#include "node/query/release.h"
#include "node/query/site.h"
#include "node/query/witness.h"
#include "proto/sql.h"
#include "store/egress.h"

#include <math.h>
#include <stdio.h>

struct asking {
    struct query_context *context;
    const struct query_ask *ask;
    struct query_result *result;
    struct query_publisher *publishers;
    size_t publisher_count;
    size_t model;       /* the publisher whose schema the query is typed by */
    struct buf request; /* the same bytes for every site */
    struct peer_call *calls;
    size_t *call_site; /* by call: index into result->site */
    size_t call_count;
    size_t read_count; /* answers that are in */
    uint64_t started_ms;
    struct query_answer *answers; /* by call */
};

enum err query_worst(enum err a, enum err b)
{
    static const int order[] = {4, 5, 9, 6};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (a && proto_err_exit(a) == order[i]) {
            return a;
        }
        if (b && proto_err_exit(b) == order[i]) {
            return b;
        }
    }
    return a ? a : b;
}

static bool site_wanted(const struct query_ask *ask, const struct peer_member *member)
{
    for (size_t i = 0; i < ask->site_count; i++) {
        char id[33];
        span_to_hex(span_of(member->id, 16), id);
        if (strcmp(ask->sites[i], member->name) == 0 || strcmp(ask->sites[i], id) == 0) {
            return true;
        }
    }
    return ask->site_count == 0;
}

/* Keeps the publishers that were asked for; each named site must be one. */
static enum err choose_sites(struct asking *asking, struct err_info *reterr)
{
    const struct query_ask *ask = asking->ask;
    for (size_t i = 0; i < ask->site_count; i++) {
        struct peer_member member;
        if (!peer_member_by_name(asking->context->peer, ask->sites[i], &member)) {
            return proto_err_set(reterr, E_NOT_FOUND,
                                 "no member is called %s; `concordat peers` lists them",
                                 ask->sites[i]);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < asking->publisher_count && kept < QUERY_SITES_MAX; i++) {
        if (site_wanted(ask, &asking->publishers[i].member)) {
            asking->publishers[kept++] = asking->publishers[i];
        }
    }
    asking->publisher_count = kept;
    return kept ? E_OK
                : proto_err_set(reterr, E_NOT_FOUND,
                                "none of the named sites publishes the dataset");
}

static bool fits(const struct asking *asking, size_t i)
{
    const struct query_publisher *all = asking->publishers;
    return memcmp(all[i].schema_hash, all[asking->model].schema_hash, 32) == 0;
}

/* What can never be answered by enough is not asked: sites that answer charge it. A site that cannot be reached now counts, one whose
 * schema differs does not: its sums do not add up with the others'. */
static enum err check_min_sites(const struct asking *asking, struct err_info *reterr)
{
    const struct query_publisher *all = asking->publishers;
    const struct query_publisher *other = NULL;
    size_t held = 0;
    for (size_t i = 0; i < asking->publisher_count; i++) {
        bool counts = fits(asking, i);
        other = counts ? other : &all[i];
        for (size_t j = 0; j < i && counts; j++) {
            counts = !fits(asking, j) || strcmp(all[j].member.org, all[i].member.org) != 0;
        }
        held += counts;
    }
    if (held >= asking->ask->min_sites) {
        return E_OK;
    }
    return proto_err_set(
        reterr, E_UNREACHABLE,
        "nobody was asked and nothing charged: --min-sites wants %zu institutions, and %zu%s hold%s"
        " %s%s%s; ask with --min-sites %zu or less",
        asking->ask->min_sites, held, asking->ask->site_count ? " of those in --sites" : "",
        held == 1 ? "s" : "", asking->result->query.dataset,
        other ? "; another schema of it has " : "", other ? other->member.name : "", held);
}

/* What the wanted error costs, if the licences of all who are asked allow so much for a question. */
static enum err price_error(struct asking *asking, double most, struct err_info *reterr)
{
    struct query_result *result = asking->result;
    double size = 0;
    uint64_t epsilon_u = 0;
    for (size_t i = 0; i < asking->publisher_count; i++) {
        size += (double)asking->publishers[i].dataset.size;
    }
    enum err err = query_wanted_epsilon(
        &result->query, &result->layout, &asking->ask->wanted, size, asking->publisher_count,
        (uint64_t)llround(result->delta * 1e12), (uint64_t)llround(most * 1e6), &epsilon_u, reterr);
    result->epsilon = (double)epsilon_u / 1e6;
    return err;
}

/* Fills in what the person left open, from the public terms of the licences. */
static enum err choose_price(struct asking *asking, struct err_info *reterr)
{
    double epsilon = 0.5;
    double delta = 0;
    double most = 1e6; /* that all of them allow */
    for (size_t i = 0; i < asking->publisher_count; i++) {
        const struct query_publisher *publisher = &asking->publishers[i];
        const struct proto_grant *grants = publisher->licence.grants.items;
        double cap = 0;
        for (size_t j = 0; publisher->has_licence && j < publisher->licence.grants.count; j++) {
            cap = fmax(cap, (double)grants[j].privacy.epsilon_per_query_u / 1e6);
            double own = (double)grants[j].privacy.delta_e12 / 1e12;
            delta = delta == 0 || (own > 0 && own < delta) ? own : delta;
        }
        epsilon = cap > 0 ? fmin(epsilon, cap) : epsilon;
        most = cap > 0 ? fmin(most, cap) : most;
    }
    asking->result->epsilon = asking->ask->epsilon > 0 ? asking->ask->epsilon : epsilon;
    asking->result->delta =
        asking->ask->delta > 0 ? asking->ask->delta : (delta > 0 ? delta : 1e-6);
    return asking->ask->wanted.error > 0 ? price_error(asking, most, reterr) : E_OK;
}

static enum err prepare(struct asking *asking, struct err_info *reterr)
{
    struct query_result *result = asking->result;
    enum err err = proto_sql_parse(asking->ask->sql, &result->query, reterr);
    if (!err) {
        err = query_publishers(asking->context, result->query.dataset, &result->arena,
                               &asking->publishers, &asking->publisher_count, reterr);
    }
    if (!err) {
        err = choose_sites(asking, reterr);
    }
    if (err) {
        return err;
    }
    asking->model =
        query_publishers_schema(asking->context, asking->publishers, asking->publisher_count);
    result->schema = asking->publishers[asking->model].schema;
    err = proto_query_bind(&result->query, &result->schema, reterr);
    err = err ? err : check_min_sites(asking, reterr);
    if (!err) {
        err = query_layout_plan(&result->query, &asking->ask->limits, &result->layout, reterr);
    }
    err = err ? err : choose_price(asking, reterr);
    if (!err) {
        result->price =
            query_price((uint64_t)llround(result->epsilon * 1e6),
                        (uint64_t)llround(result->delta * 1e12), result->layout.thresholds);
        result->planned = query_layout_noise(&result->layout, result->price.nano, NULL) == E_OK;
        result->threshold = result->planned && result->layout.thresholds
                                ? query_release_threshold(&result->layout, result->price.delta0_e18)
                                : 0;
        err = crypto_random(result->id, sizeof result->id);
    }
    if (err) {
        return err; /* nobody was asked, so there are no sites to tell of */
    }
    result->site_count = asking->publisher_count;
    result->site = arena_alloc(&result->arena, asking->publisher_count, sizeof *result->site);
    result->replies = arena_alloc(&result->arena, asking->publisher_count, sizeof *result->replies);
    return result->site && result->replies ? E_OK : E_NO_MEMORY;
}

/* One signature for all: a site finds itself in the list, and what a member sends on for another one is refused by its link. */
static enum err encode_request(struct asking *asking, struct err_info *reterr)
{
    struct query_result *result = asking->result;
    const struct query_ask *ask = asking->ask;
    struct query_node_ref *sites =
        arena_alloc(&result->arena, asking->publisher_count, sizeof *sites);
    if (!sites) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < asking->publisher_count; i++) {
        sites[i].node = span_of(asking->publishers[i].member.id, 16);
    }
    struct proto_purpose purpose = ask->purpose;
    enum err err =
        query_agreement_name(asking->context, result->query.dataset, &result->arena, &purpose);
    if (err) {
        return err;
    }
    struct query_request request = {
        .version = QUERY_VERSION,
        .query_id = span_of(result->id, 16),
        .dataset = span_str(result->query.dataset),
        .schema_hash = span_of(asking->publishers[asking->model].schema_hash, 32),
        .sql = span_str(ask->sql),
        .epsilon_u = (uint64_t)llround(result->epsilon * 1e6),
        .delta_e12 = (uint64_t)llround(result->delta * 1e12),
        .secure = ask->secure,
        .explain = ask->explain,
        .purpose = purpose,
        .sites = {sites, asking->publisher_count},
        .rows_limit = ask->limits.rows,
        .groups_limit = ask->limits.groups,
        .time = query_now(),
    };
    asking->request.max = PEER_MESSAGE_MAX;
    return query_message_seal(&query_request_message, &request, QUERY_REQUEST_DOMAIN,
                              asking->context->identity, asking->context->federation_id,
                              &asking->request, reterr);
}

static void name_site(struct query_site *site, const struct query_publisher *publisher)
{
    memcpy(site->id, publisher->member.id, 16);
    snprintf(site->node, sizeof site->node, "%s", publisher->member.name);
    snprintf(site->org, sizeof site->org, "%s", publisher->member.org);
    site->size = publisher->dataset.size;
}

static void refuse_site(struct query_site *site, enum proto_reason reason, const char *detail)
{
    site->status = QUERY_SITE_REFUSED;
    site->error = proto_reason_err(reason);
    snprintf(site->reason, sizeof site->reason, "%s", proto_reason_name(reason));
    snprintf(site->detail, sizeof site->detail, "%s", detail);
}

static enum err make_calls(struct asking *asking, struct err_info *reterr)
{
    struct query_result *result = asking->result;
    enum err err = encode_request(asking, reterr);
    for (size_t i = 0; !err && i < asking->publisher_count; i++) {
        struct query_publisher *publisher = &asking->publishers[i];
        name_site(&result->site[i], publisher);
        if (!fits(asking, i)) {
            refuse_site(&result->site[i], PROTO_REASON_SCHEMA,
                        "the site's schema of the dataset differs, its sums do not add up with the "
                        "others'");
            continue;
        }
        struct peer_call *call = &asking->calls[asking->call_count];
        memcpy(call->to, publisher->member.id, 16);
        call->type = PEER_MSG_QUERY;
        call->body = buf_span(&asking->request);
        asking->call_site[asking->call_count++] = i;
        if (memcmp(call->to, asking->context->node_id, 16) !=
            0) { /* what we ask ourselves does not leave */
            store_egress_count(asking->context->store, publisher->member.name, "query",
                               asking->request.len);
        }
    }
    return err;
}

/* An answer that must not enter the sums: named in the result, and an event for the operator's log. */
static void drop_site(struct asking *asking, struct query_site *site, const char *reason,
                      const char *why)
{
    site->status = QUERY_SITE_UNAVAILABLE;
    site->error = E_UNREACHABLE;
    snprintf(site->reason, sizeof site->reason, "%s", reason);
    snprintf(site->detail, sizeof site->detail, "%s", why);
    char text[512];
    snprintf(text, sizeof text, "%s of %s: %s: %s", site->node, site->org, reason, why);
    asking->context->log(asking->context->user, PEER_LOG_WARN, "query.misbehaved", text);
}

static void read_site(struct asking *asking, struct query_site *site,
                      const struct query_answer *answer)
{
    span_to_cstr(answer->reason, site->reason, sizeof site->reason);
    span_to_cstr(answer->detail, site->detail, sizeof site->detail);
    span_to_cstr(answer->dataset_version, site->version, sizeof site->version);
    site->replayed = answer->replayed;
    site->cost_nano = answer->cost_nano;
    site->cap_nano = answer->cap_nano;
    site->spent_nano = answer->spent_nano;
    site->left_nano = answer->left_nano;
    site->budget_delta = (double)answer->account_delta_e12 / 1e12;
    site->epsilon_total = (double)answer->epsilon_total_u / 1e6;
    site->epsilon_per_query = (double)answer->epsilon_per_query_u / 1e6;
    site->clauses = answer->clauses.items;
    site->clause_count = answer->clauses.count;
    char name[64];
    if (answer->status == QUERY_REFUSED || answer->status == QUERY_WAITING) {
        bool waits = answer->status == QUERY_WAITING && answer->approval.ptr;
        site->status = waits ? QUERY_SITE_WAITING : QUERY_SITE_REFUSED;
        if (waits) {
            memcpy(site->approval, answer->approval.ptr, sizeof site->approval);
        }
        enum err err =
            span_to_cstr(answer->error, name, sizeof name) ? proto_err_by_name(name) : E_REFUSED;
        site->error = err ? err : E_REFUSED; /* whatever it says, it did not answer */
    } else if (answer->status == QUERY_UNAVAILABLE) {
        site->status = QUERY_SITE_UNAVAILABLE;
        site->error = E_UNREACHABLE;
        snprintf(site->reason, sizeof site->reason, "UNAVAILABLE");
    } else {
        site->status = QUERY_SITE_ANSWERED;
        const char *why;
        enum query_fault fault =
            asking->ask->explain
                ? QUERY_FAULT_NONE
                : query_partial_check(&asking->result->query, &asking->result->layout, site->size,
                                      answer, &why);
        if (fault) {
            drop_site(asking, site, query_fault_name(fault), why);
        }
    }
}

/* E_OK: ANSWER is this site's, as the connection that it came by says (node/peer/hello.c), and to this very question. */
static enum err open_answer(struct asking *asking, const struct peer_call *call,
                            struct query_site *site, struct query_answer *answer)
{
    struct err_info info = {0};
    if (call->status) {
        site->status = QUERY_SITE_UNREACHABLE;
        site->error = call->status == E_BUSY ? E_BUSY : E_UNREACHABLE;
        snprintf(site->reason, sizeof site->reason, "%s", proto_err_name(call->status));
        snprintf(site->detail, sizeof site->detail, "%s",
                 call->status == E_UNREACHABLE ? "the site cannot be reached"
                                               : proto_err_text(call->status));
        return call->status;
    }
    enum err err = query_answer_take(call->reply.bytes, &asking->result->arena, answer, &info);
    if (err) {
        drop_site(asking, site, "MALFORMED", info.text[0] ? info.text : proto_err_text(err));
    } else if (memcmp(answer->query_id.ptr, asking->result->id, 16) != 0) {
        /* A stored answer of the same question carries its first asking's id only inside the site's store. */
        err = E_AUTH;
        drop_site(asking, site, "REPLAYED", "the answer belongs to another question");
    }
    return err;
}

/* What came from one site: question, shape, range. */
static void read_answer(void *user, size_t at)
{
    struct asking *asking = user;
    struct query_result *result = asking->result;
    struct peer_call *call = &asking->calls[at];
    struct query_site *site = &result->site[asking->call_site[at]];
    const struct peer_member *member = &asking->publishers[asking->call_site[at]].member;
    struct query_answer *answer = &asking->answers[at];
    result->replies[asking->call_site[at]] = call->reply; /* the result's spans point into it */
    asking->read_count++;
    site->elapsed_ms = call->elapsed_ms;
    if (open_answer(asking, call, site, answer) == E_OK) {
        query_witness_keep(asking->context, member, answer->head);
        read_site(asking, site, answer);
    }
}

static void count_answers(struct query_result *result)
{
    result->replayed = true;
    for (size_t i = 0; i < result->site_count; i++) {
        if (result->site[i].status != QUERY_SITE_ANSWERED) {
            continue;
        }
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) {
            seen = result->site[j].status == QUERY_SITE_ANSWERED &&
                   strcmp(result->site[j].org, result->site[i].org) == 0;
        }
        result->answered++;
        result->answered_institutions += !seen;
        result->replayed = result->replayed && result->site[i].replayed;
    }
    result->replayed = result->replayed && result->answered > 0;
}

static enum err verdict(const struct asking *asking, struct err_info *reterr)
{
    const struct query_result *result = asking->result;
    size_t wanted = asking->ask->min_sites ? asking->ask->min_sites : 1;
    if (result->answered_institutions >= wanted) {
        return E_OK;
    }
    enum err worst = E_OK;
    const struct query_site *cause = NULL;
    for (size_t i = 0; i < result->site_count; i++) {
        enum err err = query_worst(worst, result->site[i].error);
        cause = err != worst ? &result->site[i] : cause;
        worst = err;
    }
    if (!cause) { /* enough sites were asked, and each that did not answer has an error */
        return proto_err_set(reterr, E_INTERNAL, "%zu of %zu institutions answered, %zu wanted",
                             result->answered_institutions, result->site_count, wanted);
    }
    return proto_err_set(reterr, worst, "%zu of %zu institutions answered, %zu wanted; %s: %s (%s)",
                         result->answered_institutions, result->site_count, wanted, cause->node,
                         cause->detail, cause->reason);
}

/* When the slowest site's answer may be expected. Explaining scans nothing. */
static uint64_t expected_ms(const struct asking *asking)
{
    const struct query_result *result = asking->result;
    uint64_t most = 0;
    for (size_t i = 0; i < asking->call_count && !asking->ask->explain; i++) {
        uint64_t ms = query_release_ms(&result->query, &result->layout,
                                       result->site[asking->call_site[i]].size,
                                       asking->context->release_tick_ms);
        most = ms > most ? ms : most;
    }
    return most;
}

static bool cancelled(void *user)
{
    const struct asking *asking = user;
    const struct query_ask *ask = asking->ask;
    if (ask->waiting) {
        ask->waiting(ask->user, asking->read_count, asking->call_count,
                     query_now_ms() - asking->started_ms, expected_ms(asking));
    }
    return ask->cancelled && ask->cancelled(ask->user);
}

/* In the order of the sites, so that the same answers give the same bits however they came in. */
static enum err add_up(struct asking *asking, struct err_info *reterr)
{
    struct query_result *result = asking->result;
    size_t room = asking->call_count + 1;
    const struct query_answer **answers = arena_alloc(&result->arena, room, sizeof *answers);
    struct query_site **sites = arena_alloc(&result->arena, room, sizeof *sites);
    size_t *withheld = arena_alloc(&result->arena, room, sizeof *withheld);
    size_t count = 0;
    if (!answers || !sites || !withheld) {
        return E_NO_MEMORY;
    }
    if (asking->ask->explain) {
        return query_table_columns(&result->query, &result->arena, &result->table);
    }
    for (size_t i = 0; i < asking->call_count; i++) {
        struct query_site *site = &result->site[asking->call_site[i]];
        if (site->status == QUERY_SITE_ANSWERED) {
            answers[count] = &asking->answers[i];
            sites[count++] = site;
        }
    }
    enum err err = query_partial_add(&result->query, &result->layout, answers, count,
                                     &result->arena, &result->cells, withheld);
    if (err == E_LIMIT) {
        return proto_err_set(reterr, err, "the answers have more groups than one answer may hold");
    }
    for (size_t i = 0; i < count && !err; i++) {
        sites[i]->withheld = withheld[i];
    }
    return err ? err
               : query_table_make(&result->query, &result->layout, &result->cells, &result->arena,
                                  &result->table);
}

static enum err run(struct asking *asking, struct err_info *reterr)
{
    struct query_result *result = asking->result;
    uint64_t timeout =
        asking->ask->timeout_ms ? asking->ask->timeout_ms : asking->context->timeout_ms;
    enum err err = peer_call_each(asking->context->peer, asking->calls, asking->call_count, timeout,
                                  read_answer, cancelled, asking);
    err = err ? err : add_up(asking, reterr);
    if (!err) {
        count_answers(result);
        err = verdict(asking, reterr);
    }
    return err;
}

enum err query_ask(struct query_context *context, const struct query_ask *ask,
                   struct query_result *ret, struct err_info *reterr)
{
    struct asking asking = {
        .context = context, .ask = ask, .result = ret, .started_ms = query_now_ms()};
    enum err err = query_clock_check(context->peer, reterr);
    err = err ? err : prepare(&asking, reterr);
    if (err) {
        return err;
    }
    asking.calls = arena_alloc(&ret->arena, asking.publisher_count, sizeof *asking.calls);
    asking.answers = arena_alloc(&ret->arena, asking.publisher_count, sizeof *asking.answers);
    asking.call_site = arena_alloc(&ret->arena, asking.publisher_count, sizeof *asking.call_site);
    err = asking.calls && asking.answers && asking.call_site ? make_calls(&asking, reterr)
                                                             : E_NO_MEMORY;
    if (!err) {
        err = run(&asking, reterr);
    } else {
        ret->site_count = 0; /* nobody was asked */
    }
    buf_fini(&asking.request);
    return err;
}

void query_result_fini(struct query_result *result)
{
    for (size_t i = 0; result->replies && i < result->site_count; i++) {
        peer_reply_fini(&result->replies[i]);
    }
    proto_query_fini(&result->query);
    arena_fini(&result->arena);
}
