/* Opening, changing and reading the accounts of the ledger. */
#include "config.h"
#include "store/ledger_book.h"
#include "store/ledger_lost.h"

#include <math.h>
#include <stdio.h>

#define DELTA_ONE  UINT64_C(1000000000000)
#define E18_IN_E12 1000000u
#define WINDOW_MAX (UINT64_C(3660) * 86400)
#define BODY_MAX   512

/* One change; NAME is a dataset's or a domain's. */
struct change {
    const char *name;
    const struct store_budget *budget; /* NULL: a domain follows its datasets again */
    int64_t now;
};

static bool same_order(double a, double b)
{
    return a <= b && a >= b;
}

static uint64_t whole_e12(uint64_t e18)
{
    return e18 / E18_IN_E12 + (e18 % E18_IN_E12 != 0);
}

/* --- domains that nobody declared ---------------------------------------------------------------- */

struct largest {
    struct store *store;
    struct span domain;
    uint64_t cap;
    double order;
    uint64_t conversion_e12; /* of that one */
    uint64_t delta0;         /* of any */
};

static enum err see_dataset(void *user, struct span key, struct span value, struct err_info *reterr)
{
    struct largest *largest = user;
    struct arena arena = {0};
    struct store_ledger_account account;
    enum err err = store_ledger_row_open(largest->store, STORE_TABLE_ACCOUNTS, key, value, &arena,
                                         &account, reterr);
    if (!err && account.scope == STORE_SCOPE_DATASET &&
        span_equal(account.domain, largest->domain)) {
        largest->delta0 = account.delta0 > largest->delta0 ? account.delta0 : largest->delta0;
        if (account.cap >= largest->cap) {
            largest->cap = account.cap;
            largest->order = account.order;
            largest->conversion_e12 = account.delta_e12 - whole_e12(account.delta0);
        }
    }
    arena_fini(&arena);
    return err;
}

/* The largest cap that a dataset of it has had, at that one's order, as long as the cost of what was trained means the same
 * there. */
static enum err follow_datasets(struct store_book *book, struct store_ledger_account *domain)
{
    struct largest largest = {.store = book->store, .domain = domain->name};
    enum err err = store_raw_each(book->store, book->txn, STORE_TABLE_ACCOUNTS, SPAN_NONE,
                                  see_dataset, &largest, book->reterr);
    if (err) {
        return err;
    }
    bool comparable = domain->train == 0 || same_order(domain->order, largest.order);
    if (comparable && (domain->declared || largest.cap > domain->cap)) {
        domain->cap = largest.cap;
        domain->order = largest.order;
    }
    domain->declared = false;
    domain->delta0 = largest.delta0;
    domain->delta_e12 = largest.conversion_e12 + whole_e12(largest.delta0);
    domain->delta_e12 = domain->delta_e12 < DELTA_ONE ? domain->delta_e12 : DELTA_ONE;
    return E_OK;
}

/* --- changes ------------------------------------------------------------------------------------ */

static enum err change_entry(struct store_book *book, const struct store_ledger_account *account,
                             int64_t now)
{
    char body[BODY_MAX];
    bool is_domain = account->scope == STORE_SCOPE_DOMAIN;
    struct span domain = is_domain ? account->name : account->domain;
    int n =
        snprintf(body, sizeof body,
                 "{\"dataset\":\"%.*s\",\"domain\":\"%.*s\",\"cap_nano\":%llu,\"spent_nano\":%llu,"
                 "\"delta_e12\":%llu,\"delta0_e18\":%llu,\"window_s\":%llu,\"window_nano\":%llu}",
                 (int)account->dataset.len, (const char *)account->dataset.ptr, (int)domain.len,
                 (const char *)domain.ptr, (unsigned long long)account->cap,
                 (unsigned long long)account->spent, (unsigned long long)account->delta_e12,
                 (unsigned long long)account->delta0, (unsigned long long)account->window_s,
                 (unsigned long long)account->window_cap);
    return store_book_entry(book, is_domain ? "budget.domain" : "budget.set",
                            span_of(body, (size_t)n), now);
}

static bool budget_stands(const struct store_ledger_account *account,
                          const struct store_budget *budget)
{
    return account->cap == budget->cap_nano && account->delta_e12 == budget->delta_e12 &&
           account->delta0 == budget->delta0_e18 && same_order(account->order, budget->order) &&
           account->window_s == budget->window_s && account->window_cap == budget->window_nano;
}

static enum err set_budget(struct store_book *book, struct store_ledger_account *account,
                           const struct store_budget *budget, const char *name)
{
    if (account->train > 0 && !same_order(account->order, budget->order)) {
        return proto_err_set(
            book->reterr, E_INVALID,
            "the budget of %s was charged for training at order %g, which cannot become %g", name,
            account->order, budget->order);
    }
    account->cap = budget->cap_nano;
    account->delta_e12 = budget->delta_e12;
    account->delta0 = budget->delta0_e18;
    account->order = budget->order;
    if (account->window_s != budget->window_s) { /* windows of another length begin at zero */
        account->window_number = account->window_spent = 0;
    }
    account->window_s = budget->window_s;
    account->window_cap = budget->window_nano;
    return E_OK;
}

/* Opens the domain of a dataset at need; it follows unless its budget was declared. */
static enum err join_domain(struct store_book *book, struct span name, struct arena *arena,
                            bool *ret_unspent)
{
    struct store_ledger_account domain;
    enum err err = store_book_account(book, STORE_SCOPE_DOMAIN, STORE_NOBODY, name, arena, &domain);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    *ret_unspent = domain.spent == 0;
    if (domain.declared) {
        return E_OK;
    }
    err = follow_datasets(book, &domain);
    return err ? err : store_book_account_put(book, &domain);
}

static enum err change_dataset(struct store_book *book, const struct change *in,
                               struct arena *arena)
{
    struct store_ledger_account account;
    struct span domain = span_str(in->budget->domain ? in->budget->domain : "");
    bool unspent_domain = false;
    enum err err = store_book_account(book, STORE_SCOPE_DATASET, span_str(in->name), STORE_NOBODY,
                                      arena, &account);
    bool fresh = err == E_NOT_FOUND;
    if (err && !fresh) {
        return err;
    }
    bool moves = !span_equal(account.domain, domain);
    if (!fresh && !moves && budget_stands(&account, in->budget)) {
        return E_OK;
    }
    if (!fresh && moves && (account.spent > 0 || account.delta0_spent > 0)) {
        return proto_err_set(book->reterr, E_EXISTS,
                             "%s was charged within the domain \"%.*s\"; it cannot move to \"%s\"",
                             in->name, (int)account.domain.len, (const char *)account.domain.ptr,
                             in->budget->domain);
    }
    account.domain = domain;
    err = set_budget(book, &account, in->budget, in->name);
    err = err ? err : store_book_account_put(book, &account);
    err = err ? err : join_domain(book, domain, arena, &unspent_domain);
    if (!err && fresh) {
        err = store_lost_charge_new(book, span_str(in->name), unspent_domain, in->now);
    }
    if (!err && fresh) { /* for the entry: what it was charged just now */
        err = store_book_account(book, STORE_SCOPE_DATASET, span_str(in->name), STORE_NOBODY, arena,
                                 &account);
    }
    return err ? err : change_entry(book, &account, in->now);
}

static enum err change_domain(struct store_book *book, const struct change *in, struct arena *arena)
{
    struct store_ledger_account domain;
    enum err err = store_book_account(book, STORE_SCOPE_DOMAIN, STORE_NOBODY, span_str(in->name),
                                      arena, &domain);
    if (err && (err != E_NOT_FOUND || !in->budget)) {
        return err == E_NOT_FOUND
                   ? proto_err_set(book->reterr, err, "no dataset is in a domain \"%s\"", in->name)
                   : err;
    }
    bool known = err == E_OK;
    if (known && domain.declared == (in->budget != NULL) &&
        (!in->budget || budget_stands(&domain, in->budget))) {
        return E_OK;
    }
    if (in->budget) {
        err = set_budget(book, &domain, in->budget, in->name[0] ? in->name : "the default domain");
        domain.declared = true;
    } else {
        err = follow_datasets(book, &domain);
    }
    err = err ? err : store_book_account_put(book, &domain);
    return err ? err : change_entry(book, &domain, in->now);
}

static enum err dataset_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_book book;
    enum err err = store_book_open(store, txn, &book, reterr);
    err = err ? err : change_dataset(&book, ctx, &arena);
    arena_fini(&arena);
    return err;
}

static enum err domain_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_book book;
    enum err err = store_book_open(store, txn, &book, reterr);
    err = err ? err : change_domain(&book, ctx, &arena);
    arena_fini(&arena);
    return err;
}

static enum err check_budget(const struct store_budget *budget, const char *name,
                             struct err_info *reterr)
{
    bool fits = budget->cap_nano <= STORE_NANO_MAX && budget->delta_e12 <= DELTA_ONE &&
                budget->delta0_e18 <= budget->delta_e12 * E18_IN_E12 && isfinite(budget->order) &&
                budget->order >= 0 && budget->window_s <= WINDOW_MAX &&
                budget->window_nano <= STORE_NANO_MAX;
    if (!fits) {
        return proto_err_set(reterr, E_INVALID, "the budget of %s is out of bounds", name);
    }
    const char *domain = budget->domain ? budget->domain : "";
    return domain[0] == '\0' || store_ledger_name_plain(domain)
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "the ledger takes no such domain name");
}

bool store_ledger_name_plain(const char *name)
{
    size_t n = name ? strlen(name) : 0;
    if (n < 1 || n > 64) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (c <= ' ' || c > '~' || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
}

enum err store_ledger_account(struct store *store, const char *dataset,
                              const struct store_budget *budget, int64_t now,
                              struct err_info *reterr)
{
    if (!store_ledger_name_plain(dataset)) {
        return proto_err_set(reterr, E_INVALID, "the ledger takes no such dataset name");
    }
    enum err err = check_budget(budget, dataset, reterr);
    struct change change = {dataset, budget, now};
    return err ? err : store_write(store, dataset_in, &change, reterr);
}

enum err store_ledger_domain(struct store *store, const char *name,
                             const struct store_budget *budget, int64_t now,
                             struct err_info *reterr)
{
    if (name[0] && !store_ledger_name_plain(name)) {
        return proto_err_set(reterr, E_INVALID, "the ledger takes no such domain name");
    }
    enum err err = budget ? check_budget(budget, name, reterr) : E_OK;
    if (!err && budget && budget->window_s) {
        err = proto_err_set(reterr, E_INVALID, "a domain has no window");
    }
    struct change change = {name, budget, now};
    return err ? err : store_write(store, domain_in, &change, reterr);
}

/* --- reading ------------------------------------------------------------------------------------ */

enum err store_ledger_get(struct store *store, const char *dataset, struct store_account *ret,
                          struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_book book = {.store = store, .reterr = reterr};
    struct store_posting posting;
    enum err err = store_read(store, &book.txn, reterr);
    err = err ? err
              : store_posting_load(&book, span_str(dataset), STORE_NOBODY, STORE_NOBODY,
                                   STORE_NOBODY, &arena, &posting);
    if (!err) {
        store_book_account_out(&posting.accounts[STORE_SCOPE_DATASET],
                               &posting.accounts[STORE_SCOPE_DOMAIN], ret);
    } else if (err == E_NOT_FOUND) {
        (void)proto_err_set(reterr, err, "the ledger has no account of %s", dataset);
    }
    store_read_end(book.txn);
    arena_fini(&arena);
    return err;
}

enum err store_ledger_domain_get(struct store *store, const char *name, struct store_account *ret,
                                 struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_book book = {.store = store, .reterr = reterr};
    struct store_ledger_account domain;
    enum err err = store_read(store, &book.txn, reterr);
    err = err ? err
              : store_book_account(&book, STORE_SCOPE_DOMAIN, STORE_NOBODY, span_str(name), &arena,
                                   &domain);
    if (!err) {
        store_book_account_out(&domain, NULL, ret);
    } else if (err == E_NOT_FOUND) {
        (void)proto_err_set(reterr, err, "the ledger has no domain \"%s\"", name);
    }
    store_read_end(book.txn);
    arena_fini(&arena);
    return err;
}

struct each {
    struct store_book *book;
    store_ledger_account_fn *fn;
    void *user;
};

static enum err each_account(void *user, struct span key, struct span value,
                             struct err_info *reterr)
{
    const struct each *each = user;
    struct arena arena = {0};
    struct store_ledger_account account;
    struct store_ledger_account domain = {0};
    struct store_account out;
    enum err err = store_ledger_row_open(each->book->store, STORE_TABLE_ACCOUNTS, key, value,
                                         &arena, &account, reterr);
    bool is_dataset = !err && account.scope == STORE_SCOPE_DATASET;
    if (is_dataset) {
        err = store_book_account(each->book, STORE_SCOPE_DOMAIN, STORE_NOBODY, account.domain,
                                 &arena, &domain);
    }
    if (!err && (is_dataset || account.scope == STORE_SCOPE_DOMAIN)) {
        store_book_account_out(&account, is_dataset ? &domain : NULL, &out);
        err = each->fn(each->user, &out);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_accounts(struct store *store, store_ledger_account_fn *fn, void *user,
                               struct err_info *reterr)
{
    struct store_book book = {.store = store, .reterr = reterr};
    struct each each = {&book, fn, user};
    enum err err = store_read(store, &book.txn, reterr);
    err = err ? err
              : store_raw_each(store, book.txn, STORE_TABLE_ACCOUNTS, SPAN_NONE, each_account,
                               &each, reterr);
    store_read_end(book.txn);
    return err;
}
