/* A site's part in a job: is the plan admitted, what does it cost, and what is given back when the job ends. */
#include "config.h"
#include "node/train/site_internal.h"

#include "crypto/random.h"
#include "node/query/site.h"
#include "store/egress.h"
#include "store/audit.h"
#include "store/blob.h"
#include "store/job.h"

/* What the model owes travels with the admission. */
static enum err terms_out(struct site_work *work)
{
    const struct proto_decision *decision = &work->admission.decision;
    struct proto_text *duties = arena_alloc(&work->arena, decision->duty_count, sizeof *duties);
    if (!duties) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < decision->duty_count; i++) {
        duties[i].text = decision->duties[i].id;
    }
    work->admit.duties = (struct proto_list){duties, decision->duty_count};
    work->admit.release = decision->release;
    work->admit.licence_id = span_of(work->admission.record.id, 16);
    return E_OK;
}

/* A plan without noise, or one on data whose licence asks for none, is not charged. */
static enum err accounts(struct site_work *work, struct store_account *ret_domain,
                         struct err_info *reterr)
{
    *ret_domain = (struct store_account){.order = 2};
    work->account = *ret_domain;
    if (!work->plan.noise || !work->admission.decision.charged) {
        return E_OK;
    }
    enum err err = store_ledger_get(work->context->store, work->dataset, &work->account, reterr);
    return err ? err
               : store_ledger_domain_get(work->context->store, work->account.domain, ret_domain,
                                         reterr);
}

static enum err price(struct site_work *work, struct err_info *reterr)
{
    struct store_account domain;
    struct err_info info = {0};
    enum err err = accounts(work, &domain, reterr);
    if (err) {
        return err;
    }
    /* The size that the world knows of; the true number of units is nobody's business. */
    struct train_terms terms =
        train_plan_terms(&work->plan, work->admission.row.size ? work->admission.row.size : 1);
    err = train_cost_plan(&terms, work->account.order, &work->cost, &info);
    if (err) {
        return err == E_NO_MEMORY ? err : site_refuse(work, PROTO_REASON_BAD_REQUEST, info.text);
    }
    work->admit.size = terms.size;
    work->admit.sigma = work->cost.sigma;
    work->admit.steps = work->cost.steps;
    if (!work->plan.noise) {
        return E_OK;
    }
    work->domain_step_nano =
        proto_privacy_sgd_step_nano(work->cost.rate, work->cost.sigma, domain.order);
    work->admit.cost_nano = train_cost_total(&work->cost);
    if (work->cost.step_nano == UINT64_MAX || work->domain_step_nano == UINT64_MAX ||
        work->admit.cost_nano > INT64_MAX) {
        return site_refuse(work, PROTO_REASON_BUDGET, "a step costs more than any budget");
    }
    return E_OK;
}

static bool charged(const struct site_work *work)
{
    return work->plan.noise && work->admission.decision.charged;
}

static void fill_budget(struct site_work *work)
{
    work->admit.cap_nano = work->account.cap_nano;
    work->admit.spent_nano = work->account.spent_nano;
    work->admit.account_delta_e12 = store_account_conversion_e12(&work->account);
}

static struct store_charge charge_of(struct site_work *work, enum site_charge kind, uint64_t nano,
                                     uint64_t nano_domain, uint64_t steps)
{
    struct store_charge charge = {
        .dataset = work->dataset,
        .person = work->person,
        .project = work->project,
        .institution = work->requester.org,
        .node = work->requester.name,
        .kind = STORE_CHARGE_TRAIN,
        .nano = nano,
        .nano_domain = nano_domain,
        .steps = steps,
        .caps = query_admission_caps(work->context, &work->account),
        .now = query_now(),
    };
    site_charge_id(work, kind, charge.id);
    return charge;
}

static struct store_charge charge_number(struct site_work *work, enum site_charge kind)
{
    const struct train_cost *cost = &work->cost;
    if (kind == SITE_CHARGE_STEPS) {
        return charge_of(work, SITE_CHARGE_STEPS, cost->step_nano, work->domain_step_nano,
                         cost->steps * cost->rounds);
    }
    return kind == SITE_CHARGE_SUMS ? charge_of(work, SITE_CHARGE_SUMS, cost->sums_nano,
                                                cost->sums_nano, cost->evaluations)
                                    : charge_of(work, SITE_CHARGE_HISTOGRAM, cost->hist_nano,
                                                cost->hist_nano, cost->hist_nano ? 1 : 0);
}

/* Gives back what never started. What was never reserved, or was finished before, is fine. */
static enum err finish_charges(struct site_work *work, struct err_info *reterr)
{
    enum err result = E_OK;
    struct buf body = {.max = STORE_AUDIT_BODY};
    enum err err = site_audit_body(work, "FINISHED", &body);
    for (int kind = 0; !err && kind < SITE_CHARGES; kind++) {
        uint8_t id[16];
        uint64_t started;
        site_charge_id(work, (enum site_charge)kind, id);
        enum err one = store_ledger_finish(work->context->store, id, buf_span(&body), query_now(),
                                           &started, reterr);
        result = one == E_NOT_FOUND || one == E_EXISTS ? result : (one ? one : result);
    }
    buf_fini(&body);
    return err ? err : result;
}

/* All or nothing. A reservation that is there already is ours from before a crash: its id holds the plan's hash. A job that goes on
 * takes what it gave back when it was stopped. */
static enum err reserve(struct site_work *work, struct err_info *reterr)
{
    struct buf body = {.max = STORE_AUDIT_BODY};
    struct err_info info = {0};
    enum err err = site_audit_body(work, "PERMIT", &body);
    for (int kind = 0; !err && charged(work) && kind < SITE_CHARGES; kind++) {
        struct store_charge charge = charge_number(work, (enum site_charge)kind);
        charge.audit_body = buf_span(&body);
        if (charge.steps == 0) {
            continue;
        }
        err = work->goes_on
                  ? store_ledger_reopen(work->context->store, &charge, &work->account, &info)
                  : store_ledger_reserve(work->context->store, &charge, &work->account, &info);
        err = err == E_EXISTS ? E_OK : err;
    }
    buf_fini(&body);
    if (err == E_BUDGET_EXHAUSTED) {
        enum err back = finish_charges(work, reterr);
        return back ? back : site_refuse(work, PROTO_REASON_BUDGET, info.text);
    }
    return err ? proto_err_set(reterr, err, "%s", info.text) : E_OK;
}

/* What --explain asks: would the ledger admit the whole of it? */
static enum err probe(struct site_work *work, struct err_info *reterr)
{
    if (!charged(work)) {
        return E_OK;
    }
    uint64_t domain = work->admit.cost_nano;
    uint64_t steps = work->cost.steps * work->cost.rounds;
    domain = domain - steps * work->cost.step_nano + steps * work->domain_step_nano;
    struct store_charge charge =
        charge_of(work, SITE_CHARGE_STEPS, work->admit.cost_nano, domain, 1);
    enum err err = store_ledger_probe(work->context->store, &charge, NULL, reterr);
    return err == E_BUDGET_EXHAUSTED
               ? site_refuse(work, PROTO_REASON_BUDGET, reterr ? reterr->text : NULL)
               : err;
}

static enum err seal_admit(struct site_work *work, bool admitted, struct err_info *reterr)
{
    struct train_admit *admit = &work->admit;
    enum err err = site_head(work, &admit->head);
    admit->version = TRAIN_VERSION;
    admit->job_id = work->job_id;
    admit->plan_hash = span_of(work->plan_hash, 32);
    admit->admitted = admitted;
    admit->error = span_str(proto_err_name(admitted ? E_OK : proto_reason_err(work->reason)));
    admit->reason = span_str(admitted ? "" : proto_reason_name(work->reason));
    admit->detail = span_str(work->detail);
    if (!admit->licence_id.ptr) {
        static const uint8_t none[16];
        admit->licence_id = span_of(none, sizeof none);
    }
    fill_budget(work);
    work->bytes.len = 0;
    return err ? err
               : query_message_seal(&train_admit_message, admit, TRAIN_ADMIT_DOMAIN,
                                    work->context->identity, work->context->federation_id,
                                    &work->bytes, reterr);
}

/* E_EXISTS: the same plan was admitted before and its answer is in bytes. Of a job that was stopped it is decided anew. */
static enum err known(struct site_work *work, struct err_info *reterr)
{
    enum err err =
        train_part_load(work->service, work->job_id.ptr, &work->arena, &work->part, reterr);
    if (err) {
        return err == E_NOT_FOUND ? E_OK : err;
    }
    if (!site_may_coordinate(work)) {
        return site_refuse(work, PROTO_REASON_BAD_REQUEST, "another node coordinates this job");
    }
    struct proto_round_site site;
    struct proto_round_site_reply answer;
    train_part_machine(&work->part, 0, &site);
    err = site_ask_machine(work, PROTO_ROUND_SITE_PLAN, &site, &answer);
    if (err) {
        return err;
    }
    work->goes_on = work->part.end == TRAIN_END_STOPPED;
    bool later = site.term > work->part.term;
    work->part.term = site.term;
    if (work->goes_on) {
        return E_OK;
    }
    err = later ? site_part_store(work, reterr) : E_OK;
    err = err ? err : buf_put(&work->bytes, work->part.admit);
    return err ? err : E_EXISTS;
}

/* What a step does and costs is fixed for all of a job: both follow from its plan and from what this site declares. */
static enum err check_goes_on(struct site_work *work)
{
    const struct train_cost before = train_part_cost(&work->part), *now = &work->cost;
    bool same = memcmp(&before.sigma, &now->sigma, sizeof before.sigma) == 0 &&
                memcmp(&before.rate, &now->rate, sizeof before.rate) == 0 &&
                before.steps == now->steps && before.rounds == now->rounds &&
                before.evaluations == now->evaluations && before.sums_nano == now->sums_nano &&
                before.hist_nano == now->hist_nano && work->part.charged == charged(work);
    return same ? E_OK
                : site_refuse(work, PROTO_REASON_BAD_REQUEST,
                              "what the job costs here has changed since it was stopped");
}

static enum err keep_part(struct site_work *work, struct err_info *reterr)
{
    struct proto_round_site site = {.state = PROTO_ROUND_SITE_NONE};
    struct proto_round_site_reply answer;
    if (work->goes_on) {
        work->part.admit = buf_span(&work->bytes);
        work->part.end = TRAIN_END_NONE;
        return site_part_store(work, reterr);
    }
    uint8_t *key = arena_alloc(&work->arena, 16, 1);
    enum err err = key ? crypto_random(key, 16) : E_NO_MEMORY;
    if (!err) {
        err = site_ask_machine(work, PROTO_ROUND_SITE_PLAN, &site, &answer);
    }
    if (err) {
        return err;
    }
    work->part = (struct train_part){
        .version = TRAIN_VERSION,
        .job_id = work->job_id,
        .plan_hash = span_of(work->plan_hash, 32),
        .coordinator = span_of(work->requester.id, 16),
        .key = span_of(key, 16),
        .plan = work->offer.plan,
        .admit = buf_span(&work->bytes),
        .rate = work->cost.rate,
        .sigma = work->cost.sigma,
        .size = work->admit.size,
        .steps = work->cost.steps,
        .rounds = work->cost.rounds,
        .evaluations = work->cost.evaluations,
        .sums_nano = work->cost.sums_nano,
        .hist_nano = work->cost.hist_nano,
        .term = site.term,
        .charged = charged(work),
        .update = span_str(""),
        .control = span_str(""),
        .pending = span_str(""),
        .time = query_now(),
    };
    return site_part_store(work, reterr);
}

static enum err admit(struct site_work *work, struct err_info *reterr)
{
    enum err err = site_understand(work, reterr);
    if (!err) {
        err = site_decide(work, &work->admission);
        enum err out = work->offer.explain ? query_admission_clauses(&work->admission, &work->arena,
                                                                     &work->admit.clauses)
                                           : E_OK;
        err = out ? out : err;
    }
    if (!err) {
        err = site_decide_base(work, &work->admission, true);
    }
    if (!err && !work->offer.explain) {
        err = known(work, reterr);
    }
    if (!err) {
        err = site_check_licences(work);
    }
    if (!err) {
        err = terms_out(work);
    }
    if (!err) {
        err = price(work, reterr);
    }
    if (!err && work->goes_on) {
        err = check_goes_on(work);
    }
    if (!err) {
        err = site_wait_for_person(work, reterr);
    }
    if (!err) {
        err = work->offer.explain ? probe(work, reterr) : reserve(work, reterr);
    }
    if (!err) {
        err = seal_admit(work, true, reterr);
    }
    if (!err && !work->offer.explain) {
        err = keep_part(work, reterr);
    }
    return err == E_EXISTS ? E_OK : err;
}

static enum err open_offer(struct site_work *work, struct err_info *reterr)
{
    enum err err = site_open(work, &train_offer_message, TRAIN_PLAN_DOMAIN, &work->offer, reterr);
    if (!err) {
        err = site_addressed(work, work->offer.to, work->offer.time, reterr);
    }
    if (!err) {
        err = proto_codec_decode(&train_plan_message, work->offer.plan, &work->arena, &work->plan,
                                 reterr);
    }
    if (!err) {
        train_plan_hash(work->offer.plan, work->plan_hash);
        err = site_name_plan(work, reterr);
    }
    return err;
}

/* A refusal is an answer: signed, audited, sent. Anything else that went wrong is told without its cause. */
static enum err finish_offer(struct site_work *work, enum err err, const struct err_info *info)
{
    struct err_info second = {0};
    if (!err) {
        return E_OK;
    }
    if (err != E_REFUSED) {
        site_log(work, "train.failed", info->text[0] ? info->text : proto_err_name(err));
        (void)site_refuse(work, PROTO_REASON_SUSPENDED, "the site cannot answer now");
    }
    if (!work->offer.explain &&
        site_audit(work, "train.refused", proto_reason_name(work->reason), &second)) {
        site_log(work, "audit.failed", second.text);
        return E_IO;
    }
    return seal_admit(work, false, NULL);
}

void train_site_plan(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct site_work *work = site_work_new(service, request);
    if (!work || site_refusing(service->context) || service->stopping) {
        enum err err = work ? E_BUSY : E_NO_MEMORY;
        if (work) {
            site_work_free(work);
        }
        peer_reply(request, err, SPAN_NONE);
        return;
    }
    enum err err = open_offer(work, &info);
    if (err || work->offer.end) {
        site_reply(work, err ? err : E_INVALID);
        return;
    }
    pthread_mutex_lock(&service->offers);
    err = admit(work, &info);
    pthread_mutex_unlock(&service->offers);
    err = err == E_BUSY ? err : finish_offer(work, err, &info);
    if (!err && memcmp(work->requester.id, service->context->node_id, 16) != 0) {
        store_egress_count(service->context->store, work->requester.name, "train", work->bytes.len);
    }
    site_reply(work, err);
}

/* --- the end ----------------------------------------------------------------------------------------------------------- */

/* Nobody asks for what was computed any more. */
static void forget_update(struct site_work *work)
{
    if (work->part.update.len == 32) {
        train_share_drop(work->service, work->job_id.ptr, work->part.update.ptr);
        (void)!store_blob_remove(work->context->store, work->part.update.ptr, NULL);
    }
    work->part.update = span_str("");
    site_control_end(work);
}

static enum err stop_part(struct site_work *work, struct err_info *reterr)
{
    struct proto_round_site site = {.state = PROTO_ROUND_SITE_NONE};
    struct proto_round_site_reply answer;
    struct train_effort *alone;
    enum err err = site_effort_close(work->service, work->job_id.ptr, &alone);
    if (err) {
        return err;
    }
    err = train_part_load(work->service, work->job_id.ptr, &work->arena, &work->part, reterr);
    if (!err && !site_may_coordinate(work)) {
        err = site_refuse(work, PROTO_REASON_BAD_REQUEST, "another node coordinates this job");
    } else if (!err || err == E_NOT_FOUND) {
        if (!err) {
            train_part_machine(&work->part, 0, &site);
        }
        err = site_ask_machine(work, PROTO_ROUND_SITE_STOP, &site, &answer);
    }
    if (!err) {
        err = finish_charges(work, reterr);
    }
    bool stopped = work->part.end == TRAIN_END_STOPPED;
    if (!err && (!work->part.end || (stopped && work->offer.end != TRAIN_END_STOPPED))) {
        work->part.end = work->offer.end;
        if (work->part.end != TRAIN_END_STOPPED) {
            forget_update(work); /* else it goes on with what it has */
        }
        err = site_part_store(work, reterr);
        if (!err) {
            site_control_settled(work);
        }
    }
    site_effort_leave(work->service, alone);
    return err ? err : seal_admit(work, true, reterr);
}

void train_site_stop(struct peer_request *request, void *user)
{
    struct train_service *service = user;
    struct err_info info = {0};
    struct site_work *work = site_work_new(service, request);
    if (!work) {
        peer_reply(request, E_NO_MEMORY, SPAN_NONE);
        return;
    }
    enum err err = open_offer(work, &info);
    if (err || !work->offer.end) {
        site_reply(work, err ? err : E_INVALID);
        return;
    }
    site_reply(work, finish_offer(work, stop_part(work, &info), &info));
}
