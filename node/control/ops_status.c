/* status, peers, doctor: what this node is, whom it sees, what needs a person. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "crypto/memory.h"
#include "node/query/reminder.h"
#include "node/query/site.h"
#include "store/audit.h"
#include "store/catalogue.h"
#include "store/egress.h"
#include "store/partition.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

struct peer_member *control_members(struct control_call *call, size_t *ret_count)
{
    struct peer_member *members = arena_alloc(&call->arena, PEER_MEMBERS_MAX, sizeof *members);
    size_t count = members ? peer_members(call->node->peer, members, PEER_MEMBERS_MAX) : 0;
    *ret_count = count < PEER_MEMBERS_MAX ? count : PEER_MEMBERS_MAX;
    return members;
}

json_t *control_peers_view(struct control_call *call)
{
    size_t count;
    struct peer_member *members = control_members(call, &count);
    json_t *array = json_array();
    for (size_t i = 0; members && i < count; i++) {
        const struct peer_member *member = &members[i];
        json_array_append_new(
            array, json_pack("{s:s, s:s, s:s, s:s, s:o, s:b, s:o, s:s, s:s}", "node", member->name,
                             "org", member->org, "state", peer_state_name(member->state), "address",
                             member->address, "last_seen", control_json_time(member->last_seen),
                             "root_equal", member->root_equal || member->state == PEER_SELF,
                             "node_id", control_json_hex(member->id, 16), "org_type",
                             member->org_type, "country", member->country));
    }
    return array;
}

enum err control_peers(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    (void)reterr;
    *ret = control_peers_view(call);
    return E_OK;
}

static enum err add_dataset(void *user, const struct store_dataset *row)
{
    return json_array_append_new(
               user, json_pack("{s:s, s:s}", "dataset", row->name, "version", row->version))
               ? E_NO_MEMORY
               : E_OK;
}

static enum err add_reminder(void *user, const struct query_reminder *reminder)
{
    int64_t days = (reminder->due - query_now()) / 86400;
    return json_array_append_new(user, json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:s}", "what",
                                                 reminder->what, "id", reminder->id, "name",
                                                 reminder->name, "node", reminder->node, "due",
                                                 control_json_time(reminder->due), "days",
                                                 (json_int_t)days, "text", reminder->text))
               ? E_NO_MEMORY
               : E_OK;
}

enum err control_status(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct node *node = call->node;
    char fingerprint[65];
    crypto_identity_fingerprint(crypto_identity_point(node->identity), fingerprint);
    json_t *datasets = json_array();
    json_t *reminders = json_array();
    json_t *budgets = NULL;
    enum err err = store_catalogue_each(&node->store, add_dataset, datasets, reterr);
    if (!err) {
        err = control_budget_view(call, NULL, &budgets, reterr);
    }
    err = err ? err : query_reminders(&node->query, query_now(), add_reminder, reminders, reterr);
    if (err) {
        json_decref(datasets);
        json_decref(reminders);
        return err;
    }
    struct peer_counters counters;
    peer_counters(node->peer, &counters);
    const char *state = node->stopping ? "draining" : (node->ready ? "serving" : "starting");
    *ret = json_pack(
        "{s:s, s:o, s:s, s:s, s:o, s:s, s:s, s:s, s:o, s:s, s:s, s:i, s:o, s:o, s:o, s:o}", "node",
        node->config.node, "node_id", control_json_hex(node->query.node_id, 16), "org",
        node->config.org, "federation", node->federation, "federation_id",
        control_json_hex(node->query.federation_id, 16), "fingerprint", fingerprint, "listen",
        node->config.listen, "state", state, "since", control_json_time(node->started), "version",
        PACKAGE_VERSION, "cryptography", crypto_provider()->name, "wire", 1, "peers",
        control_peers_view(call), "datasets", datasets, "jobs", control_jobs_view(call), "budgets",
        budgets);
    json_object_set_new(*ret, "reminders", reminders);
    json_object_set_new(
        *ret, "traffic",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "requests_in", (json_int_t)counters.requests_in,
                  "requests_out", (json_int_t)counters.requests_out, "malformed",
                  (json_int_t)counters.malformed, "over_limit", (json_int_t)counters.over_limit,
                  "unauthorised", (json_int_t)counters.unauthorised, "records",
                  (json_int_t)counters.records_new));
    struct store_traffic written = store_traffic(&node->store);
    struct store_readers readers = store_readers(&node->store);
    json_object_set_new(*ret, "store",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "commits",
                                  (json_int_t)written.commits, "writes", (json_int_t)written.writes,
                                  "readers", (json_int_t)readers.readers, "oldest_reader_commits",
                                  (json_int_t)readers.oldest_behind, "partitions_read",
                                  (json_int_t)readers.partitions, "partitions_replaced",
                                  (json_int_t)readers.replaced));
    return E_OK;
}

static void check(json_t *checks, const char *name, const char *result, const char *text,
                  const char *cure)
{
    json_array_append_new(checks, json_pack("{s:s, s:s, s:s, s:s}", "check", name, "result", result,
                                            "text", text, "cure", cure));
}

static void check_peers(struct control_call *call, json_t *checks)
{
    size_t count;
    struct peer_member *members = control_members(call, &count);
    size_t up = 0;
    size_t behind = 0;
    int64_t soon = query_now() + 30 * 86400;
    for (size_t i = 0; members && i < count; i++) {
        up += members[i].state == PEER_UP || members[i].state == PEER_SELF;
        behind += members[i].state == PEER_UP && !members[i].root_equal;
        if (members[i].state == PEER_SELF && members[i].expires && members[i].expires < soon) {
            check(checks, "membership", "warn", "this node's membership ends within 30 days",
                  "ask the council to renew it");
        }
    }
    check(checks, "peers", up == count ? "ok" : "warn",
          up == count ? "all members are reachable" : "some members are not reachable",
          up == count ? ""
                      : "see `concordat peers`; check their daemons and the firewalls between");
    check(checks, "records", behind ? "warn" : "ok",
          behind ? "some peers hold other records" : "records are in step",
          behind ? "it should pass within seconds; if not, look at the log" : "");
}

static void check_clock(struct control_call *call, json_t *checks)
{
    struct err_info info = {0};
    int64_t ahead_ms = 0;
    size_t count = peer_clock(call->node->peer, &ahead_ms);
    bool drifts = count >= 2 && llabs(ahead_ms) > QUERY_CLOCK_WARN_S * INT64_C(1000);
    char text[96];
    snprintf(text, sizeof text, "%.1f s off the median of %zu peers", (double)ahead_ms / -1000,
             count);
    if (query_clock_check(call->node->peer, &info)) {
        check(checks, "clock", "fail", info.text, "set the clock; nothing is answered until then");
    } else {
        check(checks, "clock", drifts ? "warn" : "ok",
              count ? text : "no peer's clock to compare with",
              drifts ? "keep it in step with chrony or systemd-timesyncd" : "");
    }
}

enum err control_clock_accept(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    enum err err = control_audit(call, "clock.accept", reterr, (const char *)NULL);
    if (!err) {
        err = query_clock_accept(&call->node->store, call->node->peer, reterr);
    }
    if (!err) { /* so that the chain's newest time is the right one */
        err = control_audit(call, "clock.accepted", reterr, (const char *)NULL);
    }
    if (!err) {
        *ret = json_pack("{s:o}", "time", control_json_time(query_now()));
    }
    return err;
}

static void check_disk(struct control_call *call, json_t *checks)
{
    struct statvfs fs;
    bool full =
        statvfs(call->node->home, &fs) == 0 && fs.f_blocks && fs.f_bavail * 20 < fs.f_blocks;
    check(checks, "disk", full ? "warn" : "ok",
          full ? "less than 5 % of the home's disk is free" : "there is room on the home's disk",
          full ? "free some space: a full disk stops imports and answers" : "");
}

struct doctor {
    struct control_call *call;
    json_t *checks;
    size_t damaged;
};

/* Opening checks the file as a whole; a value within it is checked when it is read. */
static enum err check_dataset(void *user, const struct store_dataset *row)
{
    struct doctor *doctor = user;
    struct store_partition *partition = NULL;
    struct err_info info = {0};
    enum err err = store_partition_open(&doctor->call->node->store, row->name, &partition, &info);
    if (err) {
        char text[640];
        snprintf(text, sizeof text, "%s (%s)", info.text, proto_err_name(err));
        check(doctor->checks, "dataset", "fail", text,
              "put the file back from a backup, or import the data again");
        doctor->damaged++;
    }
    store_partition_close(partition);
    return E_OK;
}

static void check_datasets(struct control_call *call, json_t *checks)
{
    struct doctor doctor = {.call = call, .checks = checks};
    struct err_info info = {0};
    if (store_catalogue_each(&call->node->store, check_dataset, &doctor, &info)) {
        check(checks, "datasets", "fail", info.text, "restore from a backup; do not go on");
    } else if (!doctor.damaged) {
        check(checks, "datasets", "ok", "the files of all datasets open", "");
    }
    uint64_t met = call->node->query.damage_met;
    if (met) {
        char text[160];
        snprintf(text, sizeof text,
                 "%llu question%s or round%s met damaged data since the daemon started",
                 (unsigned long long)met, met == 1 ? "" : "s", met == 1 ? "" : "s");
        check(checks, "data", "warn", text,
              "`concordat fsck` names what is damaged; the log names the files (query.failed, "
              "train.failed)");
    }
}

enum err control_doctor(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    (void)reterr;
    json_t *checks = json_array();
    struct store_audit_report *report = arena_alloc(&call->arena, 1, sizeof *report);
    struct err_info info = {0};
    bool locked = crypto_key_locked();
    check(checks, "key memory", locked ? "ok" : "warn",
          locked ? "keys are locked into memory" : "keys may reach the swap space",
          locked ? "" : "raise LimitMEMLOCK= of the service to 8M or more");
    check(checks, "daemon", call->node->ready ? "ok" : "warn",
          call->node->ready ? "the daemon is serving" : "the daemon does not serve yet",
          call->node->ready ? ""
          : call->node->rolled_back || call->node->restored
              ? "this home is older than it should be, or restored: see `concordat help restore "
                "accept`"
              : "it waits for two other institutions to confirm its state; see the log");
    enum err err = report ? store_audit_check(&call->node->store, report, &info) : E_NO_MEMORY;
    check(checks, "audit", err ? "fail" : "ok", err ? info.text : "the audit chain is whole",
          err ? "restore from a backup; do not go on" : "");
    check_datasets(call, checks);
    check_peers(call, checks);
    check_clock(call, checks);
    check_disk(call, checks);
    *ret = json_pack("{s:o}", "checks", checks);
    return E_OK;
}
