/* The later life of a training's charge: its steps start one after the other, and at the end those that never did go back. */
#include "config.h"
#include "store/ledger_book.h"

#include <stdio.h>

struct steps {
    const uint8_t *id;
    uint64_t upto;
    struct span audit_body;
    int64_t now;
    uint64_t started;
};

static enum err load_training(struct store_book *book, const uint8_t id[16], struct arena *arena,
                              uint8_t key[8], struct store_ledger_charge *row)
{
    enum err err = store_book_charge(book, id, arena, key, row);
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
    struct store_book book;
    enum err err = store_book_open(store, txn, &book, reterr);
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
        err = store_book_charge_put(&book, key, &row);
        if (!err) {
            err = store_book_entry(&book, "train.steps", span_of(body, (size_t)n), steps->now);
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
static enum err give_back(struct store_book *book, const struct store_ledger_charge *row,
                          struct arena *arena)
{
    struct store_posting posting;
    uint64_t unused = row->steps - row->started;
    enum err err = store_posting_load(book, row->dataset, row->institution, row->person,
                                      row->project, arena, &posting);
    for (int i = 0; !err && i < STORE_SCOPE_COUNT; i++) {
        struct store_ledger_account *account = &posting.accounts[i];
        uint64_t amount = unused * (i == STORE_SCOPE_DOMAIN ? row->nano_domain : row->nano);
        if (!posting.used[i]) {
            continue;
        }
        if (amount > account->spent || amount > account->train) {
            return proto_err_set(book->reterr, E_CORRUPT,
                                 "table accounts: a %s holds less than its charges",
                                 store_scope_name((enum store_scope)i));
        }
        account->spent -= amount;
        account->train -= amount;
        bool same_window = account->window_s && row->time >= 0 &&
                           (uint64_t)row->time / account->window_s == account->window_number;
        if (same_window) {
            account->window_spent -=
                amount < account->window_spent ? amount : account->window_spent;
        }
        err = store_book_account_put(book, account);
    }
    return err;
}

static enum err finish_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct steps *steps = ctx;
    struct arena arena = {0};
    struct store_ledger_charge row;
    uint8_t key[8];
    struct store_book book;
    enum err err = store_book_open(store, txn, &book, reterr);
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
        err = store_book_charge_put(&book, key, &row);
    }
    if (!err) {
        err = store_book_entry(&book, "train.finish", steps->audit_body, steps->now);
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
