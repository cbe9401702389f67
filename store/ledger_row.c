#include "config.h"
#include "store/ledger_row.h"

static const struct proto_field account_fields[] = {
    PROTO_FIELD(struct store_ledger_account, scope, PROTO_U64, 0, STORE_SCOPE_COUNT - 1),
    PROTO_FIELD(struct store_ledger_account, dataset, PROTO_STR, 0, 64),
    PROTO_FIELD(struct store_ledger_account, name, PROTO_STR, 0, STORE_NAME_MAX),
    PROTO_FIELD(struct store_ledger_account, cap, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, spent, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, train, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, delta_e12, PROTO_U64, 0, 1000000000000),
    PROTO_FIELD(struct store_ledger_account, order, PROTO_F64, 0, 0),
    PROTO_FIELD(struct store_ledger_account, domain, PROTO_STR, 0, STORE_DOMAIN_MAX),
    PROTO_FIELD(struct store_ledger_account, declared, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct store_ledger_account, delta0, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, delta0_spent, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, window_s, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, window_cap, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, window_number, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_account, window_spent, PROTO_U64, 0, INT64_MAX),
};
const struct proto_message store_ledger_account_message =
    PROTO_MESSAGE("account", struct store_ledger_account, account_fields);

static const struct proto_field charge_fields[] = {
    PROTO_FIELD(struct store_ledger_charge, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct store_ledger_charge, time, PROTO_I64, INT64_MIN, INT64_MAX),
    PROTO_FIELD(struct store_ledger_charge, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct store_ledger_charge, person, PROTO_STR, 0, STORE_NAME_MAX),
    PROTO_FIELD(struct store_ledger_charge, project, PROTO_STR, 0, STORE_NAME_MAX),
    PROTO_FIELD(struct store_ledger_charge, institution, PROTO_STR, 1, STORE_NAME_MAX),
    PROTO_FIELD(struct store_ledger_charge, node, PROTO_STR, 1, STORE_NAME_MAX),
    PROTO_FIELD(struct store_ledger_charge, kind, PROTO_U64, STORE_CHARGE_QUERY,
                STORE_CHARGE_TRAIN),
    PROTO_FIELD(struct store_ledger_charge, state, PROTO_U64, STORE_CHARGE_RESERVED,
                STORE_CHARGE_REPLAYED),
    PROTO_FIELD(struct store_ledger_charge, nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_charge, nano_domain, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_charge, steps, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct store_ledger_charge, started, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct store_ledger_charge, domain, PROTO_STR, 0, STORE_DOMAIN_MAX),
    PROTO_FIELD(struct store_ledger_charge, delta0, PROTO_U64, 0, INT64_MAX),
};
const struct proto_message store_ledger_charge_message =
    PROTO_MESSAGE("charge", struct store_ledger_charge, charge_fields);

/* Rows of format 1 are the first fields of these, in the same order. */
#define ACCOUNT_FIELDS_1 8
#define CHARGE_FIELDS_1  13
static const struct proto_message account_message_1 = {"account", account_fields, ACCOUNT_FIELDS_1,
                                                       sizeof(struct store_ledger_account)};
static const struct proto_message charge_message_1 = {"charge", charge_fields, CHARGE_FIELDS_1,
                                                      sizeof(struct store_ledger_charge)};

/* What the tables above cannot say: products fit, and no more steps started than were reserved. */
static bool charge_valid(const struct store_ledger_charge *row)
{
    uint64_t most = row->nano > row->nano_domain ? row->nano : row->nano_domain;
    return row->started <= row->steps && (most == 0 || row->steps <= STORE_NANO_MAX / most);
}

enum err store_ledger_row_decode(enum store_table table, struct span plain, struct arena *arena,
                                 void *ret, struct err_info *reterr)
{
    bool charge = table == STORE_TABLE_CHARGES;
    const struct proto_message *now =
        charge ? &store_ledger_charge_message : &store_ledger_account_message;
    const struct proto_message *before = charge ? &charge_message_1 : &account_message_1;
    enum err err = proto_codec_decode(now, plain, arena, ret, NULL);
    if (err && err != E_NO_MEMORY) {
        err = proto_codec_decode(before, plain, arena, ret, NULL);
        struct span *domain = charge ? &((struct store_ledger_charge *)ret)->domain
                                     : &((struct store_ledger_account *)ret)->domain;
        *domain = span_of("", 0); /* there was only one */
    }
    if (!err && charge && !charge_valid(ret)) {
        err = E_INVALID;
    }
    if (err && err != E_NO_MEMORY) {
        err =
            proto_err_set(reterr, E_CORRUPT, "table %s: a row is damaged", store_table_name(table));
    }
    return err;
}

enum err store_ledger_row_open(const struct store *store, enum store_table table, struct span key,
                               struct span value, struct arena *arena, void *ret,
                               struct err_info *reterr)
{
    struct buf plain = {.max = STORE_LEDGER_ROW_MAX};
    enum err err = store_unseal(store, table, key, value, &plain, reterr);
    uint8_t *copy = NULL;
    if (!err && !(copy = arena_alloc(arena, plain.len + 1, 1))) {
        err = proto_err_set(reterr, E_NO_MEMORY, "a ledger row");
    }
    if (!err) {
        memcpy(copy, plain.ptr, plain.len);
        err = store_ledger_row_decode(table, span_of(copy, plain.len), arena, ret, reterr);
    }
    buf_fini(&plain);
    return err;
}
