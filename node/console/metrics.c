#include "config.h"
#include "node/console/metrics.h"

#include "crypto/provider.h"
#include "node/query/site.h"
#include "store/ledger.h"

#include <stdio.h>

#define MEMBERS_MAX 1024

static enum err family(struct buf *out, const char *name, const char *type, const char *help)
{
    return buf_printf(out, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static enum err gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
    enum err err = family(out, name, "gauge", help);
    return err ? err : buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static enum err counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
    enum err err = family(out, name, "counter", help);
    return err ? err : buf_printf(out, "%s_total %llu\n", name, (unsigned long long)value);
}

static enum err about(struct node *node, struct buf *out)
{
    enum err err = family(out, "concordat_build", "info", "Version and cryptography provider.");
    err = err ? err
              : buf_printf(out, "concordat_build_info{version=\"%s\",cryptography=\"%s\"} 1\n",
                           PACKAGE_VERSION, crypto_provider()->name);
    err = err ? err
              : gauge(out, "concordat_ready",
                      "1 while the node serves: its state is the newest that anybody knows.",
                      node->ready && !node->stopping);
    return err ? err
               : gauge(out, "concordat_uptime_seconds", "Since the daemon's start.",
                       (uint64_t)(query_now() - node->started));
}

static enum err peers(struct node *node, struct buf *out)
{
    static const enum peer_state shown[] = {PEER_UP, PEER_CONNECTING, PEER_DOWN, PEER_REVOKED};
    size_t counts[PEER_REVOKED + 1] = {0};
    struct peer_member *members = proto_alloc(MEMBERS_MAX, sizeof *members);
    if (!members) {
        return E_NO_MEMORY;
    }
    size_t known = peer_members(node->peer, members, MEMBERS_MAX);
    for (size_t i = 0; i < known && i < MEMBERS_MAX; i++) {
        counts[members[i].state]++;
    }
    proto_free(members);
    enum err err =
        family(out, "concordat_peers", "gauge", "Other members by the state of the link.");
    for (size_t i = 0; !err && i < sizeof shown / sizeof *shown; i++) {
        err = buf_printf(out, "concordat_peers{state=\"%s\"} %zu\n", peer_state_name(shown[i]),
                         counts[shown[i]]);
    }
    return err;
}

static enum err traffic(struct node *node, struct buf *out)
{
    struct peer_counters c;
    peer_counters(node->peer, &c);
    const struct {
        const char *name, *help;
        uint64_t value;
    } rows[] = {
        {"concordat_requests_received", "Requests of other members.", c.requests_in},
        {"concordat_requests_sent", "Requests to other members.", c.requests_out},
        {"concordat_requests_malformed", "Messages that could not be read.", c.malformed},
        {"concordat_requests_over_limit", "Requests beyond a member's rate or open requests.",
         c.over_limit},
        {"concordat_connections_refused", "Connections of nobody we admit.", c.unauthorised},
        {"concordat_greetings_failed", "Links that did not greet as they must.", c.hello_failed},
        {"concordat_records_new", "Signed records that were news.", c.records_new},
        {"concordat_records_rejected", "Records with a bad signature, issuer or form.",
         c.records_rejected},
        {"concordat_records_forked", "Records of which their issuer signed two versions.",
         c.records_forked},
    };
    enum err err = E_OK;
    for (size_t i = 0; !err && i < sizeof rows / sizeof *rows; i++) {
        err = counter(out, rows[i].name, rows[i].help, rows[i].value);
    }
    return err;
}

static enum err kept(struct node *node, struct buf *out, struct err_info *reterr)
{
    struct store_audit_head head = {0};
    struct store_traffic written = store_traffic(&node->store);
    enum err err = store_audit_head(&node->store, &head);
    if (err && err != E_NOT_FOUND) { /* a new node's chain has no entries, and no head */
        return proto_err_set(reterr, err, "the audit head cannot be read");
    }
    err = counter(out, "concordat_audit_entries", "Length of the audit chain.", head.seq);
    err = err ? err
              : counter(out, "concordat_store_commits", "Commits, each with its disk sync.",
                        written.commits);
    return err ? err
               : counter(out, "concordat_store_writes", "Writes that these made durable.",
                         written.writes);
}

/* How many read and how long ago they began, in commits; nothing here depends on rows. */
static enum err readers(struct node *node, struct buf *out)
{
    struct store_readers readers = store_readers(&node->store);
    enum err err =
        gauge(out, "concordat_store_readers", "Reads of node.mdb under way.", readers.readers);
    err = err ? err
              : gauge(out, "concordat_store_oldest_reader_commits",
                      "Commits since the oldest of them began; their pages wait for it.",
                      readers.oldest_behind);
    err = err ? err
              : gauge(out, "concordat_partitions_read", "Partition files that are read.",
                      readers.partitions);
    return err ? err
               : gauge(out, "concordat_partitions_replaced",
                       "Those of them that were replaced or removed: their disk space waits.",
                       readers.replaced);
}

struct accounts {
    struct buf *out;
    bool left;
};

/* Dataset names are [a-z0-9._-], so they need no escapes. */
static enum err add_account(void *user, const struct store_account *account)
{
    const struct accounts *accounts = user;
    if (!account->dataset[0]) {
        return E_OK;
    }
    uint64_t value = !accounts->left ? account->cap_nano
                     : account->cap_nano > account->spent_nano
                         ? account->cap_nano - account->spent_nano
                         : 0;
    return buf_printf(accounts->out, "concordat_budget_rho%s{dataset=\"%s\"} %llu.%09llu\n",
                      accounts->left ? "_left" : "", account->dataset,
                      (unsigned long long)(value / 1000000000),
                      (unsigned long long)(value % 1000000000));
}

static enum err budgets(struct node *node, struct buf *out, struct err_info *reterr)
{
    struct accounts accounts = {.out = out};
    enum err err =
        family(out, "concordat_budget_rho", "gauge", "Privacy budget of a dataset, zCDP rho.");
    err = err ? err : store_ledger_accounts(&node->store, add_account, &accounts, reterr);
    accounts.left = true;
    err = err ? err
              : family(out, "concordat_budget_rho_left", "gauge",
                       "What no question or training step has taken of it.");
    return err ? err : store_ledger_accounts(&node->store, add_account, &accounts, reterr);
}

enum err console_metrics(struct node *node, struct buf *out, struct err_info *reterr)
{
    enum err err = about(node, out);
    err = err ? err : peers(node, out);
    err = err ? err : traffic(node, out);
    err = err ? err : kept(node, out, reterr);
    err = err ? err : readers(node, out);
    err = err ? err : budgets(node, out, reterr);
    return err ? err : buf_printf(out, "# EOF\n");
}
