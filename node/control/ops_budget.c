/* budget: what is left here, what the others said last, and for one dataset who spent it. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/privacy/mechanism.h"
#include "node/query/admission.h"
#include "node/query/price.h"
#include "node/query/site.h"
#include "proto/manifest.h"
#include "proto/privacy.h"
#include "store/job.h"
#include "store/ledger.h"

#include <math.h>

/* What forecasts are made for: a count at the epsilon that a question takes when it names none. */
#define FORECAST_EPSILON_U 500000
#define Z95                1.959963984540054
#define HISTORY_MAX        1000

/* The conversion ends at the greatest epsilon that a manifest may name. */
static double finite_epsilon(uint64_t nano, double delta)
{
    return fmin(query_price_epsilon(nano, delta), PROTO_EPSILON_MAX);
}

static json_t *rounded(double epsilon)
{
    return json_real(round(epsilon * 1e6) / 1e6);
}

json_t *control_account_view(const char *node, const char *dataset, double epsilon_total,
                             double delta, uint64_t cap_nano, uint64_t spent_nano)
{
    uint64_t left = cap_nano > spent_nano ? cap_nano - spent_nano : 0;
    return json_pack("{s:s, s:s, s:f, s:o, s:f, s:o, s:o}", "node", node, "dataset", dataset,
                     "epsilon_total", epsilon_total, "epsilon_left",
                     rounded(left ? finite_epsilon(left, delta) : 0), "delta", delta, "rho_total",
                     control_json_nano(cap_nano), "rho_left", control_json_nano(left));
}

/* --- forecasts: from what is left and the declared size, never from the data --------------------- */

/* The 95 % margin of one site's COUNT(*) for NANO, for people who have at most ROWS rows each. */
static double count_margin(uint64_t nano, uint32_t rows)
{
    struct privacy_coordinate count[2] = {{.kind = PRIVACY_ROWS, .bound = 1, .integer = true},
                                          {.kind = PRIVACY_UNITS, .bound = 1, .integer = true}};
    return privacy_mechanism_plan(nano, rows, count, rows > 1 ? 2 : 1, NULL)
               ? NAN
               : Z95 * privacy_mechanism_sigma(&count[0]);
}

static json_t *forecast_view(struct control_call *call, const struct store_account *account)
{
    struct proto_privacy_price price =
        query_price(FORECAST_EPSILON_U, account->delta_e12, account->delta0_e18 > 0);
    json_t *view = json_pack("{s:f, s:I}", "epsilon", FORECAST_EPSILON_U / 1e6, "count",
                             (json_int_t)(account->left_nano / price.nano));
    struct query_admission *admission = proto_alloc(1, sizeof *admission);
    if (admission &&
        query_admission_load(&call->node->query, account->dataset, admission, NULL) == E_OK) {
        uint32_t nodes = admission->schema.max_nodes_per_unit;
        double margin =
            count_margin(price.nano / (nodes > 1 ? nodes : 1), admission->schema.max_rows_per_unit);
        if (isfinite(margin) && admission->row.size > 0) {
            json_object_set_new(view, "like", json_string("COUNT(*)"));
            json_object_set_new(view, "margin95", json_real(margin));
            json_object_set_new(view, "relative", json_real(margin / (double)admission->row.size));
        }
    }
    if (admission) {
        query_admission_fini(admission);
    }
    proto_free(admission);
    return view;
}

/* --- accounts of this node ----------------------------------------------------------------------- */

struct accounts {
    struct control_call *call;
    const char *dataset; /* NULL: all */
    json_t *array;
    json_t *domains;
    bool found;
};

static const char *domain_name(const struct store_account *account)
{
    return account->domain[0] ? account->domain : PROTO_DOMAIN_DEFAULT;
}

static json_t *thresholds_view(const struct store_account *account)
{
    uint64_t left = account->delta0_e18 > account->delta0_spent_e18
                        ? account->delta0_e18 - account->delta0_spent_e18
                        : 0;
    uint64_t each = query_price(FORECAST_EPSILON_U, account->delta_e12, true).delta0_e18;
    return json_pack("{s:f, s:f, s:I}", "delta_total", (double)account->delta0_e18 / 1e18,
                     "delta_left", (double)left / 1e18, "questions",
                     (json_int_t)(each ? left / each : 0));
}

static json_t *window_view(const struct store_account *account)
{
    int64_t opens;
    uint64_t left = store_account_window_left(account, query_now(), &opens);
    return json_pack("{s:I, s:o, s:o, s:o}", "seconds", (json_int_t)account->window_s, "rho_total",
                     control_json_nano(account->window_nano), "rho_left", control_json_nano(left),
                     "next", control_json_time(opens));
}

/* What was spent in epsilon: by the ledger's currency, which is what counts, and for the report as one Gaussian release of
 * all of it, which is tighter: Gaussian releases add up to a Gaussian one, however they were chosen (Dong, Roth, Su 2022). Ours
 * are on a grid so fine that the difference does not show in six digits, but for counts at a large epsilon. Not with training. */
static void add_spent(const struct store_account *account, double delta, json_t *view)
{
    if (account->spent_nano == 0) {
        return;
    }
    double rho = (double)account->spent_nano / 1e9;
    json_object_set_new(view, "epsilon_spent", rounded(finite_epsilon(account->spent_nano, delta)));
    if (account->train_nano == 0) {
        double tight = proto_privacy_analytic_gaussian_epsilon(1 / sqrt(2 * rho), delta);
        json_object_set_new(view, "epsilon_spent_tight", rounded(fmin(tight, PROTO_EPSILON_MAX)));
    }
}

static enum err add_domain(struct accounts *accounts, const struct store_account *account)
{
    double delta = (double)store_account_conversion_e12(account) / 1e12;
    double total = finite_epsilon(account->cap_nano, delta);
    json_t *view =
        control_account_view(accounts->call->node->config.node, "", round(total * 1e6) / 1e6, delta,
                             account->cap_nano, account->spent_nano);
    json_object_del(view, "dataset");
    json_object_set_new(view, "delta", json_real((double)account->delta_e12 / 1e12));
    json_object_set_new(view, "domain", json_string(domain_name(account)));
    json_object_set_new(view, "declared", json_boolean(account->declared));
    add_spent(account, delta, view);
    return json_array_append_new(accounts->domains, view) ? E_NO_MEMORY : E_OK;
}

static enum err add_account(void *user, const struct store_account *account)
{
    struct accounts *accounts = user;
    if (account->dataset[0] == '\0') {
        return add_domain(accounts, account);
    }
    if (accounts->dataset && strcmp(accounts->dataset, account->dataset) != 0) {
        return E_OK;
    }
    double delta = (double)store_account_conversion_e12(account) / 1e12;
    double total = finite_epsilon(account->cap_nano, delta);
    json_t *view = control_account_view(accounts->call->node->config.node, account->dataset,
                                        round(total * 1e6) / 1e6, delta, account->cap_nano,
                                        account->spent_nano);
    json_object_set_new(view, "delta", json_real((double)account->delta_e12 / 1e12));
    json_object_set_new(view, "domain", json_string(domain_name(account)));
    if (account->delta0_e18) {
        json_object_set_new(view, "thresholds", thresholds_view(account));
    }
    if (account->window_s) {
        json_object_set_new(view, "window", window_view(account));
    }
    add_spent(account, delta, view);
    json_object_set_new(view, "questions_left", forecast_view(accounts->call, account));
    accounts->found = true;
    return json_array_append_new(accounts->array, view) ? E_NO_MEMORY : E_OK;
}

static enum err load_accounts(struct accounts *accounts, struct err_info *reterr)
{
    accounts->array = json_array();
    accounts->domains = json_array();
    return accounts->array && accounts->domains
               ? store_ledger_accounts(&accounts->call->node->store, add_account, accounts, reterr)
               : E_NO_MEMORY;
}

enum err control_budget_view(struct control_call *call, const char *dataset, json_t **ret,
                             struct err_info *reterr)
{
    struct accounts accounts = {.call = call, .dataset = dataset};
    enum err err = load_accounts(&accounts, reterr);
    json_decref(accounts.domains);
    if (!err && dataset && !accounts.found) {
        err = proto_err_set(reterr, E_NOT_FOUND, "this node keeps no budget for a dataset %s",
                            dataset);
    }
    if (err) {
        json_decref(accounts.array);
        return err;
    }
    *ret = accounts.array;
    return E_OK;
}

/* --- what others said with their last answers ---------------------------------------------------- */

struct others {
    struct control_call *call;
    const char *dataset;
    json_t *newest; /* "node/dataset" -> account with "as_of" */
};

static void see_other(struct others *others, const json_t *budget, int64_t time)
{
    const char *node = json_string_value(json_object_get(budget, "node"));
    const char *dataset = json_string_value(json_object_get(budget, "dataset"));
    char key[160];
    if (!node || !dataset || strcmp(node, others->call->node->config.node) == 0 ||
        (others->dataset && strcmp(others->dataset, dataset) != 0)) {
        return;
    }
    snprintf(key, sizeof key, "%.64s/%.64s", node, dataset);
    json_t *known = json_object_get(others->newest, key);
    if (known && json_integer_value(json_object_get(known, "as_of")) >= time) {
        return;
    }
    json_t *copy = json_copy((json_t *)(uintptr_t)budget);
    json_object_set_new(copy, "as_of", json_integer(time));
    json_object_set_new(others->newest, key, copy);
}

static enum err see_question(void *user, const uint8_t id[16], struct span state)
{
    struct others *others = user;
    (void)id;
    json_t *kept = json_loadb((const char *)state.ptr, state.len, 0, NULL);
    const char *type = json_string_value(json_object_get(kept, "type"));
    const json_t *budgets = json_object_get(json_object_get(kept, "answer"), "budget");
    for (size_t i = 0; type && strcmp(type, "query") == 0 && i < json_array_size(budgets); i++) {
        see_other(others, json_array_get(budgets, i),
                  json_integer_value(json_object_get(kept, "time")));
    }
    json_decref(kept);
    return E_OK;
}

static enum err add_others(struct control_call *call, const char *dataset, json_t *to,
                           struct err_info *reterr)
{
    struct others others = {call, dataset, json_object()};
    enum err err = store_job_each(&call->node->store, see_question, &others, reterr);
    const char *key;
    json_t *account;
    json_object_foreach(others.newest, key, account)
    {
        int64_t time = json_integer_value(json_object_get(account, "as_of"));
        json_object_set_new(account, "as_of", control_json_time(time));
        json_array_append(to, account);
    }
    json_decref(others.newest);
    return err;
}

/* --- history of one dataset ---------------------------------------------------------------------- */

struct spending {
    struct control_call *call;
    const char *dataset;
    int64_t since;
    json_t *array;
    uint64_t last_nano; /* of the newest question that cost something */
};

static enum err add_charge(void *user, const struct store_ledger_row *row)
{
    static const char *const states[] = {"", "reserved", "released", "finished", "replayed"};
    struct spending *spending = user;
    bool all = spending->call->roles & (PROTO_ROLE_OPERATOR | PROTO_ROLE_AUDITOR);
    bool own = strcmp(row->person, spending->call->person) == 0 &&
               strcmp(row->node, spending->call->node->config.node) == 0;
    if (strcmp(row->dataset, spending->dataset) != 0 || !(all || own)) {
        return E_OK;
    }
    if (row->kind == STORE_CHARGE_QUERY && row->nano > 0) {
        spending->last_nano = row->nano;
    }
    bool train = row->kind == STORE_CHARGE_TRAIN;
    json_t *view = json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "time", control_json_time(row->time),
        "kind", train ? "training" : "query", "state", states[row->state], "node", row->node,
        "institution", row->institution, "person", row->person, "project", row->project, "rho",
        control_json_nano(row->nano), "id", control_json_hex(row->id, 16));
    if (row->delta0_e18) {
        json_object_set_new(view, "delta0", json_real((double)row->delta0_e18 / 1e18));
    }
    if (train) {
        json_object_set_new(view, "steps", json_integer((json_int_t)row->steps));
        json_object_set_new(view, "started", json_integer((json_int_t)row->started));
    }
    if (json_array_size(spending->array) == HISTORY_MAX) {
        json_array_remove(spending->array, 0);
    }
    return json_array_append_new(spending->array, view) ? E_NO_MEMORY : E_OK;
}

static enum err add_history(struct control_call *call, const char *dataset, json_t *to,
                            struct err_info *reterr)
{
    struct spending spending = {call, dataset, control_since(call), json_array(), 0};
    struct store_account account;
    enum err err =
        store_ledger_each(&call->node->store, spending.since, add_charge, &spending, reterr);
    err = err ? err : store_ledger_get(&call->node->store, dataset, &account, reterr);
    json_object_set_new(to, "history", spending.array);
    if (!err && spending.last_nano) {
        json_object_set_new(to, "forecast",
                            json_pack("{s:o, s:I}", "rho", control_json_nano(spending.last_nano),
                                      "questions",
                                      (json_int_t)(account.left_nano / spending.last_nano)));
    }
    return err;
}

enum err control_budget(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *dataset = control_text(call, "DATASET");
    struct accounts accounts = {.call = call, .dataset = dataset};
    enum err err = load_accounts(&accounts, reterr);
    json_t *others = json_array();
    err = err ? err : add_others(call, dataset, others, reterr);
    if (!err && dataset && !accounts.found && json_array_size(others) == 0) {
        err = proto_err_set(reterr, E_NOT_FOUND,
                            "this node keeps no budget for a dataset %s, and no answer told of one",
                            dataset);
    }
    if (err) {
        json_decref(accounts.array);
        json_decref(accounts.domains);
        json_decref(others);
        return err;
    }
    *ret = json_pack("{s:o, s:o, s:o}", "budget", accounts.array, "domains", accounts.domains,
                     "others", others);
    return dataset && accounts.found ? add_history(call, dataset, *ret, reterr) : E_OK;
}
