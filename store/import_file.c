/* The partition file of an import and the key that it stands under: prepared, published or undone. */
#include "config.h"
#include "store/import_internal.h"

#include "crypto/random.h"
#include "store/catalogue.h"
#include "store/partition_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void import_key_name(const char *dataset, char to[CRYPTO_KEYRING_NAME])
{
    snprintf(to, CRYPTO_KEYRING_NAME, "dataset/%s", dataset);
}

/* A dataset without a key is new, or was shredded: then old pseudonyms can never be opened again. */
static enum err open_key(struct import *import, struct err_info *reterr)
{
    char name[CRYPTO_KEYRING_NAME];
    import_key_name(import->manifest->dataset, name);
    enum err err = crypto_keyring_get(import->store->keyring, name, &import->dek);
    if (err != E_NOT_FOUND) {
        return err ? proto_err_set(reterr, err, "the key of the dataset") : E_OK;
    }
    err = store_pseudonym_remove(import->store, import->manifest->dataset, reterr);
    err = err ? err : crypto_keyring_add(import->store->keyring, name, reterr);
    if (err) {
        return err;
    }
    import->new_key = true;
    err = crypto_keyring_get(import->store->keyring, name, &import->dek);
    return err ? proto_err_set(reterr, err, "the key of the dataset") : E_OK;
}

/* Keys that a rotation keeps hang on the unit's table; without a unit only keyed pseudonyms have one. */
static enum err derive_keys(struct import *import, struct err_info *reterr)
{
    const struct crypto_key *from =
        import->unit ? store_pseudonym_key(import->unit->pseudonyms) : import->dek;
    enum err err =
        import->unit ? store_transform_key(from, "dateshift", "", &import->shift_key) : E_OK;
    for (size_t i = 0; i < import->count && !err; i++) {
        struct import_column *column = &import->columns[i];
        if (column->declared->deidentify == PROTO_DEID_PSEUDONYM_HMAC) {
            err = store_transform_key(from, "pseudonym-hmac", column->name, &column->key);
        }
    }
    return err ? proto_err_set(reterr, err, "deriving the keys of de-identification") : E_OK;
}

enum err import_file_prepare(struct import *import, struct err_info *reterr)
{
    enum err err = open_key(import, reterr);
    err = err ? err : crypto_random(import->place.uuid, sizeof import->place.uuid);
    memcpy(import->report->partition_uuid, import->place.uuid, 16);
    if (!err && (!store_partition_path(import->store->home, import->place.uuid, "", import->path,
                                       sizeof import->path) ||
                 !store_partition_path(import->store->home, import->place.uuid, ".new",
                                       import->new_path, sizeof import->new_path))) {
        return proto_err_set(reterr, E_LIMIT, "the home's path is too long");
    }
    for (size_t i = 0; i < import->count && !err; i++) {
        struct import_column *column = &import->columns[i];
        if (column->is_unit || column->declared->deidentify == PROTO_DEID_PSEUDONYM) {
            err = store_pseudonym_load(import->store, import->manifest->dataset, column->name,
                                       import->dek, &column->pseudonyms, reterr);
        }
    }
    return err ? err : derive_keys(import, reterr);
}

static enum err put_dictionary(struct import *import, const struct import_column *column,
                               struct err_info *reterr)
{
    uint8_t number[4];
    import->encoded.len = 0;
    put_be32(number, column->values.count);
    enum err err = buf_put(&import->encoded, span_of(number, 4));
    for (uint32_t i = 0; i < column->values.count && !err; i++) {
        struct span text = span_str(column->values.texts[i]);
        put_be16(number, (uint16_t)text.len);
        err = buf_put(&import->encoded, span_of(number, 2));
        err = err ? err : buf_put(&import->encoded, text);
    }
    return err ? proto_err_set(reterr, err, "column %s", column->name)
               : store_partition_writer_put(import->writer, STORE_PARTITION_DICTIONARY,
                                            column->name, 0, 0, buf_span(&import->encoded), reterr);
}

static enum err put_columns(struct import *import, struct err_info *reterr)
{
    uint8_t forms[PROTO_SCHEMA_COLUMNS_MAX] = {0};
    enum err err = E_OK;
    for (size_t i = 0; i < import->count && !err; i++) {
        struct import_column *column = &import->columns[i];
        forms[i] = (uint8_t)column->form;
        if (column->values.grows) {
            err = put_dictionary(import, column, reterr);
        }
        if (!err && column->zones.len) {
            err = import_zones_flush(import, column, import->chunks / STORE_ZONE_CHUNKS, reterr);
        }
    }
    return err ? err
               : store_partition_writer_put(import->writer, STORE_PARTITION_DICTIONARY, "", 0, 0,
                                            span_of(forms, import->count), reterr);
}

static enum err sync_folder(const struct store *store, struct err_info *reterr)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/partitions", store->home);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd < 0 || fsync(fd) ? store_env_errno(errno, path, reterr) : E_OK;
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static enum err finish_file(struct import *import, struct err_info *reterr)
{
    struct store_import_report *report = import->report;
    bool has_unit = import->published.unit[0];
    const struct store_partition_counts counts = {.rows = report->rows,
                                                  .units =
                                                      has_unit ? import->unit_limit : report->rows,
                                                  .unit_rows = has_unit ? import->unit_most : 1};
    enum err err = put_columns(import, reterr);
    err = err ? err
              : store_partition_writer_finish(import->writer, &counts, buf_span(&import->body),
                                              report->root, &report->bytes_stored, reterr);
    if (!has_unit) {
        report->units = report->rows;
    }
    return err;
}

static void unlink_earlier(struct import *import, const uint8_t uuid[16])
{
    char path[PATH_MAX];
    if (store_partition_path(import->store->home, uuid, "", path, sizeof path)) {
        (void)unlink(path); /* if it stays, the next store_open removes it */
    }
}

static enum err put_row(struct import *import, struct err_info *reterr)
{
    const struct store_import_report *report = import->report;
    const struct proto_manifest *manifest = import->manifest;
    struct arena arena = {0};
    struct store_dataset earlier;
    enum err err = store_catalogue_get(import->store, manifest->dataset, &arena, &earlier, NULL);
    bool replaces = !err;
    struct store_dataset row = {.rows = report->rows,
                                .units = report->units,
                                .bytes_raw = report->bytes_raw +
                                             (import->earlier && replaces ? earlier.bytes_raw : 0),
                                .bytes_stored = report->bytes_stored,
                                .size = manifest->size,
                                .imported_at = import->options->now,
                                .manifest_yaml = import->options->manifest_yaml,
                                .schema = buf_span(&import->body)};
    memcpy(row.name, manifest->dataset, sizeof row.name);
    memcpy(row.version, manifest->version, sizeof row.version);
    memcpy(row.partition_uuid, import->place.uuid, 16);
    memcpy(row.root, report->root, 32);
    memcpy(row.schema_hash, import->place.schema_hash, 32);
    err = store_catalogue_put(import->store, &row, reterr);
    store_partition_forget(import->store, manifest->dataset);
    if (!err && replaces) {
        unlink_earlier(import, earlier.partition_uuid);
    }
    arena_fini(&arena);
    return err;
}

enum err import_file_publish(struct import *import, struct err_info *reterr)
{
    enum err err = finish_file(import, reterr);
    import_tell(import);
    err = err ? err : import_check_cancelled(import, reterr);
    for (size_t i = 0; i < import->count && !err; i++) {
        if (import->columns[i].pseudonyms) {
            err = store_pseudonym_save(import->store, import->columns[i].pseudonyms, reterr);
        }
    }
    import_tell(import);
    if (!err && rename(import->new_path, import->path)) {
        err = store_env_errno(errno, import->path, reterr);
    }
    import_tell(import);
    err = err ? err : sync_folder(import->store, reterr);
    err = err ? err : put_row(import, reterr);
    import_tell(import);
    return err;
}

void import_file_undo(struct import *import)
{
    if (import->file_made) {
        (void)unlink(import->new_path);
        (void)unlink(import->path);
    }
    if (import->new_key) {
        char name[CRYPTO_KEYRING_NAME];
        import_key_name(import->manifest->dataset, name);
        enum err ignored = store_pseudonym_remove(import->store, import->manifest->dataset, NULL);
        ignored = crypto_keyring_shred(import->store->keyring, name, NULL);
        (void)ignored; /* an unused key does no harm; the next import uses it */
    }
}
