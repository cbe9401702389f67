/* Verification of the audit chain from stored bytes alone: an open store, a node.mdb of somebody else's, or an export all
 * become one struct of evidence, which one function judges. */
#include "config.h"
#include "store/audit.h"

#include "crypto/envelope.h"
#include "crypto/provider.h"
#include "proto/body.h"
#include "store/audit_chain.h"
#include "store/env.h"
#include "store/file.h"
#include "store/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MAGIC       "CAUDIT1\n"
#define RECORDS_MAX 4096

struct spans {
    struct span *items;
    size_t count, cap;
};

/* All spans borrow from a read transaction or from the bytes of an export. */
struct evidence {
    uint8_t node_id[16], federation_id[16];
    struct store_audit_head head; /* seq 0: none */
    struct spans entries;
    struct spans records;      /* MEMBER and CHARTER, plain */
    struct spans endorsements; /* node_id[16] | signature[64] | head body, contiguous */
    struct arena arena;
    bool has_root; /* ledger_root below was computed */
    uint8_t ledger_root[32];
    bool bad_key; /* an entry stands under a number that is not its turn */
    uint64_t bad_key_at;
    bool cut; /* an export that announces more entries than it holds */
};

static enum err spans_add(struct spans *spans, struct span item)
{
    if (spans->count == spans->cap) {
        size_t cap = spans->cap ? 2 * spans->cap : 64;
        void *grown = proto_realloc(spans->items, cap, sizeof *spans->items);
        if (!grown) {
            return E_NO_MEMORY;
        }
        spans->items = grown;
        spans->cap = cap;
    }
    spans->items[spans->count++] = item;
    return E_OK;
}

static void evidence_fini(struct evidence *evidence)
{
    proto_free(evidence->entries.items);
    proto_free(evidence->records.items);
    proto_free(evidence->endorsements.items);
    arena_fini(&evidence->arena);
}

static enum err bad(struct store_audit_report *report, enum err err, struct err_info *reterr,
                    const char *reason)
{
    report->ok = false;
    snprintf(report->reason, sizeof report->reason, "%.159s", reason);
    return proto_err_set(reterr, err, "audit: %s", reason);
}

/* --- the chain ---------------------------------------------------------------------------------- */

struct link {
    uint8_t prev[32];
    uint8_t hash[32];
};

/* Fills LINKS and returns how many entries from the first are well formed and in their turn. */
static size_t read_links(const struct evidence *evidence, struct link *links)
{
    for (size_t i = 0; i < evidence->entries.count; i++) {
        struct store_audit_raw raw;
        if (store_audit_parse(evidence->entries.items[i], &raw) || raw.seq != i + 1 ||
            (evidence->bad_key && evidence->bad_key_at == i)) {
            return i;
        }
        memcpy(links[i].prev, raw.prev.ptr, 32);
        store_audit_hash(evidence->entries.items[i], links[i].hash);
    }
    return evidence->entries.count;
}

/* The seq of the first entry that was changed, 0 when all of the first COUNT fit. Where entry b does not name the hash of
 * entry a, the one that its own successor (or the signed head) still vouches for is taken to be whole. */
static uint64_t first_break(const struct link *links, size_t count, const struct evidence *evidence)
{
    static const uint8_t zero[32];
    const struct store_audit_head *head = &evidence->head;
    for (size_t b = 0; b < count; b++) {
        const uint8_t *named = b ? links[b - 1].hash : zero;
        if (memcmp(links[b].prev, named, 32) == 0) {
            continue;
        }
        const uint8_t *vouched = NULL;
        if (b + 1 < count) {
            vouched = links[b + 1].prev;
        } else if (b + 1 == head->seq) {
            vouched = head->hash;
        }
        bool whole = b > 0 && vouched && memcmp(links[b].hash, vouched, 32) == 0;
        return whole ? b : b + 1;
    }
    if (count == head->seq && count > 0 && memcmp(links[count - 1].hash, head->hash, 32) != 0) {
        return count;
    }
    return 0;
}

static enum err check_links(const struct evidence *evidence, struct link *links,
                            struct store_audit_report *report, struct err_info *reterr)
{
    char reason[160];
    size_t total = evidence->entries.count;
    size_t formed = read_links(evidence, links);
    uint64_t broken = first_break(links, formed, evidence);
    size_t good = broken ? (size_t)broken - 1 : formed;
    if (good > 0) {
        span_to_hex(span_of(links[good - 1].hash, 32), report->head);
    }
    if (broken || formed < total) {
        report->first_bad = broken ? broken : formed + 1;
        snprintf(reason, sizeof reason, "entry %llu was changed, moved or cut",
                 (unsigned long long)report->first_bad);
        return bad(report, E_CORRUPT, reterr, reason);
    }
    if (total < evidence->head.seq) {
        report->first_bad = total + 1;
        snprintf(reason, sizeof reason, "the chain ends at entry %zu, its signed head is %llu",
                 total, (unsigned long long)evidence->head.seq);
        return bad(report, E_ROLLBACK, reterr, reason);
    }
    if (total > evidence->head.seq) {
        report->first_bad = evidence->head.seq + 1;
        return bad(report, E_CORRUPT, reterr,
                   "there are entries that the signed head does not cover");
    }
    if (evidence->cut) {
        return bad(report, E_CORRUPT, reterr, "the export announces more entries than it holds");
    }
    return E_OK;
}

static enum err check_chain(const struct evidence *evidence, struct store_audit_report *report,
                            struct err_info *reterr)
{
    struct link *links = proto_alloc(evidence->entries.count + 1, sizeof *links);
    if (!links) {
        return proto_err_set(reterr, E_NO_MEMORY, "verifying the audit chain");
    }
    report->entries = evidence->entries.count;
    report->spent_nano = evidence->head.spent_nano;
    enum err err = check_links(evidence, links, report, reterr);
    proto_free(links);
    if (!err && evidence->has_root &&
        memcmp(evidence->ledger_root, evidence->head.ledger_root, 32) != 0) {
        err = bad(report, E_CORRUPT, reterr, "the ledger's rows are not those of the signed head");
    }
    return err;
}

/* --- whose head it is ------------------------------------------------------------------------------ */

static const uint8_t *seat_point(const struct proto_charter *charter, struct span node_id)
{
    const struct proto_council_seat *seats = charter->council.items;
    for (size_t i = 0; i < charter->council.count; i++) {
        if (span_equal(seats[i].node_id, node_id) && seats[i].point.len == 65) {
            return seats[i].point.ptr;
        }
    }
    return NULL;
}

static bool record_signed(const struct evidence *evidence, const struct proto_record *record,
                          const uint8_t *point)
{
    return point && !crypto_envelope_verify(point, PROTO_RECORD_DOMAIN, evidence->federation_id,
                                            record->envelope_bytes, record->signature);
}

/* The newest charter of this federation among the records, signed by one of its own seats. */
static bool find_charter(struct evidence *evidence, struct proto_charter *ret)
{
    bool found = false;
    for (size_t i = 0; i < evidence->records.count; i++) {
        struct proto_record record;
        struct proto_charter charter;
        if (proto_record_decode(evidence->records.items[i], &crypto_proto_hash, &record, NULL) ||
            record.envelope.kind != PROTO_RECORD_CHARTER ||
            proto_charter_decode(record.envelope.body, &evidence->arena, &charter, NULL) ||
            !span_equal(charter.federation_id, span_of(evidence->federation_id, 16)) ||
            !record_signed(evidence, &record, seat_point(&charter, record.envelope.issuer))) {
            continue;
        }
        if (!found || charter.epoch > ret->epoch) {
            *ret = charter;
            found = true;
        }
    }
    return found;
}

/* How many different seats of the council signed this member's body. */
static uint64_t council_signatures(const struct evidence *evidence,
                                   const struct proto_charter *charter,
                                   const struct proto_member *member)
{
    const struct proto_signature *signatures = member->signatures.items;
    struct buf body = {.max = PROTO_RECORD_MAX};
    uint64_t valid = 0;
    if (!proto_member_signed(member, &body, NULL)) {
        for (size_t i = 0; i < member->signatures.count; i++) {
            bool again = false;
            for (size_t j = 0; j < i; j++) {
                again |= span_equal(signatures[i].signer, signatures[j].signer);
            }
            const uint8_t *point = seat_point(charter, signatures[i].signer);
            valid += !again && point && signatures[i].signature.len == 64 &&
                     !crypto_envelope_verify(point, PROTO_MEMBER_DOMAIN, evidence->federation_id,
                                             buf_span(&body), signatures[i].signature.ptr);
        }
    }
    buf_fini(&body);
    return valid;
}

/* The record's own signature: by a seat of the council, or by the member itself. */
static bool issuer_fits(const struct evidence *evidence, const struct proto_charter *charter,
                        const struct proto_record *record, const struct proto_member *member)
{
    const uint8_t *point = seat_point(charter, record->envelope.issuer);
    if (!point && span_equal(record->envelope.issuer, member->node_id)) {
        point = member->identity_point.ptr;
    }
    return record_signed(evidence, record, point);
}

/* The admitted MEMBER records of NODE_ID, one after the other from *AT. */
static bool next_member(struct evidence *evidence, const struct proto_charter *charter,
                        const uint8_t node_id[16], size_t *at, struct proto_member *ret)
{
    while (*at < evidence->records.count) {
        struct proto_record record;
        struct span bytes = evidence->records.items[(*at)++];
        if (!proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) &&
            record.envelope.kind == PROTO_RECORD_MEMBER &&
            !proto_member_decode(record.envelope.body, &evidence->arena, ret, NULL) &&
            span_equal(ret->node_id, span_of(node_id, 16)) && ret->identity_point.len == 65 &&
            issuer_fits(evidence, charter, &record, ret) &&
            council_signatures(evidence, charter, ret) >= charter->threshold &&
            charter->threshold > 0) {
            return true;
        }
    }
    return false;
}

static enum err check_signature(struct evidence *evidence, const struct proto_charter *charter,
                                const uint8_t *point, struct store_audit_report *report,
                                struct err_info *reterr)
{
    if (point) {
        crypto_identity_fingerprint(point, report->identity);
        return store_audit_head_verify(&evidence->head, evidence->federation_id, point)
                   ? bad(report, E_AUTH, reterr, "the head is not signed by the given identity")
                   : E_OK;
    }
    if (!charter) {
        return bad(report, E_AUTH, reterr, "there is no charter record to judge the node's key by");
    }
    struct proto_member member;
    size_t at = 0;
    bool any = false;
    while (next_member(evidence, charter, evidence->node_id, &at, &member)) {
        any = true;
        crypto_identity_fingerprint(member.identity_point.ptr, report->identity);
        if (!store_audit_head_verify(&evidence->head, evidence->federation_id,
                                     member.identity_point.ptr)) {
            return E_OK;
        }
    }
    return bad(report, E_AUTH, reterr,
               any ? "the head is not signed by this node's identity"
                   : "there is no MEMBER record of this node that the council signed");
}

/* --- who else vouches ------------------------------------------------------------------------------ */

static bool endorsement_fits(const struct evidence *evidence, struct span endorsement,
                             const uint8_t point[65])
{
    struct span body = span_of(endorsement.ptr + 80, STORE_AUDIT_HEAD_BODY);
    uint64_t seq = get_be64(body.ptr + 16);
    uint8_t hash[32];
    if (memcmp(body.ptr, evidence->node_id, 16) != 0 || seq < 1 || seq > evidence->entries.count ||
        crypto_envelope_verify(point, STORE_WITNESS_DOMAIN, evidence->federation_id, body,
                               endorsement.ptr + 16)) {
        return false;
    }
    store_audit_hash(evidence->entries.items[seq - 1], hash);
    return memcmp(hash, body.ptr + 24, 32) == 0;
}

static void list_witnesses(struct evidence *evidence, const struct proto_charter *charter,
                           struct store_audit_report *report)
{
    for (size_t i = 0; i < evidence->endorsements.count; i++) {
        struct span endorsement = evidence->endorsements.items[i];
        struct proto_member member;
        size_t at = 0;
        while (next_member(evidence, charter, endorsement.ptr, &at, &member)) {
            if (endorsement_fits(evidence, endorsement, member.identity_point.ptr) &&
                report->witness_count < STORE_AUDIT_WITNESSES &&
                span_to_cstr(member.name, report->witnesses[report->witness_count], 33)) {
                report->witness_count++;
                break;
            }
        }
    }
}

static enum err judge(struct evidence *evidence, const uint8_t *point,
                      struct store_audit_report *report, struct err_info *reterr)
{
    struct proto_charter charter;
    span_to_hex(span_of(evidence->node_id, 16), report->node_id);
    span_to_hex(span_of(evidence->federation_id, 16), report->federation_id);
    bool has_charter = find_charter(evidence, &charter);
    report->entries = evidence->entries.count;
    if (evidence->head.seq > 0) {
        if (memcmp(evidence->head.node_id, evidence->node_id, 16) != 0) {
            return bad(report, E_CORRUPT, reterr, "the head is another node's");
        }
        enum err err =
            check_signature(evidence, has_charter ? &charter : NULL, point, report, reterr);
        if (err) {
            return err;
        }
    }
    enum err chain = check_chain(evidence, report, reterr);
    if (chain) {
        return chain;
    }
    if (has_charter) {
        list_witnesses(evidence, &charter, report);
    }
    report->ok = true;
    return E_OK;
}

/* --- evidence from tables ----------------------------------------------------------------------- */

static enum err gather_entry(void *user, struct span key, struct span value,
                             struct err_info *reterr)
{
    struct evidence *evidence = user;
    (void)reterr;
    size_t turn = evidence->entries.count;
    if (!evidence->bad_key && (key.len != 8 || get_be64(key.ptr) != turn + 1)) {
        evidence->bad_key = true;
        evidence->bad_key_at = turn;
    }
    return spans_add(&evidence->entries, value);
}

static enum err gather_record(void *user, struct span key, struct span value,
                              struct err_info *reterr)
{
    struct evidence *evidence = user;
    (void)reterr;
    uint64_t kind = key.len == 40 ? get_be64(key.ptr + 32) : 0;
    bool wanted = kind == PROTO_RECORD_MEMBER || kind == PROTO_RECORD_CHARTER;
    return wanted && value.len > 1
               ? spans_add(&evidence->records, span_of(value.ptr + 1, value.len - 1))
               : E_OK;
}

static enum err gather_endorsement(void *user, struct span key, struct span value,
                                   struct err_info *reterr)
{
    struct evidence *evidence = user;
    (void)reterr;
    if (key.len != 16 || value.len != STORE_ENDORSEMENT_SIZE) {
        return E_OK; /* it vouches for nothing; the chain is judged without it */
    }
    uint8_t *joined = arena_alloc(&evidence->arena, 16 + STORE_ENDORSEMENT_SIZE, 1);
    if (!joined) {
        return E_NO_MEMORY;
    }
    memcpy(joined, key.ptr, 16);
    memcpy(joined + 16, value.ptr, value.len);
    return spans_add(&evidence->endorsements, span_of(joined, 16 + STORE_ENDORSEMENT_SIZE));
}

struct rows {
    struct evidence *evidence;
    const char *table;
};

static enum err gather_row(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct rows *rows = user;
    (void)reterr;
    store_audit_root_add(rows->evidence->ledger_root, rows->table, key, value);
    return E_OK;
}

static enum err gather_meta(struct store *store, MDB_txn *txn, struct evidence *evidence,
                            struct err_info *reterr)
{
    struct span ids = SPAN_NONE;
    enum err err =
        store_raw_get(store, txn, STORE_TABLE_META, span_str(STORE_META_IDS), &ids, NULL);
    if (!err && ids.len == 32) {
        memcpy(evidence->node_id, ids.ptr, 16);
        memcpy(evidence->federation_id, ids.ptr + 16, 16);
    } else if (!err || err != E_NOT_FOUND) {
        return proto_err_set(reterr, E_CORRUPT, "table meta: the node's ids are damaged");
    }
    err = store_audit_load(store, txn, &evidence->head, reterr);
    if (!err && ids.len != 32 && evidence->head.seq > 0) {
        err = proto_err_set(reterr, E_CORRUPT, "table meta: the node's ids are missing");
    }
    return err;
}

static enum err gather(struct store *store, MDB_txn *txn, struct evidence *evidence,
                       struct err_info *reterr)
{
    struct rows accounts = {evidence, "accounts"};
    struct rows charges = {evidence, "charges"};
    evidence->has_root = true;
    enum err err = gather_meta(store, txn, evidence, reterr);
    err = err ? err
              : store_raw_each(store, txn, STORE_TABLE_AUDIT, SPAN_NONE, gather_entry, evidence,
                               reterr);
    err = err ? err
              : store_raw_each(store, txn, STORE_TABLE_RECORDS, SPAN_NONE, gather_record, evidence,
                               reterr);
    err = err ? err
              : store_raw_each(store, txn, STORE_TABLE_ENDORSEMENTS, SPAN_NONE, gather_endorsement,
                               evidence, reterr);
    err = err ? err
              : store_raw_each(store, txn, STORE_TABLE_ACCOUNTS, SPAN_NONE, gather_row, &accounts,
                               reterr);
    return err ? err
               : store_raw_each(store, txn, STORE_TABLE_CHARGES, SPAN_NONE, gather_row, &charges,
                                reterr);
}

enum err store_audit_check_chain(struct store *store, struct err_info *reterr)
{
    struct evidence evidence = {.has_root = false};
    struct store_audit_report report = {0};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = store_audit_load(store, txn, &evidence.head, reterr);
    }
    if (!err) {
        err = store_raw_each(store, txn, STORE_TABLE_AUDIT, SPAN_NONE, gather_entry, &evidence,
                             reterr);
    }
    if (!err) {
        err = check_chain(&evidence, &report, reterr);
    }
    store_read_end(txn);
    evidence_fini(&evidence);
    return err;
}

static enum err check_store(struct store *store, const uint8_t *point,
                            struct store_audit_report *ret, struct err_info *reterr)
{
    struct evidence evidence = {0};
    MDB_txn *txn = NULL;
    memset(ret, 0, sizeof *ret);
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = gather(store, txn, &evidence, reterr);
    }
    if (!err) {
        err = judge(&evidence, point, ret, reterr);
    } else if (reterr) {
        snprintf(ret->reason, sizeof ret->reason, "%.*s", (int)sizeof ret->reason - 1,
                 reterr->text);
    }
    store_read_end(txn);
    evidence_fini(&evidence);
    return err;
}

enum err store_audit_check(struct store *store, struct store_audit_report *ret,
                           struct err_info *reterr)
{
    return check_store(store, store->identity ? crypto_identity_point(store->identity) : NULL, ret,
                       reterr);
}

/* --- evidence from a file ----------------------------------------------------------------------- */

static enum err open_tables(struct store *store, struct err_info *reterr)
{
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    int rc = 0;
    for (int t = 0; !err && !rc && t < STORE_TABLE_COUNT; t++) {
        MDB_dbi dbi = 0;
        rc = mdb_dbi_open(txn, store_table_name((enum store_table)t), 0, &dbi);
        /* Tables that came later are no evidence, and a home that no newer daemon has opened lacks them. */
        rc = rc == MDB_NOTFOUND && t >= STORE_TABLE_APPROVALS ? 0 : rc;
        store->tables[t] = dbi;
    }
    if (rc == MDB_NOTFOUND) {
        err = proto_err_set(reterr, E_CORRUPT, "a table of the store is missing");
    } else if (rc) {
        err = store_env_error(rc, "opening the tables", reterr);
    }
    if (!err) {
        rc = mdb_txn_commit(txn); /* keeps the handles for later transactions */
        return rc ? store_env_error(rc, "opening the tables", reterr) : E_OK;
    }
    store_read_end(txn);
    return err;
}

/* What a newer program keeps where is unknown here: tables that seem empty would pass for a short chain. */
static enum err check_newer(const char *path, struct store_audit_report *ret,
                            struct err_info *reterr)
{
    static const char name[] = "node.mdb";
    char home[4096];
    size_t len = strlen(path);
    size_t folder = len - (len >= sizeof name - 1 ? sizeof name - 1 : 0);
    if (folder == len || strcmp(path + folder, name) != 0 ||
        (folder > 0 && path[folder - 1] != '/')) {
        return E_OK; /* a copy of some name: nothing tells its format */
    }
    snprintf(home, sizeof home, "%.*s", folder ? (int)folder : 1, folder ? path : ".");
    enum err err = store_check_newer(home, reterr);
    ret->newer = err == E_CORRUPT;
    if (err) {
        proto_err_frame(reterr, "opening its audit chain, which was not verified");
    }
    return err;
}

static enum err verify_mdb(const char *path, const uint8_t *point, struct store_audit_report *ret,
                           struct err_info *reterr)
{
    struct store store = {.home = NULL};
    char lock[4096];
    int n = snprintf(lock, sizeof lock, "%s-lock", path);
    if (n < 0 || (size_t)n >= sizeof lock) {
        return proto_err_set(reterr, E_LIMIT, "the path is too long");
    }
    /* A copy has no lock file and gets none: this function writes nothing. */
    unsigned flags = STORE_ENV_READONLY | (store_file_exists(lock) ? 0 : STORE_ENV_IMMUTABLE);
    enum err err = check_newer(path, ret, reterr);
    err = err ? err : store_env_open(path, flags, 0, &store.env, reterr);
    if (!err) {
        err = open_tables(&store, reterr);
    }
    if (!err) {
        err = check_store(&store, point, ret, reterr);
    }
    store_env_close(store.env);
    return err;
}

static enum err read_magic(const char *path, bool *ret_export, struct err_info *reterr)
{
    uint8_t magic[24] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return proto_err_set(reterr, E_NOT_FOUND, "%s cannot be opened", path);
    }
    ssize_t n = read(fd, magic, sizeof magic);
    close(fd);
    *ret_export = n >= 8 && memcmp(magic, MAGIC, 8) == 0;
    static const uint8_t lmdb[4] = {0xDE, 0xC0, 0xEF, 0xBE};
    bool little = n == sizeof magic && memcmp(magic + 16, lmdb, 4) == 0;
    bool big = n == sizeof magic && get_be32(magic + 16) == UINT32_C(0xBEEFC0DE);
    return *ret_export || little || big
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "%s is neither a node.mdb nor an audit export",
                               path);
}

enum err store_audit_verify(const char *path, const uint8_t identity_point[65],
                            struct store_audit_report *ret, struct err_info *reterr)
{
    bool is_export = false;
    memset(ret, 0, sizeof *ret);
    enum err err = read_magic(path, &is_export, reterr);
    if (!err && !is_export) {
        return verify_mdb(path, identity_point, ret, reterr);
    }
    struct buf bytes = {.max = STORE_AUDIT_EXPORT_MAX};
    if (!err) {
        err = store_file_read(path, &bytes, reterr);
    }
    if (!err) {
        err = store_audit_verify_export(buf_span(&bytes), identity_point, ret, reterr);
    }
    buf_fini(&bytes);
    return err;
}

/* --- exports -------------------------------------------------------------------------------------- */

struct cursor {
    struct span left;
    bool broken;
};

static struct span take(struct cursor *cursor, size_t n)
{
    if (cursor->broken || cursor->left.len < n) {
        cursor->broken = true;
        return SPAN_NONE;
    }
    struct span taken = span_of(cursor->left.ptr, n);
    cursor->left.ptr += n;
    cursor->left.len -= n;
    return taken;
}

static uint64_t take_number(struct cursor *cursor, size_t n)
{
    struct span bytes = take(cursor, n);
    return !bytes.ptr ? 0 : n == 4 ? get_be32(bytes.ptr) : get_be64(bytes.ptr);
}

static enum err take_all(struct cursor *cursor, uint64_t count, size_t fixed, struct spans *ret)
{
    enum err err = E_OK;
    for (uint64_t i = 0; !err && i < count && !cursor->broken; i++) {
        struct span item = take(cursor, fixed ? fixed : (size_t)take_number(cursor, 4));
        if (!cursor->broken) {
            err = spans_add(ret, item);
        }
    }
    return err;
}

static enum err parse_export(struct span bytes, struct evidence *evidence, struct err_info *reterr)
{
    struct cursor cursor = {.left = bytes};
    struct span magic = take(&cursor, 8);
    struct span ids = take(&cursor, 32);
    struct span head = take(&cursor, STORE_AUDIT_HEAD_SIZE);
    if (cursor.broken || memcmp(magic.ptr, MAGIC, 8) != 0 ||
        store_audit_head_decode(head, &evidence->head)) {
        return proto_err_set(reterr, E_CORRUPT, "the export is cut or damaged at its beginning");
    }
    memcpy(evidence->node_id, ids.ptr, 16);
    memcpy(evidence->federation_id, ids.ptr + 16, 16);
    uint64_t records = take_number(&cursor, 4);
    if (records > RECORDS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the export holds too many records");
    }
    enum err err = take_all(&cursor, records, 0, &evidence->records);
    uint64_t endorsements = take_number(&cursor, 4);
    if (!err && endorsements > RECORDS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the export holds too many endorsements");
    }
    err =
        err ? err
            : take_all(&cursor, endorsements, 16 + STORE_ENDORSEMENT_SIZE, &evidence->endorsements);
    uint64_t entries = take_number(&cursor, 8);
    if (cursor.broken) {
        return proto_err_set(reterr, E_CORRUPT, "the export is cut or damaged before its entries");
    }
    err = err ? err : take_all(&cursor, entries, 0, &evidence->entries);
    if (!err && !cursor.broken && cursor.left.len > 0) {
        err = proto_err_set(reterr, E_CORRUPT, "the export holds bytes after its end");
    }
    evidence->cut = cursor.broken;
    return err; /* a cut among the entries shows as a tail that the signed head misses */
}

enum err store_audit_verify_export(struct span bytes, const uint8_t identity_point[65],
                                   struct store_audit_report *ret, struct err_info *reterr)
{
    struct evidence evidence = {0};
    struct err_info info = {0};
    memset(ret, 0, sizeof *ret);
    enum err err = parse_export(bytes, &evidence, &info);
    if (err) {
        err = bad(ret, err, reterr, info.text);
    } else {
        err = judge(&evidence, identity_point, ret, reterr);
    }
    evidence_fini(&evidence);
    return err;
}

static enum err put_number(struct buf *out, uint64_t value, size_t n)
{
    uint8_t bytes[8];
    put_be64(bytes, value);
    return buf_put(out, span_of(bytes + 8 - n, n));
}

static enum err put_all(struct buf *out, const struct spans *spans, bool with_length)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < spans->count; i++) {
        if (with_length) {
            err = put_number(out, spans->items[i].len, 4);
        }
        err = err ? err : buf_put(out, spans->items[i]);
    }
    return err;
}

static enum err encode_export(const struct evidence *evidence, struct buf *out)
{
    uint8_t head[STORE_AUDIT_HEAD_SIZE];
    store_audit_head_encode(&evidence->head, head);
    enum err err = buf_put(out, span_of(MAGIC, 8));
    err = err ? err : buf_put(out, span_of(evidence->node_id, 16));
    err = err ? err : buf_put(out, span_of(evidence->federation_id, 16));
    err = err ? err : buf_put(out, span_of(head, sizeof head));
    err = err ? err : put_number(out, evidence->records.count, 4);
    err = err ? err : put_all(out, &evidence->records, true);
    err = err ? err : put_number(out, evidence->endorsements.count, 4);
    err = err ? err : put_all(out, &evidence->endorsements, false);
    err = err ? err : put_number(out, evidence->entries.count, 8);
    return err ? err : put_all(out, &evidence->entries, true);
}

enum err store_audit_export(struct store *store, const char *path, struct err_info *reterr)
{
    struct evidence evidence = {0};
    struct buf out = {.max = STORE_AUDIT_EXPORT_MAX};
    MDB_txn *txn = NULL;
    enum err err = store_read(store, &txn, reterr);
    if (!err) {
        err = gather(store, txn, &evidence, reterr);
    }
    if (!err && evidence.head.seq == 0) {
        err = proto_err_set(reterr, E_NOT_FOUND, "nothing was audited yet");
    }
    if (!err && evidence.records.count > RECORDS_MAX) {
        err = proto_err_set(reterr, E_LIMIT, "the federation is too large for an export");
    }
    if (!err && (err = encode_export(&evidence, &out))) {
        (void)proto_err_set(reterr, err, "writing the audit export: %s", proto_err_text(err));
    }
    store_read_end(txn);
    if (!err) {
        err = store_file_write(path, buf_span(&out), reterr);
    }
    buf_fini(&out);
    evidence_fini(&evidence);
    return err;
}
