/* The budgets of node.yaml into the ledger: what each domain of privacy units may spend. */
#include "config.h"
#include "node/daemon/start.h"

#include "node/query/site.h"
#include "proto/manifest.h"
#include "proto/privacy.h"
#include "store/ledger.h"

#include <math.h>

/* The ledger's name of the default domain is empty. */
static const char *ledger_name(const char *name)
{
    return strcmp(name, PROTO_DOMAIN_DEFAULT) == 0 ? "" : name;
}

/* A domain's delta is split as if every dataset had private keys: it must hold for those that do. */
static enum err declare(struct node *node, const struct config_domain *domain,
                        struct err_info *reterr)
{
    const char *name = ledger_name(domain->name);
    struct store_account now = {0};
    enum err err = store_ledger_domain_get(&node->store, name, &now, NULL);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    uint64_t delta_e12 = (uint64_t)llround(domain->delta * 1e12);
    struct proto_privacy_budget caps = proto_privacy_budget(domain->epsilon_total, delta_e12, true,
                                                            now.train_nano > 0 ? now.order : 0);
    struct store_budget budget = {.cap_nano = caps.cap_nano,
                                  .delta_e12 = delta_e12,
                                  .delta0_e18 = caps.delta0_e18,
                                  .order = caps.order};
    err = store_ledger_domain(&node->store, name, &budget, query_now(), reterr);
    if (err) {
        proto_err_frame(reterr, "the budget of the domain %s in node.yaml", domain->name);
    }
    return err;
}

/* Domains that the ledger has as declared, but node.yaml no longer names. */
struct gone {
    const struct config_node *config;
    struct arena arena;
    const char *names[CONFIG_NODE_DOMAINS_MAX];
    size_t count;
};

static enum err see_account(void *user, const struct store_account *account)
{
    struct gone *gone = user;
    bool named = account->dataset[0] || !account->declared;
    for (size_t i = 0; i < gone->config->domain_count; i++) {
        named |= strcmp(ledger_name(gone->config->domains[i].name), account->domain) == 0;
    }
    if (!named && gone->count < CONFIG_NODE_DOMAINS_MAX) {
        gone->names[gone->count] = arena_strdup(&gone->arena, span_str(account->domain));
        return gone->names[gone->count++] ? E_OK : E_NO_MEMORY;
    }
    return E_OK;
}

enum err daemon_budgets(struct node *node, struct err_info *reterr)
{
    struct gone gone = {.config = &node->config};
    pthread_mutex_lock(&node->config_lock);
    enum err err = store_ledger_accounts(&node->store, see_account, &gone, reterr);
    for (size_t i = 0; !err && i < gone.count; i++) {
        err = store_ledger_domain(&node->store, gone.names[i], NULL, query_now(), reterr);
    }
    for (size_t i = 0; !err && i < node->config.domain_count; i++) {
        err = declare(node, &node->config.domains[i], reterr);
    }
    pthread_mutex_unlock(&node->config_lock);
    arena_fini(&gone.arena);
    return err;
}
