/* train start, watch, list, show, stop, resume; model show, export. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/config/yaml.h"
#include "node/query/site.h"
#include "proto/pld.h"
#include "proto/privacy.h"
#include "proto/time.h"
#include "store/blob.h"
#include "store/records.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WATCH_MS 250

/* --- the job file ------------------------------------------------------------------------------------------------------ */

/* What --set may change: the job's key with or without the section it stands in. */
static const struct setting {
    const char *section;
    const char *key;
    enum {
        SET_COUNT,
        SET_NUMBER,
        SET_DURATION
    } type;
    size_t offset;
    double min, max;
} settings[] = {
    {"", "rounds", SET_COUNT, offsetof(struct proto_job, rounds), 1, PROTO_JOB_ROUNDS_MAX},
    {"local", "epochs", SET_COUNT, offsetof(struct proto_job, epochs), 1, 1000},
    {"local", "batch", SET_COUNT, offsetof(struct proto_job, batch), 1, 10000000},
    {"local", "learning_rate", SET_NUMBER, offsetof(struct proto_job, learning_rate), 1e-9, 1e3},
    {"aggregate", "server_momentum", SET_NUMBER, offsetof(struct proto_job, server_momentum), 0,
     0.999},
    {"participation", "min_sites", SET_COUNT, offsetof(struct proto_job, min_sites), 1,
     PROTO_JOB_SITES_MAX},
    {"participation", "standby", SET_COUNT, offsetof(struct proto_job, standby), 0,
     PROTO_LEASE_HOLDERS - 1},
    {"participation", "round_timeout", SET_DURATION, offsetof(struct proto_job, round_timeout_ms),
     1000, 86400000},
    {"privacy", "epsilon", SET_NUMBER, offsetof(struct proto_job, epsilon), 1e-6, 1e6},
    {"privacy", "delta", SET_NUMBER, offsetof(struct proto_job, delta), 1e-12, 0.5},
    {"privacy", "clip", SET_NUMBER, offsetof(struct proto_job, clip), 1e-6, 1e6},
    {"evaluate", "every", SET_COUNT, offsetof(struct proto_job, eval_every), 0,
     PROTO_JOB_ROUNDS_MAX},
    {"evaluate", "early_stop", SET_COUNT, offsetof(struct proto_job, early_stop), 0,
     PROTO_JOB_ROUNDS_MAX},
    {"evaluate", "split", SET_NUMBER, offsetof(struct proto_job, eval_split), 0, 0.9},
    {"evaluate", "share", SET_NUMBER, offsetof(struct proto_job, eval_share), 0.001, 0.9},
};

static const struct setting *find_setting(const char *key)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        size_t len = strlen(settings[i].section);
        bool dotted = len && strncmp(key, settings[i].section, len) == 0 && key[len] == '.' &&
                      strcmp(key + len + 1, settings[i].key) == 0;
        if (dotted || strcmp(key, settings[i].key) == 0) {
            return &settings[i];
        }
    }
    return NULL;
}

static enum err set_one(struct proto_job *job, char *text, struct err_info *reterr)
{
    char *equals = strchr(text, '=');
    if (!equals) {
        return proto_err_set(reterr, E_USAGE, "--set takes KEY=VALUE, such as rounds=3");
    }
    *equals = '\0';
    const char *value = equals + 1;
    const struct setting *setting = find_setting(text);
    if (!setting) {
        return proto_err_set(
            reterr, E_USAGE,
            "--set cannot change %.64s; it takes rounds, epochs, batch, "
            "learning_rate, server_momentum, min_sites, "
            "standby, round_timeout, epsilon, delta, clip, every, early_stop, split, share",
            text);
    }
    uint64_t ms = 0;
    double number = 0;
    bool good = proto_number_parse(span_str(value), &number);
    if (setting->type == SET_DURATION) {
        good = proto_duration_parse(span_str(value), &ms);
        number = (double)ms;
    }
    good = good && number >= setting->min && number <= setting->max &&
           (setting->type == SET_NUMBER || number == floor(number));
    if (!good) {
        return proto_err_set(reterr, E_USAGE, "--set %s: %.64s is not a value from %g to %g",
                             setting->key, value, setting->min, setting->max);
    }
    void *member = (char *)job + setting->offset;
    if (setting->type == SET_NUMBER) {
        memcpy(member, &number, sizeof number);
    } else {
        uint64_t count = (uint64_t)number;
        memcpy(member, &count, sizeof count);
    }
    return E_OK;
}

static enum err apply_settings(struct control_call *call, struct proto_job *job,
                               struct err_info *reterr)
{
    const struct proto_control_argument *arguments = call->request->arguments.items;
    bool changed = false;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < call->request->arguments.count; i++) {
        if (span_is(arguments[i].name, "--set")) {
            char *text = arena_strdup(&call->arena, arguments[i].value);
            err = text ? set_one(job, text, reterr) : E_NO_MEMORY;
            changed = true;
        }
    }
    return err || !changed ? err : proto_job_check(job, reterr);
}

/* --local: of all sites this one. */
static enum err keep_local(const struct control_call *call, struct proto_job *job)
{
    char id[33];
    const char **sites = arena_alloc(&job->arena, 1, sizeof *sites);
    span_to_hex(span_of(call->node->query.node_id, 16), id);
    if (!sites || !(sites[0] = arena_strdup(&job->arena, span_str(id)))) {
        return E_NO_MEMORY;
    }
    job->sites = (struct proto_text_list){sites, 1};
    job->min_sites = 1;
    return E_OK;
}

/* --- views ------------------------------------------------------------------------------------------------------------- */

static json_t *figure(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Of tables what their task has; of notes precision, recall and F1 over all types, then of each. */
static json_t *metrics_view(const struct train_view *view, const struct train_round_view *round)
{
    json_t *metrics = json_object();
    if (!round->evaluated) {
        return metrics;
    }
    json_object_set_new(metrics, "eval_loss_margin95", figure(round->eval_loss_margin));
    struct train_named named[TRAIN_NAMED_MAX];
    size_t count = train_figures_name(view->task, view->scale, round, named);
    for (size_t i = 0; round->types == 0 && i < count; i++) {
        json_object_set_new(metrics, named[i].name, figure(named[i].value));
    }
    if (round->types == 0) {
        return metrics;
    }
    if (isfinite(round->accuracy)) {
        json_object_set_new(metrics, "accuracy", figure(round->accuracy));
        json_object_set_new(metrics, "accuracy_margin95", figure(round->accuracy_margin));
    }
    static const char *const keys[] = {"precision", "recall", "f1"};
    json_t *scores = control_scores_view(
        view->types, (const double(*)[3])round->type_counts,
        round->types < view->type_count ? round->types : view->type_count, round->type_sigma, NULL);
    for (size_t i = 0; i < 3; i++) {
        json_t *value = json_object_get(json_object_get(scores, "micro"), keys[i]);
        json_object_set_new(metrics, keys[i], value ? json_incref(value) : json_null());
    }
    if (json_is_object(scores)) {
        json_object_update(metrics, scores);
    }
    json_object_set_new(metrics, "count_sigma", json_real(round->type_sigma));
    json_decref(scores);
    return metrics;
}

static json_t *round_view(const struct train_view *view, const struct train_round_view *round)
{
    json_t *participants = json_array();
    json_t *absent = json_array();
    for (size_t i = 0; i < round->participant_count; i++) {
        json_array_append_new(participants, json_string(round->participants[i]));
    }
    for (size_t i = 0; i < round->absent_count; i++) {
        json_array_append_new(absent, json_pack("{s:s, s:s}", "node", round->absent[i].node,
                                                "reason", round->absent[i].reason));
    }
    return json_pack("{s:I, s:n, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:f, s:I, s:o}", "round",
                     (json_int_t)round->round, "train_loss", "eval_loss", figure(round->eval_loss),
                     "metrics", metrics_view(view, round), "epsilon", figure(round->epsilon),
                     "participants", participants, "absent", absent, "bytes_up",
                     (json_int_t)round->bytes_up, "bytes_down", (json_int_t)round->bytes_down,
                     "seconds", round->seconds, "term", (json_int_t)round->term, "weights",
                     control_json_hex(round->weights, 32));
}

static json_t *site_view(const struct train_site_view *site)
{
    json_t *view = json_pack("{s:s, s:s, s:o}", "node", site->node, "state", site->state, "reason",
                             site->reason[0] ? json_string(site->reason) : json_null());
    if (site->detail[0]) {
        json_object_set_new(view, "detail", json_string(site->detail));
    }
    if (site->epsilon > 0) {
        json_object_set_new(view, "epsilon", json_real(site->epsilon));
    }
    if (site->sigma > 0) {
        json_object_set_new(view, "sigma", json_real(site->sigma));
    }
    if (site->total) {
        json_object_set_new(view, "step", json_integer((json_int_t)site->done));
        json_object_set_new(view, "steps", json_integer((json_int_t)site->total));
    }
    return view;
}

static json_t *short_view(const struct train_view *view)
{
    return json_pack("{s:o, s:s, s:s, s:I, s:I, s:s, s:s, s:o}", "job",
                     control_json_hex(view->id, 16), "name", view->name, "state",
                     train_state_name(view->state), "round", (json_int_t)view->round, "rounds",
                     (json_int_t)view->rounds, "coordinator", view->coordinator, "dataset",
                     view->dataset, "started", control_json_time(view->started));
}

static json_t *job_view(const struct train_view *view)
{
    json_t *sites = json_array();
    json_t *history = json_array();
    for (size_t i = 0; i < view->site_count; i++) {
        json_array_append_new(sites, site_view(&view->sites[i]));
    }
    for (size_t i = 0; i < view->history_count; i++) {
        json_array_append_new(history, round_view(view, &view->history[i]));
    }
    json_t *answer = short_view(view);
    json_object_set_new(answer, "task", json_string(view->task));
    json_object_set_new(answer, "person", json_string(view->person));
    json_object_set_new(
        answer, "privacy",
        view->noise ? json_pack("{s:f, s:f}", "epsilon", view->epsilon, "delta", view->delta)
                    : json_null());
    json_object_set_new(answer, "sites", sites);
    json_object_set_new(answer, "history", history);
    json_object_set_new(answer, "model", view->model[0] ? json_string(view->model) : json_null());
    if (view->error[0]) {
        json_object_set_new(answer, "reason", json_string(view->error));
    }
    return answer;
}

/* Sites as `query` shows them, for error documents and --explain. */
static json_t *verdicts_view(const struct train_view *view, bool explain)
{
    static const char *const results[] = {"pass", "fail", "needed"};
    json_t *array = json_array();
    for (size_t i = 0; i < view->site_count; i++) {
        const struct train_site_view *site = &view->sites[i];
        bool permitted = site->admitted;
        json_t *to = json_pack("{s:s, s:s}", "node", site->node, "status",
                               permitted ? "answered" : site->state);
        if (site->reason[0]) {
            json_object_set_new(to, "reason", json_string(site->reason));
            json_object_set_new(to, "detail", json_string(site->detail));
        }
        if (explain) {
            json_t *clauses = json_array();
            for (size_t j = 0; j < site->clause_count; j++) {
                const struct query_clause *clause = &site->clauses[j];
                json_array_append_new(clauses,
                                      json_pack("{s:o, s:o, s:s, s:o}", "clause",
                                                control_json_span(clause->clause), "expected",
                                                control_json_span(clause->expected), "result",
                                                results[clause->result % 3], "reason",
                                                control_json_span(clause->reason)));
            }
            json_object_set_new(to, "verdict", json_string(permitted ? "permit" : "deny"));
            json_object_set_new(to, "clauses", clauses);
            json_object_set_new(to, "sigma", figure(site->sigma));
            json_object_set_new(to, "cost", control_json_nano(site->cost_nano));
        }
        json_array_append_new(array, to);
    }
    return array;
}

/* --- operations -------------------------------------------------------------------------------------------------------- */

/* What the plan loses at the site that it costs most, by privacy-loss distributions: all of it is fixed before it runs, so that for
 * a report their tighter figure holds. The ledger goes by rho. */
static json_t *tight_view(const struct train_view *view, const struct proto_job *job)
{
    double most = 0;
    double extra = proto_privacy_rho(job->epsilon * job->eval_share, view->delta);
    for (size_t i = 0; i < view->site_count; i++) {
        const struct train_site_view *site = &view->sites[i];
        bool same = i > 0 && site->sigma <= site[-1].sigma && site->sigma >= site[-1].sigma &&
                    site->rate <= site[-1].rate && site->rate >= site[-1].rate;
        double epsilon = 0;
        if (!(site->sigma > 0) || same) {
            continue;
        }
        if (proto_pld_plan_epsilon(site->rate, site->sigma, site->steps * view->rounds, extra,
                                   view->delta, &epsilon)) {
            return json_null();
        }
        most = fmax(most, epsilon);
    }
    return most > 0 ? json_real(most) : json_null();
}

static enum err explain(struct control_call *call, const struct proto_job *job, json_t **ret,
                        struct err_info *reterr)
{
    struct train_view view;
    enum err err = train_explain(call->node->train, job, call->person, &view, reterr);
    if (err) {
        return err;
    }
    double sigma = 0;
    double rate = 0;
    uint64_t steps = 0;
    uint64_t nano = 0;
    for (size_t i = 0; i < view.site_count; i++) {
        sigma = fmax(sigma, view.sites[i].sigma);
        rate = fmax(rate, view.sites[i].rate);
        steps =
            view.sites[i].steps * view.rounds > steps ? view.sites[i].steps * view.rounds : steps;
        nano = view.sites[i].cost_nano > nano ? view.sites[i].cost_nano : nano;
    }
    *ret = json_pack("{s:n, s:b, s:f, s:I, s:f, s:I, s:{s:f, s:f, s:o, s:o}, s:o}", "job",
                     "explain", 1, "sigma", sigma, "steps", (json_int_t)steps, "rate", rate,
                     "rounds", (json_int_t)view.rounds, "cost", "epsilon", view.epsilon, "delta",
                     view.delta, "rho", control_json_nano(nano), "epsilon_tight",
                     tight_view(&view, job), "sites", verdicts_view(&view, true));
    train_view_fini(&view);
    return E_OK;
}

static void leave_sites(struct control_call *call, const uint8_t id[16])
{
    struct train_view view;
    if (train_show(call->node->train, id, &view, NULL) == E_OK) {
        call->error_sites = verdicts_view(&view, false);
        train_view_fini(&view);
    }
}

enum err control_train_start(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *path = control_text(call, "JOB");
    struct buf yaml = {0};
    struct proto_job job = {0};
    uint8_t id[16] = {0};
    static const uint8_t none[16];
    enum err err = control_read(call, path, CONFIG_YAML_BYTES_MAX, &yaml, reterr);
    if (!err) {
        err = config_yaml_job_bytes(buf_span(&yaml), path, &job, reterr);
    }
    if (!err) {
        err = apply_settings(call, &job, reterr);
    }
    if (!err && control_flag(call, "--local")) {
        err = keep_local(call, &job);
    }
    if (!err && control_flag(call, "--explain")) {
        err = explain(call, &job, ret, reterr);
    } else if (!err) {
        err = control_audit(call, "train.start", reterr, "job", job.name, "dataset", job.dataset,
                            (const char *)NULL);
        if (!err) {
            err = train_start(call->node->train, &job, buf_span(&yaml), call->person, id, reterr);
        }
        struct train_view view = {0};
        if (!err) {
            err = train_show(call->node->train, id, &view, reterr);
        }
        if (!err) {
            *ret = json_pack("{s:o, s:s, s:s}", "job", control_json_hex(id, 16), "name", job.name,
                             "state", train_state_name(view.state));
            train_view_fini(&view);
        } else if (memcmp(id, none, 16) != 0) {
            leave_sites(call, id);
        }
    }
    proto_job_fini(&job);
    buf_fini(&yaml);
    return err;
}

static enum err find(struct control_call *call, uint8_t ret_id[16], struct err_info *reterr)
{
    return train_find(call->node->train, control_text(call, "ID"), ret_id, reterr);
}

static void show_round(struct control_call *call, const struct train_view *view,
                       const struct train_round_view *round)
{
    char text[200];
    char loss[64] = "";
    char quality[64] = "";
    char spent[32] = "";
    if (isfinite(round->eval_loss) && round->eval_loss_margin > round->eval_loss) {
        snprintf(loss, sizeof loss, ", loss at most %.2f",
                 round->eval_loss + round->eval_loss_margin);
    } else if (isfinite(round->eval_loss) && round->eval_loss_margin > 0) {
        snprintf(loss, sizeof loss, ", loss %.4f +- %.4f", round->eval_loss,
                 round->eval_loss_margin);
    } else if (isfinite(round->eval_loss)) { /* without noise */
        snprintf(loss, sizeof loss, ", loss %.4f", round->eval_loss);
    }
    static const char *const told[][2] = {
        {"accuracy", "accuracy"}, {"r2", "R2"}, {"concordance", "concordance"}, {"f1", "F1"}};
    json_t *metrics = metrics_view(view, round);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        const json_t *value = json_object_get(metrics, told[i][0]);
        if (json_is_number(value)) {
            snprintf(quality, sizeof quality, ", %s %.3f", told[i][1], json_number_value(value));
        }
    }
    json_decref(metrics);
    if (isfinite(round->epsilon)) {
        snprintf(spent, sizeof spent, ", epsilon %.3f", round->epsilon);
    }
    snprintf(text, sizeof text, "round %llu: %zu sites%s%s%s", (unsigned long long)round->round,
             round->participant_count, loss, quality, spent);
    control_progress(call, text, round->round, view->rounds);
}

/* "~round 4: alpha [####......] beta [##........]": the sign in front says that the next line takes its place. */
static void show_bars(struct control_call *call, const struct train_view *view)
{
    static const char full[] = "##########";
    static const char empty[] = "..........";
    char text[256];
    size_t used =
        (size_t)snprintf(text, sizeof text, "~round %llu:", (unsigned long long)view->round + 1);
    size_t bars = 0;
    for (size_t i = 0; i < view->site_count && used + 50 < sizeof text; i++) {
        const struct train_site_view *site = &view->sites[i];
        if (site->total) {
            int part = (int)(10 * site->done / site->total);
            used += (size_t)snprintf(text + used, sizeof text - used, " %s [%.*s%.*s]", site->node,
                                     part < 10 ? part : 10, full, part < 10 ? 10 - part : 0, empty);
            bars++;
        }
    }
    if (bars) {
        control_progress(call, text, view->round, view->rounds);
    }
}

/* Shows each round once its figures are in, which is when the next one has ended. */
enum err control_train_watch(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    struct train_view view = {0};
    size_t shown = 0;
    enum err err = find(call, id, reterr);
    while (!err) {
        err = train_show(call->node->train, id, &view, reterr);
        bool running = !err && view.state == TRAIN_RUNNING;
        size_t complete =
            running && view.history_count ? view.history_count - 1 : view.history_count;
        for (; !err && shown < complete; shown++) {
            show_round(call, &view, &view.history[shown]);
        }
        if (running) {
            show_bars(call, &view);
        }
        if (err || !running) {
            break;
        }
        train_view_fini(&view);
        if (control_cancelled(call)) {
            err = proto_err_set(reterr, E_CANCELLED,
                                "the job goes on; `concordat train watch` follows it again");
            break;
        }
        train_wait(call->node->train, WATCH_MS);
    }
    if (!err && (view.state == TRAIN_FAILED || view.state == TRAIN_WAITING)) {
        call->error_sites = verdicts_view(&view, false);
        err = proto_err_set(reterr, view.error_code ? view.error_code : E_UNREACHABLE,
                            "job %s is %s: %.400s", view.name, train_state_name(view.state),
                            view.error);
    } else if (!err) {
        *ret = job_view(&view);
    }
    train_view_fini(&view);
    return err;
}

static enum err add_short(void *user, const struct train_view *view)
{
    return json_array_append_new(user, short_view(view)) ? E_NO_MEMORY : E_OK;
}

json_t *control_jobs_view(struct control_call *call)
{
    json_t *array = json_array();
    if (train_each(call->node->train, add_short, array, NULL)) {
        json_array_clear(array);
    }
    return array;
}

enum err control_train_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    json_t *array = json_array();
    enum err err = train_each(call->node->train, add_short, array, reterr);
    if (err) {
        json_decref(array);
        return err;
    }
    *ret = array;
    return E_OK;
}

enum err control_train_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    struct train_view view;
    enum err err = find(call, id, reterr);
    if (!err) {
        err = train_show(call->node->train, id, &view, reterr);
    }
    if (!err) {
        *ret = job_view(&view);
        train_view_fini(&view);
    }
    return err;
}

/* Stop and resume answer with what the job is afterwards. */
static enum err change(struct control_call *call, const char *kind,
                       enum err (*act)(struct train_service *, const uint8_t *, struct err_info *),
                       json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    char hex[33];
    struct train_view view;
    enum err err = find(call, id, reterr);
    if (!err) {
        span_to_hex(span_of(id, 16), hex);
        err = control_audit(call, kind, reterr, "job", hex, (const char *)NULL);
    }
    if (!err) {
        err = act(call->node->train, id, reterr);
    }
    if (!err) {
        err = train_show(call->node->train, id, &view, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:s, s:I}", "job", hex, "state", train_state_name(view.state),
                         "round", (json_int_t)view.round);
        train_view_fini(&view);
    }
    return err;
}

enum err control_train_stop(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    return change(call, "train.stop", train_stop, ret, reterr);
}

enum err control_train_resume(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    return change(call, "train.resume", train_resume, ret, reterr);
}

enum err control_train_verify(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    uint8_t weights[32];
    uint64_t rounds;
    enum err err = find(call, id, reterr);
    if (!err) {
        err = train_verify(call->node->train, id, &rounds, weights, reterr);
    }
    if (!err) {
        *ret = json_pack("{s:o, s:b, s:I, s:o}", "job", control_json_hex(id, 16), "ok", 1, "rounds",
                         (json_int_t)rounds, "weights", control_json_hex(weights, 32));
    }
    return err;
}

static enum err set_paused(struct control_call *call, bool paused, json_t **ret,
                           struct err_info *reterr)
{
    enum err err =
        control_audit(call, paused ? "train.pause" : "train.unpause", reterr, (const char *)NULL);
    err = err ? err : train_pause(call->node->train, paused, reterr);
    if (!err) {
        *ret = json_pack("{s:b}", "paused", paused);
    }
    return err;
}

enum err control_train_pause(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    return set_paused(call, true, ret, reterr);
}

enum err control_train_unpause(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    return set_paused(call, false, ret, reterr);
}
