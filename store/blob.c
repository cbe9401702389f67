#include "config.h"
#include "store/blob.h"

#include "crypto/provider.h"
#include "store/file.h"
#include "store/table.h"

#include <errno.h>
#include <unistd.h>

#define AREA "blob"

static char *blob_path(const struct store *store, const uint8_t hash[32])
{
    char hex[65];
    span_to_hex(span_of(hash, 32), hex);
    return store_file_path(store->home, "models", hex);
}

enum err store_blob_put(struct store *store, struct span bytes, uint8_t ret_hash[32],
                        struct err_info *reterr)
{
    uint8_t hash[32];
    if (bytes.len > STORE_BLOB_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a model of %zu bytes", bytes.len);
    }
    crypto_sha256_one(bytes, hash);
    if (!store_blob_has(store, hash)) {
        struct buf sealed = {.max = 2 * STORE_BLOB_MAX};
        char *path = blob_path(store, hash);
        enum err err = path ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "a model");
        if (!err) {
            err = store_seal_under(store->dek, AREA, span_of(hash, 32), bytes, &sealed, reterr);
        }
        if (!err) {
            err = store_file_write(path, buf_span(&sealed), reterr);
        }
        buf_fini(&sealed);
        proto_free(path);
        if (err) {
            return err;
        }
    }
    memcpy(ret_hash, hash, 32);
    return E_OK;
}

enum err store_blob_get(struct store *store, const uint8_t hash[32], struct buf *ret,
                        struct err_info *reterr)
{
    struct buf sealed = {.max = 2 * STORE_BLOB_MAX};
    uint8_t found[32];
    size_t before = ret->len;
    char *path = blob_path(store, hash);
    enum err err = path ? store_file_read(path, &sealed, reterr)
                        : proto_err_set(reterr, E_NO_MEMORY, "a model");
    if (!err) {
        err =
            store_unseal_under(store->dek, AREA, span_of(hash, 32), buf_span(&sealed), ret, reterr);
    }
    if (!err) {
        crypto_sha256_one(span_of(ret->ptr + before, ret->len - before), found);
        if (memcmp(found, hash, 32) != 0) {
            ret->len = before;
            err = proto_err_set(reterr, E_CORRUPT, "a model's file is not what its name says");
        }
    }
    buf_fini(&sealed);
    proto_free(path);
    return err;
}

bool store_blob_has(struct store *store, const uint8_t hash[32])
{
    char *path = blob_path(store, hash);
    bool has = path && store_file_exists(path);
    proto_free(path);
    return has;
}

enum err store_blob_remove(struct store *store, const uint8_t hash[32], struct err_info *reterr)
{
    char *path = blob_path(store, hash);
    enum err err = path ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "a model");
    if (!err && unlink(path)) {
        err = errno == ENOENT ? E_NOT_FOUND : E_IO;
        (void)proto_err_set(reterr, err, "removing a model: %s", strerror(errno));
    }
    proto_free(path);
    return err;
}
