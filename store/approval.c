#include "config.h"
#include "store/approval.h"

#include "proto/codec.h"
#include "store/table.h"

/* Keys: 'r' and the id; 'p' and the project's key, whose value is the id of the approval for it. */
#define KEY_SIZE 17
#define ROW_MAX  ((size_t)64 << 10)
#define KEEP_S   ((int64_t)90 * 86400) /* what is over stays for the list this long */

static const struct proto_field fields[] = {
    PROTO_FIELD(struct store_approval, id, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_approval, project_key, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_approval, request, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_approval, node_id, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_approval, licence, PROTO_FIXED, 16, 16),
    PROTO_FIELD(struct store_approval, kind, PROTO_U64, 0, STORE_APPROVAL_AGREEMENT),
    PROTO_FIELD(struct store_approval, state, PROTO_U64, 0, STORE_APPROVAL_DENIED),
    PROTO_FIELD(struct store_approval, for_project, PROTO_BOOL, 0, 0),
    PROTO_FIELD(struct store_approval, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct store_approval, node, PROTO_STR, 1, 64),
    PROTO_FIELD(struct store_approval, institution, PROTO_STR, 0, 64),
    PROTO_FIELD(struct store_approval, person, PROTO_STR, 0, 128),
    PROTO_FIELD(struct store_approval, project, PROTO_STR, 0, 128),
    PROTO_FIELD(struct store_approval, purpose, PROTO_STR, 0, STORE_APPROVAL_TEXT),
    PROTO_FIELD(struct store_approval, operations, PROTO_STR, 0, STORE_APPROVAL_TEXT),
    PROTO_FIELD(struct store_approval, question, PROTO_STR, 0, STORE_APPROVAL_TEXT),
    PROTO_FIELD(struct store_approval, shape, PROTO_STR, 0, STORE_APPROVAL_TEXT),
    PROTO_FIELD(struct store_approval, why, PROTO_STR, 0, 64),
    PROTO_FIELD(struct store_approval, epsilon_u, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_approval, delta_e12, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_approval, cost_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_approval, requested, PROTO_I64, 0, INT64_MAX),
    PROTO_FIELD(struct store_approval, expires, PROTO_I64, 0, INT64_MAX),
    PROTO_FIELD(struct store_approval, decided, PROTO_I64, 0, INT64_MAX),
    PROTO_FIELD_OPTIONAL(struct store_approval, decided_by, PROTO_STR, 1, 128),
    PROTO_FIELD_OPTIONAL(struct store_approval, reason, PROTO_STR, 0, 512),
};
static const struct proto_message message =
    PROTO_MESSAGE("approval", struct store_approval, fields);

const char *store_approval_state_name(uint64_t state)
{
    static const char *const names[] = {"pending", "approved", "denied", "expired"};
    return state < sizeof names / sizeof *names ? names[state] : "unknown";
}

const char *store_approval_kind_name(uint64_t kind)
{
    static const char *const names[] = {"query", "job", "agreement"};
    return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

static void make_key(char area, const uint8_t id[16], uint8_t ret[KEY_SIZE])
{
    ret[0] = (uint8_t)area;
    memcpy(ret + 1, id, 16);
}

static bool over(const struct store_approval *row, int64_t now)
{
    return row->expires && now >= row->expires;
}

/* Decodes a row; its spans live in ARENA. */
static enum err unpack(struct span plain, struct arena *arena, struct store_approval *ret,
                       struct err_info *reterr)
{
    uint8_t *copy = arena_alloc(arena, plain.len + 1, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, plain.ptr, plain.len);
    enum err err = proto_codec_decode(&message, span_of(copy, plain.len), arena, ret, NULL);
    return err && err != E_NO_MEMORY
               ? proto_err_set(reterr, E_CORRUPT, "table approvals: a row is damaged")
               : err;
}

static enum err load(struct store *store, MDB_txn *txn, const uint8_t id[16], struct arena *arena,
                     struct store_approval *ret, struct err_info *reterr)
{
    uint8_t key[KEY_SIZE];
    struct buf plain = {.max = ROW_MAX};
    make_key('r', id, key);
    enum err err =
        store_sealed_get(store, txn, STORE_TABLE_APPROVALS, span_of(key, KEY_SIZE), &plain, reterr);
    err = err ? err : unpack(buf_span(&plain), arena, ret, reterr);
    buf_fini(&plain);
    return err;
}

static enum err save(struct store *store, MDB_txn *txn, const struct store_approval *row,
                     struct err_info *reterr)
{
    uint8_t key[KEY_SIZE];
    struct buf plain = {.max = ROW_MAX};
    make_key('r', row->id, key);
    enum err err = proto_codec_encode(&message, row, &plain, reterr);
    if (!err) {
        err = store_sealed_put(store, txn, STORE_TABLE_APPROVALS, span_of(key, KEY_SIZE),
                               buf_span(&plain), reterr);
    }
    buf_fini(&plain);
    return err;
}

/* The approval for a whole project, if one stands. */
static enum err load_project(struct store *store, MDB_txn *txn, const uint8_t project_key[16],
                             int64_t now, struct arena *arena, struct store_approval *ret,
                             struct err_info *reterr)
{
    uint8_t key[KEY_SIZE];
    struct buf id = {.max = 16};
    make_key('p', project_key, key);
    enum err err =
        store_sealed_get(store, txn, STORE_TABLE_APPROVALS, span_of(key, KEY_SIZE), &id, reterr);
    if (!err && id.len != 16) {
        err = proto_err_set(reterr, E_CORRUPT, "table approvals: a row is damaged");
    }
    err = err ? err : load(store, txn, id.ptr, arena, ret, reterr);
    buf_fini(&id);
    bool stands =
        !err && ret->state == STORE_APPROVAL_APPROVED && ret->for_project && !over(ret, now);
    return err ? err : (stands ? E_OK : E_NOT_FOUND);
}

static enum err find_in(struct store *store, MDB_txn *txn, const uint8_t id[16],
                        const uint8_t project_key[16], int64_t now, struct arena *arena,
                        struct store_approval *ret, struct err_info *reterr)
{
    enum err err = load(store, txn, id, arena, ret, reterr);
    /* Its own denial outweighs the project's approval; waiting does not. */
    if (err == E_NOT_FOUND || (!err && (over(ret, now) || ret->state == STORE_APPROVAL_PENDING))) {
        struct store_approval project;
        enum err wide = load_project(store, txn, project_key, now, arena, &project, reterr);
        if (!wide) {
            *ret = project;
            return E_OK;
        }
        err = wide != E_NOT_FOUND ? wide : err;
    }
    return !err && over(ret, now) ? E_NOT_FOUND : err;
}

/* --- asking ---------------------------------------------------------------------------------------- */

struct ask {
    const struct store_approval_limits *limits;
    const struct store_approval *row;
    int64_t now;
    struct store_approval *ret;
    struct arena *arena;
};

struct census {
    struct store *store;
    const struct store_approval *row;
    int64_t now;
    size_t pending;
    size_t of_institution;
    uint8_t (*old)[KEY_SIZE]; /* keys of rows that nobody needs any more */
    size_t old_count;
};
#define OLD_MAX 64

static enum err count_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    struct census *census = user;
    struct store_approval row;
    struct arena arena = {0};
    struct buf plain = {.max = ROW_MAX};
    if (key.len != KEY_SIZE || key.ptr[0] != 'r') {
        return E_OK;
    }
    enum err err = store_unseal(census->store, STORE_TABLE_APPROVALS, key, value, &plain, reterr);
    err = err ? err : unpack(buf_span(&plain), &arena, &row, reterr);
    if (!err && !over(&row, census->now) && row.state == STORE_APPROVAL_PENDING) {
        census->pending++;
        census->of_institution += span_equal(row.institution, census->row->institution);
    }
    if (!err && row.expires && census->now > row.expires + KEEP_S && census->old_count < OLD_MAX) {
        memcpy(census->old[census->old_count++], key.ptr, KEY_SIZE);
    }
    buf_fini(&plain);
    arena_fini(&arena);
    return err;
}

/* Room for one more? What was over long ago goes. */
static enum err make_room(struct store *store, MDB_txn *txn, const struct ask *ask,
                          struct err_info *reterr)
{
    uint8_t old[OLD_MAX][KEY_SIZE];
    struct census census = {.store = store, .row = ask->row, .now = ask->now, .old = old};
    enum err err =
        store_raw_each(store, txn, STORE_TABLE_APPROVALS, SPAN_NONE, count_row, &census, reterr);
    for (size_t i = 0; !err && i < census.old_count; i++) {
        err = store_raw_del(store, txn, STORE_TABLE_APPROVALS, span_of(old[i], KEY_SIZE), reterr);
    }
    if (!err && (census.pending >= ask->limits->pending ||
                 census.of_institution >= ask->limits->per_institution)) {
        err = proto_err_set(reterr, E_LIMIT,
                            "%zu requests wait for a person already, %zu of them "
                            "of this institution",
                            census.pending, census.of_institution);
    }
    return err;
}

static enum err ask_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    struct ask *ask = ctx;
    enum err err = find_in(store, txn, ask->row->id, ask->row->project_key, ask->now, ask->arena,
                           ask->ret, reterr);
    if (err != E_NOT_FOUND) {
        return err;
    }
    struct store_approval fresh = *ask->row;
    fresh.state = STORE_APPROVAL_PENDING;
    fresh.for_project = false;
    fresh.requested = ask->now;
    fresh.expires = ask->now + ask->limits->pending_s;
    fresh.decided = 0;
    fresh.decided_by = fresh.reason = SPAN_NONE;
    err = make_room(store, txn, ask, reterr);
    err = err ? err : save(store, txn, &fresh, reterr);
    if (!err) {
        *ask->ret = fresh;
    }
    return err;
}

enum err store_approval_ask(struct store *store, const struct store_approval_limits *limits,
                            const struct store_approval *row, int64_t now,
                            struct store_approval *ret, struct arena *arena,
                            struct err_info *reterr)
{
    /* Who asks again and again costs no write. */
    enum err err = store_approval_find(store, row->id, row->project_key, now, ret, arena, reterr);
    struct ask ask = {limits, row, now, ret, arena};
    return err == E_NOT_FOUND ? store_write(store, ask_in, &ask, reterr) : err;
}

enum err store_approval_find(struct store *store, const uint8_t id[16],
                             const uint8_t project_key[16], int64_t now, struct store_approval *ret,
                             struct arena *arena, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    err = err ? err : find_in(store, txn, id, project_key, now, arena, ret, reterr);
    store_read_end(txn);
    return err;
}

static void age(struct store_approval *row, int64_t now)
{
    row->state = over(row, now) ? STORE_APPROVAL_EXPIRED : row->state;
}

enum err store_approval_get(struct store *store, const uint8_t id[16], int64_t now,
                            struct store_approval *ret, struct arena *arena,
                            struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    err = err ? err : load(store, txn, id, arena, ret, reterr);
    store_read_end(txn);
    if (!err) {
        age(ret, now);
    }
    return err;
}

/* --- deciding -------------------------------------------------------------------------------------- */

struct decide {
    const uint8_t *id;
    const struct store_approval_verdict *verdict;
    int64_t now;
};

static enum err decide_in(struct store *store, MDB_txn *txn, void *ctx, struct err_info *reterr)
{
    const struct decide *decide = ctx;
    const struct store_approval_verdict *verdict = decide->verdict;
    uint8_t key[KEY_SIZE];
    struct arena arena = {0};
    struct store_approval row;
    enum err err = load(store, txn, decide->id, &arena, &row, reterr);
    if (!err && over(&row, decide->now)) {
        err = proto_err_set(reterr, E_INVALID,
                            "it is over: nobody decided in time, or the decision ended; whoever "
                            "wants it asks again");
    }
    if (!err) {
        row.state = verdict->approve ? STORE_APPROVAL_APPROVED : STORE_APPROVAL_DENIED;
        row.for_project = verdict->approve && verdict->for_project;
        row.decided = decide->now;
        row.decided_by = span_str(verdict->by);
        row.reason = span_str(verdict->reason);
        row.expires = verdict->expires;
        err = save(store, txn, &row, reterr);
    }
    if (!err && row.for_project) {
        make_key('p', row.project_key, key);
        err = store_sealed_put(store, txn, STORE_TABLE_APPROVALS, span_of(key, KEY_SIZE),
                               span_of(row.id, 16), reterr);
    }
    arena_fini(&arena);
    return err;
}

enum err store_approval_decide(struct store *store, const uint8_t id[16],
                               const struct store_approval_verdict *verdict, int64_t now,
                               struct err_info *reterr)
{
    struct decide decide = {id, verdict, now};
    return store_write(store, decide_in, &decide, reterr);
}

/* --- listing --------------------------------------------------------------------------------------- */

struct each {
    struct store *store;
    int64_t now;
    store_approval_fn *fn;
    void *user;
};

static enum err each_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct each *each = user;
    struct store_approval row;
    struct arena arena = {0};
    struct buf plain = {.max = ROW_MAX};
    if (key.len != KEY_SIZE || key.ptr[0] != 'r') {
        return E_OK;
    }
    enum err err = store_unseal(each->store, STORE_TABLE_APPROVALS, key, value, &plain, reterr);
    err = err ? err : unpack(buf_span(&plain), &arena, &row, reterr);
    if (!err) {
        age(&row, each->now);
        err = each->fn(each->user, &row);
    }
    buf_fini(&plain);
    arena_fini(&arena);
    return err;
}

enum err store_approval_each(struct store *store, int64_t now, store_approval_fn *each, void *user,
                             struct err_info *reterr)
{
    struct each ctx = {store, now, each, user};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_APPROVALS, SPAN_NONE, each_row, &ctx, reterr);
    }
    store_read_end(txn);
    return err;
}
