/* For tests only: one act on a home, so that a test can fail every write of it and look at the home afterwards.
 *
 *     act HOME make                 a new home with one dataset of 300 rows and one charge
 *     act HOME import ROWS [FIRST]  the dataset again, with the patients FIRST (0) to FIRST + ROWS - 1
 *     act HOME append ROWS FIRST    as many more
 *     act HOME forget ROWS FIRST    these patients go
 *     act HOME charge | keyring | rotate | kek | remove | backup FOLDER
 *     act HOME verify FOLDER        whether a backup is whole
 *     act HOME look                 prints "rows N ages N spent N keys N slots N ok 0|1"; ages: their sum
 *
 * Exit 0 done, 10 refused with a text on standard error, 1 something else. */
#include "config.h"

#include "crypto/envelope.h"
#include "crypto/provider.h"
#include "store/audit.h"
#include "store/backup.h"
#include "store/catalogue.h"
#include "store/check.h"
#include "store/import.h"
#include "store/ledger.h"
#include "store/partition.h"
#include "store/rotate.h"
#include "store/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct act {
    const char *home;
    struct crypto_keyring *keyring;
    struct crypto_identity *identity;
    struct store store;
    struct err_info info;
};

static const uint8_t federation[16] = {9};

static void path_of(const struct act *act, const char *name, char to[512])
{
    snprintf(to, 512, "%s/%s", act->home, name);
}

static enum err open_keys(struct act *act, bool fresh, uint8_t node_id[16])
{
    char ring[512];
    char key[512];
    char identity[512];
    const struct crypto_key *dek = NULL;
    path_of(act, "keyring", ring);
    path_of(act, "unlock.key", key);
    path_of(act, "identity.key", identity);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key};
    enum err err = E_OK;
    if (fresh) {
        err = crypto_identity_generate(&act->identity);
        crypto_identity_node_id(crypto_identity_point(act->identity), node_id);
        err = err ? err : crypto_keyring_create(ring, &unlock, node_id, &act->keyring, &act->info);
        err = err ? err : crypto_keyring_add(act->keyring, "identity", &act->info);
        err = err ? err : crypto_keyring_get(act->keyring, "identity", &dek);
        return err ? err : crypto_identity_save(act->identity, identity, dek, &act->info);
    }
    err = crypto_keyring_open(ring, &unlock, &act->keyring, &act->info);
    err = err ? err : crypto_keyring_get(act->keyring, "identity", &dek);
    err = err ? err : crypto_identity_load(identity, dek, &act->identity, &act->info);
    if (!err) {
        memcpy(node_id, crypto_keyring_node_id(act->keyring), 16);
    }
    return err;
}

static enum err open_home(struct act *act, bool fresh)
{
    uint8_t node_id[16];
    enum err err = open_keys(act, fresh, node_id);
    err = err ? err : store_open(act->home, act->keyring, node_id, &act->store, &act->info);
    return err ? err : store_identity(&act->store, act->identity, federation, NULL, &act->info);
}

static void manifest_of(struct proto_manifest *ret)
{
    static struct proto_column columns[] = {
        {.name = "patient", .type = PROTO_COLUMN_TEXT, .deidentify = PROTO_DEID_PSEUDONYM},
        {.name = "age", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .max = 110},
    };
    *ret = (struct proto_manifest){.size = 1000, .schema = {.columns = columns, .count = 2}};
    strcpy(ret->dataset, "d");
    strcpy(ret->version, "1");
    strcpy(ret->title, "test");
    strcpy(ret->schema.unit, "patient");
    ret->schema.max_rows_per_unit = 1;
}

static enum err run_import(struct act *act, const struct proto_manifest *manifest,
                           const struct store_import_options *options)
{
    struct store_import_report *report = calloc(1, sizeof *report);
    enum err err =
        report ? store_import_run(&act->store, manifest, options, report, &act->info) : E_NO_MEMORY;
    free(report);
    return err;
}

static enum err import_rows(struct act *act, unsigned rows, unsigned first, bool append)
{
    struct proto_manifest manifest;
    manifest_of(&manifest);
    char path[] = "/tmp/concordat-act-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    if (!file) {
        return E_IO;
    }
    fputs("patient,age\n", file);
    for (unsigned i = first; i < first + rows; i++) {
        fprintf(file, "PLANTED-%06u,%u\n", i, i % 90);
    }
    fclose(file);
    struct store_import_options options = {
        .data_path = path, .format = "csv", .now = 5, .append = append};
    enum err err = run_import(act, &manifest, &options);
    unlink(path);
    return err;
}

static enum err forget_rows(struct act *act, unsigned rows, unsigned first)
{
    struct proto_manifest manifest;
    struct buf list = {.max = (size_t)1 << 20};
    enum err err = E_OK;
    for (unsigned i = first; i < first + rows && !err; i++) {
        err = buf_printf(&list, "PLANTED-%06u\n", i);
    }
    manifest_of(&manifest);
    struct store_import_options options = {
        .format = "csv", .now = 6, .forget = true, .exclude = buf_span(&list)};
    err = err ? err : run_import(act, &manifest, &options);
    buf_fini(&list);
    return err;
}

static enum err charge(struct act *act)
{
    struct store_charge charge = {.dataset = "d",
                                  .person = "ada",
                                  .project = "",
                                  .institution = "b",
                                  .node = "beta",
                                  .kind = STORE_CHARGE_QUERY,
                                  .nano = 10,
                                  .steps = 1,
                                  .now = 7,
                                  .audit_body = span_str("{}")};
    snprintf((char *)charge.id, sizeof charge.id, "%ld", (long)getpid());
    return store_ledger_reserve(&act->store, &charge, NULL, &act->info);
}

static enum err keyring(struct act *act)
{
    char key[512];
    uint8_t id = 0;
    path_of(act, "unlock.key", key);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key};
    return crypto_keyring_slot_add(act->keyring, &unlock, &id, &act->info);
}

static enum err kek(struct act *act)
{
    char key[512];
    path_of(act, "unlock.key", key);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key};
    enum err err = crypto_keyring_rotate(act->keyring, &unlock, &act->info);
    return err ? err : store_keyring_anchor(&act->store, &act->info);
}

static enum err verify(struct act *act, const char *folder)
{
    char key[512];
    struct store_backup_report report;
    path_of(act, "unlock.key", key);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key};
    return store_backup_verify(folder, &unlock, &report, &act->info);
}

static enum err backup(struct act *act, const char *folder)
{
    static const char *const files[] = {"identity.key", NULL};
    struct store_backup_options options = {.now = 3};
    struct store_backup_report report;
    return store_backup_make(&act->store, folder, files, &options, &report, &act->info);
}

static void found(void *user, const char *what, enum err err, const char *text)
{
    if (err) {
        fprintf(stderr, "%s: %s\n", what, text);
        *(bool *)user = false;
    }
}

static enum err add_ages(void *user, const struct store_batch *batch)
{
    for (size_t row = 0; row < batch->rows; row++) {
        *(double *)user += store_batch_number(batch, 0, row);
    }
    return E_OK;
}

static enum err look(struct act *act)
{
    static const int age = 1;
    double ages = 0;
    struct store_partition *partition = NULL;
    struct store_account account = {0};
    struct crypto_slot slots[CRYPTO_KEYRING_SLOTS];
    bool good = true;
    size_t bad = 0;
    size_t keys = 0;
    struct store_check_options options = {.found = found, .user = &good};
    enum err err = store_partition_open(&act->store, "d", &partition, &act->info);
    unsigned long long rows = err ? 0 : store_partition_rows(partition);
    err = err ? err : store_scan(partition, &age, 1, NULL, NULL, add_ages, &ages, &act->info);
    store_partition_close(partition);
    err = err == E_NOT_FOUND ? E_OK : err;
    err = err ? err : store_ledger_get(&act->store, "d", &account, &act->info);
    err = err ? err : store_check_run(&act->store, &options, &bad, &act->info);
    while (crypto_keyring_name(act->keyring, keys)) {
        keys++;
    }
    printf("rows %llu ages %.0f spent %llu keys %zu slots %zu ok %d\n", rows, ages,
           (unsigned long long)account.spent_nano, keys, crypto_keyring_slots(act->keyring, slots),
           good);
    return err;
}

static enum err run(struct act *act, int argc, char **argv)
{
    const char *what = argv[2];
    if (strcmp(what, "make") == 0) {
        enum err err = import_rows(act, 300, 0, false);
        struct store_budget budget = {.cap_nano = 1000000, .delta_e12 = 1000, .order = 4.5};
        err = err ? err : store_ledger_account(&act->store, "d", &budget, 6, &act->info);
        return err ? err : charge(act);
    }
    unsigned rows = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    unsigned first = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
    if (strcmp(what, "import") == 0 || strcmp(what, "append") == 0) {
        return import_rows(act, rows, first, what[0] == 'a');
    }
    if (strcmp(what, "forget") == 0) {
        return forget_rows(act, rows, first);
    }
    if (strcmp(what, "rotate") == 0) {
        enum err err = store_rotate_begin(&act->store, "d", &act->info);
        return err ? err : store_rotate_run(&act->store, "d", NULL, &act->info);
    }
    return strcmp(what, "charge") == 0    ? charge(act)
           : strcmp(what, "keyring") == 0 ? keyring(act)
           : strcmp(what, "kek") == 0     ? kek(act)
           : strcmp(what, "remove") == 0  ? store_import_remove(&act->store, "d", &act->info)
           : strcmp(what, "backup") == 0 && argc > 3 ? backup(act, argv[3])
           : strcmp(what, "verify") == 0 && argc > 3 ? verify(act, argv[3])
           : strcmp(what, "look") == 0               ? look(act)
                                                     : E_USAGE;
}

int main(int argc, char **argv)
{
    struct act act = {.home = argc > 2 ? argv[1] : "."};
    if (argc < 3) {
        return 1;
    }
    enum err err = crypto_init(&act.info);
    err = err ? err : open_home(&act, strcmp(argv[2], "make") == 0);
    err = err ? err : run(&act, argc, argv);
    store_close(&act.store);
    crypto_identity_free(act.identity);
    crypto_keyring_close(act.keyring);
    if (err) {
        fprintf(stderr, "%s: %s\n", proto_err_name(err), act.info.text);
        return act.info.text[0] ? 10 : 1;
    }
    return 0;
}
