#include "config.h"
#include "node/query/admission.h"

#include "node/query/agreement.h"
#include "node/query/known.h"
#include "node/query/project.h"
#include "node/query/visa.h"

#include "crypto/provider.h"

#include "proto/manifest.h"
#include "store/records.h"

static enum err load_schema(struct query_context *context, struct query_admission *admission,
                            struct err_info *reterr)
{
    const struct query_record *known;
    enum err err = query_record_get(context, context->node_id, admission->dataset,
                                    PROTO_RECORD_DATASET, &admission->arena, &known, NULL, reterr);
    if (err || !known->understood) {
        return err ? err
                   : proto_err_set(reterr, E_INVALID, "the record of dataset %s is not understood",
                                   admission->dataset);
    }
    admission->schema = known->schema;
    memcpy(admission->schema_hash, known->schema_hash, 32);
    return E_OK;
}

/* A body that is not understood denies; it is not a failure of ours. */
static enum err load_licence(struct query_context *context, const char *name,
                             struct query_admission *ret, struct err_info *reterr)
{
    const struct query_record *known;
    enum err err = query_record_get(context, context->node_id, name, PROTO_RECORD_LICENCE,
                                    &ret->arena, &known, &ret->forked, reterr);
    if (!err) {
        ret->has_record = true;
        ret->record = known->record;
        ret->has_licence =
            known->understood && !(known->record.envelope.flags & PROTO_RECORD_FINAL);
        if (ret->has_licence) {
            ret->licence = known->licence;
        }
    }
    return err == E_NOT_FOUND ? E_OK : err;
}

enum err query_admission_load(struct query_context *context, const char *dataset,
                              struct query_admission *ret, struct err_info *reterr)
{
    memset(ret, 0, sizeof *ret);
    if (!span_to_cstr(span_str(dataset), ret->dataset, sizeof ret->dataset)) {
        return proto_err_set(reterr, E_NOT_FOUND, "no dataset has such a name");
    }
    enum err err = store_catalogue_get(context->store, dataset, &ret->arena, &ret->row, reterr);
    if (err) {
        return err == E_NOT_FOUND
                   ? proto_err_set(reterr, err, "this node holds no dataset %s", dataset)
                   : err;
    }
    err = load_schema(context, ret, reterr);
    return err ? err : load_licence(context, dataset, ret, reterr);
}

enum err query_admission_load_model(struct query_context *context, const char *model,
                                    struct query_admission *ret, struct err_info *reterr)
{
    uint8_t key[16];
    struct span bytes;
    struct proto_record record;
    memset(ret, 0, sizeof *ret);
    ret->model = true;
    proto_record_key(&crypto_proto_hash, model, key);
    if (!span_to_cstr(span_str(model), ret->dataset, sizeof ret->dataset) ||
        store_records_get(context->store, context->node_id, key, PROTO_RECORD_MODEL, &ret->arena,
                          &bytes, NULL) ||
        proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ||
        (record.envelope.flags & PROTO_RECORD_FINAL)) {
        return proto_err_set(reterr, E_NOT_FOUND, "this node published no model %.64s", model);
    }
    enum err err = load_licence(context, model, ret, reterr);
    ret->has_licence = ret->has_licence && ret->licence.derived_from.count > 0;
    return err;
}

struct proto_party query_party(const struct peer_member *member)
{
    return (struct proto_party){.node = span_of(member->id, 16),
                                .org = span_str(member->org),
                                .org_type = span_str(member->org_type),
                                .country = span_str(member->country)};
}

/* A site that is no member stays a party of which nothing is known: it counts for no institution, and a clause about
 * the countries of the sites fails. RET_MEMBERS holds the bytes. */
static size_t gather(struct query_context *context, const struct query_node_ref *sites,
                     size_t count, struct peer_member *ret_members, struct proto_party *ret_parties)
{
    for (size_t i = 0; i < count; i++) {
        bool known = peer_member_by_id(context->peer, sites[i].node.ptr, &ret_members[i]);
        ret_parties[i] = known ? query_party(&ret_members[i]) : (struct proto_party){0};
    }
    return count;
}

/* What the agreement promised, beside what the question itself does. */
static enum err unite_promises(struct arena *arena, const struct proto_list *promised,
                               struct proto_purpose *purpose)
{
    struct proto_purpose outer = *purpose;
    struct proto_purpose both;
    outer.accepted = *promised;
    enum err err = proto_purpose_fill(&outer, purpose, arena, &both);
    purpose->accepted = both.accepted;
    return err;
}

/* What is known beside licence and request: agreements and projects. They only ever refuse, but for one thing: an
 * agreement was approved by a person where the licence wants that, so that what it covers waits for nobody. */
static void after_policy(bool agreed, bool bad_agreement, bool covered,
                         struct proto_decision *decision)
{
    if (decision->verdict == PROTO_DENY) {
        return;
    }
    if (bad_agreement || !covered) {
        decision->verdict = PROTO_DENY;
        decision->reason = bad_agreement ? PROTO_REASON_AGREEMENT : PROTO_REASON_PROJECT;
    } else if (decision->verdict == PROTO_HOLD && agreed) {
        decision->verdict = PROTO_PERMIT;
        decision->reason = PROTO_REASON_NONE;
    }
}

/* DUO leaves open whether data for one disease may serve methods development that is no study of it. The published
 * answer is yes, and what all nodes decide; a cautious site says no, for itself. */
static void refuse_methods(struct query_admission *admission, const struct proto_purpose *purpose)
{
    struct proto_decision *decision = &admission->decision;
    const struct proto_grant *grants = admission->licence.grants.items;
    if (decision->verdict != PROTO_DENY && purpose->permission == PROTO_DUO_MDS &&
        grants[decision->grant].permission == PROTO_DUO_DS) {
        decision->verdict = PROTO_DENY;
        decision->reason = PROTO_REASON_MODIFIER_NMDS;
    }
}

void query_admission_decide(struct query_context *context, struct query_admission *admission,
                            const struct peer_member *requester,
                            const struct proto_purpose *purpose, const struct proto_use *use,
                            const struct query_node_ref *sites, size_t site_count, int64_t now)
{
    struct proto_party party = query_party(requester);
    struct proto_party *parties = proto_alloc(site_count + 1, sizeof *parties);
    struct peer_member *members = proto_alloc(site_count + 1, sizeof *members);
    struct proto_request request;
    struct proto_purpose whole;
    struct query_agreed agreed;
    size_t count = parties && members ? gather(context, sites, site_count, members, parties) : 0;
    enum err found =
        query_agreement_find(context, admission, requester, purpose, use->actions, now, &agreed);
    whole = *purpose;
    if (agreed.found && unite_promises(&admission->arena, &agreed.accepted, &whole)) {
        whole.accepted = (struct proto_list){0}; /* no memory: nothing was promised */
    }
    proto_request_build(&party, &whole, use, parties, count, now, &request);
    request.agreement_start = agreed.found ? agreed.start : admission->agreement_start;
    query_visas_gather(context, requester->id, admission->has_licence ? &admission->licence : NULL,
                       &admission->arena, &request);
    proto_policy_decide(&request, admission->has_record ? &admission->record : NULL,
                        admission->has_licence ? &admission->licence : NULL, admission->forked,
                        context->ontology, &admission->decision);
    if (context->methods_on_ds_denied) {
        refuse_methods(admission, purpose);
    }
    admission->agreed = agreed.found;
    memcpy(admission->agreement, agreed.id, 16);
    after_policy(agreed.found, found != E_OK,
                 query_project_covers(context, requester->id, purpose, now), &admission->decision);
    proto_free(members);
    proto_free(parties);
}

void query_admission_foresee(struct query_context *context, const struct query_foreseen *what,
                             struct arena *arena, struct proto_decision *ret)
{
    struct peer_member self;
    struct query_agreed agreed = {0};
    struct proto_request request;
    struct proto_purpose whole = *what->purpose;
    const uint8_t *asks = what->requester ? what->requester->id : context->node_id;
    bool known = !what->requester && peer_member_by_id(context->peer, context->node_id, &self);
    struct proto_party party = what->requester ? query_party(what->requester)
                               : known         ? query_party(&self)
                                               : (struct proto_party){0};
    /* Which agreements others hold with one another nobody else knows: a term that needs one then fails. */
    if (!what->requester || memcmp(asks, context->node_id, 16) == 0) {
        query_agreement_held(context, what->site->id, what->dataset, what->purpose,
                             what->use->actions, what->now, arena, &agreed);
    }
    if (agreed.found && unite_promises(arena, &agreed.accepted, &whole)) {
        whole.accepted = (struct proto_list){0};
    }
    proto_request_build(&party, &whole, what->use, what->sites, what->site_count, what->now,
                        &request);
    request.agreement_start = agreed.found ? agreed.start : what->agreement_start;
    query_visas_gather(context, asks, what->licence, arena, &request);
    proto_policy_decide(&request, what->record, what->licence, what->forked, context->ontology,
                        ret);
    after_policy(agreed.found && !what->model, false,
                 query_project_covers(context, asks, what->purpose, what->now), ret);
}

enum err query_admission_clauses(const struct query_admission *admission, struct arena *arena,
                                 struct proto_list *ret)
{
    const struct proto_decision *decision = &admission->decision;
    const struct proto_licence *licence = admission->has_licence ? &admission->licence : NULL;
    struct query_clause *clauses =
        arena_alloc(arena, decision->clause_count ? decision->clause_count : 1, sizeof *clauses);
    size_t count = 0;
    if (!clauses) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < decision->clause_count && count < QUERY_CLAUSES_MAX; i++) {
        const struct proto_clause *clause = &decision->clauses[i];
        if (clause->result == PROTO_CLAUSE_PASS) {
            continue;
        }
        char name[PROTO_CLAUSE_NAME_SIZE], expected[PROTO_CLAUSE_EXPECTED_SIZE];
        const char *copy = arena_strdup(arena, span_str(proto_clause_name(licence, clause, name)));
        const char *wanted =
            arena_strdup(arena, span_str(proto_clause_expected(licence, clause, expected)));
        if (!copy || !wanted) {
            return E_NO_MEMORY;
        }
        clauses[count++] = (struct query_clause){
            .clause = span_str(copy),
            .expected = span_str(wanted),
            .result = clause->result,
            .reason = span_str(proto_reason_name((enum proto_reason)clause->reason)),
            .grant = clause->grant,
        };
    }
    *ret = (struct proto_list){clauses, count};
    return E_OK;
}

static struct store_cap share_of(const struct store_account *account, uint64_t share_u)
{
    typedef unsigned __int128 wide;
    return (struct store_cap){
        .capped = share_u < QUERY_SHARE_ALL,
        .nano = (uint64_t)((wide)account->cap_nano * share_u / QUERY_SHARE_ALL),
        .delta0_e18 = (uint64_t)((wide)account->delta0_e18 * share_u / QUERY_SHARE_ALL),
    };
}

struct store_caps query_admission_caps(struct query_context *context,
                                       const struct store_account *account)
{
    struct peer_member none;
    size_t room = peer_members(context->peer, &none, 0) + 1; /* for one that joins meanwhile */
    struct peer_member *members = proto_alloc(room, sizeof *members);
    const struct query_shares *shares = &context->shares;
    struct store_caps caps = {.institution = share_of(account, shares->institution_u),
                              .person = share_of(account, shares->person_u),
                              .project = share_of(account, shares->project_u)};
    size_t count = members ? peer_members(context->peer, members, room) : 0;
    count = count < room ? count : room;
    bool alone = count > 0;
    for (size_t i = 1; i < count && alone; i++) {
        alone = strcmp(members[i].org, members[0].org) == 0;
    }
    if (alone) {
        caps.institution.capped = false;
    }
    proto_free(members);
    return caps;
}

void query_admission_digest(const struct query_context *context,
                            const struct query_admission *admission, char ret[65])
{
    static const uint8_t none[PROTO_HASH_SIZE];
    uint8_t digest[32];
    struct buf bytes = {.max = PROTO_DECISION_BYTES_MAX};
    ret[0] = 0;
    if (!proto_decision_encode(admission->has_licence ? &admission->licence : NULL,
                               &admission->decision, &bytes, NULL)) {
        const struct span parts[] = {
            span_of("concordat1-decision", 20),
            span_of(context->ontology ? context->ontology->digest : none, PROTO_HASH_SIZE),
            span_of(admission->has_record ? admission->record.id : none, 16), buf_span(&bytes)};
        crypto_sha256(parts, 4, digest);
        span_to_hex(span_of(digest, sizeof digest), ret);
    }
    buf_fini(&bytes);
}

void query_admission_fini(struct query_admission *admission)
{
    arena_fini(&admission->arena);
}

static enum err put_json_string(struct buf *out, const char *text)
{
    enum err err = buf_put(out, span_str("\""));
    for (; !err && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            err = buf_printf(out, "\\%c", c);
        } else if (c < 0x20) {
            err = buf_printf(out, "\\u%04x", c);
        } else {
            err = buf_put(out, span_of(text, 1));
        }
    }
    return err ? err : buf_put(out, span_str("\""));
}

enum err query_audit_text(struct buf *out, ...)
{
    va_list args;
    va_start(args, out);
    enum err err = buf_put(out, span_str("{"));
    const char *key;
    for (size_t i = 0; !err && (key = va_arg(args, const char *)) != NULL; i++) {
        const char *value = va_arg(args, const char *);
        err = i ? buf_put(out, span_str(",")) : E_OK;
        if (!err) {
            err = put_json_string(out, key);
        }
        if (!err) {
            err = buf_put(out, span_str(":"));
        }
        if (!err) {
            err = put_json_string(out, value ? value : "");
        }
    }
    va_end(args);
    return err ? err : buf_put(out, span_str("}"));
}
