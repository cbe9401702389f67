/* Adds all rows of the ledger up against its accounts and against the signed audit head. */
#include "config.h"
#include "store/ledger_book.h"

struct tally_account {
    uint8_t key[STORE_BLIND_SIZE];
    uint64_t spent, train, delta0;
    uint64_t found_spent, found_train, found_delta0;
};

struct tally {
    struct store *store;
    struct tally_account *accounts; /* in key order, as LMDB gives them */
    size_t count, cap;
    uint8_t root[32];
    uint64_t domains_spent; /* of all domains together, as the head has it */
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
        store_book_account_key(tally->store, (enum store_scope)account.scope, account.dataset,
                               account.name, right_key);
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
        *to = (struct tally_account){
            .spent = account.spent, .train = account.train, .delta0 = account.delta0_spent};
        memcpy(to->key, right_key, sizeof to->key);
        if (account.scope == STORE_SCOPE_DOMAIN) {
            tally->domains_spent += account.spent;
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
    const struct span names[STORE_SCOPE_COUNT] = {row->domain, STORE_NOBODY, row->institution,
                                                  row->person, row->project};
    uint64_t steps = row->state == STORE_CHARGE_FINISHED ? row->started : row->steps;
    for (int i = 0; i < STORE_SCOPE_COUNT; i++) {
        uint8_t key[STORE_BLIND_SIZE];
        uint64_t amount = steps * (i == STORE_SCOPE_DOMAIN ? row->nano_domain : row->nano);
        bool nothing = amount == 0 && row->delta0 == 0;
        if (nothing || (i >= STORE_SCOPE_INSTITUTION && names[i].len == 0)) {
            continue;
        }
        store_book_account_key(tally->store, (enum store_scope)i,
                               i == STORE_SCOPE_DOMAIN ? STORE_NOBODY : row->dataset, names[i],
                               key);
        struct tally_account *account = tally_find(tally, key);
        if (!account || amount > STORE_NANO_MAX - account->found_spent ||
            row->delta0 > STORE_NANO_MAX - account->found_delta0) {
            return proto_err_set(reterr, E_CORRUPT,
                                 "table accounts: the %s of a charge has no account",
                                 store_scope_name((enum store_scope)i));
        }
        account->found_spent += amount;
        account->found_delta0 += row->delta0;
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
    if (tally->domains_spent < head->spent_nano) {
        return proto_err_set(
            reterr, E_ROLLBACK,
            "the ledger holds %llu nano-rho spent, its signed audit head says %llu",
            (unsigned long long)tally->domains_spent, (unsigned long long)head->spent_nano);
    }
    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_account *account = &tally->accounts[i];
        if (account->spent != account->found_spent || account->train != account->found_train ||
            account->delta0 != account->found_delta0) {
            return proto_err_set(
                reterr, account->spent < account->found_spent ? E_ROLLBACK : E_CORRUPT,
                "table accounts: an account says %llu nano-rho, its charges add up to %llu",
                (unsigned long long)account->spent, (unsigned long long)account->found_spent);
        }
    }
    if (tally->domains_spent != head->spent_nano ||
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
