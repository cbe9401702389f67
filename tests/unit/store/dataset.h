/* A home in a temporary folder with keyring and store, and manifests made in code. */
#ifndef CONCORDAT_TESTS_STORE_DATASET_H
#define CONCORDAT_TESTS_STORE_DATASET_H

#include "store/catalogue.h"
#include "store/import.h"
#include "store/scan.h"
#include "crypto/provider.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct home {
    char path[64];
    struct crypto_keyring *keyring;
    struct store store;
};

static const uint8_t home_node_id[16] = {1, 2, 3};

static inline enum err home_attach(struct home *home, struct err_info *info)
{
    char keyring[96];
    char key[96];
    snprintf(keyring, sizeof keyring, "%s/keyring", home->path);
    snprintf(key, sizeof key, "%s/unlock.key", home->path);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key};
    enum err err =
        access(keyring, F_OK) == 0
            ? crypto_keyring_open(keyring, &unlock, &home->keyring, info)
            : crypto_keyring_create(keyring, &unlock, home_node_id, &home->keyring, info);
    err = err ? err : store_open(home->path, home->keyring, home_node_id, &home->store, info);
    return err ? err : store_import_recover(&home->store, info);
}

static inline void home_detach(struct home *home)
{
    store_close(&home->store);
    crypto_keyring_close(home->keyring);
    home->keyring = NULL;
}

static inline void home_open(struct home *home)
{
    struct err_info info = {0};
    memset(home, 0, sizeof *home);
    const char *tmp = getenv("TMPDIR");
    snprintf(home->path, sizeof home->path, "%.30s/concordat-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(home->path) || crypto_init(&info) || home_attach(home, &info)) {
        fprintf(stderr, "%s\n", info.text);
        abort();
    }
}

static inline void home_remove(struct home *home)
{
    home_detach(home);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", home->path);
    if (system(command) != 0) {
        abort();
    }
}

static inline void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, len, file) != len || fclose(file)) {
        abort();
    }
}

/* The whole file; the caller frees it. */
static inline uint8_t *slurp(const char *path, size_t *ret_len)
{
    *ret_len = 0;
    FILE *file = fopen(path, "rb");
    if (!file) {
        return NULL;
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size + 1);
    if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        abort();
    }
    fclose(file);
    bytes[size] = 0;
    *ret_len = (size_t)size;
    return bytes;
}

static inline void partition_path(const struct home *home, const uint8_t uuid[16], char to[160])
{
    char hex[33];
    span_to_hex(span_of(uuid, 16), hex);
    snprintf(to, 160, "%s/partitions/%s.mdb", home->path, hex);
}

static inline void manifest_init(struct proto_manifest *manifest, const char *dataset,
                                 struct proto_column *columns, size_t count, const char *unit)
{
    memset(manifest, 0, sizeof *manifest);
    snprintf(manifest->dataset, sizeof manifest->dataset, "%s", dataset);
    snprintf(manifest->version, sizeof manifest->version, "1");
    snprintf(manifest->title, sizeof manifest->title, "test");
    manifest->size = 1000;
    manifest->schema = (struct proto_schema){.columns = columns, .count = count};
    snprintf(manifest->schema.unit, sizeof manifest->schema.unit, "%s", unit);
    manifest->schema.max_rows_per_unit = unit[0] ? 1000 : 1;
}

#endif
