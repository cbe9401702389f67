/* An older copy of the home is accepted: what it lacks counts as spent.
 *
 * Row "lost" of table meta: u64 nano charged to every dataset, also to those whose account opens later. (Homes of format 1
 * have another u64 behind it, which is not read: a domain that is opened pays the whole of it.) */
#include "config.h"
#include "store/ledger_lost.h"

#include "crypto/random.h"
#include "store/witness.h"

#include <stdio.h>

#define LOST         span_str("lost")
#define LOST_NODE    "restored"
#define LOST_GAP_MAX 1000000
/* A question takes at most this part of what thresholds may take (proto/privacy.h); each missing entry may have been one. */
#define LOST_DELTA0_PART 1000

static enum err lost_load(struct store_book *book, uint64_t *ret_nano)
{
    struct buf plain = {.max = 64};
    *ret_nano = 0;
    enum err err =
        store_sealed_get(book->store, book->txn, STORE_TABLE_META, LOST, &plain, book->reterr);
    if (!err && (plain.len == 8 || plain.len == 16)) {
        *ret_nano = get_be64(plain.ptr);
    } else if (!err) {
        err = proto_err_set(book->reterr, E_CORRUPT, "table meta: a row is damaged");
    }
    buf_fini(&plain);
    return err == E_NOT_FOUND ? E_OK : err;
}

static enum err lost_save(struct store_book *book, uint64_t nano)
{
    uint8_t bytes[8];
    put_be64(bytes, nano);
    return store_sealed_put(book->store, book->txn, STORE_TABLE_META, LOST,
                            span_of(bytes, sizeof bytes), book->reterr);
}

/* What thresholds of ENTRIES questions took at most, of what is left. */
static uint64_t lost_delta0(const struct store_ledger_account *dataset, uint64_t entries)
{
    uint64_t each = dataset->delta0 / LOST_DELTA0_PART + 1;
    uint64_t left = store_left(dataset->delta0, dataset->delta0_spent);
    return dataset->delta0 == 0 ? 0 : (entries < left / each ? entries * each : left);
}

/* Charged without asking whether a cap covers it: it was spent. */
static enum err lost_charge(struct store_book *book, struct span dataset, uint64_t nano,
                            uint64_t nano_domain, uint64_t entries, int64_t now)
{
    struct arena arena = {0};
    struct store_posting posting;
    uint8_t id[16];
    enum err err = store_posting_load(book, dataset, span_str(LOST_NODE), STORE_NOBODY,
                                      STORE_NOBODY, &arena, &posting);
    err = err ? err : crypto_random(id, sizeof id);
    struct store_ledger_charge row = {
        .id = span_of(id, sizeof id),
        .time = now,
        .dataset = dataset,
        .person = STORE_NOBODY,
        .project = STORE_NOBODY,
        .institution = span_str(LOST_NODE),
        .node = span_str(LOST_NODE),
        .kind = STORE_CHARGE_QUERY,
        .state = STORE_CHARGE_RESERVED,
        .nano = nano,
        .nano_domain = nano_domain,
        .steps = 1,
    };
    if (!err) {
        row.domain = posting.accounts[STORE_SCOPE_DATASET].domain;
        row.delta0 = posting.delta0 = lost_delta0(&posting.accounts[STORE_SCOPE_DATASET], entries);
        for (int i = 0; i < STORE_SCOPE_COUNT; i++) {
            posting.amounts[i] = i == STORE_SCOPE_DOMAIN ? nano_domain : nano;
        }
        err = store_posting_save(book, &posting, false, now);
    }
    err = err ? err : store_book_charge_add(book, &row);
    arena_fini(&arena);
    return err;
}

enum err store_lost_charge_new(struct store_book *book, struct span dataset, bool unspent_domain,
                               int64_t now)
{
    uint64_t nano;
    enum err err = lost_load(book, &nano);
    return err || nano == 0 ? err
                            : lost_charge(book, dataset, nano, unspent_domain ? nano : 0, 0, now);
}

/* Names of all datasets and of their domains. */
struct names {
    struct store *store;
    struct arena arena;
    struct store_ledger_account *items;
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
    if (err || account.scope != STORE_SCOPE_DATASET) {
        return err;
    }
    if (names->count == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 16;
        struct store_ledger_account *items = proto_realloc(names->items, cap, sizeof *items);
        if (!items) {
            return proto_err_set(reterr, E_NO_MEMORY, "the ledger's accounts");
        }
        names->items = items;
        names->cap = cap;
    }
    names->items[names->count++] = account;
    return E_OK;
}

/* Whether no dataset before I is in the same domain. */
static bool first_of_domain(const struct names *names, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (span_equal(names->items[j].domain, names->items[i].domain)) {
            return false;
        }
    }
    return true;
}

/* Nobody knows on which dataset it was spent: each is charged all of it, and each domain once. */
static enum err charge_all(struct store_book *book, const struct store_lost *lost, int64_t now)
{
    struct names names = {.store = book->store};
    uint64_t nano = 0;
    enum err err = lost_load(book, &nano);
    err = err ? err
              : store_raw_each(book->store, book->txn, STORE_TABLE_ACCOUNTS, SPAN_NONE,
                               collect_dataset, &names, book->reterr);
    for (size_t i = 0; i < names.count && !err; i++) {
        err = lost_charge(book, names.items[i].dataset, lost->nano,
                          first_of_domain(&names, i) ? lost->nano : 0, lost->entries, now);
    }
    err = err ? err : lost_save(book, nano + lost->nano);
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
    struct store_book book;
    char body[256];
    enum err err = store_book_open(store, txn, &book, reterr);
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
        err = charge_all(&book, &accept->lost, accept->now);
    }
    if (!err && shown) {
        err = store_witness_excuse_in(store, txn, book.head.seq, shown->seq, reterr);
    }
    for (uint64_t i = 0; i < accept->lost.entries && !err; i++) {
        err = store_book_entry(&book, "restore.missing", span_str("{}"), accept->now);
    }
    int n =
        snprintf(body, sizeof body, "{\"entries\":%llu,\"from\":%llu,\"nano\":%llu}",
                 (unsigned long long)accept->lost.entries,
                 (unsigned long long)accept->lost.from_seq, (unsigned long long)accept->lost.nano);
    return err ? err
               : store_book_entry(&book, "restore.accept", span_of(body, (size_t)n), accept->now);
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
