/* Charges: admitting them, and what becomes of a query's. */
#include "config.h"
#include "store/ledger.h"

#include "store/egress.h"

#include "proto/time.h"
#include "store/answer.h"
#include "store/ledger_book.h"

/* --- admission ---------------------------------------------------------------------------------- */

/* What may still be taken, of one scope. */
struct room {
    uint64_t nano;
    uint64_t delta0;
    bool capped;
};

static struct room room_of(const struct store_posting *posting, enum store_scope scope,
                           const struct store_caps *caps)
{
    const struct store_ledger_account *account = &posting->accounts[scope];
    if (scope <= STORE_SCOPE_DATASET) {
        return (struct room){store_left(account->cap, account->spent),
                             store_left(account->delta0, account->delta0_spent), true};
    }
    const struct store_cap *cap = scope == STORE_SCOPE_INSTITUTION ? &caps->institution
                                  : scope == STORE_SCOPE_PERSON    ? &caps->person
                                                                   : &caps->project;
    return (struct room){store_left(cap->nano, account->spent),
                         store_left(cap->delta0_e18, account->delta0_spent), cap->capped};
}

#define RHO(nano)                                                                                  \
    (unsigned long long)((nano) / UINT64_C(1000000000)),                                           \
        (unsigned long long)((nano) % UINT64_C(1000000000))

static enum err exhausted(struct store_book *book, enum store_scope scope, uint64_t left,
                          uint64_t amount)
{
    return proto_err_set(book->reterr, E_BUDGET_EXHAUSTED,
                         "the %s's share of the budget has %llu.%09llu rho left, this costs "
                         "%llu.%09llu",
                         store_scope_name(scope), RHO(left), RHO(amount));
}

/* A window only delays: the text says until when. */
static enum err admit_window(struct store_book *book, const struct store_ledger_account *dataset,
                             uint64_t amount, int64_t now)
{
    struct store_account view;
    int64_t opens;
    store_book_account_out(dataset, NULL, &view);
    uint64_t left = store_account_window_left(&view, now, &opens);
    if (amount <= left) {
        return E_OK;
    }
    char when[PROTO_TIME_SIZE];
    return amount > dataset->window_cap
               ? proto_err_set(book->reterr, E_BUDGET_EXHAUSTED,
                               "this costs %llu.%09llu rho, more than the dataset allows in any "
                               "window of time: %llu.%09llu",
                               RHO(amount), RHO(dataset->window_cap))
               : proto_err_set(book->reterr, E_BUDGET_EXHAUSTED,
                               "this window of the dataset's budget has %llu.%09llu rho left, this "
                               "costs %llu.%09llu; the next one opens at %s",
                               RHO(left), RHO(amount), proto_time_format(opens, when));
}

/* Decides on all scopes before anything is written, by integers alone. */
static enum err admit(struct store_book *book, const struct store_posting *posting,
                      const struct store_caps *caps, int64_t now)
{
    for (int i = 0; i < STORE_SCOPE_COUNT; i++) {
        const struct store_ledger_account *account = &posting->accounts[i];
        if (!posting->used[i]) {
            continue;
        }
        if (posting->amounts[i] > STORE_NANO_MAX - account->spent ||
            posting->delta0 > STORE_NANO_MAX - account->delta0_spent) {
            return proto_err_set(book->reterr, E_INVALID, "the charge overflows the account");
        }
        struct room room = room_of(posting, (enum store_scope)i, caps);
        if (room.capped && posting->amounts[i] > room.nano) {
            return exhausted(book, (enum store_scope)i, room.nano, posting->amounts[i]);
        }
        if (room.capped && posting->delta0 > room.delta0) {
            return proto_err_set(book->reterr, E_BUDGET_EXHAUSTED,
                                 "the %s's delta for groups that are not public has %.3g left, "
                                 "this takes %.3g",
                                 store_scope_name((enum store_scope)i), (double)room.delta0 / 1e18,
                                 (double)posting->delta0 / 1e18);
        }
    }
    return admit_window(book, &posting->accounts[STORE_SCOPE_DATASET],
                        posting->amounts[STORE_SCOPE_DATASET], now);
}

static bool text_fits(const char *text, bool required)
{
    return text && strlen(text) <= STORE_NAME_MAX && (!required || *text) &&
           proto_utf8_valid(span_str(text));
}

static enum err check_charge(const struct store_charge *charge, struct err_info *reterr)
{
    if (!store_ledger_name_plain(charge->dataset) || !text_fits(charge->institution, true) ||
        !text_fits(charge->node, true) || !text_fits(charge->person ? charge->person : "", false) ||
        !text_fits(charge->project ? charge->project : "", false)) {
        return proto_err_set(reterr, E_INVALID, "a charge lacks a name, or one is too long");
    }
    if (charge->kind != STORE_CHARGE_QUERY && charge->kind != STORE_CHARGE_TRAIN) {
        return proto_err_set(reterr, E_INVALID, "a charge is neither query nor training");
    }
    uint64_t most = charge->nano > charge->nano_domain ? charge->nano : charge->nano_domain;
    bool query = charge->kind == STORE_CHARGE_QUERY;
    if (charge->nano < 1 || charge->steps < 1 || most > STORE_NANO_MAX ||
        charge->steps > STORE_NANO_MAX / most || (query && charge->steps != 1) ||
        charge->delta0_e18 > STORE_NANO_MAX || (!query && charge->delta0_e18 > 0)) {
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
        .domain = STORE_NOBODY,
        .delta0 = free_of_cost ? 0 : charge->delta0_e18,
    };
}

/* Loads the accounts that ROW, of CHARGE, concerns with what STEPS of it would take from each. */
static enum err prepare(struct store_book *book, const struct store_charge *charge,
                        const struct store_ledger_charge *row, uint64_t steps, struct arena *arena,
                        struct store_posting *posting)
{
    enum err err = store_posting_load(book, row->dataset, row->institution, row->person,
                                      row->project, arena, posting);
    if (err) {
        return err == E_NOT_FOUND
                   ? proto_err_set(book->reterr, err, "the ledger has no account of %s",
                                   charge->dataset)
                   : err;
    }
    double order = posting->accounts[STORE_SCOPE_DATASET].order;
    double domain_order = posting->accounts[STORE_SCOPE_DOMAIN].order;
    if (charge->kind == STORE_CHARGE_TRAIN && charge->nano_domain == 0 &&
        !(order <= domain_order && order >= domain_order)) {
        return proto_err_set(book->reterr, E_INVALID,
                             "the cost at the domain's order %g is missing", domain_order);
    }
    for (int i = 0; i < STORE_SCOPE_COUNT; i++) {
        posting->amounts[i] = steps * (i == STORE_SCOPE_DOMAIN ? row->nano_domain : row->nano);
    }
    posting->delta0 = row->delta0;
    return admit(book, posting, &charge->caps, charge->now);
}

static void posting_out(const struct store_posting *posting, const struct store_caps *caps,
                        struct store_account *ret)
{
    store_book_account_out(&posting->accounts[STORE_SCOPE_DATASET],
                           &posting->accounts[STORE_SCOPE_DOMAIN], ret);
    for (int i = STORE_SCOPE_INSTITUTION; i < STORE_SCOPE_COUNT; i++) {
        struct room room = room_of(posting, (enum store_scope)i, caps);
        if (posting->used[i] && room.capped && room.nano < ret->left_nano) {
            ret->left_nano = room.nano;
        }
    }
}

/* --- reserving ---------------------------------------------------------------------------------- */

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
    struct store_posting posting;
    struct store_book book;
    struct span known;
    enum err err = store_book_open(store, txn, &book, reterr);
    if (!err && !store_raw_get(store, txn, STORE_TABLE_CHARGE_IDS, row.id, &known, NULL)) {
        err = proto_err_set(reterr, E_EXISTS, "this charge was reserved before");
    }
    err = err ? err : prepare(&book, charge, &row, charge->steps, &arena, &posting);
    if (!err) {
        row.domain = posting.accounts[STORE_SCOPE_DATASET].domain;
        err = store_posting_save(&book, &posting, train, charge->now);
    }
    err = err ? err : store_book_charge_add(&book, &row);
    err = err ? err
              : store_book_entry(&book, train ? "train.reserve" : "query.reserve",
                                 charge->audit_body, charge->now);
    if (!err) {
        posting_out(&posting, &charge->caps, &reserve->after);
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

/* Whether ROW was reserved by CHARGE. Who asks may be another node of the job by now; the row stays with who began it. */
static bool same_charge(const struct store_ledger_charge *row, const struct store_charge *charge)
{
    const struct store_ledger_charge again = row_of(charge, STORE_CHARGE_RESERVED);
    return row->kind == STORE_CHARGE_TRAIN && again.kind == STORE_CHARGE_TRAIN &&
           row->nano == again.nano && row->nano_domain == again.nano_domain &&
           row->steps == again.steps && span_equal(row->dataset, again.dataset) &&
           span_equal(row->person, again.person) && span_equal(row->project, again.project);
}

static enum err reopen_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct reserve *reserve = ctx;
    const struct store_charge *charge = reserve->charge;
    struct store_ledger_charge row;
    struct arena arena = {0};
    struct store_posting posting;
    struct store_book book;
    uint8_t key[8];
    enum err err = store_book_open(store, txn, &book, reterr);
    err = err ? err : store_book_charge(&book, charge->id, &arena, key, &row);
    if (!err && !same_charge(&row, charge)) {
        err = proto_err_set(reterr, E_INVALID, "this is not what was reserved at first");
    } else if (!err && row.state != STORE_CHARGE_FINISHED) {
        err = proto_err_set(reterr, E_EXISTS, "this training is not finished");
    }
    err = err ? err : prepare(&book, charge, &row, row.steps - row.started, &arena, &posting);
    err = err ? err : store_posting_save(&book, &posting, true, charge->now);
    if (!err) {
        row.state = STORE_CHARGE_RESERVED;
        err = store_book_charge_put(&book, key, &row);
    }
    err = err ? err : store_book_entry(&book, "train.reserve", charge->audit_body, charge->now);
    if (!err) {
        posting_out(&posting, &charge->caps, &reserve->after);
    }
    arena_fini(&arena);
    return err;
}

enum err store_ledger_reopen(struct store *store, const struct store_charge *charge,
                             struct store_account *ret_after, struct err_info *reterr)
{
    struct reserve reserve = {.charge = charge};
    enum err err = check_charge(charge, reterr);
    err = err ? err : store_write(store, reopen_in, &reserve, reterr);
    if (!err && ret_after) {
        *ret_after = reserve.after;
    }
    return err;
}

enum err store_ledger_probe(struct store *store, const struct store_charge *charge,
                            struct store_account *ret_after, struct err_info *reterr)
{
    struct arena arena = {0};
    struct store_posting posting;
    struct store_book book = {.store = store, .reterr = reterr};
    const struct store_ledger_charge row = row_of(charge, STORE_CHARGE_RESERVED);
    enum err err = check_charge(charge, reterr);
    err = err ? err : store_read(store, &book.txn, reterr);
    err = err ? err : prepare(&book, charge, &row, charge->steps, &arena, &posting);
    if (!err && ret_after) {
        for (int i = 0; i < STORE_SCOPE_COUNT; i++) {
            posting.accounts[i].spent += posting.amounts[i];
        }
        posting_out(&posting, &charge->caps, ret_after);
    }
    store_read_end(book.txn);
    arena_fini(&arena);
    return err;
}

static enum err replayed_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct store_charge *charge = ctx;
    struct store_ledger_charge row = row_of(charge, STORE_CHARGE_REPLAYED);
    struct store_book book;
    enum err err = store_book_open(store, txn, &book, reterr);
    err = err ? err : store_book_charge_add(&book, &row);
    return err ? err : store_book_entry(&book, "query.replay", charge->audit_body, charge->now);
}

enum err store_ledger_replayed(struct store *store, const struct store_charge *charge,
                               struct err_info *reterr)
{
    struct store_charge copy = *charge;
    copy.nano = 1;
    copy.nano_domain = 0;
    copy.steps = 1;
    copy.delta0_e18 = 0;
    enum err err = check_charge(&copy, reterr);
    return err ? err : store_write(store, replayed_in, &copy, reterr);
}

/* --- releasing ---------------------------------------------------------------------------------- */

struct releasing {
    const struct store_release *release;
    bool other_answer;
};

static enum err list_answer(struct store *store, MDB_txn *txn, const struct store_release *release,
                            struct err_info *reterr)
{
    char id[33];
    span_to_hex(span_of(release->id, 16), id);
    struct store_egress row = {.peer = release->leaves_to,
                               .kind = "answer",
                               .id = id,
                               .bytes = release->answer.len,
                               .time = release->now};
    return store_egress_add_in(store, txn, &row, reterr);
}

static enum err release_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct releasing *releasing = ctx;
    const struct store_release *release = releasing->release;
    struct arena arena = {0};
    struct store_ledger_charge row;
    uint8_t key[8];
    struct store_book book;
    enum err err = store_book_open(store, txn, &book, reterr);
    err = err ? err : store_book_charge(&book, release->id, &arena, key, &row);
    if (!err && (row.kind != STORE_CHARGE_QUERY || row.state != STORE_CHARGE_RESERVED)) {
        err = proto_err_set(reterr, E_INVALID,
                            "this charge is not one of a query that waits for its answer");
    }
    releasing->other_answer = false;
    if (!err) {
        err = store_answer_put(store, txn, release->replay_key, row.dataset, release->id,
                               release->answer, reterr);
        releasing->other_answer = err == E_EXISTS;
        err = err == E_EXISTS ? E_OK : err;
    }
    if (!err && release->leaves_to && !releasing->other_answer) {
        err = list_answer(store, txn, release, reterr);
    }
    if (!err) {
        row.state = STORE_CHARGE_RELEASED;
        err = store_book_charge_put(&book, key, &row);
    }
    err = err ? err : store_book_entry(&book, "query.release", release->audit_body, release->now);
    arena_fini(&arena);
    return err;
}

enum err store_ledger_release(struct store *store, const struct store_release *release,
                              struct err_info *reterr)
{
    if (release->answer.len > STORE_ANSWER_MAX) {
        return proto_err_set(reterr, E_LIMIT, "an answer of %zu bytes", release->answer.len);
    }
    struct releasing releasing = {.release = release};
    enum err err = store_write(store, release_in, &releasing, reterr);
    if (!err && releasing.other_answer) {
        err = proto_err_set(reterr, E_EXISTS, "the same question was answered meanwhile");
    }
    return err;
}

/* --- history ------------------------------------------------------------------------------------ */

static enum err cstr(struct arena *arena, struct span text, const char **ret)
{
    *ret = arena_strdup(arena, text.len ? text : STORE_NOBODY);
    return *ret ? E_OK : E_NO_MEMORY;
}

static enum err row_out(const struct store_ledger_charge *row, struct arena *arena,
                        struct store_ledger_row *ret)
{
    *ret = (struct store_ledger_row){
        .time = row->time,
        .kind = (enum store_charge_kind)row->kind,
        .state = (enum store_charge_state)row->state,
        .steps = row->steps,
        .started = row->started,
        .nano = row->nano * (row->state == STORE_CHARGE_FINISHED ? row->started : row->steps),
        .delta0_e18 = row->delta0,
    };
    memcpy(ret->id, row->id.ptr, 16);
    enum err err = cstr(arena, row->dataset, &ret->dataset);
    err = err ? err : cstr(arena, row->person, &ret->person);
    err = err ? err : cstr(arena, row->project, &ret->project);
    err = err ? err : cstr(arena, row->institution, &ret->institution);
    err = err ? err : cstr(arena, row->domain, &ret->domain);
    return err ? err : cstr(arena, row->node, &ret->node);
}

enum err store_ledger_charge(struct store *store, const uint8_t id[16], struct arena *arena,
                             struct store_ledger_row *ret, struct err_info *reterr)
{
    struct store_book book = {.store = store, .reterr = reterr};
    struct store_ledger_charge row;
    uint8_t key[8];
    enum err err = store_read(store, &book.txn, reterr);
    err = err ? err : store_book_charge(&book, id, arena, key, &row);
    err = err ? err : row_out(&row, arena, ret);
    store_read_end(book.txn);
    return err;
}

struct each {
    struct store *store;
    int64_t since;
    store_ledger_fn *fn;
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

enum err store_ledger_each(struct store *store, int64_t since, store_ledger_fn *fn, void *user,
                           struct err_info *reterr)
{
    struct each each = {.store = store, .since = since, .fn = fn, .user = user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    err = err ? err
              : store_raw_each(store, txn, STORE_TABLE_CHARGES, SPAN_NONE, each_charge, &each,
                               reterr);
    store_read_end(txn);
    return err;
}
