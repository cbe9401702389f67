#include "config.h"
#include "store/ledger_book.h"

static const char *const scope_names[STORE_SCOPE_COUNT] = {"domain", "dataset", "institution",
                                                           "person", "project"};

const char *store_scope_name(enum store_scope scope)
{
    return scope_names[scope];
}

uint64_t store_left(uint64_t cap, uint64_t spent)
{
    return spent < cap ? cap - spent : 0;
}

enum err store_book_open(struct store *store, MDB_txn *txn, struct store_book *ret,
                         struct err_info *reterr)
{
    *ret = (struct store_book){.store = store, .txn = txn, .reterr = reterr};
    return store_audit_load(store, txn, &ret->head, reterr);
}

enum err store_book_entry(struct store_book *book, const char *kind, struct span body, int64_t now)
{
    return store_audit_append_in(book->store, book->txn, &book->head, kind, body, now,
                                 book->reterr);
}

/* --- rows --------------------------------------------------------------------------------------- */

static enum err open_row(struct store_book *book, enum store_table table, struct span key,
                         struct arena *arena, void *ret)
{
    struct span value;
    enum err err = store_raw_get(book->store, book->txn, table, key, &value, book->reterr);
    return err ? err
               : store_ledger_row_open(book->store, table, key, value, arena, ret, book->reterr);
}

/* Puts a row and moves the ledger's root in the head from the old value to the new. */
static enum err put_row(struct store_book *book, enum store_table table, struct span key,
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

/* --- accounts ----------------------------------------------------------------------------------- */

void store_book_account_key(const struct store *store, enum store_scope scope, struct span dataset,
                            struct span name, uint8_t ret[STORE_BLIND_SIZE])
{
    struct span parts[] = {span_str(scope_names[scope]), dataset, name};
    store_blind(store, STORE_TABLE_ACCOUNTS, parts, 3, ret);
}

enum err store_book_account(struct store_book *book, enum store_scope scope, struct span dataset,
                            struct span name, struct arena *arena, struct store_ledger_account *ret)
{
    uint8_t key[STORE_BLIND_SIZE];
    store_book_account_key(book->store, scope, dataset, name, key);
    enum err err = open_row(book, STORE_TABLE_ACCOUNTS, span_of(key, sizeof key), arena, ret);
    if (err == E_NOT_FOUND) {
        *ret = (struct store_ledger_account){
            .scope = scope, .dataset = dataset, .name = name, .domain = STORE_NOBODY};
    }
    return err;
}

/* The head counts what all domains spent together: the difference that this change makes goes there. */
static enum err move_head(struct store_book *book, const struct store_ledger_account *domain)
{
    struct arena arena = {0};
    struct store_ledger_account before;
    enum err err =
        store_book_account(book, STORE_SCOPE_DOMAIN, STORE_NOBODY, domain->name, &arena, &before);
    uint64_t others = book->head.spent_nano - before.spent;
    if (!err || err == E_NOT_FOUND) {
        err = domain->spent > STORE_NANO_MAX - others
                  ? proto_err_set(book->reterr, E_INVALID, "the charge overflows the account")
                  : E_OK;
    }
    if (!err) {
        book->head.spent_nano = others + domain->spent;
    }
    arena_fini(&arena);
    return err;
}

enum err store_book_account_put(struct store_book *book, const struct store_ledger_account *account)
{
    uint8_t key[STORE_BLIND_SIZE];
    store_book_account_key(book->store, (enum store_scope)account->scope, account->dataset,
                           account->name, key);
    enum err err = account->scope == STORE_SCOPE_DOMAIN ? move_head(book, account) : E_OK;
    return err ? err
               : put_row(book, STORE_TABLE_ACCOUNTS, span_of(key, sizeof key),
                         &store_ledger_account_message, account);
}

void store_book_account_out(const struct store_ledger_account *account,
                            const struct store_ledger_account *domain, struct store_account *ret)
{
    *ret = (struct store_account){
        .cap_nano = account->cap,
        .spent_nano = account->spent,
        .left_nano = store_left(account->cap, account->spent),
        .train_nano = account->train,
        .delta_e12 = account->delta_e12,
        .delta0_e18 = account->delta0,
        .delta0_spent_e18 = account->delta0_spent,
        .order = account->order,
        .declared = account->declared,
        .window_s = account->window_s,
        .window_nano = account->window_cap,
        .window_number = account->window_number,
        .window_spent_nano = account->window_spent,
    };
    struct span name = account->scope == STORE_SCOPE_DOMAIN ? account->name : account->domain;
    (void)span_to_cstr(account->dataset, ret->dataset, sizeof ret->dataset);
    (void)span_to_cstr(name, ret->domain, sizeof ret->domain);
    uint64_t left = domain ? store_left(domain->cap, domain->spent) : ret->left_nano;
    ret->left_nano = left < ret->left_nano ? left : ret->left_nano;
}

uint64_t store_account_conversion_e12(const struct store_account *account)
{
    uint64_t thresholds = account->delta0_e18 / 1000000 + (account->delta0_e18 % 1000000 != 0);
    return account->delta_e12 > thresholds ? account->delta_e12 - thresholds : 0;
}

uint64_t store_account_window_left(const struct store_account *account, int64_t now,
                                   int64_t *ret_opens)
{
    *ret_opens = 0;
    if (account->window_s == 0) {
        return STORE_NANO_MAX;
    }
    uint64_t number = (now > 0 ? (uint64_t)now : 0) / account->window_s;
    bool same = number <= account->window_number; /* a clock that was set back opens nothing */
    number = same ? account->window_number : number;
    *ret_opens = (int64_t)((number + 1) * account->window_s);
    return store_left(account->window_nano, same ? account->window_spent_nano : 0);
}

/* --- charges ------------------------------------------------------------------------------------ */

enum err store_book_charge_add(struct store_book *book, const struct store_ledger_charge *row)
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
    err = err ? err : store_book_charge_put(book, key, row);
    return err ? err
               : store_raw_put(book->store, book->txn, STORE_TABLE_CHARGE_IDS, row->id,
                               span_of(key, 8), book->reterr);
}

enum err store_book_charge(struct store_book *book, const uint8_t id[16], struct arena *arena,
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
    err = open_row(book, STORE_TABLE_CHARGES, span_of(ret_key, 8), arena, ret);
    if (err == E_NOT_FOUND || (!err && !span_equal(ret->id, span_of(id, 16)))) {
        err = proto_err_set(book->reterr, E_CORRUPT,
                            "table charges: a row is missing or another one");
    }
    return err;
}

enum err store_book_charge_put(struct store_book *book, const uint8_t key[8],
                               const struct store_ledger_charge *row)
{
    return put_row(book, STORE_TABLE_CHARGES, span_of(key, 8), &store_ledger_charge_message, row);
}

/* --- postings ----------------------------------------------------------------------------------- */

enum err store_posting_load(struct store_book *book, struct span dataset, struct span institution,
                            struct span person, struct span project, struct arena *arena,
                            struct store_posting *ret)
{
    memset(ret, 0, sizeof *ret);
    struct store_ledger_account *accounts = ret->accounts;
    enum err err = store_book_account(book, STORE_SCOPE_DATASET, dataset, STORE_NOBODY, arena,
                                      &accounts[STORE_SCOPE_DATASET]);
    if (!err) {
        err = store_book_account(book, STORE_SCOPE_DOMAIN, STORE_NOBODY,
                                 accounts[STORE_SCOPE_DATASET].domain, arena,
                                 &accounts[STORE_SCOPE_DOMAIN]);
    }
    if (err) {
        return err;
    }
    ret->used[STORE_SCOPE_DOMAIN] = ret->used[STORE_SCOPE_DATASET] = true;
    const struct span names[STORE_SCOPE_COUNT] = {[STORE_SCOPE_INSTITUTION] = institution,
                                                  [STORE_SCOPE_PERSON] = person,
                                                  [STORE_SCOPE_PROJECT] = project};
    for (int i = STORE_SCOPE_INSTITUTION; i < STORE_SCOPE_COUNT; i++) {
        if (names[i].len == 0) {
            continue;
        }
        err = store_book_account(book, (enum store_scope)i, dataset, names[i], arena, &accounts[i]);
        if (err && err != E_NOT_FOUND) {
            return err;
        }
        ret->used[i] = true;
    }
    return E_OK;
}

/* Charges that come late, by a clock that was set back, count for the window that is open. */
static void add_to_window(struct store_ledger_account *account, uint64_t amount, int64_t now)
{
    uint64_t number = (now > 0 ? (uint64_t)now : 0) / account->window_s;
    if (number > account->window_number) {
        account->window_number = number;
        account->window_spent = 0;
    }
    uint64_t room = STORE_NANO_MAX - account->window_spent;
    account->window_spent += amount < room ? amount : room;
}

enum err store_posting_save(struct store_book *book, struct store_posting *posting, bool train,
                            int64_t now)
{
    for (int i = 0; i < STORE_SCOPE_COUNT; i++) {
        struct store_ledger_account *account = &posting->accounts[i];
        uint64_t amount = posting->amounts[i];
        if (!posting->used[i]) {
            continue;
        }
        if (amount > STORE_NANO_MAX - account->spent ||
            posting->delta0 > STORE_NANO_MAX - account->delta0_spent) {
            return proto_err_set(book->reterr, E_INVALID, "the charge overflows the account");
        }
        account->spent += amount;
        account->train += train ? amount : 0;
        account->delta0_spent += posting->delta0;
        if (account->window_s) {
            add_to_window(account, amount, now);
        }
        enum err err = store_book_account_put(book, account);
        if (err) {
            return err;
        }
    }
    return E_OK;
}
