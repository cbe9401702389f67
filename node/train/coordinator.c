/* The coordinator's side of a job: what to do next is decided by proto/round.h; here it is done. A thread asks the sites for
 * what the machine wants to be sent, tells it what came back, takes the mean of the rounds that it closes, and keeps each result
 * before the next is asked for. */
#include "config.h"
#include "node/train/coordinator_internal.h"

#include "crypto/provider.h"
#include "node/query/ask.h"
#include "node/query/site.h"
#include "store/egress.h"
#include "store/job.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define PAUSE_MS      500
#define ROUND_RETRIES 2
#define LAST_WORD_MS  5000

static bool job_cancelled(void *user)
{
    const struct train_job *job = user;
    return job->stop || job->service->stopping || job->deposed;
}

/* On our disk, and on its way to the nodes that stand by. */
static enum err save(struct train_job *job, struct train_keeping *keeping, struct err_info *reterr)
{
    struct buf out = {.max = STORE_JOB_MAX};
    pthread_mutex_lock(&job->service->lock);
    const struct proto_round *machine = &job->state.machine;
    bool ours = job->lease.leading && !job->deposed;
    enum err err = ours ? E_OK : E_CANCELLED;
    job->state.promised = job->lease.promised;
    if (!err) {
        proto_lease_wrote(&job->lease, ++job->state.save);
        err = train_job_state_encode(&job->state, &out, reterr);
    }
    pthread_mutex_unlock(&job->service->lock);
    if (!err) {
        err = store_job_put(job->service->context->store, job->state.id, buf_span(&out), reterr);
    }
    if (!err && keeping) {
        err = train_keeping_put(keeping, buf_span(&out), machine->term, job->state.save);
    }
    buf_fini(&out);
    return err;
}

/* Nobody is shown a round that could still be lost. */
static void show_round(struct train_job *job)
{
    pthread_mutex_lock(&job->service->lock);
    job->state.saved = job->state.round;
    pthread_mutex_unlock(&job->service->lock);
}

static void pause_for(uint64_t ms)
{
    struct timespec pause = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0) {
    }
}

/* One coordinator's life with a job. */
struct drive {
    struct train_job *job;
    struct train_keeping *keeping; /* NULL: nobody stands by */
    struct arena arena;
    struct train_plan plan;
    struct outcome outcome;
    struct peer_blob control; /* of the round; size 0: none */
    struct proto_round_actions out;
    /* What the machine wants: */
    uint64_t plans, rounds, stops; /* bits of sites */
    uint64_t save;                 /* number of the PERSIST; 0: none */
    uint64_t timer_ms;
    bool over;
    enum proto_round_state final;
    bool stop_told;
    bool contradicted; /* a site means another model or other licences: the job must not begin */
    enum err err;      /* of an action */
    struct train_server_state
        replaced; /* blobs of the round before, to go once the new ones are on record */
    uint8_t replaced_mean[32];
};

static struct store *store_of(const struct drive *drive)
{
    return drive->job->service->context->store;
}

/* --- blobs ------------------------------------------------------------------------------------------------------------- */

static void remove_blob(const struct drive *drive, const uint8_t hash[32])
{
    if (!train_hash_none(hash)) {
        (void)!store_blob_remove(store_of(drive), hash, NULL);
    }
}

/* Single updates are not kept. That of our own site is still its own. */
static void drop_updates(struct drive *drive)
{
    const struct train_job_state *state = &drive->job->state;
    for (size_t i = 0; i < state->site_count; i++) {
        struct heard *heard = &drive->outcome.heard[i];
        if (heard->updated &&
            memcmp(state->sites[i].id, drive->job->service->context->node_id, 16) != 0) {
            remove_blob(drive, heard->hash);
        }
        heard->updated = false;
    }
}

/* What the state on disk no longer names. The first weights stay: all else can be computed again from them and the means. */
static void drop_replaced(struct drive *drive)
{
    const struct train_job_state *state = &drive->job->state;
    const struct train_server_state *old = &drive->replaced;
    if (memcmp(old->weights, state->server.weights, 32) != 0 &&
        memcmp(old->weights, drive->plan.start.ptr, 32) != 0) {
        remove_blob(drive, old->weights);
        train_share_drop(drive->job->service, state->id, old->weights);
    }
    if (memcmp(old->first, state->server.first, 32) != 0) {
        remove_blob(drive, old->first);
        train_share_drop(drive->job->service, state->id, old->first);
    }
    if (memcmp(old->second, state->server.second, 32) != 0) {
        remove_blob(drive, old->second);
    }
    if (!train_keeps_means(state)) {
        remove_blob(drive, drive->replaced_mean);
    }
    memset(&drive->replaced, 0, sizeof drive->replaced);
    memset(drive->replaced_mean, 0, 32);
}

/* The sites may fetch it. */
static enum err share(struct drive *drive, const uint8_t hash[32], const char *kind)
{
    const struct train_plan_site *sites = drive->plan.sites.items;
    struct query_node_ref nodes[TRAIN_SITES_MAX];
    for (size_t i = 0; i < drive->plan.sites.count; i++) {
        nodes[i].node = sites[i].node;
    }
    struct proto_list list = {nodes, drive->plan.sites.count};
    return train_share_put(drive->job->service, drive->job->state.id, hash, kind, &list);
}

static enum err share_model(struct drive *drive)
{
    enum err err =
        drive->plan.model.len == 32 ? share(drive, drive->plan.model.ptr, "model") : E_OK;
    return err || drive->plan.model_base.len != 32
               ? err
               : share(drive, drive->plan.model_base.ptr, "model");
}

/* --- rounds ------------------------------------------------------------------------------------------------------------ */

static void note_refusal(struct train_site *site, const struct train_update *update)
{
    char name[65];
    if (!span_to_cstr(update->reason, site->reason, sizeof site->reason)) {
        snprintf(site->reason, sizeof site->reason, "REFUSED");
    }
    snprintf(site->detail, sizeof site->detail, "%.*s",
             (int)(update->detail.len < 250 ? update->detail.len : 250),
             (const char *)update->detail.ptr);
    site->error =
        span_to_cstr(update->error, name, sizeof name) ? proto_err_by_name(name) : E_REFUSED;
    snprintf(site->state, sizeof site->state, "refused");
}

static const char *reason_of(const struct train_site *site)
{
    bool good = site->reason[0] && proto_utf8_valid(span_str(site->reason));
    return good ? site->reason : proto_err_name(site->error ? site->error : E_REFUSED);
}

/* What an answer does to what is known of the site. RET: what the machine is to be told. */
static void take_answer(struct drive *drive, struct asked *asked, struct proto_round_event *ret)
{
    struct train_site *site = &drive->job->state.sites[asked->site];
    struct outcome *outcome = &drive->outcome;
    enum err err = asked->call.status ? asked->call.status : asked->err;
    if (!err && asked->update.answer == TRAIN_REFUSED) {
        note_refusal(site, &asked->update);
        ret->kind = PROTO_ROUND_SITE_REFUSED;
        return;
    }
    err = err ? err
              : figures_hear(&drive->job->state, &drive->plan, &asked->update,
                             &outcome->heard[asked->site]);
    asked->taken = asked->taken && err; /* else it is the outcome's */
    snprintf(site->state, sizeof site->state, err ? "absent" : "admitted");
    err = err == E_AUTH ? E_INVALID : err;
    snprintf(site->reason, sizeof site->reason, "%s",
             asked->reason[0] ? asked->reason : (err ? proto_err_name(err) : ""));
    site->detail[0] = '\0';
    site->error = err && err != E_BUSY ? E_UNREACHABLE : err;
    if (!err) {
        /* The whole signed answer: a site keeps it, and gives the same bytes to whoever asks again. */
        const struct span bytes = asked->call.reply.bytes;
        ret->kind = PROTO_ROUND_SITE_UPDATED;
        crypto_sha256(&bytes, 1, ret->hash);
    }
}

/* Notes what came from a site in OUTCOME and says in RET what the machine is to be told. The lock is held. */
static void read_update(struct drive *drive, struct asked *asked, struct proto_round_event *ret)
{
    struct train_job *job = drive->job;
    struct train_site *site = &job->state.sites[asked->site];
    *ret = (struct proto_round_event){.kind = PROTO_ROUND_SITE_FAILED,
                                      .site = asked->site,
                                      .round = drive->outcome.number,
                                      .term = job->state.machine.term};
    drive->outcome.bytes_up += asked->bytes;
    site->done = site->total = 0;
    if (!asked->call.status && !asked->err && asked->update.steps_started > site->steps_started) {
        site->steps_started = asked->update.steps_started;
    }
    take_answer(drive, asked, ret);
    ret->reason = reason_of(site);
}

/* The last round whose mean has the site's update; 0: none. */
static uint64_t last_counted(const struct train_job_state *state, const struct train_site *site)
{
    size_t at = state->history_count;
    while (at && !(state->history[at - 1].participants >> (site - state->sites) & 1)) {
        at--;
    }
    return at ? state->history[at - 1].round : 0;
}

static enum err seal_round(struct train_job *job, const struct train_site *site, uint64_t number,
                           bool evaluate, const struct peer_blob *weights,
                           const struct peer_blob *control, struct buf *out,
                           struct err_info *reterr)
{
    struct train_round round = {
        .version = TRAIN_VERSION,
        .to = span_of(site->id, 16),
        .job_id = span_of(job->state.id, 16),
        .plan_hash = span_of(job->state.plan_hash, 32),
        .round = number,
        .term = job->state.machine.term,
        .evaluate = evaluate,
        .weights = train_blob_of(weights),
        .control = control ? train_blob_of(control) : TRAIN_BLOB_NONE,
        .counted = last_counted(&job->state, site),
        .time = query_now(),
    };
    return query_message_seal(&train_round_message, &round, TRAIN_ROUND_DOMAIN,
                              job->service->context->identity, job->service->context->federation_id,
                              out, reterr);
}

static enum err ask_update(struct drive *drive, size_t index, const struct peer_blob *weights,
                           struct asked *asked, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct outcome *outcome = &drive->outcome;
    const struct train_site *site = &job->state.sites[index];
    asked_init(asked, job->service, site, index, PEER_MSG_TRAIN_ROUND, job->state.round_timeout_ms,
               job_cancelled, job);
    asked->final = asked_round;
    asked->job = job;
    asked->number = outcome->number;
    asked->norm_bound = drive->plan.norm_bound;
    enum err err =
        seal_round(job, site, outcome->number, outcome->evaluate, weights,
                   drive->control.size ? &drive->control : NULL, &asked->request, reterr);
    asked->call.body = buf_span(&asked->request);
    outcome->asked |= UINT64_C(1) << index;
    outcome->bytes_down += asked->request.len;
    if (memcmp(site->id, job->service->context->node_id, 16) != 0) {
        outcome->bytes_down += weights->size + drive->control.size;
        store_egress_count(job->service->context->store, site->node, "train", asked->request.len);
    }
    return err;
}

/* The weights of this round, which the sites may fetch from now on. */
static enum err offer_weights(struct drive *drive, struct peer_blob *ret, struct err_info *reterr)
{
    const struct train_server_state *server = &drive->job->state.server;
    enum err err = peer_blob_describe(store_of(drive), server->weights, ret, reterr);
    err = err ? err : share(drive, server->weights, "weights");
    drive->control.size = 0;
    if (!err && drive->plan.method == PROTO_SCAFFOLD && !train_hash_none(server->first)) {
        err = peer_blob_describe(store_of(drive), server->first, &drive->control, reterr);
        err = err ? err : share(drive, server->first, "weights");
    }
    return err;
}

static double seconds_of(const struct train_job *job, const struct outcome *outcome)
{
    uint64_t tick =
        job->service->context->release_tick_ms ? job->service->context->release_tick_ms : 1;
    uint64_t ms = query_now_ms() - outcome->started_ms;
    return (double)((ms + tick - 1) / tick * tick) / 1000;
}

/* The mean of those who took part, and the server's step: on disk, and in RET. */
static enum err aggregate(struct drive *drive, struct train_server_state *ret, uint8_t ret_mean[32],
                          struct err_info *reterr)
{
    const struct train_job_state *state = &drive->job->state;
    const struct train_plan *plan = &drive->plan;
    uint8_t hashes[TRAIN_SITES_MAX][32];
    double weights[TRAIN_SITES_MAX], scale[TRAIN_SITES_MAX], all = 0;
    struct train_updates updates = {
        .job_id = state->id,
        .round = drive->outcome.number,
        .numbers = state->numbers,
        .hash = (const uint8_t(*)[32])hashes,
        .weight = weights,
        .trimmed = plan->method == PROTO_TRIMMED_MEAN,
        .trim = plan->trim,
    };
    struct train_server server = {
        .method = (enum proto_aggregation)plan->method,
        .rate = plan->server_rate,
        .momentum = plan->server_momentum,
        .job_id = state->id,
    };
    for (size_t i = 0; i < state->site_count; i++) {
        double weight = plan->uniform ? 1 : (double)state->sites[i].size;
        /* One that never takes part counts with a control variate of zero: slower, but not elsewhere. */
        all += state->sites[i].error == E_SCHEMA ? 0 : weight;
        if (drive->outcome.updated >> i & 1) {
            memcpy(hashes[updates.count], drive->outcome.heard[i].hash, 32);
            scale[updates.count] = (double)state->sites[i].cost.steps * plan->learning_rate;
            weights[updates.count++] = weight;
        }
    }
    enum err err =
        train_mean_step(store_of(drive), &updates, &server, &state->server, ret, ret_mean, reterr);
    return err || plan->method != PROTO_SCAFFOLD
               ? err
               : train_control_step(store_of(drive), &updates, scale, all, state->server.first,
                                    ret->first, reterr);
}

static enum err note_round(struct drive *drive, uint64_t number,
                           const struct train_server_state *next, const uint8_t mean[32])
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    const struct outcome *outcome = &drive->outcome;
    struct train_round_row *row;
    figures_note(state, &drive->plan, outcome);
    enum err err = train_job_state_row(state, &row);
    if (err) {
        return err;
    }
    drive->replaced = state->server;
    memcpy(drive->replaced_mean, mean, 32);
    state->server = *next;
    row->round = number;
    row->participants = outcome->updated;
    row->bytes_up = outcome->bytes_up;
    row->bytes_down = outcome->bytes_down;
    row->seconds = seconds_of(job, outcome);
    row->term = state->machine.term;
    memcpy(row->coordinator, job->service->context->node_id, 16);
    memcpy(row->mean, mean, 32);
    memcpy(row->weights, next->weights, 32);
    memcpy(row->absent, outcome->absent, sizeof row->absent);
    row->absent_count = outcome->absent_count;
    for (size_t i = 0; i < state->site_count; i++) {
        state->sites[i].rounds += outcome->updated >> i & 1;
    }
    row->epsilon = figures_spent(state);
    state->round = number;
    return E_OK;
}

/* --- the machine ------------------------------------------------------------------------------------------------------- */

/* The round is closed: exactly the sites that the machine names are averaged. */
static enum err close_round(struct drive *drive, uint64_t number)
{
    struct train_job_state *state = &drive->job->state;
    struct outcome *outcome = &drive->outcome;
    struct train_server_state next;
    uint8_t mean[32];
    uint64_t participants = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        participants |= (uint64_t)proto_round_took_part(&drive->out, i) << i;
    }
    figures_add(state, &drive->plan, participants, outcome);
    if (outcome->updated != participants || !participants) {
        return E_INTERNAL;
    }
    enum err err = aggregate(drive, &next, mean, NULL);
    pthread_mutex_lock(&drive->job->service->lock);
    figures_count(state, outcome, false);
    err = err ? err : note_round(drive, number, &next, mean);
    pthread_mutex_unlock(&drive->job->service->lock);
    return err;
}

static void name_absent(struct drive *drive, const struct proto_round_action *action)
{
    struct outcome *outcome = &drive->outcome;
    struct train_row_absent *to = &outcome->absent[outcome->absent_count++];
    to->site = action->site;
    snprintf(to->reason, sizeof to->reason, "%s", action->reason);
}

static void perform(struct drive *drive, const struct proto_round_action *action)
{
    uint64_t bit = UINT64_C(1) << action->site;
    enum err err = E_OK;
    switch (action->kind) {
    case PROTO_ROUND_SEND_PLAN:
        drive->plans |= bit;
        break;
    case PROTO_ROUND_SEND_ROUND:
        if (action->round != drive->outcome.number) {
            drop_updates(drive);
            figures_open(&drive->outcome, &drive->job->state, &drive->plan, action->round);
        }
        drive->rounds |= bit;
        break;
    case PROTO_ROUND_SET_TIMER:
        drive->timer_ms = action->at_ms;
        break;
    case PROTO_ROUND_NAME_ABSENT:
        name_absent(drive, action);
        break;
    case PROTO_ROUND_CLOSE_ROUND:
        err = close_round(drive, action->round);
        break;
    case PROTO_ROUND_PERSIST:
        drive->save = action->save;
        break;
    case PROTO_ROUND_SEND_STOP:
        drive->stops |= bit;
        break;
    case PROTO_ROUND_FINISH:
        drive->over = true;
        drive->final = action->state;
        break;
    }
    drive->err = drive->err ? drive->err : err;
}

static enum err step(struct drive *drive, struct proto_round_event event)
{
    event.now_ms = query_now_ms();
    enum err err = proto_round_step(&drive->job->state.machine, &event, &drive->out);
    for (size_t i = 0; i < drive->out.count; i++) {
        perform(drive, &drive->out.items[i]);
    }
    return err ? err : drive->err;
}

/* Which round comes next is decided from what is on disk alone, so that a second life decides the same. */
static enum err persist(struct drive *drive, struct err_info *reterr)
{
    struct train_job_state *state = &drive->job->state;
    bool enough = state->early_stop && state->stale >= state->early_stop && state->round > 0;
    uint64_t number = drive->save;
    drive->save = 0;
    state->term = state->machine.term;
    enum err err = save(drive->job, drive->keeping, reterr);
    if (!err && drive->keeping) {
        err = train_keeping_wait(drive->keeping, 0, job_cancelled, drive->job);
        /* `train stop` goes on: that the job is over needs nobody's memory but ours. */
        err = err == E_CANCELLED && drive->job->stop && !drive->job->deposed &&
                      !drive->job->service->stopping
                  ? E_OK
                  : err;
    }
    if (!err) {
        show_round(drive->job);
        drop_replaced(drive);
        drop_updates(drive);
    }
    return err ? err
               : step(drive, (struct proto_round_event){.kind = PROTO_ROUND_PERSISTED,
                                                        .save = number,
                                                        .round = state->machine.round,
                                                        .next = enough ? state->rounds + 1 : 0});
}

static enum err tell_admit(struct drive *drive, size_t index)
{
    struct train_site *site = &drive->job->state.sites[index];
    struct proto_round_event event = {.kind = PROTO_ROUND_SITE_REFUSED,
                                      .site = index,
                                      .term = drive->job->state.machine.term,
                                      .weight = site->size,
                                      .reason = reason_of(site),
                                      .held = site->error == E_APPROVAL};
    /* By its answer to this offer: one that admitted an earlier one may refuse to go on after a stop. */
    bool admitted = strcmp(site->state, "admitted") == 0;
    if (admitted && site->size > 0 && site->size <= PROTO_ROUND_WEIGHT_MAX) {
        event.kind = PROTO_ROUND_SITE_ADMITTED;
    } else if (strcmp(site->state, "unreachable") == 0) {
        event.kind = PROTO_ROUND_SITE_FAILED;
    }
    return step(drive, event);
}

static enum err tell_update(struct drive *drive, struct asked *asked)
{
    struct train_job *job = drive->job;
    struct train_site *site = &job->state.sites[asked->site];
    const struct proto_round_party *party = &job->state.machine.sites[asked->site];
    struct query_context *context = job->service->context;
    struct proto_round_event event;
    bool before = party->standing == PROTO_ROUND_EQUIVOCATED;
    pthread_mutex_lock(&job->service->lock);
    read_update(drive, asked, &event);
    pthread_mutex_unlock(&job->service->lock);
    enum err err = step(drive, event);
    if (!before && party->standing == PROTO_ROUND_EQUIVOCATED) {
        pthread_mutex_lock(&job->service->lock);
        snprintf(site->state, sizeof site->state, "refused");
        snprintf(site->reason, sizeof site->reason, "%s", PROTO_ROUND_REASON_EQUIVOCATED);
        snprintf(site->detail, sizeof site->detail, "it signed two updates for one round");
        site->error = E_AUTH;
        pthread_mutex_unlock(&job->service->lock);
        context->log(context->user, PEER_LOG_ALARM, "train.equivocated", site->node);
    }
    return err;
}

/* The plans come first in ASKED: who is admitted now is asked for the round that is open. */
static enum err make_requests(struct drive *drive, uint64_t plans, uint64_t rounds,
                              struct asked *asked, size_t *count, size_t *plan_count,
                              struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    struct peer_blob weights = {.size = 0};
    uint64_t patience = rounds ? LATE_OFFER_MS : OFFER_TIMEOUT_MS;
    enum err err = rounds ? offer_weights(drive, &weights, reterr) : E_OK;
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if ((plans >> i & 1) && state->sites[i].error != E_SCHEMA) {
            err = offers_ask(job->service, state, i, false, patience, job_cancelled, job,
                             &asked[(*count)++], reterr);
        }
    }
    *plan_count = *count;
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if (rounds >> i & 1) {
            err = ask_update(drive, i, &weights, &asked[(*count)++], reterr);
        }
    }
    return err;
}

/* Asks for all that the machine wants to be sent at this time, and tells it what came back. */
static enum err send_wanted(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct asked *asked = proto_alloc(job->state.site_count, sizeof *asked);
    uint64_t plans = drive->plans;
    size_t count = 0;
    size_t plan_count = 0;
    enum err err =
        asked ? make_requests(drive, plans, drive->rounds, asked, &count, &plan_count, reterr)
              : E_NO_MEMORY;
    drive->plans = drive->rounds = 0;
    if (!err) {
        asked_all(asked, count);
    }
    if (err || job_cancelled(job)) {
        asked_fini(asked,
                   count); /* sites keep what they answered and give it again after a resume */
        return err;
    }
    pthread_mutex_lock(&job->service->lock);
    for (size_t i = 0; i < plan_count; i++) {
        offers_read(job->service, &job->state, &asked[i], false);
    }
    pthread_mutex_unlock(&job->service->lock);
    drive->contradicted = job->state.round == 0 && offers_contradicted(&job->state);
    for (size_t i = 0; !err && i < job->state.site_count; i++) {
        err = plans >> i & 1 ? tell_admit(drive, i) : E_OK;
    }
    for (size_t i = plan_count; !err && i < count; i++) {
        err = tell_update(drive, &asked[i]);
    }
    asked_fini(asked, count);
    return err;
}

static enum err wait_timer(struct drive *drive)
{
    uint64_t now = query_now_ms();
    while (now < drive->timer_ms && !job_cancelled(drive->job)) {
        uint64_t left = drive->timer_ms - now;
        pause_for(left < PAUSE_MS ? left : PAUSE_MS);
        now = query_now_ms();
    }
    return now < drive->timer_ms
               ? E_OK
               : step(drive, (struct proto_round_event){.kind = PROTO_ROUND_TIMER});
}

/* Whoever waits for the job looks again; `planned` once rounds are asked for. */
static void announce(struct drive *drive, bool planned)
{
    struct train_job *job = drive->job;
    pthread_mutex_lock(&job->service->lock);
    job->state.planned = job->state.planned || planned;
    job->planned = job->planned || planned;
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
}

static enum err start(struct drive *drive, struct err_info *reterr)
{
    struct train_job_state *state = &drive->job->state;
    uint64_t of_site[TRAIN_SITES_MAX];
    uint64_t all = 0;
    for (size_t i = 0; i < state->site_count; i++) {
        size_t first = 0;
        while (strcmp(state->sites[first].org, state->sites[i].org) != 0) {
            first++;
        }
        of_site[i] = first;
        all |= UINT64_C(1) << i;
    }
    uint64_t most = PROTO_ROUND_TIMEOUT_MAX;
    struct proto_round_event event = {
        .kind = PROTO_ROUND_START,
        .institutions = of_site,
        .site_count = state->site_count,
        .rounds = state->rounds,
        .min_sites = state->min_sites,
        .timeout_ms = state->round_timeout_ms < most ? state->round_timeout_ms : most,
        .retries = ROUND_RETRIES,
    };
    if (offers_institutions(state, all) < state->min_sites) {
        return proto_err_set(reterr, E_UNREACHABLE,
                             "%zu institutions publish the dataset, %llu wanted",
                             offers_institutions(state, all), (unsigned long long)state->min_sites);
    }
    proto_round_init(&state->machine);
    state->has_machine = true;
    return step(drive, event);
}

/* A new job, one from the disk, or one that waited. */
static enum err begin(struct drive *drive, struct err_info *reterr)
{
    struct train_job_state *state = &drive->job->state;
    bool stop = drive->job->stop;
    uint64_t term = drive->job->lease.holders > 1 ? drive->job->lease.promised : 0;
    enum err err =
        proto_codec_decode(&train_plan_message, state->plan, &drive->arena, &drive->plan, reterr);
    if (err) {
        return err;
    }
    err = share_model(drive);
    if (!err && drive->job->lease.holders > 1) {
        err = train_keeping_open(drive->job, &drive->keeping);
    }
    if (err || !state->has_machine) {
        return err ? err : start(drive, reterr);
    }
    if (state->machine.state == PROTO_ROUND_DONE) { /* cut off after the last round */
        drive->over = true;
        drive->final = PROTO_ROUND_DONE;
        state->machine.term = term > state->machine.term ? term : state->machine.term;
        drive->stops = offers_admitted(state);
        return E_OK;
    }
    drive->stop_told = stop;
    return step(drive, (struct proto_round_event){
                           .kind = stop ? PROTO_ROUND_STOP : PROTO_ROUND_RESUME, .term = term});
}

/* E_CANCELLED: the daemon stops. The machine is dropped; what is on disk is the job. */
static enum err drive_rounds(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    const struct proto_round *machine = &job->state.machine;
    enum err err = begin(drive, reterr);
    while (!err && !drive->over) {
        if (drive->save) {
            err = persist(drive, reterr);
        } else if (job->service->stopping || job->deposed) {
            err = E_CANCELLED;
        } else if ((job->stop || drive->contradicted) && !drive->stop_told) {
            drive->stop_told = true;
            err = step(drive, (struct proto_round_event){.kind = PROTO_ROUND_STOP});
        } else if (drive->plans || drive->rounds) {
            err = send_wanted(drive, reterr);
        } else {
            err = wait_timer(drive);
        }
        announce(drive, !drive->contradicted && (machine->state == PROTO_ROUND_ASKING ||
                                                 machine->state == PROTO_ROUND_CLOSING ||
                                                 machine->state == PROTO_ROUND_DONE));
    }
    return err;
}

/* --- the end of a job -------------------------------------------------------------------------------------------------- */

/* The figures of the finished model. Too few answers leave them unknown; the model stands without. */
static enum err last_evaluation(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    struct outcome *outcome = &drive->outcome;
    struct peer_blob weights;
    size_t count = 0;
    uint64_t answered = 0;
    struct asked *asked = proto_alloc(state->site_count, sizeof *asked);
    enum err err = asked ? E_OK : E_NO_MEMORY;
    figures_open(outcome, state, &drive->plan, drive->plan.rounds + 1);
    if (!err) {
        err = offer_weights(drive, &weights, reterr);
    }
    for (size_t i = 0; !err && i < state->site_count; i++) {
        if (state->machine.sites[i].standing == PROTO_ROUND_ADMITTED) {
            err = ask_update(drive, i, &weights, &asked[count++], reterr);
        }
    }
    if (!err) {
        asked_all(asked, count);
        err = job_cancelled(job) ? E_CANCELLED : E_OK;
    }
    pthread_mutex_lock(&job->service->lock);
    for (size_t i = 0; !err && i < count; i++) {
        struct proto_round_event event;
        read_update(drive, &asked[i], &event);
        answered |= (uint64_t)(event.kind == PROTO_ROUND_SITE_UPDATED) << asked[i].site;
    }
    if (!err) {
        struct train_round_row *row = &state->history[state->history_count - 1];
        figures_add(state, &drive->plan, answered, outcome);
        figures_count(state, outcome, true);
        figures_note(state, &drive->plan, outcome);
        row->bytes_up += outcome->bytes_up;
        row->bytes_down += outcome->bytes_down;
        row->seconds += seconds_of(job, outcome);
        row->epsilon = figures_spent(state);
    }
    pthread_mutex_unlock(&job->service->lock);
    asked_fini(asked, count);
    return err;
}

static enum err complete(struct drive *drive, struct err_info *reterr)
{
    struct train_job *job = drive->job;
    struct train_job_state *state = &job->state;
    enum err err = job_cancelled(job) ? E_CANCELLED : E_OK;
    announce(drive, true);
    if (!err && !state->finished) {
        err =
            drive->plan.eval_every && state->history_count ? last_evaluation(drive, reterr) : E_OK;
        if (!err) {
            pthread_mutex_lock(&job->service->lock);
            state->finished = true;
            pthread_mutex_unlock(&job->service->lock);
            err = save(job, drive->keeping, reterr);
        }
    }
    if (!err && !state->model[0]) {
        err = train_model_publish(job->service, state, reterr);
    }
    return err;
}

static void set_state(struct train_job *job, enum train_state to, enum err err, const char *text)
{
    pthread_mutex_lock(&job->service->lock);
    job->state.state = to;
    job->state.error = err;
    snprintf(job->state.error_text, sizeof job->state.error_text, "%.500s", text ? text : "");
    job->planned = true;
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
}

/* The job ended before its last round, since the sites' steps did. */
static bool ran_out(const struct train_job_state *state)
{
    bool enough = state->early_stop && state->stale >= state->early_stop;
    return state->round < state->rounds && !enough;
}

/* Why the machine ended as it did. */
static enum err why(const struct drive *drive, struct err_info *reterr)
{
    const struct train_job_state *state = &drive->job->state;
    uint64_t number = drive->outcome.number;
    uint64_t heard = 0;
    const struct train_site *odd = drive->contradicted ? offers_contradicted(state) : NULL;
    if (odd) {
        return proto_err_set(reterr, odd->error, "no data was touched: %s says: %s (%s)", odd->node,
                             odd->detail, odd->reason);
    }
    if (drive->final == PROTO_ROUND_DONE || drive->final == PROTO_ROUND_STOPPED) {
        if (drive->final == PROTO_ROUND_DONE && ran_out(state)) {
            (void)!proto_err_set(reterr, E_OK, "ended after round %llu of %llu: %s",
                                 (unsigned long long)state->round,
                                 (unsigned long long)state->rounds,
                                 proto_reason_text(PROTO_REASON_STEPS_USED_UP));
        }
        return E_OK;
    }
    if (number == 0 || number != state->machine.asked_round || number <= state->round) {
        return offers_worst(state, reterr);
    }
    for (size_t i = 0; i < state->site_count && i < TRAIN_SITES_MAX; i++) {
        heard |= (uint64_t)(drive->outcome.heard[i].updated) << i;
    }
    return proto_err_set(reterr, E_TIMEOUT, "round %llu: %zu institutions took part, %llu wanted",
                         (unsigned long long)number, offers_institutions(state, heard),
                         (unsigned long long)state->min_sites);
}

/* The machine was dropped in the middle: the job is what is on disk. */
static enum err reload(struct train_job *job)
{
    struct train_job_state *fresh = proto_alloc(1, sizeof *fresh);
    struct buf bytes = {.max = STORE_JOB_MAX};
    enum err err = fresh ? store_job_get(job->service->context->store, job->state.id, &bytes, NULL)
                         : E_NO_MEMORY;
    if (!err) {
        err = train_job_state_decode(buf_span(&bytes), fresh, NULL);
    }
    if (!err) {
        pthread_mutex_lock(&job->service->lock);
        train_job_state_fini(&job->state);
        job->state = *fresh;
        pthread_mutex_unlock(&job->service->lock);
    } else if (fresh) {
        train_job_state_fini(fresh);
    }
    proto_free(fresh);
    buf_fini(&bytes);
    return err;
}

static bool service_stops(void *user)
{
    const struct train_job *job = user;
    return job->service->stopping;
}

/* The nodes that stand by are told; what they miss of it they ask the sites for again, in vain. */
static bool keep_end(struct train_job *job, struct train_keeping *keeping)
{
    struct query_context *context = job->service->context;
    struct err_info info = {0};
    if (save(job, keeping, &info)) {
        context->log(context->user, PEER_LOG_WARN, "train.save", info.text);
        return false;
    }
    show_round(job);
    if (keeping) {
        (void)!train_keeping_wait(keeping, LAST_WORD_MS, service_stops, job);
    }
    return true;
}

/* A job that is done takes no further step: its state names no moments any more. Those that stand by let go of theirs when they
 * start (sweep.h). */
static void forget_moments(struct drive *drive)
{
    struct train_job *job = drive->job;
    drive->replaced = job->state.server;
    pthread_mutex_lock(&job->service->lock);
    memset(job->state.server.first, 0, 32);
    memset(job->state.server.second, 0, 32);
    pthread_mutex_unlock(&job->service->lock);
}

/* The machine said how the job ends. ERR is of what came after its last round. */
static void conclude(struct drive *drive, enum err err, const struct err_info *info)
{
    static const enum train_state ends[PROTO_ROUND_STATES] = {
        [PROTO_ROUND_WAITING] = TRAIN_WAITING,
        [PROTO_ROUND_FAILED] = TRAIN_FAILED,
        [PROTO_ROUND_STOPPED] = TRAIN_STOPPED,
        [PROTO_ROUND_DONE] = TRAIN_DONE,
    };
    struct train_job *job = drive->job;
    struct err_info reason = *info;
    enum train_state to = ends[drive->final];
    if (drive->final == PROTO_ROUND_DONE && err) {
        to = job->stop ? TRAIN_STOPPED
                       : (err == E_TIMEOUT || err == E_BUSY ? TRAIN_WAITING : TRAIN_FAILED);
    }
    to = drive->contradicted && !job->stop ? TRAIN_FAILED : to;
    if (to == TRAIN_STOPPED && job->withdrawn[0]) {
        err = proto_err_set(&reason, E_REFUSED, "%s", job->withdrawn);
    } else {
        err = to == TRAIN_STOPPED ? E_OK : (err ? err : why(drive, &reason));
    }
    if (to != TRAIN_WAITING) {
        static const enum train_end said[] = {[TRAIN_DONE] = TRAIN_END_DONE,
                                              [TRAIN_FAILED] = TRAIN_END_FAILED,
                                              [TRAIN_STOPPED] = TRAIN_END_STOPPED};
        offers_end(job, drive->stops, to == TRAIN_STOPPED && err ? TRAIN_END_WITHDRAWN : said[to]);
    }
    set_state(job, to, err, err && !reason.text[0] ? proto_err_text(err) : reason.text);
    train_share_drop(job->service, job->state.id, NULL);
    if (to == TRAIN_DONE) {
        forget_moments(drive);
    }
    if (keep_end(job, drive->keeping) && to == TRAIN_DONE) {
        drop_replaced(drive);
    }
    pthread_mutex_lock(&job->service->lock);
    job->stop = false; /* it was obeyed */
    pthread_mutex_unlock(&job->service->lock);
}

/* Nothing more can be said to the sites in the name of this machine. */
static void drop(struct drive *drive, enum err err, const struct err_info *info)
{
    struct train_job *job = drive->job;
    const char *text = info->text[0] ? info->text : proto_err_text(err);
    if (job->deposed && reload(job) == E_OK) {
        set_state(job, TRAIN_RUNNING, E_OK, ""); /* elsewhere */
    } else if (job->service->stopping && job->lease.holders > 1) {
        set_state(job, TRAIN_RUNNING, E_OK, "");
    } else if (job->service->stopping) {
        set_state(job, TRAIN_WAITING, err, "the coordinator was interrupted");
    } else if (reload(job) == E_OK) {
        set_state(job, TRAIN_WAITING, err, text);
    } else {
        set_state(job, TRAIN_FAILED, err, text);
        (void)keep_end(job, NULL);
    }
}

void *train_coordinator_run(void *user)
{
    struct train_job *job = user;
    struct err_info info = {0};
    struct drive *drive = proto_alloc(1, sizeof *drive);
    enum err err = E_NO_MEMORY;
    if (drive) {
        drive->job = job;
        err = drive_rounds(drive, &info);
    }
    if (!drive) {
        set_state(job, TRAIN_WAITING, err, proto_err_text(err));
    } else if (err) {
        drop(drive, err, &info);
    } else {
        err = drive->final == PROTO_ROUND_DONE ? complete(drive, &info) : E_OK;
        if (err && (job->service->stopping || job->deposed) && !job->stop) {
            drop(drive, err, &info);
        } else {
            conclude(drive, err, &info);
        }
    }
    if (drive) {
        train_keeping_close(drive->keeping);
        drop_updates(drive);
        figures_fini(&drive->outcome);
        arena_fini(&drive->arena);
    }
    proto_free(drive);
    pthread_mutex_lock(&job->service->lock);
    job->running = false;
    if (job->lease.leading && job->lease.holders > 1) {
        proto_lease_yield(&job->lease, job->lease.promised, query_now_ms());
    }
    pthread_cond_broadcast(&job->service->changed);
    pthread_mutex_unlock(&job->service->lock);
    return NULL;
}
