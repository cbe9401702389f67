#include "config.h"
#include "store/check.h"

#include "store/audit.h"
#include "store/blob.h"
#include "store/catalogue.h"
#include "store/file.h"
#include "store/ledger.h"
#include "store/partition_file.h"
#include "store/table.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>

struct check {
    struct store *store;
    const struct store_check_options *options;
    size_t bad;
    struct buf names; /* of datasets, each with its zero */
};

static void found(struct check *check, const char *what, enum err err, const struct err_info *info)
{
    check->bad += err != E_OK;
    check->options->found(check->options->user, what, err, err ? info->text : "");
}

static bool cancelled(const struct check *check)
{
    return check->options->cancelled && check->options->cancelled(check->options->user);
}

static void check_audit(struct check *check)
{
    struct err_info info = {0};
    struct store_audit_report *report = proto_alloc(1, sizeof *report);
    struct store_audit_head head;
    enum err err = report ? E_OK : proto_err_set(&info, E_NO_MEMORY, "out of memory");
    if (!err && store_audit_head(check->store, &head) != E_NOT_FOUND) {
        err = store_audit_check(check->store, report, &info);
        if (err && !info.text[0]) {
            proto_err_set(&info, err, "%s", report->reason);
        }
    }
    found(check, "audit chain", err, &info);
    proto_free(report);
}

static enum err value_opened(void *user, enum store_partition_kind kind, const char *name,
                             uint32_t number, uint32_t rows, struct span plain,
                             struct err_info *reterr)
{
    (void)kind;
    (void)name;
    (void)number;
    (void)rows;
    (void)plain;
    return cancelled(user) ? proto_err_set(reterr, E_CANCELLED, "cancelled") : E_OK;
}

static enum err check_dataset(struct check *check, const char *name)
{
    struct err_info info = {0};
    struct store_partition *partition = NULL;
    char what[80];
    enum err err = store_partition_open_checked(check->store, name, &partition, &info);
    err = err ? err : store_partition_each(partition, value_opened, check, &info);
    store_partition_close(partition);
    if (err == E_CANCELLED) {
        return err;
    }
    snprintf(what, sizeof what, "dataset %s", name);
    found(check, what, err, &info);
    return E_OK;
}

static enum err note_name(void *user, const struct store_dataset *row)
{
    return buf_put(user, span_of(row->name, strlen(row->name) + 1));
}

static void check_blob(struct check *check, const char *name)
{
    struct err_info info = {0};
    uint8_t hash[32];
    char what[80];
    if (strlen(name) != 64 || !span_from_hex(name, hash, 32)) {
        return;
    }
    enum err err = store_blob_verify(check->store, hash, &info);
    snprintf(what, sizeof what, "model %.64s", name);
    found(check, what, err, &info);
}

static enum err check_blobs(struct check *check, struct err_info *reterr)
{
    char *path = store_file_path(check->store->home, "models", NULL);
    DIR *folder = path ? opendir(path) : NULL;
    bool absent = !folder && errno == ENOENT;
    proto_free(path);
    if (!folder) {
        return absent ? E_OK : proto_err_set(reterr, E_IO, "the folder of models cannot be listed");
    }
    const struct dirent *entry;
    enum err err = E_OK;
    while (!err && (entry = readdir(folder))) {
        check_blob(check, entry->d_name);
        err = cancelled(check) ? E_CANCELLED : E_OK;
    }
    closedir(folder);
    return err;
}

/* --- rows of node.mdb ---------------------------------------------------------------------- */

struct rows {
    const struct store *store;
    enum store_table table;
};

static enum err row_opened(void *user, struct span key, struct span value, struct err_info *reterr)
{
    const struct rows *rows = user;
    struct buf plain = {.max = STORE_VALUE_MAX};
    enum err err = store_unseal(rows->store, rows->table, key, value, &plain, reterr);
    crypto_buf_fini(&plain);
    return err;
}

/* The tables whose rows are all sealed under the node's key. */
static void check_tables(struct check *check)
{
    static const enum store_table tables[] = {
        STORE_TABLE_CATALOGUE, STORE_TABLE_ACCOUNTS, STORE_TABLE_CHARGES,   STORE_TABLE_WITNESS,
        STORE_TABLE_EGRESS,    STORE_TABLE_JOBS,     STORE_TABLE_APPROVALS, STORE_TABLE_AGREEMENTS};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct rows rows = {check->store, tables[i]};
        struct err_info info = {0};
        MDB_txn *txn = NULL;
        char what[80];
        enum err err = store_read(check->store, &txn, &info);
        err =
            err ? err
                : store_raw_each(check->store, txn, tables[i], SPAN_NONE, row_opened, &rows, &info);
        store_read_end(txn);
        snprintf(what, sizeof what, "table %s", store_table_name(tables[i]));
        found(check, what, err, &info);
    }
}

enum err store_check_run(struct store *store, const struct store_check_options *options,
                         size_t *ret_bad, struct err_info *reterr)
{
    struct check check = {.store = store, .options = options, .names = {.max = (size_t)16 << 20}};
    struct err_info info = {0};
    check_audit(&check);
    enum err err = store_keyring_check(store, &info);
    found(&check, "keyring", err, &info);
    err = store_ledger_check(store, &info);
    found(&check, "ledger", err, &info);
    check_tables(&check);
    err = store_catalogue_each(store, note_name, &check.names, &info);
    found(&check, "catalogue", err, &info);
    err = E_OK;
    for (size_t at = 0; at < check.names.len && !err;) {
        const char *name = (const char *)check.names.ptr + at;
        err = check_dataset(&check, name);
        at += strlen(name) + 1;
    }
    err = err ? err : check_blobs(&check, reterr);
    buf_fini(&check.names);
    *ret_bad = check.bad;
    return err;
}
