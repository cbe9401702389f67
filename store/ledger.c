#include "config.h"
#include "store/ledger.h"

#include "crypto/random.h"
#include "proto/codec.h"
#include "store/audit_chain.h"
#include "store/ledger_row.h"
#include "store/witness.h"

#include <stdio.h>
#include <math.h>

/* --- one account ------------------------------------------------------------------------------
 * Scope names: the domain has no dataset; a dataset has no name; the others name somebody within a dataset. */

enum scope {
    SCOPE_DOMAIN,
    SCOPE_DATASET,
    SCOPE_INSTITUTION,
    SCOPE_PERSON,
    SCOPE_PROJECT,
    SCOPE_COUNT
};

#define NOBODY span_of("", 0)

static const char *const scope_names[SCOPE_COUNT] = {"domain", "dataset", "institution", "person",
                                                     "project"};

/* What one transaction has in hand. */
struct book {
    struct store *store;
    MDB_txn *txn;
    struct store_audit_head head;
    struct err_info *reterr;
};

static void account_key(const struct store *store, enum scope scope, struct span dataset,
                        struct span name, uint8_t ret[STORE_BLIND_SIZE])
{
    struct span parts[] = {span_str(scope_names[scope]), dataset, name};
    store_blind(store, STORE_TABLE_ACCOUNTS, parts, 3, ret);
}

static enum err open_row(struct book *book, enum store_table table, struct span key,
                         const struct proto_message *message, struct arena *arena, void *ret)
{
    struct buf plain = {.max = STORE_LEDGER_ROW_MAX};
    enum err err = store_sealed_get(book->store, book->txn, table, key, &plain, book->reterr);
    uint8_t *copy = NULL;
    if (!err && !(copy = arena_alloc(arena, plain.len + 1, 1))) {
        err = proto_err_set(book->reterr, E_NO_MEMORY, "a ledger row");
    }
    if (!err) {
        memcpy(copy, plain.ptr, plain.len);
        err = store_ledger_row_decode(message, span_of(copy, plain.len), arena, ret, table,
                                      book->reterr);
    }
    buf_fini(&plain);
    return err;
}

/* Puts a row and moves the ledger's root in the head from the old value to the new. */
static enum err put_row(struct book *book, enum store_table table, struct span key,
                        const struct proto_message *message, const void *row)
{
    struct buf plain = {.max = STORE_LEDGER_ROW_MAX};
    struct buf sealed = {.max = 2 * STORE_LEDGER_ROW_MAX};
    const char *name = store_table_name(table);
    struct span old;
    enum err err = proto_codec_encode(message, row, &plain, book->reterr);
    if (!err) {
        err = store_seal(book->store, table, key, buf_span(&plain), &sealed, book->reterr);
    }
    if (!err) {
        err = store_raw_get(book->store, book->txn, table, key, &old, book->reterr);
        if (!err) {
            store_audit_root_sub(book->head.ledger_root, name, key, old);
        }
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    if (!err) {
        store_audit_root_add(book->head.ledger_root, name, key, buf_span(&sealed));
        err = store_raw_put(book->store, book->txn, table, key, buf_span(&sealed), book->reterr);
    }
    buf_fini(&plain);
    buf_fini(&sealed);
    return err;
}

/* E_NOT_FOUND leaves an empty account in RET. */
static enum err load_account(struct book *book, enum scope scope, struct span dataset,
                             struct span name, struct arena *arena,
                             struct store_ledger_account *ret)
{
    uint8_t key[STORE_BLIND_SIZE];
    memset(ret, 0, sizeof *ret);
    ret->scope = scope;
    ret->dataset = dataset;
    ret->name = name;
    account_key(book->store, scope, dataset, name, key);
    return open_row(book, STORE_TABLE_ACCOUNTS, span_of(key, sizeof key),
                    &store_ledger_account_message, arena, ret);
}

static enum err save_account(struct book *book, const struct store_ledger_account *account)
{
    uint8_t key[STORE_BLIND_SIZE];
    account_key(book->store, (enum scope)account->scope, account->dataset, account->name, key);
    if (account->scope == SCOPE_DOMAIN) {
        book->head.spent_nano = account->spent;
    }
    return put_row(book, STORE_TABLE_ACCOUNTS, span_of(key, sizeof key),
                   &store_ledger_account_message, account);
}

static uint64_t left_of(uint64_t cap, uint64_t spent)
{
    return spent < cap ? cap - spent : 0;
}

static void account_out(const struct store_ledger_account *account,
                        const struct store_ledger_account *domain, struct store_account *ret)
{
    memset(ret, 0, sizeof *ret);
    (void)span_to_cstr(account->dataset, ret->dataset, sizeof ret->dataset);
    ret->cap_nano = account->cap;
    ret->spent_nano = account->spent;
    ret->train_nano = account->train;
    ret->delta_e12 = account->delta_e12;
    ret->order = account->order;
    ret->left_nano = left_of(account->cap, account->spent);
    uint64_t domain_left = left_of(domain->cap, domain->spent);
    ret->left_nano = domain_left < ret->left_nano ? domain_left : ret->left_nano;
}

static enum err book_open(struct store *store, MDB_txn *txn, struct book *ret,
                          struct err_info *reterr)
{
    *ret = (struct book){.store = store, .txn = txn, .reterr = reterr};
    return store_audit_load(store, txn, &ret->head, reterr);
}

static enum err book_entry(struct book *book, const char *kind, struct span body, int64_t now)
{
    return store_audit_append_in(book->store, book->txn, &book->head, kind, body, now,
                                 book->reterr);
}

/* --- what a restored home lost ------------------------------------------------------------------
 * Row "lost" of table meta: u64 nano charged to every dataset, also to those whose account opens later | u64 of it still to
 * be charged to the domain, which has no account before the first dataset. */

#define LOST         span_str("lost")
#define LOST_NODE    "restored"
#define LOST_GAP_MAX 1000000

static enum err lost_load(struct book *book, uint64_t *ret_nano, uint64_t *ret_domain)
{
    struct buf plain = {.max = 64};
    *ret_nano = *ret_domain = 0;
    enum err err =
        store_sealed_get(book->store, book->txn, STORE_TABLE_META, LOST, &plain, book->reterr);
    if (!err && plain.len == 16) {
        *ret_nano = get_be64(plain.ptr);
        *ret_domain = get_be64(plain.ptr + 8);
    } else if (!err) {
        err = proto_err_set(book->reterr, E_CORRUPT, "table meta: a row is damaged");
    }
    buf_fini(&plain);
    return err == E_NOT_FOUND ? E_OK : err;
}

static enum err lost_save(struct book *book, uint64_t nano, uint64_t domain)
{
    uint8_t bytes[16];
    put_be64(bytes, nano);
    put_be64(bytes + 8, domain);
    return store_sealed_put(book->store, book->txn, STORE_TABLE_META, LOST,
                            span_of(bytes, sizeof bytes), book->reterr);
}

static enum err lost_charge(struct book *book, struct span dataset, uint64_t nano, uint64_t domain,
                            int64_t now);

/* --- opening and changing accounts ------------------------------------------------------------ */

struct open_account {
    const char *dataset;
    uint64_t cap, delta_e12;
    double order;
    int64_t now;
};

/* The domain follows the dataset with the largest cap, as long as the cost of what was trained means the same there. */
static enum err follow_domain(struct book *book, const struct open_account *in, struct arena *arena)
{
    struct store_ledger_account domain;
    enum err err = load_account(book, SCOPE_DOMAIN, NOBODY, NOBODY, arena, &domain);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    bool same_order = domain.order <= in->order && domain.order >= in->order;
    if (!err && (in->cap <= domain.cap || (domain.train > 0 && !same_order))) {
        return E_OK;
    }
    domain.cap = in->cap;
    domain.delta_e12 = in->delta_e12;
    domain.order = in->order;
    return save_account(book, &domain);
}

static enum err change_account(struct book *book, const struct open_account *in,
                               struct arena *arena)
{
    struct store_ledger_account account;
    enum err err =
        load_account(book, SCOPE_DATASET, span_str(in->dataset), NOBODY, arena, &account);
    if (err && err != E_NOT_FOUND) {
        return err;
    }
    bool fresh = err == E_NOT_FOUND;
    bool same_order = account.order <= in->order && account.order >= in->order;
    if (!err && account.cap == in->cap && account.delta_e12 == in->delta_e12 && same_order) {
        return E_OK;
    }
    if (!err && !same_order && account.train > 0) {
        return proto_err_set(
            book->reterr, E_INVALID,
            "the budget of %s was charged for training at order %g, which cannot become %g",
            in->dataset, account.order, in->order);
    }
    account.cap = in->cap;
    account.delta_e12 = in->delta_e12;
    account.order = in->order;
    err = save_account(book, &account);
    if (!err) {
        err = follow_domain(book, in, arena);
    }
    uint64_t lost = 0;
    uint64_t lost_domain = 0;
    if (!err && fresh) {
        err = lost_load(book, &lost, &lost_domain);
    }
    if (!err && lost > 0) {
        err = lost_charge(book, span_str(in->dataset), lost, lost_domain, in->now);
        err = err ? err : lost_save(book, lost, 0);
        account.spent = lost;
    }
    char body[256];
    int n =
        snprintf(body, sizeof body,
                 "{\"dataset\":\"%s\",\"cap_nano\":%llu,\"spent_nano\":%llu,\"delta_e12\":%llu}",
                 in->dataset, (unsigned long long)in->cap, (unsigned long long)account.spent,
                 (unsigned long long)in->delta_e12);
    return err ? err : book_entry(book, "budget.set", span_of(body, (size_t)n), in->now);
}

static enum err account_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct arena arena = {0};
    struct book book;
    enum err err = book_open(store, txn, &book, reterr);
    if (!err) {
        err = change_account(&book, ctx, &arena);
    }
    arena_fini(&arena);
    return err;
}

static bool dataset_name_plain(const char *name)
{
    size_t n = name ? strlen(name) : 0;
    if (n < 1 || n > 64) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (c <= ' ' || c > '~' || c == '"' || c == '\\') {
            return false; /* it stands in the JSON of an audit entry */
        }
    }
    return true;
}

enum err store_ledger_account(struct store *store, const char *dataset, uint64_t cap_nano,
                              uint64_t delta_e12, double order, int64_t now,
                              struct err_info *reterr)
{
    if (!dataset_name_plain(dataset)) {
        return proto_err_set(reterr, E_INVALID, "the ledger takes no such dataset name");
    }
    if (cap_nano > STORE_NANO_MAX || delta_e12 > UINT64_C(1000000000000) || !isfinite(order) ||
        order < 0) {
        return proto_err_set(reterr, E_INVALID, "the budget of %s is out of bounds", dataset);
    }
    struct open_account in = {dataset, cap_nano, delta_e12, order, now};
    return store_write(store, account_in, &in, reterr);
}

enum err store_ledger_get(struct store *store, const char *dataset, struct store_account *ret,
                          struct err_info *reterr)
{
    struct arena arena = {0};
    struct book book = {.store = store, .reterr = reterr};
    struct store_ledger_account domain;
    struct store_ledger_account account;
    enum err err = store_read(store, &book.txn, reterr);
    if (!err) {
        err = load_account(&book, SCOPE_DOMAIN, NOBODY, NOBODY, &arena, &domain);
    }
    if (!err && dataset) {
        err = load_account(&book, SCOPE_DATASET, span_str(dataset), NOBODY, &arena, &account);
    }
    if (!err) {
        account_out(dataset ? &account : &domain, &domain, ret);
    } else if (err == E_NOT_FOUND) {
        (void)proto_err_set(reterr, err, "the ledger has no account of %s",
                            dataset ? dataset : "this node");
    }
    store_read_end(book.txn);
    arena_fini(&arena);
    return err;
}

/* --- charging ----------------------------------------------------------------------------------- */

struct posting {
    struct store_ledger_account accounts[SCOPE_COUNT];
    uint64_t amounts[SCOPE_COUNT];
    uint64_t caps[SCOPE_COUNT]; /* 0: only counted */
    bool used[SCOPE_COUNT];
};

static enum err load_posting(struct book *book, struct span dataset, struct span institution,
                             struct span person, struct span project, struct arena *arena,
                             struct posting *ret)
{
    const struct span names[SCOPE_COUNT] = {NOBODY, NOBODY, institution, person, project};
    memset(ret, 0, sizeof *ret);
    for (int i = 0; i < SCOPE_COUNT; i++) {
        enum scope scope = (enum scope)i;
        bool optional = scope >= SCOPE_INSTITUTION;
        if (optional && names[i].len == 0) {
            continue;
        }
        enum err err = load_account(book, scope, scope == SCOPE_DOMAIN ? NOBODY : dataset, names[i],
                                    arena, &ret->accounts[i]);
        if (err && (err != E_NOT_FOUND || !optional)) {
            return err;
        }
        ret->used[i] = true;
    }
    return E_OK;
}

/* Decides on all scopes before anything is written. */
static enum err admit(const struct posting *posting, struct err_info *reterr)
{
    for (int i = 0; i < SCOPE_COUNT; i++) {
        const struct store_ledger_account *account = &posting->accounts[i];
        uint64_t amount = posting->amounts[i];
        if (!posting->used[i]) {
            continue;
        }
        if (amount > STORE_NANO_MAX - account->spent) {
            return proto_err_set(reterr, E_INVALID, "the charge overflows the account");
        }
        bool capped = i <= SCOPE_DATASET || posting->caps[i] > 0;
        uint64_t left = left_of(posting->caps[i], account->spent);
        if (capped && amount > left) {
            return proto_err_set(
                reterr, E_BUDGET_EXHAUSTED,
                "the %s's share of the budget has %llu nano-rho left, the charge is %llu",
                scope_names[i], (unsigned long long)left, (unsigned long long)amount);
        }
    }
    return E_OK;
}

static enum err post(struct book *book, struct posting *posting, bool train)
{
    for (int i = 0; i < SCOPE_COUNT; i++) {
        struct store_ledger_account *account = &posting->accounts[i];
        if (!posting->used[i]) {
            continue;
        }
        account->spent += posting->amounts[i];
        account->train += train ? posting->amounts[i] : 0;
        enum err err = save_account(book, account);
        if (err) {
            return err;
        }
    }
    return E_OK;
}

static bool text_fits(const char *text, bool required)
{
    return text && strlen(text) <= STORE_NAME_MAX && (!required || *text) &&
           proto_utf8_valid(span_str(text));
}

static enum err check_charge(const struct store_charge *charge, struct err_info *reterr)
{
    if (!dataset_name_plain(charge->dataset) || !text_fits(charge->institution, true) ||
        !text_fits(charge->node, true) || !text_fits(charge->person ? charge->person : "", false) ||
        !text_fits(charge->project ? charge->project : "", false)) {
        return proto_err_set(reterr, E_INVALID, "a charge lacks a name, or one is too long");
    }
    if (charge->kind != STORE_CHARGE_QUERY && charge->kind != STORE_CHARGE_TRAIN) {
        return proto_err_set(reterr, E_INVALID, "a charge is neither query nor training");
    }
    uint64_t most = charge->nano > charge->nano_domain ? charge->nano : charge->nano_domain;
    if (charge->nano < 1 || charge->steps < 1 || most > STORE_NANO_MAX ||
        charge->steps > STORE_NANO_MAX / most ||
        (charge->kind == STORE_CHARGE_QUERY && charge->steps != 1)) {
        return proto_err_set(reterr, E_INVALID, "the cost of a charge is out of bounds");
    }
    return E_OK;
}

static struct store_ledger_charge row_of(const struct store_charge *charge,
                                         enum store_charge_state state)
{
    bool free_of_cost = state == STORE_CHARGE_REPLAYED;
    uint64_t nano_domain = charge->nano_domain ? charge->nano_domain : charge->nano;
    return (struct store_ledger_charge){
        .id = span_of(charge->id, 16),
        .time = charge->now,
        .dataset = span_str(charge->dataset),
        .person = span_str(charge->person ? charge->person : ""),
        .project = span_str(charge->project ? charge->project : ""),
        .institution = span_str(charge->institution),
        .node = span_str(charge->node),
        .kind = charge->kind,
        .state = state,
        .nano = free_of_cost ? 0 : charge->nano,
        .nano_domain = free_of_cost ? 0 : nano_domain,
        .steps = free_of_cost ? 1 : charge->steps,
    };
}

/* Loads the accounts that CHARGE concerns with what it would take from each. */
static enum err prepare(struct book *book, const struct store_charge *charge, struct arena *arena,
                        struct posting *posting)
{
    struct store_ledger_charge row = row_of(charge, STORE_CHARGE_RESERVED);
    enum err err =
        load_posting(book, row.dataset, row.institution, row.person, row.project, arena, posting);
    if (err) {
        return err == E_NOT_FOUND
                   ? proto_err_set(book->reterr, err, "the ledger has no account of %s",
                                   charge->dataset)
                   : err;
    }
    double order = posting->accounts[SCOPE_DATASET].order;
    double domain_order = posting->accounts[SCOPE_DOMAIN].order;
    if (charge->kind == STORE_CHARGE_TRAIN && charge->nano_domain == 0 &&
        !(order <= domain_order && order >= domain_order)) {
        return proto_err_set(book->reterr, E_INVALID,
                             "the cost at the domain's order %g is missing", domain_order);
    }
    posting->caps[SCOPE_DOMAIN] = posting->accounts[SCOPE_DOMAIN].cap;
    posting->caps[SCOPE_DATASET] = posting->accounts[SCOPE_DATASET].cap;
    posting->caps[SCOPE_INSTITUTION] = charge->caps.institution_nano;
    posting->caps[SCOPE_PERSON] = charge->caps.person_nano;
    posting->caps[SCOPE_PROJECT] = charge->caps.project_nano;
    for (int i = 0; i < SCOPE_COUNT; i++) {
        posting->amounts[i] = charge->steps * (i == SCOPE_DOMAIN ? row.nano_domain : row.nano);
    }
    return admit(posting, book->reterr);
}

static void posting_out(const struct posting *posting, struct store_account *ret)
{
    account_out(&posting->accounts[SCOPE_DATASET], &posting->accounts[SCOPE_DOMAIN], ret);
    for (int i = SCOPE_INSTITUTION; i < SCOPE_COUNT; i++) {
        uint64_t left = left_of(posting->caps[i], posting->accounts[i].spent);
        if (posting->used[i] && posting->caps[i] > 0 && left < ret->left_nano) {
            ret->left_nano = left;
        }
    }
}

static enum err add_charge(struct book *book, const struct store_ledger_charge *row)
{
    struct span known;
    uint64_t number = 0;
    enum err err =
        store_raw_get(book->store, book->txn, STORE_TABLE_CHARGE_IDS, row->id, &known, NULL);
    if (!err) {
        return proto_err_set(book->reterr, E_EXISTS, "this charge was reserved before");
    }
    if (err == E_NOT_FOUND) {
        err = store_raw_last(book->store, book->txn, STORE_TABLE_CHARGES, &number, book->reterr);
    }
    uint8_t key[8];
    put_be64(key, number + 1);
    if (!err) {
        err =
            put_row(book, STORE_TABLE_CHARGES, span_of(key, 8), &store_ledger_charge_message, row);
    }
    return err ? err
               : store_raw_put(book->store, book->txn, STORE_TABLE_CHARGE_IDS, row->id,
                               span_of(key, 8), book->reterr);
}

/* Charged without asking whether a cap covers it: it was spent. */
static enum err lost_charge(struct book *book, struct span dataset, uint64_t nano, uint64_t domain,
                            int64_t now)
{
    struct arena arena = {0};
    struct posting posting;
    uint8_t id[16];
    enum err err =
        load_posting(book, dataset, span_str(LOST_NODE), NOBODY, NOBODY, &arena, &posting);
    err = err ? err : crypto_random(id, sizeof id);
    for (int i = 0; i < SCOPE_COUNT && !err; i++) {
        posting.amounts[i] = i == SCOPE_DOMAIN ? domain : nano;
        if (posting.used[i] && posting.amounts[i] > STORE_NANO_MAX - posting.accounts[i].spent) {
            err = proto_err_set(book->reterr, E_INVALID, "the lost charge overflows the account");
        }
    }
    struct store_ledger_charge row = {
        .id = span_of(id, sizeof id),
        .time = now,
        .dataset = dataset,
        .person = NOBODY,
        .project = NOBODY,
        .institution = span_str(LOST_NODE),
        .node = span_str(LOST_NODE),
        .kind = STORE_CHARGE_QUERY,
        .state = STORE_CHARGE_RESERVED,
        .nano = nano,
        .nano_domain = domain,
        .steps = 1,
    };
    err = err ? err : post(book, &posting, false);
    err = err ? err : add_charge(book, &row);
    arena_fini(&arena);
    return err;
}

struct names {
    struct store *store;
    struct arena arena;
    struct span *items;
    size_t count;
    size_t cap;
};

static enum err collect_dataset(void *user, struct span key, struct span value,
                                struct err_info *reterr)
{
    struct names *names = user;
    struct store_ledger_account account;
    enum err err = store_ledger_row_open(names->store, STORE_TABLE_ACCOUNTS, key, value,
                                         &names->arena, &account, reterr);
    if (err || account.scope != SCOPE_DATASET) {
        return err;
    }
    if (names->count == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 16;
        struct span *items = proto_realloc(names->items, cap, sizeof *items);
        if (!items) {
            return proto_err_set(reterr, E_NO_MEMORY, "the ledger's accounts");
        }
        names->items = items;
        names->cap = cap;
    }
    names->items[names->count++] = account.dataset;
    return E_OK;
}

/* Nobody knows on which dataset it was spent: each is charged all of it, the domain once. */
static enum err charge_lost(struct book *book, uint64_t missing, int64_t now)
{
    struct names names = {.store = book->store};
    uint64_t nano = 0;
    uint64_t domain = 0;
    enum err err = lost_load(book, &nano, &domain);
    err = err ? err
              : store_raw_each(book->store, book->txn, STORE_TABLE_ACCOUNTS, SPAN_NONE,
                               collect_dataset, &names, book->reterr);
    for (size_t i = 0; i < names.count && !err; i++) {
        err = lost_charge(book, names.items[i], missing, i == 0 ? missing : 0, now);
    }
    if (!err) {
        err = lost_save(book, nano + missing, names.count ? domain : domain + missing);
    }
    arena_fini(&names.arena);
    proto_free(names.items);
    return err;
}

struct accept {
    const struct store_audit_head *shown;
    int64_t now;
    struct store_lost lost;
};

static enum err accept_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct accept *accept = ctx;
    const struct store_audit_head *shown = accept->shown;
    struct book book;
    char body[256];
    enum err err = book_open(store, txn, &book, reterr);
    if (err) {
        return err;
    }
    accept->lost = (struct store_lost){.from_seq = book.head.seq};
    if (shown && shown->spent_nano > book.head.spent_nano) {
        accept->lost.nano = shown->spent_nano - book.head.spent_nano;
    }
    accept->lost.entries = shown && shown->seq > book.head.seq ? shown->seq - book.head.seq : 0;
    if (accept->lost.entries > LOST_GAP_MAX) {
        return proto_err_set(reterr, E_LIMIT, "more than %d audit entries are missing",
                             LOST_GAP_MAX);
    }
    if (accept->lost.nano > 0) {
        err = charge_lost(&book, accept->lost.nano, accept->now);
    }
    if (!err && shown) {
        err = store_witness_excuse_in(store, txn, book.head.seq, shown->seq, reterr);
    }
    for (uint64_t i = 0; i < accept->lost.entries && !err; i++) {
        err = book_entry(&book, "restore.missing", span_str("{}"), accept->now);
    }
    int n =
        snprintf(body, sizeof body, "{\"entries\":%llu,\"from\":%llu,\"nano\":%llu}",
                 (unsigned long long)accept->lost.entries,
                 (unsigned long long)accept->lost.from_seq, (unsigned long long)accept->lost.nano);
    return err ? err : book_entry(&book, "restore.accept", span_of(body, (size_t)n), accept->now);
}

enum err store_ledger_accept(struct store *store, const struct store_audit_head *shown, int64_t now,
                             struct store_lost *ret, struct err_info *reterr)
{
    struct accept accept = {.shown = shown, .now = now};
    if (shown && (!store->identity || memcmp(shown->node_id, store->node_id, 16) != 0 ||
                  store_audit_head_verify(shown, store->federation_id,
                                          crypto_identity_point(store->identity)))) {
        return proto_err_set(reterr, E_AUTH, "the head that was shown is not signed by this node");
    }
    enum err err = store_write(store, accept_in, &accept, reterr);
    if (!err) {
        *ret = accept.lost;
    }
    return err;
}

struct reserve {
    const struct store_charge *charge;
    struct store_account after;
};

static enum err reserve_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct reserve *reserve = ctx;
    const struct store_charge *charge = reserve->charge;
    struct store_ledger_charge row = row_of(charge, STORE_CHARGE_RESERVED);
    bool train = charge->kind == STORE_CHARGE_TRAIN;
    struct arena arena = {0};
    struct posting posting;
    struct book book;
    struct span known;
    enum err err = book_open(store, txn, &book, reterr);
    if (!err && !store_raw_get(store, txn, STORE_TABLE_CHARGE_IDS, row.id, &known, NULL)) {
        err = proto_err_set(reterr, E_EXISTS, "this charge was reserved before");
    }
    if (!err) {
        err = prepare(&book, charge, &arena, &posting);
    }
    if (!err) {
        err = post(&book, &posting, train);
    }
    if (!err) {
        err = add_charge(&book, &row);
    }
    if (!err) {
        err = book_entry(&book, train ? "train.reserve" : "query.reserve", charge->audit_body,
                         charge->now);
    }
    if (!err) {
        posting_out(&posting, &reserve->after);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_reserve(struct store *store, const struct store_charge *charge,
                              struct store_account *ret_after, struct err_info *reterr)
{
    struct reserve reserve = {.charge = charge};
    enum err err = check_charge(charge, reterr);
    if (!err) {
        err = store_write(store, reserve_in, &reserve, reterr);
    }
    if (!err && ret_after) {
        *ret_after = reserve.after;
    }
    return err;
}

enum err store_ledger_probe(struct store *store, const struct store_charge *charge,
                            struct store_account *ret_after, struct err_info *reterr)
{
    struct arena arena = {0};
    struct posting posting;
    struct book book = {.store = store, .reterr = reterr};
    enum err err = check_charge(charge, reterr);
    if (!err) {
        err = store_read(store, &book.txn, reterr);
    }
    if (!err) {
        err = prepare(&book, charge, &arena, &posting);
    }
    if (!err && ret_after) {
        for (int i = 0; i < SCOPE_COUNT; i++) {
            posting.accounts[i].spent += posting.amounts[i];
        }
        posting_out(&posting, ret_after);
    }
    store_read_end(book.txn);
    arena_fini(&arena);
    return err;
}

static enum err replayed_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct store_charge *charge = ctx;
    struct store_ledger_charge row = row_of(charge, STORE_CHARGE_REPLAYED);
    struct book book;
    enum err err = book_open(store, txn, &book, reterr);
    if (!err) {
        err = add_charge(&book, &row);
    }
    return err ? err : book_entry(&book, "query.replay", charge->audit_body, charge->now);
}

enum err store_ledger_replayed(struct store *store, const struct store_charge *charge,
                               struct err_info *reterr)
{
    struct store_charge copy = *charge;
    copy.nano = 1;
    copy.nano_domain = 0;
    copy.steps = 1;
    enum err err = check_charge(&copy, reterr);
    return err ? err : store_write(store, replayed_in, &copy, reterr);
}

/* --- one charge's later life -------------------------------------------------------------------- */

static enum err load_charge(struct book *book, const uint8_t id[16], struct arena *arena,
                            uint8_t ret_key[8], struct store_ledger_charge *ret)
{
    struct span number;
    enum err err = store_raw_get(book->store, book->txn, STORE_TABLE_CHARGE_IDS, span_of(id, 16),
                                 &number, NULL);
    if (err) {
        return proto_err_set(book->reterr, err, "the ledger has no such charge");
    }
    if (number.len != 8) {
        return proto_err_set(book->reterr, E_CORRUPT, "table charge-ids: a row is damaged");
    }
    memcpy(ret_key, number.ptr, 8);
    err = open_row(book, STORE_TABLE_CHARGES, span_of(ret_key, 8), &store_ledger_charge_message,
                   arena, ret);
    if (err == E_NOT_FOUND || (!err && !span_equal(ret->id, span_of(id, 16)))) {
        err = proto_err_set(book->reterr, E_CORRUPT,
                            "table charges: a row is missing or another one");
    }
    return err;
}

static enum err save_charge(struct book *book, const uint8_t key[8],
                            const struct store_ledger_charge *row)
{
    return put_row(book, STORE_TABLE_CHARGES, span_of(key, 8), &store_ledger_charge_message, row);
}

struct release {
    const uint8_t *id;
    struct span answer;
    const uint8_t *replay_key;
    struct span audit_body;
    int64_t now;
    bool other_answer;
};

static enum err release_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct release *release = ctx;
    struct arena arena = {0};
    struct store_ledger_charge row;
    uint8_t key[8];
    struct book book;
    enum err err = book_open(store, txn, &book, reterr);
    if (!err) {
        err = load_charge(&book, release->id, &arena, key, &row);
    }
    if (!err && (row.kind != STORE_CHARGE_QUERY || row.state != STORE_CHARGE_RESERVED)) {
        err = proto_err_set(reterr, E_INVALID,
                            "this charge is not one of a query that waits for its answer");
    }
    release->other_answer = false;
    if (!err) {
        err = store_answer_put(store, txn, release->replay_key, row.dataset, release->id,
                               release->answer, reterr);
        if (err == E_EXISTS) {
            release->other_answer = true;
            err = E_OK;
        }
    }
    if (!err) {
        row.state = STORE_CHARGE_RELEASED;
        err = save_charge(&book, key, &row);
    }
    if (!err) {
        err = book_entry(&book, "query.release", release->audit_body, release->now);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_release(struct store *store, const uint8_t id[16], struct span answer,
                              const uint8_t replay_key[32], struct span audit_body, int64_t now,
                              struct err_info *reterr)
{
    if (answer.len > STORE_ANSWER_MAX) {
        return proto_err_set(reterr, E_LIMIT, "an answer of %zu bytes", answer.len);
    }
    struct release release = {
        .id = id, .answer = answer, .replay_key = replay_key, .audit_body = audit_body, .now = now};
    enum err err = store_write(store, release_in, &release, reterr);
    if (!err && release.other_answer) {
        err = proto_err_set(reterr, E_EXISTS, "the same question was answered meanwhile");
    }
    return err;
}

struct steps {
    const uint8_t *id;
    uint64_t upto;
    struct span audit_body;
    int64_t now;
    uint64_t started;
    bool finished;
};

static enum err load_training(struct book *book, const uint8_t id[16], struct arena *arena,
                              uint8_t key[8], struct store_ledger_charge *row)
{
    enum err err = load_charge(book, id, arena, key, row);
    if (!err && row->kind != STORE_CHARGE_TRAIN) {
        err = proto_err_set(book->reterr, E_INVALID, "this charge is not a training's");
    }
    return err;
}

static enum err start_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct steps *steps = ctx;
    struct arena arena = {0};
    struct store_ledger_charge row;
    uint8_t key[8];
    struct book book;
    enum err err = book_open(store, txn, &book, reterr);
    if (!err) {
        err = load_training(&book, steps->id, &arena, key, &row);
    }
    if (!err && (row.state != STORE_CHARGE_RESERVED || steps->upto > row.steps)) {
        err = proto_err_set(reterr, E_INVALID, "this training is over, or has fewer steps");
    }
    if (!err && steps->upto > row.started) {
        char body[128];
        char hex[33];
        span_to_hex(row.id, hex);
        int n = snprintf(body, sizeof body, "{\"charge\":\"%s\",\"started\":%llu,\"steps\":%llu}",
                         hex, (unsigned long long)steps->upto, (unsigned long long)row.steps);
        row.started = steps->upto;
        err = save_charge(&book, key, &row);
        if (!err) {
            err = book_entry(&book, "train.steps", span_of(body, (size_t)n), steps->now);
        }
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_steps_start(struct store *store, const uint8_t id[16], uint64_t upto_step,
                                  int64_t now, struct err_info *reterr)
{
    struct steps steps = {.id = id, .upto = upto_step, .now = now};
    return store_write(store, start_in, &steps, reterr);
}

/* What was charged for steps that never started; amounts are taken from each scope that was charged. */
static enum err give_back(struct book *book, const struct store_ledger_charge *row,
                          struct arena *arena)
{
    struct posting posting;
    uint64_t unused = row->steps - row->started;
    enum err err = load_posting(book, row->dataset, row->institution, row->person, row->project,
                                arena, &posting);
    for (int i = 0; !err && i < SCOPE_COUNT; i++) {
        struct store_ledger_account *account = &posting.accounts[i];
        uint64_t amount = unused * (i == SCOPE_DOMAIN ? row->nano_domain : row->nano);
        if (!posting.used[i]) {
            continue;
        }
        if (amount > account->spent || amount > account->train) {
            return proto_err_set(book->reterr, E_CORRUPT,
                                 "table accounts: a %s holds less than its charges",
                                 scope_names[i]);
        }
        account->spent -= amount;
        account->train -= amount;
        err = save_account(book, account);
    }
    return err;
}

static enum err finish_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct steps *steps = ctx;
    struct arena arena = {0};
    struct store_ledger_charge row;
    uint8_t key[8];
    struct book book;
    enum err err = book_open(store, txn, &book, reterr);
    if (!err) {
        err = load_training(&book, steps->id, &arena, key, &row);
    }
    if (!err && row.state != STORE_CHARGE_RESERVED) {
        err = proto_err_set(reterr, E_EXISTS, "this training was finished before");
    }
    if (!err) {
        steps->started = row.started;
        err = give_back(&book, &row, &arena);
    }
    if (!err) {
        row.state = STORE_CHARGE_FINISHED;
        err = save_charge(&book, key, &row);
    }
    if (!err) {
        err = book_entry(&book, "train.finish", steps->audit_body, steps->now);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_finish(struct store *store, const uint8_t id[16], struct span audit_body,
                             int64_t now, uint64_t *ret_started, struct err_info *reterr)
{
    struct steps steps = {.id = id, .audit_body = audit_body, .now = now};
    enum err err = store_write(store, finish_in, &steps, reterr);
    if (!err && ret_started) {
        *ret_started = steps.started;
    }
    return err;
}

/* --- reading ------------------------------------------------------------------------------------ */

static enum err cstr(struct arena *arena, struct span text, const char **ret)
{
    *ret = arena_strdup(arena, text.len ? text : span_of("", 0));
    return *ret ? E_OK : E_NO_MEMORY;
}

static enum err row_out(const struct store_ledger_charge *row, struct arena *arena,
                        struct store_ledger_row *ret)
{
    memset(ret, 0, sizeof *ret);
    memcpy(ret->id, row->id.ptr, 16);
    ret->time = row->time;
    ret->kind = (enum store_charge_kind)row->kind;
    ret->state = (enum store_charge_state)row->state;
    ret->steps = row->steps;
    ret->started = row->started;
    ret->nano = row->nano * (row->state == STORE_CHARGE_FINISHED ? row->started : row->steps);
    enum err err = cstr(arena, row->dataset, &ret->dataset);
    err = err ? err : cstr(arena, row->person, &ret->person);
    err = err ? err : cstr(arena, row->project, &ret->project);
    err = err ? err : cstr(arena, row->institution, &ret->institution);
    return err ? err : cstr(arena, row->node, &ret->node);
}

enum err store_ledger_charge(struct store *store, const uint8_t id[16], struct arena *arena,
                             struct store_ledger_row *ret, struct err_info *reterr)
{
    struct book book = {.store = store, .reterr = reterr};
    struct store_ledger_charge row;
    uint8_t key[8];
    enum err err = store_read(store, &book.txn, reterr);
    if (!err) {
        err = load_charge(&book, id, arena, key, &row);
    }
    if (!err) {
        err = row_out(&row, arena, ret);
    }
    store_read_end(book.txn);
    return err;
}

struct each {
    struct store *store;
    int64_t since;
    store_ledger_fn *fn;
    store_ledger_account_fn *account_fn;
    const struct store_ledger_account *domain;
    void *user;
};

static enum err each_charge(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct arena arena = {0};
    struct store_ledger_charge row;
    struct store_ledger_row out;
    enum err err =
        store_ledger_row_open(each->store, STORE_TABLE_CHARGES, key, value, &arena, &row, reterr);
    if (!err && row.time >= each->since) {
        err = row_out(&row, &arena, &out);
        err = err ? err : each->fn(each->user, &out);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_each(struct store *store, int64_t since, store_ledger_fn *each, void *user,
                           struct err_info *reterr)
{
    struct each ctx = {.store = store, .since = since, .fn = each, .user = user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_CHARGES, SPAN_NONE, each_charge, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}

static enum err each_account(void *user, struct span key, struct span value,
                             struct err_info *reterr)
{
    const struct each *each = user;
    struct arena arena = {0};
    struct store_ledger_account account;
    enum err err = store_ledger_row_open(each->store, STORE_TABLE_ACCOUNTS, key, value, &arena,
                                         &account, reterr);
    if (!err && account.scope == SCOPE_DATASET) {
        struct store_account out;
        account_out(&account, each->domain, &out);
        err = each->account_fn(each->user, &out);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_accounts(struct store *store, store_ledger_account_fn *each, void *user,
                               struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_ledger_account domain;
    struct book book = {.store = store, .reterr = reterr};
    struct each ctx = {.store = store, .account_fn = each, .domain = &domain, .user = user};
    enum err err = store_read(store, &book.txn, reterr);
    if (!err) {
        err = load_account(&book, SCOPE_DOMAIN, NOBODY, NOBODY, &arena, &domain);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    if (!err) {
        err = store_raw_each(store, book.txn, STORE_TABLE_ACCOUNTS, SPAN_NONE, each_account, &ctx,
                             reterr);
    }
    store_read_end(book.txn);
    arena_fini(&arena);
    return err;
}

/* --- checking all of it -------------------------------------------------------------------------- */

struct tally_account {
    uint8_t key[STORE_BLIND_SIZE];
    uint64_t spent, train, found_spent, found_train;
};

struct tally {
    struct store *store;
    struct tally_account *accounts; /* in key order, as LMDB gives them */
    size_t count, cap;
    uint8_t root[32];
    uint64_t domain_spent;
    uint64_t next_number;
};

static enum err tally_account(void *user, struct span key, struct span value,
                              struct err_info *reterr)
{
    struct tally *tally = user;
    struct arena arena = {0};
    struct store_ledger_account account;
    uint8_t right_key[STORE_BLIND_SIZE];
    store_audit_root_add(tally->root, "accounts", key, value);
    enum err err = store_ledger_row_open(tally->store, STORE_TABLE_ACCOUNTS, key, value, &arena,
                                         &account, reterr);
    if (!err) {
        account_key(tally->store, (enum scope)account.scope, account.dataset, account.name,
                    right_key);
        if (!span_equal(key, span_of(right_key, sizeof right_key))) {
            err =
                proto_err_set(reterr, E_CORRUPT, "table accounts: a row stands in the wrong place");
        }
    }
    if (!err && tally->count == tally->cap) {
        size_t cap = tally->cap ? 2 * tally->cap : 64;
        void *grown = proto_realloc(tally->accounts, cap, sizeof *tally->accounts);
        if (!grown) {
            err = proto_err_set(reterr, E_NO_MEMORY, "adding up the ledger");
        } else {
            tally->accounts = grown;
            tally->cap = cap;
        }
    }
    if (!err) {
        struct tally_account *to = &tally->accounts[tally->count++];
        *to = (struct tally_account){.spent = account.spent, .train = account.train};
        memcpy(to->key, right_key, sizeof to->key);
        if (account.scope == SCOPE_DOMAIN) {
            tally->domain_spent = account.spent;
        }
    }
    arena_fini(&arena);
    return err;
}

static struct tally_account *tally_find(struct tally *tally, const uint8_t key[STORE_BLIND_SIZE])
{
    size_t low = 0;
    size_t high = tally->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = memcmp(tally->accounts[mid].key, key, STORE_BLIND_SIZE);
        if (order == 0) {
            return &tally->accounts[mid];
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

static enum err tally_post(struct tally *tally, const struct store_ledger_charge *row,
                           struct err_info *reterr)
{
    const struct span names[SCOPE_COUNT] = {NOBODY, NOBODY, row->institution, row->person,
                                            row->project};
    uint64_t steps = row->state == STORE_CHARGE_FINISHED ? row->started : row->steps;
    for (int i = 0; i < SCOPE_COUNT; i++) {
        uint8_t key[STORE_BLIND_SIZE];
        uint64_t amount = steps * (i == SCOPE_DOMAIN ? row->nano_domain : row->nano);
        if (amount == 0 || (i >= SCOPE_INSTITUTION && names[i].len == 0)) {
            continue;
        }
        account_key(tally->store, (enum scope)i, i == SCOPE_DOMAIN ? NOBODY : row->dataset,
                    names[i], key);
        struct tally_account *account = tally_find(tally, key);
        if (!account || amount > STORE_NANO_MAX - account->found_spent) {
            return proto_err_set(reterr, E_CORRUPT,
                                 "table accounts: the %s of a charge has no account",
                                 scope_names[i]);
        }
        account->found_spent += amount;
        account->found_train += row->kind == STORE_CHARGE_TRAIN ? amount : 0;
    }
    return E_OK;
}

static enum err tally_charge(void *user, struct span key, struct span value,
                             struct err_info *reterr)
{
    struct tally *tally = user;
    struct arena arena = {0};
    struct store_ledger_charge row;
    store_audit_root_add(tally->root, "charges", key, value);
    enum err err = E_OK;
    if (key.len != 8 || get_be64(key.ptr) != ++tally->next_number) {
        err = proto_err_set(reterr, E_CORRUPT, "table charges: row %llu is missing",
                            (unsigned long long)tally->next_number);
    }
    if (!err) {
        err = store_ledger_row_open(tally->store, STORE_TABLE_CHARGES, key, value, &arena, &row,
                                    reterr);
    }
    if (!err) {
        err = tally_post(tally, &row, reterr);
    }
    arena_fini(&arena);
    return err;
}

static enum err tally_compare(const struct tally *tally, const struct store_audit_head *head,
                              struct err_info *reterr)
{
    if (tally->domain_spent < head->spent_nano) {
        return proto_err_set(
            reterr, E_ROLLBACK,
            "the ledger holds %llu nano-rho spent, its signed audit head says %llu",
            (unsigned long long)tally->domain_spent, (unsigned long long)head->spent_nano);
    }
    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_account *account = &tally->accounts[i];
        if (account->spent != account->found_spent || account->train != account->found_train) {
            return proto_err_set(
                reterr, account->spent < account->found_spent ? E_ROLLBACK : E_CORRUPT,
                "table accounts: an account says %llu nano-rho, its charges add up to %llu",
                (unsigned long long)account->spent, (unsigned long long)account->found_spent);
        }
    }
    if (tally->domain_spent != head->spent_nano ||
        memcmp(tally->root, head->ledger_root, 32) != 0) {
        return proto_err_set(reterr, E_CORRUPT,
                             "the ledger's rows are not those of its signed audit head");
    }
    return E_OK;
}

enum err store_ledger_check(struct store *store, struct err_info *reterr)
{
    struct tally tally = {.store = store};
    struct store_audit_head head;
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_audit_load(store, txn, &head, reterr);
    }
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_ACCOUNTS, SPAN_NONE, tally_account, &tally,
                             reterr);
    }
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_CHARGES, SPAN_NONE, tally_charge, &tally,
                             reterr);
    }
    if (!err) {
        err = tally_compare(&tally, &head, reterr);
    }
    store_read_end(txn);
    proto_free(tally.accounts);
    return err;
}
