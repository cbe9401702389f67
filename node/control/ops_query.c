/* query, queries, queries show, queries collect. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/query/site.h"
#include "proto/manifest.h"
#include "proto/time.h"
#include "node/query/price.h"
#include "store/job.h"
#include "store/ledger.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static const char *const statuses[] = {"answered", "refused", "unreachable", "unavailable",
                                       "waiting"};

static json_t *clause_list(const struct query_site *site)
{
    static const char *const results[] = {"pass", "fail", "needed"};
    json_t *array = json_array();
    for (size_t i = 0; i < site->clause_count; i++) {
        const struct query_clause *clause = &site->clauses[i];
        json_t *view = json_object();
        json_object_set_new(view, "clause", control_json_span(clause->clause));
        json_object_set_new(view, "expected", control_json_span(clause->expected));
        json_object_set_new(view, "result", json_string(results[clause->result % 3]));
        json_object_set_new(view, "reason", control_json_span(clause->reason));
        json_array_append_new(array, view);
    }
    return array;
}

static json_t *sites_view(const struct query_result *result, bool explain)
{
    json_t *array = json_array();
    for (size_t i = 0; i < result->site_count; i++) {
        const struct query_site *site = &result->site[i];
        json_t *view =
            json_pack("{s:s, s:s}", "node", site->node, "status", statuses[site->status]);
        if (site->reason[0]) {
            json_object_set_new(view, "reason", json_string(site->reason));
            json_object_set_new(view, "detail", json_string(site->detail));
        }
        if (site->status == QUERY_SITE_REFUSED && site->epsilon_per_query > 0) {
            json_object_set_new(view, "epsilon_per_query", json_real(site->epsilon_per_query));
        }
        if (site->version[0]) {
            json_object_set_new(view, "version", json_string(site->version));
        }
        if (site->withheld) {
            json_object_set_new(view, "withheld", json_integer((json_int_t)site->withheld));
        }
        if (site->replayed) {
            json_object_set_new(view, "replayed", json_true());
        }
        if (site->status == QUERY_SITE_WAITING) {
            json_object_set_new(view, "approval", control_json_hex(site->approval, 16));
        }
        if (explain) {
            bool held = site->error == E_APPROVAL;
            json_object_set_new(view, "verdict",
                                json_string(site->status == QUERY_SITE_ANSWERED ? "permit"
                                            : held                              ? "hold"
                                                                                : "deny"));
            json_object_set_new(view, "clauses", clause_list(site));
        }
        json_array_append_new(array, view);
    }
    return array;
}

static json_t *budgets_view(const struct query_result *result)
{
    json_t *array = json_array();
    for (size_t i = 0; i < result->site_count; i++) {
        const struct query_site *site = &result->site[i];
        if (site->cap_nano) {
            json_array_append_new(
                array, control_account_view(site->node, result->query.dataset, site->epsilon_total,
                                            site->budget_delta, site->cap_nano, site->spent_nano));
        }
    }
    return array;
}

static json_t *number_view(const struct query_estimate *estimate)
{
    double value = estimate->value;
    if (!estimate->known || !isfinite(value)) {
        return json_null();
    }
    if (estimate->date) {
        char text[16];
        int32_t year, month, day;
        proto_time_civil((int32_t)floor(value + 0.5), &year, &month, &day);
        snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, day);
        return json_string(text);
    }
    return estimate->whole && value == round(value) && fabs(value) < 1e15
               ? json_integer((json_int_t)value)
               : json_real(value);
}

static void rows_view(const struct query_table *table, json_t *rows, json_t *margins)
{
    const struct query_value *value = table->values;
    for (size_t r = 0; r < table->row_count; r++) {
        json_t *row = json_array();
        json_t *margin = json_array();
        for (size_t c = 0; c < table->column_count; c++, value++) {
            const struct query_estimate *number = &value->number;
            bool reach = !value->text && number->known && isfinite(number->margin);
            json_array_append_new(row,
                                  value->text ? json_string(value->text) : number_view(number));
            json_array_append_new(margin, reach ? json_real(number->margin) : json_null());
        }
        json_array_append_new(rows, row);
        json_array_append_new(margins, margin);
    }
}

/* [row, column] of the numbers whose interval leaves out nothing that their bounds allow. */
static json_t *hidden_view(const struct query_table *table)
{
    json_t *hidden = json_array();
    const struct query_value *value = table->values;
    for (size_t r = 0; r < table->row_count; r++) {
        for (size_t c = 0; c < table->column_count; c++, value++) {
            if (!value->text && value->number.hidden) {
                json_array_append_new(hidden, json_pack("[I, I]", (json_int_t)r, (json_int_t)c));
            }
        }
    }
    return hidden;
}

static json_t *columns_view(const struct query_table *table)
{
    json_t *columns = json_array();
    for (size_t c = 0; c < table->column_count; c++) {
        json_array_append_new(columns, json_string(table->columns[c]));
    }
    return columns;
}

static json_t *finite_view(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Expected margins for the declared size and a tenth of it; never from the data. */
static json_t *expected_view(struct query_result *result)
{
    json_t *array = json_array();
    uint64_t size = 0;
    size_t sites = 0;
    for (size_t i = 0; i < result->site_count; i++) {
        if (result->site[i].status == QUERY_SITE_ANSWERED) {
            size += result->site[i].size;
            sites++;
        }
    }
    struct query_expected *list;
    size_t count = 0;
    if (!result->planned || query_table_expected(&result->query, &result->layout, (double)size,
                                                 sites, &result->arena, &list, &count)) {
        return array;
    }
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array,
                              json_pack("{s:s, s:o, s:o}", "column", list[i].column, "margin95",
                                        finite_view(list[i].margin), "margin95_tenth",
                                        finite_view(list[i].margin_tenth)));
    }
    return array;
}

/* How many more questions at this price every site that answered would take; UINT64_MAX when none did. */
static uint64_t questions_more(const struct query_result *result)
{
    uint64_t price = result->price.nano;
    uint64_t more = UINT64_MAX;
    for (size_t i = 0; i < result->site_count; i++) {
        const struct query_site *site = &result->site[i];
        if (site->status == QUERY_SITE_ANSWERED && site->left_nano / price < more) {
            more = site->left_nano / price;
        }
    }
    return more;
}

/* Labels of the group columns among the answer's. */
static json_t *groups_view(const struct proto_query *query)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < query->item_count; i++) {
        if (query->items[i].kind == PROTO_AGG_GROUP) {
            json_array_append_new(groups, json_string(query->items[i].label));
        }
    }
    return groups;
}

static const char *shape_of(const struct proto_query *query)
{
    enum proto_aggregate kind =
        query->table < 0 ? PROTO_AGG_GROUP : query->items[query->table].kind;
    return kind == PROTO_AGG_HISTOGRAM  ? "histogram"
           : kind == PROTO_AGG_SURVIVAL ? "survival"
           : kind == PROTO_AGG_LINREG   ? "linreg"
                                        : "cells";
}

/* Institutions of which more than one node answered. Unless their tables are disjoint, a person in two of them loses twice. */
static json_t *several_nodes(const struct query_result *result)
{
    json_t *orgs = json_array();
    for (size_t i = 0; i < result->site_count; i++) {
        size_t before = 0;
        for (size_t j = 0; j < i && result->site[i].status == QUERY_SITE_ANSWERED; j++) {
            before += result->site[j].status == QUERY_SITE_ANSWERED &&
                      strcmp(result->site[i].org, result->site[j].org) == 0;
        }
        if (before == 1) {
            json_array_append_new(orgs, json_string(result->site[i].org));
        }
    }
    return orgs;
}

/* What protects whom, and what of a person's rows counts. */
static json_t *privacy_view(const struct query_result *result)
{
    const struct privacy_bounds *bounds = &result->layout.bounds;
    json_t *view = json_pack(
        "{s:s, s:s, s:s, s:s, s:I}", "unit", result->schema.unit[0] ? result->schema.unit : "row",
        "relation", "add-remove-one", "scope", result->layout.nodes > 1 ? "per person" : "per node",
        "mechanism", "discrete-gaussian", "rows_per_unit", (json_int_t)bounds->rows);
    if (result->layout.nodes > 1) {
        json_object_set_new(view, "nodes_per_unit", json_integer(result->layout.nodes));
    } else {
        json_object_set_new(view, "several_nodes_of", several_nodes(result));
    }
    if (result->query.group_count) {
        json_object_set_new(view, "rows_per_group", json_integer(bounds->rows_per_cell));
        json_object_set_new(view, "groups_per_unit", json_integer(bounds->cells));
    }
    return view;
}

/* What an aggregate says beside its rows. */
static void add_extras(const struct query_result *result, json_t *view)
{
    const struct query_table *table = &result->table;
    if (table->logrank.known) {
        json_object_set_new(view, "comparison",
                            json_pack("{s:s, s:f, s:I, s:f}", "test", "log-rank", "chi2",
                                      table->logrank.chi2, "freedom",
                                      (json_int_t)table->logrank.freedom, "p", table->logrank.p));
    }
    if (isfinite(table->rows)) {
        json_object_set_new(view, "fit",
                            json_pack("{s:f, s:o}", "rows", table->rows, "residual_deviation",
                                      finite_view(table->deviation)));
    }
    if (result->query.keyed) { /* a site that did not tell a group may still have it */
        json_t *sites = json_array();
        for (size_t cell = 0; cell < result->cells.count; cell++) {
            json_array_append_new(sites,
                                  json_integer((json_int_t)result->cells.contributors[cell]));
        }
        json_object_set_new(view, "row_sites", sites);
    }
}

static json_t *result_view(struct query_result *result, const struct query_ask *ask)
{
    uint64_t nano = 0;
    for (size_t i = 0; i < result->site_count; i++) {
        nano = result->site[i].cost_nano > nano ? result->site[i].cost_nano : nano;
    }
    json_t *rows = json_array();
    json_t *margins = json_array();
    json_t *columns = columns_view(&result->table);
    if (!ask->explain) {
        rows_view(&result->table, rows, margins);
    }
    json_t *view =
        json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "query_id",
                  control_json_hex(result->id, 16), "dataset", result->query.dataset, "mode",
                  "per-node", "columns", columns, "rows", rows, "margin95", margins, "sites",
                  sites_view(result, ask->explain), "cost",
                  json_pack("{s:f, s:f, s:o}", "epsilon", result->replayed ? 0.0 : result->epsilon,
                            "delta", result->replayed ? 0.0 : result->delta, "rho",
                            control_json_nano(result->replayed ? 0 : nano)),
                  "budget", budgets_view(result), "replayed", result->replayed);
    json_object_set_new(view, "privacy", privacy_view(result));
    json_object_set_new(view, "shape", json_string(shape_of(&result->query)));
    if (result->threshold && result->threshold < INT64_MAX) {
        json_object_set_new(view, "threshold", json_integer((json_int_t)result->threshold));
    }
    json_object_set_new(view, "groups", groups_view(&result->query));
    if (result->query.warning) {
        json_object_set_new(view, "warnings", json_pack("[s]", result->query.warning));
    }
    uint64_t more = questions_more(result);
    if (more != UINT64_MAX) {
        json_object_set_new(view, "forecast", json_pack("{s:I}", "questions", (json_int_t)more));
    }
    if (ask->wanted.error > 0) {
        json_object_set_new(view, "wanted",
                            json_pack("{s:f, s:b, s:f}", "error", ask->wanted.error, "relative",
                                      ask->wanted.relative, "epsilon", result->epsilon));
    }
    if (ask->explain) {
        json_object_set_new(view, "explain", json_true());
        json_object_set_new(view, "expected", expected_view(result));
    } else {
        json_object_set_new(view, "hidden", hidden_view(&result->table));
        add_extras(result, view);
    }
    return view;
}

static json_t *texts_view(const char *const *texts, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_string(texts[i]));
    }
    return array;
}

/* Its encoding, which is what the sites see again when the answer is collected. */
static json_t *purpose_view(const struct proto_purpose *purpose)
{
    struct buf bytes = {.max = QUERY_PURPOSE_MAX};
    json_t *view = proto_codec_encode(&proto_purpose_message, purpose, &bytes, NULL)
                       ? json_null()
                       : control_json_hex(bytes.ptr, bytes.len);
    buf_fini(&bytes);
    return view;
}

static enum err read_purpose(struct control_call *call, const json_t *view,
                             struct proto_purpose *ret)
{
    const char *hex = json_string_value(view);
    size_t len = hex ? strlen(hex) / 2 : 0;
    uint8_t *bytes = arena_alloc(&call->arena, len + 1, 1);
    if (!bytes) {
        return E_NO_MEMORY;
    }
    return hex && span_from_hex(hex, bytes, len)
               ? proto_codec_decode(&proto_purpose_message, span_of(bytes, len), &call->arena, ret,
                                    NULL)
               : E_CORRUPT;
}

static const char *question_state(const struct query_result *result, enum err err)
{
    for (size_t i = 0; i < result->site_count; i++) {
        if (result->site[i].status == QUERY_SITE_WAITING) {
            return "waiting";
        }
    }
    return err ? "refused" : "answered";
}

/* What this node asked, kept for `queries`: sealed like all state. The id of a query is its key among the jobs. "ask" is
 * what `queries collect` asks again. */
static enum err keep_question(struct control_call *call, const struct query_ask *ask,
                              const struct query_result *result, json_t *view, enum err outcome,
                              struct err_info *reterr)
{
    json_t *kept = json_pack(
        "{s:s, s:o, s:I, s:s, s:o, s:s, s:s, s:s, s:f}", "type", "query", "query_id",
        control_json_hex(result->id, 16), "time", (json_int_t)query_now(), "person", call->person,
        "project", control_json_span(ask->purpose.project), "dataset", result->query.dataset, "sql",
        ask->sql, "state", question_state(result, outcome), "epsilon", result->epsilon);
    json_object_set_new(kept, "ask",
                        json_pack("{s:f, s:f, s:o, s:o, s:I, s:I, s:I}", "epsilon", result->epsilon,
                                  "delta", result->delta, "purpose", purpose_view(&ask->purpose),
                                  "sites", texts_view(ask->sites, ask->site_count), "min_sites",
                                  (json_int_t)ask->min_sites, "rows_limit",
                                  (json_int_t)ask->limits.rows, "groups_limit",
                                  (json_int_t)ask->limits.groups));
    json_object_set_new(kept, "sites", sites_view(result, false));
    json_object_set(kept, "answer", view ? view : json_null());
    char *text = json_dumps(kept, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(kept);
    enum err err =
        text ? store_job_put(&call->node->store, result->id, span_str(text), reterr) : E_NO_MEMORY;
    free(text);
    return err;
}

/* A second passes before anything is said: most answers are there by then. */
static void show_waiting(void *user, size_t answered, size_t asked, uint64_t elapsed_ms,
                         uint64_t expected_ms)
{
    char text[96];
    if (elapsed_ms < 1000) {
        return;
    }
    snprintf(text, sizeof text, "asking, %zu of %zu sites have answered, seconds", answered, asked);
    uint64_t total = (expected_ms > elapsed_ms ? expected_ms : elapsed_ms) / 1000;
    control_progress(user, text, elapsed_ms / 1000, total);
}

/* Absent, or from 1 to a million; the table has checked that it is whole. */
static bool limit_fits(struct control_call *call, const char *option)
{
    double limit = control_number(call, option, 1);
    return limit >= 1 && limit <= PROTO_SCHEMA_ROWS_MAX;
}

/* --error 50, or --error 5% of what --assume-n says. */
static enum err read_wanted(struct control_call *call, struct query_ask *ask,
                            struct err_info *reterr)
{
    const char *text = control_text(call, "--error");
    double rows = control_number(call, "--assume-n", 0);
    if (control_flag(call, "--assume-n") && (!text || !(rows >= 1 && rows <= 1e12))) {
        return proto_err_set(reterr, E_USAGE,
                             "--assume-n takes a number of rows from 1, and needs --error");
    }
    if (!text) {
        return E_OK;
    }
    size_t len = strlen(text);
    bool relative = len > 1 && text[len - 1] == '%';
    double error = 0;
    if (!proto_number_parse(span_of(text, len - relative), &error) || !(error > 0)) {
        return proto_err_set(reterr, E_USAGE,
                             "--error takes a margin, as 50, or a part of what is counted, as 5%%");
    }
    if (control_flag(call, "--epsilon")) {
        return proto_err_set(reterr, E_USAGE,
                             "--error finds the epsilon that it needs: give one of the two");
    }
    ask->wanted = (struct query_wanted){relative ? error / 100 : error, relative, rows};
    return E_OK;
}

static enum err fill_ask(struct control_call *call, struct query_ask *ask, struct err_info *reterr)
{
    const char *mode = control_text(call, "--mode");
    const char **sites = arena_alloc(&call->arena, QUERY_SITES_MAX, sizeof *sites);
    size_t site_count = 0;
    if (!sites) {
        return E_NO_MEMORY;
    }
    enum err err = control_list(call, "--sites", sites, QUERY_SITES_MAX, &site_count, reterr);
    if (err) {
        return err;
    }
    if (!limit_fits(call, "--rows-per-unit") || !limit_fits(call, "--groups-per-unit")) {
        return proto_err_set(
            reterr, E_USAGE,
            "--rows-per-unit and --groups-per-unit take a whole number from 1 to %d",
            PROTO_SCHEMA_ROWS_MAX);
    }
    if (!limit_fits(call, "--min-sites")) {
        return proto_err_set(reterr, E_USAGE, "--min-sites takes a whole number from 1");
    }
    *ask = (struct query_ask){
        .limits = {(uint32_t)control_number(call, "--rows-per-unit", 0),
                   (uint32_t)control_number(call, "--groups-per-unit", 0)},
        .sql = control_text(call, "SQL"),
        .epsilon = control_number(call, "--epsilon", 0),
        .delta = control_number(call, "--delta", 0),
        .sites = sites,
        .site_count = site_count,
        .min_sites = (size_t)control_number(call, "--min-sites", 1),
        .secure = mode && strcmp(mode, "secure") == 0,
        .explain = control_flag(call, "--explain"),
        .timeout_ms = control_duration_ms(call, "--timeout", 0),
        .cancelled = control_cancelled,
        .waiting = show_waiting,
        .user = call,
    };
    if (ask->secure) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "this version has no secure aggregation; ask with --mode per-node");
    }
    if (control_flag(call, "--epsilon") && (ask->epsilon < 1e-6 || ask->epsilon > 1e6)) {
        return proto_err_set(reterr, E_USAGE, "--epsilon takes a number from 0.000001 to 1000000");
    }
    if (control_flag(call, "--delta") && (ask->delta < 1e-12 || ask->delta >= 1)) {
        return proto_err_set(reterr, E_USAGE, "--delta takes a number from 1e-12 to below 1");
    }
    err = read_wanted(call, ask, reterr);
    return err ? err : control_purpose(call, &ask->purpose, reterr);
}

/* Beside the times that the sites say. */
static void say_kept(struct control_call *call, const uint8_t id[16], uint64_t us)
{
    char hex[33];
    char text[80];
    span_to_hex(span_of(id, 16), hex);
    snprintf(text, sizeof text, "%s keep %llu microseconds", hex, (unsigned long long)us);
    call->node->query.log(call->node->query.user, PEER_LOG_DEBUG, "query.times", text);
}

static enum err run_ask(struct control_call *call, const struct query_ask *ask, json_t **ret,
                        struct err_info *reterr)
{
    struct query_result *result = proto_alloc(1, sizeof *result);
    enum err err = result ? query_ask(&call->node->query, ask, result, reterr) : E_NO_MEMORY;
    if (!err) {
        *ret = result_view(result, ask);
    } else if (result && result->site_count) {
        call->error_sites = sites_view(result, ask->explain);
    }
    if (result && result->site_count && !ask->explain) {
        struct err_info second = {0};
        uint64_t began = uv_hrtime();
        enum err kept = keep_question(call, ask, result, *ret, err, &second);
        if (kept && !err) {
            call->node->query.log(call->node->query.user, PEER_LOG_WARN, "query.keep", second.text);
        }
        say_kept(call, result->id, (uv_hrtime() - began) / 1000);
    }
    if (result) {
        query_result_fini(result);
    }
    proto_free(result);
    return err;
}

enum err control_query(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct query_ask ask;
    enum err err = fill_ask(call, &ask, reterr);
    return err ? err : run_ask(call, &ask, ret, reterr);
}

struct history {
    struct control_call *call;
    json_t *array;
    int64_t since;
};

static enum err add_question(void *user, const uint8_t id[16], struct span state)
{
    struct history *history = user;
    (void)id;
    json_t *kept = json_loadb((const char *)state.ptr, state.len, 0, NULL);
    const char *type = json_string_value(json_object_get(kept, "type"));
    int64_t time = json_integer_value(json_object_get(kept, "time"));
    const char *person = json_string_value(json_object_get(kept, "person"));
    bool all = history->call->roles & (PROTO_ROLE_OPERATOR | PROTO_ROLE_AUDITOR);
    if (type && strcmp(type, "query") == 0 && time >= history->since &&
        (all || (person && strcmp(person, history->call->person) == 0))) {
        json_object_del(kept, "answer");
        json_object_del(kept, "ask");
        json_object_del(kept, "sites");
        json_object_del(kept, "type");
        json_object_set_new(kept, "time", control_json_time(time));
        json_array_append(history->array, kept);
    }
    json_decref(kept);
    return E_OK;
}

/* Times are of one form and of one zone, so their texts are in their order. */
static int by_time(const void *a, const void *b)
{
    const char *left = json_string_value(json_object_get(*(json_t *const *)a, "time"));
    const char *right = json_string_value(json_object_get(*(json_t *const *)b, "time"));
    return strcmp(right ? right : "", left ? left : "");
}

/* The store has them by their ids, which are random; people look for the newest. */
static enum err sort_questions(struct control_call *call, json_t *array)
{
    size_t count = json_array_size(array);
    json_t **items = arena_alloc(&call->arena, count + 1, sizeof *items);
    if (!items) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = json_incref(json_array_get(array, i));
    }
    qsort(items, count, sizeof *items, by_time);
    for (size_t i = 0; i < count; i++) {
        json_array_set_new(array, i, items[i]);
    }
    return E_OK;
}

enum err control_queries(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct history history = {call, json_array(), control_since(call)};
    enum err err = store_job_each(&call->node->store, add_question, &history, reterr);
    err = err ? err : sort_questions(call, history.array);
    *ret = history.array;
    return err;
}

/* The kept question ID of the caller's, or of anybody for those who see all. The caller frees *RET. */
static enum err load_question(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    uint8_t id[16];
    struct buf state = {.max = STORE_JOB_MAX};
    if (!span_from_hex(control_text(call, "ID"), id, sizeof id)) {
        return proto_err_set(
            reterr, E_NOT_FOUND,
            "a question's id has 32 hexadecimal digits; `concordat queries` lists them");
    }
    enum err err = store_job_get(&call->node->store, id, &state, reterr);
    json_t *kept = err ? NULL : json_loadb((const char *)state.ptr, state.len, 0, NULL);
    const char *type = json_string_value(json_object_get(kept, "type"));
    const char *person = json_string_value(json_object_get(kept, "person"));
    bool all = call->roles & (PROTO_ROLE_OPERATOR | PROTO_ROLE_AUDITOR);
    buf_fini(&state);
    if (err == E_NOT_FOUND || (!err && (!type || strcmp(type, "query") != 0 ||
                                        !(all || (person && strcmp(person, call->person) == 0))))) {
        json_decref(kept);
        return proto_err_set(reterr, E_NOT_FOUND, "no question of yours has this id");
    }
    *ret = kept;
    return err;
}

/* The answer as it was shown, or what the sites said instead, and the question that it belongs to. */
static json_t *question_view(const json_t *kept)
{
    static const char *const facts[] = {"sql", "person", "project", "state", "epsilon"};
    json_t *answer = json_object_get(kept, "answer");
    json_t *view = json_is_object(answer) ? json_copy(answer) : json_pack("{s:[]}", "rows");
    json_t *question = json_object();
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        json_object_set(question, facts[i], json_object_get(kept, facts[i]));
    }
    json_object_set_new(question, "time",
                        control_json_time(json_integer_value(json_object_get(kept, "time"))));
    json_object_set_new(view, "question", question);
    if (!json_is_object(answer)) {
        json_object_set(view, "query_id", json_object_get(kept, "query_id"));
        json_object_set(view, "dataset", json_object_get(kept, "dataset"));
        json_object_set(view, "sites", json_object_get(kept, "sites"));
    }
    return view;
}

enum err control_queries_show(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    json_t *kept = NULL;
    enum err err = load_question(call, &kept, reterr);
    const char *state = json_string_value(json_object_get(kept, "state"));
    bool waits = state && (strcmp(state, "waiting") == 0 || strcmp(state, "decided") == 0);
    if (!err && waits && !json_is_object(json_object_get(kept, "answer"))) {
        call->error_sites = json_incref(json_object_get(kept, "sites"));
        err = proto_err_set(reterr, E_APPROVAL,
                            "this question waits for a person, or a person has decided; "
                            "`concordat queries collect %s` asks again",
                            control_text(call, "ID"));
    } else if (!err) {
        *ret = question_view(kept);
    }
    json_decref(kept);
    return err;
}

/* Texts of a JSON list, in the call's arena. */
static const char **texts_of(struct control_call *call, const json_t *list, size_t *ret_count)
{
    size_t count = json_array_size(list);
    const char **texts = arena_alloc(&call->arena, count + 1, sizeof *texts);
    for (size_t i = 0; texts && i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        texts[i] = arena_strdup(&call->arena, span_str(text ? text : ""));
    }
    *ret_count = texts ? count : 0;
    return texts;
}

static const char *text_of(struct control_call *call, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return arena_strdup(&call->arena, span_str(text ? text : ""));
}

/* In the name of the person who asked first: what a site's people approved was that person's request. */
enum err control_queries_collect(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    json_t *kept = NULL;
    enum err err = load_question(call, &kept, reterr);
    const json_t *again = json_object_get(kept, "ask");
    const char *person = json_string_value(json_object_get(kept, "person"));
    if (!err && (!json_is_object(again) || !person || strcmp(person, call->person) != 0)) {
        err = proto_err_set(reterr, E_ROLE, "only the person who asked can collect the answer");
    }
    struct query_ask ask = {
        .cancelled = control_cancelled,
        .waiting = show_waiting,
        .user = call,
    };
    err = err ? err : read_purpose(call, json_object_get(again, "purpose"), &ask.purpose);
    if (!err) {
        ask.sql = text_of(call, kept, "sql");
        ask.epsilon = json_number_value(json_object_get(again, "epsilon"));
        ask.delta = json_number_value(json_object_get(again, "delta"));
        ask.min_sites = (size_t)json_integer_value(json_object_get(again, "min_sites"));
        ask.limits.rows = (uint32_t)json_integer_value(json_object_get(again, "rows_limit"));
        ask.limits.groups = (uint32_t)json_integer_value(json_object_get(again, "groups_limit"));
        ask.sites = texts_of(call, json_object_get(again, "sites"), &ask.site_count);
        err = ask.sql && ask.sites ? run_ask(call, &ask, ret, reterr) : E_NO_MEMORY;
    }
    json_decref(kept);
    return err;
}
